"""Examples and references of `score_health`, computed from the training data at a noise level."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import rng
from ..conditions import Condition, take, to_device
from ..exact import Empirical
from ..rng import Stream
from .baselines import Baselines, baselines_of, examples_for

FINE = 0.1  # part of the data's variance that the fine directions hold
BLOCK = 4096  # training examples at a time
TRAINING_KEYS = 1 << 40  # first key of the noise of training examples


class Reference:
    """References from the training data: both Gaussians, the memoriser, and fine directions.

    Args:
        train: (N, *event) in model units, float64 or float32 on the CPU.
    """

    def __init__(self, train: Tensor) -> None:
        elements = math.prod(train.shape[1:])
        rows = train[spread(len(train), examples_for(elements))]
        self.baselines: Baselines = baselines_of(rows)
        self.memoriser = Empirical(train)
        flat = train.flatten(1)
        self.mean = flat.mean(0, dtype=torch.float64)
        squares = (part.double() - self.mean for part in flat.split(BLOCK))
        self.variance = torch.stack([part.square().sum(0) for part in squares]).sum(0) / len(flat)
        gaussian = self.baselines.gaussian
        assert gaussian.values is not None and gaussian.basis is not None
        self.values, order = gaussian.values.sort(descending=True)
        self.basis, self.rest = gaussian.basis[:, order], float(gaussian.rest)
        outside = self.rest * (elements - len(self.values))
        share = self.values.cumsum(0) / (self.values.sum() + outside).clamp_min(1e-300)
        leading = int((share < 1 - FINE).sum()) + 1
        self.leading = self.basis[:, : min(leading, elements - 1)]

    def nothing(self, sigma: float) -> float:
        """Expected squared error of "knowing nothing" (`baselines`), summed over elements."""
        variance = self.baselines.nothing.rest.double()
        return float((variance * sigma**2 / (variance + sigma**2)).sum())

    def trace(self, sigma: float) -> float:
        """The trace of the best Gaussian's Jacobian."""
        outside = (len(self.mean) - len(self.values)) * self.rest / (self.rest + sigma**2)
        return float((self.values / (self.values + sigma**2)).sum()) + outside

    def fine(self, a: Tensor, b: Tensor) -> Tensor:
        """Inner products (n,) of rows (n, d) in the directions beyond the leading ones."""
        return (a * b).sum(1) - ((a @ self.leading) * (b @ self.leading)).sum(1)


@dataclass(frozen=True)
class Examples:
    """Clean examples with their conditions and keys.

    Attributes:
        x0: (n, *event) in the model's type, on its device.
        condition: Their conditions, or None.
        keys: One key an example.
        draws: Number of noises an example.
    """

    x0: Tensor
    condition: Condition | None
    keys: Tensor
    draws: int

    @classmethod
    def of(
        cls, x0: Tensor, condition: Condition | None, most: int, seed: int, first: int = 0
    ) -> "Examples":
        """At most `most` examples, evenly spaced; fewer examples get several noises each.

        Args:
            x0: (N, *event) on the model's device.
            condition: Their conditions, or None.
            most: Number of noisy examples at a level.
            seed: Decides the noise.
            first: Number of the first key.

        Returns:
            The examples.
        """
        chosen = spread(len(x0), most).to(x0.device)
        keys = rng.keys(seed, len(chosen), first).to(x0.device)
        part = to_device(take(condition, chosen), x0.device) if condition is not None else None
        return cls(x0[chosen], part, keys, max(1, most // len(chosen)))

    def normals(self, level: int, draw: int) -> Tensor:
        """Standard normals of the examples' shape at a level."""
        shape = self.x0.shape[1:]
        return rng.normal(self.keys, Stream.HEALTH, level, shape, self.x0.dtype, draw)


def spread(count: int, most: int) -> Tensor:
    """Indices of at most `most` of `count` rows, evenly over all of them."""
    taken = min(count, most)
    return (torch.arange(taken, dtype=torch.float64) * (count / taken)).long()
