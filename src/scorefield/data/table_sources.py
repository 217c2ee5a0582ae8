"""`Source`: a table as it was read, before it is known what its columns hold.

Text files become strings; Parquet and Arrow files, Arrow tables, data frames of pandas and polars,
and mappings from names to arrays keep their types.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from ..errors import InputError
from ..values import by_text
from .cells import Marks, quoted
from .options import ReadOptions

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".dat")
ARROW_SUFFIXES = (".parquet", ".pq", ".feather", ".arrow")
TABLE_SUFFIXES = TEXT_SUFFIXES + ARROW_SUFFIXES


@dataclass
class Source:
    """A table as it was read.

    Attributes:
        name: The source, for messages.
        table: An Arrow table; its columns are addressed by position.
        names: The names as they are in the source; "" for a column without one.
        named: Whether the source has names.
        text: Whether every column holds strings that may be numbers, dates or words.
        format: "csv", "tsv", "txt", "parquet", "feather", "table" and so on.
        delimiter: Of text tables.
        marks: Marks of numbers in text tables.
        notes, left_out: Sentences for the report.
        lines: Of text tables: yields the line number of every row.
    """

    name: str
    table: Any
    names: tuple[str, ...]
    named: bool = True
    text: bool = False
    format: str = "table"
    delimiter: str = ","
    marks: Marks = field(default_factory=Marks)
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    lines: Callable[[], Iterator[int]] | None = None

    @cached_property
    def labels(self) -> list[str]:
        """A name for every column: its own, or "column k" counted from 1."""
        return [name or f"column {k + 1}" for k, name in enumerate(self.names)]

    def column(self, k: int) -> Any:
        """Column k as one Arrow array."""
        column = self.table.column(k)
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column

    def places(self, rows: Iterable[int]) -> str:
        """Where rows are, for messages: "line 3" of a text file, or "row 0 (from 0)"."""
        wanted = sorted(set(rows))
        plural = "s" if len(wanted) > 1 else ""
        if self.lines is None or not wanted:
            return f"row{plural} {', '.join(map(str, wanted))} (from 0)" if wanted else ""
        found = []
        for row, line in enumerate(self.lines()):
            if row in wanted:
                found.append(str(line))
            if row >= wanted[-1]:
                break
        return f"line{plural} {', '.join(found)}"

    def error(self, k: int, message: str, rows: Sequence[int] = ()) -> InputError:
        """The error about column k, with the places of rows."""
        label = f" ({self.names[k]})" if self.names[k] else ""
        where = f"column {k + 1}{label}" if self.text else f"column {self.labels[k]!r}"
        place = f"{self.places(rows)}, " if len(rows) else ""
        return InputError(f"{self.name}: {place}{where}: {message}")


def is_table(source: Any) -> bool:
    """Whether an object in memory is a table: Arrow, a data frame, a mapping, records of NumPy."""
    if isinstance(source, (pa.Table, pa.RecordBatch, Mapping)):
        return True
    if isinstance(source, np.ndarray):
        return source.dtype.names is not None
    return hasattr(source, "__arrow_c_stream__") or hasattr(source, "__dataframe__")


def read_source(
    source: Any,
    name: str,
    options: ReadOptions,
    known: Sequence[str] | None = None,
    usual: str | None = None,
) -> Source:
    """Read a table.

    Args:
        source: A path, or an object for which `is_table` holds.
        name: The source, for messages.
        options: Reading options.
        known: Names that are looked for in the first line of a text file.
        usual: The delimiter of text to take where it fits.

    Returns:
        The table as it was read.

    Raises:
        InputError: The source is not a readable table, or has no rows.
    """
    if isinstance(source, Path):
        if source.suffix.lower() not in ARROW_SUFFIXES:
            from .text_tables import read_text

            return read_text(source, name, options, known, usual)
        found = _read_file(source, name, options)
    else:
        _refuse_text_options(options, name)
        found = _from_memory(source, name)
    if found.table.num_rows == 0 or found.table.num_columns == 0:
        raise InputError(
            f"{name}: the table is empty, {found.table.num_rows} rows and "
            f"{found.table.num_columns} columns"
        )
    return found


def _refuse_text_options(options: ReadOptions, name: str) -> None:
    for option in ("header", "delimiter", "decimal", "thousands"):
        value = getattr(options, option)
        if value is not None:
            raise InputError(
                f"{option}={value!r} is for text tables, and {name} is none. Leave it out"
            )


def _read_file(path: Path, name: str, options: ReadOptions) -> Source:
    """A Parquet or Arrow file."""
    _refuse_text_options(options, name)
    parquet = path.suffix.lower() in (".parquet", ".pq")
    try:
        if parquet:
            import pyarrow.parquet as pq

            table = pq.read_table(path)
        else:
            import pyarrow.feather as feather

            table = feather.read_table(path)
    except (pa.ArrowException, OSError) as error:
        kind = "parquet" if parquet else "Arrow (feather)"
        raise InputError(f"{name}: not a readable {kind} file ({error})") from error
    return _source(table, name, "parquet" if parquet else "feather")


def _source(table: Any, name: str, kind: str) -> Source:
    return Source(name, table, tuple(table.column_names), format=kind)


def _from_memory(source: Any, name: str) -> Source:
    if isinstance(source, pa.RecordBatch):
        source = pa.Table.from_batches([source])
    if isinstance(source, pa.Table):
        return _source(source, name, "table")
    if type(source).__module__.split(".")[0] == "pandas":
        return _from_pandas(source, name)
    if isinstance(source, np.ndarray) and source.dtype.names is not None:
        source = {field: source[field] for field in source.dtype.names}
    if isinstance(source, Mapping):
        return _from_mapping(source, name)
    try:
        if hasattr(source, "__arrow_c_stream__"):
            return _source(pa.table(source), name, "table")
        from pyarrow.interchange import from_dataframe

        return _source(from_dataframe(source), name, "table")
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError) as error:
        raise InputError(f"{name}: not a readable data frame ({error})") from error


def _from_pandas(frame: Any, name: str) -> Source:
    if getattr(frame, "ndim", 2) != 2:
        raise InputError(f"{name}: a data frame is needed; got a Series. Use series.to_frame()")
    labels = tuple(str(label) for label in frame.columns)
    arrays = []
    for k, label in enumerate(labels):
        try:
            arrays.append(pa.array(frame.iloc[:, k], from_pandas=True))
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise InputError(f"{name}: column {label!r} cannot be read: {error}") from error
    table = pa.table(arrays, names=[f"f{k}" for k in range(len(labels))])
    found = Source(name, table, labels)
    if type(frame.index).__name__ != "RangeIndex":
        found.left_out.append(
            "the index of the data frame was left out; frame.reset_index() makes a column of it"
        )
    return found


def _from_mapping(source: Mapping[Any, Any], name: str) -> Source:
    columns = by_text(source, name)
    arrays = {key: _array(value, f"{name}: column {key!r}") for key, value in columns.items()}
    lengths = {key: len(array) for key, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(
            f"{name}: columns need one length; got "
            + ", ".join(f"{key} {length}" for key, length in lengths.items())
        )
    return _source(pa.table(arrays), name, "table")


def _array(values: Any, name: str) -> Any:
    """A column of a mapping as an Arrow array; masked values and NaN of objects are null."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        if not hasattr(values, "__iter__") or isinstance(values, (str, bytes)):
            raise InputError(f"{name}: one value a row is needed; got {quoted([values])}")
        values = list(values)
    mask = None
    if isinstance(values, np.ma.MaskedArray):
        mask, values = np.ma.getmaskarray(values), values.data
    if getattr(values, "ndim", 1) != 1:
        raise InputError(
            f"{name}: one value a row is needed; got an array of shape {tuple(values.shape)}"
        )
    try:
        if isinstance(values, np.ndarray):
            return pa.array(_plain(values, name), mask=mask, from_pandas=True)
        return pa.array(values, from_pandas=True)
    except InputError:
        raise
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(f"{name}: cannot be read as a column: {error}") from error


def _plain(values: np.ndarray, name: str) -> np.ndarray:
    """An array of a type that Arrow takes."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "c":
        raise InputError(f"{name}: complex numbers are not taken; give real and imaginary parts")
    if kind == "f" and size > 8:
        return values.astype(np.float64)
    if kind == "S":
        return np.char.decode(values, "utf-8")
    if kind in "mM":
        unit = np.datetime_data(values.dtype)[0]
        wider = {"h": "s", "m": "s", "W": "D", "M": "D", "Y": "D"}
        if kind == "m":
            wider = {"h": "s", "m": "s", "W": "s", "D": "s"}
        return values.astype(f"{kind}8[{wider.get(unit, unit)}]")
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
