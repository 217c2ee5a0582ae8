"""One column of a table: its distribution in the samples over that in the data.

    few values or words   a bar each
    numbers and dates     a histogram; logarithmic where positive values span a factor over 200

Heights are fractions of the rows, so that panels of all kinds have one scale in common.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from .columns import FEW_INTEGERS, Pair, as_numbers, words_of
from .files import Array
from .palette import BLUE, GREY
from .text import fit_label, plain, shorten
from .ticks import Rule, dates, round_factors, round_numbers, set_ticks, short_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 7.5  # points, of labels in panels
MOST_WORDS = 7  # bars of a category; the others are counted together
WORD_WIDTH = 52  # points
LOG_FACTOR = 200
TAIL = 0.001  # fraction of the values at each end that the axis may leave out


def value_range(values: Array, whole: bool = False) -> tuple[float, float]:
    """The ends of an axis: all values, or their central part where a few lie far out."""
    low, high = float(values.min()), float(values.max())
    inner = [float(q) for q in np.quantile(values, [TAIL, 1 - TAIL])]
    if high - low > 1.6 * (inner[1] - inner[0]) > 0:
        low, high = inner
    if whole:
        low, high = np.floor(low) - 0.5, np.ceil(high) + 0.5
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def is_logarithmic(pair: Pair) -> bool:
    """Whether the column is drawn on a logarithmic axis."""
    if pair.column.kind not in ("continuous", "integer") or not len(pair.pooled):
        return False
    decisive = pair.samples if pair.data is None or not len(pair.data) else pair.data
    low, high = np.quantile(decisive, [0.01, 0.99])
    return float(decisive.min()) > 0 and float(high) > LOG_FACTOR * float(low)


def _bar_values(pair: Pair) -> Array | None:
    """The values that have a bar each; None where a histogram fits better."""
    if pair.column.kind == "integer":
        low, high = float(pair.pooled.min()), float(pair.pooled.max())
        values = np.arange(low, high + 1) if high - low <= FEW_INTEGERS else None
    elif pair.column.kind == "discrete":
        numbers = [v for v in pair.column.values if isinstance(v, int | float)]
        known = numbers or (pair.samples if pair.data is None else pair.data)
        values = np.unique(np.asarray(known, dtype=np.float64))
        values = values if len(values) <= FEW_INTEGERS else None
    else:
        return None
    # Samples that were not brought back to the values would vanish between the bars.
    strays = values is None or float(np.isin(pair.samples, values).mean()) < 0.99
    return None if strays else values


def draw_marginal(axes: "Axes", pair: Pair, width: float) -> None:
    """Draw one column.

    Args:
        axes: Where.
        pair: The column; it is not constant.
        width: Width of the panel in points, for its title.
    """
    values = _bar_values(pair)
    if pair.column.kind == "category":
        _draw_words(axes, pair)
    elif values is not None:
        _draw_values(axes, pair, values)
    else:
        _draw_histogram(axes, pair)
    title_panel(axes, pair, width)


def title_panel(axes: "Axes", pair: Pair, width: float) -> None:
    """Name, unit and distance above a panel; missing values below it."""
    unit = f" ({pair.column.unit})" if pair.column.unit else ""
    name = fit_label(pair.column.name + unit, width - 55, SIZE + 1)
    distance = f"\nD = {pair.distance:.2f}" if pair.data is not None else ""
    axes.set_title(name + distance, fontsize=SIZE + 1)
    if any(pair.missing):
        mine, theirs = (f"{100 * share:.2g} %" for share in pair.missing)
        words = f"missing: {mine} of samples" + ("" if pair.data is None else f", {theirs} of data")
        axes.set_xlabel(words, fontsize=SIZE - 0.5)


def _bars(axes: "Axes", places: Array, heights: list[Array | None], lying: bool) -> None:
    """Grey areas for the data, blue outlines for the samples."""
    samples, data = heights
    bar: Any = axes.barh if lying else axes.bar
    if data is not None:
        bar(places, data, 0.8, color=GREY)
    bar(places, samples, 0.8, fill=False, edgecolor=BLUE, linewidth=1.3)


def _fractions(pair: Pair, keys: list[object]) -> list[Array | None]:
    """For samples and data, the fraction of the rows that hold each key."""
    found: list[Array | None] = []
    for part in (pair.samples, pair.data):
        counted = None if part is None else np.array([(part == key).mean() for key in keys])
        found.append(counted)
    return found


def _one_line(word: str) -> str:
    return " ".join(word.split()) or "(empty)"


def _draw_words(axes: "Axes", pair: Pair) -> None:
    words = words_of(pair)
    shown = words if len(words) <= MOST_WORDS + 1 else words[:MOST_WORDS]
    heights = _fractions(pair, list(shown))
    labels = [plain(shorten(_one_line(word), WORD_WIDTH, SIZE)) for word in shown]
    if len(shown) < len(words):
        labels.append(f"{len(words) - len(shown)} others")
        heights = [None if h is None else np.append(h, max(0.0, 1 - h.sum())) for h in heights]
    places = np.arange(len(labels), dtype=np.float64)
    _bars(axes, places, heights, lying=True)
    axes.set_yticks(places, labels, fontsize=SIZE - 0.5)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    set_ticks(axes, "x", round_numbers(), SIZE)


def _draw_values(axes: "Axes", pair: Pair, values: Array) -> None:
    """A bar a value: whole numbers where they stand, other values side by side."""
    even = pair.column.kind == "integer"
    places = values if even else np.arange(len(values), dtype=np.float64)
    _bars(axes, places, _fractions(pair, list(values)), lying=False)
    axes.set_xlim(places[0] - 0.6, places[-1] + 0.6)
    labels = {
        place: short_number(v) for place, v in zip(places.tolist(), values.tolist(), strict=True)
    }

    def rule(low: float, high: float) -> list[tuple[list[float], list[str]]]:
        steps = [list(labels)[::step] for step in range(1, len(labels) + 1)]
        return [(ticks, [labels[v] for v in ticks]) for ticks in steps]

    set_ticks(axes, "x", round_numbers(whole=True) if even else rule, SIZE)
    set_ticks(axes, "y", round_numbers(), SIZE)


def _edges(pair: Pair, log: bool) -> Array:
    """Edges of the histogram's bins."""
    smallest = min(len(p) for p in (pair.samples, pair.data) if p is not None and len(p))
    count = int(np.clip(round(2 * smallest ** (1 / 3)), 10, 40))
    numbers = as_numbers(pair.pooled)
    discrete = pair.column.kind in ("integer", "discrete")
    whole = discrete and bool((numbers == numbers.round()).all())
    if log:
        low, high = value_range(np.log(numbers))
        return np.exp(np.linspace(low, high, count + 1))
    low, high = value_range(numbers, whole)
    if whole and high - low >= 2:
        # Bins of equal numbers of integers: others would alternate between two heights.
        step = max(1, round((high - low) / count))
        return np.arange(low, high + step, step)
    return np.linspace(low, high, count + 1)


def _draw_histogram(axes: "Axes", pair: Pair) -> None:
    if not len(pair.samples):
        axes.text(0.5, 0.5, "no values", ha="center", transform=axes.transAxes, fontsize=SIZE)
        return
    log = is_logarithmic(pair) and float(pair.pooled.min()) > 0
    edges = _edges(pair, log)
    for part in (pair.data, pair.samples):
        if part is None or not len(part):
            continue
        counts, _ = np.histogram(as_numbers(part).clip(edges[0], edges[-1]), edges)
        style = {"color": GREY, "fill": True} if part is pair.data else {"color": BLUE, "lw": 1.3}
        axes.stairs(counts / len(part), edges, **style)  # type: ignore[arg-type]
    if log:
        axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    set_ticks(axes, "x", axis_rule(pair, log), SIZE)
    set_ticks(axes, "y", round_numbers(), SIZE)


def axis_rule(pair: Pair, log: bool) -> Rule:
    """Ticks for the values of a column."""
    if log:
        return round_factors
    if pair.column.kind == "date":
        return dates
    return round_numbers(whole=pair.column.kind == "integer")
