"""`evaluate`: faults of samples by name and none for sound ones, the record, the page, compare."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import scorefield as sf
from scorefield import data
from scorefield.errors import InputError
from scorefield.evaluation import Evaluation, compare, measuring, read_evaluation, read_samples
from scorefield.evaluation.material import open_material
from scorefield.exact import GaussianMixture
from scorefield.models import Wrapped


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    from scorefield.evaluation import classifier, health_step

    monkeypatch.setattr(measuring, "COUNTS", {True: 96, False: 96})
    monkeypatch.setattr(measuring, "VECTORS", 1)
    monkeypatch.setattr(classifier, "QUICK", 8000)
    monkeypatch.setattr(health_step, "QUICK_LEVELS", 2)
    monkeypatch.setattr(health_step, "QUICK_EXAMPLES", 32)


@pytest.fixture(scope="module")
def halves() -> tuple[data.Dataset, torch.Tensor, torch.Tensor]:
    """1,000 of the digits as a reference, and the other 797 as samples with their classes."""
    digits = data.open("digits")
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(7))
    some, rest = order[:1000], order[1000:]
    x, labels = digits.values.numpy(), digits.labels
    reference = data.open({"images": x[some], "labels": labels[some].numpy()}, range=(0, 16))
    return reference, digits.floats(rest), labels[rest]


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


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def fetches(text: str) -> list[str]:
    """What a browser would fetch or run."""
    found = []
    for tag, attributes in Page(text).tags:
        if tag in ("script", "link", "iframe", "object", "embed"):
            found.append(tag)
        for name in ("src", "href", "srcset", "xlink:href", "onload", "onclick"):
            value = attributes.get(name) or ""
            if value and not value.startswith("data:image/png;base64,"):
                found.append(f"{name}={value[:40]}")
    return found + re.findall(r"@import|url\(", text)


@pytest.fixture(scope="module")
def on_run(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Path]:
    """The evaluation of a small run with its files."""
    from scorefield.evaluation import classifier, health_step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "COUNTS", {True: 96, False: 96})
        patch.setattr(classifier, "QUICK", 8000)
        patch.setattr(health_step, "QUICK_LEVELS", 2)
        patch.setattr(health_step, "QUICK_EXAMPLES", 32)
        found = sf.evaluate(digits_run, quick=True)
    folder = tmp_path_factory.mktemp("evaluation")
    found.save(folder)
    return found, folder


@pytest.mark.training
def test_the_page_is_one_file_that_fetches_nothing(on_run: tuple[Evaluation, Path]) -> None:
    text = (on_run[1] / "evaluation.html").read_text()
    assert fetches(text) == []
    assert "default-src 'none'" in text and 'name="viewport"' in text
    images = [a for tag, a in Page(text).tags if tag == "img"]
    assert len(images) >= 4 and all(a.get("alt") for a in images)
    tags = [tag for tag, _ in Page(text).tags]
    assert tags.count("svg") >= len(on_run[0].features)
    for line in on_run[0].verdict.lines:
        assert line.split(";")[0].split("'")[0] in text


def test_the_check_of_pages_finds_what_would_be_fetched() -> None:
    assert fetches('<img src="https://a/b.png"><script>1</script>') == [
        "src=https://a/b.png",
        "script",
    ]
    assert fetches("<style>@import url(x)</style>") == ["@import", "url("]


def test_names_of_data_cannot_add_tags_to_the_page(on_run: tuple[Evaluation, Path]) -> None:
    from dataclasses import replace

    found = replace(on_run[0], title="<script>alert(1)</script>", pictures={})
    assert "<script>" not in found.html()


@pytest.mark.training
def test_the_record_states_how_every_number_was_made(on_run: tuple[Evaluation, Path]) -> None:
    document = read_evaluation(on_run[1])
    measured, subject, run = (document["protocol"][n] for n in ("measured", "subject", "run"))
    assert measured["samples"] == 96 and measured["data"]["held_out"] == 180
    assert len(measured["features"]["hash"]) == 16 and measured["seed"] == 0
    assert "rounded to 17 levels" in measured["form_of_samples"]
    assert subject["sampling"]["nfe"] == 32 and subject["sampling"]["ladder"]
    assert subject["model"]["weights"]["average"]["profiles"] and subject["model"]["card_sha256"]
    assert subject["model"]["dequantisation"] == {"levels": 17, "uniform": True}
    assert run["versions"]["torch"] == torch.__version__ and set(run["seconds"]) >= {"sampling"}
    for row in document["metrics"]:
        assert row["estimate"]["level"] == 0.9 and row["floor"]["value"] is not None
        assert row["estimate"]["low"] <= row["estimate"]["value"] <= row["estimate"]["high"]


@pytest.mark.training
def test_an_evaluation_is_a_function_of_its_seed(
    on_run: tuple[Evaluation, Path], digits_run: Path
) -> None:
    def numbers(found: Evaluation) -> Any:
        document = json.loads(json.dumps(found.to_dict()))
        document["protocol"].pop("run")
        for row in document["metrics"]:
            row.pop("seconds")
        return document

    again = sf.evaluate(digits_run, quick=True)
    assert numbers(again) == numbers(on_run[0])
    assert numbers(sf.evaluate(digits_run, quick=True, seed=1)) != numbers(again)


@pytest.mark.training
def test_evaluations_made_in_one_way_are_compared(
    on_run: tuple[Evaluation, Path], digits_run: Path, tmp_path: Path
) -> None:
    model = sf.load(digits_run)
    short = sf.evaluate(model, recipe=sf.resolve_sampling(model, nfe=3), quick=True)
    found = compare(on_run[0], short, ("32 evaluations", "3 evaluations"))
    assert found.rows and "32 evaluations is better in" in found.sentence
    differing = {name for name, _, _ in found.subjects}
    assert "sampling.nfe" in differing and "sampling.ladder" in differing
    better = {row.metric: row.better for row in found.rows if row.against == "held-out"}
    assert better["c2st_accuracy"] == "first"
    assert fetches(found.html()) == [] and json.dumps(found.to_dict())
    same = compare(on_run[1], on_run[0])
    assert {row.better for row in same.rows} == {""} and not same.subjects


@pytest.mark.training
@pytest.mark.parametrize(
    ("change", "name"), [({"seed": 1}, "seed"), ({"count": 80}, "samples"), ({}, "quick")]
)
def test_evaluations_made_in_different_ways_are_refused(
    on_run: tuple[Evaluation, Path], tmp_path: Path, change: dict[str, int], name: str
) -> None:
    document = read_evaluation(on_run[1])
    measured = document["protocol"]["measured"]
    measured |= {"seed": change.get("seed", 0), "samples": change.get("count", 96)}
    measured["quick"] = bool(change)
    (tmp_path / "evaluation.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=rf"{name} is .* in the first, .* in the second"):
        compare(on_run[1], tmp_path)


def test_other_files_are_no_evaluations(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_evaluation(tmp_path)
    (tmp_path / "evaluation.json").write_text('{"format": "x"}')
    with pytest.raises(InputError, match="is no evaluation"):
        read_evaluation(tmp_path)
    (tmp_path / "evaluation.json").write_text('{"format": "scorefield evaluation", "version": 99}')
    with pytest.raises(InputError, match="version 99"):
        read_evaluation(tmp_path)


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
