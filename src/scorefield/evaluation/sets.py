"""`measure_sets`: every metric of samples against held-out and training data, with its floor.

The floor is the same number for data against data. Metrics of finite sets depend on the numbers of
examples, so that the floor is measured at the same numbers. Against the held-out data, a part of
the training data as large as the samples takes the place of the samples; against the training data,
a part of the held-out data does. Without training data the held-out data are halved: samples and
the second half are each compared with the first.

    metric of     samples[:c] against held-out    floor   training[:c] against held-out
    metric of     samples[:c] against training    floor   held-out[:c] against training
    no training   samples[:c] against half 1      floor   half 2[:c]   against half 1

Samples as good as the data are at the floor. Samples below the floor against the training data are
closer to the training data than other data are: this is memorisation.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..tensors import float64, reals
from ..values import did_you_mean, texts
from .distances import sliced
from .estimate import METRICS, Estimate
from .frechet import frechet
from .intervals import Purpose, generator, read_level
from .kernels import kernel_distance, mmd
from .marginals import compare_columns, read_categories
from .neighbours import prdc
from .spectra import has_spectrum, radial_spectrum
from .two_sample import classifier_test

LEAST = 20  # examples a side
MOST_FRECHET = 512  # elements an example, above which the Fréchet distance is left out by default

Found = Mapping[str, Estimate]
Measure = Callable[[Tensor, Tensor, int, float], Found]

# The metrics that one computation gives, and the computation for rows (N, k).
FAMILIES: dict[tuple[str, ...], Measure] = {
    ("sliced_w1", "sliced_w2", "sliced_features"): lambda x, y, seed, level: sliced(
        x, y, seed=seed, level=level
    ),
    ("mmd",): lambda x, y, seed, level: {"mmd": mmd(x, y, seed=seed, level=level)},
    ("kernel_distance",): lambda x, y, seed, level: {
        "kernel_distance": kernel_distance(x, y, seed=seed, level=level)
    },
    ("frechet",): lambda x, y, seed, level: {"frechet": frechet(x, y, seed=seed, level=level)},
    ("c2st_accuracy", "c2st_auc"): lambda x, y, seed, level: classifier_test(
        x, y, seed=seed, level=level
    ),
    ("precision", "recall", "density", "coverage"): lambda x, y, seed, level: prdc(
        x, y, seed=seed, level=level
    ),
    ("spectrum",): lambda x, y, seed, level: {
        "spectrum": radial_spectrum(x, y, seed=seed, level=level).difference
    },
}


@dataclass(frozen=True)
class MetricRow:
    """One metric of samples against one set of data.

    Attributes:
        metric: Key in `METRICS`.
        against: "held-out" or "training".
        estimate: Samples against data.
        floor: Data against data, at the same numbers of examples.
        seconds: Wall time of both, with the other metrics of the same computation.
    """

    metric: str
    against: str
    estimate: Estimate
    floor: Estimate
    seconds: float

    @property
    def at_floor(self) -> bool:
        """Whether the difference from the floor is within the intervals of both."""
        gap = abs(self.estimate.value - self.floor.value)
        ends = [
            (one.high - one.value) if one.value < other.value else (one.value - one.low)
            for one, other in ((self.estimate, self.floor), (self.floor, self.estimate))
        ]
        return gap <= math.hypot(*ends)

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON holds it, with the title and sentence of the metric."""
        metric = METRICS[self.metric]
        return {
            "metric": self.metric,
            "title": metric.title,
            "better": metric.better,
            "target": metric.target,
            "against": self.against,
            "estimate": self.estimate.to_dict(),
            "floor": self.floor.to_dict(),
            "at_floor": self.at_floor,
            "seconds": self.seconds,
        }


def measure_sets(
    samples: Any,
    held_out: Any,
    train: Any = None,
    *,
    seed: int = 0,
    names: Any = None,
    level: float = 0.9,
    metrics: Sequence[str] | None = None,
    categories: Mapping[str, Sequence[int]] | None = None,
) -> list[MetricRow]:
    """Measure samples against held-out and training data, with data against data as the floor.

    Args:
        samples: (N, *event), data units; or features (N, k) of them.
        held_out: (H, *event), data that the model was not trained on.
        train: (T, *event), training data; None for none.
        seed: Seed of all random parts, directions, halves and folds.
        names: Names of the elements of a table's rows, for its metrics; None for other data.
        level: Level of the intervals, in [0.5, 0.999].
        metrics: Names of `METRICS`; None for all that suit the data.
        categories: For a table: name -> indices of the elements of its words.

    Returns:
        One row a metric and set of data. The module docstring states the numbers of examples.

    Raises:
        InputError: For events of different shapes, fewer than 20 examples a side, values that are
            not finite, or metrics that do not exist or do not suit the data.

    Example:
        rows = sf.evaluation.measure_sets(samples, held_out, train)
        print(rows[0].metric, rows[0].estimate, rows[0].floor)
    """
    level = read_level(level)
    sets = _read_sets(samples, held_out, train, seed)
    shape = tuple(sets["samples"].shape[1:])
    columns = None if names is None else texts(names, "names")
    chosen = _choose(metrics, shape, columns is not None)
    families = _families(columns, read_categories(categories))
    rows: list[MetricRow] = []
    for against, (x, floor_x, y) in _comparisons(sets).items():
        for family, measure in families.items():
            wanted = [name for name in family if name in chosen]
            if not wanted:
                continue
            start = time.perf_counter()
            found, floor = (
                _with_counts(measure(part, y, seed, level), len(part), len(y))
                for part in (x, floor_x)
            )
            seconds = time.perf_counter() - start
            rows += [
                MetricRow(name, against, found[name], floor[name], seconds)
                for name in wanted
                if name in found and name in floor
            ]
    order = list(METRICS)
    return sorted(rows, key=lambda row: (row.against, order.index(row.metric)))


def measure_classes(
    samples: Any,
    held_out: Any,
    sample_classes: Any,
    held_out_classes: Any,
    *,
    seed: int = 0,
    level: float = 0.9,
    metrics: Sequence[str] | None = None,
) -> dict[int, list[MetricRow]]:
    """Measure samples of each class against held-out data of the class.

    Args:
        samples: (N, *event), samples or their features.
        held_out: (H, *event), held-out data.
        sample_classes: (N,), whole numbers.
        held_out_classes: (H,), whole numbers.
        seed: As for `measure_sets`.
        level: Level of the intervals, in [0.5, 0.999].
        metrics: As for `measure_sets`.

    Returns:
        Class -> rows, for classes with at least 20 samples and 40 held-out examples. The floor is
        that of two halves of the class.

    Raises:
        InputError: As `measure_sets`, and for another number of classes than examples.
    """
    metrics = None if metrics is None else texts(metrics, "metrics")
    found = {}
    parts = {"samples": (samples, sample_classes), "held_out": (held_out, held_out_classes)}
    read = {}
    for name, (value, classes) in parts.items():
        examples, labels = float64(value, name).cpu(), reals(classes, f"{name} classes").cpu()
        if labels.shape != examples.shape[:1] or labels.is_floating_point():
            raise InputError(
                f"the classes of {name} must be one whole number for each of {len(examples)} "
                f"examples; got {str(labels.dtype).removeprefix('torch.')} {tuple(labels.shape)}"
            )
        read[name] = examples, labels
    (x, x_classes), (y, y_classes) = read["samples"], read["held_out"]
    for label in y_classes.unique().tolist():
        of_x, of_y = x[x_classes == label], y[y_classes == label]
        if len(of_x) >= LEAST and len(of_y) >= 2 * LEAST:
            found[int(label)] = measure_sets(of_x, of_y, seed=seed, level=level, metrics=metrics)
    return found


def _read_sets(samples: Any, held_out: Any, train: Any, seed: int) -> dict[str, Tensor]:
    """The sets in float64 and in random orders, so that any first part is a random part."""
    given = {"samples": samples, "held_out": held_out, "train": train}
    sets = {name: float64(v, name).cpu() for name, v in given.items() if v is not None}
    source = generator(seed, Purpose.SETS)
    shape = sets["samples"].shape[1:]
    for name, value in sets.items():
        least = 2 * LEAST if name == "held_out" and train is None else LEAST
        if value.ndim < 2 or value.shape[1:] != shape or len(value) < least:
            raise InputError(
                f"{name} must be {least} or more events of the shape of samples, {tuple(shape)}; "
                f"got {tuple(value.shape)}"
            )
        sets[name] = value[torch.randperm(len(value), generator=source)]
    return sets


def _comparisons(sets: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Against -> samples, their stand-in for the floor, and the data."""
    samples, held_out = sets["samples"], sets["held_out"]
    if "train" not in sets:
        first, second = held_out.tensor_split(2)
        count = min(len(samples), len(second))
        return {"held-out": (samples[:count], second[:count], first)}
    found = {}
    for against, stand_in, data in (
        ("held-out", sets["train"], held_out),
        ("training", held_out, sets["train"]),
    ):
        count = min(len(samples), len(stand_in))
        found[against] = samples[:count], stand_in[:count], data
    return found


def _with_counts(found: Found, samples: int, data: int) -> Found:
    """The estimates, whose methods state how many examples were left out."""
    stated = {}
    for name, one in found.items():
        words = [
            f"a random {used:,} of {total:,} {what}"
            for used, total, what in (
                (one.count, samples, "samples"),
                (one.reference_count, data, "examples of the data"),
            )
            if used < total
        ]
        stated[name] = replace(one, method="; ".join([one.method, *words]))
    return stated


def _choose(metrics: Sequence[str] | None, shape: tuple[int, ...], table: bool) -> set[str]:
    """The names of the metrics that are wanted and suit the data."""
    suits = {"examples": True, "grid": has_spectrum(shape), "table": table}
    able = {name for name, metric in METRICS.items() if suits[metric.needs]}
    if metrics is None:
        large = math.prod(shape) > MOST_FRECHET
        return able - {"sliced_features"} - ({"frechet"} if large else set())
    wanted = texts(metrics, "metrics")
    for name in wanted:
        if name not in METRICS:
            raise InputError(f"there is no metric {name!r}{did_you_mean(name, METRICS)}")
        if name not in able:
            raise InputError(f"{name} needs a {METRICS[name].needs}; events have shape {shape}")
    return set(wanted)


def _families(
    columns: list[str] | None, categories: Mapping[str, Sequence[int]]
) -> dict[tuple[str, ...], Measure]:
    """The computations, with that of tables where there are names."""
    found = dict(FAMILIES)
    if columns is not None:
        found["marginal_w1", "category_tv", "correlation"] = lambda x, y, seed, level: (
            compare_columns(x, y, columns, categories, seed=seed, level=level).summary
        )
    return found
