"""Checks and conversions of arrays: dimensions, types, labels.

`layout` decides how the axes of an array are read, `levels` what its values mean.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..tensors import as_tensor, without_mask

LABELS_KEPT = 1000  # whole-number labels below this keep their values even where some are unused


def plain_array(value: Any, name: str) -> np.ndarray:
    """An array, a tensor or nested lists as a NumPy array.

    Args:
        value: What was given; an iterator is used up. bfloat16, which NumPy lacks, becomes float32.
        name: What the value is, for messages.

    Returns:
        The array. A masked array keeps its mask. A list in which texts are mixed with other
        objects becomes an array of objects: NumPy would make the text "nan" of a missing value.

    Raises:
        InputError: A list holds masked elements, or rows of different lengths, or a tensor is not
            dense.
    """
    if isinstance(value, Tensor):
        value = as_tensor(value, name).cpu()
        return (value.to(torch.float32) if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, np.ndarray):
        return value
    value = list(value) if isinstance(value, Iterator) else value
    if not isinstance(value, list | tuple):
        return np.asarray(value)
    if any(one is np.ma.masked for one in value):
        value = [None if one is np.ma.masked else one for one in value]
    try:
        found = np.asarray(without_mask(value, name))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: the rows have different lengths; give rows of one") from error
    mixed = found.dtype.kind in "US" and not all(isinstance(one, str) for one in value)
    return np.array(value, dtype=object) if mixed and found.ndim == 1 else found


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


def check_array(values: np.ndarray, name: str) -> None:
    """Raise for arrays that are empty, complex, or of an unusable number of dimensions."""
    if values.dtype.kind == "c":
        raise InputError(
            f"{name}: complex numbers are not supported; give real and imaginary parts as two "
            "channels"
        )
    if values.dtype.kind not in "biuf":
        raise InputError(f"{name}: need an array of numbers; got dtype {values.dtype}")
    if not 2 <= values.ndim <= 5:
        fix = ". One column? Use x[:, None]" if values.ndim == 1 else ""
        raise InputError(
            f"{name}: need 2 to 5 dimensions, the first counting the examples; got shape "
            f"{tuple(values.shape)}{fix}"
        )
    if values.size == 0:
        raise InputError(
            f"{name}: the array is empty, shape {tuple(values.shape)}; at least one example of at "
            "least one element is needed"
        )


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
