"""Observations as they are handed over: tables by the names of their columns, arrays in any layout.

A `Measurement` is made without a model, so that a table waits in an `ObservedTable` until a model's
form is known.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..data import Form
from ..data.examples import arranged, is_named, is_row, table_examples, to_table
from ..errors import InputError
from ..tensors import as_tensor
from ..values import listed
from .operators import Mask

if TYPE_CHECKING:
    from .measurement import Measurement

NAME = "the observation"


@dataclass(frozen=True, eq=False)
class ObservedTable:
    """Rows of which cells are known; their columns are matched by name with those of a model.

    Attributes:
        table: An Arrow table, null where a cell is unknown.
        single: Whether it is one row of a data frame.
    """

    table: Any
    single: bool

    def __str__(self) -> str:
        rows, names = self.table.num_rows, self.table.column_names
        return f"{rows:,} row{'s' if rows != 1 else ''} of the columns {listed(names)}"


def read_observed(value: Any) -> Tensor | ObservedTable:
    """What was observed, as a tensor, or as a table whose columns have names.

    Raises:
        InputError: It is neither, or cannot be read.
    """
    if isinstance(value, ObservedTable):
        return value
    if is_named(value):
        return ObservedTable(to_table(value, NAME), is_row(value))
    return as_tensor(value, NAME)


def for_model(
    measurement: "Measurement", form: Form | None, event_shape: tuple[int, ...]
) -> "Measurement":
    """The measurement with its observation in the order of a model's elements.

    Args:
        measurement: The measurement.
        form: The form of the model's data, or None.
        event_shape: The shape of the model's examples.

    Returns:
        The measurement. Rows of a table are in data units, NaN where a cell is unknown. Observed
        examples have their channels first; other measurements stay as they are.

    Raises:
        InputError: The columns of a table are not those of the model, or its operator measures
            something else than elements of x.
    """
    seen, elements = measurement.observed, measurement.operator is None
    elements = elements or isinstance(measurement.operator, Mask)
    if isinstance(seen, ObservedTable):
        if not elements:
            raise InputError(
                "the observation has named columns, which are elements of x, and the operator is "
                f"{type(measurement.operator).__name__}. Give the array that it measures"
            )
        values = table_examples(seen.table, form, NAME, blanks=True)
        return replace(measurement, observed=values[0] if seen.single else values)
    if not elements or (seen.ndim == len(event_shape) + 1 and seen.shape[1:] == event_shape):
        return measurement
    if seen.ndim == len(event_shape):  # one observation, or several without the axis of a channel
        alone = arranged(seen[None], event_shape)
        if tuple(alone.shape[1:]) == tuple(event_shape):
            return replace(measurement, observed=alone[0])
    return replace(measurement, observed=arranged(seen, event_shape))
