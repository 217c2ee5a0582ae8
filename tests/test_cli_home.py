"""The command line for a stranger: where to start, what is read and written, what is printed."""

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from cli_helpers import SMALL, Command, call, files, fix_precision, samples_of
from scorefield import data
from scorefield.cli import completion
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
    known = {field.name for field in dataclasses.fields(ReadOptions)} - {"count", "seed"}
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
