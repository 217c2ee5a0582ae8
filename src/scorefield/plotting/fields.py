"""Two dimensions: points over a density, and a score as arrows.

contours of a density    the smallest regions holding 50, 90 and 99 % of its mass within the frame; p may lack its normalising constant
arrows of a score        direction s / |s|, length √(|s| / (|s| + median |s|)) of the room between arrows, colour |s| itself
contours under arrows    log p lower than its largest value by k² / 2, k = 1 ... 5: where a Gaussian's 1 ... 5 standard deviations are
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from .files import BLUE, VERMILLION, as_array, as_points, new_figure, save_figure

MASSES = (0.5, 0.9, 0.99)
AXES = ("x₁ (data units)", "x₂ (data units)")
Extent = tuple[float, float, float, float]


def _frame(points: np.ndarray) -> Extent:
    """left, right, bottom, top around the central 99 % of the points, with a fifth of that as a
    margin: one stray point must not shrink
    all."""
    low, high = np.quantile(points, [0.005, 0.995], axis=0)
    span = np.maximum(high - low, 1e-6 * max(1.0, float(np.abs(points).max())))
    low, high = low - 0.2 * span, high + 0.2 * span
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])


def check_extent(extent: Sequence[float]) -> Extent:
    if len(extent) != 4 or not (
        np.isfinite(extent).all() and extent[0] < extent[1] and extent[2] < extent[3]
    ):
        raise InputError(
            "extent must be (left, right, bottom, top) with left < right and bottom < top; got "
            f"{tuple(extent)}"
        )
    left, right, bottom, top = (float(v) for v in extent)
    return left, right, bottom, top


def mesh(extent: Extent, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cell centres x (size,), y (size,) and all of them as points (size², 2), y slow."""
    left, right, bottom, top = extent
    half = (np.arange(size) + 0.5) / size
    x, y = left + (right - left) * half, bottom + (top - bottom) * half
    return x, y, np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def _call(
    function: Callable[[Any], Any], points: np.ndarray, shape: tuple[int, ...], what: str
) -> np.ndarray:
    """The callable's answer at float32 points (M, 2), checked; -inf (no density) is allowed in a
    log density.
    """
    with torch.no_grad():
        answer = function(torch.as_tensor(points, dtype=torch.float32))
    values = np.asarray(
        answer.detach().cpu() if isinstance(answer, torch.Tensor) else answer, dtype=np.float64
    )
    if values.shape != shape:
        raise InputError(
            f"{what} must map points (M, 2) to shape {('M', *shape[1:])}; for M = {shape[0]} it "
            f"gave {values.shape}"
        )
    if len(shape) == 1:
        values = np.where(np.isneginf(values), -1e300, values)
    return as_array(values, what)


def _axes(figure: Any, extent: Extent, title: str, names: Sequence[str]) -> Any:
    axes = figure.add_subplot()
    axes.set(
        xlim=extent[:2],
        ylim=extent[2:],
        aspect="equal",
        title=title,
        xlabel=names[0],
        ylabel=names[1],
    )
    return axes


def save_scatter(
    path: str | os.PathLike[str],
    points: Any,
    density: Callable[[Any], Any] | None = None,
    reference: Any | None = None,
    title: str = "samples",
    extent: Sequence[float] | None = None,
    names: Sequence[str] = AXES,
) -> Path:
    """Points (N, 2) over a density: contours where `density` (log density of a float32 tensor (M,
    2) -> (M,), up to a constant) is given,
    else a histogram of `reference` points (R, 2) where those are. Axes have equal scales. The
    caption counts: points within the contours,
    points outside the frame. Returns the path. Errors: shapes, NaNs, an ending other than .png,
    .pdf, .svg.
    """
    x = as_points(points, "points")
    other = None if reference is None else as_points(reference, "reference")
    frame = (
        check_extent(extent)
        if extent is not None
        else _frame(x if other is None else np.concatenate([x, other]))
    )
    figure = new_figure(5.6, 5.9)
    axes = _axes(figure, frame, title, names)
    caption = [f"Points: {len(x):,} samples."]
    outside = int(((x < np.array(frame)[[0, 2]]) | (x > np.array(frame)[[1, 3]])).any(1).sum())
    if outside:
        caption.append(f"Outside the frame: {outside:,}.")
    if density is not None:
        across, up, places = mesh(frame, 200)
        log_p = _call(density, places, (len(places),), "density")
        p = np.exp(log_p - log_p.max())
        ranked = np.sort(p)[::-1]
        mass = np.cumsum(ranked) / ranked.sum()
        levels = [
            float(ranked[min(int(np.searchsorted(mass, m)), len(ranked) - 1)]) for m in MASSES
        ]
        at = np.exp(np.minimum(_call(density, x, (len(x),), "density") - log_p.max(), 0))
        rising = sorted(set(levels))
        axes.contourf(
            across,
            up,
            p.reshape(200, 200),
            [*rising, 2.0],
            colors=["#eeeeee", "#dddddd", "#c4c4c4"][-len(rising) :],
        )
        axes.contour(
            across, up, p.reshape(200, 200), rising, colors="0.25", linewidths=0.8, zorder=3
        )
        within = ", ".join(f"{(at >= level).mean():.1%}" for level in levels)
        caption.append(
            f"Contours hold 50, 90 and 99 % of the density in the frame; {within} of the points "
            "lie within them."
        )
    elif other is not None:
        bins = max(20, min(80, round(np.sqrt(len(other)))))
        counts, edges_x, edges_y = np.histogram2d(
            other[:, 0], other[:, 1], bins, [frame[:2], frame[2:]]
        )
        axes.pcolormesh(
            edges_x, edges_y, counts.T, cmap="Greys", vmin=0, vmax=1.5 * max(1.0, counts.max())
        )
        caption.append(f"Grey: histogram of {len(other):,} reference points, darker is more.")
    size = float(np.clip(8000 / len(x), 3, 16))
    axes.scatter(
        x[:, 0],
        x[:, 1],
        s=size,
        color=BLUE if density is not None else VERMILLION,
        alpha=0.55,
        linewidths=0,
        zorder=2,
    )
    return save_figure(path, figure, " ".join(caption))


def draw_density(axes: Any, log_density: Callable[[Any], Any], frame: Extent) -> None:
    """Contours where log p is k²/2 below its maximum, k = 1 to 5, filled in greys."""
    across, up, fine = mesh(frame, 200)
    log_p = _call(log_density, fine, (len(fine),), "log_density").reshape(200, 200)
    levels = log_p.max() - np.arange(5, 0, -1.0) ** 2 / 2
    axes.contourf(
        across,
        up,
        log_p,
        [*levels, log_p.max() + 1],
        colors=[f"{g:.2f}" for g in np.linspace(0.965, 0.80, 5)],
    )
    axes.contour(across, up, log_p, levels, colors="0.6", linewidths=0.6, linestyles="solid")


def draw_arrows(
    axes: Any,
    score: Callable[[Any], Any],
    frame: Extent,
    arrows: int,
    sizes: tuple[float, float] | None = None,
) -> Any:
    """The score as arrows x arrows arrows; what a colour bar needs of them. sizes: the ends of the
    colour scale, by default the field's own.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, LogNorm, Normalize

    if arrows < 2:
        raise InputError(f"arrows must be at least 2 a side; got {arrows}")
    _, _, places = mesh(frame, arrows)
    s = _call(score, places, (len(places), 2), "score")
    size = np.linalg.norm(s, axis=1)
    middle = float(np.median(size)) or float(size.max()) or 1.0
    room = min(frame[1] - frame[0], frame[3] - frame[2]) / arrows
    drawn = (
        s * (1.1 * room / np.sqrt(np.maximum(size * (size + middle), 1e-300)))[:, None]
    )  # |s| / sqrt(|s| (|s| + m)) = sqrt(|s| / (|s| + m))
    # Viridis without its lightest fifth, which is lost on white; sizes range over decades, so their
    # logarithm is coloured.
    shades = ListedColormap(colormaps["viridis"](np.linspace(0, 0.8, 256)))
    low, high = (float(np.quantile(size, 0.02)), float(size.max())) if sizes is None else sizes
    norm = LogNorm(low, high) if 0 < low < high else Normalize(0, high or 1.0)
    return axes.quiver(
        *places.T,
        *drawn.T,
        np.maximum(size, low),
        cmap=shades,
        norm=norm,
        angles="xy",
        scale_units="xy",
        scale=1,
        pivot="mid",
        width=0.0036,
        zorder=3,
    )


def add_bar(figure: Any, drawn: Any, axes: Any, label: str) -> None:
    """A colour bar for `drawn`, with few plain numbers where its scale is logarithmic."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator

    ticks = (
        {"ticks": LogLocator(subs=(1, 2, 5)), "format": "%g"}
        if isinstance(drawn.norm, LogNorm)
        else {}
    )
    figure.colorbar(drawn, ax=axes, label=label, shrink=0.85, **ticks).minorticks_off()


def save_score_field(
    path: str | os.PathLike[str],
    score: Callable[[Any], Any],
    log_density: Callable[[Any], Any] | None,
    extent: Sequence[float],
    title: str = "score",
    points: Any | None = None,
    arrows: int = 21,
    names: Sequence[str] = AXES,
) -> Path:
    """The score (float32 tensor (M, 2) -> (M, 2)) as arrows x arrows arrows over contours of
    `log_density` ((M, 2) -> (M,), up to a
    constant), in the frame extent = (left, right, bottom, top); `points` (N, 2), data for instance,
    as dots. Returns the path.

    Direction is the score's; length is compressed (module docstring), colour tells the size.
    Errors: shapes, NaNs, frame, ending.
    """
    frame = check_extent(extent)
    figure = new_figure(
        6.8, float(np.clip(1.1 + 4.9 * (frame[3] - frame[2]) / (frame[1] - frame[0]), 3.0, 9.0))
    )
    axes = _axes(figure, frame, title, names)
    quiver = draw_arrows(axes, score, frame, arrows)
    caption = ["Arrows: direction of the score; length √(|s| / (|s| + median)), colour its size."]
    if log_density is not None:
        draw_density(axes, log_density, frame)
        caption.append("Grey: density, contours where log p is k²/2 below its maximum, k = 1 to 5.")
    if points is not None:
        x = as_points(points, "points")
        axes.scatter(
            x[:, 0],
            x[:, 1],
            s=float(np.clip(2000 / len(x), 2, 12)),
            color=VERMILLION,
            alpha=0.5,
            linewidths=0,
        )
        caption.append(f"Dots: {len(x):,} points.")
    add_bar(figure, quiver, axes, "|score| (1 / data unit)")
    return save_figure(path, figure, " ".join(caption))
