"""Guidance and conditions on the command line: `sample` and `restore` of a run of classes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import scorefield as sf
from cli_helpers import SMALL, call, samples_of
from scorefield.cli.options import Condition
from scorefield.execution import Execution
from scorefield.training import snapshot

FEW = ["--count", 6, "--nfe", 8, "--threads", 1, "--precision", "float32", "--compile", "off"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A short run of classes with snapshots."""
    folder = tmp_path_factory.mktemp("guidance") / "run"
    table = tmp_path_factory.mktemp("table") / "birds.csv"
    rng = np.random.default_rng(0)
    lines = [f"{x:.4f},{y:.4f},{'owl' if x > 0 else 'wren'}" for x, y in rng.normal(size=(300, 2))]
    table.write_text("\n".join(["wing,mass,species", *lines]) + "\n")
    condition = ["--condition", "class", "--condition-from", "species"]
    kept = ["--set", "ema.snapshots=4"]
    assert call("train", "--data", table, "--run", folder, *condition, *kept, *SMALL) == 0
    return folder


def drawn(run: Path, out: Path, *arguments: object) -> np.ndarray:
    """Samples of a command that succeeds."""
    assert call("sample", run, "--out", out, *FEW, *arguments) == 0
    return samples_of(out)


def test_options_of_guidance(run, tmp_path):
    plain = drawn(run, tmp_path / "plain", "--class", "owl")
    everywhere = drawn(run, tmp_path / "all", "--class", "owl", "--guidance", 3)
    limited = drawn(
        run, tmp_path / "some", "--class", "owl", "--guidance", 3, "--guidance-interval", "0.1,1"
    )
    earlier = ["--guide", run, "--guide-images", 160]
    auto = drawn(run, tmp_path / "auto", "--class", "owl", "--guidance", 3, *earlier)
    itself = drawn(run, tmp_path / "same", "--class", "owl", "--guidance", 3, "--guide", run)
    without = drawn(run, tmp_path / "none", "--guidance", 3, *earlier)
    assert np.allclose(itself, plain, atol=1e-4)  # guided away from itself
    for other in (everywhere, limited, auto):
        assert np.abs(other - plain).max() > 1e-3
    assert np.abs(limited - everywhere).max() > 1e-3
    assert np.isfinite(without).all()
    some = json.loads((tmp_path / "some" / "samples.json").read_text())
    assert some["guidance_interval"] == [0.1, 1.0] and some["guide"] is None
    facts = json.loads((tmp_path / "auto" / "samples.json").read_text())
    assert facts["guidance"] == 3 and facts["guide"] == str(run)
    assert facts["guide_images"] == 192  # the snapshot that was taken, the nearest to 160
    assert facts["class"] == "owl" and len(facts["guide_card_sha256"]) == 64
    assert np.load(tmp_path / "auto" / "samples.npz")["class"].tolist() == [0] * 6
    rows = (tmp_path / "auto" / "samples.csv").read_text().splitlines()
    assert rows[0] == "wing,mass,species" and rows[1].endswith(",owl")


def test_the_guide_computes_as_the_model_does(run):
    model = sf.load(run)
    execution = Execution("cpu", "bfloat16", False, False, 1)
    options = Condition(guidance=2.0, guide=run)
    guided = options.guided(execution.apply(model), None, execution)
    assert [leaf.autocast for leaf in guided.leaves()] == [torch.bfloat16] * 2


def test_a_model_file_is_a_guide(run, tmp_path):
    """Such as segments/1/model.safetensors of a run that went on."""
    file = run / "model.safetensors"
    found = drawn(run, tmp_path / "file", "--guidance", 3, "--guide", file)
    assert np.array_equal(found, drawn(run, tmp_path / "run", "--guidance", 3, "--guide", run))


def test_restore_takes_the_options_of_guidance(run, tmp_path):
    found = {}
    few = ["--levels", 30, "--steps-per-level", 3, "--draws", 4, "--threads", 1]
    few += ["--precision", "float32", "--compile", "off"]
    earlier = ["--guide", run, "--guide-images", 192]
    guided = {
        "plain": [],
        "one": ["--guidance", 1],
        "three": ["--guidance", 3],
        "some": ["--guidance", 3, "--guidance-interval", "0.1,1"],
        "auto": ["--guidance", 3, *earlier],
    }
    for name, options in guided.items():
        out = tmp_path / name
        given = ["--given", "wing=0.5", "--class", "owl"]
        assert call("restore", run, "--out", out, *given, *few, *options) == 0
        found[name] = np.load(out / "restored.npz")["draws"]
    assert np.array_equal(found["plain"], found["one"])
    for name in ("three", "some", "auto"):
        assert np.abs(found[name] - found["plain"]).max() > 1e-3
    assert np.abs(found["some"] - found["three"]).max() > 1e-3
    facts = json.loads((tmp_path / "auto" / "restore.json").read_text())
    assert facts["guidance"] == 3 and facts["guide_images"] == 192
    assert len(facts["guide_card_sha256"]) == 64
    out = tmp_path / "refused"
    given = ["--given", "wing=0.5", "--guidance", 2]
    assert call("restore", run, "--out", out, *given, *few) == 2
    assert not out.exists()


def test_a_row_of_an_interpolation_keeps_its_class(run, tmp_path):
    out = tmp_path / "rows"
    few = [argument if argument != 6 else 2 for argument in FEW]
    arguments = ["--class", "owl,wren", "--interpolate", 3]
    assert call("sample", run, "--out", out, *few, *arguments) == 0
    assert np.load(out / "samples.npz")["class"].tolist() == [0, 0, 0, 1, 1, 1]


def test_a_snapshot_is_the_nearest_one(run):
    weights, images = snapshot(run, 170)
    assert images in (128, 192)
    model = sf.load(run)
    assert weights.keys() == model.network.state_dict().keys()
    last, _ = snapshot(run, 10**9)
    assert all(torch.equal(last[k], v) for k, v in model.network.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--guidance-interval", "0.1,1"], "needs --guidance"),
        (["--guide", "{run}"], "needs --guidance"),
        (["--guidance", 2, "--class", "owl", "--guide-images", 9], "--guide-images needs --guide"),
        (["--guidance", 2, "--class", "owl", "--guidance-interval", "1"], "(lowest, highest)"),
        (["--guidance", 2, "--class", "owl", "--guidance-interval", "500,600"], "never act"),
        (["--guidance", 2, "--class", "owl", "--guide", "nowhere"], "nowhere"),
        (["--class", "eagle"], "owl, wren"),
        (["--vector", "1,2"], "--class (classes owl, wren)"),
    ],
)
def test_options_that_do_not_fit_are_refused(run, tmp_path, capsys, arguments, words):
    arguments = [str(a).format(run=run) for a in arguments]
    assert call("sample", run, "--out", tmp_path / "out", *FEW, *arguments) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_vectors_on_the_command_line(tmp_path, capsys):
    rng = np.random.default_rng(0)
    table = tmp_path / "t.csv"
    lines = [f"{a:.4f},{b:.4f},{a + b:.4f}" for a, b in rng.normal(size=(200, 2))]
    table.write_text("\n".join(["x,north,east", *lines]) + "\n")
    run = tmp_path / "run"
    condition = ["--condition", "vector", "--condition-from", "north,east"]
    assert call("train", "--data", table, "--run", run, *condition, *SMALL) == 0
    one = drawn(run, tmp_path / "one", "--vector", "0.5,1")
    (tmp_path / "rows.csv").write_text("east,north\n1,0.5\n2,-0.5\n")
    two = drawn(run, tmp_path / "two", "--vector", tmp_path / "rows.csv")
    assert np.allclose(one[::2], two[::2], atol=1e-5)
    assert np.abs(one[1::2] - two[1::2]).max() > 1e-4
    written = (tmp_path / "two" / "samples.csv").read_text().splitlines()
    assert written[0] == "x,north,east"
    assert [line.split(",")[1:] for line in written[1:3]] == [["0.5", "1.0"], ["-0.5", "2.0"]]
    for bad, words in (("1", "2 numbers"), ("a,b", "no such file"), ("1,nan", "finite")):
        assert call("sample", run, "--out", tmp_path / "bad", *FEW, "--vector", bad) == 2
        assert words in " ".join(capsys.readouterr().err.split())
