"""Random numbers that operators are made of: a function of the seed, on every machine."""

import torch
from torch import Tensor

from ... import rng

MATRIX, LINES, PROBE = 0, 1, 2  # purposes of the numbers


def operator_normals(seed: int, purpose: int, shape: tuple[int, ...], first: int = 0) -> Tensor:
    """Standard normals.

    Args:
        seed: In [0, 2^64).
        purpose: MATRIX for the rows of a random matrix, LINES for the lines of a sampling mask,
            PROBE for the inputs of `check_operator`. Two purposes share nothing.
        shape: Shape of the result; row k is a function of (seed, purpose, first + k).
        first: Number of the first row.

    Returns:
        float64.
    """
    keys = rng.keys(seed, shape[0], first)
    return rng.normal(keys, rng.Stream.OPERATOR, purpose, shape[1:], torch.float64)
