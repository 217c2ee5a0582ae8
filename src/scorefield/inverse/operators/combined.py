"""Operators made of operators: chains, stacks, factors, and the identity.

Composition(B, A)      x -> B(A(x))
Stacked([A, B], ...)   x -> (A(x), B(x)), flattened and concatenated
Scaled(A, a)           x -> a A(x)
PerElement(w)          x -> w x, element by element
Identity()             x -> x
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...tensors import float64
from ...values import describe, finite
from ...values import shape as read_shape
from .base import SVD, Operator, diagonal_svd
from .held import Held, check_real, same_shape


def _operators(value: Sequence[Operator], name: str) -> tuple[Operator, ...]:
    """Operators, at least one."""
    found = tuple(value)
    for one in found:
        if not isinstance(one, Operator):
            raise InputError(
                f"{name} must be operators; got {describe(one)}. sf.operators.adapt makes one of "
                "an object with A and A_adjoint, of a matrix or of a function"
            )
    if not found:
        raise InputError(f"{name} must not be empty; at least one operator is needed")
    return found


class Identity(Operator):
    """Measures every element as it is: denoising.

    Example:
        >>> operator = sf.operators.Identity()
    """

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the event."""
        return tuple(event_shape)

    def A(self, x: Tensor) -> Tensor:
        """A copy of x, which the caller may write to."""
        check_real(x, self)
        return x.clone()

    def A_adjoint(self, y: Tensor) -> Tensor:
        """A copy of y."""
        check_real(y, self)
        return y.clone()

    def svd(self, event_shape: tuple[int, ...]) -> SVD:
        """Ones."""
        return diagonal_svd(torch.ones(event_shape, dtype=torch.float64))


class PerElement(Operator):
    """Multiplies every element by a number of its own: a flat field, a beam, an exposure.

    Args:
        weights: Numbers that broadcast against an example; not all zero.

    Raises:
        InputError: The weights are not finite, or all zero.
    """

    def __init__(self, weights: Any) -> None:
        self.weights = float64(weights, "the weights").cpu()
        if not bool((self.weights != 0).any()):
            raise InputError("the weights are zero everywhere; at least one must differ")
        self._held = Held(self.weights)

    def on(self, event_shape: tuple[int, ...]) -> Tensor:
        """The weights of an event's shape, float64.

        Raises:
            InputError: They do not broadcast against the event.
        """
        try:
            return self.weights.expand(event_shape)
        except RuntimeError as error:
            raise InputError(
                f"the weights must broadcast against the event {tuple(event_shape)}; got "
                f"{tuple(self.weights.shape)}"
            ) from error

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the event."""
        return tuple(self.on(event_shape).shape)

    def A(self, x: Tensor) -> Tensor:
        """Multiply x (B, *event) by the weights."""
        check_real(x, self)
        self.on(tuple(x.shape[1:]))
        return x * self._held.like(x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """The operator is its own adjoint."""
        return self.A(y)

    def svd(self, event_shape: tuple[int, ...]) -> SVD:
        """The magnitudes of the weights are the singular values."""
        return diagonal_svd(self.on(event_shape))

    def __repr__(self) -> str:
        return f"PerElement(weights {tuple(self.weights.shape)})"


class Scaled(Operator):
    """An operator times a number.

    Args:
        operator: The operator.
        factor: Finite and not zero.

    Raises:
        InputError: The factor is zero or not finite.
    """

    def __init__(self, operator: Operator, factor: float) -> None:
        (self.operator,) = _operators([operator], "operator")
        self.factor = finite(factor, "factor")
        if self.factor == 0:
            raise InputError("factor must not be 0, which measures nothing")
        self.linear = self.operator.linear

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the operator."""
        return self.operator.measurement_shape(event_shape)

    def take(self, index: Tensor) -> "Scaled":
        """The operator for the observations at `index` (B,)."""
        return Scaled(self.operator.take(index), self.factor)

    def A(self, x: Tensor) -> Tensor:
        """Measure x (B, *event), and multiply."""
        return self.factor * self.operator.A(x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Apply the adjoint, and multiply."""
        return self.factor * self.operator.A_adjoint(y)

    def svd(self, event_shape: tuple[int, ...]) -> SVD | None:
        """That of the operator, scaled."""
        inner = self.operator.svd(event_shape)
        return None if inner is None else inner.scaled(self.factor)

    def acts_by_channel(self, event_shape: tuple[int, ...]) -> bool:
        """Where the operator does."""
        return self.operator.acts_by_channel(event_shape)

    def __repr__(self) -> str:
        return f"Scaled({self.operator!r}, {self.factor:g})"


class Composition(Operator):
    """Operators one after the other, the last one first: Composition(B, A)(x) = B(A(x)).

    It is linear where all of them are. Its singular value decomposition is not known, except where
    all but one are the `Identity`; `Matrix.of` gives it for small examples.

    Args:
        outer: The operator that is applied last.
        inner: The operators before it, the first one last.

    Raises:
        InputError: Something else than operators.

    Example:
        >>> blur = sf.operators.Blur(sf.operators.gaussian_kernel(1.0))
        >>> operator = sf.operators.Composition(sf.operators.Downsample(2), blur)
    """

    def __init__(self, outer: Operator, *inner: Operator) -> None:
        self.operators = _operators([outer, *inner], "the parts of a composition")
        self.linear = all(one.linear for one in self.operators)

    def _shapes(self, event_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The shape before each operator, outermost first, and that of the measurement."""
        found = [tuple(event_shape)]
        for one in reversed(self.operators):
            found.insert(0, one.measurement_shape(found[0]))
        return found

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the outermost operator."""
        return self._shapes(event_shape)[0]

    def take(self, index: Tensor) -> "Composition":
        """The operators for the observations at `index` (B,)."""
        return Composition(*(one.take(index) for one in self.operators))

    def A(self, x: Tensor) -> Tensor:
        """Measure x (B, *event)."""
        for one in reversed(self.operators):
            x = one.A(x)
        return x

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Apply the adjoints in the other order."""
        for one in self.operators:
            y = one.A_adjoint(y)
        return y

    def svd(self, event_shape: tuple[int, ...]) -> SVD | None:
        """That of the only operator, where there is one beside identities."""
        others = [one for one in self.operators if not isinstance(one, Identity)]
        if len(others) > 1:
            return None
        return (others[0] if others else self.operators[0]).svd(event_shape)

    def acts_by_channel(self, event_shape: tuple[int, ...]) -> bool:
        """Where all operators do."""
        shapes = self._shapes(event_shape)[1:]
        return all(one.acts_by_channel(s) for one, s in zip(self.operators, shapes, strict=True))

    def __repr__(self) -> str:
        return f"Composition({', '.join(map(repr, self.operators))})"


class Stacked(Operator):
    """Several measurements of one example, flattened and concatenated.

    Args:
        operators: The operators.
        event_shape: The shape of an example.

    Raises:
        InputError: Something else than operators.

    Example:
        >>> parts = [sf.operators.Grey(), sf.operators.Downsample(4)]
        >>> operator = sf.operators.Stacked(parts, event_shape=(3, 32, 32))
    """

    def __init__(self, operators: Sequence[Operator], event_shape: Sequence[int]) -> None:
        self.operators = _operators(operators, "operators")
        self.event_shape = read_shape(event_shape, "event_shape")
        self.shapes = [one.measurement_shape(self.event_shape) for one in self.operators]
        self.linear = all(one.linear for one in self.operators)

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(m,), the sum of the sizes of all measurements."""
        if tuple(event_shape) != self.event_shape:
            raise InputError(
                f"{self!r} measures examples of shape {self.event_shape}; got {tuple(event_shape)}"
            )
        return (sum(math.prod(shape) for shape in self.shapes),)

    def split(self, y: Tensor) -> list[Tensor]:
        """The measurement of each operator.

        Args:
            y: (B, m), or (m,).

        Returns:
            (B, *measurement) of each operator, or (*measurement) where y has no batch dimension.
        """
        lead = tuple(y.shape[:-1])
        parts = y.split([math.prod(shape) for shape in self.shapes], dim=-1)
        return [part.reshape(*lead, *s) for part, s in zip(parts, self.shapes, strict=True)]

    def take(self, index: Tensor) -> "Stacked":
        """The operators for the observations at `index` (B,)."""
        return Stacked([one.take(index) for one in self.operators], self.event_shape)

    def A(self, x: Tensor) -> Tensor:
        """Measure x (B, *event) by each operator."""
        check_real(x, self)
        same_shape(x, self.event_shape, self)
        return torch.cat([one.A(x).flatten(1) for one in self.operators], dim=1)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """The sum of all adjoints, each of its own part."""
        check_real(y, self)
        same_shape(y, self.measurement_shape(self.event_shape), self, "y")
        parts = zip(self.operators, self.split(y), strict=True)
        total = torch.zeros(len(y), *self.event_shape, device=y.device, dtype=y.dtype)
        for one, part in parts:
            total = total + one.A_adjoint(part)
        return total

    def __repr__(self) -> str:
        return f"Stacked({', '.join(map(repr, self.operators))})"
