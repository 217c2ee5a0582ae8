"""Posterior models at the level of the denoiser: E[x0 | x, y] against closed forms, in float64."""

import math

import pytest
import torch

from scorefield.errors import InputError
from scorefield.exact import Gaussian, GaussianMixture
from scorefield.inverse import noises, operators
from scorefield.inverse.posteriors import DDNM, DPS, MMPS, TMPD, DiffPIR, PiGDM
from scorefield.inverse.problem import Problem, make_problem

D = 6
SHAPES = [(6,), (2, 3)]
NOISES = [0.0, 0.01, 1.0]
SIGMAS = [0.05, 0.7, 5.0]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spd(seed: int, d: int = D, low: float = 0.1) -> torch.Tensor:
    """A covariance of condition number about 30."""
    q, _ = torch.linalg.qr(torch.randn(d, d, generator=generator(seed), dtype=torch.float64))
    return q @ torch.diag(torch.linspace(low, 3.0, d, dtype=torch.float64)) @ q.T


class Dense(operators.Operator):
    """A dense operator without a decomposition, so that iterations are used."""

    def __init__(self, matrix: torch.Tensor, shape: tuple[int, ...]) -> None:
        self.matrix, self.shape = matrix, shape

    def A(self, x):
        return x.flatten(1) @ self.matrix.to(x.dtype).T

    def A_adjoint(self, y):
        return (y @ self.matrix.to(y.dtype)).reshape(len(y), *self.shape)


def dense(seed: int, rows: int, shape: tuple[int, ...]) -> Dense:
    d = math.prod(shape)
    matrix = torch.randn(rows, d, generator=generator(seed), dtype=torch.float64)
    return Dense(matrix, shape)


def matrix_of(operator: operators.Operator, shape: tuple[int, ...]) -> torch.Tensor:
    eye = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    return operator.A(eye).flatten(1).T


def conditioned(mean, covariance, x, sigma, operator, y, noise_std, shape):
    """E[x0 | x, y] of a normal prior, by conditioning on x and then on y."""
    d = len(covariance)
    gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(d, dtype=torch.float64))
    m = mean + (x.flatten(1) - mean) @ gain.T
    v = covariance - gain @ covariance
    a = matrix_of(operator, shape)
    s = a @ v @ a.T + noise_std**2 * torch.eye(len(a), dtype=torch.float64)
    k = v @ a.T @ torch.linalg.pinv(s, hermitian=True, rtol=1e-13)
    return (m + (y.flatten(1) - m @ a.T) @ k.T).reshape(x.shape)


def some_problem(operator, shape, noise_std, rows=4, seed=3):
    x = torch.randn(rows, *shape, generator=generator(seed), dtype=torch.float64)
    n = torch.randn(operator.A(x).shape, generator=generator(seed + 1), dtype=torch.float64)
    y = operator.A(x) + noise_std * n
    return make_problem(y, operator, shape, noises.GaussianNoise(noise_std))


def states(shape, sigma, rows=4, seed=9):
    return (1 + sigma) * torch.randn(rows, *shape, generator=generator(seed), dtype=torch.float64)


def operators_for(shape):
    mask = torch.arange(math.prod(shape)).reshape(shape) % 2 == 0
    return {"mask": operators.Mask(mask), "dense": dense(5, 3, shape), "tall": dense(6, 8, shape)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["mask", "dense", "tall"])
@pytest.mark.parametrize("noise_std", NOISES)
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("method", ["mmps", "tmpd"])
def test_moment_methods_are_exact_for_any_normal_prior(shape, kind, noise_std, sigma, method):
    """MMPS with converged conjugate gradients, and TMPD with the whole Jacobian, to 1e-8."""
    mean, covariance = torch.linspace(-1, 1, D, dtype=torch.float64), spd(1)
    prior = Gaussian(mean.reshape(shape), covariance)
    operator = operators_for(shape)[kind]
    problem, x = some_problem(operator, shape, noise_std), states(shape, sigma)
    if method == "mmps":
        posterior = MMPS(prior, problem, iterations=200, tolerance=1e-14)
    else:
        posterior = TMPD(prior, problem, jacobian="full")
    expected = conditioned(mean, covariance, x, sigma, operator, problem.y, noise_std, shape)
    scale = expected.abs().max()
    assert (posterior.denoise(x, sigma) - expected).abs().max() < 1e-8 * scale
    score = posterior.score(x, sigma)
    assert torch.allclose(score, (expected - x) / sigma**2, atol=1e-7 * scale / sigma**2)


@pytest.mark.parametrize("kind", ["mask", "dense", "tall"])
@pytest.mark.parametrize("noise_std", NOISES)
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("std", [0.5, 2.0])
@pytest.mark.parametrize("method", [PiGDM, DiffPIR])
def test_isotropic_methods_are_exact_for_isotropic_priors(kind, noise_std, sigma, std, method):
    """s is the prior's own standard deviation, never 1."""
    shape = (D,)
    mean = torch.linspace(-1, 1, D, dtype=torch.float64)
    prior = Gaussian(mean, std**2)
    operator = operators_for(shape)[kind]
    problem, x = some_problem(operator, shape, noise_std), states(shape, sigma)
    covariance = std**2 * torch.eye(D, dtype=torch.float64)
    expected = conditioned(mean, covariance, x, sigma, operator, problem.y, noise_std, shape)
    found = method(prior, problem).denoise(x, sigma)
    assert (found - expected).abs().max() < 1e-8 * expected.abs().max()


@pytest.mark.parametrize("method", [PiGDM, DiffPIR, DPS, DDNM])
def test_methods_that_are_not_exact_miss_a_correlated_prior(method):
    """Negative control of the tests above: on a full covariance these methods are off."""
    mean, covariance = torch.zeros(D, dtype=torch.float64), spd(1)
    prior, operator = Gaussian(mean, covariance), operators_for((D,))["mask"]
    problem, x = some_problem(operator, (D,), 0.1), states((D,), 0.7)
    expected = conditioned(mean, covariance, x, 0.7, operator, problem.y, 0.1, (D,))
    found = method(prior, problem).denoise(x, 0.7)
    assert (found - expected).abs().max() > 0.02


def test_few_iterations_are_not_exact():
    """Negative control: two iterations of conjugate gradients leave an error."""
    mean, covariance = torch.zeros(D, dtype=torch.float64), spd(1)
    prior, operator = Gaussian(mean, covariance), operators_for((D,))["tall"]
    problem, x = some_problem(operator, (D,), 0.1), states((D,), 0.7)
    expected = conditioned(mean, covariance, x, 0.7, operator, problem.y, 0.1, (D,))
    rough = MMPS(prior, problem, iterations=2, tolerance=0.0)
    assert (rough.denoise(x, 0.7) - expected).abs().max() > 1e-3
    assert rough.report.iterations == 2
    assert rough.report.worst_residual > 1e-3


# -- closed forms of what each method is wrong by, on a normal prior N(m, C)
#
# D = m + G (x - m) with G = C (C + sigma² I)^-1 and J = G.


def linear_parts(covariance, sigma):
    eye = torch.eye(len(covariance), dtype=torch.float64)
    return covariance @ torch.linalg.inv(covariance + sigma**2 * eye)


@pytest.mark.parametrize("noise_std", NOISES)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_pigdm_on_a_correlated_prior_is_the_documented_formula(sigma, noise_std):
    covariance, operator = spd(2), operators_for((D,))["dense"]
    prior = Gaussian(torch.zeros(D, dtype=torch.float64), covariance)
    problem, x = some_problem(operator, (D,), noise_std), states((D,), sigma)
    g, a = linear_parts(covariance, sigma), operator.matrix
    s2 = float(covariance.diagonal().mean())
    r2 = s2 * sigma**2 / (s2 + sigma**2)
    inner = torch.linalg.inv(r2 * a @ a.T + noise_std**2 * torch.eye(3, dtype=torch.float64))
    denoised = x @ g.T
    expected = denoised + sigma**2 * (problem.y - denoised @ a.T) @ inner @ a @ g
    found = PiGDM(prior, problem).denoise(x, sigma)
    assert (found - expected).abs().max() < 1e-8 * expected.abs().max()


@pytest.mark.parametrize("noise_std", [0.05, 1.0])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_tmpd_by_row_sums_is_the_documented_formula(sigma, noise_std):
    covariance, operator = spd(2), operators_for((D,))["dense"]
    prior = Gaussian(torch.zeros(D, dtype=torch.float64), covariance)
    problem, x = some_problem(operator, (D,), noise_std), states((D,), sigma)
    g, a = linear_parts(covariance, sigma), operator.matrix
    rows = (sigma**2 * a @ g @ a.T).sum(1).clamp(min=0.0) + noise_std**2
    denoised = x @ g.T
    expected = denoised + sigma**2 * ((problem.y - denoised @ a.T) / rows) @ a @ g
    found = TMPD(prior, problem, jacobian="row-sum").denoise(x, sigma)
    assert (found - expected).abs().max() < 1e-8 * expected.abs().max()


@pytest.mark.parametrize("form", ["norm", "likelihood"])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_dps_is_the_documented_formula(sigma, form):
    covariance, operator = spd(2), operators_for((D,))["dense"]
    prior = Gaussian(torch.zeros(D, dtype=torch.float64), covariance)
    problem, x = some_problem(operator, (D,), 0.3), states((D,), sigma)
    g, a = linear_parts(covariance, sigma), operator.matrix
    denoised = x @ g.T
    r = problem.y - denoised @ a.T
    slope = r @ a @ g
    if form == "norm":
        gain = torch.linalg.matrix_norm(a, 2)
        size = r.norm(dim=1, keepdim=True)
        excess = (1 - 3**0.5 * 0.3 / size).clamp(min=0)
        expected = denoised + 0.5 * sigma * 3**0.5 / gain * excess * slope / r.norm(
            dim=1, keepdim=True
        )
    else:
        expected = denoised + 0.5 * sigma**2 * slope / 0.3**2
    posterior = DPS(prior, problem, zeta=0.5, form=form)
    found = posterior.denoise(x, sigma)
    # the largest singular value comes from twelve steps of a power iteration
    tolerance = 1e-3 if form == "norm" else 1e-8
    assert (found - expected).abs().max() < tolerance * expected.abs().max()
    assert torch.allclose(posterior.report.residual, r.norm(dim=1))


def test_dps_tends_to_the_posterior_mean_as_sigma_falls():
    """The likelihood form with zeta 1: its gap to E[x0 | x, y] falls as sigma⁴."""
    covariance, operator = spd(2), operators_for((D,))["dense"]
    mean = torch.zeros(D, dtype=torch.float64)
    prior, problem = Gaussian(mean, covariance), some_problem(operator, (D,), 1.0)
    gaps = []
    for sigma in (0.1, 0.05):
        x = states((D,), 0.0)
        found = DPS(prior, problem, zeta=1.0, form="likelihood").denoise(x, sigma)
        expected = conditioned(mean, covariance, x, sigma, operator, problem.y, 1.0, (D,))
        gaps.append(float((found - expected).abs().max()))
    assert 13 < gaps[0] / gaps[1] < 17


def test_ddnm_is_exact_where_range_and_null_space_are_independent():
    """Exact observations through a mask of a prior with independent elements."""
    variances = torch.linspace(0.2, 3.0, D, dtype=torch.float64)
    prior = Gaussian(torch.zeros(D, dtype=torch.float64), variances)
    operator = operators_for((D,))["mask"]
    problem, x = some_problem(operator, (D,), 0.0), states((D,), 0.7)
    covariance = torch.diag(variances)
    expected = conditioned(
        torch.zeros(D, dtype=torch.float64), covariance, x, 0.7, operator, problem.y, 0.0, (D,)
    )
    assert (DDNM(prior, problem).denoise(x, 0.7) - expected).abs().max() < 1e-10


# -- non-linear operators and other noise


class Square(operators.Operator):
    linear = False

    def A(self, x):
        return x.square()


def test_a_gauss_newton_step_is_the_derivative_of_the_operator():
    prior = Gaussian(torch.ones(D, dtype=torch.float64), 0.04)
    x0 = prior.sample(4, seed=1)
    y = x0.square() + 0.1
    problem = make_problem(y, Square(), (D,), noises.GaussianNoise(0.1))
    local = problem.linearised(x0)
    v = states((D,), 0.0)
    assert torch.allclose(local.operator.A(v), 2 * x0 * v)
    assert torch.allclose(local.operator.A_adjoint(v), 2 * x0 * v)
    assert torch.allclose(local.residual(x0), y - x0.square())
    assert not problem.is_linear_gaussian
    assert local.is_linear_gaussian


@pytest.mark.parametrize(
    "noise",
    [
        noises.PoissonNoise(20.0),
        noises.PoissonGaussianNoise(20.0, 2.0),
        noises.RicianNoise(0.3),
    ],
)
def test_a_narrow_prior_makes_every_law_gaussian(noise):
    """With a prior far narrower than the likelihood, E[x0 | x, y] by quadrature is met by MMPS.

    The error of one Fisher scoring step is of the order of the prior's variance times the third
    derivative of the likelihood; without the likelihood the error is 30 times larger.
    """
    mean, std, sigma = 2.0, 0.05, 0.05
    prior = Gaussian(torch.tensor([mean], dtype=torch.float64), std**2)
    y = torch.tensor([[55.0]] if not isinstance(noise, noises.RicianNoise) else [[2.6]])
    problem = make_problem(y.double(), operators.Mask(torch.ones(1)), (1,), noise)
    x = torch.tensor([[2.02]], dtype=torch.float64)
    grid = torch.linspace(1.5, 2.5, 4001, dtype=torch.float64)[:, None]
    wide = y.double().expand(len(grid), 1)
    log_p = noise.log_likelihood(wide, grid)
    log_p = (
        log_p - (grid[:, 0] - mean) ** 2 / (2 * std**2) - (grid[:, 0] - 2.02) ** 2 / (2 * sigma**2)
    )
    weight = log_p.softmax(0)
    expected = float((weight * grid[:, 0]).sum())
    plain = float(prior.denoise(x, sigma))
    found = float(MMPS(prior, problem, iterations=20, tolerance=1e-12).denoise(x, sigma))
    assert abs(found - expected) < abs(plain - expected) / 30


# -- what every method keeps


ALL = {
    "dps": DPS,
    "pigdm": PiGDM,
    "tmpd": TMPD,
    "mmps": MMPS,
    "ddnm": DDNM,
    "diffpir": DiffPIR,
}


@pytest.mark.parametrize("name", ALL)
def test_rows_do_not_touch_each_other(name):
    prior = GaussianMixture([[-1.0] * D, [1.0] * D], 0.3)
    operator = operators_for((D,))["mask"]
    problem, x = some_problem(operator, (D,), 0.1), states((D,), 0.5)
    whole = ALL[name](prior, problem).denoise(x, 0.5)
    alone = ALL[name](prior, problem.take(torch.tensor([2]))).denoise(x[2:3], 0.5)
    assert torch.allclose(whole[2:3], alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_written_to(name):
    prior = GaussianMixture([[-1.0] * D, [1.0] * D], 0.3)
    problem, x = some_problem(operators_for((D,))["mask"], (D,), 0.1), states((D,), 0.5)
    kept, seen = x.clone(), problem.y.clone()
    ALL[name](prior, problem).denoise(x, 0.5)
    assert torch.equal(kept, x)
    assert torch.equal(seen, problem.y)
    assert not x.requires_grad


@pytest.mark.parametrize("name", ALL)
def test_another_number_of_rows_is_refused(name):
    prior = Gaussian(torch.zeros(D, dtype=torch.float64), 1.0)
    problem = some_problem(operators_for((D,))["mask"], (D,), 0.1)
    with pytest.raises(InputError, match="rows"):
        ALL[name](prior, problem).denoise(states((D,), 0.5, rows=3), 0.5)


def test_a_likelihood_without_noise_is_refused():
    prior = Gaussian(torch.zeros(D, dtype=torch.float64), 1.0)
    problem = some_problem(operators_for((D,))["mask"], (D,), 0.0)
    with pytest.raises(InputError, match="noise_std is 0"):
        DPS(prior, problem, form="likelihood")
    assert isinstance(problem, Problem)
