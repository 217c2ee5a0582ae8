"""From a stored array to a `Dataset`: its layout, what its values mean, and its form."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..tensors import without_mask
from .array_form import ArrayForm
from .arrays import check_array, number_labels, to_float
from .choose import choose
from .dataset import Dataset, Reading, condition_digest, digest
from .files import Stored, to_tensor
from .form import form_to_dict
from .image_form import ImageForm
from .layout import Layout, find_layout
from .levels import SMALL_LEVELS, Channels, Meaning, find_meaning, look_at_channels
from .options import ReadOptions


def native(array: np.ndarray) -> np.ndarray:
    """An array in native byte order and of a type that torch computes with, or its wider one."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def pick(stored: Stored, options: ReadOptions, name: str) -> tuple[Stored, Tensor | None]:
    """The examples that `count` chooses, and their numbers in the source; None for all."""
    available = len(stored.array) if stored.array.ndim else 0
    index = choose(available, options.count, options.seed, name)
    if index is None:
        return stored, None
    labels = None if stored.labels is None else stored.labels[index]
    return replace(stored, array=stored.array[index.numpy()], labels=labels), index


def make_dataset(
    stored: Stored,
    name: str,
    options: ReadOptions,
    levels: int | None = None,
    columns: Sequence[str] | None = None,
    picture_format: str | None = None,
    extra: dict[str, Any] | None = None,
) -> Dataset:
    """A Dataset of a stored array.

    Args:
        stored: The array and its labels.
        name: The source, for messages.
        options: channels, channels_last, image and range.
        levels: The number of levels of quantised images, where the source defines it.
        columns: The names of a table's columns.
        picture_format: The format of the files of a folder of pictures.
        extra: Further entries of the description.

    Returns:
        The data set, channels first.

    Raises:
        InputError: The array is empty, has an unusable type or number of dimensions, holds a NaN or
            an infinity, or its layout or its meaning are not clear.
    """
    check_array(stored.array, name)
    order = "" if stored.array.dtype.isnative else ", of foreign byte order"
    if stored.array.dtype.kind == "f" and stored.array.dtype.itemsize > 8:
        order = f", from {stored.array.dtype}"
    array = native(stored.array)
    layout = _layout(array, options, name, picture_format)
    shape = layout.arrange(array.shape)
    event = tuple(shape[1:])
    pictures = picture_format is not None
    meaning, found = find_meaning(array, event, options.image, options.range, name, pictures)
    if levels is not None and options.image is not False:
        meaning = Meaning(levels, image=True, words=f"{levels} levels")
    values = _values(array, meaning, name)
    if layout.insert:
        values = values.unsqueeze(1)
    elif layout.axis not in (None, 1):
        values = values.movedim(layout.axis, 1)
    own_units = meaning.levels is None and not meaning.image
    channels = look_at_channels(values) if own_units else None
    form = _form(array, stored, layout, meaning, event, channels, picture_format)
    labels, names = None, None
    if stored.labels is not None:
        labels, names = number_labels(stored.labels, stored.classes)
    reading = Reading(
        format=stored.format,
        stored_dtype=f"{array.dtype}{order}",
        channel_axis=layout.axis,
        low=found.low,
        high=found.high,
        left_out=tuple(stored.left_out),
        notes=(*stored.notes, *_choices(layout, meaning, channels, event)),
    )
    entries = {"source": name, "count": len(values), "shape": list(event)}
    entries |= {"form": form_to_dict(form), **(extra or {})}
    description = _describe(values, labels, names, meaning) | entries
    return Dataset(
        values,
        name,
        labels,
        None if columns is None else tuple(columns),
        meaning.image,
        meaning.levels,
        names,
        description,
        form,
        reading,
    )


def _describe(
    values: Tensor, labels: Tensor | None, names: Sequence[str] | None, meaning: Meaning
) -> dict[str, Any]:
    """Entries of the model card about the values, with their SHA-256."""
    return {
        "dtype": str(values.dtype).removeprefix("torch."),
        "image": meaning.image,
        "image_because": meaning.words,
        "sha256": digest(values),
        **condition_digest(labels, None),
        **({} if names is None else {"class_names": list(names)}),
    }


def _choices(
    layout: Layout, meaning: Meaning, channels: Channels | None, event: tuple[int, ...]
) -> list[str]:
    """Sentences about what was decided; that vectors are no images goes without saying."""
    plain = len(event) == 1 and not meaning.rounded
    words = (layout.words, "" if plain else meaning.words, _rounding(meaning, channels))
    return [one for one in words if one]


def _rounding(meaning: Meaning, channels: Channels | None) -> str:
    """Which channels of floats hold whole numbers, in words; "" where none do or it is known."""
    if channels is None or meaning.rounded:
        return ""
    count = int((channels.whole & ~channels.constant).sum())
    if not count:
        return ""
    which = "every column or channel" if count == len(channels.whole) else f"{count} of them"
    return f"{which} holds whole numbers, to which samples are rounded"


def _layout(
    array: np.ndarray, options: ReadOptions, name: str, picture_format: str | None
) -> Layout:
    """The layout of an array; pictures are (N, H, W) or (N, H, W, C)."""
    if picture_format is not None:
        return Layout(None, insert=True) if array.ndim == 3 else Layout(3)
    return find_layout(array.shape, options.channels, options.channels_last, name)


def _values(array: np.ndarray, meaning: Meaning, name: str) -> Tensor:
    """Data as a tensor in the source's layout: levels, floats in [0, 1], or own units."""
    if meaning.levels is not None:
        kind = np.uint8 if meaning.levels <= SMALL_LEVELS else np.int32
        if (meaning.low, meaning.step) == (0, 1):
            return to_tensor(array if array.dtype == kind else array.astype(kind), name)
        offset = array.astype(np.int64) - int(meaning.low)
        return torch.from_numpy((offset // int(meaning.step)).astype(kind))
    if meaning.ranged:
        wide = (array.astype(np.float64) - meaning.low) / meaning.step
        exact = array.dtype.itemsize > 4
        return torch.from_numpy(np.clip(wide, 0, 1).astype(np.float64 if exact else np.float32))
    return to_float(to_tensor(array, name), name)


def _form(
    array: np.ndarray,
    stored: Stored,
    layout: Layout,
    meaning: Meaning,
    event: tuple[int, ...],
    channels: Channels | None,
    picture_format: str | None,
) -> ArrayForm:
    def where(flags: Tensor) -> tuple[int, ...]:
        return tuple(torch.nonzero(flags).flatten().tolist())

    rounded = channels is not None and bool(channels.whole.any())
    own: dict[str, Any] = {"rounded": rounded}
    if channels is not None and rounded:
        still, free = where(channels.constant), where(~channels.whole)
        own |= {"constant": still, "free": free, "counts": where(channels.counts)}
    fields: dict[str, Any] = {
        **own,
        "event_shape": event,
        "dtype": array.dtype.name,
        "axis": layout.axis,
        "insert": layout.insert,
        "levels": meaning.levels,
        "low": meaning.low,
        "step": meaning.step,
        "image": meaning.image,
        "container": "npz" if stored.format == "npz" else "npy",
        "key": stored.key,
    }
    if picture_format is not None:
        return ImageForm(**fields, format=picture_format)
    return ArrayForm(**fields)


def as_dataset(
    values: Any,
    name: str,
    labels: Tensor | None = None,
    class_names: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    quantisation_levels: int | None = None,
    extra: dict[str, Any] | None = None,
    **options: Any,
) -> Dataset:
    """A Dataset of an array or tensor (N, ...); see `layout` and `levels` for how it is read.

    Args:
        values: The array; any real type.
        name: The source, for messages.
        labels: (N,) whole numbers.
        class_names: The names of classes 0, 1, ...
        columns: The names of a table's columns.
        quantisation_levels: How many values an element can take, where the source defines it.
        extra: Further entries of the description.
        options: Fields of `ReadOptions`: channels, channels_last, image, range.

    Returns:
        The data set, channels first.

    Raises:
        InputError: As `make_dataset`.
    """
    array = values.detach().cpu() if isinstance(values, Tensor) else values
    if isinstance(array, Tensor) and array.dtype == torch.bfloat16:
        array = array.to(torch.float32)
    classes = None if class_names is None else list(class_names)
    stored = Stored(np.asarray(without_mask(array, name)), labels, classes)
    read = ReadOptions().merge(**options)
    if stored.array.dtype.kind not in "biufc":
        raise InputError(f"{name}: need an array of numbers; got dtype {stored.array.dtype}")
    return make_dataset(stored, name, read, quantisation_levels, columns, extra=extra)
