"""Experiment 6: score matching does not converge on a manifold (Song and Ermon 2019, Figure 1).

    loss = E_v E_x [ v'(grad s)v + 1/2 (v's)² ] / d

The data are 8 x 8 digits in [0, 1], d = 64, without noise and with noise of standard deviation
0.01. Without noise they have no density: some pixels are 0 in every image, the others take 17
values. The score does not exist, and the loss has no lower bound: the network's slope across the
manifold goes to minus infinity until 1/2 (v's)² punishes the smallest deviation. With noise the
score exists, and the loss is bounded below by -1 / (2 sigma²) = -5000. Everything else is the same
in both cases, the order of the data and the slices included.

The roughness of a loss is rises / (rises + falls), of means over windows of steps: 0 falls
throughout, 1/2 goes up and down alike.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..objectives import make_objective
from ..plotting import Chart, save_seed_curves
from .common import Result, Settings, count_of, pipeline_of, train_at

SEEDS, STEPS, BATCH, WINDOW = 5, 1000, 128, 20
NOISE = 0.01  # of one in [0, 1]
NAMES = {0.0: "no noise", NOISE: f"noise of standard deviation {NOISE:g}"}


def roughness(losses: Tensor) -> Tensor:
    """Return the roughness (S,) of losses (S, T), see the module docstring."""
    change = losses.diff(dim=1)
    return change.clamp(min=0).sum(1) / change.abs().sum(1)


def train_seeds(sigma: float, seeds: int, steps: int) -> tuple[Tensor, dict[str, Any]]:
    """Train with several seeds on the digits with noise of `sigma`.

    Args:
        sigma: standard deviation of the noise, in units of [0, 1].
        seeds: number of trainings.
        steps: of each training.

    Returns:
        Losses (seeds, steps / WINDOW), means over windows of steps, and facts about them.
    """
    objective = make_objective("sliced", weight="fisher")
    # Outputs in units of 1/NOISE, the size that the noisy data's score has; the same for both.
    options: dict[str, Any] = {"batch": BATCH, "decay": False, "scale": 1 / NOISE}
    runs = [
        train_at(sigma, objective, pipeline_of("digits", seed), steps, seed, **options)
        for seed in range(seeds)
    ]
    each = torch.tensor([run.losses for run in runs], dtype=torch.float64)
    losses = each.reshape(seeds, -1, WINDOW).mean(2)
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
    return losses, facts


def make(stem: Path, settings: Settings) -> Result:
    """Draw the loss of several seeds, without and with noise.

    Args:
        stem: path of the pictures without their ending.
        settings: sizes of the experiment.

    Returns:
        The picture, roughness, and the spread over the seeds.
    """
    seeds, steps = settings.pick(SEEDS, 2), settings.pick(STEPS, 200)
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
        losses, facts = train_seeds(sigma, seeds, steps)
        numbers[name] = facts
        title = f"{name}: roughness {facts['roughness']['mean']:.2f}"
        series = {name: (at, losses)}
        charts.append(Chart(title, "step", "sliced score matching loss / d", series))
    rough, smooth = (numbers[name] for name in NAMES.values())
    path = save_seed_curves(
        stem.with_suffix(".png"),
        charts,
        settings.title(
            "Score matching on images: erratic without noise, converging with a little noise"
        ),
        settings.caption(
            "Sliced score matching of a plain score on 8 × 8 digits in [0, 1]. Thin lines: "
            f"{count_of(seeds, 'seed')}, means over {WINDOW} steps; thick: their mean; "
            "band: their range; the scales differ. Roughness: rises over rises and falls, 0 for a "
            "loss that only falls, 0.5 for one that goes nowhere. "
            "Last tenth, spread over seeds relative to the mean: "
            f"{rough['relative_spread_over_seeds']:.0%} without, "
            f"{smooth['relative_spread_over_seeds']:.0%} with noise."
        ),
    )
    conclusion = (
        f"Without noise the loss goes up and down (roughness {rough['roughness']['mean']:.2f}, "
        f"spread over seeds {rough['relative_spread_over_seeds']:.0%}); "
        f"with noise of standard deviation {NOISE:g} it falls ({smooth['roughness']['mean']:.2f}, "
        f"{smooth['relative_spread_over_seeds']:.0%})."
    )
    return Result([path], conclusion, numbers)
