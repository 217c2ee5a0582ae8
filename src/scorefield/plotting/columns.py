"""Columns of tables: what a column holds, its values for drawing, and how far two sets differ.

A table is a mapping from names to arrays (N,), an Arrow table, or an array (N, d) with names. Words
are strings, dates datetime64; missing values are NaN, NaT or None.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..values import by_text, texts
from .files import Array, as_array

KINDS = ("continuous", "integer", "discrete", "category", "date", "constant")
FEW_VALUES = 12  # a column of floats with no more distinct values than this is discrete
FEW_INTEGERS = 25  # integers over a range up to this have a bar each
DAY = np.timedelta64(86_400_000_000, "us")


class ColumnLike(Protocol):
    """What a description of a column has: `name` and `kind`; `values` and `unit` are optional."""

    @property
    def name(self) -> str:
        """The column's name."""

    @property
    def kind(self) -> str:
        """One of `KINDS`."""


@dataclass(frozen=True)
class TableColumn:
    """What a column holds.

    Attributes:
        name: The column's name.
        kind: "continuous", "integer", "discrete" (few values), "category" (words), "date" or
            "constant".
        values: The values of a discrete column or the words of a category, in their order; empty
            for those that occur.
        unit: The unit of its values, for labels; "" for none.
    """

    name: str
    kind: str
    values: tuple[Any, ...] = ()
    unit: str = ""

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers."""
        return self.kind in ("continuous", "integer", "discrete")


@dataclass(frozen=True)
class Pair:
    """One column of the samples and of the data.

    Attributes:
        column: What the column holds.
        samples: Its values in the samples, without the missing ones.
        data: Its values in the data, without the missing ones; None where no data are drawn.
        missing: Fractions of missing values in samples and data.
    """

    column: TableColumn
    samples: Array
    data: Array | None
    missing: tuple[float, float]

    @property
    def pooled(self) -> Array:
        """All values."""
        return self.samples if self.data is None else np.concatenate([self.data, self.samples])

    @property
    def distance(self) -> float:
        """How far samples and data differ, from 0 to 1; NaN without data.

        It is the largest difference of the two distribution functions, and for words half the sum
        of the absolute differences of their fractions.
        """
        if self.data is None or not len(self.data) or not len(self.samples):
            return float("nan")
        if self.column.kind == "category":
            words = sorted(set(self.data) | set(self.samples))
            gaps = [abs((self.data == w).mean() - (self.samples == w).mean()) for w in words]
            return float(sum(gaps) / 2)
        every = np.sort(self.pooled)
        below = [
            np.searchsorted(np.sort(part), every, side="right") / len(part)
            for part in (self.data, self.samples)
        ]
        return float(np.abs(below[0] - below[1]).max())


def _values(column: Any, name: str) -> Array:
    """A column as float64, datetime64[us], or an object array of strings and None."""
    if isinstance(column, Tensor):
        column = column.detach().cpu().numpy()
    array = np.asarray(column)
    if array.ndim != 1:
        raise InputError(f"column {name!r} must be one row of values; got shape {array.shape}")
    if array.dtype.kind == "M":
        return array.astype("datetime64[us]")
    if array.dtype.kind in "iuf":
        return array.astype(np.float64)
    if array.dtype.kind == "O" and all(
        v is None or (isinstance(v, int | float | np.number) and not isinstance(v, bool))
        for v in array
    ):
        return np.array([np.nan if v is None else float(v) for v in array])
    if array.dtype.kind == "O" and all(v is None or isinstance(v, date) for v in array):
        return array.astype("datetime64[us]")
    if array.dtype.kind in "bUSO":
        words = [None if v is None or v != v else _word(v) for v in array.tolist()]
        return np.array(words, dtype=object)
    raise InputError(f"column {name!r} must hold numbers, words or dates; got {array.dtype}")


def _word(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _arrow(column: Any) -> Any:
    """An Arrow column as an array."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_time(kind):  # of a day: that of 1970-01-01, which the ticks show as 23:59
        return column.cast(pa.time64("us")).cast(pa.int64()).to_numpy().astype("datetime64[us]")
    if pa.types.is_duration(kind):
        return column.cast(pa.duration("us")).to_numpy() / np.timedelta64(1, "s")
    if pa.types.is_temporal(kind):
        return column.cast(pa.timestamp("us")).to_numpy()
    if pa.types.is_decimal(kind) or pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return column.cast(pa.float64()).to_numpy()
    return np.array(column.to_pylist(), dtype=object)


def read_table(table: Any, what: str, names: Sequence[str] | None = None) -> dict[str, Array]:
    """Read a table into one array a column.

    Args:
        table: A mapping from names to arrays (N,), an Arrow table, or an array (N, d).
        what: "samples" or "data", for messages.
        names: Names of the columns of an array; None: "column 0" and so on.

    Returns:
        name -> float64, datetime64[us], or objects: strings, and None for missing words.

    Raises:
        InputError: If the table is empty, or its columns have different lengths or types that
            cannot be drawn.
    """
    if isinstance(table, Mapping):
        found = {name: _values(column, name) for name, column in by_text(table, what).items()}
    elif hasattr(table, "column_names") and hasattr(table, "schema"):
        columns = zip(table.column_names, table.columns, strict=True)
        found = {name: _values(_arrow(column), name) for name, column in columns}
    else:
        array = as_array(table, what)
        array = array[:, None] if array.ndim == 1 else array
        names = None if names is None else texts(names, "names")
        if array.ndim != 2:
            raise InputError(f"{what} must be a table (N, d); got shape {array.shape}")
        if names is not None and len(names) != array.shape[1]:
            raise InputError(f"names must be one a column, {array.shape[1]}; got {len(names)}")
        labels = names or [f"column {n}" for n in range(array.shape[1])]
        found = {name: _values(array[:, n], name) for n, name in enumerate(labels)}
    lengths = {len(column) for column in found.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise InputError(
            f"{what} must have columns of one length, at least 1; got lengths {sorted(lengths)}"
        )
    return found


def _present(values: Array) -> Array:
    """The values that are not missing."""
    if values.dtype.kind == "O":
        return values[np.array([v is not None for v in values], dtype=bool)]
    return values[~np.isnat(values)] if values.dtype.kind == "M" else values[np.isfinite(values)]


def guess_kind(values: Array) -> str:
    """The kind of a column by its values (without missing ones)."""
    if values.dtype.kind == "O":
        return "constant" if len(set(values)) <= 1 else "category"
    distinct = np.unique(values)
    if len(distinct) <= 1:
        return "constant"
    if values.dtype.kind == "M":
        return "date"
    if (values == values.round()).all():
        return "integer"
    return "discrete" if len(distinct) <= min(FEW_VALUES, len(values) / 4) else "continuous"


def _describe(given: ColumnLike | None, name: str, samples: Array, data: Array | None) -> Any:
    """The column's description: as given, where its values allow it, else guessed."""
    guessed = guess_kind(samples if data is None or not len(data) else data)
    varies = guess_kind(samples) != "constant"
    if guessed == "constant" and varies:
        guessed = guess_kind(samples)
    if given is None:
        return TableColumn(name, guessed)
    if given.kind not in KINDS:
        raise InputError(f"the kind of a column is one of {', '.join(KINDS)}; got {given.kind!r}")
    kind = given.kind
    held = samples.dtype.kind
    fits = (held == "O") == (kind == "category") and (held == "M") == (kind == "date")
    if (kind == "constant" and varies) or not fits:
        kind = guessed
    if guessed == "constant" and not varies:
        kind = "constant"
    values = getattr(given, "values", None) or getattr(given, "words", None) or ()
    unit = "" if held == "M" else getattr(given, "unit", None) or ""
    return TableColumn(name, kind, tuple(values), unit)


def pair_columns(
    samples: Mapping[str, Array],
    data: Mapping[str, Array] | None,
    columns: Iterable[ColumnLike] | None,
) -> list[Pair]:
    """Put the columns of samples and data together, in the samples' order.

    Raises:
        InputError: If the data lack a column of the samples, or its type is another one.
    """
    given = {column.name: column for column in columns or ()}
    pairs = []
    for name, values in samples.items():
        other = None if data is None else data.get(name)
        if data is not None and other is None:
            raise InputError(
                f"the data have no column {name!r}; their columns are {', '.join(data)}"
            )
        if other is not None and other.dtype.kind != values.dtype.kind:
            raise InputError(
                f"column {name!r} holds {_type(values)} in the samples and {_type(other)} in the "
                "data"
            )
        mine = _present(values)
        theirs = None if other is None else _present(other)
        absent = 0.0
        if other is not None and theirs is not None:
            absent = 1 - len(theirs) / len(other)
        blanks = 1 - len(mine) / len(values), absent
        pairs.append(Pair(_describe(given.get(name), name, mine, theirs), mine, theirs, blanks))
    return pairs


def _type(values: Array) -> str:
    return {"O": "words", "M": "dates"}.get(values.dtype.kind, "numbers")


def as_numbers(values: Array, words: Sequence[str] = ()) -> Array:
    """Values as float64 with NaN for missing ones: dates as days since 1970, words by position."""
    if values.dtype.kind == "M":
        days = values.astype("datetime64[us]").astype(np.float64) / DAY.astype(np.float64)
        return np.where(np.isnat(values), np.nan, days)
    if values.dtype.kind == "O":
        place = {word: float(n) for n, word in enumerate(words)}
        return np.array([place.get(v, np.nan) for v in values])
    return values


def words_of(pair: Pair) -> list[str]:
    """The words of a category: in their given order, else the most frequent first."""
    counts: dict[str, float] = {str(word): 0 for word in pair.column.values}
    for part in (pair.samples, pair.data):
        for word in () if part is None else part:
            counts[word] = counts.get(word, 0) + 1 / len(part)  # type: ignore[arg-type]
    if pair.column.values:
        return list(counts)
    return sorted(counts, key=lambda word: -counts[word])
