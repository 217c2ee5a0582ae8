"""The best point of a run: marks, when the loss has turned, and what the run keeps."""

import shutil
from pathlib import Path

import pytest
import torch
from bench.kills import contents, different
from safetensors.torch import load_file

import scorefield as sf
from scorefield import checkpoint, rng
from scorefield.config import Request, override, preset
from scorefield.models import Preconditioned
from scorefield.networks.mlp import MLP
from scorefield.objectives import Denoising
from scorefield.runs import Run, read_lines
from scorefield.training import EMA, Batch, TrainState, train, train_step, trainer
from scorefield.training.assess import Assessor
from scorefield.training.best import (
    EXPECTED,
    FLOOR,
    FRACTION,
    LEAST,
    BestPoint,
    evaluations,
    mark,
)

BATCH = 64


def losses(mean: float, noise: float = 0.0, count: int = 50) -> torch.Tensor:
    """Losses of examples that differ much between examples and little between marks."""
    generator = torch.Generator().manual_seed(0)
    common = torch.rand(count, generator=generator, dtype=torch.float64)
    own = torch.randn(count, generator=torch.Generator().manual_seed(int(1e6 * mean)))
    return common - common.mean() + mean + noise * (own - own.mean())


def average(value: float = 0.0) -> EMA:
    network = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(network.weight, value)
    return EMA(network)


def point(means: list[float], noise: float = 0.001, first: int = 1000) -> BestPoint:
    """Marks at doublings of the images, whose weights are the number of the mark."""
    found = BestPoint()
    for k, mean in enumerate(means):
        found.add(first * 2**k, losses(mean, noise), average(float(k)))
    return found


# -- marks


def test_marks_lie_at_quarters_of_a_doubling():
    crossed = [k for k in range(1, 65) if mark(k * BATCH, BATCH) > mark((k - 1) * BATCH, BATCH)]
    assert crossed[:6] == [4, 5, 6, 7, 8, 10]
    assert crossed[-5:] == [32, 39, 46, 54, 64]
    assert mark(3 * BATCH, BATCH) == 0
    assert mark(8 * BATCH, BATCH) == 5
    assert mark(4 * 2**10 * BATCH, BATCH) == 41


def test_marks_take_a_hundredth_of_the_time():
    assert evaluations(300.0, 1e-3, 512) == int(FRACTION * 300 / EXPECTED / 1e-3)
    assert evaluations(1e9, 1e-3, 512) == 512
    assert evaluations(1.0, 1e-5, 5120) == int(FLOOR / EXPECTED / 1e-5)
    assert evaluations(1.0, 1e-3, 512) == 0  # too few to say anything
    assert evaluations(1e9, 1e-3, 4) == 4
    assert LEAST > 2


# -- the decision


def test_loss_that_rises_beyond_its_error_has_turned():
    found = point([0.9, 0.5, 0.4, 0.45, 0.6])
    assert found.best_images == 4000
    assert float(found.weights["weight"][0, 0]) == 2.0


def test_rise_within_the_error_has_not_turned():
    found = point([0.9, 0.5, 0.400, 0.405], noise=0.1)
    assert found.best_images is None
    assert point([0.9, 0.5, 0.400, 0.405], noise=0.001).best_images == 4000  # the control


def test_loss_that_falls_again_has_not_turned():
    assert point([0.9, 0.5, 0.4, 0.6, 0.39]).best_images is None
    assert point([0.9, 0.5, 0.4, 0.6, 0.41]).best_images == 4000


def test_no_marks_and_one_example_keep_the_last_weights():
    assert BestPoint().best_images is None
    found = BestPoint()
    for k, value in enumerate((0.5, 0.9)):
        found.add(1000 * (k + 1), torch.tensor([value]), average())
    assert found.best_images is None


def test_fall_is_that_of_a_doubling():
    found = BestPoint()
    for k in range(9):
        found.add(round(1000 * 2 ** (k / 4)), losses(1 - 0.1 * k / 4), average())
    fell, error = found.falling() or (0.0, 0.0)
    assert fell == pytest.approx(0.1, rel=1e-3)
    assert error < 1e-6
    assert point([0.9]).falling() is None
    assert BestPoint().falling() is None


def test_best_point_survives_its_state():
    found, again = point([0.9, 0.5, 0.7]), BestPoint()
    again.load_state_dict(found.state_dict())
    assert again.best_images == found.best_images == 2000
    assert again.falling() == found.falling()
    assert all(torch.equal(again.weights[n], w) for n, w in found.weights.items())
    again.add(8000, losses(0.3), average(7.0))
    assert again.best_images is None


# -- a run

ROWS = 40


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No pictures, which take longer than these trainings, and whole marks on a slow machine."""
    _quick(monkeypatch)


def _quick(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Assessor, "_preview", lambda *_: None)
    patch.setattr("scorefield.training.assess.evaluations", lambda whole, seconds, most: most)


def overfitting(images: int = 350 * BATCH, **settings: object) -> Request:
    """A perceptron that learns 40 rows by heart."""
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return override(
        preset("fast"),
        {
            "images": images,
            "data.held_out": 0.25,
            "network.options.width": 48,
            "network.options.depth": 2,
            "network.options.dropout": 0.0,
            "optim.batch": BATCH,
            "optim.lr": 1e-2,
            "optim.warmup": 256,
            "execution.precision": "float32",
            "execution.compile": "off",
            "execution.threads": 1,
            **named,
        },
    )


def pairs(count: int, seed: int) -> torch.Tensor:
    """Rows of four columns, correlated in pairs."""
    z = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return torch.stack([z[:, 0], z[:, 0] + 0.3 * z[:, 1], z[:, 2], z[:, 2] + 0.3 * z[:, 3]], dim=1)


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    return pairs(ROWS, 4)


@pytest.fixture(scope="module")
def turned(rows, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("turned") / "run"
    with pytest.MonkeyPatch.context() as patch:
        _quick(patch)
        train(overfitting(), folder, rows)
    return folder


@pytest.mark.training
def test_run_that_overfits_keeps_its_best_point_and_the_last_weights(turned):
    run = Run(turned)
    best, last = sf.load(run.model), sf.load(run.last)
    assert best.card is not None
    assert last.card is not None
    history = best.card["history"]
    assert history["weights"] == "best"
    assert last.card["history"]["weights"] == "last"
    assert 10 * BATCH < history["best_images"] < history["images"] / 2
    state, _ = checkpoint.load_state(run.state)
    assert state is not None
    averages = state["averages"][0]
    assert all(
        torch.equal(value, averages[name.removeprefix("network.")])
        for name, value in load_file(run.last).items()
        if name.startswith("network.")
    )
    assert not torch.equal(best.network.head.weight, last.network.head.weight)
    assert "past its best" in history["verdict"]["sentence"]
    assert f"{history['best_images']:,}" in history["verdict"]["sentence"]
    # the last line of metrics is that of the model that is kept
    held_out = next(line for line in run.records() if line.get("final"))["held_out"]
    assert held_out == pytest.approx(history["verdict"]["held_out"])
    losses_at_end = state["best"]["losses"][-1].mean()
    assert held_out < float(losses_at_end) - 0.05


class Killed(Exception):
    """Stands for a killed process."""


@pytest.mark.training
@pytest.mark.parametrize("steps", [30, 300])
def test_best_point_survives_a_kill_bitwise(steps, turned, rows, tmp_path, monkeypatch):
    """Killed before and after the best point."""
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(Run(turned).schedule, Run(run).schedule)
    original, calls = trainer.train_step, [0]

    def killing(*args, **kwargs):
        calls[0] += 1
        if calls[0] > steps:
            raise Killed
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train_step", killing)
        with pytest.raises(Killed):
            train(overfitting(), run, rows, checkpoint_seconds=0.05)
    train(overfitting(), run, rows)
    assert different(contents(run), contents(turned), ("schedule ",)) == []


@pytest.mark.training
def test_run_that_does_not_overfit_keeps_its_last_weights(tmp_path):
    train(overfitting(100 * BATCH), tmp_path, pairs(2000, 5))
    run = Run(tmp_path)
    assert not run.last.exists()
    card = sf.load(run.model).card
    assert card is not None
    assert card["history"]["best_images"] is None
    assert card["history"]["weights"] == "last"
    sizes = [line for line in read_lines(run.schedule) if line["kind"] == "evaluation"]
    assert sizes[0]["images"] == 0  # of the marks


# -- dropout


def test_dropout_acts_in_training_only():
    network, x = MLP((3,), width=32, depth=1, dropout=0.5), torch.randn(8, 3)
    torch.nn.init.normal_(network.blocks[0].outer.weight)
    torch.nn.init.normal_(network.head.weight)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))
    assert network.options["dropout"] == 0.5


def test_step_leaves_the_callers_random_numbers_alone():
    network = MLP((3,), width=8, depth=1, dropout=0.5)
    optimiser = torch.optim.AdamW(network.parameters())
    state = TrainState(Preconditioned(network, (3,)), Denoising(), optimiser)
    before = torch.get_rng_state()
    train_step(state, Batch(torch.randn(8, 3), torch.ones(8), rng.keys(0, 8)))
    torch.randn(8, 3)
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    torch.randn(8, 3)
    torch.randn(8, 3)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.training
def test_run_with_dropout_resumes_bitwise(rows, tmp_path, monkeypatch):
    request = overfitting(40 * BATCH, network__options__dropout=0.3)
    torch.manual_seed(1)
    train(request, tmp_path / "a", rows)
    original, calls = trainer.train_step, [0]

    def killing(*args, **kwargs):
        calls[0] += 1
        if calls[0] > 17:
            raise Killed
        return original(*args, **kwargs)

    (tmp_path / "b").mkdir()
    shutil.copy(Run(tmp_path / "a").schedule, Run(tmp_path / "b").schedule)
    torch.manual_seed(2)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train_step", killing)
        with pytest.raises(Killed):
            train(request, tmp_path / "b", rows, checkpoint_seconds=0.0)
    train(request, tmp_path / "b", rows)
    assert different(contents(tmp_path / "a"), contents(tmp_path / "b"), ("schedule ",)) == []
    train(overfitting(40 * BATCH), tmp_path / "c", rows)  # the control: no dropout
    assert "model network.head.weight" in different(
        contents(tmp_path / "a"), contents(tmp_path / "c")
    )
