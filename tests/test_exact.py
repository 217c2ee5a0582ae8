"""Closed forms against autograd of their own log density, against each other, and far out in the
tails.
"""

import math

import pytest
import torch
from torch import Tensor

from scorefield import rng
from scorefield.errors import InputError
from scorefield.exact import Empirical, Gaussian, GaussianMixture
from scorefield.model import ScoreModel, broadcast
from scorefield.rng import Stream

SE = 4.5


def random_covariances(count: int, d: int, g: torch.Generator) -> Tensor:
    a = torch.randn(count, d, d, dtype=torch.float64, generator=g)
    return a @ a.mT / d + 0.1 * torch.eye(d, dtype=torch.float64)


def mixture(d: int, kind: str = "full") -> GaussianMixture:
    g = torch.Generator().manual_seed(d)
    covariances = random_covariances(4, d, g)
    if kind != "full":
        covariances = covariances.diagonal(dim1=1, dim2=2)
    return GaussianMixture(
        3 * torch.randn(4, d, dtype=torch.float64, generator=g),
        covariances,
        torch.rand(4, generator=g),
    )


def gaussian(d: int) -> Gaussian:
    g = torch.Generator().manual_seed(d)
    return Gaussian(
        torch.randn(d, dtype=torch.float64, generator=g), random_covariances(1, d, g)[0]
    )


def empirical(d: int) -> Empirical:
    return Empirical(
        torch.randn(50, d, dtype=torch.float64, generator=torch.Generator().manual_seed(d)), block=7
    )


MODELS = {
    "gaussian": gaussian,
    "full": mixture,
    "diagonal": lambda d: mixture(d, "diagonal"),
    "empirical": empirical,
}


def states(d: int, count: int = 20) -> Tensor:
    return 4 * torch.randn(
        count, d, dtype=torch.float64, generator=torch.Generator().manual_seed(100 + d)
    )


def gradient(model, x: Tensor, sigma: Tensor | float) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(model.log_prob(x, sigma).sum(), x)[0]


def worst(got: Tensor, truth: Tensor) -> float:
    return float(((got - truth).abs() / (1 + truth.abs())).max())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_score_and_denoise_agree_with_autograd(name: str, d: int) -> None:
    model, x = MODELS[name](d), states(d)
    sigmas: list[Tensor | float] = [
        0.3,
        1.0,
        20.0,
        torch.logspace(-0.5, 2, len(x), dtype=torch.float64),
    ]
    if name != "empirical":
        sigmas += [0.0, 1e-6, torch.tensor([0.0, *[0.5] * (len(x) - 1)], dtype=torch.float64)]
    for sigma in sigmas:
        truth = gradient(model, x, sigma)
        level = broadcast(torch.as_tensor(sigma, dtype=torch.float64), x)
        assert worst(model.score(x, sigma), truth) < 1e-10
        assert worst(model.denoise(x, sigma), x + level.square() * truth) < 1e-10
        assert torch.equal(model.log_density(x, sigma), model.log_prob(x, sigma))


@pytest.mark.parametrize("d", [1, 2, 5])
def test_log_prob_is_that_of_torchs_distributions(d: int) -> None:
    """Normalisation included: a second opinion, not our own gradient."""
    x = states(d)
    for model in (mixture(d), mixture(d, "diagonal"), gaussian(d)):
        for sigma in (0.0, 0.7, 5.0):
            full = torch.diag_embed(model.spectrum)
            if model.vectors is not None:
                full = model.vectors @ full @ model.vectors.mT
            parts = torch.distributions.MultivariateNormal(
                model.means, full + sigma**2 * torch.eye(d, dtype=torch.float64)
            )
            law = torch.distributions.MixtureSameFamily(
                torch.distributions.Categorical(model.weights), parts
            )
            assert worst(model.log_prob(x, sigma), law.log_prob(x)) < 1e-10


def test_the_gaussian_is_what_the_book_says() -> None:
    mean, covariance = (
        torch.tensor([1.0, -2.0], dtype=torch.float64),
        torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64),
    )
    model, x = Gaussian(mean, covariance), states(2)
    smoothed = covariance + 9 * torch.eye(2, dtype=torch.float64)
    assert worst(model.score(x, 3.0), -torch.linalg.solve(smoothed, (x - mean).T).T) < 1e-12
    assert (
        worst(
            model.denoise(x, 3.0),
            mean + (covariance @ torch.linalg.solve(smoothed, (x - mean).T)).T,
        )
        < 1e-12
    )
    assert torch.equal(model.denoise(x, 0.0), x)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_at_a_thousand_standard_deviations(name: str, dtype: torch.dtype) -> None:
    model = MODELS[name](2)
    direction = torch.tensor([[1.0, 0.0], [0.6, -0.8], [-1.0, 0.2]], dtype=dtype)
    for sigma in (0.01, 1.0, 30.0):
        x = direction * 1e3 * math.sqrt(2.0 + sigma**2)
        score, denoised, log_prob = (
            model.score(x, sigma),
            model.denoise(x, sigma),
            model.log_prob(x, sigma),
        )
        assert score.dtype == denoised.dtype == log_prob.dtype == dtype
        assert score.isfinite().all() and denoised.isfinite().all() and log_prob.isfinite().all()
        assert (log_prob < -1e4).all()
        assert ((score * direction).sum(1) < 0).all()  # back towards the data
        if dtype == torch.float64:
            assert worst(score, gradient(model, x, sigma)) < 1e-10


def test_mixtures_with_weights_far_apart_stay_finite() -> None:
    model = GaussianMixture([[0.0], [10.0]], 1.0, log_weights=[0.0, -2000.0])
    x = torch.tensor([[10.0], [1e4]], dtype=torch.float64)
    assert model.score(x, 0.0).isfinite().all()
    assert worst(model.score(x[:1], 0.0), -x[:1]) < 1e-12
    assert float(model.weights.sum()) == pytest.approx(1)


@pytest.mark.parametrize("block", [1, 7, 50, 4096])
@pytest.mark.parametrize("rows", [3, 1024])
def test_empirical_is_a_mixture_without_covariances(block: int, rows: int) -> None:
    data = (
        torch.randn(50, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        + 1000
    )  # an offset cancels
    model, points = Empirical(data, block), GaussianMixture(data, 0.0)
    model.rows = rows
    x = 1000 + states(6).reshape(20, 2, 3)
    for sigma in (0.05, 1.0, 40.0, torch.logspace(-1, 1, 20, dtype=torch.float64)):
        assert worst(model.score(x, sigma), points.score(x, sigma)) < 1e-9
        assert worst(model.denoise(x, sigma), points.denoise(x, sigma)) < 1e-10
        assert worst(model.log_prob(x, sigma), points.log_prob(x, sigma)) < 1e-9
    assert model.sigma_min == points.sigma_min > 0
    with pytest.raises(InputError, match="sigma must lie"):
        model.score(x, 0.0)


def test_empirical_at_small_sigma_returns_the_nearest_datum() -> None:
    model = empirical(3)
    x = model.data[:5] + 1e-3
    torch.testing.assert_close(model.denoise(x, 1e-3), model.data[:5], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_samples_have_the_moments_and_are_functions_of_the_key(name: str) -> None:
    model, count = MODELS[name](2), 20000
    mean, covariance = model.moments()
    for sigma in (0.0, 1.5):
        x = model.sample(count, sigma, seed=3)
        assert x.dtype == torch.float64
        total = covariance + sigma**2 * torch.eye(2, dtype=torch.float64)
        centred = x - mean
        assert (centred.mean(0).abs() < SE * (total.diagonal() / count).sqrt()).all()
        products = centred[:, :, None] * centred[:, None, :]
        assert ((products.mean(0) - total).abs() < SE * products.std(0) / math.sqrt(count)).all()
        # the mean log density is minus the entropy, seen from the other side: E score = 0
        if sigma > 0:
            score = model.score(x, sigma)
            assert (score.mean(0).abs() < SE * score.std(0) / math.sqrt(count)).all()
    assert torch.equal(model.sample(10, 0.5, seed=3), model.sample(50, 0.5, seed=3)[:10])
    apart = torch.cdist(model.sample(200, 0.5, seed=0), model.sample(200, 0.5, seed=1))
    assert float(apart.min()) > 0
    each = torch.linspace(0, 1, 10, dtype=torch.float64)
    assert torch.equal(model.sample(10, each, seed=3)[-1], model.sample(10, 1.0, seed=3)[-1])
    assert model.sample(0).shape == (0, 2)
    # a sampler started from the same seed must not start at the data's own noise
    init = rng.normal(rng.keys(3, count), Stream.INIT, 0, (2,), torch.float64)
    assert ((x - mean) * init).mean(0).abs().max() < SE * float(
        total.diagonal().max()
    ) ** 0.5 / math.sqrt(count)


def test_moments_are_covariances_or_variances_by_size() -> None:
    data = torch.rand(30, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    large, small = Empirical(data, block=8), Empirical(data[..., :3, :3], block=8)
    mean, variance = large.moments()
    torch.testing.assert_close(mean, data.double().mean(0))
    torch.testing.assert_close(variance, data.double().var(0, correction=0))
    mean, covariance = small.moments()
    assert mean.shape == (1, 3, 3)
    torch.testing.assert_close(
        covariance, torch.cov(data[..., :3, :3].flatten(1).double().T, correction=0)
    )


@pytest.mark.parametrize(
    "covariances",
    [
        0.5,
        [0.5, 0.5],
        torch.full((2, 6), 0.5),
        torch.full((2, 2, 3), 0.5),
        0.5 * torch.eye(6).expand(2, 6, 6),
    ],
)
def test_every_way_to_write_a_covariance(covariances) -> None:
    means = torch.arange(12.0).reshape(2, 2, 3)
    model, reference = GaussianMixture(means, covariances), GaussianMixture(means, 0.5)
    x = states(6).reshape(-1, 2, 3)
    assert worst(model.score(x, 0.3), reference.score(x, 0.3)) < 1e-12
    torch.testing.assert_close(model.moments()[1], reference.moments()[1])


def test_singular_covariances_are_known_from_above_zero_only() -> None:
    line = Gaussian([0.0, 0.0], [[1.0, 1.0], [1.0, 1.0]])
    assert line.sigma_min > 0
    assert gaussian(2).sigma_min == 0
    x = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(line.denoise(x, 1e-8), torch.zeros_like(x), rtol=0, atol=1e-12)


def test_bad_densities_are_named() -> None:
    for make, words in (
        (lambda: Gaussian([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]]), "negative eigenvalue"),
        (lambda: Gaussian([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
        (lambda: Gaussian([0.0, math.nan], 1.0), "finite"),
        (lambda: Gaussian(0.0, 1.0), "one dimension"),
        (lambda: GaussianMixture([[0.0]], [[1.0], [2.0]]), "shape"),
        (lambda: GaussianMixture([0.0, 1.0], 1.0), "event"),
        (lambda: GaussianMixture([[0.0], [1.0]], 1.0, weights=[0.5, -0.5]), "negative"),
        (lambda: GaussianMixture([[0.0], [1.0]], 1.0, weights=[1.0]), "one weight"),
        (lambda: GaussianMixture([[0.0]], 1.0, weights=[1.0], log_weights=[0.0]), "not both"),
        (lambda: Empirical(torch.tensor([[0.0], [math.nan]])), "row 1"),
        (lambda: Empirical(torch.zeros(0, 2)), "at least one"),
        (lambda: Empirical(torch.zeros(3, 2), block=0), "block"),
        (lambda: gaussian(2).sample(3, -1.0), "zero or more"),
        (lambda: gaussian(2).score(torch.zeros(3, 2), 1.0, torch.zeros(3)), "no condition"),
    ):
        with pytest.raises(InputError, match=words):
            make()


def test_exact_models_keep_the_contract() -> None:
    for make in MODELS.values():
        model = make(2)
        assert isinstance(model, ScoreModel)
        assert model.sigma_max == math.inf
        x = states(2)
        before = x.clone()
        assert torch.equal(model(x, 1.0), model.denoise(x, 1.0))
        assert torch.equal(x, before)
        assert model.score(x[:0], 1.0).shape == (0, 2)


def test_python_numbers_are_not_rounded_to_float32():
    assert Gaussian([0.1, 0.0], 0.1).moments()[0][0].item() == 0.1
