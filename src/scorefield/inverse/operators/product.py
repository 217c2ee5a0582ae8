"""A linear function whose gradient is its adjoint, for code that PyTorch cannot look into."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Map, back: Map) -> Tensor:
        """Apply the function."""
        ctx.maps = there, back
        return there(x)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Any:
        """Apply the adjoint, whose own gradient is the function."""
        there, back = ctx.maps
        return product(grad[0], back, there), None, None


_apply: Callable[[Tensor, Map, Map], Tensor] = _Product.apply


def product(x: Tensor, there: Map, back: Map) -> Tensor:
    """Apply a linear function, with the gradient that its adjoint gives.

    Args:
        x: What it is applied to.
        there: The function.
        back: Its adjoint.

    Returns:
        there(x), through which PyTorch differentiates any number of times.
    """
    return _apply(x, there, back)
