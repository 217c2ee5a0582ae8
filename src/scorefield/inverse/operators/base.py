"""Measurement operators A: what an observation y = A(x) + noise keeps of x.

A subclass of `Operator` writes `A` and, where it is linear, `A_adjoint`. Where the singular value
decomposition A = U S V^T is known it also writes `svd`, and methods of restoration use it in place
of iterations. Everything is real: complex measurements have their real and imaginary parts in a
dimension of their own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import Unsupported
from ..solve import conjugate_gradients

#: Relative size below which a singular value counts as zero.
RANK_TOLERANCE = 1e-10


@dataclass(frozen=True)
class SVD:
    """A singular value decomposition A = U S V^T, by functions.

    The columns of V are orthonormal and so are those of U that belong to singular values above
    zero. They need not span: what is orthogonal to all columns of V is in the null space of A.
    Coefficients may be complex (of a real signal's Fourier transform); all functions are linear
    over real numbers.

    Args:
        values: The singular values, zero or more; shape (*coefficients), or (B, *coefficients)
            where each observation has an operator of its own.
        V: Coefficients (B, *coefficients) -> examples (B, *event).
        V_adjoint: Examples (B, *event) -> coefficients.
        U: Coefficients -> measurements (B, *measurement); zero where the singular value is zero.
        U_adjoint: Measurements -> coefficients; zero where the singular value is zero.
    """

    values: Tensor
    V: Callable[[Tensor], Tensor]
    V_adjoint: Callable[[Tensor], Tensor]
    U: Callable[[Tensor], Tensor]
    U_adjoint: Callable[[Tensor], Tensor]

    def scaled(self, factor: float) -> "SVD":
        """The decomposition of factor A, for a factor other than zero."""
        sign = -1.0 if factor < 0 else 1.0
        return SVD(
            self.values * abs(factor),
            self.V,
            self.V_adjoint,
            lambda c: sign * self.U(c),
            lambda y: sign * self.U_adjoint(y),
        )

    def values_like(self, coefficients: Tensor) -> Tensor:
        """The singular values on the device and in the real type of coefficients."""
        real = coefficients.real if coefficients.is_complex() else coefficients
        return self.values.to(real.device, real.dtype)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """V S^+ U^T y: (B, *measurement) -> (B, *event)."""
        found = self.U_adjoint(y)
        values = self.values_like(found)
        usable = values > RANK_TOLERANCE * values.max()
        return self.V(torch.where(usable, found / torch.where(usable, values, 1.0), 0.0))

    def solve(self, r: Tensor, spread: Tensor | float, noise_variance: float) -> Tensor:
        """(spread A A^T + noise_variance I)^+ r.

        Args:
            r: (B, *measurement).
            spread: A number, or a tensor that broadcasts against the coefficients.
            noise_variance: Zero or more; at zero what lies outside the range of A is left out.

        Returns:
            (B, *measurement).
        """
        found = self.U_adjoint(r)
        values = self.values_like(found)
        eigen = spread * values.square() + noise_variance
        usable = values > RANK_TOLERANCE * values.max()
        inverse = torch.where(usable, 1 / torch.where(usable, eigen, 1.0), 0.0)
        if noise_variance == 0:
            return self.U(found * inverse)
        # On the range: 1/eigen; outside: 1/noise_variance.
        return r / noise_variance + self.U(
            found * torch.where(usable, inverse - 1 / noise_variance, 0.0)
        )


class Operator(ABC):
    """A map from examples to measurements, in data units.

    Attributes:
        linear: Whether A(a x + b y) = a A(x) + b A(y).
        pinv_tolerance: Relative residual at which the iteration of `A_pinv` ends; an operator that
            computes in float32 cannot reach the default.
    """

    linear: bool = True
    pinv_tolerance: float = 1e-10

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

    def A_pinv(self, y: Tensor, event_shape: tuple[int, ...]) -> Tensor:
        """Apply the pseudo-inverse A^+ (Moore and Penrose) of a linear operator.

        By the singular value decomposition where it is known; else the least squares solution of
        least norm, A^T A x = A^T y by conjugate gradients from zero in float64, to a relative
        residual of `pinv_tolerance` or 2,000 iterations.

        Args:
            y: (B, *measurement).
            event_shape: The shape of an example.

        Returns:
            (B, *event).
        """
        svd = self.svd(event_shape)
        if svd is not None:
            return svd.pseudo_inverse(y)
        solved = conjugate_gradients(
            lambda v: self.A_adjoint(self.A(v)),
            self.A_adjoint(y.to(torch.float64)),
            tolerance=self.pinv_tolerance,
            most=2000,
        )
        return solved.x.to(y.dtype)

    def svd(self, event_shape: tuple[int, ...]) -> SVD | None:
        """The singular value decomposition for examples of a shape; None where it is not known."""
        return None

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of A(x) for one example x of `event_shape`."""
        return tuple(self.A(torch.zeros(1, *event_shape)).shape[1:])

    def take(self, index: Tensor) -> "Operator":
        """The operator for the observations at `index` (B,).

        Most operators are the same for all observations. A mask may hold one mask for each.
        """
        return self

    def acts_by_channel(self, event_shape: tuple[int, ...]) -> bool:
        """Whether A acts on each entry of the event's first dimension alone and alike.

        Then A(s x) = s A(x) for one factor s a channel, and the singular values have the channel
        as their first dimension. False where that is not known.
        """
        return False

    def __repr__(self) -> str:
        return type(self).__name__


def diagonal_svd(values: Tensor) -> SVD:
    """The decomposition of multiplication by `values`, which broadcast against examples.

    Measurements have the shape of the examples; values may have either sign, or be zero.
    """

    def signed(c: Tensor) -> Tensor:
        return c * values.sign().to(c.device, c.dtype)

    return SVD(values.abs(), lambda c: c, lambda x: x, signed, signed)


#: A singular value this much below the largest one is a rounding error of zero.
ZERO = 1e-13


def _inverted(values: Tensor) -> tuple[Tensor, Tensor]:
    """Values with rounding errors of zero set to zero, and their inverses, 0 where they are 0."""
    usable = values > ZERO * values.max()
    return torch.where(usable, values, 0.0), torch.where(
        usable, 1 / torch.where(usable, values, 1.0), 0.0
    )


def left_svd(operator: Operator, values: Tensor, U: Callable[[Tensor], Tensor]) -> SVD:
    """The decomposition of an operator whose A A^T is known: V = A^T U / S.

    Args:
        operator: A linear operator with A A^T = U S² U^T.
        values: S, of the shape of the coefficients.
        U: Coefficients -> measurements: orthonormal, symmetric and its own inverse.

    Returns:
        The decomposition, whose columns of V span the examples that A does not map to zero.
    """
    values, inverse = _inverted(values)
    return SVD(
        values,
        lambda c: operator.A_adjoint(U(c * inverse.to(c.device, c.dtype))),
        lambda x: U(operator.A(x)) * inverse.to(x.device, x.dtype),
        lambda c: U(c * (values > 0).to(c.device, c.dtype)),
        lambda y: U(y) * (values > 0).to(y.device, y.dtype),
    )


def right_svd(operator: Operator, values: Tensor, V: Callable[[Tensor], Tensor]) -> SVD:
    """The decomposition of an operator whose A^T A is known: U = A V / S.

    Args:
        operator: A linear operator with A^T A = V S² V^T.
        values: S, of the shape of the examples.
        V: Coefficients -> examples: orthonormal, symmetric and its own inverse.

    Returns:
        The decomposition.
    """
    values, inverse = _inverted(values)
    return SVD(
        values,
        V,
        V,
        lambda c: operator.A(V(c * inverse.to(c.device, c.dtype))),
        lambda y: V(operator.A_adjoint(y)) * inverse.to(y.device, y.dtype),
    )
