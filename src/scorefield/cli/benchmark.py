"""scorefield benchmark"""

from pathlib import Path

import typer

from .show import say

benchmark = typer.Typer(help="Measurements that others can repeat; tables and JSON.", no_args_is_help=True)


@benchmark.command()
def kills(
    trials: int = typer.Option(20, help="How many runs are killed, 1 or more."),
    seed: int = typer.Option(0, help="Decides the instants, as shares of a run's length."),
    out: Path | None = typer.Option(None, help="A .json for the record."),
) -> None:
    """Kill training runs at random instants: do they end bitwise as if nothing had happened?"""
    from ..benchmarks.kills import kills as run
    from ..runs import write_json

    record = run(trials, seed, say)
    say(
        f"{record['equal']} of {trials} bitwise equal after {record['kills']} kills ({record['found_torn']} torn files found, {record['seconds']} s)"
    )
    if out is not None:
        write_json(out, record)
    raise typer.Exit(0 if record["equal"] == trials else 1)
