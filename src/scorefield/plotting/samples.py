"""Samples of any kind, each shown the way its shape asks for.

images   (N, C, H, W), [0, 1]     a grid                      points  (N, 2)             a scatter over density or reference
tables   (N, d), (N,)             a histogram a column        signals (N, C, L)          a line a channel
fields   (N, C, H, W), any units  a grid through viridis      volumes (N, C, D, H, W)    three central slices a sample
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .fields import AXES, save_scatter
from .files import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    as_array,
    new_figure,
    save_figure,
    save_png,
)
from .images import arrange, framed, layout_of, save_grid

MOST = 12  # panels of a figure


def save_samples(
    path: str | os.PathLike[str],
    samples: Any,
    image: bool,
    columns: int | None = None,
    names: Sequence[str] | None = None,
    reference: Any | None = None,
    density: Callable[[Any], Any] | None = None,
    title: str = "samples",
) -> Path:
    """Samples (N, *event) in data units as a picture chosen by their shape (module docstring).
    Returns the path.

    image: values are intensities in [0, 1] or uint8; columns: images a row of a grid; names: of the
    columns of a table; reference: data of
    the same event, drawn behind points and tables; density: log density behind points. Errors:
    shapes no picture fits, NaNs, endings.
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
        return save_scatter(
            path, x, density, reference, title, names=AXES if names is None else names
        )
    if x.ndim == 2:
        return _save_histograms(path, x, names, reference, title)
    if x.ndim == 3:
        return _save_signals(path, x, title)
    if x.ndim == 4:
        return _save_coloured(
            path, x[:, 0], columns, title, "" if x.shape[1] == 1 else f"Channel 1 of {x.shape[1]}. "
        )
    if x.ndim == 5:
        return _save_slices(path, x, title)
    raise InputError(
        f"no picture fits samples of shape {x.shape}; need (N, d), (N, C, L), (N, C, H, W) or (N, "
        "C, D, H, W)"
    )


def _panels(count: int, width: float, height: float, most_columns: int) -> tuple[Any, list[Any]]:
    across = count if count <= most_columns else min(most_columns, math.ceil(math.sqrt(count)))
    down = -(-count // across)
    figure = new_figure(max(4.0, width * across), height * down + 0.7)
    return figure, [figure.add_subplot(down, across, n + 1) for n in range(count)]


def _save_histograms(
    path: str | os.PathLike[str],
    x: np.ndarray,
    names: Sequence[str] | None,
    reference: Any | None,
    title: str,
) -> Path:
    shown = min(MOST, x.shape[1])
    other = None
    if reference is not None:
        other = as_array(reference, "reference")
        other = other[:, None] if other.ndim == 1 else other
        if other.ndim != 2 or other.shape[1] != x.shape[1] or len(other) == 0:
            raise InputError(
                f"reference must have the samples' columns, (R, {x.shape[1]}); got {other.shape}"
            )
    figure, axes = _panels(shown, 2.5, 2.0, 4)
    for column, panel in enumerate(axes):
        both = x[:, column] if other is None else np.concatenate([x[:, column], other[:, column]])
        edges = np.histogram_bin_edges(both, bins=max(10, min(50, round(2 * len(x) ** (1 / 3)))))
        if other is not None:
            panel.hist(other[:, column], edges, density=True, color="0.75", label="reference")
        panel.hist(
            x[:, column], edges, density=True, histtype="step", color=BLUE, lw=1.4, label="samples"
        )
        name = f"column {column}" if names is None else names[column]
        panel.set_xlabel(
            name if both.min() < both.max() else f"{name}: constant, {both[0]:g}", fontsize=8
        )
        panel.tick_params(labelsize=7)
        panel.locator_params(nbins=5)
    figure.supylabel("density (1 / data unit)", fontsize=9)
    figure.suptitle(title)
    caption = f"Histograms of {len(x):,} samples, data units" + (
        f", the first {shown} of {x.shape[1]} columns." if shown < x.shape[1] else "."
    )
    if other is not None:
        caption += f" Blue line: samples; grey: {len(other):,} reference rows."
    return save_figure(path, figure, caption)


def _save_signals(path: str | os.PathLike[str], x: np.ndarray, title: str) -> Path:
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
    path: str | os.PathLike[str],
    x: np.ndarray,
    columns: int | None,
    title: str,
    note: str,
    blank: np.ndarray | None = None,
) -> Path:
    """Fields (N, H, W) through viridis on one scale, as a PNG grid; white where `blank` holds."""
    from matplotlib import colormaps

    inside = x if blank is None else x[~blank]
    low, high = float(inside.min()), float(inside.max())
    pixels = (
        (colormaps["viridis"]((x - low) / ((high - low) or 1.0))[..., :3] * 255)
        .round()
        .astype(np.uint8)
    )
    if blank is not None:
        pixels[blank] = 255
    layout = layout_of(pixels, columns, 2, None, side=96)
    picture, layout = framed(
        arrange(pixels, layout),
        layout,
        title,
        f"{note}Colour, one scale for all: {low:.4g} (dark blue) to {high:.4g} (yellow), data "
        "units.",
    )
    return save_png(path, picture, {"layout": asdict(layout)})


def _save_slices(path: str | os.PathLike[str], x: np.ndarray, title: str) -> Path:
    """Volumes (N, C, D, H, W): the planes through the middle across D, H and W of channel 0, a row
    a sample, padded to one size.
    """
    shown = min(8, len(x))
    volume = x[:shown, 0].astype(np.float64)
    depth, height, width = volume.shape[1:]
    tall, wide = max(depth, height), max(height, width)
    tiles = np.zeros((shown, 3, tall, wide))
    blank = np.ones(tiles.shape, dtype=bool)
    for n, plane in enumerate(
        (volume[:, depth // 2], volume[:, :, height // 2], volume[:, :, :, width // 2])
    ):
        tiles[:, n, : plane.shape[1], : plane.shape[2]] = plane
        blank[:, n, : plane.shape[1], : plane.shape[2]] = False
    note = f"A row a sample, the first {shown} of {len(x):,}; planes through the middle across axes 1, 2, 3"
    note += (
        "; "
        + ("" if x.shape[1] == 1 else f"channel 1 of {x.shape[1]}; ")
        + f"volume {depth} x {height} x {width}. "
    )
    return _save_coloured(
        path, tiles.reshape(-1, tall, wide), 3, title, note, blank.reshape(-1, tall, wide)
    )
