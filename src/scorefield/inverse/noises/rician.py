"""Rician noise: magnitudes of complex signals."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ...errors import InputError
from ...values import finite
from .base import Elementwise

LEAST_INFORMATION = 1e-6  # of a Rician in units of 1/std²: at m = 0 its information vanishes


@lru_cache(maxsize=1)
def _rician_information() -> tuple[Tensor, Tensor]:
    """Information over m² of a Rician of std 1 on a grid of m, by quadrature over y.

    The ratio tends to 1 at m = 0, where the information itself vanishes: interpolated linearly it
    is good to 1e-3. Beyond the grid the information is 1.
    """
    m = torch.linspace(0, 8, 161, dtype=torch.float64)
    y = torch.linspace(0, 20, 20001, dtype=torch.float64)[1:]
    z = m[:, None] * y
    log_p = y.log() - (y - m[:, None]).square() / 2 + torch.special.i0e(z).log()
    slope = y * torch.special.i1e(z) / torch.special.i0e(z) - m[:, None]
    found = (log_p.exp() * slope.square()).sum(1) * float(y[1] - y[0])
    return m, torch.where(m > 0, found / m.clamp(min=1e-9).square(), 1.0)


@dataclass(frozen=True)
class RicianNoise(Elementwise):
    """y = |m + std n_1 + i std n_2|, the magnitude of a complex signal with Gaussian noise.

    Args:
        std: The standard deviation of the real and the imaginary part.

    Raises:
        InputError: For a deviation that is not above zero.
    """

    std: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", finite(self.std, "std", 0.0, above=True))

    def elements(self, y: Tensor, mean: Tensor) -> Tensor:
        """-(|m| - y)²/(2 std²) + log(I_0(z) exp(-z)) with z = y |m| / std²."""
        m = mean.abs() / self.std
        z = y / self.std * m
        return -(m - y / self.std).square() / 2 + torch.special.i0e(z).log()

    def information(self, mean: Tensor) -> Tensor:
        """By quadrature over y, at least 1e-6 / std²."""
        grid, values = (part.to(mean.device) for part in _rician_information())
        m = (mean.abs() / self.std).to(torch.float64).contiguous()
        place = torch.searchsorted(grid, m).clamp(1, len(grid) - 1)
        low, high = grid[place - 1], grid[place]
        share = ((m - low) / (high - low)).clamp(0, 1)
        ratio = values[place - 1] + share * (values[place] - values[place - 1])
        found = ratio * m.clamp(max=float(grid[-1])).square()
        return (found.clamp(min=LEAST_INFORMATION) / self.std**2).to(mean.dtype)

    def simulate(self, mean: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        """The magnitude; see `Noise.simulate`."""
        return torch.hypot(mean + self.std * normal[0], self.std * normal[1])

    def check(self, y: Tensor) -> None:
        """Refuse negative magnitudes."""
        seen = y[~torch.isnan(y)]
        if bool((seen < 0).any()):
            raise InputError(
                f"an observation with Rician noise is a magnitude, 0 or more; got "
                f"{float(seen.min()):g}"
            )
