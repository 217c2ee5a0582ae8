"""What to look at after a step whose loss or gradient is not finite: sigma, example and layer.

The gradients are examined before clipping: clipping by a norm that is not finite would make every
gradient NaN and hide the layer in which the first one arose.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..execution import eager
from ..models import ScoreModel
from ..objectives import Objective
from .batches import Batch


def explain(
    model: ScoreModel, objective: Objective, batch: Batch, losses: Tensor, norm: Tensor
) -> str:
    """Describe which example at which sigma, and which layer, is not finite.

    Args:
        model: The model, with the gradients of the step, not clipped.
        objective: The loss.
        batch: The batch of the step.
        losses: Its losses (B,).
        norm: The norm of the gradient.

    Returns:
        One phrase. Where a loss is not finite: the first such example, its sigma, and the first
        layer whose output is not finite. Otherwise: the layer nearest to the loss whose gradient
        is not finite, in which the backward pass broke.
    """
    bad = (~torch.isfinite(losses)).nonzero().flatten()
    if len(bad) == 0:
        where = _first_bad_gradient(model, objective, batch.rows(slice(0, 1)))
        return f"not finite: the gradient ({where}; norm {float(norm)}) though every loss is finite"
    index, level = int(bad[0]), float(batch.sigma[bad[0]])
    layer = first_bad_layer(model, objective, batch.rows(slice(index, index + 1)))
    return (
        f"not finite: the loss at batch index {index}, sigma {level:.4g} ({len(bad)} of "
        f"{len(losses)} losses), first in {layer}"
    )


def _leaf_modules(model: ScoreModel) -> list[tuple[str, nn.Module]]:
    """Modules without children, by their name within the network where there is one."""
    network = model.leaf_network() or model
    return [(name, m) for name, m in network.named_modules() if not list(m.children())]


@contextmanager
def _on_output(model: ScoreModel, found: list[tuple[str, bool]]) -> Iterator[None]:
    """Append (name, whether the output is finite) for every layer in the order of execution."""

    def watch(name: str) -> object:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                found.append((name, bool(torch.isfinite(output).all())))

        return hook

    handles = [
        module.register_forward_hook(watch(name))  # type: ignore[arg-type]
        for name, module in _leaf_modules(model)
    ]
    try:
        with eager():
            yield
    finally:
        for handle in handles:
            handle.remove()


def first_bad_layer(model: ScoreModel, objective: Objective, batch: Batch) -> str:
    """The first layer whose output is not finite, found by evaluating the batch again, eagerly.

    Args:
        model: The model.
        objective: The loss.
        batch: Examples whose loss is not finite.

    Returns:
        A phrase that names the layer, or states that every layer's output is finite.
    """
    found: list[tuple[str, bool]] = []
    with _on_output(model, found), torch.no_grad():
        objective.losses(model, *batch)
    names = [name for name, finite in found if not finite]
    return f"layer {names[0]}" if names else "the loss itself: every layer's output is finite"


def _first_bad_gradient(model: ScoreModel, objective: Objective, batch: Batch) -> str:
    """The parameters whose gradient is not finite, the one nearest to the loss first.

    A gradient that is not finite spreads from the layer where it arises to the layers before it.
    """
    network = model.leaf_network() or model
    bad = [
        name
        for name, p in network.named_parameters()
        if p.grad is not None and not bool(torch.isfinite(p.grad).all())
    ]
    if not bad:
        return "only in their norm"
    found: list[tuple[str, bool]] = []
    with _on_output(model, found), torch.no_grad():
        objective.losses(model, *batch)
    order = {name: place for place, (name, _) in enumerate(found)}
    last = max(bad, key=lambda name: order.get(name.rpartition(".")[0], -1))
    others = f" and {len(bad) - 1} more parameters" if len(bad) > 1 else ""
    return f"in {last}{others}"
