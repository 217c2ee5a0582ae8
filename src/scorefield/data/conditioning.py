"""`attach`: the condition of a data set that is no table: labels it brings, a key, or other data.

The columns of a table are taken by `tables`, together with its rows.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..conditions import ConditionSpec
from ..errors import InputError
from ..tensors import as_tensor
from ..values import did_you_mean
from .arrays import number_labels
from .dataset import Dataset
from .files import load_npy, read_npz, to_labels
from .options import ReadOptions, is_names
from .table_conditions import Found, split_given
from .table_reading import Loaded, choose_columns, find_marks, load_column
from .table_sources import TABLE_SUFFIXES, is_table, read_source
from .table_types import is_words, to_numbers

BRINGS_LABELS = (
    "a folder with one sub-folder a class, an .npz with an array of labels, digits or mnist5k"
)


def attach(dataset: Dataset, source: Any, options: ReadOptions) -> Dataset:
    """The data set with the condition that the options name.

    Args:
        dataset: The examples, without a condition or with labels of their own.
        source: Where they came from, as `open` takes it.
        options: `condition` and `condition_from`.

    Returns:
        The data set.

    Raises:
        InputError: There is no such condition, it does not suit the kind, or it has another number
            of rows than the source.
    """
    kind, origin = options.condition, options.condition_from
    if kind is None:
        if origin is not None:
            raise InputError(
                "condition_from needs the kind of the condition: --condition class or --condition "
                "vector (condition={'class': ...} or {'vector': ...})"
            )
        return dataset
    if origin is None:
        _check_brought(dataset, kind)
        return dataset
    found, words = _find(dataset, source, kind, origin)
    if isinstance(found, Found):
        value = found.value
    elif kind == "class":
        value, names = _classes(found, dataset.name, words)
    else:
        value = _vectors(found, dataset.name, words)
    value = _of_examples(value, dataset, source, words)
    if isinstance(found, Found):
        made, note = replace(found, value=value).attach(dataset), found.note
    elif kind == "class":
        made = dataset.with_labels(value, names)
        note = f"condition: the class in {words} ({made.classes} classes)"
    else:
        made = dataset.with_vectors(value, None)
        note = f"condition: the vector of {value.shape[1]} numbers in {words}"
    reading = replace(made.reading, notes=(*made.reading.notes, note))
    return replace(made, reading=reading)


def _check_brought(dataset: Dataset, kind: str) -> None:
    """Refuse a data set without the condition that it should bring."""
    if kind == "class" and dataset.labels is None:
        raise InputError(
            f"{dataset.name} has no class labels. Data that bring them are {BRINGS_LABELS}; "
            "otherwise say where they are with --condition-from (condition={'class': ...}): a key "
            "of the .npz, a file, or an array with one label an example"
        )
    if kind == "vector" and dataset.vectors is None:
        raise InputError(
            f"{dataset.name}: where are the vectors? Name them with --condition-from "
            "(condition={'vector': ...}): columns of a table, a key of an .npz, a file, or an "
            "array with one row an example"
        )


def _find(dataset: Dataset, source: Any, kind: str, origin: Any) -> tuple[Any, str]:
    """The condition of all items of the source, an array or `Found`, and words for messages."""
    if not is_names(origin):
        if is_table(origin):
            return _of_table(origin, "the condition", kind), "the table"
        return _array(origin), f"an array ({type(origin).__name__})"
    names = list(origin)
    keys = array_names(source)
    if len(names) == 1 and names[0] in keys:
        return _array(_of_key(source, names[0])), f"array {names[0]!r}"
    path = Path(names[0])
    if len(names) == 1 and path.is_file():
        suffix = path.suffix.lower()
        if suffix in TABLE_SUFFIXES:
            return _of_table(path, str(path), kind), str(path)
        if suffix == ".npy":
            return load_npy(path), str(path)
        if suffix == ".npz":
            stored = read_npz(path)
            return stored.array, f"array {stored.key!r} of {path}"
    near = f"{did_you_mean(names[0], keys)} Its arrays are {', '.join(keys)}" if keys else "."
    raise InputError(
        f"{dataset.name}: the condition {', '.join(names)!r} is no array of it and no file (.npy, "
        f".npz or a table){near}"
    )


def array_names(source: Any) -> list[str]:
    """The names of the arrays of an .npz or a mapping; [] for other sources."""
    if isinstance(source, Mapping):
        return [str(name) for name in source]
    if isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() == ".npz":
        with np.load(source, allow_pickle=False) as archive:
            return list(archive.files)
    return []


def _of_key(source: Any, key: str) -> Any:
    if isinstance(source, Mapping):
        return next(value for name, value in source.items() if str(name) == key)
    return read_npz(Path(source), key).array


def _array(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        value = as_tensor(value, "the condition").cpu()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return np.asarray(value)


def read_vectors(path: Path, spec: ConditionSpec | None) -> Tensor:
    """Vectors for a model from a file.

    Args:
        path: An .npy, an .npz or a table, whose columns are matched by name where the model's
            vectors have names.
        spec: The model's vectors; None takes what is there.

    Returns:
        float64 (N, k).

    Raises:
        InputError: The file cannot be read, or lacks a column.
    """
    suffix = path.suffix.lower()
    if suffix in TABLE_SUFFIXES:
        loaded = _columns(path, str(path), None if spec is None else spec.names)
        words = [column.name for column in loaded if is_words(column.array.type)]
        if words:
            raise InputError(f"{path}: vectors hold numbers; {', '.join(words)} holds words")
        return torch.from_numpy(np.stack([to_numbers(c.array) for c in loaded], 1))
    if suffix not in (".npy", ".npz"):
        raise InputError(f"{path}: vectors are read from .npy, .npz and tables")
    array = load_npy(path) if suffix == ".npy" else read_npz(path).array
    if array.ndim == 1 and spec is not None and spec.size == len(array) > 1:
        array = array[None]  # one vector
    return _vectors(array, str(path), "the file")


def _columns(table: Any, name: str, columns: Sequence[str] | None = None) -> list[Loaded]:
    """Columns of a table without blank cells; None for all."""
    read = read_source(table, name, ReadOptions())
    places, _ = choose_columns(read, ReadOptions(columns=None if columns is None else (*columns,)))
    if columns is not None:
        places = [read.labels.index(column) for column in columns]
    if read.text:
        read.marks = find_marks(read, places, ReadOptions())
    loaded = [load_column(read, k) for k in places]
    blank = [column.name for column in loaded if column.array.null_count]
    if blank:
        raise InputError(f"{name}: the condition has blank cells in {', '.join(blank)}")
    return loaded


def _of_table(table: Any, name: str, kind: str) -> Found:
    """All columns of a table as a condition."""
    loaded = _columns(table, name)
    if kind == "class" and len(loaded) > 1:
        raise InputError(
            f"{name}: the class is in one column, and this table has "
            f"{', '.join(column.name for column in loaded)}. Give a table of one column"
        )
    read = read_source(table, name, ReadOptions())  # for messages
    _, found = split_given(read, loaded, kind, [column.name for column in loaded])
    assert found is not None
    return found


def _classes(array: np.ndarray, name: str, words: str) -> tuple[Tensor, tuple[str, ...] | None]:
    """Classes from 0 and their names."""
    if array.dtype.kind == "O":
        array = np.asarray([str(one) for one in array.reshape(-1)])
    found = to_labels(array, len(array)) if array.ndim else None
    if found is None:
        raise InputError(
            f"{name}: the classes must be one whole number or one word an example; {words} has "
            f"{array.dtype} of shape {array.shape}. Numbers are --condition vector "
            "(condition={'vector': ...})"
        )
    labels, names = number_labels(*found)
    if len(torch.unique(labels)) < 2:
        raise InputError(f"{name}: {words} holds one class only, on which nothing is conditioned")
    return labels, names


def _vectors(array: np.ndarray, name: str, words: str) -> Tensor:
    """Vectors, float64 (N, k)."""
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2):
        raise InputError(
            f"{name}: the vectors must be real numbers of shape (N,) or (N, k); {words} has "
            f"{array.dtype} of shape {array.shape}"
        )
    rows = torch.from_numpy(array.astype(np.float64)).reshape(len(array), -1)
    bad = ~torch.isfinite(rows).all(1)
    if bool(bad.any()):
        raise InputError(
            f"{name}: the vectors must be finite; row {int(bad.nonzero()[0])} of {words} is not. "
            "Leave such examples out"
        )
    return rows


def _of_examples(value: Tensor, dataset: Dataset, source: Any, words: str) -> Tensor:
    """The rows of a condition that belong to the examples that were taken."""
    rows = dataset.source_rows
    least = len(dataset) if rows is None else int(rows.max()) + 1
    exact = rows is None
    if len(value) < least or (exact and len(value) != least):
        raise InputError(
            f"{dataset.name}: the condition needs one row an example, {least:,}; {words} has "
            f"{len(value):,}"
        )
    return value if rows is None else value[rows]
