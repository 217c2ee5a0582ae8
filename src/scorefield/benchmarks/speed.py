"""Images a second: ours against the peers, alternating in one run, so that a drifting machine moves both.

Rates are medians over the rounds, ratios medians of the rounds' own ratios with their range. A training step is everything a step costs:
data, noise, loss, gradients, optimiser, averages. TFLOP/s counts multiply-adds of convolutions and matrix products twice.
"""

import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..errors import InputError
from ..execution import cores, eager
from .peers import Contestant, all_contestants, ncsn_contestants


def gemm_peak(dtype: torch.dtype, size: int = 2048) -> float:
    """TFLOP/s of a square matrix product, best of five: what this machine is measured to be able to do."""
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


def rate(step: Callable[[], Any], images: int, seconds: float) -> float:
    """Images a second of repeating `step` for about `seconds` (one step at least)."""
    start, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - start < seconds:
        step()
        steps += 1
    return steps * images / (time.perf_counter() - start)


def step_flops(contestant: Contestant) -> float:
    """Floating-point operations of one training step, counted eagerly."""
    with eager(), FlopCounterMode(display=False) as counter:
        contestant.train()
    return float(counter.get_total_flops())


FIELDS: dict[str, Callable[[Path], list[Contestant]]] = {"peers": all_contestants, "ncsn": ncsn_contestants}


def speed(rounds: int = 5, seconds: float = 6.0, field: str = "peers", tell: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """All contestants in turn, `rounds` times, `seconds` each for training and as much for evaluation. field: a name of FIELDS."""
    if rounds < 1 or not seconds > 0:
        raise InputError(f"rounds must be at least 1 and seconds above zero; got {rounds} and {seconds:g}")
    if field not in FIELDS:
        raise InputError(f"field must be one of {', '.join(FIELDS)}; got {field!r}")
    with tempfile.TemporaryDirectory() as folder:
        contestants = FIELDS[field](Path(folder))
        flops = {c.name: step_flops(c) / c.images for c in contestants}
        for contestant in contestants:  # compile and warm up, not timed
            tell(f"warming up {contestant.name}")
            contestant.train()
            contestant.train()
            contestant.evaluate()
        training: dict[str, list[float]] = {c.name: [] for c in contestants}
        sampling: dict[str, list[float]] = {c.name: [] for c in contestants}
        peaks: list[float] = []
        for number in range(rounds):
            peaks.append(gemm_peak(torch.bfloat16))
            for c in contestants:
                training[c.name].append(rate(c.train, c.images, seconds))
                sampling[c.name].append(rate(c.evaluate, c.evaluated, seconds / 2))
                tell(f"round {number + 1}: {c.name} trains {training[c.name][-1]:,.0f}, evaluates {sampling[c.name][-1]:,.0f} images/s")
    first = contestants[0].name
    rows = []
    for c in contestants:
        mine, other = training[first], training[c.name]
        ratios = [a / b for a, b in zip(mine, other, strict=True)]
        evaluations = [a / b for a, b in zip(sampling[first], sampling[c.name], strict=True)]
        rows.append(
            {
                "name": c.name,
                "parameters": c.parameters,
                "batch": c.images,
                "train_images_per_second": statistics.median(other),
                "train_ratio": [min(ratios), statistics.median(ratios), max(ratios)],
                "evaluations_per_second": statistics.median(sampling[c.name]),
                "evaluation_ratio": [min(evaluations), statistics.median(evaluations), max(evaluations)],
                "train_gflop_per_image": flops[c.name] / 1e9,
                "train_tflop_per_second": flops[c.name] * statistics.median(other) / 1e12,
            }
        )
    machine = {
        "processor": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": cores(),
        "torch": torch.__version__,
        "gemm_bfloat16_tflops": statistics.median(peaks),
        "gemm_float32_tflops": gemm_peak(torch.float32),
        "conv_bfloat16_tflops": conv_peak(torch.bfloat16),
    }
    share = rows[0]["train_tflop_per_second"] / machine["gemm_bfloat16_tflops"]  # type: ignore[operator]
    return {"rounds": rounds, "seconds": seconds, "machine": machine, "share_of_gemm_peak": share, "rows": rows}
