"""Curves of several seeds: the mean as a line, the range over the seeds as a band, each seed as a
thin line.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .files import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, as_array, new_figure, save_figure

STYLES = (
    (BLUE, "-", "o"),
    (VERMILLION, "--", "s"),
    (GREEN, "-.", "^"),
    (ORANGE, ":", "D"),
    (PURPLE, "-", "v"),
    (SKY, "--", "P"),
)


@dataclass(frozen=True)
class Chart:
    """series: name -> (x (T,), values (S, T), a row a seed). log: which axes are logarithmic, "",
    "x", "y" or "xy"; marks: whether the points
    are marked; bottom, top: the frame, where it is not the values' own."""

    title: str
    xlabel: str
    ylabel: str
    series: Mapping[str, tuple[Any, Any]]
    log: str = ""
    marks: bool = False
    bottom: float | None = None
    top: float | None = None


def _scale(axes: Any, chart: Chart) -> None:
    """Logarithmic axes with plain numbers; marked points of a logarithmic x name themselves."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter

    for letter, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if letter in chart.log:
            axes.set(**{f"{letter}scale": "log"})
            named = letter == "x" and chart.marks
            places = sorted(
                {float(v) for x, _ in chart.series.values() for v in as_array(x, "x").ravel()}
            )
            low, high = axis.get_view_interval()
            axis.set_major_locator(
                FixedLocator(places)
                if named
                else LogLocator(subs=(1, 2, 3, 5) if high > 10 * low else range(1, 10))
            )
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))


def save_spread(
    path: str | os.PathLike[str], charts: Sequence[Chart], title: str, caption: str
) -> Path:
    """The charts in a row. Colours, dashes and markers belong to a series' name, whatever chart it
    is in. Returns the path. Errors: shapes,
    NaNs, ending."""
    names = list(dict.fromkeys(name for chart in charts for name in chart.series))
    if not 1 <= len(names) <= len(STYLES):
        raise InputError(f"need 1 to {len(STYLES)} series; got {len(names)}")
    figure = new_figure(4.6 * len(charts) + 0.4, 4.3)
    for n, chart in enumerate(charts):
        axes = figure.add_subplot(1, len(charts), n + 1)
        for name, (x, values) in chart.series.items():
            at, rows = (
                as_array(x, "x").astype(np.float64),
                np.atleast_2d(as_array(values, name).astype(np.float64)),
            )
            if rows.shape[1:] != at.shape:
                raise InputError(
                    f"{name} needs values (seeds, {len(at)}), x's length; got {rows.shape}"
                )
            colour, dash, marker = STYLES[names.index(name)]
            if len(rows) > 1:
                axes.fill_between(at, rows.min(0), rows.max(0), color=colour, alpha=0.15, lw=0)
                axes.plot(at, rows.T, color=colour, alpha=0.45, lw=0.7)
            axes.plot(
                at,
                rows.mean(0),
                dash,
                color=colour,
                lw=1.8,
                marker=marker if chart.marks else "",
                ms=5,
                label=name,
            )
        axes.set(xlabel=chart.xlabel, ylabel=chart.ylabel)
        axes.set_title(chart.title, fontsize=10)
        _scale(axes, chart)
        if chart.bottom is not None or chart.top is not None:
            axes.set_ylim(chart.bottom, chart.top)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(title)
    return save_figure(path, figure, caption)
