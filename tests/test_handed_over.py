"""Examples that a user hands over: columns are matched by name, arrays come in any layout.

The same numbers give the same result in log_prob, restore and evaluate, whatever holds them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import scorefield as sf
from data_helpers import refused
from scorefield import data, evaluation
from scorefield.errors import InputError
from scorefield.evaluation import read_samples
from scorefield.exact import GaussianMixture
from scorefield.inverse import plan_restoration

NAMES = ["a", "b", "c"]
TURNED = ["c", "a", "b"]


def frame(rows: int = 60) -> pd.DataFrame:
    """Three columns of very different means."""
    values = np.random.default_rng(0).normal([0.0, 50.0, -200.0], 0.5, (rows, 3))
    return pd.DataFrame(values, columns=NAMES)


def model_of(source: Any, event: int = 3, **reading: Any) -> GaussianMixture:
    """A closed form whose card names the data."""
    model = GaussianMixture([[0.0, 50.0, -200.0][:event]], 0.5)
    model.card = {"data": data.open(source, **reading).description}
    return model


def records(table: pd.DataFrame) -> np.ndarray:
    return table.to_records(index=False)


FORMS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "data frame": lambda t: t,
    "arrow table": lambda t: pa.Table.from_pandas(t, preserve_index=False),
    "record batch": lambda t: pa.RecordBatch.from_pandas(t, preserve_index=False),
    "mapping": lambda t: {name: t[name].to_numpy() for name in t},
    "records": records,
}


@pytest.mark.parametrize("form", FORMS)
def test_log_prob_matches_columns_by_name(form: str) -> None:
    x = frame()[:3]
    model = model_of(frame())
    known = sf.log_prob(model, x.to_numpy()).value
    assert float(known.min()) > -10
    assert torch.equal(sf.log_prob(model, FORMS[form](x[TURNED])).value, known)
    assert torch.equal(sf.log_prob(model, FORMS[form](x)).value, known)


@pytest.mark.parametrize("form", FORMS)
def test_measurements_match_columns_by_name(form: str) -> None:
    x = frame()[:3]
    model = model_of(frame())
    if form != "records":
        x = x.astype({"b": object})
        x.loc[1, "b"] = None
    blank = x.astype(float).to_numpy()
    known = sf.restore(model, sf.Measurement(blank), draws=2)
    seen = sf.Measurement(FORMS[form](x[TURNED].astype(float)))
    found = sf.restore(model, seen, draws=2)
    assert torch.equal(found.draws, known.draws) and not found.single
    assert "3 rows of the columns c, a, b" in repr(seen)
    refused("named columns", call=lambda: seen.tensor)
    assert plan_restoration(model, seen).draws == 48


def test_a_row_of_a_data_frame_is_one_measurement() -> None:
    model, x = model_of(frame()), frame()
    found = sf.restore(model, sf.Measurement(x[TURNED].iloc[4]), draws=2)
    assert found.single and np.allclose(found.draws[0], x.iloc[4])


@pytest.mark.parametrize("form", FORMS)
def test_samples_match_columns_by_name(form: str) -> None:
    x = frame()
    reference = data.open(x)
    assert torch.equal(
        read_samples(FORMS[form](x[TURNED]), reference).x, read_samples(x.to_numpy(), reference).x
    )


@pytest.mark.parametrize(
    ("columns", "pieces"),
    [
        (["a", "b"], ("no column 'c'", "a, b, c")),
        (["a", "b", "x"], ("no column 'c'",)),
        (["a", "b", "c", "x"], ("do not have: x",)),
    ],
)
def test_other_columns_are_refused_by_name(columns: list[str], pieces: tuple[str, ...]) -> None:
    x = frame().assign(x=1.0)[columns]
    model = model_of(frame())
    refused(*pieces, call=lambda: sf.log_prob(model, x))
    refused(*pieces, call=lambda: sf.restore(model, sf.Measurement(x), draws=1))


@pytest.mark.parametrize(
    "source", [frame().to_numpy(), None], ids=["data without names", "no card"]
)
def test_names_without_names_to_match_are_refused(source: Any) -> None:
    model = model_of(frame().to_numpy())
    if source is None:
        model.card = None
    for call in (
        lambda: sf.log_prob(model, frame()),
        lambda: sf.restore(model, sf.Measurement(frame()[:2]), draws=1),
    ):
        refused("no names of columns", ".to_numpy()", call=call)
    counted = pd.DataFrame(frame().to_numpy())  # pandas counts the columns 0, 1, 2
    assert torch.equal(
        sf.log_prob(model, counted).value, sf.log_prob(model, counted.to_numpy()).value
    )


def test_words_and_conditions_of_a_table() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=60), "k": ["u", "v"] * 30, "y": ["r", "s"] * 30})
    model = model_of(table, 3, condition="class", condition_from="y")
    x = table[["k", "a"]][:2]
    encoded = torch.tensor([[x.a[0], 1.0, 0.0], [x.a[1], 0.0, 1.0]], dtype=torch.float64)
    assert torch.equal(sf.log_prob(model, x).value, sf.log_prob(model, encoded).value)
    refused("condition=", "holds y", call=lambda: sf.log_prob(model, table))
    refused("'w'", call=lambda: sf.log_prob(model, x.assign(k=["u", "w"])))
    refused("missing", call=lambda: sf.log_prob(model, x.assign(k=["u", None])))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: evaluation.sliced(x, frame().to_numpy()),
        lambda x: evaluation.mmd(x, frame().to_numpy()),
        lambda x: evaluation.frechet(x, frame().to_numpy()),
        lambda x: evaluation.two_sample_test(x, frame().to_numpy()),
        lambda x: evaluation.prdc(x, frame().to_numpy()),
        lambda x: evaluation.measure_sets(x, frame().to_numpy(), frame().to_numpy()),
        lambda x: evaluation.measure_memorisation(x, frame().to_numpy(), frame().to_numpy()),
        lambda x: sf.diagnostics.score_health(model_of(frame()), x, x),
        lambda x: sf.diagnostics.curvature(model_of(frame()), x, 1.0),
        lambda x: sf.exact.Empirical(x),
    ],
)
def test_functions_of_arrays_refuse_named_columns(call: Callable[[Any], Any]) -> None:
    refused("named columns", ".to_numpy()", call=lambda: call(frame()[TURNED]))


def test_columns_of_an_archive_are_matched_by_name(tmp_path: Any) -> None:
    x = frame()
    reference = data.open(x)
    known = read_samples(x.to_numpy(), reference).x
    np.savez(tmp_path / "s.npz", samples=x[TURNED].to_numpy(), columns=np.array(TURNED))
    assert torch.equal(read_samples(tmp_path / "s.npz", reference).x, known)
    np.savez(tmp_path / "s.npz", samples=x.to_numpy(), columns=np.array(["a", "b", "x"]))
    refused("a, b, x", "a, b, c", call=lambda: read_samples(tmp_path / "s.npz", reference))


# ---- layouts


def pictures(channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, channels, 4, 4)).astype(np.uint8)


def layouts(x: Any) -> list[Any]:
    """The same pictures (N, C, H, W) in every layout."""
    rest = [x[:, 0]] if x.shape[1] == 1 else []
    return [x, np.moveaxis(x, 1, -1), *rest]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("stored", [0, 1, 2])
def test_layouts_of_pictures_give_one_result(channels: int, stored: int) -> None:
    x = pictures(channels)
    kinds = layouts(x)
    reference = data.open(kinds[min(stored, len(kinds) - 1)])
    model = GaussianMixture(torch.zeros(1, channels, 4, 4), 1.0)
    model.card = {"data": reference.description}
    wide = (x / 255).astype(np.float32)
    for kind in layouts(wide):
        assert torch.equal(read_samples(kind, reference).x, read_samples(wide, reference).x)
        assert torch.equal(sf.log_prob(model, kind[:2]).value, sf.log_prob(model, wide[:2]).value)
        gaps = [np.where(one > 0.3, one, np.nan)[:2] for one in (kind, wide)]
        found, known = (sf.restore(model, sf.Measurement(one), draws=1).draws for one in gaps)
        assert torch.equal(found, known)
        one = sf.restore(model, sf.Measurement(gaps[0][0]), draws=1)
        assert one.single and one.draws.shape == (1, channels, 4, 4)
    with pytest.raises(InputError, match="must be floats"):
        sf.log_prob(model, np.zeros((2, 5, 4)))
