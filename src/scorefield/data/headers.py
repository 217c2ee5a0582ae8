"""Whether the first line of a text table holds the names of its columns.

It does where a column of numbers or dates begins with a word, and it does not where columns of
words begin with words that occur again. A first line of numbers is data, unless it looks like
names: 0, 1, 2 ..., years, evenly spaced wavelengths, whole numbers over columns of fractions. Such
a line could be either, and is refused until `header` decides.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from .cells import MISSING, quoted

_NUMBER = re.compile(r"[+-]?[\d.,' ]*\d[\d.,' ]*([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{1,4}[-:./]\d{1,2}([-:./T ].*)?")
_WHOLE = re.compile(r"[+-]?\d+")
SPACED = 5  # so many evenly spaced numbers look like names wherever they lie
FEWEST_SPACED = 3  # fewer are never taken for names because of their spacing
FEWEST_BELOW = 3  # cells below the first line that tell whole numbers from fractions
DECIDE = "Give --header (header=True) where it holds names, --no-header (header=False) where not"


@dataclass(frozen=True)
class FirstLines:
    """The first lines of a text table.

    Attributes:
        first: The cells of the first line.
        body: The cells of the lines after it, up to some number.
        quoted: Whether every cell of the first line is in quotes, and not so in the next line.
    """

    first: Sequence[str]
    body: Sequence[Sequence[str]]
    quoted: bool = False

    def column(self, k: int) -> list[str]:
        """The cells below the first line of column k that are not blank."""
        return [row[k] for row in self.body if k < len(row) and row[k]]


def is_number(cell: str) -> bool:
    """Whether a cell looks like a number, with whatever marks."""
    return bool(_NUMBER.fullmatch(cell))


def is_datum(cell: str) -> bool:
    """Whether a cell looks like a number, a date or a time."""
    return is_number(cell) or bool(_DATE.fullmatch(cell))


def _is_data_column(cells: Sequence[str]) -> bool:
    """Whether most cells are numbers or dates."""
    present = [cell for cell in cells if cell.lower() not in MISSING]
    return 2 * sum(map(is_datum, present)) > len(present)


def has_header(lines: FirstLines, name: str, known: Sequence[str] | None = None) -> bool:
    """Whether the first line holds names.

    Args:
        lines: The first lines.
        name: The source, for messages.
        known: Names of columns that are looked for, as of a model's data.

    Returns:
        True for names, False for data.

    Raises:
        InputError: It could be either.
    """
    first = lines.first
    columns = [lines.column(k) for k in range(len(first))]
    if known is not None and any(cell in known for cell in first):
        return True
    if not any(first):
        raise InputError(
            f"{name}: the first line of the table holds blank cells only. Remove it, or give names "
            "to the columns"
        )
    for cell, below in zip(first, columns, strict=True):
        if cell and cell.lower() not in MISSING and below and _is_data_column(below):
            numbers = is_number(cell), is_number(below[0])
            if not is_datum(cell) or (numbers[0] != numbers[1] and is_datum(below[0])):
                return True
    if not any(columns):  # no lines, or blank ones only
        return not all(is_datum(cell) or not cell for cell in first)
    if lines.quoted or (not first[0] and counts(columns[0])):
        return True
    reason = _reads_as_names(lines, columns) or _words_are_unclear(first, columns)
    if reason:
        raise InputError(
            f"{name}: it is not clear whether the first line ({quoted(first)}) holds the names of "
            f"columns or data: {reason}. {DECIDE}"
        )
    return _words_are_names(first, columns)


def counts(cells: Sequence[str]) -> bool:
    """Whether cells count 0, 1, 2 ... or 1, 2, 3 ..."""
    if not cells or cells[0] not in ("0", "1"):
        return False
    start = int(cells[0])
    return all(cell == str(start + k) for k, cell in enumerate(cells))


def _repeating(first: Sequence[str], columns: list[list[str]]) -> list[bool]:
    """For each column of words of which some repeat: whether its first one occurs again."""
    return [
        cell in below
        for cell, below in zip(first, columns, strict=True)
        if cell and below and not _is_data_column(below)
        if cell in below or 2 * len(set(below)) <= len(below)
    ]


def _words_are_names(first: Sequence[str], columns: list[list[str]]) -> bool:
    """Whether a line is names because its words do not occur again; `_words_are_unclear` is ""."""
    again = _repeating(first, columns)
    return bool(again) and not any(again)


def _words_are_unclear(first: Sequence[str], columns: list[list[str]]) -> str:
    """Why columns of words leave it open whether the first line is names; "" where they do not."""
    again = _repeating(first, columns)
    data = any(below and _is_data_column(below) for below in columns)
    words = any(below and not _is_data_column(below) for below in columns)
    if not again:
        return "it holds words over columns of words" if words and not data else ""
    if all(again):
        return ""
    if any(again):
        return "some of its words occur again in their columns and some do not"
    if data or len(set(first)) < len(first):
        return "its words do not occur again in their columns, as names, but it has no other names"
    return ""


def _reads_as_names(lines: FirstLines, columns: list[list[str]]) -> str:
    """Why a first line of numbers may be names; "" where it looks like data."""
    first, body = lines.first, lines.body
    cells = [cell for cell in first if cell]
    if not all(_is_data_column(below) for below in columns if below):
        return ""
    if len(set(cells)) < len(cells) or list(first) in map(list, body):
        return ""
    below = [cell for column in columns for cell in column if cell.lower() not in MISSING]
    fractions = len(below) >= FEWEST_BELOW and not any(map(_WHOLE.fullmatch, below))
    if all(map(_WHOLE.fullmatch, cells)) and fractions:
        return "it holds whole numbers and the lines below hold none"
    spacing = _spacing(cells)
    if spacing is None or _spacing(body[0]) is not None:
        return ""
    in_order = spacing == 1 and cells[0] in "01" and len(cells) >= FEWEST_SPACED
    if len(cells) >= SPACED or in_order or _outside(cells, columns):
        return f"its numbers are evenly spaced by {spacing:g}"
    return ""


def _spacing(cells: Sequence[str]) -> float | None:
    """The step of two or more numbers that rise evenly; None for others."""
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        return None
    if len(numbers) < 2:
        return None
    step = (numbers[-1] - numbers[0]) / (len(numbers) - 1)
    even = all(abs(x - numbers[0] - k * step) < 1e-6 * step for k, x in enumerate(numbers))
    return step if even else None


def _outside(cells: Sequence[str], columns: list[list[str]]) -> bool:
    """Whether three numbers or more lie outside the range of the numbers below each of them."""
    if len(cells) < FEWEST_SPACED or len(cells) < len(columns):
        return False
    try:
        ranges = [[float(cell) for cell in below] for below in columns]
    except ValueError:
        return False
    pairs = zip(map(float, cells), ranges, strict=True)
    return all(below and not min(below) <= cell <= max(below) for cell, below in pairs)
