"""A folder of pictures: every PNG and JPEG below it, decoded to uint8 (N, C, H, W).

With a `size` each picture is scaled until it covers (H, W), and the centre is cut out. Without one
all pictures must have the same size. 16-bit greys are scaled to 8 bits; JPEGs are turned as their
EXIF says.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".png", ".jpg", ".jpeg"}
GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L"}
NAMED = 3  # how many offenders an error names


def list_images(folder: Path) -> list[Path]:
    """Every PNG and JPEG below `folder` but hidden ones, in the order of their paths.

    Raises:
        InputError: There is none.
    """
    found = [
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
    ]
    if not found:
        others = sorted({p.suffix.lower() or "no suffix" for p in folder.rglob("*") if p.is_file()})
        held = f"it holds files with {', '.join(others[:6])}" if others else "it is empty"
        raise InputError(f"{folder}: no PNG or JPEG in this folder or below it; {held}")
    return sorted(found, key=lambda p: p.relative_to(folder).as_posix())


def folder_labels(folder: Path, files: list[Path]) -> tuple[Tensor | None, list[str]]:
    """Labels and class names from the folders directly below `folder`.

    Returns:
        (None, []) unless every picture lies in one of at least two such folders.
    """
    tops = [p.relative_to(folder).parts for p in files]
    classes = sorted({parts[0] for parts in tops if len(parts) > 1})
    if len(classes) < 2 or any(len(parts) == 1 for parts in tops):
        return None, []
    return torch.tensor([classes.index(parts[0]) for parts in tops]), classes


def check_size(size: Any) -> tuple[int, int] | None:
    """(H, W) of a whole number or a pair; None for None.

    Raises:
        InputError: `size` is anything else.
    """
    if size is None:
        return None
    pair = (
        (size, size)
        if isinstance(size, int)
        else tuple(size)
        if isinstance(size, (tuple, list))
        else ()
    )
    if len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise InputError(
            "size must be a whole number above zero or a pair (height, width) of them; got "
            f"{size!r}"
        )
    return pair[0], pair[1]


def _fit(image: "Image", size: tuple[int, int]) -> "Image":
    """Scaled by one factor to cover (H, W), then cut to it around the centre."""
    from PIL.Image import Resampling

    height, width = size
    factor = max(height / image.height, width / image.width)
    scaled = (max(width, round(image.width * factor)), max(height, round(image.height * factor)))
    if scaled != image.size:
        image = image.resize(scaled, Resampling.LANCZOS)
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return image.crop((left, top, left + width, top + height))


def _decode(path: Path, channels: int, size: tuple[int, int] | None) -> np.ndarray:
    """One picture as uint8 (H, W, C)."""
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):  # 16-bit grey, which convert("L") would clip
            image = Image.fromarray(
                (np.asarray(image, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8)
            )
        image = image.convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(image if size is None else _fit(image, size))
    return pixels[:, :, None] if channels == 1 else pixels


def _is_grey(path: Path) -> bool:
    from PIL import Image

    with Image.open(path) as image:
        return image.mode in GREY


def read_images(files: list[Path], size: Any = None, channels: int | None = None) -> Tensor:
    """Decode pictures.

    Args:
        files: Paths of PNG or JPEG files.
        size: Height and width, or None for the pictures' own common size.
        channels: 1 (grey) or 3 (RGB); None is 1 where every file is grey, else 3.

    Returns:
        uint8 (N, C, H, W).

    Raises:
        InputError: Files are damaged (they are named), or sizes differ and `size` is None.
    """
    from PIL import Image, UnidentifiedImageError

    if channels not in (None, 1, 3):
        raise InputError(f"channels of pictures must be 1 (grey) or 3 (RGB); got {channels}")
    target = check_size(size)
    # What Pillow raises for a damaged file: SyntaxError comes from its PNG reader.
    damaged = (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        Image.DecompressionBombError,
    )
    bad: dict[Path, str] = {}
    if channels is None:
        channels = 1
        for path in files:
            try:
                if not _is_grey(path):
                    channels = 3
                    break
            except damaged:
                continue  # the file is read again below, and named
    out: Tensor | None = None
    first = files[0]
    for k, path in enumerate(files):
        try:
            pixels = _decode(path, channels, target)
        except damaged as error:
            bad[path] = str(error) or type(error).__name__
            continue
        shape = (channels, *pixels.shape[:2])
        if out is None:
            out, first = torch.empty(len(files), *shape, dtype=torch.uint8), path
        elif out.shape[1:] != shape:
            (h, w), (height, width) = out.shape[2:], shape[1:]
            sizes = f"{first} is {h} x {w}, {path} is {height} x {width} (height x width)"
            raise InputError(f"pictures of different sizes: {sizes}; give size=(height, width)")
        out[k] = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    if bad:
        named = "; ".join(f"{path} ({why})" for path, why in list(bad.items())[:NAMED])
        rest = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise InputError(
            f"{len(bad)} of {len(files)} pictures cannot be read: {named}{rest}. Mend or remove "
            "them"
        )
    assert out is not None
    return out
