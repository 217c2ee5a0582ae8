"""Guidance in `sample` and `restore`, its exactness, and the law of guided samples.

Truth: the denoiser of a mixture in one dimension, written out here. With r_k the probability of
component k given x at noise level sigma,

    D(x) = sum_k r_k (m_k + v_k / (v_k + sigma²) (x - m_k)),    score = (D - x) / sigma².

test_wrapped.py has the same claims about `Guided` in two dimensions, and about its cost.
"""

import importlib.util
import math
from pathlib import Path

import pytest
import torch

import scorefield as sf
from data_helpers import refused
from scorefield.conditions import ConditionSpec
from scorefield.exact import Gaussian, GaussianMixture
from scorefield.models import Preconditioned, ScoreModel, jacobian
from scorefield.networks import build
from scorefield.noise import geometric

EXAMPLE = Path(__file__).parent.parent / "examples" / "guidance.py"


def example():
    """The module examples/guidance.py."""
    spec = importlib.util.spec_from_file_location("guidance_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- exactness, against the denoiser written out

MEANS, VARIANCES, WEIGHTS = [-1.5, 0.9, 2.2], [0.36, 0.16, 0.64], [0.4, 0.25, 0.35]
LABELS = [0, 0, 1]
X = torch.tensor([[-2.0], [-0.3], [0.4], [1.1], [2.5], [3.0]], dtype=torch.float64)
CLASSES = torch.tensor([0, 1, -1, 1, 0, -1])
SIGMAS = torch.tensor([0.05, 0.7, 6.0, 0.5, 2.0, 1.0], dtype=torch.float64)
INTERVAL = (0.5, 2.0)
INSIDE = torch.tensor([False, True, False, True, True, True])


def labelled(spread: float = 1.0) -> GaussianMixture:
    """The mixture with its classes; `spread` widens its components."""
    means = [[m] for m in MEANS]
    return GaussianMixture(means, [spread * v for v in VARIANCES], WEIGHTS, labels=LABELS)


def denoised(x: float, sigma: float, label: int, spread: float = 1.0) -> float:
    """D of one sample given its class; without one where the label is -1."""
    parts = [
        (w * math.exp(-((x - m) ** 2) / (2 * t)) / math.sqrt(t), m + v / t * (x - m))
        for m, v, w, k in zip(MEANS, VARIANCES, WEIGHTS, LABELS, strict=True)
        for v in [v * spread]
        for t in [v + sigma**2]
        if label in (-1, k)
    ]
    return sum(r * d for r, d in parts) / sum(r for r, _ in parts)


def truth(quantity: str, scale: float, sigmas: torch.Tensor, weak: float | None) -> torch.Tensor:
    """(1 - w) D_weak + w D; D_weak is without the class, or that of components `weak` as wide."""
    rows = []
    for x, sigma, label in zip(X[:, 0].tolist(), sigmas.tolist(), CLASSES.tolist(), strict=True):
        strong = denoised(x, sigma, label)
        other = denoised(x, sigma, -1) if weak is None else denoised(x, sigma, label, weak)
        value = (1 - scale) * other + scale * strong
        rows.append([value if quantity == "denoise" else (value - x) / sigma**2])
    return torch.tensor(rows, dtype=torch.float64)


def near(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """To 1e-10 of the largest element."""
    return float((found - wanted).abs().max()) <= 1e-10 * float(wanted.abs().max())


def weaker(spread: float | None) -> GaussianMixture | None:
    return None if spread is None else labelled(spread)


class Blind(sf.Guided):
    """Wrong: the strong branch loses its class."""

    def _both(self, x, sigma, condition, quantity):
        weak = super()._both(x, sigma, condition, quantity)[1]
        return self.inner(x, sigma, None, quantity), weak


class Swapped(sf.Guided):
    """Wrong: strong and weak exchanged."""

    def _both(self, x, sigma, condition, quantity):
        return super()._both(x, sigma, condition, quantity)[::-1]


class Outside(sf.Guided):
    """Wrong: guidance acts outside the interval."""

    def _active(self, sigma):
        return ~super()._active(sigma)


@pytest.mark.parametrize("quantity", ["denoise", "score"])
@pytest.mark.parametrize("spread", [None, 3.0], ids=["classifier-free", "autoguidance"])
@pytest.mark.parametrize("scale", [-0.5, 0.0, 0.3, 1.0, 2.5, 7.0])
def test_a_guided_model_is_the_extrapolation_of_two_denoisers(quantity, spread, scale):
    """Rows with two classes and without any, each at a noise level of its own."""
    guided = sf.Guided(labelled(), scale, weak=weaker(spread))
    given = {"class": CLASSES}
    assert near(guided(X, SIGMAS, given, quantity), truth(quantity, scale, SIGMAS, spread))
    for sigma in (0.05, 0.7, 6.0):
        levels = torch.full_like(SIGMAS, sigma)
        assert near(guided(X, sigma, given, quantity), truth(quantity, scale, levels, spread))


@pytest.mark.parametrize("quantity", ["denoise", "score"])
@pytest.mark.parametrize("spread", [None, 3.0], ids=["classifier-free", "autoguidance"])
@pytest.mark.parametrize("wrong", [Blind, Swapped])
def test_wrong_guidance_fails_the_same_check(quantity, spread, wrong):
    found = wrong(labelled(), 2.5, weak=weaker(spread))(X, SIGMAS, {"class": CLASSES}, quantity)
    assert not near(found, truth(quantity, 2.5, SIGMAS, spread))


@pytest.mark.parametrize("quantity", ["denoise", "score"])
@pytest.mark.parametrize("spread", [None, 3.0], ids=["classifier-free", "autoguidance"])
@pytest.mark.parametrize("scale", [0.0, 2.5])
def test_of_a_batch_only_the_levels_in_the_interval_are_guided(quantity, spread, scale):
    """The ends 0.5 and 2 belong to the interval; elsewhere the truth is that of w = 1."""
    given = {"class": CLASSES}
    everywhere, nowhere = (truth(quantity, w, SIGMAS, spread) for w in (scale, 1.0))
    wanted = torch.where(INSIDE[:, None], everywhere, nowhere)
    guided = sf.Guided(labelled(), scale, INTERVAL, weaker(spread))
    assert near(guided(X, SIGMAS, given, quantity), wanted)
    assert not near(
        Outside(labelled(), scale, INTERVAL, weaker(spread))(X, SIGMAS, given, quantity), wanted
    )
    for sigma in (0.05, 0.4999, 2.0001, 6.0):  # bitwise, where no row is guided
        plain = labelled()(X, sigma, given, quantity)
        assert torch.equal(guided(X, sigma, given, quantity), plain)


@pytest.mark.parametrize("spread", [None, 3.0], ids=["classifier-free", "autoguidance"])
def test_cost_is_two_rows_where_guidance_acts_and_one_elsewhere(spread):
    given, guided = {"class": CLASSES}, sf.Guided(labelled(), 2.5, INTERVAL, weaker(spread))
    for sigmas, rows in ((SIGMAS, 10), (torch.tensor(1.0), 12), (torch.tensor(6.0), 6)):
        with sf.count_cost() as cost:
            guided.denoise(X, sigmas, given)
        assert (cost.forwards, cost.products, cost.densities) == (rows, 0, 0)
    with sf.count_cost() as cost:  # of w = 0 the weak model alone is evaluated
        sf.Guided(labelled(), 0.0, INTERVAL, weaker(spread)).denoise(X, SIGMAS, given)
    assert cost.forwards == 6


def test_products_of_a_batch_in_parts_are_those_of_each_sample():
    guided, v = sf.Guided(labelled(), 2.5, INTERVAL), X.cos()
    _, product = jacobian(guided, X, SIGMAS, {"class": CLASSES})
    for k, found in enumerate(product(v)):
        one = {"class": CLASSES[k : k + 1]}
        _, alone = jacobian(guided, X[k : k + 1], SIGMAS[k : k + 1], one)
        assert torch.allclose(found, alone(v[k : k + 1])[0], rtol=1e-12)


def small_network(seed: int, **options) -> Preconditioned:
    """A network of two classes with random weights, float64."""
    specs = {"class": ConditionSpec("class", 2)}
    torch.manual_seed(seed)
    net = build("mlp", (1,), conditions=specs, width=16, depth=1, embedding=8)
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(std=0.3)
    options = {"sigma_min": 0.02, "sigma_max": 20.0, "conditions": specs} | options
    return Preconditioned(net, (1,), **options).double().eval()


def test_branches_of_one_network_share_a_forward_pass():
    strong, weak = small_network(0), small_network(1)
    sizes = []
    for model in (strong, weak):
        model.network.register_forward_hook(lambda *call: sizes.append(len(call[1][0])))
    sf.Guided(strong, 2.0).denoise(X, 1.0, {"class": CLASSES})
    assert sizes == [12]
    sizes.clear()
    sf.Guided(strong, 2.0, weak=weak).denoise(X, 1.0, {"class": CLASSES})
    assert sizes == [6, 6]


@pytest.mark.parametrize("model", [labelled(), small_network(0)], ids=["mixture", "network"])
@pytest.mark.parametrize("weak", [None, labelled(3.0)], ids=["classifier-free", "autoguidance"])
def test_batch_mates_and_their_classes_do_not_matter(model, weak):
    """Bitwise for other classes at the same place; to 1e-12 for another number of rows."""
    guided = sf.Guided(model, 2.5, weak=weak)
    together = guided.denoise(X, 0.7, {"class": CLASSES})
    for k in range(len(X)):
        others = (CLASSES + 2) % 3 - 1  # -1, 0, 1 become 0, 1, -1
        others[k] = CLASSES[k]
        assert torch.equal(guided.denoise(X, 0.7, {"class": others})[k], together[k])
        alone = guided.denoise(X[k : k + 1], 0.7, {"class": CLASSES[k : k + 1]})[0]
        assert torch.allclose(alone, together[k], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("quantity", ["denoise", "score"])
def test_scales_one_and_zero_of_autoguidance_are_bitwise_the_two_models(quantity):
    given = {"class": CLASSES}
    for strong, weak in ((labelled(), labelled(3.0)), (small_network(0), small_network(1))):
        for scale, model in ((1.0, strong), (0.0, weak)):
            guided = sf.Guided(strong, scale, weak=weak)
            assert torch.equal(guided(X, 0.7, given, quantity), model(X, 0.7, given, quantity))


# -- what does not fit


def classes(*names: str, optional: bool = True) -> dict[str, ConditionSpec]:
    return {"class": ConditionSpec("class", len(names), names, optional=optional)}


def sampled(weak: ScoreModel, given: str | None = "owl", interval=None) -> torch.Tensor:
    """Samples of a model of owls and wrens, guided away from a weak one."""
    model = small_network(0, conditions=classes("owl", "wren"))
    condition = None if given is None else {"class": given}
    guidance = sf.Guidance(2.0, interval, weak)
    return sf.sample(model, 2, nfe=4, condition=condition, guidance=guidance)


def test_a_weak_model_has_the_same_classes_in_the_same_order():
    """A class is a number inside: in another order it would be another class."""
    for other in (classes("wren", "owl"), classes("owl", "wren", "hawk")):
        weak = small_network(1, conditions=other)
        refused("must mean the same in both models", "owl, wren", call=lambda w=weak: sampled(w))
    assert sampled(small_network(1, conditions=classes("owl", "wren"))).shape == (2, 1)
    assert sampled(small_network(1)).shape == (2, 1)  # numbers without names


def test_a_weak_model_that_needs_a_condition_gets_one():
    weak = small_network(1, conditions=classes("owl", "wren", optional=False))
    refused("the weak model was trained with the condition", call=lambda: sampled(weak, None))
    assert sampled(weak).shape == (2, 1)


def test_the_weak_model_is_needed_where_guidance_acts_only():
    weak = small_network(1, conditions=classes("owl", "wren"), sigma_min=0.1, sigma_max=5.0)
    refused(
        "where the weak model is not defined", "--guidance-interval", call=lambda: sampled(weak)
    )
    assert sampled(weak, interval=(0.1, 5.0)).shape == (2, 1)


def test_the_interval_must_meet_the_ladder_and_the_model():
    p, given = labelled(), {"class": 0}

    def drawn(top: float, interval: tuple[float, float] | None, **how) -> torch.Tensor:
        guidance = sf.Guidance(3.0, interval)
        ladder = how or {"ladder": geometric(top, 0.01, 20)}
        return sf.sample(p, 4, condition=given, guidance=guidance, **ladder)

    refused("outside the ladder", "never act", call=lambda: drawn(5.0, (20.0, 30.0)))
    recipe = sf.resolve_sampling(p, ladder=geometric(5.0, 0.01, 20))
    refused("outside the ladder", call=lambda: drawn(5.0, (20.0, 30.0), sampler=recipe))
    # The user's ladder decides, not the default one, which ends at 33.
    assert not torch.equal(
        drawn(300.0, (100.0, 250.0)),
        sf.sample(p, 4, condition=given, ladder=geometric(300.0, 0.01, 20)),
    )
    network, beyond = small_network(0), (30.0, 40.0)  # known up to 20
    wrap = sf.Guidance(2.0, beyond).wrap
    refused("the range of the model", call=lambda: wrap(network, {"class": CLASSES}))
    guided = sf.Guided(network, 2.0, beyond)
    refused("outside the ladder", call=lambda: sf.sample(guided, 2, nfe=4, condition=given))


def test_a_guided_model_is_no_guidance():
    guided = sf.Guided(labelled(), 2.0)
    refused(
        "takes a scale, such as 1.5, or sf.Guidance",
        call=lambda: sf.sample(labelled(), 2, condition={"class": 0}, guidance=guided),
    )


# -- `restore`


def test_restore_takes_guidance_as_an_option():
    p = GaussianMixture([[-1.5, 1.0], [0.9, -1.0], [2.2, 0.5]], VARIANCES, WEIGHTS, labels=LABELS)
    seen = sf.Measurement(torch.tensor([[0.5, 0.0]]), sf.operators.Mask([True, False]))
    few, inpaint = {"levels": 4, "steps_per_level": 3}, {"method": "inpainting"}

    def restored(model: ScoreModel, **options) -> torch.Tensor:
        given = {"class": 0}
        return sf.restore(model, seen, 3, options=few | options, condition=given, **inpaint).draws

    plain = restored(p)
    assert torch.equal(plain, restored(p, guidance=1.0))
    assert torch.equal(plain, restored(p, guidance=None))
    assert torch.equal(restored(p, guidance=3), restored(sf.Guided(p, 3.0)))
    assert not torch.equal(restored(p, guidance=3), plain)
    limited = sf.Guidance(3.0, interval=(0.1, 1.0))
    assert not torch.equal(restored(p, guidance=limited), restored(p, guidance=3))
    refused(
        "needs a condition to follow",
        call=lambda: sf.restore(p, seen, 3, options=few | {"guidance": 3}, **inpaint),
    )
    refused("guidance scale", call=lambda: restored(p, guidance="strong"))
    refused("guidance: a scale", call=lambda: restored(p, guide=3))


# -- `sample`


def test_sample_takes_a_scale_or_a_guidance():
    p, given = labelled(), {"class": 0}
    plain = sf.sample(p, 8, nfe=10, condition=given, guidance=2)
    assert torch.equal(plain, sf.sample(p, 8, nfe=10, condition=given, guidance=sf.Guidance(2.0)))
    assert torch.equal(plain, sf.sample(sf.Guided(p, 2.0), 8, nfe=10, condition=given))
    limited = sf.Guidance(2.0, interval=[0.1, 2])
    wrapped = sf.Guided(p, 2.0, interval=(0.1, 2.0))
    found = sf.sample(p, 8, nfe=10, condition=given, guidance=limited)
    assert torch.equal(found, sf.sample(wrapped, 8, nfe=10, condition=given))
    assert not torch.equal(found, plain)


def test_autoguidance_needs_no_condition():
    """Of two Gaussians of one mean the guided one is the Gaussian of extrapolated scores."""
    strong, weak = Gaussian([1.0], 1.0), Gaussian([1.0], 4.0)
    drawn = sf.sample(strong, 8, nfe=10, guidance=sf.Guidance(1.5, weak=weak))
    wrapped = sf.Guided(strong, 1.5, weak=weak)
    assert torch.equal(drawn, sf.sample(wrapped, 8, nfe=10))
    x = torch.tensor([[0.3]], dtype=torch.float64)
    expected = 1.5 * -(x - 1) / (1 + 0.25) + -0.5 * -(x - 1) / (4 + 0.25)
    assert torch.allclose(wrapped.score(x, 0.5), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("guidance", "condition", "words"),
    [
        (2.0, None, "needs a condition to follow"),
        (sf.Guidance(2.0, interval=(200.0, 300.0)), {"class": 0}, "would never act"),
        ("strong", {"class": 0}, "guidance scale"),
        (float("nan"), {"class": 0}, "finite"),
    ],
)
def test_guidance_that_would_not_act_is_refused(guidance, condition, words):
    refused(
        words,
        call=lambda: sf.sample(labelled(), 2, nfe=4, condition=condition, guidance=guidance),
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scale": 2.0, "interval": (2.0, 1.0)}, "(lowest, highest)"),
        ({"scale": 2.0, "interval": 1.0}, "(lowest, highest)"),
        ({"scale": None}, "guidance scale"),
        ({"scale": 2.0, "weak": "runs/weak"}, "weak=sf.load"),
    ],
)
def test_guidance_checks_its_values(arguments, words):
    refused(words, call=lambda: sf.Guidance(**arguments))


def test_a_model_without_an_unconditional_form_has_no_classifier_free_guidance():
    specs = {"class": ConditionSpec("class", 3, optional=False)}
    model = Preconditioned(build("mlp", (2,), conditions=specs), (2,), conditions=specs)
    refused("condition.dropout=0", "--guide", call=lambda: sf.Guided(model, 2.0))
    weak = Gaussian([0.0, 0.0], 1.0)
    x = torch.zeros(2, 2)
    guided = sf.Guided(model, 2.0, weak=weak)
    assert guided.denoise(x, 1.0, {"class": torch.tensor([0, 1])}).shape == (2, 2)


# -- the law of guided samples


def test_guided_samples_of_an_exact_model_are_not_those_of_the_tilted_density():
    """W1 of 4,000 samples from the quadrature; 20 sets of as many exact draws are the floor.

    Without guidance (w = 1) the distance is below 1.5 times the largest floor. With a correct
    sampler it would exceed the largest of 20 floors with probability 1/21 over seeds, and 1.5 times
    it more rarely; the seeds are fixed, so that the test itself does not vary. At w = 2 the gap is
    five times the largest floor at least and 20 of its own standard errors: the samples are farther
    from the tilted density than p(x | c) is, which no guidance would give. An interval of noise
    levels mends most of it.
    """
    guide = example()
    unguided = guide.measure(1.0, None, 4000)
    assert unguided["w1"] < 1.5 * unguided["floor_max"]
    guided = guide.measure(2.0, None, 4000)
    assert guided["w1"] > 5 * guided["floor_max"]
    assert guided["w1"] > guided["floor_max"] + 20 * guided["se"]
    assert guided["w1"] > 2 * guided["unguided"]
    limited = guide.measure(2.0, guide.INTERVAL, 4000)
    assert limited["w1"] < guided["w1"] / 3
    assert limited["w1"] < guided["unguided"] - 4.5 * limited["se"]
    # The documented gap: the mode near class 1 is all but lost, and the spread shrinks.
    assert guided["mean"][0] == pytest.approx(-1.16, abs=0.06)
    assert guided["mean"][1] == pytest.approx(-0.751, abs=0.001)
    assert guided["sd"][0] < 0.9 * guided["sd"][1]


def test_the_gap_is_not_one_of_the_sampler():
    """A quarter of the steps gives the same samples; the same seeds, so that nothing is random."""
    guide = example()
    fine, coarse = (guide.measure(2.0, None, 1000, nfe)["samples"] for nfe in (400, 100))
    assert float((fine - coarse).abs().max()) < 1e-4


def test_the_example_measures_every_guidance_and_draws_the_picture(tmp_path, capsys):
    guide = example()
    rows = guide.main(str(tmp_path / "guidance.png"), 200)
    asked = len(guide.SCALES) + len(guide.SCALES[1:]) + len(guide.OTHERS)
    assert len(rows) == asked == len(capsys.readouterr().out.splitlines()) - 1
    assert (tmp_path / "guidance.png").stat().st_size > 10_000


def test_the_distance_of_densities_is_the_shift_of_a_shifted_one():
    guide = example()
    narrow, shifted = (Gaussian([m], 0.5).log_prob(guide.GRID[:, None]).exp() for m in (0.0, 0.7))
    assert guide.apart(narrow, shifted) == pytest.approx(0.7, abs=1e-6)
    assert guide.apart(narrow, narrow) == 0


def test_the_tilted_density_is_normalised_and_is_the_conditional_one_at_scale_one():
    guide = example()
    x = guide.GRID
    assert torch.trapezoid(guide.tilted(3.0), x).item() == pytest.approx(1.0, abs=1e-12)
    expected = guide.CLASS.log_prob(x[:, None]).exp()
    assert torch.allclose(guide.tilted(1.0), expected, atol=1e-12)
