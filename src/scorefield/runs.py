"""The run directory: names of its files, its lock and its records.

config.json         the configuration; rerunning with another one is refused
model.safetensors   averaged weights and model card: enough to sample
last.safetensors    the last averaged weights, where the model is an earlier, better point
state/              training state, two generations
metrics.jsonl       losses and held-out losses, one JSON object a line
schedule.jsonl      decisions that the clock made, one JSON object a line (training/schedule.py)
ema/                snapshots of the averages, from which averages of other lengths are rebuilt
previews/           pictures from fixed seeds, made during training
segments/           1/model.safetensors: the model of a finished segment, where the run went on
nonfinite/          batch and weights of a step that was not finite
tensorboard/        events for TensorBoard, where that tracker was chosen
trackers/           what other trackers have had, and their files
old-1/, old-2/      earlier runs that --restart set aside, each a run directory of its own
loss_per_sigma.png  held-out loss at each noise level, made at the end
training.png        losses and learning rate over the images seen, made at the end
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import json_ready, write_bytes
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
        self.segments = self.folder / "segments"
        self.evidence = self.folder / "nonfinite"
        self.tensorboard = self.folder / "tensorboard"
        self.trackers = self.folder / "trackers"
        self.loss_per_sigma = self.folder / "loss_per_sigma.png"
        self.training_curve = self.folder / "training.png"

    def read_config(self) -> Record | None:
        """The content of config.json.

        Returns:
            The content; None where there is no such file.

        Raises:
            InputError: For a config.json that cannot be read, or a folder that is a file.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"a run is a folder; {self.folder} is a file")
        if not self.config.exists():
            return None
        try:
            stored = json.loads(self.config.read_text())
        except ValueError as error:
            why = "is empty" if self.config.stat().st_size == 0 else f"is not JSON ({error})"
            raise InputError(f"{self.config} {why}. {self.way_out()}") from error
        if not isinstance(stored, dict) or not isinstance(stored.get("config"), dict):
            raise InputError(f"{self.config} does not hold a configuration. {self.way_out()}")
        return stored

    def way_out(self) -> str:
        """What can be done where a run cannot go on in this folder: a sentence."""
        return (
            "Use another --run, or --restart (Python: scorefield.training.set_aside(run)), which "
            f"moves what the folder holds to {self._next_old()} and begins again"
        )

    def _next_old(self) -> Path:
        number = 1
        while (self.folder / f"old-{number}").exists():
            number += 1
        return self.folder / f"old-{number}"

    def set_aside(self) -> Path | None:
        """Move the files of the run to a new folder old-1, old-2, ... in the run directory.

        Returns:
            The folder, which is a run directory of its own; None where there was nothing to move.
        """
        names = (
            *(self.config, self.model, self.last, self.state, self.metrics, self.schedule),
            *(self.snapshots, self.previews, self.segments, self.evidence),
            *(self.loss_per_sigma, self.training_curve, self.tensorboard, self.trackers),
        )
        found = [path for path in names if path.exists()]
        if not found:
            return None
        old = self._next_old()
        old.mkdir()
        for path in found:
            path.rename(old / path.name)
        return old

    def segment_model(self, number: int) -> Path:
        """The model file of a finished segment, by its number from 1."""
        return self.segments / str(number) / self.model.name

    def preview(self, images: int) -> Path:
        """The picture of samples made after `images` images."""
        return self.previews / f"{images:09d}.png"

    def log(self, record: Record) -> None:
        """Append one line to metrics.jsonl; numbers that are not finite become null."""
        append_line(self.metrics, record)

    def records(self) -> list[Record]:
        """The lines of metrics.jsonl."""
        return read_lines(self.metrics)

    def rewind(self, images: int, start: int = 0) -> None:
        """Drop what was written after `images` images; a resumed run writes it again.

        These are lines of metrics.jsonl, snapshots of the averages, previews and the last
        evaluation. schedule.jsonl stays: a resumed run follows it.

        Args:
            images: Images seen.
            start: Images where the present segment began; last evaluations up to there stay.
        """
        if self.metrics.exists():
            kept = [
                record
                for record in self.records()
                if record.get("images", 0) <= (start if record.get("final") else images)
            ]
            write_lines(self.metrics, kept)
        for folder, pattern in ((self.snapshots, "*.safetensors"), (self.previews, "*.png")):
            for path in folder.glob(pattern):
                if path.stem.isdigit() and int(path.stem) > images:
                    path.unlink()
        for picture in (self.loss_per_sigma, self.training_curve):
            picture.unlink(missing_ok=True)

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
