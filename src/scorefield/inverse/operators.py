"""Measurement operators: what an observation keeps of x. Anything with `A` and `A_adjoint` is one;
these are ours.

Masks are known = True, 1 or white.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import InputError


class Operator(Protocol):
    """A(x): (B, *event) -> (B, *measurement)."""

    def A(self, x: Tensor) -> Tensor: ...


class Mask:
    """Keeps known elements, zero elsewhere: A = A_adjoint = multiplication by the mask. mask: bool
    or 0/1, of a shape that broadcasts against the event.
    """

    def __init__(self, mask: Any) -> None:
        mask = torch.as_tensor(mask)
        if mask.is_floating_point() or mask.dtype == torch.uint8:
            values = set(mask.unique().tolist())
            if not values <= {0, 1} and not values <= {0, 255}:
                raise InputError(
                    "a mask holds only 0 and 1 (or black and white, 0 and 255), 1 = known; got "
                    f"values from {min(values):g} to {max(values):g}"
                )
        self.mask = mask != 0
        if not bool(self.mask.any()):
            raise InputError(
                "the mask hides everything; at least one element must be known (1 or white = known)"
            )

    def on(self, event_shape: tuple[int, ...]) -> Tensor:
        """The mask as a bool tensor of `event_shape`; an InputError with both shapes where it does
        not broadcast.
        """
        try:
            return self.mask.expand(event_shape)
        except RuntimeError as error:
            raise InputError(
                f"the mask must broadcast against the event {tuple(event_shape)}; got "
                f"{tuple(self.mask.shape)}"
            ) from error

    def A(self, x: Tensor) -> Tensor:
        """x (B, *event) with unknown elements set to zero."""
        return x * self.on(tuple(x.shape[1:])).to(x.device, x.dtype)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """The mask is its own adjoint."""
        return self.A(y)
