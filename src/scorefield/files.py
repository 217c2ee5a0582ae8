"""Atomic writing: a file is either the old one or the new one, never half of either.

Every writer fills a temporary file beside the target, flushes it to the disk, renames it over
the target and flushes the folder. If anything fails, the target is as it was and nothing is left.
"""

import io
import json
import math
import os
import secrets
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import InputError


def _make_parent(path: Path) -> list[Path]:
    """Create the parent folder; return the folders that had to be made, innermost first."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; a file name is needed")
    missing = []
    folder = path.parent
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"{path.parent} cannot be a folder: a file is in its way. Choose another name"
        ) from error
    return missing


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the name `path` when the block ends without an exception.

    Args:
        path: The file to write. Missing folders are made, and removed again on failure.

    Yields:
        A writable and seekable binary file.

    Raises:
        InputError: If `path` is a folder, or a file is in the way of its folder.
        OSError: If the disk refuses.
    """
    made = _make_parent(path)
    # Not tempfile.mkstemp: its files are readable by their owner alone, and the rename keeps that.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    done = False
    try:
        with open(temporary, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        done = True
    finally:
        if not done:
            temporary.unlink(missing_ok=True)
            for folder in made:
                if folder.exists() and not any(folder.iterdir()):
                    folder.rmdir()
    _sync_folder(path.parent)


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> Path:
    """Let `write` fill the file `path`, atomically, and return the path."""
    with open_atomically(path) as file:
        write(file)
    return path


def write_bytes(path: Path, data: bytes) -> Path:
    """Write `data` to `path`, atomically, and return the path."""
    return write_atomically(path, lambda file: file.write(data))


def json_ready(value: Any) -> Any:
    """`value` with every NaN and infinity replaced by None, which JSON can hold."""
    if isinstance(value, dict):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, value: Any) -> Path:
    """Write `value` as indented JSON, atomically; numbers that are not finite become null."""
    text = json.dumps(json_ready(value), indent=2, allow_nan=False)
    return write_bytes(path, (text + "\n").encode())


def write_npz(path: Path, **arrays: Any) -> Path:
    """Write arrays as an .npz, atomically, and return the path."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return write_bytes(path, buffer.getvalue())


def write_npy(path: Path, array: np.ndarray) -> Path:
    """Write an array as an .npy, atomically, and return the path."""
    with open_atomically(path) as target:
        np.lib.format.write_array(target, np.asarray(array), allow_pickle=False)
    return path


@contextmanager
def stream_npz(
    path: Path,
    name: str,
    shape: tuple[int, ...],
    dtype: Any,
    others: Mapping[str, Any] | None = None,
) -> Iterator[Callable[[np.ndarray], int]]:
    """Write an .npz that holds an array of known shape, part by part, in constant memory.

    Args:
        path: The .npz file. It takes its name when the block ends without an exception.
        name: Name of the array inside the archive.
        shape: Shape of the whole array.
        dtype: Its numpy dtype.
        others: Further arrays by name, which are written at once.

    Yields:
        A function that appends one part along the first dimension.
    """
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    with (
        open_atomically(path) as target,
        zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive,
    ):
        for other, values in (others or {}).items():
            with archive.open(f"{other}.npy", "w") as file:
                np.lib.format.write_array(file, np.asarray(values), allow_pickle=False)
        with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            yield lambda part: file.write(np.ascontiguousarray(part, dtype=dtype).tobytes())
