"""Operators of examples in model units, made of operators in data units."""

import torch
from torch import Tensor

from ...units import Units
from .base import SVD, Operator, diagonal_svd
from .colour import MixChannels
from .combined import Identity, PerElement
from .mask import Mask
from .matrix import Matrix


class Rescaled(Operator):
    """The operator x -> A(scale x): a linear operator for model units, data = shift + scale x.

    Args:
        operator: A linear operator in data units.
        scale: Broadcasts against the event.
    """

    def __init__(self, operator: Operator, scale: Tensor) -> None:
        self.operator, self.scale = operator, scale
        self._matrix: Matrix | None = None

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the operator."""
        return self.operator.measurement_shape(event_shape)

    def take(self, index: Tensor) -> "Rescaled":
        """The operator for the observations at `index` (B,)."""
        inner = self.operator.take(index)
        return self if inner is self.operator else Rescaled(inner, self.scale)

    def svd(self, event_shape: tuple[int, ...]) -> SVD | None:
        """The decomposition, where the scale leaves that of the operator in closed form.

        Known for one scale for all elements, for one scale a channel where the operator acts on
        every channel alike or mixes channels, and for any scale under masks, weights and matrices.
        """
        scale, operator = self.scale.to(torch.float64), self.operator
        if bool((scale == scale.flatten()[0]).all()) and float(scale.flatten()[0]) != 0:
            inner = operator.svd(event_shape)
            return None if inner is None else inner.scaled(float(scale.flatten()[0]))
        if isinstance(operator, Mask | PerElement):
            weights = operator.on(event_shape).to(torch.float64)
            return diagonal_svd(weights * scale.to(weights.device))
        full = scale.expand(event_shape)
        if isinstance(operator, Identity):
            return diagonal_svd(full)
        if isinstance(operator, Matrix):
            if self._matrix is None:
                scaled = operator.matrix * full.reshape(-1).to(operator.matrix.device)
                self._matrix = Matrix(scaled, operator.event_shape)
            return self._matrix.svd(event_shape)
        channel = full.flatten(1)[:, 0] if full.ndim > 1 else full
        alike = bool((full == channel.reshape(-1, *[1] * (full.ndim - 1))).all())
        if alike and isinstance(operator, MixChannels):
            return MixChannels(operator.matrix * channel).svd(event_shape)
        if alike and operator.acts_by_channel(event_shape):
            inner = operator.svd(event_shape)
            return None if inner is None else _by_channel(inner, channel)
        return None

    def A(self, x: Tensor) -> Tensor:
        """Measure scale x, for x (B, *event) in model units."""
        return self.operator.A(x * self.scale.to(x.device, x.dtype))

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Apply the adjoint and scale the result, for y (B, *measurement)."""
        x = self.operator.A_adjoint(y)
        return x * self.scale.to(x.device, x.dtype)

    def __repr__(self) -> str:
        return f"Rescaled({self.operator!r})"


def _by_channel(svd: SVD, scale: Tensor) -> SVD:
    """The decomposition of x -> A(scale x) for an A that acts on every channel alike.

    Args:
        svd: That of A, whose coefficients have the channel first.
        scale: (channels,).
    """
    spread = scale.reshape(-1, *[1] * (svd.values.ndim - 1))
    sign = spread.sign()  # 0 for a channel that is constant
    return SVD(
        svd.values * spread.abs(),
        svd.V,
        svd.V_adjoint,
        lambda c: svd.U(c * sign.to(c.device, c.dtype)),
        lambda y: _times(svd.U_adjoint(y), sign),
    )


def _times(c: Tensor, factor: Tensor) -> Tensor:
    return c * factor.to(c.device, c.dtype)


class Composed(Operator):
    """The operator x -> A(to_data(x)): an operator for model units, not linear in them.

    Args:
        operator: An operator in data units.
        units: The map between model and data units.
    """

    linear = False

    def __init__(self, operator: Operator, units: Units) -> None:
        self.operator, self.units = operator, units

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the operator."""
        return self.operator.measurement_shape(event_shape)

    def take(self, index: Tensor) -> "Composed":
        """The operator for the observations at `index` (B,)."""
        return Composed(self.operator.take(index), self.units)

    def A(self, x: Tensor) -> Tensor:
        """Measure x in data units, for x (B, *event) in model units."""
        return self.operator.A(self.units.to_data(x))

    def __repr__(self) -> str:
        return f"Composed({self.operator!r})"
