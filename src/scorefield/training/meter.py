"""Losses between two lines of metrics.jsonl, by bins of ln sigma."""

from typing import Any

import torch
from torch import Tensor

from ..noise import Levels, SigmaDistribution

SIGMA_BINS = 12


class Meter:
    """Sums of the losses since the last line, by bins of ln sigma.

    Args:
        distribution: The training distribution of sigma. Bins hold equal probability; the levels
            of a ladder have a bin each.
    """

    def __init__(self, distribution: SigmaDistribution) -> None:
        if isinstance(distribution, Levels):
            levels = torch.tensor(distribution.ladder, dtype=torch.float32)
            self.edges = (levels[:-1] * levels[1:]).sqrt().flip(0)
            self.centres: list[float] = levels.flip(0).tolist()
        else:
            u = torch.arange(1, SIGMA_BINS, dtype=torch.float32) / SIGMA_BINS
            self.edges = distribution.quantile(u).unique()
            bins = len(self.edges) + 1
            self.centres = distribution.quantile((torch.arange(bins) + 0.5) / bins).tolist()
        self.reset()

    def reset(self) -> None:
        """Forget all losses."""
        self.sums = torch.zeros(3, len(self.edges) + 1, dtype=torch.float64)

    def add(self, sigma: Tensor, losses: Tensor) -> None:
        """Add the losses of a batch.

        Args:
            sigma: Noise levels (B,), on any device.
            losses: Losses (B,), on any device.
        """
        index = torch.bucketize(sigma.cpu(), self.edges)
        values = losses.cpu().double()
        parts = (torch.ones_like(values), values, values.square())
        for row, value in zip(self.sums, parts, strict=True):
            row.index_add_(0, index, value)

    @property
    def losses(self) -> int:
        """Number of losses since the last line."""
        return int(self.sums[0].sum())

    def read(self) -> dict[str, Any]:
        """Mean losses since the last line.

        Returns:
            {"loss": mean, "by_sigma": columns sigma, count, loss and se, one row per bin}. Means of
            no losses, and standard errors of fewer than two, are NaN.
        """
        count, total, square = self.sums
        some, several = torch.where(count > 0, count, torch.nan), count > 1
        mean = total / some
        variance = (square / some - mean.square()).clamp_min(0)
        se = torch.where(several, (variance / some).sqrt(), torch.nan)
        overall = (total.sum() / count.sum()).item() if bool(count.sum() > 0) else float("nan")
        bins = {
            "sigma": self.centres,
            "count": count.long().tolist(),
            "loss": mean.tolist(),
            "se": se.tolist(),
        }
        return {"loss": overall, "by_sigma": bins}

    def state_dict(self) -> dict[str, Tensor]:
        """The sums, from which a resumed run writes the same next line."""
        return {"sums": self.sums}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the sums from `state_dict`.

        Args:
            state: The result of `state_dict`.
        """
        self.sums.copy_(state["sums"])
