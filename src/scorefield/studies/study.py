"""The sampler study: every sampler at every number of evaluations, against exact samples.

A cell is one sampler on one problem at one number of evaluations. For each seed it has the sliced
distances of `count` samples to as many exact ones, the total variation of mode weights, for
samplers of the probability flow the RMS distance to the converged flow from the same starts, and
seconds. All samplers of a seed share their random numbers, the exact set and the directions, so
that differences between cells are paired. Distances are in data units, those of trained models of
tables and points in model units; each problem has its `scale`, the square root of the mean variance
of its elements in these units. The floor of a problem is the same distances between pairs of exact
sets; for a trained model, between sets of its converged flow.

The record is written every few seconds and holds what is finished: a second call with the same
protocol measures what is missing, seed by seed. A cell whose recipe has changed is measured anew.
"""

import json
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError, NonFiniteError
from ..evaluation.distances import sliced_wasserstein
from ..files import write_json
from ..progress import Report
from ..sampling import SamplingRecipe, draw
from ..values import whole, whole_numbers
from .entrants import Entrant
from .flow import Flow
from .measures import Projected, directions, distances, frechet, rms
from .problems import Problem

FORMAT, VERSION = "scorefield-samplers", 1
REFERENCES, FLOORS = 1_000_000, 2_000_000  # seeds of exact sets begin here
SAVE_SECONDS = 10.0
METRICS = ("sw1", "sw2", "tv", "flow", "flow_change", "sw1_data", "frechet", "seconds")
Record = dict[str, Any]


@dataclass(frozen=True)
class Protocol:
    """What the cells of one record share, and how many seeds are measured.

    Attributes:
        seeds: Seeds 0, 1, ... of a cell, 1 or more.
        count: Samples of a set, 2 or more.
        pairs: Pairs of exact sets of the floor, 1 or more. The floor of a trained model has all
            pairs of its reference sets instead.
        directions: Directions of the sliced distances.
        flow_rows: Starts of each seed that are compared with the converged flow.
        flow_nfe: Evaluations of the converged flow.
    """

    seeds: int = 3
    count: int = 4000
    pairs: int = 100
    directions: int = 64
    flow_rows: int = 200
    flow_nfe: int = 512

    def __post_init__(self) -> None:
        least = {"seeds": 1, "count": 2, "pairs": 1, "directions": 1, "flow_rows": 1, "flow_nfe": 8}
        for name, value in least.items():
            object.__setattr__(self, name, whole(getattr(self, name), name, value))
        if self.flow_rows > self.count:
            object.__setattr__(self, "flow_rows", self.count)

    def shared(self) -> Record:
        """What all cells of a record must share: everything but the number of seeds."""
        return {name: value for name, value in asdict(self).items() if name != "seeds"}


QUICK = Protocol(seeds=2, count=1000, pairs=20, flow_rows=100, flow_nfe=256)
FULL = Protocol(seeds=10, count=20_000, pairs=200, flow_rows=500)


@dataclass(frozen=True)
class Cell:
    """A cell that will be measured, or the reason why it cannot be.

    Attributes:
        problem: The problem.
        entrant: The sampler.
        nfe: Evaluations of the model a sample, the final denoising step included, at most.
        recipe: The recipe; None where the sampler cannot keep to the number.
        skipped: Why not.
    """

    problem: Problem
    entrant: Entrant
    nfe: int
    recipe: SamplingRecipe | None
    skipped: str = ""

    @property
    def name(self) -> str:
        """The key in the record."""
        return f"{self.problem.name} | {self.entrant.name} | {self.nfe}"

    def described(self) -> Record:
        """The recipe in a form that JSON can hold."""
        assert self.recipe is not None
        return {
            "sampler": self.recipe.name,
            "options": self.recipe.kernel.options(),
            "ladder": short_ladder(self.recipe.ladder.tolist()),
            "evaluations": self.recipe.evaluations,
        }


def short_ladder(sigmas: list[float]) -> Record:
    """Length, ends and the sum of logarithms of a ladder, which tell ladders apart."""
    return {
        "levels": len(sigmas),
        "sigma_max": sigmas[0],
        "sigma_min": sigmas[-1],
        "log_sum": sum(map(math.log, sigmas)),
    }


def make_cells(
    problems: Sequence[Problem], entrants: Sequence[Entrant], budgets: Sequence[int]
) -> list[Cell]:
    """Every sampler on every problem at every number of evaluations, skipped ones included.

    Args:
        problems: The problems.
        entrants: The samplers.
        budgets: Numbers of evaluations, 1 or more.

    Returns:
        The cells, problem by problem.
    """
    found = []
    for problem in problems:
        for entrant in entrants:
            for nfe in budgets:
                try:
                    recipe = entrant.recipe(problem.model, nfe)
                except InputError as error:
                    found.append(Cell(problem, entrant, nfe, None, str(error)))
                else:
                    found.append(Cell(problem, entrant, nfe, recipe))
    return found


def read_budgets(nfe: Any) -> list[int]:
    """Read numbers of evaluations.

    Args:
        nfe: Whole numbers of 1 or more.

    Returns:
        Each number once, in increasing order.

    Raises:
        InputError: For anything else, or no number.
    """
    found = sorted(set(whole_numbers(nfe, "nfe")))
    if not found or found[0] < 1:
        raise InputError(f"nfe must be whole numbers of 1 or more; got {found}")
    return found


def read_record(path: Path | None, protocol: Protocol) -> Record:
    """The record at a path, or an empty one.

    Raises:
        InputError: The file is no record of this version, or has cells of another protocol.
    """
    empty = {
        "format": FORMAT,
        "version": VERSION,
        "protocol": protocol.shared(),
        "problems": {},
        "floors": {},
        "cells": {},
    }
    if path is None or not path.exists():
        return empty
    found: Any = None
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text())
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InputError(f"{path} is no record of a sampler study; choose another folder")
    if found.get("version") != VERSION:
        raise InputError(
            f"{path} has version {found.get('version')}, this package reads {VERSION}; choose "
            "another folder"
        )
    if found.get("protocol") != protocol.shared():
        raise InputError(
            f"{path} has cells of the protocol {found.get('protocol')}, not of "
            f"{protocol.shared()}; choose another folder, or overwrite it"
        )
    return found


@dataclass
class Measurer:
    """Measures cells and keeps the record.

    Attributes:
        record: What is measured so far.
        protocol: The protocol.
        path: Where the record is written; None: nowhere.
    """

    record: Record
    protocol: Protocol
    path: Path | None = None
    saved: float = field(default_factory=time.monotonic)
    flows: dict[str, Flow] = field(default_factory=dict)
    references: dict[tuple[str, int], Projected] = field(default_factory=dict)

    def flow(self, problem: Problem) -> Flow:
        """The converged flows of a problem."""
        if problem.name not in self.flows:
            p = self.protocol
            self.flows[problem.name] = Flow(problem, p.flow_rows, p.flow_nfe)
        return self.flows[problem.name]

    def exact(self, problem: Problem, seed: int) -> Tensor:
        """A set of exact samples, or of the converged flow of a trained model."""
        if problem.exact is not None:
            return problem.exact(self.protocol.count, seed)
        flow = self.flow(problem)
        top = problem.model.sampling_range()[1]
        return flow.solve(top, seed, self.protocol.flow_nfe, self.protocol.count)

    def project(self, x: Tensor, problem: Problem) -> Projected:
        """A set, ready to be compared."""
        return Projected.of(x, problem, self.protocol.directions)

    def reference(self, problem: Problem, seed: int) -> Projected:
        """The exact set that all samplers of a seed are compared with."""
        key = problem.name, seed
        if key not in self.references:
            self.references[key] = self.project(self.exact(problem, REFERENCES + seed), problem)
        return self.references[key]

    def floor(self, problem: Problem) -> None:
        """The distances of pairs of exact sets."""
        if problem.name in self.record["floors"]:
            return
        rows = []
        if problem.exact is not None:
            for pair in range(self.protocol.pairs):
                a, b = (
                    self.project(self.exact(problem, FLOORS + 2 * pair + n), problem)
                    for n in (0, 1)
                )
                rows.append(distances(a, b))
        else:
            sets = [self.reference(problem, seed) for seed in range(max(self.protocol.seeds, 2))]
            rows = [distances(a, b) for k, a in enumerate(sets) for b in sets[:k]]
        self.record["floors"][problem.name] = {
            name: [row[name] for row in rows] for name in ("sw1", "sw2", "tv")
        }
        self.save()

    def describe(self, problem: Problem) -> None:
        """Record the problem's scale and shape; cells in other units are measured anew."""
        moments, shape = problem.model.moments(), problem.model.event_shape
        scale = None if moments is None else moments.data_std
        if scale is not None and not problem.standardised:
            ends = torch.tensor([0.0, scale], dtype=torch.float64)
            ends = ends.reshape(2, *[1] * len(shape)).expand(2, *shape)
            low, high = problem.model.units.to_data(ends)
            scale = rms(high, low)
        units = "model" if problem.standardised else "data"
        known = self.record["problems"].get(problem.name)
        if known is not None and known.get("units", "data") != units:
            self.record["floors"].pop(problem.name, None)
            for name in [n for n in self.record["cells"] if n.startswith(f"{problem.name} | ")]:
                del self.record["cells"][name]
        self.record["problems"][problem.name] = {
            "summary": problem.summary,
            "elements": math.prod(shape),
            "scale": scale,
            "units": units,
            "exact": problem.exact is not None,
        }

    def measure(self, cell: Cell) -> None:
        """Measure the seeds of a cell that are missing."""
        if cell.recipe is None:
            self.record["cells"][cell.name] = {"skipped": cell.skipped}
            return
        described = cell.described()
        found = self.record["cells"].get(cell.name)
        if found is None or found.get("recipe") != described:
            found = self._same(cell, described) or {"recipe": described, "seeds": []}
        if "diverged" in found:
            return
        kept = {name: list(found.get(name, [])) for name in METRICS}
        seeds = list(found["seeds"])
        for seed in range(self.protocol.seeds):
            if seed in seeds:
                continue
            try:
                row = self._row(cell, cell.recipe, seed)
            except NonFiniteError as error:
                found = {"recipe": described, "seeds": [], "diverged": str(error)}
                self.record["cells"][cell.name] = found
                return
            seeds.append(seed)
            for name in METRICS:
                kept[name].append(row.get(name))
        self.record["cells"][cell.name] = {"recipe": described, "seeds": seeds, **kept}
        if time.monotonic() - self.saved > SAVE_SECONDS:
            self.save()

    def _same(self, cell: Cell, described: Record) -> Record | None:
        """A measured cell of the same recipe under another name."""
        for name, other in self.record["cells"].items():
            problem, _, nfe = name.split(" | ")
            same = problem == cell.problem.name and nfe == str(cell.nfe)
            if same and other.get("recipe") == described:
                copied: Record = json.loads(json.dumps(other))
                return copied
        return None

    def _row(self, cell: Cell, recipe: SamplingRecipe, seed: int) -> Record:
        """The numbers of one seed."""
        problem, p = cell.problem, self.protocol
        began = time.perf_counter()
        x = draw(problem.model, recipe, rng.keys(seed, p.count)).x.cpu()
        row: Record = {"seconds": time.perf_counter() - began}
        row |= distances(self.project(x, problem), self.reference(problem, seed))
        if not recipe.kernel.draws_noise and not recipe.kernel.is_langevin:
            flow, change = self.flow(problem).at(float(recipe.ladder[0]), seed)
            near = rms(problem.measured(x[: p.flow_rows]), problem.measured(flow))
            row |= {"flow": near, "flow_change": change}
        if problem.held_out is not None:
            row |= _against_data(problem, x, p.directions)
        return row

    def save(self) -> None:
        """Write the record where a path was given."""
        if self.path is not None:
            write_json(self.path, self.record)
        self.saved = time.monotonic()


def _against_data(problem: Problem, x: Tensor, count: int) -> Record:
    """Distances of samples to the held-out examples, in the elements themselves."""
    assert problem.held_out is not None
    x, held_out = problem.measured(x), problem.measured(problem.held_out)
    along = directions(x[0].numel(), count)
    return {
        "sw1_data": sliced_wasserstein(x, held_out, along, 1),
        "frechet": frechet(x, held_out),
    }


def expected_evaluations(cells: Sequence[Cell], protocol: Protocol) -> int:
    """Evaluations of single samples that the cells take, references and floors left out."""
    each = sum(cell.recipe.evaluations for cell in cells if cell.recipe is not None)
    return each * protocol.seeds * protocol.count


def run_cells(
    cells: Sequence[Cell], protocol: Protocol, path: Path | None, report: Report
) -> Record:
    """Measure cells; the arguments are those of `benchmark_samplers`.

    Args:
        cells: From `make_cells`.
        protocol: The protocol.
        path: The record's file; None: nothing is written.
        report: Receives the fraction done and the cell's name.

    Returns:
        The record.
    """
    record = read_record(path, protocol)
    work = Measurer(record, protocol, path)
    total = sum(c.recipe.evaluations for c in cells if c.recipe is not None) or 1
    done, latest = 0, None
    try:
        for cell in cells:
            if cell.problem is not latest:
                latest = cell.problem
                work.references.clear()
                work.describe(latest)
                work.floor(latest)
            report(done / total, cell.name)
            work.measure(cell)
            done += 0 if cell.recipe is None else cell.recipe.evaluations
    finally:
        work.save()
    report(1.0, f"{len(cells)} cells")
    return record


def with_numbers(protocol: Protocol, seeds: int | None, count: int | None) -> Protocol:
    """The protocol with other numbers of seeds and samples, where they are given."""
    if seeds is not None:
        protocol = replace(protocol, seeds=seeds)
    return protocol if count is None else replace(protocol, count=count)
