"""The protocol record: everything that decides a number, kept beside it.

measured    how numbers were made: data, split, features, counts, seeds, level, form. Two
            evaluations can be compared only where these entries agree
subject     what was evaluated: model, weights, sampler, guidance. These entries may differ
            between two evaluations that are compared
run         versions, machine settings and seconds
"""

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..checkpoint import card_hash
from ..models import Guidance, ScoreModel
from ..values import plain_tree
from .collect import Collected
from .features import Chosen
from .material import Material

VERSION = 1
# Entries of `measured` for readers: they may differ where the hashes agree.
STATED = ("data.reference", "features.held_out_accuracy", "features.held_out", "features.images")


def measured(
    material: Material, chosen: Chosen, count: int, seed: int, level: float, quick: bool
) -> dict[str, Any]:
    """The entry "measured": how the numbers of an evaluation were made.

    Args:
        material: The data.
        chosen: The feature space.
        count: Number of samples.
        seed: Seed of the metrics.
        level: Level of the intervals.
        quick: Whether it was the quick form.

    Returns:
        Values that JSON can hold.
    """
    dataset = material.dataset
    levels = dataset.quantisation_levels
    form = "as they are"
    if dataset.form is not None and dataset.form.kind == "table":
        form = "rounded to the steps and words of the columns"
    elif dataset.image:
        form = "clipped to [0, 1]"
        form += "" if levels is None else f" and rounded to {levels} levels"
    return {
        "data": material.to_dict(),
        "features": dict(chosen.features.to_dict()),
        "samples": count,
        "form_of_samples": form,
        "seed": seed,
        "level": level,
        "quick": quick,
    }


def subject(
    model: ScoreModel | None,
    collected: Collected | None,
    guidance: Guidance | None,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """What was evaluated.

    Args:
        model: The score model; None for samples alone.
        collected: The samples; None where sampling broke.
        guidance: Guidance of the samples, or None.
        facts: Further entries, such as the file of the samples.

    Returns:
        Values that JSON can hold.
    """
    found: dict[str, Any] = {"model": None if model is None else model_facts(model)}
    record = None if collected is None else collected.record
    if record is not None:
        drawn = record.to_dict()
        found["sampling"] = {k: drawn[k] for k in drawn if k not in ("seeds", "count", "seconds")}
        found["guidance"] = None if guidance is None else _guidance(guidance)
        found["condition"] = None if collected is None else _condition(collected)
    return dict(plain_tree(found | dict(facts)))


def _guidance(guidance: Guidance) -> dict[str, Any]:
    weak = None if guidance.weak is None else card_hash(guidance.weak.card or {})
    return {"scale": guidance.scale, "interval": guidance.interval, "weak_card_sha256": weak}


def _condition(collected: Collected) -> str:
    if collected.wanted is None:
        return "none, or vectors of held-out data"
    return "classes in the proportions of the training data"


def model_facts(model: ScoreModel) -> dict[str, Any]:
    """The model, its weights and its training, from its card."""
    card = model.card or {}
    config, history = card.get("config") or {}, card.get("history") or {}
    quantisation = model.units.quantisation
    return {
        "class": type(model).__name__,
        "card_sha256": None if model.card is None else card_hash(card),
        "network": (card.get("network") or {}).get("name"),
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights": {
            "average": config.get("ema"),
            "point": history.get("weights"),
            "images": history.get("images"),
        },
        "dequantisation": None
        if quantisation is None
        else {"levels": quantisation.levels, "uniform": quantisation.dequantised},
        "sigma": [model.sigma_min, model.sigma_max],
    }


def run_facts(seconds: Mapping[str, float], execution: Mapping[str, Any] | None) -> dict[str, Any]:
    """Versions, settings of the machine, and seconds of each stage."""
    return {
        "versions": {
            "scorefield": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "threads": torch.get_num_threads(),
        "execution": None if execution is None else dict(execution),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The entries in which two records of `measured` differ.

    Args:
        a: One record.
        b: The other.

    Returns:
        (name, value in a, value in b) of each, without names for people where hashes agree.
    """
    left, right = _flat(a), _flat(b)
    return [
        (name, left.get(name), right.get(name))
        for name in dict.fromkeys([*left, *right])
        if left.get(name) != right.get(name) and name not in STATED
    ]


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested entries by their path, such as "data.sha256"."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= (
            _flat(value, f"{before}{name}.")
            if isinstance(value, Mapping)
            else {before + name: value}
        )
    return found
