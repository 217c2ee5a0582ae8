"""The reverse SDE: each step removes noise along the score and adds part of it back.

    dx = - d(sigma²)/dt s dt + sqrt(d(sigma²)/dt) dw, t backwards

Song et al. 2021, Eq. 6, variance exploding. Fresh noise reduces errors of earlier steps. The exact
transition, given x at sigma_a and the clean x0, with r = sigma_b / sigma_a, is
N(r² x + (1 - r²) x0, sigma_b² (1 - r²) I). These kernels evaluate the model at levels of the
ladder only, so they also suit models that are defined at their own levels only. Each is of weak
order 1: mean and covariance of the samples are off by a multiple of the step.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InputError
from ..models import ScoreModel
from ..values import finite, one_of, whole
from .kernel import Kernel
from .ladders import consistent_ladder, reverse_ladder
from .langevin import RELATIVE_STEP
from .state import Draws, State


@dataclass(frozen=True)
class ReverseSDE(Kernel):
    """Euler-Maruyama in the variable sigma² (Song et al. 2021, Alg. 2, reverse diffusion sampler).

    x + (a² - b²) s(x, a) + sqrt(a² - b²) z, from sigma a to sigma b. One evaluation a step.
    """

    help: ClassVar[str] = "reverse SDE by Euler-Maruyama, weak order 1 (Song et al. 2021)"
    order: ClassVar[float | None] = 1
    draws_noise: ClassVar[bool] = True

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """The model's own levels, or Karras'."""
        return reverse_ladder(model, levels)

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """The step of the class docstring."""
        x, drop = state.x, float(sigma) ** 2 - float(sigma_next) ** 2
        moved = x + drop * model.score(x, sigma)
        return state.replace(x=moved + math.sqrt(drop) * draws.normal())


@dataclass(frozen=True)
class Ancestral(ReverseSDE):
    """The exact transition with D(x, a) in place of the clean x0 (Song et al. 2021, Appendix F).

    x + (a² - b²) s(x, a) + (b/a) sqrt(a² - b²) z. Exact where p is a point. One evaluation a step.
    """

    help: ClassVar[str] = "reverse SDE, exact noise a step, weak order 1 (Song et al. 2021)"

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """The step of the class docstring."""
        x, here, there = state.x, float(sigma), float(sigma_next)
        drop = here**2 - there**2
        moved = x + drop * model.score(x, sigma)
        return state.replace(x=moved + there / here * math.sqrt(drop) * draws.normal())


@dataclass(frozen=True)
class ConsistentAnnealed(Kernel):
    """Consistent annealed sampling (Jolicoeur-Martineau et al. 2020, arXiv 2009.05475, Alg. 2).

        x + eta a² s(x, a) + sqrt(b² - (1 - eta)² a²) z,    eta = epsilon / sigma_L²

    Langevin's own step leaves more noise in x than the next level has; this one leaves b exactly
    where p is a point. It needs |1 - eta| a <= b at every step: a fine ladder or a large epsilon.
    eta = 1 - b/a draws no noise at all (the flow), eta = 1 - (b/a)² is `Ancestral`. The order is
    claimed for an eta in proportion to the ladder's step; at a fixed eta a refined ladder leaves a
    bias, as Langevin's finite step does. One evaluation a step.

    Args:
        epsilon: The coefficient of the score at the last level, squared model units. None: as much
            fresh noise as the reverse SDE has at the ladder's steepest step, 0.2 sigma_L² at least.

    Raises:
        InputError: For an epsilon that is not above zero and finite.
    """

    epsilon: float | None = None

    help: ClassVar[str] = (
        "Langevin steps that keep the ladder's noise levels (Jolicoeur-Martineau et al. 2020)"
    )
    order: ClassVar[float | None] = 1
    draws_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.epsilon is not None:
            object.__setattr__(self, "epsilon", finite(self.epsilon, "epsilon", 0.0, above=True))

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """The model's own levels, or geometric ones."""
        return consistent_ladder(model, levels)

    def resolve(self, model: ScoreModel, ladder: Tensor) -> "ConsistentAnnealed":
        """With epsilon chosen where it is None."""
        if self.epsilon is not None:
            return self
        relative = max(RELATIVE_STEP, 1 - _steepest(ladder) ** 2)
        return replace(self, epsilon=relative * float(ladder[-1]) ** 2)

    def start(self, model: ScoreModel, ladder: Tensor, state: State, draws: Draws) -> State:
        """Keep eta, after every step of the ladder was found within its reach.

        Raises:
            InputError: Where a step is too steep for epsilon.
        """
        assert self.epsilon is not None, "run() resolves the kernel first"
        last, steepest = float(ladder[-1]), _steepest(ladder)
        eta = self.epsilon / last**2
        if len(ladder) > 1 and abs(1 - eta) > steepest * (1 + 1e-12):
            low, high = (1 - steepest) * last**2, (1 + steepest) * last**2
            raise InputError(
                f"epsilon={self.epsilon:g} is {eta:.3g} sigma_L² and removes noise too slowly (or "
                f"more than all of it) for this ladder, whose steepest step is a ratio of "
                f"{steepest:.3g}: need |1 - epsilon/sigma_L²| <= {steepest:.3g}. Take a finer "
                f"ladder, or an epsilon from {low:.3g} to {high:.3g}"
            )
        return state.replace(memory=eta)

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """The step of the class docstring."""
        x, eta, here, there = state.x, state.memory, float(sigma), float(sigma_next)
        fresh = math.sqrt(max(there**2 - ((1 - eta) * here) ** 2, 0.0))
        moved = x + eta * here**2 * model.score(x, sigma)
        return state.replace(x=moved + fresh * draws.normal())


def _steepest(ladder: Tensor) -> float:
    """The smallest ratio of neighbouring levels, 1 for a single level."""
    return float((ladder[1:] / ladder[:-1]).min()) if len(ladder) > 1 else 1.0


NORMS = ("expected", "sample")


@dataclass(frozen=True)
class PredictorCorrector(Kernel):
    """A predictor moves x to the next level; Langevin steps correct its distribution there.

    Song et al. 2021, Alg. 2 and 4. A visit with sigma_next = sigma is corrections alone:

        x + eps s + sqrt(2 eps) z,   eps = 2 (r |z| / |s|)²

    Evaluations: the predictor's and one a correction.

    Args:
        predictor: Any kernel that moves and keeps no history, or its name.
        r: Ratio of noise to score of a correction, in (0, 1).
        corrections: Langevin steps after each predictor step, 1 or more.
        when: Correct "after" the predictor, at sigma_next (the paper), or "before" it, at sigma
            (the authors' code).
        norms: "expected" puts E|z|² = d and, where noise dominates, E|s|² = d / sigma², so that
            eps = 2 (r sigma)² is a function of sigma alone. "sample" takes each sample's own norms:
            a step that depends on the state has another stationary distribution than p_sigma, and
            grows without bound where the score vanishes. The paper's norms, over the batch, would
            make a sample depend on its batch mates.
        cap: Largest eps of "sample" in units of that of "expected".

    Raises:
        InputError: For a predictor or a number that does not fit.
    """

    predictor: Kernel = field(default_factory=Ancestral)
    r: float = 0.16
    corrections: int = 1
    when: str = "after"
    norms: str = "expected"
    cap: float = 4.0

    help: ClassVar[str] = "ancestral steps, each followed by a Langevin step (Song et al. 2021)"
    draws_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        name, advice = type(self.predictor).__name__, "Take Ancestral(), ReverseSDE(), Euler()"
        if not isinstance(self.predictor, Kernel):
            raise InputError(
                f"a predictor is a kernel or its name; got {self.predictor!r}. {advice} or Heun()"
            )
        if self.predictor.is_langevin:
            raise InputError(
                f"a predictor moves x to the next level, {name} does not. {advice} or Heun()"
            )
        if self.predictor.keeps_history:
            raise InputError(
                f"{name} stores denoised values of earlier steps, which a corrector invalidates. "
                f"{advice} or Heun()"
            )
        object.__setattr__(self, "when", one_of(self.when, ("after", "before"), "when"))
        if not isinstance(self.norms, str) or self.norms not in NORMS:
            raise InputError(
                f"norms must be one of {', '.join(NORMS)}; got {self.norms!r}. Norms over the "
                "batch make samples depend on batch mates"
            )
        object.__setattr__(self, "norms", str(self.norms))
        object.__setattr__(self, "r", finite(self.r, "r"))
        object.__setattr__(self, "cap", finite(self.cap, "cap", 0.0, above=True))
        object.__setattr__(self, "corrections", whole(self.corrections, "corrections", 1))
        if not 0 < self.r < 1:
            raise InputError(
                f"need 0 < r < 1, where eps = 2 (r sigma)² is stable; got r={self.r:g}"
            )

    @property
    def needs_continuous_sigma(self) -> bool:  # type: ignore[override]
        """As the predictor."""
        return self.predictor.needs_continuous_sigma

    @property
    def evaluations_per_step(self) -> int:
        """The predictor's and one a correction."""
        return self.predictor.evaluations_per_step + self.corrections

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """The predictor's ladder."""
        return self.predictor.default_ladder(model, levels)

    def resolve(self, model: ScoreModel, ladder: Tensor) -> "PredictorCorrector":
        """The same with the predictor resolved."""
        return replace(self, predictor=self.predictor.resolve(model, ladder))

    def start(self, model: ScoreModel, ladder: Tensor, state: State, draws: Draws) -> State:
        """The predictor's start."""
        return self.predictor.start(model, ladder, state, draws)

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """Correct and predict, in the order given by `when`."""
        moves = float(sigma_next) != float(sigma)
        if self.when == "before" or not moves:
            state = state.replace(x=self._correct(model, state.x, sigma, draws))
        if moves:
            state = self.predictor.step(model, state, sigma, sigma_next, draws)
            if self.when == "after":
                state = state.replace(x=self._correct(model, state.x, sigma_next, draws))
        return state

    def _correct(self, model: ScoreModel, x: Tensor, sigma: Tensor, draws: Draws) -> Tensor:
        expected = 2 * (self.r * float(sigma)) ** 2
        for _ in range(self.corrections):
            score, z = model.score(x, sigma), draws.normal()
            if self.norms == "expected":
                x = x + expected * score + math.sqrt(2 * expected) * z
                continue
            # |s| = 0 gives infinity, which the cap takes
            ratio = z.flatten(1).square().sum(1) / score.flatten(1).square().sum(1)
            epsilon: Any = (2 * self.r**2 * ratio).nan_to_num(nan=0.0)
            epsilon = torch.clamp(epsilon, max=self.cap * expected)
            epsilon = epsilon.reshape(-1, *[1] * (x.ndim - 1))
            x = x + epsilon * score + (2 * epsilon).sqrt() * z
        return x
