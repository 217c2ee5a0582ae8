"""Examples that a user hands over: columns are matched by name, arrays come in any layout.

The same numbers give the same result in log_prob, restore and evaluate, whatever holds them.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

import scorefield as sf
from data_helpers import refused
from scorefield import data, evaluation
from scorefield.errors import InputError
from scorefield.evaluation import read_samples
from scorefield.exact import GaussianMixture
from scorefield.inverse import plan_restoration
from scorefield.units import Quantisation, Units

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


# ---- intensities and levels


def test_log_prob_takes_points_outside_the_range_of_images_and_refuses_levels() -> None:
    """The density of noise is asked for too; floats of 0 to 255 are another scale."""
    model = GaussianMixture(torch.zeros(1, 1, 4, 4), 1.0)
    model.units = Units.identity(image=True)
    noise = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(sf.log_prob(model, 0.5 + noise).value).all()
    refused("got 0 to 248", "Scale them", call=lambda: sf.log_prob(model, pictures()[:3] * 1.0))


def of_pictures(x: np.ndarray) -> tuple[GaussianMixture, data.Dataset]:
    reference = data.open(x)
    model = GaussianMixture(torch.zeros(1, *reference.event_shape), 1.0)
    model.card = {"data": reference.description}
    return model, reference


SCALES = {"256": (255, np.uint8), "1024": (1023, np.uint16)}


@pytest.mark.parametrize("levels", SCALES)
@pytest.mark.parametrize("layout", [0, 1, 2])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floats_in_0_1_are_intensities(levels: str, layout: int, kind: Any) -> None:
    top, dtype = SCALES[levels]
    x = np.random.default_rng(0).integers(0, top + 1, (60, 1, 4, 4)).astype(dtype)
    x[0, 0, 0, 0] = top
    model, reference = of_pictures(x)
    other = layouts((x[:50] / top).astype(kind))[layout]
    found = data.open_like(model.card, other)
    assert found.quantisation_levels == top + 1
    assert torch.equal(found.floats(slice(None)), reference.floats(slice(50)))
    assert "intensities" in found.report[1] and "given range" not in found.report[1]
    assert found.description["sha256"] == data.open(x[:50]).description["sha256"]
    # off the grid: the floats stay
    off = data.open_like(model.card, other * np.asarray(0.9, kind))
    assert off.quantisation_levels is None and off.image
    assert np.allclose(off.floats(slice(None)), 0.9 * x[:50] / top, atol=1e-6)
    again = read_samples(x[:50], found)  # samples beside such a reference
    assert torch.equal(again.x, reference.floats(slice(50)))


def test_whole_numbers_are_stored_values_and_nothing_is_said() -> None:
    x = pictures()
    model, _ = of_pictures(x)
    for other in (x[:50], x[:50].astype(np.int64), x[:50].astype(np.float32)):
        found = data.open_like(model.card, other)
        assert torch.equal(found.floats(slice(None)), data.open(x).floats(slice(50)))
        assert "intensities" not in found.report[1] and "given range" not in found.report[1]
    dark = data.open_like(model.card, np.minimum(x[:50], 9))  # whole numbers 0 to 9 of 256
    assert dark.quantisation_levels == 256 and int(dark.values.max()) == 9
    assert "given range" not in dark.report[1]
    black = data.open_like(model.card, np.zeros_like(x[:50]))  # 0 is black either way
    assert int(black.values.max()) == 0


@pytest.mark.parametrize("kind", [np.uint8, np.int64, bool, np.float32])
def test_masks_are_no_pictures(kind: Any) -> None:
    model, reference = of_pictures(pictures())
    mask = (pictures() > 127).astype(kind)
    ways = "--range 0,1 ", "--range 0,255 "
    refused("0 and 1 only", *ways, call=lambda: data.open_like(model.card, mask))
    white = data.open_like(model.card, mask, data.ReadOptions(range=(0, 1)))
    assert white.quantisation_levels == 256 and sorted(set(white.values.flatten().tolist())) == [
        0,
        255,
    ]
    stored = data.open_like(model.card, mask, data.ReadOptions(range=(0, 255)))
    assert sorted(set(stored.values.flatten().tolist())) == [0, 1]
    if kind is np.float32:  # floats are documented as intensities here
        assert float(read_samples(mask, reference).x.max()) == 1
        return
    refused("x.astype(float)", "x / 255", call=lambda: read_samples(mask, reference))
    if kind is not bool:
        model = digit_like()
        refused("x / 255", call=lambda: sf.restore(model, sf.Measurement(mask[:2]), draws=1))


def digit_like() -> GaussianMixture:
    """A closed form of pictures of 256 levels."""
    model, _ = of_pictures(pictures())
    model.units = replace(Units.identity(image=True), quantisation=Quantisation(256))
    return model


def test_a_mask_of_a_model_of_two_levels_is_its_data() -> None:
    mask = (pictures() > 127).astype(np.uint8)
    model, _ = of_pictures(mask)
    assert data.open_like(model.card, mask[:50]).quantisation_levels == 2
    assert data.open_like(model.card, mask[:50].astype(float)).quantisation_levels == 2


def test_eight_bits_for_a_deeper_model_are_refused() -> None:
    deep = np.random.default_rng(0).integers(0, 1024, (60, 1, 4, 4)).astype(np.uint16)
    model, reference = of_pictures(deep)
    refused("8 bits", "--range 0,255", call=lambda: data.open_like(model.card, pictures()))
    given = data.open_like(model.card, pictures(), data.ReadOptions(range=(0, 255)))
    assert np.allclose(given.floats(slice(None)), pictures() / 255, atol=1e-3)
    assert reference.form is not None
    read = data.read_observation(pictures()[:1], reference.form, (1, 4, 4))
    assert read.dtype == torch.uint8  # which `Measurement` refuses


# ---- what is said of pictures, and delimiters of other files


def test_notes_of_pictures_are_stated(tmp_path: Any) -> None:
    colour = np.moveaxis(pictures(3)[0], 0, -1)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(pictures()[0, 0]).save(tmp_path / "grey.png")
    Image.fromarray(pictures()[0, 0] > 127).save(tmp_path / "two.png")
    turned = Image.fromarray(pictures()[0, 0])
    exif = turned.getexif()
    exif[274] = 3
    turned.save(tmp_path / "turned.png", exif=exif)
    form = data.open(pictures()).form
    assert form is not None
    heard: list[str] = []
    for name, words in (("colour", "read as grey"), ("turned", "EXIF"), ("grey", "")):
        heard.clear()
        data.read_observation(tmp_path / f"{name}.png", form, (1, 4, 4), heard.append)
        assert len(heard) == (words != "") and words in "".join(heard)
        assert "channels=1" not in "".join(heard)
    with pytest.warns(UserWarning, match="read as grey because it marks known pixels"):
        data.read_mask(tmp_path / "colour.png", (1, 4, 4))
    two = data.read_observation(tmp_path / "two.png", form, (1, 4, 4), heard.append)
    assert sorted(set(two.flatten().tolist())) == [0, 255] and not heard


def test_samples_of_a_file_state_how_they_were_read(tmp_path: Any) -> None:
    reference = data.open(frame())
    frame().assign(z=1).to_csv(tmp_path / "s.csv", index=False)
    assert "not taken: z" in " ".join(read_samples(tmp_path / "s.csv", reference).notes)
    assert read_samples(frame().to_numpy(), reference).notes == ()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a;b\n1,5;2,5\n3,5;4,5\n", [[1.5, 2.5], [3.5, 4.5]]),
        ("b;a\n2,5;1,5\n4,5;3,5\n", [[1.5, 2.5], [3.5, 4.5]]),
        ("a;b\n1,500;2\n3,500;4\n", [[1.5, 2.0], [3.5, 4.0]]),
        ("a\tb\n1\t2\n3\t4\n", [[1, 2], [3, 4]]),
        ("a,b\n1,2\n3,4\n", [[1, 2], [3, 4]]),
    ],
)
def test_the_delimiter_of_the_file_wins(tmp_path: Any, text: str, values: Any) -> None:
    (tmp_path / "train.csv").write_text("a,b\n" + "0.5,1.5\n2.25,0.5\n" * 30)
    (tmp_path / "other.csv").write_text(text)
    card = {"data": data.open(tmp_path / "train.csv").description}
    options = data.ReadOptions(decimal="," if ",500" in text else None)
    assert data.open_like(card, tmp_path / "other.csv", options).values.tolist() == values


def test_the_delimiter_of_the_training_data_decides_between_equals(tmp_path: Any) -> None:
    (tmp_path / "train.csv").write_text("0.5;1.5\n2.25;0.5\n" * 30)
    (tmp_path / "other.csv").write_text("1,5;2,5\n" * 30)
    card = {"data": data.open(tmp_path / "train.csv").description}
    assert data.open_like(card, tmp_path / "other.csv").values[0].tolist() == [1.5, 2.5]
