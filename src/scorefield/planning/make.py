"""`plan`: measure the data, resolve the settings from what was measured, give the reasons."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..config import Config, Request, Scales, override
from ..config import preset as find_preset
from ..config.resolve import MANY_PASSES, NEEDS, Resolution
from ..config.sizes import FEW_STEPS
from ..data import FittedUnits
from ..data.distances import Distances
from ..errors import InputError
from ..exact import ExactDensity
from ..models import ScoreModel
from ..progress import duration
from ..training.build import load_data, sigma_distribution
from ..training.choices import SIZES, choose
from ..training.cost import Cost, measure_cost
from ..training.fit import read_arguments
from ..values import mapping
from . import rows
from .checks import Warned, data_warnings, range_warnings, visible
from .density import plan_density
from .picture import Chart
from .result import Line, Plan, facts_of_data

# Settings of a preset that a plan chooses anew; where the user gives them they stay.
SCALES = ("sigma_min", "sigma_max", "sigma_data", "levels")
# Settings that a plan passes to training, besides those that were given.
PLANNED = {
    "noise": ("sigma_distribution", "mean", "std", *SCALES),
    "network": ("name", "options"),
    "optim": ("batch",),
}


def plan(
    data: Any,
    preset: str = "fast",
    budget: str | float | None = None,
    images: str | int | None = None,
    seed: int = 0,
    condition: str | None = None,
    network: nn.Module | None = None,
    settings: Mapping[str, Any] | None = None,
    measure_step: bool = True,
) -> Plan:
    """Plan a training: noise levels from the data's distances, network, budget, with reasons.

    Args:
        data: Anything that `sf.fit` takes; or an exact density, whose noise levels and steps follow
            from its moments and components.
        preset: Settings to start from; the plan chooses its scales anew.
        budget: Wall time of the training, as for `sf.fit`; None: the preset's.
        images: A budget in examples seen, in place of `budget`.
        seed: Decides the held-out part, as for `sf.fit`.
        condition: "class" or None.
        network: A network of your own.
        settings: Settings that stay as they are given, {"noise.sigma_max": 50} for example.
        measure_step: Whether a training step is measured for parameters, memory and time.

    Returns:
        The plan. print(plan) shows it, `plan.picture` draws it, `plan.settings` go to `sf.fit`.

    Raises:
        InputError: The data cannot be read, too few examples differ, or settings contradict each
            other.

    Example:
        plan = sf.plan("digits", budget="2m")
        sf.fit("digits", "runs/digits", settings=plan.settings)
    """
    if isinstance(data, ScoreModel):
        if not isinstance(data, ExactDensity):
            raise InputError(
                f"a plan needs data, or an exact density such as sf.exact.GaussianMixture; got a "
                f"{type(data).__name__}, whose noise levels are fixed already"
            )
        return plan_density(data)
    named, given = read_arguments(data, budget, images, seed)
    if condition is not None:
        given["condition.kind"] = condition
    if network is not None and not isinstance(network, nn.Module):
        raise InputError(f"network must be an nn.Module; got a {type(network).__name__}")
    request = override(open_scales(preset), given)
    request = override(request, mapping({} if settings is None else settings, "settings"))
    return plan_request(request, None if named else data, network, measure_step)


def open_scales(preset: str) -> Request:
    """A preset whose noise levels and step sizes are left to be chosen.

    Args:
        preset: Name of the preset.

    Returns:
        The request.

    Raises:
        InputError: There is no such preset.
    """
    values = find_preset(preset).model_dump(exclude_unset=True)
    for name in SCALES:
        values.get("noise", {}).pop(name, None)
    sampling = values.get("sampling", {})
    sampling.pop("steps_per_level", None)
    if "epsilon" in sampling.get("options", {}):
        sampling["options"] = {k: v for k, v in sampling["options"].items() if k != "epsilon"}
    return Request.from_dict(values)


def plan_request(
    request: Request,
    data: Any = None,
    network: nn.Module | None = None,
    measure_step: bool = True,
) -> Plan:
    """Plan a training from a request.

    Args:
        request: The settings; what is given stays. `open_scales` makes one from a preset.
        data: Anything that `data.open` takes, in place of `data.source`; None: that source.
        network: A network of the user's own, or None.
        measure_step: Whether a training step is measured.

    Returns:
        The plan.

    Raises:
        InputError: As for `plan`.
    """
    dataset = load_data(request, data)
    choice = choose(request, dataset, network, measure_step, whole=True)
    facts, resolution, config = choice.facts, choice.resolution, choice.config
    distances, fitted, scales = choice.distances, choice.fitted, facts.scales
    assert distances is not None and fitted is not None and scales is not None
    statistic = visible(distances, fitted.moments, config.noise.sigma_max)
    cost = None
    if measure_step:
        work = dict(facts.unet_costs).get(float(config.network.options.get("scale", 1.0)), 0)
        line = facts.step_seconds.get(float(config.network.options.get("scale", 1.0)))
        cost = measure_cost(config, dataset, network, work if not facts.vectors else 0.0, line)
    warnings = [
        *range_warnings(config, distances, statistic),
        *data_warnings(dataset, distances, fitted),
        *_budget_warnings(config, distances, cost),
    ]
    law = rows.law_draws(sigma_distribution(config)[0])
    lines = [
        *rows.data_lines(facts, fitted, facts.count - distances.total),
        *_lines(resolution, scales, fitted, distances, law, statistic, cost),
    ]
    n = config.noise
    chart = Chart(
        dataset.name,
        distances.pairs,
        distances.nearest,
        n.sigma_min,
        n.sigma_max,
        law,
        distances.collapse,
    )
    return Plan(
        dataset.name,
        tuple(lines),
        tuple(warnings),
        planned_settings(request, config),
        chart,
        None if cost is None else cost.to_dict(),
        facts_of_data(dataset),
    )


def _lines(
    resolution: Resolution,
    scales: Scales,
    fitted: FittedUnits,
    distances: Distances,
    law: Tensor,
    statistic: float,
    cost: Cost | None,
) -> list[Line]:
    """The lines after those of the data."""
    config, reasons = resolution.config, resolution.reasons
    why = reasons.get("noise.mean", reasons.get("noise.sigma_distribution", "As given."))
    if config.noise.sigma_distribution != "lognormal":
        why = reasons.get("noise.sigma_distribution", "As given.")
    return [
        *rows.scale_lines(config, scales, fitted),
        *rows.level_lines(config, scales),
        rows.start_line(config.noise.sigma_max, statistic),
        *rows.law_lines(config, law, distances, why),
        *rows.training_lines(config, cost, reasons),
        *rows.budget_lines(config, distances, cost),
        rows.sampler_line(config, reasons),
    ]


def _budget_warnings(config: Config, distances: Distances, cost: Cost | None) -> list[Warned]:
    """Warnings about budgets that are too short, or so long that examples are memorised."""
    if cost is None:
        return []
    found = []
    steps = cost.images / config.optim.batch
    if config.network.name == "unet" and steps < FEW_STEPS:
        needed = FEW_STEPS * cost.seconds_a_step
        found.append(
            Warned(
                "short budget",
                f"the budget has time for {steps:,.0f} steps, and a U-Net has hardly begun below "
                f"{FEW_STEPS:,.0f} (a rule of thumb); these take {duration(needed)} here. Give a "
                "longer --budget",
            )
        )
    passes = cost.images / distances.total
    if passes >= MANY_PASSES:
        found.append(
            Warned(
                "memorisation",
                f"the budget is {passes:,.0f} passes over {distances.total:,} training examples: "
                "single examples are likely memorised before it ends. Training keeps the point "
                "where the held-out loss was best: use a shorter budget, or more examples",
            )
        )
    return found


def planned_settings(request: Request, config: Config) -> dict[str, Any]:
    """The settings of a plan, for `config.override`.

    Args:
        request: What was given.
        config: What it was resolved to, with measured scales.

    Returns:
        Nested settings: the given ones without the source of the data, and the planned ones.
        A request from them resolves to `config` without the data's distances.
    """
    values = request.to_dict(explicit=True)
    values.get("data", {}).pop("source", None)
    resolved = config.to_dict()
    for group, names in PLANNED.items():
        mine = values.setdefault(group, {})
        mine |= {name: resolved[group][name] for name in names}
    if config.network.name == "custom":
        values["network"].pop("name")
    if config.sampling.sampler == "annealed-langevin":
        sampling = values.setdefault("sampling", {})
        sampling |= {k: resolved["sampling"][k] for k in ("steps_per_level", "options")}
    for path, _, holds in NEEDS:
        group, _, name = path.partition(".")
        if not holds(resolved):
            values.get(group, {}).pop(name, None)
    if config.network.name == "unet" and not SIZES & config.network.options.keys():
        values["network"]["options"] = {**config.network.options, "scale": 1.0}
    budget = "seconds" if config.images is None else "images"
    values[budget] = resolved[budget]
    return _without_open(values)


def _without_open(values: dict[str, Any]) -> dict[str, Any]:
    """Settings without those that are None and groups that are empty."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        kept = _without_open(value) if isinstance(value, dict) and name != "options" else value
        if kept is not None and kept != {}:
            found[name] = kept
    return found
