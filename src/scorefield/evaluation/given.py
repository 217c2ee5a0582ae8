"""Samples that were drawn elsewhere, in the units and the form of the data."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import Dataset, open_like
from ..data.array_form import ArrayForm
from ..data.examples import BEYOND, arranged, check_intensities, column_order
from ..data.files import load_npy, read_npz
from ..data.intensities import array_ways, refuse_masks
from ..errors import InputError
from ..tensors import float64
from .material import LEAST, settle


@dataclass(frozen=True)
class Given:
    """Samples that were drawn elsewhere.

    Attributes:
        x: (N, *event) in data units.
        labels: int64 (N,), the classes that they were drawn for, or None.
        source: Where they are from.
        notes: How they were read, a sentence each.
    """

    x: Tensor
    labels: Tensor | None
    source: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class _Arrays:
    """An array of samples as stored, with what an archive holds beside it."""

    array: np.ndarray
    labels: Tensor | None = None
    columns: list[str] | None = None


def read_samples(source: Any, dataset: Dataset) -> Given:
    """Read samples of any system in the units of the data.

    Args:
        source: An array or tensor, the path of an .npy or .npz (such as the samples.npz that the
            command `sample` writes), or anything else that `data.open` takes. Floats of the data's
            own shape are in data units (images in [0, 1]); channels may be last, and the axis of a
            single channel left out. Whole numbers, pictures and tables are read as the data were,
            and columns with names are matched by name.
        dataset: The data.

    Returns:
        The samples.

    Raises:
        InputError: They cannot be read, or do not fit the data.
    """
    place = Path(source) if isinstance(source, str) else source
    name = str(place) if isinstance(place, Path) else "samples"
    held = _arrays_of(place)
    array = None if held is None else arranged(held.array, dataset.event_shape)
    if (
        held is not None
        and array is not None
        and array.dtype.kind == "f"
        and array.shape[1:] == dataset.event_shape
    ):
        own = getattr(dataset.form, "element_names", ())
        order = column_order(held.columns, own, name)
        array = array if order is None else array[:, order]
        found = Given(settle(dataset, _data_units(array, dataset, name)), held.labels, name)
    else:
        if array is not None and dataset.quantisation_levels and array.dtype.kind in "biu":
            levels = dataset.quantisation_levels
            low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
            refuse_masks(low, high, levels, name, array_ways(levels))
        other = open_like({"data": dataset.description}, place)
        if other.event_shape != dataset.event_shape:
            raise InputError(
                f"{name} has samples of shape {other.event_shape}; the data have "
                f"{dataset.event_shape}"
            )
        labels = other.labels if held is None else held.labels
        x = settle(dataset, other.floats(slice(None)))
        found = Given(x, labels, name, tuple(other.report))
    if len(found) < LEAST // 2:
        raise InputError(
            f"{name} holds {len(found)} samples; an evaluation needs {LEAST // 2} or more"
        )
    return found


def _data_units(array: np.ndarray, dataset: Dataset, name: str) -> Tensor:
    """Floats (N, *event) in data units; stored values where the data are floats beyond [0, 1]."""
    x = float64(array, name).to(dataset.dtype)
    if not dataset.image:
        return x
    form = dataset.form
    if isinstance(form, ArrayForm) and np.dtype(form.dtype).kind == "f" and _spreads(form):
        low, high = float(x.min()), float(x.max())
        if low < -BEYOND or high > 1 + BEYOND:  # as `sample` writes them to samples.npy
            return replace(form, insert=False, axis=None).encode(array, name)
    check_intensities(x, name)
    return x


def _spreads(form: ArrayForm) -> bool:
    """Whether stored values of images are others than their data units."""
    return form.levels is not None or (form.low, form.step) != (0, 1)


def _arrays_of(place: Any) -> _Arrays | None:
    """The array of a file or a value, and what is beside it; None for what is no array."""
    if isinstance(place, Tensor):
        return _Arrays(place.detach().cpu().numpy())
    if isinstance(place, np.ndarray) and place.dtype.names is None:
        return _Arrays(place)
    if isinstance(place, Path) and place.suffix == ".npy" and place.is_file():
        return _Arrays(load_npy(place))
    if isinstance(place, Path) and place.suffix == ".npz" and place.is_file():
        stored = read_npz(place)
        labels, columns = stored.labels, None
        with np.load(place, allow_pickle=False) as archive:
            if "class" in archive.files:
                classes = np.asarray(archive["class"])
                fits = classes.shape == stored.array.shape[:1] and classes.dtype.kind in "iu"
                labels = torch.from_numpy(classes.astype(np.int64)) if fits else labels
            if "columns" in archive.files:
                columns = [str(name) for name in np.asarray(archive["columns"]).ravel()]
        return _Arrays(np.asarray(stored.array), labels, columns)
    return None
