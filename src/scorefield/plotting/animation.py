"""GIFs of image grids, for example of samples forming over the noise levels.

GIF counts time in hundredths of a second, so a frame lasts max(2, round(100 / fps)) of them. The
last frame lasts `hold` times as long. Consecutive equal frames are stored once, with their times
added. Grey frames are stored exactly; colour frames are reduced to 256 colours each.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..files import write_atomically
from .files import PathLike, Values, check_suffix
from .images import Layout, arrange, draw_text, layout_of, stack, to_pixels

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


def _picture(frame: Values, layout: Layout, caption: str | float | None) -> "Image":
    """One frame as a PIL image, with its caption above the grid."""
    from PIL import Image

    picture = arrange(to_pixels(frame), layout)
    if caption is not None:
        text = caption if isinstance(caption, str) else f"σ = {float(caption):.3g}"
        channels = picture.shape[-1]
        picture = stack([draw_text(text, picture.shape[1], 14), picture])[..., :channels]
    if picture.shape[-1] == 1:
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
) -> Path:
    """Write frames of images as a GIF that loops.

    Args:
        path: a file name that ends in .gif.
        frames: (F, N, C, H, W) or a sequence of (N, C, H, W), C = 1 or 3, in data units.
        hold: how many frame times the last frame lasts, 1 or more.
        fps: frames a second, at most 50.
        captions: one a frame, drawn above the grid: a text, or a number, which is a sigma.
        columns: images in a row; by default the grid is about square.
        pad: pixels between images.
        scale: whole enlargement factor; by default small images become about 56 pixels wide.

    Returns:
        The path.

    Raises:
        InputError: if shapes, the number of captions or the ending are wrong.
    """
    path = check_suffix(path, (".gif",))
    _check_frames(frames, hold, fps, captions)
    count = len(frames)
    layout = layout_of(to_pixels(frames[0]), columns, pad, scale)

    def pictures() -> "Iterator[Image]":
        for f in range(count):
            yield _picture(frames[f], layout, None if captions is None else captions[f])

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
