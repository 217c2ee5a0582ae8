"""The pages of docs/ and README.md run as they are printed.

The blocks of a page run top to bottom in one namespace and one temporary folder. Two things are
changed, and stated on the pages: a budget in time becomes IMAGES examples a minute, so that a page
takes seconds, and the folder holds the files that the pages use (`user_files`).
"""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from scorefield.cli.app import app
from scorefield.config import parse_seconds

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
IMAGES = 32  # examples that replace a minute of a budget
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[int, str, str]]:
    """(line, language, text) of every Python and shell block of a page."""
    text = page.read_text()
    return [
        (text[: m.start(2)].count("\n") + 1, m.group(1), m.group(2)) for m in BLOCK.finditer(text)
    ]


def shortened(text: str) -> str:
    """The text with budgets in time replaced by budgets of a few hundred examples."""

    def images(match: re.Match[str]) -> str:
        return str(round(IMAGES * max(1, parse_seconds(match.group(1)) / 60)))

    text = re.sub(r'budget="([^"]+)"', lambda m: f"images={images(m)}", text)
    return re.sub(r"--budget (\S+)", lambda m: f"--images {images(m)}", text)


def user_files(folder: Path) -> None:
    """The reader's own data: a table, pictures, signals."""
    random = np.random.default_rng(0)
    age = random.integers(18, 90, 400)
    pressure = 100 + 0.5 * age + random.normal(0, 8, 400)
    sex = random.choice(["f", "m"], 400)
    rows = [f"{a},{p:.1f},{s}" for a, p, s in zip(age, pressure, sex, strict=True)]
    (folder / "patients.csv").write_text("\n".join(["age,pressure,sex", *rows]) + "\n")
    (folder / "pictures").mkdir()
    for k in range(24):
        pixels = (random.random((16, 16)) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"cell_{k:02}.png")
    phase = random.random((200, 1)) * 2 * np.pi
    signals = np.sin(np.linspace(0, 4 * np.pi, 64) + phase) + 0.1 * random.normal(size=(200, 64))
    np.save(folder / "signals.npy", signals.astype(np.float32))
    shutil.copytree(ROOT / "examples", folder / "examples")


def run_shell(text: str, folder: Path) -> None:
    """Run the commands of a block. Programs of examples/ are run by tests/test_examples.py."""
    joined = text.replace("\\\n", " ")
    for line in filter(None, (line.split("  #")[0].strip() for line in joined.splitlines())):
        program, *words = shlex.split(shortened(line))
        if program == "python" and words[0].startswith("examples/"):
            assert (folder / words[0]).exists(), line
            continue
        assert program == "scorefield", f"a page shows a command that no test runs: {line}"
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"


def run_page(page: Path, folder: Path) -> None:
    """Run all blocks of a page in a folder."""
    user_files(folder)
    scope: dict[str, object] = {"__name__": "page"}
    for line, language, text in blocks(page):
        if language == "sh":
            run_shell(text, folder)
        else:
            # Blank lines in front give tracebacks the page's own line numbers.
            exec(compile("\n" * (line - 1) + shortened(text), str(page), "exec"), scope)


PAGES = [page for page in [ROOT / "README.md", *sorted(DOCS.glob("*.md"))] if blocks(page)]
LONG = ("evaluate", "tuning", "plan", "trackers")  # a quarter of a minute and more


def run_in(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a page in a folder; the random numbers of other tests stay as they were."""
    monkeypatch.chdir(folder)
    with torch.random.fork_rng(devices=[]):
        run_page(page, folder)


def each_page(first: int) -> pytest.MarkDecorator:
    """Every second page, from the first or the second on: two files of tests share them."""
    return pytest.mark.parametrize(
        "page",
        [
            pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem in LONG else [])
            for page in PAGES[first::2]
        ],
    )
