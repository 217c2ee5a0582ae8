"""Mean and variance of arrays that may be larger than memory, in float64.

The examples are read in blocks and combined by the pairwise update of Chan, Golub and LeVeque
(1979), each block about its own first example: data far from zero lose no digits, and a constant
column has variance exactly 0 and mean exactly its value.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = (
    1 << 24
)  # bytes read at a time: memory-mapped arrays larger than memory are never copied whole


class Statistics(NamedTuple):
    """mean, variance: float64 tensors of one shape; the variance divides by the count."""

    mean: Tensor
    variance: Tensor


def blocks(count: int, row_bytes: int) -> Iterator[slice]:
    """Slices over `count` rows of at most BLOCK bytes each, and of at least one row."""
    rows = max(1, BLOCK // max(row_bytes, 1))
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


class Ranges(NamedTuple):
    """low, high: The smallest and the largest number of every column or channel."""

    low: list[float]
    high: list[float]


def ranges(values: Tensor) -> Ranges:
    """The range of every column or channel.

    Args:
        values: (N, k) or (N, k, ...), real numbers.

    Returns:
        Two lists of k numbers.
    """
    lows, highs = [], []
    for part in blocks(len(values), 8 * max(1, values[0].numel())):
        block = values[part].reshape(len(values[part]), values.shape[1], -1)
        lows.append(block.amin((0, 2)).to(torch.float64))
        highs.append(block.amax((0, 2)).to(torch.float64))
    return Ranges(torch.stack(lows).amin(0).tolist(), torch.stack(highs).amax(0).tolist())


def accumulate(
    read: Callable[[Tensor], Tensor], index: Tensor, event_shape: tuple[int, ...]
) -> Statistics:
    """Mean and variance of every element over the examples at `index`.

    Args:
        read: Returns the examples at given indices, (B, *event), as floats.
        index: int64 (N,), at least one example.
        event_shape: The shape of one example.

    Returns:
        Statistics of shape (*event).
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for part in blocks(len(index), 8 * math.prod(event_shape)):
        x = read(index[part]).to(torch.float64)
        centred = x - x[0]
        offset = centred.mean(0)
        block_mean, block_squares = x[0] + offset, (centred - offset).square().sum(0)
        if count == 0:
            mean, squares = block_mean, block_squares
        else:
            delta = block_mean - mean
            total = count + len(x)
            mean = mean + delta * (len(x) / total)
            squares = squares + block_squares + delta.square() * (count * len(x) / total)
        count += len(x)
    return Statistics(mean, squares / count)


def by_channel(elements: Statistics) -> Statistics:
    """Statistics over all positions of a channel, (C, 1, ...), from those of elements, (C, ...).

    Vectors (d,) have no positions and come back unchanged.
    """
    mean, variance = elements
    if mean.ndim < 2:
        return elements
    m, v = mean.flatten(1), variance.flatten(1)
    first = m[:, :1]
    centre = first + (m - first).mean(1, keepdim=True)  # exact where all are equal
    total = (v + (m - centre).square()).mean(1, keepdim=True)
    shape = (len(mean), *(1,) * (mean.ndim - 1))
    return Statistics(centre.reshape(shape), total.reshape(shape))
