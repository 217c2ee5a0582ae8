"""The command line: every command, and invalid input refused in words with nothing written."""

import dataclasses
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from cli_helpers import SMALL, Command, call, files, fix_precision, samples_of
from digit_classifier import blurred_noise, classifier, confident
from scorefield import checkpoint, execution, rng
from scorefield.cli import demo as demo_module
from scorefield.cli.app import app
from scorefield.cli.demo_report import final_evaluation
from scorefield.cli.examples import Chosen, data_units
from scorefield.cli.loading import ready
from scorefield.cli.options import SamplingOptions, execution_request
from scorefield.conditions import ConditionSpec
from scorefield.config import settings
from scorefield.data import fit_units
from scorefield.data import open as open_data
from scorefield.errors import InputError
from scorefield.evaluation import classifier as label_classifier
from scorefield.evaluation import measuring
from scorefield.models import FORMS, Preconditioned
from scorefield.networks import build
from scorefield.plotting import read_layout
from scorefield.runs import Run
from scorefield.sampling import SAMPLERS, draw
from scorefield.units import quantise


@pytest.fixture(autouse=True)
def float32_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    fix_precision(monkeypatch)


@pytest.fixture
def command(capsys) -> Command:
    return Command(capsys)


@pytest.fixture(scope="module")
def ring(tmp_path_factory) -> Path:
    """A finished run of points in the plane."""
    folder = tmp_path_factory.mktemp("ring") / "run"
    assert call("train", "--data", "ring", "--run", folder, *SMALL) == 0
    return folder


# -- train


def test_train_leaves_a_whole_run_and_is_done_when_run_again(ring, command):
    for name in ("model.safetensors", "metrics.jsonl", "config.json", "loss_per_sigma.png"):
        assert (ring / name).stat().st_size > 0
    assert list((ring / "previews").glob("*.png"))
    before = files(ring)
    code, out, _ = command("train", "--data", "ring", "--run", ring, *SMALL)
    assert code == 0
    assert "already complete" in out
    assert {path: data for path, data in files(ring).items() if path.name != ".lock"} == {
        path: data for path, data in before.items() if path.name != ".lock"
    }


def test_dry_run_prints_the_resolved_settings_and_writes_nothing(tmp_path, command):
    run = tmp_path / "run"
    code, out, err = command(
        "train", "--data", "ring", "--run", run, "--set", "optim.lr=0.5", "--dry-run"
    )
    assert code == 0
    printed = json.loads(out)
    assert printed["optim"]["lr"] == 0.5
    assert printed["network"]["name"] == "mlp"
    assert printed["optim"]["batch"] == 1024
    assert "optim.batch: 1,024 examples per step for vectors." in err
    assert not run.exists()


def test_another_configuration_is_refused_and_leaves_the_run_as_it_is(ring, command):
    before = sorted((p, p.stat().st_mtime_ns) for p in ring.rglob("*"))
    code, _, err = command("train", "--data", "moons", "--run", ring, *SMALL)
    assert code == 2
    assert "holds a run of other data: 'ring' there, 'moons' here" in err
    assert len(err) < 300  # no hashes, no settings that do not matter
    assert before == sorted((p, p.stat().st_mtime_ns) for p in ring.rglob("*"))


def test_the_ncsn_preset_trains_and_samples_as_the_paper_does(tmp_path, command):
    """Levels, sampler and constants come from the preset through the card."""
    run = tmp_path / "run"
    small = ["--width", 8, "--images", 64, "--threads", 1, "--compile", "off"]
    small += ["--set", "optim.batch=32", "--precision", "float32"]
    code, _, err = command("train", "--data", "digits", "--preset", "ncsn", "--run", run, *small)
    assert code == 0, err
    out = tmp_path / "out"
    assert command("sample", run, "--count", 2, "--steps-per-level", 2, "--out", out)[0] == 0
    facts = json.loads((out / "samples.json").read_text())
    assert facts["sampler"] == "annealed-langevin"
    assert len(facts["ladder"]) == 10
    assert (facts["ladder"][0], facts["ladder"][-1]) == (1.0, 0.01)
    assert facts["options"]["epsilon"] == 2e-5
    assert (facts["start"], facts["final"], facts["nfe"]) == ("uniform", "none", 20)
    code, _, err = command(
        "sample", run, "--count", 2, "--sampler", "heun", "--out", tmp_path / "b"
    )
    assert code == 2
    assert "levels" in err


# -- sample


def test_sample_writes_arrays_facts_and_a_scatter(ring, tmp_path, command):
    out = tmp_path / "out"
    code, _, err = command("sample", ring, "--count", 300, "--seed", 0, "--out", out)
    assert code == 0, err
    assert samples_of(out).shape == (300, 2)
    facts = json.loads((out / "samples.json").read_text())
    assert {"sampler", "ladder", "nfe", "seed", "seconds", "card_sha256"} <= facts.keys()
    assert facts["sampler"] == "unipc"
    assert facts["nfe"] == len(facts["ladder"]) == 32
    with Image.open(out / "scatter.png") as picture:
        assert min(picture.size) > 200


def test_the_same_seed_gives_the_same_samples(ring, tmp_path, command):
    drawn = {}
    for name, seed, count in (("a", 0, 40), ("b", 0, 40), ("c", 1, 40), ("d", 0, 8)):
        out = tmp_path / name
        assert command("sample", ring, "--count", count, "--seed", seed, "--out", out)[0] == 0
        drawn[name] = samples_of(out)
    assert (drawn["a"] == drawn["b"]).all()
    assert not (drawn["a"] == drawn["c"]).any()
    assert np.allclose(drawn["a"][:8], drawn["d"], rtol=1e-5, atol=1e-5)


def test_images_come_as_a_grid_of_quantised_pixels_and_an_animation(digits_run, tmp_path, command):
    out = tmp_path / "out"
    code, _, err = command(
        "sample", digits_run, "--count", 9, "--nfe", 7, "--out", out, "--forming"
    )
    assert code == 0, err
    samples = samples_of(out)
    assert samples.shape == (9, 1, 8, 8)
    assert samples.min() >= 0
    assert samples.max() <= 1
    tile = read_layout(out / "grid.png").tile(np.asarray(Image.open(out / "grid.png")), 4)
    assert (
        tile.reshape(8, 8, -1)[..., 0] == quantise(torch.tensor(samples[4, 0]), 256).numpy()
    ).all()
    with Image.open(out / "forming.gif") as gif:
        assert gif.n_frames == len(json.loads((out / "samples.json").read_text())["ladder"]) + 1


def test_float64_data_come_back_as_float64(tmp_path, command):
    """B2 on the way out: Julian dates, whose digits float32 does not hold."""
    generator = np.random.default_rng(0)
    np.save(tmp_path / "dates.npy", 2.46e6 + generator.normal(size=(2000, 2)))
    run, out = tmp_path / "run", tmp_path / "out"
    assert command("train", "--data", tmp_path / "dates.npy", "--run", run, *SMALL)[0] == 0
    assert command("sample", run, "--count", 500, "--nfe", 9, "--out", out)[0] == 0
    samples = samples_of(out)
    assert samples.dtype == np.float64
    assert abs(samples.mean() - 2.46e6) < 5
    assert len(np.unique(samples)) == samples.size  # float32 has a grid of 1/4 there


def test_sampler_options_reach_the_kernel_and_zero_is_a_value(digits_run, tmp_path, command):
    drawn = {}
    for name, options in {
        "default": [],
        "three": ["--option", "eta=3"],
        "zero": ["--option", "eta=0"],
    }.items():
        out = tmp_path / name
        arguments = ["--sampler", "matched-sde", "--nfe", 6, "--count", 3, *options]
        assert command("sample", digits_run, *arguments, "--out", out)[0] == 0
        drawn[name] = samples_of(out)
        eta = json.loads((out / "samples.json").read_text())["options"]["eta"]
        assert eta == {"default": 3, "three": 3, "zero": 0}[name]  # the card of images has 3
    assert (drawn["default"] == drawn["three"]).all()
    assert np.abs(drawn["zero"] - drawn["three"]).max() > 0.05


def test_interpolation_mixes_the_noise_of_two_samples(digits_run, tmp_path, command):
    """Row r goes from sample 2r to sample 2r + 1; between them all noise is blended."""
    ends, rows = tmp_path / "ends", tmp_path / "rows"
    fixed = ["--sampler", "heun", "--nfe", 9]
    assert command("sample", digits_run, "--count", 4, *fixed, "--out", ends)[0] == 0
    code, _, err = command(
        "sample", digits_run, "--count", 2, *fixed, "--interpolate", 5, "--out", rows
    )
    assert code == 0, err
    found = samples_of(rows).reshape(2, 5, 1, 8, 8)
    for r in range(2):
        assert np.allclose(found[r, 0], samples_of(ends)[2 * r], atol=1e-4)
        assert np.allclose(found[r, -1], samples_of(ends)[2 * r + 1], atol=1e-4)
    model = checkpoint.load(digits_run)
    recipe = SamplingOptions(sampler="heun", nfe=9).resolve(model)
    keys = rng.keys(0, 4)
    middle = rng.Blend(keys[0::2], keys[1::2], torch.full((2,), torch.pi / 4, dtype=torch.float64))
    expected = draw(model, recipe, middle).x.clamp(0, 1).numpy()
    assert np.allclose(found[:, 2], expected, atol=1e-4)


def test_batches_change_no_sample(ring, tmp_path, command, monkeypatch):
    from scorefield.sampling import api

    assert command("sample", ring, "--count", 50, "--nfe", 9, "--out", tmp_path / "one")[0] == 0
    monkeypatch.setattr(api, "BATCH_ELEMENTS", 2 * 16)
    assert command("sample", ring, "--count", 50, "--nfe", 9, "--out", tmp_path / "many")[0] == 0
    one, many = samples_of(tmp_path / "one"), samples_of(tmp_path / "many")
    assert many.shape == (50, 2)
    assert np.allclose(one, many, rtol=1e-5, atol=1e-5)


def test_no_samples_are_an_empty_file(ring, tmp_path, command):
    """An explicit 0 is obeyed."""
    assert command("sample", ring, "--count", 0, "--out", tmp_path / "out")[0] == 0
    assert samples_of(tmp_path / "out").shape == (0, 2)


def test_another_width_of_the_average(ring, tmp_path, command):
    arguments = ["--count", 20, "--nfe", 9]
    assert command("sample", ring, *arguments, "--out", tmp_path / "first")[0] == 0
    code, _, err = command("sample", ring, *arguments, "--ema", 0.08, "--out", tmp_path / "other")
    assert code == 0, err
    assert not (samples_of(tmp_path / "first") == samples_of(tmp_path / "other")).any()
    assert command("sample", ring, "--ema", 0.5, "--out", tmp_path / "bad")[0] == 2
    assert not (tmp_path / "bad").exists()


def test_classes_take_turns_and_guidance_of_one_changes_nothing(
    digits_conditional_run, tmp_path, command
):
    drawn = {}
    for name, extra in {
        "two": ["--class", "3,8"],
        "three": ["--class", "3"],
        "none": [],
        "unguided": ["--class", "3", "--guidance", 1],
        "guided": ["--class", "3", "--guidance", 4],
    }.items():
        arguments = ["--count", 6, "--nfe", 8, "--precision", "float32", *extra]
        code, _, err = command(
            "sample", digits_conditional_run, *arguments, "--out", tmp_path / name
        )
        assert code == 0, err
        drawn[name] = samples_of(tmp_path / name)
    assert np.allclose(drawn["two"][0::2], drawn["three"][0::2], atol=1e-4)
    assert np.abs(drawn["two"][1::2] - drawn["three"][1::2]).max() > 0.1
    assert np.abs(drawn["none"] - drawn["three"]).max() > 0.1
    assert np.allclose(drawn["unguided"], drawn["three"], atol=1e-5)
    assert np.abs(drawn["guided"] - drawn["three"]).max() > 0.1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--class", "12"], ["class"]),
        (["--class", "seven"], ["class"]),
        (["--class", ","], ["--class takes one or more classes"]),
        (["--guidance", "2"], ["a condition to follow", "--class 7", "--guide RUN"]),
        (["--class", "3", "--guidance", "nan"], ["finite"]),
    ],
)
def test_bad_classes_are_refused(digits_conditional_run, tmp_path, command, arguments, words):
    out = tmp_path / "out"
    code, _, err = command("sample", digits_conditional_run, "--out", out, *arguments)
    assert code == 2
    for word in words:
        assert word in err
    assert not out.exists()


# -- a network of the user's own

OWN = """
import torch

class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x, noise_input, condition=None):
        return self.layer(torch.cat([x, noise_input[:, None]], 1))

def broken():
    raise RuntimeError("no weights today")

number = 3
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A folder with own.py and model.safetensors, a model of its network."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(OWN)
    (folder / "fails.py").write_text("import nothing_of_this_name")
    from scorefield.cli.loading import make_network

    model = Preconditioned(make_network(f"{folder / 'own.py'}:Own"), (2,))
    checkpoint.save_model(folder / "model.safetensors", model)
    return folder


def test_a_network_of_ones_own_is_loaded_from_its_file(own, tmp_path, command):
    model, network = own / "model.safetensors", f"{own / 'own.py'}:Own"
    out = tmp_path / "out"
    code, _, err = command("sample", model, "--count", 5, "--network", network, "--out", out)
    assert code == 0, err
    assert np.isfinite(samples_of(out)).all()
    assert "custom" in command("info", model, "--network", network)[1]


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (None, ["--network FILE.py:NAME"]),
        ("own.py", ["FILE.py:NAME"]),
        ("own.py:Other", ["no class or function Other", "Own"]),
        ("own.py:number", ["no class or function number"]),
        ("own.py:broken", ["RuntimeError: no weights today"]),
        ("missing.py:Own", ["no file"]),
        ("fails.py:Own", ["ModuleNotFoundError"]),
    ],
)
def test_a_wrong_network_file_is_refused(own, tmp_path, command, network, words):
    extra = [] if network is None else ["--network", own / network]
    code, _, err = command("sample", own / "model.safetensors", *extra, "--out", tmp_path / "out")
    assert code == 2
    for word in words:
        assert word in err
    assert not (tmp_path / "out").exists()


def test_train_takes_a_network_of_ones_own(own, tmp_path, command):
    network = f"{own / 'own.py'}:Own"
    run = tmp_path / "run"
    code, _, err = command("train", "--data", "ring", "--run", run, "--network", network, *SMALL)
    assert code == 0, err
    assert command("info", run)[0] == 2
    found = json.loads(command("info", run, "--network", network, "--json")[1])
    assert found["card"]["network"] == {"name": "custom", "class": "own.Own"}


# -- restore


def test_inpainting_keeps_known_pixels_in_the_stored_values(digits_run, tmp_path, command):
    image = np.random.default_rng(0).integers(0, 17, (8, 8), dtype=np.uint8)
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[2:, :5] = 255
    np.save(tmp_path / "in.npy", image)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    out = tmp_path / "out"
    code, _, err = command(
        "restore",
        digits_run,
        *("--input", tmp_path / "in.npy", "--mask", tmp_path / "mask.png", "--out", out),
        *("--method", "inpainting", "--draws", 3, "--levels", 10, "--steps-per-level", 2),
    )
    assert code == 0, err
    draws, known = np.load(out / "restored.npz")["draws"], mask == 255
    assert draws.shape == (1, 3, 1, 8, 8)
    assert draws.dtype == np.uint8
    assert (draws[0, :, 0, known] == image[known][:, None]).all()
    assert not (draws[0, 0, 0, ~known] == draws[0, 1, 0, ~known]).all()
    assert (out / "inpaint.png").exists()
    assert len(list((out / "draws").glob("*.png"))) == 3
    assert json.loads((out / "restore.json").read_text())["nfe"] == 10 * 2 + 1


def test_an_image_file_is_restored_in_its_stored_bytes(tmp_path, command):
    """A model of 8-bit images, and an observation as a PNG."""
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    run, out = tmp_path / "run", tmp_path / "out"
    mlp = ["--set", "network.name=mlp", "--set", "data.image=true", "--precision", "float32"]
    data = tmp_path / "images.npy"
    assert command("train", "--data", data, "--run", run, *SMALL, *mlp)[0] == 0
    Image.fromarray(images[0]).save(tmp_path / "in.png")
    left = np.zeros((8, 8), dtype=np.uint8)
    left[:, :4] = 1
    np.save(tmp_path / "left.npy", left)
    code, _, err = command(
        "restore",
        run,
        *("--input", tmp_path / "in.png", "--mask", tmp_path / "left.npy"),
        *("--out", out, "--draws", 2),
        *("--levels", 6, "--steps-per-level", 1),
    )
    assert code == 0, err
    for k in range(2):
        stored = np.asarray(Image.open(out / "draws" / f"{k:06d}.png"))
        assert stored.dtype == np.uint8
        assert (stored[:, :4] == images[0][:, :4]).all()
        assert not (stored[:, 4:] == images[0][:, 4:]).all()


def test_an_image_file_of_other_levels_than_the_models_is_refused(digits_run, tmp_path, command):
    """Digits have 17 levels; a PNG has 256."""
    picture = np.full((8, 8), 200, dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "in.png")
    out = tmp_path / "out"
    code, _, err = command("restore", digits_run, "--input", tmp_path / "in.png", "--out", out)
    assert code == 2
    assert "0 to 16" in err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mask", "{bad}/mask.npy"], ["(1, 5, 8)", "(1, 8, 8)"]),
        (["--mask", "{bad}/text.npy"], ["not a readable .npy array"]),
        (["--input", "{bad}/absent.npy"], ["no such file"]),
        (["--input", "{bad}/big.npy"], ["(9, 9)", "(1, 8, 8)"]),
        (["--draws", "0"], ["--draws"]),
        (["--method", "paint"], ["inpainting"]),
        (["--redraw", "never"], ["level, step"]),
        (["--option", "speed=3"], ["speed"]),
        (["--steps-per-level", "0"], ["--steps-per-level"]),
        (["--out", "{bad}/in.npy/out"], ["--out must name a folder"]),
    ],
)
def test_bad_restore_input_is_refused_and_writes_nothing(
    digits_run, bad, command, arguments, words
):
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    known = {"--mask": "{bad}/left.npy"} if arguments[0] != "--mask" else {}
    whole = {"--input": "{bad}/in.npy", "--out": "{bad}/out", **known, **given}
    flat = [part.format(bad=bad) for pair in whole.items() for part in pair]
    before = files(bad)
    code, _, err = command("restore", digits_run, *flat)
    assert code == 2
    for word in words:
        assert word in err
    assert files(bad) == before
    assert not (bad / "out").exists()


# -- likelihood


def test_likelihood_measures_the_held_out_part(digits_run, tmp_path, command):
    out = tmp_path / "log_p.json"
    arguments = ["--count", 4, "--divergence", "hutchinson", "--probes", 2, "--rtol", 1e-2]
    arguments += ["--atol", 1e-2, "--threads", 1]
    code, _, err = command("likelihood", digits_run, "--out", out, *arguments)
    assert code == 0, err
    facts = json.loads(out.read_text())
    assert facts["data"]["part"] == "held-out"
    assert len(facts["log_prob"]["values"]) == 4
    assert facts["bits_per_dim"] is not None


@pytest.mark.parametrize("dequantise", ["uniform", "none"])
def test_likelihood_dequantises_only_where_training_did(dequantise):
    """B28: noise was added to the data of a model that had never seen it."""
    dataset = open_data("digits")
    index = torch.arange(20)
    units = fit_units(dataset, index, dequantise=dequantise).units
    network = build("mlp", (1, 8, 8), width=4, depth=1)
    model = Preconditioned(network, (1, 8, 8), units=units)
    x, condition = data_units(model, Chosen(dataset, index, "all"), 0, "none")
    assert condition is None
    stored = dataset.values[index]
    if dequantise == "none":
        assert torch.equal(x, stored.float() / 16)
    else:
        assert torch.equal(quantise(x, 17), stored.long())
        assert (x != stored.float() / 16).all()


def test_likelihood_gives_the_labels_as_condition():
    dataset = open_data("digits")
    index = torch.arange(10)
    specs = {"class": ConditionSpec("class", 10)}
    network = build("mlp", (1, 8, 8), conditions=specs, width=4, depth=1)
    model = Preconditioned(network, (1, 8, 8), conditions=specs)
    _, condition = data_units(model, Chosen(dataset, index, "all"), 0, "class")
    assert torch.equal(condition["class"], dataset.labels[index])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "0"], ["--count"]),
        (["--part", "half"], ["held-out, train, all"]),
        (["--data", "mnist5k"], ["(1, 28, 28)", "(1, 8, 8)"]),
        (["--data", "{other}", "--part", "train"], ["holds other data"]),
        (["--precision", "bfloat16"], ["float32 or float64"]),
        (["--rtol", "0"], ["rtol must be above 0"]),
        (["--probes", "1"], ["--probes"]),
        (["--divergence", "approximate"], ["hutchinson"]),
        (["--condition", "class"], ["trained without a condition"]),
        (["--out", "{out}/log_p.txt"], ["must name a .json file"]),
    ],
)
def test_bad_likelihood_input_is_refused(digits_run, tmp_path, command, arguments, words):
    other = tmp_path / "other.npy"
    np.save(
        other, np.full((4, 8, 8), 3, dtype=np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None]
    )
    arguments = [a.format(out=tmp_path, other=other) for a in arguments]
    out = ["--out", tmp_path / "log_p.json", *arguments]
    before = files(tmp_path)
    code, _, err = command("likelihood", digits_run, *out)
    assert code == 2
    for word in words:
        assert word in err
    assert files(tmp_path) == before


# -- info, settings, help


def test_info_reads_the_card(ring, command):
    code, out, _ = command("info", ring, "--json")
    assert code == 0
    assert json.loads(out)["card"]["event_shape"] == [2]
    assert "mlp" in command("info", ring)[1]


def test_settings_lists_every_setting_with_its_default(command):
    code, out, _ = command("settings")
    assert code == 0
    words = " ".join(out.split())
    for row in settings():
        assert row.name in out
        assert row.description in words
        assert f"(default: {row.default})" in words
    assert "Learning rate." in command("settings", "optim")[1]
    assert "Learning rate." not in command("settings", "data")[1]
    assert command("settings", "datum")[0] == 2
    assert "optim" in json.loads(command("settings", "--schema")[1])["properties"]


def test_help_shows_every_option_and_every_default_in_words(command, monkeypatch):
    """Text such as "[default: all]" inside a help string is markup, which is not shown."""
    monkeypatch.setenv("COLUMNS", "400")
    for name, kind in typer.main.get_command(app).commands.items():
        code, out, _ = command(name, "--help")
        assert code == 0
        words = " ".join(re.sub("[│╭╮╰╯─]", " ", out).split())
        for parameter in kind.params:
            if parameter.name == "help":
                continue
            assert parameter.opts[0].lower() in words.lower()
            assert parameter.help.split(". ")[0] in words
            if isinstance(parameter.show_default, str):
                assert f"[default: ({parameter.show_default})]" in words, parameter.name


def test_the_help_of_sample_lists_every_sampler_and_its_options(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    words = " ".join(command("sample", "--help")[1].split())
    for name, kind in SAMPLERS.items():
        assert f"{name}: {kind.help}" in words
        for option in dataclasses.fields(kind):
            if option.default is None or isinstance(option.default, int | float | bool):
                assert f"{option.name}=" in words


# -- import and figures


def test_import_makes_a_model_that_samples(tmp_path, command):
    from test_interop import random_state, save_original

    path = save_original(tmp_path / "c.pth", random_state("ncsn", (1, 8, 8), 3), "ncsn")
    made, out = tmp_path / "made.safetensors", tmp_path / "out"
    code, printed, err = command(
        "import", path, "--family", "ncsn", "--image-size", 8, "--out", made
    )
    assert code == 0, err
    assert "self-check" in printed
    assert "3 noise levels" in printed
    code, _, err = command("sample", made, "--count", 2, "--steps-per-level", 1, "--out", out)
    assert code == 0, err
    assert samples_of(out).shape == (2, 1, 8, 8)


def test_figures_computes_one_experiment(tmp_path, command):
    out = tmp_path / "figures"
    code, _, err = command("figures", "--only", "1", "--quick", "--threads", 1, "--out", out)
    assert code == 0, err
    assert (out / "figures.md").exists()
    assert json.loads((out / "1_density.json").read_text())["experiment"] == 1
    assert not list(out.glob("2_*"))


# -- invalid input


@pytest.fixture
def bad(tmp_path) -> Path:
    """A folder of files that are wrong in one way each."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures").mkdir()
    for k in range(3):
        picture = Image.fromarray(np.full((8, 8), 40 * k, dtype=np.uint8))
        picture.save(tmp_path / "pictures" / f"{k}.png")
    (tmp_path / "pictures" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    x = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    x[17, 1] = np.nan
    np.save(tmp_path / "nan.npy", x)
    np.save(tmp_path / "in.npy", np.zeros((8, 8), dtype=np.uint8))
    np.save(tmp_path / "big.npy", np.zeros((9, 9), dtype=np.uint8))
    np.save(tmp_path / "mask.npy", np.ones((5, 8), dtype=bool))
    np.save(tmp_path / "left.npy", np.arange(8) < 4 + np.zeros((8, 1)))
    (tmp_path / "text.npy").write_text("no array")
    for name in ("mixed", "clear"):
        (tmp_path / name).mkdir()
    for k in range(2):
        grey, rgba = np.zeros((8 + k, 8), np.uint8), np.full((8, 8, 4), 9, np.uint8)
        Image.fromarray(grey).save(tmp_path / "mixed" / f"{k}.png")
        Image.fromarray(rgba).save(tmp_path / "clear" / f"{k}.png")
    (tmp_path / "blank.csv").write_text("a,b\n1,2\n,3\n4,5\n")
    (tmp_path / "twice.csv").write_text("a,a\n1,2\n3,4\n")
    np.save(tmp_path / "four.npy", np.random.default_rng(0).normal(size=(50, 16, 16, 16)))
    np.savez(tmp_path / "two.npz", alpha=np.ones((50, 3)), beta=np.ones((50, 4)))
    return tmp_path


RING = ["--data", "ring"]
DIGITS = ["--data", "digits"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "missing.npy"], ["missing.npy"]),
        (["--data", "{bad}/empty"], ["no picture"]),
        (["--data", "{bad}/mixed"], ["different sizes", "--size"]),
        (["--data", "{bad}/clear"], ["transparent", "--alpha"]),
        (["--data", "{bad}/clear", "--alpha", "blue"], ["keep, drop, white, black"]),
        (["--data", "{bad}/mixed", "--size", "0"], ["data.size must be at least 1"]),
        (["--data", "{bad}/mixed", "--missing", "drop"], ["is for tables"]),
        (["--data", "{bad}/blank.csv"], ["missing in 1 of 3 rows", "--missing"]),
        (["--data", "{bad}/blank.csv", "--missing", "fill"], ["drop, median"]),
        (["--data", "{bad}/blank.csv", "--columns", "nope"], ["no column 'nope'", "a, b"]),
        (["--data", "{bad}/blank.csv", "--columns", ""], ["data.columns"]),
        (["--data", "{bad}/blank.csv", "--bounds", "maybe"], ["data, none"]),
        (["--data", "{bad}/blank.csv", "--decimal", ".."], ["at most 1 character"]),
        (["--data", "{bad}/blank.csv", "--size", "8"], ["is for folders of pictures"]),
        (["--data", "{bad}/twice.csv"], ["more than one column"]),
        (["--data", "{bad}/four.npy"], ["--channels-last", "--no-channels-last"]),
        (["--data", "{bad}/four.npy", "--range", "5"], ["data.range", "2 or more"]),
        (["--data", "{bad}/four.npy", "--range", "1,2,3"], ["data.range", "at most 2"]),
        (["--data", "{bad}/four.npy", "--range", "a,b"], ["must be a number"]),
        (["--data", "{bad}/two.npz"], ["alpha, beta", "--key"]),
        ([*RING, "--no-header"], ["is for tables"]),
        ([*RING, "--dry-run", "--width", "-3"], ["width"]),
        (["--data", "{bad}/pictures"], ["broken.png", "1 of 4"]),
        (["--data", "{bad}/nan.npy"], ["nan.npy", "row 17"]),
        (["--data", "rnig"], ["ring"]),
        (["--data", ""], ["data.source"]),
        ([*RING, "--budget", "-5s"], ["above 0", "-5s"]),
        ([*RING, "--budget", "soon"], ["90s, 5m or 1.5h", "soon"]),
        ([*RING, "--images", "-10"], ["images must be at least 1", "-10"]),
        ([*RING, "--images", "0"], ["images must be at least 1"]),
        ([*RING, "--images", "1k", "--budget", "5s"], ["Give one of them"]),
        ([*RING, "--preset", "fats"], ["did you mean 'fast'"]),
        ([*RING, "--objective", "denosing"], ["did you mean 'denoising'"]),
        ([*RING, "--set", "optim.name=adm"], ["adamw"]),
        ([*RING, "--set", "optim.lrr=1"], ["did you mean 'lr'"]),
        ([*RING, "--set", "nonsense"], ["NAME=VALUE"]),
        ([*RING, "--seed", "-1"], ["seed must be at least 0"]),
        ([*RING, "--threads", "0"], ["execution.threads must be at least 1"]),
        ([*RING, "--threads", "100000"], ["threads"]),
        ([*RING, "--precision", "float16"], ["float32, bfloat16"]),
        ([*RING, "--compile", "yes"], ["on, off"]),
        ([*RING, "--size", "8"], ["size"]),
        ([*RING, "--key", "x"], ["key"]),
        ([*RING, "--condition", "class"], ["class labels"]),
        ([*RING, "--set", "sampling.options.speed=3"], ["speed"]),
        ([*RING, "--set", "sampling.sampler=huen"], ["did you mean 'heun'"]),
        ([*RING, "--set", "noise.levels=5", "--set", "noise.preconditioner=nscn"], ["ncsn"]),
        ([*RING, "--set", "data.flip=true"], ["flip"]),
        ([*RING, "--network", "own.py"], ["FILE.py:NAME"]),
        ([*DIGITS, "--set", "noise.preconditioner=ncsn", "--plan", "none"], ["noise.levels"]),
        # B7: found only after the folder was made
        ([*DIGITS, "--device", "tpu9"], ["tpu9"]),
        ([*DIGITS, "--device", "tpu"], ["tpu"]),
        (
            [
                *DIGITS,
                *("--set", "noise.preconditioner=ncsn", "--set", "noise.levels=5"),
                *("--set", "noise.sigma_distribution=lognormal"),
            ],
            ["levels"],
        ),
        # B8: tracebacks
        ([*DIGITS, "--width", "16"], ["no option 'width'", "widths"]),
        ([*DIGITS, "--set", "ema.profiles=0.3"], ["ema.profiles", "(0, 0.28)"]),
        ([*DIGITS, "--set", "network.options.foo=1"], ["no option 'foo'"]),
        ([*DIGITS, "--set", "optim.beta1=2"], ["optim.beta1 must be below 1"]),
        # and others of their kind
        ([*DIGITS, "--set", "network.options.widths=wide"], ["widths"]),
        ([*DIGITS, "--set", "network.options.widths=[0]"], ["widths"]),
        ([*DIGITS, "--set", "network.options.patch=-1"], ["patch"]),
        ([*DIGITS, "--preset", "ncsn", "--width", "1"], ["width"]),
        ([*DIGITS, "--preset", "ncsn", "--set", "network.options.variant=x"], ["variant"]),
        ([*RING, "--width", "0"], ["width"]),
        ([*RING, "--width", "wide"], ["--width"]),
        ([*RING, "--preset", "ncsn"], ["units", "[0, 1]"]),
        ([*RING, "--objective", "sliced", "--precision", "bfloat16"], ["float32"]),
        ([*RING, "--objective", "exact", "--compile", "on"], ["off"]),
        ([*RING, "--set", "objective.slices=3"], ["objective.name=sliced"]),
        ([*RING, "--set", "optim.accumulate=2000"], ["optim.accumulate"]),
        ([*RING, "--set", "data.units=unit"], ["[0, 1]"]),
        ([*RING, "--checkpoint-every", "-1"], ["--checkpoint-every"]),
    ],
)
def test_bad_training_input_is_refused_and_writes_nothing(bad, tmp_path, command, arguments, words):
    run = tmp_path / "run"
    code, out, err = command("train", "--run", run, *[a.format(bad=bad) for a in arguments])
    assert code == 2, out + err
    for word in words:
        assert word in err
    assert "Traceback" not in err
    assert not run.exists()


def test_a_command_works_after_its_typo_was_corrected(tmp_path, command):
    """B7: the folder of the refused command blocked the right one."""
    run = tmp_path / "run"
    assert command("train", *RING, "--run", run, *SMALL, "--device", "tpu9")[0] == 2
    code, _, err = command("train", *RING, "--run", run, *SMALL, "--device", "cpu")
    assert code == 0, err


def test_a_run_folder_that_cannot_be_written_is_refused(tmp_path, command):
    (tmp_path / "file").write_text("")
    for run in (tmp_path / "file", tmp_path / "file" / "run"):
        code, _, err = command("train", *RING, "--run", run, *SMALL)
        assert code == 2
        assert "must name a folder" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "-4"], ["--count"]),
        (["--seed", "-1"], ["--seed"]),
        (["--sampler", "huen"], ["id you mean 'heun'"]),
        (["--ladder", "0.1,1,10"], ["must decrease", "flip"]),
        (["--ladder", "1,b"], ["numbers with commas"]),
        (["--ladder", ","], ["numbers with commas"]),
        (["--ladder", "geomtric"], ["geometric"]),
        (["--ladder", "1000,1"], ["sigma must lie in"]),
        (["--levels", "0"], ["--levels"]),  # B4 (c): zero gave the default length
        (["--nfe", "0"], ["--nfe"]),
        (["--steps-per-level", "0"], ["--steps-per-level"]),
        (["--option", "epsilon=0.1"], ["epsilon"]),
        (["--option", "epsilon"], ["NAME=VALUE"]),
        (["--sampler", "annealed-langevin", "--option", "epsilon=-1"], ["epsilon"]),
        (["--sampler", "matched-sde", "--option", "eta=-1"], ["eta"]),
        (["--sampler", "matched-sde", "--option", "eta=much"], ["eta"]),
        (["--nfe", "9", "--ladder", "1,0.1"], ["give one"]),
        (["--start", "nowhere"], ["start"]),
        (["--start", "uniform"], ["images"]),
        (["--final", "maybe"], ["final"]),
        (["--class", "3"], ["condition"]),
        (["--forming"], ["--forming"]),
        (["--interpolate", "-1"], ["--interpolate"]),
        (["--device", "tpu9"], ["tpu9"]),
        (["--precision", "half"], ["float32"]),
        (["--threads", "0"], ["threads"]),
        (["--ema", "0.5"], ["0.5"]),
        (["--network", "own.py:Own"], ["own.py"]),
    ],
)
def test_bad_sampling_input_is_refused_and_writes_nothing(
    ring, tmp_path, command, arguments, words
):
    code, _, err = command("sample", ring, "--out", tmp_path / "out", *arguments)
    assert code == 2, err
    for word in words:
        assert word in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_what_is_no_model_is_refused(tmp_path, command):
    code, _, err = command("sample", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert code == 2
    assert "model.safetensors" in err
    (tmp_path / "fake.safetensors").write_bytes(b"12345678 not a model")
    for name in ("sample", "likelihood", "info"):
        out = [] if name == "info" else ["--out", tmp_path / "out.json"]
        assert command(name, tmp_path / "fake.safetensors", *out)[0] == 2
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--family", "ncsm"], ["ncsn"]),
        (["--family", "ncsn", "--image-size", "big"], ["64 or 96x64"]),
        (["--family", "ncsn", "--image-size", "0"], ["at least 1"]),
        (["--family", "ncsn"], ["not"]),
    ],
)
def test_bad_import_input_is_refused(tmp_path, command, arguments, words):
    (tmp_path / "checkpoint.pth").write_bytes(b"not a checkpoint")
    out = tmp_path / "made.safetensors"
    code, _, err = command("import", tmp_path / "checkpoint.pth", *arguments, "--out", out)
    assert code == 2
    for word in words:
        assert word in err
    assert not out.exists()


@pytest.mark.parametrize("only", ["9", "x", ","])
def test_bad_figures_input_is_refused(tmp_path, command, only):
    assert command("figures", "--out", tmp_path / "out", "--only", only)[0] == 2
    assert not (tmp_path / "out").exists()


# -- the machine


def test_a_full_disk_is_exit_code_1(ring, command, monkeypatch):
    before = files(ring)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = command("sample", ring, "--count", 3, "--out", ring / "samples")
    monkeypatch.undo()
    assert code == 1
    assert "No space left" in err
    assert before == files(ring)


def test_a_real_lack_of_memory_is_exit_code_1(ring, tmp_path, command):
    """B9: torch raises a RuntimeError, which ended in a traceback. 10^15 keys fit no memory."""
    code, _, err = command("sample", ring, "--count", 10**15, "--out", tmp_path / "out")
    assert code == 1
    assert "memory" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), 1),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"), 1),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"), 1),
        (MemoryError(), 1),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
    ],
)
def test_lack_of_memory_is_told_from_errors_of_the_program(
    ring, command, monkeypatch, problem, expected
):
    def fail(*_, **__):
        raise problem

    monkeypatch.setattr(checkpoint, "load", fail)
    if expected is None:
        with pytest.raises(RuntimeError, match="mat1"):
            command("info", ring)
    else:
        code, _, err = command("info", ring)
        assert code == expected
        assert "the machine failed" in err


@pytest.mark.parametrize(
    ("form", "asked", "expected"),
    [
        ("score", None, "bfloat16"),
        ("square", None, "float32"),
        ("scalar", None, "float32"),
        ("square", "bfloat16", "bfloat16"),
    ],
)
def test_energies_sample_in_float32(tmp_path, monkeypatch, form, asked, expected):
    """B22: the gradient of an energy was computed in bfloat16 where the machine is fast in it."""
    monkeypatch.setattr(execution, "bf16_gain", lambda threads: 10.0)
    model = FORMS[form](build("mlp", (1, 4, 4), width=4, depth=1), (1, 4, 4))
    checkpoint.save_model(tmp_path / "model.safetensors", model)
    request = execution_request(precision=asked, threads=1)
    loaded, chosen = ready(tmp_path / "model.safetensors", request)
    assert chosen.precision == expected
    assert loaded.autocast == (torch.bfloat16 if expected == "bfloat16" else None)


# -- the demo


@pytest.fixture
def quick_demo(monkeypatch):
    """Fewer samples and draws."""
    for name, value in {"EACH": 2, "INPUTS": 2, "DRAWS": 2, "STEPS_PER_LEVEL": 1}.items():
        monkeypatch.setattr(demo_module, name, value)
    monkeypatch.setattr(measuring, "COUNTS", {True: 40})
    monkeypatch.setattr(label_classifier, "QUICK", 2000)


def test_the_demo_writes_a_report_and_repairs_a_lost_evaluation(tmp_path, command, quick_demo):
    """B11: a kill in the last evaluation left a run whose every rerun raised StopIteration."""
    run = tmp_path / "demo"
    arguments = ["demo", "--data", "digits", "--budget", "3s", "--run", run]
    arguments += ["--threads", 1, "--precision", "float32", "--compile", "off"]
    code, _, err = command(*arguments)
    assert code == 0, err
    for name in ("report.md", "samples/grid.png", "samples/forming.gif", "restore/inpaint.png"):
        assert (run / name).stat().st_size > 0
    report = (run / "report.md").read_text()
    assert "(evaluation/evaluation.html)" in report
    judged = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert all(line in report for line in judged["verdict"]["lines"])
    assert "digits" in report and "guidance of scale 1.5" in report
    final = final_evaluation(run)
    for name, key in (("the class", "held_out"), ("no class", "unconditional")):
        assert f"| {name} | {final[key]:.4f} ± " in report
    shown = read_layout(run / "samples" / "grid.png")
    assert (shown.count, shown.columns, shown.group) == (40, 4, 2)
    unguided, guided = (np.load(run / name / "samples.npz") for name in ("samples", "guided"))
    assert unguided["class"].tolist() == guided["class"].tolist() == [k // 2 for k in range(20)]
    spent = [
        json.loads((run / name / "samples.json").read_text()) for name in ("samples", "guided")
    ]
    assert spent[1]["nfe"] == 2 * spent[0]["nfe"] and spent[1]["guidance"] == 1.5
    with Image.open(run / "samples" / "forming.gif") as forming:
        assert forming.n_frames > 10 and forming.size[0] < 400
    restored = np.load(run / "restore" / "restored.npz")
    known = np.broadcast_to(restored["mask"], restored["observed"].shape)
    for k in range(2):
        assert (restored["draws"][:, k][known] == restored["observed"][known]).all()
    assert json.loads((run / "restore" / "restore.json").read_text())["class"] == ["1", "3"]
    weights = (run / "model.safetensors").read_bytes()
    lines = Run(run).metrics.read_text().splitlines()
    kept = [line for line in lines if "held_out_by_sigma" not in line]
    Run(run).metrics.write_text("\n".join(kept) + "\n")
    (run / "loss_per_sigma.png").unlink()
    code, _, err = command(*arguments)
    assert code == 0, err
    assert (run / "loss_per_sigma.png").exists()
    assert any("held_out_by_sigma" in record for record in Run(run).records())
    assert (run / "model.safetensors").stat().st_size == len(weights)


def test_a_demo_of_an_older_version_is_refused_with_a_way_out(tmp_path, command, monkeypatch):
    """Such a run has no classes; --restart sets it aside."""
    run = tmp_path / "demo"
    assert call("train", "--data", "digits", "--run", run, *SMALL) == 0
    before = files(run)
    arguments = ["demo", "--data", "digits", "--run", run]
    code, _, err = command(*arguments)
    assert code == 2 and "a run without classes" in err and "--restart" in err
    assert files(run) == before
    taken = []

    def run_training(request, folder, *, restart):
        taken.append((request.condition.kind, folder, restart))
        raise InputError("no training in this test")

    monkeypatch.setattr("scorefield.cli.train.run_training", run_training)
    code, _, err = command(*arguments, "--restart")
    assert code == 2 and "no training in this test" in err
    assert taken == [("class", run, True)]


def test_a_report_without_an_evaluation_is_refused(tmp_path):
    Run(tmp_path).metrics.write_text('{"images": 64, "loss": 1.0}\n')
    with pytest.raises(InputError, match="no final evaluation"):
        final_evaluation(tmp_path)


def test_the_demo_shows_digits_of_different_classes():
    dataset = open_data("digits")
    chosen = demo_module.choose_digits(dataset.labels, torch.arange(200, 400))
    assert len(set(dataset.labels[chosen].tolist())) == demo_module.INPUTS
    few = demo_module.choose_digits(torch.zeros(3, dtype=torch.int64), torch.tensor([2, 1]))
    assert sorted(few.tolist()) == [1, 2]
    assert demo_module.choose_digits(None, torch.arange(9)).tolist() == [0, 1, 2, 3]


# -- the package


def test_import_loads_no_heavy_library():
    heavy = ["matplotlib", "PIL", "sklearn", "mlxtend", "pandas", "typer", "rich", "pydantic"]
    code = f"""
import sys
import scorefield
loaded = [name for name in {heavy!r} if name in sys.modules]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.slow
def test_the_classifier_can_judge():
    """Real digits pass, smooth noise does not: what judges the demo's digits can fail."""
    _, held_out = classifier()
    assert confident(held_out[:64]) >= 60
    assert confident(blurred_noise(64, 7)) < 10
    assert confident(torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))) < 10


@pytest.mark.slow
def test_the_demo_draws_digits(tmp_path):
    """The main job at full length: 80 samples, most of them digits to the classifier."""
    run = tmp_path / "demo"
    subprocess.run(
        [sys.executable, "-m", "scorefield", "demo", "--run", str(run)], check=True, timeout=900
    )
    for name in (
        "model.safetensors",
        "metrics.jsonl",
        "samples/grid.png",
        "samples/forming.gif",
        "restore/inpaint.png",
        "report.md",
    ):
        assert (run / name).stat().st_size > 0
    assert confident(torch.from_numpy(samples_of(run / "samples"))) >= 52
    assert confident(torch.from_numpy(samples_of(run / "guided"))) >= 60
    arrays = np.load(run / "restore" / "restored.npz")
    mask = np.broadcast_to(arrays["mask"], arrays["observed"].shape)
    assert arrays["draws"].shape[:2] == (4, 6)
    for k in range(6):
        assert (arrays["draws"][:, k][mask] == arrays["observed"][mask]).all()
