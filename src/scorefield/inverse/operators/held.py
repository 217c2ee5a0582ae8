"""Constants of operators, and checks of what an operator is applied to."""

import torch
from torch import Tensor

from ...errors import InputError
from ...values import describe

MOST_COPIES = 4  # of one constant, by device and type


class Held:
    """A float64 constant that is moved to the device and type of the tensors it meets.

    Args:
        value: The constant; dense or sparse.
    """

    def __init__(self, value: Tensor) -> None:
        self.value = value
        self._copies: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """The constant on x's device and in x's type."""
        key = (x.device, x.dtype)
        if key not in self._copies:
            if len(self._copies) >= MOST_COPIES:
                self._copies.clear()
            self._copies[key] = self.value.to(x.device, x.dtype)
        return self._copies[key]


def check_real(x: Tensor, operator: object) -> None:
    """Refuse what is not a real floating tensor with a batch dimension.

    Args:
        x: What an operator is applied to.
        operator: The operator, for the message.

    Raises:
        InputError: x is complex, holds whole numbers, or is no tensor.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 1:
        hint = ""
        if isinstance(x, Tensor) and x.is_complex():
            hint = "; give real and imaginary parts as two channels"
        raise InputError(
            f"{operator!r} needs a real floating tensor with a batch dimension; got "
            f"{describe(x)}{hint}"
        )


def last_dimensions(shape: tuple[int, ...], ndim: int, operator: object) -> tuple[int, ...]:
    """The sizes of the dimensions that an operator acts on, the last `ndim` of a shape.

    Args:
        shape: The shape of one example or measurement, without the batch dimension.
        ndim: How many dimensions the operator acts on.
        operator: The operator, for the message.

    Returns:
        The sizes.

    Raises:
        InputError: The shape has fewer dimensions.
    """
    if len(shape) < ndim:
        raise InputError(
            f"{operator!r} acts on {ndim} dimensions; got examples of shape {tuple(shape)}. Their "
            f"shape needs at least {ndim} dimensions, channels first"
        )
    return tuple(shape[len(shape) - ndim :])


def same_shape(x: Tensor, shape: tuple[int, ...], operator: object, what: str = "x") -> None:
    """Refuse a batch whose rows have another shape.

    Args:
        x: (B, *shape).
        shape: The shape of one row.
        operator: The operator, for the message.
        what: What x is, for the message.

    Raises:
        InputError: The shape differs.
    """
    if tuple(x.shape[1:]) != tuple(shape):
        raise InputError(
            f"{operator!r} needs {what} of shape (B, {', '.join(map(str, shape))}); got "
            f"{tuple(x.shape)}"
        )
