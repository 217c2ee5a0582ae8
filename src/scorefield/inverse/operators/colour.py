"""Colour: weighted sums of the channels of every pixel.

y[c', pixel] = sum_c M[c', c] x[c, pixel]
"""

from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...tensors import float64
from .base import SVD, Operator
from .held import Held, check_real

#: Weights of red, green and blue in luma, ITU-R Recommendation BT.601.
LUMA = (0.299, 0.587, 0.114)


class MixChannels(Operator):
    """Multiplies the channels, the first dimension of an example, by a matrix.

    Args:
        matrix: (channels measured, channels), real and finite.

    Raises:
        InputError: The matrix has another rank.

    Example:
        >>> operator = sf.operators.MixChannels([[0.5, 0.5]])  # the mean of two channels
    """

    def __init__(self, matrix: Any) -> None:
        self.matrix = float64(matrix, "the matrix").cpu()
        if self.matrix.ndim != 2 or self.matrix.numel() == 0:
            raise InputError(
                "the matrix must have two dimensions (channels measured, channels of an example); "
                f"got shape {tuple(self.matrix.shape)}"
            )
        self._held = Held(self.matrix)

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The event's shape with another number of channels."""
        channels = self.matrix.shape[1]
        if not event_shape or event_shape[0] != channels:
            raise InputError(
                f"{self!r} needs examples of {channels} channels, their first dimension; got shape "
                f"{tuple(event_shape)}"
            )
        return (len(self.matrix), *event_shape[1:])

    def A(self, x: Tensor) -> Tensor:
        """Mix the channels of x (B, channels, ...)."""
        check_real(x, self)
        self.measurement_shape(tuple(x.shape[1:]))
        return torch.einsum("oc,bc...->bo...", self._held.like(x), x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Mix by the transposed matrix."""
        check_real(y, self)
        return torch.einsum("oc,bo...->bc...", self._held.like(y), y)

    def svd(self, event_shape: tuple[int, ...]) -> SVD:
        """That of the matrix, at every pixel."""
        self.measurement_shape(event_shape)
        U, values, Vh = torch.linalg.svd(self.matrix, full_matrices=False)
        rounding = max(self.matrix.shape) * torch.finfo(torch.float64).eps
        values = torch.where(values > rounding * values.max(), values, 0.0)
        left, right = MixChannels(U * (values > 0)), MixChannels(Vh)
        spread = values.reshape(-1, *[1] * (len(event_shape) - 1)).expand(-1, *event_shape[1:])
        return SVD(spread, right.A_adjoint, right.A, left.A, left.A_adjoint)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.matrix.shape[1]} -> {len(self.matrix)} channels)"


class Grey(MixChannels):
    """The luminance of red, green and blue, one channel: the measurement of colourisation.

        y = 0.299 red + 0.587 green + 0.114 blue        (luma of ITU-R BT.601)

    Example:
        >>> operator = sf.operators.Grey()
    """

    def __init__(self) -> None:
        super().__init__([list(LUMA)])
