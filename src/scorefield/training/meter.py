"""Losses between two lines of metrics.jsonl, by bins of ln sigma."""

from typing import Any

import torch
from torch import Tensor

from ..noise import Levels, SigmaLaw

SIGMA_BINS = 12


class Meter:
    """Losses since the last log line, by bins of ln sigma: sums kept on the device, read only when
    logged.
    """

    def __init__(self, law: SigmaLaw) -> None:
        edges = law.quantile(torch.arange(1, SIGMA_BINS, dtype=torch.float32) / SIGMA_BINS)
        levels = torch.tensor(law.ladder, dtype=torch.float32) if isinstance(law, Levels) else None
        self.edges = (
            (levels[:-1] * levels[1:]).sqrt().flip(0) if levels is not None else edges.unique()
        )
        self.centres = (
            levels.flip(0)
            if levels is not None
            else law.quantile((torch.arange(len(self.edges) + 1) + 0.5) / (len(self.edges) + 1))
        ).tolist()
        self.reset()

    def reset(self) -> None:
        """Forget."""
        self.sums = torch.zeros(3, len(self.edges) + 1, dtype=torch.float64)
        self.steps = 0

    def add(self, sigma: Tensor, losses: Tensor) -> None:
        """One batch."""
        index = torch.bucketize(sigma.cpu(), self.edges)
        values = losses.cpu().double()
        for row, value in zip(
            self.sums, (torch.ones_like(values), values, values.square()), strict=True
        ):
            row.index_add_(0, index, value)
        self.steps += 1

    def read(self) -> dict[str, Any]:
        """Mean loss, and per bin: sigma, count, mean loss and its standard error."""
        count, total, square = self.sums
        mean = total / count.clamp_min(1)
        se = (
            (square / count.clamp_min(1) - mean.square()).clamp_min(0) / count.clamp_min(1)
        ).sqrt()
        bins = {
            "sigma": self.centres,
            "count": count.long().tolist(),
            "loss": mean.tolist(),
            "se": se.tolist(),
        }
        return {"loss": (total.sum() / count.sum().clamp_min(1)).item(), "by_sigma": bins}
