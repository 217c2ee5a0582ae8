"""The clock of a run, and what it decides: the plan of a time budget and when training ends.

A time budget is wall time, from the start of the command to its end: the start, compilation, all
evaluations and the last save belong to it. So training itself ends earlier, by the time that the
last save and the last evaluation are expected to take.
"""

import math
import time
from collections.abc import Callable

from .schedule import Schedule

FIRST_PLAN = 0.02  # fraction of the segment's time that is timed before its first plan
REPLAN = 0.015  # fraction of the segment's time between two points of the plan
WARMUP_STEPS = 4  # steps timed before the first plan; the first step compiles and is left out
UNFINISHED = 0.9  # progress below which an end by the clock is reported as too early
# The last evaluation of a run with a budget in images may take this fraction of its time, and in
# any case so many seconds.
FINAL, FINAL_SECONDS = 0.03, 5.0
FINAL_SHORT = 0.06  # of a short time budget the last evaluation takes at most this fraction
ENDING = 1.5  # seconds that the last save, the pictures and the end of the process take, about
ENDING_SHORT = 0.05  # of a short time budget they are expected to take at most this fraction


def time_left(whole: float, elapsed: float) -> float:
    """Seconds that the last evaluation of a time budget may take.

    Args:
        whole: The time budget in seconds.
        elapsed: Seconds on the run's clock.

    Returns:
        What is left of the budget, but at least half of what was planned and at most twice that.
    """
    left, planned = whole - ending_seconds(whole) - elapsed, final_seconds(whole)
    return min(max(left, planned / 2), 2 * planned)


def ending_seconds(whole: float) -> float:
    """Seconds kept back for the last save, the pictures and the end of the process.

    Args:
        whole: The time budget in seconds.

    Returns:
        The seconds.
    """
    return min(ENDING, ENDING_SHORT * whole)


def final_seconds(whole: float) -> float:
    """Seconds kept back for the last evaluation.

    Args:
        whole: The time budget in seconds.

    Returns:
        The seconds.
    """
    return max(FINAL * whole, min(FINAL_SECONDS, FINAL_SHORT * whole))


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


class Budget:
    """Plans a time budget and decides when training ends.

    Args:
        schedule: The schedule that plans are written to; its segment in force has the budget.
        decays: Whether the learning rate falls to the end of the budget.
    """

    def __init__(self, schedule: Schedule, decays: bool = True) -> None:
        self.schedule, self.decays = schedule, decays
        self.seconds = schedule.segment.goal.seconds
        self._length = 0.0 if self.seconds is None else self.seconds - schedule.segment.seconds
        self._target = math.inf
        self.keep_back(math.inf)
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
        if self._steps < steps or since < least * self._length:
            return
        left = math.floor((self._target - elapsed) * seen / since / step[0] + 0.5)
        if left > 0:  # else the clock ends training now, wherever the schedule is
            self.schedule.plan(images, images + step[0] * left)
        self._anchor, self._steps = self._last, 0

    def keep_back(self, seconds: float) -> None:
        """Keep back less of a time budget where the last evaluation takes less than planned.

        Args:
            seconds: Seconds that a whole last evaluation takes.
        """
        if self.seconds is not None:
            kept = ending_seconds(self.seconds) + min(seconds, final_seconds(self.seconds))
            self._target = self.seconds - kept

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
        if elapsed + self._step[1] / 2 < self._target:
            return ""
        progress = self.schedule.progress(images + self._step[0])
        if not self.decays or progress >= UNFINISHED:
            return "time budget reached"
        return f"time budget reached at {progress:.0%} of the schedule of the learning rate"
