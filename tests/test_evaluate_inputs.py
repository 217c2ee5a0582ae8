"""What `evaluate` takes: models, samples, tables, features; and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import scorefield as sf
from evaluation_helpers import digit_halves, evaluate_little
from scorefield import data
from scorefield.errors import InputError
from scorefield.evaluation import read_samples
from scorefield.evaluation.material import open_material
from scorefield.exact import GaussianMixture
from scorefield.models import Wrapped


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate_little(monkeypatch)


@pytest.fixture(scope="module")
def halves() -> tuple[data.Dataset, torch.Tensor, torch.Tensor]:
    return digit_halves()


class Broken(Wrapped):
    """Denoises to NaN below a noise level."""

    def denoise(self, x: torch.Tensor, sigma: torch.Tensor, condition: Any = None) -> torch.Tensor:
        found = self.inner.denoise(x, sigma, condition)
        low = float(torch.as_tensor(sigma).min())
        return found * torch.nan if low < 1 else found

    def score(self, x: torch.Tensor, sigma: torch.Tensor, condition: Any = None) -> torch.Tensor:
        spread = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
        return (self.denoise(x, sigma, condition) - x) / spread.square()


def mixture() -> tuple[GaussianMixture, torch.Tensor]:
    """Two Gaussians of the plane, and 600 draws."""
    model = GaussianMixture([[-2.0, 0.0], [2.0, 1.0]], 0.5)
    return model, model.sample(600, 0.0, 3)


def test_an_exact_density_is_sound() -> None:
    model, x = mixture()
    found = sf.evaluate(model, x.numpy(), quick=True, count=400)
    assert found.verdict.names == () and found.verdict.standing == "learned"
    assert found.parts["health"]["sound"]
    assert found.protocol["measured"]["features"]["name"] == "columns"


def test_sampling_that_breaks_is_a_verdict_and_not_an_end() -> None:
    model, x = mixture()
    found = sf.evaluate(Broken(model), x.numpy(), quick=True)
    assert found.verdict.standing == "broke" and "not finite" in found.verdict.names
    assert found.features == () and "Sampling broke" in found.verdict.lines[0]
    assert "<h2>" in found.html()


def test_samples_are_read_in_the_units_of_the_data(halves: Any, tmp_path: Path) -> None:
    reference, x, _ = halves
    stored = (x[:50] * 16).round()
    for array in (x[:50], x[:50].numpy(), x[:50].double()):
        assert torch.equal(read_samples(array, reference).x, x[:50])
    np.save(tmp_path / "a.npy", stored.to(torch.uint8).numpy())
    assert torch.equal(read_samples(tmp_path / "a.npy", reference).x, x[:50])
    assert torch.equal(read_samples(str(tmp_path / "a.npy"), reference).x, x[:50])
    middle = (stored + 0.4) / 17  # samples are rounded to the levels of the data, floor(levels x)
    assert torch.equal(read_samples(middle, reference).x, x[:50])
    with pytest.raises(InputError, match=r"intensities in \[0, 1\]"):
        read_samples(stored.float(), reference)
    with pytest.raises(InputError, match="20 or more"):
        read_samples(x[:5], reference)
    with pytest.raises(InputError, match="shape"):
        read_samples(np.zeros((50, 1, 9, 9), np.uint8), reference)


def table(rows: int, seed: int, shift: float = 0.0) -> dict[str, Any]:
    """Columns that depend on each other, one of words."""
    random = np.random.default_rng(seed)
    age = random.integers(18, 90, rows)
    pressure = np.round(100 + 0.5 * age + random.normal(0, 8, rows) + shift, 1)
    sex = random.choice(["f", "m"], rows, p=[0.6, 0.4])
    return {"age": age, "pressure": pressure, "sex": sex}


def test_tables_are_compared_column_by_column(tmp_path: Path) -> None:
    reference = data.open(table(600, 0))
    same = sf.evaluate(None, reference, table(300, 1), quick=True)
    assert same.verdict.names == ()
    moved = sf.evaluate(None, reference, table(300, 2, shift=30.0), quick=True)
    for metric in ("marginal_w1", "c2st_accuracy"):
        assert moved.row(metric).estimate.low > same.row(metric).estimate.high
    assert moved.row("category_tv").at_floor
    with pytest.raises(InputError, match="no metric 'spectrum'"):
        moved.row("spectrum")


def test_what_cannot_be_judged_is_refused(halves: Any) -> None:
    reference, x, _ = halves
    with pytest.raises(InputError, match="needs a model"):
        sf.evaluate()
    with pytest.raises(InputError, match="need the data"):
        sf.evaluate(samples=x[:50])
    with pytest.raises(InputError, match="score model"):
        sf.evaluate(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="40"):
        sf.evaluate(mixture()[0], mixture()[1].numpy(), count=7)
    with pytest.raises(InputError, match="40 or more held-out"):
        sf.evaluate(mixture()[0], mixture()[1][:50].numpy())
    with pytest.raises(InputError, match="needs"):
        sf.evaluate(mixture()[0], reference)


def test_features_computed_elsewhere_are_used_in_their_order(halves: Any) -> None:
    from scorefield.evaluation import GivenFeatures

    reference, x, _ = halves
    material = open_material(None, reference)
    flat = [
        part.flatten(1).double().numpy()[:, 20:40]
        for part in (x[:200], material.held_out.first(1000), material.train.first(1000))
    ]
    own = GivenFeatures(*flat, space="pixels 20 to 39")
    found = sf.evaluate(None, reference, x[:200], features=own, quick=True)
    assert found.protocol["measured"]["features"]["space"] == "pixels 20 to 39"
    assert found.verdict.names == ()
    with pytest.raises(InputError, match="same order"):
        sf.evaluate(None, reference, x[:199], features=own, quick=True)
    with pytest.raises(InputError, match="draw the samples first"):
        own(x)
