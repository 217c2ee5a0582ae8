"""`benchmark_samplers`: choose problems, samplers and budgets; measure; keep tables and picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files import write_bytes
from ..models import ScoreModel
from ..plotting import Picture, paragraph, with_picture
from ..progress import Report
from .entrants import read_entrants
from .problems import PROBLEMS, Problem, find_problem, run_problem
from .report import markdown, save_picture, text_table
from .study import (
    Cell,
    Protocol,
    Record,
    expected_evaluations,
    make_cells,
    read_budgets,
    run_cells,
)

BUDGETS = (5, 7, 10, 20, 40, 100)
FILES = ("samplers.json", "samplers.md", "samplers.png")


def _silent(fraction: float, words: str, stage: str = "") -> None:
    """Report nothing."""


@dataclass(frozen=True)
class SamplerStudy:
    """What a sampler study found.

    Attributes:
        record: Protocol, problems, floors and cells, in a form that JSON can hold.
    """

    record: Record

    def table(self) -> str:
        """The distances as plain text."""
        return text_table(self.record)

    def markdown(self) -> str:
        """The distances as Markdown tables, one a problem."""
        return markdown(self.record)

    @property
    def picture(self) -> Picture:
        """Distance against evaluations, one chart a problem."""
        return Picture(lambda path: save_picture(path, self.record), "a sampler study")

    def __repr__(self) -> str:
        cells = self.record["cells"]
        return paragraph(
            f"SamplerStudy of {len(cells)} cells on {', '.join(self.record['problems'])}. "
            ".table() shows the distances, .save(folder) writes tables and a picture."
        )

    def _repr_html_(self) -> str:
        return with_picture(repr(self), self.picture)

    def save(self, folder: str | Path) -> list[Path]:
        """Write samplers.md and samplers.png into a folder.

        samplers.json is written while the study is measured, to the folder `out` of
        `benchmark_samplers`.
        """
        folder = Path(folder)
        page = write_bytes(folder / FILES[1], self.markdown().encode())
        return [page, save_picture(folder / FILES[2], self.record)]


@dataclass(frozen=True)
class Plan:
    """What a study will measure.

    Attributes:
        cells: The cells, skipped ones included.
        protocol: The protocol.
    """

    cells: list[Cell]
    protocol: Protocol

    @property
    def evaluations(self) -> int:
        """Evaluations of single samples, references and floors left out."""
        return expected_evaluations(self.cells, self.protocol)

    def words(self) -> str:
        """The size of the study in a sentence."""
        p, skipped = self.protocol, sum(cell.recipe is None for cell in self.cells)
        each = {cell.problem.name for cell in self.cells}, {c.entrant.name for c in self.cells}
        text = (
            f"{len(each[0])} problems, {len(each[1])} samplers, {len(self.cells) - skipped} cells "
            f"of {p.seeds} seeds × {p.count:,} samples: {self.evaluations:,} evaluations of single "
            "samples"
        )
        return text + (f"; {skipped} cells are beyond their sampler" if skipped else "")


def plan_study(
    problems: Sequence[str | Problem] | Mapping[str, ScoreModel] | None = None,
    samplers: Sequence[str] | None = None,
    nfe: Sequence[int] = BUDGETS,
    protocol: Protocol = Protocol(),
) -> Plan:
    """Make the cells of a study; the arguments are those of `benchmark_samplers`.

    Args:
        problems: As in `benchmark_samplers`.
        samplers: As in `benchmark_samplers`.
        nfe: As in `benchmark_samplers`.
        protocol: As in `benchmark_samplers`.

    Returns:
        The plan; nothing is measured.

    Raises:
        InputError: For an unknown name, or no number of evaluations.
    """
    chosen: list[Problem] = []
    if isinstance(problems, Mapping):
        chosen = [run_problem(model, str(name)) for name, model in problems.items()]
    elif isinstance(problems, str):
        raise InputError(f"problems is a list of names, such as [{problems!r}]; got one text")
    else:
        for one in PROBLEMS if problems is None else problems:
            chosen.append(one if isinstance(one, Problem) else find_problem(one))
    if not chosen:
        raise InputError("name one problem or more")
    if isinstance(samplers, str):
        raise InputError(f"samplers is a list of names, such as [{samplers!r}]; got one text")
    cells = make_cells(chosen, read_entrants(samplers), read_budgets(nfe))
    return Plan(cells, protocol)


def benchmark_samplers(
    problems: Sequence[str | Problem] | Mapping[str, ScoreModel] | None = None,
    samplers: Sequence[str] | None = None,
    nfe: Sequence[int] = BUDGETS,
    protocol: Protocol = Protocol(),
    out: str | Path | None = None,
    report: Report = _silent,
) -> SamplerStudy:
    """Measure samplers at given numbers of evaluations, against exact samples.

        study = sf.studies.benchmark_samplers(["ring"], ["unipc", "veab p=3"], nfe=[5, 10])
        print(study.table())

    Args:
        problems: Names of PROBLEMS or problems; or a mapping from names to trained models, which
            are compared with their own converged flow. None: all of PROBLEMS.
        samplers: Names as in `entrants`, such as "unipc p=3" or "default". None: all samplers, some
            with further options.
        nfe: Numbers of evaluations of the model a sample, the final denoising step included, 1 or
            more. A sampler that cannot keep to a number is skipped.
        protocol: Numbers of seeds, samples and pairs; QUICK has fewer, FULL more.
        out: A folder for samplers.json, samplers.md and samplers.png. Cells that samplers.json
            holds already are not measured again. None: nothing is written.
        report: Receives the fraction done and the cell's name.

    Returns:
        The study.

    Raises:
        InputError: For an unknown name, or a folder with cells of another protocol.
    """
    plan = plan_study(problems, samplers, nfe, protocol)
    return run_plan(plan, out, report)


def run_plan(plan: Plan, out: str | Path | None = None, report: Report = _silent) -> SamplerStudy:
    """Measure the cells of a plan.

    Args:
        plan: From `plan_study`.
        out: As in `benchmark_samplers`.
        report: As in `benchmark_samplers`.

    Returns:
        The study.
    """
    path = None if out is None else Path(out) / FILES[0]
    study = SamplerStudy(run_cells(plan.cells, plan.protocol, path, report))
    if out is not None:
        study.save(out)
    return study
