"""The reverse SDE: noise is taken out by the score and part of it put back, so that errors of
earlier steps are forgotten.

    dx = - d(sigma²)/dt s dt + sqrt(d(sigma²)/dt) dw, t backwards     Song et al. 2021, Eq. 6, variance exploding

Its exact transition, given x at sigma_a and the clean x0, with r = sigma_b / sigma_a, is N(r² x +
(1 - r²) x0, sigma_b² (1 - r²) I). These
kernels evaluate at levels of the ladder only, so models conditioned on a level's index are welcome.
Each is of weak order 1: the law's
mean and covariance, closed forms on a Gaussian, are off by a multiple of the step.
"""

import math
from typing import Any

from torch import Tensor

from ..errors import InputError
from .driver import Field, Kernel, Noise


class ReverseSDE(Kernel):
    """Euler-Maruyama in the variable sigma²: x + (a² - b²) s(x, a) + sqrt(a² - b²) z, from sigma a
    to sigma b; the "reverse diffusion
    sampler" of Song et al. 2021, Alg. 2. One evaluation a step."""

    order = 1
    draws_noise = True

    def step(
        self, model: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        drop = float(sigma) ** 2 - float(sigma_next) ** 2
        return x + drop * model.score(x, sigma) + math.sqrt(drop) * noise(), state


class Ancestral(Kernel):
    """The exact transition with D(x, a) in the clean x0's place: x + (a² - b²) s(x, a) + (b/a)
    sqrt(a² - b²) z (Song et al. 2021, Appendix
    F, variance exploding). Exact where p is a point. One evaluation a step."""

    order = 1
    draws_noise = True

    def step(
        self, model: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        here, there = float(sigma), float(sigma_next)
        drop = here**2 - there**2
        return x + drop * model.score(x, sigma) + there / here * math.sqrt(drop) * noise(), state


class ConsistentAnnealed(Kernel):
    """Jolicoeur-Martineau et al. 2020 (arXiv 2009.05475), Alg. 2: annealed Langevin whose noise
    level is the ladder's at every step.

        x + eta a² s(x, a) + sqrt(b² - (1 - eta)² a²) z,    eta = epsilon / sigma_L²

    Langevin's own step leaves more noise in x than the next level says; this one leaves b exactly
    where p is a point. It needs
    |1 - eta| a <= b at every step: a fine ladder or a large epsilon. eta = 1 - b/a draws no noise
    at all (the flow), eta = 1 - (b/a)² is
    `Ancestral`. order is claimed for an eta in proportion to the ladder's step; at a fixed eta a
    refined ladder leaves a bias, as
    Langevin's finite step does. epsilon: the coefficient of the score at the last level, squared
    model units. One evaluation a step.
    """

    order = 1
    draws_noise = True

    def __init__(self, epsilon: float) -> None:
        if not (math.isfinite(epsilon) and epsilon > 0):
            raise InputError(f"epsilon must be above zero and finite; got {epsilon:g}")
        self.epsilon = float(epsilon)

    def start(self, model: Field, ladder: Tensor) -> float:
        """eta, after every step of the ladder was found within its reach."""
        last = float(ladder[-1])
        eta = self.epsilon / last**2
        if len(ladder) > 1:
            steepest = float((ladder[1:] / ladder[:-1]).min())
            if abs(1 - eta) > steepest * (1 + 1e-12):
                raise InputError(
                    f"epsilon={self.epsilon:g} is {eta:.3g} sigma_L² and removes noise too slowly "
                    "(or beyond all of it) for this ladder, whose "
                    f"steepest step is a ratio of {steepest:.3g}: need |1 - epsilon/sigma_L²| <= "
                    f"{steepest:.3g}. Take a finer ladder, or an "
                    f"epsilon from {(1 - steepest) * last**2:.3g} to {(1 + steepest) * last**2:.3g}"
                )
        return eta

    def step(
        self, model: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise, state: float
    ) -> tuple[Tensor, float]:
        here, there = float(sigma), float(sigma_next)
        fresh = math.sqrt(max(there**2 - ((1 - state) * here) ** 2, 0.0))
        return x + state * here**2 * model.score(x, sigma) + fresh * noise(), state


NORMS = ("expected", "sample")


class PredictorCorrector(Kernel):
    """Song et al. 2021, Alg. 2 and 4: a predictor moves x to the next level, Langevin steps there
    correct its law.

    predictor: any kernel that moves and keeps no history. when: correct "after" the predictor, at
    sigma_next (the paper), or "before" it,
    at sigma (the authors' code). A visit with sigma_next = sigma (the driver's repeats) is
    corrections alone.

        x + eps s + sqrt(2 eps) z,   eps = 2 (r |z| / |s|)²

    norms="expected" (default) puts E|z|² = d and, where noise dominates, E|s|² = d / sigma²: eps =
    2 (r sigma)², a function of sigma alone.
    norms="sample" takes each sample's own norms, at most `cap` times that eps: a step that depends
    on the state has another stationary law
    than p_sigma, and explodes where the score vanishes. The paper's norms, over the batch, would
    tie a sample to its batch mates.
    Evaluations: the predictor's and one a correction.
    """

    draws_noise = True

    def __init__(
        self,
        predictor: Kernel,
        r: float = 0.16,
        corrections: int = 1,
        when: str = "after",
        norms: str = "expected",
        cap: float = 4.0,
    ) -> None:
        name = type(predictor).__name__
        if predictor.stays:
            raise InputError(
                f"a predictor moves x to the next level; {name} stays. Take Ancestral(), "
                "ReverseSDE(), Euler() or Heun()"
            )
        if predictor.keeps_history:
            raise InputError(
                f"{name} keeps the denoised x of earlier steps, which a corrector turns into "
                "those of another path. Take a one-step predictor: "
                "Ancestral(), ReverseSDE(), Euler() or Heun()"
            )
        if when not in ("after", "before"):
            raise InputError(f'when must be "after" or "before"; got {when!r}')
        if norms not in NORMS:
            raise InputError(
                f"norms must be one of {', '.join(NORMS)}; got {norms!r}. Norms over the batch "
                "make samples depend on batch mates"
            )
        if not 0 < r < 1 or corrections < 1 or not (math.isfinite(cap) and cap > 0):
            raise InputError(
                "need 0 < r < 1 (eps = 2 (r sigma)² is stable there), corrections >= 1 and cap > "
                f"0; got {r:g}, {corrections}, {cap:g}"
            )
        self.predictor, self.r, self.corrections, self.when, self.norms, self.cap = (
            predictor,
            float(r),
            corrections,
            when,
            norms,
            float(cap),
        )
        self.off_ladder = predictor.off_ladder

    def start(self, model: Field, ladder: Tensor) -> Any:
        """The predictor's state."""
        return self.predictor.start(model, ladder)

    def step(
        self, model: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        moves = float(sigma_next) != float(sigma)
        if self.when == "before" or not moves:
            x = self._correct(model, x, sigma, noise)
        if moves:
            x, state = self.predictor.step(model, x, sigma, sigma_next, noise, state)
            if self.when == "after":
                x = self._correct(model, x, sigma_next, noise)
        return x, state

    def _correct(self, model: Field, x: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        expected = 2 * (self.r * float(sigma)) ** 2
        for _ in range(self.corrections):
            score, z = model.score(x, sigma), noise()
            if self.norms == "expected":
                x = x + expected * score + math.sqrt(2 * expected) * z
                continue
            over = z.flatten(1).square().sum(1) / score.flatten(1).square().sum(
                1
            )  # |s| = 0 gives infinity, which the cap takes
            epsilon = (2 * self.r**2 * over).nan_to_num(nan=0.0).clamp(max=self.cap * expected)
            epsilon = epsilon.reshape(-1, *[1] * (x.ndim - 1))
            x = x + epsilon * score + (2 * epsilon).sqrt() * z
        return x
