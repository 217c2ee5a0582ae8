"""Dense matrices: a matrix of the user's, a random projection, the matrix of another operator.

y = A x        A: (m, d), x: an example, flattened
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...tensors import float64
from ...values import flag, whole
from ...values import shape as read_shape
from .base import SVD, Operator
from .drawn import MATRIX, operator_normals
from .held import Held, check_real, same_shape

#: Elements of a dense matrix (float64) above which `Matrix.of` refuses: 1 GB.
MOST_ELEMENTS = 1 << 27


class Matrix(Operator):
    """Multiplies flattened examples by a matrix.

    The singular value decomposition is computed on first use, in float64, and kept.

    Args:
        matrix: (m, d), real and finite.
        event_shape: The shape of an example, of d elements; None: (d,).

    Raises:
        InputError: The matrix has another rank, or the shape has another number of elements.

    Example:
        >>> operator = sf.operators.Matrix([[1.0, 1.0, 0.0]])  # the sum of the first two columns
    """

    def __init__(self, matrix: Any, event_shape: Sequence[int] | None = None) -> None:
        found = float64(matrix, "the matrix")
        if found.ndim != 2 or found.numel() == 0:
            raise InputError(
                f"the matrix must have two dimensions (measurements, elements of an example); got "
                f"shape {tuple(found.shape)}"
            )
        shape = (found.shape[1],) if event_shape is None else read_shape(event_shape, "event_shape")
        if math.prod(shape) != found.shape[1]:
            raise InputError(
                f"a matrix of {found.shape[1]} columns needs examples of {found.shape[1]} "
                f"elements; event_shape {shape} has {math.prod(shape)}"
            )
        self.event_shape = shape
        self._matrix = Held(found)
        self._factors: tuple[Held, Tensor, Held] | None = None

    @classmethod
    def of(cls, operator: Operator, event_shape: Sequence[int]) -> "Matrix":
        """The dense matrix of a linear operator, which has a singular value decomposition.

        Args:
            operator: A linear operator.
            event_shape: The shape of an example.

        Returns:
            A matrix whose measurement is that of the operator, flattened.

        Raises:
            InputError: The operator is not linear, or the matrix would take more than 1 GB.
        """
        shape = read_shape(event_shape, "event_shape")
        size, m = math.prod(shape), math.prod(operator.measurement_shape(shape))
        if not operator.linear:
            raise InputError(f"{operator!r} is not linear, so that no matrix gives it")
        if size * m > MOST_ELEMENTS:
            raise InputError(
                f"the matrix of {operator!r} for examples {shape} would have {m} x {size} "
                f"elements; at most {MOST_ELEMENTS} are made"
            )
        columns = []
        for start in range(0, size, 256):
            count = min(256, size - start)
            unit = torch.zeros(count, size, dtype=torch.float64)
            unit[torch.arange(count), start + torch.arange(count)] = 1
            columns.append(operator.A(unit.reshape(count, *shape)).reshape(count, -1))
        return Matrix(torch.cat(columns).T.contiguous(), shape)

    @property
    def matrix(self) -> Tensor:
        """The matrix (m, d), float64."""
        return self._matrix.value

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(m,), for the shape of an example that the matrix was made for."""
        if tuple(event_shape) != self.event_shape:
            raise InputError(
                f"{self!r} measures examples of shape {self.event_shape}; got {tuple(event_shape)}"
            )
        return (len(self.matrix),)

    def A(self, x: Tensor) -> Tensor:
        """Multiply: (B, *event) -> (B, m)."""
        check_real(x, self)
        same_shape(x, self.event_shape, self)
        return x.flatten(1) @ self._matrix.like(x).T

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Multiply by the transpose: (B, m) -> (B, *event)."""
        check_real(y, self)
        same_shape(y, (len(self.matrix),), self, "y")
        return (y @ self._matrix.like(y)).reshape(len(y), *self.event_shape)

    def _decomposed(self) -> tuple[Tensor, Tensor, Tensor]:
        """U (m, r), S (r,), V^T (r, d) with r = min(m, d)."""
        return torch.linalg.svd(self.matrix, full_matrices=False)

    def svd(self, event_shape: tuple[int, ...]) -> SVD:
        """By LAPACK, in float64. Singular values that are rounding errors are set to zero."""
        self.measurement_shape(event_shape)
        if self._factors is None:
            U, values, Vh = self._decomposed()
            size = max(self.matrix.shape) * torch.finfo(torch.float64).eps
            values = torch.where(values > size * values.max(), values, 0.0)
            self._factors = Held(U * (values > 0)), values, Held(Vh)
        left, values, right = self._factors
        return SVD(
            values,
            lambda c: (c @ right.like(c)).reshape(len(c), *self.event_shape),
            lambda x: x.flatten(1) @ right.like(x).T,
            lambda c: c @ left.like(c).T,
            lambda y: y @ left.like(y),
        )

    def __repr__(self) -> str:
        m, d = self.matrix.shape
        return f"{type(self).__name__}({m} x {d})"


class RandomProjection(Matrix):
    """Random projections, the measurement of compressed sensing (Candes and Tao 2006).

    Rows are independent normals of variance 1/m, so that the squared norm of A x is that of x on
    average; or orthonormal and in random directions.

    Args:
        m: The number of measurements; for orthonormal rows at most the elements of an example.
        event_shape: The shape of an example.
        seed: The matrix is a function of (seed, m, event_shape).
        orthonormal: Whether the rows are orthonormal.

    Raises:
        InputError: A number or the shape is out of range.
    """

    def __init__(
        self, m: int, event_shape: Sequence[int], seed: int = 0, orthonormal: bool = False
    ) -> None:
        shape = read_shape(event_shape, "event_shape")
        d = math.prod(shape)
        self.orthonormal = flag(orthonormal, "orthonormal")
        m = whole(m, "m", 1, d if self.orthonormal else None)
        normals = operator_normals(seed, MATRIX, (m, d))
        if self.orthonormal:
            q, r = torch.linalg.qr(normals.T)
            # With the signs of R's diagonal the law of Q is uniform (Mezzadri 2007).
            matrix = (q * r.diagonal().sign()).T.contiguous()
        else:
            matrix = normals / math.sqrt(m)
        super().__init__(matrix, shape)

    def _decomposed(self) -> tuple[Tensor, Tensor, Tensor]:
        if not self.orthonormal:
            return super()._decomposed()
        m = len(self.matrix)
        one = torch.ones(m, dtype=torch.float64)
        return torch.diag(one), one, self.matrix
