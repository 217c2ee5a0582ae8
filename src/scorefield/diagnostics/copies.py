"""Copies of training examples: the two nearest distinct training examples of a sample.

With d1 <= d2 the distances of a sample to the nearest and to the second nearest training example,

    copy    d1/d2 < 1/3 (Yoon et al. 2023; Bonnaire et al. 2025)

Training examples that are equal count as one, so that a copy of a repeated example has a second
neighbour. Distances are Euclidean, in the units that the arrays have; differences of the nearest
candidates are taken in float64, so that the distance of an exact copy is 0. `training` watches
copies while a model learns, and `evaluation` measures them with intervals.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..pairs import row_chunks, squared_distances
from ..tensors import check_finite, floats

COPY = 1 / 3  # d1/d2 below which a sample is a copy
BLOCK = 8192  # training examples at a time
CANDIDATES = 4  # nearest ones whose distances are computed anew, exactly


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
    """The distinct examples of a training set, among which neighbours of samples are found.

    One object serves many sets of samples, such as the previews of a training.

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
        kept, number = _distinct(x.flatten(1))
        if len(kept) < 2:
            raise InputError(
                f"copies need two or more distinct training examples; got {len(kept)} of {len(x)}"
            )
        self.duplicates = len(x) - len(kept)
        self._index, self._rows = kept, x.flatten(1)
        self._repeated = torch.bincount(number)[number] > 1
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
        index, distance = self._ordered(x.flatten(1).double())
        return Nearest(index[:, 0], distance[:, 0], distance[:, 1])

    def left_out(self, count: int) -> Nearest:
        """The two nearest distinct training examples of training examples, themselves left out.

        The distances are distributed as those of new examples from the law of the training data.
        An example that occurs twice has its repetition at distance 0.

        Args:
            count: Number of training examples at most; the first ones are taken.

        Returns:
            Indices and distances; empty where fewer than three examples are distinct.
        """
        if len(self) < 3 or count < 1:
            none = torch.zeros(0, dtype=torch.float64)
            return Nearest(none.long(), none, none)
        index, distance = self._ordered(self._rows[:count].double())
        own = self._repeated[:count]
        first = torch.where(own, distance[:, 0], distance[:, 1])
        second = torch.where(own, distance[:, 1], distance[:, 2])
        return Nearest(torch.where(own, index[:, 0], index[:, 1]), first, second)

    def _ordered(self, wide: Tensor) -> tuple[Tensor, Tensor]:
        """Indices and distances (n, k) of the nearest training examples of rows, least first."""
        candidates = self._candidates(wide - self._centre)
        apart = torch.stack(
            [(wide - self._rows[column].double()).norm(dim=1) for column in candidates.T], dim=1
        )
        distance, order = apart.sort(dim=1, stable=True)
        return candidates.gather(1, order), distance

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
        """The fraction of samples that are copies.

        Args:
            samples: (n, *event) in the units of the training data.

        Returns:
            From 0 to 1.

        Raises:
            InputError: As for `nearest`.
        """
        return float(self.nearest(samples).copies.double().mean())


def _distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the rows that equal no earlier row, and each row's number among them.

    0 and -0 are equal.
    """
    seen: dict[bytes, int] = {}
    kept: list[int] = []
    numbers: list[int] = []
    for k, row in enumerate((rows + 0.0).numpy()):
        digest = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
        if digest not in seen:
            seen[digest] = len(kept)
            kept.append(k)
        numbers.append(seen[digest])
    return torch.tensor(kept, dtype=torch.int64), torch.tensor(numbers, dtype=torch.int64)
