"""Multistep methods: the denoised x of earlier steps, kept once, in place of more evaluations. One
evaluation a step, all of them.

With lambda = - ln sigma the flow is linear in x and the rest is an integral of D alone, so that x's
own decay costs no accuracy:

    x(b) = (b/a) x(a) + int e^-(lambda_b - lambda) D dlambda over [lambda_a, lambda_b]         Lu et al. 2022, arXiv 2211.01095

A method puts a polynomial through known D's into the integral. h = lambda_b - lambda_a = ln(a/b),
and s = (lambda - lambda_a) / h runs from
0 at a to 1 at b; earlier levels lie at s < 0. The first steps know fewer D's and are of lower
order: each class says how much remains.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..errors import InputError
from .driver import Field, Kernel, Noise

_ROOTS, _SHARES = np.polynomial.legendre.leggauss(16)
GAUSS = tuple(
    zip(((_ROOTS + 1) / 2).tolist(), (_SHARES / 2).tolist(), strict=True)
)  # points of [0, 1] and their weights


@dataclass(frozen=True)
class History:
    """past: (sigma, D) of the levels visited, newest first; origin: (sigma, x) where the last step
    began, for methods that redo it.
    """

    past: tuple[tuple[float, Tensor], ...] = ()
    origin: tuple[float, Tensor] | None = None

    def add(self, sigma: float, denoised: Tensor, length: int) -> "History":
        """With (sigma, denoised) in front, at most `length` of them; a second visit of a level
        takes the first one's place.
        """
        past = self.past[1:] if self.past and self.past[0][0] == sigma else self.past
        return History(((sigma, denoised), *past)[:length], self.origin)


def exponential_weights(sigma: float, sigma_next: float, nodes: Sequence[float]) -> list[float]:
    """The weight of each D, known at the sigmas `nodes`, in x(b) = (b/a) x(a) + sum_j w_j D_j with
    the polynomial through all of them.

    w_j = int_0^1 h e^(-h (1 - s)) l_j(s) ds, l_j Lagrange's polynomials, by 16 Gauss points: exact
    to rounding, without the cancellation
    that the closed forms phi_k(h) have at small h.
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


class Multistep(Kernel):
    """Keeps the last `length` denoised x. A subclass says how to go from x with the history, the
    newest at sigma.
    """

    off_ladder = True
    keeps_history = True
    length = 2

    def start(self, model: Field, ladder: Tensor) -> History:
        """No history."""
        return History()

    def prime(self, model: Field, points: Sequence[tuple[Tensor, Tensor]]) -> History:
        """The state that earlier points (sigma, x) of an exact solution leave behind, the last of
        them the newest.
        """
        history = History()
        for sigma, x in points:
            history = History(
                history.add(float(sigma), model.denoise(x, sigma), self.length).past,
                (float(sigma), x),
            )
        return history

    def step(
        self,
        model: Field,
        x: Tensor,
        sigma: Tensor,
        sigma_next: Tensor,
        noise: Noise,
        state: History,
    ) -> tuple[Tensor, History]:
        here = float(sigma)
        state = state.add(here, model.denoise(x, sigma), self.length)
        return self.move(x, here, float(sigma_next), state, noise), state

    def move(
        self, x: Tensor, sigma: float, sigma_next: float, history: History, noise: Noise
    ) -> Tensor:
        """x at sigma_next."""
        raise NotImplementedError


def _middle(before: float, sigma: float, sigma_next: float) -> float:
    """How far the middle of the step lies ahead of its start, in units of the last step, which came
    from `before`: 1/(2r), r the last over this.
    """
    return math.log(sigma / sigma_next) / math.log(before / sigma) / 2


def _ahead(
    history: History, sigma_next: float, share: Callable[[float, float, float], float]
) -> Tensor:
    """D a share(before, sigma, sigma_next) of the last step ahead, on the line through the last
    two; the newest where there is but one.
    """
    sigma, denoised = history.past[0]
    if len(history.past) < 2 or sigma_next == sigma:
        return denoised
    older, before = history.past[1]
    return denoised + share(older, sigma, sigma_next) * (denoised - before)


class DPMSolver2M(Multistep):
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, Alg. 2): (b/a) x + (1 - b/a) D at the
    step's middle. The first step is of order 1
    with a local error of second order, made once, so the whole is of order 2."""

    order = 2

    def move(
        self, x: Tensor, sigma: float, sigma_next: float, history: History, noise: Noise
    ) -> Tensor:
        ratio = sigma_next / sigma
        return ratio * x + (1 - ratio) * _ahead(history, sigma_next, _middle)


class DPMSolver2MSDE(Multistep):
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095): k x + (1 - k) D at the step's middle
    + b sqrt(1 - r^(2 eta)) z, r = b/a,
    k = r^(1 + eta).

    eta: the squared noise of the SDE in units of the time reversal's. Every eta >= 0 has the
    marginals p_sigma (Karras et al. 2022, Eq. 6): 0 is
    DPM-Solver++(2M), 1 the reverse SDE as published, more adds Langevin dynamics on the way, which
    forgets what a model got wrong before.
    With the newest D alone and eta = 1 it is `Ancestral`, whose covariance lacks (1 - r²)²
    Cov(x0|x) a step; the older D is correlated with x
    by just as much, and the weak order on Gaussians is 2.
    """

    order = 2
    draws_noise = True

    def __init__(self, eta: float = 1.0) -> None:
        if not (math.isfinite(eta) and eta >= 0):
            raise InputError(
                f"eta must not be negative: 0 is the flow, 1 the time reversal's noise; got {eta:g}"
            )
        self.eta = float(eta)

    def move(
        self, x: Tensor, sigma: float, sigma_next: float, history: History, noise: Noise
    ) -> Tensor:
        ratio = sigma_next / sigma
        kept = ratio ** (1 + self.eta)
        moved = kept * x + (1 - kept) * _ahead(history, sigma_next, self.share)
        return (
            moved + sigma_next * math.sqrt(1 - ratio ** (2 * self.eta)) * noise()
            if self.eta
            else moved
        )

    def share(self, before: float, sigma: float, sigma_next: float) -> float:
        """Where D is taken, in last steps ahead: the step's middle."""
        return _middle(before, sigma, sigma_next)


class MatchedSDE(DPMSolver2MSDE):
    """The SDE of `DPMSolver2MSDE` with D taken from where a Gaussian of variance a², which the step
    from a to b decides about, keeps its variance.

    What D will do during a step is unknown when the step begins; what it did in the last stands for
    it. The middle of the step gives back too
    much of that: samples come out too wide, by 7 % of a Gaussian's variance at 40 evaluations and
    eta 2, by 16 % at 24 (docs/benchmarks.md).
    Let x at a be N(0, v + a²) with v = a², correlated with x at the level p before as the SDE makes
    them, by ((v + a²) / (v + p²))^(eta / 2).
    The step k x + (1 - k) D_a + c (D_a - D_p) + b sqrt(1 - r^(2 eta)) z has variance v + b² where

        A c² + (1 + k) B c = (1 - k)² / 2,   B = 1 - u,   A = (1 + w - 2 u) / 2,   w = 2 / (1 + (p/a)²),   u = w^((1 + eta) / 2)

    and c is the positive root. It tends to the published (1 - k) h / (2 h_p) as steps get short:
    the weak order is 2 as well.
    """

    def share(self, before: float, sigma: float, sigma_next: float) -> float:
        lost = 1 - (sigma_next / sigma) ** (1 + self.eta)
        w = 2 / (1 + (before / sigma) ** 2)
        u = w ** ((1 + self.eta) / 2)
        linear = (2 - lost) * (1 - u)
        return lost / (linear + math.sqrt(linear**2 + (1 + w - 2 * u) * lost**2))


class DPMSolver3M(Multistep):
    """DPM-Solver++(3M): the parabola through the last three D's, integrated exactly (Lu et al.
    2022, arXiv 2211.01095).

    The released code takes half of the second-difference term, phi_3 D2 with D2 the divided
    difference where Taylor's series has the
    second derivative, twice that; as released it is of order 2. Here the term is whole: order 3
    once three D's are known. The first step, of order 1, leaves an error of
    second order that is made once, so from the start the order is 2.
    """

    order = 2
    order_interior = 3
    length = 3

    def move(
        self, x: Tensor, sigma: float, sigma_next: float, history: History, noise: Noise
    ) -> Tensor:
        return advance(x, sigma, sigma_next, history.past)


class UniPC(Multistep):
    """UniPC-p in the data prediction (Zhao et al. 2023, arXiv 2302.04867, Alg. 1 and 2): predict
    with p D's; the D found at the new level then
    redoes the step that led there with p + 1 of them, at no further cost; the next prediction
    starts from the corrected x.

    The coefficients solve the paper's equations for any B(h), which cancels; its shortcut a = 1/2
    where p = 1 is not taken. The last step
    is not corrected. Order p + 1 with exact history. The first step is corrected with two D's: a
    local error of third order, made once,
    so from the start the order is 3 for p = 2 and 3.
    """

    def __init__(self, p: int = 2) -> None:
        if p not in (1, 2, 3):
            raise InputError(f"p must be 1, 2 or 3; got {p}")
        self.p, self.length = p, p + 1
        self.order, self.order_interior = min(p + 1, 3), None if p < 3 else p + 1

    def step(
        self,
        model: Field,
        x: Tensor,
        sigma: Tensor,
        sigma_next: Tensor,
        noise: Noise,
        state: History,
    ) -> tuple[Tensor, History]:
        here = float(sigma)
        state = state.add(here, model.denoise(x, sigma), self.length)
        if state.origin is not None and state.origin[0] != here:
            began, from_x = state.origin
            x = advance(from_x, began, here, state.past)
        state = History(state.past, (here, x))
        return self.move(x, here, float(sigma_next), state, noise), state

    def move(
        self, x: Tensor, sigma: float, sigma_next: float, history: History, noise: Noise
    ) -> Tensor:
        return advance(x, sigma, sigma_next, history.past[: self.p])
