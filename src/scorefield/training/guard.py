"""The non-finite guard: a bad step is not applied, and the message names what to look at: sigma,
batch index, layer.
"""

import torch
from torch import Tensor, nn

from ..execution import eager
from ..model import Preconditioned
from ..objectives import Objective


def is_finite(losses: Tensor, norm: Tensor) -> bool:
    """Whether every loss and the gradient norm are finite; asked before the optimiser steps."""
    return bool(torch.isfinite(norm)) and bool(torch.isfinite(losses).all())


def explain(
    model: Preconditioned,
    objective: Objective,
    x0: Tensor,
    sigma: Tensor,
    keys: Tensor,
    losses: Tensor,
    norm: Tensor,
) -> str:
    """In words: which sample at which sigma, and the first layer whose output is not finite, or the
    layers whose gradient is not.
    """
    bad = (~torch.isfinite(losses)).nonzero().flatten()
    if len(bad) == 0:
        layers = [
            name
            for name, p in model.network.named_parameters()
            if p.grad is not None and not bool(torch.isfinite(p.grad).all())
        ]
        where = (
            f"in {layers[0]} and {len(layers) - 1} more parameters"
            if layers
            else "only in their norm"
        )
        return f"not finite: the gradient ({where}; norm {float(norm)}) though every loss is finite"
    rows = bad[:1]
    layer = first_bad_layer(model, objective, x0[rows], sigma[rows], keys[rows])
    index, level = int(rows[0]), float(sigma[rows[0]])
    return f"not finite: the loss at batch index {index}, sigma {level:.4g} ({len(bad)} of {len(losses)} losses), first in {layer}"


def first_bad_layer(
    model: Preconditioned, objective: Objective, x0: Tensor, sigma: Tensor, keys: Tensor
) -> str:
    """The first layer of the network whose output is not finite on these samples, found by running
    them again, eagerly.
    """
    found: list[str] = []

    def look(name: str) -> object:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if not found and isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
                found.append(name)

        return hook

    layers = [
        (name, module)
        for name, module in model.network.named_modules()
        if not list(module.children())
    ]
    handles = [module.register_forward_hook(look(name)) for name, module in layers]
    try:
        with eager(), torch.no_grad():
            objective.losses(model, x0, sigma, keys)
    finally:
        for handle in handles:
            handle.remove()
    return f"layer {found[0]}" if found else "the loss itself: every layer's output is finite"
