"""`sample`: from a model and a seed to samples in data units, by any kernel of the registry.

    x_1 ~ start,  then `run` down the ladder,  then model.units.to_data

Sample k of (seed, count) is a function of (seed, k) and of nothing else: not of the batch size, not
of its batch mates.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError
from ..model import ScoreModel, terminal
from ..noise import check_ladder
from ..rng import Stream
from .driver import Event, Kernel, run
from .registry import SAMPLERS, Sampler, find_sampler, named_ladder

BATCH_ELEMENTS = (
    1 << 18
)  # elements of x a batch holds unless told otherwise: 334 digits, 131,072 points of the plane

Start = str | tuple[str, float, float]


@dataclass(frozen=True)
class Record:
    """How samples came about: nfe counts evaluations of the model a sample; seeds: [s, ...] or
    {"seed", "count"}; trace in data units.
    """

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
    eta: float | None = None
    trace: list[tuple[float, Tensor]] | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All but the trace, in a form JSON can hold."""
        return {k: v for k, v in asdict(self).items() if k != "trace"}


def working_type(model: ScoreModel) -> tuple[torch.device, torch.dtype]:
    """Where and in what precision x is kept: float32 (or wider) for models with parameters, float64
    for closed forms.
    """
    parameters: list[Tensor] = [p for p in model.parameters() if p.is_floating_point()]
    tensors = parameters or [*model.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    return device, torch.promote_types(
        parameters[0].dtype, torch.float32
    ) if parameters else torch.float64


def _budget(
    row: Sampler,
    model: ScoreModel,
    nfe: int,
    repeats: int | None,
    ladder: Tensor | None,
    spare: int,
) -> tuple[Tensor, int]:
    """The ladder and repeats that spend at most nfe evaluations, `spare` of them on the final
    denoise.
    """
    if row.kernel.stays:
        if repeats is not None:
            raise InputError(
                f"nfe={nfe} and repeats={repeats} both say how long to run: give one of them"
            )
        ladder = row.ladder(model, None) if ladder is None else ladder
        repeats = (nfe - spare) // (row.evaluations * len(ladder))
        if repeats < 1:
            least = row.evaluations * len(ladder) + spare
            raise InputError(
                f"nfe must be at least {least}, one step at each of {len(ladder)} levels; got {nfe}"
            )
        return ladder, repeats
    if ladder is not None:
        raise InputError(
            f"nfe={nfe} and a ladder of {len(ladder)} levels both say how long to run: give one "
            "of them"
        )
    repeats = repeats or 1
    steps = (nfe - spare) // (row.evaluations * repeats)
    if steps < 1:
        raise InputError(
            f"nfe must be at least {row.evaluations * repeats + spare}, one step and {spare} "
            f"final denoise; got {nfe}"
        )
    return row.ladder(model, steps + 1), repeats


def _with_ladder(row: Sampler, name: str) -> Sampler:
    """The row with a ladder of noise.LADDERS in its own's place, as long as its own where nothing
    else says how long.
    """
    own = row.ladder
    return replace(
        row, ladder=lambda model, levels: named_ladder(name, model, levels or len(own(model, None)))
    )


def _first(
    model: ScoreModel, start: Start, keys: rng.Keys, sigma: float, dtype: torch.dtype
) -> Tensor:
    """x at the top of the ladder, model units."""
    if start == "terminal":
        return terminal(model, sigma).sample(
            rng.normal(keys, Stream.INIT, 0, model.event_shape, dtype)
        )
    if start == "uniform":
        if not model.units.image:
            raise InputError(
                'start="uniform" means [0, 1] and is for images; for other data: start=("uniform", low, high), in data units'
            )
        start = ("uniform", 0.0, 1.0)
    if not (
        isinstance(start, (tuple, list))
        and len(start) == 3
        and start[0] == "uniform"
        and start[1] < start[2]
    ):
        raise InputError(
            f'start must be "terminal", "uniform" or ("uniform", low, high) with low < high; got {start!r}'
        )
    low, high = float(start[1]), float(start[2])
    return model.units.to_model(
        low + (high - low) * rng.uniform(keys, Stream.INIT, 0, model.event_shape, dtype)
    )


@dataclass(frozen=True)
class _Plan:
    name: str
    kernel: Kernel
    ladder: Tensor
    repeats: int
    epsilon: float | None
    eta: float | None
    final: str


def _plan(
    model: ScoreModel,
    sampler: str | None,
    kernel: Kernel | None,
    nfe: int | None,
    ladder: Tensor | Sequence[float] | str | None,
    repeats: int | None,
    epsilon: float | None,
    eta: float | None,
    final: str,
) -> _Plan:
    """Fill in what the user left open."""
    if kernel is not None and sampler is not None:
        raise InputError(f"give sampler={sampler!r} or a kernel, not both")
    name = sampler or type(kernel).__name__
    row = (
        find_sampler(sampler)
        if sampler
        else next((r for r in SAMPLERS.values() if r.kernel is type(kernel)), None)
    )
    if isinstance(ladder, str) and row is not None:
        row, ladder = _with_ladder(row, ladder), None
    elif isinstance(ladder, str):
        raise InputError(
            f"{name} is not in the registry, so it has no defaults: pass ladder= as sigmas; got "
            f"ladder={ladder!r}"
        )
    levels = None if ladder is None else check_ladder(ladder)
    if row is None:
        if nfe is not None or levels is None:
            raise InputError(
                f"{name} is not in the registry, so it has no defaults: pass ladder= (and "
                "repeats=), not nfe"
            )
        repeats = 1 if repeats is None else repeats
    elif nfe is not None:
        levels, repeats = _budget(row, model, nfe, repeats, levels, int(final == "denoise"))
    else:
        levels = row.ladder(model, None) if levels is None else levels
        repeats = row.repeats(levels) if repeats is None else repeats
    default = None if row is None else row.default_epsilon(levels)
    if epsilon is not None and (kernel is not None or default is None):
        those = ", ".join(n for n, r in SAMPLERS.items() if r.epsilon)
        raise InputError(
            f"{name} takes no epsilon here; got epsilon={epsilon:g}. It is for the samplers {those}"
        )
    if eta is not None and (kernel is not None or row is None or not row.takes_eta):
        those = ", ".join(n for n, r in SAMPLERS.items() if r.takes_eta)
        raise InputError(
            f"{name} takes no eta here; got eta={eta:g}. It is for the samplers {those}"
        )
    if kernel is None:
        assert row is not None
        if epsilon is None and default is not None:
            epsilon = default
        kernel = row.make(0.0 if epsilon is None else epsilon) if eta is None else row.kernel(eta)  # type: ignore[call-arg]
    return _Plan(
        name,
        kernel,
        levels,
        repeats,
        epsilon,
        getattr(kernel, "eta", None) if row and row.takes_eta else None,
        final,
    )


def recipe(model: ScoreModel) -> dict[str, Any]:
    """How the run that made the model says it is sampled: the entries of its card's config.sampling
    that say something; {} where none does.
    """
    card = model.card or {}
    stored = (card.get("config") or {}).get("sampling") or {}
    return {name: value for name, value in stored.items() if value}


def default_sampler(model: ScoreModel) -> str:
    """What samples this model unless told otherwise: its card's sampler, else annealed-langevin
    where it knows only its levels, else heun.
    """
    known = "annealed-langevin" if getattr(model, "index_conditioned", False) else "heun"
    return str(recipe(model).get("sampler", known))


def _row_keys(seed: int, rows: int, steps: int) -> rng.Blend:
    """Keys of `rows` rows of `steps` samples each, from sample 2r to sample 2r + 1 of the seed."""
    ends = rng.keys(seed, 2 * rows)
    angle = torch.linspace(0, math.pi / 2, steps, dtype=torch.float64).repeat(rows)
    return rng.Blend(
        ends[0::2].repeat_interleave(steps, 0), ends[1::2].repeat_interleave(steps, 0), angle
    )


def sample(
    model: ScoreModel,
    count: int | None = None,
    seed: int = 0,
    *,
    seeds: Sequence[int] | None = None,
    sampler: str | None = None,
    nfe: int | None = None,
    ladder: Tensor | Sequence[float] | str | None = None,
    kernel: Kernel | None = None,
    repeats: int | None = None,
    epsilon: float | None = None,
    eta: float | None = None,
    start: Start | None = None,
    batch: int | None = None,
    final: str | None = None,
    interpolate: int = 0,
    condition: Tensor | None = None,
    callbacks: Sequence[Callable[[Event], None]] = (),
    sink: Callable[[Tensor], None] | None = None,
    trace: bool = False,
    record: bool = False,
) -> Any:
    """`count` (64) samples (count, *event) in data units; with record=True or trace=True the pair
    (samples, Record).

    seed, seeds: sample k has the key hash(seed, k), or (seeds[k], 0).
    sampler: a name of SAMPLERS; or kernel, an object of one's own. Left open: what the model's card
    says (with its nfe, repeats, epsilon, eta,
    start and final), else heun, or annealed-langevin for index-conditioned models.
    nfe: evaluations of the model a sample, the final denoise included: sets the length of the
    default ladder, for Langevin the repeats.
    ladder: sigmas in model units, decreasing; or "geometric", "karras" or "few-step" over the
    model's range. repeats: visits of a level.
    epsilon: the coefficient of the score at the last level, squared model units, default 0.2
    sigma_L² (Langevin-type samplers).
    eta: the noise of dpmpp-2m-sde and matched-sde in units of the time reversal's, default 1; 0 is
    the flow.
    start: "terminal" (default), N(mean, sigma_1² I + covariance); "uniform", images in [0, 1];
    ("uniform", low, high) in data units.
    final: "denoise" (default) or "none". condition: (count, ...).
    interpolate: K > 0 gives count rows of K samples, (count K, *event): row r goes from sample 2r
    to sample 2r + 1, all their noise mixed as
    cos(a) z + sin(a) z', a from 0 to pi/2 (Song & Ermon 2020, Section 5).
    batch: samples at a time, which changes no sample; where there are several the last is filled
    up, so that all have one shape.
    sink: is handed each batch's samples, which are then not kept: any count in constant memory (an
    empty tensor is returned).
    record: also say how it was done; trace: with x at every level in it, data units.
    callbacks: each told an Event after each step of each batch. Networks work in float32, closed
    forms in float64.
    Raises InputError for an unknown sampler, a negative count, contradicting lengths or a ladder
    outside the model's range.
    """
    if count is not None and count < 0:
        raise InputError(f"count must not be negative; got {count}")
    if seeds is not None and count not in (None, len(seeds)):
        raise InputError(
            f"{len(seeds)} seeds make {len(seeds)} samples; got count={count}. Leave count out"
        )
    if interpolate < 0 or (interpolate and seeds is not None):
        raise InputError(
            f"interpolate must be 0 or more, and goes with seed, not with seeds; got {interpolate}"
        )
    count = len(seeds) if seeds is not None else 64 if count is None else count
    rows, count = count, count * max(interpolate, 1)
    if batch is not None and batch < 1:
        raise InputError(f"batch must be at least 1; got {batch}")
    if condition is not None and len(condition) != count:
        raise InputError(
            f"condition must have first dimension {count}, one for each sample; got "
            f"{tuple(condition.shape)}"
        )
    said = recipe(model)
    if kernel is None and sampler is None:
        sampler = default_sampler(model)
    if kernel is None and sampler == said.get("sampler"):
        nfe = said.get("nfe") if nfe is None and ladder is None and repeats is None else nfe
        repeats = said.get("steps_per_level") if repeats is None and nfe is None else repeats
        epsilon = said.get("epsilon") if epsilon is None else epsilon
        eta = said.get("eta") if eta is None else eta
        start, final = start or said.get("start"), final or said.get("final")
    start = start or "terminal"
    plan = _plan(model, sampler, kernel, nfe, ladder, repeats, epsilon, eta, final or "denoise")

    device, dtype = working_type(model)
    everybody: rng.Keys = (
        rng.keys_of(seeds)
        if seeds is not None
        else _row_keys(seed, rows, interpolate)
        if interpolate
        else rng.keys(seed, count)
    )
    everybody = everybody.to(device)
    batch = batch or max(1, BATCH_ELEMENTS // math.prod(model.event_shape))
    began, spent = time.perf_counter(), 0
    parts: list[Tensor] = []
    paths: list[list[tuple[float, Tensor]]] = []
    training = model.training
    model.eval()
    try:
        for i in range(0, count, batch):
            size = min(batch, count - i)
            places = (torch.arange(batch if count > batch else size, device=device) + i).clamp(
                max=count - 1
            )
            keys = everybody[places]
            with torch.no_grad():
                x = _first(model, start, keys, float(plan.ladder[0]), dtype)
            given = None if condition is None else condition.to(device)[places]
            result = run(
                plan.kernel,
                model,
                plan.ladder,
                x,
                plan.repeats,
                plan.final,
                keys=keys,
                condition=given,
                callbacks=callbacks,
                trace=trace,
            )
            (parts.append if sink is None else sink)(model.units.to_data(result.x[:size]))
            spent = result.evaluations
            if result.trace is not None:
                paths.append([(s, model.units.to_data(state[:size])) for s, state in result.trace])
    finally:
        model.train(training)
    samples = (
        torch.cat(parts)
        if parts
        else torch.empty(0, *model.event_shape, dtype=dtype, device=device)
    )
    path = (
        [(at[0][0], torch.cat([state for _, state in at])) for at in zip(*paths, strict=True)]
        if trace
        else None
    )
    described: dict[str, int] | list[int] = (
        list(seeds) if seeds is not None else {"seed": seed, "count": count}
    )
    seconds = time.perf_counter() - began
    levels, epsilon = plan.ladder.tolist(), plan.epsilon
    done = Record(
        plan.name,
        levels,
        plan.repeats,
        spent,
        described,
        seconds,
        count,
        plan.final,
        start,
        epsilon,
        plan.eta,
        path,
    )
    return (samples, done) if record or trace else samples
