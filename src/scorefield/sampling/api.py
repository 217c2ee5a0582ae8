"""`sample`: from a model and a seed to samples in data units, by any kernel of the registry.

    x_1 ~ start,  then `run` down the ladder,  then model.units.to_data

Sample k of (seed, count) is a function of (seed, k) and of nothing else: not of the batch size, not of its batch mates.
"""

import difflib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError
from ..model import ScoreModel, terminal
from ..noise import check_ladder, geometric, karras
from ..rng import Stream
from .diffusion import Euler, Heun
from .driver import Event, Kernel, run
from .langevin import AnnealedLangevin, Langevin

DEFAULT_LEVELS = 18  # Karras et al. 2022: 35 evaluations of Heun suffice for small images
GAMMA = 1.6  # the largest ratio of neighbouring levels an annealed ladder takes, see NCSNv2's Technique 2
BATCH_ELEMENTS = 1 << 18  # elements of x a batch holds unless told otherwise: 334 digits, 131,072 points of the plane

Start = str | tuple[str, float, float]


def _range(model: ScoreModel, name: str) -> tuple[float, float]:
    if not (math.isfinite(model.sigma_max) and model.sigma_min > 0):
        got = f"[{model.sigma_min:g}, {model.sigma_max:g}]"
        raise InputError(f"{name} has no default ladder for a model known on {got}: pass ladder=, such as karras(80, 0.002, 18)")
    return model.sigma_max, model.sigma_min


def _flow_ladder(model: ScoreModel, levels: int | None) -> Tensor:
    """Karras et al. 2022, Eq. 5, over the model's range."""
    return karras(*_range(model, "a flow"), levels or DEFAULT_LEVELS)


def _annealed_ladder(model: ScoreModel, levels: int | None) -> Tensor:
    """The model's own levels; where it has none, geometric with a ratio of at most GAMMA."""
    own = getattr(model, "ladder", None)
    if own is not None and levels in (None, len(own)):
        return check_ladder(own)
    high, low = _range(model, "annealed-langevin")
    return geometric(high, low, levels or max(10, math.ceil(1 + math.log(high / low) / math.log(GAMMA))))


def _last_level(model: ScoreModel, levels: int | None) -> Tensor:
    """The one level sigma_min."""
    return check_ladder([_range(model, "langevin")[1]])


@dataclass(frozen=True)
class Sampler:
    """A row of the registry.

    make(epsilon) -> kernel. ladder(model, levels or None) -> the default ladder, None for its usual length. repeats: visits of a level.
    evaluations: of the model in one step. epsilon: the default step in units of sigma_L², None for kernels that take none.
    """

    kernel: type[Kernel]
    make: Callable[[float], Kernel]
    ladder: Callable[[ScoreModel, int | None], Tensor]
    repeats: int
    evaluations: int
    help: str
    epsilon: float | None = None


SAMPLERS: dict[str, Sampler] = {
    "heun": Sampler(Heun, lambda _: Heun(), _flow_ladder, 1, 2, "probability flow, order 2, two evaluations a step (Karras et al. 2022)"),
    "euler": Sampler(Euler, lambda _: Euler(), _flow_ladder, 1, 1, "probability flow, order 1, one evaluation a step"),
    "annealed-langevin": Sampler(
        AnnealedLangevin, AnnealedLangevin, _annealed_ladder, 100, 1, "Langevin at each level in turn (Song & Ermon 2019)", 0.2
    ),
    "langevin": Sampler(Langevin, Langevin, _last_level, 1000, 1, "Langevin at one level: slow between modes, a baseline", 0.2),
}


@dataclass(frozen=True)
class Record:
    """How samples came about: nfe counts evaluations of the model a sample; seeds: [s, ...] or {"seed", "count"}; trace in data units."""

    kernel: str
    ladder: list[float]
    repeats: int
    nfe: int
    seeds: dict[str, int] | list[int]
    seconds: float
    count: int
    final: str
    start: Start
    epsilon: float | None = None
    trace: list[tuple[float, Tensor]] | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All but the trace, in a form JSON can hold."""
        return {k: v for k, v in asdict(self).items() if k != "trace"}


def find_sampler(name: str) -> Sampler:
    """The registry's row of that name; an InputError with the nearest name where there is none."""
    if name in SAMPLERS:
        return SAMPLERS[name]
    near = difflib.get_close_matches(name, SAMPLERS, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(f"unknown sampler {name!r}.{hint} There are {', '.join(SAMPLERS)}")


def working_type(model: ScoreModel) -> tuple[torch.device, torch.dtype]:
    """Where and in what precision x is kept: float32 (or wider) for models with parameters, float64 for closed forms."""
    parameters: list[Tensor] = [p for p in model.parameters() if p.is_floating_point()]
    tensors = parameters or [*model.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    return device, torch.promote_types(parameters[0].dtype, torch.float32) if parameters else torch.float64


def _budget(row: Sampler, model: ScoreModel, nfe: int, repeats: int | None, ladder: Tensor | None, spare: int) -> tuple[Tensor, int]:
    """The ladder and repeats that spend at most nfe evaluations, `spare` of them on the final denoise."""
    if row.kernel.stays:
        if repeats is not None:
            raise InputError(f"nfe={nfe} and repeats={repeats} both say how long to run: give one of them")
        ladder = row.ladder(model, None) if ladder is None else ladder
        repeats = (nfe - spare) // (row.evaluations * len(ladder))
        if repeats < 1:
            least = row.evaluations * len(ladder) + spare
            raise InputError(f"nfe must be at least {least}, one step at each of {len(ladder)} levels; got {nfe}")
        return ladder, repeats
    if ladder is not None:
        raise InputError(f"nfe={nfe} and a ladder of {len(ladder)} levels both say how long to run: give one of them")
    repeats = repeats or 1
    steps = (nfe - spare) // (row.evaluations * repeats)
    if steps < 1:
        raise InputError(f"nfe must be at least {row.evaluations * repeats + spare}, one step and {spare} final denoise; got {nfe}")
    return row.ladder(model, steps + 1), repeats


def _first(model: ScoreModel, start: Start, keys: Tensor, sigma: float, dtype: torch.dtype) -> Tensor:
    """x at the top of the ladder, model units."""
    if start == "terminal":
        return terminal(model, sigma).sample(rng.normal(keys, Stream.INIT, 0, model.event_shape, dtype))
    if start == "uniform":
        if not model.units.image:
            raise InputError('start="uniform" means [0, 1] and is for images; for other data: start=("uniform", low, high), in data units')
        start = ("uniform", 0.0, 1.0)
    if not (isinstance(start, (tuple, list)) and len(start) == 3 and start[0] == "uniform" and start[1] < start[2]):
        raise InputError(f'start must be "terminal", "uniform" or ("uniform", low, high) with low < high; got {start!r}')
    low, high = float(start[1]), float(start[2])
    return model.units.to_model(low + (high - low) * rng.uniform(keys, Stream.INIT, 0, model.event_shape, dtype))


@dataclass(frozen=True)
class _Plan:
    name: str
    kernel: Kernel
    ladder: Tensor
    repeats: int
    epsilon: float | None
    final: str


def _plan(
    model: ScoreModel,
    sampler: str | None,
    kernel: Kernel | None,
    nfe: int | None,
    ladder: Tensor | Sequence[float] | None,
    repeats: int | None,
    epsilon: float | None,
    final: str,
) -> _Plan:
    """Fill in what the user left open."""
    if kernel is not None and sampler is not None:
        raise InputError(f"give sampler={sampler!r} or a kernel, not both")
    if kernel is None and sampler is None:
        sampler = "annealed-langevin" if getattr(model, "index_conditioned", False) else "heun"
    name = sampler or type(kernel).__name__
    row = find_sampler(sampler) if sampler else next((r for r in SAMPLERS.values() if r.kernel is type(kernel)), None)
    levels = None if ladder is None else check_ladder(ladder)
    if row is None:
        if nfe is not None or levels is None:
            raise InputError(f"{name} is not in the registry, so it has no defaults: pass ladder= (and repeats=), not nfe")
        repeats = 1 if repeats is None else repeats
    elif nfe is not None:
        levels, repeats = _budget(row, model, nfe, repeats, levels, int(final == "denoise"))
    else:
        levels = row.ladder(model, None) if levels is None else levels
        repeats = row.repeats if repeats is None else repeats
    default = None if row is None else row.epsilon
    if epsilon is not None and (kernel is not None or default is None):
        those = ", ".join(n for n, r in SAMPLERS.items() if r.epsilon)
        raise InputError(f"{name} takes no epsilon here; got epsilon={epsilon:g}. It is for the samplers {those}")
    if kernel is None:
        assert row is not None
        if epsilon is None and default is not None:
            epsilon = default * float(levels[-1]) ** 2
        kernel = row.make(0.0 if epsilon is None else epsilon)
    return _Plan(name, kernel, levels, repeats, epsilon, final)


def sample_with_record(
    model: ScoreModel,
    count: int | None = None,
    seed: int = 0,
    *,
    seeds: Sequence[int] | None = None,
    sampler: str | None = None,
    nfe: int | None = None,
    ladder: Tensor | Sequence[float] | None = None,
    kernel: Kernel | None = None,
    repeats: int | None = None,
    epsilon: float | None = None,
    start: Start = "terminal",
    batch: int | None = None,
    final: str | None = None,
    condition: Tensor | None = None,
    callbacks: Sequence[Callable[[Event], None]] = (),
    trace: bool = False,
) -> tuple[Tensor, Record]:
    """`sample`, with the record of how it was done (its trace filled where trace=True)."""
    if count is not None and count < 0:
        raise InputError(f"count must not be negative; got {count}")
    if seeds is not None and count not in (None, len(seeds)):
        raise InputError(f"{len(seeds)} seeds make {len(seeds)} samples; got count={count}. Leave count out")
    count = len(seeds) if seeds is not None else 64 if count is None else count
    if batch is not None and batch < 1:
        raise InputError(f"batch must be at least 1; got {batch}")
    if condition is not None and len(condition) != count:
        raise InputError(f"condition must have first dimension {count}, one for each sample; got {tuple(condition.shape)}")
    plan = _plan(model, sampler, kernel, nfe, ladder, repeats, epsilon, final or "denoise")

    device, dtype = working_type(model)
    everybody = (rng.keys_of(seeds) if seeds is not None else rng.keys(seed, count)).to(device)
    batch = batch or max(1, BATCH_ELEMENTS // math.prod(model.event_shape))
    began, parts, paths, spent = time.perf_counter(), [], [], 0
    training = model.training
    model.eval()
    try:
        for i in range(0, count, batch):
            keys = everybody[i : i + batch]
            with torch.no_grad():
                x = _first(model, start, keys, float(plan.ladder[0]), dtype)
            given = None if condition is None else condition[i : i + batch].to(device)
            result = run(
                plan.kernel, model, plan.ladder, x, plan.repeats, plan.final, keys=keys, condition=given, callbacks=callbacks, trace=trace
            )
            parts.append(model.units.to_data(result.x))
            spent = result.evaluations
            if result.trace is not None:
                paths.append([(s, model.units.to_data(state)) for s, state in result.trace])
    finally:
        model.train(training)
    samples = torch.cat(parts) if parts else torch.empty(0, *model.event_shape, dtype=dtype, device=device)
    path = [(at[0][0], torch.cat([state for _, state in at])) for at in zip(*paths, strict=True)] if trace else None
    described: dict[str, int] | list[int] = list(seeds) if seeds is not None else {"seed": seed, "count": count}
    seconds = time.perf_counter() - began
    levels, epsilon = plan.ladder.tolist(), plan.epsilon
    return samples, Record(plan.name, levels, plan.repeats, spent, described, seconds, count, plan.final, start, epsilon, path)


def sample(
    model: ScoreModel,
    count: int | None = None,
    seed: int = 0,
    *,
    seeds: Sequence[int] | None = None,
    sampler: str | None = None,
    nfe: int | None = None,
    ladder: Tensor | Sequence[float] | None = None,
    kernel: Kernel | None = None,
    repeats: int | None = None,
    epsilon: float | None = None,
    start: Start = "terminal",
    batch: int | None = None,
    final: str | None = None,
    condition: Tensor | None = None,
    callbacks: Sequence[Callable[[Event], None]] = (),
    trace: bool = False,
) -> Any:
    """`count` (64) samples (count, *event) in data units; with trace=True the pair (samples, Record).

    seed, seeds: sample k has the key hash(seed, k), or (seeds[k], 0).
    sampler: a name of SAMPLERS, by default heun, annealed-langevin for index-conditioned models; or kernel, an object of one's own.
    nfe: evaluations of the model a sample, the final denoise included: sets the length of the default ladder, for Langevin the repeats.
    ladder: sigmas in model units, decreasing. repeats: visits of a level.
    epsilon: the coefficient of the score at the last level, squared model units, default 0.2 sigma_L² (Langevin-type samplers).
    start: "terminal", N(mean, sigma_1² I + covariance); "uniform", images in [0, 1]; ("uniform", low, high) in data units.
    batch: samples at a time, which changes no sample. final: "denoise" (default) or "none". condition: (count, ...).
    callbacks: each told an Event after each step of each batch. Networks work in float32, closed forms in float64.
    Raises InputError for an unknown sampler, a negative count, contradicting lengths or a ladder outside the model's range.
    """
    samples, record = sample_with_record(
        model,
        count,
        seed,
        seeds=seeds,
        sampler=sampler,
        nfe=nfe,
        ladder=ladder,
        kernel=kernel,
        repeats=repeats,
        epsilon=epsilon,
        start=start,
        batch=batch,
        final=final,
        condition=condition,
        callbacks=callbacks,
        trace=trace,
    )
    return (samples, record) if trace else samples
