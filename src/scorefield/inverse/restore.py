"""`restore`: draws of what an observation may have been, with their mean and standard deviation.

The measurement is brought to model units, a method of `METHODS` samples its posterior, and the
draws return to the form in which the observation came. Exactly known elements are the observed
values.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import conditions, rng
from ..conditions import Condition
from ..data import View, view_of
from ..errors import InputError
from ..models import Guidance, ScoreModel, check_model
from ..noise import check_ladder
from ..sampling import StepEvent, draw, with_kernel, working_type
from ..units import Units
from ..values import describe, functions, mapping, shape, whole
from .measurement import Measurement, Reading
from .methods import find_method
from .operators import Mask
from .result import Restoration

BATCH_ELEMENTS = 1 << 18  # elements of x a batch holds by default


Sink = Callable[[int, Tensor], None]


class _Collector:
    """Turns draws in data units, in the order of the keys, into the results of each observation."""

    def __init__(
        self,
        measurement: Measurement,
        reading: Reading,
        event_shape: tuple[int, ...],
        draws: int,
        sink: Sink | None,
    ) -> None:
        self.operator = measurement.whole(event_shape)
        self.noise_std = measurement.noise_std
        self.reading, self.draws, self.sink = reading, draws, sink
        self.event_shape = event_shape
        self.stored = measurement.batch(event_shape)[0]
        self.buffer = torch.empty(0, *event_shape)
        self.kept: list[Tensor] = []
        self.means: list[Tensor] = []
        self.stds: list[Tensor] = []
        self.chi2: list[Tensor] = []

    def add(self, x: Tensor) -> None:
        """Take the next draws, (B, *event) in data units."""
        self.buffer = torch.cat([self.buffer.to(x.dtype), x])
        while len(self.buffer) >= self.draws:
            self._finish(len(self.means), self.buffer[: self.draws])
            self.buffer = self.buffer[self.draws :]

    def _finish(self, n: int, x: Tensor) -> None:
        form = self.reading.form
        if self.noise_std > 0:
            wide = x.to(torch.float64)
            rows = torch.full((len(x),), n)
            residual = (self.operator.take(rows).A(wide) - self.reading.values[n]) / self.noise_std
            self.chi2.append(residual.square().flatten(1).mean(1))
        restored = form.store(x)
        if isinstance(self.operator, Mask) and self.noise_std == 0:
            mask = self.operator.on(self.event_shape)
            mask = mask[n] if self.operator.batched else mask
            restored = torch.where(mask, self.stored[n].to(restored.dtype), restored)
        floats = form.floats(restored)
        self.means.append(floats.mean(0))
        lone = torch.full_like(floats[0], math.nan)
        self.stds.append(floats.std(0) if self.draws > 1 else lone)
        if self.sink is None:
            self.kept.append(restored)
        else:
            self.sink(n, restored)

    def result(self, units: Units, evaluations: int, view: View) -> Restoration:
        """All observations' results; without the batch dimension for a single measurement."""
        form = self.reading.form
        real = form.dtype if form.dtype.is_floating_point else units.dtype
        mean, std = (torch.stack(parts).to(real) for parts in (self.means, self.stds))
        chi2 = torch.stack(self.chi2) if self.chi2 else None
        none = torch.empty(0, self.draws, *self.event_shape, dtype=form.dtype)
        kept = torch.stack(self.kept) if self.kept else none
        if self.reading.single:
            kept = kept[0] if self.kept else kept.flatten(0, 1)
            mean, std, chi2 = mean[0], std[0], None if chi2 is None else chi2[0]
        mask = self.operator.on(self.event_shape) if isinstance(self.operator, Mask) else None
        return Restoration(
            kept, mean, std, chi2, evaluations, self.stored, mask, view, self.reading.single
        )


def restore(
    model: ScoreModel,
    measurement: Measurement,
    draws: int = 16,
    seed: int = 0,
    *,
    method: str = "auto",
    options: Mapping[str, Any] | None = None,
    condition: Any = None,
    batch: int | None = None,
    callbacks: Sequence[Callable[[StepEvent], None]] = (),
    sink: Sink | None = None,
) -> Restoration:
    """Draw restorations of each observation.

    Args:
        model: The prior.
        measurement: The observations, their operator and their noise; NaN marks unknown elements.
        draws: Restorations of each observation, 1 or more.
        seed: Draw j of observation n has the key of sample n * draws + j of the seed.
        method: A name of `METHODS`, or "auto" for the first that fits the measurement.
        options: nfe, ladder, levels, steps_per_level, guidance (as `sample` takes it) and the
            method's own. What is left out comes from the model card, else from the defaults.
        condition: One condition for all observations, or one each, as `sample` takes it.
        batch: Draws computed at a time.
        callbacks: Each is called with a StepEvent after each step of each batch.
        sink: Called with (n, draws (K, *event)) for each observation in turn; the draws are then
            not kept.

    Returns:
        The draws with their mean and standard deviation.

    Raises:
        InputError: The observation, the method and the model do not fit.

    Example:
        >>> seen = sf.Measurement(image, sf.operators.Mask(mask))
        >>> sf.restore(model, seen, draws=8).mean
    """
    check_model(model)
    if not isinstance(measurement, Measurement):
        raise InputError(
            f"measurement must be sf.Measurement(observed, operator); got {describe(measurement)}"
        )
    draws, batch = whole(draws, "draws", 1), None if batch is None else whole(batch, "batch", 1)
    chosen_options = _read_options(options)
    callbacks = functions(callbacks, "callbacks")
    chosen = find_method(method, measurement)
    measurement = measurement.resolve(model.event_shape)
    reading = measurement.read(model.units, model.event_shape)
    device, dtype = working_type(model)
    inner = measurement.to_model_units(model.units, model.event_shape)
    inner = replace(inner, observed=inner.observed.to(device, dtype))
    count = len(reading.values)
    given = conditions.to_device(conditions.resolve(condition, model.conditions, count), device)
    model = _guided(model, chosen_options.pop("guidance", None), given)
    rows = torch.arange(count).repeat_interleave(draws)
    keys = rng.keys(seed, len(rows)).to(device)
    size = batch or max(1, BATCH_ELEMENTS // math.prod(model.event_shape))
    collector = _Collector(measurement, reading, model.event_shape, draws, sink)
    evaluations = 0
    for part in torch.split(torch.arange(len(rows)), size):
        observation = rows[part]
        seen = replace(
            inner,
            observed=inner.observed[observation.to(device)],
            operator=inner.whole(model.event_shape).take(observation),
        )
        prepared = chosen(model, seen, chosen_options)
        samples = draw(
            prepared.model,
            with_kernel(prepared.recipe, prepared.kernel),
            keys[part.to(device)],
            condition=conditions.take(given, observation.to(device)),
            batch=len(part),
            callbacks=callbacks,
        )
        evaluations = samples.record.nfe
        collector.add(samples.x.cpu())
    return collector.result(model.units, evaluations, view_of(model))


def _guided(model: ScoreModel, guidance: Any, condition: Condition | None) -> ScoreModel:
    """The model, guided where there is guidance."""
    return model if guidance is None else Guidance.of(guidance).wrap(model, condition)


def _read_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of a method; every batch reads them, so a generator of noise levels is kept."""
    found = {} if options is None else mapping(options, "options")
    if "ladder" in found and found["ladder"] is not None and not isinstance(found["ladder"], str):
        found["ladder"] = check_ladder(found["ladder"])
    return found


def left_half(event_shape: Sequence[int]) -> Tensor:
    """A mask of the left half along the last dimension, which is known: bool, event_shape."""
    sides = shape(event_shape, "event_shape")
    mask = torch.zeros(sides, dtype=torch.bool)
    mask[..., : sides[-1] // 2] = True
    return mask
