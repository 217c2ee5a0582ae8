"""Experiment 7: accuracy and cost of denoising, sliced and exact score matching.

All four objectives estimate the score of p_sigma from the same draws in the same order, with the
same number of steps; sliced forms take one slice. Denoising needs one backward pass, but regresses
on -z/sigma, whose variance grows as 1/sigma². The others differentiate the score, once a slice or
d times, and have no such variance. The error is the root mean square of s - s_true over that of
s_true, under p_sigma, on other draws.
"""

from pathlib import Path
from typing import Any

import torch

from ..data import Pipeline
from ..objectives import fisher_divergence, make_objective
from ..plotting import Chart, save_seed_curves
from .common import Result, Settings, mixture, pipeline_of, train_at

SEED, SEEDS, STEPS, BATCH = 7, 3, 300, 256
SIGMAS = (0.1, 0.3, 1.0)
DIMENSIONS = (2, 8, 32, 64)
OBJECTIVES = ("denoising", "sliced", "sliced-vr", "exact")
# Times are measured in rounds of TIMED steps, methods in turn: a busy machine is busy for all.
ROUNDS, TIMED = 4, 4


def relative_errors(name: str, data: list[Pipeline], steps: int) -> list[list[float]]:
    """Return the relative errors of one objective: a row a seed, a number a sigma."""
    p, rows = mixture(), []
    for seed, pipeline in enumerate(data):
        row = []
        for sigma in SIGMAS:
            held = p.sample(8192, sigma, SEED + 1000).float()
            model = train_at(
                sigma, make_objective(name, weight="fisher"), pipeline, steps, seed, BATCH
            ).model
            size = float(p.score(held, sigma).square().sum(1).mean())
            row.append((2 * fisher_divergence(model, p, sigma, held).value / size) ** 0.5)
        rows.append(row)
    return rows


def step_seconds(dimensions: tuple[int, ...], rounds: int) -> dict[str, list[float]]:
    """Return seconds of a training step without its data, the fastest of all rounds.

    Args:
        dimensions: numbers of elements of an example.
        rounds: how often each objective is timed.

    Returns:
        objective -> a number a dimension.
    """
    table: dict[str, list[float]] = {name: [] for name in OBJECTIVES}
    for d in dimensions:
        data = pipeline_of(torch.randn(4096, d, generator=torch.Generator().manual_seed(SEED)))
        times: dict[str, list[float]] = {name: [] for name in OBJECTIVES}
        for _ in range(rounds):
            for name in OBJECTIVES:
                times[name].append(
                    train_at(
                        1.0, make_objective(name, weight="fisher"), data, TIMED, SEED, BATCH
                    ).seconds
                )
        for name in OBJECTIVES:
            table[name].append(min(times[name]))
    return table


def _caption(seeds: int, timed: int) -> str:
    """What the picture shows, for below it."""
    drawn = "one seed" if seeds == 1 else f"dots: {seeds} seeds, open markers: their mean"
    return (
        f"Left: p = 1/5 N((−5, −5), I) + 4/5 N((5, 5), I) with noise of σ; {drawn}. Error: root "
        "mean square of learned − true score over that of the true score. Right: a perceptron on "
        f"examples of d elements, the fastest of {timed} steps, methods in turn, on this machine. "
        "The objectives stand side by side at each σ and d. Denoising's target is −z/σ, mostly "
        "noise where σ is small; sliced forms add a backward pass a slice, the exact trace one an "
        "element."
    )


def draw(
    path: Path,
    error: dict[str, list[list[float]]],
    seconds: dict[str, list[float]],
    settings: Settings,
    steps: int,
    timed: int,
) -> Path:
    """Draw the error over sigma and the time of a step over the dimension.

    Args:
        path: The path of the picture.
        error: objective -> a row a seed, a number a sigma.
        seconds: objective -> a number a dimension.
        settings: Whether this is the quick form, for the caption.
        steps: Steps of training, for the caption.
        timed: Number of steps that were timed, for the caption.

    Returns:
        The path.
    """
    dimensions = DIMENSIONS[: len(next(iter(seconds.values())))]
    seeds = len(next(iter(error.values())))
    charts = [
        Chart(
            f"error of the score after {steps:,} steps",
            "noise level σ (model units)",
            "relative error (rms, under p_σ)",
            {name: (SIGMAS, rows) for name, rows in error.items()},
            "xy",
            True,
        ),
        Chart(
            f"time of a training step, batch {BATCH}",
            "elements of an example d",
            "milliseconds",
            {name: (dimensions, [1e3 * s for s in row]) for name, row in seconds.items()},
            "xy",
            True,
        ),
    ]
    return save_seed_curves(
        path,
        charts,
        settings.title("Accuracy and cost of four score-matching objectives"),
        settings.caption(_caption(seeds, timed)),
    )


def make(stem: Path, settings: Settings) -> Result:
    """Draw the error over sigma, and the time a step over the dimension.

    Args:
        stem: path of the pictures without their ending.
        settings: sizes of the experiment.

    Returns:
        The picture, errors, times, and times relative to denoising.
    """
    steps, seeds = settings.pick(STEPS, 40), settings.pick(SEEDS, 1)
    rounds = settings.pick(ROUNDS, 1)
    dimensions = DIMENSIONS[: settings.pick(len(DIMENSIONS), 2)]
    data = [pipeline_of("mixture", SEED + seed, count=steps * BATCH) for seed in range(seeds)]
    error = {name: relative_errors(name, data, steps) for name in OBJECTIVES}
    seconds = step_seconds(dimensions, rounds)
    path = draw(stem.with_suffix(".png"), error, seconds, settings, steps, rounds * TIMED)
    mean = {name: torch.tensor(rows).mean(0).tolist() for name, rows in error.items()}
    ratio = {
        name: [s / base for s, base in zip(row, seconds["denoising"], strict=True)]
        for name, row in seconds.items()
    }
    numbers: dict[str, Any] = {
        "steps": steps,
        "batch": BATCH,
        "sigmas": SIGMAS,
        "relative_error": {
            name: {"mean": mean[name], "by_seed": error[name]} for name in OBJECTIVES
        },
        "dimensions": dimensions,
        "seconds_per_step": seconds,
        "seconds_relative_to_denoising": ratio,
    }
    conclusion = (
        f"At σ = {SIGMAS[0]:g} the relative error is "
        + ", ".join(f"{mean[name][0]:.2f} ({name})" for name in OBJECTIVES)
        + f", at σ = {SIGMAS[-1]:g} "
        + ", ".join(f"{mean[name][-1]:.2f}" for name in OBJECTIVES)
        + f". A step at d = {dimensions[-1]} costs "
        + ", ".join(f"{ratio[name][-1]:.1f} ({name})" for name in OBJECTIVES[1:])
        + " times one of denoising."
    )
    return Result([path], conclusion, numbers)
