"""`score_health`: whether a model learned the score, memorised its data, or broke.

    health = sf.diagnostics.score_health(model, held_out, train)
    print(health)                       # a table and the verdicts
    health.picture().save("health.png")

`health_rows` defines the measures at each noise level, `health_verdicts` the faults.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import conditions
from ..conditions import Condition
from ..errors import InputError
from ..execution import eager
from ..models import ScoreModel, check_model
from ..plotting import Chart, Picture, save_seed_curves
from ..sampling import working_type
from ..tensors import check_finite, floats
from ..values import finite, is_number, numbers, whole
from .health_data import TRAINING_KEYS, Examples, Reference
from .health_measure import Probe
from .health_rows import HealthRow
from .health_verdicts import Finding, judge, notes

FINEST, WIDEST = 25.0, 10.0  # the default levels lie within std/FINEST and WIDEST std
TOP = 2.0  # of a picture's axis
VERSION = 1  # of `to_dict`


@dataclass(frozen=True)
class Health:
    """The result of `score_health`.

    Attributes:
        rows: One row a noise level, largest first.
        findings: The faults, each with a name and a sentence; empty for a sound model.
        notes: Sentences about measures that are off by more than 5 % without being a fault.
        held_out: Number of held-out examples used.
        training: Number of training examples used.
        seed: Seed of the noise.
    """

    rows: tuple[HealthRow, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    held_out: int
    training: int
    seed: int

    @property
    def sound(self) -> bool:
        """Whether no fault was found."""
        return not self.findings

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the findings."""
        return tuple(found.name for found in self.findings)

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.findings:
            return " ".join(found.sentence for found in self.findings)
        best = min(self.rows, key=lambda row: row.loss.value / row.gaussian.value)
        return (
            f"No fault was found at {len(self.rows)} noise levels; the held-out loss is down to "
            f"{best.loss.value / best.gaussian.value:.0%} of the best Gaussian's (sigma "
            f"{best.sigma:.3g})."
        )

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold: NaN and infinity become None."""
        return {
            "version": VERSION,
            "sound": self.sound,
            "sentence": self.sentence,
            "findings": [found.to_dict() for found in self.findings],
            "notes": list(self.notes),
            "held_out_examples": self.held_out,
            "training_examples": self.training,
            "seed": self.seed,
            "levels": [row.to_dict() for row in self.rows],
        }

    def __str__(self) -> str:
        names = ("held-out", "training", "Gaussian", "memoriser", "Stein", "slope", "pred/error")
        lines = [" ".join(f"{name:>10}" for name in ("sigma", *names, "asymmetry", "detail"))]
        for row in self.rows:
            values = (row.loss, row.training_loss, row.gaussian, row.memoriser, row.stein)
            more = (row.slope, row.calibration, row.asymmetry, row.detail)
            cells = [f"{row.sigma:10.4g}", *(f"{v.value:10.3f}" for v in (*values, *more))]
            lines.append(" ".join(cells))
        return "\n".join([*lines, self.sentence, *self.notes])

    def picture(self, columns: int | None = None) -> Picture:
        """The losses and the relative deviations at each noise level.

        Args:
            columns: Charts in a row, 1 or 2; None: 2.

        Returns:
            The picture.
        """
        charts = self._charts()
        caption = (
            f"{self.held_out:,} held-out and {self.training:,} training examples. Loss 1: "
            f"only means and variances are known. Values above {TOP:g} are cut off."
        )
        return Picture(
            lambda path: save_seed_curves(path, charts, "Score health", caption, columns),
            "the losses of a score model and its deviations at each noise level",
        )

    def _charts(self) -> list[Chart]:
        sigma = [row.sigma for row in self.rows]
        losses = {
            "held-out": [row.loss.value for row in self.rows],
            "training": [row.training_loss.value for row in self.rows],
            "best Gaussian": [row.gaussian.value for row in self.rows],
            "memoriser": [row.memoriser.value for row in self.rows],
        }
        off = {
            "Stein's identity": [abs(row.stein.value) for row in self.rows],
            "asymmetry": [row.asymmetry.value for row in self.rows],
        }
        axis = "noise level σ (model units)"
        tables = ("Denoising loss", "loss", losses), ("Relative deviations", "deviation", off)
        return [
            Chart(title, axis, label, _series(sigma, table), "x", bottom=0.0, top=_top(table))
            for title, label, table in tables
        ]


def _top(values: Mapping[str, list[float]]) -> float:
    """Upper end of a vertical axis: TOP at most, above which a value is simply too large."""
    finite_ones = [v for column in values.values() for v in column if math.isfinite(v)]
    return min(TOP, max(1.1 * max(finite_ones, default=1.0), 0.1))


def _series(sigma: list[float], values: Mapping[str, list[float]]) -> dict[str, Any]:
    """Series of a chart, without the levels where a value is not finite."""
    found: dict[str, Any] = {}
    for name, column in values.items():
        pairs = [(s, v) for s, v in zip(sigma, column, strict=True) if math.isfinite(v)]
        if pairs:
            found[name] = ([s for s, _ in pairs], [[v for _, v in pairs]])
    return found


def score_health(
    model: ScoreModel,
    held_out: Tensor | Sequence[Any],
    train: Tensor | Sequence[Any],
    condition: Mapping[str, Any] | None = None,
    *,
    levels: int | Sequence[float] = 8,
    seed: int = 0,
    train_condition: Mapping[str, Any] | None = None,
    live: ScoreModel | None = None,
    truth: ScoreModel | None = None,
    examples: int = 512,
) -> Health:
    """Measure a score at several noise levels and name what is wrong with it.

    At each level the cost is 2 x examples evaluations, and examples/8 evaluations with three
    vector-Jacobian products each. Conditions are those of the examples; the references ignore them.

    Args:
        model: The score model.
        held_out: (N, *event) in model units, examples that were not trained on; 2 or more.
        train: (M, *event) in model units, the training examples; 2 or more.
        condition: The held-out examples' conditions, such as {"class": labels}; None for none.
        levels: Number of noise levels, in the part of the model's range from 1/25 to 10 standard
            deviations of the data; or the levels themselves, model units.
        seed: Decides the noise.
        train_condition: The training examples' conditions.
        live: The model with its live weights, where `model` has averaged ones.
        truth: A model whose score is known to be right, to which Fisher divergences are measured.
        examples: Noisy examples of either kind at each level; where fewer clean examples exist,
            each gets several noises.

    Returns:
        One row for each level, and the faults by name.

    Raises:
        InputError: For examples of another shape, too few of them, or bad levels.

    Example:
        health = score_health(model, held_out, train)
        print(health)
    """
    check_model(model)
    examples, seed = whole(examples, "examples", 2), whole(seed, "seed", 0)
    clean, known = _examples(model, held_out, "held_out"), _examples(model, train, "train")
    reference = Reference(known.cpu())
    sigmas = health_levels(model, levels, float(reference.variance.mean().sqrt()))
    device, dtype = working_type(model)

    def prepare(x0: Tensor, given: Mapping[str, Any] | None, first: int) -> Examples:
        resolved: Condition | None = conditions.resolve(
            given, model.conditions, len(x0), type(model).__name__
        )
        return Examples.of(x0.to(device, dtype), resolved, examples, seed, first)

    probe = Probe(
        model,
        reference,
        prepare(clean, condition, 0),
        prepare(known, train_condition, TRAINING_KEYS),
        live,
        truth,
    )
    modes = [(m, m.training) for m in (model, live) if m is not None]
    try:
        with eager():
            for one, _ in modes:
                one.eval()
            rows = tuple(probe.row(sigma, n) for n, sigma in enumerate(sigmas))
    finally:
        for one, mode in modes:
            one.train(mode)
    counts = len(probe.held_out.x0), len(probe.training.x0)
    return Health(rows, tuple(judge(rows, reference)), tuple(notes(rows)), *counts, seed)


def health_levels(model: ScoreModel, levels: int | Sequence[float], data_std: float) -> list[float]:
    """The noise levels of a report, largest first.

    Args:
        model: The model, for its range and its ladder.
        levels: Their number, or the levels themselves.
        data_std: Standard deviation of the data, model units.

    Returns:
        Levels within the model's range; of the ladder, for a model that is defined there alone.

    Raises:
        InputError: For no level, or one outside the model's range.
    """
    data_std = finite(data_std, "data_std", 0.0)
    if not is_number(levels):
        chosen = sorted(numbers(levels, "levels"), reverse=True)
        if not chosen or chosen[-1] <= 0:
            raise InputError(f"levels must be one or more numbers above 0; got {chosen}")
        model.check_range(torch.tensor(chosen, dtype=torch.float64))
        return chosen
    count = whole(levels, "levels", 1)
    low, high = max(model.sigma_min, data_std / FINEST), min(model.sigma_max, WIDEST * data_std)
    if not low < high:
        low, high = model.sampling_range()
    if model.ladder_only and model.ladder is not None:
        ladder = model.ladder.double()
        inside = ladder[(ladder >= low) & (ladder <= high)]
        inside = inside if len(inside) else ladder
        places = torch.linspace(0, len(inside) - 1, min(count, len(inside))).round().long()
        return [float(sigma) for sigma in inside[places]]
    if count == 1:
        return [math.sqrt(low * high)]
    ratio = (low / high) ** (1 / (count - 1))
    return [high, *(high * ratio**n for n in range(1, count - 1)), low]


def _examples(model: ScoreModel, values: Tensor | Sequence[Any], name: str) -> Tensor:
    """Examples that fit the model, checked."""
    x0 = check_finite(floats(values, name), name).detach()
    if x0.ndim < 1 or tuple(x0.shape[1:]) != tuple(model.event_shape) or len(x0) < 2:
        shape = ", ".join(map(str, model.event_shape))
        raise InputError(
            f"{name} must be (N, {shape}) in model units with two or more examples; got "
            f"{tuple(x0.shape)}"
        )
    return x0
