"""Known cells of a table: restorations give them back exactly as they were given.

`TableForm.decode` gives values that the training data could hold: it reflects numbers at the ends
of the range, takes the nearest of few values and rounds to the step. Known cells are no draws of a
model, so they are put over the decoded table, in their own type where the column's cannot hold
them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from .cells import Unclear
from .columns import Column
from .table_files import text_cells
from .table_form import TableForm
from .table_types import from_numbers, held, is_temporal, is_words, t, to_numbers


def overlay(table: Any, known: Any, repeats: int = 1) -> Any:
    """A decoded table with the known cells as they were given.

    Args:
        table: An Arrow table of N * repeats rows, `repeats` rows for each row of `known`.
        known: An Arrow table of N rows, null where a cell is unknown. Columns that one of the
            tables lacks are not touched.
        repeats: The number of draws of each row.

    Returns:
        The table. A column has its own type where that holds all known cells exactly, else the
        type of the known cells, or float64.
    """
    places = pa.array(np.repeat(np.arange(known.num_rows), repeats))
    columns = {}
    for name in table.column_names:
        column = _whole(table, name)
        if name in known.column_names and not is_words(column.type):
            column = _merged(_whole(known, name).take(places), column)
        columns[name] = column
    return pa.table(columns)


def _whole(table: Any, name: str) -> Any:
    column = table.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _merged(given: Any, drawn: Any) -> Any:
    """The cells of `given`, and those of `drawn` where they are null."""
    if t.is_null(given.type):
        return drawn
    for kind in (drawn.type, given.type):
        a, b = held(given, kind), held(drawn, kind)
        if a is not None and b is not None:
            return pc.if_else(pc.is_valid(a), a, b)
    a, b = (from_numbers(to_numbers(part), pa.float64()) for part in (given, drawn))
    return pc.if_else(pc.is_valid(a), a, b)


def cells_of(form: TableForm, x: Tensor) -> Any:
    """Encoded rows as an Arrow table of cells that are neither reflected nor rounded.

    Args:
        form: The form of the model's data.
        x: (N, d) in data units; NaN gives null.

    Returns:
        The table.
    """
    arrays = [column.exactly(part) for column, part in form.parts(x)]
    return pa.table(arrays, names=list(form.names))


def refuse_other_constants(form: TableForm, known: Any, name: str) -> None:
    """Refuse known cells that differ from a column with one value in the training data.

    Args:
        form: The form of the model's data.
        known: An Arrow table of the known cells, null where a cell is unknown.
        name: The source, for the message.

    Raises:
        Unclear: A cell differs; the message names the column, the cell and the constant.
    """
    for column in form.columns:
        if column.kind != "constant":
            continue
        cells = _whole(known, column.name)
        elements = column.encode(cells)[:, 0]
        constant = 1.0 if column.words else column.values[0]
        rows = np.flatnonzero((elements != constant) & ~np.isnan(elements))
        if len(rows):
            own = column.words[0] if column.words else shown(column, [constant])[0]
            raise Unclear(
                f"{name}: column {column.name!r} holds {text_cells(cells)[rows[0]]!r}, and it is "
                f"constant in the training data: every row has {own!r}, so that the model has no "
                "rows with another value. Leave the cell blank, or train on rows that have it",
                rows[:3].tolist(),
            )


def notes_on_known(form: TableForm, x: Tensor) -> list[str]:
    """Notices about known cells that the training data do not have.

    Args:
        form: The form of the model's data.
        x: (N, d) in data units; NaN where a cell is unknown.

    Returns:
        A sentence for each column that has such cells, with a value and what the training data
        hold: values beyond the range, none of the few values, or between the steps.
    """
    notes = []
    for column, part in form.parts(x):
        if column.words or column.kind == "constant":
            continue
        numbers = part[:, 0]
        known = ~np.isnan(numbers)
        beyond = known & column.outside(numbers)
        other = known & ~beyond & (column.settle(part, bounded=False)[:, 0] != numbers)
        if column.values:
            what = f"no value of the training data, which hold {_listed(column, column.values, 8)}"
        else:
            what = f"between the values of the training data, whose step is {_step(column)}"
            low, high = shown(column, [column.low or 0.0, column.high or 0.0])
            ends = f"outside the range of the training data, {low} to {high}"
            notes += _noted(column, numbers, beyond, known, ends)
        notes += _noted(column, numbers, other, known, what)
    return notes


def _noted(
    column: Column, numbers: np.ndarray, strange: np.ndarray, known: np.ndarray, what: str
) -> list[str]:
    """The notice on the strange ones of the known numbers of a column, or none."""
    values = np.unique(numbers[strange])
    if not len(values):
        return []
    if known.sum() == 1:
        return [f"{column.name}: the given value {_listed(column, values)} is {what}"]
    found = f"{int(strange.sum())} of {int(known.sum())} given values are {what}"
    return [f"{column.name}: {found}: {_listed(column, values)}"]


def _listed(column: Column, numbers: Sequence[float] | np.ndarray, most: int = 3) -> str:
    """Some numbers of a column for a message: 1, 2, 5 and 4 more."""
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return ", ".join(shown(column, numbers[:most])) + more


def _step(column: Column) -> str:
    """The step of a column's numbers with its unit."""
    unit = ""
    if is_temporal(column.arrow):
        unit = " days" if t.is_date(column.arrow) else " s"
    return f"{column.step:g}{unit}"


def shown(column: Column, numbers: Sequence[float] | np.ndarray) -> list[str]:
    """Numbers of a column as text: dates as dates, numbers with the fewest digits that they need.

    Args:
        column: The column, of numbers, dates or times.
        numbers: (N,), as `Column.encode` gives them.

    Returns:
        One text each.
    """
    return list(text_cells(column.exactly(np.asarray(numbers, dtype=np.float64)[:, None])))
