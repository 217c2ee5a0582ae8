"""What a column of a table holds, read off its values.

    constant    one value
    category    words: text, dictionaries, booleans
    discrete    numbers of which each occurs five times on average
    integer     whole numbers, also those that are stored as floats
    date        dates, timestamps, times of day (durations are numbers of seconds)
    continuous  other numbers

Numbers may be multiples of a step: a decimal place that all of them respect, or a larger common
divisor of their differences where twenty values or more show it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from .cells import Unclear, hint_on_words, quoted
from .columns import Column
from .table_types import (
    EXACT,
    from_numbers,
    is_temporal,
    is_words,
    t,
    ticks,
    to_numbers,
    to_parts,
    to_words,
)

AVERAGE = 5  # rows a value of a discrete column, or a word, has on average
MOST_VALUES = 1000  # of a discrete column
MOST_WORDS = 50  # of a category that is not named in `discrete`
FEWEST_WORDS = 2  # so many words are a category in tables of any length
PLACES = 6  # decimal places that are looked for
SHOWING = 20  # values that show a common divisor
NATURAL = (86_400, 3_600, 60, 1)  # seconds of which times may all be multiples
FIRST_DATE, LAST_DATE = 19_000_101, 21_001_231  # of dates without marks
FREQUENT = 0.1  # share of one value of a continuous column that is worth a note


@dataclass(frozen=True)
class Lattice:
    """Numbers (origin + k stride) / per, with whole k."""

    per: int
    stride: int = 1
    origin: int = 0


def describe(name: str, array: Any, style: str = "", discrete: bool | None = None) -> Column:
    """What a column holds.

    Args:
        name: Its name.
        array: An Arrow array without nulls.
        style: Of dates in text tables: how they are written.
        discrete: Whether its numbers are discrete; None decides by their values.

    Returns:
        The column.

    Raises:
        Unclear: Text has too many words for a category, or numbers too many digits for float64.
    """
    kind = str(array.type)
    if is_words(array.type):
        words = _words(array, name, bool(discrete))
        return Column(name, "constant" if len(words) == 1 else "category", kind, words=words)
    numbers = to_numbers(array)
    low, high = float(numbers.min()), float(numbers.max())
    found = _lattice(numbers, array)
    lattice = {} if found is None else vars(found)
    if low == high:
        return Column(name, "constant", kind, low, high, values=(low,), style=style, **lattice)
    values: tuple[float, ...] = ()
    distinct = np.unique(numbers)
    few = AVERAGE * len(distinct) <= len(numbers) and len(distinct) <= MOST_VALUES
    if few if discrete is None else discrete:
        values = tuple(distinct.tolist())
    if is_temporal(array.type) and not t.is_duration(array.type):
        label = "date"
    elif values:
        label = "discrete"
    else:
        label = "integer" if found is not None and found.per == 1 else "continuous"
    return Column(name, label, kind, low, high, values=values, style=style, **lattice)


def _words(array: Any, name: str, named: bool) -> tuple[str, ...]:
    """The words of a column, ordered dictionaries in their order, others sorted."""
    cells = to_words(array)
    words = pc.unique(cells).to_pylist()
    limit = MOST_VALUES if named else max(FEWEST_WORDS, min(MOST_WORDS, len(cells) // AVERAGE))
    if len(words) > limit:
        hint = hint_on_words(words)
        what = f"They {hint}" if hint else "They are an identifier or free text"
        category = f" Where it is a category, name it with --discrete={name}." if not named else ""
        raise Unclear(
            f"holds {len(words)} different words in {len(cells)} rows, such as {quoted(words)}. "
            f"{what}. Leave the column out with --columns=-{name} (columns=[{'-' + name!r}])."
            f"{category}",
            [],
        )
    if t.is_dictionary(array.type) and array.type.ordered:
        order = to_words(array.dictionary).to_pylist()
        return tuple(word for word in order if word in words)
    return tuple(sorted(words))


def _lattice(numbers: np.ndarray, array: Any) -> Lattice | None:
    """The step of which all numbers are multiples; None where there is none to be seen."""
    if is_temporal(array.type):
        own = ticks(array.type)
        parts = sorted({1, own, *(10**k for k in (3, 6, 9) if own % 10**k == 0)})
        per = next((p for p in parts if np.array_equal(to_parts(numbers, p) / p, numbers)), own)
        if not from_numbers(numbers, array.type, per).equals(array):
            raise Unclear(
                f"times of type {array.type} have more digits than seconds in float64 hold (2^53). "
                "Round them to a coarser unit, such as microseconds",
                [],
            )
        whole = to_parts(numbers, per).astype(np.int64)
        seconds = per == 1 and not t.is_date(array.type)
        natural = next(s for s in NATURAL if s == 1 or (seconds and not (whole % s).any()))
        return _strided(whole, per, natural)
    for places in range(PLACES + 1):
        per = 10**places
        scaled = np.rint(numbers * per)
        if np.abs(scaled).max() > EXACT:
            return None
        if np.array_equal(_as_stored(scaled / per, array), numbers):
            return _strided(scaled.astype(np.int64), per, 1)
    return None


def _as_stored(numbers: np.ndarray, array: Any) -> np.ndarray:
    """Numbers rounded to the floating type of a column."""
    if t.is_floating(array.type):
        return numbers.astype(array.type.to_pandas_dtype()).astype(np.float64)
    return numbers


def _strided(whole: np.ndarray, per: int, natural: int) -> Lattice:
    """The lattice of whole numbers; its stride is their common one where enough values show it."""
    distinct = np.unique(whole)
    if len(distinct) >= SHOWING:
        stride = int(np.gcd.reduce(np.diff(distinct)))
        if stride > 1:
            return Lattice(per, stride, int(distinct[0]))
    return Lattice(per, natural)


def summary(columns: Sequence[Column]) -> list[str]:
    """What the columns hold, a sentence for each kind that occurs."""
    said = []
    for kind, what in (
        ("continuous", "continuous"),
        ("integer", "whole numbers"),
        ("discrete", "few values, given back as such"),
        ("date", "dates and times"),
        ("category", "words"),
        ("constant", "constant"),
    ):
        names = [_shown(column) for column in columns if column.kind == kind]
        if names:
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            said.append(f"{what}: {', '.join(names[:8])}{more}")
    return said


def _shown(column: Column) -> str:
    """A column's name with what matters of its kind."""
    if column.kind == "category":
        return f"{column.name} ({len(column.words)} words)"
    if column.kind == "constant":
        value = column.words[0] if column.words else column.values[0]
        return f"{column.name} ({value})" if column.words else f"{column.name} ({value:g})"
    if column.values:
        return f"{column.name} ({len(column.values)} values)"
    if column.step not in (0.0, 1.0):
        return f"{column.name} (step {column.step:g})"
    return column.name


def frequent(column: Column, numbers: np.ndarray) -> str:
    """A note on a continuous column that has one value very often; "" for others."""
    if column.kind != "continuous":
        return ""
    values, counts = np.unique(numbers, return_counts=True)
    share = counts.max() / len(numbers)
    if share <= FREQUENT or counts.max() < 2 * AVERAGE:
        return ""
    return (
        f"{column.name}: {share:.0%} of the values are {values[counts.argmax()]:g}; samples come "
        "near it without being equal to it"
    )


def row_number(column: Column, numbers: np.ndarray) -> str:
    """A note on a column with a name that counts the rows; "" for others."""
    if column.kind != "integer" or column.low not in (0, 1) or len(numbers) < 2 * AVERAGE:
        return ""
    if not np.array_equal(numbers, column.low + np.arange(len(numbers))):
        return ""
    return f"{column.name} counts the rows; leave it out with --columns=-{column.name}"


def compact_date(column: Column, numbers: np.ndarray) -> str:
    """A note on whole numbers that look like dates, such as 20201231; "" for others."""
    if column.per != 1 or column.low is None or column.high is None or is_temporal(column.arrow):
        return ""
    if not (column.low >= FIRST_DATE and column.high <= LAST_DATE):
        return ""
    months, days = numbers // 100 % 100, numbers % 100
    if not ((months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)).all():
        return ""
    return (
        f"{column.name} is taken as whole numbers; dates such as {numbers[0]:.0f} are read as such "
        "in the form YYYY-MM-DD"
    )
