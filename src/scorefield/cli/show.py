"""What the command line prints: messages, progress, and the result of a command.

Messages and results go to the standard output. With --quiet only errors are printed; with
--json the standard output holds the result as JSON, and messages go to the error stream. A terminal
gets a live bar, a log file a line every few seconds.
"""

import functools
import inspect
import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from ..progress import Report, duration
from ..progress import progress as show_progress

__all__ = [
    "Outcome",
    "began",
    "configure",
    "console",
    "duration",
    "error",
    "printing_command",
    "progress",
    "say",
    "stderr",
    "warn",
]

console = Console(highlight=False)
process_began: float | None = None  # `time.perf_counter()`, set by `cli.main`
stderr = Console(stderr=True, highlight=False)

PANEL = "What is printed"
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.", rich_help_panel=PANEL)]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print the result as JSON (files written, numbers, seconds); messages go to the error "
        "stream.",
        rich_help_panel=PANEL,
    ),
]


def configure(quiet: bool = False, as_json: bool = False) -> None:
    """Choose what is printed, and where.

    Args:
        quiet: errors only.
        as_json: messages go to the error stream.
    """
    console.quiet, console.stderr = quiet, as_json


def began() -> float:
    """`time.perf_counter()` when the command began, its imports included."""
    return time.perf_counter() if process_began is None else process_began


def say(text: str) -> None:
    """Print one message; nothing for ""."""
    if text:
        console.print(escape(text), soft_wrap=True)


def warn(text: str) -> None:
    """Print one message to the error stream; nothing for ""."""
    if text and not console.quiet:
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


@dataclass(frozen=True)
class Outcome:
    """What a command did; its last line and its JSON are made of it.

    Attributes:
        written: files and folders that were written.
        next: arguments of the next useful command, without "scorefield"; () for none.
        facts: numbers and names for --json.
        document: what the command prints as JSON, also without --json; with it, the fact of this
            name: (name, value).
        code: the exit code.
    """

    written: Sequence[Path] = ()
    next: Sequence[object] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    document: tuple[str, Any] | None = None
    code: int = 0

    @property
    def next_command(self) -> str:
        """The next command as one types it; "" for none."""
        return shlex.join(["scorefield", *map(str, self.next)]) if self.next else ""

    @property
    def words(self) -> str:
        """The last line: what was written, and the next useful command."""
        parts = []
        if self.written:
            parts.append(f"wrote {listed(self.written)}")
        if self.next:
            parts.append(f"{'next' if parts else 'Next'}: {self.next_command}")
        return "; ".join(parts)


def listed(paths: Sequence[Path]) -> str:
    """Paths with commas, as one types them; files in the folder of the path before by name."""
    shown = []
    for k, path in enumerate(paths):
        near = k > 0 and path.parent == paths[k - 1].parent
        folder = "/" if path.is_dir() else ""
        shown.append(shlex.quote(path.name if near else str(path)) + folder)
    return ", ".join(shown)


def printing_command(function: Callable[..., Any]) -> Callable[..., None]:
    """A command with --quiet and --json, which prints the `Outcome` that the function returns.

    Args:
        function: the command; it returns an `Outcome`, or None.

    Returns:
        The command for typer.
    """
    signature = inspect.signature(function)
    keyword = inspect.Parameter.KEYWORD_ONLY
    extra = [
        inspect.Parameter("quiet", keyword, default=False, annotation=Quiet),
        inspect.Parameter("json", keyword, default=False, annotation=AsJson),
    ]

    @functools.wraps(function)
    def run(**given: Any) -> None:
        as_json = given.pop("json")
        configure(given.pop("quiet"), as_json)
        start = began()
        outcome = function(**given) or Outcome()
        if as_json:
            name = function.__name__.removesuffix("_command")
            typer.echo(as_text(name, outcome, time.perf_counter() - start))
        elif outcome.document is not None:
            typer.echo(json_text(outcome.document[1]))
            warn(outcome.words)
        else:
            say(outcome.words)
        if outcome.code:
            raise typer.Exit(outcome.code)

    parameters = [*signature.parameters.values(), *extra]
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def as_text(command: str, outcome: Outcome, seconds: float) -> str:
    """The result of a command as JSON.

    Args:
        command: name of the command.
        outcome: what it did.
        seconds: its wall time.
    """
    return json_text(
        {
            "command": command,
            **outcome.facts,
            **dict([outcome.document] if outcome.document else []),
            "written": [str(path) for path in outcome.written],
            "next": outcome.next_command or None,
            "seconds": round(seconds, 3),
        }
    )


def json_text(value: Any) -> str:
    """A value as indented JSON; numbers that are not finite become null."""
    from ..files import json_ready
    from ..values import plain_tree

    return json.dumps(json_ready(plain_tree(value)), indent=2, allow_nan=False)
