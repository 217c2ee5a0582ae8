"""The watch for memorisation: how many samples of a preview are copies of training examples.

A sample is a copy where the nearest training example is less than a third as far as the second
nearest distinct one (`diagnostics.copies`). Beside it stands the same number of examples that are
distributed as the data and new: held-out ones, and training examples among the others. In few
dimensions and in data whose rows repeat, many of those are copies by chance. The model memorises
where both hold:

    size      5 % more of the samples than of the new examples are copies
    chance    samples from the distribution of the new examples have so many copies with a
              probability of ALPHA at most (Fisher's exact test)

Distances are taken between examples as they are stored: samples are rounded to the levels of images
and to the values of a table's columns. Elements are in standard deviations of the training data,
one for each column of vectors and for each channel of other data. Of large training sets a random
part is searched, `MOST_EXAMPLES` or `MOST_NUMBERS`, so that copies of the rest are missed.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..data import Dataset
from ..data.pipeline import split
from ..diagnostics.copies import Nearest, TrainingNeighbours
from ..errors import InputError
from ..units import quantise

SIZE = 0.05  # fraction of copies beyond chance, from which it counts
ALPHA = 0.001  # false alarms of the test an evaluation
MOST_EXAMPLES, MOST_NUMBERS = 2**16, 2**25  # of the training data that are searched
# New examples of each kind, as many as cost so many products of numbers, but at least FEWEST.
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
    """

    hits: int
    samples: int
    new_hits: int
    new: int
    distance_ratio: float = math.nan

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
    def sentence(self) -> str:
        """Copies in words."""
        return memorising(self.fraction, self.by_chance)

    def entries(self) -> dict[str, float]:
        """Entries of a line of metrics."""
        return {
            "copies": self.fraction,
            "copies_by_chance": self.by_chance,
            "copies_samples": self.samples,
            "distance_ratio": self.distance_ratio,
        }


def memorising(copies: float, by_chance: float) -> str:
    """The sentence about a model that memorises."""
    return (
        f"memorising: {copies:.0%} of the samples are copies of training examples "
        f"({by_chance:.1%} of examples that are new)"
    )


def tail(hits: int, count: int, new_hits: int, new: int) -> float:
    """The probability of so many hits where both groups have the same chance of a hit.

    Args:
        hits: Hits of the first group.
        count: Its size.
        new_hits: Hits of the second group.
        new: Its size.

    Returns:
        P(X >= hits) for X hypergeometric: the hits of a random group of that size (Fisher).
    """
    every, both = hits + new_hits, count + new
    ways = sum(
        math.comb(every, k) * math.comb(both - every, count - k)
        for k in range(hits, min(every, count) + 1)
    )
    return ways / math.comb(both, count)


class CopyWatch:
    """Finds copies among samples. The training data are read when the first samples come.

    Args:
        dataset: The data.
        train: int64 (N,), the training part.
        held_out: int64 (M,), the held-out part.
    """

    def __init__(self, dataset: Dataset, train: Tensor, held_out: Tensor) -> None:
        elements = max(1, math.prod(dataset.event_shape))
        count = min(len(train), MOST_EXAMPLES, max(2, MOST_NUMBERS // elements))
        self._dataset, self._train, self._held_out = dataset, train[:count], held_out
        new = max(FEWEST_NEW, WORK // (count * elements))
        self._new = min(MOST_NEW, new)

    @classmethod
    def of(cls, dataset: Dataset, seed: int, held_out: float) -> "CopyWatch":
        """The watch of a run, which has split its data in the same way.

        Args:
            dataset: The data.
            seed: The seed of the run.
            held_out: Which part is held out, as for `data.pipeline.split`.

        Returns:
            The watch.
        """
        return cls(dataset, *split(dataset.labels, len(dataset), seed, held_out))

    def look(self, samples: Tensor) -> Copies | None:
        """Count the copies among samples.

        Args:
            samples: (n, *event) in data units.

        Returns:
            The counts; None where samples are not finite, or fewer than two training examples are
            distinct.
        """
        found = self._known
        if found is None or len(samples) == 0 or not bool(torch.isfinite(samples).all()):
            return None
        known, new_hits, new, distance = found
        near = known.nearest(self._scaled(self._as_stored(samples.detach().cpu())))
        ratio = float(near.distance.median()) / distance if distance > 0 else math.nan
        return Copies(int(near.copies.sum()), len(samples), new_hits, new, ratio)

    @cached_property
    def _known(self) -> tuple[TrainingNeighbours, int, int, float] | None:
        """Training neighbours, copies and number of new examples, and held-out distance."""
        try:
            known = TrainingNeighbours(self._scaled(self._dataset.floats(self._train)))
        except InputError:  # all training examples are equal
            return None
        groups: list[Nearest] = [known.left_out(self._new)]
        distance = math.nan
        if len(self._held_out):
            rows = self._dataset.floats(self._held_out[: self._new])
            groups.append(known.nearest(self._scaled(rows)))
            distance = float(groups[-1].distance.median())
        hits = sum(int(group.copies.sum()) for group in groups)
        return known, hits, sum(len(group.index) for group in groups), distance

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
