"""Measurements in a .json, so that an interrupted bench goes on."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scorefield.errors import InputError
from scorefield.files import write_json

Record = dict[str, Any]


@dataclass(frozen=True)
class Kept:
    """Measurements in a .json, each written as soon as it is finished."""

    path: Path
    tell: Callable[[str], None] = print

    def read(self) -> Record:
        """All measurements so far."""
        found: Record = json.loads(self.path.read_text()) if self.path.exists() else {}
        return found

    def require(self, protocol: Record) -> None:
        """Refuse a folder whose models were trained otherwise; note how they are trained."""
        found = self.read()
        if found.setdefault("protocol", protocol) != protocol:
            raise InputError(
                f"{self.path} has measurements of {found['protocol']}, not of {protocol}; "
                "choose another folder"
            )
        write_json(self.path, found)

    def get(self, name: str, measure: Callable[[], Any]) -> Any:
        """The measurement of this name; it is made where it does not exist yet."""
        found = self.read()
        if name not in found:
            found[name] = measure()
            write_json(self.path, found)
        self.tell(f"{name}: {found[name]}")
        return found[name]
