"""A budget in images, given as such or converted once from wall time after a timed warm-up; the
schedule follows images, the clock only stops.
"""

import math
import time

WARMUP_SHARE = 0.06  # of the time budget, spent timing before the budget is converted
WARMUP_STEPS = 4  # timed steps at least; the first step compiles and is left out
RESERVE_SHARE, RESERVE_SECONDS = (
    0.015,
    2.0,
)  # kept back for the last save and picture, and for a machine that slows down


class Clock:
    """Wall seconds spent on a run, over all the processes that worked on it; start: perf_counter
    when this one began, now unless said.
    """

    def __init__(self, spent: float = 0.0, start: float | None = None) -> None:
        self.start = (time.perf_counter() if start is None else start) - spent

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self.start


class Budget:
    """images: the budget, 0 while it is not known; seconds: the hard stop, 0 for none."""

    def __init__(self, images: int, seconds: float, schedule: bool = True) -> None:
        self.images = images
        self.schedule = schedule  # whether a learning rate falls towards the budget's end
        self.seconds = 0.0 if images else seconds
        self._first: tuple[int, float] | None = None
        self._steps = 0
        self._last = (0, 0.0)
        self._step = (0, 0.0)  # images and seconds of a step, the fastest so far

    def observe(self, images: int, elapsed: float) -> None:
        """Called after each step; converts the time budget when enough steps were timed."""
        if self._first is None:  # the first step of a process compiles: not timed
            self._first = self._last = (images, elapsed)
            return
        step = (images - self._last[0], elapsed - self._last[1])
        self._step = min(self._step, step, key=lambda s: s[1]) if self._step[0] else step
        self._last = (images, elapsed)
        if self.images:
            return
        self._steps += 1
        seen, since = images - self._first[0], elapsed - self._first[1]
        if self._steps >= WARMUP_STEPS and since >= WARMUP_SHARE * self.seconds:
            left = self.seconds * (1 - RESERVE_SHARE) - RESERVE_SECONDS - elapsed
            self.images = images + step[0] * max(
                0, math.floor(seen / since * left / step[0])
            )  # whole steps

    def progress(self, images: int) -> float:
        """Share of the budget used, 0 while it is not known: what the schedule follows."""
        return min(1.0, images / self.images) if self.images else 0.0

    def over(self, images: int, elapsed: float) -> str:
        """Why training ends now, empty while it does not."""
        if self.images and images >= self.images:
            return "image budget reached"
        size, step = self._step
        if (
            self.seconds and elapsed + step / 2 >= self.seconds
        ):  # half a step: steps of many seconds end about the clock, not after it
            unfinished = self.schedule and self.images and images + size < 0.98 * self.images
            return "time budget reached" + (
                "; the machine slowed down: the learning rate had not reached its end"
                if unfinished
                else ""
            )
        return ""


def learning_rate(base: float, images: int, warmup: int, decay: str, progress: float) -> float:
    """The rate for the step that starts after `images` images: linear warm-up, then `decay` over
    the budget's `progress` in [0, 1].
    """
    ramp = min(1.0, (images + 1) / warmup) if warmup > 0 else 1.0
    shape = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
    }[decay]
    return base * ramp * shape
