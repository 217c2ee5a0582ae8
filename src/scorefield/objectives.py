"""Objectives: what is minimised so that a network becomes a score. Each gives one loss a sample, the mean over the event's elements.

Denoising score matching (Vincent 2011), x = x0 + sigma z:

    w(sigma) |D(x, sigma) - x0|² / d        with |s + (x - x0)/sigma²|² = |D - x0|² / sigma⁴

so Song & Ermon's lambda(sigma) = sigma² on 1/2 |s + (x - x0)/sigma²|² is w = 1/(2 sigma²), and Karras et al.'s w = (sigma² + sd²)/(sigma sd)².
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import rng
from .errors import InputError
from .model import ScoreModel, broadcast

Weight = Callable[[Tensor, float], Tensor]

WEIGHTS: dict[str, Weight] = {
    "edm": lambda sigma, sigma_data: (sigma.square() + sigma_data**2) / (sigma * sigma_data).square(),
    "ncsn": lambda sigma, sigma_data: 0.5 / sigma.square(),
}


@dataclass(frozen=True)
class Objective:
    """weight: a name of WEIGHTS; sigma_data: the data's standard deviation in model units, which the `edm` weight needs."""

    weight: str = "edm"
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if self.weight not in WEIGHTS:
            raise InputError(f"the weight must be one of {', '.join(WEIGHTS)}; got {self.weight!r}")

    def weigh(self, sigma: Tensor) -> Tensor:
        """w(sigma), on |D - x0|²."""
        return WEIGHTS[self.weight](sigma, self.sigma_data)

    def losses(self, model: ScoreModel, x0: Tensor, sigma: Tensor, keys: Tensor, condition: Tensor | None = None) -> Tensor:
        """x0: (B, *event) in model units; sigma: (B,); keys: one a sample, the only randomness -> losses (B,)."""
        raise NotImplementedError


class Denoising(Objective):
    """w(sigma) |D(x0 + sigma z, sigma) - x0|² / d."""

    def losses(self, model: ScoreModel, x0: Tensor, sigma: Tensor, keys: Tensor, condition: Tensor | None = None) -> Tensor:
        """Losses (B,); one forward pass."""
        noise = rng.normal(keys, rng.Stream.NOISE, 0, x0.shape[1:], x0.dtype)
        denoised = model(torch.addcmul(x0, broadcast(sigma, x0), noise), sigma, condition)
        return self.weigh(sigma) * (denoised - x0).square().flatten(1).mean(1)


OBJECTIVES: dict[str, type[Objective]] = {"denoising": Denoising}


def make_objective(name: str, weight: str, sigma_data: float) -> Objective:
    """An objective by name."""
    if name not in OBJECTIVES:
        raise InputError(f"objective must be one of {', '.join(OBJECTIVES)}; got {name!r}")
    return OBJECTIVES[name](weight, sigma_data)
