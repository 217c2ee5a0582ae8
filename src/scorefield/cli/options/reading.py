"""Options that decide how data are read. They are the settings `data.*` of the same names."""

from dataclasses import dataclass
from typing import Annotated, Any

from .settings import setting_option

PANEL = "Reading the data"


def _option(name: str, *flags: str, metavar: str | None = None) -> Any:
    return setting_option(f"data.{name}", *flags, panel=PANEL, metavar=metavar)


@dataclass(frozen=True)
class Reading:
    """How data are read: a group of options. The reader decides where one is None.

    Lists are kept as they were typed, with commas.
    """

    channels_last: Annotated[
        bool | None, _option("channels_last", "--channels-last/--no-channels-last")
    ] = None
    channels: Annotated[int | None, _option("channels")] = None
    size: Annotated[int | None, _option("size", metavar="PIXELS")] = None
    image: Annotated[bool | None, _option("image", "--image/--no-image")] = None
    range: Annotated[str | None, _option("range", metavar="LOW,HIGH")] = None
    alpha: Annotated[str | None, _option("alpha")] = None
    skip_unreadable: Annotated[bool, _option("skip_unreadable", "--skip-unreadable")] = False
    key: Annotated[str | None, _option("key", metavar="NAME")] = None
    header: Annotated[bool | None, _option("header", "--header/--no-header")] = None
    delimiter: Annotated[str | None, _option("delimiter", metavar="MARK")] = None
    decimal: Annotated[str | None, _option("decimal", metavar="MARK")] = None
    thousands: Annotated[str | None, _option("thousands", metavar="MARK")] = None
    columns: Annotated[str | None, _option("columns", metavar="NAME,NAME,…")] = None
    missing: Annotated[str | None, _option("missing")] = None
    discrete: Annotated[str | None, _option("discrete", metavar="NAME,NAME,…")] = None
    bounds: Annotated[str | None, _option("bounds")] = None

    def settings(self) -> dict[str, object]:
        """The options that were given, by the names of their settings."""
        found = {f"data.{name}": value for name, value in vars(self).items()}
        if not self.skip_unreadable:
            del found["data.skip_unreadable"]
        return {name: value for name, value in found.items() if value is not None}

    def options(self) -> Any:
        """The options as `ReadOptions`, for readers; None where none was given.

        Raises:
            InputError: a value is out of range.
        """
        from ...config import Request, override
        from ...data.options import ReadOptions

        given = self.settings()
        if not given:
            return None
        texts = [f"{name}={value}" for name, value in given.items()]
        return ReadOptions.of_settings(override(Request(), texts).data)
