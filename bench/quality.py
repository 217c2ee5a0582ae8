"""Quality for time: Fréchet distance of samples to the test images after minutes of training.

The minutes are wall time and include compilation. The feature space is a file of the user's: a
folder with a features.py that offers

    load() -> network
    features(network, images) -> (features (N, k), class probabilities (N, classes))
    frechet(features, features) -> float

so that numbers of different days can be compared. This package is trained once for each budget,
because its schedule ends with the budget. Another library is trained once, with its own constant
rate, and measured as it passes each budget; the clock stops during the measurement.
"""

import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from scorefield import checkpoint
from scorefield.config import override, preset
from scorefield.errors import InputError
from scorefield.execution import choose
from scorefield.plotting import Chart, save_seed_curves
from scorefield.runs import Run
from scorefield.sampling import sample
from scorefield.training import train

from .peers import denoising_diffusion

Record = dict[str, Any]
Tell = Callable[[str], None]


def load_features(folder: Path) -> ModuleType:
    """Import features.py of a folder."""
    path = folder / "features.py"
    if not path.exists():
        raise InputError(
            "--features needs a folder with features.py (load, features, frechet) and its "
            f"weights; there is no {path}"
        )
    spec = importlib.util.spec_from_file_location("bench_features", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Judgement:
    """Fréchet distance of images to MNIST's test images in the feature space of a user's file.

    Attributes:
        floor: the distance of 5,000 training images, which is about the least possible.
    """

    def __init__(self, folder: Path, mnist: Path) -> None:
        self.extractor = load_features(folder)
        if not mnist.exists():
            raise InputError(
                f"--mnist needs an .npz with test_images and train_images; there is no {mnist}"
            )
        arrays = np.load(mnist)
        self.network = self.extractor.load()
        self.test, _ = self.extractor.features(self.network, arrays["test_images"])
        rows = np.random.default_rng(0).permutation(len(arrays["train_images"]))[:5000]
        train, _ = self.extractor.features(self.network, arrays["train_images"][rows])
        self.floor: float = self.extractor.frechet(train, self.test)

    def __call__(self, images: np.ndarray) -> dict[str, float]:
        """The Fréchet distance, and the fraction of images classified with probability > 0.9."""
        found, probability = self.extractor.features(self.network, images)
        return {
            "frechet": self.extractor.frechet(found, self.test),
            "confident": float((probability.max(1).values > 0.9).double().mean()),
        }


def draw(run: Path, count: int, seed: int, nfe: int | None) -> tuple[np.ndarray, float, float]:
    """Sample a finished run: images in [0, 1], evaluations a sample, and seconds."""
    model = choose(spatial=2).apply(checkpoint.load(run))
    start = time.perf_counter()
    images, record = sample(model, count, seed, nfe=nfe, record=True)
    return images.clamp(0, 1).numpy(), record.nfe, time.perf_counter() - start


def _one_run(
    judge: Judgement,
    folder: Path,
    settings: list[str],
    minutes: float,
    seed: int,
    count: int,
    nfe: int | None,
) -> tuple[Record, np.ndarray]:
    """Train for one budget with one seed, and measure the samples."""
    request = override(preset("fast"), [f"seconds={60 * minutes}", f"seed={seed}", *settings])
    summary = train(request, folder)
    if summary.signal:
        raise KeyboardInterrupt
    images, evaluations, seconds = draw(folder, count, seed, nfe)
    row = {
        "name": "scorefield",
        "seed": seed,
        "minutes": minutes,
        "images": summary.images,
        "train_seconds": summary.seconds,
        **judge(images),
        "nfe": evaluations,
        "sample_seconds": seconds,
        "held_out": Run(folder).records()[-1].get("held_out"),
    }
    return row, images


def quality(
    features: Path,
    mnist: Path,
    minutes: tuple[float, ...] = (1, 2, 5, 10),
    seeds: tuple[int, ...] = (0, 1, 2),
    count: int = 5000,
    nfe: int | None = None,
    data: str | None = None,
    settings: tuple[str, ...] = (),
    keep: Path | None = None,
    tell: Tell = lambda text: None,
) -> Record:
    """Measure this package: one training a seed and budget.

    Args:
        features: folder of the feature extractor, see the module docstring.
        mnist: .npz with train_images and test_images.
        minutes: budgets of training.
        seeds: of training and sampling.
        count: number of samples.
        nfe: network evaluations a sample; None is the sampler's default.
        data: what is trained on; None is the train_images of `mnist`.
        settings: settings of training, such as "optim.batch=128".
        keep: a folder for the runs; None discards them.
        tell: receives lines of progress.

    Returns:
        The record: number of samples, floor, and a row a seed and budget.
    """
    judge = Judgement(features, mnist)
    source = [f"data.source={data or mnist}", *([] if data else ["data.key=train_images"])]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in seeds:
            for budget in minutes:
                folder = (keep or Path(scratch)) / f"{budget:g}min-seed{seed}"
                row, images = _one_run(
                    judge, folder, [*source, *settings], budget, seed, count, nfe
                )
                if keep is not None:
                    np.savez(folder / "samples.npz", samples=images)
                rows.append(row)
                tell(
                    f"seed {seed}, {budget:g} min: Fréchet {row['frechet']:.2f} after "
                    f"{row['images']:,} images ({row['sample_seconds']:.0f} s to sample)"
                )
    return {"samples": count, "floor": judge.floor, "rows": rows}


def _peer_samples(network: torch.nn.Module, count: int, steps: int) -> np.ndarray:
    """DDIM samples of denoising-diffusion-pytorch in [0, 1]."""
    from denoising_diffusion_pytorch import GaussianDiffusion

    sampler = GaussianDiffusion(
        network, image_size=28, timesteps=1000, sampling_timesteps=steps, auto_normalize=False
    )
    with torch.no_grad():
        parts = [sampler.sample(batch_size=min(250, count - k)) for k in range(0, count, 250)]
    images: np.ndarray = ((torch.cat(parts) + 1) / 2).clamp(0, 1).numpy()
    return images


def peer_quality(
    features: Path,
    mnist: Path,
    minutes: tuple[float, ...] = (1, 2, 5, 10),
    seeds: tuple[int, ...] = (0,),
    count: int = 1000,
    steps: int = 20,
    tell: Tell = lambda text: None,
) -> Record:
    """Measure denoising-diffusion-pytorch: one training a seed, DDIM sampling with `steps` steps.

    The other arguments and the record are those of `quality`.
    """
    judge = Judgement(features, mnist)
    images = torch.from_numpy(np.load(mnist)["train_images"][:, None]).float().div(127.5).sub(1)
    rows = []
    for seed in seeds:
        torch.manual_seed(seed)
        candidate = denoising_diffusion(images, batch=64)
        spent, seen = 0.0, 0
        for budget in minutes:
            while spent < 60 * budget:
                start = time.perf_counter()
                candidate.train()
                spent += time.perf_counter() - start
                seen += candidate.images
            start = time.perf_counter()
            row = {
                "name": candidate.name,
                "seed": seed,
                "minutes": budget,
                "images": seen,
                "train_seconds": spent,
                "nfe": steps,
                **judge(_peer_samples(candidate.network, count, steps)),
                "sample_seconds": time.perf_counter() - start,
            }
            rows.append(row)
            tell(
                f"{candidate.name}, seed {seed}, {budget:g} min: Fréchet {row['frechet']:.2f} "
                f"after {seen:,} images"
            )
    return {"samples": count, "floor": judge.floor, "rows": rows}


def _series(rows: list[Record]) -> tuple[np.ndarray, np.ndarray] | None:
    """Minutes (T,) and distances (S, T) of the seeds that have every budget; None without one."""
    minutes = sorted({row["minutes"] for row in rows})
    table = {(row["seed"], row["minutes"]): row["frechet"] for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    complete = [seed for seed in seeds if all((seed, m) in table for m in minutes)]
    if not complete:
        return None
    return np.array(minutes), np.array([[table[s, m] for m in minutes] for s in complete])


def draw_plot(path: Path, records: list[Record]) -> None:
    """Draw the distance over minutes of training, a thin line a seed, for all names in the records.

    Args:
        path: a .png.
        records: from `quality` or `peer_quality`.

    Raises:
        InputError: if no seed has all its budgets.
    """
    series = {}
    for name in names(records):
        rows = [row for record in records for row in record["rows"] if row["name"] == name]
        found = _series(rows)
        if found is not None:
            series[name] = found
    if not series:
        raise InputError("no seed has all its budgets: there is nothing to draw")
    chart = Chart(
        "lower is better",
        "minutes of training, compilation included",
        "Fréchet distance to the test images",
        series,
        log="xy",
        marks=True,
    )
    shown = ", ".join(
        f"{len(v)} seed{'s' if len(v) > 1 else ''} of {name}" for name, (_, v) in series.items()
    )
    counts = " and ".join(
        f"{record['samples']:,} samples each of {', '.join(names([record]))}" for record in records
    )
    floor = f"{records[0]['floor']:.2f} for {records[0]['samples']:,} training images"
    caption = f"Runs: {shown}. Distances: {counts}. Least possible: about {floor}."
    save_seed_curves(path, [chart], "Quality for time", caption)


def names(records: list[Record]) -> list[str]:
    """The names in the records, in order of appearance."""
    return list(dict.fromkeys(row["name"] for record in records for row in record["rows"]))
