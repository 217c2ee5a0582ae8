"""Batches: examples in model units with noise levels, random keys and conditions."""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import conditions, rng
from ..conditions import Condition
from ..data import Pipeline
from ..noise import SigmaDistribution, stratified


class Batch(NamedTuple):
    """The input of one training step.

    Attributes:
        x0: Clean examples (B, *event) in model units: `model.units.to_model(data)`.
        sigma: Noise levels (B,) in model units, one an example.
        keys: Random keys (B, 2), int64, one an example: `rng.keys(seed, B, first=images)`. The
            noise of an example is a function of its key.
        condition: Mapping of tensors with B rows, or None.
    """

    x0: Tensor
    sigma: Tensor
    keys: Tensor
    condition: Condition | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """Move the batch to another device.

        Args:
            device: The device.

        Returns:
            A batch whose tensors all lie on `device`.
        """
        return Batch(
            self.x0.to(device),
            self.sigma.to(device),
            self.keys.to(device),
            conditions.to_device(self.condition, device),
        )

    def split(self, parts: int) -> list["Batch"]:
        """Split the batch into parts of nearly equal size, in order.

        Args:
            parts: The largest number of parts, 1 or more.

        Returns:
            At most `parts` batches, none of them empty.
        """
        size = -(-len(self.x0) // parts)
        return [self.rows(slice(first, first + size)) for first in range(0, len(self.x0), size)]

    def rows(self, rows: slice) -> "Batch":
        """Select consecutive examples of the batch.

        Args:
            rows: The slice of example indices.

        Returns:
            A batch of these examples.
        """
        condition = conditions.take(self.condition, rows)
        return Batch(self.x0[rows], self.sigma[rows], self.keys[rows], condition)


def draw_sigma(
    distribution: SigmaDistribution, seed: int, first: int, count: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Noise levels and keys of the images first .. first + count - 1.

    The keys belong to the images, whatever batch they come in. The noise levels are stratified
    over the batch (`noise.stratified`): they are a function of (seed, first, count), where the
    batch is the one of a whole optimiser step.

    Keys are made on the CPU, where they are cheap, and moved. What is drawn from them is drawn on
    `device`; integer arithmetic there is exact, logarithms and cosines may differ in the last digit
    between kinds of devices.

    Args:
        distribution: Of sigma.
        seed: Of the run.
        first: Number of the first image.
        count: Size of the batch.
        device: Where sigma is drawn.

    Returns:
        Noise levels (count,) and keys (count, 2).
    """
    keys = rng.keys(seed, count, first)
    offset = rng.uniform(keys[:1], rng.Stream.SIGMA, 0, ())[0]
    sigma = distribution.quantile(stratified(offset, count))
    return sigma.to(device), keys.to(device)


class Batches:
    """The batches of a run.

    Args:
        pipeline: Examples and conditions; its device is the device of the batches.
        distribution: The training distribution of sigma.
        seed: Decides the noise.
    """

    def __init__(self, pipeline: Pipeline, distribution: SigmaDistribution, seed: int) -> None:
        self.pipeline, self.distribution, self.seed = pipeline, distribution, seed

    def batch(self, first: int, count: int) -> Batch:
        """The batch of the step that starts after `first` images.

        Args:
            first: Images seen before the step.
            count: Number of examples B.

        Returns:
            The batch on the pipeline's device, a function of (seed, first, count).
        """
        sigma, keys = draw_sigma(self.distribution, self.seed, first, count, self.pipeline.device)
        x0, condition = self.pipeline.batch(first, count)
        return Batch(x0, sigma, keys, condition)
