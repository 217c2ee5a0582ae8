"""Arrays of numbers as tensors: lists, generators, NumPy, PyTorch, and what converts to them.

Nothing is lost silently: complex numbers, texts, truth values, dates and masked elements are
refused, each with the argument's name. A read-only or byte-swapped array is copied.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import InputError
from .values import describe, items, listed, number

COMPLEX_ADVICE = "give real and imaginary parts as two elements or channels"
ORIENTATION = 274  # the EXIF tag
NO_RGB = ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV")  # modes of pictures
LARGEST = np.iinfo(np.int64).max


def as_tensor(value: Any, name: str) -> Tensor:
    """Any array of numbers as a tensor of its own type.

    Args:
        value: A tensor, an array, a number, or nested sequences or generators of them.
        name: The argument's name, for the message.

    Returns:
        The tensor, detached; a tensor keeps its memory and device, anything else is copied to the
        CPU. Whole numbers wider than torch computes with become int64, wide floats float64.

    Raises:
        InputError: For values that are not numbers, rows of different lengths, or whole numbers
            above int64's. Complex numbers and truth values are numbers here.
    """
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise InputError(
                f"{name} must be an ordinary (dense) tensor; got layout {value.layout}, "
                f"{describe(value)}"
            )
        return value.detach()
    array = to_array(value, name)
    if array.dtype.kind not in "biufc":
        raise InputError(f"{name} must be numbers; got {_kind(array)}")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        if array.size and int(array.max()) > LARGEST:
            raise InputError(f"{name} holds {int(array.max())}, above the largest int64")
        array = array.astype(np.int64)
    elif array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    elif array.dtype.kind == "c" and array.dtype.itemsize > 16:
        array = array.astype(np.complex128)
    native = array.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(array, dtype=native, order="C", copy=True))


def to_array(value: Any, name: str) -> np.ndarray:
    """Nested sequences and arrays of any kind as one NumPy array.

    Args:
        value: What was given.
        name: The argument's name, for the message.

    Returns:
        The array, of any type. Truth values do not pass as numbers in a list that mixes both.

    Raises:
        InputError: For rows of different lengths, masked elements, or what is no array.
    """
    kinds: set[str] = set()
    try:
        array = np.asarray(_nested(value, name, kinds))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} must not have rows of different lengths") from error
    except (TypeError, RuntimeError) as error:
        raise InputError(f"{name} must be numbers; got {describe(value)}") from error
    if len(kinds) > 1:
        raise InputError(f"{name} must not mix True or False with numbers")
    if array.dtype.kind == "O":  # such as fractions, or a column of mixed types
        flat = [number(one, f"an element of {name}") for one in array.ravel()]
        return np.array(flat, dtype=np.float64).reshape(array.shape)
    return array


def without_mask(value: Any, name: str) -> Any:
    """A masked array without masked elements as an ordinary array; other values as they are.

    Args:
        value: What was given. Lists and tuples are searched for masked arrays.
        name: What the value is, for the message.

    Returns:
        The value; of a masked array its elements.

    Raises:
        InputError: Elements are masked. What is stored there stands for nothing.
    """
    if isinstance(value, list | tuple):
        for k, one in enumerate(value):
            without_mask(one, f"{name}[{k}]")
    if not isinstance(value, np.ma.MaskedArray) or value.dtype.names is not None:
        return value
    hidden = np.argwhere(np.ma.getmaskarray(value))
    if not len(hidden):
        return np.asarray(value.data)
    first = f", the first in row {hidden[0][0]}" if value.ndim else ""
    raise InputError(
        f"{name}: {len(hidden)} of {value.size} elements are masked{first}. Fill them in, or leave "
        "their rows out"
    )


def column_names(value: Any) -> list[str] | None:
    """The names of the columns of a table in memory.

    Args:
        value: A data frame, an Arrow table, an array of records, a mapping, or anything else.

    Returns:
        The names; None for what has no columns with names. Numbers 0, 1, ... in this order, with
        which pandas counts columns, are no names.
    """
    if isinstance(value, np.ndarray):
        names: Any = value.dtype.names
    elif isinstance(value, Mapping):
        names = list(value)
    else:  # Arrow tables have `column_names`, data frames `columns`
        names = getattr(value, "column_names", getattr(value, "columns", None))
    if names is None or callable(names) or isinstance(value, Tensor):
        return None
    listed: Sequence[Any] = list(names)
    return None if list(listed) == list(range(len(listed))) else [str(one) for one in listed]


def _refuse_named(value: Any, name: str) -> None:
    """Raise for a table of several columns, whose order would decide where the names should."""
    names = None if isinstance(value, Mapping) else column_names(value)
    if names is not None and len(names) > 1:
        raise InputError(
            f"{name} must be an array; got {describe(value)} with the named columns "
            f"{listed(names)}, and names are not matched here. Give {name}.to_numpy() with the "
            "columns in the order of the data that it goes with"
        )


def is_pillow(value: Any) -> bool:
    """Whether a value is a picture of Pillow."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def _of_pillow(picture: Any, name: str) -> np.ndarray:
    """The pixels of a picture of Pillow.

    Raises:
        InputError: They are numbers of a palette or of colours other than RGB, or EXIF turns the
            picture.
    """
    if picture.mode in NO_RGB:
        raise InputError(
            f"{name} is a picture of mode {picture.mode}, whose numbers are no grey or RGB values; "
            "convert it with picture.convert('RGB') or ('L')"
        )
    if picture.getexif().get(ORIENTATION, 1) not in (0, 1):
        raise InputError(
            f"{name} is a picture that its EXIF orientation turns; turn its pixels with "
            "PIL.ImageOps.exif_transpose(picture)"
        )
    return np.asarray(picture)


def _nested(value: Any, name: str, kinds: set[str]) -> Any:
    """`value` with every tensor as an array and every iterator as a list.

    Args:
        value: What was given.
        name: The argument's name, for messages.
        kinds: Receives "flag" for truth values and "number" for anything else.
    """
    if isinstance(value, Tensor):
        value = as_tensor(value, name).cpu()
        wide = value.is_floating_point() and value.dtype not in (torch.float32, torch.float64)
        value = (value.to(torch.float64) if wide else value).numpy()
    if hasattr(value, "__array__"):
        _refuse_named(value, name)
        array = np.asarray(without_mask(value, name))
        kinds.add("flag" if array.dtype.kind == "b" else "number")
        return array
    if is_pillow(value):
        kinds.add("flag" if value.mode == "1" else "number")
        return _of_pillow(value, name)
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        needed = "an array of numbers"
        return [_nested(one, name, kinds) for one in items(value, name, needed)]
    if value is None:
        raise InputError(f"{name} must be numbers; got None")
    kinds.add("flag" if isinstance(value, bool) else "number")
    return value


def _kind(array: np.ndarray) -> str:
    """What an array holds, in words."""
    words = {"U": "texts", "S": "texts", "b": "True or False", "M": "dates", "m": "durations"}
    return words.get(array.dtype.kind, f"type {array.dtype}")


def reals(value: Any, name: str, dtype: torch.dtype | None = None) -> Tensor:
    """Real numbers as a tensor.

    Args:
        value: As for `as_tensor`.
        name: The argument's name, for the message.
        dtype: Type of the result; None for the value's own.

    Returns:
        The tensor. Python's numbers reach `dtype` without passing through float32.

    Raises:
        InputError: For anything but real numbers; truth values are refused.
    """
    found = as_tensor(value, name)
    if found.is_complex():
        raise InputError(f"{name} must be real numbers; got complex ones: {COMPLEX_ADVICE}")
    if found.dtype == torch.bool:
        raise InputError(f"{name} must be numbers; got True or False")
    return found if dtype is None else found.to(dtype)


def float64(value: Any, name: str) -> Tensor:
    """Finite real numbers as float64.

    Raises:
        InputError: For anything else.
    """
    return check_finite(reals(value, name, torch.float64), name)


def check_finite(value: Tensor, name: str) -> Tensor:
    """`value`, which is refused where an element is not finite.

    Raises:
        InputError: For a NaN or an infinity.
    """
    bad = ~torch.isfinite(value)
    if bool(bad.any()):
        raise InputError(f"{name} must be finite; got {int(bad.sum())} values that are not")
    return value


def check_floating(value: Any, name: str) -> None:
    """Refuse anything but a tensor of a real floating type, where gradients and types matter.

    Raises:
        InputError: For another type, for an array or a list, and for complex numbers.
    """
    if not (isinstance(value, Tensor) and value.is_floating_point()):
        hint = "" if isinstance(value, Tensor) else ". torch.as_tensor makes one"
        raise InputError(f"{name} must be a floating tensor; got {describe(value)}{hint}")


def floats(value: Any, name: str) -> Tensor:
    """Real numbers of a floating type; whole numbers become float64.

    A floating tensor comes back as it is, with its graph.

    Raises:
        InputError: For anything else.
    """
    if isinstance(value, Tensor) and value.is_floating_point() and value.layout == torch.strided:
        return value
    found = reals(value, name)
    return found if found.is_floating_point() else found.to(torch.float64)


def flags(value: Any, name: str) -> Tensor:
    """Truth values as a bool tensor.

    Raises:
        InputError: For anything else, the numbers 0 and 1 included.
    """
    found = as_tensor(value, name)
    if found.dtype != torch.bool:
        raise InputError(f"{name} must be True or False; got {describe(value)}")
    return found
