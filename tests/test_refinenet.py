"""The published networks: InstanceNorm++ against its definition, and what training asks of any
network. The originals' outputs: test_interop.
"""

import json

import pytest
import torch
import torch.nn.functional as F

from scorefield.errors import InputError
from scorefield.models import Preconditioned
from scorefield.networks import build, options
from scorefield.networks.refinenet import (
    VARIANTS,
    MeanPool,
    Residual,
    activate,
    halve,
    instance_norm_plus,
)
from scorefield.noise import geometric

SMALL = {"width": 4, "levels": 3}


def network(variant: str, event: tuple[int, ...] = (2, 12, 16), **more: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build("refinenet", event, variant=variant, **{**SMALL, **more})


def batch(
    event: tuple[int, ...] = (2, 12, 16), count: int = 3
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(count, *event, generator=torch.Generator().manual_seed(1)), torch.arange(
        count
    ) % 3


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_table_is_whole(variant: str) -> None:
    plan = VARIANTS[variant]
    seen = [stage.name for stage in plan.stages]
    assert not plan.stages[0].down and plan.stages[0].width == 1
    for join in (
        plan.joins
    ):  # every join takes what is there already: a stage first, then the join before it
        assert set(join.inputs) <= set(seen)
        assert join.inputs[0].startswith("res")
        seen.append(join.name)
    used = [name for join in plan.joins for name in join.inputs if name.startswith("res")]
    assert (
        sorted(used) == sorted(s.name for s in plan.stages if s.name in used)
        and used[-1] == "res1"
        and plan.joins[-1].width == 1
    )


def test_norm_is_its_definition() -> None:
    """Against torch's instance norm and standardised means, row by row in float64; the mean over
    space must survive, as alpha m' + beta.
    """
    x = (
        torch.randn(3, 5, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
        + 7
    )
    gamma, alpha, beta = torch.randn(
        3, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    mean = x.mean((2, 3))
    m = (mean - mean.mean(1, keepdim=True)) / (mean.var(1, keepdim=True) + 1e-5).sqrt()
    expected = (
        gamma[..., None, None] * (F.instance_norm(x, eps=1e-5) + (alpha * m)[..., None, None])
        + beta[..., None, None]
    )
    got = instance_norm_plus(x, gamma, alpha, beta)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    biased = (mean - mean.mean(1, keepdim=True)) / (
        mean.var(1, keepdim=True, correction=0) + 1e-5
    ).sqrt()
    assert float((biased - m).abs().max()) > 0.05  # the control: the other variance would be seen
    low = instance_norm_plus(x.bfloat16(), gamma.float(), alpha.float(), beta.float())
    assert low.dtype == torch.bfloat16 and float((low.double() - expected).abs().max()) < 0.1


def test_norm_has_the_derivatives_of_its_definition() -> None:
    """The variance is taken about a constant: first and second derivatives in x and rows against
    the definition's, and against none of the
    correction, which leaves the first as it is and spoils the second (the control)."""

    def definition(
        x: torch.Tensor, gamma: torch.Tensor, alpha: torch.Tensor, beta: torch.Tensor
    ) -> torch.Tensor:
        mean = x.mean((2, 3))
        m = (mean - mean.mean(1, keepdim=True)) / (mean.var(1, keepdim=True) + 1e-5).sqrt()
        return (
            gamma[..., None, None] * (F.instance_norm(x, eps=1e-5) + (alpha * m)[..., None, None])
            + beta[..., None, None]
        )

    def uncorrected(
        x: torch.Tensor, gamma: torch.Tensor, alpha: torch.Tensor, beta: torch.Tensor
    ) -> torch.Tensor:
        mean = x.mean((2, 3), keepdim=True)
        scale = torch.rsqrt((x - mean.detach()).square().mean((2, 3), keepdim=True) + 1e-5)
        m = definition(x, torch.zeros_like(gamma), alpha, beta) * 0
        return gamma[..., None, None] * (x - mean) * scale + m

    def derivatives(norm) -> tuple[torch.Tensor, ...]:  # type: ignore[no-untyped-def]
        made = torch.Generator().manual_seed(2)
        x = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=made).requires_grad_()
        rows = [
            torch.randn(2, 3, dtype=torch.float64, generator=made).requires_grad_()
            for _ in range(3)
        ]
        v, w = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64, generator=made)
        first = torch.autograd.grad((norm(x, *rows).sin() * v).sum(), [x, *rows], create_graph=True)
        return (*first, *torch.autograd.grad((first[0] * w).sum(), [x, *rows]))

    torch.testing.assert_close(
        derivatives(instance_norm_plus), derivatives(definition), rtol=1e-9, atol=1e-11
    )
    plain = lambda x, g, a, b: definition(x, g, a * 0, b * 0)  # noqa: E731
    got, expected = derivatives(uncorrected), derivatives(plain)
    torch.testing.assert_close(got[:2], expected[:2], rtol=1e-9, atol=1e-11)
    assert float((got[4] - expected[4]).abs().max()) > 1e-2


def test_mean_pool_is_torchs_and_its_own_derivative() -> None:
    """5 x 5 means over 25 everywhere, on sides shorter than the window too; gradients to second
    order by finite differences.
    """
    for shape in ((2, 3, 9, 6), (1, 2, 1, 3)):
        x = torch.randn(
            shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        ).requires_grad_()
        torch.testing.assert_close(
            MeanPool.apply(x), F.avg_pool2d(x, 5, 1, 2), rtol=1e-12, atol=1e-14
        )
        assert torch.autograd.gradcheck(MeanPool.apply, x)
        assert torch.autograd.gradgradcheck(lambda x: MeanPool.apply(x).square(), x)
    inner = F.avg_pool2d(torch.ones(1, 1, 9, 9), 5, 1, 2, count_include_pad=False)
    assert (
        float((MeanPool.apply(torch.ones(1, 1, 9, 9)) - inner).abs().max()) > 0.5
    )  # the control: the border counts its zeros


def test_activation_is_elu_with_its_derivatives() -> None:
    x = torch.linspace(-3, 3, 20, dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(activate(x * 1), F.elu(x))
    assert torch.autograd.gradcheck(lambda x: activate(x * 2), x)
    assert torch.autograd.gradgradcheck(lambda x: activate(x * 2), x)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns(variant: str) -> None:
    net, (x, t) = network(variant), batch()
    net(x, t, None).square().sum().backward()
    dead = [
        name
        for name, p in net.named_parameters()
        if p.grad is None or float(p.grad.abs().max()) == 0
    ]
    assert not dead


@pytest.mark.parametrize("variant", VARIANTS)
def test_samples_do_not_see_their_batch_mates(variant: str) -> None:
    net, (x, t) = network(variant).double(), batch()
    together = net(x.double(), t, None)
    for k in range(len(x)):
        torch.testing.assert_close(
            net(x[k : k + 1].double(), t[k : k + 1], None)[0], together[k], rtol=1e-10, atol=1e-10
        )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("event", [(1, 28, 28), (3, 7, 13), (4, 1, 5), (1, 1, 1)])
def test_any_size_and_channels(variant: str, event: tuple[int, ...]) -> None:
    x, t = batch(event)
    out = network(variant, event)(x, t, None)
    assert out.shape == x.shape and bool(torch.isfinite(out).all())


@pytest.mark.parametrize("variant", VARIANTS)
def test_options_rebuild_the_network(variant: str) -> None:
    net, (x, t) = network(variant, rescaled=True), batch()
    again = build("refinenet", (2, 12, 16), **json.loads(json.dumps(options(net))))
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(x, t, None), net(x, t, None))
    plain = network(variant)
    assert torch.allclose(
        plain((x + 1) / 2, t, None), net(x, t, None), atol=1e-6
    )  # rescaled: x is what 2x - 1 would be


def test_only_the_conditional_variant_depends_on_the_level() -> None:
    x, t = batch()
    assert not torch.allclose(
        network("ncsn")(x, t, None), network("ncsn")(x, t.flip(0), None), atol=1e-4
    )
    assert torch.equal(network("ncsnv2")(x, t, None), network("ncsnv2")(x, None, None))
    with pytest.raises(InputError, match="preconditioner ncsn"):
        network("ncsn")(x, None, None)


def test_pointwise_shortcut_commutes_with_the_pool() -> None:
    block, x = Residual(3, 6, 0, down=True), torch.randn(2, 3, 6, 8)
    torch.testing.assert_close(
        block.shortcut(x), halve(block.shortcut.conv(x)), rtol=1e-5, atol=1e-6
    )


def test_bad_options_are_refused() -> None:
    for event, more, words in (
        ((3, 8, 8), {"variant": "ncsnv3"}, "variant must be one of"),
        ((3, 8), {}, "needs images"),
        ((3, 8, 8), {"width": 1}, "width of at least 2"),
    ):
        with pytest.raises(InputError, match=words):
            build("refinenet", event, **more)


def test_published_widths() -> None:
    with torch.device("meta"):
        assert options(build("refinenet", (3, 32, 32))) == {
            "variant": "ncsn",
            "width": 128,
            "levels": 10,
            "rescaled": False,
        }
        assert options(build("refinenet", (1, 28, 28), variant="ncsnv2")) == {
            "variant": "ncsnv2",
            "width": 64,
            "levels": 0,
            "rescaled": False,
        }


def test_bfloat16_stays_near_float32() -> None:
    x, _ = batch()
    model = Preconditioned(
        network("ncsn", width=16), (2, 12, 16), 0.01, 1.0, "ncsn", ladder=geometric(1, 0.01, 3)
    ).eval()
    with torch.no_grad():
        exact = model.score(x, 0.1)
        model.autocast = torch.bfloat16
        near = model.score(x, 0.1)
    assert 0 < float((near - exact).abs().max() / exact.abs().max()) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["ncsn", "ncsnv2"])
def test_compiled_is_the_same(variant: str) -> None:
    net, (x, t) = network(variant), batch()
    eager = net(x, t, None)
    net.compile(dynamic=False)
    torch.testing.assert_close(
        net(x, t, None), eager, rtol=1e-4, atol=1e-5 * float(eager.abs().max())
    )
