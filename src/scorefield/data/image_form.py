"""`ImageForm`: pictures in their depth and format, from pixels to data units and back."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from ..conditions import Condition
from ..errors import InputError
from ..files import write_atomically
from .array_form import ArrayForm
from .form import register

SUFFIX = {"jpeg": "jpg", "pnm": "pgm"}  # of files, where it is not the format's name
NUMBERED = re.compile(r"\d{6,}\.(png|tiff|bmp|webp|jpg|pgm|ppm|tga)")  # what `write` makes
# Formats that keep every pixel, by what they can hold.
DEEP = ("png", "tiff", "pnm")
CHANNELS = {
    "png": (0, 2, 3, 4),
    "tiff": (0, 2, 3, 4),
    "bmp": (0, 3),
    "webp": (0, 3, 4),
    "jpeg": (0, 3),
    "pnm": (0, 3),
    "tga": (0, 3, 4),
}


OPTIONS: dict[str, dict[str, Any]] = {
    "webp": {"lossless": True, "exact": True},
    "jpeg": {"quality": 95, "subsampling": 0},
}


@register
@dataclass(frozen=True)
class ImageForm(ArrayForm):
    """How pictures map to data units: an `ArrayForm` of (N, H, W) or (N, H, W, C).

    Attributes:
        format: The format of most files of the source, "png", "jpeg" and so on.
    """

    kind: ClassVar[str] = "image"
    formats: ClassVar[tuple[str, ...]] = (*CHANNELS, "npy", "npz")

    format: str = "png"

    def default_format(self) -> str:
        """The source's format where it keeps every pixel, else PNG or TIFF."""
        own = self.format
        lossless = own in CHANNELS and own != "jpeg" and not self._loss(own)
        return own if lossless else "tiff" if self._loss("png") else "png"

    def _loss(self, format: str) -> str:
        """What a format would lose of these pictures, in words; "" for nothing."""
        bands = 0 if self.insert else self.event_shape[0]
        if bands not in CHANNELS[format]:
            return f"{bands} channels" if bands else "grey pictures"
        kind = np.dtype(self.dtype)
        if kind.kind == "f" or kind.itemsize > 2:
            return "" if format == "tiff" else f"{self.dtype} values"
        if kind == np.uint16 and (format not in DEEP or bands):
            return "16 bits"
        return ""

    def check_format(self, format: str) -> None:
        super().check_format(format)
        lost = self._loss(format) if format in CHANNELS else ""
        if lost:
            raise InputError(
                f"{format} would lose {lost} of these pictures; use {self.default_format()}, npy "
                "or npz"
            )

    def write(
        self,
        stem: Path,
        x: Tensor,
        format: str | None = None,
        condition: Condition | None = None,
    ) -> list[Path]:
        """Write examples as a folder of pictures, or as one array.

        Args:
            stem: The folder; for arrays the path without a suffix.
            x: (N, *event) in data units.
            format: One of `formats`; None: the source's own where it keeps every pixel, else PNG.
            condition: What the examples were drawn with; an .npz holds it too.

        Returns:
            The folder, or the array's file.

        Raises:
            InputError: The format is unknown, or would lose depth or channels.
        """
        chosen = format or self.default_format()
        self.check_format(chosen)
        if chosen in ("npy", "npz"):
            return super().write(stem, x, chosen, condition)
        pixels = self.decode(x)
        digits = max(6, len(str(len(pixels) - 1)))
        suffix = "ppm" if chosen == "pnm" and not self.insert else SUFFIX.get(chosen, chosen)
        remove_numbered(stem)
        for k, picture in enumerate(pixels):
            save_picture(stem / f"{k:0{digits}d}.{suffix}", picture, chosen)
        return [stem]


def remove_numbered(folder: Path) -> None:
    """Remove the pictures of an earlier `write` from a folder; other files stay."""
    if folder.is_dir():
        for path in folder.iterdir():
            if NUMBERED.fullmatch(path.name) and path.is_file():
                path.unlink()


def save_picture(path: Path, pixels: np.ndarray, format: str) -> Path:
    """Write one picture (H, W) or (H, W, C) without loss (JPEG: at quality 95), atomically."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(pixels))
    kind = "PPM" if format == "pnm" else format.upper()
    options = OPTIONS.get(format, {})
    return write_atomically(path, lambda file: picture.save(file, kind, **options))
