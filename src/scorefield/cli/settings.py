"""The command `scorefield settings`."""

from dataclasses import asdict
from typing import Annotated

import typer

from ..config import Setting, json_schema, settings
from ..errors import InputError
from . import completion
from .show import Outcome

TRY = ("train", "--data", "digits", "--run", "runs/digits")


def settings_command(
    group: Annotated[
        str | None,
        typer.Argument(
            help="Show the settings whose name begins so, such as optim.",
            autocompletion=completion.setting_names,
        ),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of all settings instead.")
    ] = False,
) -> Outcome:
    """List all settings of `train` with type, range, default and meaning."""
    from rich.markup import escape
    from rich.table import Table

    from .show import console

    if schema:
        return Outcome(document=("schema", json_schema()))
    rows = [row for row in settings() if row.name.startswith(group or "")]
    if not rows:
        names = sorted({row.name.partition(".")[0] for row in settings()})
        raise InputError(f"no setting begins with {group!r}; there are {', '.join(names)}")
    table = Table(box=None, pad_edge=False, show_header=False)
    for row in rows:
        facts = f"{accepted(row)} (default: {row.default})"
        table.add_row(f"[bold]{row.name}[/]", f"{escape(row.description)}\n[dim]{escape(facts)}[/]")
    console.print(table)
    return Outcome(
        next=(*TRY, "--set", "optim.lr=1e-3", "--dry-run"),
        facts={"settings": [asdict(row) for row in rows]},
    )


def accepted(row: Setting) -> str:
    """What a setting takes: its choices, or its type and range."""
    if row.kind == "choice":
        return f"one of {row.accepts}"
    return f"{row.kind}, {row.accepts}" if row.accepts else row.kind
