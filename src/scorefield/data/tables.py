"""Tables: .csv and .parquet as tensors, with errors that name the file, the line and the column."""

import csv
import math
import warnings
from pathlib import Path

import numpy as np

from ..errors import InputError
from .files import Raw, to_tensor

EXACT = 1 << 53  # whole numbers up to here are exact in float64


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _rounded(cell: str, value: float) -> bool:
    """Whether a cell that is a whole number is not exactly `value`."""
    digits = cell.strip().lstrip("+-")
    return digits.isdecimal() and int(digits) != abs(value)


def _complain(path: Path, delimiter: str, columns: list[str] | None, width: int) -> None:
    """Raise for the first cell that is not a finite number, or that float64 would round."""
    with path.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.reader(handle, delimiter=delimiter)
        rows = (row for row in reader if len(row) > 1 or any(cell.strip() for cell in row))
        if columns:
            next(rows)
        for row in rows:
            where = f"{path}: line {reader.line_num}"
            if len(row) != width:
                raise InputError(
                    f"{where} has {len(row)} cells, the first line has {width}; every line needs "
                    "the same"
                )
            for k, cell in enumerate(row):
                name = f"column {k + 1}" + (f" ({columns[k]})" if columns else "")
                value = _number(cell)
                if value is None:
                    raise InputError(
                        f"{where}, {name}: {cell!r} is not a number; only numeric columns are taken"
                    )
                if abs(value) > EXACT and _rounded(cell, value):
                    raise InputError(
                        f"{where}, {name}: {cell.strip()} has more digits than float64 holds "
                        "(2^53). Subtract an offset, or use a coarser unit, so that it is smaller"
                    )
                if not math.isfinite(value):
                    raise InputError(
                        f"{where}, {name} holds {cell.strip()}; every value must be finite. Drop "
                        "or fill such rows"
                    )


def _table(path: Path) -> Raw:
    with path.open(newline="", encoding="utf-8-sig") as handle:
        top = next((line for line in handle if line.strip()), "")
    delimiter = max(",;\t", key=top.count)
    first = next(csv.reader([top], delimiter=delimiter), [])
    if not first:
        raise InputError(f"{path}: the file is empty; a table needs at least one line of numbers")
    named = any(_number(cell) is None for cell in first)
    columns = [cell.strip() or f"column {k + 1}" for k, cell in enumerate(first)] if named else None
    try:
        with path.open(encoding="utf-8-sig") as handle, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of no data: said below
            lines = (line for line in handle if line.strip())
            table = np.loadtxt(
                lines,
                delimiter=delimiter,
                ndmin=2,
                comments=None,
                quotechar='"',
                skiprows=int(named),
            )
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        _complain(path, delimiter, columns, len(first))
        raise InputError(f"{path}: not a table of numbers ({error})") from error
    if table.size == 0:
        raise InputError(f"{path}: holds a line of names but no line of numbers")
    suspect = not bool(np.isfinite(table).all()) or bool((np.abs(table) > EXACT).any())
    if table.shape[1] != len(first) or suspect:
        _complain(path, delimiter, columns, len(first))
    return Raw(to_tensor(table, str(path)), columns=columns)


def read_csv(path: Path) -> Raw:
    """A table of numbers, float64 (N, d), separated by commas, semicolons or tabs.

    The first line may hold names; empty ones become "column k".

    Raises:
        InputError: A cell is not a finite number, or lines have different lengths.
    """
    try:
        return _table(path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8 ({error})") from error


def read_parquet(path: Path) -> Raw:
    """A table of numeric columns, (N, d): float32 where every column is, else float64.

    Raises:
        InputError: The file is not readable, a value is missing, or a column is not numeric.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(
            f"{path}: reading parquet needs pyarrow; install it with pip install "
            "'scorefield[tables]'"
        ) from error
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable parquet file ({error})") from error
    if table.num_rows == 0 or table.num_columns == 0:
        raise InputError(
            f"{path}: the table is empty, {table.num_rows} rows and {table.num_columns} columns"
        )
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if not (
            pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        ):
            raise InputError(
                f"{path}: column {name!r} has type {kind}; only numeric columns are taken. Drop "
                "or encode it"
            )
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise InputError(
                f"{path}: row {row} (from 0), column {name!r} is missing; every value must be "
                "there. Drop or fill such rows"
            )
    real = np.float32 if all(pa.types.is_float32(c.type) for c in table.columns) else np.float64
    values = np.empty((table.num_rows, table.num_columns), real)
    for k, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        numbers = column.to_numpy()
        values[:, k] = numbers
        large = numbers.dtype.kind in "iu" and bool((np.abs(values[:, k]) > EXACT).any())
        if large and bool((values[:, k].astype(object) != numbers.astype(object)).any()):
            raise InputError(
                f"{path}: column {name!r} holds whole numbers with more digits than float64 holds "
                "(2^53). Subtract an offset, or use a coarser unit, so that they are smaller"
            )
    return Raw(to_tensor(values, str(path)), columns=list(table.column_names))
