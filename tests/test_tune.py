"""Tuning: a method fitted to a model's own flow, judged on starts that no fit has seen."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import scorefield as sf
from cli_helpers import Command
from scorefield import rng
from scorefield.checkpoint import load, read_card, save_model
from scorefield.errors import InputError
from scorefield.exact import GaussianMixture
from scorefield.models import Bound, Guidance, Moments, Preconditioned, prior
from scorefield.networks import build
from scorefield.noise import few_step, geometric
from scorefield.sampling import (
    DataAdams,
    SamplingRecipe,
    Tuned,
    draw,
    make_kernel,
    resolve_sampling,
    run,
    sample,
    tuned_kernel,
)
from scorefield.sampling.multistep import exponential_weights
from scorefield.tuning import Tuner, Tuning, save_tuning_picture, tune
from scorefield.tuning.refine import columns, inside
from scorefield.tuning.starts import make_batches
from scorefield.tuning.unrolled import Parameters, unroll

RING = GaussianMixture(
    [[math.cos(a), math.sin(a)] for a in torch.arange(0, 2 * math.pi, math.pi / 8).tolist()], 0.01
)
MODES = GaussianMixture([[-3.0, 0.0], [2.0, 1.0]], [0.3, 0.8], [0.3, 0.7])
LEVELS = [4.0, 1.0, 0.3, 0.05]
SCALES, WEIGHTS = [0.3, 0.4, 0.2], [[0.7], [0.9, -0.3], [1.0, -0.3, 0.1]]


def network(conditions: dict | None = None, **given: object) -> Preconditioned:
    """A perceptron with weights of its beginning, and moments."""
    torch.manual_seed(0)
    net = build("mlp", (2,), width=16, depth=1, embedding=8, conditions=conditions)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    moments = Moments([0.1, -0.2], [0.25, 0.2])
    return Preconditioned(
        net, (2,), sigma_min=0.01, sigma_max=20.0, moments=moments, conditions=conditions, **given
    ).eval()


# ---- the kernel


def test_without_coefficients_it_is_exponential_adams_bashforth() -> None:
    ladder, x = few_step(20.0, 0.01, 8, 1.0), torch.randn(5, 2).double()
    other = DataAdams(p=2, known_past=False)
    torch.testing.assert_close(run(Tuned(), RING, ladder, x).x, run(other, RING, ladder, x).x)


def test_a_multistep_method_is_a_choice_of_coefficients() -> None:
    """The coefficients of exponential Adams-Bashforth, written out, give its samples."""
    ladder = geometric(8.0, 0.05, 5)
    sigmas = ladder.tolist()
    rows = [
        exponential_weights(sigmas[i], sigmas[i + 1], [sigmas[j] for j in (i, i - 1) if j >= 0])
        for i in range(4)
    ]
    kernel = Tuned(sigmas, [b / a for a, b in pairwise(sigmas)], rows)
    x = torch.randn(5, 2).double()
    found = run(kernel, MODES, ladder, x, final="none").x
    torch.testing.assert_close(found, run(Tuned(), MODES, ladder, x, final="none").x)


def test_it_is_equivariant_under_shifts_and_scales_of_the_data() -> None:
    factor, shift = 3.0, torch.tensor([5.0, -1.0]).double()
    means = torch.tensor([[-3.0, 0.0], [2.0, 1.0]]).double()
    other = GaussianMixture(factor * means + shift, [0.3 * 9, 0.8 * 9], [0.3, 0.7])
    ladder = torch.tensor(LEVELS, dtype=torch.float64)
    kernel = Tuned(LEVELS, SCALES, WEIGHTS)
    scaled = Tuned((factor * ladder).tolist(), SCALES, WEIGHTS)
    x = 4 * torch.randn(6, 2).double()
    found = run(scaled, other, factor * ladder, factor * x + shift, final="none").x
    torch.testing.assert_close(
        found, factor * run(kernel, MODES, ladder, x, final="none").x + shift
    )


def test_options_survive_json() -> None:
    kernel = Tuned(LEVELS, SCALES, WEIGHTS)
    assert make_kernel("tuned", json.loads(json.dumps(kernel.options()))) == kernel
    recipe = SamplingRecipe(kernel, LEVELS, final="none")
    assert (recipe.name, recipe.evaluations) == ("tuned", 3)
    assert len(sample(RING, 2, sampler=recipe)) == 2


def test_coefficients_that_do_not_fit_are_refused() -> None:
    for given, words in (
        ((LEVELS, None, None), "belong together"),
        ((LEVELS, SCALES[:2], WEIGHTS), "3 steps"),
        ((LEVELS, SCALES, WEIGHTS[:2]), "3 steps"),
        (([1.0], [], []), "0 steps"),
        ((LEVELS, SCALES, [[0.7, 0.1], *WEIGHTS[1:]]), "step 1 knows 1 denoised"),
        ((LEVELS[::-1], SCALES, WEIGHTS), "decrease"),
    ):
        with pytest.raises(InputError, match=words):
            Tuned(*given)
    kernel = Tuned(LEVELS, SCALES, WEIGHTS)
    with pytest.raises(InputError, match="leave ladder out"):
        run(kernel, RING, [4.0, 1.0, 0.2, 0.05], torch.zeros(1, 2).double())
    with pytest.raises(InputError, match="tuned for 3 evaluations"):
        resolve_sampling(RING, kernel, nfe=9)


# ---- the fit


def test_parameters_give_the_kernel_and_back() -> None:
    tuner = Tuner(MODES, "20s", 1, 8)
    parameters = Parameters((1.0, 0.0, -1.0), ((0.5, 0.5), (0.6, 0.9, -0.4), (0.1, 1, 0, 0)), 2.0)
    assert parameters.with_vector(parameters.vector()) == parameters
    batch = tuner.fitted[0]
    kernel = parameters.kernel(MODES.sampling_range()[0])
    recipe = SamplingRecipe(kernel, kernel.levels, final="none")
    start = prior(MODES, kernel.levels[0]).sample(batch.z)
    found = run(kernel, MODES, recipe.ladder, start, final="none").x
    torch.testing.assert_close(unroll(batch, parameters).states[-1], found)


def test_columns_are_the_derivatives_of_the_end() -> None:
    """Against central differences of whole runs."""
    batch = Tuner(MODES, "20s", 1, 8).fitted[0]
    parameters = Parameters((1.0, 0.0, -1.0), ((0.5, 0.5), (0.6, 0.9, -0.4), (0.1, 1, 0, 0)), 2.0)
    jacobian = columns(batch, parameters, unroll(batch, parameters))
    theta, step = parameters.vector(), 1e-5
    for k in range(parameters.size):
        ends = []
        for sign in (1, -1):
            moved = theta.clone()
            moved[k] += sign * step
            ends.append(unroll(batch, parameters.with_vector(moved)).states[-1].flatten())
        wanted = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close(jacobian[k], wanted, rtol=0.02, atol=0.02)


def test_levels_are_kept_in_the_models_range_and_order() -> None:
    parameters = Parameters((9.0, 9.0, -9.0), ((0.0,) * 2, (0.0,) * 3, (0.0,) * 4), 1.0)
    logs = inside(parameters, 0.01, 20.0).logs
    assert logs[0] == pytest.approx(math.log(20.0))
    assert logs[0] > logs[1] > logs[2] > math.log(0.01)


def fresh_distance(model: GaussianMixture, recipe: SamplingRecipe, seed: int) -> float:
    """RMS distance of a recipe's samples to the converged flow of the same seed, and its error."""
    reference = resolve_sampling(model, "unipc", 200, "few-step", options={"p": 3})
    ends = [draw(model, one, rng.keys(seed, 400)).x for one in (recipe, reference)]
    return float((ends[0] - ends[1]).square().mean().sqrt())


@pytest.fixture(scope="module")
def tuned_ring() -> tuple[Tuner, Tuning]:
    tuner = Tuner(RING, "60s", 0, 96)
    return tuner, tuner.fit(6)


def test_tuning_halves_the_distance_at_six_evaluations(tuned_ring) -> None:
    """On starts of another seed, against every untuned sampler with every ladder."""
    _, result = tuned_ring
    assert result.better and result.gain > 2
    assert result.reference < result.tuned.rms * 5
    own = fresh_distance(RING, result.recipe, 77)
    for judged in result.untuned[:3]:
        name, option, *ladder = judged.name.split(", ")
        rule = ladder[0].removesuffix(" levels") if ladder else None
        other = resolve_sampling(RING, name, 6, rule, options={"p": int(option[-1])})
        assert own < fresh_distance(RING, other, 77) / 2
    assert result.recipe.evaluations == 6


def test_wrong_coefficients_are_rejected_by_the_same_judgement(tuned_ring) -> None:
    """Negative controls: rows exchanged; the method of another model."""
    tuner, result = tuned_ring
    wrong = replace(result.kernel, scales=result.kernel.scales[::-1])
    recipe = SamplingRecipe(wrong, wrong.levels, final="none")
    own, untuned = result.tuned.rms, result.untuned[0].rms
    found = float(tuner.distances(recipe).mean().sqrt()) / tuner.data_std
    assert found > untuned > own
    wide = GaussianMixture([[-30.0, 1.0], [20.0, 0.0]], [0.1, 5.0])
    other = Tuner(wide, "20s", 0, 16)
    top = min(wide.sampling_range()[1], result.kernel.levels[0])
    assert top == result.kernel.levels[0]
    levels = [*result.kernel.levels[:-1], wide.sampling_range()[0]]
    foreign = replace(result.kernel, levels=levels)
    judged = other.distances(SamplingRecipe(foreign, levels, final="none"))
    usual = other.distances(resolve_sampling(wide, "veab", 6))
    assert float(judged.mean()) > float(usual.mean())


def test_what_does_not_gain_is_not_stored(tmp_path: Path) -> None:
    """Coefficients that lead nowhere are judged by the same starts as fitted ones."""
    rows = ((0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0))
    result = Tuner(MODES, "20s", 0, 16).judge(Parameters((1.0, 0.0, -1.0), rows, 2.0), 3, 0.0)
    assert not result.better
    assert "no gain beyond two standard errors" in repr(result).replace("\n", " ")
    with pytest.raises(InputError, match="not stored"):
        result.store(tmp_path)
    with pytest.raises(InputError, match="not stored"):
        result.with_card({})


def test_tuning_is_reproducible_and_leaves_the_model_in_its_mode() -> None:
    model = network().train()
    first, second = (tune(model, 3, "60s", seed=4, starts=8) for _ in range(2))
    assert first == second and model.training
    assert not torch.equal(  # the starts are not those of samples with the same seed
        Tuner(model, "5s", 4, 8).fitted[0].z, rng.normal(rng.keys(4, 8), rng.Stream.TOY, 0, (2,))
    )


# ---- the card


def made(kernel: Tuned, nfe: int, difference: float = 1.0) -> Tuning:
    from scorefield.tuning import Judged

    tuned, other = Judged("tuned", 0.1, 0.01, nfe), Judged("veab, p = 2", 0.3, 0.02, nfe)
    starts = {"fitted": 8, "stopping": 4, "judged": 8}
    return Tuning(kernel, nfe, tuned, (other,), difference, 0.1, 0.001, starts, 1.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model.safetensors", network())


def tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(str(path), "pt") as archive:
        return {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118


def test_the_card_keeps_methods_and_the_weights_stay_bitwise(file: Path) -> None:
    before, kernel = tensors(file), Tuned([5.0, 1.0, 0.3, 0.01], SCALES, WEIGHTS)
    card = read_card(file)
    assert tuned_kernel(load(file), 3) is None
    made(kernel, 3).store(file)
    made(Tuned([5.0, 1.0, 0.01], SCALES[:2], WEIGHTS[:2]), 2).store(file.parent)
    after = tensors(file)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    found = read_card(file)
    assert {k: v for k, v in found.items() if k != "tuned"} == card
    assert [*found["tuned"]] == ["2", "3"]
    model = load(file)
    assert tuned_kernel(model, 3) == kernel
    recipe = resolve_sampling(model, nfe=3)
    assert (recipe.name, recipe.evaluations, recipe.final) == ("tuned", 3, "none")
    assert sample(model, 4, nfe=3, record=True)[1].sampler == "tuned"
    assert resolve_sampling(model, "tuned", nfe=3).kernel == kernel
    for given in ({"nfe": 4}, {"sampler": "euler", "nfe": 3}, {"nfe": 3, "final": "denoise"}):
        assert resolve_sampling(model, **given).kernel != kernel
    guided = Bound(model, {})
    assert tuned_kernel(guided, 3) is None


def test_a_copy_is_written_and_the_original_stays(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    out = made(Tuned(LEVELS, SCALES, WEIGHTS), 3).store(file, tmp_path / "other.safetensors")
    assert file.read_bytes() == content and "tuned" in read_card(out)
    with pytest.raises(InputError, match="not stored"):
        made(Tuned(LEVELS, SCALES, WEIGHTS), 3, difference=0.1).store(file)
    assert file.read_bytes() == content


def test_tune_puts_the_method_into_the_card_of_a_loaded_model(file: Path) -> None:
    model = load(file)
    result = sf.tune(model, 4, "60s", starts=16)
    assert result.better
    x = sample(model, 5, nfe=4)
    assert torch.equal(x, sample(model, 5, sampler=result.recipe))


def test_models_that_cannot_be_tuned_are_refused() -> None:
    labelled = GaussianMixture([[-2.0], [2.0]], 0.5, labels=[0, 1])
    guided = Guidance.of(2.0).wrap(labelled, {"class": torch.tensor([0])})
    with pytest.raises(InputError, match="guidance"):
        Tuner(guided, "1s", 0, 8)
    ladder = geometric(20.0, 0.01, 6)
    with pytest.raises(InputError, match="ladder only"):
        Tuner(network(preconditioner="ncsn", ladder=ladder), "1s", 0, 8)
    for nfe in (1, 33, 2.5):
        with pytest.raises(InputError, match="nfe"):
            Tuner(RING, "1s", 0, 8).fit(nfe)
    with pytest.raises(InputError, match="starts"):
        tune(RING, starts=7)


def test_classes_are_fitted_in_turn() -> None:
    labelled = GaussianMixture([[-2.0, 0.0], [2.0, 1.0]], 0.5, labels=[0, 1])
    batch = next(iter(make_batches(labelled, rng.keys(0, 6))))
    assert isinstance(batch.model, Bound)
    ends = batch.end[:, 0]
    assert bool((ends[[1, 4]] < 0).all()) and bool((ends[[2, 5]] > 0).all())


# ---- the command line


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def test_the_command_stores_and_info_shows(file: Path, tmp_path: Path, command: Command) -> None:
    picture = tmp_path / "tuned.png"
    words = ("--nfe", "3,4", "--starts", 16, "--precision", "float32", "--threads", 1)
    code, out, err = command("tune", file, *words, "--compile", "off", "--picture", picture)
    assert code == 0, err
    assert "times nearer" in out and picture.exists()
    assert [*read_card(file)["tuned"]] == ["3", "4"]
    assert "4 evaluations:" in command("info", file)[1]
    code, out, _ = command("sample", file, "--nfe", 4, "--count", 3, "--out", tmp_path / "x")
    assert code == 0
    assert json.loads((tmp_path / "x" / "samples.json").read_text())["sampler"] == "tuned"


def test_the_command_refuses_before_any_work(file: Path, tmp_path: Path, command: Command) -> None:
    taken = tmp_path / "taken.safetensors"
    taken.write_bytes(b"x")
    for words, message in (
        (("--nfe", "1"), "--nfe"),
        (("--nfe", "six"), "--nfe"),
        (("--out", tmp_path / "x.txt"), ".safetensors"),
        (("--out", taken), "exists"),
        (("--out", tmp_path / "y.safetensors", "--no-store"), "--no-store"),
        (("--picture", tmp_path / "x.doc"), "png"),
        (("--budget", "soon"), "budget"),
    ):
        code, _, err = command("tune", file, *words)
        assert (code, message in err) == (2, True), (words, err)


def test_the_command_accuracy_prints_its_choice(
    file: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "s"
    code, text, err = command("sample", file, "--accuracy", 0.05, "--count", 3, "--out", out)
    assert code == 0, err
    assert "predicted error" in text and "evaluations a sample" in text
    record = json.loads((out / "samples.json").read_text())
    assert record["prediction"]["error"] <= 0.05
    for words in (("--nfe", 5), ("--sampler", "heun"), ("--ladder", "karras")):
        code, _, err = command("sample", file, "--accuracy", 0.05, *words, "--out", tmp_path / "t")
        assert code == 2 and "--accuracy chooses" in err
        assert not (tmp_path / "t").exists()


def test_the_picture_needs_results(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got none"):
        save_tuning_picture(tmp_path / "a.png", [])
    results = [made(Tuned(LEVELS, SCALES, WEIGHTS), nfe) for nfe in (3, 5)]
    assert save_tuning_picture(tmp_path / "a.png", results).exists()


@pytest.mark.slow
@pytest.mark.training
def test_tuning_halves_the_distance_on_trained_digits(digits_run: Path) -> None:
    result = tune(load(digits_run), 6, "2m", starts=96)
    assert result.better and result.gain > 2
