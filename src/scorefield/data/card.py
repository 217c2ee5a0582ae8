"""The data of a model card: `open_card_data` is the one way from a card to its data and split."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor

from ..config.groups.data import ConditionRequest, DataRequest
from ..errors import InputError
from .dataset import Dataset
from .opening import open as open_data
from .options import ReadOptions
from .pipeline import split


class Split(NamedTuple):
    """A data set, and the int64 indices of its training and held-out parts."""

    dataset: Dataset
    train: Tensor
    held_out: Tensor


def is_card_data(card: Mapping[str, Any], dataset: Dataset) -> bool:
    """Whether a data set has the values and labels that the card's model was trained on."""
    known = card.get("data") or {}
    return "sha256" in known and all(
        known.get(name) == dataset.description.get(name) for name in ("sha256", "labels_sha256")
    )


def card_options(card: Mapping[str, Any] | None) -> ReadOptions:
    """The reading options of a card's training run; images stay images."""
    card = card or {}
    settings = (card.get("config") or {}).get("data") or {}
    stored = (card.get("config") or {}).get("condition") or {}
    condition = ConditionRequest.from_dict(
        {k: stored[k] for k in ConditionRequest.model_fields if k in stored}
    )
    options = ReadOptions.of_settings(DataRequest.from_dict(known_settings(settings)), condition)
    data = card.get("data") or {}
    table = (data.get("form") or {}).get("kind") == "table"
    if options.image is None and "image" in data and not table:
        options = replace(options, image=data["image"])
    return options


def _read(place: Any, card: Mapping[str, Any]) -> Dataset:
    """Open data with the reading options of the training run."""
    options = card_options(card)
    if not isinstance(place, (str, os.PathLike)):
        options = replace(options, size=None, key=None)
    return open_data(place, options)


def known_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The data settings of a card that this version has; those of other versions are left out."""
    return {name: settings[name] for name in DataRequest.model_fields if name in settings}


def open_card_data(card: Mapping[str, Any] | None, source: Any = None) -> Split:
    """Read the data that a model was trained on, and split them as its training did.

    Args:
        card: The model card.
        source: Where the data are now, if not at the place that the card names: anything `open`
            takes. The content must be the same.

    Returns:
        The data set with the indices of its training and held-out parts.

    Raises:
        InputError: The card names no data that can be read again, or the data have changed.
    """
    card = card or {}
    config, known = card.get("config") or {}, card.get("data") or {}
    settings = config.get("data") or {}
    if "seed" not in config or "held_out" not in settings or "sha256" not in known:
        raise InputError(
            "the model card records no training data (an imported or hand-made model); give the "
            "data"
        )
    named = settings.get("source") or ""
    if source is None and (not named or str(named).startswith("<")):
        raise InputError(
            "the model was trained on an array in memory, which cannot be read again; give the data"
        )
    place = named if source is None else source
    dataset = place if isinstance(place, Dataset) else _read(place, card)
    if not is_card_data(card, dataset):
        changed = [
            k for k in ("sha256", "labels_sha256") if known.get(k) != dataset.description.get(k)
        ]
        what = "values" if "sha256" in changed else "labels"
        raise InputError(
            f"{dataset.name}: the {what} are not those the model was trained on (their SHA-256 "
            "differs from the card's), so which examples were held out is not known. Give the "
            "unchanged data, or use all of the changed data as other data"
        )
    parts = split(dataset.labels, len(dataset), config["seed"], settings["held_out"])
    return Split(dataset, *parts)
