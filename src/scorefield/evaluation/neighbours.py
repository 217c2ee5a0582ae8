"""Precision, recall, density and coverage from nearest neighbours.

The ball of an example reaches to its k-th nearest neighbour in its own set.

    precision   fraction of samples in a ball of the data         (Kynkäänniemi et al. 2019)
    recall      fraction of the data in a ball of the samples
    density     number of balls of the data that hold a sample, over k    (Naeem et al. 2020)
    coverage    fraction of the balls of the data that hold a sample

Balls shrink as sets grow, so that these metrics depend on the numbers of examples: the intervals
are about the expected value at the same numbers. Both sets vary. The bootstrap is wrong here, since
repeated examples are their own neighbours; the jackknife's standard deviation is too large, by a
factor of 1.3 to 1.7 where it was tried. Halves of both sets are independent of each other, and a
fraction of half as many examples has twice the variance, so that

    variance = mean over random splits of (T(X1, Y1) - T(X2, Y2))²/4

A few examples at the edge, whose balls are large, contribute much of this variance. Where it was
tried, the estimate varied from one data set to another as the variance of 12 normal numbers does,
so that the intervals are those of Student's law with 12 degrees of freedom. Fractions within a few
examples of 0 or 1 are skewed; their intervals hold the expected value more often than they state.

Neighbours within halves are found among the nearest REACH k ones, so that distances are measured
once.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..pairs import row_chunks, squared_distances
from ..values import whole
from .estimate import Estimate
from .intervals import Purpose, generator, interval, read_level, read_pair, subset

MOST = 5000  # examples a side
REACH, NEIGHBOUR_SPLITS = 5, 64
FREEDOM = 12  # degrees of freedom of the variance
METHOD = "k = {}; variance from halves of both sets"


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


class _Balls:
    """Balls around the points of a set, and around those of halves of it.

    Attributes:
        points: (N, D), the centres.
        k: The neighbour to which balls reach.
        radius: (N,), squared distance to the k-th neighbour.
        reach: (N,), squared distance to the last neighbour that is known.
        half_radius: (K, N), squared distance to the k-th neighbour in the same half.
    """

    def __init__(self, points: Tensor, k: int, sides: Tensor) -> None:
        squared, index = nearest(points, None, min(REACH * k, len(points) - 1))
        self.points, self.k = points, k
        self.radius, self.reach = squared[:, k - 1], squared[:, -1]
        self.half_radius = torch.empty(len(sides), len(points), dtype=torch.float64)
        for radius, side in zip(self.half_radius, sides, strict=True):
            among = (side[index] == side[:, None]).cumsum(1)
            # Where the known neighbours hold fewer than k of the half, the last one stands for it.
            place = (among < k).sum(1).clamp_(max=squared.shape[1] - 1)
            radius[:] = squared.gather(1, place[:, None])[:, 0]


@dataclass(frozen=True)
class _Held:
    """How queries lie in balls, for whole sets and for halves.

    Attributes:
        queries: (1 + 2 K, 2): fraction of queries in any ball, and mean number of balls that hold
            one; the whole sets, then both halves of each split.
        balls: (1 + 2 K,): fraction of balls that hold any query.
    """

    queries: Tensor
    balls: Tensor


def _count(balls: _Balls, queries: Tensor, sides: Tensor, query_sides: Tensor) -> _Held:
    """Which balls hold which queries; `sides` (K, N) and `query_sides` (K, M) are the halves."""
    n, m, times = len(balls.points), len(queries), len(sides)
    held = torch.zeros(1 + times, m, dtype=torch.int64)
    hits = torch.zeros(1 + times, n, dtype=torch.int64)
    for part in row_chunks(queries, balls.points):
        squared = squared_distances(queries[part], balls.points)
        row, ball = (squared < balls.reach).nonzero(as_tuple=True)
        distance, query = squared[row, ball], row + part.start
        for k in range(1 + times):
            radius = balls.radius if k == 0 else balls.half_radius[k - 1]
            inside = distance < radius[ball]
            if k > 0:
                inside &= sides[k - 1][ball] == query_sides[k - 1][query]
            held[k] += torch.bincount(query[inside], minlength=m)
            hits[k] += torch.bincount(ball[inside], minlength=n)
    of_queries, of_balls = [], []
    for k in range(1 + times):
        for half in (True, False):
            chosen = slice(None) if k == 0 else query_sides[k - 1] == half
            centres = slice(None) if k == 0 else sides[k - 1] == half
            count = held[k][chosen].to(torch.float64)
            of_queries.append(torch.stack([(count > 0).double().mean(), count.mean()]))
            of_balls.append((hits[k][centres] > 0).double().mean())
    return _Held(torch.stack(of_queries)[1:], torch.stack(of_balls)[1:])


def _with_variance(values: Tensor) -> tuple[float, float]:
    """The value of the whole sets, and the variance from those of halves."""
    halves = values[1:].reshape(-1, 2)
    return float(values[0]), float((halves[:, 0] - halves[:, 1]).square().mean()) / 4


def _sides(count: int, source: torch.Generator) -> Tensor:
    """(NEIGHBOUR_SPLITS, count): which half each example is in."""
    sides = torch.zeros(NEIGHBOUR_SPLITS, count, dtype=torch.bool)
    for side in sides:
        side[torch.randperm(count, generator=source)[: count // 2]] = True
    return sides


def prdc(x: Any, y: Any, *, k: int = 5, seed: int = 0, level: float = 0.9) -> dict[str, Estimate]:
    """Precision, recall, density and coverage with intervals.

    Args:
        x: (N, *event), samples or their features.
        y: (M, *event), the data. A random part of 5,000 is taken of a larger set.
        k: The neighbour to which balls reach, 1 or more; 5 as in Naeem et al. 2020.
        seed: Seed of the part.
        level: Level of the intervals, in [0.5, 0.999].

    Returns:
        "precision", "recall", "density" and "coverage".

    Raises:
        InputError: For events of different shapes, fewer than 4 k examples, or values that are
            not finite.
    """
    level, k = read_level(level), whole(k, "k", 1)
    first, second = (subset(part, MOST, seed) for part in read_pair(x, y))
    counts = len(first), len(second)
    if min(counts) < 4 * k:
        raise InputError(f"k = {k} needs {4 * k} or more examples a side; got {min(counts)}")
    centre = second.mean(0)
    first, second = first - centre, second - centre
    source = generator(seed, Purpose.SPLITS)
    sides = [_sides(count, source) for count in counts]
    in_data = _count(_Balls(second, k, sides[1]), first, sides[1], sides[0])
    in_samples = _count(_Balls(first, k, sides[0]), second, sides[0], sides[1])
    found = {
        "precision": _with_variance(in_data.queries[:, 0]),
        "recall": _with_variance(in_samples.queries[:, 0]),
        "density": _with_variance(in_data.queries[:, 1] / k),
        "coverage": _with_variance(in_data.balls),
    }
    # Student's quantile over the normal one, to first order in 1/FREEDOM.
    z = NormalDist().inv_cdf((1 + level) / 2)
    wider = (1 + (z**2 + 1) / (4 * FREEDOM)) ** 2
    method = METHOD.format(k)
    return {
        name: interval(
            value,
            wider * variance,
            level,
            counts,
            method,
            (0.0, math.inf if name == "density" else 1.0),
        )
        for name, (value, variance) in found.items()
    }
