"""Units and quantisation: round trips, Jacobians and the one quantise/dequantise pair."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorefield.errors import InputError
from scorefield.units import Quantisation, Units, dequantise, quantise

LEVELS = st.integers(2, 1 << 16)
finite = st.floats(-1e9, 1e9)
scales = st.floats(1e-9, 1e9) | st.floats(-1e9, -1e-9)
lambdas = st.none() | st.floats(1e-6, 0.4)


@given(LEVELS, st.floats(2**-8, 1 - 2**-8), st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=100, deadline=None)
def test_quantise_inverts_dequantise_anywhere_in_the_bin(levels, u, dtype):
    """Values lie 2^-8 of a bin from its ends, which up to 4,096 levels is far above rounding."""
    if dtype == torch.float32:
        levels = min(levels, 4096)
    stored = torch.arange(levels)
    x = dequantise(stored, levels, torch.full((levels,), u, dtype=dtype))
    assert x.dtype == dtype and torch.equal(quantise(x, levels), stored)
    assert torch.equal(quantise(dequantise(stored, levels), levels), stored)
    assert torch.equal(quantise(stored.to(dtype) / (levels - 1), levels), stored)


def test_rounding_does_not_invert_dequantise():
    """Negative control: rounding (levels - 1) x moves half of the darkest and brightest pixels."""
    u = (torch.arange(1000) + 0.5) / 1000
    for stored in (0, 255):
        x = dequantise(torch.full((1000,), stored), 256, u)
        assert abs(float(((255 * x).round() != stored).float().mean()) - 0.5) < 0.01
        assert bool((quantise(x, 256) == stored).all())


@given(LEVELS, st.lists(st.floats(-2, 3), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_quantise_is_a_monotone_map_onto_the_levels(levels, values):
    x = torch.tensor(sorted(values), dtype=torch.float64)
    stored = quantise(x, levels)
    assert stored.dtype == torch.int64 and 0 <= int(stored.min()) <= int(stored.max()) < levels
    assert bool((stored.diff() >= 0).all())
    inside = (x >= 0) & (x < 1)
    # Rounding back to the middle of the bin moves x by at most half a bin.
    moved = (dequantise(stored, levels).double() - x)[inside].abs()
    assert not len(moved) or float(moved.max()) <= (0.5 + 0.01) / levels


@given(LEVELS, st.booleans())
@settings(max_examples=50, deadline=None)
def test_quantisation_round_trip_as_training_saw_the_data(levels, dequantised):
    rule = Quantisation(levels, dequantised)
    stored = torch.arange(levels)
    x = rule.dequantise(stored)
    assert torch.equal(rule.quantise(x), stored)
    assert torch.equal(rule.quantise(torch.tensor([-1.0, 2.0])), torch.tensor([0, levels - 1]))
    if not dequantised:
        assert float(x[0]) == 0 and float(x[-1]) == 1


@given(st.lists(st.tuples(finite, scales), min_size=3, max_size=3), lambdas, st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_units_round_trip_and_json(parts, logit, seed):
    shift, scale = (torch.tensor(p, dtype=torch.float64) for p in zip(*parts, strict=True))
    if logit is not None:
        shift, scale = shift / 1e9, 1 + scale.abs() / 1e9
    units = Units.affine(shift, scale, logit)
    assert_equal(units, Units.from_dict(json.loads(json.dumps(units.to_dict()))))
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if logit is None:
        x = shift + scale * (x - 0.5)
    back = units.to_data(units.to_model(x))
    bound = 1e-9 if logit is not None else 1e-15 * (shift.abs() + scale.abs()) * 4
    assert bool(((back - x).abs() <= bound).all())


def assert_equal(a: Units, b: Units) -> None:
    """Assert that two units are the same in every field."""
    for name in ("shift", "scale", "constant"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    for name in ("logit", "image", "quantisation", "dtype"):
        assert getattr(a, name) == getattr(b, name)


def test_json_keeps_quantisation_and_type():
    one = torch.ones(1, dtype=torch.float64)
    for quantisation in (None, Quantisation(17), Quantisation(256, dequantised=False)):
        for dtype in (torch.float32, torch.float64):
            units = Units(0.1 * one, one / 3, one > 2, 1e-6, True, quantisation, dtype)
            assert_equal(units, Units.from_dict(json.loads(json.dumps(units.to_dict()))))


@pytest.mark.parametrize("logit", [None, 1e-6, 0.05])
def test_log_det_is_the_jacobian(logit):
    units = Units.affine([0.2, -0.3, 1.0], [0.5, -3.0, 1e-3], logit)
    x = torch.tensor([[0.3, 0.9, 0.5]], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(units.to_model, x)[0, :, 0]
    expected = jacobian.diagonal().abs().log().sum()
    torch.testing.assert_close(units.log_det(x)[0], expected, rtol=1e-10, atol=1e-10)
    assert abs(float(units.log_det(x)[0] + 2 * expected)) > 1  # control: the sign matters


def test_units_are_computed_in_float64_and_keep_the_data_type():
    one = torch.ones((), dtype=torch.float64)
    units = Units(2.46e6 * one, one, one > 2, dtype=torch.float64)
    x = torch.tensor([[2.46e6 + 0.123456]], dtype=torch.float64)
    model = units.to_model(x, torch.float32)
    assert model.dtype == torch.float32 and abs(float(model) - 0.123456) < 1e-7
    back = units.to_data(model)
    assert back.dtype == torch.float64 and abs(float(back - x)) < 1e-7
    assert Units.identity().to_data(model).dtype == torch.float32


@pytest.mark.parametrize(
    "make",
    [
        lambda: Units.affine(0.0, 0.0),
        lambda: Units.affine(float("nan"), 1.0),
        lambda: Units.affine(0.0, 1.0, logit=0.5),
        lambda: Quantisation(1),
    ],
)
def test_bad_units_raise_input_errors(make):
    with pytest.raises(InputError):
        make()


@pytest.mark.parametrize("levels", [2, 3, 17, 256, 1000, 1024, 4096, 5000, 16384, 65536])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_level_survives_both_ways_into_floats(levels, dtype):
    k = torch.arange(levels)
    assert torch.equal(quantise((k.to(torch.float64) / (levels - 1)).to(dtype), levels), k)
    assert torch.equal(quantise((k.to(torch.float32) / (levels - 1)).to(dtype), levels), k)
    assert torch.equal(quantise(dequantise(k, levels), levels), k)
    largest = 1 - torch.finfo(dtype).eps / 2
    for u in (0.0, 2.0**-33, 0.25, 0.5, 0.999, largest):
        x = dequantise(k.to(torch.int32), levels, torch.full((levels,), u, dtype=dtype))
        assert x.dtype == dtype and torch.equal(quantise(x, levels), k)
        exact = (k.to(torch.float64) + u) / levels
        assert float((x - exact).abs().max()) < 2e-7
