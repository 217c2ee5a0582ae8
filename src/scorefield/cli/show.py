"""What the command line prints: messages, progress, tables.

A terminal gets a live bar, a log file a line every few seconds.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

console = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)
LINE_SECONDS = 5.0


def say(text: str) -> None:
    """Print one message."""
    console.print(escape(text), soft_wrap=True)


def warn(text: str) -> None:
    """Print one message to the error stream."""
    stderr.print(escape(text), soft_wrap=True)


def error(text: str) -> None:
    """Print one error to the error stream."""
    stderr.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds in words: 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


class Report(Protocol):
    """Reports how much of the work is done (a fraction in [0, 1]) and a few words about it."""

    def __call__(self, fraction: float, words: str) -> None:
        """Report."""


@contextmanager
def progress(title: str) -> Iterator[Report]:
    """Show progress during the block; the time left is estimated from the fraction done.

    Args:
        title: what is in progress.

    Yields:
        The function that reports.
    """
    began = time.monotonic()

    def left(fraction: float) -> str:
        spent = time.monotonic() - began
        return f"{duration(spent * (1 - fraction) / fraction)} left" if 0.01 < fraction < 1 else ""

    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[words]}"),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(title, total=1.0, words="")
            yield lambda fraction, words: bar.update(
                task, completed=fraction, words=f"{left(fraction)}  {words}"
            )
        return
    last = -LINE_SECONDS

    def line(fraction: float, words: str) -> None:
        nonlocal last
        fraction = min(fraction, 1.0)
        spent = time.monotonic() - began
        if spent - last >= LINE_SECONDS or fraction >= 1:
            last = spent
            say(f"{title} {fraction:4.0%}  {duration(spent)}  {left(fraction)}  {words}")

    yield line
