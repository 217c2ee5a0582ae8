"""Losses over noise levels and over training."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..tensors import to_array
from ..values import items
from .files import Array, PathLike, Values, as_array, new_figure, save_figure
from .palette import BLACK, BLUE, GREEN, PURPLE, VERMILLION, VIOLET
from .text import text_width
from .ticks import round_factors, round_numbers, set_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINE_STYLES = ((VERMILLION, "--"), (GREEN, "-."), (PURPLE, ":"), (VIOLET, (0, (5, 1, 1, 1))))
WIDTH = 7.0  # inches


def _needs_log_axis(*series: Array) -> bool:
    """True if all finite values are positive and span more than a factor of 20."""
    values = np.concatenate([s[np.isfinite(s)] for s in series])
    if len(values) == 0:
        return False
    low, high = float(values.min()), float(values.max())
    return low > 0 and high > 20 * low


def _scale_losses(axes: "Axes", series: Sequence[Array], zero: bool) -> None:
    """A logarithmic axis where the losses span decades; else a linear one, from 0 with `zero`."""
    if _needs_log_axis(*series):
        axes.set_yscale("log")
        set_ticks(axes, "y", round_factors)
        return
    finite = [s[np.isfinite(s)] for s in series]
    lowest = min((float(s.min()) for s in finite if len(s)), default=0.0)
    if zero:
        axes.set_ylim(bottom=min(0.0, 1.05 * lowest))
    set_ticks(axes, "y", round_numbers())


def _checked_levels(sigma: Values, series: Mapping[str, Values]) -> tuple[Array, dict[str, Array]]:
    """Levels in ascending order, and the series in the same order, checked."""
    levels = as_array(sigma, "sigma").astype(np.float64)
    if levels.ndim != 1 or len(levels) == 0 or not (levels > 0).all():
        raise InputError(f"sigma must be one row of levels above zero; got shape {levels.shape}")
    order = np.argsort(levels)
    columns: dict[str, Array] = {}
    for name, values in series.items():
        known = [math.nan if v is None else v for v in items(values, name, "a row of numbers")]
        column = to_array(known, name).astype(np.float64)
        if column.shape != levels.shape:
            raise InputError(f"{name} must have sigma's shape {levels.shape}; got {column.shape}")
        columns[name] = column[order]
    return levels[order], columns


def save_loss_per_sigma(
    path: PathLike,
    sigma: Values,
    loss: Values,
    se: Values | None = None,
    baselines: Mapping[str, Values] | None = None,
    training: Values | None = None,
    title: str = "Held-out denoising loss at each noise level",
    loss_label: str = "loss (weighted, mean per element)",
    sigma_label: str = "noise level σ (model units)",
    caption: str = "",
) -> Path:
    """Write a picture of the loss at each noise level, with a logarithmic sigma axis.

    Args:
        path: A file name that ends in .png, .pdf or .svg.
        sigma: (L,) noise levels above 0, in any order.
        loss: (L,) held-out losses.
        se: (L,) standard errors, drawn as bars of ± 2; None: no bars.
        baselines: Name -> (L,) losses to compare with, such as {"knows nothing": ..., "best
            Gaussian": ...}; at most four. NaN or None leave gaps.
        training: (L,) training losses; NaN or None leave gaps.
        title: Shown above the axes.
        loss_label: Label of the vertical axis.
        sigma_label: Label of the horizontal axis.
        caption: Shown below the axes.

    Returns:
        The path.

    Raises:
        InputError: If shapes, values or the ending are wrong.
    """
    loss = as_array(loss, "loss")
    named = baselines or {}
    if len(named) > len(BASELINE_STYLES):
        raise InputError(f"at most {len(BASELINE_STYLES)} baselines are drawn; got {len(named)}")
    series: dict[str, Values] = {"loss": loss, **named}
    for name, values in (("se", se), ("training", training)):
        if values is not None:
            series[name] = values
    levels, columns = _checked_levels(sigma, series)
    figure = new_figure(WIDTH, 4.2, title)
    axes = figure.add_subplot()
    for name, (colour, dashes) in zip(named, BASELINE_STYLES, strict=False):
        axes.plot(levels, columns[name], ls=dashes, color=colour, lw=1.5, label=name)
    if "training" in columns:
        axes.plot(levels, columns["training"], "-", color=BLACK, lw=0.9, label="training loss")
    line = "o-" if len(levels) <= 60 else "-"
    bars = 2 * columns["se"] if "se" in columns else None
    label = "held-out loss" + ("" if bars is None else " ± 2 standard errors")
    main: dict[str, Any] = {"fmt": line, "ms": 4, "capsize": 2, "color": BLUE, "zorder": 3}
    axes.errorbar(levels, columns["loss"], bars, label=label, **main)
    axes.set(xscale="log", xlabel=sigma_label, ylabel=loss_label)
    set_ticks(axes, "x", round_factors)
    _scale_losses(axes, [columns[n] for n in columns if n != "se"], zero=True)
    axes.grid(alpha=0.3)
    _legend_above(axes)
    return save_figure(path, figure, caption)


def _legend_above(axes: "Axes") -> None:
    """A legend between title and axes: it hides no curve."""
    labels = [str(label) for label in axes.get_legend_handles_labels()[1]]
    widest = max((text_width(label, 8) for label in labels), default=1.0) + 40
    columns = max(1, min(len(labels), int((72 * WIDTH - 70) / widest)))
    style: dict[str, Any] = {"fontsize": 8, "frameon": False, "bbox_to_anchor": (0.5, 1.0)}
    axes.legend(loc="lower center", ncols=columns, **style)


def _column(records: Sequence[Mapping[str, Any]], name: str) -> tuple[Array, Array]:
    """`images` and `name` of the records that have both (None counts as absent)."""
    pairs = [
        (r["images"], r[name])
        for r in records
        if r.get("images") is not None and r.get(name) is not None
    ]
    try:
        table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"records must hold numbers under 'images' and {name!r}: {error}"
        ) from error
    return table[:, 0], table[:, 1]


def _draw_training_loss(axes: "Axes", images: Array, loss: Array) -> str:
    """Draw the training loss; return what the caption has to state of it."""
    if len(loss) > 20:
        # A centred mean over a twentieth of the run; the raw curve stays visible behind it.
        half = max(1, len(loss) // 40)
        smooth = np.array([loss[max(0, i - half) : i + half + 1].mean() for i in range(len(loss))])
        axes.plot(images, loss, color=BLUE, alpha=0.25, lw=0.8)
        axes.plot(images, smooth, color=BLUE, label="training loss (smoothed)")
        return f"Training loss: mean of {2 * half + 1} records; pale: each of them."
    if len(loss):
        axes.plot(images, loss, "o-", ms=3, color=BLUE, label="training loss")
    return ""


def _draw_held_out(
    axes: "Axes", records: Sequence[Mapping[str, Any]], images: Array, held: Array
) -> None:
    if not len(held):
        return
    given = [r.get("held_out_se") for r in records if r.get("held_out") is not None]
    errors = np.array([math.nan if e is None else 2 * e for e in given], dtype=np.float64)
    known = len(errors) == len(held) and bool(np.isfinite(errors).any())
    style: dict[str, Any] = {"ms": 4.5, "color": VERMILLION, "capsize": 2, "zorder": 3}
    label = "held-out loss" + (" ± 2 standard errors" if known else "")
    axes.errorbar(images, held, errors if known else None, fmt="s-", label=label, **style)


def save_training_curve(
    path: PathLike,
    records: Sequence[Mapping[str, Any]],
    title: str = "Training",
    segments: Sequence[int] = (),
    best: int | None = None,
    baselines: Mapping[str, float] | None = None,
) -> Path:
    """Write a picture of training loss, held-out loss and learning rate over the images seen.

    Values that are not finite leave gaps, and the caption gives their number.

    Args:
        path: A file name that ends in .png, .pdf or .svg.
        records: The lines of metrics.jsonl: `images` with any of `seconds`, `loss`, `held_out`,
            `held_out_se` and `lr`. Other keys, and records without `images`, are ignored.
        title: Shown above the axes.
        segments: Images seen where a finished run was continued, marked by dashed lines.
        best: Images seen where the held-out loss was best, marked by a dotted line; None: no mark.
        baselines: Name -> held-out loss to compare with, drawn as horizontal lines; at most three.

    Returns:
        The path.

    Raises:
        InputError: If no record has a loss, if a value is not a number, or for another ending.
    """
    images, loss = _column(records, "loss")
    held_images, held = _column(records, "held_out")
    rate_images, rate = _column(records, "lr")
    if len(loss) + len(held) == 0:
        raise InputError(
            f"records need 'images' and 'loss' or 'held_out'; none of the {len(records)} records "
            "has them"
        )
    figure = new_figure(WIDTH, 4.2 + (1.0 if len(rate) else 0.0), title)
    heights = [4, 1] if len(rate) else [1]
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    axes = panels[0, 0]
    note = _draw_training_loss(axes, images, loss)
    _draw_held_out(axes, records, held_images, held)
    levels = {name: value for name, value in (baselines or {}).items() if math.isfinite(value)}
    for (name, value), (colour, dashes) in zip(levels.items(), BASELINE_STYLES[1:], strict=False):
        axes.axhline(value, ls=dashes, color=colour, lw=1.3, label=name)
    axes.set(ylabel="loss (weighted, mean per element)")
    _scale_losses(axes, [loss, held, np.array(list(levels.values()), dtype=float)], zero=False)
    if len(rate):
        below = panels[1, 0]
        below.plot(rate_images, rate, color=BLACK, lw=1.2)
        below.set(ylabel="learning rate", ylim=(0, 1.08 * float(np.nanmax(rate)) or 1.0))
        set_ticks(below, "y", round_numbers())
    for panel in panels[:, 0]:
        _draw_marks(panel, segments, best)
        panel.grid(alpha=0.3)
    _legend_above(axes)
    panels[-1, 0].set_xlabel("images seen")
    set_ticks(panels[-1, 0], "x", _thousands_rule)
    figure.align_ylabels(list(panels[:, 0]))
    summary = _summary(records, np.concatenate([loss, held]))
    return save_figure(path, figure, " ".join(filter(None, [summary, note])))


def _draw_marks(axes: "Axes", segments: Sequence[int], best: int | None) -> None:
    """Dashed lines where the run was continued, and a dotted one at its best point."""
    for n, place in enumerate(segments):
        axes.axvline(place, color="0.35", ls="--", lw=1, label="continued" if n == 0 else None)
    if best is not None:
        axes.axvline(best, color=VIOLET, ls=":", lw=1.8, label="best held-out loss")


def _thousands_rule(low: float, high: float) -> list[tuple[list[float], list[str]]]:
    """Round numbers as 20k, 1.5M."""
    return [
        (ticks, [thousands(v) for v in ticks]) for ticks, _ in round_numbers(whole=True)(low, high)
    ]


def thousands(value: float) -> str:
    """Return a number with k, M or G for its thousands."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _summary(records: Sequence[Mapping[str, Any]], values: Array) -> str:
    """The run in a sentence: images, time, rate, and the number of values that are not finite."""
    images, seconds = _column(records, "seconds")
    sentences = []
    if len(seconds) and math.isfinite(seconds[-1]) and seconds[-1] > 0:
        sentences.append(
            f"{images[-1]:,.0f} images in {seconds[-1]:,.0f} s, {images[-1] / seconds[-1]:,.0f} "
            "images a second."
        )
    gaps = int((~np.isfinite(values)).sum())
    if gaps:
        sentences.append(f"Not finite and so not drawn: {gaps}.")
    return " ".join(sentences)
