"""`evaluate`: faults of samples by name and none for sound ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import scorefield as sf
from evaluation_helpers import digit_halves, evaluate_little
from scorefield import data
from scorefield.evaluation import Evaluation
from scorefield.evaluation.material import open_material


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate_little(monkeypatch)


@pytest.fixture(scope="module")
def halves() -> tuple[data.Dataset, torch.Tensor, torch.Tensor]:
    return digit_halves()


def judged(reference: data.Dataset, samples: Any, labels: Any, folder: Path) -> Evaluation:
    """Samples beside a reference, through a file as another system would give it."""
    arrays = {} if labels is None else {"class": np.asarray(labels)}
    np.savez(folder / "samples.npz", samples=np.asarray(samples, np.float32), **arrays)
    return sf.evaluate(None, reference, folder / "samples.npz", quick=True)


def test_samples_of_the_same_law_have_no_fault(halves: Any, tmp_path: Path) -> None:
    """False alarms: sound samples, two different draws of them, with and without classes."""
    reference, x, labels = halves
    for part in (slice(0, 400), slice(397, 797)):
        found = judged(reference, x[part], labels[part], tmp_path)
        assert found.verdict.names == () and found.verdict.standing == "learned", found.verdict
        told = found.row("c2st_accuracy").estimate
        assert told.low < 0.56
    assert found.parts["health"] is None and "samples alone" in found.verdict.lines[2]


def test_samples_of_another_data_set_are_named(halves: Any, tmp_path: Path) -> None:
    reference, x, _ = halves
    g = torch.Generator().manual_seed(0)
    noise = torch.rand(x[:300].shape, generator=g)
    assert judged(reference, noise, None, tmp_path).verdict.names == ("other data",)
    # Every digit upside down and inverted is an image of the same size and grey values.
    other = judged(reference, 1 - x[:300].flip(2), None, tmp_path)
    assert "other data" in other.verdict.names and other.verdict.standing == "broke"


def test_a_missing_class_is_named(halves: Any, tmp_path: Path) -> None:
    reference, x, labels = halves
    found = judged(reference, x[labels != 3], None, tmp_path)
    assert found.verdict.names == ("missing class",) and found.verdict.standing == "incomplete"
    assert [row.name for row in found.classes if row.is_missing] == ["3"]
    # With half of its frequency a class is not missing.
    kept = (labels != 3) | (torch.arange(len(labels)) % 2 == 0)
    assert judged(reference, x[kept], None, tmp_path).verdict.names == ()


def test_a_class_that_is_not_followed_is_named(halves: Any, tmp_path: Path) -> None:
    reference, x, labels = halves
    swapped = labels.clone()
    swapped[labels == 1], swapped[labels == 7] = 7, 1
    found = judged(reference, x, swapped, tmp_path)
    assert found.verdict.names == ("class not followed",)
    assert [row.name for row in found.classes if row.is_lost] == ["1", "7"]
    accuracy = found.parts["class_accuracy"]
    assert 0.7 < accuracy["samples"]["value"] < 0.85 < accuracy["data"]["value"]


def test_copies_of_the_training_part_are_named(halves: Any, tmp_path: Path) -> None:
    reference, x, _ = halves
    material = open_material(None, reference)
    copies = material.train.first(100)
    mixed = torch.cat([copies, x[:200]])  # a third of the samples
    found = judged(reference, mixed, None, tmp_path)
    assert found.verdict.names == ("memorised",) and found.verdict.standing == "memorised"
    assert found.parts["memorisation"]["copies"]["value"] == pytest.approx(1 / 3, abs=0.02)


def test_samples_of_one_kind_have_little_variety(halves: Any, tmp_path: Path) -> None:
    reference, x, labels = halves
    found = judged(reference, x[labels == 0], None, tmp_path)
    assert found.verdict.names == ("little variety",)
