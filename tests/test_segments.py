"""A run that goes on: segments with budgets of their own, kills and replays over two of them."""

import itertools
import json
import math
import shutil
import signal
from pathlib import Path

import pytest
import torch
from bench.kills import contents, different
from safetensors.torch import load_file

import scorefield as sf
from scorefield import checkpoint
from scorefield.checkpoint import read_card
from scorefield.errors import InputError
from scorefield.runs import Run, append_line, read_lines
from scorefield.training import Hooks, Summary, assess, rebuild, train, trainer
from scorefield.training.budget import Budget, Clock, ending_seconds, final_seconds, time_left
from scorefield.training.schedule import Schedule
from scorefield.training.segment import Goal, learning_rate
from small_runs import BATCH, IMAGES, Killed, fake_clock, kill_at_call, replayed, small

pytestmark = pytest.mark.training


@pytest.fixture(scope="session")
def first(tmp_path_factory) -> Path:
    """A finished run of one segment. Only read it."""
    folder = tmp_path_factory.mktemp("first") / "run"
    train(small(), folder)
    return folder


@pytest.fixture(scope="session")
def both(first, tmp_path_factory) -> Path:
    """The same run, continued to twice its images. Only read it."""
    folder = tmp_path_factory.mktemp("both") / "run"
    shutil.copytree(first, folder)
    summary = train(small(2 * IMAGES), folder)
    assert (summary.images, summary.reason) == (2 * IMAGES, "image budget reached")
    return folder


def network(path: Path) -> dict[str, torch.Tensor]:
    return {k: v for k, v in load_file(path).items() if k.startswith("network.")}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


# -- the first segment stays, the second one is a function of the record


def test_first_segment_stays_bitwise_what_it_was(first, both):
    """Its model is kept aside; record, metrics, snapshots and previews of it are as they were."""
    assert_same(network(Run(both).segment_model(1)), network(Run(first).model))
    for name in ("schedule.jsonl", "metrics.jsonl"):
        before = (first / name).read_bytes()
        assert (both / name).read_bytes()[: len(before)] == before
    for path in (*Run(first).snapshots.glob("*"), *Run(first).previews.glob("*")):
        assert (both / path.relative_to(first)).read_bytes() == path.read_bytes()
    assert not torch.equal(
        network(Run(both).model)["network.head.weight"],
        network(Run(first).model)["network.head.weight"],
    )


def test_record_of_two_segments_gives_the_same_run_in_a_fresh_folder(both, tmp_path):
    """Every file a user sees; a record with another second segment gives another run."""
    replay = replayed(both, tmp_path / "replay", small(2 * IMAGES))
    assert different(contents(both), contents(replay)) == []
    other = tmp_path / "other"
    other.mkdir()
    for line in read_lines(Run(both).schedule):
        changed = {**line, "warmup": 0} if line["kind"] == "segment" else line
        append_line(Run(other).schedule, changed)
    train(small(2 * IMAGES), other)
    names = different(contents(both), contents(other))
    assert "state/network/head.weight" in names
    assert not [name for name in names if name.startswith("segments/1 network")]


KILLS = [
    ("before the segment is recorded", trainer.RunWriter, "decide", 1, False),
    ("after the segment is recorded", trainer.RunWriter, "decide", 1, True),
    ("before config.json has it", trainer.RunWriter, "add_segment", 1, False),
    ("before the first model is kept", trainer.RunWriter, "keep_segment", 1, False),
    ("after the first model is kept", trainer.RunWriter, "keep_segment", 1, True),
    ("first step", trainer, "train_step", 1, False),
    ("step", trainer, "train_step", 13, False),
    ("between state and model", checkpoint, "save_model", 7, False),
    ("after a snapshot", trainer.RunWriter, "save_snapshot", 2, True),
    ("before the end is recorded", Schedule, "finish", 1, False),
    ("after the end is recorded", Schedule, "finish", 1, True),
    ("last evaluation, before the picture", assess, "draw_loss_per_sigma", 1, False),
]


@pytest.mark.parametrize("every", [0.0, 1e9])
@pytest.mark.parametrize("kill", KILLS, ids=[k[0] for k in KILLS])
def test_run_killed_in_its_second_segment_goes_on_bitwise(
    kill, every, first, both, tmp_path, monkeypatch
):
    """The sizes of evaluations of the run that was not killed are given."""
    _, owner, name, call, after = kill
    if name == "save_model" and every > 0:
        call = 1
    run = tmp_path / "run"
    shutil.copytree(first, run)
    sizes = {
        line["images"]: (line["examples"], line["samples"])
        for line in read_lines(Run(both).schedule)
        if line["kind"] == "evaluation"
    }
    original = Schedule.evaluation
    monkeypatch.setattr(
        Schedule,
        "evaluation",
        lambda self, images, decide=None: original(self, images, lambda: sizes[images]),
    )
    with monkeypatch.context() as patch:
        kill_at_call(patch, owner, name, call, after)
        with pytest.raises(Killed):
            train(small(2 * IMAGES), run, checkpoint_seconds=every)
    train(small(2 * IMAGES), run, checkpoint_seconds=every)
    # The lines of the record may come in another order; what they decide is compared.
    leave_out = ("schedule ",)
    assert different(contents(run), contents(both), leave_out) == []
    assert sorted(map(json.dumps, read_lines(Run(run).schedule))) == sorted(
        map(json.dumps, read_lines(Run(both).schedule))
    )


def test_constant_rate_in_two_segments_gives_the_weights_of_one_run(tmp_path):
    """Without decay there is nothing to return to: live weights, averages and optimiser are equal.

    With a decay they are not, which is the negative control.
    """
    equal = {}
    for decay in ("constant", "linear"):
        settings = {"optim__decay": decay, "optim__warmup": 128}
        train(small(2 * IMAGES, **settings), tmp_path / decay / "whole")
        for images in (IMAGES, 2 * IMAGES):
            train(small(images, **settings), tmp_path / decay / "parts")
        a, b = (
            checkpoint.load_state(tmp_path / decay / n / "state")[0] for n in ("whole", "parts")
        )
        assert a is not None and b is not None
        equal[decay] = [
            torch.equal(a["network"]["head.weight"], b["network"]["head.weight"]),
            torch.equal(a["averages"][0]["head.weight"], b["averages"][0]["head.weight"]),
        ]
    assert equal == {"constant": [True, True], "linear": [False, False]}


# -- what the segment says of itself


def test_segment_is_told_in_record_card_settings_and_notice(first, tmp_path):
    run, said = tmp_path / "run", []
    shutil.copytree(first, run)
    train(small(2 * IMAGES), run, hooks=Hooks(on_notice=said.append))
    (line,) = (line for line in read_lines(Run(run).schedule) if line["kind"] == "segment")
    assert (line["images"], line["from"], line["to"]) == (
        IMAGES,
        {"images": IMAGES},
        {"images": 2 * IMAGES},
    )
    assert (line["progress"], line["warmup"]) == (0.5, 256)
    assert "learning rate moves over 256 images" in line["rule"]
    assert [s for s in said if "segment 2 of the run" in s and "50% of its full value" in s]
    settings = json.loads((run / "config.json").read_text())
    assert settings["config"]["images"] == settings["request"]["images"] == IMAGES
    (asked,) = settings["segments"]
    assert (asked["images"], asked["request"]["images"]) == (IMAGES, 2 * IMAGES)
    card = read_card(Run(run).model)
    assert card is not None
    assert card["config"]["images"] == 2 * IMAGES
    past, present = card["history"]["segments"]
    assert past["budget"] == {"images": IMAGES}
    assert (past["images"], past["ended"]) == (IMAGES, "image budget reached")
    assert present == {"budget": {"images": 2 * IMAGES}, "ended": "image budget reached"}


def test_metrics_snapshots_and_previews_cover_both_segments(both):
    """The marks of a segment are those of a run of its own; final lines stand at both ends."""
    lines = Run(both).records()
    images = [line["images"] for line in lines if "loss" in line]
    assert images == [BATCH * (k + 1) for k in range(2 * IMAGES // BATCH)]
    assert [line["images"] for line in lines if line.get("final")] == [IMAGES, 2 * IMAGES]
    snapshots = [int(path.stem) for path in sorted(Run(both).snapshots.glob("*"))]
    assert sum(n <= IMAGES for n in snapshots) == sum(n > IMAGES for n in snapshots) == 8
    previews = [int(path.stem) for path in Run(both).previews.glob("*")]
    assert {IMAGES, 2 * IMAGES} <= set(previews)


@pytest.mark.slow
def test_snapshots_of_two_segments_rebuild_another_width(tmp_path):
    """Width 0.075 from snapshots of 0.05 and 0.10, against the one that was tracked."""
    common = {"data__source": "ring", "ema__snapshots": 16}
    for images in (BATCH * 160, BATCH * 320):
        train(small(images, **common, ema__profiles=(0.05, 0.1)), tmp_path / "a")
        train(small(images, **common, ema__profiles=(0.075,)), tmp_path / "b")
    direct = sf.load(tmp_path / "b").network.state_dict()
    stored, _ = checkpoint.load_state(tmp_path / "b" / "state")
    assert stored is not None
    rebuilt = rebuild(tmp_path / "a", 0.075)
    error = sum((rebuilt[k] - direct[k]).square().sum() for k in direct).sqrt()
    distance = sum((direct[k] - stored["network"][k]).square().sum() for k in direct).sqrt()
    assert error <= 1e-2 * distance


# -- the learning rate


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
def test_learning_rate_returns_to_that_of_one_run_and_falls_to_its_end(decay):
    """From 0 at the end of the first segment, over 1,000 images, to one run of the new length."""
    schedule = Schedule(Goal(10_000))
    schedule.finish(10_000, "image budget reached")
    before = schedule.learning_rate(1.0, 10_000, 1_000, decay)
    schedule.begin(10_000, 60.0, Goal(20_000), 1_000)
    rates = [schedule.learning_rate(1.0, n, 1_000, decay) for n in range(10_000, 20_001)]
    one_run = [learning_rate(1.0, n, 1_000, decay, n / 20_000) for n in range(10_000, 20_001)]
    assert rates[1_000:] == pytest.approx(one_run[1_000:], rel=1e-12, abs=1e-12)
    assert abs(rates[0] - before) <= 1.01 * abs(one_run[0] - before) / 1_000
    assert max(abs(b - a) for a, b in itertools.pairwise(rates)) <= 1.1e-3
    assert rates[-1] == (1.0 if decay == "constant" else 0.0)


def test_short_segment_is_not_all_warm_up():
    schedule = Schedule(Goal(10_000))
    schedule.begin(10_000, 60.0, Goal(11_000), 5_000)
    assert schedule.segment.warmup == 200
    assert max(schedule.learning_rate(1.0, n, 0, "linear") for n in range(10_000, 11_000)) < 1 / 11


# -- budgets


def test_smaller_budgets_are_refused_and_equal_ones_are_complete(first):
    before = {p: p.read_bytes() for p in first.rglob("*") if p.is_file() and p.name != ".lock"}
    seconds = checkpoint.load_state(first / "state")[0]["elapsed"]  # type: ignore[index]
    for request in (small(IMAGES // 2), small(IMAGES - 1), small(None, seconds=seconds / 2)):
        with pytest.raises(InputError, match=r"has had 1,920 images in .* is already spent"):
            train(request, first)
    for request in (small(), small(None)):  # the same, and none: the run's own
        assert train(request, first).reason == "already complete (image budget reached)"
    after = {p: p.read_bytes() for p in first.rglob("*") if p.is_file() and p.name != ".lock"}
    assert before == after


def test_budget_that_the_run_overshot_is_complete(tmp_path):
    """100 images are asked for and whole batches of 64 seen: 128. With 120 nothing is left."""
    train(small(100), tmp_path)
    assert train(small(120), tmp_path).reason.startswith("already complete")
    assert train(small(129), tmp_path).images == 192


def test_time_budget_counts_all_segments_and_is_replayed_bitwise(tmp_path, monkeypatch):
    """1.5 s of training at 0.02 s a step, then 4 s in all; killed once in the second segment."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        fake_clock(patch, 0.02)
        assert 48 * BATCH <= train(small(None, seconds=1.5), run).images <= 60 * BATCH
    with monkeypatch.context() as patch:
        fake_clock(patch, 0.02)
        kill_at_call(patch, trainer, "train_step", 30)
        with pytest.raises(Killed):
            train(small(None, seconds=4.0), run, checkpoint_seconds=0.0)
    with monkeypatch.context() as patch:
        fake_clock(patch, 0.02)
        summary = train(small(None, seconds=4.0), run)
    assert summary.reason == "time budget reached"
    (line,) = (line for line in read_lines(Run(run).schedule) if line["kind"] == "segment")
    assert 1.2 < line["seconds"] < 1.6
    assert line["progress"] == pytest.approx(line["seconds"] / 4.0, abs=1e-3)
    assert summary.seconds == pytest.approx(4.0, rel=0.15)
    replay = replayed(run, tmp_path / "replay", small(None, seconds=4.0))
    assert different(contents(run), contents(replay)) == []


def test_budget_may_change_its_kind(tmp_path, monkeypatch):
    """Images, then seconds, then images: three segments, replayed bitwise."""
    run = tmp_path / "run"
    requests = (small(640), small(None, seconds=0.6), small(2560))
    for request in requests:
        with monkeypatch.context() as patch:
            fake_clock(patch, 0.02)
            train(request, run)
    card = read_card(Run(run).model)
    assert card is not None
    budgets = [segment["budget"] for segment in card["history"]["segments"]]
    assert budgets == [{"images": 640}, {"seconds": 0.6}, {"images": 2560}]
    assert sorted(p.name for p in Run(run).segments.iterdir()) == ["1", "2"]
    replay = replayed(run, tmp_path / "replay", small(2560))
    assert different(contents(run), contents(replay)) == []


@pytest.mark.parametrize("images", [BATCH * 20, BATCH * 50])
def test_budget_of_an_unfinished_run_changes_where_it_stands(images, tmp_path, monkeypatch):
    """Stopped by a signal after 10 steps of 30; the schedule then goes to the new end."""
    run, original = tmp_path / "run", trainer.train_step

    def signalling(state, *args):
        result = original(state, *args)
        if state.images == 10 * BATCH:
            signal.raise_signal(signal.SIGTERM)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train_step", signalling)
        assert train(small(), run).images == 10 * BATCH
    with pytest.raises(InputError, match="already spent"):
        train(small(10 * BATCH), run)
    summary = train(small(images), run)
    assert (summary.images, summary.reason) == (images, "image budget reached")
    assert not Run(run).segments.exists()  # no segment ended before
    replay = replayed(run, tmp_path / "replay", small(images))
    assert different(contents(run), contents(replay)) == []


def test_budget_changed_before_the_first_checkpoint_holds(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at_call(patch, trainer, "train_step", 5)
        with pytest.raises(Killed):
            train(small(), tmp_path / "run")
    assert train(small(BATCH * 12), tmp_path / "run").images == BATCH * 12
    replay = replayed(tmp_path / "run", tmp_path / "replay", small(BATCH * 12))
    assert different(contents(tmp_path / "run"), contents(replay)) == []


def test_kept_model_is_made_from_the_state_where_the_model_file_is_gone(first, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(first, run)
    Run(run).model.unlink()
    train(small(2 * IMAGES), run)
    assert_same(network(Run(run).segment_model(1)), network(Run(first).model))


def test_compilation_is_decided_again_for_a_longer_segment(both):
    """Each segment records how its arithmetic runs."""
    lines = read_lines(Run(both).schedule)
    kinds = [line["kind"] for line in lines if line["kind"] in ("execution", "segment")]
    assert kinds == ["execution", "segment", "execution"]


def test_words_of_a_segment_name_rate_and_averages():
    schedule = Schedule(Goal(1_000))
    schedule.begin(1_000, 5.0, Goal(4_000), 5_000)
    from scorefield.training.existing import Existing
    from scorefield.training.run import _words

    ended = Existing(state={"images": 1000, "ended": "image budget reached", "segment": 1})
    words = _words(schedule, Goal(1_000), ended, "linear")
    assert "moves over 600 images to 75% of its full value" in words
    assert "segments/1/" in words
    assert "stays constant" in _words(schedule, Goal(1_000), ended, "constant")
    assert math.isclose(schedule.progress(1_000), 0.25)


# -- the end of a run in words, and of a time budget in seconds


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        (
            Summary(Path("run"), 45_056, 60.2, "time budget reached"),
            "trained for 60 s: 45,056 images",
        ),
        (
            Summary(Path("run"), 45_056, 60.2, "time budget reached at 50 %", unfinished=0.5),
            "trained for 60 s: 45,056 images. The machine slowed down, so that the learning rate "
            "came to 50% of its schedule only; the same command with a larger --budget (budget=) "
            "lets it come to its end",
        ),
        (
            Summary(Path("run"), 1_472, 23.0, "stopped by signal 15; saved", 15),
            "stopped by signal 15; saved: 1,472 images in 23 s",
        ),
        (
            Summary(Path("run"), 640, 9.0, "already complete (image budget reached)"),
            "already complete (image budget reached): 640 images in 9 s",
        ),
    ],
    ids=["end", "slow machine", "signal", "complete"],
)
def test_end_of_a_run_in_words(summary, words):
    assert summary.sentence == words


def test_slow_machine_is_reported_where_the_schedule_is_far_from_its_end(tmp_path, monkeypatch):
    """Steps of 0.02 s, and of 0.3 s from the 40th on: the clock ends training at 0.8 or so."""
    now, original = [0.0], trainer.train_step

    def stepping(*args):
        result = original(*args)
        now[0] += 0.02 if args[0].steps < 40 else 0.3
        return result

    monkeypatch.setattr(trainer, "train_step", stepping)
    monkeypatch.setattr(
        trainer, "Clock", lambda spent=0.0, start=None: Clock(spent, None, lambda: now[0])
    )
    summary = train(small(None, seconds=1.2), tmp_path / "run")
    assert summary.unfinished is not None and 0.5 < summary.unfinished < 0.9
    assert "The machine slowed down" in summary.sentence
    summary = train(small(None, seconds=9.0), tmp_path / "run")
    assert summary.unfinished is None  # the larger budget lets it come to its end


@pytest.mark.parametrize("whole", [10.0, 30.0, 60.0, 300.0, 3600.0])
def test_training_leaves_time_for_what_comes_after_it(whole):
    """Training, the last evaluation and the end of the process are the whole budget; a cheap
    evaluation leaves more to training, and time that is left goes to the evaluation.
    """
    budget = Budget(Schedule(Goal(seconds=whole)))
    planned = ending_seconds(whole) + final_seconds(whole)
    assert planned <= 0.11 * whole
    for seconds in (0.01, final_seconds(whole), 1e9):
        budget.keep_back(seconds)
        kept = whole - budget._target
        assert kept == pytest.approx(ending_seconds(whole) + min(seconds, final_seconds(whole)))
        planned = min(seconds, final_seconds(whole))
        found = time_left(whole, budget._target)
        assert found == pytest.approx(max(planned, final_seconds(whole) / 2))
    assert time_left(whole, 2 * whole) == final_seconds(whole) / 2
    assert time_left(whole, 0.0) == 2 * final_seconds(whole)
