"""Intervals of metrics hold the truth as often as they state, by simulation on known pairs.

Of 200 intervals at level 0.9 that are exact, 168 to 192 hold the truth in 99.5 % of the cases
(binomial law), so this is the range that is required; seeds are fixed. Closed forms give the truth
of metrics with a population value. The others are defined at the numbers of examples; the mean of
the 200 repeats, whose error is 1/14 of a repeat's, is their truth.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from scorefield import evaluation
from scorefield.evaluation import Estimate
from scorefield.evaluation.intervals import interval

REPEATS, LEVEL = 200, 0.9
LOW, HIGH = 0.84, 0.96
SIZE, SHIFT, SCALE = 3, 0.5, 1.2  # x ~ N(SHIFT e1, SCALE² I), y ~ N(0, I)
N, M = 400, 320

Found = dict[str, Estimate]
pytestmark = pytest.mark.slow


def gaussians(seed: int, n: int = N, m: int = M, shift: float = SHIFT, scale: float = SCALE) -> Any:
    g = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(n, SIZE, generator=g, dtype=torch.float64)
    x[:, 0] += shift
    return x, torch.randn(m, SIZE, generator=g, dtype=torch.float64)


def held(
    draw: Callable[[int], Found], truth: dict[str, float], repeats: int = REPEATS
) -> dict[str, float]:
    """The fraction of intervals that hold the truth; the mean of the values where it is missing."""
    found = [draw(seed) for seed in range(repeats)]
    fractions = {}
    for name in found[0]:
        rows = [one[name] for one in found]
        true = truth.get(name, sum(one.value for one in rows) / repeats)
        inside = [one.low - 1e-12 <= true <= one.high + 1e-12 for one in rows]
        fractions[name] = sum(inside) / repeats
    return fractions


def covers(fractions: dict[str, float], high: float = HIGH) -> bool:
    return all(LOW <= fraction <= high for fraction in fractions.values())


# ---- truths


def sliced_truth(shift: float, scale: float) -> dict[str, float]:
    """W_2^2 of N(v·mu, s²) and N(0, 1) is (v·mu)² + (s - 1)²; the mean of v v' is I/k."""
    squared = shift**2 / SIZE + (scale - 1) ** 2
    return {"sliced_features": squared, "sliced_w2": math.sqrt(squared)}


def gaussian_mmd(bandwidth: float) -> float:
    """E exp(-|u|²/(2 s²)) of u ~ N(mu, c I) is (s²/(s² + c))^(k/2) exp(-|mu|²/(2 (s² + c)))."""
    total = 0.0
    for s2 in ((bandwidth * r) ** 2 for r in (0.5, 1.0, 2.0)):

        def mean(c: float, square: float, s2: float = s2) -> float:
            return (s2 / (s2 + c)) ** (SIZE / 2) * math.exp(-square / (2 * (s2 + c)))

        total += mean(2 * SCALE**2, 0.0) + mean(2.0, 0.0) - 2 * mean(SCALE**2 + 1, SHIFT**2)
    return total / 3


def polynomial_mmd() -> float:
    """The kernel (x·y/k + 1)³ = 1 + 3 u + 3 u² + u³ compares moments up to the third."""

    def moments(shift: float, scale: float) -> list[torch.Tensor]:
        m = torch.zeros(SIZE, dtype=torch.float64)
        m[0] = shift
        c = scale**2 * torch.eye(SIZE, dtype=torch.float64)
        third = torch.einsum("i,j,k->ijk", m, m, m)
        for form in ("i,jk->ijk", "j,ik->ijk", "k,ij->ijk"):
            third = third + torch.einsum(form, m, c)
        return [m, c + torch.outer(m, m), third]

    pairs = zip(moments(SHIFT, SCALE), moments(0.0, 1.0), (1, 2, 3), (3, 3, 1), strict=True)
    return sum(w * float((a - b).square().sum()) / SIZE**p for a, b, p, w in pairs)


# ---- coverage


def test_intervals_of_sliced_distances_cover() -> None:
    def draw(seed: int) -> Found:
        return evaluation.sliced(*gaussians(seed), seed=seed, level=LEVEL)

    fractions = held(draw, sliced_truth(SHIFT, SCALE))
    assert covers(fractions), fractions


def test_intervals_of_sliced_distances_cover_equality() -> None:
    """Truth 0, where the delta method alone has no variance."""

    def draw(seed: int) -> Found:
        found = evaluation.sliced(*gaussians(seed, shift=0.0, scale=1.0), seed=seed, level=LEVEL)
        return {name: found[name] for name in ("sliced_w2", "sliced_features")}

    fractions = held(draw, sliced_truth(0.0, 1.0))
    assert covers(fractions, high=1.0), fractions


@pytest.mark.parametrize("equal", [False, True])
def test_intervals_of_kernel_and_frechet_distances_cover(equal: bool) -> None:
    shift, scale = (0.0, 1.0) if equal else (SHIFT, SCALE)

    def draw(seed: int) -> Found:
        x, y = gaussians(seed, shift=shift, scale=scale)
        return {
            "mmd": evaluation.mmd(x, y, bandwidth=1.7, seed=seed, level=LEVEL),
            "kernel_distance": evaluation.kernel_distance(x, y, seed=seed, level=LEVEL),
            "frechet": evaluation.frechet(x, y, seed=seed, level=LEVEL),
        }

    truth = {
        "mmd": 0.0 if equal else gaussian_mmd(1.7),
        "kernel_distance": 0.0 if equal else polynomial_mmd(),
        "frechet": shift**2 + SIZE * (scale - 1) ** 2,
    }
    fractions = held(draw, truth)
    assert covers(fractions, high=1.0 if equal else HIGH), fractions


@pytest.mark.parametrize("scale", [0.8, 1.0])
def test_intervals_of_neighbour_metrics_cover(scale: float) -> None:
    def draw(seed: int) -> Found:
        x, y = gaussians(seed, shift=1.0, scale=scale)
        return evaluation.prdc(x, y, seed=seed, level=LEVEL)

    fractions = held(draw, {})
    assert covers(fractions), fractions


@pytest.mark.parametrize("equal", [False, True])
def test_intervals_of_the_classifier_test_cover(equal: bool) -> None:
    shift, scale = (0.0, 1.0) if equal else (SHIFT, SCALE)

    def draw(seed: int) -> Found:
        x, y = gaussians(seed, 250, 250, shift, scale)
        return evaluation.classifier_test(x, y, seed=seed, level=LEVEL)

    chance = {"c2st_accuracy": 0.5, "c2st_auc": 0.5}
    fractions = held(draw, chance if equal else {})
    assert covers(fractions), fractions


def test_intervals_of_spectra_cover() -> None:
    """White noise of 1.1 times the amplitude has 1.21 times the power at every frequency."""

    def draw(seed: int) -> Found:
        g = torch.Generator().manual_seed(seed)
        x = 1.1 * torch.randn(60, 1, 8, 8, generator=g, dtype=torch.float64)
        y = torch.randn(50, 1, 8, 8, generator=g, dtype=torch.float64)
        found = evaluation.radial_spectrum(x, y, seed=seed, level=LEVEL)
        return {"spectrum": found.difference, "band": found.ratio[1]}

    fractions = held(draw, {"spectrum": math.log(1.21), "band": 1.21})
    assert covers(fractions), fractions


def test_intervals_of_columns_cover() -> None:
    """Correlation 1/2 against 0 in one of three pairs; words of frequencies 0.5, 0.3, 0.2."""

    def draw(seed: int) -> Found:
        g = torch.Generator().manual_seed(seed)
        parts = []
        for n, r, weights in ((N, 0.5, [0.5, 0.3, 0.2]), (M, 0.0, [0.3, 0.3, 0.4])):
            z = torch.randn(n, 3, generator=g, dtype=torch.float64)
            z[:, 1] = r * z[:, 0] + math.sqrt(1 - r**2) * z[:, 1]
            words = torch.multinomial(torch.tensor(weights), n, True, generator=g)
            parts.append(torch.cat([z, torch.eye(3, dtype=torch.float64)[words]], 1))
        parts[0][:, :2] *= 1.3
        names = ["a", "b", "c", "k=1", "k=2", "k=3"]
        found = evaluation.compare_columns(*parts, names, {"k": (3, 4, 5)}, seed=seed, level=LEVEL)
        return {
            **found.summary,
            "w1 of a": found.w1["a"],
            "pair": found.correlations["a", "b"],
        }

    fractions = held(draw, {"correlation": math.sqrt(0.25 / 3), "pair": 0.5})
    assert covers(fractions), fractions


# ---- the check rejects intervals that are wrong


def test_a_bootstrap_of_the_biased_frechet_distance_does_not_cover() -> None:
    """Resampling adds the bias of finite sets once more, so that its intervals miss the truth."""

    def draw(seed: int) -> Found:
        x, y = gaussians(seed, 150, 150, 0.2, 1.0)
        g = torch.Generator().manual_seed(seed)
        values = []
        for _ in range(60):
            a, b = (s[torch.randint(len(s), (len(s),), generator=g)] for s in (x, y))
            moments = [v for s in (a, b) for v in (s.mean(0), s.T.cov())]
            values.append(evaluation.frechet_of_moments(*moments))
        low, high = torch.tensor(values).quantile(torch.tensor([0.05, 0.95])).tolist()
        return {"frechet": Estimate(values[0], low, high, LEVEL, len(x), "bootstrap")}

    assert not covers(held(draw, {"frechet": 0.2**2}))


def test_half_the_variance_does_not_cover() -> None:
    def draw(seed: int) -> Found:
        x, _ = gaussians(seed)
        right = interval(float(x[:, 0].mean()), float(x[:, 0].var()) / N, LEVEL, (N, 0), "")
        wrong = interval(right.value, float(x[:, 0].var()) / N / 4, LEVEL, (N, 0), "")
        return {"right": right, "wrong": wrong}

    fractions = held(draw, {"right": SHIFT, "wrong": SHIFT})
    assert covers({"right": fractions["right"]})
    assert not covers({"wrong": fractions["wrong"]})


# ---- the test of equality


def shifted(seed: int, shift: float) -> Any:
    g = torch.Generator().manual_seed(1000 + seed)
    x, y = (torch.randn(5000, 2, generator=g, dtype=torch.float64) for _ in range(2))
    x[:, 0] += shift
    return x, y


def test_a_shift_of_a_fifth_of_a_deviation_is_found() -> None:
    """20 repeats of 5,000 a side in two dimensions: power at least 0.9 at level 0.05."""
    found = [evaluation.two_sample_test(*shifted(seed, 0.2), seed) for seed in range(20)]
    assert sum(p <= 0.05 for p in found) >= 18, found


def test_equal_laws_are_rarely_rejected() -> None:
    """At level 0.05, more than 2 rejections of 20 happen in 7.5 % of the cases; seeds are fixed."""
    found = [evaluation.two_sample_test(*shifted(seed, 0.0), seed) for seed in range(20)]
    assert sum(p <= 0.05 for p in found) <= 2, found
