"""Distances between all pairs of two sets, a part of the rows at a time."""

from collections.abc import Iterator

from torch import Tensor

PAIRS = 2**21  # distances held at a time


def row_chunks(a: Tensor, b: Tensor) -> Iterator[slice]:
    """Slices of the rows of `a`, of about PAIRS pairs with the rows of `b` each."""
    step = max(1, PAIRS // max(len(b), 1))
    for first in range(0, len(a), step):
        yield slice(first, min(first + step, len(a)))


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (A, B) of rows; centre the data first, so that little cancels."""
    squares = a.square().sum(1)[:, None] + b.square().sum(1)[None]
    return squares.addmm_(a, b.T, alpha=-2).clamp_(min=0)
