"""GIFs of image grids, for example of samples forming over the noise levels.

GIF counts time in hundredths of a second, so a frame lasts max(2, round(100 / fps)) of them. The
last frame lasts `hold` times as long. Consecutive equal frames are stored once, with their times
added. Grey frames are stored exactly; colour frames are reduced to 256 colours each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..files import write_atomically
from ..values import items, number, whole
from .files import Array, PathLike, check_suffix
from .images import NARROWEST, stack
from .layout import GAP, arrange, layout_of
from .pixels import intensity_note, shown_intensity, to_pixels
from .text import draw_text

SIDE = 112  # pixels: the usual side of an enlarged image; more would make large files

if TYPE_CHECKING:
    from PIL.Image import Image


def _check_frames(frames: Any, hold: int, fps: float, captions: Sequence[Any] | None) -> None:
    shapes = [tuple(np.shape(frame)) for frame in frames]
    count = len(shapes)
    if count == 0 or len(shapes[0]) != 4 or len(set(shapes)) > 1:
        raise InputError(
            f"frames must have shape (F, N, C, H, W), F >= 1; got {count} frames of shape "
            f"{', '.join(map(str, sorted(set(shapes))))}"
        )
    if hold < 1 or not 0 < fps <= 50:
        raise InputError(
            "need hold >= 1 and 0 < fps <= 50 (GIF players slow down above 50); got "
            f"hold={hold}, fps={fps:g}"
        )
    if captions is not None and len(captions) != count:
        raise InputError(f"captions must be one a frame, {count}; got {len(captions)}")


def _strips(captions: Sequence[str | float], width: int) -> list[Array]:
    """The captions as pictures of one height."""
    texts = [c if isinstance(c, str) else f"σ = {float(c):.3g}" for c in captions]
    strips = [draw_text(text, width, 14, centre=True) for text in texts]
    height = max(len(strip) for strip in strips)
    return [np.pad(s, ((0, height - len(s)), (0, 0), (0, 0)), constant_values=255) for s in strips]


def _picture(parts: list[Array], channels: int) -> "Image":
    """One frame as a PIL image: caption, grid and note, stacked."""
    from PIL import Image

    picture = stack(parts)[..., :channels] if len(parts) > 1 else parts[0]
    if channels == 1:
        return Image.fromarray(picture[..., 0])
    return Image.fromarray(picture).quantize(256)


def save_animation(
    path: PathLike,
    frames: Any,
    hold: int = 12,
    fps: float = 12,
    captions: Sequence[str | float] | None = None,
    columns: int | None = None,
    pad: int = 2,
    scale: int | None = None,
    group: int | None = None,
) -> Path:
    """Write frames of images as a GIF that loops.

    Where the last frame is dark, the contrast of all frames is stretched by `shown_intensity`,
    and a note below states it.

    Args:
        path: A file name that ends in .gif.
        frames: (F, N, C, H, W) or a sequence of (N, C, H, W), as `to_pixels` takes them.
        hold: How many frame times the last frame lasts, 1 or more.
        fps: Frames a second, at most 50.
        captions: One a frame, drawn above the grid: a text, or a number, which is a sigma.
        columns: Images in a row; None chooses a grid a little wider than high.
        pad: Pixels between images.
        scale: Whole enlargement factor; None enlarges small images to about 112 pixels.
        group: Columns that stand together, with gaps between groups; None: all.

    Returns:
        The path.

    Raises:
        InputError: If shapes, the number of captions or the ending are wrong.
    """
    path = check_suffix(path, (".gif",))
    hold, fps = whole(hold, "hold"), number(fps, "fps")
    if not hasattr(frames, "shape"):  # an array of frames may be mapped from a file
        frames = items(frames, "frames", "a sequence of images")
    captions = None if captions is None else items(captions, "captions")
    _check_frames(frames, hold, fps, captions)
    count = len(frames)
    intensity = shown_intensity(frames[count - 1])
    layout = layout_of(to_pixels(frames[0]), columns, pad, scale, SIDE)
    if group is not None:
        layout = replace(layout, group=whole(group, "group", 1), gap=GAP)

    note, width = intensity_note(intensity), max(layout.size[1], NARROWEST)
    above = [[]] * count if captions is None else [[s] for s in _strips(captions, width)]
    below = [draw_text(note, width, 11, centre=True)] if note else []

    def pictures() -> "Iterator[Image]":
        for f in range(count):
            body = arrange(to_pixels(frames[f], intensity=intensity), layout)
            yield _picture([*above[f], body, *below], body.shape[-1])

    tick = 10 * max(2, round(100 / fps))
    images = pictures()
    opening = next(images)
    return write_atomically(
        path,
        lambda file: opening.save(
            file,
            format="GIF",
            save_all=True,
            append_images=images,
            duration=[tick] * (count - 1) + [tick * hold],
            loop=0,
            optimize=False,
        ),
    )
