"""Samples forming over the levels, as a GIF.

GIF counts time in hundredths of a second, so a frame lasts max(2, round(100 / fps)) of them; the
last one `hold` times as long. Consecutive
frames without a difference are stored once with their times added. Grey frames are exact; colour
frames are reduced to 256 colours each.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .files import check_suffix, write_atomically
from .images import arrange, draw_text, layout_of, stack, to_pixels


def save_animation(
    path: str | os.PathLike[str],
    frames: Any,
    hold: int = 12,
    fps: float = 12,
    captions: Sequence[str | float] | None = None,
    columns: int | None = None,
    pad: int = 2,
    scale: int | None = None,
) -> Path:
    """A GIF of grids from frames (F, N, C, H, W), or a sequence of (N, C, H, W), C 1 or 3, in data
    units; it loops. Returns the path.

    hold: how many frame times the last frame stays; captions: one a frame, drawn above the grid: a
    text, or a number, which is sigma.
    Errors: shapes, captions of another count, an ending other than .gif.
    """
    path = check_suffix(path, (".gif",))
    shapes = [tuple(np.shape(frame)) for frame in frames]
    count = len(shapes)
    if count == 0 or len(shapes[0]) != 4 or len(set(shapes)) > 1:
        raise InputError(
            f"frames must have shape (F, N, C, H, W), F >= 1; got {count} frames of shape "
            f"{', '.join(map(str, sorted(set(shapes))))}"
        )
    if hold < 1 or not 0 < fps <= 50:
        raise InputError(
            f"need hold >= 1 and 0 < fps <= 50 (GIF players slow down beyond); got hold={hold}, "
            f"fps={fps:g}"
        )
    if captions is not None and len(captions) != count:
        raise InputError(f"captions must be one a frame, {count}; got {len(captions)}")
    first = to_pixels(frames[0])
    layout = layout_of(first, columns, pad, scale)

    def pictures() -> Iterator[Any]:
        from PIL import Image

        for f in range(count):
            picture = arrange(to_pixels(frames[f]), layout)
            if captions is not None:
                caption = captions[f]
                text = caption if isinstance(caption, str) else f"σ = {float(caption):.3g}"
                picture = stack([draw_text(text, picture.shape[1], 14), picture])[
                    ..., : picture.shape[-1]
                ]
            if picture.shape[-1] == 1:
                yield Image.fromarray(picture[..., 0])
            else:
                yield Image.fromarray(picture).quantize(256)

    tick = 10 * max(2, round(100 / fps))
    durations = [tick] * (count - 1) + [tick * hold]
    images = pictures()
    opening = next(images)
    return write_atomically(
        path,
        lambda file: opening.save(
            file,
            format="GIF",
            save_all=True,
            append_images=images,
            duration=durations,
            loop=0,
            optimize=False,
        ),
    )
