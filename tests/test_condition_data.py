"""Conditions from data: where classes and vectors come from, and that samples go back with them."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import scorefield as sf
from cli_helpers import call
from data_helpers import refused
from scorefield import conditions, data
from scorefield.conditions import ConditionSpec
from scorefield.models import Preconditioned
from scorefield.training import Hooks

ROWS = 60
SMALL = {
    "network.name": "mlp",
    "network.options.width": 16,
    "optim.batch": 32,
    "execution.compile": "off",
    "execution.threads": 1,
    "execution.precision": "float32",
}
WORDS = np.array(["wren", "owl", "crane"])[np.arange(ROWS) % 3]
NUMBERS = np.random.default_rng(1).normal(5, 3, (ROWS, 2))


def birds() -> pd.DataFrame:
    """Two measured columns, a word, and two columns for vectors."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "length": rng.normal(10, 2, ROWS),
            "species": WORDS,
            "mass": rng.normal(0.1, 0.02, ROWS),
            "north": NUMBERS[:, 0],
            "east": NUMBERS[:, 1],
            "year": np.where(np.arange(ROWS) % 2 == 0, 1999, 2024),
        }
    )


def fit(source, folder, **arguments):
    """A run of a few steps, and its model."""
    sf.fit(source, folder, images=128, settings=SMALL, hooks=Hooks(), **arguments)
    return sf.load(folder)


@pytest.fixture
def archive(tmp_path):
    """An .npz of points with arrays that may be their condition."""
    path = tmp_path / "points.npz"
    points = np.random.default_rng(2).normal(size=(ROWS, 3))
    np.savez(path, x=points, theta=NUMBERS, kind=WORDS, number=np.arange(ROWS) % 4 + 7)
    return path


# -- where classes come from


@pytest.mark.parametrize("form", ["frame", "csv", "parquet", "semicolons"])
def test_a_column_of_words_is_the_class(form, tmp_path):
    source = birds()
    if form == "csv":
        source = tmp_path / "birds.csv"
        birds().to_csv(source, index=False)
    elif form == "parquet":
        source = tmp_path / "birds.parquet"
        birds().to_parquet(source)
    elif form == "semicolons":
        source = tmp_path / "birds.csv"
        birds().to_csv(source, index=False, sep=";", decimal=",")
    found = data.open(source, condition="class", condition_from="species")
    assert found.class_names == ("crane", "owl", "wren")
    assert [found.class_names[k] for k in found.labels] == WORDS.tolist()
    assert found.columns == ("length", "mass", "north", "east", "year")
    assert "condition: the class in species (3 classes: crane, owl, wren)" in found.report[1]


def test_a_column_of_few_numbers_is_the_class_and_its_names_are_the_numbers():
    found = data.open(birds(), condition="class", condition_from="year", columns=["length"])
    assert found.class_names == ("1999", "2024")
    assert found.labels.tolist() == [k % 2 for k in range(ROWS)]
    assert found.columns == ("length",)
    assert "year" not in "".join(found.reading.left_out)


@pytest.mark.parametrize(
    ("key", "names", "first"),
    [("kind", ("crane", "owl", "wren"), [2, 1, 0, 2]), ("number", None, [7, 8, 9, 10])],
)
def test_an_array_of_an_archive_is_the_class(archive, key, names, first):
    found = data.open(archive, condition="class", condition_from=key)
    assert found.class_names == names
    assert found.labels[:4].tolist() == first
    assert key not in found.reading.left_out[0]


@pytest.mark.parametrize("form", ["npy", "csv", "array", "tensor", "list"])
def test_labels_beside_the_data(form, tmp_path):
    numbers = np.arange(ROWS) % 3
    origin = numbers
    if form == "npy":
        origin = tmp_path / "labels.npy"
        np.save(origin, numbers)
    elif form == "csv":
        origin = tmp_path / "labels.csv"
        pd.DataFrame({"species": WORDS}).to_csv(origin, index=False)
    elif form == "tensor":
        origin = torch.tensor(numbers)
    elif form == "list":
        origin = numbers.tolist()
    found = data.open(NUMBERS, condition="class", condition_from=origin)
    expected = [("crane", "owl", "wren").index(w) for w in WORDS] if form == "csv" else numbers
    assert found.labels.tolist() == list(expected)


def test_labels_beside_a_folder_follow_the_files_that_were_taken(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(6):
        Image.fromarray(np.full((8, 8), 40 * k, np.uint8)).save(folder / f"{k}.png")
    (folder / "2.png").write_bytes(b"no picture")
    given = data.open(
        folder, skip_unreadable=True, condition="class", condition_from=[0, 1, 1, 0, 1, 0]
    )
    assert given.labels.tolist() == [0, 1, 0, 1, 0]


# -- where vectors come from


@pytest.mark.parametrize("form", ["columns", "key", "npy", "array", "tensor"])
def test_vectors_come_from_columns_arrays_and_files(form, archive, tmp_path):
    source, origin, names = birds(), ["north", "east"], ("north", "east")
    if form != "columns":
        source, names = archive, None
        origin = {"key": "theta", "array": NUMBERS, "tensor": torch.tensor(NUMBERS)}.get(form)
    if form == "npy":
        origin = tmp_path / "theta.npy"
        np.save(origin, NUMBERS)
    found = data.open(source, condition="vector", condition_from=origin)
    assert found.vectors.dtype == torch.float64
    assert np.array_equal(found.vectors.numpy(), NUMBERS)
    assert found.vector_names == names
    assert found.facts().vector == 2


def test_rows_with_a_blank_condition_are_left_out_with_their_rows():
    table = birds()
    table.loc[4, "species"] = None
    refused("species", call=lambda: data.open(table, condition="class", condition_from="species"))
    found = data.open(table, condition="class", condition_from="species", missing="drop")
    assert len(found) == ROWS - 1
    kept = [k for k in range(ROWS) if k != 4]
    assert [found.class_names[k] for k in found.labels] == WORDS[kept].tolist()


@pytest.mark.parametrize(
    ("kind", "origin", "words"),
    [
        ("class", None, "which column is the class?"),
        ("vector", None, "which column is the vector?"),
        ("class", "Species", "did you mean 'species'?"),
        ("class", "length", "too many for classes"),
        ("class", ["species", "year"], "the class is in one column"),
        ("vector", "species", "holds words"),
        ("vector", ["north", "north"], "names a column twice"),
        ("vector", ["length", "mass", "north", "east", "year", "species"], "no column is left"),
        (None, "species", "--condition class"),
        ("colour", "species", "class, vector"),
        ("vector", [], "names no column"),
    ],
)
def test_columns_that_are_no_condition_are_refused(kind, origin, words):
    refused(words, call=lambda: data.open(birds(), condition=kind, condition_from=origin))


@pytest.mark.parametrize(
    ("kind", "origin", "words"),
    [
        ("class", None, "no class labels"),
        ("vector", None, "where are the vectors?"),
        ("class", "theta", "Numbers are --condition vector"),
        ("class", "Kind", "Its arrays are x, theta, kind, number"),
        ("class", np.zeros(ROWS, int), "one class only"),
        ("class", np.arange(5), "one row an example, 60"),
        ("vector", "kind", "real numbers"),
        ("vector", np.full((ROWS, 1), np.nan), "must be finite; row 0"),
        ("vector", np.zeros((ROWS, 2, 2)), "(N, k)"),
        ("vector", np.zeros((ROWS + 1, 2)), "one row an example, 60"),
        ("vector", "nowhere.npy", "no file"),
    ],
)
def test_arrays_that_are_no_condition_are_refused(archive, kind, origin, words):
    refused(words, call=lambda: data.open(archive, condition=kind, condition_from=origin))


# -- from training to samples


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"class": "species"}, ConditionSpec("class", 3, ("crane", "owl", "wren"))),
        ({"vector": ("north", "east")}, None),
        ({"class": WORDS}, ConditionSpec("class", 3, ("crane", "owl", "wren"))),
    ],
)
def test_fit_records_the_condition_in_the_card(condition, expected, tmp_path):
    table = birds() if isinstance(next(iter(condition.values())), np.ndarray) else None
    path = tmp_path / "birds.csv"
    birds().to_csv(path, index=False)
    columns = ["length", "mass"]
    source = birds()[columns] if table is not None else path
    settings = {**SMALL, "data.columns": columns}
    sf.fit(source, tmp_path / "run", images=128, settings=settings, condition=condition)
    model = sf.load(tmp_path / "run")
    kind = next(iter(condition))
    spec = model.conditions[kind]
    if expected is not None:
        assert spec == expected
        assert sf.sample(model, 2, nfe=4, condition={"class": "owl"}).shape == (2, 2)
    else:
        assert spec.names == ("north", "east")
        split = data.open_card_data(model.card)
        train = split.dataset.vectors[split.train]
        assert np.allclose(spec.shift, train.mean(0))
        assert np.allclose(spec.scale, train.std(0, correction=0))


def test_samples_of_a_table_have_the_columns_of_their_condition(tmp_path):
    path = tmp_path / "birds.csv"
    birds().to_csv(path, index=False)
    model = fit(path, tmp_path / "run", condition={"class": "species"})
    given = conditions.resolve({"class": ["owl", None, "wren"]}, model.conditions, 3)
    x = sf.sample(model, 3, nfe=4, condition=given)
    (written,) = data.form_of(model.card).write(tmp_path / "samples", x, None, given)
    with written.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(birds().columns)
    assert [row["species"] for row in rows] == ["owl", "", "wren"]
    assert all(row["year"] in ("1999", "2024") for row in rows)


class Recorder(nn.Module):
    """A network that keeps the conditions that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.got: list[Tensor] = []

    def forward(self, x, noise_input, condition):
        self.got.append(condition["vector"])
        return x * self.weight


def test_networks_get_standardised_vectors():
    network = Recorder()
    spec = ConditionSpec("vector", 2, None, (100.0, -3.0), (10.0, 0.5))
    model = Preconditioned(network, (1,), conditions={"vector": spec})
    vector = torch.tensor([[110.0, -3.5], [torch.nan, torch.nan]], dtype=torch.float64)
    model.denoise(torch.zeros(2, 1), 1.0, {"vector": vector})
    assert network.got[0][0].tolist() == [1.0, -1.0]
    assert network.got[0][1].isnan().all()


@pytest.mark.parametrize(
    ("shift", "scale", "words"),
    [((1.0,), None, "each element"), (None, (1.0, 0.0), "above 0"), ((0, np.inf), None, "finite")],
)
def test_specs_refuse_a_shift_and_scale_that_do_not_fit(shift, scale, words):
    refused(words, call=lambda: ConditionSpec("vector", 2, None, shift, scale))


def test_a_model_that_never_dropped_its_condition_needs_one(tmp_path):
    settings = {**SMALL, "condition.dropout": 0}
    sf.fit(
        birds(),
        tmp_path / "run",
        images=128,
        settings=settings,
        condition={"class": "species"},
        hooks=Hooks(),
    )
    model = sf.load(tmp_path / "run")
    assert not model.conditions["class"].optional
    refused("condition.dropout=0", "owl", call=lambda: sf.sample(model, 2, nfe=4))
    for none in ({"class": None}, {"class": [1, None]}):
        refused("condition.dropout=0", call=lambda n=none: sf.sample(model, 2, nfe=4, condition=n))
    assert sf.sample(model, 2, nfe=4, condition={"class": "owl"}).shape == (2, 5)


def test_a_run_goes_on_with_the_same_classes_only(tmp_path):
    fit(NUMBERS, tmp_path / "run", condition={"class": np.arange(ROWS) % 3})
    refused(
        "labels",
        call=lambda: fit(NUMBERS, tmp_path / "run", condition={"class": np.arange(ROWS) % 2}),
    )


# -- the command line


def test_commands_take_conditions_from_columns(tmp_path):
    path, run, out = tmp_path / "birds.csv", tmp_path / "run", tmp_path / "log_p.json"
    birds().to_csv(path, index=False)
    small = [f"--set={name}={value}" for name, value in SMALL.items()]
    arguments = ["--condition", "class", "--condition-from", "species", "--images", 128]
    assert call("train", "--data", path, "--run", run, *arguments, *small) == 0
    others = birds().iloc[:12]
    others.to_csv(tmp_path / "others.csv", index=False)
    command = ["likelihood", run, "--out", out, "--data", tmp_path / "others.csv"]
    assert call(*command, "--reference", 0, "--rtol", 0.05, "--atol", 0.05) == 0
    found = json.loads(out.read_text())
    assert found["condition"] == "class"
    assert {row["class"]: row["examples"] for row in found["by_class"]} == {
        "crane": 4,
        "owl": 4,
        "wren": 4,
    }
    mean = sum(row["log_prob"] * row["examples"] for row in found["by_class"]) / 12
    assert mean == pytest.approx(found["log_prob"]["mean"])
    with out.with_suffix(".csv").open() as file:
        assert [row["class"] for row in csv.DictReader(file)] == others["species"].tolist()
    others.assign(species="swan").to_csv(tmp_path / "swans.csv", index=False)
    command[-1] = tmp_path / "swans.csv"
    assert call(*command, "--force") == 2


def test_classes_of_another_folder_are_matched_by_name(tmp_path):
    def folder(name, classes):
        for label in classes:
            (tmp_path / name / label).mkdir(parents=True)
            for k in range(4):
                pixels = np.random.default_rng(k).integers(0, 255, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / label / f"{k}.png")
        return tmp_path / name

    model = fit(folder("train", ["cat", "dog", "emu"]), tmp_path / "run", condition="class")
    other = data.open_like(model.card, folder("other", ["dog", "emu"]))
    assert other.labels.tolist() == [1] * 4 + [2] * 4
    assert other.class_names == ("cat", "dog", "emu")
    refused("fox", call=lambda: data.open_like(model.card, folder("foxes", ["cat", "fox"])))
