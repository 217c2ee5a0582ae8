"""Particle populations: states are selected as a whole, batches never cut a group."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from scorefield import rng
from scorefield.errors import InputError
from scorefield.exact import Gaussian, GaussianMixture
from scorefield.models import Preconditioned
from scorefield.sampling import (
    MALA,
    SAMPLERS,
    AnnealedLangevin,
    Heun,
    History,
    Kernel,
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
    use_groups: bool = True

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
