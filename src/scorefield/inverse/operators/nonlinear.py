"""Operators that are not linear: any differentiable function, and three examples.

Methods of restoration follow the gradient of such an operator, or linearise it about an estimate.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError
from ...values import describe, finite, whole
from ...values import shape as read_shape
from .base import Operator
from .held import check_real, last_dimensions


class Function(Operator):
    """Any function of a batch of examples, through which PyTorch finds gradients.

    Args:
        function: Maps (B, *event) to (B, *measurement), row by row, real and floating.
        measurement_shape: The shape of one measurement; None: found by measuring zeros.

    Raises:
        InputError: The first argument is not a function.

    Example:
        >>> operator = sf.operators.Function(lambda x: x.exp().mean(dim=-1))
    """

    linear = False

    def __init__(
        self, function: Callable[[Tensor], Tensor], measurement_shape: Sequence[int] | None = None
    ) -> None:
        if not callable(function):
            raise InputError(f"function must be a function; got {describe(function)}")
        self.function = function
        self._shape = (
            None
            if measurement_shape is None
            else read_shape(measurement_shape, "measurement_shape")
        )

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """As given, or that of the measurement of zeros."""
        return super().measurement_shape(event_shape) if self._shape is None else self._shape

    def A(self, x: Tensor) -> Tensor:
        """Apply the function to x (B, *event)."""
        check_real(x, self)
        return self.function(x)

    def __repr__(self) -> str:
        name = self.function.__name__ if isinstance(self.function, type(describe)) else "function"
        return f"Function({'lambda' if name == '<lambda>' else name})"


class PhaseRetrieval(Operator):
    """The magnitudes of the Fourier transform of an example, padded with zeros.

        y = |F pad(x)|^power,   F: orthonormal on the padded grid

    A diffraction pattern is such a measurement, with power 2. x, -x and the mirrored x (where the
    padding allows for it) have the same y, so that the posterior has several modes. The magnitudes
    of f and -f agree for a real x; both are measured.

    Args:
        power: 1 for magnitudes, 2 for intensities.
        oversampling: The padded size over the size, in every dimension; at least 1.
        ndim: How many of the last dimensions are transformed.

    Raises:
        InputError: A number is out of range.
    """

    linear = False

    def __init__(self, power: int = 2, oversampling: float = 2.0, ndim: int = 2) -> None:
        self.power = whole(power, "power", 1, 2)
        self.oversampling = finite(oversampling, "oversampling", 1.0)
        self.ndim = whole(ndim, "ndim", 1, 3)

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The event's shape with the last dimensions padded."""
        sizes = last_dimensions(event_shape, self.ndim, self)
        lead = event_shape[: len(event_shape) - self.ndim]
        return (*lead, *(round(n * self.oversampling) for n in sizes))

    def A(self, x: Tensor) -> Tensor:
        """The magnitudes or intensities of x (B, *event)."""
        check_real(x, self)
        shape = self.measurement_shape(tuple(x.shape[1:]))
        widths = [
            width
            for n, wide in zip(reversed(x.shape), reversed(shape[-self.ndim :]), strict=False)
            for width in (0, wide - n)
        ]
        found = torch.fft.fftn(F.pad(x, widths), dim=tuple(range(-self.ndim, 0)), norm="ortho")
        return found.abs() if self.power == 1 else found.real.square() + found.imag.square()

    def __repr__(self) -> str:
        return f"PhaseRetrieval(power {self.power}, oversampling {self.oversampling:g})"


class Clip(Operator):
    """Values beyond a range are measured as its ends: a detector that saturates.

    The gradient is 1 within the range and 0 beyond.

    Args:
        low: The smallest value that is measured.
        high: The largest.

    Raises:
        InputError: `low` is not below `high`.
    """

    linear = False

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        self.low, self.high = finite(low, "low"), finite(high, "high")
        if self.low >= self.high:
            raise InputError(f"low must be below high; got {self.low:g} and {self.high:g}")

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the event."""
        return tuple(event_shape)

    def A(self, x: Tensor) -> Tensor:
        """Clip x (B, *event)."""
        check_real(x, self)
        return x.clamp(self.low, self.high)

    def __repr__(self) -> str:
        return f"Clip({self.low:g}, {self.high:g})"


class Quantise(Operator):
    """Rounds values in [low, high] to evenly spaced levels, both ends included.

    The true gradient is zero almost everywhere. The gradient that PyTorch finds here is that of
    `Clip` (the straight-through estimator; Bengio et al. 2013): 1 within the range and 0 beyond.

    Args:
        levels: 2 or more.
        low: The lowest level.
        high: The highest level.

    Raises:
        InputError: Fewer than two levels, or `low` is not below `high`.
    """

    linear = False

    def __init__(self, levels: int, low: float = 0.0, high: float = 1.0) -> None:
        self.levels = whole(levels, "levels", 2)
        self.range = Clip(low, high)

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the event."""
        return tuple(event_shape)

    def A(self, x: Tensor) -> Tensor:
        """Round x (B, *event) to the nearest level."""
        check_real(x, self)
        clipped = self.range.A(x)
        step = (self.range.high - self.range.low) / (self.levels - 1)
        rounded = self.range.low + ((clipped - self.range.low) / step).round() * step
        # The value is exactly that of `rounded`; the second term is zero and carries the gradient.
        return rounded.detach() + (clipped - clipped.detach())

    def __repr__(self) -> str:
        return f"Quantise({self.levels} levels, {self.range.low:g} to {self.range.high:g})"
