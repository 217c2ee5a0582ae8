"""Units and moments, fitted to the training part of a data set.

    standardise   model = (data - mean) / (sd / target), per channel, or per column of tables; of
                  columns of few values the same of their ranks (`ranks`)
    unit          model = data, which lie in [0, 1] (NCSN, Song and Ermon 2019)
    logit         model = logit(lambda + (1 - 2 lambda) data), lambda = 1e-6, data in [0, 1]
    none          model = data

The data are those that training sees. Level k of L quantisation levels is (k + u) / L with u
uniform on (0, 1), which has mean (k + 1/2) / L and adds 1 / (12 L²) to the variance; it is
k / (L - 1) where dequantise is "none". Under "logit" the moments are those of the middles of the
bins.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..models import Moments
from ..ranks import Ranks
from ..units import Quantisation, Units
from .dataset import Dataset
from .statistics import Statistics, accumulate, blocks, by_channel

LAMBDA = 1e-6
KINDS = ("standardise", "unit", "logit", "none")
DEQUANTISE = ("uniform", "none")


@dataclass(frozen=True)
class FittedUnits:
    """The result of `fit_units`.

    Attributes:
        units: The map between data and model units, with the data's type and quantisation.
        moments: Mean and variance per element, in model units, of what training sees.
        constant: The names of constant columns, or "channel k", to be reported.
    """

    units: Units
    moments: Moments
    constant: tuple[str, ...]


def quantisation_of(dataset: Dataset, dequantise: str) -> Quantisation | None:
    """How stored values of the data set become floats; None for continuous data.

    Raises:
        InputError: `dequantise` is neither "uniform" nor "none".
    """
    if dequantise not in DEQUANTISE:
        raise InputError(f"dequantise must be uniform or none; got {dequantise!r}")
    if dataset.quantisation_levels is None:
        return None
    return Quantisation(dataset.quantisation_levels, dequantised=dequantise == "uniform")


def fit_units(
    dataset: Dataset,
    index: Tensor,
    target: float = 0.5,
    kind: str = "standardise",
    dequantise: str = "uniform",
) -> FittedUnits:
    """Units of `kind` and moments in model units, from the examples at `index` (the training part).

    Args:
        dataset: The data.
        index: int64 (N,), at least one example.
        target: The standard deviation in model units under "standardise".
        kind: "standardise", "unit", "logit" or "none".
        dequantise: "uniform" or "none", as in `Pipeline`.

    Returns:
        The units, the moments in model units, and the names of what never changes.

    Raises:
        InputError: An argument is out of range, or "unit" or "logit" meet data outside [0, 1].
    """
    if kind not in KINDS:
        raise InputError(f"units must be one of {', '.join(KINDS)}; got {kind!r}")
    if len(index) == 0:
        raise InputError("units are fitted to at least one example; got an empty index")
    if not (math.isfinite(target) and target > 0):
        raise InputError(f"the target standard deviation must be above zero; got {target:g}")
    quantisation = quantisation_of(dataset, dequantise)
    read = _reader(dataset, quantisation)
    stored = accumulate(read, index, dataset.event_shape)
    steps = dataset.steps if dequantise == "uniform" else None
    data = _with_dequantisation(stored, quantisation, steps)
    pooled = by_channel(data)
    varies = by_channel(stored).variance > 0  # dequantisation noise alone leaves a channel constant
    ranks = _ranks(dataset, index, varies) if kind == "standardise" and steps is not None else {}
    data, pooled = (_of_ranks(found, ranks) for found in (data, pooled))
    std = torch.where(varies, pooled.variance.sqrt(), 0.0)
    standard = Units.standardising(pooled.mean, std, target, image=dataset.image)
    constant = _constant_names(dataset, index, standard.constant)

    def complete(units: Units) -> Units:
        return replace(units, quantisation=quantisation, dtype=dataset.dtype)

    if kind == "standardise":
        units = replace(complete(standard), ranks=ranks)
        scale = units.scale
        moments = Moments((data.mean - units.shift) / scale, data.variance / scale.square())
        return FittedUnits(units, moments, constant)
    if kind != "none" and not dataset.image:
        low, high = _extremes(dataset, index)
        if low < 0 or high > 1:
            raise InputError(
                f"units {kind!r} need data in [0, 1]; {dataset.name} spans {low:g} to "
                f"{high:g}. Use 'standardise'"
            )
    if kind != "logit":
        units = complete(Units.identity(dataset.image))
        return FittedUnits(units, Moments(data.mean, data.variance), constant)
    units = complete(Units.affine(0.0, 1.0, logit=LAMBDA, image=dataset.image))
    found = accumulate(
        lambda rows: units.to_model(read(rows).to(torch.float64)), index, dataset.event_shape
    )
    return FittedUnits(units, Moments(found.mean, found.variance), constant)


def _reader(dataset: Dataset, quantisation: Quantisation | None) -> Callable[[Tensor], Tensor]:
    """Examples at given indices in data units, quantised ones at the middle of their bins."""
    if quantisation is None:
        return dataset.floats
    return lambda rows: quantisation.dequantise(dataset.values[rows]).to(torch.float64)


def _with_dequantisation(
    found: Statistics, quantisation: Quantisation | None, steps: Tensor | None
) -> Statistics:
    """Statistics with dequantisation from those without: (k + u) / L, or x + (u - 1/2) step."""
    if steps is not None:
        return Statistics(found.mean, found.variance + steps.square() / 12)
    if quantisation is None or not quantisation.dequantised:
        return found
    return Statistics(found.mean, found.variance + 1 / (12 * quantisation.levels**2))


def _ranks(dataset: Dataset, index: Tensor, varies: Tensor) -> dict[int, Ranks]:
    """The ranks of columns of few values, by the values' counts among the examples at `index`."""
    found = {} if dataset.form is None else dataset.form.few_values
    made: dict[int, Ranks] = {}
    for k, values in found.items():
        if not bool(varies[k]):
            continue
        points = torch.tensor(values, dtype=torch.float64)
        column = dataset.values[index, k].to(torch.float64)
        places = torch.searchsorted((points[1:] + points[:-1]) / 2, column)
        made[k] = Ranks.of(values, torch.bincount(places, minlength=len(values)))
    return made


def _of_ranks(found: Statistics, ranks: Mapping[int, Ranks]) -> Statistics:
    """Statistics in which elements with ranks have those of the uniform distribution on (0, 1)."""
    mean, variance = found.mean.clone(), found.variance.clone()
    for k in ranks:
        mean[k], variance[k] = 0.5, 1 / 12
    return Statistics(mean, variance)


def _constant_names(dataset: Dataset, index: Tensor, constant: Tensor) -> tuple[str, ...]:
    kind = "channel" if len(dataset.event_shape) > 1 else "column"
    names = dataset.columns or [f"{kind} {k}" for k in range(constant.numel())]
    flags = constant.flatten().tolist()
    return tuple(name for name, flag in zip(names, flags, strict=True) if flag)


def _extremes(dataset: Dataset, index: Tensor) -> tuple[float, float]:
    parts = [
        dataset.floats(index[part]).aminmax()
        for part in blocks(len(index), 8 * math.prod(dataset.event_shape))
    ]
    return min(float(p.min) for p in parts), max(float(p.max) for p in parts)
