"""Units and moments, measured on the training part.

    standardise   model = (data - mean) / (sd / target), per channel of images, signals and volumes, per column of tables
    unit          model = data, which lie in [0, 1] (NCSN, Song & Ermon 2019)
    logit         model = logit(lambda + (1 - 2 lambda) data), lambda = 1e-6, data in [0, 1]
    none          model = data

Everything is accumulated in float64 by blocks (Chan, Golub & LeVeque 1979, pairwise update), each
block about its own first event: a
constant column has variance exactly 0 and mean exactly its value.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..units import Units
from .collection import Collection, blocks

LAMBDA = 1e-6
KINDS = ("standardise", "unit", "logit", "none")


@dataclass(frozen=True)
class Moments:
    """units: the map; mean, variance: float64 (*event) of the training part in model units, per
    element (variance by 1/N);
    constant: the names of columns, or "channel k", that never change, to be reported."""

    units: Units
    mean: Tensor
    variance: Tensor
    constant: tuple[str, ...]


def _accumulate(
    collection: Collection, index: Tensor, transform: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Mean and variance per element of transform(events in data units, float64)."""
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for part in blocks(len(index), 8 * math.prod(collection.event_shape)):
        x = transform(collection.floats(index[part]).to(torch.float64))
        centred = x - x[0]
        offset = centred.mean(0)
        block_mean, block_squares = x[0] + offset, (centred - offset).square().sum(0)
        if count == 0:
            mean, squares = block_mean, block_squares
        else:
            delta = block_mean - mean
            total = count + len(x)
            mean = mean + delta * (len(x) / total)
            squares = squares + block_squares + delta.square() * (count * len(x) / total)
        count += len(x)
    return mean, squares / count


def _by_channel(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Moments over all positions of a channel, (C, 1, ...), from those of its elements (C, ...)."""
    m, v = mean.flatten(1), variance.flatten(1)
    first = m[:, :1]
    centre = first + (m - first).mean(1, keepdim=True)  # exact where all are equal
    spread = (v + (m - centre).square()).mean(1, keepdim=True)
    shape = (len(mean), *(1,) * (mean.ndim - 1))
    return centre.reshape(shape), spread.reshape(shape)


def measure(
    collection: Collection, index: Tensor, target: float = 0.5, kind: str = "standardise"
) -> Moments:
    """Units of `kind` and moments in model units, of the events at `index` (the training part).

    target: the standard deviation in model units under "standardise". Dequantisation is left out of
    the moments, save that under "logit"
    each level stands for the middle of its bin (a logit sends the levels 0 and 1 to their bins' far
    ends otherwise).
    """
    if kind not in KINDS:
        raise InputError(f"units must be one of {', '.join(KINDS)}; got {kind!r}")
    if len(index) == 0:
        raise InputError("units are measured on at least one event; got an empty index")
    if not (math.isfinite(target) and target > 0):
        raise InputError(f"the target standard deviation must be above zero; got {target:g}")
    image, levels = collection.image, collection.levels

    data_mean, data_variance = _accumulate(collection, index, lambda x: x)
    pooled_mean, pooled_variance = (
        _by_channel(data_mean, data_variance) if data_mean.ndim > 1 else (data_mean, data_variance)
    )
    found = Units.standardising(pooled_mean, pooled_variance.sqrt(), target, image=image)
    names = collection.columns or [
        f"{'channel' if data_mean.ndim > 1 else 'column'} {k}"
        for k in range(found.constant.numel())
    ]
    constant = tuple(
        name for name, still in zip(names, found.constant.flatten().tolist(), strict=True) if still
    )

    if kind == "standardise":
        scale = found.scale
        return Moments(
            found, (data_mean - found.shift) / scale, data_variance / scale.square(), constant
        )
    if kind != "none" and not image:
        low, high = _extremes(collection, index)
        if low < 0 or high > 1:
            raise InputError(
                f"units {kind!r} need data in [0, 1]; {collection.name} spans {low:g} to "
                f"{high:g}. Use 'standardise'"
            )
    if kind != "logit":
        return Moments(Units.identity(image), data_mean, data_variance, constant)
    units = Units.affine(0.0, 1.0, logit=LAMBDA, image=image)
    middle = (lambda x: x) if levels is None else lambda x: (x * (levels - 1) + 0.5) / levels
    mean, variance = _accumulate(collection, index, lambda x: units.to_model(middle(x)))
    return Moments(units, mean, variance, constant)


def _extremes(collection: Collection, index: Tensor) -> tuple[float, float]:
    parts = [
        collection.floats(index[part]).aminmax()
        for part in blocks(len(index), 8 * math.prod(collection.event_shape))
    ]
    return min(float(p.min) for p in parts), max(float(p.max) for p in parts)
