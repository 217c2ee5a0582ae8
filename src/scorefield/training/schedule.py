"""The schedule: how far a run is, as a function of images seen and of a durable record.

Learning rate, snapshots, previews and lines of metrics follow the run's *progress*, from 0 to 1.

    budget in images    progress = images / budget
    budget in seconds   progress follows a plan. At a point of the plan the rate of the recent steps
                        and the clock say how many images remain; from there on progress rises
                        linearly in images and reaches 1 at the planned end. A new point is added
                        about every 1.5 % of the budget, so that a run whose rate changes still ends
                        with progress 1 at its time budget.

Whatever the clock decides is written to schedule.jsonl, and is on the disk before it is used: the
points of the plan, the sizes of evaluations, the image number at which training ended, and how the
arithmetic runs. A resumed run follows the points that the record has beyond its checkpoint and then
adds its own. So the weights of a run are a function of its configuration and its record: a fresh
folder with the same schedule.jsonl gives the same run.

    {"kind": "execution", "images": n, "execution": {...}}
    {"kind": "plan", "images": n, "progress": p, "budget": N}
    {"kind": "evaluation", "images": n, "examples": e, "samples": s}
    {"kind": "end", "images": n, "reason": "..."}
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

FIRST_PLAN = 0.02  # fraction of the time budget that is timed before the first plan
REPLAN = 0.015  # fraction of the time budget between two points of the plan
WARMUP_STEPS = 4  # steps timed before the first plan; the first step compiles and is left out
UNFINISHED = 0.98  # progress below which an end by the clock is reported as too early
Record = dict[str, Any]


class Clock:
    """Wall seconds spent on a run, over all the processes that worked on it.

    Args:
        spent: Seconds that earlier processes spent.
        start: `time.perf_counter()` when this process began; None: now.
        now: The clock to read; tests pass their own.
    """

    def __init__(
        self,
        spent: float = 0.0,
        start: float | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._now = now
        self._start = (now() if start is None else start) - spent

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self._now() - self._start


@dataclass(frozen=True)
class PlanPoint:
    """From `images` on, progress rises linearly from `progress` to 1 at `budget` images.

    Attributes:
        images: Images seen where the plan was made.
        progress: Progress there, in [0, 1].
        budget: Planned number of images of the run.
    """

    images: int
    progress: float
    budget: int

    def at(self, images: int) -> float:
        """Progress at `images`, at most 1."""
        if images >= self.budget:
            return 1.0
        rest = (images - self.images) / (self.budget - self.images)
        return self.progress + (1 - self.progress) * rest


class Schedule:
    """Progress and the other decisions of a run, from its record.

    Args:
        images: The budget in images; None for a budget in seconds.
        record: The lines of schedule.jsonl so far.
        append: Writes a line of schedule.jsonl to the disk. None: nothing is written.
    """

    def __init__(
        self,
        images: int | None = None,
        record: Sequence[Record] = (),
        append: Callable[[Record], None] | None = None,
    ) -> None:
        self._append = append
        self._points = [] if images is None else [PlanPoint(0, 0.0, images)]
        self._evaluations: dict[int, tuple[int, int]] = {}
        self._executions: list[Record] = []
        self.end: Record | None = None
        self.recorded = (
            0  # images of the last recorded decision: the record is followed up to there
        )
        for line in record:
            self._take(line)

    def _take(self, line: Record) -> None:
        images = int(line["images"])
        if line["kind"] == "plan":
            self._points.append(PlanPoint(images, float(line["progress"]), int(line["budget"])))
        elif line["kind"] == "evaluation":
            self._evaluations[images] = (int(line["examples"]), int(line["samples"]))
        elif line["kind"] == "end":
            self.end = line
        elif line["kind"] == "execution":
            self._executions.append(line)
        self.recorded = max(self.recorded, images)

    def _decide(self, line: Record) -> None:
        """Write a decision to the disk, then use it."""
        if self._append is not None:
            self._append(line)
        self._take(line)

    def point(self, images: int) -> PlanPoint | None:
        """The point of the plan in force.

        Args:
            images: Images seen.

        Returns:
            The last point at or before `images`; None before the first one.
        """
        found = None
        for point in self._points:
            if point.images <= images:
                found = point
        return found

    def progress(self, images: int) -> float:
        """The progress of the run.

        Args:
            images: Images seen.

        Returns:
            Progress from 0 to 1; 0 before the first plan.
        """
        point = self.point(images)
        return 0.0 if point is None else point.at(images)

    def budget(self, images: int) -> int | None:
        """The planned number of images.

        Args:
            images: Images seen, which select the point of the plan.

        Returns:
            The number of images of the whole run; None before the first plan.
        """
        point = self.point(images)
        return None if point is None else point.budget

    def warmup(self, images: int, warmup: int) -> int:
        """The length of the warm-up.

        Args:
            images: Images seen.
            warmup: The wanted number of images.

        Returns:
            `warmup`, but at most a fifth of the first plan's budget.
        """
        point = self._points[0] if self._points and self._points[0].images <= images else None
        return warmup if point is None else min(warmup, point.budget // 5)

    def plan(self, images: int, budget: int) -> None:
        """Add a point of the plan. The first point counts progress from image 0 on.

        Args:
            images: Images seen.
            budget: Planned number of images of the whole run.
        """
        first = self.point(images) is None
        progress = images / budget if first else self.progress(images)
        self._decide({"kind": "plan", "images": images, "progress": progress, "budget": budget})

    def evaluation(
        self, images: int, decide: Callable[[], tuple[int, int]] | None = None
    ) -> tuple[int, int]:
        """The size of an evaluation: the recorded one, or a new one that is recorded now.

        Args:
            images: Images seen.
            decide: Returns the size where none is recorded; None: (0, 0).

        Returns:
            Number of examples, and number of samples.
        """
        if images not in self._evaluations:
            examples, samples = (0, 0) if decide is None else decide()
            line = {"kind": "evaluation", "images": images}
            self._decide({**line, "examples": examples, "samples": samples})
        return self._evaluations[images]

    def finish(self, images: int, reason: str) -> None:
        """Record that training ended. A second call changes nothing.

        Args:
            images: Images seen.
            reason: Why training ended, in words.
        """
        if self.end is None:
            self._decide({"kind": "end", "images": images, "reason": reason})

    def execution(self) -> Record | None:
        """The execution settings that were recorded last; None where none are recorded."""
        return dict(self._executions[-1]["execution"]) if self._executions else None

    def set_execution(self, images: int, execution: Record) -> None:
        """Record the execution settings in force from `images` on.

        Args:
            images: Images seen.
            execution: The result of `Execution.to_dict`.
        """
        self._decide({"kind": "execution", "images": images, "execution": execution})


class Budget:
    """Plans a time budget and says when training ends.

    Args:
        schedule: The schedule that plans are written to.
        seconds: The time budget; None for a budget in images.
        decays: Whether the learning rate falls to the end of the budget.
    """

    def __init__(self, schedule: Schedule, seconds: float | None, decays: bool = True) -> None:
        self.schedule, self.seconds, self.decays = schedule, seconds, decays
        # Kept back for the last save: plans end before the clock does.
        self._target = (
            None if seconds is None else seconds - min(0.01 * seconds + 1, 0.05 * seconds)
        )
        self._anchor: tuple[int, float] | None = None  # images and seconds where timing began
        self._last: tuple[int, float] = (0, 0.0)
        self._step = (0, 0.0)  # images and seconds of a step, the fastest so far
        self._steps = 0

    def observe(self, images: int, elapsed: float) -> None:
        """Time a step that has ended, and plan when it is time to.

        Args:
            images: Images seen.
            elapsed: Seconds on the run's clock.
        """
        if self._anchor is None:  # the first step of a process compiles
            self._anchor = self._last = (images, elapsed)
            return
        step = (images - self._last[0], elapsed - self._last[1])
        self._step = min(self._step, step, key=lambda s: s[1]) if self._step[0] else step
        self._last = (images, elapsed)
        self._steps += 1
        if self.seconds is None or self.schedule.end is not None:
            return
        if images < self.schedule.recorded:
            self._anchor, self._steps = self._last, 0
            return
        seen, since = images - self._anchor[0], elapsed - self._anchor[1]
        first = self.schedule.point(images) is None
        least, steps = (FIRST_PLAN, WARMUP_STEPS) if first else (REPLAN, 1)
        if self._steps < steps or since < least * self.seconds:
            return
        assert self._target is not None
        left = max(0.0, (self._target - elapsed) * seen / since)
        self.schedule.plan(images, images + step[0] * math.floor(left / step[0] + 0.5))
        self._anchor, self._steps = self._last, 0

    def pause(self, seconds: float) -> None:
        """Leave time that was not spent on steps out of the timing.

        Args:
            seconds: The time, for example of an evaluation.
        """
        if self._anchor is not None:
            self._anchor = (self._anchor[0], self._anchor[1] + seconds)
            self._last = (self._last[0], self._last[1] + seconds)

    def over(self, images: int, elapsed: float) -> str:
        """Decide whether training ends.

        Args:
            images: Images seen.
            elapsed: Seconds on the run's clock.

        Returns:
            The reason in words; empty while training continues.
        """
        end = self.schedule.end
        if end is not None:
            return str(end["reason"]) if images >= end["images"] else ""
        budget = self.schedule.budget(images)
        if budget is not None and images >= budget:
            return "image budget reached" if self.seconds is None else "time budget reached"
        if self.seconds is None or images < self.schedule.recorded:
            return ""
        # Half a step: steps of many seconds end about the clock, not after it.
        if elapsed + self._step[1] / 2 < self.seconds:
            return ""
        progress = self.schedule.progress(images + self._step[0])
        if not self.decays or progress >= UNFINISHED:
            return "time budget reached"
        return (
            "time budget reached; the machine slowed down at the end, and the schedule of the "
            f"learning rate stopped at {progress:.0%}"
        )


def learning_rate(base: float, images: int, warmup: int, decay: str, progress: float) -> float:
    """The learning rate of the step that starts after `images` images.

    Args:
        base: The rate after warm-up, before decay.
        images: Images seen.
        warmup: Images of linear warm-up; 0 for none.
        decay: "constant", "linear" or "cosine", to 0 at progress 1.
        progress: From 0 to 1.

    Returns:
        The rate.
    """
    ramp = min(1.0, (images + 1) / warmup) if warmup > 0 else 1.0
    shape = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
    }[decay]
    return base * ramp * shape
