"""Precision, recall, density and coverage from nearest neighbours.

The ball of an example reaches to its k-th nearest neighbour in its own set.

    precision   fraction of samples in a ball of the data         (Kynkäänniemi et al. 2019)
    recall      fraction of the data in a ball of the samples
    density     number of balls of the data that hold a sample, over k    (Naeem et al. 2020)
    coverage    fraction of the balls of the data that hold a sample

Balls shrink as sets grow, so these numbers belong to the numbers of examples: the intervals are
about the expected value at the same numbers. Both sets vary. The variance is the jackknife's: each
example is deleted in turn, which takes its ball away and lets balls that counted on it reach to the
next neighbour. The bootstrap is wrong here, since repeated examples are their own neighbours.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..values import whole
from .estimate import Estimate
from .intervals import interval, read_level, read_pair, subset
from .pairs import row_chunks, squared_distances

MOST = 5000  # examples a side
METHOD = "k = {}; jackknife over both sets"


def nearest(x: Tensor, y: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
    """The nearest rows, in the order of their distance.

    Args:
        x: (N, k), the rows that look for neighbours.
        y: (M, k), the neighbours; None for the other rows of x.
        count: Number of neighbours.

    Returns:
        Squared distances and indices, (N, count) each.
    """
    other = x if y is None else y
    found = []
    for part in row_chunks(x, other):
        squared = squared_distances(x[part], other)
        if y is None:
            squared[torch.arange(len(squared)), torch.arange(part.start, part.stop)] = math.inf
        found.append(squared.topk(count, dim=1, largest=False))
    return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])


@dataclass(frozen=True)
class _Balls:
    """Balls of a set.

    Attributes:
        points: (N, k), the centres.
        radius: (N,), squared distance to the k-th neighbour.
        next: (N,), squared distance to the one after it.
        neighbours: (N, k), the k neighbours.
    """

    points: Tensor
    radius: Tensor
    next: Tensor
    neighbours: Tensor

    @classmethod
    def of(cls, points: Tensor, k: int) -> "_Balls":
        squared, index = nearest(points, None, k + 1)
        return cls(points, squared[:, k - 1], squared[:, k], index[:, :k])


@dataclass
class _Inside:
    """Which of a set of queries lie in the balls, and what deleting a centre changes.

    Attributes:
        held: (M,), number of balls that hold a query.
        lost: (N,), change of the number of queries in any ball where a centre is deleted.
        holds: (N,), number of queries that a ball holds.
        shell: (N,), number of queries between the ball and its next neighbour.
    """

    held: Tensor
    lost: Tensor
    holds: Tensor
    shell: Tensor


def _inside(balls: _Balls, queries: Tensor) -> _Inside:
    n, m = len(balls.points), len(queries)
    found = _Inside(torch.zeros(m), *(torch.zeros(n) for _ in range(3)))
    for name in ("held", "lost", "holds", "shell"):
        setattr(found, name, getattr(found, name).to(torch.float64))
    for part in row_chunks(queries, balls.points):
        squared = squared_distances(queries[part], balls.points)
        inside, reach = squared < balls.radius, squared < balls.next
        held = inside.sum(1)
        found.held[part] = held.to(torch.float64)
        found.holds += inside.sum(0)
        found.shell += (reach & ~inside).sum(0)
        few = held <= 1  # only there does one deletion change whether a query is in any ball
        inside, shell, held = inside[few], (reach & ~inside)[few], held[few]
        row, ball = shell.nonzero(as_tuple=True)
        gained = (row[:, None] * n + balls.neighbours[ball]).flatten().unique()
        alone_row, alone_ball = inside.nonzero(as_tuple=True)
        alone = alone_row * n + alone_ball
        # Deleting j: a query in ball j alone is lost, unless a ball that counted on j reaches it.
        gone = alone[~torch.isin(alone, gained)] % n
        new = gained[held[gained // n] == 0] % n
        found.lost += torch.bincount(new, minlength=n) - torch.bincount(gone, minlength=n)
    return found


def _jackknife(values: Tensor) -> float:
    """Variance from the values with each example deleted in turn."""
    return float((len(values) - 1) / len(values) * (values - values.mean()).square().sum())


def _fraction_in_balls(inside: _Inside) -> tuple[float, float]:
    """The fraction of queries in any ball, and its variance."""
    held = (inside.held > 0).to(torch.float64)
    count = len(held)
    return float(held.mean()), float(held.var()) / count + _jackknife(inside.lost / count)


def _counted_on(balls: _Balls, change: Tensor) -> Tensor:
    """Sum of `change` (N,) over the balls that count on each centre as a neighbour."""
    found = torch.zeros_like(change)
    k = balls.neighbours.shape[1]
    return found.index_add_(0, balls.neighbours.flatten(), change.repeat_interleave(k))


def _density(balls: _Balls, inside: _Inside) -> tuple[float, float]:
    k, m = balls.neighbours.shape[1], len(inside.held)
    change = (_counted_on(balls, inside.shell) - inside.holds) / (k * m)
    variance = float((inside.held / k).var()) / m + _jackknife(change)
    return float(inside.held.mean()) / k, variance


def _coverage(balls: _Balls, queries: Tensor) -> tuple[float, float]:
    n = len(balls.points)
    squared, index = nearest(balls.points, queries, 2)
    covered = (squared[:, 0] < balls.radius).to(torch.float64)
    gain = (squared[:, 0] < balls.next).to(torch.float64) - covered
    without_centre = (covered.sum() - covered + _counted_on(balls, gain)) / (n - 1)
    lost = (covered > 0) & (squared[:, 1] >= balls.radius)
    without_query = -torch.bincount(index[lost, 0], minlength=len(queries)).to(torch.float64) / n
    return float(covered.mean()), _jackknife(without_centre) + _jackknife(without_query)


def prdc(x: Any, y: Any, *, k: int = 5, seed: int = 0, level: float = 0.9) -> dict[str, Estimate]:
    """Precision, recall, density and coverage with intervals.

    Args:
        x: (N, *event), samples or their features.
        y: (M, *event), the data; of more than `MOST` a side a random part is taken.
        k: The neighbour to which balls reach; 5 as Naeem et al. 2020.
        seed: Of the part.
        level: Of the intervals.

    Returns:
        "precision", "recall", "density" and "coverage".

    Raises:
        InputError: For events of different shapes, no more than k + 1 examples, or values that are
            not finite.
    """
    level, k = read_level(level), whole(k, "k", 1)
    first, second = (subset(part, MOST, seed) for part in read_pair(x, y))
    counts = len(first), len(second)
    if min(counts) < k + 2:
        raise InputError(f"k = {k} needs {k + 2} or more examples a side; got {min(counts)}")
    centre = second.mean(0)
    first, second = first - centre, second - centre
    samples, data = _Balls.of(first, k), _Balls.of(second, k)
    inside = _inside(data, first)
    found = {
        "precision": _fraction_in_balls(inside),
        "recall": _fraction_in_balls(_inside(samples, second)),
        "density": _density(data, inside),
        "coverage": _coverage(data, first),
    }
    method = METHOD.format(k)
    return {
        name: interval(
            value, variance, level, counts, method, (0.0, math.inf if name == "density" else 1.0)
        )
        for name, (value, variance) in found.items()
    }
