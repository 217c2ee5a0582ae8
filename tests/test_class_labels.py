"""Labels that are missing, unclear or of mixed types are refused in every form, and said."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

import scorefield as sf
from data_helpers import random_pictures, refused
from scorefield import data
from scorefield.errors import InputError
from scorefield.training import Hooks

COUNT = 12
X = np.random.default_rng(0).normal(size=(COUNT, 3))
NAMES = [("a", "b", "c")[k % 3] for k in range(COUNT)]


def objects(*items):
    """An array of objects, `items` and then names."""
    found = np.empty(COUNT, dtype=object)
    found[:] = [*items, *NAMES[len(items) :]]
    return found


def masked(values):
    return np.ma.masked_array(values, mask=[False, True, *[False] * (COUNT - 2)])


class Pairs(torch.utils.data.Dataset):
    """A torch Dataset of (example, label)."""

    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return COUNT

    def __getitem__(self, k):
        return X[k], self.labels[k]


WITH_GAPS = {
    "array with None": objects("a", None),
    "array with NaN": objects("a", np.nan),
    "array with NA": objects("a", pd.NA),
    "array with NaT": objects("a", pd.NaT),
    "array with an empty text": objects("a", " "),
    "texts": np.array(objects("a", "")).astype(str),
    "bytes": np.array(objects("a", "")).astype("S"),
    "list with None": objects("a", None).tolist(),
    "list with NaN": objects("a", float("nan")).tolist(),
    "list with a masked element": objects("a", np.ma.masked).tolist(),
    "floats with NaN": np.array([1.0, np.nan, *np.arange(COUNT - 2) % 3]),
    "Categorical": pd.Categorical(objects("a", None)),
    "masked numbers": masked(np.arange(COUNT) % 3),
    "masked texts": masked(np.array(NAMES)),
    "arrow": pa.array(objects("a", None).tolist()),
}


@pytest.mark.parametrize("form", WITH_GAPS)
def test_missing_labels_are_refused_with_their_places(form):
    labels = WITH_GAPS[form]
    pieces = ("1 of 12 class labels are missing", "examples 1 (counted", "leave these examples out")
    refused(*pieces, call=lambda: data.open(X, condition="class", condition_from=labels))
    named = {"x": X, "kind": labels}
    refused(*pieces, call=lambda: data.open(named, condition="class", condition_from="kind"))
    brought = {"x": X, "y": labels}
    refused(*pieces, call=lambda: data.open(brought, condition="class"))
    refused(*pieces, call=lambda: sf.fit(X, "run", condition={"class": labels}))


@pytest.mark.parametrize("form", ["array with None", "texts", "masked numbers"])
def test_labels_that_nobody_wants_may_be_missing(form):
    found = data.open({"x": X, "y": WITH_GAPS[form]})
    assert found.labels is None
    assert "labels 'y': 1 of 12 class labels are missing" in found.reading.left_out[0]


def test_missing_labels_of_items_and_archives_are_refused(tmp_path):
    for labels in (objects("a", None), objects("a", ""), [0, None, *[1] * (COUNT - 2)]):
        pairs = Pairs(labels)
        refused("1 of 12 class labels", call=lambda p=pairs: data.open(p, condition="class"))
    np.savez(tmp_path / "a.npz", x=X, y=WITH_GAPS["texts"])
    refused("1 of 12 class", call=lambda: data.open(tmp_path / "a.npz", condition="class"))


@pytest.mark.parametrize("blank", [None, "", np.nan])
def test_missing_labels_of_tables_are_refused(blank):
    column = pd.Series(objects("a", blank), dtype=object)
    frame = pd.DataFrame({"x": X[:, 0], "kind": column})
    refused("kind", "1", call=lambda: data.open(frame, condition="class", condition_from="kind"))
    origin = {"kind": objects("a", blank)}
    refused("1 of 12", call=lambda: data.open(X, condition="class", condition_from=origin))


def test_the_first_of_many_missing_labels_are_shown():
    labels = objects(*[None] * 8)
    refused(
        "8 of 12 class labels are missing, those of examples 0, 1, 2, ... (counted",
        call=lambda: data.open(X, condition="class", condition_from=labels),
    )


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (objects("1", 1), "'1' and 1 are of different types"),
        (objects(1.0, "1"), "1.0 and '1' are of different types"),
        (objects("1.0", 1), "'1.0' and 1 are of different types"),
        (objects(True, 1), "True and 1 are of different types"),
        (objects(b"\xff", "a"), "no text in UTF-8"),
        (np.array([b"\xff", *[b"a"] * (COUNT - 1)]), "no text in UTF-8"),
        (np.linspace(1e17, 1e18, COUNT).round(), "is no class number"),
        (np.array([2**63 + 5, *range(COUNT - 1)], np.uint64), "is no class number"),
        (objects([1, 2], [3]), "one whole number or one word"),
        (np.array(3), "is no array"),
    ],
)
def test_unclear_labels_are_refused_without_a_warning(labels, words, recwarn):
    refused(words, call=lambda: data.open(X, condition="class", condition_from=labels))
    assert not recwarn.list


@pytest.mark.parametrize(
    "labels",
    [
        NAMES,
        np.array(NAMES),
        np.array(NAMES, dtype="S"),
        np.array(NAMES, dtype=object),
        np.array([name.encode() for name in NAMES], dtype=object),
        pd.Categorical(NAMES),
        np.ma.masked_array(NAMES, mask=False),
        pa.array(NAMES),
    ],
)
def test_whole_labels_are_taken_in_every_form(labels):
    for source, origin in ((X, labels), ({"x": X, "kind": labels}, "kind")):
        if isinstance(labels, list) and source is X:
            continue
        found = data.open(source, condition="class", condition_from=origin)
        assert found.class_names == ("a", "b", "c")
        assert found.labels.tolist() == [k % 3 for k in range(COUNT)]
        assert not any("missing" in text or "word" in text for text in found.report)


def test_whole_floats_among_objects_are_whole_numbers():
    labels = np.array([1, 1.0, 2.0] * 4, dtype=object)
    found = data.open(X, condition="class", condition_from=labels)
    assert found.class_names == ("1", "2")
    assert found.labels.tolist() == [0, 0, 1] * 4


def test_labels_of_rows_that_are_left_out_may_be_missing():
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1]})
    frame.loc[1, "a"] = np.nan
    options = {"missing": "drop", "condition": "class"}
    found = data.open(frame, condition_from=objects("a", None), **options)
    assert found.class_names == ("a", "b", "c")
    assert [found.class_names[k] for k in found.labels] == [NAMES[0], *NAMES[2:]]
    vectors = X.copy()
    vectors[1] = np.nan
    options["condition"] = "vector"
    assert len(data.open(frame, condition_from=vectors, **options)) == COUNT - 1


@pytest.mark.parametrize("form", ["array", "frame", "mapping", "brought"])
def test_a_class_that_is_called_like_a_missing_value_is_said(form):
    def report(names):
        labels = np.array(names)[np.arange(COUNT) % len(names)]
        frame = pd.DataFrame({"x": X[:, 0], "kind": labels})
        source, origin = {
            "array": (X, labels),
            "frame": (frame, "kind"),
            "mapping": (X, {"kind": labels}),
            "brought": ({"x": X, "y": labels}, None),
        }[form]
        return data.open(source, condition="class", condition_from=origin).report[1]

    assert "'NA' is taken as a word" in report(["NA", "u", "v"])
    assert "word;" not in report(["north", "u", "v"])


def test_masked_vectors_are_refused():
    vectors = np.ma.masked_array(X, mask=np.arange(COUNT * 3).reshape(COUNT, 3) == 4)
    for origin in (vectors, list(vectors)):
        refused("masked", call=lambda o=origin: data.open(X, condition="vector", condition_from=o))
    whole = np.ma.masked_array(X, mask=False)
    assert data.open(X, condition="vector", condition_from=whole).vectors.shape == (COUNT, 3)


def test_labels_beside_pictures_are_taken():
    found = data.open({"images": random_pictures(COUNT), "labels": NAMES}, condition="class")
    assert found.class_names == ("a", "b", "c")


# -- one label for each example of the source


def _frame(tmp_path):
    frame = pd.DataFrame({"a": np.arange(40.0), "b": np.random.default_rng(1).normal(size=40)})
    frame.loc[[0, 7, 39], "a"] = np.nan
    return frame, {"missing": "drop"}


def _csv(tmp_path):
    frame, options = _frame(tmp_path)
    frame.to_csv(tmp_path / "t.csv", index=False)
    with (tmp_path / "t.csv").open("a") as file:
        file.write(",\n,\n")  # blank rows, as spreadsheets append them
    return tmp_path / "t.csv", options


def _folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k, pixels in enumerate(random_pictures(40, (8, 8))):
        Image.fromarray(pixels).save(folder / f"{k:02}.png")
    (folder / "39.png").write_bytes(b"no picture")
    return folder, {"skip_unreadable": True}


SOURCES = {
    "frame": _frame,
    "csv": _csv,
    "folder": _folder,
    "folder and count": lambda p: (_folder(p)[0], {"skip_unreadable": True, "count": 20}),
    "array and count": lambda p: (np.random.default_rng(0).normal(size=(40, 3)), {"count": 20}),
    "items and count": lambda p: (
        list(np.random.default_rng(0).normal(size=(40, 3))),
        {"count": 5},
    ),
    "pictures and count": lambda p: (
        [Image.fromarray(one) for one in random_pictures(40, (8, 8))],
        {"count": 20},
    ),
    "array": lambda p: (np.random.default_rng(0).normal(size=(40, 3)), {}),
}


@pytest.mark.parametrize("kind", ["class", "vector"])
@pytest.mark.parametrize("form", SOURCES)
def test_labels_are_as_many_as_the_source_has_examples(form, kind, tmp_path):
    source, options = SOURCES[form](tmp_path)
    labels = np.arange(60) % 4
    taken = len(data.open(source, **options))
    for count in (taken - 1, 39, 41, 60, *([taken] if taken < 40 else [])):
        refused(
            f"has {count}",
            call=lambda n=count: data.open(
                source, condition=kind, condition_from=labels[:n], **options
            ),
        )
    found = data.open(source, condition=kind, condition_from=labels[:40], **options)
    rows = np.arange(40) if found.source_rows is None else found.source_rows.numpy()
    value = found.labels if kind == "class" else found.vectors[:, 0]
    assert len(found) == taken
    assert value.tolist() == labels[rows].tolist()


def test_pickled_labels_of_an_npz_are_named_and_the_examples_are_read(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, x=X, y=objects())
    found = data.open(path)
    assert np.array_equal(found.values.numpy(), X) and found.labels is None
    pieces = ("'y'", "pickled objects", ".astype(str)")
    assert all(piece in found.report[1] for piece in pieces)
    refused(*pieces, call=lambda: data.open(path, condition="class"))
    refused(*pieces, call=lambda: data.open(path, condition="class", condition_from="y"))
    refused(*pieces, call=lambda: data.open(path, key="y"))
    np.savez(path, x=objects(), y=np.arange(COUNT) % 3)
    refused("'x'", "pickled objects", call=lambda: data.open(path))
    np.savez(path, x=X, y=objects().astype(str))
    assert data.open(path, condition="class").class_names == ("a", "b", "c")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refused("not a readable .npz", call=lambda: data.open(path))


# -- a list or a Series of labels, and lists of names


@pytest.mark.parametrize("form", [list, tuple, pd.Series, pa.array])
@pytest.mark.parametrize("source", ["array", "frame", "digits"])
def test_labels_as_a_list_or_a_series(form, source):
    table = pd.DataFrame({"a": X[:, 0], "b": X[:, 1]})
    source = {"array": X, "frame": table, "digits": "ring"}[source]
    options = {"count": COUNT} if isinstance(source, str) else {}
    found = data.open(source, condition="class", condition_from=form(NAMES), **options)
    assert found.class_names == ("a", "b", "c")
    assert found.labels.tolist() == [k % 3 for k in range(COUNT)]


def test_fit_takes_a_list_of_labels(tmp_path):
    settings = {"network.name": "mlp", "network.options.width": 8, "execution.compile": "off"}
    arguments = {"images": 64, "settings": settings, "hooks": Hooks()}
    sf.fit(X, tmp_path / "run", condition={"class": NAMES}, **arguments)
    assert sf.load(tmp_path / "run").conditions["class"].names == ("a", "b", "c")


@pytest.mark.parametrize("source", [X, pd.DataFrame({"a": X[:, 0], "b": X[:, 1]})])
@pytest.mark.parametrize("count", [2, 50, 5000])
def test_texts_that_are_no_labels_are_refused_shortly(source, count):
    texts = [f"text{k}" for k in range(count)]
    with pytest.raises(InputError, match="the class is in one column, or is a list") as caught:
        data.open(source, condition="class", condition_from=texts)
    assert len(str(caught.value)) < 400
    with pytest.raises(InputError) as caught:
        data.open(source, condition="vector", condition_from=texts)
    assert len(str(caught.value)) < 600


def test_one_text_is_a_name():
    frame = pd.DataFrame({"a": X[:, 0], "kind": NAMES})
    for origin in ("kind", ["kind"], ("kind",)):
        found = data.open(frame, condition="class", condition_from=origin)
        assert found.columns == ("a",)


def test_a_series_with_another_index_is_refused():
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1]})
    labels = pd.Series(NAMES)[::-1]
    options = {"condition": "class"}
    refused(
        "another index",
        "condition.loc[frame.index]",
        call=lambda: data.open(frame, condition_from=labels, **options),
    )
    found = data.open(frame, condition_from=labels.loc[frame.index], **options)
    assert found.labels.tolist() == [k % 3 for k in range(COUNT)]
    assert data.open(frame, condition_from=labels.to_numpy(), **options).labels[0] == 2
    assert data.open(X, condition_from=labels, **options).labels[0] == 2


@pytest.mark.parametrize("form", ["array", "frame", "brought"])
def test_a_class_minus_one_beside_class_zero_is_said(form):
    def report(values):
        labels = np.array(values)[np.arange(COUNT) % len(values)]
        frame = pd.DataFrame({"x": X[:, 0], "kind": labels})
        source, origin = {
            "array": (X, labels),
            "frame": (frame, "kind"),
            "brought": ({"x": X, "y": labels}, None),
        }[form]
        return data.open(source, condition="class", condition_from=origin).report[1]

    assert "the label -1 is a class like the others" in report([-1, 0, 1])
    for values in ([-1, 1], [0, 1, 2], [-3, -2]):
        assert "the label -1" not in report(values)


def test_rows_of_different_lengths_are_refused():
    rows = [[1.0], [1.0, 2.0]] * (COUNT // 2)
    refused("lengths", call=lambda: data.open(X, condition="vector", condition_from=rows))
    refused("lengths", call=lambda: data.open({"x": X, "theta": rows}))


def test_a_generator_of_labels_is_read():
    found = data.open(X, condition="class", condition_from=(name for name in NAMES))
    assert found.class_names == ("a", "b", "c")
