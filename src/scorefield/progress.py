"""Progress of long work: a bar on a terminal, a rewritten line in a notebook, lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

LINE_SECONDS = 5.0  # between two lines of a log
REWRITE_SECONDS = 0.5  # between two versions of a notebook's line


def duration(seconds: float) -> str:
    """Seconds in words: 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


class Report(Protocol):
    """Reports how much of the work is done (a fraction in [0, 1]) and a few words about it."""

    def __call__(self, fraction: float, words: str, stage: str = "") -> None:
        """Report; the name of a last `stage` takes the place of title, percentage and time left."""


def in_notebook() -> bool:
    """Whether the code runs in an IPython kernel, as in Jupyter, Colab or VS Code."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def is_watched(console: Console) -> bool:
    """Whether a person sees the output at once: on a terminal or in a notebook."""
    return console.is_terminal or in_notebook()


@contextmanager
def progress(title: str, console: Console, log: bool = False) -> Iterator[Report]:
    """Show progress during the block; the time left is estimated from the fraction done.

    Args:
        title: What is in progress.
        console: Where the bar or the lines go.
        log: Whether output that is neither a terminal nor a notebook gets a line every few
            seconds. False: it gets nothing.

    Yields:
        The function that reports.
    """
    began = time.monotonic()
    if console.is_terminal:
        with _bar(title, console, began) as report:
            yield report
    elif in_notebook():
        yield _paced(title, began, REWRITE_SECONDS, _notebook_line())
    elif log:
        yield _paced(
            title,
            began,
            LINE_SECONDS,
            lambda line: console.print(line, soft_wrap=True, markup=False),
        )
    else:
        yield lambda fraction, words, stage="": None


class _Left:
    """The time left, estimated from the first report on: resumed work does not begin at 0."""

    def __init__(self, began: float) -> None:
        self.began, self.first = began, 0.0
        self.fresh = True

    def __call__(self, fraction: float) -> str:
        """The time left in words; "" where it cannot be estimated."""
        now = time.monotonic()
        if self.fresh and fraction > 0.05:
            self.began, self.first = now, fraction
        self.fresh = False
        done = fraction - self.first
        if done < 0.01 or fraction >= 1:
            return ""
        return f"{duration((now - self.began) * (1 - fraction) / done)} left"


@contextmanager
def _bar(title: str, console: Console, began: float) -> Iterator[Report]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[percent]:>4}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[words]}"),
    )
    with Progress(*columns, console=console) as bar:
        task, left = bar.add_task(title, total=1.0, words="", percent="0%"), _Left(began)

        def report(fraction: float, words: str, stage: str = "") -> None:
            bar.update(
                task,
                description=stage or title,
                completed=fraction,
                percent="" if stage else f"{fraction:.0%}",
                words=words if stage else f"{left(fraction)}  {words}",
            )

        yield report


def _paced(title: str, began: float, seconds: float, show: Callable[[str], None]) -> Report:
    """A report that shows one line, at most every `seconds` and always at the end."""
    last, left = -seconds, _Left(began)

    def report(fraction: float, words: str, stage: str = "") -> None:
        nonlocal last
        fraction = min(fraction, 1.0)
        spent = time.monotonic() - began
        if stage:
            show("  ".join([stage, duration(spent), words]))
        elif spent - last >= seconds or fraction >= 1:
            last = spent
            show("  ".join([f"{title} {fraction:4.0%}", duration(spent), left(fraction), words]))

    return report


def _notebook_line() -> Callable[[str], None]:
    """A function that rewrites one line of a notebook's output."""
    from IPython.display import display

    handle = display({"text/plain": ""}, raw=True, display_id=True)
    return lambda line: handle.update({"text/plain": line}, raw=True)
