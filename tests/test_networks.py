"""Networks keep shapes, treat samples apart, start at zero, learn everywhere and are rebuilt from
their options.
"""

import json

import pytest
import torch

from scorefield.conditions import ConditionSpec, drop, null, take
from scorefield.errors import InputError
from scorefield.networks import NETWORKS, build, options
from scorefield.networks.layers import depth_to_space, fourier, rms_norm, space_to_depth
from scorefield.networks.unet import size_from_data

EVENTS = {
    "unet": [
        (1, 28, 28),
        (3, 9, 17),
        (1, 8, 8),
        (1, 1, 1),
        (2, 37),
        (1, 64),
        (1, 5, 6, 7),
        (2, 16, 12, 16),
        (1, 40, 3),
    ],
    "mlp": [(2,), (17,), (1, 4, 3), (1,)],
}
CASES = [(name, event) for name in NETWORKS for event in EVENTS.get(name, [])]
BOTH = {"class": ConditionSpec("class", 3), "vector": ConditionSpec("vector", 2)}
SMALL = {
    "unet": {"widths": [8, 12], "depths": [1, 1], "embedding": 16},
    "mlp": {"width": 16, "depth": 2, "embedding": 8},
}


def randomise(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter a random number: layers that start at zero would hide what is behind them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.1)
    return network


def small(name: str, event: tuple[int, ...], **more: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(name, event, **SMALL[name], **more)


def batch(event: tuple[int, ...], count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, *event, generator=generator), torch.randn(count, generator=generator)


def test_every_network_has_events_here() -> None:
    assert (
        set(NETWORKS) - {"refinenet"} == set(EVENTS) == set(SMALL)
    )  # the published networks start elsewhere: test_refinenet


@pytest.mark.parametrize(("name", "event"), CASES)
def test_shape_and_zero_start(name: str, event: tuple[int, ...]) -> None:
    network, (x, t) = small(name, event), batch(event)
    assert torch.equal(
        network(x, t, None), torch.zeros_like(x)
    )  # so a model starts as its preconditioner's skip
    out = randomise(network)(x, t, None)
    assert (
        out.shape == x.shape
        and out.dtype == x.dtype
        and bool(torch.isfinite(out).all())
        and float(out.detach().std()) > 0
    )
    assert network(x, None, None).shape == x.shape  # NCSNv2 feeds no noise input


@pytest.mark.parametrize(("name", "event"), CASES)
def test_samples_do_not_see_their_batch_mates(name: str, event: tuple[int, ...]) -> None:
    network, (x, t) = randomise(small(name, event)).double(), batch(event)
    x, t = x.double(), t.double()
    together = network(x, t, None)
    for k in range(len(x)):
        torch.testing.assert_close(
            network(x[k : k + 1], t[k : k + 1], None)[0], together[k], rtol=1e-11, atol=1e-11
        )


@pytest.mark.parametrize(("name", "event"), CASES)
def test_gradients_reach_every_parameter(name: str, event: tuple[int, ...]) -> None:
    network = randomise(small(name, event, conditions=BOTH))
    x, t = batch(event)
    # Null rows too: the rows of the tables that stand for "no condition" must learn.
    condition = {
        "class": torch.tensor([0, 1, 2, -1]),
        "vector": torch.tensor([[1.0, 2], [torch.nan] * 2, [0, 1], [3, 1]]),
    }
    network(x, t, condition).square().sum().backward()
    dead = [
        key
        for key, p in network.named_parameters()
        if p.grad is None or float(p.grad.abs().max()) == 0
    ]
    assert not dead


@pytest.mark.parametrize("name", EVENTS)
def test_the_output_depends_on_noise_input_and_condition(name: str) -> None:
    event = EVENTS[name][0]
    network, (x, t) = randomise(small(name, event, conditions=BOTH)), batch(event)
    zero = {"class": torch.zeros(4, dtype=torch.int64), "vector": torch.zeros(4, 2)}
    base = network(x, t, zero).detach()

    def moves(noise_input: torch.Tensor, condition: dict[str, torch.Tensor]) -> bool:
        return bool((network(x, noise_input, condition).detach() - base).abs().max() > 1e-4)

    assert not moves(t, zero)
    assert moves(t + 1, zero)
    assert moves(t, zero | {"class": torch.ones(4, dtype=torch.int64)})
    assert moves(t, zero | {"vector": torch.ones(4, 2)})
    index = network(
        x, torch.tensor([0, 1, 2, 3]), None
    )  # index-conditioned preconditioners feed whole numbers
    assert index.dtype == x.dtype and bool(torch.isfinite(index).all())


@pytest.mark.parametrize(("name", "event"), CASES)
def test_options_rebuild_the_network(name: str, event: tuple[int, ...]) -> None:
    network = small(name, event, conditions=BOTH)
    again = build(name, event, conditions=BOTH, **json.loads(json.dumps(options(network))))
    again.load_state_dict(randomise(network).state_dict())
    x, t = batch(event)
    assert options(again) == options(network)
    condition = {"class": torch.tensor([0, 1, 2, 0]), "vector": torch.ones(4, 2)}
    assert torch.equal(again(x, t, condition), network(x, t, condition))


@pytest.mark.parametrize("name", EVENTS)
def test_a_null_row_is_a_missing_condition(name: str) -> None:
    """Per row and per name: class -1 and a row of NaN are the same as a name left out."""
    event = EVENTS[name][0]
    network, (x, t) = randomise(small(name, event, conditions=BOTH)), batch(event)
    nothing = network(x, t, None)
    torch.testing.assert_close(network(x, t, null(BOTH, 4)), nothing)
    torch.testing.assert_close(network(x, t, {}), nothing)
    full = {"class": torch.tensor([0, 1, 2, 0]), "vector": torch.ones(4, 2)}
    for key in full:
        only = network(x, t, {key: full[key]})
        torch.testing.assert_close(
            network(x, t, full | null({k: BOTH[k] for k in BOTH if k != key}, 4)), only
        )
    dropped = torch.tensor([True, False, True, False])
    mixed, whole = network(x, t, drop(full, dropped)), network(x, t, full)
    torch.testing.assert_close(mixed[dropped], nothing[dropped])
    torch.testing.assert_close(mixed[~dropped], whole[~dropped])
    assert float((whole - nothing).detach().abs().max()) > 1e-4


@pytest.mark.parametrize("name", EVENTS)
def test_conditions_of_batch_mates_do_not_matter(name: str) -> None:
    event = EVENTS[name][0]
    network, (x, t) = randomise(small(name, event, conditions=BOTH)).double(), batch(event)
    x, t = x.double(), t.double()
    full = {"class": torch.tensor([0, 1, 2, -1]), "vector": torch.ones(4, 2, dtype=torch.float64)}
    together = network(x, t, full)
    for k in range(4):
        alone = network(x[k : k + 1], t[k : k + 1], take(full, slice(k, k + 1)))
        torch.testing.assert_close(alone[0], together[k], rtol=1e-11, atol=1e-11)
    assert network(x, t, {"vector": full["vector"].float()}).dtype == torch.float64


MATRICES = [*EVENTS, "refinenet"]


@pytest.mark.parametrize("name", MATRICES)
def test_networks_declare_the_matrices_of_their_hidden_layers(name: str) -> None:
    """Weights of 2 dimensions or more, each once; no stem, head, embedding or table of a norm."""
    if name == "refinenet":
        network = build(name, (1, 8, 8), variant="ncsn", width=4, levels=3)
    else:
        network = small(name, EVENTS[name][0], conditions=BOTH)
    names = {id(p): key for key, p in network.named_parameters()}
    declared = network.matrix_parameters()
    keys = [names[id(p)] for p in declared]
    assert len(set(keys)) == len(keys) > 0
    assert all(p.ndim >= 2 for p in declared)
    outside = ("embed", "stem", "head", "first", "last", "begin_conv", "end_conv", "normalizer")
    assert not [key for key in keys if key.split(".")[0] in outside or "norm" in key]
    hidden = sum(p.numel() for p in network.parameters() if p.ndim >= 2)
    assert sum(p.numel() for p in declared) > 0.3 * hidden


@pytest.mark.parametrize("event", [e for e in EVENTS["unet"] if len(e) > 2])
def test_memory_layout_does_not_matter(event: tuple[int, ...]) -> None:
    network, (x, t) = randomise(small("unet", event)), batch(event)
    layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    torch.testing.assert_close(
        network(x.contiguous(memory_format=layout), t, None),
        network(x, t, None),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("event", [(1, 28, 28), (1, 64)])
def test_convolutions_run_channels_last(event: tuple[int, ...]) -> None:
    network, (x, t) = small("unet", event), batch(event)
    seen: list[bool] = []
    layout = torch.channels_last
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda _, args, out: seen.append(
                    all(y.is_contiguous(memory_format=layout) for y in (*args, out))
                )
            )
    network(x, t, None)
    assert len(seen) >= 8 and all(seen)


@pytest.mark.parametrize(
    ("space", "factors"), [((6,), (3,)), ((4, 6), (2, 3)), ((2, 4, 6), (1, 2, 2))]
)
def test_folding(space: tuple[int, ...], factors: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *space)
    folded = space_to_depth(x, factors)
    assert torch.equal(depth_to_space(folded, factors), x)
    corner = x[
        (slice(None), slice(None), *(slice(0, f) for f in factors))
    ]  # the first block, its positions before its channels
    assert torch.equal(
        folded[(slice(None), slice(None), *(0 for _ in space))], corner.movedim(1, -1).flatten(1)
    )


def test_norm_is_per_position() -> None:
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(
        rms_norm(7 * x).square().mean(1),
        torch.ones(2, 3, 4, dtype=torch.float64),
        rtol=1e-5,
        atol=0,
    )


def test_fourier_keeps_float32_angles() -> None:
    t = torch.tensor([0.5, 100.0])
    assert torch.equal(
        fourier(t, 8), fourier(t.to(torch.int64).float() + torch.tensor([0.5, 0]), 8)
    )
    assert (
        fourier(t.bfloat16(), 8).dtype == torch.float32
        and fourier(t.double(), 8).dtype == torch.float64
    )
    torch.testing.assert_close(
        fourier(t.double(), 8).square().sum(1), torch.full((2,), 8.0, dtype=torch.float64)
    )


@pytest.mark.parametrize(
    ("event", "patch", "levels"),
    [
        ((1, 8, 8), 1, 2),
        ((1, 28, 28), 2, 2),
        ((3, 32, 32), 2, 2),
        ((3, 64, 64), 2, 3),
        ((3, 256, 256), 8, 3),
        ((1, 1024), 2, 7),
        ((1, 32, 32, 32), 4, 2),
        ((1, 1, 1), 1, 1),
    ],
)
def test_size_follows_the_data(event: tuple[int, ...], patch: int, levels: int) -> None:
    size = size_from_data(event)
    assert (size["patch"], len(size["widths"]), len(size["depths"])) == (patch, levels, levels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("event", "finest"),
    [
        ((1, 28, 28), 32),
        ((3, 32, 32), 32),
        ((3, 64, 64), 32),
        ((1, 32, 32, 32), 128),
        ((3, 256, 256), 192),
        ((1, 1024), 32),
    ],
)
def test_the_finest_level_holds_what_a_patch_holds(event: tuple[int, ...], finest: int) -> None:
    size = size_from_data(event)
    folded = event[0] * size["patch"] ** (len(event) - 1)  # type: ignore[operator]
    assert size["widths"][0] == finest and (finest >= 2 * folded or finest == 192)  # type: ignore[index]


def test_the_finest_level_has_blocks_on_the_way_up_only() -> None:
    network = build("unet", (1, 28, 28), widths=[8, 8, 8], depths=[2, 3, 1])
    assert [[len(blocks) for blocks in way] for way in (network.down, network.up)] == [
        [0, 3],
        [2, 3],
    ]  # type: ignore[union-attr,arg-type]
    assert len(network.middle) == 1  # type: ignore[arg-type]


def test_the_default_image_network_has_a_useful_size() -> None:
    assert 1.5e6 <= sum(p.numel() for p in build("unet", (1, 28, 28)).parameters()) <= 4e6


@pytest.mark.parametrize(
    ("name", "event", "more"),
    [
        ("unett", (1, 8, 8), {}),
        ("unet", (3,), {}),
        ("unet", (1, 2, 2, 2, 2), {}),
        ("unet", (1, 8, 8), {"widths": [8], "depths": [1, 1]}),
        ("mlp", (2,), {"width": 0}),
    ],
)
def test_bad_sizes_are_refused(name: str, event: tuple[int, ...], more: dict[str, object]) -> None:
    with pytest.raises(InputError, match="got"):
        build(name, event, **more)


@pytest.mark.parametrize(
    ("name", "event", "more", "words"),
    [
        ("unet", (1, 8, 8), {"width": 16}, "no option 'width'; did you mean 'widths'"),
        ("mlp", (2,), {"foo": 1}, "no option 'foo'.*It has width, depth, embedding"),
        ("mlp", (2,), {"width": "wide"}, "width must be a whole number; got the text 'wide'"),
        ("refinenet", (1, 8, 8), {"depth": 2}, "no option 'depth'"),
    ],
)
def test_options_that_a_network_does_not_have_are_refused(
    name: str, event: tuple[int, ...], more: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        build(name, event, **more)


def test_the_published_networks_take_no_conditions() -> None:
    with pytest.raises(InputError, match="condition"):
        build("refinenet", (1, 8, 8), conditions=BOTH)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "event"),
    [("unet", (1, 28, 28)), ("unet", (1, 32)), ("unet", (1, 9, 9, 9)), ("mlp", (2,))],
)
def test_compiled_equals_eager(name: str, event: tuple[int, ...]) -> None:
    network, (x, t) = randomise(small(name, event)), batch(event)
    torch.testing.assert_close(
        torch.compile(network)(x, t, None), network(x, t, None), rtol=1e-4, atol=1e-5
    )
