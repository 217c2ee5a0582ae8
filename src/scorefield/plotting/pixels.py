"""Numbers as pixels of 8 bits.

    intensity   x in [0, 1]; stored whole numbers k have x = k / (levels - 1)
    pixel       p = floor(256 (x - low) / (high - low)) clipped to 0 ... 255

With low = 0 and high = 1 this is the inverse of (k + u) / 256 and of k / 255. Pictures of another
depth are shown at 8 bits; a screen shows no more.
"""

import numpy as np
import torch

from .. import units
from ..errors import InputError
from ..values import whole
from .files import Array, Values, as_array
from .palette import SEQUENTIAL

Intensity = tuple[float, float]  # shown as black, shown as white
WHOLE_RANGE: Intensity = (0.0, 1.0)
STORED_LEVELS = {"uint8": 256, "uint16": 65536}
CHANNELS = {1: "grey", 2: "grey and alpha", 3: "RGB", 4: "RGB and alpha"}
CHECKS = (215, 165)  # greys of the checkerboard behind transparent pixels


def _intensities(images: Values, levels: int | None) -> Array:
    """Images as (N, H, W, C), floats in [0, 1]; uint8 of 256 levels and bools stay as they are."""
    array = as_array(images, "images")
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or array.shape[1] not in CHANNELS or array.size == 0:
        raise InputError(
            "images must have shape (N, C, H, W), or (N, H, W) for grey ones, and not be empty, "
            f"with C = 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha); got "
            f"{np.shape(images)}"
        )
    array = array.transpose(0, 2, 3, 1)
    if array.dtype.kind not in "iu":
        return array
    levels = STORED_LEVELS.get(array.dtype.name) if levels is None else whole(levels, "levels", 2)
    if levels is None:
        raise InputError(
            f"images of whole numbers need levels=, the number of their values; got "
            f"{array.dtype}. Pass levels=256 for values 0 to 255, or floats in [0, 1]"
        )
    if array.min() < 0 or array.max() >= levels:
        raise InputError(
            f"images of {levels} levels hold 0 to {levels - 1}; got {array.min()} to {array.max()}"
        )
    if array.dtype == np.uint8 and levels == 256:
        return array
    return array / (levels - 1)


def shown_intensity(*groups: Values | None, levels: int | None = None) -> Intensity:
    """Choose the intensities that are drawn as black and as white, so that dark data can be seen.

    Pictures that use little of [0, 1] are stretched: to their own range where 99.8 % of the values
    lie within a quarter of it, and to [0, high] where they are below one half. Others are not.

    Args:
        groups: Images as `to_pixels` takes them; None is left out.
        levels: Number of stored values of whole numbers.

    Returns:
        Black and white; (0, 1) where nothing is stretched.
    """
    values = [_intensities(group, levels) for group in groups if group is not None]
    if any(v.dtype.kind == "b" for v in values):
        return WHOLE_RANGE
    colours = [v[..., : v.shape[-1] - (v.shape[-1] in (2, 4))] for v in values]
    every = np.concatenate(
        [(c / 255 if c.dtype == np.uint8 else c).ravel().astype(np.float64) for c in colours]
    )
    low, high = (float(q) for q in np.quantile(every.clip(0, 1), [0.001, 0.999]))
    low = 0.0 if low < 0.05 * high else low
    if 0 < high - low < 0.25:
        return low, high
    if low < high < 0.5:
        return 0.0, high
    return WHOLE_RANGE


def intensity_note(intensity: Intensity) -> str:
    """State the stretch of the intensities; nothing is stated where there is none."""
    if intensity == WHOLE_RANGE:
        return ""
    low, high = intensity
    return f"Contrast stretched: black is {low:.3g}, white {high:.3g}, of intensities from 0 to 1."


def _over_checks(pixels: Array) -> Array:
    """Draw uint8 (N, H, W, C + alpha) over a checkerboard: uint8 (N, H, W, C)."""
    height, width = pixels.shape[1:3]
    cell = max(1, round(min(height, width) / 8))
    y, x = np.indices((height, width)) // cell
    board = np.where((x + y) % 2 == 0, *CHECKS)[..., None].astype(np.float64)
    share = pixels[..., -1:] / 255.0
    mixed = share * pixels[..., :-1] + (1 - share) * board
    return mixed.round().astype(np.uint8)


def to_pixels(
    images: Values, levels: int | None = None, intensity: Intensity = WHOLE_RANGE
) -> Array:
    """Convert images to uint8 pixels with channels last.

    Args:
        images: (N, C, H, W) or (N, H, W). C is 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and
            alpha). Floats are intensities in [0, 1]; bools become 0 and 255; whole numbers are
            stored values 0 to levels - 1.
        levels: Number of stored values of whole numbers; None: 256 for uint8, 65536 for uint16.
        intensity: Intensities that are drawn black and white.

    Returns:
        uint8 (N, H, W, 1 or 3). Alpha is drawn over a checkerboard of two greys.

    Raises:
        InputError: For other shapes, values that are not finite, and whole numbers of unknown
            levels or beyond them.
    """
    array = _intensities(images, levels)
    low, high = intensity
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype != np.uint8 or intensity != WHOLE_RANGE:
        if array.dtype == np.uint8:
            array = array / 255
        if intensity != WHOLE_RANGE:
            alpha = array.shape[-1] in (2, 4)
            colour = array[..., : array.shape[-1] - alpha]
            stretched = (colour - low) / ((high - low) or 1.0)
            array = np.concatenate([stretched, array[..., array.shape[-1] - alpha :]], axis=-1)
        array = units.quantise(torch.from_numpy(array), 256).to(torch.uint8).numpy()
    return _over_checks(array) if array.shape[-1] in (2, 4) else array


def coloured(values: Array, low: float, high: float) -> Array:
    """Map numbers in [low, high] to viridis: uint8 (..., 3)."""
    from matplotlib import colormaps

    share = (values - low) / ((high - low) or 1.0)
    return (colormaps[SEQUENTIAL](share)[..., :3] * 255).round().astype(np.uint8)
