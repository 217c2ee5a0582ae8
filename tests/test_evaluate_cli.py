"""`scorefield evaluate` and `scorefield compare`: files, refusals, dry runs and JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_helpers import Command
from scorefield import data
from scorefield.evaluation import classifier, health_step

FAST = ["--quick", "--count", 64, "--threads", 1, "--compile", "off"]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setattr(classifier, "QUICK", 4000)
    monkeypatch.setattr(health_step, "QUICK_LEVELS", 2)
    monkeypatch.setattr(health_step, "QUICK_EXAMPLES", 32)
    return Command(capsys)


@pytest.mark.training
def test_evaluate_and_compare_write_what_they_print(
    digits_run: Path, tmp_path: Path, command: Command
) -> None:
    first, second, out = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    code, shown, err = command("evaluate", digits_run, "--out", first, *FAST)
    assert code == 0, err
    assert "against held-out data" in shown and "evaluating 100%" in shown
    last = shown.strip().splitlines()[-1]
    assert f"wrote {first}/evaluation.json, evaluation.html; next: scorefield evaluate" in last
    document = json.loads((first / "evaluation.json").read_text())
    assert document["verdict"]["lines"][0] in " ".join(shown.split())
    assert document["protocol"]["run"]["execution"]["precision"] == "float32"

    code, shown, err = command("evaluate", digits_run, "--out", first, *FAST)
    assert code == 2 and "--force" in err
    code, shown, err = command("evaluate", digits_run, "--out", second, *FAST, "--nfe", 4, "--json")
    assert code == 0, err
    found = json.loads(shown)
    assert found["command"] == "evaluate" and found["verdict"]["standing"]
    assert found["metrics"]["frechet"].keys() == {"value", "floor"}

    code, shown, err = command("compare", first, second, "--out", out)
    assert code == 0, err
    assert "metrics against held-out data" in shown
    assert {path.name for path in out.iterdir()} == {"comparison.json", "comparison.html"}
    code, _, err = command("compare", first, second, "--out", out)
    assert code == 2 and "--force" in err
    document["protocol"]["measured"]["features"]["hash"] = "0"
    (second / "evaluation.json").write_text(json.dumps(document))
    code, _, err = command("compare", first, second)
    assert code == 2 and "features.hash is" in err


@pytest.mark.training
def test_a_dry_run_writes_nothing(digits_run: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "out"
    code, shown, err = command("evaluate", digits_run, "--out", out, "--dry-run", "--count", 50)
    assert code == 0, err
    assert "50 samples by" in shown and "180 held-out and 1,617 training" in shown
    assert not out.exists()


def test_samples_of_another_system_are_judged_alone(tmp_path: Path, command: Command) -> None:
    digits = data.open("digits")
    x = digits.floats(slice(None)).numpy()
    np.savez(tmp_path / "theirs.npz", samples=x[:200])
    np.savez(tmp_path / "data.npz", images=digits.values[200:].numpy())
    given: list[Any] = ["evaluate", "--samples", tmp_path / "theirs.npz"]
    code, _, err = command(
        *given,
        "--reference",
        tmp_path / "data.npz",
        "--range",
        "0,16",
        "--quick",
        "--out",
        tmp_path / "out",
    )
    assert code == 0, err
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert document["protocol"]["subject"]["model"] is None
    assert document["protocol"]["subject"]["samples"].endswith("theirs.npz")
    assert document["health"] is None and not document["verdict"]["faults"]
    assert document["protocol"]["measured"]["features"]["name"] == "principal axes"
    code, _, err = command(*given)
    assert code == 2 and "--reference DATA" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "needs a RUN, or samples"),
        (["--samples", "none.npz", "--reference", "digits"], "no file or folder none.npz"),
        (["--reference", "digits"], "needs a RUN, or samples"),
        (["{run}", "--features", "f.npz"], "add --samples FILE"),
        (["{run}", "--samples", "{run}", "--count", 50], "--samples gives them"),
        (["{run}", "--guidance-interval", "1,2"], "needs --guidance"),
        (["{run}", "--reference", "moons"], "shape"),
    ],
)
@pytest.mark.training
def test_options_that_contradict_each_other_are_refused(
    digits_run: Path, tmp_path: Path, command: Command, arguments: list[Any], words: str
) -> None:
    given = [str(digits_run) if one == "{run}" else one for one in arguments]
    code, _, err = command("evaluate", *given, "--out", tmp_path / "out")
    assert code == 2 and words in err, err
    assert not (tmp_path / "out").exists()
