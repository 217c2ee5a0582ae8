"""Maximum mean discrepancy, unbiased, with the variance of its U-statistic.

    MMD² = E k(x, x') + E k(y, y') - 2 E k(x, y)                              (Gretton et al. 2012)

The estimate leaves out the pairs of an example with itself, so that it is unbiased and may be
below 0. With h(x) = mean over x' of k(x, x') - mean over y of k(x, y), its variance has a linear
and a quadratic part (Hoeffding's decomposition),

    4 var h(x)/n + 4 var h(y)/m + 2 s_xx/(n (n - 1)) + 2 s_yy/(m (m - 1)) + 4 s_xy/(n m)

where s is the variance of the kernel without its row and column means. The first two terms are
proportional to MMD², which makes the interval one of Wilson's kind (`intervals`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..pairs import median_distance, row_chunks, squared_distances
from ..values import finite
from .estimate import Estimate
from .intervals import (
    linear_variance,
    read_level,
    read_pair,
    slope_of,
    square_interval,
    subset,
)

MOST = 5000  # examples a side
DEGREE = 3
METHOD = "unbiased U-statistic with its variance"
Kernel = Callable[[Tensor, Tensor], Tensor]


def gaussian(bandwidth: float) -> Kernel:
    """Mean of exp(-|x - y|²/(2 s²)) over s = bandwidth/2, bandwidth, 2 bandwidth."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        widest = squared_distances(a, b).mul_(-1 / (8 * bandwidth**2)).exp_()
        middle = widest.square().square_()
        found = widest.add_(middle)
        return found.add_(middle.square_().square_()).div_(3)

    return kernel


def polynomial(a: Tensor, b: Tensor) -> Tensor:
    """(a·b/k + 1)³, the kernel of KID (Bińkowski et al. 2018)."""
    return ((a @ b.T).div_(a.shape[1]).add_(1)) ** DEGREE


@dataclass(frozen=True)
class _Block:
    """Means of a kernel between two sets, an example with itself left out.

    Attributes:
        rows: (A,), means over the second set.
        columns: (B,), means over the first set.
        own: Mean of the kernel of an example with itself; 0 between two sets.
        rest: Variance of the kernel without row and column means.
    """

    rows: Tensor
    columns: Tensor
    own: float
    rest: float


def _block(a: Tensor, b: Tensor | None, kernel: Kernel) -> _Block:
    """Means of the kernel between a and b; None for a itself."""
    other = a if b is None else b
    rows, row_squares = (torch.zeros(len(a), dtype=torch.float64) for _ in range(2))
    columns, own = torch.zeros(len(other), dtype=torch.float64), 0.0
    for part in row_chunks(a, other):
        found = kernel(a[part], other)
        if b is None:
            own += float(found.diagonal(part.start).sum())
            found.diagonal(part.start).zero_()
        rows[part], columns[:] = found.sum(1), columns + found.sum(0)
        found.square_()
        row_squares[part] = found.sum(1)
    terms, column_terms = (len(a) - 1,) * 2 if b is None else (len(other), len(a))
    rows, row_squares = rows / terms, row_squares / terms
    columns = columns / column_terms
    mean = float(rows.mean())
    row_part, column_part = float(rows.square().mean()), float(columns.square().mean())
    rest = max(float(row_squares.mean()) - row_part - column_part + mean**2, 0.0)
    return _Block(rows, columns, own / len(a), rest)


def discrepancy(x: Tensor, y: Tensor, kernel: Kernel, level: float) -> Estimate:
    """The unbiased squared discrepancy with its interval.

    Args:
        x: (N, k) samples.
        y: (M, k) examples of the data.
        kernel: Positive definite function of two sets of rows.
        level: Level of the interval, in [0.5, 0.999].

    Returns:
        The estimate, which may be below 0.
    """
    n, m = len(x), len(y)
    xx, yy, xy = _block(x, None, kernel), _block(y, None, kernel), _block(x, y, kernel)
    value = float(xx.rows.mean() + yy.rows.mean() - 2 * xy.rows.mean())
    linear = 4 * linear_variance(xx.rows - xy.rows, yy.rows - xy.columns)
    rest = 2 * xx.rest / (n * (n - 1)) + 2 * yy.rest / (m * (m - 1)) + 4 * xy.rest / (n * m)
    # The square of the empirical difference, of which `linear` is the variance.
    biased = value + sum((one.own - float(one.rows.mean())) / len(one.rows) for one in (xx, yy))
    slope = slope_of(linear, biased, value)
    return square_interval(value, slope, rest, level, (n, m), METHOD)


def mmd(
    x: Any, y: Any, *, bandwidth: float | None = None, seed: int = 0, level: float = 0.9
) -> Estimate:
    """The squared maximum mean discrepancy under Gaussian kernels of three widths.

    Args:
        x: (N, *event), samples.
        y: (M, *event), examples of the data. A random part of 5,000 is taken of a larger set.
        bandwidth: Standard deviation of the middle kernel; None for the median distance of y, so
            that all samples that are compared with y have the same kernel.
        seed: Seed of the part.
        level: Level of the interval, in [0.5, 0.999].

    Returns:
        The unbiased estimate with its interval; it may be below 0.

    Raises:
        InputError: For events of different shapes, fewer than 4 examples, values that are not
            finite, or a bandwidth that is not above 0.
    """
    level = read_level(level)
    if bandwidth is not None:
        bandwidth = finite(bandwidth, "bandwidth", 0.0, above=True)
    first, second = (subset(part, MOST, seed) for part in read_pair(x, y))
    centre = second.mean(0)
    width = median_distance(second) if bandwidth is None else bandwidth
    return discrepancy(first - centre, second - centre, gaussian(width), level)


def kernel_distance(x: Any, y: Any, *, seed: int = 0, level: float = 0.9) -> Estimate:
    """The squared maximum mean discrepancy under (x·y/k + 1)³ (Bińkowski et al. 2018).

    With features of the Inception network it is KID; here all pairs enter, in place of an average
    over random parts.

    Args:
        x: (N, k), features of samples.
        y: (M, k), features of the data. A random part of 5,000 is taken of a larger set.
        seed: Seed of the part.
        level: Level of the interval, in [0.5, 0.999].

    Returns:
        The unbiased estimate with its interval; it may be below 0.

    Raises:
        InputError: For features of different lengths, fewer than 4 examples, or values that are
            not finite.
    """
    level = read_level(level)
    first, second = (subset(part, MOST, seed) for part in read_pair(x, y))
    return discrepancy(first, second, polynomial, level)
