"""Likelihood: log p_sigma_min(x) of a score model, by carrying x along the probability flow to a law whose density is known.

    dx/dsigma = - sigma s(x, sigma)                                        Song et al. 2021, Eq. 13, variance exploding
    log p_min(x) = log p_max(x_max) + integral of div(dx/dsigma) dsigma    ibid., Eq. 39 (instantaneous change of variables)

It is integrated in t = ln sigma and y = (x - m) / r, r² = sigma² + v, with m, v one mean and variance for all data, where the flow of
N(m, v) stands still: an adaptive step then follows what is not Gaussian, and tolerances mean the same at every sigma.

    dy/dt = g = - sigma² s / r - y sigma² / r²      log p_min = log p_max + integral of div_y g dt + d/2 ln(r_max² / r_min²)

div g is exact from d vector-Jacobian products, or the mean of v'(dg/dy)v over Rademacher probes v (Hutchinson), a function of (seed,
sample, probe), fixed along the trajectory: each probe has an integral of its own, and their spread is the standard error.

What comes out is the density of the flow's samples at sigma_min, started from the terminal law at sigma_max: both are named in the result.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from . import rng
from .errors import InputError, NonFiniteError
from .model import ScoreModel
from .model import terminal as moment_matched
from .rng import Stream

EXACT_UP_TO = 64  # elements of an event for which the trace is exact unless told otherwise
PROBES = 8
BATCH_ELEMENTS = 1 << 16  # elements of x a batch holds unless told otherwise; gradients are kept, so less than a sampler's
MOST_STEPS = 20_000  # tried by the solver; a smooth flow takes some tens
HIGH_ORDER = 1e-5  # rtol below which the method of order 8 takes fewer evaluations than that of order 5
DIVERGENCES = ("auto", "exact", "hutchinson")


class Law(Protocol):
    """What a terminal law must give: log_prob(x) of x (B, *event) in model units -> (B,)."""

    def log_prob(self, value: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class LogProb:
    """log p_sigma_min(x) in nats, of the density in data units.

    value, se: float64 (B,) on the CPU; se is Hutchinson's standard error, 0 for the exact trace. evaluations: of the model, a sample (the
    most over batches); products: vector-Jacobian products, a sample. sigma_min, sigma_max: model units. elements: of an event.
    """

    value: Tensor
    se: Tensor
    evaluations: int
    products: int
    seconds: float
    sigma_min: float
    sigma_max: float
    terminal: str
    divergence: str
    elements: int

    def __len__(self) -> int:
        return len(self.value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.value.numpy().astype(dtype or np.float64)

    @property
    def mean(self) -> float:
        """The mean over samples, nats."""
        return self.value.mean().item()

    @property
    def mean_se(self) -> float:
        """The mean's standard error over samples, Hutchinson's noise included; NaN for a single sample."""
        return self.value.std().item() / len(self.value) ** 0.5 if len(self.value) > 1 else math.nan

    def __str__(self) -> str:
        return (
            f"log p = {self.mean:.4g} ± {self.mean_se:.2g} nats over {len(self)} samples, smoothed by sigma_min {self.sigma_min:g}; "
            f"{self.divergence}; terminal law {self.terminal}; {self.evaluations} evaluations, {self.seconds:.1f} s"
        )

    def to_dict(self) -> dict[str, Any]:
        """A form JSON can hold."""
        fields = {k: v for k, v in vars(self).items() if k not in ("value", "se")}
        single = len(self) == 1
        return {"mean": self.mean, "mean_se": None if single else self.mean_se, "count": len(self), **fields} | {
            "values": self.value.tolist(),
            "se": self.se.tolist(),
        }


@dataclass(frozen=True)
class BitsPerDim:
    """Bits a dimension of quantised data, an upper bound: value (B,), se (B,) of Hutchinson; levels: into how many values data are quantised."""

    value: Tensor
    se: Tensor
    levels: int
    dequantisation: str = "uniform: data are (v + u) / levels, u ~ U(0, 1), one draw; the bound of Theis et al. 2016"

    @property
    def mean(self) -> float:
        """The mean over samples."""
        return self.value.mean().item()

    @property
    def mean_se(self) -> float:
        """The mean's standard error over samples; NaN for a single sample."""
        return self.value.std().item() / len(self.value) ** 0.5 if len(self.value) > 1 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """A form JSON can hold."""
        return {
            "mean": self.mean,
            "mean_se": self.mean_se if len(self.value) > 1 else None,
            "levels": self.levels,
            "dequantisation": self.dequantisation,
        }


def bits_per_dim(model: ScoreModel, log_p: LogProb) -> BitsPerDim:
    """log2(levels) - log p / (d ln 2), for log p of data dequantised uniformly, (v + u) / levels, in data units.

    A bin of (v + u) / levels has width 1 / levels in each of d dimensions, so P(v) = levels^-d E_u p, and by Jensen
    - log P(v) <= d log levels - E_u log p (Theis, van den Oord & Bethge 2016, Eq. 3). Only where the model's card declares the data's
    `levels`; an InputError elsewhere: of continuous data, bits depend on the unit.
    """
    levels = (model.card or {}).get("levels")
    if not isinstance(levels, int) or levels < 2:
        raise InputError(
            f"bits per dimension need data whose quantisation the model's card declares; this card says levels={levels!r}. "
            "Use nats, the mean of log_prob"
        )
    per_dim = log_p.elements * math.log(2)
    return BitsPerDim(math.log2(levels) - log_p.value / per_dim, log_p.se / per_dim, levels)


class _Flow:
    """g of the module docstring with the divergences of its probes: state (B, d + K) -> its slope. K: integrals a sample, 1 where exact."""

    def __init__(
        self,
        model: ScoreModel,
        ends: tuple[float, float],
        probes: Tensor | None,
        condition: Tensor | None,
        tell: Callable[[float], None],
    ) -> None:
        self.model, self.ends, self.probes, self.condition, self.tell = model, ends, probes, condition, tell
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
        score = self.model.score(self.to_x(y, sigma), torch.tensor(sigma, dtype=torch.float64), self.condition)
        return -(sigma**2 / r) * score.flatten(1) - (sigma / r) ** 2 * y

    def __call__(self, t: Tensor, state: Tensor) -> Tensor:
        low, high = self.ends
        sigma = min(max(math.exp(float(t)), low), high)  # exp(ln sigma_max) may pass sigma_max by an ulp
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
                f"log_prob at sigma {sigma:g}: the flow of {share:.1%} of {len(slope)} samples is not finite. Was the model trained there?"
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
    """One mean and one variance for all elements of x0, model units; 0 and 1 where the model does not know them. They change no result."""
    moments = getattr(model, "moments", None)
    known = None if moments is None else moments()
    if known is None:
        return 0.0, 1.0
    mean, spread = (value.double().cpu() for value in known)
    variance = spread if spread.shape == mean.shape else spread.diagonal()
    return float(mean.mean()), float(variance.mean() + mean.var(unbiased=False)) or 1.0


def _worst(state: Tensor, d: int) -> Tensor:
    """The error's size: the largest over samples and over (x, integrals) of root mean squares. A mean over the batch would forgive one
    sample a large error among many easy ones."""
    return torch.maximum(state[:, :d].square().mean(1).max(), state[:, d:].square().mean(1).max()).sqrt()


def _solve(flow: _Flow, state: Tensor, rtol: float, atol: float) -> Tensor:
    """The state at the upper end of ln sigma."""
    from torchdiffeq import odeint

    low, high = (math.log(s) for s in flow.ends)
    clock = state.dtype if state.device.type == "mps" else torch.float64
    times = torch.tensor([low, high], dtype=clock, device=state.device)
    d = math.prod(flow.model.event_shape)
    options = {
        "norm": lambda error: _worst(error, d),
        "step_t": times[1:],  # the solver would step past the end and interpolate, beyond the model's range
        "first_step": min(0.05, (high - low) / 4),
        "max_num_steps": MOST_STEPS,
        "dtype": clock,
    }
    method = "dopri8" if rtol < HIGH_ORDER else "dopri5"
    try:
        return odeint(flow, state, times, rtol=rtol, atol=atol, method=method, options=options)[-1]
    except AssertionError as stuck:  # how torchdiffeq says that steps became too small or too many
        raise InputError(
            f"the solver cannot hold rtol={rtol:g}, atol={atol:g} in {str(state.dtype).removeprefix('torch.')} ({stuck}). "
            "Use larger tolerances, or dtype=torch.float64"
        ) from stuck


@contextmanager
def _whole_precision(model: ScoreModel, dtype: torch.dtype) -> Iterator[ScoreModel]:
    """The model in evaluation mode, computing in `dtype`, autocast off; as it was afterwards."""
    if any(p.is_floating_point() and p.dtype != dtype for p in model.parameters()):
        model = copy.deepcopy(model).to(dtype)
    training = [module for module in model.modules() if module.training]
    casting = [(module, module.autocast) for module in model.modules() if getattr(module, "autocast", None) is not None]
    model.eval()
    for module, _ in casting:
        module.autocast = None  # type: ignore[assignment]
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False), torch.no_grad():
            yield model
    finally:
        for module in training:
            module.training = True
        for module, was in casting:
            module.autocast = was


def _type(model: ScoreModel, dtype: torch.dtype | None, rtol: float) -> torch.dtype:
    """float32 for networks, float64 for closed forms, or what was asked for."""
    if dtype is None:
        parameters = [p.dtype for p in model.parameters() if p.is_floating_point()]
        dtype = torch.promote_types(parameters[0], torch.float32) if parameters else torch.float64
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"a likelihood is computed in torch.float32 or torch.float64; got {dtype}, too coarse to sum a divergence in")
    least = 8 * torch.finfo(dtype).eps
    if rtol < least:
        raise InputError(f"rtol={rtol:g} is below {least:.1g}, what {dtype} can hold; use a larger one, or dtype=torch.float64")
    return dtype


def _ends(model: ScoreModel, sigma_min: float | None, sigma_max: float | None) -> tuple[float, float]:
    if getattr(model, "index_conditioned", False):
        raise InputError(
            "a likelihood follows the score as a continuous function of sigma, and this model is conditioned on a level's index: it knows its "
            "levels only. Train one with the edm or ncsnv2 preconditioner"
        )
    low = float(model.sigma_min if sigma_min is None else sigma_min)
    high = float(model.sigma_max if sigma_max is None else sigma_max)
    if not (0 < low < high < math.inf):
        got = f"sigma_min={low:g}, sigma_max={high:g}"
        raise InputError(f"need 0 < sigma_min < sigma_max, both finite; got {got}. A closed form has no range of its own: pass both")
    model.check_range(torch.tensor([low, high], dtype=torch.float64))
    return low, high


def _law(model: ScoreModel, given: Any, sigma_max: float) -> tuple[Callable[[Tensor], Tensor], str]:
    """log density at sigma_max, model units, and what it is called."""
    if given is None:
        law = moment_matched(model, sigma_max)
        moments = getattr(model, "moments", None)
        matched = moments is not None and moments() is not None
        spread = f"{sigma_max:g}² I" + ((" + covariance" if law.root is not None else " + variance") if matched else "")
        return law.log_prob, f"N({'mean' if matched else '0'}, {spread}){', moments of the data' if matched else ''}"
    if not callable(getattr(given, "log_prob", None)):
        raise InputError(f"terminal must have log_prob(x), x in model units; got {type(given).__name__}")
    name, density = type(given).__name__, given.log_prob
    if isinstance(given, ScoreModel):  # a family of densities: the one at sigma_max is meant
        return lambda x: density(x, sigma_max), f"{name} at sigma {sigma_max:g}"
    return density, name


def log_prob(
    model: ScoreModel,
    x: Tensor,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    divergence: str = "auto",
    probes: int = PROBES,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    terminal: Law | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    batch: int | None = None,
    condition: Tensor | None = None,
    progress: Callable[[float], None] | None = None,
) -> LogProb:
    """log p_sigma_min(x) in nats for x (B, *event) in data units, the density in data units.

    sigma_min, sigma_max: model units, by default the model's range. divergence: "exact", "hutchinson" with `probes` (2 or more), or "auto":
    exact up to 64 elements. rtol, atol: of torchdiffeq's adaptive solver, per sample, in scaled coordinates and nats; its step is
    common to a batch and set by the batch's worst sample, so a value depends on its batch mates, within the tolerances.
    terminal: an object with log_prob(x), model units; a ScoreModel stands for its density at sigma_max; default N(mean, sigma_max² I +
    covariance). seed: of the probes; sample k has the key hash(seed, k). dtype: float32 (networks) or float64 (closed forms); a network
    asked for float64 is converted, as a copy. batch: samples at a time. condition: (B, ...). progress: told the share done.
    Raises InputError for index-conditioned models, a range the model does not know, x of another shape or outside a logit's domain,
    tolerances below the type's; NonFiniteError where the flow leaves a NaN or an infinity.
    """
    if divergence not in DIVERGENCES:
        raise InputError(f"divergence must be one of {', '.join(DIVERGENCES)}; got {divergence!r}")
    if batch is not None and batch < 1:
        raise InputError(f"batch must be at least 1; got {batch}")
    if not (rtol > 0 and atol > 0):
        raise InputError(f"rtol and atol must be above zero; got rtol={rtol:g}, atol={atol:g}")
    elements = math.prod(model.event_shape)
    exact = divergence == "exact" or (divergence == "auto" and elements <= EXACT_UP_TO)
    if not exact and probes < 2:
        raise InputError(f"Hutchinson's estimator needs at least 2 probes, whose spread is its standard error; got {probes}")
    low, high = _ends(model, sigma_min, sigma_max)
    dtype = _type(model, dtype, rtol)
    law, named = _law(model, terminal, high)
    inside, jacobian = _to_model_units(model, x)
    if condition is not None and len(condition) != len(x):
        raise InputError(f"condition must have first dimension {len(x)}, one for each sample; got {tuple(condition.shape)}")

    began, spent, parts = time.perf_counter(), 0, []
    device = next((t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    keys = rng.keys(seed, len(x)).to(device)
    batch = batch or max(1, BATCH_ELEMENTS // elements)
    with _whole_precision(model, dtype) as whole:
        for i in range(0, len(x), batch):
            rows = slice(i, i + batch)
            size = len(keys[rows])
            signs = None if exact else _probes(keys[rows], probes, elements, dtype)
            given = None if condition is None else condition[rows].to(device)

            def tell(share: float, done: int = i, size: int = size) -> None:
                if progress is not None:
                    progress(min((done + size * share) / len(x), 0.999))

            flow = _Flow(whole, (low, high), signs, given, tell)
            y = flow.to_y(inside[rows].to(device, dtype), low)
            state = torch.cat([y, y.new_zeros(size, 1 if exact else probes)], dim=1)
            end = _solve(flow, state, rtol, atol)
            at_top = law(flow.to_x(end[:, :elements], high))
            if at_top.shape != (size,):
                raise InputError(f"terminal.log_prob must give one number a sample, ({size},); got {tuple(at_top.shape)}")
            grown = elements * math.log(flow.radius(high) / flow.radius(low))
            parts.append(end[:, elements:].to("cpu", torch.float64) + (at_top.to("cpu", torch.float64) + grown)[:, None])
            spent = max(spent, flow.evaluations)
    estimates = torch.cat(parts) if parts else torch.empty(0, 1, dtype=torch.float64)
    if progress is not None:
        progress(1.0)
    count = estimates.shape[1]
    se = torch.zeros(len(x), dtype=torch.float64) if exact else estimates.std(1) / count**0.5
    how = "exact trace" if exact else f"Hutchinson, {probes} Rademacher probes"
    products, seconds = spent * (elements if exact else probes), time.perf_counter() - began
    return LogProb(estimates.mean(1) + jacobian, se, spent, products, seconds, low, high, named, how, elements)


def _to_model_units(model: ScoreModel, x: Tensor) -> tuple[Tensor, Tensor]:
    """x in model units and log |d model / d data| (B,), both float64 on the CPU."""
    if not x.is_floating_point() or x.shape[1:] != model.event_shape or x.ndim == 0:
        want = f"floats (B, {', '.join(map(str, model.event_shape))}) in data units"
        raise InputError(f"x must be {want}; got {str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}")
    data = x.detach().to("cpu", torch.float64)
    inside, jacobian = model.units.to_model(data), model.units.log_det(data)
    bad = ~(torch.isfinite(inside).flatten(1).all(1) & torch.isfinite(jacobian))
    if bool(bad.any()):
        k = int(bad.nonzero()[0])
        need = "values in [0, 1], which this model's logit maps" if model.units.logit is not None else "finite values"
        raise InputError(f"x must hold {need}; sample {k} spans {float(data[k].min()):g} to {float(data[k].max()):g}")
    return inside, jacobian


def _probes(keys: Tensor, count: int, elements: int, dtype: torch.dtype) -> Tensor:
    """Rademacher signs (K, B, d), a function of (key, probe)."""
    return torch.stack([rng.rademacher(keys, Stream.PROBE, k, (elements,), dtype) for k in range(count)])
