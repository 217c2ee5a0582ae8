"""Keyed noise, units, ladders, score models and their preconditioners."""

import math

import pytest
import torch
from torch import Tensor, nn

from scorefield import noise, rng
from scorefield.conditions import ConditionSpec
from scorefield.errors import InputError
from scorefield.models import (
    PRECONDITIONERS,
    Moments,
    Preconditioned,
    ScoreModel,
    broadcast,
    prior,
)
from scorefield.rng import Stream
from scorefield.units import Units, dequantise, quantise

SE = 4.5  # standard errors a sampled number may miss its truth by


# ---- rng


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((rng.WORD,) * 4, (rng.WORD,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(
    counter: tuple[int, ...], key: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    """The vectors published with Random123 for philox4x32-10."""
    words = rng.philox([torch.tensor([c]) for c in counter], [torch.tensor([k]) for k in key])
    assert tuple(int(w) for w in words) == expected


@pytest.mark.parametrize("draw", [rng.normal, rng.uniform, rng.rademacher])
@pytest.mark.parametrize("shape", [(3,), (2, 5, 3), (1,)])
def test_noise_is_bitwise_the_same_for_any_batch(draw, shape) -> None:
    keys = rng.keys(7, 300)
    whole = draw(keys, Stream.KERNEL, 5, shape)
    assert whole.shape == (300, *shape)
    for part in (
        keys[41:42],
        keys[40:45],
        keys[torch.randperm(300, generator=torch.Generator().manual_seed(0))],
    ):
        alone = draw(part, Stream.KERNEL, 5, shape)
        index = [int((keys == k).all(1).nonzero()) for k in part]
        assert torch.equal(alone, whole[index])


def test_a_seed_means_the_same_next_year() -> None:
    """Pinned: whoever changes these changes every published sample."""
    assert rng.keys(0, 2).tolist() == [[573048118, 2481140099], [2574828729, 1593078908]]
    z = rng.normal(rng.keys(0, 1), Stream.KERNEL, 3, (3,), torch.float64)
    assert z[0].tolist() == pytest.approx(
        [0.35561993556867905, 1.2470569204765225, -0.3770185062765096], abs=1e-14
    )


def test_noise_does_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = rng.keys(1, 33)
    whole = rng.normal(keys, Stream.START, 0, (9,))
    monkeypatch.setattr(rng, "CHUNK", 5)
    assert torch.equal(rng.normal(keys, Stream.START, 0, (9,)), whole)


def test_keys_are_a_prefix_of_more_keys_and_share_nothing_between_seeds() -> None:
    assert torch.equal(rng.keys(3, 1000)[:10], rng.keys(3, 10))
    assert torch.equal(rng.keys(3, 10, first=5), rng.keys(3, 15)[5:])
    assert torch.equal(rng.keys_of([4, 9])[1:], rng.keys(9, 1))
    everyone = torch.cat([rng.keys(seed, 2000) for seed in (0, 1, 2, 1 << 40)])
    assert len({tuple(k) for k in everyone.tolist()}) == len(everyone)
    assert rng.keys_of([]).shape == (0, 2)


def test_streams_steps_and_draws_differ() -> None:
    keys = rng.keys(0, 4)
    base = rng.normal(keys, Stream.START, 0, (50,))
    others = [
        rng.normal(keys, Stream.KERNEL, 0, (50,)),
        rng.normal(keys, Stream.START, 1, (50,)),
        rng.normal(keys, Stream.START, 1 << 32, (50,)),
        rng.normal(keys, Stream.START, 0, (50,), draw=1),
        rng.normal(rng.keys(1, 4), Stream.START, 0, (50,)),
    ]
    assert all(
        float((base - other).abs().max()) > 1 and not torch.equal(base, other) for other in others
    )
    # no two (stream, draw) meet: KERNEL draw 0 is not INIT draw 1
    drawn = {
        tuple(rng.normal(keys[:1], s, 0, (4,), draw=k).flatten().tolist())
        for s in Stream
        for k in range(5)
    }
    assert len(drawn) == 5 * len(Stream)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_are_normal(dtype: torch.dtype) -> None:
    z = rng.normal(rng.keys(0, 2000), Stream.KERNEL, 3, (100,), dtype).double()
    n = z.numel()
    assert z.isfinite().all()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((z**power).mean()) - moment) < SE * math.sqrt(variance / n)
    for threshold in (-2.0, -1.0, 0.0, 0.5, 2.5):
        p = float(torch.special.ndtr(torch.tensor(threshold, dtype=torch.float64)))
        assert abs(float((z < threshold).double().mean()) - p) < SE * math.sqrt(p * (1 - p) / n)
    # neighbours in position, sample and step are uncorrelated
    later = rng.normal(rng.keys(0, 2000), Stream.KERNEL, 4, (100,), dtype).double()
    for product in (z[:, :-1] * z[:, 1:], z[:-1] * z[1:], z * later):
        assert abs(float(product.mean())) < SE / math.sqrt(product.numel())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniforms_are_uniform_and_never_zero_or_one(dtype: torch.dtype) -> None:
    u = rng.uniform(rng.keys(0, 2000), Stream.SIGMA, 0, (100,), dtype).double()
    assert float(u.min()) > 0
    assert float(u.max()) < 1
    counts = torch.histc(u.float(), 20, 0, 1).double()
    expected = u.numel() / 20
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi2 - 19) < SE * math.sqrt(2 * 19)
    assert abs(float(u.mean()) - 0.5) < SE * math.sqrt(1 / 12 / u.numel())


def test_the_largest_and_smallest_words_stay_inside() -> None:
    for dtype in (torch.float32, torch.float64):
        ends = rng._unit(torch.tensor([0, rng.WORD]), dtype)
        assert float(ends[0]) > 0
        assert (-2 * ends.clamp(max=1.0).log()).sqrt().isfinite().all()


def test_signs() -> None:
    signs = rng.rademacher(rng.keys(0, 1000), Stream.PROBE, 0, (100,))
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < SE / math.sqrt(signs.numel())


def test_rng_says_what_is_wrong() -> None:
    with pytest.raises(InputError, match="count"):
        rng.keys(0, -1)
    with pytest.raises(InputError, match="2\\^64"):
        rng.keys(-1, 3)
    with pytest.raises(InputError, match=r"\(B, 2\)"):
        rng.normal(torch.zeros(3, 3, dtype=torch.int64), Stream.START, 0, (2,))


# ---- units


def some_units() -> dict[str, Units]:
    scale = torch.tensor([[2.0], [0.5]])
    return {
        "identity": Units.identity(),
        "affine": Units.affine(torch.tensor([[0.3], [-4.0]]), scale),
        "negative scale": Units.affine(1.0, -3.0),
        "logit": Units.affine(0.1, 2.0, logit=1e-6, image=True),
    }


@pytest.mark.parametrize("name", some_units())
def test_units_round_trip_and_jacobian(name: str) -> None:
    units = some_units()[name]
    x = (
        torch.rand(4, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.9
        + 0.05
    )
    torch.testing.assert_close(units.to_data(units.to_model(x)), x, rtol=0, atol=1e-12)
    for i in range(len(x)):
        jacobian = torch.autograd.functional.jacobian(
            lambda e: units.to_model(e[None])[0], x[i]
        ).reshape(6, 6)
        assert torch.linalg.slogdet(jacobian)[1] == pytest.approx(
            float(units.log_det(x)[i]), abs=1e-10
        )
    again = Units.from_dict(units.to_dict())
    assert torch.equal(again.to_model(x), units.to_model(x))
    assert again.image == units.image


def test_standardising_and_constant_columns_come_back_exactly() -> None:
    data = (
        torch.randn(500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        * torch.tensor([5.0, 0.0, 1e-3])
        + 0.1
    )
    units = Units.standardising(data.mean(0), data.std(0))
    assert units.constant.tolist() == [False, True, False]
    model = units.to_model(data)
    torch.testing.assert_close(model.std(0)[[0, 2]], torch.full((2,), 0.5, dtype=torch.float64))
    assert torch.equal(units.to_data(model + 0.01)[:, 1], units.shift[1].expand(500))
    assert not torch.equal(units.to_data(model + 0.01)[:, 0], data[:, 0])


def test_uint8_comes_back_exactly() -> None:
    grey = torch.arange(256, dtype=torch.uint8)
    units = Units.affine(0.13, 0.31, image=True)
    for data in (grey.float() / 255, dequantise(grey, 256)):
        back = quantise(units.to_data(units.to_model(data)), 256)
        assert torch.equal(back, grey.to(torch.int64))
    assert quantise(torch.tensor([-0.2, 1.7]), 256).tolist() == [0, 255]


def test_units_say_what_is_wrong() -> None:
    with pytest.raises(InputError, match="scale"):
        Units.affine(0.0, [1.0, 0.0])
    with pytest.raises(InputError, match="lambda"):
        Units.affine(0.0, 1.0, logit=0.7)


# ---- ladders and laws


@pytest.mark.parametrize("name", noise.LADDERS)
def test_ladders_decrease_and_hit_their_ends_exactly(name: str) -> None:
    ladder = noise.LADDERS[name](50.0, 0.01, 37)
    assert ladder.dtype == torch.float64
    assert (ladder[0], ladder[-1]) == (50.0, 0.01)
    assert (ladder.diff() < 0).all()
    assert noise.LADDERS[name](50.0, 0.01, 1).tolist() == [50.0]


def test_ladder_formulas() -> None:
    geometric = noise.geometric(1.0, 0.01, 10)
    torch.testing.assert_close(
        geometric[1:] / geometric[:-1], torch.full((9,), 0.01 ** (1 / 9), dtype=torch.float64)
    )
    karras = noise.karras(80.0, 0.002, 18)
    i = torch.arange(18, dtype=torch.float64)
    torch.testing.assert_close(
        karras, (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    )


@pytest.mark.parametrize(
    ("sigmas", "words"),
    [
        ([1.0, 2.0, 3.0], "Ascending.*flip"),
        ([3.0, 1.0, 1.0], r"sigmas\[1\]=1 <= sigmas\[2\]=1"),
        ([1.0, 0.0], r"sigmas\[1\]=0"),
        ([1.0, -1.0], "above zero"),
        ([1.0, math.nan], "finite"),
        ([math.inf, 1.0], "finite"),
        ([], "at least one"),
        ([[1.0]], "one row"),
    ],
)
def test_a_bad_ladder_is_named(sigmas: list, words: str) -> None:
    with pytest.raises(InputError, match=words):
        noise.check_ladder(sigmas)


def test_exchanged_ends_are_named() -> None:
    for make in noise.LADDERS.values():
        with pytest.raises(InputError, match="Exchanged"):
            make(0.01, 1.0, 10)
        with pytest.raises(InputError, match="level"):
            make(1.0, 0.01, 0)


@pytest.mark.parametrize(
    ("law", "cdf"),
    [
        (noise.LogUniform(0.01, 10.0), lambda s: math.log(s / 0.01) / math.log(1000)),
        (
            noise.LogNormal(-1.2, 1.2, 0.002, 80.0),
            lambda s: float(
                (
                    torch.special.ndtr(torch.tensor((math.log(s) + 1.2) / 1.2))
                    - torch.special.ndtr(torch.tensor((math.log(0.002) + 1.2) / 1.2))
                )
                / (
                    torch.special.ndtr(torch.tensor((math.log(80) + 1.2) / 1.2))
                    - torch.special.ndtr(torch.tensor((math.log(0.002) + 1.2) / 1.2))
                )
            ),
        ),
    ],
)
def test_quantiles_undo_the_distribution(law, cdf) -> None:
    u = torch.linspace(0.01, 0.99, 21, dtype=torch.float64)
    assert [cdf(float(s)) for s in law.quantile(u)] == pytest.approx(u.tolist(), abs=1e-5)
    ends = law.quantile(torch.tensor([1e-12, 1 - 1e-12], dtype=torch.float64))
    assert law.sigma_min <= float(ends[0]) < float(ends[1]) <= law.sigma_max


def test_levels_have_equal_shares_and_strata_are_even() -> None:
    u = noise.stratified(torch.tensor(0.3), 40)
    assert torch.equal((u * 40).floor(), torch.arange(40.0))
    assert (
        noise.Levels((3.0, 2.0, 1.0, 0.5)).quantile(u).unique(return_counts=True)[1].tolist()
        == [10] * 4
    )


# ---- the contract


class Small(nn.Module):
    """A random network of 3 elements that uses all it is told."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.inner, self.outer = nn.Linear(5, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor, noise_input: Tensor | None, condition) -> Tensor:
        told = x.new_zeros(len(x), 1) if noise_input is None else noise_input.to(x.dtype)[:, None]
        given = x.new_zeros(len(x), 1) if condition is None else condition["vector"].to(x.dtype)
        return self.outer(torch.tanh(self.inner(torch.cat([x, told, given], 1))))


LEVELS = noise.geometric(10.0, 0.1, 12)


def preconditioned(name: str, sigma_min: float = 0.1, **options) -> Preconditioned:
    return (
        Preconditioned(Small(), (3,), sigma_min, 10.0, name, ladder=LEVELS, **options)
        .double()
        .requires_grad_(False)
    )


def states(count: int = 12) -> Tensor:
    return 3 * torch.randn(
        count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )


@pytest.mark.parametrize("name", PRECONDITIONERS)
@pytest.mark.parametrize("each", [False, True], ids=["one sigma", "a sigma a sample"])
def test_preconditioners_keep_tweedies_formula(name: str, each: bool) -> None:
    model, x = preconditioned(name), states()
    for sigma in [LEVELS] if each else LEVELS:
        score, denoised = model.score(x, sigma), model.denoise(x, sigma)
        from_denoised = (denoised - x) / broadcast(sigma, x).square()
        assert float((score - from_denoised).abs().max() / score.abs().max()) < 1e-10
        assert torch.equal(model(x, sigma), denoised)


@pytest.mark.parametrize("name", PRECONDITIONERS)
def test_samples_of_a_batch_do_not_meet(name: str) -> None:
    model, x = preconditioned(name), states()
    whole = model.score(x, LEVELS)
    for i in range(len(x)):
        torch.testing.assert_close(
            model.score(x[i : i + 1], LEVELS[i])[0], whole[i], rtol=1e-12, atol=1e-12
        )


def test_edm_coefficients_are_those_of_the_paper() -> None:
    sigma, sd = torch.tensor([0.01, 0.5, 7.0], dtype=torch.float64), 0.5
    c = PRECONDITIONERS["edm"].coefficients(sigma, sd)
    torch.testing.assert_close(c.c_skip, sd**2 / (sigma**2 + sd**2))
    torch.testing.assert_close(c.c_out, sigma * sd / (sigma**2 + sd**2).sqrt())
    torch.testing.assert_close(c.c_in, 1 / (sigma**2 + sd**2).sqrt())


def test_edm_score_is_accurate_in_float32_at_tiny_sigma() -> None:
    exact = preconditioned("edm", sigma_min=1e-6)
    single = preconditioned("edm", sigma_min=1e-6).float()
    x = states().float()
    truth = exact.score(x.double(), 1e-5)

    def error(score: Tensor) -> float:
        return float((score.double() - truth).abs().max() / truth.abs().max())

    assert single.score(x, 1e-5).dtype == torch.float32
    assert error(single.score(x, 1e-5)) < 1e-5
    assert error(ScoreModel.score(single, x, 1e-5)) > 1e-3  # the control: (D - x) / sigma² cancels


class OfDenoise(ScoreModel):
    event_shape, sigma_min, sigma_max = (3,), 0.1, 10.0

    def denoise(self, x, sigma, condition=None):
        level = broadcast(self.check(x, sigma, condition), x)
        return x / (1 + level.square())


class OfScore(ScoreModel):
    event_shape, sigma_min, sigma_max = (3,), 0.1, 10.0

    def score(self, x, sigma, condition=None):
        level = broadcast(self.check(x, sigma, condition), x)
        return -x / (1 + level.square())


def test_either_of_denoise_and_score_gives_the_other() -> None:
    x, sigma = states(), torch.linspace(0.1, 10, 12, dtype=torch.float64)
    for level in (0.3, 2, sigma):
        torch.testing.assert_close(
            OfDenoise().score(x, level), OfScore().score(x, level), rtol=1e-12, atol=1e-12
        )
        torch.testing.assert_close(
            OfScore().denoise(x, level), OfDenoise().denoise(x, level), rtol=1e-12, atol=1e-12
        )
    with pytest.raises(TypeError, match="denoise or score"):
        type("Neither", (ScoreModel,), {})


def test_a_python_sigma_is_not_rounded_to_float32() -> None:
    x, exact = states(), torch.tensor(0.3, dtype=torch.float64)
    for model in (OfDenoise(), OfScore(), preconditioned("edm"), preconditioned("ncsnv2")):
        assert torch.equal(model.score(x, 0.3), model.score(x, exact))
        assert torch.equal(model.denoise(x, 0.3), model.denoise(x, exact))


MODELS = [OfDenoise, OfScore, *(lambda name=name: preconditioned(name) for name in PRECONDITIONERS)]


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("method", ["denoise", "score"])
def test_wrong_arguments_are_named(make, method: str) -> None:
    evaluate, x = getattr(make(), method), states()
    for sigma in (0.05, 20.0, torch.linspace(0.05, 1, 12)):
        with pytest.raises(InputError, match=r"\[0.1, 10\]"):
            evaluate(x, sigma)
    with pytest.raises(InputError, match=r"\(5,\).*\(12, 3\)"):
        evaluate(x, torch.ones(5))
    with pytest.raises(InputError, match=r"\(12, 1\).*\(12, 3\)"):
        evaluate(x, torch.ones(12, 1))
    with pytest.raises(InputError, match=r"\(B, 3\).*\(12, 2\)"):
        evaluate(x[:, :2], 1.0)
    with pytest.raises(InputError, match="takes no condition"):
        evaluate(x, float(LEVELS[3]), {"class": torch.ones(12, dtype=torch.int64)})
    with pytest.raises(InputError, match="mapping"):
        evaluate(x, float(LEVELS[3]), torch.ones(12))
    with pytest.raises(InputError, match="sigma"):
        evaluate(x, math.nan)


def test_a_condition_is_handed_through() -> None:
    model, x = preconditioned("edm", conditions={"vector": ConditionSpec("vector", 1)}), states()
    condition = {"vector": torch.arange(12.0, dtype=torch.float64)[:, None]}
    with_it, without = model.denoise(x, 1.0, condition), model.denoise(x, 1.0)
    assert torch.equal(with_it[0], without[0])
    assert not torch.isclose(with_it[1:], without[1:]).all(1).any()
    with pytest.raises(InputError, match=r"\(12, 1\).*\(5, 1\)"):
        model.denoise(x, 1.0, {"vector": condition["vector"][:5]})


def test_index_conditioned_models_know_their_levels_only() -> None:
    model, x = preconditioned("ncsn"), states()
    assert model.ladder_only
    assert not preconditioned("edm").ladder_only
    assert model.level_index(LEVELS).tolist() == list(range(12))
    near = LEVELS[4] * math.exp(0.9e-3)
    assert int(model.level_index(near)) == 4
    with pytest.raises(InputError, match=r"12 levels, 10 to 0.1.*nearest level"):
        model.score(x, LEVELS[4] * math.exp(1.1e-3))
    # the index, not the sigma, is what the network sees
    raw = model.network(x, torch.full((12,), 4), None)
    assert torch.equal(model.score(x, LEVELS[4]), raw)
    with pytest.raises(InputError, match="needs the ladder"):
        Preconditioned(Small(), (3,), 0.1, 10.0, "ncsn")
    with pytest.raises(InputError, match=r"edm, ncsn, ncsnv2.*'emd'"):
        Preconditioned(Small(), (3,), 0.1, 10.0, "emd")


def test_prior_is_the_moment_matched_normal() -> None:
    g = torch.Generator().manual_seed(0)
    a = torch.randn(3, 3, dtype=torch.float64, generator=g)
    mean, covariance = torch.randn(3, dtype=torch.float64, generator=g), a @ a.T
    x = states()
    variance = covariance.diagonal()
    for known, full in (
        (Moments(mean, variance, covariance), covariance),
        (Moments(mean, variance), torch.diag(variance)),
        (Moments(mean.expand(12, 3), variance.expand(12, 3)), torch.diag(variance)),
        (
            Moments(mean.expand(12, 3), variance.expand(12, 3), covariance.expand(12, 3, 3)),
            covariance,
        ),
    ):
        model = OfDenoise()
        model.moments = lambda condition=None, known=known: known
        law, total = prior(model, 2.0), full + 4 * torch.eye(3, dtype=torch.float64)
        reference = torch.distributions.MultivariateNormal(mean, total)
        torch.testing.assert_close(law.log_prob(x), reference.log_prob(x), rtol=1e-12, atol=1e-12)
        if known.mean.ndim == 2:
            torch.testing.assert_close(law.sample(x), x @ torch.linalg.cholesky(total).T + mean)
            continue
        drawn = law.sample(rng.normal(rng.keys(0, 20000), Stream.START, 0, (3,), torch.float64))
        white = torch.linalg.solve_triangular(
            torch.linalg.cholesky(total), (drawn - mean).T, upper=False
        ).T
        assert float(white.mean(0).abs().max()) < SE / math.sqrt(20000)
        assert float((white.T @ white / 20000 - torch.eye(3)).abs().max()) < SE * math.sqrt(
            2 / 20000
        )
    unknown = prior(OfDenoise(), 5.0)
    assert torch.equal(unknown.sample(x), 5 * x)
