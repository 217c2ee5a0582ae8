"""Posteriors of the exact densities against textbook formulas, quadrature and their own draws.

`CASES` lists the densities with observations: whatever holds for all of them runs over it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

import scorefield as sf
from scorefield.errors import InputError, Unsupported
from scorefield.exact import (
    Box,
    Empirical,
    ExactDensity,
    Gaussian,
    GaussianMixture,
    LinearGaussian,
    TruncatedNormal,
)
from scorefield.models import Bound, ScoreModel

SE = 4.5
F64 = torch.float64
UNIFORM = math.inf


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=generator(seed))


def covariance(d: int, seed: int = 0) -> Tensor:
    a = normals(d, d, seed=seed)
    return a @ a.T / d + 0.1 * torch.eye(d, dtype=F64)


def worst(got: Tensor, truth: Tensor) -> float:
    assert got.shape == truth.shape
    return float(((got - truth).abs() / (1 + truth.abs())).max())


def full(p: GaussianMixture) -> Tensor:
    """The covariances (K, d, d), whatever their form."""
    return torch.stack(
        [
            GaussianMixture.moments(component(p, k)).covariance  # type: ignore[misc]
            for k in range(len(p.means))
        ]
    )


def component(p: GaussianMixture, k: int) -> GaussianMixture:
    """One component by itself, from the buffers of the mixture."""
    alone = GaussianMixture(p.means[k : k + 1], p.spectrum[k : k + 1])
    alone.vectors = None if p.vectors is None else p.vectors[k : k + 1]
    return alone


def sigma_of(y: LinearGaussian) -> Tensor:
    return torch.diag(y.covariance) if y.covariance.ndim == 1 else y.covariance


# ---- the densities and observations that the tests run over


def mixture(kind: str = "full") -> GaussianMixture:
    """Three components of two elements; "thin": isotropic ones that were observed once."""
    means = [[-2.0, 0.5], [1.5, 1.0], [0.0, -2.0]]
    covariances = torch.stack([covariance(2, seed) for seed in range(3)])
    weights = [0.2, 0.5, 0.3]
    if kind == "diagonal":
        return GaussianMixture(
            means, covariances.diagonal(dim1=1, dim2=2), weights, labels=[0, 1, 0]
        )
    if kind == "isotropic":
        return GaussianMixture(means, [0.5, 1.0, 0.7], weights)
    if kind == "thin":
        first = LinearGaussian([[1.0, 0.4]], [0.3], 0.8)
        found = GaussianMixture(means, [0.5, 1.0, 0.7], weights).posterior(first)
        assert found.vectors is not None and found.vectors.shape == (3, 2, 1)
        return found
    return GaussianMixture(means, covariances, weights)


DENSITIES: dict[str, Callable[[], ExactDensity]] = {
    "gaussian": lambda: Gaussian([0.5, -1.0], covariance(2, 7)),
    "full": mixture,
    "diagonal": lambda: mixture("diagonal"),
    "isotropic": lambda: mixture("isotropic"),
    "thin": lambda: mixture("thin"),
    "box": lambda: Box([-1.0, -2.0], [2.0, 1.5]),
    "truncated": lambda: TruncatedNormal([-1.0, -2.0], [2.0, 1.5], [0.3, 2.0], [0.8, 0.5]),
}
OBSERVATIONS = {
    "one element": LinearGaussian([[0.0, -1.5]], [0.9], 0.3),
    "each element": LinearGaussian([[2.0, 0.0], [0.0, 0.7]], [0.5, -0.2], [0.4, 0.9]),
    "an element twice": LinearGaussian([[1.0, 0.0], [0.0, 1.0], [-0.5, 0.0]], [0.1, 0.4, 0.3], 0.5),
    "coupled": LinearGaussian([[1.0, 1.0]], [0.6], 0.2),
    "correlated": LinearGaussian(
        [[1.0, 0.3], [-0.2, 1.0], [0.5, 0.5]], [0.6, 0.1, -0.3], covariance(3, 4)
    ),
}
COUPLING = ("coupled", "correlated")
PAIRS = [
    (density, observation)
    for density in DENSITIES
    for observation in OBSERVATIONS
    if observation not in COUPLING or density not in ("box", "truncated")
]


def prior_density(p: ExactDensity, x: Tensor) -> Tensor:
    """log p(x), with the truncated densities written out with SciPy."""
    if isinstance(p, TruncatedNormal):
        total = torch.zeros(len(x), dtype=F64)
        for k in range(2):
            low, high = float(p.low[k]), float(p.high[k])
            m, v = float(p.mean[k]), float(p.variance[k])
            if math.isinf(v):
                law = scipy.stats.uniform(low, high - low)
            else:
                root = math.sqrt(v)
                law = scipy.stats.truncnorm((low - m) / root, (high - m) / root, m, root)
            total += torch.as_tensor(law.logpdf(x[:, k].numpy()))
        return total
    assert isinstance(p, GaussianMixture)
    return p.log_prob(x)


@dataclass(frozen=True)
class Grid:
    """Quadrature in the plane: points, the log of their weights times the prior's density."""

    points: Tensor
    nats: Tensor

    def given(self, *likelihoods: Tensor) -> tuple[Tensor, float]:
        """Normalised weights given the likelihoods, and the log of what they integrate to."""
        logs = self.nats + sum(likelihoods)
        return logs.softmax(0), float(logs.logsumexp(0))


def grid(p: ExactDensity) -> Grid:
    """The trapezoidal rule on the whole plane, Gauss-Legendre inside a box."""
    if isinstance(p, TruncatedNormal):
        nodes, weights = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(200))
        half = (p.high - p.low) / 2
        axes = [p.low[k] + half[k] * (nodes + 1) for k in range(2)]
        logs = [(weights * half[k]).log() for k in range(2)]
    else:
        axes = [torch.linspace(-10, 10, 801, dtype=F64)] * 2
        logs = [torch.full((801,), math.log(20 / 800), dtype=F64)] * 2
    points = torch.cartesian_prod(*axes)
    step = torch.cartesian_prod(*logs).sum(1)
    return Grid(points, step + prior_density(p, points))


def textbook_likelihood(y: LinearGaussian, x: Tensor) -> Tensor:
    law = torch.distributions.MultivariateNormal(y.observed, sigma_of(y))
    return law.log_prob(x @ y.matrix.T)


# ---- one Gaussian


def textbook(mean: Tensor, c: Tensor, y: LinearGaussian) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, covariance and log evidence as every book has them."""
    a = y.matrix
    s = a @ c @ a.T + sigma_of(y)
    gain = torch.linalg.solve(s, a @ c).T
    law = torch.distributions.MultivariateNormal(a @ mean, s)
    return mean + gain @ (y.observed - a @ mean), c - gain @ a @ c, law.log_prob(y.observed)


@pytest.mark.parametrize("noise", ["full", "variances", "one", "tiny", "none"])
@pytest.mark.parametrize("form", ["full", "diagonal", "isotropic"])
@pytest.mark.parametrize(("d", "m"), [(1, 1), (5, 1), (5, 3), (5, 5), (6, 2)])
def test_gaussian_posterior_is_the_textbooks(noise: str, form: str, d: int, m: int) -> None:
    c = covariance(d, d)
    c = {"full": c, "diagonal": torch.diag(c.diagonal()), "isotropic": 0.7 * torch.eye(d).to(F64)}[
        form
    ]
    given = {"full": c, "diagonal": c.diagonal(), "isotropic": 0.7}[form]
    sigma = {
        "full": covariance(m, 20),
        "variances": torch.linspace(0.1, 1, m, dtype=F64),
        "one": 0.3,
        "tiny": 1e-8,
        "none": 0.0,
    }[noise]
    mean = normals(d, seed=1)
    p, y = Gaussian(mean, given), LinearGaussian(normals(m, d, seed=2), normals(m, seed=3), sigma)
    q = p.posterior(y)
    moments = q.moments()
    truth = textbook(mean, c, y)
    assert isinstance(q, Gaussian) and moments.covariance is not None
    # S is as well conditioned as A C A' only, where there is no noise: the book loses digits there.
    tolerance = 1e-10 if noise not in ("tiny", "none") else 1e-8
    assert worst(moments.mean, truth[0]) < tolerance
    assert worst(moments.covariance, truth[1]) < tolerance
    assert abs(p.log_evidence(y) - float(truth[2])) < tolerance * (1 + abs(float(truth[2])))


def test_observed_elements_condition_the_others() -> None:
    """A block of elements without noise: the mean is m_a + C_ab C_bb^-1 (y - m_b)."""
    c, mean, y = covariance(5, 3), normals(5), normals(2, seed=9)
    a, b = [0, 2, 4], [1, 3]
    q = Gaussian(mean, c).posterior(LinearGaussian(torch.eye(5, dtype=F64)[b], y)).moments()
    gain = torch.linalg.solve(c[b][:, b], c[b][:, a]).T
    assert worst(q.mean[a], mean[a] + gain @ (y - mean[b])) < 1e-10
    assert worst(q.covariance[a][:, a], c[a][:, a] - gain @ c[b][:, a]) < 1e-10
    assert worst(q.mean[b], y) < 1e-10
    assert float(q.covariance[b].abs().max()) < 1e-14


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_diagonal_covariances_in_any_form_have_the_same_posterior(observation: str) -> None:
    """Element by element, in a few directions, or in full: three computations."""
    y = OBSERVATIONS[observation]
    means, variances = normals(3, 2), [0.5, 1.0, 0.7]
    eye = torch.eye(2, dtype=F64)
    # A rotation that is not diagonal keeps the covariance and takes the general computation.
    turned = torch.linalg.qr(normals(2, 2, seed=5))[0]
    forms = [
        GaussianMixture(means, variances),
        GaussianMixture(means, torch.stack([v * eye for v in variances])),
        GaussianMixture(means, torch.tensor(variances, dtype=F64)[:, None].expand(3, 2)),
    ]
    forms[1].vectors = turned.expand(3, 2, 2).clone()
    found = [p.posterior(y) for p in forms]
    for p, q in zip(forms, found, strict=True):
        assert worst(q.means, found[0].means) < 1e-12
        assert worst(full(q), full(found[0])) < 1e-12
        assert worst(q.weights, found[0].weights) < 1e-12
        assert p.log_evidence(y) == pytest.approx(forms[0].log_evidence(y), abs=1e-12)


# ---- mean, weights, evidence and the denoiser by quadrature


@pytest.mark.parametrize(("density", "observation"), PAIRS)
def test_moments_and_evidence_agree_with_quadrature(density: str, observation: str) -> None:
    p, y = DENSITIES[density](), OBSERVATIONS[observation]
    nodes = grid(p)
    weights, evidence = nodes.given(textbook_likelihood(y, nodes.points))
    q = p.posterior(y)
    moments = q.moments()
    mean = weights @ nodes.points
    apart = nodes.points - mean
    second = (apart.T * weights) @ apart
    assert worst(moments.mean, mean) < 1e-6
    assert worst(moments.variance, second.diagonal()) < 1e-6
    if moments.covariance is not None:
        assert worst(moments.covariance, second) < 1e-6
    assert p.log_evidence(y) == pytest.approx(evidence, abs=1e-6)
    if isinstance(p, GaussianMixture) and isinstance(q, GaussianMixture):
        for k in range(len(p.means)):
            part = component(p, k)
            log_weight = Grid(nodes.points, nodes.nats - p.log_prob(nodes.points))
            nats = p.log_weights[k] + part.log_prob(nodes.points)
            share = log_weight.given(nats, textbook_likelihood(y, nodes.points))[1]
            assert float(q.log_weights[k]) == pytest.approx(share - evidence, abs=1e-6)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 5.0])
@pytest.mark.parametrize(("density", "observation"), PAIRS)
def test_denoised_given_the_observation_agrees_with_quadrature(
    density: str, observation: str, sigma: float
) -> None:
    """E[x0 | x_sigma, y] and log p_sigma(x | y), from p(x0) N(x; x0, sigma²) N(y; A x0, Sigma)."""
    p, y = DENSITIES[density](), OBSERVATIONS[observation]
    nodes = grid(p)
    likelihood = textbook_likelihood(y, nodes.points)
    evidence = nodes.given(likelihood)[1]
    q = p.posterior(y)
    x = torch.tensor([[0.3, -0.4], [-3.0, 2.0], [4.0, 4.0]], dtype=F64)
    for row in x:
        noise = -(row - nodes.points).square().sum(1) / (2 * sigma**2)
        noise = noise - math.log(2 * math.pi * sigma**2)
        weights, total = nodes.given(likelihood, noise)
        assert worst(q.denoise(row[None], sigma)[0], weights @ nodes.points) < 1e-6
        assert float(q.log_prob(row[None], sigma)) == pytest.approx(total - evidence, abs=1e-6)


def test_weights_without_the_evidence_fail_the_quadrature() -> None:
    """The negative control: components conditioned one by one, with the prior's weights."""
    p, y = mixture(), OBSERVATIONS["coupled"]
    nodes = grid(p)
    weights, _ = nodes.given(textbook_likelihood(y, nodes.points))
    q = p.posterior(y)
    wrong = p.log_weights.exp() @ q.means
    assert worst(q.moments().mean, weights @ nodes.points) < 1e-6
    assert worst(wrong, weights @ nodes.points) > 0.05


# ---- the contract of the posteriors


@pytest.mark.parametrize(("density", "observation"), PAIRS)
def test_score_and_denoise_agree_with_autograd(density: str, observation: str) -> None:
    q = DENSITIES[density]().posterior(OBSERVATIONS[observation])
    x = 3 * normals(20, 2, seed=11)
    for sigma in (0.3, 2.0, 30.0):
        leaf = x.clone().requires_grad_()
        (truth,) = torch.autograd.grad(q.log_prob(leaf, sigma).sum(), leaf)
        assert worst(q.score(x, sigma), truth) < 1e-9
        assert worst(q.denoise(x, sigma), x + sigma**2 * truth) < 1e-9


@pytest.mark.parametrize(("density", "observation"), PAIRS)
def test_draws_have_the_moments_of_the_closed_form(density: str, observation: str) -> None:
    q, count = DENSITIES[density]().posterior(OBSERVATIONS[observation]), 20000
    known = q.moments()
    exact = torch.diag(known.variance) if known.covariance is None else known.covariance
    for sigma in (0.0, 0.8):
        x = q.sample(count, sigma, seed=5)
        total = exact + sigma**2 * torch.eye(2, dtype=F64)
        centred = x - known.mean
        assert (centred.mean(0).abs() < SE * (total.diagonal() / count).sqrt()).all()
        products = centred[:, :, None] * centred[:, None]
        assert ((products.mean(0) - total).abs() < SE * products.std(0) / math.sqrt(count)).all()
        if sigma:
            score = q.score(x, sigma)
            assert (score.mean(0).abs() < SE * score.std(0) / math.sqrt(count)).all()
    # Equal up to the rounding of matrix products, which depends on the number of rows.
    first, second = q.sample(10, 0.5, seed=3), q.sample(50, 0.5, seed=3)[:10]
    assert torch.allclose(first, second, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("density", DENSITIES)
def test_posteriors_are_sampled_and_evaluated_as_any_model(density: str) -> None:
    q = DENSITIES[density]().posterior(OBSERVATIONS["each element"])
    assert isinstance(q, ScoreModel) and q.has_posterior and q.has_log_density
    low, high = q.sampling_range()
    assert 0 < low < high < math.inf
    count = 4000
    x = sf.sample(q, count, seed=1, nfe=30)
    known = q.moments()
    assert ((x - known.mean).mean(0).abs() < SE * (known.variance / count).sqrt()).all()
    spread = (x - known.mean).square()
    assert ((spread.mean(0) - known.variance).abs() < SE * spread.std(0) / count**0.5).all()
    points = q.sample(5, seed=2)
    got = sf.log_prob(q, points)
    assert worst(got.value, q.log_prob(points, got.sigma_min)) < 1e-3
    assert "density" in repr(q) or "Mixture" in repr(q) or "normal" in repr(q)


@pytest.mark.parametrize("density", DENSITIES)
def test_two_observations_one_after_the_other_are_one(density: str) -> None:
    p = DENSITIES[density]()
    first = LinearGaussian([[1.0, 0.0]], [0.4], 0.3)
    second = LinearGaussian([[0.0, 2.0], [0.5, 0.0]], [0.2, 0.1], [0.1, 0.6])
    if not isinstance(p, TruncatedNormal):
        second = LinearGaussian([[1.0, 2.0], [0.5, -1.0]], [0.2, 0.1], covariance(2, 8))
    noise = torch.block_diag(sigma_of(first), sigma_of(second))
    both = LinearGaussian(
        torch.cat([first.matrix, second.matrix]),
        torch.cat([first.observed, second.observed]),
        noise,
    )
    step, once = p.posterior(first).posterior(second), p.posterior(both)
    assert worst(step.moments().mean, once.moments().mean) < 1e-9
    assert worst(step.moments().variance, once.moments().variance) < 1e-9
    x = 2 * normals(10, 2, seed=4)
    assert worst(step.denoise(x, 0.7), once.denoise(x, 0.7)) < 1e-9
    chain = p.log_evidence(first) + p.posterior(first).log_evidence(second)
    assert chain == pytest.approx(p.log_evidence(both), abs=1e-9)
    back = p.posterior(second).posterior(first)
    assert worst(back.denoise(x, 0.7), once.denoise(x, 0.7)) < 1e-9


@pytest.mark.parametrize("density", DENSITIES)
def test_nothing_observed_changes_nothing(density: str) -> None:
    p, x = DENSITIES[density](), normals(5, 2)
    for y, evidence in (
        (LinearGaussian(torch.zeros(0, 2), torch.zeros(0)), 0.0),
        (LinearGaussian([[0.0, 0.0]], [0.5], 2.0), -0.125 / 2 - math.log(4 * math.pi) / 2),
    ):
        assert worst(p.posterior(y).denoise(x, 0.6), p.denoise(x, 0.6)) < 1e-12
        assert p.log_evidence(y) == pytest.approx(evidence, abs=1e-12)


def test_a_measurement_states_itself() -> None:
    class Half:
        def linear_gaussian(self, event_shape: tuple[int, ...]) -> LinearGaussian:
            assert event_shape == (1, 2)
            return OBSERVATIONS["one element"]

    p = GaussianMixture(normals(3, 1, 2), 0.5)
    q = p.posterior(Half())
    assert q.event_shape == (1, 2)
    assert torch.equal(q.means, p.posterior(OBSERVATIONS["one element"]).means)
    points = Empirical(normals(9, 1, 2))
    truth = points.posterior(OBSERVATIONS["one element"])
    assert torch.equal(points.posterior(Half()).log_weights, truth.log_weights)


# ---- exact observations


@pytest.mark.parametrize("form", ["full", "isotropic", "thin", "diagonal"])
@pytest.mark.parametrize("row", [[1.0, 0.0], [1.0, -0.7]])
def test_no_noise_is_the_limit_of_little_noise(form: str, row: list[float]) -> None:
    """The difference is of the order of the variance: 1e-8 here, and 100 times less at 1e-10."""
    p = mixture(form)
    exact = LinearGaussian([row], [0.4])
    x = normals(10, 2)
    truth = p.posterior(exact)
    for variance in (1e-8, 1e-10):
        near = LinearGaussian([row], [0.4], variance)
        q = p.posterior(near)
        assert worst(q.weights, truth.weights) < 20 * variance
        assert worst(q.means, truth.means) < 20 * variance
        assert worst(full(q), full(truth)) < 20 * variance
        assert worst(q.denoise(x, 0.5), truth.denoise(x, 0.5)) < 200 * variance
        assert p.log_evidence(near) == pytest.approx(p.log_evidence(exact), abs=50 * variance)
    draws = truth.sample(1000, seed=2)
    assert float((draws @ exact.matrix.T - 0.4).abs().max()) < 1e-12
    assert float((sf.sample(truth, 100, nfe=20) @ exact.matrix.T - 0.4).abs().max()) < 1e-10


@pytest.mark.parametrize("density", ["box", "truncated"])
def test_an_element_of_a_box_observed_exactly_is_a_point(density: str) -> None:
    p = DENSITIES[density]()
    q = p.posterior(LinearGaussian([[0.0, 2.0]], [1.0]))
    x = normals(20, 2)
    assert torch.equal(q.denoise(x, 0.3)[:, 1], torch.full((20,), 0.5, dtype=F64))
    assert torch.equal(q.denoise(x, 0.3)[:, 0], p.denoise(x, 0.3)[:, 0])
    assert torch.equal(q.sample(10)[:, 1], torch.full((10,), 0.5, dtype=F64))
    near = p.posterior(LinearGaussian([[0.0, 2.0]], [1.0], 1e-12))
    assert worst(near.log_prob(x, 0.3), q.log_prob(x, 0.3)) < 1e-9
    for variance, tolerance in ((0.0, 1e-12), (1e-10, 1e-8)):
        y = LinearGaussian([[0.0, 2.0]], [1.0], variance)
        at = torch.tensor([[0.0, 0.5]], dtype=F64)
        other = LinearGaussian([[1.0, 0.0]], [0.0])
        truth = float(prior_density(p, at)) - p.log_evidence(other) - math.log(2)
        assert p.log_evidence(y) == pytest.approx(truth, abs=tolerance)
    assert float((sf.sample(q, 50, nfe=20)[:, 1] - 0.5).abs().max()) < 1e-12


def test_symmetric_modes_keep_their_weights_when_one_element_is_known() -> None:
    """The article's inpainting: modes of weights 0.2 and 0.8, the first element is 0 exactly."""
    p = GaussianMixture([[-5.0, -5.0], [5.0, 5.0]], 1.0, [0.2, 0.8])
    q = p.posterior(LinearGaussian([[1.0, 0.0]], [0.0]))
    assert worst(q.weights, torch.tensor([0.2, 0.8], dtype=F64)) < 1e-14
    assert worst(q.means, torch.tensor([[0.0, -5.0], [0.0, 5.0]], dtype=F64)) < 1e-14
    assert worst(full(q), torch.diag(torch.tensor([0.0, 1.0], dtype=F64)).expand(2, 2, 2)) < 1e-14
    count = 20000
    for draws in (q.sample(count, seed=1), sf.sample(q, count, seed=1, nfe=20)):
        assert float(draws[:, 0].abs().max()) < 1e-12
        small = float((draws[:, 1] < 0).double().mean())
        assert abs(small - 0.2) < SE * math.sqrt(0.2 * 0.8 / count)


def test_rows_repeated_without_noise_change_nothing() -> None:
    p = GaussianMixture(normals(3, 4), torch.stack([covariance(4, k) for k in range(3)]))
    row, other = normals(1, 4, seed=1), normals(1, 4, seed=2)
    y = LinearGaussian(row, [0.3])
    twice = LinearGaussian(torch.cat([row, row, -3 * row]), [0.3, 0.3, -0.9])
    x = normals(5, 4)
    truth = p.posterior(y)
    assert worst(p.posterior(twice).denoise(x, 0.4), truth.denoise(x, 0.4)) < 1e-10
    mixed = LinearGaussian(torch.cat([row, other, row]), [0.3, 0.2, 0.3], [0.0, 0.5, 0.0])
    single = LinearGaussian(torch.cat([row, other]), [0.3, 0.2], [0.0, 0.5])
    assert worst(p.posterior(mixed).denoise(x, 0.4), p.posterior(single).denoise(x, 0.4)) < 1e-10
    with pytest.raises(InputError, match="impossible"):
        p.posterior(LinearGaussian(torch.cat([row, row]), [0.3, 0.31]))
    # The density of (y, y, -3 y) along its line, whose length is sqrt(11) that of y.
    assert p.log_evidence(twice) == pytest.approx(p.log_evidence(y) - math.log(11) / 2, abs=1e-10)
    flat = GaussianMixture(normals(3, 2), [[0.5, 1.0]] * 3)
    once, again = (
        LinearGaussian([[2.0, 0.0]], [0.6]),
        LinearGaussian([[2.0, 0.0], [2.0, 0.0], [-6.0, 0.0]], [0.6, 0.6, -1.8]),
    )
    assert flat.log_evidence(again) == pytest.approx(flat.log_evidence(once) - math.log(11) / 2)


def test_singular_noise_is_exact_in_its_null_direction() -> None:
    c = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=F64) * 0.5
    p, a, y = Gaussian(normals(4), covariance(4)), normals(2, 4, seed=1), [0.4, -0.3]
    q = p.posterior(LinearGaussian(a, y, c))
    near = textbook(
        p.means[0], full(p)[0], LinearGaussian(a, y, c + 1e-9 * torch.eye(2, dtype=F64))
    )
    assert worst(q.moments().mean, near[0]) < 1e-7
    assert worst(q.moments().covariance, near[1]) < 1e-7
    draws = q.sample(500)
    assert float((draws @ (a[0] - a[1]) - 0.7).abs().max()) < 1e-12


@pytest.mark.parametrize("ratio", [1e-4, 1e-8, 1e-12, 1e-40])
def test_noise_of_very_different_sizes_in_the_rows(ratio: float) -> None:
    """Against the two observations one after the other, the noisier one first."""
    p = GaussianMixture(normals(2, 3), torch.stack([covariance(3, k) for k in range(2)]))
    rows, y = normals(3, 3, seed=3), [0.2, -0.1, 0.4]
    rows[2] = rows[0] + rows[1]  # no information beyond the first two but what their noise leaves
    both = LinearGaussian(rows, y, [0.5, 0.5, 0.5 * ratio])
    steps = p.posterior(LinearGaussian(rows[:2], y[:2], 0.5)).posterior(
        LinearGaussian(rows[2:], y[2:], 0.5 * ratio)
    )
    x = normals(6, 3)
    once = p.posterior(both)
    assert worst(once.denoise(x, 0.5), steps.denoise(x, 0.5)) < 1e-8
    assert worst(once.weights, steps.weights) < 1e-8
    assert (once.spectrum >= 0).all()


def test_points_beside_wide_components() -> None:
    """What an exact observation of a point does, and a noisy one."""
    p = GaussianMixture(
        [[0.0, 0.0], [1.0, 2.0], [1.0, -1.0]], [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]], [0.6, 0.1, 0.3]
    )
    at_point = p.posterior(LinearGaussian(torch.eye(2), [1.0, 2.0]))
    assert at_point.weights.tolist() == [0.0, 1.0, 0.0]
    on_line = p.posterior(LinearGaussian([[1.0, 0.0]], [1.0]))
    assert on_line.weights.tolist() == pytest.approx([0.0, 0.25, 0.75])
    beside = p.posterior(LinearGaussian([[1.0, 0.0]], [1.5]))
    assert beside.weights.tolist() == [1.0, 0.0, 0.0]
    noisy = LinearGaussian([[1.0, 0.0]], [1.0], 1e-8)
    law = [scipy.stats.norm(0, math.sqrt(1 + 1e-8)), *[scipy.stats.norm(1, 1e-4)] * 2]
    shares = np.array([w * n.pdf(1.0) for w, n in zip((0.6, 0.1, 0.3), law, strict=True)])
    assert p.posterior(noisy).weights.tolist() == pytest.approx(shares / shares.sum(), rel=1e-10)
    assert p.log_evidence(noisy) == pytest.approx(math.log(shares.sum()), abs=1e-10)
    # Where the noise goes to zero, so does the weight of the wide component.
    tiny = p.posterior(LinearGaussian([[1.0, 0.0]], [1.0], 1e-30))
    assert tiny.weights.tolist() == pytest.approx(on_line.weights.tolist(), abs=1e-12)


def test_impossible_observations_are_refused() -> None:
    points = torch.tensor([[0.0, 1.0], [2.0, 3.0]], dtype=F64)
    exact = LinearGaussian([[1.0, 0.0]], [1.0])
    line = Gaussian([0.0, 0.0], [[1.0, 1.0], [1.0, 1.0]])
    for p, y in (
        (GaussianMixture(points, 0.0), exact),
        (GaussianMixture(points, torch.zeros(2, 2, 2)), exact),
        (Empirical(points), exact),
        (line, LinearGaussian([[1.0, -1.0]], [0.5])),
        (Box([0.0, 0.0], [0.5, 1.0]), exact),
        (Box([0.0, 0.0], [2.0, 1.0]).posterior(LinearGaussian([[1.0, 0.0]], [0.5])), exact),
        (Gaussian([0.0, 0.0], 1.0), LinearGaussian([[1.0, 0.0], [1.0, 0.0]], [1.0, 2.0])),
        (Gaussian([0.0, 0.0], 1.0), LinearGaussian([[0.0, 0.0]], [1.0])),
        (Gaussian([0.0, 0.0], covariance(2)), LinearGaussian([[0.0, 0.0]], [1.0])),
    ):
        for method in (p.posterior, p.log_evidence):
            with pytest.raises(InputError, match="impossible"):
                method(y)
    ok = line.posterior(LinearGaussian([[1.0, -1.0]], [0.0]))
    assert worst(full(ok), full(line)) < 1e-12
    # Numbers that went through float32 agree.
    third = torch.tensor([[1 / 3, 1.0]], dtype=F64)
    rounded = LinearGaussian([[1.0, 0.0]], third[0, :1].float())
    assert GaussianMixture(third, 0.0).log_evidence(rounded) == pytest.approx(0.0)
    assert Empirical(third).log_evidence(rounded) == pytest.approx(0.0)


# ---- mixtures: weights, labels, size


def test_components_without_weight_stay_without() -> None:
    p = GaussianMixture([[0.0, 0.0], [1.0, 1.0]], 1.0, [0.0, 1.0])
    q = p.posterior(LinearGaussian([[1.0, 0.0]], [-3.0], 0.1))
    assert q.weights.tolist() == [0.0, 1.0]
    assert torch.isfinite(q.denoise(normals(3, 2), 0.5)).all()
    point = GaussianMixture([[0.0], [1.0]], [0.0, 1.0], [0.0, 1.0])
    assert point.posterior(LinearGaussian([[1.0]], [0.0])).weights.tolist() == [0.0, 1.0]


def test_labels_stay_where_every_class_stays() -> None:
    p = mixture("diagonal")
    q = p.posterior(OBSERVATIONS["coupled"])
    assert q.labels is not None and q.labels.tolist() == [0, 1, 0]
    x, classes = normals(4, 2), {"class": torch.tensor([0, 1, 0, 1])}
    for c in (0, 1):
        rows = [k for k in range(3) if p.labels.tolist()[k] == c]
        alone = GaussianMixture(
            p.means[rows], p.spectrum[rows], log_weights=p.log_weights[rows]
        ).posterior(OBSERVATIONS["coupled"])
        mine = classes["class"] == c
        assert worst(q.denoise(x, 0.6, classes)[mine], alone.denoise(x[mine], 0.6)) < 1e-12
    points = GaussianMixture([[0.0], [1.0]], 0.0, labels=[0, 1])
    assert points.posterior(LinearGaussian([[1.0]], [1.0])).labels is None


def test_twenty_five_modes_agree_with_their_exact_draws() -> None:
    """The posterior suite's mixture: x = z + A' S^-1 (y - A z - sigma_y n), z ~ N(m_k, I)."""
    d, m, count = 8, 2, 20000
    axis = torch.arange(-2, 3, dtype=F64)
    pairs = torch.cartesian_prod(axis, axis)
    p = GaussianMixture(-8 * pairs.repeat(1, d // 2), 1.0, normals(25, seed=27).square())
    u, _, v = torch.linalg.svd(normals(m, d, seed=1), full_matrices=False)
    a = u @ torch.diag(torch.tensor([0.9, 0.3], dtype=F64)) @ v
    noise = 0.5
    y = a @ p.sample(1, seed=4)[0] + noise * normals(m, seed=5)
    s = a @ a.T + noise**2 * torch.eye(m, dtype=F64)
    law = torch.distributions.MultivariateNormal(p.means @ a.T, s)
    weights = (p.log_weights + law.log_prob(y)).softmax(0)
    g = generator(6)
    chosen = torch.multinomial(weights, count, replacement=True, generator=g)
    z = p.means[chosen] + torch.randn(count, d, dtype=F64, generator=g)
    n = noise * torch.randn(count, m, dtype=F64, generator=g)
    truth = z + torch.linalg.solve(s, (y - z @ a.T - n).T).T @ a

    q = p.posterior(LinearGaussian(a, y, noise**2))
    assert worst(q.weights, weights) < 1e-12
    assert q.vectors is not None and q.vectors.shape == (25, d, m)
    directions = torch.nn.functional.normalize(normals(100, d, seed=7), dim=1)

    def apart(x: Tensor) -> float:
        """The largest difference of sliced first to fourth moments, in standard errors."""
        here, there = (one @ directions.T for one in (x, truth))
        centre, scale = there.mean(0), there.std(0)
        found = 0.0
        for power in (1, 2, 3, 4):
            f, t = (((one - centre) / scale) ** power for one in (here, there))
            error = ((f.var(0) + t.var(0)) / count).sqrt()
            found = max(found, float(((f.mean(0) - t.mean(0)).abs() / error).max()))
        return found

    assert apart(q.sample(count, seed=8)) < SE
    # The negative control: the prior's weights.
    wrong = GaussianMixture(q.means, q.spectrum, log_weights=p.log_weights)
    wrong.vectors = q.vectors
    assert apart(wrong.sample(count, seed=8)) > 2 * SE


def test_twenty_five_modes_in_800_dimensions_take_little_memory() -> None:
    d, m = 800, 4
    axis = torch.arange(-2, 3, dtype=F64)
    p = GaussianMixture(-8 * torch.cartesian_prod(axis, axis).repeat(1, d // 2), 1.0)
    a = normals(m, d, seed=1) / math.sqrt(d)
    y = LinearGaussian(a, a @ p.sample(1, seed=1)[0], 0.01)
    q = p.posterior(y)
    assert q.vectors is not None and q.vectors.shape == (25, d, m)
    truth = textbook(p.means[3], torch.eye(d, dtype=F64), y)
    assert worst(q.means[3], truth[0]) < 1e-10
    assert worst(full(component(q, 3))[0], truth[1]) < 1e-10
    x = q.sample(50, 0.3, seed=2)
    assert q.denoise(x, 0.3).shape == x.shape


# ---- empirical densities


def test_weighted_points_are_a_mixture_without_covariances() -> None:
    data, logs = normals(60, 2, 3), 3 * normals(60, seed=1)
    logs[5] = -math.inf
    points = GaussianMixture(data, 0.0, log_weights=logs)
    for block in (1, 7, 4096):
        model = Empirical(data, block, logs)
        model.rows = 4
        assert len(model.data) == 59
        x = 2 * normals(10, 2, 3, seed=2)
        for sigma in (0.05, 1.0, 30.0, torch.linspace(0.1, 2, 10, dtype=F64)):
            assert worst(model.denoise(x, sigma), points.denoise(x, sigma)) < 1e-10
            assert worst(model.score(x, sigma), points.score(x, sigma)) < 1e-9
            assert worst(model.log_prob(x, sigma), points.log_prob(x, sigma)) < 1e-9
        known, truth = model.moments(), points.moments()
        assert worst(known.mean, truth.mean) < 1e-12
        assert known.covariance is not None and truth.covariance is not None
        assert worst(known.covariance, truth.covariance) < 1e-12
    count = 20000
    drawn = model.sample(count, seed=3).flatten(1)
    shares = points.weights[[k for k in range(60) if k != 5]]
    for k in range(59):
        share = (drawn == model.data[k]).all(1).double().mean()
        error = math.sqrt(float(shares[k] * (1 - shares[k])) / count)
        assert abs(float(share - shares[k])) < SE * error + 1e-9
    assert model.effective_count == pytest.approx(1 / float(shares.square().sum()))
    assert Empirical(data).effective_count == 60
    large = Empirical(normals(20, 9, 9), 8, normals(20, seed=1)).moments()
    apart = normals(20, 9, 9) - large.mean
    weights = normals(20, seed=1).softmax(0)[:, None, None]
    assert worst(large.variance, (weights * apart.square()).sum(0)) < 1e-12


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_empirical_posterior_is_that_of_a_mixture_of_points(observation: str) -> None:
    y, data = OBSERVATIONS[observation], normals(50, 2)
    points, model = GaussianMixture(data, 0.0), Empirical(data, block=7)
    q, truth = model.posterior(y), points.posterior(y)
    x = normals(8, 2, seed=1)
    assert worst(q.denoise(x, 0.3), truth.denoise(x, 0.3)) < 1e-10
    assert model.log_evidence(y) == pytest.approx(points.log_evidence(y), abs=1e-10)
    assert worst(q.log_weights.exp(), (textbook_likelihood(y, data)).softmax(0)) < 1e-12
    twice = q.posterior(y)
    assert worst(twice.denoise(x, 0.3), truth.posterior(y).denoise(x, 0.3)) < 1e-10
    x = sf.sample(q, 20, nfe=20)
    assert float(torch.cdist(x, data).amin(1).max()) < 0.05


def test_empirical_posterior_of_an_exact_element() -> None:
    data = torch.tensor([[0.0, 1.0], [0.0, 2.0], [3.0, 4.0], [0.0, 5.0]], dtype=F64)
    y = LinearGaussian([[1.0, 0.0]], [0.0])
    q = Empirical(data).posterior(y)
    assert torch.equal(q.data, data[[0, 1, 3]])
    assert worst(q.log_weights.exp(), torch.full((3,), 1 / 3, dtype=F64)) < 1e-12
    assert Empirical(data).log_evidence(y) == pytest.approx(math.log(3 / 4))


def test_empirical_posterior_under_poisson_counts() -> None:
    """Any likelihood: weights proportional to the product of e^-rate rate^count / count!."""
    data = torch.rand(40, 1, 3, dtype=F64, generator=generator(1)) * 5
    counts = torch.tensor([1.0, 4.0, 2.0], dtype=F64)
    seen: list[int] = []

    def log_likelihood(x: Tensor) -> Tensor:
        assert x.dtype == F64 and x.shape[1:] == (1, 3)
        seen.append(len(x))
        return torch.distributions.Poisson(x).log_prob(counts).flatten(1).sum(1)

    model = Empirical(data.float(), block=16)
    q = model.posterior(log_likelihood)
    assert seen == [16, 16, 8]
    rates = data.float().double().flatten(1).numpy()
    truth = scipy.stats.poisson.pmf(counts.numpy(), rates).prod(1)
    assert q.log_weights is not None
    assert q.log_weights.exp().numpy() == pytest.approx(truth / truth.sum(), rel=1e-10)
    assert model.log_evidence(log_likelihood) == pytest.approx(math.log(truth.mean()), abs=1e-10)
    for bad, words in (
        (lambda x: torch.zeros(len(x), 1), "one number"),
        (lambda x: torch.full((len(x),), math.nan), "NaN"),
        (lambda x: torch.full((len(x),), -math.inf), "impossible"),
        (3, "LinearGaussian"),
    ):
        with pytest.raises(InputError, match=words):
            model.posterior(bad)


# ---- truncated normals


@pytest.mark.parametrize("mean", [0.3, -1.0, 2.0, 9.0, -40.0, 1e4, -1e7])
@pytest.mark.parametrize("variance", [0.01, 1.0, 1e4])
def test_truncated_normal_moments_and_draws(mean: float, variance: float) -> None:
    """Against quadrature of the density, relative to its highest point."""
    p = TruncatedNormal([-1.0], [2.0], [mean], [variance])
    top = min(max(mean, -1.0), 2.0)
    gap, root = abs(top - mean), math.sqrt(variance)
    # Far outside the density is exponential over variance/gap.
    reach = min(3.0, 40 * min(root, variance / gap if gap else root))
    nodes, weights = np.polynomial.legendre.leggauss(400)
    low, high = max(-1.0 - top, -reach), min(2.0 - top, reach)
    t = low + (high - low) * (nodes + 1) / 2
    f = weights * np.exp(-t * (t / 2 + top - mean) / variance)
    shift = (f * t).sum() / f.sum()
    spread = (f * (t - shift) ** 2).sum() / f.sum()
    known = p.moments()
    assert float(known.mean) == pytest.approx(top + shift, abs=1e-12)
    assert float(known.mean) - top == pytest.approx(shift, rel=1e-6, abs=1e-15)
    assert float(known.variance) == pytest.approx(spread, rel=1e-9)
    x = p.sample(20000, seed=2)[:, 0] - top
    assert abs(float(x.mean() - shift)) < SE * math.sqrt(spread / len(x)) + 1e-15
    squares = (x - shift).square()
    assert abs(float(squares.mean()) - spread) < SE * float(squares.std()) / math.sqrt(len(x))
    assert bool((x + top <= 2).all()) and bool((x + top >= -1).all())


@pytest.mark.parametrize("mean", [0.3, -1.0, 4.0, -9.0])
def test_truncated_normal_is_scipys(mean: float) -> None:
    root = 0.6
    law = scipy.stats.truncnorm((-1 - mean) / root, (2 - mean) / root, mean, root)
    p = TruncatedNormal([-1.0], [2.0], [mean], [root**2])
    u = torch.linspace(0, 0.999, 50, dtype=F64)[:, None]
    found = p._quantile(u)[:, 0]
    assert worst(found[1:], torch.as_tensor(law.ppf(u[1:, 0].numpy()))) < 1e-10
    # At u = 0 the far end of a tail has no density, and any x near it has the same probability.
    assert worst(torch.as_tensor(law.cdf(found.numpy())), u[:, 0]) < 1e-12
    assert float(p.moments().mean) == pytest.approx(law.mean(), abs=1e-9)
    draws = p.sample(5000, seed=1)[:, 0]
    assert scipy.stats.kstest(draws.numpy(), law.cdf).pvalue > 1e-4
    wrong = scipy.stats.truncnorm((-1 - mean) / 0.7, (2 - mean) / 0.7, mean, 0.7)
    assert scipy.stats.kstest(draws.numpy(), wrong.cdf).pvalue < 1e-4


@pytest.mark.parametrize("sigma", [1e-3, 0.05, 0.4, 3.0, 200.0, 1e7])
@pytest.mark.parametrize(
    ("mean", "variance"), [(0.2, 0.5), (5.0, 0.5), (-30.0, 0.5), (1e3, 1e-2), (0.0, UNIFORM)]
)
def test_truncated_normal_denoises_to_the_posterior_mean(
    mean: float, variance: float, sigma: float
) -> None:
    """Against quadrature of N(x0; m, v) N(x; x0, sigma²) on [-1, 2], far tails included."""
    p = TruncatedNormal([-1.0], [2.0], [mean], [variance])
    x = torch.tensor([0.4, -1.0, 2.5, -1 - 3 * sigma, 2 + 30 * sigma, -1e3 * sigma], dtype=F64)
    nodes, weights = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(400))

    def integral(m: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log of the integral of exp(-(t - m)²/2v + (near - m)²/2v), near and the mean of t."""
        near = m.clamp(-1.0, 2.0)
        gap = (near - m).abs()
        reach = 80 * v / (gap + (gap.square() + 80 * v).sqrt())
        low, high = (-1 - near).maximum(-reach), (2 - near).minimum(reach)
        t = low[:, None] + (high - low)[:, None] * (nodes + 1) / 2
        f = weights * (high - low)[:, None] / 2
        f = f * (-t * (t / 2 + (near - m)[:, None]) / v[:, None]).exp()
        return f.sum(1).log(), near, near + (f * t).sum(1) / f.sum(1)

    v = torch.full_like(x, variance)
    both = 1 / (1 / v + 1 / sigma**2)
    centre = both * (mean / v + x / sigma**2)
    mass, near, truth = integral(centre, both)
    if math.isinf(variance):
        start, offset = torch.full_like(x, math.log(3)), torch.zeros_like(x)
    else:
        start, first, _ = integral(torch.full_like(x, mean), v)
        offset = (near - first) * (near + first - 2 * mean) / v
    nats = mass - start - ((near - x).square() / sigma**2 + offset) / 2
    nats = nats - math.log(2 * math.pi * sigma**2) / 2
    # x is a number of that size: rounding it moves the mean by as much.
    size = x.abs().clamp(min=1)[:, None]
    found = p.denoise(x[:, None], sigma)
    assert float(((found - truth[:, None]).abs() / size).max()) < 1e-9
    got = p.log_prob(x[:, None], sigma)
    assert float(((got - nats).abs() / (1 + nats.abs())).max()) < 1e-9
    score = (truth - x)[:, None] / sigma**2
    assert float(((p.score(x[:, None], sigma) - score).abs() * sigma**2 / size).max()) < 1e-9


def test_box_posterior_far_outside_its_box() -> None:
    """A value 400 standard deviations outside: the density sits at the end of the box."""
    y = LinearGaussian([[1.0]], [3.0], 0.005**2)
    p = Box([0.0], [1.0])
    q = p.posterior(y)
    known = q.moments()
    rate = 2 / 0.005**2
    assert 1 - float(known.mean) == pytest.approx(1 / rate, rel=1e-4)
    assert float(known.variance) == pytest.approx(1 / rate**2, rel=1e-4)
    law = scipy.stats.norm(3, 0.005)
    assert p.log_evidence(y) == pytest.approx(law.logcdf(1), rel=1e-12)
    assert torch.isfinite(q.score(torch.tensor([[-5.0], [7.0]], dtype=F64), 1e-4)).all()


def test_box_is_a_truncated_normal_of_infinite_variance() -> None:
    low, high, x = [-1.0, 0.0], [2.0, 0.5], 2 * normals(9, 2)
    box, same = Box(low, high), TruncatedNormal(low, high)
    for name in ("denoise", "score", "log_prob"):
        assert torch.equal(getattr(box, name)(x, 0.7), getattr(same, name)(x, 0.7))
    wide = TruncatedNormal(low, high, 0.3, 1e12)
    assert worst(wide.denoise(x, 0.7), box.denoise(x, 0.7)) < 1e-9
    assert worst(wide.log_prob(x, 0.7), box.log_prob(x, 0.7)) < 1e-9
    assert torch.equal(box.sample(5, seed=1), same.sample(5, seed=1))


@pytest.mark.parametrize("density", ["box", "truncated"])
@pytest.mark.parametrize("observation", COUPLING)
def test_a_box_refuses_what_couples_its_elements(density: str, observation: str) -> None:
    with pytest.raises(InputError, match="couples"):
        DENSITIES[density]().posterior(OBSERVATIONS[observation])


def test_bad_truncated_normals_are_named() -> None:
    for arguments, words in (
        (([0.0], [1.0], [[0.0]], 1.0), "mean must be"),
        (([0.0], [1.0], 0.0, [1.0, 2.0]), "variance must be"),
        (([0.0], [1.0], 0.0, -1.0), "zero or more"),
        (([0.0], [1.0], 0.0, math.nan), "zero or more"),
        (([0.0], [1.0], math.inf, 1.0), "finite"),
        (([0.0], [1.0], 2.0, 0.0), "within low and high"),
        (([1.0], [1.0]), "below"),
    ):
        with pytest.raises(InputError, match=words):
            TruncatedNormal(*arguments)
    points = TruncatedNormal([0.0, 0.0], [1.0, 1.0], 0.5, 0.0)
    assert "2 elements exact" in repr(points).replace("\n", " ")
    assert torch.equal(points.sample(3), torch.full((3, 2), 0.5, dtype=F64))
    x = normals(4, 2)
    mass = GaussianMixture([[0.5, 0.5]], 0.0)
    assert worst(points.log_prob(x, 0.3), mass.log_prob(x, 0.3)) < 1e-12
    assert worst(points.score(x, 0.3), mass.score(x, 0.3)) < 1e-12


# ---- observations


def test_observations_take_any_form_of_numbers() -> None:
    y = LinearGaussian(np.eye(2, dtype=np.float32), (1, 2), np.diag([0.5, 0.25]))
    assert y.matrix.dtype == y.observed.dtype == y.covariance.dtype == F64
    assert y.covariance.tolist() == [0.5, 0.25]
    assert LinearGaussian([[1.0, 0.0]], [0.1]).observed.item() == 0.1
    x = normals(7, 2)
    for name, one in OBSERVATIONS.items():
        assert worst(one.log_likelihood(x), textbook_likelihood(one, x)) < 1e-12, name
    exact = LinearGaussian([[1.0, 0.0], [0.0, 1.0]], [0.5, 0.2], [0.0, 1.0])
    at = torch.tensor([[0.5, 0.0], [0.4, 0.0]], dtype=F64)
    nats = exact.log_likelihood(at)
    assert float(nats[0]) == pytest.approx(scipy.stats.norm(0.2).logpdf(0.0))
    assert float(nats[1]) == -math.inf


def test_bad_observations_are_named() -> None:
    p = Gaussian([0.0, 0.0], 1.0)
    for make, words in (
        (lambda: LinearGaussian([1.0, 0.0], [0.0]), "matrix must be"),
        (lambda: LinearGaussian([[1.0, 0.0]], [0.0, 1.0]), "observed must be"),
        (lambda: LinearGaussian([[1.0, math.nan]], [0.0]), "finite"),
        (lambda: LinearGaussian([[1.0, 1j]], [0.0]), "real"),
        (lambda: LinearGaussian([[1.0, 0.0]], [0.0], -1.0), "negative"),
        (lambda: LinearGaussian([[1.0, 0.0]], [0.0], [1.0, 1.0]), "covariance must be"),
        (lambda: LinearGaussian(torch.eye(2), [0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]]), "eigenvalue"),
        (lambda: LinearGaussian(torch.eye(2), [0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
        (lambda: p.posterior(LinearGaussian([[1.0, 0.0, 0.0]], [0.0])), "2 columns"),
        (lambda: p.posterior(torch.zeros(2)), "LinearGaussian"),
        (lambda: p.log_evidence([1.0]), "LinearGaussian"),
        (lambda: Empirical([[0.0], [1.0]], log_weights=[0.0]), "one number"),
        (lambda: Empirical([[0.0], [1.0]], log_weights=[-math.inf] * 2), "not all"),
        (lambda: Empirical([[0.0], [1.0]], log_weights=[0.0, math.nan]), "not all"),
    ):
        with pytest.raises(InputError, match=words):
            make()


def test_inputs_are_not_changed() -> None:
    for density, observation in PAIRS:
        p, y = DENSITIES[density](), OBSERVATIONS[observation]
        before = {name: value.clone() for name, value in p.state_dict().items()}
        numbers = y.matrix.clone(), y.observed.clone(), y.covariance.clone()
        p.posterior(y)
        assert all(torch.equal(value, before[name]) for name, value in p.state_dict().items())
        for now, then in zip((y.matrix, y.observed, y.covariance), numbers, strict=True):
            assert torch.equal(now, then)


def test_models_without_a_closed_form_refuse() -> None:
    p = GaussianMixture([[-2.0], [2.0]], 0.5, labels=[0, 1])
    assert p.has_posterior
    wrapped = Bound(p, {"class": torch.tensor([1])})
    assert not wrapped.has_posterior
    with pytest.raises(Unsupported, match="no posterior in closed form"):
        wrapped.posterior(LinearGaussian([[1.0]], [0.0]))
