"""The watch for copies during training: against Fisher's test, no false alarms, and real copies."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats import fisher_exact, mannwhitneyu
from sklearn.datasets import load_digits

from scorefield.data import Dataset
from scorefield.data import open as open_data
from scorefield.runs import Run
from scorefield.training import Evaluator, Hooks, Verdict, assess, fit, train, trainer, watch
from scorefield.training.watch import ALPHA, Copies, CopyWatch, most_numbers, rank_sum, tail
from small_runs import small


def normal(count: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, d)).astype(np.float32)


def table(count: int, seed: int) -> pa.Table:
    """Rows that repeat honestly: a word, a whole number of few values, and 20 measured levels."""
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "kind": random.choice(["a", "b", "c"], count),
            "rooms": random.integers(1, 5, count),
            "level": random.integers(0, 20, count) / 2,
        }
    )


# -- the rule


@pytest.mark.parametrize(
    "counts", [(5, 64, 0, 200), (3, 16, 1, 40), (30, 500, 55, 1000), (0, 16, 0, 40), (16, 16, 4, 4)]
)
def test_chance_is_that_of_fishers_exact_test(counts):
    hits, count, new_hits, new = counts
    rows = [[hits, count - hits], [new_hits, new - new_hits]]
    assert tail(*counts) == pytest.approx(fisher_exact(rows, alternative="greater").pvalue, 1e-9)


@pytest.mark.parametrize("levels", [None, 5], ids=["continuous", "ties"])
def test_ranks_are_those_of_mann_and_whitney(levels):
    low, high = (
        torch.from_numpy(normal(count, 1, seed)[:, 0]) for count, seed in ((30, 0), (80, 1))
    )
    low = low - 0.3
    if levels:
        low, high = low.clamp(-1, 1).mul(levels).round(), high.clamp(-1, 1).mul(levels).round()
    low, high = low.double(), high.double()
    known = mannwhitneyu(low.numpy(), high.numpy(), alternative="less", method="asymptotic")
    assert rank_sum(low, high) == pytest.approx(known.pvalue, 1e-9)
    assert rank_sum(torch.ones(4), torch.ones(9)) == 1.0


def test_size_and_chance_must_both_hold():
    assert Copies(8, 64, 0, 200).memorising  # 12 %, one in 30,000
    assert not Copies(2, 16, 0, 200).memorising  # 12 % of few samples: one in 180
    assert not Copies(400, 10_000, 0, 10_000).memorising  # certain, and 4 % only
    assert not Copies(0, 64, 0, 200).memorising
    assert not Copies(16, 16, 0, 0).memorising  # nothing to compare with
    assert Copies(3, 4, 0, 0).by_chance == 0.0


def alarms(dataset_of, samples_of, repeats: int) -> list[Copies]:
    """Watched copies of repeated honest models, which draw from the data's distribution."""
    found = []
    for seed in range(repeats):
        dataset: Dataset = open_data(dataset_of(2 * seed))
        samples = open_data(samples_of(2 * seed + 1)).floats(slice(None))
        copies = CopyWatch.of(dataset, 0, 0.2).look(samples)
        assert copies is not None
        found.append(copies)
    return found


@pytest.mark.parametrize(
    ("dataset_of", "samples_of", "floor"),
    [
        (lambda s: normal(200, 1, s), lambda s: normal(64, 1, s), 1 / 3),
        (lambda s: normal(200, 2, s), lambda s: normal(64, 2, s), 1 / 9),
        (lambda s: normal(200, 20, s), lambda s: normal(64, 20, s), 0.0),
        (lambda s: table(300, s), lambda s: table(100, s), None),
    ],
    ids=["d=1", "d=2", "d=20", "repeated rows"],
)
def test_honest_samples_raise_no_alarm(dataset_of, samples_of, floor):
    """40 honest models: at ALPHA = 0.001 an alarm of either test has probability 0.08 at most.

    Negative control: without the comparison with new examples, data of few dimensions and data
    whose rows repeat raise an alarm every time.
    """
    found = alarms(dataset_of, samples_of, 40)
    assert sum(copies.begins for copies in found) == 0
    chance = np.mean([copies.by_chance for copies in found])
    if floor is None:
        assert chance > 0.5
    else:  # P(d1/d2 < r) = r^d where the density is flat over the nearest neighbours
        assert chance == pytest.approx(floor, abs=0.03)
    alone = [copies.fraction >= watch.SIZE for copies in found]
    assert sum(alone) >= (36 if floor != 0.0 else 0)
    assert math.isclose(ALPHA, 0.001)


def test_copies_of_a_fraction_of_the_samples_are_found():
    """200 examples in 64 dimensions; 12 of 64 samples are training examples with some noise."""
    dataset = open_data(normal(250, 64, 0))
    watched = CopyWatch.of(dataset, 0, 0.2)
    samples = torch.from_numpy(normal(64, 64, 1))
    honest = watched.look(samples)
    samples[:12] = dataset.floats(watched._train[:12]) + 0.1 * samples[:12]
    found = watched.look(samples)
    assert honest is not None and honest.hits == 0 and not honest.memorising
    assert found is not None and found.hits == 12 and found.memorising
    assert found.distance_ratio < honest.distance_ratio
    assert honest.distance_ratio == pytest.approx(1.0, abs=0.1)


def test_samples_that_are_nearer_to_training_data_begin_to_memorise():
    """Samples are training examples with 0.6 standard deviations of noise: no copies yet.

    Negative control: samples that are shrunk, blurred or noisy are nearer to or farther from all
    data alike, and raise no alarm, though the distance ratio of the shrunk ones is far below 1.
    """
    dataset = open_data(normal(220, 20, 0))
    watched = CopyWatch.of(dataset, 0, 0.1)
    fresh = torch.from_numpy(normal(64, 20, 1))
    found = watched.look(dataset.floats(watched._train[:64]) + 0.6 * fresh)
    assert found is not None and not found.memorising and found.begins
    assert f"{1 - found.pull:.0%} closer to training" in found.sentence
    for other in (0.5 * fresh, fresh + torch.from_numpy(normal(64, 20, 2))):
        found = watched.look(other)
        assert found is not None and not found.begins and found.sentence == ""
    shrunk = watched.look(0.5 * fresh)
    assert shrunk is not None and shrunk.distance_ratio < 0.8 and shrunk.pull > 0.95


def test_few_held_out_examples_leave_the_copies_alone():
    found = CopyWatch.of(open_data(normal(50, 3, 0)), 0, 0.1).look(
        torch.from_numpy(normal(9, 3, 1))
    )
    assert found is not None and math.isnan(found.pull) and found.pull_chance == 1.0
    alone = CopyWatch.of(open_data(normal(50, 3, 0)), 0, 0.0).look(
        torch.from_numpy(normal(9, 3, 1))
    )
    assert alone is not None and math.isnan(alone.distance_ratio) and alone.new == 50


# -- units


def test_samples_are_compared_as_they_are_stored():
    """Dequantised copies of images of four levels are exact copies once they are rounded."""
    random = np.random.default_rng(0)
    dataset = open_data(random.integers(0, 4, (120, 4, 4, 1)).astype(np.uint8))
    watched = CopyWatch.of(dataset, 0, 0.2)
    levels = dataset.quantisation_levels
    assert levels is not None
    stored = dataset.values[watched._train[:20]].double()
    found = watched.look((stored + torch.rand(stored.shape)) / levels)
    assert found is not None and found.hits == 20


def test_columns_of_a_table_have_one_scale():
    """A column of large numbers does not decide alone what a copy is."""
    x = normal(250, 8, 0) * np.array([1e4, 1, 1, 1, 1, 1, 1, 1], dtype=np.float32)
    dataset = open_data(x)
    watched = CopyWatch.of(dataset, 0, 0.2)
    fresh = normal(64, 8, 1) * np.array([1e4, 1, 1, 1, 1, 1, 1, 1], dtype=np.float32)
    found = watched.look(torch.from_numpy(fresh))
    assert found is not None and found.fraction < 0.05 and found.by_chance < 0.05
    # Negative control: in the table's own units the column decides, as if there were one dimension.
    watched = CopyWatch.of(dataset, 0, 0.2)
    watched.__dict__["_scale"] = torch.ones(8, dtype=torch.float64)
    found = watched.look(torch.from_numpy(fresh))
    assert found is not None and found.by_chance > 0.15


def test_rows_of_a_table_are_those_that_were_read():
    """Samples equal to training rows come back bitwise from the table's own types."""
    dataset = open_data(table(100, 0))
    x = dataset.floats(slice(None))
    assert torch.equal(CopyWatch.of(dataset, 0, 0.1)._as_stored(x + 0.01), x)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_samples_that_are_not_finite_are_left_out(value):
    watched = CopyWatch.of(open_data(normal(50, 3, 0)), 0, 0.1)
    assert watched.look(torch.full((4, 3), value)) is None


def test_data_without_two_distinct_examples_have_no_watch():
    assert CopyWatch.of(open_data(np.ones((20, 3))), 0, 0.1).look(torch.ones(4, 3)) is None


def test_size_of_the_search_follows_from_the_budget():
    """60 s of the demo search all of 5,000 images; 5 minutes of 60,000 a part; a day all."""
    assert most_numbers(None, 60.0, 784) >= 4500 * 784
    assert 20_000 < most_numbers(None, 300.0, 784) // 784 < 30_000
    assert most_numbers(None, 86_400.0, 784) == most_numbers(10**8, None, 784) == 2**25
    assert most_numbers(100, None, 64) == 2**22
    few = CopyWatch.of(open_data(normal(5000, 64, 0)), 0, 0.1, 64 * 1000)
    assert len(few._train) == 1000


# -- in a training


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(trainer, "MIDWAY", 10.0)
    monkeypatch.setattr(assess, "draw_preview", lambda *_: "")
    monkeypatch.setattr(assess, "draw_loss_per_sigma", lambda *_: "")
    monkeypatch.setattr(assess, "draw_training_curve", lambda *_: "")


@pytest.mark.training
def test_metrics_have_the_copies_of_every_preview(tmp_path, quick):
    notices: list[str] = []
    summary = train(small(), tmp_path / "run", hooks=Hooks(on_notice=notices.append))
    found = [r for r in Run(tmp_path / "run").records() if "held_out" in r]
    assert len(found) == 4
    for line in found:
        assert line["copies"] == 0 and line["copies_by_chance"] < 0.05 and line["pull"] > 0.9
        assert 16 <= line["copies_samples"] <= 64 and line["distance_ratio"] > 0.5
    assert summary.verdict is not None and summary.verdict.memorising == ""
    assert not any("memoris" in notice for notice in notices)


@pytest.mark.training
def test_copies_are_in_a_notice_and_in_the_verdict(tmp_path, quick, monkeypatch):
    """A model whose samples are training examples stands for one that memorises."""
    known = open_data("digits").floats(slice(None))
    monkeypatch.setattr(Evaluator, "preview", lambda self, model, count: known[:count])
    notices: list[str] = []
    summary = train(small(), tmp_path / "run", hooks=Hooks(on_notice=notices.append))
    (notice,) = [n for n in notices if n.startswith("after")]
    assert "after 192 images memorising" in notice and "has not turned yet" in notice
    verdict = summary.verdict
    assert verdict is not None and verdict.memorising.startswith("memorising: 8")
    assert "memorising: " in verdict.sentence and "copies of training examples" in verdict.sentence
    kept = Run(tmp_path / "run").records()[-1]["verdict"]
    assert Verdict.from_dict(kept) == verdict
    del kept["memorising"]  # of a run of an older version
    assert Verdict.from_dict(kept).memorising == ""


@pytest.mark.slow
@pytest.mark.training
def test_memorisation_shows_before_the_held_out_loss_turns(tmp_path):
    """200 digits of 8 x 8, each seen 1,000 times. The notice comes at 100,000 examples, before the
    held-out loss has turned: at that mark it is not higher than its lowest value by two standard
    errors. At the end it is, and the model is an earlier point.

    Negative control: at 20,000 and 50,000 examples there is no notice.
    """
    digits = load_digits().images[:390].astype(np.uint8)[:, None]
    settings = {
        "network.name": "mlp",
        "network.options.width": 256,
        "optim.batch": 128,
        "optim.warmup": 1280,
        "data.held_out": 1 - 200 / 390,
        "execution.precision": "float32",
        "execution.compile": "off",
        "execution.threads": 1,
    }
    notices: list[str] = []
    run = tmp_path / "run"
    hooks = Hooks(on_notice=notices.append)
    summary = fit(digits, run, images=200_000, settings=settings, hooks=hooks)
    (notice,) = [n for n in notices if n.startswith("after")]
    assert "beginning to memorise" in notice and "has not turned yet" in notice
    assert notice.startswith("after 100,096 images")
    found = [r for r in Run(run).records() if "pull" in r]
    assert [r["pull"] < watch.PULL for r in found] == [False, False, True, True]
    assert summary.verdict is not None and summary.verdict.standing == "past its best"
