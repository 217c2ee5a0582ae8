"""Result types of `log_prob`: nats with standard error, and bits per dimension."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..models import Cost, ScoreModel
from ..plotting import paragraph


@dataclass(frozen=True)
class Values:
    """A number a sample.

    Args:
        value: (B,) float64 on the CPU.
    """

    value: Tensor

    @property
    def mean(self) -> float:
        """The mean over samples."""
        return self.value.mean().item()

    @property
    def mean_se(self) -> float:
        """The mean's standard error over samples, NaN for a single sample.

        Hutchinson's noise differs between samples and is therefore included.
        """
        return self.value.std().item() / len(self.value) ** 0.5 if len(self.value) > 1 else math.nan


@dataclass(frozen=True)
class LogProb(Values):
    """log p_sigma_min(x) in nats, the density in data units.

    Args:
        value: (B,) float64 on the CPU.
        se: (B,) Hutchinson's standard error; 0 for the exact trace.
        evaluations: Scores a sample, the largest number over batches; a guided model counts both
            of its evaluations.
        products: Vector-Jacobian products a sample, the gradients inside energy models included.
        cost: Evaluations and products of all samples together, in rows, those of a closed form as
            prior included.
        seconds: Wall time.
        sigma_min: Noise level that smooths the density, model units.
        sigma_max: Noise level at which the prior is evaluated, model units.
        prior: A description of the density at sigma_max.
        divergence: A description of how the divergence was computed.
        elements: Elements of an example, d.
    """

    se: Tensor
    evaluations: int
    products: int
    cost: Cost
    seconds: float
    sigma_min: float
    sigma_max: float
    prior: str
    divergence: str
    elements: int

    def __len__(self) -> int:
        return len(self.value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.value.numpy().astype(dtype or np.float64)

    def __repr__(self) -> str:
        return paragraph(str(self))

    def __str__(self) -> str:
        return (
            f"log p = {self.mean:.4g} ± {self.mean_se:.2g} nats over {len(self)} samples, "
            f"smoothed by sigma_min {self.sigma_min:g}; {self.divergence}; prior {self.prior}; "
            f"{self.evaluations} evaluations, {self.seconds:.1f} s"
        )

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold."""
        apart = ("value", "se", "cost")
        return {
            "mean": self.mean,
            "mean_se": None if len(self) < 2 else self.mean_se,
            "count": len(self),
            **{name: value for name, value in vars(self).items() if name not in apart},
            "cost": self.cost.to_dict(),
            "values": self.value.tolist(),
            "se": self.se.tolist(),
        }


def ranks(values: Tensor, reference: Tensor) -> Tensor:
    """Where log densities stand among those of reference samples.

    Args:
        values: (B,) log densities.
        reference: (R,) log densities of the reference, R at least 1.

    Returns:
        (B,) float64 in [0, 1]: the fraction of the reference with a lower value, equal values
        counted half. 0 is less likely than every reference sample. For values from the reference's
        own law the ranks are uniform.

    Raises:
        InputError: The reference is empty.
    """
    if len(reference) == 0:
        raise InputError("ranks need at least one reference value; got none")
    ordered = reference.to(torch.float64).sort().values
    values = values.to(torch.float64)
    below = torch.searchsorted(ordered, values, right=False)
    through = torch.searchsorted(ordered, values, right=True)
    return (below + through).to(torch.float64) / (2 * len(ordered))


@dataclass(frozen=True)
class BitsPerDim(Values):
    """Bits per dimension of quantised data, an upper bound.

    Args:
        value: (B,).
        se: (B,) Hutchinson's standard error.
        levels: Number of values that an element of the data can have.
        dequantisation: A description of how continuous data were made.
    """

    se: Tensor
    levels: int
    dequantisation: str = (
        "uniform: data are (v + u) / levels, u ~ U(0, 1), one draw; the bound of Theis et al. 2016"
    )

    def __repr__(self) -> str:
        return paragraph(
            f"{self.mean:.4g} ± {self.mean_se:.2g} bits per dimension over {len(self.value):,} "
            f"samples of {self.levels:,} levels, an upper bound; dequantisation "
            f"{self.dequantisation}"
        )

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold."""
        return {
            "mean": self.mean,
            "mean_se": self.mean_se if len(self.value) > 1 else None,
            "levels": self.levels,
            "dequantisation": self.dequantisation,
        }


def bits_per_dim(model: ScoreModel, log_p: LogProb) -> BitsPerDim:
    """Bits per dimension log2(levels) - log p / (d ln 2) of quantised data.

    A bin of (v + u) / levels has width 1 / levels in each of d dimensions, so the model gives the
    stored values v the probability P(v) = levels^-d E_u p, and by Jensen's inequality
    -log P(v) <= d log levels - E_u log p (Theis, van den Oord & Bethge 2016, Eq. 3).

    Args:
        model: The model; its units hold the data's quantisation.
        log_p: `log_prob` of data dequantised uniformly, (v + u) / levels in data units.

    Returns:
        The bound for each sample.

    Raises:
        InputError: Where the model's units declare no quantisation (bits of continuous data depend
            on the unit), or training did not dequantise.
    """
    quantisation = model.units.quantisation
    if quantisation is None:
        raise InputError(
            "bits per dimension need quantised data, and the units of this model declare no "
            "quantisation. Use nats, the mean of log_prob"
        )
    if not quantisation.dequantised:
        raise InputError(
            "bits per dimension need a model of uniformly dequantised data, and this one was "
            "trained with dequantise=none: its density of isolated values has no bound. Train "
            "with data.dequantise=uniform"
        )
    levels, per_dim = quantisation.levels, log_p.elements * math.log(2)
    return BitsPerDim(math.log2(levels) - log_p.value / per_dim, log_p.se / per_dim, levels)
