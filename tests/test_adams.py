"""The Adams-Bashforth kernels: weights, orders, the past that costs nothing, few evaluations."""

import math
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefield import rng
from scorefield.errors import InputError
from scorefield.exact import Gaussian, GaussianMixture
from scorefield.models import Moments, Preconditioned
from scorefield.noise import geometric
from scorefield.sampling import (
    IPNDM,
    DataAdams,
    DPMSolver3M,
    Draws,
    Euler,
    NoiseAdams,
    State,
    UniPC,
    VelocityAdams,
    run,
    sample,
)
from scorefield.sampling.adams import Adams, lagrange_weights, log_points, normal_past, plain_points
from scorefield.sampling.ladders import LOWEST_TOP, angular, short_range
from test_orders import MODELS, SPAN, error, observed, path

METHODS: dict[str, type[Adams]] = {
    "ipndm": IPNDM,
    "zeab": NoiseAdams,
    "xeab": DataAdams,
    "veab": VelocityAdams,
}
each_method = pytest.mark.parametrize("method", METHODS)
UNEQUAL = (1, 3)  # strides: steps that alternate between h and 3 h


# ---- weights


def test_weights_in_sigma_on_equal_steps_are_the_constants_of_adams_and_bashforth() -> None:
    for nodes, constants in (
        ([3.0], [1]),
        ([3.0, 4.0], [3 / 2, -1 / 2]),
        ([3.0, 4.0, 5.0], [23 / 12, -16 / 12, 5 / 12]),
        ([3.0, 4.0, 5.0, 6.0], [55 / 24, -59 / 24, 37 / 24, -9 / 24]),
    ):
        found = lagrange_weights(plain_points(3.0, 2.0), nodes, float)
        assert found == pytest.approx([-c for c in constants], abs=1e-13)


def test_weights_integrate_polynomials_exactly_on_any_nodes() -> None:
    """int sigma^k dsigma, int (ln sigma)^k dsigma by parts, and int (ln sigma)^k over theta.

    The last one has no elementary closed form: a fine trapezium rule stands for it.
    """
    a, b, std = 80.0, 0.3, 0.7

    def by_parts(k: int) -> float:
        edge = b * math.log(b) ** k - a * math.log(a) ** k
        return edge if k == 0 else edge - k * by_parts(k - 1)

    angle = torch.linspace(math.atan(a / std), math.atan(b / std), 400_001, dtype=torch.float64)
    plain, logs = plain_points(a, b), log_points(a, b)
    angular = [(at, w * std / (std**2 + at**2)) for at, w in logs]
    for nodes in ([a], [a, 95.0], [a, 90.0, 300.0], [a, 85.0, 100.0, 700.0]):
        for k in range(len(nodes)):
            in_sigma = sum(
                w * s**k for w, s in zip(lagrange_weights(plain, nodes, float), nodes, strict=True)
            )
            truth = (b ** (k + 1) - a ** (k + 1)) / (k + 1)
            assert in_sigma == pytest.approx(truth, rel=1e-11)
            for points, known in (
                (logs, by_parts(k)),
                (angular, float(torch.trapezoid((std * angle.tan()).log().pow(k), angle))),
            ):
                weights = lagrange_weights(points, nodes, math.log)
                found = sum(w * math.log(s) ** k for w, s in zip(weights, nodes, strict=True))
                assert found == pytest.approx(known, rel=1e-8 if points is angular else 1e-11)
    assert lagrange_weights(log_points(2.0, 2.0), [2.0, 3.0], math.log) == [0.0, 0.0]


def test_a_long_step_over_theta_is_exact() -> None:
    """Without parts, 16 Gauss points miss arctan over ten units of ln sigma by 1e-5."""
    whole = sum(w * 0.5 / (0.25 + at**2) for at, w in log_points(80.0, 0.002))
    assert whole == pytest.approx(math.atan(0.002 / 0.5) - math.atan(80 / 0.5), abs=1e-14)


# ---- orders


@each_method
@pytest.mark.parametrize("p", [1, 2, 3, 4])
@pytest.mark.parametrize("pattern", [(1,), UNEQUAL], ids=["equal", "unequal"])
def test_order_p_with_exact_history(method: str, p: int, pattern: tuple[int, ...]) -> None:
    kernel = METHODS[method](p=p)
    errors = [error(kernel, "mixture", steps, True, SPAN, pattern) for steps in (128, 256)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(p, abs=0.25)
    assert (kernel.order_interior or kernel.order) == p


@each_method
@pytest.mark.parametrize("p", [2, 3, 4])
def test_order_two_from_the_start_on_a_mixture(method: str, p: int) -> None:
    """The first step decides; it is made once. Where it is a small part, the order looks higher."""
    kernel = METHODS[method](p=p, known_past=False)
    assert kernel.order == 2
    assert observed(kernel, "mixture", span=(1.0, 0.2)) > 1.75
    assert observed(replace(kernel, known_past=True), "mixture") > 1.75


@each_method
def test_with_the_known_past_a_gaussian_has_order_p_from_the_start(method: str) -> None:
    """There the known past is the solution itself."""
    for p in (2, 3):
        name = "gaussian of four scales"
        assert observed(METHODS[method](p=p), name) == pytest.approx(p, abs=0.2)
        without = METHODS[method](p=3, known_past=False)
    assert observed(without, name) < 2.6


class EqualSteps(IPNDM):
    """The published constants of iPNDM, which are those of equal steps in sigma."""

    def move(self, x, sigma, sigma_next, history, draws):
        values = [value for _, value in history.past]
        mean = 1.5 * values[0] - 0.5 * values[1] if len(values) > 1 else values[0]
        return x + (sigma_next - sigma) * mean


class WithoutSigma(NoiseAdams):
    """The polynomial in ln sigma with the weights of data prediction's exponential dropped."""

    def move(self, x, sigma, sigma_next, history, draws):
        points = [(at, w / at * sigma) for at, w in log_points(sigma, sigma_next)]
        nodes = [node for node, _ in history.past]
        for weight, (_, value) in zip(
            lagrange_weights(points, nodes, math.log), history.past, strict=True
        ):
            x = x + weight * value
        return x


class Swapped(DataAdams):
    """The weights of two values exchanged with those of a step of the other size."""

    def move(self, x, sigma, sigma_next, history, draws):
        past = history.past
        if len(past) > 1:
            (near, first), (_, second) = past
            past = ((near, first), (near * sigma / sigma_next, second))
        return super().move(x, sigma, sigma_next, replace(history, past=past), draws)


class WrongRadius(VelocityAdams):
    """The integral is scaled with the radius of the level left behind."""

    def move(self, x, sigma, sigma_next, history, draws):
        moved = super().move(x, sigma, sigma_next, history, draws)
        here, there = ((history.data_std[0] ** 2 + s**2).sqrt() for s in (sigma, sigma_next))
        turned = history.centre + (there / here) * (x - history.centre)
        return turned + (here / there) * (moved - turned)


BROKEN = {"ipndm": EqualSteps, "zeab": WithoutSigma, "xeab": Swapped, "veab": WrongRadius}


@each_method
def test_wrong_weights_fail_the_test_of_order(method: str) -> None:
    for pattern in (UNEQUAL, (1, 2)):
        assert observed(BROKEN[method](), "mixture", primed=True, pattern=pattern) < 1.6
        assert observed(METHODS[method](), "mixture", primed=True, pattern=pattern) > 1.75


# ---- special cases


def test_one_value_of_the_noise_is_eulers_rule_and_three_of_the_data_are_dpmpp_3m() -> None:
    model, x, ladder = MODELS["mixture"], path("mixture")[1][0], geometric(*SPAN, 12)
    for one, other in (
        (IPNDM(p=1), Euler()),
        (NoiseAdams(p=1), Euler()),
        (DataAdams(p=3, known_past=False), DPMSolver3M()),
        (VelocityAdams(p=2, data_std=1e5), NoiseAdams(p=2)),
        (VelocityAdams(p=1, data_std=1e-5), DataAdams(p=1)),
    ):
        ends = [run(kernel, model, ladder, x, final="none").x for kernel in (one, other)]
        torch.testing.assert_close(*ends, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_velocity_is_exact_on_a_round_gaussian_in_one_step(p: int) -> None:
    model = Gaussian([3.0, -2.0, 1.0], 0.49)
    x = model.sample(8, 70.0, seed=2)
    for ladder in ([70.0, 0.002], [70.0, 5.0, 0.3], [70.0, 60.0, 2.0, 1.0, 0.1]):
        truth = model.means + (x - model.means) * math.sqrt(
            (0.49 + ladder[-1] ** 2) / (0.49 + 4900)
        )
        moved = run(VelocityAdams(p=p), model, ladder, x, final="none").x
        torch.testing.assert_close(moved, truth, rtol=0, atol=1e-9)
        assert (
            float((run(NoiseAdams(p=p), model, ladder, x, final="none").x - truth).abs().max())
            > 0.01
        )


def test_samples_move_with_the_data_and_scale_with_it() -> None:
    """x -> c x + shift. Velocity takes the mean, so that a shift changes nothing else."""
    model = MODELS["mixture"]
    assert model.vectors is not None
    c, shift = 20.0, torch.tensor([300.0, -100.0], dtype=torch.float64)
    covariances = c**2 * model.vectors @ torch.diag_embed(model.spectrum) @ model.vectors.mT
    larger = GaussianMixture(c * model.means + shift, covariances, log_weights=model.log_weights)
    for kernel in (IPNDM(), NoiseAdams(), DataAdams(), VelocityAdams(p=3)):
        x, y = (sample(p, 16, 3, sampler=kernel, nfe=6) for p in (model, larger))
        torch.testing.assert_close(y, c * x + shift, rtol=1e-9, atol=1e-7)


# ---- the known past


def test_the_known_past_is_the_exact_solution_on_a_gaussian() -> None:
    for name in ("gaussian", "gaussian of four scales"):
        model, (ladder, states) = MODELS[name], path(name)
        at = [300, 200, 0]
        found = normal_past(model, states[300], float(ladder[300]), ladder[at].tolist())
        for (x, noise), i in zip(found, at, strict=True):
            torch.testing.assert_close(x, states[i], rtol=1e-10, atol=1e-10)
            truth = -ladder[i] * model.score(states[i], ladder[i])
            torch.testing.assert_close(noise, truth, rtol=1e-10, atol=1e-10)


@each_method
def test_the_first_step_has_the_history_that_evaluations_would_give(method: str) -> None:
    """On a Gaussian, to rounding; and it costs no evaluation."""
    model, (ladder, states) = MODELS["gaussian"], path("gaussian")
    kernel, levels = METHODS[method](p=3), ladder[[0, 128, 256, 384]]
    ratio = float(ladder[0] / ladder[128])
    draws = Draws(None, State(states[256]), 0, 0, "a flow")
    fresh = kernel.start(model, levels[2:], State(states[256]), draws)
    after = kernel.step(model, fresh, levels[2], levels[3], draws)
    points = [(levels[i], states[k]) for i, k in ((0, 0), (1, 128))]
    primed = kernel.start(model, levels[2:], State(states[256], kernel.prime(model, points)), draws)
    expected = kernel.step(model, primed, levels[2], levels[3], draws)
    assert ratio < 2
    torch.testing.assert_close(after.x, expected.x, rtol=0, atol=1e-10)
    spent = [
        run(METHODS[method](p=3, known_past=known), model, levels, states[0]).evaluations
        for known in (True, False)
    ]
    assert spent == [4, 4]


def test_a_model_without_moments_has_no_past_and_infinite_scale() -> None:
    class Zero(torch.nn.Module):
        def forward(self, x: Tensor, noise_input: Tensor | None, condition: object) -> Tensor:
            return 0.1 * torch.tanh(x)

    model = Preconditioned(Zero(), (2,), 0.01, 50.0)
    assert normal_past(model, torch.ones(1, 2), 1.0, [2.0]) == []
    x, ladder = 50 * torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), [50.0, 3.0, 0.1]
    ends = [
        run(kernel, model, ladder, x).x
        for kernel in (NoiseAdams(known_past=False), NoiseAdams(), VelocityAdams())
    ]
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[1], ends[2])
    assert not torch.allclose(ends[0], run(VelocityAdams(data_std=0.5), model, ladder, x).x)


@each_method
def test_samples_of_classes_do_not_depend_on_batch_mates(method: str) -> None:
    """Moments, and S with them, differ by row where a model is conditioned."""
    model = GaussianMixture(
        [[-5.0, 0.0], [5.0, 1.0], [5.0, 3.0]], [0.1, 1.0, 0.3], labels=[0, 1, 1]
    )
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    kernel = METHODS[method](p=3)
    keys = rng.keys(0, 6)
    whole = sample(model, seed=keys, sampler=kernel, nfe=6, condition={"class": labels})
    for rows in ([1], [3, 5], [2, 0, 1]):
        condition = {"class": labels[rows]}
        part = sample(model, seed=keys[rows], sampler=kernel, nfe=6, condition=condition)
        torch.testing.assert_close(part, whole[rows], rtol=1e-10, atol=1e-10)


# ---- bad options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"p": 0}, "p must be at least 1"),
        ({"p": 5}, "p must be 1, 2, 3 or 4; got 5"),
        ({"p": 2.5}, "p must be"),
        ({"known_past": 1}, "known_past must be True or False"),
    ],
)
@each_method
def test_bad_options_raise_input_errors(method: str, options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        METHODS[method](**options)


@pytest.mark.parametrize("std", [0.0, -1.0, math.inf, math.nan])
def test_a_data_std_that_is_not_above_zero_raises(std: float) -> None:
    with pytest.raises(InputError, match="data_std"):
        VelocityAdams(data_std=std)


# ---- few evaluations


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).parents[1] / "examples" / "few_evaluations.py"))


def test_at_five_evaluations_velocity_halves_the_error_of_the_older_kernels(
    example: dict[str, Any],
) -> None:
    for name, p in example["problems"]().items():
        if name == "ring of 32":
            continue  # 32 components of the same score: slow, and in the table of the documentation
        found = {
            sampler: example["error"](p, sampler, {}, 5, 1000, 1)
            for sampler in ("veab", "unipc", "dpmpp-2m")
        }
        assert found["veab"] < min(found["unipc"], found["dpmpp-2m"]) / 2


def test_the_distance_of_a_shift_is_its_mean_projection(example: dict[str, Any]) -> None:
    """E |u_1| is 2/pi in two dimensions; 128 directions leave a standard error of 0.027."""
    x = example["problems"]()["three modes"].sample(500, seed=0)
    moved = x + torch.tensor([3.0, 0.0], dtype=torch.float64)
    assert abs(example["distance"](x, moved) - 3 * 2 / math.pi) < 4.5 * 3 * 0.027


def test_default_ladders_begin_where_the_prior_is_accurate() -> None:
    model = GaussianMixture([[-8.0, 0.0, 0.0], [8.0, 0.0, 0.0]], [0.01, 0.04])
    widest = math.sqrt(64 + 0.025)
    high = model.sampling_range()[1]
    low, high = model.sampling_range()
    for kernel, rise in (
        (VelocityAdams(), 1.0),
        (DataAdams(), 1.0),
        (IPNDM(), 0.5),
        (NoiseAdams(), 0.5),
    ):
        for levels in (1, 2, 5, 7, 10, 64):
            ladder = kernel.default_ladder(model, levels)
            top = min(max(rise * levels, LOWEST_TOP) * widest, high)
            assert len(ladder) == levels and float(ladder[0]) == pytest.approx(top)
            assert levels == 1 or float(ladder[-1]) == low
        assert float(ladder[0]) == high  # many levels: the whole range
    assert float(UniPC().default_ladder(model, 7)[0]) == high


def test_a_model_that_does_not_know_its_covariance_keeps_its_range() -> None:
    class Elements(Preconditioned):
        def moments(self, condition: object = None) -> Moments:
            return Moments(torch.zeros(2), torch.ones(2))

    for kind in (Elements, Preconditioned):
        model = kind(torch.nn.Identity(), (2,), 0.01, 50.0)
        assert short_range(model, 5, 0.5) == (50.0, 0.01)
        for make in METHODS.values():
            ladder = make().default_ladder(model, 6)
            assert (ladder[0], ladder[-1], len(ladder)) == (50.0, 0.01, 6)


def test_the_angular_ladder_has_equal_steps_of_the_angle() -> None:
    ladder = angular(40.0, 0.01, 6, 2.0)
    steps = torch.atan(ladder / 2).diff()
    torch.testing.assert_close(steps, steps.mean().expand(5), rtol=1e-12, atol=0)
    assert (ladder[0], ladder[-1]) == (40.0, 0.01)
    torch.testing.assert_close(angular(400.0, 0.1, 6, 20.0), 10 * ladder)
    assert angular(40.0, 0.01, 1, 2.0).tolist() == [40.0]
