"""Examples of a model that a user hands over: arrays in any layout, and tables by name.

`read_examples` is the one way from an array, a tensor, a data frame, a table or a mapping of
columns to (N, *event). Likelihoods, evaluations and restorations use it.

    tables   the names of the columns are matched with those of the model's data; each column has to
             be there, and no other one
    arrays   (N, *event), without the axis of a single channel, or with the channels last; the
             values stay as they are
"""

from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from ..errors import InputError
from ..tensors import as_tensor, column_names
from ..values import listed
from .form import Form
from .options import ReadOptions
from .table_form import TableForm
from .table_rows import read_rows
from .table_sources import is_table, read_source

BEYOND = 0.5  # how far samples and noisy images may lie outside [0, 1]


def read_examples(
    value: Any, form: Form | None, event_shape: tuple[int, ...], name: str, blanks: bool = False
) -> Tensor:
    """What was handed over as examples of a model.

    Args:
        value: An array, a tensor, nested lists, a data frame, an Arrow table, an array of records
            or a mapping from names to columns.
        form: The form of the model's data; None where it has none.
        event_shape: The shape of an example, channels first.
        name: The argument's name, for messages.
        blanks: Whether cells of a table may be blank; they become NaN.

    Returns:
        (N, *event): of a table in data units, of an array in its own type and values. An array
        that does not have the shape of examples is returned as it is.

    Raises:
        InputError: The value holds no numbers, or the columns of a table are not those of the
            model.
    """
    if not is_named(value):
        return arranged(as_tensor(value, name), event_shape)
    return table_examples(to_table(value, name), form, name, blanks)


def is_named(value: Any) -> bool:
    """Whether a value has columns with names, or is a row of such a table."""
    if isinstance(value, Tensor | list | tuple):
        return False
    return (is_table(value) and column_names(value) is not None) or _row_of(value) is not None


def _row_of(value: Any) -> dict[str, Any] | None:
    """A row of a data frame (a Series whose index holds names) as a mapping; None for others."""
    index = getattr(value, "index", None)
    if type(value).__name__ != "Series" or index is None or getattr(value, "ndim", 0) != 1:
        return None
    labels = list(index)
    if not labels or not all(isinstance(label, str) for label in labels):
        return None
    return {label: [value.iloc[k]] for k, label in enumerate(labels)}


def to_table(value: Any, name: str) -> pa.Table:
    """A table in memory, or a row of a data frame, as an Arrow table of its own.

    Args:
        value: A value for which `is_named` holds.
        name: The argument's name, for messages.

    Raises:
        InputError: A column cannot be read, or the table is empty.
    """
    row = _row_of(value)
    source = read_source(value if row is None else row, name, ReadOptions())
    columns = [source.column(k) for k in range(source.table.num_columns)]
    return pa.table(columns, names=source.labels)


def is_row(value: Any) -> bool:
    """Whether a value is one row of a data frame."""
    return _row_of(value) is not None


def table_examples(table: pa.Table, form: Form | None, name: str, blanks: bool = False) -> Tensor:
    """The rows of a table as examples; its columns are matched by name.

    Args:
        table: The table.
        form: The form of the model's data, or None.
        name: The argument's name, for messages.
        blanks: Whether cells may be blank; they become NaN.

    Returns:
        (N, d) in data units.

    Raises:
        InputError: The model's data have no names of columns, the columns are others, or cells
            cannot be read as the model's.
    """
    given = table.column_names
    if not isinstance(form, TableForm) or not form.named:
        raise InputError(
            f"{name} has the named columns {listed(given)}, and the model's data have no names of "
            "columns to match them with. Give an array whose columns are in the order of the "
            f"model's data: {name}.to_numpy()"
        )
    condition = [n for n in (form.given.names if form.given else ()) if n in given]
    if condition:
        raise InputError(
            f"{name} holds {listed(condition)}, the condition of the model. Give it as condition=, "
            f"and {name} without it"
        )
    unknown = [n for n in given if n not in form.names]
    if unknown and set(form.names) <= set(given):
        raise InputError(
            f"{name} has columns that the model's data do not have: {listed(unknown)}. Leave them "
            f"out; the model's columns are {listed(form.names)}"
        )
    return read_rows(form, table, name, blanks=blanks).values


def arranged(array: Any, event_shape: tuple[int, ...]) -> Any:
    """Examples of another layout as (N, *event).

    Args:
        array: An array or a tensor (N, ...): channels first, channels last, or without the axis of
            a single channel.
        event_shape: The shape of an example, channels first.

    Returns:
        The same with the shape (N, *event); what fits in none of these ways is returned as it is.
    """
    event, rest = tuple(event_shape), tuple(array.shape[1:])
    if rest == event or len(event) < 2 or array.ndim == 0:
        return array
    if event[0] == 1 and rest == event[1:]:
        return array[:, None]
    if rest == (*event[1:], event[0]):
        return np.moveaxis(array, -1, 1) if isinstance(array, np.ndarray) else array.movedim(-1, 1)
    return array


def column_order(names: Any, own: Any, name: str) -> list[int] | None:
    """The order in which named columns of an array are those of a model.

    Args:
        names: The names that came with the array, or None.
        own: The names of the model's elements; empty where they are not known.
        name: The source, for messages.

    Returns:
        The positions; None where the order is the model's or one of both is not known.

    Raises:
        InputError: The names are not those of the model.
    """
    if names is None or not own or tuple(names) == tuple(own):
        return None
    if sorted(names) != sorted(own):
        raise InputError(
            f"{name} has the columns {listed(names)}; the model's data have {listed(own)}"
        )
    return [list(names).index(n) for n in own]


def check_intensities(x: Tensor, name: str, beyond: float = BEYOND) -> None:
    """Refuse floats that are no intensities of images.

    Args:
        x: Examples in data units.
        name: The argument's name, for messages.
        beyond: How far they may lie outside [0, 1].

    Raises:
        InputError: Values lie further outside.
    """
    low, high = (float(x.min()), float(x.max())) if x.numel() else (0.0, 1.0)
    if low < -beyond or high > 1 + beyond:
        raise InputError(
            f"{name}: images as floats are intensities in [0, 1]; got {low:g} to {high:g}. Scale "
            "them, or give whole numbers as the data have them"
        )
