"""Multistep methods: denoised values of earlier steps in place of more evaluations.

All take one evaluation a step. With lambda = - ln sigma the flow is linear in x and the rest is an
integral of D alone, so that the decay of x itself costs no accuracy (Lu et al. 2022, arXiv
2211.01095):

    x(b) = (b/a) x(a) + int e^-(lambda_b - lambda) D dlambda over [lambda_a, lambda_b]

A method puts a polynomial through known values of D into the integral. h = lambda_b - lambda_a =
ln(a/b), and s = (lambda - lambda_a) / h runs from 0 at a to 1 at b; earlier levels lie at s < 0.
The first steps have fewer values of D and are of lower order: each class states the order that
remains.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..models import ScoreModel
from ..values import finite, whole
from .kernel import Kernel
from .ladders import few_step_ladder
from .state import Draws, State

_ROOTS, _SHARES = np.polynomial.legendre.leggauss(16)
GAUSS = tuple(
    zip(((_ROOTS + 1) / 2).tolist(), (_SHARES / 2).tolist(), strict=True)
)  # points of [0, 1] and their weights


@dataclass(frozen=True)
class History:
    """The memory of a multistep method.

    Args:
        past: (sigma, D) of the levels visited, newest first.
        origin: (sigma, x) where the last step began, for methods that redo it.
    """

    past: tuple[tuple[float, Tensor], ...] = ()
    origin: tuple[float, Tensor] | None = None

    def add(self, sigma: float, denoised: Tensor, length: int) -> "History":
        """Put (sigma, denoised) in front; a second visit of a level replaces the first one.

        Args:
            sigma: A level.
            denoised: (B, *event), the denoised value there.
            length: How many values are kept.

        Returns:
            The new history.
        """
        past = self.past[1:] if self.past and self.past[0][0] == sigma else self.past
        return History(((sigma, denoised), *past)[:length], self.origin)


def exponential_weights(sigma: float, sigma_next: float, nodes: Sequence[float]) -> list[float]:
    """The weights w_j in x(b) = (b/a) x(a) + sum_j w_j D_j.

    w_j = int_0^1 h e^(-h (1 - s)) l_j(s) ds with Lagrange's polynomials l_j, by 16 Gauss points:
    exact to rounding, without the cancellation of the closed forms phi_k(h) at small h.

    Args:
        sigma: a, where the step begins.
        sigma_next: b, where it ends.
        nodes: The noise levels at which D is known; the polynomial goes through all of them.

    Returns:
        One weight a node.
    """
    h = math.log(sigma / sigma_next)
    if h == 0:
        return [0.0] * len(nodes)
    at = [math.log(sigma / node) / h for node in nodes]
    weights = []
    for j, own in enumerate(at):
        total = 0.0
        for s, weight in GAUSS:
            total += (
                weight
                * h
                * math.exp(-h * (1 - s))
                * math.prod((s - a) / (own - a) for i, a in enumerate(at) if i != j)
            )
        weights.append(total)
    return weights


def advance(
    x: Tensor, sigma: float, sigma_next: float, past: Sequence[tuple[float, Tensor]]
) -> Tensor:
    """x at sigma -> x at sigma_next with the polynomial through all (sigma_j, D_j) of `past`."""
    moved = sigma_next / sigma * x
    for weight, (_, denoised) in zip(
        exponential_weights(sigma, sigma_next, [node for node, _ in past]), past, strict=True
    ):
        moved = moved + weight * denoised
    return moved


@dataclass(frozen=True)
class Multistep(Kernel):
    """Keeps the last `length` denoised values. A subclass goes from x to the next level."""

    needs_continuous_sigma: ClassVar[bool] = True
    keeps_history: ClassVar[bool] = True

    @property
    def length(self) -> int:
        """How many denoised values are kept."""
        return 2

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """The few-step ladder for the data's standard deviation."""
        return few_step_ladder(model, levels)

    def start(self, model: ScoreModel, ladder: Tensor, state: State, draws: Draws) -> State:
        """An empty history, or the one that `prime` made."""
        return state if isinstance(state.memory, History) else state.replace(memory=History())

    def prime(self, model: ScoreModel, points: Sequence[tuple[Tensor, Tensor]]) -> History:
        """The history that earlier points of an exact solution leave behind.

        Args:
            model: The score model.
            points: (sigma, x) in the order of the run, the last one the newest.

        Returns:
            The memory for a state that goes on from the last point.
        """
        history = History()
        for sigma, x in points:
            past = history.add(float(sigma), model.denoise(x, sigma), self.length).past
            history = History(past, (float(sigma), x))
        return history

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """Denoise, then move."""
        here = float(sigma)
        history = state.memory.add(here, model.denoise(state.x, sigma), self.length)
        x = self.move(state.x, here, float(sigma_next), history, draws)
        return state.replace(x=x, memory=history)

    def move(
        self, x: Tensor, sigma: float, sigma_next: float, history: History, draws: Draws
    ) -> Tensor:
        """Move one step.

        Args:
            x: (B, *event) at sigma.
            sigma: The current level.
            sigma_next: The next level.
            history: The newest denoised value, at sigma, and earlier ones.
            draws: Random numbers.

        Returns:
            (B, *event) at sigma_next.
        """
        raise NotImplementedError


def _middle(before: float, sigma: float, sigma_next: float) -> float:
    """How far the middle of the step lies ahead of its start, in units of the step before."""
    return math.log(sigma / sigma_next) / math.log(before / sigma) / 2


def _ahead(
    history: History, sigma_next: float, fraction: Callable[[float, float, float], float]
) -> Tensor:
    """Linear extrapolation of D beyond the current level by a fraction of the previous step.

    With one value of D, or where the step stays at its level, it is the latest value.
    """
    sigma, denoised = history.past[0]
    if len(history.past) < 2 or sigma_next == sigma:
        return denoised
    older, before = history.past[1]
    return denoised + fraction(older, sigma, sigma_next) * (denoised - before)


@dataclass(frozen=True)
class DPMSolver2M(Multistep):
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, Alg. 2).

    (b/a) x + (1 - b/a) D at the step's middle. The first step is of order 1 with a local error of
    second order, made once, so the whole is of order 2.
    """

    help: ClassVar[str] = "probability flow, multistep, order 2: DPM-Solver++ (Lu et al. 2022)"
    order: ClassVar[float | None] = 2

    def move(
        self, x: Tensor, sigma: float, sigma_next: float, history: History, draws: Draws
    ) -> Tensor:
        """(b/a) x + (1 - b/a) D ahead."""
        ratio = sigma_next / sigma
        return ratio * x + (1 - ratio) * _ahead(history, sigma_next, _middle)


@dataclass(frozen=True)
class DPMSolver2MSDE(Multistep):
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095).

    k x + (1 - k) D at the step's middle + b sqrt(1 - r^(2 eta)) z, with r = b/a, k = r^(1 + eta).
    Every eta >= 0 has the marginals p_sigma (Karras et al. 2022, Eq. 6). eta = 0 is
    DPM-Solver++(2M), 1 the reverse SDE as published; a larger eta adds Langevin dynamics, which
    reduces errors of earlier steps. With the newest D alone and eta = 1 the step is `Ancestral`,
    whose covariance lacks (1 - r²)² Cov(x0|x) a step; the older D is correlated with x by the same
    amount, and the weak order on Gaussians is 2.

    Args:
        eta: Stochasticity of the reverse SDE, 0 or more: 0 = ODE, 1 = standard reverse SDE.

    Raises:
        InputError: For a negative eta or one that is not finite.
    """

    eta: float = 1.0

    help: ClassVar[str] = (
        "reverse SDE of any eta, multistep, weak order 2: SDE-DPM-Solver++ (Lu et al. 2022)"
    )
    order: ClassVar[float | None] = 2
    draws_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "eta", finite(self.eta, "eta", 0.0))

    def move(
        self, x: Tensor, sigma: float, sigma_next: float, history: History, draws: Draws
    ) -> Tensor:
        """The step of the class docstring."""
        ratio = sigma_next / sigma
        kept = ratio ** (1 + self.eta)
        moved = kept * x + (1 - kept) * _ahead(history, sigma_next, self.fraction)
        if not self.eta:
            return moved
        return moved + sigma_next * math.sqrt(1 - ratio ** (2 * self.eta)) * draws.normal()

    def fraction(self, before: float, sigma: float, sigma_next: float) -> float:
        """Where D is taken: the middle of the step.

        Args:
            before: The level before.
            sigma: The current level.
            sigma_next: The next level.

        Returns:
            The distance ahead of sigma, in ln sigma, in units of the previous step.
        """
        return _middle(before, sigma, sigma_next)


@dataclass(frozen=True)
class MatchedSDE(DPMSolver2MSDE):
    """The SDE of `DPMSolver2MSDE` with D taken from where a Gaussian keeps its variance.

    The change of D during a step is unknown when the step begins and is extrapolated from the
    previous step. Taken at the middle of the step, the extrapolation is too large: samples come out
    too wide, by 7 % of a Gaussian's variance at 40 evaluations and eta 2, by 16 % at 24
    (docs/benchmarks.md).
    Let x at a be N(0, v + a²) with v = a², for which the step from a to b decides, correlated with
    x at the level p before as the SDE makes them, by ((v + a²) / (v + p²))^(eta / 2). The step
    k x + (1 - k) D_a + c (D_a - D_p) + b sqrt(1 - r^(2 eta)) z has variance v + b² where

        A c² + (1 + k) B c = (1 - k)² / 2
        B = 1 - u,   A = (1 + w - 2 u) / 2,   w = 2 / (1 + (p/a)²),   u = w^((1 + eta) / 2)

    and c is the positive root. It tends to the published (1 - k) h / (2 h_p) as steps get short:
    the weak order is 2 as well.

    Args:
        eta: Stochasticity of the reverse SDE, 0 or more: 0 = ODE, 1 = standard reverse SDE.
    """

    help: ClassVar[str] = (
        "as dpmpp-2m-sde, with weights that keep a Gaussian's variance in long steps"
    )

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """The few-step ladder for 1.5 times the data's standard deviation.

        With 1.0, directions five times wider than average lose 4.4 % of their variance.
        """
        return few_step_ladder(model, levels, 1.5)

    def fraction(self, before: float, sigma: float, sigma_next: float) -> float:
        """c / (1 - k) of the class docstring."""
        lost = 1 - (sigma_next / sigma) ** (1 + self.eta)
        w = 2 / (1 + (before / sigma) ** 2)
        u = w ** ((1 + self.eta) / 2)
        linear = (2 - lost) * (1 - u)
        return lost / (linear + math.sqrt(linear**2 + (1 + w - 2 * u) * lost**2))


@dataclass(frozen=True)
class DPMSolver3M(Multistep):
    """DPM-Solver++(3M): the parabola through the last three D, integrated exactly.

    The released code (Lu et al. 2022, arXiv 2211.01095) takes half of the second-difference term:
    phi_3 D2, where D2 is the divided difference and Taylor's series has the second derivative,
    twice that. As released it is of order 2. Here the term is whole: order 3 once three values of D
    are known. The first step, of order 1, leaves an error of second order that is made once, so
    from the start the order is 2.
    """

    help: ClassVar[str] = "probability flow, multistep, order 3 inside, 2 with its start"
    order: ClassVar[float | None] = 2
    order_interior: ClassVar[float | None] = 3

    @property
    def length(self) -> int:
        """Three values."""
        return 3

    def move(
        self, x: Tensor, sigma: float, sigma_next: float, history: History, draws: Draws
    ) -> Tensor:
        """The exponential integral of the parabola."""
        return advance(x, sigma, sigma_next, history.past)


@dataclass(frozen=True)
class UniPC(Multistep):
    """UniPC-p in the data prediction (Zhao et al. 2023, arXiv 2302.04867, Alg. 1 and 2).

    Predict with p values of D; the D found at the new level then redoes the step that led there
    with p + 1 of them, at no further cost; the next prediction starts from the corrected x. The
    coefficients solve the paper's equations for any B(h), which cancels; its shortcut a = 1/2 where
    p = 1 is not taken. The last step is not corrected. Order p + 1 with exact history. The first
    step is corrected with two values of D: a local error of third order, made once, so from the
    start the order is 3 for p = 2 and 3.

    Args:
        p: Number of values of D that predict: 1, 2 or 3.

    Raises:
        InputError: For another p.
    """

    p: int = 2

    help: ClassVar[str] = (
        "probability flow, multistep, order 3: for few evaluations (Zhao et al. 2023)"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", whole(self.p, "p", 1))
        if self.p > 3:
            raise InputError(f"p must be 1, 2 or 3; got {self.p}")

    @property
    def length(self) -> int:
        """p + 1 values."""
        return self.p + 1

    @property
    def order(self) -> float | None:  # type: ignore[override]
        """The order from the first step on."""
        return min(self.p + 1, 3)

    @property
    def order_interior(self) -> float | None:  # type: ignore[override]
        """The order with exact history."""
        return None if self.p < 3 else self.p + 1

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """Denoise, redo the last step, predict."""
        here, x = float(sigma), state.x
        history = state.memory.add(here, model.denoise(x, sigma), self.length)
        if history.origin is not None and history.origin[0] != here:
            began, from_x = history.origin
            x = advance(from_x, began, here, history.past)
        history = History(history.past, (here, x))
        moved = self.move(x, here, float(sigma_next), history, draws)
        return state.replace(x=moved, memory=history)

    def move(
        self, x: Tensor, sigma: float, sigma_next: float, history: History, draws: Draws
    ) -> Tensor:
        """The prediction with the newest p values of D."""
        return advance(x, sigma, sigma_next, history.past[: self.p])
