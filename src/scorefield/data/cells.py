"""Text cells as typed Arrow arrays: numbers, dates, times, or words.

A column of text is read as the first of these that all its cells are, blank ones aside:

    numbers     1, -2.5, 1e-3; with decimal="," 1,5; with thousands="," 1,234
    dates       2020-12-31
    timestamps  2020-12-31 23:59, 2020-12-31T23:59:59.5Z, ...+01:00
    times       23:59, 23:59:59.5
    words       anything else

A column in which most cells, but not all, are numbers or dates is refused: such a cell would
otherwise turn the whole column into words.
"""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError

# Words that stand for a missing value where the other cells are numbers or dates.
MISSING = ("na", "n/a", "#n/a", "nan", "null", "none", "nil", "nat", "-", "--", "?", ".")
SHOWN = 3  # cells that a message quotes
SPACES = " \u00a0\u202f"  # between groups of digits; two of them do not break lines
_INTEGER = r"^[+-]?\d+$"
_CODE = r"^0\d+$"  # leading zeros, which numbers would lose
_DATE = r"^\d{4}-\d{2}-\d{2}$"
_STAMP = (
    r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?$"
    r"|^\d{4}-\d{2}-\d{2}$"
)
_CLOCK = r"^\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?$"
_PARTS = (
    r"^\d{4}-\d{2}-\d{2}(?:(?P<mark>[T ])\d{2}:\d{2}(?P<seconds>:\d{2})?(?:\.(?P<fraction>\d+))?"
    r"(?P<zone>Z|[+-]\d{2}:?\d{2})?)?$"
)
_OTHER_DATE = (
    r"^(\d{1,2}[./-]\d{1,2}[./-](\d{4}|\d{2})|\d{4}[./]\d{1,2}[./]\d{1,2}|\d{4}-\d{1,2})( .*)?$"
)
_WITH_UNIT = r"^[$€£] ?[+-]?\d[\d.,]*$|^[+-]?\d[\d.,]* ?([%$€£°]|[A-Za-zµ]{1,3})$"
# Numbers with other marks than those of the table: 1,234.5 or 1 234 or 1,5.
_OTHER_MARKS = rf"^[+-]?\d{{1,3}}([.,'{SPACES}]\d{{3}})+([.,]\d*)?$|^[+-]?\d*[.,]\d+$"
_INFINITE = r"^[+-]?(?i:inf(inity)?)$"
_FRACTION = {0: "s", 3: "ms", 6: "us", 9: "ns"}


@dataclass(frozen=True)
class Marks:
    """Marks within the numbers of a text table.

    Attributes:
        decimal: "." or ",".
        thousands: Mark between groups of three digits, or None.
    """

    decimal: str = "."
    thousands: str | None = None

    @property
    def plain(self) -> str:
        """A pattern of numbers without thousands separators."""
        d = re.escape(self.decimal)
        return rf"^[+-]?(\d+({d}\d*)?|{d}\d+)([eE][+-]?\d+)?$"

    @property
    def pattern(self) -> str:
        """A pattern of numbers; not of infinities and NaN."""
        if self.thousands is None:
            return self.plain
        d = re.escape(self.decimal)
        t = f"[{SPACES}]" if self.thousands in SPACES else re.escape(self.thousands)
        return rf"{self.plain}|^[+-]?\d{{1,3}}({t}\d{{3}})+({d}\d*)?$"


@dataclass(frozen=True)
class Cells:
    """A column of text cells that was read.

    Attributes:
        array: Numbers, dates, times or words; null where a cell is missing.
        absent: The words that were taken for missing values, with their counts.
        style: Of dates and times: how they are written, in the codes of strftime; "" for others.
        note: A message for the user, or "".
    """

    array: Any
    absent: Counter[str]
    style: str = ""
    note: str = ""


class Unclear(InputError):
    """Cells of a column that are neither all of one kind nor words; `rows` are the first ones."""

    def __init__(self, message: str, rows: list[int]) -> None:
        super().__init__(message)
        self.rows = rows


def quoted(words: Any) -> str:
    """Some words for a message: 'a', 'b', 'c' and 4 more."""
    words = list(words)
    more = len(words) - SHOWN
    return ", ".join(repr(w) for w in words[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _matches(cells: Any, pattern: str) -> np.ndarray:
    """Which cells match; False for null."""
    found = pc.fill_null(pc.match_substring_regex(cells, pattern), False)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)


def _missing_words(cells: Any) -> np.ndarray:
    """Which cells are null or a word for a missing value."""
    words = pc.is_in(pc.utf8_lower(cells), pa.array(MISSING))
    return np.asarray(
        pc.or_(pc.is_null(cells), pc.fill_null(words, False)).to_numpy(zero_copy_only=False),
        dtype=bool,
    )


def _count(cells: Any, where: np.ndarray) -> Counter[str]:
    return Counter(cells.filter(pa.array(where)).drop_null().to_pylist())


def _blanked(cells: Any, where: np.ndarray) -> Any:
    return pc.if_else(pa.array(where), pa.scalar(None, cells.type), cells)


def read_cells(cells: Any, marks: Marks) -> Cells:
    """A column of text as the first kind that it is.

    Args:
        cells: Arrow strings without surrounding spaces; null where blank.
        marks: The marks of numbers.

    Returns:
        The column. Blank columns have Arrow's type null.

    Raises:
        Unclear: Most cells are numbers or dates, and some are neither those nor blank.
    """
    if cells.null_count == len(cells):
        return Cells(pa.nulls(len(cells)), Counter())
    for read in (_numbers, _dates, _times):
        found = read(cells, marks)
        if found is not None:
            return found
    grouped = _matches(cells, _OTHER_MARKS)
    if 2 * grouped.sum() >= (~_missing_words(cells)).sum():
        return _refuse_rest(cells, ~grouped, marks)
    return _words(cells)


def read_numbers(cells: Any, marks: Marks) -> Cells:
    """A column of text as numbers; `Unclear` names the cells that are not."""
    return _numbers(cells, marks) or _refuse_rest(cells, _matches(cells, marks.pattern), marks)


def read_times(cells: Any, kind: Any) -> Cells:
    """A column of text as dates or times of an Arrow type; `Unclear` names the others."""
    marks = Marks()
    if pa.types.is_time(kind):
        found, pattern = _times(cells, marks), _CLOCK
    else:
        found, pattern = _dates(cells, marks), _STAMP
    return found or _refuse_rest(cells, _matches(cells, pattern), marks, "dates or times")


def _numbers(cells: Any, marks: Marks) -> Cells | None:
    """Numbers, or None where most cells are none."""
    if marks.decimal == "." and marks.thousands is None:
        try:
            return _typed(cells, pc.cast(cells, pa.float64()), Counter())
        except pa.ArrowInvalid:
            pass
    cells = pc.replace_substring(cells, "\u2212", "-")  # a minus sign of its own
    good = _matches(cells, rf"{marks.pattern}|{_INFINITE}")
    absent = _missing_words(cells)
    if not good.any() or 2 * good.sum() < (~absent).sum():
        return None
    if not (good | absent).all():
        return _refuse_rest(cells, good, marks)
    plain = _blanked(cells, absent)
    if marks.thousands is not None:
        for mark in SPACES if marks.thousands in SPACES else marks.thousands:
            plain = pc.replace_substring(plain, mark, "")
    if marks.decimal != ".":
        plain = pc.replace_substring(plain, marks.decimal, ".")
    return _typed(plain, pc.cast(plain, pa.float64()), _count(cells, absent))


def _typed(cells: Any, numbers: Any, absent: Counter[str]) -> Cells:
    """Whole numbers as int64, codes with leading zeros as words, others as they are."""
    nan = pc.fill_null(pc.is_nan(numbers), False)
    if pc.any(nan).as_py():
        where = np.asarray(nan.to_numpy(zero_copy_only=False), dtype=bool)
        absent = absent + _count(cells, where)
        cells, numbers = _blanked(cells, where), _blanked(numbers, where)
    present = cells.drop_null()
    if not len(present):
        return Cells(pa.nulls(len(cells)), absent)
    if not _matches(present[:1], _INTEGER).all() or not _matches(present, _INTEGER).all():
        return Cells(numbers, absent)
    if _matches(present, _CODE).any():
        example = present.filter(pa.array(_matches(present, _CODE)))[0].as_py()
        return Cells(cells, absent, note=f"codes with leading zeros such as {example!r} are words")
    try:
        return Cells(pc.cast(pc.replace_substring(cells, "+", ""), pa.int64()), absent)
    except pa.ArrowInvalid:  # beyond int64; the reader refuses what float64 does not hold
        return Cells(numbers, absent)


def _refuse_rest(cells: Any, good: np.ndarray, marks: Marks, kind: str = "numbers") -> Any:
    """Raise for cells that are not `good` and no words for missing values."""
    bad = ~good & ~_missing_words(cells)
    if not bad.any():  # nothing but words for missing values
        return Cells(pa.nulls(len(cells)), _count(cells, ~good))
    words = _count(cells, bad)
    total, examples = int(good.sum() + bad.sum()), [word for word, _ in words.most_common()]
    found = f"{int(bad.sum())} of {total} cells are not {kind}: {quoted(examples)}"
    raise Unclear(f"{found}. {_advice(examples, marks)}", np.flatnonzero(bad)[:SHOWN].tolist())


def _advice(examples: list[str], marks: Marks) -> str:
    """How to read cells that are no numbers."""
    grouped = rf"[+-]?\d{{1,3}}([.,'{SPACES}]\d{{3}})+([.,]\d*)?"
    if all(re.fullmatch(grouped, cell) for cell in examples):
        mark = re.sub(r"[\d+-]", "", examples[0])[0]
        mark = " " if mark in SPACES else mark
        other = ", --decimal gives the decimal mark" if mark == marks.decimal else ""
        return (
            f"Where {mark!r} separates thousands, give --thousands '{mark}' "
            f"(thousands={mark!r}){other}"
        )
    for decimal, thousands in ((",", "."), (".", ",")):
        both = rf"[+-]?\d{{1,3}}(\{thousands}\d{{3}})*(\{decimal}\d+)?"
        found = all(re.fullmatch(both, cell) for cell in examples)
        if found and any(decimal in c for c in examples) and any(thousands in c for c in examples):
            return f"Give --decimal {decimal} --thousands {thousands} where such numbers are meant"
    if all(re.fullmatch(r"[+-]?\d*,\d+", cell) for cell in examples) and marks.decimal == ".":
        return "Where the comma is the decimal mark, give --decimal , (decimal=',')"
    if all(re.fullmatch(r"[+-]?\d*\.\d+", cell) for cell in examples) and marks.decimal == ",":
        return "Where the point is the decimal mark, give --decimal . (decimal='.')"
    if all(re.fullmatch(_WITH_UNIT, cell) for cell in examples):
        return "Take the unit off the numbers"
    return "Correct these cells (blank ones can be dropped or filled)"


def _dates(cells: Any, marks: Marks) -> Cells | None:
    """ISO dates and timestamps, or None where most cells are none."""
    days, stamps = _matches(cells, _DATE), _matches(cells, _STAMP)
    absent = _missing_words(cells)
    if not stamps.any() or 2 * stamps.sum() < (~absent).sum():
        return None
    if not (stamps | absent).all():
        return _refuse_rest(cells, stamps, marks, "dates of the form YYYY-MM-DD")
    plain, found = _blanked(cells, absent), _count(cells, absent)
    if (days | absent).all():
        return Cells(_cast_times(plain, pa.date32()), found, "%Y-%m-%d")
    return _timestamps(plain, found)


def _timestamps(cells: Any, absent: Counter[str]) -> Cells:
    found = pc.extract_regex(cells.drop_null(), _PARTS)
    parts = {
        name: pc.unique(pc.struct_field(found, name)).to_pylist()
        for name in ("mark", "seconds", "fraction", "zone")
    }
    zone, *others = sorted(parts["zone"])
    if others and not zone:
        raise Unclear(
            f"some times have a time zone ({quoted(others)}) and some have none. Write all of them "
            "with or without",
            [],
        )
    note = f"times of several zones ({quoted([zone, *others])}) are given in UTC" if others else ""
    zone = "Z" if others else zone
    digits = max(map(len, parts["fraction"]))
    unit = next(name for most, name in _FRACTION.items() if digits <= most)
    kind = pa.timestamp(unit, (_offset(zone) if zone else None))
    clock = "%H:%M:%S" if any(parts["seconds"]) else "%H:%M"
    mark = max(parts["mark"]) or " "
    return Cells(_cast_times(cells, kind), absent, f"%Y-%m-%d{mark}{clock}{zone}", note)


def _offset(zone: str) -> str:
    """The name of a time zone that is written as Z, +01:00 or +0100."""
    return "UTC" if zone == "Z" else f"{zone[:3]}:{zone[-2:]}"


def _cast_times(cells: Any, kind: Any) -> Any:
    try:
        return pc.cast(cells, kind)
    except pa.ArrowInvalid:
        pass
    for row, cell in enumerate(cells):
        try:
            pc.cast(cell, kind)
        except pa.ArrowInvalid:
            raise Unclear(f"{cell.as_py()!r} is not a date of the calendar", [row]) from None
    raise InputError(f"dates cannot be read as {kind}")


def _times(cells: Any, marks: Marks) -> Cells | None:
    """Times of day, or None where most cells are none."""
    good, absent = _matches(cells, _CLOCK), _missing_words(cells)
    if not good.any() or 2 * good.sum() < (~absent).sum():
        return None
    if not (good | absent).all():
        return _refuse_rest(cells, good, marks, "times of the form hh:mm or hh:mm:ss")
    texts = _blanked(cells, absent).to_pylist()
    micros = [None if t is None else _micros(t) for t in texts]
    late = [k for k, m in enumerate(micros) if m is not None and m >= 86_400_000_000]
    if late:
        raise Unclear(f"{texts[late[0]]!r} is not a time of day", late[:SHOWN])
    seconds = any(t is not None and t.count(":") == 2 for t in texts)
    style = "%H:%M:%S" if seconds else "%H:%M"
    if any(t is not None and "." in t for t in texts):
        return Cells(pa.array(micros, pa.time64("us")), _count(cells, absent), style)
    whole = [None if m is None else m // 1_000_000 for m in micros]
    return Cells(pa.array(whole, pa.time32("s")), _count(cells, absent), style)


def _micros(text: str) -> int:
    """Microseconds since midnight of hh:mm[:ss[.f]]."""
    hours, minutes, *rest = text.split(":")
    seconds, _, fraction = (rest[0] if rest else "0").partition(".")
    if int(minutes) > 59 or int(seconds) > 59:
        return 86_400_000_000
    whole = (int(hours) * 60 + int(minutes)) * 60 + int(seconds)
    return whole * 1_000_000 + int(fraction.ljust(6, "0") or 0)


def _words(cells: Any) -> Cells:
    """Words, with a note where some of them may mean something else."""
    distinct = pc.unique(cells.drop_null()).to_pylist()
    odd = [word for word in distinct if word.lower() in MISSING]
    number = [word for word in distinct if re.match(r"[+-]?[\d.,]*\d$", word)]
    notes = []
    if odd:
        notes.append(f"{quoted(odd)} is taken as a word; leave the cell blank where it means none")
    if number:
        notes.append(f"numbers such as {quoted(number[:1])} are words among other words")
    if hint := hint_on_words(distinct):
        notes.append(f"its cells are words though they {hint}")
    return Cells(cells, Counter(), note="; ".join(notes))


def hint_on_words(words: list[str]) -> str:
    """What words look like that may not be meant as words; "" where they look like words."""
    if all(re.match(_OTHER_DATE, word) for word in words):
        return f"look like dates; {words[0]!r} would be read as one in the form YYYY-MM-DD"
    if all(re.match(_WITH_UNIT, word) for word in words):
        return f"look like numbers with a unit; {words[0]!r} would be one without it"
    if all(re.match(_INTEGER, word) for word in words):
        return "look like numbers; they are text in the source, or have leading zeros"
    return ""
