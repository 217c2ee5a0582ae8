"""The measurements of bench/ on small inputs; never how fast the machine is."""

import json
import multiprocessing
import os
import threading

import numpy as np
import pytest
import torch
from bench import guidance, objectives, peers, quality, shapes, speed, tables, workers
from bench.app import app, parse_budgets, read_record
from bench.held_out import held_out
from bench.peers import Candidate
from bench.precision import precision
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from scorefield.data import open as open_data
from scorefield.errors import InputError
from scorefield.execution import Execution
from scorefield.objectives import OBJECTIVES


def test_precision_differs_by_rounding_only(digits_run, tmp_path):
    record = precision(digits_run, tmp_path / "both.png", images=64)
    assert record["images"] == 64
    for row in record["rows"]:
        assert row["difference"] == pytest.approx(row["bfloat16"] - row["float32"], abs=1e-7)
        assert abs(row["difference"]) < 0.05 * row["float32"]
    assert any(row["difference"] != 0 for row in record["rows"])
    assert 0 < record["samples_rms_difference"] < 0.2 * record["samples_rms_between_seeds"]
    with Image.open(tmp_path / "both.png") as picture:
        assert picture.size[0] > 8 * 8


def test_held_out_losses_of_two_runs_are_paired(digits_run, digits_conditional_run, tmp_path):
    """A run against itself differs by exactly 0; weights with noise are worse, by a small error."""
    same = held_out(digits_run, digits_run, noises=2, threads=1)
    assert same["difference"] == same["difference_se"] == 0.0
    assert (same["examples"], same["noises"]) == (180, 2)
    path = tmp_path / "worse.safetensors"
    with safe_open(digits_run / "model.safetensors", "pt") as file:
        card, names = file.metadata()["card"], file.keys()
        tensors = {name: file.get_tensor(name) for name in names}
    g = torch.Generator().manual_seed(0)
    name = "network.head.weight"
    noise = torch.randn(tensors[name].shape, generator=g) * tensors[name].std()
    save_file(tensors | {name: tensors[name] + noise}, path, {"card": card})
    worse = held_out(path, digits_run, noises=2, threads=1)
    assert worse["difference"] > 4.5 * worse["difference_se"]
    other = json.loads(card)
    other["config"]["seed"] = 1
    save_file(tensors, path, {"card": json.dumps(other)})
    with pytest.raises(InputError, match="same data and the same seed"):
        held_out(path, digits_run)


def test_precision_refuses_a_model_without_its_data(tmp_path, digits_run):
    with safe_open(digits_run / "model.safetensors", "pt") as file:
        card = json.loads(file.metadata()["card"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the archive is no dictionary
    del card["config"]
    bare = tmp_path / "model.safetensors"
    save_file(tensors, bare, {"card": json.dumps(card)})
    with pytest.raises(InputError, match="record of the data"):
        precision(bare, tmp_path / "both.png")


def test_read_gives_mean_losses_of_the_tenths(digits_run):
    """`read` against the lines of the log by hand, and a loss that falls."""
    from scorefield.runs import Run

    found = shapes.read(digits_run)
    lines = [r for r in Run(digits_run).records() if "by_sigma" in r]
    last = lines[-1]["images"]
    first = [r for r in lines if r["images"] <= last / 10] or lines[:1]
    counts = np.array([r["by_sigma"]["count"] for r in first], dtype=float)
    losses = np.array([r["by_sigma"]["loss"] for r in first])
    by_hand = float(((counts * losses).sum(0) / counts.sum(0)).mean())
    assert found["images"] == last
    assert found["first"] == pytest.approx(by_hand, rel=1e-6)
    assert found["first"] - found["last"] > 4 * np.hypot(found["first_se"], found["last_se"])


@pytest.mark.parametrize("kind", list(shapes.KINDS))
def test_every_kind_loads_in_its_shape(kind, tmp_path, monkeypatch):
    for name in ("photographs", "signals", "volumes"):
        make = getattr(shapes, name)
        monkeypatch.setattr(shapes, name, lambda side, count, seed, make=make: make(side, 6, seed))
    data = open_data(str(shapes.KINDS[kind](tmp_path)))
    assert len(data) == 6
    expected = {
        "32 x 32 RGB array": (3, 32, 32),
        "64 x 64 RGB folder": (3, 64, 64),
        "signals of length 1024": (1, 1024),
    }
    assert data.event_shape == expected.get(kind, (1, 32, 32, 32))
    assert float(data.floats(slice(None)).std()) > 0


def test_data_are_functions_of_the_seed():
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


def test_plot_shows_every_name(tmp_path):
    quality.draw_plot(
        tmp_path / "plot.png", [rows("scorefield", 3, (1, 2, 5)), rows("another", 1, (1, 5))]
    )
    with Image.open(tmp_path / "plot.png") as picture:
        assert min(picture.size) > 200
    assert quality.names([rows("b", 2, (1,)), rows("a", 1, (1,))]) == ["b", "a"]
    with pytest.raises(InputError, match="nothing to draw"):
        quality.draw_plot(tmp_path / "none.png", [{"samples": 1, "floor": 0.0, "rows": []}])


def linear(scratch) -> Candidate:
    """A network of one layer."""
    network = torch.nn.Linear(3, 5)

    def step():
        return network(torch.ones(8, 3))

    return Candidate("linear", network, 8, step, 4, step)


def broken(scratch) -> Candidate:
    raise InputError("no such library")


def test_worker_serves_facts_and_rates_and_sends_its_errors(tmp_path, monkeypatch):
    """`serve` over a pipe; a step has 2 x 8 x 3 x 5 operations for 8 images."""
    monkeypatch.setattr(peers, "SUITES", {"fake": (linear, broken)})
    monkeypatch.setattr(workers, "rate", lambda step, images, seconds: images / seconds)
    local, remote = multiprocessing.Pipe()
    thread = threading.Thread(target=workers.serve, args=("fake", 0, tmp_path, remote))
    thread.start()
    assert local.recv() == {
        "name": "linear",
        "parameters": 20,
        "batch": 8,
        "precision": "float32",
        "flops": 30.0,
    }
    local.send(("train", 0.5))
    assert local.recv() == 16
    local.send(("evaluate", 0.5))
    assert local.recv() == 8
    local.send(None)
    thread.join(5)
    assert not thread.is_alive()
    workers.serve("fake", 1, tmp_path, remote)
    assert isinstance(local.recv(), InputError)


def test_rate_counts_images_over_the_time_of_whole_steps(monkeypatch):
    clock = iter([0.0, 0.0, 0.4, 0.8, 1.2, 1.2])  # start, then before each step, then at the end
    monkeypatch.setattr(workers.time, "perf_counter", lambda: next(clock))
    assert workers.rate(lambda: None, 6, 1.0) == pytest.approx(4 * 6 / 1.2)


@pytest.mark.parametrize(("patience", "sizes"), [(1e9, [8, 64]), (0.0, [8])])
def test_gemm_peak_of_an_emulated_precision_uses_a_small_product(monkeypatch, patience, sizes):
    sizes_used = []
    monkeypatch.setattr(
        speed, "_product_rate", lambda dtype, size: sizes_used.append(size) or float(size)
    )
    assert speed.gemm_peak(torch.bfloat16, 64, patience) == sizes[-1]
    assert sizes_used == sizes


def test_ratios_are_taken_within_rounds():
    assert speed.ratios([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == [2.0, 3.0, 4.0]


def test_objectives_learn_on_a_short_budget():
    """Every method's row; a few steps already beat s = 0, and energies report their density."""
    record = objectives.compare((1.0,), steps=100, seeds=1)
    rows = {row["method"]: row for row in record["rows"]}
    assert rows.keys() == objectives.METHODS.keys()
    assert {objective for objective, _, _ in objectives.METHODS.values()} == set(OBJECTIVES)
    for name, row in rows.items():
        assert row["divergence"]["mean"] < 0.9, name
        assert ("log p" in row) == name.startswith("energy")
    lines = objectives.table(record).split("\n")
    assert len(lines) == 2 + len(rows)
    assert all(line.count("|") == 9 for line in lines)


class TestCommandLine:
    def test_help_lists_every_command(self):
        result = CliRunner().invoke(app, ["--help"])
        assert result.exit_code == 0
        for command in (
            "kills",
            "speed",
            "quality",
            "objectives",
            "levels",
            "shapes",
            "precision",
            "held-out",
            "guidance",
        ):
            assert command in result.output

    @pytest.mark.parametrize(
        ("minutes", "seeds", "word"),
        [
            ("0,1", "0", "minutes"),
            ("", "0", "minutes"),
            ("1", "0.5", "seeds"),
            ("1", "-1", "seeds"),
        ],
    )
    def test_wrong_budgets_raise_input_error(self, minutes, seeds, word):
        with pytest.raises(InputError, match=word):
            parse_budgets(minutes, seeds)
        assert parse_budgets("1,2.5", "0,3") == ((1.0, 2.5), (0, 3))

    def test_other_json_raises_input_error(self, tmp_path):
        path = tmp_path / "x.json"
        for text in ("{", "[]", '{"rows": []}'):
            path.write_text(text)
            with pytest.raises(InputError, match="beside"):
                read_record(path)


# -- tables


def test_forest_tells_other_rows_apart_and_not_rows_of_the_same_kind(monkeypatch):
    monkeypatch.setattr(tables, "TREES", 30)
    rows, names = tables.read("diabetes")
    assert rows.shape == (442, len(names)) == (442, 10)
    training, others = tables.parts(rows, 0)
    assert (len(training), len(others)) == (309, 133)
    assert not {tuple(row) for row in training} & {tuple(row) for row in others}
    assert tables.against(training[:266], others) == pytest.approx(0.5, abs=0.1)
    assert tables.auc(training[:133] + 0.001, others, 0) > 0.9  # not on the values


def test_mixture_is_on_the_values_of_discrete_columns():
    rows, _ = tables.read("diabetes")
    training, _ = tables.parts(rows, 0)
    drawn = tables.mixture(training, 50, 0)
    assert set(drawn[:, 1]) <= set(training[:, 1])
    assert not set(drawn[:, 2]) <= set(training[:, 2])


@pytest.mark.training
def test_table_is_trained_and_told_apart(monkeypatch):
    monkeypatch.setattr(tables, "TREES", 10)
    record = tables.tables(("diabetes",), 1, {"images": 4096}, lambda _: None, references=False)
    run = record["runs"][0]
    assert 0.5 < run["auc"] <= 1
    assert run["standing"] == "hardly begun"
    assert record["means"]["diabetes"]["auc"] == run["auc"]
    with pytest.raises(InputError, match="breast-cancer, diabetes"):
        tables.read("iris")


# -- conditions and guidance

FEATURES = """
import torch

def load():
    return None

def features(network, images):
    x = torch.as_tensor(images).reshape(len(images), -1).double()
    return torch.stack([x.mean(1), x.std(1), x[:, ::2].mean(1)], 1), torch.ones(len(x), 10) / 10

def frechet(a, b):
    return float((a.mean(0) - b.mean(0)).square().sum())
"""


def ink(images):
    """A classifier for tests: the class by the mean of an image, with certainty."""
    p = torch.zeros(len(images), 11)
    p[torch.arange(len(images)), (images.mean((1, 2, 3)) * 40).long().clamp(max=9)] = 1
    return p


@pytest.mark.training
@pytest.mark.slow
def test_guidance_is_measured_and_goes_on(tmp_path, monkeypatch):
    """The record by hand from its parts; a second call measures nothing again."""
    (tmp_path / "features.py").write_text(FEATURES)
    digits = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", train_images=digits, test_images=digits[::-1])
    monkeypatch.setattr(guidance, "classifier", lambda: ink)
    monkeypatch.setattr(guidance, "SCALES", (1.0, 2.0))
    plain = Execution("cpu", "float32", channels_last=True, compile=False, threads=1)
    monkeypatch.setattr(guidance, "choose", lambda spatial: plain)  # nothing is timed
    small = ["network.name=mlp", "network.options.width=16", "optim.batch=64"]
    small += ["execution.compile=off", "execution.precision=float32", "execution.threads=1"]
    work, lines = tmp_path / "work", []

    def run():
        paths = tmp_path, tmp_path / "mnist.npz", work
        return guidance.guidance(*paths, 2, 256, 12, 20, small, lines.append)

    record = run()
    assert [row["seed"] for row in record["rows"]] == [0, 1]
    assert record["chosen_on"]["own_class"].keys() == {"1", "2"}
    assert record["scale"] in (1.0, 2.0)
    model = guidance.trained(work / "class-1", "class", 256, 1, small)
    drawn, labels = guidance.of_class(model, 12, guidance.FRECHET_SEED, 1.0)
    assert labels.tolist() == [*range(10), 0, 1]
    measured = quality.Judgement(tmp_path, tmp_path / "mnist.npz")(drawn.numpy())["frechet"]
    assert record["rows"][1]["unguided"] == pytest.approx(measured, rel=1e-5)
    for row in record["rows"]:
        assert 0 <= row["own_class"]["guided"] <= 64
        assert row["losses"].keys() == {"with class", "without class", "unconditional"}
    first, second = (row["unguided"] - row["unconditional"] for row in record["rows"])
    assert record["means"]["difference"]["mean"] == pytest.approx((first + second) / 2)
    assert record["means"]["difference"]["se"] == pytest.approx(abs(first - second) / 2)
    assert guidance.table(record).count("\n") == 4
    with Image.open(work / "samples-1.png") as picture:
        assert min(picture.size) > 200

    def never(*args, **kwargs):
        raise AssertionError("a finished measurement is made again")

    monkeypatch.setattr(guidance, "sample", never)
    assert run() == record
    with pytest.raises(InputError, match="choose another folder"):
        guidance.guidance(tmp_path, tmp_path / "mnist.npz", work, 1, 512, settings=small)


def test_scale_is_the_least_of_those_with_most_own_classes():
    assert guidance.choose_scale({"1": 178, "1.25": 190, "2": 199, "3": 199}) == 2
    assert guidance.choose_scale({"1": 5, "1.25": 5}) == 1


def test_own_class_counts_certain_samples_of_the_right_class():
    x = torch.full((4, 1, 28, 28), 0.08)  # class 3
    assert guidance.own_class(ink, x, torch.tensor([3, 3, 4, 2])) == 2
    assert guidance.own_class(lambda x: 0.9 * ink(x), x, torch.full((4,), 3)) == 0


def test_mean_of_one_seed_has_no_error():
    assert guidance.mean([2.0]) == {"mean": 2.0, "se": None}
    assert guidance.mean([1.0, 3.0, 2.0])["se"] == pytest.approx(1 / 3**0.5)
