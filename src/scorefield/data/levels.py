"""What whole numbers and ranges of arrays mean: quantised images, or values in their own units.

Examples of a picture's shape (1 or 3 channels, height, width; with image=True also 2 and 4) whose
values are whole numbers, of any type, are quantised images. The number of levels is read off the
values, not the type:

    2 levels for 0 and 1, 256 up to 255, then 1024, 4096, 16384 and 65536

Stored values above 255 that are all multiples of a power of two (12 bits in the high bits of 16) or
of 257 (8 bits spread over 16) are divided first, and so are 0 and one other value, which are 2
levels. Level k is k / (levels - 1) in data units. Negative or larger whole numbers, and whole
numbers of other shapes, keep their own units; samples are rounded to whole numbers in every channel
(column of vectors) that holds nothing else.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .statistics import blocks

PICTURE_CHANNELS = (1, 2, 3, 4)  # grey, grey with transparency, RGB, RGB with transparency
CLEAR_CHANNELS = (1, 3)  # arrays of 2 and 4 channels may hold anything
LEVELS = (2, 256, 1024, 4096, 16384, 65536)
SMALL_LEVELS = 256  # up to so many levels fit uint8
BLOCK = 1 << 22  # values looked at a time
# Floats of an image's shape are ambiguous if at most this fraction lies outside [0, 1]: images with
# a few overshoots, or a field that is mostly small.
AMBIGUOUS_FRACTION = 0.01


@dataclass(frozen=True)
class Meaning:
    """How stored values become data units.

    Attributes:
        levels: Number of levels of quantised images; None for other data.
        low: The stored value of level 0, or of data unit 0 of images given with a range.
        step: The stored difference of two levels; of floats with a range, high - low.
        image: Whether the examples are images in [0, 1].
        rounded: Whether all values in their own units are whole numbers of a whole-number type.
        ranged: Whether floats are mapped from [low, low + step] to [0, 1].
        words: Why, for the report.
    """

    levels: int | None = None
    low: float = 0.0
    step: float = 1.0
    image: bool = False
    rounded: bool = False
    ranged: bool = False
    words: str = ""


@dataclass(frozen=True)
class Values:
    """Facts about stored values.

    Attributes:
        low, high: Smallest and largest value.
        whole: Whether all are whole numbers.
        outside: How many lie outside [0, 1].
        size: How many there are.
    """

    low: float
    high: float
    whole: bool
    outside: int
    size: int

    @property
    def span(self) -> str:
        """The range in words."""
        return f"{self.low:g} to {self.high:g}"


def look(array: np.ndarray, name: str) -> Values:
    """Read the range of an array, and whether it holds whole numbers, block by block.

    Raises:
        InputError: A value is NaN or infinite; the row and the place are named.
    """
    rows = max(1, BLOCK // max(1, math.prod(array.shape[1:])))
    low, high, whole, outside = math.inf, -math.inf, True, 0
    for start in range(0, len(array), rows):
        block = np.asarray(array[start : start + rows])
        if block.dtype.kind == "f":
            if not np.isfinite(block).all():
                _refuse_not_finite(array, start, rows, name)
            whole = whole and bool((block == np.round(block)).all())
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        outside += int(np.count_nonzero((block < 0) | (block > 1)))
    return Values(low, high, whole, outside, array.size)


def _refuse_not_finite(array: np.ndarray, start: int, rows: int, name: str) -> None:
    """Raise for an array with NaN or infinities, the first of them at or after row `start`."""
    bad = ~np.isfinite(np.asarray(array[start : start + rows]))
    row, *place = (int(k[0]) for k in np.nonzero(bad))
    value = array[(start + row, *place)]
    count = 0
    for at in range(start, len(array), rows):
        part = np.asarray(array[at : at + rows])
        count += int((~np.isfinite(part)).reshape(len(part), -1).any(1).sum())
    raise InputError(
        f"{name}: row {start + row} (from 0) holds {value} at {place}, and {count} of {len(array)} "
        "rows hold NaN or infinite values; every value must be finite. Drop or fill such rows, for "
        "example x[np.isfinite(x).reshape(len(x), -1).all(1)]"
    )


@dataclass(frozen=True)
class Channels:
    """Facts about the channels (columns of vectors) of values in their own units.

    Attributes:
        whole: Which hold whole numbers only, bool (C,).
        constant: Which never change.
        counts: Which hold whole numbers of 0 or more.
    """

    whole: Tensor
    constant: Tensor
    counts: Tensor


def look_at_channels(values: Tensor) -> Channels:
    """Read facts about the channels of examples (N, C, ...), block by block."""
    exact = 1 << (53 if values.dtype == torch.float64 else 24)  # larger floats are always whole
    first = values[0].flatten(1)[:, 0] if values.ndim > 2 else values[0]
    whole = torch.ones_like(first, dtype=torch.bool)
    constant, counts = whole.clone(), whole.clone()
    for part in blocks(len(values), values[0].numel() * values.element_size()):
        block = values[part].movedim(1, 0).flatten(1)
        whole &= ((block == block.round()) & (block.abs() < exact)).all(1)
        constant &= (block == first[:, None]).all(1)
        counts &= (block >= 0).all(1)
    return Channels(whole, constant, counts & whole)


def is_picture(event: tuple[int, ...], channels: tuple[int, ...] = PICTURE_CHANNELS) -> bool:
    """Whether examples have a picture's shape: (channels, height, width)."""
    return len(event) == 3 and event[0] in channels


def find_meaning(
    array: np.ndarray,
    event: tuple[int, ...],
    image: bool | None,
    given: tuple[float, float] | None,
    name: str,
    pictures: bool = False,
) -> tuple[Meaning, Values]:
    """Decide what the stored values mean.

    Args:
        array: (N, ...) as stored; its layout does not matter.
        event: The shape of an example, channels first.
        image: Whether the examples are images, where that was given.
        given: The range that values can take, where it was given.
        name: The source, for messages.
        pictures: Whether the source is picture files, whose 2 and 4 channels hold transparency.

    Raises:
        InputError: Values are not finite, lie outside the given range, or may be images or not.
    """
    found = look(array, name)
    kind = array.dtype.kind
    if (image or given is not None) and not is_picture(event):
        option = "image=True (--image)" if image else "range (--range)"
        raise InputError(
            f"{name}: {option} needs examples (1 to 4 channels, height, width); got {event}. "
            "Give channels= (--channels) for another layout, or leave it out"
        )
    if given is not None:
        return _with_range(array, found, given, image, name), found
    picture = is_picture(event, PICTURE_CHANNELS if image or pictures else CLEAR_CHANNELS)
    whole = kind in "biu" or (found.whole and found.high >= 1)
    if whole and picture and image is not False:
        if found.low >= 0 and found.high < LEVELS[-1]:
            return _quantised(array, found), found
        if image:
            raise InputError(
                f"{name}: whole-number images hold values 0 to {LEVELS[-1] - 1}; got {found.span}. "
                "Give range=(low, high) (--range low,high) to map them to [0, 1]"
            )
    if kind in "biu":
        hint = "; --range low,high reads them as images" if picture and image is None else ""
        words = f"whole numbers in their own units, to which samples are rounded{hint}"
        return Meaning(rounded=True, words=words), found
    return _floats(found, event, picture, image, name), found


def _quantised(array: np.ndarray, found: Values) -> Meaning:
    """Levels read off whole numbers of a picture's shape."""
    step = _divisor(array, int(found.high))
    top = int(found.high) // step
    if array.dtype == np.uint8 and top > 1:
        levels = LEVELS[1]
    else:
        levels = next(count for count in LEVELS if top < count)
    held = "floats that are whole numbers" if array.dtype.kind == "f" else str(array.dtype)
    spread = f", all multiples of {step}" if step > 1 else ""
    words = f"images of {held} {found.span}{spread}, read as {levels} levels"
    return Meaning(levels, 0.0, float(step), image=True, words=words)


def _divisor(array: np.ndarray, high: int) -> int:
    """The step of stored values that do not use all numbers up to `high`; 1 for others."""
    if high <= 1:
        return 1
    common = 0
    for block in _blocks(array):
        common = int(np.gcd(common, np.gcd.reduce(block.astype(np.int64), axis=None)))
        if common == 1:
            return 1
    if common == high:
        return common
    power = common & -common
    steps = [step for step in (257, power) if common % step == 0 and high // step >= 128]
    return steps[0] if steps and high >= LEVELS[1] else 1


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """The array in parts of at most BLOCK values, and of at least one row."""
    rows = max(1, BLOCK // max(1, math.prod(array.shape[1:])))
    return (np.asarray(array[at : at + rows]) for at in range(0, len(array), rows))


def _with_range(
    array: np.ndarray, found: Values, given: tuple[float, float], image: bool | None, name: str
) -> Meaning:
    low, high = (float(v) for v in given)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(
            f"range takes two numbers low < high, such as 0,4095; got {low:g},{high:g}"
        )
    if image is False:
        raise InputError("range maps images to [0, 1]; leave it out with image=False (--no-image)")
    slack = 0.0 if found.whole else 1e-6 * (high - low)
    if found.low < low - slack or found.high > high + slack:
        raise InputError(
            f"{name}: values span {found.span}, outside the given range {low:g} to {high:g}. Give "
            "the range of all values"
        )
    words = f"values {found.span}, mapped from the range {low:g} to {high:g} to [0, 1]"
    whole = found.whole and low.is_integer() and high.is_integer()
    two = whole and high - low > 1 and array.dtype.kind == "f"
    if two and all(bool(((b == low) | (b == high)).all()) for b in _blocks(array)):
        return Meaning(2, low, high - low, image=True, words=f"{words}, 2 levels")
    if whole and high - low < LEVELS[-1]:
        levels = int(high - low) + 1
        return Meaning(levels, low, 1.0, image=True, words=f"{words}, {levels} levels")
    return Meaning(None, low, high - low, image=True, ranged=True, words=words)


def _floats(
    found: Values, event: tuple[int, ...], picture: bool, image: bool | None, name: str
) -> Meaning:
    """Whether floats are images, and why."""
    counted = f"{found.outside} of {found.size} values lie outside [0, 1] ({found.span})"
    if image is not None:
        if image and found.outside:
            raise InputError(
                f"{name}: images need values in [0, 1], but {counted}. Rescale or clip them, give "
                "range=(low, high) (--range low,high), or give image=False (--no-image)"
            )
        return Meaning(image=image, words=f"image={image} was given")
    if not picture:
        hint = "; --image reads them as pictures" if is_picture(event) else ""
        return Meaning(words=f"examples of shape {event} are not pictures{hint}")
    if not found.outside:
        words = f"images: all values lie in [0, 1] ({found.span}); --no-image reads fields"
        return Meaning(image=True, words=words)
    if found.outside <= AMBIGUOUS_FRACTION * found.size:
        raise InputError(
            f"{name}: {counted}, so it is not clear whether the examples {event} are images. Clip "
            "the values to [0, 1] or give range=(low, high) (--range low,high) if they are, or "
            "give image=False (--no-image) if they are not"
        )
    return Meaning(words=f"not images, since {counted}; --range low,high reads them as images")
