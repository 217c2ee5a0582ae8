"""Distances between sets of samples.

Along a direction u of the unit sphere the p-Wasserstein distance of two sets of N samples has a
closed form, the p-norm of the differences of the sorted projections. Over all directions,

    SW1 = mean_u mean_i |a_(i) - b_(i)|,     SW2 = sqrt(mean_u mean_i (a_(i) - b_(i))²)

(Bonneel et al. 2015). The directions are fixed, so that every sampler is measured along the same
ones. The total variation of mode weights is sum_k |a_k - b_k| / 2 over the fractions of samples
whose most probable component is k.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..evaluation.frechet import frechet_of_moments
from .problems import Problem, components_of

DIRECTIONS_SEED = 7
Array = np.ndarray


def directions(dimension: int, count: int) -> Array:
    """Unit vectors (count, dimension), a function of both numbers."""
    generator = np.random.default_rng(DIRECTIONS_SEED)
    u = generator.normal(size=(count, dimension))
    found: Array = u / np.linalg.norm(u, axis=1, keepdims=True)
    return found


@dataclass(frozen=True)
class Projected:
    """A set of samples, ready to be compared.

    Attributes:
        sorted: (directions, N), the sorted projections.
        weights: (K,) fractions of the samples by most probable component; None where the model is
            no mixture.
    """

    sorted: Array
    weights: Array | None

    @staticmethod
    def of(x: Tensor, problem: Problem, count: int) -> "Projected":
        """Project samples.

        Args:
            x: (N, *event) in data units.
            problem: The problem; projections are in its units, and weights are those of its
                components.
            count: Number of directions.

        Returns:
            The projections.
        """
        flat = problem.measured(x.detach().cpu()).flatten(1).numpy()
        projections = np.sort(directions(flat.shape[1], count) @ flat.T, axis=1)
        chosen = components_of(problem.model, x)
        if chosen is None:
            return Projected(projections, None)
        size = len(problem.model.means)  # type: ignore[arg-type]
        return Projected(projections, np.bincount(chosen.numpy(), minlength=size) / len(flat))


def distances(a: Projected, b: Projected) -> dict[str, float | None]:
    """SW1, SW2 and the total variation of mode weights between two sets of one size."""
    gap = a.sorted - b.sorted
    tv = None
    if a.weights is not None and b.weights is not None:
        tv = float(np.abs(a.weights - b.weights).sum() / 2)
    return {
        "sw1": float(np.abs(gap).mean()),
        "sw2": math.sqrt(float(np.square(gap).mean())),
        "tv": tv,
    }


def frechet(a: Tensor, b: Tensor) -> float:
    """The Fréchet distance of two sets, as if both were normal.

        |m_a - m_b|² + tr(C_a + C_b - 2 (C_a C_b)^(1/2))

    in squared data units. It compares the elements themselves, not features of a network.

    Args:
        a: (N, *event).
        b: (M, *event).

    Returns:
        The distance, biased upward for few samples.
    """
    first, second = (x.detach().cpu().to(torch.float64).flatten(1) for x in (a, b))
    return frechet_of_moments(
        first.mean(0), torch.cov(first.T), second.mean(0), torch.cov(second.T)
    )


def rms(a: Tensor, b: Tensor) -> float:
    """The root mean square, over samples and elements, of a - b."""
    return float((a.to(torch.float64) - b.to(torch.float64)).square().mean().sqrt())


def mean_quantile(values: Array, group: int, quantile: float, draws: int = 20_000) -> float:
    """A quantile of the mean of `group` values, by bootstrap with a fixed seed.

    Args:
        values: (n,) independent values.
        group: How many are averaged.
        quantile: In [0, 1].
        draws: Resampled means.

    Returns:
        The quantile.
    """
    generator = np.random.default_rng(0)
    means = generator.choice(values, size=(draws, group)).mean(1)
    return float(np.quantile(means, quantile))
