"""Decoupled annealing: a draw of x0 given x and y, then noise of the next level.

If x ~ p_sigma(x | y) and x0 ~ p(x0 | x, y), then x0 ~ p(x0 | y), and x0 + sigma' z is a draw of
p_sigma'(x | y) at any other level sigma'. DAPS takes x0 given x for N(c, r² I), whose product with
the likelihood can be drawn.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor

from ...errors import InputError
from ...models import ScoreModel
from ...sampling.ladders import data_std
from ...sampling.state import Draws, State
from ...values import finite, number, whole
from ..problem import Problem
from .base import (
    USUAL_EVALUATIONS,
    PosteriorKernel,
    budgeted_ladder,
    exact_unfit,
    observe,
)

ODE_POWER = 3  # noise levels sigma (1 - j/n)^3 of the inner flow: fine towards zero


@dataclass(frozen=True)
class DAPS(PosteriorKernel):
    """Zhang et al. 2024 (arXiv 2407.01521), Algorithm 1, from sigma to sigma'.

        c   = the end of the probability flow from (x, sigma), `ode_steps` Euler steps down to 0
        x0  ~ N(x0; c, r² I) p(y | x0),   r² = s² sigma² / (s² + sigma²)
        x'  = x0 + sigma' z

    The last step of a run adds no noise, since the paper's last level is 0: with final="none" the
    sample is x0 itself, with final="denoise" it is D(x0, sigma_L).

    One Euler step down to 0 gives c = D = E[x0 | x], the mean of the law for which N(c, r² I)
    stands. Where sigma is small against the prior's scale, the step is then one of Langevin
    dynamics with eps = sigma², so that the levels of a fine ladder correct what larger levels took
    for r² wrongly. The paper takes about five Euler steps and r = sigma. Then c is nearly a sample
    itself, and r² counts its variance twice: on N(m, s² I) without observation the variance of x0
    settles at s² + r² v / sigma², with v = s² + sigma²: at 2 s² and more.

    For a linear operator and Gaussian noise x0 is drawn exactly (`observe`). Otherwise by
    `inner_steps` steps of a chain that starts from c, with w = c + (1 - u)(x0 - c) +
    r sqrt(u (2 - u)) z, u = `inner_step`, followed by `observe` for a prior of variance u r² and
    the problem linearised about w. It is exact for linear problems at any u, and in general in the
    limit of small u. It does not evaluate the model.

    Args:
        problem: The observation in model units, one row a row of the state.
        ode_steps: Euler steps of the inner flow, 1 or more; each is one evaluation of the model.
        prior_std: s in model units. None: that of the model's moments. math.inf is a flat prior,
            r = sigma as in the paper, and stands also where the model has no moments.
        inner_steps: Length of the inner chain where the draw is not exact.
        inner_step: u, in (0, 1].

    Raises:
        InputError: For numbers out of range, and an exact observation (noise_std=0) through an
            operator without singular value decomposition.
    """

    ode_steps: int = 1
    prior_std: float | None = None
    inner_steps: int = 20
    inner_step: float = 0.2

    option_help: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "ode_steps": "Euler steps of the inner flow, one evaluation each",
            "prior_std": "the prior's standard deviation, model units; inf for a flat prior",
            "inner_steps": "length of the inner chain where a draw is not exact",
            "inner_step": "its step, in (0, 1]",
        }
    )
    help: ClassVar[str] = "decoupled annealing, for any likelihood (Zhang et al. 2024)"
    exact_for: ClassVar[str] = (
        "a normal prior with covariance s² I and any observation (ode_steps=1); any normal prior "
        "in the limit of a fine ladder"
    )
    approximate_because: ClassVar[str] = (
        "x0 given x is taken for a normal law with covariance r² I; with ode_steps above 1 its "
        "centre is nearly a sample, whose variance r² adds again"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "ode_steps", whole(self.ode_steps, "ode_steps", 1))
        object.__setattr__(self, "inner_steps", whole(self.inner_steps, "inner_steps", 1))
        step = finite(self.inner_step, "inner_step", 0.0, 1.0, above=True)
        object.__setattr__(self, "inner_step", step)
        if self.prior_std is not None:
            std = number(self.prior_std, "prior_std")
            if not std > 0:
                raise InputError(f"prior_std must be above zero, or infinite; got {std:g}")
            object.__setattr__(self, "prior_std", std)

    @property
    def needs_continuous_sigma(self) -> bool:  # type: ignore[override]
        """The inner flow of several steps does."""
        return self.ode_steps > 1

    @property
    def evaluations_per_step(self) -> int:
        """One an Euler step."""
        return self.ode_steps

    @staticmethod
    def unfit(problem: Problem) -> str | None:
        """An exact observation needs a singular value decomposition."""
        return exact_unfit(problem, "daps")

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """The model's own levels, or geometric ones; USUAL_EVALUATIONS in all."""
        return budgeted_ladder(model, levels, 1 + (USUAL_EVALUATIONS - 1) // self.ode_steps)

    def resolve(self, model: ScoreModel, ladder: Tensor) -> "DAPS":
        """With prior_std from the model's moments where it is None."""
        if self.prior_std is not None:
            return self
        known = data_std(model)
        return replace(self, prior_std=math.inf if known is None else known)

    def start(self, model: ScoreModel, ladder: Tensor, state: State, draws: Draws) -> State:
        """Keep sigma_L."""
        state = super().start(model, ladder, state, draws)
        return state.replace(memory=float(ladder[-1]))

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """The step of the class docstring."""
        here, there = float(sigma), float(sigma_next)
        centre = self._flow(model, state.x, here)
        x0 = self._draw(centre, self.variance(here), draws)
        if there == state.memory != here:
            return state.replace(x=x0)
        return state.replace(x=x0 + there * draws.normal())

    def variance(self, sigma: float) -> float:
        """r² at noise level sigma."""
        assert self.prior_std is not None, "run() resolves the kernel first"
        return sigma**2 / (1 + (sigma / self.prior_std) ** 2)

    def _flow(self, model: ScoreModel, x: Tensor, sigma: float) -> Tensor:
        """c of the class docstring."""
        levels = [sigma * (1 - j / self.ode_steps) ** ODE_POWER for j in range(self.ode_steps)]
        levels = [max(level, min(model.sigma_min, sigma)) for level in levels]
        for a, b in zip(levels, [*levels[1:], 0.0], strict=True):
            # As in the rule of Euler; the last step, down to 0, is the denoised x.
            x = x + (a - b) * a * model.score(x, a) if b > 0 else model.denoise(x, a)
        return x

    def _draw(self, centre: Tensor, variance: float, draws: Draws) -> Tensor:
        """x0 of the class docstring."""
        problem = self.problem
        if problem.is_linear_gaussian:
            w = centre + math.sqrt(variance) * draws.normal()
            return observe(problem, w, variance, 0.0, draws)
        u, x0 = self.inner_step, centre
        fresh = math.sqrt(variance * u * (2 - u))
        for _ in range(self.inner_steps):
            w = centre + (1 - u) * (x0 - centre) + fresh * draws.normal()
            x0 = observe(problem, w, u * variance, 0.0, draws)
        return x0
