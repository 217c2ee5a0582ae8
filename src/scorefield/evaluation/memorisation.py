"""Memorisation: whether samples are copies of training examples.

With d1 <= d2 the distances of a sample to the nearest and to the second nearest training example,

    copy             d1/d2 < 1/3 (Yoon et al. 2023; Bonnaire et al. 2025)
    distance ratio   median d1 of samples over median d1 of held-out data; far below 1 where samples
                     crowd around training examples

Both are reported with the same number for held-out data, which no model has seen: in few
dimensions, and in data of few values, d1/d2 is often small by chance. Equal training examples count
as one, so that a copy of a repeated example has a second neighbour. Distances are Euclidean, in the
units that the arrays have; differences of the nearest candidates are taken in float64, so that the
distance of an exact copy is 0.
"""

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from torch import Tensor

from ..diagnostics.copies import Nearest, TrainingNeighbours
from ..errors import InputError
from ..values import whole
from .classes import fraction
from .estimate import Estimate
from .intervals import read_level

SIZE = 0.05  # excess of the fraction of copies over that of held-out data, from which it counts
CROWDED = 0.5  # distance ratio below which samples crowd around training examples
PAIRS = 8
MEDIANS = "ratio of medians; order statistics, combined as Zou & Donner 2008 do"


@dataclass(frozen=True)
class Memorisation:
    """The result of `measure_memorisation`.

    Attributes:
        copies: Fraction of samples that are copies of a training example.
        held_out_copies: The same fraction of held-out data, which is the floor.
        distance_ratio: Median distance of samples to the training data, over that of held-out data.
        sample_distance: Median distance of samples to the nearest training example.
        held_out_distance: The same distance of held-out data.
        pairs: (sample, training example) of the samples with the smallest d1/d2, least first, for
            pictures.
        duplicates: Training examples that repeat an earlier one.
        leaked: Held-out examples that equal a training example.
        samples: Number of samples.
        training: Number of distinct training examples.
        nearest: The neighbours of all samples.
    """

    copies: Estimate
    held_out_copies: Estimate
    distance_ratio: Estimate
    sample_distance: float
    held_out_distance: float
    pairs: tuple[tuple[int, int], ...]
    duplicates: int
    leaked: int
    samples: int
    training: int
    nearest: Nearest = field(repr=False, compare=False)

    @property
    def memorised(self) -> bool:
        """Whether samples are copies of training examples.

        True where the fraction of copies exceeds that of held-out data by more than 0.05, or where
        the distance ratio is below 0.5; the intervals must lie beyond these sizes.
        """
        more = self.copies.low > self.held_out_copies.high + SIZE
        return more or self.distance_ratio.high < CROWDED

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        start = "The training data come back" if self.memorised else "No copies beyond chance"
        text = (
            f"{start}: {_percent(self.copies)} of samples are copies of a training example, "
            f"{_percent(self.held_out_copies)} of held-out data; samples lie {self.distance_ratio} "
            "times as far from the training data as held-out data do."
        )
        if self.leaked:
            text += f" {self.leaked:,} held-out examples equal a training example."
        return text

    def to_dict(self) -> dict[str, Any]:
        """The numbers in a form that JSON can hold; pairs as lists, neighbours left out."""
        found: dict[str, Any] = {
            name: value.to_dict() if isinstance(value, Estimate) else value
            for name, value in vars(self).items()
            if name not in ("nearest", "pairs")
        }
        pairs = [
            {"sample": sample, "training": example, "ratio": float(self.nearest.ratio[sample])}
            for sample, example in self.pairs
        ]
        return found | {"pairs": pairs, "memorised": self.memorised, "sentence": self.sentence}


def _percent(found: Estimate) -> str:
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"


def measure_memorisation(
    samples: Any,
    held_out: Any,
    train: Any,
    *,
    level: float = 0.9,
    pairs: int = PAIRS,
) -> Memorisation:
    """Measure whether samples are copies of training examples, compared with held-out data.

    Args:
        samples: (n, *event), 2 or more, in data units as the others.
        held_out: (m, *event), 2 or more examples that were not trained on.
        train: (N, *event), all training examples, or their `TrainingNeighbours`.
        level: Level of the intervals, in [0.5, 0.999].
        pairs: Number of closest pairs.

    Returns:
        Copies, distances and the closest pairs.

    Raises:
        InputError: For examples of other shapes, or too few.
    """
    level, pairs = read_level(level), whole(pairs, "pairs", 0)
    known = train if isinstance(train, TrainingNeighbours) else TrainingNeighbours(train)
    near, others = known.nearest(samples), known.nearest(held_out, "held_out")
    for found, name in ((near, "samples"), (others, "held_out")):
        if len(found.index) < 2:
            raise InputError(f"{name} must have two or more examples")
    order = near.ratio.argsort(stable=True)[:pairs]
    return Memorisation(
        fraction(int(near.copies.sum()), len(near.index), level),
        fraction(int(others.copies.sum()), len(others.index), level),
        median_ratio(near.distance, others.distance, level),
        float(near.distance.quantile(0.5)),
        float(others.distance.quantile(0.5)),
        tuple((int(k), int(near.index[k])) for k in order),
        known.duplicates,
        int((others.distance == 0).sum()),
        len(near.index),
        len(known),
        near,
    )


def median_ratio(top: Tensor, bottom: Tensor, level: float) -> Estimate:
    """The ratio of two medians of numbers of 0 or more.

    The intervals of the medians are those of order statistics, which hold for any distribution;
    they are combined on the logarithmic scale by the method of Zou & Donner 2008.

    Args:
        top: (n,).
        bottom: (m,), independent of `top`.
        level: Level of the interval.

    Returns:
        The estimate; infinite ends where the medians do not bound it.
    """
    a, a_low, a_high = _median(top, level)
    b, b_low, b_high = _median(bottom, level)
    count = {"count": len(top), "reference_count": len(bottom)}
    if a == 0 or b == 0:
        value = 0.0 if b > 0 else math.nan
        high = a_high / b_low if b_low > 0 else math.inf
        return Estimate(value, 0.0, high, level, method=MEDIANS, **count)
    logs = [math.log(v) if v > 0 else -math.inf for v in (a, a_low, a_high, b, b_low, b_high)]
    a, a_low, a_high, b, b_low, b_high = logs
    low = a - b - math.hypot(a - a_low, b_high - b)
    high = a - b + math.hypot(a_high - a, b - b_low)
    ends = math.exp(low), (math.exp(high) if math.isfinite(high) else math.inf)
    return Estimate(math.exp(a - b), *ends, level, method=MEDIANS, **count)


def _median(values: Tensor, level: float) -> tuple[float, float, float]:
    """The median, and the order statistics between which it lies with probability `level`."""
    ordered = values.double().sort().values
    count, z = len(ordered), NormalDist().inv_cdf((1 + level) / 2)
    low = max(0, math.floor((count - z * math.sqrt(count)) / 2) - 1)
    return float(ordered.quantile(0.5)), float(ordered[low]), float(ordered[count - 1 - low])
