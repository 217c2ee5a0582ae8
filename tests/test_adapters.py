"""Other conventions: a closed form wrapped in each gives back its own score; the real classes agree
with their own arithmetic where installed.

Truth: N(m, s²) has E[z | y] = beta (y - alpha m) / v and E[x0 | y] = m + alpha s² (y - alpha m) / v
with v = alpha² s² + beta², which is
written here in the convention's own coordinates, and Gaussian(m, s²) of exact.py, which knows only
sigma.
"""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import scorefield as sf
from scorefield.conditions import ConditionSpec
from scorefield.errors import InputError
from scorefield.exact import Gaussian
from scorefield.interop import Adapted, from_azula, from_diffusers, from_flow, from_vp
from scorefield.interop.adapted import PREDICTIONS
from scorefield.interop.times import TimeTable
from scorefield.likelihood import LikelihoodOptions, log_prob
from scorefield.models import Bound, Guided, count_cost, jacobian
from scorefield.units import Units

EVENT = (2, 3)
MEAN = torch.linspace(-1, 2, 6, dtype=torch.float64).reshape(EVENT)
VARIANCE = torch.linspace(0.2, 1.5, 6, dtype=torch.float64).reshape(EVENT)
TRUTH = Gaussian(MEAN, VARIANCE)
X = torch.randn(5, *EVENT, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def exact(y: Tensor, alpha: Tensor, beta: Tensor, prediction: str) -> Tensor:
    """What a perfect network of that prediction says of y."""
    a, b = (c.reshape(-1, *(1,) * (y.ndim - 1)).to(y.dtype) for c in (alpha, beta))
    mean, variance = MEAN.to(y.dtype), VARIANCE.to(y.dtype)
    v = a * a * variance + b * b
    x0, z = mean + a * variance * (y - a * mean) / v, b * (y - a * mean) / v
    return {
        "epsilon": z,
        "sample": x0,
        "v": a * z - b * x0,
        "velocity": z - x0,
        "score": -(y - a * mean) / v,
    }[prediction]


def linear_bar(t: Tensor) -> Tensor:
    """alpha-bar of the VP SDE with beta from 0.1 to 20 (Song et al. 2021)."""
    return torch.exp(-0.1 * t - 0.5 * 19.9 * t * t)


def agree(model, truth=TRUTH, x: Tensor = X, rtol: float = 1e-6) -> None:
    """Scores and denoisers at sigmas over the whole range, one a sample and one for all."""
    inner = torch.linspace(
        math.log(model.sigma_min), math.log(model.sigma_max), 7, dtype=torch.float64
    ).exp()
    for sigma in (*inner, inner[1:6], torch.tensor(model.sigma_min), torch.tensor(model.sigma_max)):
        at = x * (1 + torch.as_tensor(sigma)).reshape(-1, *(1,) * (x.ndim - 1)).to(x.dtype)
        for got, want in (
            (model.score(at, sigma), truth.score(at, sigma)),
            (model.denoise(at, sigma), truth.denoise(at, sigma)),
        ):
            assert float((got - want).abs().max()) <= rtol * float(want.abs().max())


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_variance_preserving(prediction):
    def network(y: Tensor, t: Tensor) -> Tensor:
        bar = linear_bar(t)
        return exact(y, bar.sqrt(), (1 - bar).sqrt(), prediction)

    model = from_vp(network, linear_bar, EVENT, prediction)
    assert math.isclose(model.sigma_max, math.sqrt(math.expm1(0.1 + 9.95)), rel_tol=1e-9)
    agree(model)
    other = next(name for name in PREDICTIONS if name != prediction)
    with pytest.raises(AssertionError):
        agree(from_vp(network, linear_bar, EVENT, other))  # the control


@pytest.mark.parametrize("data_at", [0, 1])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_flow_matching(data_at, scale):
    def network(y: Tensor, t: Tensor) -> Tensor:
        beta = t / scale if data_at == 0 else 1 - t / scale
        return exact(y, 1 - beta, beta, "velocity") * (1 if data_at == 0 else -1)

    model = from_flow(network, EVENT, data_at, time_scale=scale)
    assert math.isclose(model.sigma_min, 1e-3 / (1 - 1e-3), rel_tol=1e-9) and math.isclose(
        model.sigma_max, 999, rel_tol=1e-9
    )
    agree(model)
    with pytest.raises(AssertionError):
        agree(from_flow(network, EVENT, 1 - data_at, time_scale=scale))  # the control


TABLE = torch.cumprod(
    1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0
)  # Ho et al. 2020


@pytest.mark.parametrize("rounding", ["interpolate", "nearest"])
def test_tables(rounding):
    """Exact at the table's own sigmas; between two, "nearest" hands over whole numbers and is wrong
    by at most half a gap.
    """
    told = []

    def network(y: Tensor, t: Tensor) -> Tensor:
        told.append(t)
        bar = TABLE[t.round().long()]
        return exact(y, bar.sqrt(), (1 - bar).sqrt(), "epsilon")

    model = from_vp(network, TABLE, EVENT, rounding=rounding)
    sigmas = ((1 - TABLE) / TABLE).sqrt()
    assert torch.equal(model.ladder, sigmas.flip(0))
    for k in (0, 1, 499, 998, 999):
        got, want = model.score(X, sigmas[k]), TRUTH.score(X, sigmas[k])
        assert float((got - want).abs().max()) <= 1e-6 * float(want.abs().max())
        torch.testing.assert_close(
            told[-1].double(), torch.full((5,), float(k), dtype=torch.float64), rtol=0, atol=1e-9
        )
    middle = (sigmas[300] * sigmas[301]).sqrt()
    got, want = model.score(X, middle), TRUTH.score(X, middle)
    assert (
        1e-9
        < float((got - want).abs().max() / want.abs().max())
        < float((sigmas[301] / sigmas[300]).log())
    )
    if rounding == "nearest":
        assert told[-1].dtype == torch.int64
    else:
        torch.testing.assert_close(
            told[-1], torch.full((5,), 300.5, dtype=torch.float64), rtol=0, atol=1e-9
        )


def test_sampling_an_adapted_model_in_data_units():
    """Heun on a wrapped VP model draws the Gaussian, moved by the units: mean and variance within
    4.5 standard errors.
    """
    units = Units.affine(3.0, 2.0)
    model = from_vp(
        lambda y, t: exact(y, linear_bar(t).sqrt(), (1 - linear_bar(t)).sqrt(), "v"),
        linear_bar,
        EVENT,
        "v",
        units=units,
    )
    x = sf.sample(model, count=4000, seed=0, nfe=81)
    mean, variance = 2 * MEAN + 3, 4 * VARIANCE
    assert bool(((x.mean(0) - mean).abs() < 4.5 * (variance / 4000).sqrt()).all())
    assert bool(
        ((x.var(0) / variance - 1).abs() < 4.5 * math.sqrt(2 / 4000) + 0.01).all()
    )  # 0.01: Heun's own error at 41 levels


FACTOR = {"class": ConditionSpec("class", 5)}


class Scaled(torch.nn.Module):
    """y, times the class where there is one, in the weights' type."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones((), dtype=dtype))

    def forward(self, y: Tensor, t: Tensor, condition: dict | None = None) -> Tensor:
        assert y.dtype == self.one.dtype
        assert t.dtype == torch.promote_types(y.dtype, torch.float32)
        if condition is None:
            return self.one * y
        return self.one * y * condition["class"].clamp(min=0)[:, None, None].to(y.dtype)


def test_weights_decide_the_type_inside_and_gradients_pass():
    net = Scaled(torch.bfloat16)
    model = from_vp(net, linear_bar, EVENT, conditions=FACTOR)
    assert [*model.parameters()] == [net.one]
    assert model.leaf_network() is net
    x = X.float().requires_grad_()
    model.score(x, 0.5, {"class": torch.arange(5)}).sum().backward()
    assert (
        x.dtype == x.grad.dtype == torch.float32
        and float(x.grad[0].abs().max()) == 0
        and float(x.grad[1].abs().max()) > 0
    )
    with pytest.raises(InputError, match="takes no condition"):
        from_vp(net, linear_bar, EVENT).score(X, 0.5, {"class": torch.arange(5)})
    with pytest.raises(InputError, match="one row a sample"):
        model.score(X, 0.5, {"class": torch.arange(3)})
    with pytest.raises(InputError, match="sigma must lie in"):
        model.score(X, 1e6)


def test_wrong_schedules_are_refused():
    net = torch.nn.Identity()
    with pytest.raises(InputError, match="rise from t=1 to t=0"):
        from_vp(net, linear_bar, EVENT, times=(1.0, 1e-3))
    with pytest.raises(InputError, match="sigma = beta/alpha must be finite"):
        from_vp(net, linear_bar, EVENT, times=(0.0, 1.0))
    with pytest.raises(InputError, match="reversed"):
        from_vp(net, TABLE.flip(0), EVENT)
    with pytest.raises(InputError, match="prediction must be one of"):
        from_vp(net, linear_bar, EVENT, "noise")
    with pytest.raises(InputError, match="rounding must be"):
        from_vp(net, TABLE, EVENT, rounding="floor")
    with pytest.raises(InputError, match="data_at"):
        from_flow(net, EVENT, data_at=2)
    with pytest.raises(InputError, match="margin"):
        from_flow(net, EVENT, margin=0.5)
    ends_in_noise = TimeTable(
        torch.cat([TABLE, torch.zeros(1, dtype=torch.float64)]), "nearest"
    )  # zero terminal signal
    assert math.isclose(ends_in_noise.sigma_max, float(((1 - TABLE[-1]) / TABLE[-1]).sqrt()))
    with pytest.raises(InputError, match="must return its input's shape"):
        from_vp(lambda y, t: y[:, :1], linear_bar, EVENT).score(X, 1.0)


# ---- copies and precision


class Net(torch.nn.Module):
    """A small network of every interface: returns a tensor."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line = torch.nn.Linear(3, 3)
        self.table = torch.nn.Embedding(4, 3)

    def forward(self, y: Tensor, t: Tensor, condition: dict | None = None) -> Tensor:
        h = self.line(y) + 0.01 * t.to(y.dtype).reshape(-1, 1, 1)
        if condition is not None:
            h = h + self.table(condition["class"].clamp(min=-1) + 1)[:, None]
        return torch.tanh(h)


class FakeUNet(Net):
    """The interface of diffusers' UNet2DModel."""

    def __init__(self, classes: int | None = None, **config: object) -> None:
        super().__init__()
        self.config = {
            "sample_size": (2, 3),
            "in_channels": 1,
            "num_class_embeds": classes,
            "class_embed_type": None,
        } | config
        self.seen: list[Tensor | None] = []

    def forward(
        self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None
    ) -> SimpleNamespace:
        self.seen.append(class_labels)
        if self.config["num_class_embeds"] is not None and class_labels is None:
            raise ValueError("class_labels should be provided when doing class conditioning")
        h = self.line(sample) + 0.01 * timestep.to(sample.dtype).reshape(-1, 1, 1, 1)
        if class_labels is not None and class_labels.is_floating_point():
            h = h + class_labels.sum(1).reshape(-1, 1, 1, 1)
        elif class_labels is not None:
            h = h + self.table(class_labels)[:, None, None]
        return SimpleNamespace(sample=torch.tanh(h))


class FakeScheduler:
    """The interface of diffusers' variance-preserving schedulers."""

    def __init__(self, prediction_type: str = "epsilon") -> None:
        self.alphas_cumprod = TABLE.float()
        self.config = {"prediction_type": prediction_type}


class FakeDenoiser(Net):
    """The interface of azula's Denoiser."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = lambda t: (torch.ones_like(t), 0.01 * 1e4**t)

    def forward(self, x_t: Tensor, t: Tensor, label: Tensor | None = None) -> SimpleNamespace:
        condition = None if label is None else {"class": label}
        return SimpleNamespace(mean=super().forward(x_t, t, condition))


CLASSES = {"class": ConditionSpec("class", 3)}
ADAPTED = {
    "vp": lambda: from_vp(Net(), linear_bar, EVENT, conditions=CLASSES),
    "vp table": lambda: from_vp(Net(), TABLE, EVENT, conditions=CLASSES),
    "flow": lambda: from_flow(Net(), EVENT, conditions=CLASSES),
    "diffusers": lambda: from_diffusers(FakeUNet(4), FakeScheduler(), null_class=3),
    "azula": lambda: from_azula(FakeDenoiser(), EVENT, CLASSES, {"class": "label"}),
}


def states(model: Adapted) -> Tensor:
    return X.float().reshape(5, *model.event_shape)


@pytest.mark.parametrize("name", ADAPTED)
def test_a_copy_answers_with_its_own_weights(name):
    model = ADAPTED[name]()
    x, before = states(model), ADAPTED[name]().score(states(model), 1.0)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert torch.equal(model.score(x, 1.0), before)
    assert not torch.allclose(twin.score(x, 1.0), before, rtol=1e-2)
    assert twin.leaf_network() is not model.leaf_network()
    assert isinstance(model.leaf_network(), torch.nn.Module)


@pytest.mark.parametrize("name", ADAPTED)
def test_a_model_moved_to_float64_computes_in_float64(name):
    model = ADAPTED[name]()
    x = states(model)
    wide = copy.deepcopy(model).double()
    single, double = model.score(x, 1.0), wide.score(x.double(), 1.0)
    gap = float((single - double).detach().abs().max() / double.detach().abs().max())
    assert 0 < gap < 1e-5


@pytest.mark.parametrize("name", ADAPTED)
def test_likelihood_in_float64_leaves_the_model_in_float32(name):
    model = ADAPTED[name]()
    options = LikelihoodOptions(
        sigma_min=0.1, sigma_max=2.0, rtol=1e-3, atol=1e-3, dtype=torch.float64
    )
    x = model.units.to_data(states(model))
    double = log_prob(model, x, condition={"class": 1}, options=options)
    single = log_prob(
        model,
        x,
        condition={"class": 1},
        options=LikelihoodOptions(sigma_min=0.1, sigma_max=2.0, rtol=1e-3, atol=1e-3),
    )
    assert (double.value - single.value).abs().max() < 0.05
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("name", ADAPTED)
def test_conditions_reach_the_library_and_guidance_works(name):
    """Every library gets the class under its own name, in a mixed batch; null rows; guidance."""
    model = ADAPTED[name]()
    x, classes = states(model), torch.tensor([0, 1, 2, 1, 0])
    mixed = model.denoise(x, 1.0, {"class": classes})
    for k in range(5):
        one = {"class": classes[k : k + 1]}
        torch.testing.assert_close(model.denoise(x[k : k + 1], 1.0, one)[0], mixed[k])
    null = model.denoise(x, 1.0, {"class": torch.full((5,), -1)})
    assert not torch.allclose(null, mixed, rtol=1e-3)
    with count_cost() as cost:
        guided = Bound(Guided(model, 2.0), {"class": classes}).denoise(x, 1.0)
    assert cost.forwards == 10
    torch.testing.assert_close(guided, 2 * mixed - null, rtol=1e-4, atol=1e-5)


def test_autocast_is_that_of_the_leaf():
    seen = []

    class Watching(Net):
        def forward(self, y: Tensor, t: Tensor, condition: dict | None = None) -> Tensor:
            out = super().forward(y, t, condition)
            seen.append(self.line(y).dtype)
            return out

    model = from_vp(Watching(), linear_bar, EVENT)
    model.score(X.float(), 1.0)
    model.autocast = torch.bfloat16
    model.score(X.float(), 1.0)
    assert seen == [torch.float32, torch.bfloat16]


def test_products_pass_through_an_adapted_network():
    model = ADAPTED["flow"]().double()
    v = torch.ones_like(X)
    value, product = jacobian(model, X, 0.7)
    h = 1e-6
    ahead, behind = (model.denoise(X + s * h * v, 0.7).detach() for s in (1, -1))
    wanted = ((ahead - behind) / (2 * h)).flatten(1).sum(1)
    assert value.shape == X.shape
    torch.testing.assert_close(product(v).flatten(1).sum(1), wanted, rtol=1e-6, atol=1e-7)


# ---- the interfaces of the libraries, without them


@pytest.mark.parametrize(
    ("prediction", "name"), [("epsilon", "epsilon"), ("v_prediction", "v"), ("sample", "sample")]
)
def test_diffusers_reads_shape_table_and_prediction(prediction, name):
    unet = FakeUNet()
    model = from_diffusers(unet, FakeScheduler(prediction))
    assert model.event_shape == (1, 2, 3)
    assert model.prediction == name
    assert model.conditions == {}
    assert model.units.image
    assert torch.equal(model.units.to_model(torch.tensor([0.0, 1.0])), torch.tensor([-1.0, 1.0]))
    sigmas = ((1 - TABLE.float().double()) / TABLE.float().double()).sqrt()
    assert torch.equal(model.ladder, sigmas.flip(0))
    x = states(model)
    model.score(x, 1.0)
    assert unet.seen == [None]  # an unlabelled network is called without labels
    assert sf.sample(model, count=2, nfe=5).shape == (2, 1, 2, 3)


def test_diffusers_labels_are_needed_where_the_network_has_no_null_class():
    model = from_diffusers(FakeUNet(4), FakeScheduler())
    assert model.conditions["class"].size == 4
    x = states(model)
    for condition in (None, {"class": torch.tensor([0, 1, -1, 2, 3])}):
        with pytest.raises(InputError, match="null_class=LABEL"):
            model.score(x, 1.0, condition)
    spare = from_diffusers(FakeUNet(4), FakeScheduler(), null_class=0)  # not the last label
    assert spare.conditions["class"].size == 4
    torch.testing.assert_close(
        spare.score(x, 1.0), spare.score(x, 1.0, {"class": torch.zeros(5, dtype=torch.int64)})
    )
    last = from_diffusers(FakeUNet(4), FakeScheduler(), null_class=3)
    assert last.conditions["class"].size == 3  # the null class is not one of the classes


def test_diffusers_takes_a_vector_as_its_embedding():
    net = FakeUNet(None, class_embed_type="identity")
    spec = {"vector": ConditionSpec("vector", 2)}
    model = from_diffusers(net, FakeScheduler(), conditions=spec)
    x = states(model)
    value = torch.arange(10, dtype=torch.float64).reshape(5, 2)
    model.score(x, 1.0, {"vector": value})
    assert torch.equal(net.seen[-1], value.float())
    with pytest.raises(InputError, match="needs a condition for every sample"):
        model.score(x, 1.0)


def test_diffusers_objects_that_do_not_fit_are_refused():
    flow = SimpleNamespace(config={})
    with pytest.raises(InputError, match="use from_flow"):
        from_diffusers(FakeUNet(), flow)
    with pytest.raises(InputError, match="prediction_type must be one of"):
        from_diffusers(FakeUNet(), FakeScheduler("flow_prediction"))
    with pytest.raises(InputError, match="no sample_size"):
        from_diffusers(FakeUNet(sample_size=None), FakeScheduler())
    assert from_diffusers(FakeUNet(sample_size=4), FakeScheduler()).event_shape == (1, 4, 4)


def test_azula_conditions_go_in_as_keywords():
    spec = {"label": ConditionSpec("class", 3)}
    model = from_azula(FakeDenoiser(), EVENT, spec)  # the keyword is the condition's own name
    classes = torch.tensor([0, 1, 2, 0, 1])
    renamed = ADAPTED["azula"]()
    x = X.float()
    got, wanted = (
        model.denoise(x, 1.0, {"label": classes}),
        renamed.denoise(x, 1.0, {"class": classes}),
    )
    assert torch.equal(got, wanted)
    assert not torch.allclose(got, model.denoise(x, 1.0), rtol=1e-3)
    assert (model.sigma_min, model.sigma_max) == pytest.approx((0.01, 100.0))
    with pytest.raises(InputError, match="no schedule"):
        from_azula(torch.nn.Identity(), EVENT)


def test_a_function_has_no_network_to_compile_or_move():
    model = from_vp(lambda y, t: y, linear_bar, EVENT)
    assert model.leaf_network() is None
    assert [*model.leaves()] == [model]
    assert [*model.parameters()] == []


# ---- the real classes: only where the libraries are installed, in the environment of the peers


def unet(diffusers, **more: object):
    torch.manual_seed(0)
    shape = {
        "sample_size": 8,
        "in_channels": 1,
        "out_channels": 1,
        "layers_per_block": 1,
        "block_out_channels": (8, 8),
        "norm_num_groups": 4,
    }
    blocks = {
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
    }
    return diffusers.UNet2DModel(**shape, **blocks, **more).eval()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("kind", ["DDPMScheduler", "DDIMScheduler", "EulerDiscreteScheduler"])
def test_diffusers(prediction, kind):
    """A real UNet2DModel: D at a schedule's sigma is the x0 its own DDIM or DDPM step finds, and
    -sigma score the noise.
    """
    diffusers = pytest.importorskip(
        "diffusers", reason="diffusers is installed in the peers' environment (make bench-env)"
    )
    net = unet(diffusers)
    scheduler = getattr(diffusers, kind)(prediction_type=prediction)
    model = from_diffusers(net, scheduler)
    judge = diffusers.DDIMScheduler(
        prediction_type=prediction, clip_sample=False, timestep_spacing="trailing"
    )
    judge.set_timesteps(1000)
    assert model.event_shape == (1, 8, 8) and torch.allclose(
        model.units.to_model(torch.tensor([0.0, 1.0])), torch.tensor([-1.0, 1.0])
    )
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for t in (0, 10, 500, 999):
            bar = scheduler.alphas_cumprod[t].double()
            sigma = ((1 - bar) / bar).sqrt()
            at = x * (1 + sigma).float()
            y = (bar.sqrt() * at.double()).float()
            theirs = judge.step(net(y, t).sample, t, y).pred_original_sample
            ours, score = model.denoise(at, sigma), model.score(at, sigma)
            assert float((ours - theirs).abs().max()) <= 2e-5 * float(theirs.abs().max())
            torch.testing.assert_close(
                at + sigma.float() ** 2 * score, ours, rtol=1e-3, atol=2e-3 * float(at.abs().max())
            )
    assert sf.sample(model, count=2, nfe=9).shape == (2, 1, 8, 8)


def test_diffusers_conditions_and_refusals():
    diffusers = pytest.importorskip(
        "diffusers", reason="diffusers is installed in the peers' environment (make bench-env)"
    )
    net = unet(diffusers, num_class_embeds=3)
    model = from_diffusers(net, diffusers.DDPMScheduler())
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert not torch.equal(
            model.score(x, 1.0, {"class": torch.tensor([0, 1])}),
            model.score(x, 1.0, {"class": torch.tensor([2, 1])}),
        )
    with pytest.raises(InputError, match="use from_flow"):
        from_diffusers(net, diffusers.FlowMatchEulerDiscreteScheduler())
    zero_end = from_diffusers(net, diffusers.DDIMScheduler(rescale_betas_zero_snr=True))
    assert math.isfinite(zero_end.sigma_max)


def test_azula_schedules():
    """Its analytical Gaussian under each of its schedules is our Gaussian."""
    denoise = pytest.importorskip(
        "azula.denoise", reason="azula is installed in the peers' environment (make bench-env)"
    )
    from azula.noise import CosineSchedule, RectifiedSchedule, VESchedule, VPSchedule

    class Exact(denoise.Denoiser):
        def __init__(self, schedule: object) -> None:
            super().__init__()
            self.schedule = schedule

        def forward(self, x_t: Tensor, t: Tensor, shift: Tensor | None = None) -> object:
            mean = exact(x_t, *self.schedule(t), "sample")
            return denoise.DiracPosterior(mean if shift is None else mean + shift[:, None, None])

    for schedule in (VPSchedule(), VESchedule(1e-2, 50.0), CosineSchedule(), RectifiedSchedule()):
        agree(from_azula(Exact(schedule), EVENT))
    spec = {"class": ConditionSpec("class", 5)}
    shifted = from_azula(Exact(VESchedule()), EVENT, spec, {"class": "shift"})
    torch.testing.assert_close(
        shifted.denoise(X, 1.0, {"class": torch.arange(5)}),
        TRUTH.denoise(X, 1.0) + torch.arange(5.0)[:, None, None].double(),
    )
    with pytest.raises(InputError, match="no schedule"):
        from_azula(torch.nn.Identity(), EVENT)


def test_azula_networks():
    """A real preconditioned denoiser: its own posterior mean at y = alpha x."""
    denoise = pytest.importorskip(
        "azula.denoise", reason="azula is installed in the peers' environment (make bench-env)"
    )
    from azula.noise import VPSchedule

    class Backbone(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = torch.nn.Linear(3, 3)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return torch.tanh(self.line(x) + t.reshape(-1, 1, 1))

    torch.manual_seed(0)
    for kind in (denoise.SimpleDenoiser, denoise.KarrasDenoiser):
        theirs = kind(Backbone(), VPSchedule())
        ours = from_azula(theirs, EVENT)
        t = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
        alpha, beta = theirs.schedule(t)
        y = (alpha[:, None, None] * X).float()
        with torch.no_grad():
            torch.testing.assert_close(
                ours.denoise(X.float(), beta / alpha),
                theirs(y, t.float()).mean,
                rtol=1e-4,
                atol=1e-5,
            )
