"""The parts of a schedule: budgets, points of a plan, segments, and the learning rate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..progress import duration

Record = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """The budget of a run: images seen, or seconds of wall time. One of the two is None.

    Attributes:
        images: Images seen over the whole run.
        seconds: Seconds on the run's clock.
    """

    images: int | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Goal":
        """The goal with the entries "images" and "seconds" of a mapping; others are ignored."""
        return cls(values.get("images"), values.get("seconds"))

    def to_dict(self) -> Record:
        """The entry that is not None."""
        named = {"images": self.images, "seconds": self.seconds}
        return {name: value for name, value in named.items() if value is not None}

    def __str__(self) -> str:
        return f"{self.images:,} images" if self.seconds is None else duration(self.seconds)


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


@dataclass
class Segment:
    """A part of a run with one budget.

    Attributes:
        goal: The budget of the whole run in this segment.
        start: Images seen where the segment begins.
        seconds: Seconds on the run's clock there.
        progress: Progress there.
        warmup: Images over which the learning rate moves to that of one run of the new length.
        points: Points of the plan.
        executions: Records of the execution settings.
        end: The record of the end; None before it, and where the segment was left unfinished.
        decided: Images of the last decision.
    """

    goal: Goal
    start: int = 0
    seconds: float = 0.0
    progress: float = 0.0
    warmup: int = 0
    points: list[PlanPoint] = field(default_factory=list)
    executions: list[Record] = field(default_factory=list)
    end: Record | None = None
    decided: int = 0

    @staticmethod
    def of(line: Record) -> "Segment":
        """The segment that a line of the record begins."""
        images, progress = int(line["images"]), float(line["progress"])
        goal = Goal.of(line["to"])
        made = Segment(goal, images, float(line["seconds"]), progress, int(line["warmup"]))
        if goal.images is not None or images > 0:
            made.points.append(PlanPoint(images, progress, int(line["budget"])))
        made.decided = images
        return made

    def take(self, line: Record) -> None:
        """Add a decision."""
        images = int(line["images"])
        if line["kind"] == "plan":
            self.points.append(PlanPoint(images, float(line["progress"]), int(line["budget"])))
        elif line["kind"] == "end":
            self.end = line
        elif line["kind"] == "execution":
            self.executions.append(line)
        self.decided = max(self.decided, images)

    def close(self, images: int) -> None:
        """Drop the decisions beyond `images`, where the next segment begins."""
        self.points = [point for point in self.points if point.images <= images]
        self.executions = [line for line in self.executions if line["images"] <= images]
        if self.end is not None and self.end["images"] > images:
            self.end = None
        self.decided = images

    def point(self, images: int) -> PlanPoint | None:
        """The last point of the plan at or before `images`; None before the first one."""
        found = [point for point in self.points if point.images <= images]
        return found[-1] if found else None

    def progress_at(self, images: int) -> float:
        """Progress at `images`; 0 before the first plan."""
        point = self.point(images)
        return 0.0 if point is None else point.at(images)


def learning_rate(base: float, images: int, warmup: int, decay: str, progress: float) -> float:
    """The learning rate of the step that starts after `images` images, in a run of one segment.

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
