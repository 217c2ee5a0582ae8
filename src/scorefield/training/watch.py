"""The watch for memorisation: copies of training examples among the samples of a preview.

Let d1 <= d2 be the distances of a sample to the nearest two distinct training examples, and h its
distance to the nearest held-out example:

    copy    d1/d2 < 1/3 (`diagnostics.copies`)
    pull    median of d1/h over samples, over its median over new examples; below 1 where the
            samples are nearer to the training data than new data are. Blurred or noisy samples
            change d1 and h alike

New examples stand for examples of the same law that were not trained on: held-out examples, and
training examples, each compared with the other ones. In few dimensions and in data whose rows
repeat, many of them are copies by chance. A model memorises, or begins to, where a measure is large
and a test rejects chance:

    memorising    the fraction of copies among samples is at least 0.05 above that among new
                  examples (Fisher's exact test)
    begins to     the pull is below 0.9 (the rank-sum test of Mann and Whitney)

Both tests have the level ALPHA. Where it was measured, the pull fell below 0.9 before the held-out
loss turned, and copies appeared later (docs/trackers.md).

Distances are taken between examples as they are stored: samples are rounded to the levels of images
and to the values of a table's columns. Elements are in standard deviations of the training data,
one for each column of vectors and for each channel of other data. Of large training sets a random
part is searched, so that copies of the rest are missed; the size of the part follows from the
budget, so that the search takes about one percent of the time (`most_numbers`).
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist

import torch
from torch import Tensor

from ..data import Dataset
from ..data.pipeline import split
from ..diagnostics.copies import TrainingNeighbours
from ..errors import InputError
from ..units import quantise

SIZE = 0.05  # excess of the fraction of copies over that by chance, from which it counts
PULL = 0.9  # pull below which samples are nearer to the training data than new data are
ALPHA = 0.001  # probability of a false alarm of either test at an evaluation
FEWEST_HELD = 8  # distinct held-out examples, of which the nearest one is measured
MOST_EXAMPLES, MOST_NUMBERS = 2**16, 2**25  # examples, and elements, searched at most
# A search takes about 0.15 microseconds for each element of the part, all previews of a run
# together. Training takes longer than 1.5 microseconds for each element of an image.
FEWEST_NUMBERS, PER_SECOND, PER_IMAGE = 2**22, 2**16, 0.1
# New examples of each kind: at most MOST_NEW, at least FEWEST_NEW, and between them as many as cost
# WORK multiplications.
MOST_NEW, FEWEST_NEW, WORK = 500, 32, 2**29


@dataclass(frozen=True)
class Copies:
    """Copies among the samples of one preview.

    Attributes:
        hits: Number of samples that are copies.
        samples: Number of samples.
        new_hits: Number of new examples that are copies by chance.
        new: Number of new examples.
        distance_ratio: Median distance of samples to the nearest training example, over that of
            held-out data; NaN where the latter is 0 or nothing is held out.
        pull: See the module docstring; NaN where few examples are held out.
        pull_chance: p-value of the rank-sum test; 1 where there is no pull.
    """

    hits: int
    samples: int
    new_hits: int
    new: int
    distance_ratio: float = math.nan
    pull: float = math.nan
    pull_chance: float = 1.0

    @property
    def fraction(self) -> float:
        """The fraction of samples that are copies."""
        return self.hits / self.samples

    @property
    def by_chance(self) -> float:
        """The fraction of new examples that are copies; 0 where there are none."""
        return self.new_hits / self.new if self.new else 0.0

    @property
    def memorising(self) -> bool:
        """Whether the model memorises, by the module docstring's rule."""
        more = self.fraction - self.by_chance
        return more >= SIZE and tail(self.hits, self.samples, self.new_hits, self.new) <= ALPHA

    @property
    def begins(self) -> bool:
        """Whether the model memorises or begins to."""
        return self.memorising or (self.pull < PULL and self.pull_chance <= ALPHA)

    @property
    def sentence(self) -> str:
        """What the samples show, in words; empty where they show nothing."""
        if self.memorising:
            return (
                f"memorising: {self.fraction:.0%} of the samples are copies of training examples "
                f"({self.by_chance:.1%} of examples that are new)"
            )
        if self.begins:
            return (
                f"beginning to memorise: samples lie {1 - self.pull:.0%} closer to training "
                "examples than new examples do"
            )
        return ""

    def entries(self) -> dict[str, float]:
        """Entries of a line of metrics."""
        return {
            "copies": self.fraction,
            "copies_by_chance": self.by_chance,
            "copies_samples": self.samples,
            "distance_ratio": self.distance_ratio,
            "pull": self.pull,
        }


def tail(hits: int, count: int, new_hits: int, new: int) -> float:
    """The p-value of Fisher's exact test: both groups have the same chance of a hit.

    Args:
        hits: Hits of the first group.
        count: Its size.
        new_hits: Hits of the second group.
        new: Its size.

    Returns:
        P(X >= hits), where X is the hypergeometric number of hits in a random group of that size.
    """
    every, both = hits + new_hits, count + new
    ways = sum(
        math.comb(every, k) * math.comb(both - every, count - k)
        for k in range(hits, min(every, count) + 1)
    )
    return ways / math.comb(both, count)


def rank_sum(low: Tensor, high: Tensor) -> float:
    """The p-value of the rank-sum test that `low` is not below `high` (Mann and Whitney).

    Args:
        low: (n,).
        high: (m,).

    Returns:
        The one-sided p-value, by the normal approximation with the correction for ties.
    """
    n, m = len(low), len(high)
    _, place, ties = torch.cat([low, high]).unique(return_inverse=True, return_counts=True)
    ranks = (ties.cumsum(0).double() - (ties - 1) / 2)[place]
    above = float(ranks[:n].sum()) - n * (n + 1) / 2
    tied = float((ties.double() ** 3 - ties).sum()) / ((n + m) * (n + m - 1))
    variance = n * m / 12 * (n + m + 1 - tied)
    return NormalDist().cdf((above + 0.5 - n * m / 2) / math.sqrt(variance)) if variance else 1.0


@dataclass(frozen=True)
class _Known:
    """What samples are compared with.

    Attributes:
        train: The training examples.
        held_out: The held-out ones; None where fewer than FEWEST_HELD are distinct.
        hits: Number of copies among new examples.
        count: Number of new examples.
        distance: Median distance of held-out data to the training data; NaN without them.
        nearness: d1/(d1 + h) of the new examples; empty without `held_out`.
    """

    train: TrainingNeighbours
    held_out: TrainingNeighbours | None
    hits: int
    count: int
    distance: float
    nearness: Tensor

    @classmethod
    def of(cls, train: Tensor, held_out: Tensor, new: int) -> "_Known":
        """Compare new examples, at most `new` of each kind, with the training data (N, *event)."""
        known = TrainingNeighbours(train)
        own = known.left_out(new)
        if len(held_out) == 0:
            none = torch.zeros(0, dtype=torch.float64)
            return cls(known, None, int(own.copies.sum()), len(own.index), math.nan, none)
        fresh = known.nearest(held_out)
        hits = int(own.copies.sum()) + int(fresh.copies.sum())
        distance = float(fresh.distance.median())
        held: TrainingNeighbours | None = None
        parts = [torch.zeros(0, dtype=torch.float64)]
        if len(held_out.flatten(1).unique(dim=0)) >= FEWEST_HELD:
            held = TrainingNeighbours(held_out)
            others = held.left_out(len(held_out)).distance
            parts += [nearness(fresh.distance, others)]
            if len(own.index):
                parts += [nearness(own.distance, held.nearest(train[: len(own.index)]).distance)]
        count = len(own.index) + len(fresh.index)
        return cls(known, held, hits, count, distance, torch.cat(parts))


def most_numbers(images: int | None, seconds: float | None, elements: int) -> int:
    """The number of elements of the training data that are searched, by the budget of a run.

    Args:
        images: The budget in images; None where the budget is in seconds.
        seconds: The budget in seconds, or None.
        elements: Elements of an example.

    Returns:
        The number, between FEWEST_NUMBERS and MOST_NUMBERS.
    """
    by_budget = (
        PER_SECOND * seconds if seconds is not None else PER_IMAGE * (images or 0) * elements
    )
    return int(min(MOST_NUMBERS, max(FEWEST_NUMBERS, by_budget)))


def nearness(d1: Tensor, h: Tensor) -> Tensor:
    """d1/(d1 + h), which orders examples as d1/h does; 1/2 where both are 0."""
    return torch.where(d1 + h > 0, d1 / (d1 + h), 0.5)


class CopyWatch:
    """Finds copies among samples. The training data are read when the first samples come.

    Args:
        dataset: The data.
        train: int64 (N,), the training part.
        held_out: int64 (M,), the held-out part.
        most: Elements of the training part that are searched at most.
    """

    def __init__(
        self, dataset: Dataset, train: Tensor, held_out: Tensor, most: int = MOST_NUMBERS
    ) -> None:
        elements = max(1, math.prod(dataset.event_shape))
        count = min(len(train), MOST_EXAMPLES, max(2, most // elements))
        self._dataset, self._train, self._held_out = dataset, train[:count], held_out
        new = max(FEWEST_NEW, WORK // (count * elements))
        self._new = min(MOST_NEW, new)

    @classmethod
    def of(
        cls, dataset: Dataset, seed: int, held_out: float, most: int = MOST_NUMBERS
    ) -> "CopyWatch":
        """The watch of a run, which has split its data in the same way.

        Args:
            dataset: The data.
            seed: The seed of the run.
            held_out: Fraction that is held out, as for `data.pipeline.split`.
            most: As for `CopyWatch`.

        Returns:
            The watch.
        """
        return cls(dataset, *split(dataset.labels, len(dataset), seed, held_out), most)

    def look(self, samples: Tensor) -> Copies | None:
        """Count the copies among samples.

        Args:
            samples: (n, *event) in data units.

        Returns:
            The counts; None where samples are not finite, or fewer than two training examples are
            distinct.
        """
        known = self._known
        if known is None or len(samples) == 0 or not bool(torch.isfinite(samples).all()):
            return None
        scaled = self._scaled(self._as_stored(samples.detach().cpu()))
        near = known.train.nearest(scaled)
        ratio = float(near.distance.median()) / known.distance if known.distance > 0 else math.nan
        found = Copies(int(near.copies.sum()), len(samples), known.hits, known.count, ratio)
        if known.held_out is None:
            return found
        drawn = nearness(near.distance, known.held_out.nearest(scaled).distance)
        middle, usual = float(drawn.quantile(0.5)), float(known.nearness.quantile(0.5))
        if not (middle < 1 and 0 < usual < 1):
            return found
        pull = middle / (1 - middle) * (1 - usual) / usual
        return replace(found, pull=pull, pull_chance=rank_sum(drawn, known.nearness))

    @cached_property
    def _known(self) -> _Known | None:
        """What samples are compared with; None where all training examples are equal."""
        held_out = self._dataset.floats(self._held_out[: self._new])
        try:
            train = self._scaled(self._dataset.floats(self._train))
            return _Known.of(train, self._scaled(held_out), self._new)
        except InputError:
            return None

    @cached_property
    def _scale(self) -> Tensor:
        """Standard deviations, one a column or channel; 1 where nothing varies."""
        x = self._dataset.floats(self._train[:4096]).double()
        others = [0, *range(2, x.ndim)]
        std = x.std(others, unbiased=False, keepdim=True)
        return torch.where(std > 0, std, torch.ones_like(std))[0]

    def _scaled(self, x: Tensor) -> Tensor:
        return (x.double() / self._scale).to(x.dtype)

    def _as_stored(self, x: Tensor) -> Tensor:
        """Samples as their values are stored, in data units."""
        levels, form = self._dataset.quantisation_levels, self._dataset.form
        if levels is not None:
            return quantise(x, levels).to(torch.float32).div_(levels - 1)
        if form is not None and form.kind == "table":
            return form.encode(form.decode(x.to(self._dataset.dtype)), "the samples")
        return x.to(self._dataset.dtype)
