"""`Column`: one column of a table as elements of an example, and back.

    continuous   one element, the number itself
    integer      one element, whole numbers; given back as whole numbers
    discrete     one element, one of a few values; given back as the nearest of them
    date         one element, days or seconds; given back as dates or times of the same type
    category     one element a word, 1 for the word of the row and 0 for the others; given back as
                 the word with the largest element
    constant     one element, always the same; given back as it was

Numbers that are all multiples of a step (0.1, or 5, or an hour) are given back as such. Training
sees them with noise of that width, and the elements of categories with noise of half the width of
the gap, so that they have a density and stay apart. The values of discrete columns are spread over
their ranks (`ranks`); under units other than standardise they get noise of half the width of the
smallest gap.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .cells import Unclear, quoted
from .table_types import (
    data_type,
    data_unit,
    from_numbers,
    from_words,
    is_number,
    is_temporal,
    is_words,
    t,
    to_numbers,
    to_parts,
    to_words,
    with_clock,
)

KINDS = ("continuous", "integer", "discrete", "date", "category", "constant")
GAP = 0.5  # of the smallest gap between values that training fills with noise


@dataclass(frozen=True)
class Column:
    """What a column of a table holds.

    Attributes:
        name: The column's name; "column k" where the source has none.
        kind: One of `KINDS`.
        type: The Arrow type, as `str` writes it.
        low, high: The range in the data, as numbers; None for words.
        per: How many parts a unit has, where all numbers are whole multiples of a part: 1 for whole
            numbers, 10 for tenths; 0 where they are not.
        stride, origin: The numbers are origin + k stride, in parts.
        values: The values of a discrete column, ascending; of a constant one its value.
        words: The words of a category, in the order of their elements.
        style: Of dates and times in text tables: how they are written, in codes of strftime.
    """

    name: str
    kind: str
    type: str
    low: float | None = None
    high: float | None = None
    per: int = 0
    stride: int = 1
    origin: int = 0
    values: tuple[float, ...] = ()
    words: tuple[str, ...] = ()
    style: str = ""

    @property
    def size(self) -> int:
        """The number of elements."""
        return max(len(self.words), 1)

    @property
    def elements(self) -> tuple[str, ...]:
        """The names of the elements: the column's, or "colour=red" and so on."""
        if self.words:
            return tuple(f"{self.name}={word}" for word in self.words)
        return (self.name,)

    @property
    def unit(self) -> str:
        """The unit of durations, which are shown as numbers; "" for others, dates included."""
        return data_unit(self.arrow) if t.is_duration(self.arrow) else ""

    @cached_property
    def arrow(self) -> Any:
        """The Arrow type."""
        return data_type(self.type)

    @property
    def step(self) -> float:
        """The step of which all numbers are multiples, as numbers; 0 where there is none."""
        constant = self.kind == "constant" or self.words
        return self.stride / self.per if self.per and not constant else 0.0

    @property
    def widths(self) -> tuple[float, ...]:
        """The width of the noise that training adds to each element."""
        if self.kind == "constant":
            return (0.0,)
        if self.words:
            return (GAP,) * self.size
        if self.values:
            return (GAP * float(np.diff(self.values).min()),)
        return (self.step,)

    def encode(self, array: Any) -> np.ndarray:
        """Stored values as elements.

        Args:
            array: An Arrow array (N,) of the column's type or one like it.

        Returns:
            float64 (N, size), NaN where null.

        Raises:
            Unclear: The type is another one, a word is not one of the column's, a number is not
                whole in a column of whole numbers, or a date has a time of day in a column of
                dates.
        """
        if self.words:
            return self._encode_words(array)
        if not _alike(array.type, self.arrow):
            raise Unclear(f"holds values of type {array.type}; {self.needs} are needed", [])
        if t.is_date(self.arrow) and not t.is_date(array.type):
            timed = np.flatnonzero(with_clock(array))
            if len(timed):
                raise Unclear(
                    f"holds {array[int(timed[0])].as_py()}, with a time of day, and the column of "
                    "the training data holds whole dates. Write dates without a time",
                    timed[:3].tolist(),
                )
            array = pc.cast(array, pa.date32(), safe=False)
        elif t.is_timestamp(self.arrow) and t.is_date(array.type):
            array = pc.cast(array, pa.timestamp("s"))
        numbers = to_numbers(array)
        if t.is_integer(self.arrow):
            odd = np.flatnonzero(numbers != np.rint(np.nan_to_num(numbers, nan=0.0)))
            odd = odd[~np.isnan(numbers[odd])]
            if len(odd):
                raise Unclear(f"holds {numbers[odd[0]]:g}; whole numbers are needed", [int(odd[0])])
        return numbers[:, None]

    @property
    def needs(self) -> str:
        """What the column takes, in words."""
        if self.words:
            return f"the words {quoted(self.words)}" if len(self.words) > 1 else repr(self.words[0])
        if is_temporal(self.arrow):
            return f"dates or times of type {self.type}"
        return "whole numbers" if t.is_integer(self.arrow) else "numbers"

    def _encode_words(self, array: Any) -> np.ndarray:
        if not (is_words(array.type) or t.is_integer(array.type) or t.is_null(array.type)):
            raise Unclear(f"holds values of type {array.type}; {self.needs} are needed", [])
        cells = to_words(array)
        places = pc.index_in(cells, pa.array(self.words, pa.string()))
        unknown = pc.and_(pc.is_null(places), pc.is_valid(cells))
        if self.kind != "constant" and pc.any(unknown).as_py():
            rows = np.flatnonzero(unknown.to_numpy(zero_copy_only=False))
            found = pc.unique(cells.filter(unknown)).to_pylist()
            raise Unclear(
                f"holds {quoted(found)}; the words of the training data are "
                f"{', '.join(map(repr, self.words))}",
                rows[:3].tolist(),
            )
        where = pc.fill_null(places, -1).to_numpy(zero_copy_only=False)
        out = (where[:, None] == np.arange(self.size)).astype(np.float64)
        out[np.asarray(cells.is_null().to_numpy(zero_copy_only=False), dtype=bool)] = np.nan
        return out

    def outside(self, x: np.ndarray) -> np.ndarray:
        """Which numbers (N,) lie beyond the range of the data; none of words and few values.

        The range of numbers with a step reaches half a step beyond its ends.
        """
        if self.words or self.values or self.low is None or self.high is None:
            return np.zeros(len(x), dtype=bool)
        return (x < self.low - self.step / 2) | (x > self.high + self.step / 2)

    def settle(self, x: np.ndarray, bounded: bool) -> np.ndarray:
        """The elements of the stored values that elements stand for.

        Args:
            x: float64 (N, size), any numbers; NaN stays.
            bounded: Whether numbers beyond the range of the data are reflected at its ends.

        Returns:
            float64 (N, size): `encode` of `decode`.
        """
        if self.kind == "constant":
            value = 1.0 if self.words else self.values[0]
            return np.where(np.isnan(x), np.nan, value)
        if self.words:
            blank = np.isnan(x).any(1)
            best = np.where(np.isnan(x), -np.inf, x).argmax(1)
            out = (best[:, None] == np.arange(self.size)).astype(np.float64)
            out[blank] = np.nan
            return out
        numbers = x[:, 0]
        if self.values:
            found = np.asarray(self.values)[self._nearest(numbers)]
            return np.where(np.isnan(numbers), np.nan, found)[:, None]
        if bounded and self.low is not None and self.high is not None:
            numbers = _reflected(numbers, self.low - self.step / 2, self.high + self.step / 2)
        if self.per:
            whole = to_parts(numbers, self.per)
            parts = np.where(whole / self.per == numbers, whole, numbers * self.per)
            count = np.rint((parts - self.origin) / self.stride)
            numbers = (self.origin + self.stride * count) / self.per
        if bounded and self.low is not None and self.high is not None:
            numbers = np.clip(numbers, self.low, self.high)
        return to_numbers(from_numbers(numbers, self.arrow, self.per))[:, None]

    def _nearest(self, numbers: np.ndarray) -> np.ndarray:
        values = np.asarray(self.values)
        return np.searchsorted((values[1:] + values[:-1]) / 2, numbers)

    def decode(self, settled: np.ndarray) -> Any:
        """Elements that `settle` gave as an Arrow array of the column's type; NaN gives null."""
        if self.words:
            places = np.where(np.isnan(settled).any(1), -1, np.nan_to_num(settled).argmax(1))
            return from_words(places, self.words, self.arrow)
        return from_numbers(settled[:, 0], self.arrow, self.per)

    def exactly(self, x: np.ndarray) -> Any:
        """Elements as an Arrow array that holds them as they are, neither rounded nor reflected.

        Args:
            x: float64 (N, size); NaN gives null.

        Returns:
            The array: of the column's type where that holds all numbers, else of a wider integer, a
            finer unit of time, or float64. A category has the word of the largest element.
        """
        if self.words:
            return self.decode(self.settle(x, bounded=False))
        numbers = x[:, 0]
        for kind in (self.arrow, *finer(self.arrow)):
            for per in (self.per, 0):
                array = from_numbers(numbers, kind, per)
                if np.array_equal(to_numbers(array), numbers, equal_nan=True):
                    return array
        return pa.array(numbers, mask=np.isnan(numbers))

    def to_dict(self) -> dict[str, Any]:
        """The attributes that differ from their defaults, in a form that JSON can hold."""
        default = {f.name: f.default for f in fields(self)}
        found = {k: v for k, v in asdict(self).items() if v != default[k]}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Column":
        """The column that `to_dict` wrote."""
        found: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return Column(**found)


def _reflected(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Numbers reflected once at the ends of a range, and clipped where that does not suffice."""
    x = np.where(x < low, 2 * low - x, x)
    x = np.where(x > high, 2 * high - x, x)
    return np.clip(x, low, high)


def finer(kind: Any) -> list[Any]:
    """The types that hold more numbers than a type, in the same unit; float64 is not among them."""
    if t.is_integer(kind):
        return [pa.int64()]
    if t.is_timestamp(kind):
        return [pa.timestamp(unit, kind.tz) for unit in ("ms", "us", "ns")]
    if t.is_time(kind):
        return [pa.time32("ms"), pa.time64("us"), pa.time64("ns")]
    return [pa.duration(unit) for unit in ("ms", "us", "ns")] if t.is_duration(kind) else []


def _alike(got: Any, want: Any) -> bool:
    """Whether values of one type can stand for those of another one."""
    if t.is_null(got):
        return True
    if is_number(want):
        return is_number(got)
    if t.is_timestamp(want):
        zoned = t.is_timestamp(got) and (got.tz is None) == (want.tz is None)
        return zoned or (t.is_date(got) and want.tz is None)
    if t.is_date(want):
        return t.is_date(got) or (t.is_timestamp(got) and got.tz is None)
    return (t.is_time(want) and t.is_time(got)) or (t.is_duration(want) and t.is_duration(got))
