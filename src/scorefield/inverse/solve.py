"""Conjugate gradients for batches of symmetric systems, row by row."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

SLACK = 1e-3  # relative: how far rounding may bring a curvature below its bound


class Solved(NamedTuple):
    """The result of `conjugate_gradients`.

    Attributes:
        x: (B, *shape), the solution.
        residual: (B,), the norm of b - M x over the norm of b.
        iterations: Products with M that were taken.
    """

    x: Tensor
    residual: Tensor
    iterations: int


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    b: Tensor,
    tolerance: float = 1e-6,
    most: int = 100,
    least: float = 0.0,
) -> Solved:
    """Solve M x = b for a symmetric positive semi-definite M, each row by itself.

    A row whose residual has reached the tolerance stays as it is while others go on, so that the
    solution of a row does not depend on its batch mates. Where M is singular and b in its range the
    solution of least norm is found (Hestenes and Stiefel 1952).

    Args:
        product: v (B, *shape) -> M v.
        b: (B, *shape).
        tolerance: Relative residual at which a row is done.
        most: Most iterations.
        least: A lower bound on the eigenvalues of M. A product that breaks it, as those of a
            network's Jacobian may, ends the row where it is.

    Returns:
        The solution, its residual and the number of products.
    """
    shape = (-1, *[1] * (b.ndim - 1))

    def inner(u: Tensor, v: Tensor) -> Tensor:
        return (u * v).flatten(1).sum(1, dtype=torch.float64).to(b.dtype)

    x, r = torch.zeros_like(b), b.clone()
    p, square = r.clone(), inner(r, r)
    goal = square * tolerance**2
    iterations = 0
    for _ in range(most):
        active = square > goal
        if not bool(active.any()):
            break
        iterations += 1
        q = product(p)
        curvature = inner(p, q)
        # A direction without curvature lies in the null space: the row is done.
        bends = (curvature > 0) & (curvature >= (1 - SLACK) * least * inner(p, p))
        active = active & bends
        step = torch.where(active, square / torch.where(active, curvature, 1.0), 0.0)
        x = x + step.reshape(shape) * p
        r = r - step.reshape(shape) * q
        fresh = torch.where(active, inner(r, r), square)
        ratio = torch.where(active, fresh / torch.where(active, square, 1.0), 0.0)
        p = torch.where(active.reshape(shape), r + ratio.reshape(shape) * p, p)
        goal = torch.where(bends, goal, math.inf)
        square = fresh
    size = inner(b, b).sqrt()
    relative = square.sqrt() / torch.where(size > 0, size, 1.0)
    return Solved(x, relative, iterations)
