"""What a run directory holds decides what training does there: nothing better is overwritten."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import scorefield as sf
from scorefield import checkpoint
from scorefield.checkpoint import read_card
from scorefield.config import (
    DataFacts,
    DataRequest,
    Request,
    differences,
    keep_open,
    override,
    resolve,
)
from scorefield.config.compare import DATA_WEIGHTS, READING
from scorefield.errors import InputError
from scorefield.runs import Run
from scorefield.training import Hooks, fit, set_aside, train
from scorefield.training.existing import examine
from small_runs import BATCH, IMAGES, small

pytestmark = pytest.mark.training
CONDITIONS = ("whole", "torn", "empty", "missing")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A finished run. Only read it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(small(), folder)
    return folder


def damaged(run: Path, folder: Path, **conditions: str) -> Run:
    """A copy of a run in which config, state, model and schedule are whole, torn, empty or gone."""
    shutil.copytree(run, folder)
    copy = Run(folder)
    files = {
        "config": [copy.config],
        "state": sorted(copy.state.glob("*")),
        "model": [copy.model],
        "schedule": [copy.schedule],
    }
    for name, condition in conditions.items():
        for path in files[name]:
            if condition == "missing":
                path.unlink()
            elif condition != "whole":
                content = path.read_bytes()
                path.write_bytes(content[: len(content) // 2] if condition == "torn" else b"")
    return copy


def everything(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def expected(config: str, state: str, model: str, schedule: str) -> str:
    """The table of the module docstring of `existing`: "" where training goes on or begins."""
    model_there = model in ("whole", "torn")
    if config in ("torn", "empty"):
        return "config.json"
    if config == "missing":
        return "no config.json" if model_there or state == "whole" else ""
    if state == "whole":
        return "" if schedule == "whole" else "schedule.jsonl is missing or cut"
    return "would overwrite its model" if model_there else ""


@pytest.mark.parametrize("schedule", CONDITIONS)
@pytest.mark.parametrize("config", CONDITIONS)
@pytest.mark.parametrize("state", CONDITIONS)
def test_every_combination_of_damaged_files(state, config, schedule, finished, tmp_path):
    """256 folders: what is refused is named with a way out; a whole model is never begun over."""
    for model in CONDITIONS:
        run = damaged(
            finished, tmp_path / model, config=config, state=state, model=model, schedule=schedule
        )
        before = everything(run.folder)
        words = expected(config, state, model, schedule)
        if words:
            with pytest.raises(InputError) as refused:
                examine(run)
            message = str(refused.value)
            assert words in message and "--restart" in message and "set_aside(run)" in message
            if model == "whole" and config == "whole" and state != "whole":
                assert "model.safetensors (after 1,920 images) is whole" in message
        else:
            found = examine(run)
            goes_on = state == "whole"
            assert (found.state is not None) == goes_on
            assert goes_on or model in ("empty", "missing")
        assert everything(run.folder) == before


REFUSED = [
    {"state": "empty"},  # both generations, after a power cut
    {"state": "missing"},
    {"config": "torn"},
    {"config": "missing"},
    {"schedule": "missing"},
    {"state": "torn", "model": "torn", "schedule": "empty"},
]


@pytest.mark.parametrize("conditions", REFUSED, ids=str)
def test_refused_folder_stays_and_restart_sets_it_aside(conditions, finished, tmp_path):
    """With restart the run begins again; what was there is a run directory of its own."""
    run = damaged(finished, tmp_path / "run", **conditions)
    before = everything(run.folder)
    for budget in (small(), small(2 * IMAGES)):
        with pytest.raises(InputError):
            train(budget, run.folder)
    assert everything(run.folder) == before
    said: list[str] = []
    train(small(10 * BATCH), run.folder, restart=True, hooks=Hooks(on_notice=said.append))
    assert any("old-1" in text for text in said)
    old = run.folder / "old-1"
    assert {run.folder / p.relative_to(old): c for p, c in everything(old).items()} == before
    assert read_card(run.model)["history"]["images"] == 10 * BATCH  # type: ignore[index]


def test_restart_of_a_whole_run_keeps_every_old_one(finished, tmp_path):
    run = damaged(finished, tmp_path / "run")
    for count in (1, 2):
        train(small(5 * BATCH, seed=count), run.folder, restart=True)
        assert (run.folder / f"old-{count}" / "model.safetensors").exists()
    assert sf.load(run.folder / "old-1").card["history"]["images"] == IMAGES
    old = set_aside(run.folder)
    assert old == run.folder / "old-3"
    assert set_aside(run.folder) is None
    assert set_aside(tmp_path / "nowhere") is None


def test_restart_with_settings_that_are_refused_moves_nothing(finished, tmp_path):
    run = damaged(finished, tmp_path / "run")
    before = everything(run.folder)
    with pytest.raises(InputError, match=r"noise\.levels"):
        train(small(noise__preconditioner="ncsn", plan="none"), run.folder, restart=True)
    assert everything(run.folder) == before


def test_newest_state_torn_goes_on_from_the_one_before_without_losing_the_model(finished, tmp_path):
    """The model file stays that of the later point until training has come there again."""
    run = damaged(finished, tmp_path / "run")
    states = sorted(run.state.glob("*"))
    content = checkpoint.load_state(run.state)[0]
    assert content is not None
    states[-1].write_bytes(b"")
    older = {**content, "images": IMAGES - 5 * BATCH, "steps": 25, "ended": "", "elapsed": 0.1}
    checkpoint.save_state(run.state, IMAGES - 5 * BATCH, older)
    (run.state / states[-1].name).write_bytes(b"")
    seen: list[int] = []
    original = Run.log

    def watching(self, record):
        seen.append(read_card(run.model)["history"]["images"])  # type: ignore[index]
        original(self, record)

    Run.log = watching  # type: ignore[method-assign]
    try:
        summary = train(small(), run.folder, checkpoint_seconds=0.0)
    finally:
        Run.log = original  # type: ignore[method-assign]
    assert summary.images == IMAGES
    assert set(seen) == {IMAGES}


def test_torn_states_of_more_images_do_not_push_out_new_ones(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    for images in (900, 1000):
        (folder / f"{images:012d}.state").write_bytes(b"")
    for images in (10, 20, 30):
        checkpoint.save_state(folder, images, {"images": images})
    assert [int(p.stem) for p in sorted(folder.glob("*"))] == [20, 30]


def test_model_of_another_run_is_not_overwritten(finished, tmp_path):
    """Copied over the run's own, and imported into a folder without a run."""
    train(small(5 * BATCH, data__source="ring"), tmp_path / "other")
    run = damaged(finished, tmp_path / "run")
    shutil.copy(tmp_path / "other" / "model.safetensors", run.model)
    before = everything(run.folder)
    with pytest.raises(InputError, match="is not of the run in its folder"):
        train(small(2 * IMAGES), run.folder)
    assert everything(run.folder) == before
    bare = Run(tmp_path / "bare")
    bare.folder.mkdir()
    shutil.copy(run.model, bare.model)
    with pytest.raises(InputError, match=r"holds model\.safetensors and no config\.json"):
        train(small(), bare.folder)
    assert everything(bare.folder) == {bare.model: run.model.read_bytes()}


def test_finished_run_without_its_model_file_writes_it_again(finished, tmp_path):
    for condition in ("missing", "empty", "torn"):
        run = damaged(finished, tmp_path / condition, model=condition)
        assert train(small(), run.folder).reason.startswith("already complete")
        a, b = (sf.load(folder).network.state_dict() for folder in (run.folder, finished))
        assert all(torch.equal(a[name], b[name]) for name in a)
        assert sf.load(run.folder).card["history"]["verdict"] is not None


# -- a run is known by its data's content


@pytest.fixture
def table(tmp_path) -> Path:
    """A table of 300 rows and two columns."""
    rows = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)).numpy()
    folder = tmp_path / "data"
    folder.mkdir()
    np.save(folder / "rows.npy", rows)
    return folder / "rows.npy"


SETTINGS = {"optim.batch": 32, "network.name": "mlp", "execution.threads": 1}


def test_same_data_from_elsewhere_are_the_same_run(table, tmp_path, monkeypatch):
    """A relative path, another spelling, a copy, a path object, the array, a tensor."""
    monkeypatch.chdir(tmp_path)
    fit("data/rows.npy", "run", images=64, settings=SETTINGS)
    shutil.copytree("data", "elsewhere")
    rows = np.load(table)
    for data in (
        "./data/rows.npy",
        str(table),
        table,
        "elsewhere/rows.npy",
        rows,
        torch.from_numpy(rows),
        np.asfortranarray(rows),
    ):
        assert fit(data, "run", images=64, settings=SETTINGS).reason.startswith("already complete")
    assert fit(rows, "run", images=128, settings=SETTINGS).images == 128
    assert read_card(Path("run/model.safetensors"))["data"]["source"] != "<ndarray>"  # type: ignore[index]
    assert len(sf.data.open_card_data(sf.load("run").card).dataset) == 300
    # data that moved are found at the place that was named last
    assert fit("elsewhere/rows.npy", "run", images=192, settings=SETTINGS).images == 192
    assert sf.load("run").card["config"]["data"]["source"] == "elsewhere/rows.npy"


def test_folder_of_pictures_is_known_by_its_pictures(tmp_path, monkeypatch):
    """pics, pics/, the absolute path and a copy are one run; the array of their values too."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    g = np.random.default_rng(0)
    values = g.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    Path("pics").mkdir()
    for k, picture in enumerate(values):
        Image.fromarray(picture).save(f"pics/{k:03d}.png")
    settings = {
        "optim.batch": 16,
        "network.options": {"widths": [8], "depths": [1]},
        "execution.threads": 1,
        "execution.compile": "off",
    }
    fit("pics", "run", images=32, settings=settings)
    shutil.copytree("pics", "copy")
    for data in ("pics/", str(tmp_path / "pics"), "copy", values[:, None]):
        assert fit(data, "run", images=32, settings=settings).reason.startswith("already")


def test_other_data_are_refused_in_one_short_sentence(tmp_path):
    """Names first; where they are equal, what differs. No hash, no setting that follows from it."""
    fit("ring", tmp_path / "run", images=64, settings=SETTINGS)
    with pytest.raises(InputError) as refused:
        fit("moons", tmp_path / "run", budget="7s", settings={**SETTINGS, "execution.threads": 2})
    assert "other data: 'ring' there, 'moons' here" in str(refused.value)
    assert "sha256" not in str(refused.value) and "threads" not in str(refused.value)
    rows = np.random.default_rng(0).normal(size=(60, 2))
    np.save(tmp_path / "x.npy", rows)
    fit(tmp_path / "x.npy", tmp_path / "own", images=64, settings=SETTINGS)
    changes = {
        "count 60, now 59": rows[:-1],
        r"shape \[2\], now \[3\]": np.hstack([rows, rows[:, :1]]),
        "the values of .* have changed": rows + 1,
    }
    for words, changed in changes.items():
        np.save(tmp_path / "x.npy", changed)
        with pytest.raises(InputError, match=words):
            fit(tmp_path / "x.npy", tmp_path / "own", images=64, settings=SETTINGS)


def test_reading_that_changes_training_is_another_run(tmp_path):
    """The same values, with noise of the rounding step in training and without."""
    rows = np.random.default_rng(0).integers(0, 4, (80, 2))
    text = "a,b\n" + "".join(f"{a},{b}\n" for a, b in rows)
    (tmp_path / "x.csv").write_text(text)
    fit(tmp_path / "x.csv", tmp_path / "run", images=64, settings=SETTINGS)
    with pytest.raises(InputError, match=r"is read in another way|the values of .* have changed"):
        fit(
            tmp_path / "x.csv",
            tmp_path / "run",
            images=64,
            settings={**SETTINGS, "data.discrete": ("none",)},
        )


def test_every_setting_of_the_data_is_reading_or_decides_weights():
    """A new setting must be put into one of the two."""
    names = {f"data.{name}" for name in DataRequest.model_fields}
    reading = READING - {"condition.source"}  # compared by content, as the data are
    assert reading | {f"data.{name}" for name in DATA_WEIGHTS} == names
    assert DataRequest.model_fields.keys() >= DATA_WEIGHTS


NOT_REFUSED = [
    {"preset": "mlp"},
    {"execution__threads": 2},
    {"execution__device": "cpu"},
    {"execution__precision": "float32"},  # the one that the run has
    {"execution__precision": None},
    {"guard__action": "skip", "guard__limit": 3},
    {"ema__snapshots": 3},
    {"sampling__nfe": 50},
    {"sampling__sampler": "euler"},
]


@pytest.mark.parametrize("settings", NOT_REFUSED, ids=str)
def test_settings_that_do_not_decide_weights_never_refuse(settings, finished, tmp_path):
    run = damaged(finished, tmp_path / "run")
    assert train(small(**settings), run.folder).reason.startswith("already complete")


NO_EFFECT = {  # what is said of a setting that a complete run does not take
    "guard__limit": "guard.limit=3 (the model has 20)",
    "ema__snapshots": "ema.snapshots=3 (the model has 8)",
    "sampling__nfe": "sampling.nfe=50 (the model has 32)",
    "sampling__sampler": "sampling.sampler=euler (the model has matched-sde)",
}


@pytest.mark.parametrize("settings", [{}, *NOT_REFUSED], ids=str)
def test_settings_that_a_complete_run_does_not_take_are_stated(settings, finished, tmp_path):
    run = damaged(finished, tmp_path / "run")
    said = train(small(**settings), run.folder).notices
    stated = [text for text in said if "no effect" in text]
    wanted = [NO_EFFECT[name] for name in settings if name in NO_EFFECT]
    assert len(stated) == bool(wanted)
    for text in wanted:
        assert text in stated[0] and "larger budget" in stated[0]
    assert read_card(run.model) == read_card(Run(finished).model)


def test_trackers_that_a_complete_run_does_not_start_are_stated(finished, tmp_path):
    calls = []

    class Silent:
        def start(self, run, config):
            calls.append("start")

        def log(self, line, pictures=None):
            calls.append("log")

        def finish(self, summary):
            calls.append("finish")

    run = damaged(finished, tmp_path / "run")
    said = train(small(), run.folder, hooks=Hooks(trackers=[Silent()])).notices
    assert calls == [] and any("trackers are not started" in text for text in said)
    assert not any("not started" in text for text in train(small(), run.folder).notices)


def test_bounds_that_a_complete_run_does_not_take_are_stated(tmp_path):
    rows = np.random.default_rng(0).normal(size=(60, 2))
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{a:.4f},{b:.4f}\n" for a, b in rows))

    def said(images, **bounds):
        settings = SETTINGS | {f"data.{name}": value for name, value in bounds.items()}
        found = fit(tmp_path / "x.csv", tmp_path / "run", images=images, settings=settings)
        bounds = read_card(Run(tmp_path / "run").model)["data"]["form"]["bounds"]
        return bounds, [text for text in found.notices if "no effect" in text]

    assert said(64) == ("data", [])
    kept, (stated,) = said(64, bounds="none")
    assert kept == "data" and "data.bounds=none (the model has data) has no effect" in stated
    assert said(64) == ("data", []) == said(64, bounds="data")
    assert said(128, bounds="none") == ("none", [])  # as the notice says


def test_another_precision_is_refused(finished):
    with pytest.raises(InputError, match=r"configuration: execution\.precision is 'float32' in"):
        train(small(execution__precision="bfloat16"), finished)


def test_settings_left_open_are_those_of_the_run():
    """A default that another budget, or another version, chooses otherwise stays; a given one not.

    Settings of sampling and execution are the present command's.
    """
    facts = DataFacts(event_shape=(2,), count=100)
    stored = resolve(Request(), facts).to_dict()
    stored["optim"]["decay"], stored["optim"]["batch"] = "linear", 77
    stored["network"]["options"] = {"width": 99, "depth": 5}
    stored["sampling"]["sampler"], stored["execution"]["threads"] = "euler", 3
    asked = override(Request(), {"optim.batch": 64, "network.options.depth": 2})
    kept = keep_open(resolve(asked, facts), asked, stored)
    assert (kept.optim.decay, kept.optim.batch) == ("linear", 64)
    assert kept.network.options == {"width": 99, "depth": 2}
    assert (kept.sampling.sampler, kept.execution.threads) == ("unipc", None)
    assert differences(stored, kept) == [
        "network.options is {'width': 99, 'depth': 5} in the run, {'width': 99, 'depth': 2} now",
        "optim.batch is 77 in the run, 64 now",
    ]
