"""Trackers: other programs that show the numbers and pictures of a training while it runs.

A tracker is an object with three methods, `start`, `log` and `finish` (`Tracker`). It receives the
lines of metrics.jsonl, with the images seen as the step (`feed`). A tracker does not influence the
training: the weights are bitwise those of a training without it.

    tensorboard   events in the folder tensorboard/ of the run
    trackio       trackio's own local database
    wandb         Weights & Biases, or files for it in the folder trackers/ of the run

A resumed run writes the lines after its last checkpoint again. TensorBoard drops the earlier events
from there on. The other two cannot drop points, so that lines which they received before are not
logged again; the lines received are recorded in the folder trackers/ of the run.
"""

import contextlib
import importlib.util
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from uuid import uuid4

from ..errors import InputError
from ..files import write_json
from ..runs import Run
from ..values import describe, items, one_of, text

if TYPE_CHECKING:
    from .summary import Summary


@runtime_checkable
class Tracker(Protocol):
    """The interface of a tracker, which receives the numbers and pictures of a training."""

    def start(self, run: Path, config: Mapping[str, Any]) -> None:
        """Begin, or continue where an earlier process stopped.

        Args:
            run: The run directory. Its metrics.jsonl holds the lines up to the checkpoint where
                training continues; later lines are logged again.
            config: The resolved settings, in a form that JSON can hold.
        """

    def log(self, images: int, values: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        """Receive the numbers of one line of metrics.jsonl.

        Args:
            images: Images seen. Two lines may have the same number.
            values: Finite numbers by name; a name has parts with a / between them.
            pictures: PNG files by name.
        """

    def finish(self, summary: "Summary | None") -> None:
        """End the tracking; a later process may continue it.

        Args:
            summary: How training ended; None where an exception ended it.
        """


class TensorBoard:
    """Events for TensorBoard in the folder tensorboard/ of the run.

    Raises:
        InputError: Where the package is not installed.
    """

    def __init__(self) -> None:
        _need("tensorboard", "pip install 'scorefield[tensorboard]'")

    def start(self, run: Path, config: Mapping[str, Any]) -> None:
        """Open a file of events; earlier ones beyond the run's metrics are dropped."""
        from torch.utils.tensorboard import SummaryWriter

        records = Run(run).records()
        last = max((record.get("images", 0) for record in records), default=-1)
        folder = str(Run(run).tensorboard)
        self._writer = SummaryWriter(folder, purge_step=last + 1, flush_secs=10)
        if not records:
            words = json.dumps(dict(config), indent=2, default=str)
            self._writer.add_text("config", f"```json\n{words}\n```", 0)

    def log(self, images: int, values: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        """Add scalars and images at the images seen. The arguments are those of `Tracker`."""
        import numpy as np
        from PIL import Image

        for name, value in values.items():
            self._writer.add_scalar(name, value, images)
        for name, path in pictures.items():
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self._writer.add_image(name, pixels, images, dataformats="HWC")

    def finish(self, summary: "Summary | None") -> None:
        """Close the file."""
        if summary is not None and summary.verdict is not None:
            self._writer.add_text("verdict", summary.verdict.sentence, summary.images)
        self._writer.close()


class Trackio:
    """Trackio's local database; `trackio show --project NAME` shows it.

    Args:
        project: Name of the project.

    Raises:
        InputError: Where the package is not installed.
    """

    def __init__(self, project: str = "scorefield") -> None:
        self.project = text(project, "project")
        _need("trackio", "pip install trackio")

    def start(self, run: Path, config: Mapping[str, Any]) -> None:
        """Begin a run of the project, or continue that of the same run directory."""
        import trackio

        self._sent = _Sent(run, "trackio")
        with contextlib.redirect_stdout(io.StringIO()):  # standard output belongs to the command
            self._run = trackio.init(
                project=self.project,
                name=self._sent.name,
                config=dict(config),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, images: int, values: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        """Log numbers and pictures at the images seen. The arguments are those of `Tracker`."""
        import trackio

        if self._sent.is_new(images):
            shown = {name: trackio.Image(str(path)) for name, path in pictures.items()}
            self._run.log({**values, **shown}, step=images)
            self._sent.save()

    def finish(self, summary: "Summary | None") -> None:
        """Write what is left."""
        import trackio

        with contextlib.redirect_stdout(io.StringIO()):
            trackio.finish()


class WeightsAndBiases:
    """Weights & Biases.

    Args:
        project: Name of the project.
        mode: "online", "offline" (files that `wandb sync` uploads later) or "disabled". None: the
            value of WANDB_MODE; without it "online" where WANDB_API_KEY is set, else "offline", so
            that training never waits for a login.

    Raises:
        InputError: Where the package is not installed, or for another mode.
    """

    MODES = ("online", "offline", "disabled")

    def __init__(self, project: str = "scorefield", mode: str | None = None) -> None:
        self.project = text(project, "project")
        self.mode = None if mode is None else one_of(mode, self.MODES, "mode")
        _need("wandb", "pip install wandb")

    def start(self, run: Path, config: Mapping[str, Any]) -> None:
        """Begin a run, or continue that of the same run directory."""
        import wandb

        folder = Run(run).trackers
        folder.mkdir(parents=True, exist_ok=True)
        self._sent = _Sent(run, "wandb")
        usual = "online" if os.environ.get("WANDB_API_KEY") else "offline"
        with contextlib.redirect_stdout(io.StringIO()):
            self._run = wandb.init(
                project=self.project,
                name=self._sent.name,
                id=self._sent.name,
                resume="allow",
                dir=str(folder),
                config=dict(config),
                mode=self.mode or os.environ.get("WANDB_MODE") or usual,
                settings=wandb.Settings(console="off", silent=True),
            )
            self._run.define_metric("images")
            self._run.define_metric("*", step_metric="images")

    def log(self, images: int, values: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
        """Log numbers and pictures over the images seen. The arguments are those of `Tracker`."""
        import wandb

        if self._sent.is_new(images):
            shown = {name: wandb.Image(str(path)) for name, path in pictures.items()}
            self._run.log({"images": images, **values, **shown})
            self._sent.save()

    def finish(self, summary: "Summary | None") -> None:
        """Write what is left; the exit code is 0 where training came to its end, else 1."""
        self._run.finish(exit_code=1 if summary is None else 0)


#: The trackers that `scorefield train --tracker` and `Hooks(trackers=...)` take by name.
TRACKERS: dict[str, Callable[[], Tracker]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": WeightsAndBiases,
}


def read_trackers(trackers: Any) -> tuple[Tracker, ...]:
    """Trackers from names and objects.

    Args:
        trackers: A sequence of names of `TRACKERS` and of objects with the methods of `Tracker`.

    Returns:
        The trackers, in the same order; a name that is given twice counts once.

    Raises:
        InputError: For an unknown name, another object, or a package that is not installed.
    """
    if isinstance(trackers, str | Tracker):
        trackers = [trackers]
    found: list[Tracker] = []
    names: set[str] = set()
    for tracker in items(trackers, "trackers"):
        if isinstance(tracker, str):
            name = one_of(tracker, TRACKERS, "a tracker")
            if name not in names:
                names.add(name)
                found.append(TRACKERS[name]())
        elif isinstance(tracker, Tracker) and not isinstance(tracker, type):
            found.append(tracker)
        else:
            raise InputError(
                f"trackers must be names ({', '.join(TRACKERS)}) or objects with the methods "
                f"start, log and finish; got {describe(tracker)}"
            )
    return tuple(found)


def name_of(tracker: Tracker) -> str:
    """The name of a tracker in messages."""
    kinds: Iterable[tuple[str, Any]] = TRACKERS.items()
    return next((name for name, kind in kinds if type(tracker) is kind), type(tracker).__name__)


def _need(package: str, command: str) -> None:
    """Refuse a tracker whose package is not installed."""
    if importlib.util.find_spec(package) is None:
        raise InputError(
            f"the tracker {package} needs the package {package}, which is not installed: {command}"
        )


class _Sent:
    """The lines that a tracker received, kept in the run directory with the run's name.

    The lines of one number of images are counted: a resumed run writes them in the same order.

    Args:
        run: The run directory.
        tracker: The tracker's name, which names the file.
    """

    def __init__(self, run: Path, tracker: str) -> None:
        self._path = Run(run).trackers / f"{tracker}.json"
        known: dict[str, Any] = {}
        if self._path.exists():
            with contextlib.suppress(ValueError):
                known = json.loads(self._path.read_text())
        self.name = str(known.get("name") or f"{run.resolve().name}-{uuid4().hex[:8]}")
        self.images, self.lines = int(known.get("images", -1)), int(known.get("lines", 0))
        here = [r for r in Run(run).records() if r.get("images") == self.images]
        self._again = len(here)  # lines of that number of images that are not logged again
        if not known:
            self.save()

    def is_new(self, images: int) -> bool:
        """Whether the next line, at this number of images seen, is new to the tracker."""
        if images > self.images:
            self.images, self.lines, self._again = images, 1, 1
            return True
        if images < self.images:
            return False
        self._again += 1
        found = self._again > self.lines
        self.lines = max(self.lines, self._again)
        return found

    def save(self) -> None:
        """Record what the tracker received."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._path, {"name": self.name, "images": self.images, "lines": self.lines})
