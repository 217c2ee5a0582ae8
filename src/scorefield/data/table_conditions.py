"""The columns of a table that a model is conditioned on: which they are, and their values."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from .cells import Unclear
from .dataset import Dataset
from .given import Given, describe_given
from .labels import missing_labels, note_on_minus_one, note_on_words
from .options import ReadOptions, is_names
from .table_reading import Loaded
from .table_sources import Source

SHOWN = 8  # names that a message lists


def listed(names: Sequence[str]) -> str:
    """The first names with commas; "..." stands for the others."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


@dataclass(frozen=True)
class Found:
    """The condition of the rows of a table.

    Attributes:
        given: The columns.
        value: Classes, int64 (N,), or vectors, float64 (N, k).
        remarks: Sentences about the values.
    """

    given: Given
    value: Tensor
    remarks: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What the condition is, in sentences for the report."""
        names = self.given.names
        if self.given.kind == "vector":
            return [f"condition: the vector of {listed(names)}", *self.remarks]
        classes = self.given.class_names
        held = f"{len(classes)} classes: {listed(classes)}"
        return [f"condition: the class in {names[0]} ({held})", *self.remarks]

    def take(self, index: Tensor) -> "Found":
        """The condition of some rows."""
        return replace(self, value=self.value[index])

    def attach(self, dataset: Dataset) -> Dataset:
        """The data set with this condition."""
        if self.given.kind == "class":
            return dataset.with_labels(self.value, self.given.class_names)
        return dataset.with_vectors(self.value, self.given.names)


def condition_columns(read: Source, options: ReadOptions) -> tuple[str, ...]:
    """The names of the columns that are the condition; () where it does not come from columns.

    Raises:
        InputError: A condition is wanted, and no column is named.
    """
    if options.condition is None or not is_names(options.condition_from):
        if options.condition is not None and options.condition_from is None:
            raise InputError(
                f"{read.name}: which column is the {options.condition}? Name it with "
                f"--condition-from (condition={{{options.condition!r}: NAME}}); the columns are "
                f"{listed(read.labels)}"
            )
        return ()
    names = tuple(options.condition_from)
    if len(names) == 1 and names[0] not in read.labels and Path(names[0]).is_file():
        return ()  # another file, which `conditioning` reads
    if options.condition == "class" and len(names) > 1:
        raise InputError(
            f"{read.name}: the class is in one column; got {listed(names)}. Give one of them, "
            "or --condition vector (condition='vector') for numbers"
        )
    if len(set(names)) < len(names):
        raise InputError(f"{read.name}: the condition names a column twice: {listed(names)}")
    return names


def split_given(
    read: Source, loaded: Sequence[Loaded], kind: str | None, names: Sequence[str]
) -> tuple[list[Loaded], Found | None]:
    """The columns of the examples, and the condition of the rows.

    Args:
        read: The table, for messages.
        loaded: All columns, without missing values.
        kind: "class", "vector" or None.
        names: The columns of the condition.

    Raises:
        InputError: A column does not suit the condition.
    """
    rest = [c for c in loaded if c.name not in names]
    if kind is None or not names:
        return rest, None
    order = [c.name for c in loaded]
    chosen = [loaded[order.index(name)] for name in names]
    columns = []
    for c in chosen:
        try:
            columns.append(describe_given(kind, c.name, c.array, c.style))
        except Unclear as error:
            raise read.error(c.place, str(error), error.rows) from error
    given = Given(kind, tuple(columns), tuple(order.index(name) for name in names))
    value = given.encode([c.array for c in chosen])
    if kind == "vector":
        return rest, Found(given, value)
    _refuse_blank_text(read, chosen[0], given.class_names, value)
    remarks = note_on_minus_one(given.class_names)
    if not read.text:  # text cells have had this note
        remarks += [f"{names[0]}: {note}" for note in note_on_words(given.class_names)]
    return rest, Found(given, value, tuple(remarks))


def _refuse_blank_text(read: Source, column: Loaded, names: Sequence[str], value: Tensor) -> None:
    """Refuse texts without a character as the name of a class. They are no missing cells."""
    blank = [k for k, name in enumerate(names) if not name.strip()]
    where = torch.isin(value, torch.tensor(blank, dtype=torch.int64)).nonzero().flatten().tolist()
    if where:
        words = f"{read.name}: column {column.name!r}"
        raise InputError(missing_labels(where, len(value), words))
