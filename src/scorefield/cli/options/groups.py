"""Groups of options: a command takes one parameter, its help lists every option of the group.

A group is a frozen dataclass whose fields are options, `Annotated[type, typer.Option(...)]`.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def with_groups(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose groups of options are taken apart into their options.

    Args:
        function: the command. Parameters whose annotation is a dataclass are groups.

    Returns:
        A function with one keyword for each option, which calls the command with groups.
    """
    groups: dict[str, Any] = {}
    options: list[inspect.Parameter] = []
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        kind = parameter.annotation
        if isinstance(kind, type) and is_dataclass(kind):
            groups[parameter.name] = kind
            hints = get_type_hints(kind, include_extras=True)
            options += [_option(f.name, hints[f.name], f.default) for f in fields(kind)]
        else:
            options.append(_option(parameter.name, kind, parameter.default))

    @functools.wraps(function)
    def run(**given: Any) -> Any:
        made = {
            name: kind(**{f.name: given.pop(f.name) for f in fields(kind)})
            for name, kind in groups.items()
        }
        return function(**given, **made)

    vars(run)["__signature__"] = inspect.Signature(options)
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run
