"""Closed forms against autograd of their own log density, against each other, and far out in the
tails.
"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from scorefield import rng
from scorefield.errors import InputError
from scorefield.exact import Box, Empirical, Gaussian, GaussianMixture
from scorefield.models import ScoreModel, broadcast
from scorefield.rng import Stream
from scorefield.sampling import sample

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


def box(d: int) -> Box:
    low = torch.linspace(-2, 1, d, dtype=torch.float64)
    return Box(low, low + torch.linspace(0.5, 3, d, dtype=torch.float64))


def covariance_of(model: ScoreModel) -> Tensor:
    known = model.moments()
    return torch.diag(known.variance) if known.covariance is None else known.covariance


MODELS = {
    "gaussian": gaussian,
    "full": mixture,
    "diagonal": lambda d: mixture(d, "diagonal"),
    "empirical": empirical,
    "box": box,
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
    if name not in ("empirical", "box"):
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
    mean, covariance = model.moments().mean, covariance_of(model)
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
    init = rng.normal(rng.keys(3, count), Stream.START, 0, (2,), torch.float64)
    assert ((x - mean) * init).mean(0).abs().max() < SE * float(
        total.diagonal().max()
    ) ** 0.5 / math.sqrt(count)


def test_moments_are_covariances_or_variances_by_size() -> None:
    data = torch.rand(30, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    large, small = Empirical(data, block=8), Empirical(data[..., :3, :3], block=8)
    assert large.moments().covariance is None
    mean, variance = large.moments().mean, large.moments().variance
    torch.testing.assert_close(mean, data.double().mean(0))
    torch.testing.assert_close(variance, data.double().var(0, correction=0))
    mean, covariance = small.moments().mean, small.moments().covariance
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
    torch.testing.assert_close(model.moments().covariance, reference.moments().covariance)


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
        (
            lambda: gaussian(2).score(
                torch.zeros(3, 2), 1.0, {"class": torch.zeros(3, dtype=torch.int64)}
            ),
            "no condition",
        ),
        (lambda: Box([0.0, 1.0], [1.0, 1.0]), "below"),
        (lambda: Box([0.0, 1.0], [1.0]), "shape"),
        (lambda: Box(0.0, 1.0), "dimension"),
        (lambda: Box([0.0], [math.inf]), "finite"),
        (lambda: GaussianMixture([[0.0], [1.0]], 1.0, labels=[0, 2]), "0, 1"),
        (lambda: GaussianMixture([[0.0], [1.0]], 1.0, labels=[0]), "2 whole numbers"),
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
    assert Gaussian([0.1, 0.0], 0.1).moments().mean[0].item() == 0.1


# ---- the box


@pytest.mark.parametrize("sigma", [1e-3, 0.05, 0.4, 3.0, 200.0])
def test_box_denoises_to_the_mean_of_the_truncated_normal(sigma: float) -> None:
    """Against Gauss-Legendre quadrature of x0 N(x; x0, sigma²) over the box."""
    model = Box([-1.0], [2.0])
    x = torch.linspace(-1 - 3 * sigma, 2 + 3 * sigma, 41, dtype=torch.float64)[:, None]
    # The integrand lives within 12 sigma of x: integrate there, inside the box.
    low, high = (x - 12 * sigma).clamp(min=-1.0), (x + 12 * sigma).clamp(max=2.0)
    points, weights = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(200))
    t = low + (high - low) * (points + 1) / 2
    w = weights * (high - low) / 2 * (-((x - t) ** 2) / (2 * sigma**2)).exp()
    mass = w.sum(1, keepdim=True)
    density = mass / (3 * sigma * math.sqrt(2 * math.pi))
    assert worst(model.denoise(x, sigma), (w * t).sum(1, keepdim=True) / mass) < 1e-9
    assert float((model.log_prob(x, sigma) - density.log()[:, 0]).abs().max()) < 1e-9


def test_box_is_finite_and_points_inside_far_out_in_the_tails() -> None:
    model = Box([0.0, 0.0], [1.0, 2.0])
    x = torch.tensor([[-1e6, 1e6], [1e4, -1e4], [0.5, 1.0]], dtype=torch.float64)
    for sigma in (1e-3, 1.0, 1e3):
        score, denoised = model.score(x, sigma), model.denoise(x, sigma)
        assert torch.isfinite(score).all()
        assert torch.isfinite(model.log_prob(x, sigma)).all()
        assert (score[0] * torch.tensor([1, -1]) > 0).all()
        assert ((denoised >= model.low) & (denoised <= model.high)).all()
    assert torch.equal(model.denoise(x, 1.0).float(), model.denoise(x.float(), 1.0))


# ---- default noise levels


def test_mixture_sampled_with_nothing_else_given_has_its_weights_means_and_covariances() -> None:
    """20,000 samples at 20 evaluations, each number within 4.5 standard errors."""
    means = torch.tensor([[-5.0, -5.0], [5.0, 5.0]], dtype=torch.float64)
    covariances = torch.tensor([[[1.0, 0.3], [0.3, 0.5]], [[0.6, -0.2], [-0.2, 1.2]]])
    p = GaussianMixture(means, covariances, [0.2, 0.8])
    count = 20000
    x, record = sample(p, count, nfe=20, record=True)
    assert record.nfe <= 20
    near = torch.cdist(x, means).argmin(1)
    for k, weight in enumerate((0.2, 0.8)):
        part, c = x[near == k], covariances[k].double()
        n = len(part)
        assert abs(n / count - weight) < SE * math.sqrt(weight * (1 - weight) / count)
        assert ((part.mean(0) - means[k]).abs() < SE * (c.diagonal() / n).sqrt()).all()
        spread = (torch.outer(c.diagonal(), c.diagonal()) + c.square()).div(n).sqrt()
        assert ((torch.cov(part.T) - c).abs() < SE * spread).all()


@pytest.mark.parametrize("name", MODELS)
def test_every_exact_density_has_a_finite_range_that_covers_its_scales(name: str) -> None:
    model = MODELS[name](3)
    low, high = model.sampling_range()
    widest = float(torch.linalg.eigvalsh(covariance_of(model))[-1].sqrt())
    assert 0 < low < 0.1 * widest < 10 * widest < high < math.inf
    scaled = Gaussian([0.0], 1e-12).sampling_range()
    assert scaled[0] == pytest.approx(2e-8) and scaled[1] == pytest.approx(2e-5)


def test_a_point_mass_is_sampled_where_it_is() -> None:
    x = sample(GaussianMixture([[2.0, -1.0]], 0.0), 5)
    torch.testing.assert_close(x, torch.tensor([[2.0, -1.0]]).double().expand(5, 2))


# ---- classes


def test_a_class_restricts_the_mixture_to_its_components() -> None:
    whole = mixture(3)
    labelled = GaussianMixture(
        whole.means,
        torch.einsum("kde,ke,kfe->kdf", whole.vectors, whole.spectrum, whole.vectors),
        log_weights=whole.log_weights,
        labels=[0, 1, 1, 0],
    )
    parts = [
        GaussianMixture(
            whole.means[rows],
            torch.einsum("kde,ke,kfe->kdf", whole.vectors, whole.spectrum, whole.vectors)[rows],
            log_weights=whole.log_weights[rows],
        )
        for rows in (torch.tensor([0, 3]), torch.tensor([1, 2]))
    ]
    x = states(3)
    classes = torch.arange(len(x)) % 3 - 1  # -1: no class
    given = {"class": classes}
    for c, alone in ((-1, whole), (0, parts[0]), (1, parts[1])):
        rows = classes == c
        for name in ("score", "denoise", "log_prob"):
            found = getattr(labelled, name)(x, 0.7, given)[rows]
            truth = getattr(alone, name)(x[rows], 0.7)
            assert worst(found, truth) < 1e-9, name
        moments = labelled.moments(given)
        torch.testing.assert_close(moments.mean[rows][0], alone.moments().mean)
        torch.testing.assert_close(moments.covariance[rows][0], alone.moments().covariance)
    drawn = labelled.sample(3000, seed=1, condition={"class": torch.ones(3000, dtype=torch.int64)})
    truth = parts[1].moments()
    error = (drawn.mean(0) - truth.mean).abs() / (truth.variance / 3000).sqrt()
    assert float(error.max()) < SE
