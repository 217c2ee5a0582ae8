"""Other data in the form of a model's own: `open_like`, and observations with unknown parts."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..conditions import ConditionSpec, is_null
from ..errors import InputError
from .array_form import ArrayForm
from .card import card_options
from .conditioning import array_names, attach
from .dataset import Dataset, Reading, digest
from .files import load_npy
from .form import Form, form_of, form_to_dict
from .images import read_files
from .intensities import with_levels_of
from .levels import SMALL_LEVELS
from .opening import open as open_data
from .opening import own_options
from .options import ReadOptions, is_names
from .picture_files import SUFFIXES
from .table_conditions import Found
from .table_form import TableForm
from .table_rows import read_rows


def open_like(
    card: Mapping[str, Any] | None, source: Any, options: ReadOptions | None = None
) -> Dataset:
    """Read other data as a model's own: columns by name, stored values by the model's levels.

    Args:
        card: The model card.
        source: Anything that `open` takes.
        options: Reading options; what they leave open is as in the model's training, else read off
            the source.

    Returns:
        The data set, whose examples are in the model's data units.

    Raises:
        InputError: The data have another shape, type or range than the model's, or columns are
            missing.
    """
    form, given = form_of(card), options or ReadOptions()
    if isinstance(source, Dataset):
        return source
    if isinstance(form, TableForm):
        return _rows(form, source, given)
    if not isinstance(form, ArrayForm):
        return open_data(source, given)
    dataset = _examples(form, source, _with_card(card, given, source))
    return _with_classes_of(card, attach(dataset, source, _condition(card, source, given)))


def _condition(card: Mapping[str, Any] | None, source: Any, given: ReadOptions) -> ReadOptions:
    """Where other data have the condition, if `open` has not found it: an array of one name."""
    of_card, none = card_options(card), ReadOptions()
    names: tuple[str, ...] = ()
    if is_names(of_card.condition_from):
        names = of_card.condition_from
    named = len(names) == 1 and names[0] in array_names(source)
    return of_card if named and given.condition is None else none


def _with_classes_of(card: Mapping[str, Any] | None, dataset: Dataset) -> Dataset:
    """The data set with its labels numbered as the model's classes, which are matched by name."""
    stored = ((card or {}).get("conditions") or {}).get("class")
    if stored is None or dataset.labels is None:
        return dataset
    spec = ConditionSpec.from_dict(stored)
    own = dataset.class_names or tuple(str(k) for k in range(dataset.classes or 0))
    known = spec.names or tuple(str(k) for k in range(spec.size))
    present = [own[k] for k in dataset.labels.unique().tolist()]
    unknown = [name for name in present if name not in known]
    if unknown:
        raise InputError(
            f"{dataset.name}: has the classes {', '.join(unknown[:8])}, which the model was not "
            f"trained on; it takes {spec.describe()}. Leave these examples out, or give "
            "--condition none"
        )
    if own == known:
        return dataset
    places = torch.tensor([known.index(name) if name in known else -1 for name in own])
    return dataset.with_labels(places[dataset.labels], spec.names)


def _with_card(card: Mapping[str, Any] | None, given: ReadOptions, source: Any) -> ReadOptions:
    """The given options, and the card's where they are left open and are for such a source."""
    of_card = card_options(card)
    open_ones = [name for name in own_options(source) if getattr(given, name) in (None, False)]
    return replace(given, **{name: getattr(of_card, name) for name in open_ones})


def _examples(form: ArrayForm, source: Any, options: ReadOptions) -> Dataset:
    """Arrays and pictures, whose stored values mean what they mean in the model's data."""
    dataset = open_data(source, options)
    if dataset.event_shape != form.event_shape:
        raise InputError(
            f"{dataset.name} has examples of shape {dataset.event_shape}; the model needs "
            f"{form.event_shape} (channels first)"
        )
    if dataset.image != form.image:
        dataset = open_data(source, replace(options, image=form.image))
    if not form.image:
        return dataset

    def reopen(span: tuple[float, float]) -> Dataset:
        return open_data(source, replace(options, image=None, range=span))

    return with_levels_of(form, dataset, options.range is not None, reopen)


def _rows(form: TableForm, source: Any, options: ReadOptions) -> Dataset:
    """Rows of a table matched by name; rows with blanks are dropped where `missing` is "drop"."""
    if options.missing == "median":
        raise InputError(
            "missing=median fills in values of the data at hand, which the model was not trained "
            "on; use missing=drop (--missing drop), or restore for what the model expects"
        )
    path = Path(source) if isinstance(source, str) else source
    name = str(path) if isinstance(path, Path) else "table"
    if isinstance(path, Path) and not path.exists():
        open_data(source)  # its error for a path that is none
    drop = options.missing == "drop"
    rows = read_rows(form, path, name, options, blanks=drop)
    values, kept, notes = rows.values, None, rows.notes
    whole = ~values.isnan().any(1)
    if drop and not bool(whole.all()):
        kept = whole.nonzero().flatten()
        values = values[kept]
        notes = (*notes, f"{int((~whole).sum()):,} rows with blank cells dropped")
    if len(values) == 0:
        raise InputError(f"{name}: no row is left; every row has a blank cell")
    description = {
        "source": name,
        "count": len(values),
        "shape": list(form.event_shape),
        "dtype": form.dtype,
        "image": False,
        "image_because": "rows of a table",
        "sha256": digest(values),
        "form": form_to_dict(form),
    }
    kind = path.suffix.lower().lstrip(".") if isinstance(path, Path) else "table"
    dataset = Dataset(
        values,
        name,
        columns=form.element_names,
        description=description,
        form=form,
        reading=Reading(format=kind, names=form.names, notes=notes),
        source_rows=kept,
    )
    if form.given is None or rows.condition is None:
        return dataset
    condition = rows.condition if kept is None else rows.condition[kept]
    if bool(is_null(condition).any()):
        raise InputError(
            f"{name}: cells of the condition {', '.join(form.given.names)} are blank, and every "
            "row needs one. Leave such rows out"
        )
    return Found(form.given, condition).attach(dataset)


Say = Callable[[str], None]


def read_observation(
    source: Any, form: Form | None, event_shape: tuple[int, ...], say: Say | None = None
) -> Tensor:
    """Read one observation or several as they are stored, for `Measurement`.

    Args:
        source: The path of a picture or an .npy file, or an array.
        form: The form of the model's data, or None.
        event_shape: The shape of the model's examples.
        say: Takes a sentence for each thing that was decided about a picture, such as that its
            colours became grey; None: a warning.

    Returns:
        (K, *event) in its stored type, channels first; whole numbers are levels where the model's
        data are quantised. Floats may hold NaN where an element is unknown.

    Raises:
        InputError: The file cannot be read, or its shape or range is not the model's.
    """
    array, name = _stored(source, "--input", event_shape, say)
    if array.dtype == bool and not isinstance(source, np.ndarray | Tensor):  # black and white
        two = isinstance(form, ArrayForm) and form.levels == 2
        array = array if two else array.astype(np.uint8) * 255
    if array.dtype.kind == "c":
        raise InputError(
            f"{name} holds complex numbers; give real and imaginary parts as two channels"
        )
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name}: need an array of numbers; got dtype {array.dtype}")
    if not isinstance(form, ArrayForm):
        return torch.from_numpy(np.ascontiguousarray(_with_channels(array, event_shape, name)))
    arranged = form.arranged(array, name)
    if form.levels is None and not form.image:
        return torch.from_numpy(np.ascontiguousarray(arranged))
    whole = array.dtype.kind in "biu" or np.dtype(form.dtype).kind == "f"
    if whole and (form.levels is not None or form.low or form.step != 1):
        data = form.encode(array, name, blanks=array.dtype.kind == "f")
        if form.levels is None or bool(data.isnan().any()):
            return data
        if array.dtype == np.uint8 and form.levels > SMALL_LEVELS:  # `Measurement` refuses them
            return torch.from_numpy(np.ascontiguousarray(arranged))
        small = torch.uint8 if form.levels <= SMALL_LEVELS else torch.int32
        return (data.to(torch.float64) * (form.levels - 1)).round().to(small)
    return torch.from_numpy(np.ascontiguousarray(arranged))


def _stored(
    source: Any, option: str, event_shape: tuple[int, ...], say: Say | None
) -> tuple[np.ndarray, str]:
    """A picture or an array as stored, and its name for messages."""
    if isinstance(source, np.ndarray | Tensor):
        array = source.detach().cpu().numpy() if isinstance(source, Tensor) else source
        return array, "the observation"
    path = Path(source)
    name = f"{option} {path}"
    if not path.is_file():
        raise InputError(f"{name}: there is no such file")
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return load_npy(path), name
    if suffix not in SUFFIXES:
        raise InputError(f"{name}: give a picture (PNG, TIFF, JPEG, ...) or an .npy array")
    if len(event_shape) != 3 or event_shape[0] > 4:
        raise InputError(
            f"{name}: this model is of arrays {event_shape}, not images; give an .npy file"
        )
    channels = 1 if event_shape[0] <= 2 else 3
    alpha = "keep" if event_shape[0] in (2, 4) else None
    found = read_files([path], ReadOptions(channels=channels, alpha=alpha))
    because = "it marks known pixels" if option == "--mask" else "the model's images are grey"
    for note in (*found.notes, *found.left_out):
        words = note.replace("because channels=1 was given", f"because {because}")
        (say or _warn)(f"{name}: {words}")
    return found.pixels, name


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=4)


def _with_channels(array: np.ndarray, event_shape: tuple[int, ...], name: str) -> np.ndarray:
    """An array as (K, *event) for models without a form."""
    shape = tuple(event_shape)
    for _ in range(2):
        if array.shape[1:] == shape and array.ndim == len(shape) + 1:
            return array
        array = array[None]
    raise InputError(
        f"{name} has shape {array.shape[2:]}; the model needs {shape}. Resize it first"
    )


def read_mask(source: Any, event_shape: tuple[int, ...], say: Say | None = None) -> Tensor:
    """Read a mask: white or 1 is known.

    Args:
        source: The path of a picture or an .npy file, or an array.
        event_shape: The shape of the model's examples.
        say: As for `read_observation`.

    Returns:
        The mask as stored, of `event_shape` or with one channel for all.

    Raises:
        InputError: The file cannot be read, or its shape is not the model's.
    """
    mask, name = _stored(source, "--mask", (1, *event_shape[1:]), say)
    if mask.dtype.kind not in "biuf":
        raise InputError(f"{name}: a mask holds 0 and 1; got dtype {mask.dtype}")
    while mask.ndim > len(event_shape) and len(mask) == 1:
        mask = mask[0]
    if mask.ndim == len(event_shape) - 1:
        mask = mask[None]
    fits = mask.ndim == len(event_shape) and mask.shape[1:] == tuple(event_shape[1:])
    if not fits or (mask.ndim > 0 and mask.shape[0] not in (1, event_shape[0])):
        raise InputError(
            f"{name} has shape {tuple(mask.shape)}; it must match the image {tuple(event_shape)} "
            "(white or 1 = known)"
        )
    return torch.from_numpy(np.ascontiguousarray(mask))
