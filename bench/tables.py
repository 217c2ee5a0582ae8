"""Real tables: can a random forest tell samples from rows that were held out?

Of each table 70 % of the rows train a model with the default settings (part of them is its own
held-out part), on one thread. A forest is then asked to tell as many samples as there are other
rows from these rows, by cross-validation; the area under its curve (AUC) is 0.5 where it cannot.
The mean over several sets of samples takes out the noise of one set.

Two references are measured in the same way: training rows in place of samples, which a perfect
model would resemble, and scikit-learn's GaussianMixture with the number of components that has the
best BIC, its samples rounded to the values of columns that have few.
"""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import scorefield as sf
from scorefield.data import form_of
from scorefield.errors import InputError
from scorefield.training import Hooks, Summary, fit

TABLES = ("breast-cancer", "diabetes")
TRAINING = 0.7  # of the rows
TREES, FOLDS = 300, 5
SETS = 5  # of samples
COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16)
FEW = 5  # rows a value, on average, of a column that has few values


def read(name: str) -> tuple[np.ndarray, list[str]]:
    """A table of scikit-learn: (N, columns) and the columns' names."""
    from sklearn import datasets

    if name not in TABLES:
        raise InputError(f"tables are {', '.join(TABLES)}; got {name!r}")
    loaders = {"breast-cancer": datasets.load_breast_cancer, "diabetes": datasets.load_diabetes}
    found = loaders[name]()
    return found.data, [str(column) for column in found.feature_names]


def parts(rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows for training, and the others."""
    order = np.random.default_rng(seed).permutation(len(rows))
    count = round(TRAINING * len(rows))
    return rows[order[:count]], rows[order[count:]]


def auc(first: np.ndarray, second: np.ndarray, seed: int) -> float:
    """How well a forest tells two sets of rows apart, by cross-validation.

    Args:
        first: (M, columns).
        second: (N, columns).
        seed: Of the forest and of the folds.

    Returns:
        The area under the curve, 0.5 where it cannot.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    rows = np.concatenate([first, second])
    labels = np.repeat([1, 0], [len(first), len(second)])
    forest = RandomForestClassifier(TREES, random_state=seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    found = cross_val_predict(forest, rows, labels, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(labels, found))


def against(sets: np.ndarray, rows: np.ndarray) -> float:
    """The mean AUC of consecutive sets of as many samples as there are rows."""
    count = len(rows)
    found = [auc(sets[k * count : (k + 1) * count], rows, k) for k in range(len(sets) // count)]
    return float(np.mean(found))


def mixture(training: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Samples of scikit-learn's mixture with the best BIC, on the values of discrete columns."""
    from sklearn.mixture import GaussianMixture

    centre, scale = training.mean(0), training.std(0)
    scaled = (training - centre) / scale
    models = [
        GaussianMixture(k, reg_covar=1e-4, n_init=3, random_state=seed).fit(scaled)
        for k in COMPONENTS
    ]
    best = min(models, key=lambda model: model.bic(scaled))
    drawn = best.sample(count)[0][np.random.default_rng(seed).permutation(count)]
    drawn = drawn * scale + centre
    for k in range(training.shape[1]):
        values = np.unique(training[:, k])
        if FEW * len(values) <= len(training):
            drawn[:, k] = values[np.abs(drawn[:, k, None] - values).argmin(1)]
    return drawn


def trained(
    training: np.ndarray, names: list[str], run: Path, seed: int, budget: dict[str, Any]
) -> Summary:
    """Train a model with the default settings on one thread."""
    table = pa.table({name: training[:, k] for k, name in enumerate(names)})
    settings = {"execution.threads": 1, "execution.device": "cpu"}
    return fit(table, run, seed=seed, settings=settings, hooks=Hooks(), **budget)


def drawn(run: Path, count: int, seed: int) -> np.ndarray:
    """Samples as the table that a user gets, (count, columns)."""
    model = sf.load(run)
    form = form_of(model.card)
    assert form is not None
    table = form.decode(sf.sample(model, count, seed=seed))
    return np.stack([column.to_numpy() for column in table.columns], axis=1)


def measure(name: str, seed: int, budget: dict[str, Any], references: bool) -> dict[str, Any]:
    """One table, one seed.

    Args:
        name: A name of TABLES.
        seed: Of the split, of training and of the samples.
        budget: {"budget": seconds} or {"images": count}.
        references: Whether the references are measured too.

    Returns:
        AUCs, held-out loss, images and seconds.
    """
    rows, names = read(name)
    training, others = parts(rows, seed)
    count = SETS * len(others)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        summary = trained(training, names, run, seed, budget)
        samples = drawn(run, count, seed)
    verdict = summary.verdict
    assert verdict is not None
    record: dict[str, Any] = {
        "table": name,
        "seed": seed,
        "auc": against(samples, others),
        "held_out": verdict.held_out,
        "held_out_se": verdict.se,
        "gaussian": verdict.gaussian,
        "nothing": verdict.nothing,
        "standing": verdict.standing,
        "images": summary.images,
        "best_images": verdict.best_images,
        "seconds": round(summary.seconds, 1),
    }
    if references:
        kept = np.random.default_rng(seed).permutation(len(training))[: len(others)]
        record["auc_training"] = auc(training[kept], others, seed)
        record["auc_mixture"] = against(mixture(training, count, seed), others)
    return record


def tables(
    names: tuple[str, ...],
    seeds: int,
    budget: dict[str, Any],
    say: Callable[[str], None],
    references: bool = True,
) -> dict[str, Any]:
    """Measure tables over seeds.

    Args:
        names: Names of TABLES.
        seeds: Number of seeds, 1 or more.
        budget: {"budget": seconds} or {"images": count}.
        say: Receives a line per run.
        references: Whether the references are measured too.

    Returns:
        {"runs": [...], "means": {table: {...}}}.
    """
    runs = []
    for name in names:
        for seed in range(seeds):
            record = measure(name, seed, budget, references)
            runs.append(record)
            best = record["best_images"]
            say(
                f"{name} seed {seed}: AUC {record['auc']:.3f}, held-out loss "
                f"{record['held_out']:.3f} ± {record['held_out_se']:.3f} (Gaussian "
                f"{record['gaussian']:.3f}), {record['images']:,} images in "
                f"{record['seconds']:.0f} s" + (f", best at {best:,}" if best else "")
            )
    return {"budget": budget, "runs": runs, "means": {n: _means(runs, n) for n in names}}


def _means(runs: list[dict[str, Any]], name: str) -> dict[str, float]:
    """Means over seeds, with the standard error of the AUC."""
    mine = [run for run in runs if run["table"] == name]
    fields = ("auc", "auc_training", "auc_mixture", "held_out")
    found = {f: float(np.mean([run[f] for run in mine])) for f in fields if f in mine[0]}
    spread = np.std([run["auc"] for run in mine], ddof=1) if len(mine) > 1 else math.nan
    return found | {"auc_se": float(spread / math.sqrt(len(mine)))}
