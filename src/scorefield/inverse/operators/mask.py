"""Masks: which elements of an example were observed."""

from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...tensors import as_tensor
from ...values import flag
from .base import SVD, Operator, diagonal_svd


class Mask(Operator):
    """Keeps known elements and sets the others to zero: A = A_adjoint = multiplication by the mask.

    Args:
        mask: bool or 0 and 1 (or black and white, 0 and 255), of a shape that broadcasts against
            the event; 1, True or white is known.
        batched: Whether the first dimension of the mask counts observations: (K, *event), one mask
            for each.

    Raises:
        InputError: The mask holds other values, or hides everything.
    """

    def __init__(self, mask: Any, batched: bool = False) -> None:
        mask = as_tensor(mask, "the mask")
        self.batched = flag(batched, "batched")
        if mask.is_complex():
            raise InputError("a mask holds only 0 and 1, 1 = known; got complex numbers")
        if mask.dtype != torch.bool:
            values = set(mask.unique().tolist())
            if not values <= {0, 1} and not values <= {0, 255}:
                raise InputError(
                    "a mask holds only 0 and 1 (or black and white, 0 and 255), 1 = known; got "
                    f"values from {min(values):g} to {max(values):g}"
                )
        self.mask: Tensor = mask != 0
        if not bool(self.mask.any()) and not batched:
            raise InputError(
                "the mask hides everything; at least one element must be known (1 or white = known)"
            )

    def on(self, event_shape: tuple[int, ...]) -> Tensor:
        """The mask as a bool tensor of `event_shape`, or (K, *event) with one mask each.

        Raises:
            InputError: The mask does not broadcast against the event; the message has both shapes.
        """
        lead = self.mask.shape[:1] if self.batched else ()
        try:
            return self.mask.expand(*lead, *event_shape)
        except RuntimeError as error:
            raise InputError(
                f"the mask must broadcast against the event {tuple(event_shape)}; got "
                f"{tuple(self.mask.shape)}"
            ) from error

    def take(self, index: Tensor) -> "Mask":
        """The masks of the observations at `index`; the mask itself where there is one for all."""
        return Mask(self.mask[index.to(self.mask.device)], batched=True) if self.batched else self

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the event."""
        return tuple(event_shape)

    def A(self, x: Tensor) -> Tensor:
        """Set the unknown elements of x (B, *event) to zero."""
        return x * self.on(tuple(x.shape[1:])).to(x.device, x.dtype)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """The mask is its own adjoint."""
        return self.A(y)

    def svd(self, event_shape: tuple[int, ...]) -> SVD:
        """The mask's values, 1 and 0, are its singular values."""
        return diagonal_svd(self.on(event_shape).to(torch.float64))

    def __repr__(self) -> str:
        known, count = int(self.mask.sum()), self.mask.numel()
        return f"Mask({known} of {count} known{', batched' if self.batched else ''})"
