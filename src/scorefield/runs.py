"""The run directory: names of its files, its lock and its records.

config.json         the configuration; rerunning with another one is refused
model.safetensors   averaged weights and model card: enough to sample
last.safetensors    the last averaged weights, where the model is an earlier, better point
state/              training state, two generations
metrics.jsonl       losses and held-out losses, one JSON object a line
schedule.jsonl      decisions that the clock made, one JSON object a line (training/schedule.py)
ema/                snapshots of the averages, from which averages of other lengths are rebuilt
previews/           pictures from fixed seeds, made during training
loss_per_sigma.png  held-out loss at each noise level, made at the end
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import json_ready, write_bytes, write_json
from .values import file_path

Record = dict[str, Any]


class Run:
    """Paths and records of one run directory.

    Args:
        folder: The directory. It need not exist; nothing is written before a method writes.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = file_path(folder, "the run directory")
        self.config = self.folder / "config.json"
        self.model = self.folder / "model.safetensors"
        self.last = self.folder / "last.safetensors"
        self.state = self.folder / "state"
        self.metrics = self.folder / "metrics.jsonl"
        self.schedule = self.folder / "schedule.jsonl"
        self.snapshots = self.folder / "ema"
        self.previews = self.folder / "previews"
        self.loss_per_sigma = self.folder / "loss_per_sigma.png"

    def match_config(self, differences: Callable[[Record], list[str]]) -> bool:
        """Compare the stored configuration, without writing.

        Args:
            differences: Maps the content of config.json to the settings that differ, in words.

        Returns:
            True where the run exists and has the same configuration, False where there is no run.

        Raises:
            InputError: For another configuration (it names what differs), a config.json that
                cannot be read, or a folder that is a file.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"a run is a folder; {self.folder} is a file")
        if not self.config.exists():
            return False
        try:
            stored = json.loads(self.config.read_text())
        except ValueError as error:
            raise InputError(
                f"{self.config} is not JSON ({error}); move the folder away or use another --run"
            ) from error
        if not isinstance(stored, dict):
            raise InputError(f"{self.config} does not hold a configuration; use another --run")
        changed = differences(stored)
        if changed:
            raise InputError(
                f"{self.folder} holds a run of another configuration: {'; '.join(changed[:6])}. "
                "Use the same settings to continue it, or another --run"
            )
        return True

    def write_or_match_config(
        self, content: Record, differences: Callable[[Record], list[str]]
    ) -> bool:
        """Write config.json, or find the same configuration there.

        Args:
            content: What config.json holds.
            differences: As in `match_config`.

        Returns:
            True where the run existed and continues, False where it is new.

        Raises:
            InputError: As `match_config`.
        """
        if self.match_config(differences):
            return True
        write_json(self.config, content)
        return False

    def log(self, record: Record) -> None:
        """Append one line to metrics.jsonl; numbers that are not finite become null."""
        append_line(self.metrics, record)

    def records(self) -> list[Record]:
        """The lines of metrics.jsonl."""
        return read_lines(self.metrics)

    def rewind(self, images: int) -> None:
        """Drop what was written after `images` images; a resumed run writes it again.

        These are lines of metrics.jsonl, snapshots of the averages, previews and the last
        evaluation. schedule.jsonl stays: a resumed run follows it.
        """
        if self.metrics.exists():
            kept = [
                record
                for record in self.records()
                if record.get("images", 0) <= images and not record.get("final")
            ]
            write_lines(self.metrics, kept)
        for folder, pattern in ((self.snapshots, "*.safetensors"), (self.previews, "*.png")):
            for path in folder.glob(pattern):
                if path.stem.isdigit() and int(path.stem) > images:
                    path.unlink()
        self.loss_per_sigma.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for one process. The lock ends with the process, however it ends.

        Raises:
            InputError: Where another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / ".lock"
        try:
            import fcntl
        except ImportError:  # no flock: an exclusive file would survive a kill and block the resume
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


def append_line(path: Path, record: Record, durable: bool = False) -> None:
    """Append one JSON object to a file of lines, after a torn last line on a line of its own.

    Args:
        path: The file; it is made where it does not exist.
        record: The object; numbers that are not finite become null.
        durable: Whether the line is on the disk when the function returns.
    """
    line = (json.dumps(json_ready(record), allow_nan=False) + "\n").encode()
    with open(path, "a+b") as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def read_lines(path: Path) -> list[Record]:
    """The objects of a file of lines; [] where there is no file.

    A torn line (the process was killed while writing it) is left out.
    """
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def write_lines(path: Path, records: list[Record]) -> None:
    """Write a file of lines anew, atomically."""
    text = "".join(json.dumps(json_ready(record), allow_nan=False) + "\n" for record in records)
    write_bytes(path, text.encode())
