"""Conditions: what a model p(x | c) is conditioned on, as a mapping of tensors, one row a sample.

    {"class": (B,) int64}         the index of a class
    {"vector": (B, k) float}      k numbers, for example an observation or the columns of a table

A model declares a `ConditionSpec` for every name it accepts. A missing name means that the sample
is unconditional in it. A single row can be unconditional too: the null value of a class is -1, that
of a vector is a row of NaN. Only this module splits and joins conditions.
"""

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Number
from typing import Any, Literal

import torch
from torch import Tensor

from .errors import InputError
from .seen import far_vectors, unseen_classes
from .tensors import floats, without_mask
from .values import describe, flag, items, number, one_of, plain, whole, whole_numbers

#: A condition in the internal form: tensors by name, one row a sample.
Condition = Mapping[str, Tensor]
#: The conditions that a model accepts, by name.
Specs = Mapping[str, "ConditionSpec"]
#: The class of an unconditional row.
NULL_CLASS = -1
DIGITS = r"[0-9]+(\.0*)?"  # a class's number as a text
SHOWN_NAMES = 20  # names of classes that an error message lists


class InternalForm(dict[str, Tensor]):
    """A condition that this package made: class numbers are indices, and no names or null values.

    `resolve` reads what a user gives, and leaves an `InternalForm` as it is: where classes are
    called 1, 2 and 3, the number 1 means the first class in the one and the second in the other.
    """


@dataclass(frozen=True)
class ConditionSpec:
    """One condition that a model accepts.

    Args:
        kind: "class" for one of `size` classes, "vector" for `size` numbers.
        size: Number of classes, or length of the vector.
        names: Names of the classes or of the vector's elements; None where there are none.
        shift: Of a vector: what is subtracted from each element before the network gets it; None
            for 0.
        scale: Of a vector: what each element is divided by after that, above 0; None for 1.
        optional: Whether the model also learned p(x) without this condition. Where it did not, the
            condition has to be given.
        unseen: Numbers of the classes that no training example had; None where all had one, or
            where the model card does not tell.
        low, high: Of a vector: the range of each element in training; None: not known.
    """

    kind: Literal["class", "vector"]
    size: int
    names: tuple[str, ...] | None = None
    shift: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    optional: bool = True
    unseen: tuple[int, ...] | None = None
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "kind", one_of(self.kind, ("class", "vector"), "a condition's kind")
        )
        object.__setattr__(self, "size", whole(self.size, "a condition's size", 1))
        if self.names is not None:
            names = items(self.names, "names", "a list of names")
            object.__setattr__(self, "names", tuple(str(name) for name in names))
        if self.names is not None and len(self.names) != self.size:
            raise InputError(
                f"a condition of size {self.size} needs as many names; got {len(self.names)}"
            )
        for field in ("shift", "scale", "low", "high"):
            object.__setattr__(self, field, self._elements(field))
        if self.unseen is not None:
            unseen = tuple(whole_numbers(self.unseen, "unseen", 0))
            object.__setattr__(self, "unseen", unseen or None)
        object.__setattr__(self, "optional", flag(self.optional, "optional"))

    def _elements(self, field: str) -> tuple[float, ...] | None:
        """shift, scale, low or high, checked."""
        given = getattr(self, field)
        if given is None:
            return None
        values = tuple(number(one, field) for one in items(given, field, "a list of numbers"))
        wrong = [x for x in values if not math.isfinite(x) or (field == "scale" and x <= 0)]
        if self.kind == "class" or len(values) != self.size or wrong:
            needed = "above 0" if field == "scale" else "finite"
            raise InputError(
                f"{field} takes one number {needed} for each element of a vector; got "
                f"{describe(given)} for a {self.kind} of size {self.size}"
            )
        return values

    def describe(self) -> str:
        """A phrase that states which values the condition takes, for messages."""
        if self.kind == "vector":
            names = ", ".join((self.names or ())[:SHOWN_NAMES])
            more = ", ..." if self.size > SHOWN_NAMES else ""
            numbers = "1 number" if self.size == 1 else f"{self.size} numbers"
            return f"{numbers} a sample{f' ({names}{more})' if names else ''}"
        if self.names is None and not self.unseen:
            return f"classes 0 to {self.size - 1}"
        seen = [self.name_of(k) for k in range(self.size) if k not in (self.unseen or ())]
        shown = ", ".join(seen[:SHOWN_NAMES])
        return f"classes {shown}{', ...' if len(seen) > SHOWN_NAMES else ''}"

    def name_of(self, number: int) -> str:
        """The name of a class or an element; its number where there are no names."""
        element = "" if self.kind == "class" else "element "
        return f"{element}{number}" if self.names is None else self.names[number]

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold; `from_dict` undoes it."""
        found = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}
        return {k: v for k, v in found.items() if v is not None or k == "names"}

    @staticmethod
    def from_dict(d: Mapping[str, Any]) -> "ConditionSpec":
        """The spec that `to_dict` wrote."""
        return ConditionSpec(**d)


def take(condition: Condition | None, rows: Tensor | slice) -> Condition | None:
    """The rows `rows` (an index tensor or a slice) of every condition."""
    if condition is None:
        return None
    return InternalForm(
        (name, value[rows.to(value.device) if isinstance(rows, Tensor) else rows])
        for name, value in condition.items()
    )


def repeat(condition: Condition | None, times: int) -> Condition | None:
    """Every row `times` times in a row: (B, ...) -> (B times, ...)."""
    times = whole(times, "times", 0)
    if condition is None:
        return None
    return InternalForm(
        (name, value.repeat_interleave(times, 0)) for name, value in condition.items()
    )


def expand(condition: Condition | None, count: int) -> Condition | None:
    """`condition` with `count` rows: one row stands for all; any other number stays as it is."""
    if condition is None:
        return None
    return InternalForm(
        (name, value.expand(count, *value.shape[1:]) if len(value) == 1 else value)
        for name, value in condition.items()
    )


def concatenate(*parts: Condition) -> Condition:
    """The rows of all parts, one part after the other. All need the same names."""
    names = parts[0].keys()
    if any(part.keys() != names for part in parts):
        raise InputError("conditions of different names cannot be put together")
    return InternalForm((name, torch.cat([part[name] for part in parts])) for name in names)


def to_device(condition: Condition | None, device: torch.device | str) -> Condition | None:
    """Every condition on `device`."""
    if condition is None:
        return None
    return InternalForm((name, value.to(device)) for name, value in condition.items())


def null(specs: Specs, count: int, device: torch.device | str = "cpu") -> Condition:
    """The null value of every condition.

    Args:
        specs: The conditions of a model.
        count: Number of rows.
        device: Device of the tensors.

    Returns:
        A condition with `count` rows.
    """
    count = whole(count, "count", 0)
    return {
        name: torch.full((count,), NULL_CLASS, device=device)
        if spec.kind == "class"
        else torch.full((count, spec.size), torch.nan, device=device)
        for name, spec in specs.items()
    }


def is_null(value: Tensor) -> Tensor:
    """Which rows (B,) of one condition hold the null value."""
    return torch.isnan(value).any(1) if value.is_floating_point() else value < 0


def drop(condition: Condition, dropped: Tensor) -> Condition:
    """`condition` with the null value in the rows where `dropped` (B,) is True."""
    return {
        name: torch.where(dropped[:, None], torch.nan, value)
        if value.is_floating_point()
        else torch.where(dropped, NULL_CLASS, value)
        for name, value in condition.items()
    }


def standardise(condition: Condition | None, specs: Specs) -> Condition | None:
    """Vectors as networks get them: (value - shift) / scale; NaN stays.

    Args:
        condition: In the internal form, or None.
        specs: The conditions of the model.

    Returns:
        The condition; classes, and vectors without shift and scale, are as they were.
    """
    if condition is None:
        return None
    found = dict(condition)
    for name, value in condition.items():
        spec = specs[name]
        if spec.shift is not None:
            found[name] = value - value.new_tensor(spec.shift)
        if spec.scale is not None:
            found[name] = found[name] / value.new_tensor(spec.scale)
    return found


def check(condition: Condition | None, specs: Specs, count: int, model: str = "the model") -> None:
    """Refuse a condition that does not fit.

    Args:
        condition: The condition in the internal form (module docstring), or None.
        specs: What the model accepts.
        count: Number of samples; every condition needs as many rows.
        model: Name of the model for the message.

    Raises:
        InputError: For an unknown name, a wrong type or shape, a condition that is missing although
            the model was not trained without it, or a class that does not exist (values are checked
            on the CPU only, where looking at them is cheap).
    """
    for name, spec in specs.items():
        if not spec.optional and (condition is None or name not in condition):
            raise InputError(_missing(name, spec, model))
    if condition is None:
        return
    if not isinstance(condition, Mapping):
        raise InputError(
            f"a condition is a mapping such as {{'class': tensor}}; got {describe(condition)}"
        )
    for name, value in condition.items():
        if name not in specs:
            known = ", ".join(specs) or "no condition"
            raise InputError(f"{model} takes {known}; got the condition {name!r}")
        if not isinstance(value, Tensor):
            raise InputError(
                f"the condition {name!r} must be a tensor with one row a sample; got "
                f"{describe(value)}. conditions.resolve makes one of numbers and names"
            )
        spec = specs[name]
        shape = (count,) if spec.kind == "class" else (count, spec.size)
        right = value.is_floating_point() if spec.kind == "vector" else value.dtype == torch.int64
        if tuple(value.shape) != shape or not right:
            kind = "float" if spec.kind == "vector" else "int64"
            raise InputError(
                f"the condition {name!r} must be {kind} of shape {shape}, one row a sample; "
                f"got {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
            )
        needed = not spec.optional and value.device.type == "cpu"
        if needed and bool(is_null(value).any()):
            raise InputError(_missing(name, spec, model))
        is_class = spec.kind == "class" and value.device.type == "cpu" and count > 0
        if is_class and int(value.max()) >= spec.size:
            raise InputError(
                f"the condition {name!r} must be 0 to {spec.size - 1}, or {NULL_CLASS} for none; "
                f"got {int(value.max())}"
            )


def _missing(name: str, spec: ConditionSpec, model: str) -> str:
    """The message about a condition that the model cannot do without."""
    example = "{'class': 0}" if spec.kind == "class" else "{'vector': [...]}"
    return (
        f"{model} was trained with the condition {name!r} in every example (condition.dropout=0), "
        f"so that it has no unconditional form; give {spec.describe()}, such as condition={example}"
    )


def resolve(
    condition: Mapping[str, Any] | None, specs: Specs, count: int, model: str = "the model"
) -> Condition | None:
    """The user's form of a condition in the internal form.

    A vector far outside the training data gives a RuntimeWarning (`far_vectors`).

    Args:
        condition: Mapping from names to values. A class is a whole number, or a name where the
            spec has names; a vector is a row of numbers. One value stands for all samples, a
            sequence or array of `count` values gives each sample its own. None as a value, or as
            one of the classes, means unconditional; so does -1 in an array or a tensor, unless a
            class is called -1. What this function gave resolves to itself.
        specs: What the model accepts.
        count: Number of samples.
        model: Name of the model for messages.

    Returns:
        The mapping of tensors with `count` rows; None where nothing was given.

    Raises:
        InputError: The model does not take a name or a value, or no training example had the class;
            the message lists what it takes.
    """
    if condition is None:
        check(None, specs, 0, model)
        return None
    if not isinstance(condition, Mapping):
        raise InputError(
            f"condition must be a mapping such as {{'class': 7}}; got {describe(condition)}"
        )
    count = whole(count, "count", 0)
    found: dict[str, Tensor] = {}
    for name, value in condition.items():
        if name not in specs:
            known = "; ".join(f"{key!r}: {spec.describe()}" for key, spec in specs.items())
            raise InputError(f"{model} takes {known or 'no condition'}; got the condition {name!r}")
        if value is None:
            continue
        spec, rows = specs[name], value
        if not isinstance(condition, InternalForm):
            read = _classes if spec.kind == "class" else _vectors
            rows = read(without_mask(value, f"the condition {name!r}"), spec, name)
        if len(rows) not in (1, count):
            raise InputError(
                f"the condition {name!r} needs one value for all or one for each of {count} "
                f"samples; got {len(rows)}"
            )
        found[name] = rows.expand(count, *rows.shape[1:])
    check(found, specs, count, model)
    if not isinstance(condition, InternalForm):
        for text in unseen_classes(found, specs):
            raise InputError(text)
        for text in far_vectors(found, specs):
            warnings.warn(text, RuntimeWarning, stacklevel=3)
    return InternalForm(found) if found else None


def _classes(value: Any, spec: ConditionSpec, name: str) -> Tensor:
    """Class indices (1,) or (B,) of a number, a class name, or a sequence of them."""
    if getattr(value, "ndim", 0) > 1:
        raise InputError(
            f"the condition {name!r} takes one class a sample; got shape {tuple(value.shape)}"
        )
    if getattr(value, "dtype", None) is not None:  # an array, a tensor or a column of a table
        value = value.reshape(-1) if value.ndim == 0 else value
        found = items(value, f"the condition {name!r}", f"{spec.describe()}")
        absent = () if str(NULL_CLASS) in (spec.names or ()) else (str(NULL_CLASS), "-1.0")
        listed = [None if str(one) in absent else one for one in found]
    elif isinstance(value, str) or isinstance(plain(value), str | Number):
        listed = [value]
    else:
        listed = items(value, f"the condition {name!r}", f"{spec.describe()}, one or several")
    return torch.tensor([_class(plain(item), spec, name) for item in listed], dtype=torch.int64)


def _class(item: Any, spec: ConditionSpec, name: str) -> int:
    """The number of a class; None gives the null class."""
    if item is None:
        return NULL_CLASS
    if spec.names is not None and str(item) in spec.names:
        return spec.names.index(str(item))
    try:
        number = whole(float(item) if re.fullmatch(DIGITS, str(item)) else item, name, 0)
    except InputError:
        number = spec.size  # no class has this number
    # Names decide: where classes are called "1", "2", ..., the number 0 is not one of them.
    indexed = spec.names is None or not all(known.lstrip("-").isdigit() for known in spec.names)
    if indexed and number < spec.size:
        return number
    raise InputError(f"the condition {name!r} takes {spec.describe()}; got {item!r}")


def _vectors(value: Any, spec: ConditionSpec, name: str) -> Tensor:
    """Rows (1, k) or (B, k) of numbers."""
    try:
        rows = floats(value, name).detach()
    except InputError as error:
        raise InputError(
            f"the condition {name!r} takes {spec.describe()}; got {describe(value)}"
        ) from error
    if rows.ndim < 2:
        rows = rows.reshape(-1, 1) if spec.size == 1 else rows.reshape(1, -1)
    if rows.ndim != 2 or rows.shape[1] != spec.size:
        raise InputError(
            f"the condition {name!r} takes {spec.describe()}; got shape {tuple(rows.shape)}"
        )
    bad = ~torch.isfinite(rows).all(1) & ~torch.isnan(rows).all(1)
    if bool(bad.any()):
        k = int(bad.nonzero()[0])
        raise InputError(
            f"the condition {name!r} must be finite; row {k} is {rows[k].tolist()}. A row of NaN "
            "alone means unconditional"
        )
    return rows
