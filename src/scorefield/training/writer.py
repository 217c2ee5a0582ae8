"""What a run writes: configuration, metrics, checkpoints, snapshots, previews, schedule."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import checkpoint
from ..config import Config, Request, differences
from ..errors import InputError
from ..models import Preconditioned
from ..runs import Record, Run, append_line, read_lines
from .ema import EMA
from .posthoc import save_snapshot
from .state import TrainState
from .verdict import Verdict


class RunWriter:
    """Writes one run directory. Nothing is written before `claim`.

    Args:
        folder: The run directory.
        request: What the user asked for; None where a `Config` was made by hand.
        config: The resolved settings.
        data: The description of the data, with its SHA-256.
        network: The network's entry in the model card.
    """

    def __init__(
        self,
        folder: str | Path,
        request: Request | None,
        config: Config,
        data: Record,
        network: Record,
    ) -> None:
        self.run = Run(folder)
        self.config, self.data, self.network = config, data, network
        self._content: Record = {
            "request": None if request is None else request.to_dict(explicit=True),
            "config": config.to_dict(),
            **{name: value for name, value in data.items() if name.endswith("sha256")},
            "network": network,
        }

    def _differences(self, stored: Record) -> list[str]:
        """What in the stored configuration would make other weights."""
        found = differences(stored.get("config") or {}, self.config)
        for name in ("sha256", "labels_sha256"):
            if stored.get(name) != self.data.get(name):
                what = "data" if name == "sha256" else "labels"
                found.append(
                    f"the {what} are others ({name} {stored.get(name)} in the run, "
                    f"{self.data.get(name)} now)"
                )
        kept = stored.get("network") or {}
        mine, theirs = self.network.get("class"), kept.get("class")
        if mine != theirs:
            found.append(f"the network's class is {theirs} in the run, {mine} now")
        return found

    def match(self) -> bool:
        """Whether the run exists with the same configuration, without writing.

        Returns:
            True for a run of the same configuration, False where there is none yet.

        Raises:
            InputError: For a run of another configuration; the message lists the differences.
        """
        return self.run.match_config(self._differences)

    def claim(self) -> bool:
        """Write config.json, or find the same configuration there.

        Returns:
            True where the run existed and continues, False where it is new.

        Raises:
            InputError: For a run of another configuration.
        """
        return self.run.write_or_match_config(self._content, self._differences)

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

    def load_state(self) -> tuple[dict[str, Any] | None, list[str]]:
        """Read the newest whole checkpoint.

        Returns:
            The training state, None where there is none, and a notice for each torn file.
        """
        return checkpoint.load_state(self.run.state)

    def rewind(self, images: int) -> None:
        """Drop what was written after a checkpoint; the run writes it again.

        Args:
            images: Images seen at the checkpoint.
        """
        self.run.rewind(images)

    @property
    def evaluated(self) -> bool:
        """Whether the last evaluation is complete: its line in metrics.jsonl is written last."""
        return any(line.get("final") for line in self.run.records())

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
        content = {**state.state_dict(), **extra}
        checkpoint.save_state(self.run.state, state.images, content)

    def save_model(self, model: Preconditioned, facts: dict[str, Any], last: bool = False) -> None:
        """Write the model file: weights and model card.

        Args:
            model: The averaged model.
            facts: Entries of the model card about the run so far.
            last: Whether these are the last weights, and the model file has those of an earlier
                point; they go into a file beside it.
        """
        card = checkpoint.make_card(
            model, self.network, config=self.config.to_dict(), data=self.data, **facts
        )
        checkpoint.save_model(self.run.last if last else self.run.model, model, card=card)

    def drop_last(self) -> None:
        """Remove the last weights: the model file has them."""
        self.run.last.unlink(missing_ok=True)

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
        return checkpoint.save_state(self.run.folder / "nonfinite", images, content)

    def save_preview(self, images: int, samples: Tensor, image: bool) -> str:
        """Write the picture of samples.

        Args:
            images: Images seen, which name the file.
            samples: (N, *event) in data units.
            image: Whether the samples are images.

        Returns:
            Why there is no picture, or "".
        """
        from ..plotting import save_samples

        try:
            save_samples(self.run.previews / f"{images:09d}.png", samples, image=image)
        except InputError as error:  # training does not end for a picture
            return str(error)
        return ""

    def save_loss_per_sigma(self, table: dict[str, list[float]], objective: str) -> str:
        """Draw the held-out loss at each noise level.

        Args:
            table: Columns sigma, loss and se, as `Evaluator.loss_per_sigma` gives them, and the
                losses nothing and gaussian of the baselines where they were measured.
            objective: Name of the objective, for the title.

        Returns:
            The reason why there is no picture; empty where there is one.
        """
        from ..plotting import save_loss_per_sigma

        title = f"Held-out loss ({objective}) at each noise level"
        # One example has no standard error.
        se = table["se"] if all(map(math.isfinite, table["se"])) else None
        names = {"nothing": "knows nothing", "gaussian": "best Gaussian"}
        baselines = {text: table[name] for name, text in names.items() if name in table}
        try:
            save_loss_per_sigma(
                self.run.loss_per_sigma,
                table["sigma"],
                table["loss"],
                se,
                title=title,
                baselines=baselines,
            )
        except InputError as error:
            return str(error)
        return ""
