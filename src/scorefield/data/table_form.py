"""`TableForm`: rows of a table as vectors, and back.

Every column has one element, and a category one element a word; see `columns`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..conditions import Condition
from ..errors import InputError
from .columns import Column
from .form import Form, register
from .given import Given
from .table_files import FORMATS, TextStyle, write_table
from .table_types import is_number, is_temporal, t


@register
@dataclass(frozen=True)
class TableForm(Form):
    """How the rows of a table map to vectors, and back.

    Attributes:
        columns: The columns in the order of the source.
        named: Whether the source has names; where it has none, columns are "column 1" and so on.
        bounds: "data": `decode` reflects numbers beyond the range of the data at its ends; "none":
            it keeps them.
        format: The format of the source: "csv", "parquet" and so on.
        delimiter: The delimiter of a text source.
        decimal: Its decimal mark.
        dtype: The floating type of the encoded rows, "float32" or "float64".
        given: The columns that the model is conditioned on; None for none.
    """

    kind: ClassVar[str] = "table"
    formats: ClassVar[tuple[str, ...]] = FORMATS

    columns: tuple[Column, ...] = ()
    named: bool = True
    bounds: str = "data"
    format: str = "csv"
    delimiter: str = ","
    decimal: str = "."
    dtype: str = "float64"
    given: Given | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def element_names(self) -> tuple[str, ...]:
        """The names of the elements: those of columns, and "colour=red" for words."""
        return tuple(name for column in self.columns for name in column.elements)

    @cached_property
    def elements(self) -> dict[str, slice]:
        """The elements of each column by its name."""
        found, start = {}, 0
        for column in self.columns:
            found[column.name] = slice(start, start + column.size)
            start += column.size
        return found

    @property
    def steps(self) -> list[float] | None:
        """The width of the noise that training adds to each element; see `columns`."""
        widths = [width for column in self.columns for width in column.widths]
        return widths if any(widths) else None

    @property
    def few_values(self) -> dict[int, tuple[float, ...]]:
        """The values of discrete columns, and of dates that are few, by the element's number."""
        return {
            self.elements[column.name].start: column.values
            for column in self.columns
            if len(column.values) > 1 and not column.words
        }

    # -- from elements

    def parts(self, x: Tensor) -> list[tuple[Column, np.ndarray]]:
        """Encoded rows by column.

        Args:
            x: (N, d) in data units.

        Returns:
            Each column with its elements, float64 (N, size).

        Raises:
            InputError: x has another shape.
        """
        if x.ndim != 2 or tuple(x.shape[1:]) != self.event_shape:
            raise InputError(
                f"rows of this table are (N, {self.event_shape[0]}); got shape {tuple(x.shape)}"
            )
        values = x.detach().to("cpu", torch.float64).numpy()
        return [(column, values[:, self.elements[column.name]]) for column in self.columns]

    def settle(self, x: Tensor) -> Tensor:
        """The encoded rows that rows stand for: rounded, within the bounds, one word a category.

        The mean of settled draws has the probability of each word in the word's element.

        Args:
            x: (N, d) in data units; NaN stays.

        Returns:
            (N, d), float64: `encode` of `decode`.
        """
        bounded = self.bounds == "data"
        parts = [column.settle(part, bounded) for column, part in self.parts(x)]
        return torch.from_numpy(np.concatenate(parts, 1))

    def decode(self, x: Tensor) -> Any:
        """Rows as an Arrow table with the names, order and types of the source.

        Args:
            x: (N, d) in data units, floating; NaN gives null.

        Returns:
            The table. Whole numbers are whole, dates are dates, categories have the word of the
            largest element. Columns that the reader left out are not there.

        Raises:
            InputError: x has another shape.
        """
        bounded = self.bounds == "data"
        arrays = [column.decode(column.settle(part, bounded)) for column, part in self.parts(x)]
        return pa.table(arrays, names=list(self.names))

    def decode_mean(self, x: Tensor) -> Any:
        """Means of rows as an Arrow table: numbers are not rounded.

        Args:
            x: (N, d) means in data units; of categories the probabilities of the words. NaN gives
                null.

        Returns:
            The table: float64 for numbers, dates for dates, the most likely word for categories.
        """
        arrays = []
        for column, part in self.parts(x):
            if is_number(column.arrow) and not column.words and column.kind != "constant":
                arrays.append(pa.array(part[:, 0], mask=np.isnan(part[:, 0])))
            else:
                free = replace(column, values=(), per=0) if is_temporal(column.arrow) else column
                free = column if column.kind == "constant" else free
                arrays.append(free.decode(free.settle(part, bounded=False)))
        return pa.table(arrays, names=list(self.names))

    def decode_spread(self, x: Tensor) -> Any:
        """Standard deviations of rows as an Arrow table of float64.

        Args:
            x: (N, d) standard deviations in data units.

        Returns:
            The table: numbers in their own units, dates in days or seconds. Categories have no
            column.
        """
        numbers = [(c, part[:, 0]) for c, part in self.parts(x) if not c.words]
        arrays = [pa.array(part, mask=np.isnan(part)) for _, part in numbers]
        return pa.table(arrays, names=[column.name for column, _ in numbers])

    def moved(self, x: Tensor) -> dict[str, int]:
        """How many numbers of each column lie beyond the range of the data.

        Args:
            x: (N, d) in data units.

        Returns:
            The counts of the columns that have some. `decode` reflects them under bounds="data".
        """
        found = {c.name: int(c.outside(part[:, 0]).sum()) for c, part in self.parts(x)}
        return {name: count for name, count in found.items() if count}

    def moved_note(self, x: Tensor) -> str:
        """What `decode` does to numbers beyond the range of the data, in a sentence; "" for none.

        Args:
            x: (N, d) in data units.
        """
        counts = self.moved(x)
        if not counts:
            return ""
        total = sum(counts.values())
        shown = ", ".join(f"{name} {count}" for name, count in list(counts.items())[:5])
        more = f" and {len(counts) - 5} columns more" if len(counts) > 5 else ""
        done = (
            "reflected at the ends of the range of the data; --bounds none keeps them"
            if self.bounds == "data"
            else "beyond the range of the data; --bounds data reflects them at its ends"
        )
        return f"{total} of {x.numel()} values are {done} ({shown}{more})"

    # -- to elements

    def encode(self, items: Any, name: str = "the data", blanks: bool = False) -> Tensor:
        """Rows of a table as vectors.

        Args:
            items: A path, an Arrow table, a data frame or a mapping from names to arrays: its
                columns are matched by name. An array or tensor (N, d) is taken as encoded rows, in
                the order of `element_names`.
            name: The source, for messages.
            blanks: Whether missing values are allowed; they become NaN.

        Returns:
            (N, d) in data units, of type `dtype`.

        Raises:
            InputError: Columns are missing or hold something else, or a word is not known.
        """
        from .table_rows import read_rows

        return read_rows(self, items, name, blanks=blanks).values

    # -- files

    @property
    def text_style(self) -> TextStyle:
        """How the source writes text."""
        columns = self.columns if self.given is None else self.given.among(self.columns)
        styles = tuple(column.style for column in columns)
        return TextStyle(self.delimiter, self.decimal, self.named, styles)

    def write(
        self,
        stem: Path,
        x: Tensor,
        format: str | None = None,
        condition: Condition | None = None,
    ) -> list[Path]:
        """Write rows as a table with the source's names, in its format or another one.

        Args:
            stem: The path without a suffix.
            x: (N, d) in data units.
            format: "csv", "tsv", "parquet" or "feather"; None: the source's own. CSV has the
                source's delimiter and decimal mark, and names where the source has them.
            condition: What the rows were drawn with; its columns are written at their old places,
                blank where it is None.

        Returns:
            The file.

        Raises:
            InputError: The format is another one.
        """
        own = self.format if self.format in FORMATS else "csv"
        kind = format or own
        self.check_format(kind)
        style = self.text_style
        if kind == "tsv":
            style = replace(style, delimiter="\t")
        elif self.delimiter == "\t" and own != kind:
            style = replace(style, delimiter=",")
        table = self.decode(x)
        if self.given is not None:
            table = self.given.insert(table, condition)
        return [write_table(stem.with_name(f"{stem.name}.{kind}"), table, style)]

    # -- the model card

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, in a form that JSON can hold."""
        return {
            "columns": [column.to_dict() for column in self.columns],
            "named": self.named,
            "bounds": self.bounds,
            "format": self.format,
            "delimiter": self.delimiter,
            "decimal": self.decimal,
            "dtype": self.dtype,
            **({} if self.given is None else {"given": self.given.to_dict()}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TableForm":
        """The form that `to_dict` wrote."""
        columns = tuple(Column.from_dict(column) for column in values["columns"])
        given = None if values.get("given") is None else Given.from_dict(values["given"])
        rest = {k: v for k, v in values.items() if k not in ("columns", "given")}
        return cls((sum(column.size for column in columns),), columns, **rest, given=given)

    @staticmethod
    def of(columns: tuple[Column, ...], **attributes: Any) -> "TableForm":
        """The form of columns; `dtype` is float32 where all their numbers are.

        Args:
            columns: The columns.
            attributes: The other attributes.
        """
        numbers = [c.arrow for c in columns if not c.words]
        single = numbers and all(t.is_float32(k) or t.is_float16(k) for k in numbers)
        size = sum(column.size for column in columns)
        dtype = "float32" if single else "float64"
        return TableForm((size,), columns, dtype=dtype, **attributes)
