"""Experiment 4: with noise the score is learned further out, but it is that of another density.

    p_sigma = 1/5 N((-5, -5), (1 + sigma²) I) + 4/5 N((5, 5), (1 + sigma²) I)

Scores shrink with noise. Errors are therefore given in units of a score's typical size, which is
sqrt(d / (1 + sigma²)), its root mean square at one mode. The distance of p_sigma from p is their
total variation, 1/2 ∫ |p_sigma - p|, on a grid four frames wide.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..data import Pipeline
from ..objectives import make_objective
from ..plotting import Panel, grid_points, save_planes
from .common import FRAME, GRID, Result, Settings, errors, mixture, pipeline_of, train_at

SEED, STEPS, BATCH = 4, 1500, 256
SIGMAS = (0.0, 1.5, 5.0)
GOOD = 0.25  # of a score's typical size: what counts as learned


def total_variation(sigma: float, size: int = 512) -> float:
    """Return 1/2 ∫ |p_sigma - p| by a sum over size x size cells."""
    wide = [4 * edge for edge in FRAME]
    x, p = torch.as_tensor(grid_points(wide, size)), mixture()
    cell = ((wide[1] - wide[0]) / size) ** 2
    return float((p.log_prob(x, sigma).exp() - p.log_prob(x).exp()).abs().sum() * cell / 2)


def learn(sigma: float, data: Pipeline, steps: int) -> tuple[Panel, Panel, dict[str, Any]]:
    """Learn the score of p_sigma.

    Args:
        sigma: noise level in the units of the mixture.
        data: draws of the mixture.
        steps: of training.

    Returns:
        A panel of the learned score, one of its error, and the numbers.
    """
    p, objective = mixture(), make_objective("sliced-vr", weight="fisher")
    model = train_at(sigma, objective, data, steps, SEED, BATCH).model
    gap, inside = errors(model, sigma)
    gap = gap * ((1 + sigma**2) / 2) ** 0.5
    row = {
        "sigma": sigma,
        "coverage": float((gap < GOOD).double().mean()),
        "mean_error_inside": float(gap[inside].mean()),
        "mean_error_outside": float(gap[~inside].mean()),
        "total_variation_to_p": total_variation(sigma),
    }
    above = Panel(
        f"σ = {sigma:g}: learned score over p_σ\ntotal variation to p: "
        f"{row['total_variation_to_p']:.2f}",
        partial(p.log_prob, sigma=sigma),
        partial(model.score, sigma=sigma),
    )
    title = f"σ = {sigma:g}: relative error\nbelow {GOOD:g} on {row['coverage']:.0%} of the square"
    return above, Panel(title, values=gap.reshape(GRID, GRID)), row


def _caption(steps: int) -> str:
    """What the picture shows, for below it."""
    return (
        "p = 1/5 N((−5, −5), I) + 4/5 N((5, 5), I). Above: the score learned from data with "
        "noise of σ, arrows coloured by its size, over p_σ in grey. Below: |learned − true score "
        f"of p_σ| over a score's typical size √(2 / (1 + σ²)), on {GRID}² cells. Sliced score "
        f"matching, variance-reduced, {steps:,} steps of {BATCH} points each. More noise: more of "
        "the square is covered, and p_σ is further from p."
    )


def make(stem: Path, settings: Settings) -> Result:
    """Draw learned scores over p_sigma, and their errors, for three values of sigma.

    Args:
        stem: path of the pictures without their ending.
        settings: sizes of the experiment.

    Returns:
        The picture, and for each sigma coverage of the frame, errors and total variation.
    """
    steps = settings.pick(STEPS, 100)
    data = pipeline_of("mixture", SEED, count=steps * BATCH)
    learned = [learn(sigma, data, steps) for sigma in SIGMAS]
    rows = [row for _, _, row in learned]
    path = save_planes(
        stem.with_suffix(".png"),
        [*(above for above, _, _ in learned), *(below for _, below, _ in learned)],
        FRAME,
        settings.title("Noise: the score is learned further out, but it is another density's"),
        settings.caption(_caption(steps)),
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
    conclusion = "With " + "; ".join(
        f"σ = {row['sigma']:g} the score is learned on {row['coverage']:.0%} of the square, at "
        f"{row['total_variation_to_p']:.2f} total variation from p"
        for row in rows
    )
    return Result([path], conclusion + ".", numbers)
