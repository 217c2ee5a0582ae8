"""The cells of `bench posteriors`: a method of a library on a problem, measured once.

Where a candidate has a grid of constants, those that are best on problems of their own are tried
besides what the library has by default.
"""

import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from scorefield.errors import InputError
from scorefield.files import write_json
from scorefield.models import count_cost

from .posterior_suite import SLICES, Problem, make_problem, sliced_w1

Record = dict[str, Any]
Draw = Callable[..., Tensor]

TUNING_FIRST = 500  # number of the first problem by which constants are chosen


@dataclass(frozen=True)
class Candidate:
    """A method of a library.

    Args:
        library: Its name.
        method: Our name of the method.
        draw: (problem, steps, draws, seed, **options) -> (draws, d) in the problem's units.
        grid: Options among which `tune` chooses; empty: the method is measured as it comes.
        note: How the library is used: schedule, sampler, constants.
        tuned: Whether the options were chosen by `tune`.
        options: Options by number of steps; those of 0 are for any other number.
    """

    library: str
    method: str
    draw: Draw
    grid: tuple[Mapping[str, Any], ...] = ()
    note: str = ""
    tuned: bool = False
    options: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Library, method, and whether it is tuned."""
        return f"{self.library} {self.method}{', tuned' if self.tuned else ''}"

    def options_for(self, steps: int) -> Mapping[str, Any]:
        """The options for a number of steps."""
        return self.options.get(steps, self.options.get(0, {}))

    def cell(self, steps: int, d_y: int, number: int) -> str:
        """The name of a cell: what is run, with which options, on which problem."""
        shown = ", ".join(
            f"{key} {value if isinstance(value, str) else format(value, 'g')}"
            for key, value in self.options_for(steps).items()
        )
        run = f"{self.library} {self.method}{' with ' if shown else ''}{shown}"
        return f"{run} | d_y {d_y} | {steps} steps | problem {number}"


@dataclass(frozen=True)
class Suite:
    """What is measured.

    Args:
        d: Dimension of x.
        d_y: Dimensions of y.
        steps: Numbers of evaluations of the denoiser.
        problems: Number of problems for each d_y.
        draws: Draws of each cell.
        tuning: Number of other problems for each d_y, by which constants are chosen; 0: none are.
    """

    d: int = 8
    d_y: tuple[int, ...] = (1, 2, 4)
    steps: tuple[int, ...] = (100, 20)
    problems: int = 20
    draws: int = 1000
    tuning: int = 5

    def protocol(self) -> Record:
        """What cells of one record must share."""
        return {"d": self.d, "draws": self.draws, "slices": SLICES}


def read(path: Path) -> Record:
    """The record in a .json.

    Raises:
        InputError: The file holds something else.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise InputError(f"{path} is no record of `bench posteriors`: {problem}") from problem
    if not isinstance(found, dict) or not {"protocol", "cells"} <= found.keys():
        raise InputError(f"{path} is no record of `bench posteriors`; choose another file")
    return found


class Cells:
    """Measured cells by name; the record is written after each.

    Args:
        path: A .json; None: nothing is written.
        protocol: What all cells share.

    Raises:
        InputError: The file has cells of another protocol.
    """

    def __init__(self, path: Path | None, protocol: Record) -> None:
        self.path = path
        found: Record = read(path) if path is not None and path.exists() else {}
        if found.setdefault("protocol", protocol) != protocol:
            raise InputError(
                f"{path} has cells of {found['protocol']}, not of {protocol}; choose another file"
            )
        self.record = found
        self.cells: Record = found.setdefault("cells", {})
        self.run = time.strftime("%Y-%m-%d %H:%M:%S")

    def get(self, name: str, make: Callable[[], Record]) -> Record:
        """The cell of this name; it is measured where it does not exist yet."""
        if name not in self.cells:
            self.cells[name] = {**make(), "run": self.run}
            self.save()
        found: Record = self.cells[name]
        return found

    def measure(self, candidate: Candidate, problem: Problem, steps: int, draws: int) -> Record:
        """The cell of a candidate and a problem."""
        name = candidate.cell(steps, problem.d_y, problem.number)
        return self.get(name, partial(measure, candidate, problem, steps, draws))

    def floor(self, problem: Problem, draws: int) -> Record:
        """The cell of the distance of two exact sets."""
        name = f"exact | d_y {problem.d_y} | problem {problem.number}"
        return self.get(name, partial(floor, problem, draws))

    def save(self) -> None:
        """Write the record."""
        if self.path is not None:
            write_json(self.path, self.record)


def measure(candidate: Candidate, problem: Problem, steps: int, draws: int) -> Record:
    """A cell: the distance to exact draws, seconds for 1,000 draws, and the evaluations of a draw.

    `sw1` is None where a draw is not finite, and `refused` holds the reason where the method does
    not take the problem.
    """
    seed = problem.number
    try:
        with count_cost() as cost:
            start = time.perf_counter()
            x = candidate.draw(problem, steps, draws, seed, **candidate.options_for(steps))
            seconds = time.perf_counter() - start
    except InputError as error:
        return {"refused": str(error), "sw1": None}
    distance = sliced_w1(x, problem.exact(draws, 0), seed)
    return {
        "sw1": None if math.isnan(distance) else distance,
        "seconds": seconds * 1000 / draws,
        "evaluations": cost.forwards / draws,
    }


def floor(problem: Problem, draws: int) -> Record:
    """The distance of two exact sets."""
    first, second = problem.exact(draws, 0), problem.exact(draws, 1)
    return {"sw1": sliced_w1(first, second, problem.number)}


def tune(candidate: Candidate, suite: Suite, cells: Cells) -> Candidate:
    """The candidate with the options of its grid that are best on problems of their own.

    For each number of steps, the options with the least mean distance over the tuning problems of
    all d_y are chosen.
    """
    chosen = {}
    for steps in suite.steps:
        scores = []
        for options in candidate.grid:
            tried = replace(candidate, options={0: options})
            found = []
            for d_y, n in product(suite.d_y, range(suite.tuning)):
                problem = make_problem(suite.d, d_y, TUNING_FIRST + n)
                found.append(cells.measure(tried, problem, steps, suite.draws)["sw1"])
            scores.append(math.inf if None in found else statistics.fmean(found))
        chosen[steps] = candidate.grid[int(np.argmin(scores))]
    return replace(candidate, tuned=True, options=chosen)


def warm(candidates: Sequence[Candidate], suite: Suite) -> None:
    """Run every candidate briefly, so that what a library loads on first use is not timed."""
    problem = make_problem(suite.d, suite.d_y[0], TUNING_FIRST)
    for candidate in candidates:
        measure(candidate, problem, 3, 8)


def machine() -> dict[str, str]:
    """Versions and the processor's type."""
    found = {"machine": platform.machine(), "python": platform.python_version()}
    for package in ("torch", "scorefield", "azula", "deepinv"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
