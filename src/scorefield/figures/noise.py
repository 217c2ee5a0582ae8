"""Experiment 4: the same with noise added. Data with noise of sigma reach further, so the score is
learned further out; but it is another density's.

    p_sigma = 1/5 N((-5, -5), (1 + sigma²) I) + 4/5 N((5, 5), (1 + sigma²) I)

Scores shrink with noise, so errors are given in units of a score's typical size, sqrt(d / (1 +
sigma²)), its root mean square at one mode. How
far p_sigma is from p: their total variation distance, 1/2 ∫ |p_sigma - p|, on a grid four frames
wide.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..objectives import make_objective
from ..plotting import Panel, grid_points, save_planes
from .common import FRAME, GRID, Made, Settings, errors, mixture, serve, train_at

SEED, STEPS, BATCH = 4, 1500, 256
SIGMAS = (0.0, 1.5, 5.0)
GOOD = 0.25  # of a score's typical size: what counts as learned


def total_variation(sigma: float, size: int = 512) -> float:
    """1/2 ∫ |p_sigma - p|."""
    wide = [4 * edge for edge in FRAME]
    x, p = torch.as_tensor(grid_points(wide, size)), mixture()
    cell = ((wide[1] - wide[0]) / size) ** 2
    return float((p.log_prob(x, sigma).exp() - p.log_prob(x).exp()).abs().sum() * cell / 2)


def make(stem: Path, settings: Settings) -> Made:
    """Learned scores over p_sigma and their errors for three sigma; numbers: coverage of the frame,
    errors, bias.
    """
    p, steps = mixture(), settings.pick(STEPS, 100)
    data = serve("mixture", SEED, count=steps * BATCH)
    above, below, rows = [], [], []
    for sigma in SIGMAS:
        trained = train_at(
            sigma, make_objective("sliced-vr", weight="fisher"), data, steps, SEED, BATCH
        )
        gap, inside = errors(trained.model, sigma)
        gap = gap * ((1 + sigma**2) / 2) ** 0.5
        row = {
            "sigma": sigma,
            "coverage": float((gap < GOOD).double().mean()),
            "mean_error_inside": float(gap[inside].mean()),
            "mean_error_outside": float(gap[~inside].mean()),
            "total_variation_to_p": total_variation(sigma),
        }
        rows.append(row)
        above.append(
            Panel(
                f"σ = {sigma:g}: learned score over p_σ\ntotal variation to p: "
                f"{row['total_variation_to_p']:.2f}",
                partial(p.log_prob, sigma=sigma),
                partial(trained.model.score, sigma=sigma),
            )
        )
        below.append(
            Panel(
                f"σ = {sigma:g}: relative error\nbelow {GOOD:g} on {row['coverage']:.0%} of the "
                "square",
                values=gap.reshape(GRID, GRID),
            )
        )
    path = save_planes(
        stem.with_suffix(".png"),
        [*above, *below],
        FRAME,
        "Noise: the score is learned further out, but it is another density's",
        "p = 1/5 N((−5, −5), I) + 4/5 N((5, 5), I). Above: the score learned from data with "
        "noise of σ, arrows coloured by its size, over p_σ in grey. Below: "
        f"|learned − true score of p_σ| over a score's typical size √(2 / (1 + σ²)), on {GRID}² "
        f"cells. Sliced score matching, variance-reduced, {steps:,} steps of "
        f"{BATCH} points each. More noise: more of the square is covered, and p_σ is further from "
        "p.",
        columns=len(SIGMAS),
        value_label="relative error of the score",
    )
    numbers: dict[str, Any] = {
        "relative_to": "sqrt(2 / (1 + sigma²))",
        "covered_below": GOOD,
        "steps": steps,
        "batch": BATCH,
        "levels": rows,
    }
    found = "With " + "; ".join(
        f"σ = {row['sigma']:g} the score is learned on {row['coverage']:.0%} of the square, at "
        f"{row['total_variation_to_p']:.2f} total variation from p"
        for row in rows
    )
    return Made([path], found + ".", numbers)
