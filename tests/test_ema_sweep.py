"""The sweep over averages of a run: its losses are those of the averages, its samples theirs."""

import json

import pytest
import torch

import scorefield as sf
from scorefield.checkpoint import load_state
from scorefield.errors import InputError
from scorefield.evaluation.ema_sweep import ema_sweep, live_model
from scorefield.runs import Run
from scorefield.training import HeldOutLoss
from scorefield.training.ema import gamma_of
from scorefield.training.posthoc import coefficients, profile_error, rebuild


@pytest.fixture(scope="module")
def sweep(digits_run):
    return ema_sweep(digits_run, samples=3, nfe=6)


def test_every_average_has_a_row(sweep):
    assert sweep.rows[0].name == "live"
    widths = [row.width for row in sweep.rows[1:]]
    assert widths == sorted(widths) and {0.02, 0.1} <= set(widths) and len(widths) == 9
    sources = {row.width: row.source for row in sweep.rows}
    assert sources[0.02] == sources[0.1] == "tracked" and sources[0.05] == "rebuilt"


def test_the_loss_of_the_kept_average_is_that_of_the_run(sweep, digits_run):
    """The last line of metrics holds the held-out loss of the same weights, examples and noise."""
    final = Run(digits_run).records()[-1]
    kept = next(row for row in sweep.rows if row.name == sweep.model)
    assert kept.width == 0.02 and kept.loss.examples == final["held_out_examples"]
    assert kept.loss.value == pytest.approx(final["held_out"], rel=1e-5)
    live = sweep.rows[0].loss.value  # negative control: other weights have another loss
    assert abs(live - final["held_out"]) > 1e-4 * live


def test_differences_are_paired(sweep):
    """Losses of one example under two averages are nearly equal: differences are precise."""
    assert sweep.best.above_best == HeldOutLoss(0.0, 0.0, sweep.best.loss.examples)
    for row in sweep.rows:
        assert row.above_best.value >= 0
        assert row.above_best.se < row.loss.se
    assert sweep.best.is_tied and sweep.best.name in sweep.sentence


def test_samples_have_equal_seeds_and_their_weights(sweep, digits_run):
    assert list(sweep.samples) == ["live", "relative width 0.02"]
    model = sf.load(digits_run)
    assert torch.equal(sweep.samples["relative width 0.02"], sf.sample(model, 3, 0, nfe=6))
    live = live_model(digits_run)
    assert torch.equal(sweep.samples["live"], sf.sample(live, 3, 0, nfe=6))
    stored = load_state(Run(digits_run).state)[0]["network"]
    assert all(torch.equal(stored[name], v) for name, v in live.network.state_dict().items())


def test_rebuilt_weights_are_combinations_whose_coefficients_sum_to_one(digits_run):
    import numpy as np

    times = np.repeat(np.arange(1.0, 9.0), 2)
    gammas = np.tile([gamma_of(0.02), gamma_of(0.1)], 8)
    for width in (0.01, 0.05, 0.2, 0.25):
        assert coefficients(times, gammas, 8.0, gamma_of(width)).sum() == pytest.approx(1.0)
    errors = [profile_error(times, gammas, 8.0, gamma_of(w)) for w in (0.02, 0.1, 0.05, 0.01)]
    assert max(errors[:2]) < 1e-6 and 0.05 < errors[2] < 0.2 and errors[3] > 0.2
    tracked = rebuild(digits_run, 0.02)
    model = sf.load(digits_run)
    for name, value in model.network.state_dict().items():
        assert torch.allclose(tracked[name], value, atol=1e-5)


def test_widths_are_chosen_and_results_stored(digits_run):
    found = ema_sweep(digits_run, widths=[0.05], evaluations=20, samples=0)
    assert [row.width for row in found.rows] == [None, 0.02, 0.05, 0.1]
    assert found.samples == {} and found.rows[1].loss.examples == 20
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert stored["best"] == found.best.name and len(stored["rows"]) == 4
    assert "held-out" in str(found)


def test_an_average_that_holds_its_start_is_named(digits_run):
    from dataclasses import replace

    found = ema_sweep(digits_run, widths=[], evaluations=20, samples=0)
    assert "initial weights" not in found.sentence
    rows = (found.rows[0], replace(found.rows[1], initial_fraction=0.4), found.rows[2])
    assert "still holds 40% of the initial weights" in replace(found, rows=rows).sentence


def test_a_folder_without_a_state_is_refused(tmp_path):
    with pytest.raises(InputError, match="training state"):
        ema_sweep(tmp_path)
    with pytest.raises(InputError, match="training state"):
        live_model(tmp_path)
