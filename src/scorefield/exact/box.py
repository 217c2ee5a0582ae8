"""The uniform density on a box: its score, density and posterior mean in closed form.

Elements are independent. Let a = (low - x)/sigma, b = (high - x)/sigma, phi the standard normal
density and Phi its distribution function. An element of x0 given x is a normal N(x, sigma²)
truncated to [low, high], so that per element

    Z           = Phi(b) - Phi(a)
    log p_sigma = log Z - log(high - low)
    D           = x + sigma (phi(a) - phi(b)) / Z
    score       = (phi(a) - phi(b)) / (sigma Z)

Far outside the box the ratios are taken with the scaled function erfcx, so that nothing under- or
overflows and no digits cancel.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..conditions import Condition
from ..errors import InputError
from ..models import Moments, ScoreModel
from ..tensors import float64
from ..values import whole
from .common import (
    SAMPLING,
    SIGMA_TINY,
    default_range,
    draw_keys,
    keyed,
    noise_levels,
)


def _truncated(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """(phi(low) - phi(high)) / Z and log Z, Z = Phi(high) - Phi(low), for low + high <= 0.

    Below the mean of the normal, Phi(h) = exp(-h²/2) erfcx(-h/sqrt 2) / 2: exp(-high²/2) cancels
    from the fraction, and in its place stands exp((high² - low²)/2) <= 1.
    """
    root = math.sqrt(2)
    h, l = high.clamp(max=0), low.clamp(max=0)
    decay = ((h - l) * (h + l) / 2).exp()
    bracket = torch.special.erfcx(-h / root) / 2 - decay * torch.special.erfcx(-l / root) / 2
    tail = (decay - 1) / math.sqrt(2 * math.pi) / bracket
    tail_log = bracket.log() - h.square() / 2

    inside = high > 0  # then low < 0 < high and nothing cancels
    z = torch.special.ndtr(high) - torch.special.ndtr(low)
    z = torch.where(inside, z, 1.0)
    between = ((-low.square() / 2).exp() - (-high.square() / 2).exp()) / math.sqrt(2 * math.pi) / z
    return torch.where(inside, between, tail), torch.where(inside, z.log(), tail_log)


class Box(ScoreModel):
    """The uniform density on a box.

        p = Box([0.0, 0.0], [1.0, 2.0])

    Args:
        low: (*event), the lower ends.
        high: (*event), the upper ends, each above its lower end.

    Raises:
        InputError: For ends of different shapes, or that do not rise.
    """

    has_log_density = True
    sampling_defaults = SAMPLING
    low: Tensor  # (d,)
    high: Tensor  # (d,)

    def __init__(self, low: Tensor | Sequence[Any], high: Tensor | Sequence[Any]) -> None:
        super().__init__()
        ends = float64(low, "low"), float64(high, "high")
        if ends[0].ndim == 0 or ends[0].shape != ends[1].shape or ends[0].numel() == 0:
            raise InputError(
                "low and high must have the shape of an example, at least one dimension each; got "
                f"{tuple(ends[0].shape)} and {tuple(ends[1].shape)}"
            )
        if not bool((ends[0] < ends[1]).all()):
            raise InputError("every element of low must lie below that of high")
        self.event_shape = tuple(ends[0].shape)
        self.register_buffer("low", ends[0].flatten())
        self.register_buffer("high", ends[1].flatten())
        self.sigma_min, self.sigma_max = SIGMA_TINY, math.inf

    def summary(self) -> str:
        low, high = (f"{float(v):.4g}" for v in (self.low.min(), self.high.max()))
        return f"Box, the uniform density of a box within [{low}, {high}] in every element"

    def _parts(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None, density: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(phi(a) - phi(b)) / Z and log Z, (B, d), and sigma (1 or B, 1): float64."""
        level = self.check(x, sigma, condition, density).to(x.device, torch.float64)
        level = level.reshape(-1, 1)
        flat = x.to(torch.float64).flatten(1)
        a, b = (self.low - flat) / level, (self.high - flat) / level
        # Mirror so that the middle of the box lies at or below x: Phi is accurate there.
        mirrored = a + b > 0
        low, high = torch.where(mirrored, -b, a), torch.where(mirrored, -a, b)
        fraction, log_z = _truncated(low, high)
        return torch.where(mirrored, -fraction, fraction), log_z, level

    def denoise(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """E[x0 | x], the mean of a truncated normal; arguments as for any score model."""
        ratio, _, level = self._parts(x, sigma, condition)
        denoised = x.to(torch.float64).flatten(1) + level * ratio
        # Rounding may leave the box by an ulp; the mean cannot.
        denoised = torch.minimum(torch.maximum(denoised, self.low), self.high)
        return denoised.reshape(x.shape).to(x.dtype)

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        """grad log p_sigma(x); arguments as for any score model."""
        ratio, _, level = self._parts(x, sigma, condition)
        return (ratio / level).reshape(x.shape).to(x.dtype)

    def log_prob(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """log p_sigma(x) (B,), normalised, in nats; the arguments are those of `denoise`."""
        _, log_z, _ = self._parts(x, sigma, condition, density=True)
        return (log_z - (self.high - self.low).log()).sum(1).to(x.dtype)

    def log_density(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """The same as `log_prob`: the method of `ScoreModel` that samplers call."""
        return self.log_prob(x, sigma, condition)

    def sample(self, count: int, sigma: Tensor | float = 0.0, seed: int = 0) -> Tensor:
        """Independent draws of p_sigma.

        Args:
            count: Number of draws.
            sigma: () or (count,), 0 or more.
            seed: A whole number; draw k is a function of (seed, k).

        Returns:
            float64 (count, *event).
        """
        count = whole(count, "count", 0)
        noise = noise_levels(sigma, count).to(self.low.device)
        keys, shape = draw_keys(seed, count, self.low.device), tuple(self.low.shape)
        x = self.low + (self.high - self.low) * keyed(rng.uniform, keys, 0, shape)
        return (x + noise * keyed(rng.normal, keys, 1, shape)).reshape(count, *self.event_shape)

    def moments(self, condition: Condition | None = None) -> Moments:
        """The middle of the box and width²/12 per element, independent elements."""
        mean = ((self.low + self.high) / 2).reshape(self.event_shape).cpu()
        variance = ((self.high - self.low).square() / 12).reshape(self.event_shape).cpu()
        return Moments(mean, variance)

    def sampling_range(self) -> tuple[float, float]:
        """A range from the narrowest side to well beyond the widest."""
        width = (self.high - self.low) / math.sqrt(12)
        return default_range(float(width.min()), float(width.max()))
