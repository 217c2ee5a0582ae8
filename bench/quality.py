"""Quality for time: Fréchet distance of samples to the test images after so many minutes of wall
time, compilation included.

The feature space is a file of the user's (`--judge FOLDER` with a features.py that offers `load`,
`features` and `frechet`), so that numbers
from different days and hands compare. Ours is trained once a budget, because its schedule ends with
the budget; a peer is trained once with
its own constant rate and measured as it passes each budget (the clock stops while it is measured).
"""

import importlib.util
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from scorefield import checkpoint
from scorefield.config import override, preset
from scorefield.errors import InputError
from scorefield.execution import choose
from scorefield.runs import Run
from scorefield.sampling import sample
from scorefield.training import train
from .peers import denoising_diffusion


def load_judge(folder: Path) -> ModuleType:
    """features.py of `folder`, as a module."""
    path = folder / "features.py"
    if not path.exists():
        raise InputError(
            "--judge needs a folder with features.py (load, features, frechet) and its weights; "
            f"{path} is not there"
        )
    spec = importlib.util.spec_from_file_location("judge_features", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Judge:
    """frechet(images) against the test images, and the share of confident ones."""

    def __init__(self, folder: Path, mnist: Path) -> None:
        self.module = load_judge(folder)
        if not mnist.exists():
            raise InputError(
                f"--mnist needs an .npz with test_images and train_images; {mnist} is not there"
            )
        arrays = np.load(mnist)
        self.network = self.module.load()
        self.test, _ = self.module.features(self.network, arrays["test_images"])
        rows = np.random.default_rng(0).permutation(len(arrays["train_images"]))[:5000]
        self.floor = self.module.frechet(
            self.module.features(self.network, arrays["train_images"][rows])[0], self.test
        )

    def __call__(self, images: np.ndarray) -> dict[str, float]:
        found, probability = self.module.features(self.network, images)
        return {
            "frechet": self.module.frechet(found, self.test),
            "confident": float((probability.max(1).values > 0.9).double().mean()),
        }


def draw(run: Path, count: int, seed: int, nfe: int | None) -> tuple[np.ndarray, int, float]:
    """Samples of a finished run in [0, 1] -> images, evaluations a sample, seconds."""
    model: Any = checkpoint.load(run)
    execution = choose(spatial=2)
    model.autocast = execution.autocast
    execution.place(model.network)
    start = time.perf_counter()
    images, record = sample(model, count, seed, nfe=nfe, record=True)
    return images.clamp(0, 1).numpy(), record.nfe, time.perf_counter() - start


def quality(
    judge: Path,
    mnist: Path,
    minutes: tuple[float, ...] = (1, 2, 5, 10),
    seeds: tuple[int, ...] = (0, 1, 2),
    count: int = 5000,
    nfe: int | None = None,
    data: str | None = None,
    settings: tuple[str, ...] = (),
    keep: Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Ours: a row a seed and budget. data: what is trained on, MNIST's train_images in `mnist`
    unless said; keep: a folder for the runs.
    """
    measure = Judge(judge, mnist)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in seeds:
            for budget in minutes:
                folder = (keep or Path(scratch)) / f"{budget:g}min-seed{seed}"
                config = replace(preset("fast"), seconds=60.0 * budget, seed=seed)
                source = [
                    "data.source=" + (data or str(mnist)),
                    *([] if data else ["data.key=train_images"]),
                ]
                summary = train(override(config, [*source, *settings]), folder)
                if summary.signal:
                    raise KeyboardInterrupt
                images, evaluations, seconds = draw(folder, count, seed, nfe)
                if keep is not None:
                    np.savez(folder / "judged.npz", samples=images)
                record = Run(folder).records()[-1]
                row = {
                    "name": "scorefield",
                    "seed": seed,
                    "minutes": budget,
                    "images": summary.images,
                    "train_seconds": summary.seconds,
                }
                rows.append(
                    row
                    | measure(images)
                    | {
                        "nfe": evaluations,
                        "sample_seconds": seconds,
                        "held_out": record.get("held_out"),
                    }
                )
                tell(
                    f"seed {seed}, {budget:g} min: Fréchet {rows[-1]['frechet']:.2f} after "
                    f"{summary.images:,} images ({seconds:.0f} s to sample)"
                )
    return {"samples": count, "floor": measure.floor, "rows": rows}


def peer_quality(
    judge: Path,
    mnist: Path,
    minutes: tuple[float, ...] = (1, 2, 5, 10),
    seeds: tuple[int, ...] = (0,),
    count: int = 1000,
    steps: int = 20,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """denoising-diffusion-pytorch's Unet, a run a seed, DDIM sampling with `steps` evaluations; a
    row a seed and budget.
    """
    measure = Judge(judge, mnist)
    images = torch.from_numpy(np.load(mnist)["train_images"][:, None]).float().div(127.5).sub(1)
    rows = []
    for seed in seeds:
        torch.manual_seed(seed)
        contestant = denoising_diffusion(images, batch=64)
        from denoising_diffusion_pytorch import GaussianDiffusion

        sampler = GaussianDiffusion(
            contestant.network,
            image_size=28,
            timesteps=1000,
            sampling_timesteps=steps,
            auto_normalize=False,
        )
        spent, seen = 0.0, 0
        for budget in minutes:
            while spent < 60 * budget:
                start = time.perf_counter()
                contestant.train()
                spent += time.perf_counter() - start
                seen += contestant.images
            start = time.perf_counter()
            with torch.no_grad():
                drawn = torch.cat(
                    [sampler.sample(batch_size=min(250, count - k)) for k in range(0, count, 250)]
                )
            row = {
                "name": contestant.name,
                "seed": seed,
                "minutes": budget,
                "images": seen,
                "train_seconds": spent,
                "nfe": steps,
            }
            rows.append(
                row
                | measure(((drawn + 1) / 2).clamp(0, 1).numpy())
                | {"sample_seconds": time.perf_counter() - start}
            )
            tell(
                f"{contestant.name}, seed {seed}, {budget:g} min: Fréchet "
                f"{rows[-1]['frechet']:.2f} after {seen:,} images"
            )
    return {"samples": count, "floor": measure.floor, "rows": rows}


def draw_plot(path: Path, records: list[dict[str, Any]]) -> None:
    """Distance over minutes of training for everybody in the records, a thin line a seed; the floor
    is that of as many training images.
    """
    from scorefield.plotting import Chart, save_spread

    series: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for rows in (
        [row for record in records for row in record["rows"] if row["name"] == name]
        for name in names(records)
    ):
        minutes = sorted({row["minutes"] for row in rows})
        table = {(row["seed"], row["minutes"]): row["frechet"] for row in rows}
        seeds = [
            seed
            for seed in sorted({row["seed"] for row in rows})
            if all((seed, m) in table for m in minutes)
        ]
        if seeds:
            series[rows[0]["name"]] = (
                np.array(minutes),
                np.array([[table[seed, m] for m in minutes] for seed in seeds]),
            )
    if not series:
        raise InputError("no seed of anybody has all its budgets: nothing to draw")
    chart = Chart(
        "lower is better",
        "minutes of training, compilation included",
        "Fréchet distance to the test images",
        series,
        log="xy",
        marks=True,
    )
    said = ", ".join(
        f"{len(v)} seed{'s' if len(v) > 1 else ''} of {name}" for name, (_, v) in series.items()
    )
    counts = " and ".join(sorted({f"{record['samples']:,}" for record in records}))
    floor = f"{records[0]['floor']:.2f} for {records[0]['samples']:,} training images"
    save_spread(
        path,
        [chart],
        "Quality for time",
        f"{said}; {counts} samples each. Least possible: about {floor}.",
    )


def names(records: list[dict[str, Any]]) -> list[str]:
    """Who is in the records, in order of appearance."""
    return list(dict.fromkeys(row["name"] for record in records for row in record["rows"]))
