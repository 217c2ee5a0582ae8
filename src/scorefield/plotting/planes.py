"""Planes side by side: what is true, what was learned, where they differ; and points that move over
a density.

Panels of one picture share the frame, the scale of the arrows' colours, and that of the maps'
colours, so that they can be compared by eye.
"""

import os
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .animation import save_animation
from .fields import Extent, add_bar, check_extent, draw_arrows, draw_density, mesh
from .files import BLUE, VERMILLION, as_array, as_points, check_suffix, new_figure, save_figure

Plane = Callable[[Any], Any]
NAMES = ("x₁", "x₂")
TITLE_CHARACTERS = 66  # of 9-point type in the width of a picture of moving points


@dataclass(frozen=True)
class Panel:
    """One plane. log_density: (M, 2) -> (M,); score: (M, 2) -> (M, 2); points: (N, 2); values: (n,
    n) over the frame's cells, y slow from
    the bottom, none below zero, drawn on a logarithmic colour scale; circles: (x, y, radius), drawn
    dashed.
    """

    title: str
    log_density: Plane | None = None
    score: Plane | None = None
    points: Any | None = None
    values: Any | None = None
    circles: Sequence[tuple[float, float, float]] = ()


def grid_points(extent: Sequence[float], size: int) -> np.ndarray:
    """The centres of size x size cells of the frame, float64 (size², 2), y slow from the bottom:
    where `Panel.values` stand.
    """
    return mesh(check_extent(extent), size)[2]


def _draw(
    axes: Any,
    panel: Panel,
    frame: Extent,
    arrows: int,
    sizes: tuple[float, float] | None,
    norm: Any,
) -> tuple[Any, Any]:
    """Everything of one panel; its arrows and its map, for the colour bars."""
    from matplotlib.patches import Circle

    quiver = shown = None
    if panel.values is not None:
        values = as_array(panel.values, "values")
        shown = axes.imshow(
            np.maximum(values, norm.vmin),
            origin="lower",
            extent=frame,
            cmap="cividis",
            norm=norm,
            interpolation="nearest",
        )
    if panel.log_density is not None:
        draw_density(axes, panel.log_density, frame)
    if panel.points is not None:
        x = as_points(panel.points, "points")
        axes.scatter(
            x[:, 0],
            x[:, 1],
            s=float(np.clip(4000 / len(x), 1.5, 12)),
            color=BLUE,
            alpha=0.5,
            linewidths=0,
            zorder=2,
        )
    if panel.score is not None:
        quiver = draw_arrows(axes, panel.score, frame, arrows, sizes)
    for x0, y0, radius in panel.circles:
        axes.add_patch(
            Circle(
                (x0, y0),
                radius,
                fill=False,
                ls="--",
                lw=1.3,
                ec="white" if shown is not None else VERMILLION,
                zorder=4,
            )
        )
    axes.set(xlim=frame[:2], ylim=frame[2:], aspect="equal", xlabel=NAMES[0], ylabel=NAMES[1])
    axes.locator_params(nbins=6, steps=[1, 2, 5, 10])
    axes.set_title(panel.title, fontsize=10)
    return quiver, shown


def save_planes(
    path: str | os.PathLike[str],
    panels: Sequence[Panel],
    extent: Sequence[float],
    title: str,
    caption: str,
    columns: int | None = None,
    arrows: int = 17,
    score_label: str = "|score|",
    value_label: str = "",
) -> Path:
    """The panels, `columns` a row (all in one by default), under one title and over one caption.
    extent = (left, right, bottom, top); colour
    bars stand right of the last panel that uses them. Returns the path. Errors: shapes, NaNs,
    frame, ending.
    """
    from matplotlib.colors import LogNorm

    frame = check_extent(extent)
    if not panels:
        raise InputError("need at least one panel; got none")
    across = min(len(panels), columns or len(panels))
    down = -(-len(panels) // across)
    fields = [panel.score for panel in panels if panel.score is not None]
    sizes = _sizes(fields, frame, arrows) if fields else None
    maps = [as_array(panel.values, "values") for panel in panels if panel.values is not None]
    every = np.concatenate([m.ravel() for m in maps]) if maps else np.ones(1)
    high = float(every.max()) or 1.0
    low = max(float(np.quantile(every, 0.02)), high * 1e-4)
    norm = LogNorm(low, max(high, 1.01 * low))
    figure = new_figure(3.5 * across + 0.9 * bool(fields) + 0.9 * bool(maps), 4.0 * down + 0.8)
    figure.get_layout_engine().set(h_pad=0.09, hspace=0.04)
    # One grid for all: with a grid a panel the layout would not know that colour bars and titles
    # are in each other's way.
    places = figure.subplots(down, across, squeeze=False).ravel()
    for axes in places[len(panels) :]:
        axes.remove()
    drawn = []
    for axes, panel in zip(places, panels, strict=False):
        drawn.append((axes, *_draw(axes, panel, frame, arrows, sizes, norm)))
    for label, which in ((score_label, 1), (value_label, 2)):
        users = [entry for entry in drawn if entry[which] is not None]
        if users:
            add_bar(figure, users[-1][which], [entry[0] for entry in users], label)
    figure.suptitle(title)
    return save_figure(path, figure, caption)


def _sizes(fields: Sequence[Plane], frame: Extent, arrows: int) -> tuple[float, float]:
    """The ends of a colour scale that serves all score fields."""
    import torch

    places = torch.as_tensor(mesh(frame, arrows)[2], dtype=torch.float32)
    with torch.no_grad():
        size = np.concatenate(
            [np.linalg.norm(as_array(field(places), "score"), axis=1) for field in fields]
        )
    return float(np.quantile(size, 0.02)), float(size.max())


def save_moving_points(
    path: str | os.PathLike[str],
    frames: Any,
    log_density: Plane,
    extent: Sequence[float],
    captions: Sequence[str],
    title: str,
    fps: float = 8,
    hold: int = 16,
) -> Path:
    """A GIF of points (F, N, 2) over the contours of a log density, a caption a frame below the
    title; it loops. Returns the path.
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
    for points, words in zip(frames, captions, strict=True):
        axes.clear()
        _draw(axes, Panel("", log_density, points=points), frame, 0, None, None)
        figure.suptitle(
            "\n".join(textwrap.fill(line, TITLE_CHARACTERS) for line in (title, words)), fontsize=9
        )
        figure.canvas.draw()
        pictures.append(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())
        figure.set_layout_engine("none")  # laid out once: a frame that moved would distract
    return save_animation(
        path, np.stack(pictures).transpose(0, 3, 1, 2)[:, None], hold, fps, pad=0, scale=1
    )
