"""Diagnostics where the answer is known: autoregressive chains, Langevin on Gaussians, two modes,
steps and starts that are wrong.
"""

import json
import math
from functools import cache

import pytest
import torch
from torch import Tensor

from scorefield import diagnostics, rng
from scorefield.diagnostics import (
    R_HAT_LIMIT,
    Report,
    curvature,
    effective_sample_size,
    langevin_report,
    r_hat,
    rank_normalise,
    split_chains,
    start_mismatch,
)
from scorefield.diagnostics import report as report_module
from scorefield.errors import InputError, NonFiniteError
from scorefield.exact import Gaussian, GaussianMixture
from scorefield.models import Bound, Guided, Preconditioned, prior
from scorefield.networks import build
from scorefield.noise import geometric
from scorefield.sampling import AnnealedLangevin

SE = 4.5
TWO_MODES = GaussianMixture([[-5.0, 0.0], [5.0, 0.0]], 1.0)


def normal(chains: int, steps: int, width: int = 1, seed: int = 0) -> Tensor:
    """(chains, steps, width) independent standard normals."""
    return rng.normal(rng.keys(seed, chains), rng.Stream.TOY, 0, (steps, width), torch.float64)


def autoregressive(phi: float, chains: int, steps: int, width: int, seed: int = 0) -> Tensor:
    """x_t = phi x_(t-1) + sqrt(1 - phi²) z, started stationary."""
    z = normal(chains, steps, width, seed)
    x = [z[:, 0]]
    for t in range(1, steps):
        x.append(phi * x[-1] + math.sqrt(1 - phi**2) * z[:, t])
    return torch.stack(x, dim=1)


# ---- effective sample size and R-hat


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, -0.5])
@pytest.mark.parametrize("ranks", [False, True])
def test_effective_sample_size_of_an_autoregressive_chain(phi, ranks):
    """C T (1 - phi) / (1 + phi); Gaussian ranks leave it. The estimate is compared over 40
    independent sets of chains.
    """
    chains, steps, sets = 8, 1000, 40
    draws = autoregressive(phi, chains, steps, sets)
    estimates = effective_sample_size(draws, ranks) / (chains * steps)
    truth = (1 - phi) / (1 + phi)
    se = estimates.std().item() / math.sqrt(sets)
    # Cutting the sum at the first negative pair leaves a positive bias in the time, a few per cent
    # at this length.
    assert abs(estimates.mean().item() - truth) < SE * se + 0.06 * truth
    assert estimates.std() < 0.2 * truth


def test_ignoring_autocorrelation_is_noticed():
    draws = autoregressive(0.9, 8, 1000, 10)
    assert effective_sample_size(draws).max() < 0.2 * 8 * 1000


def test_r_hat_is_one_for_mixed_chains():
    values = r_hat(normal(16, 400, 50))
    assert values.max() < 1.01
    assert values.min() > 0.999


def test_r_hat_of_chains_that_stay_apart():
    """Half of the chains about -3, half about 3: within 1, between 9 + . In normal scores less, but
    far from 1; effective draws: few.
    """
    draws = normal(16, 400) + torch.where(torch.arange(16) < 8, -3.0, 3.0).double()[:, None, None]
    assert r_hat(draws).item() > 1.5
    assert effective_sample_size(draws).item() < 60


def test_r_hat_sees_a_trend_within_chains_and_a_difference_of_scales():
    trend = normal(8, 200) + torch.linspace(0, 3, 200, dtype=torch.float64)[None, :, None]
    scales = normal(8, 200) * torch.linspace(0.2, 3, 8, dtype=torch.float64)[:, None, None]
    assert r_hat(trend).item() > 1.2
    assert r_hat(scales).item() > 1.1


def test_r_hat_does_not_need_moments():
    """Independent Cauchy draws mix; so say ranks, where plain variances would not."""
    u = rng.uniform(rng.keys(0, 8), rng.Stream.TOY, 0, (500, 1), torch.float64)
    assert r_hat(torch.tan(math.pi * (u - 0.5))).item() < 1.02


def test_ranks_are_normal_scores_and_ties_share_theirs():
    scores = rank_normalise(torch.tensor([[[3.0], [1.0]], [[1.0], [7.0]]])).flatten()
    expected = torch.special.ndtri(
        (torch.tensor([3.0, 1.5, 1.5, 4.0], dtype=torch.float64) - 0.375) / 4.25
    )
    assert torch.allclose(scores, expected, atol=1e-14)
    monotone = normal(4, 50)
    assert torch.equal(rank_normalise(monotone), rank_normalise(monotone.exp()))


def test_halves_leave_the_middle_of_an_odd_chain():
    halves = split_chains(torch.arange(5)[None])
    assert halves.tolist() == [[0, 1], [3, 4]]


def test_shapes_follow_the_draws_and_bad_ones_are_refused():
    assert r_hat(normal(3, 10)[..., 0]).shape == ()
    assert effective_sample_size(normal(3, 10, 2)).shape == (2,)
    with pytest.raises(InputError, match="at least 4 steps"):
        r_hat(torch.zeros(3, 3))
    with pytest.raises(NonFiniteError, match="1 of the 12"):
        effective_sample_size(torch.tensor([math.nan, *range(11)]).reshape(3, 4))


def test_chains_that_stand_still():
    still = torch.arange(4.0)[:, None].expand(4, 10)
    assert r_hat(still).isinf()
    assert r_hat(torch.ones(4, 10)) == 1
    assert effective_sample_size(torch.ones(4, 10)).isnan()


# ---- the largest curvature


def test_curvature_of_a_gaussian():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    model = Gaussian(torch.zeros(6), root @ root.T)
    x = model.sample(5, 0.3, seed=1)
    expected = 1 / (model.spectrum.min() + 0.3**2)
    assert torch.allclose(curvature(model, x, 0.3), expected.expand(5), rtol=1e-6)


def test_curvature_between_modes_is_the_largest_and_not_the_most_negative():
    """Halfway, -ds/dx is 1/v along the second axis, and 1/v - 25/v² < 0 along the first."""
    model = GaussianMixture([[-5.0, 0.0, 0.0], [5.0, 0.0, 0.0]], [[1.0, 1.0, 2.0]] * 2)
    found = curvature(model, torch.zeros(1, 3, dtype=torch.float64), 0.1)
    assert found.item() == pytest.approx(1 / 1.01, rel=1e-3)


def test_curvature_in_many_dimensions_from_few_products():
    spread = torch.linspace(0.1, 4.0, 300, dtype=torch.float64)
    model = Gaussian(torch.zeros(300), spread)
    found = curvature(model, model.sample(4, 0.2, seed=1), 0.2)
    exact = 1 / (0.1 + 0.2**2)
    assert (found <= exact * (1 + 1e-6)).all()
    assert (found > 0.97 * exact).all()


# ---- Langevin on a Gaussian

V, SIGMA = 1.0, 0.5
TOTAL = V + SIGMA**2


def stationary(epsilon: float) -> float:
    """Variance at which V <- (1 - eps/v)² V + 2 eps stands still."""
    return 2 * epsilon / (1 - (1 - epsilon / TOTAL) ** 2)


@cache
def gaussian_report(epsilon: float = 0.3, steps: int = 600) -> Report:
    return langevin_report(Gaussian([0.0, 1.0, -2.0], V), [SIGMA], epsilon, steps, chains=32)


def test_a_healthy_run_has_no_warning_and_a_table():
    report = gaussian_report()
    assert report.warnings == ()
    (row,) = report.levels
    assert row.stable
    assert row.mixed
    assert row.r_hat < 1.02
    assert report.evaluations == 600
    # The chains' scores, the curvature's 2 x 3 products at 16 places, and a density a step.
    assert report.cost.forwards == 32 * 600 + 2 * 3 * 16
    assert report.cost.densities == 32 * 600
    assert report.functionals == ("coordinate 0", "coordinate 1", "coordinate 2", "log p_sigma")
    table = json.loads(json.dumps(report.to_dict()))
    assert table["levels"][0]["stable"] is True
    assert table["warnings"] == []
    assert str(report).count("\n") == 1


def test_the_drift_ratio_is_the_closed_forms():
    """E|s|² / d = V / v² at the stationary variance V, which the start nearly has."""
    epsilon = 0.3
    expected = math.sqrt(epsilon / 2 * stationary(epsilon) / TOTAL**2)
    assert gaussian_report(epsilon).levels[0].drift_to_noise == pytest.approx(expected, rel=0.01)


def test_the_stable_limit_is_the_closed_forms():
    (row,) = gaussian_report().levels
    assert row.curvature == pytest.approx(1 / TOTAL, rel=1e-6)
    assert row.stable_limit == pytest.approx(2 * TOTAL, rel=1e-6)
    assert row.step == 0.3


@pytest.mark.parametrize("epsilon", [0.3, 0.6])
def test_effective_draws_of_langevin_are_those_of_its_autocorrelation(epsilon):
    """x is autoregressive with phi = 1 - eps/v; its log density, a square, with phi². The report's
    is the least of the coordinates'.
    """
    report = gaussian_report(epsilon)
    phi = 1 - epsilon / TOTAL
    expected = 32 * 600 * (1 - phi) / (1 + phi)
    assert 0.75 * expected < report.levels[0].ess < 1.05 * expected


def test_the_drift_ratio_of_an_annealed_run_is_the_closed_forms():
    """Where v is small beside sigma, in units of sigma²: eps = 0.2, V <- 0.64 V + 0.4 from the last
    level's stationary variance; ratio
    sqrt(0.1 mean V), by eps_i ~ sigma_i² the same at every level (Song & Ermon 2019, Sec. 4.3)."""
    model = Gaussian(torch.zeros(8), 1e-8)
    ladder = geometric(1.0, 0.01, 5)
    report = langevin_report(model, ladder, 2e-5, 100, chains=256)  # NCSN's steps
    settled = 0.4 / (1 - 0.64)
    for i, row in enumerate(report.levels):
        variance, mean = settled * float((ladder[i - 1] / ladder[i]) ** 2) if i else 1.0, 0.0
        for _ in range(100):
            mean += variance / 100
            variance = 0.64 * variance + 0.4
        assert row.drift_to_noise == pytest.approx(math.sqrt(0.1 * mean), rel=0.02)
        assert row.step == pytest.approx(0.2 * row.sigma**2)
        assert row.curvature == pytest.approx(1 / (row.sigma**2 + 1e-8), rel=1e-6)
    assert report.warnings == ()
    assert report.evaluations == 500


# ---- warnings


def test_a_step_beyond_the_stable_limit_is_warned_of():
    report = langevin_report(Gaussian([0.0, 0.0], V), [SIGMA], 2.1 * TOTAL, 50)
    assert not report.levels[0].stable
    assert any(
        "beyond the stable limit" in text and "epsilon below 0.95 times" in text
        for text in report.warnings
    )
    below = langevin_report(Gaussian([0.0, 0.0], V), [SIGMA], 1.6 * TOTAL, 200)
    assert below.warnings == ()


def test_chains_that_diverge_are_reported_not_raised():
    report = langevin_report(Gaussian([0.0, 0.0], V), geometric(2.0, SIGMA, 2), 1e6, 400)
    assert any("diverged" in text for text in report.warnings)
    assert any("beyond the stable limit" in text for text in report.warnings)
    assert math.isnan(report.levels[-1].r_hat)
    assert json.loads(json.dumps(report.to_dict()))["levels"][-1]["r_hat"] is None


def test_a_start_of_the_wrong_variance_or_mean_is_warned_of():
    model = Gaussian([0.0, 1.0, -2.0], V)
    z = normal(64, 3)[..., 0]
    right = prior(model, SIGMA).sample(z)
    assert langevin_report(model, [SIGMA], 0.6, 200, start=right).warnings == ()
    for start, words in (
        (2 * right, "mean"),
        (1.4 * (right - right.mean(0)) + model.moments().mean, "times its variance"),
        (right + 1, "mean is"),
    ):
        report = langevin_report(model, [SIGMA], 0.3, 100, start=start)
        assert any(
            "does not match the prior" in text and words in text for text in report.warnings
        ), report.warnings
    scale = langevin_report(
        model, [SIGMA], 0.3, 100, start=1.4 * (right - model.moments().mean) + model.moments().mean
    ).start_scale
    assert scale == pytest.approx(1.4**2, abs=SE * 1.4**2 * math.sqrt(2 / (64 * 3)))


@pytest.mark.parametrize("d", [1, 2, 100])
def test_right_starts_are_hardly_ever_warned_of(d):
    model = Gaussian(torch.arange(d) * 1.0, torch.linspace(0.5, 2, d))
    z = normal(64, d, 200)
    warned = [
        bool(start_mismatch(model, prior(model, 2.0).sample(z[..., k]), 2.0)[1]) for k in range(200)
    ]
    assert sum(warned) == 0


def test_exact_draws_of_a_mixture_match_its_prior():
    assert start_mismatch(TWO_MODES, TWO_MODES.sample(500, 3.0, seed=4), 3.0)[1] == ""


def test_a_level_that_cannot_cross_between_modes_is_warned_of():
    report = langevin_report(TWO_MODES, geometric(20.0, 0.2, 6), 0.2 * 0.2**2, 300, chains=32)
    apart = [row for row in report.levels if not row.mixed]
    assert report.levels[0].mixed
    assert report.levels[0] not in apart
    assert report.levels[-1] in apart
    assert report.levels[-1].r_hat > 1.5
    (warning,) = report.warnings
    assert warning.startswith("not mixed: level")
    assert f"R-hat is up to {max(row.r_hat for row in apart):.3f}" in warning
    assert all(row.r_hat >= R_HAT_LIMIT for row in apart)


def test_too_short_a_level_is_warned_of():
    report = langevin_report(Gaussian([0.0, 0.0], V), [SIGMA], 0.01, 20)
    assert any("not mixed: level 1" in text for text in report.warnings)


# ---- what it takes


def test_a_network_of_images_is_followed_along_random_directions():
    torch.manual_seed(0)
    model = Preconditioned(build("mlp", (1, 8, 8), width=8, depth=1), (1, 8, 8), 0.05, 10.0).train()
    report = langevin_report(model, [5.0, 1.0], 0.2, 8, chains=6)
    assert len(report.levels) == 2
    assert len(report.functionals) == diagnostics.FUNCTIONALS
    assert report.functionals[0] == "direction 0"
    assert model.training


def test_a_report_belongs_to_its_seed():
    a, b, c = (
        langevin_report(TWO_MODES, [3.0], 0.5, 10, seed=seed).to_dict() for seed in (0, 0, 1)
    )
    assert a == b
    assert a != c


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"chains": 1}, "at least 2 chains"),
        ({"steps_per_level": 3}, "4 steps a level"),
        ({"epsilon": 0.0}, "above 0"),
        ({"ladder": [1.0, 2.0]}, "decrease"),
        ({"start": torch.zeros(64, 3)}, r"start must be \(64, 2\)"),
        ({"condition": {"class": 0}}, "takes no condition"),
    ],
)
def test_arguments_out_of_range_are_refused(options, words):
    given = {"ladder": [3.0], "epsilon": 0.5, "steps_per_level": 8} | options
    with pytest.raises(InputError, match=words):
        langevin_report(TWO_MODES, **given)


def test_what_is_left_open_is_that_of_annealed_langevin():
    report = langevin_report(TWO_MODES, chains=4)
    kernel = AnnealedLangevin()
    ladder = kernel.default_ladder(TWO_MODES)
    assert [row.sigma for row in report.levels] == ladder.tolist()
    assert report.epsilon == kernel.resolve(TWO_MODES, ladder).epsilon
    assert report.steps_per_level == max(4, kernel.default_steps_per_level(ladder))


# ---- conditions

CLASSES = GaussianMixture([[-5.0, 0.0], [5.0, 0.0]], [1.0, 4.0], labels=[0, 1])
MIXED = torch.arange(32) % 2


def test_chains_of_one_class_are_those_of_its_own_density():
    """Everything of the report, log p_sigma and the curvature included, as for that Gaussian."""
    given = langevin_report(CLASSES, [SIGMA], 0.3, 200, chains=32, condition={"class": 1})
    alone = langevin_report(Gaussian([5.0, 0.0], 4.0), [SIGMA], 0.3, 200, chains=32)
    assert given.functionals == alone.functionals
    assert given.warnings == alone.warnings == ()
    for a, b in zip(given.levels, alone.levels, strict=True):
        for name, value in vars(a).items():
            assert value == pytest.approx(vars(b)[name], rel=1e-6), name
    assert given.start_scale == pytest.approx(alone.start_scale)
    bound = langevin_report(Bound(CLASSES, {"class": torch.tensor([1])}), [SIGMA], 0.3, 200, 32)
    assert bound.levels == given.levels


def test_the_log_density_that_is_followed_is_the_conditional_one():
    """Unconditional chains meet both modes: without its condition the report would be another."""
    given = langevin_report(CLASSES, [SIGMA], 0.3, 40, chains=32, condition={"class": 0})
    free = langevin_report(CLASSES, [SIGMA], 0.3, 40, chains=32)
    assert given.levels != free.levels
    functionals = report_module._Functionals(CLASSES, 0, {"class": MIXED})
    x = 5 * normal(32, 2)[..., 0]
    followed = functionals(x, SIGMA)[:, -1]
    assert torch.equal(followed, CLASSES.log_density(x, SIGMA, {"class": MIXED}))
    assert not torch.allclose(followed, CLASSES.log_density(x, SIGMA))


def test_curvature_is_that_of_each_chains_class():
    x = torch.zeros(2, 2, dtype=torch.float64)
    found = curvature(CLASSES, x, SIGMA, {"class": torch.tensor([0, 1])})
    expected = torch.tensor([1 / (1 + SIGMA**2), 1 / (4 + SIGMA**2)], dtype=torch.float64)
    assert torch.allclose(found, expected, rtol=1e-6)


def test_a_start_is_compared_with_the_prior_of_each_chains_class():
    condition = {"class": torch.arange(64) % 2}
    right = prior(CLASSES, 2.0, condition).sample(normal(64, 2)[..., 0])
    scale, words = start_mismatch(CLASSES, right, 2.0, condition)
    assert words == ""
    assert scale == pytest.approx(1, abs=SE * math.sqrt(2 / 128))
    swapped = {"class": 1 - condition["class"]}
    assert "does not match the prior" in start_mismatch(CLASSES, right, 2.0, swapped)[1]


def test_guided_chains_run_without_a_density():
    report = langevin_report(
        Guided(CLASSES, 1.5), [SIGMA], 0.3, 8, chains=4, condition={"class": [0, 1, 0, 1]}
    )
    assert report.functionals == ("coordinate 0", "coordinate 1")
    assert report.cost.densities == 0
    assert report.cost.forwards == 2 * (4 * 8 + 2 * 2 * 4)
