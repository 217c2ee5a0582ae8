"""`Evaluation`: the result of `evaluate`, and its files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import write_bytes, write_json
from ..plotting import paragraph
from ..values import file_path
from .classes import ClassRow
from .page import Shown, write_page
from .sets import MetricRow
from .verdict import Verdict

FORMAT, VERSION = "scorefield evaluation", 1
JSON, PAGE, PICTURES = "evaluation.json", "evaluation.html", "pictures"


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        title: What was evaluated.
        verdict: Learned, memorised or broke, with faults by name.
        features: Metrics in the feature space.
        examples: Metrics of the examples themselves.
        classes: Class by class; empty without classes.
        parts: Memorisation, health, classes' metrics and EMA sweep as JSON holds them; None for
            what was not measured.
        protocol: "measured", "subject" and "run"; see `record`.
        pictures: Pictures of the page, by name.
    """

    title: str
    verdict: Verdict
    features: tuple[MetricRow, ...]
    examples: tuple[MetricRow, ...]
    classes: tuple[ClassRow, ...]
    parts: Mapping[str, Any]
    protocol: Mapping[str, Any]
    pictures: Mapping[str, Shown] = field(default_factory=dict, repr=False)

    def row(self, metric: str, against: str = "held-out") -> MetricRow:
        """One metric by its name in `METRICS`.

        Args:
            metric: The name, such as "frechet".
            against: "held-out" or "training".

        Returns:
            The row; that of the feature space where a metric was measured in both spaces.

        Raises:
            InputError: It was not measured.
        """
        for row in (*self.features, *self.examples):
            if (row.metric, row.against) == (metric, against):
                return row
        known = ", ".join(dict.fromkeys(row.metric for row in (*self.features, *self.examples)))
        raise InputError(f"no metric {metric!r} against {against!r} was measured; {known} were")

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as evaluation.json holds it."""
        spaces = {"features": self.features, "examples": self.examples}
        return {
            "format": FORMAT,
            "version": VERSION,
            "title": self.title,
            "verdict": self.verdict.to_dict() | {"title": self.verdict.title},
            "metrics": [
                row.to_dict() | {"space": space} for space, rows in spaces.items() for row in rows
            ],
            "classes": [row.to_dict() for row in self.classes],
            **self.parts,
            "protocol": dict(self.protocol),
        }

    def html(self) -> str:
        """The page of the evaluation, one file that fetches nothing."""
        return write_page(self.to_dict(), self.pictures)

    def save(self, folder: str | Path, pictures: bool = False) -> list[Path]:
        """Write evaluation.json and evaluation.html.

        Args:
            folder: Where; it is made if it does not exist.
            pictures: Whether the pictures of the page are files of their own too, in the folder
                pictures.

        Returns:
            Both files, and the folder of pictures.
        """
        place = file_path(folder, "folder")
        written = [
            write_json(place / JSON, self.to_dict()),
            write_bytes(place / PAGE, self.html().encode()),
        ]
        if pictures:
            for name, shown in self.pictures.items():
                write_bytes(place / PICTURES / f"{name.replace(' ', '_')}.png", shown.png)
            written.append(place / PICTURES)
        return written

    def __repr__(self) -> str:
        lines = [paragraph(line) for line in (self.verdict.title, *self.verdict.lines)]
        return "\n".join([f"Evaluation of {self.title}", *lines])


def read_evaluation(path: str | Path) -> dict[str, Any]:
    """Read evaluation.json.

    Args:
        path: The file, or the folder that holds it.

    Returns:
        What `Evaluation.to_dict` gave.

    Raises:
        InputError: There is no such file, or it holds something else or another version.
    """
    place = file_path(path, "the evaluation")
    file = place / JSON if place.is_dir() else place
    hint = "Write one with `scorefield evaluate RUN --out DIR`"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InputError(f"the evaluation {file} cannot be read: {problem}. {hint}") from problem
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{file} is no evaluation: its 'format' is not {FORMAT!r}. {hint}")
    if content.get("version") != VERSION:
        raise InputError(
            f"{file} has version {content.get('version')!r} of the format, and this package reads "
            f"version {VERSION}. Evaluate anew"
        )
    return content
