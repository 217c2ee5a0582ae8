"""Denoising diffusion restoration models (Kawar et al. 2022), in variance-exploding form.

In the singular value decomposition A = U S V^T a linear observation is one number a coefficient,
yb_i = (U^T y)_i / s_i, with noise of standard deviation t_i = noise_std / s_i.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor

from ...errors import InputError
from ...models import ScoreModel
from ...sampling.ladders import reverse_ladder
from ...sampling.state import Draws, State
from ...values import finite
from ..operators import SVD
from ..operators.base import RANK_TOLERANCE
from ..problem import Problem
from .base import PosteriorKernel

LEVELS = 20  # the paper's number of steps; with noise more of them are worse, see the class


@dataclass(frozen=True)
class DDRM(PosteriorKernel):
    """Kawar et al. 2022 (arXiv 2201.11793), Eq. 7 and 8, from sigma a to sigma b.

    With D the denoised x, D_i = (V^T D)_i, and z_i = (V^T z)_i of white noise z, a coefficient
    becomes

        no observation (s_i = 0)   D_i + sqrt(1 - eta²) (b/a) (x_i - D_i) + eta b z_i
        b < t_i                    D_i + sqrt(1 - eta²) (b/t_i) (yb_i - D_i) + eta b z_i
        b >= t_i                   (1 - eta_b) D_i + eta_b yb_i + sqrt(b² - eta_b² t_i²) z_i

    The first line also holds for what is orthogonal to all columns of V. At the first level a
    coefficient with sigma_1 >= t_i starts at yb_i + sqrt(sigma_1² - t_i²) z_i (Eq. 7); others start
    at the prior. One evaluation a step. The paper ends with D at the last level; where there is no
    noise it puts yb_i in place, which `step` leaves to the caller.

    On Gaussian priors every line is linear, and mean and covariance after a run follow without
    sampling. The bias does not vanish for a fine ladder: at a fixed eta, fresh noise is drawn at
    each level, whose law is not that of the reverse process, and below t_i the pull towards yb_i is
    repeated at each level, so that with more levels the mean tends to yb_i (no prior) and the
    variance to zero.

    Args:
        problem: The observation in model units, one row a row of the state.
        eta: Fresh noise of coefficients that are not observed, or observed with more noise than x
            has, as a fraction of b, in [0, 1].
        eta_b: Weight of the observation where x has more noise, in [0, 1].

    Raises:
        InputError: For numbers out of range, and problems that are not linear with Gaussian noise
            and a known singular value decomposition.
    """

    eta: float = 0.85
    eta_b: float = 1.0

    option_help: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "eta": "fresh noise where y has more noise than x, as a fraction, 0 to 1",
            "eta_b": "weight of y where x has more noise, 0 to 1",
        }
    )
    usual_evaluations: ClassVar[int] = LEVELS
    help: ClassVar[str] = "spectral restoration by the operator's SVD (Kawar et al. 2022)"
    exact_for: ClassVar[str] = (
        "a prior that is one point; exact observations of a normal prior whose coefficients along "
        "the singular vectors are independent, with eta=0 and in the limit of a fine ladder"
    )
    approximate_because: ClassVar[str] = (
        "each level takes D for x0 itself and draws fresh noise about it; with noise the weight of "
        "the observation depends on the number of levels and not on the prior's variance"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "eta", finite(self.eta, "eta", 0.0, 1.0))
        object.__setattr__(self, "eta_b", finite(self.eta_b, "eta_b", 0.0, 1.0))

    @staticmethod
    def unfit(problem: Problem) -> str | None:
        """DDRM needs a linear operator, Gaussian noise and a singular value decomposition."""
        if not problem.operator.linear:
            return f"ddrm needs a linear operator; {problem.operator_name} is not"
        if problem.noise is not None:
            return f"ddrm needs Gaussian noise; got {type(problem.noise).__name__}"
        if problem.svd() is None:
            return (
                "ddrm needs an operator whose singular value decomposition is known, which "
                f"{problem.operator_name} has not; use daps or another method"
            )
        return None

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """The model's own levels, thinned, or Karras'."""
        if levels is None:
            levels = LEVELS if model.ladder is None else min(LEVELS, len(model.ladder))
        return reverse_ladder(model, levels)

    def start(self, model: ScoreModel, ladder: Tensor, state: State, draws: Draws) -> State:
        """Observed coefficients at the first level."""
        state = super().start(model, ladder, state, draws)
        svd, first = self._svd(), float(ladder[0])
        shown, noise, usable = self._observed(svd)
        inside = usable & (noise <= first)
        spread = (first**2 - torch.where(inside, noise, 0.0).square()).sqrt()
        wanted = shown + spread * svd.V_adjoint(draws.normal())
        change = torch.where(inside, wanted - svd.V_adjoint(state.x), 0.0)
        return state.replace(x=state.x + svd.V(change))

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """The step of the class docstring."""
        x, here, there = state.x, float(sigma), float(sigma_next)
        keep, svd = math.sqrt(1 - self.eta**2), self._svd()
        denoised, z = model.denoise(x, sigma), draws.normal()
        plain = denoised + keep * (there / here) * (x - denoised) + self.eta * there * z
        shown, noise, usable = self._observed(svd)
        expected, white = svd.V_adjoint(denoised), svd.V_adjoint(z)
        below = noise > there
        pull = keep * there / torch.where(below, noise, 1.0)
        finer = expected + pull * (shown - expected) + self.eta * there * white
        left = there**2 - (self.eta_b * torch.where(below, 0.0, noise)).square()
        coarser = expected + self.eta_b * (shown - expected) + left.sqrt() * white
        wanted = torch.where(below, finer, coarser)
        change = torch.where(usable, wanted - svd.V_adjoint(plain), 0.0)
        return state.replace(x=plain + svd.V(change))

    def _svd(self) -> SVD:
        found = self.problem.svd()
        if found is None:
            raise InputError(self.unfit(self.problem))
        return found

    def _observed(self, svd: SVD) -> tuple[Tensor, Tensor, Tensor]:
        """yb and t of the module docstring, and where the singular value is not zero."""
        found = svd.U_adjoint(self.problem.y)
        values = svd.values_like(found)
        usable = values > RANK_TOLERANCE * values.max()
        divisor = torch.where(usable, values, 1.0)
        return found / divisor, self.problem.noise_std / divisor, usable
