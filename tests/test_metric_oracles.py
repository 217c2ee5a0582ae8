"""Metrics equal closed forms and other libraries to 1e-6 where they are deterministic."""

import contextlib
import io

import numpy as np
import ot
import prdc
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel
from sklearn.neighbors import NearestNeighbors
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from scorefield import evaluation
from scorefield.evaluation.distances import plan_of, powers_of
from scorefield.evaluation.marginals import compare_columns
from scorefield.evaluation.neighbours import nearest
from scorefield.evaluation.spectra import band_powers
from scorefield.evaluation.two_sample import _auc
from scorefield.pairs import median_distance

RNG = np.random.default_rng(0)
X, Y = RNG.normal(0.3, 1.2, (120, 5)), RNG.normal(0.0, 1.0, (90, 5))
Z = RNG.gamma(2.0, size=(120, 5))
PAIRS = {"unequal": (X, Y), "equal": (X, Z), "swapped": (Y, X)}
close = pytest.approx
pairs = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)


@pairs
@pytest.mark.parametrize("power", [1, 2])
def test_sliced_wasserstein_is_pots(pair: tuple[np.ndarray, np.ndarray], power: int) -> None:
    along = evaluation.directions(5, seed=3).flatten(0, 1).numpy()
    theirs = ot.sliced_wasserstein_distance(*pair, projections=along.T, p=power)
    assert evaluation.sliced_wasserstein(*pair, along, power) == close(theirs, rel=1e-9)


@pairs
@pytest.mark.parametrize("power", [1, 2])
def test_one_dimensional_distances_are_pots(
    pair: tuple[np.ndarray, np.ndarray], power: int
) -> None:
    x, y = (np.sort(one, axis=0) for one in pair)
    theirs = ot.wasserstein_1d(x, y, p=power)
    sets = (torch.from_numpy(one.T.copy()) for one in (x, y))
    ours = powers_of(*sets, plan_of(len(x), len(y)), power)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@pairs
def test_marginal_w1_is_pots(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    theirs = ot.wasserstein_1d(x, y, p=1) / y.std(axis=0, ddof=1)
    found = compare_columns(x, y, list("abcde")).w1
    np.testing.assert_allclose([one.value for one in found.values()], theirs, rtol=1e-9)


def test_correlations_and_frequencies_are_numpys() -> None:
    words = np.eye(2)[RNG.integers(0, 2, 120)], np.eye(2)[RNG.integers(0, 2, 90)]
    x, y = (np.concatenate(pair, axis=1) for pair in zip((X, Y), words, strict=True))
    found = compare_columns(x, y, [*"abcde", "k=0", "k=1"], {"k": (5, 6)})
    gap = np.corrcoef(X.T) - np.corrcoef(Y.T)
    assert found.correlations["a", "c"].value == close(gap[0, 2], rel=1e-9)
    upper = gap[np.triu_indices(5, 1)]
    assert found.summary["correlation"].plug_in == close(np.sqrt((upper**2).mean()), rel=1e-9)
    frequency = [one[:, 0].mean() for one in words]
    assert found.total_variation["k"].value == close(abs(frequency[0] - frequency[1]), abs=1e-12)


@pairs
@pytest.mark.parametrize("k", [1, 5])
def test_prdc_is_naeems(pair: tuple[np.ndarray, np.ndarray], k: int) -> None:
    samples, data = pair
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = prdc.compute_prdc(data, samples, nearest_k=k)
    ours = evaluation.prdc(samples, data, k=k)
    assert {name: one.value for name, one in ours.items()} == close(theirs, abs=1e-12)


def test_nearest_neighbours_are_scikit_learns() -> None:
    squared, index = nearest(torch.from_numpy(X), None, 4)
    theirs, their_index = NearestNeighbors(n_neighbors=5).fit(X).kneighbors(X)
    np.testing.assert_array_equal(index, their_index[:, 1:])
    np.testing.assert_allclose(squared.sqrt(), theirs[:, 1:], rtol=1e-6)


def unbiased(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> float:
    n, m = xy.shape
    own = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return own - 2 * xy.mean()


@pairs
def test_kernel_distance_is_scikit_learns(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    kernels = [polynomial_kernel(a, b, 3, 1 / 5, 1.0) for a, b in ((x, x), (y, y), (x, y))]
    assert evaluation.kernel_distance(x, y).value == close(unbiased(*kernels), rel=1e-9)


def test_kernel_distance_is_torchmetrics() -> None:
    theirs = poly_mmd(torch.from_numpy(Z), torch.from_numpy(X))
    assert evaluation.kernel_distance(X, Z).value == close(float(theirs), rel=1e-9)


@pairs
def test_mmd_is_scikit_learns(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    width = np.median([np.linalg.norm(a - b) for i, a in enumerate(y) for b in y[:i]])
    assert median_distance(torch.from_numpy(y)) == close(width, rel=0.01)  # an even number of them
    theirs = [
        unbiased(*(rbf_kernel(a, b, 1 / (2 * s * s)) for a, b in ((x, x), (y, y), (x, y))))
        for s in (0.85, 1.7, 3.4)
    ]
    ours = evaluation.mmd(x, y, bandwidth=1.7)
    assert ours.value == close(np.mean(theirs), rel=1e-9)


@pairs
def test_frechet_distance_is_torchmetrics(pair: tuple[np.ndarray, np.ndarray]) -> None:
    moments = [v for s in map(torch.from_numpy, pair) for v in (s.mean(0), s.T.cov())]
    theirs = float(_compute_fid(*moments))
    assert evaluation.frechet_of_moments(*moments) == close(theirs, rel=1e-8)
    assert evaluation.frechet(*pair).plug_in == close(theirs, rel=1e-8)


def test_frechet_distance_of_commuting_gaussians() -> None:
    """|m|² + sum of (s_x - s_y)², also where both covariances are singular."""
    q, _ = np.linalg.qr(RNG.normal(size=(6, 6)))
    sx, sy = np.array([3.0, 1.0, 0.5, 2.0, 0, 0]), np.array([1.0, 1.0, 0.2, 0, 0, 2.0])
    mean = RNG.normal(size=6)
    covariances = [(q * s**2) @ q.T for s in (sx, sy)]
    ours = evaluation.frechet_of_moments(mean, covariances[0], np.zeros(6), covariances[1])
    assert ours == close((mean**2).sum() + ((sx - sy) ** 2).sum(), rel=1e-6)


def test_frechet_distance_of_fewer_examples_than_elements() -> None:
    """Equal sets are at distance 0, and a shift is at its square."""
    few = RNG.normal(size=(10, 40))
    assert evaluation.frechet(few, few).plug_in == close(0.0, abs=1e-6)
    assert evaluation.frechet(few + 0.5, few).plug_in == close(40 * 0.25, rel=1e-6)


def test_auc_is_scikit_learns() -> None:
    a, b = np.round(X[:, 0], 1), np.round(Y[:, 0], 1)  # with ties
    labels = np.repeat([1, 0], [len(a), len(b)])
    assert _auc(a, b)[0] == close(roc_auc_score(labels, np.concatenate([a, b])), abs=1e-12)


@pytest.mark.parametrize("sizes", [(16,), (9, 8), (5, 6, 4)])
def test_band_powers_are_numpys(sizes: tuple[int, ...]) -> None:
    x = RNG.normal(size=(7, 2, *sizes))
    axes = tuple(range(2, x.ndim))
    power = (np.abs(np.fft.fftn(x, axes=axes)) ** 2 / np.prod(sizes)).mean(1).reshape(7, -1)
    grid = np.meshgrid(*(np.fft.fftfreq(size) for size in sizes), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in grid)).ravel()
    band = np.round(radius * max(sizes))
    band[(radius > 0.5 + 1e-9) | (radius == 0)] = 0
    theirs = np.stack([power[:, band == b].mean(1) for b in np.unique(band[band > 0])], 1)
    frequency, ours = band_powers(x)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert len(frequency) == theirs.shape[1]


def test_a_sine_has_its_power_at_its_frequency() -> None:
    t = np.arange(32)
    phase = RNG.uniform(0, 2 * np.pi, (8, 1, 1))
    wave = np.sqrt(2) * np.sin(2 * np.pi * 5 * t / 32 + phase)
    frequency, power = band_powers(wave)
    assert float(frequency[power.mean(0).argmax()]) == close(5 / 32)
    # Parseval: the mean square, 1, over 32 samples lies in the two bins of this band.
    assert float(power.mean(0).max()) == close(32 / 2)
