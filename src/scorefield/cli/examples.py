"""The examples whose likelihood is measured: which they are, in which units, given what."""

from typing import Any, NamedTuple

from ..errors import InputError

PARTS = ("held-out", "train", "all")
OTHER = "other data"  # the part of examples that are not the run's own
CONDITIONS = ("none", "class", "vector")


class Chosen(NamedTuple):
    """Examples whose likelihood is measured: a data set, indices into it, and which part it is."""

    dataset: Any
    index: Any
    part: str


def choose_examples(
    card: dict[str, Any], source: str | None, part: str | None, reading: Any = None
) -> Chosen:
    """Choose the examples: a part of the model's own data, or other data.

    Args:
        card: the model card.
        source: where the data are; None: the data that the model was trained on.
        part: "held-out", "train" or "all"; None: held-out of the model's own data, all of other
            data.
        reading: `ReadOptions` of other data.

    Returns:
        The examples.

    Raises:
        InputError: the data cannot be read, or have no such part.
    """
    import torch

    from ..data import is_card_data, open_card_data, open_like

    if part is not None and part not in PARTS:
        raise InputError(f"--part must be one of {', '.join(PARTS)}; got {part!r}")
    dataset = None if source is None else open_like(card, source, reading)
    if dataset is None or is_card_data(card, dataset):
        split = open_card_data(card, dataset)
        part = part or "held-out"
        everything = torch.arange(len(split.dataset))
        index = {"held-out": split.held_out, "train": split.train, "all": everything}[part]
        return Chosen(split.dataset, index, part)
    if part not in (None, "all"):
        raise InputError(
            f"--part {part} is a part of the data that this model was trained on; {source} holds "
            "other data, of which all are used"
        )
    return Chosen(dataset, torch.arange(len(dataset)), OTHER)


def data_units(model: Any, chosen: Chosen, seed: int, condition: str) -> tuple[Any, Any]:
    """The examples in data units, dequantised where the model's training dequantised.

    Args:
        model: a score model.
        chosen: the examples.
        seed: decides the dequantisation noise.
        condition: the condition that is given: "class", "vector" or "none".

    Returns:
        x (N, *event) in data units, and the condition with N rows, or None.

    Raises:
        InputError: the examples have another shape than the model's, or no such condition.
    """
    from ..data import Pipeline
    from ..units import Units

    dataset = chosen.dataset
    if dataset.event_shape != tuple(model.event_shape):
        raise InputError(
            f"{dataset.name} has examples of shape {dataset.event_shape}; the model needs "
            f"{tuple(model.event_shape)}"
        )
    quantisation = model.units.quantisation
    settings = ((model.card or {}).get("config") or {}).get("data") or {}
    dequantised = settings.get("dequantise") == "uniform"
    if quantisation is not None:
        dequantised = quantisation.dequantised
    pipeline = Pipeline(
        dataset,
        chosen.index,
        Units.identity(),
        seed,
        dequantise="uniform" if dequantised else "none",
        condition=condition,
        dtype=dataset.dtype,
    )
    return pipeline.held_out(chosen.index)


def choose_condition(model: Any, chosen: Chosen, condition: str | None) -> str:
    """The condition that is given to the model; states which of them training has not seen.

    Args:
        model: a score model.
        chosen: the examples.
        condition: --condition; None: as the model was trained, where the examples have it.

    Raises:
        InputError: --condition is unknown, the model does not take it or cannot do without it, or
            the examples have none.
    """
    from ..seen import far_vectors, unseen_classes
    from .show import say

    kind = _kind_of_condition(model, chosen.dataset, condition)
    if kind != "none":
        values = {"class": chosen.dataset.labels, "vector": chosen.dataset.vectors}[kind]
        given = {} if values is None else {kind: values[chosen.index]}
        for look in (unseen_classes, far_vectors):
            for text in look(given, model.conditions):
                say(text)
    return kind


def _kind_of_condition(model: Any, dataset: Any, condition: str | None) -> str:
    from .show import say

    if condition is not None and condition not in CONDITIONS:
        raise InputError(f"--condition must be one of {', '.join(CONDITIONS)}; got {condition!r}")
    if condition not in (None, "none", *model.conditions):
        known = " or ".join(model.conditions)
        trained = f"with --condition {known}" if known else "without a condition"
        raise InputError(f"--condition {condition}: the model was trained {trained}")
    brought = {"class": dataset.labels is not None, "vector": dataset.vectors is not None}
    for name, spec in model.conditions.items():
        if condition == name or (condition is None and brought[name]):
            return str(name)
        if not spec.optional:
            raise InputError(
                f"{dataset.name} has no {name} for each example, and the model was trained with "
                "one in every example (condition.dropout=0), so that it has no log p(x)"
            )
        if condition is None:
            say(f"{dataset.name} has no {name} for each example: log p(x) without a condition")
    return "none"
