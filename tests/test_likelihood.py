"""log p by the probability flow against densities in closed form, with the mistakes it must notice,
and bits per dimension.
"""

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
from scorefield.data import Pipeline, load, split
from scorefield.errors import InputError, NonFiniteError
from scorefield.exact import Empirical, Gaussian, GaussianMixture
from scorefield.likelihood import LogProb, bits_per_dim, flow, log_prob
from scorefield.model import Preconditioned, ScoreModel, terminal
from scorefield.networks import build
from scorefield.noise import geometric
from scorefield.training import fit
from scorefield.units import Units

SE = 4.5
LOW, HIGH = 0.01, 50.0


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


def tight(model: ScoreModel, x: Tensor, **options) -> LogProb:
    """rtol 1e-6 on a fixed range, the exact law at its top unless told otherwise."""
    options = {
        "sigma_min": LOW,
        "sigma_max": HIGH,
        "rtol": 1e-6,
        "atol": 1e-6,
        "terminal": model,
    } | options
    return log_prob(model, x, **options)


def network(preconditioner: str = "edm", **options) -> Preconditioned:
    """A small untrained model whose score is not that of a Gaussian."""
    torch.manual_seed(0)
    net = build("mlp", (3,), width=16, depth=1)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return Preconditioned(net, (3,), 0.05, 20.0, preconditioner, **options).eval()


# ---- the density


@pytest.mark.parametrize("d", [2, 8])
def test_the_exact_terminal_law_gives_the_exact_density(d):
    model = mixture(d)
    x = torch.cat([model.sample(60, LOW, seed=1), 4 * model.sample(4, LOW, seed=2)])  # some far out
    result = tight(model, x)
    assert (result.value - model.log_prob(x, LOW)).abs().max() < 1e-4
    assert (result.se == 0).all()
    assert result.sigma_min == LOW
    assert result.terminal == "GaussianMixture at sigma 50"
    assert result.products == d * result.evaluations


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
def test_the_moment_matched_terminal_law_is_right_as_sigma_max_grows(d):
    """What N(mean, sigma_max² I + covariance) misses begins with the third cumulant: the error
    falls as sigma_max to the -3.
    """
    model = mixture(d)
    x = model.sample(48, LOW, seed=1)
    truth = model.log_prob(x, LOW)

    def error(sigma_max: float) -> float:
        result = tight(model, x, sigma_max=sigma_max, terminal=None, rtol=1e-7, atol=1e-7)
        assert "moments of the data" in result.terminal
        return (result.value - truth).square().mean().sqrt().item()

    errors = [error(s) for s in (10.0, 40.0, 160.0)]
    orders = [math.log(a / b) / math.log(4) for a, b in itertools.pairwise(errors)]
    assert all(2.7 < order < 3.3 for order in orders), (errors, orders)
    assert error(1000.0) < 1e-6


def test_a_wrong_terminal_law_is_noticed():
    model = mixture(2)
    x = model.sample(32, LOW, seed=1)
    wrong = terminal(model, 0.5 * HIGH)
    assert (tight(model, x, terminal=wrong).value - model.log_prob(x, LOW)).abs().median() > 0.5


def test_the_wrong_sign_of_the_divergence_is_noticed(monkeypatch):
    model = mixture(2)
    x = model.sample(32, LOW, seed=1)
    right = flow._exact
    monkeypatch.setattr(flow, "_exact", lambda g, y: -right(g, y))
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
    right = flow._hutchinson
    monkeypatch.setattr(flow, "_hutchinson", lambda g, y, probes: right(g, y, probes) / 2)
    result = tight(model, x, sigma_min=0.1, divergence="hutchinson", rtol=1e-4, atol=1e-4)
    off = result.value - model.log_prob(x, 0.1)
    assert off.mean().abs() > 2 * SE * result.se.square().sum().sqrt() / len(x)


def test_auto_is_exact_up_to_64_elements():
    for d, word in ((64, "exact"), (65, "Hutchinson")):
        model = Gaussian(torch.zeros(d), 1.0)
        assert (
            word
            in log_prob(model, model.sample(2), sigma_min=0.5, sigma_max=2.0, rtol=1e-3).divergence
        )


def test_probes_belong_to_the_seed_and_the_sample_not_to_the_batch():
    model = mixture(8)
    x = model.sample(6, LOW, seed=1)
    whole, again, other, parts = (
        tight(model, x, divergence="hutchinson", seed=seed, batch=batch)
        for seed, batch in ((0, None), (0, None), (1, None), (0, 2))
    )
    assert torch.equal(whole.value, again.value)
    assert (whole.value - other.value).abs().min() > 1e-3
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
        log_prob(model, torch.tensor([[0.5], [1.5]]), sigma_min=LOW, sigma_max=HIGH)


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
    single, double = (log_prob(model, x, dtype=dtype) for dtype in (torch.float32, torch.float64))
    assert (single.value - double.value).abs().max() < 1e-3
    assert next(model.parameters()).dtype == torch.float32
    assert single.terminal.startswith("N(0, 20² I)")


def test_progress_rises_to_one():
    seen: list[float] = []
    model = mixture(2)
    log_prob(model, model.sample(5), sigma_min=LOW, sigma_max=HIGH, batch=2, progress=seen.append)
    assert seen[-1] == 1.0
    assert seen[0] < 0.1
    assert max(seen[:-1]) < 1


def test_a_result_behaves_simply():
    model = mixture(2)
    result = sf.log_prob(model, model.sample(9, LOW), sigma_min=LOW, sigma_max=HIGH)
    assert len(result) == 9
    assert np.asarray(result).shape == (9,)
    assert result.mean == pytest.approx(np.asarray(result).mean())
    assert result.mean_se == pytest.approx(np.asarray(result).std(ddof=1) / 3)
    assert "nats" in str(result)
    assert "sigma_min 0.01" in str(result)
    assert json.loads(json.dumps(result.to_dict()))["count"] == 9


def test_no_samples_and_a_condition_of_the_wrong_length():
    model = mixture(2)
    assert len(log_prob(model, torch.empty(0, 2), sigma_min=LOW, sigma_max=HIGH)) == 0
    with pytest.raises(InputError, match="first dimension 1"):
        log_prob(
            model, torch.zeros(1, 2), sigma_min=LOW, sigma_max=HIGH, condition=torch.zeros(2, 1)
        )


# ---- refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": torch.bfloat16}, "float32 or torch.float64"),
        ({"dtype": torch.float32, "rtol": 1e-8}, "below 1e-06"),
        ({"divergence": "exakt"}, "one of auto, exact, hutchinson"),
        ({"divergence": "hutchinson", "probes": 1}, "at least 2 probes"),
        ({"sigma_min": None}, "pass both"),
        ({"sigma_max": math.inf}, "both finite"),
        ({"sigma_min": 60.0}, "sigma_min < sigma_max"),
        ({"batch": 0}, "at least 1"),
        ({"atol": 0.0}, "above zero"),
        ({"terminal": 3}, "log_prob"),
        (
            {"terminal": torch.distributions.Normal(0.0, 50.0)},
            r"one number a sample, \(4,\); got \(4, 2\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_words(options, words):
    with pytest.raises(InputError, match=words):
        log_prob(mixture(2), torch.zeros(4, 2), **({"sigma_min": LOW, "sigma_max": HIGH} | options))


@pytest.mark.parametrize(
    "x", [torch.zeros(4, 3), torch.zeros(2), torch.zeros(4, 2, dtype=torch.int64)]
)
def test_x_of_another_shape_or_type_is_refused(x):
    with pytest.raises(InputError, match=r"floats \(B, 2\)"):
        log_prob(mixture(2), x, sigma_min=LOW, sigma_max=HIGH)


def test_models_of_levels_are_refused():
    model = network("ncsn", ladder=geometric(20.0, 0.05, 10))
    with pytest.raises(InputError, match="conditioned on a level's index"):
        log_prob(model, torch.zeros(1, 3))


def test_a_range_beyond_the_models_is_refused():
    with pytest.raises(InputError, match=r"\[0.05, 20\]"):
        log_prob(network(), torch.zeros(1, 3), sigma_max=40.0)


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
    with pytest.raises(InputError, match="larger tolerances"):
        log_prob(Jumps(), torch.ones(2, 1), dtype=torch.float64, rtol=1e-9, atol=1e-9)


# ---- bits per dimension


def test_bits_per_dimension_bound_the_discrete_truth():
    """Counts of a known density in bins of 1/levels: the bound lies above -log2 P(v), by little
    where bins are narrow.
    """
    levels, d, mean, std, sigma = 64, 2, 0.5, 0.15, 0.001
    model = Gaussian([mean] * d, std**2)
    model.card = {"levels": levels}
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


def test_bits_need_a_declared_quantisation():
    model = mixture(2)
    result = log_prob(model, model.sample(3), sigma_min=LOW, sigma_max=HIGH)
    for card in (None, {}, {"levels": None}):
        model.card = card
        with pytest.raises(InputError, match="declares"):
            bits_per_dim(model, result)


# ---- trained on digits, and the command


def digits_run(folder: Path, images: int, **settings) -> Path:
    options = {"network.name": "mlp", "optim.batch": 256, "optim.lr": 2e-3, "optim.warmup": 2000}
    execution = {
        "execution.threads": 1,
        "execution.compile": "off",
        "execution.precision": "float32",
    }
    fit("digits", folder, images=images, settings=options | execution | settings)
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
    assert log_p["sigma_min"] == 0.002
    assert log_p["terminal"].startswith("N(mean, 80² I + variance)")
    assert facts["data"]["part"] == "held-out"
    assert "bits/dim" in text
    collection = load("digits")
    held = split(collection.labels, len(collection), 0, 0.1)[1]
    assert facts["data"]["index"] == held[:48].tolist()
    assert len(log_p["values"]) == len(log_p["se"]) == 48


def test_the_command_refuses_in_words(digits, tmp_path, command):
    out = tmp_path / "x.json"
    for arguments, words in (
        (("--out", tmp_path), "must name a .json file"),
        (("--out", out, "--data", "ring"), "the model needs (1, 8, 8)"),
        (("--out", out, "--data", "ring", "--part", "train"), "is other data"),
        (("--out", out, "--part", "test"), "held-out, train, all"),
        (("--out", out, "--precision", "bfloat16"), "float32 or float64"),
        (("--out", out, "--count", -1), "--count"),
    ):
        code, _, err = command(digits, *arguments)
        assert code == 2, arguments
        assert words in " ".join(err.split()), err
        assert not out.exists()


def test_data_of_another_level_count_get_nats_only(digits, tmp_path, command):
    np.save(
        tmp_path / "eight.npy",
        np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), dtype=np.uint8),
    )
    out = tmp_path / "x.json"
    code, text, err = command(
        digits,
        "--data",
        tmp_path / "eight.npy",
        "--out",
        out,
        "--rtol",
        1e-2,
        "--atol",
        1e-2,
        "--divergence",
        "hutchinson",
    )
    assert code == 0, err
    facts = json.loads(out.read_text())
    assert facts["bits_per_dim"] is None
    assert facts["data"]["part"] == "all"
    assert "bits" not in text


@pytest.mark.slow
def test_a_longer_trained_model_of_digits_is_well_below_a_gaussian(tmp_path):
    """Exact trace against Hutchinson on a network, and a bound below that of the best Gaussian of
    the training part.
    """
    model = sf.load(digits_run(tmp_path / "run", 300_000))
    collection = load("digits")
    train, held = split(collection.labels, len(collection), 0, 0.1)
    pipeline = Pipeline(collection, held, Units.identity(), 0)
    x = pipeline.held_out(held[:96])
    exact = log_prob(model, x, rtol=1e-4, atol=1e-4)
    estimate = log_prob(model, x, rtol=1e-4, atol=1e-4, divergence="hutchinson")
    pooled = estimate.se.square().sum().sqrt() / len(x)
    assert (estimate.value - exact.value).mean().abs() < SE * pooled
    seen = pipeline.held_out(train).double().flatten(1)
    best = torch.distributions.MultivariateNormal(seen.mean(0), seen.T.cov())
    rival = math.log2(17) - best.log_prob(x.double().flatten(1)) / (64 * math.log(2))
    gain = rival - bits_per_dim(model, exact).value
    assert gain.mean() > SE * gain.std() / len(x) ** 0.5
