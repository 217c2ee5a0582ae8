"""Writing Arrow tables: CSV and TSV as they are usual, Parquet, Feather."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError
from ..files import write_atomically
from .table_types import coarsest, is_number, t, to_numbers

FORMATS = ("csv", "tsv", "parquet", "feather")
_SPECIAL = re.compile(r"""[,;|\t"\n\r]|^#|^\s|\s$""")
PART = 1 << 16  # rows that are turned into text at a time


@dataclass(frozen=True)
class TextStyle:
    """How a table is written as text.

    Attributes:
        delimiter: The character between cells.
        decimal: The decimal mark.
        header: Whether the first line holds the names.
        styles: For columns of dates by position: codes of strftime; "" for the usual form.
    """

    delimiter: str = ","
    decimal: str = "."
    header: bool = True
    styles: Sequence[str] = ()


def write_table(path: Path, table: Any, style: TextStyle | None = None) -> Path:
    """Write an Arrow table, atomically.

    Args:
        path: The file; its suffix gives the format: .csv, .tsv, .parquet, .feather.
        table: The table.
        style: How text is written; None: commas (tabs in .tsv), decimal points, names.

    Returns:
        The path.

    Raises:
        InputError: The suffix is another one.
    """
    kind = path.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise InputError(
            f"{path}: tables are written as {', '.join('.' + f for f in FORMATS)}; got "
            f"{path.suffix or 'no suffix'}"
        )
    if kind == "parquet":
        import pyarrow.parquet as pq

        return write_atomically(path, lambda file: pq.write_table(table, file))
    if kind == "feather":
        return write_atomically(path, lambda file: _write_feather(table, file))
    style = style or TextStyle(delimiter="\t" if kind == "tsv" else ",")
    return write_atomically(path, lambda file: _write_text(table, file, style))


def _write_feather(table: Any, file: BinaryIO) -> None:
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _write_text(table: Any, file: BinaryIO, style: TextStyle) -> None:
    def write(columns: Sequence[Sequence[str]]) -> None:
        rows = [style.delimiter.join(row) for row in zip(*columns, strict=True)]
        file.write("".join(f"{row}\n" for row in rows).encode())

    lonely = table.num_columns == 1  # a blank line would be skipped
    if style.header:
        write([[_quoted(name, style.delimiter, lonely)] for name in table.column_names])
    styles = [*style.styles, *[""] * table.num_columns]
    for start in range(0, table.num_rows, PART):
        columns = []
        for column, how in zip(table.slice(start, PART).columns, styles, strict=False):
            cells = text_cells(column, style.decimal, how)
            if lonely or not is_number(column.type) or style.decimal == style.delimiter:
                cells = [_quoted(cell, style.delimiter, lonely) for cell in cells]
            columns.append(cells)
        write(columns)


def _quoted(cell: str, delimiter: str, lonely: bool) -> str:
    """A cell in quotes where it could be read in another way without them."""
    if delimiter in cell or _SPECIAL.search(cell) or (lonely and not cell):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def text_cells(array: Any, decimal: str = ".", style: str = "") -> list[str]:
    """The cells of a column as text; "" where null.

    Floats are written with the fewest digits that read back as the same number, durations as
    seconds.

    Args:
        array: An Arrow array.
        decimal: The decimal mark.
        style: Of dates and times: codes of strftime; "" for the ISO form.

    Returns:
        One text a row.
    """
    kind = array.type
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if t.is_duration(kind):
        array, kind = pa.array(to_numbers(array), from_pandas=True), pa.float64()
    if t.is_floating(kind):
        numbers = array.to_numpy(zero_copy_only=False)
        cells = [str(x) for x in (numbers.tolist() if t.is_float64(kind) else numbers)]
    else:
        if t.is_dictionary(kind):
            array = pc.cast(array, kind.value_type)
        if style and t.is_time(kind):
            array = _clock(array, style)
        elif style:
            array = pc.strftime(array, format=style)
        elif t.is_timestamp(kind):
            array = _without_zeros(array)
        cells = pc.fill_null(pc.cast(array, pa.string()), "").to_pylist()
    if t.is_floating(kind) and array.null_count:
        blank = np.asarray(array.is_null().to_numpy(zero_copy_only=False))
        cells = ["" if none else cell for none, cell in zip(blank, cells, strict=True)]
    if decimal != "." and (t.is_floating(kind) or t.is_decimal(kind)):
        cells = [cell.replace(".", decimal) for cell in cells]
    return cells


def _without_zeros(array: Any) -> Any:
    """Timestamps in the coarsest unit that holds them, which has the fewest digits as text."""
    unit = ("s", "ms", "us", "ns")
    own = unit.index(array.type.unit)
    part = coarsest(array.cast(pa.int64()), 1000**own)
    return array.cast(pa.timestamp(unit[own - round(math.log(part, 1000))], array.type.tz))


def _clock(array: Any, style: str) -> Any:
    """Times of day as text, without seconds where the style has none."""
    cells = pc.cast(array, pa.string())
    return cells if "%S" in style else pc.utf8_slice_codeunits(cells, 0, 5)
