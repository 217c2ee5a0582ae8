"""Annealed Langevin dynamics of a posterior.

    x <- x + eps (s(x) + grad log q(y | x)) + sqrt(2 eps) z,   q(y | x) = N(y; A x, C)
    C = noise_std² I + gamma² (sigma² - sigma_L²) A A^T

in the limit of small eps. The step takes the likelihood implicitly; see `PosteriorLangevin`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor

from ...models import ScoreModel
from ...sampling.langevin import AnnealedLangevin
from ...sampling.state import Draws, State
from ...values import finite
from ..problem import Problem
from .base import (
    USUAL_EVALUATIONS,
    PosteriorKernel,
    budgeted_ladder,
    check_rows,
    exact_unfit,
    observe,
)

# Default epsilon in units of sigma_L². Within 100 evaluations 0.2, the step of AnnealedLangevin,
# leaves errors of the covariance four times as large, since the levels are visited too rarely.
RELATIVE_STEP = 1.0


@dataclass(frozen=True)
class PosteriorLangevin(AnnealedLangevin, PosteriorKernel):
    """Annealed Langevin dynamics given an observation (Jalal et al. 2021, arXiv 2108.01368).

        w  = x + eps s(x) + sqrt(2 eps) z                                 a step of AnnealedLangevin
        x' = w + eps A^T (eps A A^T + C)^-1 (y - A w + n),   n ~ N(0, C)
        C  = noise_std² I + gamma² (sigma² - sigma_L²) A A^T

    With H = A^T C^-1 A this is x' = (I + eps H)^-1 (x + eps s + eps A^T C^-1 (y + n) +
    sqrt(2 eps) z): Langevin's step with the likelihood taken implicitly, so that no small noise of
    y makes it unstable, and y perturbed by noise of its own law. In the limit of small eps it is
    the paper's update, whose C is (noise_std² + gamma_i²) I with gamma_i chosen for each level.

    gamma = 0 leaves the likelihood of y as it is at every level: a level's law is then the exact
    posterior for the prior smoothed by sigma. With gamma = 1 the law q(y | x) is that of y given x
    under a flat prior, less sigma_L² A A^T, so that the last level has the likelihood of y itself.

    On a prior N(m, s² I), along a singular vector with singular value a, the stationary law at a
    level has the mean of p_sigma(x) q(y | x) for every eps, and with v = s² + sigma²,
    h = a² / (noise_std² + gamma² (sigma² - sigma_L²) a²),

        variance = 1 / (1/v + h) / (1 - eps / (v (2 + eps h))):

    too large by eps / (2 v) where nothing was observed, as that of AnnealedLangevin, and exact
    where y decides (eps h >> 1).

    A problem that is not linear with Gaussian noise is linearised about w at each step, which
    leaves the stationary law unchanged in the limit of small eps. Song and Ermon's inpainting is
    the case of a mask without noise, with a projection in place of the update
    (`methods.inpainting_projection`).

    Args:
        problem: The observation in model units, one row a row of the state.
        epsilon: The coefficient of the score at the last level, squared model units;
            None: sigma_L².
        gamma: How far the likelihood is annealed, 0 or more.

    Raises:
        InputError: For numbers out of range, and an exact observation (noise_std=0) through an
            operator without singular value decomposition.
    """

    gamma: float = 0.0

    option_help: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "epsilon": "coefficient of the score at the last level, in squared model units",
            "gamma": "how far the likelihood is annealed, 0 or more",
        }
    )
    help: ClassVar[str] = "annealed Langevin dynamics given an observation (Jalal et al. 2021)"
    exact_for: ClassVar[str] = (
        "any prior, smoothed by the last noise level, and any observation, in the limit of small "
        "steps and many of them"
    )
    approximate_because: ClassVar[str] = (
        "steps are finite and few: those at a level do not carry samples from one mode to another, "
        "so that the weights of modes are those of the levels at which modes part"
    )

    def __post_init__(self) -> None:
        AnnealedLangevin.__post_init__(self)
        PosteriorKernel.__post_init__(self)
        object.__setattr__(self, "gamma", finite(self.gamma, "gamma", 0.0))

    @staticmethod
    def unfit(problem: Problem) -> str | None:
        """An exact observation needs a singular value decomposition."""
        return exact_unfit(problem, "annealed posterior Langevin dynamics")

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """The model's own levels, thinned to the usual cost, or overlapping geometric ones."""
        return budgeted_ladder(model, levels, None)

    def default_steps_per_level(self, ladder: Tensor) -> int:
        """USUAL_EVALUATIONS over all levels."""
        return max(1, (USUAL_EVALUATIONS - 1) // len(ladder))

    def resolve(self, model: ScoreModel, ladder: Tensor) -> "PosteriorLangevin":
        """With epsilon chosen where it is None."""
        if self.epsilon is not None:
            return self
        return replace(self, epsilon=RELATIVE_STEP * float(ladder[-1]) ** 2)

    def start(self, model: ScoreModel, ladder: Tensor, state: State, draws: Draws) -> State:
        """Keep sigma_L."""
        check_rows(self.problem, state)
        return AnnealedLangevin.start(self, model, ladder, state, draws)

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """The step of the class docstring."""
        eps, x = self.step_size(state, sigma), state.x
        w = x + eps * model.score(x, sigma) + math.sqrt(2 * eps) * draws.normal()
        blur = self.gamma**2 * max(float(sigma) ** 2 - float(state.memory) ** 2, 0.0)
        return state.replace(x=observe(self.problem, w, eps, blur, draws))
