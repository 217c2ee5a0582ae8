"""The Fréchet distance of Gaussians.

    F = |m_x - m_y|² + tr S_x + tr S_y - 2 tr (S_x^1/2 S_y S_x^1/2)^1/2      (Dowson & Landau 1982)

The last trace is the sum of the singular values of S_x^1/2 S_y^1/2, which needs no root of a
product that is not symmetric and exists for singular covariances. With features of the Inception
network F is FID (Heusel et al. 2017).

The plug-in value of N examples is too large by about c/N (Chong & Forsyth 2020), so values of
different N must not be compared; `Estimate.plug_in` is that number. `value` has the term in 1/N
removed with halves (`intervals`). In halves of fewer than four examples per element the bias is not
of order 1/N, and `method` then states that a bias remains.

The influence of a sample is 2 (m_x - m_y)·c + |c|² - c'T c with c = x - m_x and the transport map
T = S_x^-1/2 (S_x^1/2 S_y S_x^1/2)^1/2 S_x^-1/2.
"""

from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..tensors import float64
from .estimate import Estimate
from .intervals import (
    SPLITS,
    linear_variance,
    read_level,
    read_pair,
    split_values,
    without_bias,
)

MOST_WORK = 2**31  # k³ x evaluations of F, which bounds the number of splits
ENOUGH = 4  # examples of a half per element, below which the bias is not of order 1/N
METHOD = "bias and quadratic part from {} pairs of halves, linear part by the delta method"
TOO_FEW = "; {} examples of {} elements are few: a bias remains"


def _roots(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Square root and its pseudo-inverse; eigenvalues at the level of rounding count as 0."""
    values, vectors = torch.linalg.eigh(covariance)
    smallest = torch.finfo(torch.float64).eps * len(values) * values.abs().max()
    kept = values > smallest
    root = torch.where(kept, values, 0.0).sqrt()
    inverse = torch.where(kept, 1 / root, 0.0)
    return (vectors * root) @ vectors.T, (vectors * inverse) @ vectors.T


def _value(mean_x: Tensor, root_x: Tensor, mean_y: Tensor, root_y: Tensor) -> float:
    overlap = torch.linalg.svdvals(root_x @ root_y).sum()
    spread = root_x.square().sum() + root_y.square().sum()
    return max(float((mean_x - mean_y).square().sum() + spread - 2 * overlap), 0.0)


def frechet_of_moments(mean_x: Any, covariance_x: Any, mean_y: Any, covariance_y: Any) -> float:
    """The Fréchet distance of two Gaussians.

    Args:
        mean_x: (k,).
        covariance_x: (k, k), symmetric; it may be singular.
        mean_y: (k,).
        covariance_y: (k, k).

    Returns:
        The squared distance, in squared units of the data.

    Raises:
        InputError: For other shapes, or values that are not finite.
    """
    given = {"mean_x": mean_x, "mean_y": mean_y}
    means = [float64(one, name).cpu() for name, one in given.items()]
    given = {"covariance_x": covariance_x, "covariance_y": covariance_y}
    covariances = [float64(one, name).cpu() for name, one in given.items()]
    size = means[0].numel()
    shapes = [tuple(one.shape) for one in (*means, *covariances)]
    if shapes != [(size,), (size,), (size, size), (size, size)] or size == 0:
        raise InputError(f"means must be (k,) and covariances (k, k); got {shapes}")
    roots = [_roots((one + one.T) / 2)[0] for one in covariances]
    return _value(means[0], roots[0], means[1], roots[1])


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    centred = x - mean
    return mean, centred.T @ centred / (len(x) - 1)


def _of_sets(x: Tensor, y: Tensor) -> float:
    (mean_x, cov_x), (mean_y, cov_y) = _moments(x), _moments(y)
    return _value(mean_x, _roots(cov_x)[0], mean_y, _roots(cov_y)[0])


def _influence(x: Tensor, mean_y: Tensor, root_y: Tensor) -> Tensor:
    """Influence (N,) of each row of x on F."""
    mean, covariance = _moments(x)
    root, inverse = _roots(covariance)
    values, vectors = torch.linalg.eigh(root @ root_y @ root_y @ root)
    middle = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    centred = x - mean
    white = centred @ inverse
    moved = ((white @ middle) * white).sum(1)
    return 2 * (centred @ (mean - mean_y)) + centred.square().sum(1) - moved


def frechet(x: Any, y: Any, *, seed: int = 0, level: float = 0.9) -> Estimate:
    """The Fréchet distance of the Gaussians with the means and covariances of two sets.

    Args:
        x: (N, k), features of samples.
        y: (M, k), features of the data.
        seed: Seed of the halves.
        level: Level of the interval, in [0.5, 0.999].

    Returns:
        The estimate, in squared units of the features, without the bias of finite sets. Its
        `plug_in` is the usual value of FID, with that bias.

    Raises:
        InputError: For features of different lengths, fewer than 4 examples, or values that are
            not finite.
    """
    level = read_level(level)
    first, second = read_pair(x, y)
    centre = second.mean(0)
    first, second = first - centre, second - centre
    size, least = first.shape[1], min(len(first), len(second))
    (mean_x, cov_x), (mean_y, cov_y) = _moments(first), _moments(second)
    root_x, root_y = _roots(cov_x)[0], _roots(cov_y)[0]
    plug_in = _value(mean_x, root_x, mean_y, root_y)
    times = max(2, min(SPLITS, MOST_WORK // (20 * size**3)))
    halves = split_values(_of_sets, first, second, seed, times)
    linear = linear_variance(_influence(first, mean_y, root_y), _influence(second, mean_x, root_x))
    method = METHOD.format(times)
    if least < 2 * ENOUGH * size:
        method += TOO_FEW.format(f"{least:,}", f"{size:,}")
    return without_bias(plug_in, halves, linear, level, (len(first), len(second)), method)
