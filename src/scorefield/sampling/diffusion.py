"""The probability flow: the ODE whose solutions carry p_sigma from one sigma to the next.

    dx/dsigma = (x - D(x, sigma)) / sigma = - sigma s(x, sigma)

Song et al. 2021, Eq. 13, variance exploding; Karras et al. 2022, Eq. 1. On N(m, v) it is solved by
x(sigma) = m + (x_a - m) sqrt((v + sigma²) / (v + sigma_a²)). The slope is taken from the score,
which a preconditioned network gives without cancellation at small sigma. sigma enters as a Python
number: no float64 reaches the device.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..errors import InputError
from ..models import ScoreModel
from ..values import finite, number
from .kernel import Kernel
from .state import Draws, State

CHURN_MOST = math.sqrt(2) - 1  # Karras et al. 2022, Alg. 2: no step adds more noise than there is


@dataclass(frozen=True)
class Euler(Kernel):
    """The explicit Euler rule on the probability flow. One evaluation a step."""

    help: ClassVar[str] = "probability flow, order 1, one evaluation a step"
    order: ClassVar[float | None] = 1
    needs_continuous_sigma: ClassVar[bool] = True

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """x + (b - a) dx/dsigma at a."""
        here, there, x = float(sigma), float(sigma_next), state.x
        return state.replace(x=x + (here - there) * here * model.score(x, sigma))


@dataclass(frozen=True)
class Heun(Kernel):
    """The trapezoidal rule on the probability flow (Karras et al. 2022, Alg. 1 without churn).

    The second slope is taken at the end of an Euler step. Two evaluations a step.
    """

    help: ClassVar[str] = "probability flow, order 2, two evaluations a step (Karras et al. 2022)"
    order: ClassVar[float | None] = 2
    needs_continuous_sigma: ClassVar[bool] = True

    @property
    def evaluations_per_step(self) -> int:
        """Two slopes."""
        return 2

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """x + (b - a) times the mean of both slopes."""
        here, there, x = float(sigma), float(sigma_next), state.x
        slope = -here * model.score(x, sigma)
        ahead = x + (there - here) * slope
        slope_ahead = -there * model.score(ahead, sigma_next)
        return state.replace(x=x + (there - here) * (slope + slope_ahead) / 2)


@dataclass(frozen=True)
class StochasticHeun(Heun):
    """Heun with noise added before each step (Karras et al. 2022, Alg. 2).

    Noise takes x up to sigma_hat = (1 + gamma) sigma with gamma = min(churn / L, sqrt 2 - 1) for
    sigma in [sigma_low, sigma_high] and L levels; Heun's step goes from there down to sigma_next.
    sigma_hat stops at the model's sigma_max. Weak order 2 in 1/L with inflation 1; any other
    inflation is a bias that no refinement removes. Two evaluations a step.

    Args:
        churn: S_churn of the paper, 0 or more; 0 is Heun.
        sigma_low: S_min, model units.
        sigma_high: S_max, model units.
        inflation: S_noise, the standard deviation of the new noise.

    Raises:
        InputError: For numbers out of range.
    """

    churn: float = 10.0
    sigma_low: float = 0.0
    sigma_high: float = math.inf
    inflation: float = 1.0

    help: ClassVar[str] = "heun with noise added before each step (Karras et al. 2022, Alg. 2)"
    draws_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "churn", finite(self.churn, "churn", 0.0))
        object.__setattr__(self, "inflation", finite(self.inflation, "inflation", 0.0))
        low, high = number(self.sigma_low, "sigma_low"), number(self.sigma_high, "sigma_high")
        if not 0 <= low <= high:
            raise InputError(
                f"need 0 <= sigma_low <= sigma_high; got sigma_low={low:g}, sigma_high={high:g}"
            )
        object.__setattr__(self, "sigma_low", low)
        object.__setattr__(self, "sigma_high", high)

    def start(self, model: ScoreModel, ladder: Tensor, state: State, draws: Draws) -> State:
        """Keep gamma and the model's sigma_max."""
        gamma = min(self.churn / len(ladder), CHURN_MOST)
        return state.replace(memory=(gamma, model.sigma_max))

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """Raise the noise, then Heun's step."""
        gamma, most = state.memory
        here = float(sigma)
        if gamma > 0 and self.sigma_low <= here <= self.sigma_high:
            raised = (sigma * (1 + gamma)).clamp(max=most)
            if raised > sigma:
                added = math.sqrt(float(raised) ** 2 - here**2) * self.inflation
                state = state.replace(x=state.x + added * draws.normal())
                sigma = raised
        return super().step(model, state, sigma, sigma_next, draws)
