"""`ReadOptions`: how a source is to be read. They are the reading settings of the group `data`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..config.groups.data import ConditionRequest, DataRequest
from ..errors import InputError
from ..values import one_of

OWN = ("count", "seed", "size", "condition", "condition_from")  # no settings of the group `data`


@dataclass(frozen=True)
class ReadOptions:
    """Options of `open`; each decides what would be ambiguous or would lose information.

    None leaves the decision to the reader, which refuses what is not clear. The fields have the
    meaning of the settings `data.*` of the same names (`scorefield settings data`).

    Attributes:
        size: Height and width, or one number for both, of the pictures of a folder.
        count: How many examples to take, chosen by the seed; of a toy density the number of points.
        condition: "class" or "vector": what a model of the data is conditioned on; None: nothing.
        condition_from: Where it comes from: names of columns of a table, the key of an array, the
            path of another file, or an array or table with one row for each example of the source,
            those that are left out included. None: the labels that the data bring.
        seed: The seed of that choice, 0 or more.
    """

    size: int | tuple[int, int] | None = None
    channels: int | None = None
    channels_last: bool | None = None
    key: str | None = None
    image: bool | None = None
    range: tuple[float, float] | None = None
    alpha: str | None = None
    skip_unreadable: bool = False
    header: bool | None = None
    delimiter: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    columns: tuple[str, ...] | None = None
    missing: str | None = None
    discrete: tuple[str, ...] | None = None
    bounds: str = "data"
    count: int | None = None
    seed: int = 0
    condition: str | None = None
    condition_from: Any = None

    @staticmethod
    def of_settings(
        settings: DataRequest, condition: ConditionRequest | None = None
    ) -> "ReadOptions":
        """The reading options among the settings of the groups `data` and `condition`."""
        known = [f.name for f in fields(ReadOptions) if f.name in DataRequest.model_fields]
        read = ReadOptions(**{name: getattr(settings, name) for name in known})
        if condition is None or condition.kind == "none":
            return read
        return replace(read, condition=condition.kind, condition_from=condition.source)

    def merge(self, **named: Any) -> "ReadOptions":
        """These options with some replaced; values are checked as settings are.

        Raises:
            InputError: An option is unknown or its value is out of range.
        """
        known = {f.name for f in fields(self)}
        for name in named:
            if name not in known:
                raise InputError(
                    f"there is no reading option {name!r}; the options are "
                    f"{', '.join(sorted(known))}"
                )
        checked = {k: v for k, v in named.items() if k not in OWN}
        settings = DataRequest.from_dict({"source": "data"} | checked)
        read = {name: getattr(settings, name) for name in checked}
        rest = {k: v for k, v in named.items() if k in OWN}
        if "condition" in rest or "condition_from" in rest:
            rest |= _condition({"condition": self.condition} | rest)
        return replace(self, **read, **rest)


def is_names(origin: Any) -> bool:
    """Whether the origin of a condition is one or several names or paths, as a tuple of texts."""
    return isinstance(origin, tuple) and all(isinstance(name, str) for name in origin)


def read_origin(kind: str | None, origin: Any) -> Any:
    """The origin of a condition: names and paths as a tuple of texts, anything else as it is.

    Args:
        kind: "class", "vector" or None.
        origin: What was given. A class has one name, so that several texts are its labels.

    Raises:
        InputError: An empty list.
    """
    if isinstance(origin, str | os.PathLike):
        return (os.fspath(origin),)
    if not isinstance(origin, list | tuple) or not all(isinstance(one, str) for one in origin):
        return origin
    if not origin:
        raise InputError("condition_from names no column; give one or more")
    return list(origin) if kind == "class" and len(origin) > 1 else tuple(map(str, origin))


def _condition(named: Mapping[str, Any]) -> dict[str, Any]:
    """The options condition and condition_from, checked; names become a tuple."""
    kind, origin = named["condition"], named.get("condition_from")
    kind = None if kind == "none" else kind
    if kind is not None:
        kind = one_of(kind, ("class", "vector"), "condition")
    return {"condition": kind, "condition_from": read_origin(kind, origin)}
