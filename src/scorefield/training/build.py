"""From settings to the parts of a training: model, objective, batches, state, evaluator.

Everything that settings and data can be refused for is refused here, before a run writes a file.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import networks, rng
from ..conditions import ConditionSpec
from ..config import Config, Request, resolve
from ..data import Dataset, FittedUnits, Pipeline, ReadOptions, fit_units, split
from ..data import open as open_data
from ..errors import InputError
from ..execution import Execution, check_device, choose, count_layers, require_float32_eager
from ..models import FORMS, Preconditioned
from ..noise import Levels, LogNormal, LogUniform, SigmaDistribution, geometric
from ..objectives import OBJECTIVES, Objective, make_objective
from ..sampling import resolve_sampling
from .batches import Batches
from .ema import EMA
from .evaluator import Evaluator
from .optimisers import make_optimiser
from .state import TrainState

SECONDS_PER_IMAGE = 1 / 300  # rough, to decide on compiling where the budget is in images


def load_data(request: Request, data: Any = None) -> Dataset:
    """Load the data set of a run.

    Args:
        request: The settings; their group `data` names the source and how to read it.
        data: Anything that `data.open` takes, in place of the source; None: `data.source`.

    Returns:
        The data set.

    Raises:
        InputError: Where the data cannot be read or do not fit the settings.
    """
    d = request.data
    source = d.source if data is None else data
    if isinstance(source, Dataset):  # opened already, with its condition
        return open_data(source, ReadOptions.of_settings(d))
    return open_data(source, ReadOptions.of_settings(d, request.condition))


def resolve_config(request: Request, dataset: Dataset, custom_network: bool = False) -> Config:
    """Resolve the settings that a request leaves open.

    Args:
        request: The settings that the user chose.
        dataset: The data, whose shape, size and labels decide defaults.
        custom_network: Whether the user's own network is trained.

    Returns:
        The resolved settings.

    Raises:
        InputError: For settings that do not fit each other or the data.
    """
    return resolve(request, dataset.facts(custom_network=custom_network))


def sigma_distribution(config: Config) -> tuple[SigmaDistribution, Tensor | None]:
    """The training distribution of sigma.

    Args:
        config: Resolved settings.

    Returns:
        The distribution, and the ladder of noise levels (sigmas), largest first; None for no
        ladder.

    Raises:
        InputError: For a distribution over levels without a number of levels.
    """
    n = config.noise
    ladder = None if n.levels is None else geometric(n.sigma_max, n.sigma_min, n.levels)
    if n.sigma_distribution == "levels":
        if ladder is None:
            raise InputError("noise.sigma_distribution=levels needs noise.levels, 2 or more")
        return Levels(tuple(ladder.tolist())), ladder
    if n.sigma_distribution == "loguniform":
        return LogUniform(n.sigma_min, n.sigma_max), ladder
    shift = torch.tensor(n.sigma_data / 0.5).log().item()
    return LogNormal(n.mean + shift, n.std, n.sigma_min, n.sigma_max), ladder


def condition_specs(
    config: Config, dataset: Dataset, index: Tensor | None = None
) -> dict[str, ConditionSpec]:
    """What the model is conditioned on.

    Args:
        config: Resolved settings.
        dataset: The data, for their classes or vectors.
        index: The training part. Its mean and standard deviation standardise vectors, and the
            conditions record its classes and ranges. None: all.

    Returns:
        The conditions by name; empty for an unconditional model.

    Raises:
        InputError: The data have no such condition.
    """
    kind, optional = config.condition.kind, config.condition.dropout > 0
    if kind == "none":
        return {}
    if kind == "class":
        if dataset.classes is None:
            raise InputError(f"condition.kind=class needs class labels; {dataset.name} has none")
        assert dataset.labels is not None
        labels = dataset.labels if index is None else dataset.labels[index]
        counts = torch.bincount(labels, minlength=dataset.classes)
        unseen = tuple((counts == 0).nonzero().flatten().tolist())
        names = dataset.class_names
        spec = ConditionSpec("class", dataset.classes, names, optional=optional, unseen=unseen)
        return {"class": spec}
    if dataset.vectors is None:
        raise InputError(f"condition.kind=vector needs vectors; {dataset.name} has none")
    rows = dataset.vectors if index is None else dataset.vectors[index]
    std = rows.std(0, correction=0)
    scale = tuple(torch.where(std > 0, std, 1.0).tolist())
    shift, size, names = tuple(rows.mean(0).tolist()), rows.shape[1], dataset.vector_names
    low, high = tuple(rows.min(0).values.tolist()), tuple(rows.max(0).values.tolist())
    spec = ConditionSpec("vector", size, names, shift, scale, optional, low=low, high=high)
    return {"vector": spec}


def build_network(
    config: Config,
    event_shape: tuple[int, ...],
    conditions: Mapping[str, ConditionSpec],
    network: nn.Module | None = None,
) -> nn.Module:
    """Build the untrained network.

    Args:
        config: Resolved settings; the seed decides the weights.
        event_shape: Shape of one example.
        conditions: What the network is conditioned on, by name.
        network: The user's own network, which is copied with its weights; None: the network that
            the settings name.

    Returns:
        The network on the CPU, or the copy on the device of the original.

    Raises:
        InputError: For options or conditions that the network does not take.
    """
    if network is not None:
        return copy.deepcopy(network)
    name, options = config.network.name, config.network.options
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.generator(config.seed, rng.Stream.WEIGHTS).initial_seed())
        return networks.build(name, event_shape, conditions=conditions or None, **options)


def build_model(
    config: Config,
    dataset: Dataset,
    fitted: FittedUnits,
    network: nn.Module | None = None,
    index: Tensor | None = None,
) -> Preconditioned:
    """Build the untrained model, before it is moved to its device.

    Args:
        config: Resolved settings.
        dataset: The data, for their shape and classes.
        fitted: Units and moments of the training part.
        network: The user's own network, which is copied; None: the one that the settings name.
        index: The training part, as `condition_specs` takes it.

    Returns:
        The model.

    Raises:
        InputError: Where settings, data and network do not fit each other.
    """
    distribution, ladder = sigma_distribution(config)
    conditions = condition_specs(config, dataset, index)
    n, o = config.noise, config.objective
    model = FORMS[o.energy if o.name == "energy" else "score"](
        build_network(config, dataset.event_shape, conditions, network),
        dataset.event_shape,
        sigma_min=n.sigma_min,
        sigma_max=n.sigma_max,
        preconditioner=n.preconditioner,
        sigma_data=n.sigma_data,
        ladder=ladder,
        conditions=conditions,
        units=fitted.units,
        moments=fitted.moments,
    )
    if model.ladder_only and not isinstance(distribution, Levels):
        raise InputError(
            f"the {n.preconditioner} preconditioner works at fixed noise levels only: it needs "
            f"noise.sigma_distribution=levels; got {n.sigma_distribution!r}"
        )
    return model


def build_objective(config: Config) -> Objective:
    """Build the objective that the settings name.

    Args:
        config: Resolved settings.

    Returns:
        The objective, with its weight and options.
    """
    o = config.objective
    known = {field.name for field in dataclasses.fields(OBJECTIVES[o.name])}
    own = {"control_variate": o.control_variate, "slices": o.slices, "probe": o.probe}
    options = {name: value for name, value in own.items() if name in known}
    return make_objective(o.name, o.weight, config.noise.sigma_data, **options)


def choose_execution(
    config: Config,
    model: Preconditioned,
    objective: Objective,
    recorded: dict[str, Any] | None,
    planned: float | None = None,
) -> Execution:
    """Choose device, precision, compilation and threads of a run.

    A resumed run keeps the choice that it recorded. Settings that are given explicitly override
    the record.

    Args:
        config: Resolved settings.
        model: The model, for its shape and number of layers.
        objective: The objective; a second-order one needs eager float32.
        recorded: The recorded `Execution.to_dict()` of this run; None for a new run.
        planned: Seconds of work ahead where a recorded run goes on to a larger budget: whether to
            compile is then chosen again. None keeps the record.

    Returns:
        The execution, with nothing left open.

    Raises:
        InputError: For settings that do not exist on this machine, or that a second-order objective
            does not allow.
    """
    e = config.execution
    own = config.network.name == "custom"  # code that a compiler may not take: not unless asked
    kept = None if recorded is None else Execution(**recorded)
    if kept is None or planned is not None:
        known = e if kept is None else kept
        chosen = choose(
            e.device or known.device,
            e.precision or known.precision,
            e.compile or ("off" if own else None),
            e.threads or known.threads,
            planned=planned or config.seconds or (config.images or 0) * SECONDS_PER_IMAGE,
            spatial=len(model.event_shape) - 1,
            second_order=objective.second_order,
            layers=count_layers(model.network),
        )
        return chosen if kept is None else dataclasses.replace(chosen, notice=kept.notice)
    if objective.second_order:
        require_float32_eager(e.precision, e.compile)
    return dataclasses.replace(
        kept,
        device=check_device(e.device or kept.device),
        precision=e.precision or kept.precision,
        compile=kept.compile if e.compile is None else e.compile == "on",
        threads=e.threads or kept.threads,
    )


@dataclass(frozen=True)
class Setup:
    """The parts of a training, on their device. Nothing has been written.

    Attributes:
        config: Resolved settings.
        dataset: The data.
        fitted: Units and moments of the training part.
        execution: How the arithmetic runs.
        batches: The batches, a function of (seed, images).
        state: Model, objective, optimiser, averages and counters.
        evaluator: Held-out losses and previews.
    """

    config: Config
    dataset: Dataset
    fitted: FittedUnits
    execution: Execution
    batches: Batches
    state: TrainState
    evaluator: Evaluator


def build(
    config: Config,
    dataset: Dataset,
    network: nn.Module | None = None,
    recorded: dict[str, Any] | None = None,
    planned: float | None = None,
    notice: Callable[[str], None] | None = None,
) -> Setup:
    """Build the parts of a training and check them against each other.

    The model goes to its device first (`Execution.apply`). Batches, averages, optimiser and
    evaluator are made there.

    Args:
        config: Resolved settings.
        dataset: The data.
        network: The user's own network, which is copied; None: the one that the settings name.
        recorded: The recorded execution settings of this run; None for a new run.
        planned: As for `choose_execution`.
        notice: Receives the reason where compiling fails; None: a RuntimeWarning.

    Returns:
        The parts, on their device. Nothing has been written to the disk.

    Raises:
        InputError: Where these settings cannot train a model of these data.
    """
    d = config.data
    train, held_out = split(dataset.labels, len(dataset), config.seed, d.held_out)
    fitted = fit_units(dataset, train, config.noise.sigma_data, d.units, d.dequantise)
    model = build_model(config, dataset, fitted, network, train)
    objective = build_objective(config)
    execution = choose_execution(config, model, objective, recorded, planned)
    execution.apply(model, config.execution.compile == "on", notice)
    pipeline = Pipeline(
        dataset,
        train,
        fitted.units,
        config.seed,
        dequantise=d.dequantise,
        flip=d.flip,
        condition=config.condition.kind,
        device=execution.device,
    )
    distribution, _ = sigma_distribution(config)
    averages = [
        EMA(model.network, config.ema.kind, width, config.ema.warmup)
        for width in config.ema.profiles
    ]
    state = TrainState(model, objective, make_optimiser(config.optim, model.network), averages)
    evaluator = Evaluator(
        objective,
        *pipeline.held_out(held_out[: Evaluator.LARGEST]),
        distribution=distribution,
        seed=config.seed,
        unconditional=config.condition.dropout > 0,
    )
    evaluator.try_out(model)
    _check_sampling(config, model)
    return Setup(
        config,
        dataset,
        fitted,
        execution,
        Batches(pipeline, distribution, config.seed),
        state,
        evaluator,
    )


def _check_sampling(config: Config, model: Preconditioned) -> None:
    """Refuse a sampling recipe for the card that could not be carried out."""
    s = config.sampling
    resolve_sampling(
        model,
        sampler=s.sampler,
        nfe=s.nfe,
        steps_per_level=s.steps_per_level,
        start=s.start,
        final=s.final,
        options=s.options,
    )
