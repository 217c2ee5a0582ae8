"""Grids of images."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from .files import Array, PathLike, Values, save_png
from .layout import Layout, arrange, layout_of
from .pixels import (
    WHOLE_RANGE,
    Intensity,
    intensity_note,
    shown_intensity,
    to_pixels,
)
from .text import draw_text

NARROWEST = 260  # pixels: the width of a picture that has a title or a caption


def grid(
    images: Values,
    columns: int | None = None,
    pad: int = 2,
    scale: int | None = None,
    levels: int | None = None,
    intensity: Intensity = WHOLE_RANGE,
) -> Array:
    """Draw a grid of images; `plotting.layout` gives the positions of the pixels.

    Args:
        images: (N, C, H, W) or (N, H, W), see `to_pixels`.
        columns: Images in a row; None chooses a grid a little wider than high.
        pad: Pixels between images.
        scale: Whole enlargement factor; None enlarges small images to 64 to 160 pixels.
        levels: Number of stored values of whole numbers.
        intensity: Intensities that are drawn black and white.

    Returns:
        uint8 (height, width, 1 or 3).

    Raises:
        InputError: For wrong shapes or values, see `to_pixels`.
    """
    pixels = to_pixels(images, levels, intensity)
    return arrange(pixels, layout_of(pixels, columns, pad, scale))


def stack(parts: list[Array]) -> Array:
    """Stack pictures (H, W, 1 or 3) from top to bottom: uint8 (height, width, 3).

    Narrow pictures are centred on white.
    """
    width = max(part.shape[1] for part in parts)
    out = []
    for part in parts:
        spare = width - part.shape[1]
        room = ((0, 0), (spare // 2, spare - spare // 2), (0, 0))
        whole = np.broadcast_to(part, (*part.shape[:2], 3))
        out.append(np.pad(whole, room, constant_values=255))
    return np.concatenate(out)


def framed(
    picture: Array, layout: Layout, title: str = "", caption: str = ""
) -> tuple[Array, Layout]:
    """Put a title above a grid and a caption below it; return both picture and new layout."""
    if not title and not caption:
        return picture, layout
    width = max(picture.shape[1], NARROWEST)
    above = [draw_text(title, width, 14, centre=True)] if title else []
    below = [draw_text(caption, width, 11, centre=True)] if caption else []
    top, left = sum(len(part) for part in above), (width - picture.shape[1]) // 2
    return stack([*above, picture, *below]), replace(layout, top=top, left=left)


def save_grid(
    path: PathLike,
    images: Values,
    columns: int | None = None,
    pad: int = 2,
    scale: int | None = None,
    title: str = "",
    caption: str = "",
    levels: int | None = None,
    intensity: Intensity | None = WHOLE_RANGE,
) -> Path:
    """Write a grid of images as a PNG that carries its layout.

    Args:
        path: A file name that ends in .png.
        images: (N, C, H, W) or (N, H, W), see `to_pixels`.
        columns: Images in a row; None chooses a grid a little wider than high.
        pad: Pixels between images.
        scale: Whole enlargement factor; None enlarges small images to 64 to 160 pixels.
        title: Shown above the grid.
        caption: Shown below the grid.
        levels: Number of stored values of whole numbers.
        intensity: Intensities that are drawn black and white. None stretches the contrast of dark
            or flat images (`shown_intensity`), and the caption states it.

    Returns:
        The path.

    Raises:
        InputError: For wrong shapes or values (see `to_pixels`), or another ending.
    """
    if intensity is None:
        intensity = shown_intensity(images, levels=levels)
    pixels = to_pixels(images, levels, intensity)
    layout = layout_of(pixels, columns, pad, scale)
    caption = " ".join(filter(None, [caption, intensity_note(intensity)]))
    picture, layout = framed(arrange(pixels, layout), layout, title, caption)
    return save_png(path, picture, {"layout": asdict(layout), "intensity": list(intensity)})
