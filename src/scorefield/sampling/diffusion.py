"""The probability flow: the ODE whose solutions carry p_sigma from one sigma to the next without noise.

    dx/dsigma = (x - D(x, sigma)) / sigma = - sigma s(x, sigma)    Song et al. 2021, Eq. 13, variance exploding; Karras et al. 2022, Eq. 1

On N(m, v) it is solved by x(sigma) = m + (x_a - m) sqrt((v + sigma²) / (v + sigma_a²)). The slope is taken from the score, which a
preconditioned network gives without cancellation at small sigma.
"""

from typing import Any

from torch import Tensor

from .driver import Field, Kernel, Noise


class Euler(Kernel):
    """The explicit Euler rule. One evaluation a step."""

    order = 1
    off_ladder = True

    def step(self, model: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise, state: Any) -> tuple[Tensor, Any]:
        return x - (sigma_next - sigma) * sigma * model.score(x, sigma), state


class Heun(Kernel):
    """Karras et al. 2022, Alg. 1 without churn: the trapezoidal rule, the second slope at an Euler step's end. Two evaluations a step."""

    order = 2
    off_ladder = True

    def step(self, model: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise, state: Any) -> tuple[Tensor, Any]:
        slope = -sigma * model.score(x, sigma)
        ahead = x + (sigma_next - sigma) * slope
        slope_ahead = -sigma_next * model.score(ahead, sigma_next)
        return x + (sigma_next - sigma) * (slope + slope_ahead) / 2, state
