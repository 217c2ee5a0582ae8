"""Wasserstein distances of projections.

    W_p^p(F, G) = integral over u in (0, 1) of |F^-1(u) - G^-1(u)|^p          (one dimension)
    sliced W_p  = (mean over unit directions v of W_p^p(v·x, v·y))^(1/p)      (Bonneel et al. 2015)

Unequal numbers of examples need no interpolation: both quantile functions are step functions, which
jump at the same places in all directions. The directions are orthogonal within groups, and groups
are independent of each other, so that the variation between groups gives the error of finitely many
directions.

The influence of an example is a Kantorovich potential of the projections, averaged over directions:
f' = 2 (x - T(x)) for W_2^2, with T the transport map, and f' = sign(G - F) for W_1. The expected
value of W_2^2 of finite sets is that of the mean quantile functions plus the variances of both,

    E W_2^2(F_n, G_m) = W_2^2(E F_n^-1, E G_m^-1) + V_x(n) + V_y(m),   V(n) = E W_2^2(F_n, F'_n)/2

for independent sets F_n, F'_n of one law, so V follows from halves and quarters: V(n) is taken as
V(n/2)²/V(n/4), since V falls more slowly than 1/n where tails are long. The variance q of
`intervals` is the variance over random exchanges between the two sets, plus the variance of V over
splits. W_1 is not smooth where the two laws agree, so that its interval is about the expected value
at the same numbers of examples.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..tensors import float64
from ..values import whole
from .estimate import Estimate
from .intervals import (
    Purpose,
    generator,
    interval,
    linear_variance,
    read_level,
    read_pair,
    root,
    slope_of,
    splits,
    square_interval,
    subset,
)

MOST = 10_000  # examples a side
GROUP, GROUPS, DIRECTIONS = 64, 8, 256  # most directions a group, least groups, least directions
SPLITS, EXCHANGES = 8, 12  # into halves and quarters; between the sets
LEAST = 8  # examples a side
METHOD_W1 = "{} directions; delta method"
METHOD_W2 = "{} directions; bias from halves and quarters, exchanges and delta method"


def directions(size: int, seed: int = 0) -> Tensor:
    """Random unit vectors, orthogonal within groups.

    Args:
        size: Number k of elements of an example.
        seed: Seed of the directions.

    Returns:
        (groups, directions a group, k), float64; one direction where k is 1.
    """
    size = whole(size, "size", 1)
    if size == 1:
        return torch.ones(1, 1, 1, dtype=torch.float64)
    group = min(size, GROUP)
    groups = max(GROUPS, DIRECTIONS // group)
    source = generator(seed, Purpose.DIRECTIONS)
    normal = torch.randn(groups, size, group, generator=source, dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    return (q * r.diagonal(dim1=1, dim2=2).sign()[:, None]).mT.contiguous()


@dataclass(frozen=True)
class Plan:
    """The pieces of (0, 1) on which two empirical quantile functions are constant.

    Attributes:
        x: (S,), rank in the first set on each of the S pieces of (0, 1).
        y: (S,), rank in the second set.
        length: (S,), lengths of the pieces.
    """

    x: Tensor
    y: Tensor
    length: Tensor


def plan_of(n: int, m: int) -> Plan:
    """The plan of n and m examples."""
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return Plan(starts // m, starts // n, (ends - starts).to(torch.float64) / (n * m))


def powers_of(px: Tensor, py: Tensor, plan: Plan, power: int) -> Tensor:
    """W_p^p of sorted projections.

    Args:
        px: (C, n), sorted along each of C directions.
        py: (C, m), sorted.
        plan: `plan_of(n, m)`.
        power: p.

    Returns:
        (C,), one a direction.
    """
    gap = (px[:, plan.x] - py[:, plan.y]).abs_()
    return (gap if power == 1 else gap.pow_(power)) @ plan.length


def sliced_wasserstein(x: Any, y: Any, along: Any, power: int = 2) -> float:
    """The sliced Wasserstein distance along given directions, with the bias of finite sets.

    (mean over v of W_p^p(v·x, v·y))^(1/p) (Bonneel et al. 2015).

    Args:
        x: (N, *event), samples.
        y: (M, *event), examples of the data.
        along: (L, k), the directions v, k elements an event.
        power: p, 1 or 2.

    Returns:
        The distance, in the units of the data.

    Raises:
        InputError: For other shapes or powers, or values that are not finite.
    """
    first, second = read_pair(x, y, 1)
    power = whole(power, "power", 1, 2)
    along = float64(along, "along").cpu()
    if along.ndim != 2 or along.shape[1] != first.shape[1] or len(along) == 0:
        raise InputError(
            f"along must be (L, {first.shape[1]}), one direction a row; got {tuple(along.shape)}"
        )
    plan = plan_of(len(first), len(second))
    total = 0.0
    for part in along.split(GROUP):
        px, py = (_sort(part @ one.T)[0] for one in (first, second))
        total += float(powers_of(px, py, plan, power).sum())
    return (total / len(along)) ** (1 / power)


def _influence_w2(px: Tensor, py: Tensor) -> Tensor:
    """Potentials at sorted projections px (C, n), 0 at the first: f' = 2 (x - T(x))."""
    n, m = px.shape[1], py.shape[1]
    mapped = py[:, torch.arange(1, n) * m // n]
    steps = px.diff(dim=1) * (px[:, 1:] + px[:, :-1] - 2 * mapped)
    return torch.cat([torch.zeros_like(px[:, :1]), steps.cumsum(1)], 1)


def _sort(values: Tensor) -> tuple[Tensor, Tensor]:
    """Rows sorted, and the order. NumPy sorts several times as fast as PyTorch on one core."""
    order = torch.from_numpy(np.argsort(values.numpy(), axis=1))
    return values.gather(1, order), order


def _influence_w1(values: Tensor, order: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Potentials of `influence_w1` from the sorted values of both sets and their order."""
    m = values.shape[1] - n
    excess = torch.where(order < n, m, -n).cumsum(1)  # n m (F - G) above each value
    steps = values.diff(dim=1) * -excess[:, :-1].sign()
    potential = torch.cat([torch.zeros_like(values[:, :1]), steps.cumsum(1)], 1)
    found = torch.empty_like(values).scatter_(1, order, potential)
    return found[:, :n], -found[:, n:]


def influence_w1(px: Tensor, py: Tensor) -> tuple[Tensor, Tensor]:
    """Kantorovich potentials of W_1 of projections.

    Args:
        px: (C, n), in any order.
        py: (C, m), in any order.

    Returns:
        (C, n) and (C, m), f' = sign(G - F), up to a constant a row.
    """
    return _influence_w1(*_sort(torch.cat([px, py], 1)), px.shape[1])


def _chosen(values: Tensor, order: Tensor, mask: Tensor) -> Tensor:
    """The sorted values (C, n) of the examples of a mask (n,), still sorted: (C, chosen)."""
    found = values.numpy()[mask.numpy()[order.numpy()]]
    return torch.from_numpy(found).reshape(len(values), -1)


class _Slices:
    """Sums over directions, a few groups at a time."""

    def __init__(self, x: Tensor, y: Tensor, seed: int) -> None:
        self.x, self.y = x, y
        self.plan = plan_of(len(x), len(y))
        source = generator(seed, Purpose.SPLITS)
        self.quarters = [self._quarters(len(part), source) for part in (x, y)]
        both, rows = len(x) + len(y), torch.empty(EXCHANGES, len(x), dtype=torch.long)
        for row in rows:
            row[:] = torch.randperm(both, generator=source)[: len(x)]
        self.exchanges = torch.zeros(EXCHANGES, both, dtype=torch.bool).scatter_(1, rows, True)
        self.groups: list[tuple[float, float]] = []  # W_1 and W_2^2 of each group
        self.exchanged = torch.zeros(EXCHANGES, dtype=torch.float64)
        self.own = torch.zeros(2, 2, SPLITS, dtype=torch.float64)  # halves and quarters of each set
        self.count = 0
        self.influences = [torch.zeros(len(part), dtype=torch.float64) for part in (x, y, x, y)]

    @staticmethod
    def _quarters(count: int, source: torch.Generator) -> Tensor:
        """(SPLITS, 4, count): which examples are in each of four equal parts."""
        chosen = splits(count // 4 * 4, SPLITS, source).reshape(SPLITS, 4, -1)
        return torch.zeros(SPLITS, 4, count, dtype=torch.bool).scatter_(2, chosen, True)

    def add(self, groups: Tensor) -> None:
        """Add groups of directions (G, C, k)."""
        along = groups.flatten(0, 1)
        raw = [along @ self.x.T, along @ self.y.T]
        both, order = _sort(torch.cat(raw, 1))
        sets = [_sort(one) for one in raw]
        (px, order_x), (py, order_y) = sets
        w1, w2 = (powers_of(px, py, self.plan, power) for power in (1, 2))
        means = [w.reshape(len(groups), -1).mean(1).tolist() for w in (w1, w2)]
        self.groups += list(zip(*means, strict=True))
        self.count += len(along)
        found = [*_influence_w1(both, order, len(self.x))]
        for one, other, places in ((px, py, order_x), (py, px, order_y)):
            found.append(torch.empty_like(one).scatter_(1, places, _influence_w2(one, other)))
        for total, one in zip(self.influences, found, strict=True):
            total += one.sum(0)
        for k, mask in enumerate(self.exchanges):
            parts = _chosen(both, order, mask), _chosen(both, order, ~mask)
            self.exchanged[k] += powers_of(*parts, self.plan, 2).sum()
        for own, masks, (values, places) in zip(self.own, self.quarters, sets, strict=True):
            for k, four in enumerate(masks):
                a, b, c, d = (_chosen(values, places, one) for one in four)
                ab, cd = (_chosen(values, places, one | two) for one, two in four.split(2))
                own[0, k] += (ab - cd).square().mean(1).sum() / 2
                own[1, k] += ((a - b).square() + (c - d).square()).mean(1).sum() / 4

    def _variances(self) -> tuple[float, float]:
        """V_x(n) + V_y(m) of the module docstring, and the variance of that estimate."""
        total = variance = 0.0
        for halves, quarters in self.own / self.count:
            if float(quarters.mean()) > 0:
                # 1/2 for a smooth quantile function; 1 where V does not fall at all.
                ratio = min(max(float(halves.mean() / quarters.mean()), 0.5), 1.0)
                total += float(halves.mean()) * ratio
                variance += float((2 * ratio * halves - ratio**2 * quarters).var()) / SPLITS
        return total, variance

    def estimates(self, level: float) -> dict[str, Estimate]:
        """The distances with their intervals."""
        counts = len(self.x), len(self.y)
        groups = torch.tensor(self.groups, dtype=torch.float64)
        w1, w2 = groups.mean(0).tolist()
        between = (groups.var(0) / len(groups)).tolist() if len(groups) > 1 else [0.0, 0.0]
        linear = [
            linear_variance(*(f / self.count for f in self.influences[k : k + 2])) + between[k // 2]
            for k in (0, 2)
        ]
        bias, bias_variance = self._variances()
        squared = square_interval(
            w2 - bias,
            slope_of(linear[1], w2, w2 - bias),
            float((self.exchanged / self.count).var()) + bias_variance,
            level,
            counts,
            METHOD_W2.format(self.count),
        )
        squared = replace(squared, plug_in=w2)
        method = METHOD_W1.format(self.count)
        return {
            "sliced_w1": interval(w1, linear[0], level, counts, method, (0.0, math.inf)),
            "sliced_w2": root(squared),
            "sliced_features": squared,
        }


def sliced(x: Any, y: Any, *, seed: int = 0, level: float = 0.9) -> dict[str, Estimate]:
    """Sliced Wasserstein distances with intervals.

    Args:
        x: (N, *event), samples.
        y: (M, *event), examples of the data. A random part of 10,000 is taken of a larger set.
        seed: Seed of the directions, the halves and the part.
        level: Level of the intervals, in [0.5, 0.999].

    Returns:
        "sliced_w1" and "sliced_w2" in the units of the data, and "sliced_features", the square of
        "sliced_w2".

    Raises:
        InputError: For events of different shapes, fewer than 8 examples, or values that are not
            finite.
    """
    level = read_level(level)
    first, second = (subset(part, MOST, seed) for part in read_pair(x, y, LEAST))
    centre = second.mean(0)
    slices = _Slices(first - centre, second - centre, seed)
    groups = directions(first.shape[1], seed)
    for part in groups.split(max(1, GROUP // groups.shape[1])):
        slices.add(part)
    return slices.estimates(level)
