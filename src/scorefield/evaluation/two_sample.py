"""Two-sample tests: whether a classifier, or a permutation test, tells samples from data.

`classifier_test` (C2ST, Lopez-Paz & Oquab 2017): a logistic regression on the elements and their
squares and a forest of randomised trees learn to separate the two sets; their probabilities are
averaged. They are fitted to one half of the examples, and accuracy and AUC are those of the other
half; 1/2 is chance. A classifier of more examples separates better, so the intervals are about the
expected value at the same numbers. The variance is that of the tested half, DeLong's for the AUC
(DeLong, DeLong & Clarke-Pearson 1988). Five folds would use all examples, but their fits share
examples: where both laws are equal, nominal 90 % intervals of that kind held 1/2 in 72 % of 60
repeats.

`two_sample_test` gives the p-value of equal laws: the probability of a difference as large between
two sets of one law. It is twice the smaller p-value of two tests whose level is exact or nearly so:

    MMD          permutations of |mean of f(x) - mean of f(y)|² with random Fourier features f of
                 Gaussian kernels of three widths (Rahimi & Recht 2007)
    classifier   rank sums (Mann & Whitney 1947) of a classifier's scores on the half of the
                 examples that it was not fitted to
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..pairs import median_distance
from .estimate import Estimate
from .intervals import (
    Purpose,
    generator,
    interval,
    number_of,
    read_level,
    read_pair,
    splits,
    subset,
)

MOST = 5000  # examples a side that classifiers see
MOST_TESTED = 10_000  # examples a side of the permutation test
LEAST, TREES, LEAF = 20, 60, 5
FREQUENCIES, PERMUTATIONS, AT_ONCE = 64, 999, 128  # frequencies of each of the three widths
METHOD = "logistic regression and forest fitted to one half; variance of the other half"
Array = np.ndarray[Any, np.dtype[np.float64]]


def _standardise(x: Tensor, y: Tensor) -> tuple[Array, Array]:
    """Elements in standard deviations of both sets together; constant ones are left out."""
    both = torch.cat([x, y])
    std = both.std(0)
    varies = std > 0
    if not bool(varies.any()):
        varies[:1], std[:1] = True, 1.0
    mean = both.mean(0)
    first, second = (((part - mean) / std)[:, varies].numpy() for part in (x, y))
    return first, second


def _fit(x: Array, y: Array, seed: int) -> Callable[[Array], Array]:
    """A function of rows that gives the probability that they are samples.

    Args:
        x: (N, k) standardised samples.
        y: (M, k) standardised examples of the data.
        seed: Seed of the trees.

    Returns:
        The function.
    """
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression

    rows = np.concatenate([x, y])
    labels = np.repeat([1, 0], [len(x), len(y)])
    linear = LogisticRegression(max_iter=200, tol=1e-3, class_weight="balanced")
    forest = ExtraTreesClassifier(
        TREES, min_samples_leaf=LEAF, class_weight="balanced", random_state=seed, n_jobs=1
    )

    def expand(values: Array) -> Array:
        return np.concatenate([values, values**2], axis=1)

    linear.fit(expand(rows), labels)
    forest.fit(rows, labels)

    def probability(values: Array) -> Array:
        both = linear.predict_proba(expand(values)) + forest.predict_proba(values)
        found: Array = both[:, 1] / 2
        return found

    return probability


def _placements(a: Array, b: Array) -> Array:
    """For each of a the fraction of b below it, ties counted half."""
    ranked = np.sort(b)
    below = np.searchsorted(ranked, a, "left") + np.searchsorted(ranked, a, "right")
    found: Array = below / (2 * len(b))
    return found


def _auc(a: Array, b: Array) -> tuple[float, float]:
    """The AUC of scores a above scores b and its variance (DeLong)."""
    above, below = _placements(a, b), _placements(b, a)
    return float(above.mean()), float(above.var(ddof=1) / len(a) + below.var(ddof=1) / len(b))


def classifier_test(x: Any, y: Any, *, seed: int = 0, level: float = 0.9) -> dict[str, Estimate]:
    """How well a classifier tells samples from data (Lopez-Paz & Oquab 2017).

    Args:
        x: (N, *event), samples.
        y: (M, *event), the data. Both sets are cut to a random part of the smallest of N, M and
            5,000 examples, so that chance is 1/2.
        seed: Seed of the parts, the halves and the trees.
        level: Level of the intervals, in [0.5, 0.999].

    Returns:
        "c2st_accuracy" and "c2st_auc".

    Raises:
        InputError: For events of different shapes, fewer than 20 examples, or values that are not
            finite.
    """
    level = read_level(level)
    first, second = read_pair(x, y, LEAST)
    count = min(len(first), len(second), MOST)
    a, b = _standardise(subset(first, count, seed), subset(second, count, seed))
    scores = _left_out(a, b, seed)
    hits = (scores[0] > 0.5).astype(np.float64), (scores[1] < 0.5).astype(np.float64)
    accuracy = float(hits[0].mean() + hits[1].mean()) / 2
    variance = sum(float(one.var(ddof=1)) / len(one) for one in hits) / 4
    auc, auc_variance = _auc(*scores)
    counts = (count, count)
    return {
        "c2st_accuracy": interval(accuracy, variance, level, counts, METHOD, (0.0, 1.0)),
        "c2st_auc": interval(auc, auc_variance, level, counts, METHOD, (0.0, 1.0)),
    }


def _left_out(a: Array, b: Array, seed: int) -> tuple[Array, Array]:
    """Probabilities of a random half of either set, from a fit to the other halves."""
    source = generator(seed, Purpose.HALVES)
    first, second = (splits(len(part), 1, source)[0].numpy() for part in (a, b))
    probability = _fit(a[first[0]], b[second[0]], number_of(seed, Purpose.TREES))
    return probability(a[first[1]]), probability(b[second[1]])


def _fourier(x: Tensor, seed: int) -> Tensor:
    """Random Fourier features (N, 6 FREQUENCIES) of Gaussian kernels of three widths."""
    source = generator(seed, Purpose.FEATURES)
    width = median_distance(x[torch.randperm(len(x), generator=source)])
    widths = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64) * width
    normal = torch.randn(
        x.shape[1], FREQUENCIES, len(widths), generator=source, dtype=torch.float64
    )
    phase = x @ (normal / widths).flatten(1)
    return torch.cat([phase.cos(), phase.sin()], 1)


def _permutation_p(x: Tensor, y: Tensor, seed: int) -> float:
    """p-value of the random Fourier features' means under permutations of the labels."""
    n, m = len(x), len(y)
    features = _fourier(torch.cat([x, y]) - y.mean(0), seed)
    features -= features.mean(0)
    # The means of both sets differ by (1/n + 1/m) times the sum over the first set.
    observed = float(features[:n].sum(0).square().sum())
    source = generator(seed, Purpose.PERMUTATIONS)
    as_large = 0
    for first in range(0, PERMUTATIONS, AT_ONCE):
        rows = min(AT_ONCE, PERMUTATIONS - first)
        chosen = torch.zeros(rows, n + m, dtype=torch.float64)
        for row in chosen:
            row[torch.randperm(n + m, generator=source)[:n]] = 1.0
        sums = (chosen @ features).square().sum(1)
        as_large += int((sums >= observed * (1 - 1e-12)).sum())
    return (1 + as_large) / (PERMUTATIONS + 1)


def _classifier_p(x: Tensor, y: Tensor, seed: int) -> float:
    """p-value of rank sums of a classifier's scores on the half it was not fitted to."""
    a, b = _standardise(subset(x, MOST, seed), subset(y, MOST, seed))
    scores = _left_out(a, b, seed)
    above = float(_placements(*scores).mean())
    n, m = len(scores[0]), len(scores[1])
    _, ties = np.unique(np.concatenate(scores), return_counts=True)
    tied = float((ties.astype(np.float64) ** 3 - ties).sum()) / ((n + m) * (n + m - 1))
    variance = (n + m + 1 - tied) / (12 * n * m)
    if variance <= 0:  # all scores are equal
        return 1.0
    return NormalDist().cdf((0.5 - above) / math.sqrt(variance))


def two_sample_test(x: Any, y: Any, seed: int = 0) -> float:
    """Probability of a difference as large between two sets of the same law.

    Args:
        x: (N, *event).
        y: (M, *event). A random part of 10,000 is taken of a larger set, and the classifier sees
            at most 5,000 examples of each set.
        seed: Seed of the features, permutations, halves and trees.

    Returns:
        The p-value: twice the smaller one of the permutation test and of the classifier test.

    Raises:
        InputError: For events of different shapes, fewer than 20 examples, or values that are not
            finite.
    """
    first, second = (subset(part, MOST_TESTED, seed) for part in read_pair(x, y, LEAST))
    smaller = min(_permutation_p(first, second, seed), _classifier_p(first, second, seed))
    return min(2 * smaller, 1.0)
