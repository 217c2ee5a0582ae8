"""`log_prob`: arguments, precision, batches and the prior of a likelihood."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .. import conditions, rng, values
from ..conditions import Condition
from ..data import form_of, read_examples
from ..data.examples import check_intensities
from ..errors import InputError
from ..models import (
    Restricted,
    ScoreModel,
    check_model,
    constant_elements,
    count_cost,
    off_constants,
)
from ..models import prior as matched_prior
from ..rng import Stream
from ..tensors import reals
from .flow import Flow, solve
from .results import LogProb

#: Elements of an example up to which divergence "auto" takes the exact trace.
EXACT_UP_TO = 64
#: Default number of Rademacher probes a sample.
PROBES = 8
# Elements of x that a batch holds by default. Gradients are kept, so less than a sampler's.
BATCH_ELEMENTS = 1 << 16
OTHER_SCALE = 4.0  # how far floats of images may lie outside [0, 1]; levels lie further
#: Ways to compute the divergence of the flow.
DIVERGENCES = ("auto", "exact", "hutchinson")


@runtime_checkable
class Density(Protocol):
    """A density of examples in model units, such as a torch distribution."""

    def log_prob(self, value: Tensor, /) -> Tensor:
        """The log density (B,) in nats of (B, *event)."""


@runtime_checkable
class SmoothedDensity(Protocol):
    """A family of normalised densities p_sigma, such as the closed forms of `exact`."""

    def log_prob(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None, /
    ) -> Tensor:
        """The log density in nats.

        Args:
            x: (B, *event) in model units.
            sigma: () or (B,).
            condition: One row a sample, or None.

        Returns:
            (B,).
        """


@dataclass(frozen=True)
class LikelihoodOptions:
    """How `log_prob` integrates.

    Args:
        sigma_min: Noise level that smooths the density, model units; None: the smallest of
            `model.sampling_range()`.
        sigma_max: Noise level at which the prior is evaluated, model units; None: the largest.
        rtol: Relative tolerance of the solver, per sample.
        atol: Absolute tolerance, in scaled coordinates and nats.
        dtype: torch.float32 or torch.float64; None: that of the network's weights, float64 for
            closed forms. A network is converted as a copy.
        batch: Samples at a time; None: chosen by their size.
        prior: The density at sigma_max: an object with `log_prob(x)`, x in model units, or a
            closed form, of which p_sigma_max is taken. None: N(mean, sigma_max² I +
            covariance) with the model's moments.

    Raises:
        InputError: For tolerances that are not above zero, a batch below 1, a coarser type, or a
            prior without `log_prob`.
    """

    sigma_min: float | None = None
    sigma_max: float | None = None
    rtol: float = 1e-5
    atol: float = 1e-5
    dtype: torch.dtype | None = None
    batch: int | None = None
    prior: Density | SmoothedDensity | None = None

    def __post_init__(self) -> None:
        for name in ("sigma_min", "sigma_max", "rtol", "atol"):
            value = getattr(self, name)
            if value is not None or name in ("rtol", "atol"):
                value = values.finite(value, name, 0.0, above=True)
                object.__setattr__(self, name, value)
        if self.batch is not None:
            object.__setattr__(self, "batch", values.whole(self.batch, "batch", 1))
        if self.dtype not in (None, torch.float32, torch.float64):
            raise InputError(
                f"a likelihood is computed in torch.float32 or torch.float64; got {self.dtype}, "
                "too coarse to sum a divergence in"
            )
        if self.prior is not None and not isinstance(self.prior, Density):
            raise InputError(
                f"prior must have log_prob(x), x in model units; got {type(self.prior).__name__}"
            )


def log_prob(
    model: ScoreModel,
    x: Tensor,
    *,
    condition: Mapping[str, Any] | None = None,
    divergence: str = "auto",
    probes: int = PROBES,
    seed: int = 0,
    options: LikelihoodOptions | None = None,
    progress: Callable[[float], None] | None = None,
) -> LogProb:
    """The log density of x at sigma_min, by the probability flow (Song et al. 2021, Eq. 39).

        nats = sf.log_prob(model, x, condition={"class": 3}).value

    The result is log p_sigma_min(x), the density of the flow's samples at sigma_min, started from
    the prior at sigma_max. A batch shares the solver's steps, so that a value depends on its batch
    mates, within the tolerances.

    Elements that are constant in the model's training data do not enter the density, which is that
    of the other elements. A sample that differs from the constant has density 0: log p = -inf.

    Args:
        model: Any score model that is defined on a continuous range of noise levels.
        x: (B, *event_shape), floats in data units: a tensor, an array or nested lists; channels
            may be last, and the axis of a single channel left out. Of a model of a table also a
            data frame, an Arrow table or a mapping of columns, which are matched by name.
        condition: For p(x | c), such as {"class": 3}: one value for all samples, or one for each.
        divergence: "exact", "hutchinson", or "auto": exact up to 64 elements an example.
        probes: Rademacher probes a sample for "hutchinson", 2 or more.
        seed: Decides the probes; sample k has the key hash(seed, k).
        options: Range, tolerances, type, batch and prior.
        progress: Called with the fraction done, 0 to 1.

    Returns:
        Nats in data units with a standard error, and their cost.

    Raises:
        InputError: For models with fixed noise levels, levels outside the model's range, x that is
            none of its examples, conditions that it does not take, or too small tolerances.
        NonFiniteError: Where the flow leaves a NaN or an infinity.
    """
    check_model(model)
    options = _read_options(options)
    probes, x = values.whole(probes, "probes"), _read_examples(model, x)
    ends, dtype = _ends(model, options), _working_type(model, options)
    inside, log_det = _to_model_units(model, x)
    model, inside, outside = _without_constants(model, inside, x, options.prior)
    exact = _is_exact(divergence, probes, elements := math.prod(model.event_shape))
    given = conditions.resolve(condition, model.conditions, len(x), type(model).__name__)
    law, began = _Law(model, options.prior, ends[1], given), time.perf_counter()
    keys, parts, evaluations, products = rng.keys(seed, len(x)), [], 0, 0
    with _whole_precision(model, dtype) as whole, count_cost() as total:
        device = _device(whole)
        for rows in _split(len(x), options.batch or max(1, BATCH_ELEMENTS // elements)):
            task = _Batch(
                inside[rows].to(device, dtype),
                None if exact else _probes(keys[rows].to(device), probes, elements, dtype),
                conditions.to_device(conditions.take(given, rows), device),
                _tell(progress, rows, len(x)),
            )
            with count_cost() as cost:
                parts.append(_integrate(whole, task, ends, options, law))
            evaluations = max(evaluations, cost.forwards // len(task.x))
            products = max(products, cost.products // len(task.x))
    estimates = torch.cat([torch.empty(0, 1 if exact else probes, dtype=torch.float64), *parts])
    (progress or _ignore)(1.0)
    return LogProb(
        value=torch.where(outside, -math.inf, estimates.mean(1) + log_det),
        se=torch.zeros(len(x)).double() if exact else estimates.std(1) / probes**0.5,
        evaluations=evaluations,
        products=products,
        cost=total,
        seconds=time.perf_counter() - began,
        sigma_min=ends[0],
        sigma_max=ends[1],
        prior=law.name,
        divergence="exact trace" if exact else f"Hutchinson, {probes} Rademacher probes",
        elements=elements,
    )


@dataclass(frozen=True)
class _Batch:
    """One batch of a likelihood, on the model's device: x in model units."""

    x: Tensor
    signs: Tensor | None
    condition: Condition | None
    tell: Callable[[float], None]


def _integrate(
    model: ScoreModel,
    batch: _Batch,
    ends: tuple[float, float],
    options: LikelihoodOptions,
    law: "_Law",
) -> Tensor:
    """The log density in model units, (B, K) for K probes or K = 1, float64 on the CPU."""
    flow = Flow(model, ends, batch.signs, batch.condition, batch.tell)
    low, high = ends
    y = flow.to_y(batch.x, low)
    integrals = y.new_zeros(len(y), 1 if batch.signs is None else len(batch.signs))
    end = solve(flow, torch.cat([y, integrals], dim=1), options.rtol, options.atol)
    at_top = law.log_prob(flow.to_x(end[:, : flow.elements], high), batch.condition)
    if at_top.shape != (len(y),):
        raise InputError(
            f"prior.log_prob must give one number a sample, ({len(y)},); got {tuple(at_top.shape)}"
        )
    grown = flow.elements * math.log(flow.radius(high) / flow.radius(low))
    top = at_top.to("cpu", torch.float64)[:, None] + grown
    return end[:, flow.elements :].to("cpu", torch.float64) + top


class _Law:
    """The prior at sigma_max: the user's, or the one matched to the model's moments."""

    def __init__(
        self,
        model: ScoreModel,
        given: Density | SmoothedDensity | None,
        sigma: float,
        condition: Condition | None,
    ) -> None:
        self.model, self.given, self.sigma = model, given, sigma
        if given is None:
            row = conditions.take(condition, slice(0, 1))
            one = matched_prior(model, sigma, row)
            self.common = one if condition is None else None
            spread = "variance" if one.root is None else "covariance"
            self.name = f"N(0, {sigma:g}² I)"
            if one.matched:
                self.name = f"N(mean, {sigma:g}² I + {spread}), moments of the data"
        elif isinstance(given, ScoreModel):
            self.name = f"{type(given).__name__} at sigma {sigma:g}"
        else:
            self.name = type(given).__name__

    def log_prob(self, x: Tensor, condition: Condition | None) -> Tensor:
        """The log density (B,) of x (B, *event) in model units."""
        if self.given is None:
            law = self.common or matched_prior(self.model, self.sigma, condition)
            return law.log_prob(x)
        density: Any = self.given
        if not isinstance(self.given, ScoreModel):
            value: Tensor = density.log_prob(x)
        elif condition is None or not self.given.conditions:
            value = density.log_prob(x, self.sigma)
        else:
            value = density.log_prob(x, self.sigma, condition)
        return value


def _read_options(options: LikelihoodOptions | None) -> LikelihoodOptions:
    """The options, or their defaults; an InputError for anything else."""
    options = LikelihoodOptions() if options is None else options
    if not isinstance(options, LikelihoodOptions):
        raise InputError(f"options must be LikelihoodOptions(...); got {values.describe(options)}")
    return options


def _is_exact(divergence: str, probes: int, elements: int) -> bool:
    """Whether the trace is computed exactly."""
    divergence = values.one_of(divergence, DIVERGENCES, "divergence")
    if divergence == "exact" or (divergence == "auto" and elements <= EXACT_UP_TO):
        return True
    if probes < 2:
        raise InputError(
            "Hutchinson's estimator needs at least 2 probes, whose spread is its standard error; "
            f"got {probes}"
        )
    return False


def _ends(model: ScoreModel, options: LikelihoodOptions) -> tuple[float, float]:
    """The smallest and the largest noise level, model units."""
    if model.ladder_only:
        raise InputError(
            "a likelihood follows the score as a continuous function of sigma, and this model "
            "is defined only at the levels of its ladder, because it is conditioned on a level's "
            "index. Train one with the edm or ncsnv2 preconditioner"
        )
    low, high = options.sigma_min, options.sigma_max
    if low is None or high is None:
        default = model.sampling_range()
        low = default[0] if low is None else low
        high = default[1] if high is None else high
    if not 0 < low < high < math.inf:
        raise InputError(
            "need 0 < sigma_min < sigma_max, both finite; "
            f"got sigma_min={low:g}, sigma_max={high:g}"
        )
    model.check_range(torch.tensor([low, high], dtype=torch.float64))
    return float(low), float(high)


def _floating_parameters(model: torch.nn.Module) -> list[torch.dtype]:
    return [p.dtype for p in model.parameters() if p.is_floating_point()]


def _working_type(model: ScoreModel, options: LikelihoodOptions) -> torch.dtype:
    """float32 for networks, float64 for closed forms, or what was requested."""
    dtype = options.dtype
    if dtype is None:
        kinds = _floating_parameters(model)
        dtype = torch.promote_types(kinds[0], torch.float32) if kinds else torch.float64
    least = 8 * torch.finfo(dtype).eps
    if options.rtol < least:
        raise InputError(
            f"rtol={options.rtol:g} is below {least:.1g}, what {dtype} can hold; use a larger "
            "one, or dtype=torch.float64"
        )
    return dtype


def _device(model: ScoreModel) -> torch.device:
    """Where the model's weights or buffers are."""
    tensors = (*model.parameters(), *model.buffers())
    return tensors[0].device if tensors else torch.device("cpu")


@contextmanager
def _whole_precision(model: ScoreModel, dtype: torch.dtype) -> Iterator[ScoreModel]:
    """The model in evaluation mode, its networks computing in `dtype` without autocast.

    Leaves with weights of another type are converted in a copy; closed forms keep their float64.
    Afterwards the model is as it was.
    """
    if any(kind != dtype for kind in _floating_parameters(model)):
        model = copy.deepcopy(model)
        for leaf in model.leaves():
            if _floating_parameters(leaf):
                leaf.to(dtype)
    training = [module for module in model.modules() if module.training]
    casting = [(leaf, leaf.autocast) for leaf in model.leaves() if leaf.autocast is not None]
    model.eval()
    for leaf, _ in casting:
        leaf.autocast = None
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
        for leaf, was in casting:
            leaf.autocast = was


def _read_examples(model: ScoreModel, x: Any) -> Tensor:
    """x as (B, *event); whole numbers are data units where the data are not stored levels."""
    found = reals(read_examples(x, form_of(model.card), tuple(model.event_shape), "x"), "x")
    stored = model.units.image or model.units.quantisation is not None
    return found if stored or found.is_floating_point() else found.to(torch.float64)


def _to_model_units(model: ScoreModel, x: Tensor) -> tuple[Tensor, Tensor]:
    """Map x to model units; also log |d model / d data| (B,); both float64 on the CPU."""
    shape = tuple(model.event_shape)
    if not x.is_floating_point() or tuple(x.shape[1:]) != shape or x.ndim == 0:
        want = f"floats (B, {', '.join(map(str, shape))}) in data units"
        raise InputError(
            f"x must be {want}; got {str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
        )
    data = x.detach().to("cpu", torch.float64)
    if model.units.image:
        check_intensities(data, "x", OTHER_SCALE)
    inside, log_det = model.units.to_model(data), model.units.log_det(data)
    bad = ~(torch.isfinite(inside).flatten(1).all(1) & torch.isfinite(log_det))
    if bool(bad.any()):
        k = int(bad.nonzero()[0])
        logit = model.units.logit is not None
        need = "values in [0, 1], which this model's logit maps" if logit else "finite values"
        raise InputError(
            f"x must hold {need}; sample {k} spans {float(data[k].min()):g} to "
            f"{float(data[k].max()):g}"
        )
    return inside, log_det


def _without_constants(
    model: ScoreModel, inside: Tensor, x: Tensor, prior: Density | SmoothedDensity | None
) -> tuple[ScoreModel, Tensor, Tensor]:
    """The model of the elements that vary, their x in model units, and rows that differ elsewhere.

    A prior of the user's own is over whole examples, so the model stays whole with it.
    """
    constant = constant_elements(model)
    if not bool(constant.any()):
        return model, inside, torch.zeros(len(x), dtype=torch.bool)
    outside = off_constants(model, x, x.dtype).flatten(1).any(1)
    if prior is not None or bool(constant.all()):
        return model, inside, outside
    shift = model.units.shift.to("cpu", torch.float64).expand(model.event_shape)
    fixed = model.units.to_model(shift[None])[0]
    part = Restricted(model, ~constant, fixed)
    return part, part.take(inside), outside


def _probes(keys: Tensor, count: int, elements: int, dtype: torch.dtype) -> Tensor:
    """Rademacher signs (K, B, d), a function of (key, probe)."""
    return torch.stack(
        [rng.rademacher(keys, Stream.PROBE, k, (elements,), dtype) for k in range(count)]
    )


def _split(count: int, batch: int) -> list[slice]:
    """The rows of each batch."""
    return [slice(i, min(i + batch, count)) for i in range(0, count, batch)]


def _ignore(fraction: float) -> None:
    """Report no progress."""


def _tell(
    progress: Callable[[float], None] | None, rows: slice, count: int
) -> Callable[[float], None]:
    """The progress of the batch `rows` of `count` as a fraction of all, below 1."""
    if progress is None:
        return _ignore
    done, part = rows.start / count, (rows.stop - rows.start) / count
    return lambda fraction: progress(min(done + part * fraction, 0.999))
