"""Tables and picture of a sampler study."""

import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..plotting import Chart, save_seed_curves
from .entrants import DEFAULT
from .flow import RESOLVED
from .measures import mean_quantile
from .study import Record

TITLES = {
    "sw1": "sliced Wasserstein-1 distance",
    "sw2": "sliced Wasserstein-2 distance",
    "tv": "total variation of the weights of the modes",
    "flow": "RMS distance to the converged flow from the same start",
    "sw1_data": "sliced Wasserstein-1 distance to held-out examples",
    "frechet": "Fréchet distance of the elements to held-out examples",
    "seconds": "seconds",
}
PERCENTS = (5, 50, 95, 99)
DRAWN = 4  # samplers of the picture beside the default and the exact samples
EXACT, FLOW = "exact samples", "samples of the converged flow"
OVER_PROBLEMS = ("sw1", "sw2", "tv", "flow")


def mean_and_error(values: list[Any]) -> tuple[float, float] | None:
    """Mean and standard error, which is NaN for one value; None where there is no value."""
    known = [v for v in values if v is not None]
    if not known:
        return None
    error = statistics.stdev(known) / math.sqrt(len(known)) if len(known) > 1 else math.nan
    return statistics.fmean(known), error


def digits(value: float) -> str:
    """A number with three digits, as short as possible."""
    return f"{value:.3f}" if 1e-2 <= abs(value) < 100 else f"{value:.2g}"


def names_of(record: Record) -> tuple[list[str], list[str], list[int]]:
    """Problems, samplers and budgets of the cells, in the order in which they were measured."""
    keys = [name.split(" | ") for name in record["cells"]]
    problems, entrants = (list(dict.fromkeys(key[n] for key in keys)) for n in (0, 1))
    return problems, entrants, sorted({int(key[2]) for key in keys})


def shown(cell: Record | None, metric: str) -> str:
    """A cell of a table: mean and standard error, or why there is none."""
    if cell is None or "skipped" in cell:
        return "–" if cell else ""
    if "diverged" in cell:
        return "diverged"
    found = mean_and_error(cell.get(metric, []))
    if found is None:
        return ""
    mean, error = found
    if metric == "flow":
        change = max(v for v in cell["flow_change"] if v is not None)
        if change > RESOLVED * mean:
            return f"< {digits(max(mean, change / RESOLVED))}"
    return digits(mean) if math.isnan(error) else f"{digits(mean)} ± {digits(error)}"


def rows_of(record: Record, problem: str, metric: str) -> list[list[str]]:
    """A table's rows: the sampler, then its cells; samplers without any number are left out."""
    _, entrants, budgets = names_of(record)
    found = []
    for entrant in entrants:
        cells = [record["cells"].get(f"{problem} | {entrant} | {nfe}") for nfe in budgets]
        row = [shown(cell, metric) for cell in cells]
        if any(text.strip("–") for text in row):
            found.append([entrant, *row])
    return found


def references(record: Record) -> str:
    """The samples that all are compared with: exact ones, or those of a trained model's flow."""
    exact = {about["exact"] for about in record["problems"].values()}
    if exact == {True}:
        return EXACT
    return FLOW if exact == {False} else f"{EXACT} (trained models: {FLOW})"


def floor_words(record: Record, problem: str, metric: str) -> str:
    """Mean and percentiles of the distances of exact sets, in a sentence."""
    values = [v for v in record["floors"][problem].get(metric, []) if v is not None]
    if not values:
        return ""
    parts = np.percentile(values, PERCENTS)
    shares = ", ".join(f"{p} % {digits(float(v))}" for p, v in zip(PERCENTS, parts, strict=True))
    what = "exact sets" if record["problems"][problem]["exact"] else "sets of the converged flow"
    mean = digits(statistics.fmean(values))
    return f"Two {what}: mean {mean}; {shares} ({len(values)} pairs)."


def compared_with_exact(record: Record, least: int = 40, metric: str = "sw1") -> list[Record]:
    """The mean distance of the default, with the 99th percentile of that mean for exact sets.

    Trained models are left out: their sets are of their own flow, which a sampler with noise does
    not follow.

    Args:
        record: The record of a study.
        least: Smallest number of evaluations that is compared.
        metric: "sw1", "sw2" or "tv".

    Returns:
        A row a problem and number of evaluations: problem, nfe, seeds, mean, limit, reached.
    """
    problems, _, budgets = names_of(record)
    rows = []
    for problem in problems:
        floor = [v for v in record["floors"][problem][metric] if v is not None]
        for nfe in budgets:
            cell = record["cells"].get(f"{problem} | {DEFAULT} | {nfe}", {})
            values = [v for v in cell.get(metric, []) if v is not None]
            exact = record["problems"][problem]["exact"]
            if not exact or nfe < least or not values or not floor:
                continue
            limit = mean_quantile(np.array(floor), len(values), 0.99)
            mean = statistics.fmean(values)
            rows.append(
                {
                    "problem": problem,
                    "nfe": nfe,
                    "seeds": len(values),
                    "mean": mean,
                    "limit": limit,
                    "reached": mean <= limit,
                }
            )
    return rows


def ratios(record: Record, metric: str = "sw1") -> dict[str, dict[int, float]]:
    """Geometric mean over the problems of a distance in units that problems have in common.

    Args:
        record: The record of a study.
        metric: A distance between sets, which becomes a multiple of the exact sets' mean; or
            "flow", which is divided by the standard deviation of the data.

    Returns:
        sampler -> {evaluations: ratio}, where every problem that has the metric has the cell.
    """
    problems, entrants, budgets = names_of(record)
    units = {problem: _unit(record, problem, metric) for problem in problems}
    known = {problem: unit for problem, unit in units.items() if unit is not None}
    found: dict[str, dict[int, float]] = {}
    for entrant in entrants:
        for nfe in budgets:
            logs = []
            for problem, unit in known.items():
                cell = record["cells"].get(f"{problem} | {entrant} | {nfe}", {})
                mean = mean_and_error(cell.get(metric, []))
                if mean is not None and mean[0] > 0:
                    logs.append(math.log(mean[0] / unit))
            if logs and len(logs) == len(known):
                found.setdefault(entrant, {})[nfe] = math.exp(statistics.fmean(logs))
    return found


def _unit(record: Record, problem: str, metric: str) -> float | None:
    """What a distance of a problem is divided by in `ratios`; None where it is not known."""
    if metric == "flow":
        scale: float | None = record["problems"][problem]["scale"]
        return scale
    floor = mean_and_error(record["floors"][problem][metric])
    return None if floor is None or floor[0] == 0 else floor[0]


def _plain(title: str, head: list[str], rows: list[list[str]]) -> list[str]:
    """A table in plain text."""
    table = [head, *rows]
    widths = [max(len(row[n]) for row in table) for n in range(len(head))]
    lines = [
        "  ".join(
            text.ljust(width) if n == 0 else text.rjust(width)
            for n, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    return [title, *lines]


def text_table(record: Record, metric: str = "sw1") -> str:
    """One metric of a study as plain text, a table a problem.

    Args:
        record: The record of a study.
        metric: A key of TITLES.

    Returns:
        The text.
    """
    problems, _, budgets = names_of(record)
    lines: list[str] = []
    for problem in problems:
        about = record["problems"][problem]
        scale = about["scale"]
        units = "" if scale is None else f"; standard deviation of the data {digits(scale)}"
        title = f"{problem}: {about['summary']}. {TITLES[metric]}, {about['units']} units{units}"
        head = ["evaluations", *map(str, budgets)]
        lines += [*_plain(title, head, rows_of(record, problem, metric))]
        lines += [floor_words(record, problem, metric), ""]
    return "\n".join(lines).rstrip()


def markdown_table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table whose first column is code."""
    rule = "| " + " | ".join("---" for _ in head) + " |"
    body = [f"| {' | '.join([f'`{row[0]}`', *row[1:]])} |" for row in rows]
    return [f"| {' | '.join(head)} |", rule, *body]


def markdown(record: Record) -> str:
    """All metrics of a study as Markdown.

    Args:
        record: The record of a study.

    Returns:
        The page.
    """
    problems, _, budgets = names_of(record)
    p = record["protocol"]
    lines = [
        "# Samplers by number of evaluations",
        "",
        f"Sets of {p['count']:,} samples against as many {references(record)}, "
        f"{p['directions']} directions, "
        "mean ± standard error over seeds that all samplers share. "
        f"The converged flow: UniPC with p = 3 at {p['flow_nfe']} evaluations, {p['flow_rows']} "
        "starts a seed; < marks distances below a hundred times what halving its evaluations "
        "changes. – marks numbers of evaluations that a sampler cannot keep to.",
        "",
    ]
    head = ["sampler", *(f"{n}" for n in budgets)]
    lines += _over_problems(record) if len(problems) > 1 else []
    for problem in problems:
        about = record["problems"][problem]
        scale = about["scale"]
        lines += [f"## {problem}", "", f"{about['summary']}, {about['elements']} elements"]
        lines[-1] += f", distances in {about['units']} units"
        lines[-1] += "." if scale is None else f", standard deviation {digits(scale)}."
        lines += [""]
        for metric, title in TITLES.items():
            rows = rows_of(record, problem, metric)
            if rows:
                lines += [f"{title[0].upper()}{title[1:]}:", "", *markdown_table(head, rows), ""]
                floor = floor_words(record, problem, metric)
                lines += [floor, ""] if floor else []
    return "\n".join([*lines, *_exact_section(record)])


def _over_problems(record: Record) -> list[str]:
    """Geometric means over the problems as Markdown, a table a metric."""
    _, _, budgets = names_of(record)
    lines = ["## All problems", ""]
    for metric in OVER_PROBLEMS:
        found = ratios(record, metric)
        order = sorted(found, key=lambda name: (name != DEFAULT, *_ranks(found[name], budgets)))
        rows = [[name, *(_ratio(found[name].get(n), metric) for n in budgets)] for name in order]
        unit = f"units of the mean between two sets of {references(record)}"
        unit = "standard deviations of the data" if metric == "flow" else unit
        title = f"{TITLES[metric][0].upper()}{TITLES[metric][1:]}, geometric mean over the problems"
        if rows:
            table = markdown_table(["sampler", *map(str, budgets)], rows)
            lines += [f"{title}, in {unit}:", "", *table, ""]
    return lines


def _ranks(found: dict[int, float], budgets: list[int]) -> list[float]:
    """What samplers are sorted by: the distances from few evaluations on, missing ones last."""
    return [found.get(n, math.inf) for n in budgets]


def _ratio(value: float | None, metric: str) -> str:
    """A number of the tables over all problems."""
    if value is None:
        return "–"
    if metric == "flow":
        return f"{value:.2g}"
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _exact_section(record: Record) -> list[str]:
    """The default beside exact sets, as Markdown."""
    found = compared_with_exact(record)
    if not found:
        return []
    rows = [
        [
            row["problem"],
            str(row["nfe"]),
            str(row["seeds"]),
            f"{row['mean']:.4g}",
            f"{row['limit']:.4g}",
            "yes" if row["reached"] else "no",
        ]
        for row in found
    ]
    return [
        "## The default against exact sets",
        "",
        "Sliced Wasserstein-1 distance: the mean over the seeds beside the 99th percentile of the "
        "same mean between exact sets (bootstrap of the pairs).",
        "",
        *markdown_table(["problem", "evaluations", "seeds", "mean", "99 %", "reached"], rows),
        "",
    ]


def _drawn(record: Record) -> list[str]:
    """The default and the samplers that are best on the whole, as many as fit a picture."""
    _, entrants, _ = names_of(record)
    found = ratios(record)
    most = max((len(row) for row in found.values()), default=0)

    def score(name: str) -> float:
        row = found.get(name, {})
        return statistics.fmean(map(math.log, row.values())) if len(row) == most else math.inf

    others = sorted((name for name in entrants if name != DEFAULT), key=score)[:DRAWN]
    return [name for name in entrants if name in others or name == DEFAULT]


def save_picture(path: Path, record: Record, metric: str = "sw1") -> Path:
    """Draw a metric against evaluations, a chart a problem.

    Args:
        path: A .png, .pdf or .svg.
        record: The record of a study.
        metric: A key of TITLES.

    Returns:
        The path.

    Raises:
        InputError: The record has no numbers.
    """
    problems, _, budgets = names_of(record)
    names, charts = _drawn(record), []
    for problem in problems:
        about = record["problems"][problem]
        series: dict[str, tuple[Any, Any]] = {}
        for name in names:
            cells = {n: record["cells"].get(f"{problem} | {name} | {n}", {}) for n in budgets}
            known = {
                n: mean[0]
                for n, cell in cells.items()
                if (mean := mean_and_error(cell.get(metric, []))) is not None and mean[0] > 0
            }
            if known:
                series[name] = list(known), [list(known.values())]
        floor = mean_and_error(record["floors"][problem].get(metric, []))
        if series and floor is not None:
            series[EXACT if about["exact"] else FLOW] = budgets, [[floor[0]] * len(budgets)]
        if series:
            title, label = about["summary"], f"{TITLES[metric]}, {about['units']} units"
            charts.append(Chart(title, "evaluations a sample", label, series, "xy", marks=True))
    if not charts:
        raise InputError("the study has no numbers to draw")
    caption = (
        f"{record['protocol']['count']:,} samples against as many {references(record)}, mean over "
        "the seeds; the samplers that are best on the whole."
    )
    return save_seed_curves(path, charts, "Distance by number of evaluations", caption, columns=3)
