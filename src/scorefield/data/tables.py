"""`open_table`: a table as a Dataset of vectors, with a `TableForm` that gives tables back."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from ..errors import InputError
from ..values import did_you_mean
from .cells import Unclear, quoted
from .choose import choose
from .column_kinds import compact_date, describe, frequent, row_number, summary
from .columns import Column
from .dataset import Dataset, Reading, digest
from .form import form_to_dict
from .options import ReadOptions
from .table_conditions import condition_columns, split_given
from .table_form import TableForm
from .table_reading import (
    Loaded,
    choose_columns,
    find_marks,
    leave_out,
    load_column,
)
from .table_sources import TABLE_SUFFIXES, Source, is_table, read_source
from .table_types import is_words, to_numbers, to_words

__all__ = ["TABLE_SUFFIXES", "is_table", "open_table"]
SHOWN_ROWS = 3


def open_table(source: Any, name: str, options: ReadOptions) -> Dataset:
    """Read a table.

    Args:
        source: The path of a text table (.csv, .tsv, .txt, .dat), a Parquet or an Arrow file
            (.feather, .arrow); an Arrow table, a data frame of pandas or polars, a mapping from
            names to arrays, an array of NumPy with named fields.
        name: The source, for messages.
        options: Reading options; those of tables are used.

    Returns:
        The rows as vectors, float32 where every number of the source is, else float64; with the
        form that gives tables back, and what was taken.

    Raises:
        InputError: The table cannot be read as it is; the message gives line and column, and the
            option that decides what is not clear.
    """
    read = read_source(Path(source) if isinstance(source, str) else source, name, options)
    condition = condition_columns(read, options)
    chosen, given = choose_columns(read, options, condition)
    if read.text:
        read.marks = find_marks(read, sorted([*chosen, *given]), options)
        if not read.named:
            last = f" to {len(read.names)}" if len(read.names) > 1 else ""
            read.notes.append(f"there is no line of names; columns are called column 1{last}")
    everything = [load_column(read, k) for k in sorted([*chosen, *given])]
    loaded = _without_blank_columns(read, everything, condition)
    kept, loaded = _without_blank_rows(read, loaded)
    missing = {c.name: int(c.array.null_count) for c in loaded if c.array.null_count}
    total = int(kept[-1]) + 1 if len(kept) else 0  # blank rows at the end are no items
    kept, loaded = _complete(read, kept, loaded, options.missing)
    loaded, found = split_given(read, loaded, options.condition, condition)
    columns = [_describe(read, c, options.discrete) for c in loaded]
    _check_discrete(read, columns, options.discrete)
    form = TableForm.of(
        tuple(columns),
        named=read.named,
        bounds=options.bounds,
        format=read.format,
        delimiter=read.delimiter,
        decimal=read.marks.decimal,
        given=None if found is None else found.given,
    )
    parts = [column.encode(c.array) for column, c in zip(columns, loaded, strict=True)]
    for note in (row_number, compact_date, frequent):
        read.notes += filter(None, map(note, columns, (part[:, 0] for part in parts)))
    read.notes += [*summary(columns), *([] if found is None else found.notes)]
    values = torch.from_numpy(np.concatenate(parts, 1)).to(getattr(torch, form.dtype))
    index = choose(len(values), options.count, options.seed, name)
    if index is not None:
        values, kept = values[index], kept[index.numpy()]
        found = None if found is None else found.take(index)
    dataset = Dataset(
        values,
        name,
        columns=form.element_names,
        description={
            "source": name,
            "count": len(values),
            "shape": list(form.event_shape),
            "dtype": form.dtype,
            "image": False,
            "image_because": "rows of a table",
            "sha256": digest(values),
            "form": form_to_dict(form),
        },
        form=form,
        reading=_reading(read, columns, missing),
        source_rows=None if len(kept) == read.table.num_rows else torch.from_numpy(kept),
        source_count=total,
    )
    return dataset if found is None else found.attach(dataset)


def _without_blank_columns(
    read: Source, loaded: list[Loaded], condition: Sequence[str]
) -> list[Loaded]:
    """The columns that hold something; blank ones are reported, and refused as a condition."""
    blank = [c.name for c in loaded if c.array.null_count == len(c.array)]
    if len(blank) == len(loaded) or set(blank) & set(condition):
        raise InputError(f"{read.name}: every cell of {', '.join(blank)} is blank")
    if blank:
        read.left_out.append(f"columns that are blank in every row: {', '.join(blank)}")
    return [c for c in loaded if c.name not in blank]


def _without_blank_rows(read: Source, loaded: list[Loaded]) -> tuple[np.ndarray, list[Loaded]]:
    """The rows of a text table with a cell that is not blank, with their numbers.

    Others, as spreadsheets append them, are reported. A table of one column keeps them: they are
    missing values.
    """
    rows = np.arange(read.table.num_rows)
    if not read.text or read.table.num_columns == 1:
        return rows, loaded
    blank = np.logical_and.reduce([_nulls(read.column(k)) for k in range(len(read.names))])
    if not blank.any():
        return rows, loaded
    places = read.places(np.flatnonzero(blank)[:SHOWN_ROWS].tolist())
    more = ", ..." if blank.sum() > SHOWN_ROWS else ""
    read.left_out.append(f"rows in which every cell is blank: {int(blank.sum())} ({places}{more})")
    return rows[~blank], [_filtered(c, ~blank) for c in loaded]


def _nulls(array: Any) -> np.ndarray:
    return np.asarray(array.is_null().to_numpy(zero_copy_only=False), dtype=bool)


def _filtered(column: Loaded, keep: np.ndarray) -> Loaded:
    return replace(column, array=column.array.filter(pa.array(keep)))


def _complete(
    read: Source, rows: np.ndarray, loaded: list[Loaded], missing: str | None
) -> tuple[np.ndarray, list[Loaded]]:
    """Rows without missing values, by the option `missing`."""
    blank = [_nulls(c.array) for c in loaded]
    some = np.logical_or.reduce(blank)
    if not some.any():
        return rows, loaded
    if missing is None:
        raise InputError(_missing(read, rows, loaded, blank))
    if missing == "drop":
        if some.all():
            raise InputError(
                f"{read.name}: every row has a missing value, so that --missing drop leaves none. "
                "Give --missing median (missing='median'), or leave columns out with --columns"
            )
        read.left_out.append(f"{int(some.sum())} of {len(rows)} rows, which have missing values")
        return rows[~some], [_filtered(c, ~some) for c in loaded]
    filled = [c if not m.any() else _filled(read, c, m) for c, m in zip(loaded, blank, strict=True)]
    return rows, filled


def _missing(read: Source, rows: np.ndarray, loaded: list[Loaded], blank: list[np.ndarray]) -> str:
    """The error about missing values."""
    found = []
    for c, where in zip(loaded, blank, strict=True):
        if where.any():
            places = read.places(rows[np.flatnonzero(where)[:SHOWN_ROWS]].tolist())
            more = ", ..." if where.sum() > SHOWN_ROWS else ""
            words = f"{quoted(c.absent)}; " if c.absent else ""
            found.append(f"{_label(read, c)}: {int(where.sum())} ({words}{places}{more})")
    affected = int(np.logical_or.reduce(blank).sum())
    shown = "; ".join(found[:6]) + (f"; and {len(found) - 6} columns more" * (len(found) > 6))
    return (
        f"{read.name}: values are missing in {affected} of {len(rows)} rows: {shown}. Leave these "
        "rows out with --missing drop (missing='drop'), fill in the column's median or most "
        "frequent word with --missing median (missing='median'), or leave columns out with "
        f"--columns='-{_first_missing(loaded, blank)}'"
    )


def _label(read: Source, column: Loaded) -> str:
    """A column for messages, with its number in text tables."""
    named = read.text and read.names[column.place]
    return f"column {column.place + 1} ({column.name})" if named else column.name


def _first_missing(loaded: list[Loaded], blank: list[np.ndarray]) -> str:
    return next(c.name for c, where in zip(loaded, blank, strict=True) if where.any())


def _filled(read: Source, column: Loaded, blank: np.ndarray) -> Loaded:
    """A column with its (lower) median, or its most frequent word, where values are missing."""
    present = column.array.drop_null()
    if is_words(present.type):
        counts = pc.value_counts(to_words(present)).to_pylist()
        best = min(counts, key=lambda c: (-c["counts"], c["values"]))["values"]
        place = to_words(present).to_pylist().index(best)
    else:
        numbers = to_numbers(present)
        place = int(np.argsort(numbers, kind="stable")[(len(numbers) - 1) // 2])
    scalar = present[place]
    count, what = int(blank.sum()), scalar.as_py()
    values = "value" if count == 1 else "values"
    read.notes.append(f"{count} missing {values} of {column.name} filled in with {what}")
    first = len(column.array)
    where = np.where(blank, first, np.arange(first))
    both = pa.concat_arrays([column.array, present.slice(place, 1)])
    return replace(column, array=both.take(pa.array(where)))


def _describe(read: Source, column: Loaded, discrete: Sequence[str] | None) -> Column:
    chosen = None if discrete is None else column.name in discrete
    try:
        return describe(column.name, column.array, column.style, chosen)
    except Unclear as error:
        advice = "" if "--columns" in str(error) else leave_out(column.name)
        raise read.error(column.place, f"{error}{advice}", error.rows) from error


def _check_discrete(
    read: Source, columns: Sequence[Column], discrete: Sequence[str] | None
) -> None:
    names = [column.name for column in columns]
    for entry in discrete or ():
        if entry not in names and entry != "none":
            raise InputError(
                f"{read.name}: discrete names {entry!r}, which is no column that is taken"
                f"{did_you_mean(entry, names)} The columns are {', '.join(names)}"
            )


def _reading(read: Source, columns: Sequence[Column], missing: dict[str, int]) -> Reading:
    lows = [c.low for c in columns if c.low is not None and not c.style and c.kind != "date"]
    highs = [c.high for c in columns if c.high is not None and not c.style and c.kind != "date"]
    types = list(dict.fromkeys(column.type for column in columns))
    return Reading(
        format=read.format,
        stored_dtype=", ".join(types),
        low=min(lows) if lows else None,
        high=max(highs) if highs else None,
        names=tuple(c.name for c in columns) if read.named else None,
        missing=missing,
        left_out=tuple(read.left_out),
        notes=tuple(read.notes),
    )
