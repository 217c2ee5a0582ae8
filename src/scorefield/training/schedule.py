"""The schedule: how far a run is, as a function of images seen and of a durable record.

Learning rate, snapshots, previews and lines of metrics follow the run's *progress*, from 0 to 1.

    budget in images    progress = images / budget
    budget in seconds   progress follows a plan. At a point of the plan the rate of the recent steps
                        and the clock give the number of images that remain; from there on progress
                        rises linearly in images and reaches 1 at the planned end. A new point is
                        added about every 1.5 % of the budget, so that a run whose rate changes
                        still ends with progress 1 at its time budget.

Whatever the clock decides is written to schedule.jsonl, and is on the disk before it is used: the
points of the plan, the sizes of evaluations, the image number at which training ended, and how the
arithmetic runs. A resumed run follows the points that the record has beyond its checkpoint and then
adds its own. So the weights of a run are a function of its configuration and its record: a fresh
folder with the same schedule.jsonl gives the same run.

A run whose budget is changed goes on in a new *segment*. Segments are numbered from 1; a line of
the record begins each but the first, and decisions beyond the images where it begins are void. With
n images (or t seconds) at the beginning of a segment and the new budget N (or T),

    progress       continues at n/N (or t/T), as in one run of the new length, and rises to 1
    learning rate  moves linearly, over `warmup` images, from the rate at which the segment before
                   it stopped to the rate of one run of the new length, and follows that rate then

    {"kind": "execution", "images": n, "execution": {...}}
    {"kind": "plan", "images": n, "progress": p, "budget": N}
    {"kind": "evaluation", "images": n, "examples": e, "samples": s}
    {"kind": "end", "images": n, "reason": "..."}
    {"kind": "segment", "images": n, "seconds": t, "from": {"images": N1}, "to": {"seconds": T},
     "progress": p, "budget": N, "warmup": w, "rule": "..."}

A line that was decided in a segment which is no longer the last one has an entry "segment" with its
number; this happens where a record is followed anew with other execution settings.
"""

from collections.abc import Callable, Sequence

from .segment import Goal, PlanPoint, Record, Segment, learning_rate

WARMUP_FRACTION = 5  # a warm-up takes at most a fifth of the planned images of its segment
RULE = (
    "the learning rate moves over {warmup:,} images to that of one run of the new length, and "
    "follows it"
)


class Schedule:
    """Progress and the other decisions of a run, from its record.

    Args:
        goal: The budget of the first segment; a record with further segments (`first_goal`)
            overrides it.
        record: The lines of schedule.jsonl so far.
        append: Writes a line of schedule.jsonl to the disk. None: nothing is written.

    Attributes:
        segments: The segments of the record.
        number: The number of the segment in force, from 1: the last one, until `enter` is called.
    """

    def __init__(
        self,
        goal: Goal = Goal(),
        record: Sequence[Record] = (),
        append: Callable[[Record], None] | None = None,
    ) -> None:
        self._append = append
        self.segments = [Segment(first_goal(record) or goal)]
        images = self.segments[0].goal.images
        if images is not None:
            self.segments[0].points.append(PlanPoint(0, 0.0, images))
        self._evaluations: dict[int, tuple[int, int]] = {}
        for line in record:
            self._take(line)
        self.number = len(self.segments)

    def _take(self, line: Record) -> None:
        images = int(line["images"])
        if line["kind"] == "segment":
            self.segments[-1].close(images)
            self._evaluations = {n: v for n, v in self._evaluations.items() if n <= images}
            self.segments.append(Segment.of(line))
            return
        if line["kind"] == "evaluation":
            self._evaluations[images] = (int(line["examples"]), int(line["samples"]))
        self.segments[line.get("segment", len(self.segments)) - 1].take(line)

    def _decide(self, line: Record) -> None:
        """Write a decision to the disk, then use it."""
        if self.number < len(self.segments):
            line = {**line, "segment": self.number}
        if self._append is not None:
            self._append(line)
        self._take(line)

    # -- segments

    @property
    def segment(self) -> Segment:
        """The segment in force."""
        return self.segments[self.number - 1]

    @property
    def following(self) -> Segment | None:
        """The segment after the one in force; None where that is the last one."""
        return self.segments[self.number] if self.number < len(self.segments) else None

    def enter(self, number: int) -> None:
        """Put a segment in force.

        Args:
            number: Its number, from 1.
        """
        self.number = number

    def begin(self, images: int, seconds: float, goal: Goal, warmup: int) -> None:
        """Begin a new segment and put it in force.

        Args:
            images: Images seen.
            seconds: Seconds on the run's clock.
            goal: The new budget of the whole run.
            warmup: The wanted number of images over which the learning rate changes.
        """
        if goal.images is not None:
            progress, budget = images / goal.images, goal.images
        else:
            assert goal.seconds is not None
            progress = seconds / goal.seconds
            budget = max(images + 1, round(images / max(progress, 1e-9)))
        line = {
            "kind": "segment",
            "images": images,
            "seconds": round(seconds, 3),
            "from": self.segment.goal.to_dict(),
            "to": goal.to_dict(),
            "progress": progress if images > 0 else 0.0,
            "budget": budget,
            "warmup": min(warmup, (budget - images) // WARMUP_FRACTION),
        }
        line["rule"] = RULE.format(**line)
        self._decide(line)
        self.number = len(self.segments)

    @property
    def left(self) -> int | None:
        """Images at which the segment in force was left unfinished; None where it was not."""
        following = self.following
        return following.start if following is not None and self.segment.end is None else None

    # -- progress

    @property
    def end(self) -> Record | None:
        """The record of the end of the segment in force."""
        return self.segment.end

    @property
    def recorded(self) -> int:
        """Images of the last recorded decision: the record is followed up to there."""
        return self.segment.decided

    def point(self, images: int) -> PlanPoint | None:
        """The point of the plan in force.

        Args:
            images: Images seen.

        Returns:
            The last point at or before `images`; None before the first one.
        """
        return self.segment.point(images)

    def progress(self, images: int) -> float:
        """The progress of the run.

        Args:
            images: Images seen.

        Returns:
            Progress from 0 to 1; 0 before the first plan.
        """
        return self.segment.progress_at(images)

    def fraction(self, images: int) -> float:
        """The progress of the segment in force.

        Args:
            images: Images seen.

        Returns:
            From 0 at its beginning to 1 at its end.
        """
        begin = self.segment.progress
        return (self.progress(images) - begin) / (1 - begin) if begin < 1 else 1.0

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
        """The length of the warm-up at the beginning of the run.

        Args:
            images: Images seen.
            warmup: The wanted number of images.

        Returns:
            `warmup`, but at most a fifth of the first plan's budget.
        """
        plans = (p for s in self.segments[: self.number] for p in s.points if p.images <= images)
        first = next(plans, None)
        return warmup if first is None else min(warmup, first.budget // WARMUP_FRACTION)

    def learning_rate(self, base: float, images: int, warmup: int, decay: str) -> float:
        """The learning rate of the step that starts after `images` images.

        Args:
            base: The rate after warm-up, before decay.
            images: Images seen.
            warmup: The wanted number of images of the run's warm-up; 0 for none.
            decay: "constant", "linear" or "cosine".

        Returns:
            The rate of the function `learning_rate`, blended with that of the segment before.
        """
        rise = self.warmup(images, warmup)
        rate = learning_rate(base, images, rise, decay, self.progress(images))
        segment = self.segment
        if self.number == 1 or images - segment.start >= segment.warmup:
            return rate
        before = self.segments[self.number - 2].progress_at(segment.start)
        stopped = learning_rate(base, images, rise, decay, before)
        return stopped + (rate - stopped) * (images - segment.start + 1) / segment.warmup

    # -- decisions

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
        """The execution settings recorded last in this segment or before; None where none are."""
        lines = [line for s in self.segments[: self.number] for line in s.executions]
        return dict(lines[-1]["execution"]) if lines else None

    def set_execution(self, images: int, execution: Record) -> None:
        """Record the execution settings in force from `images` on.

        Args:
            images: Images seen.
            execution: The result of `Execution.to_dict`.
        """
        self._decide({"kind": "execution", "images": images, "execution": execution})

    def seconds_ahead(self) -> float:
        """Seconds that the segment in force takes, by the clock of the segments before it."""
        goal, segment = self.segment.goal, self.segment
        if goal.seconds is not None:
            return goal.seconds - segment.seconds
        assert goal.images is not None
        return segment.seconds * (goal.images - segment.start) / max(segment.start, 1)

    def history(self) -> list[Record]:
        """The segments up to the one in force, as a model card has them.

        Returns:
            For each segment its budget and, where another one follows, the images and seconds at
            which it stopped and the reason.
        """
        found: list[Record] = []
        for segment in self.segments[: self.number]:
            if found:
                found[-1] |= {"images": segment.start, "seconds": segment.seconds}
            ended = "" if segment.end is None else segment.end["reason"]
            found.append({"budget": segment.goal.to_dict(), "ended": ended})
        return found


def first_goal(record: Sequence[Record]) -> Goal | None:
    """The budget of the first segment in a record; None where it has one segment."""
    found = [Goal.of(line["from"]) for line in record if line["kind"] == "segment"]
    return found[0] if found else None
