"""Score health: every measure against its truth on exact densities, and faults made by wrapping.

An exact score is sound at any noise level, and a wrapped one has a known fault. Means of many
examples lie within 4.5 standard errors of their truth (false alarm 7e-6 each); the seeds are fixed.
"""

import json
import math

import pytest
import torch

from evaluation_helpers import Changed
from scorefield import diagnostics
from scorefield.conditions import ConditionSpec
from scorefield.diagnostics import health_levels, score_health
from scorefield.diagnostics.health_data import Reference
from scorefield.diagnostics.health_rows import ratio_of
from scorefield.errors import InputError
from scorefield.exact import Empirical, GaussianMixture
from scorefield.models import Preconditioned
from scorefield.networks import build
from scorefield.objectives import Estimate, fisher_divergence

ERRORS = 4.5
D = 12
ROTATION = torch.linalg.qr(
    torch.randn(D, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
)[0]
SPECTRUM = torch.cat([torch.tensor([1.0, 0.6]), 0.3 * 0.6 ** torch.arange(10)]).double()
COVARIANCE = ROTATION @ SPECTRUM.diag() @ ROTATION.T
SHIFT = torch.linspace(-1.5, 1.5, D, dtype=torch.float64)


def mixture() -> GaussianMixture:
    """Two correlated components, whose score is far from linear, with a mean that varies."""
    apart = 1.5 * ROTATION[:, 0]
    means = torch.stack([SHIFT - apart, SHIFT + apart])
    return GaussianMixture(means, torch.stack([0.4 * COVARIANCE, 0.4 * COVARIANCE]))


P = mixture()
STD = math.sqrt(float(P.moments().variance.mean()))
TRAIN, HELD_OUT = P.sample(4000, seed=1), P.sample(1000, seed=2)
LEVELS = [4 * STD, STD, STD / 3, STD / 10]


def health(model=P, **options):
    given = {"levels": LEVELS, "examples": 1000, **options}
    return score_health(model, HELD_OUT, TRAIN, **given)


@pytest.fixture(scope="module")
def sound():
    return health(truth=P)


def near(found: Estimate, truth: float, slack: float = 0.0) -> bool:
    return abs(found.value - truth) < ERRORS * found.se + slack


# -- the measures of a sound score


def test_an_exact_score_has_no_finding(sound):
    assert sound.sound and sound.names == () and sound.notes == ()
    assert "No fault" in str(sound)


@pytest.mark.parametrize("level", range(len(LEVELS)))
def test_identities_hold_for_the_exact_score(sound, level):
    row = sound.rows[level]
    # The slope of x0 on D is left out where D hardly varies.
    assert near(row.stein, 0.0, 0.02) and near(row.slope, 1.0)
    assert near(row.calibration, 1.0) and near(row.intercept, 0.0)
    assert near(row.denoised_slope, 1.0)
    assert row.asymmetry.value < 1e-8 and row.fisher.value < 1e-20
    assert math.isnan(row.detail.value) or row.detail.value > 0.95
    assert near(row.gap, 0.0)
    assert row.learned.value < 1 - row.loss.value + ERRORS * row.loss.se


def test_loss_is_the_expected_loss_of_a_gaussian():
    """E|D - x0|² = sum v sigma²/(v + sigma²) for N(m, C), v its eigenvalues."""
    p = GaussianMixture(SHIFT[None], COVARIANCE[None])
    held, train = p.sample(2000, seed=5), p.sample(4000, seed=6)
    rows = score_health(p, held, train, levels=LEVELS, examples=2000).rows
    reference = Reference(train)
    for row in rows:
        expected = float((SPECTRUM * row.sigma**2 / (SPECTRUM + row.sigma**2)).sum())
        expected /= reference.nothing(row.sigma)
        assert near(row.loss, expected) and near(row.training_loss, expected)
        assert row.gaussian.value == pytest.approx(row.loss.value, rel=0.02)  # fitted to 4000
        wrong = expected * 1.15  # negative control: another loss does not agree
        assert not near(row.loss, wrong)


def test_stein_deviation_of_a_scaled_score():
    """Of a s: E[(a s + z/sigma)·(x - m)]/d = 1 - a."""
    scaled = Changed(P, lambda D, x, sigma: x + 1.1 * (D - x))
    for row in health(scaled).rows:
        assert near(row.stein, -0.1, 0.02)
        assert row.slope.value == pytest.approx(1 / 1.1, rel=0.1)


def test_small_noise_leaves_the_deviation_precise(sound):
    """The control variate: without it the standard error is std/sigma/sqrt(n d), 0.09 here."""
    assert sound.rows[-1].stein.se < 0.03


def test_asymmetry_of_a_linear_score_is_that_of_its_matrix():
    """D = J x with J = S + A: |J - J'|/|J| = 2 |A|/|S + A|."""
    g = torch.Generator().manual_seed(0)
    matrix = torch.randn(D, D, generator=g, dtype=torch.float64)
    linear = Changed(P, lambda D, x, sigma: x @ matrix.T)
    truth = float((matrix - matrix.T).norm() / matrix.norm())
    for row in health(linear, levels=[STD]).rows:
        assert near(row.asymmetry, truth)
        assert row.asymmetry.se < 0.15


def test_fisher_divergence_agrees_with_that_of_objectives():
    wrong = Changed(P, lambda D, x, sigma: D + 0.1)
    row = health(wrong, levels=[STD], truth=P).rows[0]
    direct = fisher_divergence(wrong, P, STD, count=4000)
    assert row.fisher.value == pytest.approx(D * 0.01 / STD**4 / 2, rel=1e-6)
    assert direct.value == pytest.approx(row.fisher.value, rel=1e-6)


def test_memoriser_of_the_rows_is_the_data_of_the_training_set():
    """The row's memoriser has the loss of `Empirical(train)`, and distance 0 to itself."""
    memoriser = Empirical(TRAIN[:200])
    found = score_health(memoriser, HELD_OUT, TRAIN[:200], levels=LEVELS, examples=500)
    for row in found.rows:
        assert row.memoriser_distance.value < 1e-12
        assert row.memoriser.value == pytest.approx(row.loss.value, rel=1e-9)
    assert found.names == ("memorised",)
    assert found.rows[-1].gap.value > 0.95


def test_memoriser_distance_of_the_true_score(sound):
    """E|x0 - D_m|² = E|x0 - D|² + E|D - D_m|²: the distance is 1 - loss/memoriser."""
    for row in sound.rows:
        expected = 1 - row.loss.value / row.memoriser.value
        assert row.memoriser_distance.value == pytest.approx(expected, abs=0.06)


def test_standard_error_of_a_ratio():
    """The linearised standard error against the spread over 400 repeats, within 15 %."""
    g = torch.Generator().manual_seed(0)
    found = []
    for _ in range(400):
        bottom = 2 + torch.rand(200, generator=g).double()
        top = 3 * bottom + torch.randn(200, generator=g).double()
        found.append(ratio_of(top, bottom))
    values = torch.tensor([f.value for f in found])
    assert float(values.std()) == pytest.approx(found[0].se, rel=0.15)
    assert float(values.mean()) == pytest.approx(3.0, abs=0.01)


# -- faults made by wrapping


def rotated(D, x, sigma):
    """A field without divergence along the density: curl of 0.6 times the score."""
    skew = torch.zeros(len(SHIFT), len(SHIFT), dtype=torch.float64)
    for k in range(0, len(SHIFT), 2):
        skew[k, k + 1], skew[k + 1, k] = 1.0, -1.0
    return D + 0.6 * sigma**2 / (sigma**2 + STD**2) * (x - SHIFT) @ skew.T


def nothing(D, x, sigma):
    """What means and variances alone know."""
    variance = P.moments().variance
    return SHIFT + variance / (variance + sigma**2) * (x - SHIFT)


FAULTS = {
    "sign": Changed(P, lambda D, x, sigma: 2 * x - D),
    "curl": Changed(P, rotated),
    "over-smoothed": Changed(P, lambda D, x, sigma: SHIFT + 0.6 * (D - SHIFT)),
    "not finite": Changed(P, lambda D, x, sigma: D / 0 if sigma < STD else D),
    "other data": GaussianMixture(
        SHIFT[torch.tensor([4, 9, 1, 7, 0, 11, 3, 6, 10, 2, 8, 5])][None], 0.2
    ),
    "start": Changed(P, nothing),
    "start ": Changed(P, lambda D, x, sigma: STD**2 / (STD**2 + sigma**2) * x),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_by_its_name(name):
    found = health(FAULTS[name], examples=500)
    assert found.names == (name.strip(),), str(found)
    assert found.sentence.startswith(name.strip())


@pytest.mark.parametrize(("a", "b"), [(-1.0, 0.0), (0.5, 0.5), (2.0, -1.0), (1.0, 1.0)], ids=str)
def test_values_of_another_range_are_named(a, b):
    """The model knows p, and the data are a x + b: swapped, squeezed, stretched, shifted."""
    found = score_health(P, a * HELD_OUT + b, a * TRAIN + b, levels=6, examples=500)
    assert found.names == ("range",), str(found)
    assert found.findings[0].size == pytest.approx(1 / a, rel=0.05)


@pytest.mark.parametrize("factor", [4.0, 0.5])
def test_a_scale_alone_is_named(factor):
    """Data of mean 0 in two dimensions, wider and narrower than the model's."""
    p = GaussianMixture([[-1.0, 0.0], [1.0, 0.0]], 0.2)
    held, train = p.sample(500, seed=1), p.sample(2000, seed=2)
    assert score_health(p, held, train).sound
    assert score_health(p, factor * held, factor * train).names == ("range",)


def test_averages_that_hold_their_start_are_told_by_the_live_weights():
    half = Changed(P, lambda D, x, sigma: (D + nothing(D, x, sigma)) / 2)
    found = health(half, live=P)
    assert found.names == ("start",) and "live weights" in found.sentence
    assert health(P, live=half).sound  # the average is better: no finding


def test_small_deviations_are_notes_and_no_findings():
    found = health(Changed(P, lambda D, x, sigma: SHIFT + 0.9 * (D - SHIFT)))
    assert found.sound and found.notes


# -- arguments and results


def test_results_are_a_function_of_the_seed(sound):
    again = health(truth=P)
    assert again.to_dict() == sound.to_dict()
    assert health(seed=1).rows[0].loss != sound.rows[0].loss


def test_a_network_in_float32_keeps_its_mode():
    model = Preconditioned(build("mlp", (D,), width=16, depth=1), (D,)).train()
    found = score_health(model, HELD_OUT.float()[:20], TRAIN.float()[:50], levels=3, examples=64)
    assert model.training and len(found.rows) == 3
    assert found.held_out == 20 and found.training == 50
    assert all(p.grad is None for p in model.parameters())


def test_few_examples_get_several_noises():
    few = score_health(P, HELD_OUT[:8], TRAIN, levels=[STD], examples=512).rows[0]
    one = score_health(P, HELD_OUT[:8], TRAIN, levels=[STD], examples=8).rows[0]
    assert few.slope.se < 0.8 * one.slope.se


def test_conditions_are_those_of_the_examples():
    p = GaussianMixture([[-2.0, 0.0], [2.0, 0.0]], 0.3, labels=[0, 1])
    x = torch.cat([p.sample(600, seed=1)])
    given = {"class": (x[:, 0] > 0).long()}
    with_class = score_health(
        p,
        x[:300],
        x[300:],
        {"class": given["class"][:300]},
        levels=[1.0, 0.3],
        train_condition={"class": given["class"][300:]},
    )
    without = score_health(p, x[:300], x[300:], levels=[1.0, 0.3])
    assert with_class.sound and without.sound
    assert with_class.rows[0].loss.value < 0.8 * without.rows[0].loss.value
    assert p.conditions == {"class": ConditionSpec("class", 2)}


def test_levels_lie_in_the_range_and_on_the_ladder():
    levels = health_levels(P, 5, STD)
    assert levels == sorted(levels, reverse=True) and len(levels) == 5
    assert levels[0] == pytest.approx(10 * STD) and levels[-1] == pytest.approx(STD / 25)
    ladder = [8.0, 4.0, 2.0, 1.0, 0.5, 0.25]
    network = build("mlp", (2,), width=8, depth=1)
    model = Preconditioned(network, (2,), 0.25, 8.0, preconditioner="ncsn", ladder=ladder)
    assert set(health_levels(model, 3, 0.5)) <= set(ladder)
    with pytest.raises(InputError, match="levels"):
        health_levels(P, [], STD)
    with pytest.raises(InputError, match="sigma"):
        health_levels(model, [100.0], STD)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="held_out"):
        score_health(P, HELD_OUT[:1], TRAIN)
    with pytest.raises(InputError, match="train"):
        score_health(P, HELD_OUT, TRAIN[:, :3])
    with pytest.raises(InputError, match="finite"):
        score_health(P, HELD_OUT * math.nan, TRAIN)


def test_the_result_is_json_and_a_picture(sound, tmp_path):
    stored = json.loads(json.dumps(sound.to_dict(), allow_nan=False))
    assert stored["sound"] is True and len(stored["levels"]) == len(LEVELS)
    assert stored["levels"][0]["loss"].keys() == {"value", "se", "low", "high"}
    broken = health(FAULTS["not finite"])
    json.dumps(broken.to_dict(), allow_nan=False)
    for one in (sound, broken):
        assert one.picture().save(tmp_path / "health.png").stat().st_size > 1000


def test_the_room_lists_its_functions():
    assert {"score_health", "Health", "Finding"} <= set(diagnostics.__all__)
