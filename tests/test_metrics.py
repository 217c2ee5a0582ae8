"""Metrics of two sets: what they see, what they refuse, and the floor beside every number."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from scorefield import evaluation
from scorefield.errors import InputError
from scorefield.evaluation import METRICS, Estimate, MetricRow, measure_classes, measure_sets
from scorefield.evaluation.intervals import root, split_values, square_interval, without_bias
from scorefield.evaluation.sets import FAMILIES
from scorefield.evaluation.two_sample import _permutation_p


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, Y = normal(0, 120, 3) + 0.5, normal(1, 100, 3)
IMAGES = normal(2, 60, 1, 6, 6), normal(3, 50, 1, 6, 6), normal(4, 80, 1, 6, 6)
MEASURES: dict[str, Callable[..., Any]] = {
    "sliced": evaluation.sliced,
    "mmd": evaluation.mmd,
    "kernel_distance": evaluation.kernel_distance,
    "frechet": evaluation.frechet,
    "prdc": evaluation.prdc,
    "classifier_test": evaluation.classifier_test,
    "two_sample_test": lambda x, y, seed=0: evaluation.two_sample_test(x, y, seed),
    "compare_columns": lambda x, y, seed=0: evaluation.compare_columns(
        x, y, [str(k) for k in range(np.asarray(x)[0].size)], seed=seed
    ),
}
measures = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


def values(found: Any) -> dict[str, float]:
    if isinstance(found, Estimate):
        return {"value": found.value, "low": found.low, "high": found.high}
    if isinstance(found, float):
        return {"value": found}
    if isinstance(found, evaluation.Table):
        found = found.summary
    return {f"{name} {end}": v for name, one in found.items() for end, v in values(one).items()}


# ---- every metric


@measures
def test_the_seed_decides_and_inputs_stay(measure: Callable[..., Any]) -> None:
    x, y = X.clone(), Y.clone()
    first = values(measure(x, y, seed=3))
    assert values(measure(x.numpy(), y.tolist(), seed=3)) == first
    assert torch.equal(x, X) and torch.equal(y, Y)


@measures
def test_numbers_are_finite_where_all_examples_are_equal(measure: Callable[..., Any]) -> None:
    constant = torch.ones(40, 3)
    for x, y in ((constant, constant), (X[:40], constant), (constant, Y[:40])):
        found = values(measure(x, y))
        assert all(math.isfinite(v) for v in found.values()), found


@measures
def test_events_are_flattened(measure: Callable[..., Any]) -> None:
    assert values(measure(IMAGES[0], IMAGES[1])) == values(
        measure(IMAGES[0].flatten(1), IMAGES[1].flatten(1))
    )


@measures
@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (X, Y[:, :2], "same shape"),
        (X[:2], Y, "at least"),
        (X[:, 0], Y[:, 0], r"Use \[:, None\]"),
        (X, torch.where(Y > 2, torch.nan, Y), "y must be finite"),
        (X.to(torch.complex64), Y, "x must be real"),
    ],
)
def test_bad_sets_are_refused(measure: Callable[..., Any], x: Any, y: Any, words: str) -> None:
    with pytest.raises((InputError, IndexError), match=words):
        measure(x, y)


@pytest.mark.parametrize("level", [0.2, 1.0, "high", None])
def test_a_level_is_a_probability(level: Any) -> None:
    for name in ("sliced", "mmd", "frechet", "prdc", "classifier_test"):
        with pytest.raises(InputError, match="level"):
            MEASURES[name](X, Y, level=level)


def test_wider_levels_have_wider_intervals() -> None:
    for family, measure in FAMILIES.items():
        if family != ("spectrum",):
            narrow, wide = (measure(X, Y, 0, level) for level in (0.8, 0.95))
            for name in family:
                assert wide[name].low <= narrow[name].low <= narrow[name].value
                assert narrow[name].value <= narrow[name].high <= wide[name].high


# ---- what the metrics see


def test_distances_of_sets_grow_with_a_shift() -> None:
    seen = []
    for shift in (0.0, 1.0, 3.0):
        x = normal(5, 200, 3) + shift
        found = {**evaluation.sliced(x, Y), **evaluation.classifier_test(x, Y)}
        found["mmd"], found["frechet"] = evaluation.mmd(x, Y), evaluation.frechet(x, Y)
        seen.append({name: one.value for name, one in found.items()})
    for name in seen[0]:
        assert seen[0][name] < seen[1][name] < seen[2][name], name


def test_lost_variety_lowers_recall_and_wild_samples_lower_precision() -> None:
    narrow = evaluation.prdc(0.3 * normal(6, 300, 3), normal(7, 300, 3))
    wide = evaluation.prdc(3.0 * normal(6, 300, 3), normal(7, 300, 3))
    assert narrow["precision"].low > wide["precision"].high
    assert narrow["recall"].high < wide["recall"].low
    assert narrow["coverage"].high < 0.8


def test_precision_of_one_sample_repeated_is_all_or_nothing() -> None:
    x = torch.zeros(50, 3, dtype=torch.float64)
    found = evaluation.prdc(x, Y)
    assert found["precision"].value in (0.0, 1.0)
    assert found["recall"].value == 0.0


def test_a_classifier_finds_what_moments_hide() -> None:
    """A ring and a Gaussian of the same mean and covariance."""
    g = torch.Generator().manual_seed(0)
    angle = 2 * math.pi * torch.rand(600, generator=g, dtype=torch.float64)
    ring = math.sqrt(2) * torch.stack([angle.cos(), angle.sin()], 1)
    found = evaluation.classifier_test(ring, normal(8, 600, 2))
    assert found["c2st_accuracy"].low > 0.7
    assert evaluation.two_sample_test(ring, normal(8, 600, 2)) < 0.01


def test_the_permutation_test_keeps_its_level() -> None:
    """Of 60 exact p-values, more than 12 are at most 0.1 in 0.6 % of the cases."""
    pairs = ((normal(200 + s, 30, 2), normal(300 + s, 40, 2), s) for s in range(60))
    assert sum(_permutation_p(*pair) <= 0.1 for pair in pairs) <= 12


def test_directions_are_unit_vectors_orthogonal_within_groups() -> None:
    for size in (1, 2, 5, 64, 100):
        groups = evaluation.directions(size)
        gram = groups @ groups.mT
        eye = torch.eye(groups.shape[1], dtype=torch.float64).expand_as(gram)
        torch.testing.assert_close(gram, eye)
        assert groups.shape[2] == size and (size == 1 or len(groups) >= 8)


def test_the_spectrum_finds_the_band_that_differs() -> None:
    x, y = normal(9, 200, 1, 16, 16), normal(10, 200, 1, 16, 16)
    transform = torch.fft.fftn(x, dim=(2, 3))
    f = torch.fft.fftfreq(16)
    radius = (f[:, None].square() + f[None].square()).sqrt()
    transform[..., (radius > 0.3) & (radius < 0.4)] *= 2**0.5
    found = evaluation.radial_spectrum(torch.fft.ifftn(transform, dim=(2, 3)).real, y)
    for f, ratio in zip(found.frequency.tolist(), found.ratio, strict=True):
        expected = 2.0 if 0.33 < f < 0.38 else 1.0
        if not 0.27 < f < 0.43 or expected == 2.0:
            assert ratio.value == pytest.approx(expected, rel=0.1)
    assert json.dumps(found.to_dict())
    assert found.difference.low > 0.1


def test_columns_are_found_by_name() -> None:
    table = normal(11, 300, 3)
    other = normal(12, 300, 3)
    other[:, 2] = other[:, 0]
    table[:, 1] += 2 * table[:, 1].std()
    found = evaluation.compare_columns(table, other, ["age", "height", "weight"])
    assert max(found.w1, key=lambda name: found.w1[name].value) == "height"
    assert next(iter(found.correlations)) == ("age", "weight")
    assert found.correlations["age", "weight"].value == pytest.approx(-1.0, abs=0.2)
    assert json.dumps(found.to_dict())


@pytest.mark.parametrize(
    ("names", "categories", "words"),
    [
        (["a"], None, "one name for each of 3 elements"),
        (["a", "b", "c"], {"k": (1, 3)}, "of 0 to 2"),
        (["a", "b", "c"], {"k": (1,)}, "two or more"),
        ("abc", None, "names must be a list"),
    ],
)
def test_bad_columns_are_refused(names: Any, categories: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        evaluation.compare_columns(X, Y, names, categories)


# ---- intervals


def test_the_average_over_halves_removes_the_bias_of_a_square() -> None:
    """|mean x - mean y|² has the bias tr(C)/n + tr(C)/m, which the splits give exactly enough."""

    def statistic(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a.mean(0) - b.mean(0)).square().sum())

    x, y = normal(13, 200, 4), normal(14, 100, 4)
    bias = float(x.var(0).sum()) / 200 + float(y.var(0).sum()) / 100
    halves = split_values(statistic, x, y, 0, 400)
    found = without_bias(statistic(x, y), halves, 0.0, 0.9, (200, 100), "")
    assert found.value == pytest.approx(statistic(x, y) - bias, abs=0.15 * bias)
    assert found.plug_in == statistic(x, y)


def test_ends_of_a_square_solve_their_equation() -> None:
    z = 1.6448536269514722
    found = square_interval(0.5, 0.1, 0.02, 0.9, (10, 10), "")
    for end in (found.low, found.high):
        assert (0.5 - end) ** 2 == pytest.approx(z**2 * (0.1 * end + 0.02), rel=1e-9)
    assert root(square_interval(-1.0, 0.0, 0.0, 0.9, (1, 1), "")).value == 0.0


def test_an_estimate_prints_and_is_json() -> None:
    one = Estimate(0.1234, 0.11, math.nan, 0.9, 7, "by hand")
    assert str(one) == "0.123 (0.11 to nan)"
    assert one.to_dict()["high"] is None
    assert json.loads(json.dumps(one.to_dict()))["count"] == 7


# ---- samples against held-out and training data


def test_rows_have_both_sets_and_floors_at_the_same_numbers() -> None:
    rows = measure_sets(*IMAGES, metrics=["sliced_w2", "mmd", "precision", "spectrum"])
    assert [(row.against, row.metric) for row in rows] == [
        (against, name)
        for against in ("held-out", "training")
        for name in ("sliced_w2", "mmd", "precision", "spectrum")
    ]
    for row in rows:
        counts = (60, 50) if row.against == "held-out" else (50, 80)
        for one in (row.estimate, row.floor):
            assert (one.count, one.reference_count) == counts
        assert json.dumps(row.to_dict())


def test_without_training_data_the_held_out_data_are_halved() -> None:
    rows = measure_sets(X, Y, metrics=["coverage"])
    assert [row.against for row in rows] == ["held-out"]
    assert (rows[0].estimate.count, rows[0].estimate.reference_count) == (50, 50)
    assert (rows[0].floor.count, rows[0].floor.reference_count) == (50, 50)


def test_data_as_samples_are_at_the_floor_and_copies_are_below_it() -> None:
    data = normal(15, 900, 4)
    train, held_out, samples = data.split(300)
    names = ["sliced_w2", "mmd", "coverage"]
    assert all(row.at_floor for row in measure_sets(samples, held_out, train, metrics=names))
    copies = {
        r.metric: r
        for r in measure_sets(train, held_out, train, metrics=["coverage"])
        if r.against == "training"
    }
    assert copies["coverage"].estimate.value == 1.0
    far = measure_sets(samples + 1.0, held_out, train, metrics=names)
    assert not any(row.at_floor for row in far)


def test_left_out_examples_are_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorefield.evaluation.kernels.MOST", 40)
    (row,) = (r for r in measure_sets(X, Y, X, metrics=["mmd"]) if r.against == "held-out")
    assert row.estimate.method.endswith(
        "a random 40 of 120 samples; a random 40 of 100 examples of the data"
    )


def test_default_metrics_suit_the_data() -> None:
    names = {
        row.metric
        for row in measure_sets(*(part[:, 0, 0] for part in IMAGES), names=list("abcdef"))
    }
    assert names == set(METRICS) - {"spectrum", "category_tv", "sliced_features"}


def test_classes_are_measured_one_by_one() -> None:
    classes = torch.arange(120) % 3
    found = measure_classes(X, Y, classes, torch.arange(100) % 2, metrics=["mmd"])
    assert set(found) == {0, 1}
    assert found[0][0].estimate.count == 25
    with pytest.raises(InputError, match="one whole number for each of 120"):
        measure_classes(X, Y, classes[:5], torch.arange(100))
    with pytest.raises(InputError, match="one whole number"):
        measure_classes(X, Y, classes.double(), torch.arange(100))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"metrics": ["fid"]}, "there is no metric 'fid'"),
        ({"metrics": ["recal"]}, "did you mean 'recall'"),
        ({"metrics": ["spectrum"]}, "spectrum needs a grid"),
        ({"metrics": ["correlation"]}, "correlation needs a table"),
        ({"metrics": "mmd"}, "metrics must be a list"),
        ({"train": Y[:, :2]}, "train must be 20 or more events of the shape"),
        ({"held_out": Y[:30]}, "held_out must be 40 or more"),
        ({"samples": X[:5]}, "samples must be 20 or more"),
        ({"level": 2}, "level"),
    ],
)
def test_bad_comparisons_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        measure_sets(**{"samples": X, "held_out": Y, **given})


def test_every_metric_is_described_and_measured() -> None:
    measured = {name for family in FAMILIES for name in family}
    assert measured | {"marginal_w1", "category_tv", "correlation"} == set(METRICS)
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.measures.endswith(".")


def row(value: float, half: float, floor: float, floor_half: float) -> MetricRow:
    ends = [Estimate(v, v - h, v + h, 0.9, 9, "") for v, h in ((value, half), (floor, floor_half))]
    return MetricRow("mmd", "held-out", ends[0], ends[1], 0.0)


def test_a_row_is_at_the_floor_within_both_intervals() -> None:
    assert row(1.0, 0.3, 1.4, 0.3).at_floor
    assert not row(1.0, 0.3, 1.5, 0.3).at_floor
    assert row(1.4, 0.3, 1.0, 0.3).at_floor
