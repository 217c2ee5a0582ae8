"""Numbers that stand for missing values are named, and ordinary data give no such note."""

import numpy as np
import pytest
import torch

from data_helpers import refused
from scorefield.data import open as open_data
from scorefield.data.missing_codes import find_codes, is_code
from scorefield.errors import InputError

CODES = [-9, -99, -999, -9999, 99, 999, 9999, 99.9, -999.9, 888, -1e30, 1e20, 32767, -32768, 65535]
FILLS = [-(2**31), 2**31 - 1, float(np.float32(9.96921e36)), float(np.finfo(np.float32).max)]
NUMBERS = [-1, 0, 1, 9, 9.9, 10, 100, 1000, 1e6, -1e9, 98, 101, 7, -7, 9998, 99.5, 255, 127]


def noted(data):
    """The notes about codes."""
    return [note for note in data.reading.notes if "missing value" in note]


def with_code(code, count, size=60):
    column = np.random.default_rng(0).normal(0.5, 0.1, size)
    column[5 : 5 + count] = code
    return column


def test_codes_are_told_from_other_numbers():
    assert all(map(is_code, CODES + FILLS))
    assert is_code(float(np.float32(-1e30))) and is_code(float(np.float32(-999.9)))
    assert not any(map(is_code, NUMBERS))


@pytest.mark.parametrize("code", CODES + FILLS)
def test_a_code_in_a_table_is_named_with_its_column_and_count(tmp_path, code):
    table = {"a": with_code(code, 4), "b": with_code(0.5, 4)}
    (note,) = noted(open_data(table))
    assert f"{code:.7g} is" in note and " a (4 times" in note and "--missing" in note
    lines = [f"{a!r},{b!r}" for a, b in zip(table["a"].tolist(), table["b"].tolist(), strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b", *lines]))
    assert noted(open_data(tmp_path / "t.csv")) == [note]
    assert not noted(open_data({"a": with_code(code, 2), "b": with_code(code / 3, 4)}))  # too few


def test_a_code_in_arrays_and_conditions_is_named(tmp_path):
    x = np.stack([with_code(0.5, 3), with_code(-999, 3)], 1)
    plain = np.stack([with_code(0.5, 3)] * 2, 1)
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    for source in (x, torch.tensor(x), list(x), tmp_path / "x.npy"):
        (note,) = noted(open_data(source))
        assert "-999 is" in note and "column 2 (3 times" in note
    for condition in (x, tmp_path / "x.npy"):
        origin = str(condition) if condition is not x else x
        (note,) = noted(open_data(plain, condition="vector", condition_from=origin))
        assert "number 2 of the condition (3 times" in note
    table = {"a": plain[:, 0], "b": x[:, 1]}
    (note,) = noted(open_data(table, condition="vector", condition_from="b"))
    assert "b of the condition (3 times" in note
    fields = np.random.default_rng(0).normal(size=(20, 6, 6))
    assert not noted(open_data(fields))
    fields[3, 2] = -9999
    assert "the data (6 times" in noted(open_data(fields))[0]
    assert not noted(open_data(plain, condition="vector", condition_from=plain))


def test_several_codes_are_named_and_a_code_among_the_numbers_is_not():
    rng = np.random.default_rng(0)
    income = np.r_[rng.integers(0, 90_000, 80), [-99] * 5, [-999] * 3]  # no other is negative
    assert [note.split()[0] for note in noted(open_data({"x": income}))] == ["-99", "-999"]
    ages = np.r_[rng.integers(18, 95, 80), [99] * 5]  # 99 may be an age
    assert not noted(open_data({"x": ages}))
    assert noted(open_data({"x": np.r_[ages, [999] * 5]}))[0].startswith("999 ")
    many = rng.normal(size=(60, 9))
    many[::9] = -999
    assert "and 6 more" in noted(open_data(many))[0]


ORDINARY = {
    "cauchy": lambda r: r.standard_cauchy(2000),
    "rounded cauchy": lambda r: np.round(r.standard_cauchy(2000) * 3),
    "log-normal": lambda r: np.exp(3 * r.normal(size=500)),
    "rounded log-normal": lambda r: np.round(np.exp(3 * r.normal(size=500))),
    "ages": lambda r: r.integers(0, 100, 300),
    "counts": lambda r: r.poisson(3, 300),
    "zipf": lambda r: np.minimum(r.zipf(1.5, 500), 10**14),
    "clipped": lambda r: np.clip(r.normal(60, 30, 300), 0, 99).round(),
    "few values": lambda r: r.choice([0, 10, 50, 99], 100),
    "two values": lambda r: r.choice([-99, 99], 100),
    "audio": lambda r: np.clip(r.normal(0, 30_000, 2000), -32768, 32767).round(),
    "constant": lambda r: np.full(50, 99),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_numbers_give_no_note(kind):
    for seed in range(20):
        numbers = ORDINARY[kind](np.random.default_rng(seed)).astype(np.float64)
        assert find_codes(lambda numbers=numbers: [numbers]) == []
        halves = np.array_split(numbers, 2)
        assert find_codes(lambda halves=halves: halves) == []


@pytest.mark.parametrize("name", ["digits", "ring", "moons", "mixture"])
def test_built_in_data_give_no_note(name):
    assert not noted(open_data(name, count=500))


# -- numbers whose variance float64 does not hold

SPREADS = [1e-300, 1e-200, 1e160, 1e300]


@pytest.mark.parametrize("scale", SPREADS)
def test_numbers_that_differ_by_too_little_or_too_much_are_refused_with_the_factor(scale):
    x = np.random.default_rng(0).normal(size=(60, 3))
    x[:, 1] *= scale
    pieces = ("float64", f"Multiply the numbers by 1e{'-' if scale > 1 else ''}")
    refused("column 2 ", *pieces, call=lambda: open_data(x))
    refused("of b ", *pieces, call=lambda: open_data({"a": x[:, 0], "b": x[:, 1]}))
    refused("the data ", *pieces, call=lambda: open_data(x[:, 1:2]))
    call = lambda: open_data(x[:, ::2], condition="vector", condition_from=x)  # noqa: E731
    refused("number 2 of the condition", *pieces, call=call)
    factor = float(str(refusal(x)).split("by ")[-1].split(" ")[0])
    scaled = open_data(np.stack([x[:, 0], x[:, 1] * factor], 1))
    assert min(scaled.facts().std) > 0 and max(scaled.facts().std) < 1e150


def test_a_largest_float_is_named_as_a_code():
    x = np.stack([with_code(np.finfo(np.float64).max, 3), with_code(0.5, 3)], 1)
    refused("column 1 ", "Leave examples with 1.79769e+308 out", call=lambda: open_data(x))


def refusal(x):
    with pytest.raises(InputError) as caught:
        open_data(x)
    return caught.value


@pytest.mark.parametrize("scale", [1e-140, 1e-45, 1.0, 1e38, 1e140])
def test_small_and_large_numbers_with_a_variance_are_taken(scale):
    x = np.random.default_rng(0).normal(size=(60, 2)) * scale
    x[:, 1] = 1e-300  # a constant column
    assert np.allclose(open_data(x).facts().std[0] / scale, x[:, 0].std() / scale)
