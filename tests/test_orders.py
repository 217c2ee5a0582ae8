"""Orders of accuracy, measured: kernels that follow the flow against closed forms and a fine
reference, with the broken ones beside them.
"""

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
from scorefield.model import ScoreModel, terminal
from scorefield.noise import check_ladder, few_step, geometric, karras
from scorefield.rng import Stream
from scorefield.sampling import (
    SAMPLERS,
    DPMSolver2M,
    DPMSolver3M,
    Euler,
    Heun,
    Kernel,
    Multistep,
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


def silent() -> Tensor:
    raise AssertionError("a kernel of the flow asked for noise")


@cache
def path(
    name: str, high: float = SPAN[0], low: float = SPAN[1], levels: int = FINEST
) -> tuple[Tensor, list[Tensor]]:
    """The flow from 32 draws at sigma = high: a fine geometric ladder and x at each of its levels.
    Closed form on Gaussians; classical
    Runge-Kutta in ln sigma, whose error is below 1e-10 here, on mixtures."""
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
    """Root mean square error at the end. primed: the first steps are the solution's own, so that
    history is exact. pattern: strides through
    the fine ladder, repeated: (1,) is uniform in ln sigma, (1, 3) alternates."""
    model = MODELS[name]
    ladder, states = path(name, *span)
    stride, at = FINEST * len(pattern) // (steps * sum(pattern)), [0]
    while at[-1] < FINEST:
        at.append(min(at[-1] + stride * pattern[(len(at) - 1) % len(pattern)], FINEST))
    first = 4 if primed else 0
    state = kernel.start(model, ladder[at])
    if primed:
        assert isinstance(kernel, Multistep)
        state = kernel.prime(model, [(ladder[i], states[i]) for i in at[:first]])
    x = states[at[first]]
    for i, j in zip(at[first:-1], at[first + 1 :], strict=True):
        x, state = kernel.step(model, x, ladder[i], ladder[j], silent, state)
    return float((x - states[-1]).square().mean().sqrt())


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
    """(with exact history?, order) for each claim."""
    assert kernel.order is not None
    if not isinstance(kernel, Multistep):
        return [(False, kernel.order)]
    return [
        (False, kernel.order),
        (True, kernel.order if kernel.order_interior is None else kernel.order_interior),
    ]


def holds(kernel: Kernel, name: str) -> bool:
    """Are all claims met within 0.2?"""
    return all(
        abs(observed(kernel, name, primed) - order) < 0.2 for primed, order in claims(kernel)
    )


FLOWS = [
    n
    for n, row in SAMPLERS.items()
    if row.kernel is UniPC or (row.kernel.order is not None and not row.kernel.draws_noise)
]


@each_model
@pytest.mark.parametrize("sampler", FLOWS)
def test_kernels_of_the_flow_have_the_order_they_claim(sampler: str, name: str) -> None:
    assert holds(SAMPLERS[sampler].make(0.0), name)


class ShortEuler(Euler):
    """The step taken by nine tenths."""

    def step(self, model, x, sigma, sigma_next, noise, state):
        return x + 0.9 * (super().step(model, x, sigma, sigma_next, noise, state)[0] - x), state


class BrokenHeun(Heun):
    """sigma for sigma_next in the second slope: the classic slip, first order and good-looking
    samples.
    """

    def step(self, model, x, sigma, sigma_next, noise, state):
        slope = -sigma * model.score(x, sigma)
        ahead = x + (sigma_next - sigma) * slope
        return x + (sigma_next - sigma) * (
            slope - sigma * model.score(ahead, sigma_next)
        ) / 2, state


class Forgetful2M(DPMSolver2M):
    """The history is kept and not used."""

    def move(self, x, sigma, sigma_next, history, noise):
        return advance(x, sigma, sigma_next, history.past[:1])


class Released3M(DPMSolver3M):
    """The third-order update with the coefficient of the released code: phi_3 times the divided
    difference, without its factor 2.
    """

    def move(self, x, sigma, sigma_next, history, noise):
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


BROKEN: dict[str, type[Kernel]] = {
    "euler": ShortEuler,
    "heun": BrokenHeun,
    "dpmpp-2m": Forgetful2M,
    "dpmpp-3m": Released3M,
    "unipc": Uncorrected,
}


@each_model
@pytest.mark.parametrize("sampler", FLOWS)
def test_a_broken_variant_fails_the_order_test(sampler: str, name: str) -> None:
    assert not holds(BROKEN[sampler](), name)


def test_the_released_third_order_update_is_of_second_order() -> None:
    for name in MODELS:
        assert observed(Released3M(), name, primed=True) == pytest.approx(2, abs=0.25)
        assert observed(DPMSolver3M(), name, primed=True) == pytest.approx(3, abs=0.2)


def test_unipc_of_every_p() -> None:
    """Started where the flow bends, so that the start's error of third order is not lost beside the
    rest.
    """
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
def test_steps_of_unequal_length_keep_the_order(make) -> None:
    """On a uniform ladder the ratio of two steps is 1 and a wrong one passes; alternating steps
    tell.
    """
    kernel = make()
    order = kernel.order_interior or kernel.order
    assert observed(kernel, "mixture", primed=True, pattern=(1, 3)) == pytest.approx(
        order, abs=0.25
    )


def test_a_ratio_left_out_is_found_by_unequal_steps() -> None:
    class EqualSteps(DPMSolver2M):
        """r = 1 whatever the steps. (r upside down would pass: its errors, differences of squared
        steps, cancel along any ladder.)
        """

        def move(self, x, sigma, sigma_next, history, noise):
            if len(history.past) < 2:
                return advance(x, sigma, sigma_next, history.past)
            (_, denoised), (_, before) = history.past
            return sigma_next / sigma * x + (1 - sigma_next / sigma) * (
                1.5 * denoised - 0.5 * before
            )

    assert observed(EqualSteps(), "mixture") == pytest.approx(2, abs=0.2)
    assert observed(EqualSteps(), "mixture", pattern=(1, 3)) < 1.4


def test_weights_integrate_polynomials_exactly() -> None:
    """For D = lambda^k, k below the number of nodes, the weights give int e^-(lambda_b - lambda)
    lambda^k dlambda; sums are 1 - b/a.
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


@pytest.mark.parametrize("sampler", [n for n in FLOWS if issubclass(SAMPLERS[n].kernel, Multistep)])
def test_second_visits_of_a_level_change_nothing(sampler: str) -> None:
    model, x = MODELS["mixture"], path("mixture")[1][0]
    once, twice = (
        run(SAMPLERS[sampler].make(0.0), model, geometric(*SPAN, 20), x, repeats=r, final="none").x
        for r in (1, 2)
    )
    torch.testing.assert_close(
        once, twice, rtol=0, atol=3e-2 if sampler == "unipc" else 1e-12
    )  # UniPC's D is then that of the corrected x


# ---- five to ten evaluations


def ring(count: int, spread: float) -> GaussianMixture:
    angle = torch.arange(count) * 2 * math.pi / count
    return GaussianMixture(torch.stack([angle.cos(), angle.sin()], 1) * 0.7, spread**2)


def cloud(dimension: int, count: int, spread: float) -> GaussianMixture:
    return GaussianMixture(
        0.5 * rng.normal(rng.keys(5, count), Stream.TOY, 0, (dimension,), torch.float64), spread**2
    )


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
    x = terminal(model, RANGE[0]).sample(
        rng.normal(rng.keys(0, 100), Stream.INIT, 0, model.event_shape, torch.float64)
    )
    return (
        x,
        run(UniPC(), model, karras(*RANGE, 600), x).x,
        float(FEW[name].moments()[1].diagonal().mean().sqrt()),
    )


@pytest.mark.parametrize("sampler", ["unipc", "dpmpp-2m", "dpmpp-3m"])
def test_the_few_step_ladder_beats_karras_at_five_to_ten_evaluations(sampler: str) -> None:
    """Error to the flow's end, final denoise included, as the geometric mean over mixtures and
    budgets; and at every budget by itself.
    """
    ratios = []
    for evaluations in (5, 6, 7, 8, 10):
        here = []
        for name, model in FEW.items():
            x, truth, spread = reached(name)
            few, usual = (
                float(
                    (run(SAMPLERS[sampler].make(0.0), model, ladder, x).x - truth)
                    .square()
                    .mean()
                    .sqrt()
                )
                for ladder in (few_step(*RANGE, evaluations, spread), karras(*RANGE, evaluations))
            )
            here.append(math.log(few / usual))
        assert sum(here) < 0
        ratios += here
    assert math.exp(sum(ratios) / len(ratios)) < 0.7


def test_the_few_step_ladder() -> None:
    ladder = few_step(80.0, 0.002, 10, 0.5)
    assert torch.equal(ladder, check_ladder(ladder)) and (ladder[0], ladder[-1]) == (80.0, 0.002)
    torch.testing.assert_close(
        few_step(800.0, 0.02, 10, 5.0), 10 * ladder
    )  # a change of units scales it
    gaps = (ladder[:-1] / ladder[1:]).log()
    nearest = int((ladder[1:] * ladder[:-1]).log().sub(2 * math.log(0.5)).abs().argmin())
    assert abs(nearest - int(gaps.argmin())) <= 1  # densest about the spread
    assert few_step(80.0, 0.002, 2).tolist() == [80.0, 0.002]
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="spread"):
            few_step(80.0, 0.002, 5, bad)


def test_sigmas_in_a_list_are_not_rounded_to_float32() -> None:
    assert check_ladder([1.2, 0.01]).tolist() == [1.2, 0.01]


def test_the_example_of_a_kernel_of_ones_own(capsys) -> None:
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "own_kernel.py"))
    assert example["main"]() == pytest.approx(example["Midpoint"].order, abs=0.2)
    assert "256 evaluations" in capsys.readouterr().out
    assert abs(observed(example["Midpoint"](), "mixture") - 2) < 0.2
