"""Reading tables: what is clear is taken and said, what is not is refused with the option."""

import csv

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import torch

from data_helpers import random_table, refused
from scorefield.data import open as open_data
from scorefield.data import open_like
from scorefield.data.options import ReadOptions
from scorefield.data.tables import open_table


def read(source, **options):
    """The data set of a table; a text is written to a file by the caller."""
    return open_table(source, "t", ReadOptions().merge(**options))


@pytest.fixture
def text(tmp_path):
    """A function that writes a text table and reads it."""

    def write(content, suffix=".csv", **options):
        path = tmp_path / f"t{suffix}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read(path, **options)

    return write


def rows(dataset):
    """The table that a data set gives back, as columns."""
    return dataset.form.decode(dataset.values).to_pydict()


def kinds(dataset):
    return {column.name: column.kind for column in dataset.form.columns}


def said(dataset):
    return " | ".join((*dataset.reading.left_out, *dataset.reading.notes))


# -- text: values, delimiters, encodings


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", [None, ["a", "the b", ""]])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_numbers_come_out_as_written(tmp_path, delimiter, header, end):
    table = random_table(50)
    path = tmp_path / "t.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as handle:
        writer = csv.writer(handle, delimiter=delimiter, lineterminator=end)
        if header:
            writer.writerow(header)
        writer.writerows(table.tolist())
        handle.write(end)
    data = read(path)
    assert np.array_equal(data.values.numpy(), table)
    assert data.columns == ("a", "the b", "column 3") or header is None
    assert data.reading.names == (("a", "the b", "column 3") if header else None)
    assert ("column 1 to 3" in said(data)) == (header is None)


SAME = [
    ("a,b\n1,2.5\n3,4\n", {}),
    ("a;b\n1;2,5\n3;4\n", {}),  # a decimal comma is clear beside another delimiter
    ("a\tb\n1\t2,5\n3\t4\n", {}),
    ("1;2,5\n3;4,0\n", {}),
    ("a,b\n1,'2.5'\n3,4\n".replace("'", '"'), {}),
    ('"a","b"\n"1","2,5"\n"3","4"\n', {"decimal": ","}),
    ("a:b\n1:2.5\n3:4\n", {"delimiter": ":"}),
    ("a b\n1 2.5\n3   4\n", {}),
    ("  1.0e+00   2.5e+00\n  3.0e+00   4.0e+00\n", {}),  # numpy.savetxt
    ("# a b\n1 2.5\n3 4\n", {}),
    ("# made by hand, 2020\na,b\n1,2.5\n3,4\n", {}),
    ("sep=;\na;b\n1;2.5\n3;4\n", {}),
    ("a, b\n1, 2.5\n3, 4\n", {}),
    ("\n\na,b\n\n1,2.5\n   \n3,4\n\n", {}),
    ("a,b,\n1,2.5,\n3,4,\n", {}),  # a delimiter at the end of every line
    ("a,b\n1,2.5,\n3,4,\n", {}),  # ... but not of the names
    ('"a" "b"\n"1" 1 2.5\n"2" 3 4\n', {}),  # R's write.table
    (",a,b\n0,1,2.5\n1,3,4\n", {}),  # pandas' to_csv
    ("Unnamed: 0,a,b\n0,1,2.5\n1,3,4\n", {}),
    ("a,b\n+1,2.50\n3.0,4.\n", {}),
    ("a,b\n1,2.5\n,\n3,4\n", {}),
    ("a;b\n1;2.500,5\n3;4\n", {"thousands": "."}),
    ("a;b\n1;2,500.5\n3;4\n", {"thousands": ","}),
    ("a,b\n1,2 500.5\n3,4\n", {"thousands": " "}),
    ("a;b\n1;2\u00a0500,5\n3;4\n", {"thousands": " ", "decimal": ","}),
    ("a,b\n1,2.5\n3,4\n\x1a", {}),
    ("\ufeffa;b;\r\n1;2,5;\r\n3;4,0;\r\n", {}),
    ("a | b\n 1 | 2.5 \n 3 | 4 \n", {}),
    ("a,b\n1E+00,25e-1\n3.,.4e1\n", {}),
]


@pytest.mark.parametrize(("content", "options"), SAME)
def test_ways_to_write_the_same_table(text, content, options):
    data = text(content, **options)
    b = 2500.5 if "thousands" in options else 2.5
    assert data.values.tolist() == [[1, b], [3, 4]]
    named = "a" in content.partition("\n1")[0]
    assert data.columns == (("a", "b") if named else ("column 1", "column 2"))


def test_suffix_tsv_and_txt(text):
    assert text("a\tb\n1\t2\n3\t5\n", ".tsv").values.tolist() == [[1, 2], [3, 5]]
    assert text("a|b\n1|2\n3|5\n", ".txt").values.tolist() == [[1, 2], [3, 5]]
    assert text("1 2\n3 5\n", ".dat").values.tolist() == [[1, 2], [3, 5]]


BAD = [
    ("a,b\n1,2\n3,x\n", ("line 3", "column 2 (b)", "'x'", "--columns='-b'")),
    ("1,2\n\n3,\n", ("missing in 1 of 2 rows", "column 2", "line 3", "--missing drop")),
    ("a,b\n1,2\n3\n", ("line 3 has 1 cells", "2")),
    ("1,2\n3,4,5\n", ("line 2 has 3 cells", "2")),
    ("a,b\n1,2\n3,4\nnan,6\n", ("line 4", "column 1 (a)", "'nan'", "--missing")),
    ("1,2\n3,-inf\n", ("line 2", "column 2", "-inf", "finite")),
    ("a,b\n1,2\n3,1e999\n", ("line 3", "column 2 (b)", "1e999")),
    ("a,b\n1,2\n3,9007199254740993\n", ("line 3", "2^53", "9007199254740993")),
    ("a,b\n1,2\n3,99999999999999999999999\n", ("line 3", "2^53")),
    ("", ("empty",)),
    ("\n\n", ("empty",)),
    ("a,b\n", ("names", "no line of numbers", "--no-header")),
    ("# only\n# comments\n", ("comments", "no table")),
    ("a,b\n1,2\n# later\n3,4\n", ("line 3", "comments")),
    ("Device: X\nSerial: 5\n\nT;V\n1;2\n2;3\n3;4\n", ("line 4", "above the table")),
    ("x\n1,5\n2,5\n", ("line 2 has 2 cells", "--decimal")),
    (b"\xff\xfea\x00,\x00b\x00", ("UTF-16", "UTF-8")),
    ("a,b\n1,caf\xe9\n".encode("latin-1"), ("UTF-8", "line 2")),
    (b"\xfe\x00\x9d1,2", ("UTF-8",)),
    (b"a,b\n1,\x002\n", ("UTF-8", "zero bytes")),
    (b"PK\x03\x04....", ("zip", "Excel")),
    (b"PAR1....", ("Parquet", ".parquet")),
    (b"\x1f\x8b....", ("gzip",)),
    ("a,a\n1,2\n3,4\n", ("'a'", "more than one column")),
    ("a,b,a,b\n1,2,3,4\n", ("'a', 'b'", "more than one column")),
    ("a,b\n1,2\n3,4%\n5,6\n", ("4%", "unit")),
    ('a,b\n"1,234",2\n"5,678",3\n', ("1,234", "--thousands ','")),
    ("a;b\n1,234;2\n5,678;3\n", ("1,234", "--decimal", "--thousands")),
    ("a;b\n1.234,5;2\n5,6;3\n", ("1.234,5", "--decimal , --thousands .")),
    ("a;b\n1.234;2\n5.678;3\n", ("the point in '1.234'", "'a'", "--decimal .", "--thousands .")),
    ("a\tb\n1.234\t2\n567\t3\n", ("the point in '1.234'", "--decimal .", "--thousands .")),
    ("a;b\n1.234;2,5\n5.678;3\n", ("column 1 (a)", "'1.234'", "--thousands '.'")),
    ("a;b\n1,5;2.5\n2,5;3.5\n", ("decimal commas", "decimal points", "--decimal")),
    ('a,b\n"1,5",2\n"2,5",3\n', ("1,5", "--decimal ,")),
    ("a;b\n1\u00a0234;2\n5\u00a0678;3\n", ("--thousands ' '",)),
    ("a,b\n1,2\n2,5\n3,7\nTotal,14\n", ("line 5", "'Total'")),
    ("t,v\n(s),(V)\n1,2\n2,5\n3,7\n", ("line 2", "'(s)'")),
    ("t,v\n2020-01,1\n2020-02,2\n2020-03,3\n", ("YYYY-MM-DD",)),
    ("t,v\n2020-01-01 10:00,1\n2020-01-01 24:00,2\n", ("line 3", "24:00")),
    ("a,b\n$1.50,2\n$2.50,3\n$3.75,9\n", ("unit", "--columns=-a")),
    ("a,b\n1,2\n<3,4\n5,6\n", ("line 3", "'<3'")),
    ("t,b\n2020-02-30,1\n2020-03-01,2\n", ("line 2", "2020-02-30", "calendar")),
    ("t,b\n2020-02-20,1\nsoon,2\n2020-02-22,3\n", ("line 3", "'soon'", "YYYY-MM-DD")),
    ("t,b\n31/12/2020,1\n30/11/2020,2\n1/2/2021,3\n", ("YYYY-MM-DD", "--columns=-t")),
    ("t,b\n25:00,1\n24:30,2\n", ("25:00", "time of day")),
    ("t,b\n2020-01-01T10:00Z,1\n2020-01-01T11:00,2\n", ("time zone",)),
]


@pytest.mark.parametrize(("content", "pieces"), BAD)
def test_what_cannot_be_read_names_its_place(text, content, pieces):
    refused("t: ", *pieces, call=lambda: text(content))


@pytest.mark.parametrize(
    "content",
    [
        "a;b\n1.234;2.5\n5.678;3\n",  # b has decimal points
        "a;b\n1.234;2\n0.567;3\n",
        "a;b\n1.234;2\n5.6;3\n",
        "a;b\n1234.567;2\n5.678;3\n",
        "a,b\n1.234,2\n567,3\n",
        "a b\n1.234 2\n567 3\n",
        "a\tb\n1.234\t2\n5.670\t3\n",  # three decimal places everywhere
    ],
)
def test_decimal_points_that_are_clear_need_no_option(text, content):
    (first, *_) = text(content).values.tolist()
    assert first[0] in (1.234, 1234.567)


def test_points_before_three_digits_are_read_as_an_option_or_the_model_says(text, tmp_path):
    content = "a;b\n1.234;2\n5.678;3\n"
    assert text(content, decimal=".").values[0].tolist() == [1.234, 2]
    assert text(content, thousands=".").values[0].tolist() == [1234, 2]
    model = text("a;b\n1.5;2\n2.25;3\n")  # a model with decimal points settles it
    path = tmp_path / "new.csv"
    path.write_text(content)
    card = {"data": model.description}
    assert open_like(card, path).values[0].tolist() == [1.234, 2]
    whole = {"data": text("a;b\n15;2\n25;3\n").description}
    refused("the point in '1.234'", call=lambda: open_like(whole, path))


def test_errors_far_down_name_their_line(text):
    lines = ["a,b", *("1,2" for _ in range(5000))]
    lines[4000] = "1,x"
    refused("line 4001", "column 2 (b)", call=lambda: text("\n".join(lines)))
    lines[4000], lines[1000] = "1,2", "1"
    refused("line 1001", "1 cells", call=lambda: text("\n".join(lines)))
    lines[1000], lines[2000] = '"1\n",2', "1,"
    refused("line 2002", call=lambda: text("\n".join(lines)))  # a cell of two lines above


def test_long_rows_and_many_columns(text):
    table = np.arange(12000).reshape(2, 6000)
    data = text("\n".join(",".join(map(str, row)) for row in table), header=False)
    assert np.array_equal(data.values.numpy(), table)
    word = "x" * 100_000
    assert rows(text(f"a,b\n1,{word}\n2,{word}\n"))["b"] == [word, word]


NAMED = [
    ("#chrom\tpos\tref\nchr1\t100\tA\nchr1\t150\tT\nchr2\t170\tA\n", "chrom pos ref"),
    ("##fileformat=VCF\n#CHROM\tPOS\nchr1\t100\nchr2\t150\nchr1\t170\n", "CHROM POS"),
    ("# chrom,pos\nchr1,100\nchr2,150\nchr2,170\n", "chrom pos"),
    ("#chrom pos n\nchr1 100 7\nchr2 150 7\nchr1 170 8\n", "chrom pos n"),
    ("# a,b\n1,2\n3,5\n8,1\n", "a b"),
]
NOT_NAMED = [
    ("# made, by hand\nchrom,pos\nchr1,100\nchr2,150\nchr2,170\n", ("chrom", "pos")),
    ("# made by, hand\nx,2\n1,2.5\n3,5\n8,1\n", ("x", "2")),
    ("# three genes found\nchr1 100 7\nchr1 150 7\nchr1 170 8\n", None),  # a sentence
    ("# one,two,three\nchr1,100\nchr1,150\nchr1,170\n", None),  # another number of cells
    ("# pos,17\nchr1,100\nchr1,150\nchr1,170\n", None),
]


@pytest.mark.parametrize(("content", "names"), NAMED)
def test_names_in_a_comment_over_words_and_numbers_are_taken(text, content, names):
    data = text(content)
    assert data.reading.names == tuple(names.split()) and len(data) == 3
    assert "the names are in a line that begins with #" in data.report[1]
    assert text(content, header=False).reading.names is None


@pytest.mark.parametrize(("content", "names"), NOT_NAMED)
def test_other_comments_are_no_names(text, content, names):
    data = text(content)
    assert data.reading.names == names and len(data) == 3
    assert "begins with #" not in data.report[1] and "as comments" in data.report[1]


def same_names(value):
    """Mappings of several kinds of which two names are one text."""
    x = np.arange(20.0)
    frame = pd.DataFrame({1: x, "1": -x})
    return [
        {1: x, "1": -x, "z": x},
        {1: torch.tensor(x), "1": x.tolist()},
        {None: x, "None": -x},
        frame,
        pa.table([x, -x], names=["1", "1"]),
        {1: x.reshape(10, 2), "1": x.reshape(10, 2)},
        {"images": x.reshape(5, 2, 2), 1: np.arange(5), "1": np.arange(5)},
    ][value]


@pytest.mark.parametrize("value", range(7))
def test_names_that_are_one_text_are_refused(value):
    refused("1" if value != 2 else "None", "a name of its own", call=lambda: opened(value))


def opened(value):
    return open_data(same_names(value))


def test_names_that_are_numbers_are_taken(text):
    x = np.arange(20.0)
    data = open_data({1: x, "z": -x, 2.5: x * x})
    assert data.columns == ("1", "z", "2.5") and data.values[2].tolist() == [2, -2, 4]
    card = {"data": data.description}
    refused("1", "a name of its own", call=lambda: open_like(card, {1: x, "1": x, "z": x, 2.5: x}))


# -- the first line

CLEAR = [
    ("a,b\n1,2\n2,4\n", True),
    ("a,2\n1,2\n2,4\n", True),
    ("1.5,2\n3,4.5\n", False),
    ('"1","2"\n1,2\n2,4\n', True),  # the names alone are in quotes
    ("1,2\n3,4\n", False),
    ("1,2,3\n1,2,3\n1,3,2\n", False),  # occurs again
    ("nan,1\n2,3\n4,5\n", False),
    (",1\n0,.5\n1,.25\n", True),  # a data frame of one column of pandas
    (",0,1\n0,.5,.5\n1,.25,.5\n", True),
    ("2020-01,2020-02\n1,2\n2,4\n", True),
    ("time,x\n2020-01-01,2\n2020-01-02,3\n", True),
    ("2020-01-01,2\n2020-01-02,3\n", False),
    ("red,1\nblue,2\nred,3\nblue,4\n", False),
    ("colour,size\nred,S\nblue,S\nred,M\nblue,M\n", True),
    ("red,S\nred,S\nblue,M\nblue,M\n", False),
    ("True,False\nTrue,False\nFalse,True\nFalse,True\n", False),
    ("#,x\n1,2\n2,5\n", True),
    ("0.1,0.2,0.3\n0.4,0.5,0.6\n0.2,0.9,0.1\n", False),  # the next line is as even
]


@pytest.mark.parametrize(("content", "named"), CLEAR)
def test_first_line_where_it_is_clear(text, content, named):
    data = text(content, missing="drop")
    assert data.form.named == named
    assert (data.reading.names is None) != named


UNCLEAR = [
    "0,1,2\n.5,.2,.1\n.7,.1,.9\n",
    "0,1,2\n5,3,9\n4,4,4\n",
    "1,2,3\n5,3,9\n4,4,4\n",
    "2001,2002,2003\n5,3,9\n4,4,4\n",
    "400,410,420,430,440\n5,3,9,4,3\n400,4,4,5,450\n",
    "400.5,401.0,401.5,402.0,402.5\n.5,.3,.9,.4,.3\n.4,.4,.5,.1,.2\n",
    "17,3\n.5,.2\n.7,.1\n",
    "0\n.5\n.25\n.125\n",
    "name,town\nAnn,Rome\nBob,Oslo\n",
    "red,kind\nred,S\nblue,S\nred,M\nblue,M\n",
    "5,colour\n1,red\n2,blue\n3,red\n4,blue\n",
]


@pytest.mark.parametrize("content", UNCLEAR)
def test_first_line_that_is_unclear_is_refused_and_the_option_decides(text, content):
    refused("first line", "--header", "--no-header", call=lambda: text(content))
    words = [c for c in content if c.isalpha()]
    count = content.count("\n")
    options = {"columns": ("red",)} if content.startswith("red") else {}
    if not words:
        assert len(text(content, header=False)) == count
        data = text(content, header=True)
        assert len(data) == count - 1
        assert data.columns == tuple(content.partition("\n")[0].split(","))
    elif "Ann" in content:
        options = {"discrete": ("name", "town")}
        assert rows(text(content, header=True, **options))["town"] == ["Rome", "Oslo"]


def test_row_numbers_without_a_name(text):
    for content in (",a\n1,5\n2,7\n", "Unnamed: 0.1,Unnamed: 0,a\n0,0,5\n1,1,7\n"):
        data = text(content)
        assert data.columns == ("a",) and "counts the rows" in said(data)
    assert text(",a\n1,5\n2,7\n", columns=("column 1", "a")).values.tolist() == [[1, 5], [2, 7]]
    refused("column 1", "row numbers", "--columns='-column 1'", call=lambda: text(",a\n7,5\n3,7\n"))
    assert text(",a\n7,5\n3,7\n", columns=("-column 1",)).columns == ("a",)
    data = text(",a\n7.5,5\n3,7\n")  # no row numbers
    assert data.columns == ("column 1", "a") and "is called column 1" in said(data)
    data = text("a,\n5,1\n7,2\n")  # not the first one
    assert data.columns == ("a", "column 2")
    data = text("id,a\n" + "".join(f"{k},{k * k % 7}\n" for k in range(20)))
    assert data.columns == ("id", "a") and "--columns=-id" in said(data)  # a name decides


# -- what columns hold


def test_kinds_of_columns(text):
    rng = np.random.default_rng(0)
    n = 300
    table = {
        "x": rng.normal(size=n),
        "whole": rng.integers(0, 500, n),
        "tenths": np.round(rng.uniform(0, 90, n), 1),
        "fives": 5 * rng.integers(10, 500, n),
        "grade": rng.integers(1, 6, n),
        "dose": rng.choice([0.1, 0.25, 3.0], n),
        "colour": rng.choice(["red", "blue", "x y"], n),
        "flag": rng.choice(["True", "False"], n),
        "site": np.full(n, 7),
        "who": ["me"] * n,
        "day": np.datetime64("2020-01-01") + rng.integers(0, 900, n),
        "year": 2000 + rng.integers(0, 100, n),
    }
    frame = pd.DataFrame(table)
    data = text(frame.to_csv(index=False))
    assert kinds(data) == {
        "x": "continuous",
        "whole": "integer",
        "tenths": "continuous",
        "fives": "integer",
        "grade": "discrete",
        "dose": "discrete",
        "colour": "category",
        "flag": "category",
        "site": "constant",
        "who": "constant",
        "day": "date",
        "year": "integer",
    }
    steps = {c.name: c.step for c in data.form.columns}
    assert steps["x"] == 0 and steps["whole"] == 1 and steps["fives"] == 5 and steps["day"] == 1
    assert steps["tenths"] == pytest.approx(0.1)
    assert data.columns[6:9] == ("colour=blue", "colour=red", "colour=x y")
    for name in ("tenths (step 0.1)", "grade (5 values)", "colour (3 words)", "site (7)", "day"):
        assert name in said(data)
    assert rows(data)["day"] == [pd.Timestamp(d).date() for d in table["day"]]


def test_discrete_is_decided_by_the_option(text):
    content = "a,b\n" + "".join(f"{k % 3},{k % 4}\n" for k in range(60))
    assert kinds(text(content)) == {"a": "discrete", "b": "discrete"}
    assert kinds(text(content, discrete=("none",))) == {"a": "integer", "b": "integer"}
    assert kinds(text(content, discrete=("b",))) == {"a": "integer", "b": "discrete"}
    refused(
        "'aa'", "did you mean 'a'", "The columns are", call=lambda: text(content, discrete=("aa",))
    )


def test_discrete_needs_five_rows_a_value(text):
    content = ["a,b", *(f"{k % 20},{k * 1.1}" for k in range(100))]
    assert kinds(text("\n".join(content)))["a"] == "discrete"
    assert kinds(text("\n".join(content[:-1])))["a"] == "integer"


def test_words_that_are_too_many_are_refused(text):
    people = "id,name\n" + "".join(f"{k * k},p{k}\n" for k in range(40))
    refused(
        "column 2 (name)",
        "40 different words in 40 rows",
        "--columns=-name",
        "--discrete=name",
        call=lambda: text(people),
    )
    assert kinds(text(people, columns=("-name",))) == {"id": "integer"}
    assert kinds(text(people, discrete=("name",)))["name"] == "category"
    states = "s,x\n" + "".join(f"s{k % 51},{k * k}\n" for k in range(2000))
    refused("51 different words", call=lambda: text(states))
    assert len(text(states.replace("s50,", "s49,")).columns) == 51


def test_words_that_may_mean_something_else_are_said(text):
    lands = "land,x\n" + "NA,1.5\nFR,2\n" * 10
    data = text(lands)
    assert rows(data)["land"] == ["NA", "FR"] * 10 and "'NA' is taken as a word" in said(data)
    data = text("code,x\n" + "007,1.5\n012,2\n" * 10)
    assert rows(data)["code"] == ["007", "012"] * 10 and "leading zeros" in said(data)
    data = text("share,x\n" + "5%,1.5\n7%,2\n" * 10)
    assert kinds(data)["share"] == "category" and "numbers with a unit" in said(data)
    data = text("size,x\n" + "S,1.5\nM,2\n40,3\n" * 10)
    assert kinds(data)["size"] == "category" and "'40'" in said(data)
    data = text("d,x\n20200131,1\n20200228,2\n20210228,3\n")
    assert kinds(data)["d"] == "integer" and "YYYY-MM-DD" in said(data)
    data = text("a,b\n\u22125,2\n\u22126,3\n7,4\n")  # a minus sign of its own
    assert rows(data)["a"] == [-5, -6, 7]
    data = text("rain,x\n" + "".join(f"{max(0, k - 50) / 7.3!r},{k}\n" for k in range(100)))
    assert "51% of the values are 0" in said(data)


DATES = [
    ("2020-12-31", "date32[day]", 18627.0),
    ("2020-12-31 23:59", "timestamp[s]", 1609459140.0),
    ("2020-12-31T23:59:30", "timestamp[s]", 1609459170.0),
    ("2020-12-31T23:59:30.25", "timestamp[ms]", 1609459170.25),
    ("2020-12-31T23:59:30.123456Z", "timestamp[us, tz=UTC]", 1609459170.123456),
    ("2020-12-31T23:59:30+01:00", "timestamp[s, tz=+01:00]", 1609455570.0),
    ("23:59", "time32[s]", 86340.0),
    ("23:59:30", "time32[s]", 86370.0),
    ("23:59:30.5", "time64[us]", 86370.5),
    ("1969-07-20", "date32[day]", -165.0),
]


@pytest.mark.parametrize(("cell", "kind", "number"), DATES)
def test_dates_are_days_and_times_are_seconds(text, tmp_path, cell, kind, number):
    other = cell.replace("20", "21", 1) if "-" in cell else cell.replace("23", "22", 1)
    data = text(f'when,x\n"{cell}",1\n{other},2\n')
    assert data.form.columns[0].type == kind and data.values[0, 0].item() == number
    path = data.form.write(tmp_path / "again", data.values)[0]
    lines = path.read_text().splitlines()
    fraction = {"timestamp[ms]": "0", "time64[us]": "00000"}.get(kind, "")
    assert lines[1:] == [f"{cell}{fraction},1", f"{other}{fraction},2"]
    assert torch.equal(read(path).values, data.values)


def test_steps_of_dates(text):
    hours = pd.date_range("2020-01-01", periods=40, freq="h")
    weeks = pd.date_range("2020-01-06", periods=40, freq="7D").date
    data = text(pd.DataFrame({"t": hours, "w": weeks}).to_csv(index=False))
    assert [c.step for c in data.form.columns] == [3600, 7]


# -- missing values


def test_missing_values_are_counted_and_the_option_decides(text):
    content = "a,b,c\n1,2,x\n,3,y\n4,nan,x\n5,n/a,x\n6,9,\n7,1,x\n"
    refused(
        "4 of 6 rows",
        "column 1 (a): 1 (line 3)",
        "column 2 (b): 2 ('nan', 'n/a'; lines 4, 5)",
        "column 3 (c): 1 (line 6)",
        "--missing drop",
        "--missing median",
        call=lambda: text(content),
    )
    data = text(content, missing="drop")
    assert rows(data) == {"a": [1, 7], "b": [2, 1], "c": ["x", "x"]}
    assert data.reading.missing == {"a": 1, "b": 2, "c": 1}
    assert "4 of 6 rows" in said(data) and data.source_rows.tolist() == [0, 5]
    data = text(content, missing="median")
    assert rows(data) == {
        "a": [1, 5, 4, 5, 6, 7],
        "b": [2, 3, 2, 2, 9, 1],
        "c": ["x", "y", "x", "x", "x", "x"],
    }
    assert "2 missing values of b filled in with 2" in said(data) and data.source_rows is None


def test_missing_values_of_every_type():
    frame = pd.DataFrame(
        {
            "a": [1.5, None, 2.5],
            "b": pd.array([1, None, 5], "Int64"),
            "c": pd.Categorical(["x", None, "y"]),
            "d": [True, None, False],
            "e": pd.to_datetime(["2020-01-01", None, "2020-01-02"]),
        }
    )
    for table in (frame, pa.Table.from_pandas(frame), {c: frame[c] for c in frame}):
        refused(
            *(f"{c}: 1 (row 1 (from 0))" for c in "bcde"),
            call=lambda t=table: read(t, columns=(*"bcde",)),
        )
        assert len(read(table, missing="drop")) == 2
        assert len(read(table, missing="median")) == 3


def test_missing_in_every_row_or_column(text):
    refused("every row has a missing value", call=lambda: text("a,b\n1,\n,2\n", missing="drop"))
    refused("a, b is blank", call=lambda: text("a,b\n,\n,\n"))
    data = text("a,b,c\n1,,2\n3,,4\n")
    assert data.columns == ("a", "c") and "blank in every row: b" in said(data)
    data = text("a\n1\n\n3\n", missing="drop")  # blank lines of one column are cells
    assert data.values.tolist() == [[1], [3]]
    refused("line 3", "--missing", call=lambda: text("a\n1\n\n3\n"))
    assert text("a,b\n1,2\n,\n3,4\n").source_rows.tolist() == [0, 2]


# -- columns


def test_columns_are_chosen_by_name(text):
    content = "a,b,-c\n1,2,3\n4,5,9\n"
    assert text(content, columns=("b", "a")).columns == ("a", "b")
    data = text(content, columns=("-a",))
    assert data.columns == ("b", "-c") and "--columns" in said(data)
    assert text(content, columns=("-c",)).columns == ("-c",)
    assert text(content, columns=("--c",)).columns == ("a", "b")
    refused("'bb'", "did you mean 'b'", "a, b, -c", call=lambda: text(content, columns=("-bb",)))
    refused("no column is left", call=lambda: text(content, columns=("-a", "-b", "--c")))
    assert text("a,b,a\n1,2,3\n2,5,3\n", columns=("-a",)).columns == ("b",)
    assert text("a,b\n1,x\n2,y\n3,z\n4,w\n", columns=("a",)).columns == ("a",)
    assert text("1,2\n3,5\n", columns=("column 2",)).columns == ("column 2",)


def test_options_that_contradict_are_refused(text):
    content = "a;b\n1;2\n3;5\n"
    refused("one character", call=lambda: text(content, delimiter="ab"))
    refused("one character", call=lambda: text(content, delimiter="5"))
    refused("decimal", call=lambda: text(content, decimal=";"))
    refused("different marks", call=lambda: text(content, decimal=",", thousands=","))
    refused("thousands", call=lambda: text(content, thousands="x"))
    refused("text tables", call=lambda: read({"a": [1, 2]}, header=True))
    assert text(content, delimiter=";").values.tolist() == [[1, 2], [3, 5]]
    for word in ("\t", "tab", "\\t"):
        assert text(content.replace(";", "\t"), delimiter=word).values.tolist() == [[1, 2], [3, 5]]


# -- other sources


def test_parquet_and_feather(tmp_path):
    table = random_table()
    columns = {"a": table[:, 0], "b": table[:, 1], "n": np.arange(200) ** 2}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    feather.write_feather(pa.table(columns), str(tmp_path / "t.feather"))
    for name, kind in (("t.parquet", "parquet"), ("t.feather", "feather")):
        data = read(tmp_path / name)
        assert data.columns == ("a", "b", "n") and data.reading.format == kind
        assert np.array_equal(data.values.numpy(), np.column_stack([*columns.values()]))
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": table[:, 0].astype(np.float32), "w": ["x", "y"] * 100}), path)
    assert read(path).values.dtype == torch.float32
    pq.write_table(pa.table({"a": [1.0, None, 2.0], "b": [1.0, 2.0, 3.0]}), path)
    refused("row 1", "a: 1", "missing", call=lambda: read(path))
    pq.write_table(pa.table({"a": pa.array([], pa.float64())}), path)
    refused("empty", call=lambda: read(path))
    pq.write_table(pa.table({"a": [[1.0], [2.0]]}), path)
    refused("'a'", "list", "not supported", call=lambda: read(path))
    path.write_bytes(b"no parquet at all")
    refused("not a readable parquet", call=lambda: read(path))
    (tmp_path / "t.arrow").write_bytes(b"nothing")
    refused("not a readable Arrow", call=lambda: read(tmp_path / "t.arrow"))


def test_parquet_of_pandas_with_an_index(tmp_path):
    frame = pd.DataFrame({"a": [1.5, 2.5, 4.0]})
    path = tmp_path / "t.parquet"
    frame.to_parquet(path)
    assert read(path).columns == ("a",)
    frame.set_axis([2, 0, 1]).to_parquet(path)
    refused("__index_level_0__", "--columns", call=lambda: read(path))
    assert read(path, columns=("a",)).columns == ("a",)
    frame.set_axis(pd.Index([5, 7, 6], name="day")).to_parquet(path)
    assert set(read(path).columns) == {"a", "day"}


def test_tables_in_memory():
    table = {"a": np.array([1, 2, 5]), "b": np.array([1.5, 2.5, 4.25]), "c": ["x", "y", "x"]}
    frame = pd.DataFrame(table)
    records = np.array([(1, 1.5), (2, 2.5), (5, 4.25)], dtype=[("a", int), ("b", float)])

    class Stream:  # as polars and others offer it
        def __arrow_c_stream__(self, requested_schema=None):
            return pa.table(table).__arrow_c_stream__(requested_schema)

    class Exchange:  # the older protocol
        def __dataframe__(self, *args, **kwargs):
            return pa.table({"a": table["a"], "b": table["b"]}).__dataframe__()

    for source in (table, frame, pa.table(table), pa.table(table).to_batches()[0], Stream()):
        data = read(source)
        assert rows(data) == {"a": [1, 2, 5], "b": [1.5, 2.5, 4.25], "c": ["x", "y", "x"]}
    for source in (
        records,
        Exchange(),
        {"a": torch.tensor([1, 2, 5]), "b": iter([1.5, 2.5, 4.25])},
    ):
        assert rows(read(source)) == {"a": [1, 2, 5], "b": [1.5, 2.5, 4.25]}


def test_tables_in_memory_that_cannot_be_read():
    refused("length", "a 2, b 1", call=lambda: read({"a": [1, 2], "b": [1]}))
    refused("(2, 2)", "'a'", call=lambda: read({"a": np.zeros((2, 2))}))
    refused("complex", "'a'", call=lambda: read({"a": np.array([1 + 2j])}))
    refused("one value a row", call=lambda: read({"a": "text"}))
    refused("one value a row", call=lambda: read({"a": 5}))
    refused("'a'", call=lambda: read({"a": ["x", 1]}))
    refused("binary", call=lambda: read({"a": pa.array([b"x", b"y"])}))
    refused("inf", "row 1", call=lambda: read({"a": [1.0, np.inf]}))
    refused("2^53", "row 0", call=lambda: read({"a": np.array([2**63 + 1, 1], np.uint64)}))
    refused("more than one", call=lambda: read(pd.DataFrame([[1, 2]], columns=["a", "a"])))
    refused("'o'", call=lambda: read(pd.DataFrame({"o": ["x", 3, object()]})))
    refused("Series", call=lambda: read(pd.Series([1, 2])))
    refused("empty", call=lambda: read(pd.DataFrame()))
    refused("2^53", call=lambda: read({"t": np.array([10**18 + 1, 5], "datetime64[ns]")}))
    shuffled = pd.DataFrame({"a": [1.5, 2.5]}, index=[7, 3])
    assert "index" in said(read(shuffled)) and "reset_index" in said(read(shuffled))


TYPES = [
    pa.array([1, 2, 300, 5], pa.int16()),
    pa.array([1, 2, 200, 5], pa.uint8()),
    pa.array([1, 2, 2**40, 5], pa.uint64()),
    pa.array([1.5, 2.1, -1.25, 1e-9], pa.float64()),
    pa.array([1.5, 2.1, -1.25, 1e-9], pa.float32()),
    pa.array([1.5, 2.0, -1.25, 0.5], pa.float16()),
    pa.array(["1.10", "2.25", "-3.00", "4.15"]).cast(pa.decimal128(10, 2)),
    pa.array(["1.10", "2.25", "-3.00", "4.15"]).cast(pa.decimal256(40, 5)),
    pa.array([True, False, True, True]),
    pa.array(["é", "", "é", ""]),
    pa.array(["x", "y", "x", "y"], pa.large_string()),
    pa.array(["x", "y", "x", "y"], pa.string_view()),
    pa.array(["x", "y", "x", "y"]).dictionary_encode(),
    pa.array([5, 7, 5, 7]).dictionary_encode(),
    pa.DictionaryArray.from_arrays(
        pa.array([2, 0, 2, 0], pa.int8()), ["low", "mid", "high"], ordered=True
    ),
    pa.array([0, 18000, -5, 9], pa.date32()),
    pa.array([0, 86_400_000, 864_000_000, 0], pa.date64()),
    pa.array([0, 1, 1_600_000_000, 5], pa.timestamp("s")),
    pa.array([0, 1_600_000_000_123, 5, 7], pa.timestamp("ms", "Europe/Paris")),
    pa.array([0, 1_600_000_000_123_456, 5, 7], pa.timestamp("us", "+05:30")),
    pa.array([0, 1_600_000_000_123_456_000, 5000, 7000], pa.timestamp("ns", "UTC")),
    pa.array([0, 86_399, 5, 7], pa.time32("s")),
    pa.array([0, 86_399_999_999_999, 5, 7], pa.time64("ns")),
    pa.array([0, -5, 10**9, 7], pa.duration("us")),
]


@pytest.mark.parametrize("array", TYPES, ids=lambda a: str(a.type))
@pytest.mark.parametrize("constant", [False, True])
def test_every_type_comes_back(array, constant, tmp_path):
    if constant:
        array = pa.concat_arrays([array.slice(0, 1)] * 4)
    table = pa.table({"column": array, "x": [0.5, 1.25, 1 / 3, 2.0]})
    data = read(table, discrete=("none",))
    back = data.form.decode(data.values)
    assert back.schema.types == table.schema.types
    assert back["column"].to_pylist() == table["column"].to_pylist()
    assert torch.equal(data.form.encode(back), data.values)
    path = data.form.write(tmp_path / "t", data.values, "parquet")[0]
    again = pq.read_table(path)
    assert again["column"].to_pylist() == table["column"].to_pylist()


def test_negative_control_other_bytes_are_seen(text):
    """The round trips above would notice a value that is off by one unit in the last place."""
    a, b = (text(f"a,b\n{x!r},1\n0.5,2\n") for x in (0.1, float(np.nextafter(0.1, 1))))
    assert not torch.equal(a.values, b.values)
    assert a.description["sha256"] != b.description["sha256"]


def test_count_takes_rows_by_the_seed(text):
    content = "a\n" + "".join(f"{k / 7}\n" for k in range(100))
    some = text(content, count=10, seed=1)
    assert (
        len(some) == 10
        and some.values[:, 0].mul(7).round().int().tolist() == some.source_rows.tolist()
    )
    assert torch.equal(text(content, count=10, seed=1).values, some.values)
    refused("count", "100", call=lambda: text(content, count=101))
