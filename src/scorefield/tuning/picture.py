"""The picture of tuned methods: distance to the converged flow against evaluations."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..plotting.files import PathLike, new_figure, save_figure
from ..plotting.palette import BLACK, BLUE, GREEN, PURPLE, VERMILLION, VIOLET
from ..plotting.ticks import round_factors, round_numbers, set_ticks
from .result import Tuning

WIDTH, HEIGHT = 7.0, 4.4  # inches
COLOURS = (BLUE, GREEN, PURPLE, VIOLET, BLACK)
MOST_SHOWN = len(COLOURS)  # untuned samplers


def save_tuning_picture(
    path: PathLike, results: Sequence[Tuning], title: str = "Samplers before and after tuning"
) -> Path:
    """Write a picture of the distance to the converged flow before and after tuning.

    Each untuned sampler is shown with its best options and noise levels at each number of
    evaluations. The five samplers with the best rank at any number of evaluations are drawn.

    Args:
        path: A file name that ends in .png, .pdf or .svg.
        results: Results for one model, at one or more numbers of evaluations.
        title: Shown above the axes.

    Returns:
        The path.

    Raises:
        InputError: For no results, or another ending.
    """
    if not results:
        raise InputError("a picture needs one result of tune or more; got none")
    results = sorted(results, key=lambda one: one.nfe)
    curves: dict[str, dict[int, float]] = {}
    for result in results:
        for judged in result.untuned:  # nearest first
            curve = curves.setdefault(judged.name.split(",")[0], {})
            curve.setdefault(result.nfe, judged.rms)
    ranked = sorted(curves, key=lambda name: min(_ranks(curves, name).values()))
    figure = new_figure(WIDTH, HEIGHT, title)
    axes = figure.add_subplot()
    for name, colour in zip(ranked[:MOST_SHOWN], COLOURS, strict=False):
        points = sorted(curves[name].items())
        axes.plot(*zip(*points, strict=True), "o-", ms=4, lw=1.2, color=colour, label=name)
    counts = [result.nfe for result in results]
    tuned = [result.tuned.rms for result in results]
    bars = [2 * result.tuned.se for result in results]
    axes.errorbar(
        counts, tuned, bars, fmt="s-", ms=5, lw=2, capsize=2, color=VERMILLION, label="tuned"
    )
    axes.set(
        yscale="log",
        xlabel="evaluations a sample",
        ylabel="RMS distance to the converged flow\n(standard deviations of the data)",
    )
    set_ticks(axes, "x", round_numbers(whole=True))
    set_ticks(axes, "y", round_factors)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    starts = results[0].starts["judged"]
    return save_figure(path, figure, f"On {starts:,} starts that no fit has seen.")


def _ranks(curves: dict[str, dict[int, float]], name: str) -> dict[int, int]:
    """The place of a sampler at each number of evaluations, 0 for the nearest."""
    return {
        nfe: sum(other.get(nfe, rms) < rms for other in curves.values())
        for nfe, rms in curves[name].items()
    }
