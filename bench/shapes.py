"""One design for every shape: colour images, a folder of pictures, long signals and volumes through
the same training code.

Each kind trains in a process of its own, through the command line, from files as a user has them.
Reported: the network that the shape was
given, images a second once warm, the process' peak memory, and the training loss in the first and
the last tenth with its standard error.
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
    """Three damped oscillations each, struck at random instants: (count, 1, length) float32."""
    random = np.random.default_rng(seed)
    t = np.arange(length) - random.uniform(0, length, (count, 3, 1))
    period, decay = random.uniform(16, 64, (count, 3, 1)), random.uniform(50, 200, (count, 3, 1))
    struck = np.where(t > 0, np.exp(-np.maximum(t, 0) / decay) * np.sin(2 * np.pi * t / period), 0)
    return struck.sum(1, keepdims=True).astype(np.float32)


def volumes(side: int, count: int, seed: int) -> np.ndarray:
    """Three soft balls each: (count, 1, side, side, side) float32."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"))
    out = np.zeros((count, 1, side, side, side), np.float32)
    for volume in out:
        for _ in range(3):
            centre, radius = (
                random.uniform(0.2 * side, 0.8 * side, 3),
                random.uniform(0.1, 0.25) * side,
            )
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


KINDS: dict[str, Callable[[Path], Path]] = {
    "32 x 32 RGB array": lambda at: _array(at / "rgb.npy", photographs(32, 4000, 0)),
    "64 x 64 RGB folder": lambda at: _folder(at / "pictures", photographs(64, 1000, 1)),
    "signals of length 1024": lambda at: _array(at / "signals.npy", signals(1024, 2000, 2)),
    "32 x 32 x 32 volumes": lambda at: _array(at / "volumes.npy", volumes(32, 400, 3)),
}


def peak_memory(pid: int) -> float:
    """The largest resident size process `pid` has had, MiB; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def shapes(
    seconds: float = 120.0,
    settings: tuple[str, ...] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Train on each of KINDS for `seconds` -> a row a kind."""
    if not seconds > 0:
        raise InputError(f"seconds must be above zero; got {seconds:g}")
    rows = []
    for kind, make in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            source, run = make(Path(folder)), Path(folder) / "run"
            flags = [flag for setting in settings for flag in ("--set", setting)]
            command = [
                sys.executable,
                "-m",
                "scorefield",
                "train",
                "--data",
                str(source),
                "--run",
                str(run),
                "--budget",
                f"{seconds:g}s",
            ]
            peak, log = 0.0, Path(folder) / "said.txt"
            with log.open("wb") as said:
                process = subprocess.Popen(
                    [*command, *flags], stdout=said, stderr=subprocess.STDOUT
                )
                while process.poll() is None:
                    peak = max(peak, peak_memory(process.pid))
                    time.sleep(0.2)
            if process.returncode:
                raise InputError(
                    f"training on {kind} ended with code {process.returncode}: "
                    f"{log.read_text(errors='replace')[-2000:]}"
                )
            rows.append({"kind": kind, "peak_mib": round(peak), **read(run)})
            row = rows[-1]
            tell(
                f"{kind}: {row['rate']:.0f} a second, {row['peak_mib']} MiB, loss "
                f"{row['first']:.3f} ± {row['first_se']:.3f} -> {row['last']:.3f} ± "
                f"{row['last_se']:.3f}"
            )
    return {"seconds": seconds, "settings": list(settings), "rows": rows}


def read(run: Path) -> dict[str, Any]:
    """Network, rate and losses of a finished run. Rate: the median of the log's second half, which
    compilation is not in.
    """
    card = json.loads(Run(run).config.read_text())
    records = [r for r in Run(run).records() if "by_sigma" in r]
    if len(records) < 4:
        raise InputError(f"the run logged {len(records)} lines; give it more seconds")
    last = records[-1]["images"]
    tenths = [
        [r for r in records if r["images"] <= last / 10] or records[:1],
        [r for r in records if r["images"] > last * 9 / 10],
    ]
    (first, first_se), (final, final_se) = (overall(part) for part in tenths)
    return {
        "config": card,
        "images": last,
        "rate": statistics.median(r["rate"] for r in records[len(records) // 2 :]),
        "first": first,
        "first_se": first_se,
        "last": final,
        "last_se": final_se,
    }


def overall(records: list[dict[str, Any]]) -> tuple[float, float]:
    """Mean loss over the bins of sigma and its standard error."""
    _, mean, variance = pooled(records)
    return float(mean.mean()), float(np.sqrt(variance.sum()) / len(mean))
