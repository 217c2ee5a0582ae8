"""The restoration sheet: truth, observation, draws of the restoration, their mean and spread.

Each row is one input. The columns are truth, observed (unknown pixels hatched), D draws, mean and
standard deviation. The standard deviation (root mean square over channels) is coloured with
viridis on one scale for all rows, which is drawn at the right.
"""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from .files import Array, PathLike, Values, as_array, save_png
from .images import Layout, arrange, coloured, draw_text, layout_of, stack, to_pixels

# Blue-greys: grey images cannot be mistaken for hatching.
HATCH = np.array([[96, 116, 150], [160, 178, 208]], dtype=np.uint8)
BAR = 78  # pixels right of the sheet for the colour bar and its numbers


def _colour_bar(height: int, top: float) -> Array:
    """A vertical scale from 0 (below) to `top` (above), uint8 (height, BAR, 3)."""
    out = np.full((height, BAR, 3), 255, dtype=np.uint8)
    edge = 8
    length = min(height - 2 * edge, 260)
    out[edge : edge + length, 8:22] = coloured(np.linspace(top, 0, length), 0, top)[:, None]
    for share in (1.0, 0.5, 0.0) if length > 60 else (1.0, 0.0):
        label = draw_text(f"{share * top:.2g}", BAR - 26, 11, margin=1)
        y = round(edge + (1 - share) * (length - 1))
        out[y, 22:25] = 30
        start = min(max(0, y - len(label) // 2), height - len(label))
        out[start : start + len(label), 26:] = label
    return out


def _hatched(enlarged: Array, unknown: Array) -> Array:
    """An enlarged image (h, w, 3) with diagonal stripes where `unknown` (h, w, 3) holds."""
    y, x = np.indices(enlarged.shape[:2])
    return np.where(unknown, HATCH[(x + y) // 3 % 2], enlarged)


def _check_shapes(observed: Values, draws: Values, others: dict[str, Values | None]) -> None:
    seen, shape = tuple(np.shape(observed)), tuple(np.shape(draws))
    if len(seen) != 4 or len(shape) != 5 or (shape[0], *shape[2:]) != seen or shape[1] == 0:
        raise InputError(
            f"need observed (K, C, H, W) and draws (K, D, C, H, W), D >= 1; got {seen} and {shape}"
        )
    for name, value in others.items():
        if value is not None and tuple(np.shape(value)) != seen:
            raise InputError(
                f"{name} must have observed's shape {seen}; got {tuple(np.shape(value))}"
            )


def _known(mask: Values, event: tuple[int, ...]) -> Array:
    """The mask as bool (K, H, W, C)."""
    known = as_array(mask, "mask")
    try:
        return np.broadcast_to(known != 0, event).transpose(0, 2, 3, 1)
    except ValueError as error:
        raise InputError(
            f"mask must broadcast against {event}, e.g. ({event[2]}, {event[3]}); got {known.shape}"
        ) from error


def save_inpainting(
    path: PathLike,
    truth: Values | None,
    observed: Values,
    mask: Values,
    draws: Values,
    mean: Values,
    std: Values | None,
    scale: int | None = None,
    title: str = "",
) -> Path:
    """Write the sheet as a PNG whose tiles are numbered row by row.

    `read_layout(path).tile(pixels, row * columns + column)` returns the pixels of one tile.

    Args:
        path: a file name that ends in .png.
        truth: (K, C, H, W) in data units, or None: no such column.
        observed: (K, C, H, W) in data units.
        mask: 1 or True where a pixel is known; any shape that broadcasts against (K, C, H, W).
        draws: (K, D, C, H, W) in data units.
        mean: (K, C, H, W), mean of the draws.
        std: (K, C, H, W), standard deviation of the draws, or None: no such column.
        scale: whole enlargement factor; by default a tile is about 84 pixels wide.
        title: shown above the sheet.

    Returns:
        The path.

    Raises:
        InputError: if shapes do not belong together, values are not finite (the standard
            deviation of a single draw), or the ending is wrong.
    """
    _check_shapes(observed, draws, {"truth": truth, "mean": mean, "std": std})
    seen = to_pixels(observed)
    count, height, width, channels = seen.shape
    known = _known(mask, (count, channels, height, width))
    number = np.shape(draws)[1]
    columns = [] if truth is None else [("truth", to_pixels(truth))]
    observed_column = len(columns)
    columns.append(("observed", seen))
    flat = to_pixels(as_array(draws, "draws").reshape(-1, channels, height, width))
    flat = flat.reshape(count, number, height, width, -1)
    columns += [(f"draw {d + 1}", flat[:, d]) for d in range(number)]
    columns.append(("mean", to_pixels(mean)))
    note, top = "Hatched: unknown pixels.", None
    if std is not None:
        spread = np.sqrt(np.square(as_array(std, "std").astype(np.float64)).mean(axis=1))
        top = float(spread.max()) or 1.0
        columns.append(("std. dev.", coloured(spread, 0, top)))
        note += (
            f" Standard deviation over the draws ({number} shown): scale at the right, in units of "
            "intensity (black 0, white 1)."
        )
    tiles = np.stack([np.broadcast_to(c, (count, height, width, 3)) for _, c in columns], axis=1)
    tiles = tiles.reshape(-1, height, width, 3)
    layout = layout_of(tiles, len(columns), 6, scale, side=84)
    body = arrange(tiles, layout)
    s = layout.scale
    for row in range(count):
        window = layout.window(row * len(columns) + observed_column)
        unknown = ~known[row].repeat(s, axis=0).repeat(s, axis=1)
        body[window] = _hatched(body[window], np.broadcast_to(unknown, body[window].shape))
    return _finish(path, body, layout, [name for name, _ in columns], top, title, note)


def _finish(
    path: PathLike,
    body: Array,
    layout: Layout,
    names: list[str],
    top: float | None,
    title: str,
    note: str,
) -> Path:
    """Add column titles, colour bar, title and caption to the tiles, and write the file."""
    step = layout.width * layout.scale + layout.pad
    heads = np.full((24, body.shape[1], 3), 255, dtype=np.uint8)
    for column, name in enumerate(names):
        # Narrow tiles get smaller type: DejaVu Sans is about 0.62 of its size wide.
        size = max(7, min(12, int(step / (0.62 * len(name)))))
        # Drawn 200 pixels wider and cut: a long word must not wrap.
        label = draw_text(name, step + 200, size, centre=True, margin=2)[:, 100:-100]
        left = layout.pad // 2 + column * step
        heads[-len(label) :, left : left + step] = label[-24:, : heads.shape[1] - left]
    if top is not None:
        body = np.concatenate([body, _colour_bar(len(body), top)], axis=1)
    width = max(body.shape[1], 260)
    above = [*([draw_text(title, width, 14)] if title else []), heads]
    picture = stack([*above, body, draw_text(note, width, 11)])
    layout = replace(layout, top=sum(len(part) for part in above))
    scales = {} if top is None else {"std_scale": [0.0, top]}
    return save_png(path, picture, {"layout": asdict(layout), "columns": names, **scales})
