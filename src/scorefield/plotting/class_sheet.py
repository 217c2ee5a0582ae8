"""A sheet of samples by class: a row for each class, groups of columns side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..values import mapping
from .files import Array, PathLike, Values, save_png
from .images import stack
from .layout import arrange, layout_of
from .pixels import to_pixels
from .text import draw_text, shorten, text_width

PAD = 4  # pixels between tiles
INK = 40  # grey of the line between groups
NAMES = (36, 160)  # pixels: least and largest width of the column of names
SIZE = 13  # of names and heads
LEAST_WIDTH = 420  # pixels of a sheet with its title and caption


def save_class_sheet(
    path: PathLike,
    groups: Mapping[str, Values],
    names: Sequence[str],
    title: str = "",
    caption: str = "",
) -> Path:
    """Write samples of several classes as a PNG whose tiles are numbered row by row.

    Args:
        path: A file name that ends in .png.
        groups: Name -> images (R, K, C, H, W) in [0, 1] or bytes: K of each of R classes. All
            groups have the same R, C, H, W; a dark line stands between them.
        names: The names of the R classes, left of the rows.
        title: Shown above the sheet.
        caption: Shown below it.

    Returns:
        The path.

    Raises:
        InputError: If shapes do not belong together, or the ending is wrong.
    """
    parts = {str(name): _tiles(images, name) for name, images in mapping(groups, "groups").items()}
    first = next(iter(parts.values()))
    same = {(part.shape[0], *part.shape[2:]) for part in parts.values()}
    if len(same) > 1 or len(names) != len(first):
        shapes = ", ".join(str(part.shape) for part in parts.values())
        raise InputError(
            f"groups need as many rows as names ({len(names)}), of images of one size; got {shapes}"
        )
    rows = np.concatenate(list(parts.values()), axis=1)
    columns = rows.shape[1]
    layout = layout_of(rows.reshape(-1, *rows.shape[2:]), columns, PAD, None)
    body = arrange(rows.reshape(-1, *rows.shape[2:]), layout)
    step = layout.width * layout.scale + PAD
    heads = np.full((26, body.shape[1], 3), 255, dtype=np.uint8)
    start = 0
    for name, part in parts.items():
        width = part.shape[1] * step
        label = draw_text(shorten(name, width - 4, SIZE), width, SIZE, centre=True, margin=2)
        left = start * step
        heads[-len(label) :, left : left + width] = label[-26:, : heads.shape[1] - left]
        if start:
            body[:, left : left + PAD] = INK
        start += part.shape[1]
    side = _names([str(name) for name in names], body.shape[0], layout.height * layout.scale)
    whole = np.concatenate([side, body], axis=1)
    heads = np.pad(heads, ((0, 0), (side.shape[1], 0), (0, 0)), constant_values=255)
    width = max(whole.shape[1], LEAST_WIDTH)
    above = [*([draw_text(title, width, 14)] if title else []), heads]
    below = [draw_text(caption, width, 11)] if caption else []
    picture = stack([*above, whole, *below])
    margin = (width - whole.shape[1]) // 2
    layout = replace(layout, top=sum(len(part) for part in above), left=margin + side.shape[1])
    return save_png(path, picture, {"layout": asdict(layout), "rows": [*map(str, names)]})


def _tiles(images: Values, name: str) -> Array:
    """Images as bytes, (R, K, H, W, 3)."""
    shape = tuple(np.shape(images))
    if len(shape) != 5 or 0 in shape:
        raise InputError(f"the group {name!r} needs images (R, K, C, H, W); got shape {shape}")
    flat = np.asarray(images).reshape(-1, *shape[2:])
    pixels = to_pixels(flat)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3))
    return pixels.reshape(*shape[:2], *pixels.shape[1:])


def _names(names: Sequence[str], height: int, tile: int) -> Array:
    """The column of names, uint8 (height, width, 3), each beside the middle of its row."""
    longest = max(text_width(name, SIZE) for name in names)
    width = int(min(max(longest + 12, NAMES[0]), NAMES[1]))
    out = np.full((height, width, 3), 255, dtype=np.uint8)
    for row, name in enumerate(names):
        label = draw_text(shorten(name, width - 8, SIZE), width, SIZE, centre=True, margin=1)
        middle = PAD + row * (tile + PAD) + tile // 2
        start = max(0, min(middle - len(label) // 2, height - len(label)))
        out[start : start + len(label)] = label
    return out
