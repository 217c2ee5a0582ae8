"""`Problem`: a measurement in model units, as methods of restoration see it.

Gaussian noise is whitened where it is not one number: with W Sigma W^T = I,

    y = A(x) + n,  n ~ N(0, Sigma)      becomes      W y = W A(x) + n',  n' ~ N(0, I).

Missing elements of y are set to zero, and the operator gives zero there. In a method for linear
operators and Gaussian noise any problem stands as `linearised`: one Gauss-Newton step about x0,

    A(x) ~ A(x0) + J (x - x0),

with a Fisher scoring step for other laws of the noise (`noises`).
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..exact import LinearGaussian
from .noises import GaussianNoise, Noise, gaussianise
from .operators import SVD, Composed, Mask, Operator, Rescaled
from .solve import Solved, conjugate_gradients

MOST_ITERATIONS = 500  # of conjugate gradients
TOLERANCES = {torch.float64: 1e-10}  # relative residuals at which a row of them is done
TOLERANCE = 1e-5  # in float32
MOST_DENSE = 4096  # elements of a measurement whose covariance is restricted as a matrix


class _Whitened(Operator):
    """x -> W A(x), and zero where nothing was observed."""

    def __init__(self, operator: Operator, noise: GaussianNoise) -> None:
        self.operator, self.noise = operator, noise
        self.linear = operator.linear

    def take(self, index: Tensor) -> "_Whitened":
        return _Whitened(self.operator.take(index), self.noise)

    def A(self, x: Tensor) -> Tensor:
        return self.noise.whiten(self.operator.A(x))

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.operator.A_adjoint(self.noise.whiten_adjoint(y))


class _RowWhitened(Operator):
    """x -> W_n A(x) with a matrix for each observation, (B, m, m), zero for missing elements."""

    def __init__(self, operator: Operator, roots: Tensor, event_shape: tuple[int, ...]) -> None:
        self.operator, self.roots = operator, roots
        self.event_shape = event_shape
        self.linear = operator.linear

    def take(self, index: Tensor) -> "_RowWhitened":
        taken = self.roots[index.to(self.roots.device)]
        return _RowWhitened(self.operator.take(index), taken, self.event_shape)

    def whiten(self, v: Tensor) -> Tensor:
        roots = self.roots.to(v.device, v.dtype)
        return torch.einsum("bij,bj->bi", roots, v.flatten(1)).reshape(v.shape)

    def A(self, x: Tensor) -> Tensor:
        return self.whiten(self.operator.A(x))

    def A_adjoint(self, y: Tensor) -> Tensor:
        roots = self.roots.to(y.device, y.dtype)
        back = torch.einsum("bij,bi->bj", roots, y.flatten(1)).reshape(y.shape)
        return self.operator.A_adjoint(back)


class _Observed(Operator):
    """x -> A(x), and zero where nothing was observed."""

    def __init__(self, operator: Operator, known: Tensor) -> None:
        self.operator, self.known = operator, known
        self.linear = operator.linear

    def take(self, index: Tensor) -> "_Observed":
        return _Observed(self.operator.take(index), self.known[index.to(self.known.device)])

    def A(self, x: Tensor) -> Tensor:
        return torch.where(self.known.to(x.device), self.operator.A(x), 0.0)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.operator.A_adjoint(torch.where(self.known.to(y.device), y, 0.0))


class _Tangent(Operator):
    """v -> root J v, the derivative of an operator at x0 times a weight of each element."""

    def __init__(self, operator: Operator, x0: Tensor, root: Tensor | None) -> None:
        self.operator, self.x0, self.root = operator, x0.detach(), root

    def _weighted(self, v: Tensor) -> Tensor:
        return v if self.root is None else v * self.root

    def A(self, x: Tensor) -> Tensor:
        if self.operator.linear:
            return self._weighted(self.operator.A(x))
        found: Tensor = torch.func.jvp(self.operator.A, (self.x0,), (x.to(self.x0.dtype),))[1]
        return self._weighted(found)

    def A_adjoint(self, y: Tensor) -> Tensor:
        if self.operator.linear:
            return self.operator.A_adjoint(self._weighted(y))
        with torch.enable_grad():
            x0 = self.x0.requires_grad_(True)
            (found,) = torch.autograd.grad(self.operator.A(x0), x0, self._weighted(y))
        self.x0.requires_grad_(False)
        result: Tensor = found
        return result


@dataclass(frozen=True)
class Problem:
    """A measurement in model units, one row a draw.

    Args:
        y: (B, *measurement), whitened where the noise is Gaussian and not one number; 0 where
            missing.
        operator: From examples in model units to `y`; it gives 0 where `y` is missing.
        event_shape: The shape of an example.
        noise_std: The standard deviation of Gaussian noise, of every element; 0 for an exact
            observation. Not used where `noise` is given.
        noise: The law of y given the operator's value where it is not Gaussian.
        known: bool, broadcasts against y: the observed elements; None for all.
    """

    y: Tensor
    operator: Operator
    event_shape: tuple[int, ...]
    noise_std: float = 0.0
    noise: Noise | None = None
    known: Tensor | None = None

    @property
    def is_linear_gaussian(self) -> bool:
        """Whether the operator is linear and the noise Gaussian, or none."""
        return self.operator.linear and self.noise is None

    @property
    def operator_name(self) -> str:
        """The name of the operator as the caller knows it, without the units and the noise."""
        inner = self.operator
        while isinstance(inner, Rescaled | Composed | _Whitened | _RowWhitened | _Observed):
            inner = inner.operator
        return type(inner).__name__

    @property
    def is_mask(self) -> bool:
        """Whether elements of x are observed themselves."""
        inner = self.operator
        return isinstance(inner.operator if isinstance(inner, Rescaled) else inner, Mask)

    @property
    def observed_elements(self) -> Tensor:
        """The number of observed elements of each row, (B,)."""
        if self.known is None:
            return torch.full((len(self.y),), float(self.y[0].numel()))
        return self.known.expand_as(self.y).flatten(1).sum(1).to("cpu", torch.float32)

    def take(self, index: Tensor) -> "Problem":
        """The problem of the rows `index` (B,), int64."""
        known = self.known
        if known is not None and len(known) == len(self.y):
            known = known[index.to(known.device)]
        y = self.y[index.to(self.y.device)]
        return replace(self, y=y, operator=self.operator.take(index), known=known)

    def linear_gaussian(self, event_shape: tuple[int, ...]) -> LinearGaussian:
        """The matrices of a linear Gaussian problem of one row, missing elements left out.

        Args:
            event_shape: The shape of an example, of d elements.

        Returns:
            A (m, d), y (m,) and the noise's covariance (m, m).
        """
        assert self.is_linear_gaussian and len(self.y) == 1
        d = math.prod(event_shape)
        eye = torch.eye(d, dtype=torch.float64).reshape(d, *event_shape)
        parts = [
            self.operator.take(torch.zeros(len(part), dtype=torch.int64)).A(part)
            for part in eye.split(256)
        ]
        columns = torch.cat(parts).flatten(1).T
        flat = self.y.to("cpu", torch.float64).flatten()
        if self.known is not None:
            seen = self.known.expand_as(self.y).flatten().cpu()
            columns, flat = columns[seen], flat[seen]
        variance = self.noise_std**2
        return LinearGaussian(columns, flat, variance * torch.eye(len(flat), dtype=torch.float64))

    def svd(self) -> SVD | None:
        """The singular value decomposition of the operator; None where it is not known."""
        return self.operator.svd(self.event_shape) if self.operator.linear else None

    def residual(self, x0: Tensor) -> Tensor:
        """y - A(x0), like y; zero where missing."""
        found = self.y - self.operator.A(x0)
        return found if self.known is None else torch.where(self.known, found, 0.0)

    def log_likelihood(self, x0: Tensor) -> Tensor:
        """log p(y | x0) (B,) in nats, up to a constant of y; differentiable in x0.

        Raises:
            InputError: For an exact observation, which has no density.
        """
        if self.noise is not None:
            return self.noise.log_likelihood(self.y, self.operator.A(x0), self.known)
        if self.noise_std == 0:
            raise InputError(
                "an exact observation (noise_std=0) has no likelihood; state the noise"
            )
        return -self.residual(x0).square().flatten(1).sum(1) / (2 * self.noise_std**2)

    def linearised(self, x0: Tensor) -> "Problem":
        """A linear Gaussian problem that agrees with this one about x0 (B, *event).

        Raises:
            Unsupported: For a law of the noise without Fisher information.
        """
        if self.is_linear_gaussian:
            return self
        x0 = x0.detach()
        mean = self.operator.A(x0)
        y, root, std = self.y, None, self.noise_std
        if self.noise is not None:
            y, root = gaussianise(self.noise, self.y, mean, self.known)
            std = 1.0
        tangent: Operator = _Tangent(self.operator, x0, root)
        apart = y - mean if root is None else root * (y - mean)
        y = apart + tangent.A(x0)
        if self.known is not None:
            y = torch.where(self.known, y, 0.0)
            tangent = _Observed(tangent, self.known.expand_as(y))
        return Problem(y, tangent, self.event_shape, std, None, self.known)

    def solve(self, r: Tensor, spread: float, tolerance: float | None = None) -> Tensor:
        """(spread A A^T + noise_std² I)^+ r for a linear Gaussian problem; no network is evaluated.

        By the singular value decomposition where it is known, else by conjugate gradients.

        Args:
            r: (B, *measurement).
            spread: The variance of x in every direction.
            tolerance: Relative residual of the iteration; None: what the type of r can reach.

        Returns:
            (B, *measurement).
        """
        svd = self.svd()
        if svd is not None:
            return svd.solve(r, spread, self.noise_std**2)
        operator, variance = self.operator, self.noise_std**2
        found: Solved = conjugate_gradients(
            lambda v: spread * operator.A(operator.A_adjoint(v)) + variance * v,
            r,
            TOLERANCES.get(r.dtype, TOLERANCE) if tolerance is None else tolerance,
            MOST_ITERATIONS,
        )
        return found.x


def make_problem(
    y: Tensor,
    operator: Operator,
    event_shape: tuple[int, ...],
    noise: Noise,
    known: Tensor | None = None,
) -> Problem:
    """A problem of an observation in model units.

    Args:
        y: (K, *measurement), NaN where missing; float64.
        operator: From examples in model units to y.
        event_shape: The shape of an example.
        noise: The law of y.
        known: bool, broadcasts against y: elements that the operator keeps; None for all.

    Returns:
        The problem, whitened, in float64.

    Raises:
        InputError: The noise does not fit the measurement, or a row has no observed element.
    """
    missing = torch.isnan(y)
    if bool(missing.flatten(1).all(1).any()):
        raise InputError("an observation has no observed element; leave it out")
    if bool(missing.any()):
        known = ~missing if known is None else known & ~missing
        operator = _Observed(operator, known.expand_as(y))
    y = torch.where(known, y, 0.0) if known is not None else y
    if not isinstance(noise, GaussianNoise):
        return Problem(y, operator, event_shape, 0.0, noise, known)
    noise.check_shape(tuple(y.shape[1:]))
    number = noise.number
    if number is not None:
        return Problem(y, operator, event_shape, number, None, known)
    partial = known is not None and not bool(known.all())
    if noise.std is not None or not partial:
        white = noise.whiten(y)
        return Problem(white, _Whitened(operator, noise), event_shape, 1.0, None, known)
    assert known is not None
    rows = _restricted_roots(noise, known.expand_as(y))
    whitened = _RowWhitened(operator, rows, event_shape)
    return Problem(whitened.whiten(y), whitened, event_shape, 1.0, None, known)


def _restricted_roots(noise: GaussianNoise, known: Tensor) -> Tensor:
    """W_n of each row (K, m, m): it whitens the observed elements, and is zero for missing ones."""
    shape = tuple(known.shape[1:])
    flat = known.flatten(1)
    size = flat.shape[1]
    if size > MOST_DENSE:
        raise InputError(
            f"noise with a covariance or a spectrum and missing elements needs measurements of at "
            f"most {MOST_DENSE:,} elements; got {size:,}. Give one standard deviation for each "
            "element instead"
        )
    full = noise.matrix(shape)
    roots = torch.zeros(len(flat), size, size, dtype=torch.float64)
    for n, seen in enumerate(flat.cpu()):
        index = seen.nonzero().flatten()
        root = torch.linalg.cholesky(full[index][:, index])
        eye = torch.eye(len(index), dtype=torch.float64)
        inverse = torch.linalg.solve_triangular(root, eye, upper=False)
        roots[n, index[:, None], index[None]] = inverse
    return roots
