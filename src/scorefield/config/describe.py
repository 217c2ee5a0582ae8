"""The settings as a table and as a JSON schema, read from the groups' fields."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic_core import PydanticUndefined

from .base import Group, choices, split_type
from .groups.whole import Config, Request


@dataclass(frozen=True)
class Setting:
    """One setting, as help and documentation show it.

    Attributes:
        name: with its group, such as "optim.lr".
        kind: type in words: "number", "whole number", "text", "true or false", "numbers with
            commas", "names with commas", "mapping" or "choice".
        accepts: choices or range in words; "" where every value of the type is valid.
        default: default value, or how the value is chosen, in words.
        description: what the setting does, with its unit.
        optional: whether None is a value: "choose for me", or absent.
    """

    name: str
    kind: str
    accepts: str
    default: str
    description: str
    optional: bool


def settings(group: type[Group] = Request, resolved: type[Group] = Config) -> list[Setting]:
    """List every setting in the order of declaration.

    Args:
        group: the requested side, which has the defaults.
        resolved: the resolved side, which has the ranges.

    Returns:
        One row for each setting.
    """
    return list(_rows(group, resolved))


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a `Request`."""
    return Request.model_json_schema()


def _rows(group: type[Group], resolved: type[Group]) -> Iterator[Setting]:
    for name, info in group.model_fields.items():
        annotation, optional, outer = split_type(info.annotation)
        if isinstance(annotation, type) and issubclass(annotation, Group):
            yield from _rows(annotation, split_type(resolved.model_fields[name].annotation)[0])
            continue
        inner = resolved.model_fields[name]
        metadata = [*info.metadata, *outer, *inner.metadata]
        extra = inner.json_schema_extra if isinstance(inner.json_schema_extra, dict) else {}
        path = f"{group.group}.{name}" if group.group else name
        kind, accepts = _kind(annotation), _range(annotation, metadata)
        default = str(extra.get("chosen", "")) or _default(info.default)
        yield Setting(path, kind, accepts, default, inner.description or "", optional)


def _kind(annotation: Any) -> str:
    if choices(annotation):
        return "choice"
    origin = getattr(annotation, "__origin__", annotation)
    words = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    if origin is tuple:
        return "names with commas" if get_args(annotation)[0] is str else "numbers with commas"
    return words.get(origin) or "mapping"


def _range(annotation: Any, metadata: list[Any]) -> str:
    if choices(annotation):
        return ", ".join(choices(annotation))
    constraints = list(_flat(metadata))
    parts = _length(annotation, constraints)
    for item in constraints:
        words = {
            Gt: "above {gt:g}",
            Ge: "at least {ge:g}",
            Lt: "below {lt:g}",
            Le: "at most {le:g}",
        }
        if type(item) in words and abs(_bound(item)) < 1e15:
            text = words[type(item)].format(**vars_of(item))
            parts += [] if text in parts else [text]
    return ", ".join(parts)


def _length(annotation: Any, constraints: list[Any]) -> list[str]:
    """How many characters or values are needed, in words."""
    least = max((c.min_length for c in constraints if isinstance(c, MinLen)), default=0)
    most = min((c.max_length for c in constraints if isinstance(c, MaxLen)), default=None)
    unit = "character" if annotation is str else "value"
    if most is not None:
        count = f"{least} to {most}" if least < most else str(most)
        return [f"{count} {unit}{'s' if most > 1 else ''}"]
    if least == 0:
        return []
    return ["not empty" if annotation is str else f"{least} or more"]


def _flat(metadata: list[Any]) -> Iterator[Any]:
    """Constraints in metadata, those inside FieldInfo included."""
    for item in metadata:
        yield from getattr(item, "metadata", None) or [item]


def vars_of(bound: Any) -> dict[str, float]:
    """The bound of an annotated_types constraint as {"gt": 0.0}."""
    return {name: float(getattr(bound, name)) for name in bound.__slots__}


def _bound(item: Any) -> float:
    return next(iter(vars_of(item).values()))


def _default(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(f"{v:g}" for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
