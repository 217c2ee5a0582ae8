"""The open settings of a new run, chosen from measurements of the data and of this machine.

    distances between training examples   -> range of noise levels, levels      (data.distances)
    seconds of a short training step      -> scale of the U-Net, batch          (training.cost)

`config.resolve_with_reasons` makes the choices from the measurements of this module. `train`, `fit`
and `scorefield plan` call `choose`. A run stores what was chosen, so that it is measured only once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from ..config import (
    Config,
    DataFacts,
    Request,
    Resolution,
    Scales,
    keep_open,
    override,
    resolve_with_reasons,
)
from ..config.groups.model import SIGMA_DATA
from ..config.sizes import budget_images, rounded
from ..data import Dataset, FittedUnits, Pipeline, fit_units, split
from ..data.distances import Distances, finest_step, measure, scales_of
from ..errors import InputError
from ..networks.unet import multiply_adds
from ..progress import duration
from .cost import step_seconds

RANGE = ("sigma_min", "sigma_max", "sigma_data", "levels")  # chosen from the distances
SIZES = {"scale", "widths"}  # options of the U-Net that fix its size


@dataclass(frozen=True)
class Choice:
    """Resolved settings, and the measurements that they were chosen from.

    Attributes:
        resolution: The settings with the reason of each choice.
        facts: The facts about the data, with what was measured.
        distances: Distances between training examples; None where they were not measured.
        fitted: Units and moments of the training part; None where nothing was measured.
        notes: One sentence for each thing that could not be measured, with the reason.
    """

    resolution: Resolution
    facts: DataFacts
    distances: Distances | None = None
    fitted: FittedUnits | None = None
    notes: tuple[str, ...] = ()

    @property
    def config(self) -> Config:
        """The resolved settings."""
        return self.resolution.config

    def summary(self) -> list[str]:
        """What was measured and chosen, in three lines after the notes; [] without measurements.

        The lines are the range of noise levels, the network with its batch, and the budget.
        """
        if self.facts.scales is None and not self.facts.step_seconds:
            return list(self.notes)
        config, reasons = self.config, self.resolution.reasons
        n = config.noise
        why = reasons.get("noise.sigma_max") or reasons.get("noise.sigma_min") or "As given."
        options = "".join(f", {k} {v}" for k, v in config.network.options.items())
        named = [reasons[k] for k in reasons if k.startswith("network.")]
        named += [reasons[k] for k in ("optim.batch",) if k in reasons]
        return [
            *self.notes,
            f"noise levels from {n.sigma_max:.3g} to {n.sigma_min:.3g}, model units: {why}",
            f"network {config.network.name}{options}, batch {config.optim.batch:,}: "
            + (" ".join(named) or "As given."),
            f"{self._budget()}. `scorefield plan` gives the reasons; plan=none takes fixed numbers",
        ]

    def _budget(self) -> str:
        config = self.config
        if config.seconds is None:
            return f"budget {config.images:,} examples"
        seen = budget_images(self.facts, config.network.options, config.optim.batch, config.seconds)
        room = "" if seen is None else f", room for about {rounded(seen)} examples here"
        return f"budget {duration(config.seconds)}{room}"


def choose(
    request: Request,
    dataset: Dataset,
    network: nn.Module | None = None,
    step: bool = True,
    whole: bool = False,
) -> Choice:
    """Resolve the settings of a new run, from measurements where the request leaves them open.

    Args:
        request: The settings. `plan=none` takes fixed numbers and measures nothing.
        dataset: The data.
        network: A network of the user's own, or None.
        step: Whether a training step may be measured.
        whole: Whether to measure all distances that a plan shows, also where nothing is left open.

    Returns:
        The settings, with their reasons and what was measured.

    Raises:
        InputError: Settings contradict each other or the data; with `whole` also where the data
            have no distances.
    """
    facts = dataset.facts(custom_network=network is not None)
    if request.plan == "none" and not whole:
        return Choice(resolve_with_reasons(request, facts), facts)
    distances = fitted = None
    notes: tuple[str, ...] = ()
    if whole or has_open_range(request):
        try:
            train, fitted = _training_part(request, dataset)
            distances, scales = _scales(request, dataset, train, fitted, whole)
            facts = replace(facts, scales=scales)
        except InputError as problem:
            if whole:
                raise
            notes = (f"the noise levels are fixed numbers, not measured ones: {problem}",)
    resolution = resolve_with_reasons(request, facts)
    if step and _has_open_size(request, resolution.config):
        found = _step_seconds(request, resolution.config, dataset, network)
        facts = replace(facts, step_seconds=found)
        resolution = resolve_with_reasons(request, facts)
    return Choice(resolution, facts, distances, fitted, notes)


def has_open_range(request: Request) -> bool:
    """Whether a request leaves open a setting that the distances decide.

    Args:
        request: The settings.

    Returns:
        True where noise levels, their number or sigma_data are to be chosen.
    """
    n = request.noise
    own = request.data.units != "standardise" and n.preconditioner == "edm"
    return (
        None in (n.sigma_min, n.sigma_max)
        or (n.levels is None and n.sigma_distribution == "levels")
        or (n.sigma_data is None and own)
    )


def _has_open_size(request: Request, config: Config) -> bool:
    """Whether a request leaves open what the seconds of a training step decide."""
    if config.seconds is None or config.network.name == "custom":
        return False
    sized = bool(SIZES & request.network.options.keys())
    return request.optim.batch is None or (config.network.name == "unet" and not sized)


def _step_seconds(
    request: Request, config: Config, dataset: Dataset, network: nn.Module | None
) -> dict[float, tuple[float, float]]:
    """Measured seconds of a step of each size that the request allows."""
    own = request.network.options
    if config.network.name != "unet" or "widths" in own:
        return step_seconds(config, dataset, network)
    scales = dataset.facts().unet_costs
    if "scale" in own:
        scale = float(own["scale"])
        scales = {scale: multiply_adds(dataset.event_shape, scale)}
    return step_seconds(config, dataset, network, scales)


def _training_part(request: Request, dataset: Dataset) -> tuple[Tensor, FittedUnits]:
    """The training part, and its units and moments."""
    train, _ = split(dataset.labels, len(dataset), request.seed, request.data.held_out)
    target = request.noise.sigma_data or SIGMA_DATA
    d = request.data
    return train, fit_units(dataset, train, target, d.units, d.dequantise)


def _scales(
    request: Request, dataset: Dataset, train: Tensor, fitted: FittedUnits, whole: bool
) -> tuple[Distances, Scales]:
    """Distances between training examples, and the noise scales that follow."""
    dequantise = request.data.dequantise
    step = finest_step(dataset, fitted, dequantise)
    pipeline = Pipeline(dataset, train, fitted.units, request.seed, dequantise=dequantise)
    nearest = whole or step is None
    found = measure(dataset, train, fitted, pipeline, nearest=nearest, collapse=whole)
    return found, scales_of(found, fitted, step)


def of_run(
    request: Request, dataset: Dataset, network: nn.Module | None, stored: Mapping[str, Any]
) -> Config:
    """Resolve the settings of an existing run: its choices stay, and nothing is measured.

    Args:
        request: The settings of the present command.
        dataset: The data.
        network: A network of the user's own, or None.
        stored: The resolved settings of the run, read from JSON.

    Returns:
        The settings. Where the request leaves open a setting that decides the weights, it is the
        run's.

    Raises:
        InputError: Settings contradict each other or the data.
    """
    facts = dataset.facts(custom_network=network is not None)
    known = stored.get("noise") or {}
    asked = request.noise.model_dump()
    kept = {f"noise.{k}": known[k] for k in RANGE if asked[k] is None and known.get(k) is not None}
    planned = stored.get("plan", "none") != "none"
    if planned and {"sigma_max", "sigma_min", "sigma_data"} <= known.keys():
        why = "As the run has it."
        low, high, std = (float(known[k]) for k in ("sigma_min", "sigma_max", "sigma_data"))
        facts = replace(facts, scales=Scales(1, std, high, why, low, why))
    config = resolve_with_reasons(override(request, kept), facts).config
    return keep_open(config, request, stored)
