"""One picture, in a file or in memory: what it holds, and its pixels without loss.

8 and 16 bits, grey and colour, with and without transparency are kept. A picture whose pixels
Pillow would cut (16-bit colour), mix (several frames) or convert (CMYK) is refused in words.
"""

import struct
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..tensors import ORIENTATION

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {
    **dict.fromkeys((".png", ".apng"), "png"),
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "jpeg"),
    **dict.fromkeys((".tif", ".tiff"), "tiff"),
    **dict.fromkeys((".bmp", ".dib"), "bmp"),
    **dict.fromkeys((".pgm", ".ppm", ".pbm", ".pnm"), "pnm"),
    **dict.fromkeys((".jp2", ".j2k"), "jpeg2000"),
    ".webp": "webp",
    ".gif": "gif",
    ".tga": "tga",
}
DEEP_GREY = ("I;16", "I;16B", "I;16L", "I;16N")
PNG_COLOUR = {2: "colour", 4: "grey with transparency", 6: "colour with transparency"}
IN_MEMORY = "Pillow"  # the format of a picture that was not read from a file


@dataclass(frozen=True, eq=False)
class Held:
    """A picture of Pillow in memory.

    Attributes:
        name: Its name in messages, such as "item 3 of list".
        image: The picture, which is not changed.
        bits: Bits of a channel of the file from which it is decoded; 8 where that is not known.
    """

    name: str
    image: "Image"
    bits: int = 8

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def of(name: str, image: "Image") -> "Held":
        """A picture decoded now, so that its file is closed; damage shows in `read_head`."""
        bits = 16 if any("16" in str(tile[3:]) for tile in getattr(image, "tile", ())) else 8
        try:
            image.load()
        except damage():
            pass
        return Held(name, image, bits)


Picture = Path | Held


def _opened(picture: Picture) -> "AbstractContextManager[Image]":
    """A picture that is open for reading; one in memory stays open."""
    from PIL import Image

    return nullcontext(picture.image) if isinstance(picture, Held) else Image.open(picture)


@dataclass(frozen=True)
class Head:
    """What a picture holds, read from its header.

    Attributes:
        format: "png", "jpeg" and so on; "Pillow" of a picture in memory without a format.
        size: (height, width), after the rotation that EXIF states.
        depth: "1", "8", "16", "32" (whole numbers) or "float".
        colour: Whether it has three colour channels.
        alpha: Whether it has transparency.
        palette: Whether its pixels are numbers of a palette's colours.
        turned: Whether EXIF turns it.
    """

    format: str
    size: tuple[int, int]
    depth: str
    colour: bool
    alpha: bool
    palette: bool
    turned: bool


def damage() -> tuple[type[Exception], ...]:
    """What Pillow raises for damaged files: SyntaxError comes from its PNG reader."""
    from PIL import Image, UnidentifiedImageError

    return (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        Image.DecompressionBombError,
    )


def read_head(picture: Picture) -> Head:
    """Read what a picture holds.

    Raises:
        InputError: Reading its pixels would lose information; the message states which.
        Exception: One of `damage()` for damaged files.
    """
    with _opened(picture) as image:
        _refuse_loss(picture, image)
        mode = image.mode
        palette = mode in ("P", "PA")
        alpha = mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info
        depth = {"1": "1", "I": "32", "F": "float"}.get(mode, "8")
        if mode in DEEP_GREY or (mode == "I" and image.format in ("PNG", "PPM")):
            depth = "16"  # older versions of Pillow give 16-bit PNG as I
        orientation = image.getexif().get(ORIENTATION, 1)
        width, height = image.size
        size = (width, height) if orientation in (5, 6, 7, 8) else (height, width)
        colour = mode in ("RGB", "RGBA", "RGBa", "RGBX") or (palette and not _is_grey(image))
        found = (image.format or "").lower()
        kind = {"mpo": "jpeg", "ppm": "pnm", "": IN_MEMORY}.get(found, found)
        return Head(kind, size, depth, colour, alpha, palette, orientation not in (0, 1))


def _is_grey(image: "Image") -> bool:
    """Whether all colours of a palette are greys."""
    palette = image.getpalette("RGB") or []
    return palette[0::3] == palette[1::3] == palette[2::3]


def _refuse_loss(picture: Picture, image: "Image") -> None:
    """Raise where Pillow's pixels are not those of the picture."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # of a camera: the picture and its previews
        raise InputError(
            f"{picture} holds {frames} frames or pages, and one picture a file is read. Save them "
            "as single pictures, or as an array (N, height, width) in an .npy"
        )
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        raise InputError(
            f"{picture} holds {image.mode} colours, which have no exact RGB; convert the "
            f"{_plural(picture)} to RGB first"
        )
    bits = _bits(picture, image)
    if bits > 32 or (image.mode in DEEP_GREY and "transparency" in image.info):
        what = f"values of {bits} bits" if bits > 32 else "a transparent grey of 16 bits"
        raise InputError(f"{picture} holds {what}, which would be lost. Give an array in an .npy")
    if bits > 8 and image.mode not in (*DEEP_GREY, "I", "F"):
        raise InputError(
            f"{picture} holds colours or transparency of {bits} bits, which would be cut to 8. "
            "Give them as an array (N, height, width, channels) of uint16 in an .npy, or convert "
            f"the {_plural(picture)} to 8 bits"
        )


def _plural(picture: Picture) -> str:
    """What several of such pictures are called in messages."""
    return "pictures" if isinstance(picture, Held) else "files"


def _path(picture: Picture, image: "Image") -> Path | None:
    """The file of a picture; None of a picture in memory whose file is not known."""
    if not isinstance(picture, Held):
        return picture
    name = getattr(image, "filename", "")
    return Path(name) if name and Path(name).is_file() else None


def _bits(picture: Picture, image: "Image") -> int:
    """Bits of a channel by the file's header; 8 where the format has no more, or has no file."""
    path = _path(picture, image)
    if path is None:
        return picture.bits if isinstance(picture, Held) else 8
    if image.format == "PNG":
        with path.open("rb") as file:
            header = file.read(26)
        return header[24]
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        bits = tags.get(258, (1,))
        return max(bits) if isinstance(bits, tuple) else int(bits)
    if image.format == "JPEG2000":
        with path.open("rb") as file:
            head = file.read(4096)
        start = head.find(b"\xff\x4f\xff\x51")  # SOC and SIZ; the depths of the channels follow
        count = int.from_bytes(head[start + 40 : start + 42], "big")
        return max([(b & 127) + 1 for b in head[start + 42 : start + 42 + 3 * count : 3]] or [8])
    if image.format == "PPM":
        most = _largest_of_pnm(path)
        if most not in (1, 255, 65535):
            raise InputError(
                f"{path} holds values 0 to {most}, which are rescaled when they are read. Give an "
                "array in an .npy, or convert the files to 8 or 16 bits"
            )
        return 16 if most > 255 else 8
    return 8


def _largest_of_pnm(path: Path) -> int:
    """The largest value that a PNM header names; 1 for bitmaps."""
    with path.open("rb") as file:
        head = file.read(4096)
    words: list[bytes] = []
    for line in head.split(b"\n"):
        words += line.split(b"#")[0].split()
        if len(words) >= 4:
            break
    if words[0] in (b"P1", b"P4"):
        return 1
    return int(words[3]) if len(words) > 3 else 255


def read_pixels(
    picture: Picture, channels: int, alpha: str | None, deep: str
) -> tuple["Image", bool]:
    """Decode a picture.

    Args:
        picture: The picture, whose head was read.
        channels: 1 (grey) or 3 (colour), transparency not counted.
        alpha: "keep", "drop", "white", "black", or None, which keeps it to be looked at.
        deep: The depth of all pictures: "1", "8", "16", "32" or "float".

    Returns:
        The picture in mode 1, L, LA, RGB, RGBA, I;16, I or F, rotated by EXIF; and whether any
        of its pixels is transparent.
    """
    from PIL import Image, ImageOps

    with _opened(picture) as opened:
        image = ImageOps.exif_transpose(opened)
        image.load()
    if deep in ("16", "32", "float"):
        return image, False
    has_alpha = image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info
    if not has_alpha:
        if alpha == "keep":
            return image.convert("LA" if channels == 1 else "RGBA"), False
        return image.convert({"1": "1", "8": "L" if channels == 1 else "RGB"}[deep]), False
    full = image.convert("RGBA")
    lowest = full.getchannel("A").getextrema()[0]
    transparent = isinstance(lowest, (int, float)) and lowest < 255
    if alpha == "keep" or (alpha is None and transparent):
        return (full if channels == 3 else full.convert("LA")), transparent
    if alpha in ("white", "black") and transparent:
        ground = Image.new("RGBA", full.size, alpha)
        full = Image.alpha_composite(ground, full)
    return full.convert("L" if channels == 1 else "RGB"), transparent


def fit(image: "Image", size: tuple[int, int]) -> "Image":
    """A picture scaled by one factor to cover (height, width), then cut to it around the centre."""
    from PIL.Image import Resampling

    height, width = size
    factor = max(height / image.height, width / image.width)
    scaled = (max(width, round(image.width * factor)), max(height, round(image.height * factor)))
    if scaled != image.size:
        if image.mode in DEEP_GREY:  # Pillow resamples 16 bits as floats without loss
            image = image.convert("F").resize(scaled, Resampling.LANCZOS)
            pixels = np.asarray(image).round().clip(0, 65535).astype(np.uint16)
            from PIL import Image as factory

            image = factory.fromarray(pixels)
        else:
            image = image.resize(scaled, Resampling.LANCZOS)
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return image.crop((left, top, left + width, top + height))


def as_array(image: "Image", deep: str) -> np.ndarray:
    """The pixels (H, W) or (H, W, C): bool, uint8, uint16, int32 or float32."""
    pixels = np.asarray(image)
    if deep == "16":
        return pixels.astype(np.uint16)
    return pixels
