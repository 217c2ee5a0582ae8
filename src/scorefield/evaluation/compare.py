"""`compare`: two evaluations side by side, where their numbers were made in the same way."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .estimate import METRICS
from .page import ARROWS, summary, verdict_card
from .page_parts import KEY, bar, escape, interval, page, record, table
from .record import differences
from .result import Evaluation, read_evaluation

IN_BOTH = ("precision", "recall", "coverage")
FORMAT, VERSION = "scorefield comparison", 1


@dataclass(frozen=True)
class ComparedRow:
    """One metric of two evaluations.

    Attributes:
        metric: Key in `METRICS`.
        space: "features" or "examples".
        against: "held-out" or "training".
        first: The estimate of the first evaluation, as JSON holds it.
        second: The estimate of the second evaluation.
        floor: Data against data, in the first evaluation.
        better: "first", "second", or "" where their intervals overlap.
    """

    metric: str
    space: str
    against: str
    first: Mapping[str, Any]
    second: Mapping[str, Any]
    floor: Mapping[str, Any]
    better: str

    @property
    def title(self) -> str:
        """Name for tables; the space where the metric is measured in both."""
        of = " of examples" if self.space == "examples" and self.metric in IN_BOTH else ""
        return METRICS[self.metric].title + of


@dataclass(frozen=True)
class Comparison:
    """Two evaluations side by side.

    Attributes:
        first: One evaluation as JSON holds it.
        second: The other one.
        names: Names of both, for tables.
        rows: Metrics that both have.
        subjects: (name, first value, second value) of each difference of the protocols' subjects.
    """

    first: Mapping[str, Any]
    second: Mapping[str, Any]
    names: tuple[str, str]
    rows: tuple[ComparedRow, ...]
    subjects: tuple[tuple[str, Any, Any], ...]

    @property
    def sentence(self) -> str:
        """Which of the two is better in how many metrics."""
        held_out = [row for row in self.rows if row.against == "held-out"]
        counts = [sum(row.better == side for row in held_out) for side in ("first", "second")]
        rest = len(held_out) - sum(counts)
        return (
            f"Of {len(held_out)} metrics against held-out data {self.names[0]} is better in "
            f"{counts[0]}, {self.names[1]} in {counts[1]}; in {rest} the intervals overlap."
        )

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON holds it."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "names": list(self.names),
            "sentence": self.sentence,
            "verdicts": [self.first["verdict"], self.second["verdict"]],
            "metrics": [dict(vars(row)) for row in self.rows],
            "differences": [list(entry) for entry in self.subjects],
            "protocol": self.first["protocol"]["measured"],
        }

    def html(self) -> str:
        """The comparison as one page that fetches nothing."""
        cards = [
            f"<h2>{escape(name)}</h2>"
            f'<p class="soft">{escape(summary(one))}</p>{verdict_card(one["verdict"])}'
            for name, one in zip(self.names, (self.first, self.second), strict=True)
        ]
        title = f"{self.names[0]} and {self.names[1]}"
        body = [
            f"<h1>{escape(title)}</h1>",
            f"<p>{escape(self.sentence)}</p>",
            *cards,
            "<h2>Metrics side by side</h2>",
            KEY,
            *self._tables(),
            "<h2>What differs between them</h2>",
            table(
                ("", *self.names),
                [(escape(n), escape(a), escape(b)) for n, a, b in self.subjects],
                numbers=3,
                stack=True,
            ),
            "<h2>Protocol of both</h2>",
            f'<div class="card">{record(self.first["protocol"]["measured"])}</div>',
        ]
        return page(title, body)

    def _tables(self) -> list[str]:
        found = []
        for against in ("held-out", "training"):
            cells = []
            for row in self.rows:
                if row.against != against:
                    continue
                metric = METRICS[row.metric]
                name = f'{escape(row.title)}<br><span class="soft">{ARROWS[metric.better]}</span>'
                marks = ["<b>" if row.better == side else "" for side in ("first", "second")]
                sides = [
                    bar(one, row.floor, other) + mark + interval(one) + ("</b>" if mark else "")
                    for one, other, mark in zip(
                        (row.first, row.second), (row.second, row.first), marks, strict=True
                    )
                ]
                cells.append((name, *sides, interval(row.floor)))
            if cells:
                heads = ("", *self.names, "data against data")
                words = f"Against {against} data; the better one in bold, unless intervals overlap"
                found.append(table(heads, cells, words, stack=True))
        return found


def compare(first: Any, second: Any, names: tuple[str, str] | None = None) -> Comparison:
    """Compare two evaluations that were made in the same way.

    Args:
        first: An `Evaluation`, or the path of evaluation.json or of its folder.
        second: The other one.
        names: What they are called; None: their titles, or their folders where those are equal.

    Returns:
        The comparison.

    Raises:
        InputError: They cannot be read, or their numbers were made in different ways: the message
            names the entry of the protocol that differs.

    Example:
        print(sf.evaluation.compare("a", "b").sentence)
    """
    found = [
        one.to_dict() if isinstance(one, Evaluation) else read_evaluation(one)
        for one in (first, second)
    ]
    a, b = (one["protocol"]["measured"] for one in found)
    apart = differences(a, b)
    if apart:
        listed = "; ".join(
            f"{name} is {x!r} in the first, {y!r} in the second" for name, x, y in apart[:3]
        )
        raise InputError(
            f"the two evaluations were made in different ways, so that their numbers cannot be "
            f"compared: {listed}. Evaluate one of them again with the other's settings"
        )
    others = {(row["metric"], row["space"], row["against"]): row for row in found[1]["metrics"]}
    rows = []
    for row in found[0]["metrics"]:
        other = others.get((row["metric"], row["space"], row["against"]))
        if other is not None:
            place = row["metric"], row["space"], row["against"]
            ends = row["estimate"], other["estimate"]
            rows.append(ComparedRow(*place, *ends, row["floor"], _better(row, other)))
    subjects = differences(found[0]["protocol"]["subject"], found[1]["protocol"]["subject"])
    return Comparison(
        found[0], found[1], names or _names(found, first, second), tuple(rows), tuple(subjects)
    )


def _better(row: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Which estimate is better where their intervals do not overlap."""
    a, b = row["estimate"], other["estimate"]
    ends = [a["low"], a["high"], b["low"], b["high"]]
    if any(end is None for end in ends) or not (a["high"] < b["low"] or b["high"] < a["low"]):
        return ""
    direction, floor = METRICS[row["metric"]].better, row["floor"]["value"]
    if direction == "near floor":
        first = math.fabs(a["value"] - floor) < math.fabs(b["value"] - floor)
    else:
        first = (a["value"] < b["value"]) == (direction == "low")
    return "first" if first else "second"


def _names(found: list[dict[str, Any]], first: Any, second: Any) -> tuple[str, str]:
    """Titles, or folders where the titles are equal."""
    titles = [one["title"] for one in found]
    if titles[0] != titles[1]:
        return titles[0], titles[1]
    places = []
    for number, one in enumerate((first, second), 1):
        known = None if isinstance(one, Evaluation) else Path(one)
        if known is not None and known.suffix == ".json":
            known = known.parent
        places.append(f"evaluation {number}" if known is None else str(known))
    return places[0], places[1]
