"""`ReadOptions`: how a source is to be read. They are the reading settings of the group `data`."""

from dataclasses import dataclass, fields, replace
from typing import Any

from ..config.groups import DataRequest
from ..errors import InputError


@dataclass(frozen=True)
class ReadOptions:
    """Options of `open`; each decides what would be ambiguous or would lose information.

    None leaves the decision to the reader, which refuses what is not clear. The fields have the
    meaning of the settings `data.*` of the same names (`scorefield settings data`).

    Attributes:
        size: Height and width, or one number for both, of the pictures of a folder.
        count: How many examples to take, chosen by the seed; of a toy density the number of points.
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

    @staticmethod
    def of_settings(settings: DataRequest) -> "ReadOptions":
        """The reading options among the settings of the group `data`."""
        known = [f.name for f in fields(ReadOptions) if f.name not in ("count", "seed")]
        return ReadOptions(**{name: getattr(settings, name) for name in known})

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
        checked = {k: v for k, v in named.items() if k not in ("count", "seed", "size")}
        settings = DataRequest.from_dict({"source": "data"} | checked)
        read = {name: getattr(settings, name) for name in checked}
        rest = {k: v for k, v in named.items() if k in ("count", "seed", "size")}
        return replace(self, **read, **rest)
