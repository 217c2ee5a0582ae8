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

    def __call__(self, fraction: float, words: str) -> None:
        """Report."""


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
        yield lambda fraction, words: None


def _left(began: float, fraction: float) -> str:
    """The time left in words; "" where it cannot be estimated."""
    spent = time.monotonic() - began
    return f"{duration(spent * (1 - fraction) / fraction)} left" if 0.01 < fraction < 1 else ""


@contextmanager
def _bar(title: str, console: Console, began: float) -> Iterator[Report]:
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
            task, completed=fraction, words=f"{_left(began, fraction)}  {words}"
        )


def _paced(title: str, began: float, seconds: float, show: Callable[[str], None]) -> Report:
    """A report that shows one line, at most every `seconds` and always at the end."""
    last = -seconds

    def report(fraction: float, words: str) -> None:
        nonlocal last
        fraction = min(fraction, 1.0)
        spent = time.monotonic() - began
        if spent - last >= seconds or fraction >= 1:
            last = spent
            parts = [f"{title} {fraction:4.0%}", duration(spent), _left(began, fraction), words]
            show("  ".join(parts))

    return report


def _notebook_line() -> Callable[[str], None]:
    """A function that rewrites one line of a notebook's output."""
    from IPython.display import display

    handle = display({"text/plain": ""}, raw=True, display_id=True)
    return lambda line: handle.update({"text/plain": line}, raw=True)
