"""Pairs of columns: their correlations in data and samples, and scatters of the strongest.

The correlation is Pearson's, of numbers, dates, and for each word of a category the indicator of
that word; rows with a missing value in either column are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .columns import Pair, as_numbers, words_of
from .files import Array
from .marginals import SIZE, WORD_WIDTH, axis_rule, is_logarithmic, value_range
from .palette import BLUE, DIVERGING
from .text import fit_label, plain, shorten
from .ticks import Labelled, round_numbers, set_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_INDICATORS = 6  # words of a category that have an indicator each
NAMED = 24  # variables up to which a matrix has their names
POINTS = 700  # of samples and of data in a scatter
TWICE = 3  # panels in which one column may stand
DATA_POINTS = "0.45"


@dataclass(frozen=True)
class Variables:
    """The numbers that are correlated.

    Attributes:
        names: A name each; a word of a category is "column = word".
        owners: The column of each, by position.
        samples: (N, V), NaN for missing values.
        data: (M, V), or None.
    """

    names: list[str]
    owners: list[int]
    samples: Array
    data: Array | None


def variables_of(
    pairs: Sequence[Pair], samples: dict[str, Array], data: dict[str, Array] | None
) -> Variables:
    """Make numbers of the columns that vary, whole rows of them."""
    names: list[str] = []
    owners: list[int] = []
    parts: list[list[Array]] = [[], []]
    for n, pair in enumerate(pairs):
        if pair.column.kind == "constant":
            continue
        words = words_of(pair) if pair.column.kind == "category" else []
        # Two indicators of one choice of two are the same numbers.
        labels = words[:1] if len(words) == 2 else words[:MOST_INDICATORS]
        names += [f"{pair.column.name} = {word}" for word in labels] or [pair.column.name]
        owners += [n] * max(1, len(labels))
        for part, table in zip(parts, (samples, data), strict=True):
            if table is None:
                continue
            values = table[pair.column.name]
            numbers = as_numbers(values, words)
            if labels:
                known = ~np.isnan(numbers)
                part += [np.where(known, numbers == k, np.nan) for k in range(len(labels))]
            else:
                part.append(numbers)
    columns = [np.column_stack(part) if part else None for part in parts]
    first = columns[0] if columns[0] is not None else np.zeros((1, 0))
    return Variables(names, owners, first, columns[1])


def correlate(values: Array) -> Array:
    """Correlations (V, V) of columns with NaN for missing values; 0 where a column is constant."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    count = known.sum(0)
    mean = filled.sum(0) / np.maximum(count, 1)
    centred = np.where(known, values - mean, 0.0)
    size = np.sqrt((centred**2).sum(0))
    scaled = centred / np.where(size > 0, size, 1.0)
    if known.all():
        return (scaled.T @ scaled).clip(-1, 1)
    # Norms over the rows that both columns have.
    square = (scaled**2).T @ known
    norm = np.sqrt(square * square.T)
    return ((scaled.T @ scaled) / np.where(norm > 0, norm, 1.0)).clip(-1, 1)


def strongest(found: Variables, matrix: Array, count: int) -> list[tuple[int, int]]:
    """The pairs of columns with the largest correlation, each column in at most three of them."""
    order = np.argsort(-np.abs(np.triu(matrix, 1)), axis=None)
    chosen: list[tuple[int, int]] = []
    for place in order:
        i, j = (int(v) for v in np.unravel_index(place, matrix.shape))
        a, b = found.owners[i], found.owners[j]
        uses = [column for pair in chosen for column in pair]
        if i >= j or a == b or (a, b) in chosen or max(uses.count(a), uses.count(b)) >= TWICE:
            continue
        chosen.append((a, b))
        if len(chosen) == count:
            break
    return chosen


def _places(pair: Pair, values: Array, generator: np.random.Generator) -> tuple[Array, list[str]]:
    """Numbers for a scatter: words by position, moved at random within their place."""
    words = words_of(pair)[:8] if pair.column.kind == "category" else []
    numbers = as_numbers(values, words)
    if words or pair.column.kind == "discrete":
        distinct = np.unique(numbers[np.isfinite(numbers)])
        gap = 1.0 if words else float(np.diff(distinct).min(initial=np.inf))
        if np.isfinite(gap):
            numbers = numbers + 0.4 * gap * (generator.random(len(numbers)) - 0.5)
    elif pair.column.kind == "integer":
        numbers = numbers + 0.7 * (generator.random(len(numbers)) - 0.5)
    return numbers, words


def draw_scatter(
    axes: "Axes",
    two: tuple[Pair, Pair],
    samples: dict[str, Array],
    data: dict[str, Array] | None,
    width: float,
) -> None:
    """Draw two columns as dots, those of samples and data in one random order.

    Args:
        axes: Where.
        two: The columns of x and y.
        samples: All columns.
        data: All columns, or None.
        width: Width of the panel in points.
    """
    generator = np.random.default_rng(0)
    length = min(POINTS, *(len(next(iter(t.values()))) for t in (samples, data) if t is not None))
    points: list[Array] = []
    for table in (samples, data):
        if table is None:
            continue
        total = len(next(iter(table.values())))
        rows = generator.choice(total, length, replace=False)
        parts = [_places(pair, table[pair.column.name][rows], generator)[0] for pair in two]
        points.append(np.column_stack(parts))
    every = np.concatenate(points)
    colours = np.repeat([BLUE, DATA_POINTS][: len(points)], length)
    mixed = generator.permutation(len(every))
    for n, letter in enumerate("xy"):
        _set_scatter_axis(axes, letter, two[n], every[:, n], width if letter == "x" else 95)
    x, y = every[mixed].T
    axes.scatter(x, y, s=6, c=colours[mixed].tolist(), alpha=0.55, linewidths=0)


def _set_scatter_axis(axes: "Axes", letter: str, pair: Pair, values: Array, room: float) -> None:
    """Scale, limits, ticks and label of one axis of a scatter."""
    finite = values[np.isfinite(values)]
    words = words_of(pair)[:8] if pair.column.kind == "category" else []
    log = is_logarithmic(pair) and bool((finite > 0).all()) and len(finite) > 0
    if words:
        axes.set(**{f"{letter}lim": (-0.6, len(words) - 0.4)})
        labels = [plain(shorten(" ".join(w.split()), WORD_WIDTH, SIZE - 1)) for w in words]
        set_ticks(axes, letter, _word_rule(labels), SIZE - 0.5)
    elif len(finite):
        low, high = value_range(np.log(finite) if log else finite)
        margin = 0.04 * (high - low)
        ends = (low - margin, high + margin)
        if log:
            axes.set(**{f"{letter}scale": "log"})
            ends = (float(np.exp(ends[0])), float(np.exp(ends[1])))
        axes.set(**{f"{letter}lim": ends})
        set_ticks(axes, letter, axis_rule(pair, log), SIZE)
    unit = f" ({pair.column.unit})" if pair.column.unit else ""
    label = fit_label(pair.column.name + unit, room, SIZE)
    axes.set(**{f"{letter}label": label})
    (axes.xaxis if letter == "x" else axes.yaxis).label.set_fontsize(SIZE)


def _word_rule(labels: list[str]) -> Any:
    """A tick a word, or at every second, third ... word."""

    def rule(low: float, high: float) -> list[Labelled]:
        steps = [range(0, len(labels), step) for step in range(1, len(labels) + 1)]
        return [([float(n) for n in ticks], [labels[n] for n in ticks]) for ticks in steps]

    return rule


def draw_matrix(axes: "Axes", matrix: Array, title: str, names: Sequence[str], top: float) -> Any:
    """Draw correlations as colours; the names stand left of the first matrix only.

    Args:
        axes: Where.
        matrix: (V, V).
        title: Shown above.
        names: Names for the rows; empty for their numbers alone.
        top: The largest value of the colour scale.

    Returns:
        What a colour bar needs.
    """
    drawn = axes.imshow(matrix, cmap=DIVERGING, vmin=-top, vmax=top, interpolation="nearest")
    axes.set_title(title, fontsize=SIZE + 1.5)
    size = len(matrix)
    numbers = [str(n + 1) for n in range(size)]

    def rule(low: float, high: float) -> list[Labelled]:
        steps = [range(0, size, step) for step in (1, 2, 5, 10, 20, 50) if step <= size]
        return [([float(n) for n in ticks], [numbers[n] for n in ticks]) for ticks in steps]

    set_ticks(axes, "x", rule, SIZE - 1.5)
    if names:
        labels = [
            f"{plain(shorten(' '.join(name.split()), 110, SIZE - 1))}  {n + 1}"
            for n, name in enumerate(names)
        ]
        axes.set_yticks(range(size), labels, fontsize=SIZE - 1)
    else:
        set_ticks(axes, "y", rule, SIZE - 1.5)
    return drawn


def add_bar(figure: Any, drawn: Any, axes: Any) -> None:
    """A colour bar with few plain numbers."""
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, aspect=16)
    set_ticks(bar.ax, "y", round_numbers(), SIZE - 0.5)


def largest_changes(found: Variables, data: Array, samples: Array, count: int = 3) -> str:
    """The pairs whose correlation differs most, in words."""
    gap = np.abs(np.triu(data - samples, 1))
    parts = []
    for place in np.argsort(-gap, axis=None)[:count]:
        i, j = (int(v) for v in np.unravel_index(place, gap.shape))
        if gap[i, j] > 0:
            pair = f"{shorten(found.names[i], 120, 8)} and {shorten(found.names[j], 120, 8)}"
            parts.append(f"{pair} {data[i, j]:.2f} in the data, {samples[i, j]:.2f} in the samples")
    return "Largest differences: " + "; ".join(parts) + "." if parts else ""
