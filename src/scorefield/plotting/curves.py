"""Losses over noise levels and over training."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .files import (
    BLUE,
    ORANGE,
    VERMILLION,
    Array,
    PathLike,
    Values,
    as_array,
    new_figure,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _needs_log_axis(*series: Array) -> bool:
    """True if all finite values are positive and span more than a factor of 20."""
    values = np.concatenate([s[np.isfinite(s)] for s in series])
    if len(values) == 0:
        return False
    low, high = float(values.min()), float(values.max())
    return low > 0 and high > 20 * low


def _by_level(
    sigma: Values, loss: Values, se: Values | None, best: Values | None
) -> tuple[Array, dict[str, Array]]:
    """Levels in ascending order, and the other columns in the same order, checked."""
    levels = as_array(sigma, "sigma").astype(np.float64)
    if levels.ndim != 1 or len(levels) == 0 or not (levels > 0).all():
        raise InputError(f"sigma must be one row of levels above zero; got shape {levels.shape}")
    order = np.argsort(levels)
    columns: dict[str, Array] = {}
    for name, values in (("loss", loss), ("se", se), ("best", best)):
        if values is None:
            continue
        column = as_array(values, name).astype(np.float64)
        if column.shape != levels.shape:
            raise InputError(f"{name} must have sigma's shape {levels.shape}; got {column.shape}")
        columns[name] = column[order]
    return levels[order], columns


def save_loss_per_sigma(
    path: PathLike,
    sigma: Values,
    loss: Values,
    se: Values | None = None,
    best: Values | None = None,
    title: str = "Held-out denoising loss at each noise level",
    loss_label: str = "loss (weighted, mean per element, dimensionless)",
    sigma_label: str = "noise level σ (model units)",
) -> Path:
    """Write a picture of the loss at each noise level, with a logarithmic sigma axis.

    Args:
        path: a file name that ends in .png, .pdf or .svg.
        sigma: (L,) noise levels above 0, in any order.
        loss: (L,) losses.
        se: (L,) standard errors, drawn as bars of ± 2.
        best: (L,) least possible losses where they are known, drawn dashed.
        title: shown above the axes.
        loss_label: label of the vertical axis.
        sigma_label: label of the horizontal axis.

    Returns:
        The path.

    Raises:
        InputError: if shapes, values or the ending are wrong.
    """
    levels, columns = _by_level(sigma, loss, se, best)
    figure = new_figure(6.8, 4.3)
    axes = figure.add_subplot()
    style: dict[str, Any] = {"ms": 4, "color": BLUE}
    line = "o-" if len(levels) <= 60 else "-"
    if "se" in columns:
        label = "loss ± 2 standard errors"
        bars = 2 * columns["se"]
        axes.errorbar(levels, columns["loss"], bars, fmt=line, capsize=2, label=label, **style)
    else:
        axes.plot(levels, columns["loss"], line, label="loss", **style)
    if "best" in columns:
        axes.plot(levels, columns["best"], "--", color=VERMILLION, label="least possible")
    axes.set(xscale="log", title=title, xlabel=sigma_label, ylabel=loss_label)
    shown = [columns[name] for name in ("loss", "best") if name in columns]
    if _needs_log_axis(*shown):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=min(0.0, *(float(s.min()) for s in shown)))
    axes.grid(alpha=0.3)
    axes.legend()
    return save_figure(path, figure)


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


def _draw_training_loss(axes: "Axes", images: Array, loss: Array) -> None:
    if len(loss) > 20:
        # A centred mean over a twentieth of the run; the raw curve stays visible behind it.
        half = max(1, len(loss) // 40)
        smooth = np.array([loss[max(0, i - half) : i + half + 1].mean() for i in range(len(loss))])
        axes.plot(images, loss, color=BLUE, alpha=0.25, lw=0.8)
        label = f"training loss (mean of {2 * half + 1} records; pale: each)"
        axes.plot(images, smooth, color=BLUE, label=label)
    elif len(loss):
        axes.plot(images, loss, "o-", ms=3, color=BLUE, label="training loss")


def save_training_curve(
    path: PathLike, records: Sequence[Mapping[str, Any]], title: str = "Training"
) -> Path:
    """Write a picture of training loss and held-out loss over the images seen.

    Values that are not finite leave gaps, and the caption gives their number.

    Args:
        path: a file name that ends in .png, .pdf or .svg.
        records: the lines of metrics.jsonl: `images` with any of `seconds`, `loss`, `held_out`.
            Other keys, and records without `images`, are ignored.
        title: shown above the axes.

    Returns:
        The path.

    Raises:
        InputError: if no record has a loss, if a value is not a number, or for another ending.
    """
    images, loss = _column(records, "loss")
    held_images, held = _column(records, "held_out")
    if len(loss) + len(held) == 0:
        raise InputError(
            f"records need 'images' and 'loss' or 'held_out'; none of the {len(records)} records "
            "has them"
        )
    figure = new_figure(6.8, 4.3)
    axes = figure.add_subplot()
    _draw_training_loss(axes, images, loss)
    if len(held):
        style: dict[str, Any] = {"ms": 4, "color": ORANGE, "mec": "black", "mew": 0.4}
        axes.plot(held_images, held, "s-", label="held-out loss", **style)
    axes.set(title=title, xlabel="images seen", ylabel="loss (weighted, mean per element)")
    if _needs_log_axis(loss, held):
        axes.set_yscale("log")
    axes.xaxis.set_major_formatter(_thousands)
    axes.grid(alpha=0.3)
    axes.legend()
    return save_figure(path, figure, _summary(records, np.concatenate([loss, held])))


def _thousands(value: float, position: float = 0) -> str:
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
