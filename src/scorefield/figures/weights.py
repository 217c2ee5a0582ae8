"""Experiment 5: who gets the weights of the modes right? Song & Ermon 2019, Figure 3.

Between separated modes the score hardly knows their weights: grad log(w_1 p_1 + w_2 p_2) is grad
log p_k near mode k, whatever w_k is. So
Langevin dynamics keeps the weights of its start. Large noise joins the modes; annealed from sigma =
20 to 1, the weights are found up there
and kept on the way down. The score is exact at every sigma: the difference is the dynamics' alone.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from ..noise import geometric
from ..plotting import Panel, save_planes
from ..sampling import Langevin, sample
from .common import FRAME, SMALL, Made, Settings, mixture, said, small_mode

SEED, SHOWN = 5, 2000
SIGMA_MAX, SIGMA_MIN, LEVELS, STEPS, EPSILON = 20.0, 1.0, 10, 100, 0.05
TINY = 1e-4  # plain Langevin's one level: no noise


def draw(count: int, seed: int = SEED) -> dict[str, Tensor]:
    """`count` points by each method, (count, 2), with the same number of evaluations of the score
    for both dynamics.
    """
    p = mixture()
    uniform: Any = {"start": ("uniform", FRAME[0], FRAME[1]), "final": "none"}
    annealed = geometric(SIGMA_MAX, SIGMA_MIN, LEVELS)
    return {
        "independent draws": p.sample(count, seed=seed),
        "Langevin": sample(
            p,
            count,
            seed,
            kernel=Langevin(EPSILON),
            ladder=[TINY],
            repeats=LEVELS * STEPS,
            **uniform,
        ),
        "annealed Langevin": sample(
            p,
            count,
            seed,
            sampler="annealed-langevin",
            ladder=annealed,
            repeats=STEPS,
            epsilon=EPSILON,
            **uniform,
        ),
    }


def make(stem: Path, settings: Settings) -> Made:
    """Three planes of points; numbers: the small mode's weight by each method, with 95 % intervals."""
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
            Panel(f"{name}\nlower left mode: {said(weights[name])}", aims[name], points=x[:shown])
            for name, x in drawn.items()
        ],
        FRAME,
        f"Who gets the weights right? The lower left mode has weight {SMALL:g}",
        f"Dots: {shown:,} of {count:,} points a method. Grey: the density each aims at, contours "
        "where log p is k²/2 below its maximum; annealed "
        f"Langevin ends at p with noise of σ = {SIGMA_MIN:g}. Numbers: share of points in the "
        "lower left mode, with 95 % intervals. Both dynamics start "
        f"uniform in [−8, 8]², take {LEVELS * STEPS:,} steps with ε = {EPSILON:g} (at the last "
        f"level) and the exact score; annealed: {LEVELS} levels of σ "
        f"from {SIGMA_MAX:g} to {SIGMA_MIN:g}, {STEPS} steps each.",
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
    found = (
        "Weight of the small mode, truly 0.2: "
        + "; ".join(f"{name} {said(weight)}" for name, weight in weights.items())
        + "."
    )
    return Made([path], found, numbers)
