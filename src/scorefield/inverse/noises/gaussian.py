"""Gaussian noise: one number, one an element, a covariance matrix, or a power spectrum."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError, Unsupported
from ...tensors import check_finite, float64
from .base import Noise

SYMMETRY = 1e-9  # relative asymmetry of a covariance that rounding explains


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
