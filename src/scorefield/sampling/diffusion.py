"""The probability flow: the ODE whose solutions carry p_sigma from one sigma to the next without
noise.

    dx/dsigma = (x - D(x, sigma)) / sigma = - sigma s(x, sigma)    Song et al. 2021, Eq. 13, variance exploding; Karras et al. 2022, Eq. 1

On N(m, v) it is solved by x(sigma) = m + (x_a - m) sqrt((v + sigma²) / (v + sigma_a²)). The slope
is taken from the score, which a
preconditioned network gives without cancellation at small sigma. sigma enters as a Python number:
no float64 reaches the device.
"""

import math
from typing import Any

from torch import Tensor

from ..errors import InputError
from .driver import Field, Kernel, Noise

CHURN_MOST = math.sqrt(2) - 1  # Karras et al. 2022, Alg. 2: no step adds more noise than there is


class Euler(Kernel):
    """The explicit Euler rule. One evaluation a step."""

    order = 1
    off_ladder = True

    def step(
        self, model: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        here, there = float(sigma), float(sigma_next)
        return x + (here - there) * here * model.score(x, sigma), state


class Heun(Kernel):
    """Karras et al. 2022, Alg. 1 without churn: the trapezoidal rule, the second slope at an Euler
    step's end. Two evaluations a step.
    """

    order = 2
    off_ladder = True

    def step(
        self, model: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        here, there = float(sigma), float(sigma_next)
        slope = -here * model.score(x, sigma)
        ahead = x + (there - here) * slope
        slope_ahead = -there * model.score(ahead, sigma_next)
        return x + (there - here) * (slope + slope_ahead) / 2, state


class StochasticHeun(Heun):
    """Karras et al. 2022, Alg. 2: noise takes x up to sigma_hat = (1 + gamma) sigma, and Heun's
    step from there goes down to sigma_next.

    gamma = min(churn / L, sqrt 2 - 1) for sigma in [sigma_low, sigma_high], else 0, L the number of
    levels; inflation is the standard
    deviation of the new noise (S_churn, S_min, S_max, S_noise in the paper, which uses 0 to 80,
    ..., 1.003). sigma_hat stops at the model's
    sigma_max, where the paper's code asks beyond it. Weak order 2 in 1/L with inflation 1; another
    inflation is a bias that no refinement
    removes. Two evaluations a step.
    """

    draws_noise = True

    def __init__(
        self,
        churn: float = 10.0,
        sigma_low: float = 0.0,
        sigma_high: float = math.inf,
        inflation: float = 1.0,
    ) -> None:
        if not (
            churn >= 0
            and inflation >= 0
            and 0 <= sigma_low <= sigma_high
            and math.isfinite(churn * inflation)
        ):
            raise InputError(
                "need churn >= 0, inflation >= 0 and 0 <= sigma_low <= sigma_high; got "
                f"churn={churn:g}, inflation={inflation:g}, sigma_low={sigma_low:g}, "
                f"sigma_high={sigma_high:g}"
            )
        self.churn, self.low, self.high, self.inflation = (
            float(churn),
            float(sigma_low),
            float(sigma_high),
            float(inflation),
        )

    def start(self, model: Field, ladder: Tensor) -> tuple[float, float]:
        """gamma, and the largest sigma the model knows."""
        return min(self.churn / len(ladder), CHURN_MOST), float(
            getattr(model, "sigma_max", math.inf)
        )

    def step(
        self,
        model: Field,
        x: Tensor,
        sigma: Tensor,
        sigma_next: Tensor,
        noise: Noise,
        state: tuple[float, float],
    ) -> tuple[Tensor, tuple[float, float]]:
        gamma, most = state
        here = float(sigma)
        if gamma > 0 and self.low <= here <= self.high:
            raised = (sigma * (1 + gamma)).clamp(max=most)
            if raised > sigma:
                x = x + math.sqrt(float(raised) ** 2 - here**2) * self.inflation * noise()
                sigma = raised
        return super().step(model, x, sigma, sigma_next, noise, None)[0], state
