"""Experiment 3: a learned score is right where the data are (Song and Ermon 2019, Figure 2).

    F = 1/2 E_p |grad log p - s|²

Score matching minimises this divergence, which weights an error by p: where there are no data, it
does not constrain s. A plain score s(x) = network(x) is trained on draws of p without noise, by
sliced score matching, and for comparison by the exact form.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from ..data import Pipeline
from ..objectives import fisher_divergence, make_objective
from ..plotting import Panel, save_planes
from .common import (
    FRAME,
    GRID,
    RADIUS,
    PlainScore,
    Result,
    Settings,
    circles,
    errors,
    mixture,
    near,
    pipeline_of,
    train_at,
)

SEED, STEPS, BATCH = 3, 1500, 256


def learn(
    name: str, data: Pipeline, steps: int, held: Tensor
) -> tuple[PlainScore, Tensor, dict[str, Any]]:
    """Learn the score of the mixture without noise.

    Args:
        name: of the objective.
        data: draws of the mixture.
        steps: of training.
        held: other draws (N, 2), for the divergence.

    Returns:
        The model, its errors on the grid (GRID²,), and the numbers.
    """
    trained = train_at(0.0, make_objective(name, weight="fisher"), data, steps, SEED, BATCH)
    gap, inside = errors(trained.model, 0.0)
    divergence = fisher_divergence(trained.model, mixture(), 0.0, held)
    numbers = {
        "mean_error_inside": float(gap[inside].mean()),
        "mean_error_outside": float(gap[~inside].mean()),
        "factor": float(gap[~inside].mean() / gap[inside].mean()),
        "fisher_divergence": {"value": divergence.value, "se": divergence.se},
        "seconds_per_step": trained.seconds,
    }
    return trained.model, gap, numbers


def _caption(numbers: dict[str, Any]) -> str:
    """What the picture shows, for below it."""
    inside, factor = numbers["fraction_of_data_inside"], numbers["sliced"]["factor"]
    return (
        "p = 1/5 N((−5, −5), I) + 4/5 N((5, 5), I); grey: its density, contours where log p is "
        "k²/2 below its maximum. Arrows: direction of the score, colour its size. Dashed: "
        f"{RADIUS:g} standard deviations around the modes, which hold {inside:.1%} of the data. "
        f"Right: |learned − true| on {GRID}² cells; its mean is {factor:.0f} times larger outside "
        f"the circles than inside. A perceptron, {numbers['steps']:,} steps of {BATCH} points, no "
        "noise added."
    )


def make(stem: Path, settings: Settings) -> Result:
    """Draw the true score, the learned score, and the size of their difference.

    Args:
        stem: path of the pictures without their ending.
        settings: sizes of the experiment.

    Returns:
        The picture, and mean errors inside and outside three standard deviations of a mode.
    """
    p, steps = mixture(), settings.pick(STEPS, 150)
    data = pipeline_of("mixture", SEED, count=steps * BATCH)  # each point is used once
    held = p.sample(8192, seed=SEED + 100).float()
    numbers: dict[str, Any] = {
        "grid": GRID,
        "inside": f"within {RADIUS:g} standard deviations of a mode",
        "steps": steps,
        "batch": BATCH,
    }
    model, gap, result = learn("sliced", data, steps, held)
    numbers["sliced"] = result
    numbers["exact"] = learn("exact", data, steps, held)[2]
    numbers["fraction_of_data_inside"] = float(near(held).double().mean())
    path = save_planes(
        stem.with_suffix(".png"),
        [
            Panel("true score", p.log_prob, lambda x: p.score(x, 0.0), circles=circles()),
            Panel(
                "learned by sliced score matching",
                p.log_prob,
                lambda x: model.score(x, 0.0),
                circles=circles(),
            ),
            Panel(
                f"error: {result['mean_error_inside']:.2f} inside, "
                f"{result['mean_error_outside']:.2f} outside",
                values=gap.reshape(GRID, GRID),
                circles=circles(),
            ),
        ],
        FRAME,
        settings.title("A learned score is right where the data are, and only there"),
        settings.caption(_caption(numbers)),
        value_label="|learned − true score|",
    )
    conclusion = (
        f"The mean error of the learned score is {result['factor']:.0f} times larger away from "
        f"the data ({result['mean_error_outside']:.2f}) than near "
        f"them ({result['mean_error_inside']:.2f}); with the exact form of the loss "
        f"{numbers['exact']['factor']:.0f} times."
    )
    return Result([path], conclusion, numbers)
