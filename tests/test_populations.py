"""Particle populations: states are selected as a whole, batches never cut a group."""

import json
import math
import runpy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from scorefield import rng
from scorefield.errors import InputError, NonFiniteError
from scorefield.exact import Gaussian, GaussianMixture
from scorefield.models import Preconditioned, ScoreModel
from scorefield.noise import geometric
from scorefield.sampling import (
    MALA,
    SAMPLERS,
    AnnealedLangevin,
    DPMSolver2MSDE,
    Draws,
    Heun,
    History,
    Kernel,
    Langevin,
    Projected,
    State,
    draw,
    resolve_sampling,
    run,
)

LADDER = [4.0, 2.0, 1.0, 0.5]


class Pair(NamedTuple):
    first: Tensor
    second: float


# ---- State.select


def test_select_reorders_x_memory_and_weights_together() -> None:
    index = torch.tensor([3, 3, 0, 1])
    rows = torch.arange(4.0)
    past = ((1.0, 10 * rows[:, None]), (2.0, 20 * rows[:, None]))
    memory = {
        "history": History(past, (4.0, rows[:, None])),
        "pair": Pair(100 * rows, 7.0),
        "list": [rows, "word", None],
        "scalar": torch.tensor(5.0),
    }
    state = State(rows[:, None], memory, -rows, particles=2).select(index)
    want = rows[index]
    assert torch.equal(state.x[:, 0], want)
    assert torch.equal(state.log_weight, -want)
    assert state.particles == 2 and state.groups == 2
    history = state.memory["history"]
    assert isinstance(history, History)
    assert [(s, d[:, 0].tolist()) for s, d in history.past] == [
        (1.0, (10 * want).tolist()),
        (2.0, (20 * want).tolist()),
    ]
    assert torch.equal(history.origin[1][:, 0], want) and history.origin[0] == 4.0
    assert isinstance(state.memory["pair"], Pair)
    assert torch.equal(state.memory["pair"].first, 100 * want)
    assert torch.equal(state.memory["list"][0], want)
    assert state.memory["list"][1:] == ["word", None]
    assert float(state.memory["scalar"]) == 5.0


def test_select_refuses_memory_that_is_not_one_row_a_sample() -> None:
    """Rows of a ladder, longer or shorter than the batch, would be reordered as if samples."""
    index = torch.tensor([0, 1, 2, 2])
    for rows in (3, 9):
        state = State(torch.zeros(4, 2), memory=(1.0, {"ladder": torch.arange(float(rows))}))
        with pytest.raises(InputError, match=rf"one row a sample, 4, .* got shape \({rows},\)"):
            state.select(index)


@pytest.mark.parametrize("index", [torch.tensor([True, False]), torch.tensor([[0], [1]]), 0.5])
def test_select_takes_row_numbers_alone(index: Tensor | float) -> None:
    """A mask of two rows would change their number, two dimensions would change the events."""
    with pytest.raises(InputError, match="index must be row numbers"):
        State(torch.zeros(2, 2)).select(torch.as_tensor(index))


def test_weights_are_one_a_row() -> None:
    with pytest.raises(InputError, match=r"shape \(4,\); got \(2,\)"):
        State(torch.zeros(4, 2), log_weight=torch.zeros(2), particles=2)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_numbers_stop_the_run(value: float) -> None:
    class Spoils(Kernel):
        def step(self, model, state, sigma, sigma_next, draws):
            return state.replace(log_weight=torch.tensor([0.0, -math.inf, value, 0.0]))

    x = torch.zeros(4, 2, dtype=torch.float64)
    with pytest.raises(NonFiniteError, match=r"step 1 of 3, sigma 2: 25.0% of 4 log weights"):
        run(Spoils(), MODEL, LADDER, State(x, particles=2))


FLOW = [name for name, kind in SAMPLERS.items() if not kind.draws_noise]


@pytest.mark.parametrize("sampler", FLOW)
def test_a_run_reordered_in_its_middle_ends_in_that_order(sampler: str) -> None:
    """Kernels without noise: the memory of a multistep method moves along with x."""
    model = GaussianMixture([[-2.0, 0.0], [2.0, 1.0]], 0.5)
    x, index = model.sample(6, 4.0), torch.tensor([5, 0, 3, 3, 1, 2])

    @dataclass(frozen=True)
    class Reorders(Kernel):
        inner: Kernel
        with_memory: bool = True

        def start(self, model, ladder, state, draws):
            return self.inner.start(model, ladder, state, draws)

        def step(self, model, state, sigma, sigma_next, draws):
            moved = self.inner.step(model, state, sigma, sigma_next, draws)
            if draws.step != 1:
                return moved
            return moved.select(index) if self.with_memory else moved.replace(x=moved.x[index])

    kernel = SAMPLERS[sampler]()
    whole = run(kernel, model, LADDER, x).x
    moved = run(Reorders(kernel), model, LADDER, x).x
    torch.testing.assert_close(moved, whole[index], rtol=1e-12, atol=1e-12)
    if kernel.keeps_history:  # the control: memory left behind
        wrong = run(Reorders(kernel, with_memory=False), model, LADDER, x).x
        assert not torch.allclose(wrong, whole[index], rtol=1e-3, atol=1e-3)


# ---- groups


@dataclass(frozen=True)
class Weighs(Kernel):
    """Weighs by x and resamples each group by its weights."""

    draws_noise: ClassVar[bool] = True

    def start(self, model, ladder, state, draws):
        return state.replace(log_weight=torch.zeros(len(state.x), dtype=state.x.dtype))

    def step(self, model, state, sigma, sigma_next, draws):
        x = model.denoise(state.x, sigma) + float(sigma_next) * draws.normal()
        weight = state.log_weight + x[:, 0] / 3
        logs = weight.reshape(state.groups, state.particles)
        ladder = logs.softmax(1).cumsum(1)
        place = torch.arange(state.particles) + draws.group_uniform()[:, None]
        index = torch.searchsorted(ladder, place / state.particles)
        index = index.clamp(max=state.particles - 1)
        first = torch.arange(state.groups)[:, None] * state.particles
        return state.replace(x=x, log_weight=weight).select((index + first).flatten())


MODEL = Gaussian([0.0, 0.0], 1.0)


def drawn(count: int, particles: int, batch: int | None = None, seed: int = 0) -> Any:
    recipe = resolve_sampling(MODEL, Weighs(), ladder=LADDER)
    return draw(MODEL, recipe, rng.keys(seed, count), particles=particles, batch=batch)


@pytest.mark.parametrize("batch", [1, 4, 6, 7, 9, 100])
def test_batches_never_cut_a_group(batch: int) -> None:
    whole, parts = drawn(24, 4, batch=24), drawn(24, 4, batch=batch)
    assert torch.equal(parts.x, whole.x)
    assert torch.equal(parts.log_weight, whole.log_weight)


def test_a_group_does_not_depend_on_other_groups() -> None:
    whole = drawn(24, 4)
    assert torch.equal(drawn(8, 4).x, whole.x[:8])
    # the control: with groups of another size the particles meet others
    assert not torch.equal(drawn(24, 8).x[:4], whole.x[:4])


def test_groups_must_be_whole() -> None:
    with pytest.raises(InputError, match="whole groups of 5"):
        drawn(24, 5)
    with pytest.raises(InputError, match="whole groups of 3"):
        State(torch.zeros(4, 2), particles=3)


def test_group_uniforms_are_one_a_group_and_independent_of_normals() -> None:
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    class Looks(Kernel):
        def step(self, model, state, sigma, sigma_next, draws):
            seen.append((draws.group_uniform(), draws.uniform(), draws.normal()))
            return state

    count = 40000
    x = torch.zeros(count, 2, dtype=torch.float64)
    run(Looks(), MODEL, [2.0, 1.0], State(x, particles=2), final="none", keys=rng.keys(3, count))
    group, own, normal = seen[0]
    assert group.shape == (count // 2,) and own.shape == (count,)
    bound = 4.5 / (count // 2) ** 0.5
    for other in (own[::2], own[1::2], torch.special.ndtr(normal[::2, 0])):
        correlation = torch.corrcoef(torch.stack([group, other.to(group.dtype)]))[0, 1]
        assert abs(float(correlation)) < bound


def test_group_uniforms_do_not_depend_on_what_was_drawn_before() -> None:
    """They are functions of the key of the group's first row, the step and the call alone."""
    x, keys = torch.zeros(12, 2, dtype=torch.float64), rng.keys(1, 12)

    def numbers(rows: Tensor, keys: Tensor, before: int) -> list[Tensor]:
        found: list[Tensor] = []

        class Looks(Kernel):
            def step(self, model, state, sigma, sigma_next, draws):
                for _ in range(before):
                    draws.normal(), draws.uniform()
                found.extend([draws.group_uniform(), draws.group_uniform()])
                return state

        run(Looks(), MODEL, LADDER, State(rows, particles=3), final="none", keys=keys)
        return found

    found = numbers(x, keys, 0)
    assert all(a.dtype == torch.float64 and a.shape == (4,) for a in found)
    assert len(torch.cat(found).unique()) == 4 * len(found)  # every call and step has its own
    assert all(torch.equal(a, b) for a, b in zip(found, numbers(x, keys, 2), strict=True))
    others = keys.clone()
    others[1::3], others[2::3] = rng.keys(2, 4), rng.keys(3, 4)
    assert all(torch.equal(a, b) for a, b in zip(found, numbers(x, others, 0), strict=True))
    last = numbers(x[:3], keys[9:], 0)
    assert all(torch.equal(a[3:], b) for a, b in zip(found, last, strict=True))


def test_only_a_compiled_network_is_padded_and_with_whole_groups() -> None:
    class Zero(nn.Module):
        def forward(self, x, noise_input, condition):
            return 0 * x

    model = Preconditioned(Zero(), (2,), 0.05, 20.0)
    seen: list[int] = []

    class Looks(Weighs):
        def step(self, model, state, sigma, sigma_next, draws):
            seen.append(len(state.x))
            return super().step(model, state, sigma, sigma_next, draws)

    recipe = resolve_sampling(model, Looks(), ladder=[2.0, 1.0])
    results = []
    for compiled, sizes in ((False, [8, 8, 4]), (True, [8, 8, 8])):
        model.compiled = compiled
        seen.clear()
        found = draw(model, recipe, rng.keys(0, 20), particles=4, batch=8)
        assert seen == sizes
        assert found.x.shape == (20, 2) and found.log_weight.shape == (20,)
        results.append(found.x)
    assert torch.equal(*results)


def test_conditions_stay_with_their_rows_when_particles_are_resampled() -> None:
    """Groups share a condition, so particles that are copied within a group keep it."""
    model = GaussianMixture([[-30.0, 0.0], [30.0, 0.0]], 1.0, labels=[0, 1])
    recipe = resolve_sampling(model, Weighs(), ladder=LADDER)
    labels = torch.tensor([0, 1, 1]).repeat_interleave(4)
    found = draw(model, recipe, rng.keys(0, 12), particles=4, condition={"class": labels})
    assert torch.equal((found.x[:, 0] > 0).long(), labels)


def test_every_evaluation_after_a_selection_sees_the_condition_of_its_row() -> None:
    """Also where particles are copied in every step, and for copies that padding makes."""
    seen: list[Tensor] = []

    class Watches(GaussianMixture):
        def denoise(self, x, sigma, condition=None):
            seen.append(condition["class"])
            return super().denoise(x, sigma, condition)

    model = Watches([[-3.0, 0.0], [3.0, 0.0]], 1.0, labels=[0, 1])
    recipe = resolve_sampling(model, Weighs(), ladder=LADDER)
    labels = torch.tensor([0, 1, 1]).repeat_interleave(4)
    for compiled, rows in ((False, [labels[:8], labels[8:]]), (True, [labels[:8], labels[4:]])):
        model.compiled = compiled
        seen.clear()
        draw(model, recipe, rng.keys(0, 12), particles=4, batch=8, condition={"class": labels})
        evaluations = len(LADDER)  # a step each but for the last level, and the final denoise
        want = [part for part in rows for _ in range(evaluations)]
        assert all(torch.equal(a, b) for a, b in zip(seen, want, strict=True))


# ---- a posterior in closed form


@dataclass(frozen=True)
class Memory:
    inner: Any
    told: Tensor  # (B,) log potential that the weights already hold
    log_evidence: Tensor  # (B,) the same number in each row of a group


@dataclass(frozen=True)
class ParticleFilter(Kernel):
    """Draws of x0 given y = x0[0] + noise_std n, from any kernel that draws from the prior.

    The weight of a path is the likelihood of y at its end; on the way particles are weighted by
    N(y; D(x, sigma)[0], noise_std² + v sigma²/(v + sigma²)), which only guides the resampling.
    """

    y: float = 2.5
    noise_std: float = 0.5
    kernel: Kernel = field(default_factory=DPMSolver2MSDE)
    draws_noise: ClassVar[bool] = True

    def start(self, model, ladder, state: State, draws: Draws) -> State:
        inner = self.kernel.start(model, ladder, state, draws).memory
        zero = torch.zeros(len(state.x), dtype=torch.float64)
        return state.replace(memory=Memory(inner, zero, zero), log_weight=zero)

    def step(self, model, state: State, sigma, sigma_next, draws: Draws) -> State:
        state = self.resample(state, draws)
        memory: Memory = state.memory
        inner = state.replace(memory=memory.inner)
        inner = self.kernel.step(model, inner, sigma, sigma_next, draws)
        told = self.potential(model, inner.x, sigma_next)
        weight = state.log_weight + told - memory.told
        memory = Memory(inner.memory, told, memory.log_evidence)
        return state.replace(x=inner.x, memory=memory, log_weight=weight)

    def potential(self, model: ScoreModel, x: Tensor, sigma: Tensor) -> Tensor:
        v, square = model.moments().variance[0], sigma**2
        variance = self.noise_std**2 + v * square / (v + square)
        away = (self.y - model.denoise(x, sigma)[:, 0]).square() / variance
        return -(away + (2 * math.pi * variance).log()) / 2

    def resample(self, state: State, draws: Draws) -> State:
        """Systematic resampling of every group; weights go into the evidence and become equal."""
        logs = state.log_weight.reshape(state.groups, state.particles)
        mean = logs.logsumexp(1) - math.log(state.particles)
        place = torch.arange(state.particles) + draws.group_uniform()[:, None]
        index = torch.searchsorted(logs.softmax(1).cumsum(1), place / state.particles)
        index = index.clamp(max=state.particles - 1)
        index = index + torch.arange(state.groups)[:, None] * state.particles
        chosen = self.select(state, index.flatten())
        memory: Memory = chosen.memory
        evidence = memory.log_evidence + mean.repeat_interleave(state.particles)
        memory = Memory(memory.inner, memory.told, evidence)
        return chosen.replace(memory=memory, log_weight=torch.zeros_like(state.log_weight))

    def select(self, state: State, index: Tensor) -> State:
        return state.select(index)


PRIOR = Gaussian([1.0, -2.0], [[2.0, 0.6], [0.6, 0.5]])


def deviations(kernel: ParticleFilter, groups: int = 1000, particles: int = 16) -> Tensor:
    """Errors of evidence and posterior mean in standard errors over the groups: (3,).

    With Z_g the evidence and m_g the weighted mean of group g, E[Z_g] = p(y) and
    E[Z_g (m_g - E[x0 | y])] = 0 hold for any number of particles.
    """
    covariance, mean = PRIOR.moments().covariance, PRIOR.moments().mean
    total = float(covariance[0, 0]) + kernel.noise_std**2
    away = kernel.y - float(mean[0])
    density = math.exp(-(away**2) / (2 * total)) / math.sqrt(2 * math.pi * total)
    posterior = mean + covariance[0] / total * away
    ladder, keys = geometric(40.0, 0.005, 96), rng.keys(5, groups * particles)
    x = PRIOR.sample(len(keys), float(ladder[0]), seed=6)
    end = run(kernel, PRIOR, ladder, State(x, particles=particles), keys=keys)
    logs = (end.state.log_weight + end.state.memory.log_evidence).reshape(groups, particles)
    weight = logs.exp()[..., None]
    parts = weight * (end.x.reshape(groups, particles, 2) - posterior)
    errors = torch.cat([weight.mean(1) - density, parts.mean(1)], 1)
    return errors.mean(0) / errors.std(0) * math.sqrt(groups)


def test_a_population_has_the_evidence_and_the_posterior_mean_of_the_closed_form() -> None:
    """The second element is not observed: it follows through the prior's correlation."""
    assert float(deviations(ParticleFilter()).abs().max()) < 4.5


def test_broken_populations_miss_the_closed_form() -> None:
    class KeepsWeights(ParticleFilter):
        """Resampling without setting the weights back."""

        def resample(self, state, draws):
            both = replace(state.memory, inner=(state.memory.inner, state.log_weight))
            done = super().resample(state.replace(memory=both), draws)
            inner, weight = done.memory.inner
            return done.replace(memory=replace(done.memory, inner=inner), log_weight=weight)

    class IgnoresWeights(ParticleFilter):
        """The potential is one everywhere."""

        def potential(self, model, x, sigma):
            return torch.zeros(len(x), dtype=torch.float64)

    class LeavesHistory(ParticleFilter):
        """Earlier denoised values stay where they were while x moves."""

        def select(self, state, index):
            chosen = state.select(index)
            return chosen.replace(memory=replace(chosen.memory, inner=state.memory.inner))

    class SumsWeights(ParticleFilter):
        """The evidence takes sums of weights where means belong."""

        def resample(self, state, draws):
            louder = state.log_weight + math.log(state.particles)
            return super().resample(state.replace(log_weight=louder), draws)

    for wrong in (KeepsWeights(), IgnoresWeights(), LeavesHistory(), SumsWeights()):
        assert float(deviations(wrong).abs().max()) > 10, type(wrong).__name__


def test_the_example_fails_where_resampling_does_not_set_weights_back() -> None:
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "population.py"))
    resampling = example["Resampling"]

    class KeepsWeights(resampling):
        def resample(self, state, draws):
            memory = state.memory, state.log_weight
            done = super().resample(state.replace(memory=memory), draws)
            return done.replace(memory=done.memory[0], log_weight=done.memory[1])

    right, wrong = (example["estimate"](k, 400, 64)[0] for k in (resampling(), KeepsWeights()))
    truth = math.exp(-(1.5**2) / 4.25 / 2) / math.sqrt(2 * math.pi * 4.25)
    errors = [float(abs(e.mean() - truth) / e.std()) * 20 for e in (right, wrong)]
    assert errors[0] < 4.5
    assert errors[1] > 10


# ---- Projected


def test_projected_equals_a_loop_by_hand_and_refuses_other_kernels() -> None:
    def project(x: Tensor, sigma: Tensor, noise: Any) -> Tensor:
        return torch.cat([1.5 + float(sigma) * noise(per="level")[:, :1], x[:, 1:]], 1)

    keys, x = rng.keys(0, 5), MODEL.sample(5, 4.0)
    kernel = Projected(AnnealedLangevin(0.01), project)
    found = run(kernel, MODEL, [4.0, 2.0], x, 2, "none", keys=keys).x
    by_hand, step = x, 0
    for level, sigma in enumerate((4.0, 2.0)):
        eps = 0.01 * (sigma / 2.0) ** 2
        for _ in range(2):
            z = rng.normal(keys, rng.Stream.KERNEL, step, (2,), torch.float64)
            by_hand = by_hand + eps * MODEL.score(by_hand, sigma) + (2 * eps) ** 0.5 * z
            y = rng.normal(keys, rng.Stream.PROJECTION, level, (2,), torch.float64, draw=1)
            by_hand = torch.cat([1.5 + sigma * y[:, :1], by_hand[:, 1:]], 1)
            step += 1
    torch.testing.assert_close(found, by_hand, rtol=1e-12, atol=1e-12)
    for other in (Heun(), MALA(0.1)):
        with pytest.raises(InputError, match="does not support `project`"):
            Projected(other, project)


def test_projected_claims_what_its_kernel_claims() -> None:
    @dataclass(frozen=True)
    class Between(Langevin):
        needs_continuous_sigma = True

    @dataclass(frozen=True)
    class Moves(Heun):
        allows_projection = True

    def project(x: Tensor, sigma: Tensor, noise: Any) -> Tensor:
        return x

    assert Projected(Between(0.1), project).needs_continuous_sigma
    assert not Projected(Langevin(0.1), project).needs_continuous_sigma
    with pytest.raises(InputError, match="Moves does not support `project`: its steps assume"):
        Projected(Moves(), project)
    with pytest.raises(InputError, match="MALA does not support `project`: it accepts or rejects"):
        Projected(MALA(0.1), project)
    with pytest.raises(InputError, match="wraps a kernel; got 'langevin'"):
        Projected("langevin", project)


def test_options_that_are_tensors_fit_into_json() -> None:
    @dataclass(frozen=True)
    class Observes(Weighs):
        y: Tensor | None = None

    recipe = resolve_sampling(MODEL, Observes(torch.tensor([1.0, 2.0])), ladder=LADDER)
    assert json.loads(json.dumps(recipe.to_dict()))["options"] == {"y": [1.0, 2.0]}
