"""Samples of any shape, each with the picture that fits its shape.

images   (N, C, H, W) in [0, 1]       a grid
points   (N, 2)                       a scatter over a density or reference points
tables   (N, d), (N,)                 a histogram a column
signals  (N, C, L)                    a line a channel
fields   (N, C, H, W) in any units    a grid coloured with viridis
volumes  (N, C, D, H, W)              three central slices a sample
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .fields import AXES, Plane, save_scatter
from .files import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Array,
    PathLike,
    Values,
    as_array,
    new_figure,
    save_figure,
    save_png,
)
from .images import arrange, coloured, framed, layout_of, save_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
) -> Path:
    """Write samples in data units as the picture that fits their shape (module docstring).

    Args:
        path: a file name; .png, or for points, tables and signals also .pdf or .svg.
        samples: (N, *event).
        image: whether values are intensities in [0, 1] or uint8.
        columns: images in a row of a grid.
        names: the names of a table's columns.
        reference: data of the same event, drawn behind points and tables.
        density: log density of points, (M, 2) -> (M,), drawn behind them.
        title: shown above the picture.

    Returns:
        The path.

    Raises:
        InputError: if no picture fits the shape, or if values or the ending are wrong.
    """
    x = as_array(samples, "samples")
    if x.size == 0:
        raise InputError(f"samples must not be empty; got shape {x.shape}")
    if image and x.ndim in (3, 4):
        return save_grid(path, x, columns, title=title)
    if x.ndim == 1:
        x = x[:, None]
    if names is not None and len(names) != x.shape[1]:
        raise InputError(f"names must be one a column, {x.shape[1]}; got {len(names)}")
    if x.ndim == 2 and x.shape[1] == 2:
        labels = AXES if names is None else names
        return save_scatter(path, x, density, reference, title, names=labels)
    if x.ndim == 2:
        return _save_histograms(path, x, names, reference, title)
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


def _panels(
    count: int, width: float, height: float, most_columns: int
) -> "tuple[Figure, list[Axes]]":
    """A figure with `count` axes of width x height inches."""
    across = count if count <= most_columns else min(most_columns, math.ceil(math.sqrt(count)))
    down = -(-count // across)
    figure = new_figure(max(4.0, width * across), height * down + 0.7)
    return figure, [figure.add_subplot(down, across, n + 1) for n in range(count)]


def _as_reference(reference: Values, columns: int) -> Array:
    other = as_array(reference, "reference")
    other = other[:, None] if other.ndim == 1 else other
    if other.ndim != 2 or other.shape[1] != columns or len(other) == 0:
        raise InputError(
            f"reference must have the samples' columns, (R, {columns}); got {other.shape}"
        )
    return other


def _draw_histogram(axes: "Axes", values: Array, reference: Array | None, name: str) -> None:
    both = values if reference is None else np.concatenate([values, reference])
    bins = max(10, min(50, round(2 * len(values) ** (1 / 3))))
    edges = np.histogram_bin_edges(both, bins=bins).tolist()
    if reference is not None:
        axes.hist(reference, edges, density=True, color="0.75", label="reference")
    axes.hist(values, edges, density=True, histtype="step", color=BLUE, lw=1.4, label="samples")
    label = name if both.min() < both.max() else f"{name}: constant, {both[0]:g}"
    axes.set_xlabel(label, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.locator_params(nbins=5)


def _save_histograms(
    path: PathLike,
    x: Array,
    names: Sequence[str] | None,
    reference: Values | None,
    title: str,
) -> Path:
    shown = min(MOST, x.shape[1])
    other = None if reference is None else _as_reference(reference, x.shape[1])
    figure, axes = _panels(shown, 2.5, 2.0, 4)
    for column, panel in enumerate(axes):
        name = f"column {column}" if names is None else names[column]
        _draw_histogram(panel, x[:, column], None if other is None else other[:, column], name)
    figure.supylabel("density (1 / data unit)", fontsize=9)
    figure.suptitle(title)
    rest = f", the first {shown} of {x.shape[1]} columns" if shown < x.shape[1] else ""
    caption = f"Histograms of {len(x):,} samples, data units{rest}."
    if other is not None:
        caption += f" Blue line: samples; grey: {len(other):,} reference rows."
    return save_figure(path, figure, caption)


def _save_signals(path: PathLike, x: Array, title: str) -> Path:
    shown = min(MOST, len(x))
    colours = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)
    channels = min(len(colours), x.shape[1])
    figure, axes = _panels(shown, 2.7, 1.7, 3)
    low, high = float(x[:shown, :channels].min()), float(x[:shown, :channels].max())
    margin = 0.05 * (high - low) or 0.5
    for n, panel in enumerate(axes):
        for channel in range(channels):
            panel.plot(x[n, channel], color=colours[channel], lw=1, label=f"channel {channel}")
        panel.set_ylim(low - margin, high + margin)
        panel.set_title(f"sample {n}", fontsize=8)
        panel.tick_params(labelsize=7)
    if channels > 1:
        axes[0].legend(fontsize=6)
    figure.suptitle(title)
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
    layout = layout_of(pixels, columns, 2, None, side=96)
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
