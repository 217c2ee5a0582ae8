"""The commands, each in a file of its own."""

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from .. import __version__
from .demo import demo
from .figures import figures
from .import_ import import_command
from .info import info
from .likelihood import likelihood
from .options import sampler_table
from .restore import restore
from .sample import sample_command
from .settings import settings_command
from .train import train


class SamplerCommand(TyperCommand):
    """A command whose help lists the samplers; they are imported only where help is printed."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, with the registry's samplers below it."""
        self.epilog = sampler_table()
        super().format_help(ctx, formatter)


app = typer.Typer(
    name="scorefield",
    help="Learn the score of a data set, draw samples, restore damaged data, and check the result.",
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
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options that come before the command."""


app.command()(demo)
app.command()(train)
app.command("sample", cls=SamplerCommand)(sample_command)
app.command()(restore)
app.command()(likelihood)
app.command()(info)
app.command("settings")(settings_command)
app.command()(figures)
app.command("import")(import_command)
