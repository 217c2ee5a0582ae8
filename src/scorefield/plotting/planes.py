"""Several planes side by side, and points that move over a density.

The panels of one picture share the frame, the colour scale of the arrows and that of the maps, so
that they can be compared by eye.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import InputError
from .animation import save_animation
from .fields import (
    Extent,
    Plane,
    add_colour_bar,
    check_extent,
    draw_arrows,
    draw_density,
    frame_axes,
    mesh,
)
from .files import (
    Array,
    PathLike,
    Values,
    as_array,
    as_points,
    check_suffix,
    new_figure,
    save_figure,
)
from .palette import BLUE, MAPS, VERMILLION
from .text import wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

NAMES = ("x₁", "x₂")
PANEL_WIDTH = 3.5  # inches


@dataclass(frozen=True)
class Panel:
    """One plane.

    Attributes:
        title: shown above the plane.
        log_density: (M, 2) -> (M,), drawn as grey contours.
        score: (M, 2) -> (M, 2), drawn as arrows.
        points: (N, 2), drawn as dots.
        values: (n, n) over the cells of the frame, y slow from the bottom, not negative; drawn as
            a map with a logarithmic colour scale.
        circles: (x, y, radius), drawn dashed.
    """

    title: str
    log_density: Plane | None = None
    score: Plane | None = None
    points: Values | None = None
    values: Values | None = None
    circles: Sequence[tuple[float, float, float]] = ()


def grid_points(extent: Sequence[float], size: int) -> Array:
    """Return the centres of the cells that `Panel.values` stand for.

    Args:
        extent: (left, right, bottom, top).
        size: cells a side.

    Returns:
        float64 (size², 2), y slow from the bottom.

    Raises:
        InputError: if the extent is not a frame.
    """
    return mesh(check_extent(extent), size)[2]


def _draw(
    axes: "Axes",
    panel: Panel,
    frame: Extent,
    arrows: int,
    sizes: tuple[float, float] | None,
    norm: "Normalize | None",
) -> tuple[Any, Any]:
    """Draw everything of one panel; return its arrows and its map, for the colour bars."""
    from matplotlib.patches import Circle

    quiver = shown = None
    if panel.values is not None and norm is not None:
        values = np.maximum(as_array(panel.values, "values"), norm.vmin or 0.0)
        style: dict[str, Any] = {"cmap": MAPS, "norm": norm, "interpolation": "nearest"}
        shown = axes.imshow(values, origin="lower", extent=frame, **style)
    if panel.log_density is not None:
        draw_density(axes, panel.log_density, frame)
    if panel.points is not None:
        x = as_points(panel.points, "points")
        size = float(np.clip(4000 / len(x), 1.5, 12))
        axes.scatter(x[:, 0], x[:, 1], s=size, color=BLUE, alpha=0.5, linewidths=0, zorder=2)
    if panel.score is not None:
        quiver = draw_arrows(axes, panel.score, frame, arrows, sizes)
    edge = "white" if shown is not None else VERMILLION
    for x0, y0, radius in panel.circles:
        axes.add_patch(Circle((x0, y0), radius, fill=False, ls="--", lw=1.3, ec=edge, zorder=4))
    frame_axes(axes, frame, NAMES)
    axes.set_title(wrap(panel.title, 66 * PANEL_WIDTH, 10), fontsize=10)
    return quiver, shown


def _common_scales(
    panels: Sequence[Panel], frame: Extent, arrows: int
) -> tuple[tuple[float, float] | None, "Normalize"]:
    """The ends of the colour scale of all score fields, and the norm of all maps."""
    from matplotlib.colors import LogNorm

    fields = [panel.score for panel in panels if panel.score is not None]
    maps = [as_array(panel.values, "values") for panel in panels if panel.values is not None]
    every = np.concatenate([m.ravel() for m in maps]) if maps else np.ones(1)
    high = float(every.max()) or 1.0
    low = max(float(np.quantile(every, 0.02)), high * 1e-4)
    return _sizes(fields, frame, arrows) if fields else None, LogNorm(low, max(high, 1.01 * low))


def save_planes(
    path: PathLike,
    panels: Sequence[Panel],
    extent: Sequence[float],
    title: str,
    caption: str,
    columns: int | None = None,
    arrows: int = 17,
    score_label: str = "|score|",
    value_label: str = "",
) -> Path:
    """Write panels under one title and over one caption.

    Colour bars stand right of the last panel that uses them.

    Args:
        path: a file name that ends in .png, .pdf or .svg.
        panels: one or more.
        extent: (left, right, bottom, top) of every panel.
        title: shown above all panels.
        caption: shown below all panels.
        columns: panels in a row; by default all.
        arrows: arrows a side, 2 or more.
        score_label: label of the colour bar of the arrows.
        value_label: label of the colour bar of the maps.

    Returns:
        The path.

    Raises:
        InputError: if shapes, values, the frame or the ending are wrong.
    """
    frame = check_extent(extent)
    if not panels:
        raise InputError("need at least one panel; got none")
    across = min(len(panels), columns or len(panels))
    down = -(-len(panels) // across)
    sizes, norm = _common_scales(panels, frame, arrows)
    bars = any(p.score is not None for p in panels) + any(p.values is not None for p in panels)
    figure = new_figure(PANEL_WIDTH * across + 0.9 * bars, 4.0 * down, title)
    layout: Any = figure.get_layout_engine()
    layout.set(h_pad=0.09, hspace=0.08)
    # One grid for all panels: with a grid for each, the layout would not know that colour bars and
    # titles are in each other's way.
    places = figure.subplots(down, across, squeeze=False).ravel()
    for axes in places[len(panels) :]:
        axes.remove()
    drawn = []
    for axes, panel in zip(places, panels, strict=False):
        drawn.append((axes, *_draw(axes, panel, frame, arrows, sizes, norm)))
    for label, which in ((score_label, 1), (value_label, 2)):
        users = [entry for entry in drawn if entry[which] is not None]
        if users:
            add_colour_bar(figure, users[-1][which], [entry[0] for entry in users], label)
    return save_figure(path, figure, caption)


def _sizes(fields: Sequence[Plane], frame: Extent, arrows: int) -> tuple[float, float]:
    """The ends of one colour scale for all score fields."""
    places = torch.as_tensor(mesh(frame, arrows)[2], dtype=torch.float32)
    with torch.no_grad():
        size = np.concatenate(
            [np.linalg.norm(as_array(field(places), "score"), axis=1) for field in fields]
        )
    return float(np.quantile(size, 0.02)), float(size.max())


def save_moving_points(
    path: PathLike,
    frames: Any,
    log_density: Plane,
    extent: Sequence[float],
    captions: Sequence[str],
    title: str,
    fps: float = 8,
    hold: int = 16,
) -> Path:
    """Write points that move over the contours of a log density as a GIF that loops.

    Args:
        path: a file name that ends in .gif.
        frames: (F, N, 2) or a sequence of (N, 2).
        log_density: (M, 2) -> (M,), up to a constant.
        extent: (left, right, bottom, top).
        captions: one a frame, shown below the title.
        title: shown above every frame.
        fps: frames a second, at most 50.
        hold: how many frame times the last frame lasts.

    Returns:
        The path.

    Raises:
        InputError: if shapes, the number of captions, the frame or the ending are wrong.
    """
    path = check_suffix(path, (".gif",))
    frame = check_extent(extent)
    if len(frames) == 0 or len(captions) != len(frames):
        raise InputError(
            f"need at least one frame and one caption a frame; got {len(frames)} frames and "
            f"{len(captions)} captions"
        )
    pictures = []
    figure = new_figure(4.6, 5.0)
    axes = figure.add_subplot()
    canvas: Any = figure.canvas
    for points, words in zip(frames, captions, strict=True):
        axes.clear()
        _draw(axes, Panel("", log_density, points=points), frame, 0, None, None)
        figure.suptitle(wrap(f"{title}\n{words}", 72 * 4.6 - 12, 9), fontsize=9)
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
        figure.set_layout_engine("none")  # laid out once: a frame that moved would distract
    images = np.stack(pictures).transpose(0, 3, 1, 2)[:, None]
    return save_animation(path, images, hold, fps, pad=0, scale=1)
