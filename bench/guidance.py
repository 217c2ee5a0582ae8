"""Class-conditional models and guidance on mnist5k, at equal numbers of images.

For each seed a class-conditional and an unconditional model are trained with otherwise equal
settings. The guidance is chosen once, on the first seed's model and other sampling seeds; then 64
samples of the sampling seed 0 are judged. Fréchet distances are those of `quality`: to the test
images, in a feature space that is a file of the user's. The classifier is that of the tests, whose
training data are mnist5k with an eleventh class for what is no digit.

A finished run in the working folder is used again, so that an interrupted measurement goes on.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefield import checkpoint
from scorefield.config import override, preset
from scorefield.execution import choose
from scorefield.models import Guidance, ScoreModel
from scorefield.plotting import save_grid
from scorefield.runs import Run
from scorefield.sampling import sample
from scorefield.training import train

from .quality import Judgement

CLASSES = 10
SURE = 0.9  # the probability of a sample's own class that counts
CHOOSING_SEED, JUDGED_SEED, FRECHET_SEED = 100, 0, 7
SCALES = (1.0, 1.25, 1.5, 2.0, 3.0)
Record = dict[str, Any]


def classifier() -> Callable[[Tensor], Tensor]:
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


def own_class(judge: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor) -> int:
    """How many samples are of their own class with a probability above SURE."""
    return int((judge(x)[torch.arange(len(x)), labels] > SURE).sum())


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
        work: The folder of runs and pictures.
        seeds: Number of seeds of training.
        images: Images that each training sees.
        count: Samples of a Fréchet distance.
        choosing: Samples of each scale by which the guidance is chosen.
        settings: Further settings of training.
        tell: Receives progress.

    Returns:
        The record: rows of each seed, means with standard errors, and the choice of the scale.
    """
    distance, judge = Judgement(features, mnist), classifier()
    rows, choice = [], dict[str, int]()
    scale = 1.0
    for seed in range(seeds):
        folder = work / f"class-{seed}"
        conditional = trained(folder, "class", images, seed, settings)
        if not choice:
            for one in SCALES:
                found = own_class(judge, *of_class(conditional, choosing, CHOOSING_SEED, one))
                choice[f"{one:g}"] = found
                tell(f"guidance {one:g}: {found} of {choosing} own class")
            scale = float(max(choice, key=lambda name: choice[name]))
        row: Record = {"seed": seed, "scale": scale}
        for name, w in (("unguided", 1.0), ("guided", scale)):
            x, labels = of_class(conditional, 64, JUDGED_SEED, w)
            row[f"own_class_{name}"] = own_class(judge, x, labels)
            order = torch.argsort(labels, stable=True)
            save_grid(work / f"{name}-{seed}.png", x[order], columns=8)
            drawn, _ = of_class(conditional, count, FRECHET_SEED, w)
            row[f"frechet_{name}"] = distance(drawn.numpy())["frechet"]
        plain = trained(work / f"none-{seed}", "none", images, seed, settings)
        drawn = sample(plain, count, FRECHET_SEED).clamp(0, 1)
        row["frechet_unconditional"] = distance(drawn.numpy())["frechet"]
        last = [r for r in Run(folder).records() if "held_out" in r][-1]
        row |= {name: last.get(name) for name in ("held_out", "held_out_se", "unconditional")}
        tell(str(row))
        rows.append(row)
    means = {}
    for name in ("frechet_unguided", "frechet_unconditional", "frechet_guided"):
        values = np.array([row[name] for row in rows])
        error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else None
        means[name] = {"mean": values.mean(), "se": error}
    return {
        "images": images,
        "count": count,
        "floor": distance.floor,
        "chosen_on": choice,
        "scale": scale,
        "rows": rows,
        "means": means,
    }
