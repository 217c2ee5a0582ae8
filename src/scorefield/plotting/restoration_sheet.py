"""Restored signals: truth, observation, draws, their mean and a band, a panel a signal."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..tensors import to_array
from .files import Array, PathLike, Values, as_array, new_figure, save_figure
from .palette import BLACK, BLUE, GREY, VERMILLION
from .ticks import round_numbers, set_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 8
MOST_DRAWS = 4  # lines of draws in a panel


def _signals(values: Values, name: str, count: int, channels: int) -> Array:
    """Values (K, length) or (K, channels, length) as float64 (K, channels, length)."""
    # NaN marks what was not observed.
    array = to_array(values, name) if name == "observed" else as_array(values, name)
    if array.ndim == 2:
        array = array[:, None]
    if array.ndim != 3 or array.shape[:2] != (count, channels):
        raise InputError(
            f"{name} must hold {count} signals of {channels} channels, (K, channels, length); got "
            f"{array.shape}"
        )
    return array.astype(np.float64)


def _places(length: int, whole: int) -> Array:
    """Where the elements of a signal lie on the grid of one of `whole` elements."""
    return (np.arange(length) + 0.5) * whole / length - 0.5


def save_signals(
    path: PathLike,
    truth: Values | None,
    observed: Values | None,
    draws: Values,
    mean: Values,
    band: tuple[Values, Values],
    title: str = "",
) -> Path:
    """Write restored signals, a panel for each channel of each input, at most MOST_PANELS.

    Args:
        path: A file name that ends in .png, .pdf or .svg.
        truth: (K, *event), or None.
        observed: (K, *event), NaN where an element was not observed; or of another length, whose
            elements are evenly spaced. None where the measurement is no signal.
        draws: (K, D, *event); an event is (length,) or (channels, length).
        mean: (K, *event).
        band: Two arrays like the mean, between which 90 % of the draws lie.
        title: Shown above.

    Returns:
        The path.

    Raises:
        InputError: Shapes do not belong together, or the ending is wrong.
    """
    every = as_array(draws, "draws").astype(np.float64)
    if every.ndim not in (3, 4) or every.size == 0:
        raise InputError(
            "draws must have shape (K, D, length) or (K, D, channels, length), and not be empty; "
            f"got {every.shape}"
        )
    every = every[:, :, None] if every.ndim == 3 else every
    count, channels = every.shape[0], every.shape[2]
    parts = {"truth": truth, "observed": observed, "mean": mean, "low": band[0], "high": band[1]}
    lines = {
        name: _signals(value, name, count, channels)
        for name, value in parts.items()
        if value is not None
    }
    panels = [(k, c) for k in range(count) for c in range(channels)][:MOST_PANELS]
    columns = 1 if len(panels) == 1 else 2
    rows = -(-len(panels) // columns)
    figure = new_figure(4.6 * columns, 1.7 * rows + 0.5, title)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for (k, c), axes in zip(panels, grid.flat, strict=False):
        _draw(axes, {name: value[k, c] for name, value in lines.items()}, every[k, :, c])
        axes.set_title(f"input {k}" + (f", channel {c}" if channels > 1 else ""), fontsize=8)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_axis_off()
    set_ticks(grid.flat[0], "x", round_numbers(whole=True), 7.5)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    figure.supylabel("value (data units)", fontsize=9)
    shown = (
        f"The first {len(panels)} of {count * channels} signals. " if len(panels) < count else ""
    )
    note = f"{shown}Grey: 90 % of the draws lie within. Horizontal: position."
    return save_figure(path, figure, note)


def _draw(axes: "Axes", lines: dict[str, Array], draws: Array) -> None:
    """One panel."""
    length = draws.shape[-1]
    x = np.arange(length)
    axes.fill_between(x, lines["low"], lines["high"], color=GREY, lw=0, label="5 % to 95 %")
    for d, draw in enumerate(draws[:MOST_DRAWS]):
        axes.plot(x, draw, color=BLUE, lw=0.6, alpha=0.6, label="draws" if d == 0 else None)
    axes.plot(x, lines["mean"], color=BLUE, lw=1.8, label="mean")
    if "truth" in lines:
        axes.plot(x, lines["truth"], color=BLACK, lw=1.0, ls="--", label="truth")
    if "observed" in lines:
        seen = lines["observed"]
        place = _places(len(seen), length)
        axes.plot(place, seen, ".", color=VERMILLION, ms=3.5, label="observed")
    set_ticks(axes, "y", round_numbers(), 7.5)
    axes.tick_params(labelsize=7.5)
