"""The command line: the whole chain, and every bad input worded, with its exit code and nothing
written.
"""

import errno
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from digit_classifier import blurred_noise, classifier, confident
from scorefield import cli
from scorefield.cli.sample import sample_command
from scorefield.plotting import read_layout
from scorefield.sampling import SAMPLERS

SMALL = ["--images", "640", "--threads", "1", "--set", "optim.batch=64", "--compile", "off"]
TINY_UNET = ["--set", "network.options.widths=[16,16]", "--set", "network.options.depths=[1,1]"]


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command line in this process -> (exit code, standard output, standard error)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["scorefield", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


@pytest.fixture(scope="module")
def ring(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ring") / "run"
    run = [
        sys.executable,
        "-m",
        "scorefield",
        "train",
        "--data",
        "ring",
        "--run",
        str(folder),
        *SMALL,
    ]
    subprocess.run(run, check=True, timeout=300, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "run"
    run = [
        sys.executable,
        "-m",
        "scorefield",
        "train",
        "--data",
        "digits",
        "--run",
        str(folder),
        *SMALL,
        *TINY_UNET,
    ]
    subprocess.run(run, check=True, timeout=300, capture_output=True)
    return folder


def test_train_leaves_a_whole_run(ring):
    for name in ("model.safetensors", "metrics.jsonl", "config.json", "loss_per_sigma.png"):
        assert (ring / name).stat().st_size > 0
    assert list((ring / "previews").glob("*.png"))


def test_sample_writes_arrays_facts_and_a_scatter(ring, tmp_path, command):
    code, _, err = command("sample", ring, "--count", 300, "--seed", 0, "--out", tmp_path / "out")
    assert code == 0, err
    samples = np.load(tmp_path / "out" / "samples.npz")["samples"]
    assert samples.shape == (300, 2)
    facts = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert {"kernel", "ladder", "nfe", "seeds", "seconds", "card_sha256"} <= facts.keys()
    assert facts["kernel"] == "heun"
    assert facts["nfe"] == 2 * (len(facts["ladder"]) - 1) + 1
    with Image.open(tmp_path / "out" / "scatter.png") as picture:
        assert min(picture.size) > 200


def test_the_same_seed_gives_the_same_samples(ring, tmp_path, command):
    drawn = {}
    for name, seed, count in (("a", 0, 40), ("b", 0, 40), ("c", 1, 40), ("d", 0, 8)):
        assert (
            command("sample", ring, "--count", count, "--seed", seed, "--out", tmp_path / name)[0]
            == 0
        )
        drawn[name] = np.load(tmp_path / name / "samples.npz")["samples"]
    assert (drawn["a"] == drawn["b"]).all()
    assert not (drawn["a"] == drawn["c"]).any()
    assert np.allclose(drawn["a"][:8], drawn["d"], rtol=1e-5, atol=1e-5)


def test_sample_images_as_a_grid_and_an_animation(digits, tmp_path, command):
    out = tmp_path / "out"
    assert command("sample", digits, "--count", 9, "--nfe", 7, "--out", out, "--forming")[0] == 0
    samples = np.load(out / "samples.npz")["samples"]
    assert samples.shape == (9, 1, 8, 8)
    assert samples.min() >= 0
    assert samples.max() <= 1
    tile = read_layout(out / "grid.png").tile(np.asarray(Image.open(out / "grid.png")), 4)
    assert (tile.reshape(8, 8, -1)[..., 0] == np.rint(samples[4, 0] * 255)).all()
    with Image.open(out / "forming.gif") as gif:
        assert gif.n_frames >= 3


@pytest.mark.parametrize("dtype", ["png", "npy"])
def test_inpainting_keeps_known_pixels_in_the_stored_bytes(digits, tmp_path, command, dtype):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 8), dtype=np.uint8)
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[2:, :5] = 255
    Image.fromarray(image).save(tmp_path / "in.png")
    np.save(tmp_path / "in.npy", image)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    out = tmp_path / "out"
    arguments = (
        "--mask",
        tmp_path / "mask.png",
        "--draws",
        3,
        "--levels",
        10,
        "--steps-per-level",
        2,
    )
    code, _, err = command(
        "restore",
        digits,
        "--task",
        "inpaint",
        "--input",
        tmp_path / f"in.{dtype}",
        *arguments,
        "--out",
        out,
    )
    assert code == 0, err
    known = mask == 255
    stored = [np.asarray(Image.open(out / "draws" / f"{k:03d}.png").convert("L")) for k in range(3)]
    for draw in stored:
        assert (draw[known] == image[known]).all()
    assert not (stored[0][~known] == stored[1][~known]).all()
    arrays = np.load(out / "restored.npz")
    assert (arrays["draws"][:, :, 0][..., known] == image[known]).all()
    assert (out / "inpaint.png").exists()


def test_info_reads_the_card(ring, command):
    code, out, _ = command("info", ring, "--json")
    assert code == 0
    assert json.loads(out)["event_shape"] == [2]
    assert "mlp" in command("info", ring)[1]


def test_dry_run_prints_what_would_run_and_writes_nothing(tmp_path, command):
    code, out, _ = command(
        "train", "--data", "ring", "--run", tmp_path / "run", "--set", "optim.lr=0.5", "--dry-run"
    )
    assert code == 0
    assert json.loads(out)["optim"]["lr"] == 0.5
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["demo", "train", "sample", "restore", "info"])
def test_help_reads_well(name, command):
    code, out, _ = command(name, "--help")
    assert code == 0
    assert "Usage" in out
    assert len(out.splitlines()) > 8


def test_the_help_of_sample_names_every_sampler():
    """It is written by hand, so that --help need not import them."""
    options = inspect.signature(sample_command).parameters
    assert set(options["sampler"].default.help.split(". ")[0].split(", ")) == set(SAMPLERS)
    assert set(options["eta"].default.help.split(":")[0].split(", ")) == {
        name for name, row in SAMPLERS.items() if row.takes_eta
    }


# -- bad input


@pytest.fixture
def bad(tmp_path) -> Path:
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures").mkdir()
    for k in range(3):
        Image.fromarray(np.full((8, 8), 40 * k, dtype=np.uint8)).save(
            tmp_path / "pictures" / f"{k}.png"
        )
    (tmp_path / "pictures" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
    x = np.ones((50, 3))
    x[17, 1] = np.nan
    np.save(tmp_path / "nan.npy", x)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "missing.npy"], ["missing.npy"]),
        (["--data", "{bad}/empty"], ["no PNG or JPEG"]),
        (["--data", "{bad}/pictures"], ["broken.png", "1 of 4"]),
        (["--data", "{bad}/nan.npy"], ["nan.npy", "row 17"]),
        (["--data", "rnig"], ["ring"]),
        (["--data", "ring", "--budget", "-5s"], ["above zero", "-5s"]),
        (["--data", "ring", "--images", "-10"], ["above zero", "-10"]),
        (["--data", "ring", "--preset", "fats"], ["did you mean 'fast'"]),
        (["--data", "ring", "--objective", "denosing"], ["denoising"]),
        (["--data", "ring", "--set", "optim.name=adm"], ["adamw"]),
    ],
)
def test_bad_training_input_is_worded_and_writes_nothing(bad, tmp_path, command, arguments, words):
    run = tmp_path / "run"
    code, _, err = command("train", "--run", run, *[a.format(bad=bad) for a in arguments])
    assert code == 2
    for word in words:
        assert word in " ".join(err.split())
    assert "Traceback" not in err
    assert not run.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "-4"], ["-4"]),
        (["--sampler", "huen"], ["Did you mean 'heun'"]),
        (["--ladder", "0.1,1,10"], ["must decrease", "flip"]),
        (["--ladder", "1,b"], ["numbers with commas"]),
        (["--ladder", "geomtric"], ["geometric"]),
        (["--ladder", "1000,1"], ["sigma must lie in"]),
        (["--epsilon", "0.1"], ["takes no epsilon"]),
        (["--sampler", "annealed-langevin", "--epsilon", "-1"], ["above zero"]),
    ],
)
def test_bad_sampling_input_is_worded_and_writes_nothing(ring, tmp_path, command, arguments, words):
    code, _, err = command("sample", ring, "--out", tmp_path / "out", *arguments)
    assert code == 2
    for word in words:
        assert word in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_sampling_what_is_no_run(tmp_path, command):
    code, _, err = command("sample", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert code == 2
    assert "model.safetensors" in err
    (tmp_path / "fake.safetensors").write_bytes(b"12345678 not a model")
    assert command("sample", tmp_path / "fake.safetensors", "--out", tmp_path / "out")[0] == 2
    assert not (tmp_path / "out").exists()


def test_a_mask_of_the_wrong_shape(digits, tmp_path, command):
    np.save(tmp_path / "in.npy", np.zeros((8, 8), dtype=np.uint8))
    np.save(tmp_path / "mask.npy", np.ones((5, 8), dtype=bool))
    code, _, err = command(
        "restore",
        digits,
        "--input",
        tmp_path / "in.npy",
        "--mask",
        tmp_path / "mask.npy",
        "--out",
        tmp_path / "out",
    )
    assert code == 2
    assert "(1, 5, 8)" in err
    assert "(1, 8, 8)" in err
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_configuration(ring, command):
    before = sorted((p, p.stat().st_mtime_ns) for p in ring.rglob("*"))
    code, _, err = command("train", "--data", "moons", "--run", ring, *SMALL)
    assert code == 2
    assert "another configuration" in err
    assert "data.source" in err
    assert before == sorted((p, p.stat().st_mtime_ns) for p in ring.rglob("*"))


def test_a_full_disk_is_exit_code_1(ring, command, monkeypatch):
    before = {p: p.read_bytes() for p in ring.rglob("*") if p.is_file()}

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = command("sample", ring, "--count", 3, "--out", ring / "samples")
    monkeypatch.undo()
    assert code == 1
    assert "No space left" in err
    assert before == {p: p.read_bytes() for p in ring.rglob("*") if p.is_file()}


# -- the package


def test_import_is_light():
    """`import scorefield` loads none of the heavy libraries and takes under 0.3 s beyond torch."""
    heavy = ["matplotlib", "PIL", "sklearn", "mlxtend", "pandas", "typer", "rich"]
    code = f"""
import time, torch, sys
start = time.perf_counter()
import scorefield
took = time.perf_counter() - start
loaded = [m for m in {heavy!r} if m in sys.modules]
assert not loaded, loaded
assert took < 0.3, took
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_readmes_python_runs(tmp_path):
    """The ten lines of the README, with a smaller budget."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    code = text.split("```python")[1].split("```")[0]
    assert 'budget="5m"' in code
    small = 'images=1280, settings={"network.options.widths": "[16,16]", "network.options.depths": "[1,1]", "execution.threads": 1}'
    code = code.replace('budget="5m"', small).replace("mnist5k", "digits")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, cwd=tmp_path)


def test_the_classifier_can_judge():
    """Real digits pass, smooth noise does not: the demo's digits are judged by something that can
    fail.
    """
    _, held_out = classifier()
    assert confident(held_out[:64]) >= 60
    assert confident(blurred_noise(64, 7)) < 10
    assert confident(torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))) < 10


@pytest.mark.slow
def test_the_demo_draws_digits(tmp_path):
    """The main job at full length: 64 samples, most of them digits to the classifier."""
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
    samples = torch.from_numpy(np.load(run / "samples" / "samples.npz")["samples"])
    assert confident(samples) >= 42
    arrays = np.load(run / "restore" / "restored.npz")
    mask = np.broadcast_to(arrays["mask"], arrays["observed"].shape)
    assert arrays["draws"].shape[:2] == (4, 6)
    for k in range(6):
        assert (arrays["draws"][:, k][mask] == arrays["observed"][mask]).all()


def test_many_samples_stream_and_batches_change_nothing(ring, tmp_path, command, monkeypatch):
    from scorefield.sampling import api

    assert command("sample", ring, "--count", 50, "--nfe", 9, "--out", tmp_path / "one")[0] == 0
    monkeypatch.setattr(api, "BATCH_ELEMENTS", 2 * 16)
    assert command("sample", ring, "--count", 50, "--nfe", 9, "--out", tmp_path / "many")[0] == 0
    one, many = (np.load(tmp_path / name / "samples.npz")["samples"] for name in ("one", "many"))
    assert many.shape == (50, 2)
    assert np.allclose(one, many, rtol=1e-5, atol=1e-5)


def test_interpolation_goes_from_sample_to_sample(digits, tmp_path, command):
    assert command("sample", digits, "--count", 4, "--nfe", 9, "--out", tmp_path / "ends")[0] == 0
    assert (
        command(
            "sample",
            digits,
            "--count",
            2,
            "--nfe",
            9,
            "--interpolate",
            5,
            "--out",
            tmp_path / "rows",
        )[0]
        == 0
    )
    ends, rows = (np.load(tmp_path / name / "samples.npz")["samples"] for name in ("ends", "rows"))
    rows = rows.reshape(2, 5, 1, 8, 8)
    for r in range(2):
        assert np.allclose(rows[r, 0], ends[2 * r], atol=2e-2)
        assert np.allclose(rows[r, -1], ends[2 * r + 1], atol=2e-2)
        assert np.abs(rows[r, 2] - ends[2 * r]).max() > 0.1


def test_another_width_of_the_average(ring, tmp_path, command):
    code, _, err = command(
        "sample", ring, "--count", 20, "--nfe", 9, "--ema", 0.08, "--out", tmp_path / "out"
    )
    assert code == 0, err
    assert command("sample", ring, "--ema", 0.5, "--out", tmp_path / "bad")[0] == 2


def test_the_ncsn_preset_trains_and_samples_as_the_paper_does(tmp_path, command):
    """A tiny NCSN on digits: its levels, its sampler and its constants come from the preset through
    the card.
    """
    run = tmp_path / "run"
    small = [
        "--width",
        8,
        "--images",
        256,
        "--threads",
        1,
        "--compile",
        "off",
        "--set",
        "optim.batch=32",
    ]
    code, _, err = command("train", "--data", "digits", "--preset", "ncsn", "--run", run, *small)
    assert code == 0, err
    assert (
        command("sample", run, "--count", 2, "--steps-per-level", 2, "--out", tmp_path / "out")[0]
        == 0
    )
    facts = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert facts["kernel"] == "annealed-langevin"
    assert len(facts["ladder"]) == 10
    assert facts["ladder"][0] == 1.0
    assert facts["ladder"][-1] == 0.01
    assert (facts["epsilon"], facts["start"], facts["final"], facts["nfe"]) == (
        2e-5,
        "uniform",
        "none",
        20,
    )
    code, _, err = command(
        "sample", run, "--count", 2, "--sampler", "heun", "--out", tmp_path / "flow"
    )
    assert code == 2
    assert "index" in err
