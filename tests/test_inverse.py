"""Inpainting: known elements exact, the rest drawn from the right conditional law, in any units,
independent of batch mates.
"""

import pytest
import torch

from scorefield import noise
from scorefield.errors import InputError
from scorefield.exact import Gaussian
from scorefield.inverse import Measurement, inpainting_projection, restore
from scorefield.inverse.operators import Mask
from scorefield.units import Units

RHO = 0.8
LADDER = noise.geometric(4.0, 0.02, 16)


def pair(shift: float = 0.0, scale: float = 1.0) -> Gaussian:
    """Two standard normals of correlation RHO in model units; data = shift + scale model."""
    model = Gaussian(
        torch.zeros(2, dtype=torch.float64),
        torch.tensor([[1.0, RHO], [RHO, 1.0]], dtype=torch.float64),
    )
    model.units = Units.affine(shift, scale)
    return model


def inpaint(
    model: Gaussian,
    y: float,
    draws: int,
    redraw: str = "level",
    seed: int = 0,
    steps: int = 150,
    batch: int = 4096,
):
    observed = torch.tensor([[y, 123.0]], dtype=torch.float64)  # the second is unknown: any number
    epsilon = 0.2 * float(LADDER[-1]) ** 2
    measurement = Measurement(observed, Mask(torch.tensor([True, False])))
    return restore(
        model,
        measurement,
        draws,
        seed,
        ladder=LADDER,
        steps_per_level=steps,
        epsilon=epsilon,
        redraw=redraw,
        batch=batch,
    )


@pytest.mark.parametrize("redraw", ["level", "step"])
@pytest.mark.parametrize("y", [-1.0, 2.0])
def test_draws_follow_the_conditional_law(redraw, y):
    """x2 | x1 = y is N(RHO y, 1 - RHO²). Levels below sigma = sqrt((1 - RHO²) / (T epsilon /
    sigma²)) = 0.11 no longer mix, so noise of up to
    0.11² stays on what is conditioned on: the mean may fall short by 0.11² of itself, besides 4.5
    standard errors.
    """
    n = 1500
    result = inpaint(pair(), y, n, redraw)
    x1, x2 = result.draws[0].unbind(1)
    assert (x1 == y).all()
    mean, variance = RHO * y, 1 - RHO**2
    assert abs(x2.mean().item() - mean) < 4.5 * (variance / n) ** 0.5 + 0.11**2 * abs(mean)
    assert abs(x2.var().item() / variance - 1) < 4.5 * (2 / n) ** 0.5 + 0.05
    assert torch.equal(result.mean[0], result.draws[0].mean(0))
    assert torch.allclose(result.std[0], result.draws[0].std(0))


def test_without_projection_the_conditional_law_is_missed(monkeypatch):
    """Negative control: pasting at the end alone gives x2 its marginal law."""
    from scorefield.inverse import restore as room

    module = __import__(room.__module__, fromlist=["restore"])
    monkeypatch.setattr(
        module, "inpainting_projection", lambda known, mask, redraw: lambda x, sigma, noise: x
    )
    x2 = inpaint(pair(), 2.0, 500, steps=40).draws[0, :, 1]
    assert abs(x2.mean().item() - RHO * 2) > 10 * (1 / 500) ** 0.5


def test_units_1000_and_minus_3():
    """Data scaled by 1000 and shifted by -3: restorations transform exactly."""
    plain, scaled = (
        inpaint(pair(), 0.5, 20, steps=10),
        inpaint(pair(-3.0, 1000.0), 0.5 * 1000 - 3, 20, steps=10),
    )
    assert torch.allclose(scaled.draws, plain.draws * 1000 - 3, rtol=1e-12, atol=1e-9)
    assert torch.allclose(scaled.std, plain.std * 1000, rtol=1e-9)


def test_a_draw_does_not_depend_on_its_batch():
    whole, parts = inpaint(pair(), 1.0, 12, steps=5), inpaint(pair(), 1.0, 12, steps=5, batch=5)
    assert torch.allclose(whole.draws, parts.draws, rtol=1e-12, atol=1e-12)
    assert whole.evaluations == parts.evaluations  # a draw, however many batches
    fewer = inpaint(pair(), 1.0, 3, steps=5)
    assert torch.allclose(whole.draws[:, :3], fewer.draws, rtol=1e-12, atol=1e-12)
    assert not (
        inpaint(pair(), 1.0, 12, steps=5, seed=1).draws[..., 1] == whole.draws[..., 1]
    ).any()


def test_redraw_says_how_often_the_observation_is_noised():
    drawn: list[str] = []
    project = inpainting_projection(torch.zeros(1, 2), torch.tensor([True, False]), "step")
    project(torch.ones(1, 2), torch.tensor(0.5), lambda per: drawn.append(per) or torch.ones(1, 2))
    assert drawn == ["step"]
    with pytest.raises(InputError, match="level or step"):
        inpainting_projection(torch.zeros(1, 2), torch.tensor([True, False]), "sometimes")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Mask(torch.tensor([0.5, 1.0])), "0 and 1"),
        (lambda: Mask(torch.zeros(3)), "hides everything"),
        (lambda: Measurement(torch.tensor([float("nan"), 0.0]), Mask(torch.tensor([1, 0]))), "NaN"),
        (
            lambda: Measurement(torch.zeros(2), Mask(torch.tensor([1, 0])), noise_std=-1.0),
            "zero or more",
        ),
        (
            lambda: restore(pair(), Measurement(torch.zeros(3), Mask(torch.tensor([1, 0])))),
            r"event shape \(2,\)",
        ),
        (
            lambda: restore(pair(), Measurement(torch.zeros(2), Mask(torch.tensor([1, 0, 1])))),
            "broadcast against the event",
        ),
        (
            lambda: restore(
                pair(), Measurement(torch.zeros(2), Mask(torch.tensor([1, 0])), noise_std=0.1)
            ),
            "noise_std must be 0",
        ),
        (
            lambda: restore(
                pair(), Measurement(torch.zeros(2), Mask(torch.tensor([1, 0]))), draws=0
            ),
            "at least 1",
        ),
    ],
)
def test_bad_measurements_are_worded(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_grey_images_may_come_without_their_channel_and_keep_their_bytes():
    class Flat(Gaussian):
        pass

    model = Flat(torch.zeros(1, 2, 3, dtype=torch.float64), torch.eye(6, dtype=torch.float64))
    model.units = Units.affine(0.5, 0.25, image=True)
    seen = torch.tensor([[0, 7, 255], [13, 128, 254]], dtype=torch.uint8)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    result = restore(
        model, Measurement(seen, Mask(mask)), 3, ladder=LADDER, steps_per_level=2, epsilon=1e-5
    )
    assert result.draws.shape == (3, 1, 2, 3)
    assert result.draws.dtype == torch.uint8
    assert (result.draws[:, 0][:, mask == 1] == seen[mask == 1]).all()
