"""Experiment 3: a learned score is right where the data are, and wrong between and beyond them.
Song & Ermon 2019, Figure 2.

    F = 1/2 E_p |grad log p - s|²        the divergence score matching minimises weighs an error by p: where there are no data it asks nothing

A plain score s(x) = network(x) is trained on draws of p by sliced score matching, and by the exact
form beside it, without noise.
"""

from pathlib import Path
from typing import Any

from ..objectives import fisher_divergence, make_objective
from ..plotting import Panel, save_planes
from .common import (
    FRAME,
    GRID,
    RADIUS,
    Made,
    Settings,
    circles,
    errors,
    mixture,
    near,
    serve,
    train_at,
)

SEED, STEPS, BATCH = 3, 1500, 256


def make(stem: Path, settings: Settings) -> Made:
    """True score, learned score, and |difference| on the grid; numbers: mean errors inside and
    outside, and their ratio.
    """
    p, steps = mixture(), settings.pick(STEPS, 150)
    data = serve("mixture", SEED, count=steps * BATCH)  # every point is met once
    held = p.sample(8192, seed=SEED + 100).float()
    numbers: dict[str, Any] = {
        "grid": GRID,
        "inside": f"within {RADIUS:g} standard deviations of a mode",
        "steps": steps,
        "batch": BATCH,
    }
    trained = {}
    for name in ("sliced", "exact"):
        trained[name] = train_at(
            0.0, make_objective(name, weight="fisher"), data, steps, SEED, BATCH
        )
        gap, inside = errors(trained[name].model, 0.0)
        divergence = fisher_divergence(trained[name].model, p, 0.0, held)
        numbers[name] = {
            "mean_error_inside": float(gap[inside].mean()),
            "mean_error_outside": float(gap[~inside].mean()),
            "factor": float(gap[~inside].mean() / gap[inside].mean()),
            "fisher_divergence": {"value": divergence.value, "se": divergence.se},
            "seconds_per_step": trained[name].seconds,
        }
    gap, inside = errors(trained["sliced"].model, 0.0)
    model, result = trained["sliced"].model, numbers["sliced"]
    numbers["share_of_data_inside"] = float(near(held).double().mean())
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
        "A learned score is right where the data are, and only there",
        "p = 1/5 N((−5, −5), I) + 4/5 N((5, 5), I); grey: its density, contours where log p is "
        "k²/2 below its maximum. Arrows: direction of the "
        f"score, colour its size. Dashed: {RADIUS:g} standard deviations around the modes, which "
        f"hold {numbers['share_of_data_inside']:.1%} of the data. "
        f"Right: |learned − true| on {GRID}² cells; its mean is {result['factor']:.0f} times "
        "larger outside the circles than inside. A perceptron, "
        f"{steps:,} steps of {BATCH} points, no noise added.",
        value_label="|learned − true score|",
    )
    found = (
        f"The mean error of the learned score is {result['factor']:.0f} times larger away from "
        f"the data ({result['mean_error_outside']:.2f}) than near "
        f"them ({result['mean_error_inside']:.2f}); with the exact form of the loss "
        f"{numbers['exact']['factor']:.0f} times."
    )
    return Made([path], found, numbers)
