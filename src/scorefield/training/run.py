"""`train`: one run from its settings, through its segments, to its last evaluation.

Rerunning the same command resumes. A larger budget, or a budget of the other kind, makes a run go
on in a new segment (`schedule`). What the run directory holds decides what happens (`existing`).
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..checkpoint import describe_network
from ..config import Config, Request
from ..data import Dataset
from ..errors import InputError
from ..progress import duration
from ..runs import Run
from ..values import file_path
from .build import Setup, build, load_data
from .choices import choose, of_run
from .existing import Existing, examine
from .schedule import Schedule, first_goal
from .segment import Goal, learning_rate
from .signals import watch
from .summary import Hooks, Summary
from .trainer import Trainer
from .writer import RunWriter, with_goal


def train(
    request: Request,
    folder: str | Path,
    data: Any = None,
    network: nn.Module | None = None,
    hooks: Hooks | None = None,
    checkpoint_seconds: float = 60.0,
    restart: bool = False,
    began: float | None = None,
) -> Summary:
    """Train a run to its budget, resume it, or let it go on to a larger budget.

    Args:
        request: The settings; those left open are resolved from the data. In a run that exists,
            settings and a budget that are left open are the run's.
        folder: The run directory.
        data: Anything that `data.open` takes; None: request.data.source.
        network: The user's own network, of which a copy is trained.
        hooks: Progress and notices.
        checkpoint_seconds: Seconds between checkpoints.
        restart: Whether to set aside what the run directory holds, and begin again.
        began: `time.perf_counter()` from which a time budget counts; None: now.

    Returns:
        How the run ended. Reaching a budget is a success.

    Raises:
        InputError: Where data, settings or the run directory do not fit. Nothing is written then.
        NonFiniteError: Where a loss or gradient is not finite; nothing of that step is applied.
    """
    hooks, began = hooks or Hooks(), time.perf_counter() if began is None else began
    run = Run(folder)
    existing = Existing() if restart else examine(run)
    dataset = load_data(request, data)
    for text in dataset.report:
        hooks.on_notice(text)
    job = _Job.of(request, run, existing, dataset, network)
    for text in job.notes:
        hooks.on_notice(f"plan: {text}")
    schedule = Schedule(job.first, existing.record)
    job.step(schedule, existing)
    setup: Setup | None = job.build(schedule, hooks)
    assert setup is not None
    setup.execution.configure_process()
    for text in existing.notices:
        hooks.on_notice(text)
    with watch() as stop, run.lock():
        if restart and (old := run.set_aside()) is not None:
            hooks.on_notice(f"what {run.folder} held is now in {old}")
        if job.writer.record() != existing.record:
            raise InputError(
                f"another process has just worked on {run.folder}; run the same command again"
            )
        job.writer.network = describe_network(setup.state.model.network)
        job.writer.claim(job.first)
        while True:
            schedule = Schedule(job.first, job.writer.record(), job.writer.decide)
            begun = job.step(schedule, existing)
            setup = job.build(schedule, hooks) if setup is None else setup
            job.writer.config = setup.config
            if schedule.number > 1:
                segment = schedule.segment
                job.writer.add_segment(schedule.number, segment.start, segment.goal)
            trainer = Trainer(setup, job.writer, hooks, schedule, checkpoint_seconds)
            if begun:
                trainer.notice(begun)
            summary = trainer.run(stop, began, existing)
            if summary.signal or schedule.following is None:
                return summary
            # The next segment goes on from the disk, as another process would.
            existing, began, setup = examine(run), None, None


def set_aside(run: str | Path) -> Path | None:
    """Move the files of a run to a folder old-1, old-2, ... in its directory.

    Args:
        run: The run directory, in which a new run can begin afterwards.

    Returns:
        The folder, which is a run directory of its own; None where there was nothing to move.

    Raises:
        InputError: Where another process trains there.
    """
    found = Run(file_path(run, "run"))
    if not found.folder.is_dir():
        return None
    with found.lock():
        return found.set_aside()


@dataclass
class _Job:
    """What `train` works on, for all segments of a run.

    Attributes:
        config: The resolved settings; each segment has its own budget.
        dataset: The data.
        network: The user's own network, or None.
        writer: Writes the run directory.
        first: The budget of the first segment.
        goal: The requested budget.
        notes: What a new run has chosen from measurements, in words.
    """

    config: Config
    dataset: Dataset
    network: nn.Module | None
    writer: RunWriter
    first: Goal
    goal: Goal
    notes: list[str]

    @staticmethod
    def of(
        request: Request, run: Run, existing: Existing, dataset: Dataset, network: nn.Module | None
    ) -> "_Job":
        """Resolve the settings and check them against what exists."""
        kept = existing.config
        asked = Goal(request.images, request.seconds)
        first = first_goal(existing.record) or (None if kept is None else Goal.of(kept["config"]))
        if first is not None:  # defaults that depend on the budget follow the first one
            request = with_goal(request, first)
        notes = list[str]()
        if kept is None:
            choice = choose(request, dataset, network)
            config, notes = choice.config, choice.summary()
        else:
            config = of_run(request, dataset, network, kept["config"])
        first = Goal(config.images, config.seconds)
        schedule = Schedule(first, existing.record)
        goal = schedule.segment.goal if asked == Goal() else asked
        entry = (
            describe_network(network)
            if network is not None
            else {"name": config.network.name, "options": config.network.options}
        )
        writer = RunWriter(run.folder, request, config, dataset, entry, kept)
        recorded = schedule.execution()
        writer.match(None if recorded is None else recorded["precision"])
        _check_budget(goal, schedule.segment.goal, existing, run)
        return _Job(config, dataset, network, writer, first, goal, notes)

    def step(self, schedule: Schedule, existing: Existing) -> str:
        """Put the segment in force that training goes on in; begin a new one where one is due.

        Args:
            schedule: The schedule of the whole record.
            existing: Where the run stands.

        Returns:
            What a segment that begins now means, in words; empty where none begins.
        """
        last = len(schedule.segments)
        schedule.enter(existing.segment)
        if schedule.following is not None and (existing.ended or existing.images == schedule.left):
            schedule.enter(existing.segment + 1)
        if schedule.number == last and self._changes(schedule.segment.goal, existing):
            o, before = self.config.optim, schedule.segment.goal
            schedule.begin(existing.images, existing.seconds, self.goal, o.warmup)
            return _words(schedule, before, existing, o.decay)
        return ""

    def build(self, schedule: Schedule, hooks: Hooks) -> Setup:
        """Build the parts for the segment in force; nothing is written."""
        segment = schedule.segment
        config = with_goal(self.config, segment.goal)
        anew = schedule.number > 1 and not segment.executions
        planned = schedule.seconds_ahead() if anew else None
        recorded = schedule.execution()
        return build(config, self.dataset, self.network, recorded, planned, hooks.on_notice)

    def _changes(self, goal: Goal, existing: Existing) -> bool:
        """Whether the requested budget makes a new segment of a run with another one."""
        return self.goal != goal and not _is_spent(self.goal, existing)


def _is_spent(goal: Goal, existing: Existing) -> bool:
    """Whether a run has already had as much as a budget."""
    if goal.images is not None:
        return goal.images <= existing.images
    return goal.seconds is not None and goal.seconds <= existing.seconds


def _check_budget(goal: Goal, before: Goal, existing: Existing, run: Run) -> None:
    """Refuse a budget that is smaller than what the run has had.

    A finished run that overshot its budget is complete by a budget between the two.
    """
    if goal == before or not _is_spent(goal, existing):
        return
    pairs = ((before.images, goal.images), (before.seconds, goal.seconds))
    if existing.ended and any(b is not None and g is not None and g >= b for b, g in pairs):
        return
    raise InputError(
        f"the run in {run.folder} has had {existing.images:,} images in "
        f"{duration(existing.seconds)}: a budget of {goal} is already spent. A larger one lets the "
        "run go on (--budget or --images; budget= or images=); without one it keeps its own"
    )


def _words(schedule: Schedule, before: Goal, existing: Existing, decay: str) -> str:
    """What a segment that begins means: a few sentences."""
    segment, number = schedule.segment, schedule.number
    words = (
        f"segment {number} of the run: after {segment.start:,} images the budget is {segment.goal} "
        f"in place of {before}"
    )
    if decay == "constant":
        words += "; the learning rate stays constant"
    else:
        share = learning_rate(1.0, segment.start, 0, decay, segment.progress)
        words += (
            f"; the learning rate moves over {segment.warmup:,} images to {share:.0%} of its full "
            f"value, that of one run of the new length, and follows its {decay} decay to 0"
        )
    words += "; the averages of the weights go on, with windows in proportion to all images seen"
    if existing.ended:
        words += f". The model of segment {number - 1} stays in segments/{number - 1}/"
    return words
