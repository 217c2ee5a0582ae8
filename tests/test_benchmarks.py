"""Benchmarks: what they compute, on small inputs; never how fast the machine is."""

import json
import multiprocessing
import os
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from bench import entrants, peers, quality, shapes, speed
from bench.peers import Contestant
from bench.precision import precision
from scorefield.config import override, preset
from scorefield.data import load
from scorefield.errors import InputError
from scorefield.training import train


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A short run on the 8 x 8 digits."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    small = [
        "images=2560",
        "data.source=digits",
        "optim.batch=128",
        "execution.compile=off",
        "execution.threads=1",
    ]
    sizes = ["network.options.widths=[16,16]", "network.options.depths=[1,1]", "optim.warmup=256"]
    train(override(preset("fast"), small + sizes), folder, log_seconds=0.0)
    return folder


def test_precision_sees_rounding_and_nothing_else(digits, tmp_path):
    record = precision(digits, tmp_path / "both.png", images=64)
    assert record["images"] == 64
    for row in record["rows"]:
        assert row["difference"] == pytest.approx(row["bfloat16"] - row["float32"], abs=1e-7)
        assert abs(row["difference"]) < 0.05 * row["float32"]
    assert any(row["difference"] != 0 for row in record["rows"])
    assert 0 < record["samples_rms_difference"] < 0.2 * record["samples_rms_between_seeds"]
    with Image.open(tmp_path / "both.png") as picture:
        assert picture.size[0] > 8 * 8


def test_precision_needs_a_run_that_says_its_data(tmp_path, digits):
    with safe_open(digits / "model.safetensors", "pt") as file:
        card = json.loads(file.metadata()["card"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the archive is no dictionary
    del card["config"]
    bare = tmp_path / "model.safetensors"
    save_file(tensors, bare, {"card": json.dumps(card)})
    with pytest.raises(InputError, match="record of the data"):
        precision(bare, tmp_path / "both.png")


def test_losses_of_tenths_are_means_over_levels(digits):
    """`read` against the log's lines by hand: 20 steps, the first tenth is steps 1 and 2."""
    from scorefield.runs import Run

    found = shapes.read(digits)
    lines = [r for r in Run(digits).records() if "by_sigma" in r]
    first = [r for r in lines if r["images"] <= 256]
    counts = np.array([r["by_sigma"]["count"] for r in first], dtype=float)
    losses = np.array([r["by_sigma"]["loss"] for r in first])
    assert found["images"] == 2560
    assert found["first"] == pytest.approx(
        float(((counts * losses).sum(0) / counts.sum(0)).mean()), rel=1e-6
    )
    assert found["first"] - found["last"] > 4 * np.hypot(found["first_se"], found["last_se"])


@pytest.mark.parametrize("kind", list(shapes.KINDS))
def test_every_kind_is_a_data_set(kind, tmp_path, monkeypatch):
    for name in ("photographs", "signals", "volumes"):
        make = getattr(shapes, name)
        monkeypatch.setattr(shapes, name, lambda side, count, seed, make=make: make(side, 6, seed))
    collection = load(str(shapes.KINDS[kind](tmp_path)))
    assert len(collection) == 6
    expected = {
        "32 x 32 RGB array": (3, 32, 32),
        "64 x 64 RGB folder": (3, 64, 64),
        "signals of length 1024": (1, 1024),
    }
    assert collection.event_shape == expected.get(kind, (1, 32, 32, 32))
    assert float(collection.floats(slice(None)).std()) > 0


def test_made_data_are_functions_of_the_seed():
    for make, size in ((shapes.photographs, 8), (shapes.signals, 64), (shapes.volumes, 8)):
        assert (make(size, 3, 5) == make(size, 3, 5)).all()
        assert (make(size, 3, 5) != make(size, 3, 6)).any()


def test_peak_memory_of_this_process():
    found = shapes.peak_memory(os.getpid())
    assert found == 0 or 50 < found < 64 * 1024
    assert shapes.peak_memory(2**22 + 1) == 0


@pytest.mark.slow
def test_every_kind_trains():
    record = shapes.shapes(20.0, ("optim.batch=32", "execution.compile=off"))
    for row in record["rows"]:
        assert row["first"] - row["last"] > 4 * np.hypot(row["first_se"], row["last_se"]), row[
            "kind"
        ]
        assert row["rate"] > 0


def rows(name: str, seeds: int, minutes: tuple[float, ...]) -> dict:
    made = [
        {"name": name, "seed": s, "minutes": m, "frechet": 10 / m + s}
        for s in range(seeds)
        for m in minutes
    ]
    return {"samples": 5000, "floor": 0.3, "rows": made}


def test_quality_is_drawn_for_everybody(tmp_path):
    quality.draw_plot(
        tmp_path / "plot.png", [rows("scorefield", 3, (1, 2, 5)), rows("another", 1, (1, 5))]
    )
    with Image.open(tmp_path / "plot.png") as picture:
        assert min(picture.size) > 200
    assert quality.names([rows("b", 2, (1,)), rows("a", 1, (1,))]) == ["b", "a"]
    with pytest.raises(InputError, match="nothing to draw"):
        quality.draw_plot(tmp_path / "none.png", [{"samples": 1, "floor": 0.0, "rows": []}])


def contestant(scratch) -> Contestant:
    """A network of one layer whose step is a sleep of 2 ms."""
    network = torch.nn.Linear(3, 5)
    return Contestant(
        "sleeper",
        network,
        8,
        lambda: (network(torch.ones(8, 3)), time.sleep(0.002)),
        4,
        lambda: time.sleep(0.001),
    )


def broken(scratch) -> Contestant:
    raise InputError("no such library")


def test_a_contestant_answers_with_rates_and_its_errors_are_told(tmp_path, monkeypatch):
    """`serve` over a pipe: facts with the step's operations (2 x 8 x 3 x 5 over 8 images), rates a
    sleep bounds, an end, and errors as they are.
    """
    monkeypatch.setattr(peers, "FIELDS", {"fake": (contestant, broken)})
    here, there = multiprocessing.Pipe()
    thread = threading.Thread(target=entrants.serve, args=("fake", 0, tmp_path, there))
    thread.start()
    assert here.recv() == {
        "name": "sleeper",
        "parameters": 20,
        "batch": 8,
        "precision": "float32",
        "flops": 30.0,
    }
    here.send(("train", 0.05))
    assert 0 < here.recv() <= 8 / 0.002
    here.send(("evaluate", 0.05))
    assert 0 < here.recv() <= 4 / 0.001
    here.send(None)
    thread.join(5)
    assert not thread.is_alive()
    entrants.serve("fake", 1, tmp_path, there)
    assert isinstance(here.recv(), InputError)


@pytest.mark.parametrize(("patience", "sizes"), [(1e9, [8, 64]), (0.0, [8])])
def test_the_peak_of_an_emulated_precision_is_measured_on_a_small_product(
    monkeypatch, patience, sizes
):
    asked = []
    monkeypatch.setattr(
        speed, "_product_rate", lambda dtype, size: asked.append(size) or float(size)
    )
    assert speed.gemm_peak(torch.bfloat16, 64, patience) == sizes[-1]
    assert asked == sizes


def test_ratios_are_of_the_rounds():
    assert speed.spread([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == [2.0, 3.0, 4.0]
