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
from ..tensors import without_mask
from ..values import did_you_mean
from .arrays import number_labels, plain_array
from .dataset import Dataset
from .files import load_npy, read_npz
from .labels import SHOWN_PLACES, note_on_minus_one, note_on_words, to_labels
from .options import ReadOptions, is_names
from .table_conditions import Found, listed, split_given
from .table_reading import Loaded, choose_columns, find_marks, load_column
from .table_sources import TABLE_SUFFIXES, Source, is_table, read_source
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
        names = dataset.class_names if kind == "class" else None
        return _noted(dataset, [*note_on_words(names), *note_on_minus_one(names)])
    _check_texts(dataset, origin)
    found, words = _find(dataset, source, kind, origin)
    rows = _rows_of_examples(found, dataset, words)
    made, notes = _attached(dataset, kind, found, words, rows)
    return _noted(made, notes)


def _noted(dataset: Dataset, notes: Sequence[str]) -> Dataset:
    """The data set with further sentences in its report."""
    reading = replace(dataset.reading, notes=(*dataset.reading.notes, *notes))
    return replace(dataset, reading=reading) if notes else dataset


def _attached(
    dataset: Dataset, kind: str, found: Any, words: str, rows: Tensor | None
) -> tuple[Dataset, list[str]]:
    """The data set with the condition that was found, and sentences about it.

    Args:
        dataset: The examples.
        kind: "class" or "vector".
        found: The condition of all items of the source, an array or `Found`.
        words: Where it comes from, for messages.
        rows: The items of the source that are examples; None: all.
    """
    if isinstance(found, Found):
        found = found if rows is None else found.take(rows)
        return found.attach(dataset), found.notes
    if kind == "class":
        labels, names = _classes(found, dataset.name, words, rows)
        made = dataset.with_labels(labels if rows is None else labels[rows], names)
        note = f"condition: the class in {words} ({made.classes} classes)"
        return made, [note, *note_on_words(names), *note_on_minus_one(names)]
    vectors = _vectors(found, dataset.name, words, rows)
    note = f"condition: the vector of {vectors.shape[1]} numbers in {words}"
    return dataset.with_vectors(vectors if rows is None else vectors[rows], None), [note]


def _check_texts(dataset: Dataset, origin: Any) -> None:
    """Refuse texts that are neither the name of one column nor one label an example."""
    if not isinstance(origin, list) or not all(isinstance(one, str) for one in origin):
        return
    needed = len(dataset) if dataset.source_rows is None else dataset.source_count
    if needed is not None and len(origin) != needed:
        raise InputError(
            f"{dataset.name}: the class is in one column, or is a list of one label for each of "
            f"the {needed:,} examples of the source; got {len(origin):,} texts: {listed(origin)}. "
            "Give one name, or as many labels"
        )


def _check_brought(dataset: Dataset, kind: str) -> None:
    """Refuse a data set without the condition that it should bring."""
    missing = [text for text in dataset.reading.left_out if "class labels are missing" in text]
    if kind == "class" and dataset.labels is None and missing:
        raise InputError(f"{dataset.name}: {missing[0]}")
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
        _check_index(dataset, source, origin)
        if is_table(origin) and not _is_column(origin):
            return _of_table(origin, "the condition", kind), "the table"
        words = f"an array ({type(origin).__name__})"
        return plain_array(origin, words), words
    names = list(origin)
    keys = array_names(source)
    if len(names) == 1 and names[0] in keys:
        return plain_array(_of_key(source, names[0]), names[0]), f"array {names[0]!r}"
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
        f"{dataset.name}: the condition {listed(names)!r} is no array of it and no file (.npy, "
        f".npz or a table){near}"
    )


def _is_column(origin: Any) -> bool:
    """Whether an object is one column of a table, such as a Series, and not a table."""
    named = isinstance(origin, Mapping | np.ndarray) or hasattr(origin, "columns")
    return not named and hasattr(origin, "__array__")


def _check_index(dataset: Dataset, source: Any, origin: Any) -> None:
    """Refuse a Series with another index than the data frame: its order may be another one."""
    own, other = (getattr(one, "index", None) for one in (source, origin))
    if not hasattr(own, "equals") or not hasattr(other, "equals"):
        return
    if own is not None and other is not None and len(own) == len(other) and not own.equals(other):
        raise InputError(
            f"{dataset.name}: the condition has another index than the data frame, and rows are "
            "matched by their order. Give condition.loc[frame.index] to match them by the index, "
            "or condition.to_numpy() where the order is right"
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
        _, loaded = _columns(path, str(path), None if spec is None else spec.names)
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


def _columns(
    table: Any, name: str, columns: Sequence[str] | None = None
) -> tuple[Source, list[Loaded]]:
    """A table, and its columns without blank cells; None for all columns."""
    read = read_source(table, name, ReadOptions())
    places, _ = choose_columns(read, ReadOptions(columns=None if columns is None else (*columns,)))
    if columns is not None:
        places = [read.labels.index(column) for column in columns]
    if read.text:
        read.marks = find_marks(read, places, ReadOptions())
    loaded = [load_column(read, k) for k in places]
    for column in loaded:
        blank = np.flatnonzero(column.array.is_null().to_numpy(zero_copy_only=False))
        if len(blank):
            shown = f"{len(blank):,} of {len(column.array):,} cells are blank"
            raise read.error(
                column.place,
                f"{shown}, and every example needs its condition. Leave these examples out, or "
                "fill the cells in",
                blank[:SHOWN_PLACES].tolist(),
            )
    return read, loaded


def _of_table(table: Any, name: str, kind: str) -> Found:
    """All columns of a table as a condition."""
    read, loaded = _columns(table, name)
    names = [column.name for column in loaded]
    if kind == "class" and len(loaded) > 1:
        raise InputError(
            f"{name}: the class is in one column, and this table has {listed(names)}. Give a "
            "table of one column"
        )
    _, found = split_given(read, loaded, kind, names)
    assert found is not None
    return replace(found, remarks=(*read.notes, *found.remarks))


def _classes(
    array: np.ndarray, name: str, words: str, rows: Tensor | None
) -> tuple[Tensor, tuple[str, ...] | None]:
    """Classes from 0 of all items, of which `rows` are examples, and their names."""
    kept = None if rows is None else rows.numpy()
    found = to_labels(array, len(array), f"{name}: {words}", kept)
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


def _vectors(array: np.ndarray, name: str, words: str, rows: Tensor | None = None) -> Tensor:
    """Vectors, float64 (N, k), of all items, of which `rows` are examples; None: all."""
    array = without_mask(array, f"{name}: {words}")
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2):
        raise InputError(
            f"{name}: the vectors must be real numbers of shape (N,) or (N, k); {words} has "
            f"{array.dtype} of shape {array.shape}"
        )
    vectors = torch.from_numpy(array.astype(np.float64)).reshape(len(array), -1)
    bad = ~torch.isfinite(vectors).all(1)
    if rows is not None:
        bad &= torch.isin(torch.arange(len(bad)), rows)
    if bool(bad.any()):
        raise InputError(
            f"{name}: the vectors must be finite; row {int(bad.nonzero()[0])} of {words} is not. "
            "Leave such examples out"
        )
    return vectors


def _rows_of_examples(found: Any, dataset: Dataset, words: str) -> Tensor | None:
    """The rows of a condition that belong to the examples; None for all."""
    value = found.value if isinstance(found, Found) else found
    if value.ndim == 0:
        raise InputError(
            f"{dataset.name}: the condition needs one row an example; {words} is no array"
        )
    rows, count = dataset.source_rows, len(value)
    if rows is None:
        if count != len(dataset):
            raise InputError(
                f"{dataset.name}: the condition needs one row an example, {len(dataset):,}; "
                f"{words} has {count:,}"
            )
        return None
    total = dataset.source_count
    if count <= int(rows.max()) or (total is not None and count != total):
        needed = "as many rows as the source has examples" if total is None else f"{total:,} rows"
        raise InputError(
            f"{dataset.name}: the condition needs {needed}, one for each example of the source: "
            f"those that were left out count too, and {len(dataset):,} were taken. {words} has "
            f"{count:,}"
        )
    return rows
