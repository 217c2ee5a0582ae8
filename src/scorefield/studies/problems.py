"""Problems of the sampler study: densities whose exact samples are known, and trained runs.

    three-modes   three uneven modes in the plane
    grid-8d       25 modes of unit covariance at multiples of 8, in 8 dimensions
    narrow-16d    40 modes of standard deviation 0.1 with means N(0, I), in 16 dimensions
    ring          32 modes of standard deviation 0.1 on the unit circle
    ill-scaled    a normal distribution in 8 dimensions whose covariance has condition number 1e4

`PROBLEMS` names the factories. A problem of the user's own is one more entry:

    PROBLEMS["mine"] = lambda: exact_problem("mine", "two modes", GaussianMixture(...))
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol as Interface
from typing import cast

import torch
from torch import Tensor

from ..conditions import Condition
from ..data import open_card_data
from ..errors import InputError
from ..exact import Gaussian, GaussianMixture
from ..models import ScoreModel
from ..values import did_you_mean

Draw = Callable[[int, int], Tensor]


class Density(Interface):
    """A score model that draws exact samples."""

    def sample(self, count: int, *, seed: int) -> Tensor:
        """Draw (count, *event) independent samples; draw k is a function of (seed, k)."""


@dataclass(frozen=True)
class Problem:
    """A problem of the study.

    Attributes:
        name: Its name.
        summary: A line about it.
        model: The score model that the samplers evaluate.
        exact: Makes (count, *event) exact samples in data units from a count and a seed; None for a
            trained model, whose reference is its own converged flow.
        held_out: (N, *event) examples in data units that a trained model did not see; None for
            exact densities.
        standardised: Whether distances are in model units, where every column of a table has the
            same standard deviation, instead of data units.
    """

    name: str
    summary: str
    model: ScoreModel
    exact: Draw | None = None
    held_out: Tensor | None = None
    standardised: bool = False

    def measured(self, x: Tensor) -> Tensor:
        """Samples (N, *event) in data units, in the units in which distances are taken; float64."""
        x = x.to(torch.float64)
        return self.model.units.to_model(x) if self.standardised else x


class IsotropicMixture(GaussianMixture):
    """A mixture whose components have one variance c > 0, evaluated by two matrix products.

    With v = c + sigma², the responsibilities are softmax(log w_k + (x.m_k - |m_k|²/2) / v), since
    |x|² is common to all components, and D = (c x + sigma² sum_k r_k m_k) / v. It is the parent's
    result up to rounding, several times as fast.

    Args:
        means: (K, d).
        variance: c, above zero.
    """

    def __init__(self, means: Tensor, variance: float) -> None:
        super().__init__(means, variance)
        self.variance = variance

    def logits(self, x: Tensor, v: Tensor | float) -> Tensor:
        """Log responsibilities (N, K) of x (N, d), each row up to a constant, for variance v."""
        return (x @ self.means.T - self.means.square().sum(1) / 2) / v + self.log_weights

    def denoise(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        level = self.check(x, sigma, condition).to(x.device, torch.float64)
        square = level.square().reshape(-1, 1)
        v = self.variance + square
        points = x.to(torch.float64)
        mean = self.logits(points, v).softmax(1) @ self.means
        return ((self.variance * points + square * mean) / v).to(x.dtype)

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        level = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1).square()
        if not bool((level > 0).all()):
            return super().score(x, sigma, condition)
        return ((self.denoise(x, sigma, condition) - x) / level).to(x.dtype)


def exact_problem(name: str, summary: str, model: ScoreModel) -> Problem:
    """A problem of a density that draws exact samples.

    Args:
        name: Its name.
        summary: A line about it.
        model: A score model with `sample(count, seed=...)`, such as the densities of `exact`, in
            data units.

    Returns:
        The problem.
    """
    density = cast(Density, model)
    return Problem(name, summary, model, lambda count, seed: density.sample(count, seed=seed))


def three_modes() -> Problem:
    """Three modes in the plane with weights 0.2, 0.3, 0.5 and variances 0.25, 1, 0.5."""
    means = [[-4.0, -3.0], [4.0, -1.0], [0.0, 5.0]]
    model = GaussianMixture(means, [0.25, 1.0, 0.5], [0.2, 0.3, 0.5])
    return exact_problem("three-modes", "three uneven modes in 2-D", model)


def grid_8d() -> Problem:
    """25 modes with means (8i, 8j, 8i, 8j, ...), i and j from -2 to 2, and covariance I."""
    steps = torch.arange(-2, 3, dtype=torch.float64) * 8
    means = torch.cartesian_prod(steps, steps).repeat(1, 4)
    return exact_problem("grid-8d", "grid of 25 modes in 8-D", IsotropicMixture(means, 1.0))


def narrow_16d() -> Problem:
    """40 modes of standard deviation 0.1 with means drawn once from N(0, I)."""
    means = torch.randn(40, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return exact_problem("narrow-16d", "40 narrow modes in 16-D", IsotropicMixture(means, 0.1**2))


def ring() -> Problem:
    """32 modes of standard deviation 0.1 on the unit circle."""
    angle = torch.arange(32, dtype=torch.float64) * 2 * math.pi / 32
    means = torch.stack([angle.cos(), angle.sin()], 1)
    return exact_problem("ring", "ring of 32 modes in 2-D", IsotropicMixture(means, 0.1**2))


def ill_scaled() -> Problem:
    """A rotated normal distribution with eigenvalues from 1 down to 1e-4, at equal ratios."""
    generator = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))
    spectrum = torch.logspace(0, -4, 8, dtype=torch.float64)
    model = Gaussian(torch.zeros(8, dtype=torch.float64), (q * spectrum) @ q.T)
    return exact_problem("ill-scaled", "Gaussian of condition number 1e4 in 8-D", model)


#: The problems by name; each value makes the problem.
PROBLEMS: dict[str, Callable[[], Problem]] = {
    "three-modes": three_modes,
    "grid-8d": grid_8d,
    "narrow-16d": narrow_16d,
    "ring": ring,
    "ill-scaled": ill_scaled,
}


def find_problem(name: str) -> Problem:
    """Find a problem by its name.

    Args:
        name: A key of PROBLEMS.

    Returns:
        The problem.

    Raises:
        InputError: For an unknown name.
    """
    if name not in PROBLEMS:
        known = ", ".join(PROBLEMS)
        raise InputError(
            f"unknown problem {name!r}{did_you_mean(name, PROBLEMS)} There are {known}"
        )
    return PROBLEMS[name]()


def run_problem(model: ScoreModel, name: str = "run") -> Problem:
    """A problem of a trained model, whose reference is its own converged probability flow.

    Distances of tables and points are in model units, so that no column hides the others.

    Args:
        model: A trained model; where its data can be opened, held-out examples are compared too.
        name: Its name in the tables.

    Returns:
        The problem.

    Raises:
        InputError: For a model that is defined at the levels of its ladder only: it has no flow.
    """
    if model.ladder_only:
        raise InputError(
            "the reference of a trained model is its converged flow; this model is known at "
            "the levels of its ladder only, so that it has none"
        )
    held_out = None
    try:
        split = open_card_data(model.card)
        held_out = split.dataset.floats(split.held_out).to(torch.float64)
    except InputError:
        pass  # imported models and data that are gone: the flow alone is compared
    summary = f"trained model {name} against its own flow"
    return Problem(name, summary, model, None, held_out, standardised=len(model.event_shape) == 1)


def components_of(model: ScoreModel, x: Tensor) -> Tensor | None:
    """The most probable component of each sample.

    Args:
        model: A score model.
        x: (N, *event) in data units.

    Returns:
        int64 (N,); None where the model is no mixture of two or more components.
    """
    if not isinstance(model, GaussianMixture) or len(model.means) < 2:
        return None
    if isinstance(model, IsotropicMixture):
        return model.logits(x.to(torch.float64), model.variance).argmax(1)
    found = []
    for part in x.to(torch.float64).flatten(1).split(2048):
        apart = part[:, None] - model.means
        if model.vectors is not None:
            apart = torch.einsum("bkd,kde->bke", apart, model.vectors)
        squares = (apart.square() / model.spectrum).sum(-1) + model.spectrum.log().sum(-1)
        found.append((model.log_weights - squares / 2).argmax(1))
    return torch.cat(found)
