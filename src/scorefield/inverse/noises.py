"""The law of an observation y given the noise-free measurement m = A(x).

    Gaussian           y = m + n,  n ~ N(0, Sigma): one number, one an element, a covariance matrix,
                       or a power spectrum
    Poisson            y ~ Poisson(gain m): counts
    Poisson-Gaussian   y = N + read_std n,  N ~ Poisson(gain m): counts and the noise of reading
    Rician             y = |m + std n_1 + i std n_2|: the magnitude of a complex signal
    LogLikelihood      log p(y | m) by a function of the user's

All are in the units of y. Every law but LogLikelihood has the Fisher information of m,

    I(m) = E[(d log p(y | m) / d m)²],

with which a method for Gaussian noise takes y for a Gaussian observation of m: a Fisher scoring
step, which replaces y by m + (d log p / d m) / I(m) and its variance by 1 / I(m).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError, Unsupported
from ..tensors import check_finite, float64
from ..values import describe, finite

# Expected counts below which a likelihood of counts goes on as a tangent or a parabola: at zero it
# is zero for any count, and estimates of a dark element may lie below zero.
DARK = 0.1
LEAST_INFORMATION = 1e-6  # of a Rician in units of 1/std²: at m = 0 its information vanishes
WINDOW = 8.0  # standard deviations of the sum over counts
WIDEST_READ = 10.0  # counts; wider reading noise takes the normal approximation of the sum
SYMMETRY = 1e-9  # relative asymmetry of a covariance that rounding explains


class Noise(ABC):
    """The likelihood of an observation.

    Attributes:
        has_information: Whether the Fisher information of m is known.
    """

    has_information: bool = True

    @abstractmethod
    def log_likelihood(self, y: Tensor, mean: Tensor, known: Tensor | None = None) -> Tensor:
        """log p(y | m) in nats, up to a constant of y.

        Args:
            y: (B, *measurement).
            mean: m, like y; the result can be differentiated in it.
            known: bool, broadcasts against y: elements that were observed; None for all.

        Returns:
            (B,).
        """

    def score(self, y: Tensor, mean: Tensor, known: Tensor | None = None) -> Tensor:
        """d log p(y | m) / d m.

        Args:
            y: (B, *measurement).
            mean: m, like y.
            known: As for `log_likelihood`.

        Returns:
            Like y; zero where not observed.
        """
        with torch.enable_grad():
            m = mean.detach().requires_grad_(True)
            (found,) = torch.autograd.grad(self.log_likelihood(y, m, known).sum(), m)
        result: Tensor = found
        return result

    def information(self, mean: Tensor) -> Tensor:
        """The Fisher information of each element of m, above zero.

        Raises:
            Unsupported: For a law without one.
        """
        raise Unsupported(f"{type(self).__name__} has no Fisher information")

    def simulate(self, mean: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        """An observation of m.

        Args:
            mean: m, (B, *measurement).
            normal: Standard normals (2, B, *measurement).
            uniform: Uniform numbers in (0, 1), like m.

        Returns:
            y, like m.

        Raises:
            Unsupported: For a law that cannot be drawn.
        """
        raise Unsupported(f"{type(self).__name__} cannot simulate observations")

    def check(self, y: Tensor) -> None:
        """Refuse observations that the law cannot give.

        Args:
            y: (B, *measurement), NaN where missing.

        Raises:
            InputError: For such an observation. Here any real numbers are taken.
        """
        return


class Elementwise(Noise):
    """A law under which the elements of y are independent given m."""

    @abstractmethod
    def elements(self, y: Tensor, mean: Tensor) -> Tensor:
        """log p of each element of y, like y, up to a constant of y."""

    def log_likelihood(self, y: Tensor, mean: Tensor, known: Tensor | None = None) -> Tensor:
        """The sum over the observed elements; see `Noise.log_likelihood`."""
        found = self.elements(y, mean)
        if known is not None:
            found = torch.where(known, found, 0.0)
        return found.flatten(1).sum(1)


@dataclass(frozen=True)
class GaussianNoise(Noise):
    """y = m + n with n ~ N(0, Sigma); one of the three arguments is given.

    Args:
        std: The standard deviation: a number, or an array that broadcasts against the measurement.
            0 means an exact observation.
        covariance: Sigma, (m, m) with m elements a measurement, in the order of its flattening.
        spectrum: The noise's variance at each frequency, of the shape of the last dimensions of the
            measurement and in the order of `numpy.fft.fftn`; the noise is stationary with periodic
            boundaries. The variance of an element is the spectrum's mean.

    Raises:
        InputError: For none or several of them, numbers that are not finite, deviations of which
            only some are zero, and what is no covariance or spectrum.
    """

    std: Any = None
    covariance: Any = None
    spectrum: Any = None

    def __post_init__(self) -> None:
        names = ("std", "covariance", "spectrum")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            raise InputError(
                f"GaussianNoise needs one of std, covariance and spectrum; got {given or 'none'}"
            )
        value = check_finite(float64(getattr(self, given[0]), given[0]), given[0])
        object.__setattr__(self, given[0], value)
        getattr(self, f"_check_{given[0]}")(value)

    def _check_std(self, value: Tensor) -> None:
        if bool((value < 0).any()) or (bool((value == 0).any()) and bool((value > 0).any())):
            raise InputError(
                "the standard deviations of the noise must all be above zero, or all be zero for "
                f"an exact observation; got {float(value.min()):g} to {float(value.max()):g}"
            )

    def _check_covariance(self, value: Tensor) -> None:
        if value.ndim != 2 or value.shape[0] != value.shape[1]:
            raise InputError(
                f"the noise's covariance must be (m, m) with m elements a measurement; got "
                f"{tuple(value.shape)}"
            )
        if bool((value - value.T).abs().max() > SYMMETRY * value.abs().max()):
            raise InputError("the noise's covariance must be symmetric; got one that is not")
        if not float(torch.linalg.eigvalsh(value)[0]) > 0:
            raise InputError(
                "the noise's covariance must be positive definite; its smallest eigenvalue is "
                f"{float(torch.linalg.eigvalsh(value)[0]):g}"
            )

    def _check_spectrum(self, value: Tensor) -> None:
        if value.ndim == 0 or not bool((value > 0).all()):
            raise InputError(
                "the noise's spectrum must have one variance above zero for each frequency; got "
                f"{float(value.min()):g} to {float(value.max()):g} of shape {tuple(value.shape)}"
            )
        mirrored = value
        for dim in range(value.ndim):
            mirrored = mirrored.flip(dim).roll(1, dim)
        if bool((mirrored - value).abs().max() > SYMMETRY * value.max()):
            raise InputError(
                "the spectrum of real noise has the same variance at a frequency and its negative "
                "(order of numpy.fft.fftn); got one that has not. Average the two"
            )

    @property
    def exact(self) -> bool:
        """Whether there is no noise."""
        return self.std is not None and not bool((self.std > 0).any())

    @property
    def number(self) -> float | None:
        """The standard deviation where one number is that of every element; else None."""
        if self.std is None or bool((self.std != self.std.flatten()[0]).any()):
            return None
        return float(self.std.flatten()[0])

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Refuse a measurement of a shape that does not fit.

        Raises:
            InputError: The message has both shapes.
        """
        if self.std is not None:
            try:
                self.std.expand(shape)
            except RuntimeError as error:
                raise InputError(
                    f"noise_std must be one number or broadcast against the measurement {shape}; "
                    f"got {tuple(self.std.shape)}"
                ) from error
        elif self.covariance is not None and len(self.covariance) != math.prod(shape):
            raise InputError(
                f"the noise's covariance must be ({math.prod(shape)}, {math.prod(shape)}) for the "
                f"measurement {shape}; got {tuple(self.covariance.shape)}"
            )
        elif self.spectrum is not None and shape[-self.spectrum.ndim :] != self.spectrum.shape:
            raise InputError(
                f"the noise's spectrum must have the shape of the last dimensions of the "
                f"measurement {shape}; got {tuple(self.spectrum.shape)}"
            )

    def matrix(self, shape: tuple[int, ...]) -> Tensor:
        """Sigma as a matrix, float64 (m, m), for measurements of a shape."""
        self.check_shape(shape)
        if self.covariance is not None:
            found: Tensor = self.covariance
            return found
        if self.std is not None:
            return torch.diag(self.std.expand(shape).flatten().square())
        eye = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
        return self._filtered(eye, 1.0).flatten(1)

    def matrix_diagonal(self, shape: tuple[int, ...]) -> Tensor:
        """The variances of the elements of a measurement of a shape, which broadcast against it."""
        self.check_shape(shape)
        if self.covariance is not None:
            found: Tensor = self.covariance.diagonal().reshape(shape)
            return found
        return self.spectrum.mean() if self.std is None else self.std.square()

    def _filtered(self, v: Tensor, power: float) -> Tensor:
        """Sigma^power v for coloured noise."""
        dims = tuple(range(-self.spectrum.ndim, 0))
        weight = self.spectrum.to(v.device, v.dtype).pow(power)
        found: Tensor = torch.fft.ifftn(torch.fft.fftn(v, dim=dims) * weight, dim=dims).real
        return found

    def whiten(self, v: Tensor) -> Tensor:
        """W v with W Sigma W^T = I, for v (B, *measurement)."""
        if self.std is not None:
            return v / self.std.to(v.device, v.dtype)
        if self.spectrum is not None:
            return self._filtered(v, -0.5)
        root = torch.linalg.cholesky(self.covariance).to(v.device, v.dtype)
        white: Tensor = torch.linalg.solve_triangular(root, v.flatten(1).T, upper=False)
        return white.T.reshape(v.shape)

    def whiten_adjoint(self, v: Tensor) -> Tensor:
        """W^T v, for v (B, *measurement)."""
        if self.covariance is None:
            return self.whiten(v)
        root = torch.linalg.cholesky(self.covariance).to(v.device, v.dtype)
        found: Tensor = torch.linalg.solve_triangular(root.T, v.flatten(1).T, upper=True)
        return found.T.reshape(v.shape)

    def colour(self, v: Tensor) -> Tensor:
        """W^-1 v: noise of this law from standard normals v (B, *measurement)."""
        if self.std is not None:
            return v * self.std.to(v.device, v.dtype)
        if self.spectrum is not None:
            return self._filtered(v, 0.5)
        root = torch.linalg.cholesky(self.covariance).to(v.device, v.dtype)
        return (v.flatten(1) @ root.T).reshape(v.shape)

    def log_likelihood(self, y: Tensor, mean: Tensor, known: Tensor | None = None) -> Tensor:
        """-|W (y - m)|²/2; see `Noise.log_likelihood`.

        Raises:
            Unsupported: For an exact observation, which has no density; and for a covariance or a
                spectrum where elements are missing (`restrict` it first).
        """
        if self.exact:
            raise Unsupported("an exact observation has no likelihood")
        if known is not None and self.std is None and not bool(known.all()):
            raise Unsupported("restrict the covariance to the observed elements first")
        white = self.whiten(y - mean)
        if known is not None:
            white = torch.where(known, white, 0.0)
        return -white.square().flatten(1).sum(1) / 2

    def simulate(self, mean: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        """m plus coloured normals; see `Noise.simulate`."""
        return mean + self.colour(normal[0])


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


@lru_cache(maxsize=1)
def _rician_information() -> tuple[Tensor, Tensor]:
    """Information of a Rician of std 1 on a grid of m, by quadrature over y."""
    m = torch.linspace(0, 8, 161, dtype=torch.float64)
    y = torch.linspace(0, 20, 20001, dtype=torch.float64)[1:]
    z = m[:, None] * y
    log_p = y.log() - (y - m[:, None]).square() / 2 + torch.special.i0e(z).log()
    slope = y * torch.special.i1e(z) / torch.special.i0e(z) - m[:, None]
    return m, (log_p.exp() * slope.square()).sum(1) * float(y[1] - y[0])


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
        found = values[place - 1] + share * (values[place] - values[place - 1])
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


@dataclass(frozen=True)
class LogLikelihood(Noise):
    """A law given by a function.

    Args:
        function: (y, m) -> log p(y | m), (B,), each row by itself and differentiable in m. y has
            0 where it was not observed; with missing elements the function takes `known` as a
            third argument (bool, True where observed).

    Raises:
        InputError: For anything but a function.
    """

    function: Callable[..., Tensor]

    has_information = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputError(
                "LogLikelihood needs a function (y, m) -> log p(y | m) with one number a row; got "
                f"{describe(self.function)}"
            )

    def log_likelihood(self, y: Tensor, mean: Tensor, known: Tensor | None = None) -> Tensor:
        """The function's value; see `Noise.log_likelihood`.

        Raises:
            InputError: For a result that is not one number a row.
        """
        found = self.function(y, mean) if known is None else self.function(y, mean, known)
        if not isinstance(found, Tensor) or found.shape != y.shape[:1]:
            shape = tuple(found.shape) if isinstance(found, Tensor) else describe(found)
            raise InputError(
                f"a log likelihood must give one number a row, shape ({len(y)},); got {shape}"
            )
        return found


class Gaussianised(NamedTuple):
    """A law about m as a Gaussian observation of m: one step of Fisher scoring.

    Attributes:
        y: (B, *measurement), m + (d log p / d m) / I(m).
        root: The square root of I(m), the reciprocal of its standard deviation.
    """

    y: Tensor
    root: Tensor


def gaussianise(noise: Noise, y: Tensor, mean: Tensor, known: Tensor | None) -> Gaussianised:
    """The Gaussian observation that a law is about m; see `Gaussianised`.

    Raises:
        Unsupported: For a law without Fisher information.
    """
    information = noise.information(mean)
    return Gaussianised(mean + noise.score(y, mean, known) / information, information.sqrt())
