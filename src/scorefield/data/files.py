"""Array files: .npy and .npz as tensors, with errors that name the file. No pickle is ever read."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

MEMORY_MAP = 256 << 20  # .npy files above this many bytes are mapped, not read
VALUE_KEYS = (
    "images",
    "train_images",
    "data",
    "x",
    "X",
    "x_train",
    "X_train",
    "train_x",
    "samples",
    "values",
    "arr_0",
)
LABEL_KEYS = (
    "labels",
    "train_labels",
    "label",
    "y",
    "Y",
    "y_train",
    "Y_train",
    "train_y",
    "targets",
    "target",
    "classes",
)


class Raw(NamedTuple):
    """The content of a source.

    values: (N, ...); labels: int64 (N,), columns: names of a table's columns, class_names: names of
    classes 0, 1, ...; each may be None.
    """

    values: Tensor
    labels: Tensor | None = None
    columns: list[str] | None = None
    class_names: list[str] | None = None


def to_tensor(array: np.ndarray, name: str) -> Tensor:
    """The array's memory as a tensor where torch supports it, else a copy.

    Raises:
        InputError: The array holds anything but numbers, or whole numbers above int64's.
    """
    if array.dtype.kind not in "biufc":
        raise InputError(f"{name}: need an array of numbers; got dtype {array.dtype}")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    elif array.dtype.kind == "u" and array.dtype.itemsize > 1:
        # torch has few operations on wider unsigned numbers
        if array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise InputError(
                f"{name}: holds {int(array.max())}, more than 64-bit signed numbers can; subtract "
                "an offset"
            )
        array = array.astype(np.int64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if (
        any(step < 0 or step % array.itemsize for step in array.strides)
        or not array.flags.writeable
    ):
        array = array.copy()
    return torch.from_numpy(array)


def to_labels(array: np.ndarray, count: int) -> tuple[Tensor, list[str] | None] | None:
    """Labels (count,) as int64, and the names of the classes where the labels are text.

    Returns:
        None where the array is not one whole number or one name an example.
    """
    if array.shape not in ((count,), (count, 1)):
        return None
    array = array.reshape(count)
    if array.dtype.kind in "US":
        names, numbers = np.unique(array, return_inverse=True)
        text = [x.decode("utf-8", "replace") if isinstance(x, bytes) else str(x) for x in names]
        return torch.from_numpy(numbers.astype(np.int64)), text
    if array.dtype.kind == "f" and not bool(np.all(array == np.round(array))):
        return None
    if array.dtype.kind not in "biuf":
        return None
    return torch.from_numpy(array.astype(np.int64)), None


def read_npy(path: Path) -> Raw:
    """The array of an .npy file. Above 256 MB it is memory-mapped, copy on write.

    Raises:
        InputError: The file is not a readable array of numbers.
    """
    try:
        array = np.load(
            path, mmap_mode="c" if path.stat().st_size > MEMORY_MAP else None, allow_pickle=False
        )
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: not a readable .npy array of numbers ({error})") from error
    return Raw(to_tensor(array, str(path)))


def _label_keys(key: str) -> Iterator[str]:
    """Possible names of label arrays: the partner of `key` (x_test -> y_test), then the usual."""
    for values, label in (
        ("images", "labels"),
        ("data", "labels"),
        ("X", "y"),
        ("X", "Y"),
        ("x", "y"),
    ):
        if values in key:
            yield key.replace(values, label)
    yield from LABEL_KEYS


def read_npz(path: Path, key: str | None = None) -> Raw:
    """The array `key` of an .npz file, and its labels where their length fits.

    Without a key it is the only array that is not labels, else the first of the usual names.

    Raises:
        InputError: The file is not readable, or the array is not clear.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            if not names:
                raise InputError(f"{path}: the archive holds no array")
            if key is None:
                candidates = [name for name in names if name not in LABEL_KEYS] or names
                usual = [name for name in VALUE_KEYS if name in candidates]
                if len(candidates) > 1 and not usual:
                    raise InputError(
                        f"{path}: holds the arrays {', '.join(names)}; say which with key="
                    )
                key = candidates[0] if len(candidates) == 1 else usual[0]
            elif key not in names:
                raise InputError(f"{path}: holds no array {key!r}; it holds {', '.join(names)}")
            array = archive[key]
            count = len(array) if array.ndim else 0
            found = (
                to_labels(archive[name], count)
                for name in _label_keys(key)
                if name in names and name != key
            )
            labels, class_names = next((x for x in found if x is not None), (None, None))
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a readable .npz archive of numbers ({error})") from error
    return Raw(to_tensor(array, f"{path}[{key}]"), labels, class_names=class_names)
