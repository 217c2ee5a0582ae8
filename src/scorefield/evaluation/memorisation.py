"""Memorisation: whether samples are copies of training examples.

With d1 <= d2 the distances of a sample to the nearest and to the second nearest training example,

    copy             d1/d2 < 1/3 (Yoon et al. 2023; Bonnaire et al. 2025)
    distance ratio   median d1 of samples over median d1 of held-out data; far below 1 where samples
                     crowd around training examples

Both stand beside the same number of held-out data, which no model has seen: in few dimensions, and
in data of few values, d1/d2 is often small by chance. Training examples that are equal count as
one, so that a copy of a repeated example has a second neighbour. Distances are Euclidean, in the
units that the arrays have; differences of the nearest candidates are taken in float64, so that the
distance of an exact copy is 0.
"""

import hashlib
import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..tensors import check_finite, floats
from ..values import whole
from .classes import fraction
from .estimate import Estimate
from .intervals import read_level
from .pairs import row_chunks, squared_distances

COPY = 1 / 3  # d1/d2 below which a sample is a copy
SIZE = 0.05  # fraction of copies beyond that of held-out data, from which it counts
CROWDED = 0.5  # distance ratio below which samples crowd around training examples
BLOCK = 8192  # training examples at a time
CANDIDATES = 4  # nearest ones whose distances are computed anew, exactly
PAIRS = 8
MEDIANS = "ratio of medians; order statistics, combined as Zou & Donner 2008 do"


@dataclass(frozen=True)
class Nearest:
    """The nearest training examples of n examples.

    Attributes:
        index: int64 (n,), the nearest training example; the first one of equal ones.
        distance: (n,) float64, d1.
        second: (n,) float64, d2, the distance to the second nearest distinct one.
    """

    index: Tensor
    distance: Tensor
    second: Tensor

    @property
    def ratio(self) -> Tensor:
        """d1/d2 (n,)."""
        return self.distance / self.second

    @property
    def copies(self) -> Tensor:
        """Which examples are copies, bool (n,)."""
        return self.ratio < COPY


class TrainingNeighbours:
    """The distinct examples of a training set, for the neighbours of samples.

    Made once, it serves many sets of samples, such as the previews of a training.

    Args:
        train: (N, *event) with two or more distinct examples, in the units of the samples.

    Attributes:
        duplicates: Number of training examples that repeat an earlier one.

    Raises:
        InputError: For numbers that are not finite, or fewer than two distinct examples.
    """

    def __init__(self, train: Any) -> None:
        x = check_finite(floats(train, "train"), "train").detach().cpu()
        if x.ndim < 2 or x[:1].numel() == 0:
            raise InputError(f"train must be (N, *event); got {tuple(x.shape)}")
        self.event_shape = tuple(x.shape[1:])
        kept = _first_of_equal(x.flatten(1))
        if len(kept) < 2:
            raise InputError(
                f"copies need two or more distinct training examples; got {len(kept)} of {len(x)}"
            )
        self.duplicates = len(x) - len(kept)
        self._index, self._rows = kept, x.flatten(1)
        self._centre = x.flatten(1).mean(0, dtype=torch.float64)

    def __len__(self) -> int:
        return len(self._index)

    def nearest(self, samples: Any, name: str = "samples") -> Nearest:
        """The two nearest distinct training examples of each sample.

        Args:
            samples: (n, *event) in the units of the training data.
            name: The argument's name, for messages.

        Returns:
            Indices and distances.

        Raises:
            InputError: For examples of another shape, or numbers that are not finite.
        """
        x = check_finite(floats(samples, name), name).detach().cpu()
        if tuple(x.shape[1:]) != self.event_shape or len(x) == 0:
            raise InputError(
                f"{name} must have the event shape {self.event_shape} of the training data; got "
                f"{tuple(x.shape)}"
            )
        wide = x.flatten(1).double()
        candidates = self._candidates(wide - self._centre)
        apart = torch.stack(
            [(wide - self._rows[column].double()).norm(dim=1) for column in candidates.T], dim=1
        )
        distance, order = apart.sort(dim=1, stable=True)
        index = candidates.gather(1, order)
        return Nearest(index[:, 0], distance[:, 0], distance[:, 1])

    def _candidates(self, centred: Tensor) -> Tensor:
        """Indices (n, k) of the k nearest training examples, up to rounding."""
        count = min(CANDIDATES, len(self))
        best = centred.new_full((len(centred), 0), math.inf)
        index = torch.zeros(len(centred), 0, dtype=torch.int64)
        for chosen in self._index.split(BLOCK):
            block = self._rows[chosen].double() - self._centre
            near, place = [], []
            for part in row_chunks(centred, block):
                found = squared_distances(centred[part], block)
                least = found.topk(min(count, len(block)), dim=1, largest=False)
                near.append(least.values)
                place.append(chosen[least.indices])
            best = torch.cat([best, torch.cat(near)], dim=1)
            index = torch.cat([index, torch.cat(place)], dim=1)
            kept = best.topk(min(count, best.shape[1]), dim=1, largest=False)
            best, index = kept.values, index.gather(1, kept.indices)
        return index

    def copy_fraction(self, samples: Any) -> float:
        """The fraction of copies alone, a cheap number for use during training."""
        return float(self.nearest(samples).copies.double().mean())


def _first_of_equal(rows: Tensor) -> Tensor:
    """Indices of the rows that equal no earlier row; 0 and -0 are equal."""
    seen: dict[bytes, int] = {}
    for number, row in enumerate((rows + 0.0).numpy()):
        seen.setdefault(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), number)
    return torch.tensor(list(seen.values()), dtype=torch.int64)


@dataclass(frozen=True)
class Memorisation:
    """The result of `measure_memorisation`.

    Attributes:
        copies: Fraction of samples that are copies of a training example.
        held_out_copies: The same of held-out data, the floor.
        distance_ratio: Median distance of samples to the training data, over that of held-out data.
        sample_distance: Median distance of samples to the nearest training example.
        held_out_distance: The same of held-out data.
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
        """Whether samples are copies, by size.

        True where 5 % more of them than of held-out data are copies, or where they lie half as far
        from the training data as held-out data do, both by their intervals.
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
    """Whether samples are copies of training examples, beside the same of held-out data.

    Args:
        samples: (n, *event), 2 or more, in data units as the others.
        held_out: (m, *event), 2 or more examples that were not trained on.
        train: (N, *event), all training examples, or their `TrainingNeighbours`.
        level: Of the intervals, in [0.5, 0.999].
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
        level: Of the interval.

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
