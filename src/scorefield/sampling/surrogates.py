"""Surrogates of a model: products of densities whose probability flow has a closed form.

A model's moments give a mean and the eigenvalues v of its covariance, or the variances of its
elements where the covariance is not known. In each of these directions, independently, the
surrogate has a density of variance v and of one of the SHAPES: normal, or a mixture of normal
densities on a line. The probability flow of a density on a line keeps the order of its points, so
that it takes the quantile u of the terminal law to the quantile u of the density,

    x0 = F^-1(Phi(z)),    x_T = sqrt(v + sigma_T²) z

The difference between a sampler's end and this x0 is the error of its steps and of its start from a
normal law; its root mean square over z is the Wasserstein-2 distance between the law of the
sampler's results and the density, as long as the sampler also keeps the order of the points.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from ..conditions import Condition
from ..models import Moments, ScoreModel, broadcast

# Directions of the normal shape, and of each other shape, at most; the variances of more directions
# are averaged in groups of almost equal size.
MOST_DIRECTIONS, FEW_DIRECTIONS = 256, 24
# Points of the terminal law, at the middle of intervals of equal probability. Their number is even:
# the middle point between two modes may end in either of them, so that no solver is right there.
QUANTILES = 96
BISECTIONS = 80
FARTHEST = 12.0  # standard deviations between which quantiles are searched


@dataclass(frozen=True)
class Shape:
    """A mixture of equally wide normal densities on a line, of mean 0 and variance 1.

    Args:
        places: Where the components lie, before the mixture is centred and scaled.
        weights: Their weights.
        width: Standard deviation of a component, as a fraction of the standard deviation of all.
    """

    places: tuple[float, ...]
    weights: tuple[float, ...]
    width: float

    def components(self) -> tuple[Tensor, Tensor]:
        """(means, weights) of the components of the density with variance 1, float64."""
        weights = torch.tensor(self.weights, dtype=torch.float64)
        weights = weights / weights.sum()
        means = torch.tensor(self.places, dtype=torch.float64)
        means = means - (weights * means).sum()
        spread = (weights * means.square()).sum()
        if float(spread) > 0:
            means = means * ((1 - self.width**2) / spread).sqrt()
        return means, weights


#: The shapes by name. On "normal" the error is exact for the normal density of the model's moments.
SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "normal": Shape((0.0,), (1.0,), 1.0),
        "two modes": Shape((-1.0, 1.0), (1.0, 1.0), 0.3),
        "uneven modes": Shape((0.0, 1.0), (1.0, 4.0), 0.15),
        "rare mode": Shape((0.0, 1.0), (1.0, 8.0), 0.1),
        "three modes": Shape((-1.0, 0.0, 1.3), (0.5, 0.2, 0.3), 0.15),
        "five modes": Shape((-2.0, -1.0, 0.0, 1.0, 2.0), (1.0,) * 5, 0.1),
    }
)


def spectrum(moments: Moments) -> Tensor:
    """Eigenvalues of the covariance, or variances where it is not known: (K,) float64, ascending.

    Args:
        moments: Moments of the whole data, without a dimension of conditions.

    Returns:
        The numbers.
    """
    if moments.covariance is not None:
        return torch.linalg.eigvalsh(moments.covariance).clamp(min=0)
    return moments.variance.flatten().sort().values


def grouped(values: Tensor, most: int) -> Tensor:
    """At most `most` numbers: of more, neighbours are averaged in groups of almost equal size."""
    if len(values) <= most:
        return values
    return torch.stack([part.mean() for part in values.tensor_split(most)])


class Surrogate(ScoreModel):
    """Independent elements, a block of them for each of the shapes.

    Args:
        variances: The variances of all directions, ascending, one of them above zero.
        shapes: The shapes by name. The block of "normal" has up to MOST_DIRECTIONS elements, the
            others up to FEW_DIRECTIONS.
    """

    sigma_min, sigma_max = 0.0, float("inf")

    def __init__(self, variances: Tensor, shapes: Mapping[str, Shape]) -> None:
        super().__init__()
        self.shapes = dict(shapes)
        self.variances = {
            name: grouped(variances, MOST_DIRECTIONS if name == "normal" else FEW_DIRECTIONS)
            for name in shapes
        }
        sizes = torch.tensor([len(block) for block in self.variances.values()])
        self.std = torch.cat([*self.variances.values()]).sqrt()
        self.event_shape = (len(self.std),)
        widest = max(len(shape.places) for shape in shapes.values())
        means = torch.zeros(len(shapes), widest, dtype=torch.float64)
        shares = torch.zeros_like(means)
        for row, shape in enumerate(shapes.values()):
            count = len(shape.places)
            means[row, :count], shares[row, :count] = shape.components()
        widths = torch.tensor([shape.width for shape in shapes.values()], dtype=torch.float64)
        self.means = means.repeat_interleave(sizes, 0)  # of the elements / their std
        self.log_shares = shares.log().repeat_interleave(sizes, 0)
        self.widths = widths.repeat_interleave(sizes)

    def summary(self) -> str:
        return f"Surrogate of {len(self.shapes)} shapes, {self.event_shape[0]} elements"

    def denoise(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """The posterior mean; arguments and result are those of `ScoreModel.denoise`."""
        level = broadcast(self.check(x, sigma, condition), x)
        means = self.std[:, None] * self.means
        inside = (self.std * self.widths).square()
        total = (inside + level.square())[..., None]
        gap = x[..., None] - means
        shares = (self.log_shares - gap.square() / (2 * total)).softmax(-1)
        denoised: Tensor = (shares * (means + inside[:, None] / total * gap)).sum(-1)
        return denoised

    def moments(self, condition: Condition | None = None) -> Moments:
        """Mean zero and the variances, as independent elements."""
        return Moments(torch.zeros_like(self.std), self.std.square())

    def quantile(self, u: Tensor) -> Tensor:
        """F^-1(u) of every element, by bisection.

        Args:
            u: (B,) probabilities in (0, 1).

        Returns:
            (B, elements).
        """
        shares = self.log_shares.exp()
        low = torch.full((len(u), len(self.std)), -FARTHEST, dtype=torch.float64)
        high = -low
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            gap = (middle[..., None] - self.means) / self.widths[:, None]
            below = (shares * torch.special.ndtr(gap)).sum(-1) < u[:, None]
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return self.std * (low + high) / 2
