"""The condition of samples and restorations, from --class and --vector."""

import warnings
from pathlib import Path
from typing import Any

from ..errors import InputError
from .options.sampling import parse_numbers


def read_condition(
    model: Any,
    classes: str | None,
    vector: str | None,
    count: int,
    each: int = 1,
    known: Any = None,
) -> Any:
    """The condition of `count` samples.

    Args:
        model: a score model.
        classes: --class: classes with commas; they take turns. None: not given.
        vector: --vector: numbers with commas, or a file whose rows take turns. None: not given.
        count: number of samples.
        each: samples in a row that have the same condition, such as a row of an interpolation.
        known: the condition that the observations hold; --class and --vector replace it.

    Returns:
        A condition with `count` rows, or None.

    Raises:
        InputError: the model does not take the condition, has seen no example of it, or cannot do
            without one.
    """
    from .. import conditions, seen
    from .show import say

    given: dict[str, Any] = {}
    if classes is not None:
        given["class"] = _classes(model, classes)
    if vector is not None:
        given["vector"] = _vectors(model, vector)
    for name in given:
        if name not in model.conditions:
            known = " and ".join(f"--{k} ({s.describe()})" for k, s in model.conditions.items())
            raise InputError(
                f"--{name}: the model takes {known or 'no condition: it was trained without one'}"
            )
    turns = -(-count // each)
    rows = max([turns, *(len(value) for value in given.values())])  # every value is checked
    taken = {name: [value[k % len(value)] for k in range(rows)] for name, value in given.items()}
    if known is not None and not given:
        found: Any = conditions.InternalForm(known)
        for text in seen.unseen_classes(found, model.conditions):
            raise InputError(text)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the lines below state it
            found = conditions.resolve(taken or None, model.conditions, rows, "the model")
        found = conditions.take(conditions.repeat(found, each), slice(0, count))
    for text in seen.far_vectors(found, model.conditions):
        say(text)
    return found


def _classes(model: Any, text: str) -> list[int | str]:
    """The classes of --class, by number, or by name where they have names."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise InputError(f"--class takes one or more classes with commas; got {text!r}")
    spec = model.conditions.get("class")
    known = () if spec is None or spec.names is None else spec.names
    return [
        int(name) if name not in known and name.lstrip("-").isdigit() else name for name in names
    ]


def _vectors(model: Any, text: str) -> list[list[float]]:
    """The rows of --vector."""
    path = Path(text)
    if not path.is_file():
        try:
            return [parse_numbers(text, "--vector")]
        except InputError as error:
            raise InputError(
                "--vector takes numbers with commas, such as 0.3,1.2, or a file of rows (.npy, "
                f".npz or a table); got {text!r}, and there is no such file"
            ) from error
    from ..data import read_vectors

    rows: list[list[float]] = read_vectors(path, model.conditions.get("vector")).tolist()
    return rows
