"""Curves over several seeds: thin lines for the seeds, a thick line for their mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..values import whole
from .files import Array, PathLike, Values, as_array, new_figure, save_figure
from .palette import SERIES
from .text import fit_label, wrap
from .ticks import Labelled, Rule, number_labels, round_factors, round_numbers, set_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES, MARKERS = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1))), "os^DvP"
DODGE = 0.018  # of the axis: sideways distance of the points of two series
CHART_WIDTH = 4.6  # inches


@dataclass(frozen=True)
class Chart:
    """One pair of axes with its series.

    Attributes:
        title: Shown above the axes.
        xlabel: Label of the horizontal axis, with its unit.
        ylabel: Label of the vertical axis, with its unit.
        series: Name -> (x (T,), values (S, T)), one row a seed.
        log: Which axes are logarithmic: "", "x", "y" or "xy".
        marks: Whether each point has a marker. The points that several series have at one x are
            then drawn side by side, so that none hides another, and the seeds as small dots.
        bottom: Lower end of the vertical axis; by default that of the values.
        top: Upper end of the vertical axis; by default that of the values.
    """

    title: str
    xlabel: str
    ylabel: str
    series: Mapping[str, tuple[Values, Values]]
    log: str = ""
    marks: bool = False
    bottom: float | None = None
    top: float | None = None


def _ticks_at(places: Sequence[float]) -> Rule:
    """A tick at each place, or at every second, third ... where there are too many."""

    def rule(low: float, high: float) -> list[Labelled]:
        every = [places[::step] for step in range(1, len(places) + 1)]
        return [(list(ticks), [number_labels([v])[0] for v in ticks]) for ticks in every]

    return rule


def _checked(chart: Chart) -> dict[str, tuple[Array, Array]]:
    """name -> x (T,) and values (S, T), float64."""
    found = {}
    for name, (x, values) in chart.series.items():
        at = as_array(x, "x").astype(np.float64)
        rows = np.atleast_2d(as_array(values, name).astype(np.float64))
        if rows.shape[1:] != at.shape:
            raise InputError(
                f"{name} needs values (seeds, {len(at)}), x's length; got {rows.shape}"
            )
        found[name] = at, rows
    return found


def _beside(at: Array, every: Array, place: float, log: bool) -> Array:
    """Points moved sideways by `place` of the range of all points."""
    low, high = float(every.min()), float(every.max())
    if log and low > 0:
        return at * (high / low) ** place
    return at + place * (high - low)


def _draw(axes: "Axes", chart: Chart, names: Sequence[str]) -> None:
    series = _checked(chart)
    every = np.concatenate([at for at, _ in series.values()]) if series else np.zeros(1)
    for n, (name, (at, rows)) in enumerate(series.items()):
        style = names.index(name)
        colour, dash = SERIES[style], DASHES[style]
        mean = {"color": colour, "ls": dash, "lw": 1.8, "label": name}
        if chart.marks:
            at = _beside(at, every, DODGE * (n - (len(series) - 1) / 2), "x" in chart.log)
            if len(rows) > 1:
                axes.plot(at, rows.T, "o", color=colour, alpha=0.6, ms=2.5)
            mark = MARKERS[style]
            middle = rows.mean(0)
            axes.plot(at, middle, marker=mark, ms=6, mfc="white", **mean)  # type: ignore[arg-type]
            continue
        if len(rows) > 1:
            axes.fill_between(at, rows.min(0), rows.max(0), color=colour, alpha=0.15, lw=0)
            axes.plot(at, rows.T, color=colour, alpha=0.45, lw=0.7)
        axes.plot(at, rows.mean(0), **mean)  # type: ignore[arg-type]
    if chart.bottom is not None or chart.top is not None:
        axes.set_ylim(chart.bottom, chart.top)
    for letter in "xy":
        if letter in chart.log:
            axes.set(**{f"{letter}scale": "log"})
        rule = round_factors if letter in chart.log else round_numbers()
        if letter == "x" and chart.marks:
            rule = _ticks_at(sorted({float(v) for v in every}))
        set_ticks(axes, letter, rule)
    width = 72 * CHART_WIDTH - 60
    axes.set_xlabel(fit_label(chart.xlabel, width, 10))
    axes.set_ylabel(fit_label(chart.ylabel, 200, 10))
    axes.set_title(wrap(chart.title, width, 10), fontsize=10)
    axes.grid(alpha=0.3)
    if len(series) > 1:
        axes.legend(fontsize=8)


def save_seed_curves(
    path: PathLike,
    charts: Sequence[Chart],
    title: str,
    caption: str,
    columns: int | None = None,
) -> Path:
    """Write the charts side by side.

    A series has the same colour, dashes and marker in every chart.

    Args:
        path: A file name that ends in .png, .pdf or .svg.
        charts: One or more charts with 1 to 6 different names of series in all.
        title: Shown above the charts.
        caption: Shown below the charts.
        columns: Charts in a row, 1 or more; None: all.

    Returns:
        The path.

    Raises:
        InputError: If shapes, values or the ending are wrong.
    """
    names = list(dict.fromkeys(name for chart in charts for name in chart.series))
    if not 1 <= len(names) <= len(SERIES):
        raise InputError(f"need 1 to {len(SERIES)} series; got {len(names)}")
    across = len(charts) if columns is None else min(whole(columns, "columns", 1), len(charts))
    down = -(-len(charts) // across)
    figure = new_figure(CHART_WIDTH * across + 0.4, 3.5 * down + 0.4, title)
    for n, chart in enumerate(charts):
        _draw(figure.add_subplot(down, across, n + 1), chart, names)
    return save_figure(path, figure, caption)
