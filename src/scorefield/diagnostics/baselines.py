"""Baselines of a trained model: two normal distributions fitted to the training part.

For N(m, C) the score of p_sigma and the denoised value are linear,

    s(x) = -(C + sigma² I)^-1 (x - m)          D(x) = m + C (C + sigma² I)^-1 (x - m)

    knowing nothing  m and C = diag(v) from each channel's (column's) mean and variance alone. With
                     standardised data and the edm preconditioner it is the network with output 0,
                     and its expected loss under the edm weight is 1 at every sigma.
    best Gaussian    m and C from training examples, C = (1 - a) S + a tr(S)/d I with the sample
                     covariance S and the a of Ledoit & Wolf 2004: S itself where examples are many,
                     and better than S where they are few.

C = V diag(values) V' + rest (I - V V') with k columns in V, so that images need no d x d matrix.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..conditions import Condition
from ..models import Moments, ScoreModel, broadcast

MOST_EXAMPLES = 1000  # examples for the covariance of events of more than NARROW elements
NARROW = 1024  # elements of an event
MOST_ROWS = 10_000  # examples for the covariance of other events


class Normal(ScoreModel):
    """N(m, V diag(values) V' + rest (I - V V')), in closed form at every noise level.

    Args:
        mean: (*event) in model units.
        rest: Variance of what V does not span: one number, or (*event) without V.
        values: (k,), variances along the columns of `basis`; None for none.
        basis: (d, k) with orthonormal columns; None for none.
        sigma_min: Smallest noise level at which the model is defined.
        sigma_max: Largest noise level at which the model is defined.
    """

    def __init__(
        self,
        mean: Tensor,
        rest: Tensor,
        values: Tensor | None = None,
        basis: Tensor | None = None,
        sigma_min: float = 0.0,
        sigma_max: float = math.inf,
    ) -> None:
        super().__init__()
        self.event_shape = tuple(mean.shape)
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.mean, self.rest, self.values, self.basis = mean, rest, values, basis

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        """The score of the module docstring; a condition is ignored."""
        square = broadcast(self.check(x, sigma), x).square()
        centred = x - self.mean.to(x)
        outside = 1 / (self.rest.to(x) + square)
        found = -outside * centred
        if self.basis is not None and self.values is not None:
            basis, flat = self.basis.to(x), square.flatten(1) if square.ndim else square
            inside = 1 / (self.values.to(x) + flat)
            coordinates = centred.flatten(1) @ basis
            gain = outside.flatten(1) if outside.ndim else outside
            found = found + ((gain - inside) * coordinates @ basis.T).reshape(x.shape)
        return found


class Baselines(NamedTuple):
    """The two distributions of the module docstring.

    Attributes:
        nothing: The normal distribution of each channel's mean and variance ("knowing nothing").
        gaussian: The normal distribution of mean and covariance ("best Gaussian").
        examples: Number of training examples that the covariance is estimated from.
    """

    nothing: Normal
    gaussian: Normal
    examples: int


def shrunk(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and covariance of rows, with the shrinkage of Ledoit & Wolf 2004.

    With S = X'X/n of the centred rows x_k and mu = tr(S)/d, mu I has the weight a = beta²/delta²,

        delta² = |S|² - d mu²,   beta² = min(delta², (sum_k |x_k|⁴/n - |S|²)/n)

    Args:
        x: (n, d) with n >= 1.

    Returns:
        Mean (d,), the variance () outside the basis, the variances (k,) and the basis (d, k), in
        float64: the arguments of `Normal`.
    """
    x = x.double()
    count, elements = x.shape
    mean = x.mean(0)
    centred = x - mean
    values, basis = _principal(centred)
    size = values.square().sum()
    mu = values.sum() / elements
    delta = size - elements * mu.square()
    beta = (centred.square().sum(1).square().mean() - size) / count
    shrinkage = float((beta / delta).clamp(0, 1)) if float(delta) > 0 else 1.0
    rest = shrinkage * mu
    return mean, rest, (1 - shrinkage) * values + rest, basis


def _principal(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (k,) of S = X'X/n that are not zero, and eigenvectors (d, k)."""
    count, elements = centred.shape
    if elements <= count:
        values, basis = torch.linalg.eigh(centred.T @ centred / count)
        return values.clamp_min(0), basis
    values, left = torch.linalg.eigh(centred @ centred.T / count)
    kept = values > 1e-10 * values[-1].clamp_min(torch.finfo(values.dtype).tiny)
    values, left = values[kept], left[:, kept]
    return values, centred.T @ left / (count * values).sqrt()


def fit_baselines(model: ScoreModel, x0: Tensor) -> Baselines:
    """Fit both distributions to a model's training data.

    Args:
        model: The model, for its noise range and, where it has them, the moments of its data.
        x0: Training examples (n, *event) in model units; all of them, or the first MOST_ROWS, or
            the first MOST_EXAMPLES of events of more than NARROW elements.

    Returns:
        The distributions.
    """
    return baselines_of(x0, model.moments(), model.sigma_min, model.sigma_max)


def baselines_of(
    x0: Tensor,
    moments: Moments | None = None,
    sigma_min: float = 0.0,
    sigma_max: float = math.inf,
) -> Baselines:
    """Fit both distributions to examples.

    Args:
        x0: Training examples (n, *event), in any units.
        moments: Mean and variance of all training examples in the same units; None: those of x0.
        sigma_min: Smallest noise level at which the distributions are defined.
        sigma_max: Largest noise level at which they are defined.

    Returns:
        The distributions.
    """
    if moments is None:
        wide = x0.double()
        moments = Moments(wide.mean(0), wide.var(0, correction=0))
    mean, variance = _by_channel(moments.mean.double(), moments.variance.double())
    nothing = Normal(mean, variance, sigma_min=sigma_min, sigma_max=sigma_max)
    centre, rest, values, basis = shrunk(x0.flatten(1).cpu())
    centre = centre.reshape(x0.shape[1:])
    gaussian = Normal(centre, rest, values, basis, sigma_min, sigma_max)
    return Baselines(nothing, gaussian, len(x0))


def examples_for(elements: int) -> int:
    """Number of training examples that a covariance of so many elements is estimated from."""
    return MOST_ROWS if elements <= NARROW else MOST_EXAMPLES


def _by_channel(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Moments of each element to those of its channel; vectors have a channel an element."""
    if mean.ndim < 2:
        return mean, variance
    axes = tuple(range(1, mean.ndim))
    centre = mean.mean(axes, keepdim=True)
    total = (variance + (mean - centre).square()).mean(axes, keepdim=True)
    return centre.expand_as(mean).clone(), total.expand_as(mean).clone()
