"""`sample` and `draw`: from a model and a seed to samples in data units.

Sample k of a seed is a function of (seed, k), the recipe and the precision; it does not depend on
the batch size or on its batch mates.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

import torch
from torch import Tensor

from .. import conditions, rng
from ..conditions import Condition
from ..data import view_of
from ..errors import InputError
from ..models import Cost, Guidance, ScoreModel, check_levels, check_model
from ..values import describe, flag, functions, is_number, whole, whole_numbers
from .autopilot import PredictedRecipe
from .kernel import Kernel
from .loop import Result, StepEvent, run
from .recipe import (
    Ladder,
    SamplingRecipe,
    default_batch,
    first_state,
    resolve_sampling,
)
from .results import Record, Samples
from .state import State

BATCH_ELEMENTS = 1 << 18  # numbers a batch holds by default: 334 digits, 131,072 points of a plane
DEFAULT_COUNT = 64


def working_type(model: ScoreModel) -> tuple[torch.device, torch.dtype]:
    """The device and floating type of the state x.

    Returns:
        The model's device, and float32 (or wider) for models with parameters, float64 for closed
        forms.
    """
    parameters: list[Tensor] = [p for p in model.parameters() if p.is_floating_point()]
    tensors = parameters or [*model.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    if not parameters:
        return device, torch.float64
    return device, torch.promote_types(parameters[0].dtype, torch.float32)


def _rows(count: int, batch: int, particles: int, pad: bool) -> list[tuple[Tensor, int]]:
    """(row numbers, how many of them are wanted) of each batch.

    Batches hold whole groups of particles. With `pad` the last batch is filled up with copies of
    the last group, so that a compiled network meets one shape.
    """
    batch = max(particles, batch - batch % particles)
    parts = []
    for first in range(0, count, batch):
        size = min(batch, count - first)
        rows = torch.arange(first, first + size)
        if pad and count > batch and size < batch:
            last = torch.arange(count - particles, count)
            rows = torch.cat([rows, last.repeat((batch - size) // particles)])
        parts.append((rows, size))
    return parts


def draw(
    model: ScoreModel,
    recipe: SamplingRecipe,
    keys: rng.Keys,
    *,
    condition: Condition | None = None,
    particles: int = 1,
    batch: int | None = None,
    callbacks: Sequence[Callable[[StepEvent], None]] = (),
    sink: Callable[[Tensor], None] | None = None,
    trace: bool = False,
) -> Samples:
    """Draw one sample a key by a recipe, in batches.

    Networks work in float32 (or autocast), closed forms in float64. The model is put into
    evaluation mode and back.

    Args:
        model: The score model.
        recipe: From `resolve_sampling`.
        keys: One key a row, as `rng.keys`, `rng.keys_of` or `rng.blend_rows` make them.
        condition: In the internal form, one row a sample; None for none.
        particles: Rows a group of a particle population; a batch never cuts a group.
        batch: Rows at a time; it changes no sample. None: about BATCH_ELEMENTS numbers.
        callbacks: Called with a StepEvent after each step of each batch.
        sink: Receives each batch's samples in data units, which are then not kept: any count in
            constant memory.
        trace: Keep x at every level.

    Returns:
        The samples with their record.

    Raises:
        InputError: For a batch below 1, keys that are no whole groups, or a condition of another
            length.
        NonFiniteError: After the first step that leaves a NaN or an infinity.
    """
    check_model(model)
    keys, particles = rng.as_keys(keys), whole(particles, "particles", 1)
    batch = None if batch is None else whole(batch, "batch", 1)
    callbacks, trace = functions(callbacks, "callbacks"), flag(trace, "trace")
    count = len(keys)
    if count % particles:
        raise InputError(f"{count} keys are no whole groups of {particles} particles")
    conditions.check(condition, model.conditions, count, type(model).__name__)
    device, dtype = working_type(model)
    keys, condition = keys.to(device), conditions.to_device(condition, device)
    size = default_batch(model, BATCH_ELEMENTS) if batch is None else batch
    pad = any(leaf.compiled for leaf in model.leaves())
    parts = _Parts(model, sink)
    began, training = time.perf_counter(), model.training
    model.eval()
    try:
        for rows, wanted in _rows(count, size, particles, pad):
            given, part = conditions.take(condition, rows), keys[rows.to(device)]
            with torch.no_grad():
                x = first_state(model, recipe, part, dtype, given)
            result = run(
                recipe.kernel,
                model,
                recipe.ladder,
                State(x, particles=particles),
                recipe.steps_per_level,
                recipe.final,
                keys=part,
                condition=given,
                callbacks=callbacks,
                trace=trace,
            )
            parts.add(result, wanted)
    finally:
        model.train(training)
    record = parts.record(recipe, count, time.perf_counter() - began, trace)
    empty = torch.empty(0, *model.event_shape, dtype=dtype, device=device)
    samples = torch.cat(parts.x) if parts.x else empty
    weights = torch.cat(parts.weights) if parts.weights else None
    return Samples(samples, record, weights, view_of(model))


class _Parts:
    """What the batches of a draw leave: samples and traces in data units, weights and cost."""

    def __init__(self, model: ScoreModel, sink: Callable[[Tensor], None] | None) -> None:
        self.x: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.paths: list[list[tuple[float, Tensor]]] = []
        self.cost, self.nfe = Cost(), 0
        self._to_data = model.units.to_data
        self._take = self.x.append if sink is None else sink

    def add(self, result: Result, wanted: int) -> None:
        """Keep the first `wanted` rows of a batch."""
        self._take(self._to_data(result.x[:wanted]))
        if result.state.log_weight is not None:
            self.weights.append(result.state.log_weight[:wanted])
        if result.trace is not None:
            self.paths.append([(s, self._to_data(y[:wanted])) for s, y in result.trace])
        self.cost = _add(self.cost, result.cost)
        self.nfe = result.evaluations

    def path(self) -> list[tuple[float, Tensor]]:
        """(sigma, x) over all batches."""
        return [(at[0][0], torch.cat([y for _, y in at])) for at in zip(*self.paths, strict=True)]

    def record(self, recipe: SamplingRecipe, count: int, seconds: float, trace: bool) -> Record:
        """The record of all batches."""
        return Record(
            sampler=recipe.name,
            options=recipe.kernel.options(),
            ladder=recipe.ladder.tolist(),
            steps_per_level=recipe.steps_per_level,
            start=recipe.start,
            final=recipe.final,
            nfe=self.nfe,
            cost=self.cost,
            seeds=None,
            count=count,
            seconds=seconds,
            trace=self.path() if trace else None,
            prediction=recipe.prediction if isinstance(recipe, PredictedRecipe) else None,
        )


def _add(a: Cost, b: Cost) -> Cost:
    return Cost(a.forwards + b.forwards, a.products + b.products, a.densities + b.densities)


def _seeds(seed: Any) -> int | list[int]:
    """A seed, or a list of seeds."""
    try:
        return whole(seed, "seed") if is_number(seed) else whole_numbers(seed, "seed")
    except InputError as error:
        raise InputError(
            "seed must be a whole number, a sequence of them or keys; got "
            f"{describe(seed)} ({error})"
        ) from error


def _keys(seed: int | Sequence[int] | rng.Keys, count: int | None) -> tuple[rng.Keys, Any]:
    """Keys, and the record's `seeds`, of what `sample` calls a seed."""
    count = None if count is None else whole(count, "count", 0)
    described: Any = None
    if isinstance(seed, rng.Blend) or getattr(seed, "ndim", 0) == 2:
        made: rng.Keys = rng.as_keys(seed)
    else:
        given = _seeds(seed)
        if isinstance(given, list):
            made, described = rng.keys_of(given), given
        else:
            count = DEFAULT_COUNT if count is None else count
            made, described = rng.keys(given, count), {"seed": given, "count": count}
    if count is not None and count != len(made):
        raise InputError(
            f"{len(made)} seeds make {len(made)} samples; got count={count}. Leave count out"
        )
    return made, described


@overload
def sample(
    model: ScoreModel,
    count: int | None = ...,
    seed: int | Sequence[int] | rng.Keys = ...,
    *,
    nfe: int | None = ...,
    sampler: str | Kernel | SamplingRecipe | None = ...,
    ladder: Ladder | None = ...,
    options: Mapping[str, Any] | None = ...,
    condition: Mapping[str, Any] | None = ...,
    guidance: float | Guidance | None = ...,
    record: Literal[False] = ...,
) -> Tensor: ...
@overload
def sample(
    model: ScoreModel,
    count: int | None = ...,
    seed: int | Sequence[int] | rng.Keys = ...,
    *,
    nfe: int | None = ...,
    sampler: str | Kernel | SamplingRecipe | None = ...,
    ladder: Ladder | None = ...,
    options: Mapping[str, Any] | None = ...,
    condition: Mapping[str, Any] | None = ...,
    guidance: float | Guidance | None = ...,
    record: Literal[True],
) -> tuple[Tensor, Record]: ...


def sample(
    model: ScoreModel,
    count: int | None = None,
    seed: int | Sequence[int] | rng.Keys = 0,
    *,
    nfe: int | None = None,
    sampler: str | Kernel | SamplingRecipe | None = None,
    ladder: Ladder | None = None,
    options: Mapping[str, Any] | None = None,
    condition: Mapping[str, Any] | None = None,
    guidance: float | Guidance | None = None,
    record: bool = False,
) -> Tensor | tuple[Tensor, Record]:
    """Draw samples in data units.

        x = sf.sample(model, count=16, seed=0, nfe=32)
        x = sf.sample(model, 8, sampler="matched-sde", options={"eta": 3}, condition={"class": 7})

    Where `nfe` is the only choice, the sampler is the one that was best at that number of
    evaluations (`budget`, docs/samplers.md), with its own ladder:

        densities in closed form     to 4 veab, to 15 zeab with p = 3 (to 8 with a raised last
                                     level), then unipc with p = 3
        networks of images, signals  to 6 veab, to 10 zeab with p = 3, then matched-sde with eta = 3
        networks of tables, points   to 6 veab, to 15 zeab with p = 3, then unipc with p = 3

    A sampler, options or a recipe that the caller names always win. A card whose sampling settings
    are not those that training chooses by itself keeps its sampler at any `nfe`.

    Args:
        model: The score model.
        count: Number of samples; None: 64, or as many as there are seeds.
        seed: A whole number: sample k has the key hash(seed, k). A sequence gives each sample a
            seed of its own; `rng.keys` or `rng.blend_rows` give keys.
        nfe: Evaluations of the model a sample, the final denoise included. Given alone it decides
            the sampler too: a method that `tune` put into the card for this number, else the
            table above, unless the user chose the card's sampler. None: the number in the model
            card, else the sampler's default.
        sampler: A name of SAMPLERS, a kernel, or a recipe, which also sets steps per level, start
            and final step: of `resolve_sampling`, of `resolve_accuracy` for a wanted accuracy, or
            of `tune`. None: the card's sampler, else "heun", or "annealed-langevin" for models with
            fixed noise levels.
        ladder: Noise levels in model units, decreasing; or "geometric", "karras" or "few-step".
        options: Options of the sampler by name.
        condition: Mapping from names to values, one for all or one a sample; classes by number or
            name (`conditions.resolve`).
        guidance: Scale w of classifier-free guidance, D_none + w (D - D_none) with D_none the model
            without its condition; or a `Guidance` with an interval of noise levels or a weaker
            model. None for none.
        record: Return the record too.

    Returns:
        (count, *event) in data units; with `record` the pair of samples and `Record`. Images are
        floats in [0, 1] up to the model's error: they are not clipped, `x.clamp(0, 1)` does it.
        (Files of `scorefield sample` are clipped.)

    Raises:
        InputError: For an unknown sampler, contradicting lengths, a ladder outside the model's
            range, or a condition that the model does not take.
        NonFiniteError: After the first step that leaves a NaN or an infinity.
    """
    check_model(model)
    keys, described = _keys(seed, count)
    given = conditions.resolve(condition, model.conditions, len(keys), type(model).__name__)
    if guidance is not None:
        model = Guidance.of(guidance).wrap(model, given)
    if isinstance(sampler, SamplingRecipe):
        if nfe is not None or ladder is not None or options is not None:
            raise InputError("a recipe has its length and options: give nfe, ladder to its maker")
        recipe = sampler
        check_levels(model, recipe.ladder)
    else:
        recipe = resolve_sampling(model, sampler, nfe, ladder, options=options)
    drawn = draw(model, recipe, keys, condition=given)
    if not flag(record, "record"):
        return drawn.x
    return drawn.x, replace(drawn.record, seeds=described)
