"""Data of every shape through the same training code: colour images, folders, signals, volumes.

Each kind trains in a process of its own, through the command line, from files as a user has them.
Reported: the network that the shape got, images a second once warm, the process's peak memory, and
the training loss in the first and the last tenth with its standard error.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scorefield.errors import InputError
from scorefield.runs import Run

from .levels import pooled


def photographs(side: int, count: int, seed: int) -> np.ndarray:
    """Random crops of scikit-learn's two photographs at half size: (count, side, side, 3) uint8."""
    from sklearn.datasets import load_sample_images

    scenes = [scene[::2, ::2] for scene in load_sample_images().images]
    random = np.random.default_rng(seed)
    out = np.empty((count, side, side, 3), np.uint8)
    for crop in out:
        scene = scenes[random.integers(len(scenes))]
        top, left = (random.integers(n - side + 1) for n in scene.shape[:2])
        crop[:] = scene[top : top + side, left : left + side]
    return out


def signals(length: int, count: int, seed: int) -> np.ndarray:
    """Three damped oscillations that start at random: (count, 1, length) float32."""
    random = np.random.default_rng(seed)
    t = np.arange(length) - random.uniform(0, length, (count, 3, 1))
    period, decay = random.uniform(16, 64, (count, 3, 1)), random.uniform(50, 200, (count, 3, 1))
    wave = np.exp(-np.maximum(t, 0) / decay) * np.sin(2 * np.pi * t / period)
    summed: np.ndarray = np.where(t > 0, wave, 0).sum(1, keepdims=True)
    return summed.astype(np.float32)


def volumes(side: int, count: int, seed: int) -> np.ndarray:
    """Three soft balls each: (count, 1, side, side, side) float32."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"))
    out = np.zeros((count, 1, side, side, side), np.float32)
    for volume in out:
        for _ in range(3):
            centre = random.uniform(0.2 * side, 0.8 * side, 3)
            radius = random.uniform(0.1, 0.25) * side
            distance = np.sqrt(((grid - centre[:, None, None, None]) ** 2).sum(0))
            volume[0] = np.maximum(volume[0], 1 / (1 + np.exp(distance - radius)))
    return out


def _folder(path: Path, images: np.ndarray) -> Path:
    from PIL import Image

    path.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(path / f"{i:05d}.png")
    return path


def _array(path: Path, values: np.ndarray) -> Path:
    np.save(path, values)
    return path


# name -> a function that writes the data into a folder and returns their path
KINDS: dict[str, Callable[[Path], Path]] = {
    "32 x 32 RGB array": lambda at: _array(at / "rgb.npy", photographs(32, 4000, 0)),
    "64 x 64 RGB folder": lambda at: _folder(at / "pictures", photographs(64, 1000, 1)),
    "signals of length 1024": lambda at: _array(at / "signals.npy", signals(1024, 2000, 2)),
    "32 x 32 x 32 volumes": lambda at: _array(at / "volumes.npy", volumes(32, 400, 3)),
}


def peak_memory(pid: int) -> float:
    """The largest resident size that process `pid` has had, MiB; 0 if the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def _train(kind: str, source: Path, run: Path, flags: list[str], log: Path) -> float:
    """Train by the command line and return the peak memory, MiB."""
    base = [sys.executable, "-m", "scorefield", "train", "--data", str(source), "--run", str(run)]
    peak = 0.0
    with log.open("wb") as output:
        process = subprocess.Popen([*base, *flags], stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, peak_memory(process.pid))
            time.sleep(0.2)
    if process.returncode:
        raise InputError(
            f"training on {kind} ended with code {process.returncode}: "
            f"{log.read_text(errors='replace')[-2000:]}"
        )
    return peak


def shapes(
    seconds: float = 120.0,
    settings: tuple[str, ...] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Train on each of KINDS.

    Args:
        seconds: of training a kind, above 0.
        settings: settings of training, such as "optim.batch=32".
        tell: receives lines of progress.

    Returns:
        The record: the protocol and a row a kind.

    Raises:
        InputError: if a training fails.
    """
    if not seconds > 0:
        raise InputError(f"seconds must be above zero; got {seconds:g}")
    flags = ["--budget", f"{seconds:g}s"]
    for setting in settings:
        flags += ["--set", setting]
    rows = []
    for kind, make in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            source, run = make(Path(folder)), Path(folder) / "run"
            peak = _train(kind, source, run, flags, Path(folder) / "output.txt")
            row = {"kind": kind, "peak_mib": round(peak), **read(run)}
        rows.append(row)
        tell(
            f"{kind}: {row['rate']:.0f} a second, {row['peak_mib']} MiB, loss "
            f"{row['first']:.3f} ± {row['first_se']:.3f} -> {row['last']:.3f} ± "
            f"{row['last_se']:.3f}"
        )
    return {"seconds": seconds, "settings": list(settings), "rows": rows}


def read(run: Path) -> dict[str, Any]:
    """Read config, rate and losses of a finished run.

    The rate is the median over the second half of the log, which does not include compilation.
    """
    config = json.loads(Run(run).config.read_text())
    records = [r for r in Run(run).records() if "by_sigma" in r]
    if len(records) < 4:
        raise InputError(f"the run logged {len(records)} lines; give it more seconds")
    last = records[-1]["images"]
    first_tenth = [r for r in records if r["images"] <= last / 10] or records[:1]
    last_tenth = [r for r in records if r["images"] > last * 9 / 10]
    first, first_se = mean_loss(first_tenth)
    final, final_se = mean_loss(last_tenth)
    return {
        "config": config,
        "images": last,
        "rate": statistics.median(r["rate"] for r in records[len(records) // 2 :]),
        "first": first,
        "first_se": first_se,
        "last": final,
        "last_se": final_se,
    }


def mean_loss(records: list[dict[str, Any]]) -> tuple[float, float]:
    """Mean loss over the bins of sigma, and its standard error."""
    _, mean, variance = pooled(records)
    return float(mean.mean()), float(np.sqrt(variance.sum()) / len(mean))
