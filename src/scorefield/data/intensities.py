"""Other images in the levels of a model's: what their values mean beside the model's own.

Floats within [0, 1] are intensities, not stored whole numbers: those that all lie on the grid k /
(levels - 1) are the levels k, others stay floats. Whole numbers are stored values. Of 0 and 1 alone
it is not known which of both they are.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import InputError
from .array_form import ArrayForm
from .dataset import Dataset, digest
from .form import form_to_dict
from .levels import SMALL_LEVELS

OFF_GRID = 0.25  # in levels: where a type's rounding is coarser, no grid can be recognised


def grid_levels(seen: Tensor, levels: int) -> Tensor | None:
    """The levels k of floats k / (levels - 1).

    Args:
        seen: Floats of any shape.
        levels: The number of levels.

    Returns:
        float64 whole numbers; None where a float lies off the grid by more than the rounding of
        its type, or outside [0, 1].
    """
    tolerance = 2 * levels * torch.finfo(seen.dtype).eps
    if tolerance > OFF_GRID:
        return None
    scaled = seen.to(torch.float64) * (levels - 1)
    nearest = scaled.round()
    if bool(((scaled - nearest).abs() > tolerance).any()):
        return None
    return nearest if bool(((nearest >= 0) & (nearest < levels)).all()) else None


def refuse_masks(low: float, high: float, levels: int, name: str, ways: tuple[str, str]) -> None:
    """Refuse whole numbers of images that are 0 and 1 alone: levels, or black and white.

    Args:
        low: The smallest value.
        high: The largest value.
        levels: The number of levels of the model's images.
        name: The source, for messages.
        ways: What to give where 1 is white, and where it is level 1.

    Raises:
        InputError: The largest value is 1 and the model has more than two levels.
    """
    if levels > 2 and low >= 0 and high == 1:
        raise InputError(
            f"{name} holds whole numbers 0 and 1 only, and the model's images hold 0 to "
            f"{levels - 1}, so that 1 may be white or the stored number 1. Give {ways[0]} for "
            f"white, {ways[1]} for the stored number"
        )


def array_ways(levels: int) -> tuple[str, str]:
    """What to give in place of an array x of 0 and 1: floats in [0, 1]."""
    return "x.astype(float)", f"x / {levels - 1}"


def with_levels_of(
    form: ArrayForm,
    dataset: Dataset,
    ranged: bool,
    reopen: Callable[[tuple[float, float]], Dataset],
) -> Dataset:
    """Images of another source in the levels of a model's.

    Args:
        form: The form of the model's images.
        dataset: The images as their own range suggests, or as the user's range states.
        ranged: Whether the user gave their range.
        reopen: Reads the source again with a range of stored values.

    Returns:
        The images in [0, 1], of the model's levels where all of them are.

    Raises:
        InputError: The values are not those of the model's images, or may mean two things.
    """
    own, name, levels = dataset.form, dataset.name, form.levels
    if isinstance(own, ArrayForm) and same_values(own, form):
        return dataset
    low, high = form.low, form.low + form.step * (1 if levels is None else levels - 1)
    if ranged or (levels is not None and dataset.quantisation_levels is None):
        return dataset if levels is None else _on_levels(form, dataset, levels, ranged)
    if levels is not None and form.step != 1:
        raise InputError(
            f"{name}: the model's images hold {levels} levels in steps of {form.step:g}, and these "
            f"hold others. Give values {low:g} to {high:g} in such steps"
        )
    span = (dataset.reading.low or 0.0, dataset.reading.high or 0.0)
    if levels is not None and low == 0:
        stored = f"--range 0,{high:g} (range=(0, {high:g}))"
        refuse_masks(*span, levels, name, ("--range 0,1 (range=(0, 1))", stored))
        if isinstance(own, ArrayForm) and own.dtype == "uint8" and levels > SMALL_LEVELS:
            raise InputError(
                f"{name} holds 8 bits, 0 to 255, and the model's images hold 0 to {high:g}. Give "
                f"--range 0,255 (range=(0, 255)) where 255 is white, {stored} for the stored "
                "numbers"
            )
    try:
        found = reopen((low, high))
    except InputError as error:
        raise InputError(
            f"{name} spans {span[0]:g} to {span[1]:g}; the model's images hold values {low:g} to "
            f"{high:g}"
        ) from error
    return _noted(found, "the range is that of the model's images")


def same_values(a: ArrayForm, b: ArrayForm) -> bool:
    """Whether stored values mean the same in two forms."""
    return (a.levels, a.low, a.step) == (b.levels, b.low, b.step)


def _noted(dataset: Dataset, note: str) -> Dataset:
    reading = dataset.reading
    return replace(dataset, reading=replace(reading, notes=(*reading.notes, note)))


def _on_levels(form: ArrayForm, dataset: Dataset, levels: int, ranged: bool) -> Dataset:
    """Intensities as the model's levels; as they are where they lie off the grid."""
    stored = grid_levels(dataset.floats(slice(None)), levels)
    kind = "values" if ranged else "floats in [0, 1] are read as intensities; they"
    if stored is None:
        return _noted(dataset, f"{kind} are not all on the model's {levels} levels, and stay so")
    own = dataset.form
    values = stored.to(torch.uint8 if levels <= SMALL_LEVELS else torch.int32)
    if isinstance(own, ArrayForm):
        own = replace(own, levels=levels, low=form.low, step=form.step, dtype=form.dtype)
    known = {**dataset.description, "dtype": str(values.dtype).removeprefix("torch.")}
    known |= {"sha256": digest(values)} | ({} if own is None else {"form": form_to_dict(own)})
    found = replace(dataset, values=values, quantisation_levels=levels, form=own, description=known)
    return _noted(found, f"{kind} are the model's {levels} levels")
