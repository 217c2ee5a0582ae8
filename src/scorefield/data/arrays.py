"""How an array becomes examples: its axes, its type, its range, and whether it holds images.

The dimensions of an array are read as follows:

    (N, d)                        examples (d,): a table or vectors; with channels=1 signals (1, d)
    (N, H, W)                     examples (1, H, W): fields; with channels=H signals (H, W)
    (N, 1, L)                     examples (1, L): signals
    (N, C, H, W)                  examples (C, H, W): fields
    (N, H, W, C)                  examples (C, H, W): fields, where C is 1 or 3 and H is neither, or
                                  with channels=C
    (N, D, H, W), channels=1      examples (1, D, H, W): volumes
    (N, C, D, H, W), or C last    examples (C, D, H, W): volumes

Fields with one or three channels are *images* where their values are uint8 (256 quantisation
levels) or floats in [0, 1]; the argument `image` decides otherwise. Other data keep their own units
in float32 or float64. Whole numbers become the smaller of the two that holds them exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from .statistics import blocks

PICTURE_CHANNELS = (1, 3)
# Floats of an image's shape are ambiguous if at most this fraction lies outside [0, 1]: images with
# a few overshoots, or a field that is mostly small.
AMBIGUOUS_FRACTION = 0.01
LABELS_KEPT = 1000  # whole-number labels below this keep their values even where some are unused


def arrange(shape: Sequence[int], channels: int | None, name: str) -> tuple[int | None, int | None]:
    """Where the channels of an array (N, ...) are, by the module's table.

    Returns:
        (axis of the channels, axis at which to insert one); (None, None) for a table.

    Raises:
        InputError: `channels` fits no axis.
    """
    n = len(shape)
    if channels is None:
        if n == 2:
            return None, None
        if n == 3:
            return 1, None if shape[1] == 1 else 1
        last = shape[-1] in PICTURE_CHANNELS and shape[1] not in PICTURE_CHANNELS
        return (n - 1, None) if last else (1, None)
    if n > 2 and channels == shape[1]:
        return 1, None
    if n > 3 and channels == shape[-1]:
        return n - 1, None
    if channels == 1 and n < 5:
        return 1, 1
    fix = "give the length of its channel axis, or leave it out"
    raise InputError(
        f"{name}: channels={channels} fits no axis of an array of shape {tuple(shape)}; {fix}"
    )


def row_bytes(values: Tensor) -> int:
    """Bytes of one example."""
    return values[0].numel() * values.element_size()


def to_float(values: Tensor, name: str) -> Tensor:
    """float32 and float64 as they are; other real types in the smaller of the two that is exact.

    Raises:
        InputError: Whole numbers beyond 2^53 that float64 does not hold.
    """
    if values.dtype in (torch.float32, torch.float64):
        return values
    if values.is_floating_point() or values.element_size() <= 2 or values.dtype == torch.bool:
        return values.to(torch.float32)
    low, high = int(values.min()), int(values.max())
    if low >= -(1 << 24) and high <= 1 << 24:
        return values.to(torch.float32)
    wide = values.to(torch.float64)
    if (low < -(1 << 53) or high > 1 << 53) and not torch.equal(wide.to(values.dtype), values):
        raise InputError(
            f"{name}: whole numbers from {low} to {high} have more digits than float64 holds "
            "(2^53). Subtract an offset, or use a coarser unit, so that they are smaller"
        )
    return wide


@dataclass(frozen=True)
class Range:
    """Smallest and largest value, and how many values lie outside [0, 1]."""

    low: float
    high: float
    outside: int


def find_range(values: Tensor, name: str) -> Range:
    """The range of the values; an InputError that names the first row with a NaN or an infinity."""
    low, high, outside = float("inf"), float("-inf"), 0
    for part in blocks(len(values), row_bytes(values)):
        block = values[part]
        finite = torch.isfinite(block)
        if not bool(finite.all()):
            row, *place = (~finite).nonzero()[0].tolist()
            found = float(block[(row, *place)])
            raise InputError(
                f"{name}: row {part.start + row} (from 0) holds {found} at {place}; every value "
                "must be finite. Drop or fill such rows"
            )
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        outside += int(((block < 0) | (block > 1)).sum())
    return Range(low, high, outside)


def check_array(values: Tensor, name: str) -> None:
    """Raise for arrays that are empty, complex, or of an unusable number of dimensions."""
    if not 2 <= values.ndim <= 5:
        fix = ". One column? Use x[:, None]" if values.ndim == 1 else ""
        raise InputError(
            f"{name}: need 2 to 5 dimensions, the first counting the examples; got shape "
            f"{tuple(values.shape)}{fix}"
        )
    if values.numel() == 0:
        raise InputError(
            f"{name}: the array is empty, shape {tuple(values.shape)}; at least one example of at "
            "least one element is needed"
        )
    if values.is_complex():
        raise InputError(
            f"{name}: complex numbers are not supported; give real and imaginary parts as two "
            "channels"
        )


def image_by_argument(values: Tensor, image: bool, name: str) -> Tensor:
    """The values where `image` was given: whole numbers 0 .. 255 of an image become uint8."""
    if not image:
        return values
    if values.ndim != 4 or values.shape[1] not in PICTURE_CHANNELS:
        raise InputError(
            f"{name}: image=True needs examples (1 or 3, height, width); got "
            f"{tuple(values.shape[1:])}. Give channels= for another layout, or image=False"
        )
    if values.is_floating_point() or values.dtype in (torch.uint8, torch.bool):
        return values
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 255:
        raise InputError(
            f"{name}: whole-number images need values 0 to 255; got {low} to {high}. Divide by the "
            "largest possible value to give floats in [0, 1]"
        )
    return values.to(torch.uint8)


def decide_image(values: Tensor, found: Range, image: bool | None, name: str) -> tuple[bool, str]:
    """Whether floats (N, *event) are images, and why."""
    shape = tuple(values.shape[1:])
    span = f"{found.low:g} to {found.high:g}"
    counted = f"{found.outside} of {values.numel()} values lie outside [0, 1] ({span})"
    if image is not None:
        if image and found.outside:
            raise InputError(
                f"{name}: images need values in [0, 1], but {counted}. Rescale or clip them, or "
                "give image=False"
            )
        return image, f"image={image} was given"
    if len(shape) != 3 or shape[0] not in PICTURE_CHANNELS:
        return False, f"examples of shape {shape} are not (1 or 3, height, width)"
    if not found.outside:
        return True, f"all values lie in [0, 1] ({span}) and examples are {shape}"
    if found.outside <= AMBIGUOUS_FRACTION * values.numel():
        raise InputError(
            f"{name}: {counted}, so it is not clear whether the examples {shape} are images. Clip "
            "the values to [0, 1] if they are, or give image=False if they are not"
        )
    return False, counted


def number_labels(
    labels: Tensor, class_names: Sequence[str] | None
) -> tuple[Tensor, tuple[str, ...] | None]:
    """Labels as class numbers from 0, and the classes' names.

    Labels from 0 without gaps keep their numbers, and so do labels from 0 to 999 with gaps. Others
    are numbered in ascending order, and their old values become the names.
    """
    labels = labels.detach().cpu().to(torch.int64)
    if class_names is not None:
        return labels, tuple(str(name) for name in class_names)
    found, numbered = torch.unique(labels, return_inverse=True)
    low, high = int(found[0]), int(found[-1])
    if low >= 0 and (high < LABELS_KEPT or high + 1 == len(found)):
        return labels, None
    return numbered, tuple(str(label) for label in found.tolist())
