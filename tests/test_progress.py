"""Progress of `fit`: a bar on a terminal, a rewritten line in a notebook, nothing in a pipe."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import scorefield as sf
from scorefield import progress as progress_module
from scorefield.progress import duration, in_notebook, progress
from scorefield.training import Hooks, Progress

SMALL = {"network.options.width": 8, "optim.batch": 32, "execution.threads": 1}
SCRIPT = """
import sys, numpy as np, scorefield as sf
x = np.random.default_rng(0).normal(size=(64, 2))
settings = {"network.options.width": 8, "optim.batch": 32, "execution.threads": 1}
sf.fit(x, sys.argv[1], images=256, settings=settings)
"""


class FakeNotebook:
    """IPython as a kernel's process has it, and what its cell shows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kernel: object | None) -> None:
        self.shown: list[str] = []
        self.handles = 0
        ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
        ipython.get_ipython = lambda: SimpleNamespace(kernel=kernel)  # type: ignore[attr-defined]
        ipython.version_info = (9, 0, 0)  # type: ignore[attr-defined]  # matplotlib reads it
        display.display = self.display  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setitem(sys.modules, "IPython.display", display)

    def display(self, data: dict[str, str], raw: bool, display_id: bool) -> "FakeNotebook":
        assert raw and display_id
        self.handles += 1
        return self

    def update(self, data: dict[str, str], raw: bool) -> None:
        assert raw
        self.shown.append(data["text/plain"])


def fit_small(folder: Path, **options: Any) -> Any:
    x = np.random.default_rng(0).normal(size=(64, 2))
    return sf.fit(x, folder, images=256, settings=SMALL, **options)


@pytest.mark.training
def test_fit_shows_a_bar_on_a_terminal(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=follower, stderr=follower, env=environment) as process:
        os.close(follower)
        output = b""
        while True:
            try:
                part = os.read(leader, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            output += part
    os.close(leader)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode())
    assert process.returncode == 0, text
    assert re.search(r"training .*100%.*256 images", text), text
    assert "running on" in text


@pytest.mark.training
def test_fit_shows_nothing_in_a_pipe(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.training
def test_fit_rewrites_one_line_in_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = FakeNotebook(monkeypatch, kernel=object())
    fit_small(tmp_path / "run")
    assert notebook.handles == 1
    assert re.fullmatch(r"training 100%  .*256 images", notebook.shown[-1])
    assert "running on" in capsys.readouterr().out


@pytest.mark.training
def test_hooks_replace_the_display(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = FakeNotebook(monkeypatch, kernel=object())
    seen: list[Progress] = []
    fit_small(tmp_path / "run", hooks=Hooks(on_progress=seen.append))
    assert seen and seen[-1].fraction == 1.0
    assert notebook.handles == 0 and capsys.readouterr().out == ""


def test_a_terminal_that_runs_ipython_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_notebook()
    FakeNotebook(monkeypatch, kernel=None)
    assert not in_notebook()
    FakeNotebook(monkeypatch, kernel=object())
    assert in_notebook()


def test_a_log_gets_lines_and_other_output_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = iter(float(n) for n in range(100))
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(clock))
    for log in (True, False):
        path = tmp_path / f"{log}.txt"
        with path.open("w") as file, progress("work", Console(file=file), log) as report:
            for k in range(1, 21):
                report(k / 20, f"[{k} of 20]")
        lines = path.read_text().splitlines()
        if log:
            assert "work" in lines[0] and lines[-1].startswith("work 100%")
            assert lines[-1].endswith("[20 of 20]") and 3 <= len(lines) <= 10
        else:
            assert not lines


@pytest.mark.parametrize(
    ("seconds", "words"), [(12, "12 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_last_stage_takes_the_place_of_percentage_and_time_left(tmp_path: Path) -> None:
    """A bar and a log alike: "evaluating", and no 100 % before the work is done."""
    path = tmp_path / "log.txt"
    with path.open("w") as file, progress("training", Console(file=file), log=True) as report:
        report(0.5, "half")
        report(1.0, "4,096 images", "evaluating")
        assert "100%" not in path.read_text()
        report(1.0, "4,096 images")
    lines = path.read_text().splitlines()
    assert re.fullmatch(r"evaluating  \d+ s  4,096 images", lines[-2])
    assert lines[-1].startswith("training 100%")
    with (tmp_path / "bar.txt").open("w") as file:
        console = Console(file=file, force_terminal=True, width=100)
        with progress("training", console) as report:
            report(1.0, "4,096 images", "evaluating")
    text = (tmp_path / "bar.txt").read_text()
    assert "evaluating" in text and "100%" not in text and " left" not in text


def test_time_left_of_resumed_work_counts_from_its_beginning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From half done to three quarters in 10 s: 10 s are left, not 3."""
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    path = tmp_path / "log.txt"
    with path.open("w") as file, progress("work", Console(file=file), log=True) as report:
        report(0.5, "")
        now[0] = 10.0
        report(0.75, "")
    assert "10 s left" in path.read_text().splitlines()[-1]


@pytest.mark.training
def test_training_reports_its_last_evaluation(tmp_path: Path) -> None:
    seen: list[Progress] = []
    fit_small(tmp_path / "run", hooks=Hooks(on_progress=seen.append))
    assert (seen[-1].stage, seen[-1].words) == ("evaluating", "256 images")
    assert all(p.stage == "" for p in seen[:-1])
