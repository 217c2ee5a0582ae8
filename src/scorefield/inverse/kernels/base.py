"""`PosteriorKernel`: a sampling kernel that holds an observation, and the update they share.

For x ~ N(w, v I) and y = A x + n with n ~ N(0, C), C = noise_std² I + b A A^T, the conditional law
of x given y is drawn by

    x = w' + v A^T (v A A^T + C)^-1 (y - A w' + n),   w' ~ N(w, v I)

(Matheron's rule; "perturbed observations" in the ensemble Kalman filter). Everything but w' is
`observe`. It evaluates A and its adjoint, never the network. Where the singular value decomposition
is known the system is solved by it, and C may be singular; else by conjugate gradients.

A problem that is not linear and Gaussian is replaced by its linearisation about w'
(`Problem.linearised`): one step of Gauss-Newton and Fisher scoring, whose log likelihood has the
right gradient there, so that errors are of second order in v. A law of the noise without Fisher
information has no such form; there x = w' + v grad log p(y | w').
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import InputError
from ...models import ScoreModel
from ...sampling.kernel import Kernel
from ...sampling.ladders import annealed_ladder, reverse_ladder
from ...sampling.state import Draws, State
from ...values import describe
from ..problem import Problem

#: Evaluations of the model a draw, the last denoise included, unless the caller decides.
USUAL_EVALUATIONS = 100
LOOSE = 1e-4  # relative residual of the solve for a linearised problem, itself not exact
#: Largest move by a linearised likelihood, in standard deviations of the prior's draw.
FURTHEST = 4.0


@dataclass(frozen=True)
class PosteriorKernel(Kernel):
    """A kernel whose samples are those of x0 given an observation.

    Args:
        problem: The observation in model units, one row a row of the state.

    Attributes:
        exact_for: For which priors and observations the method is exact.
        approximate_because: Why it is approximate otherwise.
        option_help: A few words on each option.
        usual_evaluations: Evaluations of the model a draw, unless the caller decides.

    Raises:
        InputError: The method is not for such a problem (`unfit`).
    """

    problem: Problem

    option_help: ClassVar[Mapping[str, str]] = MappingProxyType({})
    usual_evaluations: ClassVar[int] = USUAL_EVALUATIONS
    exact_for: ClassVar[str] = ""
    approximate_because: ClassVar[str] = ""
    draws_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.problem, Problem):
            raise InputError(
                f"{type(self).__name__} needs a Problem, an observation in model units; got "
                f"{describe(self.problem)}. `restore` makes one of a Measurement"
            )
        why = self.unfit(self.problem)
        if why is not None:
            raise InputError(why)

    @staticmethod
    def unfit(problem: Problem) -> str | None:
        """Why the method is not for a problem, in a sentence; None where it is."""
        return None

    def options(self) -> dict[str, Any]:
        """The options by name; the problem is none of them."""
        return {name: value for name, value in super().options().items() if name != "problem"}

    def start(self, model: ScoreModel, ladder: Tensor, state: State, draws: Draws) -> State:
        """The state, after its rows were counted.

        Raises:
            InputError: The problem has another number of rows.
        """
        check_rows(self.problem, state)
        return state


def check_rows(problem: Problem, state: State) -> None:
    """Refuse a state whose rows are not those of the problem.

    Raises:
        InputError: The message has both numbers.
    """
    if len(problem.y) != len(state.x):
        raise InputError(
            f"the problem holds {len(problem.y)} observations, one a row; the state has "
            f"{len(state.x)} rows. Use Problem.take"
        )


def is_exact(problem: Problem) -> bool:
    """Whether the observation has no noise."""
    return problem.noise is None and problem.noise_std == 0


def exact_unfit(problem: Problem, method: str) -> str | None:
    """Why an exact observation is refused: it needs a singular value decomposition."""
    if not is_exact(problem) or problem.svd() is not None:
        return None
    kind = problem.operator_name
    which = (
        f"{kind} has no known singular value decomposition"
        if problem.operator.linear
        else f"{kind} is not linear"
    )
    return (
        f"{method} takes an exact observation (noise_std=0) through the singular value "
        f"decomposition of a linear operator, and {which}. State the noise (noise_std > 0)"
    )


def budgeted_ladder(model: ScoreModel, levels: int | None, usual: int | None) -> Tensor:
    """An annealed ladder.

    Args:
        model: Its own levels, range and moments decide.
        levels: The number of levels; None for the usual number.
        usual: The usual number; None for that of `annealed_ladder`. A model's own levels are
            thinned to it, and to USUAL_EVALUATIONS in any case.

    Returns:
        The ladder (L,), float64, decreasing.
    """
    if model.ladder is None:
        return annealed_ladder(model, usual if levels is None else levels)
    most = min(USUAL_EVALUATIONS - 1, len(model.ladder))
    most = most if usual is None else min(most, usual)
    return reverse_ladder(model, most if levels is None else levels)


def _white(draws: Draws, problem: Problem) -> Tensor:
    """Standard normals of y's shape, from those of the example's shape; 0 where missing."""
    size, drawn = problem.y[0].numel(), [draws.normal().flatten(1)]
    while sum(part.shape[1] for part in drawn) < size:
        drawn.append(draws.normal().flatten(1))
    noise = torch.cat(drawn, 1)[:, :size].reshape(problem.y.shape)
    return noise if problem.known is None else torch.where(problem.known, noise, 0.0)


def observe(problem: Problem, w: Tensor, variance: float, blur: float, draws: Draws) -> Tensor:
    """Draw x given y for a prior N(., variance I), of which w is a draw.

    Args:
        problem: The observation; linearised about w where it is not linear with Gaussian noise.
        w: (B, *event), draws of the prior.
        variance: v of the module docstring, above zero.
        blur: b of the module docstring, zero or more.
        draws: Random numbers for n.

    Returns:
        (B, *event).
    """
    if problem.noise is not None and not problem.noise.has_information:
        return w + _limited(variance * _slope(problem, w), variance)
    local = problem.linearised(w)
    blurred = w + math.sqrt(blur) * draws.normal() if blur > 0 else w
    apart = local.residual(blurred)
    if local.noise_std > 0:
        apart = apart + local.noise_std * _white(draws, local)
    exact = problem.is_linear_gaussian
    solved = local.solve(apart, variance + blur, None if exact else LOOSE)
    shift = variance * local.operator.A_adjoint(solved)
    return w + (shift if exact else _limited(shift, variance))


def _slope(problem: Problem, x: Tensor) -> Tensor:
    """grad log p(y | x), like x."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(problem.log_likelihood(x).sum(), x)
    result: Tensor = slope
    return result


def _limited(shift: Tensor, variance: float) -> Tensor:
    """`shift` with a root mean square of at most FURTHEST sqrt(variance), each row by itself.

    A linearisation holds near its point only. In the limit of small v no row is
    limited.
    """
    size = shift.flatten(1).square().mean(1).sqrt().reshape(-1, *[1] * (shift.ndim - 1))
    most = FURTHEST * math.sqrt(variance)
    return torch.where(size > most, shift * (most / torch.where(size > 0, size, 1.0)), shift)
