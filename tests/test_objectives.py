"""Objectives against closed forms: value, gradient and sign; energy models; training by name.

Broken objectives stand beside them, which the same checks must find.
"""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

import scorefield as sf
from pretend_cuda import pretend_cuda
from scorefield import checkpoint, conditions, networks, rng
from scorefield.conditions import NULL_CLASS, Condition, ConditionSpec
from scorefield.config import Request, override, preset
from scorefield.data.toys import toy
from scorefield.errors import InputError
from scorefield.exact import Gaussian, GaussianMixture
from scorefield.models import FORMS, PRECONDITIONERS, Energy, Preconditioned, ScoreModel, broadcast
from scorefield.noise import geometric
from scorefield.objectives import (
    OBJECTIVES,
    PROBES,
    SCORE_WEIGHTS,
    WEIGHTS,
    Denoising,
    Exact,
    Objective,
    Sliced,
    SlicedVR,
    fisher_divergence,
    implicit,
    make_objective,
    mean_loss,
)
from scorefield.objectives.implicit import draw_slice
from scorefield.runs import Run
from scorefield.training import train

SE = 4.5
MANY = 20_000
N = 4_000  # enough to see every broken objective below
COUNTS = [N, pytest.param(MANY, marks=pytest.mark.slow)]
SD = 0.8  # sigma_data wherever a weight or the control variate asks

CASES: dict[str, dict[str, object]] = {
    **{name: {} for name in OBJECTIVES},
    "denoising, control variate": {"control_variate": True},
    **{
        f"{name}, {probe}": {"probe": probe} for name in ("sliced", "sliced-vr") for probe in PROBES
    },
    "sliced, 3 slices": {"slices": 3},
    "sliced-vr, 3 slices": {"slices": 3, "probe": "sphere"},
}


def case(name: str, weight: str = "ncsn") -> Objective:
    return make_objective(name.split(",")[0], weight, SD, **CASES[name])


def test_every_objective_is_a_case() -> None:
    assert {name.split(",")[0] for name in CASES} == set(OBJECTIVES)


# -- densities with a known E|grad log p_sigma|²

COVARIANCE = torch.tensor(
    [[0.9, 0.3, 0.1], [0.3, 0.5, -0.1], [0.1, -0.1, 0.7]], dtype=torch.float64
)


def gaussian() -> Gaussian:
    return Gaussian([1.0, -2.0, 0.5], COVARIANCE)


def image() -> Gaussian:
    """Event (1, 2, 3)."""
    return Gaussian(
        torch.linspace(-1, 1, 6).reshape(1, 2, 3), torch.linspace(0.3, 1.2, 6).reshape(1, 2, 3)
    )


WEIGHT, CENTRES, VARIANCES = (0.3, 0.7), (-1.5, 1.0), 0.25


def mixture() -> GaussianMixture:
    """Two balls along (0.6, 0.8)."""
    along = torch.tensor([0.6, 0.8], dtype=torch.float64)
    return GaussianMixture(torch.stack([c * along for c in CENTRES]), VARIANCES, weights=WEIGHT)


def information(truth: ScoreModel, sigma: float) -> float:
    """G = E|grad log p_sigma|².

    For a Gaussian it is the trace of the precision. For the mixture it is 1/v across its line, and
    a sum over a fine grid along it.
    """
    if isinstance(truth, Gaussian):
        return (1 / (truth.spectrum + sigma**2)).sum().item()
    v = VARIANCES + sigma**2
    t = torch.linspace(-30, 30, 200_001, dtype=torch.float64)
    parts = [
        w * (-((t - c) ** 2) / (2 * v)).exp() / math.sqrt(2 * math.pi * v)
        for w, c in zip(WEIGHT, CENTRES, strict=True)
    ]
    slope = sum(-p * (t - c) / v for p, c in zip(parts, CENTRES, strict=True))
    return torch.trapezoid(slope**2 / sum(parts).clamp_min(1e-300), t).item() + 1 / v


TRUTHS = {"gaussian": gaussian, "image": image, "mixture": mixture}


class Scaled(ScoreModel):
    """A known score times a; every sample has an a of its own, to give it its own derivative.

    The log density is a log p.
    """

    has_log_density = True

    def __init__(self, truth: GaussianMixture, a: float, count: int) -> None:
        super().__init__()
        self.truth, self.event_shape, self.sigma_min, self.sigma_max = (
            truth,
            truth.event_shape,
            truth.sigma_min,
            truth.sigma_max,
        )
        self.parameter = torch.full((count,), a, dtype=torch.float64, requires_grad=True)

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        # the control variate evaluates x and x0 at once
        a = self.parameter.repeat(len(x) // len(self.parameter))
        return broadcast(a, x) * self.truth.score(x, sigma)

    def log_density(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        return self.parameter * self.truth.log_prob(x, sigma)


class Round(Scaled):
    """The score of N(1, t I): the right family for a Gaussian, with a wrong mean and variance."""

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        t = self.parameter.repeat(len(x) // len(self.parameter))
        return (1 - x) / broadcast(t, x)


def deviations(
    objective: Objective, model: Scaled, sigma: float, value: float, slope: float
) -> tuple[float, float]:
    """(loss - value, derivative - slope), each in standard errors. value and slope: of trace + 1/2
    square, the sum over the event.
    """
    truth, count = model.truth, len(model.parameter)
    d = math.prod(truth.event_shape)
    x0, level = truth.sample(count, 0.0, seed=5), torch.tensor(sigma, dtype=torch.float64)
    losses = objective.losses(model, x0, level, rng.keys(6, count))
    (slopes,) = torch.autograd.grad(losses.sum(), model.parameter)
    scale = objective.weigh_score(level).item() / d
    constant = d / (2 * sigma**2) if isinstance(objective, Denoising) else 0.0
    out = []
    for values, expected in ((losses, scale * (value + constant)), (slopes, scale * slope)):
        se = values.std().item() / math.sqrt(count) + 1e-12
        out.append((values.mean().item() - expected) / se)
    return out[0], out[1]


def scaled(
    objective: Objective, truth: GaussianMixture, a: float, sigma: float, count: int = N
) -> tuple[float, float]:
    """E[tr + 1/2 |s|²] = (a²/2 - a) G, since E[tr(grad grad log p)] = -G."""
    g = information(truth, sigma)
    return deviations(objective, Scaled(truth, a, count), sigma, (a**2 / 2 - a) * g, (a - 1) * g)


def round_(
    objective: Objective, truth: Gaussian, t: float, sigma: float, count: int = N
) -> tuple[float, float]:
    """E[tr + 1/2 |s|²] = -d/t + E|x - 1|²/(2 t²)."""
    d = math.prod(truth.event_shape)
    second = (truth.spectrum + sigma**2).sum().item() + (truth.means - 1).square().sum().item()
    value, slope = -d / t + second / (2 * t**2), d / t**2 - second / t**3
    return deviations(objective, Round(truth, t, count), sigma, value, slope)


@pytest.mark.parametrize("sigma", [0.3, 1.5])
@pytest.mark.parametrize("truth", list(TRUTHS))
@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("count", COUNTS)
def test_value_and_gradient_of_a_scaled_score(
    count: int, name: str, truth: str, sigma: float
) -> None:
    for a in (0.5, 1.6):  # the derivative's sign is that of a - 1
        assert max(map(abs, scaled(case(name), TRUTHS[truth](), a, sigma, count))) < SE


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("count", COUNTS)
def test_value_and_gradient_of_a_wrong_gaussian(count: int, name: str) -> None:
    for t in (0.8, 9.0):
        assert max(map(abs, round_(case(name), gaussian(), t, 0.5, count))) < SE


@pytest.mark.parametrize("weight", list(WEIGHTS))
@pytest.mark.parametrize("name", ["denoising", "denoising, control variate", "exact"])
@pytest.mark.parametrize("count", COUNTS)
def test_every_weight_means_the_same_in_both_forms(count: int, name: str, weight: str) -> None:
    assert max(map(abs, scaled(case(name, weight), mixture(), 0.5, 0.4, count))) < SE
    sigma = torch.tensor([0.01, 0.4, 7.0], dtype=torch.float64)
    assert torch.allclose(
        SCORE_WEIGHTS[weight](sigma, SD), 2 * sigma**4 * WEIGHTS[weight](sigma, SD), rtol=1e-12
    )


def test_any_weight_is_a_function() -> None:
    def weight(sigma: Tensor, sigma_data: float) -> Tensor:
        return 0.5 / sigma.square()

    x0, sigma, keys = (
        mixture().sample(50),
        torch.full((50,), 0.3, dtype=torch.float64),
        rng.keys(0, 50),
    )
    for name in CASES:
        model = Scaled(mixture(), 0.5, 50)
        own = dataclasses.replace(case(name), weight=weight).losses(model, x0, sigma, keys)
        assert torch.allclose(own, case(name, "ncsn").losses(model, x0, sigma, keys), rtol=1e-10)


@pytest.mark.parametrize("name", [n for n in CASES if not n.startswith(("denoising", "energy"))])
@pytest.mark.parametrize("count", COUNTS)
def test_clean_data_at_sigma_zero(count: int, name: str) -> None:
    for truth in (gaussian(), mixture()):
        assert max(map(abs, scaled(case(name, "fisher"), truth, 0.5, 0.0, count))) < SE


def test_denoising_refuses_sigma_zero() -> None:
    with pytest.raises(InputError, match="needs sigma > 0; got 0"):
        Denoising("ncsn").losses(mixture(), mixture().sample(4), torch.zeros(4), rng.keys(0, 4))


# -- negative controls: bugs that were or could be shipped, which the checks above must find


class DroppedHalf(SlicedVR):
    def square(self, score, v):
        return 2 * super().square(score, v)


class DroppedHalfExact(Exact):
    def terms(self, score, product, keys):
        trace, square = super().terms(score, product, keys)
        return trace, 2 * square


class WrongSign(Sliced):
    def terms(self, score, product, keys):
        trace, square = super().terms(score, product, keys)
        return -trace, square


class ShortSlices(Sliced):
    """Slices of norm one."""

    def terms(self, score, product, keys):
        trace, square = super().terms(score, product, keys)
        d = score[0].numel()
        return trace / d, square / d


class SlicedSquareOfASphere(SlicedVR):
    """Half-finished variance reduction: the norm of slices of norm one in the trace alone."""

    def terms(self, score, product, keys):
        trace, square = super().terms(score, product, keys)
        return trace / score[0].numel(), square


class WrongTarget(Denoising):
    """s - z/sigma."""

    def losses(self, model, x0, sigma, keys, condition=None):
        z = rng.normal(keys, rng.Stream.NOISE, 0, x0.shape[1:], x0.dtype)
        return (
            self.weigh_score(sigma)
            * (model.score(x0 + sigma * z, sigma) - z / sigma).square().flatten(1).mean(1)
            / 2
        )


class TwiceTheWeight(Denoising):
    """Song & Ermon's weight without its 1/2."""

    def weigh(self, sigma):
        return 2 * super().weigh(sigma)


class BiasedVariate(Denoising):
    """A control variate whose mean is not zero: |z|² without - d."""

    def losses(self, model, x0, sigma, keys, condition=None):
        return super().losses(model, x0, sigma, keys, condition) - self.weigh_score(
            sigma
        ) * self.beta(sigma) / (2 * sigma**2)


class VariateAtX(Denoising):
    """The score at x in place of x0 in the control variate: not of mean zero given the data, and
    the gradient goes wrong.
    """

    def losses(self, model, x0, sigma, keys, condition=None):
        z = rng.normal(keys, rng.Stream.NOISE, 0, x0.shape[1:], x0.dtype)
        product = (model.score(x0 + sigma * z, sigma) * z).flatten(1).mean(1) / sigma
        return (
            super().losses(model, x0, sigma, keys, condition)
            - self.weigh_score(sigma) * self.beta(sigma) * product
        )


BROKEN = [
    DroppedHalf("ncsn", SD),
    DroppedHalfExact("ncsn", SD),
    WrongSign("ncsn", SD),
    ShortSlices("ncsn", SD),
    SlicedSquareOfASphere("ncsn", SD),
    WrongTarget("ncsn", SD),
    TwiceTheWeight("ncsn", SD),
    BiasedVariate("ncsn", SD),
    VariateAtX("ncsn", SD),
]


@pytest.mark.parametrize("objective", BROKEN, ids=lambda o: type(o).__name__)
def test_the_check_sees_broken_objectives(objective: Objective) -> None:
    assert (
        max(max(map(abs, scaled(objective, truth(), 0.5, 0.3))) for truth in (gaussian, mixture))
        > 2 * SE
    )


def test_a_probe_of_the_wrong_norm_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(probe, keys, shape, dtype, draw):
        return draw_slice(probe, keys, shape, dtype, draw) / math.sqrt(math.prod(shape))

    monkeypatch.setattr(implicit, "draw_slice", short)
    assert max(map(abs, scaled(Sliced("ncsn", SD, probe="sphere"), gaussian(), 0.5, 0.3))) > 2 * SE


@pytest.mark.parametrize("name", list(PROBES))
def test_probes_have_the_identity_as_covariance(name: str) -> None:
    v, other = (
        draw_slice(name, rng.keys(3, MANY), (1, 5), torch.float64, draw).flatten(1)
        for draw in (0, 1)
    )
    second = v[:, :, None] * v[:, None, :]
    error = (second.mean(0) - torch.eye(5)) / (second.std(0) / math.sqrt(MANY) + 1e-12)
    assert error.abs().max() < SE
    assert not torch.equal(v, other)
    if name != "gaussian":
        assert torch.allclose(v.square().sum(1), torch.tensor(5.0, dtype=torch.float64))


# -- the control variate


def both(truth: GaussianMixture, a: float, sigma: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Losses and derivatives, plain and with the control variate, on the same noise."""
    model, x0, level = (
        Scaled(truth, a, MANY),
        truth.sample(MANY, seed=1),
        torch.tensor(sigma, dtype=torch.float64),
    )
    out: list[Tensor] = []
    for name in ("denoising", "denoising, control variate"):
        losses = case(name).losses(model, x0, level, rng.keys(2, MANY))
        out += [losses.detach(), torch.autograd.grad(losses.sum(), model.parameter)[0]]
    return out[0], out[2], out[1], out[3]


@pytest.mark.parametrize("a", [0.5, 1.0, 1.6])
@pytest.mark.parametrize("truth", list(TRUTHS))
def test_the_control_variate_removes_the_variance_of_small_sigma(truth: str, a: float) -> None:
    """Variances of loss and gradient fall as sigma² or faster; the difference has mean zero."""
    for sigma, most in ((0.1, 0.5), (0.01, 0.02)):
        plain, less, slope, less_slope = both(TRUTHS[truth](), a, sigma)
        assert less.var() < most * plain.var()
        assert less_slope.var() < most * slope.var()
        for difference in (plain - less, slope - less_slope):
            assert abs(difference.mean()) < SE * difference.std() / math.sqrt(MANY)


@pytest.mark.parametrize("sigma", [0.05, 0.4, 0.8, 2.0, 20.0])
def test_beta_is_the_best_coefficient_of_its_gaussian(sigma: float) -> None:
    """Cov(loss, c)/Var(c) for N(0, sd²) and its score: never more variance than without, and any
    other coefficient gives no less.
    """
    truth = Gaussian([0.0], SD**2)
    model, x0, level = (
        Scaled(truth, 1.0, MANY),
        truth.sample(MANY, seed=1),
        torch.tensor(sigma, dtype=torch.float64),
    )
    objective = Denoising("ncsn", SD, control_variate=True)
    plain, less, *_ = both(truth, 1.0, sigma)
    beta = objective.beta(level).item()
    c = (plain - less) / beta
    best = ((plain - plain.mean()) * (c - c.mean())).mean() / c.var()
    spread = ((plain - plain.mean() - best * (c - c.mean())) * (c - c.mean())).std() / (
        c.var() * math.sqrt(MANY)
    )
    assert abs(best - beta) < SE * spread
    assert less.var() <= plain.var() * (1 + 1e-3)
    assert torch.equal(objective.losses(model, x0, level, rng.keys(2, MANY)).detach(), less)


# -- invariants

SHAPES = {"vector": (3,), "signal": (2, 8), "image": (1, 4, 4), "volume": (1, 2, 4, 2)}


def network_model(
    shape: tuple[int, ...],
    form: str = "score",
    preconditioner: str = "edm",
    dtype: torch.dtype = torch.float64,
) -> Preconditioned:
    """A small network with random weights everywhere (new networks answer zero)."""
    options = (
        {"width": 16, "depth": 1}
        if len(shape) == 1
        else {"patch": 1, "widths": (16, 16), "depths": (1, 1)}
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = networks.build("mlp" if len(shape) == 1 else "unet", shape, **options)
        for p in network.parameters():
            p.data += 0.1 * torch.randn_like(p)
    return FORMS[form](
        network.to(dtype), shape, 0.05, 5.0, preconditioner, SD, geometric(5.0, 0.05, 4)
    )


def batch(
    shape: tuple[int, ...], count: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    keys = rng.keys(8, count)
    levels = geometric(5.0, 0.05, 4).to(dtype)
    return rng.normal(keys, rng.Stream.TOY, 0, shape, dtype), levels[torch.arange(count) % 4], keys


def losses_of(
    name: str, shape: tuple[int, ...], dtype: torch.dtype, rows: slice | Tensor = slice(None)
) -> Tensor:
    model = network_model(shape, "square" if name == "energy" else "score", dtype=dtype)
    x0, sigma, keys = (t[rows] for t in batch(shape, 6, dtype))
    return case(name, "edm").losses(model, x0, sigma, keys)


@pytest.mark.parametrize("name", list(CASES))
def test_a_loss_knows_nothing_of_its_batch_mates(name: str) -> None:
    whole = losses_of(name, (3,), torch.float64)
    assert torch.allclose(whole[:2], losses_of(name, (3,), torch.float64, slice(2)), rtol=1e-11)
    order = torch.tensor([4, 1, 5, 0, 3, 2])
    assert torch.allclose(whole[order], losses_of(name, (3,), torch.float64, order), rtol=1e-11)
    assert len(whole.unique()) == 6


@pytest.mark.parametrize("weight", ["ncsn", "edm"])
@pytest.mark.parametrize("name", list(CASES))
def test_a_loss_does_not_depend_on_the_unit_of_x(name: str, weight: str) -> None:
    """x0, sigma, sigma_data and the density c times as large: the same loss, sample by sample, for
    both papers' weights.
    """
    found = []
    for c in (1.0, 7.0):
        truth = Gaussian(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) * c, COVARIANCE * c**2)
        keys = rng.keys(3, 8)
        x0 = c * rng.normal(keys, rng.Stream.TOY, 0, (3,), torch.float64)
        sigma = c * torch.linspace(0.1, 2.0, 8, dtype=torch.float64)
        objective = make_objective(name.split(",")[0], weight, c * SD, **CASES[name])
        found.append(objective.losses(Scaled(truth, 0.7, 8), x0, sigma, keys).detach())
    assert torch.allclose(found[0], found[1], rtol=1e-9)


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_any_network_and_event_in_float32(name: str, shape: str) -> None:
    """Losses near those of float64, in x0's dtype; inputs stay as they were; every parameter has a
    gradient.
    """
    losses = losses_of(name, SHAPES[shape], torch.float32)
    assert losses.dtype == torch.float32
    assert losses.shape == (6,)
    assert torch.allclose(
        losses.double(), losses_of(name, SHAPES[shape], torch.float64), rtol=2e-3, atol=2e-3
    )
    model = network_model(
        SHAPES[shape], "square" if name == "energy" else "score", dtype=torch.float32
    )
    given = batch(SHAPES[shape], 6, torch.float32)
    kept = [t.clone() for t in given]
    again = case(name, "edm").losses(model, *given)
    assert all(torch.equal(a, b) for a, b in zip(given, kept, strict=True))
    assert not any(t.requires_grad for t in given)
    assert all(p.grad is None for p in model.parameters())
    again.mean().backward()
    # A bias added to an energy's sum has no gradient in x, nor has one behind a slice's Jacobian
    # alone: some weights, all finite.
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) >= 0.8 * len(list(model.parameters()))
    assert all(bool(torch.isfinite(g).all()) for g in gradients)


@pytest.mark.parametrize("name", list(CASES))
def test_losses_are_the_same_without_gradients(name: str) -> None:
    """Held-out losses run under no_grad on frozen weights."""
    model = network_model((3,), "square" if name == "energy" else "score")
    x0, sigma, keys = batch((3,), 6)
    live = case(name, "edm").losses(model, x0, sigma, keys)
    with torch.no_grad():
        quiet = case(name, "edm").losses(model.requires_grad_(False), x0, sigma, keys)
    assert not quiet.requires_grad
    assert torch.allclose(live, quiet, rtol=1e-12)


@pytest.mark.parametrize("name", list(CASES))
def test_a_ladder_is_its_levels_side_by_side(name: str) -> None:
    model = Scaled(mixture(), 0.5, 1)
    x0, keys = mixture().sample(6), rng.keys(1, 6)
    sigma = torch.tensor([2.0, 0.7, 0.2], dtype=torch.float64).repeat(2)
    single = [case(name).losses(model, x0[i : i + 1], sigma[i], keys[i : i + 1]) for i in range(6)]
    assert torch.allclose(case(name).losses(model, x0, sigma, keys), torch.cat(single), rtol=1e-10)


# -- measures


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_mean_loss_over_a_ladder(name: str) -> None:
    truth, a, ladder, objective = (
        mixture(),
        0.5,
        torch.tensor([2.0, 0.7, 0.3], dtype=torch.float64),
        case(name),
    )
    estimate = mean_loss(objective, Scaled(truth, a, 1), truth.sample(MANY, seed=3), ladder, seed=4)
    expected = 0.0
    for sigma in ladder.tolist():
        constant = 1 / sigma**2 if isinstance(objective, Denoising) else 0.0
        expected += sigma**2 / 2 * ((a**2 / 2 - a) * information(truth, sigma) + constant) / 3
    assert abs(estimate.value - expected) < SE * estimate.se
    assert estimate.se < 0.02


@pytest.mark.parametrize("truth", list(TRUTHS))
def test_the_fisher_divergence_is_measured(truth: str) -> None:
    p = TRUTHS[truth]()
    for a, sigma in ((0.5, 0.3), (1.6, 1.0), (0.9, 0.0)):
        value, se = fisher_divergence(Scaled(p, a, 1).requires_grad_(False), p, sigma, count=MANY)
        assert abs(value - (1 - a) ** 2 / 2 * information(p, sigma)) < SE * se
        assert abs(value - (1 - a) ** 2 * information(p, sigma)) > SE * se  # a dropped 1/2 is seen
    assert fisher_divergence(p, p, 0.5) == (0.0, 0.0)


def test_measures_say_what_they_need() -> None:
    with pytest.raises(InputError, match="cannot be sampled"):
        fisher_divergence(mixture(), network_model((2,)), 0.5)
    with pytest.raises(InputError, match="at least 2 samples"):
        fisher_divergence(mixture(), mixture(), 0.5, x=mixture().sample(1))


# -- energy models

ENERGIES = [name for name in FORMS if name != "score"]


def jacobian(model: ScoreModel, x: Tensor, sigma: float) -> Tensor:
    return torch.autograd.functional.jacobian(
        lambda point: model.score(point[None], sigma)[0].flatten(), x[0]
    ).flatten(1)


@pytest.mark.parametrize("preconditioner", list(PRECONDITIONERS))
@pytest.mark.parametrize("form", ENERGIES)
def test_the_score_is_minus_the_gradient_of_the_energy(form: str, preconditioner: str) -> None:
    model = network_model((3,), form, preconditioner).requires_grad_(False)
    assert isinstance(model, Energy)
    x, sigma, _ = batch((3,), 8)
    x.requires_grad_(True)
    (slope,) = torch.autograd.grad(model.energy(x, sigma).sum(), x)
    assert torch.allclose(model.score(x, sigma), -slope, rtol=1e-9, atol=1e-10)
    with torch.no_grad():
        quiet = x.detach()
        assert torch.allclose(model.score(quiet, sigma), -slope, rtol=1e-9, atol=1e-10)
        assert torch.allclose(model.log_density(quiet, sigma), -model.energy(quiet, sigma))
        assert model.energy(quiet, 5.0).shape == (8,)
    assert not model.score(quiet, sigma).requires_grad


@pytest.mark.parametrize("form", ENERGIES)
def test_an_energy_has_no_curl_and_a_free_score_has(form: str) -> None:
    x, *_ = batch((3,), 1)
    for name, curl in ((form, False), ("score", True)):
        j = jacobian(network_model((3,), name).requires_grad_(False), x, 0.4)
        assert ((j - j.T).abs().max() > 1e-3 * j.abs().max()) is curl or torch.allclose(
            j, j.T, rtol=1e-9, atol=1e-10
        ) is not curl


@pytest.mark.parametrize("form", ENERGIES)
def test_a_new_energy_model_is_a_gaussian(form: str) -> None:
    """Networks start at zero: under the edm row the energy is |x|²/(2 (sigma² + sd²)), and the
    likelihood is exact up to its constant.
    """
    model = FORMS[form](networks.build("mlp", (3,), width=8).double(), (3,), 0.01, 10.0, "edm", SD)
    x, sigma, _ = batch((3,), 8)
    truth = Gaussian(torch.zeros(3), torch.tensor(SD**2, dtype=torch.float64))
    constant = model.log_density(x, sigma) - truth.log_density(x, sigma)
    assert torch.allclose(constant[:4], constant[4:], rtol=1e-10)  # the levels repeat every four
    assert torch.allclose(model.score(x, sigma), truth.score(x, sigma), rtol=1e-10)


def test_the_energy_objective_needs_an_energy() -> None:
    x0, sigma, keys = batch((3,), 4)
    objective = case("energy")
    with pytest.raises(InputError, match="needs a model with a log density"):
        objective.check(network_model((3,)))
    with pytest.raises(InputError, match="needs a model with a log density"):
        mean_loss(objective, network_model((3,)), x0, 0.5)
    objective.check(network_model((3,), "square"))
    assert objective.losses(network_model((3,), "square"), x0, sigma, keys).shape == (4,)


# -- training by name

SMALL = [
    "network.name=mlp",
    "network.options.width=32",
    "network.options.depth=2",
    "optim.batch=128",
    "execution.threads=1",
    "optim.lr=4e-3",
]
RUNS = {**{name: [] for name in OBJECTIVES}, "energy, scalar": ["objective.energy=scalar"]}


def settings(name: str, images: int, *extra: str) -> Request:
    objective = f"objective.name={name.split(',')[0]}"
    chosen = [
        f"images={images}",
        "data.source=ring",
        "plan=none",
        objective,
        *SMALL,
        *RUNS[name],
        *extra,
    ]
    return override(preset("mlp"), chosen)


@pytest.mark.training
@pytest.mark.parametrize(
    "name", [*OBJECTIVES, pytest.param("energy, scalar", marks=pytest.mark.slow)]
)
def test_every_objective_trains_saves_loads_and_samples(name: str, tmp_path) -> None:
    """After 200 steps the denoising loss in the objective's own weight has fallen.

    It lies below that of a new network, which answers with the Gaussian of the data's moments.
    Under another weight it need not: the implicit forms hardly train the levels that EDM's weight
    counts most.
    """
    train(settings(name, 128 * 200), tmp_path / "run")
    model = checkpoint.load(tmp_path / "run")
    form = {"energy": "square", "energy, scalar": "scalar"}.get(name, "score")
    assert isinstance(model, FORMS[form])
    n = 8000
    new = FORMS[form](
        networks.build("mlp", (2,), width=8, depth=1), (2,), 0.02, 5.0, units=model.units
    ).requires_grad_(False)
    x0, keys = model.units.to_model(toy("ring", n, seed=17).float()), rng.keys(18, n)
    sigma = (rng.normal(keys, rng.Stream.SIGMA, 0, ()) - 1.2).exp().clamp(0.02, 5)
    with torch.no_grad():
        weight = "edm" if "energy" in name or name == "denoising" else "ncsn"
        measure = Denoising(weight, 0.5, control_variate=weight == "ncsn")
        fall = measure.losses(new, x0, sigma, keys) - measure.losses(model, x0, sigma, keys)
    assert fall.mean() > SE * fall.std() / math.sqrt(n)
    radius = sf.sample(model, count=300, seed=0, sampler="heun", nfe=20).norm(dim=1)
    assert 0.5 < radius.mean() < 2  # of the ring's size; 200 steps do not make a ring
    record = [r["held_out"] for r in Run(tmp_path / "run").records() if "held_out" in r]
    assert math.isfinite(record[-1])
    card = model.card
    assert card is not None
    assert card["config"]["objective"]["name"] == name.split(",")[0]
    assert model.has_log_density == (form != "score")
    if form != "score":
        assert (model.log_density(x0[:100], 0.1) > model.log_density(3 * x0[:100], 0.1)).all()
    if name != "denoising":
        assert not card["execution"]["compile"]
        assert card["execution"]["precision"] == "float32"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (
            ["objective.name=sliced", "execution.precision=bfloat16"],
            "eager float32 only; got precision=bfloat16",
        ),
        (["objective.name=exact", "execution.compile=on"], "eager float32 only; got compile=on"),
        (["objective.name=energy", "execution.precision=bfloat16"], "eager float32 only"),
        (
            ["objective.name=energy", "objective.energy=cube"],
            "must be one of square, scalar; got 'cube'",
        ),
        (["objective.name=slice"], "objective.name must be one of"),
        (["objective.name=sliced", "objective.probe=cube"], "probe must be one of"),
        (["objective.name=sliced", "objective.slices=0"], "at least 1"),
        (
            ["objective.name=exact", "objective.slices=2"],
            "objective.slices=2 has an effect only with objective.name=sliced",
        ),
        (
            ["objective.name=sliced", "objective.control_variate=true"],
            "control_variate=True has an effect only with objective.name=denoising",
        ),
        (["objective.weight=vp"], "weight must be one of"),
        (["objective.name=exact", "data.source=mnist5k"], "784|limit is 256"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    extra: list[str], words: str, tmp_path
) -> None:
    with pytest.raises(InputError, match=words):
        train(settings("denoising", 128, *extra), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.training
def test_denoising_keeps_its_choice_of_precision(tmp_path) -> None:
    train(settings("denoising", 128, "execution.precision=bfloat16"), tmp_path / "run")
    assert checkpoint.load(tmp_path / "run").card["execution"]["precision"] == "bfloat16"  # type: ignore[index]


def test_fisher_divergence_of_a_float32_network_to_a_closed_form():
    """An untrained network under edm's table is the score of N(0, (sigma² + sd²) I): its divergence
    to the same Gaussian is zero to rounding.
    """
    model = Preconditioned(networks.build("mlp", (2,), width=16), (2,), 0.01, 80.0)
    truth = Gaussian(torch.zeros(2, dtype=torch.float64), 0.25 * torch.eye(2, dtype=torch.float64))
    found = fisher_divergence(model, truth, 0.7, count=256)
    assert 0 <= found.value < 1e-10


def test_the_fisher_divergence_of_a_model_on_another_device(monkeypatch) -> None:
    """The truth stays on the CPU: each score is evaluated where its model is."""
    truth = Gaussian(torch.zeros(2), torch.tensor(0.25))
    network = networks.build("mlp", (2,), width=16)
    expected = fisher_divergence(Preconditioned(network, (2,)), truth, 0.7, count=64)
    with pretend_cuda(monkeypatch):
        found = fisher_divergence(Preconditioned(network, (2,)).to("cuda"), truth, 0.7, count=64)
    assert found == expected


# -- conditions

SPECS = {"class": ConditionSpec("class", 3), "vector": ConditionSpec("vector", 2)}
# The condition of each class in the other form; the last row is unconditional.
PLACES = torch.tensor([[-20.0, 0.0], [0.0, 20.0], [20.0, 20.0], [math.nan] * 2]).double()
POOL = {"class": torch.tensor([0, 1, 2, NULL_CLASS]), "vector": PLACES}


class Shifted(ScoreModel):
    """The exact score of p(x0 | c) = N(place of c, I), and of N(0, I) where c is null.

    Places lie 20 apart, so that `farthest`, the largest distance of an x from the place of the
    condition that came with it, tells whether conditions stayed with their rows.
    """

    event_shape, sigma_min, sigma_max = (2,), 0.0, math.inf
    has_log_density, conditions = True, SPECS

    def __init__(self) -> None:
        super().__init__()
        self.farthest = 0.0

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        sigma = self.check(x, sigma, condition)
        place = torch.zeros_like(x)
        for name, value in (condition or {}).items():
            place = (PLACES[value] if name == "class" else value).nan_to_num()
        self.farthest = max(self.farthest, (x - place).norm(dim=1).max().item())
        return (place - x) / (1 + broadcast(sigma, x).square())


def conditioned(objective: Objective, kind: str, sigma: float = 0.5) -> tuple[float, float]:
    """(mean loss - its expectation) in standard errors, and `Shifted.farthest`.

    The rows have their conditions in turn, the null value among them. With v = 1 + sigma² and d = 2
    the exact score gives tr + 1/2 |s|² = -d/v + 1/2 |s|² of mean -d/(2 v) = -1/v.
    """
    rows = torch.arange(N) % len(PLACES)
    x0 = PLACES.nan_to_num()[rows] + rng.normal(rng.keys(7, N), rng.Stream.TOY, 0, (2,)).double()
    model, level = Shifted(), torch.tensor(sigma, dtype=torch.float64)
    losses = objective.losses(model, x0, level, rng.keys(8, N), {kind: POOL[kind][rows]}).detach()
    constant = 1 / sigma**2 if isinstance(objective, Denoising) else 0.0
    expected = objective.weigh_score(level).item() / 2 * (constant - 1 / (1 + sigma**2))
    se = losses.std().item() / math.sqrt(N)
    return (losses.mean().item() - expected) / se, model.farthest


@pytest.mark.parametrize("kind", list(SPECS))
@pytest.mark.parametrize("name", list(CASES))
def test_a_condition_reaches_every_row_of_every_loss(name: str, kind: str) -> None:
    deviation, farthest = conditioned(case(name), kind)
    assert abs(deviation) < SE
    assert farthest < 10


class Unconditional(Denoising):
    """The condition is dropped."""

    def losses(self, model, x0, sigma, keys, condition=None):
        return super().losses(model, x0, sigma, keys)


class UnconditionalExact(Exact):
    """The condition is dropped."""

    def losses(self, model, x0, sigma, keys, condition=None):
        return super().losses(model, x0, sigma, keys)


class RowsMoved(Sliced):
    """Every row gets its neighbour's condition."""

    def losses(self, model, x0, sigma, keys, condition=None):
        moved = {name: value.roll(1, 0) for name, value in condition.items()}
        return super().losses(model, x0, sigma, keys, moved)


@pytest.mark.parametrize("kind", list(SPECS))
@pytest.mark.parametrize("wrong", [Unconditional, UnconditionalExact, RowsMoved])
def test_the_check_sees_lost_and_moved_conditions(wrong: type[Objective], kind: str) -> None:
    deviation, farthest = conditioned(wrong("ncsn", SD), kind)
    assert abs(deviation) > 2 * SE
    assert farthest > 10


@pytest.mark.parametrize("kind", list(SPECS))
@pytest.mark.parametrize("wrong", ["interleaved", "clean without"])
def test_the_check_sees_a_wrong_double_batch(
    wrong: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control variate evaluates x and x0: each half needs the condition, in order."""

    def broken(first: Condition, second: Condition) -> Condition:
        if wrong == "interleaved":
            return {name: value.repeat_interleave(2, 0) for name, value in first.items()}
        nothing = conditions.null(SPECS, N)
        return {name: torch.cat([value, nothing[name]]) for name, value in first.items()}

    monkeypatch.setattr(conditions, "concatenate", broken)
    _, farthest = conditioned(case("denoising, control variate"), kind)
    assert farthest > 10


@pytest.mark.parametrize("name", list(CASES))
def test_a_condition_that_the_model_does_not_take_is_refused(name: str) -> None:
    x0, sigma, keys = batch((2,), 4)
    with pytest.raises(InputError, match="takes class, vector; got the condition 'label'"):
        case(name).losses(Shifted(), x0, sigma, keys, {"label": torch.zeros(4)})
    with pytest.raises(InputError, match="one row a sample"):
        case(name).losses(Shifted(), x0, sigma, keys, {"class": torch.tensor([1, 2])})
    with pytest.raises(InputError, match="must be 0 to 2, or -1 for none; got 3"):
        case(name).losses(Shifted(), x0, sigma, keys, {"class": torch.tensor([0, 1, 2, 3])})


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_mean_loss_takes_conditions_at_every_level(name: str) -> None:
    rows = torch.arange(400) % len(PLACES)
    x0 = PLACES.nan_to_num()[rows] + batch((2,), 400)[0]
    ladder, model = torch.tensor([1.0, 0.3], dtype=torch.float64), Shifted()
    with_them = mean_loss(case(name), model, x0, ladder, 0, {"class": POOL["class"][rows]})
    assert model.farthest < 10
    without = mean_loss(case(name), Shifted(), x0, ladder, 0)
    assert with_them.value < without.value - SE * without.se


@pytest.mark.parametrize("kind", list(SPECS))
@pytest.mark.parametrize("name", list(CASES))
def test_conditions_belong_to_their_rows(name: str, kind: str) -> None:
    """A batch of several conditions has the losses of each by itself, and conditions differ.

    The null value gives what no condition gives.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = networks.build("mlp", (3,), SPECS, width=16, depth=1).double()
        for p in network.parameters():
            p.data += 0.1 * torch.randn_like(p)
    form = "square" if name.startswith("energy") else "score"
    model = FORMS[form](network, (3,), sigma_min=0.05, sigma_max=5.0, conditions=SPECS)
    x0, sigma, keys = batch((3,), 6)
    null = len(PLACES) - 1
    rows, pool = torch.tensor([0, 1, 2, 2, 1, null]), POOL[kind]
    objective = case(name, "edm")
    together = objective.losses(model, x0, sigma, keys, {kind: pool[rows]})
    for c in range(len(pool)):
        alone = objective.losses(model, x0, sigma, keys, {kind: pool[[c] * 6]})
        assert torch.allclose(together[rows == c], alone[rows == c], rtol=1e-10)
        assert not torch.allclose(together[rows != c], alone[rows != c], rtol=1e-6)
    none = objective.losses(model, x0, sigma, keys)
    assert torch.allclose(together[rows == null], none[rows == null], rtol=1e-10)
    assert not torch.allclose(together[rows != null], none[rows != null], rtol=1e-6)
