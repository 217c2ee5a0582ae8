"""Descriptions of a model: what it is, what it was trained on, and what it supports.

`print(model)` is one paragraph; a notebook shows the same facts as a table. The layers of a network
are listed by `print(model.network)`.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..plotting import facts_table, paragraph

if TYPE_CHECKING:
    from .base import ScoreModel


def _noise_levels(model: "ScoreModel") -> str:
    low, high = f"{model.sigma_min:.4g}", f"{model.sigma_max:.4g}"
    if model.ladder_only and model.ladder is not None:
        return f"its {len(model.ladder)} levels alone, {high} to {low}"
    if math.isinf(model.sigma_max):
        return f"all from {low} on" if model.sigma_min > 1e-6 else "all"
    return f"{low} to {high}"


def _units(model: "ScoreModel") -> str:
    """The data's units, as far as they are recorded."""
    units = model.units
    if units.image:
        known = "intensities in [0, 1]"
        levels = None if units.quantisation is None else units.quantisation.levels
        return known if levels is None else f"{known}, {levels:,} levels"
    same = not bool(units.shift.any()) and bool((units.scale == 1).all())
    return "" if same else "the data's own"


def _network(model: "ScoreModel") -> str:
    found: dict[int, str] = {}
    for leaf in model.leaves():
        network = leaf.leaf_network()
        if network is not None:
            count = sum(p.numel() for p in network.parameters())
            found[id(network)] = f"{type(network).__name__} with {count:,} parameters"
    return " and ".join(found.values())


def _training(card: Mapping[str, Any] | None) -> dict[str, str]:
    """What the card records of data and training."""
    card = card or {}
    data, history = card.get("data") or {}, card.get("history") or {}
    found = {}
    if data.get("source"):
        count = data.get("count")
        found["data"] = str(data["source"]) + (f", {count:,} examples" if count else "")
    if history.get("images") is not None:
        seconds = history.get("seconds")
        time = f" in {seconds:,.0f} s" if seconds is not None else ""
        found["trained on"] = f"{history['images']:,} examples seen{time}"
        if history.get("weights") == "best" and history.get("best_images") is not None:
            found["trained on"] += f"; the weights are those after {history['best_images']:,}"
    return found


def model_facts(model: "ScoreModel") -> dict[str, str]:
    """Facts about a model by name, in words; facts that a model does not have are left out."""
    conditions = ", ".join(f"{name} ({spec.describe()})" for name, spec in model.conditions.items())
    facts = {
        "network": _network(model),
        **_training(model.card),
        "events": f"of shape {tuple(model.event_shape)}",
        "data units": _units(model),
        "noise levels": f"{_noise_levels(model)}, in model units",
        "conditions": conditions or "none",
    }
    return {name: value for name, value in facts.items() if value}


def model_paragraph(model: "ScoreModel") -> str:
    """A model in one paragraph."""
    facts = "; ".join(f"{name}: {value}" for name, value in model_facts(model).items())
    return paragraph(f"{model.summary()}. {facts[:1].upper()}{facts[1:]}.")


def model_html(model: "ScoreModel") -> str:
    """A model as a table, for notebooks."""
    return facts_table(model.summary(), model_facts(model))
