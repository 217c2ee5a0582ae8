"""Kernels where the answer is known, and what every sampler of the registry owes: keys, batches,
scaling, types, units.
"""

import inspect
import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from scorefield import rng
from scorefield.cli.sample import sample_command
from scorefield.errors import InputError, NonFiniteError
from scorefield.exact import Empirical, Gaussian, GaussianMixture
from scorefield.model import Preconditioned, ScoreModel
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
    PredictorCorrector,
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


def draw(
    model: ScoreModel, count: int | None = None, seed: int = 0, sampler: str = "heun", **options
) -> Tensor:
    """`sample` with a ladder that fits all samplers and few enough steps to be quick."""
    row = SAMPLERS[sampler]
    if row.kernel.stays:
        options.setdefault("repeats", 3)
    return sample(
        model, count, seed, sampler=sampler, ladder=options.pop("ladder", LADDER), **options
    )


# ---- Langevin's stationary law


class NoRootTwo(Langevin):
    """Langevin with sqrt(eps) for sqrt(2 eps)."""

    def step(self, model, x, sigma, sigma_next, noise, state):
        return x + self.step_size * model.score(x, sigma) + math.sqrt(
            self.step_size
        ) * noise(), state


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
        repeats=40,
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
    x = draw(
        TWO_MODES,
        3000,
        sampler="annealed-langevin",
        ladder=geometric(20, 1, 10),
        repeats=100,
        epsilon=0.05,
        start=UNIFORM,
        final="none",
    )
    assert abs(small_mode(x) - 0.2) < 0.03


def test_plain_langevin_keeps_the_weights_of_its_start() -> None:
    x = draw(
        TWO_MODES,
        3000,
        sampler="langevin",
        ladder=[1e-3],
        repeats=300,
        epsilon=0.05,
        start=UNIFORM,
        final="none",
    )
    assert abs(small_mode(x) - 0.5) < SE * math.sqrt(0.25 / 3000)
    near = torch.cdist(x, TWO_MODES.means).min(1).values
    assert float(near.quantile(0.99)) < 4  # it did arrive at the modes


def test_the_flow_finds_the_weights_of_two_modes() -> None:
    x = draw(TWO_MODES, 4000, ladder=karras(80, 0.01, 30))
    assert abs(small_mode(x) - 0.2) < SE * math.sqrt(0.16 / 4000)


# ---- what every sampler owes


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.inner, self.outer = nn.Linear(2, 32), nn.Linear(32, 2)

    def forward(self, x: Tensor, noise_input: Tensor | None, condition: Tensor | None) -> Tensor:
        told = 0 if noise_input is None else noise_input.to(x.dtype)[:, None]
        given = 0 if condition is None else condition[:, None]
        return self.outer(torch.tanh(self.inner(x) + told)) + given


class WithDensity(Preconditioned):
    """What MALA asks for; these tests need no density that fits the score."""

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        return -x.square().flatten(1).sum(1) / (2 * float(sigma) ** 2 + 2)


def network(**options) -> Preconditioned:
    return WithDensity(Net(), (2,), 0.05, 20.0, **options)


each_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


@each_sampler
@pytest.mark.parametrize("make", [lambda: MIX, network], ids=["exact", "network"])
def test_samples_depend_on_their_key_alone(sampler: str, make) -> None:
    model = make()
    tolerance = 1e-12 if model is MIX else 1e-5
    whole = draw(model, 40, seed=3, sampler=sampler)
    assert whole.dtype == (torch.float64 if model is MIX else torch.float32)

    def same(part: Tensor, rows: slice) -> bool:
        return float(((part - whole[rows]).abs() / (1 + whole[rows].abs())).max()) < tolerance

    assert same(draw(model, 40, seed=3, sampler=sampler, batch=7), slice(None))
    assert same(draw(model, 5, seed=3, sampler=sampler), slice(5))
    assert same(draw(model, 1, seed=3, sampler=sampler), slice(1))
    seeded = draw(model, seeds=[11, 3, 12], sampler=sampler)
    assert same(seeded[1:2], slice(1))
    torch.testing.assert_close(
        draw(model, seeds=[12], sampler=sampler), seeded[2:], rtol=tolerance, atol=tolerance
    )


@each_sampler
def test_seeds_zero_and_one_share_no_sample(sampler: str) -> None:
    zero, one = (draw(MIX, 200, seed=s, sampler=sampler) for s in (0, 1))
    assert float(torch.cdist(zero, one).min()) > 1e-6
    assert float(torch.pdist(zero).min()) > 1e-6
    assert torch.equal(zero, draw(MIX, 200, seed=0, sampler=sampler))


@each_sampler
def test_scaling_space_scales_the_samples(sampler: str) -> None:
    c = 37.0
    assert MIX.vectors is not None
    covariances = c**2 * MIX.vectors @ torch.diag_embed(MIX.spectrum) @ MIX.vectors.mT
    larger = GaussianMixture(c * MIX.means, covariances, log_weights=MIX.log_weights)
    row = SAMPLERS[sampler]
    epsilon = None if row.epsilon is None else 2e-3
    for given in (None, epsilon):
        small = draw(MIX, 20, sampler=sampler, epsilon=given)
        large = draw(
            larger,
            20,
            sampler=sampler,
            ladder=c * LADDER,
            epsilon=None if given is None else c**2 * given,
        )
        torch.testing.assert_close(large, c * small, rtol=1e-9, atol=1e-9)


@each_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types_are_kept_and_inputs_are_not_written_to(sampler: str, dtype: torch.dtype) -> None:
    x, ladder, keys = MIX.sample(10, 20.0).to(dtype), LADDER.clone(), rng.keys(0, 10)
    before = x.clone(), ladder.clone(), keys.clone()
    kernel, weights = (
        SAMPLERS[sampler].make(2e-3),
        {k: v.clone() for k, v in MIX.state_dict().items()},
    )
    for final in ("denoise", "none"):
        result = run(kernel, MIX, ladder, x, repeats=2, final=final, keys=keys, trace=True)
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
        ("terminal", "terminal"),
        (("uniform", -4.0, 4.0), ("uniform", -4003.0, 3997.0)),
    ):
        a, b = (
            draw(model, 10, sampler=sampler, start=start),
            draw(moved, 10, sampler=sampler, start=moved_start),
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
    model = network()
    with NoFloat64():
        x = draw(model, 64, sampler=sampler)
    assert x.dtype == torch.float32
    with pytest.raises(AssertionError, match="float64"), NoFloat64():
        draw(MIX, 64, sampler=sampler)


@each_sampler
@pytest.mark.parametrize("final", ["denoise", "none"])
def test_evaluations_are_counted_and_budgets_kept(sampler: str, final: str) -> None:
    row, model = SAMPLERS[sampler], network()
    _, record = sample(
        model, 3, sampler=sampler, ladder=LADDER, repeats=2, final=final, record=True
    )
    visits = (len(LADDER) if row.kernel.stays else len(LADDER) - 1) * 2
    spared = (
        visits // 2 if row.kernel is PredictorCorrector else 0
    )  # a second visit of a level is a correction alone
    assert record.nfe == visits * row.evaluations - spared + (final == "denoise")
    for budget in (120, 161, 400):
        _, record = sample(model, 3, sampler=sampler, nfe=budget, final=final, record=True)
        assert (
            record.nfe
            <= budget
            < record.nfe + row.evaluations * max(len(record.ladder) if row.kernel.stays else 1, 1)
        )
    with pytest.raises(InputError, match=r"nfe must be at least"):
        sample(model, 3, sampler=sampler, nfe=0)


@each_sampler
def test_traces_name_every_level_entered(sampler: str) -> None:
    model = network(units=Units.affine(5.0, 2.0))
    plain = draw(model, 9, sampler=sampler, batch=4)
    x, record = draw(model, 9, sampler=sampler, batch=4, trace=True)
    assert torch.equal(x, plain)
    assert [s for s, _ in record.trace] == [*LADDER.tolist(), 0.0]
    assert all(state.shape == x.shape for _, state in record.trace)
    assert torch.equal(record.trace[-1][1], x)
    first = 20 * rng.normal(rng.keys(0, 9), Stream.INIT, 0, (2,))
    torch.testing.assert_close(record.trace[0][1], 5 + 2 * first)  # data units
    assert "trace" not in record.to_dict()
    assert record.seeds == {"seed": 0, "count": 9}


# ---- the driver


def test_visits_are_as_decided() -> None:
    """Kernels that move: repeats - 1 visits, then on; kernels that stay: repeats visits of every
    level, the last included.
    """
    seen: list[tuple[float, float]] = []

    class Spy(Kernel):
        def step(self, model, x, sigma, sigma_next, noise, state):
            assert sigma.shape == () and sigma.dtype == torch.float64
            assert not torch.is_grad_enabled()
            seen.append((float(sigma), float(sigma_next)))
            return x, state

    class Stay(Spy):
        stays = True

    x = torch.zeros(2, 2, dtype=torch.float64)
    events = []
    run(Spy(), MIX, [4.0, 2.0, 1.0], x, repeats=2, final="none", callbacks=[events.append])
    assert seen == [(4, 4), (4, 2), (2, 2), (2, 1)]
    assert [(e.step, e.steps, e.level, e.sigma) for e in events] == [
        (1, 4, 0, 4),
        (2, 4, 1, 2),
        (3, 4, 1, 2),
        (4, 4, 2, 1),
    ]
    seen.clear()
    run(Stay(), MIX, [4.0, 2.0], x, repeats=2, final="none")
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
        stays = True

        def step(self, model, x, sigma, sigma_next, noise, state):
            drawn.extend([noise(), noise()])
            return x, state

    keys = rng.keys(0, 3)
    run(
        Twice(),
        MIX,
        [1.0],
        torch.zeros(3, 2, dtype=torch.float64),
        repeats=2,
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
    result = run(
        Langevin(0.01), MIX, [2.0, 1.0], x, repeats=2, final="none", keys=keys, project=project
    )
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
    for row in SAMPLERS.values():
        if not (row.kernel.stays and row.kernel.projects):
            with pytest.raises(InputError, match=r"takes no projection.*[Ll]angevin"):
                run(row.make(0.1), MIX, [2.0, 1.0], x, project=project, keys=keys)


def test_conditions_are_bound() -> None:
    model = network(takes_condition=True)
    condition = torch.linspace(-1, 1, 6)
    whole = draw(model, 6, condition=condition)
    torch.testing.assert_close(
        draw(model, 6, condition=condition, batch=4), whole, rtol=1e-5, atol=1e-5
    )
    assert not torch.isclose(whole, draw(model, 6)).any()
    with pytest.raises(InputError, match="first dimension 6"):
        draw(model, 6, condition=condition[:3])


def test_capabilities_are_handed_through_and_counted() -> None:
    class Asks(Kernel):
        def start(self, model, ladder):
            assert hasattr(model, "log_density") and not hasattr(model, "no_such_thing")
            return model.moments()

        def step(self, model, x, sigma, sigma_next, noise, state):
            model.log_density(x, sigma)
            return model.denoise(x, sigma), state

    assert run(Asks(), MIX, [2.0, 1.0], torch.zeros(1, 2, dtype=torch.float64)).evaluations == 3


def test_a_nan_stops_the_run_and_is_located() -> None:
    class Breaks(ScoreModel):
        event_shape, sigma_min, sigma_max = (2,), 0.05, 20.0

        def score(self, x, sigma, condition=None):
            return torch.where((x[:, :1] > 0) & (torch.as_tensor(sigma) < 1), math.nan, -x / 400)

    x = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-2.0, 0.0], [-3.0, 0.0]], dtype=torch.float64)
    with pytest.raises(NonFiniteError, match=r"step 3 of 3, sigma 0.5: 25.0% of 4 samples"):
        run(Euler(), Breaks(), [4.0, 2.0, 0.9, 0.5], x)
    with pytest.raises(NonFiniteError, match="before the first step"):
        run(Euler(), MIX, [2.0, 1.0], x * math.inf)


def test_index_conditioned_models_are_for_langevin() -> None:
    ladder = geometric(20.0, 0.05, 6)
    model = network(preconditioner="ncsn", ladder=ladder)
    for sampler, row in SAMPLERS.items():
        if row.kernel.off_ladder:
            with pytest.raises(InputError, match=r"level's index.*annealed-langevin"):
                sample(model, 2, sampler=sampler, ladder=ladder)
        elif sampler != "langevin":
            assert (
                sample(model, 2, sampler=sampler, repeats=1, record=True)[1].ladder
                == ladder.tolist()
            )
    assert {n for n, row in SAMPLERS.items() if not row.kernel.off_ladder} >= {
        "ancestral",
        "reverse-sde",
        "consistent-annealed",
    }
    _, record = sample(
        model, 2, sampler="ancestral", nfe=4, record=True
    )  # the model's own levels, thinned
    assert len(record.ladder) == 4 and set(record.ladder) <= set(ladder.tolist())
    with pytest.raises(InputError, match=r"level's index"):
        run(PredictorCorrector(Heun()), model, ladder, torch.zeros(1, 2))
    with pytest.raises(InputError, match="nearest level"):
        sample(model, 2, sampler="annealed-langevin", ladder=[20.0, 3.3])
    _, record = sample(model, 2, repeats=1, record=True)
    assert (record.kernel, record.ladder) == ("annealed-langevin", ladder.tolist())
    assert record.epsilon == pytest.approx(0.2 * 0.05**2)


def test_starts() -> None:
    image = network(units=Units.affine(0.3, 0.5, image=True))
    _, record = draw(image, 500, start="uniform", trace=True)
    first = record.trace[0][1]
    assert 0 <= float(first.min()) < 0.05 and 0.95 < float(first.max()) <= 1
    _, record = draw(MIX, 500, start=("uniform", 3.0, 7.0), trace=True)
    assert 3 <= float(record.trace[0][1].min()) < 3.1 and 6.9 < float(record.trace[0][1].max()) <= 7
    for start, words in (
        ("uniform", "for other data"),
        (("uniform", 2.0, 1.0), "low < high"),
        ("nowhere", "terminal"),
    ):
        with pytest.raises(InputError, match=words):
            draw(MIX, 5, start=start)


def test_a_kernel_of_ones_own() -> None:
    x = sample(MIX, 5, kernel=Heun(), ladder=LADDER)
    assert torch.equal(x, draw(MIX, 5))
    assert sample(MIX, 5, kernel=NoRootTwo(0.1), ladder=LADDER).shape == (5, 2)
    for ladder in (None, "karras"):
        with pytest.raises(InputError, match="no defaults"):
            sample(MIX, 5, kernel=NoRootTwo(0.1), ladder=ladder)


def test_samples_are_drawn_in_eval_mode_and_training_mode_is_put_back() -> None:
    model = network().train()
    modes = []
    draw(model, 2, callbacks=[lambda event: modes.append(model.network.training)])
    assert modes and not any(modes)
    assert model.training and model.network.training
    assert draw(model, 0).shape == (0, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": "huen"}, "Did you mean 'heun'"),
        ({"sampler": "anneal-langevin"}, "Did you mean 'annealed-langevin'"),
        ({"sampler": "?"}, "There are heun"),
        ({"count": -1}, "count must not be negative; got -1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"final": "noise"}, "final must be one of denoise, none"),
        ({"ladder": [1.0, 2.0]}, "Ascending"),
        ({"ladder": [50.0, 1.0]}, r"\[0.05, 20\].*1 to 50"),
        ({"ladder": [2.0, 0.01]}, r"\[0.05, 20\]"),
        ({"nfe": 30, "ladder": LADDER}, "give one of them"),
        ({"nfe": 30, "repeats": 2, "sampler": "annealed-langevin"}, "give one of them"),
        ({"epsilon": 0.1}, "heun takes no epsilon"),
        ({"eta": 1.0}, "heun takes no eta here.*dpmpp-2m-sde, matched-sde"),
        ({"eta": 1.0, "kernel": Ancestral()}, "takes no eta here"),
        ({"eta": -1.0, "sampler": "dpmpp-2m-sde"}, "eta must not be negative"),
        ({"epsilon": 1e-4, "sampler": "consistent-annealed"}, "too slowly.*finer ladder"),
        ({"ladder": "kerras"}, "one of geometric, karras, few-step; got 'kerras'"),
        ({"epsilon": -0.1, "sampler": "langevin"}, "above zero"),
        ({"epsilon": 0.0, "sampler": "annealed-langevin"}, "above zero"),
        ({"seeds": [1, 2], "count": 3}, "2 seeds"),
        ({"sampler": "euler", "kernel": Heun()}, "not both"),
        ({"condition": torch.zeros(64)}, "takes no condition"),
    ],
)
def test_bad_requests_are_worded(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        sample(network(), **options)


def test_closed_forms_ask_for_a_ladder_and_noise_for_keys() -> None:
    for sampler in SAMPLERS:
        with pytest.raises(InputError, match=r"pass ladder="):
            sample(MIX, 3, sampler=sampler)
    with pytest.raises(InputError, match=r"pass keys="):
        run(Langevin(0.1), MIX, [1.0], torch.zeros(2, 2, dtype=torch.float64))
    with pytest.raises(InputError, match="one key a sample"):
        run(Langevin(0.1), MIX, [1.0], torch.zeros(2, 2, dtype=torch.float64), keys=rng.keys(0, 3))


@pytest.mark.parametrize("name", LADDERS)
def test_ladders_by_name(name: str) -> None:
    model = network(mean=torch.zeros(2), variance=torch.full((2,), 4.0))
    options = {"spread": 2.0} if name == "few-step" else {}
    _, record = sample(model, 2, ladder=name, nfe=9, record=True)
    assert record.ladder == LADDERS[name](20.0, 0.05, 5, **options).tolist()
    _, record = sample(model, 2, sampler="ancestral", ladder=name, record=True)
    assert record.ladder == LADDERS[name](20.0, 0.05, 128, **options).tolist()


def test_the_command_line_lists_every_sampler() -> None:
    option = next(
        p for p in inspect.signature(sample_command).parameters.values() if p.name == "sampler"
    ).default
    assert option.help.split(". [")[0].split(", ") == list(SAMPLERS)
