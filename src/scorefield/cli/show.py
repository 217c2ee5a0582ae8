"""What the command line prints: messages, progress, tables.

A terminal gets a live bar, a log file a line every few seconds.
"""

from contextlib import AbstractContextManager

from rich.console import Console
from rich.markup import escape

from ..progress import Report, duration
from ..progress import progress as show_progress

__all__ = ["console", "duration", "error", "progress", "say", "stderr", "warn"]

console = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print one message."""
    console.print(escape(text), soft_wrap=True)


def warn(text: str) -> None:
    """Print one message to the error stream."""
    stderr.print(escape(text), soft_wrap=True)


def error(text: str) -> None:
    """Print one error to the error stream."""
    stderr.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)


def progress(title: str) -> AbstractContextManager[Report]:
    """Show progress during a block: a bar on a terminal, a line every few seconds in a log.

    Args:
        title: what is in progress.

    Returns:
        A context whose value is the function that reports.
    """
    return show_progress(title, console, log=True)
