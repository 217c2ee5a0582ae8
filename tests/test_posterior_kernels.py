"""Posterior kernels against closed forms.

On a Gaussian prior and a linear problem a step is affine in x and in each normal it draws. A run
that is probed with unit vectors in place of x and of each draw gives its mean and covariance
without sampling (`law`). The bias of a kernel is the difference between that law and the posterior.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from unittest import mock

import pytest
import torch
from torch import Tensor

from scorefield import rng
from scorefield.errors import InputError
from scorefield.exact import Gaussian, GaussianMixture
from scorefield.inverse.kernels import DAPS, DDRM, POSTERIOR_KERNELS, PosteriorLangevin
from scorefield.inverse.kernels import base as kernels_base
from scorefield.inverse.noises import GaussianNoise, LogLikelihood, PoissonNoise
from scorefield.inverse.operators import Blur, Function, Mask, Matrix, Operator
from scorefield.inverse.operators.registry import OPERATORS
from scorefield.inverse.problem import Problem, make_problem
from scorefield.models import Bound, Guidance, ScoreModel, Wrapped, prior
from scorefield.noise import geometric
from scorefield.sampling import Draws, Kernel, State, resolve_sampling, run

SE = 4.5
F = torch.float64
NOISES = (0.01, 0.1, 1.0)
each_kernel = pytest.mark.parametrize("name", POSTERIOR_KERNELS)
each_noise = pytest.mark.parametrize("noise_std", NOISES)
each_operator = pytest.mark.parametrize("operator", ["mask", "matrix", "blur"])


# ---- problems


class NoSVD(Operator):
    """The same operator, whose singular value decomposition is not known."""

    def __init__(self, inner: Operator) -> None:
        self.inner = inner

    def A(self, x):
        return self.inner.A(x)

    def A_adjoint(self, y):
        return self.inner.A_adjoint(y)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_operator(name: str, d: int) -> Operator:
    if name == "mask":
        return Mask(torch.arange(d) % 2 == 0)
    if name == "matrix":
        return Matrix(torch.randn(d // 2, d, generator=generator(3), dtype=F) / math.sqrt(d))
    return Blur([0.3, 1.0, 0.5])


def matrix_of(operator: Operator, shape: tuple[int, ...]) -> Tensor:
    eye = torch.eye(math.prod(shape), dtype=F).reshape(-1, *shape)
    return operator.A(eye).flatten(1).T


@dataclass
class Case:
    """A Gaussian prior, one observation and the posterior."""

    model: Gaussian
    problem: Problem
    mean: Tensor
    covariance: Tensor


def posterior(mean: Tensor, covariance: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
    a = matrix_of(problem.operator, problem.event_shape)
    s = a @ covariance @ a.T + problem.noise_std**2 * torch.eye(len(a), dtype=F)
    gain = covariance @ a.T @ torch.linalg.pinv(s, hermitian=True, rtol=1e-12)
    return mean + gain @ (problem.y[0].flatten() - a @ mean), covariance - gain @ a @ covariance


def make_case(
    operator: Operator,
    shape: tuple[int, ...],
    noise_std: float,
    covariance: Tensor | float | None = None,
) -> Case:
    """The observation of one draw of a Gaussian prior, of full covariance unless one is given."""
    d = math.prod(shape)
    if covariance is None:
        q, _ = torch.linalg.qr(torch.randn(d, d, generator=generator(0), dtype=F))
        covariance = q @ torch.diag(torch.logspace(-1, 0.5, d, dtype=F)) @ q.T
        covariance = (covariance + covariance.T) / 2
    elif isinstance(covariance, float):
        covariance = covariance * torch.eye(d, dtype=F)
    mean = torch.randn(d, generator=generator(1), dtype=F)
    x = mean + torch.linalg.cholesky(covariance) @ torch.randn(d, generator=generator(2), dtype=F)
    y = operator.A(x.reshape(1, *shape))
    y = y + noise_std * torch.randn(y.shape, generator=generator(4), dtype=F)
    if isinstance(operator, Mask):
        y = operator.A(y)
    problem = Problem(y, operator, shape, noise_std)
    model = Gaussian(mean.reshape(shape), covariance)
    return Case(model, problem, *posterior(mean, covariance, problem))


def rows(problem: Problem, count: int) -> Problem:
    return problem.take(torch.zeros(count, dtype=torch.int64))


# ---- laws without sampling


Make = Callable[[Problem], Kernel]


def law(
    make: Make,
    case: Case,
    ladder: Tensor,
    mean: Tensor,
    covariance: Tensor,
    steps_per_level: int = 1,
    final: str = "none",
) -> tuple[Tensor, Tensor]:
    """Mean and covariance after the run from N(mean, covariance), exact up to rounding."""
    shape = case.problem.event_shape
    d, drawn, basis = len(mean), [0], torch.eye(len(mean), dtype=F).reshape(-1, *shape)

    def go(count: int, x: Tensor, normal: Callable[..., Tensor]) -> Tensor:
        kernel = make(rows(case.problem, count))
        drawn[0] = 0
        with mock.patch.object(rng, "normal", normal):
            keys = rng.keys(0, count)
            return run(kernel, case.model, ladder, x, steps_per_level, final, keys=keys).x

    def silent(keys, stream, step, shape, dtype, draw=0):
        drawn[0] += 1
        return torch.zeros(len(keys), *shape, dtype=F)

    start = mean.reshape(1, *shape)
    go(1, start, silent)
    total = 1 + d + drawn[0] * d
    x = start.repeat(total, *[1] * len(shape))
    x[1 : 1 + d] += basis

    def units(keys, stream, step, shape, dtype, draw=0):
        z = torch.zeros(len(keys), *shape, dtype=F)
        first = 1 + d + drawn[0] * d
        z[first : first + d] = basis
        drawn[0] += 1
        return z

    end = go(total, x, units).flatten(1)
    response = (end[1:] - end[0]).reshape(-1, d, d)
    first, noises = response[0], response[1:]
    return end[0], first.T @ covariance @ first + torch.einsum("kij,kil->jl", noises, noises)


def started(case: Case, ladder: Tensor) -> tuple[Tensor, Tensor]:
    """The law of the start: the prior at the first level."""
    known = case.model.moments()
    eye = torch.eye(len(known.covariance), dtype=F)
    return known.mean.flatten(), known.covariance + float(ladder[0]) ** 2 * eye


def recipe_law(make: Make, case: Case, nfe: int = 100, final: str = "denoise"):
    """The law of a run by the default recipe."""
    recipe = resolve_sampling(case.model, make(case.problem), nfe=nfe, final=final)

    def chosen(problem: Problem) -> Kernel:
        return make(problem).resolve(case.model, recipe.ladder)

    start = started(case, recipe.ladder)
    return law(chosen, case, recipe.ladder, *start, recipe.steps_per_level, final)


def distance(found: tuple[Tensor, Tensor], true: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Error of the mean in standard deviations, and relative error of the covariance.

    Both are root mean squares.
    """
    spread = true[1].diagonal().mean().sqrt()
    mean = (found[0] - true[0]).square().mean().sqrt() / spread
    return float(mean), float((found[1] - true[1]).norm() / true[1].norm())


# ---- claims


@each_kernel
def test_kernels_declare_themselves(name: str) -> None:
    kind = POSTERIOR_KERNELS[name]
    assert next(f.name for f in fields(kind)) == "problem"
    assert kind.help and kind.exact_for and kind.approximate_because
    case = make_case(make_operator("mask", 6), (6,), 0.1)
    kernel = kind(case.problem)
    assert "problem" not in json.dumps(kernel.options())


@each_kernel
@pytest.mark.parametrize("nfe", [None, 30, 100])
def test_a_run_costs_what_the_recipe_states(name: str, nfe: int | None) -> None:
    case = make_case(make_operator("mask", 6), (6,), 0.1)
    kernel = POSTERIOR_KERNELS[name](case.problem)
    recipe = resolve_sampling(case.model, kernel, nfe=nfe)
    assert recipe.evaluations <= (nfe or 100)
    x = case.model.sample(1, float(recipe.ladder[0]), seed=1)
    result = run(
        recipe.kernel, case.model, recipe.ladder, x, recipe.steps_per_level, keys=rng.keys(0, 1)
    )
    assert result.evaluations == recipe.evaluations


def test_the_inner_flow_of_daps_is_counted() -> None:
    case = make_case(make_operator("mask", 6), (6,), 0.1)
    recipe = resolve_sampling(case.model, DAPS(case.problem, ode_steps=5))
    assert 90 <= recipe.evaluations <= 100
    x = case.model.sample(1, float(recipe.ladder[0]), seed=1)
    result = run(recipe.kernel, case.model, recipe.ladder, x, keys=rng.keys(0, 1))
    assert result.evaluations == recipe.evaluations


class _OnItsLadder(Wrapped):
    """A model that is defined at its own levels only."""

    ladder = geometric(20.0, 0.05, 150)  # type: ignore[assignment]
    ladder_only = True  # type: ignore[assignment]

    def denoise(self, x, sigma, condition=None):
        self.level_index(torch.as_tensor(sigma))
        return self.inner.denoise(x, sigma, condition)

    def score(self, x, sigma, condition=None):
        return (self.denoise(x, sigma, condition) - x) / float(sigma) ** 2

    def level_index(self, sigma):
        return ScoreModel.level_index(self, sigma)


@each_kernel
def test_models_with_fixed_levels_are_sampled_on_them(name: str) -> None:
    case = make_case(make_operator("mask", 6), (6,), 0.1)
    model = _OnItsLadder(case.model)
    recipe = resolve_sampling(model, POSTERIOR_KERNELS[name](case.problem))
    assert recipe.evaluations <= 100
    x = case.model.sample(1, float(recipe.ladder[0]), seed=1)
    run(recipe.kernel, model, recipe.ladder, x, recipe.steps_per_level, keys=rng.keys(0, 1))


# ---- linear problems: draws have the law that is computed, and the bias that is declared

#: The bias at 100 evaluations with the last denoise, the largest over the operators, d = 8: error
#: of the mean in standard deviations of the posterior, and relative error of its covariance.
BIAS = {
    "posterior-langevin": {0.01: (0.09, 0.23), 0.1: (0.05, 0.22), 1.0: (0.07, 0.11)},
    "ddrm": {0.01: (0.07, 0.8), 0.1: (0.16, 0.9), 1.0: (1.3, 0.85)},
    "daps": {0.01: (0.09, 0.08), 0.1: (0.05, 0.08), 1.0: (0.06, 0.03)},
}


@each_kernel
@each_operator
@each_noise
def test_draws_have_mean_and_covariance_of_the_posterior_up_to_the_bias(
    name: str, operator: str, noise_std: float
) -> None:
    kind, count = POSTERIOR_KERNELS[name], 1500
    case = make_case(make_operator(operator, 8), (8,), noise_std)
    true = case.mean, case.covariance
    mean, covariance = recipe_law(kind, case)
    errors, declared = distance((mean, covariance), true), BIAS[name][noise_std]
    assert errors[0] < declared[0] and errors[1] < declared[1], errors

    problem = rows(case.problem, count)
    recipe = resolve_sampling(case.model, kind(problem), nfe=100)
    keys = rng.keys(7, count)
    noise = rng.normal(keys, rng.Stream.START, 0, (8,), F)
    x = prior(case.model, float(recipe.ladder[0])).sample(noise)
    x = run(recipe.kernel, case.model, recipe.ladder, x, recipe.steps_per_level, keys=keys).x
    variance = covariance.diagonal()
    assert bool(((x.mean(0) - mean).abs() < SE * (variance / count).sqrt() + 1e-9).all())
    error = (torch.cov(x.T) - covariance).abs()
    spread = ((variance[:, None] * variance + covariance.square()) / count).sqrt()
    assert bool((error < SE * spread + 1e-9).all())


@each_kernel
@each_noise
def test_a_problem_without_decomposition_has_the_same_law(name: str, noise_std: float) -> None:
    case = make_case(make_operator("matrix", 8), (8,), noise_std)
    blind = replace(case, problem=replace(case.problem, operator=NoSVD(case.problem.operator)))
    if name == "ddrm":
        with pytest.raises(InputError, match="singular value decomposition"):
            DDRM(blind.problem)
        return
    kind = POSTERIOR_KERNELS[name]
    found, expected = recipe_law(kind, blind), recipe_law(kind, case)
    torch.testing.assert_close(found[0], expected[0], atol=1e-7, rtol=0)
    torch.testing.assert_close(found[1], expected[1], atol=1e-7, rtol=0)


# ---- linear problems: exactness, orders, and closed forms of the bias


def refined(name: str, case: Case, levels: int) -> tuple[float, float]:
    """The error after a run over a fine ladder that ends far below the prior's scales."""
    std = case.model.moments().data_std
    ladder = geometric(20 * std, 0.01 * std, levels)

    def chosen(problem: Problem) -> Kernel:
        return POSTERIOR_KERNELS[name](problem).resolve(case.model, ladder)

    return distance(law(chosen, case, ladder, *started(case, ladder)), (case.mean, case.covariance))


@pytest.mark.parametrize("name", ["daps", "posterior-langevin"])
@each_operator
@each_noise
def test_the_error_is_of_order_one_in_the_step(name: str, operator: str, noise_std: float) -> None:
    case = make_case(make_operator(operator, 16), (16,), noise_std)
    errors = [math.hypot(*refined(name, case, levels)) for levels in (50, 100, 200)]
    # Below 0.002 the ladder's last level is what is left.
    # Narrow directions of the prior settle last: up to 200 levels the ratios rise towards 2.
    assert errors[-1] < 0.002 or errors[1] / errors[2] > 1.5, errors
    assert errors[-1] < 0.002 or errors[1] / errors[2] > errors[0] / errors[1] - 0.1, errors


LINEAR = [name for name, entry in OPERATORS.items() if entry.example()[0].linear]


def daps_error(kind: type[DAPS], operator: Operator, shape: tuple[int, ...], noise_std: float):
    """Error of the mean and of the covariance for a prior of covariance s² I, six levels."""
    case = make_case(operator, shape, noise_std, 0.49)
    ladder = geometric(700.0, 0.05, 6)

    def chosen(problem: Problem) -> Kernel:
        return kind(problem).resolve(case.model, ladder)

    found = law(chosen, case, ladder, *started(case, ladder))
    return max(
        float((found[0] - case.mean).abs().max()), float((found[1] - case.covariance).norm())
    )


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("noise_std", [0.0, 0.2])
def test_daps_is_exact_for_isotropic_priors_at_any_number_of_steps(
    name: str, noise_std: float
) -> None:
    operator, shape = OPERATORS[name].example()
    if noise_std == 0 and operator.svd(shape) is None:
        with pytest.raises(InputError, match="State the noise"):
            DAPS(Problem(operator.A(torch.zeros(1, *shape)), operator, shape, 0.0))
        return
    assert daps_error(DAPS, operator, shape, noise_std) < 1e-8


class _FlatPrior(DAPS):
    """r = sigma."""

    def variance(self, sigma):
        return sigma**2


class _NoNoise(DAPS):
    """A draw of x0 without the noise of its law."""

    def _draw(self, centre, variance, draws):
        return kernels_base.observe(self.problem, centre, variance, 0.0, draws)


class _WrongSign(DAPS):
    """The update against the residual."""

    def _draw(self, centre, variance, draws):
        x0 = super()._draw(centre, variance, draws)
        return 2 * centre - x0


@pytest.mark.parametrize("kind", [_FlatPrior, _NoNoise, _WrongSign])
def test_wrong_forms_of_daps_are_not_exact(kind: type[DAPS]) -> None:
    assert daps_error(kind, make_operator("matrix", 6), (6,), 0.2) > 0.05


def test_the_flow_of_the_paper_counts_variance_twice() -> None:
    """Without observation the variance settles at s² + r² v / sigma² for a fine inner flow."""
    sigma, square = 0.5, 0.49
    case = make_case(Mask(torch.tensor([False, True])), (2,), 1e6, square)
    kernel = DAPS(case.problem, ode_steps=400, prior_std=math.inf)
    x = case.model.means + torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=F)
    ends = [kernel._flow(case.model, row[None], sigma) for row in x]
    kappa = float((ends[1] - ends[0])[0, 0])
    assert kappa == pytest.approx(math.sqrt(square / (square + sigma**2)), rel=2e-3)
    settled = (kappa**2 * sigma**2 + kernel.variance(sigma)) / (1 - kappa**2)
    assert settled == pytest.approx(square + (square + sigma**2), rel=1e-2)


def stationary(kernel: PosteriorLangevin, case: Case, sigma: float, last: float):
    """Mean and covariance of the stationary law at a level, by the step's affine form."""
    d = len(case.mean)
    x = torch.cat([torch.zeros(1, d, dtype=F), torch.eye(d, dtype=F)])
    level, drawn = torch.tensor(sigma, dtype=F), [0]

    def go(x: Tensor, normal: Callable[..., Tensor]) -> Tensor:
        drawn[0] = 0
        held = replace(kernel, problem=rows(case.problem, len(x)))
        state = State(x, memory=last)
        with mock.patch.object(rng, "normal", normal):
            draws = Draws(rng.keys(0, len(x)), state, 0, 0, "test")
            return held.step(case.model, state, level, level, draws).x

    def normal(keys, stream, step, shape, dtype, draw=0):
        z = torch.zeros(len(keys), *shape, dtype=F)
        first = 1 + d + drawn[0] * d
        z[first : first + d] = torch.eye(d, dtype=F)[: max(0, min(d, len(z) - first))]
        drawn[0] += 1
        return z

    go(x, normal)
    x = torch.cat([x, torch.zeros(drawn[0] * d, d, dtype=F)])
    end = go(x, normal)
    step, noises = (end[1 : 1 + d] - end[0]).T, (end[1 + d :] - end[0]).T
    fresh = noises @ noises.T
    eye = torch.eye(d, dtype=F)
    mean = torch.linalg.solve(eye - step, end[0])
    whole = torch.eye(d * d, dtype=F) - torch.kron(step, step)
    return mean, torch.linalg.solve(whole, fresh.flatten()).reshape(d, d)


@pytest.mark.parametrize("gamma", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("decomposed", [True, False])
@each_noise
def test_langevin_settles_at_the_law_of_its_docstring(
    noise_std: float, decomposed: bool, gamma: float
) -> None:
    sigma, last, square, eps = 0.6, 0.2, 0.8, 0.3 * 0.6**2
    operator = make_operator("matrix", 6)
    case = make_case(operator, (6,), noise_std, square)
    if not decomposed:
        case = replace(case, problem=replace(case.problem, operator=NoSVD(operator)))
    kernel = PosteriorLangevin(case.problem, eps * (last / sigma) ** 2, gamma)
    mean, covariance = stationary(kernel, case, sigma, last)

    _, values, vh = torch.linalg.svd(operator.matrix, full_matrices=True)
    values = torch.cat([values, torch.zeros(3, dtype=F)])
    v = square + sigma**2
    h = values.square() / (noise_std**2 + gamma**2 * (sigma**2 - last**2) * values.square())
    variance = 1 / (1 / v + h) / (1 - eps / (v * (2 + eps * h)))
    torch.testing.assert_close(covariance, vh.T @ torch.diag(variance) @ vh, atol=1e-8, rtol=0)
    m, y = case.model.means[0], case.problem.y[0]
    shown = torch.where(values > 0, values, 1.0)
    seen = torch.cat([torch.linalg.svd(operator.matrix)[0].T @ y, torch.zeros(3, dtype=F)]) / shown
    expected = vh.T @ ((vh @ m / v + h * seen) / (1 / v + h))
    torch.testing.assert_close(mean, expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("name", ["daps", "posterior-langevin", "ddrm"])
def test_exact_observations_are_met(name: str) -> None:
    case = make_case(make_operator("matrix", 8), (8,), 0.0)
    count = 50
    problem = rows(case.problem, count)
    recipe = resolve_sampling(case.model, POSTERIOR_KERNELS[name](problem), nfe=60, final="none")
    keys = rng.keys(7, count)
    x = case.model.sample(count, float(recipe.ladder[0]), seed=1)
    x = run(
        recipe.kernel, case.model, recipe.ladder, x, recipe.steps_per_level, "none", keys=keys
    ).x
    # DDRM leaves noise of the last level; the others end on y.
    low = 1e-9 if name != "ddrm" else SE * float(recipe.ladder[-1])
    assert float(problem.residual(x).abs().max()) < low


# ---- DDRM


def ddrm_by_hand(kernel: DDRM, case: Case, ladder: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each coefficient, for independent coefficients: the paper's Eq. 7, 8."""
    known = case.model.moments()
    m, v = known.mean, known.variance
    a = matrix_of(case.problem.operator, case.problem.event_shape).diagonal()
    y, tau, (eta, eta_b) = case.problem.y[0], kernel.problem.noise_std, (kernel.eta, kernel.eta_b)
    means, variances = [], []
    for k in range(len(m)):
        first = float(ladder[0])
        mean, variance = float(m[k]), float(v[k]) + first**2
        seen = float(a[k]) > 0
        t = tau / float(a[k]) if seen else math.inf
        shown = float(y[k] / a[k]) if seen else 0.0
        if seen and first >= t:
            mean, variance = shown, first**2 - t**2
        for here, there in zip(ladder[:-1].tolist(), ladder[1:].tolist(), strict=True):
            gain = float(v[k]) / (float(v[k]) + here**2)
            at = float(m[k]) * (1 - gain)
            keep = math.sqrt(1 - eta**2)
            if not seen:
                slope = gain + keep * there / here * (1 - gain)
                shift = at * (1 - keep * there / here)
                fresh = (eta * there) ** 2
            elif there < t:
                slope = gain * (1 - keep * there / t)
                shift = at * (1 - keep * there / t) + keep * there / t * shown
                fresh = (eta * there) ** 2
            else:
                slope, shift = (1 - eta_b) * gain, (1 - eta_b) * at + eta_b * shown
                fresh = there**2 - (eta_b * t) ** 2
            mean, variance = slope * mean + shift, slope**2 * variance + fresh
        means.append(mean)
        variances.append(variance)
    return torch.tensor(means, dtype=F), torch.tensor(variances, dtype=F)


@pytest.mark.parametrize("eta", [0.0, 0.85, 1.0])
@pytest.mark.parametrize("eta_b", [0.3, 1.0])
@pytest.mark.parametrize("noise_std", [0.0, *NOISES])
def test_ddrm_follows_the_equations_of_the_paper(
    noise_std: float, eta: float, eta_b: float
) -> None:
    scales = torch.tensor([2.0, 0.5, 0.05, 0.0], dtype=F)
    spread = torch.diag(torch.tensor([1.0, 0.3, 2.0, 0.5], dtype=F))
    operator = OPERATORS["per-element"].make(scales)
    case = make_case(operator, (4,), noise_std, spread)
    ladder = geometric(5.0, 0.05, 15)
    kernel = DDRM(case.problem, eta, eta_b)
    mean, covariance = law(
        lambda p: replace(kernel, problem=p), case, ladder, *started(case, ladder)
    )
    by_hand = ddrm_by_hand(kernel, case, ladder)
    torch.testing.assert_close(mean, by_hand[0], atol=1e-9, rtol=0)
    torch.testing.assert_close(covariance, torch.diag(by_hand[1]), atol=1e-9, rtol=0)


def test_ddrm_of_a_blur_is_that_of_its_matrix() -> None:
    """Complex coefficients take their noise from real white noise."""
    operator, ladder = make_operator("blur", 8), geometric(5.0, 0.05, 15)
    for noise_std in (0.0, 0.3):
        case = make_case(operator, (8,), noise_std)
        dense = replace(case, problem=replace(case.problem, operator=Matrix.of(operator, (8,))))
        start = started(case, ladder)
        found, expected = law(DDRM, case, ladder, *start), law(DDRM, dense, ladder, *start)
        torch.testing.assert_close(found[0], expected[0], atol=1e-9, rtol=0)
        torch.testing.assert_close(found[1], expected[1], atol=1e-9, rtol=0)


def test_more_levels_of_ddrm_leave_out_the_prior() -> None:
    """With noise the mean tends to y and the variance to zero, as its docstring states."""
    case = make_case(Mask(torch.ones(1, dtype=torch.bool)), (1,), 1.0, 0.5)
    found = []
    for levels in (20, 200, 2000):
        ladder = geometric(10.0, 0.01, levels)
        mean, covariance = law(DDRM, case, ladder, *started(case, ladder))
        found.append((float((mean - case.problem.y[0]).abs()), float(covariance)))
    assert found[0][0] > found[1][0] > found[2][0] and found[2][0] < found[0][0] / 3
    assert found[0][1] > found[1][1] > found[2][1] and found[2][1] < found[0][1] / 3
    assert float(case.covariance) == pytest.approx(1 / 3)


def test_ddrm_is_exact_in_the_limit_that_it_declares() -> None:
    case = make_case(make_operator("mask", 6), (6,), 0.0, 0.49)
    errors = []
    for levels in (100, 200, 400):
        ladder = geometric(50.0, 0.002, levels)
        mean, covariance = law(lambda p: DDRM(p, eta=0.0), case, ladder, *started(case, ladder))
        errors.append(float((mean - case.mean).norm() + (covariance - case.covariance).norm()))
    assert errors[1] < errors[0] / 1.8 and errors[2] < errors[1] / 1.8 and errors[2] < 0.05


# ---- likelihoods that are not Gaussian, and operators that are not linear, against quadrature


def moments_by_quadrature(model: ScoreModel, problem: Problem, smoothing: float = 0.0):
    """Mean and covariance of p_smoothing(x) p(y | x) in one or two dimensions, on a grid."""
    d = math.prod(problem.event_shape)
    line = torch.linspace(-6, 6, 20001 if d == 1 else 601, dtype=F)
    x = torch.cartesian_prod(*[line] * d).reshape(-1, d)
    log_p = model.log_density(x, smoothing) + rows(problem, len(x)).log_likelihood(x)
    weight = (log_p - log_p.max()).exp()
    weight = weight / weight.sum()
    mean = weight @ x
    return mean, torch.einsum("n,ni,nj->ij", weight, x - mean, x - mean)


def poisson() -> tuple[ScoreModel, Problem]:
    operator = Function(lambda x: x.exp(), (1,))
    y = torch.tensor([[9.0]], dtype=F)
    return Gaussian([0.3], 0.64), Problem(y, operator, (1,), 0.0, PoissonNoise(3.0))


def quadratic() -> tuple[ScoreModel, Problem]:
    operator = Function(lambda x: x.square().sum(-1, keepdim=True) / 2, (1,))
    y = torch.tensor([[1.5]], dtype=F)
    return Gaussian([0.8, -0.3], 0.5), Problem(y, operator, (2,), 0.4)


def heavy_tails() -> tuple[ScoreModel, Problem]:
    """Student's t by a function: its Fisher information is not known."""

    def student(y: Tensor, mean: Tensor) -> Tensor:
        return -2 * (1 + ((y - mean) / 0.5).square() / 3).log().sum(-1)

    y = torch.tensor([[1.5, 0.2]], dtype=F)
    problem = Problem(y, Matrix([[1.0, 0.0], [0.5, 1.0]]), (2,), 0.0, LogLikelihood(student))
    return Gaussian([0.3, -0.5], 0.64), problem


LIKELIHOODS = {"poisson": poisson, "quadratic": quadratic, "heavy tails": heavy_tails}


def sampled(kernel: Kernel, model: ScoreModel, ladder: Tensor, steps: int, count: int) -> Tensor:
    x = model.sample(count, float(ladder[0]), seed=5)
    return run(kernel, model, ladder, x, steps, "none", keys=rng.keys(3, count)).x


def apart(x: Tensor, true: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """The largest error of mean and covariance, in standard errors of the draws."""
    count, centred = len(x), x - x.mean(0)
    outer = torch.einsum("ni,nj->nij", centred, centred)
    mean = (x.mean(0) - true[0]).abs() / (x.var(0) / count).sqrt()
    covariance = (outer.mean(0) - true[1]).abs() / (outer.var(0) / count).sqrt()
    return float(mean.max()), float(covariance.max())


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("fine", [True, False])
def test_daps_meets_quadrature(name: str, fine: bool) -> None:
    """Exact on isotropic normal priors, but for the inner chain's step.

    A fine one is tested on a few noise levels, the default one on the default ladder.
    """
    model, problem = LIKELIHOODS[name]()
    count = 4000 if fine else 1000
    problem = rows(problem, count)
    kernel, ladder = DAPS(problem, inner_steps=60, inner_step=0.05), geometric(30.0, 0.2, 8)
    if not fine:
        recipe = resolve_sampling(model, DAPS(problem), nfe=100)
        kernel, ladder = recipe.kernel, recipe.ladder
    x = sampled(kernel, model, ladder, 1, count)
    errors = apart(x, moments_by_quadrature(model, LIKELIHOODS[name]()[1]))
    assert max(errors) < SE, errors


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_langevin_meets_quadrature(name: str) -> None:
    """The posterior of the prior smoothed by the last level, in the limit of small steps."""
    model, problem = LIKELIHOODS[name]()
    count, last = 1500, 0.5
    kernel = PosteriorLangevin(rows(problem, count), epsilon=0.06 * last**2)
    x = sampled(kernel, model, geometric(3.0, last, 3), 400, count)
    errors = apart(x, moments_by_quadrature(model, problem, last))
    assert max(errors) < SE, errors


class _WithoutLikelihood(DAPS):
    """Draws of x0 given x alone."""

    def _draw(self, centre, variance, draws):
        return centre + math.sqrt(variance) * draws.normal()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_draws_of_the_prior_do_not_meet_quadrature(name: str) -> None:
    model, problem = LIKELIHOODS[name]()
    kernel = _WithoutLikelihood(rows(problem, 2000))
    x = sampled(kernel, model, geometric(30.0, 0.2, 8), 1, 2000)
    assert max(apart(x, moments_by_quadrature(model, problem))) > 2 * SE


# ---- modes

#: The weight of the small mode at 100 evaluations; the posterior's is 0.2. 4,000 draws.
SMALL_MODE = {"posterior-langevin": 0.26, "ddrm": 0.243, "daps": 0.30}


@each_kernel
def test_weights_of_modes_are_biased_as_documented(name: str) -> None:
    """Modes at (-5, -5) and (5, 5) with weights 0.2 and 0.8, of which x_1 = 0 is observed."""
    model = GaussianMixture([[-5.0, -5.0], [5.0, 5.0]], 1.0, [0.2, 0.8])
    count = 4000
    mask = Mask(torch.tensor([True, False]))
    problem = Problem(torch.zeros(count, 2, dtype=F), mask, (2,), 0.0)
    recipe = resolve_sampling(model, POSTERIOR_KERNELS[name](problem), nfe=100)
    keys = rng.keys(3, count)
    noise = rng.normal(keys, rng.Stream.START, 0, (2,), F)
    x = prior(model, float(recipe.ladder[0])).sample(noise)
    x = run(recipe.kernel, model, recipe.ladder, x, recipe.steps_per_level, keys=keys).x
    small = float((x[:, 1] < 0).double().mean())
    se = math.sqrt(0.25 * 0.75 / count)
    assert abs(small - SMALL_MODE[name]) < SE * se
    assert small - 0.2 > SE * se


# ---- invariants of every kernel


def linear_run(
    name: str,
    case: Case,
    index: Tensor,
    keys: Tensor,
    x: Tensor,
    model: ScoreModel | None = None,
) -> Tensor:
    """Rows `index` of a problem with three observations, by a short recipe."""
    problem, model = case.problem.take(index), model or case.model
    kernel = POSTERIOR_KERNELS[name](problem)
    if isinstance(kernel, DAPS):
        kernel = replace(kernel, inner_steps=2)
    recipe = resolve_sampling(model, kernel, nfe=30)
    return run(recipe.kernel, model, recipe.ladder, x, recipe.steps_per_level, keys=keys[index]).x


def three_observations(operator: Operator, noise_std: float = 0.3) -> Case:
    case = make_case(operator, (6,), noise_std)
    y = case.problem.y + torch.tensor([[0.0], [1.0], [-3.0]], dtype=F)
    return replace(case, problem=replace(case.problem, y=y))


OPERATOR_KINDS = {
    "mask": lambda: make_operator("mask", 6),
    "matrix": lambda: make_operator("matrix", 6),
    "own masks": lambda: Mask(torch.tensor([[1, 0] * 3, [1, 1, 1, 0, 0, 0], [0, 1] * 3]), True),
    "no svd": lambda: NoSVD(make_operator("matrix", 6)),
    "not linear": lambda: Function(lambda x: x[:, :3] + x[:, :3].pow(3) / 10, (3,)),
}


def kinds_case(name: str, operator: str) -> Case:
    """A case of one observation or three, or a skip where the method is not for it."""
    made = OPERATOR_KINDS[operator]()
    if operator == "own masks":
        case = three_observations(make_operator("mask", 6))
        case = replace(case, problem=replace(case.problem, operator=made))
    elif operator == "not linear":
        case = three_observations(make_operator("matrix", 6))
        case = replace(case, problem=replace(case.problem, operator=made))
    else:
        case = three_observations(made)
    if POSTERIOR_KERNELS[name].unfit(case.problem) is not None:
        pytest.skip("the method is not for such a problem")
    return case


@each_kernel
@pytest.mark.parametrize("operator", OPERATOR_KINDS)
def test_a_row_does_not_depend_on_its_batch_mates(name: str, operator: str) -> None:
    case, keys = kinds_case(name, operator), rng.keys(5, 3)
    x = case.model.sample(3, 20.0, seed=2)
    whole = linear_run(name, case, torch.arange(3), keys, x)
    for k in range(3):
        index = torch.tensor([k])
        torch.testing.assert_close(
            linear_run(name, case, index, keys, x[index])[0], whole[k], rtol=0, atol=1e-9
        )
    order = torch.tensor([2, 0, 1])
    found = linear_run(name, case, order, keys, x[order])
    torch.testing.assert_close(found, whole[order], rtol=0, atol=1e-9)


@each_kernel
@pytest.mark.parametrize("operator", OPERATOR_KINDS)
def test_noise_is_a_function_of_the_keys_and_nothing_is_written_to(
    name: str, operator: str
) -> None:
    case = kinds_case(name, operator)
    x, index = case.model.sample(3, 20.0, seed=2), torch.arange(3)
    before = x.clone(), case.problem.y.clone()
    first = linear_run(name, case, index, rng.keys(5, 3), x)
    assert torch.equal(first, linear_run(name, case, index, rng.keys(5, 3), x))
    assert bool((first != linear_run(name, case, index, rng.keys(6, 3), x)).all())
    assert torch.equal(x, before[0]) and torch.equal(case.problem.y, before[1])
    assert not x.requires_grad
    recipe = resolve_sampling(case.model, POSTERIOR_KERNELS[name](case.problem), nfe=30)
    with pytest.raises(InputError, match="draws noise: pass keys"):
        run(recipe.kernel, case.model, recipe.ladder, x)


@each_kernel
@pytest.mark.parametrize("operator", ["mask", "matrix", "no svd"])
def test_other_units_scale_the_samples(name: str, operator: str) -> None:
    case, scale = kinds_case(name, operator), 1000.0
    known = case.model.moments()
    wide = Gaussian(scale * known.mean, scale**2 * known.covariance)
    problem = replace(
        case.problem, y=scale * case.problem.y, noise_std=scale * case.problem.noise_std
    )
    x, index, keys = case.model.sample(3, 20.0, seed=2), torch.arange(3), rng.keys(5, 3)
    found = linear_run(name, replace(case, problem=problem), index, keys, scale * x, wide)
    expected = scale * linear_run(name, case, index, keys, x)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-4)


@each_kernel
def test_float32_and_event_shapes(name: str) -> None:
    """A run in float32 stays in it and close to float64."""
    shape = (2, 4, 4)
    operator = Blur([[0.3, 1.0, 0.5]])
    case = make_case(operator, shape, 0.3)
    keys, count = rng.keys(5, 4), 4
    found = {}
    for dtype in (torch.float32, F):
        problem = rows(case.problem, count)
        problem = replace(problem, y=problem.y.to(dtype))
        recipe = resolve_sampling(case.model, POSTERIOR_KERNELS[name](problem), nfe=30)
        x = case.model.sample(count, 20.0, seed=2).to(dtype)
        x = run(recipe.kernel, case.model, recipe.ladder, x, recipe.steps_per_level, keys=keys).x
        assert x.dtype == dtype and x.shape == (count, *shape)
        found[dtype] = x
    torch.testing.assert_close(found[torch.float32].to(F), found[F], rtol=0, atol=5e-3)


@each_kernel
def test_conditions_and_guidance_reach_the_kernel(name: str) -> None:
    """A bound model is that of its class, and a guide of scale 1 changes nothing."""
    model = GaussianMixture([[-5.0, -5.0], [5.0, 5.0]], 1.0, labels=[0, 1])
    alone = Gaussian([5.0, 5.0], 1.0)
    count, keys = 6, rng.keys(5, 6)
    mask = Mask(torch.tensor([True, False]))
    problem = Problem(torch.tensor([[4.0, 0.0]], dtype=F).expand(count, 2), mask, (2,), 0.3)
    kernel = POSTERIOR_KERNELS[name](problem)
    if name == "daps":
        kernel = DAPS(problem, prior_std=1.0)
    condition = {"class": torch.ones(count, dtype=torch.int64)}
    x, ladder = alone.sample(count, 20.0, seed=2), geometric(20.0, 0.1, 30)
    expected = run(kernel, alone, ladder, x, keys=keys, final="none").x
    if name == "posterior-langevin":  # its default step is that of the ladder
        kernel = kernel.resolve(alone, ladder)
    given = run(kernel, model, ladder, x, keys=keys, condition=condition, final="none").x
    bound = run(kernel, Bound(model, condition), ladder, x, keys=keys, final="none").x
    guided = Guidance.of(1.0).wrap(model, condition)
    guided = run(kernel, guided, ladder, x, keys=keys, condition=condition, final="none").x
    for found in (given, bound, guided):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["posterior-langevin", "daps"])
def test_missing_elements_and_correlated_noise(name: str) -> None:
    """Elements of y that are NaN are as if A had no such rows; the noise has a covariance."""
    matrix = make_operator("matrix", 8).matrix
    case = make_case(make_operator("matrix", 8), (8,), 0.1, 0.49)
    spread = torch.tensor([[0.2, 0.1], [0.1, 0.3]], dtype=F)
    full = torch.eye(4, dtype=F)
    seen = torch.tensor([0, 2])
    full[seen[:, None], seen] = spread
    y = case.problem.y.clone()
    y[:, [1, 3]] = math.nan
    problem = make_problem(y, Matrix(matrix), (8,), GaussianNoise(covariance=full))
    a = matrix[seen]
    gain = 0.49 * a.T @ torch.linalg.inv(0.49 * a @ a.T + spread)
    mean = case.model.means[0] + gain @ (y[0, seen] - a @ case.model.means[0])
    covariance = 0.49 * torch.eye(8, dtype=F) - gain @ a * 0.49
    missing = replace(case, problem=problem, mean=mean, covariance=covariance)
    ladder = geometric(700.0, 0.05, 6)
    if name == "daps":
        found = law(lambda p: DAPS(p, prior_std=0.7), missing, ladder, *started(missing, ladder))
        torch.testing.assert_close(found[0], mean, atol=1e-7, rtol=0)
        torch.testing.assert_close(found[1], covariance, atol=1e-7, rtol=0)
    else:
        found = recipe_law(PosteriorLangevin, missing)
        errors = distance(found, (mean, covariance))
        assert errors[0] < 0.05 and errors[1] < 0.12, errors


# ---- refusals


def test_problems_that_a_method_is_not_for_are_refused_by_name() -> None:
    case = make_case(make_operator("matrix", 6), (6,), 0.1)
    bent = Function(lambda x: x.square(), (6,))
    y = torch.ones(1, 6, dtype=F)
    with pytest.raises(InputError, match="ddrm needs a linear operator; Function is not"):
        DDRM(Problem(y, bent, (6,), 0.1))
    with pytest.raises(InputError, match="ddrm needs Gaussian noise; got PoissonNoise"):
        DDRM(replace(case.problem, noise=PoissonNoise()))
    with pytest.raises(InputError, match="NoSVD has not; use daps"):
        DDRM(replace(case.problem, operator=NoSVD(case.problem.operator)))
    for kind in (PosteriorLangevin, DAPS):
        with pytest.raises(InputError, match=r"Function is not linear\. State the noise"):
            kind(Problem(y, bent, (6,), 0.0))
        with pytest.raises(InputError, match="NoSVD has no known singular value"):
            kind(replace(case.problem, operator=NoSVD(case.problem.operator), noise_std=0.0))


@each_kernel
def test_what_is_no_problem_or_has_other_rows_is_refused(name: str) -> None:
    kind = POSTERIOR_KERNELS[name]
    with pytest.raises(InputError, match="needs a Problem"):
        kind(torch.zeros(3))  # type: ignore[arg-type]
    case = make_case(make_operator("mask", 6), (6,), 0.1)
    recipe = resolve_sampling(case.model, kind(case.problem), nfe=30)
    with pytest.raises(InputError, match="holds 1 observations, one a row; the state has 2"):
        run(
            recipe.kernel,
            case.model,
            recipe.ladder,
            torch.zeros(2, 6, dtype=F),
            keys=rng.keys(0, 2),
        )


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (PosteriorLangevin, {"epsilon": 0.0}),
        (PosteriorLangevin, {"gamma": -1.0}),
        (DDRM, {"eta": 1.1}),
        (DDRM, {"eta_b": -0.1}),
        (DAPS, {"ode_steps": 0}),
        (DAPS, {"prior_std": 0.0}),
        (DAPS, {"prior_std": math.nan}),
        (DAPS, {"inner_steps": 0}),
        (DAPS, {"inner_step": 1.5}),
    ],
)
def test_options_out_of_range_are_refused(kind, options) -> None:
    case = make_case(make_operator("mask", 6), (6,), 0.1)
    with pytest.raises(InputError, match=next(iter(options))):
        kind(case.problem, **options)


def test_daps_takes_a_flat_prior_where_moments_are_not_known() -> None:
    class Unknown(Wrapped):
        def moments(self, condition=None):
            return None

    case = make_case(make_operator("mask", 6), (6,), 0.1)
    ladder = geometric(5.0, 0.1, 10)
    assert DAPS(case.problem).resolve(Unknown(case.model), ladder).prior_std == math.inf
    known = DAPS(case.problem).resolve(case.model, ladder)
    assert known.prior_std == pytest.approx(case.model.moments().data_std)
    assert json.dumps(DAPS(case.problem, prior_std=math.inf).options())
