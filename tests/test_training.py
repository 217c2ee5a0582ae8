"""Training: exact resume, budgets, averages, the guard, small data, conditions, custom networks."""

import dataclasses
import errno
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from bench.kills import FOR_EVALUATIONS, contents, different, kills
from bench.levels import levels
from torch import nn

import scorefield as sf
from scorefield import checkpoint, networks, rng
from scorefield.config import OptimConfig
from scorefield.data import open as open_data
from scorefield.errors import InputError, NonFiniteError
from scorefield.files import write_bytes
from scorefield.models import Preconditioned
from scorefield.noise import Levels, LogNormal, LogUniform, geometric, stratified
from scorefield.objectives import WEIGHTS, Denoising
from scorefield.runs import Run, append_line, read_lines
from scorefield.training import (
    EMA,
    Batch,
    Evaluator,
    Hooks,
    TrainState,
    assess,
    draw_sigma,
    fit,
    rebuild,
    train,
    train_step,
    trainer,
)
from scorefield.training.budget import Budget, Clock
from scorefield.training.build import Setup, build, resolve_config
from scorefield.training.ema import gamma_of
from scorefield.training.evaluator import PREVIEW_NFE
from scorefield.training.meter import Meter
from scorefield.training.optimisers import (
    NEWTON_SCHULZ,
    OPTIMISERS,
    Muon,
    make_optimiser,
    orthogonalise,
)
from scorefield.training.schedule import Schedule
from scorefield.training.segment import Goal, learning_rate
from small_runs import BATCH, IMAGES, STEPS, Killed, fake_clock, kill_at_call, replayed, small


def prepared(images: int = IMAGES, **settings: object) -> Setup:
    """The parts of a training that has not begun."""
    request = small(images, **settings)
    dataset = open_data(request.data.source)
    return build(resolve_config(request, dataset), dataset)


@pytest.fixture(scope="session")
def straight(tmp_path_factory) -> Path:
    """A run that was never stopped. Only read it."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    summary = train(small(), folder)
    assert summary.reason == "image budget reached"
    assert summary.images == IMAGES
    return folder


# -- resuming


KILLS = [
    ("step", trainer, "train_step", 23, False),
    ("between state and model", checkpoint, "save_model", 20, False),
    ("after a snapshot", trainer.RunWriter, "save_snapshot", 3, True),
    ("before the end is recorded", Schedule, "finish", 1, False),
    ("after the end is recorded", Schedule, "finish", 1, True),
    ("first preview", assess, "draw_preview", 1, False),
    ("last evaluation, begun", Evaluator, "loss_per_sigma", 1, False),
    ("last evaluation, before the pictures", assess, "draw_loss_per_sigma", 1, False),
    ("last evaluation, after the pictures", assess, "draw_training_curve", 1, True),
]


@pytest.mark.parametrize("every", [0.0, 1e9])
@pytest.mark.parametrize("kill", KILLS, ids=[k[0] for k in KILLS])
def test_killed_run_resumes_bitwise(kill, every, straight, tmp_path, monkeypatch):
    """Every file a user sees, with a checkpoint after every step and without any.

    The record of the straight run is given, so that evaluations have the same sizes.
    """
    _, owner, name, call, after = kill
    if name == "save_model" and every > 0:
        call = 1
    run = tmp_path / "run"
    run.mkdir()
    record = [line for line in read_lines(Run(straight).schedule) if line["kind"] != "end"]
    for line in record:
        append_line(Run(run).schedule, line)
    with monkeypatch.context() as patch:
        kill_at_call(patch, owner, name, call, after)
        with pytest.raises(Killed):
            train(small(), run, checkpoint_seconds=every)
    summary = train(small(), run, checkpoint_seconds=every)
    assert summary.reason == "image budget reached"
    assert len(summary.held_out["sigma"]) == 12
    same = different(contents(run), contents(straight), ("schedule ",))
    assert same == []
    assert train(small(), run).reason.startswith("already complete")


def test_killed_run_with_a_time_budget_equals_the_replay_of_its_record(tmp_path, monkeypatch):
    """Two kills, the second one beyond a checkpoint, then a run by the same schedule.jsonl.

    The third process begins at the 24th step and follows the points that the second one recorded.
    """
    request, run = small(None, seconds=1.5), tmp_path / "run"
    for call, every in ((25, 0.0), (13, 1e9)):
        with monkeypatch.context() as patch:
            fake_clock(patch, 0.02)
            kill_at_call(patch, trainer, "train_step", call)
            with pytest.raises(Killed):
                train(request, run, checkpoint_seconds=every)
    stored, _ = checkpoint.load_state(run / "state")
    assert stored is not None
    assert stored["steps"] == 24
    before = [r for r in read_lines(Run(run).schedule) if r["kind"] == "plan"]
    assert before[-1]["images"] > 24 * BATCH
    with monkeypatch.context() as patch:
        fake_clock(patch, 0.02)
        summary = train(request, run)
    assert summary.reason == "time budget reached"
    plans = [r for r in read_lines(Run(run).schedule) if r["kind"] == "plan"]
    assert plans[: len(before)] == before
    assert len(plans) > len(before) + 5
    assert plans[-1]["budget"] == summary.images
    replay = replayed(run, tmp_path / "replay", request)
    assert different(contents(run), contents(replay)) == []
    # negative control: another plan gives other weights
    other = tmp_path / "other"
    other.mkdir()
    for line in read_lines(Run(tmp_path / "run").schedule):
        changed = {**line, "budget": line["budget"] * 2} if line["kind"] == "plan" else line
        append_line(Run(other).schedule, changed)
    train(request, other)
    assert "state/network/head.weight" in different(contents(tmp_path / "run"), contents(other))


def test_signal_saves_and_the_rerun_resumes_bitwise(straight, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(Run(straight).schedule, Run(run).schedule)
    original = trainer.train_step

    def signalling(state, *args):
        result = original(state, *args)
        if state.images == 23 * BATCH:
            signal.raise_signal(signal.SIGTERM)
        return result

    monkeypatch.setattr(trainer, "train_step", signalling)
    summary = train(small(), run)
    assert (summary.signal, summary.images) == (signal.SIGTERM, 23 * BATCH)
    assert summary.reason == "stopped by signal 15; saved"
    assert (run / "model.safetensors").exists()
    train(small(), run)
    assert different(contents(run), contents(straight)) == []


def test_comparison_of_runs_sees_another_seed(straight, tmp_path):
    """The bitwise comparisons above are not vacuous."""
    train(small(seed=1), tmp_path / "run")
    names = different(contents(tmp_path / "run"), contents(straight), FOR_EVALUATIONS)
    assert {n.split("/")[1] for n in names if n.startswith("state/")} >= {
        "network",
        "averages",
        "optimiser",
    }
    assert any(n.startswith("ema/") for n in names)
    assert any(n.startswith("metrics") for n in names)


def test_snapshots_past_the_checkpoint_are_dropped(straight, tmp_path):
    """A run killed before its first checkpoint begins again without its earlier snapshots."""
    run = Run(tmp_path / "run")
    run.previews.mkdir(parents=True)
    run.snapshots.mkdir()
    for path in (run.snapshots / "000000000777.safetensors", run.previews / "000000777.png"):
        path.write_bytes(b"of another trajectory")
    append_line(run.metrics, {"images": 777, "loss": 1.0})
    run.loss_per_sigma.write_bytes(b"old")
    train(small(), run.folder)
    names = sorted(p.name for p in run.snapshots.glob("*"))
    assert names == sorted(p.name for p in Run(straight).snapshots.glob("*"))
    assert not (run.previews / "000000777.png").exists()
    assert all(line["images"] != 777 for line in run.records())
    rebuild(run.folder, 0.05)


def test_metrics_of_a_finished_run_are_in_order(straight):
    lines = Run(straight).records()
    images = [line["images"] for line in lines if "loss" in line]
    assert images == [BATCH * (k + 1) for k in range(STEPS)]
    assert [line["images"] for line in lines if line.get("final")] == [IMAGES]


def test_finished_run_stays_as_it_is(straight):
    before = {p: p.read_bytes() for p in straight.rglob("*") if p.is_file() and p.name != ".lock"}
    summary = train(small(), straight)
    assert summary.reason == "already complete (image budget reached)"
    after = {p: p.read_bytes() for p in straight.rglob("*") if p.is_file() and p.name != ".lock"}
    assert before == after


def test_torn_lines_of_the_record_are_left_out(tmp_path):
    path = tmp_path / "lines.jsonl"
    append_line(path, {"a": 1, "b": math.nan})
    with open(path, "a") as file:
        file.write('{"a": 2, "b"')
    append_line(path, {"a": 3})
    assert read_lines(path) == [{"a": 1, "b": None}, {"a": 3}]


def test_another_configuration_is_refused_and_nothing_changes(straight):
    before = {p: p.read_bytes() for p in straight.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=r"another configuration.*optim\.lr"):
        train(small(optim__lr=0.5), straight)
    assert before == {p: p.read_bytes() for p in straight.rglob("*") if p.is_file()}


def test_run_of_an_older_version_without_a_setting_resumes(straight, tmp_path):
    """New settings have defaults: a config.json that lacks them is the same configuration."""
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    stored = json.loads((run / "config.json").read_text())
    del stored["config"]["optim"]["accumulate"], stored["config"]["sampling"]["options"]
    del stored["config"]["condition"]
    (run / "config.json").write_text(json.dumps(stored))
    assert train(small(), run).reason.startswith("already complete")
    for sampling in ({"sampling__nfe": 50}, {"execution__threads": 2}):  # no weights depend on them
        assert train(small(**sampling), run).reason.startswith("already complete")


def test_other_data_under_the_same_name_are_refused(tmp_path):
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)).numpy()
    settings = {"optim.batch": 32, "network.name": "mlp", "execution.threads": 1}
    fit(x, tmp_path / "run", images=64, settings=settings)
    with pytest.raises(InputError, match="other data: the values of an array"):
        fit(x + 1, tmp_path / "run", images=64, settings=settings)


def test_torn_state_is_passed_over_with_a_notice(tmp_path):
    folder = tmp_path / "state"
    for images in (1, 2, 3):
        checkpoint.save_state(folder, images, {"images": images, "w": torch.ones(3) * images})
    assert len(list(folder.glob("*.state"))) == checkpoint.GENERATIONS
    newest = max(folder.glob("*.state"))
    whole = newest.read_bytes()
    for torn in (whole[:-5], whole[:100], b"", whole[:200] + b"x" + whole[201:], whole + b"x"):
        newest.write_bytes(torn)
        state, notices = checkpoint.load_state(folder)
        assert state is not None
        assert state["images"] == 2
        assert "torn" in notices[0]


def test_state_is_streamed_without_copies(tmp_path):
    """Writing 64 MB of state takes less than half of that in memory."""
    code = """
import resource, sys, torch
from pathlib import Path
from scorefield import checkpoint
checkpoint.save_state(Path(sys.argv[1]), 1, {"w": torch.ones(16)})
state = {str(k): torch.ones(1 << 20) for k in range(16)}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
checkpoint.save_state(Path(sys.argv[1]), 2, state)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 32
    state, _ = checkpoint.load_state(tmp_path)
    assert state is not None
    assert all(torch.equal(v, torch.ones(1 << 20)) for v in state.values())


def test_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    folder = tmp_path / "state"
    checkpoint.save_state(folder, 1, {"images": 1})
    old = (folder / "000000000001.state").read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save_state(folder, 2, {"images": 2})
    with pytest.raises(OSError, match="No space left"):
        write_bytes(folder / "000000000001.state", b"new")
    monkeypatch.undo()
    assert [p.name for p in folder.iterdir()] == ["000000000001.state"]
    assert (folder / "000000000001.state").read_bytes() == old


def test_two_processes_do_not_write_one_run(tmp_path):
    run = Run(tmp_path / "run")
    busy = f"being written by process {os.getpid()}"
    with run.lock(), pytest.raises(InputError, match=busy), Run(tmp_path / "run").lock():
        pass
    with run.lock():  # the lock is free again
        pass


# -- what is refused leaves no trace

REFUSED = [
    ({"execution__device": "tpu9"}, "device"),
    ({"execution__device": "cuda:7"}, "CUDA"),
    ({"execution__threads": 10_000}, "threads"),
    ({"objective__name": "sliced-vr", "execution__precision": "bfloat16"}, "float32"),
    ({"objective__name": "sliced-vr", "execution__compile": "on"}, "compile"),
    (
        {"objective__name": "exact", "data__source": "mnist5k", "execution__compile": None},
        "limit is 256",
    ),
    ({"noise__preconditioner": "ncsn", "plan": "none"}, "noise.levels"),
    ({"noise__preconditioner": "ncsn", "noise__sigma_distribution": "lognormal"}, "levels"),
    ({"network__options__foo": 1}, "foo"),
    ({"network__name": "unet"}, "width"),
    ({"sampling__options__bogus": 1}, "bogus"),
    ({"sampling__sampler": "heun", "sampling__options__eta": 3.0}, "eta"),
    ({"ema__profiles": (0.3,)}, "0.28"),
    ({"condition__kind": "class", "data__source": "ring", "optim__batch": 4}, "label"),
    ({"data__flip": True, "data__source": "ring"}, "mirror"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_refused_settings_write_nothing(settings, message, tmp_path, monkeypatch):
    """Afterwards the corrected command runs in the same folder."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=message):
        train(small(BATCH, **settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_compiler_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("scorefield.execution.has_compiler", lambda: False)
    with pytest.raises(InputError, match="compiler"):
        train(small(BATCH, execution__compile="on"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_objective_that_does_not_fit_the_model_is_refused():
    model = Preconditioned(networks.build("mlp", (2,), width=8), (2,))
    from scorefield.objectives import make_objective

    with pytest.raises(InputError, match="log density"):
        TrainState(model, make_objective("energy"), torch.optim.Adam(model.parameters()))


@pytest.mark.parametrize("count", range(1, 8))
def test_few_examples_train_or_are_refused_in_words(count, tmp_path):
    """A standard error of one held-out example is null in JSON, never NaN."""
    x = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    settings = {"optim.batch": 8, "network.options.width": 8, "execution.threads": 1}
    if count == 1:
        with pytest.raises(InputError, match="one example cannot be split"):
            fit(x, tmp_path / "run", images=16, settings=settings)
        return
    fit(x, tmp_path / "run", images=16, settings=settings)
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "NaN" not in text
    last = [json.loads(line) for line in text.splitlines()][-1]
    assert last["held_out_examples"] == (1 if count < 4 else 2)
    assert (last["held_out_se"] is None) == (count < 4)
    assert all((se is None) == (count < 4) for se in last["held_out_by_sigma"]["se"])


# -- the guard


@pytest.fixture
def poisoned(monkeypatch) -> None:
    """Losses below sigma 0.15 become NaN."""
    poison = lambda sigma, sigma_data: torch.where(sigma < 0.15, torch.nan, 1.0)  # noqa: E731
    monkeypatch.setitem(WEIGHTS, "edm", poison)


def test_step_that_is_not_finite_stops_and_is_not_applied(tmp_path, poisoned):
    words = r"batch index \d+, sigma 0\.\d+.*the loss itself.*after [\d,]+ images, seed 0.*not appl"
    with pytest.raises(NonFiniteError, match=words):
        train(small(BATCH * 20, data__source="ring"), tmp_path / "run")
    kept, _ = checkpoint.load_state(tmp_path / "run" / "nonfinite")
    assert kept is not None
    assert all(torch.isfinite(v).all() for v in kept["network"].values())
    assert not torch.isfinite(kept["losses"]).all()


def test_skipped_steps_are_bounded_and_counted(tmp_path, poisoned):
    said: list[str] = []
    request = small(BATCH * 20, data__source="ring", guard__action="skip", guard__limit=3)
    with pytest.raises(NonFiniteError, match=r"guard\.limit is 3"):
        train(request, tmp_path / "run", hooks=Hooks(on_notice=said.append))
    assert [s for s in said if "skipped (3 of at most 3)" in s]


def test_skipped_steps_leave_the_metrics_finite(tmp_path, monkeypatch):
    """Every fifth step is poisoned; the lines of metrics are means over the others."""
    original, calls = Denoising.losses, 0

    def poisoned(self, model, *batch):
        nonlocal calls
        calls += torch.is_grad_enabled()
        losses = original(self, model, *batch)
        return losses * torch.nan if torch.is_grad_enabled() and calls % 5 == 0 else losses

    monkeypatch.setattr(Denoising, "losses", poisoned)
    request = small(BATCH * 20, guard__action="skip")
    train(request, tmp_path / "run")
    lines = [r for r in Run(tmp_path / "run").records() if "by_sigma" in r]
    assert sum(sum(r["by_sigma"]["count"]) for r in lines) == BATCH * 16
    assert lines[-1]["skipped"] == 4
    assert all(r["loss"] is None or math.isfinite(r["loss"]) for r in lines)
    assert sum(r["loss"] is None for r in lines) == 4


def test_layer_whose_output_is_not_finite_is_named():
    setup = prepared()
    state, network = setup.state, setup.state.model.network
    names = [n for n, p in network.named_parameters() if n.endswith("weight") and p.ndim == 2]
    with torch.no_grad():
        dict(network.named_parameters())[names[-2]][0, 0] = float("inf")
    result = train_step(state, setup.batches.batch(0, 8))
    assert not result.applied
    assert f"first in layer {names[-2].removesuffix('.weight')}" in result.problem


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_parameter_whose_gradient_is_not_finite_is_named(clip):
    """Gradients are examined before clipping, which would make all of them NaN."""
    setup = prepared()
    state = setup.state
    before = {n: v.clone() for n, v in state.model.network.state_dict().items()}
    handle = dict(state.model.network.named_parameters())["head.bias"].register_hook(
        lambda g: g * torch.nan
    )
    result = train_step(state, setup.batches.batch(0, 8), clip=clip)
    assert not result.applied
    assert "in head.bias; norm nan" in result.problem
    assert all(torch.equal(v, before[n]) for n, v in state.model.network.state_dict().items())
    assert (state.images, state.steps, state.skipped) == (8, 1, 1)
    handle.remove()
    assert train_step(state, setup.batches.batch(8, 8), clip=clip).applied


def test_layer_where_the_backward_pass_broke_is_named():
    """The gradient breaks in one layer and spreads to all layers before it, not after it."""
    setup = prepared()
    state = setup.state

    class Breaks(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * torch.nan

    with torch.no_grad():
        for block in state.model.network.blocks:
            block.outer.weight.normal_()
        state.model.network.head.weight.normal_()
    block = state.model.network.blocks[1]
    block.inner.register_forward_hook(lambda module, inputs, output: Breaks.apply(output))
    problem = train_step(state, setup.batches.batch(0, 8)).problem
    assert "the gradient (in blocks.1.inner." in problem


# -- the time budget


def simulate(seconds: float, step: "dict[float, float] | float", batch: int = 64) -> Schedule:
    """A run on a fake clock. step: seconds of a step, from a fraction of the time budget on."""
    speeds = {0.0: step} if isinstance(step, float) else step
    schedule = Schedule(Goal(seconds=seconds))
    budget = Budget(schedule)
    budget.keep_back(0.01 * seconds)
    images, elapsed = 0, 3.0  # loading and compiling
    while not (reason := budget.over(images, elapsed)):
        images += batch
        elapsed += [s for at, s in speeds.items() if elapsed >= at * seconds][-1]
        budget.observe(images, elapsed)
    schedule.finish(images, reason)
    return schedule


@pytest.mark.parametrize("seconds", [60.0, 300.0, 3600.0])
@pytest.mark.parametrize(
    "step",
    [0.05, {0.0: 0.05, 0.5: 0.1}, {0.0: 0.1, 0.5: 0.05}, {0.0: 0.05, 0.9: 0.1}, {0.0: 0.2}],
    ids=["steady", "slows to half", "doubles", "slows late", "slow"],
)
def test_time_budget_ends_with_the_learning_rate_at_its_end(step, seconds):
    """Final progress within 1 % of 1 and the clock within 4 % of the budget."""
    schedule = simulate(seconds, step)
    assert schedule.end is not None
    images = schedule.end["images"]
    assert schedule.end["reason"] == "time budget reached"
    assert schedule.progress(images) > 0.99
    steps, rates = images // 64, sorted((step if isinstance(step, dict) else {0.0: step}).items())
    spent = 3.0
    for _ in range(steps):
        spent += [s for at, s in rates if spent >= at * seconds][-1]
    assert 0.93 * seconds < spent < 1.005 * seconds


def test_one_conversion_of_the_time_budget_would_not_do():
    """The negative control: with the first plan alone, half the rate leaves progress near 0.75."""
    schedule = Schedule(Goal(seconds=300.0))
    budget = Budget(schedule)
    images, elapsed = 0, 3.0
    while schedule.point(images) is None:
        images, elapsed = images + 64, elapsed + 0.05
        budget.observe(images, elapsed)
    while elapsed < 300.0:
        images, elapsed = images + 64, elapsed + (0.05 if elapsed < 150 else 0.1)
    assert 0.7 < schedule.progress(images) < 0.8


def test_progress_is_a_function_of_images_and_the_record():
    record: list[dict] = []
    schedule = Schedule(Goal(seconds=60.0), (), record.append)
    assert schedule.progress(100) == 0.0
    schedule.plan(100, 1000)
    schedule.plan(500, 800)
    assert schedule.progress(100) == 0.1
    assert schedule.progress(499) == pytest.approx(0.499)
    assert schedule.progress(500) == 0.5
    assert schedule.progress(650) == 0.75
    assert schedule.progress(900) == 1.0
    again = Schedule(Goal(seconds=60.0), record)
    assert all(again.progress(n) == schedule.progress(n) for n in range(1000))
    assert Schedule(Goal(1000)).progress(250) == 0.25


def test_resumed_run_follows_the_record_before_it_plans():
    record = [
        {"kind": "plan", "images": 640, "progress": 0.1, "budget": 6400},
        {"kind": "plan", "images": 1280, "progress": 0.2, "budget": 12800},
    ]
    added: list[dict] = []
    schedule = Schedule(Goal(seconds=100.0), record, added.append)
    budget = Budget(schedule)
    images, elapsed = 640, 99.0  # the checkpoint is late: the clock is almost over
    while images < 1280:
        assert budget.over(images, elapsed) == ""
        images, elapsed = images + 64, elapsed + 0.5
        budget.observe(images, elapsed)
    assert added == []
    assert budget.over(images, elapsed).startswith("time budget reached")


def test_slow_end_is_reported_as_a_reached_budget():
    """The learning rate came to half of its schedule; at nine tenths nothing is reported."""
    record = [{"kind": "plan", "images": 64, "progress": 0.1, "budget": 640}]
    schedule = Schedule(Goal(seconds=100.0), record)
    budget = Budget(schedule)
    reason = budget.over(320, 101.0)
    assert reason == "time budget reached at 50% of the schedule of the learning rate"
    assert budget.over(590, 101.0) == "time budget reached"
    assert Budget(schedule, decays=False).over(320, 101.0) == "time budget reached"


def test_long_steps_end_about_the_clock():
    """Steps of 14 s and a budget of 100 s: at 86 s another one begins, at 94 s none."""
    schedule = Schedule(Goal(seconds=100.0))
    budget = Budget(schedule)
    for step in range(6):
        budget.observe(64 * (step + 1), 10.0 + 14.0 * step)
    assert budget.over(384, 86.0) == ""
    assert budget.over(384, 94.0).startswith("time budget reached")


def test_clock_counts_all_processes():
    now = 50.0
    clock = Clock(30.0, 45.0, lambda: now)
    assert clock.seconds == 35.0


def test_learning_rate_warms_up_and_decays():
    assert learning_rate(1.0, 0, 100, "cosine", 0.0) == pytest.approx(0.01)
    assert learning_rate(1.0, 1000, 100, "cosine", 0.5) == pytest.approx(0.5)
    assert learning_rate(1.0, 1000, 100, "linear", 0.75) == pytest.approx(0.25)
    assert learning_rate(1.0, 1000, 0, "constant", 1.0) == 1.0
    assert Schedule(Goal(1000)).warmup(0, 5000) == 200  # a short run is not all warm-up


# -- evaluation


@pytest.mark.parametrize(("final", "passes"), [(False, 1), (True, 13)])
def test_evaluation_of_a_slow_model_takes_no_longer_than_it_may(final, passes, monkeypatch):
    """At 0.1 s an evaluation: all without a limit; in 30 s at most 300 evaluations; in 1 s none on
    the way, and at the end two examples at each level and a sample.
    """
    setup = prepared()
    evaluator, model = setup.evaluator, setup.state.averaged_model()
    monkeypatch.setattr(Evaluator, "seconds_per_evaluation", lambda self, model: 0.1)
    whole = evaluator.preview_size(model)[0]
    assert evaluator.affordable(model, math.inf, final) == (evaluator.evaluations, whole)
    examples, samples = evaluator.affordable(model, 30.0, final)
    assert 150 <= examples * passes + samples * PREVIEW_NFE <= 300
    assert evaluator.affordable(model, 1.0, final) == ((2, 1) if final else (0, 0))


def test_seconds_of_an_evaluation_are_measured(monkeypatch):
    setup = prepared()
    now = [0.0]
    setup.state.model.network.register_forward_pre_hook(
        lambda module, inputs: now.__setitem__(0, now[0] + 0.002 * len(inputs[0]))
    )
    monkeypatch.setattr("scorefield.training.evaluator.time.perf_counter", lambda: now[0])
    measured = setup.evaluator.seconds_per_evaluation(setup.state.model)
    assert measured == pytest.approx(0.002)


def test_training_bounds_all_its_evaluations(tmp_path, monkeypatch):
    """Three on the way, each at most 0.3 % of the time the run takes, and one at the end."""
    allowed: list[tuple[float, bool]] = []
    monkeypatch.setattr(
        trainer.Trainer, "_evaluate", lambda self, s, final=False: allowed.append((s, final)) or {}
    )
    summary = train(small(), tmp_path)
    assert [final for _, final in allowed] == [False, False, False, True]
    # judged at a tenth of the images at the earliest
    assert all(0 < s <= 0.003 * 11 * summary.seconds for s, _ in allowed[:3])
    assert allowed[-1][0] == max(5.0, 0.03 * summary.seconds)


# -- conditions


def test_condition_reaches_training_card_and_held_out_loss(digits_conditional_run):
    """Class-conditional training: the held-out loss with the class is below the one without."""
    model = sf.load(digits_conditional_run)
    assert model.card is not None
    assert model.conditions["class"].size == 10
    assert model.card["conditions"]["class"]["kind"] == "class"
    last = Run(digits_conditional_run).records()[-1]
    gap = last["unconditional"] - last["held_out"]
    assert gap > 4.5 * math.hypot(last["held_out_se"], last["unconditional_se"])
    x = torch.zeros(2, 1, 8, 8)
    seven = model.denoise(x, 1.0, {"class": torch.tensor([7, 1])})
    assert not torch.equal(seven[0], seven[1])
    # an example whose class was dropped is the unconditional one
    dropped = model.denoise(x, 1.0, {"class": torch.tensor([-1, -1])})
    assert torch.equal(dropped, model.denoise(x, 1.0))


def test_conditions_are_dropped_by_key_at_the_given_rate():
    from scorefield.training.state import drop_conditions

    n, p = 20_000, 0.1
    keys, labels = rng.keys(0, n), torch.arange(n) % 10
    batch = Batch(torch.zeros(n, 1), torch.ones(n), keys, {"class": labels})
    dropped = drop_conditions(batch, p).condition
    assert dropped is not None
    gone = dropped["class"] < 0
    assert abs(gone.double().mean().item() - p) < 4.5 * (p * (1 - p) / n) ** 0.5
    assert torch.equal(dropped["class"][~gone], labels[~gone])
    part = drop_conditions(batch.rows(slice(100, 150)), p).condition  # whatever its batch
    assert part is not None
    assert torch.equal(part["class"], dropped["class"][100:150])
    assert torch.equal(batch.condition["class"], labels)  # not changed
    assert drop_conditions(batch, 0.0).condition is batch.condition


# -- networks of the user's own


class Own(nn.Module):
    """Two layers, the noise level and the class as further inputs."""

    def __init__(self, elements: int = 2, classes: int = 0) -> None:
        super().__init__()
        self.classes = classes
        self.hidden = nn.Linear(elements + 1 + classes, 32)
        self.out = nn.Linear(32, elements)

    def forward(self, x, noise_input, condition):
        inputs = [x.flatten(1), noise_input[:, None]]
        if self.classes:
            label = torch.full((len(x),), -1) if condition is None else condition["class"]
            hot = torch.nn.functional.one_hot(label + 1, self.classes + 1)[:, 1:]
            inputs.append(hot.to(x.dtype))
        return self.out(torch.relu(self.hidden(torch.cat(inputs, 1)))).reshape(x.shape)


def test_fit_trains_a_copy_of_a_network_of_the_users_own(tmp_path):
    network = Own(64, 10)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    arguments = {"images": 64 * 30, "condition": "class", "network": network}
    settings = {"optim.batch": 64, "execution.threads": 1, "execution.precision": "float32"}
    fit("digits", tmp_path / "run", **arguments, settings=settings)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(InputError, match=r"Own.*network="):
        sf.load(tmp_path / "run")
    model = sf.load(tmp_path / "run", network=lambda: Own(64, 10))
    assert model.card is not None
    assert model.card["network"]["name"] == "custom"
    drawn = sf.sample(model, 3, nfe=5, condition={"class": 4})
    assert torch.isfinite(drawn).all()
    assert fit("digits", tmp_path / "run", **arguments, settings=settings).reason.startswith(
        "already"
    )
    with pytest.raises(InputError, match="do not fit the network"):
        sf.load(tmp_path / "run", network=Own(64, 9))


class Flat(Own):
    def forward(self, x, noise_input, condition):
        return super().forward(x, noise_input, condition)[:, :1]


@pytest.mark.parametrize(
    ("network", "message"), [(Own(3), "does not take examples"), (Flat(2), "must return x's shape")]
)
def test_network_that_does_not_fit_is_refused_before_anything_is_written(
    network, message, tmp_path
):
    with pytest.raises(InputError, match=message):
        fit("ring", tmp_path / "run", images=128, network=network)
    assert not (tmp_path / "run").exists()


def test_muon_is_refused_for_a_network_that_declares_no_matrices(tmp_path):
    with pytest.raises(InputError, match="matrix_parameters"):
        fit("ring", tmp_path, images=128, network=Own(), settings={"optim.name": "muon"})


# -- model files


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("units"), "no entry 'units'"),
        (lambda c: c.pop("event_shape"), "no entry 'event_shape'"),
        (lambda c: c.pop("network"), "no entry 'network'"),
        (lambda c: c["network"].pop("options"), "no entry 'options'"),
        (lambda c: c.update(form="cubic"), "form must be one of"),
        (lambda c: c.update(event_shape=None), "cannot be used"),
        (lambda c: c.update(conditions=3), "cannot be used"),
        (lambda c: c.update(version=99), "card version 99"),
        (lambda c: c.update(event_shape=[5]), "do not fit the network"),
        (lambda c: c.update(format="another"), "no scorefield card"),
    ],
)
def test_card_that_cannot_be_used_is_refused_in_words(change, message, straight, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(str(straight / "model.safetensors"), "pt") as file:
        card = json.loads((file.metadata() or {})["card"])
    change(card)
    path = tmp_path / "changed.safetensors"
    save_file(load_file(straight / "model.safetensors"), path, {"card": json.dumps(card)})
    with pytest.raises(InputError, match=message):
        sf.load(path)


# -- the parts, used one by one


def test_state_restored_into_new_parts_goes_on_bitwise():
    """23 steps, the state_dict into other objects, 17 steps: the weights of 40 steps in one go."""

    def steps(state: TrainState, first: int, last: int) -> None:
        for k in range(first, last):
            keys = rng.keys(5, 16, first=16 * k)
            x0 = rng.normal(keys, rng.Stream.TOY, 0, (2,))
            train_step(state, Batch(x0, torch.full((16,), 0.5 + k / 40), keys), 1e-2)

    def made() -> TrainState:
        torch.manual_seed(0)
        model = Preconditioned(Own(), (2,))
        averages = [EMA(model.network, "power", 0.1), EMA(model.network, "halflife", 100.0)]
        return TrainState(model, Denoising(), torch.optim.AdamW(model.parameters()), averages)

    straight, first, second = made(), made(), made()
    steps(straight, 0, 40)
    steps(first, 0, 23)
    second.load_state_dict(first.state_dict())
    steps(second, 23, 40)
    assert (second.images, second.steps) == (640, 40)
    for a, b in zip(straight.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    weights = straight.averaged_model().network.state_dict()
    assert all(
        torch.equal(v, weights[n]) for n, v in second.averaged_model().network.state_dict().items()
    )
    assert not torch.equal(weights["out.weight"], straight.model.network.out.weight)


def test_averaged_model_is_not_compiled_and_the_live_one_stays_so():
    setup = prepared()
    network = setup.state.model.network
    network.compile(dynamic=False)
    averaged = setup.state.averaged_model()
    assert network._compiled_call_impl is not None
    assert averaged.network._compiled_call_impl is None
    assert not any(p.requires_grad for p in averaged.parameters())
    assert any(p.requires_grad for p in network.parameters())


def test_accumulated_parts_give_the_step_of_the_whole_batch():
    whole, parts = prepared(), prepared()
    for setup, accumulate in ((whole, 1), (parts, 5)):
        for _ in range(10):
            batch = setup.batches.batch(setup.state.images, BATCH)
            train_step(setup.state, batch, 2e-3, 1.0, accumulate)
    start = prepared().state.model.network.state_dict()
    a, b = (s.state.model.network.state_dict() for s in (whole, parts))
    moved = max(float((a[n] - start[n]).abs().max()) for n in a)
    assert max(float((a[n] - b[n]).abs().max()) for n in a) < 1e-2 * moved


def test_sigma_depends_on_seed_and_batch_and_keys_on_the_image():
    """Stratified noise levels are a function of (seed, first image, size of the batch)."""
    law = LogUniform(0.01, 50.0)
    sigma, keys = draw_sigma(law, 3, 128, 16, "cpu")
    again, _ = draw_sigma(law, 3, 128, 16, "cpu")
    assert torch.equal(sigma, again)
    other, part = draw_sigma(law, 3, 128, 8, "cpu")
    assert torch.equal(part, keys[:8])
    assert not torch.equal(other, sigma[:8])
    assert torch.equal(other, law.quantile(stratified(law_offset(keys), 8)))
    assert not torch.equal(draw_sigma(law, 3, 144, 16, "cpu")[0], sigma)


def law_offset(keys: torch.Tensor) -> torch.Tensor:
    """The one uniform number of a batch."""
    return rng.uniform(keys[:1], rng.Stream.SIGMA, 0, ())[0]


# -- values


@pytest.mark.parametrize("sigma_rel", [0.05, 0.075, 0.1, 0.2])
def test_power_profile_has_the_width_it_claims(sigma_rel):
    """Relative standard deviation over time, against the profile's name (Karras et al. 2024)."""
    network = nn.Linear(1, 1, bias=False)
    steps, batch = 4000, 1
    ema = EMA(network, "power", sigma_rel)
    weight = torch.zeros(steps, dtype=torch.float64)
    for t in range(1, steps + 1):
        beta = ema.decay(t * batch, batch)
        weight[: t - 1] *= beta
        weight[t - 1] = 1 - beta
    time = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    mean = (weight * time).sum()
    width = ((weight * (time - mean) ** 2).sum()).sqrt()
    assert weight.sum() == pytest.approx(1.0, abs=1e-9)
    assert width.item() == pytest.approx(sigma_rel, rel=5e-3)
    assert gamma_of(sigma_rel) > 0


def test_halflife_average_is_the_weighted_sum_of_the_live_weights():
    network = nn.Linear(2, 1, bias=False).double()
    ema = EMA(network, "halflife", 100.0, warmup=0.0)
    start = network.weight.detach().clone()
    with torch.no_grad():
        network.weight.fill_(3.0)
    for step in range(1, 11):
        ema.update(network, step * 10, 10)
    assert torch.allclose(ema.weights["weight"], 3.0 + (start - 3.0) * 0.5)
    assert ema.initial_fraction == pytest.approx(0.5)
    assert torch.equal(network.weight.detach(), torch.full_like(start, 3.0))


@pytest.mark.parametrize(
    "law",
    [
        LogNormal(-1.2, 1.2, 0.002, 80.0),
        LogUniform(0.01, 50.0),
        Levels(tuple(geometric(1.0, 0.01, 10).tolist())),
    ],
)
def test_distributions_of_sigma_have_their_moments(law):
    """Quantiles of a fine grid reproduce mean and standard deviation of ln sigma."""
    n = 200_000
    sigma = law.quantile((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    log = sigma.log()
    if isinstance(law, LogNormal):
        assert log.mean().item() == pytest.approx(-1.2, abs=0.01)
        assert log.std().item() == pytest.approx(1.2, abs=0.01)
    elif isinstance(law, LogUniform):
        assert log.mean().item() == pytest.approx((math.log(0.01) + math.log(50)) / 2, abs=1e-4)
        assert log.std().item() == pytest.approx(math.log(5000) / math.sqrt(12), rel=1e-3)
    else:
        values, counts = sigma.unique(return_counts=True)
        assert len(values) == 10
        assert counts.tolist() == [n // 10] * 10
    u = stratified(torch.rand((), dtype=torch.float64), 64)
    assert u.min() >= 0
    assert u.max() < 1
    assert torch.allclose(u.diff(), torch.full((63,), 1 / 64, dtype=torch.float64))


def test_meter_gives_means_and_null_where_there_is_nothing():
    meter = Meter(LogUniform(0.01, 1.0))
    assert math.isnan(meter.read()["loss"])
    meter.add(torch.tensor([0.011, 0.9, 0.95]), torch.tensor([1.0, 2.0, 4.0]))
    found = meter.read()
    assert found["loss"] == pytest.approx(7 / 3)
    assert found["by_sigma"]["count"][0] == 1
    assert math.isnan(found["by_sigma"]["se"][0])
    assert found["by_sigma"]["loss"][-1] == pytest.approx(3.0)
    assert found["by_sigma"]["se"][-1] == pytest.approx(1 / 2**0.5)
    other = Meter(LogUniform(0.01, 1.0))
    other.load_state_dict(meter.state_dict())
    assert other.losses == 3


def test_losses_per_level_are_pooled_right(tmp_path):
    """First against last tenth from metrics.jsonl, on losses of known mean: 1, then 0.9."""
    g = torch.Generator().manual_seed(0)
    run = Run(tmp_path)
    for k in range(100):
        losses = 1.0 - 0.1 * (k >= 50) + 0.5 * torch.randn(2, 64, generator=g).double()
        bins = {
            "sigma": [0.1, 1.0, 2.0],
            "count": [64, 64, k % 2],
            "loss": [*losses.mean(1).tolist(), 1.0 if k % 2 else math.nan],
            "se": [*(losses.var(1, unbiased=False) / 64).sqrt().tolist(), math.nan],
        }
        run.log({"images": 100 * (k + 1), "by_sigma": bins})
    rows = levels(tmp_path)
    assert len(rows) == 3
    for row in rows[:2]:
        expected = 0.5 / 640**0.5
        assert row["first_se"] == pytest.approx(expected, rel=0.15)
        assert abs(row["first"] - 1.0) < 4.5 * expected
        assert abs(row["last"] - 0.9) < 4.5 * expected
        spread = math.hypot(row["first_se"], row["last_se"])
        assert row["z"] == pytest.approx((row["first"] - row["last"]) / spread)


def test_training_on_a_table_with_a_constant_column(tmp_path):
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 7.125
    said: list[str] = []
    hooks = Hooks(on_notice=said.append)
    fit(x, tmp_path / "run", images=2048, settings={"execution.threads": 1}, hooks=hooks)
    assert any("column 1" in s for s in said)
    y = sf.sample(sf.load(tmp_path / "run"), count=50, nfe=9)
    assert (y[:, 1] == 7.125).all()
    assert y[:, 0].std() > 0


@pytest.mark.parametrize("event", [(1, 9, 7), (3, 12, 12), (2, 40), (1, 6, 7, 8)])
def test_any_event_trains_through_the_same_code(event, tmp_path):
    """Signals, images of odd sizes and channels, volumes: the loss falls below that of the
    untrained network, which is 1 with the edm weight.
    """
    g = torch.Generator().manual_seed(0)
    x = torch.randn(event, generator=g) + 0.1 * torch.randn(256, *event, generator=g)
    settings = {
        "optim.batch": 32,
        "optim.lr": 1e-2,
        "execution.compile": "off",
        "execution.threads": 1,
        "network.options": {"widths": [16, 16], "depths": [1, 1]},
        **({"data.channels": event[0]} if len(event) == 2 else {}),
    }
    summary = fit(x, tmp_path / "run", images=32 * 40, settings=settings)
    assert summary.held_out["sigma"]
    losses = [r["held_out"] for r in Run(tmp_path / "run").records() if "held_out" in r]
    assert losses[-1] < 0.7


def test_training_runs_in_another_thread(tmp_path):
    """There no signals are watched."""
    done = []
    thread = threading.Thread(target=lambda: done.append(train(small(640), tmp_path / "run")))
    thread.start()
    thread.join(60)
    assert done[0].images == 640


def test_fit_refuses_two_budgets(tmp_path):
    with pytest.raises(InputError, match="give one"):
        fit("ring", tmp_path, budget="5m", images=100)


# -- optimisers


def test_muon_direction_is_semi_orthogonal():
    """Singular values of the direction lie near 1; those of a plain scaled gradient do not."""
    g = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 24, 60, generator=g) @ torch.diag(torch.logspace(0, -1.5, 60))
    found = torch.linalg.svdvals(orthogonalise(matrices))
    assert found.min() > 0.5
    assert found.max() < 1.3
    plain = torch.linalg.svdvals(matrices / matrices.norm(dim=(-2, -1), keepdim=True))
    assert plain.min() < 0.1
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    alignment = (orthogonalise(matrices) * (u @ v)).sum((-2, -1)) / 24
    assert (alignment > 0.8).all()


@pytest.mark.parametrize("shape", [(2, 8, 20), (2, 20, 8), (1, 6, 6)])
def test_iteration_on_the_gram_matrix_is_the_plain_one(shape):
    """The same four steps on the matrix itself, as Jordan et al. 2024 print them; a gradient's
    scale does not matter, and where there is no gradient there is no step.
    """
    m = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b, c = NEWTON_SCHULZ
    gram = m @ m.mT if shape[1] <= shape[2] else m.mT @ m
    x = m / torch.linalg.matrix_norm(gram, keepdim=True).sqrt()
    for _ in range(4):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    assert torch.allclose(orthogonalise(m), x, rtol=0, atol=1e-12)
    assert torch.allclose(orthogonalise(m.float()).double(), x, rtol=0, atol=1e-3)
    assert torch.allclose(orthogonalise(1e-12 * m.float()).double(), x, rtol=0, atol=1e-3)
    assert (orthogonalise(0 * m.float()) == 0).all()


def test_muon_steps_the_rest_as_torch_adamw_does():
    start, other = nn.Linear(4, 3).double(), nn.Linear(4, 3).double()
    other.load_state_dict(start.state_dict())
    decay = {"weight_decay": 0.1}
    ours = Muon([], list(start.parameters()), 0.01, betas=(0.9, 0.99), **decay)
    theirs = torch.optim.AdamW(other.parameters(), 0.01, (0.9, 0.99), 1e-8, **decay)
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).double()
    for _ in range(5):
        for network, optimiser in ((start, ours), (other, theirs)):
            optimiser.zero_grad()
            network(x).square().sum().backward()
            optimiser.step()
    for a, b in zip(start.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "event", "options"),
    [
        ("unet", (1, 8, 8), {"widths": [8, 16], "depths": [1, 1]}),
        ("mlp", (5,), {"width": 8}),
        ("refinenet", (1, 8, 8), {"width": 8, "levels": 71, "variant": "ncsn"}),
    ],
)
def test_muon_steps_the_declared_matrices_and_no_tables(name, event, options):
    """First and last layers, embeddings and the tables of a norm are not weight matrices."""
    network = networks.build(name, event, **options)
    optimiser = make_optimiser(OptimConfig(name="muon", batch=8, decay="linear"), network)
    names = {id(p): n for n, p in network.named_parameters()}
    muon, rest = (
        {names[id(p)] for g in optimiser.param_groups if g["adamw"] is kind for p in g["params"]}
        for kind in (False, True)
    )
    assert muon | rest == set(names.values())
    assert not muon & rest
    assert muon
    assert all(dict(network.named_parameters())[n].ndim >= 2 for n in muon)
    assert not [n for n in muon if "embed" in n or "begin_conv" in n or "end_conv" in n]
    assert not [n for n in muon if n.startswith(("stem", "head")) or "norm" in n.lower()]


@pytest.mark.parametrize("name", [n for n in OPTIMISERS if n != "adamw"])
def test_every_optimiser_goes_on_bitwise(name, tmp_path):
    """State saved after 23 steps and loaded into new parts gives the weights of 40 steps."""

    def made() -> Setup:
        return prepared(
            16 * 40,
            optim__name=name,
            optim__batch=16,
            network__name="unet",
            network__options={"widths": [8, 16], "depths": [1, 1]},
        )

    def steps(setup: Setup, count: int) -> None:
        for _ in range(count):
            train_step(setup.state, setup.batches.batch(setup.state.images, 16), 2e-3, 1.0)

    straight, first, second = made(), made(), made()
    steps(straight, 40)
    steps(first, 23)
    checkpoint.save_state(tmp_path / "state", first.state.images, first.state.state_dict())
    stored, _ = checkpoint.load_state(tmp_path / "state")
    assert stored is not None
    second.state.load_state_dict(stored)
    steps(second, 17)
    for a, b in zip(
        straight.state.model.parameters(), second.state.model.parameters(), strict=True
    ):
        assert torch.equal(a, b)


# -- the process

FAULTS = """
import resource
import torch
from scorefield.execution import Execution, keep_memory

{call}

def churn():
    held = [torch.ones(5_000_000) for _ in range(8)]  # 160 MB, more than glibc keeps by itself

for _ in range(3):
    churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    churn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.hardware  # counts page faults of this machine
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is kept by glibc's mallopt")
def test_freed_memory_is_kept_where_a_command_says_so() -> None:
    """Page faults of a loop that frees and takes 160 MB: none once kept, as many as ever where the
    user set the allocator, and where a model is only brought to its device.
    """

    def faults(call: str, **extra: str) -> int:
        unset = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(unset)}
        code = [sys.executable, "-c", FAULTS.format(call=call)]
        done = subprocess.run(code, env=clean | extra, capture_output=True, text=True, check=True)
        return int(done.stdout)

    execution = "Execution('cpu', 'float32', False, False, 1)"
    model = "__import__('scorefield.exact').exact.Gaussian([0.0], 1.0)"
    assert faults("keep_memory()") < 100
    assert faults(f"{execution}.configure_process()") < 100
    assert faults("keep_memory()", MALLOC_TRIM_THRESHOLD_="131072") > 1000
    assert faults(f"{execution}.apply({model})") > 1000


def test_snapshots_rebuild_another_width(tmp_path):
    """A real run: width 0.075 from 32 snapshots of 0.05 and 0.10 against the one tracked."""
    common = {"data__source": "ring", "ema__snapshots": 32}
    train(small(BATCH * 320, **common, ema__profiles=(0.05, 0.1)), tmp_path / "a")
    train(small(BATCH * 320, **common, ema__profiles=(0.075,)), tmp_path / "b")
    direct = sf.load(tmp_path / "b").network.state_dict()
    stored, _ = checkpoint.load_state(tmp_path / "b" / "state")
    assert stored is not None
    rebuilt = rebuild(tmp_path / "a", 0.075)
    error = sum((rebuilt[k] - direct[k]).square().sum() for k in direct).sqrt()
    distance = sum((direct[k] - stored["network"][k]).square().sum() for k in direct).sqrt()
    assert error <= 1e-2 * distance


def test_initial_weights_are_a_function_of_the_seed():
    a, b = (prepared(seed=seed).state.model.network.state_dict() for seed in (0, 1))
    again = prepared().state.model.network.state_dict()
    assert all(torch.equal(a[n], again[n]) for n in a)
    assert any(not torch.equal(a[n], b[n]) for n in a)
    assert dataclasses.is_dataclass(prepared())


@pytest.mark.slow
def test_runs_killed_by_the_system_are_bitwise_equal():
    """Two trials of `python -m bench kills`: a budget in images, and a time budget."""
    record = kills(2)
    assert record["different"] == {}
    assert record["equal"] == 2


def test_a_kill_trial_is_needed():
    with pytest.raises(InputError, match="at least 1"):
        kills(0)
