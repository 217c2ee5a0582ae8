"""The interface of objectives, and the weight over sigma that they share.

One weight serves both forms of the loss, since |s + z/sigma|² = |D - x0|² / sigma⁴:

    w(sigma) |D - x0|²  =  lambda(sigma) 1/2 |s + z/sigma|²        with  lambda = 2 sigma⁴ w

    name    w                              lambda
    edm     (sigma² + sd²)/(sigma sd)²     2 sigma² (sigma² + sd²)/sd²   Karras et al. 2022, Table 1
    ncsn    1/(2 sigma²)                   sigma²                        Song & Ermon 2019, Eq. 6
    fisher  1/(2 sigma⁴)                   1                             the divergence itself
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import rng
from ..conditions import Condition
from ..errors import InputError
from ..models import ScoreModel, as_sigma, broadcast
from ..values import finite

#: A weight over noise levels: (sigma, sigma_data) -> w(sigma), of sigma's shape.
Weight = Callable[[Tensor, float], Tensor]

#: Weights w(sigma) of |D - x0|² by name (table of `objectives.base`).
WEIGHTS: dict[str, Weight] = {
    "edm": lambda sigma, sigma_data: (
        (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()
    ),
    "ncsn": lambda sigma, sigma_data: 0.5 / sigma.square(),
    "fisher": lambda sigma, sigma_data: 0.5 / sigma.pow(4),
}
#: The same weights as lambda(sigma) = 2 sigma⁴ w(sigma) of 1/2 |s + z/sigma|², finite at sigma = 0.
SCORE_WEIGHTS: dict[str, Weight] = {
    "edm": lambda sigma, sigma_data: (
        2 * sigma.square() * (sigma.square() + sigma_data**2) / sigma_data**2
    ),
    "ncsn": lambda sigma, sigma_data: sigma.square(),
    "fisher": lambda sigma, sigma_data: torch.ones_like(sigma),
}


@dataclass(frozen=True)
class Objective:
    """A training loss.

    Args:
        weight: A name of WEIGHTS, or a function (sigma, sigma_data) -> w.
        sigma_data: The data's standard deviation in model units.

    Attributes:
        second_order: True where training differentiates the score in x. It then needs float32 and
            an uncompiled network.
    """

    weight: str | Weight = "edm"
    sigma_data: float = 0.5

    second_order: ClassVar[bool] = False

    def __post_init__(self) -> None:
        known = self.weight in WEIGHTS if isinstance(self.weight, str) else callable(self.weight)
        if not known:
            raise InputError(
                f"the weight must be one of {', '.join(WEIGHTS)}, or a function of (sigma, "
                f"sigma_data); got {self.weight!r}"
            )
        if isinstance(self.weight, str):
            object.__setattr__(self, "weight", str(self.weight))
        sigma_data = finite(self.sigma_data, "sigma_data", 0.0, above=True)
        object.__setattr__(self, "sigma_data", sigma_data)

    def weigh(self, sigma: Tensor) -> Tensor:
        """The weight w(sigma) of |D - x0|².

        Args:
            sigma: Noise levels in model units, of any shape.

        Returns:
            The weights, in sigma's shape and type.
        """
        weight = WEIGHTS[self.weight] if isinstance(self.weight, str) else self.weight
        return weight(sigma, self.sigma_data)

    def weigh_score(self, sigma: Tensor) -> Tensor:
        """The weight lambda(sigma) of 1/2 |s + z/sigma|².

        Args:
            sigma: Noise levels in model units, of any shape.

        Returns:
            The weights 2 sigma⁴ w(sigma), in sigma's shape and type.
        """
        if isinstance(self.weight, str):
            return SCORE_WEIGHTS[self.weight](sigma, self.sigma_data)
        return 2 * sigma.pow(4) * self.weight(sigma, self.sigma_data)

    def check(self, model: ScoreModel) -> None:
        """Refuse a model that this objective cannot train.

        `TrainState` and `mean_loss` call it; `losses` does not, since its model may be wrapped.

        Args:
            model: The model, not wrapped in DistributedDataParallel.

        Raises:
            InputError: For such a model; the message states the reason.
        """

    def losses(
        self,
        model: nn.Module,
        x0: Tensor,
        sigma: Tensor,
        keys: Tensor,
        condition: Condition | None = None,
    ) -> Tensor:
        """One loss per example.

        Args:
            model: A `ScoreModel`, or one inside DistributedDataParallel; it is called through
                `forward`.
            x0: Clean examples (B, *event) in model units.
            sigma: Noise levels () or (B,) in model units.
            keys: One random key an example, (B, 2) as `rng.keys` makes them: the only randomness.
                They may be on the CPU; the noise is drawn on x0's device.
            condition: Mapping of tensors with B rows, or None.

        Returns:
            (B,) in x0's type, differentiable in the model's parameters.

        Raises:
            InputError: Where the arguments do not fit each other or the model.
        """
        raise NotImplementedError


def perturb(x0: Tensor, sigma: Tensor | float, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy examples x = x0 + sigma z.

    Args:
        x0: (B, *event).
        sigma: () or (B,).
        keys: (B, 2); z is a function of the keys alone.

    Returns:
        x (B, *event), z (B, *event) and sigma (B,), in x0's type and on its device.

    Raises:
        InputError: For another shape of sigma.
    """
    broadcast(as_sigma(sigma), x0)  # refuses other shapes
    level = as_sigma(sigma).to(x0.device, x0.dtype).expand(len(x0))
    noise = rng.normal(keys.to(x0.device), rng.Stream.NOISE, 0, x0.shape[1:], x0.dtype)
    return torch.addcmul(x0, broadcast(level, x0), noise), noise, level
