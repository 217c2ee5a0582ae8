"""The size of the U-Net and the batch, from what a time budget has room for.

A training step of B examples takes a + b B seconds, so that T seconds have room for T B / (a + b B)
examples. The widest U-Net is taken that sees FEW_IMAGES of them at the full batch, and the
narrowest where none does. The batch is the largest one with room for FEW_STEPS steps: a network
that has hardly moved is worse than the best Gaussian at any width (docs/log.md).
"""

from collections.abc import Mapping
from typing import Any

from ..progress import duration
from .facts import DataFacts

USEFUL = 0.85  # fraction of a time budget that is spent on training steps
# What two cores do in a second of a budget, where nothing was measured: multiplications of a
# forward pass of the U-Net while it is trained (docs/benchmarks.md).
MULTIPLICATIONS_A_SECOND = 28e9
FEW_IMAGES = 20_000.0
FEW_STEPS = 800.0
IMAGE_BATCHES, ROW_BATCHES = (64, 32, 16, 8), (1024, 512, 256, 128)

Line = tuple[float, float]  # a and b: seconds of a step, and of each example in it


def images_in(seconds: float, line: Line, batch: int) -> float:
    """Examples that a time budget has room for."""
    return USEFUL * seconds * batch / (line[0] + line[1] * batch)


def enough(line: Line, seconds: float, batch: int) -> bool:
    """Whether a time budget has room for FEW_IMAGES examples."""
    return images_in(seconds, line, batch) >= FEW_IMAGES


def lines(facts: DataFacts, device: str | None) -> dict[float, Line]:
    """a and b by the U-Net's scale: measured, or of a processor of two cores; {} for neither."""
    if facts.step_seconds:
        return dict(facts.step_seconds)
    if facts.accelerator if device is None else device != "cpu":
        return {}
    each = USEFUL / MULTIPLICATIONS_A_SECOND
    return {scale: (0.0, each * cost) for scale, cost in facts.unet_costs.items()}


def budget_images(
    facts: DataFacts, options: Mapping[str, Any], batch: int, seconds: float
) -> float | None:
    """Examples that a time budget has room for by what was measured; None without a measurement."""
    line = facts.step_seconds.get(float(options.get("scale", 1.0)))
    return None if line is None else images_in(seconds, line, batch)


def best_scale(found: Mapping[float, Line], seconds: float, batch: int) -> float:
    """The largest scale that sees enough examples; the smallest one where none does."""
    fitting = [scale for scale, line in found.items() if enough(line, seconds, batch)]
    return max(fitting) if fitting else min(found)


def best_batch(line: Line, seconds: float, batches: tuple[int, ...]) -> int:
    """The largest batch with room for FEW_STEPS steps; the smallest one where none has it."""
    fitting = [b for b in batches if images_in(seconds, line, b) / b >= FEW_STEPS]
    return max(fitting) if fitting else min(batches)


def seconds_for(line: Line, batch: int) -> float:
    """The time budget that has room for FEW_STEPS steps."""
    return FEW_STEPS * (line[0] + line[1] * batch) / USEFUL


def scale_reason(
    facts: DataFacts, found: Mapping[float, Line], scale: float, seconds: float
) -> str:
    """Why the U-Net has its scale: a sentence."""
    where = "here" if facts.step_seconds else "on two cores"
    seen = {s: images_in(seconds, line, IMAGE_BATCHES[0]) for s, line in found.items()}
    reason = f"{seconds:g} s have room for about {rounded(seen[scale])} images {where}"
    wider = [s for s in found if s > scale]
    if wider:
        reason += f", and for {rounded(seen[min(wider)])} at scale {min(wider):g}"
    if seen[scale] < FEW_IMAGES:
        reason += f": fewer than {FEW_IMAGES:,.0f}, so that it is the narrowest"
    return f"{reason}."


def batch_reason(line: Line, seconds: float, batch: int) -> str:
    """Why the batch is smaller than the usual one, and what time a first result takes."""
    steps = images_in(seconds, line, batch) / batch
    reason = f"There is room for about {rounded(steps)} steps of {batch}"
    if steps >= FEW_STEPS:
        return f"{reason}, and with more examples a step there would be too few."
    needed = duration(seconds_for(line, batch))
    return (
        f"{reason}. That is too few to pass the best Gaussian: {FEW_STEPS:,.0f} steps, where a "
        f"first result is usual, take {needed} on this machine as busy as it is now."
    )


def rounded(count: float) -> str:
    """A count with two digits."""
    return f"{float(f'{count:.1e}'):,.0f}"
