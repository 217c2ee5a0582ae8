"""The pages of docs/ run as they are printed, and the reference has an entry for every public name.

The blocks of a page run top to bottom in one namespace and one temporary folder. Two things are
changed, and stated on the pages: a budget in time becomes IMAGES examples a minute, so that a page
takes seconds, and the folder holds the files that the pages use (`user_files`).
"""

import ast
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import scorefield
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
LONG = ("evaluate", "tuning")  # nearly a minute each


@pytest.mark.training
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem in LONG else [])
        for page in PAGES
    ],
)
def test_page_runs_as_printed(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        run_page(page, tmp_path)


def test_a_page_with_a_wrong_example_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n")
    with pytest.raises(AssertionError):
        run_page(page, tmp_path / "a")
    (tmp_path / "b").mkdir()
    page.write_text("```sh\nscorefield settings no-such-group\n```\n")
    with pytest.raises(AssertionError, match="no-such-group"):
        run_page(page, tmp_path / "b")


def test_links_between_pages_point_to_files() -> None:
    pages = [*DOCS.glob("*.md"), *ROOT.glob("*.md")]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken


def ragged(text: str) -> list[str]:
    """Rows of Markdown tables whose number of cells is not that of the table's first row."""
    found, width = [], 0
    for line in text.splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        width = width or cells
        found += [line] if cells != width else []
    return found


def test_rows_of_tables_have_the_cells_of_their_heads() -> None:
    pages = [*DOCS.glob("*.md"), *ROOT.glob("*.md")]
    assert not [f"{page.name}: {row}" for page in pages for row in ragged(page.read_text())]
    assert ragged("| a | b |\n| --- | --- |\n| 1 | 2 |\n| 1 | 2 | 3 |") == ["| 1 | 2 | 3 |"]


def messages() -> str:
    """All texts of the package, one a line; the values in a message are {}."""
    found = []
    for path in (ROOT / "src" / "scorefield").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [n.value if isinstance(n, ast.Constant) else "{}" for n in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(text.replace("\n", " ") for text in found)


def test_messages_on_the_page_of_errors_exist() -> None:
    parts = re.split(r"\| the message contains .*\n\| --- .*\n", (DOCS / "errors.md").read_text())
    rows = [line for part in parts[1:] for line in part.split("\n\n")[0].splitlines()]
    shown = [row.split("|")[1].strip() for row in rows]
    texts = messages()
    assert len(shown) > 25
    assert not [text for text in shown if text not in texts]
    assert "there is no such message" not in texts


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as errors; the doctrees stay outside docs/."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, str(DOCS), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return folder


def entries(site: Path) -> set[str]:
    """The Python names that the site's index holds, from Sphinx's inventory (version 2)."""
    content = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(content).decode().splitlines()
    found = (line.split() for line in lines)
    return {name for name, kind, *_ in found if kind.startswith("py:")}


def missing(names: set[str]) -> list[str]:
    """Public names without an entry."""
    wanted = {f"scorefield.{room}.{name}" for name, room in scorefield._NAMES.items()} | {
        f"scorefield.{room}" for room in scorefield._PACKAGES.values()
    }
    for room in set(scorefield._PACKAGES.values()):
        module = importlib.import_module(f"scorefield.{room}")
        wanted |= {f"{module.__name__}.{name}" for name in getattr(module, "__all__", ())}
    return sorted(wanted - names)


@pytest.mark.slow
def test_every_public_name_has_an_entry(site: Path) -> None:
    names = entries(site)
    assert not missing(names)
    assert missing(names - {"scorefield.sampling.sample"}) == ["scorefield.sampling.sample"]


@pytest.mark.slow
def test_the_site_loads_nothing_from_the_network(site: Path) -> None:
    """Neither scripts, styles, fonts nor pictures; links that a reader may follow are allowed."""
    loads = re.compile(r"""(?:src=|url\(|<link[^>]*href=)["']?(https?:)?//""")
    found = [
        page.name
        for page in site.rglob("*")
        if page.suffix in (".html", ".css") and loads.search(page.read_text())
    ]
    assert not found
