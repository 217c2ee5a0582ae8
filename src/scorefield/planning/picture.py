"""The picture of a plan: the range of noise levels over the data's distances."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ..plotting.files import Array, PathLike, new_figure, save_figure
from ..plotting.palette import BLACK, BLUE, GREEN, GREY, VERMILLION, VIOLET
from ..plotting.ticks import round_factors, round_numbers, set_ticks

BINS = 60
WIDTH, HEIGHT = 7.4, 5.0  # inches


@dataclass(frozen=True)
class Chart:
    """What the picture shows, in model units.

    Attributes:
        source: the data, as the title names them.
        pairs: (P,), distances between two examples.
        nearest: (Q,), distances to the nearest other example; empty: not drawn.
        sigma_min: smallest noise level.
        sigma_max: largest noise level.
        law: (T,), draws of ln sigma in training, evenly spaced in probability; None: not trained.
        collapse: noise level below which single examples decide; None: not drawn.
    """

    source: str
    pairs: Tensor
    nearest: Tensor
    sigma_min: float
    sigma_max: float
    law: Tensor | None = None
    collapse: float | None = None


def _histogram(values: Tensor, edges: Array) -> Array:
    """Fraction of the values in each bin."""
    found = values.numpy().clip(edges[0], edges[-1])
    counts, _ = np.histogram(found, edges)
    fractions: Array = counts / max(len(found), 1)
    return fractions


def save_plan_picture(path: PathLike, chart: Chart) -> Path:
    """Write the picture of a plan.

    Args:
        path: A file name that ends in .png, .pdf or .svg.
        chart: What to show.

    Returns:
        The path.

    Raises:
        InputError: For another ending.
    """
    places = [chart.sigma_min, chart.sigma_max, *(float(v) for v in chart.pairs[[0, -1]] if v > 0)]
    places += [float(v) for v in chart.nearest[:1]]
    low, high = min(places) / 1.5, max(places) * 1.5
    low = max(low, high * 1e-7)
    edges = np.geomspace(low, high, BINS + 1)
    figure = new_figure(WIDTH, HEIGHT, f"Planned noise levels for {chart.source}")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    above.stairs(_histogram(chart.pairs, edges), edges, fill=True, color=GREY, label="all pairs")
    if len(chart.nearest):
        heights = _histogram(chart.nearest, edges)
        above.stairs(heights, edges, color=BLUE, lw=1.5, label="nearest neighbours")
    above.set(ylabel="fraction of distances", ylim=(0, None))
    if chart.law is not None:
        law = chart.law.exp()
        below.stairs(_histogram(law, edges), edges, color=VERMILLION, lw=1.5, label="training")
    below.set(ylabel="fraction of noise levels", ylim=(0, None))
    span = (chart.sigma_min, chart.sigma_max)
    for axes in (above, below):
        axes.axvspan(*span, color=GREEN, alpha=0.1, zorder=0, label="planned range")
        axes.axvline(chart.sigma_min, color=GREEN, lw=1.2)
        axes.axvline(chart.sigma_max, color=GREEN, lw=1.2)
        if chart.collapse is not None:
            label = "single examples decide below"
            axes.axvline(chart.collapse, color=VIOLET, ls=":", lw=1.5, label=label)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        set_ticks(axes, "y", round_numbers())
        axes.tick_params(colors=BLACK)
    set_ticks(below, "x", round_factors)
    below.set_xlabel("distance, and noise level σ (model units)")
    handles, labels = above.get_legend_handles_labels()
    more, names = below.get_legend_handles_labels()
    found = dict(zip([*labels, *names], [*handles, *more], strict=True))
    style = {"fontsize": 8, "frameon": False, "bbox_to_anchor": (0.5, 1.0)}
    above.legend(found.values(), found.keys(), loc="lower center", ncols=3, **style)
    return save_figure(path, figure)
