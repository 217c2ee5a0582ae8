"""Options about the model, the seed, and where the arithmetic runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ...config import ExecutionRequest
from .. import completion
from .settings import setting_option

PANEL = "Where it runs"

Run = Annotated[
    Path,
    typer.Argument(
        help="A run's folder or a .safetensors model file.", autocompletion=completion.runs
    ),
]
NetworkFile = Annotated[
    str | None,
    typer.Option(
        "--network",
        metavar="FILE.py:NAME",
        help="Class or function without arguments that makes the model's network, for models of "
        "your own network. The file's code is run.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(min=0, help="Decides all noise: sample k is a function of the seed and k alone."),
]
Device = Annotated[str | None, setting_option("execution.device", panel=PANEL)]
Precision = Annotated[str | None, setting_option("execution.precision", panel=PANEL)]
Compile = Annotated[str | None, setting_option("execution.compile", panel=PANEL)]
Threads = Annotated[int | None, setting_option("execution.threads", panel=PANEL)]


@dataclass(frozen=True)
class Execution:
    """Where and how the arithmetic runs: a group of options."""

    device: Device = None
    precision: Precision = None
    compile: Compile = None
    threads: Threads = None

    def request(self) -> ExecutionRequest:
        """The options as settings, checked.

        Raises:
            InputError: a value is out of range.
        """
        return ExecutionRequest.from_dict(vars(self))

    def settings(self) -> dict[str, object]:
        """The options by the names of their settings."""
        return {f"execution.{name}": value for name, value in vars(self).items()}


def execution_request(
    device: str | None = None,
    precision: str | None = None,
    compile: str | None = None,
    threads: int | None = None,
) -> ExecutionRequest:
    """Execution options as settings, checked.

    Raises:
        InputError: a value is out of range.
    """
    return Execution(device, precision, compile, threads).request()
