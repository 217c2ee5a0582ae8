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

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import InputError, Unsupported
from ...values import describe


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
