"""Conditions that training has not seen are refused or said, and classes keep their numbers."""

import copy
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import scorefield as sf
from cli_helpers import call
from data_helpers import refused
from scorefield import conditions, data
from scorefield.checkpoint import save_model
from scorefield.cli.conditioning import read_condition
from scorefield.cli.examples import Chosen, choose_examples, data_units
from scorefield.cli.examples import choose_condition as kind_of
from scorefield.evaluation.collect import choose_condition
from scorefield.training import Evaluator, Hooks
from test_condition_data import SMALL as SETTINGS

COUNT = 120
X = np.random.default_rng(0).normal(size=(COUNT, 2))
FEW = ["--count", 4, "--nfe", 4, "--threads", 1, "--precision", "float32", "--compile", "off"]


def fit(folder, source, **arguments):
    """The model of a short run, and the notices of its training."""
    notices = []
    hooks = Hooks(on_notice=notices.append)
    sf.fit(source, folder, images=128, settings=SETTINGS, hooks=hooks, **arguments)
    return sf.load(folder), notices


@pytest.fixture(scope="module")
def gap(tmp_path_factory):
    """A run whose labels are 1, 2 and 3, of which no example has class 0."""
    folder = tmp_path_factory.mktemp("gap") / "run"
    return folder, *fit(folder, X, condition={"class": np.arange(COUNT) % 3 + 1})


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A run of a table whose classes are called 1, 2 and 3: their numbers are 0, 1 and 2."""
    place = tmp_path_factory.mktemp("named")
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "kind": np.arange(COUNT) % 3 + 1})
    frame.to_csv(place / "t.csv", index=False)
    return place, *fit(place / "run", place / "t.csv", condition={"class": "kind"})


# -- classes without a training example


def test_a_class_without_an_example_is_said_recorded_and_refused(gap, tmp_path, capsys):
    folder, model, notices = gap
    words = "classes without a training example, 1 of 4: 0. The model cannot be sampled for them"
    assert words in notices
    assert model.conditions["class"].unseen == (0,)
    refused("had the class 0", "1, 2, 3", call=lambda: sf.sample(model, 2, condition={"class": 0}))
    x = torch.tensor(X[:2])
    refused("had the class 0", call=lambda: sf.log_prob(model, x, condition={"class": 0}))
    assert sf.sample(model, 2, nfe=4, condition={"class": 1}).shape == (2, 2)
    out = tmp_path / "out"
    assert call("sample", folder, "--out", out, *FEW, "--class", "1,0") == 2
    assert "no training example had the class 0" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()
    assert call("sample", folder, "--out", out, *FEW, "--class", "1,2,3") == 0


def test_classes_that_all_have_examples_are_neither_said_nor_recorded(named):
    _, model, notices = named
    assert model.conditions["class"].unseen is None
    assert "unseen" not in model.conditions["class"].to_dict()
    assert not any("training example" in text for text in notices)


def test_a_card_without_the_record_behaves_as_before(gap, tmp_path):
    model = sf.load(gap[0])
    card = copy.deepcopy(model.card)
    del card["conditions"]["class"]["unseen"]
    old = sf.load(save_model(tmp_path / "old.safetensors", model, card=card))
    assert old.conditions["class"].unseen is None
    assert sf.sample(old, 2, nfe=4, condition={"class": 0}).shape == (2, 2)


def test_examples_of_a_class_that_was_not_seen_are_said(gap, capsys):
    _, model, _ = gap
    for labels, said in ((np.arange(COUNT) % 4, True), (np.arange(COUNT) % 3 + 1, False)):
        dataset = data.open({"x": X, "y": labels})
        chosen = Chosen(dataset, torch.arange(8), "all")
        assert kind_of(model, chosen, "class") == "class"
        assert ("had the class 0" in capsys.readouterr().out) is said


# -- class numbers of the data are no names


def test_labels_of_the_data_are_numbers_and_no_names(named):
    place, model, _ = named
    chosen = choose_examples(model.card, str(place / "t.csv"), "all")
    _, given = data_units(model, chosen, 0, "class")
    found = conditions.resolve(given, model.conditions, COUNT)
    assert torch.equal(found["class"], chosen.dataset.labels)


def test_conditions_of_files_and_options_are_numbers_and_no_names(named):
    _, model, _ = named
    known = read_condition(model, None, None, 2, known={"class": torch.tensor([0, 1])})
    typed = read_condition(model, "1,2", None, 2)
    for found in (known, typed):
        assert conditions.resolve(found, model.conditions, 2)["class"].tolist() == [0, 1]


def test_evaluations_and_previews_draw_the_classes_of_the_data(named):
    place, model, _ = named
    assert Evaluator.preview(SimpleNamespace(condition=None, seed=0), model, 3).shape == (3, 2)
    dataset = data.open(place / "t.csv", condition="class", condition_from="kind")
    part = SimpleNamespace(labels=dataset.labels)
    drawn = choose_condition(model, SimpleNamespace(train=part), 6)
    found = conditions.resolve(drawn, model.conditions, 6)["class"]
    assert found.bincount().tolist() == [2, 2, 2]


# -- vectors far outside the training data


@pytest.mark.parametrize("source", ["columns", "array"])
def test_vectors_far_outside_are_said(source, tmp_path, capsys):
    vectors = np.random.default_rng(1).uniform(1, 3, (COUNT, 2))
    origin = vectors
    table = X
    if source == "columns":
        table = tmp_path / "t.csv"
        frame = pd.DataFrame({"a": X[:, 0], "north": vectors[:, 0], "east": vectors[:, 1]})
        frame.to_csv(table, index=False)
        origin = ["north", "east"]
    model, _ = fit(tmp_path / "run", table, condition={"vector": origin})
    spec = model.conditions["vector"]
    assert all(1 <= low < 1.2 for low in spec.low) and all(2.8 < high <= 3 for high in spec.high)
    with pytest.warns(RuntimeWarning, match=r"far outside the training data.* 9 for"):
        sf.sample(model, 2, nfe=4, condition={"vector": [9, 2]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sf.sample(model, 2, nfe=4, condition={"vector": [1.5, 4.5]})
    for vector, said in (("2,1e6", True), ("1.5,2.5", False)):
        out = tmp_path / vector
        capsys.readouterr()
        assert call("sample", tmp_path / "run", "--out", out, *FEW, "--vector", vector) == 0
        assert ("far outside the training data" in capsys.readouterr().out) is said
