"""scorefield figures"""

import time
from pathlib import Path

import typer

from ..errors import InputError
from .show import duration, say


def figures(
    out: Path = typer.Option(
        ..., help="Folder for the pictures, a JSON of the numbers of each, and figures.md."
    ),
    only: str | None = typer.Option(
        None, help="Experiments with commas, 1 to 8: 3,5. [default: all]"
    ),
    run: Path | None = typer.Option(
        None,
        help="Experiment 8: a trained run of images. [default: one is trained on digits for 60 s]",
    ),
    quick: bool = typer.Option(
        False,
        "--quick",
        help="The same experiments with less training and fewer samples: about a minute.",
    ),
    threads: int = typer.Option(0, help="CPU threads; 0 = all."),
) -> None:
    """Compute the article's eight experiments afresh: pictures and numbers, each with a fixed seed."""
    from ..execution import choose
    from ..figures import EXPERIMENTS, Experiment, Made, Settings, make_figures
    from ..figures.common import threads as threads_for

    try:
        numbers = [int(n) for n in (only or "").split(",") if n.strip()]
    except ValueError as problem:
        raise InputError(
            f"--only takes numbers of experiments with commas, for example 3,5; got {only!r}"
        ) from problem
    began = time.perf_counter()
    latest = began

    def tell(experiment: Experiment, made: Made) -> None:
        nonlocal latest
        now = time.perf_counter()
        say(
            f"{experiment.number}/{len(EXPERIMENTS)} {experiment.question} "
            f"{duration(now - latest)}\n    {made.found}"
        )
        say("    " + ", ".join(str(file) for file in made.files))
        latest = now

    with threads_for(choose("cpu", "float32", "off", threads).threads):
        make_figures(out, numbers, Settings(quick, run), tell)
    say(f"done in {duration(time.perf_counter() - began)}: {out}/figures.md")
