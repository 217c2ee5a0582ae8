"""Half of the pages of docs/ run, links and tables hold, and every public name has an entry."""

import ast
import importlib
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import scorefield
from page_helpers import DOCS, ROOT, each_page, run_in, run_page


@pytest.mark.training
@each_page(0)
def test_page_runs_as_printed(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in(page, tmp_path, monkeypatch)


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
