"""The 25-mode mixture and its linear measurements: problems whose posterior is known exactly.

The suite follows MCGdiff (Cardoso et al. 2023, arXiv 2308.07983). The prior has 25 components with
means (-8i, -8j, -8i, -8j, ...), i and j in {-2, ..., 2}, identity covariance, and weights that are
squared normals, normalised, drawn once for a dimension d. A problem is y = A x + noise_std n with
A = U diag(s) V^T, U and V from a d_y x d standard normal matrix, s sorted uniform(0, 1), and
noise_std uniform(0, 1) times max(s). With S = A A^T + noise_std^2 I the posterior is

    sum_k w_k' N(m_k + A^T S^-1 (y - A m_k), I - A^T S^-1 A),    w_k' ~ w_k N(y; A m_k, S),

so that exact draws are cheap.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from scorefield.errors import InputError
from scorefield.exact import GaussianMixture

SIDE = (-2, -1, 0, 1, 2)
SPACING = 8.0
SLICES = 100


@dataclass(frozen=True)
class Problem:
    """A problem of the suite.

    Args:
        number: Its number; decides A, the noise and y.
        matrix: A, (d_y, d) float64.
        noise_std: Standard deviation of the noise.
        y: (d_y,).
        means: Of the prior's components, (25, d).
        weights: (25,), which sum to one.
    """

    number: int
    matrix: Tensor
    noise_std: float
    y: Tensor
    means: Tensor
    weights: Tensor

    @property
    def d(self) -> int:
        """Dimension of x."""
        return self.matrix.shape[1]

    @property
    def d_y(self) -> int:
        """Dimension of y."""
        return self.matrix.shape[0]

    def prior(self) -> GaussianMixture:
        """The prior, which is the exact denoiser of all libraries."""
        return GaussianMixture(self.means, 1.0, self.weights)

    def gain(self) -> tuple[Tensor, Tensor]:
        """A^T S^-1 (d, d_y) and S (d_y, d_y)."""
        noise = self.noise_std**2 * torch.eye(self.d_y, dtype=torch.float64)
        s = self.matrix @ self.matrix.T + noise
        return torch.linalg.solve(s, self.matrix).T, s

    def posterior_weights(self) -> Tensor:
        """The weights of the posterior's components, (25,)."""
        _, s = self.gain()
        apart = self.y - self.means @ self.matrix.T
        squares = (apart * torch.linalg.solve(s, apart.T).T).sum(1)
        return (self.weights.log() - squares / 2).softmax(0)

    def exact(self, count: int, seed: int) -> Tensor:
        """Exact draws of the posterior: z of the prior's component, moved by the gain.

        Args:
            count: Number of draws.
            seed: Of the draws.

        Returns:
            (count, d) float64.
        """
        g = generator("exact", self.number, self.d, self.d_y, seed)
        chosen = torch.multinomial(self.posterior_weights(), count, True, generator=g)
        z = self.means[chosen] + normal(g, count, self.d)
        simulated = z @ self.matrix.T + self.noise_std * normal(g, count, self.d_y)
        return z + (self.y - simulated) @ self.gain()[0].T


def generator(purpose: str, *numbers: int) -> torch.Generator:
    """Random numbers that are a function of a purpose and numbers."""
    words = [*purpose.encode(), *numbers]
    seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(seed % 2**63)


def normal(g: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def make_problem(d: int, d_y: int, number: int) -> Problem:
    """The problem of a number; problems of one d share their prior.

    Raises:
        InputError: d is odd, or d_y is not between 1 and d.
    """
    if d < 2 or d % 2 or not 1 <= d_y <= d:
        raise InputError(
            f"the suite needs an even d of 2 or more and d_y from 1 to d; got {d}, {d_y}"
        )
    pairs = torch.tensor(list(product(SIDE, SIDE)), dtype=torch.float64)
    means = -SPACING * pairs.repeat(1, d // 2)
    weights = normal(generator("weights", d), len(means)).square()
    weights = weights / weights.sum()
    g = generator("problem", d, d_y, number)
    u, _, vt = torch.linalg.svd(normal(g, d_y, d), full_matrices=False)
    s = torch.rand(d_y, generator=g, dtype=torch.float64).sort(descending=True).values
    noise_std = float(torch.rand((), generator=g, dtype=torch.float64) * s.max())
    matrix = u @ torch.diag(s) @ vt
    x = means[torch.multinomial(weights, 1, generator=g)[0]] + normal(g, d)
    y = matrix @ x + noise_std * normal(g, d_y)
    return Problem(number, matrix, noise_std, y, means, weights)


def sliced_w1(a: Tensor, b: Tensor, seed: int = 0, slices: int = SLICES) -> float:
    """The sliced 1-Wasserstein distance of two sets of equally many draws.

    Args:
        a: (n, d).
        b: (n, d).
        seed: Of the directions, which are uniform on the sphere.
        slices: Number of directions.

    Returns:
        The mean over directions of the distance of the projections; NaN where a draw is not finite.

    Raises:
        InputError: The sets have different shapes.
    """
    if a.shape != b.shape:
        raise InputError(f"sliced_w1 needs sets of one shape; got {a.shape} and {b.shape}")
    if not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
        return math.nan
    directions = normal(generator("slices", seed), a.shape[1], slices)
    directions = directions / directions.norm(dim=0)
    first, second = (x.to(torch.float64) @ directions for x in (a, b))
    return float((first.sort(0).values - second.sort(0).values).abs().mean())
