"""What objectives share: the weight over sigma and the interface.

One weight serves both forms, since |s + z/sigma|² = |D - x0|² / sigma⁴:

    w(sigma) |D - x0|²  =  lambda(sigma) 1/2 |s + z/sigma|²        with  lambda = 2 sigma⁴ w

    name    w                              lambda
    edm     (sigma² + sd²)/(sigma sd)²     2 sigma² (sigma² + sd²)/sd²     Karras et al. 2022, Table 1
    ncsn    1/(2 sigma²)                   sigma²                          Song & Ermon 2019, Eq. 6
    fisher  1/(2 sigma⁴)                   1                               the divergence itself: rises as 1/sigma²
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError
from ..model import ScoreModel, as_sigma, broadcast

Weight = Callable[[Tensor, float], Tensor]  # (sigma, sigma_data) -> w, shaped like sigma

WEIGHTS: dict[str, Weight] = {
    "edm": lambda sigma, sigma_data: (
        (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()
    ),
    "ncsn": lambda sigma, sigma_data: 0.5 / sigma.square(),
    "fisher": lambda sigma, sigma_data: 0.5 / sigma.pow(4),
}
# lambda = 2 sigma⁴ w written out: finite at sigma = 0.
SCORE_WEIGHTS: dict[str, Weight] = {
    "edm": lambda sigma, sigma_data: (
        2 * sigma.square() * (sigma.square() + sigma_data**2) / sigma_data**2
    ),
    "ncsn": lambda sigma, sigma_data: sigma.square(),
    "fisher": lambda sigma, sigma_data: torch.ones_like(sigma),
}


@dataclass(frozen=True)
class Objective:
    """weight: a name of WEIGHTS or a function (sigma, sigma_data) -> w; sigma_data: the data's
    standard deviation in model units.
    """

    weight: str | Weight = "edm"
    sigma_data: float = 0.5

    second_order: ClassVar[bool] = (
        False  # differentiates the score in x while training: needs float32 and no compilation
    )

    def __post_init__(self) -> None:
        if isinstance(self.weight, str) and self.weight not in WEIGHTS:
            raise InputError(
                f"the weight must be one of {', '.join(WEIGHTS)}, or a function of (sigma, "
                f"sigma_data); got {self.weight!r}"
            )
        if not self.sigma_data > 0:
            raise InputError(f"sigma_data must be above zero; got {self.sigma_data:g}")

    def weigh(self, sigma: Tensor) -> Tensor:
        """w(sigma), on |D - x0|²."""
        return (WEIGHTS[self.weight] if isinstance(self.weight, str) else self.weight)(
            sigma, self.sigma_data
        )

    def weigh_score(self, sigma: Tensor) -> Tensor:
        """lambda(sigma), on 1/2 |s + z/sigma|²."""
        if isinstance(self.weight, str):
            return SCORE_WEIGHTS[self.weight](sigma, self.sigma_data)
        return 2 * sigma.pow(4) * self.weight(sigma, self.sigma_data)

    def check(self, model: ScoreModel) -> None:
        """An InputError where this objective cannot train `model`."""

    def losses(
        self,
        model: ScoreModel,
        x0: Tensor,
        sigma: Tensor,
        keys: Tensor,
        condition: Tensor | None = None,
    ) -> Tensor:
        """x0: (B, *event) in model units; sigma: () or (B,); keys: one a sample, the only
        randomness -> losses (B,) in x0's dtype.
        """
        raise NotImplementedError


def perturb(x0: Tensor, sigma: Tensor | float, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x = x0 + sigma z, z (B, *event) and sigma (B,) in x0's dtype and on its device; z is a
    function of the keys alone.
    """
    broadcast(as_sigma(sigma), x0)  # refuses other shapes in words
    level = as_sigma(sigma).to(x0.device, x0.dtype).expand(len(x0))
    noise = rng.normal(keys.to(x0.device), rng.Stream.NOISE, 0, x0.shape[1:], x0.dtype)
    return torch.addcmul(x0, broadcast(level, x0), noise), noise, level
