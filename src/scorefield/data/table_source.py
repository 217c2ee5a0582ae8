"""`Source`: a table as it was read, before it is known what its columns hold."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .cells import Marks


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

    @property
    def labels(self) -> list[str]:
        """A name for every column: its own, or "column k" counted from 1."""
        return [name or f"column {k + 1}" for k, name in enumerate(self.names)]

    def places(self, rows: Sequence[int] | Iterable[int]) -> str:
        """Where rows are, for messages: "line 3" of a text file, or "row 0 (from 0)"."""
        wanted = sorted(rows)
        if not wanted:
            return ""
        if self.lines is None:
            plural = "s" if len(wanted) > 1 else ""
            return f"row{plural} {', '.join(map(str, wanted))} (from 0)"
        last, chosen = wanted[-1], set(wanted)
        found = []
        for row, line in enumerate(self.lines()):
            if row in chosen:
                found.append(str(line))
            if row >= last:
                break
        return f"line{'s' if len(found) > 1 else ''} {', '.join(found)}"

    def column_place(self, k: int) -> str:
        """The name of column k for messages: "column 2 (b)", or 'b' where it has no number."""
        if not self.text:
            return f"column {self.labels[k]!r}"
        return f"column {k + 1}" + (f" ({self.names[k]})" if self.names[k] else "")
