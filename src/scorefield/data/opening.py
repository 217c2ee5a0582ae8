"""`open`: the one way in. Any source of data becomes a `Dataset` that states what was taken."""

import difflib
import os
from collections.abc import Iterable, Mapping, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..tensors import is_pillow
from ..values import by_text
from .arrays import plain_array
from .checks import check_numbers
from .conditioning import attach
from .dataset import Dataset
from .files import Stored, of_arrays, read_npy, read_npz
from .images import Folder, read_files, read_folder
from .making import make_dataset, pick
from .options import ReadOptions, is_names
from .picture_files import IN_MEMORY, SUFFIXES, Held
from .sources import EMBEDDED, NAMES, as_numbers, held_pictures, read_items
from .table_form import TableForm
from .table_sources import is_table
from .tables import TABLE_SUFFIXES, open_table
from .toys import TOYS, toy

# What each option is for; other sources refuse it.
PURPOSE = {
    "size": "folders of pictures and lists of them",
    "alpha": "folders of pictures and lists of them",
    "skip_unreadable": "folders of pictures and lists of them",
    "key": "arrays of an .npz",
    "channels": "pictures and arrays",
    "channels_last": "arrays",
    "image": "arrays and pictures",
    "range": "arrays and pictures",
    "header": "tables",
    "delimiter": "tables",
    "decimal": "tables",
    "thousands": "tables",
    "columns": "tables",
    "missing": "tables",
    "discrete": "tables",
}
NONE_GIVEN = ReadOptions()
TEXT = ("header", "delimiter", "decimal", "thousands")
TABLE = (*TEXT, "columns", "missing", "discrete")
FOLDER = ("size", "alpha", "skip_unreadable")
ARRAY = ("channels", "channels_last", "image", "range")
CONVERT = {
    ".mat": "scipy.io.loadmat",
    ".h5": "h5py.File",
    ".hdf5": "h5py.File",
    ".pt": "torch.load(..., weights_only=True)",
    ".pth": "torch.load(..., weights_only=True)",
    ".pkl": "pickle.load",
    ".pickle": "pickle.load",
    ".xlsx": "pandas.read_excel",
    ".xls": "pandas.read_excel",
    ".json": "pandas.read_json",
    ".fits": "astropy.io.fits.getdata",
    ".nc": "xarray.open_dataset",
    ".zarr": "zarr.open",
    ".nii": "nibabel.load",
    ".dcm": "pydicom.dcmread",
    ".safetensors": "safetensors.numpy.load_file",
    ".joblib": "joblib.load",
    ".gz": "gzip.open, after unpacking it,",
    ".zip": "zipfile.ZipFile, after unpacking it,",
    ".tar": "tarfile.open, after unpacking it,",
}


def _refuse(source: str, options: ReadOptions, *fields: str) -> None:
    """Raise for options that have no meaning for `source`."""
    for name in fields:
        value = getattr(options, name)
        if value != getattr(NONE_GIVEN, name):
            raise InputError(
                f"{name}={value!r} is for {PURPOSE[name]}, and {source} is something else. Leave "
                "it out"
            )


def _missing(source: str) -> InputError:
    """The error for a string that is neither a name nor a path."""
    path = Path(source)
    if "://" in source:
        return InputError(f"{source}: nothing is downloaded; save it and give the path of the file")
    if path.suffix or path.name != source:
        parent = path.parent
        if not parent.is_dir():
            return InputError(
                f"no such file or folder: {source}; the folder {parent} does not exist either"
            )
        close = difflib.get_close_matches(path.name, os.listdir(parent), n=3, cutoff=0.5)
        hint = (
            f"; in {parent} there is {', '.join(close)}"
            if close
            else f"; nothing in {parent} has a name like it"
        )
        return InputError(f"no such file or folder: {source}{hint}")
    near = difflib.get_close_matches(source.lower(), NAMES, n=1, cutoff=0.0)[0]
    return InputError(
        f"unknown data {source!r}; did you mean {near!r}? Names are {', '.join(NAMES)}; anything "
        "else must be a file or folder"
    )


def _of_stored(
    stored: Stored, name: str, options: ReadOptions, levels: int | None = None
) -> Dataset:
    """A stored array, or the part of it that `count` chooses, as a Dataset."""
    chosen, index = pick(stored, options, name)
    dataset = make_dataset(chosen, name, options, levels)
    return replace(dataset, source_rows=index, source_count=len(stored.array))


def _of_items(items: Any, name: str, options: ReadOptions) -> Dataset:
    """The items of a torch Dataset or another iterable as a Dataset."""
    _refuse(name, options, "key", *TABLE)
    stored = read_items(items, options)
    if isinstance(stored, Folder):
        _refuse(name, options, "channels_last")
        total = len(items) if isinstance(items, Sized) else stored.total
        return _pictures(replace(stored, total=total), name, options)
    _refuse(name, options, *FOLDER)
    dataset = make_dataset(stored, name, options)
    total = len(items) if isinstance(items, Sized) else None
    return replace(dataset, source_rows=stored.rows, source_count=total)


def _named(name: str, options: ReadOptions) -> Dataset:
    _refuse(name, options, "key", *FOLDER, *TABLE)
    if name in TOYS:
        points = toy(name, options.count, options.seed).numpy()
        extra = {"seed": options.seed}
        stored = Stored(points, format="toy density")
        return make_dataset(stored, name, options, None, ("x1", "x2"), extra=extra)
    stored, levels = EMBEDDED[name]()
    return _of_stored(stored, name, options, levels)


def _notes_on_namesake(name: str) -> list[str]:
    """A sentence about a file or folder that has the name of a built-in data set."""
    path = Path(name)
    if not path.exists() or (path / "config.json").is_file():  # no data, or a run
        return []
    what = "folder" if path.is_dir() else "file"
    return [
        f"{name} is the built-in data set; the {what} of this name is another source, ./{name} "
        f"(--data ./{name})"
    ]


def _folder(folder: Path, options: ReadOptions) -> Dataset:
    name = f"./{folder}" if str(folder) in NAMES else str(folder)
    _refuse(name, options, "key", "channels_last", *TABLE)
    found = read_folder(folder, options)
    return _pictures(found, name, options)


def _pictures(found: Folder, name: str, options: ReadOptions) -> Dataset:
    """The pictures of a folder or a list as a Dataset."""
    main = max(found.formats, key=lambda format: found.formats[format])
    stored = Stored(
        found.pixels,
        found.labels,
        found.classes or None,
        main,
        "samples",
        found.notes,
        found.left_out,
    )
    given_back = "png" if main == IN_MEMORY else main
    dataset = make_dataset(stored, name, options, picture_format=given_back)
    rows = None if found.kept is None else torch.tensor(found.kept)
    reading = replace(dataset.reading, formats=found.formats)
    return replace(dataset, reading=reading, source_rows=rows, source_count=found.total)


def _file(path: Path, options: ReadOptions) -> Dataset:
    suffix, name = path.suffix.lower(), str(path)
    if suffix in (".tif", ".tiff", ".gif"):
        raise InputError(
            f"{path}: one picture or stack of pages is not a data set. Give the folder that holds "
            "the pictures; of a stack save the pages as an array (N, height, width) in an .npy"
        )
    if suffix in SUFFIXES:
        raise InputError(f"{path}: one picture is not a data set; give the folder that holds them")
    if suffix in TABLE_SUFFIXES:
        _refuse(name, options, "key", *FOLDER, *ARRAY)
        return open_table(path, name, options)
    if suffix not in (".npy", ".npz"):
        reader = CONVERT.get(suffix)
        how = f". Read it with {reader} and give the array, or save it as .npy" if reader else ""
        raise InputError(
            f"{path}: files of type {suffix or '(none)'} are not read; give .npy, .npz, "
            f"{', '.join(TABLE_SUFFIXES)} or a folder of pictures{how}"
        )
    _refuse(name, options, *FOLDER, *TABLE)
    if suffix == ".npy":
        _refuse(name, options, "key")
    used = options.condition_from if is_names(options.condition_from) else ()
    stored = read_npz(path, options.key, used) if suffix == ".npz" else read_npy(path)
    return _array(stored, name, options)


def _array(stored: Stored, name: str, options: ReadOptions) -> Dataset:
    """An array; records with names are a table."""
    if stored.array.dtype.names is not None:
        return open_table(stored.array, name, options)
    stored.array = as_numbers(stored.array, name)
    return _of_stored(stored, name, options)


def _is_paths(source: Any) -> bool:
    return (
        isinstance(source, (list, tuple))
        and len(source) > 0
        and all(isinstance(item, (str, os.PathLike)) for item in source)
    )


def _memory(source: Any, options: ReadOptions) -> Dataset:
    """Data in memory: arrays, tensors, tables, mappings, torch Datasets, iterables."""
    kind = type(source).__name__
    if isinstance(source, torch.utils.data.DataLoader):
        raise InputError(
            "a DataLoader was given, which shuffles and batches by itself; give its Dataset "
            "(loader.dataset)"
        )
    if isinstance(source, torch.utils.data.Dataset):
        return _of_items(source, kind, options)
    if isinstance(source, Mapping) and any(map(_is_examples, source.values())):
        return _mapping(source, kind, options)
    if is_table(source):
        _refuse(kind, options, "key", *FOLDER, *ARRAY)
        return open_table(source, "table", options)
    if _is_paths(source):
        _refuse(kind, options, "key", "channels_last", *TABLE)
        files = [Path(item) for item in source]
        return _pictures(read_files(files, options), f"{len(files)} files", options)
    if is_pillow(source):
        raise InputError("one picture of Pillow is not a data set; give a list of pictures")
    if _holds_pictures(source):
        return _of_items(list(source), kind, options)
    if isinstance(source, (Tensor, np.ndarray)) or hasattr(source, "__array__"):
        _refuse(kind, options, "key", *FOLDER, *TABLE)
        stored = Stored(plain_array(source, "data"))
        if not isinstance(source, (Tensor, np.ndarray)):
            stored.notes.append(f"the values of a {kind}; its coordinates and names are not kept")
        return _array(stored, "array", options)
    if isinstance(source, Iterable) and not isinstance(source, (str, bytes)):
        items = list(source) if isinstance(source, (set, frozenset)) else source
        return _of_items(items, kind, options)
    raise InputError(
        "data must be a name, a path, an array, a tensor, a table, a mapping, an iterable of "
        f"arrays or a torch Dataset; got {kind}"
    )


def _mapping(source: Mapping[Any, Any], kind: str, options: ReadOptions) -> Dataset:
    """Arrays or lists of pictures by name as a Dataset."""
    _refuse(kind, options, *TABLE)
    source = by_text(source, kind)
    pictures = {str(name): list(v) for name, v in source.items() if _holds_pictures(v)}
    arrays = {str(k): plain_array(v, str(k)) for k, v in source.items() if str(k) not in pictures}
    arrays |= {name: np.empty(len(items), object) for name, items in pictures.items()}
    arrays = {str(name): arrays[str(name)] for name in source}
    used = options.condition_from if is_names(options.condition_from) else ()
    stored = of_arrays(arrays, options.key, kind, "mapping", used)
    if stored.key not in pictures:
        _refuse(kind, options, *FOLDER)
        return _array(stored, kind, options)
    _refuse(kind, options, "channels_last")
    chosen, index = pick(stored, options, kind)
    places = range(len(stored.array)) if index is None else index.tolist()
    items = [pictures[stored.key][k] for k in places]
    if not all(map(is_pillow, items)):
        raise InputError(f"{kind}: all items of {stored.key!r} must be pictures of Pillow")
    names = [f"item {k} of {stored.key!r}" for k in places]
    held = [Held.of(name, item) for name, item in zip(names, items, strict=True)]
    found = held_pictures(held, replace(chosen, rows=index), options)
    found.total = len(stored.array)
    return _pictures(found, kind, options)


def _holds_pictures(value: Any) -> bool:
    """Whether a value is a list, or an array of objects, whose first item is a picture."""
    listed = isinstance(value, (list, tuple)) or (
        isinstance(value, np.ndarray) and value.dtype.kind == "O" and value.ndim == 1
    )
    return listed and len(value) > 0 and is_pillow(value[0])


def own_options(source: Any) -> tuple[str, ...]:
    """The options about the layout of arrays and pictures that are for a source of such a kind.

    Args:
        source: Anything that `open` takes.

    Returns:
        Names of fields of `ReadOptions`; of a stream, whose items are not known before it is read,
        those that all kinds share.
    """
    pictures, arrays = ("channels", *FOLDER), ("channels", "channels_last")
    if isinstance(source, (str, os.PathLike)):
        if isinstance(source, str) and source in NAMES:
            return arrays
        path = Path(source)
        if path.is_dir():
            return pictures
        suffix = path.suffix.lower()
        return () if suffix in TABLE_SUFFIXES else (*arrays, *(["key"] if suffix == ".npz" else []))
    if isinstance(source, Mapping):
        held = any(map(_holds_pictures, source.values()))
        return (*(pictures if held else arrays), "key")
    if _is_paths(source) or _holds_pictures(source):
        return pictures
    if isinstance(source, Tensor) or hasattr(source, "__array__"):
        return arrays
    if isinstance(source, Sized) and hasattr(source, "__getitem__") and len(source):
        first = source[0]
        first = first[0] if isinstance(first, (tuple, list)) and len(first) else first
        return pictures if is_pillow(first) else arrays
    return ("channels",)


def _is_examples(value: Any) -> bool:
    """Whether a value of a mapping holds examples rather than one cell a row."""
    return _holds_pictures(value) or _dims(value) > 1


def _dims(value: Any) -> int:
    """Dimensions of an array or of nested lists; 0 for what is neither."""
    try:
        return np.ndim(value)
    except ValueError:  # rows of different lengths
        return 0


def open(source: Any, options: ReadOptions | None = None, **named: Any) -> Dataset:
    """Read the data of `source`, and state what was taken.

    Args:
        source: A name (digits, mnist5k, mixture, moons, ring, spiral, checkerboard), a folder of
            pictures, an .npy or .npz file, a table (.csv, .tsv, .txt, .parquet, .feather), a numpy
            array, a tensor, a data frame, an Arrow table, a mapping of arrays or of columns, a
            list of picture files or of pictures of Pillow, an iterable of arrays, a torch Dataset
            of arrays or (array, label), or a Dataset of this package, which is returned.
        options: Reading options; `condition` and `condition_from` name what a model of the data is
            to be conditioned on.
        named: Single options by name, such as channels_last=True; they override `options`.

    Returns:
        The data set. Its `report` is two lines that state what was taken, and what was left out or
        decided; `facts()` has the same as values.

    Raises:
        InputError: The source cannot be read, or reading it would be ambiguous or lose
            information; the message names the option that decides.

    Example:
        data = sf.data.open("people.csv", missing="drop")
        print(*data.report)
    """
    read = (options or ReadOptions()).merge(**named)
    plain = replace(read, condition=None, condition_from=None)
    if isinstance(source, Dataset):
        if plain not in (NONE_GIVEN, source.options):
            raise InputError("options of open are for sources; a Dataset is used as it is")
        found = attach(source, source, read)
        return found if read.condition is None else check_numbers(found, examples=False)
    dataset = replace(_open(source, read), options=plain)
    form = dataset.form
    if not (isinstance(form, TableForm) and form.given is not None):
        dataset = attach(dataset, source, read)
    return check_numbers(dataset)


def _noted(dataset: Dataset, notes: list[str]) -> Dataset:
    """The data set with further sentences in its report."""
    reading = replace(dataset.reading, notes=(*dataset.reading.notes, *notes))
    return replace(dataset, reading=reading) if notes else dataset


def _open(source: Any, read: ReadOptions) -> Dataset:
    """The data set of a source, with the condition of a table that comes from its columns."""
    if isinstance(source, (str, os.PathLike)):
        text, path = os.fspath(source), Path(source)
        if isinstance(source, str) and text in NAMES:
            return _noted(_named(text, read), _notes_on_namesake(text))
        if path.is_dir():
            return _folder(path, read)
        if path.exists():
            return _file(path, read)
        raise _missing(str(text))
    return _memory(source, read)
