"""Curves over several seeds: thin lines for the seeds, a thick line for their mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .files import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    PathLike,
    Values,
    as_array,
    new_figure,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    """One pair of axes with its series.

    Attributes:
        title: shown above the axes.
        xlabel: label of the horizontal axis, with its unit.
        ylabel: label of the vertical axis, with its unit.
        series: name -> (x (T,), values (S, T)), one row a seed.
        log: which axes are logarithmic: "", "x", "y" or "xy".
        marks: whether each point has a marker.
        bottom: lower end of the vertical axis; by default that of the values.
        top: upper end of the vertical axis; by default that of the values.
    """

    title: str
    xlabel: str
    ylabel: str
    series: Mapping[str, tuple[Values, Values]]
    log: str = ""
    marks: bool = False
    bottom: float | None = None
    top: float | None = None


def _set_scales(axes: "Axes", chart: Chart) -> None:
    """Logarithmic axes with plain numbers; a logarithmic x with markers has a tick a point."""
    from matplotlib.ticker import (
        FixedLocator,
        Locator,
        LogLocator,
        NullLocator,
        StrMethodFormatter,
    )

    for letter, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if letter not in chart.log:
            continue
        axes.set(**{f"{letter}scale": "log"})
        if letter == "x" and chart.marks:
            points = [as_array(x, "x").ravel() for x, _ in chart.series.values()]
            major: Locator = FixedLocator(sorted({float(v) for v in np.concatenate(points)}))
        else:
            low, high = axis.get_view_interval()
            major = LogLocator(subs=(1, 2, 3, 5) if high > 10 * low else range(1, 10))
        axis.set_major_locator(major)
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _draw(axes: "Axes", chart: Chart, names: Sequence[str]) -> None:
    for name, (x, values) in chart.series.items():
        at = as_array(x, "x").astype(np.float64)
        rows = np.atleast_2d(as_array(values, name).astype(np.float64))
        if rows.shape[1:] != at.shape:
            raise InputError(
                f"{name} needs values (seeds, {len(at)}), x's length; got {rows.shape}"
            )
        colour, dash, marker = STYLES[names.index(name)]
        if len(rows) > 1:
            axes.fill_between(at, rows.min(0), rows.max(0), color=colour, alpha=0.15, lw=0)
            axes.plot(at, rows.T, color=colour, alpha=0.45, lw=0.7)
        marked = marker if chart.marks else ""
        axes.plot(at, rows.mean(0), dash, color=colour, lw=1.8, marker=marked, ms=5, label=name)
    axes.set(xlabel=chart.xlabel, ylabel=chart.ylabel)
    axes.set_title(chart.title, fontsize=10)
    _set_scales(axes, chart)
    if chart.bottom is not None or chart.top is not None:
        axes.set_ylim(chart.bottom, chart.top)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def save_seed_curves(path: PathLike, charts: Sequence[Chart], title: str, caption: str) -> Path:
    """Write the charts side by side.

    A series has the same colour, dashes and marker in every chart.

    Args:
        path: a file name that ends in .png, .pdf or .svg.
        charts: one or more charts with 1 to 6 different names of series in all.
        title: shown above the charts.
        caption: shown below the charts.

    Returns:
        The path.

    Raises:
        InputError: if shapes, values or the ending are wrong.
    """
    names = list(dict.fromkeys(name for chart in charts for name in chart.series))
    if not 1 <= len(names) <= len(STYLES):
        raise InputError(f"need 1 to {len(STYLES)} series; got {len(names)}")
    figure = new_figure(4.6 * len(charts) + 0.4, 4.3)
    for n, chart in enumerate(charts):
        _draw(figure.add_subplot(1, len(charts), n + 1), chart, names)
    figure.suptitle(title)
    return save_figure(path, figure, caption)
