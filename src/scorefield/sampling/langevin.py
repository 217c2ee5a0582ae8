"""Langevin dynamics at a fixed noise level: x <- x + eps s(x) + sqrt(2 eps) z, z ~ N(0, I).

eps is the coefficient of the score here, always. Two conventions are about: NCSN's Algorithm 1 as printed writes
x + (alpha/2) s + sqrt(alpha) z, so its alpha is 2 eps; its released code and NCSNv2 write x + alpha s + sqrt(2 alpha) z, so theirs is eps.
The printed 2e-5 is epsilon = 1e-5 here, the released code's 2e-5 is epsilon = 2e-5.

A finite step is biased: on N(0, v) the variance goes as V <- (1 - eps/v)² V + 2 eps and settles at 2 eps / (1 - (1 - eps/v)²), not at v.
"""

import math
from typing import Any

from torch import Tensor

from ..errors import InputError
from .driver import Field, Kernel, Noise


def _positive(value: float, what: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{what} must be above zero and finite; got {value:g}")
    return float(value)


class Langevin(Kernel):
    """Unadjusted Langevin dynamics with one step size at every level (Grenander & Miller 1994). step_size: eps, in squared model units."""

    stays = True

    def __init__(self, step_size: float) -> None:
        self.step_size = _positive(step_size, "step_size")

    def step(self, model: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise, state: Any) -> tuple[Tensor, Any]:
        return x + self.step_size * model.score(x, sigma) + math.sqrt(2 * self.step_size) * noise(), state


class AnnealedLangevin(Kernel):
    """Song & Ermon 2019, Algorithm 1: Langevin with eps_i = epsilon sigma_i² / sigma_L², in squared model units.

    epsilon is the coefficient of the score at the last level. With sigma_i² the ratio of drift to noise is the same at every level; it is
    about 0.32 for epsilon = 0.2 sigma_L², the paper's choice (2e-5 at sigma_L = 0.01).
    """

    stays = True

    def __init__(self, epsilon: float) -> None:
        self.epsilon = _positive(epsilon, "epsilon")

    def start(self, model: Field, ladder: Tensor) -> Tensor:
        """sigma_L."""
        return ladder[-1]

    def step(self, model: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise, state: Tensor) -> tuple[Tensor, Tensor]:
        epsilon = self.epsilon * float(sigma / state) ** 2
        return x + epsilon * model.score(x, sigma) + math.sqrt(2 * epsilon) * noise(), state
