"""The data of an evaluation: held-out and training parts of the data.

    model's own data     the parts of its training run
    other data           all of them are held out; the training part is that of the run
    samples alone        the data are halved: features are fitted on the first half, in which copies
                         are looked for; samples are compared with the second half

Samples are first brought to the form of the data, as files of samples are: images are clipped to
[0, 1] and rounded to the stored levels, columns of tables to their steps and words.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data import Dataset, ReadOptions, Split, is_card_data, open_card_data, open_like, split
from ..data import open as open_data
from ..data.table_form import TableForm
from ..errors import InputError
from ..models import ScoreModel
from ..units import quantise

LEAST = 40  # held-out examples
PART = 512  # examples read at a time


@dataclass(frozen=True)
class Part:
    """Some examples of a data set.

    Attributes:
        dataset: The data.
        index: int64 (N,), which of them.
    """

    dataset: Dataset
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    @property
    def labels(self) -> Tensor | None:
        """The labels of the examples, int64 (N,)."""
        return None if self.dataset.labels is None else self.dataset.labels[self.index]

    def first(self, count: int) -> Tensor:
        """The first examples, at most `count`, in data units."""
        return self.dataset.floats(self.index[:count])

    def parts(self) -> Iterator[Tensor]:
        """All examples in data units, part by part."""
        return (self.dataset.floats(one) for one in self.index.split(PART))


@dataclass(frozen=True)
class Material:
    """The data of an evaluation.

    Attributes:
        held_out: Examples that were not trained on.
        train: The training part.
        split: How they were chosen, in a sentence.
        unseen: int64, indices of examples of the training part's data set that are not in the
            part; the accuracy of a classifier of the labels is measured on them.
        is_own: Whether both are the parts of the model's training run.
    """

    held_out: Part
    train: Part
    split: str
    unseen: Tensor
    is_own: bool

    @property
    def dataset(self) -> Dataset:
        """The data set of the training part, which also fits features."""
        return self.train.dataset

    def to_dict(self) -> dict[str, Any]:
        """What a protocol record states of the data."""
        known = self.held_out.dataset.description
        return {
            "reference": self.held_out.dataset.name,
            "sha256": known.get("sha256"),
            "split": self.split,
            "held_out": len(self.held_out),
            "training": len(self.train),
        }


def open_material(
    model: ScoreModel | None,
    reference: Any = None,
    options: ReadOptions | None = None,
    seed: int = 0,
) -> Material:
    """Open the data of an evaluation; see the module docstring.

    Args:
        model: A score model; None for samples alone.
        reference: Anything that `data.open` takes; None: the data that the model was trained on.
        options: Reading options of other data.
        seed: Seed of the halves, where data are halved.

    Returns:
        The data.

    Raises:
        InputError: The data cannot be read, are too few, or have another shape than the model's.
    """
    card = None if model is None else model.card
    if reference is None and model is None:
        raise InputError(
            "samples alone need the data that they are compared with: give reference= "
            "(--reference DATA)"
        )
    if reference is None:
        return _own(open_card_data(card))
    dataset = open_data(reference, options) if card is None else open_like(card, reference, options)
    if model is not None and dataset.event_shape != tuple(model.event_shape):
        raise InputError(
            f"{dataset.name} has examples of shape {dataset.event_shape}; the model needs "
            f"{tuple(model.event_shape)}"
        )
    if card is not None and is_card_data(card, dataset):
        return _own(open_card_data(card, dataset))
    trained = None if card is None else _trained_on(card)
    if trained is None:
        train, held_out = split(dataset.labels, len(dataset), seed, 0.5)
        words = f"halves of the reference, seed {seed}; the first stands in for training data"
        parts = Part(dataset, held_out), Part(dataset, train)
        return _checked(Material(*parts, words, held_out, False))
    everything = Part(dataset, torch.arange(len(dataset)))
    words = "all of the reference is held out; the training part of the model's own run"
    own = Part(trained.dataset, trained.train)
    return _checked(Material(everything, own, words, trained.held_out, False))


def _own(parts: Split) -> Material:
    """The parts of a training run."""
    words = "held-out and training parts of the model's run"
    held_out, train = Part(parts.dataset, parts.held_out), Part(parts.dataset, parts.train)
    return _checked(Material(held_out, train, words, parts.held_out, True))


def _trained_on(card: Mapping[str, Any]) -> Split | None:
    """The parts of a model's run; None where its data cannot be read again."""
    try:
        return open_card_data(card)
    except InputError:
        return None


def _checked(material: Material) -> Material:
    for name, part in (("held-out", material.held_out), ("training", material.train)):
        if len(part) < LEAST:
            raise InputError(
                f"an evaluation needs {LEAST} or more {name} examples; got {len(part)} of "
                f"{part.dataset.name}. Give more with reference= (--reference DATA)"
            )
    return material


def settle(dataset: Dataset, x: Tensor) -> Tensor:
    """Samples in the form of the data: clipped and rounded as their files are.

    Args:
        dataset: The data.
        x: (B, *event) in data units.

    Returns:
        (B, *event) on the CPU, in data units.
    """
    x = x.detach().cpu()
    if isinstance(dataset.form, TableForm):
        return dataset.form.settle(x)
    if not dataset.image:
        return x
    if dataset.quantisation_levels is None:
        return x.clamp(0, 1)
    levels = dataset.quantisation_levels
    return quantise(x, levels).to(torch.float32).div_(levels - 1)
