"""Arrow types as numbers or words, and back.

whole numbers, floats, decimals     themselves
dates                               days since 1970-01-01
timestamps                          seconds since 1970-01-01 (UTC where they have a time zone)
times of day, durations             seconds
text, dictionaries, booleans        words
"""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError
from .cells import Unclear

EXACT = 1 << 53  # whole numbers up to here are exact in float64
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
DAY_MS = 86_400_000

t = pa.types


def is_words(kind: Any) -> bool:
    """Whether a column of this type holds words: text, dictionaries, booleans."""
    text = t.is_string(kind) or t.is_large_string(kind) or str(kind) == "string_view"
    return bool(text or t.is_boolean(kind) or t.is_dictionary(kind))


def is_temporal(kind: Any) -> bool:
    """Whether a column of this type holds dates, times or durations."""
    return bool(t.is_date(kind) or t.is_timestamp(kind) or t.is_time(kind) or t.is_duration(kind))


def is_number(kind: Any) -> bool:
    """Whether a column of this type holds whole numbers, floats or decimals."""
    return bool(t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind))


def data_unit(kind: Any) -> str:
    """The unit of the numbers that stand for dates and times; "" for other types."""
    if t.is_date(kind):
        return "days since 1970-01-01"
    if t.is_timestamp(kind):
        return "seconds since 1970-01-01" + ("" if kind.tz is None else " UTC")
    return "seconds" if is_temporal(kind) else ""


def ticks(kind: Any) -> int:
    """How many stored units a day or second of dates and times has."""
    if t.is_date32(kind):
        return 1
    return DAY_MS if t.is_date64(kind) else PER_SECOND[kind.unit]


def data_type(text: str) -> Any:
    """The Arrow type that `str(type)` names.

    Raises:
        InputError: There is no such type.
    """
    if found := re.fullmatch(r"timestamp\[(\w+), tz=(.+)\]", text):
        return pa.timestamp(found.group(1), found.group(2))
    if found := re.fullmatch(r"dictionary<values=(.+), indices=(\w+), ordered=(\d)>", text):
        values, indices, ordered = found.groups()
        return pa.dictionary(data_type(indices), data_type(values), ordered == "1")
    if found := re.fullmatch(r"decimal(\d+)\((\d+), (-?\d+)\)", text):
        bits, precision, scale = map(int, found.groups())
        return getattr(pa, f"decimal{bits}")(precision, scale)
    try:
        return pa.type_for_alias(text)
    except ValueError as error:
        raise InputError(f"there is no Arrow type {text!r}") from error


def to_numbers(array: Any) -> np.ndarray:
    """A column of numbers, dates or times as float64, NaN where null.

    Args:
        array: An Arrow array for which `is_number` or `is_temporal` holds.

    Raises:
        Unclear: Whole numbers have more digits than float64.
    """
    kind = array.type
    if is_temporal(kind):
        narrow = t.is_date32(kind) or t.is_time32(kind)
        whole = pc.cast(array.view(pa.int32()) if narrow else array.view(pa.int64()), pa.int64())
        per = ticks(kind)
        part = coarsest(whole, per)
        return _exact(pc.divide(whole, part)) / (per // part)
    if t.is_integer(kind):
        return _exact(array)
    if t.is_decimal(kind):
        array = pc.cast(array, pa.string())  # a cast of decimals to floats does not round well
    numbers = pc.cast(array, pa.float64()).to_numpy(zero_copy_only=False)
    return np.array(numbers, dtype=np.float64)


def coarsest(whole: Any, per: int) -> int:
    """The largest power of 1000 that divides `per` and all whole numbers of an Arrow array."""
    part = 1
    present = pc.drop_null(whole).to_numpy(zero_copy_only=False)
    while per % (part * 1000) == 0 and not (present % (part * 1000)).any():
        part *= 1000
    return part


def _exact(array: Any) -> np.ndarray:
    """Whole numbers as float64, NaN where null."""
    present = pc.fill_null(array, 0).to_numpy(zero_copy_only=False)
    numbers = present.astype(np.float64)
    large = np.flatnonzero(np.abs(numbers) >= EXACT)
    lost = [k for k in large.tolist() if int(numbers[k]) != int(present[k])]
    if lost:
        raise Unclear(
            f"{int(present[lost[0]])} has more digits than float64 holds (2^53). Subtract an "
            "offset, or use a coarser unit, so that it is smaller",
            lost[:1],
        )
    if array.null_count:
        numbers[np.asarray(array.is_null().to_numpy(zero_copy_only=False))] = np.nan
    return numbers


def to_parts(numbers: np.ndarray, per: int) -> np.ndarray:
    """Numbers as whole multiples of 1/per, float64: of those that divide to them, where some do.

    The product alone is rounded, which moves microseconds of distant dates by one.
    """
    near = np.rint(numbers * per)
    for other in (near - 1, near + 1):
        near = np.where(other / per == numbers, other, near)
    return near


def from_numbers(numbers: np.ndarray, kind: Any, per: int = 0) -> Any:
    """Numbers as a column of an Arrow type; null where NaN.

    Args:
        numbers: float64 (N,).
        kind: The type.
        per: How many parts a unit has, of numbers that are whole multiples of such a part; 0: the
            type's own. A date in nanoseconds that is whole in microseconds keeps its digits so.

    Returns:
        The Arrow array; numbers beyond the type's range are its ends.
    """
    blank = np.isnan(numbers)
    if is_temporal(kind):
        own = ticks(kind)
        parts = per if per and own % per == 0 else own
        narrow = t.is_date32(kind) or t.is_time32(kind)
        top = (1 << 31) - 1 if narrow else min((1 << 63) // (own // parts) - 1024, EXACT)
        whole = np.clip(to_parts(np.where(blank, 0, numbers), parts), -top, top).astype(np.int64)
        stored = (whole * (own // parts)).astype(np.int32 if narrow else np.int64)
        return pa.array(stored, mask=blank).view(kind)
    if t.is_integer(kind):
        info = np.iinfo(kind.to_pandas_dtype())
        low, high = max(info.min, -EXACT), min(info.max, EXACT)
        whole = np.clip(np.rint(np.where(blank, 0, numbers)), low, high).astype(info.dtype)
        return pa.array(whole, kind, mask=blank)
    if t.is_decimal(kind):
        most = float(10 ** (kind.precision - kind.scale)) - 10.0**-kind.scale
        return pc.cast(pa.array(np.clip(numbers, -most, most), mask=blank), kind, safe=False)
    with np.errstate(over="ignore"):
        return pa.array(numbers.astype(kind.to_pandas_dtype()), kind, mask=blank)


def held(array: Any, kind: Any) -> Any | None:
    """A column as another type where that holds its values exactly.

    Args:
        array: An Arrow array of numbers, dates or times.
        kind: The type. A float of 32 bits holds numbers that it writes with the same digits.

    Returns:
        The array of the type, null where `array` is; None where a value would change.
    """
    if array.type == kind:
        return array
    if is_temporal(kind) or is_temporal(array.type) or t.is_null(array.type):
        if t.is_date(kind) and with_clock(array).any():
            return None  # a cast would cut the time off
        try:
            return array.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None
    numbers = to_numbers(array)
    found = from_numbers(numbers, kind)
    away = np.flatnonzero((to_numbers(found) != numbers) & ~np.isnan(numbers))
    if len(away) and not (t.is_float32(kind) or t.is_float16(kind)):
        return None
    single = numbers.astype(kind.to_pandas_dtype()) if len(away) else numbers
    return found if all(float(str(single[k])) == numbers[k] for k in away) else None


def with_clock(array: Any) -> np.ndarray:
    """Which timestamps have a time of day besides their date: bool (N,); none of other types."""
    if not t.is_timestamp(array.type):
        return np.zeros(len(array), dtype=bool)
    days = pc.cast(array, pa.date32(), safe=False)
    same = pc.equal(pc.cast(days, pa.timestamp(array.type.unit)), array)
    return ~np.asarray(pc.fill_null(same, True).to_numpy(zero_copy_only=False), dtype=bool)


def to_words(array: Any) -> Any:
    """A column of text, a dictionary or booleans as Arrow strings."""
    if t.is_dictionary(array.type):
        array = pc.cast(array, array.type.value_type)
    return pc.cast(array, pa.string())


def from_words(places: np.ndarray, words: tuple[str, ...], kind: Any) -> Any:
    """Words as a column of an Arrow type.

    Args:
        places: int64 (N,), the places of the words in `words`; -1 for null.
        words: The words, as `to_words` gives them.
        kind: The type.

    Returns:
        The Arrow array.
    """
    blank = places < 0
    chosen = np.where(blank, 0, places)
    if t.is_dictionary(kind):
        values = pc.cast(pa.array(words, pa.string()), kind.value_type)
        indices = pa.array(chosen, pa.int64(), mask=blank).cast(kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, values, ordered=kind.ordered)
    picked = pc.take(pa.array(words, pa.string()), pa.array(chosen, pa.int64(), mask=blank))
    return pc.cast(picked, kind)
