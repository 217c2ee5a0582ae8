"""The restoration sheet: what was true, what was seen, what may have been there, and how sure one
can be.

One row an input; columns truth, observed (unknown pixels hatched), D draws, mean, standard
deviation. Image pixels are enlarged by a whole
factor only. The standard deviation (root mean square over channels) is coloured with viridis on one
scale for all rows, drawn at its right.
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .files import as_array, save_png
from .images import Layout, arrange, draw_text, layout_of, stack, to_pixels

HATCH = np.array(
    [[96, 116, 150], [160, 178, 208]], dtype=np.uint8
)  # blue-greys, so that grey images do not pass for it
BAR = 78  # pixels right of the sheet for the colour bar and its numbers


def _coloured(values: np.ndarray, top: float) -> np.ndarray:
    """Numbers in [0, top] through viridis: uint8 (..., 3)."""
    from matplotlib import colormaps

    return (colormaps["viridis"](values / top)[..., :3] * 255).round().astype(np.uint8)


def _colour_bar(height: int, top: float) -> np.ndarray:
    """A vertical scale from 0 (below) to `top` (above), uint8 (height, BAR, 3)."""
    out = np.full((height, BAR, 3), 255, dtype=np.uint8)
    edge = 8
    length = min(height - 2 * edge, 260)
    ramp = _coloured(np.linspace(top, 0, length), top)
    out[edge : edge + length, 8:22] = ramp[:, None]
    for share in (1.0, 0.5, 0.0) if length > 60 else (1.0, 0.0):
        label = draw_text(f"{share * top:.2g}", BAR - 26, 11, margin=1)
        y = round(edge + (1 - share) * (length - 1))
        out[y, 22:25] = 30
        start = min(max(0, y - len(label) // 2), height - len(label))
        out[start : start + len(label), 26:] = label
    return out


def _hatched(enlarged: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """An enlarged image (h, w, 3) with diagonal stripes in the channels where `unknown` (h, w, 3)
    holds.
    """
    y, x = np.indices(enlarged.shape[:2])
    return np.where(unknown, HATCH[(x + y) // 3 % 2], enlarged)


def save_inpainting(
    path: str | os.PathLike[str],
    truth: Any | None,
    observed: Any,
    mask: Any,
    draws: Any,
    mean: Any,
    std: Any | None,
    scale: int | None = None,
    title: str = "",
) -> Path:
    """The sheet as a PNG. truth, observed, mean, std: (K, C, H, W); draws (K, D, C, H, W), data
    units; mask: True, 1 = known, any shape
    that broadcasts against (K, C, H, W). truth or std None: that column is left out. Returns the
    path.

    Tiles are numbered row by row: `read_layout(path).tile(pixels, row * columns + column)`.
    Errors: shapes that do not belong together, NaNs (the standard deviation of a single draw), an
    ending other than .png.
    """
    seen = to_pixels(observed)
    count, height, width = seen.shape[:3]
    event = (count, np.shape(observed)[1] if np.ndim(observed) == 4 else 1, height, width)
    shape = tuple(np.shape(draws))
    if (
        np.ndim(observed) != 4
        or len(shape) != 5
        or (shape[0], *shape[2:]) != event
        or shape[1] == 0
    ):
        raise InputError(
            "need observed (K, C, H, W) and draws (K, D, C, H, W), D >= 1; got "
            f"{tuple(np.shape(observed))} and {shape}"
        )
    for name, value in (("truth", truth), ("mean", mean), ("std", std)):
        if value is not None and tuple(np.shape(value)) != event:
            raise InputError(
                f"{name} must have observed's shape {event}; got {tuple(np.shape(value))}"
            )
    known = as_array(mask, "mask")
    try:
        known = np.broadcast_to(known != 0, event).transpose(0, 2, 3, 1)
    except ValueError as error:
        raise InputError(
            f"mask must broadcast against {event}, e.g. ({height}, {width}); got {known.shape}"
        ) from error

    number = shape[1]
    columns = [("truth", to_pixels(truth))] if truth is not None else []
    at = len(columns)
    columns.append(("observed", seen))
    flat = to_pixels(np.reshape(as_array(draws, "draws"), (count * number, *event[1:]))).reshape(
        count, number, height, width, -1
    )
    columns += [(f"draw {d + 1}", flat[:, d]) for d in range(number)]
    columns.append(("mean", to_pixels(mean)))
    note = "Hatched: unknown pixels."
    if std is not None:
        spread = np.sqrt(np.square(as_array(std, "std").astype(np.float64)).mean(axis=1))
        top = float(spread.max()) or 1.0
        columns.append(("std. dev.", _coloured(spread, top)))
        note += f" Standard deviation over the draws ({number} shown): scale at the right, in units of intensity (black 0, white 1)."

    tiles = np.stack(
        [np.broadcast_to(c, (count, height, width, 3)) for _, c in columns], axis=1
    ).reshape(-1, height, width, 3)
    layout = layout_of(tiles, len(columns), 6, scale, side=84)
    body = arrange(tiles, layout)
    s = layout.scale
    for row in range(count):
        window = layout.window(row * len(columns) + at)
        unknown = ~known[row].repeat(s, axis=0).repeat(s, axis=1)
        body[window] = _hatched(body[window], np.broadcast_to(unknown, body[window].shape))
    return _finish(
        path, body, layout, [name for name, _ in columns], None if std is None else top, title, note
    )


def _finish(
    path: str | os.PathLike[str],
    body: np.ndarray,
    layout: Layout,
    names: list[str],
    top: float | None,
    title: str,
    note: str,
) -> Path:
    """Column titles, colour bar, title and caption around the tiles, and the file."""
    step = layout.width * layout.scale + layout.pad
    heads = np.full((24, body.shape[1], 3), 255, dtype=np.uint8)
    for column, name in enumerate(names):
        # Narrow tiles get smaller type: DejaVu Sans is about 0.62 of its size wide.
        size = max(7, min(12, int(step / (0.62 * len(name)))))
        label = draw_text(name, step + 200, size, centre=True, margin=2)[
            :, 100:-100
        ]  # drawn wide: a long word must not wrap
        left = layout.pad // 2 + column * step
        heads[-len(label) :, left : left + step] = label[-24:, : heads.shape[1] - left]
    if top is not None:
        body = np.concatenate([body, _colour_bar(len(body), top)], axis=1)
    width = max(body.shape[1], 260)
    above = [*([draw_text(title, width, 14)] if title else []), heads]
    picture = stack([*above, body, draw_text(note, width, 11)])
    layout = Layout(**{**asdict(layout), "top": sum(len(part) for part in above)})
    return save_png(
        path,
        picture,
        {
            "layout": asdict(layout),
            "columns": names,
            **({} if top is None else {"std_scale": [0.0, top]}),
        },
    )
