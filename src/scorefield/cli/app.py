"""The commands, each in a file of its own."""

import typer

from .. import __version__
from .demo import demo
from .figures import figures
from .import_ import import_command
from .info import info
from .likelihood import likelihood
from .restore import restore
from .sample import sample_command
from .train import train

app = typer.Typer(
    name="scorefield",
    help="Learn the score of a data set, draw samples, restore what is damaged, and check the result.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"scorefield {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Options before the command."""


app.command()(demo)
app.command()(train)
app.command("sample")(sample_command)
app.command()(restore)
app.command()(likelihood)
app.command()(info)
app.command()(figures)
app.command("import")(import_command)
