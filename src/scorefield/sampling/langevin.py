"""Langevin dynamics at a fixed noise level: x <- x + eps s(x) + sqrt(2 eps) z, z ~ N(0, I).

Here eps is the coefficient of the score, always. NCSN's Algorithm 1 as printed writes
x + (alpha/2) s + sqrt(alpha) z, so its alpha is 2 eps; its released code and NCSNv2 write
x + alpha s + sqrt(2 alpha) z, so theirs is eps. The printed 2e-5 is epsilon = 1e-5 here, the
released code's 2e-5 is epsilon = 2e-5.

A finite step is biased: on N(0, v) the variance goes as V <- (1 - eps/v)² V + 2 eps and settles at
2 eps / (1 - (1 - eps/v)²), not at v. Where the density is known up to a constant, a Metropolis test
removes the bias (`MALA`).
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import InputError
from ..models import ScoreModel
from ..values import finite
from .kernel import Kernel
from .ladders import annealed_ladder, last_level
from .state import Draws, State

LANGEVIN_STEPS = 1000  # in all: 100 at each of NCSN's 10 levels, 4 at each of NCSNv2's 232
RELATIVE_STEP = 0.2  # default epsilon in units of sigma_L²: the paper's 2e-5 at sigma_L = 0.01


@dataclass(frozen=True)
class Langevin(Kernel):
    """Unadjusted Langevin dynamics with one step size (Grenander & Miller 1994).

    Args:
        epsilon: The coefficient of the score, squared model units; None: 0.2 sigma_L².

    Raises:
        InputError: For an epsilon that is not above zero and finite.
    """

    epsilon: float | None = None

    help: ClassVar[str] = (
        "Langevin dynamics at one level; a baseline: it mixes slowly between modes"
    )
    is_langevin: ClassVar[bool] = True
    draws_noise: ClassVar[bool] = True
    allows_projection: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.epsilon is not None:
            object.__setattr__(self, "epsilon", finite(self.epsilon, "epsilon", 0.0, above=True))

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """The one level sigma_min."""
        return last_level(model, levels)

    def default_steps_per_level(self, ladder: Tensor) -> int:
        """LANGEVIN_STEPS over all levels."""
        return max(1, round(LANGEVIN_STEPS / len(ladder)))

    def resolve(self, model: ScoreModel, ladder: Tensor) -> "Langevin":
        """With epsilon chosen where it is None."""
        if self.epsilon is not None:
            return self
        return replace(self, epsilon=RELATIVE_STEP * float(ladder[-1]) ** 2)

    def step_size(self, state: State, sigma: Tensor) -> float:
        """eps at noise level sigma."""
        assert self.epsilon is not None, "run() resolves the kernel first"
        return self.epsilon

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """x + eps s + sqrt(2 eps) z."""
        eps, x = self.step_size(state, sigma), state.x
        noise = math.sqrt(2 * eps) * draws.normal()
        return state.replace(x=x + eps * model.score(x, sigma) + noise)


@dataclass(frozen=True)
class AnnealedLangevin(Langevin):
    """Song & Ermon 2019, Algorithm 1: Langevin with eps_i = epsilon sigma_i² / sigma_L².

    With sigma_i² the ratio of drift to noise is the same at every level; it is about 0.32 for
    epsilon = 0.2 sigma_L², the paper's choice.

    Args:
        epsilon: The coefficient of the score at the last level, squared model units;
            None: 0.2 sigma_L².
    """

    help: ClassVar[str] = "Langevin dynamics at each level in turn (Song & Ermon 2019)"

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """The model's own levels, or overlapping geometric ones."""
        return annealed_ladder(model, levels)

    def start(self, model: ScoreModel, ladder: Tensor, state: State, draws: Draws) -> State:
        """Keep sigma_L."""
        return state.replace(memory=float(ladder[-1]))

    def step_size(self, state: State, sigma: Tensor) -> float:
        """epsilon sigma² / sigma_L²."""
        assert self.epsilon is not None, "run() resolves the kernel first"
        return self.epsilon * (float(sigma) / float(state.memory)) ** 2


@dataclass(frozen=True)
class MALA(AnnealedLangevin):
    """Metropolis-adjusted Langevin dynamics (Roberts & Tweedie 1996).

    A Langevin step y = x + eps s(x) + sqrt(2 eps) z, eps as in AnnealedLangevin, is taken with
    probability min(1, p(y) q(x|y) / (p(x) q(y|x))), q(y|x) = N(y; x + eps s(x), 2 eps I), each
    sample by itself. Its stationary distribution is p_sigma at any step size: a step that is too
    large lowers the acceptance rate and adds no bias. The model needs `log_density`. A step takes
    two scores and two densities.
    """

    help: ClassVar[str] = (
        "annealed Langevin with an accept step, without bias; needs a model with log_density"
    )
    allows_projection: ClassVar[bool] = False

    @property
    def evaluations_per_step(self) -> int:
        """Two scores and two densities."""
        return 4

    def start(self, model: ScoreModel, ladder: Tensor, state: State, draws: Draws) -> State:
        """Keep sigma_L, after it was checked that the model has a density."""
        if not model.has_log_density:
            raise InputError(
                "MALA accepts or rejects by the density and needs a model with log_density, which "
                "networks that learn the score itself and guided models have not. Use 'langevin' "
                "or 'annealed-langevin', or train an energy"
            )
        return super().start(model, ladder, state, draws)

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """Propose, then accept or reject each sample."""
        eps, x = self.step_size(state, sigma), state.x
        z, score = draws.normal(), model.score(x, sigma)
        proposal = x + eps * score + math.sqrt(2 * eps) * z
        # The way back, y -> x, in units of its own noise: x = y + eps s(y) + sqrt(2 eps) back.
        back = -z - math.sqrt(eps / 2) * (score + model.score(proposal, sigma))
        ratio = model.log_density(proposal, sigma) - model.log_density(x, sigma)
        ratio = ratio + (z.square() - back.square()).flatten(1).sum(1) / 2
        accept = (ratio > draws.uniform().log()).reshape(-1, *[1] * (x.ndim - 1))
        return state.replace(x=torch.where(accept, proposal, x))
