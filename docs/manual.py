"""Pages of the command line, the settings and the samplers, made from the program itself."""

import dataclasses
from typing import Any

import typer

from reference import escape, title
from scorefield.cli.app import app
from scorefield.config import settings
from scorefield.sampling import SAMPLERS

COMMON = ("Where it runs", "What is printed")  # groups of options that are listed once


def cell(text: Any) -> str:
    """A table cell: one line, no markup but code."""
    return escape(" ".join(str(text).split()))


def table(rows: list[tuple[str, ...]], widths: str, header: bool = False) -> list[str]:
    """A list-table; with `header` the first row is one."""
    lines = [".. list-table::", f"   :widths: {widths}", f"   :header-rows: {int(header)}", ""]
    for row in rows:
        lines += [f"   {'* -' if k == 0 else '  -'} {text}" for k, text in enumerate(row)]
    return [*lines, ""]


def default_of(option: Any) -> str:
    """The default of an option, in words."""
    if option.required:
        return "required"
    if isinstance(option.show_default, str):
        return option.show_default
    if option.default is None or option.default is False or callable(option.default):
        return ""
    return str(option.default)


def names_of(option: Any) -> str:
    """An option's names and the form of its value, as code."""
    if option.param_type_name == "argument":
        return f"``{option.name.upper()}``"
    names = " / ".join([*option.opts, *option.secondary_opts])
    value = f" {option.metavar}" if option.metavar else ""
    return f"``{names}{value}``"


def options_table(options: list[Any]) -> list[str]:
    """The options of a command: names, meaning, default."""
    rows = [(names_of(o), cell(getattr(o, "help", "") or ""), cell(default_of(o))) for o in options]
    return table(rows, "28 52 20")


def panel(option: Any) -> str:
    """The group that help shows an option in."""
    return getattr(option, "rich_help_panel", None) or ""


def commands_page() -> str:
    """Every command with its options, as `--help` gives them."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = [*title("Commands"), "Every command has ``--help``; :doc:`/errors` has exit codes.", ""]
    shared: dict[str, Any] = {}
    for name, command in commands.items():
        shown = [o for o in command.params if not getattr(o, "hidden", False)]
        shared |= {o.name: o for o in shown if panel(o) in COMMON}
        lines += [*title(f"scorefield {name}", "-"), escape(command.help or ""), ""]
        lines += options_table([o for o in shown if panel(o) not in COMMON])
    lines += [*title("Options of all commands that need them", "-")]
    return "\n".join([*lines, *options_table(list(shared.values()))])


def settings_page() -> str:
    """Every setting of training with its range, default and meaning."""
    lines = [*title("Settings"), "Set by ``--set NAME=VALUE`` or ``settings={name: value}``.", ""]
    groups: dict[str, list[tuple[str, ...]]] = {}
    for s in settings():
        accepts = f"{s.kind}; {s.accepts}" if s.accepts else s.kind
        row = (f"``{s.name}``", cell(s.description), cell(accepts), cell(s.default))
        groups.setdefault(s.name.partition(".")[0] if "." in s.name else "whole", []).append(row)
    for name, rows in groups.items():
        heading = [("name", "meaning", "accepts", "default")]
        lines += [*title("the run" if name == "whole" else name, "-")]
        lines += table(heading + rows, "22 40 20 18", header=True)
    return "\n".join(lines)


def samplers_page() -> str:
    """Every sampler with its options."""
    lines = [*title("Samplers and their options"), "Which one to take: :doc:`/samplers`.", ""]
    rows = []
    for name, kind in SAMPLERS.items():
        options = ", ".join(f"{f.name}={_default(f)}" for f in dataclasses.fields(kind))
        link = f":py:obj:`{name} <scorefield.sampling.{kind.__name__}>`"
        rows.append((link, cell(kind.help), f"``{options}``" if options else ""))
    return "\n".join([*lines, *table(rows, "22 48 30")])


def _default(field: Any) -> str:
    """The default of a kernel's option."""
    if field.default is dataclasses.MISSING:
        return str(field.default_factory().__class__.__name__)
    return str(field.default)


def pages() -> dict[str, str]:
    """Names and texts of the pages."""
    return {
        "commands": commands_page(),
        "settings": settings_page(),
        "samplers": samplers_page(),
    }
