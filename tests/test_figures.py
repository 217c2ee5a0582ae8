"""The article's experiments: each writes its files and finds the known facts, in its quick form.

Six of the eight quick forms and all full sizes are slow tests.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from scorefield.checkpoint import load
from scorefield.cli.app import app
from scorefield.errors import InputError
from scorefield.figures import (
    EXPERIMENTS,
    Settings,
    common,
    forming,
    make_figures,
    manifold,
    weights,
)
from scorefield.inverse import left_half
from scorefield.models import Preconditioned
from scorefield.networks import build
from scorefield.plotting import (
    Chart,
    Panel,
    grid_points,
    save_moving_points,
    save_planes,
    save_seed_curves,
)

QUICK = Settings(quick=True)


def finite(value: Any) -> bool:
    """Whether all numbers in nested JSON are finite."""
    if isinstance(value, dict):
        return all(finite(v) for v in value.values())
    if isinstance(value, list):
        return all(finite(v) for v in value)
    return not isinstance(value, float) or math.isfinite(value)


def facts_of(number: int, numbers: dict[str, Any]) -> None:
    """What each experiment must find even with little training."""
    if number == 1:
        assert numbers["largest_gap_to_central_differences"] < 1e-5
        assert 0.95 < numbers["mass_in_the_frame"] < 1
    elif number == 2:
        variance = numbers["variance_within_modes"]
        assert abs(variance["value"] - variance["fixed_point"]) < 4.5 * variance["se"]
        # the variance that a forgotten factor of two would give
        assert abs(variance["value"] - 2 * variance["fixed_point"]) > 4.5 * variance["se"]
    elif number == 3:
        assert numbers["sliced"]["factor"] > 2 and numbers["exact"]["factor"] > 2
    elif number == 4:
        clean, *_, noisy = numbers["levels"]
        assert clean["total_variation_to_p"] == 0 < noisy["total_variation_to_p"] < 1
        assert noisy["mean_error_outside"] < clean["mean_error_outside"]
    elif number == 5:
        weight = numbers["weight_of_small_mode"]
        low, high = weight["independent draws"]["interval_95"]
        assert low - 0.02 < 0.2 < high + 0.02
        assert weight["annealed Langevin"]["value"] < 0.3 < 0.4 < weight["Langevin"]["value"]
    elif number == 6:
        assert (
            numbers["no noise"]["roughness"]["mean"]
            > numbers["noise of standard deviation 0.01"]["roughness"]["mean"]
        )
    elif number == 7:
        assert set(numbers["seconds_per_step"]) == {"denoising", "sliced", "sliced-vr", "exact"}
        error = numbers["relative_error"]
        # a target of variance 1/sigma² is noisy where sigma is small
        assert error["denoising"]["mean"][0] > error["exact"]["mean"][0]
    else:
        assert numbers["inpainting"]["largest_change_of_a_known_pixel"] == 0
        assert numbers["inpainting"]["sd_over_draws_in_the_hidden_half"] > 0.01


QUICKEST = {1, 2}


@pytest.mark.parametrize(
    "number",
    [n if n in QUICKEST else pytest.param(n, marks=pytest.mark.slow) for n in EXPERIMENTS],
)
def test_experiment_writes_its_files_and_finds_the_known_facts(number: int, tmp_path: Path) -> None:
    experiment = EXPERIMENTS[number]
    finished = []
    result = make_figures(tmp_path, [number], QUICK, lambda e, r: finished.append(e.number))[number]
    assert finished == [number]
    record = json.loads((tmp_path / f"{experiment.stem}.json").read_text())
    assert record["quick"] and record["conclusion"] == result.conclusion and finite(record)
    assert record["files"] and all((tmp_path / name).exists() for name in record["files"])
    for name in record["files"]:
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 100
            assert name.endswith(".png") or picture.n_frames > 3
        assert f"({name})" in (tmp_path / "figures.md").read_text()
    facts_of(number, json.loads(json.dumps(result.numbers)))


@pytest.mark.slow
def test_same_seed_gives_the_same_points() -> None:
    first, again, other = weights.draw(50), weights.draw(50), weights.draw(50, seed=6)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.slow
def test_annealing_finds_the_weights_at_full_size() -> None:
    found = {name: common.small_mode(x) for name, x in weights.draw(20_000).items()}
    assert abs(found["annealed Langevin"]["value"] - 0.2) < 0.03
    assert abs(found["independent draws"]["value"] - 0.2) < 4.5 * math.sqrt(0.2 * 0.8 / 20_000)
    assert abs(found["Langevin"]["value"] - 0.5) < 0.03


def test_fraction_has_wilsons_interval() -> None:
    found = common.fraction(torch.arange(100) < 20)
    # Wilson's interval of 20 in 100, as tables give it.
    assert found["value"] == 0.2
    assert found["interval_95"] == pytest.approx([0.1334, 0.2888], abs=2e-4)
    none = common.fraction(torch.zeros(50, dtype=torch.bool))["interval_95"]
    assert none[0] == pytest.approx(0, abs=1e-12) and 0 < none[1] < 0.1


def test_roughness_is_zero_for_a_falling_loss_and_half_for_an_alternating_one() -> None:
    falls, swings = torch.linspace(1, 0, 11), torch.tensor([0.0, 1] * 5 + [0])
    assert manifold.roughness(torch.stack([falls, swings])).tolist() == [0, 0.5]


def test_total_variation_is_zero_without_noise_and_grows_with_it() -> None:
    from scorefield.figures.noise import total_variation

    values = [total_variation(s, 128) for s in (0.0, 1.5, 5.0)]
    assert values[0] == 0 < values[1] < values[2] < 1


class TestCommandLine:
    def test_only_makes_the_named_experiment(self, tmp_path: Path) -> None:
        result = CliRunner().invoke(
            app, ["figures", "--out", str(tmp_path), "--only", "1", "--quick"]
        )
        assert result.exit_code == 0, result.output
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            "1_density.json",
            "1_density.png",
            "figures.md",
        ]

    @pytest.mark.parametrize("only", ["9", "0,1", "two"])
    def test_unknown_experiments_raise_input_error(self, only: str, tmp_path: Path) -> None:
        result = CliRunner().invoke(app, ["figures", "--out", str(tmp_path), "--only", only])
        assert isinstance(result.exception, InputError) and only.split(",")[0] in str(
            result.exception
        )

    def test_experiment_8_refuses_a_model_that_is_not_of_images(self) -> None:
        model = Preconditioned(build("mlp", (2,), width=8, depth=1), (2,))
        with pytest.raises(InputError, match="images"):
            forming.held_out(Path("runs/ring"), model)

    def test_experiment_8_shows_a_given_run(self, digits_run: Path, tmp_path: Path) -> None:
        model = load(digits_run)
        data, held = forming.held_out(digits_run, model)
        chosen = forming.choose(data, held)
        assert data.labels is not None
        assert len(chosen) == forming.INPUTS == len(set(data.labels[chosen].tolist()))
        assert set(chosen.tolist()) <= set(held.tolist())
        path, result = forming._draw_inpainting(
            tmp_path / "sheet.png", model, data.floats(chosen), Settings(quick=True)
        )
        mask = left_half(model.event_shape).expand(model.event_shape)
        truth = data.floats(chosen)[:, None].expand_as(result.draws)
        assert path.exists()
        assert torch.equal(result.draws[:, :, mask], truth[:, :, mask])
        assert float(result.std[:, ~mask].mean()) > 0.01


class TestPictures:
    def test_grid_points_are_the_cell_centres(self, tmp_path: Path) -> None:
        at = grid_points((0, 4, 0, 2), 2)
        assert at.tolist() == [[1, 0.5], [3, 0.5], [1, 1.5], [3, 1.5]]
        path = save_planes(
            tmp_path / "p.png",
            [Panel("t", values=[[1.0, 10], [100, 1000]])],
            (0, 4, 0, 2),
            "title",
            "caption",
        )
        with Image.open(path) as picture:
            assert min(picture.size) > 100

    def test_wrong_input_raises_input_error(self, tmp_path: Path) -> None:
        p = common.mixture()
        with pytest.raises(InputError, match="panel"):
            save_planes(tmp_path / "p.png", [], common.FRAME, "", "")
        with pytest.raises(InputError, match="extent"):
            save_planes(tmp_path / "p.png", [Panel("t", p.log_prob)], (1, 0, 0, 1), "", "")
        with pytest.raises(InputError, match="caption"):
            save_moving_points(
                tmp_path / "p.gif", [torch.zeros(3, 2)], p.log_prob, common.FRAME, [], "t"
            )
        with pytest.raises(InputError, match="length"):
            save_seed_curves(
                tmp_path / "p.png", [Chart("t", "x", "y", {"a": ([1, 2], [[1, 2, 3]])})], "", ""
            )
        with pytest.raises(InputError, match="series"):
            save_seed_curves(tmp_path / "p.png", [Chart("t", "x", "y", {})], "", "")
        assert not list(tmp_path.iterdir())
