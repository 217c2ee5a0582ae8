"""Class-conditional models and guidance on mnist5k, at equal numbers of images.

For each seed a class-conditional and an unconditional model are trained with otherwise equal
settings. The guidance is chosen once, on the first seed's model and other sampling seeds; then 64
samples of the sampling seed 0 are judged. Fréchet distances are those of `quality`: to the test
images, in a feature space that is a file of the user's. The classifier is that of the tests, whose
training data are mnist5k with an eleventh class for what is no digit.

Finished runs and finished measurements in the working folder are used again, so that an
interrupted measurement goes on. Delete the folder to measure anew.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefield import checkpoint
from scorefield.config import override, preset
from scorefield.execution import choose
from scorefield.models import Guidance, ScoreModel
from scorefield.plotting import save_class_grid
from scorefield.runs import Run
from scorefield.sampling import sample
from scorefield.training import train

from .kept import Kept
from .quality import Judgement

CLASSES = 10
SURE = 0.9  # the probability of a sample's own class that counts
JUDGED = 64  # samples whose class is judged
CHOOSING_SEED, JUDGED_SEED, FRECHET_SEED = 100, 0, 7
SCALES = (1.0, 1.25, 1.5, 2.0, 3.0)
DISTANCES = ("unconditional", "unguided", "guided")
Record = dict[str, Any]
Judge = Callable[[Tensor], Tensor]


def classifier() -> Judge:
    """The tests' classifier: images (N, 1, 28, 28) in [0, 1] -> probabilities (N, 11)."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    try:
        from digit_classifier import classifier as trained
    finally:
        sys.path.pop(0)
    network, _ = trained()

    def judge(images: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = network(images.float()).softmax(1)
        return found

    return judge


def trained(folder: Path, kind: str, images: int, seed: int, settings: Sequence[str]) -> ScoreModel:
    """A model of mnist5k in `folder`, trained there if it is not yet."""
    given = [f"images={images}", f"seed={seed}", "data.source=mnist5k", f"condition.kind={kind}"]
    summary = train(override(preset("fast"), [*given, *settings]), folder)
    if summary.signal:
        raise KeyboardInterrupt
    model = checkpoint.load(folder)
    return choose(spatial=2).apply(model)


def of_class(model: ScoreModel, count: int, seed: int, scale: float) -> tuple[Tensor, Tensor]:
    """Samples whose classes take turns, clamped to [0, 1], and their classes."""
    labels = torch.arange(count) % CLASSES
    guidance = None if scale == 1 else Guidance(scale)
    x = sample(model, count, seed, condition={"class": labels}, guidance=guidance)
    return x.clamp(0, 1), labels


def own_class(judge: Judge, x: Tensor, labels: Tensor) -> int:
    """How many samples are of their own class with a probability above SURE."""
    return int((judge(x)[torch.arange(len(x)), labels] > SURE).sum())


def choose_scale(found: dict[str, int]) -> float:
    """The scale with the most samples of their own class; of equal ones the least guided."""
    return min((float(name) for name in found), key=lambda w: (-found[f"{w:g}"], w))


def judged(
    model: ScoreModel, judge: Judge, scale: float, picture: Path | None = None
) -> dict[str, int]:
    """Count samples of their own class without and with guidance, and draw a row for each class."""
    most = -(-JUDGED // CLASSES) * CLASSES  # every class equally often in the picture
    found, groups = {}, {}
    for name, w in (("unguided", 1.0), ("guided", scale)):
        x, labels = of_class(model, most, JUDGED_SEED, w)
        found[name] = own_class(judge, x[:JUDGED], labels[:JUDGED])
        groups[f"{name}, scale {w:g}"] = x[torch.argsort(labels, stable=True)]
    if picture is not None:
        save_class_grid(picture, groups, [str(k) for k in range(CLASSES)])
    return found


def losses(conditional: Path, plain: Path) -> dict[str, float]:
    """Held-out losses: of the class model with and without its class, of the other model."""
    last = [r for r in Run(conditional).records() if "held_out" in r][-1]
    other = [r for r in Run(plain).records() if "held_out" in r][-1]
    return {
        "with class": last["held_out"],
        "without class": last["unconditional"],
        "unconditional": other["held_out"],
    }


def mean(values: Sequence[float]) -> dict[str, float | None]:
    """The mean over seeds and its standard error; None where there is one seed."""
    n = len(values)
    error = float(np.std(values, ddof=1)) / n**0.5 if n > 1 else None
    return {"mean": float(np.mean(values)), "se": error}


@dataclass(frozen=True)
class Measurement:
    """What is measured of each seed; the arguments are those of `guidance`."""

    distance: Judgement
    judge: Judge
    kept: Kept
    work: Path
    count: int

    def choice(self, model: ScoreModel, choosing: int) -> dict[str, int]:
        """How many of `choosing` samples are of their own class at each scale."""

        def found(w: float) -> int:
            return own_class(self.judge, *of_class(model, choosing, CHOOSING_SEED, w))

        name = f"sampling seed {CHOOSING_SEED}, own class of {choosing}"
        return {f"{w:g}": self.kept.get(f"{name}, scale {w:g}", partial(found, w)) for w in SCALES}

    def frechet(self, name: str, draw: Callable[[], Tensor]) -> float:
        """The Fréchet distance of `count` samples."""
        found: float = self.kept.get(
            f"{name}, Fréchet distance of {self.count}",
            lambda: self.distance(draw().numpy())["frechet"],
        )
        return found

    def own_class(self, model: ScoreModel, seed: int, scale: float) -> dict[str, int]:
        """The counts of `judged`."""
        picture = self.work / f"samples-{seed}.png"
        found: dict[str, int] = self.kept.get(
            f"run {seed}, own class of {JUDGED}, scale {scale:g}",
            lambda: judged(model, self.judge, scale, picture),
        )
        return found

    def conditional(self, model: ScoreModel, seed: int, scale: float) -> float:
        """The distance of a class-conditional model, classes in equal shares."""
        return self.frechet(
            f"run {seed}, scale {scale:g}",
            lambda: of_class(model, self.count, FRECHET_SEED, scale)[0],
        )

    def unconditional(self, model: ScoreModel, seed: int) -> float:
        """The distance of an unconditional model."""
        return self.frechet(
            f"run {seed}, unconditional",
            lambda: sample(model, self.count, FRECHET_SEED).clamp(0, 1),
        )


def guidance(
    features: Path,
    mnist: Path,
    work: Path,
    seeds: int = 3,
    images: int = 60_000,
    count: int = 5000,
    choosing: int = 200,
    settings: Sequence[str] = (),
    tell: Callable[[str], None] = print,
) -> Record:
    """Measure conditional models beside unconditional ones.

    Args:
        features: The folder of the feature space.
        mnist: An .npz with train_images and test_images.
        work: The folder of runs, pictures and finished measurements.
        seeds: Number of seeds of training.
        images: Images that each training sees.
        count: Samples of a Fréchet distance.
        choosing: Samples of each scale by which the guidance is chosen.
        settings: Further settings of training.
        tell: Receives progress.

    Returns:
        The record: rows of each seed, means with standard errors, and the choice of the scale.

    Raises:
        InputError: If `work` has measurements of another number of images or other settings.
    """
    kept = Kept(work / "measured.json", tell)
    kept.require({"images": images, "settings": list(settings)})
    measure = Measurement(Judgement(features, mnist), classifier(), kept, work, count)
    rows, models, choice = list[Record](), [], dict[str, int]()
    for seed in range(seeds):
        folder, other = work / f"class-{seed}", work / f"none-{seed}"
        model = trained(folder, "class", images, seed, settings)
        models.append(model)
        choice = choice or measure.choice(model, choosing)
        row: Record = {"seed": seed}
        row["own_class"] = measure.own_class(model, seed, choose_scale(choice))
        row["unguided"] = measure.conditional(model, seed, 1.0)
        plain = trained(other, "none", images, seed, settings)
        row["unconditional"] = measure.unconditional(plain, seed)
        rows.append(row | {"losses": losses(folder, other)})
    scale = choose_scale(choice)
    for row, model in zip(rows, models, strict=True):  # last, since it costs the most
        row["guided"] = measure.conditional(model, row["seed"], scale)
    means = {name: mean([row[name] for row in rows]) for name in DISTANCES}
    means["difference"] = mean([row["unguided"] - row["unconditional"] for row in rows])
    return {
        "images": images,
        "count": count,
        "floor": measure.distance.floor,
        "chosen_on": {"seed": CHOOSING_SEED, "samples": choosing, "own_class": choice},
        "scale": scale,
        "rows": rows,
        "means": means,
    }


def table(record: Record) -> str:
    """The rows and their mean as a table in Markdown."""
    heads = ["seed", *(f"Fréchet, {name}" for name in DISTANCES), "own class", "own class, guided"]
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for row in record["rows"]:
        counts = [f"{row['own_class'][name]} of {JUDGED}" for name in ("unguided", "guided")]
        cells = [str(row["seed"]), *(f"{row[name]:.3f}" for name in DISTANCES), *counts]
        lines.append(f"| {' | '.join(cells)} |")
    cells = ["mean"]
    for name in DISTANCES:
        found = record["means"][name]
        error = "" if found["se"] is None else f" ± {found['se']:.3f}"
        cells.append(f"{found['mean']:.3f}{error}")
    for name in ("unguided", "guided"):
        cells.append(f"{np.mean([row['own_class'][name] for row in record['rows']]):.1f}")
    return "\n".join([*lines, f"| {' | '.join(cells)} |"])
