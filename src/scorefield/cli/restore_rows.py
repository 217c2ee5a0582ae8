"""`scorefield restore` for tables: rows with blanks in, rows back."""

from pathlib import Path
from typing import Any

from ..errors import InputError
from ..values import did_you_mean


def parse_given(texts: list[str]) -> dict[str, Any]:
    """Read texts such as "age=30"; numbers become numbers.

    Returns:
        From a column's name to its value.

    Raises:
        InputError: a text has no "=", or a name occurs twice.
    """
    given: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not name or not value:
            raise InputError(f"--given takes NAME=VALUE, for example age=30; got {text!r}")
        if name in given:
            raise InputError(f"--given names column {name!r} twice")
        try:
            given[name] = int(value)
        except ValueError:
            try:
                given[name] = float(value)
            except ValueError:
                given[name] = value
    return given


def given_row(form: Any, texts: list[str]) -> Any:
    """One row of which the columns of --given are known, as an Arrow table.

    Args:
        form: the `TableForm` of the model.
        texts: texts NAME=VALUE.

    Raises:
        InputError: a text is not NAME=VALUE, or the model has no such column.
    """
    import pyarrow as pa

    given = parse_given(texts)
    names = [column.name for column in form.columns]
    for name in given:
        if name not in names:
            raise InputError(
                f"--given {name}: the model has no such column{did_you_mean(name, names)} Its "
                f"columns: {', '.join(names)}"
            )
    return pa.table({name: pa.array([given.get(name)]) for name in names})


def read_rows(
    form: Any, input: Path | None, given: list[str] | None, options: Any = None
) -> tuple[Any, Any]:
    """The observed rows (K, d) in data units, NaN where a cell is blank, and their condition.

    Args:
        form: the `TableForm` of the model.
        input: a table file with the model's columns, or None.
        given: texts NAME=VALUE in place of a file.
        options: `ReadOptions` of the file, or None.

    Returns:
        A floating tensor; and the condition that the file holds in its columns, or None.

    Raises:
        InputError: neither or both are given, the file does not fit, or no cell is blank.
    """
    import torch

    if (input is None) == (not given):
        raise InputError(
            "this model is of a table: give --input with a table whose blank cells are to be "
            "filled in, or --given NAME=VALUE for each known column"
        )
    if input is None:
        return form.encode(given_row(form, given or []), "--given", blanks=True), None
    from ..data.table_rows import read_rows as read
    from .show import say

    if not input.is_file():
        raise InputError(f"--input {input}: there is no such file")
    found = read(form, input, str(input), options, blanks=True)
    for note in found.notes:
        say(note)
    rows = found.values
    if not bool(torch.isnan(rows).any()):
        raise InputError(
            f"--input {input}: no cell is blank, so there is nothing to restore. Leave the unknown "
            "cells empty"
        )
    if found.condition is None:
        return rows, None
    return rows, {form.given.kind: found.condition}


def write_rows(form: Any, rows: Any, result: Any, out: Path, format: str | None) -> list[Path]:
    """Write restored rows: means with standard deviations, and every draw.

    Args:
        form: the `TableForm` of the model.
        rows: the observed rows (K, d) with NaN where a cell was blank.
        result: the `Restoration`, with draws (K, n, d).
        out: folder for the results.
        format: "csv", "parquet" or another of the form's formats; None: the source's own.

    Returns:
        restored.*, a row for each observation, whose blank cells have the mean of the draws (the
        most frequent word) and a column "NAME sd" each; and draws.*, a row for each draw.
    """
    import pyarrow as pa
    import torch

    from ..data import write_table
    from ..data.table_files import TextStyle

    kind = format or (form.format if form.format in form.formats else "csv")
    count, draws = result.draws.shape[:2]
    unknown = rows.isnan()
    settled = form.settle(result.draws.flatten(0, 1)).reshape(count, draws, -1)
    middle = form.decode_mean(torch.where(unknown, settled.mean(1), rows.double()))
    spread = settled.std(1) if draws > 1 else torch.full_like(settled[:, 0], float("nan"))
    deviation = form.decode_spread(torch.where(unknown, spread, 0.0))
    columns: dict[str, Any] = {}
    for name in form.names:
        blank = unknown[:, form.elements[name]].any(1)
        columns[name] = middle[name]
        if not bool(blank.any()):
            known = form.decode(torch.where(unknown, 0.0, rows.double()))
            columns[name] = known[name]
        elif name in deviation.column_names:
            columns[f"{name} sd"] = deviation[name]
    style = TextStyle("\t" if kind == "tsv" else form.delimiter, form.decimal)
    restored = write_table(out / f"restored.{kind}", pa.table(columns), style)
    each = form.decode(result.draws.flatten(0, 1))
    index = torch.arange(count).repeat_interleave(draws).numpy()
    head = {"row": pa.array(index), "draw": pa.array(list(range(draws)) * count)}
    table = pa.table({**head, **{name: each[name] for name in each.column_names}})
    return [restored, write_table(out / f"draws.{kind}", table, style)]
