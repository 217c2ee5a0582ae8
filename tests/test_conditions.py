"""Conditions: the user's form, the internal form, rows, null values, and every refusal."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scorefield import conditions
from scorefield.conditions import NULL_CLASS, ConditionSpec
from scorefield.errors import InputError

DIGITS = {"class": ConditionSpec("class", 10)}
PETS = {"class": ConditionSpec("class", 3, ("cat", "dog", "7"))}
YEARS = {"class": ConditionSpec("class", 2, ("1999", "2024"))}
SIGNS = {"class": ConditionSpec("class", 2, ("-1", "1"))}
KINDS = {"class": ConditionSpec("class", 3, ("1", "2", "3"))}
PLACE = {"vector": ConditionSpec("vector", 2, ("north", "east"))}
BOTH = DIGITS | PLACE


def same(a: conditions.Condition | None, b: conditions.Condition | None) -> bool:
    """Equal names, types and values; NaN equals NaN."""
    if a is None or b is None:
        return a is b
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and torch.equal(a[k].nan_to_num(-9.5), b[k].nan_to_num(-9.5))
        if a[k].is_floating_point()
        else torch.equal(a[k], b[k])
        for k in a
    )


@st.composite
def internal(draw, count: int | None = None) -> conditions.Condition:
    """Conditions of BOTH in the internal form, null rows included."""
    rows = draw(st.integers(1, 6)) if count is None else count
    classes = draw(st.lists(st.integers(-1, 9), min_size=rows, max_size=rows))
    number = st.floats(-1e6, 1e6)
    vectors = draw(
        st.lists(
            st.one_of(st.just([math.nan] * 2), st.lists(number, min_size=2, max_size=2)),
            min_size=rows,
            max_size=rows,
        )
    )
    return {
        "class": torch.tensor(classes, dtype=torch.int64),
        "vector": torch.tensor(vectors, dtype=torch.float64).reshape(rows, 2),
    }


# ---- the user's form


@pytest.mark.parametrize(
    ("value", "specs", "expected"),
    [
        (7, DIGITS, [7, 7, 7]),
        ("7", DIGITS, [7, 7, 7]),
        (7.0, DIGITS, [7, 7, 7]),
        (np.int64(7), DIGITS, [7, 7, 7]),
        (torch.tensor(7), DIGITS, [7, 7, 7]),
        ([1, 2, 3], DIGITS, [1, 2, 3]),
        ((0, None, 9), DIGITS, [0, NULL_CLASS, 9]),
        (np.array([1, 2, 3], dtype=np.uint8), DIGITS, [1, 2, 3]),
        (torch.tensor([1, -1, 3]), DIGITS, [1, NULL_CLASS, 3]),
        (np.array([1, -1, 3]), DIGITS, [1, NULL_CLASS, 3]),
        (np.array([1.0, -1.0, 3.0]), DIGITS, [1, NULL_CLASS, 3]),
        (pd.Series([1, -1, 3]), DIGITS, [1, NULL_CLASS, 3]),
        (torch.tensor(-1), DIGITS, [NULL_CLASS] * 3),
        (np.int64(-1), DIGITS, [NULL_CLASS] * 3),
        (torch.tensor([-1, 1, -1]), SIGNS, [0, 1, 0]),
        (np.array([-1, 1, -1]), SIGNS, [0, 1, 0]),
        ([-1, 1, None], SIGNS, [0, 1, NULL_CLASS]),
        (torch.tensor(-1), SIGNS, [0, 0, 0]),
        (np.ma.masked_array([1, 2, 3], mask=False), DIGITS, [1, 2, 3]),
        ([torch.tensor(4), np.int32(5), 6], DIGITS, [4, 5, 6]),
        ("dog", PETS, [1, 1, 1]),
        (["cat", "dog", 0], PETS, [0, 1, 0]),
        (7, PETS, [2, 2, 2]),  # a class may be called "7": names come before indices
        (1, PETS, [1, 1, 1]),
        (2024, YEARS, [1, 1, 1]),
    ],
)
def test_classes_resolve_to_indices(value, specs, expected):
    found = conditions.resolve({"class": value}, specs, 3)
    assert found["class"].dtype == torch.int64
    assert found["class"].tolist() == expected


@pytest.mark.parametrize(
    "value", [[0.5, 2], (0.5, 2), np.array([0.5, 2]), torch.tensor([[0.5, 2.0]]), [[0.5, 2]] * 3]
)
def test_vectors_resolve_to_rows(value):
    found = conditions.resolve({"vector": value}, PLACE, 3)
    assert found["vector"].tolist() == [[0.5, 2.0]] * 3


def test_a_vector_of_one_number_takes_one_number_a_sample():
    spec = {"vector": ConditionSpec("vector", 1)}
    assert conditions.resolve({"vector": [1, 2, 3]}, spec, 3)["vector"].shape == (3, 1)
    assert conditions.resolve({"vector": 4.5}, spec, 3)["vector"].tolist() == [[4.5]] * 3


def test_nothing_resolves_to_nothing():
    assert conditions.resolve(None, DIGITS, 3) is None
    assert conditions.resolve({}, DIGITS, 3) is None
    assert conditions.resolve({"class": None}, DIGITS, 3) is None
    assert same(
        conditions.resolve({"class": 1, "vector": None}, BOTH, 2), {"class": torch.tensor([1, 1])}
    )


@given(internal())
@settings(max_examples=50, deadline=None)
def test_the_internal_form_resolves_to_itself(condition):
    rows = len(condition["class"])
    assert same(conditions.resolve(condition, BOTH, rows), condition)
    conditions.check(condition, BOTH, rows)


def test_what_resolve_gave_is_not_read_again():
    """The class numbers 0 and 1 are no names there, although classes are called 1, 2 and 3."""
    once = conditions.resolve({"class": ["2", None, "1"]}, KINDS, 3)
    assert once["class"].tolist() == [1, NULL_CLASS, 0]
    for again in (
        once,
        conditions.take(once, torch.arange(3)),
        conditions.expand(once, 3),
        conditions.to_device(once, "cpu"),
        conditions.concatenate(once),
        conditions.take(conditions.repeat(once, 2), torch.tensor([0, 2, 4])),
    ):
        assert same(conditions.resolve(again, KINDS, 3), once)
    plain = conditions.resolve({"class": torch.tensor([2, 1, 1])}, KINDS, 3)
    assert plain["class"].tolist() == [1, 0, 0]  # what a user gives is read by name


# ---- what training has shown

SOME = {"class": ConditionSpec("class", 4, unseen=(0, 2))}
RANGE = {"vector": ConditionSpec("vector", 2, ("north", "east"), low=(0.0, -1.0), high=(1.0, 3.0))}


@pytest.mark.parametrize("value", [0, "2", [1, 2, 3], np.array([1, 2, 3]), torch.tensor([0, 1, 1])])
def test_classes_without_a_training_example_are_refused(value):
    with pytest.raises(InputError, match=r"no training example had the class .*takes classes 1, 3"):
        conditions.resolve({"class": value}, SOME, 3)
    assert conditions.resolve({"class": value}, {"class": ConditionSpec("class", 4)}, 3)


def test_classes_with_examples_and_none_are_taken_where_others_have_none():
    found = conditions.resolve({"class": [1, None, 3]}, SOME, 3)
    assert found["class"].tolist() == [1, NULL_CLASS, 3]
    labels = conditions.InternalForm({"class": torch.tensor([0, 1])})  # of held-out examples
    assert conditions.resolve(labels, SOME, 2)["class"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        ([2.1, 0], r"2.1 for north \(0 to 1\)\. "),
        ([0.5, -5.5], r"-5.5 for east \(-1 to 3\)"),
        ([[0.5, 0], [1e6, 0], [-1e6, 9]], r"1e\+06 for north .*9 for east"),
    ],
)
def test_vectors_far_outside_the_training_data_are_said(vector, words):
    with pytest.warns(RuntimeWarning, match=words):
        conditions.resolve({"vector": vector}, RANGE, 3)


@pytest.mark.parametrize(
    "vector", [[0.5, 0], [1.9, 6.9], [-0.9, -4.9], [[0, 0], [math.nan] * 2, [1, 1]], None]
)
def test_vectors_near_the_training_data_give_no_warning(vector, recwarn):
    conditions.resolve({"vector": vector}, RANGE, 3)
    conditions.resolve({"vector": [1e6, 0]}, PLACE, 3)  # a card without the range
    assert not recwarn.list


@pytest.mark.parametrize(
    ("condition", "specs", "words"),
    [
        (3, DIGITS, "must be a mapping such as .*got 3"),
        ({"label": 3}, DIGITS, "takes 'class': classes 0 to 9; got the condition 'label'"),
        ({"class": 3}, {}, "takes no condition; got the condition 'class'"),
        ({"class": 10}, DIGITS, "classes 0 to 9; got 10"),
        ({"class": -1}, DIGITS, "classes 0 to 9; got -1"),
        ({"class": 1.5}, DIGITS, "classes 0 to 9; got 1.5"),
        ({"class": math.nan}, DIGITS, "classes 0 to 9; got nan"),
        ({"class": True}, DIGITS, "classes 0 to 9; got True"),
        ({"class": "--5"}, DIGITS, "classes 0 to 9; got '--5'"),
        ({"class": "²"}, DIGITS, "classes 0 to 9"),
        ({"class": object}, DIGITS, "classes 0 to 9"),
        ({"class": "bird"}, PETS, "classes cat, dog, 7; got 'bird'"),
        ({"class": 0}, YEARS, "classes 1999, 2024; got 0"),
        ({"class": np.ma.masked_array([1, 2, 3], [0, 1, 0])}, DIGITS, "1 of 3 elements are masked"),
        ({"class": [1, np.ma.masked, 3]}, DIGITS, "masked"),
        ({"vector": np.ma.masked_array([1.0, 2.0], [0, 1])}, PLACE, "1 of 2 elements are masked"),
        ({"class": [1, 2]}, DIGITS, "one value for all or one for each of 3 samples; got 2"),
        ({"class": np.zeros((3, 1), int)}, DIGITS, r"one class a sample; got shape \(3, 1\)"),
        ({"vector": [1, 2, 3]}, PLACE, r"2 numbers a sample .north, east.; got shape \(1, 3\)"),
        ({"vector": "north"}, PLACE, "2 numbers a sample .north, east.; got the text 'north'"),
        ({"vector": [[1, 2], [3]]}, PLACE, "2 numbers a sample"),
        ({"vector": np.zeros((2, 2, 2))}, PLACE, "2 numbers a sample"),
        ({"vector": [math.nan, 1]}, PLACE, "must be finite; row 0"),
        ({"vector": [math.inf, 1]}, PLACE, "must be finite; row 0"),
    ],
)
def test_conditions_a_model_does_not_take_are_refused(condition, specs, words):
    with pytest.raises(InputError, match=words):
        conditions.resolve(condition, specs, 3)


def test_long_lists_of_names_are_cut():
    spec = ConditionSpec("class", 100, tuple(f"n{k}" for k in range(100)))
    assert spec.describe().endswith("n19, ...")


# ---- the internal form


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (torch.zeros(3), "is a mapping"),
        ({"label": torch.zeros(3)}, "takes class, vector; got the condition 'label'"),
        ({"class": 3}, "must be a tensor .* got 3"),
        ({"class": torch.zeros(3)}, r"int64 of shape \(3,\).*got float32"),
        ({"class": torch.zeros(3, dtype=torch.int32)}, "got int32"),
        ({"class": torch.zeros(2, dtype=torch.int64)}, r"got int64 \(2,\)"),
        ({"class": torch.zeros(3, 1, dtype=torch.int64)}, r"got int64 \(3, 1\)"),
        ({"class": torch.tensor([0, 10, 1])}, "0 to 9, or -1 for none; got 10"),
        ({"vector": torch.zeros(3, 3)}, r"float of shape \(3, 2\)"),
        ({"vector": torch.zeros(3, 2, dtype=torch.int64)}, "must be float"),
    ],
)
def test_check_refuses_what_does_not_fit(condition, words):
    with pytest.raises(InputError, match=words):
        conditions.check(condition, BOTH, 3, "Model")


def test_check_takes_null_rows_and_missing_names():
    conditions.check(None, BOTH, 3)
    conditions.check({}, BOTH, 3)
    conditions.check({"class": torch.tensor([-1, 9, 0])}, BOTH, 3)
    conditions.check(conditions.null(BOTH, 3), BOTH, 3)
    conditions.check(conditions.null(BOTH, 0), BOTH, 0)


@pytest.mark.parametrize(
    ("kind", "size", "names"), [("label", 3, None), ("class", 0, None), ("class", 2, ("a",))]
)
def test_a_spec_that_makes_no_sense_is_refused(kind, size, names):
    with pytest.raises(InputError, match="condition"):
        ConditionSpec(kind, size, names)


@pytest.mark.parametrize(
    "spec", [*(DIGITS["class"], PETS["class"], PLACE["vector"], SOME["class"], RANGE["vector"])]
)
def test_a_spec_survives_json(spec):
    import json

    assert ConditionSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


# ---- rows


@given(internal(), st.data())
@settings(max_examples=50, deadline=None)
def test_take_of_an_index_is_take_row_by_row(condition, data):
    count = len(condition["class"])
    index = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=8))
    taken = conditions.take(condition, torch.tensor(index))
    parts = [conditions.take(condition, slice(k, k + 1)) for k in index]
    assert same(taken, conditions.concatenate(*parts))


@given(internal(), st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_repeat_keeps_the_copies_of_a_row_together(condition, times):
    repeated = conditions.repeat(condition, times)
    count = len(condition["class"])
    for k in range(times):
        every = torch.arange(count) * times + k
        assert same(conditions.take(repeated, every), condition)


@given(internal(), internal())
@settings(max_examples=50, deadline=None)
def test_concatenate_is_undone_by_take(first, second):
    whole = conditions.concatenate(first, second)
    cut = len(first["class"])
    assert same(conditions.take(whole, slice(0, cut)), first)
    assert same(conditions.take(whole, slice(cut, None)), second)


@given(internal(), st.data())
@settings(max_examples=50, deadline=None)
def test_drop_makes_exactly_the_dropped_rows_null(condition, data):
    count = len(condition["class"])
    dropped = torch.tensor(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    after = conditions.drop(condition, dropped)
    assert same(conditions.take(after, ~dropped), conditions.take(condition, ~dropped))
    null = conditions.null(BOTH, int(dropped.sum()))
    gone = conditions.take(after, dropped)
    for name, value in condition.items():
        assert after[name].dtype == value.dtype
        was = conditions.is_null(value)
        assert torch.equal(conditions.is_null(after[name]), was | dropped)
        assert torch.equal(conditions.is_null(gone[name]), conditions.is_null(null[name]))


def test_expand_serves_one_row_to_all_and_leaves_others():
    one = {"class": torch.tensor([4]), "vector": torch.tensor([[1.0, 2.0]])}
    assert conditions.expand(one, 3)["vector"].tolist() == [[1.0, 2.0]] * 3
    three = {"class": torch.tensor([1, 2, 3])}
    assert same(conditions.expand(three, 5), three)


def test_conditions_of_other_names_are_not_put_together():
    with pytest.raises(InputError, match="different names"):
        conditions.concatenate({"class": torch.zeros(1)}, {"vector": torch.zeros(1, 2)})


def test_every_function_passes_nothing_on():
    functions = (
        lambda c: conditions.take(c, slice(0, 1)),
        lambda c: conditions.repeat(c, 2),
        lambda c: conditions.expand(c, 2),
        lambda c: conditions.to_device(c, "cpu"),
        lambda c: conditions.resolve(c, BOTH, 2),
    )
    assert all(function(None) is None for function in functions)


def test_to_device_moves_every_value():
    moved = conditions.to_device(conditions.null(BOTH, 2), "meta")
    assert all(isinstance(v, Tensor) and v.device.type == "meta" for v in moved.values())
