"""The command `scorefield figures`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from . import completion
from . import options as o
from .show import Outcome, duration, say


def figures(
    out: Annotated[
        Path,
        typer.Option(help="Folder for the pictures, a JSON file of numbers each, and figures.md."),
    ],
    only: Annotated[
        str | None,
        typer.Option(help="Numbers of experiments, 1 to 8, with commas.", show_default="all"),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Experiment 8: a trained run of images.",
            show_default="one is trained on digits for 60 s",
            autocompletion=completion.runs,
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Less training and fewer samples: about a minute."),
    ] = False,
    force: o.Force = False,
    threads: o.Threads = None,
) -> Outcome:
    """Compute the article's eight experiments: pictures and numbers, each with a fixed seed."""
    o.check_folder(out)
    try:
        numbers = [int(n) for n in (only or "").split(",") if n.strip()]
    except ValueError as problem:
        raise InputError(
            f"--only takes numbers of experiments with commas, for example 3,5; got {only!r}"
        ) from problem
    if only is not None and not numbers:
        raise InputError(f"--only takes one or more numbers of experiments; got {only!r}")
    earlier = [path for n in numbers or range(1, 9) for path in sorted(out.glob(f"{n}_*"))]
    o.refuse_existing([out / "figures.md", *earlier], force)
    from ..execution import choose
    from ..figures import EXPERIMENTS, Experiment, Result, Settings, make_figures
    from ..figures.common import threads as threads_for

    latest = time.perf_counter()

    def report(experiment: Experiment, result: Result) -> None:
        nonlocal latest
        now = time.perf_counter()
        say(
            f"{experiment.number}/{len(EXPERIMENTS)} {experiment.question} "
            f"{duration(now - latest)}\n    {result.conclusion}"
        )
        say("    " + ", ".join(str(file) for file in result.files))
        latest = now

    with threads_for(choose("cpu", "float32", "off", threads).threads):
        results = make_figures(out, numbers, Settings(quick, run), report)
    files = [file for one in results.values() for file in one.files]
    facts = {n: {"conclusion": r.conclusion, "numbers": r.numbers} for n, r in results.items()}
    return Outcome([out / "figures.md", *files], ("demo",), {"experiments": facts})
