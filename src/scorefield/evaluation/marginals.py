"""Columns of tables: marginals, words of categories, and correlations.

    marginal W1     integral |F_x - F_y| / standard deviation of the data, a column
    total variation (1/2) sum over words of |frequency in samples - frequency in the data|
    correlation     Pearson's r of samples minus that of the data, a pair of columns; one number is
                    the root mean square over pairs, bias removed with halves (`intervals`)

A row has the word whose element is the largest of the category. The first two metrics are not
smooth where both sets agree, so that their intervals are about the expected value at the same
numbers of examples.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..values import mapping, texts, whole_numbers
from .distances import influence_w1, plan_of, powers_of
from .estimate import Estimate
from .intervals import (
    SPLITS,
    interval,
    linear_variance,
    read_level,
    read_pair,
    root,
    split_values,
    subset,
    without_bias,
)

MOST = 20_000  # examples a side
MOST_CORRELATED = 256  # columns whose pairs are all compared
DELTA = "delta method"
METHOD = "{} pairs; bias and quadratic part from halves, linear part by the delta method"


@dataclass(frozen=True)
class Columns:
    """The numbers and categories among the elements of a table's rows.

    Attributes:
        numbers: Name -> element.
        categories: Name -> elements, one a word.
    """

    numbers: Mapping[str, int]
    categories: Mapping[str, tuple[int, ...]]


def read_categories(categories: Any) -> dict[str, tuple[int, ...]]:
    """Name -> indices of the elements of its words; None for no categories.

    Raises:
        InputError: For anything but a mapping from names to two or more whole numbers each.
    """
    found = {} if categories is None else mapping(categories, "categories")
    read = {name: tuple(whole_numbers(v, f"categories[{name!r}]", 0)) for name, v in found.items()}
    if any(len(index) < 2 for index in read.values()):
        raise InputError("categories must list two or more elements each")
    return read


def read_columns(
    names: Any, size: int, categories: Mapping[str, Sequence[int]] | None = None
) -> Columns:
    """Sort the elements of rows into numbers and categories.

    Args:
        names: Names of the `size` elements.
        size: Number of elements.
        categories: Name -> indices of the elements of its words; None for no categories.

    Returns:
        The columns.

    Raises:
        InputError: For another number of names, or indices out of range.
    """
    found = texts(names, "names")
    if len(found) != size:
        raise InputError(f"names must have one name for each of {size} elements; got {len(found)}")
    words = read_categories(categories)
    taken = {k for index in words.values() for k in index}
    if not taken <= set(range(size)):
        raise InputError(f"categories must list elements of 0 to {size - 1}")
    numbers = {name: k for k, name in enumerate(found) if k not in taken}
    return Columns(numbers, words)


@dataclass(frozen=True)
class Table:
    """How the columns of samples compare with those of the data.

    Attributes:
        w1: Column -> Wasserstein-1 distance in standard deviations of the data.
        total_variation: Category -> total variation distance.
        correlations: (column, column) -> difference of correlations, samples minus data, the
            largest first.
        summary: "marginal_w1", "category_tv" and "correlation", as far as there are such columns.
    """

    w1: Mapping[str, Estimate]
    total_variation: Mapping[str, Estimate]
    correlations: Mapping[tuple[str, str], Estimate]
    summary: Mapping[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON holds them."""
        found: dict[str, Any] = {
            name: {key: one.to_dict() for key, one in getattr(self, name).items()}
            for name in ("w1", "total_variation", "summary")
        }
        pairs = self.correlations.items()
        found["correlations"] = [{"columns": list(key), **one.to_dict()} for key, one in pairs]
        return found


def _w1(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values (k,) of columns and influences (N, k), (M, k), in standard deviations of y."""
    px, py = x.T.contiguous(), y.T.contiguous()
    value = powers_of(px.sort(1).values, py.sort(1).values, plan_of(len(x), len(y)), 1)
    of_x, of_y = influence_w1(px, py)
    std = y.std(0)
    white = (y - y.mean(0)) / std
    value = value / std
    of_y = of_y.T / std
    return value, of_x.T / std, of_y - of_y.mean(0) - value * (white.square() - 1) / 2


def _tv(x: Tensor, y: Tensor) -> tuple[float, Tensor, Tensor]:
    """Total variation of words, and the influences of rows, from the elements of a category."""
    first, second = (one.argmax(1) for one in (x, y))
    size = x.shape[1]
    p, q = (torch.bincount(one, minlength=size).double() / len(one) for one in (first, second))
    sign = (p - q).sign() / 2
    return float((p - q).abs().sum()) / 2, sign[first], -sign[second]


def _correlation(x: Tensor) -> tuple[Tensor, Tensor]:
    """Correlations (k, k) and standardised columns (N, k)."""
    std = x.std(0, correction=0)
    white = (x - x.mean(0)) / torch.where(std > 0, std, 1.0)  # a half may be constant
    return white.T @ white / len(x), white


def _mean_square(x: Tensor, y: Tensor) -> float:
    size = x.shape[1]
    gap = _correlation(x)[0] - _correlation(y)[0]
    return float(gap.square().sum()) / (size * (size - 1))


def _gap_influence(white: Tensor, r: Tensor, gap: Tensor) -> Tensor:
    """Influence of rows (N,) on sum over ordered pairs of gap² for one set."""
    return 2 * (((white @ gap) * white).sum(1) - white.square() @ (gap * r).sum(1))


def _pairs(names: list[str], x: Tensor, y: Tensor, level: float) -> dict[tuple[str, str], Estimate]:
    """Differences of correlations with their intervals, the largest first."""
    (rx, wx), (ry, wy) = _correlation(x), _correlation(y)
    found = {}
    for a in range(len(names) - 1):
        rest = slice(a + 1, len(names))
        variance = torch.zeros(len(names) - a - 1, dtype=torch.float64)
        for r, white in ((rx, wx), (ry, wy)):
            one, others = white[:, a : a + 1], white[:, rest]
            influence = one * others - r[a, rest] * (one.square() + others.square()) / 2
            variance += influence.var(0) / len(white)
        gaps = (rx - ry)[a, rest]
        for b, gap, var in zip(names[rest], gaps.tolist(), variance.tolist(), strict=True):
            found[names[a], b] = interval(gap, var, level, (len(x), len(y)), DELTA)
    return dict(sorted(found.items(), key=lambda item: -abs(item[1].value)))


def _correlations(
    names: list[str], x: Tensor, y: Tensor, seed: int, level: float
) -> tuple[dict[tuple[str, str], Estimate], Estimate]:
    """The differences of pairs, and their root mean square."""
    (rx, wx), (ry, wy) = _correlation(x), _correlation(y)
    gap, pairs = rx - ry, len(names) * (len(names) - 1)
    gap.fill_diagonal_(0.0)
    linear = linear_variance(
        _gap_influence(wx, rx, gap) / pairs, -_gap_influence(wy, ry, gap) / pairs
    )
    squared = without_bias(
        _mean_square(x, y),
        split_values(_mean_square, x, y, seed, SPLITS),
        linear,
        level,
        (len(x), len(y)),
        METHOD.format(pairs // 2),
    )
    return _pairs(names, x, y, level), root(squared)


def compare_columns(
    x: Any,
    y: Any,
    names: Any,
    categories: Mapping[str, Sequence[int]] | None = None,
    *,
    seed: int = 0,
    level: float = 0.9,
) -> Table:
    """Compare the columns of a table, one by one and in pairs.

    Args:
        x: (N, k), samples.
        y: (M, k), the data. A random part of 20,000 is taken of a larger set.
        names: Names of the k elements.
        categories: Name -> indices of the elements of its words; None for no categories.
        seed: Seed of the halves and the part.
        level: Level of the intervals, in [0.5, 0.999].

    Returns:
        The comparison. Constant columns of the data are left out; correlations are those of the
        first `MOST_CORRELATED` columns of numbers that vary.

    Raises:
        InputError: For other shapes or names, fewer than 4 examples, or values that are not finite.
    """
    level = read_level(level)
    first, second = (subset(part, MOST, seed) for part in read_pair(x, y))
    columns = read_columns(names, first.shape[1], categories)
    total_variation, summary = _categories(columns, first, second, level)
    varies = [name for name, k in columns.numbers.items() if float(second[:, k].std()) > 0]
    w1: dict[str, Estimate] = {}
    if varies:
        index = [columns.numbers[name] for name in varies]
        w1, summary["marginal_w1"] = _marginals(varies, first[:, index], second[:, index], level)
    both = [name for name in varies if float(first[:, columns.numbers[name]].std()) > 0]
    both = both[:MOST_CORRELATED]
    correlations: dict[tuple[str, str], Estimate] = {}
    if len(both) > 1:
        index = [columns.numbers[name] for name in both]
        correlations, summary["correlation"] = _correlations(
            both, first[:, index], second[:, index], seed, level
        )
    return Table(w1, total_variation, correlations, summary)


def _categories(
    columns: Columns, x: Tensor, y: Tensor, level: float
) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Total variation of each category, and its mean as "category_tv" where there are some."""
    counts = len(x), len(y)
    found: dict[str, Estimate] = {}
    values: list[float] = []
    influences: tuple[list[Tensor], list[Tensor]] = ([], [])
    for name, index in columns.categories.items():
        value, of_x, of_y = _tv(x[:, list(index)], y[:, list(index)])
        variance = linear_variance(of_x, of_y)
        found[name] = interval(value, variance, level, counts, DELTA, (0.0, 1.0))
        values.append(value)
        influences[0].append(of_x)
        influences[1].append(of_y)
    if not values:
        return {}, {}
    variance = linear_variance(*(torch.stack(part).mean(0) for part in influences))
    mean = sum(values) / len(values)
    return found, {"category_tv": interval(mean, variance, level, counts, DELTA, (0.0, 1.0))}


def _marginals(
    names: list[str], x: Tensor, y: Tensor, level: float
) -> tuple[dict[str, Estimate], Estimate]:
    """W1 of each column, and the mean over columns."""
    counts, bounds = (len(x), len(y)), (0.0, math.inf)
    value, of_x, of_y = _w1(x, y)
    found = {}
    for k, name in enumerate(names):
        variance = linear_variance(of_x[:, k], of_y[:, k])
        found[name] = interval(float(value[k]), variance, level, counts, DELTA, bounds)
    variance = linear_variance(of_x.mean(1), of_y.mean(1))
    return found, interval(float(value.mean()), variance, level, counts, DELTA, bounds)
