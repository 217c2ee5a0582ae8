"""Orders of accuracy of the kernels that follow the probability flow.

Truths are closed forms on Gaussians and a fine Runge-Kutta solution on a mixture. Every test of an
order also runs on broken twins of the kernels, which have to fail it.
"""

import dataclasses
import math
import runpy
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scorefield import rng
from scorefield.errors import InputError
from scorefield.exact import Gaussian, GaussianMixture
from scorefield.models import ScoreModel, prior
from scorefield.noise import check_ladder, few_step, geometric, karras
from scorefield.rng import Stream
from scorefield.sampling import (
    SAMPLERS,
    DPMSolver2M,
    DPMSolver3M,
    Draws,
    Euler,
    Heun,
    Kernel,
    Multistep,
    State,
    UniPC,
    run,
)
from scorefield.sampling.multistep import advance, exponential_weights

COUNTS = (64, 128, 256)
FINEST = 1024
SPAN = (3.0, 0.1)
MODELS: dict[str, GaussianMixture] = {
    "gaussian": Gaussian([1.0, -2.0], [[2.0, 0.6], [0.6, 0.5]]),
    "gaussian of four scales": Gaussian([0.0, 1.0, 2.0, -1.0], [0.01, 0.2, 1.0, 9.0]),
    "mixture": GaussianMixture(
        [[-2.0, 0.5], [1.0, 1.0], [0.0, -3.0]],
        [[[0.5, 0.2], [0.2, 0.3]], [[1.0, 0.0], [0.0, 0.1]], [[0.2, -0.1], [-0.1, 0.4]]],
        [0.5, 0.3, 0.2],
    ),
}
each_model = pytest.mark.parametrize("name", MODELS)


@cache
def path(
    name: str, high: float = SPAN[0], low: float = SPAN[1], levels: int = FINEST
) -> tuple[Tensor, list[Tensor]]:
    """A fine geometric ladder and x at each of its levels, from 32 draws at sigma = high.

    Closed form on Gaussians; on mixtures classical Runge-Kutta in ln sigma, whose error is below
    1e-10 here.
    """
    model, ladder = MODELS[name], geometric(high, low, levels + 1)
    x = model.sample(32, high, seed=1)
    if isinstance(model, Gaussian):
        basis = torch.eye(x.shape[1], dtype=x.dtype) if model.vectors is None else model.vectors[0]
        start, spectrum = (x - model.means) @ basis, model.spectrum[0]
        return ladder, [
            model.means + start * ((spectrum + s**2) / (spectrum + high**2)).sqrt() @ basis.T
            for s in ladder
        ]

    def slope(t: float, x: Tensor) -> Tensor:
        return -math.exp(2 * t) * model.score(x, math.exp(t))

    states, h = [x], math.log(low / high) / levels
    for sigma in ladder[:-1].tolist():
        t = math.log(sigma)
        a = slope(t, x)
        b = slope(t + h / 2, x + h / 2 * a)
        c = slope(t + h / 2, x + h / 2 * b)
        d = slope(t + h, x + h * c)
        x = x + h / 6 * (a + 2 * b + 2 * c + d)
        states.append(x)
    return ladder, states


def error(
    kernel: Kernel,
    name: str,
    steps: int,
    primed: bool,
    span: tuple[float, float],
    pattern: tuple[int, ...] = (1,),
) -> float:
    """Root mean square error at the end.

    With `primed` the first steps are the solution's own, so that the history is exact. `pattern`
    gives strides through the fine ladder, repeated: (1,) is uniform in ln sigma, (1, 3) alternates.
    """
    model = MODELS[name]
    ladder, states = path(name, *span)
    stride, at = FINEST * len(pattern) // (steps * sum(pattern)), [0]
    while at[-1] < FINEST:
        at.append(min(at[-1] + stride * pattern[(len(at) - 1) % len(pattern)], FINEST))
    first = 4 if primed else 0
    state = State(states[at[first]])
    draws = Draws(None, state, 0, 0, "a kernel of the flow")  # raises where noise is asked for
    if primed:
        assert isinstance(kernel, Multistep)
        points = [(ladder[i], states[i]) for i in at[:first]]
        state = state.replace(memory=kernel.prime(model, points))
    state = kernel.start(model, ladder[at], state, draws)
    for i, j in zip(at[first:-1], at[first + 1 :], strict=True):
        state = kernel.step(model, state, ladder[i], ladder[j], draws)
    return float((state.x - states[-1]).square().mean().sqrt())


def observed(
    kernel: Kernel,
    name: str,
    primed: bool = False,
    span: tuple[float, float] = SPAN,
    pattern: tuple[int, ...] = (1,),
) -> float:
    """The slope of ln error over ln step."""
    errors = [error(kernel, name, steps, primed, span, pattern) for steps in COUNTS]
    return math.log(errors[0] / errors[-1]) / math.log(COUNTS[-1] / COUNTS[0])


def claims(kernel: Kernel) -> list[tuple[bool, float]]:
    """(history exact, order) of each claim."""
    assert kernel.order is not None
    if not isinstance(kernel, Multistep):
        return [(False, kernel.order)]
    return [
        (False, kernel.order),
        (True, kernel.order if kernel.order_interior is None else kernel.order_interior),
    ]


def holds(kernel: Kernel, name: str) -> bool:
    """Whether all claims are met within 0.2."""
    return all(
        abs(observed(kernel, name, primed) - order) < 0.2 for primed, order in claims(kernel)
    )


ADAMS = ["veab", "zeab", "xeab", "ipndm"]
FLOWS = [n for n, kind in SAMPLERS.items() if kind().order is not None and not kind.draws_noise]


def test_every_flow_kernel_of_the_registry_is_measured_here() -> None:
    wanted = ["heun", "euler", "unipc", "dpmpp-2m", "dpmpp-3m", *ADAMS, "tuned"]
    assert wanted == FLOWS


@each_model
@pytest.mark.parametrize("sampler", FLOWS)
def test_flow_kernels_have_the_order_they_claim(sampler: str, name: str) -> None:
    assert holds(SAMPLERS[sampler](), name)


class ShortEuler(Euler):
    """The step is taken by nine tenths."""

    def step(self, model, state, sigma, sigma_next, draws):
        whole = super().step(model, state, sigma, sigma_next, draws).x
        return state.replace(x=state.x + 0.9 * (whole - state.x))


class BrokenHeun(Heun):
    """sigma for sigma_next in the second slope: first order, and samples still look good."""

    def step(self, model, state, sigma, sigma_next, draws):
        x = state.x
        slope = -sigma * model.score(x, sigma)
        ahead = x + (sigma_next - sigma) * slope
        slope_ahead = -sigma * model.score(ahead, sigma_next)
        return state.replace(x=x + (sigma_next - sigma) * (slope + slope_ahead) / 2)


class Forgetful2M(DPMSolver2M):
    """The history is kept but not used."""

    def move(self, x, sigma, sigma_next, history, draws):
        return advance(x, sigma, sigma_next, history.past[:1])


class Released3M(DPMSolver3M):
    """The coefficient of the released code: phi_3 times the divided difference, no factor 2."""

    def move(self, x, sigma, sigma_next, history, draws):
        if len(history.past) < 3:
            return advance(x, sigma, sigma_next, history.past)
        h = math.log(sigma / sigma_next)
        (a, first), (b, second), (c, third) = history.past
        r0, r1 = math.log(b / a) / h, math.log(c / b) / h
        near, far = (first - second) / r0, (second - third) / r1
        slope, bend = near + r0 / (r0 + r1) * (near - far), (near - far) / (r0 + r1)
        phi_2 = math.expm1(-h) / h + 1
        return (
            sigma_next / sigma * x
            - math.expm1(-h) * first
            + phi_2 * slope
            - (phi_2 / h - 0.5) * bend
        )


class Uncorrected(UniPC):
    """UniPC's predictor alone."""

    step = Multistep.step


def first_of_two(kind: type[Multistep]) -> type[Multistep]:
    """The kernel with the newest value alone: the history is kept but not used."""

    class Forgetful(kind):  # type: ignore[valid-type, misc]
        def move(self, x, sigma, sigma_next, history, draws):
            newest = dataclasses.replace(history, past=history.past[:1])
            return super().move(x, sigma, sigma_next, newest, draws)

    return Forgetful


BROKEN: dict[str, type[Kernel]] = {
    **{name: first_of_two(SAMPLERS[name]) for name in (*ADAMS, "tuned")},
    "euler": ShortEuler,
    "heun": BrokenHeun,
    "dpmpp-2m": Forgetful2M,
    "dpmpp-3m": Released3M,
    "unipc": Uncorrected,
}


@each_model
@pytest.mark.parametrize("sampler", FLOWS)
def test_broken_twins_fail_the_order_test(sampler: str, name: str) -> None:
    assert not holds(BROKEN[sampler](), name)


def test_dpmpp_3m_has_interior_order_three_and_its_released_form_two() -> None:
    for name in MODELS:
        assert observed(Released3M(), name, primed=True) == pytest.approx(2, abs=0.25)
        assert observed(DPMSolver3M(), name, primed=True) == pytest.approx(3, abs=0.2)


def test_unipc_has_its_order_for_every_p() -> None:
    """p = 3 starts where the flow bends: there the start's error of third order is visible."""
    assert holds(UniPC(1), "mixture")
    assert observed(UniPC(3), "gaussian", primed=True) == pytest.approx(4, abs=0.2)
    assert observed(UniPC(3), "gaussian", span=(1.0, 0.2)) == pytest.approx(3, abs=0.2)
    assert [(UniPC(p).order, UniPC(p).order_interior) for p in (1, 2, 3)] == [
        (2, None),
        (3, None),
        (3, 4),
    ]
    with pytest.raises(InputError, match="1, 2 or 3; got 4"):
        UniPC(4)


@pytest.mark.parametrize("make", [DPMSolver2M, DPMSolver3M, UniPC])
def test_multistep_kernels_keep_their_order_on_unequal_steps(make: type[Kernel]) -> None:
    """On a uniform ladder the ratio of two steps is 1, so that a wrong ratio passes."""
    kernel = make()
    order = kernel.order_interior or kernel.order
    assert observed(kernel, "mixture", primed=True, pattern=(1, 3)) == pytest.approx(
        order, abs=0.25
    )


def test_a_missing_step_ratio_fails_on_unequal_steps() -> None:
    class EqualSteps(DPMSolver2M):
        """r = 1 whatever the steps.

        1/r for r would pass: its errors are differences of squared steps, which cancel along any
        ladder.
        """

        def move(self, x, sigma, sigma_next, history, draws):
            if len(history.past) < 2:
                return advance(x, sigma, sigma_next, history.past)
            (_, denoised), (_, before) = history.past
            return sigma_next / sigma * x + (1 - sigma_next / sigma) * (
                1.5 * denoised - 0.5 * before
            )

    assert observed(EqualSteps(), "mixture") == pytest.approx(2, abs=0.2)
    assert observed(EqualSteps(), "mixture", pattern=(1, 3)) < 1.4


def test_exponential_weights_integrate_polynomials_exactly() -> None:
    """For D = lambda^k with k below the number of nodes the integral is known by parts.

    It is int e^-(lambda_b - lambda) lambda^k dlambda; the weights sum to 1 - b/a.
    """
    a, b = 2.0, 1.3
    lower, upper = -math.log(a), -math.log(b)

    def moment(k: int) -> float:
        """By parts: M_k = [lambda^k e^-(upper - lambda)] - k M_(k-1)."""
        edge = upper**k - lower**k * b / a
        return edge if k == 0 else edge - k * moment(k - 1)

    for nodes in ([2.0], [2.0, 3.0], [1.3, 2.0, 3.0], [1.3, 2.0, 2.1, 5.0]):
        weights = exponential_weights(a, b, nodes)
        for k in range(len(nodes)):
            assert sum(
                w * (-math.log(s)) ** k for w, s in zip(weights, nodes, strict=True)
            ) == pytest.approx(moment(k), abs=1e-13)
    assert exponential_weights(2.0, 2.0, [2.0, 3.0]) == [0.0, 0.0]
    assert sum(exponential_weights(80.0, 0.002, [80.0])) == pytest.approx(1 - 0.002 / 80, abs=1e-14)


@pytest.mark.parametrize("sampler", [n for n in FLOWS if SAMPLERS[n].keeps_history])
def test_second_visits_of_a_level_change_nothing(sampler: str) -> None:
    model, x, ladder = MODELS["mixture"], path("mixture")[1][0], geometric(*SPAN, 20)
    once, twice = (run(SAMPLERS[sampler](), model, ladder, x, r, "none").x for r in (1, 2))
    torch.testing.assert_close(
        once, twice, rtol=0, atol=3e-2 if sampler == "unipc" else 1e-12
    )  # UniPC's D is then that of the corrected x


# ---- five to ten evaluations


def ring(count: int, std: float) -> GaussianMixture:
    angle = torch.arange(count) * 2 * math.pi / count
    return GaussianMixture(torch.stack([angle.cos(), angle.sin()], 1) * 0.7, std**2)


def cloud(dimension: int, count: int, std: float) -> GaussianMixture:
    means = rng.normal(rng.keys(5, count), Stream.TOY, 0, (dimension,), torch.float64)
    return GaussianMixture(0.5 * means, std**2)


FEW = {
    "ring": ring(8, 0.03),
    "two": GaussianMixture([[-0.5, -0.5], [0.5, 0.5]], 0.01, [0.2, 0.8]),
    "cloud": cloud(8, 10, 0.05),
}
RANGE = (80.0, 0.002)


@cache
def reached(name: str) -> tuple[Tensor, Tensor, float]:
    """A start, where the flow takes it, and the data's standard deviation."""
    model: ScoreModel = FEW[name]
    z = rng.normal(rng.keys(0, 100), Stream.START, 0, model.event_shape, torch.float64)
    x = prior(model, RANGE[0]).sample(z)
    known = model.moments()
    assert known is not None
    return x, run(UniPC(), model, karras(*RANGE, 600), x).x, known.data_std


@pytest.mark.parametrize("sampler", ["unipc", "dpmpp-2m", "dpmpp-3m"])
def test_the_few_step_ladder_beats_karras_at_five_to_ten_evaluations(sampler: str) -> None:
    """Error to the flow's end, final denoise included.

    The geometric mean over mixtures counts at every budget and over all budgets.
    """
    ratios = []
    for evaluations in (5, 6, 7, 8, 10):
        here = []
        for name, model in FEW.items():
            x, truth, std = reached(name)
            ladders = few_step(*RANGE, evaluations, std), karras(*RANGE, evaluations)
            ends = [run(SAMPLERS[sampler](), model, ladder, x).x for ladder in ladders]
            few, usual = (float((end - truth).square().mean().sqrt()) for end in ends)
            here.append(math.log(few / usual))
        assert sum(here) < 0
        ratios += here
    assert math.exp(sum(ratios) / len(ratios)) < 0.7


def test_the_few_step_ladder_scales_with_units_and_is_densest_about_the_data_std() -> None:
    ladder = few_step(80.0, 0.002, 10, 0.5)
    assert torch.equal(ladder, check_ladder(ladder)) and (ladder[0], ladder[-1]) == (80.0, 0.002)
    torch.testing.assert_close(few_step(800.0, 0.02, 10, 5.0), 10 * ladder)
    gaps = (ladder[:-1] / ladder[1:]).log()
    nearest = int((ladder[1:] * ladder[:-1]).log().sub(2 * math.log(0.5)).abs().argmin())
    assert abs(nearest - int(gaps.argmin())) <= 1
    assert few_step(80.0, 0.002, 2).tolist() == [80.0, 0.002]
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="data_std"):
            few_step(80.0, 0.002, 5, bad)


def test_sigmas_in_a_list_are_not_rounded_to_float32() -> None:
    assert check_ladder([1.2, 0.01]).tolist() == [1.2, 0.01]


def test_the_example_kernel_has_the_order_it_claims_for_every_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "own_kernel.py"))
    example["main"]()
    assert "256 evaluations" in capsys.readouterr().out
    middle, elsewhere = example["Midpoint"](), example["Midpoint"](where=0.4)
    assert (middle.order, elsewhere.order) == (2, 1)
    for name in MODELS:
        assert holds(middle, name)
        assert holds(elsewhere, name)
