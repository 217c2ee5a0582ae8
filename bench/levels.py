"""Has every level learned? The training loss per bin of sigma in the first and the last tenth of a
run, read from its metrics.

z is the difference over its standard error, from the losses' spread within each tenth (pooled over
the lines of metrics.jsonl).
"""

from pathlib import Path
from typing import Any

import numpy as np

from scorefield.errors import InputError
from scorefield.runs import Run


def pooled(records: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, mean loss and its variance-of-the-mean per bin over several lines."""
    count = np.array([r["by_sigma"]["count"] for r in records], dtype=float)
    mean = np.array([r["by_sigma"]["loss"] for r in records])
    variance = np.array([r["by_sigma"]["se"] for r in records]) ** 2 * count  # of one loss
    total = count.sum(0)
    overall = (count * mean).sum(0) / total
    spread = (count * (variance + (mean - overall) ** 2)).sum(0) / total
    return total, overall, spread / total


def levels(run: Path) -> list[dict[str, float]]:
    """A row a bin: sigma, loss in the first and last tenth of the images, their standard errors, z."""
    records = [r for r in Run(run).records() if "by_sigma" in r]
    if len(records) < 20:
        raise InputError(
            f"{run} has {len(records)} lines of losses in metrics.jsonl; at least 20 are needed "
            "to compare tenths"
        )
    last = records[-1]["images"]
    first_part = [r for r in records if r["images"] <= last / 10] or records[:1]
    last_part = [r for r in records if r["images"] > last * 9 / 10]
    (_, a, va), (_, b, vb) = pooled(first_part), pooled(last_part)
    z = (a - b) / np.sqrt(va + vb)
    rows = zip(records[-1]["by_sigma"]["sigma"], a, np.sqrt(va), b, np.sqrt(vb), z, strict=True)
    names = ("sigma", "first", "first_se", "last", "last_se", "z")
    return [dict(zip(names, map(float, row), strict=True)) for row in rows]
