"""Diffusion posterior sampling (Chung et al. 2023, arXiv 2209.14687)."""

from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from ...conditions import Condition
from ...errors import InputError
from ...models import ScoreModel, jacobian
from ...models.base import broadcast
from ...values import finite, one_of
from ..problem import Problem
from .base import Posterior

FORMS = ("norm", "likelihood")
ZETA = 6.0  # chosen on problems of their own, docs/benchmarks.md
POWER_STEPS = 12  # of the power iteration for the largest singular value


class DPS(Posterior):
    """p(y | x) is taken for p(y | x0 = D(x)), as if x decided x0 (Chung et al., Eq. 11).

    Two forms of the step:

        norm          D_y = D - zeta sigma sqrt(m) / a e grad_x |y - A(D(x))|
        likelihood    D_y = D + zeta sigma² grad_x log p(y | x0 = D(x))

    The published algorithm (its Eq. 16 and Algorithm 1) subtracts zeta_i grad |y - A(D)|² in every
    step with zeta_i = zeta' / |y - A(D)|, a push of constant size that does not depend on the
    noise. "norm" is that push at a rate for one unit of ln sigma, so that the result does not
    change with the number of steps; with m elements of y and a, the largest singular value of A,
    the push has the size of sigma in every element that y shows. e = max(0, 1 - sqrt(m) noise_std /
    |y - A(D)|) ends it where the residual is no larger than the noise; without it the draws follow
    the noise of y. zeta = 6 was chosen on seeds and
    observations of their own (docs/benchmarks.md). "likelihood" has the size that the noise
    prescribes, and is stiff where the noise is small.

    Args:
        inner: The prior.
        problem: The observation in model units.
        zeta: The size of the step, above zero.
        form: "norm" or "likelihood". None: "norm" for Gaussian noise, else "likelihood".

    Raises:
        InputError: For a step that is not above zero, and a form that does not fit.
    """

    exact_for: ClassVar[str] = (
        'form="likelihood" with zeta = 1, in the limit in which x decides x0 (sigma far below the '
        "noise of the observation and the width of the prior)"
    )
    approximate_because: ClassVar[str] = (
        "the spread of x0 given x is left out: the draws are too narrow, and off where the noise "
        "is small"
    )

    def __init__(
        self, inner: ScoreModel, problem: Problem, zeta: float = ZETA, form: str | None = None
    ) -> None:
        super().__init__(inner, problem)
        self.zeta = finite(zeta, "zeta", 0.0, above=True)
        usual = "norm" if problem.noise is None else "likelihood"
        self.form = usual if form is None else one_of(form, FORMS, "form")
        if self.form == "norm" and problem.noise is not None:
            raise InputError('form="norm" of dps needs Gaussian noise; use form="likelihood"')
        if self.form == "likelihood" and problem.noise is None and problem.noise_std == 0:
            raise InputError(
                'form="likelihood" of dps divides by the noise, and noise_std is 0; use form="norm"'
            )

    @staticmethod
    def _excess(size: Tensor, noise: Tensor) -> Tensor:
        """1 - |noise|/|r|, zero where the residual is within the noise, without a graph."""
        size = size.detach()
        share = (noise.to(size.dtype) / torch.where(size > 0, size, 1.0)).sqrt()
        return torch.where(size > 0, (1 - share).clamp(min=0.0), 0.0)

    @cached_property
    def gain(self) -> Tensor:
        """The largest singular value of A, (B,), by power iteration from A^T y."""
        rows = len(self.problem.y)
        with torch.no_grad():
            origin = self.problem.y.new_zeros(rows, *self.event_shape)
            local = self.problem.linearised(origin)
            size = self.problem.y.flatten(1).abs().amax(1)
            size = torch.where(size > 0, size, 1.0).reshape(-1, *[1] * (self.problem.y.ndim - 1))
            v = local.operator.A_adjoint(self.problem.y + 1e-3 * size)
            size = v.new_ones(rows)
            for _ in range(POWER_STEPS):
                length = v.flatten(1).norm(dim=1)
                v = v / length.clamp(min=1e-30).reshape(-1, *[1] * (v.ndim - 1))
                image = local.operator.A(v)
                size = image.flatten(1).norm(dim=1)
                v = local.operator.A_adjoint(image)
        return torch.where(size > 0, size, 1.0)

    def posterior_mean(self, x: Tensor, sigma: Tensor, condition: Condition | None) -> Tensor:
        """See the class; one evaluation and one vector-Jacobian product."""
        denoised, product = jacobian(self.inner, x, sigma, condition)
        level = broadcast(sigma, x)
        with torch.enable_grad():
            x0 = denoised.detach().requires_grad_(True)
            residual = self.problem.residual(x0)
            if self.form == "norm":
                size = residual.flatten(1).square().sum(1)
                count = self.problem.observed_elements.to(x.device, torch.float64)
                noise = self.problem.noise_std**2 * count
                value = -torch.where(size > 0, size, 1.0).sqrt() * self._excess(size, noise)
            else:
                value = self.problem.log_likelihood(x0)
            (slope,) = torch.autograd.grad(value.sum(), x0)
        if self.problem.noise is None:
            self.note_residual(residual)
        if self.form == "norm":
            count = self.problem.observed_elements.to(x.device, x.dtype).sqrt()
            rate = self.zeta * level * (count / self.gain).reshape(-1, *[1] * (x.ndim - 1))
        else:
            rate = self.zeta * level.square()
        return denoised + rate * product(slope)
