"""Tables in and out: `TableForm` gives back what it read, and reads other rows by name."""

import datetime
import json
import math
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_helpers import refused
from scorefield.data import open_card_data
from scorefield.data.form import form_of
from scorefield.data.known_cells import (
    cells_of,
    notes_on_known,
    overlay,
    refuse_other_constants,
)
from scorefield.data.options import ReadOptions
from scorefield.data.table_files import TextStyle, write_table
from scorefield.data.table_rows import read_rows
from scorefield.data.tables import open_table


def read(source, **options):
    return open_table(source, "t", ReadOptions().merge(**options))


def mixed(n=200, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 300, n),
            "temp": np.round(rng.uniform(30, 40, n), 2),
            "x": rng.normal(size=n),
            "site": 7,
            "colour": rng.choice(["red", "green", "blue"], n),
            "day": np.datetime64("2020-01-01") + rng.integers(0, 900, n),
            "grade": rng.choice([1, 2, 5], n),
        }
    )


@pytest.fixture
def csv_file(tmp_path):
    mixed().to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


@pytest.fixture
def data(csv_file):
    return read(csv_file)


def with_noise(data, seed=0, size=1.0):
    """Encoded rows with the noise that training adds."""
    steps = torch.tensor(data.form.steps, dtype=torch.float64)
    u = torch.rand(data.values.shape, generator=torch.Generator().manual_seed(seed)).double()
    return data.values.double() + size * (u - 0.5) * steps


# -- rounding, words, bounds


def test_the_noise_of_training_is_rounded_away(data):
    assert data.form.decode(with_noise(data)).equals(data.form.decode(data.values))
    assert torch.equal(data.form.settle(with_noise(data)), data.values)


def test_noise_of_twice_the_width_is_not(data):  # negative control of the test above
    assert not torch.equal(data.form.settle(with_noise(data, size=2.5)), data.values)


def test_steps_are_those_of_the_elements(data):
    widths = dict(zip(data.form.element_names, data.form.steps, strict=True))
    assert widths["age"] == 1 and widths["temp"] == pytest.approx(0.01) and widths["x"] == 0
    assert widths["site"] == 0 and widths["day"] == 1
    assert widths["colour=red"] == 0.5  # half of the gap between 0 and 1
    assert widths["grade"] == 0.5  # half of the gap between 1 and 2
    assert torch.equal(data.steps, torch.tensor(data.form.steps, dtype=torch.float64))


def test_decode_gives_types_and_order_of_the_source(data):
    table = data.form.decode(torch.randn(50, *data.event_shape, dtype=torch.float64) * 1e3)
    assert table.column_names == ["age", "temp", "x", "site", "colour", "day", "grade"]
    assert [str(t) for t in table.schema.types] == [
        "int64",
        "double",
        "double",
        "int64",
        "string",
        "date32[day]",
        "int64",
    ]
    assert set(table["site"].to_pylist()) == {7}
    assert set(table["colour"].to_pylist()) == {"red", "green", "blue"}
    assert set(table["grade"].to_pylist()) <= {1, 2, 5}


def test_the_largest_element_is_the_word(data):
    part = data.form.elements["colour"]
    x = data.values[:3].clone()
    x[:, part] = torch.tensor([[0.2, 0.3, 0.1], [-2.0, -5.0, -1.0], [9.0, 8.0, 8.5]]).double()
    assert data.form.decode(x)["colour"].to_pylist() == ["green", "red", "blue"]


def test_few_values_are_the_nearest_ones(data):
    part = data.form.elements["grade"]
    x = data.values[:4].clone()
    x[:, part] = torch.tensor([[-9.0], [1.49], [3.4], [3.6]]).double()
    assert data.form.decode(x)["grade"].to_pylist() == [1, 1, 2, 5]


def test_bounds_reflect_or_keep(tmp_path):
    content = {"x": np.linspace(0, 1, 11) ** 2, "n": np.arange(11) ** 2}
    data = read(content)
    x = torch.tensor([[-0.25, -3.0], [1.125, 103.0], [0.5, 100.4], [7.0, -200.0], [0.0, -0.4]])
    decoded = data.form.decode(x.double()).to_pydict()
    assert decoded == {"x": [0.25, 0.875, 0.5, 0.0, 0.0], "n": [2, 98, 100, 2, 0]}
    # -200 is reflected at -0.5 and at 100.5; 7 at 1, and is then cut at 0
    assert data.form.moved(x) == {"x": 3, "n": 3}
    note = data.form.moved_note(x)
    assert note.startswith("6 of 10 values") and "--bounds none" in note and "x 3, n 3" in note
    assert data.form.moved_note(data.values) == ""
    free = read(content, bounds="none").form
    assert free.decode(x.double()).to_pydict() == {
        "x": [-0.25, 1.125, 0.5, 7.0, 0.0],
        "n": [-3, 103, 100, -200, 0],
    }
    assert "--bounds data" in free.moved_note(x)


def test_reflection_keeps_the_density_at_the_end_of_the_range():
    """Of noise that straddles the smallest whole number, half is not lost to the next one."""
    data = read({"n": np.arange(100)}, discrete=("none",))
    x = torch.linspace(-0.5, 0.5, 1001).double()[:, None]
    assert set(data.form.decode(x)["n"].to_pylist()) == {0}
    assert data.form.moved(x) == {}


def test_whole_numbers_stay_in_the_range_of_their_type():
    data = read({"n": np.arange(0, 250, 7).astype(np.uint8)}, bounds="none")
    x = torch.tensor([[-5.0], [300.0], [1e30]])
    assert data.form.decode(x)["n"].to_pylist() == [0, 255, 255]


@pytest.mark.parametrize("seed", range(3))
def test_settled_rows_are_those_of_decoded_ones(data, seed):
    generator = torch.Generator().manual_seed(seed)
    x = data.values.double() + torch.randn(data.values.shape, generator=generator).double() * 3
    for form in (data.form, form_of({"data": data.description})):
        assert torch.equal(form.settle(x), form.encode(form.decode(x)))
        assert torch.equal(form.settle(form.settle(x)), form.settle(x))


def test_missing_elements_become_null(data):
    x = data.values[:2].clone()
    x[0, data.form.elements["colour"]] = math.nan
    x[1, data.form.elements["age"]] = math.nan
    x[1, data.form.elements["day"]] = math.nan
    table = data.form.decode(x)
    assert [table[c].null_count for c in table.column_names] == [1, 0, 0, 0, 1, 1, 0]
    assert torch.equal(data.form.encode(table, blanks=True).isnan(), x.isnan())
    refused("missing", "colour: 1", call=lambda: data.form.encode(table))


def test_means_are_not_rounded(data):
    mean = data.values.mean(0, keepdim=True)
    row = data.form.decode_mean(mean).to_pylist()[0]
    frame = mixed()
    assert row["age"] == pytest.approx(frame.age.mean(), rel=1e-12)
    assert row["grade"] == pytest.approx(frame.grade.mean(), rel=1e-12)
    assert row["colour"] == frame.colour.mode()[0] and row["site"] == 7
    assert row["day"] == pd.Timestamp(frame.day.astype("int64").mean(), unit="s").round("D").date()
    spread = data.form.decode_spread(data.values.std(0, keepdim=True)).to_pylist()[0]
    assert list(spread) == ["age", "temp", "x", "site", "day", "grade"]
    assert spread["age"] == pytest.approx(frame.age.std()) and spread["site"] == 0


def test_means_of_settled_draws_are_probabilities(data):
    share = data.form.settle(data.values).mean(0)[data.form.elements["colour"]]
    words = data.form.columns[4].words
    frame = mixed()
    assert share.tolist() == pytest.approx([(frame.colour == w).mean() for w in words])


def test_wrong_shapes_are_refused(data):
    refused("(N, 9)", call=lambda: data.form.decode(torch.zeros(5, 3)))
    refused("(N, 9)", call=lambda: data.form.decode(torch.zeros(9)))


# -- the model card


def test_the_form_goes_through_json(data):
    card = json.loads(json.dumps({"data": data.description}, allow_nan=False))
    assert form_of(card) == data.form
    assert form_of(card).decode(data.values).equals(data.form.decode(data.values))


def test_the_table_of_a_card_is_read_as_its_training_read_it(tmp_path):
    frame = mixed()
    frame.loc[5, "age"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = read(tmp_path / "t.csv", missing="drop", columns=("-x",))
    settings = {"source": str(tmp_path / "t.csv"), "held_out": 0.1}
    settings |= {"missing": "drop", "columns": ["-x"]}
    card = {"data": data.description, "config": {"seed": 0, "data": settings}}
    again = open_card_data(json.loads(json.dumps(card)))
    assert torch.equal(again.dataset.values, data.values) and len(again.held_out) == 20
    assert again.dataset.form == data.form
    frame["day"] = frame["day"].dt.date
    other = open_card_data(card, frame)  # the same rows in memory
    assert torch.equal(other.dataset.values, data.values)
    refused("SHA-256", call=lambda: open_card_data(card, frame.assign(temp=1.5)))


@pytest.mark.parametrize(
    "kind",
    [
        "timestamp[us, tz=Europe/Paris]",
        "dictionary<values=string, indices=int8, ordered=1>",
        "dictionary<values=int64, indices=int32, ordered=0>",
        "decimal128(10, 2)",
        "decimal256(50, 3)",
        "time64[ns]",
        "halffloat",
        "large_string",
        "duration[ms]",
    ],
)
def test_types_are_read_from_their_names(kind):
    from scorefield.data.table_types import data_type

    assert str(data_type(kind)) == kind


def test_unknown_types_and_kinds_are_refused():
    from scorefield.data.table_types import data_type

    refused("'whatever'", call=lambda: data_type("whatever"))
    refused("'sheet'", "table", call=lambda: form_of({"data": {"form": {"kind": "sheet"}}}))


def test_kinds_of_times_are_those_that_can_be_drawn():
    """Durations are numbers with a unit, the others are points in time."""
    n = np.arange(40)
    table = pa.table(
        {
            "length": pa.array(n * 1500, pa.duration("ms")),
            "clock": pa.array(n.astype(np.int32), pa.time32("s")),
            "when": pa.array(n, pa.timestamp("s")),
        }
    )
    columns = {c.name: c for c in read(table).form.columns}
    kinds = {name: (c.kind, c.unit) for name, c in columns.items()}
    assert kinds == {
        "length": ("continuous", "seconds"),
        "clock": ("date", ""),
        "when": ("date", ""),
    }
    assert columns["length"].step == 1.5


# -- other rows


def test_columns_are_matched_by_name_in_any_order(data, tmp_path):
    frame = mixed(n=20, seed=1)
    want = data.form.encode(pa.Table.from_pandas(frame))
    for columns in (frame.columns[::-1], sorted(frame.columns)):
        for suffix in ("csv", "tsv", "parquet"):
            path = tmp_path / f"other.{suffix}"
            if suffix == "parquet":
                frame[columns].to_parquet(path)
            else:
                frame[columns].to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
            assert torch.equal(data.form.encode(path), want), (columns, suffix)
        assert torch.equal(data.form.encode(frame[columns]), want)
    assert torch.equal(data.form.encode({c: frame[c].to_numpy() for c in frame}), want)


def test_missing_and_extra_columns_are_named(data, tmp_path):
    frame = mixed(n=20, seed=1).rename(columns={"age": "Age", "x": "y"})
    refused("no column 'age', 'x'", "did you mean 'Age'", call=lambda: data.form.encode(frame))
    frame = mixed(n=20, seed=1)
    frame.insert(0, "extra", 1)
    rows = read_rows(data.form, frame)
    assert any("extra" in note for note in rows.notes)
    assert rows.table.column_names == list(data.form.names)
    frame.to_csv(tmp_path / "o.csv")  # with a column of row numbers
    notes = " ".join(read_rows(data.form, tmp_path / "o.csv").notes)
    assert "extra" in notes and "column 1" in notes
    twice = pd.concat([frame, frame[["age"]]], axis=1)
    refused("more than one column", "'age'", call=lambda: data.form.encode(twice))


def test_one_row_without_types(data, tmp_path):
    path = tmp_path / "row.csv"
    path.write_text("colour,age,temp,x,site,day,grade\nred,20,30.5,0.25,7,2020-01-05,2\n")
    (row,) = data.form.decode(data.form.encode(path)).to_pylist()
    assert row["colour"] == "red" and row["age"] == 20 and str(row["day"]) == "2020-01-05"
    path.write_text("colour,age,temp,x,site,day,grade\n,20,,0.25,7,,2\nred,,,,,,\n")
    refused("line 2", "colour: 1", "temp: 2 (lines 2, 3)", call=lambda: data.form.encode(path))
    x = data.form.encode(path, blanks=True)
    assert x[0].isnan().sum() == 5 and x[1].isnan().sum() == 6


BAD_ROWS = [
    ("colour", "pink", ("line 2", "'pink'", "'blue', 'green', 'red'")),
    ("age", "old", ("line 2", "(age)", "'old'", "not numbers")),
    ("age", "20.5", ("line 2", "(age)", "whole numbers")),
    ("age", "inf", ("line 2", "finite")),
    ("day", "5", ("line 2", "(day)", "dates")),
    ("day", "2020-02-31", ("2020-02-31", "calendar")),
    ("x", "1,5", ("'1,5'", "decimal")),
    ("x", "9007199254740993", ("2^53",)),
]


@pytest.mark.parametrize(("column", "cell", "pieces"), BAD_ROWS)
def test_cells_that_do_not_fit_are_refused(data, tmp_path, column, cell, pieces):
    good = {"colour": "red", "age": "20", "temp": "30.5", "x": "0.25", "site": "7"}
    good |= {"day": "2020-01-05", "grade": "2", column: f'"{cell}"'}
    (tmp_path / "r.csv").write_text(",".join(good) + "\n" + ",".join(good.values()) + "\n")
    refused("rows", *pieces, call=lambda: data.form.encode(tmp_path / "r.csv", "rows"))


def test_typed_columns_of_another_type_are_refused(data):
    frame = mixed().head(5)
    for column, values in (
        ("age", ["a", "b", "c", "d", "e"]),
        ("day", [1, 2, 3, 4, 5]),
        ("colour", [0.5] * 5),
        ("age", [True] * 5),
        ("x", pd.date_range("2020", periods=5)),
    ):
        refused(
            column,
            "needed",
            call=lambda c=column, v=values: data.form.encode(frame.assign(**{c: v})),
        )
    frame["age"] = frame["age"].astype(float)  # whole floats are whole numbers
    assert torch.equal(data.form.encode(frame), data.values[:5])
    refused("whole numbers", call=lambda: data.form.encode(frame.assign(age=0.5)))


def test_another_value_of_a_constant_is_read_as_it_is():
    data = read({"a": [1.5, 2.5, 4.0], "k": [7, 7, 7], "w": ["x", "x", "x"]})
    x = data.form.encode({"a": [1.5], "k": [8], "w": ["y"]})
    assert x.tolist() == [[1.5, 8.0, 0.0]] and data.values[0].tolist() == [1.5, 7.0, 1.0]
    assert data.form.decode(x).to_pylist() == [{"a": 1.5, "k": 7, "w": "x"}]


def test_rows_without_names(tmp_path, data):
    path = tmp_path / "n.csv"
    path.write_text("1.5,2\n2.5,4\n3.5,9\n")
    nameless = read(path)
    path.write_text("7.5,8\n")
    assert nameless.form.encode(path).tolist() == [[7.5, 8.0]]
    path.write_text("column 2,column 1\n8,7.5\n")
    assert nameless.form.encode(path).tolist() == [[7.5, 8.0]]
    path.write_text("7.5,8,9\n")
    refused("3 columns", "2", call=lambda: nameless.form.encode(path))
    path.write_text("1,2,3,4,5,6,7\n3,1,2,3,4,5,6\n")
    refused(
        "names",
        "age, temp",
        call=lambda: read_rows(data.form, path, options=ReadOptions(header=False)),
    )


def test_arrays_are_encoded_rows(data):
    assert torch.equal(data.form.encode(data.values.numpy()), data.values)
    assert torch.equal(data.form.encode(data.values[0].tolist()), data.values[:1])
    refused("colour=blue", "(5, 2)", call=lambda: data.form.encode(np.zeros((5, 2))))
    refused("NaN", "row 0", call=lambda: data.form.encode(np.full((1, 9), np.nan)))
    assert data.form.encode(np.full((1, 9), np.nan), blanks=True).isnan().all()
    refused("rows of a table", call=lambda: data.form.encode(object()))


def test_decimal_commas_and_delimiters_of_other_rows(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a;b\n1,5;2\n2,25;4\n")
    data = read(path)
    path.write_text("b;a\n2;1,125\n")
    assert data.form.encode(path).tolist() == [[1.125, 2.0]]
    path.write_text("b,a\n2,1.125\n")
    assert data.form.encode(path).tolist() == [[1.125, 2.0]]


# -- files


@pytest.mark.parametrize("format", ["csv", "tsv", "parquet", "feather"])
def test_files_are_read_back_as_written(data, tmp_path, format):
    x = data.form.settle(torch.randn(100, 9).double() * 100)
    (path,) = data.form.write(tmp_path / "new" / "v1.5", x, format)
    assert path == tmp_path / "new" / f"v1.5.{format}"
    assert torch.equal(data.form.encode(path), x)
    assert not list(path.parent.glob(".*"))


def test_the_format_and_look_of_the_source_are_kept(tmp_path):
    source = "a;when;b\n1,5;2020-01-05 10:30;x y\n2,25;2020-01-06 11:45;u;v\n"
    source = source.replace("u;v", '"u;v"')
    path = tmp_path / "t.csv"
    path.write_text(source)
    data = read(path)
    (out,) = data.form.write(tmp_path / "out", data.values)
    assert out.read_text() == source
    path.write_text("1.5|2\n0.25|5\n")
    data = read(path)
    assert data.form.write(tmp_path / "out", data.values)[0].read_text() == path.read_text()
    for suffix, want in (("txt", "1.5|2\n0.25|5\n"), ("tsv", "1.5|2\n0.25|5\n")):
        other = path.rename(tmp_path / f"t.{suffix}")
        data = read(other)
        (out,) = data.form.write(tmp_path / "out", data.values, "csv")
        assert out.suffix == ".csv" and out.read_text() == want
        path = other
    pq.write_table(pa.table({"a": [1.5, 2.5]}), tmp_path / "t.parquet")
    data = read(tmp_path / "t.parquet")
    assert data.form.write(tmp_path / "out", data.values)[0].suffix == ".parquet"
    refused("xlsx", "--format", call=lambda: data.form.write(tmp_path / "o", data.values, "xlsx"))


def test_floats_are_written_with_the_fewest_digits_that_read_back(tmp_path):
    values = [0.1, 1 / 3, 1e-300, 1e22, 123456789.123456789, -0.0, 5e-324, 3.0]
    table = pa.table({"d": values, "f": pa.array(values, pa.float32())})
    path = write_table(tmp_path / "t.csv", table)
    cells = [line.split(",") for line in path.read_text().splitlines()[1:]]
    assert [float(c[0]) for c in cells] == values and cells[0] == ["0.1", "0.1"]
    assert [np.float32(c[1]) for c in cells] == table["f"].to_pylist()
    assert cells[7][0] == "3.0"  # read again as a float


def test_tables_of_other_content_are_written(tmp_path):
    table = pa.table(
        {
            "t": pa.array([0, 3_600_000_000], pa.timestamp("us")),
            "z": pa.array([0, 1500], pa.timestamp("ms", "UTC")),
            "b": [True, None],
            "d": pa.array(["x", None]).dictionary_encode(),
            "n": pa.array([None, 2.5]),
            'quo"te': ["a,b", 'c"d\ne'],
        }
    )
    text = write_table(tmp_path / "t.csv", table).read_text()
    assert text.splitlines()[0] == 't,z,b,d,n,"quo""te"'
    assert text.splitlines()[1].startswith("1970-01-01 00:00:00,1970-01-01 00:00:00.000Z,true,x,,")
    text = write_table(tmp_path / "e.csv", table, TextStyle(";", ",", header=False)).read_text()
    assert text.splitlines()[1].split(";")[4] == "2,5"
    for name in ("t.tsv", "t.parquet", "t.feather"):
        assert write_table(tmp_path / name, table).exists()
    refused(".xlsx", ".parquet", call=lambda: write_table(tmp_path / "t.xlsx", table))
    refused("no suffix", call=lambda: write_table(tmp_path / "t", table))


@pytest.mark.skipif(os.name != "posix", reason="permissions")
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    table = pa.table({"a": [1.5]})
    path = write_table(tmp_path / "t.csv", table)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("scorefield.data.table_files.text_cells", fail)
    with pytest.raises(OSError, match="disk full"):
        write_table(path, table)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


# -- round trips of any table

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=64).filter(
    lambda x: abs(x) < 1e200
)
WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1
)
CELLS = {
    "int64": st.integers(-(2**53), 2**53),
    "uint8": st.integers(0, 255),
    "double": NUMBERS,
    "float": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "tenths": st.integers(-(10**6), 10**6).map(lambda k: k / 10),
    "bool": st.booleans(),
    "string": st.sampled_from(["red", "green b", 'q"u', "a,b", "ä;é", "NA", "1x", " b ", "#1"]),
    "date32[day]": st.dates(),
    "timestamp[us]": st.datetimes(pd.Timestamp(1700, 1, 1), pd.Timestamp(2240, 1, 1)),
    "timestamp[ms, tz=UTC]": st.integers(-(10**12), 10**13),
    "time64[us]": st.integers(0, 86_399_999_999),
    "duration[ms]": st.integers(-(10**9), 10**9),
    "decimal128(12, 3)": st.decimals(-(10**8), 10**8, places=3),
}


@st.composite
def tables(draw):
    """A table of one to five columns of any kind."""
    rows = draw(st.integers(1, 12))
    kinds = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=5))
    names = draw(st.lists(WORDS, min_size=len(kinds), max_size=len(kinds), unique=True))
    from scorefield.data.table_types import data_type

    columns = []
    for kind in kinds:
        cells = draw(st.lists(CELLS[kind], min_size=rows, max_size=rows))
        columns.append(pa.array(cells, data_type("double" if kind == "tenths" else kind)))
    return pa.table(columns, names=names)


def check_round_trip(table, format, folder, names):
    """Read, write, read again: the same values, names, order, types and range."""
    data = read(table, discrete=tuple(names), columns=None)
    back = data.form.decode(data.values)
    assert back.column_names == table.column_names and back.schema.types == table.schema.types
    assert back.to_pydict() == table.to_pydict()
    (path,) = data.form.write(folder / "t", data.values, format)
    assert torch.equal(data.form.encode(path), data.values)
    if format in ("parquet", "feather"):
        again = read(path, discrete=tuple(names))
        assert again.form.columns == data.form.columns
        assert torch.equal(again.values, data.values)


def words_of(table):
    return [n for n, t in zip(table.column_names, table.schema.types, strict=True) if t == "string"]


@settings(max_examples=30, deadline=None)
@given(tables(), st.sampled_from(["csv", "tsv", "parquet", "feather"]))
def test_any_table_comes_back(tmp_path_factory, table, format):
    check_round_trip(table, format, tmp_path_factory.mktemp("t"), words_of(table) or ["none"])


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(tables(), st.sampled_from(["csv", "tsv", "parquet", "feather"]))
def test_any_of_many_tables_comes_back(tmp_path_factory, table, format):
    check_round_trip(table, format, tmp_path_factory.mktemp("t"), words_of(table) or ["none"])


@settings(max_examples=30, deadline=None)
@given(tables(), st.integers(0, 2**31), st.floats(0.1, 1e6))
def test_any_samples_are_read_back_as_written(tmp_path_factory, table, seed, size):
    """Rows that a model might draw: written as text, and read as rows of a model."""
    data = read(table, discrete=tuple(words_of(table)) or ("none",))
    generator = torch.Generator().manual_seed(seed)
    x = data.values.double()
    x = x + size * torch.randn(x.shape, generator=generator).double()
    settled = data.form.settle(x)
    (path,) = data.form.write(tmp_path_factory.mktemp("t") / "t", x, "csv")
    assert torch.equal(data.form.encode(path).double(), settled)
    for column in data.form.columns:
        part = settled[:, data.form.elements[column.name]]
        if not column.words:
            assert part.min() >= column.low and part.max() <= column.high


# -- known cells, which decoding must not touch


def kinds():
    """A table with a column of each kind, and its data set."""
    frame = pd.DataFrame(
        {
            "age": pd.Series(np.arange(200) % 72 + 18, dtype="int8"),
            "tenth": np.arange(200) / 10,
            "x": np.random.default_rng(0).normal(size=200).astype(np.float32),
            "dose": np.resize([1, 2, 5, 10], 200),
            "day": [datetime.date(2020, 1, 1) + datetime.timedelta(days=k) for k in range(200)],
            "hour": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(200), "h"),
            "word": np.resize(["a", "b"], 200),
            "site": 7,
        }
    )
    return frame, read(frame)


KNOWN = {  # a known cell that decoding would change, and what is said of it
    "age": (300, "age: the given value 300 is outside the range of the training data, 18 to 89"),
    "tenth": (3.14, "tenth: the given value 3.14 is between the values of the training data"),
    "x": (0.123456789012, None),
    "dose": (7, "dose: the given value 7 is no value of the training data, which hold 1, 2, 5, 10"),
    "day": (datetime.date(2030, 5, 5), "day: the given value 2030-05-05 is outside the range"),
    "hour": (datetime.datetime(2020, 1, 2, 3, 4, 5), "hour: the given value 2020-01-02 03:04:05"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_cells_come_back_as_given(name):
    frame, data = kinds()
    value, said = KNOWN[name]
    row = {column: [None] for column in frame} | {name: [value]}
    rows = read_rows(data.form, row, blanks=True)
    draws = torch.where(rows.values.isnan(), data.values[:3], rows.values)
    decoded = data.form.decode(draws)
    assert decoded[name].to_pylist() != [value] * 3 or name == "x"
    found = overlay(decoded, rows.table, 3)
    assert found[name].to_pylist() == [value] * 3
    others = [column for column in frame if column != name]
    assert found.select(others).equals(decoded.select(others))
    middle = overlay(data.form.decode_mean(draws[:1]), rows.table)
    assert middle[name].to_pylist() == [value]
    notes = notes_on_known(data.form, rows.values)
    assert notes == [] if said is None else len(notes) == 1 and notes[0].startswith(said)
    cells = cells_of(data.form, rows.values)[name].to_pylist()
    assert cells == ([value] if name != "x" else [np.float32(value)])


def test_known_cells_of_the_training_data_keep_their_types_and_are_not_remarked():
    frame, data = kinds()
    rows = read_rows(data.form, frame, blanks=True)
    decoded = data.form.decode(data.values)
    assert overlay(decoded, rows.table).equals(decoded)
    assert cells_of(data.form, data.values).equals(decoded)
    assert notes_on_known(data.form, rows.values) == []
    refuse_other_constants(data.form, rows.table, "t")


def test_notes_count_the_known_cells_of_many_rows():
    _, data = kinds()
    rows = data.values[:6].clone()
    rows[:2, 0], rows[2, 0] = 95, math.nan
    said = notes_on_known(data.form, rows)
    assert said == [
        "age: 2 of 5 given values are outside the range of the training data, 18 to 89: 95"
    ]


@pytest.mark.parametrize("column", ["site", "unit"])
def test_another_value_of_a_constant_column_is_no_known_cell(column):
    frame = pd.DataFrame({"x": np.arange(50) / 7, "site": 7, "unit": "kg"})
    data = read(frame)
    other = {"x": [None], "site": [None], "unit": [None]}
    rows = read_rows(data.form, other | {column: [frame[column][0]]}, blanks=True)
    refuse_other_constants(data.form, rows.table, "t")  # the constant itself
    rows = read_rows(data.form, other | {column: [9 if column == "site" else "lb"]}, blanks=True)
    refused(
        column,
        "constant",
        "'7'" if column == "site" else "'kg'",
        call=lambda: refuse_other_constants(data.form, rows.table, "t"),
    )


TIMED = datetime.datetime(2020, 1, 5, 23, 59)


@pytest.mark.parametrize("way", ["csv", "parquet", "frame", "arrow", "blanks"])
def test_a_time_of_day_is_not_cut_off_for_a_column_of_dates(tmp_path, way):
    frame, data = kinds()
    for value, fits in ((TIMED, False), (TIMED.replace(hour=0, minute=0), True)):
        other = frame[:3].assign(day=pd.Series([value] * 3).astype("datetime64[us]"))
        source = other
        if way == "csv":
            source = tmp_path / "t.csv"
            other.to_csv(source, index=False, date_format="%Y-%m-%d %H:%M")
        elif way == "parquet":
            source = tmp_path / "t.parquet"
            pq.write_table(pa.Table.from_pandas(other, preserve_index=False), source)
        elif way == "arrow":
            source = pa.Table.from_pandas(other, preserve_index=False)

        def read_it(source=source):
            return read_rows(data.form, source, "t", blanks=way == "blanks")

        if fits:
            assert read_it().table["day"].to_pylist() == [value.date()] * 3
        else:
            place = "lines 2, 3, 4" if way == "csv" else "row"
            refused(place, "day", "2020-01-05 23:59:00", "whole dates", call=read_it)


@pytest.mark.parametrize("kind", ["class", "vector"])
def test_a_time_of_day_is_not_cut_off_for_a_condition_of_dates(kind):
    frame = pd.DataFrame(
        {
            "x": np.arange(60) / 7,
            "day": [datetime.date(2020, 1, 1 + k % 3) for k in range(60)],
        }
    )
    data = read(frame, condition=kind, condition_from="day")
    other = frame[:2].assign(day=pd.Series([TIMED.replace(day=2)] * 2).astype("datetime64[us]"))
    refused("whole dates", call=lambda: read_rows(data.form, other, "t"))
    other["day"] = other["day"].dt.normalize()
    assert read_rows(data.form, other, "t").condition is not None
