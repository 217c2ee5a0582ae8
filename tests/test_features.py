"""Feature spaces: what they are fitted on, what names them, and the classifier with its cache."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from scorefield import data
from scorefield.data import split
from scorefield.errors import InputError
from scorefield.evaluation import cache, classifier, collect, features
from scorefield.evaluation.classes import fraction
from scorefield.evaluation.classifier import can_classify, train_classifier
from scorefield.evaluation.features import (
    Columns,
    Features,
    GivenFeatures,
    Principal,
    check_features,
    check_rows,
    choose_features,
)


def stripes(count: int = 300, seed: int = 0, noise: float = 0.2) -> data.Dataset:
    """Images (1, 8, 8) of three classes: a bright row, a bright column, or neither."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    x = noise * torch.rand(count, 1, 8, 8, generator=g)
    x[labels == 0, :, 3] += 0.7
    x[labels == 1, :, :, 4] += 0.7
    return data.open({"images": x.numpy(), "labels": labels.numpy()}, image=True)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "FEWEST", 6000)
    monkeypatch.setattr(classifier, "QUICK", 3000)


@pytest.fixture
def parts() -> tuple[data.Dataset, torch.Tensor, torch.Tensor]:
    dataset = stripes()
    return dataset, *split(dataset.labels, len(dataset), 0, 0.2)


def test_columns_are_standard_deviations_of_the_training_part() -> None:
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)).double()
    x = x * torch.tensor([1.0, 100.0, 0.0]) + torch.tensor([0.0, 2.46e6, 7.0])
    dataset = data.open(x.numpy())
    found = Columns.fit(dataset, torch.arange(300))
    rows = found(x[:300])
    assert np.allclose(rows.mean(0), 0, atol=1e-9)
    assert np.allclose(rows.std(0), [1, 1, 0], atol=1e-9)
    assert found.hash == Columns.fit(dataset, torch.arange(300)).hash
    assert found.hash != Columns.fit(dataset, torch.arange(299)).hash


def test_principal_axes_span_the_data_on_one_scale() -> None:
    g = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(40, 3, generator=g))[0]
    x = torch.randn(500, 3, generator=g) * torch.tensor([5.0, 2.0, 1.0]) @ basis.T
    x = x + 1e-4 * torch.randn(500, 40, generator=g)
    dataset = data.open(x.reshape(500, 1, 40).numpy())
    found = Principal.fit(dataset, torch.arange(500))
    rows = found(dataset.floats(slice(None)))
    assert found.explained > 0.9999
    assert rows.var(0).mean() == pytest.approx(1, rel=0.01)
    # Orthogonal axes on one scale keep the proportions of distances.
    assert rows[:, 0].var() / rows[:, 1].var() == pytest.approx(6.25, rel=0.15)
    assert found.hash == Principal.fit(dataset, torch.arange(500)).hash


def test_the_classifier_learns_its_labels_and_is_kept(
    parts: tuple[data.Dataset, torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    dataset, train, held_out = parts
    first = train_classifier(dataset, train, held_out, cache=tmp_path)
    assert first.accuracy > 0.95 and first.seconds is not None and first.is_useful
    rows, labels = first.read(dataset.floats(held_out))
    assert rows.shape == (len(held_out), 64) and rows.dtype == np.float64
    assert (labels == dataset.labels[held_out].numpy()).mean() == first.accuracy
    assert first(dataset.floats(train)).var(0).mean() == pytest.approx(1, rel=0.01)
    again = train_classifier(dataset, train, held_out, cache=tmp_path)
    assert again.seconds is None and again.hash == first.hash
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]
    other = train_classifier(dataset, train[:-1], held_out, cache=tmp_path)
    assert other.hash != first.hash and len(list(tmp_path.iterdir())) == 2


def test_a_damaged_cache_is_made_anew_and_a_closed_one_keeps_nothing(
    parts: tuple[data.Dataset, torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    dataset, train, held_out = parts
    first = train_classifier(dataset, train, held_out, quick=True, cache=tmp_path)
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    again = train_classifier(dataset, train, held_out, quick=True, cache=tmp_path)
    assert again.seconds is not None and again.hash == first.hash
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert not cache.write_tensors(blocked / "x.safetensors", {"a": torch.ones(1)})


def test_the_cache_follows_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOREFIELD_CACHE", "/a")
    assert cache.cache_folder() == Path("/a/features")
    monkeypatch.delenv("SCOREFIELD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache.cache_folder() == Path("/b/scorefield/features")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == Path(os.path.expanduser("~/.cache/scorefield/features"))


def test_labels_that_mean_nothing_give_principal_axes(
    parts: tuple[data.Dataset, torch.Tensor, torch.Tensor],
) -> None:
    dataset, train, held_out = parts
    g = torch.Generator().manual_seed(3)
    shuffled = dataset.with_labels(dataset.labels[torch.randperm(300, generator=g)], None)
    chosen = choose_features(shuffled, train, held_out, quick=True)
    assert chosen.classifier is None and isinstance(chosen.features, Principal)
    assert "recognises" in chosen.note
    chosen = choose_features(dataset, train, held_out, quick=True)
    assert chosen.classifier is chosen.features


@pytest.mark.parametrize(
    ("labels", "words"),
    [(None, "no labels"), ([0] * 300, "1 classes"), ([0] * 298 + [1, 1], "2 training examples")],
)
def test_labels_that_cannot_train_a_classifier_are_told(
    labels: list[int] | None, words: str
) -> None:
    known = None if labels is None else torch.tensor(labels)
    assert words in can_classify(known, torch.arange(300), None if labels is None else 2)


def test_vectors_keep_their_columns_and_have_a_classifier_beside() -> None:
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 2
    x = torch.randn(400, 2, generator=g) + 6.0 * labels[:, None]
    dataset = data.open({"data": x.numpy(), "labels": labels.numpy()})
    train, held_out = split(dataset.labels, 400, 0, 0.25)
    chosen = choose_features(dataset, train, held_out, quick=True)
    assert isinstance(chosen.features, Columns)
    assert chosen.classifier is not None and chosen.classifier.accuracy > 0.95


class Own:
    """Features of a user."""

    name, hash = "own", "0123"

    def __call__(self, examples: torch.Tensor) -> np.ndarray:
        return np.asarray(examples).reshape(len(examples), -1)[:, :2]

    def to_dict(self) -> dict[str, str]:
        return {"name": self.name, "hash": self.hash}


def test_features_of_the_user_are_checked() -> None:
    assert isinstance(Own(), Features) and check_features(Own()).name == "own"
    with pytest.raises(InputError, match="features must be an object"):
        check_features(lambda x: x)
    with pytest.raises(InputError, match=r"finite \(2, k\)"):
        check_rows([[1.0, np.nan], [0.0, 1.0]], 2)


def test_given_features_are_read_and_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    np.savez(path, samples=np.ones((5, 3)), reference=np.ones((4, 3)), name="net pool3")
    found = GivenFeatures.read(path)
    assert found.samples.shape == (5, 3) and found.train is None and found.space == "net pool3"
    np.savez(path, samples=np.ones((5, 3)), reference=np.ones((4, 2)), name="net")
    with pytest.raises(InputError, match="reference must be"):
        GivenFeatures.read(path)
    np.savez(path, samples=np.ones((5, 3)), reference=np.ones((4, 3)))
    with pytest.raises(InputError, match="lacks the array 'name'"):
        GivenFeatures.read(path)
    path.write_text("no archive")
    with pytest.raises(InputError, match=r"no readable \.npz"):
        GivenFeatures.read(path)
    with pytest.raises(InputError, match="draw the samples first"):
        found(torch.ones(2, 3))


def test_of_many_samples_only_features_are_kept(
    parts: tuple[data.Dataset, torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    from scorefield.evaluation.material import Material, Part

    monkeypatch.setattr(collect, "KEPT", 20)
    dataset, train, held_out = parts
    material = Material(Part(dataset, held_out), Part(dataset, train), "", held_out, False)
    chosen = features.Chosen(Own(), None, "")
    collector = collect.Collector(material, chosen)
    for _ in range(6):
        collector(torch.rand(16, 1, 8, 8))
    found = collector.collected(None, None, 0.0)
    assert len(found) == 96 and found.features.shape == (96, 2) and len(found.kept) == 20
    assert sum(x.untyped_storage().nbytes() for x in collector.kept) == 20 * 64 * 4


@pytest.mark.parametrize("count", [7, 10, 64, 1000])
def test_classes_are_in_proportion_and_spread_evenly(count: int) -> None:
    counts = torch.tensor([30, 0, 10, 60])
    found = collect.in_proportion(counts, count)
    taken = torch.bincount(found, minlength=4).double()
    assert len(found) == count and float(taken[1]) == 0
    assert ((taken - counts.double() * count / 100).abs() < 1).all()
    if count >= 64:  # every part has the proportions too
        half = torch.bincount(found[: count // 2], minlength=4).double()
        assert ((half - taken / 2).abs() <= 1).all()


def test_intervals_of_fractions_cover() -> None:
    """90 % intervals, 4000 repeats a case: coverage of a discrete law lies between 84 and 96 %."""
    random = np.random.default_rng(0)
    for p, n in ((0.5, 40), (0.1, 100), (0.02, 400)):
        inside = 0
        for k in random.binomial(n, p, 4000):
            found = fraction(int(k), n, 0.9)
            inside += found.low <= p <= found.high
        assert 0.84 < inside / 4000 < 0.965, (p, n)
    assert fraction(0, 50, 0.9).low == 0 and fraction(50, 50, 0.9).high == 1


@pytest.mark.slow
def test_the_classifier_of_mnist5k_recognises_97_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    dataset = data.open("mnist5k")
    train, held_out = split(dataset.labels, len(dataset), 0, 0.1)
    assert train_classifier(dataset, train, held_out).accuracy >= 0.97
