"""Measurement operators A: what an observation y = A(x) + noise keeps of x.

A subclass of `Operator` writes `A` and, where it is linear, `A_adjoint`. Masks are 1, True or white
where an element is known.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, Unsupported
from ..tensors import as_tensor
from ..units import Units
from ..values import flag


class Operator(ABC):
    """A map from examples to measurements, in data units.

    Attributes:
        linear: Whether A(a x + b y) = a A(x) + b A(y).
    """

    linear: bool = True

    @abstractmethod
    def A(self, x: Tensor) -> Tensor:
        """Measure x, without noise.

        Args:
            x: (B, *event).

        Returns:
            (B, *measurement), on x's device.
        """

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Apply the adjoint of a linear operator.

        The inner product of A(x) with y is that of x with A_adjoint(y).

        Args:
            y: (B, *measurement).

        Returns:
            (B, *event).

        Raises:
            Unsupported: The operator does not implement it.
        """
        raise Unsupported(f"{type(self).__name__} does not implement A_adjoint")

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of A(x) for one example x of `event_shape`."""
        return tuple(self.A(torch.zeros(1, *event_shape)).shape[1:])

    def take(self, index: Tensor) -> "Operator":
        """The operator for the observations at `index` (B,).

        Most operators are the same for all observations. A mask may hold one mask for each.
        """
        return self


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


class Rescaled(Operator):
    """The operator x -> A(scale x): a linear operator for model units, data = shift + scale x.

    Args:
        operator: A linear operator in data units.
        scale: Broadcasts against the event.
    """

    def __init__(self, operator: Operator, scale: Tensor) -> None:
        self.operator, self.scale = operator, scale

    def take(self, index: Tensor) -> "Rescaled":
        """The operator for the observations at `index` (B,)."""
        return Rescaled(self.operator.take(index), self.scale)

    def A(self, x: Tensor) -> Tensor:
        """Measure scale x, for x (B, *event) in model units."""
        return self.operator.A(x * self.scale.to(x.device, x.dtype))

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Apply the adjoint and scale the result, for y (B, *measurement)."""
        x = self.operator.A_adjoint(y)
        return x * self.scale.to(x.device, x.dtype)


class Composed(Operator):
    """The operator x -> A(to_data(x)): an operator for model units, not linear in them.

    Args:
        operator: An operator in data units.
        units: The map between model and data units.
    """

    linear = False

    def __init__(self, operator: Operator, units: Units) -> None:
        self.operator, self.units = operator, units

    def take(self, index: Tensor) -> "Composed":
        """The operator for the observations at `index` (B,)."""
        return Composed(self.operator.take(index), self.units)

    def A(self, x: Tensor) -> Tensor:
        """Measure x in data units, for x (B, *event) in model units."""
        return self.operator.A(self.units.to_data(x))
