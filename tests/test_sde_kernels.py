"""Kernels that draw noise: weak orders, stationary laws, options.

On a Gaussian model a step is affine in x and in each normal it draws, so that the law after a whole
run is known exactly: the run is probed with unit vectors in place of x and of each draw, and no
sampling is needed. MALA, which is not affine, is sampled.
"""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from scorefield import rng
from scorefield.errors import InputError
from scorefield.exact import Gaussian, GaussianMixture
from scorefield.models import ScoreModel
from scorefield.noise import few_step, geometric
from scorefield.sampling import (
    MALA,
    SAMPLERS,
    Ancestral,
    AnnealedLangevin,
    ConsistentAnnealed,
    DPMSolver2M,
    DPMSolver2MSDE,
    Draws,
    Euler,
    Heun,
    History,
    Kernel,
    Langevin,
    MatchedSDE,
    PredictorCorrector,
    Projected,
    ReverseSDE,
    StochasticHeun,
    UniPC,
    make_kernel,
    run,
)

SE = 4.5
SPAN = (3.0, 0.1)
COUNTS = (32, 64, 128)
# For a method whose error of its order all but cancels: up to here the next order shows through.
FINE = (256, 512)
GAUSSIANS = {
    "correlated": Gaussian([1.0, -2.0], [[2.0, 0.6], [0.6, 0.5]]),
    "two scales": Gaussian([0.5, 3.0], [0.04, 4.0]),
}
each_gaussian = pytest.mark.parametrize("name", GAUSSIANS)


# ---- exact laws without sampling


def run_with(
    draws: Callable[[int, tuple[int, ...]], Tensor],
    kernel: Kernel,
    model: ScoreModel,
    ladder,
    x: Tensor,
    steps_per_level: int,
) -> Tensor:
    """`run` where the k-th draw of the whole run is draws(k, shape)."""
    count = [0]

    def normal(keys, stream, step, shape, dtype, draw=0):
        count[0] += 1
        return draws(count[0] - 1, (len(keys), *shape))

    with mock.patch.object(rng, "normal", normal):
        keys = rng.keys(0, len(x))
        return run(kernel, model, ladder, x, steps_per_level, "none", keys=keys).x


def law(
    kernel: Kernel,
    model: Gaussian,
    ladder,
    mean: Tensor,
    covariance: Tensor,
    steps_per_level: int = 1,
) -> tuple[Tensor, Tensor]:
    """Mean and covariance after the run from N(mean, covariance), exact up to rounding."""
    d, drawn = len(mean), [0]

    def silent(k: int, shape: tuple[int, ...]) -> Tensor:
        drawn[0] = k + 1
        return torch.zeros(shape, dtype=torch.float64)

    run_with(silent, kernel, model, ladder, mean[None], steps_per_level)
    x = mean.repeat(1 + d + drawn[0] * d, 1)
    x[1 : 1 + d] += torch.eye(d, dtype=torch.float64)

    def units(k: int, shape: tuple[int, ...]) -> Tensor:
        z = torch.zeros(shape, dtype=torch.float64)
        z[1 + d + k * d : 1 + d + (k + 1) * d] = torch.eye(d, dtype=torch.float64)
        return z

    end = run_with(units, kernel, model, ladder, x, steps_per_level)
    response = (end[1:] - end[0]).reshape(-1, d, d)  # (1 + draws, input, output)
    start, noises = response[0], response[1:]
    return end[0], start.T @ covariance @ start + torch.einsum("kij,kil->jl", noises, noises)


def smoothed(model: Gaussian, sigma: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of p_sigma."""
    known = model.moments()
    assert known.covariance is not None
    return known.mean, known.covariance + sigma**2 * torch.eye(len(known.mean)).double()


def consistent(make: type[ConsistentAnnealed], ladder: Tensor) -> ConsistentAnnealed:
    """eta = 1 - r³: in proportion to the step, and not Ancestral."""
    return make((1 - float(ladder[1] / ladder[0]) ** 3) * float(ladder[-1]) ** 2)


Make = Callable[[Tensor], Kernel]


def observed(make: Make, name: str) -> float:
    """The slope of ln error over ln step: error of mean and covariance together, at the end.

    The start has the exact law.
    """
    model, errors = GAUSSIANS[name], []
    counts = FINE if isinstance(make(geometric(*SPAN, 3)), MatchedSDE) else COUNTS
    for steps in counts:
        ladder = geometric(*SPAN, steps + 1)
        mean, covariance = law(make(ladder), model, ladder, *smoothed(model, SPAN[0]))
        true_mean, true_covariance = smoothed(model, SPAN[1])
        errors.append(
            math.hypot(
                float((mean - true_mean).norm()), float((covariance - true_covariance).norm())
            )
        )
    return math.log(errors[0] / errors[-1]) / math.log(counts[-1] / counts[0])


def maker(sampler: str, kernel: type[Kernel] | None = None) -> Make:
    made = kernel or SAMPLERS[sampler]
    if issubclass(made, ConsistentAnnealed):
        return lambda ladder: consistent(made, ladder)
    return lambda ladder: made()


NOISY = [n for n, kind in SAMPLERS.items() if kind.draws_noise and kind().order is not None]


def test_every_noisy_kernel_of_the_registry_with_an_order_is_measured_here() -> None:
    assert set(NOISY) == set(BROKEN)


@each_gaussian
@pytest.mark.parametrize("sampler", NOISY)
def test_kernels_that_draw_noise_have_the_weak_order_they_claim(sampler: str, name: str) -> None:
    assert observed(maker(sampler), name) == pytest.approx(SAMPLERS[sampler].order, abs=0.2)


any_eta = pytest.mark.parametrize(
    "made", [kind for kind in SAMPLERS.values() if "eta" in kind().options()]
)


class Scaled:
    """Draws whose normals are multiplied by a factor."""

    def __init__(self, draws: Draws, factor: float) -> None:
        self.draws, self.factor = draws, factor

    def normal(self) -> Tensor:
        return self.factor * self.draws.normal()


@each_gaussian
@any_eta
@pytest.mark.parametrize("eta", [0.5, 2.0, 4.0])
def test_the_reverse_sde_of_any_eta_has_its_weak_order(
    eta: float, made: type[DPMSolver2MSDE], name: str
) -> None:
    """Any eta keeps the marginals. The control has the drift of eta and the noise of 1."""

    class Torn(made):
        def move(self, x, sigma, sigma_next, history, draws):
            ratio = sigma_next / sigma
            factor = math.sqrt((1 - ratio**2) / (1 - ratio ** (2 * self.eta)))
            return super().move(x, sigma, sigma_next, history, Scaled(draws, factor))

    assert observed(lambda _: made(eta), name) == pytest.approx(2, abs=0.2)
    assert abs(observed(lambda _: Torn(eta), name)) < 0.4


def test_eta_zero_is_the_flow() -> None:
    model, ladder = GAUSSIANS["correlated"], geometric(*SPAN, 9)
    x, keys = model.sample(4, SPAN[0], seed=1), rng.keys(2, 4)
    assert torch.equal(
        run(DPMSolver2MSDE(0.0), model, ladder, x, keys=keys).x,
        run(DPMSolver2M(), model, ladder, x).x,
    )
    for wrong in (-0.1, math.inf, math.nan):
        with pytest.raises(InputError, match="eta must be at least 0 and finite"):
            DPMSolver2MSDE(wrong)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize(("before", "after"), [(1.3, 0.8), (1.1, 0.3), (4.0, 0.9)])
def test_the_matched_sde_keeps_the_variance_of_the_gaussian_it_is_made_for(
    eta: float, before: float, after: float
) -> None:
    """A step from a = 1 to `after` on N(0, 1) arrives at the variance 1 + after², to rounding.

    x and the x at `before` are drawn by the SDE itself. With D at the step's middle, as published,
    the variance is another one.
    """
    variance = {level: 1 + level**2 for level in (before, 1.0, after)}
    together = math.sqrt(2 * variance[before]) * (2 / variance[before]) ** (eta / 2)
    covariance = torch.tensor(
        [[variance[before], together, 0], [together, 2, 0], [0, 0, 1]], dtype=torch.float64
    )  # x_before, x, the noise

    def arrives(kernel: DPMSolver2MSDE) -> float:
        older, newer, z = torch.eye(3, dtype=torch.float64)
        history = History(((1.0, newer / 2), (before, older / variance[before])))
        draws: Any = SimpleNamespace(normal=lambda: z)
        response = kernel.move(newer, 1.0, after, history, draws)
        return float(response @ covariance @ response)

    assert arrives(MatchedSDE(eta)) == pytest.approx(variance[after], rel=1e-12)
    assert abs(arrives(DPMSolver2MSDE(eta)) / variance[after] - 1) > 1e-4


@pytest.mark.parametrize(
    ("evaluations", "eta", "widened", "deviations"),
    [
        (24, 2.0, 1.0, [0.5, 0.15, 0.05, 0.025]),
        (32, 3.0, 1.5, [2.5, 1.0, 0.5, 0.25, 0.1, 0.05, 0.025]),
    ],
    ids=["few", "the default of images"],
)
def test_the_matched_sde_keeps_variances_at_few_evaluations(
    evaluations: int, eta: float, widened: float, deviations: list[float]
) -> None:
    """All steps from 80 to 0.002, where the data's standard deviation is 0.5: exact laws.

    Variances of directions with `deviations` are kept within 5 %; with the published weight some
    grow by 14 % and more.
    """
    model = Gaussian([0.0] * len(deviations), [s**2 for s in deviations])
    ladder = few_step(80.0, 0.002, evaluations, widened * 0.5)

    def gain(kernel: Kernel) -> Tensor:
        _, covariance = law(kernel, model, ladder, *smoothed(model, 80.0))
        return covariance.diagonal() / smoothed(model, 0.002)[1].diagonal() - 1

    assert float(gain(MatchedSDE(eta)).abs().max()) < 0.05
    assert float(gain(DPMSolver2MSDE(eta)).max()) > 0.14


class QuietReverse(ReverseSDE):
    """A dropped root of two."""

    def step(self, model, state, sigma, sigma_next, draws):
        return super().step(model, state, sigma, sigma_next, Scaled(draws, 1 / math.sqrt(2)))


class QuietAncestral(Ancestral):
    """sqrt(a - b) where sqrt(a² - b²) belongs."""

    def step(self, model, state, sigma, sigma_next, draws):
        quiet = Scaled(draws, float(sigma + sigma_next) ** -0.5)
        return super().step(model, state, sigma, sigma_next, quiet)


class WrongLevel(ConsistentAnnealed):
    """b for a under the root: the noise that a Langevin step at b would add."""

    def step(self, model, state, sigma, sigma_next, draws):
        x, eta = state.x, state.memory
        fresh = float(sigma_next) * math.sqrt(1 - (1 - eta) ** 2)
        moved = x + eta * float(sigma) ** 2 * model.score(x, sigma)
        return state.replace(x=moved + fresh * draws.normal())


class StaleChurn(StochasticHeun):
    """Noise is added and the step still starts from sigma."""

    def step(self, model, state, sigma, sigma_next, draws):
        gamma, _ = state.memory
        raised = state.x + math.sqrt((1 + gamma) ** 2 - 1) * float(sigma) * draws.normal()
        return Heun.step(self, model, state.replace(x=raised), sigma, sigma_next, draws)


class Forgetful2MSDE(DPMSolver2MSDE):
    """The newest D alone, which is Ancestral."""

    def move(self, x, sigma, sigma_next, history, draws):
        kept = (sigma_next / sigma) ** 2
        fresh = sigma_next * math.sqrt(1 - kept) * draws.normal()
        return kept * x + (1 - kept) * history.past[0][1] + fresh


class HalfMatched(MatchedSDE):
    """Half of the older D's weight."""

    def fraction(self, before, sigma, sigma_next):
        return super().fraction(before, sigma, sigma_next) / 2


BROKEN: dict[str, type[Kernel]] = {
    "reverse-sde": QuietReverse,
    "ancestral": QuietAncestral,
    "consistent-annealed": WrongLevel,
    "heun-churn": StaleChurn,
    "dpmpp-2m-sde": Forgetful2MSDE,
    "matched-sde": HalfMatched,
}


@each_gaussian
@pytest.mark.parametrize("sampler", NOISY)
def test_broken_twins_fail_the_weak_order_test(sampler: str, name: str) -> None:
    slope = observed(maker(sampler, BROKEN[sampler]), name)
    assert abs(slope - SAMPLERS[sampler].order) > 0.4


def test_churn_with_inflation_has_a_bias_that_no_refinement_removes() -> None:
    assert observed(lambda _: StochasticHeun(inflation=1.01), "correlated") < 0.5


def test_the_reverse_step_is_the_exact_transition_of_a_point() -> None:
    """p = a point at m: x_b given x_a is N(r² x_a + (1 - r²) m, b² (1 - r²)), whatever the ratio.

    Euler-Maruyama leaves too much noise.
    """
    point = Gaussian([2.0], 0.0)
    a, b, x = 4.0, 1.0, torch.tensor([7.0], dtype=torch.float64)
    kept = (b / a) ** 2
    zero = torch.zeros(1, 1, dtype=torch.float64)
    for kernel in (
        Ancestral(),
        DPMSolver2MSDE(),
        MatchedSDE(),
        ConsistentAnnealed((1 - kept) * b**2),
    ):
        mean, covariance = law(kernel, point, [a, b], x, zero)
        torch.testing.assert_close(mean, kept * x + (1 - kept) * 2.0, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(covariance, zero + b**2 * (1 - kept), rtol=1e-12, atol=1e-12)
    for eta in (0.5, 3.0):  # from N(m, a²) every eta arrives at N(m, b²)
        for made in (DPMSolver2MSDE, MatchedSDE):
            mean, covariance = law(
                made(eta), point, [a, b], torch.full((1,), 2.0, dtype=torch.float64), zero + a**2
            )
            assert (float(mean), float(covariance)) == pytest.approx((2.0, b**2), rel=1e-12)
    assert float(law(ReverseSDE(), point, [a, b], x, zero)[1]) == pytest.approx(a**2 - b**2)


@pytest.mark.parametrize("eta", [0.35, 0.7, 1.0, 1.2])
def test_consistent_annealing_keeps_to_the_ladders_noise(eta: float) -> None:
    """On a point every level's law is N(m, sigma²) exactly, for any eta in reach.

    Annealed Langevin with the same eta is elsewhere, but for eta = 1.
    """
    point, ladder = Gaussian([2.0], 0.0), geometric(5.0, 0.5, 7)
    last, start = float(ladder[-1]), smoothed(point, 5.0)
    mean, covariance = law(ConsistentAnnealed(eta * last**2), point, ladder, *start)
    assert (float(mean), float(covariance)) == pytest.approx((2.0, last**2), rel=1e-12)
    _, covariance = law(AnnealedLangevin(eta * last**2), point, ladder, *start)
    assert abs(float(covariance) / last**2 - 1) > 0.05 or eta == 1.0


def test_consistent_annealing_refuses_a_step_out_of_reach() -> None:
    model, ladder = GAUSSIANS["correlated"], [4.0, 2.0, 1.0]
    words = r"too slowly.*0.5.*finer ladder, or an epsilon from 0.5 to 1.5"
    with pytest.raises(InputError, match=words):
        law(ConsistentAnnealed(0.4), model, ladder, *smoothed(model, 4.0))
    with pytest.raises(InputError, match="epsilon must be above 0"):
        ConsistentAnnealed(-1.0)


def test_churn_stays_below_the_models_largest_sigma() -> None:
    class Bounded(Gaussian):
        asked: list[float] = []

        def score(self, x, sigma, condition=None):
            self.asked.append(float(sigma))
            return super().score(x, sigma, condition)

    model = Bounded([0.0], 1.0)
    model.sigma_max = 10.0
    x, keys, ladder = model.sample(5, 10.0), rng.keys(0, 5), geometric(10.0, 0.1, 11)
    run(StochasticHeun(churn=5.0), model, ladder, x, keys=keys)
    assert max(model.asked) == 10.0
    raised = [s for s in model.asked if not torch.isclose(ladder, ladder.new_tensor(s)).any()]
    assert len(raised) == 9  # every step but the first, at (1 + gamma) sigma
    calm = run(StochasticHeun(sigma_high=1e-9), model, ladder, x, keys=keys).x
    assert torch.equal(calm, run(Heun(), model, ladder, x).x)
    for wrong, words in (
        ({"churn": -1.0}, "churn must be at least 0"),
        ({"inflation": math.nan}, "inflation must be at least 0 and finite"),
        ({"sigma_low": 2.0, "sigma_high": 1.0}, "sigma_low <= sigma_high"),
    ):
        with pytest.raises(InputError, match=words):
            StochasticHeun(**wrong)


# ---- the law of a fixed-sigma corrector


class NoRootTwo(Langevin):
    """sqrt(eps) for sqrt(2 eps)."""

    def step(self, model, state, sigma, sigma_next, draws):
        return super().step(model, state, sigma, sigma_next, Scaled(draws, 1 / math.sqrt(2)))


def corrected(
    model: Gaussian, sigma: float, epsilon: float, steps: int, mean: Tensor, covariance: Tensor
) -> tuple[Tensor, Tensor]:
    """`steps` of V <- A V A + 2 eps I, A = I - eps (C + sigma² I)^-1, and of the mean with A."""
    centre, variance = smoothed(model, sigma)
    eye = torch.eye(len(centre), dtype=torch.float64)
    pull = eye - epsilon * torch.linalg.inv(variance)
    for _ in range(steps):
        mean, covariance = (
            centre + pull @ (mean - centre),
            pull @ covariance @ pull + 2 * epsilon * eye,
        )
    return mean, covariance


def same(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    return all(torch.allclose(u, v, rtol=1e-11, atol=1e-11) for u, v in zip(a, b, strict=True))


@each_gaussian
@pytest.mark.parametrize("steps", [1, 7])
def test_the_law_of_a_fixed_sigma_corrector_is_the_closed_form(name: str, steps: int) -> None:
    model, sigma, epsilon = GAUSSIANS[name], 0.5, 0.1
    start = torch.tensor([4.0, 0.0], dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    truth = corrected(model, sigma, epsilon, steps, *start)
    for kernel in (Langevin(epsilon), AnnealedLangevin(epsilon)):
        assert same(law(kernel, model, [sigma], *start, steps), truth)
    assert not same(law(NoRootTwo(epsilon), model, [sigma], *start, steps), truth)


@each_gaussian
@pytest.mark.parametrize("when", ["after", "before"])
@pytest.mark.parametrize("predictor", [Ancestral, ReverseSDE, Euler, Heun])
def test_predictor_and_corrector_take_their_turns(
    name: str, when: str, predictor: type[Kernel]
) -> None:
    """One level down with two corrections, before or after the predictor.

    One more visit of the first level is corrections alone.
    """
    model, (a, b), r = GAUSSIANS[name], (2.0, 1.2), 0.3
    start = smoothed(model, 2.5)
    got = law(PredictorCorrector(predictor(), r, 2, when), model, [a, b], *start, steps_per_level=2)
    eps = {s: 2 * (r * s) ** 2 for s in (a, b)}
    truth = corrected(model, a, eps[a], 2 if when == "after" else 4, *start)
    truth = law(predictor(), model, [a, b], *truth)
    if when == "after":
        truth = corrected(model, b, eps[b], 2, *truth)
    assert same(got, truth)
    swapped = PredictorCorrector(predictor(), r, 2, "before" if when == "after" else "after")
    assert not same(law(swapped, model, [a, b], *start, steps_per_level=2), truth)


def test_corrections_reduce_a_predictors_error() -> None:
    """Euler-Maruyama in eight long steps leaves a covariance that corrections improve."""
    model, ladder = GAUSSIANS["correlated"], geometric(*SPAN, 9)
    truth = smoothed(model, SPAN[1])[1]
    alone, helped = (
        float((law(k, model, ladder, *smoothed(model, SPAN[0]))[1] - truth).norm())
        for k in (ReverseSDE(), PredictorCorrector(ReverseSDE(), 0.3, 8))
    )
    assert helped < 0.8 * alone


def test_per_sample_norms_are_each_samples_own_and_capped() -> None:
    model, sigma, r = GAUSSIANS["two scales"], 0.5, 0.2
    x, keys = model.sample(40, sigma, seed=3), rng.keys(1, 40)
    z, score = rng.normal(keys, rng.Stream.KERNEL, 0, (2,), torch.float64), model.score(x, sigma)
    expected = 2 * (r * sigma) ** 2
    free = 2 * (r * z.norm(dim=1) / score.norm(dim=1)) ** 2
    for cap in (4.0, 0.5):
        epsilon = free.clamp(max=cap * expected)[:, None]
        kernel = PredictorCorrector(Euler(), r, norms="sample", cap=cap, when="before")
        moved = run(kernel, model, [sigma, 0.4], x, keys=keys, final="none").x
        mine = x + epsilon * score + (2 * epsilon).sqrt() * z
        mine = run(Euler(), model, [sigma, 0.4], mine, final="none").x
        torch.testing.assert_close(moved, mine, rtol=1e-12, atol=1e-12)
    assert 0 < int((free > 4 * expected).sum()) < 40
    mode = model.means.expand(3, 2)  # the score vanishes: the cap holds
    kernel = PredictorCorrector(Ancestral(), norms="sample")
    assert torch.isfinite(run(kernel, model, [sigma, 0.4], mode, keys=keys[:3]).x).all()


@pytest.mark.parametrize(
    "kernel",
    [
        PredictorCorrector(ReverseSDE(), norms="sample"),
        PredictorCorrector(Heun(), 0.1, 2, "before"),
        StochasticHeun(40.0, 0.2, 2.0, 1.003),
        UniPC(3),
    ],
    ids=["sample norms", "before", "churn", "unipc-3"],
)
def test_options_keep_batches_independent(kernel: Kernel) -> None:
    model, ladder = GAUSSIANS["correlated"], geometric(*SPAN, 8)
    x, keys = model.sample(20, SPAN[0]), rng.keys(4, 20)
    whole = run(kernel, model, ladder, x, keys=keys).x
    parts = torch.cat(
        [run(kernel, model, ladder, x[i : i + 3], keys=keys[i : i + 3]).x for i in range(0, 20, 3)]
    )
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: PredictorCorrector(Langevin(0.1)),
            "a predictor moves x to the next level, Langevin does not",
        ),
        (lambda: PredictorCorrector(UniPC()), "UniPC stores denoised values.*Take Ancestral"),
        (lambda: PredictorCorrector(Ancestral(), norms="batch"), "depend on batch mates"),
        (
            lambda: PredictorCorrector(Ancestral(), when="during"),
            "when must be one of after, before",
        ),
        (lambda: PredictorCorrector(Ancestral(), r=0.0), "0 < r < 1"),
        (lambda: PredictorCorrector(Ancestral(), corrections=0), "corrections must be at least 1"),
        (
            lambda: PredictorCorrector(corrections=1.5),
            "corrections must be a whole number",
        ),
        (lambda: PredictorCorrector(cap=0.0), "cap must be above 0"),
        (lambda: PredictorCorrector(cap=math.nan), "cap must be above 0 and finite"),
        (lambda: PredictorCorrector(r="large"), "r must be a number; got the text 'large'"),
        (lambda: PredictorCorrector(Ancestral), "a kernel or its name; got <class"),
        (lambda: PredictorCorrector(None), "a kernel or its name; got None"),
        (lambda: StochasticHeun(churn="much"), "churn must be a number"),
        (lambda: StochasticHeun(sigma_low="x"), "sigma_low must be a number"),
        (lambda: StochasticHeun(sigma_low=math.nan), "0 <= sigma_low"),
        (lambda: UniPC(2.5), "p must be a whole number; got 2.5"),
        (lambda: UniPC("2"), "p must be a whole number; got the text '2'"),
        (lambda: UniPC(0), "p must be at least 1"),
        (lambda: MALA(0.0), "above 0"),
    ],
)
def test_bad_options_raise_input_errors(make: Callable[[], Kernel], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


def test_options_are_stored_as_the_numbers_they_stand_for() -> None:
    """A card or a command line may hold 2.0 where a whole number belongs, and "inf"."""
    assert UniPC(2.0) == UniPC(2)
    assert UniPC(2.0).length == 3 and isinstance(UniPC(2.0).p, int)
    assert PredictorCorrector(corrections=2.0) == PredictorCorrector(corrections=2)
    assert make_kernel("heun-churn", StochasticHeun(5).options()) == StochasticHeun(5.0)


# ---- MALA


class NoWayBack(MALA):
    """p(y) / p(x) without the proposals' ratio."""

    def step(self, model, state, sigma, sigma_next, draws):
        x, eps = state.x, self.step_size(state, sigma)
        proposal = x + eps * model.score(x, sigma) + math.sqrt(2 * eps) * draws.normal()
        ratio = model.log_density(proposal, sigma) - model.log_density(x, sigma)
        accept = (ratio > draws.uniform().log())[:, None]
        return state.replace(x=torch.where(accept, proposal, x))


def settles(kernel: Kernel, dimension: int) -> bool:
    """Whether 10,000 chains from a point reach p_sigma = N(3, 2 I), sigma = 0.5.

    Mean, variance and fourth moment are compared.
    """
    count, sigma, variance = 10000, 0.5, 2.0
    model = Gaussian([3.0] * dimension, variance - sigma**2)
    x = torch.full((count, dimension), 3.5, dtype=torch.float64)
    x = run(kernel, model, [sigma], x, 25, "none", keys=rng.keys(5, count)).x
    scaled = (x - 3) / math.sqrt(variance)
    n = scaled.numel()
    return (
        abs(float(scaled.mean())) < SE / math.sqrt(n)
        and abs(float(scaled.square().mean()) - 1) < SE * math.sqrt(2 / n)
        and abs(float(scaled.pow(4).mean()) - 3) < SE * math.sqrt(96 / n)
    )


@pytest.mark.parametrize("dimension", [1, 3])
def test_mala_settles_at_the_density_where_langevin_is_biased(dimension: int) -> None:
    epsilon = 1.0  # Langevin's variance settles at 2 / (1 - (1/2)²) = 2.67 in place of 2
    assert settles(MALA(epsilon), dimension)
    assert not settles(Langevin(epsilon), dimension)
    assert not settles(NoWayBack(epsilon), dimension)


def test_mala_keeps_a_mixture() -> None:
    """Chains that start in p_sigma keep weights, means and variances of both modes.

    Langevin with the same step leaves.
    """
    model = GaussianMixture([[-2.0, 0.0], [2.0, 1.0]], [[0.3, 0.3], [1.0, 0.2]], [0.3, 0.7])
    sigma, count = 0.3, 6000
    x, keys = model.sample(count, sigma, seed=8), rng.keys(2, count)

    def holds(kernel: Kernel) -> bool:
        end = run(kernel, model, [sigma], x, 15, "none", keys=keys).x
        right = end[:, 0] > 0
        fresh = model.sample(100000, sigma, seed=9)
        checks = [
            right.double(),
            end[:, 0],
            end[:, 1],
            end[:, 0].square(),
            end[:, 1].square(),
            model.log_prob(end, sigma),
        ]
        truths = [
            (fresh[:, 0] > 0).double(),
            *fresh.T,
            *fresh.square().T,
            model.log_prob(fresh, sigma),
        ]
        return all(
            abs(float(a.mean() - b.mean()))
            < SE * float(b.std()) * math.sqrt(1 / count + 1 / 100000)
            for a, b in zip(checks, truths, strict=True)
        )

    assert holds(MALA(0.25))
    assert not holds(Langevin(0.25))


def test_mala_needs_a_density_and_refuses_projection() -> None:
    class Scores(ScoreModel):
        event_shape, sigma_min, sigma_max = (2,), 0.05, 20.0

        def score(self, x, sigma, condition=None):
            return -x

    x, keys = torch.zeros(3, 2, dtype=torch.float64), rng.keys(0, 3)
    with pytest.raises(InputError, match=r"needs a model with log_density.*Use 'langevin'"):
        run(MALA(0.1), Scores(), [1.0], x, keys=keys)
    words = r"MALA does not support `project`.*annealed-langevin"
    with pytest.raises(InputError, match=words):
        Projected(MALA(0.1), lambda x, sigma, noise: x)


def test_every_kernel_that_draws_noise_says_so() -> None:
    """draws_noise decides which order test a kernel meets."""
    model = GAUSSIANS["correlated"]
    for kind in SAMPLERS.values():
        drawn = []

        def draws(k: int, shape: tuple[int, ...], drawn: list[int] = drawn) -> Tensor:
            drawn.append(k)
            return torch.zeros(shape, dtype=torch.float64)

        run_with(draws, kind(), model, [2.0, 1.0], model.sample(2, 2.0), 1)
        assert bool(drawn) == kind.draws_noise
