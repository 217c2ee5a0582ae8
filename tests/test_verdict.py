"""Verdicts: the baselines against closed forms, and the sentence of constructed cases."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf

import scorefield as sf
from scorefield.diagnostics.baselines import Normal, fit_baselines, shrunk
from scorefield.exact import GaussianMixture
from scorefield.models import Moments, Preconditioned
from scorefield.noise import LogNormal
from scorefield.objectives import WEIGHTS, Denoising
from scorefield.runs import Run
from scorefield.training import Evaluator, Hooks, fit
from scorefield.training.verdict import FEW_STEPS, Verdict, appraise, counts, difference

SIGMAS = (0.05, 0.5, 5.0)
COVARIANCE = torch.tensor(
    [[0.25, 0.2, 0.0], [0.2, 0.25, 0.1], [0.0, 0.1, 0.25]], dtype=torch.float64
)
MEAN = torch.tensor([0.1, -0.2, 0.0], dtype=torch.float64)


def draws(count: int, seed: int = 0) -> torch.Tensor:
    """Rows of N(MEAN, COVARIANCE)."""
    z = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return MEAN + z @ torch.linalg.cholesky(COVARIANCE).T


def evaluator(x0: torch.Tensor) -> Evaluator:
    return Evaluator(Denoising(), x0.float(), distribution=LogNormal(-1.2, 1.2, 0.002, 80.0))


class Zero(torch.nn.Module):
    """A network with output 0."""

    def forward(self, x, noise_input=None, condition=None):
        return torch.zeros_like(x)


def preconditioned(moments: Moments | None = None, shape=(3,)) -> Preconditioned:
    return Preconditioned(Zero(), shape, moments=moments)


# -- the baselines


def test_normal_has_the_score_of_a_mixture_of_one():
    x = torch.randn(20, 3, dtype=torch.float64)
    values, basis = torch.linalg.eigh(COVARIANCE)
    exact = GaussianMixture(MEAN[None], COVARIANCE[None])
    full = Normal(MEAN, torch.tensor(0.7), values, basis)
    for sigma in (*SIGMAS, torch.linspace(0.1, 2.0, 20)):
        torch.testing.assert_close(full.score(x, sigma), exact.score(x, sigma))
        torch.testing.assert_close(full.denoise(x, sigma), exact.denoise(x, sigma))
    # two directions and the rest
    part = Normal(MEAN, torch.tensor(0.3), values[1:], basis[:, 1:])
    covariance = basis[:, 1:] @ values[1:].diag() @ basis[:, 1:].T
    covariance = covariance + 0.3 * torch.outer(basis[:, 0], basis[:, 0])
    wanted = GaussianMixture(MEAN[None], covariance[None]).score(x, 0.4)
    torch.testing.assert_close(part.score(x, 0.4), wanted)
    assert not torch.allclose(full.score(x, 0.4), wanted)


@pytest.mark.parametrize(("count", "elements"), [(50, 8), (8, 50), (400, 3)])
def test_covariance_is_shrunk_as_ledoit_and_wolf_do(count, elements):
    """scikit-learn's implementation is the reference; the sample covariance is the control."""
    scale = torch.linspace(0.2, 2.0, elements, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, elements, generator=generator, dtype=torch.float64) * scale
    mean, rest, values, basis = shrunk(x)
    outside = torch.eye(elements, dtype=torch.float64) - basis @ basis.T
    covariance = basis @ values.diag() @ basis.T + rest * outside
    wanted, shrinkage = ledoit_wolf(x.numpy())
    assert 0 < shrinkage < 1
    np.testing.assert_allclose(covariance.numpy(), wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(mean.numpy(), x.mean(0).numpy())
    assert not np.allclose(covariance.numpy(), np.cov(x.T.numpy(), bias=True), rtol=1e-3)


def test_covariance_of_equal_rows_is_zero():
    mean, rest, values, _ = shrunk(torch.full((5, 3), 2.0))
    assert mean.tolist() == [2.0, 2.0, 2.0]
    assert float(rest) == 0
    assert not values.any()


def test_losses_of_the_baselines_are_their_expectations():
    """At each sigma: w sigma² v/(v + sigma²) for knowing nothing, 1 with the edm weight, and
    w sigma² tr(C (C + sigma²)^-1)/d for the Gaussian. A Gaussian without correlations is worse.
    """
    found = evaluator(draws(512, seed=2))
    moments = Moments(MEAN, COVARIANCE.diagonal())
    nothing, gaussian, examples = fit_baselines(preconditioned(moments), draws(4000).float())
    assert examples == 4000
    values = torch.linalg.eigvalsh(COVARIANCE)
    for sigma in SIGMAS:
        square = sigma**2
        weight = float(WEIGHTS["edm"](torch.tensor(sigma), 0.5))
        best = weight * square * float((values / (values + square)).mean())
        for model, wanted in ((nothing, 1.0), (gaussian, best)):
            losses = found.losses(model, sigma=sigma)
            error = float(losses.std()) / len(losses) ** 0.5
            # the covariance of 4,000 rows costs less than 0.1 % of the loss
            assert abs(float(losses.mean()) - wanted) < 4.5 * error + 0.001 * wanted
        mean, error = difference(
            found.losses(nothing, sigma=sigma), found.losses(gaussian, sigma=sigma)
        )
        assert sigma > 1 or mean > 3 * error


def test_knowing_nothing_is_the_network_of_zeros():
    """For standardised data, on every example."""
    x0 = draws(40)
    moments = Moments(torch.zeros(3, dtype=torch.float64), torch.full((3,), 0.25).double())
    model = preconditioned(moments)
    nothing = fit_baselines(model, x0.float()).nothing
    found = evaluator(x0)
    torch.testing.assert_close(found.losses(nothing), found.losses(model), rtol=1e-4, atol=1e-5)


def test_baselines_of_images_know_channels_and_need_no_square_matrix():
    generator = torch.Generator().manual_seed(3)
    x0 = (
        torch.randn(30, 2, 40, 40, generator=generator) * 0.5
        + torch.tensor([1.0, -1.0])[:, None, None]
    )
    nothing, gaussian, _ = fit_baselines(preconditioned(shape=(2, 40, 40)), x0)
    assert nothing.mean.flatten(1).std(1).max() < 1e-12
    torch.testing.assert_close(
        nothing.mean[:, 0, 0], torch.tensor([1.0, -1.0], dtype=torch.float64), atol=0.02, rtol=0
    )
    assert gaussian.basis is not None
    assert gaussian.basis.shape[1] < 30
    x = torch.randn(4, 2, 40, 40)
    assert gaussian.denoise(x, 0.3).shape == x.shape


# -- several noises an example


def test_few_examples_get_several_noises_that_cover_the_levels():
    """31 examples: 16 noises each. The error over examples is smaller than with one noise, and the
    loss is the same within it.
    """
    few = evaluator(draws(31))
    assert few.evaluations == 31 * 16
    model = preconditioned()
    one, many = few.held_out_loss(model, 31), few.held_out_loss(model)
    assert many.examples == one.examples == 31
    assert many.se < 0.5 * one.se
    assert abs(many.value - one.value) < 4 * one.se
    assert few.losses(model, 100).shape == (31,)
    assert few.losses(model, 5).shape == (5,)
    assert evaluator(draws(512)).evaluations == 512
    assert evaluator(draws(400)).evaluations == 400


def test_paired_differences_see_what_separate_errors_do_not():
    generator = torch.Generator().manual_seed(0)
    spread = torch.rand(30, generator=generator) * 2
    lower = spread - 0.02 - 0.01 * torch.rand(30, generator=generator)
    assert counts(difference(spread, lower))
    assert not counts(difference(spread.flip(0), lower))
    assert not counts(difference(lower, spread))
    assert not counts(difference(spread[:1], lower[:1]))  # one example has no error


# -- constructed cases


def case(model: float, nothing: float = 1.0, gaussian: float = 0.6, **more) -> Verdict:
    """A verdict of 100 examples; what differs between models has a small error."""
    generator = torch.Generator().manual_seed(0)
    common = 0.2 * torch.randn(100, generator=generator)
    own = [0.01 * torch.randn(100, generator=generator) for _ in range(3)]
    losses = [
        common - common.mean() + m + o - o.mean()
        for m, o in zip((model, nothing, gaussian), own, strict=True)
    ]
    return appraise(*losses, **{"images": 64_000, "steps": 1000, "rate": 400.0, **more})


def test_better_than_both_has_learned():
    found = case(0.41, gaussian=0.62)
    assert found.standing == "learned"
    assert found.sentence == (
        "has learned: held-out loss 0.41 ± 0.02, the best Gaussian 0.62, knowing nothing 1.00 "
        "(400 images a second)"
    )
    still = case(0.41, gaussian=0.62, falling=(0.03, 0.004))
    assert "still falling, by 0.030 ± 0.004 over the last doubling" in still.sentence
    assert "falling" not in case(0.41, falling=(0.003, 0.004)).sentence


def test_hardly_begun_names_the_images_and_the_time():
    """0.95 against 0.6, falling by 0.1 a doubling: 3.5 doublings of 1,000 images."""
    found = case(0.95, images=1000, steps=20, rate=20.0, falling=(0.1, 0.01))
    assert found.standing == "hardly begun"
    assert found.needed_images == pytest.approx(1000 * 2**3.5, rel=0.01)
    assert "about 11,000 images, 9 min 25 s at this rate" in found.sentence
    assert "falls on by as much with each doubling" in found.sentence
    # no loss on the way: by steps
    short = case(0.99, images=1280, steps=20, rate=20.0)
    assert short.needed_images == 64 * FEW_STEPS
    assert f"{FEW_STEPS} steps" in short.sentence
    # beyond six doublings no number is honest
    far = case(0.99, images=1000, steps=20, rate=20.0, falling=(0.01, 0.001))
    assert far.needed_images is None
    assert "far longer" in far.sentence
    # long enough, but still falling
    assert case(0.7, falling=(0.1, 0.01)).standing == "hardly begun"


def test_model_of_gaussian_data_is_as_good_as_a_gaussian():
    found = case(0.6, falling=(0.001, 0.01))
    assert found.standing == "Gaussian"
    assert found.sentence.startswith("as good as a Gaussian: ")
    worse = case(0.65, falling=(0.001, 0.01))
    assert worse.sentence.startswith("not as good as a Gaussian: ")
    assert "difference to the Gaussian +0.0500 ± 0.0015" in worse.sentence
    useless = case(1.02, falling=(0.001, 0.01))
    assert "not better than knowing nothing" in useless.sentence
    assert "not better than knowing nothing" not in worse.sentence


def test_past_its_best_names_the_point():
    found = case(0.41, best_images=32_000, falling=(-0.1, 0.01))
    assert found.standing == "past its best"
    assert found.falling is None
    assert (
        "the model is that of 32,000 images, after which the held-out loss rose" in found.sentence
    )
    assert "not better" not in found.sentence
    assert "not better than the best Gaussian" in case(0.6, best_images=32_000).sentence


def test_one_example_has_no_error_and_claims_nothing():
    found = appraise(*(torch.tensor([v]) for v in (0.4, 1.0, 0.6)), images=64, steps=999, rate=1.0)
    assert found.standing == "Gaussian"
    assert "±" not in found.sentence.split(",")[0]
    assert math.isnan(found.se)


@pytest.mark.parametrize("more", [{}, {"best_images": 7}, {"falling": (0.1, 0.01), "steps": 9}])
def test_verdict_survives_json(more):
    found = case(0.9, gaussian=0.8, **more)
    stored = json.loads(json.dumps(found.to_dict()))
    assert Verdict.from_dict(stored) == found
    assert stored["sentence"] == found.sentence


# -- a run


@pytest.mark.training
def test_run_states_where_its_model_stands(tmp_path):
    """In the summary, in a notice, in the card and in the metrics; a rerun has it too."""
    heard: list[str] = []
    settings = {"network.options.width": 16, "execution.compile": "off", "execution.threads": 1}
    hooks = Hooks(on_notice=heard.append)
    x = draws(200).numpy()
    summary = fit(x, tmp_path / "run", images=20_000, settings=settings, hooks=hooks)
    found = summary.verdict
    assert found is not None
    assert heard[-1] == found.sentence
    card = sf.load(tmp_path / "run").card
    assert card is not None
    assert card["history"]["verdict"]["sentence"] == found.sentence
    line = Run(tmp_path / "run").records()[-1]
    assert Verdict.from_dict(line["verdict"]) == found
    assert found.held_out == line["held_out"]
    assert set(summary.held_out) == {"sigma", "loss", "se", "nothing", "gaussian"}
    assert {len(column) for column in summary.held_out.values()} == {12}
    # 18 steps on correlated columns
    assert found.standing == "hardly begun"
    mean, error = found.below_nothing  # 20 rows: the losses themselves differ by more than this
    assert found.gaussian < found.nothing - 0.1
    assert mean < 0.1
    assert error < 0.5 * found.se
    again = fit(x, tmp_path / "run", images=20_000, settings=settings, hooks=hooks)
    assert again.verdict == found
