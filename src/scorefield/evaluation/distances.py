"""Wasserstein distances of projections.

    W_p^p(F, G) = integral over u in (0, 1) of |F^-1(u) - G^-1(u)|^p          (one dimension)
    sliced W_p  = (mean over unit directions v of W_p^p(v·x, v·y))^(1/p)      (Bonneel et al. 2015)

Unequal numbers of examples need no interpolation: both quantile functions are steps, and all
directions share the places where they jump. The directions are orthogonal within groups, which are
independent of each other, so that the variation between groups gives the error of finitely many
directions.

The influence of an example is a Kantorovich potential of the projections, averaged over directions:
f' = 2 (x - T(x)) for W_2^2, with T the transport map, and f' = sign(G - F) for W_1. The bias of
W_2^2 is removed with halves (`intervals`). W_1 is not smooth where the two laws agree, so its
interval is about the expected value at the same numbers of examples.
"""

import math
from dataclasses import dataclass
from typing import Any

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
    splits,
    subset,
    without_bias,
)

MOST = 20_000  # examples a side
GROUP, GROUPS, DIRECTIONS = 64, 8, 256  # most directions a group, least groups, least directions
SLICE_SPLITS = 8
METHOD_W1 = "{} directions; delta method"
METHOD_W2 = "{} directions; bias and quadratic part from halves, linear part by the delta method"


def directions(size: int, seed: int = 0) -> Tensor:
    """Random unit vectors, orthogonal within groups.

    Args:
        size: Number k of elements of an example.
        seed: Of the directions.

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
    """Where the steps of two quantile functions jump: direction by direction the same.

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
        px, py = (part @ first.T).sort(1).values, (part @ second.T).sort(1).values
        total += float(powers_of(px, py, plan, power).sum())
    return (total / len(along)) ** (1 / power)


def _influence_w2(px: Tensor, py: Tensor) -> Tensor:
    """Potentials at sorted projections px (C, n), 0 at the first: f' = 2 (x - T(x))."""
    n, m = px.shape[1], py.shape[1]
    mapped = py[:, torch.arange(1, n) * m // n]
    steps = px.diff(dim=1) * (px[:, 1:] + px[:, :-1] - 2 * mapped)
    return torch.cat([torch.zeros_like(px[:, :1]), steps.cumsum(1)], 1)


def influence_w1(px: Tensor, py: Tensor) -> tuple[Tensor, Tensor]:
    """Potentials at projections (C, n) and (C, m) in any order: f' = sign(G - F)."""
    n, m = px.shape[1], py.shape[1]
    values, order = torch.cat([px, py], 1).sort(1)
    excess = torch.where(order < n, m, -n).cumsum(1)  # n m (F - G) above each value
    steps = values.diff(dim=1) * -excess[:, :-1].sign()
    potential = torch.cat([torch.zeros_like(px[:, :1]), steps.cumsum(1)], 1)
    found = torch.empty_like(values).scatter_(1, order, potential)
    return found[:, :n], -found[:, n:]


class _Slices:
    """Sums over directions, one group at a time."""

    def __init__(self, x: Tensor, y: Tensor, seed: int) -> None:
        self.x, self.y = x, y
        self.plan = plan_of(len(x), len(y))
        self.half_plan = plan_of(len(x) // 2, len(y) // 2)
        source = generator(seed, Purpose.SPLITS)
        self.halves = [
            self._masks(splits(len(part), SLICE_SPLITS, source), len(part)) for part in (x, y)
        ]
        self.groups: list[tuple[float, float]] = []  # W_1 and W_2^2 of each group
        self.half_sums = torch.zeros(SLICE_SPLITS, dtype=torch.float64)
        self.count = 0
        self.influences = [torch.zeros(len(part), dtype=torch.float64) for part in (x, y, x, y)]

    @staticmethod
    def _masks(chosen: Tensor, count: int) -> Tensor:
        """(K, 2, h) indices as truth values (K, 2, count)."""
        return torch.zeros(*chosen.shape[:2], count, dtype=torch.bool).scatter_(2, chosen, True)

    def add(self, along: Tensor) -> None:
        """Add a group of directions (C, k)."""
        raw = [along @ self.x.T, along @ self.y.T]
        (px, ox), (py, oy) = (one.sort(1) for one in raw)
        w1, w2 = (powers_of(px, py, self.plan, power) for power in (1, 2))
        self.groups.append((float(w1.mean()), float(w2.mean())))
        self.count += len(along)
        found = [*influence_w1(*raw)]
        for one, other, order in ((px, py, ox), (py, px, oy)):
            found.append(torch.empty_like(one).scatter_(1, order, _influence_w2(one, other)))
        for total, one in zip(self.influences, found, strict=True):
            total += one.sum(0)
        for k in range(SLICE_SPLITS):
            for half in (0, 1):
                a = px[self.halves[0][k, half][ox]].reshape(len(along), -1)
                b = py[self.halves[1][k, half][oy]].reshape(len(along), -1)
                self.half_sums[k] += powers_of(a, b, self.half_plan, 2).sum() / 2

    def estimates(self, level: float) -> dict[str, Estimate]:
        """The distances with their intervals."""
        counts = len(self.x), len(self.y)
        groups = torch.tensor(self.groups, dtype=torch.float64)
        values = groups.mean(0).tolist()
        between = (groups.var(0) / len(groups)).tolist() if len(groups) > 1 else [0.0, 0.0]
        linear = [
            linear_variance(*(f / self.count for f in self.influences[k : k + 2])) + between[k // 2]
            for k in (0, 2)
        ]
        squared = without_bias(
            values[1],
            self.half_sums / self.count,
            linear[1],
            level,
            counts,
            METHOD_W2.format(self.count),
        )
        w1 = METHOD_W1.format(self.count)
        return {
            "sliced_w1": interval(values[0], linear[0], level, counts, w1, (0.0, math.inf)),
            "sliced_w2": root(squared),
            "sliced_features": squared,
        }


def sliced(x: Any, y: Any, *, seed: int = 0, level: float = 0.9) -> dict[str, Estimate]:
    """Sliced Wasserstein distances with intervals.

    Args:
        x: (N, *event), samples.
        y: (M, *event), examples of the data; of more than `MOST` a side a random part is taken.
        seed: Of the directions, the halves and the part.
        level: Of the intervals.

    Returns:
        "sliced_w1" and "sliced_w2" in the units of the data, and "sliced_features", the square of
        the second.

    Raises:
        InputError: For events of different shapes, fewer than 4 examples, or values that are not
            finite.
    """
    level = read_level(level)
    first, second = (subset(part, MOST, seed) for part in read_pair(x, y))
    centre = second.mean(0)
    slices = _Slices(first - centre, second - centre, seed)
    for along in directions(first.shape[1], seed):
        slices.add(along)
    return slices.estimates(level)
