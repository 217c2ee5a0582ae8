"""Numbers over noise levels and over training."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .files import BLUE, ORANGE, VERMILLION, as_array, new_figure, save_figure


def _wide(*series: np.ndarray) -> bool:
    """True where all values are above zero and span more than a factor 20: a logarithmic axis shows
    them better.
    """
    values = np.concatenate([s[np.isfinite(s)] for s in series])
    return (
        len(values) > 0
        and float(values.min()) > 0
        and float(values.max()) > 20 * float(values.min())
    )


def save_loss_per_sigma(
    path: str | os.PathLike[str],
    sigma: Any,
    loss: Any,
    se: Any | None = None,
    best: Any | None = None,
    title: str = "Held-out denoising loss at each noise level",
    loss_label: str = "loss (weighted, mean per element, dimensionless)",
    sigma_label: str = "noise level σ (model units)",
) -> Path:
    """Loss (L,) over sigma (L,) > 0 on a logarithmic axis; se (L,): standard errors, drawn as bars
    of ± 2; best (L,): the least loss
    possible, where it is known, drawn dashed. The order of the levels does not matter. Returns the
    path. Errors: shapes, NaNs, sigma <= 0,
    the ending.
    """
    levels = as_array(sigma, "sigma").astype(np.float64)
    if levels.ndim != 1 or len(levels) == 0 or not (levels > 0).all():
        raise InputError(f"sigma must be one row of levels above zero; got shape {levels.shape}")
    columns: dict[str, np.ndarray] = {}
    order = np.argsort(levels)
    for name, given in (("loss", loss), ("se", se), ("best", best)):
        if given is not None:
            columns[name] = as_array(given, name).astype(np.float64)
            if columns[name].shape != levels.shape:
                raise InputError(
                    f"{name} must have sigma's shape {levels.shape}; got {columns[name].shape}"
                )
            columns[name] = columns[name][order]
    levels = levels[order]
    figure = new_figure(6.8, 4.3)
    axes = figure.add_subplot()
    marker = "o" if len(levels) <= 60 else ""
    if "se" in columns:
        axes.errorbar(
            levels,
            columns["loss"],
            2 * columns["se"],
            fmt=f"{marker}-",
            ms=4,
            color=BLUE,
            capsize=2,
            label="loss ± 2 standard errors",
        )
    else:
        axes.plot(levels, columns["loss"], f"{marker}-", ms=4, color=BLUE, label="loss")
    if "best" in columns:
        axes.plot(levels, columns["best"], "--", color=VERMILLION, label="least possible")
    axes.set(xscale="log", title=title, xlabel=sigma_label, ylabel=loss_label)
    shown = [columns[name] for name in ("loss", "best") if name in columns]
    if _wide(*shown):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=min(0.0, *(float(s.min()) for s in shown)))
    axes.grid(alpha=0.3)
    axes.legend()
    return save_figure(path, figure)


def _column(records: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """images and `name` over the records that have both (None counts as absent)."""
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


def save_training_curve(
    path: str | os.PathLike[str], records: Sequence[Mapping[str, Any]], title: str = "Training"
) -> Path:
    """Loss and held-out loss over the images seen, from records with `images` and any of `seconds`,
    `loss`, `held_out`; other keys and
    records without images are passed over. Values that are not finite leave gaps, and the caption
    counts them. Returns the path.
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
    if len(loss) > 20:
        # A centred mean over a twentieth of the run; the raw curve stays visible behind it.
        half = max(1, len(loss) // 40)
        smooth = np.array([loss[max(0, i - half) : i + half + 1].mean() for i in range(len(loss))])
        axes.plot(images, loss, color=BLUE, alpha=0.25, lw=0.8)
        axes.plot(
            images,
            smooth,
            color=BLUE,
            label=f"training loss (mean of {2 * half + 1} records; pale: each)",
        )
    elif len(loss):
        axes.plot(images, loss, "o-", ms=3, color=BLUE, label="training loss")
    if len(held):
        axes.plot(
            held_images, held, "s-", ms=4, color=ORANGE, mec="black", mew=0.4, label="held-out loss"
        )
    axes.set(title=title, xlabel="images seen", ylabel="loss (weighted, mean per element)")
    if _wide(loss, held):
        axes.set_yscale("log")
    axes.xaxis.set_major_formatter(_thousands)
    axes.grid(alpha=0.3)
    axes.legend()
    return save_figure(path, figure, _history(records, np.concatenate([loss, held])))


def _thousands(value: float, position: int | None = None) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _history(records: Sequence[Mapping[str, Any]], values: np.ndarray) -> str:
    """The run in a sentence: images, time, rate, and what was not finite."""
    images, seconds = _column(records, "seconds")
    said = []
    if len(seconds) and math.isfinite(seconds[-1]) and seconds[-1] > 0:
        said.append(
            f"{images[-1]:,.0f} images in {seconds[-1]:,.0f} s, {images[-1] / seconds[-1]:,.0f} "
            "images a second."
        )
    gaps = int((~np.isfinite(values)).sum())
    if gaps:
        said.append(f"Not finite and so not drawn: {gaps}.")
    return " ".join(said)
