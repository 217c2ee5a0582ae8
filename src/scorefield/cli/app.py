"""The commands, each in a file of its own."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from .. import __version__
from .benchmark import benchmark
from .compare import compare_command
from .demo import demo
from .evaluate import evaluate_command
from .figures import figures
from .import_ import import_command
from .info import info
from .likelihood import likelihood
from .options import method_table, sampler_table, with_groups
from .plan import plan_command
from .restore import restore
from .sample import sample_command
from .settings import settings_command
from .show import printing_command, say
from .train import train
from .tune import tune_command

START = """\
scorefield learns the score of a data set, the gradient of its log density.
It draws new samples, restores damaged data and measures likelihoods.

I have                    Run
nothing yet               scorefield demo
a table (CSV, Parquet)    scorefield train --data table.csv --run runs/mine
a folder of pictures      scorefield train --data pictures --run runs/mine
an array (.npy, .npz)     scorefield train --data array.npy --run runs/mine
data, and no settings     scorefield plan --data array.npy
a trained run             scorefield sample runs/mine --out samples
a run to judge            scorefield evaluate runs/mine
data with gaps            scorefield restore runs/mine --input rows.csv --out restored
data to score             scorefield likelihood runs/mine --data new.csv --out scores.json
a run to look at          scorefield info runs/mine

Training takes five minutes; --budget 2m or 1h changes that.
All commands: scorefield --help. Options of one: scorefield train --help."""


class SamplerCommand(TyperCommand):
    """A command whose help lists the samplers; they are imported only where help is printed."""

    table = staticmethod(sampler_table)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, with the registry's entries below it."""
        try:
            self.epilog = self.table()
        except ModuleNotFoundError as problem:
            self.epilog = f"The list needs the package {problem.name}."
        super().format_help(ctx, formatter)


class MethodCommand(SamplerCommand):
    """A command whose help lists the methods of restoration."""

    table = staticmethod(method_table)


app = typer.Typer(
    name="scorefield",
    help="Learn the score of a data set, the gradient of its log density; draw samples, restore "
    "damaged data, measure likelihoods, and check the result.",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"scorefield {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options that come before the command; without a command, where to start."""
    if context.invoked_subcommand is None:
        say(START)


def add(name: str, function: Callable[..., Any], kind: type[TyperCommand] | None = None) -> None:
    """Add a command, with its groups of options, --quiet and --json.

    Args:
        name: name of the command.
        function: the command.
        kind: class of the command; None: typer's own.
    """
    app.command(name, cls=kind)(printing_command(with_groups(function)))


add("demo", demo)
add("plan", plan_command)
add("train", train)
add("sample", sample_command, SamplerCommand)
add("restore", restore, MethodCommand)
add("tune", tune_command)
add("evaluate", evaluate_command, SamplerCommand)
add("compare", compare_command)
add("likelihood", likelihood)
add("info", info)
add("settings", settings_command)
add("figures", figures)
add("benchmark", benchmark)
add("import", import_command)
