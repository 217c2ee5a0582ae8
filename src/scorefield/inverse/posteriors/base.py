"""`Posterior`: a prior with an observation, again a score model.

With x = x0 + sigma z and an observation y that depends on x0 alone,

    grad log p_sigma(x | y) = grad log p_sigma(x) + grad log p(y | x)
    D_y(x) = E[x0 | x, y]   = D(x) + sigma² grad log p(y | x)

p(y | x) is an integral over x0 given x. Each method has its own approximation of that law, whose
mean is D(x) and whose covariance is V(x) = sigma² dD/dx.
"""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ...conditions import Condition
from ...errors import InputError
from ...models import ScoreModel
from ...models.base import as_sigma, broadcast
from ...models.wrapped import WithoutDensity
from ..problem import Problem


@dataclass
class Report:
    """What a posterior model found out while it was sampled.

    Attributes:
        evaluations: How often the posterior model was evaluated.
        iterations: Iterations of conjugate gradients through the network, in all.
        worst_residual: The largest relative residual at which one of them ended.
        residual: |y - A(D(x))| of each row at the last evaluation, (B,); None before the first.
    """

    evaluations: int = 0
    iterations: int = 0
    worst_residual: float = 0.0
    residual: Tensor | None = field(default=None, repr=False)


class Posterior(WithoutDensity):
    """A model of x given an observation.

    Args:
        inner: The prior.
        problem: The observation in model units, one row a row of x.

    Attributes:
        exact_for: For which priors and observations the method is exact.
        approximate_because: Why it is approximate otherwise.
        usual_evaluations: Evaluations of the prior a draw, unless the caller decides.
        report: What was found out while sampling.
    """

    usual_evaluations: ClassVar[int] = 100

    exact_for: ClassVar[str] = ""
    approximate_because: ClassVar[str] = ""

    def __init__(self, inner: ScoreModel, problem: Problem) -> None:
        super().__init__(inner)
        self.problem, self.report = problem, Report()

    def summary(self) -> str:
        return f"{type(self).__name__} of an observation and a prior: {self.inner.summary()}"

    @abstractmethod
    def posterior_mean(self, x: Tensor, sigma: Tensor, condition: Condition | None) -> Tensor:
        """The method's E[x0 | x, y].

        Args:
            x: (B, *event) in model units.
            sigma: () or (B,).
            condition: One row a sample, or None.

        Returns:
            (B, *event).
        """

    def denoise(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """E[x0 | x, y] by the method; arguments as for any model.

        Raises:
            InputError: The number of rows is not that of the observation.
        """
        if len(x) != len(self.problem.y):
            raise InputError(
                f"this posterior is of {len(self.problem.y)} observations, one a row; got {len(x)} "
                "rows"
            )
        self.report.evaluations += 1
        return self.posterior_mean(x, as_sigma(sigma), condition)

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        """(D_y - x) / sigma²; arguments as for any model."""
        level = broadcast(as_sigma(sigma), x)
        return (self.denoise(x, sigma, condition) - x) / level.square()

    def note_residual(self, residual: Tensor) -> None:
        """Keep the norms of the residual y - A(D), (B, *measurement), for the record."""
        self.report.residual = residual.detach().flatten(1).norm(dim=1)


def one_level(sigma: Tensor) -> float:
    """sigma as one number, where all rows are at one level.

    Raises:
        InputError: The rows are at several levels.
    """
    first = sigma.flatten()[0]
    if bool((sigma != first).any()):
        raise InputError("a posterior model is evaluated at one sigma for all rows")
    return float(first)


def prior_variance(model: ScoreModel, given: float | None) -> float:
    """The variance s² of the prior in model units: `given` squared, or that of its moments.

    Raises:
        InputError: Neither is known.
    """
    if given is not None:
        return given**2
    moments = model.moments()
    if moments is None:
        raise InputError(
            "this method needs the standard deviation of the data, and this model has no moments; "
            'give it in model units: options={"prior_std": 0.5}'
        )
    return float(moments.variance.mean())


def gauss_newton(problem: Problem, x0: Tensor) -> tuple[Problem, Tensor]:
    """The linear Gaussian problem about x0, and its residual at x0."""
    with torch.no_grad():
        local = problem.linearised(x0)
        return local, local.residual(x0)
