"""Arrays in and out: axes, types and ranges mean what shape and values show, or are refused."""

import itertools

import numpy as np
import pytest
import torch

from data_helpers import random_pictures, refused
from scorefield.data import (
    ReadOptions,
    as_dataset,
    fit_units,
    form_of,
    open_like,
    read_observation,
    sources,
)
from scorefield.data import open as open_data


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def decoded(data):
    return form_of({"data": data.description}).decode(data.floats(slice(None)))


# -- axes


@pytest.mark.parametrize(
    ("shape", "event"),
    [
        ((16, 16, 4), (4, 16, 16)),
        ((16, 16, 13), (13, 16, 16)),
        ((13, 16, 16), (13, 16, 16)),
        ((32, 48, 7), (7, 32, 48)),
        ((9, 8, 8, 2), (2, 9, 8, 8)),
        ((40, 1), (1, 40)),
    ],
)
def test_bands_are_found_at_either_end_and_said(shape, event):
    array = normal(5, *shape)
    data = open_data(array)
    assert data.event_shape == event and np.array_equal(decoded(data), array)
    assert "channel" in data.report[1]


@pytest.mark.parametrize(
    "shape",
    [(16, 16, 16), (4, 16, 4), (3, 3, 3), (3, 8, 4), (128, 3), (3, 128), (12, 1000), (20, 64, 64)],
)
def test_shapes_that_do_not_tell_are_refused_until_an_option_decides(shape):
    array = normal(3, *shape)
    refused("--channels-last", "--no-channels-last", call=lambda: open_data(array))
    assert np.array_equal(open_data(array, channels_last=False).values.numpy(), array)
    last = open_data(array, channels_last=True)
    assert np.array_equal(last.values.numpy(), np.moveaxis(array, -1, 1))
    assert np.array_equal(decoded(last), array)
    assert open_data(array, channels=1).event_shape == (1, *shape)


def test_options_that_contradict_the_shape_are_refused():
    refused("channels_last", call=lambda: open_data(normal(5, 3), channels_last=True))
    refused("both axes", call=lambda: open_data(normal(5, 6, 6), channels=6))
    refused(
        "contradict", call=lambda: open_data(normal(5, 6, 6, 3), channels=3, channels_last=False)
    )


# -- values


@pytest.mark.parametrize("dtype", ["int16", "int64", "uint16", "float32", "float64", ">i4"])
def test_whole_numbers_of_any_type_are_read_as_uint8_is(dtype):
    pixels = random_pictures(5, (8, 8, 3))
    data, same = open_data(pixels.astype(dtype)), open_data(pixels)
    assert data.image and data.quantisation_levels == 256
    assert torch.equal(data.values, same.values)
    out = decoded(data)
    assert out.dtype == np.dtype(dtype).newbyteorder("=") and np.array_equal(out, pixels)


@pytest.mark.parametrize("dtype", ["bool", "int64", "float32"])
def test_zeros_and_ones_are_two_levels(dtype):
    array = (normal(5, 8, 8) > 0).astype(dtype)
    data = open_data(array)
    assert data.quantisation_levels == 2 and np.array_equal(decoded(data), array)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.arange(60).reshape(20, 3), "int64"),
        (np.arange(60, dtype=np.uint16).reshape(20, 3), "uint16"),
        (np.arange(-300, 300, dtype=np.int16).reshape(6, 10, 10), "int16"),
        (np.arange(60).reshape(20, 3) % 2 == 0, "bool"),
        (np.arange(60, dtype=np.float32).reshape(20, 3), "float32"),
    ],
)
def test_other_whole_numbers_keep_their_units_and_come_back_whole(array, dtype):
    data = open_data(array)
    assert data.quantisation_levels is None and bool((data.steps == 1).all())
    drawn = data.floats(slice(None)).double() + 0.3
    out = data.form.decode(drawn)
    assert out.dtype == dtype
    if dtype != "bool":
        assert np.array_equal(out, array)
    out = data.form.decode(torch.full_like(drawn, -1e9))
    assert (out.min() >= 0) == bool(array.min() >= 0)  # counts stay counts


def test_only_columns_of_whole_numbers_are_rounded():
    table = np.column_stack([normal(50), np.arange(50), np.full(50, 7.0)])
    data = open_data(table)
    assert data.steps.tolist() == [0, 1, 0] and "1 of them" in data.report[1]
    out = data.form.decode(torch.tensor([[0.3, 4.4, 7.0]], dtype=torch.float64))
    assert out.tolist() == [[0.3, 4.0, 7.0]]
    assert fit_units(data, torch.arange(50)).constant == ("column 2",)
    refused("column 1", "4.4", call=lambda: data.form.encode([[0.3, 4.4, 7.0]]))


@pytest.mark.parametrize(
    ("array", "given", "levels"),
    [
        (np.linspace(-1, 1, 320).reshape(5, 8, 8).astype(np.float32), (-1, 1), None),
        (np.linspace(0, 255, 320).reshape(5, 8, 8), (0, 255), None),
        (np.arange(320).reshape(5, 8, 8) - 100, (-1024, 3071), 4096),
        (np.sign(normal(5, 8, 8)), (-1, 1), 2),
        (np.arange(320.0).reshape(5, 8, 8) % 17, (0, 16), 17),
    ],
)
def test_a_given_range_maps_to_images_and_back(array, given, levels):
    data = open_data(array, range=given)
    x = data.floats(slice(None))
    assert data.image and data.quantisation_levels == levels
    low, high = given
    np.testing.assert_allclose(x[:, 0].numpy(), (array - low) / (high - low), atol=1e-6)
    np.testing.assert_allclose(decoded(data), array, atol=1e-4 if levels is None else 0)
    refused("outside", call=lambda: open_data(array + high - low, range=given))
    refused("range", "(3,)", call=lambda: open_data(normal(5, 3), range=given))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f8"])
def test_floats_come_back_in_their_type(dtype):
    array = normal(6, 4).astype(dtype)
    out = decoded(open_data(array))
    assert out.dtype == np.dtype(dtype).newbyteorder("=") and np.array_equal(out, array)


# -- sources


def test_the_same_data_are_read_from_every_kind_of_source():
    array = normal(6, 4)
    sources = [
        torch.from_numpy(array),
        array.tolist(),
        (row for row in array),
        iter(list(array)),
        {"x_train": array, "y_train": np.arange(6)},
        np.ma.masked_array(array, mask=False),
        torch.utils.data.TensorDataset(torch.from_numpy(array)),
    ]
    for source in sources:
        assert np.array_equal(open_data(source).values.numpy(), array)
    few = open_data(iter(list(array)), count=3)
    assert len(few) == 3 and "the first 3 items" in few.report[1]


def test_chosen_examples_keep_their_row_numbers(monkeypatch):
    array = normal(20, 4)
    for source in (array, torch.utils.data.TensorDataset(torch.from_numpy(array)), list(array)):
        data = open_data(source, count=5, seed=1)
        rows = data.rows(torch.arange(5))
        assert np.array_equal(data.values.numpy(), array[rows.numpy()]) and rows.max() > 4
    monkeypatch.setattr(sources, "MOST_BYTES", 1000)
    endless = itertools.repeat(np.zeros(4))
    refused("count=", call=lambda: open_data(endless))


def test_labels_and_arrays_that_are_left_out_are_said(tmp_path):
    arrays = {"x_train": normal(6, 4), "y_train": np.arange(6), "x_test": normal(2, 4)}
    np.savez(tmp_path / "a.npz", **arrays)
    for data in (open_data(arrays), open_data(tmp_path / "a.npz")):
        assert data.labels.tolist() == list(range(6))
        assert "x_train" in data.report[1] and "y_train" in data.report[1]
        assert "left out: arrays x_test" in data.report[1]


class Rows(torch.utils.data.Dataset):
    """A torch Dataset of the rows of an array."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, k):
        return self.rows[k]


MASKED = np.ma.masked_array(normal(6, 4), mask=np.eye(6, 4))
UNMASKED = np.ma.masked_array(normal(6, 4), mask=False)


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x,
        list,
        Rows,
        iter,
        lambda x: [(row, 0) for row in x],
        lambda x: {"x": x},
        lambda x: {"x": list(x)},
    ],
)
def test_masked_elements_are_refused_in_every_form(form):
    refused("masked, the first in row 0", call=lambda: open_data(form(MASKED)))
    assert np.array_equal(open_data(form(UNMASKED)).values.numpy(), UNMASKED.data)


def test_masked_elements_are_refused_by_forms_and_as_dataset():
    refused("4 of 24 elements are masked", call=lambda: as_dataset(MASKED, "x"))
    form = open_data(UNMASKED).form
    refused("4 of 24 elements are masked", call=lambda: form.encode(MASKED))
    table = open_data({"a": MASKED.data[:, 0], "b": MASKED.data[:, 1]}).form
    refused("2 of 12 elements are masked", call=lambda: table.encode(MASKED[:, :2]))
    assert np.array_equal(form.encode(UNMASKED).numpy(), UNMASKED.data)


def test_masked_complex_and_unfinished_numbers_are_refused():
    masked = np.ma.masked_array(normal(6, 4), mask=np.eye(6, 4))
    refused("masked", call=lambda: open_data(masked))
    refused("two channels", call=lambda: open_data(normal(6, 4).astype(complex)))
    refused("two channels", call=lambda: open_data(torch.zeros(3, 2, dtype=torch.complex64)))
    array = normal(6, 4)
    array[[1, 4], 2] = np.nan
    refused("row 1", "2 of 6 rows", call=lambda: open_data(array))
    loader = torch.utils.data.DataLoader([torch.zeros(2)])
    refused("loader.dataset", call=lambda: open_data(loader))


@pytest.mark.parametrize("suffix", [".pt", ".h5", ".mat", ".pkl", ".safetensors", ".tif", ".gif"])
def test_files_of_other_kinds_are_refused_with_advice(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"x")
    refused(path, ".npy", call=lambda: open_data(path))


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00"])
def test_observations_are_read_by_the_reader_of_training(tmp_path, content):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    form = open_data(random_pictures(5, (8, 8))).form
    for read in (open_data, lambda p: read_observation(p, form, (1, 8, 8))):
        refused("a.npy", "not a readable .npy", call=lambda r=read: r(path))
    np.save(path, np.array([{}], dtype=object))
    for read in (open_data, lambda p: read_observation(p, form, (1, 8, 8))):
        refused("a.npy", "pickled", call=lambda r=read: r(path))
    np.save(path, np.zeros((8, 8), complex))
    refused("two channels", call=lambda: read_observation(path, form, (1, 8, 8)))


def test_other_data_are_read_by_the_levels_of_the_model():
    data = open_data(random_pictures(5, (8, 8)).astype(np.uint16) * 7)
    assert data.quantisation_levels == 4096
    dark = (random_pictures(5, (8, 8)) // 4).astype(np.uint16)
    card = {"data": data.description}
    other = open_like(card, dark)
    assert other.quantisation_levels == data.quantisation_levels
    assert np.array_equal(other.values[:, 0].numpy(), dark)
    refused("60000", "4095", call=lambda: open_like(card, dark + 60_000))


def test_other_data_of_another_kind_take_the_options_that_are_for_them(tmp_path):
    image = pytest.importorskip("PIL.Image")
    x = random_pictures(5, (8, 8, 3))
    held = [image.fromarray(one) for one in x]
    for k, one in enumerate(held):
        (tmp_path / "in").mkdir(exist_ok=True)
        one.save(tmp_path / "in" / f"{k}.png")
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", mine=x, other=x)
    files = [str(tmp_path / "in" / f"{k}.png") for k in range(5)]
    others = [tmp_path / "in", files, tmp_path / "x.npy", x, torch.tensor(x), held, list(x)]
    others += [{"images": held, "k": np.arange(5)}, {"mine": x, "y": np.arange(5) % 2}]
    trained = {"size": 8}, {"channels_last": True}, {"key": "mine"}, {"skip_unreadable": True}
    sources = (tmp_path / "in", tmp_path / "x.npy", tmp_path / "x.npz", tmp_path / "in")
    for options, source in zip(trained, sources, strict=True):
        data = open_data(source, **options)
        card = {"data": data.description, "config": {"data": {"source": data.name} | options}}
        for other in others:
            if "key" in options and isinstance(other, dict) and "images" in other:
                continue  # has no array of that name
            assert torch.equal(open_like(card, other).values, data.values)
    refused("size=8", call=lambda: open_like(card, x, ReadOptions(size=8)))  # given by the user
