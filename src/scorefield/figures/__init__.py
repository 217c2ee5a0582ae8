"""The article's eight experiments, computed afresh: each a file of this folder with a fixed seed, a
picture, and a JSON of its numbers.

    1 density     the score of a mixture, arrows over contours             5 weights    which samplers get the modes' weights right
    2 langevin    Langevin dynamics from uniform noise, animated           6 manifold   score matching on data without and with a little noise
    3 learned     a learned score and where it is wrong                    7 objectives denoising, sliced and exact score matching compared
    4 noise       the same with noise: wider coverage, a biased density    8 forming    digits forming over the levels; inpainting

An experiment is a function `make(out, settings) -> Made`; it draws, trains and samples with the
package's own parts. Numbers with seconds in
them are the machine's; all others are functions of the seeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import InputError
from .common import Made, Settings, threads

__all__ = ["EXPERIMENTS", "Experiment", "Made", "Settings", "make_figures"]


@dataclass(frozen=True)
class Experiment:
    """module: the file of this folder that makes it; question: what its picture answers; threads: 0
    = as they are set. Perceptrons as small
    as these gain nothing from a second thread, and lose much where another process wants the core.
    """

    number: int
    module: str
    question: str
    threads: int = 1

    @property
    def stem(self) -> str:
        """How its files are called."""
        return f"{self.number}_{self.module}"

    def make(self, out: Path, settings: Settings) -> Made:
        """Run it and write its picture into `out`."""
        with threads(self.threads):
            return import_module(f".{self.module}", __name__).make(out / self.stem, settings)


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
    tell: Callable[[Experiment, Made], None] = lambda experiment, made: None,
) -> dict[int, Made]:
    """Run the experiments `numbers` (all) and write pictures, `<number>_<name>.json` of each and
    figures.md, the page of all, into `out`.

    tell: called after each. Raises InputError for a number that is none, or an `out` that is a
    file.
    """
    import time

    from ..runs import write_bytes, write_json

    unknown = sorted(set(numbers) - EXPERIMENTS.keys())
    if unknown:
        raise InputError(
            f"there are experiments 1 to {len(EXPERIMENTS)}; got {', '.join(map(str, unknown))}"
        )
    if out.exists() and not out.is_dir():
        raise InputError(f"--out must name a folder; {out} is a file")
    settings = settings or Settings()
    done: dict[int, Made] = {}
    page: list[str] = ["# The article's experiments, computed afresh"]
    for number in sorted(set(numbers) or EXPERIMENTS):
        experiment = EXPERIMENTS[number]
        began = time.perf_counter()
        made = experiment.make(out, settings)
        record: dict[str, Any] = {
            "experiment": number,
            "question": experiment.question,
            "found": made.found,
            "quick": settings.quick,
            "files": [file.name for file in made.files],
            "seconds": round(time.perf_counter() - began, 2),
        }
        write_json(out / f"{experiment.stem}.json", record | {"numbers": made.numbers})
        page += [
            f"## {number}. {experiment.question}",
            made.found,
            *(f"![{file.stem}]({file.name})" for file in made.files),
        ]
        done[number] = made
        tell(experiment, made)
    write_bytes(out / "figures.md", ("\n\n".join(page) + "\n").encode())
    return done
