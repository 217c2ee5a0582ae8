"""A table as one page: the distribution of each column, pairs of columns, correlations.

Samples are drawn in blue and the data, where given, in grey behind them. A wide table shows the
columns in which the two differ most, and the page states which.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import InputError
from ..values import texts
from .columns import ColumnLike, Pair, pair_columns, read_table
from .correlations import (
    DATA_POINTS,
    NAMED,
    Variables,
    add_bar,
    correlate,
    draw_matrix,
    draw_scatter,
    largest_changes,
    strongest,
    variables_of,
)
from .files import FIGURE_SUFFIXES as SUFFIXES
from .files import Array, PathLike, check_suffix, new_figure, save_figure
from .marginals import draw_marginal
from .palette import BLUE, GREY
from .text import shorten, wrap

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

PARTS = ("marginals", "pairs", "correlations")
MOST_PANELS, MOST_PAIRS, ACROSS = 24, 8, 4
PAGE = 10.0  # inches
MARGINAL_HEIGHT, PAIR_HEIGHT, MATRIX_HEIGHT, HEAD = 1.75, 2.0, 2.9, 0.35  # inches


class Section(NamedTuple):
    """A part of the page: its height in inches and what draws it."""

    height: float
    draw: Any


class Table(NamedTuple):
    """Samples and data, read."""

    pairs: list[Pair]
    samples: dict[str, Array]
    data: dict[str, Array] | None

    @property
    def varying(self) -> list[Pair]:
        """The columns that are not constant."""
        return [pair for pair in self.pairs if pair.column.kind != "constant"]


def save_table(
    path: PathLike,
    samples: Any,
    data: Any = None,
    columns: Iterable[ColumnLike] | None = None,
    title: str = "",
    parts: Sequence[str] = PARTS,
    names: Sequence[str] | None = None,
) -> Path:
    """Write a page about a table: distributions, pairs and correlations, beside those of the data.

    Args:
        path: A file name that ends in .png, .pdf or .svg.
        samples: A mapping from names to arrays (N,), an Arrow table, or an array (N, d). Words are
            strings, dates datetime64; NaN, NaT and None are missing values.
        data: The training data in the same form, with at least the same columns; None: samples
            alone.
        columns: Descriptions with `name`, `kind` and, where they are known, `values` (or `words`)
            and `unit`, such as `TableColumn`. A column without one is described by its values.
        title: Shown above the page.
        parts: What is drawn: of "marginals", "pairs" and "correlations".
        names: Names of the columns of an array.

    Returns:
        The path.

    Raises:
        InputError: If columns are missing, hold values that cannot be drawn, or have different
            lengths; if a part or the ending is unknown.
    """
    check_suffix(path, SUFFIXES)
    parts, names = texts(parts, "parts"), None if names is None else texts(names, "names")
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise InputError(f"parts are of {', '.join(PARTS)}; got {', '.join(unknown) or 'none'}")
    mine = read_table(samples, "samples", names)
    theirs = None if data is None else read_table(data, "data", names or list(mine))
    table = Table(pair_columns(mine, theirs, columns), mine, theirs)
    notes = [_counts(table)]
    sections = [s for part in PARTS if part in parts for s in _section(part, table, notes)]
    constants = _constants(table.pairs)
    if not sections:
        figure = new_figure(7.0, 0.8, title)
        return save_figure(path, figure, f"{notes[0]} {constants}")
    figure = new_figure(PAGE, sum(section.height for section in sections), title)
    heights = [section.height for section in sections]
    places = figure.subfigures(len(sections), 1, squeeze=False, height_ratios=heights)[:, 0]
    for section, place in zip(sections, places, strict=True):
        section.draw(place)
    caption = " ".join(filter(None, [*notes, constants]))
    return save_figure(path, figure, caption)


def _counts(table: Table) -> str:
    """How many rows are drawn, and how."""
    count = len(next(iter(table.samples.values())))
    if table.data is None:
        return f"{count:,} samples."
    other = len(next(iter(table.data.values())))
    return (
        f"Blue: {count:,} samples; grey: {other:,} rows of the data. D: largest difference of the "
        "two distribution functions (words: half the sum of the differences of their fractions)."
    )


def _constants(pairs: Sequence[Pair]) -> str:
    """The constant columns with their values, which have no panel."""
    found = []
    for pair in pairs:
        if pair.column.kind == "constant":
            value = pair.pooled[0] if len(pair.pooled) else "no value"
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            found.append(f"{shorten(pair.column.name, 160, 8)} = {shorten(text, 120, 8)}")
    if not found:
        return ""
    rest = f" and {len(found) - 12} more" if len(found) > 12 else ""
    return f"Constant, not drawn: {', '.join(found[:12])}{rest}."


def _section(part: str, table: Table, notes: list[str]) -> list[Section]:
    """The section of a part; none where there is nothing to draw. Appends to the notes."""
    if part == "marginals":
        return _marginals(table, notes)
    if len(table.varying) < 2:
        return []
    found = variables_of(table.pairs, table.samples, table.data)
    return _pairs(table, found) if part == "pairs" else _correlations(table, found, notes)


def _head(figure: "SubFigure", text: str, legend: bool = False, dots: bool = False) -> None:
    """A section's headline, with the legend at its right."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    figure.suptitle(wrap(text, 72 * PAGE - 190, 9.5), x=0.012, ha="left", fontsize=9.5)
    if not legend:
        return
    dot: dict[str, Any] = {"ls": "", "marker": "o", "ms": 4}
    handles: list[Any] = (
        [Line2D([], [], color=BLUE, **dot), Line2D([], [], color=DATA_POINTS, **dot)]
        if dots
        else [Patch(fill=False, ec=BLUE, lw=1.3), Patch(color=GREY)]
    )
    place: dict[str, Any] = {"loc": "upper right", "frameon": False, "borderpad": 0.1}
    figure.legend(handles, ["samples", "data"], ncols=2, fontsize=8, **place)


def _across(count: int) -> int:
    """Panels in a row: at most four, and no row nearly empty."""
    rows = -(-count // ACROSS)
    return -(-count // rows)


def _marginals(table: Table, notes: list[str]) -> list[Section]:
    varying = table.varying
    if not varying:
        return []
    shown = varying[:MOST_PANELS]
    head = "Distribution of each column"
    if len(varying) > MOST_PANELS:
        head = f"Distribution of the first {MOST_PANELS} of {len(varying)} columns"
        if table.data is not None:
            shown = sorted(varying, key=lambda pair: -np.nan_to_num(pair.distance))[:MOST_PANELS]
            head = (
                f"Distribution of the {MOST_PANELS} of {len(varying)} columns in which samples and "
                "data differ most, in the order of D"
            )
            middle = float(np.nanmedian([pair.distance for pair in varying]))
            notes.append(f"Median of D over all {len(varying)} columns: {middle:.3f}.")
    across = _across(len(shown))
    down = math.ceil(len(shown) / across)

    def draw(figure: "SubFigure") -> None:
        _head(figure, head, legend=table.data is not None)
        for n, pair in enumerate(shown):
            panel = figure.add_subplot(down, across, n + 1)
            draw_marginal(panel, pair, 72 * PAGE / across - 30)
        figure.supylabel("fraction of the rows", fontsize=8)

    return [Section(down * (MARGINAL_HEIGHT + 0.12 * (table.data is not None)) + HEAD, draw)]


def _pairs(table: Table, found: Variables) -> list[Section]:
    matrix = correlate(found.samples if found.data is None else found.data)
    chosen = strongest(found, matrix, MOST_PAIRS)
    if not chosen:
        return []
    total = math.comb(len(table.varying), 2)
    source = "samples" if table.data is None else "data"
    head = (
        f"The {len(chosen)} of {total:,} pairs of columns with the strongest correlation in the "
        f"{source} (each column in three panels at most)"
        if len(chosen) < total
        else "Pairs of columns"
    )
    across = _across(len(chosen))
    down = math.ceil(len(chosen) / across)

    def draw(figure: "SubFigure") -> None:
        _head(figure, head, legend=table.data is not None, dots=True)
        for n, (a, b) in enumerate(chosen):
            panel = figure.add_subplot(down, across, n + 1)
            two = table.pairs[a], table.pairs[b]
            draw_scatter(panel, two, table.samples, table.data, 72 * PAGE / across - 85)

    return [Section(down * PAIR_HEIGHT + HEAD, draw)]


def _correlations(table: Table, found: Variables, notes: list[str]) -> list[Section]:
    size = len(found.names)
    mine = correlate(found.samples)
    matrices = [("samples", mine)]
    if found.data is not None:
        other = correlate(found.data)
        matrices = [("data", other), ("samples", mine), ("samples − data", mine - other)]
        notes.append(largest_changes(found, other, mine))
    names = found.names if size <= NAMED else []
    if not names:
        notes.append("Variables of the correlations are numbered in the table's order.")
    height = max(MATRIX_HEIGHT, 0.125 * len(names) + 0.6)

    def draw(figure: "SubFigure") -> None:
        _head(figure, "Correlations")
        every = figure.subplots(1, 3, squeeze=False)[0]
        panels = list(every) if len(matrices) == 3 else [every[1]]
        for panel in every:
            panel.set_visible(panel in panels)
        drawn = None
        for n, (panel, (title, matrix)) in enumerate(zip(panels, matrices, strict=True)):
            top = 1.0 if n < 2 else max(0.1, float(np.abs(matrix).max()))
            labels = names if n == 0 else []
            drawn = draw_matrix(panel, matrix, title, labels, top)
            if n != 0 or len(matrices) == 1:
                add_bar(figure, drawn, panel)

    return [Section(height + HEAD, draw)]
