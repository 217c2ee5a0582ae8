"""The command `scorefield benchmark`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from . import completion
from . import options as o
from .show import Outcome, console, progress, say

STUDIES = ("samplers",)

What = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="What is measured: samplers, all samplers at given numbers of evaluations.",
        autocompletion=completion.words(STUDIES),
    ),
]
Problems = Annotated[
    list[str] | None,
    typer.Option(
        "--problem",
        help="A density with exact samples: three-modes, grid-8d, narrow-16d, ring or ill-scaled "
        "(repeatable).",
        show_default="all, or none with --run",
    ),
]
Samplers = Annotated[
    list[str] | None,
    typer.Option(
        "--sampler",
        help="A sampler with its options, such as unipc, 'unipc p=3', 'veab ladder=karras', or "
        "default for the sampler that `sample --nfe N` chooses (repeatable).",
        show_default="all",
    ),
]
Budgets = Annotated[
    str,
    typer.Option(
        "--nfe", metavar="N,N,...", help="Numbers of evaluations per sample (NFE), with commas."
    ),
]
OwnRun = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="RUN",
        help="A trained run: its model is compared with its own converged flow and with the "
        "held-out examples.",
        autocompletion=completion.runs,
    ),
]
OutFolder = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder for samplers.json, samplers.md and samplers.png. A second call measures only "
        "what samplers.json lacks.",
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(min=1, help="Seeds of each cell.", show_default="3; quick 2, full 10"),
]
Count = Annotated[
    int | None,
    typer.Option(
        min=2, help="Samples of each seed.", show_default="4,000; quick 1,000, full 20,000"
    ),
]
Quick = Annotated[
    bool, typer.Option("--quick", help="2 seeds of 1,000 samples, 20 pairs of exact sets.")
]
Full = Annotated[
    bool, typer.Option("--full", help="10 seeds of 20,000 samples, 200 pairs of exact sets.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be measured, and what is left out.")
]


def benchmark(
    study: What,
    problem: Problems = None,
    sampler: Samplers = None,
    nfe: Budgets = "5,7,10,20,40,100",
    seeds: Seeds = None,
    count: Count = None,
    run: OwnRun = None,
    out: OutFolder = None,
    quick: Quick = False,
    full: Full = False,
    dry_run: DryRun = False,
    force: o.Force = False,
    network: o.NetworkFile = None,
    execution: o.Execution = o.Execution(),
) -> Outcome:
    """Measure every sampler at every number of evaluations, against exact samples."""
    from ..studies import FULL, QUICK, Protocol
    from ..studies.samplers import FILES, plan_study, run_plan
    from ..studies.study import with_numbers

    check_study(study, quick, full)
    if out is not None:
        o.check_folder(out)
    protocol = with_numbers(QUICK if quick else FULL if full else Protocol(), seeds, count)
    problems = make_problems(problem, run, network, execution)
    plan = plan_study(problems, sampler, parse_budgets(nfe), protocol)
    say(plan.words())
    if dry_run:
        for cell in plan.cells:
            if cell.recipe is None:
                say(f"left out: {cell.name}: {cell.skipped}")
        return Outcome(facts={"evaluations": plan.evaluations, "cells": len(plan.cells)})
    if out is not None and force:
        o.remove_stale([out / name for name in FILES if (out / name).exists()], [])
    with progress("measuring") as report:
        found = run_plan(plan, out, report)
    console.print(found.table(), markup=False, soft_wrap=True)
    written = [] if out is None else [out / name for name in FILES]
    return Outcome(written, ("sample", "--help"), {"study": found.record})


def check_study(study: str, quick: bool, full: bool) -> None:
    """Refuse an unknown study, and --quick together with --full."""
    if study not in STUDIES:
        raise InputError(f"the studies are {', '.join(STUDIES)}; got {study!r}")
    if quick and full:
        raise InputError("--quick and --full contradict each other: give one")


def parse_budgets(text: str) -> list[int]:
    """Read --nfe: whole numbers of 1 or more with commas."""
    numbers = o.parse_numbers(text, "--nfe")
    if any(not number.is_integer() or number < 1 for number in numbers):
        raise InputError(
            f"--nfe takes whole numbers of 1 or more with commas, for example 5,10; got {text!r}"
        )
    return [int(number) for number in numbers]


def make_problems(
    names: list[str] | None, run: Path | None, network: str | None, execution: o.Execution
) -> list[Any] | None:
    """The problems of --problem and --run; None for all densities.

    Args:
        names: names of densities.
        run: a trained run.
        network: "FILE.py:NAME" for a run of a user's own network.
        execution: where the arithmetic of a run's model runs.

    Returns:
        Names and problems.

    Raises:
        InputError: there is no model at the path.
    """
    if run is None:
        return list(names) if names else None
    from ..studies import run_problem
    from .loading import ready

    model, chosen = ready(run, execution.request(), network)
    say(f"running on {chosen.describe()}")
    return [*(names or []), run_problem(model, run.name or "run")]
