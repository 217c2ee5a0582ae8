"""Splits, fitted units and batches: a batch is a function of (seed, counter)."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_helpers import random_pictures, random_table, refused
from scorefield import rng
from scorefield.data import Pipeline, fit_units, split
from scorefield.data import open as open_data
from scorefield.units import Units, quantise

# -- split


@pytest.mark.parametrize("held_out", [0.1, 37, 0.5, 0.03, 0])
def test_split_is_stratified(held_out):
    labels = torch.cat(
        [torch.full((n,), c) for c, n in enumerate((400, 35, 3, 62))]
    )  # sorted, as mnist5k is
    train, held = split(labels, 500, 0, held_out)
    wanted = held_out if held_out >= 1 else round(held_out * 500)
    assert len(held) == wanted and sorted(train.tolist() + held.tolist()) == list(range(500))
    for c, n in enumerate((400, 35, 3, 62)):
        assert abs(int((labels[held] == c).sum()) - wanted * n / 500) < 1
    again = split(labels, 500, 0, held_out)
    assert torch.equal(again[0], train) and torch.equal(again[1], held)
    if wanted:
        assert not torch.equal(split(labels, 500, 1, held_out)[1], held)
    assert not torch.equal(train, train.sort().values)


def test_split_without_labels_is_shuffled():
    train, held = split(None, 1000, 0, 0.2)
    assert len(held) == 200 and len(train) == 800
    # the mean of 200 of 0..999 drawn without replacement
    se = math.sqrt((1000**2 - 1) / 12 / 200 * (800 / 999))
    assert abs(float(held.double().mean()) - 499.5) < 4.5 * se


@pytest.mark.parametrize("count", range(2, 15))
@pytest.mark.parametrize("labelled", [False, True])
def test_small_data_sets_hold_out_two_examples_where_they_can(count, labelled):
    labels = torch.arange(count) % 3 if labelled else None
    for held_out in (0.1, 0.01, 0.5):
        train, held = split(labels, count, 0, held_out)
        wanted = min(max(round(held_out * count), 1 if count < 4 else 2), count // 2)
        assert len(held) == wanted and len(train) == count - wanted >= wanted
        assert sorted(train.tolist() + held.tolist()) == list(range(count))
    assert len(split(labels, count, 0, 0)[1]) == 0
    assert len(split(labels, count, 0, 1)[1]) == 1  # a whole number is obeyed


def test_one_example_cannot_be_split():
    refused("one example", "two", call=lambda: split(None, 1, 0, 0.1))
    refused("one example", call=lambda: split(None, 1, 0, 1))
    assert split(None, 1, 0, 0)[0].tolist() == [0]
    refused("at least one", call=lambda: split(None, 0, 0, 0.1))


@given(
    count=st.integers(2, 300),
    held_out=st.floats(0, 0.499) | st.integers(0, 30),
    classes=st.none() | st.integers(1, 9),
    seed=st.integers(0, 2**64 - 1),
)
@settings(max_examples=80, deadline=None)
def test_a_split_is_a_partition_with_class_quotas(count, held_out, classes, seed):
    assume(held_out <= count // 2)
    labels = None if classes is None else torch.arange(count) ** 2 % classes
    train, held = split(labels, count, seed, held_out)
    assert sorted(train.tolist() + held.tolist()) == list(range(count))
    assert held_out == 0 or len(held) >= 1
    if isinstance(held_out, int):
        assert len(held) == held_out
    if labels is not None:
        for c in labels.unique():
            quota = len(held) * int((labels == c).sum()) / count
            assert abs(int((labels[held] == c).sum()) - quota) < 1


def test_bad_splits_raise_input_errors():
    for held_out in (0.6, 51, -1, -0.1, 1.5, 100, math.nan):
        refused("held_out", "at least half", "100", call=lambda h=held_out: split(None, 100, 0, h))
    refused("labels", "(3,)", "(100,)", call=lambda: split(torch.zeros(3), 100, 0, 0.1))


# -- units and moments


@pytest.mark.parametrize("shape", [(4,), (3, 30), (3, 6, 5), (2, 4, 3, 5)])
def test_standardising_against_numpy(shape):
    array = (
        np.random.default_rng(0).normal(size=(300, *shape)) * 1000
        + np.arange(shape[0]).reshape(-1, *(1,) * (len(shape) - 1))
        - 3
    )
    data = open_data(array, channels=None if len(shape) == 1 else shape[0])
    index = torch.arange(0, 300, 2)
    fitted = fit_units(data, index)
    part = array[::2]
    axes = (0, *range(2, part.ndim))
    mean, std = part.mean(axes), part.std(axes)
    assert fitted.units.scale.shape == (shape[0], *(1,) * (len(shape) - 1))
    np.testing.assert_allclose(fitted.units.shift.flatten(), mean, rtol=1e-12)
    np.testing.assert_allclose(fitted.units.scale.flatten(), std / 0.5, rtol=1e-12)
    model = fitted.units.to_model(data.values[index])
    np.testing.assert_allclose(model.numpy().mean(axes), 0, atol=1e-12)
    np.testing.assert_allclose(model.numpy().std(axes), 0.5, rtol=1e-12)
    np.testing.assert_allclose(fitted.moments.mean, model.numpy().mean(0), atol=1e-12)
    np.testing.assert_allclose(fitted.moments.variance, model.numpy().var(0), rtol=1e-10)
    assert fitted.moments.mean.shape == shape and fitted.constant == ()


def test_moments_of_far_away_data_do_not_cancel():
    """sd 1e-4 at 1e4: the textbook E x² - (E x)² in float64 has lost all digits but a few, in
    float32 all.
    """
    array = 1e4 + 1e-4 * random_table(5000, 2)
    fitted = fit_units(open_data(array), torch.arange(5000))
    np.testing.assert_allclose(fitted.units.scale, array.std(0) / 0.5, rtol=1e-7)


def test_units_of_images_are_per_channel():
    data = open_data(random_pictures(40, (6, 5, 3)))
    fitted = fit_units(data, torch.arange(40))
    truth = (data.values.double() + 0.5) / 256
    assert fitted.units.image and fitted.units.scale.shape == (3, 1, 1)
    np.testing.assert_allclose(fitted.units.shift.flatten(), truth.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(
        fitted.units.scale.flatten() / 2,
        (truth.var((0, 2, 3), unbiased=False) + 1 / 12 / 256**2).sqrt(),
        rtol=1e-6,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_columns_come_back_exactly(tmp_path, dtype):
    table = random_table(1000, 4, dtype=dtype)
    table[:, 1], table[:, 3] = 0.1, -1e6 / 3
    if dtype == np.float64:
        with (tmp_path / "t.csv").open("w") as handle:
            handle.write("a,b,c,d\n")
            handle.writelines(",".join(map(repr, row)) + "\n" for row in table.tolist())
        data = open_data(tmp_path / "t.csv")
    else:
        data = open_data(table)
    fitted = fit_units(data, torch.arange(1000))
    assert fitted.constant == (("b", "d") if dtype == np.float64 else ("column 1", "column 3"))
    assert fitted.units.scale[1] == 1 and fitted.units.scale[3] == 1
    assert float(fitted.moments.variance[1]) == 0 and float(fitted.moments.mean[1]) == 0
    noisy = fitted.units.to_model(data.values) + 0.3
    back = fitted.units.to_data(noisy)
    assert torch.equal(back[:, [1, 3]], data.values[:, [1, 3]])
    assert not torch.equal(back[:, 0], data.values[:, 0])


def test_constant_channel_of_pictures():
    pictures = random_pictures(9, (4, 4, 3))
    pictures[..., 2] = 77
    data = open_data(pictures)
    fitted = fit_units(data, torch.arange(9))
    assert fitted.constant == ("channel 2",)
    back = fitted.units.to_data(fitted.units.to_model(data.floats(slice(None))) + 1)
    assert torch.equal(quantise(back, 256)[:, 2], data.values[:, 2].long())


def test_moments_are_those_of_the_data_that_training_sees():
    """The moments agree with batches of the pipeline, dequantised or not."""
    digits = open_data("digits")
    index = torch.arange(1797)
    for kind in ("standardise", "unit"):
        for dequantise in ("uniform", "none"):
            fitted = fit_units(digits, index, kind=kind, dequantise=dequantise)
            pipe = Pipeline(digits, index, fitted.units, 0, dequantise, dtype=torch.float64)
            x = pipe.batch(0, 1797)[0]
            # One epoch holds every example once: only the dequantisation noise is random.
            scale = float(fitted.units.scale)
            noise = {"uniform": 1 / 17 / math.sqrt(12) / scale, "none": 1e-6}[dequantise]
            difference = x.mean(0) - fitted.moments.mean
            assert abs(float(difference.sum())) < 4.5 * noise * math.sqrt(64 / 1797)
            second = x.square().mean(0) - fitted.moments.mean.square() - fitted.moments.variance
            assert abs(float(second.mean())) < 4.5 * 3 * noise / math.sqrt(64 * 1797)
            if kind == "standardise":
                total = fitted.moments.variance + fitted.moments.mean.square()
                assert abs(float(total.mean().sqrt()) - 0.5) < 1e-6


def test_units_unit_logit_and_none():
    digits = open_data("digits")
    index = torch.arange(1000)
    x = digits.floats(index).double()
    for kind in ("unit", "none"):
        fitted = fit_units(digits, index, kind=kind, dequantise="none")
        assert torch.equal(fitted.units.to_model(x), x)
        torch.testing.assert_close(fitted.moments.mean, x.mean(0))
        torch.testing.assert_close(fitted.moments.variance, x.var(0, unbiased=False))
    fitted = fit_units(digits, index, kind="logit")
    assert fitted.units.logit == 1e-6
    u = 1e-6 + (1 - 2e-6) * (digits.values[index].double() + 0.5) / 17
    torch.testing.assert_close(
        fitted.moments.mean, (u / (1 - u)).log().mean(0), rtol=1e-6, atol=1e-6
    )
    assert (
        len(fit_units(open_data(random_table()), torch.arange(200), kind="none").moments.mean) == 3
    )
    for kind in ("unit", "logit"):
        refused(
            "[0, 1]",
            "spans",
            call=lambda k=kind: fit_units(open_data(random_table()), torch.arange(200), kind=k),
        )
    refused("units must be one of", "'best'", call=lambda: fit_units(digits, index, kind="best"))
    refused("empty", call=lambda: fit_units(digits, index[:0]))
    refused("above zero", call=lambda: fit_units(digits, index, target=0.0))


# -- batches


def pipelines():
    pictures = open_data(random_pictures(23, (6, 5, 3)))
    table = open_data(random_table(23, 3, dtype=np.float32))
    index = split(None, 23, 0, 4)[0]
    standard, logit = (
        fit_units(pictures, index).units,
        fit_units(pictures, index, kind="logit").units,
    )
    return {
        "pictures": Pipeline(pictures, index, standard, 0),
        "flipped": Pipeline(pictures, index, standard, 0, flip=True),
        "logit": Pipeline(pictures, index, logit, 0, flip=True),
        "double": Pipeline(pictures, index, logit, 0, dtype=torch.float64),
        "table": Pipeline(table, index, fit_units(table, index).units, 0),
    }


@pytest.mark.parametrize("name", ["pictures", "flipped", "logit", "double", "table"])
def test_a_batch_is_a_function_of_the_counter(name):
    """Bitwise, for batches of any size from any start, across the ends of epochs of 19, in any
    order of asking.
    """
    pipe = pipelines()[name]
    whole = pipe.batch(0, 100)[0]
    assert (
        whole.shape == (100, *pipe.event_shape)
        and whole.dtype == pipe.dtype
        and bool(torch.isfinite(whole).all())
    )
    for size in (1, 7, 19, 64):
        parts = torch.cat(
            [pipe.batch(first, min(size, 100 - first))[0] for first in range(0, 100, size)]
        )
        assert torch.equal(parts, whole)
    fresh = pipelines()[name]
    for first, count in ((93, 5), (18, 2), (0, 3), (57, 43)):
        assert torch.equal(fresh.batch(first, count)[0], whole[first : first + count])
    assert pipe.batch(5, 0)[0].shape == (0, *pipe.event_shape)


def test_epochs_are_permutations():
    pipe = pipelines()["table"]
    epochs = pipe.indices(0, 19 * 6).reshape(6, 19)
    assert bool((epochs.sort(1).values == pipe.index.sort().values).all())
    assert len({tuple(e) for e in epochs.tolist()}) == 6
    other = Pipeline(pipe.dataset, pipe.index, pipe.units, 1)
    assert not torch.equal(other.indices(0, 19), epochs[0])


def test_batches_are_the_data_in_model_units():
    for name in ("pictures", "flipped"):
        pipe = pipelines()[name]
        levels = pipe.units.to_data(pipe.batch(0, 200)[0]) * 256
        truth = pipe.dataset.values[pipe.indices(0, 200)]
        found = levels.floor().to(torch.uint8)
        same = (found == truth).flatten(1).all(1)
        mirrored = (found.flip(-1) == truth).flatten(1).all(1)
        # the shift and scale of the units round in float32, so that a value at its bin's edge may
        # cross it
        close = ((levels - truth) > -0.01) & ((levels - truth) < 1.01)
        assert name == "flipped" or bool(close.all())
        assert float((same | mirrored).double().mean()) > 0.95
        flips = float(mirrored.double().sum() / (same | mirrored).sum())
        assert flips == 0 if name == "pictures" else abs(flips - 0.5) < 4.5 * math.sqrt(0.25 / 190)
    table = pipelines()["table"]
    assert torch.equal(
        table.batch(3, 40)[0], table.units.to_model(table.dataset.values[table.indices(3, 40)])
    )


@pytest.mark.parametrize("levels", [17, 256])
def test_dequantisation_is_uniform_within_the_bin(levels):
    data = (
        open_data("digits", count=100) if levels == 17 else open_data(random_pictures(100, (8, 8)))
    )
    pipe = Pipeline(data, torch.arange(100), Units.identity(), 0, dtype=torch.float64)
    u = pipe.batch(0, 500)[0] * levels - data.values[pipe.indices(0, 500)]
    assert float(u.min()) >= -1e-12 and float(u.max()) < 1 + 1e-9
    n = u.numel()
    assert abs(float(u.mean()) - 0.5) < 4.5 * math.sqrt(1 / 12 / n)
    assert abs(float(((u - 0.5) ** 2).mean()) - 1 / 12) < 4.5 * math.sqrt(1 / 180 / n)
    plain = Pipeline(data, torch.arange(100), Units.identity(), 0, dequantise="none")
    assert torch.equal(plain.batch(0, 9)[0], data.floats(plain.indices(0, 9)))


def test_held_out_examples_are_always_the_same():
    pipe = pipelines()["flipped"]
    index = torch.tensor([3, 20, 7])
    whole = pipe.held_out(index)[0]
    assert torch.equal(torch.cat([pipe.held_out(index[k : k + 1])[0] for k in range(3)]), whole)
    k = pipe.units.to_data(whole) * 256 - pipe.dataset.values[index]
    assert float(k.min()) > -0.01 and float(k.max()) < 1.01


def test_conditions_are_the_labels_of_the_examples_served():
    data = open_data("digits", count=300)
    units = Units.identity(image=True)
    pipe = Pipeline(data, torch.arange(0, 300, 2), units, 0, condition="class")
    x, condition = pipe.batch(140, 30)
    assert set(condition) == {"class"} and condition["class"].dtype == torch.int64
    assert torch.equal(condition["class"], data.labels[pipe.indices(140, 30)])
    index = torch.tensor([3, 200, 7])
    assert torch.equal(pipe.held_out(index)[1]["class"], data.labels[index])
    plain = Pipeline(data, torch.arange(0, 300, 2), units, 0)
    assert plain.batch(140, 30)[1] is None and plain.held_out(index)[1] is None
    assert torch.equal(plain.batch(140, 30)[0], x)
    table = open_data(random_table())
    refused("labels", call=lambda: Pipeline(table, index, units, 0, condition="class"))
    refused("needs vectors", call=lambda: Pipeline(data, index, units, 0, condition="vector"))


def test_a_pipeline_keeps_everything_on_its_device():
    """The meta device stands in for an accelerator: mixing it with CPU tensors raises."""
    digits = open_data("digits", count=50)
    table = open_data(random_table(50))
    for data, flip in ((digits, True), (table, False)):
        units = fit_units(data, torch.arange(40)).units
        condition = "class" if data.labels is not None else "none"
        pipe = Pipeline(data, torch.arange(40), units, 0, "uniform", flip, condition, "meta")
        for x, labels in (pipe.batch(35, 20), pipe.held_out(torch.arange(40, 50))):
            assert x.device.type == "meta" and x.dtype == torch.float32
            assert labels is None or labels["class"].device.type == "meta"


def test_draws_of_data_and_exact_draws_are_independent():
    """With one seed, toy data and exact draws pick the same component no more often than chance."""
    from scorefield.exact import GaussianMixture

    means = torch.tensor([[-5.0, -5.0], [5.0, 5.0]], dtype=torch.float64)
    mixture = GaussianMixture(means, torch.eye(2, dtype=torch.float64).expand(2, 2, 2), [0.2, 0.8])
    n, chance = 4000, 0.2**2 + 0.8**2
    toy = open_data("mixture", count=n, seed=0).values
    drawn = mixture.sample(n, seed=0)
    same = ((toy[:, 0] > 0) == (drawn[:, 0] > 0)).double().mean()
    assert abs(float(same) - chance) < 4.5 * math.sqrt(chance * (1 - chance) / n)
    residuals = (toy - means[(toy[:, 0] > 0).long()]) * (drawn - means[(drawn[:, 0] > 0).long()])
    assert abs(float(residuals.mean())) < 4.5 / math.sqrt(2 * n)


def test_random_streams_of_data_differ():
    """Order, split, subset, dequantisation, flips and toys of one seed use different streams."""
    used = ("ORDER", "SPLIT", "SUBSET", "DEQUANTISE", "AUGMENT", "TOY", "EXACT")
    streams = [rng.Stream[name] for name in used]
    draws = [rng.uniform(rng.keys(0, 4), s, 0, (8,)) for s in streams]
    orders = [torch.randperm(50, generator=rng.generator(0, s)) for s in streams]
    for some in (draws, orders):
        assert all(not torch.equal(a, b) for i, a in enumerate(some) for b in some[:i])


def test_bad_pipelines_raise_input_errors():
    table, digits, units = open_data(random_table()), open_data("digits"), Units.identity()
    index = torch.arange(100)
    refused("flip", "none", call=lambda: Pipeline(table, index, units, 0, flip=True))
    refused(
        "dequantise", "'gauss'", call=lambda: Pipeline(digits, index, units, 0, dequantise="gauss")
    )
    refused("empty", call=lambda: Pipeline(digits, index[:0], units, 0))
    refused("int64", call=lambda: Pipeline(digits, index, units, 0, dtype=torch.int64))
    refused("-1", call=lambda: Pipeline(digits, index, units, 0).batch(-1, 4))
