"""Experiment 5: the weights that samplers give to modes (Song and Ermon 2019, Figure 3).

The score of separated modes hardly depends on their weights: grad log(w_1 p_1 + w_2 p_2) is grad
log p_k near mode k, whatever w_k is. Langevin dynamics therefore keeps the weights of its start.
Large noise joins the modes. Annealed from sigma = 20 to 1, the dynamics finds the weights at large
noise and keeps them as the noise falls. The score is exact at every sigma, so that the difference
is due to the dynamics alone.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..noise import geometric
from ..plotting import Panel, save_planes
from ..sampling import AnnealedLangevin, Langevin, State, run
from .common import FRAME, SMALL, Result, Settings, mixture, small_mode, with_interval

SEED, SHOWN = 5, 2000
SIGMA_MAX, SIGMA_MIN, LEVELS, STEPS, EPSILON = 20.0, 1.0, 10, 100, 0.05
# Annealed points have variance 1 + SIGMA_MIN²: six of its standard deviations around the modes.
SHOWN_FRAME = (-11.5, 11.5, -11.5, 11.5)
TINY = 1e-4  # plain Langevin's one level: no noise


def draw(count: int, seed: int = SEED) -> dict[str, Tensor]:
    """Draw points of the mixture by each method.

    Args:
        count: number of points.
        seed: of the draws.

    Returns:
        method -> (count, 2). Both dynamics evaluate the score equally often.
    """
    p = mixture()
    start = FRAME[0] + (FRAME[1] - FRAME[0]) * torch.rand(
        count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    keys = rng.keys(seed, count)
    plain = run(
        Langevin(epsilon=EPSILON),
        p,
        [TINY],
        State(start),
        steps_per_level=LEVELS * STEPS,
        final="none",
        keys=keys,
    )
    annealed = run(
        AnnealedLangevin(epsilon=EPSILON),
        p,
        geometric(SIGMA_MAX, SIGMA_MIN, LEVELS),
        State(start),
        steps_per_level=STEPS,
        final="none",
        keys=keys,
    )
    return {
        "independent draws": p.sample(count, seed=seed),
        "Langevin": plain.x,
        "annealed Langevin": annealed.x,
    }


def _caption(shown: int, count: int) -> str:
    """What the picture shows, for below it."""
    return (
        f"Dots: {shown:,} of {count:,} points a method. Grey: the density each aims at, contours "
        "where log p is k²/2 below its maximum; annealed Langevin ends at p with noise of σ = "
        f"{SIGMA_MIN:g}. Numbers: fraction of points in the lower left mode, with 95 % intervals. "
        f"Both dynamics start uniform in [−8, 8]², take {LEVELS * STEPS:,} steps with ε = "
        f"{EPSILON:g} (at the last level) and the exact score; annealed: {LEVELS} levels of σ from "
        f"{SIGMA_MAX:g} to {SIGMA_MIN:g}, {STEPS} steps each."
    )


def make(stem: Path, settings: Settings) -> Result:
    """Draw the points of the three methods side by side.

    Args:
        stem: path of the pictures without their ending.
        settings: sizes of the experiment.

    Returns:
        The picture, and the weight of the small mode by each method with a 95 % interval.
    """
    drawn = draw(settings.pick(20_000, 1000))
    weights = {name: small_mode(x) for name, x in drawn.items()}
    p = mixture()
    aims = {
        name: (lambda x: p.log_prob(x, SIGMA_MIN)) if name.startswith("annealed") else p.log_prob
        for name in drawn
    }
    shown, count = min(SHOWN, len(drawn["Langevin"])), len(drawn["Langevin"])
    path = save_planes(
        stem.with_suffix(".png"),
        [
            Panel(
                f"{name}\nlower left mode: {with_interval(weights[name])}",
                aims[name],
                points=x[:shown],
            )
            for name, x in drawn.items()
        ],
        SHOWN_FRAME,
        settings.title(
            f"Which samplers give the modes their weights? The lower left one has {SMALL:g}"
        ),
        settings.caption(_caption(shown, count)),
    )
    numbers: dict[str, Any] = {
        "true_weight": SMALL,
        "weight_of_small_mode": weights,
        "annealed_error": abs(weights["annealed Langevin"]["value"] - SMALL),
        "settings": {
            "sigma_max": SIGMA_MAX,
            "sigma_min": SIGMA_MIN,
            "levels": LEVELS,
            "steps_per_level": STEPS,
            "epsilon": EPSILON,
        },
    }
    conclusion = (
        "Weight of the small mode, truly 0.2: "
        + "; ".join(f"{name} {with_interval(weight)}" for name, weight in weights.items())
        + "."
    )
    return Result([path], conclusion, numbers)
