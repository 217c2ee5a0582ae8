"""Array files: .npy and .npz, with errors that name the file. No pickle is ever read."""

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .labels import brought_labels

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
PICKLED = "pickled objects, which are not read; save it as numbers or as text (.astype(str))"


@dataclass
class Stored:
    """An array as it is stored, and what belongs to it.

    Attributes:
        array: (N, ...).
        labels: int64 (N,), and `classes`, the names of classes 0, 1, ...; each may be None.
        format: "npy", "npz", "array" and so on.
        key: The name of the array in an .npz.
        notes, left_out: Sentences for the report.
        rows: int64 (N,), the number of each example in the source; None for all of them.
    """

    array: np.ndarray
    labels: Tensor | None = None
    classes: list[str] | None = None
    format: str = "array"
    key: str = "samples"
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    rows: Tensor | None = None


def to_tensor(array: np.ndarray, name: str) -> Tensor:
    """The array's memory as a tensor where torch supports it, else a copy.

    Raises:
        InputError: The array holds anything but numbers, or whole numbers above int64's.
    """
    array = np.asarray(array)
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


def _why(error: Exception) -> str:
    """NumPy's reason; of pickles its advice to load them is left out."""
    text = str(error)
    return "it holds pickled objects or is cut short" if "pickle" in text else text


def load_npy(path: Path) -> np.ndarray:
    """The array of an .npy file, as stored. Above 256 MB it is memory-mapped, copy on write.

    Raises:
        InputError: The file is not a readable array; pickled objects are not read.
    """
    try:
        large = path.stat().st_size > MEMORY_MAP
        found: np.ndarray = np.load(path, mmap_mode="c" if large else None, allow_pickle=False)
    except (ValueError, EOFError, OSError, TypeError, SyntaxError, zipfile.BadZipFile) as error:
        if isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError):
            raise
        raise InputError(f"{path}: not a readable .npy array of numbers ({_why(error)})") from error
    if not isinstance(found, np.ndarray):
        raise InputError(f"{path}: an .npz archive named .npy; rename it to end in .npz")
    return found


def read_npy(path: Path) -> Stored:
    """The array of an .npy file.

    Raises:
        InputError: The file is not a readable array of numbers.
    """
    return Stored(load_npy(path), format="npy")


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


def choose_key(names: list[str], key: str | None, source: str) -> str:
    """The array that is taken: `key`, the only one that is not labels, or one of the usual names.

    Raises:
        InputError: There is no such array, or several and no usual name among them.
    """
    listed = ", ".join(names)
    if key is not None:
        if key not in names:
            raise InputError(f"{source}: holds no array {key!r}; it holds {listed}")
        return key
    candidates = [name for name in names if name not in LABEL_KEYS] or names
    usual = [name for name in VALUE_KEYS if name in candidates]
    if len(candidates) > 1 and not usual:
        raise InputError(f"{source}: holds the arrays {listed}; say which with key= (--key NAME)")
    return candidates[0] if len(candidates) == 1 else usual[0]


def of_arrays(
    arrays: dict[str, np.ndarray],
    key: str | None,
    source: str,
    format: str,
    used: Sequence[str] = (),
) -> Stored:
    """One array of several by name, with its labels where their length fits.

    Args:
        arrays: The arrays by name.
        key: The name of the one to take; None: the one that `choose_key` chooses.
        source: For messages.
        format: For the report.
        used: The names of arrays that serve as the condition.

    Raises:
        InputError: There is no array, or it is not clear which one is meant.
    """
    names = list(arrays)
    if not names:
        raise InputError(f"{source}: the archive holds no array")
    key = choose_key([name for name in names if name not in used or name == key], key, source)
    array = arrays[key]
    count = len(array) if array.ndim else 0
    labels, classes, taken, why = None, None, None, ""
    for name in _label_keys(key):
        if name in names and name != key:
            found, why = brought_labels(arrays[name], count, f"labels {name!r}")
            if found is not None or why:
                (labels, classes), taken = found or (None, None), name
                break
    stored = Stored(array, labels, classes, format, key)
    if why:
        stored.left_out.append(why)
    if len(names) > 1:
        stored.notes.append(f"array {key!r}" + (f", labels {taken!r}" if taken and not why else ""))
        rest = [name for name in names if name not in (key, taken, *used)]
        if rest:
            stored.left_out.append(f"arrays {', '.join(rest)} (key= or --key takes another)")
    return stored


def read_npz(path: Path, key: str | None = None, used: Sequence[str] = ()) -> Stored:
    """The array `key` of an .npz file, and its labels where their length fits.

    Without a key it is the only array that is not labels, else the first of the usual names. Arrays
    in `used` serve as the condition and are not taken.

    Raises:
        InputError: The file is not readable, or the array is not clear.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not hasattr(archive, "files"):
                raise InputError(f"{path}: an .npy array named .npz; rename it to end in .npy")
            names = list(archive.files)
            open_ones = [name for name in names if name not in used or name == key]
            chosen = choose_key(open_ones, key, str(path)) if names else None
            wanted = {chosen, *(_label_keys(chosen) if chosen else ())}
            # Arrays that are not taken are not decompressed.
            loaded = {
                name: _member(archive, name) if name in wanted else np.empty(0, np.int8)
                for name in names
            }
    except InputError:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile, OSError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not a readable .npz archive of numbers ({_why(error)})"
        ) from error
    arrays = {name: array for name, array in loaded.items() if array is not None}
    if chosen is not None and chosen not in arrays:
        raise InputError(f"{path}: array {chosen!r} holds {PICKLED}")
    stored = of_arrays(arrays, chosen, str(path), "npz", used)
    for name in names:
        if name not in arrays:
            missing = "class labels are missing, since it" if stored.labels is None else "it"
            stored.left_out.append(f"array {name!r}: {missing} holds {PICKLED}")
    return stored


def _member(archive: Any, name: str) -> np.ndarray | None:
    """An array of an .npz; None where it holds pickled objects."""
    try:
        array: np.ndarray = archive[name]
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise
        return None
    return array
