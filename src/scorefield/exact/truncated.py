"""Independent normal densities cut to intervals, in closed form; without a normal: the uniform.

Per element, with mean m, variance v (infinite: uniform; zero: the point m) and ends lo, hi:

    p      = N(x0; m, v) / Z on [lo, hi]
    v'     = 1 / (1/v + 1/sigma²),   m' = v' (m/v + x/sigma²)
    p_sigma = N(x; m, v + sigma²) Z' / Z
    D      = m' + sqrt(v') (phi(a) - phi(b)) / Z',   a, b = (lo - m')/sqrt(v'), (hi - m')/sqrt(v')
    score  = (m - x) / (v + sigma²) + (phi(a) - phi(b)) / Z' sqrt(v') / sigma²

phi is the standard normal density and Z, Z' the normal probabilities of [lo, hi] for (m, v) and
(m', v'). Far outside the box the ratios are taken with the scaled function erfcx, so that nothing
under- or overflows and no digits cancel; in log p_sigma the exponents are taken at the point of the
box nearest to each mean, where they cancel exactly:

    log p_sigma = log zeta' - log zeta - ((t' - x)²/sigma² + ((t' - m)² - (t - m)²)/v) / 2
                  - log(2 pi (v + sigma²)) / 2
    zeta = Z exp((t - m)²/(2 v)),   t the point of [lo, hi] nearest to m; zeta', t' with m', v'
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import rng
from ..conditions import Condition
from ..errors import InputError
from ..models import Moments, ScoreModel
from ..tensors import float64, reals
from ..values import whole
from .common import (
    LOG_2PI,
    SAMPLING,
    SIGMA_TINY,
    default_range,
    draw_keys,
    keyed,
    noise_levels,
)
from .linear import AGREES, Elements, Observation, as_linear_gaussian

ROOT = math.sqrt(2)
ROOT_2PI = math.sqrt(2 * math.pi)
NARROW = 1.0  # of width (1 + |end|) in standard deviations, below which sums replace differences
NEWTON = 12  # steps of the inverse distribution function in the tails; 6 give all digits
DEEPEST = 700.0  # nats: no draw lies further down a tail
DEPTH = 40.0  # nats below the peak at which integrals for the moments end


def _truncated(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """(phi(low) - phi(high)) / Z and log zeta, Z = Phi(high) - Phi(low), for low + high <= 0.

    zeta = Z exp(min(high, 0)²/2). Below the mean of the normal, Phi(h) = exp(-h²/2)
    erfcx(-h/sqrt 2) / 2: exp(-high²/2) cancels from the fraction, and in its place stands
    exp((high² - low²)/2) <= 1.
    """
    h, l = high.clamp(max=0), low.clamp(max=0)
    decay = ((h - l) * (h + l) / 2).exp()
    bracket = torch.special.erfcx(-h / ROOT) / 2 - decay * torch.special.erfcx(-l / ROOT) / 2
    inside = high > 0  # then low < 0 < high and nothing cancels
    narrow = (high - low) * (1 - h) < NARROW
    bracket = torch.where(inside | narrow, 1.0, bracket)
    tail = (decay - 1) / ROOT_2PI / bracket

    z = torch.special.ndtr(high) - torch.special.ndtr(low)
    z = torch.where(inside & ~narrow, z, 1.0)
    between = ((-low.square() / 2).exp() - (-high.square() / 2).exp()) / ROOT_2PI / z
    ratio = torch.where(inside, between, tail)
    log_zeta = torch.where(inside, z.log(), bracket.log())
    if bool(narrow.any()):
        thin = _narrow(torch.where(narrow, low, -1.0), torch.where(narrow, high, 0.0))
        ratio = torch.where(narrow, thin[0], ratio)
        log_zeta = torch.where(narrow, thin[1], log_zeta)
    return ratio, log_zeta


def _narrow(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The result of `_truncated` for an interval so narrow that differences would cancel.

    Eight Gauss-Legendre nodes integrate exp(-t²/2), whose exponent changes by less than two.
    """
    middle, half, top = (low + high) / 2, (high - low) / 2, high.clamp(max=0)
    total, first = torch.zeros_like(low), torch.zeros_like(low)
    for node, weight in zip(*np.polynomial.legendre.leggauss(8), strict=True):
        t = middle + half * float(node)
        density = float(weight) * (-(t - top) * (t + top) / 2).exp()
        total, first = total + density, first + density * float(node)
    return middle + half * first / total, (half * total).log() - LOG_2PI / 2


class TruncatedNormal(ScoreModel):
    """Independent elements: a normal density, cut to an interval and normalised.

        p = TruncatedNormal([0.0, 0.0], [1.0, 1.0], mean=[0.2, 0.0], variance=[0.01, math.inf])

    Args:
        low: (*event), the lower ends.
        high: (*event), the upper ends, each above its lower end.
        mean: (*event) or one number, the mean of the normal before it is cut. It may lie outside.
        variance: (*event) or one number, the variance before the cut. Infinity is the uniform
            density; 0 is the point `mean`, which then has to lie within the ends.

    Raises:
        InputError: For shapes that do not fit together, ends that do not rise, a negative variance,
            or a point outside its interval.
    """

    has_log_density = True
    has_posterior = True
    sampling_defaults = SAMPLING
    low: Tensor  # (d,)
    high: Tensor  # (d,)
    mean: Tensor  # (d,), the nearest end or 0 where the density is uniform
    variance: Tensor  # (d,)
    log_constant: Tensor  # (d,), log zeta, or log(high - low) where the density is uniform

    def __init__(
        self,
        low: Tensor | Sequence[Any],
        high: Tensor | Sequence[Any],
        mean: Tensor | Sequence[Any] | float = 0.0,
        variance: Tensor | Sequence[Any] | float = math.inf,
    ) -> None:
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
        centre, spread = float64(mean, "mean"), reals(variance, "variance", torch.float64)
        for name, value in (("mean", centre), ("variance", spread)):
            if value.shape not in ((), self.event_shape):
                raise InputError(
                    f"{name} must be one number or {self.event_shape}, the shape of low; got "
                    f"{tuple(value.shape)}"
                )
        if not bool((spread >= 0).all()):
            raise InputError("variance must be zero or more in every element; inf is uniform")
        self.register_buffer("low", ends[0].flatten())
        self.register_buffer("high", ends[1].flatten().to(self.low.device))
        self.register_buffer("mean", centre.to(self.low).expand(self.event_shape).reshape(-1))
        self.register_buffer("variance", spread.to(self.low).expand(self.event_shape).reshape(-1))
        outside = (self.variance == 0) & ((self.mean < self.low) | (self.mean > self.high))
        if bool(outside.any()):
            k = int(outside.nonzero()[0])
            raise InputError(
                f"a mean of variance 0 must lie within low and high; element {k} is "
                f"{float(self.mean[k]):g} and has the interval [{float(self.low[k]):g}, "
                f"{float(self.high[k]):g}]"
            )
        constant = (self.high - self.low).log()
        cut = (self.variance > 0) & (self.variance < math.inf)
        root = torch.where(cut, self.variance, 1.0).sqrt()
        log_zeta = self._cut(torch.where(cut, self.mean, self.low), root)[1]
        self.register_buffer("log_constant", torch.where(cut, log_zeta, constant))
        self.sigma_min, self.sigma_max = SIGMA_TINY, math.inf

    def summary(self) -> str:
        low, high = (f"{float(v):.4g}" for v in (self.low.min(), self.high.max()))
        points = int((self.variance == 0).sum())
        exact = f", {points:,} elements exact" if points else ""
        return f"TruncatedNormal, independent normal densities cut to [{low}, {high}]{exact}"

    def _cut(self, mean: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
        """(phi(a) - phi(b)) / Z and log zeta of N(mean, root²) on [low, high]."""
        a, b = (self.low - mean) / root, (self.high - mean) / root
        # Mirror so that the middle of the box lies at or below the mean: Phi is accurate there.
        mirrored = a + b > 0
        low, high = torch.where(mirrored, -b, a), torch.where(mirrored, -a, b)
        ratio, log_zeta = _truncated(low, high)
        return torch.where(mirrored, -ratio, ratio), log_zeta

    def _smoothed(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """D, the score and log p_sigma of every element; x and the results (B, d).

        `level` broadcasts against x.
        """
        m, v, square = self.mean, self.variance, level.square()
        point, uniform = v == 0, v == math.inf
        root = level / (1 + square / v).sqrt()  # of v'; level where v is infinite
        root = torch.where(point, 1.0, root)
        pull = square / (v + square)  # 0 where v is infinite
        centre = torch.where(point, m, x + pull * (m - x))
        ratio, log_zeta = self._cut(centre, root)
        denoised = torch.where(point, m, centre + root * ratio)
        # Rounding may leave the box by an ulp; the mean cannot.
        denoised = torch.minimum(torch.maximum(denoised, self.low), self.high)
        score = (m - x) / (v + square) + torch.where(point, 0.0, root / square * ratio)

        near = torch.minimum(torch.maximum(centre, self.low), self.high)
        first = torch.minimum(torch.maximum(m, self.low), self.high)
        finite = torch.where(point | uniform, 1.0, v)
        bend = torch.where(uniform, 0.0, (near - first) * (near + first - 2 * m) / finite)
        spread = torch.where(uniform, 1 / (2 * math.pi), v + square)
        cut = log_zeta - self.log_constant - ((near - x).square() / square + bend) / 2
        whole_normal = -(m - x).square() / square / 2
        nats = torch.where(point, whole_normal, cut) - (spread.log() + LOG_2PI) / 2
        return denoised, score, nats

    def _evaluate(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None, density: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The results of `_smoothed` for the arguments of a score model."""
        level = self.check(x, sigma, condition, density).to(x.device, torch.float64)
        return self._smoothed(x.to(torch.float64).flatten(1), level.reshape(-1, 1))

    def denoise(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """E[x0 | x], the mean of a truncated normal; arguments as for any score model."""
        return self._evaluate(x, sigma, condition)[0].reshape(x.shape).to(x.dtype)

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        """grad log p_sigma(x); arguments as for any score model."""
        return self._evaluate(x, sigma, condition)[1].reshape(x.shape).to(x.dtype)

    def log_prob(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """log p_sigma(x) (B,), normalised, in nats; the arguments are those of `denoise`."""
        return self._evaluate(x, sigma, condition, density=True)[2].sum(1).to(x.dtype)

    def log_density(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """The same as `log_prob`: the method of `ScoreModel` that samplers call."""
        return self.log_prob(x, sigma, condition)

    def sample(self, count: int, sigma: Tensor | float = 0.0, seed: int = 0) -> Tensor:
        """Independent draws of p_sigma, by the inverse distribution function.

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
        x = self._quantile(keyed(rng.uniform, keys, 0, shape))
        return (x + noise * keyed(rng.normal, keys, 1, shape)).reshape(count, *self.event_shape)

    def _quantile(self, u: Tensor) -> Tensor:
        """The inverse distribution function of every element; u (B, d) in [0, 1)."""
        point, uniform = self.variance == 0, self.variance == math.inf
        x = self.low + (self.high - self.low) * u
        if bool(uniform.all()):
            return x
        root = torch.where(point | uniform, 1.0, self.variance).sqrt()
        a, b = (self.low - self.mean) / root, (self.high - self.mean) / root
        below, above = torch.special.ndtr(a), torch.special.ndtr(b)
        inside = self.mean + root * torch.special.ndtri(below + u * (above - below))
        # From the end nearer to the mean: a distance of s, with density ~ exp(-g s - s²/2).
        upwards = a > 0
        g = torch.where(upwards, a, -b).clamp(min=0)
        s = root * _tail(torch.where(upwards, u, 1 - u), g, b - a)
        tail = torch.where(upwards, self.low + s, self.high - s)
        normal = torch.where((a > 0) | (b < 0), tail, inside)
        normal = torch.minimum(torch.maximum(normal, self.low), self.high)
        return torch.where(uniform, x, torch.where(point, self.mean, normal))

    def moments(self, condition: Condition | None = None) -> Moments:
        """Mean and variance of every element, by quadrature; the elements are independent."""
        first = torch.minimum(torch.maximum(self.mean, self.low), self.high)
        cut = (self.variance > 0) & (self.variance < math.inf)
        v = torch.where(cut, self.variance, 1.0)
        gap = (first - self.mean).abs()
        # Where the exponent falls by `DEPTH`, beyond which nothing is left.
        reach = 2 * DEPTH * v / (gap + (gap.square() + 2 * DEPTH * v).sqrt())
        low, high = torch.maximum(self.low, first - reach), torch.minimum(self.high, first + reach)
        nodes, weights = (
            torch.as_tensor(part).to(self.low) for part in np.polynomial.legendre.leggauss(100)
        )
        t = (low - first)[:, None] + (high - low)[:, None] * (nodes + 1) / 2  # from `first`
        slope = (first - self.mean)[:, None]
        density = weights * (-t * (t / 2 + slope) / v[:, None]).exp()
        total = density.sum(1)
        shift = (density * t).sum(1) / total
        variance = (density * (t - shift[:, None]).square()).sum(1) / total
        point, uniform = self.variance == 0, self.variance == math.inf
        middle, width = (self.low + self.high) / 2, self.high - self.low
        mean = torch.where(uniform, middle, torch.where(point, self.mean, first + shift))
        variance = torch.where(uniform, width.square() / 12, torch.where(point, 0.0, variance))
        shape = self.event_shape
        return Moments(mean.reshape(shape).cpu(), variance.reshape(shape).cpu())

    def sampling_range(self) -> tuple[float, float]:
        """A range from the narrowest element that is no point to well beyond the widest."""
        deviations = self.moments().variance.sqrt()
        widest = float(deviations.max())
        smallest = float(deviations[deviations > 0].min()) if widest > 0 else 0.0
        return default_range(smallest, widest)

    def posterior(self, observation: Observation) -> "TruncatedNormal":
        """The density given y = A x + n: truncated normals again, where A acts element by element.

        Args:
            observation: A `LinearGaussian`, or an object that has `linear_gaussian`. Each row of
                its matrix has at most one element that is not zero, and its noise is independent.
                It observes x in model units; `units` are not applied.

        Returns:
            Truncated normals with v' = 1/(1/v + 1/n), and the same density where nothing was
            observed. Elements observed without noise are points.

        Raises:
            InputError: For an observation that couples elements, one of other examples, or an exact
                one that lies outside the box.
        """
        y = self._elements(observation)
        v, noise = self.variance, y.variance
        variance = torch.where(y.seen, 1 / (1 / v + 1 / noise), v)
        new = (v == math.inf) & y.seen
        total = torch.where(y.seen & ~new & (v + noise > 0), v + noise, math.inf)
        share = torch.where(new, 1.0, torch.where(v == math.inf, 0.0, v) / total)
        mean = self.mean + share * (y.value - self.mean)
        mean = torch.where(
            variance == 0, torch.minimum(torch.maximum(mean, self.low), self.high), mean
        )
        shape = self.event_shape
        ends = self.low.reshape(shape), self.high.reshape(shape)
        return TruncatedNormal(*ends, mean.reshape(shape), variance.reshape(shape))

    def log_evidence(self, observation: Observation) -> float:
        """log p(y) in nats, y as for `posterior`: log p_sigma(y) with the noise for sigma.

        Raises:
            InputError: As for `posterior`.
        """
        y = self._elements(observation)
        noisy = y.seen & (y.variance > 0)
        level = torch.where(noisy, y.variance, 1.0).sqrt()
        nats = torch.where(noisy, self._smoothed(y.value[None], level)[2][0], 0.0)
        # Exact elements: the density itself, and the mass 1 of a point.
        cut = (self.variance > 0) & (self.variance < math.inf)
        v = torch.where(cut, self.variance, 1.0)
        first = torch.minimum(torch.maximum(self.mean, self.low), self.high)
        bend = (y.value - first) * (y.value + first - 2 * self.mean) / v
        density = torch.where(cut, -(bend + v.log() + LOG_2PI) / 2, 0.0) - self.log_constant
        exact = (y.variance == 0) & (self.variance > 0)
        nats = nats + torch.where(exact, density - y.log_scale, 0.0)
        return float(nats.sum()) + y.log_constant

    def _elements(self, observation: Observation) -> Elements:
        """An observation element by element, which the density can give."""
        y = as_linear_gaussian(observation, self.event_shape, self.low.device)
        found = y.by_element()
        if found is None:
            raise InputError(
                f"the posterior of a {type(self).__name__} has a closed form only where each "
                "observed number sees one element and has noise of its own: its elements are "
                "independent, and this observation couples them. Use a GaussianMixture for the "
                "prior, or restore with another method than 'exact'"
            )
        point = self.variance == 0
        low, high = (torch.where(point, self.mean, end) for end in (self.low, self.high))
        slack = AGREES * torch.where(point, self.mean.abs() + found.value.abs(), high - low)
        outside = (found.value < low - slack) | (found.value > high + slack)
        outside &= found.variance == 0
        if bool(outside.any()):
            k = int(outside.nonzero()[0])
            raise InputError(
                f"the observation is impossible: element {k} is observed without noise as "
                f"{float(found.value[k]):g} and lies in [{float(low[k]):g}, {float(high[k]):g}]. "
                "Give the variance of its noise as covariance"
            )
        return found


def _tail(u: Tensor, gap: Tensor, width: Tensor) -> Tensor:
    """Quantiles of the density ~ exp(-gap s - s²/2) on [0, width], gap >= 0, by Newton's method.

    The log survival function L(s) = -(gap s + s²/2) + log(erfcx((gap + s)/sqrt 2) / erfcx(gap/sqrt
    2)) is concave, and the start lies beyond the root, so that the steps only shrink.
    """
    scale = torch.special.erfcx(gap / ROOT)

    def depth(s: Tensor) -> tuple[Tensor, Tensor]:
        """-L(s) and its slope, the hazard."""
        rest = torch.special.erfcx((gap + s) / ROOT)
        return s * (gap + s / 2) - (rest / scale).log(), math.sqrt(2 / math.pi) / rest

    beyond = -depth(width)[0]
    goal = -torch.log1p(u * torch.expm1(beyond)).clamp(min=-DEEPEST)
    start = goal / depth(torch.zeros_like(gap))[1]
    s = torch.minimum(start, 2 * goal / (gap + (gap.square() + 2 * goal).sqrt()).clamp(min=1e-300))
    for _ in range(NEWTON):
        value, slope = depth(s)
        s = (s - (value - goal) / slope).clamp(min=0)
    return torch.minimum(s, width)
