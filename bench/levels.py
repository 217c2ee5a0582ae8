"""Has every noise level learned? The training loss per bin of sigma, first against last tenth.

The losses are read from a run's metrics. z is the difference over its standard error, from the
losses' spread within each tenth, pooled over the lines of metrics.jsonl.
"""

from pathlib import Path
from typing import Any

import numpy as np

from scorefield.errors import InputError
from scorefield.runs import Run

LEAST_LINES = 20


def pooled(records: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pool several lines of metrics.

    Args:
        records: Lines with `by_sigma`. A bin without losses has null there, and so has the standard
            error of one loss.

    Returns:
        Count, mean loss and variance of the mean, each (bins,).
    """
    count, mean, se = (
        np.array([r["by_sigma"][name] for r in records], dtype=float)
        for name in ("count", "loss", "se")
    )
    mean, se = np.nan_to_num(mean), np.nan_to_num(se)
    variance = se**2 * count  # of one loss
    total = count.sum(0)
    overall = (count * mean).sum(0) / total
    spread = (count * (variance + (mean - overall) ** 2)).sum(0) / total
    return total, overall, spread / total


def levels(run: Path) -> list[dict[str, float]]:
    """Compare the first with the last tenth of a run.

    Args:
        run: The run directory.

    Returns:
        A row a bin: sigma, loss in the first and last tenth, their standard errors, z.

    Raises:
        InputError: Where the run has too few lines of losses.
    """
    records = [r for r in Run(run).records() if "by_sigma" in r]
    if len(records) < LEAST_LINES:
        raise InputError(
            f"{run} has {len(records)} lines of losses in metrics.jsonl; at least {LEAST_LINES} "
            "are needed to compare tenths"
        )
    last = records[-1]["images"]
    first_part = [r for r in records if r["images"] <= last / 10] or records[:1]
    last_part = [r for r in records if r["images"] > last * 9 / 10]
    (_, a, va), (_, b, vb) = pooled(first_part), pooled(last_part)
    z = (a - b) / np.sqrt(va + vb)
    rows = zip(records[-1]["by_sigma"]["sigma"], a, np.sqrt(va), b, np.sqrt(vb), z, strict=True)
    names = ("sigma", "first", "first_se", "last", "last_se", "z")
    return [dict(zip(names, map(float, row), strict=True)) for row in rows]
