"""Shared by all pictures: input conversion, file endings, and figures without pyplot's state."""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..errors import InputError
from ..files import write_atomically
from ..tensors import to_array
from ..values import file_path
from .text import wrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, np.dtype[Any]]
Values = ArrayLike | Tensor | Sequence[Tensor]  # what the public functions accept as numbers
PathLike = str | os.PathLike[str]

FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
TITLE_SIZE, CAPTION_SIZE = 12, 8  # points
MARGIN = 12  # points left free at the two sides of titles and captions together


def as_array(values: Values, name: str) -> Array:
    """Convert a tensor on any device, an array, nested lists or generators to a numpy array.

    Args:
        values: Bools, whole numbers or floats; half precision becomes float32.
        name: The argument's name, for the error message.

    Returns:
        The values as an array of finite real numbers.

    Raises:
        InputError: If the values are not real numbers or not all finite.
    """
    if isinstance(values, Tensor) and values.dtype in (torch.bfloat16, torch.float16):
        values = values.detach().float()
    array: Array = to_array(values, name)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if not (array.flags.writeable and array.dtype.isnative):
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind not in "buif":
        raise InputError(f"{name} must be real numbers; got {array.dtype}")
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"{name} must be finite; got {int(bad.sum())} of {array.size} values that are not, "
            f"the first at index {first}"
        )
    return array


def as_points(values: Values, name: str) -> Array:
    """Convert points of the plane to float64 (N, 2), N >= 1; any other shape is an InputError."""
    array = as_array(values, name).astype(np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or len(array) == 0:
        raise InputError(f"{name} must have shape (N, 2) with N >= 1; got {array.shape}")
    return array


def check_suffix(path: PathLike, allowed: tuple[str, ...]) -> Path:
    """Return the path if its ending is allowed, else raise InputError."""
    path = file_path(path, "path")
    if path.suffix.lower() not in allowed:
        raise InputError(
            f"this picture is written as {' or '.join(allowed)}; got {path.name!r}. Change the "
            "ending"
        )
    return path


def save_png(path: PathLike, pixels: Array, facts: Mapping[str, Any] | None = None) -> Path:
    """Write uint8 pixels (H, W, 1 or 3) as a PNG; `facts` become JSON in its text chunks."""
    from PIL import Image, PngImagePlugin

    path = check_suffix(path, (".png",))
    info = PngImagePlugin.PngInfo()
    for key, value in (facts or {}).items():
        info.add_text(key, json.dumps(value))
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return write_atomically(path, lambda file: image.save(file, format="PNG", pnginfo=info))


def new_figure(width: float, height: float, title: str = "") -> "Figure":
    """Return an empty matplotlib figure with its own Agg canvas; pyplot is not used.

    Args:
        width: Inches.
        height: Inches, without the title.
        title: Shown above the figure; it is broken into lines that fit the width.

    Returns:
        The figure, whose layout keeps titles, axes and labels apart.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = wrap(title.replace("$", r"\$"), 72 * width - MARGIN, TITLE_SIZE)
    height += 0.22 * (1 + lines.count("\n")) if title else 0.0
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(lines, fontsize=TITLE_SIZE)
    return figure


def save_figure(path: PathLike, figure: "Figure", caption: str = "") -> Path:
    """Write the figure in the format that the ending names, with a caption below the axes."""
    path = check_suffix(path, FIGURE_SUFFIXES)
    if caption:
        lines = wrap(caption.replace("$", r"\$"), 72 * figure.get_figwidth() - MARGIN, CAPTION_SIZE)
        height = figure.get_figheight() + 0.15 * (1 + lines.count("\n"))
        figure.set_size_inches(figure.get_figwidth(), height)
        figure.supxlabel(lines, fontsize=CAPTION_SIZE, color="0.3")
    with warnings.catch_warnings():
        # Names in scripts that no installed font has are drawn as boxes.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font", module="")
        return write_atomically(
            path, lambda file: figure.savefig(file, format=path.suffix[1:].lower())
        )
