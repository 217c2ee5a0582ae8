"""Memorisation: neighbours against scikit-learn, copies against constructed ones, intervals against
their coverage.
"""

import json
import math

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from scorefield.diagnostics.copies import COPY, TrainingNeighbours
from scorefield.errors import InputError
from scorefield.evaluation.memorisation import measure_memorisation, median_ratio

D = 20


def normal(count: int, seed: int, d: int = D) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, d, generator=g, dtype=torch.float64)


TRAIN, HELD_OUT, FRESH = normal(1000, 0), normal(400, 1), normal(400, 2)


def copied(fraction: float, noise: float = 0.01) -> torch.Tensor:
    """Fresh samples, of which a fraction is replaced by training examples with a little noise."""
    count = int(fraction * len(FRESH))
    chosen = TRAIN[torch.arange(count) * 2]
    return torch.cat([chosen + noise * normal(count, 3), FRESH[count:]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_neighbours_are_those_of_scikit_learn(dtype, offset):
    train, samples = (TRAIN + offset).to(dtype), (FRESH + offset).to(dtype)
    found = TrainingNeighbours(train).nearest(samples)
    tree = NearestNeighbors(n_neighbors=2, algorithm="kd_tree").fit(train.double().numpy())
    distance, index = tree.kneighbors(samples.double().numpy())
    assert (found.index.numpy() == index[:, 0]).all()
    assert torch.allclose(found.distance, torch.from_numpy(distance[:, 0]), rtol=1e-9)
    assert torch.allclose(found.second, torch.from_numpy(distance[:, 1]), rtol=1e-9)


def test_an_exact_copy_has_distance_zero_however_large_the_values_are():
    train = TRAIN * 255 + 1e6
    found = TrainingNeighbours(train).nearest(train[17:18])
    assert found.distance.item() == 0 and found.index.item() == 17


def test_repeated_training_examples_count_as_one():
    """A copy of an example that the data hold five times still has a second neighbour."""
    repeated = torch.cat([TRAIN[:1].repeat(5, 1), TRAIN[1:]])
    near = TrainingNeighbours(repeated)
    assert len(near) == len(TRAIN) and near.duplicates == 4
    found = near.nearest(TRAIN[:1] + 1e-3)
    assert found.copies.item() and found.second.item() > 1
    assert near.nearest(HELD_OUT).copies.sum() == 0


@pytest.mark.parametrize("fraction", [0.0, 0.2, 1.0])
def test_the_copy_ratio_is_the_fraction_of_copies(fraction):
    found = measure_memorisation(copied(fraction), HELD_OUT, TRAIN)
    assert found.copies.value == fraction and found.held_out_copies.value == 0
    assert found.copies.low <= fraction <= found.copies.high
    assert found.memorised == (fraction > 0)
    assert ("come back" in found.sentence) == found.memorised


def test_fresh_samples_lie_as_far_as_held_out_data():
    found = measure_memorisation(FRESH, HELD_OUT, TRAIN)
    assert found.distance_ratio.low < 1 < found.distance_ratio.high
    near = measure_memorisation(copied(1.0, 0.2), HELD_OUT, TRAIN)  # negative control
    assert near.distance_ratio.high < 0.5


def test_chance_copies_in_few_dimensions_are_no_finding():
    """In one dimension a third or so of all new data has d1/d2 < 1/3."""
    found = measure_memorisation(normal(300, 2, 1), normal(300, 1, 1), normal(300, 0, 1))
    assert found.copies.value > 0.2 and not found.memorised


def test_rows_of_few_values_are_no_finding():
    """Discrete rows repeat: samples and held-out data both equal training rows."""
    train, held, samples = ((normal(500, k, 3) > 0).double() for k in range(3))
    found = measure_memorisation(samples, held, train)
    assert found.copies.value == 1 and found.leaked == len(held) and not found.memorised
    assert "equal a training example" in found.sentence


def test_pairs_are_the_closest_ones():
    samples = FRESH.clone()
    samples[7], samples[11] = TRAIN[5] + 1e-4, TRAIN[9] + 1e-2
    found = measure_memorisation(samples, HELD_OUT, TRAIN, pairs=2)
    assert found.pairs == ((7, 5), (11, 9))
    assert measure_memorisation(samples, HELD_OUT, TRAIN, pairs=0).pairs == ()


@pytest.mark.parametrize("ratio", [0.3, 1.0])
def test_the_interval_of_a_ratio_of_medians_covers(ratio):
    """90 % intervals hold the truth in 84 to 97 % of 200 repeats: order statistics are discrete,
    and the combination is a little wide. A ratio off by a tenth is held far less often.
    """
    g, held, wrong = torch.Generator().manual_seed(0), 0, 0
    for _ in range(200):
        top, bottom = (torch.rand(300, generator=g).double().exp() for _ in range(2))
        found = median_ratio(ratio * top, bottom, 0.9)
        held += found.low <= ratio <= found.high
        wrong += found.low <= 1.1 * ratio <= found.high
    assert 168 <= held <= 194
    assert wrong < 120


def test_medians_of_zero():
    zeros, ones = torch.zeros(20), torch.ones(20)
    found = median_ratio(zeros, ones, 0.9)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    found = median_ratio(ones, zeros, 0.9)
    assert math.isnan(found.value) and found.high == math.inf
    mixed = torch.cat([torch.zeros(9), torch.ones(11)])
    found = median_ratio(mixed, ones, 0.9)
    assert found.value == 1 and found.low == 0


def test_images_and_a_made_training_set_give_the_same():
    train, held, samples = (x.float().reshape(-1, 1, 4, 5) for x in (TRAIN, HELD_OUT, copied(0.5)))
    direct = measure_memorisation(samples, held, train)
    made = measure_memorisation(samples, held, TrainingNeighbours(train))
    assert direct.to_dict() == made.to_dict()
    assert TrainingNeighbours(train).copy_fraction(samples) == 0.5
    json.dumps(direct.to_dict(), allow_nan=False)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="samples must have the event shape"):
        measure_memorisation(FRESH[:, :3], HELD_OUT, TRAIN)
    with pytest.raises(InputError, match="held_out"):
        measure_memorisation(FRESH, HELD_OUT[:1], TRAIN)
    with pytest.raises(InputError, match="two or more distinct"):
        measure_memorisation(FRESH, HELD_OUT, TRAIN[:1].repeat(3, 1))
    with pytest.raises(InputError, match="finite"):
        measure_memorisation(FRESH * math.nan, HELD_OUT, TRAIN)


def test_the_ratio_that_makes_a_copy():
    """On a line, a sample at t between two examples has d1/d2 = t/(1 - t): a copy below 1/4."""
    near = TrainingNeighbours([[0.0], [1.0], [10.0]])
    found = near.nearest([[0.249], [0.251]])
    assert pytest.approx(1 / 3) == COPY
    assert found.copies.tolist() == [True, False]
