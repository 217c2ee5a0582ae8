"""Intervals of statistics of two sets of examples, and the random choices of all metrics.

A smooth statistic T of n samples and m examples of the data is, about its population value,

    T = T_0 + (1/n) sum f(x_i) + (1/m) sum g(y_j) + Q

with influence functions f and g of mean 0 and a quadratic rest Q, which is the bias and, where the
two sets have the same law (f = g = 0), all of the variation. The bootstrap fails there: it doubles
Q, and repeated examples have neighbours at distance 0. Complementary halves do not have this
problem. The average of the statistics of both halves has the same linear part as T, and over random
splits it varies about T as Q varies about 0. So the splits give the bias and the variance of Q:

    value         D = 2 T - mean over splits of (T(X1, Y1) + T(X2, Y2))/2
    quadratic     q = variance over splits of (T(X1, Y1) + T(X2, Y2))/2
    linear        l = var f/n + var g/m

All such T are squares of a difference, whose influence is proportional to its root: at a
population value D_0 the variance is a D_0 + q. The interval is of Wilson's kind: all D_0 with
(D - D_0)² <= z² (a D_0 + q). Its ends follow the skewness of a square. The slope is a = l/D where D
exceeds the bias T - D; near equality f and g are noise, of the size of the bias, and a = l/(T - D).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError
from ..rng import Stream
from ..tensors import float64
from ..values import finite, whole
from .estimate import Estimate

SPLITS = 16  # random pairs of halves; the bias and the variance of Q come from them
Statistic = Callable[[Tensor, Tensor], float]


class Purpose(IntEnum):
    """The purposes of random choices; the number is the draw of the stream `EVALUATION`."""

    SUBSET = 0
    SPLITS = 1
    DIRECTIONS = 2
    TREES = 3
    FEATURES = 4
    PERMUTATIONS = 5
    HALVES = 6
    SETS = 7


def generator(seed: int, purpose: Purpose) -> torch.Generator:
    """The generator of one purpose of a seed."""
    return rng.generator(seed, Stream.EVALUATION, int(purpose))


def number_of(seed: int, purpose: Purpose) -> int:
    """A seed below 2^31 for other libraries."""
    return int(torch.randint(2**31 - 1, (1,), generator=generator(seed, purpose)))


def read_examples(value: Any, name: str, least: int = 4) -> Tensor:
    """Examples as rows.

    Args:
        value: (N, *event), an array or tensor.
        name: The argument's name, for the message.
        least: The smallest N allowed.

    Returns:
        (N, k), float64, on the CPU.

    Raises:
        InputError: For fewer examples, other dimensions, or values that are not finite.
    """
    found = float64(value, name).cpu()
    if found.ndim < 2 or len(found) < least or found[0].numel() == 0:
        raise InputError(
            f"{name} must be (N, *event) with at least {least} examples; got {tuple(found.shape)}"
            + (". Use [:, None] for numbers" if found.ndim == 1 else "")
        )
    return found.flatten(1)


def read_pair(x: Any, y: Any, least: int = 4) -> tuple[Tensor, Tensor]:
    """Samples and the examples they are compared with, as rows of the same length.

    Args:
        x: (N, *event), samples.
        y: (M, *event), examples of the data.
        least: The smallest N and M allowed.

    Returns:
        (N, k) and (M, k), float64, on the CPU.

    Raises:
        InputError: For events of different shapes, and as `read_examples`.
    """
    first, second = read_examples(x, "x", least), read_examples(y, "y", least)
    if first.shape[1] != second.shape[1]:
        raise InputError(
            "x and y must have events of the same shape; got "
            f"{first.shape[1]} and {second.shape[1]} elements"
        )
    return first, second


def read_level(level: Any) -> float:
    """The level of intervals, in [0.5, 0.999].

    Raises:
        InputError: For anything else.
    """
    return finite(level, "level", 0.5, 0.999)


def subset(x: Tensor, most: int, seed: int) -> Tensor:
    """At most `most` rows of x, chosen at random, in the order of x."""
    seed = whole(seed, "seed", 0)
    if len(x) <= most:
        return x
    chosen = torch.randperm(len(x), generator=generator(seed, Purpose.SUBSET))[:most]
    return x[chosen.sort().values]


def splits(count: int, times: int, source: torch.Generator) -> Tensor:
    """Random halves of `count` examples.

    Args:
        count: Number of examples, 2 or more.
        times: Number of splits.
        source: The generator.

    Returns:
        int64 (times, 2, count // 2), the examples of both halves; an odd one is left out.
    """
    half = count // 2
    orders = [torch.randperm(count, generator=source)[: 2 * half] for _ in range(times)]
    return torch.stack(orders).reshape(times, 2, half)


def linear_variance(*influences: Tensor) -> float:
    """Sum over sets of the variance of the mean influence of its examples."""
    return sum(float(f.var()) / len(f) for f in influences)


def split_values(statistic: Statistic, x: Tensor, y: Tensor, seed: int, times: int) -> Tensor:
    """The averages over both halves of the statistic, one a split.

    Args:
        statistic: Function of two sets of rows.
        x: (N, k), or another tensor with one row an example.
        y: (M, k).
        seed: Seed of the splits.
        times: Number of splits.

    Returns:
        (times,), float64.
    """
    source = generator(seed, Purpose.SPLITS)
    pairs = zip(splits(len(x), times, source), splits(len(y), times, source), strict=True)
    found = [(statistic(x[a[0]], y[b[0]]) + statistic(x[a[1]], y[b[1]])) / 2 for a, b in pairs]
    return torch.tensor(found, dtype=torch.float64)


def interval(
    value: float,
    variance: float,
    level: float,
    counts: tuple[int, int],
    method: str,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """The estimate with the normal interval.

    Args:
        value: The estimate.
        variance: Its variance.
        level: Level of the interval.
        counts: Numbers of samples and of examples of the data.
        method: Description of the method.
        bounds: Range of the metric; the ends of the interval stay in it.

    Returns:
        The estimate.
    """
    width = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(max(variance, 0.0))
    low, high = max(value - width, bounds[0]), min(value + width, bounds[1])
    return Estimate(value, low, high, level, counts[0], method, counts[1])


def without_bias(
    plug_in: float,
    halves: Tensor,
    linear: float,
    level: float,
    counts: tuple[int, int],
    method: str,
) -> Estimate:
    """The estimate of the module docstring.

    Args:
        plug_in: T.
        halves: (K,), the averages over both halves of each split.
        linear: The variance of the linear part.
        level: Level of the interval.
        counts: Numbers of samples and of examples of the data.
        method: Description of the method.

    Returns:
        The estimate without bias; it may be below 0 where T is not.
    """
    value = 2 * plug_in - float(halves.mean())
    slope = slope_of(linear, plug_in, value)
    found = square_interval(value, slope, float(halves.var()), level, counts, method)
    return replace(found, plug_in=plug_in)


def slope_of(linear: float, plug_in: float, value: float) -> float:
    """The slope a of the module docstring from l, T and D."""
    size = max(value, plug_in - value)
    return linear / size if size > 0 else 0.0


def square_interval(
    value: float,
    slope: float,
    rest: float,
    level: float,
    counts: tuple[int, int],
    method: str,
) -> Estimate:
    """The estimate of a square D whose variance is slope D + rest.

    Args:
        value: The estimate of D, without bias.
        slope: a of the module docstring.
        rest: q of the module docstring.
        level: Level of the interval.
        counts: Numbers of samples and of examples of the data.
        method: Description of the method.

    Returns:
        The estimate; its ends are the solutions of the quadratic equation.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = value + z**2 * slope / 2
    width = z * math.sqrt(slope * max(value, 0.0) + rest + (z * slope) ** 2 / 4)
    return Estimate(value, centre - width, centre + width, level, counts[0], method, counts[1])


def root(squared: Estimate) -> Estimate:
    """The square root of an estimate that is a square; what is below 0 becomes 0."""
    value, low, high = (
        math.sqrt(max(one, 0.0)) for one in (squared.value, squared.low, squared.high)
    )
    plug_in = None if squared.plug_in is None else math.sqrt(max(squared.plug_in, 0.0))
    return replace(squared, value=value, low=low, high=high, plug_in=plug_in)
