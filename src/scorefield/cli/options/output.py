"""Where results go, and what is refused before any work is done."""

import os
import shlex
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ...errors import InputError

Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Force = Annotated[
    bool, typer.Option("--force", help="Overwrite results of an earlier command in --out.")
]


def check_folder(path: Path, option: str = "--out") -> Path:
    """Refuse an output folder that cannot be written, before any work is done.

    Raises:
        InputError: the path is a file, lies inside a file, or is not writable.
    """
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{option} must name a folder; {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{option} {path} cannot be written: no permission in {place}")
    return path


def check_file(path: Path, suffix: str, option: str = "--out") -> Path:
    """Refuse an output file that cannot be written, before any work is done.

    Raises:
        InputError: the path has another suffix, is a folder, or its folder is not writable.
    """
    if path.is_dir() or path.suffix != suffix:
        raise InputError(f"{option} must name a {suffix} file; got {path}")
    check_folder(path.parent, option)
    return path


def existing(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Files and folders that an earlier command may have written.

    Args:
        folder: the folder of results.
        patterns: names, with * for any part.
    """
    return [path for pattern in patterns for path in sorted(folder.glob(pattern))]


def remove_stale(earlier: Iterable[Path], written: Sequence[Path]) -> None:
    """Remove results of an earlier command that this one, with --force, did not write anew.

    Args:
        earlier: the results of `existing` before the work.
        written: what was written now.
    """
    for path in earlier:
        if path not in written and path.is_dir():
            shutil.rmtree(path)
        elif path not in written:
            path.unlink(missing_ok=True)


def refuse_existing(paths: Iterable[Path], force: bool, option: str = "--out") -> None:
    """Refuse to overwrite results that exist, before any work is done.

    Args:
        paths: files and folders that the command would write.
        force: whether --force was given, which allows it.
        option: the option that names the place.

    Raises:
        InputError: one of them exists, and an overwrite was not requested.
    """
    there = [path for path in paths if path.exists()]
    if there and not force:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise InputError(
            f"{shlex.quote(str(there[0]))}{more} exists. Overwrite with --force, or choose another "
            f"{option}"
        )
