"""Seconds of the stages of an evaluation, and its progress."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Stage -> its part of the time, for the progress report.
STAGES = {"features": 27, "sampling": 35, "metrics": 10, "memorisation": 1, "score": 25, "page": 2}
Report = Callable[[float, str], None]


class Clock:
    """Seconds of each stage, and the fraction done for the progress report."""

    def __init__(self, report: Report | None) -> None:
        self.seconds: dict[str, float] = {}
        self._report, self._done = report, 0

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[..., None]]:
        """Time a stage; the value reports the fraction of the stage."""
        began, part = time.perf_counter(), STAGES[name]

        def within(fraction: float, words: str = "", stage: str = "") -> None:
            if self._report is not None:
                self._report((self._done + part * fraction) / sum(STAGES.values()), words or name)

        within(0.0)
        yield within
        within(1.0)
        self.seconds[name] = time.perf_counter() - began
        self._done += part
