"""`resolve`: from what a user asks for to the settings of a run, given facts about the data.

Every choice has a sentence that gives its reason.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from .facts import DataFacts
from .groups.model import SIGMA_DATA, SIGMA_MAX, SIGMA_MIN
from .groups.whole import Config, Request
from .sizes import (
    IMAGE_BATCHES,
    ROW_BATCHES,
    batch_reason,
    best_batch,
    best_scale,
    lines,
    rounded,
    scale_reason,
)

DEFAULT_SECONDS = 300.0


@dataclass(frozen=True)
class Usual:
    """The sampler of models trained on a continuous range of noise levels.

    Attributes:
        sampler: Its name.
        nfe: Evaluations a sample.
        option: The option that is set.
        value: Its value.
        reason: A sentence.
    """

    sampler: str
    nfe: int
    option: str
    value: Any
    reason: str


IMAGES = Usual(
    "matched-sde",
    32,
    "eta",
    3.0,
    "On images the reverse SDE corrects errors of a trained network (docs/log.md).",
)
VECTORS = Usual(
    "unipc",
    32,
    "p",
    3,
    "On tables and points UniPC reaches the converged flow first (docs/samplers.md).",
)

# Rows of a table in the default perceptron that a processor of two cores trains on in a second.
ROWS_A_SECOND = 10_000.0
# A table that is seen so often is memorised; dropout delays that (docs/log.md).
MANY_PASSES, DROPOUT = 1000.0, 0.3

# Network evaluations of annealed Langevin dynamics in a planned recipe: NCSNv2's 232 levels of 5.
LANGEVIN_EVALUATIONS, MOST_STEPS = 1160, 100

# (setting, what it needs, whether the request has that)
NEEDS: tuple[tuple[str, str, Callable[[dict[str, Any]], bool]], ...] = (
    (
        "noise.mean",
        "noise.sigma_distribution=lognormal",
        lambda c: c["noise"]["sigma_distribution"] == "lognormal",
    ),
    (
        "noise.std",
        "noise.sigma_distribution=lognormal",
        lambda c: c["noise"]["sigma_distribution"] == "lognormal",
    ),
    (
        "objective.control_variate",
        "objective.name=denoising or energy",
        lambda c: c["objective"]["name"] in ("denoising", "energy"),
    ),
    (
        "objective.slices",
        "objective.name=sliced or sliced-vr",
        lambda c: c["objective"]["name"] in ("sliced", "sliced-vr"),
    ),
    (
        "objective.probe",
        "objective.name=sliced or sliced-vr",
        lambda c: c["objective"]["name"] in ("sliced", "sliced-vr"),
    ),
    ("objective.energy", "objective.name=energy", lambda c: c["objective"]["name"] == "energy"),
    ("optim.muon_scale", "optim.name=muon", lambda c: c["optim"]["name"] == "muon"),
    ("ema.warmup", "ema.kind=halflife", lambda c: c["ema"]["kind"] == "halflife"),
    ("ema.snapshots", "ema.kind=power", lambda c: c["ema"]["kind"] == "power"),
    (
        "condition.source",
        "condition.kind=class or vector",
        lambda c: c["condition"]["kind"] != "none",
    ),
    (
        "condition.dropout",
        "condition.kind=class or vector",
        lambda c: c["condition"]["kind"] != "none",
    ),
    ("guard.limit", "guard.action=skip", lambda c: c["guard"]["action"] == "skip"),
)


@dataclass(frozen=True)
class Resolution:
    """Resolved settings, and why each setting that was left open has its value.

    Attributes:
        config: the resolved settings.
        reasons: from the name of a setting to a sentence.
    """

    config: Config
    reasons: dict[str, str]


@dataclass
class _Choices:
    """Settings being resolved: nested values, and the reasons of what was chosen."""

    values: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)

    def get(self, path: str) -> Any:
        group, _, name = path.rpartition(".")
        return (self.values[group] if group else self.values)[name]

    def choose(self, path: str, value: Any, reason: str) -> None:
        """Set a setting that the request leaves open."""
        if self.get(path) is None:
            group, _, name = path.rpartition(".")
            (self.values[group] if group else self.values)[name] = value
            self.reasons[path] = reason


def resolve(request: Request, facts: DataFacts) -> Config:
    """Choose every setting that a request leaves open.

    Args:
        request: what the user asks for; explicit values are kept, 0 included.
        facts: facts about the data set.

    Returns:
        The resolved settings.

    Raises:
        InputError: settings contradict each other or the data.
    """
    return resolve_with_reasons(request, facts).config


def resolve_with_reasons(request: Request, facts: DataFacts) -> Resolution:
    """Choose every setting that a request leaves open, with the reasons.

    Args:
        request: what the user asks for; explicit values are kept, 0 included.
        facts: facts about the data set.

    Returns:
        The resolved settings, and a sentence for each choice.

    Raises:
        InputError: settings contradict each other or the data.
    """
    _check_data(request, facts)
    choices = _Choices(request.model_dump())
    if request.images is None:
        choices.choose("seconds", DEFAULT_SECONDS, "Five minutes is the default budget.")
    _choose_range(choices, facts)
    _choose_noise(choices, facts)
    _choose_levels(choices, facts)
    _choose_network(choices, facts)
    _choose_dropout(choices, facts)
    _choose_size(choices, facts)
    _choose_objective(choices)
    _choose_optimiser(choices, facts)
    _choose_sampling(choices, facts)
    _choose_steps(choices, facts)
    _check_needs(request, choices.values)
    return Resolution(Config.from_dict(choices.values), choices.reasons)


def _kind(facts: DataFacts) -> str:
    return "vectors" if facts.vectors else "signals, images and volumes"


def _check_data(request: Request, facts: DataFacts) -> None:
    """Refuse what does not fit the data."""
    name = request.network.name
    if facts.custom_network and name not in (None, "custom"):
        raise InputError(
            f"a network of your own was passed, and network.name={name} names another one; leave "
            "network.name out"
        )
    if name == "custom" and not facts.custom_network:
        raise InputError(
            "network.name=custom needs a network passed from Python: fit(..., network=...)"
        )
    if facts.custom_network and request.network.options:
        raise InputError(
            "network.options are for the networks of this package; got "
            f"{', '.join(request.network.options)} with a network of your own"
        )
    kind = request.condition.kind
    if (kind == "class" and facts.classes is None) or (kind == "vector" and not facts.vector):
        what = "class labels" if kind == "class" else "vectors"
        raise InputError(
            f"condition.kind={kind} needs data with {what}, and these data have none; "
            "name them with condition.source"
        )
    if request.data.flip and not facts.image:
        raise InputError(
            f"data.flip mirrors images; these data are of shape {facts.event_shape} and no images"
        )


def _choose_network(choices: _Choices, facts: DataFacts) -> None:
    if facts.custom_network:
        choices.choose("network.name", "custom", "A network was passed.")
    name = "mlp" if facts.vectors else "unet"
    choices.choose("network.name", name, f"{name} is the network for {_kind(facts)}.")
    network, noise = choices.values["network"], choices.values["noise"]
    levels = noise["levels"]
    if network["name"] == "refinenet" and levels is not None and "levels" not in network["options"]:
        network["options"] = {**network["options"], "levels": levels}
        choices.reasons["network.options.levels"] = "One row of the tables for each noise level."


def _choose_dropout(choices: _Choices, facts: DataFacts) -> None:
    """Dropout of the perceptron for tables that are seen very often."""
    network = choices.values["network"]
    if network["name"] != "mlp" or not facts.vectors or "dropout" in network["options"]:
        return
    rows = facts.count * (1 - choices.get("data.held_out"))
    seen = choices.get("images") or ROWS_A_SECOND * choices.get("seconds")
    if seen / rows >= MANY_PASSES:
        network["options"] = {**network["options"], "dropout": DROPOUT}
        choices.reasons["network.options.dropout"] = (
            f"About {rounded(seen / rows)} passes over {rows:,.0f} rows: without dropout they "
            "would be memorised."
        )


def _choose_size(choices: _Choices, facts: DataFacts) -> None:
    """Scale of the U-Net and batch, by what the time budget has room for."""
    network, seconds = choices.values["network"], choices.get("seconds")
    batches = ROW_BATCHES if facts.vectors else IMAGE_BATCHES
    found = lines(facts, choices.get("execution.device")) if seconds is not None else {}
    options = network["options"]
    if network["name"] == "unet" and found and not {"scale", "widths"} & options.keys():
        scale = best_scale(found, seconds, choices.get("optim.batch") or batches[0])
        if facts.step_seconds or scale < max(found):
            network["options"] = {**options, "scale": scale}
            choices.reasons["network.options.scale"] = scale_reason(facts, found, scale, seconds)
    line = facts.step_seconds.get(float(network["options"].get("scale", 1.0)))
    if line is not None and seconds is not None:
        batch = best_batch(line, seconds, batches)
        if batch < batches[0]:
            choices.choose("optim.batch", batch, batch_reason(line, seconds, batch))
    kind = _kind(facts)
    choices.choose("optim.batch", batches[0], f"{batches[0]:,} examples per step for {kind}.")


def _choose_range(choices: _Choices, facts: DataFacts) -> None:
    """sigma_min, sigma_max and sigma_data: measured where there is a plan, else fixed numbers."""
    scales = facts.scales
    given = choices.get("data.units") != "standardise"
    if scales is not None and given and choices.get("noise.preconditioner") == "edm":
        reason = "The data's own standard deviation: these model units do not scale the data."
        choices.choose("noise.sigma_data", scales.data_std, reason)
    choices.choose("noise.sigma_data", SIGMA_DATA, "Data are scaled to it.")
    if scales is not None:
        choices.choose("noise.sigma_max", scales.sigma_max, scales.sigma_max_reason)
        choices.choose("noise.sigma_min", scales.sigma_min, scales.sigma_min_reason)
    source = "as Karras et al. 2022 choose it; `scorefield plan` measures the data."
    choices.choose("noise.sigma_max", SIGMA_MAX, f"{SIGMA_MAX:g}, {source}")
    choices.choose("noise.sigma_min", SIGMA_MIN, f"{SIGMA_MIN:g}, {source}")


def _choose_levels(choices: _Choices, facts: DataFacts) -> None:
    """The number of noise levels of a planned ladder (NCSNv2, Technique 2)."""
    from ..noise import level_count

    scales = facts.scales
    if scales is None or choices.get("noise.sigma_distribution") != "levels":
        return
    high, low = choices.get("noise.sigma_max"), choices.get("noise.sigma_min")
    if high > low:
        levels = level_count(high, low, scales.elements)
        choices.choose("noise.levels", levels, "Technique 2 of Song & Ermon 2020.")


def planned_steps(sigma_max: float, sigma_min: float, levels: int) -> tuple[int, float, float]:
    """Steps a level and step size of annealed Langevin dynamics (NCSNv2, Technique 4).

    Args:
        sigma_max: largest noise level.
        sigma_min: smallest noise level.
        levels: number of geometric levels, 2 or more.

    Returns:
        T, epsilon, and the variance of a level that they reach, in units of the level's own.
    """
    from ..noise import langevin_step

    steps = min(MOST_STEPS, max(1, LANGEVIN_EVALUATIONS // levels))
    ratio = (sigma_max / sigma_min) ** (1 / (levels - 1))
    return steps, *langevin_step(sigma_min, ratio, steps)


def _choose_steps(choices: _Choices, facts: DataFacts) -> None:
    """Steps and step size of annealed Langevin dynamics in a plan."""
    from ..noise import langevin_step

    sampling, levels = choices.values["sampling"], choices.get("noise.levels")
    if facts.scales is None or levels is None or sampling["sampler"] != "annealed-langevin":
        return
    high, low = choices.get("noise.sigma_max"), choices.get("noise.sigma_min")
    steps = sampling["steps_per_level"] or planned_steps(high, low, levels)[0]
    reason = f"About {LANGEVIN_EVALUATIONS:,} network evaluations in all, as NCSNv2."
    choices.choose("sampling.steps_per_level", steps, reason)
    if "epsilon" not in sampling["options"]:
        ratio = (high / low) ** (1 / (levels - 1))
        epsilon, _ = langevin_step(low, ratio, steps)
        sampling["options"] = {**sampling["options"], "epsilon": epsilon}
        choices.reasons["sampling.options.epsilon"] = "Technique 4 of Song & Ermon 2020."


def _choose_noise(choices: _Choices, facts: DataFacts) -> None:
    if choices.get("noise.preconditioner") == "ncsn":
        choices.choose(
            "noise.sigma_distribution",
            "levels",
            "The ncsn preconditioner works at fixed noise levels.",
        )
    choices.choose(
        "noise.sigma_distribution", "lognormal", "Most training goes where the loss can fall."
    )
    if choices.get("noise.sigma_distribution") != "lognormal":
        why = "Not used: sigma has another distribution."
        choices.choose("noise.mean", 0.0, why)
        choices.choose("noise.std", 1.0, why)
    mean, std = (-1.2, 1.2) if facts.vectors else (-0.2, 1.0)
    source = "as Karras et al. 2022 choose it" if facts.vectors else "measured, docs/log.md"
    choices.choose("noise.mean", mean, f"{mean:g} for {_kind(facts)}, {source}.")
    choices.choose("noise.std", std, f"{std:g} for {_kind(facts)}, {source}.")


def _choose_objective(choices: _Choices) -> None:
    denoising = choices.get("objective.name") in ("denoising", "energy")
    weight = "edm" if denoising else "ncsn"
    reason = (
        "The edm weight evens out the denoising loss over sigma."
        if denoising
        else "The ncsn weight keeps implicit score matching finite as sigma goes to 0."
    )
    choices.choose("objective.weight", weight, reason)


def _choose_optimiser(choices: _Choices, facts: DataFacts) -> None:
    if choices.get("network.name") == "custom":
        choices.choose(
            "optim.name", "adamw", "A custom network need not declare which weights muon may step."
        )
    name = "adamw" if facts.vectors else "muon"
    choices.choose("optim.name", name, f"{name} is the optimiser for {_kind(facts)}.")
    decay = "cosine" if facts.vectors else "linear"
    choices.choose("optim.decay", decay, f"{decay} is the schedule for {_kind(facts)}.")


def _choose_sampling(choices: _Choices, facts: DataFacts) -> None:
    sampling = choices.values["sampling"]
    continuous = choices.get("noise.levels") is None
    usual = VECTORS if facts.vectors else IMAGES
    if continuous and sampling["sampler"] in (None, usual.sampler):
        choices.choose("sampling.sampler", usual.sampler, usual.reason)
        enough = f"{usual.nfe} evaluations suffice for {_kind(facts)}."
        choices.choose("sampling.nfe", usual.nfe, enough)
        if usual.option not in sampling["options"]:
            sampling["options"] = {**sampling["options"], usual.option: usual.value}
            choices.reasons[f"sampling.options.{usual.option}"] = usual.reason
    if choices.get("noise.preconditioner") == "ncsn":
        reason = "The model has fixed noise levels, which Langevin dynamics visits in turn."
        choices.choose("sampling.sampler", "annealed-langevin", reason)
    choices.choose("sampling.sampler", "heun", "Heun samples without tuning.")


def _check_needs(request: Request, values: dict[str, Any]) -> None:
    """Refuse settings that were given but would have no effect. A Config holds choices too."""
    if isinstance(request, Config):
        return
    given = request.model_dump(exclude_unset=True)
    for path, needed, holds in NEEDS:
        group, _, name = path.partition(".")
        value = given.get(group, {}).get(name)
        default = type(getattr(request, group)).model_fields[name].default
        if value is not None and value != default and not holds(values):
            raise InputError(f"{path}={value} has an effect only with {needed}")
