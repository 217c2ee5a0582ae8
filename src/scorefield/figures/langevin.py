"""Experiment 2: Langevin dynamics carries uniform noise to the density, knowing its score alone.

    x <- x + eps s(x) + sqrt(2 eps) z        eps = 0.1, s the exact score, x ~ U[-8, 8]² at first

Within a mode N(m, I) the variance settles at 2 eps/(1 - (1 - eps)²), not at 1: a finite step is
biased. How many points a mode gets is decided
by where they start: the weights are wrong, and stay wrong (experiment 5).
"""

from pathlib import Path

import torch
from torch import Tensor

from ..data.toys import MODES
from ..plotting import save_moving_points
from ..sampling import Event, Langevin, sample
from .common import FRAME, SMALL, Made, Settings, mixture, said, small_mode

SEED, EPSILON, STEPS, TINY, SHOWN = 2, 0.1, 400, 1e-4, 1500
FRAMES = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    10,
    12,
    15,
    18,
    22,
    26,
    30,
    35,
    40,
    50,
    60,
    80,
    100,
    150,
    200,
    300,
    400,
)


def make(stem: Path, settings: Settings) -> Made:
    """The points after some of the steps, as a GIF; numbers: the small mode's weight and the
    variance within the modes.
    """
    p, count = mixture(), settings.pick(20_000, 1000)
    frames: dict[int, Tensor] = {}

    def keep(event: Event) -> None:
        if event.step in FRAMES:
            frames[event.step] = event.x

    # sigma = TINY stands for none: a ladder holds no zero, and p_sigma is p to 1e-8.
    x, record = sample(
        p,
        count,
        SEED,
        kernel=Langevin(EPSILON),
        ladder=[TINY],
        repeats=STEPS,
        start=("uniform", FRAME[0], FRAME[1]),
        final="none",
        callbacks=(keep,),
        trace=True,
    )
    frames[0] = record.trace[0][1]
    shown = settings.pick(len(FRAMES), 6)
    path = save_moving_points(
        stem.with_suffix(".gif"),
        torch.stack([frames[step][:SHOWN] for step in FRAMES[:shown]]),
        p.log_prob,
        FRAME,
        [
            f"step {step} of {STEPS}: {small_mode(frames[step])['value']:.2f} of the points lower "
            f"left, truly {SMALL:g}"
            for step in FRAMES[:shown]
        ],
        f"Langevin dynamics from uniform noise (exact score, ε = {EPSILON:g})",
    )
    mode = torch.cdist(x, MODES).argmin(1)
    rest = x - MODES[mode]
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
        "weight_after_steps": {step: small_mode(frames[step])["value"] for step in FRAMES},
    }
    found = (
        f"After {STEPS} steps the points lie as the modes do: variance {variance:.3f} within "
        f"them, the discretised dynamics' own {expected:.3f}. "
        f"But the small mode holds {said(weight)} of them instead of {SMALL:g}: as many as "
        "started nearer to it."
    )
    return Made([path], found, numbers)
