"""Restoration: known elements exact, the rest from the conditional law, in any units and form."""

import math
from functools import partial

import pytest
import torch

from pretend_cuda import OnDevice, pretend_cuda
from scorefield import noise
from scorefield.conditions import ConditionSpec
from scorefield.data import Pipeline, fit_units
from scorefield.data import open as open_data
from scorefield.errors import InputError, Unsupported
from scorefield.exact import Gaussian, GaussianMixture
from scorefield.inverse import (
    METHODS,
    Measurement,
    Method,
    Operator,
    Prepared,
    inpainting_projection,
    methods,
    restore,
    simulate,
)
from scorefield.inverse import restore as restore_module
from scorefield.inverse.operators import Composed, Mask, Rescaled
from scorefield.models import Preconditioned, ScoreModel
from scorefield.networks import build
from scorefield.sampling import resolve_sampling
from scorefield.units import Quantisation, Units

RHO = 0.8
LADDER = noise.geometric(4.0, 0.02, 16)
FIRST = Mask(torch.tensor([True, False]))


def pair(shift: float = 0.0, scale: float = 1.0) -> Gaussian:
    """Two standard normals of correlation RHO in model units; data = shift + scale model."""
    covariance = torch.tensor([[1.0, RHO], [RHO, 1.0]], dtype=torch.float64)
    model = Gaussian(torch.zeros(2, dtype=torch.float64), covariance)
    model.units = Units.affine(shift, scale)
    return model


projected = partial(restore, method="inpainting")  # the article's restoration


def inpaint(model, y, draws, seed=0, steps=150, batch=4096, **options):
    """Restorations of (y, unknown); the unknown element may hold any number."""
    observed = torch.tensor([[y, 123.0]], dtype=torch.float64)
    options = {
        "ladder": LADDER,
        "steps_per_level": steps,
        "epsilon": 0.2 * float(LADDER[-1]) ** 2,
        "batch": batch,
        **options,
    }
    return projected(model, Measurement(observed, FIRST), draws, seed, options=options)


# -- the conditional law
#
# Levels below sigma = sqrt(variance / (T epsilon / sigma²)), about 0.11 here, no longer mix, so
# noise of up to 0.11² stays on what is conditioned on. Every bound is this bias and 4.5 standard
# errors.


@pytest.mark.parametrize("redraw", ["level", "step"])
@pytest.mark.parametrize("y", [-1.0, 2.0])
def test_draws_follow_the_conditional_law_of_a_gaussian(redraw, y):
    """x2 | x1 = y is N(RHO y, 1 - RHO²); the bias is at most 0.11² of the mean."""
    n = 1500
    result = inpaint(pair(), y, n, redraw=redraw)
    x1, x2 = result.draws[0].unbind(1)
    assert (x1 == y).all()
    mean, variance = RHO * y, 1 - RHO**2
    assert abs(x2.mean().item() - mean) < 4.5 * (variance / n) ** 0.5 + 0.11**2 * abs(mean)
    assert abs(x2.var().item() / variance - 1) < 4.5 * (2 / n) ** 0.5 + 0.05
    assert torch.allclose(result.mean[0], result.draws[0].mean(0))
    assert torch.allclose(result.std[0], result.draws[0].std(0))


def test_draws_follow_the_conditional_law_of_a_mixture():
    """Modes at (-1, -1) and (1, 1), variance 1/2: the weights given y have log odds 4 y."""
    means = torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    model = GaussianMixture(means, 0.5 * torch.eye(2, dtype=torch.float64).expand(2, 2, 2))
    n, y = 2000, 0.25
    x2 = inpaint(model, y, n).draws[0, :, 1]
    weight = 1 / (1 + math.exp(-4 * y))
    mean, variance = 2 * weight - 1, 0.5 + 4 * weight * (1 - weight)
    # Noise of standard deviation 0.11 on y moves the weight by half its variance times the weight's
    # second derivative, 16 w (1 - w) (1 - 2 w).
    bias = 0.11**2 / 2 * 16 * weight * (1 - weight) * abs(1 - 2 * weight) * 2
    assert abs(x2.mean().item() - mean) < 4.5 * (variance / n) ** 0.5 + bias
    third = weight * 2.5 + (1 - weight) * -2.5  # E x³ of N(m, 1/2) is m³ + 3 m / 2
    spread = x2.pow(3).std().item()
    assert abs(x2.pow(3).mean().item() - third) < 4.5 * spread / n**0.5 + 2.5 * bias
    above = weight * phi(2**0.5) + (1 - weight) * phi(-(2**0.5))
    found = (x2 > 0).double().mean().item()
    assert abs(found - above) < 4.5 * (above * (1 - above) / n) ** 0.5 + bias / 2


def phi(x: float) -> float:
    """The standard normal distribution function."""
    return 0.5 * math.erfc(-x / 2**0.5)


def test_without_projection_the_conditional_law_is_missed(monkeypatch):
    """Negative control: pasting at the end alone gives x2 its marginal law."""
    monkeypatch.setattr(
        methods, "inpainting_projection", lambda known, mask, redraw: lambda x, sigma, noise: x
    )
    x2 = inpaint(pair(), 2.0, 500, steps=40).draws[0, :, 1]
    assert abs(x2.mean().item() - RHO * 2) > 10 * (1 / 500) ** 0.5


def test_restorations_transform_with_the_units():
    """Data scaled by 1000 and shifted by -3 have restorations scaled and shifted."""
    plain = inpaint(pair(), 0.5, 20, steps=10)
    scaled = inpaint(pair(-3.0, 1000.0), 0.5 * 1000 - 3, 20, steps=10)
    assert torch.allclose(scaled.draws, plain.draws * 1000 - 3, rtol=1e-12, atol=1e-9)
    assert torch.allclose(scaled.std, plain.std * 1000, rtol=1e-9)


def test_julian_dates_keep_their_digits():
    """Known values come back exactly and drawn ones are distinct, also from a float32 network."""
    one = torch.ones(2, dtype=torch.float64)
    units = Units(2.46e6 * one, 2 * one, one > 2, dtype=torch.float64)
    observed = torch.tensor([2.46e6 + 0.123456789, 0.0], dtype=torch.float64)
    closed = pair()
    closed.units = units
    trained = Preconditioned(build("mlp", (2,)), (2,), units=units)
    for model in (closed, trained):
        seen = Measurement(observed, FIRST)
        result = projected(model, seen, 50, options={"levels": 8, "nfe": 9})
        assert result.draws.dtype == result.mean.dtype == torch.float64
        assert bool((result.draws[:, 0] == observed[0]).all())
        assert len(result.draws[:, 1].unique()) == 50
        assert abs(float(result.mean[0] - observed[0])) < 1e-9


def test_a_draw_does_not_depend_on_its_batch():
    whole, parts = inpaint(pair(), 1.0, 12, steps=5), inpaint(pair(), 1.0, 12, steps=5, batch=5)
    assert torch.allclose(whole.draws, parts.draws, rtol=1e-12, atol=1e-12)
    assert whole.evaluations == parts.evaluations  # a draw, however many batches
    fewer = inpaint(pair(), 1.0, 3, steps=5)
    assert torch.allclose(whole.draws[:, :3], fewer.draws, rtol=1e-12, atol=1e-12)
    other = inpaint(pair(), 1.0, 12, steps=5, seed=1)
    assert not (other.draws[..., 1] == whole.draws[..., 1]).any()


def test_observations_of_a_batch_keep_their_order():
    observed = torch.tensor([[1.0, 0], [-2.0, 0], [0.5, 0]], dtype=torch.float64)
    options = {"ladder": LADDER, "steps_per_level": 5}
    both = projected(pair(), Measurement(observed, FIRST), 4, options=options | {"batch": 5})
    assert both.draws.shape == (3, 4, 2) and both.mean.shape == (3, 2)
    assert torch.equal(both.draws[..., 0], observed[:, :1].expand(3, 4))
    alone = projected(pair(), Measurement(observed[0], FIRST), 4, options=options)
    assert torch.allclose(both.draws[0], alone.draws, rtol=1e-12, atol=1e-12)


def test_redraw_decides_how_often_the_observation_is_noised():
    drawn: list[str] = []
    project = inpainting_projection(torch.zeros(1, 2), torch.tensor([True, False]), "step")
    project(torch.ones(1, 2), torch.tensor(0.5), lambda per: drawn.append(per) or torch.ones(1, 2))
    assert drawn == ["step"]
    with pytest.raises(InputError, match="one of level, step"):
        inpainting_projection(torch.zeros(1, 2), torch.tensor([True, False]), "sometimes")


# -- stored values: one quantise/dequantise pair for training, observations and results


def quantised_model(levels: int, dequantised: bool = True, logit: float | None = None) -> Gaussian:
    """A Gaussian of images (1, 2, 3) with stored values 0 .. levels - 1."""
    model = Gaussian(torch.zeros(1, 2, 3, dtype=torch.float64), 4.0)
    zero = torch.zeros((), dtype=torch.float64)
    quantisation = Quantisation(levels, dequantised)
    model.units = Units(zero, zero + 1, zero > 0, logit, True, quantisation)
    return model


@pytest.mark.parametrize("kind", ["standardise", "logit", "unit"])
def test_observations_enter_where_training_saw_their_level(kind):
    """17 levels of digits: known values are the middles of the bins that the pipeline fills."""
    data = open_data("digits")
    units = fit_units(data, torch.arange(1797), kind=kind).units
    pipe = Pipeline(data, torch.arange(1797), units, 0)
    seen, levels = pipe.batch(0, 1797)[0], data.values[pipe.indices(0, 1797)]
    stored = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8) % 17
    everything = Mask(torch.ones(1, 8, 8))
    for observed in (stored, stored.long(), stored / 16, stored.double() / 16):
        measured = Measurement(observed, everything)
        known = measured.to_model_units(units, (1, 8, 8)).observed[0]
        middle = units.to_model((stored.double() + 0.5) / 17)
        torch.testing.assert_close(known, middle, rtol=0, atol=1e-5)
        for k in range(17):
            trained = seen[levels == k]
            low, high = float(trained.min()), float(trained.max())
            assert low <= float(known[stored == k][0]) <= high
    # Control: k / (levels - 1), which observations used to enter at, is at the far end of the bin.
    old = units.to_model(torch.tensor([[[0.0, 1.0]]], dtype=torch.float64)).flatten()
    assert float(old[0]) < float(seen.min()) + 1e-6 and float(old[1]) > float(seen.max()) - 1e-6


def test_a_black_pixel_enters_a_logit_model_at_the_middle_of_its_bin():
    units = quantised_model(256, logit=1e-6).units
    ends = torch.tensor([[[0, 255, 7], [0, 0, 0]]], dtype=torch.uint8)
    known = Measurement(ends, Mask(torch.ones(1, 2, 3))).to_model_units(units, (1, 2, 3)).observed
    black, white = known.flatten()[:2].tolist()
    middle = math.log((0.5 / 256) / (1 - 0.5 / 256))
    assert abs(black - middle) < 1e-3 and abs(white + middle) < 1e-3  # -6.2; it used to be -13.8


def test_floats_off_the_grid_are_taken_as_they_are():
    units = quantised_model(256).units
    grid = torch.tensor([[[0.0, 1.0, 51 / 255], [0.0, 0.0, 0.0]]])
    off = grid + torch.tensor([[[0.0, 0.0, 0.001], [0.0, 0.0, 0.0]]])
    mask = Mask(torch.ones(1, 2, 3))
    values = [Measurement(x, mask).read(units, (1, 2, 3)).values[0] for x in (grid, off)]
    torch.testing.assert_close(values[0], (grid.double() * 255 + 0.5) / 256, rtol=0, atol=1e-6)
    assert torch.equal(values[1], off.double())
    # What is hidden does not decide: the third element is off the grid, and not seen.
    two = Mask(torch.tensor([[[1, 1, 0], [1, 1, 1]]]))
    seen = Measurement(off, two).read(units, (1, 2, 3)).values[0]
    torch.testing.assert_close(seen[0, 0, :2], values[0][0, 0, :2])
    plain = quantised_model(256, dequantised=False).units  # trained on k / 255: nothing moves
    assert torch.equal(Measurement(grid, mask).read(plain, (1, 2, 3)).values[0], grid.double())


@pytest.mark.parametrize("levels", [17, 256])
@pytest.mark.parametrize("dequantised", [True, False])
def test_restorations_return_in_the_form_of_the_observation(levels, dequantised):
    model = quantised_model(levels, dequantised)
    stored = torch.tensor([[0, 7, levels - 1], [13, levels // 2, 1]], dtype=torch.uint8)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    options = {"ladder": LADDER, "steps_per_level": 2, "epsilon": 1e-5}
    forms = (stored, stored.long(), stored.float() / (levels - 1), stored.double() / (levels - 1))
    found = [projected(model, Measurement(x, Mask(mask)), 6, options=options) for x in forms]
    for result, form in zip(found, forms, strict=True):
        assert result.draws.shape == (6, 1, 2, 3) and result.draws.dtype == form.dtype
        assert bool((result.draws[:, 0][:, mask == 1] == form[mask == 1]).all())
        whole = result.draws if not form.is_floating_point() else result.draws * (levels - 1)
        assert float((whole.double() - whole.double().round()).abs().max()) < 1e-4
        assert torch.equal(whole.round().long(), found[0].draws.long())
        assert torch.allclose(result.mean.double(), found[0].mean.double(), atol=1e-6)
        assert float(result.mean.min()) >= 0 and float(result.mean.max()) <= 1


def test_results_are_floor_of_levels_times_x():
    """A model that knows its example exactly: every level comes back, wherever it is in its bin."""
    for place in (0.02, 0.5, 0.98):
        stored = torch.arange(256)
        model = Gaussian((stored.double() + place).reshape(1, 16, 16) / 256, 1e-14)
        zero = torch.zeros((), dtype=torch.float64)
        model.units = Units(zero, zero + 1, zero > 0, None, True, Quantisation(256))
        mask = torch.zeros(1, 16, 16)
        mask[0, 0, 0] = 1
        seen = Measurement(torch.zeros(1, 16, 16, dtype=torch.uint8), Mask(mask))
        options = {"ladder": noise.geometric(1e-3, 1e-6, 4), "steps_per_level": 1}
        draws = projected(model, seen, 2, options=options).draws
        assert torch.equal(draws.flatten(1)[:, 1:].long(), stored[1:].expand(2, -1))


def test_pictures_of_a_model_of_float_images_are_k_over_255():
    """A model that was trained on floats takes uint8 as k / 255; the bytes come back."""
    model = quantised_model(2)
    model.units = Units.affine(0.5, 0.25, image=True)
    seen = torch.tensor([[0, 7, 255], [13, 128, 254]], dtype=torch.uint8)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    reading = Measurement(seen, Mask(mask)).read(model.units, (1, 2, 3))
    torch.testing.assert_close(reading.values[0, 0], seen.double() / 255, rtol=0, atol=1e-7)
    options = {"ladder": LADDER, "steps_per_level": 2, "epsilon": 1e-5}
    result = projected(model, Measurement(seen, Mask(mask)), 3, options=options)
    assert result.draws.shape == (3, 1, 2, 3) and result.draws.dtype == torch.uint8
    assert bool((result.draws[:, 0][:, mask == 1] == seen[mask == 1]).all())


@pytest.mark.parametrize(
    ("observed", "units", "words"),
    [
        (torch.full((1, 2, 3), 200), "float", "int64 of unknown range"),
        (torch.zeros(1, 2, 3, dtype=torch.int16), "float", "unknown range"),
        (torch.zeros(1, 2, 3, dtype=torch.bool), "levels", "bool of unknown range"),
        (torch.full((1, 2, 3), 256), "levels", "0 to 255.*256 to 256"),
        (torch.full((1, 2, 3), -1), "levels", "0 to 255.*-1 to -1"),
        (torch.full((1, 2, 3), 40, dtype=torch.uint8), "digits", "0 to 16.*40 to 40"),
        (torch.full((1, 2, 3), 200.0), "float", r"\[0, 1\].*200 to 200"),
        (torch.full((1, 2, 3), -0.1), "levels", r"\[0, 1\].*-0.1"),
        (torch.full((1, 2, 3), 1.01), "digits", r"\[0, 1\].*1.01"),
    ],
)
def test_values_outside_the_models_range_are_refused(observed, units, words):
    model = quantised_model(17 if units == "digits" else 256)
    if units == "float":
        model.units = Units.identity(image=True)
    mask = torch.zeros(1, 2, 3)
    mask[0, 0, 0] = 1
    with pytest.raises(InputError, match=words):
        projected(model, Measurement(observed, Mask(mask)))
    if observed.dtype != torch.bool and "unknown" not in words:  # only what is seen must fit
        observed = observed.clone()
        observed[0, 0, 0] = 0
        Measurement(observed, Mask(mask)).read(model.units, (1, 2, 3))


def test_whole_numbers_of_a_table_are_numbers():
    observed = torch.tensor([1_700_000_123, 0])
    model = pair(1.7e9, 1000.0)
    reading = Measurement(observed, FIRST).read(model.units, (2,))
    assert reading.values[0, 0] == 1_700_000_123 and reading.form.dtype == torch.float32


# -- measurements in model units


class Average(Operator):
    """The mean of neighbouring elements: (B, 4) -> (B, 3)."""

    def A(self, x):
        return (x[:, 1:] + x[:, :-1]) / 2

    def A_adjoint(self, y):
        zero = torch.zeros_like(y[:, :1])
        return (torch.cat([y, zero], 1) + torch.cat([zero, y], 1)) / 2


class Square(Operator):
    linear = False

    def A(self, x):
        return x.square()


def keyed(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    "operator",
    [
        Mask(torch.tensor([1, 0, 1, 1])),
        Average(),
        Rescaled(Average(), torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)),
    ],
)
def test_adjoint_of_linear_operators(operator):
    x = keyed(5, 4)
    y = keyed(*operator.A(x).shape, seed=1)
    left, right = (operator.A(x) * y).sum(), (x * operator.A_adjoint(y)).sum()
    torch.testing.assert_close(left, right)
    assert operator.linear
    torch.testing.assert_close(
        operator.A(2 * x - x.flip(0)), 2 * operator.A(x) - operator.A(x.flip(0))
    )


def test_linear_measurement_in_model_units_has_the_same_residual():
    units = Units.affine([10.0, -3.0, 5.0, 0.0], [2.0, 0.1, -1.0, 4.0])
    y = keyed(2, 3)
    measured = Measurement(y, Average(), 0.3)
    inner = measured.to_model_units(units, (4,))
    assert inner.noise_std == 0.3 and inner.operator.linear
    x = keyed(2, 4, seed=1)
    residual = inner.observed - inner.operator.A(x)
    torch.testing.assert_close(residual, y - Average().A(units.to_data(x)))
    noisy = Measurement(keyed(2, 4), Mask(torch.tensor([1, 0, 1, 1])), 0.1)
    inner = noisy.to_model_units(units, (4,))
    expected = noisy.operator.A(noisy.tensor - units.to_data(x))
    torch.testing.assert_close(noisy.operator.A(inner.observed) - inner.operator.A(x), expected)


def test_constant_positions_do_not_enter_a_linear_measurement():
    still = torch.tensor([False, True, False, False])
    units = Units(keyed(4), torch.ones(4, dtype=torch.float64), still)
    inner = Measurement(keyed(3), Average(), 1.0).to_model_units(units, (4,))
    x = keyed(1, 4)
    residual = inner.observed - inner.operator.A(x)
    torch.testing.assert_close(residual, keyed(3) - Average().A(units.to_data(x)))


@pytest.mark.parametrize(("operator", "logit"), [(Average(), 0.01), (Square(), None)])
def test_other_measurements_are_composed_with_the_units(operator, logit):
    units = Units.affine(0.2, 1.5, logit)
    y = operator.A(keyed(2, 4))
    inner = Measurement(y, operator, 0.5).to_model_units(units, (4,))
    assert isinstance(inner.operator, Composed) and not inner.operator.linear
    assert torch.equal(inner.observed, y) and inner.noise_std == 0.5
    x = keyed(2, 4, seed=1)
    torch.testing.assert_close(inner.operator.A(x), operator.A(units.to_data(x)))
    with pytest.raises(Unsupported, match="A_adjoint"):
        inner.operator.A_adjoint(y)


def test_simulated_measurements_have_the_noise_they_say():
    x = keyed(2000, 4)
    seen = simulate(x, Average(), 0.3, seed=5)
    noise = (seen.tensor - Average().A(x)) / 0.3
    n = noise.numel()
    assert abs(float(noise.mean())) < 4.5 / n**0.5
    assert abs(float(noise.square().mean()) - 1) < 4.5 * (2 / n) ** 0.5
    few = simulate(x[:7], Average(), 0.3, seed=5).tensor
    assert torch.equal(few, seen.tensor[:7]) and seen.noise_std == 0.3
    assert torch.equal(simulate(x, Average()).tensor, Average().A(x))
    with pytest.raises(InputError, match="floats"):
        simulate(torch.zeros(2, 4, dtype=torch.uint8), Average())


# -- recipe, precision and modes


def small_network(card_sampling=None, preconditioner="edm", **options) -> Preconditioned:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build("mlp", (2,))
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    model = Preconditioned(network, (2,), 0.01, 10.0, preconditioner, **options)
    if card_sampling is not None:
        model.card = {"config": {"sampling": card_sampling}}
    return model


def run_recorded(monkeypatch, model, **options):
    """The recipe that `restore` hands to `draw`."""
    recipes = []
    module = __import__(restore_module.__module__, fromlist=["draw"])
    original = module.draw

    def recording(model, recipe, *arguments, **named):
        recipes.append(recipe)
        return original(model, recipe, *arguments, **named)

    monkeypatch.setattr(module, "draw", recording)
    observed = Measurement(torch.tensor([0.3, 0.0]), FIRST)
    result = projected(model, observed, 3, options=options)
    monkeypatch.undo()
    return recipes[0], result


def test_the_cards_langevin_recipe_is_used(monkeypatch):
    """ncsnv2's steps and epsilon; explicit options win."""
    ladder = noise.geometric(10.0, 0.01, 12)
    sampling = {
        "sampler": "annealed-langevin",
        "nfe": None,
        "steps_per_level": 5,
        "start": None,
        "final": None,
        "options": {"epsilon": 6.2e-6},
    }
    model = small_network(sampling, ladder=ladder)
    recipe, result = run_recorded(monkeypatch, model)
    assert recipe.kernel.kernel.epsilon == 6.2e-6 and recipe.steps_per_level == 5
    assert result.evaluations == 5 * len(recipe.ladder) + 1
    recipe, _ = run_recorded(monkeypatch, model, epsilon=1e-5, steps_per_level=2)
    assert recipe.kernel.kernel.epsilon == 1e-5 and recipe.steps_per_level == 2
    other = small_network(sampling | {"sampler": "heun", "options": {}}, ladder=ladder)
    recipe, _ = run_recorded(monkeypatch, other)
    expected = resolve_sampling(small_network(ladder=ladder), "annealed-langevin")
    assert (
        recipe.kernel.kernel == expected.kernel
    )  # a card of another sampler says nothing of this one


def test_closed_forms_are_computed_in_float64_and_networks_in_float32():
    class Recorded(Gaussian):
        def denoise(self, x, sigma, condition=None):
            types.add(x.dtype)
            return super().denoise(x, sigma, condition)

    types: set[torch.dtype] = set()
    model = Recorded(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    options = {"ladder": LADDER, "steps_per_level": 1}
    projected(model, Measurement(torch.zeros(2, dtype=torch.float32), FIRST), 2, options=options)
    assert types == {torch.float64}
    network = small_network()
    types.clear()
    network.network.register_forward_pre_hook(lambda _, inputs: types.add(inputs[0].dtype))
    wide = torch.zeros(2, dtype=torch.float64)
    projected(network, Measurement(wide, FIRST), 2, options={"levels": 4})
    assert types == {torch.float32}


def test_bfloat16_execution_and_modes():
    """A leaf's autocast type is honoured, dropout is off, and the training mode comes back."""
    plain, fast = small_network(), small_network()
    fast.autocast = torch.bfloat16
    observed = Measurement(torch.tensor([0.3, 0.0]), FIRST)
    options = {"levels": 6, "steps_per_level": 2}
    results = [projected(m, observed, 4, options=options) for m in (plain, fast)]
    gap = (results[0].draws - results[1].draws)[:, 1].abs().max()
    assert 0 < float(gap) < 1 and results[1].draws.dtype == torch.float32
    dropping = small_network()
    dropping.network = torch.nn.ModuleList([dropping.network, torch.nn.Dropout(0.5)])
    dropping.network.forward = lambda x, n, c: dropping.network[1](dropping.network[0](x, n, c))
    dropping.train()
    first, again = (projected(dropping, observed, 4, options=options) for _ in range(2))
    assert torch.equal(first.draws, again.draws) and torch.equal(first.draws, results[0].draws)
    assert dropping.training


def test_a_ladder_outside_the_models_range_is_refused_before_any_evaluation():
    calls = []
    model = small_network()
    model.network.register_forward_hook(lambda *_: calls.append(1))
    observed = Measurement(torch.zeros(2), FIRST)
    for ladder in (noise.geometric(20.0, 0.01, 5), noise.geometric(1.0, 0.001, 5), LADDER.flip(0)):
        with pytest.raises(InputError):
            projected(model, observed, 2, options={"ladder": ladder})
    assert not calls


class ByClass(ScoreModel):
    """N(-3, 0.01 I) for class 0 and N(3, 0.01 I) for class 1."""

    def __init__(self):
        super().__init__()
        self.event_shape, self.sigma_min, self.sigma_max = (2,), 0.01, 20.0
        self.conditions = {"class": ConditionSpec("class", 2, ("left", "right"))}

    def denoise(self, x, sigma, condition=None):
        level = self.check(x, sigma, condition).to(x).reshape(-1, 1)
        mean = 6.0 * condition["class"][:, None] - 3.0
        return mean + 0.01 / (0.01 + level.square()) * (x - mean)


def test_conditions_belong_to_observations():
    observed = torch.tensor([[3.0, 0.0], [-3.0, 0.0]])
    options = {"ladder": LADDER, "steps_per_level": 20, "batch": 3}
    for given in ({"class": [1, 0]}, {"class": ["right", "left"]}):
        seen = Measurement(observed, FIRST)
        result = projected(ByClass(), seen, 5, options=options, condition=given)
        assert bool((result.draws[0, :, 1] > 2).all()) and bool((result.draws[1, :, 1] < -2).all())


@pytest.mark.parametrize("kind", ["closed form", "network", "by class"])
def test_restoration_runs_on_the_models_device(kind, monkeypatch):
    """Model, observation, keys and conditions meet on one device; results come back to the CPU."""
    observed = Measurement(torch.tensor([[0.5, 0.0], [3.0, 0.0]]), FIRST)
    options = {"ladder": LADDER, "steps_per_level": 2, "batch": 4}
    given = {"class": [0, 1]} if kind == "by class" else None
    makers = {"closed form": pair, "network": small_network, "by class": ByClass}

    def draws(device):
        model = makers[kind]().to(device)
        if kind == "by class":
            model.register_buffer("place", torch.zeros((), device=device))
        return projected(model, observed, 3, options=options, condition=given).draws

    plain = draws("cpu")
    with pretend_cuda(monkeypatch):
        there = draws("cuda")
        assert not isinstance(there, OnDevice)
        assert torch.allclose(there, plain, rtol=1e-5, atol=1e-6)


# -- results


def ignore_the_observation(model, problem, options):
    recipe = resolve_sampling(model, "heun", nfe=9, ladder=None)
    return Prepared(model, recipe.kernel, recipe)


@pytest.fixture
def prior_method(monkeypatch):
    """A method for any measurement, which draws from the prior."""
    method = Method(ignore_the_observation, lambda model, problem: None, "Draws from the prior.")
    monkeypatch.setitem(METHODS, "prior", method)


def four() -> Gaussian:
    """Four independent standard normals."""
    return Gaussian(torch.zeros(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64))


@pytest.mark.usefixtures("prior_method")
def test_missing_elements_of_any_measurement_are_left_out_of_chi2():
    y = keyed(3)
    y[1] = float("nan")
    result = restore(four(), Measurement(y, Average(), 0.5), 6, method="prior")
    residual = ((y - (result.draws[..., 1:] + result.draws[..., :-1]) / 2) / 0.5)[:, [0, 2]]
    torch.testing.assert_close(result.chi2, residual.square().mean(-1))


@pytest.mark.usefixtures("prior_method")
def test_chi2_is_the_mean_squared_residual():
    model = four()
    model.units = Units.affine(1.0, 2.0)
    y = keyed(3, 3)
    prior = partial(restore, model, method="prior")
    result = prior(Measurement(y, Average(), 0.5), 6, options={"batch": 4})
    assert result.chi2 is not None and result.chi2.shape == (3, 6)
    residual = (y[:, None] - (result.draws[..., 1:] + result.draws[..., :-1]) / 2) / 0.5
    torch.testing.assert_close(result.chi2, residual.square().mean(-1))
    single = prior(Measurement(y[0], Average(), 0.5), 6)
    assert single.chi2.shape == (6,) and single.draws.shape == (6, 4)
    exact = prior(Measurement(keyed(4), Mask(torch.tensor([1, 0, 0, 0]))), 2)
    assert exact.chi2 is None


def test_a_sink_takes_the_draws_of_each_observation_in_turn():
    observed = torch.tensor([[1.0, 0], [-2.0, 0], [0.5, 0]], dtype=torch.float64)
    options = {"ladder": LADDER, "steps_per_level": 2}
    kept = projected(pair(), Measurement(observed, FIRST), 4, options=options)
    taken: list[tuple[int, torch.Tensor]] = []
    result = projected(
        pair(),
        Measurement(observed, FIRST),
        4,
        options=options | {"batch": 5},
        sink=lambda n, draws: taken.append((n, draws)),
    )
    assert [n for n, _ in taken] == [0, 1, 2] and result.draws.numel() == 0
    torch.testing.assert_close(torch.stack([draws for _, draws in taken]), kept.draws)
    torch.testing.assert_close(result.mean, kept.mean)
    torch.testing.assert_close(result.std, kept.std)


def test_repr_is_one_short_paragraph():
    result = inpaint(pair(), 0.5, 3, steps=1)
    assert len(repr(result)) < 250 and "draws of shape (1, 3, 2), float64" in repr(result)
    lone = inpaint(pair(), 0.5, 1, steps=1)
    assert bool(lone.std.isnan().all())


# -- bad input


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Mask(torch.tensor([0.5, 1.0])), "0 and 1"),
        (lambda: Mask(torch.zeros(3)), "hides everything"),
        (lambda: Measurement(torch.tensor([float("inf"), 0.0]), FIRST), "infinite"),
        (
            lambda: Measurement(torch.zeros(2, dtype=torch.complex64), FIRST),
            "complex.*two channels",
        ),
        (lambda: Measurement([1 + 2j, 0], FIRST), "complex"),
        (lambda: Measurement(["a", "b"], FIRST), "numbers"),
        (lambda: Measurement(torch.zeros(2), FIRST, noise_std=-1.0), "must be at least 0"),
        (lambda: restore(pair(), Measurement(torch.zeros(3), FIRST)), r"event shape \(2,\)"),
        (lambda: restore(pair(), Measurement(torch.zeros(0, 2), FIRST)), "empty"),
        (
            lambda: restore(pair(), Measurement(torch.zeros(2), Mask(torch.tensor([1, 0, 1])))),
            "broadcast against the event",
        ),
        (
            lambda: projected(pair(), Measurement(torch.zeros(2), FIRST, noise_std=0.1)),
            "noise_std must be 0",
        ),
        (
            lambda: projected(four(), Measurement(torch.zeros(3), Average())),
            "needs operator=Mask",
        ),
        (lambda: restore(pair(), Measurement(torch.zeros(2), FIRST), 0), "at least 1"),
        (
            lambda: restore(pair(), Measurement(torch.zeros(2), FIRST), options={"batch": 0}),
            "at least 1",
        ),
        (
            lambda: restore(pair(), Measurement(torch.zeros(2), FIRST), method="magic"),
            "one of auto, exact, inpainting",
        ),
        (
            lambda: projected(pair(), Measurement(torch.zeros(2), FIRST), options={"eps": 1}),
            "no option 'eps'.*epsilon",
        ),
        (
            lambda: restore(pair(), Measurement(torch.zeros(2), FIRST), condition={"class": 1}),
            "no condition|takes",
        ),
    ],
)
def test_bad_restorations_raise_input_errors(make, words):
    with pytest.raises(InputError, match=words):
        make()


# -- unknown elements marked by NaN, and masks of their own for each observation


def test_nan_marks_unknown_elements_of_each_observation() -> None:
    model = pair()
    nan = float("nan")
    rows = torch.tensor([[0.5, nan], [nan, -0.3], [0.2, 0.4], [nan, nan]])
    found = projected(model, Measurement(rows), 3, 5, options={"levels": 6})
    assert found.draws.shape == (4, 3, 2)
    for k, row in enumerate(rows):
        known = ~row.isnan()
        assert torch.equal(found.draws[k][:, known], row[known].expand(3, -1))
        assert bool(found.draws[k].isfinite().all())
    filled = rows.nan_to_num(0.0)
    for n, mask in ((0, [True, False]), (1, [False, True])):
        alone = projected(
            model, Measurement(filled, Mask(torch.tensor(mask))), 3, 5, options={"levels": 6}
        )
        assert torch.equal(alone.draws[n], found.draws[n])
    # Control: under the other mask the draws differ.
    other = projected(model, Measurement(filled, FIRST), 3, 5, options={"levels": 6})
    assert not torch.equal(other.draws[1], found.draws[1])


def test_a_single_observation_with_nan_equals_the_mask() -> None:
    model = pair()
    marked = projected(
        model, Measurement(torch.tensor([0.5, float("nan")])), 4, options={"levels": 6}
    )
    masked = projected(
        model, Measurement(torch.tensor([0.5, 0.0]), FIRST), 4, options={"levels": 6}
    )
    assert marked.draws.shape == (4, 2)
    assert torch.equal(marked.draws, masked.draws)


def test_nan_under_a_mask_stays_unknown() -> None:
    mask = Mask(torch.tensor([True, True]))
    seen = Measurement(torch.tensor([[0.5, float("nan")]]), mask).resolve((2,))
    assert seen.whole((2,)).on((2,)).tolist() == [[True, False]]
    with pytest.raises(InputError, match="one mask for each observation"):
        Measurement(torch.zeros(3, 2), Mask(torch.ones(2, 2), batched=True)).batch((2,))
