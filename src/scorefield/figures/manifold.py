"""Experiment 6: images lie on a manifold, where score matching has nothing to converge to. Song &
Ermon 2019, Figure 1.

    loss = E_v E_x [ v'(grad s)v + 1/2 (v's)² ]/d        8 x 8 digits in [0, 1], d = 64, without and with noise of standard deviation 0.01

Without noise the data have no density: some pixels are 0 in every image, the others hold 17 levels.
The score does not exist, the loss has no
lower bound: the network's slope across the manifold goes to minus infinity until 1/2 (v's)²
punishes the smallest deviation. With noise the score
exists, and the loss is bounded below by -1/(2 sigma²) = -5000. Everything else is the same, the
order of the data and the slices included.

    roughness    rises / (rises + falls) of the loss, averaged over windows of steps: 0 falls throughout, 1/2 goes up and down alike
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..objectives import make_objective
from ..plotting import Chart, save_spread
from .common import Made, Settings, serve, train_at

SEEDS, STEPS, BATCH, WINDOW = 5, 1000, 128, 20
NOISE = 0.01  # of one in [0, 1]
NAMES = {0.0: "no noise", NOISE: f"noise of standard deviation {NOISE:g}"}


def roughness(losses: Tensor) -> Tensor:
    """(S, T) -> (S,)."""
    change = losses.diff(dim=1)
    return change.clamp(min=0).sum(1) / change.abs().sum(1)


def make(stem: Path, settings: Settings) -> Made:
    """The loss of five seeds, without and with noise; numbers: roughness and spread."""
    seeds, steps = settings.pick(SEEDS, 2), settings.pick(STEPS, 200)
    objective = make_objective("sliced", weight="fisher")
    at = (torch.arange(steps // WINDOW) + 0.5) * WINDOW
    charts: list[Chart] = []
    numbers: dict[str, Any] = {
        "seeds": seeds,
        "steps": steps,
        "batch": BATCH,
        "window": WINDOW,
        "steps_at": at.tolist(),
    }
    for sigma, name in NAMES.items():
        # Outputs in units of 1/NOISE, the size the noisy data's score has; the same for both.
        runs = [
            train_at(
                sigma,
                objective,
                serve("digits", seed),
                steps,
                seed,
                BATCH,
                decay=False,
                scale=1 / NOISE,
            )
            for seed in range(seeds)
        ]
        losses = (
            torch.tensor([run.losses for run in runs], dtype=torch.float64)
            .reshape(seeds, -1, WINDOW)
            .mean(2)
        )
        last = losses[:, -max(1, losses.shape[1] // 10) :].mean(1)
        rough = roughness(losses)
        facts: dict[str, Any] = {
            "roughness": {
                "mean": float(rough.mean()),
                "least": float(rough.min()),
                "most": float(rough.max()),
            },
            "last_tenth": {"mean": float(last.mean()), "sd_over_seeds": float(last.std())},
            "relative_spread_over_seeds": float(last.std() / last.mean().abs()),
            "losses": [[round(v, 3) for v in row] for row in losses.tolist()],
            "seconds_per_step": min(run.seconds for run in runs),
        }
        numbers[name] = facts
        charts.append(
            Chart(
                f"{name}: roughness {facts['roughness']['mean']:.2f}",
                "step",
                "sliced score matching loss / d",
                {name: (at, losses)},
            )
        )
    rough, smooth = (numbers[name] for name in NAMES.values())
    path = save_spread(
        stem.with_suffix(".png"),
        charts,
        "Score matching on images: erratic without noise, converging with a little noise",
        f"Sliced score matching of a plain score on 8 × 8 digits in [0, 1]. Thin lines: {seeds} "
        f"seeds, means over {WINDOW} steps; thick: their mean; "
        "band: their range; the scales differ. Roughness: rises over rises and falls, 0 for a "
        "loss that only falls, 0.5 for one that goes nowhere. "
        "Last tenth, spread over seeds relative to the mean: "
        f"{rough['relative_spread_over_seeds']:.0%} without, "
        f"{smooth['relative_spread_over_seeds']:.0%} with noise.",
    )
    found = (
        f"Without noise the loss goes up and down (roughness {rough['roughness']['mean']:.2f}, "
        f"spread over seeds {rough['relative_spread_over_seeds']:.0%}); "
        f"with noise of standard deviation {NOISE:g} it falls ({smooth['roughness']['mean']:.2f}, "
        f"{smooth['relative_spread_over_seeds']:.0%})."
    )
    return Made([path], found, numbers)
