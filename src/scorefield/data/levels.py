"""What whole numbers and ranges of arrays mean: quantised images, or values in their own units.

Examples of a picture's shape (1 to 4 channels, height, width) whose values are whole numbers, of
any type, are quantised images. The number of levels is read off the values, not the type:

    2 levels for 0 and 1, 256 up to 255, then 1024, 4096, 16384 and 65536

Stored values that are all multiples of a power of two (12 bits in the high bits of 16), of 257 (8
bits spread over 16) or that are 0 and one other value are divided first. Level k is k / (levels -
1) in data units. Negative or larger whole numbers, and whole numbers of other shapes, keep their
own units and are rounded on the way out.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

PICTURE_CHANNELS = (1, 2, 3, 4)
LEVELS = (2, 256, 1024, 4096, 16384, 65536)
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
        rounded: Whether samples in their own units are rounded to whole numbers.
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
            finite = np.isfinite(block)
            if not finite.all():
                row, *place = (int(k[0]) for k in np.nonzero(~finite))
                raise InputError(
                    f"{name}: row {start + row} (from 0) holds {block[(row, *place)]} at {place}; "
                    "every value must be finite. Drop or fill such rows"
                )
            whole = whole and bool((block == np.round(block)).all())
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        outside += int(np.count_nonzero((block < 0) | (block > 1)))
    return Values(low, high, whole, outside, array.size)


def is_picture(event: tuple[int, ...]) -> bool:
    """Whether examples have a picture's shape: (1 to 4 channels, height, width)."""
    return len(event) == 3 and event[0] in PICTURE_CHANNELS


def find_meaning(
    array: np.ndarray,
    event: tuple[int, ...],
    image: bool | None,
    given: tuple[float, float] | None,
    name: str,
) -> tuple[Meaning, Values]:
    """Decide what the stored values mean.

    Args:
        array: (N, ...) as stored; its layout does not matter.
        event: The shape of an example, channels first.
        image: Whether the examples are images, where that was given.
        given: The range that values can take, where it was given.
        name: The source, for messages.

    Raises:
        InputError: Values are not finite, lie outside the given range, or may be images or not.
    """
    found = look(array, name)
    kind = array.dtype.kind
    if given is not None:
        return _with_range(found, given, kind, image, name), found
    if image and not is_picture(event):
        raise InputError(
            f"{name}: image=True needs examples (1 to 4 channels, height, width); got {event}. "
            "Give channels= for another layout, or image=False (--no-image)"
        )
    whole = kind in "biu" or (found.whole and found.high > 1 and found.low >= 0)
    if whole and is_picture(event) and image is not False:
        top = found.low < 0 or found.high > LEVELS[-1] - 1
        if not top:
            return _quantised(array, found, kind), found
        if image:
            raise InputError(
                f"{name}: whole-number images hold values 0 to {LEVELS[-1] - 1}; got {found.span}. "
                "Give range=(low, high) (--range low,high) to map them to [0, 1]"
            )
    if kind in "biu":
        words = f"whole numbers {found.span} in their own units; samples are rounded to them"
        return Meaning(rounded=True, words=words), found
    return _floats(found, event, image, name), found


def _quantised(array: np.ndarray, found: Values, kind: str) -> Meaning:
    """Levels read off whole numbers of a picture's shape."""
    high = int(found.high)
    step = _divisor(array, high)
    top = high // step
    if array.dtype == np.uint8 and step == 1 and top > 1:
        levels = 256
    else:
        levels = next(count for count in LEVELS if top < count)
    held = "floats that are whole numbers" if kind == "f" else str(array.dtype)
    spread = f", all multiples of {step}" if step > 1 else ""
    words = f"images of {held} {found.span}{spread}, read as {levels} levels"
    return Meaning(levels, 0.0, float(step), image=True, words=words)


def _divisor(array: np.ndarray, high: int) -> int:
    """The step of stored values that do not use all numbers up to `high`; 1 for others."""
    if high <= 1:
        return 1
    common = 0
    rows = max(1, BLOCK // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), rows):
        block = np.asarray(array[start : start + rows]).astype(np.int64)
        common = int(np.gcd(common, np.gcd.reduce(block, axis=None)))
        if common == 1:
            return 1
    power = common & -common
    if common == high:
        return common
    if common % 257 == 0 and high > 255:
        return 257
    return power if power > 1 and high // power >= 15 else 1


def _with_range(
    found: Values, given: tuple[float, float], kind: str, image: bool | None, name: str
) -> Meaning:
    low, high = (float(v) for v in given)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(
            f"range takes two numbers low < high, such as 0,4095; got {low:g},{high:g}"
        )
    if image is False:
        raise InputError("range maps images to [0, 1]; leave it out with image=False (--no-image)")
    slack = 1e-6 * (high - low)
    if found.low < low - slack or found.high > high + slack:
        raise InputError(
            f"{name}: values span {found.span}, outside the given range {low:g} to {high:g}. Give "
            "the range of all values"
        )
    words = f"values {found.span}, mapped from the given range {low:g} to {high:g} to [0, 1]"
    if kind in "biu" and low.is_integer() and high.is_integer() and high - low < LEVELS[-1]:
        levels = int(high - low) + 1
        return Meaning(levels, low, 1.0, image=True, words=f"{words}, {levels} levels")
    return Meaning(None, low, high - low, image=True, ranged=True, words=words)


def _floats(found: Values, event: tuple[int, ...], image: bool | None, name: str) -> Meaning:
    """Whether floats are images, and why."""
    counted = f"{found.outside} of {found.size} values lie outside [0, 1] ({found.span})"
    if image is not None:
        if image and found.outside:
            raise InputError(
                f"{name}: images need values in [0, 1], but {counted}. Rescale or clip them, give "
                "range=(low, high) (--range low,high), or give image=False (--no-image)"
            )
        return Meaning(image=image, words=f"image={image} was given")
    if not is_picture(event):
        return Meaning(words=f"examples of shape {event} are not pictures")
    if not found.outside:
        words = f"all values lie in [0, 1] ({found.span}) and examples are {event}"
        return Meaning(image=True, words=words)
    if found.outside <= AMBIGUOUS_FRACTION * found.size:
        raise InputError(
            f"{name}: {counted}, so it is not clear whether the examples {event} are images. Clip "
            "the values to [0, 1] or give range=(low, high) (--range low,high) if they are, or "
            "give image=False (--no-image) if they are not"
        )
    return Meaning(words=f"{counted}; their own units")
