"""The solver autopilot: predicted errors against measured ones, and what is chosen by them."""

import json
import math
from itertools import pairwise

import pytest
import torch

from scorefield import rng
from scorefield.errors import InputError
from scorefield.exact import Gaussian, GaussianMixture
from scorefield.models import ScoreModel, prior
from scorefield.noise import geometric
from scorefield.sampling import (
    AnnealedLangevin,
    PredictedRecipe,
    SamplingRecipe,
    draw,
    first_state,
    predict_error,
    resolve_accuracy,
    resolve_sampling,
    run,
    sample,
)
from scorefield.sampling.accuracy import measured_error
from scorefield.sampling.autopilot import CANDIDATES, Predictor, evaluation_counts
from scorefield.sampling.surrogates import MOST_DIRECTIONS, SHAPES, Surrogate, grouped, spectrum

COUNT = 3000


def rotated(values: list[float]) -> torch.Tensor:
    """A covariance with given eigenvalues and turned axes."""
    generator = torch.Generator().manual_seed(3)
    size = len(values)
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return q @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ q.T


GAUSSIANS = {
    "condition 1e4": Gaussian([1.0, -2.0, 0.0, 5.0], rotated([100.0, 4.0, 0.3, 0.01])),
    "round": Gaussian([0.5, 0.5], 4.0),
    "two scales": Gaussian(torch.zeros(6).tolist(), rotated([9.0, 9.0, 9.0, 0.04, 0.04, 0.04])),
}
MODES = {
    "three modes": GaussianMixture(
        [[-4.0, -3.0], [4.0, -1.0], [0.0, 5.0]], [0.25, 1.0, 0.5], [0.2, 0.3, 0.5]
    ),
    "uneven line": GaussianMixture([[-3.0], [2.0]], [0.05, 0.5], [0.1, 0.9]),
    "ring": GaussianMixture(
        [[math.cos(a), math.sin(a)] for a in torch.arange(0, 2 * math.pi, math.pi / 8).tolist()],
        0.01,
    ),
    "grid, 4-D": GaussianMixture(
        torch.cartesian_prod(*[torch.tensor([-8.0, 0.0, 8.0])] * 2).repeat(1, 2), 1.0
    ),
}


def measured(model: Gaussian, recipe: SamplingRecipe) -> float:
    """RMS distance of a recipe's samples to the exact flow from their starts / data's std."""
    keys = rng.keys(11, COUNT)
    start = first_state(model, recipe, keys, torch.float64)
    known = model.moments()
    values, vectors = torch.linalg.eigh(known.covariance)
    top = float(recipe.ladder[0])
    y = (start - known.mean) @ vectors * (values / (values + top**2)).sqrt()
    end = known.mean + y @ vectors.T
    x = run(recipe.kernel, model, recipe.ladder, start).x
    return float((x - end).square().mean().sqrt()) / known.data_std


@pytest.mark.parametrize("name", GAUSSIANS)
@pytest.mark.parametrize("nfe", [6, 15])
def test_predicted_error_is_the_measured_one_on_gaussians(name: str, nfe: int) -> None:
    """Within 20 %; with 3,000 starts the measured one has a standard error below 3 %."""
    model = GAUSSIANS[name]
    for sampler, options in CANDIDATES:
        recipe = resolve_sampling(model, sampler, nfe, options=dict(options))
        predicted, found = predict_error(model, recipe).error, measured(model, recipe)
        assert predicted == pytest.approx(found, rel=0.2, abs=1e-9), (sampler, options)


def test_a_prediction_for_another_spectrum_is_rejected_by_the_same_check() -> None:
    """Negative control: the same mean variance in all directions is another Gaussian."""
    model = GAUSSIANS["condition 1e4"]
    other = Gaussian([0.0] * 4, float(model.moments().variance.mean()))
    recipe = resolve_sampling(model, "unipc", 8)
    assert predict_error(other, recipe).error != pytest.approx(measured(model, recipe), rel=0.2)


def test_wasserstein_distance_is_that_of_the_linear_map() -> None:
    """The law of a linear sampler is N(m, G (C + s² I) G'), which commutes with C."""
    model = GAUSSIANS["two scales"]
    recipe = resolve_sampling(model, "ipndm", 7)
    known, top = model.moments(), float(recipe.ladder[0])
    eye = torch.eye(6, dtype=torch.float64)
    columns = run(recipe.kernel, model, recipe.ladder, torch.cat([eye * 0, eye])).x
    g = columns[6:] - columns[0]
    law = g.T @ (known.covariance + top**2 * eye) @ g
    values, vectors = torch.linalg.eigh(law)
    root = vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T
    inner = torch.linalg.eigvalsh(root @ known.covariance @ root).clamp(min=0).sqrt().sum()
    squared = law.trace() + known.covariance.trace() - 2 * inner
    wanted = math.sqrt(float(squared) / float(known.covariance.trace()))
    assert predict_error(model, recipe).wasserstein == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "normal"])
def test_surrogates_are_the_densities_that_they_stand_for(name: str) -> None:
    """Moments, posterior mean and flow against `GaussianMixture` and a converged solver."""
    shape, variance = SHAPES[name], 4.0
    means, weights = shape.components()
    known = GaussianMixture(2.0 * means[:, None], variance * shape.width**2, weights)
    assert float(known.moments().mean) == pytest.approx(0.0, abs=1e-12)
    assert float(known.moments().variance) == pytest.approx(variance)
    model = Surrogate(torch.tensor([variance], dtype=torch.float64), {name: shape})
    x = torch.linspace(-7, 7, 41, dtype=torch.float64)[:, None]
    for sigma in (0.1, 1.0, 5.0):
        torch.testing.assert_close(model.denoise(x, sigma), known.denoise(x, sigma))
    u = torch.tensor([0.03, 0.23, 0.45, 0.83, 0.99], dtype=torch.float64)
    end = model.quantile(u)
    below = torch.special.ndtr((end - 2.0 * means) / (2.0 * shape.width)) @ weights
    torch.testing.assert_close(below, u, atol=1e-9, rtol=0)
    top = 400.0
    start = torch.special.ndtri(u)[:, None] * math.hypot(2.0, top)
    recipe = resolve_sampling(known, "unipc", ladder=geometric(top, 1e-3, 600))
    torch.testing.assert_close(
        run(recipe.kernel, model, recipe.ladder, start).x, end, atol=2e-3, rtol=0
    )


def test_spectrum_of_many_elements_keeps_the_mean_variance() -> None:
    class Known(Gaussian):
        pass

    variances = torch.linspace(0.1, 9, 3 * MOST_DIRECTIONS, dtype=torch.float64)
    found = grouped(spectrum(Known([0.0] * len(variances), variances.tolist()).moments()), 256)
    assert len(found) == MOST_DIRECTIONS == 256
    assert float(found.mean()) == pytest.approx(float(variances.mean()))
    assert len(spectrum(GAUSSIANS["two scales"].moments())) == 6


def test_a_method_that_is_exact_on_normal_data_is_not_taken_at_its_word() -> None:
    """veab solves the flow of N(m, S² I) without error; two modes of the same moments not."""
    model = MODES["ring"]
    predicted = predict_error(model, resolve_sampling(model, "veab", 4))
    assert predicted.errors["normal"] < 1e-3
    assert predicted.error > 0.05
    normal = predict_error(GAUSSIANS["round"], resolve_sampling(GAUSSIANS["round"], "veab", 4))
    assert normal.error < 1e-3 and set(normal.errors) == {"normal"}


def test_choice_has_the_fewest_evaluations_that_reach_the_accuracy() -> None:
    model = GAUSSIANS["condition 1e4"]
    predictor = Predictor(model)
    chosen = resolve_accuracy(model, 0.02, check=0)
    assert chosen.prediction.error <= 0.02
    assert chosen.prediction.evaluations == chosen.evaluations
    assert predictor.predict(chosen).error == chosen.prediction.error
    below = [n for n in evaluation_counts(1000) if n < chosen.evaluations]
    for sampler, options in CANDIDATES:
        if below and not (sampler == "heun" and below[-1] < 3):
            recipe = resolve_sampling(model, sampler, below[-1], options=dict(options))
            assert predictor.predict(recipe).error > 0.02
    assert "fewest evaluations" in chosen.prediction.reason


def test_a_failed_check_makes_the_choice_stricter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first check finds twice the accuracy, the second one half of it."""
    found = iter([0.1, 0.025])
    monkeypatch.setattr("scorefield.sampling.accuracy.measured_error", lambda *_: next(found))
    model = GAUSSIANS["condition 1e4"]
    plain, checked = (resolve_accuracy(model, 0.05, check=n) for n in (0, 8))
    assert plain.prediction.measured is None and checked.prediction.measured == 0.025
    assert checked.evaluations > plain.evaluations
    assert checked.prediction.error <= 0.85 * 0.05 / 2


@pytest.mark.slow
def test_a_check_on_a_few_starts_corrects_what_moments_do_not_show() -> None:
    """Many narrow modes in many dimensions: starts between two modes end in the wrong one."""
    noise = torch.randn(40, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = GaussianMixture(noise, 0.01)
    plain, checked = (resolve_accuracy(model, 0.1, check=n) for n in (0, 256))
    assert plain.prediction.measured is None
    assert measured_error(model, plain, 400) > 0.15
    assert checked.evaluations > plain.evaluations
    assert checked.prediction.measured < 0.1
    assert checked.prediction.error < plain.prediction.error


def test_a_check_leaves_a_right_prediction_as_it_is() -> None:
    model = GAUSSIANS["condition 1e4"]
    found = resolve_accuracy(model, 0.03, check=512).prediction
    assert found.measured == pytest.approx(found.error, rel=0.2)


def test_evaluation_counts_are_close_and_end_at_the_largest() -> None:
    counts = evaluation_counts(1000)
    assert counts[:8] == [3, 4, 5, 6, 7, 8, 9, 10] and counts[-1] == 1000
    assert all(1 < b / a < 1.4 for a, b in pairwise(counts))


def sliced(x: torch.Tensor, y: torch.Tensor) -> float:
    """The sliced Wasserstein-1 distance of two sets (N, d)."""
    generator = torch.Generator().manual_seed(7)
    u = torch.randn(x.shape[1], 64, generator=generator, dtype=torch.float64)
    u = u / u.norm(dim=0)
    return float(((x @ u).sort(0).values - (y @ u).sort(0).values).abs().mean())


def check_against_default(name: str, accuracy: float) -> None:
    model, count = MODES[name], 2000
    exact, std = model.sample(count, seed=5), MODES[name].moments().data_std
    usual = sliced(sample(model, count, seed=0), exact) / std
    chosen = sliced(sample(model, count, seed=0, sampler=resolve_accuracy(model, accuracy)), exact)
    assert chosen / std < usual + accuracy


@pytest.mark.parametrize("name", ["ring"])
def test_choice_is_not_worse_than_the_default_by_more_than_the_accuracy(name: str) -> None:
    check_against_default(name, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("accuracy", [0.1, 0.03, 0.01])
def test_choice_is_not_worse_than_the_default_on_mixtures(name: str, accuracy: float) -> None:
    check_against_default(name, accuracy)


def test_five_steps_of_euler_fail_the_comparison_with_the_default() -> None:
    """Negative control of the two tests above."""
    model, count = MODES["ring"], 2000
    exact, std = model.sample(count, seed=5), model.moments().data_std
    usual = sliced(sample(model, count, seed=0), exact) / std
    poor = sliced(sample(model, count, seed=0, sampler="heun", nfe=7), exact) / std
    assert poor > usual + 0.05


def test_the_record_holds_the_prediction() -> None:
    model = GAUSSIANS["round"]
    recipe = resolve_accuracy(model, 0.01)
    assert isinstance(recipe, PredictedRecipe)
    x, record = sample(model, 4, sampler=recipe, record=True)
    assert record.prediction == recipe.prediction and record.nfe == recipe.evaluations
    assert "Predicted error" in repr(record)
    assert json.loads(json.dumps(record.to_dict()))["prediction"]["error"] < 0.01
    assert sample(model, 1, record=True)[1].to_dict()["prediction"] is None
    assert torch.equal(x, draw(model, recipe, rng.keys(0, 4)).x)
    start = prior(model, float(recipe.ladder[0]))
    assert start.matched


class Unknown(ScoreModel):
    event_shape, sigma_min, sigma_max = (2,), 0.01, 50.0

    def denoise(self, x, sigma, condition=None):
        return x * 0


def test_what_cannot_be_predicted_is_refused() -> None:
    model = GAUSSIANS["round"]
    for recipe, words in (
        (resolve_sampling(model, "matched-sde", 10), "draws noise"),
        (SamplingRecipe(AnnealedLangevin(0.1), [2.0, 1.0]), "draws noise"),
        (resolve_sampling(model, "euler", 10, start=("uniform", 0, 1)), "start="),
    ):
        with pytest.raises(InputError, match=words):
            predict_error(model, recipe)
    with pytest.raises(InputError, match="moments"):
        resolve_accuracy(Unknown(), 0.1)
    with pytest.raises(InputError, match=r"no sampler .* the best reaches"):
        resolve_accuracy(MODES["uneven line"], 1e-3, most=5)
    for accuracy in (0, -1.0, math.nan):
        with pytest.raises(InputError, match="accuracy"):
            resolve_accuracy(model, accuracy)
