"""The prior: the normal distribution from which sampling starts at the largest noise level.

N(mean, sigma_max² I + covariance of x0)       moment-matched, for models with moments
N(0, sigma_max² I)                             for models without
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..conditions import Condition
from ..values import finite
from .base import ScoreModel


@dataclass(frozen=True)
class Prior:
    """A normal distribution of examples, in model units.

    Args:
        mean: (*event), or (B, *event) for samples of different conditions.
        variance: Like `mean`; not used where `root` is given.
        root: Lower Cholesky factor of the covariance, (d, d) or (B, d, d); None for independent
            elements.
        matched: Whether the moments are those of the data.
    """

    mean: Tensor
    variance: Tensor
    root: Tensor | None = None
    matched: bool = False

    def sample(self, noise: Tensor) -> Tensor:
        """Map standard normals to samples of the prior.

        Args:
            noise: (B, *event).

        Returns:
            (B, *event), noise's type.
        """
        mean = self.mean.to(noise.dtype).to(noise.device)
        if self.root is None:
            return mean + self.variance.sqrt().to(noise.dtype).to(noise.device) * noise
        root = self.root.to(noise.dtype).to(noise.device)
        if root.ndim == 3:
            return mean + (root @ noise.flatten(1)[..., None]).reshape(noise.shape)
        return mean + (noise.flatten(1) @ root.T).reshape(noise.shape)

    def whiten(self, x: Tensor) -> Tensor:
        """Map x (B, *event) to (B, d), standard normal under this prior; it inverts `sample`."""
        centred = (x - self.mean.to(x.dtype).to(x.device)).flatten(1)
        if self.root is None:
            variance = self.variance.to(x.dtype).to(x.device)
            shape = (-1, centred.shape[1]) if variance.ndim == x.ndim else (centred.shape[1],)
            return centred / variance.sqrt().reshape(shape)
        root = self.root.to(x.dtype).to(x.device)
        columns = centred[..., None] if root.ndim == 3 else centred.T
        white: Tensor = torch.linalg.solve_triangular(root, columns, upper=False)
        return white[..., 0] if root.ndim == 3 else white.T

    def log_prob(self, x: Tensor) -> Tensor:
        """The log density (B,) in nats of x (B, *event) in model units."""
        white = self.whiten(x)
        d = white.shape[1]
        if self.root is not None:
            log_det = self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        else:
            each = (-1, d) if self.variance.ndim == x.ndim else (d,)
            log_det = self.variance.log().reshape(each).sum(-1) / 2
        normal = -white.square().sum(1) / 2 - d / 2 * math.log(2 * math.pi)
        return normal - log_det.to(x.dtype).to(x.device)


def prior(model: ScoreModel, sigma: float, condition: Condition | None = None) -> Prior:
    """The prior of a model at noise level sigma.

    Args:
        model: The model; its `moments` decide.
        sigma: The largest noise level, model units.
        condition: One row a sample; moments may depend on it.

    Returns:
        N(mean, sigma² I + covariance or variance of x0), or N(0, sigma² I) without moments.
    """
    sigma = finite(sigma, "sigma", 0.0)
    known = model.moments(condition)
    if known is None:
        zero = torch.zeros(model.event_shape, dtype=torch.float64)
        return Prior(zero, torch.full_like(zero, sigma**2))
    variance = known.variance + sigma**2
    if known.covariance is None:
        return Prior(known.mean, variance, matched=True)
    eye = torch.eye(known.covariance.shape[-1], dtype=known.covariance.dtype)
    root = torch.linalg.cholesky(known.covariance + sigma**2 * eye)
    return Prior(known.mean, variance, root, matched=True)
