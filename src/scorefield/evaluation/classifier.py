"""A small classifier of the data's own labels: feature space of images, and classes of samples.

Images and fields get a convolutional network, everything else a perceptron. Its features are the
64 outputs of the last hidden layer, before the activation, divided by one number so that their mean
variance over the training examples is 1. The classifier is trained on the training part alone, so
that held-out data and samples are equally new to it. It is kept in a cache by the hash of the data,
of the split and of this recipe.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import rng
from ..data import Dataset
from ..data.statistics import accumulate, by_channel
from ..progress import Report
from ..rng import Stream
from .cache import read_tensors, write_tensors

FEATURES = 64
WIDTHS = (32, 64)  # channels of the convolutions
HIDDEN = 256  # of the perceptron
SIDE = 64  # pixels: images of larger sides are averaged down to at most this
BATCH = 64
FEWEST, PASSES = 40_000, 4  # examples seen in training at least, and passes over large data
WORK = 2.4e8  # elements seen in training at most, unless that is below LEAST examples
LEAST, QUICK = 10_000, 16_000  # examples seen: at least, and in the quick form
RATE, DECAY = 4e-3, 0.01
SCALED = 4096  # training examples that decide the scale of the features
SHIFT = 14  # pixels of a side per pixel of random shift
LEAST_CLASS = 5  # training examples of the rarest class, at least
MOST_CLASSES = 1000
VERSION = 1  # of the recipe; a change trains anew


@dataclass(frozen=True)
class Classifier:
    """A trained classifier.

    Attributes:
        network: Examples in data units (B, *event) to features and logits.
        event_shape: Shape of one example.
        classes: Names of the classes.
        accuracy: Fraction of the held-out examples that it classifies correctly.
        held_out: Number of those examples.
        hash: 16 digits of the SHA-256 of its weights.
        seconds: Wall time of its training; None where it came from the cache.
        images: Examples seen in training.
    """

    network: "Network"
    event_shape: tuple[int, ...]
    classes: tuple[str, ...]
    accuracy: float
    held_out: int
    hash: str
    seconds: float | None
    images: int
    name: str = field(default="classifier", init=False)

    @property
    def is_useful(self) -> bool:
        """Whether the accuracy is at least half way between chance, 1/classes, and 1."""
        return self.accuracy >= 0.5 * (1 + 1 / len(self.classes))

    def __call__(self, examples: Any) -> np.ndarray:
        """Features of examples in data units, (N, *event) to float64 (N, 64)."""
        return self.read(examples)[0]

    def read(self, examples: Any) -> tuple[np.ndarray, np.ndarray]:
        """Features, float64 (N, 64), and the most probable class of each example, int64 (N,)."""
        x = torch.as_tensor(np.asarray(examples)) if not isinstance(examples, Tensor) else examples
        features, labels = [], []
        with torch.no_grad():
            for part in x.detach().cpu().split(256):
                hidden, logits = self.network(part)
                features.append(hidden.double() / self.network.scale)
                labels.append(logits.argmax(1))
        return torch.cat(features).numpy(), torch.cat(labels).numpy()

    def to_dict(self) -> dict[str, Any]:
        """What a protocol record states of it."""
        return {
            "name": self.name,
            "hash": self.hash,
            "dimensions": FEATURES,
            "classes": len(self.classes),
            "held_out_accuracy": self.accuracy,
            "held_out": self.held_out,
            "images": self.images,
        }


class Network(nn.Module):
    """A small classifier: standardises its input, and returns features and logits.

    Args:
        event_shape: Shape of one example, channels first.
        classes: Number of classes.
        mean, std: Moments of each channel or column, in the form of `by_channel`.
    """

    mean: Tensor
    std: Tensor
    scale: Tensor

    def __init__(
        self, event_shape: tuple[int, ...], classes: int, mean: Tensor, std: Tensor
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean.to(torch.float64))
        self.register_buffer("std", std.to(torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.factor = 1
        if len(event_shape) == 3:
            self.factor = math.ceil(max(event_shape[1:]) / SIDE)
            self.body = _convolutions(event_shape, self.factor)
        else:
            self.body = _perceptron(math.prod(event_shape))
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(0.2), nn.Linear(FEATURES, classes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Examples (B, *event) in data units to features (B, 64) and logits (B, classes)."""
        x = ((x - self.mean) / self.std).to(torch.float32)  # dates keep their digits
        if self.factor > 1:
            x = F.avg_pool2d(x, self.factor, ceil_mode=True)
        features = self.body(x)
        return features, self.head(features)


def _convolutions(event_shape: tuple[int, ...], factor: int) -> nn.Sequential:
    """Four convolutions; the first and the third halve sides that are large enough."""
    channels, *sides = event_shape
    sides = [math.ceil(side / factor) for side in sides]
    layers: list[nn.Module] = []
    widths = (channels, WIDTHS[0], WIDTHS[0], WIDTHS[1], WIDTHS[1])
    for number, (inner, outer) in enumerate(pairwise(widths)):
        stride = 2 if number in (0, 2) and min(sides) >= 8 else 1
        size = 5 if number == 0 and min(sides) >= 16 else 3
        layers += [nn.Conv2d(inner, outer, size, stride, size // 2, bias=False)]
        layers += [nn.BatchNorm2d(outer), nn.ReLU()]
        sides = [math.ceil(side / stride) for side in sides]
    pooled = [min(side, 7) for side in sides]
    layers += [nn.AdaptiveAvgPool2d(tuple(pooled)), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(WIDTHS[1] * math.prod(pooled), FEATURES))


def _perceptron(elements: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(elements, HIDDEN),
        nn.SiLU(),
        nn.Linear(HIDDEN, HIDDEN),
        nn.SiLU(),
        nn.Linear(HIDDEN, FEATURES),
    )


def can_classify(labels: Tensor | None, train: Tensor, classes: int | None) -> str:
    """Why the labels cannot train a classifier; "" where they can.

    Args:
        labels: int64 (N,), or None.
        train: Indices of the training part.
        classes: Number of classes.

    Returns:
        The reason, or "".
    """
    if labels is None or classes is None:
        return "the data have no labels"
    counts = torch.bincount(labels[train], minlength=classes)
    if not 2 <= int((counts > 0).sum()) <= MOST_CLASSES:
        return f"the labels have {int((counts > 0).sum()):,} classes"
    rarest = int(counts[counts > 0].min())
    if rarest < LEAST_CLASS:
        return f"the rarest class has {rarest} training examples"
    return ""


def train_classifier(
    dataset: Dataset,
    train: Tensor,
    held_out: Tensor,
    *,
    quick: bool = False,
    cache: Path | None = None,
    report: Report | None = None,
) -> Classifier:
    """Train a classifier on the labels of the training part, or read it from the cache.

    Args:
        dataset: Data with labels that `can_classify` accepts.
        train: Indices of the training part.
        held_out: Indices of the held-out part, on which its accuracy is measured.
        quick: Whether the training is shortened.
        cache: Folder of trained classifiers; None: nothing is read or kept.
        report: Receives the fraction done.

    Returns:
        The classifier. Its weights are a function of the data, the split, and the arithmetic of
        the machine.
    """
    labels, count = dataset.labels, dataset.classes
    assert labels is not None and count is not None
    names = dataset.class_names or tuple(str(k) for k in range(count))
    mean, variance = by_channel(accumulate(dataset.floats, train, dataset.event_shape))
    std = torch.where(variance > 0, variance, torch.ones_like(variance)).sqrt()
    images = QUICK if quick else _images(len(train), math.prod(dataset.event_shape))
    path = None if cache is None else cache / f"{_key(dataset, train, images)}.safetensors"
    stored = None if path is None else read_tensors(path)
    with torch.random.fork_rng(devices=[]):
        order = rng.generator(0, Stream.CLASSIFIER)
        torch.manual_seed(int(torch.randint(1 << 62, (), generator=order)))
        network = Network(dataset.event_shape, count, mean, std)
        seconds = None
        if stored is None or not _fits(network, stored):
            began = time.perf_counter()
            _fit(network, dataset, train, images, order, report or _silent)
            seconds = time.perf_counter() - began
            network.eval()
            network.scale.copy_(_spread(network, dataset, train[:SCALED]))
            if path is not None:
                write_tensors(path, network.state_dict())
        else:
            network.load_state_dict(stored)
    network.eval().requires_grad_(False)
    made = Classifier(
        network, dataset.event_shape, tuple(names), math.nan, len(held_out), "", seconds, images
    )
    right = [
        made.read(dataset.floats(part))[1] == labels[part].numpy() for part in held_out.split(1024)
    ]
    accuracy = float(np.concatenate(right).mean()) if right else math.nan
    fields = {k: v for k, v in vars(made).items() if k not in ("name", "accuracy", "hash")}
    return Classifier(**fields, accuracy=accuracy, hash=hash_of(network.state_dict()))


def _spread(network: Network, dataset: Dataset, index: Tensor) -> Tensor:
    """Root mean variance of the features of some examples."""
    with torch.no_grad():
        rows = [network(dataset.floats(part))[0].double() for part in index.split(256)]
    return torch.cat(rows).var(0).mean().sqrt().clamp(min=1e-12)


def hash_of(tensors: Mapping[str, Tensor]) -> str:
    """16 digits of the SHA-256 of names and values of tensors."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _images(count: int, elements: int) -> int:
    """Examples seen in training."""
    wanted = max(FEWEST, PASSES * count)
    return int(min(wanted, max(LEAST, WORK / elements)))


def _key(dataset: Dataset, train: Tensor, images: int) -> str:
    """A name for the data, their split and the recipe."""
    known = dataset.description
    parts: Sequence[Any] = (
        VERSION,
        images,
        known.get("sha256"),
        known.get("labels_sha256"),
        hashlib.sha256(train.numpy().tobytes()).hexdigest(),
    )
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:32]


def _fits(network: nn.Module, stored: Mapping[str, Tensor]) -> bool:
    own = network.state_dict()
    return own.keys() == stored.keys() and all(own[k].shape == v.shape for k, v in stored.items())


def _silent(fraction: float, words: str, stage: str = "") -> None:
    """No report."""


def _fit(
    network: Network,
    dataset: Dataset,
    train: Tensor,
    images: int,
    order: torch.Generator,
    report: Callable[..., None],
) -> None:
    """Train by AdamW with one cycle of the learning rate, on randomly shifted examples."""
    labels = dataset.labels
    assert labels is not None
    steps = max(1, images // BATCH)
    shift = max(dataset.event_shape[1:]) // SHIFT if len(dataset.event_shape) == 3 else 0
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps)
    network.train()
    queue = train[:0]
    for step in range(steps):
        while len(queue) < BATCH:
            queue = torch.cat([queue, train[torch.randperm(len(train), generator=order)]])
        rows, queue = queue[:BATCH], queue[BATCH:]
        x = _shifted(dataset.floats(rows), shift, order)
        loss = F.cross_entropy(network(x)[1], labels[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        report((step + 1) / steps, "classifier of the labels")


def _shifted(x: Tensor, most: int, order: torch.Generator) -> Tensor:
    """Images moved by up to `most` pixels, the same for a batch; edges are repeated."""
    if most == 0:
        return x
    down, right = torch.randint(0, 2 * most + 1, (2,), generator=order).tolist()
    height, width = x.shape[2:]
    padded = F.pad(x, (most,) * 4, mode="replicate")
    return padded[:, :, down : down + height, right : right + width]
