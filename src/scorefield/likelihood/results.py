"""What a likelihood is told in: nats with their standard error, and bits a dimension of quantised
data.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..model import ScoreModel


@dataclass(frozen=True)
class Values:
    """A number a sample: value (B,)."""

    value: Tensor

    @property
    def mean(self) -> float:
        """The mean over samples."""
        return self.value.mean().item()

    @property
    def mean_se(self) -> float:
        """The mean's standard error over samples, Hutchinson's noise included; NaN for a single
        sample.
        """
        return self.value.std().item() / len(self.value) ** 0.5 if len(self.value) > 1 else math.nan


@dataclass(frozen=True)
class LogProb(Values):
    """log p_sigma_min(x) in nats, of the density in data units.

    value, se: float64 (B,) on the CPU; se is Hutchinson's standard error, 0 for the exact trace.
    evaluations: of the model, a sample (the
    most over batches); products: vector-Jacobian products, a sample. sigma_min, sigma_max: model
    units. elements: of an event.
    """

    se: Tensor
    evaluations: int
    products: int
    seconds: float
    sigma_min: float
    sigma_max: float
    terminal: str
    divergence: str
    elements: int

    def __len__(self) -> int:
        return len(self.value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.value.numpy().astype(dtype or np.float64)

    def __str__(self) -> str:
        return (
            f"log p = {self.mean:.4g} ± {self.mean_se:.2g} nats over {len(self)} samples, "
            f"smoothed by sigma_min {self.sigma_min:g}; "
            f"{self.divergence}; terminal law {self.terminal}; {self.evaluations} evaluations, "
            f"{self.seconds:.1f} s"
        )

    def to_dict(self) -> dict[str, Any]:
        """A form JSON can hold."""
        fields = {k: v for k, v in vars(self).items() if k not in ("value", "se")}
        single = len(self) == 1
        return {
            "mean": self.mean,
            "mean_se": None if single else self.mean_se,
            "count": len(self),
            **fields,
        } | {
            "values": self.value.tolist(),
            "se": self.se.tolist(),
        }


@dataclass(frozen=True)
class BitsPerDim(Values):
    """Bits a dimension of quantised data, an upper bound: value (B,), se (B,) of Hutchinson;
    levels: into how many values data are quantised.
    """

    se: Tensor
    levels: int
    dequantisation: str = (
        "uniform: data are (v + u) / levels, u ~ U(0, 1), one draw; the bound of Theis et al. 2016"
    )

    def to_dict(self) -> dict[str, Any]:
        """A form JSON can hold."""
        return {
            "mean": self.mean,
            "mean_se": self.mean_se if len(self.value) > 1 else None,
            "levels": self.levels,
            "dequantisation": self.dequantisation,
        }


def bits_per_dim(model: ScoreModel, log_p: LogProb) -> BitsPerDim:
    """log2(levels) - log p / (d ln 2), for log p of data dequantised uniformly, (v + u) / levels,
    in data units.

    A bin of (v + u) / levels has width 1 / levels in each of d dimensions, so P(v) = levels^-d E_u
    p, and by Jensen
    - log P(v) <= d log levels - E_u log p (Theis, van den Oord & Bethge 2016, Eq. 3). Only where
    the model's card declares the data's
    `levels`; an InputError elsewhere: of continuous data, bits depend on the unit.
    """
    levels = (model.card or {}).get("levels")
    if not isinstance(levels, int) or levels < 2:
        raise InputError(
            "bits per dimension need data whose quantisation the model's card declares; this "
            f"card says levels={levels!r}. "
            "Use nats, the mean of log_prob"
        )
    per_dim = log_p.elements * math.log(2)
    return BitsPerDim(math.log2(levels) - log_p.value / per_dim, log_p.se / per_dim, levels)
