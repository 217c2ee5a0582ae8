"""log p by the probability flow against densities in closed form, with the mistakes it must notice,
and bits per dimension.
"""

import copy
import dataclasses
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import scorefield as sf
from scorefield import cli, rng
from scorefield.data import Pipeline, open_card_data
from scorefield.errors import InputError, NonFiniteError
from scorefield.exact import Empirical, Gaussian, GaussianMixture
from scorefield.interop import from_vp
from scorefield.likelihood import (
    LikelihoodOptions,
    LogProb,
    bits_per_dim,
    flow,
    log_prob,
    ranks,
)
from scorefield.models import FORMS, Bound, Guided, Preconditioned, ScoreModel, prior
from scorefield.networks import build
from scorefield.noise import geometric
from scorefield.training import fit
from scorefield.units import Quantisation, Units

SE = 4.5
LOW, HIGH = 0.01, 50.0
WIDE = LikelihoodOptions(sigma_min=LOW, sigma_max=HIGH)


def mixture(d: int, components: int = 3, seed: int = 0) -> GaussianMixture:
    """Full covariances: a diagonal Hessian would give Rademacher probes no variance at all."""
    means, roots = (
        rng.normal(rng.keys(seed, components), rng.Stream.TOY, step, shape, torch.float64)
        for step, shape in ((0, (d,)), (1, (d, d)))
    )
    return GaussianMixture(
        2 * means,
        roots @ roots.mT / d + 0.1 * torch.eye(d, dtype=torch.float64),
        [0.5, 0.3, 0.2][:components],
    )


def tight(model: ScoreModel, x: Tensor, **given) -> LogProb:
    """rtol 1e-6 on a fixed range, the exact law at its top unless `given` says otherwise."""
    known = {f.name for f in dataclasses.fields(LikelihoodOptions)}
    options = {"sigma_min": LOW, "sigma_max": HIGH, "rtol": 1e-6, "atol": 1e-6, "prior": model}
    options |= {name: value for name, value in given.items() if name in known}
    rest = {name: value for name, value in given.items() if name not in known}
    return log_prob(model, x, options=LikelihoodOptions(**options), **rest)


def network(preconditioner: str = "edm", **options) -> Preconditioned:
    """A small untrained model whose score is not that of a Gaussian."""
    torch.manual_seed(0)
    net = build("mlp", (3,), width=16, depth=1)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return Preconditioned(net, (3,), 0.05, 20.0, preconditioner, **options).eval()


# ---- the density


@pytest.mark.parametrize("d", [2, 8])
def test_the_exact_prior_gives_the_exact_density(d):
    model = mixture(d)
    x = torch.cat([model.sample(60, LOW, seed=1), 4 * model.sample(4, LOW, seed=2)])  # some far out
    result = tight(model, x)
    assert (result.value - model.log_prob(x, LOW)).abs().max() < 1e-4
    assert (result.se == 0).all()
    assert result.sigma_min == LOW
    assert result.prior == "GaussianMixture at sigma 50"
    assert result.products == d * result.evaluations
    assert result.cost.forwards == 64 * result.evaluations
    assert result.cost.products == 64 * result.products


def test_a_looser_tolerance_is_less_accurate_and_cheaper():
    model = mixture(2)
    x = model.sample(32, LOW, seed=1)
    truth = model.log_prob(x, LOW)
    errors, costs = [], []
    for tolerance in (1e-3, 1e-5, 1e-8):
        result = tight(model, x, rtol=tolerance, atol=tolerance)
        errors.append((result.value - truth).abs().max().item())
        costs.append(result.evaluations)
    assert errors[2] < 1e-7 < errors[1] < errors[0] < 0.1
    assert costs[0] < costs[1] < costs[2]


def test_smoothed_data_points_have_a_density():
    model = Empirical(torch.tensor([[0.0, 0.0], [1.0, 0.5], [-1.0, 2.0]], dtype=torch.float64))
    x = model.sample(16, 0.1, seed=3)
    result = tight(model, x, sigma_min=0.1)
    assert (result.value - model.log_prob(x, 0.1)).abs().max() < 1e-4


@pytest.mark.parametrize("d", [2, 8])
def test_the_moment_matched_prior_is_right_as_sigma_max_grows(d):
    """What N(mean, sigma_max² I + covariance) misses begins with the third cumulant: the error
    falls as sigma_max to the -3.
    """
    model = mixture(d)
    x = model.sample(48, LOW, seed=1)
    truth = model.log_prob(x, LOW)

    def error(sigma_max: float) -> float:
        result = tight(model, x, sigma_max=sigma_max, prior=None, rtol=1e-7, atol=1e-7)
        assert "moments of the data" in result.prior
        return (result.value - truth).square().mean().sqrt().item()

    errors = [error(s) for s in (10.0, 40.0, 160.0)]
    orders = [math.log(a / b) / math.log(4) for a, b in itertools.pairwise(errors)]
    assert all(2.7 < order < 3.3 for order in orders), (errors, orders)
    assert error(1000.0) < 1e-6


def test_a_wrong_prior_is_noticed():
    model = mixture(2)
    x = model.sample(32, LOW, seed=1)
    wrong = prior(model, 0.5 * HIGH)
    assert (tight(model, x, prior=wrong).value - model.log_prob(x, LOW)).abs().median() > 0.5


def test_the_wrong_sign_of_the_divergence_is_noticed(monkeypatch):
    model = mixture(2)
    x = model.sample(32, LOW, seed=1)
    right = flow.exact_trace
    monkeypatch.setattr(flow, "exact_trace", lambda *given: -right(*given))
    assert (tight(model, x).value - model.log_prob(x, LOW)).abs().median() > 0.5


# ---- Hutchinson


def test_hutchinson_is_unbiased_and_its_standard_error_honest():
    d, probes = 64, 16
    model = mixture(d, 2)
    x = model.sample(64, 0.1, seed=1)
    result = tight(
        model, x, sigma_min=0.1, divergence="hutchinson", probes=probes, rtol=1e-5, atol=1e-5
    )
    off = result.value - model.log_prob(x, 0.1)
    assert (result.se > 0.01).all()
    pooled = result.se.square().sum().sqrt() / len(x)
    assert off.mean().abs() < SE * pooled
    # z is Student's t with probes - 1 degrees of freedom: E z² = n / (n - 2), var z² = 2 n² (n - 1)
    # / ((n - 2)² (n - 4)).
    n = probes - 1
    spread = math.sqrt(2 * n**2 * (n - 1) / ((n - 2) ** 2 * (n - 4)) / len(x))
    assert abs((off / result.se).square().mean().item() - n / (n - 2)) < SE * spread


def test_a_biased_estimator_is_noticed(monkeypatch):
    """The same check with the probes' products halved."""
    model = mixture(64, 2)
    x = model.sample(16, 0.1, seed=1)
    right = flow.hutchinson
    monkeypatch.setattr(flow, "hutchinson", lambda *given: right(*given) / 2)
    result = tight(model, x, sigma_min=0.1, divergence="hutchinson", rtol=1e-4, atol=1e-4)
    off = result.value - model.log_prob(x, 0.1)
    assert off.mean().abs() > 2 * SE * result.se.square().sum().sqrt() / len(x)


def test_auto_is_exact_up_to_64_elements():
    for d, word in ((64, "exact"), (65, "Hutchinson")):
        model = Gaussian(torch.zeros(d), 1.0)
        options = LikelihoodOptions(sigma_min=0.5, sigma_max=2.0, rtol=1e-3)
        assert word in log_prob(model, model.sample(2), options=options).divergence


def test_probes_belong_to_the_seed_and_the_sample_not_to_the_batch():
    model = mixture(8)
    x = model.sample(6, LOW, seed=1)
    whole, again, other, parts = (
        tight(model, x, divergence="hutchinson", seed=seed, batch=batch)
        for seed, batch in ((0, None), (0, None), (1, None), (0, 2))
    )
    assert torch.equal(whole.value, again.value)
    assert (whole.value - other.value).abs().median() > 0.05
    assert (whole.value - parts.value).abs().max() < 1e-4  # step control is batch-wide
    assert (whole.se - parts.se).abs().max() < 1e-4


# ---- units


@pytest.mark.parametrize(("shift", "scale"), [(-3.0, 1000.0), ([1.0, -2.0], [0.01, -7.0])])
def test_a_change_of_units_moves_log_p_by_exactly_the_jacobian(shift, scale):
    model = mixture(2)
    x = model.sample(32, LOW, seed=1)
    plain = tight(model, x)
    model.units = Units.affine(shift, scale)
    moved = tight(model, model.units.to_data(x))
    jacobian = -torch.as_tensor(scale, dtype=torch.float64).abs().log().expand(2).sum()
    assert (moved.value - plain.value - jacobian).abs().max() < 1e-8


def test_a_forgotten_jacobian_is_noticed(monkeypatch):
    model = mixture(2)
    x = model.sample(32, LOW, seed=1)
    plain = tight(model, x)
    model.units = Units.affine(-3.0, 1000.0)
    monkeypatch.setattr(Units, "log_det", lambda self, x: torch.zeros(len(x), dtype=torch.float64))
    moved = tight(model, model.units.to_data(x))
    assert (moved.value - plain.value + 2 * math.log(1000.0)).abs().min() > 1


def test_a_density_on_the_unit_interval_through_a_logit_integrates_to_one():
    model = GaussianMixture([[-1.5], [1.0]], [0.3, 0.6], [0.4, 0.6])
    model.units = Units.affine(0.2, 0.7, logit=1e-6)
    n = 4000
    x = (torch.arange(n, dtype=torch.float64)[:, None] + 0.5) / n
    assert abs(tight(model, x, rtol=1e-5, atol=1e-5).value.exp().mean().item() - 1) < 1e-4
    with pytest.raises(InputError, match=r"\[0, 1\].*sample 1 spans 1.5"):
        log_prob(model, torch.tensor([[0.5], [1.5]]), options=WIDE)


# ---- precision and state


def test_autocast_is_off_and_the_model_left_as_it_was():
    model = network()
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    plain = log_prob(model, x)
    model.autocast = torch.bfloat16
    model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = log_prob(model, x)
    assert torch.equal(plain.value, cast.value)
    assert model.autocast is torch.bfloat16
    assert model.training
    assert model.network.training
    assert all(p.grad is None for p in model.parameters())


def test_a_network_in_float64_agrees_and_stays_float32_itself():
    model = network()
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    single, double = (
        log_prob(model, x, options=LikelihoodOptions(dtype=dtype))
        for dtype in (torch.float32, torch.float64)
    )
    assert (single.value - double.value).abs().max() < 1e-3
    assert next(model.parameters()).dtype == torch.float32
    assert single.prior == "N(0, 20² I)"


def test_progress_rises_to_one():
    seen: list[float] = []
    model = mixture(2)
    options = LikelihoodOptions(sigma_min=LOW, sigma_max=HIGH, batch=2)
    log_prob(model, model.sample(5), options=options, progress=seen.append)
    assert seen[-1] == 1.0
    assert seen[0] < 0.1
    assert max(seen[:-1]) < 1


def test_a_result_behaves_simply():
    model = mixture(2)
    result = sf.log_prob(model, model.sample(9, LOW), options=WIDE)
    assert len(result) == 9
    assert np.asarray(result).shape == (9,)
    assert result.mean == pytest.approx(np.asarray(result).mean())
    assert result.mean_se == pytest.approx(np.asarray(result).std(ddof=1) / 3)
    assert "nats" in str(result)
    assert "sigma_min 0.01" in str(result)
    facts = json.loads(json.dumps(result.to_dict()))
    assert facts["count"] == 9
    assert facts["cost"]["forwards"] == 9 * result.evaluations


def test_no_samples_have_no_density():
    model = mixture(2)
    assert len(log_prob(model, torch.empty(0, 2), options=WIDE)) == 0


def test_a_copy_in_another_type_is_a_real_copy():
    """float64 of a network, an adapted network and a guided pair: the model itself is untouched."""

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = torch.nn.Linear(3, 3)

        def forward(self, y: Tensor, t: Tensor) -> Tensor:
            return torch.tanh(self.line(y))

    torch.manual_seed(0)
    adapted = from_vp(Net(), lambda t: torch.exp(-0.1 * t - 4 * t * t), (3,))
    pair = Guided(network(), 2.0, weak=network())
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for model in (adapted, Bound(adapted, None), pair):
        before = {k: v.clone() for k, v in model.state_dict().items()}
        double = log_prob(model, x, options=LikelihoodOptions(dtype=torch.float64))
        single = log_prob(model, x)
        assert (single.value - double.value).abs().max() < 0.02
        after = model.state_dict()
        assert all(
            torch.equal(after[k], v) and after[k].dtype == v.dtype for k, v in before.items()
        )
    twin = copy.deepcopy(adapted)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert not torch.allclose(log_prob(twin, x).value, log_prob(adapted, x).value, atol=1e-2)


def test_a_closed_form_beside_a_network_keeps_its_float64():
    """Only leaves with weights are converted, in a copy."""
    model = Guided(mixture(3), 1.0, weak=network())
    low = LikelihoodOptions(sigma_min=0.1, sigma_max=10.0, dtype=torch.float32)
    high = dataclasses.replace(low, dtype=torch.float64)
    x = model.inner.sample(4, 0.1)
    assert (
        log_prob(model, x, options=low).value - log_prob(model, x, options=high).value
    ).abs().max() < 1e-3
    assert model.inner.means.dtype == torch.float64


# ---- ranges, conditions and wrappers


@pytest.mark.parametrize(
    "model", [mixture(2), Gaussian([0.0, 1e3], [1e-2, 1e2]), GaussianMixture([[-5.0], [5.0]], 1e-2)]
)
def test_closed_forms_need_nothing_but_samples(model):
    """The default range ends where the density is p itself and where the prior is right."""
    x = model.sample(32, seed=1)
    result = sf.log_prob(model, x)
    assert (result.value - model.log_prob(x)).abs().max() < 0.02
    assert (result.sigma_min, result.sigma_max) == model.sampling_range()


def labelled(d: int = 2) -> GaussianMixture:
    plain = mixture(d, 3)
    means = torch.cat([plain.means, plain.means + 3])
    covariances = torch.eye(d, dtype=torch.float64) * torch.arange(1, 7).double()[:, None, None]
    return GaussianMixture(means, 0.3 * covariances, [1, 2, 3, 4, 5, 6], labels=[0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("given", ["matched prior", "exact prior"])
def test_a_condition_reaches_the_flow_and_the_prior(given):
    """log p(x | c) of every class, mixed in one batch, against the closed form."""
    model = labelled()
    classes = torch.arange(12) % 3
    x = model.sample(12, LOW, seed=1, condition={"class": classes})
    truth = model.log_prob(x, LOW, {"class": classes})
    law = {"prior": None, "sigma_max": 1000.0} if given == "matched prior" else {}
    result = tight(model, x, condition={"class": classes.tolist()}, batch=5, **law)
    assert (result.value - truth).abs().max() < 1e-4
    assert (truth - model.log_prob(x, LOW)).abs().min() > 0.05  # the control: it matters
    alone = tight(model, x[:4], condition={"class": 1}, **law)
    assert (
        alone.value - model.log_prob(x[:4], LOW, {"class": torch.ones(4).long()})
    ).abs().max() < 1e-4


def test_a_condition_dropped_from_the_prior_is_noticed():
    """The moment-matched prior at a small sigma_max depends on the class."""
    model, x = labelled(), labelled().sample(6, LOW, seed=1)
    right = tight(model, x, condition={"class": 0}, prior=None, sigma_max=5.0)
    wrong = tight(model, x, condition={"class": 0}, prior=prior(model, 5.0), sigma_max=5.0)
    assert (right.value - wrong.value).abs().max() > 0.05
    assert right.prior == "N(mean, 5² I + covariance), moments of the data"


def test_a_bound_model_has_the_conditional_density():
    model = labelled()
    x = model.sample(6, LOW, seed=1)
    bound = Bound(model, {"class": torch.tensor([2])})
    truth = model.log_prob(x, LOW, {"class": torch.full((6,), 2)})
    result = tight(bound, x, prior=None, sigma_max=1000.0)
    assert (result.value - truth).abs().max() < 1e-4


def test_a_guided_model_costs_two_evaluations_where_guidance_acts():
    """The flow of a guided model has a density too, that of its samples."""
    model, x = labelled(), labelled().sample(4, LOW, seed=1)
    one = tight(Guided(model, 1.0), x, condition={"class": 1}, prior=None)
    plain = tight(model, x, condition={"class": 1}, prior=None)
    assert torch.equal(one.value, plain.value)
    assert one.evaluations == plain.evaluations
    two = tight(Guided(model, 2.0), x, condition={"class": 1}, prior=None)
    assert two.evaluations % 2 == 0
    assert two.products == 2 * two.evaluations
    assert (two.value - plain.value).abs().max() > 0.1


@pytest.mark.parametrize("form", ["square", "scalar"])
def test_an_energy_counts_the_gradient_inside_each_evaluation(form):
    torch.manual_seed(0)
    net = build("mlp", (3,), width=16, depth=1)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    model = FORMS[form](net, (3,), 0.05, 20.0).eval()
    result = log_prob(model, torch.zeros(2, 3), options=LikelihoodOptions(rtol=1e-3, atol=1e-3))
    assert result.products == (1 + 3) * result.evaluations


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"label": 1}, "takes 'class': classes 0 to 2"),
        ({"class": 3}, "classes 0 to 2; got 3"),
        ({"class": [0, 1]}, "one for each of 4 samples"),
        (1, "must be a mapping"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(condition, words):
    with pytest.raises(InputError, match=words):
        log_prob(labelled(), torch.zeros(4, 2), condition=condition, options=WIDE)


# ---- refusals


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dtype": torch.bfloat16}, "float32 or torch.float64"),
        ({"dtype": torch.float32, "rtol": 1e-8}, "below 1e-06"),
        ({"divergence": "exakt"}, "one of auto, exact, hutchinson"),
        ({"divergence": "hutchinson", "probes": 1}, "at least 2 probes"),
        ({"sigma_min": 0.0}, "sigma_min must be above 0"),
        ({"sigma_max": math.inf}, "sigma_max must be .* finite"),
        ({"sigma_min": 60.0}, "sigma_min < sigma_max"),
        ({"batch": 0}, "at least 1"),
        ({"atol": 0.0}, "atol must be above 0"),
        ({"prior": 3}, "log_prob"),
        (
            {"prior": torch.distributions.Normal(0.0, 50.0)},
            r"one number a sample, \(4,\); got \(4, 2\)",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(given, words):
    with pytest.raises(InputError, match=words):
        tight(mixture(2), torch.zeros(4, 2), **given)


@pytest.mark.parametrize("x", [torch.zeros(4, 3), torch.zeros(2)])
def test_x_of_another_shape_or_type_is_refused(x):
    with pytest.raises(InputError, match=r"floats \(B, 2\)"):
        log_prob(mixture(2), x, options=WIDE)


def test_models_that_know_only_their_ladder_are_refused():
    model = network("ncsn", ladder=geometric(20.0, 0.05, 10))
    for refused in (model, Bound(model, None)):
        with pytest.raises(InputError, match="conditioned on a level's index"):
            log_prob(refused, torch.zeros(1, 3))


def test_a_range_beyond_the_models_is_refused():
    with pytest.raises(InputError, match=r"\[0.05, 20\]"):
        log_prob(network(), torch.zeros(1, 3), options=LikelihoodOptions(sigma_max=40.0))


def test_a_flow_that_is_not_finite_is_named():
    model = network()
    next(model.network.parameters()).data.fill_(math.nan)
    with pytest.raises(NonFiniteError, match=r"at sigma 0\.05"):
        log_prob(model, torch.zeros(1, 3))


class Jumps(ScoreModel):
    """A score that jumps in sigma without end: no step size is right."""

    event_shape, sigma_min, sigma_max = (1,), 0.1, 10.0

    def score(self, x, sigma, condition=None):
        return x * torch.sign(torch.sin(1e9 * torch.as_tensor(sigma))) * 10


def test_a_solver_that_is_stuck_says_so(monkeypatch):
    monkeypatch.setattr(flow, "MOST_STEPS", 200)
    options = LikelihoodOptions(dtype=torch.float64, rtol=1e-9, atol=1e-9)
    with pytest.raises(InputError, match="larger tolerances"):
        log_prob(Jumps(), torch.ones(2, 1), options=options)


# ---- bits per dimension


def test_bits_per_dimension_bound_the_discrete_truth():
    """Counts of a known density in bins of 1/levels: the bound lies above -log2 P(v), by little
    where bins are narrow.
    """
    levels, d, mean, std, sigma = 64, 2, 0.5, 0.15, 0.001
    model = Gaussian([mean] * d, std**2)
    model.units = dataclasses.replace(model.units, quantisation=Quantisation(levels))
    v = torch.arange(8, 56)[:, None, None].expand(-1, 64, d)
    u = (
        torch.arange(64, dtype=torch.float64)[None, :, None] + 0.5
    ) / 64  # a grid in place of draws: the mean over u is exact
    x = ((v + u) / levels).reshape(-1, d)
    bits = bits_per_dim(model, tight(model, x, sigma_min=sigma)).value.reshape(48, 64).mean(1)
    total = math.sqrt(std**2 + sigma**2)
    edges = (torch.arange(8, 57, dtype=torch.float64) / levels - mean) / total
    truth = -torch.special.ndtr(edges).diff().log2()
    slack = bits - truth
    assert slack.min() > -1e-4
    assert slack.max() < 0.005


def test_bits_need_a_declared_quantisation_and_dequantised_training():
    model = mixture(2)
    result = log_prob(model, model.sample(3), options=WIDE)
    with pytest.raises(InputError, match="declare no quantisation"):
        bits_per_dim(model, result)
    quantisation = Quantisation(256, dequantised=False)
    model.units = dataclasses.replace(model.units, quantisation=quantisation)
    with pytest.raises(InputError, match="dequantise=none"):
        bits_per_dim(model, result)
    assert (
        bits_per_dim(Bound(mixture_of_levels(256), None), result).levels == 256
    )  # the units of a wrapper are its inner model's


def mixture_of_levels(levels: int) -> GaussianMixture:
    model = mixture(2)
    model.units = dataclasses.replace(model.units, quantisation=Quantisation(levels))
    return model


# ---- trained on digits, and the command


def digits_run(folder: Path, images: int, condition: str | None = None, **settings) -> Path:
    options = {"network.name": "mlp", "optim.batch": 256, "optim.lr": 2e-3, "optim.warmup": 2000}
    execution = {
        "execution.threads": 1,
        "execution.compile": "off",
        "execution.precision": "float32",
    }
    settings = options | execution | settings
    fit("digits", folder, images=images, condition=condition, settings=settings)
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    return digits_run(tmp_path_factory.mktemp("digits") / "run", 20_000)


@pytest.fixture
def command(monkeypatch, capsys):
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(
            sys, "argv", ["scorefield", "likelihood", *map(str, arguments), "--threads", "1"]
        )
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def test_a_model_of_digits_reports_bits_per_dimension(digits, tmp_path, command):
    out = tmp_path / "digits.json"
    code, text, err = command(
        digits,
        "--count",
        48,
        "--out",
        out,
        "--divergence",
        "hutchinson",
        "--probes",
        4,
        "--rtol",
        1e-3,
        "--atol",
        1e-3,
    )
    assert code == 0, err
    facts = json.loads(out.read_text())
    bits, log_p = facts["bits_per_dim"], facts["log_prob"]
    assert bits["mean"] + SE * bits["mean_se"] < math.log2(17)  # better than uniform
    assert bits["mean"] > 2
    assert bits["mean"] == pytest.approx(math.log2(17) - log_p["mean"] / (64 * math.log(2)))
    assert bits["levels"] == 17
    assert "uniform" in bits["dequantisation"]
    model = sf.load(digits)
    assert log_p["sigma_min"] == model.sigma_min
    assert log_p["prior"].startswith(f"N(mean, {model.sigma_max:g}² I + variance)")
    assert facts["data"]["part"] == "held-out"
    assert "bits/dim" in text
    held = open_card_data(sf.load(digits).card).held_out
    assert facts["data"]["index"] == held[:48].tolist()
    assert len(log_p["values"]) == len(log_p["se"]) == 48


def test_the_command_refuses_in_words(digits, tmp_path, command):
    out = tmp_path / "x.json"
    for arguments, words in (
        (("--out", tmp_path), "must name a .json file"),
        (("--out", out, "--data", "ring"), "the model needs (1, 8, 8)"),
        (("--out", out, "--part", "test"), "held-out, train, all"),
        (("--out", out, "--precision", "bfloat16"), "float32 or float64"),
        (("--out", out, "--count", -1), "--count"),
    ):
        code, _, err = command(digits, *arguments)
        assert code == 2, arguments
        assert words in " ".join(err.split()), err
        assert not out.exists()


def test_data_of_another_level_count_are_refused(digits, tmp_path, command):
    """A stored 200 is no level of digits, whose levels are 0 to 16."""
    pictures = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "eight.npy", pictures)
    out = tmp_path / "x.json"
    code, _, err = command(digits, "--data", tmp_path / "eight.npy", "--out", out)
    assert code == 2
    assert "0 to 16" in err
    assert not out.exists()


def test_other_data_of_the_models_levels_are_measured_all(digits, tmp_path, command):
    """Dark digits hold values 0 to 3, and are read as the model's 17 levels all the same."""
    dark = np.random.default_rng(0).integers(0, 4, (6, 1, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "dark.npy", dark)
    out = tmp_path / "x.json"
    fast = ["--rtol", 1e-2, "--atol", 1e-2, "--divergence", "hutchinson", "--reference", 4]
    code, _, err = command(digits, "--data", tmp_path / "dark.npy", "--out", out, *fast)
    assert code == 0, err
    facts = json.loads(out.read_text())
    assert facts["bits_per_dim"]["levels"] == 17
    assert facts["data"]["part"] == "other data"
    rows = out.with_suffix(".csv").read_text().splitlines()
    assert rows[0].replace('"', "") == "row,log_p,log_p_se,rank"
    assert len(rows) == 7


def test_a_conditional_model_is_measured_given_the_labels(tmp_path, command):
    """By default as trained; `--condition none` gives log p(x); both as `log_prob` has them."""
    model = sf.load(digits_run(tmp_path / "run", 4000, condition="class"))
    data = open_card_data(model.card)
    chosen = data.held_out[:6]
    pipeline = Pipeline(data.dataset, data.held_out, Units.identity(), 0, condition="class")
    x, labels = pipeline.held_out(chosen)
    options = LikelihoodOptions(rtol=1e-2, atol=1e-2)
    for flags, condition in (((), labels), (("--condition", "none"), None)):
        out = tmp_path / f"{len(flags)}.json"
        how = ("--rtol", 1e-2, "--atol", 1e-2, "--count", 6, "--out", out)
        code, _, err = command(tmp_path / "run", *how, *flags)
        assert code == 0, err
        facts = json.loads(out.read_text())
        wanted = log_prob(model, x, condition=condition, options=options)
        assert facts["condition"] == ("none" if flags else "class")
        assert facts["log_prob"]["values"] == pytest.approx(wanted.value.tolist(), abs=0.05)
    unconditional = log_prob(model, x, options=options).value
    assert (wanted.value - unconditional).abs().max() == 0
    others = {"class": (labels["class"] + 5) % 10}
    given, wrong = (log_prob(model, x, condition=c, options=options) for c in (labels, others))
    assert (given.value - wrong.value).abs().max() > 0.01


@pytest.mark.slow
def test_a_longer_trained_model_of_digits_is_well_below_a_gaussian(tmp_path):
    """Exact trace against Hutchinson on a network, and a bound below that of the best Gaussian of
    the training part.
    """
    model = sf.load(digits_run(tmp_path / "run", 300_000))
    data = open_card_data(model.card)
    pipeline = Pipeline(data.dataset, data.held_out, Units.identity(), 0)
    x, _ = pipeline.held_out(data.held_out[:96])
    options = LikelihoodOptions(rtol=1e-4, atol=1e-4)
    exact = log_prob(model, x, options=options)
    estimate = log_prob(model, x, options=options, divergence="hutchinson")
    pooled = estimate.se.square().sum().sqrt() / len(x)
    assert (estimate.value - exact.value).mean().abs() < SE * pooled
    seen = pipeline.held_out(data.train)[0].double().flatten(1)
    best = torch.distributions.MultivariateNormal(seen.mean(0), seen.T.cov())
    rival = math.log2(17) - best.log_prob(x.double().flatten(1)) / (64 * math.log(2))
    gain = rival - bits_per_dim(model, exact).value
    assert gain.mean() > SE * gain.std() / len(x) ** 0.5


# -- elements that are constant in the training data


def plane_mixture() -> tuple[Tensor, Tensor, Tensor]:
    """Means, covariances and weights of two correlated components in the plane."""
    means = torch.tensor([[-1.0, 0.5], [1.5, -0.5]], dtype=torch.float64)
    roots = torch.tensor([[[0.6, 0.0], [0.3, 0.5]], [[0.4, 0.0], [-0.2, 0.7]]]).double()
    return means, roots @ roots.mT, torch.tensor([0.3, 0.7], dtype=torch.float64)


def with_constant(position: int, value: float) -> GaussianMixture:
    """The mixture in the plane, with a third element that is always `value`."""
    means, spreads, weights = plane_mixture()
    others = torch.tensor([k for k in range(3) if k != position])
    whole_means = torch.zeros(2, 3, dtype=torch.float64)
    whole_means[:, others] = means
    whole = 1e-12 * torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
    for k in range(2):
        whole[k][others[:, None], others] = spreads[k]
    model = GaussianMixture(whole_means, whole, weights)
    still = torch.arange(3) == position
    shift = torch.where(still, torch.tensor(value, dtype=torch.float64), 0.0)
    model.units = Units(shift, torch.ones(3, dtype=torch.float64), still)
    return model


@pytest.mark.parametrize(("position", "value"), [(0, 5.0), (1, -3e6), (2, 0.0)])
def test_constant_elements_do_not_enter_the_density(position: int, value: float) -> None:
    model, plane = with_constant(position, value), GaussianMixture(*plane_mixture())
    others = [k for k in range(3) if k != position]
    x = torch.full((5, 3), value, dtype=torch.float64)
    x[:, others] = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)).double()
    options = LikelihoodOptions(sigma_min=0.01, sigma_max=20.0, rtol=1e-8, atol=1e-8)
    found = log_prob(model, x, options=options)
    prior_law = log_prob(plane, x[:, others], options=options)
    assert found.elements == 2
    assert torch.allclose(found.value, prior_law.value, atol=1e-6)
    # Control: as an element of the density the constant changes every value.
    model.units = Units(model.units.shift, model.units.scale, torch.zeros(3, dtype=torch.bool))
    wrong = log_prob(model, x, options=options)
    assert float((wrong.value - prior_law.value).abs().min()) > 1


def test_a_row_that_differs_from_a_constant_has_density_zero() -> None:
    model = with_constant(1, 7.0)
    x = torch.tensor([[0.0, 7.0, 0.0], [0.0, 7.001, 0.0], [0.0, 6.0, 0.0]], dtype=torch.float64)
    options = LikelihoodOptions(sigma_min=0.01, sigma_max=20.0)
    value = log_prob(model, x, options=options).value
    assert torch.isfinite(value[0])
    assert value[1:].tolist() == [-math.inf, -math.inf]
    assert torch.isfinite(log_prob(model, x[:1].float(), options=options).value[0])


# -- ranks


def test_ranks_count_the_reference_below_and_half_of_the_ties() -> None:
    reference = torch.tensor([1.0, 2.0, 2.0, 4.0])
    values = torch.tensor([0.0, 1.0, 2.0, 3.0, 5.0, -math.inf])
    assert ranks(values, reference).tolist() == [0.0, 0.125, 0.5, 0.75, 1.0, 0.0]
    with pytest.raises(InputError, match="at least one reference"):
        ranks(values, reference[:0])


def test_ranks_of_the_references_own_law_are_uniform() -> None:
    generator = torch.Generator().manual_seed(3)
    reference = torch.randn(2000, generator=generator).double()
    found = ranks(torch.randn(2000, generator=generator).double(), reference)
    # The mean of 2,000 uniform ranks against 2,000 references: variance 1/12 (1/2000 + 1/2000).
    assert abs(float(found.mean()) - 0.5) < SE * (1 / 12 / 1000) ** 0.5
    shifted = ranks(torch.randn(2000, generator=generator).double() - 0.3, reference)
    assert abs(float(shifted.mean()) - 0.5) > SE * (1 / 12 / 1000) ** 0.5
