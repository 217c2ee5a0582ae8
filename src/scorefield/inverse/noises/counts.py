"""Counts: Poisson noise, with or without the noise of reading."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InputError
from ...values import finite
from .base import Elementwise

# Expected counts below which a likelihood of counts goes on as a tangent or a parabola: at zero it
# is zero for any count, and estimates of a dark element may lie below zero.
DARK = 0.1
WINDOW = 8.0  # standard deviations of the sum over counts
WIDEST_READ = 10.0  # counts; wider reading noise takes the normal approximation of the sum


@dataclass(frozen=True)
class PoissonNoise(Elementwise):
    """Counts y ~ Poisson(gain m), whole numbers from 0.

    Args:
        gain: Counts for one unit of m = A(x).

    Raises:
        InputError: For a gain that is not above zero.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "gain", finite(self.gain, "gain", 0.0, above=True))

    def elements(self, y: Tensor, mean: Tensor) -> Tensor:
        """y log(gain m) - gain m; below 0.1 counts, the parabola of the same slope there."""
        expected = self.gain * mean
        bright = expected.clamp(min=DARK)
        below = (expected - DARK).clamp(max=0.0)
        slope = y / DARK - 1
        return y * bright.log() - bright + below * slope - below.square() / (2 * DARK)

    def information(self, mean: Tensor) -> Tensor:
        """gain / m, where m is above 0.1 counts."""
        return self.gain**2 / (self.gain * mean).clamp(min=DARK)

    def simulate(self, mean: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        """Counts by inversion of the distribution function; see `Noise.simulate`."""
        return _poisson((self.gain * mean).clamp(min=0.0), uniform)

    def check(self, y: Tensor) -> None:
        """Refuse what are no counts."""
        seen = y[~torch.isnan(y)]
        if bool((seen < 0).any()) or bool((seen != seen.round()).any()):
            raise InputError(
                "an observation with Poisson noise holds counts, whole numbers from 0; got values "
                f"from {float(seen.min()):g} to {float(seen.max()):g}. Counts that were divided by "
                "a gain must be multiplied by it again (PoissonNoise(gain))"
            )


def _poisson(expected: Tensor, uniform: Tensor) -> Tensor:
    """Poisson draws by inversion: the least k with P(N <= k) >= u, found by bisection."""
    wide, u = expected.to(torch.float64), uniform.to(torch.float64)
    low = torch.full_like(wide, -1.0)
    high = (wide + 12 * wide.sqrt() + 40).ceil()
    for _ in range(64):
        if not bool((high - low > 1).any()):
            break
        middle = ((low + high) / 2).floor()
        # P(N <= k) is the upper incomplete gamma function Q(k + 1, lambda).
        below = torch.special.gammaincc(middle.clamp(min=0) + 1, wide.clamp(min=1e-300)) < u
        below = below | (middle < 0)
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return torch.where(wide > 0, high, 0.0).to(expected.dtype)


@dataclass(frozen=True)
class PoissonGaussianNoise(Elementwise):
    """y = N + read_std n with counts N ~ Poisson(gain m) and n ~ N(0, 1).

    The likelihood is the sum over N within eight standard deviations of its largest term, exact to
    1e-13; below 0.1 counts it goes on as a parabola. Where read_std is above 10 counts it is that
    of N(gain m, gain m + read_std²).

    Args:
        gain: Counts for one unit of m.
        read_std: The standard deviation of the reading noise, in counts.

    Raises:
        InputError: For numbers that are not above zero.
    """

    gain: float = 1.0
    read_std: float = 1.0

    def __post_init__(self) -> None:
        for name in ("gain", "read_std"):
            object.__setattr__(self, name, finite(getattr(self, name), name, 0.0, above=True))

    def elements(self, y: Tensor, mean: Tensor) -> Tensor:
        """log p(y | m); see the class."""
        if self.read_std > WIDEST_READ:
            variance = (self.gain * mean).clamp(min=0.0) + self.read_std**2
            return -((y - self.gain * mean).square() / variance + variance.log()) / 2
        expected = (self.gain * mean).clamp(min=DARK)
        middle, spread = self._largest(y, expected.detach())
        reach = math.ceil(WINDOW * float(spread.max())) + 1
        steps = torch.arange(-reach, reach + 1, device=y.device, dtype=y.dtype)
        count = middle.round()[..., None] + steps
        inside = count >= 0
        count = count.clamp(min=0)
        log_count = (
            count * expected[..., None].log() - expected[..., None] - torch.lgamma(count + 1)
        )
        log_read = -((y[..., None] - count) / self.read_std).square() / 2
        terms = torch.where(inside, log_count + log_read, -math.inf)
        slope = (terms.detach().softmax(-1) * count).sum(-1) / DARK - 1
        below = (self.gain * mean - DARK).clamp(max=0.0)
        return terms.logsumexp(-1) + below * slope - below.square() / (2 * self.read_std**2)

    def _largest(self, y: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
        """The count k of the largest term and the standard deviation of the terms about it.

        k solves (k - y)/s² + ln k = ln lambda; with w = k/s² this is w + ln w = c.
        """
        s2 = self.read_std**2
        c = (expected / s2).log() + y / s2
        w = torch.where(c > 1, c, c.clamp(max=1).exp()).clamp(min=1e-12)
        for _ in range(6):
            w = (w * (1 + c - w.log()) / (1 + w)).clamp(min=1e-12)
        count = w * s2
        return count, (1 / (1 / s2 + 1 / count.clamp(min=0.5))).sqrt()

    def information(self, mean: Tensor) -> Tensor:
        """gain² / (gain m + read_std²), that of the normal approximation."""
        return self.gain**2 / ((self.gain * mean).clamp(min=0.0) + self.read_std**2)

    def simulate(self, mean: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        """Counts and normals; see `Noise.simulate`."""
        return _poisson((self.gain * mean).clamp(min=0.0), uniform) + self.read_std * normal[0]
