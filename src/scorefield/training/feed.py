"""Pass lines of metrics and pictures to trackers; a tracker that fails is dropped."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..runs import Record
from .summary import Summary
from .trackers import Tracker, name_of


class Feed:
    """Passes lines of metrics and pictures to trackers.

    A tracker that raises an exception is dropped, with one notice, and training continues.

    Args:
        trackers: The trackers.
        notice: Receives messages for the user.
    """

    def __init__(self, trackers: Sequence[Tracker], notice: Callable[[str], None]) -> None:
        self._trackers, self._notice = list(trackers), notice

    def __len__(self) -> int:
        return len(self._trackers)

    def start(self, run: Path, config: Mapping[str, Any]) -> None:
        """Start all trackers.

        Args:
            run: The run directory, rewound to the checkpoint where training continues.
            config: The resolved settings.
        """
        self._each(lambda tracker: tracker.start(run, config))

    def log(self, line: Record, pictures: Mapping[str, Path] | None = None) -> None:
        """Pass a line of metrics.jsonl to all trackers.

        Args:
            line: The line.
            pictures: PNG files by name; those that do not exist are left out.
        """
        if not self._trackers:
            return
        values = series(line)
        shown = {name: path for name, path in (pictures or {}).items() if path.exists()}
        self._each(lambda tracker: tracker.log(int(line["images"]), values, shown))

    def finish(self, summary: Summary | None) -> None:
        """Finish all trackers that are left.

        Args:
            summary: How training ended; None where an exception ended it.
        """
        self._each(lambda tracker: tracker.finish(summary))
        self._trackers.clear()

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                call(tracker)
            except Exception as error:  # of any library; training must not end for it
                self._trackers.remove(tracker)
                self._notice(
                    f"the tracker {name_of(tracker)} failed and gets nothing more; training goes "
                    f"on ({type(error).__name__}: {error})"
                )


def series(line: Record) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl by name.

    Args:
        line: The line. Columns with a column sigma become one series a noise level:
            by_sigma/loss/0.5 is the training loss at sigma 0.5.

    Returns:
        Finite numbers; texts, verdicts and the images seen are left out.
    """
    found: dict[str, float] = {}
    for name, value in line.items():
        if name in ("images", "verdict"):
            continue
        if isinstance(value, Mapping):
            for column, numbers in value.items():
                if column not in ("sigma", "count", "se"):
                    pairs = zip(value["sigma"], numbers, strict=True)
                    found |= {f"{name}/{column}/{sigma:.4g}": number for sigma, number in pairs}
        else:
            found[name] = value
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
