"""A table of mixed columns through the whole chain: CSV in, two minutes of training, CSV out.

Columns: dates as numbers, a scale of 1e-12, integers, a constant, words, a skewed and a correlated
number; 2 % of the cells are blank. For every column the two-sample distance (Kolmogorov and
Smirnov's for numbers, total variation for words) between samples and data is set against the mean
distance between random halves of the data.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

ROWS = 4000
BLANK = 0.02
HALVES = 20  # random splits of the data


def make_table(rows: int = ROWS, seed: int = 0) -> pa.Table:
    """The table, with blanks (nulls) in every column but the constant one."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, 3))
    group = rng.choice(3, size=rows, p=[0.5, 0.3, 0.2])
    columns: dict[str, Any] = {
        "julian day": 2_460_000.5 + 90 * z[:, 0] + 200 * group,
        "current (A)": 1e-12 * (3 + z[:, 1] + 0.5 * z[:, 0]),
        "visits": rng.poisson(np.exp(1 + 0.4 * z[:, 2])),
        "unit": np.full(rows, 7),
        "colour": np.array(["red", "green", "blue"])[group],
        "income": np.round(np.exp(10 + 0.5 * z[:, 1]), 2),
        "height": 170 + 8 * (0.8 * z[:, 2] + 0.6 * rng.normal(size=rows)),
    }
    arrays = {}
    for name, values in columns.items():
        blank = np.zeros(rows, bool) if name == "unit" else rng.random(rows) < BLANK
        arrays[name] = pa.array(values.tolist(), mask=blank)
    return pa.table(arrays)


def distance(a: Any, b: Any) -> float:
    """Kolmogorov and Smirnov's distance of two samples of numbers, total variation of words."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind in "OUS":
        words = sorted({*a.tolist(), *b.tolist()})
        return 0.5 * float(sum(abs((a == w).mean() - (b == w).mean()) for w in words))
    points = np.sort(np.concatenate([a, b]).astype(np.float64))
    below = [
        np.searchsorted(np.sort(x.astype(np.float64)), points, side="right") / len(x)
        for x in (a, b)
    ]
    return float(np.abs(below[0] - below[1]).max())


def half_distances(values: Any, seed: int = 1) -> float:
    """The mean distance between random halves of one column."""
    rng = np.random.default_rng(seed)
    values = np.asarray(values)
    found = []
    for _ in range(HALVES):
        order = rng.permutation(len(values))
        half = len(values) // 2
        found.append(distance(values[order[:half]], values[order[half:]]))
    return float(np.mean(found))


def compare(data: pa.Table, samples: pa.Table, seed: int = 2) -> dict[str, dict[str, float]]:
    """For each column the distance of samples from halves of the data, and between halves.

    Args:
        data: the rows without blanks.
        samples: as many rows as half of the data, or more.
        seed: decides the halves.
    """
    rng = np.random.default_rng(seed)
    half = data.num_rows // 2
    out = {}
    for name in data.column_names:
        values, drawn = (t[name].to_numpy(zero_copy_only=False) for t in (data, samples))
        found = []
        for _ in range(HALVES):
            part = rng.permutation(len(values))[:half]
            chosen = rng.permutation(len(drawn))[:half]
            found.append(distance(drawn[chosen], values[part]))
        between = half_distances(values)
        out[name] = {
            "samples": float(np.mean(found)),
            "halves": between,
            "ratio": float(np.mean(found)) / between if between else float(np.mean(found) > 0),
        }
    return out


def mixed(folder: Path, budget: str = "120s", threads: int = 1, seed: int = 0) -> dict[str, Any]:
    """Write the table, train on it, sample as many rows, compare; mixed.json holds the result.

    Args:
        folder: where everything is written.
        budget: time of training.
        threads: threads of training.
        seed: of the table and of the training.
    """
    from typer.testing import CliRunner

    from scorefield.cli.app import app

    folder.mkdir(parents=True, exist_ok=True)
    table = make_table(seed=seed)
    pyarrow.csv.write_csv(table, folder / "mixed.csv")
    run, out = folder / "run", folder / "samples"
    whole = table.filter(
        pa.array(np.all([table[c].is_valid().to_numpy() for c in table.column_names], axis=0))
    )
    commands = [
        ["train", "--data", folder / "mixed.csv", "--missing", "drop", "--run", run]
        + ["--budget", budget, "--threads", threads, "--seed", seed],
        ["sample", run, "--count", whole.num_rows, "--out", out, "--force"],
    ]
    for command in commands:
        result = CliRunner().invoke(app, [str(part) for part in command], catch_exceptions=False)
        print(result.output)
        if result.exit_code:
            raise SystemExit(result.exit_code)
    samples = pyarrow.csv.read_csv(out / "samples.csv")
    report = {
        "rows": table.num_rows,
        "whole_rows": whole.num_rows,
        "budget": budget,
        "threads": threads,
        "columns": compare(whole, samples.cast(whole.schema)),
    }
    (folder / "mixed.json").write_text(json.dumps(report, indent=2))
    return report
