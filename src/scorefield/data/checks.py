"""Checks of the numbers that were read: their spread, and codes that stand for missing values."""

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from ..errors import InputError
from .dataset import Dataset
from .missing_codes import code_notes, is_code
from .statistics import Ranges, ranges
from .table_form import TableForm

SMALLEST, LARGEST = 1e-150, 1e150  # spreads whose squares float64 holds


def check_numbers(dataset: Dataset, examples: bool = True) -> Dataset:
    """The data set with sentences about codes in its report.

    Args:
        dataset: The data set.
        examples: Whether to check the examples, and not the vectors of the condition alone.

    Raises:
        InputError: The numbers of a column differ by so little or so much that their variance is
            beyond the range of float64.
    """
    notes = []
    if examples and not dataset.image and dataset.quantisation_levels is None:
        names = _names(dataset)
        table = isinstance(dataset.form, TableForm)
        advice = "leave such cells blank and give --missing (missing=)" if table else ""
        notes += _checked(dataset.values, names, dataset.name, advice)
    if dataset.vectors is not None:
        width = dataset.vectors.shape[1]
        own = dataset.vector_names or [f"number {k + 1}" for k in range(width)]
        names = [f"{name} of the condition" for name in own]
        notes += _checked(dataset.vectors, names, dataset.name, "")
    reading = replace(dataset.reading, notes=(*dataset.reading.notes, *notes))
    return replace(dataset, reading=reading) if notes else dataset


def _names(dataset: Dataset) -> list[str]:
    """A name for every column or channel; "" for those that hold no numbers."""
    form, width = dataset.form, dataset.event_shape[0]
    if isinstance(form, TableForm):
        names = [""] * width
        for column in form.columns:
            if column.kind in ("continuous", "integer", "discrete"):
                names[form.elements[column.name].start] = column.name
        return names
    if width == 1:
        return ["the data"]
    if dataset.columns is not None:
        return list(dataset.columns)
    what = "column" if len(dataset.event_shape) == 1 else "channel"
    return [f"{what} {k + 1}" for k in range(width)]


def _checked(values: Tensor, names: Sequence[str], source: str, advice: str) -> list[str]:
    """Sentences about the codes of an array whose spread is checked."""
    found = ranges(values)
    _check_spread(found, names, source)
    return code_notes(values, found, names, advice or "leave such examples out or fill it in")


def _check_spread(found: Ranges, names: Sequence[str], source: str) -> None:
    """Refuse numbers whose variance float64 does not hold."""
    for name, low, high in zip(names, *found, strict=True):
        width = high - low
        if not name or width == 0 or SMALLEST <= width <= LARGEST:
            continue
        much = "little" if width < SMALLEST else "much"
        power = -math.floor(math.log10(width)) if math.isfinite(width) else -308
        codes = [value for value in (low, high) if is_code(value)]
        blank = "".join(
            f"Leave examples with {v:g} out if it means a missing value. " for v in codes
        )
        raise InputError(
            f"{source}: the numbers of {name} ({low:g} to {high:g}) differ by so {much} that their "
            f"variance is beyond the range of float64. {blank}Multiply the numbers "
            f"by 1e{power} first"
        )
