"""Data far from zero or of extreme scale keep their digits in, in model units, and back out."""

import numpy as np
import pytest
import torch

from scorefield.data import Pipeline, fit_units
from scorefield.data import open as open_data
from scorefield.units import Units

N = 2000
COLUMNS = {
    "julian": (2.46e6, 1.0),
    "stamp": (1.7e9, 1000.0),
    "tiny": (0.0, 1e-12),
    "huge": (0.0, 1e12),
}


def table() -> np.ndarray:
    """(N, 4) float64: Julian dates, whole seconds, and columns of scale 1e-12 and 1e12."""
    # Values that differ do so by 1e-5 standard deviations or more, far above float32's rounding.
    z = np.random.default_rng(0).normal(size=(N, 4)).round(5)
    x = np.stack([mean + std * z[:, k] for k, (mean, std) in enumerate(COLUMNS.values())], 1)
    x[:, 1] = x[:, 1].round()
    return x


def sources(tmp_path):
    """The table from every reader, and its time stamps as an int64 array."""
    x = table()
    np.save(tmp_path / "t.npy", x)
    np.savez(tmp_path / "t.npz", x=x)
    lines = [",".join(COLUMNS), *(",".join(map(repr, row)) for row in x.tolist())]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    found = {
        "array": x,
        "tensor": torch.from_numpy(x),
        "int64": x[:, 1:2].astype(np.int64),
        "torch Dataset": torch.utils.data.TensorDataset(torch.from_numpy(x)),
        **{s: tmp_path / f"t.{s}" for s in ("npy", "npz", "csv")},
    }
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return found
    columns = dict(zip(COLUMNS, x.T, strict=True))
    columns["stamp"] = columns["stamp"].astype(np.int64)
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    return {**found, "parquet": tmp_path / "t.parquet"}


SOURCES = ("array", "tensor", "int64", "torch Dataset", "npy", "npz", "csv", "parquet")


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_digits_survive_the_way_to_model_units_and_back(tmp_path, name, dtype):
    found = sources(tmp_path)
    if name not in found:
        pytest.skip("needs pyarrow")
    truth = table()[:, 1:2] if name == "int64" else table()
    data = open_data(found[name])
    assert data.values.dtype == torch.float64 and np.array_equal(data.values.numpy(), truth)
    units = fit_units(data, torch.arange(N), dequantise="none").units
    assert units.dtype == torch.float64 and not bool(units.constant.any())

    pipe = Pipeline(data, torch.arange(N), units, 0, dequantise="none", dtype=dtype)
    x, _ = pipe.batch(0, N)
    assert x.dtype == dtype
    expected = truth[pipe.indices(0, N)]
    std = truth.std(0)
    model = (expected - truth.mean(0)) / std / 2
    for k in range(truth.shape[1]):
        assert len(np.unique(x[:, k])) == len(np.unique(truth[:, k]))
        assert np.sqrt(((x[:, k].double().numpy() - model[:, k]) ** 2).mean()) < 1e-6

    back = units.to_data(x)
    assert back.dtype == torch.float64
    error = np.sqrt(((back.numpy() - expected) ** 2).mean(0)) / std
    assert (error < 1e-6).all()
    held, _ = pipe.held_out(torch.arange(N))
    assert np.sqrt(((held.double().numpy() - (truth - truth.mean(0)) / std / 2) ** 2).mean()) < 1e-6


def test_float32_before_standardising_loses_them():
    """Negative control: what a cast to float32 before the shift leaves of Julian dates."""
    data = open_data(table())
    units = fit_units(data, torch.arange(N)).units
    cast_first = units.to_model(data.values.float().double())[:, :2]
    right = units.to_model(data.values)[:, :2]
    assert len(cast_first[:, 0].unique()) < 50 and len(right[:, 0].unique()) > 0.98 * N
    assert float((cast_first - right).square().mean().sqrt()) > 0.01


@pytest.mark.parametrize(
    ("mean", "std"), [(2.46e6, 1e-3), (1.7e9, 1e-3), (1e12, 1.0), (5e-300, 1e-12)]
)
def test_columns_that_vary_are_not_taken_for_constant(mean, std):
    """1e-12 of the mean is far above float64's rounding: only a few eps of it count as constant."""
    x = mean + std * np.random.default_rng(1).normal(size=(500, 1))
    fitted = fit_units(open_data(x), torch.arange(500))
    assert fitted.constant == ()
    np.testing.assert_allclose(fitted.units.scale, 2 * x.std(0), rtol=1e-3)


def test_rounding_of_a_constant_counts_as_constant():
    x = np.full((600, 2), 0.3)
    x[::3, 0] = 0.1 + 0.2  # the next number above 0.3
    assert fit_units(open_data(x), torch.arange(600)).constant == ("column 0", "column 1")
    assert bool(Units.standardising(torch.tensor([0.3]), torch.tensor([1e-17])).constant)


def test_float32_data_stay_float32():
    data = open_data(table()[:, 2:].astype(np.float32))
    units = fit_units(data, torch.arange(N)).units
    assert data.values.dtype == units.dtype == torch.float32
    x, _ = Pipeline(data, torch.arange(N), units, 0).batch(0, 10)
    assert units.to_data(x).dtype == torch.float32
