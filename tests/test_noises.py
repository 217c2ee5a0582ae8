"""Laws of the noise against scipy, quadrature and sums; conjugate gradients against solves."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from scorefield.errors import InputError, Unsupported
from scorefield.exact import Gaussian
from scorefield.inverse import (
    GaussianNoise,
    LogLikelihood,
    PoissonGaussianNoise,
    PoissonNoise,
    RicianNoise,
    operators,
    restore,
)
from scorefield.inverse.measurement import Measurement
from scorefield.inverse.noises import gaussianise
from scorefield.inverse.solve import conjugate_gradients


def column(values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def differences(found, expected):
    """Log likelihoods are known up to a constant of y: compare differences over m."""
    return np.abs((found - found[0]) - (expected - expected[0])).max()


M = np.array([0.02, 0.3, 1.0, 2.5, 7.0])  # counts of 0.2 to 70 at a gain of 10


@pytest.mark.parametrize("y", [0.0, 1.0, 5.0, 40.0])
def test_poisson_likelihood_is_scipys(y):
    found = PoissonNoise(10.0).log_likelihood(column([y] * len(M)), column(M)).numpy()
    assert differences(found, stats.poisson.logpmf(y, 10 * M)) < 1e-12


@pytest.mark.parametrize("y", [-1.3, 0.4, 5.2, 43.0])
@pytest.mark.parametrize("std", [0.3, 2.0, 8.0])
def test_poisson_gaussian_likelihood_is_the_whole_sum(y, std):
    k = np.arange(0, 400)
    terms = stats.poisson.logpmf(k, 10 * M[:, None]) - ((y - k) / std) ** 2 / 2
    expected = np.logaddexp.reduce(terms, axis=1)
    law = PoissonGaussianNoise(10.0, std)
    found = law.log_likelihood(column([y] * len(M)), column(M)).numpy()
    assert differences(found, expected) < 1e-9


@pytest.mark.parametrize("y", [0.05, 0.6, 2.2])
def test_rician_likelihood_is_scipys(y):
    m = np.array([0.0, 0.2, 1.0, 3.0])
    found = RicianNoise(0.4).log_likelihood(column([y] * 4), column(m)).numpy()
    assert differences(found, stats.rice.logpdf(y, m / 0.4, scale=0.4)) < 1e-10


def test_information_of_counts_is_the_mean_square_of_the_score():
    """The sum over all counts of p (d log p / d m)² at means of 0.2 to 70 counts."""
    law, k = PoissonNoise(10.0), torch.arange(0, 400, dtype=torch.float64)
    for m in M:
        at = torch.full((len(k), 1), float(m), dtype=torch.float64)
        p = torch.tensor(stats.poisson.pmf(k.numpy(), 10 * m))
        found = float((p * law.score(k[:, None], at)[:, 0].square()).sum())
        assert found == pytest.approx(float(law.information(at[:1])), rel=1e-9)


@pytest.mark.parametrize("m", [0.01, 0.05, 0.4, 2.0, 3.5])
def test_information_of_a_rician_is_the_mean_square_of_the_score(m):
    law = RicianNoise(0.4)
    y = torch.linspace(0, 8, 40001, dtype=torch.float64)[1:, None]
    at = torch.full_like(y, m)
    p = torch.tensor(stats.rice.pdf(y[:, 0].numpy(), m / 0.4, scale=0.4))
    found = float((p * law.score(y, at)[:, 0].square()).sum() * (y[1] - y[0]))
    assert found == pytest.approx(float(law.information(at[:1])), rel=2e-3)


@pytest.mark.parametrize("m", [-3.0, -0.01, 0.0, 0.005, 0.5, 4.0])
@pytest.mark.parametrize("y", [0.0, 1.0, 17.0])
def test_scoring_of_counts_does_not_depend_on_the_estimate(m, y):
    """y' = y / gain for every estimate, below zero too: dark elements do not run away."""
    local = gaussianise(PoissonNoise(10.0), column([y]), column([m]), None)
    assert float(local.y) == pytest.approx(y / 10, abs=1e-9)


@pytest.mark.parametrize("law", [PoissonNoise(10.0), PoissonGaussianNoise(10.0, 1.0)])
def test_likelihoods_of_counts_go_on_smoothly_into_the_dark(law):
    """Value and slope are continuous at 0.1 counts, and finite below."""
    edge = 0.1 / 10
    for y in (0.0, 3.0):
        values = law.log_likelihood(column([y] * 2), column([edge - 1e-9, edge + 1e-9]))
        slopes = law.score(column([y] * 3), column([edge - 1e-9, edge + 1e-9, -5.0]))
        assert float((values[0] - values[1]).abs()) < 1e-6
        assert float(slopes[0]) == pytest.approx(float(slopes[1]), rel=1e-4)
        assert bool(torch.isfinite(slopes).all())
        assert float(slopes[2]) > 0  # back towards zero


def laws():
    q = torch.randn(6, 6, generator=generator(3), dtype=torch.float64)
    return {
        "number": GaussianNoise(0.3),
        "element": GaussianNoise(torch.linspace(0.1, 1, 6, dtype=torch.float64)),
        "covariance": GaussianNoise(covariance=q @ q.T + torch.eye(6, dtype=torch.float64)),
        "spectrum": GaussianNoise(spectrum=[2.0, 1.0, 0.5, 0.2, 0.5, 1.0]),
    }


@pytest.mark.parametrize("name", laws())
def test_whitening_colouring_and_the_matrix_belong_together(name):
    law = laws()[name]
    eye = torch.eye(6, dtype=torch.float64)
    w, sigma = law.whiten(eye).T, law.matrix((6,))
    assert torch.allclose(w @ sigma @ w.T, eye, atol=1e-12)
    colour = law.colour(eye).T
    assert torch.allclose(colour @ colour.T, sigma, atol=1e-12)
    assert torch.allclose(law.whiten_adjoint(eye), w, atol=1e-12)
    assert torch.allclose(law.matrix_diagonal((6,)).expand(6), sigma.diagonal(), atol=1e-12)
    y, m = torch.randn(2, 5, 6, generator=generator(1), dtype=torch.float64)
    expected = stats.multivariate_normal(cov=sigma.numpy()).logpdf((y - m).numpy())
    assert differences(law.log_likelihood(y, m).numpy(), expected) < 1e-10


def test_a_wrong_factor_would_be_seen():
    """Negative control of the test above: whitening by the variance in place of the deviation."""
    law = laws()["element"]
    wrong = torch.diag(1 / law.std.square())
    assert not torch.allclose(
        wrong @ law.matrix((6,)) @ wrong.T, torch.eye(6, dtype=torch.float64), atol=1e-3
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GaussianNoise(), "one of std"),
        (lambda: GaussianNoise(1.0, covariance=[[1.0]]), "one of std"),
        (lambda: GaussianNoise([0.0, 1.0]), "all be zero"),
        (lambda: GaussianNoise(-1.0), "above zero"),
        (lambda: GaussianNoise(covariance=[[1.0, 0.5], [0.0, 1.0]]), "symmetric"),
        (lambda: GaussianNoise(covariance=[1.0, 2.0]), r"\(m, m\)"),
        (lambda: GaussianNoise(spectrum=[1.0, 2.0, 3.0]), "same variance"),
        (lambda: GaussianNoise(spectrum=[1.0, 0.0]), "above zero"),
        (lambda: PoissonNoise(0.0), "gain"),
        (lambda: PoissonGaussianNoise(1.0, 0.0), "read_std"),
        (lambda: RicianNoise(0.0), "std"),
        (lambda: LogLikelihood(3), "function"),
    ],
)
def test_bad_laws_are_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_a_function_must_give_one_number_a_row():
    law = LogLikelihood(lambda y, m: (y - m).square())
    with pytest.raises(InputError, match="one number a row"):
        law.log_likelihood(column([1.0, 2.0]), column([1.0, 2.0]))
    with pytest.raises(Unsupported):
        law.information(column([1.0]))


@pytest.mark.parametrize("method", ["mmps", "pigdm", "daps", "posterior-langevin"])
def test_dark_counts_stay_near_the_prior(method):
    """Counts of a dark element, where estimates fall below zero, are restored without running away.

    N(0.02, 0.05²) at a gain of 10 and no counts: the posterior by quadrature has its mean within
    0.01 of the prior's and a smaller width.
    """
    model = Gaussian([0.02], 0.05**2)
    seen = Measurement([0], operators.Identity(), noise=PoissonNoise(10.0))
    draws = restore(model, seen, 400, 1, method=method).draws
    assert float((draws - 0.02).abs().max()) < 6 * 0.05
    assert float(draws.mean()) < 0.02 + 4.5 * 0.05 / math.sqrt(400)


# -- conjugate gradients


def system(rank=5, seed=2):
    q = torch.randn(5, rank, generator=generator(seed), dtype=torch.float64)
    matrix = q @ q.T
    x = torch.randn(3, 5, generator=generator(seed + 1), dtype=torch.float64)
    return matrix, x @ matrix


def test_conjugate_gradients_solve_each_row():
    matrix, b = system()
    found = conjugate_gradients(lambda v: v @ matrix, b, 1e-13, 50)
    assert torch.allclose(found.x, torch.linalg.solve(matrix, b.T).T, rtol=1e-9)
    assert float(found.residual.max()) < 1e-12
    alone = conjugate_gradients(lambda v: v @ matrix, b[1:2], 1e-13, 50)
    assert torch.equal(alone.x, found.x[1:2])


def test_a_singular_system_has_the_solution_of_least_norm():
    matrix, b = system(rank=3)
    found = conjugate_gradients(lambda v: v @ matrix, b, 1e-12, 50)
    assert torch.allclose(found.x, b @ torch.linalg.pinv(matrix, hermitian=True), atol=1e-8)


def test_a_row_ends_where_its_product_breaks_the_bound():
    """-M is not positive: the row stays at zero, and finite; with M the bound changes nothing."""
    matrix, b = system()
    least = float(torch.linalg.eigvalsh(matrix)[0])
    bent = conjugate_gradients(lambda v: -(v @ matrix), b, 1e-12, 50, least)
    assert torch.equal(bent.x, torch.zeros_like(b))
    good = conjugate_gradients(lambda v: v @ matrix, b, 1e-13, 50, least)
    assert torch.allclose(good.x, torch.linalg.solve(matrix, b.T).T, rtol=1e-9)


def test_few_iterations_report_what_is_left():
    matrix, b = system()
    rough = conjugate_gradients(lambda v: v @ matrix, b, 0.0, 1)
    left = (b - rough.x @ matrix).norm(dim=1) / b.norm(dim=1)
    assert torch.allclose(rough.residual, left, rtol=1e-10)
    assert rough.iterations == 1
