"""Samples of an evaluation: drawn or given, and kept as features.

The first `KEPT` samples are kept for pictures, spectra and copies of training examples. Of all
other samples only features and classes are kept, so that memory grows with these alone.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import conditions, rng
from ..conditions import InternalForm
from ..errors import InputError
from ..models import Guidance, ScoreModel
from ..progress import Report
from ..sampling import Record, SamplingRecipe, draw
from .classifier import Classifier
from .features import Chosen, GivenFeatures, check_rows
from .given import Given
from .material import Material, Part, settle

KEPT = 2048


@dataclass(frozen=True)
class Collected:
    """Samples as an evaluation needs them.

    Attributes:
        features: float64 (N, k).
        classes: int64 (N,), the classes that a classifier finds; None without one.
        wanted: int64 (N,), the classes that samples were drawn for; None for none.
        kept: (min(N, KEPT), *event), the first samples, data units.
        record: How they were drawn; None where they were given.
        seconds: Wall time of drawing, features included.
    """

    features: np.ndarray
    classes: np.ndarray | None
    wanted: np.ndarray | None
    kept: Tensor
    record: Record | None
    seconds: float

    def __len__(self) -> int:
        return len(self.features)


class Collector:
    """Collects batches of samples in data units, and keeps what the evaluation needs.

    Args:
        material: The data, whose form the samples take.
        chosen: The feature space, and the classifier where there is one.
    """

    def __init__(self, material: Material, chosen: Chosen) -> None:
        self.material, self.chosen = material, chosen
        self.features: list[np.ndarray] = []
        self.classes: list[np.ndarray] = []
        self.kept: list[Tensor] = []
        self.count = 0

    def __call__(self, batch: Tensor) -> None:
        """Take one batch, (B, *event)."""
        x = settle(self.material.dataset, batch)
        self.take(x)

    def take(self, x: Tensor) -> None:
        """Take one batch that has the form of the data."""
        rows, labels = read_part(x, self.chosen)
        if labels is not None:
            self.classes.append(labels)
        if rows is not None:
            self.features.append(rows)
        if self.count < KEPT:
            self.kept.append(x[: KEPT - self.count].clone())
        self.count += len(x)

    def collected(self, wanted: Any, record: Record | None, seconds: float) -> Collected:
        """The result."""
        features = self.chosen.features
        if isinstance(features, GivenFeatures):
            if len(features.samples) != self.count:
                raise InputError(
                    f"the features hold {len(features.samples)} samples, and {self.count} samples "
                    "are evaluated; both must be the same in the same order"
                )
            rows = features.samples
        else:
            rows = np.concatenate(self.features)
        return Collected(
            rows,
            np.concatenate(self.classes) if self.classes else None,
            None if wanted is None else np.asarray(wanted),
            torch.cat(self.kept),
            record,
            seconds,
        )


def collect_given(given: Given, material: Material, chosen: Chosen) -> Collected:
    """Samples that were drawn elsewhere.

    Args:
        given: The samples.
        material: The data.
        chosen: The feature space.

    Returns:
        The samples.
    """
    began, collector = time.perf_counter(), Collector(material, chosen)
    for part in given.x.split(512):
        collector.take(part)
    return collector.collected(given.labels, None, time.perf_counter() - began)


def draw_samples(
    model: ScoreModel,
    recipe: SamplingRecipe,
    material: Material,
    chosen: Chosen,
    count: int,
    seed: int,
    *,
    guidance: Guidance | None = None,
    report: Report | None = None,
) -> Collected:
    """Draw samples, with conditions in the proportions of the training data.

    Args:
        model: The score model.
        recipe: How samples are drawn.
        material: The data.
        chosen: The feature space.
        count: Number of samples.
        seed: Decides the samples.
        guidance: Guidance of conditional samples, or None.
        report: Receives the fraction done.

    Returns:
        The samples.

    Raises:
        NonFiniteError: Sampling left a NaN or an infinity.
    """
    began, collector = time.perf_counter(), Collector(material, chosen)
    condition = conditions.resolve(
        choose_condition(model, material, count), model.conditions, count, type(model).__name__
    )
    guided: Any = model if guidance is None else guidance.wrap(model, condition)

    def tell(event: Any) -> None:
        done = collector.count + len(event.x) * event.step / event.steps
        if report is not None:
            report(min(done / count, 1.0), f"sampling {count:,}")

    record = draw(
        guided,
        recipe,
        rng.keys(seed, count),
        condition=condition,
        callbacks=(tell,),
        sink=collector,
    ).record
    wanted = None if condition is None or "class" not in condition else condition["class"].cpu()
    return collector.collected(wanted, record, time.perf_counter() - began)


def choose_condition(
    model: ScoreModel, material: Material, count: int
) -> Mapping[str, Tensor] | None:
    """Conditions of samples: classes as frequent as in the training data, or vectors of the data.

    Args:
        model: The score model.
        material: The data.
        count: Number of samples.

    Returns:
        One row a sample, or None where the model has no condition that the data hold.
    """
    labels = material.train.labels
    if "class" in model.conditions and labels is not None:
        size = model.conditions["class"].size
        numbers = in_proportion(torch.bincount(labels, minlength=size)[:size], count)
        return InternalForm({"class": numbers})
    vectors = material.held_out.dataset.vectors
    if "vector" in model.conditions and vectors is not None:
        rows = material.held_out.index
        return InternalForm({"vector": vectors[rows[torch.arange(count) % len(rows)]]})
    return None


def in_proportion(counts: Tensor, count: int) -> Tensor:
    """Class numbers (count,) in given proportions, spread evenly over the positions.

    Args:
        counts: int64 (classes,), the proportions.
        count: How many class numbers.

    Returns:
        int64 (count,); each class occurs as often as its proportion, to within one (largest
            remainders).
    """
    quota = counts.to(torch.float64) * count / counts.sum()
    take = quota.floor().to(torch.int64)
    rest = count - int(take.sum())
    take[torch.argsort(quota - take, descending=True, stable=True)[:rest]] += 1
    place = torch.cat([(torch.arange(n, dtype=torch.float64) + 0.5) / max(int(n), 1) for n in take])
    return torch.repeat_interleave(torch.arange(len(take)), take)[torch.argsort(place, stable=True)]


def features_of_part(part: Part, chosen: Chosen, name: str) -> tuple[np.ndarray, Any]:
    """Features of a part of the data, and the classes that the classifier finds.

    Args:
        part: The part.
        chosen: The feature space.
        name: "held_out" or "train".

    Returns:
        float64 (N, k), and int64 (N,) or None. Features computed elsewhere are as given, with None
        for a training part that they lack.
    """
    pairs = [read_part(x, chosen) for x in part.parts()]
    found = [labels for _, labels in pairs if labels is not None]
    classes = np.concatenate(found) if found else None
    if isinstance(chosen.features, GivenFeatures):
        given: Any = getattr(chosen.features, name)
        if given is not None and len(given) != len(part):
            raise InputError(
                f"the features hold {len(given)} examples as {name}, the data {len(part)}; "
                "both must be the same in the same order"
            )
        return given, classes
    return np.concatenate([rows for rows, _ in pairs if rows is not None]), classes


def read_part(x: Tensor, chosen: Chosen) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Features and classes of some examples.

    Args:
        x: (B, *event) in data units, in the form of the data.
        chosen: The feature space.

    Returns:
        float64 (B, k), None for features computed elsewhere; and int64 (B,), None without a
        classifier.
    """
    features, classifier = chosen.features, chosen.classifier
    hidden, labels = (None, None) if classifier is None else classifier.read(x)
    if isinstance(features, GivenFeatures):
        return None, labels
    if isinstance(features, Classifier):
        return hidden, labels
    return check_rows(features(x), len(x)), labels
