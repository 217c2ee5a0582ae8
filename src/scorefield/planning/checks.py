"""Warnings about data and plan: what would make a training fail, or its result mislead."""

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import Config
from ..data import Dataset, FittedUnits
from ..data.distances import Distances
from ..models import Moments

VISIBLE = 0.02  # Kolmogorov distance between x at sigma_max and the start, from which we warn
DIRECTIONS = 8  # principal directions along which it is measured
STILL = 1e-3  # standard deviation over the mean's size, below which data are nearly constant
REPEATED = 0.99  # fraction of equal values, from which an element is nearly constant
MOST_HASHED, MOST_BYTES = 100_000, 2**28  # examples, and bytes, among which copies are sought
DUPLICATES = 0.01  # fraction of repeated examples, from which we warn
FEW = 200  # training examples, below which we warn
KURTOSIS = 20.0  # fourth standardised moment: 3 for a normal, 9 for an exponential distribution
SPREAD = 1e3  # ratio of the standard deviations of two columns
OFFSET = 1e5  # mean over standard deviation, at which float32 keeps two digits of the variation


@dataclass(frozen=True)
class Warned:
    """One warning.

    Attributes:
        kind: a short name for programs, such as "duplicates".
        text: what was found, and what to do about it.
    """

    kind: str
    text: str


def visible(distances: Distances, moments: Moments, sigma: float) -> float:
    """How far x at the largest noise level is from the distribution that sampling starts from.

    Along each of the leading principal directions u of the data, x0 + sigma z has the distribution
    function mean_i Phi((t - u·x_i) / sigma), and the start N(m, v + sigma²) a normal one. The
    statistic is their largest difference (Kolmogorov and Smirnov's), without noise of its own in z.

    Args:
        distances: Distances between the training examples.
        moments: Mean and variance of each element, in model units.
        sigma: The noise level.

    Returns:
        A number from 0 (equal) to 1.
    """
    x = distances.x0[: distances.paired].flatten(1)
    mean, variance = (part.double().flatten() for part in (moments.mean, moments.variance))
    centred = x - mean
    rank = min(DIRECTIONS, *centred.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the random start of the decomposition
        _, _, directions = torch.svd_lowrank(centred, q=rank)
    along = centred @ directions  # (n, k)
    spread = (directions.square() * variance[:, None]).sum(0) + sigma**2
    t = torch.linspace(-4, 4, 161, dtype=torch.float64)
    worst = 0.0
    for place, var in zip(along.T, spread.tolist(), strict=True):
        points = t * math.sqrt(var)
        data = torch.special.ndtr((points[:, None] - place[None]) / sigma).mean(1)
        worst = max(worst, float((data - torch.special.ndtr(t)).abs().max()))
    return worst


def duplicates(values: Tensor) -> float:
    """The fraction of examples that repeat an earlier one, among the first ones.

    Args:
        values: (N, *event), as stored; at most MOST_HASHED examples and MOST_BYTES are read.

    Returns:
        From 0 (no repetition) to 1.
    """
    size = max(1, values[0].numel() * values.element_size())
    shown = values[: max(2, min(MOST_HASHED, MOST_BYTES // size))].contiguous().cpu()
    rows = shown.reshape(len(shown), -1).numpy()
    return 1 - len({hashlib.sha1(row, usedforsecurity=False).digest() for row in rows}) / len(rows)


def data_warnings(dataset: Dataset, distances: Distances, fitted: FittedUnits) -> list[Warned]:
    """Warnings about the data.

    Args:
        dataset: The data.
        distances: Between the training examples.
        fitted: Units and moments of the training part.

    Returns:
        The warnings; empty where nothing was found.
    """
    found = [*_constant(dataset, fitted), *_tails(dataset, distances, fitted)]
    repeated = duplicates(dataset.values)
    if repeated >= DUPLICATES:
        found.append(
            Warned(
                "duplicates",
                f"{repeated:.1%} of the examples repeat another one exactly. Copies on both sides "
                "of the split make the held-out loss look better than it is, and copies are "
                "memorised first. Remove copies that are not separate measurements",
            )
        )
    if distances.total < FEW:
        found.append(
            Warned(
                "few",
                f"{distances.total} training examples are few: the held-out loss has a large "
                "standard error, and single examples are memorised early. More examples help more "
                "than any setting",
            )
        )
    return [*found, *_scaled(dataset, fitted)]


def _names(dataset: Dataset, count: int) -> list[str]:
    kind = "channel" if len(dataset.event_shape) > 1 else "column"
    return list(dataset.columns or [f"{kind} {k}" for k in range(count)])


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _constant(dataset: Dataset, fitted: FittedUnits) -> list[Warned]:
    """Columns or channels that never change, or hardly do."""
    found = []
    if fitted.constant:
        found.append(
            Warned(
                "constant",
                f"constant: {_few(list(fitted.constant))}. They carry no information; samples have "
                "the same constant",
            )
        )
    facts = dataset.facts()
    names = _names(dataset, len(facts.std or ()))
    pairs = zip(names, facts.mean or (), facts.std or (), strict=True)
    still = [
        n for n, mean, std in pairs if 0 < std < STILL * abs(mean) and n not in fitted.constant
    ]
    if len(dataset.event_shape) == 1:
        x = dataset.floats(slice(0, 10_000)).double()
        share = (x == x.mode(0).values).double().mean(0).tolist()
        still += [n for n, s in zip(names, share, strict=True) if REPEATED <= s < 1]
    if still:
        found.append(
            Warned(
                "nearly constant",
                f"nearly constant: {_few(list(dict.fromkeys(still)))}. The variation is under "
                f"{STILL:g} of the mean, or over {REPEATED:.0%} of the values are equal; "
                "standardising magnifies what is left. Check that it is signal",
            )
        )
    return found


def _tails(dataset: Dataset, distances: Distances, fitted: FittedUnits) -> list[Warned]:
    """Channels or columns whose distribution has heavy tails, in model units."""
    x = distances.x0
    x = x.transpose(0, 1).flatten(1) if x.ndim > 2 else x.T
    centred = x - x.mean(1, keepdim=True)
    variance = centred.square().mean(1)
    kurtosis = centred.pow(4).mean(1) / variance.square().clamp_min(1e-300)
    farthest = centred.abs().amax(1) / variance.sqrt().clamp_min(1e-150)
    names = _names(dataset, len(x))
    heavy = [
        (float(k), float(f), name)
        for k, f, name, v in zip(kurtosis, farthest, names, variance, strict=True)
        if k > KURTOSIS and v > 0 and name not in fitted.constant
    ]
    if not heavy:
        return []
    worst = max(heavy)
    return [
        Warned(
            "heavy tails",
            f"heavy tails: {_few([name for _, _, name in heavy])}. The fourth standardised moment "
            f"of {worst[2]} is {worst[0]:.3g} (3 for a normal distribution), and one value lies "
            f"{worst[1]:.3g} standard deviations out. Positive quantities are often better as "
            "logarithms",
        )
    ]


def _scaled(dataset: Dataset, fitted: FittedUnits) -> list[Warned]:
    """Columns of very different scales, and offsets that float32 cannot hold."""
    facts = dataset.facts()
    names = _names(dataset, len(facts.std or ()))
    rows = [
        (std, mean, name)
        for name, mean, std in zip(names, facts.mean or (), facts.std or (), strict=True)
        if std > 0 and name not in fitted.constant
    ]
    if not rows:
        return []
    found = []
    low, high = min(rows), max(rows)
    if high[0] > SPREAD * low[0]:
        scaled = not bool((fitted.units.scale == 1).all())
        what = (
            "model units divide each by its own, so that all count alike"
            if scaled
            else "these model units do not scale them, so that a network sees the largest alone; "
            "use data.units=standardise"
        )
        found.append(
            Warned(
                "scales",
                f"standard deviations span {low[0]:.3g} ({low[2]}) to {high[0]:.3g} ({high[2]}): "
                f"{what}",
            )
        )
    far = [name for std, mean, name in rows if abs(mean) > OFFSET * std]
    if far and facts.dtype == "float32":
        found.append(
            Warned(
                "offset",
                f"{_few(far)}: the mean is over {OFFSET:g} standard deviations from 0, and float32 "
                "keeps few digits of what varies. Give the data as float64, or subtract the offset",
            )
        )
    return found


def range_warnings(config: Config, distances: Distances, statistic: float) -> list[Warned]:
    """Warnings about the range of noise levels.

    Args:
        config: The resolved settings.
        distances: Between the training examples.
        statistic: The result of `visible` at sigma_max.

    Returns:
        The warnings.
    """
    if statistic <= VISIBLE:
        return []
    sigma = config.noise.sigma_max
    larger = max(distances.high, 3 * sigma)
    return [
        Warned(
            "visible",
            f"x at sigma_max = {sigma:.3g} still shows the data: its distribution and that of the "
            f"start differ by {statistic:.3f} (Kolmogorov distance along a principal direction; "
            f"{VISIBLE:g} is the limit). Samples would inherit the difference: raise "
            f"noise.sigma_max, to {larger:.3g} for example",
        )
    ]
