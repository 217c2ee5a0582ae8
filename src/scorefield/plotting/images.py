"""Images as pixels, and grids of them.

    pixel         p = round(255 clip(x, 0, 1)), halves to even, as units.Units.to_uint8 does it
    grid          image k stands in row k // columns, column k % columns; its pixel (i, j) is the scale x scale block whose first pixel is
                  (top + pad + row (scale H + pad) + scale i,  left + pad + column (scale W + pad) +
                  scale j)

Saved grids carry their layout in a text chunk of the PNG, so that `read_layout(path).tile(pixels,
k)` gives back the very pixels.
"""

import json
import math
import os
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .files import as_array, save_png

GUTTER = 205  # light grey: seen beside black and beside white images
LARGEST = 2400  # pixels: automatic enlargement keeps a picture's sides below


@dataclass(frozen=True)
class Layout:
    """Where tiles stand in a picture. height, width: of one tile in its own pixels; top, left: what
    precedes the grid (titles).
    """

    count: int
    columns: int
    height: int
    width: int
    pad: int
    scale: int
    top: int = 0
    left: int = 0

    @property
    def rows(self) -> int:
        """Rows of the grid; the last may be incomplete."""
        return -(-self.count // self.columns)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the grid without top and left."""
        return self.pad + self.rows * (
            self.height * self.scale + self.pad
        ), self.pad + self.columns * (self.width * self.scale + self.pad)

    def origin(self, k: int) -> tuple[int, int]:
        """The picture's (y, x) of the first pixel of tile k."""
        if not 0 <= k < self.count:
            raise InputError(f"the picture has tiles 0 to {self.count - 1}; got {k}")
        row, column = divmod(k, self.columns)
        y = self.top + self.pad + row * (self.height * self.scale + self.pad)
        return y, self.left + self.pad + column * (self.width * self.scale + self.pad)

    def window(self, k: int) -> tuple[slice, slice]:
        """Tile k's rows and columns of the picture, enlarged as it stands there."""
        y, x = self.origin(k)
        return slice(y, y + self.height * self.scale), slice(x, x + self.width * self.scale)

    def tile(self, picture: np.ndarray, k: int) -> np.ndarray:
        """Tile k of a picture (H, W[, C]) in its own pixels."""
        return picture[self.window(k)][:: self.scale, :: self.scale]


def to_pixels(images: Any) -> np.ndarray:
    """Images (N, C, H, W), C 1 or 3, or (N, H, W), as uint8 (N, H, W, C).

    Floats are clipped to [0, 1], multiplied by 255 and rounded; bools become 0 and 255; uint8 is
    taken as it is. Other whole numbers (0 to
    1? to 255?), other shapes and NaNs are InputErrors.
    """
    array = as_array(images, "images")
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or array.shape[1] not in (1, 3) or array.size == 0:
        raise InputError(
            "images must have shape (N, C, H, W) with C = 1 or 3, or (N, H, W), and not be "
            f"empty; got {np.shape(images)}"
        )
    array = array.transpose(0, 2, 3, 1)
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind != "f":
        raise InputError(
            f"images must be floats in [0, 1] or uint8; got {array.dtype}. Divide by the largest "
            "value, or cast to uint8"
        )
    return np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)


def layout_of(
    pixels: np.ndarray, columns: int | None, pad: int, scale: int | None, side: int = 56
) -> Layout:
    """The grid of uint8 (N, H, W, C): as square as it gets, and small images enlarged to about
    `side` pixels, where nothing is told.
    """
    count, height, width = pixels.shape[:3]
    for name, value in (("columns", columns), ("scale", scale)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be a whole number of at least 1; got {value}")
    if pad < 0:
        raise InputError(f"pad must not be negative; got {pad}")
    columns = (
        min(columns, count)
        if columns is not None
        else max(1, round(math.sqrt(count * height / width)))
    )
    if scale is None:
        most = LARGEST // max(columns * width, -(-count // columns) * height)
        scale = max(1, min(round(side / max(height, width)), most))
    return Layout(count, columns, height, width, pad, scale)


def enlarge(pixels: np.ndarray, scale: int) -> np.ndarray:
    """Every pixel of (..., H, W, C) as a scale x scale block."""
    return pixels.repeat(scale, axis=-3).repeat(scale, axis=-2)


def arrange(pixels: np.ndarray, layout: Layout) -> np.ndarray:
    """uint8 (N, H, W, C) -> the grid (height, width, C), gutters light grey. The layout's top and
    left stay out.
    """
    picture = np.full((*layout.size, pixels.shape[-1]), GUTTER, dtype=np.uint8)
    for k, image in enumerate(pixels):
        rows, cols = layout.window(k)
        picture[
            rows.start - layout.top : rows.stop - layout.top,
            cols.start - layout.left : cols.stop - layout.left,
        ] = enlarge(image, layout.scale)
    return picture


def grid(
    images: Any, columns: int | None = None, pad: int = 2, scale: int | None = None
) -> np.ndarray:
    """A grid of images (see `to_pixels` for shapes) as uint8 (height, width, 1 or 3).

    columns: images a row, by default as many as make the grid square; pad: gutter in pixels of the
    picture; scale: whole enlargement factor
    (nearest), by default such that an image is about 56 pixels wide, and 1 for larger ones. Pixel
    positions: the module's docstring.
    """
    pixels = to_pixels(images)
    return arrange(pixels, layout_of(pixels, columns, pad, scale))


def draw_text(
    text: str, width: int, size: int = 13, centre: bool = False, margin: int = 4
) -> np.ndarray:
    """Dark text on white, wrapped to `width` pixels: uint8 (height, width, 3). The height depends
    on width, size and text alone.
    """
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    # matplotlib's own font: present wherever matplotlib is, and it has the Greek letters.
    font = ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
    room = max(1, width - 2 * margin)
    fitting = max(4, int(room / font.getlength("abcdefghij 0123456789") * 21))
    lines = [
        line for paragraph in text.split("\n") for line in textwrap.wrap(paragraph, fitting) or [""]
    ]
    pitch = round(size * 1.35)
    canvas = Image.new("RGB", (width, pitch * len(lines) + 2 * margin), "white")
    pen = ImageDraw.Draw(canvas)
    for n, line in enumerate(lines):
        x = (width - font.getlength(line)) / 2 if centre else margin
        pen.text((x, margin + n * pitch), line, fill=(30, 30, 30), font=font)
    return np.asarray(canvas)


def stack(parts: list[np.ndarray]) -> np.ndarray:
    """Pictures (H, W, 1 or 3) on top of each other, left-aligned, white where one is narrower:
    uint8 (height, width, 3).
    """
    width = max(part.shape[1] for part in parts)
    out = [
        np.pad(
            np.broadcast_to(p, (*p.shape[:2], 3)),
            ((0, 0), (0, width - p.shape[1]), (0, 0)),
            constant_values=255,
        )
        for p in parts
    ]
    return np.concatenate(out)


def framed(
    picture: np.ndarray, layout: Layout, title: str = "", caption: str = ""
) -> tuple[np.ndarray, Layout]:
    """A grid with a title above and a caption below, and the layout as it is then."""
    width = max(picture.shape[1], 320 if title or caption else 0)
    above = [draw_text(title, width, 14)] if title else []
    below = [draw_text(caption, width, 11)] if caption else []
    if not above and not below:
        return picture, layout
    return stack([*above, picture, *below]), Layout(
        **{**asdict(layout), "top": sum(len(part) for part in above)}
    )


def save_grid(
    path: str | os.PathLike[str],
    images: Any,
    columns: int | None = None,
    pad: int = 2,
    scale: int | None = None,
    title: str = "",
    caption: str = "",
) -> Path:
    """`grid` as a PNG, with an optional title above and caption below. Returns the path. Errors:
    `to_pixels`, or an ending other than
    .png."""
    pixels = to_pixels(images)
    layout = layout_of(pixels, columns, pad, scale)
    picture, layout = framed(arrange(pixels, layout), layout, title, caption)
    return save_png(path, picture, {"layout": asdict(layout)})


def read_layout(path: str | os.PathLike[str]) -> Layout:
    """The layout a grid or sheet was saved with; an InputError where the PNG holds none."""
    from PIL import Image

    with Image.open(path) as image:
        text = image.info.get("layout")
    if text is None:
        raise InputError(
            f"{path} holds no layout: it was not written by save_grid or save_inpainting, or was "
            "saved again by another program"
        )
    return Layout(**json.loads(text))
