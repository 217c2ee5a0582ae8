"""The command line, run in the process of the tests."""

import sys
from pathlib import Path

import numpy as np
import pytest

from scorefield import cli, execution

SMALL = ["--images", "640", "--threads", "1", "--set", "optim.batch=64", "--compile", "off"]


def call(*arguments: object) -> int:
    """Run a command and return its exit code."""
    before, sys.argv = sys.argv, ["scorefield", *map(str, arguments)]
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


class Command:
    """Runs commands and takes what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Exit code, standard output, standard error with single spaces."""
        self.capsys.readouterr()
        code = call(*arguments)
        out = self.capsys.readouterr()
        return code, out.out, " ".join(out.err.split())


def fix_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether bfloat16 is faster is measured in every command: a busy machine could change it."""
    monkeypatch.setattr(execution, "bf16_gain", lambda threads: 1.0)


def files(folder: Path) -> dict[Path, bytes]:
    """The files below a folder with their content."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def samples_of(folder: Path) -> np.ndarray:
    """The array of samples.npz."""
    return np.load(folder / "samples.npz")["samples"]
