"""Langevin dynamics at a fixed noise level: x <- x + eps s(x) + sqrt(2 eps) z, z ~ N(0, I).

eps is the coefficient of the score here, always. Two conventions are about: NCSN's Algorithm 1 as
printed writes
x + (alpha/2) s + sqrt(alpha) z, so its alpha is 2 eps; its released code and NCSNv2 write x + alpha
s + sqrt(2 alpha) z, so theirs is eps.
The printed 2e-5 is epsilon = 1e-5 here, the released code's 2e-5 is epsilon = 2e-5.

A finite step is biased: on N(0, v) the variance goes as V <- (1 - eps/v)² V + 2 eps and settles at
2 eps / (1 - (1 - eps/v)²), not at v.
Where the density is known up to a constant, a Metropolis test takes the bias away (`MALA`).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .driver import Field, Kernel, Noise


def _positive(value: float, what: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{what} must be above zero and finite; got {value:g}")
    return float(value)


class Langevin(Kernel):
    """Unadjusted Langevin dynamics with one step size at every level (Grenander & Miller 1994).
    step_size: eps, in squared model units.
    """

    stays = True
    draws_noise = True

    def __init__(self, step_size: float) -> None:
        self.step_size = _positive(step_size, "step_size")

    def step(
        self, model: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        return x + self.step_size * model.score(x, sigma) + math.sqrt(
            2 * self.step_size
        ) * noise(), state


class AnnealedLangevin(Kernel):
    """Song & Ermon 2019, Algorithm 1: Langevin with eps_i = epsilon sigma_i² / sigma_L², in squared
    model units.

    epsilon is the coefficient of the score at the last level. With sigma_i² the ratio of drift to
    noise is the same at every level; it is
    about 0.32 for epsilon = 0.2 sigma_L², the paper's choice (2e-5 at sigma_L = 0.01).
    """

    stays = True
    draws_noise = True

    def __init__(self, epsilon: float) -> None:
        self.epsilon = _positive(epsilon, "epsilon")

    def start(self, model: Field, ladder: Tensor) -> float:
        """sigma_L."""
        return float(ladder[-1])

    def step(
        self, model: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise, state: float
    ) -> tuple[Tensor, float]:
        epsilon = self.epsilon * (float(sigma) / state) ** 2
        return x + epsilon * model.score(x, sigma) + math.sqrt(2 * epsilon) * noise(), state


class MALA(Kernel):
    """Metropolis-adjusted Langevin (Roberts & Tweedie 1996): a Langevin step y = x + eps s(x) +
    sqrt(2 eps) z with eps as in AnnealedLangevin,
    taken with probability min(1, p(y) q(x|y) / (p(x) q(y|x))), q(y|x) = N(y; x + eps s(x), 2 eps
    I), each sample by itself.

    Its stationary law is p_sigma at any step size; too large a step is not biased but rejected. The
    model needs `log_density`. Two scores and
    two densities a step, counted as four evaluations. No projection: whole moves are accepted,
    known part included.
    """

    stays = True
    draws_noise = True
    projects = False

    def __init__(self, epsilon: float) -> None:
        self.epsilon = _positive(epsilon, "epsilon")

    def start(
        self, model: Field, ladder: Tensor
    ) -> tuple[float, Callable[[Tensor, Tensor], Tensor]]:
        """sigma_L and the model's log density."""
        log_density = getattr(model, "log_density", None)
        if log_density is None:
            raise InputError(
                "MALA accepts or rejects by the density and needs a model with log_density(x, "
                "sigma); this one has none, as networks that learn "
                "the score itself have none. Use langevin or annealed-langevin, or train an energy"
            )
        return float(ladder[-1]), log_density

    def step(
        self, model: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        last, log_density = state
        epsilon = self.epsilon * (float(sigma) / last) ** 2
        z, score = noise(), model.score(x, sigma)
        proposal = x + epsilon * score + math.sqrt(2 * epsilon) * z
        # The way back, y -> x, in units of its own noise: x = y + eps s(y) + sqrt(2 eps) back.
        back = -z - math.sqrt(epsilon / 2) * (score + model.score(proposal, sigma))
        ratio = (
            log_density(proposal, sigma)
            - log_density(x, sigma)
            + (z.square() - back.square()).flatten(1).sum(1) / 2
        )
        accept = (ratio > -_exponential(noise)).reshape(-1, *[1] * (x.ndim - 1))
        return torch.where(accept, proposal, x), state


def _exponential(noise: Noise) -> Tensor:
    """Exp(1), (B,), from normals: half the square sum of two. - ln u of a uniform u has this law."""
    flat = noise().flatten(1)
    pair = flat[:, :2] if flat.shape[1] > 1 else torch.cat([flat, noise().flatten(1)], 1)
    return pair.square().sum(1) / 2
