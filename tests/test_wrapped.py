"""Models that wrap models, the count of what they cost, and the Jacobian helper.

Truth: a Gaussian mixture whose components carry classes. Its conditional law is the mixture of the
components of one class, which is built here as a mixture of its own.
"""

import copy
import math

import pytest
import torch
from torch import Tensor

from scorefield import rng
from scorefield.conditions import ConditionSpec
from scorefield.errors import InputError, Unsupported
from scorefield.exact import Gaussian, GaussianMixture
from scorefield.models import (
    FORMS,
    Bound,
    Guided,
    Preconditioned,
    ScoreModel,
    Wrapped,
    count_cost,
    jacobian,
    prior,
)
from scorefield.networks import build
from scorefield.noise import geometric
from scorefield.sampling import (
    MALA,
    SAMPLERS,
    SamplingRecipe,
    draw,
    find_sampler,
    resolve_sampling,
    run,
)
from scorefield.units import Units

EVENT = (2, 2)
D = 4
CLASSES = {"class": ConditionSpec("class", 3)}
LABELS = [0, 0, 1, 1, 2, 2]
SIGMAS = (0.05, 0.7, 6.0)


def normal(count: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return rng.normal(rng.keys(seed, count), rng.Stream.TOY, 0, shape, torch.float64)


MEANS = 2 * normal(6, EVENT)
ROOTS = normal(6, (D, D), seed=1)
COVARIANCES = ROOTS @ ROOTS.mT / D + 0.1 * torch.eye(D, dtype=torch.float64)
WEIGHTS = torch.tensor([1.0, 2, 3, 4, 5, 6], dtype=torch.float64)
X = 3 * normal(6, EVENT, seed=2)
CLASS = torch.tensor([0, 1, 2, 0, 1, 2])
C = {"class": CLASS}


def labelled() -> GaussianMixture:
    return GaussianMixture(MEANS, COVARIANCES, WEIGHTS, labels=LABELS)


def of_class(k: int) -> GaussianMixture:
    """p(x | class k), as a mixture that knows no classes."""
    rows = [i for i, label in enumerate(LABELS) if label == k]
    return GaussianMixture(MEANS[rows], COVARIANCES[rows], WEIGHTS[rows])


def truth(quantity: str, x: Tensor, sigma: float, classes: Tensor) -> Tensor:
    """D or the score of every row given its class; class -1: without."""
    whole = GaussianMixture(MEANS, COVARIANCES, WEIGHTS)
    models = {k: whole if k < 0 else of_class(k) for k in classes.unique().tolist()}
    rows = [
        models[int(k)](x[i : i + 1], sigma, None, quantity) for i, k in enumerate(classes.tolist())
    ]
    return torch.cat(rows)


def close(a: Tensor, b: Tensor, relative: float = 1e-10) -> bool:
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max()) <= relative * float(b.abs().max())


def network(form: str = "score", seed: int = 0, classes: bool = True, **options) -> Preconditioned:
    """A small network with random weights, in float64."""
    conditions = CLASSES if classes else None
    torch.manual_seed(seed)
    net = build("mlp", EVENT, conditions=conditions, width=16, depth=1, embedding=8)
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(std=0.3)
    options = {"sigma_min": 0.02, "sigma_max": 20.0, "conditions": conditions} | options
    return FORMS[form](net, EVENT, **options).double().eval()


# ---- guidance is exact


@pytest.mark.parametrize("quantity", ["denoise", "score"])
@pytest.mark.parametrize("scale", [-0.5, 0.0, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_guidance_is_the_extrapolation_of_closed_forms(quantity, scale, sigma):
    guided = Guided(labelled(), scale)
    null = truth(quantity, X, sigma, torch.full((6,), -1))
    wanted = (1 - scale) * null + scale * truth(quantity, X, sigma, CLASS)
    assert close(guided(X, sigma, C, quantity), wanted)


class WrongSign(Guided):
    """The control: weak and strong exchanged."""

    def _both(self, x, sigma, condition, quantity):
        return super()._both(x, sigma, condition, quantity)[::-1]


def test_guidance_of_the_wrong_sign_is_noticed():
    wanted = -1.5 * truth("denoise", X, 0.7, torch.full((6,), -1))
    wanted = wanted + 2.5 * truth("denoise", X, 0.7, CLASS)
    assert not close(WrongSign(labelled(), 2.5).denoise(X, 0.7, C), wanted, 1e-2)


@pytest.mark.parametrize("quantity", ["denoise", "score"])
@pytest.mark.parametrize("model", [labelled(), network()], ids=["mixture", "network"])
def test_scales_one_and_zero_are_bitwise_the_two_models(model, quantity):
    for sigma in SIGMAS:
        one, zero = Guided(model, 1.0), Guided(model, 0.0)
        assert torch.equal(one(X, sigma, C, quantity), model(X, sigma, C, quantity))
        assert torch.equal(zero(X, sigma, C, quantity), model(X, sigma, None, quantity))
        assert torch.equal(one(X, sigma, None, quantity), model(X, sigma, None, quantity))


def test_outside_the_interval_guidance_is_off():
    model = labelled()
    guided = Guided(model, 3.0, interval=(0.5, 2.0))
    for sigma in (0.05, 0.499, 2.001, 6.0):
        assert torch.equal(guided.denoise(X, sigma, C), model.denoise(X, sigma, C))
    for sigma in (0.5, 0.7, 2.0):
        assert torch.equal(guided.denoise(X, sigma, C), Guided(model, 3.0).denoise(X, sigma, C))
    mixed = torch.tensor([0.05, 0.7, 6.0, 0.7, 0.05, 1.0], dtype=torch.float64)
    every = Guided(model, 3.0)
    for i, sigma in enumerate(mixed.tolist()):
        alone = every if 0.5 <= sigma <= 2.0 else model
        row = alone.denoise(X[i : i + 1], sigma, {"class": CLASS[i : i + 1]})[0]
        assert close(guided.denoise(X, mixed, C)[i], row, 1e-12)


def test_batch_mates_of_other_classes_do_not_matter():
    guided = Guided(labelled(), 2.0)
    together = guided.denoise(X, 0.7, C)
    for i in range(6):
        others = CLASS.clone()
        others[torch.arange(6) != i] = 2 - others[torch.arange(6) != i]
        assert torch.equal(guided.denoise(X, 0.7, {"class": others})[i], together[i])
        alone = guided.denoise(X[i : i + 1], 0.7, {"class": CLASS[i : i + 1]})[0]
        assert close(alone, together[i], 1e-12)


def test_a_null_row_is_unconditional_and_unguided():
    some = torch.tensor([0, -1, 2, -1, 1, -1])
    null = some < 0
    for model in (labelled(), network()):
        guided = Guided(model, 2.0).denoise(X, 0.7, {"class": some})
        assert close(guided[null], model.denoise(X, 0.7)[null], 1e-12)
        assert not close(guided[~null], model.denoise(X, 0.7)[~null], 1e-2)


def test_autoguidance_moves_away_from_the_weaker_model():
    """Both with the condition; a weak model that knows no classes gets none."""
    strong = labelled()
    weak = GaussianMixture(MEANS, 3 * COVARIANCES, WEIGHTS, labels=LABELS)
    blind = GaussianMixture(MEANS, 3 * COVARIANCES, WEIGHTS)
    for sigma in SIGMAS:
        s, w, b = strong.denoise(X, sigma, C), weak.denoise(X, sigma, C), blind.denoise(X, sigma)
        assert close(Guided(strong, 2.0, weak=weak).denoise(X, sigma, C), 2 * s - w)
        assert close(Guided(strong, 2.0, weak=blind).denoise(X, sigma, C), 2 * s - b)
        assert torch.equal(Guided(strong, 0.0, weak=weak).denoise(X, sigma, C), w)
    plain = GaussianMixture(MEANS, COVARIANCES, WEIGHTS)
    wanted = 2 * plain.denoise(X, 0.7) - blind.denoise(X, 0.7)
    assert close(Guided(plain, 2.0, weak=blind).denoise(X, 0.7), wanted)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scale": math.nan}, "must be finite"),
        ({"scale": 2.0, "interval": (2.0, 1.0)}, r"\(lowest, highest\)"),
        ({"scale": 2.0, "weak": Gaussian([0.0], 1.0)}, r"must have the events \(2, 2\)"),
    ],
)
def test_guidance_that_makes_no_sense_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        Guided(labelled(), **arguments)


def test_guidance_needs_conditions_or_a_weak_model_in_the_same_units():
    plain = GaussianMixture(MEANS, COVARIANCES, WEIGHTS)
    with pytest.raises(InputError, match="needs a model with conditions"):
        Guided(plain, 2.0)
    weak = GaussianMixture(MEANS, COVARIANCES, WEIGHTS)
    weak.units = Units.affine(0.0, 2.0)
    with pytest.raises(InputError, match="same shift, scale"):
        Guided(plain, 2.0, weak=weak)


def test_a_guided_model_has_no_density():
    for model in (labelled(), network("square")):
        assert model.has_log_density
        guided = Guided(model, 2.0)
        assert not guided.has_log_density
        with pytest.raises(Unsupported, match="no log density"):
            guided.log_density(X, 1.0, C)
        assert not Bound(guided, C).has_log_density


# ---- Bound


@pytest.mark.parametrize("rows", [1, 6])
def test_a_bound_model_is_the_conditional_law(rows):
    classes = torch.full((6,), 1) if rows == 1 else CLASS
    model = Bound(labelled(), {"class": classes[:rows]})
    assert dict(model.conditions) == {}
    for sigma in SIGMAS:
        assert close(model.denoise(X, sigma), truth("denoise", X, sigma, classes))
        assert close(model.score(X, sigma), truth("score", X, sigma, classes))
        for i, k in enumerate(classes.tolist()):
            wanted = of_class(k).log_density(X[i : i + 1], sigma)[0]
            assert float((model.log_density(X, sigma)[i] - wanted).abs()) < 1e-10


def test_moments_and_prior_of_a_bound_model_are_those_of_its_class():
    model, alone = Bound(labelled(), {"class": torch.tensor([1])}), of_class(1)
    mine, wanted = prior(model, 3.0), prior(alone, 3.0)
    assert mine.matched
    assert (mine.log_prob(X) - wanted.log_prob(X)).abs().max() < 1e-10
    z = normal(6, EVENT, seed=3)
    assert close(mine.sample(z), wanted.sample(z), 1e-10)
    each = prior(labelled(), 3.0, C)
    for i, k in enumerate(CLASS.tolist()):
        alone = prior(of_class(k), 3.0)
        assert float((each.log_prob(X)[i] - alone.log_prob(X[i : i + 1])[0]).abs()) < 1e-10


def test_a_bound_energy_scores_with_its_own_density():
    """The gradient of log_density is the score, given the class."""
    model = Bound(network("square"), C)
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model.log_density(x, 0.7).sum(), x)
    assert close(slope, model.score(X, 0.7), 1e-10)
    other = Bound(model.inner, {"class": 2 - CLASS})
    assert not close(other.log_density(X, 0.7), model.log_density(X, 0.7), 1e-3)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"label": torch.tensor([0])}, "takes class; got the condition 'label'"),
        ({"class": torch.tensor([7])}, "must be 0 to 2"),
        ({"class": torch.tensor([0.0])}, "must be int64"),
    ],
)
def test_a_condition_the_model_does_not_take_is_not_bound(condition, words):
    with pytest.raises(InputError, match=words):
        Bound(labelled(), condition)


def test_a_bound_model_takes_no_further_condition_and_no_other_number_of_rows():
    model = Bound(labelled(), C)
    with pytest.raises(InputError, match="Bound takes no condition"):
        model.denoise(X, 1.0, C)
    with pytest.raises(InputError, match=r"must be int64 of shape \(4,\)"):
        model.denoise(X[:4], 1.0)
    unconditional = Bound(labelled(), None)
    assert torch.equal(unconditional.denoise(X, 1.0), labelled().denoise(X, 1.0))


# ---- everything else is forwarded


def test_wrappers_forward_what_they_do_not_change():
    inner = network(ladder=geometric(20.0, 0.02, 9), units=Units.affine(1.0, 2.0))
    inner.card = {"format": "x"}
    for model in (Wrapped(inner), Bound(inner, None), Guided(inner, 2.0), Bound(inner, C)):
        for name in ("event_shape", "sigma_min", "sigma_max", "ladder", "ladder_only", "card"):
            assert getattr(model, name) is getattr(inner, name) or (
                getattr(model, name) == getattr(inner, name)
            )
        assert model.units is inner.units
        assert model.sampling_range() == inner.sampling_range()
        assert [*model.leaves()] == [inner]
        assert model.leaf_network() is None
        assert int(model.level_index(inner.ladder[3])) == 3
        with pytest.raises(InputError, match=r"\[0.02, 20\]"):
            model.check_range(torch.tensor(30.0))
    assert torch.equal(Wrapped(inner).denoise(X, 1.0, C), inner.denoise(X, 1.0, C))
    weak = network(seed=1, units=Units.affine(1.0, 2.0))
    assert [*Bound(Guided(inner, 2.0, weak=weak), C).leaves()] == [inner, weak]


def test_a_copy_of_a_wrapped_model_is_whole():
    model = Bound(Guided(network(), 2.0), C)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert not close(twin.denoise(X, 0.7), model.denoise(X, 0.7), 1e-3)


@pytest.mark.parametrize("model", [Bound(network(), C), Bound(Guided(network(), 2.0), C)])
def test_shapes_and_ranges_are_checked_behind_wrappers(model):
    with pytest.raises(InputError, match=r"x must be \(B, 2, 2\)"):
        model.denoise(torch.zeros(6, 3, 2), 1.0)
    with pytest.raises(InputError, match="sigma must lie in"):
        model.denoise(X, 100.0)


# ---- cost


def spent(cost) -> tuple[int, int, int]:
    return cost.forwards, cost.products, cost.densities


def test_a_network_costs_a_forward_a_row():
    model = network()
    with count_cost() as cost:
        model.denoise(X, 1.0)
        model.score(X[:2], 1.0, {"class": CLASS[:2]})
    assert spent(cost) == (8, 0, 0)
    assert cost.evaluations == 8


@pytest.mark.parametrize(
    ("scale", "sigma", "rows"), [(2.0, 1.0, 2), (2.0, 9.0, 1), (1.0, 1.0, 1), (0.0, 1.0, 1)]
)
@pytest.mark.parametrize("autoguided", [False, True])
def test_guidance_costs_two_rows_a_sample_where_it_acts(scale, sigma, rows, autoguided):
    weak = network(seed=1) if autoguided else None
    model = Bound(Guided(network(), scale, interval=(0.5, 2.0), weak=weak), C)
    with count_cost() as cost:
        model.denoise(X, sigma)
    assert spent(cost) == (6 * rows, 0, 0)


@pytest.mark.parametrize("form", ["square", "scalar"])
def test_an_energy_costs_a_product_beside_each_forward(form):
    model = network(form)
    with count_cost() as cost:
        model.score(X, 1.0)
    assert spent(cost) == (6, 6, 0)
    with count_cost() as cost:
        model.log_density(X, 1.0)
    assert spent(cost) == (0, 0, 6)
    assert cost.evaluations == 6


def test_products_cost_as_many_rows_as_their_value():
    for model, rows in ((network(), 6), (Bound(Guided(network(), 2.0), C), 12)):
        with count_cost() as cost:
            _, product = jacobian(model, X, 1.0)
        assert spent(cost) == (rows, 0, 0)
        with count_cost() as cost:
            for _ in range(3):
                product(X)
        assert spent(cost) == (0, 3 * rows, 0)


def test_nested_counts_see_what_happens_inside_them_only():
    model = network()
    with count_cost() as outer:
        model.denoise(X, 1.0)
        with count_cost() as inner:
            model.denoise(X[:1], 1.0)
        with pytest.raises(InputError), count_cost() as failed:
            model.denoise(X, 1000.0)
        model.denoise(X[:2], 1.0)
    model.denoise(X, 1.0)
    assert spent(inner) == (1, 0, 0)
    assert spent(failed) == (0, 0, 0)
    assert spent(outer) == (9, 0, 0)
    assert inner.to_dict() == {"forwards": 1, "products": 0, "densities": 0}


def conjugate_gradients(apply, b: Tensor, steps: int) -> Tensor:
    """`steps` steps on apply(v) = b, each sample by itself."""

    def dot(a: Tensor, c: Tensor) -> Tensor:
        return (a * c).flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))

    v, r = torch.zeros_like(b), b
    p, square = r, dot(r, r)
    for _ in range(steps):
        applied = apply(p)
        step = square / dot(p, applied).clamp(min=1e-300)
        v, r = v + step * p, r - step * applied
        square, before = dot(r, r), square
        p = r + square / before.clamp(min=1e-300) * p
    return v


@pytest.mark.parametrize("steps", [1, 4])
def test_a_conjugate_gradient_solve_is_right_and_counted_by_the_product(steps):
    """(sigma² J + s² I) v = b with J = C (C + sigma²)^-1 of a Gaussian, symmetric as every J is."""
    sigma, noise = 0.8, 0.3
    model = Gaussian(MEANS[0], COVARIANCES[0])
    eye = torch.eye(D, dtype=torch.float64)
    j = COVARIANCES[0] @ torch.linalg.inv(COVARIANCES[0] + sigma**2 * eye)
    with count_cost() as cost:
        _, product = jacobian(model, X, sigma)
        v = conjugate_gradients(lambda p: sigma**2 * product(p) + noise**2 * p, X, steps)
    assert spent(cost) == (6, 6 * steps, 0)
    wanted = torch.linalg.solve(sigma**2 * j + noise**2 * eye, X.flatten(1).T).T.reshape(X.shape)
    assert close(v, wanted, 1e-8) == (steps == D)  # D steps are exact; fewer are not


def test_the_normal_equations_take_two_products_a_step():
    """(sigma² J J' + s² I) v = b, J' v from a product and J v from the same, J being symmetric."""
    sigma, noise = 0.8, 0.3
    model = Gaussian(MEANS[0], COVARIANCES[0])
    eye = torch.eye(D, dtype=torch.float64)
    j = COVARIANCES[0] @ torch.linalg.inv(COVARIANCES[0] + sigma**2 * eye)
    with count_cost() as cost:
        _, product = jacobian(model, X, sigma)
        v = conjugate_gradients(lambda p: sigma**2 * product(product(p)) + noise**2 * p, X, D)
    assert spent(cost) == (6, 6 * 2 * D, 0)
    matrix = sigma**2 * j @ j.T + noise**2 * eye
    wanted = torch.linalg.solve(matrix, X.flatten(1).T).T.reshape(X.shape)
    assert close(v, wanted, 1e-8)


# ---- the Jacobian


@pytest.mark.parametrize("quantity", ["denoise", "score"])
@pytest.mark.parametrize(
    "model",
    [labelled(), network(), network("square"), Guided(network(), 2.0)],
    ids=["mixture", "network", "energy", "guided"],
)
def test_products_are_those_of_central_differences(model, quantity):
    """v' J u for random u and v: the product against (f(x + h u) - f(x - h u)) / 2h, v."""
    u, v, sigma, h = normal(6, EVENT, seed=4), normal(6, EVENT, seed=5), 0.7, 1e-5
    value, product = jacobian(model, X, sigma, C, quantity)
    assert torch.equal(value, model(X, sigma, C, quantity).detach())
    assert not value.requires_grad
    ahead, behind = (model(X + s * h * u, sigma, C, quantity).detach() for s in (1, -1))
    wanted = ((ahead - behind) / (2 * h) * v).flatten(1).sum(1)
    got = (product(v) * u).flatten(1).sum(1)
    assert (got - wanted).abs().max() < 1e-7 * wanted.abs().max().clamp(min=1)


def test_products_of_a_gaussian_are_its_matrix():
    model, sigma = Gaussian(MEANS[0], COVARIANCES[0]), 0.8
    eye = torch.eye(D, dtype=torch.float64)
    j = COVARIANCES[0] @ torch.linalg.inv(COVARIANCES[0] + sigma**2 * eye)
    _, product = jacobian(model, X, sigma)
    assert close(product(X).flatten(1), X.flatten(1) @ j, 1e-12)
    _, product = jacobian(model, X, sigma, quantity="score")
    assert close(product(X).flatten(1), X.flatten(1) @ (j - eye) / sigma**2, 1e-12)


def test_a_product_can_be_differentiated_again():
    """d/dx of v' J(x) u against central differences, through the caller's own x."""
    model, sigma, h = labelled(), 0.7, 1e-5
    u, v, w = (normal(6, EVENT, seed=s) for s in (4, 5, 6))
    x = X.clone().requires_grad_()
    value, product = jacobian(model, x, sigma, C, create_graph=True)
    assert value.requires_grad
    (slope,) = torch.autograd.grad((product(v) * u).sum(), x, retain_graph=True)

    def bilinear(at: Tensor) -> Tensor:
        return (jacobian(model, at, sigma, C)[1](v) * u).flatten(1).sum(1)

    wanted = (bilinear(X + h * w) - bilinear(X - h * w)) / (2 * h)
    assert ((slope * w).flatten(1).sum(1) - wanted).abs().max() < 1e-7 * wanted.abs().max()
    (first,) = torch.autograd.grad((value * v).sum(), x)
    assert close(first, jacobian(model, X, sigma, C)[1](v), 1e-12)


def test_products_reach_the_parameters_where_a_graph_is_kept():
    model = network()
    _, product = jacobian(model, X, 0.7, C, create_graph=True)
    product(X).square().sum().backward()
    gradients = [p.grad for p in model.network.head.parameters()]
    assert float(gradients[0].abs().max()) > 0
    _, product = jacobian(model, X, 0.7, C)
    assert not product(X).requires_grad


def test_the_jacobian_leaves_its_arguments_and_works_without_gradients():
    x = X.clone()
    with torch.no_grad():
        value, product = jacobian(network(), x, 0.7)
        product(X)
    assert torch.equal(x, X)
    assert not x.requires_grad
    assert value.shape == X.shape


# ---- a third level, by every kernel

KERNELS = [name for name in SAMPLERS if name != "mala"]


def recipe(model: ScoreModel, name: str) -> SamplingRecipe:
    """Five noise levels, two steps at each for Langevin kernels."""
    steps = 2 if find_sampler(name).is_langevin else 1
    return resolve_sampling(model, name, ladder=geometric(10.0, 0.1, 5), steps_per_level=steps)


@pytest.mark.parametrize("name", KERNELS)
def test_a_bound_guided_network_is_sampled_by_every_kernel(name):
    """Bitwise as the guided network with its condition; two rows an evaluation where it acts."""
    guided = Guided(network(), 2.0, interval=(0.5, 20.0))
    chosen, keys = recipe(guided, name), rng.keys(0, 6)
    inner = draw(guided, chosen, keys, condition=C)
    outer = draw(Bound(guided, C), chosen, keys)
    assert torch.equal(outer.x, inner.x)
    assert bool(torch.isfinite(outer.x).all())
    assert outer.record.cost == inner.record.cost
    plain = draw(network(), chosen, keys, condition=C)
    assert plain.record.cost.forwards == 6 * plain.record.nfe
    assert not torch.equal(plain.x, outer.x)
    everywhere = draw(Bound(Guided(network(), 2.0), C), chosen, keys)
    nowhere = draw(Bound(Guided(network(), 2.0, interval=(30.0, 40.0)), C), chosen, keys)
    assert everywhere.record.cost.forwards == 2 * plain.record.cost.forwards
    assert nowhere.record.cost == plain.record.cost
    assert torch.equal(nowhere.x, plain.x)
    low, high = plain.record.cost.forwards, everywhere.record.cost.forwards
    assert low < outer.record.cost.forwards < high
    assert outer.record.cost.products == outer.record.cost.densities == 0


@pytest.mark.parametrize("name", KERNELS)
def test_rows_of_other_classes_do_not_touch_each_other_in_any_kernel(name):
    model = Guided(network(), 2.0)
    chosen, keys = recipe(model, name), rng.keys(0, 6)
    whole = draw(model, chosen, keys, condition=C).x
    other = {"class": torch.cat([CLASS[:3], 2 - CLASS[3:]])}
    assert torch.equal(draw(model, chosen, keys, condition=other).x[:3], whole[:3])
    part = draw(model, chosen, keys, condition=C, batch=4).x
    torch.testing.assert_close(part, whole, rtol=1e-9, atol=1e-9)


def test_mala_needs_a_density_and_gets_the_conditional_one():
    """Guided models are refused. A bound energy: both its proposal and its test see the class."""
    guided = Bound(Guided(network("square"), 2.0), C)
    with pytest.raises(InputError, match=r"log_density, which .* guided models have not"):
        draw(guided, recipe(guided, "mala"), rng.keys(0, 6))
    energy = network("square")
    chosen, keys = recipe(energy, "mala"), rng.keys(0, 6)
    given = draw(energy, chosen, keys, condition=C)
    bound = draw(Bound(energy, C), chosen, keys)
    assert torch.equal(given.x, bound.x)
    assert given.record.cost.densities == 6 * 2 * 2 * 5  # before and after, 2 steps at 5 levels
    for k in range(3):
        rows = CLASS.eq(k)
        alone = Bound(energy, {"class": torch.tensor([k])})
        torch.testing.assert_close(draw(alone, chosen, keys[rows]).x, given.x[rows])


def test_mala_on_a_conditional_density_has_its_law():
    """Mean and variance of each class within 4.5 standard errors, from the exact law on.

    A test that dropped the condition from the density would accept towards the whole mixture.
    """
    model = GaussianMixture([[0.0], [3.0]], [1.0, 0.25], [0.1, 0.9], labels=[0, 1])
    count, sigma = 4000, 0.5
    condition = {"class": torch.arange(count) % 2}
    start = model.sample(count, sigma, condition=condition)
    kernel = MALA(epsilon=0.4)
    keys = rng.keys(1, count)
    x = run(kernel, model, [sigma], start, 20, "none", keys=keys, condition=condition).x[:, 0]
    for k, (mean, variance) in enumerate(((0.0, 1.25), (3.0, 0.5))):
        part = x[k::2]
        assert abs(float(part.mean()) - mean) < 4.5 * math.sqrt(variance / len(part))
        assert abs(float(part.var()) / variance - 1) < 4.5 * math.sqrt(2 / len(part))
    moved = run(kernel, model, [sigma], start, 20, "none", keys=keys).x[:, 0][::2]
    assert abs(float(moved.mean())) > 0.3  # the control: without the condition class 0 drifts off


def test_guided_samples_are_those_of_the_guided_score():
    """Two Gaussians of one variance: guidance moves the mean to m_weak + w (m_strong - m_weak)."""
    model = GaussianMixture([[0.0]], 1.0, labels=[0])
    weak = GaussianMixture([[-2.0]], 1.0)
    guided = Guided(model, 1.5, weak=weak)
    ladder = geometric(200.0, 0.01, 400)
    chosen = resolve_sampling(guided, "heun", ladder=ladder)
    x = draw(guided, chosen, rng.keys(0, 4000), condition={"class": torch.zeros(4000).long()}).x
    # Both scores are linear with one slope, so the guided flow is that of N(-2 + 1.5 * 2, 1).
    assert abs(float(x.mean()) - 1.0) < 4.5 / math.sqrt(4000) + 0.02
    assert abs(float(x.var()) - 1.0) < 4.5 * math.sqrt(2 / 4000) + 0.02


def test_every_model_declares_what_it_can_do():
    """Declared on the class, never looked for: attributes of the contract have a value."""
    declared = ("ladder", "ladder_only", "has_log_density", "conditions", "units", "card")
    for kind in (ScoreModel, Preconditioned, GaussianMixture, Wrapped, Bound, Guided):
        assert all(name in dir(kind) for name in declared)
    for kind in every_model(ScoreModel):
        own = kind.log_density is not ScoreModel.log_density
        if own and not issubclass(kind, Wrapped):
            assert kind.has_log_density is True, kind


def every_model(kind: type[ScoreModel]) -> list[type[ScoreModel]]:
    """The models of the package."""
    found = [k for sub in kind.__subclasses__() for k in (sub, *every_model(sub))]
    return [k for k in found if k.__module__.startswith("scorefield.")]
