"""Labels of classes: one whole number or one name an example, and none missing.

An array of labels keeps its numbers or its names. What could be meant in two ways is refused:
labels that are missing, bytes that are no text, and labels that are equal but of different types.
"""

from collections.abc import Sequence, Sized
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..values import plain
from .cells import MISSING, quoted

SHOWN_PLACES = 3  # positions that a message lists
EXACT = 1 << 53  # above it float64 does not hold every whole number

#: Class numbers (N,), int64, and the names of classes 0, 1, ...; None where there are none.
Labels = tuple[Tensor, list[str] | None]


def to_labels(
    array: np.ndarray, count: int, words: str, rows: np.ndarray | None = None
) -> Labels | None:
    """Class numbers and names of an array of labels.

    Args:
        array: (count,) or (count, 1): numbers, texts, bytes or objects; masked labels are missing.
        count: The number of labels.
        words: What the array is, for messages.
        rows: The labels that matter; others may be missing. None: all.

    Returns:
        Numbers as they are, without names; of texts and objects the places of their names in
        ascending order. None where the array is not one whole number or one name an example.

    Raises:
        InputError: Labels are missing, are no text, are beyond the range of whole numbers, or are
            equal and of different types, as 1 and "1" are.
    """
    if array.shape not in ((count,), (count, 1)):
        return None
    array = array.reshape(count)
    hidden = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else None
    found = _read(np.ma.getdata(array), words)
    if found is None:
        return None
    labels, names, missing = found
    missing = missing if hidden is None else missing | hidden
    _refuse_missing(missing, words, rows)
    labels[torch.from_numpy(missing)] = labels[torch.from_numpy(~missing)][:1]
    if names is not None and missing.any():
        labels, names = _without_blank(labels, names)
    return labels, names


def brought_labels(array: np.ndarray, count: int, words: str) -> tuple[Labels | None, str]:
    """Labels that data bring along, or None with the reason why they cannot be taken.

    Args:
        array: As for `to_labels`.
        count: As for `to_labels`.
        words: As for `to_labels`.

    Returns:
        The labels and "", or None and a sentence; the sentence is "" where the array holds
        something else than labels.
    """
    try:
        return to_labels(array, count, words), ""
    except InputError as error:
        return None, str(error)


def _read(array: np.ndarray, words: str) -> tuple[Tensor, list[str] | None, np.ndarray] | None:
    """Labels, their names, and which of them are missing."""
    kind, nothing = array.dtype.kind, np.zeros(len(array), dtype=bool)
    if kind in "OT":
        return _of_objects(array.tolist(), words)
    if kind in "US":
        distinct, places = np.unique(array, return_inverse=True)
        names = [_text(one, words) for one in distinct.tolist()]
        blank = np.array([not name.strip() for name in names], dtype=bool)
        return torch.from_numpy(places.astype(np.int64)), names, blank[places]
    if kind in "biu":
        if kind == "u" and len(array) and int(array.max()) > np.iinfo(np.int64).max:
            raise _too_large(words, int(array.max()))
        return torch.from_numpy(array.astype(np.int64)), None, nothing
    if kind != "f":
        return None
    missing = np.isnan(array)
    known = array[~missing]
    if not np.isfinite(known).all() or not np.array_equal(known, np.round(known)):
        return None
    if len(known) and np.abs(known).max() > EXACT:
        raise _too_large(words, float(known[np.abs(known).argmax()]))
    return torch.from_numpy(np.where(missing, 0, array).astype(np.int64)), None, missing


def _too_large(words: str, number: float) -> InputError:
    return InputError(
        f"{words}: the label {number:g} is no class number. Number the classes from 0, or give "
        "their names as texts"
    )


def _of_objects(items: list[Any], words: str) -> tuple[Tensor, list[str], np.ndarray] | None:
    """Labels that are Python's objects, by their texts."""
    missing = np.zeros(len(items), dtype=bool)
    texts: list[str] = []
    meant: dict[str, Any] = {}  # a label by the text, or the number, that it stands for
    for k, item in enumerate(items):
        label = plain(item)
        missing[k] = _is_missing(label)
        if missing[k]:
            texts.append("")
            continue
        if isinstance(label, Sized) and not isinstance(label, str | bytes):
            return None
        text = _text(label, words, k)
        texts.append(text)
        for key in {text, _number(label, text)}:
            other = meant.setdefault(key, label)
            if _type(other) != _type(label):
                raise InputError(
                    f"{words}: the labels {other!r} and {label!r} are of different types, and it "
                    "is not clear whether they are one class. Give all labels as texts, or all as "
                    "whole numbers"
                )
    names = sorted(set(texts))
    places = {name: k for k, name in enumerate(names)}
    return torch.tensor([places[text] for text in texts], dtype=torch.int64), names, missing


def _is_missing(label: Any) -> bool:
    """Whether an object is no label: None, NaN, NaT, pandas' NA, a masked element, empty text."""
    if label is None or label is np.ma.masked or type(label).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(label, str | bytes):
        return not label.strip()
    try:
        return bool(label != label)
    except (TypeError, ValueError):
        return False


def _text(label: Any, words: str, k: int | None = None) -> str:
    """The name of a class; bytes are decoded, and a number without a fraction is a whole one."""
    if isinstance(label, bytes):
        try:
            return label.decode()
        except UnicodeDecodeError as error:
            place = "" if k is None else f" of example {k}"
            raise InputError(
                f"{words}: the label {label!r}{place} is no text in UTF-8. Decode the labels, such "
                "as with label.decode('latin-1')"
            ) from error
    whole = isinstance(label, float) and label.is_integer() and abs(label) <= EXACT
    return str(int(label)) if whole else str(label)


def _number(label: Any, text: str) -> str:
    """The number that a label stands for, as a text; the text itself where it is none."""
    try:
        return f"{float(label if isinstance(label, Real) else text)}"
    except (ValueError, OverflowError):
        return text


def _type(label: Any) -> str:
    """The type of a label, in which whole numbers and floats are one."""
    if isinstance(label, bool):
        return "bool"
    if isinstance(label, Integral | float):
        return "number"
    return "text" if isinstance(label, str | bytes) else type(label).__name__


def _without_blank(labels: Tensor, names: list[str]) -> Labels:
    """Labels as places among the names that are no blank, and these names."""
    kept = [k for k, name in enumerate(names) if name.strip()]
    place = torch.zeros(len(names), dtype=torch.int64)
    place[torch.tensor(kept, dtype=torch.int64)] = torch.arange(len(kept))
    return place[labels], [names[k] for k in kept]


def _refuse_missing(missing: np.ndarray, words: str, rows: np.ndarray | None) -> None:
    where = np.flatnonzero(missing) if rows is None else rows[missing[rows]]
    if len(where):
        count = len(missing) if rows is None else len(rows)
        raise InputError(missing_labels(where.tolist(), count, words))


def missing_labels(where: Sequence[int], count: int, words: str) -> str:
    """The message about labels that are missing.

    Args:
        where: Their positions, counted from 0.
        count: The number of labels.
        words: What holds the labels.
    """
    shown = ", ".join(f"{k:,}" for k in where[:SHOWN_PLACES])
    more = ", ..." if len(where) > SHOWN_PLACES else ""
    return (
        f"{words}: {len(where):,} of {count:,} class labels are missing, those of examples "
        f"{shown}{more} (counted from 0). A label that is None, NaN, masked or an empty text names "
        "no class: leave these examples out, or give them a class of their own"
    )


def note_on_words(names: Sequence[str] | None) -> list[str]:
    """A sentence on classes that are called as missing values are, such as NA; [] without them."""
    odd = [name for name in names or () if name.lower() in MISSING]
    if not odd:
        return []
    return [f"{quoted(odd)} is taken as a word; leave such examples out where it means none"]


def note_on_minus_one(names: Sequence[str] | None) -> list[str]:
    """A sentence on a class -1 beside class 0, which may mean "no label"; [] without one."""
    if not {"-1", "0"} <= set(names or ()):
        return []
    return [
        "the label -1 is a class like the others, called '-1'; leave such examples out where it "
        "means none"
    ]
