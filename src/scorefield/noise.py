"""Noise levels: ladders for sampling, and distributions of sigma for training.

A ladder is a float64 tensor of noise levels sigma_1 > ... > sigma_L > 0, largest first, without
zero. With t = (i - 1) / (L - 1),

    geometric   sigma_i = sigma_1 (sigma_L / sigma_1)^t                   Song and Ermon 2019
    karras      sigma_i = ((1 - t) sigma_1^(1/rho) + t sigma_L^(1/rho))^rho
                                                                          Karras et al. 2022, Eq. 5
    few-step    density of ln sigma ~ (u [arctan(1/u) - u / (1 + u²)])^(1/4), u = sigma / data_std
                                                                          see `few_step`

A distribution maps uniform numbers to sigma through its quantile function, so that stratified
uniform numbers give stratified sigmas.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import InputError
from .tensors import reals
from .values import finite, number, whole


def check_ladder(sigmas: Tensor | Iterable[float]) -> Tensor:
    """Check a ladder of noise levels.

    Args:
        sigmas: One row of sigmas, largest first: a list, a generator, an array or a tensor.

    Returns:
        float64 (L,) on the CPU.

    Raises:
        InputError: If there is none, or if they are not finite, above zero and decreasing.
    """
    ladder = reals(sigmas, "the ladder", torch.float64).cpu()
    if ladder.ndim != 1 or len(ladder) == 0:
        raise InputError(
            f"a ladder is one row of at least one sigma; got shape {tuple(ladder.shape)}"
        )
    if not bool(torch.isfinite(ladder).all()) or not bool((ladder > 0).all()):
        bad = int((~torch.isfinite(ladder) | (ladder <= 0)).nonzero()[0])
        raise InputError(
            "sigmas must be finite and above zero (zero is never in a ladder); got "
            f"sigmas[{bad}]={float(ladder[bad]):g}"
        )
    rising = (ladder[1:] >= ladder[:-1]).nonzero()
    if len(rising):
        i = int(rising[0])
        hint = (
            " Ascending? use sigmas.flip(0)"
            if len(rising) == len(ladder) - 1 and bool((ladder[1:] > ladder[:-1]).all())
            else ""
        )
        raise InputError(
            f"sigmas must decrease; got sigmas[{i}]={float(ladder[i]):g} <= "
            f"sigmas[{i + 1}]={float(ladder[i + 1]):g}.{hint}"
        )
    return ladder


def _ends(sigma_max: Any, sigma_min: Any, levels: Any) -> tuple[float, float, int]:
    """The arguments of a ladder as Python numbers, checked."""
    sigma_max, sigma_min = number(sigma_max, "sigma_max"), number(sigma_min, "sigma_min")
    levels = whole(levels, "levels")
    if not (math.isfinite(sigma_max) and sigma_min > 0 and sigma_max >= sigma_min):
        raise InputError(
            f"need sigma_max >= sigma_min > 0; got sigma_max={sigma_max:g}, "
            f"sigma_min={sigma_min:g}. Exchanged?"
        )
    if levels < 1 or (levels > 1 and sigma_max == sigma_min):
        raise InputError(
            f"need at least one level, and sigma_max > sigma_min for more than one; got {levels} "
            f"levels from {sigma_max:g} to {sigma_min:g}"
        )
    return sigma_max, sigma_min, levels


def geometric(sigma_max: float, sigma_min: float, levels: int) -> Tensor:
    """A ladder of constant ratio.

    Args:
        sigma_max: First level.
        sigma_min: Last level.
        levels: Number of levels; a single one is sigma_max.

    Returns:
        float64 (levels,).

    Raises:
        InputError: For exchanged ends or no levels.
    """
    sigma_max, sigma_min, levels = _ends(sigma_max, sigma_min, levels)
    ladder = torch.linspace(
        math.log(sigma_max), math.log(sigma_min), levels, dtype=torch.float64
    ).exp()
    ladder[0] = sigma_max
    if levels > 1:
        # exp(log(.)) misses the ends by an ulp, and ranges are checked exactly
        ladder[-1] = sigma_min
    return check_ladder(ladder)


def karras(sigma_max: float, sigma_min: float, levels: int, rho: float = 7.0) -> Tensor:
    """The ladder of Karras et al. 2022, Eq. 5, without its last zero.

    Args:
        sigma_max: First level.
        sigma_min: Last level.
        levels: Number of levels; a single one is sigma_max.
        rho: Above zero; the larger, the more levels are small.

    Returns:
        float64 (levels,).

    Raises:
        InputError: For exchanged ends, no levels, or rho <= 0.
    """
    sigma_max, sigma_min, levels = _ends(sigma_max, sigma_min, levels)
    rho = finite(rho, "rho", 0.0, above=True)
    ladder = torch.linspace(
        sigma_max ** (1 / rho), sigma_min ** (1 / rho), levels, dtype=torch.float64
    ).pow(rho)
    ladder[0] = sigma_max
    if levels > 1:
        ladder[-1] = sigma_min
    return check_ladder(ladder)


def few_step(sigma_max: float, sigma_min: float, levels: int, data_std: float = 0.5) -> Tensor:
    """A ladder for five to ten evaluations of a multistep method.

    On N(0, v) the error of an exponential step, carried to the end of the flow, is proportional to
    sqrt(v) g (1 - g) with g = v / (v + sigma²): it matters where sigma is about sqrt(v). Data have
    structure at every scale below their standard deviation S, so v is spread evenly in ln v over
    (0, S²]. With u = sigma / S,

        e(u) = int_0^(1/u²) u sqrt(y) / (1 + y)² dy = u [arctan(1/u) - u / (1 + u²)]

    rises with sigma below S and falls as 1/sigma² above, where p_sigma is nearly a Gaussian. For
    rho levels a unit of ln sigma, a method of order q has the error int e / rho^q, which is least
    for rho ~ e^(1/(q+1)) (Sabour et al. 2024 choose levels by a bound in the same way); q = 3 here.

    docs/benchmarks.md measures multistep methods at 5 to 10 evaluations: the error is 0.4 to 0.6 of
    that of karras on mixtures, and equal on smoothed digits. The ladder does not suit Euler and
    Heun, which its long first steps make unstable.

    Args:
        sigma_max: First level.
        sigma_min: Last level.
        levels: Number of levels; fewer than three are the ends.
        data_std: The data's standard deviation S in model units.

    Returns:
        float64 (levels,).

    Raises:
        InputError: For exchanged ends, no levels, or data_std that is not above zero.
    """
    sigma_max, sigma_min, levels = _ends(sigma_max, sigma_min, levels)
    data_std = finite(data_std, "data_std, the data's standard deviation,", 0.0, above=True)
    if levels < 3:
        return geometric(sigma_max, sigma_min, levels)
    grid = torch.linspace(math.log(sigma_max), math.log(sigma_min), 8193, dtype=torch.float64)
    u = grid.exp() / data_std
    # Far above data_std the bracket cancels; its series is 2 / (3 u³).
    error = torch.where(
        u > 1e3, 2 / (3 * u.square()), u * (torch.atan(1 / u) - u / (1 + u.square()))
    )
    density = error.pow(0.25)
    filled = torch.cat(
        [torch.zeros(1, dtype=torch.float64), ((density[1:] + density[:-1]) / 2).cumsum(0)]
    )
    wanted = torch.linspace(0, 1, levels, dtype=torch.float64)[1:-1] * filled[-1]
    after = torch.searchsorted(filled, wanted)
    fraction = (wanted - filled[after - 1]) / (filled[after] - filled[after - 1])
    inner = (grid[after - 1] + fraction * (grid[after] - grid[after - 1])).exp()
    ends = torch.tensor([sigma_max, sigma_min], dtype=torch.float64)
    return check_ladder(torch.cat([ends[:1], inner, ends[1:]]))


#: Ladders by name: functions of (sigma_max, sigma_min, number of levels).
LADDERS: dict[str, Callable[[float, float, int], Tensor]] = {
    "geometric": geometric,
    "karras": karras,
    "few-step": few_step,
}


MOST_RATIO = 1.6  # Technique 2 has no solution in few dimensions, and huge ones just above
LEAST_LEVELS = 10


def level_ratio(elements: int) -> float:
    """The ratio of neighbouring noise levels by NCSNv2's Technique 2 (Song and Ermon 2020).

    The norms of noise of two levels overlap enough where gamma solves

        Phi(sqrt(2D) (gamma - 1) + 3 gamma) - Phi(sqrt(2D) (gamma - 1) - 3 gamma) = 1/2

    Args:
        elements: Number D of elements of an example, 1 or more.

    Returns:
        gamma, above 1; at most 1.6, where the equation has no smaller solution (D up to 32).

    Raises:
        InputError: For a number below 1.
    """
    root = math.sqrt(2 * whole(elements, "elements", 1))

    def overlap(gamma: float) -> float:
        centre, width = root * (gamma - 1), 3 * gamma
        return 0.5 * (
            math.erf((centre + width) / math.sqrt(2)) - math.erf((centre - width) / math.sqrt(2))
        )

    low, high = 1.0, MOST_RATIO
    if overlap(high) > 0.5:
        return high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if overlap(middle) > 0.5 else (low, middle)
    return (low + high) / 2


def level_count(sigma_max: float, sigma_min: float, elements: int) -> int:
    """The number of geometric noise levels by NCSNv2's Technique 2.

    Args:
        sigma_max: Largest level.
        sigma_min: Smallest level.
        elements: Number D of elements of an example, 1 or more.

    Returns:
        L = ceil(1 + ln(sigma_max / sigma_min) / ln gamma) with gamma of `level_ratio`, at least 10.

    Raises:
        InputError: For exchanged ends, or a number of elements below 1.
    """
    sigma_max, sigma_min, _ = _ends(sigma_max, sigma_min, 2)
    steps = math.log(sigma_max / sigma_min) / math.log(level_ratio(elements))
    return max(LEAST_LEVELS, math.ceil(1 + steps))


def langevin_step(sigma_min: float, ratio: float, steps_per_level: int) -> tuple[float, float]:
    """The step size of annealed Langevin dynamics by NCSNv2's Technique 4.

    After T steps at a level, the variance in units of the level's is

        (1 - e)^(2T) (gamma² - 2 / (2 - e)) + 2 / (2 - e),      e = epsilon / sigma_min²

    which exceeds 1 for every e. epsilon brings it as near to 1 as it comes.

    Args:
        sigma_min: Smallest noise level.
        ratio: Ratio gamma of neighbouring levels, above 1.
        steps_per_level: Number T of steps at each level.

    Returns:
        epsilon, the coefficient of the score at sigma_min, and the variance that it reaches.

    Raises:
        InputError: For numbers out of range.
    """
    sigma_min = finite(sigma_min, "sigma_min", 0.0, above=True)
    ratio = finite(ratio, "ratio", 1.0, above=True)
    steps = whole(steps_per_level, "steps_per_level", 1)

    def reached(log_e: float) -> float:
        e = math.exp(log_e)
        settled = 2 / (2 - e)
        return (1 - e) ** (2 * steps) * (ratio**2 - settled) + settled

    grid = [math.log(1e-12) * (1 - k / 2000) for k in range(2001)]
    best = min(range(len(grid)), key=lambda k: reached(grid[k]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    for _ in range(200):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if reached(left) < reached(right) else (left, high)
    found = (low + high) / 2
    return math.exp(found) * sigma_min**2, reached(found)


@dataclass(frozen=True)
class LogNormal:
    """ln sigma ~ N(mean, std²), cut to [sigma_min, sigma_max].

    Karras et al. 2022 take mean -1.2 and std 1.2 for data of standard deviation 0.5.
    """

    mean: float
    std: float
    sigma_min: float
    sigma_max: float

    def __post_init__(self) -> None:
        _read_range(self)
        object.__setattr__(self, "mean", finite(self.mean, "mean"))
        object.__setattr__(self, "std", finite(self.std, "std", 0.0, above=True))

    def quantile(self, u: Tensor) -> Tensor:
        """Uniform numbers in (0, 1), of any shape, to sigma of the same shape and type."""
        low, high = (
            0.5 * (1 + math.erf((math.log(s) - self.mean) / (self.std * math.sqrt(2))))
            for s in (self.sigma_min, self.sigma_max)
        )
        z = torch.special.ndtri(low + (high - low) * u)
        return (self.mean + self.std * z).exp().clamp(self.sigma_min, self.sigma_max)


@dataclass(frozen=True)
class LogUniform:
    """ln sigma uniform on [ln sigma_min, ln sigma_max]."""

    sigma_min: float
    sigma_max: float

    def __post_init__(self) -> None:
        _read_range(self)

    def quantile(self, u: Tensor) -> Tensor:
        """Uniform numbers in (0, 1), of any shape, to sigma of the same shape and type."""
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        return (low + (high - low) * u).exp().clamp(self.sigma_min, self.sigma_max)


@dataclass(frozen=True)
class Levels:
    """The levels of a ladder with equal probability (Song & Ermon 2019, Eq. 6)."""

    ladder: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "ladder", tuple(check_ladder(self.ladder).tolist()))

    def quantile(self, u: Tensor) -> Tensor:
        """Uniform numbers in (0, 1), of any shape, to sigma of the same shape and type."""
        ladder = torch.tensor(self.ladder, dtype=u.dtype, device=u.device)
        return ladder[(u * len(ladder)).long().clamp(max=len(ladder) - 1)]


def _read_range(law: "LogNormal | LogUniform") -> None:
    """Bring sigma_min and sigma_max of a frozen distribution to Python numbers."""
    for name in ("sigma_min", "sigma_max"):
        value = finite(getattr(law, name), name, 0.0, above=True)
        object.__setattr__(law, name, value)
    if not law.sigma_min < law.sigma_max:
        raise InputError(
            "need sigma_min < sigma_max; got "
            f"sigma_min={law.sigma_min:g}, sigma_max={law.sigma_max:g}. Exchanged?"
        )


SigmaDistribution = LogNormal | LogUniform | Levels


def stratified(offset: Tensor, count: int) -> Tensor:
    """Stratified uniform numbers with one random offset for the whole batch.

        u_i = (i + offset) / count,   i = 0 ... count - 1

    The u_i of a batch cover (0, 1) evenly. Each u_i depends on the size of the batch. The order of
    the data is shuffled, so that examples meet the strata at random.

    Args:
        offset: One uniform number in (0, 1), of shape ().
        count: Size B of the batch.

    Returns:
        (B,), offset's type and device.
    """
    return (torch.arange(count, dtype=offset.dtype, device=offset.device) + offset) / count
