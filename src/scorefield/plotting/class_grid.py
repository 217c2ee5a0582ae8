"""The grid of classes: a row a class with its name, and groups of images side by side.

         group 1        group 2
name 1   [ ] [ ] [ ]    [ ] [ ] [ ]
name 2   [ ] [ ] [ ]    [ ] [ ] [ ]
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..values import texts
from .files import Array, PathLike, Values, save_png
from .images import NARROWEST, stack
from .layout import GAP, Layout, arrange, layout_of
from .pixels import intensity_note, shown_intensity, to_pixels
from .text import LINE, draw_text, shorten, text_width

WIDEST_NAME = 150  # pixels left of the grid: longer names are shortened
NAME_SIZES, HEAD_SIZE = (7, 14), 12  # pixels: fonts of the rows' names, and of the groups'


def save_class_grid(
    path: PathLike,
    groups: Mapping[str, Values],
    names: Sequence[str],
    pad: int = 2,
    scale: int | None = None,
    title: str = "",
    caption: str = "",
    levels: int | None = None,
) -> Path:
    """Write a row of images for each class as a PNG, with groups of images side by side.

    `read_layout(path).tile(pixels, k)` returns the pixels of one image; k counts row by row over
    all groups. The contrast of dark images is stretched, and the caption states it.

    Args:
        path: A file name that ends in .png.
        groups: From the group's caption, which is drawn above it, to its images (R K, C, H, W) or
            (R K, H, W), see `to_pixels`: K images of the first class, then of the second, ...
        names: The names of the R classes, drawn left of the rows.
        pad: Pixels between images.
        scale: Whole enlargement factor; None enlarges small images to 64 to 160 pixels.
        title: Shown above the grid.
        caption: Shown below the grid.
        levels: Number of stored values of whole numbers.

    Returns:
        The path.

    Raises:
        InputError: For wrong values (see `to_pixels`), groups of different shapes, a number of
            images that is no multiple of the number of names, or another ending.
    """
    names = texts(names, "names")
    intensity = shown_intensity(*groups.values(), levels=levels) if groups else (0.0, 1.0)
    pixels = [to_pixels(images, levels, intensity) for images in groups.values()]
    shapes = {group.shape for group in pixels}
    if len(shapes) != 1 or not names or len(pixels[0]) % len(names):
        found = ", ".join(str(group.shape[:3]) for group in pixels) or "no group"
        raise InputError(
            f"groups must be one or more of one shape, with the same number of images for each of "
            f"{len(names)} names; got (images, height, width) {found}"
        )
    count, *event = pixels[0].shape
    each = count // len(names)
    tiles = np.stack([group.reshape(len(names), each, *event) for group in pixels], axis=1)
    tiles = tiles.reshape(-1, *event)
    layout = layout_of(tiles, each * len(pixels), pad, scale)
    layout = replace(layout, group=each, gap=GAP)
    labels = _labels(names, layout)
    body = np.broadcast_to(arrange(tiles, layout), (*layout.size, 3))
    heads = _heads([*groups], layout, labels.shape[1])
    grid = np.concatenate([labels, body], axis=1)
    note = " ".join(filter(None, [caption, intensity_note(intensity)]))
    width = max(grid.shape[1], NARROWEST if title or note else 0)
    above = [*([draw_text(title, width, 14)] if title else []), heads]
    picture = stack([*above, grid, *([draw_text(note, width, 11)] if note else [])])
    layout = replace(
        layout,
        top=sum(len(part) for part in above),
        left=(width - grid.shape[1]) // 2 + labels.shape[1],
    )
    return save_png(path, picture, {"layout": asdict(layout), "rows": [*names]})


def _labels(names: Sequence[str], layout: Layout) -> Array:
    """The names beside the rows, at the middle of each: uint8 (height, width, 3)."""
    step = layout.height * layout.scale + layout.pad
    size = max(NAME_SIZES[0], min(NAME_SIZES[1], int(step / LINE)))
    longest = math.ceil(max(text_width(name, size) for name in names))
    width = min(longest + 12, WIDEST_NAME)
    out = np.full((layout.size[0], width, 3), 255, dtype=np.uint8)
    for row, name in enumerate(names):
        text = shorten(" ".join(name.split()), width - 6, size)
        label = draw_text(text, width, size, centre=True, margin=0)[:step]
        top = layout.pad // 2 + row * step + (step - len(label)) // 2
        out[top : top + len(label)] = label[: len(out) - top]
    return out


def _heads(captions: Sequence[str], layout: Layout, left: int) -> Array:
    """The captions above the groups, after `left` white pixels: uint8 (height, width, 3)."""
    assert layout.group is not None
    width = layout.size[1]
    inner = layout.group * (layout.width * layout.scale + layout.pad)
    drawn = [draw_text(text, inner, HEAD_SIZE, centre=True, margin=3) for text in captions]
    out = np.full((max(map(len, drawn)), left + width, 3), 255, dtype=np.uint8)
    for number, head in enumerate(drawn):
        start = left + number * (inner + layout.gap)
        out[-len(head) :, start : start + inner] = head
    return out
