"""Distances between training examples, and the noise scales that follow from them.

All distances are Euclidean, in model units, between dequantised training examples as a network sees
them. With D elements that vary and noise x = x0 + sigma z:

    sigma_max   the largest distance between two examples (Song & Ermon 2020, Technique 1), which
                lets noise carry any example to any other. The 99 % quantile where the largest is
                more than twice as large: a few outliers would stretch the range of all others.
    sigma_min   quantised data: noise that moves 1 % of the values over an edge of their bin of
                width q, sigma = q / (2 * 2.576). Continuous data: noise that moves an example over
                the middle between it and its nearest neighbour, at the median distance r, with
                probability 1 %, sigma = r / (2 * 2.326).
    collapse    below this sigma a network that fits the training examples perfectly points at
                single ones. With weights w_ij ~ exp(-|x_i + sigma z - x_j|² / (2 sigma²)), it is
                where the mean of w_ii is 1/2. The transition is the collapse of Biroli et al. 2024
                (Dynamical regimes of diffusion models), who find it from an excess entropy.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import rng
from ..config import Scales
from ..errors import InputError
from ..pairs import squared_distances
from ..rng import Stream
from .dataset import Dataset
from .fitting import FittedUnits
from .pipeline import Pipeline

MOST_NUMBERS = 2**24  # of the examples that distances are measured between
MOST_DISTANCES = 2**24  # from queries to their possible neighbours
MOST_PAIRED = 2000  # examples whose pairwise distances are all measured
MOST_COMPARED = 65_536  # examples among which nearest neighbours are searched
QUERIES = 128  # noisy examples of the collapse
HALVINGS, DEPTH = 10, 12.0  # of the interval in ln sigma where the collapse is sought

LOGIT_SLOPE = 4.0  # the least slope of a logit
OUTLYING = 2.0  # largest distance over the 99 % quantile, from which the quantile is taken
BIN_EDGE = 2 * 2.5758  # bin width over sigma, where 1 % of the values leave their bin
MIDDLE = 2 * 2.3263  # distance over sigma, where 1 % of the examples cross the middle
# sigma_min in units of the data's standard deviation: bounds for continuous and quantised data
FINEST, COARSEST, COARSEST_QUANTISED = 1 / 2000, 1 / 50, 1 / 20


@dataclass(frozen=True)
class Distances:
    """Distances between training examples in model units.

    Attributes:
        x0: (n, *event), float64, the examples that were compared, in a random order.
        pairs: (P,) distances between two examples, sorted.
        paired: number of examples whose pairwise distances were all measured.
        nearest: (Q,) distances to the nearest other example, sorted; examples equal to it are
            skipped. Empty where they were not measured.
        total: number of training examples.
        collapse: the noise level of the module docstring; None where it lies below every level, or
            was not sought.
    """

    x0: Tensor
    pairs: Tensor
    paired: int
    nearest: Tensor
    total: int
    collapse: float | None = None

    @property
    def compared(self) -> int:
        """Number of examples that were compared."""
        return len(self.x0)

    @property
    def largest(self) -> float:
        """The largest pairwise distance."""
        return float(self.pairs[-1])

    @property
    def high(self) -> float:
        """The 99 % quantile of the pairwise distances."""
        return float(self.pairs[min(len(self.pairs) - 1, int(0.99 * len(self.pairs)))])

    @property
    def neighbour(self) -> float:
        """The median distance to the nearest other example."""
        return float(self.nearest[len(self.nearest) // 2]) if len(self.nearest) else 0.0


def measure(
    dataset: Dataset,
    train: Tensor,
    fitted: FittedUnits,
    pipeline: Pipeline,
    nearest: bool = True,
    collapse: bool = True,
) -> Distances:
    """Measure the distances between training examples.

    Args:
        dataset: The data.
        train: int64 (N,), the training part.
        fitted: Units and moments of the training part.
        pipeline: Serves the training part in model units.
        nearest: Whether to measure distances to the nearest neighbours.
        collapse: Whether to seek the collapse.

    Returns:
        The distances; of large data sets those between a random part of the examples.

    Raises:
        InputError: There are fewer than two training examples, or all are equal.
    """
    if len(train) < 2:
        raise InputError(
            f"a plan measures distances between training examples; {dataset.name} has "
            f"{len(dataset)} examples, {len(train)} of them for training. Three or more are needed"
        )
    elements = max(1, fitted.moments.mean.numel())
    most = MOST_COMPARED if nearest or collapse else MOST_PAIRED
    compared = min(len(train), most, max(2, MOST_NUMBERS // elements))
    x0 = pipeline.batch(0, compared)[0].to(torch.float64)
    varies = fitted.moments.variance > 0
    if not bool(varies.any()) or bool((x0 == x0[:1]).all()):
        raise InputError(
            f"all training examples of {dataset.name} are equal: there is no density to learn"
        )
    flat = x0.flatten(1)[:, varies.flatten()] - fitted.moments.mean.flatten()[varies.flatten()]
    paired = min(compared, MOST_PAIRED)
    pairs = pair_distances(flat[:paired])
    pairs = pairs if bool(pairs[-1] > 0) else pairs + float(flat.std())
    return Distances(
        x0,
        pairs,
        paired,
        _nearest(flat) if nearest else flat.new_empty(0),
        len(train),
        _collapse(flat, float(pairs[-1])) if collapse else None,
    )


def pair_distances(flat: Tensor) -> Tensor:
    """Distances between every two of the rows (n, D), sorted."""
    flat = flat - flat.mean(0)
    rows, columns = torch.triu_indices(len(flat), len(flat), 1)
    return squared_distances(flat, flat)[rows, columns].sqrt().sort().values


def _nearest(flat: Tensor) -> Tensor:
    """Sorted distances from a part of the examples to their nearest other one that differs."""
    queries = flat[: min(len(flat), max(64, MOST_DISTANCES // len(flat)))]
    found = []
    for first in range(0, len(queries), 128):
        part = queries[first : first + 128]
        squared = squared_distances(part, flat)
        # Equal examples are at distance 0 up to the rounding of the squares.
        equal = 1e-12 * part.square().sum(1)[:, None]
        squared[squared <= equal] = torch.inf
        best, index = squared.min(1)
        exact = (part - flat[index]).norm(dim=1)
        found.append(exact[torch.isfinite(best)])
    return torch.cat(found).sort().values


def _collapse(flat: Tensor, largest: float) -> float | None:
    """The noise level where the mean weight of an example's own point is 1/2."""
    queries = flat[:QUERIES]
    keys = rng.keys(0, len(queries))
    z = rng.normal(keys, Stream.PLAN, 0, (flat.shape[1],), torch.float64)
    squared = squared_distances(queries, flat).float()
    across = ((z * queries).sum(1, keepdim=True) - z @ flat.T).float()  # z · (x_i - x_j)
    own = torch.arange(len(queries))
    squared[own, own], across[own, own] = 0.0, 0.0

    def weight(sigma: float) -> float:
        logits = squared.div(-2 * sigma**2).sub_(across, alpha=1 / sigma)
        return float(logits.softmax(1)[own, own].mean())

    high, low = math.log(largest), math.log(largest) - DEPTH
    if weight(math.exp(high)) >= 0.5:
        return largest
    if weight(math.exp(low)) < 0.5:
        return None
    for _ in range(HALVINGS):  # the weight falls with sigma
        middle = (low + high) / 2
        low, high = (middle, high) if weight(math.exp(middle)) >= 0.5 else (low, middle)
    return math.exp((low + high) / 2)


def finest_step(dataset: Dataset, fitted: FittedUnits, dequantise: str) -> float | None:
    """The width of the finest bin in model units.

    Args:
        dataset: The data.
        fitted: Their units.
        dequantise: "uniform" or "none".

    Returns:
        The width; None where an element is continuous, or its ranks are mapped.
    """
    units = fitted.units
    if units.ranks:
        return None
    varies = ~units.constant
    scale = units.scale.abs()
    if dataset.quantisation_levels is not None:
        bins = dataset.quantisation_levels - (dequantise == "none")
        width = LOGIT_SLOPE / bins if units.logit is not None else 1 / bins
        return width / float(scale[varies].max()) if bool(varies.any()) else None
    steps = dataset.steps
    if steps is None:
        return None
    relative = (steps / scale)[varies.expand(steps.shape)]
    if relative.numel() == 0 or not bool((relative > 0).all()):
        return None
    return float(relative.min())


def scales_of(distances: Distances, fitted: FittedUnits, step: float | None) -> Scales:
    """The noise scales of data with these distances.

    Args:
        distances: Between training examples.
        fitted: Units and moments of the training part.
        step: Width of the finest bin in model units; None where an element is continuous.

    Returns:
        The scales with their reasons.
    """
    variance = fitted.moments.variance
    varies = variance > 0
    std = float(variance[varies].mean().sqrt())
    largest, high = distances.largest, distances.high
    between = f"of {distances.paired:,} examples"
    if largest <= OUTLYING * high or high == 0:  # 0: nearly all examples are equal
        sigma_max = largest
        why = f"The largest pairwise distance {between} (Technique 1); 99 % are below {high:.3g}."
    else:
        sigma_max = high
        why = (
            f"The 99 % quantile of the pairwise distances {between}. The largest, {largest:.3g}, "
            f"is more than {OUTLYING:g} times as large: outliers would set the range."
        )
    sigma_min, reason = _smallest(distances, std, step)
    if sigma_min >= sigma_max / 10:
        sigma_min, reason = sigma_max / 10, "A tenth of sigma_max: the data are coarser than that."
    return Scales(int(varies.sum()), std, _digits(sigma_max), why, _digits(sigma_min), reason)


def _smallest(distances: Distances, std: float, step: float | None) -> tuple[float, str]:
    """sigma_min and its reason."""
    if step is not None:
        wanted, coarsest = step / BIN_EDGE, COARSEST_QUANTISED * std
        reason = (
            f"The values are rounded to steps of {step:.3g}: this noise moves 1 % of them to "
            "another level."
        )
    else:
        wanted, coarsest = distances.neighbour / MIDDLE, COARSEST * std
        reason = (
            f"The median distance to the nearest example is {distances.neighbour:.3g} (among "
            f"{distances.compared:,}): this noise reaches half of it in 1 % of the cases."
        )
    if wanted > coarsest:
        return coarsest, f"1/{std / coarsest:.0f} of the standard deviation. {reason} That is more."
    if wanted < FINEST * std:
        return FINEST * std, f"1/{1 / FINEST:.0f} of the standard deviation. {reason} That is less."
    return wanted, reason


def _digits(value: float) -> float:
    """A number with three digits, as the table shows it."""
    return float(f"{value:.3g}")
