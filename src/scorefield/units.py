"""Units: the invertible map between the units of the data and those in which a model works.

    affine         model = (data - shift) / scale           shift, scale per channel or column
    logit, affine  model = (logit(lambda + (1 - 2 lambda) data) - shift) / scale, data in [0, 1]
    ranks, affine  model = (rank(data) - shift) / scale         columns of few values (`ranks`)

A density transforms with the Jacobian,

    log p_data(x) = log p_model(model(x)) + log |d model / d data|,

for the affine map - sum log |scale|. Positions where the training data are constant are `constant`:
their scale is 1, and `to_data` returns the constant itself.

All maps are computed in float64 whatever the type of x is: a Julian date of 2.46e6 keeps its digits
only if the shift is subtracted before rounding to float32.

Stored whole numbers k = 0 .. levels - 1 and the continuous data of training are related by

    dequantise    x = (k + u) / levels,  u in [0, 1)        u = 1/2 is the middle of the bin
    quantise      k = floor(levels x), clipped               inverts it, and k / (levels - 1) too

The inversion is exact for every number of levels up to 65536, in float32 too: `dequantise` keeps x
within its bin where rounding would lift it into the next one, and `quantise` gives k for what
float32 makes of k / (levels - 1), which at 65536 levels may lie in the next bin.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .errors import InputError
from .ranks import Ranks
from .tensors import check_floating, flags, float64, reals
from .values import finite, flag, number, whole

ROUNDING = 4 * torch.finfo(torch.float64).eps  # relative; below it a standard deviation is rounding
# Up to here float32 tells k / (levels - 1) from the next bin.
MOST_PLAIN_LEVELS = 2048


def quantise(x: Tensor, levels: int) -> Tensor:
    """The stored whole numbers of continuous data in [0, 1].

    Args:
        x: Data in [0, 1], any shape; values outside are clipped.
        levels: Number of stored values.

    Returns:
        floor(levels x) clipped to 0 .. levels - 1, int64. It inverts both (k + u)/levels and
        k/(levels - 1).
    """
    wide = x.to(torch.float64)
    stored = (wide * levels).floor()
    if levels > MOST_PLAIN_LEVELS:
        scaled = wide * (levels - 1)
        nearest = scaled.round()
        on_grid = (scaled - nearest).abs() <= nearest * torch.finfo(torch.float32).eps
        stored = torch.where(on_grid, nearest, stored)
    return stored.clamp(0, levels - 1).to(torch.int64)


@lru_cache(maxsize=8)
def _bins(levels: int) -> tuple[Tensor, Tensor]:
    """The smallest and the largest float32 that `quantise` maps to each level, as float64."""
    k = torch.arange(levels, dtype=torch.float64)
    low, high = (k / levels).float(), ((k + 1) / levels).float()
    up, down = torch.ones_like(low), torch.zeros_like(low)
    while bool((outside := quantise(low, levels) < k).any()):
        low = torch.where(outside, torch.nextafter(low, up), low)
    while bool((outside := quantise(high, levels) > k).any()):
        high = torch.where(outside, torch.nextafter(high, down), high)
    return low.double(), high.double()


def dequantise(stored: Tensor, levels: int, u: Tensor | float = 0.5) -> Tensor:
    """Continuous data (k + u)/levels of stored whole numbers k.

    Args:
        stored: Whole numbers 0 .. levels - 1, any shape and number type.
        levels: Number of stored values.
        u: Place within the bin, in [0, 1): uniform noise of stored's shape, or 0.5.

    Returns:
        float32, or u's type where u is a tensor; the shape of `stored`. `quantise` gives `stored`
        back.
    """
    if not isinstance(u, Tensor):
        return (stored.to(torch.float32) + u) / levels
    if levels <= MOST_PLAIN_LEVELS and levels.bit_count() == 1:  # the division is exact
        next_bin = (stored.to(u.dtype) + 1).nextafter(u.new_zeros(()))
        return torch.minimum(u + stored, next_bin) / levels
    low, high = (bound.to(u.device, u.dtype) for bound in _bins(levels))
    index = stored.long()
    return ((u + stored) / levels).clamp(low[index], high[index])


@dataclass(frozen=True)
class Quantisation:
    """How stored whole numbers became the data of training.

    Args:
        levels: Number of stored values, 2 or more: 256 for 8-bit images.
        dequantised: True where training saw (k + u)/levels with uniform u; False where it saw
            k/(levels - 1).
    """

    levels: int
    dequantised: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", whole(self.levels, "levels of quantised data", 2))
        object.__setattr__(self, "dequantised", flag(self.dequantised, "dequantised"))

    def dequantise(self, stored: Tensor, u: Tensor | float = 0.5) -> Tensor:
        """The continuous data of stored whole numbers, as training saw them."""
        if self.dequantised:
            return dequantise(stored, self.levels, u)
        return stored.to(torch.float32) / (self.levels - 1)

    def quantise(self, x: Tensor) -> Tensor:
        """The stored whole numbers (int64) of continuous data, which are clipped to [0, 1]."""
        if self.dequantised:
            return quantise(x, self.levels)
        top = self.levels - 1
        return (x.to(torch.float64) * top).round().clamp(0, top).to(torch.int64)


@dataclass(frozen=True)
class Units:
    """The map between data units and model units.

    Args:
        shift: float64, broadcasts against an example.
        scale: float64, broadcasts against an example; not zero.
        constant: bool like `scale`; True where the training data never change.
        logit: lambda of the logit transform, or None for none.
        image: True where data are images in [0, 1].
        quantisation: How stored whole numbers became the data; None for continuous data.
        dtype: The floating type of the data in their own units; `to_data` keeps its digits.
        ranks: Elements of vectors whose ranks are mapped in place of the numbers themselves: from
            the element's number to its map. shift and scale are then those of the ranks.

    Raises:
        InputError: For shifts or scales that are not finite, a scale of zero, or a lambda outside
            (0, 0.5).
    """

    shift: Tensor
    scale: Tensor
    constant: Tensor
    logit: float | None = None
    image: bool = False
    quantisation: Quantisation | None = None
    dtype: torch.dtype = torch.float32
    ranks: Mapping[int, Ranks] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("shift", "scale"):
            object.__setattr__(self, name, reals(getattr(self, name), name, torch.float64))
        object.__setattr__(self, "constant", flags(self.constant, "constant"))
        object.__setattr__(self, "image", flag(self.image, "image"))
        usable = torch.isfinite(self.scale) & (self.scale != 0)
        if not bool(torch.isfinite(self.shift).all()) or not bool(usable.all()):
            raise InputError("units need finite shifts and finite scales other than zero")
        if self.logit is not None:
            object.__setattr__(self, "logit", number(self.logit, "the logit's lambda"))
        if self.logit is not None and not 0 < self.logit < 0.5:
            raise InputError(f"the logit's lambda must lie in (0, 0.5); got {self.logit:g}")

    @property
    def is_affine(self) -> bool:
        """Whether data = shift + scale model, element by element."""
        return self.logit is None and not self.ranks

    @staticmethod
    def identity(image: bool = False) -> "Units":
        """Units in which model units are data units."""
        return Units.affine(0.0, 1.0, image=image)

    @staticmethod
    def affine(
        shift: float | Sequence[Any] | Tensor,
        scale: float | Sequence[Any] | Tensor,
        logit: float | None = None,
        image: bool = False,
    ) -> "Units":
        """Units from numbers or tensors that broadcast against an example; nothing is constant.

        Args:
            shift: Shift in data units.
            scale: Scale, data units for one model unit.
            logit: lambda of the logit transform, or None for none.
            image: True where data are images in [0, 1].

        Returns:
            The units.
        """
        scale = reals(scale, "scale", torch.float64)
        still = torch.zeros_like(scale, dtype=torch.bool)
        return Units(reals(shift, "shift", torch.float64), scale, still, logit, image)

    @staticmethod
    def standardising(
        mean: Tensor, std: Tensor, target: float = 0.5, image: bool = False
    ) -> "Units":
        """Units in which data of given moments have mean 0 and standard deviation `target`.

        Args:
            mean: Mean in data units; broadcasts against an example.
            std: Standard deviation in data units, like `mean`. Where it is 0, or no more than
                float64's rounding of the mean, the position counts as constant.
            target: Standard deviation in model units.
            image: True where data are images in [0, 1].

        Returns:
            The units.
        """
        mean, std = float64(mean, "mean"), float64(std, "std")
        target = finite(target, "target", 0.0, above=True)
        constant = std <= ROUNDING * mean.abs()
        return Units(mean, torch.where(constant, 1.0, std / target), constant, None, image)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x, shift and scale in float64 on x's device."""
        check_floating(x, "x")
        return (
            x.to(torch.float64),
            self.shift.to(x.device, torch.float64),
            self.scale.to(x.device, torch.float64),
        )

    def to_model(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Data units to model units.

        Args:
            x: (B, *event) in data units, floating.
            dtype: Type of the result; None for x's own.

        Returns:
            (B, *event), computed in float64.
        """
        wide, shift, scale = self._parts(x)
        if self.logit is not None:
            wide = torch.special.logit(self.logit + (1 - 2 * self.logit) * wide)
        if self.ranks:
            found = {k: ranks.to_rank(wide[..., k]) for k, ranks in self.ranks.items()}
            wide = _replaced(wide, found)
        return ((wide - shift) / scale).to(dtype or x.dtype)

    def to_data(self, x: Tensor) -> Tensor:
        """Model units to data units; constant positions come back exactly.

        Args:
            x: (B, *event) in model units, floating.

        Returns:
            (B, *event), computed in float64, in the wider of x's type and `dtype`.
        """
        wide, shift, scale = self._parts(x)
        y = shift + scale * wide
        if self.logit is not None:
            y = (torch.sigmoid(y) - self.logit) / (1 - 2 * self.logit)
        if self.ranks:
            y = _replaced(y, {k: ranks.from_rank(y[..., k]) for k, ranks in self.ranks.items()})
        if bool(self.constant.any()):
            y = torch.where(self.constant.to(x.device), shift.expand_as(y), y)
        return y.to(torch.promote_types(x.dtype, self.dtype))

    def log_det(self, x: Tensor) -> Tensor:
        """log |d model / d data|, to be added to a log density in model units.

        Args:
            x: (B, *event) in data units.

        Returns:
            (B,), the sum over the example, in x's type.
        """
        wide, _, scale = self._parts(x)
        density = -scale.abs().log().expand_as(wide)
        if self.logit is not None:
            u = self.logit + (1 - 2 * self.logit) * wide
            inner = torch.log(torch.tensor(1 - 2 * self.logit, dtype=torch.float64))
            density = density + inner - u.log() - (1 - u).log()
        if self.ranks:
            slopes = {k: ranks.log_slope(wide[..., k]) for k, ranks in self.ranks.items()}
            density = _replaced(density, {k: density[..., k] + s for k, s in slopes.items()})
        return density.flatten(1).sum(1).to(x.dtype)

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold; `from_dict` undoes it exactly."""
        q = self.quantisation
        return {
            "shift": self.shift.tolist(),
            "scale": self.scale.tolist(),
            "constant": self.constant.tolist(),
            "logit": self.logit,
            "image": self.image,
            "quantisation": None
            if q is None
            else {"levels": q.levels, "dequantised": q.dequantised},
            "dtype": str(self.dtype).removeprefix("torch."),
            "ranks": {str(k): found.to_dict() for k, found in self.ranks.items()},
        }

    @staticmethod
    def from_dict(d: Mapping[str, Any]) -> "Units":
        """The units that `to_dict` wrote."""
        shift, scale = (torch.tensor(d[k], dtype=torch.float64) for k in ("shift", "scale"))
        stored = d.get("quantisation")
        return Units(
            shift,
            scale,
            torch.tensor(d["constant"], dtype=torch.bool),
            d["logit"],
            d["image"],
            None if stored is None else Quantisation(stored["levels"], stored["dequantised"]),
            {"float32": torch.float32, "float64": torch.float64}[d.get("dtype", "float32")],
            {int(k): Ranks.from_dict(found) for k, found in d.get("ranks", {}).items()},
        )


def _replaced(x: Tensor, elements: Mapping[int, Tensor]) -> Tensor:
    """Vectors (..., d) with some elements replaced; a gradient passes."""
    parts = list(x.unbind(-1))
    for k, element in elements.items():
        parts[k] = element
    return torch.stack(parts, -1)
