"""Rows of another table for a model: its columns are matched by name and read as the model's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from ..errors import InputError
from ..tensors import without_mask
from ..values import did_you_mean, listed
from .cells import Marks, Unclear, read_numbers, read_times
from .columns import Column
from .given import Given
from .options import ReadOptions
from .table_reading import find_marks, finite, load_typed
from .table_sources import Source, is_table, read_source
from .table_types import from_numbers, held, is_temporal, is_words, t, to_numbers

if TYPE_CHECKING:
    from .table_form import TableForm

SHOWN_ROWS = 3


@dataclass(frozen=True)
class Rows:
    """Rows that were read for a model.

    Attributes:
        values: (N, d) in data units; NaN where a value is missing.
        table: The columns of the model as an Arrow table, null where missing: of their types where
            these hold all values exactly; None for rows that came as an array.
        notes: Messages for the user: columns that were not taken, and choices of the reader.
        condition: The classes, int64 (N,), or the vectors, float64 (N, k), that the model is
            conditioned on; None where the rows have no such columns.
    """

    values: Tensor
    table: Any
    notes: tuple[str, ...] = ()
    condition: Tensor | None = None


def read_rows(
    form: "TableForm",
    items: Any,
    name: str = "the data",
    options: ReadOptions | None = None,
    blanks: bool = False,
) -> Rows:
    """Read rows of another table as those of a model's data.

    Args:
        form: The form of the model's data.
        items: A path, an Arrow table, a data frame, a mapping from names to arrays, a `Source`, or
            an array or tensor (N, d) of encoded rows.
        name: The source, for messages.
        options: Reading options; what they leave open is read off the file, else as in the model's
            data.
        blanks: Whether missing values are allowed.

    Returns:
        The rows, in the order of the source.

    Raises:
        InputError: Columns of the model are missing or hold something else, a word is not known, or
            a value is missing.
    """
    if not isinstance(items, (str, Path, Source)) and not is_table(items):
        return Rows(_encoded(form, items, name, blanks), None)
    options = options or ReadOptions()
    items = Path(items) if isinstance(items, str) else items
    known = form.names if form.named else None
    if isinstance(items, Source):
        source = items
    else:
        source = read_source(items, name, options, known, form.delimiter)
    source.marks = Marks(form.decimal)
    places, given, notes = _match(form, source)
    if source.text:
        shown = any(c.per > 1 or c.kind == "continuous" for c in form.columns)
        source.marks = find_marks(source, [*places, *given], options, shown)
    parts, arrays = [], []
    for column, k in zip(form.columns, places, strict=True):
        try:
            array = _typed(source, k, column)
            parts.append(column.encode(_single(array, column)))
        except Unclear as error:
            raise source.error(k, str(error), error.rows) from error
        arrays.append(array)
    condition = _condition(form.given, source, given, blanks) if form.given and given else None
    values = np.concatenate(parts, 1)
    if not blanks:
        _refuse_blanks(form, source, values)
    tensor = torch.from_numpy(values).to(getattr(torch, form.dtype))
    stored = [_as(array, column) for array, column in zip(arrays, form.columns, strict=True)]
    table = pa.table(stored, names=list(form.names))
    return Rows(tensor, table, (*source.notes, *notes), condition)


def _single(array: Any, column: Column) -> Any:
    """Floats of 64 bits rounded to the 32 or 16 bits that a column has."""
    if t.is_float64(array.type) and (t.is_float32(column.arrow) or t.is_float16(column.arrow)):
        return from_numbers(to_numbers(array), column.arrow)
    return array


def _condition(given: Given, source: Source, places: Sequence[int], blanks: bool) -> Tensor:
    """The condition of the rows, whose columns are at `places` of the source."""
    arrays = []
    for column, k in zip(given.columns, places, strict=True):
        array = _single(_typed(source, k, column), column)
        if array.null_count and not blanks:
            raise source.error(k, "holds blank cells, and every row needs its condition", [])
        arrays.append(array)
    try:
        return given.encode(arrays)
    except Unclear as error:
        raise source.error(places[0], str(error), error.rows) from error


def _as(array: Any, column: Column) -> Any:
    """An array as the column's type where that loses nothing, else as it is."""
    if not is_words(column.arrow):
        found = held(array, column.arrow)
        return array if found is None else found
    try:
        return array.cast(column.arrow)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return array


def _encoded(form: "TableForm", items: Any, name: str, blanks: bool) -> Tensor:
    """Encoded rows that came as an array."""
    items = without_mask(items, name)
    try:
        values = items if isinstance(items, Tensor) else torch.from_numpy(np.array(items))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name}: rows of a table are needed: a file, a table, or an array of "
            f"{form.event_shape[0]} columns; got {type(items).__name__}"
        ) from error
    values = values[None] if values.ndim == 1 else values
    if values.ndim != 2 or values.shape[1] != form.event_shape[0] or values.is_complex():
        raise InputError(
            f"{name}: rows of the model's table have {form.event_shape[0]} numbers "
            f"({listed(form.element_names)}); got shape {tuple(values.shape)}"
        )
    if not blanks and bool(torch.isnan(values).any()):
        row = int(torch.isnan(values).any(1).nonzero()[0])
        raise InputError(f"{name}: row {row} (from 0) holds NaN; every value must be there")
    return values.to("cpu", getattr(torch, form.dtype))


def _match(form: "TableForm", source: Source) -> tuple[list[int], list[int], list[str]]:
    """The positions in the source of the model's columns and of its condition, and notes.

    The condition has no positions where the source lacks its columns.
    """
    own = form.given.names if form.given else ()
    if not form.named and not (source.named and set(form.names) & set(source.names)):
        count, found = len(form.columns), source.table.num_columns
        if found == count:
            return list(range(count)), [], []
        if own and form.given and found == count + len(own):
            given = list(form.given.places)
            return [k for k in range(found) if k not in given], given, []
        besides = f" or, with the condition, {count + len(own)}" if own else ""
        raise InputError(
            f"{source.name}: has {found} columns; the model's data have {count}{besides}, without "
            "names"
        )
    if not source.named:
        raise InputError(
            f"{source.name}: the first line holds no names, and the model's columns are matched by "
            f"name: {listed(form.names)}. Add a line of names"
        )
    labels = source.labels
    missing = [name for name in form.names if name not in labels]
    if missing:
        rest = [label for label in labels if label not in form.names]
        near = did_you_mean(missing[0], rest) if rest else "."
        raise InputError(
            f"{source.name}: has no column {', '.join(map(repr, missing))}; the model's data have "
            f"{listed(form.names)}. Its columns are {listed(labels)}{near}"
        )
    own = own if set(own) <= set(labels) else ()
    twice = [name for name in (*form.names, *own) if labels.count(name) > 1]
    if twice:
        raise InputError(f"{source.name}: more than one column has the name {twice[0]!r}")
    extra = [label for label in labels if label not in (*form.names, *own)]
    notes = []
    if extra:
        notes.append(f"columns that the model does not have are not taken: {listed(extra)}")
    return [labels.index(n) for n in form.names], [labels.index(n) for n in own], notes


def _typed(source: Source, k: int, column: Column) -> Any:
    """The values of column k of the source, as those of a column of the model."""
    if not source.text:
        return load_typed(source, k)
    cells = source.column(k)
    if column.words:
        spaced = [word for word in column.words if word != word.strip()]  # text has lost these
        for word in spaced:
            cells = pc.if_else(pc.equal(cells, word.strip()), word, cells)
        return cells
    if t.is_duration(column.arrow):  # written as seconds
        numbers = read_numbers(cells, source.marks).array
        return from_numbers(to_numbers(numbers), column.arrow)
    if is_temporal(column.arrow):
        return read_times(cells, column.arrow).array
    return finite(source, k, read_numbers(cells, source.marks))


def _refuse_blanks(form: "TableForm", source: Source, values: np.ndarray) -> None:
    blank = np.isnan(values)
    if not blank.any():
        return
    found = []
    for column in form.columns:
        rows = np.flatnonzero(blank[:, form.elements[column.name]].any(1))
        if len(rows):
            more = " ..." if len(rows) > SHOWN_ROWS else ""
            places = source.places(rows[:SHOWN_ROWS].tolist())
            found.append(f"{column.name}: {len(rows)} ({places}{more})")
    raise InputError(
        f"{source.name}: values are missing: {', '.join(found)}. Every value must be there; leave "
        "such rows out, or fill them in with scorefield restore"
    )
