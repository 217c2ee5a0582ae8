"""Likelihood: log p_sigma_min(x) of a score model, by carrying x along the probability flow to a
law whose density is known.

    dx/dsigma = - sigma s(x, sigma)                                        Song et al. 2021, Eq. 13, variance exploding
    log p_min(x) = log p_max(x_max) + integral of div(dx/dsigma) dsigma    ibid., Eq. 39 (instantaneous change of variables)

It is integrated in t = ln sigma and y = (x - m) / r, r² = sigma² + v, with m, v one mean and
variance for all data, where the flow of
N(m, v) stands still: an adaptive step then follows what is not Gaussian, and tolerances mean the
same at every sigma.

    dy/dt = g = - sigma² s / r - y sigma² / r²      log p_min = log p_max + integral of div_y g dt + d/2 ln(r_max² / r_min²)

div g is exact from d vector-Jacobian products, or the mean of v'(dg/dy)v over Rademacher probes v
(Hutchinson), a function of (seed,
sample, probe), fixed along the trajectory: each probe has an integral of its own, and their spread
is the standard error.

What comes out is the density of the flow's samples at sigma_min, started from the terminal law at
sigma_max: both are named in the result.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InputError, NonFiniteError
from ..model import ScoreModel

MOST_STEPS = 20_000  # tried by the solver; a smooth flow takes some tens
HIGH_ORDER = (
    1e-5  # rtol below which the method of order 8 takes fewer evaluations than that of order 5
)


class Flow:
    """g of the module docstring with the divergences of its probes: state (B, d + K) -> its slope.
    K: integrals a sample, 1 where exact.
    """

    def __init__(
        self,
        model: ScoreModel,
        ends: tuple[float, float],
        probes: Tensor | None,
        condition: Tensor | None,
        tell: Callable[[float], None],
    ) -> None:
        self.model, self.ends, self.probes, self.condition, self.tell = (
            model,
            ends,
            probes,
            condition,
            tell,
        )
        self.evaluations = 0
        self.mean, self.variance = _scale(model)

    def radius(self, sigma: float) -> float:
        """r."""
        return math.sqrt(sigma**2 + self.variance)

    def to_y(self, x: Tensor, sigma: float) -> Tensor:
        """(B, *event) -> (B, d)."""
        return ((x - self.mean) / self.radius(sigma)).flatten(1)

    def to_x(self, y: Tensor, sigma: float) -> Tensor:
        """(B, d) -> (B, *event)."""
        return (self.mean + self.radius(sigma) * y).reshape(len(y), *self.model.event_shape)

    def slope(self, y: Tensor, sigma: float) -> Tensor:
        """g (B, d)."""
        r = self.radius(sigma)
        score = self.model.score(
            self.to_x(y, sigma), torch.tensor(sigma, dtype=torch.float64), self.condition
        )
        return -(sigma**2 / r) * score.flatten(1) - (sigma / r) ** 2 * y

    def __call__(self, t: Tensor, state: Tensor) -> Tensor:
        low, high = self.ends
        sigma = min(
            max(math.exp(float(t)), low), high
        )  # exp(ln sigma_max) may pass sigma_max by an ulp
        self.evaluations += 1
        d = math.prod(self.model.event_shape)
        with torch.enable_grad():
            y = state[:, :d].detach().requires_grad_(True)
            g = self.slope(y, sigma)
            divergence = _exact(g, y) if self.probes is None else _hutchinson(g, y, self.probes)
        slope = torch.cat([g.detach(), divergence], dim=1)
        if not bool(torch.isfinite(slope).all()):
            share = float((~torch.isfinite(slope)).any(1).double().mean())
            raise NonFiniteError(
                f"log_prob at sigma {sigma:g}: the flow of {share:.1%} of {len(slope)} samples is "
                "not finite. Was the model trained there?"
            )
        self.tell(math.log(sigma / low) / math.log(high / low))
        return slope


def _exact(g: Tensor, y: Tensor) -> Tensor:
    """The trace of dg/dy (B, 1) from d vector-Jacobian products."""
    total = torch.zeros(len(y), dtype=y.dtype, device=y.device)
    for i in range(y.shape[1]):
        (row,) = torch.autograd.grad(g[:, i].sum(), y, retain_graph=i + 1 < y.shape[1])
        total += row[:, i]
    return total[:, None]


def _hutchinson(g: Tensor, y: Tensor, probes: Tensor) -> Tensor:
    """v'(dg/dy)v for each of probes (K, B, d) -> (B, K)."""
    parts = []
    for i, probe in enumerate(probes):
        (row,) = torch.autograd.grad(g, y, probe, retain_graph=i + 1 < len(probes))
        parts.append((row * probe).sum(1))
    return torch.stack(parts, dim=1)


def _scale(model: ScoreModel) -> tuple[float, float]:
    """One mean and one variance for all elements of x0, model units; 0 and 1 where the model does
    not know them. They change no result.
    """
    moments = getattr(model, "moments", None)
    known = None if moments is None else moments()
    if known is None:
        return 0.0, 1.0
    mean, spread = (value.double().cpu() for value in known)
    variance = spread if spread.shape == mean.shape else spread.diagonal()
    return float(mean.mean()), float(variance.mean() + mean.var(unbiased=False)) or 1.0


def _worst(state: Tensor, d: int) -> Tensor:
    """The error's size: the largest over samples and over (x, integrals) of root mean squares. A
    mean over the batch would forgive one
    sample a large error among many easy ones."""
    return torch.maximum(
        state[:, :d].square().mean(1).max(), state[:, d:].square().mean(1).max()
    ).sqrt()


def solve(flow: Flow, state: Tensor, rtol: float, atol: float) -> Tensor:
    """The state at the upper end of ln sigma."""
    from torchdiffeq import odeint

    low, high = (math.log(s) for s in flow.ends)
    clock = state.dtype if state.device.type == "mps" else torch.float64
    times = torch.tensor([low, high], dtype=clock, device=state.device)
    d = math.prod(flow.model.event_shape)
    options = {
        "norm": lambda error: _worst(error, d),
        "step_t": times[
            1:
        ],  # the solver would step past the end and interpolate, beyond the model's range
        "first_step": min(0.05, (high - low) / 4),
        "max_num_steps": MOST_STEPS,
        "dtype": clock,
    }
    method = "dopri8" if rtol < HIGH_ORDER else "dopri5"
    try:
        return odeint(flow, state, times, rtol=rtol, atol=atol, method=method, options=options)[-1]
    except AssertionError as stuck:  # how torchdiffeq says that steps became too small or too many
        raise InputError(
            f"the solver cannot hold rtol={rtol:g}, atol={atol:g} in "
            f"{str(state.dtype).removeprefix('torch.')} ({stuck}). "
            "Use larger tolerances, or dtype=torch.float64"
        ) from stuck
