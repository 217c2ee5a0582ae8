"""`scorefield restore`: every task on tiny runs, measurements of files, and what is refused."""

import csv
import datetime
import json
import math
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import scorefield as sf
from cli_helpers import SMALL, Command, call, files, fix_precision
from scorefield.cli import restore as restore_module
from scorefield.cli.restore_results import QUANTILES, psnr
from scorefield.cli.restore_rows import write_rows
from scorefield.data.table_rows import read_rows
from scorefield.errors import InputError
from scorefield.inverse import METHODS, Measurement
from scorefield.inverse.operators import Blur, Downsample, gaussian_kernel
from scorefield.plotting import read_layout, save_signals

FAST = ["--threads", 1, "--precision", "float32", "--compile", "off"]
FEW = ["--draws", 3, "--nfe", 4, *FAST]
MLP = ["--set", "network.name=mlp", "--set", "network.options.width=8"]


@pytest.fixture(autouse=True)
def _precision(monkeypatch: pytest.MonkeyPatch) -> None:
    fix_precision(monkeypatch)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def few_pixels(folder: Path, count: int, side: int) -> Path:
    """Smooth pictures in colour."""
    folder.mkdir()
    random = np.random.default_rng(0)
    y, x = np.indices((side, side)) / side
    for k in range(count):
        a, b = random.random((2, 3))
        pixels = 255 * (0.2 + 0.6 * (a * x[..., None] + b * y[..., None]) / 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{k:02}.png")
    return folder


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of pictures in colour, 3 x 64 x 64, and a folder of three of them."""
    place = tmp_path_factory.mktemp("colours")
    pictures = few_pixels(place / "pictures", 24, 64)
    few = ["--images", 64, "--threads", 1, "--set", "optim.batch=32", "--compile", "off"]
    run = place / "run"
    given = ["--data", pictures, "--run", run, "--precision", "float32"]
    assert call("train", *given, *few, *MLP) == 0
    (place / "few").mkdir()
    for k in range(3):
        shutil.copy(pictures / f"{k:02}.png", place / "few")
    return run, place / "few"


@pytest.fixture(scope="module")
def signals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A run of signals of 32 elements, and the signals."""
    place = tmp_path_factory.mktemp("signals")
    phase = np.random.default_rng(0).random((200, 1)) * 2 * np.pi
    data = (5 + 3 * np.sin(np.linspace(0, 4 * np.pi, 32) + phase)).astype(np.float32)[:, None]
    np.save(place / "signals.npy", data)
    given = ["--data", place / "signals.npy", "--run", place / "run", "--precision", "float32"]
    assert call("train", *given, *SMALL, *MLP) == 0
    return place / "run", data


def restored(command: Command, run: Path, out: Path, *arguments: object) -> tuple[dict, dict]:
    """The arrays and the facts of a command that succeeds."""
    code, _, err = command("restore", run, "--out", out, *arguments)
    assert code == 0, err
    with np.load(out / "restored.npz") as arrays:
        return dict(arrays), json.loads((out / "restore.json").read_text())


# -- every task on held-out digits

TASKS = {
    "inpaint": (["--mask", "centre"], (1, 8, 8)),
    "noisy inpaint": (["--mask", "random:0.5", "--noise-std", 0.1], (1, 8, 8)),
    "deblur": (["--task", "deblur", "--kernel", "gaussian:1", "--noise-std", 0.1], (1, 8, 8)),
    "motion": (["--task", "deblur", "--kernel", "motion:3,45", "--noise-std", 0.1], (1, 8, 8)),
    "superres": (["--task", "superres", "--factor", 2, "--noise-std", 0.1], (1, 4, 4)),
    "bicubic": (["--task", "superres", "--kernel", "bicubic", "--noise-std", 0.1], (1, 2, 2)),
    "denoise": (["--task", "denoise", "--noise-std", 0.3], (1, 8, 8)),
    "compressed": (["--task", "compressed", "--fraction", 0.25, "--noise-std", 0.1], (16,)),
    "mri": (["--task", "mri", "--acceleration", 2, "--noise-std", 0.1], (1, 32, 2)),
    "counts": (["--task", "denoise", "--poisson", 50], (1, 8, 8)),
    "magnitudes": (["--task", "denoise", "--rician", 0.1], (1, 8, 8)),
}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_on_held_out_examples(
    digits_run: Path, tmp_path: Path, command: Command, name: str
) -> None:
    arguments, shape = TASKS[name]
    out = tmp_path / "out"
    simulated = ["--simulate", "--count", 2, *arguments, *FEW]
    arrays, facts = restored(command, digits_run, out, *simulated)
    assert arrays["draws"].shape == (2, 3, 1, 8, 8) and arrays["draws"].dtype == np.uint8
    assert arrays["draws"].max() <= 16
    assert arrays["observed"].shape == (2, *shape)
    assert arrays["truth"].shape == arrays["mean"].shape == arrays["std"].shape == (2, 1, 8, 8)
    floats = arrays["draws"] / 16
    np.testing.assert_allclose(arrays["mean"], floats.mean(1), atol=1e-6)
    np.testing.assert_allclose(arrays["std"], floats.std(1, ddof=1), atol=1e-6)
    np.testing.assert_allclose(
        arrays["quantiles"], np.quantile(floats, QUANTILES, axis=1).swapaxes(0, 1), atol=1e-6
    )
    assert facts["inputs"] == 2 and facts["draws"] == 3 and facts["nfe"] <= 4
    assert facts["record"]["method"] == facts["method"] in METHODS
    assert facts["record"]["exact_for"] and facts["record"]["reason"]
    truth = arrays["truth"] / 16
    errors = [psnr(((m - t) ** 2).mean()) for m, t in zip(arrays["mean"], truth, strict=True)]
    assert facts["psnr"]["mean"] == pytest.approx(np.mean(errors), abs=1e-4)
    each = [[psnr(((d - t) ** 2).mean()) for d in f] for f, t in zip(floats, truth, strict=True)]
    assert facts["psnr"]["draws"] == pytest.approx(np.mean(each), abs=1e-4)
    exact = name == "inpaint"
    assert (facts["chi2"] is None) == exact
    if not exact:
        low, high = facts["chi2"]["expected"]
        assert 0 <= low < 1 < high and len(facts["chi2"]["per_input"]) == 2
        assert arrays["chi2"].shape == (2, 3)
    sheet = "inpaint.png" if "inpaint" in name else "restored.png"
    columns = read_layout(out / sheet).columns
    assert columns == 1 + 1 + 3 + 2  # truth, observed, draws, mean and deviation
    assert len(list((out / "draws").glob("*.png"))) == 6


def test_known_pixels_are_exact_in_the_stored_bytes(
    digits_run: Path, tmp_path: Path, command: Command
) -> None:
    given = ["--simulate", "--count", 2, "--mask", "half", *FEW]
    arrays, _ = restored(command, digits_run, tmp_path / "out", *given)
    known = np.broadcast_to(arrays["mask"], (1, 8, 8))
    assert known[..., :4].all() and not known[..., 4:].any()
    for k in range(3):
        assert (arrays["draws"][:, k][:, known] == arrays["truth"][:, known]).all()
    assert not (arrays["draws"][:, :, ~known] == arrays["truth"][:, None, ~known]).all()


def test_masks_by_name_hide_what_they_say(
    digits_run: Path, tmp_path: Path, command: Command
) -> None:
    shares = {"half": 0.5, "centre": 0.75, "random:0.8": 0.2}
    for name, share in shares.items():
        given = ["--simulate", "--count", 1, "--mask", name, *FEW, "--force"]
        arrays, _ = restored(command, digits_run, tmp_path / "out", *given)
        assert arrays["mask"].mean() == pytest.approx(share, abs=0.01)


def test_simulated_noise_is_that_of_the_seed_and_of_the_stated_size(
    digits_run: Path, tmp_path: Path, command: Command
) -> None:
    given = ["--task", "denoise", "--noise-std", 0.3, "--simulate", "--count", 40]
    quick = ["--draws", 1, "--nfe", 2, *FAST]
    found = [
        restored(command, digits_run, tmp_path / f"{k}", *given, *quick, "--seed", seed)[0]
        for k, seed in enumerate((0, 0, 1))
    ]
    assert np.array_equal(found[0]["observed"], found[1]["observed"])
    assert not (found[0]["observed"] == found[2]["observed"]).any()
    # Stored values enter at the middle of their bin, where training saw them.
    noise = (found[0]["observed"] - (found[0]["truth"] + 0.5) / 17) / 0.3
    assert abs(noise.mean()) < 4.5 / math.sqrt(noise.size)
    assert abs((noise**2).mean() - 1) < 4.5 * math.sqrt(2 / noise.size)
    assert np.isnan(found[0]["std"]).all()  # of one draw


# -- measurements of files


def test_a_small_picture_is_taken_for_superres(
    digits_run: Path, tmp_path: Path, command: Command
) -> None:
    coarse = np.random.default_rng(0).integers(0, 17, (2, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "coarse.npy", coarse)
    given = ["--task", "superres", "--factor", 2, "--input", tmp_path / "coarse.npy", *FEW]
    arrays, facts = restored(command, digits_run, tmp_path / "out", *given)
    assert np.array_equal(arrays["observed"][:, 0], coarse)
    assert arrays["draws"].dtype == np.uint8 and "truth" not in arrays and "psnr" not in facts
    assert facts["chi2"] is not None  # the rounding of 17 levels is the noise
    single = tmp_path / "one.npy"
    np.save(single, coarse[0])
    alone, _ = restored(command, digits_run, tmp_path / "one", *given[:5], single, *FEW)
    assert np.array_equal(alone["draws"][0], arrays["draws"][0])


def test_rounding_is_the_noise_of_whole_numbers_where_none_is_stated(
    digits_run: Path, tmp_path: Path, command: Command
) -> None:
    np.save(tmp_path / "in.npy", np.full((8, 8), 5, np.uint8))
    given = ["restore", digits_run, "--input", tmp_path / "in.npy", "--out", tmp_path / "out"]
    blur = ["--task", "deblur", "--kernel", "gaussian:1", *FEW, "--dry-run"]
    code, printed, err = command(*given, *blur)
    assert code == 0, err
    assert f"{1 / (17 * math.sqrt(12)):.2g}" in printed and "rounding" in printed
    np.save(tmp_path / "in.npy", np.full((8, 8), 0.31))
    code, printed, err = command(*given, *blur)
    assert code == 0, err
    assert "taken for exact" in printed


def test_a_grey_picture_is_taken_for_colour(
    colours: tuple[Path, Path], tmp_path: Path, command: Command
) -> None:
    run, few = colours
    grey = tmp_path / "grey"
    grey.mkdir()
    for path in sorted(few.iterdir()):
        Image.open(path).convert("L").save(grey / path.name)
    given = ["--task", "colorize", "--input", grey, "--noise-std", 0.05, *FEW, "--draws", 2]
    arrays, facts = restored(command, run, tmp_path / "out", *given)
    assert arrays["observed"].shape == (3, 1, 64, 64) and arrays["observed"].dtype == np.uint8
    assert arrays["draws"].shape == (3, 2, 3, 64, 64) and arrays["draws"].dtype == np.uint8
    assert facts["inputs"] == 3
    written = sorted((tmp_path / "out" / "draws").glob("*.png"))
    assert len(written) == 6 and np.asarray(Image.open(written[0])).shape == (64, 64, 3)


def test_a_folder_of_pictures_in_colour_is_measured_and_restored(
    colours: tuple[Path, Path], tmp_path: Path, command: Command
) -> None:
    run, few = colours
    blur = ["--task", "deblur", "--kernel", "motion:9,30", "--noise-std", 0.02]
    given = ["--input", few, "--simulate", *blur, *FEW, "--draws", 2]
    arrays, facts = restored(command, run, tmp_path / "out", *given)
    clean = np.stack([np.asarray(Image.open(p)).transpose(2, 0, 1) for p in sorted(few.iterdir())])
    assert np.array_equal(arrays["truth"], clean)
    assert facts["psnr"]["mean"] > 5 and facts["operator"].startswith("Blur")
    hidden = ["--input", few, "--mask", "half", "--count", 2, *FEW, "--draws", 2, "--simulate"]
    arrays, _ = restored(command, run, tmp_path / "half", *hidden)
    assert arrays["draws"].shape == (2, 2, 3, 64, 64)
    assert np.array_equal(arrays["draws"][:, 0, ..., :32], clean[[0, 2], ..., :32])


def test_measurements_of_another_shape_come_as_arrays(
    digits_run: Path, tmp_path: Path, command: Command
) -> None:
    model = sf.load(digits_run)
    operator = sf.operators.RandomProjection(16, (1, 8, 8))
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    np.save(tmp_path / "y.npy", operator.A(x).numpy())
    y = ["--input", tmp_path / "y.npy", "--noise-std", 0.1, *FEW]
    arrays, facts = restored(
        command, digits_run, tmp_path / "out", "--task", "compressed", "--fraction", 0.25, *y
    )
    options = {"nfe": 4}
    method = facts["method"]
    seen = Measurement(operator.A(x), operator, 0.1)
    direct = sf.restore(model, seen, 3, method=method, options=options)
    np.testing.assert_allclose(arrays["draws"], direct.draws.numpy(), atol=1e-4)
    grid = sf.operators.Fourier(ndim=2)
    whole = torch.view_as_complex(grid.A(x))[:, 0].numpy()
    sampled = np.zeros((8, 8), dtype=bool)
    sampled[:, [1, 3, 4, 5]] = True
    np.save(tmp_path / "k.npy", whole)
    np.save(tmp_path / "sampled.npy", sampled)
    mri = ["--task", "mri", "--mask", tmp_path / "sampled.npy", "--input", tmp_path / "k.npy"]
    arrays, _ = restored(command, digits_run, tmp_path / "mri", *mri, "--noise-std", 0.1, *FEW)
    expected = sf.operators.Fourier(torch.from_numpy(sampled)).A(x)
    np.testing.assert_allclose(arrays["observed"], expected.numpy(), atol=1e-12)


def test_signals_take_the_same_path(
    signals: tuple[Path, np.ndarray], tmp_path: Path, command: Command
) -> None:
    run, data = signals
    gap = data[:3].copy()
    gap[:, :, 8:20] = np.nan
    np.save(tmp_path / "gap.npy", gap)
    arrays, facts = restored(command, run, tmp_path / "gap", "--input", tmp_path / "gap.npy", *FEW)
    known = ~np.isnan(gap)
    assert arrays["draws"].shape == (3, 3, 1, 32) and arrays["draws"].dtype == np.float32
    assert (arrays["draws"][:, 0][known] == gap[known]).all()
    assert (tmp_path / "gap" / "restored.png").exists()
    for task in (["superres", "--factor", 4], ["deblur", "--kernel", "gaussian:2"]):
        given = ["--task", *task, "--noise-std", 0.1, "--simulate", "--count", 2, *FEW]
        arrays, facts = restored(command, run, tmp_path / task[0], *given)
        assert arrays["truth"].shape == (2, 1, 32) and "psnr" not in facts
        each = arrays["mean"] - arrays["truth"]
        assert facts["rmse"]["mean"] == pytest.approx(math.sqrt((each**2).mean()), rel=1e-3)
    assert "psnr" not in facts and 2 < arrays["truth"].mean() < 8  # in data units


def test_rows_of_a_table_have_no_other_tasks(tmp_path: Path, command: Command) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{x:.3f},{x + y:.3f}" for x, y in rng.normal(size=(100, 2))]
    (tmp_path / "t.csv").write_text("\n".join(["a,b", *lines]) + "\n")
    run = tmp_path / "run"
    assert call("train", "--data", tmp_path / "t.csv", "--run", run, *SMALL, *MLP) == 0
    out = ["restore", run, "--out", tmp_path / "out", "--given", "a=0.5", *FEW]
    code, _, err = command(*out, "--task", "denoise", "--noise-std", 0.1)
    assert code == 2 and "sf.restore" in err
    assert not (tmp_path / "out").exists()
    assert command(*out)[0] == 0
    assert (tmp_path / "out" / "draws.csv").exists()


# -- operators of one's own

OWN = """
import torch

class Halves:
    def A(self, x):
        return (x[..., ::2] + x[..., 1::2]) / 2

    def A_adjoint(self, y):
        return y.repeat_interleave(2, -1) / 2

operator = Halves()
noise_std = 0.1
"""
MADE = """
import scorefield as sf

def operator(event_shape):
    return sf.operators.RandomProjection(8, event_shape)

noise = sf.inverse.GaussianNoise(0.1)
"""


@pytest.mark.parametrize(("text", "shape"), [(OWN, (1, 8, 4)), (MADE, (8,))])
def test_an_operator_of_a_file(
    digits_run: Path, tmp_path: Path, command: Command, text: str, shape: tuple[int, ...]
) -> None:
    (tmp_path / "own.py").write_text(text)
    given = ["--operator", tmp_path / "own.py", "--simulate", "--count", 2, *FEW]
    arrays, facts = restored(command, digits_run, tmp_path / "out", *given)
    assert arrays["observed"].shape == (2, *shape)
    assert facts["task"] is None and facts["chi2"] is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n", "must define `operator`"),
        ("raise RuntimeError('no')\n", "fails: RuntimeError: no"),
        (OWN.replace("/ 2\n\noper", "\n\noper"), "not the adjoint"),
        (OWN.replace("Halves()", "Halves"), "is a class"),
        (OWN + "noise = 3\n", "law of the noise"),
        ("def operator(shape):\n    return shape[9]\n", "IndexError"),
        ("operator = 'blur'\n", "needs an object with A"),
    ],
)
def test_a_file_without_a_usable_operator_is_refused(
    digits_run: Path, tmp_path: Path, command: Command, text: str, words: str
) -> None:
    (tmp_path / "own.py").write_text(text)
    given = ["--operator", tmp_path / "own.py", "--simulate", "--count", 2, *FEW]
    code, _, err = command("restore", digits_run, "--out", tmp_path / "out", *given)
    assert code == 2, err
    assert words in err
    assert not (tmp_path / "out").exists()


# -- kernels


def test_kernels_of_files_sum_to_one(digits_run: Path, tmp_path: Path, command: Command) -> None:
    weights = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], dtype=np.uint8)
    np.save(tmp_path / "k.npy", weights)
    Image.fromarray(weights * 20).save(tmp_path / "k.png")
    found = []
    for name in ("k.npy", "k.png"):
        given = ["--task", "deblur", "--kernel", tmp_path / name, "--noise-std", 0.1]
        out = tmp_path / name.replace(".", "_")
        arrays, _ = restored(command, digits_run, out, *given, "--simulate", "--count", 2, *FEW)
        found.append(arrays)
    assert np.array_equal(found[0]["draws"], found[1]["draws"])
    clean = (torch.from_numpy(found[0]["truth"]).double() + 0.5) / 17
    blurred = Blur(torch.from_numpy(weights / 8.0), "reflect").A(clean).numpy()
    assert abs((found[0]["observed"] - blurred).std() - 0.1) < 0.1 * 4.5 / math.sqrt(2 * 128)


def test_superres_and_deblur_measure_what_the_operators_do(
    digits_run: Path, tmp_path: Path, command: Command
) -> None:
    for task, operator in (
        (["superres", "--factor", 2], Downsample(2)),
        (["deblur", "--kernel", "gaussian:0.8"], Blur(gaussian_kernel(0.8), "reflect")),
    ):
        given = ["--task", *task, "--noise-std", 1e-6, "--simulate", "--count", 2, *FEW]
        arrays, _ = restored(command, digits_run, tmp_path / task[0], *given)
        clean = (torch.from_numpy(arrays["truth"]).double() + 0.5) / 17
        np.testing.assert_allclose(arrays["observed"], operator.A(clean).numpy(), atol=1e-5)


# -- draws past memory, plans, help


def test_draws_past_the_limit_are_streamed(
    digits_run: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["--simulate", "--count", 3, "--task", "denoise", "--noise-std", 0.2, *FEW]
    kept, facts = restored(command, digits_run, tmp_path / "kept", *given)
    monkeypatch.setattr(restore_module, "MOST_KEPT", 100)
    streamed, other = restored(command, digits_run, tmp_path / "streamed", *given)
    assert "draws" not in streamed and not (tmp_path / "streamed" / "draws").exists()
    draws = np.load(tmp_path / "streamed" / "draws.npy", mmap_mode="r")
    assert np.array_equal(draws, kept["draws"]) and draws.dtype == kept["draws"].dtype
    for name in ("mean", "std", "quantiles", "chi2"):
        assert np.array_equal(streamed[name], kept[name])
    assert facts["psnr"] == other["psnr"]
    assert (tmp_path / "streamed" / "restored.png").exists()


def test_a_failure_leaves_nothing_half_written(
    digits_run: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore_module, "MOST_KEPT", 100)
    given = ["--simulate", "--count", 2, "--task", "denoise", "--noise-std", 0.2]
    refused = ["--nfe", 4, "--method", "ddnm", "--option", "speed=3", *FAST]
    out = ["--out", tmp_path / "out"]
    assert command("restore", digits_run, *given, *refused, *out)[0] == 2
    assert not (tmp_path / "out").exists()

    def broken(taker: object, n: int, draws: object) -> None:
        raise InputError("the disk is full")

    monkeypatch.setattr(restore_module.Taker, "__call__", broken)
    assert command("restore", digits_run, *given, *FEW, *out)[0] == 2
    assert not (tmp_path / "out").exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    digits_run: Path, tmp_path: Path, command: Command
) -> None:
    given = ["--simulate", "--task", "denoise", "--noise-std", 0.2, "--draws", 5]
    out = ["--out", tmp_path / "out", "--dry-run"]
    code, printed, err = command("restore", digits_run, *given, *out, *FAST)
    assert code == 0, err
    assert re.search(r"method [\w-]+ \(.+\): \d+ evaluations a draw, about", printed)
    assert "for 30 draws" in printed
    assert not (tmp_path / "out").exists()
    code, printed, _ = command("restore", digits_run, *given, *out, *FAST, "--json")
    assert json.loads(printed)["plan"]["evaluations"] <= 100


def test_the_plan_is_printed_before_the_draws(
    digits_run: Path, tmp_path: Path, command: Command
) -> None:
    given = ["--simulate", "--count", 1, "--task", "denoise", "--noise-std", 0.2, *FEW]
    code, printed, err = command("restore", digits_run, *given, "--out", tmp_path / "out")
    assert code == 0, err
    assert (
        printed.index("evaluations a draw, about") < printed.index("chi2 ") < printed.index("PSNR")
    )
    code, printed, err = command(
        "restore", digits_run, *given, "--out", tmp_path / "out", "--force", "--quiet"
    )
    assert (code, printed, err) == (0, "", "")


def test_help_lists_methods_and_tasks(command: Command) -> None:
    code, printed, _ = command("restore", "--help")
    words = " ".join(printed.replace("│", " ").split())
    assert code == 0
    for name, method in METHODS.items():
        assert f"{name}: {method.help.split('.')[0]}" in words
        for option in method.options:
            assert option in words
    for task in ("inpaint", "deblur", "superres", "denoise", "colorize", "compressed", "mri"):
        assert f"{task}:" in words
    assert "is executed" in words


PAGE = Path(__file__).parent.parent / "docs" / "restore.md"


def test_commands_of_the_page_are_valid(
    digits_run: Path, colours: tuple[Path, Path], tmp_path: Path, command: Command
) -> None:
    """Those that made its pictures; its other blocks run in test_docs.py."""
    runs = {"runs/digits": digits_run, "runs/colour": colours[0]}
    lines = re.findall(r"^    scorefield (restore .*--simulate.*)$", PAGE.read_text(), re.M)
    pictures = [line.split()[-1] for line in lines]
    assert len(lines) >= 9
    for line in lines:
        if "runs/photos" in line:  # a model of its own folder, which the page makes
            continue
        words = [runs.get(word, word) for word in shlex.split(line)]
        words[words.index("--out") + 1] = tmp_path / "out"
        code, printed, err = command(*words, *FAST, "--dry-run")
        assert code == 0, f"{line}: {err}"
        assert "evaluations a draw" in printed
    for name in pictures:
        assert f"pictures/restore_{name}.png" in PAGE.read_text()
        assert (PAGE.parent / "pictures" / f"restore_{name}.png").exists()


# -- what is refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "sharpen"], ["inpaint", "colorize"]),
        (["--task", "denoise", "--operator", "own.py"], ["--task or --operator"]),
        (["--task", "denoise", "--simulate"], ["--noise-std"]),
        (["--task", "deblur", "--simulate"], ["--kernel"]),
        (["--task", "deblur", "--kernel", "gaussian"], ["gaussian:1.5"]),
        (["--task", "deblur", "--kernel", "gaussian:-1"], ["sigma"]),
        (["--task", "deblur", "--kernel", "absent.npy"], ["absent.npy", "no such file"]),
        (["--task", "deblur", "--kernel", "bicubic"], ["superres"]),
        (["--task", "deblur", "--kernel", "gaussian:1", "--padding", "odd"], ["padding"]),
        (["--task", "superres", "--factor", "3", "--simulate"], ["(3, 3)", "8"]),
        (["--task", "superres", "--kernel", "gaussian:1", "--padding", "valid"], ["valid"]),
        (["--task", "colorize", "--simulate"], ["(3, height, width)", "(1, 8, 8)"]),
        (["--task", "compressed", "--fraction", "1.5"], ["at most 1"]),
        (["--task", "mri", "--acceleration", "0.5", "--simulate"], ["acceleration"]),
        (["--task", "mri", "--acceleration", "2", "--fraction", "0.5"], ["give one of"]),
        (["--task", "denoise", "--noise-std", "-1", "--simulate"], ["noise_std"]),
        (["--task", "denoise", "--noise-std", "1", "--poisson", "3"], ["one law"]),
        (["--task", "denoise", "--noise-std", "1", "--factor", "3"], ["--factor", "superres"]),
        (["--mask", "random:2", "--simulate"], ["between 0 and 1"]),
        (["--mask", "absent.png", "--simulate"], ["absent.png"]),
        (["--simulate"], ["--mask"]),
        (["--task", "denoise", "--noise-std", "1"], ["--simulate"]),
        (["--task", "denoise", "--noise-std", "1", "--input", "{bad}/nothing"], ["no such file"]),
        (["--task", "denoise", "--noise-std", "1", "--input", "{bad}/wide.npy"], ["(1, 8, 8)"]),
        (["--task", "compressed", "--input", "{bad}/wide.npy"], ["(16,)", "(9, 9)"]),
        (["--task", "denoise", "--poisson", "9", "--input", "{bad}/small.npy"], ["counts"]),
        (["--operator", "{bad}/own.txt", "--simulate"], ["FILE.py"]),
        (["--operator", "{bad}/absent.py", "--simulate"], ["absent.py"]),
        (["--redraw", "step", "--task", "denoise", "--noise-std", "1", "--simulate"], ["Mask"]),
        (["--method", "ddrm", "--task", "denoise", "--poisson", "9", "--simulate"], ["ddrm"]),
    ],
)
def test_bad_options_are_refused_and_nothing_is_written(
    digits_run: Path, tmp_path: Path, command: Command, arguments: list[str], words: list[str]
) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((9, 9)))
    np.save(tmp_path / "small.npy", np.full((8, 8), 0.5))
    (tmp_path / "own.txt").write_text("operator = 1\n")
    given = [argument.format(bad=tmp_path) for argument in arguments]
    before = files(tmp_path)
    out = tmp_path / "out"
    code, printed, err = command("restore", digits_run, *given, "--out", out, *FAST)
    assert code == 2, printed
    for word in words:
        assert word in err, err
    assert "Traceback" not in err
    assert files(tmp_path) == before and not out.exists()


# -- signals as a picture


def test_signals_become_panels(tmp_path: Path) -> None:
    draws = np.random.default_rng(0).normal(size=(3, 5, 2, 40))
    mean, band = draws.mean(1), (draws.min(1), draws.max(1))
    seen = mean.copy()
    seen[..., 10:20] = np.nan
    path = save_signals(tmp_path / "a.png", mean, seen, draws, mean, band, "three signals")
    with Image.open(path) as picture:
        assert picture.size[0] > 900 and picture.size[1] > 500
    plain = save_signals(
        tmp_path / "b.png",
        None,
        None,
        draws[:1, :, 0],
        mean[:1, 0],
        (band[0][:1, 0], band[1][:1, 0]),
    )
    assert plain.exists()
    for bad in (mean[:2], mean[0]):
        with pytest.raises(InputError, match="3 signals of 2 channels"):
            save_signals(tmp_path / "c.png", bad, None, draws, mean, band)


# -- known cells of tables


@pytest.fixture(scope="module")
def rows_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a table with a column of each kind."""
    place = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    lines = ["age,sex,visit,dose,len,site,unit,zip"]
    for k in range(120):
        day = np.datetime64("2020-01-01") + int(rng.integers(0, 400))
        cells = [rng.integers(18, 90), "fm"[k % 2], day, [1, 2, 5, 10][k % 4]]
        lines.append(",".join(map(str, [*cells, f"{170 + k / 10:.1f}", 7, "kg", f"0{k % 3}"])))
    (place / "rows.csv").write_text("\n".join(lines) + "\n")
    given = ["--data", place / "rows.csv", "--run", place / "run", "--precision", "float32"]
    assert call("train", *given, *SMALL, *MLP) == 0
    return place / "run"


def cells(file: Path) -> list[dict[str, str]]:
    """The rows of a text table, every cell as it is written."""
    return list(csv.DictReader(file.open()))


OUTSIDE = {  # a known cell, and what is said of it; none: the training data have it
    "age=95": "age: the given value 95 is outside the range of the training data, ",
    "age=300": "age: the given value 300 is outside the range of the training data, ",
    "visit=2030-05-05": "visit: the given value 2030-05-05 is outside the range of the training",
    "dose=7": "dose: the given value 7 is no value of the training data, which hold 1, 2, 5, 10",
    "len=170.123": "len: the given value 170.123 is between the values of the training data",
    "age=40": "",
    "visit=2020-02-29": "",
    "dose=5": "",
    "len=170.1": "",
    "zip=01": "",  # no number
    "site=7": "",
    "unit=kg": "",
}


@pytest.mark.parametrize("way", ["given", "input"])
@pytest.mark.parametrize("text", OUTSIDE)
def test_known_cells_are_written_as_given(
    rows_run: Path, tmp_path: Path, command: Command, text: str, way: str
) -> None:
    name, value = text.split("=")
    given = ["--given", text]
    if way == "input":
        head = "age,sex,visit,dose,len,site,unit,zip"
        row = ",".join(value if column == name else "" for column in head.split(","))
        (tmp_path / "in.csv").write_text(f"{head}\n{row}\n")
        given = ["--input", tmp_path / "in.csv"]
    out = tmp_path / "out"
    code, printed, err = command("restore", rows_run, "--out", out, *given, *FEW)
    assert code == 0, err
    assert OUTSIDE[text] in printed and ("given value" in printed) == bool(OUTSIDE[text])
    restored = cells(out / "restored.csv")
    assert [row[name] for row in restored] == [value] and f"{name} sd" not in restored[0]
    assert [row[name] for row in cells(out / "draws.csv")] == [value] * 3
    with np.load(out / "restored.npz") as arrays:
        known = ~np.isnan(arrays["observed"][0])
        for mean, row in ((arrays["mean"], 0), (arrays["quantiles"][:, 1], 0)):
            assert np.array_equal(mean[row][known], arrays["observed"][row][known])
        assert (arrays["std"][0][known] == 0).all() and (arrays["std"][0][~known] > 0).any()


def test_known_cells_keep_their_types_beside_blank_ones(
    rows_run: Path, tmp_path: Path, command: Command
) -> None:
    text = "age,sex,visit,dose,len,site,unit,zip\n95,f,,,,,,\n,m,2030-05-05,7,,,,\n"
    (tmp_path / "in.csv").write_text(text)
    out = tmp_path / "out"
    given = ["--input", tmp_path / "in.csv", "--format", "parquet"]
    code, printed, err = command("restore", rows_run, "--out", out, *given, *FEW)
    assert code == 0, err
    assert printed.count("given value") == 3
    found = pq.read_table(out / "restored.parquet").to_pylist()
    assert found[0]["age"] == 95 and found[0]["age sd"] == 0
    assert found[1]["dose"] == 7 and found[1]["visit"] == datetime.date(2030, 5, 5)
    draws = pq.read_table(out / "draws.parquet")
    assert draws["age"].to_pylist()[:3] == [95] * 3
    assert draws["dose"].to_pylist()[3:] == [7] * 3
    assert min(draws["age"].to_pylist()[3:]) >= 18
    assert set(draws["dose"].to_pylist()[:3]) <= {1, 2, 5, 10}


def test_columns_of_the_table_are_not_overwritten_by_those_of_the_draws(tmp_path: Path) -> None:
    frame = {"row": np.arange(60) / 7, "a": np.arange(60) / 9, "a sd": np.arange(60) / 11}
    form = sf.data.open(frame).form
    known = read_rows(form, {"row": [2.5], "a": [None], "a sd": [None]}, blanks=True)
    draws = torch.where(known.values.isnan(), torch.tensor([[[0, 1, 2], [0, 2, 4]]]), known.values)
    write_rows(form, known.values, known.table, draws.double(), tmp_path, "csv")
    (restored,) = cells(tmp_path / "restored.csv")
    assert restored["a"] == "1.5" and restored["a sd"] == "3.0"
    assert float(restored["a sd_"]) == pytest.approx(math.sqrt(0.5))
    drawn = cells(tmp_path / "draws.csv")
    assert [(row["row_"], row["draw"], row["row"]) for row in drawn] == [
        ("0", "0", "2.5"),
        ("0", "1", "2.5"),
    ]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("site=9", ["'site'", "'9'", "constant", "'7'"]),
        ("unit=lb", ["'unit'", "'lb'", "constant", "'kg'"]),
        ("age=nan", ["--given age", "'nan'", "missing value"]),
        ("age=30.5", ["--given age", "30.5", "whole numbers"]),
        ("age=old", ["--given age", "'old'", "not numbers"]),
        ("visit=2020-02-30", ["--given visit", "not a date of the calendar"]),
        ("visit=2020-02-29 13:45", ["--given visit", "2020-02-29 13:45:00", "whole dates"]),
        ("zip=1", ["--given zip", "'1'", "'00'"]),
        ("len=170,1", ["--given len", "--decimal ,"]),
    ],
)
def test_cells_that_no_row_of_the_model_can_have_are_refused(
    rows_run: Path, tmp_path: Path, command: Command, text: str, pieces: list[str]
) -> None:
    out = tmp_path / "out"
    code, _, err = command("restore", rows_run, "--out", out, "--given", text, *FEW)
    assert code == 2 and not out.exists()
    for piece in pieces:
        assert piece in err


def test_a_row_without_a_blank_is_refused(rows_run: Path, tmp_path: Path, command: Command) -> None:
    every = ["age=40", "sex=f", "visit=2020-03-01", "dose=5", "len=171", "site=7", "unit=kg"]
    given = [part for text in [*every, "zip=01"] for part in ("--given", text)]
    code, _, err = command("restore", rows_run, "--out", tmp_path / "out", *given, *FEW)
    assert code == 2 and "nothing to restore" in err


def test_restorations_of_rows_in_python_keep_known_values(
    rows_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = sf.load(rows_run)
    form = sf.data.form_of(model.card)
    names = list(form.element_names)
    rows = torch.full((1, len(names)), math.nan, dtype=torch.float64)
    rows[0, names.index("age")] = 95.3
    capsys.readouterr()
    found = sf.restore(model, Measurement(rows), 3, nfe=2)
    assert "age: the given value 95.3 is outside the range" in capsys.readouterr().err
    known = ~rows.isnan()
    for part in (found.mean, found.quantile(0.3)):
        assert torch.equal(part[known], rows[known])
    assert (found.std[known] == 0).all() and "<td>95.3</td>" in found._repr_html_()
    drawn = found.view._table(found.draws[0], found._known(found.draws[0]))
    assert drawn["age"].to_pylist() == [95.3] * 3
    assert max(form.decode(found.draws[0])["age"].to_pylist()) < 90  # what decoding makes of it
    rows[0, names.index("age")] = 40
    sf.restore(model, Measurement(rows), 3, nfe=2)
    assert "given value" not in capsys.readouterr().err
    rows[0, names.index("site")] = 9
    with pytest.raises(InputError, match=r"holds 9 in 'site', and every example .* has 7 there"):
        sf.restore(model, Measurement(rows), 3, nfe=2)
