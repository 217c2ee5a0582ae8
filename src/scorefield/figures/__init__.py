"""The article's eight experiments, each with a fixed seed, a picture, and a JSON of its numbers.

    1 density      the score of a mixture, arrows over contours
    2 langevin     Langevin dynamics from uniform noise, animated
    3 learned      a learned score and where it is wrong
    4 noise        the same with noise: wider coverage, a biased density
    5 weights      which samplers give the modes their weights
    6 manifold     score matching on data without and with a little noise
    7 objectives   denoising, sliced and exact score matching compared
    8 forming      digits forming over the noise levels; inpainting

Each experiment is a file of this folder with a function `make(stem, settings) -> Result`, which
draws, trains and samples with the parts of this package. Numbers with seconds in them belong to
the machine; all others are functions of the seeds.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import write_bytes, write_json
from .common import QUICK, Result, Settings, threads

__all__ = ["EXPERIMENTS", "Experiment", "Result", "Settings", "make_figures"]


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        number: 1 to 8.
        module: the file of this folder that makes it.
        question: what its picture answers.
        threads: of torch; 0 leaves them as they are set. Perceptrons as small as these gain
            nothing from a second thread, and lose much where another process needs the core.
    """

    number: int
    module: str
    question: str
    threads: int = 1

    @property
    def stem(self) -> str:
        """The beginning of the names of its files."""
        return f"{self.number}_{self.module}"

    def make(self, out: Path, settings: Settings) -> Result:
        """Run the experiment and write its pictures into the folder `out`."""
        with threads(self.threads):
            module = import_module(f".{self.module}", __name__)
            result: Result = module.make(out / self.stem, settings)
            return result


EXPERIMENTS: dict[int, Experiment] = {
    number: Experiment(number, module, question, 0 if module == "forming" else 1)
    for number, (module, question) in enumerate(
        [
            ("density", "What is a score?"),
            ("langevin", "How does Langevin dynamics find the density?"),
            ("learned", "Where is a learned score right, where wrong?"),
            ("noise", "What does noise buy, and what does it cost?"),
            ("weights", "Which samplers give the modes their weights?"),
            ("manifold", "What happens to score matching on data without noise?"),
            ("objectives", "Which way of score matching, at which price?"),
            ("forming", "How do images form over the levels, and what may a hidden half hold?"),
        ],
        start=1,
    )
}


def make_figures(
    out: Path,
    numbers: Sequence[int] = (),
    settings: Settings | None = None,
    on_finished: Callable[[Experiment, Result], None] = lambda experiment, result: None,
) -> dict[int, Result]:
    """Run experiments and write their pictures, a JSON of each, and figures.md, the page of all.

    Args:
        out: The folder to write to.
        numbers: Numbers of the experiments; empty: all.
        settings: Sizes, and the run for experiment 8.
        on_finished: Called after each experiment.

    Returns:
        number -> the experiment's result.

    Raises:
        InputError: If there is no such experiment, or `out` is a file.
    """
    unknown = sorted(set(numbers) - EXPERIMENTS.keys())
    if unknown:
        raise InputError(
            f"there are experiments 1 to {len(EXPERIMENTS)}; got {', '.join(map(str, unknown))}"
        )
    if out.exists() and not out.is_dir():
        raise InputError(f"--out must name a folder; {out} is a file")
    settings = settings or Settings()
    done: dict[int, Result] = {}
    page: list[str] = ["# The article's experiments, computed afresh"]
    if settings.quick:
        page.append(QUICK)
    for number in sorted(set(numbers) or EXPERIMENTS):
        experiment = EXPERIMENTS[number]
        began = time.perf_counter()
        result = experiment.make(out, settings)
        record: dict[str, Any] = {
            "experiment": number,
            "question": experiment.question,
            "conclusion": result.conclusion,
            "quick": settings.quick,
            "files": [file.name for file in result.files],
            "seconds": round(time.perf_counter() - began, 2),
        }
        write_json(out / f"{experiment.stem}.json", record | {"numbers": result.numbers})
        page += [
            f"## {number}. {experiment.question}",
            result.conclusion,
            *(f"![{file.stem}]({file.name})" for file in result.files),
        ]
        done[number] = result
        on_finished(experiment, result)
    write_bytes(out / "figures.md", ("\n\n".join(page) + "\n").encode())
    return done
