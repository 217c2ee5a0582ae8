"""Posterior samplers of libraries against exact posteriors, and each other.

The problems are those of `posterior_suite`. The error of a method is the sliced 1-Wasserstein
distance (W1) of its draws to as many exact ones, over 100 directions; the floor is that of two
exact sets. All libraries sample the same problems with the same exact denoiser and the same number
of its evaluations, in one process, on one thread, problem by problem in turn. Differences between
libraries are paired over the problems. Where a candidate has a grid of constants it is measured
twice: as it comes, and with the constants that are best on problems of their own.

The record is written after every cell (a method of a library on a problem); a second call goes on
with it.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import torch

from .posterior_cells import Candidate, Cells, Record, Suite, machine, tune, warm
from .posterior_suite import make_problem

DIVERGED = 100.0  # sliced W1 above which a result counts as diverged: the prior is 32 wide
OURS = "scorefield"


def posteriors(
    candidates: Sequence[Candidate],
    suite: Suite,
    out: Path | None = None,
    tell: Callable[[str], None] = print,
) -> Record:
    """Measure every candidate on every problem, in turn within a problem.

    Args:
        candidates: Methods of libraries.
        suite: The problems.
        out: A .json; what is in it is not measured again.
        tell: Receives progress.

    Returns:
        The record: protocol, cells, and `rows` and `pairs` of `summary`.

    Raises:
        InputError: `out` has cells of another protocol.
    """
    torch.set_num_threads(1)
    cells = Cells(out, suite.protocol())
    warm(candidates, suite)
    entrants = list(candidates)
    for candidate in candidates:
        if candidate.grid and suite.tuning:
            entrants.append(tune(candidate, suite, cells))
            tell(f"{entrants[-1].name}: {dict(entrants[-1].options)}")
    for number, d_y, steps in product(range(suite.problems), suite.d_y, suite.steps):
        problem = make_problem(suite.d, d_y, number)
        cells.floor(problem, suite.draws)
        for entrant in entrants:
            cells.measure(entrant, problem, steps, suite.draws)
        tell(f"problem {number}, d_y {d_y}, {steps} steps: {len(entrants)} methods")
    cells.record |= summary(entrants, suite, cells) | {"machine": machine()}
    cells.save()
    return cells.record


def mean_and_error(values: Sequence[float]) -> Record:
    """The mean, its standard error and the median; None where there are too few values."""
    n = len(values)
    return {
        "mean": statistics.fmean(values) if n else None,
        "se": statistics.stdev(values) / math.sqrt(n) if n > 1 else None,
        "median": statistics.median(values) if n else None,
        "count": n,
    }


def summary(entrants: Sequence[Candidate], suite: Suite, cells: Cells) -> Record:
    """Means over problems, and paired differences of our methods to others' of the same name.

    Returns:
        {"floor": {d_y: ...}, "rows": [...], "pairs": [...]}. A pair has the difference ours less
        theirs, `worse` where it is above two standard errors, and the median ratio of seconds,
        theirs over ours, of cells that were measured in one run.
    """
    floors = {
        str(d_y): mean_and_error(
            [
                cells.floor(make_problem(suite.d, d_y, n), suite.draws)["sw1"]
                for n in range(suite.problems)
            ]
        )
        for d_y in suite.d_y
    }
    rows, pairs = list[Record](), list[Record]()
    for steps, d_y in product(suite.steps, suite.d_y):
        measured = {
            e.name: [cells.cells[e.cell(steps, d_y, n)] for n in range(suite.problems)]
            for e in entrants
        }
        place: Record = {"d_y": d_y, "steps": steps}
        for entrant in entrants:
            row = _row(entrant, steps, measured[entrant.name])
            rows += [] if row is None else [row | place]
        for a, b in product(entrants, entrants):
            if a.method == b.method and a.library == OURS != b.library:
                pair = _pair(measured[a.name], measured[b.name])
                pairs.append({"ours": a.name, "theirs": b.name, **pair, **place})
    return {"floor": floors, "rows": rows, "pairs": pairs}


def _row(entrant: Candidate, steps: int, cells: Sequence[Record]) -> Record | None:
    """The means of a candidate's cells; None where it does not take any of the problems."""
    taken = [cell for cell in cells if "refused" not in cell]
    if not taken:
        return None
    values = [cell["sw1"] for cell in taken if cell["sw1"] is not None]
    return {
        "name": entrant.name,
        "library": entrant.library,
        "method": entrant.method,
        "options": dict(entrant.options_for(steps)),
        "note": entrant.note,
        **mean_and_error(values),
        "diverged": len(taken) - sum(value < DIVERGED for value in values),
        "seconds": statistics.median(cell["seconds"] for cell in taken),
        "evaluations": statistics.fmean(cell["evaluations"] for cell in taken),
    }


def _pair(ours: Sequence[Record], theirs: Sequence[Record]) -> Record:
    """The paired difference of two candidates' cells, problem by problem."""
    both = [
        (a, b)
        for a, b in zip(ours, theirs, strict=True)
        if a["sw1"] is not None and b["sw1"] is not None
    ]
    found = mean_and_error([a["sw1"] - b["sw1"] for a, b in both])
    ratios = [b["seconds"] / a["seconds"] for a, b in both if a["run"] == b["run"]]
    return {
        **found,
        "worse": bool(found["se"] is not None and found["mean"] > 2 * found["se"]),
        "times_faster": statistics.median(ratios) if ratios else None,
    }


def _number(found: Record, sign: str = "") -> str:
    if found["mean"] is None:
        return "none finite"
    large = abs(found["mean"]) >= DIVERGED
    error = "" if found["se"] is None else f" ± {found['se']:{'.0e' if large else '.3f'}}"
    return f"{found['mean']:{sign}{'.1e' if large else '.3f'}}{error}"


def table(record: Record) -> str:
    """The rows and the pairs as tables in plain text."""
    lines = []
    for d_y, found in record["floor"].items():
        lines.append(f"floor, exact against exact, d_y {d_y}: {_number(found)}")
    titles = ["steps", "d_y", "method", "sliced W1", "median", "diverged", "s/1000", "evaluations"]
    lines += ["", "{:>5} {:>3}  {:<28} {:>18} {:>8} {:>8} {:>8} {:>11}".format(*titles)]
    for row in record["rows"]:
        median = "" if row["median"] is None else f"{row['median']:.3g}"
        lines.append(
            f"{row['steps']:>5} {row['d_y']:>3}  {row['name']:<28} {_number(row):>18} "
            f"{median:>8} {row['diverged']:>8} {row['seconds']:>8.3f} {row['evaluations']:>11.0f}"
        )
    if record["pairs"]:
        titles = ["steps", "d_y", "ours", "theirs", "ours - theirs", "times faster", ""]
        lines += ["", "{:>5} {:>3}  {:<28} {:<24} {:>18} {:>12}  {}".format(*titles)]
    for pair in record["pairs"]:
        faster = "" if pair["times_faster"] is None else f"{pair['times_faster']:.2f}"
        lines.append(
            f"{pair['steps']:>5} {pair['d_y']:>3}  {pair['ours']:<28} {pair['theirs']:<24} "
            f"{_number(pair, '+'):>18} {faster:>12}  {'worse' if pair['worse'] else ''}".rstrip()
        )
    return "\n".join(lines)
