"""Averages rebuilt after training: the formulas against quadrature, the rebuilt average against the
one that was tracked.
"""

import numpy as np
import pytest
import torch

from scorefield.errors import InputError
from scorefield.training.ema import EMA, gamma_of
from scorefield.training.posthoc import coefficients, inner_products, rebuild, save_snapshot


@pytest.mark.parametrize(
    ("ta", "ga", "tb", "gb"), [(1.0, 6.9, 1.0, 16.9), (0.5, 6.9, 0.8, 3.0), (0.9, 20.0, 0.3, 20.0)]
)
def test_inner_products_against_quadrature(ta, ga, tb, gb):
    t = (np.arange(400_000) + 0.5) / 400_000
    pa, pb = ((g + 1) * t**g / end ** (g + 1) * (t <= end) for end, g in ((ta, ga), (tb, gb)))
    got = inner_products(np.array([ta]), np.array([ga]), np.array([tb]), np.array([gb]))[0, 0]
    assert got == pytest.approx((pa * pb).mean(), rel=1e-4)


def wander(steps: int) -> torch.Tensor:
    """Weights (steps, 50) that drift and jitter as under an optimiser whose rate falls."""
    g = torch.Generator().manual_seed(0)
    rate = 0.5 * (1 + torch.cos(torch.linspace(0, torch.pi, steps))).double()
    return (torch.randn(steps, 50, generator=g).double() * rate[:, None]).cumsum(
        0
    ) * 0.05 + torch.randn(50, generator=g).double()


def test_rebuilt_width_agrees_with_the_tracked_one(tmp_path):
    """0.075 from snapshots of 0.05 and 0.10 at 64 times: within 1e-2 of the distance between
    average and live weights.
    """
    network = torch.nn.Linear(50, 1, bias=False).double()
    steps, batch = 6400, 256
    path = wander(steps)
    with torch.no_grad():
        network.weight.copy_(path[:1])
    tracked, direct = [EMA(network, "power", w) for w in (0.05, 0.10)], EMA(network, "power", 0.075)
    for step in range(steps):
        with torch.no_grad():
            network.weight.copy_(path[step : step + 1])
        for ema in (*tracked, direct):
            ema.update(network, (step + 1) * batch, batch)
        if (step + 1) % 100 == 0:
            save_snapshot(tmp_path, (step + 1) * batch, tracked)
    rebuilt, truth, live = (
        rebuild(tmp_path, 0.075)["weight"],
        direct.weights["weight"],
        network.weight.detach(),
    )
    assert (rebuilt - truth).norm() <= 1e-2 * (truth - live).norm()
    other = rebuild(tmp_path, 0.10)["weight"]  # negative control: another width does not agree
    assert (other - truth).norm() > 5e-2 * (truth - live).norm()
    assert torch.allclose(
        other, tracked[1].weights["weight"], atol=1e-6
    )  # a tracked width comes back


def test_a_rebuilt_constant_is_the_constant():
    times, gammas = np.repeat(np.arange(1.0, 65.0), 2), np.tile([gamma_of(0.05), gamma_of(0.1)], 64)
    assert coefficients(times, gammas, 64.0, gamma_of(0.075)).sum() == pytest.approx(1.0, abs=1e-3)


def test_without_snapshots_it_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="snapshots"):
        rebuild(tmp_path, 0.1)
    with pytest.raises(InputError, match="width"):
        rebuild(tmp_path, 0.5)
