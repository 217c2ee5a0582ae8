"""`train_with_progress`: training as the command line and a notebook show it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

from ..config import Request
from ..progress import is_watched, progress
from .run import train
from .summary import Hooks, Summary
from .trackers import Tracker, read_trackers


def train_with_progress(
    request: Request,
    run: str | Path,
    data: Any = None,
    network: nn.Module | None = None,
    *,
    console: Console,
    log: bool = False,
    checkpoint_seconds: float = 60.0,
    restart: bool = False,
    began: float | None = None,
    trackers: Sequence[Tracker | str] = (),
) -> Summary:
    """`train`, with its progress and its notices on a terminal, in a notebook, or in a log.

    Args:
        request: The settings.
        run: The run directory.
        data: Anything that `data.open` takes; None: request.data.source.
        network: The user's own network, of which a copy is trained.
        console: Where the output goes.
        log: Whether output that is neither a terminal nor a notebook gets lines; False: it gets
            nothing.
        checkpoint_seconds: Seconds between checkpoints.
        restart: Whether to set aside what the run directory holds, and begin again.
        began: `time.perf_counter()` from which a time budget counts; None: now.
        trackers: As for `Hooks`.

    Returns:
        How the run ended.

    Raises:
        InputError: Where data, settings or the run directory do not fit. Nothing is written then.
        NonFiniteError: Where a loss or gradient is not finite; nothing of that step is applied.
    """
    loud = log or is_watched(console)

    def say(text: str) -> None:
        if loud:
            console.print(text, soft_wrap=True, markup=False)

    found = read_trackers(trackers)
    with progress("training", console, log) as report:
        hooks = Hooks(lambda p: report(p.fraction, p.words, p.stage), say, found)
        summary = train(request, run, data, network, hooks, checkpoint_seconds, restart, began)
        if not summary.signal:
            report(1.0, f"{summary.images:,} images")
    return summary
