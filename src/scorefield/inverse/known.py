"""Exactly known elements of an observation that the training data do not have."""

import torch
from torch import Tensor

from ..data import View, form_of
from ..data.known_cells import notes_on_known
from ..data.table_form import TableForm
from ..errors import InputError
from ..models import ScoreModel, constant_elements, off_constants
from .measurement import Reading


def refuse_other_constants(
    model: ScoreModel, reading: Reading, known: Tensor, kind: torch.dtype
) -> None:
    """Refuse known elements of vectors that differ from what is constant in the training data.

    Images may have pixels that are constant in the training data; there another value is a trifle.

    Args:
        model: The prior.
        reading: The observations in data units.
        known: bool, broadcasting against them: the elements that are known exactly.
        kind: The type of the observations as they came.

    Raises:
        InputError: An element differs: no restoration has it and is like the training data.
    """
    constant = constant_elements(model)
    if len(model.event_shape) > 1 or not bool(constant.any()):
        return
    wide = kind if kind.is_floating_point else torch.float64
    away = known & off_constants(model, reading.values, wide)
    if not bool(away.any()):
        return
    row, place = away.nonzero()[0].tolist()
    shift = model.units.shift.to("cpu", torch.float64).expand(model.event_shape)
    names = View(form=form_of(model.card)).element_names
    element = repr(names[place]) if place < len(names) else f"element {place} (from 0)"
    raise InputError(
        f"observation {row} (from 0) holds {float(reading.values[row, place]):g} in {element}, and "
        f"every example of the training data has {float(shift[place]):g} there, so that the model "
        "has no examples with another value. Mark the element as unknown (NaN), or train on "
        "examples that have it"
    )


def notes_on_known_rows(model: ScoreModel, reading: Reading, known: Tensor) -> tuple[str, ...]:
    """Notices about known cells of a table's rows that the training data do not have.

    Args:
        model: The prior.
        reading: The observations in data units.
        known: bool, broadcasting against them: the elements that are known exactly.

    Returns:
        A sentence a column; none for models of other data.
    """
    form = form_of(model.card)
    if not isinstance(form, TableForm) or tuple(model.event_shape) != form.event_shape:
        return ()
    rows = torch.where(known, reading.values, float("nan"))
    return tuple(notes_on_known(form, rows))
