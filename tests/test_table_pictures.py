"""Pictures of tables: what a column holds, distances and correlations, and what the page states."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scorefield import plotting
from scorefield.errors import InputError
from scorefield.plotting import columns, correlations, files, tables
from scorefield.plotting.columns import TableColumn, pair_columns, read_table

R = np.random.default_rng(0)
MIXED: dict[str, Any] = {
    "age": R.integers(18, 90, 400),
    "site": np.full(400, 3.0),
    "salary": np.exp(R.normal(size=400)),
    "grade": R.choice([1.0, 1.3, 1.7], 400),
    "town": R.choice(["Rome", "Oslo"], 400).astype(object),
    "day": np.datetime64("2020-01-01") + R.integers(0, 900, 400).astype("timedelta64[D]"),
}
KINDS = ["integer", "constant", "continuous", "discrete", "category", "date"]


def pairs_of(samples: Any, data: Any = None, given: Any = None) -> list[columns.Pair]:
    other = None if data is None else read_table(data, "data")
    return pair_columns(read_table(samples, "samples"), other, given)


class TestColumns:
    def test_kinds_are_those_of_the_values(self) -> None:
        assert [pair.column.kind for pair in pairs_of(MIXED)] == KINDS

    def test_arrow_tables_give_the_same_columns(self) -> None:
        table = pa.table({name: pa.array(values) for name, values in MIXED.items()})
        table = table.set_column(4, "town", table["town"].dictionary_encode())
        mine, theirs = read_table(MIXED, "samples"), read_table(table, "samples")
        assert list(mine) == list(theirs)
        for name in mine:
            assert mine[name].dtype == theirs[name].dtype
            assert (mine[name] == theirs[name]).all()

    def test_arrow_types_and_blanks_are_read(self) -> None:
        table = pa.table(
            {
                "i": pa.array([1, None, 3], pa.int8()),
                "d": pa.array([1, 2, None], pa.date32()),
                "s": pa.array(["a", None, "b"]),
                "b": pa.array([True, False, None]),
                "n": pa.array([1, 2, None], pa.decimal128(5, 2)),
            }
        )
        found = read_table(table, "samples")
        assert found["i"].tolist()[::2] == [1, 3] and math.isnan(found["i"][1])
        assert np.isnat(found["d"]).tolist() == [False, False, True]
        assert found["s"].tolist() == ["a", None, "b"]
        assert found["b"].tolist() == ["True", "False", None]
        assert math.isnan(found["n"][2]) and found["n"][1] == 2
        clocks = pa.table(
            {"t": pa.array([3600, 86399], pa.time32("s")), "d": pa.array([1, 90], pa.duration("s"))}
        )
        read = pairs_of(clocks, None, [TableColumn("t", "date", unit="seconds")])
        assert [pair.column.kind for pair in read] == ["date", "integer"]
        assert read[0].column.unit == "" and read[1].samples.tolist() == [1, 90]
        assert columns.as_numbers(read[0].samples) == pytest.approx([1 / 24, 86399 / 86400])
        missing = [pair.missing[0] for pair in pairs_of(table)]
        assert missing == pytest.approx([1 / 3] * 5)

    def test_given_descriptions_beat_the_guess_where_the_values_allow_it(self) -> None:
        class Other:  # as another package may describe a column
            name, kind, words, unit = "town", "category", ("Oslo", "Rome"), ""

        given = [TableColumn("age", "continuous", unit="years"), Other()]
        found = {pair.column.name: pair for pair in pairs_of(MIXED, None, given)}
        assert found["age"].column == TableColumn("age", "continuous", (), "years")
        assert columns.words_of(found["town"]) == ["Oslo", "Rome"]
        wrong = pairs_of(
            MIXED, None, [TableColumn("town", "continuous"), TableColumn("age", "constant")]
        )
        assert {p.column.name: p.column.kind for p in wrong} == dict(zip(MIXED, KINDS, strict=True))

    def test_a_constant_of_the_data_that_varies_in_the_samples_is_drawn(self) -> None:
        (pair,) = pairs_of({"a": np.arange(9.0) / 7}, {"a": np.ones(9)})
        assert pair.column.kind != "constant"

    @pytest.mark.parametrize(
        ("samples", "data", "words"),
        [
            ({}, None, "at least 1"),
            ({"a": []}, None, "at least 1"),
            ({"a": [1, 2], "b": [1]}, None, "one length"),
            ({"a": np.ones((2, 2))}, None, "one row of values"),
            ({"a": np.ones(2, dtype=complex)}, None, "numbers, words or dates"),
            ({"a": [1.0]}, {"b": [1.0]}, "have no column 'a'"),
            ({"a": [1.0]}, {"a": ["x"]}, "numbers in the samples and words"),
            (np.ones((2, 2, 2)), None, r"table \(N, d\)"),
        ],
    )
    def test_wrong_tables_raise_input_error(
        self, samples: Any, data: Any, words: str, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match=words):
            plotting.save_table(tmp_path / "t.png", samples, data)
        assert not list(tmp_path.iterdir())

    def test_wrong_options_raise_input_error(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="parts are of"):
            plotting.save_table(tmp_path / "t.png", MIXED, parts=["all"])
        with pytest.raises(InputError, match="kind of a column"):
            plotting.save_table(tmp_path / "t.png", MIXED, columns=[TableColumn("age", "number")])
        with pytest.raises(InputError, match="Change the ending"):
            plotting.save_table(tmp_path / "t.txt", MIXED)


class TestNumbers:
    def test_distance_is_that_of_the_distribution_functions(self) -> None:
        from scipy.stats import ks_2samp

        a, b = R.normal(size=80), R.normal(0.4, 1.3, size=130)
        (pair,) = pairs_of({"x": a}, {"x": b})
        assert pair.distance == pytest.approx(ks_2samp(a, b).statistic)
        (same,) = pairs_of({"x": a}, {"x": a[::-1]})
        assert same.distance == 0

    def test_distance_of_words_is_the_total_variation(self) -> None:
        (pair,) = pairs_of({"x": ["a", "b", "b", "b"]}, {"x": ["a", "a", "c", "b"]})
        assert pair.distance == pytest.approx(0.5 * (0.25 + 0.5 + 0.25))

    def test_correlations_are_those_of_numpy(self) -> None:
        x = R.normal(size=(50, 4)) @ R.normal(size=(4, 4))
        assert np.allclose(correlations.correlate(x), np.corrcoef(x.T))
        holes = x.copy()
        holes[:10, 0], holes[5:20, 1] = np.nan, np.nan
        both = np.isfinite(holes[:, 0]) & np.isfinite(holes[:, 3])
        # Means are those of each column; over few rows they differ from those of the common rows.
        expected = np.corrcoef(holes[both, 0], holes[both, 3])[0, 1]
        assert correlations.correlate(holes)[0, 3] == pytest.approx(expected, abs=0.05)
        assert (correlations.correlate(np.ones((5, 2))) == [[0, 0], [0, 0]]).all()

    def test_categories_enter_by_indicators_of_their_words(self) -> None:
        samples = read_table(MIXED, "samples")
        found = correlations.variables_of(pair_columns(samples, None, None), samples, None)
        assert [n.split(" = ")[0] for n in found.names] == ["age", "salary", "grade", "town", "day"]
        word = found.names[3].split(" = ")[1]
        assert (found.samples[:, 3] == (samples["town"] == word)).all()

    def test_strongest_pairs_share_no_column_more_than_three_times(self) -> None:
        names = [f"c{n}" for n in range(9)]
        common = R.normal(size=(300, 1))
        x = np.concatenate([common + 0.01 * R.normal(size=(300, 8)), R.normal(size=(300, 1))], 1)
        samples = read_table(x, "samples", names)
        found = correlations.variables_of(pair_columns(samples, None, None), samples, None)
        chosen = correlations.strongest(found, correlations.correlate(x), 8)
        uses = [column for pair in chosen for column in pair]
        assert len(chosen) == 8 and max(map(uses.count, uses)) <= 3 and 8 not in uses


class TestPage:
    @pytest.fixture
    def figures(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        kept: list[Any] = []

        def keep(path: Path, figure: Any, caption: str = "") -> Path:
            kept.append((figure, caption))
            return files.save_figure(path, figure, caption)

        monkeypatch.setattr(tables, "save_figure", keep)
        return kept

    def test_every_column_has_a_panel_but_constants_are_named(
        self, tmp_path: Path, figures: list[Any]
    ) -> None:
        given = [TableColumn("age", "integer", unit="years")]
        plotting.save_table(tmp_path / "t.png", MIXED, MIXED, given, "a title")
        (figure, caption) = figures[0]
        marginals, pairs, matrices = figure.subfigs
        titles = [axes.get_title().split("\n")[0] for axes in marginals.axes]
        assert titles == ["age (years)", "salary", "grade", "town", "day"]
        assert "Constant, not drawn: site = 3." in caption
        assert "Blue: 400 samples; grey: 400 rows" in caption
        assert len(pairs.axes) == 7  # of 10: five columns three times at most
        assert [a.get_title() for a in matrices.axes if a.get_title()] == [
            "data",
            "samples",
            "samples − data",
        ]
        assert figure.get_suptitle() == "a title"

    def test_bars_and_histograms_hold_the_fractions_of_the_rows(
        self, tmp_path: Path, figures: list[Any]
    ) -> None:
        samples = {"few": np.array([1.0, 1, 1, 2.5, 2.5, 4, 4, 4]), "many": np.arange(8) / 3}
        data = {"few": np.repeat([1.0, 2.5, 4, 4], 10), "many": np.arange(40) / 10}
        plotting.save_table(tmp_path / "t.png", samples, data, parts=["marginals"])
        bars, histogram = figures[0][0].subfigs[0].axes
        heights = [bar.get_height() for bar in bars.patches]
        assert heights == pytest.approx([0.25, 0.25, 0.5, 3 / 8, 2 / 8, 3 / 8])
        for stairs in histogram.patches:
            assert sum(stairs.get_data().values) == pytest.approx(1)

    def test_values_between_the_levels_make_a_histogram(
        self, tmp_path: Path, figures: list[Any]
    ) -> None:
        data = {"x": np.repeat([1.0, 2.5, 4.0], 20)}
        plotting.save_table(tmp_path / "t.png", {"x": np.linspace(1, 4, 60)}, data)
        (axes,) = figures[0][0].subfigs[0].axes
        assert [type(patch).__name__ for patch in axes.patches] == ["StepPatch", "StepPatch"]

    def test_a_wide_table_shows_the_columns_that_differ_most_and_states_it(
        self, tmp_path: Path, figures: list[Any]
    ) -> None:
        x, y = R.normal(size=(200, 40)), R.normal(size=(200, 40))
        x[:, 17] += 3
        names = [f"c{n}" for n in range(40)]
        plotting.save_table(tmp_path / "t.png", x, y, names=names, parts=["marginals"])
        figure, caption = figures[0]
        (marginals,) = figure.subfigs
        assert len(marginals.axes) == tables.MOST_PANELS
        assert marginals.axes[0].get_title().startswith("c17\n")
        assert "24 of 40 columns in which samples and data differ most" in " ".join(
            marginals.get_suptitle().split()
        )
        assert "Median of D over all 40 columns" in caption

    def test_skewed_positive_columns_are_logarithmic_and_few_strays_are_gathered(
        self, tmp_path: Path, figures: list[Any]
    ) -> None:
        stray = R.normal(size=3000)
        stray[0] = 1e6
        table = {"skewed": np.exp(3 * R.normal(size=3000)), "stray": stray}
        plotting.save_table(tmp_path / "t.png", table, parts=["marginals"])
        skewed, strays = figures[0][0].subfigs[0].axes
        assert skewed.get_xscale() == "log" and strays.get_xscale() == "linear"
        assert strays.get_xlim()[1] < 10
        assert sum(strays.patches[0].get_data().values) == pytest.approx(1)

    def test_all_missing_and_constant_columns_are_named(
        self, tmp_path: Path, figures: list[Any]
    ) -> None:
        table = {"empty": np.full(4, np.nan), "word": np.array(["x"] * 4)}
        plotting.save_table(tmp_path / "t.png", table)
        assert "empty = no value, word = x." in figures[0][1]


def test_names_of_columns_that_are_one_text_are_refused() -> None:
    with pytest.raises(InputError, match="a name of its own"):
        read_table({1: [1.0], "1": [2.0]}, "data")
    assert list(read_table({1: [1.0], "z": [2.0]}, "data")) == ["1", "z"]
