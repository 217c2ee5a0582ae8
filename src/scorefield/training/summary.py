"""What training reports: its progress, notices, and how it ended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..plotting import Picture, paragraph, with_picture
from ..progress import duration
from ..runs import Run
from .pictures import loss_picture
from .trackers import Tracker, read_trackers
from .verdict import Verdict


@dataclass(frozen=True)
class Progress:
    """Where training stands, for display.

    Attributes:
        images: Images seen.
        budget: Planned images; None before the first plan of a time budget.
        fraction: Fraction of the budget used, from 0 to 1; of a run that went on beyond its first
            budget the fraction of the present segment.
        elapsed: Seconds spent.
        seconds: The time budget; None for a budget in images.
        loss: A recent mean loss; NaN before the first one.
        rate: Images a second, lately.
        stage: "evaluating" where training has ended and the model is being evaluated, else "".
    """

    images: int
    budget: int | None
    fraction: float
    elapsed: float
    seconds: float | None
    loss: float
    rate: float
    stage: str = ""

    @property
    def words(self) -> str:
        """Images, rate and loss in a few words; after training the images alone."""
        if self.stage:
            return f"{self.images:,} images"
        of = f" of {self.budget:,}" if self.budget else ""
        return f"{self.images:,} images{of}  {self.rate:,.0f} images/s  loss {self.loss:.4f}"


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Attributes:
        folder: The run directory.
        images: Images seen.
        seconds: Seconds spent, over all processes that worked on the run.
        reason: Why training ended, in words.
        signal: The number of the signal that stopped it; 0 for none.
        notices: Messages for the user.
        held_out: The held-out loss per sigma, columns sigma, loss and se, and the losses of the
            baselines, nothing and gaussian; empty where stopped.
        verdict: Where the model stands against the baselines; None where stopped.
        unfinished: Fraction of its schedule that the learning rate had come to where the clock
            ended training clearly before; None where it came to its end.
    """

    folder: Path
    images: int
    seconds: float
    reason: str
    signal: int = 0
    notices: tuple[str, ...] = ()
    held_out: dict[str, list[float]] = field(default_factory=dict)
    verdict: Verdict | None = None
    unfinished: float | None = None

    def picture(self) -> Picture | None:
        """The loss at each noise level; None where the run was stopped before its evaluation."""
        run = Run(self.folder)
        tables = [r["held_out_by_sigma"] for r in run.records() if r.get("held_out_by_sigma")]
        table = self.held_out or (tables[-1] if tables else None)
        return None if table is None else loss_picture(run, table, "Loss at each noise level")

    def __repr__(self) -> str:
        verdict = "" if self.verdict is None else f" Verdict: {self.verdict.sentence}."
        return paragraph(f"Run {self.folder}: {self.sentence}.{verdict}")

    def _repr_html_(self) -> str:
        return with_picture(repr(self), self.picture())

    @property
    def sentence(self) -> str:
        """How the run ended, in one or two sentences."""
        spent = f"{self.images:,} images in {duration(self.seconds)}"
        if self.signal or self.reason.startswith("already complete"):
            return f"{self.reason}: {spent}"
        text = f"trained for {duration(self.seconds)}: {self.images:,} images"
        if self.unfinished is None:
            return text
        return (
            f"{text}. The machine slowed down, so that the learning rate came to "
            f"{self.unfinished:.0%} of its schedule only; the same command with a larger --budget "
            "(budget=) lets it come to its end"
        )


@dataclass
class Hooks:
    """What receives the progress, the notices and the numbers of a training.

    Attributes:
        on_progress: Called about twice a second.
        on_notice: Called with sentences that the user should read.
        trackers: Objects with the methods of `Tracker`, or names of `trackers.TRACKERS`:
            "tensorboard", "trackio" and "wandb".

    Raises:
        InputError: For another tracker, or one whose package is not installed.
    """

    on_progress: Callable[[Progress], None] = lambda _: None
    on_notice: Callable[[str], None] = lambda _: None
    trackers: Sequence[Tracker | str] = ()

    def __post_init__(self) -> None:
        self.trackers = read_trackers(self.trackers)
