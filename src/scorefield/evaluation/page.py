"""The page of an evaluation: the verdict, then pictures, then tables, as one HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..progress import duration
from .estimate import METRICS
from .page_parts import KEY, bar, escape, figure, interval, number, page, record, table

TONES = {"learned": "good", "broke": "bad", "memorised": "bad"}
LINES = ("Samples", "Memorisation", "Score")
SPACES = {
    "features": "In the feature space",
    "examples": "On the examples themselves",
}
COPIES = {
    "copies": "copies of training examples, fraction of samples",
    "held_out_copies": "the same of held-out data",
    "distance_ratio": "distance to the training data, samples over held-out data",
}
LEVELS = {"gaussian": "best Gaussian", "stein": "Stein", "gap": "training gap"}
ARROWS = {"low": "lower is better", "high": "higher is better", "near floor": "near the floor"}


@dataclass(frozen=True)
class Shown:
    """A picture of the page.

    Attributes:
        png: The bytes of the file.
        caption: Shown below.
        wide: Whether it takes the whole width.
    """

    png: bytes
    caption: str
    wide: bool = False


def write_page(document: Mapping[str, Any], pictures: Mapping[str, Shown]) -> str:
    """The page of an evaluation.

    Args:
        document: What `Evaluation.to_dict` gives.
        pictures: By name, in the order of the page.

    Returns:
        The text of an HTML file, which fetches nothing.
    """
    shown = "".join(figure(p.png, p.caption, name, p.wide) for name, p in pictures.items())
    body = [
        f"<h1>{escape(document['title'])}</h1>",
        f'<p class="soft">{escape(summary(document))}</p>',
        verdict_card(document["verdict"]),
        "<h2>Pictures</h2>" if shown else "",
        f'<div class="pictures">{shown}</div>' if shown else "",
        *metric_tables(document["metrics"]),
        *_class_table(document),
        *_memorisation_table(document.get("memorisation")),
        *_health_table(document.get("health")),
        *_ema_table(document.get("ema")),
        *_protocol(document["protocol"]),
    ]
    return page(document["title"], filter(None, body))


def summary(document: Mapping[str, Any]) -> str:
    """What was compared, in a line."""
    measured, run = document["protocol"]["measured"], document["protocol"]["run"]
    data, features = measured["data"], measured["features"]
    sampling = document["protocol"]["subject"].get("sampling")
    how = f" by {sampling['sampler']}, {sampling['nfe']} evaluations each" if sampling else ""
    return (
        f"{measured['samples']:,} samples{how}; {data['held_out']:,} held-out and "
        f"{data['training']:,} training examples of {data['reference']}; features: "
        f"{features['name']} ({features.get('dimensions', '?')}); "
        f"{duration(sum(run['seconds'].values()))}."
    )


def verdict_card(verdict: Mapping[str, Any]) -> str:
    """The verdict with its three lines and its faults."""
    tone = TONES.get(verdict["standing"], "plain")
    rows = "".join(
        f"<dt>{name}</dt><dd>{escape(line)}</dd>"
        for name, line in zip(LINES, verdict["lines"], strict=True)
    )
    faults = "".join(
        f"<li><b>{escape(fault['name'])}</b>: {escape(fault['sentence'])}</li>"
        for fault in _distinct(verdict["faults"])
        if fault["sentence"] not in verdict["lines"]
    )
    listed = f'<ul class="faults">{faults}</ul>' if faults else ""
    title = escape(verdict["title"][:1].upper() + verdict["title"][1:])
    return f'<section class="card verdict {tone}"><h2>{title}</h2><dl>{rows}</dl>{listed}</section>'


def _distinct(faults: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return list({fault["name"]: fault for fault in faults}.values())


def metric_tables(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One table a space and a set of data: each number, its floor, and both drawn on one axis."""
    if not rows:
        return []
    found = ["<h2>Samples beside data</h2>", KEY]
    for space, title in SPACES.items():
        for against in ("held-out", "training"):
            cells = [
                _metric_cells(row)
                for row in rows
                if (row["space"], row["against"]) == (space, against)
            ]
            if cells:
                words = f"{title}, against {against} data"
                heads = ("", "", "samples", "data against data")
                found.append(table(heads, cells, words, numbers=2, stack=True))
    return found


def _metric_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    metric = METRICS[row["metric"]]
    name = (
        f'<span title="{escape(metric.measures)}">{escape(row["title"])}</span><br>'
        f'<span class="soft">{ARROWS[row["better"]]}</span>'
    )
    drawn = bar(row["estimate"], row["floor"])
    return name, drawn, interval(row["estimate"]), interval(row["floor"])


def _class_table(document: Mapping[str, Any]) -> list[str]:
    rows = document.get("classes") or []
    if not rows:
        return []
    asked = any(row["accuracy"] is not None for row in rows)
    heads = ["class", "", "frequency", "of data"]
    heads += ["right class", "of data"] if asked else []
    cells = []
    for row in rows:
        mark = ' <b style="color:var(--bad)">missing</b>' if row["missing"] else ""
        mark += ' <b style="color:var(--bad)">not followed</b>' if row["lost"] else ""
        found = [
            f"{escape(row['name'])}{mark}",
            f'<span class="small">{bar(row["samples"], row["data"])}</span>',
            _percent(row["samples"]),
            _plain(row["data"]),
        ]
        found += [_percent(row["accuracy"], 0), _plain(row["data_accuracy"])] if asked else []
        found += _coverage((document.get("class_metrics") or {}).get(row["name"]))
        cells.append(found)
    if max(len(row) for row in cells) > len(heads):
        heads += ["coverage", "of data"]
        cells = [[*row, *[""] * (len(heads) - len(row))] for row in cells]
    words = (
        "Samples with 90% intervals, and held-out data beside them, classes as a classifier of the "
        "labels finds them"
    )
    return ["<h2>Class by class</h2>", table(heads, cells, words, numbers=2, stack=True)]


def _coverage(rows: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Coverage of a class by its samples, and data against data."""
    row = next((one for one in rows or () if one["metric"] == "coverage"), None)
    return [] if row is None else [_percent(row["estimate"], 0), _plain(row["floor"])]


def _percent(estimate: Mapping[str, Any] | None, places: int = 1) -> str:
    if estimate is None:
        return ""
    low, value, high = (estimate[name] for name in ("low", "value", "high"))
    return f"{value:.{places}%} ({low:.{places}%} to {high:.{places}%})"


def _plain(estimate: Mapping[str, Any] | None) -> str:
    return "" if estimate is None else f"{estimate['value']:.0%}"


def _memorisation_table(found: Mapping[str, Any] | None) -> list[str]:
    if not found:
        return []
    rows = [(escape(words), interval(found[name])) for name, words in COPIES.items()]
    return ["<h2>Memorisation</h2>", table(("", "value"), rows, stack=True)]


def _health_table(health: Mapping[str, Any] | None) -> list[str]:
    if not health:
        return []
    levels = health["levels"]
    names = [n for n, v in levels[0].items() if isinstance(v, Mapping) and "value" in v]
    heads = ("σ", *(LEVELS.get(name, name.replace("_", " ")) for name in names))
    rows = [
        (number(level["sigma"]), *(number(level[name]["value"]) for name in names))
        for level in levels
    ]
    words = (
        "Held-out data, noise levels in model units; a loss of 1: only means and variances known"
    )
    return ["<h2>Score, level by level</h2>", table(heads, rows, words)]


def _ema_table(ema: Mapping[str, Any] | None) -> list[str]:
    if not ema:
        return []
    rows = [
        (
            escape(row["name"]) + (" <b>(this model)</b>" if row["name"] == ema["model"] else ""),
            f"{row['loss']['value']:.4f} ± {row['loss']['se']:.4f}",
            f"{row['above_best']['value']:.4f} ± {row['above_best']['se']:.4f}",
        )
        for row in ema["rows"]
    ]
    heads = ("weights", "held-out loss", "above the best")
    made = table(heads, rows, ema["sentence"], stack=True)
    return ["<h2>Averages of the weights</h2>", made]


def _protocol(protocol: Mapping[str, Any]) -> list[str]:
    heads = {
        "measured": "How the numbers were made",
        "subject": "What was evaluated",
        "run": "Versions and seconds",
    }
    parts = [
        f"<details><summary>{title}</summary>{record(protocol[name])}</details>"
        for name, title in heads.items()
    ]
    note = (
        "<footer>Intervals, floors and faults are described in the manual's page on evaluation. "
        "evaluation.json beside this page holds every number.</footer>"
    )
    return ["<h2>Protocol</h2>", f'<div class="card">{"".join(parts)}</div>', note]
