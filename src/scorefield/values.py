"""Arguments as people give them, in the form that the code works with.

    number, finite, whole, flag    one number: Python's, NumPy's or PyTorch's, a 0-d array or tensor
    items, numbers, whole_numbers  a list, tuple, range, generator, array or tensor
    mapping, plain_tree            any mapping; nested values in plain Python
    file_path, text, one_of        a path, a text, a text from a list of names
    parse_count, parse_seconds     texts such as 250k and 5m

Every function names the argument in its error. What could be meant in two ways is refused: a text
where a number belongs, True where a number belongs, a complex number even without an imaginary
part, a set where the order matters. A whole number may be given as a float without a fraction, as
5.0, since JSON and arrays of floats often bring it so.

This module imports neither NumPy nor PyTorch, so that settings are read without them; `tensors`
does the same for arrays of numbers.
"""

import difflib
import math
import os
from collections.abc import Iterable, Mapping
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from .errors import InputError

COUNT_FACTORS = {"k": 1_000, "K": 1_000, "m": 1_000_000, "M": 1_000_000}
SECOND_FACTORS = {"s": 1.0, "m": 60.0, "h": 3600.0}
SHOWN_CHARACTERS = 60  # of a value that an error message shows


# -- words for messages


def describe(value: Any) -> str:
    """What was given, in a few words for an error message."""
    if isinstance(value, str):
        return f"the text {_cut(repr(str(value)))}"
    if isinstance(value, complex):
        return f"the complex number {value}"
    if value is None or isinstance(value, bool | int | float | list | tuple | dict):
        return _cut(repr(value))
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is not None and isinstance(shape, tuple):
        kind = str(dtype).removeprefix("torch.")
        if shape == ():
            return f"{_cut(str(plain(value)))} ({kind})"
        return f"{type(value).__name__} of shape {tuple(shape)} and type {kind}"
    return _cut(str(value)) if isinstance(value, Real | Decimal) else type(value).__name__


def _cut(words: str) -> str:
    return words if len(words) <= SHOWN_CHARACTERS else words[: SHOWN_CHARACTERS - 3] + "..."


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the name nearest to `name`, or "." where none is near."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


# -- one number


def plain(value: Any) -> Any:
    """A number of NumPy or PyTorch, or a 0-d array or tensor, as Python's; others as they are."""
    if getattr(value, "ndim", None) != 0 or _is_time(value) or getattr(value, "mask", False):
        return value
    try:
        item = value.item()
    except (AttributeError, RuntimeError, TypeError, ValueError):  # such as a meta tensor
        return value
    if type(item) is not type(value):
        return item
    # A long double is its own item.
    return float(item) if isinstance(item, Real) else complex(item)


def _is_time(value: Any) -> bool:
    """Whether NumPy keeps a date or a duration there, whose number depends on its unit."""
    return getattr(getattr(value, "dtype", None), "kind", "") in ("m", "M")


def _real(value: Any, name: str, needed: str) -> Any:
    """A real number that is no truth value."""
    found = plain(value)
    if isinstance(found, bool) or not isinstance(found, Real | Decimal) or _is_time(found):
        hint = ""
        if isinstance(found, complex):
            hint = ". Give real and imaginary parts as two numbers, or the real part alone"
        raise InputError(f"{name} must be {needed}; got {describe(value)}{hint}")
    return found


def is_number(value: Any) -> bool:
    """Whether a value is one real number, truth values left out."""
    found = plain(value)
    return isinstance(found, Real | Decimal) and not isinstance(found, bool)


def number(value: Any, name: str) -> float:
    """A float, infinity and NaN included.

    Raises:
        InputError: For anything but a real number.
    """
    if type(value) is float:
        return value
    found = _real(value, name, "a number")
    try:
        return float(found)
    except OverflowError as error:
        raise InputError(f"{name} must be below 1e308; got {describe(value)}") from error


def finite(
    value: Any, name: str, low: float = -math.inf, high: float = math.inf, above: bool = False
) -> float:
    """A finite float.

    Args:
        value: What was given.
        name: The argument's name, for the message.
        low: Smallest value allowed.
        high: Largest value allowed.
        above: True where `low` itself is not allowed.

    Returns:
        The number.

    Raises:
        InputError: For anything else.
    """
    found = number(value, name)
    if not math.isfinite(found) or found < low or (above and found == low):
        bound = f"{'above' if above else 'at least'} {low:g} and " if low > -math.inf else ""
        raise InputError(f"{name} must be {bound}finite; got {found:g}")
    if found > high:
        raise InputError(f"{name} must be at most {high:g}; got {found:g}")
    return found


def whole(value: Any, name: str, low: int | None = None, high: int | None = None) -> int:
    """A whole number; a float without a fraction is one.

    Args:
        value: What was given.
        name: The argument's name, for the message.
        low: Smallest value allowed; None for any.
        high: Largest value allowed; None for any.

    Returns:
        The number.

    Raises:
        InputError: For anything else.
    """
    found = _real(value, name, "a whole number")
    if not isinstance(found, Integral) and not (math.isfinite(found) and found == int(found)):
        raise InputError(f"{name} must be a whole number; got {describe(value)}")
    count = int(found)
    if low is not None and count < low:
        raise InputError(f"{name} must be at least {low}; got {count}")
    if high is not None and count > high:
        raise InputError(f"{name} must be at most {high}; got {count}")
    return count


def flag(value: Any, name: str) -> bool:
    """True or False, also as NumPy or PyTorch give them.

    Raises:
        InputError: For anything else, the numbers 0 and 1 included.
    """
    found = plain(value)
    if not isinstance(found, bool):
        raise InputError(f"{name} must be True or False; got {describe(value)}")
    return found


# -- several of them


def items(value: Any, name: str, needed: str = "a list, array or other sequence") -> list[Any]:
    """The elements of a list, tuple, range, generator, array or tensor.

    Args:
        value: What was given. A generator is used up.
        name: The argument's name, for the message.
        needed: What is needed, for the message.

    Returns:
        A list; the elements of an array or a tensor are plain Python.

    Raises:
        InputError: For anything else. Texts, mappings and sets are no sequences here.
    """
    if isinstance(value, list | tuple | range):
        return list(value)
    hint = ". A set has no order; sort it into a list" if isinstance(value, set | frozenset) else ""
    if isinstance(value, str | bytes | bytearray | Mapping | set | frozenset):
        raise InputError(f"{name} must be {needed}; got {describe(value)}{hint}")
    array = hasattr(value, "tolist") and getattr(value, "ndim", 0) > 0 and not _is_time(value)
    try:
        return list(value.tolist() if array else value)
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{name} must be {needed}; got {describe(value)}") from error


def numbers(value: Any, name: str) -> list[float]:
    """Finite floats.

    Raises:
        InputError: For anything else.
    """
    found = items(value, name, "a sequence of numbers")
    return [finite(one, f"{name}[{k}]") for k, one in enumerate(found)]


def whole_numbers(
    value: Any, name: str, low: int | None = None, needed: str = "a sequence of whole numbers"
) -> list[int]:
    """Whole numbers.

    Args:
        value: What was given.
        name: The argument's name, for the message.
        low: Smallest value allowed; None for any.
        needed: What is needed, for the message.

    Returns:
        The numbers.

    Raises:
        InputError: For anything else.
    """
    return [whole(one, f"{name}[{k}]", low) for k, one in enumerate(items(value, name, needed))]


def texts(value: Any, name: str) -> list[str]:
    """Texts, such as the names of columns; numbers among them become texts.

    Raises:
        InputError: For anything but a sequence.
    """
    return [str(plain(one)) for one in items(value, name, "a list of texts")]


def shape(value: Any, name: str) -> tuple[int, ...]:
    """The shape of an array: whole numbers of at least 1.

    Raises:
        InputError: For anything else.
    """
    needed = "a shape such as (3, 32, 32)"
    return tuple(whole_numbers(value, name, 1, needed))


def functions(value: Any, name: str) -> tuple[Any, ...]:
    """Functions, such as callbacks: a generator would be empty when it is read a second time.

    Raises:
        InputError: For anything but a sequence of functions.
    """
    found = tuple(items(value, name, "a list of functions"))
    for one in found:
        if not callable(one):
            raise InputError(f"{name} must be a list of functions; got {describe(one)} in it")
    return found


# -- mappings, paths, texts


def mapping(value: Any, name: str) -> dict[str, Any]:
    """Any mapping from names, as a dictionary; its values stay as they are.

    Raises:
        InputError: For anything else, and for names that are no texts.
    """
    if not isinstance(value, Mapping):
        raise InputError(f'{name} must be a mapping such as {{"name": 1}}; got {describe(value)}')
    for key in value:
        if not isinstance(key, str):
            raise InputError(f"the names in {name} must be texts; got {describe(key)}")
    return {str(key): one for key, one in value.items()}


def by_text(value: Mapping[Any, Any], name: str) -> dict[str, Any]:
    """A mapping with its keys as texts; its values stay as they are.

    Args:
        value: A mapping from names, which may be numbers.
        name: What the mapping is, for the message.

    Returns:
        The dictionary, in the same order.

    Raises:
        InputError: Two keys, such as 1 and "1", are the same text.
    """
    found: dict[str, Any] = {}
    keys: dict[str, Any] = {}
    for key, one in value.items():
        text = str(key)
        if text in found:
            raise InputError(
                f"{name}: the names {keys[text]!r} and {key!r} are both written {text}. Give every "
                "column or array a name of its own"
            )
        found[text], keys[text] = one, key
    return found


def plain_tree(value: Any) -> Any:
    """A value in the form that JSON can hold, as far as it has one.

    Mappings become dictionaries; sequences, generators, arrays and tensors become lists; numbers
    become Python's; paths become texts. Anything else stays as it is.
    """
    if isinstance(value, Mapping):
        return {str(key): plain_tree(one) for key, one in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bytes | set | frozenset) or value is None:
        return value
    if isinstance(value, Iterable) and getattr(value, "ndim", 1) > 0:
        return [plain_tree(one) for one in items(value, "a setting")]
    return plain(value)


def file_path(value: Any, name: str) -> Path:
    """A path from a text or an object such as pathlib's.

    Raises:
        InputError: For anything else, and for an empty text, which would be the working folder.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise InputError(f"{name} must be a path, a text or a pathlib.Path; got {describe(value)}")
    if not os.fspath(value):
        raise InputError(f'{name} must not be empty; for the working folder give "."')
    return Path(value)


def text(value: Any, name: str) -> str:
    """A text.

    Raises:
        InputError: For anything else.
    """
    found = plain(value)
    if not isinstance(found, str):
        raise InputError(f"{name} must be a text; got {describe(value)}")
    return str(found)


def one_of(value: Any, names: Iterable[str], name: str) -> str:
    """Check that a value is one of some names.

    Args:
        value: What was given.
        names: The names that are allowed.
        name: What the value is, for the error.

    Returns:
        The name.

    Raises:
        InputError: For any other value; the message gives the names, and the nearest one.
    """
    known, found = list(names), plain(value)
    if isinstance(found, str) and found in known:
        return str(found)
    got = repr(str(found)) if isinstance(found, str) else describe(value)
    near = did_you_mean(found, known).removesuffix(".") if isinstance(found, str) else ""
    raise InputError(f"{name} must be one of {', '.join(known)}; got {got}{near}")


# -- counts and durations as people type them


def parse_count(value: Any, name: str = "a count") -> int:
    """Read a whole number with an optional suffix k (thousand) or M (million).

    Args:
        value: A text such as "250000", "250k" or "1.5M", or a number.
        name: What the number is, for the error.

    Returns:
        The number; "250k" gives 250,000.

    Raises:
        InputError: The value is not such a number, or not a whole one ("0.0001k").
    """
    found = plain(value)
    if not isinstance(found, str):
        return whole(value, name)
    factor = COUNT_FACTORS.get(found[-1:], 1)
    try:
        if factor == 1:
            return int(found)
        scaled = float(found[:-1]) * factor
        if not math.isclose(scaled, round(scaled), rel_tol=1e-9, abs_tol=1e-9):
            raise ValueError(found)
        return round(scaled)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{name} must be a whole number such as 250000, 250k or 1M; got {found!r}"
        ) from error


def parse_seconds(value: Any, name: str = "a duration") -> float:
    """Read a duration.

    Args:
        value: Seconds as a number or a text, or a text with the suffix s, m (minutes) or h (hours):
            90, "90", "90s", "5m", "1.5h".
        name: What the duration is, for the error.

    Returns:
        The duration in seconds, above 0.

    Raises:
        InputError: The value is not a duration, or the duration is not above 0 and finite.
    """
    found = plain(value)
    if not isinstance(found, str):
        return finite(value, name, 0.0, above=True)
    factor = SECOND_FACTORS.get(found[-1:])
    try:
        seconds = float(found) if factor is None else float(found[:-1]) * factor
    except ValueError as error:
        raise InputError(
            f"{name} must be a duration such as 90s, 5m or 1.5h; got {found!r}"
        ) from error
    if not (seconds > 0 and math.isfinite(seconds)):
        raise InputError(f"{name} must be above 0 and finite; got {found!r}")
    return seconds


def listed(names: Iterable[Any], most: int = 8) -> str:
    """The first names for a message: a, b, c and 4 more.

    Args:
        names: The names.
        most: How many are shown.

    Returns:
        The text.
    """
    shown = [str(name) for name in names]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
