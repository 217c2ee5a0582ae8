"""Samples of any shape, each with the picture that fits its shape.

images   (N, C, H, W) in [0, 1]       a grid
points   (N, 2)                       a scatter over a density or reference points
tables   (N, d), (N,)                 a page: distributions, pairs and correlations (`save_table`)
signals  (N, C, L)                    a line a channel
fields   (N, C, H, W) in any units    a grid coloured with viridis
volumes  (N, C, D, H, W)              three central slices a sample
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..values import flag, texts
from .fields import AXES, Plane, save_scatter
from .files import Array, PathLike, Values, as_array, new_figure, save_figure, save_png
from .images import framed, save_grid
from .layout import arrange, layout_of
from .palette import SERIES
from .pixels import coloured
from .tables import PARTS, save_table
from .ticks import round_numbers, set_ticks

MOST = 12  # panels of a figure


def save_samples(
    path: PathLike,
    samples: Values,
    image: bool,
    columns: int | None = None,
    names: Sequence[str] | None = None,
    reference: Values | None = None,
    density: Plane | None = None,
    title: str = "samples",
    parts: Sequence[str] = PARTS,
    levels: int | None = None,
) -> Path:
    """Write samples in data units as the picture that fits their shape (module docstring).

    Tables with dates or words go to `save_table`.

    Args:
        path: A file name; .png, or for points, tables and signals also .pdf or .svg.
        samples: (N, *event).
        image: Whether values are intensities in [0, 1] or stored whole numbers.
        columns: Images in a row of a grid.
        names: The names of a table's columns. A table of two columns is drawn as points where it
            has no names.
        reference: Data of the same event, drawn behind points and tables.
        density: Log density of points, (M, 2) -> (M,), drawn behind them.
        title: Shown above the picture.
        parts: What is drawn of a table, see `save_table`.
        levels: Number of stored values of images of whole numbers.

    Returns:
        The path.

    Raises:
        InputError: If no picture fits the shape, or if values or the ending are wrong.
    """
    x, image = as_array(samples, "samples"), flag(image, "image")
    names = None if names is None else texts(names, "names")
    if x.size == 0:
        raise InputError(f"samples must not be empty; got shape {x.shape}")
    if image and x.ndim in (3, 4):
        return save_grid(path, x, columns, title=title, levels=levels, intensity=None)
    if x.ndim == 1:
        x = x[:, None]
    if x.ndim == 2 and names is not None and len(names) != x.shape[1]:
        raise InputError(f"names must be one a column, {x.shape[1]}; got {len(names)}")
    if x.ndim == 2 and x.shape[1] == 2 and (names is None or density is not None):
        return save_scatter(path, x, density, reference, title, names=names or AXES)
    if x.ndim == 2:
        other = None if reference is None else _as_reference(reference, x.shape[1])
        return save_table(path, x, other, title=title, parts=parts, names=names)
    if x.ndim == 3:
        return _save_signals(path, x, title)
    if x.ndim == 4:
        note = "" if x.shape[1] == 1 else f"Channel 1 of {x.shape[1]}. "
        return _save_coloured(path, x[:, 0], columns, title, note)
    if x.ndim == 5:
        return _save_slices(path, x, title)
    raise InputError(
        f"no picture fits samples of shape {x.shape}; need (N, d), (N, C, L), (N, C, H, W) or (N, "
        "C, D, H, W)"
    )


def _as_reference(reference: Values, columns: int) -> Array:
    other = as_array(reference, "reference")
    other = other[:, None] if other.ndim == 1 else other
    if other.ndim != 2 or other.shape[1] != columns or len(other) == 0:
        raise InputError(
            f"reference must have the samples' columns, (R, {columns}); got {other.shape}"
        )
    return other


def _save_signals(path: PathLike, x: Array, title: str) -> Path:
    shown = min(MOST, len(x))
    channels = min(len(SERIES), x.shape[1])
    across = shown if shown <= 3 else min(3, math.ceil(math.sqrt(shown)))
    down = -(-shown // across)
    figure = new_figure(max(5.0, 2.9 * across), 1.6 * down + 0.4, title)
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    low, high = float(x[:shown, :channels].min()), float(x[:shown, :channels].max())
    margin = 0.05 * (high - low) or 0.5
    for n, panel in enumerate(panels):
        panel.set_visible(n < shown)
        for channel in range(channels if n < shown else 0):
            panel.plot(x[n, channel], color=SERIES[channel], lw=1, label=f"channel {channel}")
        panel.set_title(f"sample {n}", fontsize=8)
    panels[0].set_ylim(low - margin, high + margin)
    set_ticks(panels[0], "x", round_numbers(whole=True), 7.5)
    set_ticks(panels[0], "y", round_numbers(), 7.5)
    for panel in panels:
        panel.tick_params(labelsize=7.5)
    for n in range(max(0, shown - across), shown):
        panels[n].tick_params(labelbottom=True)  # also above a place without a panel
    if channels > 1:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    figure.supylabel("value (data units)", fontsize=9)
    parts = [
        f"Horizontal: position 0 to {x.shape[2] - 1}.",
        f"The first {shown} of {len(x):,} samples.",
    ]
    if channels < x.shape[1]:
        parts.append(f"The first {channels} of {x.shape[1]} channels.")
    return save_figure(path, figure, " ".join(parts))


def _save_coloured(
    path: PathLike,
    x: Array,
    columns: int | None,
    title: str,
    note: str,
    blank: Array | None = None,
) -> Path:
    """Fields (N, H, W) through viridis on one scale, as a PNG grid; white where `blank` holds."""
    inside = x if blank is None else x[~blank]
    low, high = float(inside.min()), float(inside.max())
    pixels = coloured(x, low, high)
    if blank is not None:
        pixels[blank] = 255
    layout = layout_of(pixels, columns, 2, None, side=112)
    caption = (
        f"{note}Colour, one scale for all: {low:.4g} (dark blue) to {high:.4g} (yellow), data "
        "units."
    )
    picture, layout = framed(arrange(pixels, layout), layout, title, caption)
    return save_png(path, picture, {"layout": asdict(layout)})


def _save_slices(path: PathLike, x: Array, title: str) -> Path:
    """Volumes (N, C, D, H, W): a row a sample, with the three central planes of channel 0.

    The planes have different sizes; white pads them to one size.
    """
    shown = min(8, len(x))
    volume = x[:shown, 0].astype(np.float64)
    depth, height, width = volume.shape[1:]
    tall, wide = max(depth, height), max(height, width)
    tiles = np.zeros((shown, 3, tall, wide))
    blank = np.ones(tiles.shape, dtype=bool)
    planes = (volume[:, depth // 2], volume[:, :, height // 2], volume[:, :, :, width // 2])
    for n, plane in enumerate(planes):
        tiles[:, n, : plane.shape[1], : plane.shape[2]] = plane
        blank[:, n, : plane.shape[1], : plane.shape[2]] = False
    channel = "" if x.shape[1] == 1 else f"channel 1 of {x.shape[1]}; "
    note = (
        f"A row a sample, the first {shown} of {len(x):,}; planes through the middle across axes "
        f"1, 2, 3; {channel}volume {depth} x {height} x {width}. "
    )
    flat = (-1, tall, wide)
    return _save_coloured(path, tiles.reshape(flat), 3, title, note, blank.reshape(flat))
