"""What all pictures share: arrays from anything array-like, atomic writing, and figures without
global state.
"""

import json
import os
import secrets
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from ..errors import InputError

# Okabe & Ito 2008: distinguishable with any form of colour blindness.
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
)
FIGURE_SUFFIXES = (".png", ".pdf", ".svg")


def as_array(values: Any, what: str) -> np.ndarray:
    """A tensor (any device), array or nested list as a numpy array of bools, whole numbers or
    floats, all of them finite.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        if values.dtype in (torch.bfloat16, torch.float16):
            values = values.float()
        array = values.numpy()
    else:
        array = np.asarray(values)
        if array.dtype == np.float16:
            array = array.astype(np.float32)
    if array.dtype.kind not in "buif":
        raise InputError(f"{what} must be real numbers; got {array.dtype}")
    bad = ~np.isfinite(array)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"{what} must be finite; got {int(bad.sum())} of {array.size} values that are not, "
            f"the first at index {first}"
        )
    return array


def as_points(values: Any, what: str) -> np.ndarray:
    """Points of the plane as float64 (N, 2), N >= 1."""
    array = as_array(values, what).astype(np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or len(array) == 0:
        raise InputError(f"{what} must have shape (N, 2) with N >= 1; got {array.shape}")
    return array


def check_suffix(path: str | os.PathLike[str], allowed: tuple[str, ...]) -> Path:
    """The path, if its ending is allowed."""
    path = Path(path)
    if path.suffix.lower() not in allowed:
        raise InputError(
            f"this picture is written as {' or '.join(allowed)}; got {path.name!r}. Change the "
            "ending"
        )
    return path


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> Path:
    """Let `write` fill a temporary file beside `path`, then rename it. If `write` raises, `path` is
    as it was and nothing is left
    behind."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; a picture needs a file name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"{path.parent} cannot be a folder: a file is in its way. Choose another name"
        ) from error
    # Not tempfile.mkstemp: its files are readable by their owner alone, and the rename would keep
    # that.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def save_png(
    path: str | os.PathLike[str], pixels: np.ndarray, facts: Mapping[str, Any] | None = None
) -> Path:
    """uint8 (H, W, 1 or 3) as a PNG; `facts` go into its text chunks as JSON."""
    from PIL import Image, PngImagePlugin

    path = check_suffix(path, (".png",))
    info = PngImagePlugin.PngInfo()
    for key, value in (facts or {}).items():
        info.add_text(key, json.dumps(value))
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return write_atomically(path, lambda file: image.save(file, format="PNG", pnginfo=info))


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib Figure (inches) on its own Agg canvas: pyplot and its global state stay
    untouched.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(path: str | os.PathLike[str], figure: Any, caption: str = "") -> Path:
    """Write the figure in the format its ending names, with a caption below the axes."""
    path = check_suffix(path, FIGURE_SUFFIXES)
    if caption:
        characters = int(figure.get_figwidth() * 15.5)  # of 8-point type in the figure's width
        figure.supxlabel(textwrap.fill(caption, characters), fontsize=8, color="0.3")
    return write_atomically(path, lambda file: figure.savefig(file, format=path.suffix[1:].lower()))
