"""Planned noise levels against fixed ones: held-out loss at equal images.

For each data set and seed two models are trained with the same network and the same examples, one
with noise levels measured on the data, one with sigma from 0.002 to 80 and sigma_data 0.5
(`plan=none`). At levels from 0.03 to 3.5 standard deviations of the data, both denoise the same
held-out examples with the same noise. With the standard deviation s of the data in model units and
lambda = (sigma² + s²)/(sigma s)², lambda |D(x) - x0|²/d is 1 where nothing is known but s. A level
outside the range of a model has no loss.
"""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefield import checkpoint
from scorefield.config import override, preset
from scorefield.models import ScoreModel
from scorefield.training import train

from .precision import held_out_examples

Record = dict[str, Any]
LEVELS = tuple(np.geomspace(0.03, 3.5, 9).tolist())  # in standard deviations of the data
NOISES = 8  # for each held-out example
MOST = 1000  # held-out examples
ROWS = 10  # examples of vectors that are trained on for each signal
SEED = 0  # of the data
WAYS = {"planned": {}, "fixed": {"plan": "none"}}


def moons(count: int) -> np.ndarray:
    """Two half circles with noise, (count, 2)."""
    random = np.random.default_rng(SEED)
    angle = math.pi * random.random(count)
    side = random.integers(0, 2, count)
    x = np.stack([np.cos(angle), np.sin(angle)], 1) * np.where(side, 1, -1)[:, None]
    x += np.where(side, 0, 1)[:, None] * np.array([1.0, 0.5])
    found: np.ndarray = x + 0.08 * random.normal(size=(count, 2))
    return found


def signals(count: int) -> np.ndarray:
    """Sines of 64 points with random phase and frequency, of size 1e-3: (count, 1, 64)."""
    random = np.random.default_rng(SEED)
    phase, turns = 2 * math.pi * random.random((count, 1)), 1 + 3 * random.random((count, 1))
    at = np.linspace(0, 2 * math.pi, 64)
    x = 1e-3 * (np.sin(turns * at + phase) + 0.1 * random.normal(size=(count, 64)))
    return x.astype(np.float32)[:, None]


def modes(count: int, size: float) -> np.ndarray:
    """Eight narrow modes at the corners of a cube of standard deviation `size`: (count, 3)."""
    random = np.random.default_rng(SEED)
    corners = random.integers(0, 2, (count, 3)) * 2.0 - 1
    found: np.ndarray = size * (corners + 0.1 * random.normal(size=(count, 3)))
    return found


#: Data by name, as a function of the number of examples, and settings of training.
CASES: dict[str, tuple[Callable[[int], np.ndarray], dict[str, Any]]] = {
    "moons": (moons, {}),
    "columns of scales 1e-6 and 1e6": (lambda n: modes(n, 1.0)[:, :2] * [1e-6, 1e6], {}),
    "64-point signals of size 1e-3": (signals, {"data.channels_last": False}),
    "eight modes, standard deviation 100, own units": (
        lambda n: modes(n, 100.0),
        {"data.units": "none"},
    ),
    "eight modes, standard deviation 0.01, own units": (
        lambda n: modes(n, 0.01),
        {"data.units": "none"},
    ),
}


def relative_losses(model: ScoreModel, x0: Tensor, std: float) -> list[float | None]:
    """The loss of the module docstring at each of LEVELS; None outside the range of the model.

    Args:
        model: The model.
        x0: Held-out examples (n, *event) in model units.
        std: Standard deviation of the data in model units.

    Returns:
        One number a level.
    """
    found: list[float | None] = []
    for place, factor in enumerate(LEVELS):
        sigma = factor * std
        if not model.sigma_min <= sigma <= model.sigma_max:
            found.append(None)
            continue
        generator = torch.Generator().manual_seed(place)
        weight = (sigma**2 + std**2) / (sigma * std) ** 2
        total = 0.0
        for _ in range(NOISES):
            z = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
            with torch.no_grad():
                error = model.denoise(x0 + sigma * z, sigma) - x0
            total += weight * float(error.double().square().mean()) / NOISES
        found.append(total)
    return found


def one_run(data: np.ndarray, settings: Record, images: int, seed: int) -> Record:
    """Train one model and measure it."""
    with tempfile.TemporaryDirectory() as folder:
        run, file = Path(folder) / "run", Path(folder) / "data.npy"
        np.save(file, data)
        seen = images * ROWS if data.ndim == 2 else images
        given = {"images": seen, "seed": seed, "execution.threads": 1, "data.source": str(file)}
        request = override(preset("fast"), given | settings)
        if train(request, run).signal:
            raise KeyboardInterrupt
        model = checkpoint.load(run)
        x0 = held_out_examples(run, model)[0][:MOST]
        std = float(x0.double().var(0).mean().sqrt())
        losses = relative_losses(model, x0, std)
    defined = [loss for loss in losses if loss is not None]
    return {
        "sigma_min": model.sigma_min,
        "sigma_max": model.sigma_max,
        "losses": losses,
        "undefined": len(losses) - len(defined),
        "mean": float(np.mean(defined)) if defined else math.nan,
    }


def planned(
    images: int = 60_000,
    seeds: int = 3,
    count: int = 20_000,
    cases: tuple[str, ...] = tuple(CASES),
    tell: Callable[[str], None] = print,
) -> Record:
    """Measure both ways on every data set.

    Args:
        images: Signals that each training sees; of vectors ROWS times as many.
        seeds: Number of seeds of training.
        count: Examples of each data set, a tenth of them held out.
        cases: Names of CASES.
        tell: Called with each finished pair.

    Returns:
        The protocol and, by data set, the runs, the mean losses and their paired difference with
        its standard error over seeds; the difference is None where a level is undefined.
    """
    rows = []
    for name in cases:
        make, settings = CASES[name]
        data = make(count)
        runs: dict[str, list[Record]] = {way: [] for way in WAYS}
        for seed in range(seeds):
            for way, own in WAYS.items():
                runs[way].append(one_run(data, settings | own, images, seed))
            found = ", ".join(f"{way} {rows_[-1]['mean']:.4f}" for way, rows_ in runs.items())
            tell(f"{name}, seed {seed}: {found}")
        rows.append({"data": name, "runs": runs, **_summary(runs)})
    return {"images": images, "seeds": seeds, "count": count, "levels": LEVELS, "rows": rows}


def _summary(runs: dict[str, list[Record]]) -> Record:
    """Means over seeds, and the paired difference."""
    means = {way: [run["mean"] for run in found] for way, found in runs.items()}
    summary: Record = {way: float(np.mean(found)) for way, found in means.items()}
    summary["undefined"] = {way: found[0]["undefined"] for way, found in runs.items()}
    gaps = np.subtract(means["planned"], means["fixed"])
    comparable = not any(summary["undefined"].values())
    several = comparable and len(gaps) > 1
    summary["difference"] = float(gaps.mean()) if comparable else None
    summary["se"] = float(gaps.std(ddof=1)) / len(gaps) ** 0.5 if several else None
    return summary


def table(record: Record) -> str:
    """The rows as a table in Markdown."""
    lines = [
        "| data | planned σ | planned | fixed | difference |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in record["rows"]:
        run = row["runs"]["planned"][0]
        gap = "fixed numbers fail" if row["difference"] is None else f"{row['difference']:+.4f}"
        gap += "" if row["se"] is None else f" ± {row['se']:.4f}"
        missing = row["undefined"]["fixed"]
        other = f"{row['fixed']:.4g}" + (
            f"; not defined at {missing} of {len(record['levels'])} levels" if missing else ""
        )
        lines.append(
            f"| {row['data']} | {run['sigma_min']:.3g} to {run['sigma_max']:.3g} | "
            f"{row['planned']:.4g} | {other} | {gap} |"
        )
    return "\n".join(lines)
