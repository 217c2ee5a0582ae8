"""`scorefield restore` for tables: rows with blanks in, rows back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..values import did_you_mean


def parse_given(texts: list[str]) -> dict[str, str]:
    """Read texts such as "age=30".

    Returns:
        From a column's name to the text of its value.

    Raises:
        InputError: a text has no "=", or a name occurs twice.
    """
    given: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not name or not value:
            raise InputError(f"--given takes NAME=VALUE, for example age=30; got {text!r}")
        if name in given:
            raise InputError(f"--given names column {name!r} twice")
        given[name] = value
    return given


def given_rows(form: Any, texts: list[str], options: Any = None) -> Any:
    """One row of which the columns of --given are known, read as the cells of a text table.

    Args:
        form: the `TableForm` of the model.
        texts: texts NAME=VALUE.
        options: `ReadOptions`, of which the marks of numbers are taken; or None.

    Returns:
        The `data.table_rows.Rows`.

    Raises:
        InputError: a text is not NAME=VALUE, the model has no such column, or the value is none of
            the column's kind.
    """
    import pyarrow as pa

    from ..data.table_rows import read_rows as read
    from ..data.table_sources import Source

    class Typed(Source):
        """The cells of --given, whose errors name the option."""

        def error(self, k: int, message: str, rows: Any = ()) -> InputError:
            return InputError(f"--given {self.labels[k]}: {message}")

    given = parse_given(texts)
    names = form.names
    for name in given:
        if name not in names:
            raise InputError(
                f"--given {name}: the model has no such column{did_you_mean(name, names)} Its "
                f"columns: {', '.join(names)}"
            )
    cells = pa.table({name: pa.array([given.get(name)], pa.string()) for name in names})
    source = Typed("--given", cells, names, text=True, format="text", delimiter=form.delimiter)
    found = read(form, source, "--given", options, blanks=True)
    for name, value in given.items():
        if found.table.column(name).null_count:
            raise InputError(
                f"--given {name}: {value!r} stands for a missing value. Give a value, or leave the "
                "column out where it is unknown"
            )
    return found


def read_rows(
    form: Any, input: Path | None, given: list[str] | None, options: Any = None
) -> tuple[Any, Any, Any]:
    """The observed rows (K, d) in data units, NaN where a cell is blank, and their condition.

    Args:
        form: the `TableForm` of the model.
        input: a table file with the model's columns, or None.
        given: texts NAME=VALUE in place of a file.
        options: `ReadOptions` of the file, or None.

    Returns:
        A floating tensor; the known cells as they were given, an Arrow table that is null where a
        cell is blank; and the condition that the file holds in its columns, or None.

    Raises:
        InputError: neither or both are given, the file does not fit, no cell is blank, or a cell
            differs from a column that is constant in the training data.
    """
    import torch

    from ..data.known_cells import refuse_other_constants
    from ..data.table_rows import read_rows as read
    from .show import say

    if (input is None) == (not given):
        raise InputError(
            "this model is of a table: give --input with a table whose blank cells are to be "
            "filled in, or --given NAME=VALUE for each known column"
        )
    if input is None:
        found, option = given_rows(form, given or [], options), "--given"
        unknown = "Leave the unknown columns out"
    else:
        option, unknown = f"--input {input}", "Leave the unknown cells empty"
        if not input.is_file():
            raise InputError(f"{option}: there is no such file")
        found = read(form, input, str(input), options, blanks=True)
    for note in found.notes:
        say(note)
    rows = found.values
    if not bool(torch.isnan(rows).any()):
        raise InputError(f"{option}: no cell is blank, so there is nothing to restore. {unknown}")
    refuse_other_constants(form, found.table, option)
    condition = None if found.condition is None else {form.given.kind: found.condition}
    return rows, found.table, condition


def write_rows(
    form: Any, rows: Any, known: Any, draws: Any, out: Path, format: str | None
) -> list[Path]:
    """Write restored rows: means with standard deviations, and every draw.

    Known cells are written as they were given.

    Args:
        form: the `TableForm` of the model.
        rows: the observed rows (K, d) with NaN where a cell was blank.
        known: the known cells, an Arrow table of K rows that is null where a cell was blank.
        draws: (K, n, d) in data units.
        out: folder for the results.
        format: "csv", "parquet" or another of the form's formats; None: the source's own.

    Returns:
        restored.*, a row for each observation, whose blank cells have the mean of the draws (the
        most frequent word) and a column "NAME sd" each; and draws.*, a row for each draw.
    """
    import pyarrow as pa
    import torch

    from ..data import write_table
    from ..data.known_cells import overlay
    from ..data.table_files import TextStyle

    kind = format or (form.format if form.format in form.formats else "csv")
    count, repeats = draws.shape[:2]
    unknown = rows.isnan()
    settled = form.settle(draws.flatten(0, 1)).reshape(count, repeats, -1)
    middle = form.decode_mean(torch.where(unknown, settled.mean(1), rows.double()))
    whole = form.decode(torch.where(unknown, 0.0, rows.double()))  # of columns without a blank
    spread = settled.std(1) if repeats > 1 else torch.full_like(settled[:, 0], float("nan"))
    deviation = form.decode_spread(torch.where(unknown, spread, 0.0))
    blank = {name: bool(unknown[:, form.elements[name]].any()) for name in form.names}
    found = pa.table({n: (middle if blank[n] else whole)[n] for n in form.names})
    found = overlay(found, known)
    columns: dict[str, Any] = {}
    for name in form.names:
        columns[name] = found[name]
        if blank[name] and name in deviation.column_names:
            columns[free_name(f"{name} sd", form.names)] = deviation[name]
    style = TextStyle("\t" if kind == "tsv" else form.delimiter, form.decimal)
    restored = write_table(out / f"restored.{kind}", pa.table(columns), style)
    each = overlay(form.decode(draws.flatten(0, 1)), known, repeats)
    index = torch.arange(count).repeat_interleave(repeats).numpy()
    numbers = {"row": pa.array(index), "draw": pa.array(list(range(repeats)) * count)}
    head = {free_name(name, form.names): array for name, array in numbers.items()}
    table = pa.table({**head, **{name: each[name] for name in each.column_names}})
    return [restored, write_table(out / f"draws.{kind}", table, style)]


def free_name(name: str, taken: Sequence[str]) -> str:
    """A name of a further column that no column of the table has: row, row_, row__ and so on."""
    while name in taken:
        name += "_"
    return name
