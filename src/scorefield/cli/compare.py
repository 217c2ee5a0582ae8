"""The command `scorefield compare`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options as o
from .show import Outcome, console, say

Place = Annotated[Path, typer.Argument(help="A folder of `evaluate`, or its evaluation.json.")]
Results = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Folder for comparison.json and comparison.html; without it nothing is written.",
    ),
]


def compare_command(
    first: Place, second: Place, out: Results = None, force: o.Force = False
) -> Outcome:
    """Put two evaluations side by side, where their numbers were made in the same way."""
    files = [] if out is None else [out / "comparison.json", out / "comparison.html"]
    if out is not None:
        o.check_folder(out)
    o.refuse_existing(files, force)
    from ..evaluation import compare
    from ..files import write_bytes, write_json

    found = compare(first, second)
    console.print(table(found))
    for name, verdict in zip(found.names, (found.first, found.second), strict=True):
        say(f"{name}: {verdict['verdict']['title']}")
    say(found.sentence)
    if files:
        write_json(files[0], found.to_dict())
        write_bytes(files[1], found.html().encode())
    return Outcome(files, (), {"comparison": found.to_dict()})


def table(found: Any) -> Any:
    """The metrics of a comparison as a table; the better one is bold."""
    from rich.markup import escape
    from rich.table import Table

    from ..evaluation.page_parts import interval

    rows = Table(box=None, pad_edge=False)
    for head in ("against held-out data", *found.names, "data against data"):
        rows.add_column(escape(head))
    for row in found.rows:
        if row.against == "held-out":
            sides = [
                f"[bold]{interval(one)}[/]" if row.better == side else interval(one)
                for side, one in (("first", row.first), ("second", row.second))
            ]
            rows.add_row(row.title, *sides, interval(row.floor))
    return rows
