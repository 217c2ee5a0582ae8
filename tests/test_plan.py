"""Plans: NCSNv2's techniques, scales from distances, warnings, files, and `train --plan`."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from bench import planned as bench_planned
from PIL import Image

import scorefield as sf
from cli_helpers import Command, fix_precision
from scorefield import noise, planning
from scorefield.config import override, preset, resolve, resolve_with_reasons, sizes
from scorefield.data import Pipeline, distances, fit_units, split
from scorefield.errors import InputError
from scorefield.planning import checks, rows
from scorefield.runs import Run
from scorefield.training import Hooks, choices, trainer
from scorefield.training import cost as cost_module
from scorefield.training.build import build

RANDOM = np.random.default_rng(0)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    fix_precision(monkeypatch)
    return Command(capsys)


def normal(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def quick(data: Any, **options: Any) -> planning.Plan:
    """A plan without a measured step."""
    return sf.plan(data, measure_step=False, **options)


def kinds(plan: planning.Plan) -> set[str]:
    return {warned.kind for warned in plan.warnings}


# -- NCSNv2's techniques


def overlap(gamma: float, elements: int) -> float:
    root = math.sqrt(2 * elements) * (gamma - 1)
    values = torch.tensor([root + 3 * gamma, root - 3 * gamma], dtype=torch.float64)
    high, low = torch.special.ndtr(values).tolist()
    return high - low


def test_technique_2_gives_the_levels_of_cifar() -> None:
    assert round(noise.level_ratio(3072), 4) == 1.0398
    assert noise.level_count(50, 0.01, 3072) == 220


@pytest.mark.parametrize("elements", [33, 64, 784, 3072, 10**6])
def test_the_ratio_of_technique_2_solves_its_equation(elements: int) -> None:
    assert abs(overlap(noise.level_ratio(elements), elements) - 0.5) < 1e-8


@pytest.mark.parametrize("elements", [1, 2, 4, 5, 32])
def test_the_ratio_is_capped_in_few_dimensions(elements: int) -> None:
    assert noise.level_ratio(elements) == 1.6
    assert overlap(1.6 - 1e-9, elements) > 0.5  # no solution below the cap


def test_a_short_ladder_has_ten_levels() -> None:
    assert noise.level_count(2.0, 1.0, 2) == 10


def variance(e: float, gamma: float, steps: int) -> float:
    """Technique 4 as the article prints it, with sigma_L = 1."""
    inner = 2 * e / (1 - (1 - e) ** 2)
    return (1 - e) ** (2 * steps) * (gamma**2 - inner) + inner


def test_technique_4_gives_the_step_of_cifar() -> None:
    gamma = 5000 ** (1 / 231)
    epsilon, reached = noise.langevin_step(0.01, gamma, 5)
    assert f"{epsilon:.3g}" == "6.18e-06"
    assert f"{reached:.4g}" == "1.055"
    assert abs(variance(epsilon / 1e-4, gamma, 5) - reached) < 1e-8


@pytest.mark.parametrize(("gamma", "steps"), [(1.04, 5), (1.6, 1), (1.6, 100), (1.3, 20)])
def test_no_other_step_comes_nearer_to_one(gamma: float, steps: int) -> None:
    epsilon, reached = noise.langevin_step(0.5, gamma, steps)
    others = np.geomspace(1e-8, 1.0, 20_001)
    assert 1 < reached <= min(variance(e, gamma, steps) for e in others) + 1e-8
    assert abs(variance(epsilon / 0.25, gamma, steps) - reached) < 1e-8
    off = variance(2 * epsilon / 0.25, gamma, steps)  # the factor 2 of the printed algorithm
    assert off > reached + 1e-6


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: noise.level_ratio(0), "elements"),
        (lambda: noise.level_count(1, 2, 3), "sigma_min"),
        (lambda: noise.langevin_step(0.0, 1.5, 5), "sigma_min"),
        (lambda: noise.langevin_step(0.1, 1.0, 5), "ratio"),
        (lambda: noise.langevin_step(0.1, 1.5, 0), "steps_per_level"),
    ],
)
def test_techniques_refuse_numbers_out_of_range(call: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        call()


# -- distances


def measured(data: Any, **options: Any) -> tuple[distances.Distances, Any, Any]:
    dataset = sf.data.open(data, **options)
    train, _ = split(dataset.labels, len(dataset), 0, 0.1)
    fitted = fit_units(dataset, train)
    pipeline = Pipeline(dataset, train, fitted.units, 0)
    return distances.measure(dataset, train, fitted, pipeline), fitted, dataset


def test_distances_are_those_of_all_pairs() -> None:
    found, _, _ = measured(normal(300, 5))
    every = torch.cdist(found.x0, found.x0, compute_mode="donot_use_mm_for_euclid_dist")
    rows_, columns = torch.triu_indices(270, 270, 1)
    assert torch.allclose(found.pairs, every[rows_, columns].sort().values, atol=1e-8)
    every.fill_diagonal_(torch.inf)
    assert torch.allclose(found.nearest, every.min(1).values.sort().values, atol=1e-8)


def test_copies_are_no_neighbours() -> None:
    x = normal(200, 3)
    found, _, _ = measured(np.concatenate([x, x, x]))
    assert found.neighbour > 0
    assert "duplicates" in kinds(quick(np.concatenate([x, x, x])))
    assert "duplicates" not in kinds(quick(normal(600, 3)))


def test_one_value_in_a_hundred_leaves_its_bin_at_sigma_min() -> None:
    """Values at the middle of their bins with noise of sigma_min, 4.5 standard errors."""
    images = RANDOM.integers(0, 256, (200, 8, 8), dtype=np.uint8)
    plan = quick(images)
    scale = plan["sigma_data"].number / 0.5
    assert scale is not None
    _, fitted, _ = measured(images)
    count = 200_000
    noise_ = (
        plan["sigma_min"].number
        * float(fitted.units.scale)
        * torch.randn(count, generator=torch.Generator().manual_seed(0))
    )
    share = float((noise_.abs() > 0.5 / 256).double().mean())
    assert abs(share - 0.01) < 4.5 * math.sqrt(0.01 * 0.99 / count) + 2e-4  # three digits


def test_outliers_do_not_set_sigma_max() -> None:
    x = normal(1000, 2)
    plan = quick(x)
    assert "largest pairwise distance" in plan["sigma_max"].reason
    x[7] = 1000.0
    stretched = quick(x)
    assert "99 % quantile" in stretched["sigma_max"].reason
    assert "heavy tails" in kinds(stretched)
    assert "heavy tails" not in kinds(plan)


def test_more_examples_collapse_later() -> None:
    few, many = measured(normal(100, 8))[0], measured(normal(4000, 8))[0]
    assert few.collapse is not None and many.collapse is not None
    assert few.collapse > many.collapse
    z = torch.randn(256, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = many.x0
    squared = (x[:256, None] + many.collapse * z[:, None] - x[None]).square().sum(2)
    own = (-squared / (2 * many.collapse**2)).softmax(1).diagonal()
    # two draws of 256 and 128 noisy examples
    assert abs(float(own.mean()) - 0.5) < 4.5 * float(own.std()) * math.sqrt(1 / 256 + 1 / 128)


# -- x at sigma_max


def test_the_start_statistic_of_two_modes_is_the_closed_form() -> None:
    """Modes at -a and a: the distance of (Phi((t-a)/s) + Phi((t+a)/s)) / 2 to Phi(t/r)."""
    found, fitted, _ = measured(np.array([[-1.37], [1.51]] * 500))
    a = float(found.x0.abs().mean())
    for sigma in (0.25, 0.5, 2.0):
        r = math.sqrt(a**2 + sigma**2)
        t = torch.linspace(-4, 4, 161, dtype=torch.float64) * r
        mixed = (torch.special.ndtr((t - a) / sigma) + torch.special.ndtr((t + a) / sigma)) / 2
        wanted = float((mixed - torch.special.ndtr(t / r)).abs().max())
        statistic = checks.visible(found, fitted.moments, sigma)
        assert abs(statistic - wanted) < 0.01  # the split leaves the modes uneven by up to 1 %


def test_a_small_sigma_max_still_shows_the_data() -> None:
    assert "visible" in kinds(quick("digits", settings={"noise.sigma_max": 0.3}))
    assert "visible" not in kinds(quick("digits"))


@pytest.mark.parametrize("data", ["mixture", "moons", "ring", "checkerboard", "digits"])
def test_planned_starts_no_longer_show_the_data(data: str) -> None:
    number = quick(data)["start"].number
    assert number is not None and number < checks.VISIBLE


# -- sensible plans for all kinds of data


def sensible(plan: planning.Plan) -> None:
    low, high = plan["sigma_min"].number, plan["sigma_max"].number
    std = plan["sigma_data"].number
    assert low is not None and high is not None and std is not None
    assert std / 2000 * 0.99 <= low <= std / 20 * 1.01
    assert 2 * std < high < 1000 * std
    assert all(line.reason for line in plan.lines)
    assert {"levels", "epsilon", "training law", "memorisation", "sampler"} <= {
        line.name for line in plan.lines
    }


@pytest.mark.parametrize("data", ["mixture", "moons", "ring", "spiral", "checkerboard"])
def test_plans_of_the_toys_are_capped(data: str) -> None:
    plan = quick(data)
    sensible(plan)
    assert "ratio 1.6000, its cap in few dimensions" in plan["levels"].reason
    assert plan["levels"].number is not None and plan["levels"].number >= 10
    assert not {"scales", "constant", "duplicates"} & kinds(plan)


def test_the_plan_of_digits() -> None:
    plan = quick("digits")
    sensible(plan)
    assert "steps of" in plan["sigma_min"].reason
    assert plan["sigma_max"].number == pytest.approx(6.4, abs=0.5)
    assert not kinds(plan)


def test_the_plan_of_mnist() -> None:
    plan = quick("mnist5k")
    sensible(plan)
    assert plan["sigma_max"].number == pytest.approx(25.7, rel=0.1)
    assert plan["levels"].number == pytest.approx(128, abs=3)


def test_the_plan_of_signals() -> None:
    phase = np.random.default_rng(1).random((200, 1)) * 2 * np.pi
    signals = np.sin(np.linspace(0, 4 * np.pi, 64) + phase) + 0.1 * normal(200, 64)
    plan = quick(signals[:, None].astype(np.float32), settings={"data.channels_last": False})
    sensible(plan)
    assert plan["examples"].value == "200 of 1 x 64"
    assert kinds(plan) == {"few"}  # 180 for training


def test_the_plan_of_columns_of_very_different_scale() -> None:
    x = normal(2000, 2).astype(np.float64)
    plain = quick(x)
    plan = quick(x * [1e-6, 1e6] + [0, 3])
    sensible(plan)
    assert kinds(plan) == {"scales"}
    for name in ("sigma_max", "sigma_min"):
        assert plan[name].number == plain[name].number  # standardising undoes the scales
    low, high = map(float, plan["sigma_data"].data_units.split(" to "))
    assert low == pytest.approx(1e-6, rel=0.05) and high == pytest.approx(1e6, rel=0.05)


def test_the_plan_of_pictures_in_colour(tmp_path: Path) -> None:
    for k in range(30):
        pixels = np.random.default_rng(k).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k:02}.png")
    plan = quick(str(tmp_path))
    sensible(plan)
    assert plan["examples"].value == "30 of 3 x 12 x 12"
    assert "few" in kinds(plan)


def test_units_that_do_not_scale_keep_the_standard_deviation_of_the_data() -> None:
    x = 40 * normal(1000, 3)
    plan = quick(x, settings={"data.units": "none"})
    assert plan["sigma_data"].number == pytest.approx(40, rel=0.05)
    scaled = quick(x)
    ratio = plan["sigma_max"].number / scaled["sigma_max"].number  # type: ignore[operator]
    assert ratio == pytest.approx(80, rel=0.05)
    assert f"N({-1.2 + math.log(80):.2g}" in plan["training law"].value.replace("3.18", "3.2")
    assert plan.settings["noise"]["sigma_data"] == plan["sigma_data"].number


def test_the_plan_of_an_exact_density() -> None:
    mixture = sf.exact.GaussianMixture([[-5.0, -5.0], [5.0, 5.0]], 1.0, weights=[0.2, 0.8])
    plan = sf.plan(mixture)
    low, high = mixture.sampling_range()
    assert (plan["sigma_min"].number, plan["sigma_max"].number) == (low, high)
    assert plan["sigma_data"].number == pytest.approx(math.sqrt(1 + 16), rel=1e-6)
    assert plan.settings == {} and plan.warnings == ()
    assert len(plan.summary()) == 3 and all(plan.summary())
    x = sf.sample(
        mixture, 4, sampler="annealed-langevin", options={"epsilon": plan["epsilon"].number}
    )
    assert torch.isfinite(torch.as_tensor(x)).all()


# -- warnings


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("few", normal(50, 3)),
        ("constant", np.concatenate([normal(500, 2), np.full((500, 1), 7.0, np.float32)], 1)),
        ("nearly constant", normal(500, 2).astype(np.float64) * [1, 1e-4] + [0, 10]),
        ("heavy tails", np.exp(2 * normal(2000, 2))),
        ("scales", normal(500, 2) * np.array([1, 1e4], np.float32)),
        ("offset", normal(500, 2) * np.float32(1e-2) + np.array([0, 1e4], np.float32)),
        ("duplicates", np.repeat(normal(300, 2), 2, 0)),
    ],
)
def test_data_are_warned_of(kind: str, data: np.ndarray) -> None:
    assert kind in kinds(quick(data))


def test_one_example_that_differs_sets_the_range() -> None:
    x = np.full((300, 2), 0.3)
    x[np.arange(0, 300, 50)] = [1.7, 2.9]
    plan = quick(x)
    assert plan["sigma_max"].number is not None and plan["sigma_max"].number > 0
    assert {"duplicates", "heavy tails"} <= kinds(plan)


def test_plain_data_have_no_warnings() -> None:
    assert kinds(quick(normal(1000, 3))) == set()


# -- cost


def test_the_measured_step_counts_parameters_and_memory() -> None:
    plan = sf.plan("digits", images=640, settings={"execution.threads": 1, "optim.batch": 32})
    assert plan.cost is not None
    config = resolve_planned(plan, "digits")
    network = build(config, sf.data.open("digits")).state.model.network
    parameters = sum(p.numel() for p in network.parameters())
    assert plan.cost["parameters"] == parameters == plan["parameters"].number
    assert plan.cost["memory"] > 4 * 4 * parameters  # weights, gradients, two averages
    assert plan.cost["images"] == 640 and plan.cost["seconds_a_step"] > 0
    assert {"short budget"} <= kinds(plan)


def test_many_passes_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = cost_module.Cost(10, 0.01, 32, 32, 1000, 10**6, 60.0, "cpu")
    monkeypatch.setattr("scorefield.planning.make.measure_cost", lambda *a: fixed)
    assert "memorisation" in kinds(sf.plan(normal(300, 3)))
    assert "memorisation" not in kinds(sf.plan(normal(3000, 3)))


def test_the_share_of_the_initial_weights() -> None:
    config = resolve(override(preset("ncsnv2"), {"images": 128_000}), facts_of("digits"))
    config = replace_ema(config, warmup=0.0)
    share = rows.initial_share(config, 88_700.0, 128_000)
    assert share == pytest.approx(0.5 ** (128_000 / 88_700), rel=1e-9)
    assert rows.initial_share(replace_ema(config, kind="power", profiles=(0.1,)), 0.1, 1000) == 0


def replace_ema(config: Any, **changes: Any) -> Any:
    return config.replace(ema=config.ema.replace(**changes))


def facts_of(data: Any) -> Any:
    return sf.data.open(data).facts()


# -- settings: one code path with `resolve`


def resolve_planned(plan: planning.Plan, data: Any) -> Any:
    """What training makes of a plan: it does not know the distances."""
    return resolve(override(preset("fast"), plan.settings), facts_of(data))


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ("digits", {}),
        ("digits", {"preset": "ncsn"}),
        ("digits", {"preset": "ncsnv2", "images": "10k"}),
        ("digits", {"condition": "class", "budget": "10s"}),
        ("moons", {"budget": "20m"}),
        ("digits", {"settings": {"data.units": "unit"}}),
        ("digits", {"settings": {"noise.sigma_distribution": "loguniform"}}),
    ],
)
def test_a_plan_resolves_to_itself_without_the_distances(data: str, options: Any) -> None:
    plan = quick(data, **options)
    config = resolve_planned(plan, data)
    assert config.noise.sigma_max == plan["sigma_max"].number
    assert config.noise.sigma_min == plan["sigma_min"].number
    again = override(preset("fast"), plan.settings)
    dataset = sf.data.open(data)
    scales = planning.make.plan_request(again, dataset, measure_step=False)
    assert dict(scales.settings) == dict(plan.settings)
    build(config, dataset)  # training takes it


def test_ncsn_gets_planned_levels_and_steps() -> None:
    plan = quick("digits", preset="ncsnv2")
    noise_, sampling = plan.settings["noise"], plan.settings["sampling"]
    assert (noise_["sigma_max"], noise_["levels"]) != (50.0, 232)
    assert noise_["levels"] == noise.level_count(noise_["sigma_max"], noise_["sigma_min"], 64)
    assert sampling["options"]["epsilon"] == pytest.approx(plan["epsilon"].number)
    assert plan.settings["network"]["options"]["levels"] == noise_["levels"]


def test_resolution_without_distances_takes_fixed_numbers() -> None:
    config = resolve(preset("fast"), facts_of("digits"))
    n = config.noise
    assert (n.sigma_min, n.sigma_max, n.sigma_data) == (0.002, 80.0, 0.5)
    scales = sf.config.Scales(64, 0.5, 5.0, "why.", 0.01, "because.")
    planned = resolve(preset("fast"), replace(facts_of("digits"), scales=scales))
    assert (planned.noise.sigma_min, planned.noise.sigma_max) == (0.01, 5.0)


def test_given_settings_stay() -> None:
    plan = quick("digits", settings={"noise.sigma_max": 33, "optim.batch": 17})
    assert plan.settings["noise"]["sigma_max"] == 33 == plan["sigma_max"].number
    assert "As given" in plan["sigma_max"].reason
    assert plan.settings["optim"]["batch"] == 17


# -- files and the command


def test_plan_json_and_picture(tmp_path: Path) -> None:
    plan = quick("digits")
    content = json.loads(plan.save(tmp_path / "plan.json").read_text())
    assert (content["format"], content["version"]) == ("scorefield-plan", 1)
    assert [line["name"] for line in content["lines"]] == [line.name for line in plan.lines]
    assert planning.read_settings(tmp_path / "plan.json") == plan.settings
    plan.save_config(tmp_path / "config.json")
    assert planning.read_settings(tmp_path / "config.json") == plan.settings
    size = Image.open(plan.picture.save(tmp_path / "plan.png")).size
    assert min(size) > 400
    assert "sigma_max" in repr(plan) and "<table>" in plan._repr_html_()
    assert len(plan.summary()) == 3


def test_the_command_writes_what_train_takes(command: Command, tmp_path: Path) -> None:
    plan, config, picture = (tmp_path / n for n in ("p.json", "c.json", "p.png"))
    arguments = ("--data", "digits", "--no-measure", "--out", plan, "--config", config)
    code, out, err = command("plan", *arguments, "--picture", picture)
    assert code == 0, err
    assert "sigma_max" in out and all(p.exists() for p in (plan, config, picture))
    code, _, err = command("plan", *arguments)
    assert code == 2 and "--force" in err
    settings = planning.read_settings(plan)
    run = ("--run", tmp_path / "r", "--dry-run")
    for file in (plan, config):
        code, out, err = command("train", "--data", "digits", *run, "--plan", file)
        assert code == 0, err
        assert json.loads(out)["noise"]["sigma_max"] == settings["noise"]["sigma_max"]
    code, _, err = command("train", "--data", "digits", *run, "--plan", plan, "--preset", "ncsn")
    assert code == 2 and "made for the preset fast" in err
    given = ("--set", "noise.sigma_min=0.04", "--images", "1k")
    code, out, err = command("train", "--data", "digits", *run, "--plan", plan, *given)
    assert code == 0, err
    resolved = json.loads(out)
    assert resolved["noise"]["sigma_min"] == 0.04  # what is given overrides the plan
    assert resolved["noise"]["sigma_max"] == settings["noise"]["sigma_max"]
    assert (resolved["images"], resolved["seconds"]) == (1000, None)


def rows_file(path: Path, seed: int, count: int = 60, columns: int = 2) -> Path:
    """A table of normal numbers."""
    rows = normal(count, columns, seed=seed)
    names = ",".join("abc"[:columns])
    path.write_text("\n".join([names, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.mark.parametrize(("kind", "dry"), [("--out", True), ("--config", True), ("--out", False)])
def test_a_plan_for_other_data_is_stated(
    command: Command, tmp_path: Path, kind: str, dry: bool
) -> None:
    data, file = rows_file(tmp_path / "d.csv", 0), tmp_path / "p.json"
    code, _, err = command("plan", "--data", data, "--no-measure", kind, file)
    assert code == 0, err
    few = ["--plan", file, "--images", 64, "--set", "optim.batch=32", "--threads", 1]
    few += ["--set", "network.name=mlp", "--set", "network.options.width=8", "--compile", "off"]

    def said(source: Path, name: str) -> str:
        run = ["--run", tmp_path / name, *(["--dry-run"] if dry else [])]
        code, out, err = command("train", "--data", source, *run, *few)
        assert code == 0, err
        return err if dry else out

    made = f"the plan {file} was made for 60 examples of 2 ({data})"
    if dry:  # trainings take longer
        assert "was made for" not in said(data, "same")
    other = rows_file(tmp_path / "e.csv", 1, 80)
    assert f"{made}, and the data are 80 examples of 2 ({other})" in said(other, "other")
    if dry:
        copied = rows_file(tmp_path / "copy.csv", 0)
        assert "was made for" not in said(copied, "copy")  # the same values
        rows_file(data, 2)
        assert f"{made}, with other values" in said(data, "changed")
    wide = rows_file(tmp_path / "w.csv", 0, columns=3)
    run = tmp_path / "wide"
    code, _, err = command("train", "--data", wide, "--run", run, *few, *["--dry-run"][: int(dry)])
    assert code == 2 and not run.exists()
    assert f"{made}; the data are 60 examples of 3 ({wide})" in err


def test_a_plan_file_without_its_data_is_taken(tmp_path: Path) -> None:
    """Files of earlier versions do not record the data."""
    plan = quick("moons")
    content = plan.to_dict()
    assert content["data"]["source"] == "moons" and content["data"]["shape"] == [2]
    file, data = plan.save(tmp_path / "p.json"), sf.data.open("ring")
    assert "was made for" in planning.note_on_other_data(file, data)
    del content["data"]
    file.write_text(json.dumps(content))
    assert planning.note_on_other_data(file, data) == ""
    assert planning.read_settings(file) == plan.settings


def dry_run(command: Command, tmp_path: Path, *options: Any) -> tuple[dict[str, Any], str]:
    """The resolved settings, and the lines of the error stream that state a plan."""
    code, out, err = command("train", "--run", tmp_path / "r", "--dry-run", *options)
    assert code == 0, err
    return json.loads(out), "\n".join(line for line in err.splitlines() if "plan: " in line)


def test_train_plans_by_itself_in_three_lines(command: Command, tmp_path: Path) -> None:
    found, stated = dry_run(command, tmp_path, "--data", "moons")
    assert stated.count("plan: ") == 3
    for words in ("noise levels from 2.25", "pairwise distance", "network mlp", "room for about"):
        assert words in stated
    plan = quick("moons")
    for name in ("sigma_max", "sigma_min"):
        assert found["noise"][name] == plan[name].number
    auto, _ = dry_run(command, tmp_path, "--data", "moons", "--plan", "auto")
    assert auto["noise"] == found["noise"]


def test_given_scales_win_and_no_plan_keeps_fixed_numbers(command: Command, tmp_path: Path) -> None:
    data = ("--data", "digits", "--images", "1k")
    found, stated = dry_run(command, tmp_path, *data, "--set", "noise.sigma_max=33")
    assert found["noise"]["sigma_max"] == 33
    assert found["noise"]["sigma_min"] == quick("digits")["sigma_min"].number
    fixed, stated = dry_run(command, tmp_path, *data, "--plan", "none")
    assert (fixed["noise"]["sigma_min"], fixed["noise"]["sigma_max"]) == (0.002, 80.0)
    assert stated == ""
    both = ("--set", "noise.sigma_max=33", "--set", "noise.sigma_min=0.01")
    assert dry_run(command, tmp_path, *data, *both)[1] == ""  # nothing was left to measure


@pytest.mark.parametrize("name", ["ncsn", "ncsnv2"])
def test_published_scales_stay_unless_a_plan_is_asked_for(
    name: str, command: Command, tmp_path: Path
) -> None:
    data = ("--data", "digits", "--preset", name)
    found, stated = dry_run(command, tmp_path, *data)
    published = preset(name)
    for setting in ("sigma_min", "sigma_max", "levels"):
        assert found["noise"][setting] == getattr(published.noise, setting)
    assert found["sampling"]["options"] == published.sampling.options
    assert stated == ""
    auto, stated = dry_run(command, tmp_path, *data, "--plan", "auto")
    assert auto["noise"]["sigma_max"] == quick("digits", preset=name)["sigma_max"].number
    assert auto["noise"]["levels"] != published.noise.levels
    assert stated.count("plan: ") == 3


def test_data_without_distances_train_with_fixed_numbers() -> None:
    dataset = sf.data.open(np.full((50, 3), 0.25, np.float32))
    found = choices.choose(override(preset("fast"), {"images": 10}), dataset)
    assert found.config.noise.sigma_max == 80.0
    assert "all training examples" in found.summary()[0]


def test_the_plan_as_json(command: Command) -> None:
    code, out, err = command("plan", "--data", "moons", "--no-measure", "--json")
    assert code == 0, err
    assert json.loads(out)["plan"]["version"] == 1


@pytest.mark.training
def test_a_planned_run_trains_and_goes_on(command: Command, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    small = ("--images", "640", "--set", "optim.batch=64", "--threads", "1")
    assert command("plan", "--data", "moons", *small, "--out", plan)[0] == 0
    run = ("--data", "moons", "--run", tmp_path / "r", "--threads", "1")
    code, _, err = command("train", *run, "--plan", plan)
    assert code == 0, err
    model = sf.load(tmp_path / "r")
    assert model.sigma_max == planning.read_settings(plan)["noise"]["sigma_max"]
    code, _, err = command("train", *run, "--plan", plan, "--images", "1280")
    assert code == 0, err


class Interrupted(BaseException):
    """Stands for SIGKILL: nothing handles it."""


def short(images: int = 640, **settings: Any) -> dict[str, Any]:
    """Arguments of `fit` for a short run."""
    own = {"optim.batch": 64, "execution.threads": 1, "execution.compile": "off"}
    return {"images": images, "settings": own | settings, "hooks": Hooks()}


@pytest.mark.training
def test_an_interrupted_run_keeps_its_plan_bitwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rerun measures nothing: another plan by then would make another run."""
    wanted = quick("moons")["sigma_max"].number
    sf.fit("moons", tmp_path / "straight", **short())
    calls = 0
    step = trainer.train_step

    def stopped(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise Interrupted
        return step(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "train_step", stopped)
        with pytest.raises(Interrupted):
            sf.fit("moons", tmp_path / "run", **short())
    monkeypatch.setattr(choices, "measure", None)
    sf.fit("moons", tmp_path / "run", **short())
    runs = [sf.load(tmp_path / name) for name in ("straight", "run")]
    assert [run.sigma_max for run in runs] == [wanted, wanted]
    for first, second in zip(*(run.network.parameters() for run in runs), strict=True):
        assert torch.equal(first, second)


@pytest.mark.training
def test_a_run_from_before_plans_goes_on_with_its_fixed_numbers(tmp_path: Path) -> None:
    sf.fit("moons", tmp_path, **short(plan="none"))
    file = Run(tmp_path).config
    content = json.loads(file.read_text())
    for part in ("config", "request"):
        content[part].pop("plan", None)
    file.write_text(json.dumps(content))
    notices: list[str] = []
    arguments = short() | {"hooks": Hooks(on_notice=notices.append)}
    assert "already complete" in sf.fit("moons", tmp_path, **arguments).reason
    sf.fit("moons", tmp_path, **short(1280))
    model = sf.load(tmp_path)
    assert (model.sigma_min, model.sigma_max) == (0.002, 80.0)
    assert not [text for text in notices if text.startswith("plan: ")]
    with pytest.raises(InputError, match="sigma_max"):
        sf.fit("moons", tmp_path, **short(2000, **{"noise.sigma_max": 3.0}))


@pytest.mark.training
def test_fit_states_its_plan_to_the_hooks(tmp_path: Path) -> None:
    notices: list[str] = []
    x = 1e-4 * normal(300, 2)
    arguments = short(**{"data.units": "none"}) | {"hooks": Hooks(on_notice=notices.append)}
    sf.fit(x, tmp_path, **arguments)
    assert len([text for text in notices if text.startswith("plan: ")]) == 3
    assert sf.load(tmp_path).sigma_max < 2e-3


# -- the size of the network, from measured steps

LINES = {0.25: (0.01, 0.001), 0.5: (0.01, 0.002), 0.75: (0.01, 0.004), 1.0: (0.01, 0.008)}


def sized(seconds: float, **given: Any) -> Any:
    facts = sf.config.DataFacts((1, 28, 28), 5000, image=True, step_seconds=LINES)
    request = override(preset("fast"), {"seconds": seconds, **given})
    return resolve_with_reasons(request, facts)


def test_the_largest_network_is_taken_that_sees_enough_in_the_budget() -> None:
    """A step of 64 at scale 1 takes 0.522 s: 20,000 images take 163 s of steps."""
    for scale, (fixed, each) in LINES.items():
        enough = sizes.FEW_IMAGES * (fixed + 64 * each) / 64 / sizes.USEFUL
        assert sized(1.01 * enough).config.network.options == {"scale": scale}
        below = sized(0.99 * enough).config.network.options["scale"]
        assert below == max(0.25, scale - 0.25)  # never below the smallest
    assert sized(9, **{"network.options.scale": 1.0}).config.network.options == {"scale": 1.0}


def test_short_budgets_take_smaller_batches_so_that_there_are_steps() -> None:
    for seconds in (2.0, 10.0, 30.0, 100.0, 1000.0):
        config = sized(seconds).config
        fixed, each = LINES[config.network.options["scale"]]
        steps = sizes.USEFUL * seconds / (fixed + each * config.optim.batch)
        assert steps >= sizes.FEW_STEPS or config.optim.batch == 8
        twice = sizes.USEFUL * seconds / (fixed + 2 * each * config.optim.batch)
        assert twice < sizes.FEW_STEPS or config.optim.batch == 64
    assert sized(2.0, **{"optim.batch": 64}).config.optim.batch == 64


def test_a_budget_that_is_too_short_states_how_long_it_takes() -> None:
    reason = sized(5.0).reasons["optim.batch"]
    needed = sizes.FEW_STEPS * (0.01 + 0.008) / sizes.USEFUL
    assert f"800 steps, where a first result is usual, take {needed:.0f} s" in reason
    assert "too few to pass" not in sized(30.0).reasons["optim.batch"]
    assert "64 examples per step" in sized(900.0).reasons["optim.batch"]


def test_measured_steps_become_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that takes 0.3 + 0.02 B seconds, by a clock of the test's own."""
    now = [0.0]

    def step(_: Any, batch: Any, *__: Any) -> None:
        now[0] += 0.3 + 0.02 * len(batch.x0)

    monkeypatch.setattr(cost_module, "train_step", step)
    monkeypatch.setattr(cost_module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    dataset = sf.data.open("digits")
    request = override(preset("fast"), {"seconds": 1e5, "execution.threads": 1})
    found = choices.choose(request, dataset)
    assert sorted(found.facts.step_seconds) == sorted(dataset.facts().unet_costs)
    for line in found.facts.step_seconds.values():
        assert line == pytest.approx((0.3, 0.02))
    brief = choices.choose(override(request, {"seconds": 60}), dataset)
    assert len(brief.facts.step_seconds) == 1  # the smallest does not see enough: none is wider
    assert brief.config.network.options == {"scale": 0.25}
    assert "scale 0.25" in brief.summary()[1] and "too few to pass" in brief.summary()[1]


# -- the measurement of plans


def test_a_gaussian_that_knows_the_data_has_the_loss_one() -> None:
    """The relative loss of the best denoiser of N(0, s²) is 1 at every level; 4.5 standard errors.

    With D = 2,000 * 4 numbers and 8 noises (x0 is shared, so that they count once) the standard
    error is below sqrt(2 / 8,000). A model of twice the standard deviation is rejected.
    """
    std = 3.0
    x0 = std * torch.randn(2000, 4, generator=torch.Generator().manual_seed(5)).double()
    error = math.sqrt(2 / x0.numel())
    right, wrong = (sf.exact.Gaussian(torch.zeros(4), (k * std) ** 2) for k in (1.0, 2.0))
    losses = bench_planned.relative_losses(right, x0, std)
    assert all(loss is not None and abs(loss - 1) < 4.5 * error for loss in losses)
    off = [loss for loss in bench_planned.relative_losses(wrong, x0, std) if loss is not None]
    assert max(off) > 1 + 4.5 * error


def test_levels_outside_a_model_have_no_loss() -> None:
    model = sf.exact.Gaussian(torch.zeros(2), 1.0)
    model.sigma_min, model.sigma_max = 0.1, 1.0
    found = bench_planned.relative_losses(model, torch.zeros(10, 2).double(), 1.0)
    inside = [0.1 <= level <= 1.0 for level in bench_planned.LEVELS]
    assert [loss is not None for loss in found] == inside


@pytest.mark.training
@pytest.mark.slow
def test_the_measurement_of_plans_on_small_runs() -> None:
    case = "eight modes, standard deviation 0.01, own units"
    record = bench_planned.planned(256, 2, 200, (case,), tell=lambda _: None)
    (row,) = record["rows"]
    assert row["undefined"] == {"planned": 0, "fixed": 4}
    assert row["difference"] is None
    assert "fixed numbers fail" in bench_planned.table(record)


# -- bad input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sf.plan(np.zeros((100, 3), np.float32)), "equal"),
        (lambda: sf.plan(normal(2, 3)), "Three or more"),
        (lambda: sf.plan(normal(1, 3)), "two"),
        (lambda: sf.plan("digitz"), "digits"),
        (lambda: sf.plan("digits", budget="1m", images=5), "both"),
        (lambda: sf.plan("digits", preset="none"), "preset"),
        (lambda: sf.plan("digits", network=3), "nn.Module"),  # type: ignore[arg-type]
        (lambda: sf.plan("digits", settings={"noise.sigma": 3}), "noise.sigma"),
        (lambda: quick("moons")["sigma"], "no line"),
        (lambda: quick("moons").save("plan.txt"), ".json"),
        (lambda: sf.plan(sf.exact.Gaussian([0.0], 1.0)).save_config("c.json"), "not trained"),
        (lambda: planning.read_settings("no-such-file.json"), "cannot be read"),
    ],
)
def test_bad_input_is_refused_in_words(call: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "is no plan"),
        ('{"format": "scorefield-plan", "version": 99}', "version 99"),
        ('{"format": "scorefield-plan", "version": 1, "settings": {}}', "no settings"),
        (
            '{"format": "scorefield-plan", "version": 1, "settings": {"noise": {"sigma_max": -1}}}',
            "noise.sigma_max",
        ),
    ],
)
def test_a_wrong_plan_file_ends_with_code_2(
    command: Command, tmp_path: Path, content: str, words: str
) -> None:
    file = tmp_path / "plan.json"
    file.write_text(content)
    run = ("--data", "moons", "--run", tmp_path / "r", "--dry-run")
    code, _, err = command("train", *run, "--plan", file)
    assert code == 2 and words in err


def test_the_command_refuses_with_code_2(command: Command, tmp_path: Path) -> None:
    assert command("plan", "--data", "no-such.npy")[0] == 2
    assert command("plan", "--data", "moons", "--out", tmp_path / "plan.txt")[0] == 2
    assert command("plan", "--data", "moons", "--picture", tmp_path / "plan.gif")[0] == 2
