"""One linear observation with Gaussian noise in dense form, the input of `posterior`.

    y = A x + n,   n ~ N(0, Sigma)

x is the flattened example in model units, A is (m, d), and Sigma may be singular or zero: then y is
exact in those directions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import InputError
from ..tensors import float64
from ..values import describe
from .common import LOG_2PI

#: Relative difference below which an exact observation agrees with a point. It covers observations
#: that were computed in float32.
AGREES = 1e-6


class Elements(NamedTuple):
    """An observation that sees each element by itself.

    prod_i N(y_i; (A x)_i, n_i) = exp(log_constant) prod_j N(x_j; value_j, variance_j)

    Attributes:
        value: (d,), 0 where the element was not observed.
        variance: (d,), infinite where the element was not observed and 0 where it is exact.
        log_constant: The factor above, without that of exact elements.
        log_scale: (d,), for exact elements the log of |dy/dx_j|, 0 elsewhere. A density of x_j
            becomes one of y by subtracting it; a point mass keeps its mass.
    """

    value: Tensor
    variance: Tensor
    log_constant: float
    log_scale: Tensor

    @property
    def seen(self) -> Tensor:
        """(d,), True where the element was observed."""
        return self.variance < math.inf


@dataclass(frozen=True, init=False, eq=False)
class LinearGaussian:
    """The observation y = A x + n with n ~ N(0, Sigma), in float64 and model units.

        p = GaussianMixture([[-5.0, -5.0], [5.0, 5.0]], 1.0, [0.2, 0.8])
        p.posterior(LinearGaussian([[1.0, 0.0]], [0.0]))  # the first element is 0, exactly

    Args:
        matrix: A (m, d), for examples of d elements in the order of their memory. Without rows
            nothing is observed.
        observed: y (m,).
        covariance: Sigma: (m, m), variances (m,), or one variance. It may be singular; 0 is an
            exact observation.

    Raises:
        InputError: For shapes that do not fit together, numbers that are not finite, or a
            covariance that is not symmetric or has a negative eigenvalue.
    """

    matrix: Tensor
    observed: Tensor
    covariance: Tensor  # (m,) where the noise is independent, else (m, m)

    def __init__(
        self,
        matrix: Tensor | Sequence[Any],
        observed: Tensor | Sequence[Any],
        covariance: Tensor | Sequence[Any] | float = 0.0,
    ) -> None:
        a, y = float64(matrix, "matrix"), float64(observed, "observed")
        if a.ndim != 2 or a.shape[1] == 0:
            raise InputError(
                f"matrix must be (m, d) with at least one column; got {tuple(a.shape)}. One "
                "observation of d elements is [[a_1, ..., a_d]]"
            )
        m = len(a)
        if y.shape != (m,):
            raise InputError(
                f"observed must be ({m},), one number for each row of matrix; got {tuple(y.shape)}"
            )
        object.__setattr__(self, "matrix", a)
        object.__setattr__(self, "observed", y.to(a.device))
        noise = _covariance(float64(covariance, "covariance"), m)
        object.__setattr__(self, "covariance", noise.to(a.device))
        if self.covariance.ndim == 2:  # the eigenvalues are checked there
            assert self.independent.covariance.ndim == 1

    @cached_property
    def independent(self) -> "LinearGaussian":
        """The same observation, rotated so that its noise is independent."""
        if self.covariance.ndim == 1:
            return self
        variances, rotation = torch.linalg.eigh((self.covariance + self.covariance.T) / 2)
        size = float(variances.abs().max())
        rounding = 8 * len(variances) * torch.finfo(torch.float64).eps * size
        if float(variances[0]) < -rounding:
            raise InputError(
                f"covariance must have no negative eigenvalue; got {float(variances[0]):g}"
            )
        variances = torch.where(variances <= rounding, 0.0, variances)
        return LinearGaussian(rotation.T @ self.matrix, rotation.T @ self.observed, variances)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p(y | x) in nats.

        Where the noise is zero in some directions, it is the density in the others, and -inf for
        an x that disagrees with y by more than 1e-6 of the numbers' size.

        Args:
            x: (n, *event) with d elements an example.

        Returns:
            float64 (n,).
        """
        rows = self.independent
        flat = x.to(rows.matrix).flatten(1)
        error = rows.observed - flat @ rows.matrix.T
        exact = rows.covariance == 0
        noise = torch.where(exact, 1.0, rows.covariance)
        nats = -(error.square() / noise + noise.log() + LOG_2PI) / 2
        size = rows.observed.abs() + flat.abs() @ rows.matrix.abs().T
        agrees = torch.where(error.abs() <= AGREES * size, 0.0, -math.inf)
        return torch.where(exact, agrees, nats).sum(1)

    def by_element(self) -> Elements | None:
        """The observation element by element; None where it couples elements.

        Returns:
            None where a row of A has two non-zero elements or the noise is correlated.

        Raises:
            InputError: Exact rows contradict each other.
        """
        used = self.matrix != 0
        if self.covariance.ndim != 1 or bool((used.sum(1) > 1).any()):
            return None
        blind = ~used.any(1)
        constant = _blind_rows(self.observed[blind], self.covariance[blind])
        y, noise = self.observed[~blind], self.covariance[~blind]
        place = used[~blind].to(torch.uint8).argmax(1)
        slope = self.matrix[~blind].gather(1, place[:, None])[:, 0]
        value, variance = y / slope, noise / slope.square()
        constant -= float(slope[noise > 0].abs().log().sum())
        d = self.matrix.shape[1]
        found = y.new_zeros(d), y.new_full((d,), math.inf)
        for rows in _rounds(place):
            constant += _merge(*found, place[rows], value[rows], variance[rows])
        exact = noise == 0
        square = y.new_zeros(d).index_add(0, place[exact], slope[exact].square())
        scale = torch.where(square > 0, square, 1.0).log() / 2
        return Elements(*found, constant, scale)


def _covariance(given: Tensor, m: int) -> Tensor:
    """Sigma as variances (m,) where it is diagonal, else (m, m)."""
    if given.shape not in ((), (m,), (m, m)):
        raise InputError(
            f"covariance must be one variance, ({m},) or ({m}, {m}) for {m} observed numbers; got "
            f"{tuple(given.shape)}"
        )
    if given.ndim == 2:
        if not torch.allclose(given, given.T, rtol=1e-10, atol=1e-10 * float(given.abs().max())):
            raise InputError("covariance must be symmetric; use (c + c.T) / 2")
        if bool((given != torch.diag(given.diagonal())).any()):
            return given
        given = given.diagonal()
    if bool((given < 0).any()):
        raise InputError(f"covariance must not be negative; got variance {float(given.min()):g}")
    return given.expand(m).clone()


def _blind_rows(observed: Tensor, variance: Tensor) -> float:
    """The log density of observations that no element of x enters."""
    exact = variance == 0
    if bool((observed[exact] != 0).any()):
        raise InputError(
            "the observation is impossible: a row of zeros in matrix has observed "
            f"{float(observed[exact].abs().max()):g} without noise"
        )
    noise = variance[~exact]
    return float(-(observed[~exact].square() / noise + noise.log() + LOG_2PI).sum() / 2)


def _rounds(place: Tensor) -> list[Tensor]:
    """Rows in groups, such that no element occurs twice in a group."""
    order = place.argsort(stable=True)
    ranked = place[order]
    first = torch.searchsorted(ranked, ranked)
    turn = torch.empty_like(place)
    turn[order] = torch.arange(len(place), device=place.device) - first
    most = int(turn.max()) + 1 if len(turn) else 0
    return [(turn == i).nonzero()[:, 0] for i in range(most)]


def _merge(value: Tensor, variance: Tensor, place: Tensor, other: Tensor, noise: Tensor) -> float:
    """Multiply N(x; value, variance) at `place` by N(x; other, noise), in place.

    Returns:
        The log of the factor: N(other; value, variance + noise), where x was known before.
    """
    old, before = value[place], variance[place]
    new, total = before < math.inf, before + noise
    clash = new & (total == 0) & ((old - other).abs() > AGREES * (old.abs() + other.abs()))
    if bool(clash.any()):
        k = int(clash.nonzero()[0])
        raise InputError(
            f"the observation is impossible: element {int(place[k])} is observed without noise as "
            f"{float(old[k]):g} and as {float(other[k]):g}. Give the noise of each"
        )
    known = new & (total > 0)
    safe = torch.where(known, total, 1.0)
    share = torch.where(known, before / safe, torch.where(new, 0.0, 1.0))
    value[place] = old + share * (other - old)
    variance[place] = torch.where(known, before * (noise / safe), torch.where(new, 0.0, noise))
    nats = -((other - old).square() / safe + safe.log() + LOG_2PI) / 2
    return float(nats[known].sum())


@runtime_checkable
class HasLinearGaussian(Protocol):
    """Anything that can state itself as a `LinearGaussian`, such as a measurement."""

    def linear_gaussian(self, event_shape: tuple[int, ...]) -> LinearGaussian:
        """The observation in dense form, of examples of this shape in model units."""
        ...


#: What `posterior` takes.
Observation = LinearGaussian | HasLinearGaussian


def as_linear_gaussian(
    observation: Any, event_shape: tuple[int, ...], device: torch.device
) -> LinearGaussian:
    """The observation in dense form.

    Args:
        observation: A LinearGaussian, or an object with `linear_gaussian(event_shape)`.
        event_shape: Shape of one example.
        device: Where the model is.

    Returns:
        The observation on `device`.

    Raises:
        InputError: It is neither, or it observes examples of another size.
    """
    found = observation
    if isinstance(found, HasLinearGaussian):
        found = found.linear_gaussian(event_shape)
    if not isinstance(found, LinearGaussian):
        raise InputError(
            "observation must be a LinearGaussian(matrix, observed, covariance) or have a method "
            f"linear_gaussian(event_shape); got {describe(observation)}"
        )
    d = math.prod(event_shape)
    if found.matrix.shape[1] != d:
        raise InputError(
            f"the observation's matrix must have {d} columns, one for each element of an example "
            f"{tuple(event_shape)}; got {found.matrix.shape[1]}"
        )
    if found.matrix.device == device:
        return found
    return LinearGaussian(
        found.matrix.to(device), found.observed.to(device), found.covariance.to(device)
    )


def impossible(model: str) -> InputError:
    """The error for an exact observation that no part of a density can give."""
    return InputError(
        f"the observation is impossible: no x of this {model} gives it without noise. Give the "
        "variance of its noise as covariance"
    )
