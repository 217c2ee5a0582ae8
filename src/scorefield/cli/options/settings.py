"""Options that stand for settings of `train`: help, range and default come from the setting."""

from collections.abc import Callable
from typing import Any

import typer

from ...config import settings
from .. import completion

SETTINGS = {row.name: row for row in settings()}


def setting_option(
    name: str,
    *flags: str,
    required: bool = False,
    panel: str | None = None,
    metavar: str | None = None,
    complete: Callable[[str], Any] | None = None,
) -> Any:
    """An option for a setting, with the setting's description, range and default as its help.

    Args:
        name: the setting, such as "optim.lr".
        flags: names of the option; none: the parameter's name.
        required: whether the option must be given, so that the default does not matter.
        panel: the part of the help that lists the option; None: the first part.
        metavar: the word that stands for the value in the help.
        complete: what the shell completes; None: the setting's choices.
    """
    row = SETTINGS[name]
    choices = row.accepts.split(", ") if row.kind == "choice" else []
    text = row.description
    if choices and not all(choice in text for choice in choices):
        text = f"{row.accepts}: {text}"
    elif row.accepts and not choices and row.accepts not in ("not empty", "1 or more"):
        text = f"{text} {row.accepts[0].upper()}{row.accepts[1:]}."
    if complete is None and choices:
        complete = completion.words(choices)
    return typer.Option(
        *flags,
        help=text,
        show_default=False if required else row.default,
        rich_help_panel=panel,
        metavar=metavar,
        autocompletion=complete,
    )
