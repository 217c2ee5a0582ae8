"""Images a second: ours against the peers, alternating in one run, so that a drifting machine moves
both.

Rates are medians over the rounds, ratios medians of the rounds' own ratios with their range. A
training step is everything a step costs: data, noise,
loss, gradients, optimiser, averages. TFLOP/s counts multiply-adds of convolutions and matrix
products twice.
"""

import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from scorefield.errors import InputError
from scorefield.execution import cores
from .entrants import Entrant
from .peers import FIELDS


def gemm_peak(dtype: torch.dtype, size: int = 2048, patience: float = 2.0) -> float:
    """TFLOP/s of a square matrix product, best of six: what this machine is measured to be able to
    do.

    A processor that emulates `dtype` is hundreds of times slower: where one product of `size` would
    take longer than `patience` seconds by the rate of
    an eighth of the size, that rate is given.
    """
    found = _product_rate(dtype, size // 8)
    return found if 2 * size**3 / found / 1e12 > patience else _product_rate(dtype, size)


def _product_rate(dtype: torch.dtype, size: int) -> float:
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e12


def conv_peak(dtype: torch.dtype) -> float:
    """TFLOP/s of a 3x3 convolution, 128 channels on 14 x 14, batch 256, channels last, forward."""
    x = torch.randn(256, 128, 14, 14).to(dtype).to(memory_format=torch.channels_last)
    w = torch.randn(128, 128, 3, 3).to(dtype).to(memory_format=torch.channels_last)
    best = float("inf")
    with torch.no_grad():
        for _ in range(6):
            start = time.perf_counter()
            torch.conv2d(x, w, padding=1)
            best = min(best, time.perf_counter() - start)
    return 2 * 9 * 128 * 128 * 196 * 256 / best / 1e12


def spread(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Least, median and greatest ratio of the rounds."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return [min(ratios), statistics.median(ratios), max(ratios)]


def speed(
    rounds: int = 5,
    seconds: float = 6.0,
    field: str = "peers",
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """All contestants in turn, `rounds` times, `seconds` each for training and as much for
    evaluation. field: a name of FIELDS.
    """
    if rounds < 1 or not seconds > 0:
        raise InputError(
            f"rounds must be at least 1 and seconds above zero; got {rounds} and {seconds:g}"
        )
    if field not in FIELDS:
        raise InputError(f"field must be one of {', '.join(FIELDS)}; got {field!r}")
    entrants: list[Entrant] = []
    peaks: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    training: list[list[float]] = [[] for _ in FIELDS[field]]
    sampling: list[list[float]] = [[] for _ in FIELDS[field]]
    with tempfile.TemporaryDirectory() as folder:
        try:
            for number in range(len(FIELDS[field])):
                entrants.append(Entrant(field, number, Path(folder) / str(number)))
                tell(f"{entrants[-1].facts['name']} is warm")
            for number in range(rounds):
                for precision, found in peaks.items():
                    found.append(gemm_peak(getattr(torch, precision)))
                for one, trained, sampled in zip(entrants, training, sampling, strict=True):
                    trained.append(one.rate("train", seconds))
                    sampled.append(one.rate("evaluate", seconds / 2))
                    tell(
                        f"round {number + 1}: {one.facts['name']} trains {trained[-1]:,.0f}, "
                        f"evaluates {sampled[-1]:,.0f} images/s"
                    )
        finally:
            for one in entrants:
                one.end()
    rows = [
        {
            "name": one.facts["name"],
            "parameters": one.facts["parameters"],
            "batch": one.facts["batch"],
            "precision": one.facts["precision"],
            "train_images_per_second": statistics.median(trained),
            "train_ratio": spread(training[0], trained),
            "evaluations_per_second": statistics.median(sampled),
            "evaluation_ratio": spread(sampling[0], sampled),
            "train_gflop_per_image": one.facts["flops"] / 1e9,
            "train_tflop_per_second": one.facts["flops"] * statistics.median(trained) / 1e12,
        }
        for one, trained, sampled in zip(entrants, training, sampling, strict=True)
    ]
    machine = {
        "processor": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": cores(),
        "torch": torch.__version__,
        **{
            f"gemm_{precision}_tflops": statistics.median(found)
            for precision, found in peaks.items()
        },
        "conv_bfloat16_tflops": conv_peak(torch.bfloat16),
    }
    share = rows[0]["train_tflop_per_second"] / machine[f"gemm_{rows[0]['precision']}_tflops"]
    return {
        "rounds": rounds,
        "seconds": seconds,
        "machine": machine,
        "share_of_gemm_peak": share,
        "rows": rows,
    }
