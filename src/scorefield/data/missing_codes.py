"""Numbers that may stand for missing values, such as -999: notes on columns that hold them.

A note names a number v of a column where all of this holds:

    v is a usual code: -9; 99, 999, 9999, ... and 99.9, 999.9, ...; 77, 88, 777, 888, ...; a power
      of ten from 10^15 on; the limits of 16, 32 and 64 bits; each with either sign
    v occurs three times or more
    v is the smallest or the largest number, and farther from the nearest other one than all others
      are from each other; or v is a code of -77 or below, and no other number is negative

Data with outliers or heavy tails do not have such a number: an outlier does not repeat.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .statistics import Ranges, blocks

FEWEST = 3  # times that a code occurs
MOST = 6  # codes that are looked for in a column
SHOWN = 3  # columns that a note describes
CODE = re.compile(
    r"-9|-?(99+(\.9+)?|77+|88+|1e\+(1[5-9]|[23]\d)|9\.96921e\+36|3\.40282\de\+38|1\.79769\de\+308"
    r"|32767|32768|65535|2\.14748\de\+09|4\.29496\de\+09|9\.22337\de\+18)"
)

Parts = Callable[[], Iterable[np.ndarray]]


@dataclass(frozen=True)
class Code:
    """A number that may stand for a missing value.

    Attributes:
        value: The number.
        count: How often it occurs.
        low, high: The range of the numbers that are no codes.
    """

    value: float
    count: int
    low: float
    high: float


def is_code(value: float) -> bool:
    """Whether a number is one that often stands for a missing value."""
    return CODE.fullmatch(f"{value:.7g}") is not None


def find_codes(parts: Parts) -> list[Code]:
    """The numbers of a column that may stand for missing values.

    Args:
        parts: Returns the numbers of the column in parts, each time that it is called.

    Returns:
        The codes by the module's rule; [] for nearly all columns, after one look at each part.
    """
    codes: list[float] = []
    low, high = _range(parts(), codes)
    while low < high and len(codes) < MOST:
        outer = [value for value in (low, high) if is_code(value)]
        if not outer:
            break
        codes += outer
        low, high = _range(parts(), codes)
    if not codes or low > high:
        return []
    counts = {code: 0 for code in codes}
    for part in parts():
        counts = {code: count + int((part == code).sum()) for code, count in counts.items()}
    found = []
    for code in sorted(codes, key=lambda c: max(low - c, c - high)):
        if counts[code] >= FEWEST and _is_far(code, low, high):
            found.append((code, counts[code]))
        else:  # a number like the others
            low, high = min(low, code), max(high, code)
    return [Code(value, count, low, high) for value, count in found if not low <= value <= high]


def _range(parts: Iterable[np.ndarray], without: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest number that is not in `without`; (inf, -inf) for none."""
    low, high = np.inf, -np.inf
    for part in parts:
        rest = part[~np.isin(part, without)] if without else part
        if rest.size:
            low, high = min(low, float(rest.min())), max(high, float(rest.max()))
    return low, high


def _is_far(code: float, low: float, high: float) -> bool:
    """Whether a code lies far from all other numbers, which span low to high."""
    if code <= -77 and low >= 0:
        return True
    return max(low - code, code - high) > high - low


def code_notes(values: Tensor, ranges: Ranges, names: Sequence[str], rows: str) -> list[str]:
    """Sentences about the codes in the columns or channels of an array.

    Args:
        values: (N, k) or (N, k, ...), real numbers.
        ranges: Their ranges.
        names: A name for each of the k columns; "" leaves a column out.
        rows: What the reader is advised to do with such values, as a clause.

    Returns:
        A sentence for each code that occurs.
    """
    found: dict[float, list[tuple[str, Code]]] = {}
    for k, (name, low, high) in enumerate(zip(names, *ranges, strict=True)):
        if not name or not (is_code(low) or is_code(high)):
            continue
        for code in find_codes(_parts(values, k)):
            found.setdefault(code.value, []).append((name, code))
    return [_sentence(value, held, rows) for value, held in found.items()]


def _parts(values: Tensor, k: int) -> Parts:
    """Column or channel k of an array in blocks, for `find_codes`."""

    def parts() -> Iterable[np.ndarray]:
        for part in blocks(len(values), 8 * max(1, values[0, 0].numel())):
            yield values[part][:, k].to(torch.float64).numpy().reshape(-1)

    return parts


def _sentence(value: float, held: Sequence[tuple[str, Code]], rows: str) -> str:
    columns = ", ".join(
        f"{name} ({code.count:,} times; the others lie in {code.low:g} to {code.high:g})"
        for name, code in held[:SHOWN]
    )
    more = f" and {len(held) - SHOWN} more" if len(held) > SHOWN else ""
    return (
        f"{value:.7g} is taken as a number and lies far from the other numbers of {columns}{more}; "
        f"where it stands for a missing value, {rows}"
    )
