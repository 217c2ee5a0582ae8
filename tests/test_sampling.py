"""Kernels where the answer is known, and what every sampler of the registry owes: keys, batches,
scaling, types, units.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from scorefield import rng
from scorefield.conditions import ConditionSpec
from scorefield.errors import InputError, NonFiniteError
from scorefield.exact import Empirical, Gaussian, GaussianMixture
from scorefield.models import Guided, Moments, Preconditioned, ScoreModel
from scorefield.noise import LADDERS, geometric, karras
from scorefield.rng import Stream
from scorefield.sampling import (
    SAMPLERS,
    Ancestral,
    AnnealedLangevin,
    Euler,
    Heun,
    Kernel,
    Langevin,
    MatchedSDE,
    PredictorCorrector,
    Projected,
    Samples,
    draw,
    make_kernel,
    resolve_sampling,
    run,
    sample,
)
from scorefield.units import Units

SE = 4.5
LADDER = geometric(20.0, 0.05, 12)
MIX = GaussianMixture(
    [[-2.0, 0.5], [1.0, 1.0], [0.0, -3.0]],
    [[[0.5, 0.2], [0.2, 0.3]], [[1.0, 0.0], [0.0, 0.1]], [[0.2, -0.1], [-0.1, 0.4]]],
    [0.5, 0.3, 0.2],
)


def drawn(
    model: ScoreModel,
    count: int = 64,
    seed: Any = 0,
    sampler: str | Kernel = "heun",
    *,
    batch: int | None = None,
    condition: Any = None,
    callbacks: Any = (),
    trace: bool = False,
    **wishes: Any,
) -> Samples:
    """`draw` with a ladder that fits all samplers and few enough steps to be quick."""
    kernel = sampler if isinstance(sampler, Kernel) else SAMPLERS[sampler]
    wishes.setdefault("ladder", LADDER)
    if kernel.is_langevin:
        wishes.setdefault("steps_per_level", 3)
    keys = rng.keys(seed, count) if isinstance(seed, int) else rng.keys_of(seed)
    return draw(
        model,
        resolve_sampling(model, sampler, **wishes),
        keys,
        batch=batch,
        condition=condition,
        callbacks=callbacks,
        trace=trace,
    )


def samples(model: ScoreModel, count: int = 64, seed: Any = 0, *rest: Any, **named: Any) -> Tensor:
    return drawn(model, count, seed, *rest, **named).x


# ---- Langevin's stationary law


class NoRootTwo(Langevin):
    """Langevin with sqrt(eps) for sqrt(2 eps)."""

    def step(self, model, state, sigma, sigma_next, draws):
        x, eps = state.x, self.epsilon
        moved = x + eps * model.score(x, sigma) + math.sqrt(eps) * draws.normal()
        return state.replace(x=moved)


def settles_at(kernel: Kernel, step: float, variance: float, truth: float) -> bool:
    """Does the variance of 40,000 chains on N(3, variance - sigma²), seen at sigma, meet the
    finite-step closed form?
    """
    count, sigma = 40000, 0.5
    model = Gaussian([3.0], [[variance - sigma**2]])
    x = run(
        kernel,
        model,
        [sigma],
        torch.zeros(count, 1, dtype=torch.float64),
        steps_per_level=40,
        final="none",
        keys=rng.keys(5, count),
    ).x
    assert (1 - step / variance) ** 80 < 1e-6  # the start is forgotten
    centred = (
        abs(float(x.mean()) - 3) < SE * math.sqrt(truth / count) + 3 * (1 - step / variance) ** 40
    )
    return centred and abs(float(x.var()) - truth) < SE * truth * math.sqrt(2 / count)


@pytest.mark.parametrize("make", [Langevin, AnnealedLangevin])
@pytest.mark.parametrize("step", [0.4, 1.0])
def test_langevins_stationary_variance_is_the_finite_step_one(make, step: float) -> None:
    truth = 2 * step / (1 - (1 - step / 2) ** 2)
    assert settles_at(make(step), step, 2.0, truth)
    assert not settles_at(make(step), step, 2.0, 2.0)  # not the density's own variance
    assert not settles_at(NoRootTwo(step), step, 2.0, truth)


def test_annealed_steps_shrink_with_sigma_squared() -> None:
    """On p = a point, one step at sigma: x <- (1 - eps/sigma²) x + sqrt(2 eps) z with eps/sigma² =
    epsilon/sigma_L² at every level.
    """
    point = GaussianMixture([[0.0]], 0.0)
    keys, x = rng.keys(0, 5), torch.ones(5, 1, dtype=torch.float64)
    moved = run(AnnealedLangevin(0.02), point, [4.0, 0.5], x, final="none", keys=keys).x
    expected = x
    for step, sigma in enumerate((4.0, 0.5)):
        epsilon = 0.02 * sigma**2 / 0.25
        z = rng.normal(keys, Stream.KERNEL, step, (1,), torch.float64)
        expected = (1 - epsilon / sigma**2) * expected + math.sqrt(2 * epsilon) * z
    torch.testing.assert_close(moved, expected, rtol=1e-12, atol=1e-12)


# ---- the article's two modes

TWO_MODES = GaussianMixture([[-5.0, -5.0], [5.0, 5.0]], 1.0, weights=[0.2, 0.8])
UNIFORM = ("uniform", -8.0, 8.0)


def small_mode(x: Tensor) -> float:
    return float((x.sum(1) < 0).double().mean())


def test_annealing_finds_the_weights_of_two_modes() -> None:
    x = samples(
        TWO_MODES,
        3000,
        sampler="annealed-langevin",
        ladder=geometric(20, 1, 10),
        steps_per_level=100,
        options={"epsilon": 0.05},
        start=UNIFORM,
        final="none",
    )
    assert abs(small_mode(x) - 0.2) < 0.03


def test_plain_langevin_keeps_the_weights_of_its_start() -> None:
    x = samples(
        TWO_MODES,
        3000,
        sampler="langevin",
        ladder=[1e-3],
        steps_per_level=300,
        options={"epsilon": 0.05},
        start=UNIFORM,
        final="none",
    )
    assert abs(small_mode(x) - 0.5) < SE * math.sqrt(0.25 / 3000)
    near = torch.cdist(x, TWO_MODES.means).min(1).values
    assert float(near.quantile(0.99)) < 4  # it did arrive at the modes


def test_the_flow_finds_the_weights_of_two_modes() -> None:
    x = samples(TWO_MODES, 4000, ladder=karras(80, 0.01, 30))
    assert abs(small_mode(x) - 0.2) < SE * math.sqrt(0.16 / 4000)


# ---- what every sampler owes


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.inner, self.outer = nn.Linear(2, 32), nn.Linear(32, 2)

    def forward(self, x: Tensor, noise_input: Tensor | None, condition) -> Tensor:
        told = 0 if noise_input is None else noise_input.to(x.dtype)[:, None]
        given = 0 if condition is None else condition["vector"].to(x.dtype)
        return self.outer(torch.tanh(self.inner(x) + told)) + given


class WithDensity(Preconditioned):
    """What MALA asks for; these tests need no density that fits the score."""

    has_log_density = True

    def log_density(self, x: Tensor, sigma: Tensor, condition=None) -> Tensor:
        self.check(x, sigma, condition, density=True)
        return -x.square().flatten(1).sum(1) / (2 * float(sigma) ** 2 + 2)


def network(**options) -> Preconditioned:
    return WithDensity(Net(), (2,), 0.05, 20.0, **options)


each_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


@each_sampler
@pytest.mark.parametrize("make", [lambda: MIX, network], ids=["exact", "network"])
def test_samples_depend_on_their_key_alone(sampler: str, make) -> None:
    model = make()
    tolerance = 1e-12 if model is MIX else 1e-5
    whole = samples(model, 40, seed=3, sampler=sampler)
    assert whole.dtype == (torch.float64 if model is MIX else torch.float32)

    def same(part: Tensor, rows: slice) -> bool:
        return float(((part - whole[rows]).abs() / (1 + whole[rows].abs())).max()) < tolerance

    assert same(samples(model, 40, seed=3, sampler=sampler, batch=7), slice(None))
    assert same(samples(model, 5, seed=3, sampler=sampler), slice(5))
    assert same(samples(model, 1, seed=3, sampler=sampler), slice(1))
    seeded = samples(model, seed=[11, 3, 12], sampler=sampler)
    assert same(seeded[1:2], slice(1))
    torch.testing.assert_close(
        samples(model, seed=[12], sampler=sampler), seeded[2:], rtol=tolerance, atol=tolerance
    )


@each_sampler
def test_seeds_zero_and_one_share_no_sample(sampler: str) -> None:
    zero, one = (samples(MIX, 200, seed=s, sampler=sampler) for s in (0, 1))
    assert float(torch.cdist(zero, one).min()) > 1e-6
    assert float(torch.pdist(zero).min()) > 1e-6
    assert torch.equal(zero, samples(MIX, 200, seed=0, sampler=sampler))


@each_sampler
def test_scaling_space_scales_the_samples(sampler: str) -> None:
    c = 37.0
    assert MIX.vectors is not None
    covariances = c**2 * MIX.vectors @ torch.diag_embed(MIX.spectrum) @ MIX.vectors.mT
    larger = GaussianMixture(c * MIX.means, covariances, log_weights=MIX.log_weights)
    takes = "epsilon" in make_kernel(sampler).options()
    for epsilon in (None, 2e-3) if takes else (None,):
        options, scaled = (
            ({}, {})
            if epsilon is None
            else (
                {"epsilon": epsilon},
                {"epsilon": c**2 * epsilon},
            )
        )
        small = samples(MIX, 20, sampler=sampler, options=options)
        large = samples(larger, 20, sampler=sampler, ladder=c * LADDER, options=scaled)
        torch.testing.assert_close(large, c * small, rtol=1e-9, atol=1e-9)


@each_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types_are_kept_and_inputs_are_not_written_to(sampler: str, dtype: torch.dtype) -> None:
    x, ladder, keys = MIX.sample(10, 20.0).to(dtype), LADDER.clone(), rng.keys(0, 10)
    before = x.clone(), ladder.clone(), keys.clone()
    kernel, weights = (
        SAMPLERS[sampler](),
        {k: v.clone() for k, v in MIX.state_dict().items()},
    )
    for final in ("denoise", "none"):
        result = run(kernel, MIX, ladder, x, 2, final, keys=keys, trace=True)
        assert result.x.dtype == dtype
        assert not result.x.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(before, (x, ladder, keys), strict=True))
    assert all(torch.equal(v, MIX.state_dict()[k]) for k, v in weights.items())


@each_sampler
def test_data_a_thousand_times_larger_and_shifted_by_minus_three(sampler: str) -> None:
    """Units measured from the data: samples transform exactly, log p by the Jacobian."""
    data = MIX.sample(300, seed=9)

    def fitted(data: Tensor) -> tuple[Empirical, Units]:
        units = Units.standardising(data.mean(0), data.std(0))
        model = Empirical(units.to_model(data))
        model.units = units
        return model, units

    (model, units), (moved, moved_units) = fitted(data), fitted(1000 * data - 3)
    for start, moved_start in (
        ("prior", "prior"),
        (("uniform", -4.0, 4.0), ("uniform", -4003.0, 3997.0)),
    ):
        a, b = (
            samples(model, 10, sampler=sampler, start=start),
            samples(moved, 10, sampler=sampler, start=moved_start),
        )
        torch.testing.assert_close(b, 1000 * a - 3, rtol=1e-9, atol=1e-6)
    x = MIX.sample(10, 0.3, seed=2)
    here = model.log_prob(units.to_model(x), 0.1) + units.log_det(x)
    there = moved.log_prob(moved_units.to_model(1000 * x - 3), 0.1) + moved_units.log_det(
        1000 * x - 3
    )
    torch.testing.assert_close(there, here - 2 * math.log(1000), rtol=1e-10, atol=1e-8)


class NoFloat64(TorchDispatchMode):
    """Refuses float64 tensors as large as a batch, as a device without float64 does; ladders and
    single numbers may stay on the host.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for out in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(out, Tensor) and out.dtype == torch.float64 and out.numel() >= 64:
                raise AssertionError(f"{func} made a float64 tensor {tuple(out.shape)}")
        return result


@each_sampler
def test_no_float64_is_needed_on_the_device(sampler: str) -> None:
    """The loop over noise levels; `Units` alone computes in float64, before and after it."""
    x, keys = 20 * torch.randn(64, 2), rng.keys(0, 64)
    with NoFloat64():
        x = run(SAMPLERS[sampler](), network(), LADDER, x, keys=keys).x
    assert x.dtype == torch.float32
    with pytest.raises(AssertionError, match="float64"), NoFloat64():
        run(SAMPLERS[sampler](), MIX, LADDER, x, keys=keys)


@each_sampler
@pytest.mark.parametrize("final", ["denoise", "none"])
def test_evaluations_are_counted_and_budgets_kept(sampler: str, final: str) -> None:
    kernel, model = SAMPLERS[sampler](), network()
    record = drawn(model, 3, sampler=sampler, steps_per_level=2, final=final).record
    visits = (len(LADDER) if kernel.is_langevin else len(LADDER) - 1) * 2
    # a second visit of a level is a correction alone
    spared = visits // 2 if isinstance(kernel, PredictorCorrector) else 0
    assert record.nfe == visits * kernel.evaluations_per_step - spared + (final == "denoise")
    assert record.cost.evaluations == 3 * record.nfe
    for budget in (120, 161, 400):
        recipe = resolve_sampling(model, sampler, nfe=budget, final=final)
        record = draw(model, recipe, rng.keys(0, 3)).record
        levels = len(record.ladder) if kernel.is_langevin else 1
        assert record.nfe == recipe.evaluations
        assert record.nfe <= budget < record.nfe + kernel.evaluations_per_step * levels
    with pytest.raises(InputError, match=r"nfe must be at least"):
        sample(model, 3, sampler=sampler, nfe=0)


@each_sampler
def test_traces_name_every_level_entered(sampler: str) -> None:
    model = network(units=Units.affine(5.0, 2.0))
    plain = samples(model, 9, sampler=sampler, batch=4)
    traced = drawn(model, 9, sampler=sampler, batch=4, trace=True)
    x, record = traced.x, traced.record
    assert torch.equal(x, plain)
    assert [s for s, _ in record.trace] == [*LADDER.tolist(), 0.0]
    assert all(state.shape == x.shape for _, state in record.trace)
    assert torch.equal(record.trace[-1][1], x)
    first = 20 * rng.normal(rng.keys(0, 9), Stream.START, 0, (2,))
    torch.testing.assert_close(record.trace[0][1], 5 + 2 * first)  # data units
    assert "trace" not in record.to_dict()


# ---- the driver


def test_visits_are_as_decided() -> None:
    """Kernels that move: repeats - 1 visits, then on; kernels that stay: repeats visits of every
    level, the last included.
    """
    seen: list[tuple[float, float]] = []

    class Spy(Kernel):
        def step(self, model, state, sigma, sigma_next, draws):
            assert sigma.shape == () and sigma.dtype == torch.float64
            assert not torch.is_grad_enabled()
            seen.append((float(sigma), float(sigma_next)))
            return state

    class Stay(Spy):
        is_langevin = True

    x = torch.zeros(2, 2, dtype=torch.float64)
    events = []
    run(Spy(), MIX, [4.0, 2.0, 1.0], x, 2, final="none", callbacks=[events.append])
    assert seen == [(4, 4), (4, 2), (2, 2), (2, 1)]
    assert [(e.step, e.steps, e.level, e.sigma) for e in events] == [
        (1, 4, 0, 4),
        (2, 4, 1, 2),
        (3, 4, 1, 2),
        (4, 4, 2, 1),
    ]
    seen.clear()
    run(Stay(), MIX, [4.0, 2.0], x, 2, final="none")
    assert seen == [(4, 4), (4, 4), (2, 2), (2, 2)]
    seen.clear()
    result = run(Spy(), MIX, [4.0], x)
    assert seen == []
    assert torch.equal(result.x, MIX.denoise(x, 4.0))
    assert result.evaluations == 1


def test_gradients_can_be_turned_on_inside() -> None:
    """no_grad, not inference_mode: posterior models differentiate through the denoiser."""

    class Differentiates(ScoreModel):
        event_shape, sigma_min, sigma_max = (2,), 0.05, 20.0

        def score(self, x, sigma, condition=None):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                return torch.autograd.grad(MIX.log_prob(x, sigma).sum(), x)[0]

    x = MIX.sample(5, 20.0)
    torch.testing.assert_close(
        run(Heun(), Differentiates(), LADDER, x).x,
        run(Heun(), MIX, LADDER, x).x,
        rtol=1e-9,
        atol=1e-9,
    )


def test_noise_within_a_step_is_numbered() -> None:
    drawn: list[Tensor] = []

    class Twice(Kernel):
        is_langevin = True

        def step(self, model, state, sigma, sigma_next, draws):
            drawn.extend([draws.normal(), draws.normal()])
            return state

    keys = rng.keys(0, 3)
    run(
        Twice(),
        MIX,
        [1.0],
        torch.zeros(3, 2, dtype=torch.float64),
        steps_per_level=2,
        final="none",
        keys=keys,
    )
    expected = [
        rng.normal(keys, Stream.KERNEL, step, (2,), torch.float64, draw=k)
        for step in (0, 1)
        for k in (0, 1)
    ]
    assert all(torch.equal(a, b) for a, b in zip(drawn, expected, strict=True))


def test_projections_follow_each_step_of_kernels_that_stay() -> None:
    seen = []

    def project(x: Tensor, sigma: Tensor, noise) -> Tensor:
        seen.append((float(sigma), noise(per="step"), noise(per="level")))
        return torch.cat([torch.full_like(x[:, :1], 9.0), x[:, 1:]], 1)

    keys, x = rng.keys(0, 4), torch.zeros(4, 2, dtype=torch.float64)
    kernel = Projected(Langevin(0.01), project)
    result = run(kernel, MIX, [2.0, 1.0], x, 2, final="none", keys=keys)
    assert (result.x[:, 0] == 9).all() and (result.x[:, 1] != 0).all()
    assert [s for s, *_ in seen] == [2, 2, 1, 1]
    steps, levels = [a for _, a, _ in seen], [b for *_, b in seen]
    assert torch.equal(levels[0], levels[1]) and torch.equal(levels[2], levels[3])
    distinct = [
        *steps,
        levels[0],
        levels[2],
        rng.normal(keys, Stream.KERNEL, 0, (2,), torch.float64),
    ]
    assert all(not torch.isclose(a, b).any() for i, a in enumerate(distinct) for b in distinct[:i])
    for kind in SAMPLERS.values():
        if not kind.allows_projection:
            with pytest.raises(InputError, match=r"does not support `project`.*langevin"):
                Projected(kind(), project)


SPECS = {"vector": ConditionSpec("vector", 1)}


@each_sampler
def test_conditions_reach_every_evaluation_row_by_row(sampler: str) -> None:
    """Also MALA's log density, which decides what is accepted."""
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    means, covariances = [[-5.0, -5.0], [5.0, 5.0]], [1.0, 0.5]
    model = GaussianMixture(means, covariances, labels=[0, 1])
    whole = samples(model, 6, sampler=sampler, condition={"class": labels})
    for c in (0, 1):
        alone = GaussianMixture([means[c]], covariances[c])
        rows = labels == c
        torch.testing.assert_close(
            whole[rows], samples(alone, 6, sampler=sampler)[rows], rtol=1e-9, atol=1e-9
        )
    assert torch.equal(
        whole[4:], samples(model, 6, 0, sampler, batch=4, condition={"class": labels})[4:]
    )


def test_a_condition_changes_samples_and_needs_one_row_each() -> None:
    model = network(conditions=SPECS)
    condition = {"vector": torch.linspace(-1, 1, 6)[:, None]}
    whole = samples(model, 6, condition=condition)
    torch.testing.assert_close(
        samples(model, 6, condition=condition, batch=4), whole, rtol=1e-5, atol=1e-5
    )
    assert not torch.isclose(whole, samples(model, 6)).any()
    with pytest.raises(InputError, match=r"\(6, 1\)"):
        drawn(model, 6, condition={"vector": condition["vector"][:3]})
    one = sample(model, 3, ladder=LADDER, condition={"vector": [0.5]})
    same = sample(model, 3, ladder=LADDER, condition={"vector": [[0.5]] * 3})
    assert torch.equal(one, same)


def test_guidance_is_one_argument() -> None:
    model = GaussianMixture([[-5.0], [5.0]], 1.0, labels=[0, 1])
    guided = sample(model, 4, nfe=20, condition={"class": 1}, guidance=2.0)
    wrapped = sample(Guided(model, 2.0), 4, nfe=20, condition={"class": 1})
    assert torch.equal(guided, wrapped)
    _, record = sample(model, 4, nfe=20, condition={"class": 1}, guidance=2.0, record=True)
    assert record.cost.forwards == 2 * 4 * 20
    assert record.nfe == 40


def test_a_kernel_sees_a_score_model_and_its_densities_are_counted() -> None:
    class Asks(Kernel):
        def start(self, model, ladder, state, draws):
            assert isinstance(model, ScoreModel) and model.has_log_density
            return state.replace(memory=model.moments().mean)

        def step(self, model, state, sigma, sigma_next, draws):
            model.log_density(state.x, sigma)
            return state.replace(x=model.denoise(state.x, sigma))

    result = run(Asks(), MIX, [2.0, 1.0], torch.zeros(1, 2, dtype=torch.float64))
    assert result.evaluations == 3
    assert (result.cost.forwards, result.cost.densities) == (2, 1)


def test_a_nan_stops_the_run_and_is_located() -> None:
    class Breaks(ScoreModel):
        event_shape, sigma_min, sigma_max = (2,), 0.05, 20.0

        def score(self, x, sigma, condition=None):
            self.check(x, sigma, condition)
            return torch.where((x[:, :1] > 0) & (torch.as_tensor(sigma) < 1), math.nan, -x / 400)

    x = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-2.0, 0.0], [-3.0, 0.0]], dtype=torch.float64)
    with pytest.raises(NonFiniteError, match=r"step 3 of 3, sigma 0.5: 25.0% of 4 samples"):
        run(Euler(), Breaks(), [4.0, 2.0, 0.9, 0.5], x)
    with pytest.raises(NonFiniteError, match="before the first step"):
        run(Euler(), MIX, [2.0, 1.0], x * math.inf)


def test_models_that_know_only_their_ladder_are_sampled_on_it() -> None:
    ladder = geometric(20.0, 0.05, 6)
    model = network(preconditioner="ncsn", ladder=ladder)
    for sampler, kind in SAMPLERS.items():
        if kind().needs_continuous_sigma:
            with pytest.raises(InputError, match=r"levels of its ladder.*annealed-langevin"):
                sample(model, 2, sampler=sampler, ladder=ladder)
        elif sampler != "langevin":
            recipe = resolve_sampling(model, sampler, steps_per_level=1)
            assert draw(model, recipe, rng.keys(0, 2)).record.ladder == ladder.tolist()
    on_ladder = {name for name, kind in SAMPLERS.items() if not kind().needs_continuous_sigma}
    assert on_ladder >= {"ancestral", "reverse-sde", "consistent-annealed"}
    _, record = sample(model, 2, sampler="ancestral", nfe=4, record=True)
    assert len(record.ladder) == 4 and set(record.ladder) <= set(ladder.tolist())  # thinned
    with pytest.raises(InputError, match=r"levels of its ladder"):
        run(PredictorCorrector(Heun()), model, ladder, torch.zeros(1, 2))
    with pytest.raises(InputError, match="nearest level"):
        sample(model, 2, sampler="annealed-langevin", ladder=[20.0, 3.3])
    recipe = resolve_sampling(model, steps_per_level=1)
    assert (recipe.name, recipe.ladder.tolist()) == ("annealed-langevin", ladder.tolist())
    assert recipe.kernel.options() == {"epsilon": pytest.approx(0.2 * 0.05**2)}


def test_starts() -> None:
    image = network(units=Units.affine(0.3, 0.5, image=True))
    record = drawn(image, 500, start="uniform", trace=True).record
    first = record.trace[0][1]
    assert 0 <= float(first.min()) < 0.05 and 0.95 < float(first.max()) <= 1
    record = drawn(MIX, 500, start=("uniform", 3.0, 7.0), trace=True).record
    assert 3 <= float(record.trace[0][1].min()) < 3.1 and 6.9 < float(record.trace[0][1].max()) <= 7
    for start, words in (
        ("uniform", "for other data"),
        (("uniform", 2.0, 1.0), "low < high"),
        ("nowhere", "prior"),
    ):
        with pytest.raises(InputError, match=words):
            drawn(MIX, 5, start=start)


def test_a_uniform_start_keeps_the_digits_of_its_bounds() -> None:
    dates = network(units=Units.affine(2.46e6, 2.0))
    dates.units = Units(
        dates.units.shift, dates.units.scale, dates.units.constant, dtype=torch.float64
    )
    record = drawn(dates, 500, start=("uniform", 2.46e6 - 1, 2.46e6 + 1), trace=True).record
    first = record.trace[0][1]
    assert first.dtype == torch.float64
    assert len(first.unique()) == 1000  # float32 has nine numbers there


@dataclass(frozen=True)
class Shrinks(Kernel):
    """A user's kernel with an option."""

    factor: float = 0.5
    order: ClassVar[float | None] = None

    def step(self, model, state, sigma, sigma_next, draws):
        return state.replace(x=self.factor * state.x)


def test_a_kernel_of_ones_own_has_options_and_defaults() -> None:
    assert torch.equal(sample(MIX, 5, sampler=Heun(), ladder=LADDER), samples(MIX, 5))
    assert sample(MIX, 5, sampler=NoRootTwo(0.1), ladder=LADDER).shape == (5, 2)
    x, record = sample(MIX, 5, sampler=Shrinks(0.25), nfe=4, record=True)
    assert (record.sampler, record.options) == ("Shrinks", {"factor": 0.25})
    assert len(record.ladder) == 4 and x.shape == (5, 2)
    with pytest.raises(InputError, match="options go with a sampler's name"):
        sample(MIX, 5, sampler=Shrinks(), options={"factor": 2})


def test_samples_are_drawn_in_eval_mode_and_training_mode_is_put_back() -> None:
    model = network().train()
    modes = []
    drawn(model, 2, callbacks=[lambda event: modes.append(model.network.training)])
    assert modes and not any(modes)
    assert model.training and model.network.training
    assert samples(model, 0).shape == (0, 2)
    _, record = sample(model, 0, record=True)
    assert record.nfe == 0


def card(**sampling: Any) -> dict[str, Any]:
    return {"config": {"sampling": {"sampler": None, "nfe": None, "options": {}} | sampling}}


def test_the_card_decides_what_the_caller_leaves_open_and_zero_is_a_value() -> None:
    model = network()
    model.card = card(nfe=50)
    assert resolve_sampling(model).evaluations in (49, 50)  # nfe alone, the default sampler
    model.card = card(sampler="matched-sde", nfe=12, options={"eta": 3.0})
    recipe = resolve_sampling(model)
    assert (recipe.name, recipe.kernel, recipe.evaluations) == ("matched-sde", MatchedSDE(3.0), 12)
    assert resolve_sampling(model, options={"eta": 0}).kernel == MatchedSDE(0.0)
    assert resolve_sampling(model, nfe=9).evaluations == 9
    assert resolve_sampling(model, levels=5).evaluations == 5
    assert resolve_sampling(model, "euler").evaluations == 64  # another sampler, its own length
    model.card = card(sampler="matched-sde", options={"eta": 0.0})
    assert resolve_sampling(model).kernel == MatchedSDE(0.0)
    model.card = card(
        sampler="annealed-langevin",
        steps_per_level=5,
        options={"epsilon": 6.2e-6},
        start=("uniform", -1.0, 1.0),
        final="none",
    )
    recipe = resolve_sampling(model)
    assert recipe.kernel == AnnealedLangevin(6.2e-6)
    assert (recipe.steps_per_level, recipe.final) == (5, "none")
    assert recipe.start == ("uniform", -1.0, 1.0)
    assert resolve_sampling(model, final="denoise", start="prior").final == "denoise"


@each_sampler
@pytest.mark.parametrize("levels", [0, -3])
def test_no_number_of_levels_below_one_is_taken_for_a_default(sampler: str, levels: int) -> None:
    with pytest.raises(InputError, match=r"level"):
        resolve_sampling(network(), sampler, levels=levels)


def test_seeds_are_numbers_sequences_or_keys() -> None:
    model = network()
    x, record = sample(model, 3, 7, ladder=LADDER, record=True)
    assert record.seeds == {"seed": 7, "count": 3}
    assert torch.equal(x, sample(model, seed=rng.keys(7, 3), ladder=LADDER))
    _, record = sample(model, seed=[4, 5], ladder=LADDER, record=True)
    assert record.seeds == [4, 5] and record.count == 2
    rows = sample(model, seed=rng.blend_rows(0, 2, 3), ladder=LADDER)
    ends = sample(model, 4, 0, ladder=LADDER)
    torch.testing.assert_close(rows[[0, 3]], ends[[0, 2]], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rows[[2, 5]], ends[[1, 3]], rtol=1e-5, atol=1e-5)


def test_noise_between_two_samples_is_standard_normal_with_the_cosine_as_correlation() -> None:
    rows, steps = 20000, 5
    keys = rng.blend_rows(0, rows, steps)
    z = rng.normal(keys, Stream.KERNEL, 0, (), torch.float64).reshape(rows, steps)
    cosine = torch.linspace(0, math.pi / 2, steps, dtype=torch.float64).cos()
    for k in range(steps):
        assert abs(float(z[:, k].var()) - 1) < SE * math.sqrt(2 / rows)
        correlation = float((z[:, 0] * z[:, k]).mean())
        assert abs(correlation - float(cosine[k])) < SE * math.sqrt(2 / rows)


def test_a_compiled_network_meets_one_shape_and_others_no_row_more_than_asked() -> None:
    model = network()
    for compiled, rows in ((False, 9), (True, 16)):
        model.compiled = compiled
        assert drawn(model, 9, batch=8).record.cost.forwards == rows * 23
        assert torch.equal(samples(model, 9, batch=8), samples(model, 9, batch=8))


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"sampler": "huen"}, "did you mean 'heun'"),
        ({"sampler": "anneal-langevin"}, "did you mean 'annealed-langevin'"),
        ({"sampler": "?"}, "There are heun"),
        ({"steps_per_level": 0}, "steps_per_level must be at least 1"),
        ({"final": "noise"}, "final must be one of denoise, none"),
        ({"ladder": [1.0, 2.0]}, "Ascending"),
        ({"ladder": [50.0, 1.0]}, r"\[0.05, 20\].*1 to 50"),
        ({"ladder": [2.0, 0.01]}, r"\[0.05, 20\]"),
        ({"nfe": 30, "ladder": LADDER}, "give one"),
        ({"nfe": 30, "levels": 9}, "give one"),
        ({"levels": 9, "ladder": LADDER}, "contradicts"),
        ({"nfe": 30, "steps_per_level": 2, "sampler": "annealed-langevin"}, "give one"),
        ({"options": {"epsilon": 0.1}}, "'heun' has no option 'epsilon'.*is for .*langevin"),
        ({"options": {"eta": 1.0}}, "no option 'eta'.*dpmpp-2m-sde, matched-sde"),
        ({"options": {"eta": 1.0}, "sampler": Ancestral()}, "options go with"),
        ({"options": {"eta": -1.0}, "sampler": "dpmpp-2m-sde"}, "eta must be at least 0"),
        ({"options": {"eta": "much"}, "sampler": "dpmpp-2m-sde"}, "eta must be a number"),
        ({"ladder": "kerras"}, "one of geometric, karras, few-step; got 'kerras'"),
        ({"options": {"epsilon": -0.1}, "sampler": "langevin"}, "above 0"),
        ({"options": {"epsilon": 0.0}, "sampler": "annealed-langevin"}, "above 0"),
        ({"sampler": "langevin", "levels": 3}, "one noise level"),
    ],
)
def test_bad_recipes_raise_input_errors(wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        resolve_sampling(network(), **wishes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"count": -1}, "count must be at least 0; got -1"),
        ({"seed": [1, 2], "count": 3}, "2 seeds"),
        ({"condition": {"class": 1}}, "takes no condition"),
        ({"condition": 3}, "mapping"),
        ({"guidance": 2.0}, "needs a model with conditions"),
        (
            {"sampler": "consistent-annealed", "options": {"epsilon": 1e-4}},
            "too slowly.*finer ladder",
        ),
    ],
)
def test_bad_requests_raise_input_errors(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        sample(network(), **arguments)
    with pytest.raises(InputError, match="batch must be at least 1"):
        drawn(network(), 3, batch=0)


def test_noise_needs_keys() -> None:
    with pytest.raises(InputError, match=r"pass keys="):
        run(Langevin(0.1), MIX, [1.0], torch.zeros(2, 2, dtype=torch.float64))
    with pytest.raises(InputError, match="one key a row"):
        run(Langevin(0.1), MIX, [1.0], torch.zeros(2, 2, dtype=torch.float64), keys=rng.keys(0, 3))


@each_sampler
def test_exact_densities_are_sampled_with_nothing_else_given(sampler: str) -> None:
    assert torch.isfinite(sample(MIX, 3, sampler=sampler)).all()


@pytest.mark.parametrize("name", LADDERS)
def test_ladders_by_name(name: str) -> None:
    std = torch.full((2,), 4.0, dtype=torch.float64)
    model = network(moments=Moments(torch.zeros(2, dtype=torch.float64), std))
    make = LADDERS[name]
    extra = (2.0,) if name == "few-step" else ()
    _, record = sample(model, 2, sampler="heun", ladder=name, nfe=9, record=True)
    assert record.ladder == make(20.0, 0.05, 5, *extra).tolist()
    _, record = sample(model, 2, sampler="ancestral", ladder=name, record=True)
    assert record.ladder == make(20.0, 0.05, 128, *extra).tolist()
