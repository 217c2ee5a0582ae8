"""`restore` by every method: laws on problems with a closed form, and what all methods keep."""

import json
import math

import pytest
import torch

from scorefield import noise
from scorefield.errors import InputError
from scorefield.exact import Gaussian, GaussianMixture
from scorefield.inverse import (
    METHODS,
    GaussianNoise,
    LogLikelihood,
    Measurement,
    PoissonGaussianNoise,
    PoissonNoise,
    RicianNoise,
    operators,
    plan_restoration,
    restore,
    simulate,
)
from scorefield.inverse.posteriors import MMPS, TMPD, PiGDM
from scorefield.sampling import resolve_sampling, run
from scorefield.units import Units

D = 16


def generator(seed):
    return torch.Generator().manual_seed(seed)


def normal(seed, *shape):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def prior(seed=1, d=D):
    """A normal prior whose covariance is full, with standard deviations from 0.4 to 2."""
    q, _ = torch.linalg.qr(normal(seed, d, d))
    covariance = q @ torch.diag(torch.linspace(0.4, 2.0, d, dtype=torch.float64).square()) @ q.T
    return Gaussian(torch.linspace(-1, 1, d, dtype=torch.float64), (covariance + covariance.T) / 2)


def operator(name, d=D):
    if name == "mask":
        return operators.Mask(torch.arange(d) % 3 == 0)
    if name == "matrix":
        return operators.Matrix(normal(5, 5, d) / 4)
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    return operators.Composition(
        operators.Blur(kernel, padding="circular"), operators.Unflatten((1, d))
    )


def closed_form(model, a, y, noise_std):
    """Mean and covariance of x given y = A x + n for a normal model."""
    moments = model.moments()
    c, m = moments.covariance, moments.mean.flatten()
    s = a @ c @ a.T + noise_std**2 * torch.eye(len(a), dtype=torch.float64)
    gain = c @ a.T @ torch.linalg.inv(s)
    return m + gain @ (y - a @ m), c - gain @ a @ c


def as_matrix(op, d=D):
    return op.A(torch.eye(d, dtype=torch.float64)).flatten(1).T


def observed(op, model, noise_std, d=D):
    x = model.sample(1, seed=3)
    y = op.A(x)
    return (y + noise_std * normal(4, *y.shape))[0]


OPERATORS = ["mask", "matrix"]


# -- order: on a normal prior a sampler is an affine map, so that mean and covariance of its samples
# are those of the map, without sampling error


def ode_errors(kind, steps, op_name, noise_std, sampler):
    """Errors of mean and covariance of an ODE sampler on a posterior model, with no sampling."""
    model, op = prior(), operator(op_name)
    y = observed(op, model, noise_std)
    ladder = noise.karras(40.0, 0.002, steps + 1)
    rows = D + 1
    problem = Measurement(y.expand(rows, *y.shape), op, noise_std).problem(model.units, (D,))
    posterior = kind(model, problem)
    # the start N(m, C + sigma² I) of the posterior, whose own moments at the top of the ladder
    # differ from these by (width/sigma)²
    x = torch.cat([torch.zeros(1, D, dtype=torch.float64), torch.eye(D, dtype=torch.float64)])
    out = run(resolve_sampling(posterior, sampler).kernel, posterior, ladder, x).x
    offset, m = out[0], (out[1:] - out[0]).T
    mean, covariance = closed_form(
        model, as_matrix(op), y.flatten()[: len(as_matrix(op))], noise_std
    )
    sigma = float(ladder[0])
    top = covariance + sigma**2 * torch.eye(D, dtype=torch.float64)
    found_mean = m @ mean + offset
    found_covariance = m @ top @ m.T
    return (
        float((found_mean - mean).abs().max()),
        float((found_covariance - covariance).abs().max()),
    )


def mmps(model, problem):
    return MMPS(model, problem, iterations=64, tolerance=1e-14)


def tmpd(model, problem):
    return TMPD(model, problem, jacobian="full")


@pytest.mark.parametrize("op_name", OPERATORS)
@pytest.mark.parametrize("noise_std", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("kind", [mmps, tmpd])
def test_errors_of_mean_and_covariance_fall_with_the_samplers_order(op_name, noise_std, kind):
    """Heun is of order 2: the covariance's error falls by about 4 when the steps double.

    The posterior's mean is a fixed point of the probability flow, so that its error is rounding.
    """
    coarse = ode_errors(kind, 40, op_name, noise_std, "heun")
    fine = ode_errors(kind, 80, op_name, noise_std, "heun")
    assert max(coarse[0], fine[0]) < 1e-9
    assert 3.0 < coarse[1] / fine[1] < 6.0


def test_a_wrong_posterior_does_not_converge():
    """Negative control: pseudo-inverse guidance keeps its bias on a full covariance."""
    coarse = ode_errors(PiGDM, 40, "matrix", 0.1, "heun")
    fine = ode_errors(PiGDM, 80, "matrix", 0.1, "heun")
    assert fine[1] > 0.02
    assert coarse[1] / fine[1] < 1.2


# -- draws of `restore` as it comes


def check_law(draws, mean, covariance, bias):
    """Mean and covariance of draws within 4.5 standard errors and a bias in units of the law."""
    n = len(draws)
    std = covariance.diagonal().sqrt()
    gap = (draws.mean(0) - mean).abs() / std
    assert float(gap.max()) < 4.5 / math.sqrt(n) + bias
    found = torch.cov(draws.T)
    scale = std[:, None] * std
    error = ((scale.square() + covariance.square()) / n).sqrt() / scale
    assert bool((((found - covariance).abs() / scale) < 4.5 * error + bias).all())


@pytest.mark.parametrize("op_name", OPERATORS)
@pytest.mark.parametrize("noise_std", [0.1, 1.0])
@pytest.mark.parametrize("method", ["exact", "tmpd", "auto"])
def test_draws_have_the_posteriors_law(op_name, noise_std, method):
    """The default sampler is of weak order 1: at 100 evaluations its bias is below 0.06 widths."""
    model, op = prior(), operator(op_name)
    y = observed(op, model, noise_std)
    options = {"jacobian": "full"} if method == "tmpd" else None
    n = 1000 if method == "tmpd" else 2000
    found = restore(model, Measurement(y, op, noise_std), n, 7, method=method, options=options)
    mean, covariance = closed_form(model, as_matrix(op), y.flatten(), noise_std)
    check_law(found.draws, mean, covariance, 0.0 if found.record.method == "exact" else 0.06)
    # the mean over draws for this y: (|y - A mean|² + tr(A C A^T)) / (m noise_std²)
    a = as_matrix(op)
    seen = slice(None) if op_name == "matrix" else op.mask
    gap = (y.flatten() - a @ mean)[seen]
    spread = (a @ covariance @ a.T)[seen][:, seen]
    expected = float((gap.square().sum() + spread.trace()) / (len(gap) * noise_std**2))
    error = float(found.chi2.std()) / math.sqrt(n)
    bias = 0.0 if found.record.method == "exact" else 0.12
    assert abs(float(found.chi2.mean()) - expected) < 4.5 * error + bias * expected


def test_the_law_check_can_fail():
    """Negative control: the prior's draws do not have the posterior's law."""
    model, op = prior(), operator("matrix")
    y = observed(op, model, 0.1)
    mean, covariance = closed_form(model, as_matrix(op), y, 0.1)
    with pytest.raises(AssertionError):
        check_law(model.sample(2000, seed=1), mean, covariance, 0.06)


def test_exact_draws_of_a_mixture_have_its_weights():
    """The mixture of weights 0.2 and 0.8 at ∓(5, 5) with x1 = 0 observed exactly: 0.2 and 0.8."""
    model = GaussianMixture([[-5.0, -5.0], [5.0, 5.0]], 1.0, [0.2, 0.8])
    seen = Measurement([0.0, math.nan])
    draws = restore(model, seen, 4000, 1).draws
    assert bool((draws[:, 0] == 0).all())
    share = float((draws[:, 1] < 0).double().mean())
    assert abs(share - 0.2) < 4.5 * math.sqrt(0.2 * 0.8 / 4000)


def test_exact_draws_of_a_class_are_of_its_components():
    """p(x | y, c): the posterior restricted to the components of class c."""
    model = GaussianMixture([[-5.0, -5.0], [5.0, 5.0]], 1.0, [0.2, 0.8], labels=[0, 1])
    seen = Measurement([[0.0, math.nan], [0.0, math.nan]])
    draws = restore(model, seen, 500, 1, condition={"class": [0, 1]}).draws[..., 1]
    assert bool((draws[0] < 0).all())
    assert bool((draws[1] > 0).all())


def test_langevin_inpainting_misses_a_mixtures_weights():
    """The documented error of the article's inpainting: the small mode comes out too large."""
    model = GaussianMixture([[-5.0, -5.0], [5.0, 5.0]], 1.0, [0.2, 0.8])
    draws = restore(model, Measurement([0.0, math.nan]), 4000, 1, method="inpainting").draws
    share = float((draws[:, 1] < 0).double().mean())
    assert share > 0.2 + 4.5 * math.sqrt(0.2 * 0.8 / 4000)


# -- other laws of the noise, against quadrature


def quadrature(log_p, low=-4.0, high=6.0, count=20001):
    grid = torch.linspace(low, high, count, dtype=torch.float64)
    weight = log_p(grid).softmax(0)
    mean = float((weight * grid).sum())
    return mean, float((weight * (grid - mean).square()).sum())


LAWS = {
    "poisson": (PoissonNoise(10.0), 23.0),
    "poisson-gaussian": (PoissonGaussianNoise(10.0, 2.0), 23.0),
    "rician": (RicianNoise(0.5), 2.4),
    "function": (LogLikelihood(lambda y, m: -((y - m) ** 4).flatten(1).sum(1)), 2.0),
}


@pytest.mark.parametrize("name", LAWS)
def test_daps_has_the_posteriors_law_in_one_dimension(name):
    """Prior N(2, 0.6²). DAPS treats the likelihood as Gaussian about its estimate: 0.15 widths."""
    law, y = LAWS[name]
    model = Gaussian([2.0], 0.36)
    seen = Measurement([y], operators.Identity(), noise=law)
    draws = restore(model, seen, 1000, 5, method="daps", nfe=50).draws[:, 0]
    column = torch.full((1, 1), y, dtype=torch.float64)

    def log_p(grid):
        m = grid[:, None]
        return law.log_likelihood(column.expand(len(m), 1), m) - (grid - 2) ** 2 / 0.72

    mean, variance = quadrature(log_p, 0.05, 5.0)
    width = math.sqrt(variance)
    assert abs(float(draws.mean()) - mean) < 4.5 * width / math.sqrt(1000) + 0.15 * width
    assert abs(float(draws.std()) / width - 1) < 4.5 / math.sqrt(2000) + 0.15
    assert abs(2.0 - mean) > 0.15 * width or abs(0.6 / width - 1) > 0.2  # the prior would fail


@pytest.mark.parametrize("name", ["poisson", "poisson-gaussian", "rician"])
def test_moment_matching_takes_counts_by_fisher_scoring(name):
    law, y = LAWS[name]
    model = Gaussian([2.0], 0.36)
    draws = restore(model, Measurement([y], operators.Identity(), noise=law), 3000, 5).draws[:, 0]
    column = torch.full((1, 1), y, dtype=torch.float64)

    def log_p(grid):
        m = grid[:, None]
        return law.log_likelihood(column.expand(len(m), 1), m) - (grid - 2) ** 2 / 0.72

    mean, variance = quadrature(log_p, 0.05, 5.0)
    width = math.sqrt(variance)
    assert abs(float(draws.mean()) - mean) < 0.15 * width
    assert abs(float(draws.std()) / width - 1) < 0.15


@pytest.mark.parametrize(
    ("law", "mean"),
    [
        (GaussianNoise(0.3), 2.0),
        (GaussianNoise(covariance=[[0.25]]), 2.0),
        (PoissonNoise(10.0), 20.0),
        (PoissonGaussianNoise(10.0, 2.0), 20.0),
        (RicianNoise(0.01), 2.0),
    ],
)
def test_simulated_observations_have_the_laws_mean(law, mean):
    x = torch.full((4000, 1), 2.0, dtype=torch.float64)
    y = simulate(x, operators.Identity(), noise=law).observed
    error = float(y.std()) / math.sqrt(len(y))
    assert abs(float(y.mean()) - mean) < 4.5 * error + 1e-4
    assert torch.equal(y[:5], simulate(x[:5], operators.Identity(), noise=law).observed)


def test_coloured_noise_has_its_spectrum():
    """The variance of each Fourier coefficient of the noise is the spectrum's."""
    n = 8
    spectrum = 1 / (1 + torch.fft.fftfreq(n, dtype=torch.float64).abs() * n)
    x = torch.zeros(20000, n, dtype=torch.float64)
    y = simulate(x, operators.Identity(), noise=GaussianNoise(spectrum=spectrum)).observed
    found = torch.fft.fft(y, norm="ortho").abs().square().mean(0)
    assert bool(((found / spectrum - 1).abs() < 4.5 * math.sqrt(2 / 20000)).all())


@pytest.mark.parametrize("kind", ["std", "covariance", "spectrum"])
@pytest.mark.parametrize("missing", [False, True])
def test_structured_noise_and_missing_elements(kind, missing):
    """A normal prior under noise of every form, with an element missing, against conditioning."""
    d = 4
    model = prior(2, d)
    q = normal(8, d, d)
    law = {
        "std": GaussianNoise(torch.linspace(0.1, 0.7, d, dtype=torch.float64)),
        "covariance": GaussianNoise(
            covariance=0.2 * torch.eye(d, dtype=torch.float64) + q @ q.T / 9
        ),
        "spectrum": GaussianNoise(spectrum=[1.0, 0.3, 0.1, 0.3]),
    }[kind]
    a = normal(9, d, d)
    y = normal(10, d)
    seen = torch.ones(d, dtype=torch.bool)
    if missing:
        seen[1] = False
    given = torch.where(seen, y, math.nan)
    c, m = model.moments().covariance, model.moments().mean
    s = (a @ c @ a.T + law.matrix((d,)))[seen][:, seen]
    gain = c @ a[seen].T @ torch.linalg.inv(s)
    mean, covariance = m + gain @ (y[seen] - a[seen] @ m), c - gain @ a[seen] @ c
    found = restore(model, Measurement(given, operators.Matrix(a), noise=law), 2000, 3)
    check_law(found.draws, mean, covariance, 0.0)
    draws = restore(
        model, Measurement(given, operators.Matrix(a), noise=law), 2000, 3, method="mmps", nfe=100
    ).draws
    check_law(draws, mean, covariance, 0.06)


# -- what every method keeps, over the registry

NOISY = 0.2
TWO = GaussianMixture([[-1.0] * 4, [1.0] * 4], 0.3, [0.4, 0.6])


def fitting(name):
    """A measurement that the method takes."""
    mask = operators.Mask(torch.tensor([True, True, False, True]))
    return Measurement([[0.5, -0.2, 0.0, 0.9], [1.0, 0.3, 0.0, 0.2]], mask, unnoisy(name))


def unnoisy(name):
    return 0.0 if name == "inpainting" else NOISY


def few(name):
    return None if name == "exact" else 60


@pytest.mark.parametrize("name", METHODS)
def test_a_draw_depends_on_its_key_alone(name):
    seen = fitting(name)
    whole = restore(TWO, seen, 3, 0, method=name, nfe=few(name)).draws
    again = restore(TWO, seen, 3, 0, method=name, nfe=few(name)).draws
    assert torch.equal(whole, again)
    options = {} if name == "exact" else {"batch": 2}
    parts = restore(TWO, seen, 3, 0, method=name, nfe=few(name), options=options).draws
    assert torch.allclose(whole, parts, rtol=1e-8, atol=1e-10)
    other = restore(TWO, seen, 3, 1, method=name, nfe=few(name)).draws
    hidden = ~seen.operator.mask
    assert not bool((other[..., hidden] == whole[..., hidden]).any())


@pytest.mark.parametrize("name", METHODS)
def test_observations_do_not_touch_each_other(name):
    """The first observation alone gives the same draws."""
    seen = fitting(name)
    whole = restore(TWO, seen, 3, 0, method=name, nfe=few(name)).draws
    first = Measurement(seen.observed[:1], seen.operator, seen.noise_std)
    alone = restore(TWO, first, 3, 0, method=name, nfe=few(name)).draws
    assert torch.allclose(whole[:1], alone, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", METHODS)
def test_restorations_scale_and_shift_with_the_data(name):
    """Data and observation scaled by 1000 and shifted by -3; the noise is scaled."""
    plain = fitting(name)
    moved = GaussianMixture(TWO.means, 0.3, TWO.weights)
    moved.units = Units.affine(-3.0, 1000.0)
    mask = plain.operator.mask
    y = torch.where(mask, plain.observed.double() * 1000 - 3, 0.0)
    scaled = Measurement(y, plain.operator, 1000 * plain.noise_std)
    a = restore(TWO, plain, 3, 0, method=name, nfe=few(name)).draws
    b = restore(moved, scaled, 3, 0, method=name, nfe=few(name)).draws
    assert torch.allclose(b, a * 1000 - 3, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_written_to(name):
    seen = fitting(name)
    kept = seen.observed.clone()
    restore(TWO, seen, 2, 0, method=name, nfe=few(name))
    assert torch.equal(kept, seen.observed)
    assert seen.operator.mask.tolist() == [True, True, False, True]


@pytest.mark.parametrize("name", METHODS)
def test_the_record_states_the_method_and_its_limits(name):
    found = restore(TWO, fitting(name), 2, 0, method=name, nfe=few(name))
    record = found.record.to_dict()
    assert record["method"] == name
    assert record["exact_for"]
    assert name == "exact" or record["approximate_because"]
    assert record["evaluations"] <= 100
    json.dumps(record)
    assert name in repr(found)


@pytest.mark.parametrize("name", METHODS)
def test_a_default_costs_at_most_a_hundred_evaluations(name):
    assert plan_restoration(TWO, fitting(name), 4, method=name).evaluations <= 100


@pytest.mark.parametrize("name", METHODS)
def test_options_that_a_method_does_not_have_are_listed(name):
    with pytest.raises(InputError, match="no option 'temperature'"):
        restore(TWO, fitting(name), 2, method=name, options={"temperature": 1})


# -- choosing, quantiles, refusals


def test_auto_prints_one_line_with_the_reason(capsys):
    network = GaussianMixture([[0.0, 0.0], [1.0, 1.0]], 1.0)
    seen = Measurement([0.3], operators.Matrix([[1.0, 1.0]]), 0.1)
    restore(network, seen, 2)
    assert capsys.readouterr().err.startswith("method exact (the posterior of this density")
    restore(network, Measurement([3.0], operators.Matrix([[1.0, 1.0]]), noise=PoissonNoise()), 2)
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "noise is not Gaussian" in line
    assert "evaluations a draw, about" in line


def test_quantiles_are_those_of_the_draws():
    found = restore(TWO, fitting("exact"), 101, 0)
    assert torch.allclose(found.quantile(0.5), found.draws.median(1).values)
    both = found.quantile([0.0, 1.0])
    assert torch.equal(both[0], found.draws.min(1).values)
    assert torch.equal(both[1], found.draws.max(1).values)
    with pytest.raises(InputError):
        found.quantile(1.5)


def wrong_adjoint():
    class Wrong(operators.Operator):
        def A(self, x):
            return x[:, :2]

        def A_adjoint(self, y):
            return torch.cat([y, y], 1)

    return Wrong()


def not_finite():
    class Wrong(operators.Operator):
        linear = False

        def A(self, x):
            return x[:, :2] / 0

    return Wrong()


BAD = {
    "adjoint": (lambda: Measurement([0.0, 0.0], wrong_adjoint(), 0.1), "auto", "adjoint"),
    "not finite": (lambda: Measurement([0.0, 0.0], not_finite(), 0.1), "auto", "finite"),
    "shape": (
        lambda: Measurement([0.0] * 3, operators.Matrix(normal(1, 2, 4)), 0.1),
        "auto",
        "shape",
    ),
    "noise 0": (
        lambda: Measurement([0.0, 0.0], operators.Function(lambda x: x[:, :2] ** 2)),
        "daps",
        "noise_std",
    ),
    "ddrm": (
        lambda: Measurement([0.0, 0.0], operators.Function(lambda x: x[:, :2] ** 2), 0.1),
        "ddrm",
        "linear",
    ),
    "both noises": (
        lambda: Measurement([0.0] * 4, noise_std=0.1, noise=PoissonNoise()),
        "auto",
        "not both",
    ),
    "counts": (
        lambda: Measurement([0.5] * 4, operators.Identity(), noise=PoissonNoise()),
        "auto",
        "whole numbers",
    ),
    "negative noise": (lambda: Measurement([0.0] * 4, noise_std=-1), "auto", "noise_std"),
    "complex": (lambda: Measurement([1j] * 4), "auto", "complex"),
    "nothing seen": (
        lambda: Measurement([math.nan] * 2, operators.Matrix(normal(1, 2, 4)), 0.1),
        "auto",
        "no observed element",
    ),
    "covariance": (
        lambda: Measurement(
            [0.0] * 2,
            operators.Matrix(normal(1, 2, 4)),
            noise=GaussianNoise(covariance=[[1.0, 2.0], [2.0, 1.0]]),
        ),
        "auto",
        "positive definite",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_by_name(name):
    make, method, words = BAD[name]
    with pytest.raises(InputError, match=words):
        restore(TWO, make(), 2, method=method)
