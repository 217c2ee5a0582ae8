"""Distances between all pairs of two sets (`diagnostics.pairs`), and their median."""

import torch
from torch import Tensor

from ..diagnostics.pairs import row_chunks, squared_distances

__all__ = ["median_distance", "row_chunks", "squared_distances"]


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
