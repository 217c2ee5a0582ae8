"""Training and evaluation rates in images a second, candidates alternating within one run.

The machine's speed drifts, so rates are medians over the rounds, and ratios are medians of the
ratios within a round, with their range. A training step includes everything that a step costs:
data, noise, loss, gradients, optimiser, averages. A multiply-add counts as two operations.
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

from . import peers
from .workers import Worker

PRECISIONS = ("float32", "bfloat16")


def gemm_peak(dtype: torch.dtype, size: int = 2048, patience: float = 2.0) -> float:
    """TFLOP/s of a square matrix product, best of six.

    A processor that emulates `dtype` is hundreds of times slower. If one product of `size` would
    take longer than `patience` seconds at the rate of size / 8, the latter rate is returned.
    """
    found = _product_rate(dtype, size // 8)
    return found if 2 * size**3 / found / 1e12 > patience else _product_rate(dtype, size)


def _best_of_six(work: Callable[[], Any]) -> float:
    """The shortest of six times, in seconds."""
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def _product_rate(dtype: torch.dtype, size: int) -> float:
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    return 2 * size**3 / _best_of_six(lambda: a @ b) / 1e12


def conv_peak(dtype: torch.dtype) -> float:
    """TFLOP/s of a 3x3 convolution, 128 channels on 14 x 14, batch 256, channels last, forward."""
    x = torch.randn(256, 128, 14, 14).to(dtype).to(memory_format=torch.channels_last)
    w = torch.randn(128, 128, 3, 3).to(dtype).to(memory_format=torch.channels_last)
    with torch.no_grad():
        best = _best_of_six(lambda: torch.conv2d(x, w, padding=1))
    return 2 * 9 * 128 * 128 * 196 * 256 / best / 1e12


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Least, median and greatest ratio of the rounds."""
    found = [a / b for a, b in zip(ours, theirs, strict=True)]
    return [min(found), statistics.median(found), max(found)]


def _measure(
    suite: str, rounds: int, seconds: float, tell: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[list[float]], list[list[float]], dict[str, list[float]]]:
    """Facts, training rates and evaluation rates of each candidate, and matrix products' rates."""
    count = len(peers.SUITES[suite])
    workers: list[Worker] = []
    peaks: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    training: list[list[float]] = [[] for _ in range(count)]
    evaluation: list[list[float]] = [[] for _ in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            for number in range(count):
                workers.append(Worker(suite, number, Path(folder) / str(number)))
                tell(f"{workers[-1].facts['name']} is warm")
            for number in range(rounds):
                for precision, found in peaks.items():
                    found.append(gemm_peak(getattr(torch, precision)))
                for worker, trained, evaluated in zip(workers, training, evaluation, strict=True):
                    trained.append(worker.rate("train", seconds))
                    evaluated.append(worker.rate("evaluate", seconds / 2))
                    tell(
                        f"round {number + 1}: {worker.facts['name']} trains {trained[-1]:,.0f}, "
                        f"evaluates {evaluated[-1]:,.0f} images/s"
                    )
        finally:
            for worker in workers:
                worker.end()
    return [worker.facts for worker in workers], training, evaluation, peaks


def speed(
    rounds: int = 5,
    seconds: float = 6.0,
    suite: str = "peers",
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure all candidates of a suite in turn, several times.

    Args:
        rounds: how often each candidate is measured, 1 or more.
        seconds: duration of one measurement of training; evaluation is measured for half of it.
        suite: a key of `peers.SUITES`; its first candidate is this package.
        tell: receives lines of progress.

    Returns:
        The record: protocol, machine, and a row a candidate.

    Raises:
        InputError: for wrong arguments, or if a library is missing.
    """
    if rounds < 1 or not seconds > 0:
        raise InputError(
            f"rounds must be at least 1 and seconds above zero; got {rounds} and {seconds:g}"
        )
    if suite not in peers.SUITES:
        raise InputError(f"suite must be one of {', '.join(peers.SUITES)}; got {suite!r}")
    facts, training, evaluation, peaks = _measure(suite, rounds, seconds, tell)
    rows = [
        {
            "name": fact["name"],
            "parameters": fact["parameters"],
            "batch": fact["batch"],
            "precision": fact["precision"],
            "train_images_per_second": statistics.median(trained),
            "train_ratio": ratios(training[0], trained),
            "evaluations_per_second": statistics.median(evaluated),
            "evaluation_ratio": ratios(evaluation[0], evaluated),
            "train_gflop_per_image": fact["flops"] / 1e9,
            "train_tflop_per_second": fact["flops"] * statistics.median(trained) / 1e12,
        }
        for fact, trained, evaluated in zip(facts, training, evaluation, strict=True)
    ]
    machine = {
        "processor": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": cores(),
        "torch": torch.__version__,
        **{f"gemm_{name}_tflops": statistics.median(found) for name, found in peaks.items()},
        "conv_bfloat16_tflops": conv_peak(torch.bfloat16),
    }
    peak = machine[f"gemm_{rows[0]['precision']}_tflops"]
    return {
        "rounds": rounds,
        "seconds": seconds,
        "machine": machine,
        "fraction_of_gemm_peak": rows[0]["train_tflop_per_second"] / peak,
        "rows": rows,
    }
