"""Samples class by class: frequencies, and whether conditional samples are of their class.

A classifier of the labels names the class of each sample and of each held-out example. The
frequency of a class in the samples is compared with its frequency in the held-out data, found by
the same classifier. The accuracy of samples that were drawn for a class is compared with the
classifier's own accuracy on held-out examples of the class.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from .estimate import Estimate

METHOD = "Wilson's interval of a fraction"
MISSING = 0.2  # of the frequency in the data, below which a class counts as missing
LOST = 0.5  # of the accuracy on held-out data, below which a class counts as not followed
EXPECTED = 8  # samples of a class that must be expected before it can be missing


@dataclass(frozen=True)
class ClassRow:
    """One class.

    Attributes:
        name: The class.
        samples: Fraction of the samples that the classifier assigns to the class.
        data: The same fraction of the held-out data.
        accuracy: Fraction of the samples drawn for the class that are assigned to it; None where
            samples were drawn without classes.
        data_accuracy: The same fraction of held-out examples of the class; None where there are
            none.
    """

    name: str
    samples: Estimate
    data: Estimate
    accuracy: Estimate | None
    data_accuracy: Estimate | None

    @property
    def is_missing(self) -> bool:
        """Whether the class is nearly absent from the samples, by the upper end of the interval."""
        expected = self.data.value * self.samples.count
        return expected >= EXPECTED and self.samples.high < MISSING * self.data.value

    @property
    def is_lost(self) -> bool:
        """Whether few samples drawn for the class are of it, by the upper end of the interval."""
        if self.accuracy is None or self.data_accuracy is None or self.accuracy.count < EXPECTED:
            return False
        return self.accuracy.high < LOST * self.data_accuracy.value

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON holds it."""
        return {
            name: value.to_dict() if isinstance(value, Estimate) else value
            for name, value in vars(self).items()
        } | {"missing": self.is_missing, "lost": self.is_lost}


def fraction(hits: int, count: int, level: float) -> Estimate:
    """A fraction with Wilson's interval.

    Args:
        hits: Number of hits.
        count: Number of trials, 1 or more.
        level: Level of the interval.

    Returns:
        The estimate.
    """
    z, p = NormalDist().inv_cdf((1 + level) / 2), hits / count
    spread = 1 + z * z / count
    centre = (p + z * z / (2 * count)) / spread
    half = z / spread * math.sqrt(p * (1 - p) / count + (z / (2 * count)) ** 2)
    low, high = max(0.0, min(centre - half, p)), min(1.0, max(centre + half, p))
    return Estimate(p, low, high, level, count, METHOD)


def compare_classes(
    names: Sequence[str],
    samples: np.ndarray,
    held_out: np.ndarray,
    labels: np.ndarray,
    wanted: np.ndarray | None,
    level: float,
) -> list[ClassRow]:
    """Compare samples with held-out data class by class.

    Args:
        names: The classes.
        samples: int64 (N,), the classes that the classifier finds in the samples.
        held_out: int64 (M,), the same in the held-out data.
        labels: int64 (M,), the labels of the held-out data.
        wanted: int64 (N,), the classes that the samples were drawn for; None for none.
        level: Level of the intervals.

    Returns:
        One row a class.
    """

    def right(found: np.ndarray, truth: np.ndarray | None, number: int) -> Estimate | None:
        if truth is None or not (truth == number).any():
            return None
        of_class = found[truth == number]
        return fraction(int((of_class == number).sum()), len(of_class), level)

    return [
        ClassRow(
            name,
            fraction(int((samples == k).sum()), len(samples), level),
            fraction(int((held_out == k).sum()), len(held_out), level),
            right(samples, wanted, k),
            right(held_out, labels, k),
        )
        for k, name in enumerate(names)
    ]


def overall(found: np.ndarray, truth: np.ndarray, level: float) -> Estimate:
    """The fraction of examples whose class the classifier finds, with its interval."""
    return fraction(int((found == truth).sum()), len(truth), level)
