"""Which columns of a table are taken, and their values by type with nulls for missing ones."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError
from ..values import did_you_mean
from .cells import MISSING, Cells, Marks, Unclear, read_cells
from .options import ReadOptions
from .table_sources import Source
from .table_types import is_number, is_temporal, is_words, t

_ADDED = re.compile(r"Unnamed: \d+(\.\d+)*|__index_level_\d+__")  # names that pandas gives


@dataclass(frozen=True)
class Loaded:
    """One column with its values.

    Attributes:
        place: Its position in the source.
        name: Its name.
        array: An Arrow array by type; null where a value is missing.
        absent: The words that stand for missing values, with their counts.
        style: Of dates in text tables: how they are written.
    """

    place: int
    name: str
    array: Any
    absent: Counter[str]
    style: str = ""


# -- which columns


def choose_columns(
    source: Source, options: ReadOptions, given: Sequence[str] = ()
) -> tuple[list[int], list[int]]:
    """The positions of the columns that are taken, and of those that are the condition.

    Args:
        source: The table; what is left out is added to its `left_out`.
        options: `columns` names those to take, or with a minus sign those to leave out.
        given: The names of the columns that are the condition.

    Raises:
        InputError: A name is unknown, two columns have one name, or it is not clear whether a
            column without a name holds row numbers.
    """
    labels = source.labels
    wanted = [entry for entry in options.columns or () if not _leaves_out(entry, labels)]
    unwanted = {entry[1:] for entry in options.columns or () if _leaves_out(entry, labels)}
    for entry in [*wanted, *sorted(unwanted), *given]:
        if entry in labels:
            continue
        raise InputError(
            f"{source.name}: there is no column {entry!r}{did_you_mean(entry, labels)} The columns "
            f"are {', '.join(labels)}"
        )
    chosen = [
        k
        for k, label in enumerate(labels)
        if (label in wanted or not wanted) and label not in unwanted and label not in given
    ]
    condition = [labels.index(name) for name in given]
    taken = [labels[k] for k in chosen] + [label for label in labels if label in given]
    twice = [label for label, count in Counter(taken).items() if count > 1]
    if twice:
        raise InputError(
            f"{source.name}: {', '.join(map(repr, twice))} names more than one column. Give every "
            "column a name of its own"
        )
    if source.named:
        chosen = [k for k in chosen if labels[k] in wanted or not _is_row_number(source, k)]
    if not chosen:
        besides = f" besides the condition {', '.join(given)}" if given else ""
        raise InputError(
            f"{source.name}: no column is left{besides}; the columns are {', '.join(labels)}"
        )
    dropped = [label for label in labels if label in unwanted or (wanted and label not in wanted)]
    dropped = [label for label in dropped if label not in given]
    if dropped:
        source.left_out.append(f"columns left out by --columns: {', '.join(dropped)}")
    return chosen, condition


def _leaves_out(entry: str, labels: Sequence[str]) -> bool:
    return entry.startswith("-") and entry not in labels


def _is_row_number(source: Source, k: int) -> bool:
    """Whether a column without a name counts the rows; such a column is left out and reported.

    Raises:
        InputError: It may hold row numbers of a larger table.
    """
    name, label = source.names[k], source.labels[k]
    if not (name == "" or _ADDED.fullmatch(name)):
        return False
    cells = source.column(k)
    if cells.null_count == len(cells):
        return False  # reported as blank
    known = f"{label!r}" if name else f"{label} has no name and"
    try:
        whole = pc.cast(cells, pa.int64()) if not t.is_boolean(cells.type) else None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        whole = None
    if whole is not None and not whole.null_count:
        numbers = whole.to_numpy(zero_copy_only=False)
        first = k == 0 or name != ""
        if first and numbers[0] in (0, 1) and bool((np.diff(numbers) == 1).all()):
            source.left_out.append(f"{known} counts the rows; it was left out")
            return True
        if first and len(np.unique(numbers)) == len(numbers):
            raise InputError(
                f"{source.name}: {known} holds a different whole number in every row, perhaps row "
                f"numbers of a larger table. Leave it out with --columns='-{label}' "
                f"(columns=['-{label}']), or give it a name"
            )
    if not name:
        source.notes.append(f"a column without a name is called {label}")
    return False


# -- marks of numbers


def find_marks(
    source: Source, chosen: Sequence[int], options: ReadOptions, settled: bool = False
) -> Marks:
    """The marks of numbers in a text table.

    A decimal comma is taken where the delimiter is another one and all cells of a column are
    numbers with commas, one of them at least not as in 1,234. A decimal point is not clear where
    all numbers with a point are as 1.234, and semicolons separate the cells or other numbers of the
    column have no point.

    Args:
        source: The table; the choice is added to its notes.
        chosen: The positions of the columns.
        options: Reading options.
        settled: Whether the source's own decimal mark is known, as that of a model's data.

    Raises:
        InputError: The options contradict each other, or the marks are not clear.
    """
    decimal, thousands = options.decimal, options.thousands
    if decimal not in (None, ".", ","):
        raise InputError(f"decimal must be a point or a comma; got {decimal!r}")
    if thousands is not None and thousands not in (",", ".", "'", " ", "_", "\u00a0", "\u202f"):
        raise InputError(
            f"thousands must be a comma, point, apostrophe, space or underscore; got {thousands!r}"
        )
    if decimal is None and thousands is not None:
        decimal = "," if thousands == "." else "."
    if decimal is None:
        decimal = _decimal(source, chosen, settled)
        if decimal == ",":
            source.notes.append("the decimal mark is a comma")
    if decimal == thousands:
        raise InputError(
            f"decimal and thousands must be different marks; both are {decimal!r}. Give --decimal "
            "and --thousands (decimal=, thousands=)"
        )
    return Marks(decimal, thousands)


def _decimal(source: Source, chosen: Sequence[int], settled: bool) -> str:
    """The decimal mark, read off the cells; the source's own where they show none."""
    if not source.text or (source.delimiter, source.marks.decimal) == (",", "."):
        return source.marks.decimal
    commas, points = list[int](), list[int]()
    unclear: dict[str, list[int]] = {",": [], ".": []}
    for k in chosen:
        cells = source.column(k).drop_null()
        for mark, found in ((",", commas), (".", points)):
            with_mark = cells.filter(pc.match_substring(cells, mark))
            if not len(with_mark) or not _all_match(cells, Marks(mark).pattern):
                continue
            grouped = _all_match(with_mark, rf"^[+-]?[1-9]\d{{0,2}}(\{mark}\d{{3}})+$")
            plain = mark == "." and _has_fixed_places(source, cells)
            (unclear[mark] if grouped and not plain else found).append(k)
    if commas and points:
        a, b = source.labels[commas[0]], source.labels[points[0]]
        raise InputError(
            f"{source.name}: column {a!r} has decimal commas and column {b!r} decimal points. Give "
            "--decimal , or --decimal . (decimal=), and leave out or correct the other columns"
        )
    if unclear[","] and not commas and source.marks.decimal != ",":
        raise _unclear_mark(source, unclear[","][0], ",")
    known = settled or source.marks.decimal != "."
    if unclear["."] and not points and not commas and not known:
        raise _unclear_mark(source, unclear["."][0], ".")
    return "," if commas else "." if points else source.marks.decimal


def _has_fixed_places(source: Source, cells: Any) -> bool:
    """Whether points before three digits are decimal, as in a column of three decimal places."""
    if source.delimiter == ";":  # of countries where the decimal mark is a comma
        return False
    return source.delimiter == " " or not bool(
        pc.any(pc.match_substring_regex(cells, r"^[+-]?\d+$")).as_py()
    )


def _unclear_mark(source: Source, k: int, mark: str) -> InputError:
    """The error about a mark that may be decimal or separate thousands."""
    example = next(c for c in source.column(k).drop_null().to_pylist() if mark in c)
    word = {",": "comma", ".": "point"}[mark]
    return InputError(
        f"{source.name}: the {word} in {example!r} of column {source.labels[k]!r} may be a decimal "
        f"mark or separate thousands. Give --decimal {mark} (decimal={mark!r}) or --thousands "
        f"{mark} (thousands={mark!r})"
    )


def _all_match(cells: Any, pattern: str) -> bool:
    rest = cells.filter(pc.invert(pc.match_substring_regex(cells, pattern)))
    return bool(pc.all(pc.is_in(pc.utf8_lower(rest), pa.array(MISSING))).as_py() is not False)


# -- values


def load_column(source: Source, k: int) -> Loaded:
    """The values of column k.

    Args:
        source: The table; notes on the column are added to its notes.
        k: The position of the column.

    Raises:
        InputError: The column holds neither numbers nor dates nor words, or an infinite number.
    """
    cells, name = source.column(k), source.labels[k]
    if not source.text:
        return Loaded(k, name, load_typed(source, k), Counter())
    try:
        found = read_cells(cells, source.marks)
    except Unclear as error:
        raise source.error(k, f"{error}{leave_out(name)}", error.rows) from error
    if found.note:
        source.notes.append(f"{name}: {found.note}")
    return Loaded(k, name, finite(source, k, found), found.absent, found.style)


def leave_out(name: str) -> str:
    """Advice to leave a column out."""
    return f". Or leave the column out with --columns='-{name}' (columns=['-{name}'])"


def finite(source: Source, k: int, found: Cells) -> Any:
    """The array of a column of text that was read.

    Raises:
        InputError: A number is infinite; the message quotes the cell.
    """
    array = found.array
    if t.is_floating(array.type):
        infinite = np.flatnonzero(np.isinf(array.to_numpy(zero_copy_only=False)))
        large = np.flatnonzero(np.abs(array.to_numpy(zero_copy_only=False)) > 2.0**53)
        if len(infinite):
            row = int(infinite[0])
            cell = source.column(k)[row].as_py()
            raise source.error(
                k, f"{cell!r} is not finite; every number must be. Drop or correct such rows", [row]
            )
        for row in large.tolist():
            cell = source.column(k)[row].as_py()
            if cell.lstrip("+-").isdecimal() and int(cell) != int(array[row].as_py()):
                raise source.error(
                    k,
                    f"{cell} has more digits than float64 holds (2^53). Subtract an offset, or use "
                    f"a coarser unit, so that it is smaller{leave_out(source.labels[k])}",
                    [row],
                )
    return array


def load_typed(source: Source, k: int) -> Any:
    """The array of a typed column, null for NaN.

    Raises:
        InputError: Its type is no number, date or word, or a number is infinite.
    """
    array, name = source.column(k), source.labels[k]
    kind = array.type
    if t.is_dictionary(kind) and not (is_words(kind.value_type) or is_number(kind.value_type)):
        kind = pa.binary()
    if not (is_words(kind) or is_number(kind) or is_temporal(kind) or t.is_null(kind)):
        raise source.error(
            k,
            f"values of type {array.type} are not supported; numbers, dates, times and words are"
            f"{leave_out(name)}",
        )
    if not t.is_floating(kind):
        return array
    numbers = np.asarray(pc.fill_null(array, 0).to_numpy(zero_copy_only=False))
    infinite = np.flatnonzero(np.isinf(numbers))
    if len(infinite):
        row = int(infinite[0])
        raise source.error(
            k,
            f"holds {numbers[row]}; every number must be finite. Drop or correct such rows",
            [row],
        )
    nan = np.isnan(numbers)
    if nan.any():
        array = pc.if_else(pa.array(nan), pa.scalar(None, kind), array)
    return array
