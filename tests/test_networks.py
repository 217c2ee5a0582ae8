"""Networks keep shapes, treat samples apart, start at zero, learn everywhere and are rebuilt from
their options.
"""

import json

import pytest
import torch

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
    network = randomise(small(name, event, condition=3))
    x, t = batch(event)
    network(x, t, torch.ones(len(x), 3)).square().sum().backward()
    dead = [
        key
        for key, p in network.named_parameters()
        if p.grad is None or float(p.grad.abs().max()) == 0
    ]
    assert not dead


@pytest.mark.parametrize("name", EVENTS)
def test_noise_input_and_condition_are_heard(name: str) -> None:
    event = EVENTS[name][0]
    network, (x, t) = randomise(small(name, event, condition=2)), batch(event)
    base = network(x, t, torch.zeros(len(x), 2)).detach()
    assert float((network(x, t + 1, torch.zeros(len(x), 2)).detach() - base).abs().max()) > 1e-4
    assert float((network(x, t, torch.ones(len(x), 2)).detach() - base).abs().max()) > 1e-4
    index = network(
        x, torch.tensor([0, 1, 2, 3]), None
    )  # index-conditioned preconditioners feed whole numbers
    assert index.dtype == x.dtype and bool(torch.isfinite(index).all())


@pytest.mark.parametrize(("name", "event"), CASES)
def test_options_rebuild_the_network(name: str, event: tuple[int, ...]) -> None:
    network = small(name, event, condition=1)
    again = build(name, event, **json.loads(json.dumps(options(network))))
    again.load_state_dict(randomise(network).state_dict())
    x, t = batch(event)
    assert options(again) == options(network)
    assert torch.equal(again(x, t, torch.ones(len(x), 1)), network(x, t, torch.ones(len(x), 1)))


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
def test_bad_input_is_said(name: str, event: tuple[int, ...], more: dict[str, object]) -> None:
    with pytest.raises(InputError, match="got"):
        build(name, event, **more)


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
