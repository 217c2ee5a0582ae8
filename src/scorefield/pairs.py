"""Distances between all pairs of two sets, a part of the rows at a time, and their median."""

from collections.abc import Iterator

import torch
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


def median_distance(x: Tensor, most: int = 2000) -> float:
    """The median distance between two of the first `most` rows; 1 where all are equal."""
    rows = x[:most] - x[:most].mean(0)
    first, second = torch.triu_indices(len(rows), len(rows), 1)
    found = squared_distances(rows, rows)[first, second].sqrt_()
    median = float(found.median())
    # Of data with many equal examples the median is 0, up to the rounding of the squares.
    scale = 1e-7 * float(rows.norm(dim=1).max())
    apart = found[found > scale]
    if median > scale or len(apart) == 0:
        return median if median > 0 else 1.0
    return float(apart.median())
