"""Operators of other libraries, and linear functions, as operators of this package.

LinearFunction(f, event_shape)     a linear function, with an adjoint by automatic
                                   differentiation or of one's own
adapt(object)                      deepinv physics, pylops and SciPy operators, matrices,
                                   functions
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import InputError
from ...values import describe, flag
from ...values import shape as read_shape
from .base import Operator
from .held import MOST_COPIES, check_real, same_shape
from .matrix import Matrix
from .nonlinear import Function
from .product import Map, product


class LinearFunction(Operator):
    """A linear function of a batch of examples.

    Args:
        function: Maps (B, *event) to (B, *measurement), row by row, real and floating.
        event_shape: The shape of an example.
        adjoint: Maps (B, *measurement) to (B, *event); None: found by automatic differentiation of
            `function`, which must be of PyTorch then. With an adjoint both may be any code, such as
            NumPy's: the gradient of one is the other.

    Raises:
        InputError: `function` is not a function.

    Example:
        >>> operator = sf.operators.LinearFunction(lambda x: x.cumsum(-1), (1, 64))
    """

    def __init__(
        self, function: Map, event_shape: Sequence[int], adjoint: Map | None = None
    ) -> None:
        for one, name in ((function, "function"), (adjoint, "adjoint")):
            if not callable(one) and not (one is None and name == "adjoint"):
                raise InputError(f"{name} must be a function; got {describe(one)}")
        self.function, self.adjoint = function, adjoint
        self.event_shape = read_shape(event_shape, "event_shape")

    def A(self, x: Tensor) -> Tensor:
        """Apply the function to x (B, *event)."""
        check_real(x, self)
        same_shape(x, self.event_shape, self)
        if self.adjoint is None:
            return self.function(x)
        return product(x, self.function, self.adjoint)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Apply the adjoint to y (B, *measurement)."""
        check_real(y, self)
        if self.adjoint is not None:
            return product(y, self.adjoint, self.function)
        graph = torch.is_grad_enabled() and y.requires_grad
        with torch.enable_grad():
            zero = torch.zeros(
                len(y), *self.event_shape, dtype=y.dtype, device=y.device, requires_grad=True
            )
            return torch.autograd.grad(self.function(zero), zero, y, create_graph=graph)[0]

    def __repr__(self) -> str:
        return f"LinearFunction(of {' x '.join(map(str, self.event_shape))})"


FLOAT32_TOLERANCE = 1e-6  # relative residual that float32 can reach


class _Foreign:
    """An object of another library: a PyTorch module by a copy on x's device, in its own type.

    A module computes in the type of its first floating constant, often float32. Its other
    constants may be hidden from PyTorch, so that converting the module would leave it in two types.
    """

    def __init__(self, wrapped: Any) -> None:
        self.name = type(wrapped).__name__
        self._wrapped = wrapped
        self._copies: dict[torch.device, Any] = {}
        self.dtype: torch.dtype | None = None
        if isinstance(wrapped, nn.Module):
            kinds = [one.dtype for one in (*wrapped.parameters(), *wrapped.buffers())]
            real = [kind.to_real() for kind in kinds if kind.is_floating_point or kind.is_complex]
            self.dtype = real[0] if real else None

    def _on(self, device: torch.device) -> Any:
        if not isinstance(self._wrapped, nn.Module):
            return self._wrapped
        if device not in self._copies:
            if len(self._copies) >= MOST_COPIES:
                self._copies.clear()
            self._copies[device] = copy.deepcopy(self._wrapped).to(device).requires_grad_(False)
        return self._copies[device]

    def apply(self, name: str, x: Tensor) -> Tensor:
        """The result of the object's method of that name, in x's type."""
        found = getattr(self._on(x.device), name)(x if self.dtype is None else x.to(self.dtype))
        if not isinstance(found, Tensor):
            raise InputError(
                f"{self.name}.{name} must give one tensor; got {describe(found)}. Wrap it in a "
                "function that flattens and concatenates its parts"
            )
        if found.is_complex():
            raise InputError(
                f"{self.name}.{name} gives complex numbers; give real and imaginary parts in a "
                "dimension of their own, torch.view_as_real(y)"
            )
        return found.to(x.dtype)


class Adapted(Operator):
    """An operator made of an object of another library; `adapt` makes it.

    Args:
        wrapped: An object with A, and A_adjoint where it is linear.
        event_shape: The shape of an example, where it is known.
        linear: Whether A is linear.
    """

    def __init__(
        self, wrapped: Any, event_shape: tuple[int, ...] | None = None, linear: bool = True
    ) -> None:
        self.event_shape = event_shape
        self.linear = linear
        self._foreign = _Foreign(wrapped)
        if self._foreign.dtype not in (None, torch.float64):
            self.pinv_tolerance = FLOAT32_TOLERANCE

    def A(self, x: Tensor) -> Tensor:
        """Measure x (B, *event)."""
        check_real(x, self)
        if self.event_shape is not None:
            same_shape(x, self.event_shape, self)
        return self._foreign.apply("A", x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Apply the object's adjoint to y (B, *measurement)."""
        check_real(y, self)
        return super().A_adjoint(y) if not self.linear else self._foreign.apply("A_adjoint", y)

    def __repr__(self) -> str:
        return f"Adapted({self._foreign.name})"


class _Rows(NamedTuple):
    """A NumPy operator, with the shapes and the type of what it takes."""

    operator: Any
    dtype: np.dtype
    event: tuple[int, ...]
    measurement: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        """matvec of every row: (B, *event) -> (B, *measurement)."""
        return self._each(self.operator.matvec, x, self.measurement)

    def back(self, y: Tensor) -> Tensor:
        """rmatvec of every row: (B, *measurement) -> (B, *event)."""
        return self._each(self.operator.rmatvec, y, self.event)

    def _each(self, product: Callable[[Any], Any], x: Tensor, shape: tuple[int, ...]) -> Tensor:
        flat = x.detach().flatten(1).cpu().to(torch.float64).numpy().astype(self.dtype)
        rows = [np.asarray(product(row)).reshape(-1) for row in flat]
        if rows and np.iscomplexobj(rows[0]):
            raise InputError(
                f"{type(self.operator).__name__} gives complex numbers; operators here are real"
            )
        found = np.stack(rows) if rows else np.empty((0, *shape))
        return torch.from_numpy(np.ascontiguousarray(found)).reshape(-1, *shape).to(x)


class _Matvec(LinearFunction):
    """An operator with matvec and rmatvec."""

    def __init__(self, rows: _Rows) -> None:
        super().__init__(rows.forward, rows.event, rows.back)
        self.rows = rows

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """As the wrapped operator states it."""
        if tuple(event_shape) != self.event_shape:
            raise InputError(
                f"{self!r} measures examples of shape {self.event_shape}; got {tuple(event_shape)}"
            )
        return self.rows.measurement

    def __repr__(self) -> str:
        return f"Adapted({type(self.rows.operator).__name__})"


def _of_matvec(value: Any, event_shape: tuple[int, ...] | None) -> Operator:
    """An operator with matvec, rmatvec and shape: SciPy's, pylops' and their like."""
    name = type(value).__name__
    m, n = (int(size) for size in value.shape)
    dtype = np.dtype(getattr(value, "dtype", None) or np.float64)
    if dtype.kind == "c":
        raise InputError(
            f"{name} is complex; operators here are real. Split real and imaginary parts into two "
            "channels, or wrap it in a real operator"
        )
    if dtype.kind != "f":
        dtype = np.dtype(np.float64)
    dims = tuple(int(size) for size in getattr(value, "dims", None) or (n,))
    event = dims if event_shape is None else event_shape
    measured = tuple(int(size) for size in getattr(value, "dimsd", None) or (m,))
    if int(np.prod(event)) != n:
        raise InputError(
            f"{name} takes {n} elements; event_shape {event} has {int(np.prod(event))}"
        )
    return _Matvec(_Rows(value, dtype, event, measured))


def adapt(
    value: Any, event_shape: Sequence[int] | None = None, linear: bool | None = None
) -> Operator:
    """Make an operator of an object of another library.

    Args:
        value: One of: an object with A(x) and A_adjoint(y) on batches of tensors, such as a linear
            physics of deepinv (linear); an object with A(x) alone, such as any other physics of
            deepinv (not linear); an object with matvec, rmatvec and shape on NumPy vectors, such as
            an operator of pylops or SciPy, or a sparse matrix of SciPy (linear, real); a matrix
            (m, d); a function of a batch of tensors (not linear). An `Operator` comes back as it
            is. Noise that a physics adds elsewhere is left out: give it to `Measurement`.
        event_shape: The shape of an example, for matrices and operators on vectors; None: (d,), or
            pylops' `dims`.
        linear: Whether an object with A is linear; None: where it has A_adjoint. Some physics, such
            as deepinv's phase retrieval, have one and are not linear.

    Returns:
        An operator. PyTorch modules are copied to the device of what they meet, and compute in the
        type of their own constants, often float32.

    Raises:
        InputError: The object is none of these, or is complex.

    Example:
        >>> operator = sf.operators.adapt(deepinv.physics.Inpainting((1, 28, 28), mask=0.5))
    """
    shape = None if event_shape is None else read_shape(event_shape, "event_shape")
    if isinstance(value, Operator):
        return value
    if isinstance(value, Tensor | np.ndarray | list | tuple):
        return Matrix(value, shape)
    if callable(getattr(value, "tocsr", None)):
        from scipy.sparse.linalg import aslinearoperator

        value = aslinearoperator(value)
    if callable(getattr(value, "A", None)):
        has_adjoint = callable(getattr(value, "A_adjoint", None))
        is_linear = has_adjoint if linear is None else flag(linear, "linear")
        if is_linear and not has_adjoint:
            raise InputError(
                f"{type(value).__name__} has no A_adjoint; LinearFunction(value.A, event_shape) "
                "finds one by automatic differentiation"
            )
        return Adapted(value, shape, is_linear)
    if all(callable(getattr(value, name, None)) for name in ("matvec", "rmatvec")):
        return _of_matvec(value, shape)
    if callable(value):
        return Function(value)
    raise InputError(
        "adapt needs an object with A and A_adjoint, one with matvec and rmatvec, a matrix or a "
        f"function; got {describe(value)}"
    )
