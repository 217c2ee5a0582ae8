"""Images as pixels, and grids of images.

    pixel   p = floor(256 x) clipped to 0 ... 255; the inverse of (k + u) / 256 and of k / 255
    grid    image k stands in row k // columns and column k % columns; its pixel (i, j) is the
            scale x scale block whose first pixel is (y, x),
            y = top + pad + row (scale H + pad) + scale i
            x = left + pad + column (scale W + pad) + scale j

A saved grid carries its layout in a text chunk of the PNG, so that `read_layout(path).tile(pixels,
k)` returns the pixels of image k exactly.
"""

import json
import math
import textwrap
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from .. import units
from ..errors import InputError
from .files import Array, PathLike, Values, as_array, save_png

GUTTER = 205  # light grey: visible beside black and beside white images
LARGEST = 2400  # pixels: automatic enlargement keeps the sides of a picture below this


@dataclass(frozen=True)
class Layout:
    """Where the tiles of a picture are.

    Attributes:
        count: number of tiles.
        columns: tiles in a row.
        height: of one tile, in its own pixels.
        width: of one tile, in its own pixels.
        pad: pixels between tiles and around them.
        scale: whole enlargement factor.
        top: pixels above the grid (titles).
        left: pixels left of the grid.
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
        """Rows of the grid; the last one may be incomplete."""
        return -(-self.count // self.columns)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the grid without `top` and `left`."""
        down = self.height * self.scale + self.pad
        across = self.width * self.scale + self.pad
        return self.pad + self.rows * down, self.pad + self.columns * across

    def origin(self, k: int) -> tuple[int, int]:
        """Return (y, x), the first pixel of tile k in the picture."""
        if not 0 <= k < self.count:
            raise InputError(f"the picture has tiles 0 to {self.count - 1}; got {k}")
        row, column = divmod(k, self.columns)
        y = self.top + self.pad + row * (self.height * self.scale + self.pad)
        return y, self.left + self.pad + column * (self.width * self.scale + self.pad)

    def window(self, k: int) -> tuple[slice, slice]:
        """Return the rows and columns of the picture that tile k covers, enlarged."""
        y, x = self.origin(k)
        return slice(y, y + self.height * self.scale), slice(x, x + self.width * self.scale)

    def tile(self, picture: Array, k: int) -> Array:
        """Return tile k of a picture (H, W[, C]) in its own pixels."""
        return picture[self.window(k)][:: self.scale, :: self.scale]


def to_pixels(images: Values) -> Array:
    """Convert images to uint8 pixels with channels last.

    Args:
        images: (N, C, H, W) with C = 1 or 3, or (N, H, W). Floats become floor(256 x), clipped to
            0 ... 255; bools become 0 and 255; uint8 is returned as it is.

    Returns:
        uint8 (N, H, W, C).

    Raises:
        InputError: for other shapes, values that are not finite, and other whole numbers, whose
            range is unknown.
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
    return units.quantise(torch.from_numpy(array), 256).to(torch.uint8).numpy()


def layout_of(
    pixels: Array, columns: int | None, pad: int, scale: int | None, side: int = 56
) -> Layout:
    """Return the layout of a grid of uint8 (N, H, W, C).

    Without `columns` the grid is about square; without `scale` small images are enlarged to about
    `side` pixels.
    """
    count, height, width = pixels.shape[:3]
    for name, value in (("columns", columns), ("scale", scale)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be a whole number of at least 1; got {value}")
    if pad < 0:
        raise InputError(f"pad must not be negative; got {pad}")
    if columns is None:
        columns = max(1, round(math.sqrt(count * height / width)))
    else:
        columns = min(columns, count)
    if scale is None:
        most = LARGEST // max(columns * width, -(-count // columns) * height)
        scale = max(1, min(round(side / max(height, width)), most))
    return Layout(count, columns, height, width, pad, scale)


def enlarge(pixels: Array, scale: int) -> Array:
    """Make every pixel of (..., H, W, C) a scale x scale block."""
    return pixels.repeat(scale, axis=-3).repeat(scale, axis=-2)


def arrange(pixels: Array, layout: Layout) -> Array:
    """Draw uint8 (N, H, W, C) as the grid (height, width, C) without the layout's top and left."""
    layout = replace(layout, top=0, left=0)
    picture = np.full((*layout.size, pixels.shape[-1]), GUTTER, dtype=np.uint8)
    for k, image in enumerate(pixels):
        picture[layout.window(k)] = enlarge(image, layout.scale)
    return picture


def coloured(values: Array, low: float, high: float) -> Array:
    """Map numbers in [low, high] to viridis: uint8 (..., 3)."""
    from matplotlib import colormaps

    share = (values - low) / ((high - low) or 1.0)
    return (colormaps["viridis"](share)[..., :3] * 255).round().astype(np.uint8)


def grid(
    images: Values, columns: int | None = None, pad: int = 2, scale: int | None = None
) -> Array:
    """Draw a grid of images; the module docstring gives the pixel positions.

    Args:
        images: see `to_pixels`.
        columns: images in a row; by default the grid is about square.
        pad: pixels between images.
        scale: whole enlargement factor; by default small images become about 56 pixels wide.

    Returns:
        uint8 (height, width, 1 or 3).

    Raises:
        InputError: for wrong shapes or values, see `to_pixels`.
    """
    pixels = to_pixels(images)
    return arrange(pixels, layout_of(pixels, columns, pad, scale))


def draw_text(
    text: str, width: int, size: int = 13, centre: bool = False, margin: int = 4
) -> Array:
    """Draw dark text on white, wrapped to `width` pixels: uint8 (height, width, 3).

    The height depends on width, size and text alone.
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


def stack(parts: list[Array]) -> Array:
    """Stack pictures (H, W, 1 or 3) from top to bottom: uint8 (height, width, 3).

    Narrow pictures are left-aligned and padded with white.
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
    picture: Array, layout: Layout, title: str = "", caption: str = ""
) -> tuple[Array, Layout]:
    """Put a title above a grid and a caption below it; return both picture and new layout."""
    width = max(picture.shape[1], 320 if title or caption else 0)
    above = [draw_text(title, width, 14)] if title else []
    below = [draw_text(caption, width, 11)] if caption else []
    if not above and not below:
        return picture, layout
    top = sum(len(part) for part in above)
    return stack([*above, picture, *below]), replace(layout, top=top)


def save_grid(
    path: PathLike,
    images: Values,
    columns: int | None = None,
    pad: int = 2,
    scale: int | None = None,
    title: str = "",
    caption: str = "",
) -> Path:
    """Write a grid of images as a PNG that carries its layout.

    Args:
        path: a file name that ends in .png.
        images: see `to_pixels`.
        columns: images in a row; by default the grid is about square.
        pad: pixels between images.
        scale: whole enlargement factor; by default small images become about 56 pixels wide.
        title: shown above the grid.
        caption: shown below the grid.

    Returns:
        The path.

    Raises:
        InputError: for wrong shapes or values (see `to_pixels`), or another ending.
    """
    pixels = to_pixels(images)
    layout = layout_of(pixels, columns, pad, scale)
    picture, layout = framed(arrange(pixels, layout), layout, title, caption)
    return save_png(path, picture, {"layout": asdict(layout)})


def read_layout(path: PathLike) -> Layout:
    """Read the layout that a grid or sheet was saved with.

    Args:
        path: a PNG that `save_grid`, `save_samples` or `save_inpainting` wrote.

    Returns:
        The layout.

    Raises:
        InputError: if the PNG holds no layout.
    """
    from PIL import Image

    with Image.open(path) as image:
        text = image.info.get("layout")
    if text is None:
        raise InputError(
            f"{path} holds no layout: it was not written by save_grid or save_inpainting, or was "
            "saved again by another program"
        )
    return Layout(**json.loads(text))
