"""Optimisers by name."""

from collections.abc import Callable

import torch
from torch import nn

from ..config import OptimConfig
from ..errors import InputError


def _adam(o: OptimConfig, network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=o.lr, betas=(o.beta1, o.beta2), eps=o.eps, foreach=True)


def _adamw(o: OptimConfig, network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), lr=o.lr, betas=(o.beta1, o.beta2), eps=o.eps, weight_decay=o.weight_decay, foreach=True)


OPTIMISERS: dict[str, Callable[[OptimConfig, nn.Module], torch.optim.Optimizer]] = {"adam": _adam, "adamw": _adamw}


def make_optimiser(o: OptimConfig, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser `o.name` over the network's parameters."""
    if o.name not in OPTIMISERS:
        raise InputError(f"optim.name must be one of {', '.join(OPTIMISERS)}; got {o.name!r}")
    return OPTIMISERS[o.name](o, network)
