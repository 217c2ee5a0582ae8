"""Trackers: they have every line of metrics once, after a kill too, and they change no weights."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from bench.kills import tensors
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from cli_helpers import call
from scorefield.checkpoint import load_state
from scorefield.cli.app import app
from scorefield.errors import InputError
from scorefield.runs import Run
from scorefield.training import Hooks, assess, train, trainer
from scorefield.training.feed import Feed, series
from scorefield.training.trackers import (
    TRACKERS,
    TensorBoard,
    Trackio,
    WeightsAndBiases,
    read_trackers,
)
from small_runs import Killed, kill_at_call, small


class Recorder:
    """A tracker that keeps what it receives."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float], dict[str, Path]]] = []
        self.started: list[dict[str, Any]] = []
        self.finished: list[Any] = []

    def start(self, run, config):
        self.started.append({"run": run, **config})

    def log(self, images, values, pictures):
        self.lines.append((images, dict(values), dict(pictures)))

    def finish(self, summary):
        self.finished.append(summary)


class Failing(Recorder):
    """A tracker one of whose methods raises an exception."""

    def __init__(self, method: str) -> None:
        super().__init__()
        setattr(self, method, self.fail)

    def fail(self, *_):
        raise OSError("no space left on device")


@pytest.fixture
def quick(monkeypatch):
    """Few lines and tiny previews: the pictures take longer than these trainings."""

    def draw(run, images, samples, dataset):
        run.previews.mkdir(exist_ok=True)
        Image.new("L", (2, 2)).save(run.preview(images))
        return ""

    monkeypatch.setattr(trainer, "LINES", 10)
    monkeypatch.setattr(trainer, "PREVIEWS_AT", (0.5,))
    monkeypatch.setattr(assess, "draw_preview", draw)
    monkeypatch.setattr(assess, "draw_loss_per_sigma", lambda *_: "")
    monkeypatch.setattr(assess, "draw_training_curve", lambda *_: "")


@pytest.fixture(scope="module")
def without(tmp_path_factory) -> Path:
    """A run without trackers, written as `quick` does. Only read it."""
    with pytest.MonkeyPatch.context() as patch:
        quick.__wrapped__(patch)
        folder = tmp_path_factory.mktemp("without") / "run"
        train(small(), folder)
    return folder


# -- what trackers receive


def test_a_line_becomes_one_series_a_noise_level():
    line = {
        "images": 64,
        "loss": 0.5,
        "held_out_se": float("nan"),
        "skipped": 0,
        "lr": None,
        "by_sigma": {"sigma": [0.1, 1.0], "count": [3, 0], "loss": [0.25, None], "se": [0.1, None]},
        "verdict": {"held_out": 1.0, "sentence": "has learned"},
        "final": True,
    }
    assert series(line) == {"loss": 0.5, "skipped": 0.0, "by_sigma/loss/0.1": 0.25}


@pytest.mark.training
def test_trackers_have_every_line_and_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "LINES", 10)
    monkeypatch.setattr(trainer, "PREVIEWS_AT", (0.5,))
    tracker = Recorder()
    summary = train(small(), tmp_path / "run", hooks=Hooks(trackers=[tracker]))
    run = Run(tmp_path / "run")
    records = run.records()
    assert [images for images, _, _ in tracker.lines] == [r["images"] for r in records]
    assert all(
        values == series(r) for (_, values, _), r in zip(tracker.lines, records, strict=True)
    )
    names = set().union(*(values for _, values, _ in tracker.lines))
    assert {"loss", "lr", "rate", "grad_norm", "held_out", "copies", "ema_initial"} <= names
    assert sum(name.startswith("by_sigma/loss/") for name in names) == 12
    pictures = [path for _, _, shown in tracker.lines for path in shown.values()]
    assert {*run.previews.glob("*.png"), run.loss_per_sigma, run.training_curve} == set(pictures)
    assert len(pictures) == len(set(pictures))
    (config,) = tracker.started
    assert config["run"] == run.folder and config["optim"]["batch"] == 64
    json.dumps({k: v for k, v in config.items() if k != "run"})
    (finished,) = tracker.finished
    assert finished.images == summary.images and finished.verdict == summary.verdict


@pytest.mark.training
def test_weights_are_bitwise_those_without_a_tracker(tmp_path, quick, without):
    train(small(), tmp_path / "run", hooks=Hooks(trackers=["tensorboard", Recorder()]))
    a, b = (load_file(run / "model.safetensors") for run in (tmp_path / "run", without))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    found, known = (tensors(load_state(Run(r).state)[0]) for r in (tmp_path / "run", without))
    assert found.keys() == known.keys() and len(known) > 20
    # How many evaluations a mark has is decided by the clock.
    different = [name for name in known if not torch.equal(found[name], known[name])]
    assert all("best/losses" in name for name in different)


# -- failures


@pytest.mark.training
@pytest.mark.parametrize("method", ["start", "log", "finish"])
def test_failing_tracker_is_dropped_with_one_notice(method, tmp_path, quick, without):
    notices: list[str] = []
    sound, failing = Recorder(), Failing(method)
    hooks = Hooks(on_notice=notices.append, trackers=[failing, sound])
    summary = train(small(), tmp_path / "run", hooks=hooks)
    assert summary.reason == "image budget reached"
    (notice,) = [n for n in notices if "Failing" in n]
    assert "no space left" in notice and "training goes on" in notice
    assert notice in summary.notices
    assert len(sound.lines) == len(Run(tmp_path / "run").records()) and sound.finished
    assert len(failing.lines) == (len(sound.lines) if method == "finish" else 0)
    a, b = (load_file(run / "model.safetensors") for run in (tmp_path / "run", without))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.training
def test_trackers_finish_where_training_fails(tmp_path, quick, monkeypatch):
    tracker = Recorder()
    monkeypatch.setattr(trainer, "train_step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(small(), tmp_path / "run", hooks=Hooks(trackers=[tracker]))
    assert tracker.finished == [None]


def test_interrupt_is_no_failure_of_a_tracker():
    class Interrupted(Recorder):
        def log(self, *_):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Feed([Interrupted()], lambda _: None).log({"images": 1})


# -- going on


def killed_and_resumed(folder: Path, tracker: str, monkeypatch) -> Run:
    """A run that is killed at its 18th step, after lines that its last checkpoint does not have."""
    with monkeypatch.context() as patch:
        kill_at_call(patch, trainer.Trainer, "_step", 18)
        save = trainer.Trainer._save
        patch.setattr(
            trainer.Trainer, "_save", lambda self: self.state.images == 640 and save(self)
        )
        with pytest.raises(Killed):
            train(small(), folder, hooks=Hooks(trackers=[tracker]), checkpoint_seconds=0.0)
    assert Run(folder).records()[-1]["images"] > 640
    train(small(), folder, hooks=Hooks(trackers=[tracker]))
    return Run(folder)


@pytest.mark.training
def test_resumed_run_goes_on_in_tensorboard_without_repetitions(tmp_path, quick, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = killed_and_resumed(tmp_path / "run", "tensorboard", monkeypatch)
    events = EventAccumulator(str(run.tensorboard))
    events.Reload()
    records = run.records()
    for name in ("loss", "held_out", "by_sigma/loss/0.1436"):
        expected = [(r["images"], series(r)[name]) for r in records if name in series(r)]
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in found] == [images for images, _ in expected]
        assert [value for _, value in found] == pytest.approx([value for _, value in expected])
        assert len(found) >= (2 if name == "held_out" else 8)
    previews = [event.step for event in events.Images("preview")]
    assert previews == [int(path.stem) for path in sorted(run.previews.glob("*.png"))]
    # Negative control: a reader that does not drop what the run wrote again has repetitions.
    whole = EventAccumulator(str(run.tensorboard), purge_orphaned_data=False)
    whole.Reload()
    assert len(whole.Scalars("loss")) > len(events.Scalars("loss"))


def stand_in(name: str) -> tuple[ModuleType, list[dict[str, Any]], list[dict[str, Any]]]:
    """A module with the functions of trackio and wandb that are used; what it was given."""
    begun: list[dict[str, Any]] = []
    logged: list[dict[str, Any]] = []

    class Begun:
        def log(self, values, step=None):
            logged.append({"images": step} | values)

        def define_metric(self, *_, **__):
            pass

        def finish(self, exit_code=0):
            begun[-1]["exit_code"] = exit_code

    def init(**options):
        print("a line on standard output")
        begun.append(options)
        return Begun()

    module = ModuleType(name)
    vars(module).update(
        init=init,
        Image=lambda path: SimpleNamespace(path=path),
        Settings=lambda **options: options,
        finish=lambda: begun[-1].update(exit_code=0),
        __spec__=SimpleNamespace(),
    )
    return module, begun, logged


@pytest.mark.training
@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_resumed_run_goes_on_where_points_cannot_be_dropped(
    name, tmp_path, quick, monkeypatch, capsys
):
    """With a module in place of the package: the calls are checked, not the package."""
    module, begun, logged = stand_in(name)
    monkeypatch.setitem(sys.modules, name, module)
    run = killed_and_resumed(tmp_path / "run", name, monkeypatch)
    lines = [(line["images"], line.get("loss"), line.get("held_out")) for line in logged]
    assert lines == [(r["images"], r.get("loss"), r.get("held_out")) for r in run.records()]
    assert [line["preview"].path for line in logged if "preview" in line] == [
        str(path) for path in sorted(run.previews.glob("*.png"))
    ]
    first, second = begun
    assert first["name"] == second["name"] and first["resume"] == second["resume"] == "allow"
    assert first["name"].startswith("run-") and first["config"]["optim"]["batch"] == 64
    assert name != "wandb" or first["mode"] == "offline"
    assert second["exit_code"] == 0
    assert "standard output" not in capsys.readouterr().out


@pytest.mark.training
def test_a_new_run_of_one_folder_is_another_run_of_the_tracker(tmp_path, quick, monkeypatch):
    module, begun, _ = stand_in("trackio")
    monkeypatch.setitem(sys.modules, "trackio", module)
    hooks = Hooks(trackers=["trackio", "tensorboard"])
    train(small(128), tmp_path / "run", hooks=hooks)
    train(small(128), tmp_path / "run", hooks=hooks, restart=True)
    assert begun[0]["name"] != begun[1]["name"]
    old = Run(tmp_path / "run" / "old-1")
    assert old.trackers.is_dir() and old.tensorboard.is_dir()


# -- which trackers


def test_trackers_are_read_by_name_and_as_objects(monkeypatch):
    for name in ("trackio", "wandb"):
        monkeypatch.setitem(sys.modules, name, stand_in(name)[0])
    tracker = Recorder()
    found = read_trackers(["wandb", tracker, "trackio", "wandb"])
    assert [type(t) for t in found] == [WeightsAndBiases, Recorder, Trackio]
    assert read_trackers(tracker) == (tracker,) and read_trackers(()) == ()
    assert [type(t) for t in read_trackers("trackio")] == [Trackio]
    assert set(TRACKERS) == {"tensorboard", "trackio", "wandb"}


@pytest.mark.parametrize(
    ("trackers", "words"),
    [
        (["tensorbord"], "tensorboard"),
        ([3], "start, log and finish"),
        ([Recorder], "start, log and finish"),
        ([object()], "start, log and finish"),
    ],
)
def test_other_trackers_are_refused(trackers, words):
    with pytest.raises(InputError, match=words):
        Hooks(trackers=trackers)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (TensorBoard, r"pip install 'scorefield\[tensorboard\]'"),
        (Trackio, "pip install trackio"),
        (WeightsAndBiases, "pip install wandb"),
    ],
)
def test_missing_packages_are_refused_with_the_command(kind, words, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=words):
        kind()


def test_other_modes_of_wandb_are_refused():
    with pytest.raises(InputError, match="mode"):
        WeightsAndBiases(mode="later")


@pytest.mark.parametrize(
    ("name", "words"), [("tensorbord", "tensorboard"), ("wandb", "pip install")]
)
def test_command_refuses_a_tracker_before_the_run_begins(
    name, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run = tmp_path / "run"
    arguments = ["train", "--data", "digits", "--run", run, "--images", 64]
    assert call(*arguments, "--tracker", name) == 2
    assert words in capsys.readouterr().err
    assert not run.exists()


@pytest.mark.training
def test_command_takes_several_trackers(tmp_path, quick, monkeypatch):
    for name in ("trackio", "wandb"):
        monkeypatch.setitem(sys.modules, name, stand_in(name)[0])
    run = tmp_path / "run"
    small_run = ["--set", "network.name=mlp", "--set", "network.options.width=16"]
    named = ["--tracker", "trackio", "--tracker", "wandb"]
    arguments = ["train", "--data", "digits", "--run", str(run), "--images", "64", "--json"]
    done = CliRunner().invoke(app, [*arguments, *small_run, *named])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["images"] >= 64
    assert {path.name for path in Run(run).trackers.iterdir()} == {"trackio.json", "wandb.json"}
