"""What callers of `sample` and `resolve_sampling` may hand in, and what is refused in words."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from scorefield import rng
from scorefield.errors import InputError
from scorefield.exact import GaussianMixture
from scorefield.sampling import Ancestral, Heun, SamplingRecipe, resolve_sampling, sample

MODEL = GaussianMixture([[-2.0, 0.0], [2.0, 1.0]], 0.5)
LADDER = [4.0, 2.0, 1.0]


def samples(**wishes: Any) -> torch.Tensor:
    return sample(MODEL, ladder=LADDER, sampler="euler", **wishes)


@pytest.mark.parametrize("make", [list, tuple, np.array, lambda s: [np.int64(one) for one in s]])
def test_seeds_may_be_any_sequence_of_whole_numbers(make: Callable[[list[int]], Any]) -> None:
    assert torch.equal(samples(seed=make([4, 5])), samples(seed=rng.keys_of([4, 5])))


@pytest.mark.parametrize("seed", [np.int64(7), np.uint8(7), torch.tensor(7).numpy()])
def test_a_seed_may_be_any_whole_number(seed: Any) -> None:
    assert torch.equal(samples(count=2, seed=seed), samples(count=2, seed=7))


@pytest.mark.parametrize("seed", [1.5, "7", None, [1.5], ["a"], np.array([1.5, 2.0])])
def test_a_seed_that_is_no_whole_number_is_refused(seed: Any) -> None:
    """1.5 would be cut to 1."""
    with pytest.raises(InputError, match="seed must be a whole number, a sequence of them or keys"):
        samples(seed=seed)


def test_a_count_is_a_whole_number() -> None:
    assert len(samples(count=np.int64(2))) == len(samples(count=2.0)) == 2
    with pytest.raises(InputError, match=r"count must be a whole number; got 2\.5"):
        samples(count=2.5)


@pytest.mark.parametrize("name", ["nfe", "levels", "steps_per_level"])
def test_lengths_are_whole_numbers(name: str) -> None:
    def recipe(value: Any) -> SamplingRecipe:
        return resolve_sampling(MODEL, "ancestral", **{name: value})

    assert recipe(21.0).to_dict() == recipe(21).to_dict()
    for wrong, words in ((20.5, "a whole number; got 20.5"), ("many", "must be a whole number")):
        with pytest.raises(InputError, match=words):
            recipe(wrong)


@pytest.mark.parametrize("sampler", [Heun, 3, ["heun"]])
def test_a_sampler_is_a_name_or_an_object(sampler: Any) -> None:
    with pytest.raises(InputError, match=r"an object such as Heun\(\)"):
        resolve_sampling(MODEL, sampler)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (("uniform", "a", 1.0), "lower bound of start must be a number"),
        (("uniform", 0.0, float("inf")), "upper bound of start must be finite"),
        (("uniform", float("nan"), 1.0), "lower bound of start must be finite"),
        (("uniform", 1.0, 1.0), "low < high"),
    ],
)
def test_bounds_of_a_start_are_finite_numbers(start: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        resolve_sampling(MODEL, start=start)


def test_options_by_name_are_checked_as_those_of_a_kernel() -> None:
    for sampler, options, words in (
        ("predictor-corrector", {"predictor": 5}, "a predictor is a kernel or its name"),
        ("unipc", {"p": 2.5}, "p must be"),
        ("heun-churn", {"churn": "much"}, "churn must be a number"),
    ):
        with pytest.raises(InputError, match=words):
            resolve_sampling(MODEL, sampler, options=options)
    by_name = resolve_sampling(MODEL, "predictor-corrector", options={"predictor": "ancestral"})
    assert by_name.kernel.predictor == Ancestral()
