"""Text of pictures: line breaks by measured widths, and labels that fit their place.

Widths are those of DejaVu Sans, the font that matplotlib brings along. Width and font size have the
same unit: points in figures of matplotlib, pixels in pictures of pixels.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

ELLIPSIS = "…"
INK = (30, 30, 30)
LINE = 1.35  # distance of two lines in units of the font's size


@lru_cache(maxsize=32)
def load_font(size: int) -> "FreeTypeFont":
    """Return DejaVu Sans with `size` pixels; it has the Greek letters."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    path = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)


@lru_cache(maxsize=4096)
def _width(text: str) -> float:
    """Width of one line at size 100."""
    return float(load_font(100).getlength(text))


def text_width(text: str, size: float) -> float:
    """Return the width of one line of text, in the unit of `size`."""
    return _width(text) * size / 100


def plain(text: str) -> str:
    """Return a user's text on one line, with its dollar signs kept from matplotlib's formulas."""
    return " ".join(text.split()).replace("$", r"\$")


def shorten(text: str, width: float, size: float) -> str:
    """Shorten a line to `width` by an ellipsis in its middle; the two ends stay readable."""
    if text_width(text, size) <= width:
        return text

    def ends(kept: int) -> str:
        head = -(-kept // 2)
        return text[:head].rstrip() + ELLIPSIS + text[len(text) - (kept - head) :].lstrip()

    low, high = 1, len(text) - 1  # characters kept: those that fit, and those that may not
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_width(ends(middle), size) <= width else (low, middle - 1)
    return ends(low)


def _pieces(word: str, width: float, size: float) -> list[str]:
    """The word, in pieces that are not wider than `width`."""
    pieces, start = [], 0
    for end in range(1, len(word) + 1):
        if end - start > 1 and text_width(word[start:end], size) > width:
            pieces.append(word[start : end - 1])
            start = end - 1
    return [*pieces, word[start:]]


def _lines(words: list[str], widths: list[float], space: float, width: float) -> list[str]:
    """Words joined to lines as long as `width` allows."""
    lines: list[list[str]] = []
    room = -1.0
    for word, needed in zip(words, widths, strict=True):
        if lines and needed + space <= room:
            lines[-1].append(word)
            room -= needed + space
        else:
            lines.append([word])
            room = width - needed
    return [" ".join(line) for line in lines]


def wrap(text: str, width: float, size: float) -> str:
    """Break text into lines of about equal length that are not wider than `width`.

    No line is left with a last word alone where the other lines have room for it. Words that are
    too wide are cut into pieces.

    Args:
        text: Any text; its own line breaks stay.
        width: Largest width of a line, in points or pixels.
        size: Size of the font, in the same unit.

    Returns:
        The text with line breaks.
    """
    broken = []
    for paragraph in text.split("\n"):
        words = [piece for word in paragraph.split() for piece in _pieces(word, width, size)]
        widths = [text_width(word, size) for word in words]
        space = text_width(" ", size)
        lines = _lines(words, widths, space, width)
        low, high = width / 2, width
        while high - low > size / 4:
            middle = (low + high) / 2
            fits = max(widths, default=0) <= middle
            if fits and len(_lines(words, widths, space, middle)) == len(lines):
                high = middle
            else:
                low = middle
        broken.append("\n".join(_lines(words, widths, space, high)))
    return "\n".join(broken)


def fit_label(text: str, width: float, size: float, lines: int = 2) -> str:
    """Fit a label into at most `lines` lines of `width`; a longer label is shortened.

    Args:
        text: The label.
        width: Width of a line, in points or pixels.
        size: Size of the font, in the same unit.
        lines: Number of lines.

    Returns:
        The label with line breaks, without formulas of matplotlib.
    """
    text = " ".join(text.split())
    room = lines * width
    fitted = wrap(text, width, size)
    while fitted.count("\n") >= lines and room > 0:
        fitted = wrap(shorten(text, room, size), width, size)
        room -= size
    return fitted.replace("$", r"\$")


def draw_text(
    text: str, width: int, size: int = 13, centre: bool = False, margin: int = 4
) -> "np.ndarray[Any, np.dtype[Any]]":
    """Draw dark text on white, wrapped to `width` pixels.

    Args:
        text: The text.
        width: Width of the picture in pixels.
        size: Size of the font in pixels.
        centre: Whether the lines are centred.
        margin: White pixels around the text.

    Returns:
        uint8 (height, width, 3). The height depends on width, size and text alone.
    """
    from PIL import Image, ImageDraw

    font = load_font(size)
    lines = wrap(text, max(1, width - 2 * margin), size).split("\n")
    pitch = round(size * LINE)
    canvas = Image.new("RGB", (width, pitch * len(lines) + 2 * margin), "white")
    pen = ImageDraw.Draw(canvas)
    for n, line in enumerate(lines):
        x = (width - font.getlength(line)) / 2 if centre else margin
        pen.text((x, margin + n * pitch), line, fill=INK, font=font)
    return np.asarray(canvas)
