"""The command line for a stranger: where to start, what is read and written, what is printed."""

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from cli_helpers import SMALL, Command, call, files, fix_precision, samples_of
from scorefield import data
from scorefield.cli import completion, share_processors
from scorefield.cli.app import START, app
from scorefield.cli.options import Reading, with_groups
from scorefield.cli.show import Outcome, listed
from scorefield.cli.train import budget_text, next_command, with_option
from scorefield.config import Request, preset, settings
from scorefield.data.options import ReadOptions

COMMANDS = typer.main.get_command(app).commands
FEW = ["--threads", 1, "--precision", "float32", "--compile", "off"]


@pytest.fixture(autouse=True)
def float32_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    fix_precision(monkeypatch)


@pytest.fixture
def command(capsys) -> Command:
    return Command(capsys)


@pytest.fixture(scope="module")
def ring(tmp_path_factory) -> Path:
    """A finished run of points in the plane."""
    folder = tmp_path_factory.mktemp("ring") / "run"
    assert call("train", "--data", "ring", "--run", folder, *SMALL) == 0
    return folder


# -- the start


def lines_of_commands(text: str) -> list[list[str]]:
    """The commands in the table of a text, as arguments."""
    return [shlex.split(line) for line in re.findall(r"   scorefield (.*)", text)]


def test_without_arguments_a_newcomer_is_told_where_to_start(command):
    code, out, err = command()
    assert code == 0 and not err
    assert "I have" in out and "scorefield demo" in out
    assert {line[0] for line in lines_of_commands(START)} >= {"demo", "train", "sample", "restore"}


@pytest.mark.parametrize("line", lines_of_commands(START), ids=" ".join)
def test_every_command_of_the_start_is_one_that_parses(line):
    name, *arguments = line
    assert COMMANDS[name].make_context(name, arguments).params


def test_help_is_quick_and_loads_no_torch():
    code = """
import sys
from scorefield.cli import main
sys.argv = ["scorefield", "--help"]
try:
    main()
finally:
    assert not {"torch", "numpy", "pyarrow", "matplotlib", "PIL"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


# -- completion


def complete(line: str, word: int) -> list[str]:
    """What bash offers for the last word of a line."""
    code = "from scorefield.cli import main; import sys; sys.argv = ['scorefield']; main()"
    environment = {
        **os.environ,
        "COMP_WORDS": line,
        "COMP_CWORD": str(word),
        "_SCOREFIELD_COMPLETE": "complete_bash",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    return done.stdout.split("\n")


@pytest.mark.parametrize(
    ("line", "word", "offered"),
    [
        ("scorefield tra", 1, "train"),
        ("scorefield sample run --sampler h", 4, "heun"),
        ("scorefield train --preset n", 3, "ncsn"),
        ("scorefield train --data sp", 3, "spiral"),
        ("scorefield train --missing d", 3, "drop"),
        ("scorefield train --set optim.l", 3, "optim.lr="),
        ("scorefield settings no", 2, "noise"),
    ],
)
def test_the_shell_completes(line, word, offered):
    assert offered in complete(line, word)


def test_completion_offers_runs_and_data_of_the_folder(tmp_path, monkeypatch):
    for run in ("runs/a", "runs/with space/b"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "config.json").write_text("{}")
    (tmp_path / "no run").mkdir()
    (tmp_path / "table.csv").write_text("a\n1\n")
    (tmp_path / "notes.md").write_text("")
    monkeypatch.chdir(tmp_path)
    assert completion.runs("") == completion.runs("ru") == ["runs/a", "runs/with space/b"]
    assert completion.data("t") == ["table.csv"]
    assert "no run/" in completion.data("")
    monkeypatch.setenv("_SCOREFIELD_COMPLETE", "complete_bash")
    assert completion.runs("runs/w") == [r"runs/with\ space/b"]
    assert completion.runs("absent/") == []


def test_completion_knows_every_name_of_data():
    assert completion.DATA_NAMES == data.NAMES


def test_completion_of_settings_gives_names_then_choices():
    assert ("optim.name=muon", settings_named("optim.name").description) in completion.assignments(
        "optim.name=m"
    )
    assert [name for name, _ in completion.assignments("optim.be")] == [
        "optim.beta1=",
        "optim.beta2=",
    ]


def settings_named(name: str):
    return next(row for row in settings() if row.name == name)


# -- what is not installed


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--data", "ring", "--run", "run"],
        ["sample", "run", "--out", "out"],
        ["restore", "run", "--input", "in.npy", "--out", "out"],
        ["likelihood", "run", "--out", "out.json"],
        ["info", "run"],
        ["figures", "--out", "out"],
        ["import", "c.pth", "--family", "ncsn", "--out", "m.safetensors"],
        ["demo", "--run", "run"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_without_pytorch_every_command_names_the_package(tmp_path, arguments):
    code = f"""
import sys
sys.modules["torch"] = None
from scorefield.cli import main
sys.argv = ["scorefield", *{arguments!r}]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 1
    assert "PyTorch" in done.stderr and "-m pip install torch" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_program_is_not_taken_for_a_missing_package(command, monkeypatch, ring):
    from scorefield import checkpoint

    def fail(*_, **__):
        raise ModuleNotFoundError("no module", name="scorefield.nothing")

    monkeypatch.setattr(checkpoint, "load", fail)
    with pytest.raises(ModuleNotFoundError):
        command("info", ring)


# -- groups of options


def test_a_group_of_options_becomes_options_and_back():
    @dataclasses.dataclass(frozen=True)
    class Pair:
        a: int = 1
        b: str = "x"

    def function(first: int, pair: Pair = Pair(), last: str = "z") -> tuple:
        return first, pair, last

    made = with_groups(function)
    assert list(made.__signature__.parameters) == ["first", "a", "b", "last"]
    assert made(first=3, a=5, b="y", last="w") == (3, Pair(5, "y"), "w")


def test_reading_options_are_the_reading_settings():
    own = {"count", "seed", "condition", "condition_from"}  # of other options and settings
    known = {field.name for field in dataclasses.fields(ReadOptions)} - own
    assert {field.name for field in dataclasses.fields(Reading)} == known
    assert Reading().settings() == {} and Reading().options() is None


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"columns": "age,body temp (C)"}, "columns", ("age", "body temp (C)")),
        ({"columns": '"Doe, John",b'}, "columns", ("Doe, John", "b")),
        ({"columns": "-row"}, "columns", ("-row",)),
        ({"range": "0,4095"}, "range", (0.0, 4095.0)),
        ({"discrete": "[a,b]"}, "discrete", ("a", "b")),
        ({"header": False}, "header", False),
        ({"channels_last": True}, "channels_last", True),
        ({"skip_unreadable": True}, "skip_unreadable", True),
        ({"missing": "drop"}, "missing", "drop"),
        ({"delimiter": ";", "decimal": ","}, "decimal", ","),
        ({"size": 64}, "size", 64),
    ],
)
def test_reading_options_reach_the_reader_as_typed(given, name, value):
    assert getattr(Reading(**given).options(), name) == value


@pytest.mark.parametrize("name", ["train"])
def test_the_help_lists_reading_options_in_a_part_of_their_own(command, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "200")
    part = command(name, "--help")[1].partition("Reading the data")[2].partition("╰")[0]
    for field in dataclasses.fields(Reading):
        assert f"--{field.name.replace('_', '-')}" in part


def test_every_option_has_help():
    for name, kind in COMMANDS.items():
        for option in kind.params:
            assert option.help, f"{name} --{option.name}"


# -- what is printed


def test_json_is_all_that_the_standard_output_holds(ring, tmp_path, command):
    out = tmp_path / "out"
    code, printed, err = command("sample", ring, "--count", 5, "--nfe", 3, "--out", out, "--json")
    assert code == 0, err
    found = json.loads(printed)
    assert found["command"] == "sample"
    assert (found["count"], found["nfe"], found["seed"]) == (5, 3, 0)
    assert found["shape"] == [5, 2]
    assert found["seconds"] > 0
    assert found["next"].startswith("scorefield ")
    assert all(Path(path).exists() for path in found["written"])
    names = {Path(path).name for path in found["written"]}
    assert names == {"samples.npz", "samples.json", "scatter.png"}
    assert "sampling" in err  # progress and messages


@pytest.mark.parametrize("extra", [[], ["--json"]], ids=["", "json"])
def test_quiet_prints_nothing_but_the_result_as_json(ring, tmp_path, command, extra):
    for arguments in (
        ["sample", ring, "--count", 5, "--nfe", 3, "--out", tmp_path / "out"],
        ["info", ring],
        ["settings", "optim"],
        ["train", "--data", "ring", "--run", ring, *SMALL],
        ["train", "--data", "ring", "--run", tmp_path / "new", *SMALL],
    ):
        code, printed, err = command(*arguments, "--quiet", *extra)
        assert code == 0, err
        assert err == ""
        assert json.loads(printed)["command"] == arguments[0] if extra else printed == ""


def test_quiet_prints_errors(ring, tmp_path, command):
    code, printed, err = command("sample", ring, "--out", tmp_path / "o", "--nfe", 1, "--quiet")
    assert (code, printed) == (2, "")
    assert "error:" in err


def test_quiet_ends_with_the_command(ring, command):
    assert command("info", ring, "--quiet")[1] == ""
    assert "mlp" in command("info", ring)[1]


def test_json_of_info_and_settings_holds_all_that_is_known(ring, command):
    found = json.loads(command("info", ring, "--json")[1])
    assert found["card"]["event_shape"] == [2] and found["parameters"] > 1000
    assert any(path.endswith("loss_per_sigma.png") for path in found["files"])
    rows = json.loads(command("settings", "optim", "--json")[1])["settings"]
    assert {"name", "default", "description", "accepts"} <= rows[0].keys()
    schema = json.loads(command("settings", "--schema", "--json")[1])["schema"]
    assert schema["properties"] == json.loads(command("settings", "--schema")[1])["properties"]


def test_a_dry_run_prints_one_json_document(tmp_path, command):
    arguments = ["train", "--data", "ring", "--run", tmp_path / "run", "--dry-run"]
    arguments += ["--images", "1k"]  # the batch of a time budget follows from measured steps
    config = json.loads(command(*arguments)[1])
    assert json.loads(command(*arguments, "--json")[1])["config"] == config
    code, printed, err = command(*arguments, "--quiet")
    assert (code, err) == (0, "") and json.loads(printed) == config
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_quiet_and_json(name):
    assert {"quiet", "json"} <= {option.name for option in COMMANDS[name].params}


def last_line(printed: str) -> str:
    return printed.strip().splitlines()[-1]


def test_the_last_line_says_what_was_written_and_a_next_command_that_runs(ring, tmp_path, command):
    out = tmp_path / "with space"
    line = last_line(command("sample", ring, "--count", 4, "--nfe", 3, "--out", out)[1])
    written, found, following = line.partition("; next: scorefield ")
    assert found
    assert f"'{out}/samples.npz'" in written and "scatter.png" in written
    name, *arguments = shlex.split(following)
    params = COMMANDS[name].make_context(name, arguments).params
    assert Path(params["run"]) == ring
    following = last_line(command("info", ring)[1]).removeprefix("Next: scorefield ")
    assert command(*shlex.split(following), "--count", 2)[0] == 0
    assert (ring / "samples" / "samples.npz").exists()


def test_listed_paths_are_as_one_types_them(tmp_path):
    (tmp_path / "pictures").mkdir()
    paths = [tmp_path / "a b.csv", tmp_path / "c.json", tmp_path / "pictures", Path("other/d")]
    assert listed(paths) == f"'{tmp_path}/a b.csv', c.json, pictures/, other/d"
    assert Outcome().words == "" and Outcome((), ("info", "a b")).words == (
        "Next: scorefield info 'a b'"
    )


# -- what comes next after training


@dataclasses.dataclass
class Ended:
    signal: int = 0
    verdict: object = None
    seconds: float = 60.0


@dataclasses.dataclass
class Begun:
    needed_images: int | None
    rate: float = 100.0
    standing: str = "hardly begun"


TRAIN = ["train", "--data", "x.csv", "--run", "r"]


@pytest.mark.parametrize(
    ("typed", "request_", "ended", "following"),
    [
        (TRAIN, preset("fast"), Ended(), ["sample", "r", "--out", "r/samples"]),
        (TRAIN, preset("fast"), Ended(signal=2), TRAIN),
        ([*TRAIN, "--restart"], preset("fast"), Ended(signal=2), TRAIN),
        (TRAIN, preset("fast"), Ended(0, Begun(60_000)), [*TRAIN, "--budget", "10m"]),
        (
            [*TRAIN, "--budget=30s"],
            preset("fast"),
            Ended(0, Begun(6_000)),
            [*TRAIN, "--budget=60s"],
        ),
        (
            [*TRAIN, "--images", "1k"],
            Request(images=1000),
            Ended(0, Begun(6_000)),
            [*TRAIN, "--images", "6000"],
        ),
        (TRAIN, preset("fast"), Ended(0, Begun(None)), [*TRAIN, "--budget", "10m"]),
        (
            TRAIN,
            preset("fast"),
            Ended(0, Begun(None, standing="learned")),
            ["sample", "r", "--out", "r/samples"],
        ),
    ],
)
def test_what_follows_training(monkeypatch, typed, request_, ended, following):
    monkeypatch.setattr(sys, "argv", ["scorefield", *typed])
    assert [str(a) for a in next_command(Path("r"), request_, ended)] == following


def test_budgets_are_rounded_up():
    assert [budget_text(s) for s in (0.5, 90, 121, 7201)] == ["1s", "90s", "3m", "3h"]
    assert with_option(["--budget", "5s", "x"], "--budget", "9s") == ["--budget", "9s", "x"]


# -- outputs that exist


def test_an_existing_result_is_kept_without_force(ring, tmp_path, command):
    out = tmp_path / "out"
    few = ["--count", 3, "--nfe", 3]
    assert command("sample", ring, *few, "--out", out)[0] == 0
    before, first = files(out), samples_of(out)
    code, _, err = command("sample", ring, *few, "--seed", 1, "--out", out)
    assert code == 2
    assert "--force" in err and f"{out}/samples." in err
    assert files(out) == before
    assert command("sample", ring, *few, "--seed", 1, "--out", out, "--force")[0] == 0
    assert not (samples_of(out) == first).any()


def test_other_files_in_the_folder_are_neither_in_the_way_nor_touched(ring, tmp_path, command):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "other.csv").write_text("a\n1\n")
    assert command("sample", ring, "--count", 2, "--nfe", 3, "--out", tmp_path)[0] == 0
    again = ["--count", 2, "--nfe", 3, "--out", tmp_path, "--force"]
    assert command("sample", ring, *again)[0] == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "other.csv").read_text() == "a\n1\n"


def test_a_refused_overwrite_loses_nothing_and_does_no_work(tmp_path, command):
    """The check comes before the model is loaded: no model is needed to see it."""
    (tmp_path / "samples.npz").write_bytes(b"mine")
    (tmp_path / "m.safetensors").write_bytes(b"mine")
    (tmp_path / "figures.md").write_bytes(b"mine")
    before = files(tmp_path)
    for arguments in (
        ["sample", tmp_path / "no model", "--out", tmp_path],
        ["import", tmp_path / "c.pth", "--family", "ncsn", "--out", tmp_path / "m.safetensors"],
        ["figures", "--out", tmp_path, "--only", "1"],
    ):
        code, _, err = command(*arguments)
        assert code == 2
        assert "--force" in err
    assert files(tmp_path) == before


# -- what is no model


def test_what_is_no_model_is_named(ring, tmp_path, command):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.json").write_text("{}")
    (tmp_path / "c.pth").write_bytes(b"")
    for name, words in {
        "table.csv": ["train a model of it", "scorefield train --data"],
        "empty": ["not a run"],
        "begun": ["has not saved a model yet"],
        "absent": ["no file or folder"],
        "c.pth": ["scorefield import"],
    }.items():
        for arguments in (["info"], ["sample", "--out", tmp_path / "o"]):
            code, _, err = command(arguments[0], tmp_path / name, *arguments[1:])
            assert code == 2
            for word in words:
                assert word in err, (name, err)
    assert "Runs inside it" in command("info", ring.parent)[2]
    assert not (tmp_path / "o").exists()


# -- the same kind of thing out

TINY = ["--images", 256, "--set", "optim.batch=64", *FEW]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """A folder with patients.csv and a run of it: numbers, whole numbers, words, a constant."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    lines = ["age,body temp (C),height,sex,site"]
    for age, height in zip(rng.integers(18, 90, 200), rng.normal(170, 9, 200), strict=True):
        sex = "fm"[int(rng.integers(2))]
        lines.append(f"{age},{36.5 + 0.01 * (age - 50):.2f},{height:.6f},{sex},7")
    (folder / "patients.csv").write_text("\n".join(lines) + "\n")
    arguments = ["train", "--data", folder / "patients.csv", "--run", folder / "run", *TINY]
    assert call(*arguments) == 0
    return folder


@pytest.mark.training
def test_samples_of_a_table_are_a_table(table, tmp_path, command):
    import pyarrow.csv

    out = tmp_path / "out"
    code, printed, err = command("sample", table / "run", "--count", 30, "--nfe", 9, "--out", out)
    assert code == 0, err
    rows = pyarrow.csv.read_csv(out / "samples.csv")
    assert rows.column_names == ["age", "body temp (C)", "height", "sex", "site"]
    assert rows.num_rows == 30
    assert str(rows["age"].type) == "int64"
    assert set(rows["sex"].to_pylist()) <= {"f", "m"}
    assert set(rows["site"].to_pylist()) == {7}
    assert "samples.csv" in last_line(printed) and "samples.png" in last_line(printed)
    with np.load(out / "samples.npz") as archive:
        names = archive["columns"].tolist()
        assert archive["samples"].shape == (30, len(names))
    assert names == ["age", "body temp (C)", "height", "sex=f", "sex=m", "site"]


@pytest.mark.training
def test_another_format_with_force_leaves_no_file_of_the_earlier_one(table, tmp_path, command):
    import pyarrow.parquet

    out = tmp_path / "out"
    few = ["--count", 5, "--nfe", 3, "--out", out]
    assert command("sample", table / "run", *few)[0] == 0
    assert command("sample", table / "run", *few, "--format", "parquet")[0] == 2
    assert (out / "samples.csv").exists() and not (out / "samples.parquet").exists()
    assert command("sample", table / "run", *few, "--format", "parquet", "--force")[0] == 0
    assert not (out / "samples.csv").exists()
    assert pyarrow.parquet.read_table(out / "samples.parquet").num_rows == 5
    assert command("sample", table / "run", *few, "--format", "none", "--force")[0] == 0
    assert {path.name for path in out.iterdir()} == {"samples.npz", "samples.json", "samples.png"}


@pytest.mark.training
def test_a_picture_of_a_table_whose_data_are_gone_shows_the_samples_alone(table, tmp_path, command):
    data, kept = table / "patients.csv", tmp_path / "kept.csv"
    data.rename(kept)
    try:
        arguments = ["--count", 5, "--nfe", 3, "--out", tmp_path / "out"]
        code, printed, err = command("sample", table / "run", *arguments)
    finally:
        kept.rename(data)
    assert code == 0, err
    assert "samples.png shows the samples alone" in printed
    assert (tmp_path / "out" / "samples.png").exists()


@pytest.mark.training
def test_info_of_a_table_names_columns_data_budget_and_files(table, command, monkeypatch):
    monkeypatch.setattr("scorefield.cli.info.console.width", 1000, raising=False)
    monkeypatch.setenv("COLUMNS", "1000")
    printed = " ".join(command("info", table / "run")[1].split())
    for words in (
        "200 examples, csv",
        "10% held out",
        "sex (category)",
        "site (constant)",
        "hardly begun",
        "of a budget of 256 images",
        "preset fast, seed 0",
        "mlp",
        "sigma from 0.0",
        "unipc",
        "loss_per_sigma.png: held-out loss",
        "Next: scorefield sample",
    ):
        assert words in printed, printed


def deep_pictures(folder: Path, count: int = 30) -> Path:
    """16-bit grey pictures."""
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(count):
        pixels = np.clip(rng.normal(30_000, 9_000, (8, 8)), 0, 65_535).astype(np.uint16)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    return folder


@pytest.mark.training
def test_samples_of_a_folder_of_deep_pictures_are_deep_pictures(tmp_path, command):
    from PIL import Image

    run, out = tmp_path / "run", tmp_path / "out"
    mlp = ["--set", "network.name=mlp"]
    data = deep_pictures(tmp_path / "pictures")
    code, printed, err = command("train", "--data", data, "--run", run, *TINY, *mlp)
    assert code == 0, err
    assert "30 images of 8 x 8" in printed
    code, printed, err = command("sample", run, "--count", 3, "--nfe", 5, "--out", out)
    assert code == 0, err
    written = sorted((out / "samples").iterdir())
    assert len(written) == 3
    pixels = np.stack([np.asarray(Image.open(path)) for path in written])
    assert pixels.dtype == np.uint16
    assert len(np.unique(pixels)) > 100  # 8 bits of this range have fewer levels
    stored = np.clip(np.floor(samples_of(out)[:, 0].astype(np.float64) * 65_536), 0, 65_535)
    assert (pixels == stored).all()
    # One format loses nothing, the other does; it is refused before anything is drawn.
    before = files(out)
    code, _, err = command("sample", run, "--out", out, "--format", "jpeg", "--force")
    assert code == 2
    assert "would lose 16 bits" in err
    assert files(out) == before


@pytest.mark.training
def test_samples_of_an_array_are_an_array_of_its_type(tmp_path, command):
    run, out = tmp_path / "run", tmp_path / "out"
    counts = np.random.default_rng(0).poisson(40, (200, 5)).astype(np.int16)
    np.save(tmp_path / "counts.npy", counts)
    assert command("train", "--data", tmp_path / "counts.npy", "--run", run, *TINY)[0] == 0
    assert command("sample", run, "--count", 6, "--nfe", 9, "--out", out)[0] == 0
    found = np.load(out / "samples.npy")
    assert (found.dtype, found.shape) == (np.int16, (6, 5))
    assert (found == np.maximum(np.round(samples_of(out)), 0)).all()  # counts are not negative


def test_images_of_an_array_are_pictures_on_request(digits_run, tmp_path, command):
    """17 levels become grey values from black to white."""
    from PIL import Image

    arguments = ["--count", 4, "--nfe", 5, "--out", tmp_path]
    assert command("sample", digits_run, *arguments, "--format", "png")[0] == 0
    pixels = np.stack([np.asarray(Image.open(p)) for p in sorted((tmp_path / "samples").iterdir())])
    assert pixels.shape == (4, 8, 8)
    assert pixels.max() > 200
    assert np.abs(pixels / 255 - samples_of(tmp_path)[:, 0]).max() < 1 / 255


def test_pictures_beyond_a_thousand_are_files_only_on_request(monkeypatch):
    from scorefield.cli import results
    from scorefield.data.image_form import ImageForm

    form = ImageForm((1, 8, 8), "uint16", None, True, 65_536, image=True)
    monkeypatch.setattr(data, "form_of", lambda card: form)
    model = type("Model", (), {"card": {"data": {"source": "pictures"}}})
    model.units = type("Units", (), {"image": True})
    few, many = (results.choose_target(model, None, n) for n in (1000, 1001))
    assert few.form is form and many.form is None
    assert "--format png" in many.note
    assert results.choose_target(model, "tiff", 5000).form is form


# -- the run goes on


@pytest.mark.training
def test_restart_sets_the_old_run_aside(table, tmp_path, command):
    data, run = table / "patients.csv", tmp_path / "run"
    assert command("train", "--data", data, "--run", run, *TINY)[0] == 0
    old = (run / "model.safetensors").read_bytes()
    code, _, err = command("train", "--data", "ring", "--run", run, *TINY)
    assert code == 2 and "another --run" in err
    assert (run / "model.safetensors").read_bytes() == old
    assert command("train", "--data", "ring", "--run", run, *TINY, "--restart")[0] == 0
    assert (run / "old-1" / "model.safetensors").read_bytes() == old
    assert (run / "model.safetensors").read_bytes() != old


@pytest.mark.training
def test_a_finished_run_goes_on_with_a_larger_budget_and_info_shows_both(table, tmp_path, command):
    data, run = table / "patients.csv", tmp_path / "run"
    assert command("train", "--data", data, "--run", run, *TINY)[0] == 0
    code, printed, err = command("train", "--data", data, "--run", run, *TINY, "--images", 512)
    assert code == 0, err
    assert "segment 2 of the run" in printed and "512 images" in printed
    assert "256 images, then 512 images in all" in command("info", run)[1]
    assert command("train", "--data", data, "--run", run, *TINY, "--images", 64)[0] == 2


@pytest.mark.training
def test_train_states_what_was_read_how_good_it_is_and_what_follows(table, tmp_path, command):
    run = tmp_path / "run"
    code, printed, err = command("train", "--data", table / "patients.csv", "--run", run, *TINY)
    assert code == 0, err
    assert "200 rows of 5 columns (age, body temp (C), height, sex, site)" in printed
    assert "hardly begun after 4 steps" in printed
    assert any(line.startswith("evaluating  ") for line in printed.splitlines())
    assert "trained for" in printed
    following = shlex.split(last_line(printed).partition("next: scorefield ")[2])
    assert following[:3] == ["train", "--data", str(table / "patients.csv")]
    assert int(following[following.index("--images") + 1]) > 256
    found = json.loads(
        command("train", "--data", table / "patients.csv", "--run", run, *TINY, "--json")[1]
    )
    assert found["reason"].startswith("already complete")
    assert found["images"] == 256


# -- every command refuses invalid input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample", "{run}", "--out", "{out}", "--count", "-3"], ["--count"]),
        (["sample", "{run}", "--out", "{out}", "--count", "many"], ["--count"]),
        (["sample", "{run}"], ["--out"]),
        (["sample", "{run}", "--out", "{out}", "--format", "png"], ["--format"]),
        (["sample", "{run}", "--out", "{out}", "--forming"], ["--forming"]),
        (["restore", "{run}", "--out", "{out}", "--draws", "0"], ["--draws"]),
        (["restore", "{run}", "--out", "{out}"], ["--input"]),
        (["likelihood", "{run}", "--out", "{out}.json", "--data", "nowhere.csv"], ["nowhere.csv"]),
        (["likelihood", "{run}", "--out", "{out}.txt"], [".json"]),
        (["info", "{out}"], ["no file or folder"]),
        (["info"], ["Missing argument"]),
        (["settings", "datum"], ["no setting begins with 'datum'"]),
        (["figures", "--out", "{out}", "--only", "9"], ["1 to 8"]),
        (["figures", "--out", "{run}/model.safetensors"], ["must name a folder"]),
        (["import", "{run}/metrics.jsonl", "--family", "ncsn", "--out", "{out}.txt"], [".safet"]),
        (["demo", "--run", "{out}", "--data", "cifar"], ["mnist5k or digits"]),
        (["demo", "--run", "{out}", "--budget", "soon"], ["90s, 5m or 1.5h"]),
        (["train", "--data", "ring"], ["--run"]),
        (["tarin", "--data", "ring"], ["train"]),
        (["sample", "{run}", "--out", "{out}", "--cuont", "3"], ["--count"]),
    ],
)
def test_invalid_input_of_any_command_is_exit_2_and_writes_nothing(
    ring, tmp_path, command, arguments, words
):
    before = sorted((p, p.stat().st_mtime_ns) for p in ring.rglob("*"))
    given = [a.format(run=ring, out=tmp_path / "out") for a in arguments]
    code, printed, err = command(*given)
    assert code == 2, printed + err
    for word in words:
        assert word in err, err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())
    assert before == sorted((p, p.stat().st_mtime_ns) for p in ring.rglob("*"))


# -- restore, likelihood, import and figures print and write as the others do


def written_by(kind: str, run: Path, folder: Path) -> list[object]:
    """A short command that writes into a folder."""
    if kind == "restore":
        np.save(folder / "in.npy", np.full((8, 8), 3, np.uint8))
        np.save(folder / "mask.npy", np.arange(64).reshape(8, 8) < 32)
        given = ["--input", folder / "in.npy", "--mask", folder / "mask.npy"]
        return ["restore", run, *given, "--draws", 2, "--levels", 4, "--out", folder / "out"]
    if kind == "likelihood":
        fast = ["--divergence", "hutchinson", "--probes", 2, "--rtol", 0.1, "--atol", 0.1]
        return ["likelihood", run, "--count", 2, *fast, "--out", folder / "out.json"]
    if kind == "figures":
        return ["figures", "--only", 1, "--quick", "--threads", 1, "--out", folder / "out"]
    from test_interop import random_state, save_original

    path = folder / "c.pth"
    if not path.exists():
        save_original(path, random_state("ncsn", (1, 8, 8), 3), "ncsn")
    model = folder / "m.safetensors"
    return ["import", path, "--family", "ncsn", "--image-size", 8, "--out", model]


@pytest.mark.parametrize("kind", ["restore", "likelihood", "figures", "import"])
def test_results_of_other_commands_are_kept_without_force_and_printed_as_json(
    digits_run, tmp_path, command, kind
):
    arguments = written_by(kind, digits_run, tmp_path)
    code, printed, err = command(*arguments, "--json")
    assert code == 0, err
    found = json.loads(printed)
    assert found["command"] == kind
    assert found["written"] and all(Path(path).exists() for path in found["written"])
    assert found["next"].startswith("scorefield ")
    before = files(tmp_path)
    code, _, err = command(*arguments)
    assert code == 2 and "--force" in err
    assert files(tmp_path) == before
    code, printed, err = command(*arguments, "--force", "--quiet")
    assert (code, printed, err) == (0, "", "")


# -- processors that are shared


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_waiting_threads_sleep_soon_unless_the_user_chose(monkeypatch, given, expected):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    share_processors()
    assert os.environ.get("GOMP_SPINCOUNT") == expected
    if not given:
        del os.environ["GOMP_SPINCOUNT"]
