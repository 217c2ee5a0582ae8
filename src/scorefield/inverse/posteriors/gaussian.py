"""Methods that take x0 given x for a normal law N(D(x), V(x)).

The posterior mean is then

    D_y = D + V^T A^T (A V A^T + noise_std² I)^-1 (y - A D)

up to what each of them leaves out of V or of its derivative.
"""

from typing import ClassVar

import torch
from torch import Tensor

from ...conditions import Condition
from ...errors import InputError
from ...models import ScoreModel, jacobian
from ...values import finite, one_of, whole
from ..problem import Problem
from ..solve import conjugate_gradients
from .base import Posterior, gauss_newton, one_level, prior_variance

JACOBIANS = ("full", "row-sum")
MOST_FULL = 1024  # elements of a measurement for which TMPD makes the whole matrix A V A^T
USUALLY_FULL = 32
SMALL, SMALL_ITERATIONS, ITERATIONS = 64, 5, 1  # elements; conjugate gradients of MMPS


class PiGDM(Posterior):
    """Pseudo-inverse guidance (Song et al. 2023, "Pseudoinverse-guided diffusion models").

        V = r² I,  r² = s² sigma² / (s² + sigma²)
        D_y = D + sigma² J^T A^T (r² A A^T + noise_std² I)^-1 (y - A D),  J = dD/dx

    s is the standard deviation of the prior, which the paper takes to be 1. One evaluation and one
    vector-Jacobian product.

    Args:
        inner: The prior.
        problem: The observation in model units.
        prior_std: s in model units; None: that of the model's moments.

    Raises:
        InputError: s is not known.
    """

    exact_for: ClassVar[str] = "a normal prior with covariance s² I, any linear operator and noise"
    approximate_because: ClassVar[str] = (
        "the covariance of x0 given x is taken for r² I, whatever the prior's directions and modes"
    )

    def __init__(self, inner: ScoreModel, problem: Problem, prior_std: float | None = None) -> None:
        super().__init__(inner, problem)
        if prior_std is not None:
            prior_std = finite(prior_std, "prior_std", 0.0, above=True)
        self.variance = prior_variance(inner, prior_std)

    def posterior_mean(self, x: Tensor, sigma: Tensor, condition: Condition | None) -> Tensor:
        """See the class."""
        denoised, product = jacobian(self.inner, x, sigma, condition)
        local, residual = gauss_newton(self.problem, denoised)
        self.note_residual(residual)
        square = one_level(sigma) ** 2
        solved = local.solve(residual, self.variance * square / (self.variance + square))
        return denoised + square * product(local.operator.A_adjoint(solved))


class TMPD(Posterior):
    """Tweedie moment projected diffusion (Boys et al. 2023, arXiv 2310.06721).

        V = sigma² J,  J = dD/dx
        D_y = D + sigma² J^T A^T (A V A^T + noise_std² I)^-1 (y - A D)

    Args:
        inner: The prior.
        problem: The observation in model units.
        jacobian: "full" makes the matrix A V A^T, one vector-Jacobian product for each element of
            the measurement; "row-sum" is the published approximation of that matrix by the diagonal
            matrix of its row sums, A V A^T 1, one product. None: "full" up to 32 elements.

    Raises:
        InputError: For a measurement of more than 1,024 elements and jacobian="full".
    """

    exact_for: ClassVar[str] = 'jacobian="full": any normal prior, any linear operator and noise'
    approximate_because: ClassVar[str] = (
        "x0 given x is taken for normal and its covariance for constant in x; "
        'jacobian="row-sum" also leaves out how elements of the measurement go together'
    )

    def __init__(self, inner: ScoreModel, problem: Problem, jacobian: str | None = None) -> None:
        super().__init__(inner, problem)
        size = problem.y[0].numel()
        usual = "full" if size <= USUALLY_FULL else "row-sum"
        self.jacobian = usual if jacobian is None else one_of(jacobian, JACOBIANS, "jacobian")
        if self.jacobian == "full" and size > MOST_FULL:
            raise InputError(
                f'jacobian="full" of tmpd is for measurements of at most {MOST_FULL:,} elements; '
                f'got {size:,}. Use jacobian="row-sum", or method="mmps"'
            )

    def posterior_mean(self, x: Tensor, sigma: Tensor, condition: Condition | None) -> Tensor:
        """See the class."""
        denoised, product = jacobian(self.inner, x, sigma, condition)
        local, residual = gauss_newton(self.problem, denoised)
        self.note_residual(residual)
        square, operator = one_level(sigma) ** 2, local.operator

        def spread(v: Tensor) -> Tensor:
            return square * operator.A(product(operator.A_adjoint(v)))

        if self.jacobian == "full":
            solved = _solve_dense(spread, residual, local)
        else:
            variance = spread(torch.ones_like(residual)).clamp(min=0.0) + local.noise_std**2
            usable = variance > 0
            solved = torch.where(usable, residual / torch.where(usable, variance, 1.0), 0.0)
        return denoised + square * product(operator.A_adjoint(solved))


def _solve_dense(spread: object, residual: Tensor, local: Problem) -> Tensor:
    """(A V A^T + noise_std² I)^+ r with the matrix made column by column."""
    assert callable(spread)
    size = residual[0].numel()
    columns = []
    for k in range(size):
        unit = torch.zeros_like(residual).flatten(1)
        unit[:, k] = 1.0
        columns.append(spread(unit.reshape(residual.shape)).flatten(1))
    matrix = torch.stack(columns, 2).to(torch.float64)
    matrix = (matrix + matrix.mT) / 2
    values, vectors = torch.linalg.eigh(matrix)
    eigen = values.clamp(min=0.0) + local.noise_std**2
    usable = eigen > 1e-12 * eigen.amax(1, keepdim=True)
    inverse = torch.where(usable, 1 / torch.where(usable, eigen, 1.0), 0.0)
    wide = residual.flatten(1).to(torch.float64)
    found = torch.einsum("bij,bj,bkj,bk->bi", vectors, inverse, vectors, wide)
    return found.to(residual.dtype).reshape(residual.shape)


class MMPS(Posterior):
    """Moment matching posterior sampling (Rozet et al. 2024, arXiv 2405.13712).

        V = sigma² J,  J = dD/dx
        D_y = D + sigma² J^T A^T u,  (A V A^T + noise_std² I) u = y - A D

    The system is solved by conjugate gradients, without a matrix: an iteration takes one
    vector-Jacobian product, for which J is taken for symmetric, as that of an exact denoiser is.

    Args:
        inner: The prior.
        problem: The observation in model units.
        iterations: Most iterations of conjugate gradients, 1 or more. None: 5 for measurements of
            up to 64 elements, else 1, which on images did best (docs/restore.md).
        tolerance: Relative residual at which a row is done.

    Raises:
        InputError: For numbers out of range.
    """

    usual_evaluations: ClassVar[int] = 50  # each with several products of the Jacobian
    exact_for: ClassVar[str] = (
        "any normal prior, any linear operator and noise, once conjugate gradients have converged"
    )
    approximate_because: ClassVar[str] = (
        "x0 given x is taken for normal and its covariance for constant in x; few iterations leave "
        "out directions of small variance"
    )

    def __init__(
        self,
        inner: ScoreModel,
        problem: Problem,
        iterations: int | None = None,
        tolerance: float = 1e-4,
    ) -> None:
        super().__init__(inner, problem)
        few = problem.y[0].numel() <= SMALL
        usual = SMALL_ITERATIONS if few else ITERATIONS
        self.iterations = usual if iterations is None else whole(iterations, "iterations", 1)
        self.tolerance = finite(tolerance, "tolerance", 0.0)

    def posterior_mean(self, x: Tensor, sigma: Tensor, condition: Condition | None) -> Tensor:
        """See the class."""
        denoised, product = jacobian(self.inner, x, sigma, condition)
        local, residual = gauss_newton(self.problem, denoised)
        self.note_residual(residual)
        square, operator = one_level(sigma) ** 2, local.operator
        solved = conjugate_gradients(
            lambda v: square * operator.A(product(operator.A_adjoint(v))) + local.noise_std**2 * v,
            residual,
            self.tolerance,
            self.iterations,
            local.noise_std**2,
        )
        self.report.iterations += solved.iterations
        self.report.worst_residual = max(self.report.worst_residual, float(solved.residual.max()))
        return denoised + square * product(operator.A_adjoint(solved.x))


class DDNM(Posterior):
    """Denoising diffusion null-space model (Wang et al. 2022, arXiv 2212.00490).

        D_y = D + V L S^+ U^T (y - A D),  A = U S V^T

    L = min(1, sigma s_i / noise_std) for each singular value s_i; without noise L = 1, which is the
    paper's Eq. 13, D + A^+ (y - A D). L limits the noise of y to what x has at this level, as the
    paper's Eq. 19 does; the noise that the paper then takes from its ancestral step is left to
    the sampler. One evaluation and no derivative.

    Args:
        inner: The prior.
        problem: The observation in model units.

    Raises:
        InputError: The operator has no singular value decomposition and there is noise.
    """

    exact_for: ClassVar[str] = (
        "exact observations of a prior whose parts in the range of A^T and in the null space of A "
        "are independent"
    )
    approximate_because: ClassVar[str] = (
        "what y shows reaches the null space only through the next noise levels; with noise, its "
        "weight is a limit and not the posterior's"
    )

    def __init__(self, inner: ScoreModel, problem: Problem) -> None:
        super().__init__(inner, problem)
        if not problem.is_linear_gaussian:
            raise InputError("ddnm needs a linear operator and Gaussian noise")
        self.svd = problem.svd()
        if self.svd is None and problem.noise_std > 0:
            raise InputError(
                "ddnm with noise needs an operator whose singular value decomposition is known, "
                f"which {problem.operator_name} has not; use pigdm, mmps or diffpir"
            )

    def posterior_mean(self, x: Tensor, sigma: Tensor, condition: Condition | None) -> Tensor:
        """See the class."""
        denoised = self.inner.denoise(x, sigma, condition)
        residual = self.problem.residual(denoised)
        self.note_residual(residual)
        if self.svd is None:
            back = self.problem.operator.A_pinv(residual, self.problem.event_shape)
            return denoised + back
        found = self.svd.U_adjoint(residual)
        values = self.svd.values_like(found)
        usable = values > 1e-10 * values.max()
        weight = torch.where(usable, 1 / torch.where(usable, values, 1.0), 0.0)
        if self.problem.noise_std > 0:
            weight = weight * (one_level(sigma) * values / self.problem.noise_std).clamp(max=1.0)
        return denoised + self.svd.V(found * weight)


class DiffPIR(Posterior):
    """Plug-and-play restoration with a half-quadratic splitting (Zhu et al. 2023, 2305.08995).

        D_y = argmin_x0 |y - A x0|² / (2 noise_std²) + lambda |x0 - D|² / (2 sigma²)
            = D + r² A^T (r² A A^T + noise_std² I)^-1 (y - A D),  r² = sigma² / lambda

    Eq. 12 and 13 of the paper. Its mixture of predicted and fresh noise is the sampler's stochastic
    part. One evaluation and no derivative.

    Args:
        inner: The prior.
        problem: The observation in model units.
        weight: lambda, above zero. None: 1 + sigma² / s² at each level, with s from the model's
            moments, so that r² = s² sigma² / (s² + sigma²); the paper has a constant.

    Raises:
        InputError: The weight is not above zero; or it is None and s is not known.
    """

    exact_for: ClassVar[str] = (
        "a normal prior with covariance s² I, any linear operator and noise (weight=None); a flat "
        "prior (weight=1)"
    )
    approximate_because: ClassVar[str] = (
        "the covariance of x0 given x is taken for r² I, so that within one evaluation what y "
        "shows of some elements does not reach others"
    )

    def __init__(self, inner: ScoreModel, problem: Problem, weight: float | None = None) -> None:
        super().__init__(inner, problem)
        self.weight = None if weight is None else finite(weight, "weight", 0.0, above=True)
        self.variance = prior_variance(inner, None) if weight is None else 0.0

    def posterior_mean(self, x: Tensor, sigma: Tensor, condition: Condition | None) -> Tensor:
        """See the class."""
        denoised = self.inner.denoise(x, sigma, condition)
        local, residual = gauss_newton(self.problem, denoised)
        self.note_residual(residual)
        square = one_level(sigma) ** 2
        if self.weight is None:
            spread = self.variance * square / (self.variance + square)
        else:
            spread = square / self.weight
        return denoised + spread * local.operator.A_adjoint(local.solve(residual, spread))
