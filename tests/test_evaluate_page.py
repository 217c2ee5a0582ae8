"""What `evaluate` writes for a small run: the page, the record, and two of them side by side."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

import scorefield as sf
from scorefield.errors import InputError
from scorefield.evaluation import (
    Evaluation,
    classifier,
    compare,
    health_step,
    measuring,
    read_evaluation,
)


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch)


def few(patch: pytest.MonkeyPatch) -> None:
    """Fewer samples and noise levels."""
    patch.setattr(measuring, "COUNTS", {True: 96, False: 96})
    patch.setattr(classifier, "QUICK", 8000)
    patch.setattr(health_step, "QUICK_LEVELS", 2)
    patch.setattr(health_step, "QUICK_EXAMPLES", 32)


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
    with pytest.MonkeyPatch.context() as patch:
        few(patch)
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
    assert fetches(found.html()) == [] and json.dumps(found.to_dict())
    same = compare(on_run[1], on_run[0])
    assert {row.better for row in same.rows} == {""} and not same.subjects


@pytest.mark.parametrize(
    ("metric", "move", "better"),
    [
        ("frechet", 1.0, "first"),
        ("frechet", -1.0, "second"),
        ("coverage", -0.9, "first"),
        ("density", 3.0, "first"),
        ("frechet", 0.0, ""),
    ],
)
@pytest.mark.training
def test_the_better_one_is_where_intervals_do_not_overlap(
    on_run: tuple[Evaluation, Path], tmp_path: Path, metric: str, move: float, better: str
) -> None:
    document = read_evaluation(on_run[1])
    for row in document["metrics"]:
        if row["metric"] == metric:
            width = row["estimate"]["high"] - row["estimate"]["low"]
            step = move * max(1.0, 2 * width) if move else 0.1 * width
            for name in ("low", "value", "high"):
                row["estimate"][name] += step
    (tmp_path / "evaluation.json").write_text(json.dumps(document))
    found = compare(on_run[1], tmp_path)
    assert {row.better for row in found.rows if row.metric == metric} == {better}
    assert {row.better for row in found.rows if row.metric != metric} == {""}


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
