"""`restore`: draws of what an observation may have been, with their mean and standard deviation.

The measurement is brought to model units, a method of `METHODS` samples its posterior, and the
draws return to the form in which the observation came. Exactly known elements are the observed
values.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .. import conditions, rng
from ..conditions import Condition
from ..data import form_of, view_of
from ..errors import InputError
from ..models import Cost, Guidance, ScoreModel, check_model
from ..noise import check_ladder
from ..progress import duration
from ..sampling import StepEvent, draw, with_kernel, working_type
from ..values import describe, functions, mapping, plain_tree, shape, whole
from .choose import Chosen, choose_method
from .collect import Collector, Sink
from .known import notes_on_known_rows, refuse_other_constants
from .measurement import Measurement, Reading
from .methods import METHODS, SAMPLING_OPTIONS, Prepared, exact_draws
from .observed import for_model
from .operators import Mask, quick_check
from .posteriors import Posterior
from .problem import Problem
from .record import RestorationRecord, per_draw
from .result import Restoration

BATCH_ELEMENTS = 1 << 16  # elements of x a batch holds by default: a gradient passes the network


@dataclass(frozen=True)
class RestorationPlan:
    """What a restoration will do, found before it starts.

    Attributes:
        method: The name of the method.
        reason: Why it was chosen; "" where the caller named it.
        evaluations: Evaluations of the prior a draw.
        seconds: Seconds that all draws are expected to take; 0 for exact draws.
        draws: Number of draws in all.
        notes: Notices about known cells of a table that the training data do not have.
    """

    method: str
    reason: str
    evaluations: int
    seconds: float
    draws: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        spent = "independent draws of the closed form"
        if self.evaluations:
            spent = (
                f"{self.evaluations} evaluations a draw, about {duration(self.seconds)} for "
                f"{self.draws:,} draws"
            )
        return f"method {self.method}{reason}: {spent}"


class _Job:
    """A restoration whose arguments are checked: what is measured, by which method, in batches."""

    def __init__(
        self,
        model: ScoreModel,
        measurement: Measurement,
        draws: int,
        method: str,
        options: dict[str, Any],
        condition: Any,
    ) -> None:
        self.device, self.dtype = working_type(model)
        self.draws, self.options = draws, options
        known = for_model(measurement, form_of(model.card), tuple(model.event_shape))
        self.measurement = known.resolve(model.event_shape)
        _check_operator(self.measurement, model)
        self.reading: Reading = self.measurement.read(model.units, model.event_shape)
        self.notes = self._check_known(model)
        wide = self.measurement.problem(model.units, model.event_shape)
        self.exact_problem = wide
        self.count = len(self.reading.values)
        given = conditions.resolve(condition, model.conditions, self.count)
        self.condition = conditions.to_device(given, self.device)
        self.problem = _moved(wide, self.device, self.dtype)
        batch = options.pop("batch", None)
        self.model = _guided(model, options.pop("guidance", None), self.condition)
        sampled = any(name in options for name in SAMPLING_OPTIONS)
        self.chosen: Chosen = choose_method(method, self.model, self.problem, sampled)
        self.method = METHODS[self.chosen.name]
        self.method.check_options(options)
        usual = max(1, BATCH_ELEMENTS // math.prod(model.event_shape))
        self.size = usual if batch is None else whole(batch, "batch", 1)
        self.rows = torch.arange(self.count).repeat_interleave(draws)

    def _check_known(self, model: ScoreModel) -> tuple[str, ...]:
        """Notices on exactly known elements; those that differ from a constant are refused."""
        known = self.measurement.kept(model.event_shape)
        if known is None or not self.measurement.exact:
            return ()
        refuse_other_constants(model, self.reading, known, self.measurement.tensor.dtype)
        return notes_on_known_rows(model, self.reading, known)

    def prepare(self, rows: Tensor) -> Prepared:
        """What samples the rows (numbers of observations)."""
        return self.method(self.model, self.problem.take(rows), self.options)

    def batches(self) -> Iterator[Tensor]:
        """Numbers of the draws of each batch."""
        yield from torch.split(torch.arange(len(self.rows)), self.size)

    def plan(self) -> RestorationPlan:
        """The plan; one evaluation of the method is timed."""
        if self.method.direct:
            return RestorationPlan(*self.chosen, 0, 0.0, len(self.rows), self.notes)
        rows = self.rows[: self.size]
        prepared = self.prepare(rows)
        x = torch.zeros(len(rows), *self.model.event_shape, device=self.device, dtype=self.dtype)
        given = conditions.take(self.condition, rows.to(self.device))
        with torch.no_grad():
            prepared.model(x, prepared.recipe.ladder[0], given)  # the first call is slower
            began = time.perf_counter()
            prepared.model(x, prepared.recipe.ladder[0], given)
        spent = (time.perf_counter() - began) * prepared.recipe.evaluations
        seconds = spent * len(self.rows) / len(rows)
        evaluations = prepared.recipe.evaluations
        return RestorationPlan(*self.chosen, evaluations, seconds, len(self.rows), self.notes)


def _moved(problem: Problem, device: torch.device, dtype: torch.dtype) -> Problem:
    """The problem with its observation in the type and on the device of the model."""
    known = None if problem.known is None else problem.known.to(device)
    return replace(problem, y=problem.y.to(device, dtype), known=known)


def _check_operator(measurement: Measurement, model: ScoreModel) -> None:
    """Refuse an operator that is not what it claims, before a run starts."""
    operator = measurement.whole(model.event_shape)
    if not isinstance(operator, Mask):
        middle = torch.zeros(3, *model.event_shape, dtype=torch.float64)
        quick_check(operator, tuple(model.event_shape), examples=model.units.to_data(middle))


def restore(
    model: ScoreModel,
    measurement: Measurement,
    draws: int = 16,
    seed: int = 0,
    *,
    method: str = "auto",
    nfe: int | None = None,
    options: Mapping[str, Any] | None = None,
    condition: Any = None,
    callbacks: Sequence[Callable[[StepEvent], None]] = (),
    sink: Sink | None = None,
) -> Restoration:
    """Draw restorations of each observation: draws of p(x | y).

    With method="auto" a line with the method and the reason, its evaluations and the seconds
    expected is printed before it starts, and a line for each column of a table whose known values
    the training data do not have.

    Args:
        model: The prior.
        measurement: The observations, their operator and their noise; NaN marks unknown elements.
        draws: Restorations of each observation, 1 or more.
        seed: Draw j of observation n has the key of sample n * draws + j of the seed.
        method: A name of `METHODS`, or "auto" for one that suits the observation.
        nfe: Evaluations of the prior a draw; None: at most 100.
        options: ladder, levels, steps_per_level, guidance (as `sample` takes it), batch (draws
            computed at a time) and the method's own. What is left out comes from the model card,
            else from the defaults.
        condition: One condition for all observations, or one each, as `sample` takes it.
        callbacks: Each is called with a StepEvent after each step of each batch.
        sink: Called with (n, draws (K, *event)) for each observation in turn; the draws are then
            not kept.

    Returns:
        The draws with their mean, standard deviation, residuals and record.

    Raises:
        InputError: The observation, the operator, the method and the model do not fit.

    Example:
        >>> seen = sf.Measurement(image, sf.operators.Mask(mask))
        >>> sf.restore(model, seen, draws=8).mean
    """
    job = _job(model, measurement, draws, method, nfe, options, condition)
    callbacks = functions(callbacks, "callbacks")
    if method == "auto":
        print(job.plan(), *job.notes, sep="\n", file=sys.stderr)
    keys = rng.keys(seed, len(job.rows)).to(job.device)
    collector = Collector(job.measurement, job.reading, model, job.draws, sink)
    spent, recipe, began = _Spent(), {}, time.perf_counter()
    if job.method.direct:
        _draw_exactly(job, seed, collector)
    else:
        for part in job.batches():
            observation = job.rows[part]
            prepared = job.prepare(observation)
            samples = draw(
                prepared.model,
                with_kernel(prepared.recipe, prepared.kernel),
                keys[part.to(job.device)],
                condition=conditions.take(job.condition, observation.to(job.device)),
                batch=len(part),
                callbacks=callbacks,
            )
            spent.add(samples.record.cost, prepared.model, len(part))
            recipe = prepared.recipe.to_dict()
            collector.add(samples.x.cpu())
    record = spent.record(job, recipe, time.perf_counter() - began)
    return collector.result(record, view_of(model))


def plan_restoration(
    model: ScoreModel,
    measurement: Measurement,
    draws: int = 16,
    *,
    method: str = "auto",
    nfe: int | None = None,
    options: Mapping[str, Any] | None = None,
    condition: Any = None,
) -> RestorationPlan:
    """What `restore` would do: the method and why, evaluations and seconds; nothing is sampled.

    Args:
        model: The prior.
        measurement: As for `restore`.
        draws: As for `restore`.
        method: As for `restore`.
        nfe: As for `restore`.
        options: As for `restore`.
        condition: As for `restore`.

    Returns:
        The plan; `str` of it is one line.

    Raises:
        InputError: As for `restore`.
    """
    return _job(model, measurement, draws, method, nfe, options, condition).plan()


def _job(
    model: ScoreModel,
    measurement: Measurement,
    draws: int,
    method: str,
    nfe: int | None,
    options: Mapping[str, Any] | None,
    condition: Any,
) -> _Job:
    check_model(model)
    if not isinstance(measurement, Measurement):
        raise InputError(
            f"measurement must be sf.Measurement(observed, operator); got {describe(measurement)}"
        )
    chosen = _read_options(options)
    if nfe is not None:
        if chosen.get("nfe") is not None:
            raise InputError("nfe is given twice: as an argument and in options")
        chosen["nfe"] = whole(nfe, "nfe", 1)
    draws = whole(draws, "draws", 1)
    return _Job(model, measurement, draws, method, chosen, condition)


def _draw_exactly(job: _Job, seed: int, collector: Collector) -> None:
    """Independent draws, observation by observation."""
    keys = rng.keys(seed, job.count)
    for n in range(job.count):
        index = torch.tensor([n])
        given = conditions.take(job.condition, index.to(job.device))
        row = job.exact_problem.take(index)
        x = exact_draws(job.model, row, keys[n : n + 1], job.draws, given)
        collector.add(job.model.units.to_data(x.cpu()))


class _Spent:
    """What the batches of a restoration spent."""

    def __init__(self) -> None:
        self.cost, self.iterations, self.worst, self.rows = Cost(), 0.0, 0.0, 0

    def add(self, cost: Cost, model: ScoreModel, rows: int) -> None:
        """Add a batch."""
        self.cost.forwards += cost.forwards
        self.cost.products += cost.products
        self.cost.densities += cost.densities
        self.rows += rows
        if isinstance(model, Posterior):
            self.iterations += model.report.iterations * rows
            self.worst = max(self.worst, model.report.worst_residual)

    def record(self, job: _Job, recipe: dict[str, Any], seconds: float) -> RestorationRecord:
        """The record of all batches."""
        evaluations, products = per_draw(self.cost, self.rows)
        return RestorationRecord(
            method=job.chosen.name,
            reason=job.chosen.reason,
            exact_for=job.method.exact_for,
            approximate_because=job.method.approximate_because,
            options=_plain(job.options),
            sampling=recipe,
            evaluations=evaluations,
            products=products,
            seconds=round(seconds, 3),
            draws=len(job.rows),
            iterations=round(self.iterations / max(self.rows, 1)),
            worst_residual=self.worst,
        )


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a form that JSON can hold."""
    held = {k: v.tolist() if isinstance(v, Tensor) else v for k, v in options.items()}
    found: dict[str, Any] = plain_tree(held)
    simple = (bool, int, float, str, dict, list, type(None))
    return {k: v if isinstance(v, simple) else str(v) for k, v in found.items()}


def _guided(model: ScoreModel, guidance: Any, condition: Condition | None) -> ScoreModel:
    """The model, guided where there is guidance."""
    return model if guidance is None else Guidance.of(guidance).wrap(model, condition)


def _read_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of a method; every batch reads them, so a generator of noise levels is kept."""
    found = {} if options is None else mapping(options, "options")
    for name in ("nfe", "levels", "steps_per_level"):
        if found.get(name) is not None:
            found[name] = whole(found[name], name, 1)
    if "ladder" in found and found["ladder"] is not None and not isinstance(found["ladder"], str):
        found["ladder"] = check_ladder(found["ladder"])
    return found


def left_half(event_shape: Sequence[int]) -> Tensor:
    """A mask of the left half along the last dimension, which is known: bool, event_shape."""
    sides = shape(event_shape, "event_shape")
    mask = torch.zeros(sides, dtype=torch.bool)
    mask[..., : sides[-1] // 2] = True
    return mask
