"""Stored observations: how their values become data units, and how restored values return.

Training of quantised data sees (k + u) / levels for the stored level k. An observation that holds
stored values therefore enters at the middle of its bin, (k + 1/2) / levels, and a restored x leaves
as floor(levels x), clipped. Whole numbers are stored values. So are floats that all lie on the grid
k / (levels - 1), in which pictures are usually given as floats; other floats are taken as they are.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.arrays import to_float
from ..data.intensities import array_ways, grid_levels, refuse_masks
from ..errors import InputError
from ..units import Quantisation, Units

WIDEST_NOISE = 8.0  # standard deviations; no picture has an element with more
BYTE = 255  # largest number of 8 bits
OUTSIDE = 1e-6  # how far beyond [0, 1] rounding may bring a value of an image


@dataclass(frozen=True)
class Form:
    """The form in which an observation came and in which restorations are given back.

    Attributes:
        dtype: The type of restorations.
        quantisation: How stored values relate to data units; None for continuous values.
        image: Whether values are clipped to [0, 1].
    """

    dtype: torch.dtype
    quantisation: Quantisation | None
    image: bool

    def store(self, x: Tensor) -> Tensor:
        """Values x in data units in this form: whole numbers, floats on the grid, or floats."""
        if self.quantisation is None:
            return (x.clamp(0, 1) if self.image else x).to(self.dtype)
        stored = self.quantisation.quantise(x)
        if self.dtype.is_floating_point:
            return (stored.to(torch.float64) / (self.quantisation.levels - 1)).to(self.dtype)
        return stored.to(self.dtype)

    def floats(self, stored: Tensor) -> Tensor:
        """Values of this form as float64 in data units, k / (levels - 1) for whole numbers."""
        wide = stored.to(torch.float64)
        if self.quantisation is None or self.dtype.is_floating_point:
            return wide
        return wide / (self.quantisation.levels - 1)


def read_stored(
    value: Tensor, units: Units, known: Tensor | None, noise_std: float
) -> tuple[Tensor, Form]:
    """An observation's values in data units, and its form.

    Args:
        value: (K, *measurement), any real type.
        units: The model's units.
        known: bool, broadcasting against `value`: the elements that were observed. None where the
            values are not elements of an example, such as those of a blurred image.
        noise_std: The standard deviation of the observation's noise, in data units.

    Returns:
        float64 (K, *measurement), and the form.

    Raises:
        InputError: Whole numbers of unknown range, or an image's values outside its range.
    """
    seen = value if known is None else value[known.expand_as(value)]
    if not value.is_floating_point():
        return _read_integers(value, seen, units)
    dtype = torch.promote_types(value.dtype, units.dtype)
    if known is not None and units.quantisation is not None:
        levels = _on_grid(value, seen, units.quantisation.levels)
        if levels is not None:
            form = Form(dtype, units.quantisation, units.image)
            return units.quantisation.dequantise(levels).to(torch.float64), form
    if units.image and known is not None:
        low, high = float(seen.min()), float(seen.max())
        slack = max(OUTSIDE, WIDEST_NOISE * noise_std)
        if low < -slack or high > 1 + slack:
            raise InputError(
                f"the model is of images in [0, 1], and the observation spans {low:g} to {high:g}; "
                "rescale it, or give the stored whole numbers"
            )
        value = value.clamp(0, 1) if noise_std == 0 else value
    return value.to(torch.float64), Form(dtype, None, units.image)


def _read_integers(value: Tensor, seen: Tensor, units: Units) -> tuple[Tensor, Form]:
    quantisation = units.quantisation
    kind = str(value.dtype).removeprefix("torch.")
    if quantisation is None and not units.image:
        return to_float(value, "the observation").to(torch.float64), Form(units.dtype, None, False)
    if quantisation is None and value.dtype == torch.uint8:
        # The model was trained on floats: pictures as floats are k / 255.
        quantisation = Quantisation(256, dequantised=False)
    if quantisation is None or value.dtype == torch.bool:
        raise InputError(
            f"the model is of images in [0, 1], and the observation is {kind} of unknown range; "
            "give floats in [0, 1]"
        )
    low, high, top = int(seen.min()), int(seen.max()), quantisation.levels - 1
    if value.dtype == torch.uint8 and top > BYTE:
        raise InputError(
            f"the model's data are whole numbers 0 to {top}, and the observation is of 8 bits, 0 "
            "to 255, so its scale is not known; give floats in [0, 1], or whole numbers of a wider "
            "type (int32) on the model's scale"
        )
    if low < 0 or high > top:
        raise InputError(
            f"the model's data are whole numbers 0 to {top}, and the observation ({kind}) spans "
            f"{low} to {high}; give the stored values, or floats in [0, 1]"
        )
    all_low, all_high = float(value.min()), float(value.max())
    refuse_masks(all_low, all_high, quantisation.levels, "the observation", array_ways(top + 1))
    values = quantisation.dequantise(value.clamp(0, top))
    return values.to(torch.float64), Form(value.dtype, quantisation, units.image)


def _on_grid(value: Tensor, seen: Tensor, levels: int) -> Tensor | None:
    """The levels k where all observed floats are k / (levels - 1), up to the type's rounding."""
    if grid_levels(seen, levels) is None:
        return None
    return (value.to(torch.float64) * (levels - 1)).round().clamp(0, levels - 1)
