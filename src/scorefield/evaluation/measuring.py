"""What an evaluation measures: metrics, classes, copies, and the score itself."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.table_form import TableForm
from ..diagnostics.health import Health
from ..errors import InputError
from ..models import Guidance, ScoreModel
from ..sampling import SamplingRecipe
from .classes import ClassRow, compare_classes, overall
from .collect import KEPT, Collected, features_of_part
from .ema_sweep import EMASweep, ema_sweep, live_model
from .estimate import Estimate
from .features import Chosen, Columns, Features, GivenFeatures
from .health_step import measure_health
from .material import Material
from .memorisation import Memorisation, measure_memorisation
from .sets import MetricRow, measure_classes, measure_sets
from .spectra import has_spectrum

COUNTS = {True: 256, False: 1000}  # samples by default, quick or not
VECTORS = 4  # times as many samples of vectors and tables, which are cheap
LEVEL = 0.9  # of all intervals
MOST_DATA = {True: 1000, False: 5000}  # training examples whose features are compared
MOST_KNOWN = 20_000  # training examples of which copies are looked for
SWEPT = 16  # samples of live and averaged weights
IN_FEATURES = (
    *("frechet", "kernel_distance", "sliced_features", "c2st_accuracy", "c2st_auc"),
    *("precision", "recall", "density", "coverage"),
)
ON_EXAMPLES = ("precision", "recall", "coverage")  # a classifier's features may hide noise
SLOWER = ("sliced_w1", "sliced_w2", "mmd")
MOST_EXAMPLES = {True: 512, False: KEPT}
OF_CLASSES = ("sliced_features", "precision", "recall", "coverage")
TABLE = ("marginal_w1", "category_tv", "correlation")


@dataclass(frozen=True)
class Wanted:
    """The arguments of `evaluate`.

    Attributes:
        count: Number of samples; None for the default.
        seed: Decides everything random.
        features: Features of the user, or None.
        recipe: How samples are drawn; None: as the model card states.
        guidance: Guidance of conditional samples, or None.
        quick: Whether fewer samples, noise levels and metrics are used.
    """

    count: int | None = None
    seed: int = 0
    features: Features | None = None
    recipe: SamplingRecipe | None = None
    guidance: Guidance | None = None
    quick: bool = False

    def samples(self, material: Material) -> int:
        """The number of samples to draw."""
        if self.count is not None:
            return self.count
        vectors = len(material.dataset.event_shape) == 1
        return COUNTS[self.quick] * (VECTORS if vectors else 1)


@dataclass(frozen=True)
class Sides:
    """Features and found classes of both parts of the data.

    Attributes:
        held_out: float64 (M, k).
        train: float64 (T, k); None where features computed elsewhere lack them.
        held_out_classes: int64 (M,), as the classifier finds them; None without one.
    """

    held_out: np.ndarray
    train: np.ndarray | None
    held_out_classes: np.ndarray | None

    @classmethod
    def of(cls, material: Material, chosen: Chosen, quick: bool) -> "Sides":
        """The features of both parts, of at most `MOST_DATA` training examples.

        Args:
            material: The data.
            chosen: The feature space.
            quick: Whether fewer training examples are used.

        Returns:
            The features.
        """
        held_out, classes = features_of_part(material.held_out, chosen, "held_out")
        given = isinstance(chosen.features, GivenFeatures)
        some = material.train.index if given else material.train.index[: MOST_DATA[quick]]
        train, _ = features_of_part(replace(material.train, index=some), chosen, "train")
        return cls(held_out, train, classes)


Rows = tuple[MetricRow, ...]


def measure(
    collected: Collected | None, material: Material, chosen: Chosen, sides: Sides, wanted: Wanted
) -> tuple[tuple[Rows, Rows], list[ClassRow]]:
    """Metrics and classes; nothing where sampling broke.

    Args:
        collected: The samples, or None.
        material: The data.
        chosen: The feature space.
        sides: Features of the data.
        wanted: The arguments; seed and quick form are used.

    Returns:
        Metrics in the feature space and of the examples, and class by class.
    """
    if collected is None:
        return ((), ()), []
    rows = _metrics(collected, material, chosen, sides, wanted)
    return rows, _classes(collected, material, chosen, sides)


def _metrics(
    collected: Collected, material: Material, chosen: Chosen, sides: Sides, wanted: Wanted
) -> tuple[Rows, Rows]:
    """Metrics in the feature space, and of the examples themselves."""
    dataset, form = material.dataset, material.dataset.form
    names, categories = None, None
    metrics: tuple[str, ...] = IN_FEATURES
    if isinstance(form, TableForm) and isinstance(chosen.features, Columns):
        names, categories = form.element_names, _categories(form)
        metrics += TABLE if categories else tuple(m for m in TABLE if m != "category_tv")
    features = measure_sets(
        collected.features,
        sides.held_out,
        sides.train,
        seed=wanted.seed,
        names=names,
        level=LEVEL,
        metrics=metrics,
        categories=categories,
    )
    examples: list[MetricRow] = []
    if len(dataset.event_shape) > 1:
        some = min(len(collected.kept), MOST_EXAMPLES[wanted.quick])
        grid = () if wanted.quick or not has_spectrum(dataset.event_shape) else ("spectrum",)
        examples = measure_sets(
            collected.kept[:some],
            material.held_out.first(some),
            material.train.first(some),
            seed=wanted.seed,
            level=LEVEL,
            metrics=ON_EXAMPLES + (() if wanted.quick else SLOWER) + grid,
        )
    return tuple(features), tuple(examples)


def _categories(form: TableForm) -> dict[str, list[int]]:
    """The elements of each column of words."""
    every = range(len(form.element_names))
    return {c.name: list(every[form.elements[c.name]]) for c in form.columns if c.words}


def _classes(
    collected: Collected, material: Material, chosen: Chosen, sides: Sides
) -> list[ClassRow]:
    """Samples beside held-out data, class by class."""
    labels = material.held_out.labels
    if chosen.classifier is None or labels is None or collected.classes is None:
        return []
    assert sides.held_out_classes is not None
    names = chosen.classifier.classes
    return compare_classes(
        names,
        collected.classes,
        sides.held_out_classes,
        labels.numpy(),
        collected.wanted,
        LEVEL,
    )


def class_metrics(
    collected: Collected | None, material: Material, sides: Sides, wanted: Wanted
) -> dict[str, list[dict[str, Any]]] | None:
    """Metrics of each class in the feature space, against held-out data of the class.

    Args:
        collected: The samples, or None.
        material: The data.
        sides: Features of the data.
        wanted: The arguments; seed and quick form are used.

    Returns:
        Name of the class -> rows as JSON holds them, for classes with 20 samples and 40 held-out
        examples; None for the quick form and without classes.
    """
    labels, dataset = material.held_out.labels, material.dataset
    classes = None if collected is None else collected.wanted
    if collected is not None and classes is None:
        classes = collected.classes
    if collected is None or classes is None or labels is None or wanted.quick:
        return None
    found = measure_classes(
        collected.features,
        sides.held_out,
        classes,
        labels.numpy(),
        seed=wanted.seed,
        level=LEVEL,
        metrics=OF_CLASSES,
    )
    names = dataset.class_names or [str(k) for k in range(int(dataset.classes or 0))]
    return {names[k]: [row.to_dict() for row in rows] for k, rows in found.items()}


def class_accuracy(
    collected: Collected | None, material: Material, sides: Sides
) -> dict[str, Estimate] | None:
    """The fraction of samples with the class they were drawn for, and of data with their label.

    Args:
        collected: The samples, or None.
        material: The data.
        sides: Found classes of the data.

    Returns:
        "samples" and "data"; None where samples were drawn without classes.
    """
    labels = material.held_out.labels
    if collected is None or collected.classes is None or collected.wanted is None:
        return None
    if labels is None or sides.held_out_classes is None:
        return None
    return {
        "samples": overall(collected.classes, collected.wanted, LEVEL),
        "data": overall(sides.held_out_classes, labels.numpy(), LEVEL),
    }


def find_copies(collected: Collected, material: Material) -> Memorisation:
    """Whether samples are copies of training examples; columns are compared on one scale."""
    known = material.train.first(MOST_KNOWN)
    sets = (collected.kept, material.held_out.first(len(collected.kept)), known)
    if len(material.dataset.event_shape) == 1:
        scaled = Columns.fit(material.dataset, material.train.index)
        return measure_memorisation(*(scaled(x) for x in sets), level=LEVEL)
    return measure_memorisation(*sets, level=LEVEL)


def examine_score(
    model: ScoreModel | None, material: Material, wanted: Wanted, run: Path | None
) -> tuple[Health | None, EMASweep | None]:
    """Health of the score, and the averages of the run's weights.

    Args:
        model: The score model, or None.
        material: The data.
        wanted: The arguments; seed and quick form are used.
        run: The run's folder, or None.

    Returns:
        Both; None for what cannot be measured, or is left out of the quick form.
    """
    if model is None:
        return None, None
    live: ScoreModel | None = None
    with suppress(InputError):
        live = None if run is None or not run.is_dir() else live_model(run)
    health = measure_health(model, material, wanted.seed, wanted.quick, live)
    if live is None or wanted.quick or not material.is_own:
        return health, None
    sweep = None
    with suppress(InputError):
        sweep = ema_sweep(str(run), material.dataset, samples=SWEPT, seed=wanted.seed)
    return health, sweep
