"""The command `scorefield settings`."""

from typing import Annotated

import typer

from ..config import json_schema, settings
from ..errors import InputError


def settings_command(
    group: Annotated[
        str | None, typer.Argument(help="Show the settings whose name begins so, such as optim.")
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of all settings instead.")
    ] = False,
) -> None:
    """List all settings of `train` with type, range, default and meaning."""
    import json

    from rich.markup import escape
    from rich.table import Table

    from .show import console

    if schema:
        typer.echo(json.dumps(json_schema(), indent=2))
        return
    rows = [row for row in settings() if row.name.startswith(group or "")]
    if not rows:
        names = sorted({row.name.partition(".")[0] for row in settings()})
        raise InputError(f"no setting begins with {group!r}; there are {', '.join(names)}")
    table = Table(box=None, pad_edge=False, show_header=False)
    for row in rows:
        kind = row.accepts if row.kind == "choice" else row.kind
        range_ = f", {row.accepts}" if row.accepts and row.kind != "choice" else ""
        facts = f"{kind}{range_} (default: {row.default})"
        table.add_row(f"[bold]{row.name}[/]", f"{escape(row.description)}\n[dim]{escape(facts)}[/]")
    console.print(table)
