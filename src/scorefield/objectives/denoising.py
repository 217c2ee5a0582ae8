"""Denoising score matching (Vincent 2011): w(sigma) |D(x, sigma) - x0|² / d, and its variance at
small sigma.

Written in the score, with z the noise, the loss is lambda (1/2 |s(x)|² + s(x)'z/sigma + |z|²/(2
sigma²)) / d. As sigma -> 0 the last two
terms have variances 1/sigma² and d/(2 sigma⁴), though what depends on the model tends to a finite
limit. To first order in sigma they are

    c = s(x0)'z/sigma + (|z|² - d)/(2 sigma²)        E[c | x0] = 0 for every model: z has mean zero and E|z|² = d, s(x0) knows no z

so losses - beta lambda c / d have the same expectation and gradient for any beta(sigma), and with
beta = 1 a finite variance at sigma -> 0
(what stays of the second term is z'(grad s)z: a slice). Song & Kingma 2021 (arXiv 2101.03288) name
the problem and the remedy.
At large sigma the first-order picture fails and beta = 1 would raise the variance; beta here is the
least-variance coefficient
Cov(loss, c)/Var(c) where data N(0, sd² I) meet their exact score s = -x/(sigma² + sd²). With r =
sd²/(sigma² + sd²), per element

    sigma⁴ Cov = r² (3/2 - r)      sigma⁴ Var = 1/2 + r - r²      beta = r² (3 - 2r) / (1 + 2r - 2r²)        1 at sigma -> 0, 0 at sigma -> inf

It costs the score at x0 too: one pass of twice the batch.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import InputError
from ..model import ScoreModel, broadcast
from .base import Objective, perturb


@dataclass(frozen=True)
class Denoising(Objective):
    """w(sigma) |D(x0 + sigma z, sigma) - x0|² / d. control_variate: less variance at small sigma,
    for twice the work.
    """

    control_variate: bool = False

    def beta(self, sigma: Tensor) -> Tensor:
        """How much of the control variate is taken off, in (0, 1)."""
        r = self.sigma_data**2 / (sigma.square() + self.sigma_data**2)
        return r.square() * (3 - 2 * r) / (1 + 2 * r - 2 * r.square())

    def losses(
        self,
        model: ScoreModel,
        x0: Tensor,
        sigma: Tensor,
        keys: Tensor,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Losses (B,); one forward pass, of 2B with the control variate, where single losses may be
        below zero.
        """
        self.check(model)
        x, noise, level = perturb(x0, sigma, keys)
        if bool((level <= 0).any()):
            raise InputError(
                f"denoising score matching needs sigma > 0; got {float(level.min()):g}. The exact "
                "and sliced forms take sigma = 0"
            )
        if not self.control_variate:
            denoised = model(x, level, condition)
            return self.weigh(level) * (denoised - x0).square().flatten(1).mean(1)
        twice = None if condition is None else torch.cat([condition, condition])
        score, clean = model(torch.cat([x, x0]), torch.cat([level, level]), twice, "score").chunk(2)
        target = -noise / broadcast(level, x0)
        loss = (score - target).square().flatten(1).mean(1) / 2
        zero_mean = (target.square().flatten(1).mean(1) - level.pow(-2)) / 2 - (
            clean * target
        ).flatten(1).mean(1)
        return self.weigh_score(level) * (loss - self.beta(level) * zero_mean)


@dataclass(frozen=True)
class EnergyDenoising(Denoising):
    """`Denoising` of a model that has an `energy`: its score is the energy's gradient, and training
    differentiates through it.
    """

    second_order: ClassVar[bool] = True

    def check(self, model: ScoreModel) -> None:
        """An InputError where the model has no energy."""
        if not hasattr(model, "energy") and not hasattr(getattr(model, "module", None), "energy"):
            raise InputError(
                f"the energy objective needs a model with `energy`; {type(model).__name__} has "
                "none. Use model.SquareEnergy or model.ScalarEnergy, "
                "or the denoising objective"
            )
