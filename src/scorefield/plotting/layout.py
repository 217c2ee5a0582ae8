"""Where the tiles of a picture are.

    image k stands in row k // columns and column k % columns; its pixel (i, j) is the
    scale x scale block whose first pixel is (y, x),

    y = top + pad + row (scale H + pad) + scale i
    x = left + pad + column (scale W + pad) + scale j + gap (column // group)

where `group` columns stand together and a white gap separates two groups, if there are any.

A saved grid carries its layout in a text chunk of the PNG, so that `read_layout(path).tile(pixels,
k)` returns the pixels of image k exactly.
"""

import json
import math
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from ..values import whole
from .files import Array, PathLike

GUTTER = 205  # light grey: visible beside black and beside white images
GAP = 14  # pixels: between two groups of columns
LARGEST = 2400  # pixels: automatic enlargement keeps the sides of a picture below this
PAGE = 960  # pixels: the usual width of a grid
SIDES = (64, 160)  # pixels: the usual sides of an enlarged tile, many tiles and few


@dataclass(frozen=True)
class Layout:
    """Where the tiles of a picture are.

    Attributes:
        count: Number of tiles.
        columns: Tiles in a row.
        height: Height of one tile, in its own pixels.
        width: Width of one tile, in its own pixels.
        pad: Pixels between tiles and around them.
        scale: Whole enlargement factor.
        top: Pixels above the grid (titles).
        left: Pixels left of the grid.
        group: Columns that stand together; None: all.
        gap: Pixels between two groups of columns.
    """

    count: int
    columns: int
    height: int
    width: int
    pad: int
    scale: int
    top: int = 0
    left: int = 0
    group: int | None = None
    gap: int = 0

    def gaps(self, column: int) -> int:
        """Pixels of the gaps left of a column."""
        return 0 if self.group is None else column // self.group * self.gap

    @property
    def rows(self) -> int:
        """Rows of the grid; the last one may be incomplete."""
        return -(-self.count // self.columns)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the grid without `top` and `left`."""
        down = self.height * self.scale + self.pad
        across = self.width * self.scale + self.pad
        gaps = self.gaps(self.columns - 1)
        return self.pad + self.rows * down, self.pad + self.columns * across + gaps

    def origin(self, k: int) -> tuple[int, int]:
        """Return (y, x), the first pixel of tile k in the picture."""
        if not 0 <= k < self.count:
            raise InputError(f"the picture has tiles 0 to {self.count - 1}; got {k}")
        row, column = divmod(k, self.columns)
        y = self.top + self.pad + row * (self.height * self.scale + self.pad)
        x = self.left + self.pad + column * (self.width * self.scale + self.pad)
        return y, x + self.gaps(column)

    def window(self, k: int) -> tuple[slice, slice]:
        """Return the rows and columns of the picture that tile k covers, enlarged."""
        y, x = self.origin(k)
        return slice(y, y + self.height * self.scale), slice(x, x + self.width * self.scale)

    def tile(self, picture: Array, k: int) -> Array:
        """Return tile k of a picture (H, W[, C]) in its own pixels."""
        return picture[self.window(k)][:: self.scale, :: self.scale]


def _default_columns(count: int, height: int, width: int) -> int:
    """Columns of a grid that is a little wider than high and has few empty cells."""

    def cost(columns: int) -> float:
        rows = -(-count // columns)
        shape = abs(math.log(columns * width / (rows * height) / 1.3))
        return shape + 4 * (1 - count / (rows * columns))

    return min(range(1, count + 1), key=cost)


def layout_of(
    pixels: Array, columns: int | None, pad: int, scale: int | None, side: int | None = None
) -> Layout:
    """Return the layout of a grid.

    Args:
        pixels: uint8 (N, H, W, C).
        columns: Tiles in a row; None chooses a grid a little wider than high.
        pad: Pixels between tiles.
        scale: Whole enlargement factor; None enlarges small tiles to about `side` pixels.
        side: Usual side of an enlarged tile in pixels; None chooses it by the number of columns.

    Returns:
        The layout.

    Raises:
        InputError: If columns or scale are below 1, or pad is negative.
    """
    count, height, width = pixels.shape[:3]
    columns = None if columns is None else whole(columns, "columns", 1)
    scale = None if scale is None else whole(scale, "scale", 1)
    pad = whole(pad, "pad", 0)
    columns = _default_columns(count, height, width) if columns is None else min(columns, count)
    if scale is None:
        if side is None:
            side = min(max(PAGE // columns, SIDES[0]), SIDES[1])
        most = LARGEST // max(columns * width, -(-count // columns) * height)
        scale = max(1, min(round(side / max(height, width)), most))
    return Layout(count, columns, height, width, pad, scale)


def enlarge(pixels: Array, scale: int) -> Array:
    """Make every pixel of (..., H, W, C) a scale x scale block."""
    return pixels.repeat(scale, axis=-3).repeat(scale, axis=-2)


def arrange(pixels: Array, layout: Layout) -> Array:
    """Draw uint8 (N, H, W, C) as the grid (height, width, C) without the layout's top and left.

    Between the tiles and around them the grid is grey; between groups of columns, and where the
    last row has no tile, it is white.
    """
    layout = replace(layout, top=0, left=0)
    picture = np.full((*layout.size, pixels.shape[-1]), GUTTER, dtype=np.uint8)
    for k, image in enumerate(pixels):
        picture[layout.window(k)] = enlarge(image, layout.scale)
    for column in range(layout.group or layout.columns, layout.columns, layout.group or 1):
        end = layout.origin(column)[1] - layout.pad
        picture[:, end - layout.gap + layout.pad : end] = 255
    if layout.count % layout.columns:
        y, x = layout.origin(layout.count - 1)
        picture[y:, x + layout.width * layout.scale + layout.pad :] = 255
    return picture


def read_layout(path: PathLike) -> Layout:
    """Read the layout that a grid or sheet was saved with.

    Args:
        path: A PNG that `save_grid`, `save_class_grid`, `save_samples` or `save_inpainting` wrote.

    Returns:
        The layout.

    Raises:
        InputError: If the PNG holds no layout.
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
