"""Pictures of the plane: points over a density, and a score as arrows.

contours of a density    the smallest regions that hold 50, 90 and 99 % of its mass within the
                         frame; the density may lack its normalising constant
arrows of a score        direction s / |s|, length √(|s| / (|s| + median |s|)) of the room
                         between arrows, colour |s| itself
contours under arrows    where log p is k² / 2 below its largest value, k = 1 ... 5: the first
                         five standard deviations of a Gaussian
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..values import numbers, whole
from .files import (
    Array,
    PathLike,
    Values,
    as_array,
    as_points,
    new_figure,
    save_figure,
)
from .palette import BLUE, SEQUENTIAL, VERMILLION
from .text import fit_label
from .ticks import round_factors, round_numbers, set_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

MASSES = (0.5, 0.9, 0.99)
AXES = ("x₁ (data units)", "x₂ (data units)")
CELLS = 200  # a side, for densities
Extent = tuple[float, float, float, float]
Plane = Callable[[Any], Any]  # a function of points (M, 2)


def _frame(points: Array) -> Extent:
    """Left, right, bottom, top: the central 99 % of the points and a margin of a fifth of that.

    A quantile and not the range: one stray point must not shrink everything else.
    """
    low, high = np.quantile(points, [0.005, 0.995], axis=0)
    span = np.maximum(high - low, 1e-6 * max(1.0, float(np.abs(points).max())))
    low, high = low - 0.2 * span, high + 0.2 * span
    return float(low[0]), float(high[0]), float(low[1]), float(high[1])


def check_extent(extent: Sequence[float]) -> Extent:
    """Return (left, right, bottom, top) as floats, or raise InputError if they are not a frame."""
    ends = numbers(extent, "extent")
    if not (len(ends) == 4 and ends[0] < ends[1] and ends[2] < ends[3]):
        raise InputError(
            "extent must be (left, right, bottom, top) with left < right and bottom < top; got "
            f"{tuple(ends)}"
        )
    left, right, bottom, top = ends
    return left, right, bottom, top


def mesh(extent: Extent, size: int) -> tuple[Array, Array, Array]:
    """Return cell centres x (size,), y (size,), and all of them as points (size², 2), y slow."""
    left, right, bottom, top = extent
    half = (np.arange(size) + 0.5) / size
    x, y = left + (right - left) * half, bottom + (top - bottom) * half
    return x, y, np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def evaluate(function: Plane, points: Array, shape: tuple[int, ...], name: str) -> Array:
    """Evaluate a function at float32 points (M, 2) and check the shape of its answer.

    A log density (shape (M,)) may be -inf, which stands for no density.
    """
    with torch.no_grad():
        answer = function(torch.as_tensor(points, dtype=torch.float32))
    values = np.asarray(
        answer.detach().cpu() if isinstance(answer, Tensor) else answer, dtype=np.float64
    )
    if values.shape != shape:
        raise InputError(
            f"{name} must map points (M, 2) to shape {('M', *shape[1:])}; for M = {shape[0]} it "
            f"gave {values.shape}"
        )
    if len(shape) == 1:
        values = np.where(np.isneginf(values), -1e300, values)
    return as_array(values, name)


def frame_axes(axes: "Axes", extent: Extent, names: Sequence[str], size: float = 9) -> None:
    """Set the limits, one scale for both directions, labels that fit, and round ticks."""
    axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
    label_axes(axes, names, size)


def label_axes(axes: "Axes", names: Sequence[str], size: float = 9) -> None:
    """Label both axes; a label that is longer than its axis is broken and shortened."""
    figure: Any = axes.get_figure(root=True)
    width, height = 45 * figure.get_size_inches()  # points; axes take about two thirds
    axes.set_xlabel(fit_label(names[0], width, size + 1), fontsize=size + 1)
    axes.set_ylabel(fit_label(names[1], height, size + 1), fontsize=size + 1)
    for letter in "xy":
        set_ticks(axes, letter, round_numbers(), size)


def _draw_mass_contours(axes: "Axes", density: Plane, frame: Extent, x: Array) -> str:
    """Contours that hold the shares MASSES; returns the caption, which counts the points within."""
    across, up, cells = mesh(frame, CELLS)
    log_p = evaluate(density, cells, (len(cells),), "density")
    p = np.exp(log_p - log_p.max())
    ranked = np.sort(p)[::-1]
    mass = np.cumsum(ranked) / ranked.sum()
    levels = [float(ranked[min(int(np.searchsorted(mass, m)), len(ranked) - 1)]) for m in MASSES]
    at_points = np.exp(np.minimum(evaluate(density, x, (len(x),), "density") - log_p.max(), 0))
    rising = sorted(set(levels))
    greys = ["#eeeeee", "#dddddd", "#c4c4c4"][-len(rising) :]
    p = p.reshape(CELLS, CELLS)
    axes.contourf(across, up, p, [*rising, 2.0], colors=greys)
    axes.contour(across, up, p, rising, colors="0.25", linewidths=0.8, zorder=3)
    within = ", ".join(f"{(at_points >= level).mean():.1%}" for level in levels)
    return (
        f"Contours hold 50, 90 and 99 % of the density in the frame; {within} of the points "
        "lie within them."
    )


def _draw_histogram(axes: "Axes", reference: Array, frame: Extent) -> str:
    """Reference points as a grey histogram; returns the caption."""
    bins = max(20, min(80, round(np.sqrt(len(reference)))))
    counts, edges_x, edges_y = np.histogram2d(
        reference[:, 0], reference[:, 1], bins, (frame[:2], frame[2:])
    )
    most = 1.5 * max(1.0, counts.max())
    axes.pcolormesh(edges_x, edges_y, counts.T, cmap="Greys", vmin=0, vmax=most)
    return f"Grey: histogram of {len(reference):,} reference points, darker is more."


def save_scatter(
    path: PathLike,
    points: Values,
    density: Plane | None = None,
    reference: Values | None = None,
    title: str = "samples",
    extent: Sequence[float] | None = None,
    names: Sequence[str] = AXES,
) -> Path:
    """Write points of the plane over contours of a density or a histogram of reference points.

    Both axes have the same scale. The caption counts the points within the contours and outside
    the frame.

    Args:
        path: a file name that ends in .png, .pdf or .svg.
        points: (N, 2) in data units.
        density: log density up to a constant, float32 tensor (M, 2) -> (M,); drawn as contours.
        reference: (R, 2), drawn as a histogram where no density is given.
        title: shown above the axes.
        extent: (left, right, bottom, top); by default around the central 99 % of the points.
        names: labels of the two axes.

    Returns:
        The path.

    Raises:
        InputError: if shapes, values, the frame or the ending are wrong.
    """
    x = as_points(points, "points")
    other = None if reference is None else as_points(reference, "reference")
    if extent is not None:
        frame = check_extent(extent)
    else:
        frame = _frame(x if other is None else np.concatenate([x, other]))
    figure = new_figure(5.6, 5.4, title)
    axes = figure.add_subplot()
    frame_axes(axes, frame, names)
    caption = [f"Points: {len(x):,} samples."]
    low, high = np.array(frame)[[0, 2]], np.array(frame)[[1, 3]]
    outside = int(((x < low) | (x > high)).any(1).sum())
    if outside:
        caption.append(f"Outside the frame: {outside:,}.")
    if density is not None:
        caption.append(_draw_mass_contours(axes, density, frame, x))
    elif other is not None:
        caption.append(_draw_histogram(axes, other, frame))
    colour = BLUE if density is not None else VERMILLION
    size = float(np.clip(8000 / len(x), 3, 16))
    axes.scatter(x[:, 0], x[:, 1], s=size, color=colour, alpha=0.55, linewidths=0, zorder=2)
    return save_figure(path, figure, " ".join(caption))


def draw_density(axes: "Axes", log_density: Plane, frame: Extent) -> None:
    """Draw contours where log p is k² / 2 below its maximum, k = 1 to 5, filled in greys."""
    across, up, cells = mesh(frame, CELLS)
    log_p = evaluate(log_density, cells, (len(cells),), "log_density").reshape(CELLS, CELLS)
    levels = log_p.max() - np.arange(5, 0, -1.0) ** 2 / 2
    greys = [f"{g:.2f}" for g in np.linspace(0.965, 0.80, 5)]
    axes.contourf(across, up, log_p, [*levels, log_p.max() + 1], colors=greys)
    axes.contour(across, up, log_p, levels, colors="0.6", linewidths=0.6, linestyles="solid")


def draw_arrows(
    axes: "Axes",
    score: Plane,
    frame: Extent,
    arrows: int,
    sizes: tuple[float, float] | None = None,
) -> "ScalarMappable":
    """Draw the score as arrows x arrows arrows and return them, for a colour bar.

    sizes: the two ends of the colour scale; by default those of this field.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, LogNorm, Normalize

    arrows = whole(arrows, "arrows", 2)
    _, _, places = mesh(frame, arrows)
    s = evaluate(score, places, (len(places), 2), "score")
    size = np.linalg.norm(s, axis=1)
    middle = float(np.median(size)) or float(size.max()) or 1.0
    room = min(frame[1] - frame[0], frame[3] - frame[2]) / arrows
    # |s| / sqrt(|s| (|s| + m)) = sqrt(|s| / (|s| + m))
    drawn = s * (1.1 * room / np.sqrt(np.maximum(size * (size + middle), 1e-300)))[:, None]
    # Viridis without its lightest fifth, which is lost on white. Sizes range over decades, so the
    # colour is that of their logarithm.
    shades = ListedColormap(colormaps[SEQUENTIAL](np.linspace(0, 0.8, 256)))
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


def add_colour_bar(figure: "Figure", drawn: "ScalarMappable", axes: Any, label: str) -> None:
    """Add a colour bar for `drawn`, with few plain numbers."""
    from matplotlib.colors import LogNorm

    bar = figure.colorbar(drawn, ax=axes, label=label, shrink=0.85)
    logarithmic = isinstance(drawn.norm, LogNorm)
    set_ticks(bar.ax, "y", round_factors if logarithmic else round_numbers(), 8)


def save_score_field(
    path: PathLike,
    score: Plane,
    log_density: Plane | None,
    extent: Sequence[float],
    title: str = "score",
    points: Values | None = None,
    arrows: int = 21,
    names: Sequence[str] = AXES,
) -> Path:
    """Write a score as arrows over contours of a density.

    The direction of an arrow is that of the score; its length is compressed (see the module
    docstring), and its colour gives the size of the score.

    Args:
        path: a file name that ends in .png, .pdf or .svg.
        score: float32 tensor (M, 2) -> (M, 2).
        log_density: (M, 2) -> (M,), up to a constant, or None.
        extent: (left, right, bottom, top).
        title: shown above the axes.
        points: (N, 2), for example data, drawn as dots.
        arrows: arrows a side, 2 or more.
        names: labels of the two axes.

    Returns:
        The path.

    Raises:
        InputError: if shapes, values, the frame or the ending are wrong.
    """
    frame = check_extent(extent)
    aspect = (frame[3] - frame[2]) / (frame[1] - frame[0])
    figure = new_figure(6.8, float(np.clip(0.7 + 4.9 * aspect, 2.6, 8.6)), title)
    axes = figure.add_subplot()
    frame_axes(axes, frame, names)
    quiver = draw_arrows(axes, score, frame, arrows)
    caption = ["Arrows: direction of the score; length √(|s| / (|s| + median)), colour its size."]
    if log_density is not None:
        draw_density(axes, log_density, frame)
        caption.append("Grey: density, contours where log p is k²/2 below its maximum, k = 1 to 5.")
    if points is not None:
        x = as_points(points, "points")
        size = float(np.clip(2000 / len(x), 2, 12))
        axes.scatter(x[:, 0], x[:, 1], s=size, color=VERMILLION, alpha=0.5, linewidths=0)
        caption.append(f"Dots: {len(x):,} points.")
    add_colour_bar(figure, quiver, axes, "|score| (1 / data unit)")
    return save_figure(path, figure, " ".join(caption))
