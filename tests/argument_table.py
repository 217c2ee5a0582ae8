"""The arguments of public functions that take numbers, sequences, mappings, paths and texts.

`ARGUMENTS` maps "room.function.argument" to a call with a plain Python value.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

import scorefield as sf
from argument_forms import KINDS
from scorefield import (
    conditions,
    diagnostics,
    evaluation,
    exact,
    interop,
    likelihood,
    models,
    noise,
    objectives,
    plotting,
    rng,
    training,
    units,
)
from scorefield import sampling as sm
from scorefield.checkpoint import load, load_state, make_card, save_model, save_state
from scorefield.conditions import ConditionSpec, resolve
from scorefield.config import override, parse_count, parse_seconds, preset
from scorefield.inverse import (
    Measurement,
    PoissonGaussianNoise,
    PoissonNoise,
    RicianNoise,
    check_operator,
    inpainting_projection,
    left_half,
    plan_restoration,
    simulate,
)
from scorefield.inverse.operators import Mask
from scorefield.networks import build
from scorefield.runs import Run

LABELLED = exact.GaussianMixture([[-2.0, 0.0], [2.0, 1.0]], 0.5, labels=[0, 1])
LADDER = [4.0, 2.0, 1.0]
X = [[0.5, 1.0], [-1.0, 0.25], [2.0, 0.0]]
SQUARE = [[2.0, 0.5], [0.5, 1.0]]
CHAINS = rng.normal(rng.keys(0, 3), rng.Stream.TOY, 0, (8,), torch.float64).tolist()
CLASSES = {"class": ConditionSpec("class", 5, ("a", "b", "c", "d", "e"))}
VECTOR = {"vector": ConditionSpec("vector", 3)}


@dataclass(frozen=True)
class Argument:
    """One argument of one function.

    Attributes:
        call: Calls the function with a value of the argument, the others fixed.
        value: A plain Python value.
        kind: A key of KINDS.
        named: A part of the message of every refusal; "" for the argument's own name.
        allowed: Names of values of a wrong kind that this argument takes.
    """

    call: Callable[[Any], Any]
    value: Any
    kind: str
    named: str = ""
    allowed: tuple[str, ...] = ()


def into(function: Callable[..., Any], name: str, /, **fixed: Any) -> Callable[[Any], Any]:
    """The function of one argument."""
    return lambda value: function(**{**fixed, name: value})


def several(
    function: Callable[..., Any], place: str, /, fixed: dict[str, Any], **rows: tuple[Any, ...]
) -> dict[str, Argument]:
    """Arguments of one function: name=(value, kind), or (value, kind, named), or with allowed."""
    return {
        f"{place}.{name}": Argument(into(function, name, **fixed), *row)
        for name, row in rows.items()
    }


# ---- sampling, noise levels and random numbers

OPTIONAL = ("None",)
FLAGS = ("list of True", "matrix of True")  # a mask is a picture too
SEVERAL = ("list", "array of one", "tensor of one")
SAMPLE = {"model": LABELLED, "sampler": "euler", "ladder": LADDER, "count": 3}
RUN = {
    "kernel": sm.Langevin(),
    "model": LABELLED,
    "ladder": LADDER,
    "state": torch.tensor(X),
    "keys": rng.keys(0, 3),
}
DRAW = {
    "model": LABELLED,
    "recipe": sm.resolve_sampling(LABELLED, "euler", ladder=LADDER),
    "keys": rng.keys(0, 4),
}
RESOLVE = {"model": LABELLED, "sampler": "ancestral"}
ENDS = {"sigma_max": 4.0, "sigma_min": 0.5, "levels": 3}


def kernel_option(sampler: str, option: str, value: Any) -> Any:
    made = sm.make_kernel(sampler, {option: value})
    json.dumps(made.options())
    return made


def options_of_kernels() -> Iterator[tuple[str, Argument]]:
    """Every option of every sampler."""
    rows = {
        "dpmpp-2m-sde": {"eta": (0.5, "number")},
        "matched-sde": {"eta": (0.5, "number")},
        "heun-churn": {
            "churn": (2.0, "number"),
            "sigma_low": (0.5, "number", "", ("inf",)),
            "sigma_high": (2.0, "number", "", ("inf",)),
            "inflation": (1.0, "number"),
        },
        "unipc": {"p": (3, "count")},
        "veab": {
            "p": (3, "count"),
            "known_past": (True, "flag"),
            "data_std": (0.5, "number", "", OPTIONAL),
        },
        **{
            name: {"p": (3, "count"), "known_past": (True, "flag")}
            for name in ("zeab", "xeab", "ipndm")
        },
        "annealed-langevin": {"epsilon": (0.5, "number", "", OPTIONAL)},
        "langevin": {"epsilon": (0.5, "number", "", OPTIONAL)},
        "mala": {"epsilon": (0.5, "number", "", OPTIONAL)},
        "consistent-annealed": {"epsilon": (0.5, "number", "", OPTIONAL)},
        "predictor-corrector": {
            "r": (0.25, "number"),
            "corrections": (2, "count"),
            "cap": (2.0, "number"),
            "when": ("before", "text"),
            "norms": ("sample", "text"),
            "predictor": ("ancestral", "text", "", ("other",)),
        },
    }
    for sampler, options in rows.items():
        for option, row in options.items():
            name = f"sampling.{sm.find_sampler(sampler).__name__}.{option}"
            yield name, Argument(lambda v, s=sampler, o=option: kernel_option(s, o, v), *row)


SAMPLING: dict[str, Argument] = {
    **several(
        sm.sample,
        "sampling.sample",
        SAMPLE,
        count=(3, "count", "", OPTIONAL),
        seed=(5, "count", "", SEVERAL),
        ladder=(LADDER, "list", "", OPTIONAL),
        condition=({"class": 1}, "mapping", "", OPTIONAL),
        record=(True, "flag"),
        sampler=("heun", "text", "", OPTIONAL),
    ),
    **several(
        sm.sample,
        "sampling.sample",
        {"model": LABELLED, "count": 2, "sampler": "dpmpp-2m-sde", "condition": {"class": [0, 1]}},
        nfe=(4, "count", "", OPTIONAL),
        options=({"eta": 0.5}, "mapping", "", OPTIONAL),
        guidance=(2.0, "number", "", OPTIONAL),
    ),
    "sampling.sample.seed, several": Argument(
        into(sm.sample, "seed", **{**SAMPLE, "count": None}), [5, 2, 7], "list", "seed"
    ),
    **several(
        sm.resolve_sampling,
        "sampling.resolve_sampling",
        RESOLVE,
        nfe=(21, "count", "", OPTIONAL),
        levels=(7, "count", "noise levels", OPTIONAL),
        steps_per_level=(2, "count", "", OPTIONAL),
        ladder=(LADDER, "list", "", OPTIONAL),
        final=("none", "text", "", OPTIONAL),
        sampler=("heun", "text", "", OPTIONAL),
    ),
    "sampling.resolve_sampling.options": Argument(
        into(sm.resolve_sampling, "options", model=LABELLED, sampler="unipc"),
        {"p": 3},
        "mapping",
        allowed=OPTIONAL,
    ),
    "sampling.resolve_sampling.start": Argument(
        lambda v: sm.resolve_sampling(LABELLED, start=("uniform", v, 2.0)), 0.5, "number"
    ),
    **several(
        sm.SamplingRecipe,
        "sampling.SamplingRecipe",
        {"kernel": sm.Heun(), "ladder": LADDER},
        ladder=(LADDER, "list"),
        steps_per_level=(2, "count"),
        start=("uniform", "text"),
        final=("none", "text"),
    ),
    **several(
        sm.run,
        "sampling.run",
        RUN,
        ladder=(LADDER, "list"),
        steps_per_level=(2, "count"),
        final=("none", "text"),
        trace=(True, "flag"),
    ),
    "sampling.run.state": Argument(lambda v: sm.run(sm.Euler(), LABELLED, LADDER, v), X, "matrix"),
    **several(
        sm.draw,
        "sampling.draw",
        DRAW,
        particles=(2, "count"),
        batch=(3, "count", "", OPTIONAL),
        trace=(True, "flag"),
    ),
    **several(
        sm.make_kernel,
        "sampling.make_kernel",
        {"name": "unipc"},
        name=("unipc", "text", "sampler"),
        options=({"p": 3}, "mapping", "", OPTIONAL),
    ),
    "sampling.find_sampler.name": Argument(sm.find_sampler, "heun", "text", "sampler"),
    **several(
        sm.named_ladder,
        "sampling.named_ladder",
        {"name": "karras", "model": LABELLED, "levels": 4},
        name=("geometric", "text", "ladder"),
        levels=(4, "count", "levels"),
    ),
    "sampling.Kernel.default_ladder.levels": Argument(
        lambda v: sm.Heun().default_ladder(LABELLED, v), 4, "count", "levels", OPTIONAL
    ),
    "sampling.State.particles": Argument(
        lambda v: sm.State(torch.tensor(X), particles=v), 3, "count"
    ),
    **several(
        sm.resolve_accuracy,
        "sampling.resolve_accuracy",
        {"model": exact.Gaussian([0.0, 1.0], [4.0, 1.0]), "accuracy": 0.5, "most": 4},
        accuracy=(0.25, "number"),
        most=(5, "count"),
        check=(8, "count", "", OPTIONAL),
    ),
    **several(
        sm.Tuned,
        "sampling.Tuned",
        {"levels": [4.0, 1.0, 0.25], "scales": [0.5, 0.25], "weights": [[0.5, 0.0], [0.5, 0.25]]},
        levels=([4.0, 1.0, 0.25], "list"),
        scales=([0.5, 0.25], "list"),
        weights=([[0.5, 0.0], [0.5, 0.25]], "matrix"),
    ),
    **dict(options_of_kernels()),
}
NOISE: dict[str, Argument] = {
    "noise.check_ladder.sigmas": Argument(noise.check_ladder, LADDER, "list", "ladder"),
    **{
        name: row
        for maker in (noise.geometric, noise.karras, noise.few_step)
        for name, row in several(
            maker,
            f"noise.{maker.__name__}",
            ENDS,
            sigma_max=(4.0, "number"),
            sigma_min=(0.5, "number"),
            levels=(5, "count"),
        ).items()
    },
    "noise.level_ratio.elements": Argument(noise.level_ratio, 64, "count"),
    **several(
        noise.level_count,
        "noise.level_count",
        {"sigma_max": 4.0, "sigma_min": 0.5, "elements": 64},
        sigma_max=(4.0, "number"),
        sigma_min=(0.5, "number"),
        elements=(64, "count"),
    ),
    **several(
        noise.langevin_step,
        "noise.langevin_step",
        {"sigma_min": 0.5, "ratio": 1.5, "steps_per_level": 5},
        sigma_min=(0.5, "number"),
        ratio=(1.5, "number"),
        steps_per_level=(5, "count"),
    ),
    "noise.karras.rho": Argument(into(noise.karras, "rho", **ENDS), 2.0, "number"),
    "noise.few_step.data_std": Argument(into(noise.few_step, "data_std", **ENDS), 2.0, "number"),
    **several(
        noise.LogNormal,
        "noise.LogNormal",
        {"mean": 0.0, "std": 1.0, "sigma_min": 0.5, "sigma_max": 4.0},
        mean=(0.5, "number"),
        std=(0.5, "number"),
        sigma_min=(0.25, "number"),
        sigma_max=(8.0, "number"),
    ),
    **several(
        noise.LogUniform,
        "noise.LogUniform",
        {"sigma_min": 0.5, "sigma_max": 4.0},
        sigma_min=(0.25, "number"),
        sigma_max=(8.0, "number"),
    ),
    "noise.Levels.ladder": Argument(noise.Levels, LADDER, "list"),
    **several(
        rng.keys,
        "rng.keys",
        {"seed": 1, "count": 3},
        seed=(5, "count"),
        count=(3, "count"),
        first=(2, "count"),
    ),
    "rng.keys_of.seeds": Argument(rng.keys_of, [5, 2, 7], "list"),
    **several(
        rng.blend_rows,
        "rng.blend_rows",
        {"seed": 1, "rows": 2, "steps": 3},
        seed=(5, "count"),
        rows=(2, "count"),
        steps=(3, "count"),
    ),
    **several(
        lambda **given: rng.generator(**given).initial_seed(),
        "rng.generator",
        {"seed": 1, "stream": rng.Stream.ORDER},
        seed=(5, "count"),
        index=(3, "count"),
    ),
    "rng.as_keys.value": Argument(rng.as_keys, [[1, 2], [3, 4]], "matrix", "keys"),
}

# ---- closed forms, models and units


def score(sigma: Any) -> Any:
    return LABELLED.score(torch.tensor(X), sigma)


def network() -> nn.Module:
    torch.manual_seed(0)
    return build("mlp", (2,), width=8, depth=1, embedding=4)


def own_model(kind: Any = models.Preconditioned, **given: Any) -> Any:
    return kind(network(), **{"event_shape": [2], **given})


def own_network(name: str, event_shape: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    made: Any = build(name, event_shape, **options)
    json.dumps(made.options)
    return made


SIGMA_ALLOWED = ("list", "array of one", "tensor of one")
MIX = {"means": X, "covariances": 0.5}
EXACT: dict[str, Argument] = {
    **several(
        exact.GaussianMixture,
        "exact.GaussianMixture",
        MIX,
        means=(X, "matrix"),
        covariances=([0.5, 1.0, 2.0], "list"),
        weights=([0.5, 0.25, 0.25], "list", "", OPTIONAL),
        log_weights=([0.5, 0.25, 0.25], "list", "weight", (*OPTIONAL, "inf")),
        labels=([1, 0, 1], "list", "", OPTIONAL),
    ),
    "exact.GaussianMixture.covariances, one": Argument(
        into(exact.GaussianMixture, "covariances", **MIX),
        0.5,
        "number",
        allowed=(),
    ),
    **several(
        exact.Gaussian,
        "exact.Gaussian",
        {"mean": [0.5, 1.0], "covariance": SQUARE},
        mean=([0.5, 1.0], "list"),
        covariance=(SQUARE, "matrix"),
    ),
    **several(
        exact.Box,
        "exact.Box",
        {"low": [0.0, -1.0], "high": [4.0, 5.0]},
        low=([0.5, -1.0], "list"),
        high=([4.0, 1.5], "list"),
    ),
    **several(
        exact.Empirical,
        "exact.Empirical",
        {"data": X},
        data=(X, "matrix"),
        block=(2, "count"),
        log_weights=([0.5, 0.25, 0.25], "list", "", (*OPTIONAL, "inf")),
    ),
    **several(
        exact.TruncatedNormal,
        "exact.TruncatedNormal",
        {"low": [0.0, -1.0], "high": [4.0, 5.0]},
        low=([0.5, -1.0], "list"),
        high=([4.0, 1.5], "list"),
        mean=([0.5, 1.0], "list"),
        variance=([0.5, 1.0], "list", "", ("inf",)),
    ),
    **several(
        exact.LinearGaussian,
        "exact.LinearGaussian",
        {"matrix": SQUARE, "observed": [0.5, 1.0], "covariance": 0.5},
        matrix=(SQUARE, "matrix"),
        observed=([0.5, 1.0], "list"),
        covariance=(SQUARE, "matrix"),
    ),
    **{
        name: row
        for p in (
            LABELLED,
            exact.TruncatedNormal([0.0, 0.0], [1.0, 2.0]),
            exact.Empirical(X),
        )
        for name, row in several(
            p.sample,
            f"exact.{type(p).__name__}.sample",
            {"count": 3},
            count=(3, "count"),
            sigma=(0.5, "number", "", ()),
            seed=(5, "count"),
        ).items()
    },
    "exact.GaussianMixture.sample.condition": Argument(
        lambda v: LABELLED.sample(3, condition=v), {"class": 1}, "mapping", allowed=OPTIONAL
    ),
    "models.ScoreModel.score.sigma": Argument(score, 0.5, "number", "sigma", ("list", *SEVERAL)),
    "models.ScoreModel.score.sigma, a row each": Argument(score, [0.5, 1.0, 2.0], "list", "sigma"),
}
MODELS: dict[str, Argument] = {
    **several(
        own_model,
        "models.Preconditioned",
        {},
        event_shape=([2], "list"),
        sigma_min=(0.5, "number"),
        sigma_max=(4.0, "number", "", ("inf",)),
        preconditioner=("ncsnv2", "text"),
        sigma_data=(2.0, "number"),
        ladder=(LADDER, "list", "", OPTIONAL),
        conditions=(dict(CLASSES), "mapping", "", OPTIONAL),
    ),
    **several(
        models.Guided,
        "models.Guided",
        {"inner": LABELLED, "scale": 2.0},
        scale=(0.5, "number"),
        interval=([0.5, 2.0], "list", "", (*OPTIONAL, "inf")),
    ),
    **several(
        models.Guidance,
        "models.Guidance",
        {"scale": 2.0},
        scale=(0.5, "number"),
        interval=([0.5, 2.0], "list", "", (*OPTIONAL, "inf")),
    ),
    "units.Units.affine.shift": Argument(
        lambda v: sf.Units.affine(v, 2.0), [0.5, 1.0], "list", "shift"
    ),
    "units.Units.affine.scale": Argument(
        lambda v: sf.Units.affine(0.0, v), [0.5, 1.0], "list", "scale"
    ),
    "units.Units.affine.logit": Argument(
        lambda v: sf.Units.affine(0.0, 1.0, logit=v), 0.25, "number", "", OPTIONAL
    ),
    "units.Units.standardising.mean": Argument(
        lambda v: sf.Units.standardising(v, [1.0, 2.0]), [0.5, 1.0], "list", ""
    ),
    "units.Units.standardising.std": Argument(
        lambda v: sf.Units.standardising([1.0, 2.0], v), [0.5, 1.0], "list", ""
    ),
    "units.Units.standardising.target": Argument(
        lambda v: sf.Units.standardising([1.0], [2.0], v), 2.0, "number"
    ),
    "units.Quantisation.levels": Argument(units.Quantisation, 16, "count"),
    "units.Quantisation.dequantised": Argument(lambda v: units.Quantisation(256, v), False, "flag"),
    "conditions.ConditionSpec.names": Argument(
        lambda v: ConditionSpec("class", 3, v),
        ["a", "b", "c"],
        "names",
        "names",
        OPTIONAL,
    ),
    "units.Units.logit": Argument(
        lambda v: sf.Units(0.0, 1.0, False, v), 0.25, "number", "logit", OPTIONAL
    ),
    **{
        f"units.{place}.image": Argument(call, True, "flag")
        for place, call in {
            "Units": lambda v: sf.Units(0.0, 1.0, False, image=v),
            "Units.identity": sf.Units.identity,
            "Units.affine": lambda v: sf.Units.affine(0.0, 1.0, image=v),
            "Units.standardising": lambda v: sf.Units.standardising([0.0], [1.0], image=v),
        }.items()
    },
    "conditions.ConditionSpec.shift": Argument(
        lambda v: ConditionSpec("vector", 2, None, v), [0.5, 1.0], "list", "shift", OPTIONAL
    ),
    "conditions.ConditionSpec.scale": Argument(
        lambda v: ConditionSpec("vector", 2, None, None, v), [0.5, 1.0], "list", "scale", OPTIONAL
    ),
    "conditions.ConditionSpec.low": Argument(
        lambda v: ConditionSpec("vector", 2, low=v), [0.5, 1.0], "list", "low", OPTIONAL
    ),
    "conditions.ConditionSpec.high": Argument(
        lambda v: ConditionSpec("vector", 2, high=v), [0.5, 1.0], "list", "high", OPTIONAL
    ),
    "conditions.ConditionSpec.unseen": Argument(
        lambda v: ConditionSpec("class", 3, unseen=v), [0, 2], "list", "unseen", OPTIONAL
    ),
    "conditions.ConditionSpec.optional": Argument(
        lambda v: ConditionSpec("class", 3, optional=v), False, "flag"
    ),
    "conditions.ConditionSpec.size": Argument(lambda v: ConditionSpec("class", v), 3, "count"),
    "conditions.ConditionSpec.kind": Argument(lambda v: ConditionSpec(v, 3), "vector", "text"),
    "conditions.resolve.count": Argument(lambda v: resolve({"class": 1}, CLASSES, v), 3, "count"),
    "conditions.resolve.condition": Argument(
        lambda v: resolve(v, CLASSES, 3), {"class": [1, 0, 4]}, "mapping", "", OPTIONAL
    ),
    "conditions.resolve.class": Argument(
        lambda v: resolve({"class": v}, CLASSES, 3),
        3,
        "count",
        "class",
        (*OPTIONAL, *SEVERAL, "text", "np.str_"),
    ),
    "conditions.resolve.classes": Argument(
        lambda v: resolve({"class": v}, CLASSES, 3), [1, 0, 4], "list", "class", OPTIONAL
    ),
    "conditions.resolve.vector": Argument(
        lambda v: resolve({"vector": v}, VECTOR, 3), [0.5, 1.0, 2.0], "list", "vector", OPTIONAL
    ),
}

# ---- measurements, likelihood and diagnostics

FIRST = Mask([True, False])
SEEN = {"observed": [0.5, 0.0], "operator": FIRST}
QUICK = {"nfe": 9, "levels": 3}
LOOSE = likelihood.LikelihoodOptions(rtol=1e-2, atol=1e-2)
NATS = {"model": LABELLED, "x": X, "options": LOOSE}
HEALTH: dict[str, Any] = {
    "model": LABELLED,
    "held_out": torch.tensor(X),
    "train": torch.tensor(X),
    "levels": [1.0],
    "examples": 4,
}
REPORT = {"model": LABELLED, "chains": 3, "steps_per_level": 5, "ladder": [1.0]}


def restored(**given: Any) -> Any:
    seen = Measurement(**SEEN)
    usual = {"draws": 2, "method": "inpainting", "options": QUICK}
    return sf.restore(LABELLED, seen, **{**usual, **given})


def planned(**given: Any) -> Any:
    usual = {"draws": 2, "method": "inpainting", "options": {"levels": 2}}
    return plan_restoration(LABELLED, Measurement(**SEEN), **{**usual, **given})


def nats_of(**options: Any) -> Any:
    set_up = likelihood.LikelihoodOptions(**{"rtol": 1e-2, "atol": 1e-2, **options})
    return likelihood.log_prob(LABELLED, X, options=set_up)


PROBLEMS: dict[str, Argument] = {
    "inverse.Measurement.noise_std": Argument(
        lambda v: vars(Measurement(**SEEN, noise_std=v)), 0.5, "number", allowed=SEVERAL
    ),
    "inverse.Measurement.observed": Argument(
        lambda v: restored_of(v),
        X,
        "matrix",
        "observation",
        ("NaN", "matrix with NaN", "list of True", "matrix of True"),
    ),
    "inverse.Mask.mask": Argument(
        lambda v: Mask(v).mask,
        [[1, 0], [0, 1]],
        "matrix",
        "mask",
        ("list of True", "matrix of True", "object"),
    ),
    "inverse.Mask.batched": Argument(lambda v: vars(Mask([[True], [False]], v)), True, "flag"),
    **several(
        restored,
        "inverse.restore",
        {},
        draws=(3, "count"),
        seed=(5, "count"),
        method=("inpainting", "text"),
        options=({"nfe": 11, "levels": 2}, "mapping", "", OPTIONAL),
        condition=({"class": 1}, "mapping", "", OPTIONAL),
    ),
    "inverse.restore.nfe": Argument(
        lambda v: restored(nfe=v, options={"levels": 2}), 11, "count", "nfe", OPTIONAL
    ),
    **several(
        planned,
        "inverse.plan_restoration",
        {},
        draws=(3, "count"),
        method=("inpainting", "text"),
        nfe=(11, "count", "", OPTIONAL),
        options=({"nfe": 11, "levels": 2}, "mapping", "", OPTIONAL),
    ),
    **several(
        check_operator,
        "inverse.check_operator",
        {"operator": FIRST, "event_shape": (2,)},
        event_shape=([2], "list"),
        seed=(5, "count"),
    ),
    "inverse.PoissonNoise.gain": Argument(lambda v: PoissonNoise(v), 2.5, "number"),
    **several(
        PoissonGaussianNoise,
        "inverse.PoissonGaussianNoise",
        {},
        gain=(2.5, "number"),
        read_std=(0.5, "number"),
    ),
    "inverse.RicianNoise.std": Argument(lambda v: RicianNoise(v), 0.5, "number"),
    "inverse.restore.options, batch": Argument(
        lambda v: restored(options={**QUICK, "batch": v}), 3, "count", "batch", OPTIONAL
    ),
    "inverse.restore.options, ladder": Argument(
        lambda v: restored(options={"ladder": v, "steps_per_level": 2, "batch": 1}),
        LADDER,
        "list",
        "ladder",
        OPTIONAL,
    ),
    "inverse.restore.options, nfe": Argument(
        lambda v: restored(options={"nfe": v, "levels": 2}), 9, "count", "nfe", OPTIONAL
    ),
    "inverse.inpainting_projection.redraw": Argument(
        lambda v: inpainting_projection(torch.zeros(1, 2), FIRST.mask, v) is None, "step", "text"
    ),
    "inverse.left_half.event_shape": Argument(left_half, [2, 4], "list"),
    **several(
        simulate,
        "inverse.simulate",
        {"x": torch.tensor(X), "operator": FIRST, "noise_std": 0.5},
        x=(X, "matrix"),
        noise_std=(0.5, "number", "", SEVERAL),
        seed=(5, "count"),
    ),
    **several(
        likelihood.log_prob,
        "likelihood.log_prob",
        NATS,
        x=(X, "matrix"),
        condition=({"class": [0, 1, 1]}, "mapping", "", OPTIONAL),
        divergence=("hutchinson", "text"),
    ),
    **several(
        likelihood.log_prob,
        "likelihood.log_prob",
        {**NATS, "divergence": "hutchinson"},
        probes=(3, "count"),
        seed=(5, "count"),
    ),
    **several(
        nats_of,
        "likelihood.LikelihoodOptions",
        {},
        sigma_min=(0.5, "number", "", OPTIONAL),
        sigma_max=(8.0, "number", "", OPTIONAL),
        rtol=(0.25, "number"),
        atol=(0.25, "number"),
        batch=(2, "count", "", OPTIONAL),
    ),
    **several(
        diagnostics.langevin_report,
        "diagnostics.langevin_report",
        REPORT,
        ladder=([2.0, 1.0], "list", "", OPTIONAL),
        epsilon=(0.25, "number", "", OPTIONAL),
        steps_per_level=(4, "count", "", OPTIONAL),
        chains=(2, "count"),
        seed=(5, "count"),
        start=(X, "matrix", "", OPTIONAL),
        condition=({"class": 1}, "mapping", "", OPTIONAL),
    ),
    **several(
        diagnostics.curvature,
        "diagnostics.curvature",
        {"model": LABELLED, "x": torch.tensor(X, dtype=torch.float64), "sigma": 1.0},
        x=(X, "matrix"),
        sigma=(0.5, "number", "sigma", ("list", *SEVERAL)),
        steps=(2, "count"),
        seed=(5, "count"),
    ),
    **several(
        diagnostics.start_mismatch,
        "diagnostics.start_mismatch",
        {"model": LABELLED, "x": torch.tensor(X, dtype=torch.float64), "sigma": 1.0},
        x=(X, "matrix"),
        sigma=(0.5, "number"),
    ),
    **several(
        diagnostics.score_health,
        "diagnostics.score_health",
        HEALTH,
        held_out=(X, "matrix"),
        train=(X, "matrix"),
        condition=({"class": [0, 1, 1]}, "mapping", "", OPTIONAL),
        train_condition=({"class": [0, 1, 1]}, "mapping", "condition", OPTIONAL),
        levels=([2.0, 1.0], "list", "", ("one number",)),
        seed=(5, "count"),
        examples=(4, "count"),
    ),
    "diagnostics.score_health.levels, count": Argument(
        into(diagnostics.score_health, "levels", **HEALTH), 2, "count", "levels", SEVERAL
    ),
    **several(
        diagnostics.health_levels,
        "diagnostics.health_levels",
        {"model": LABELLED, "levels": 2, "data_std": 1.0},
        levels=([2.0, 1.0], "list", "", ("one number",)),
        data_std=(0.5, "number"),
    ),
    "diagnostics.r_hat.draws": Argument(diagnostics.r_hat, CHAINS, "matrix"),
    "diagnostics.rank_normalise.draws": Argument(
        lambda v: diagnostics.rank_normalise(v), [[[1.0], [3.0]], [[0.0], [2.0]]], "matrix"
    ),
    "diagnostics.split_chains.draws": Argument(diagnostics.split_chains, CHAINS, "matrix"),
    **several(
        diagnostics.effective_sample_size,
        "diagnostics.effective_sample_size",
        {"draws": CHAINS},
        draws=(CHAINS, "matrix"),
        ranks=(False, "flag"),
    ),
}

# ---- objectives, networks, adapters


def loss(objective: Any) -> Any:
    model, x0 = own_model(), torch.tensor(X)
    return objective.losses(model, x0, torch.ones(3), rng.keys(0, 3))


def vp(**given: Any) -> Any:
    set_up = {"alpha_bar": [0.9, 0.5, 0.1], "event_shape": [2], **given}
    return adapted(interop.from_vp(lambda y, t: y, **set_up))


def flow(**given: Any) -> Any:
    return adapted(interop.from_flow(lambda y, t: y, **{"event_shape": [2], **given}))


def adapted(model: Any) -> Any:
    shape = model.event_shape
    return (*shape, model.sigma_min, model.score(torch.full((1, *shape), 0.5), 0.75))


def linear_in_time(t: torch.Tensor) -> torch.Tensor:
    return 1 - t / 2


LEARNING: dict[str, Argument] = {
    "objectives.Objective.sigma_data": Argument(
        lambda v: loss(objectives.Denoising(sigma_data=v)), 2.0, "number"
    ),
    "objectives.Denoising.control_variate": Argument(
        lambda v: loss(objectives.Denoising(control_variate=v)), True, "flag"
    ),
    "objectives.Sliced.slices": Argument(lambda v: loss(objectives.Sliced(slices=v)), 2, "count"),
    "objectives.Sliced.probe": Argument(
        lambda v: loss(objectives.Sliced(probe=v)), "gaussian", "text"
    ),
    "objectives.Exact.limit": Argument(lambda v: objectives.Exact(limit=v), 8, "count"),
    **several(
        objectives.make_objective,
        "objectives.make_objective",
        {"name": "denoising"},
        name=("sliced", "text", "objective"),
        sigma_data=(2.0, "number"),
        weight=("fisher", "text", "", OPTIONAL),
    ),
    **several(
        objectives.mean_loss,
        "objectives.mean_loss",
        {
            "objective": objectives.Denoising(),
            "model": LABELLED,
            "x0": torch.tensor(X, dtype=torch.float64),
            "sigma": LADDER,
        },
        x0=(X, "matrix"),
        sigma=(LADDER, "list"),
        seed=(5, "count"),
    ),
    **several(
        objectives.fisher_divergence,
        "objectives.fisher_divergence",
        {"model": exact.Gaussian([0.0, 0.0], 1.0), "truth": LABELLED, "sigma": 1.0, "count": 4},
        sigma=(0.5, "number"),
        x=(X, "matrix", "", OPTIONAL),
        count=(3, "count"),
        seed=(5, "count"),
    ),
    "networks.build.name": Argument(lambda v: own_network(v, (2,)), "mlp", "text", "network"),
    "networks.build.event_shape": Argument(
        lambda v: own_network("mlp", v, width=4, embedding=4), [2], "list"
    ),
    **{
        f"networks.build.{name}.{option}": Argument(
            lambda v, n=name, s=shape, o=option, f=fixed: own_network(n, s, **{**f, o: v}),
            value,
            kind,
            option,
            allowed,
        )
        for name, shape, fixed, option, value, kind, allowed in (
            ("mlp", (2,), {"embedding": 4}, "width", 4, "count", ()),
            ("mlp", (2,), {"embedding": 4, "width": 4}, "depth", 1, "count", ()),
            ("mlp", (2,), {"width": 4}, "embedding", 4, "count", ()),
            ("unet", (1, 4, 4), {"embedding": 4}, "widths", [8, 4], "list", OPTIONAL),
            (
                "unet",
                (1, 4, 4),
                {"widths": [4, 4], "embedding": 4},
                "depths",
                [1, 1],
                "list",
                OPTIONAL,
            ),
            ("unet", (1, 4, 4), {"widths": [4, 4], "embedding": 4}, "patch", 2, "count", OPTIONAL),
            ("unet", (1, 4, 4), {"widths": [4, 4]}, "embedding", 4, "count", ()),
            ("refinenet", (1, 8, 8), {"levels": 2}, "width", 4, "count", OPTIONAL),
            ("refinenet", (1, 8, 8), {"width": 4}, "levels", 2, "count", OPTIONAL),
            ("refinenet", (1, 8, 8), {"width": 4, "levels": 2}, "rescaled", True, "flag", ()),
            ("refinenet", (1, 8, 8), {"width": 4, "levels": 2}, "variant", "ncsnv2", "text", ()),
        )
    },
    **several(
        flow,
        "interop.from_flow",
        {},
        event_shape=([2], "list"),
        data_at=(1, "count"),
        margin=(0.25, "number"),
        time_scale=(2.0, "number"),
    ),
    **several(
        vp,
        "interop.from_vp",
        {},
        alpha_bar=([0.875, 0.5, 0.25], "list"),
        event_shape=([2], "list"),
        prediction=("v", "text"),
        rounding=("nearest", "text"),
    ),
    "interop.from_vp.times": Argument(
        lambda v: vp(alpha_bar=linear_in_time, times=v), [0.5, 1.0], "list"
    ),
}

# ---- settings, training, files


def request(settings: Any) -> Any:
    changed = override(preset("fast"), settings).to_dict()
    json.dumps(changed)
    return changed


def fitted(**given: Any) -> Any:
    """What `fit` passes on to training."""
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        module = sys.modules["scorefield.training.fit"]
        patch.setattr(module, "train", lambda *got: found.extend(got))
        sf.fit(**{"data": "digits", "run": "runs/x", "hooks": training.Hooks(), **given})
    return [found[0].to_dict(), found[1]]


def step(**given: Any) -> Any:
    model = own_model()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.125)
    state = training.TrainState(model, objectives.Denoising(), optimiser)
    batch = training.Batch(torch.tensor(X), torch.ones(3), rng.keys(0, 3))
    training.train_step(state, batch, **given)
    return model


def saved(**given: Any) -> Any:
    """A model file's path and bytes."""
    file = save_model(**{"path": "m.safetensors", "model": own_model(), **given})
    return str(file), file.read_bytes()


def reloaded(path: Any) -> Any:
    save_model("m.safetensors", own_model())
    return load(path)


TEXT_READ = ("text", "np.str_", "None")  # settings are read from texts, as on the command line
SETTINGS: dict[str, Argument] = {
    **{
        f"config.override.{name}": Argument(
            lambda v, n=name: request({n: v}), value, kind, name, (*TEXT_READ, *allowed)
        )
        for name, value, kind, allowed in (
            ("seed", 5, "count", ()),
            ("images", 100, "count", ()),
            ("seconds", 64.0, "number", ()),
            ("optim.batch", 64, "count", ()),
            ("optim.lr", 0.125, "number", ()),
            ("data.flip", True, "flag", ("1", "0", "1.0")),
            ("ema.profiles", [0.125, 0.25], "list", ("bytes", "list of texts")),
            ("network.options", {"width": 8}, "mapping", ("names that are no texts",)),
            ("network.options.width", 8, "count", tuple(KINDS["count"][1])),
            ("objective.name", "sliced", "text", ()),
        )
        if name != "network.options.width"
    },
    "config.override.assignments": Argument(
        request, {"seed": 3, "optim.lr": 0.125}, "mapping", "assignments", ("set", "list of pairs")
    ),
    "config.preset.name": Argument(lambda v: preset(v).to_dict(), "mlp", "text", "preset"),
    "config.parse_count.value": Argument(parse_count, 100, "count", "count", ("text", "np.str_")),
    "config.parse_seconds.value": Argument(
        parse_seconds, 64.0, "number", "duration", ("text", "np.str_")
    ),
    **several(
        fitted,
        "training.fit",
        {},
        run=("runs/mine", "path"),
        preset=("mlp", "text"),
        budget=(64.0, "number", "", TEXT_READ),
        images=(100, "count", "", TEXT_READ),
        seed=(5, "count", "", ("text", "np.str_", "None")),
        condition=("class", "text", "condition", OPTIONAL),
        settings=({"optim.lr": 0.125}, "mapping", "", OPTIONAL),
    ),
    "training.fit.settings, nested": Argument(
        lambda v: fitted(settings={"optim": v}), {"lr": 0.125, "batch": 8}, "mapping", "optim"
    ),
    "training.fit.data": Argument(
        lambda v: fitted(data=v),
        "pictures/mine",
        "path",
        "data",
        ("bytes", "number", "None", "list", "True"),
    ),
    **several(
        step,
        "training.train_step",
        {},
        learning_rate=(0.5, "number", "", OPTIONAL),
        clip=(0.5, "number"),
        accumulate=(2, "count"),
        dropout=(0.5, "number"),
    ),
    **several(
        lambda **given: vars(training.EMA(network(), **given)),
        "training.EMA",
        {"kind": "halflife", "width": 8.0},
        kind=("halflife", "text"),
        width=(4.0, "number"),
        warmup=(0.5, "number"),
    ),
}
CARD = make_card(own_model())
FILES: dict[str, Argument] = {
    **several(
        saved,
        "checkpoint.save_model",
        {},
        path=("folder/m.safetensors", "path"),
        card=(CARD, "mapping", "", OPTIONAL),
        weights=(network().state_dict(), "mapping", "", OPTIONAL),
    ),
    "checkpoint.load.path": Argument(reloaded, "m.safetensors", "path"),
    "checkpoint.save_state.folder": Argument(
        lambda v: str(save_state(v, 3, {"x": 1})), "state", "path"
    ),
    "checkpoint.save_state.images": Argument(
        lambda v: str(save_state("state", v, {"x": 1})), 3, "count"
    ),
    "checkpoint.load_state.folder": Argument(load_state, "state", "path"),
    "runs.Run.folder": Argument(lambda v: Run(v).config, "runs/mine", "path", "run directory"),
    **several(
        rng.normal,
        "rng.normal",
        {"keys": rng.keys(0, 2), "stream": rng.Stream.TOY, "step": 1, "shape": (3,)},
        step=(2, "count"),
        shape=([2, 3], "list"),
        draw=(2, "count"),
    ),
    "models.prior.sigma": Argument(
        lambda v: vars(models.prior(LABELLED, v)), 0.5, "number", "sigma"
    ),
    **several(
        models.Moments,
        "models.Moments",
        {"mean": [0.5, 1.0], "variance": [1.0, 2.0]},
        mean=([1.0, 2.0], "list", "", ("NaN", "inf")),
        variance=([0.5, 1.0], "list", "", ("NaN", "inf")),
        covariance=(SQUARE, "matrix", "", (*OPTIONAL, "NaN", "inf", "matrix with NaN")),
    ),
    "conditions.null.count": Argument(lambda v: conditions.null(CLASSES, v), 3, "count"),
    "conditions.repeat.times": Argument(
        lambda v: conditions.repeat({"class": torch.tensor([1, 2])}, v), 2, "count"
    ),
}
# ---- pictures

IMAGES = torch.arange(8, dtype=torch.float64).reshape(2, 1, 2, 2) / 8
FRAME = [-1.0, 1.0, -2.0, 2.0]


def drawn(function: Callable[..., Any], path: Any, *values: Any, **given: Any) -> Any:
    """A picture's path and bytes."""
    file = function(path, *values, **given)
    return str(file), file.read_bytes()


def grid(**given: Any) -> Any:
    return plotting.grid(**{"images": IMAGES, **given})


PLOTTING: dict[str, Argument] = {
    **several(
        grid,
        "plotting.grid",
        {},
        columns=(1, "count", "", OPTIONAL),
        pad=(3, "count"),
        scale=(2, "count", "", OPTIONAL),
    ),
    "plotting.grid.levels": Argument(
        lambda v: plotting.grid(torch.ones(1, 1, 2, 2, dtype=torch.int64), levels=v),
        4,
        "count",
        allowed=OPTIONAL,
    ),
    "plotting.grid_points.extent": Argument(
        lambda v: plotting.grid_points(v, 2), FRAME, "list", "extent"
    ),
    "plotting.save_grid.path": Argument(
        lambda v: drawn(plotting.save_grid, v, IMAGES), "grid.png", "path"
    ),
    "plotting.save_loss_per_sigma.sigma": Argument(
        lambda v: plotting.save_loss_per_sigma("l.png", v, LADDER), LADDER, "list"
    ),
    "plotting.save_loss_per_sigma.loss": Argument(
        lambda v: plotting.save_loss_per_sigma("l.png", LADDER, v), LADDER, "list"
    ),
    "plotting.save_animation.hold": Argument(
        lambda v: drawn(plotting.save_animation, "a.gif", [IMAGES, IMAGES], hold=v), 2, "count"
    ),
    "plotting.save_animation.fps": Argument(
        lambda v: drawn(plotting.save_animation, "a.gif", [IMAGES, IMAGES], fps=v), 4.0, "number"
    ),
    "plotting.to_pixels.images": Argument(
        lambda v: plotting.to_pixels([v]), [[0.25, 0.5], [1.0, 0.0]], "matrix", "images", FLAGS
    ),
}
SETS = {"x": rng.normal(rng.keys(1, 24), rng.Stream.TOY, 0, (3,), torch.float64)}
SETS["y"] = SETS["x"].flip(0, 1) + 0.25
SIGNALS = {name: one.reshape(-1, 1, 6) for name, one in SETS.items()}
AGAINST = {"samples": SETS["x"], "held_out": torch.cat([SETS["y"], SETS["x"] + 1])}
LABELS = {"sample_classes": [0] * 24, "held_out_classes": [0] * 48}
SEED_LEVEL = {"seed": (3, "count"), "level": (0.75, "number")}
EVALUATION: dict[str, Argument] = {
    key: argument
    for name in ("classifier_test", "frechet", "kernel_distance", "mmd", "prdc", "sliced")
    for key, argument in several(
        getattr(evaluation, name), f"evaluation.{name}", SETS, **SEED_LEVEL
    ).items()
}
EVALUATION |= {
    **several(evaluation.mmd, "evaluation.mmd", SETS, bandwidth=(1.5, "number", "", OPTIONAL)),
    **several(evaluation.prdc, "evaluation.prdc", SETS, k=(2, "count")),
    **several(evaluation.two_sample_test, "evaluation.two_sample_test", SETS, seed=(3, "count")),
    **several(
        evaluation.sliced_wasserstein,
        "evaluation.sliced_wasserstein",
        {**SETS, "along": torch.eye(3)},
        power=(2, "count"),
    ),
    **several(evaluation.directions, "evaluation.directions", {"size": 2}, seed=(3, "count")),
    **several(evaluation.directions, "evaluation.directions", {}, size=(3, "count")),
    **several(evaluation.radial_spectrum, "evaluation.radial_spectrum", SIGNALS, **SEED_LEVEL),
    **several(
        evaluation.compare_columns,
        "evaluation.compare_columns",
        {**SETS, "names": ["a", "b", "c"]},
        **SEED_LEVEL,
        categories=({"k": [1, 2]}, "mapping", "", OPTIONAL),
    ),
    **several(
        evaluation.measure_sets,
        "evaluation.measure_sets",
        {**AGAINST, "metrics": ["mmd"]},
        **SEED_LEVEL,
    ),
    **several(
        evaluation.measure_sets,
        "evaluation.measure_sets",
        {**AGAINST, "names": ["a", "b", "c"], "metrics": ["category_tv"]},
        categories=({"k": [1, 2]}, "mapping", "", OPTIONAL),
    ),
    **several(
        evaluation.measure_sets,
        "evaluation.measure_sets",
        AGAINST,
        metrics=(["mmd", "precision"], "names", "metric", OPTIONAL),
    ),
    **several(
        evaluation.measure_classes,
        "evaluation.measure_classes",
        {**AGAINST, **LABELS, "metrics": ["mmd"]},
        **SEED_LEVEL,
    ),
    **several(
        evaluation.measure_classes,
        "evaluation.measure_classes",
        {**AGAINST, **LABELS},
        metrics=(["mmd", "precision"], "names", "metric", OPTIONAL),
    ),
}
ARGUMENTS = {
    **PLOTTING,
    **EVALUATION,
    **FILES,
    **SAMPLING,
    **NOISE,
    **EXACT,
    **MODELS,
    **PROBLEMS,
    **LEARNING,
    **SETTINGS,
}


def restored_of(observed: Any) -> Any:
    """Two draws of each observation, whose second element is unknown."""
    seen = Measurement(observed, FIRST)
    return sf.restore(LABELLED, seen, draws=2, method="inpainting", options=QUICK)
