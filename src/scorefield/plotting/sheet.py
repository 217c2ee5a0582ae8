"""The restoration sheet: truth, observation, draws of the restoration, their mean and spread.

Each row is one input. The columns are truth, observed (unknown pixels hatched), D draws, mean and
standard deviation. The standard deviation is coloured with viridis on one scale for all rows, which
is drawn at the right; that of a colour picture is the root mean square over its channels.
"""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from .files import Array, PathLike, Values, as_array, save_png
from .images import stack
from .layout import Layout, arrange, enlarge, layout_of
from .pixels import coloured, intensity_note, shown_intensity, to_pixels
from .text import draw_text, shorten, text_width

# Blue-greys: grey images cannot be mistaken for hatching.
HATCH = np.array([[96, 116, 150], [160, 178, 208]], dtype=np.uint8)
BAR = 84  # pixels right of the sheet for the colour bar and its numbers
SIDE = 96  # pixels: the usual side of a tile
LEAST_WIDTH = 420  # pixels of a sheet with its title and caption


def _colour_bar(height: int, top: float) -> Array:
    """A vertical scale from 0 (below) to `top` (above), uint8 (height, BAR, 3)."""
    out = np.full((height, BAR, 3), 255, dtype=np.uint8)
    edge = 8
    length = min(height - 2 * edge, 260)
    out[edge : edge + length, 8:22] = coloured(np.linspace(top, 0, length), 0, top)[:, None]
    shares = (1.0, 0.5, 0.0) if length > 60 else (1.0, 0.0)
    for share in shares:
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


def _check_shapes(
    draws: Values, observed: Values | None, mask: Values | None, others: dict[str, Values | None]
) -> tuple[int, ...]:
    """The shape (K, C, H, W) of a column, checked."""
    shape = tuple(np.shape(draws))
    seen = (shape[0], *shape[2:]) if observed is None else tuple(np.shape(observed))
    if len(shape) != 5 or shape[1] == 0 or len(seen) != 4 or seen[0] != shape[0]:
        raise InputError(
            f"need observed (K, C, H, W) and draws (K, D, C, H, W), D >= 1; got {seen} and {shape}"
        )
    event = (shape[0], *shape[2:])
    if mask is not None and seen != event:
        raise InputError(f"with a mask observed must have the draws' shape {event}; got {seen}")
    for name, value in others.items():
        if value is not None and tuple(np.shape(value)) != event:
            raise InputError(
                f"{name} must have the draws' shape {event}; got {tuple(np.shape(value))}"
            )
    return event


def _known(mask: Values, event: tuple[int, ...]) -> Array:
    """The mask as bool (K, H, W, C)."""
    known = as_array(mask, "mask")
    try:
        return np.broadcast_to(known != 0, event).transpose(0, 2, 3, 1)
    except ValueError as error:
        raise InputError(
            f"mask must broadcast against {event}, e.g. ({event[2]}, {event[3]}); got {known.shape}"
        ) from error


def _as_tile(pixels: Array, height: int, width: int) -> Array:
    """Pixels (K, h, w, C) of another size as tiles: enlarged by a whole factor, white around."""
    factor = max(1, min(height // pixels.shape[1], width // pixels.shape[2]))
    whole = enlarge(pixels, factor)[:, :height, :width]
    down, across = height - whole.shape[1], width - whole.shape[2]
    return np.pad(whole, ((0, 0), (0, down), (0, across), (0, 0)), constant_values=255)


def save_inpainting(
    path: PathLike,
    truth: Values | None,
    observed: Values | None,
    mask: Values | None,
    draws: Values,
    mean: Values,
    std: Values | None,
    scale: int | None = None,
    title: str = "",
    levels: int | None = None,
) -> Path:
    """Write the sheet as a PNG whose tiles are numbered row by row.

    `read_layout(path).tile(pixels, row * columns + column)` returns the pixels of one tile. The
    contrast of dark pictures is stretched, and the caption states it.

    Args:
        path: A file name that ends in .png.
        truth: (K, C, H, W) in data units, or None: no such column.
        observed: (K, C, H, W) in data units. Without a mask its size may be another one. None: no
            such column, and no mask.
        mask: 1 or True where a pixel is known; any shape that broadcasts against (K, C, H, W).
            None: the observation is no part of the picture, such as a blurred one.
        draws: (K, D, C, H, W) in data units.
        mean: (K, C, H, W), mean of the draws.
        std: (K, C, H, W), standard deviation of the draws, or None: no such column.
        scale: Whole enlargement factor; None makes a tile about 96 pixels wide.
        title: Shown above the sheet, such as the file's and the model's name.
        levels: Number of stored values of whole numbers; None: 256 for uint8, 65536 for uint16.

    Returns:
        The path.

    Raises:
        InputError: If shapes do not belong together, values are not finite (the standard
            deviation of a single draw), or the ending is wrong.
    """
    event = _check_shapes(draws, observed, mask, {"truth": truth, "mean": mean, "std": std})
    count, channels, height, width = event
    number = np.shape(draws)[1]
    each = as_array(draws, "draws").reshape(-1, channels, height, width)
    # An observation without a mask may have a scale of its own; the draws decide.
    shown = [truth, observed if mask is not None else None, each, mean]
    intensity = shown_intensity(*shown, levels=levels)

    def pixels(values: Values) -> Array:
        found = to_pixels(values, levels, intensity)
        return np.broadcast_to(found, (*found.shape[:3], 3))

    columns = [] if truth is None else [("truth", pixels(truth))]
    observed_column = len(columns)
    if observed is not None:
        columns.append(("observed", _as_tile(pixels(observed), height, width)))
    flat = pixels(each).reshape(count, number, height, width, 3)
    columns += [(f"draw {d + 1}", flat[:, d]) for d in range(number)]
    columns.append(("mean", pixels(mean)))
    notes, top = ["Hatched: unknown pixels."] if mask is not None else [], None
    notes.append(intensity_note(intensity))
    if std is not None:
        spread = np.sqrt(np.square(as_array(std, "std").astype(np.float64)).mean(axis=1))
        top = float(spread.max()) or 1.0
        columns.append(("std. dev.", coloured(spread, 0, top)))
        notes.append(_deviation_note(number, channels))
    tiles = np.stack([column for _, column in columns], axis=1).reshape(-1, height, width, 3)
    layout = layout_of(tiles, len(columns), 6, scale, side=SIDE)
    body = arrange(tiles, layout)
    if mask is not None and observed is not None:
        known = _known(mask, event)
        for row in range(count):
            window = layout.window(row * len(columns) + observed_column)
            unknown = enlarge(~known[row], layout.scale)
            body[window] = _hatched(body[window], np.broadcast_to(unknown, body[window].shape))
    note = " ".join(filter(None, notes))
    return _finish(path, body, layout, [name for name, _ in columns], top, title, note)


def _deviation_note(draws: int, channels: int) -> str:
    """The standard deviation of the last column in words."""
    over = ", root mean square over the colour channels" if channels > 2 else ""
    return (
        f"Standard deviation over the draws ({draws} shown){over}: scale at the right, in units of "
        "intensity (0 to 1)."
    )


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
    longest = max(text_width(name, 1) for name in names)
    size = max(7, min(12, int((step - 6) / longest)))
    heads = np.full((24, body.shape[1], 3), 255, dtype=np.uint8)
    for column, name in enumerate(names):
        label = draw_text(shorten(name, step - 4, size), step, size, centre=True, margin=2)
        left = layout.pad // 2 + column * step
        heads[-len(label) :, left : left + step] = label[-24:, : heads.shape[1] - left]
    if top is not None:
        body = np.concatenate([body, _colour_bar(len(body), top)], axis=1)
        heads = np.pad(heads, ((0, 0), (0, BAR), (0, 0)), constant_values=255)
    width = max(body.shape[1], LEAST_WIDTH)
    above = [*([draw_text(title, width, 14)] if title else []), heads]
    picture = stack([*above, body, draw_text(note, width, 11)])
    layout = replace(
        layout, top=sum(len(part) for part in above), left=(width - body.shape[1]) // 2
    )
    scales = {} if top is None else {"std_scale": [0.0, top]}
    return save_png(path, picture, {"layout": asdict(layout), "columns": names, **scales})
