"""What the shell completes: names, settings, and the paths of runs and data."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..config import PRESETS, settings

DATA_NAMES = ("digits", "mnist5k", "mixture", "moons", "ring", "spiral", "checkerboard")
DATA_SUFFIXES = (".npy", ".npz", ".csv", ".tsv", ".txt", ".parquet")
DEPTH, MOST = 3, 100  # folders below the typed one that are searched for runs; paths offered


def words(values: Sequence[str]) -> Callable[[str], list[str]]:
    """A completion from a list of words."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete


presets = words(tuple(PRESETS))


def setting_names(incomplete: str) -> list[tuple[str, str]]:
    """Names of settings and of their groups, for `scorefield settings`."""
    rows = settings()
    groups = dict.fromkeys(row.name.partition(".")[0] for row in rows if "." in row.name)
    found = [(name, "a group of settings") for name in groups]
    found += [(row.name, row.description) for row in rows]
    return [(name, text) for name, text in found if name.startswith(incomplete)]


def assignments(incomplete: str) -> list[tuple[str, str]]:
    """NAME= for --set, and the choices of a setting after the equals sign."""
    name, equals, value = incomplete.partition("=")
    if not equals:
        return [(f"{n}=", text) for n, text in setting_names(name) if text != "a group of settings"]
    for row in settings():
        if row.name == name and row.kind == "choice":
            choices = row.accepts.split(", ")
            return [(f"{name}={c}", row.description) for c in choices if c.startswith(value)]
    return []


def _typed(path: str) -> str:
    """A path as one types it: bash inserts what it gets, other shells quote by themselves."""
    bash = os.environ.get("_SCOREFIELD_COMPLETE", "").endswith("bash")
    return re.sub(r"([^\w/.,:=@%+-])", r"\\\1", path) if bash else path


def _entries(incomplete: str) -> Iterator[Path]:
    """Files and folders whose path begins with the text; hidden ones only where that was typed."""
    folder, slash, name = incomplete.rpartition("/")
    place = Path(folder + slash) if slash else Path()
    try:
        found = sorted(place.iterdir())
    except OSError:
        return
    for path in found:
        hidden = path.name.startswith(".") and not name.startswith(".")
        if path.name.startswith(name) and not hidden:
            yield path


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    """The folder where it is a run, else the runs and model files inside it."""
    if (folder / "config.json").is_file():
        yield folder
        return
    try:
        inside = sorted(folder.iterdir()) if depth > 0 else []
    except OSError:
        return
    for path in inside:
        if path.is_dir() and not path.name.startswith("."):
            yield from _runs_below(path, depth - 1)
        elif path.suffix == ".safetensors":
            yield path


def runs(incomplete: str) -> list[str]:
    """Folders of runs, and model files."""
    found: list[str] = []
    for path in _entries(incomplete):
        if path.is_dir():
            found += map(str, _runs_below(path, DEPTH))
        elif path.suffix == ".safetensors":
            found.append(str(path))
        if len(found) >= MOST:
            break
    return [_typed(path) for path in found[:MOST]]


def data(incomplete: str) -> list[str]:
    """Names of built-in data, folders, and files that hold data."""
    named = [name for name in DATA_NAMES if name.startswith(incomplete)]
    there = [
        f"{path}/" if path.is_dir() else str(path)
        for path in _entries(incomplete)
        if path.is_dir() or path.suffix.lower() in DATA_SUFFIXES
    ]
    return [*named, *map(_typed, there[:MOST])]
