"""`log_prob`: what it is asked, in which precision and batches it is computed, and what comes back."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError
from ..model import ScoreModel
from ..model import terminal as moment_matched
from ..rng import Stream
from .flow import Flow, solve
from .results import LogProb

EXACT_UP_TO = 64  # elements of an event for which the trace is exact unless told otherwise
PROBES = 8
BATCH_ELEMENTS = (
    1 << 16
)  # elements of x a batch holds unless told otherwise; gradients are kept, so less than a sampler's
DIVERGENCES = ("auto", "exact", "hutchinson")


class Law(Protocol):
    """What a terminal law must give: log_prob(x) of x (B, *event) in model units -> (B,)."""

    def log_prob(self, value: Tensor) -> Tensor: ...


@contextmanager
def _whole_precision(model: ScoreModel, dtype: torch.dtype) -> Iterator[ScoreModel]:
    """The model in evaluation mode, computing in `dtype`, autocast off; as it was afterwards."""
    if any(p.is_floating_point() and p.dtype != dtype for p in model.parameters()):
        model = copy.deepcopy(model).to(dtype)
    training = [module for module in model.modules() if module.training]
    casting = [
        (module, module.autocast)
        for module in model.modules()
        if getattr(module, "autocast", None) is not None
    ]
    model.eval()
    for module, _ in casting:
        module.autocast = None  # type: ignore[assignment]
    try:
        with (
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
            torch.no_grad(),
        ):
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
        raise InputError(
            f"a likelihood is computed in torch.float32 or torch.float64; got {dtype}, too coarse "
            "to sum a divergence in"
        )
    least = 8 * torch.finfo(dtype).eps
    if rtol < least:
        raise InputError(
            f"rtol={rtol:g} is below {least:.1g}, what {dtype} can hold; use a larger one, or "
            "dtype=torch.float64"
        )
    return dtype


def _ends(
    model: ScoreModel, sigma_min: float | None, sigma_max: float | None
) -> tuple[float, float]:
    if getattr(model, "index_conditioned", False):
        raise InputError(
            "a likelihood follows the score as a continuous function of sigma, and this model is "
            "conditioned on a level's index: it knows its "
            "levels only. Train one with the edm or ncsnv2 preconditioner"
        )
    low = float(model.sigma_min if sigma_min is None else sigma_min)
    high = float(model.sigma_max if sigma_max is None else sigma_max)
    if not (0 < low < high < math.inf):
        got = f"sigma_min={low:g}, sigma_max={high:g}"
        raise InputError(
            f"need 0 < sigma_min < sigma_max, both finite; got {got}. A closed form has no range "
            "of its own: pass both"
        )
    model.check_range(torch.tensor([low, high], dtype=torch.float64))
    return low, high


def _law(model: ScoreModel, given: Any, sigma_max: float) -> tuple[Callable[[Tensor], Tensor], str]:
    """log density at sigma_max, model units, and what it is called."""
    if given is None:
        law = moment_matched(model, sigma_max)
        moments = getattr(model, "moments", None)
        matched = moments is not None and moments() is not None
        spread = f"{sigma_max:g}² I" + (
            (" + covariance" if law.root is not None else " + variance") if matched else ""
        )
        return (
            law.log_prob,
            f"N({'mean' if matched else '0'}, "
            f"{spread}){', moments of the data' if matched else ''}",
        )
    if not callable(getattr(given, "log_prob", None)):
        raise InputError(
            f"terminal must have log_prob(x), x in model units; got {type(given).__name__}"
        )
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

    sigma_min, sigma_max: model units, by default the model's range. divergence: "exact",
    "hutchinson" with `probes` (2 or more), or "auto":
    exact up to 64 elements. rtol, atol: of torchdiffeq's adaptive solver, per sample, in scaled
    coordinates and nats; its step is
    common to a batch and set by the batch's worst sample, so a value depends on its batch mates,
    within the tolerances.
    terminal: an object with log_prob(x), model units; a ScoreModel stands for its density at
    sigma_max; default N(mean, sigma_max² I +
    covariance). seed: of the probes; sample k has the key hash(seed, k). dtype: float32 (networks)
    or float64 (closed forms); a network
    asked for float64 is converted, as a copy. batch: samples at a time. condition: (B, ...).
    progress: told the share done.
    Raises InputError for index-conditioned models, a range the model does not know, x of another
    shape or outside a logit's domain,
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
        raise InputError(
            "Hutchinson's estimator needs at least 2 probes, whose spread is its standard error; "
            f"got {probes}"
        )
    low, high = _ends(model, sigma_min, sigma_max)
    dtype = _type(model, dtype, rtol)
    law, named = _law(model, terminal, high)
    inside, jacobian = _to_model_units(model, x)
    if condition is not None and len(condition) != len(x):
        raise InputError(
            f"condition must have first dimension {len(x)}, one for each sample; got "
            f"{tuple(condition.shape)}"
        )

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

            flow = Flow(whole, (low, high), signs, given, tell)
            y = flow.to_y(inside[rows].to(device, dtype), low)
            state = torch.cat([y, y.new_zeros(size, 1 if exact else probes)], dim=1)
            end = solve(flow, state, rtol, atol)
            at_top = law(flow.to_x(end[:, :elements], high))
            if at_top.shape != (size,):
                raise InputError(
                    f"terminal.log_prob must give one number a sample, ({size},); got "
                    f"{tuple(at_top.shape)}"
                )
            grown = elements * math.log(flow.radius(high) / flow.radius(low))
            parts.append(
                end[:, elements:].to("cpu", torch.float64)
                + (at_top.to("cpu", torch.float64) + grown)[:, None]
            )
            spent = max(spent, flow.evaluations)
    estimates = torch.cat(parts) if parts else torch.empty(0, 1, dtype=torch.float64)
    if progress is not None:
        progress(1.0)
    count = estimates.shape[1]
    se = torch.zeros(len(x), dtype=torch.float64) if exact else estimates.std(1) / count**0.5
    how = "exact trace" if exact else f"Hutchinson, {probes} Rademacher probes"
    products, seconds = spent * (elements if exact else probes), time.perf_counter() - began
    return LogProb(
        estimates.mean(1) + jacobian, se, spent, products, seconds, low, high, named, how, elements
    )


def _to_model_units(model: ScoreModel, x: Tensor) -> tuple[Tensor, Tensor]:
    """x in model units and log |d model / d data| (B,), both float64 on the CPU."""
    if not x.is_floating_point() or x.shape[1:] != model.event_shape or x.ndim == 0:
        want = f"floats (B, {', '.join(map(str, model.event_shape))}) in data units"
        raise InputError(
            f"x must be {want}; got {str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
        )
    data = x.detach().to("cpu", torch.float64)
    inside, jacobian = model.units.to_model(data), model.units.log_det(data)
    bad = ~(torch.isfinite(inside).flatten(1).all(1) & torch.isfinite(jacobian))
    if bool(bad.any()):
        k = int(bad.nonzero()[0])
        need = (
            "values in [0, 1], which this model's logit maps"
            if model.units.logit is not None
            else "finite values"
        )
        raise InputError(
            f"x must hold {need}; sample {k} spans {float(data[k].min()):g} to "
            f"{float(data[k].max()):g}"
        )
    return inside, jacobian


def _probes(keys: Tensor, count: int, elements: int, dtype: torch.dtype) -> Tensor:
    """Rademacher signs (K, B, d), a function of (key, probe)."""
    return torch.stack(
        [rng.rademacher(keys, Stream.PROBE, k, (elements,), dtype) for k in range(count)]
    )
