"""Array files: .npy, .npz, .csv and .parquet as tensors, with errors that name the file and the
row. No pickle is ever read.
"""

import csv
import math
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

MEMORY_MAP = 256 << 20  # .npy files above this many bytes are mapped, not read
VALUE_KEYS = (
    "images",
    "train_images",
    "data",
    "x",
    "X",
    "x_train",
    "X_train",
    "train_x",
    "samples",
    "values",
    "arr_0",
)
LABEL_KEYS = (
    "labels",
    "train_labels",
    "label",
    "y",
    "Y",
    "y_train",
    "Y_train",
    "train_y",
    "targets",
    "target",
    "classes",
)


class Raw(NamedTuple):
    """What a file holds: values (N, ...), labels (N,) or None, the columns' names or None."""

    values: Tensor
    labels: Tensor | None = None
    columns: list[str] | None = None


def to_tensor(array: np.ndarray, source: str) -> Tensor:
    """The array's memory as a tensor where torch can take it, else a copy; an InputError for
    anything but real numbers.
    """
    if array.dtype.kind not in "biufc":
        raise InputError(f"{source}: need an array of numbers; got dtype {array.dtype}")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    elif array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)  # torch has few operations on wider unsigned numbers
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if (
        any(step < 0 or step % array.itemsize for step in array.strides)
        or not array.flags.writeable
    ):
        array = array.copy()
    return torch.from_numpy(array)


def to_labels(array: np.ndarray, count: int) -> Tensor | None:
    """int64 (count,) of whole numbers or of names (numbered in their order); None where the array
    is no such thing.
    """
    if array.shape not in ((count,), (count, 1)):
        return None
    array = array.reshape(count)
    if array.dtype.kind in "US":
        array = np.unique(array, return_inverse=True)[1]
    if array.dtype.kind == "f" and not bool(np.all(array == np.round(array))):
        return None
    return torch.from_numpy(array.astype(np.int64)) if array.dtype.kind in "biuf" else None


def read_npy(path: Path) -> Raw:
    """The array; above 256 MB memory-mapped, copy on write, so that the file is never altered."""
    try:
        array = np.load(
            path, mmap_mode="c" if path.stat().st_size > MEMORY_MAP else None, allow_pickle=False
        )
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: not a readable .npy array of numbers ({error})") from error
    return Raw(to_tensor(array, str(path)))


def _label_keys(key: str) -> Iterator[str]:
    """Where the labels of the array `key` may be: first its own partner (x_test -> y_test), then
    the usual names.
    """
    for values, label in (
        ("images", "labels"),
        ("data", "labels"),
        ("X", "y"),
        ("X", "Y"),
        ("x", "y"),
    ):
        if values in key:
            yield key.replace(values, label)
    yield from LABEL_KEYS


def read_npz(path: Path, key: str | None = None) -> Raw:
    """The array `key`; without one the only array that is not labels, else the first of the usual
    names. Labels where their length fits.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            if not names:
                raise InputError(f"{path}: the archive holds no array")
            if key is None:
                candidates = [name for name in names if name not in LABEL_KEYS] or names
                usual = [name for name in VALUE_KEYS if name in candidates]
                if len(candidates) > 1 and not usual:
                    raise InputError(
                        f"{path}: holds the arrays {', '.join(names)}; say which with key="
                    )
                key = candidates[0] if len(candidates) == 1 else usual[0]
            elif key not in names:
                raise InputError(f"{path}: holds no array {key!r}; it holds {', '.join(names)}")
            array = archive[key]
            count = len(array) if array.ndim else 0
            found = (
                to_labels(archive[name], count)
                for name in _label_keys(key)
                if name in names and name != key
            )
            labels = next((x for x in found if x is not None), None)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a readable .npz archive of numbers ({error})") from error
    return Raw(to_tensor(array, f"{path}[{key}]"), labels)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _complain(path: Path, delimiter: str, columns: list[str] | None, width: int) -> None:
    """Go through the file cell by cell and raise for the first that is not a finite number, naming
    its line and column.
    """
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
    if table.shape[1] != len(first) or not bool(np.isfinite(table).all()):
        _complain(path, delimiter, columns, len(first))
    return Raw(to_tensor(table, str(path)), columns=columns)


def read_csv(path: Path) -> Raw:
    """A table of numbers, float64 (N, d), with or without a line of names; commas, semicolons or
    tabs. Names are numbered where empty.
    """
    try:
        return _table(path)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8 ({error})") from error


def read_parquet(path: Path) -> Raw:
    """A table of numeric columns, (N, d): float32 where every column is, else float64."""
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
    values = np.stack([c.to_numpy().astype(real) for c in table.columns], axis=1)
    return Raw(to_tensor(values, str(path)), columns=list(table.column_names))


READERS = {".npy": read_npy, ".npz": read_npz, ".csv": read_csv, ".parquet": read_parquet}
