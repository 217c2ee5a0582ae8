"""The run directory: its names, its lock, its metrics.

config.json         what the run is; rerunning with another configuration is refused
model.safetensors   EMA weights and card: enough to sample
state/              training state, two generations
metrics.jsonl       one JSON object a line
previews/           pictures from fixed seeds while it trains
"""

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError


def write_bytes(path: Path, data: bytes) -> None:
    """All or nothing: a temporary name beside `path`, flushed to the disk, renamed, the folder
    synced. A failure leaves the old file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def write_npz(path: Path, **arrays: Any) -> None:
    """Arrays as a .npz, atomically."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


@contextmanager
def stream_npz(
    path: Path, name: str, shape: tuple[int, ...], dtype: Any
) -> Iterator[Callable[[np.ndarray], int]]:
    """A .npz of one array of known shape, written part by part in constant memory: call the
    function with each part along the first
    dimension. The file takes its name when the block ends well; otherwise nothing is left."""
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    try:
        with open(temporary, "wb") as target:
            with (
                zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive,
                archive.open(f"{name}.npy", "w", force_zip64=True) as file,
            ):
                np.lib.format.write_array_header_1_0(file, header)
                yield lambda part: file.write(np.ascontiguousarray(part, dtype=dtype).tobytes())
            target.flush()
            os.fsync(target.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        if made and not any(path.parent.iterdir()):
            path.parent.rmdir()
        raise


class Run:
    """Paths and small files of one run directory."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.config = self.folder / "config.json"
        self.model = self.folder / "model.safetensors"
        self.state = self.folder / "state"
        self.metrics = self.folder / "metrics.jsonl"
        self.previews = self.folder / "previews"

    def claim(self, config: dict[str, Any]) -> bool:
        """Write config.json, or find the same one there (True: the run continues). Another
        configuration is an InputError that names what differs.
        """
        if not self.config.exists():
            if self.folder.exists() and not self.folder.is_dir():
                raise InputError(f"--run must name a folder; {self.folder} is a file")
            write_json(self.config, config)
            return False
        try:
            stored = json.loads(self.config.read_text())
        except json.JSONDecodeError as error:
            raise InputError(
                f"{self.config} is not JSON ({error}); move the folder away or use another --run"
            ) from error
        changed = list(_differences(stored, config))
        if changed:
            raise InputError(
                f"{self.folder} holds a run of another configuration: {'; '.join(changed[:6])}. "
                "Use the same settings to continue it, or another --run"
            )
        return True

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with open(self.metrics, "a") as file:
            file.write(json.dumps(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a torn last line (a kill while writing) is left out."""
        if not self.metrics.exists():
            return []
        records = []
        for line in self.metrics.read_text().splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return records

    def rewind(self, images: int) -> None:
        """Drop the lines of metrics.jsonl past `images`: a resumed run logs them again."""
        if self.metrics.exists():
            kept = [record for record in self.records() if record.get("images", 0) <= images]
            write_bytes(
                self.metrics, "".join(json.dumps(record) + "\n" for record in kept).encode()
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One process at a time: an InputError where another holds the run. The lock ends with the
        process, however it ends.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / ".lock"
        try:
            import fcntl
        # no flock on this system: an exclusive file would survive a kill and block the resume, so
        # there is none
        except ImportError:
            yield
            return
        with open(path, "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise InputError(
                    f"{self.folder} is being written by process {file.read().strip() or '?'}; "
                    "wait for it or use another --run"
                ) from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield


def _differences(stored: Any, given: Any, path: str = "") -> Iterator[str]:
    if isinstance(stored, dict) and isinstance(given, dict):
        for key in sorted(stored.keys() | given.keys()):
            yield from _differences(
                stored.get(key), given.get(key), f"{path}.{key}" if path else str(key)
            )
    elif stored != given:
        yield f"{path} is {stored!r} there, {given!r} here"
