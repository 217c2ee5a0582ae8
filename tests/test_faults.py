"""Faults of small trained models, caught by their names; a sound model raises none.

Every model is a perceptron on the 8 x 8 digits, trained here. What the score itself shows is found
by `score_health`, what only samples show by copies and by class frequencies.
"""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

import scorefield as sf
from evaluation_helpers import Changed
from scorefield import noise, rng
from scorefield.diagnostics import score_health
from scorefield.evaluation.classes import compare_classes
from scorefield.evaluation.memorisation import measure_memorisation
from scorefield.models import Moments, Preconditioned
from scorefield.networks import build
from scorefield.objectives import make_objective
from scorefield.training import EMA, Batch, TrainState, train_step

pytestmark = [pytest.mark.slow, pytest.mark.training]

STD, BATCH = 0.376, 128
MISSING = 4


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Digits (1797, 1, 8, 8) in [0, 1] in an order of their own, and their labels."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x = torch.from_numpy(data.images[order]).float()[:, None] / 16
    return x, torch.from_numpy(data.target[order])


X, LABELS = digits()
HELD_OUT, TRAIN = X[:360], X[360:]


def trained(x0: torch.Tensor, steps: int, width: int = 192) -> TrainState:
    """Train a perceptron; averages[0] is narrow, averages[1] so wide that it holds its start."""
    torch.manual_seed(0)
    network = build("mlp", (1, 8, 8), width=width, depth=2)
    moments = Moments(x0.mean(0), x0.var(0))
    model = Preconditioned(network, (1, 8, 8), 0.01, 10.0, sigma_data=STD, moments=moments)
    averages = [EMA(network, "power", 0.1), EMA(network, "halflife", 1e7, warmup=0.0)]
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    state = TrainState(model, make_objective("denoising", "edm", STD), optimiser, averages)
    law = noise.LogNormal(-1.5, 1.2, 0.01, 10.0)
    g = torch.Generator().manual_seed(0)
    for step in range(steps):
        rows = torch.randint(len(x0), (BATCH,), generator=g)
        sigma = law.quantile(torch.rand(BATCH, generator=g))
        rate = 2e-3 * (1 - step / steps)
        train_step(state, Batch(x0[rows], sigma, rng.keys(1, BATCH, step * BATCH), None), rate)
    return state


def names(model, held_out=HELD_OUT, train=TRAIN, **options):
    found = score_health(model, held_out, train, examples=360, levels=6, **options)
    print(found)
    return found.names


@pytest.fixture(scope="module")
def sound():
    return trained(TRAIN, 2500)


@pytest.fixture(scope="module")
def model(sound):
    return sound.averaged_model()


@pytest.fixture(scope="module")
def memoriser():
    return trained(TRAIN[:200], 5000, width=256).averaged_model()


def samples(model, count=300):
    return sf.sample(model, count, seed=0, sampler="heun", nfe=31).float()


def test_a_sound_model_raises_none(model, sound):
    assert names(model) == ()
    assert names(model, live=sound.model) == ()
    assert not measure_memorisation(samples(model), HELD_OUT, TRAIN).memorised


def test_a_memoriser(memoriser):
    assert names(memoriser, train=TRAIN[:200]) == ("memorised",)
    found = measure_memorisation(samples(memoriser), HELD_OUT, TRAIN[:200])
    assert found.memorised and found.copies.low > 0.1, found.sentence


def test_a_swapped_range(model):
    """The model knows [0, 1]; the data come in [-1, 1], inverted, or squeezed."""
    for change in (lambda x: 2 * x - 1, lambda x: 1 - x, lambda x: x / 2 + 0.5):
        assert names(model, change(HELD_OUT), change(TRAIN)) == ("range",)


def test_an_average_that_holds_its_start(sound):
    start = sound.averaged_model()
    start.network.load_state_dict(sound.averages[1].weights)
    assert sound.averages[1].initial_fraction > 0.9
    try:
        assert names(start, live=sound.model) == ("start",)
        assert names(start) == ("start",)
    finally:
        sound.averaged_model()  # the copy is shared: its own weights come back


def test_over_smoothing():
    """A model trained on digits that were blurred."""
    blurred = torch.nn.functional.avg_pool2d(
        torch.nn.functional.pad(TRAIN, (1, 1, 1, 1), mode="replicate"), 3, 1
    )
    assert names(trained(blurred, 1500).averaged_model()) == ("over-smoothed",)


def test_a_missing_class():
    known = TRAIN[LABELS[360:] != MISSING]
    drawn = samples(trained(known, 2500).averaged_model())
    judge = KNeighborsClassifier(3).fit(TRAIN.flatten(1).numpy(), LABELS[360:].numpy())
    labels = [judge.predict(x.flatten(1).numpy()) for x in (drawn, HELD_OUT)]
    truth = LABELS[:360].numpy()
    rows = compare_classes([str(k) for k in range(10)], *labels, truth, None, 0.9)
    assert [row.name for row in rows if row.is_missing] == [str(MISSING)]


def test_all_classes_are_found_in_samples_of_the_sound_model(model):
    judge = KNeighborsClassifier(3).fit(TRAIN.flatten(1).numpy(), LABELS[360:].numpy())
    labels = [judge.predict(x.flatten(1).numpy()) for x in (samples(model), HELD_OUT)]
    truth = LABELS[:360].numpy()
    rows = compare_classes([str(k) for k in range(10)], *labels, truth, None, 0.9)
    assert not any(row.is_missing for row in rows)


def test_a_score_of_wrong_sign(model):
    assert names(Changed(model, lambda D, x, sigma: 2 * x - D)) == ("sign",)


def test_a_score_with_curl(model):
    """A rotation of pairs of pixels, half as strong as the score."""
    mean = TRAIN.mean(0)

    def rotate(D, x, sigma):
        pairs = (x - mean).reshape(len(x), 32, 2)
        turned = torch.stack([-pairs[..., 1], pairs[..., 0]], -1).reshape(x.shape)
        return D + 0.5 * sigma**2 / (sigma**2 + STD**2) * turned

    assert names(Changed(model, rotate)) == ("curl",)


def test_other_data(model):
    """Bars on the left of the picture, of random height and brightness."""
    g = torch.Generator().manual_seed(0)
    height, light = (torch.rand(1500, 1, 1, 1, generator=g) for _ in range(2))
    rows = torch.arange(8).reshape(1, 1, 8, 1) / 8
    columns = torch.arange(8).reshape(1, 1, 1, 8) < 3
    bars = ((rows < height) & columns) * (0.5 + light / 2)
    bars = bars + 0.02 * torch.randn(bars.shape, generator=g)
    assert names(model, bars[:360], bars[360:]) == ("other data",)


def test_data_seen_in_a_mirror_are_other_data(model):
    assert names(model, HELD_OUT.transpose(2, 3), TRAIN.transpose(2, 3)) == ("other data",)
