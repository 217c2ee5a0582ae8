"""Feature spaces in which sets of examples are compared.

    columns      tables and vectors: each column in standard deviations of the training data
    classifier   images with labels: the last hidden layer of a classifier of them (`classifier`)
    principal    everything else: coordinates along the first principal axes of the training data

`Features` is the protocol; an object of the user's own with these members is taken as well. The
hash identifies the space: numbers in spaces with different hashes cannot be compared. Files with
features that were computed elsewhere are read as arrays (`GivenFeatures`) and never executed.
"""

import hashlib
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ..data import Dataset
from ..data.statistics import accumulate
from ..errors import InputError
from ..progress import Report
from ..tensors import float64
from .cache import cache_folder
from .classifier import Classifier, can_classify, hash_of, train_classifier

MOST_FITTED = 4096  # training examples from which principal axes are found
MOST_AXES = 64
MOST_COLUMNS = 512  # of vectors whose columns are their own features


@runtime_checkable
class Features(Protocol):
    """A map from examples to vectors in which they are compared."""

    @property
    def name(self) -> str:
        """A word for tables."""

    @property
    def hash(self) -> str:
        """Identifies the space: equal for equal maps, and different for different ones."""

    def __call__(self, examples: Any, /) -> np.ndarray:
        """Features of examples in data units, (N, *event) to float64 (N, k)."""

    def to_dict(self) -> dict[str, Any]:
        """What a protocol record states of the space; JSON can hold it."""


@dataclass(frozen=True)
class Columns:
    """Vectors in standard deviations of the training data.

    Attributes:
        mean, std: (d,), float64.
        hash: Hash of both.
    """

    mean: Tensor
    std: Tensor
    hash: str
    name: str = "columns"

    @classmethod
    def fit(cls, dataset: Dataset, train: Tensor) -> "Columns":
        """The columns of the training part; constant ones are left at their own scale."""
        mean, variance = accumulate(dataset.floats, train, dataset.event_shape)
        std = torch.where(variance > 0, variance, torch.ones_like(variance)).sqrt()
        return cls(mean, std, hash_of({"mean": mean, "std": std}))

    def __call__(self, examples: Any) -> np.ndarray:
        x = float64(examples, "examples").cpu()
        return ((x - self.mean) / self.std).flatten(1).numpy()

    def to_dict(self) -> dict[str, Any]:
        """Name, hash and dimensions."""
        return {"name": self.name, "hash": self.hash, "dimensions": int(self.mean.numel())}


@dataclass(frozen=True)
class Principal:
    """Coordinates along the first principal axes of the training data.

    Attributes:
        mean: (d,), float64.
        axes: (d, k), orthogonal, with one common scale so that coordinates have mean variance 1.
        explained: Fraction of the total variance that lies along the axes.
        hash: Hash of mean and axes.
    """

    mean: Tensor
    axes: Tensor
    explained: float
    hash: str
    name: str = "principal axes"

    @classmethod
    def fit(cls, dataset: Dataset, train: Tensor) -> "Principal":
        """The axes of the first `MOST_FITTED` training examples, `MOST_AXES` at most."""
        x = dataset.floats(train[:MOST_FITTED]).to(torch.float64).flatten(1)
        mean = x.mean(0)
        _, values, right = torch.linalg.svd(x - mean, full_matrices=False)
        count = max(1, min(MOST_AXES, len(x) // 4, x.shape[1]))
        energy = values.square()
        total = float(energy.sum()) or 1.0
        axes = right[:count].T.contiguous()
        signs = torch.sign(axes.gather(0, axes.abs().argmax(0, keepdim=True)))
        axes = axes * torch.where(signs == 0, torch.ones_like(signs), signs)
        # One number for all axes: their mean variance becomes 1.
        axes = axes / (energy[:count].mean() / len(x)).sqrt().clamp(min=1e-12)
        digest = hash_of({"mean": mean.float(), "axes": axes.float()})
        return cls(mean, axes, float(energy[:count].sum()) / total, digest)

    def __call__(self, examples: Any) -> np.ndarray:
        x = float64(examples, "examples").cpu().flatten(1)
        return ((x - self.mean) @ self.axes).numpy()

    def to_dict(self) -> dict[str, Any]:
        """Name, hash, dimensions and the fraction of the variance that they hold."""
        return {
            "name": self.name,
            "hash": self.hash,
            "dimensions": self.axes.shape[1],
            "explained_variance": self.explained,
        }


@dataclass(frozen=True)
class GivenFeatures:
    """Features that were computed elsewhere.

    Attributes:
        samples: (N, k), features of the samples.
        held_out: (M, k), features of the held-out data.
        train: (T, k), features of the training data, or None.
        space: The name of the network and its layer, which two evaluations must share.
    """

    samples: np.ndarray
    held_out: np.ndarray
    train: np.ndarray | None
    space: str
    name: str = "given"

    @property
    def hash(self) -> str:
        """16 digits of the SHA-256 of the space's name."""
        return hashlib.sha256(self.space.encode()).hexdigest()[:16]

    @classmethod
    def read(cls, path: Path) -> "GivenFeatures":
        """Read an .npz with the arrays samples, reference and name, and train where known.

        Args:
            path: The file.

        Returns:
            The features.

        Raises:
            InputError: The file cannot be read, or lacks an array.
        """
        arrays = _arrays(path)
        missing = [name for name in ("samples", "reference", "name") if name not in arrays]
        if missing:
            raise InputError(
                f"{path} lacks the array {missing[0]!r}. Features are an .npz with samples (N, k), "
                "reference (M, k) of the held-out data, optionally train (T, k), and name, a text "
                "that names network and layer, such as 'inception-v3 pool3'"
            )
        found = {}
        for name in ("samples", "reference", "train"):
            if name not in arrays:
                continue
            found[name] = float64(arrays[name], f"{path}: {name}").numpy()
            if found[name].ndim != 2 or found[name].shape[1] != found["samples"].shape[1]:
                raise InputError(
                    f"{path}: {name} must be (N, k) with the k of samples; got "
                    f"{found[name].shape} beside {found['samples'].shape}"
                )
        text = str(arrays["name"].item() if arrays["name"].ndim == 0 else arrays["name"][0])
        return cls(found["samples"], found["reference"], found.get("train"), text)

    def __call__(self, examples: Any) -> np.ndarray:
        raise InputError(
            "features that were computed elsewhere exist for given samples alone; draw the "
            "samples first and give their file (--samples), in the same order"
        )

    def to_dict(self) -> dict[str, Any]:
        """Name, hash, dimensions, and the space's name."""
        return {
            "name": self.name,
            "hash": self.hash,
            "dimensions": self.samples.shape[1],
            "space": self.space,
        }


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz; pickled objects are not read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as problem:
        raise InputError(f"the features {path} are no readable .npz of arrays: {problem}") from (
            problem
        )


@dataclass(frozen=True)
class Chosen:
    """The feature space of an evaluation.

    Attributes:
        features: The space.
        classifier: A classifier of the labels, for frequencies and accuracies; None without.
        note: Why this space, in a sentence.
    """

    features: Features
    classifier: Classifier | None
    note: str


def choose_features(
    dataset: Dataset,
    train: Tensor,
    held_out: Tensor,
    own: Features | None = None,
    quick: bool = False,
    report: Report | None = None,
) -> Chosen:
    """Choose and fit the feature space; see the module docstring.

    Args:
        dataset: Data with their labels.
        train: Indices of the training part.
        held_out: Indices of the held-out part.
        own: Features of the user, which take the place of the default.
        quick: Whether a classifier is trained for a shorter time.
        report: Receives the fraction done.

    Returns:
        The space, and a classifier of the labels where they can train one.
    """
    flat = len(dataset.event_shape) == 1 and dataset.event_shape[0] <= MOST_COLUMNS
    why = can_classify(dataset.labels, train, dataset.classes)
    classifier = None
    if not why:
        classifier = train_classifier(
            dataset, train, held_out, quick=quick, cache=cache_folder(), report=report
        )
        if not classifier.is_useful:
            why = f"a classifier of labels recognises {classifier.accuracy:.0%} of held-out data"
            classifier = None
    if own is not None:
        return Chosen(own, classifier, "features of the caller")
    if flat:
        return Chosen(
            Columns.fit(dataset, train),
            classifier,
            "columns in standard deviations of the training data",
        )
    if classifier is not None:
        return Chosen(
            classifier,
            classifier,
            f"last hidden layer of a classifier of the training labels, which recognises "
            f"{classifier.accuracy:.1%} of {classifier.held_out:,} held-out examples",
        )
    principal = Principal.fit(dataset, train)
    return Chosen(
        principal,
        None,
        f"{principal.axes.shape[1]} principal axes of the training data, "
        f"{principal.explained:.0%} of their variance ({why})",
    )


def check_features(value: Any) -> Features:
    """An object that has the members of `Features`.

    Raises:
        InputError: One is missing, or has another type.
    """
    named = isinstance(value, Features) and callable(value)
    if not named or not isinstance(value.name, str) or not isinstance(value.hash, str):
        raise InputError(
            "features must be an object with name and hash (texts), to_dict() and a call that maps "
            f"examples (N, *event) to (N, k); got {type(value).__name__}"
        )
    return value


def check_rows(rows: Any, count: int) -> np.ndarray:
    """Features of `count` examples as float64 (count, k).

    Raises:
        InputError: They are not finite, or are no rows of one length.
    """
    values = np.asarray(rows, dtype=np.float64)
    if values.ndim != 2 or len(values) != count or not math.isfinite(float(values.sum())):
        raise InputError(
            f"features must map {count} examples to finite ({count}, k); got shape {values.shape}"
        )
    return values
