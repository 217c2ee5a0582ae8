"""What a run writes: configuration, metrics, checkpoints, snapshots, previews, schedule."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .. import checkpoint
from ..config import Config, Request, differences
from ..data import Dataset
from ..errors import InputError
from ..files import write_bytes, write_json
from ..models import Preconditioned
from ..runs import Record, Run, append_line, read_lines
from .ema import EMA
from .posthoc import save_snapshot
from .segment import Goal
from .state import TrainState
from .verdict import Verdict


class RunWriter:
    """Writes one run directory. Nothing is written before `claim`.

    Args:
        folder: The run directory.
        request: The user's request; None where a `Config` was made by hand.
        config: The resolved settings.
        dataset: The data.
        network: The network's entry in the model card.
        kept: The content of config.json where the run exists; None for a new run.
    """

    def __init__(
        self,
        folder: str | Path,
        request: Request | None,
        config: Config,
        dataset: Dataset,
        network: Record,
        kept: Record | None = None,
    ) -> None:
        self.run = Run(folder)
        self.request, self.config, self.network, self.kept = request, config, network, kept
        self.data = dataset.description
        self.identity = identify(dataset)

    # -- config.json

    def match(self, precision: str | None = None) -> None:
        """Check that the run that exists is the one of these settings and data.

        The content of the data decides, not where they were read from; settings that do not decide
        the weights are not compared.

        Args:
            precision: The precision that the run has recorded; None where it has none.

        Raises:
            InputError: For a run of other data or settings; the message names what differs.
        """
        if self.kept is None:
            return
        words = self._other_data(self.kept)
        if not words:
            found = differences(self.kept["config"], self.config, precision)
            mine, theirs = (n.get("class") for n in (self.network, self.kept.get("network") or {}))
            if mine != theirs:
                found.append(f"the network's class is {theirs} in the run, {mine} now")
            words = "another configuration: " + "; ".join(found[:6]) if found else ""
        if words:
            raise InputError(
                f"{self.run.folder} holds a run of {words}. Use the same to continue it, or "
                "another --run (run=)"
            )

    def _other_data(self, kept: Record) -> str:
        """How the data differ from those of the run, in words; empty where they are the same."""
        then = {"sha256": kept.get("sha256"), "labels_sha256": kept.get("labels_sha256")}
        then |= kept.get("examples") or {}
        changed = [name for name, value in then.items() if value != self.identity[name]]
        if not changed:
            return ""
        there, here = (_source(c) for c in (kept["config"], self.config.to_dict()))
        if there != here:
            return f"other data: {there} there, {here} here"
        for name in ("count", "shape"):
            if name in changed:
                return f"other data: {there} had {name} {then[name]}, now {self.identity[name]}"
        labels = changed == ["labels_sha256"]
        if "sha256" in changed or labels:
            return f"other data: the {'labels' if labels else 'values'} of {there} have changed"
        return f"other data: {there} is read in another way ({', '.join(changed)})"

    def claim(self, goal: Goal) -> None:
        """Write config.json where the run is new.

        Args:
            goal: The budget of the first segment.
        """
        if self.kept is not None:
            return
        request = self.request
        if request is not None and Goal(request.images, request.seconds) != Goal():
            request = with_goal(request, goal)
        self.kept = {
            "request": None if request is None else request.to_dict(explicit=True),
            "config": with_goal(self.config, goal).to_dict(),
            "sha256": self.identity["sha256"],
            "labels_sha256": self.identity["labels_sha256"],
            "examples": self.identity,
            "data": self.data,
            "network": self.network,
        }
        write_json(self.run.config, self.kept)

    def add_segment(self, number: int, images: int, goal: Goal) -> None:
        """Add a segment's request to config.json, where it is not there yet.

        Args:
            number: The number of the segment, 2 or more.
            images: Images seen where it begins.
            goal: Its budget.
        """
        assert self.kept is not None
        segments = self.kept.get("segments") or []
        if len(segments) < number - 1:
            request = None if self.request is None else with_goal(self.request, goal)
            asked = None if request is None else request.to_dict(explicit=True)
            self.kept["segments"] = [*segments, {"images": images, "request": asked}]
            write_json(self.run.config, self.kept)

    def card_entries(self) -> tuple[Record, Record]:
        """The entries config and data of a model card.

        An array in memory cannot be read again: where the run began with a named source of the same
        content, the card names that one.
        """
        config, kept = self.config.to_dict(), self.kept or {}
        first = kept.get("config") or {}
        if "data" in kept and _in_memory(config) and first and not _in_memory(first):
            return config | {"data": first["data"]}, kept["data"]
        return config, self.data

    def record(self) -> list[Record]:
        """The lines of schedule.jsonl."""
        return read_lines(self.run.schedule)

    def decide(self, line: Record) -> None:
        """Append a line to schedule.jsonl. The line is on the disk when the function returns.

        Args:
            line: The decision.
        """
        append_line(self.run.schedule, line, durable=True)

    def log(self, line: Record) -> None:
        """Append a line to metrics.jsonl.

        Args:
            line: The measurements; numbers that are not finite become null.
        """
        self.run.log(line)

    def pictures(self, images: int, final: bool) -> dict[str, Path]:
        """The pictures of an evaluation by name; a file is there where it could be drawn.

        Args:
            images: Images seen.
            final: Whether it is the last evaluation.

        Returns:
            Paths of PNG files.
        """
        run = self.run
        found = {"preview": run.preview(images)}
        last = {"loss_per_sigma": run.loss_per_sigma, "training": run.training_curve}
        return found | (last if final else {})

    def rewind(self, images: int, start: int) -> None:
        """Drop what was written after a checkpoint; the run writes it again.

        Args:
            images: Images seen at the checkpoint.
            start: Images where the present segment began.
        """
        self.run.rewind(images, start)

    def evaluated(self, images: int) -> bool:
        """Whether the last evaluation is complete: its line in metrics.jsonl is written last.

        Args:
            images: Images seen where the segment ended.
        """
        return any(line.get("final") and line["images"] == images for line in self.run.records())

    @property
    def verdict(self) -> Verdict | None:
        """The verdict of the last evaluation; None where there is none."""
        found = [line["verdict"] for line in self.run.records() if line.get("verdict")]
        return Verdict.from_dict(found[-1]) if found else None

    def save_checkpoint(self, state: TrainState, extra: dict[str, Any]) -> None:
        """Write the training state atomically.

        Args:
            state: The training.
            extra: Further entries of the checkpoint, such as the clock and the meter.
        """
        content = {**state.state_dict(), **extra, "decisions": len(self.record())}
        checkpoint.save_state(self.run.state, state.images, content)

    def save_model(self, model: Preconditioned, facts: dict[str, Any], last: bool = False) -> None:
        """Write the model file: weights and model card.

        Args:
            model: The averaged model.
            facts: Entries of the model card about the run so far.
            last: Whether these are the last weights, and the model file has those of an earlier
                point; they go into a file beside it.
        """
        config, data = self.card_entries()
        card = checkpoint.make_card(model, self.network, config=config, data=data, **facts)
        checkpoint.save_model(self.run.last if last else self.run.model, model, card=card)

    def drop_last(self) -> None:
        """Remove the last weights: the model file has them."""
        self.run.last.unlink(missing_ok=True)

    def model_images(self) -> int:
        """Images of the run at which the model file was written; -1 where it is not whole."""
        card = checkpoint.read_card(self.run.model) or {}
        return int((card.get("history") or {}).get("images", -1))

    def keep_segment(self, number: int) -> None:
        """Keep the model file, which a finished segment has just written, aside.

        Args:
            number: The number of the segment.
        """
        target = self.run.segment_model(number)
        if checkpoint.read_card(target) is not None:
            return
        for path in (self.run.last, self.run.model):  # the model file last: it tells of both
            if path.exists():
                write_bytes(target.with_name(path.name), path.read_bytes())

    def save_snapshot(self, images: int, averages: Sequence[EMA]) -> None:
        """Keep the averages as they are now, for `posthoc.rebuild`.

        Args:
            images: Images seen, which name the file.
            averages: The averages.
        """
        save_snapshot(self.run.folder, images, averages)

    def save_evidence(self, images: int, content: dict[str, Any]) -> Path:
        """Keep batch and weights of a step that was not finite, in the folder nonfinite/.

        Args:
            images: Images seen before the step, which name the file.
            content: Batch, losses and weights.

        Returns:
            The path of the file.
        """
        return checkpoint.save_state(self.run.evidence, images, content)


def identify(dataset: Dataset) -> Record:
    """What decides whether two data sets train the same weights.

    Args:
        dataset: The data.

    Returns:
        The SHA-256 of values and labels, the number of examples, their shape, and how their values
        are read: as images, quantised, rounded (the SHA-256 of the elements' steps and of the
        columns of few values).
    """
    steps, few = dataset.steps, {} if dataset.form is None else dataset.form.few_values
    rounding = b"" if steps is None else steps.numpy().tobytes()
    rounding += repr(sorted(few.items())).encode() if few else b""
    return {
        "sha256": dataset.description.get("sha256"),
        "labels_sha256": dataset.description.get("labels_sha256"),
        "count": len(dataset),
        "shape": list(dataset.event_shape),
        "image": dataset.image,
        "quantisation_levels": dataset.quantisation_levels,
        "rounding": hashlib.sha256(rounding).hexdigest() if rounding else None,
    }


Settings = TypeVar("Settings", bound=Request)


def with_goal(settings: Settings, goal: Goal) -> Settings:
    """Settings with another budget; those that have it are returned as they are."""
    if Goal(settings.images, settings.seconds) == goal:
        return settings
    given = settings.model_dump(exclude_unset=True, exclude={"images", "seconds"})
    return type(settings).from_dict(given | goal.to_dict())


def _in_memory(config: Mapping[str, Any]) -> bool:
    return str((config.get("data") or {}).get("source", "<")).startswith("<")


def _source(config: Mapping[str, Any]) -> str:
    """Where data came from, in a few words."""
    return "an array in memory" if _in_memory(config) else repr(config["data"]["source"])
