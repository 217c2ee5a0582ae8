"""Text tables (.csv, .tsv, .txt) as Arrow tables of strings, with the line of every row."""

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from ..errors import InputError
from .options import ReadOptions
from .table_sources import Source
from .text_layout import NAMES, Layout, collapse, lines_of, read_layout, rows_of

BLOCK = 1 << 24  # bytes that Arrow parses at a time; no row may be longer
OTHERS = {
    b"PK\x03\x04": "a zip archive, perhaps an Excel file; export it as CSV",
    b"PAR1": "a Parquet file; rename it to .parquet",
    b"ARROW1": "an Arrow file; rename it to .feather",
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"\x93NUMPY": "a NumPy array; rename it to .npy",
    b"\xff\xfe": "text in UTF-16, not in UTF-8; save it as UTF-8",
    b"\xfe\xff": "text in UTF-16, not in UTF-8; save it as UTF-8",
}


def read_text(
    path: Path,
    name: str,
    options: ReadOptions,
    known: Sequence[str] | None = None,
    usual: str | None = None,
) -> Source:
    """Read a text table.

    Args:
        path: The file.
        name: The source, for messages.
        options: Reading options.
        known: Names of columns that are looked for in the first line, as of a model's data.
        usual: The delimiter to take where it fits.

    Returns:
        The table with columns of strings; blank cells are null.

    Raises:
        InputError: The file is not a table; the message names the line.
    """
    text = _text(path, name)
    kind = path.suffix.lower().lstrip(".")
    if kind == "tsv" and options.delimiter is None and "\t" in text:
        options = replace(options, delimiter="\t")
    try:
        layout = read_layout(text, name, options, known, usual)
    except csv.Error as error:
        raise InputError(f"{name}: cannot be read as a table of text: {error}") from error
    start = 0
    for _ in range(layout.skipped):
        start = text.index("\n", start) + 1
    body = text[start:]
    if layout.delimiter == " ":
        body = collapse(body)
    table = _parse(body, layout, name)
    notes = list(layout.notes)
    if layout.delimiter != ("\t" if kind == "tsv" else ","):
        notes.append(f"the delimiter is a {NAMES.get(layout.delimiter, layout.delimiter)}")
    one = layout.width == 1
    return Source(
        name=name,
        table=table,
        names=layout.names or ("",) * layout.width,
        named=layout.names is not None,
        text=True,
        format=kind,
        delimiter=layout.delimiter,
        notes=notes,
        lines=lambda: (
            layout.skipped + line for line, _ in rows_of(lines_of(body), layout.delimiter, one)
        ),
    )


def _text(path: Path, name: str) -> str:
    """The file's text with newlines alone at the ends of lines, and no blank lines at its end."""
    data = path.read_bytes()
    for magic, what in OTHERS.items():
        if data.startswith(magic):
            raise InputError(f"{name}: not a text table but {what}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name}: not a text file in UTF-8 (line {line}: {error.reason}). Save it as UTF-8"
        ) from error
    if "\0" in text:
        raise InputError(f"{name}: not a text file in UTF-8: it holds zero bytes")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"\n[ \n]*\Z", "", text.rstrip("\x1a"))  # which ended files of DOS
    if not text.strip():
        raise InputError(f"{name}: the file is empty; a table needs at least one line of cells")
    return text


def _parse(body: str, layout: Layout, name: str) -> Any:
    """The rows as columns of strings."""
    if ' "' in body or '" ' in body:
        return _parse_spaced(body, layout, name)
    fields = [f"f{k}" for k in range(layout.width)]
    data = body.encode()
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            read_options=pa_csv.ReadOptions(
                column_names=fields, block_size=_block(data, '"' in body)
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=layout.delimiter,
                newlines_in_values='"' in body,
                ignore_empty_lines=layout.width > 1,
                invalid_row_handler=lambda row: "error" if row.text.strip() else "skip",
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(fields, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise _ragged(body, layout, name, str(error)) from error
    return pa.table([_trimmed(column) for column in table.columns], names=fields)


def _parse_spaced(body: str, layout: Layout, name: str) -> Any:
    """The rows where spaces stand beside quotes: Arrow takes such quotes for part of the cell."""
    rows = [row for _, row in rows_of(lines_of(body), layout.delimiter, layout.width == 1)]
    if any(len(row) != layout.width for row in rows):
        raise _ragged(body, layout, name, "")
    columns = [pa.array(cells, pa.string()) for cells in zip(*rows, strict=True)]
    return pa.table([_trimmed(c) for c in columns], names=[f"f{k}" for k in range(layout.width)])


def _block(data: bytes, quotes: bool) -> int:
    """A number of bytes that holds every row."""
    if len(data) <= BLOCK or quotes:
        return len(data) + 1
    return max(BLOCK, *(len(line) + 1 for line in data.split(b"\n")))


def _trimmed(column: Any) -> Any:
    """Strings without surrounding spaces, null where blank."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    cells = pc.utf8_trim_whitespace(whole)
    return pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)


def _ragged(body: str, layout: Layout, name: str, reason: str) -> InputError:
    """The error for the first row whose number of cells is another one."""
    what = "the line of names" if layout.names is not None else "the first line"
    rows = rows_of(lines_of(body), layout.delimiter, layout.width == 1)
    for count, (line, row) in enumerate(rows):
        if len(row) == layout.width:
            continue
        hint = ""
        if row[0].startswith("#"):
            hint = ". Remove comments between rows"
        elif count == 0 or layout.width == 1:
            hint = (
                ". Remove what stands above the table; where commas are decimal marks, give "
                "--delimiter ';' --decimal , (delimiter=';', decimal=',')"
            )
        elif body.count('"') % 2:
            hint = ". A quote is not closed, perhaps"
        return InputError(
            f"{name}: line {layout.skipped + line} has {len(row)} cells, {what} has "
            f"{layout.width}; every line needs the same{hint}"
        )
    return InputError(f"{name}: not a table of cells separated by {layout.delimiter!r} ({reason})")
