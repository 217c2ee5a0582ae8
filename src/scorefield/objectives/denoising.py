"""Denoising score matching (Vincent 2011), and its variance at small sigma.

    loss = w(sigma) |D(x, sigma) - x0|² / d
         = lambda (1/2 |s(x)|² + s(x)'z/sigma + |z|²/(2 sigma²)) / d        with z the noise

As sigma -> 0 the last two terms have variances 1/sigma² and d/(2 sigma⁴), although what depends on
the model has a finite limit. To first order in sigma these two terms are

    c = s(x0)'z/sigma + (|z|² - d)/(2 sigma²)

E[c | x0] = 0 for every model, since z has mean zero, E|z|² = d, and s(x0) does not depend on z.
So loss - beta lambda c / d has the same expectation and gradient for any beta(sigma), and with
beta = 1 a finite variance at sigma -> 0: z'(grad s)z, a slice, is what stays of the second term.
Song & Kingma 2021 (arXiv 2101.03288) name the problem and the remedy.

At large sigma the first order is not enough and beta = 1 would raise the variance. So beta is the
coefficient of least variance, Cov(loss, c)/Var(c), for data N(0, sd² I) and their exact score
s = -x/(sigma² + sd²). With r = sd²/(sigma² + sd²), per element,

    sigma⁴ Cov = r² (3/2 - r),   sigma⁴ Var = 1/2 + r - r²,   beta = r² (3 - 2r) / (1 + 2r - 2r²)

which is 1 at sigma -> 0 and 0 at sigma -> infinity. The score at x0 is needed too: one pass over
twice the batch.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import conditions
from ..conditions import Condition
from ..errors import InputError
from ..models import ScoreModel, broadcast
from ..values import flag
from .base import Objective, perturb


@dataclass(frozen=True)
class Denoising(Objective):
    """w(sigma) |D(x0 + sigma z, sigma) - x0|² / d.

    Args:
        weight: As for every objective.
        sigma_data: As for every objective.
        control_variate: Subtract the control variate of the module docstring: less variance at
            small sigma, for twice the work. Single losses may then be below zero.
    """

    control_variate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "control_variate", flag(self.control_variate, "control_variate"))

    def beta(self, sigma: Tensor) -> Tensor:
        """The coefficient of the control variate, in (0, 1).

        Args:
            sigma: Noise levels in model units, of any shape.

        Returns:
            beta(sigma) of the module docstring, in sigma's shape and type.
        """
        r = self.sigma_data**2 / (sigma.square() + self.sigma_data**2)
        return r.square() * (3 - 2 * r) / (1 + 2 * r - 2 * r.square())

    def losses(
        self,
        model: nn.Module,
        x0: Tensor,
        sigma: Tensor,
        keys: Tensor,
        condition: Condition | None = None,
    ) -> Tensor:
        """One loss per example, (B,); the arguments are those of `Objective.losses`.

        The loss costs one forward pass, over 2 B examples with the control variate.

        Raises:
            InputError: For sigma = 0, or where the arguments do not fit each other or the model.
        """
        x, noise, level = perturb(x0, sigma, keys)
        if bool((level <= 0).any()):
            raise InputError(
                f"denoising score matching needs sigma > 0; got {float(level.min()):g}. The exact "
                "and sliced forms take sigma = 0"
            )
        if not self.control_variate:
            denoised = model(x, level, condition)
            return self.weigh(level) * (denoised - x0).square().flatten(1).mean(1)
        twice = None if condition is None else conditions.concatenate(condition, condition)
        both = model(torch.cat([x, x0]), torch.cat([level, level]), twice, "score")
        score, clean = both.chunk(2)
        target = -noise / broadcast(level, x0)
        loss = (score - target).square().flatten(1).mean(1) / 2
        mean_square = target.square().flatten(1).mean(1)
        zero_mean = (mean_square - level.pow(-2)) / 2 - (clean * target).flatten(1).mean(1)
        return self.weigh_score(level) * (loss - self.beta(level) * zero_mean)


@dataclass(frozen=True)
class EnergyDenoising(Denoising):
    """`Denoising` of a model whose score is minus the gradient of an energy.

    Training differentiates through that gradient.
    """

    second_order: ClassVar[bool] = True

    def check(self, model: ScoreModel) -> None:
        """Refuse a model without a log density; the arguments are those of `Objective.check`.

        Raises:
            InputError: The message names the models that have a log density.
        """
        if not model.has_log_density:
            raise InputError(
                "the energy objective needs a model with a log density; "
                f"{type(model).__name__} has none. Use models.SquareEnergy or models.ScalarEnergy, "
                "or the denoising objective"
            )
