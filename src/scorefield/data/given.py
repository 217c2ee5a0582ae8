"""`Given`: columns of a table that a model is conditioned on, as classes or vectors.

class    one column: its words, or its numbers where few of them differ
vector   columns of numbers, dates or times; one element a column
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..conditions import NULL_CLASS, Condition
from .cells import Unclear, quoted
from .column_kinds import AVERAGE, MOST_VALUES, describe
from .columns import Column
from .table_types import from_words, is_temporal

FEW_NUMBERS = 10  # so many different numbers are classes in tables of any length


@dataclass(frozen=True)
class Given:
    """Columns that a model is conditioned on.

    Attributes:
        kind: "class" or "vector".
        columns: The columns; one for a class.
        places: Their positions among all columns that were taken from the source.
    """

    kind: str
    columns: tuple[Column, ...]
    places: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes in the order of their numbers: words, or numbers as texts."""
        column = self.columns[0]
        if column.words:
            return column.words
        values = np.asarray(column.values)[:, None]
        return tuple(str(value) for value in column.decode(values).to_pylist())

    def encode(self, arrays: Sequence[Any]) -> Tensor:
        """Classes, int64 (N,), or vectors, float64 (N, k), of Arrow arrays of the columns.

        Rows with a blank cell get the null value of the condition.

        Raises:
            Unclear: A value is none of the classes, or of another type.
        """
        parts = [column.encode(array) for column, array in zip(self.columns, arrays, strict=True)]
        if self.kind == "vector":
            rows = np.concatenate(parts, 1)
            return torch.from_numpy(np.where(np.isnan(rows).any(1)[:, None], np.nan, rows))
        column, part = self.columns[0], parts[0]
        blank = np.isnan(part).any(1)
        if column.words:
            return torch.from_numpy(np.where(blank, NULL_CLASS, part.argmax(1)).astype(np.int64))
        values = np.asarray(column.values)
        found = np.searchsorted(values, part[:, 0]).clip(max=len(values) - 1)
        wrong = np.flatnonzero((values[found] != part[:, 0]) & ~blank)
        if len(wrong):
            raise Unclear(
                f"holds {part[wrong[0], 0]:g}, which is none of the classes that the model was "
                f"trained on: {quoted(self.class_names)}",
                wrong[:3].tolist(),
            )
        return torch.from_numpy(np.where(blank, NULL_CLASS, found).astype(np.int64))

    def decode(self, condition: Condition | None, count: int) -> list[Any]:
        """The columns of samples that were drawn with a condition, as Arrow arrays.

        Args:
            condition: In the internal form, or None.
            count: The number of samples.

        Returns:
            One array a column; null where a sample is unconditional.
        """
        value = None if condition is None else condition.get(self.kind)
        if value is None:
            return [pa.nulls(count, column.arrow) for column in self.columns]
        if self.kind == "vector":
            numbers = value.detach().cpu().double().numpy()
            return [_column(column, numbers[:, k]) for k, column in enumerate(self.columns)]
        column, places = self.columns[0], value.cpu().numpy()
        if column.words:
            return [from_words(places, column.words, column.arrow)]
        numbers = np.where(places < 0, np.nan, np.asarray(column.values)[places])
        return [column.decode(numbers[:, None])]

    def insert(self, table: Any, condition: Condition | None) -> Any:
        """An Arrow table of samples with the columns of their condition at their old places."""
        arrays = self.decode(condition, table.num_rows)
        for k in np.argsort(self.places):
            table = table.add_column(self.places[k], self.names[k], arrays[k])
        return table

    def among(self, columns: Sequence[Column]) -> list[Column]:
        """The columns of the examples and these, in the order of the source."""
        found = list(columns)
        for k in np.argsort(self.places):
            found.insert(self.places[k], self.columns[k])
        return found

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold; `from_dict` undoes it."""
        return {
            "kind": self.kind,
            "columns": [column.to_dict() for column in self.columns],
            "places": list(self.places),
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Given":
        """The columns that `to_dict` wrote."""
        columns = tuple(Column.from_dict(column) for column in values["columns"])
        return Given(values["kind"], columns, tuple(values["places"]))


def _column(column: Column, numbers: np.ndarray) -> Any:
    """Numbers in the type of a column where it holds them exactly, else in a finer one."""
    found = column.exactly(numbers[:, None])
    if is_temporal(column.arrow) and not is_temporal(found.type):  # parts of days
        return column.decode(replace(column, values=()).settle(numbers[:, None], bounded=False))
    return found


def describe_given(kind: str, name: str, array: Any, style: str = "") -> Column:
    """What a column holds that a model is conditioned on.

    Args:
        kind: "class" or "vector".
        name: The column's name.
        array: An Arrow array without nulls.
        style: Of dates in text tables: how they are written.

    Raises:
        Unclear: The column does not suit the kind of condition.
    """
    column = describe(name, array, style, discrete=kind == "class")
    if column.kind == "constant":
        raise Unclear("holds one value only, on which nothing can be conditioned", [])
    if kind == "vector" and column.words:
        raise Unclear(
            "holds words, and a vector has numbers. Give --condition class (condition='class') for "
            "this column, or number the words",
            [],
        )
    found, rows = len(column.words or column.values), len(array)
    most = rows // 2 if column.words else max(FEW_NUMBERS, rows // AVERAGE)
    if kind == "class" and found > min(MOST_VALUES, max(2, most)):
        what = "words" if column.words else "numbers"
        advice = "Give --condition vector (condition='vector') for numbers"
        raise Unclear(
            f"holds {found} different {what} in {rows} rows, which are too many for classes"
            f"{'' if column.words else f'. {advice}'}",
            [],
        )
    return column
