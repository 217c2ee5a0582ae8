"""Ranks: columns of few values are uniform in model units, and their samples are on the values."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorefield.data import Pipeline, fit_units
from scorefield.data import open as open_data
from scorefield.errors import InputError
from scorefield.inverse import Measurement
from scorefield.inverse.operators import Mask
from scorefield.ranks import UNSEEN, Ranks
from scorefield.units import Units

# Frequent values close to rare ones, as in the column s4 of scikit-learn's diabetes table.
VALUES, COUNTS = (2.0, 2.06, 3.0, 3.02, 10.0), (500, 1, 300, 2, 100)


def table(rows: int = 903, seed: int = 0) -> pa.Table:
    """A continuous column, and one of VALUES in the frequencies of COUNTS."""
    few = np.repeat(VALUES, COUNTS)
    order = np.random.default_rng(seed).permutation(len(few))[:rows]
    return pa.table({"a": np.random.default_rng(seed).normal(size=len(order)), "few": few[order]})


def prepared(source: pa.Table | None = None, dequantise: str = "uniform"):
    dataset = open_data(table() if source is None else source)
    index = torch.arange(len(dataset))
    fitted = fit_units(dataset, index, dequantise=dequantise)
    return dataset, fitted, Pipeline(dataset, index, fitted.units, 0, dequantise=dequantise)


# -- the map


@settings(deadline=None)
@given(
    st.lists(st.integers(-1000, 1000), min_size=2, max_size=9, unique=True),
    st.data(),
    st.integers(0, 2**31),
)
def test_map_is_one_to_one_and_has_its_jacobian(whole, data, seed):
    values = [v / 7 for v in sorted(whole)]
    sizes = {"min_size": len(values), "max_size": len(values)}
    ranks = Ranks.of(values, data.draw(st.lists(st.integers(0, 50), **sizes)))
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(50, generator=generator, dtype=torch.float64) * 4 - 1) * (values[-1] + 300)
    y = ranks.to_rank(x)
    torch.testing.assert_close(ranks.from_rank(y), x)
    step = 1e-7
    slope = (ranks.to_rank(x + step) - ranks.to_rank(x - step)) / (2 * step)
    away = ((ranks.edges[:, None] - x).abs() > 2 * step).all(0)  # from the kinks
    torch.testing.assert_close(ranks.log_slope(x)[away], slope.log()[away], atol=1e-5, rtol=1e-5)
    assert json.loads(json.dumps(ranks.to_dict())) == ranks.to_dict()
    again = Ranks.from_dict(ranks.to_dict())
    assert torch.equal(again.edges, ranks.edges)
    assert torch.equal(again.ranks, ranks.ranks)


def test_cells_are_as_wide_as_their_values_are_frequent():
    ranks = Ranks.of(VALUES, COUNTS)
    shares = torch.tensor(COUNTS, dtype=torch.float64) / sum(COUNTS)
    torch.testing.assert_close(ranks.ranks.diff(), shares)
    torch.testing.assert_close(ranks.edges[1:-1], torch.tensor([2.03, 2.53, 3.01, 6.51]).double())
    assert ranks.edges[[0, -1]].tolist() == pytest.approx([1.97, 13.49])
    unseen = Ranks.of((0.0, 1.0, 2.0), (3, 0, 1)).ranks.diff()
    assert float(unseen[1] / unseen[2]) == pytest.approx(UNSEEN)


def test_cells_without_a_width_are_refused():
    with pytest.raises(InputError, match="rise"):
        Ranks.of((1.0, 1.0, 2.0), (1, 1, 1))
    with pytest.raises(InputError, match="at least two"):
        Ranks(torch.zeros(2), torch.zeros(2))


# -- units


def test_units_with_ranks_invert_and_have_their_jacobian():
    """By finite differences; JSON keeps the map; the other element is affine as before."""
    ranks = Ranks.of(VALUES, COUNTS)
    units = Units(
        torch.tensor([1.0, 0.5]),
        torch.tensor([2.0, 0.6]),
        torch.zeros(2, dtype=torch.bool),
        ranks={1: ranks},
    )
    assert not units.is_affine
    x = torch.tensor([[0.3, 2.04], [5.0, 11.0], [-1.0, -4.0], [0.0, 3.0]], dtype=torch.float64)
    inside = units.to_model(x)
    torch.testing.assert_close(units.to_data(inside), x)
    torch.testing.assert_close(inside[:, 0], (x[:, 0] - 1) / 2)
    step = 1e-6
    slopes = [
        (units.to_model(x + step * e) - units.to_model(x - step * e)).sum(1) / (2 * step)
        for e in torch.eye(2, dtype=torch.float64)
    ]
    wanted = torch.stack(slopes).log().sum(0)
    torch.testing.assert_close(units.log_det(x), wanted, atol=1e-6, rtol=1e-6)
    again = Units.from_dict(json.loads(json.dumps(units.to_dict())))
    assert torch.equal(again.to_model(x), inside)
    point = inside.requires_grad_(True)
    (slope,) = torch.autograd.grad(units.to_data(point).sum(), point)
    torch.testing.assert_close(slope.log().sum(1), -wanted, atol=1e-6, rtol=1e-6)
    assert Units.from_dict({k: v for k, v in Units.identity().to_dict().items() if k != "ranks"})


# -- training data


def test_few_values_are_uniform_in_model_units():
    """Mean, variance and the whole distribution (Kolmogorov's distance); the control is the same
    column without ranks, which has gaps.
    """
    dataset, fitted, pipeline = prepared()
    assert dataset.form is not None
    assert dict(dataset.form.few_values) == {1: VALUES}
    x, _ = pipeline.batch(0, 9030)
    column = x[:, 1].double()
    wanted = (torch.arange(9030) + 0.5) / 9030
    half = 0.5 * math.sqrt(3)  # of the uniform distribution with standard deviation 0.5
    ranks = ((column.sort().values + half) / (2 * half) - wanted).abs().max()
    assert float(ranks) < 1.63 / math.sqrt(9030)  # exceeded with probability 0.01
    assert fitted.moments.mean[1].abs() < 1e-12
    assert fitted.moments.variance[1] == pytest.approx(0.25)
    plain = (x.new_tensor(np.array(table()["few"])) - 3) / 3
    assert ((plain.sort().values - plain.min()) / 4 - wanted[: len(plain)]).abs().max() > 0.3


def test_values_come_back_exactly_from_their_cells():
    dataset, fitted, pipeline = prepared()
    x, _ = pipeline.batch(0, 903)
    index = pipeline.indices(0, 903)
    assert dataset.form is not None
    back = dataset.form.decode(fitted.units.to_data(x.double()))
    stored = table()["few"].to_numpy()[index.numpy()]
    assert np.array_equal(back["few"].to_numpy(), stored)
    assert not np.array_equal(back["a"].to_numpy(), stored)


def test_normal_samples_have_the_frequencies_of_the_data():
    """A model that is right in ranks draws each value as often as the data have it; rounding
    samples of a normal distribution of the same moments to the nearest value does not.
    """
    dataset, fitted, _ = prepared()
    assert dataset.form is not None
    u = (torch.arange(9030, dtype=torch.float64) + 0.5) / 9030
    inside = torch.stack([torch.zeros_like(u), (u - 0.5) * math.sqrt(3)], dim=1)
    drawn = dataset.form.decode(fitted.units.to_data(inside))["few"].to_numpy()
    counts = [int((drawn == value).sum()) for value in VALUES]
    assert np.abs(np.array(counts) - 10 * np.array(COUNTS)).max() <= 2
    normal = np.random.default_rng(0).normal(3.2, 2.5, 9030)
    nearest = np.array(VALUES)[np.abs(normal[:, None] - np.array(VALUES)).argmin(1)]
    assert abs(int((nearest == 2.0).sum()) - 5000) > 1000


def test_without_dequantisation_and_in_other_units_there_are_no_ranks():
    assert not prepared(dequantise="none")[1].units.ranks
    dataset = open_data(table())
    fitted = fit_units(dataset, torch.arange(len(dataset)), kind="none")
    assert not fitted.units.ranks


def test_constant_training_part_has_no_ranks():
    """A discrete column of which the training part holds one value."""
    dataset = open_data(table())
    rows = (dataset.values[:, 1] == 2.0).nonzero().flatten()
    fitted = fit_units(dataset, rows)
    assert not fitted.units.ranks
    assert fitted.constant == ("few",)


def test_observed_values_reach_the_model_as_ranks():
    _, fitted, _ = prepared()
    mask = torch.tensor([False, True])
    seen = Measurement(torch.tensor([[float("nan"), 3.0]], dtype=torch.float64), Mask(mask))
    inside = seen.to_model_units(fitted.units, (2,)).observed
    wanted = (fitted.units.ranks[1].to_rank(torch.tensor(3.0).double()) - 0.5) * math.sqrt(3)
    assert float(inside.flatten()[-1]) == pytest.approx(float(wanted))
