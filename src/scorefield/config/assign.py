"""`override`: settings given by name, as texts such as "optim.lr=1e-3"."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import InputError
from ..values import describe, items, mapping, parse_count, parse_seconds
from .base import Group, split_type, takes_none, unknown_setting
from .groups.whole import Request

BUDGETS = {"images": "seconds", "seconds": "images"}  # each replaces the other


def override(request: Request, assignments: Iterable[str] | Mapping[str, Any]) -> Request:
    """Return a request with some settings replaced.

    A budget (`images` or `seconds`) replaces the other kind of budget that the request holds.
    All assignments are applied before values are checked against each other.

    Args:
        request: the settings to start from, for example a preset.
        assignments: texts "name=value", or a mapping from names to values. Names have dots:
            "optim.lr", "network.options.width". A text is read as the setting's type; "null"
            leaves a setting to be chosen, and so does "none" where it is no value of the setting,
            such as the name of a column.

    Returns:
        A new request; values of the assignments count as given, even where they are 0.

    Raises:
        InputError: a name is unknown, or a value is not of its type or range.
    """
    values = request.model_dump(exclude_unset=True)
    given: set[str] = set()
    for name, value in _pairs(assignments):
        _assign(values, name, value)
        given.add(name)
    for name, other in BUDGETS.items():
        if name in given and other not in given and values.get(name) is not None:
            values.pop(other, None)
    return type(request).from_dict(values)


def _pairs(assignments: Iterable[str] | Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(name with dots, value) of every assignment; groups given as mappings are taken apart."""
    if isinstance(assignments, Mapping):
        return list(_flat(assignments, Request, ""))
    pairs = []
    for text in items(assignments, "assignments", "a mapping, or a list of texts NAME=VALUE"):
        name, equals, value = text.partition("=") if isinstance(text, str) else ("", "", "")
        if not equals or not name.strip():
            raise InputError(
                "a setting is given as NAME=VALUE, for example optim.lr=1e-3; got "
                f"{text if isinstance(text, str) else describe(text)!r}"
            )
        pairs.append((name.strip(), value.strip()))
    return pairs


def _flat(values: Any, group: type[Group], prefix: str) -> Iterator[tuple[str, Any]]:
    """The entries of a mapping; an entry for a group of settings as one entry a setting."""
    for name, value in mapping(values, prefix.removesuffix(".") or "assignments").items():
        info = group.model_fields.get(name)
        kind = None if info is None else split_type(info.annotation)[0]
        if isinstance(kind, type) and issubclass(kind, Group):
            if isinstance(value, Group):
                value = value.to_dict(explicit=True)
            if not isinstance(value, str):
                yield from _flat(value, kind, f"{prefix}{name}.")
                continue
        yield f"{prefix}{name}", value


def _assign(values: dict[str, Any], path: str, value: Any) -> None:
    """Put one value into the nested dictionary `values`, read as its setting's type."""
    group: type[Group] = Request
    node = values
    *parents, last = path.split(".")
    for k, name in enumerate(parents):
        kind = _kind(group, name, ".".join(parents[: k + 1]))
        if isinstance(kind, type) and issubclass(kind, Group):
            group, node = kind, node.setdefault(name, {})
        elif _is_mapping(kind) and k == len(parents) - 1 and last:
            options = dict(node.get(name) or {})
            options[last] = _json_or_text(value) if isinstance(value, str) else value
            node[name] = options
            return
        else:
            raise InputError(f"{'.'.join(parents[: k + 1])} has no parts; got {path!r}")
    kind = _kind(group, last, path)
    if isinstance(kind, type) and issubclass(kind, Group) and isinstance(value, str):
        example = next(iter(kind.model_fields))
        raise InputError(
            f"{path} is a group of settings; name one of {', '.join(kind.model_fields)}, for "
            f"example {path}.{example}={value}"
        )
    node[last] = _read(group, last, value, path) if isinstance(value, str) else value


def _kind(group: type[Group], name: str, path: str) -> Any:
    """The plain type of a field."""
    if name not in group.model_fields:
        raise unknown_setting(path, group)
    return split_type(group.model_fields[name].annotation)[0]


def _is_mapping(kind: Any) -> bool:
    return getattr(kind, "__origin__", kind) is dict


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _read(group: type[Group], name: str, text: str, path: str) -> Any:
    """A text as the type of a field. Types and ranges are checked later, by the group."""
    kind, nullable, _ = split_type(group.model_fields[name].annotation)
    has_none = takes_none(group, name)
    if nullable and (text.lower() == "null" or (text.lower() == "none" and not has_none)):
        return None
    if kind is int:
        return parse_count(text, path)
    if path == "seconds":
        return parse_seconds(text, path)
    if getattr(kind, "__origin__", None) is tuple:
        return _parts(text)
    if _is_mapping(kind):
        value = _json_or_text(text)
        if not isinstance(value, dict):
            raise InputError(
                f'{path} takes a JSON object such as {{"width": 16}}, or one option as '
                f"{path}.width=16; got {text!r}"
            )
        return value
    return text


def _parts(text: str) -> tuple[Any, ...]:
    """A list as one types it: a,b or (a,b) or [a,b], names with commas in quotes, or JSON."""
    listed = _json_or_text(text)
    if isinstance(listed, list):
        return tuple(listed)
    if text[:1] + text[-1:] in ("()", "[]"):
        text = text[1:-1]
    parts = next(csv.reader([text], skipinitialspace=True), [])
    return tuple(part.strip() for part in parts if part.strip())
