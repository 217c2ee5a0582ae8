"""Radial power spectra of signals, images and volumes.

The power of an event at a frequency f (cycles per grid point along each axis) is |Fourier
transform|² over the number of grid points, mean over channels. Frequencies are grouped by their
radius |f| in bands as wide as one cycle over the longest axis, up to 1/2 (Nyquist); the mean of an
event, f = 0, is left out, and so are corners beyond 1/2.

    ratio(b)    mean power of samples in band b / mean power of the data in band b
    spectrum    root mean square over bands of ln ratio(b), bias removed with halves (`intervals`)
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..tensors import float64
from ..values import describe
from .estimate import Estimate
from .intervals import (
    SPLITS,
    interval,
    linear_variance,
    read_level,
    root,
    split_values,
    without_bias,
)

CHUNK = 2**22  # elements transformed at a time
RADIUS = 0.5
METHOD = "{} bands; bias and quadratic part from halves, linear part by the delta method"


@dataclass(frozen=True)
class Spectrum:
    """The power of samples and of data by radial frequency.

    Attributes:
        frequency: (B,), cycles per grid point, the mean radius of each band.
        samples: (B,), mean power of samples.
        data: (B,), mean power of the data.
        ratio: Power of samples over power of data, one estimate for each band.
        difference: Root mean square of ln ratio.
    """

    frequency: Tensor
    samples: Tensor
    data: Tensor
    ratio: tuple[Estimate, ...]
    difference: Estimate

    def to_dict(self) -> dict[str, Any]:
        """The numbers as JSON holds them."""
        lists = {name: vars(self)[name].tolist() for name in ("frequency", "samples", "data")}
        ratio = [one.to_dict() for one in self.ratio]
        return {**lists, "ratio": ratio, "difference": self.difference.to_dict()}


def has_spectrum(event_shape: tuple[int, ...]) -> bool:
    """Whether events are (channels, *sizes) with 4 or more grid points along every axis."""
    return 2 <= len(event_shape) <= 4 and min(event_shape[1:]) >= 4


def _bands(sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Band of each frequency, -1 for none, in the order of `fftn`; and the mean radius of each."""
    axes = torch.meshgrid(
        *(torch.fft.fftfreq(size, dtype=torch.float64) for size in sizes), indexing="ij"
    )
    radius = torch.stack(axes).square().sum(0).sqrt().flatten()
    band = (radius * max(sizes)).round().long() - 1  # bands of the radii 1, 2, ... cycles
    band[(radius > RADIUS + 1e-9) | (radius == 0)] = -1
    kept = band[band >= 0]
    used, compact = kept.unique(return_inverse=True)
    band[band >= 0] = compact
    total = torch.zeros(len(used), dtype=torch.float64).index_add_(0, compact, radius[band >= 0])
    return band, total / torch.bincount(compact)


def band_powers(x: Any, name: str = "x") -> tuple[Tensor, Tensor]:
    """The power of each event by radial frequency.

    Args:
        x: (N, channels, *sizes): signals, images or volumes.
        name: The argument's name, for messages.

    Returns:
        (B,) frequencies in cycles per grid point, and (N, B) powers.

    Raises:
        InputError: For other shapes, or values that are not finite.
    """
    found = float64(x, name).cpu()
    if not has_spectrum(tuple(found.shape[1:])) or len(found) < 4:
        raise InputError(
            f"{name} must be (N, channels, *sizes) with 4 or more events and 4 or more grid "
            f"points along each of 1 to 3 axes; got {describe(value=found)}"
        )
    sizes = tuple(found.shape[2:])
    band, frequency = _bands(sizes)
    inside = band >= 0
    weights = torch.zeros(int(inside.sum()), len(frequency), dtype=torch.float64)
    weights[torch.arange(len(weights)), band[inside]] = 1.0
    weights /= weights.sum(0)
    rows = max(1, CHUNK // found[0].numel())
    powers = []
    for part in found.split(rows):
        spectrum = torch.fft.fftn(part, dim=tuple(range(2, found.ndim)), norm="ortho")
        power = spectrum.abs().square().mean(1).flatten(1)
        powers.append(power[:, inside] @ weights)
    return frequency, torch.cat(powers)


def _mean_square(x: Tensor, y: Tensor) -> float:
    return float((x.mean(0) / y.mean(0)).log().square().mean())


def radial_spectrum(x: Any, y: Any, *, seed: int = 0, level: float = 0.9) -> Spectrum:
    """Compare radial power spectra.

    Args:
        x: (N, channels, *sizes), samples.
        y: (M, channels, *sizes), the data.
        seed: Seed of the halves.
        level: Level of the intervals, in [0.5, 0.999].

    Returns:
        Powers and ratios by radial frequency, and their root mean square logarithm as one number.

    Raises:
        InputError: For other shapes, values that are not finite, or events without power in a
            band, such as constant ones.
    """
    level = read_level(level)
    frequency, px = band_powers(x, "x")
    other, py = band_powers(y, "y")
    if other.shape != frequency.shape or not torch.equal(other, frequency):
        raise InputError("x and y must have events of the same shape")
    kept = (px.mean(0) > 0) & (py.mean(0) > 0)
    if not bool(kept.any()):
        raise InputError("the events have no power at any frequency above 0; all are constant")
    frequency, px, py = frequency[kept], px[:, kept], py[:, kept]
    counts = len(px), len(py)
    relative = px / px.mean(0), py / py.mean(0)
    log_ratio = (px.mean(0) / py.mean(0)).log()
    variance = sum(one.var(0) / len(one) for one in relative)
    ratio = []
    for log, var in zip(log_ratio.tolist(), torch.as_tensor(variance).tolist(), strict=True):
        one = interval(log, var, level, counts, "delta method on the logarithm")
        ends = {name: torch.tensor(vars(one)[name]).exp().item() for name in ("low", "high")}
        value = torch.tensor(log, dtype=torch.float64).exp().item()
        ratio.append(Estimate(**{**vars(one), **ends, "value": value}))
    weight = 2 * log_ratio / len(log_ratio)
    squared = without_bias(
        float(log_ratio.square().mean()),
        split_values(_mean_square, px, py, seed, SPLITS),
        linear_variance(*(one @ weight for one in relative)),
        level,
        counts,
        METHOD.format(len(frequency)),
    )
    return Spectrum(frequency, px.mean(0), py.mean(0), tuple(ratio), root(squared))
