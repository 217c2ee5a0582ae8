"""Experiment 2: Langevin dynamics carries uniform noise to the density by means of its score.

    x <- x + eps s(x) + sqrt(2 eps) z        eps = 0.1, s the exact score, x ~ U[-8, 8]² at first

Within a mode N(m, I) the variance settles at 2 eps/(1 - (1 - eps)²) and not at 1, since a finite
step is biased. Where the points start decides how many of them a mode gets: the weights are wrong,
and stay wrong (experiment 5).
"""

from pathlib import Path

import torch
from torch import Tensor

from .. import rng
from ..data.toys import MODES
from ..plotting import save_moving_points
from ..sampling import Langevin, State, StepEvent, run
from .common import FRAME, SMALL, Result, Settings, mixture, small_mode, with_interval

SEED, EPSILON, STEPS, SHOWN = 2, 0.1, 400, 1500
TINY = 1e-4  # stands for sigma = 0, which a ladder cannot hold; p_sigma is p to 1e-8
FRAMES = (*range(7), 8, 10, 12, 15, 18, 22, 26, 30, 35, 40, 50, 60, 80, 100, 150, 200, 300, 400)


def draw(count: int) -> tuple[Tensor, dict[int, Tensor]]:
    """Run the dynamics.

    Args:
        count: number of points.

    Returns:
        The points at the end, (count, 2), and those after each of the steps in FRAMES.
    """
    frames: dict[int, Tensor] = {}

    def keep(event: StepEvent) -> None:
        if event.step in FRAMES:
            frames[event.step] = event.x

    p = mixture()
    start = FRAME[0] + (FRAME[1] - FRAME[0]) * torch.rand(
        count, 2, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64
    )
    frames[0] = start
    result = run(
        Langevin(epsilon=EPSILON),
        p,
        [TINY],
        State(start),
        steps_per_level=STEPS,
        final="none",
        keys=rng.keys(SEED, count),
        callbacks=(keep,),
    )
    return result.x, frames


def make(stem: Path, settings: Settings) -> Result:
    """Draw the points after some of the steps as a GIF, and measure where they end.

    Args:
        stem: path of the picture without its ending.
        settings: sizes of the experiment.

    Returns:
        The GIF, the small mode's weight, and the variance within the modes.
    """
    p, count = mixture(), settings.pick(20_000, 1000)
    x, frames = draw(count)
    shown = FRAMES[: settings.pick(len(FRAMES), 6)]
    weights = {step: small_mode(frames[step]) for step in FRAMES}
    path = save_moving_points(
        stem.with_suffix(".gif"),
        torch.stack([frames[step][:SHOWN] for step in shown]),
        p.log_prob,
        FRAME,
        [
            f"step {step} of {STEPS}: {weights[step]['value']:.2f} of the points lower left, "
            f"truly {SMALL:g}"
            for step in shown
        ],
        settings.title(f"Langevin dynamics from uniform noise (exact score, ε = {EPSILON:g})"),
    )
    rest = x - MODES[torch.cdist(x, MODES).argmin(1)]
    expected = 2 * EPSILON / (1 - (1 - EPSILON) ** 2)
    weight, variance = small_mode(x), float(rest.square().mean())
    numbers = {
        "epsilon": EPSILON,
        "steps": STEPS,
        "weight_of_small_mode": weight,
        "true_weight": SMALL,
        "variance_within_modes": {
            "value": variance,
            "se": variance * (1 / count) ** 0.5,
            "fixed_point": expected,
        },
        "weight_after_steps": {step: weight["value"] for step, weight in weights.items()},
    }
    conclusion = (
        f"After {STEPS} steps the points lie as the modes do: variance {variance:.3f} within "
        f"them, where the discretised dynamics has {expected:.3f}. "
        f"But the small mode holds {with_interval(weight)} of them instead of {SMALL:g}: as many "
        "as started nearer to it."
    )
    return Result([path], conclusion, numbers)
