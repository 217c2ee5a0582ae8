"""The probability flow of a score model, along which its density is known.

    dx/dsigma = -sigma s(x, sigma)                                   Song et al. 2021, Eq. 13
    log p_min(x) = log p_max(x_max) + integral of div(dx/dsigma) dsigma          ibid., Eq. 39

The first line is the variance-exploding case; the second is the instantaneous change of variables.
The flow is integrated in t = ln sigma and y = (x - m)/r with r² = sigma² + v, where m and v are one
mean and one variance for all elements. In these coordinates the flow of N(m, v) is constant: steps
are spent on what is not Gaussian, and tolerances have the same meaning at every noise level.

    dy/dt = g = -sigma² s / r - y sigma² / r²
    div_y g   = -sigma² div_x s - d sigma² / r²
    log p_min = log p_max + integral of div_y g dt + d/2 ln(r_max² / r_min²)

div g is exact from d vector-Jacobian products of the score, or the mean of v'(dg/dy)v over
Rademacher probes v (Hutchinson 1989). Probes are a function of (seed, sample, probe) and stay fixed
along the trajectory, so each probe has an integral of its own; their spread is the standard error.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..conditions import Condition
from ..errors import InputError, NonFiniteError
from ..models import ScoreModel, jacobian

MOST_STEPS = 20_000  # tried by the solver; a smooth flow takes some tens
HIGH_ORDER = 1e-5  # rtol below which order 8 takes fewer evaluations than order 5

Product = Callable[[Tensor], Tensor]  # v (B, d) -> v'(ds/dx), (B, d)


class Flow:
    """The slope of (y, integrals of the divergence): state (B, d + K) -> (B, d + K).

    Args:
        model: The model.
        ends: The smallest and the largest noise level, model units.
        probes: Rademacher signs (K, B, d); None for the exact trace, with K = 1.
        condition: One row a sample, or None.
        tell: Called with the fraction of ln sigma that is done.
    """

    def __init__(
        self,
        model: ScoreModel,
        ends: tuple[float, float],
        probes: Tensor | None = None,
        condition: Condition | None = None,
        tell: Callable[[float], None] = lambda fraction: None,
    ) -> None:
        self.model, self.ends, self.probes = model, ends, probes
        self.condition, self.tell = condition, tell
        self.elements = math.prod(model.event_shape)
        self.mean, self.variance = _mean_and_variance(model)

    def radius(self, sigma: float) -> float:
        """The scale r of x at noise level sigma."""
        return math.sqrt(sigma**2 + self.variance)

    def to_y(self, x: Tensor, sigma: float) -> Tensor:
        """Map x (B, *event) to scaled coordinates y (B, d)."""
        return ((x - self.mean) / self.radius(sigma)).flatten(1)

    def to_x(self, y: Tensor, sigma: float) -> Tensor:
        """Map scaled coordinates y (B, d) to x (B, *event)."""
        return (self.mean + self.radius(sigma) * y).reshape(len(y), *self.model.event_shape)

    def slope(self, y: Tensor, sigma: float) -> tuple[Tensor, Product]:
        """Compute g (B, d) at y, and the function of the score's vector-Jacobian products."""
        r, x = self.radius(sigma), self.to_x(y, sigma)
        level = torch.tensor(sigma, dtype=torch.float64)
        score, product = jacobian(self.model, x, level, self.condition, "score")
        g = -(sigma**2 / r) * score.flatten(1) - (sigma / r) ** 2 * y
        return g, lambda v: product(v.reshape(x.shape)).flatten(1)

    def __call__(self, t: Tensor, state: Tensor) -> Tensor:
        """The slope of the state (B, d + K) at t = ln sigma."""
        low, high = self.ends
        # exp(ln sigma_max) may exceed sigma_max by a rounding error.
        sigma = min(max(math.exp(float(t)), low), high)
        y = state[:, : self.elements]
        g, product = self.slope(y, sigma)
        shrink = (sigma / self.radius(sigma)) ** 2
        if self.probes is None:
            divergence = exact_trace(product, y, sigma**2, shrink)
        else:
            divergence = hutchinson(product, self.probes, sigma**2, shrink)
        slope = torch.cat([g, divergence], dim=1)
        if not bool(torch.isfinite(slope).all()):
            fraction = float((~torch.isfinite(slope)).any(1).double().mean())
            raise NonFiniteError(
                f"log_prob at sigma {sigma:g}: the flow of {fraction:.1%} of {len(slope)} samples "
                "is not finite. Was the model trained there?"
            )
        self.tell(math.log(sigma / low) / math.log(high / low))
        return slope


def exact_trace(product: Product, y: Tensor, scale: float, shrink: float) -> Tensor:
    """The trace of dg/dy = -scale ds/dx - shrink I, from d vector-Jacobian products.

    Args:
        product: Vector-Jacobian products of the score.
        y: (B, d); gives shape and type.
        scale: sigma².
        shrink: sigma²/r².

    Returns:
        (B, 1). The two terms nearly cancel at large sigma, so they are subtracted element by
        element before they are summed.
    """
    total, basis = torch.zeros_like(y[:, 0]), torch.zeros_like(y)
    for i in range(y.shape[1]):
        basis[:, i] = 1
        total -= scale * product(basis)[:, i] + shrink
        basis[:, i] = 0
    return total[:, None]


def hutchinson(product: Product, probes: Tensor, scale: float, shrink: float) -> Tensor:
    """The products v'(dg/dy)v for each of the probes v (K, B, d): (B, K); see `exact_trace`."""
    return torch.stack([-((scale * product(v) + shrink * v) * v).sum(1) for v in probes], dim=1)


def _mean_and_variance(model: ScoreModel) -> tuple[float, float]:
    """One mean and one variance for all elements of x0; 0 and 1 where the model has no moments.

    They set the coordinates of the flow and change no result.
    """
    known = model.moments()
    if known is None:
        return 0.0, 1.0
    spread = known.mean.var(unbiased=False)
    return float(known.mean.mean()), float(known.variance.mean() + spread) or 1.0


def _largest_error(state: Tensor, elements: int) -> Tensor:
    """The size of an error: the largest root mean square over samples and over (x, integrals).

    A mean over the batch would allow a large error in one sample among many accurate ones.
    """
    of_x = state[:, :elements].square().mean(1).max()
    return torch.maximum(of_x, state[:, elements:].square().mean(1).max()).sqrt()


def solve(flow: Flow, state: Tensor, rtol: float, atol: float) -> Tensor:
    """Integrate the flow from the smallest to the largest noise level.

    Args:
        flow: The flow.
        state: (B, d + K) at the smallest noise level.
        rtol: Relative tolerance.
        atol: Absolute tolerance, in scaled coordinates and nats.

    Returns:
        The state at the largest noise level.

    Raises:
        InputError: Where the solver cannot hold the tolerances.
        NonFiniteError: Where the flow is not finite.
    """
    from torchdiffeq import odeint

    low, high = (math.log(sigma) for sigma in flow.ends)
    times = torch.tensor([low, high], dtype=torch.float64, device=state.device)
    options = {
        "norm": lambda error: _largest_error(error, flow.elements),
        # Without it the solver steps past the end, beyond the model's range, and interpolates.
        "step_t": times[1:],
        "first_step": min(0.05, (high - low) / 4),
        "max_num_steps": MOST_STEPS,
        "dtype": torch.float64,
    }
    method = "dopri8" if rtol < HIGH_ORDER else "dopri5"
    try:
        path = odeint(flow, state, times, rtol=rtol, atol=atol, method=method, options=options)
    except AssertionError as stuck:  # torchdiffeq's way to report steps too small or too many
        raise InputError(
            f"the solver cannot hold rtol={rtol:g}, atol={atol:g} in "
            f"{str(state.dtype).removeprefix('torch.')} ({stuck}). Use larger tolerances, or "
            "dtype=torch.float64"
        ) from stuck
    end: Tensor = path[-1]
    return end
