"""Units: the one invertible map between the units data come in and the units a model works in.

    affine            model = (data - shift) / scale                          shift, scale per channel or per column
    logit, affine     model = (logit(lambda + (1 - 2 lambda) data) - shift) / scale     for data in [0, 1]

A density transforms with the Jacobian: log p_data(x) = log p_model(model(x)) + log |d model / d
data|, for the affine map - sum log |scale|.
Positions where the training data are constant are `constant`: scale 1, and `to_data` returns the
constant itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import InputError


@dataclass(frozen=True)
class Units:
    """shift, scale: float64 tensors that broadcast against the event; constant: bool tensor like
    scale; logit: lambda, or None for none;
    image: data are images in [0, 1] whose uint8 form is rounded and clipped."""

    shift: Tensor
    scale: Tensor
    constant: Tensor
    logit: float | None = None
    image: bool = False

    def __post_init__(self) -> None:
        if not bool(torch.isfinite(self.shift).all()) or not bool(
            (torch.isfinite(self.scale) & (self.scale != 0)).all()
        ):
            raise InputError("units need finite shifts and finite scales other than zero")
        if self.logit is not None and not 0 < self.logit < 0.5:
            raise InputError(f"the logit's lambda must lie in (0, 0.5); got {self.logit:g}")

    @staticmethod
    def identity(image: bool = False) -> "Units":
        """Model units are data units."""
        return Units.affine(0.0, 1.0, image=image)

    @staticmethod
    def affine(
        shift: float | Sequence[Any] | Tensor,
        scale: float | Sequence[Any] | Tensor,
        logit: float | None = None,
        image: bool = False,
    ) -> "Units":
        """Units from numbers or tensors that broadcast against the event; no position is constant."""
        scale = torch.as_tensor(scale, dtype=torch.float64)
        return Units(
            torch.as_tensor(shift, dtype=torch.float64),
            scale,
            torch.zeros_like(scale, dtype=torch.bool),
            logit,
            image,
        )

    @staticmethod
    def standardising(
        mean: Tensor, std: Tensor, target: float = 0.5, image: bool = False
    ) -> "Units":
        """The affine map that gives data of `mean` and `std` (data units, broadcasting against the
        event) mean 0 and standard deviation `target`.

        Where std is 0, or so small beside the mean that it is rounding, the position is constant:
        scale 1.
        """
        mean, std = mean.to(torch.float64), std.to(torch.float64)
        constant = std <= 1e-12 * mean.abs()
        return Units(mean, torch.where(constant, 1.0, std / target), constant, None, image)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.shift.to(x.device, x.dtype), self.scale.to(x.device, x.dtype)

    def to_model(self, x: Tensor) -> Tensor:
        """Data units (B, *event) -> model units, same shape and dtype."""
        shift, scale = self._parts(x)
        if self.logit is not None:
            x = torch.special.logit(self.logit + (1 - 2 * self.logit) * x)
        return (x - shift) / scale

    def to_data(self, x: Tensor) -> Tensor:
        """Model units (B, *event) -> data units, same shape and dtype; constant positions come back
        exactly.
        """
        shift, scale = self._parts(x)
        y = shift + scale * x
        if self.logit is not None:
            y = (torch.sigmoid(y) - self.logit) / (1 - 2 * self.logit)
        if bool(self.constant.any()):
            y = torch.where(self.constant.to(x.device), shift.expand_as(y), y)
        return y

    def log_det(self, x: Tensor) -> Tensor:
        """log |d model / d data| at x (B, *event) in data units, summed over the event: (B,). Add
        it to log p in model units.
        """
        _, scale = self._parts(x)
        density = -scale.abs().log().expand_as(x)
        if self.logit is not None:
            u = self.logit + (1 - 2 * self.logit) * x
            density = (
                density
                + torch.log(torch.tensor(1 - 2 * self.logit, dtype=x.dtype))
                - u.log()
                - (1 - u).log()
            )
        return density.flatten(1).sum(1)

    def to_uint8(self, x: Tensor) -> Tensor:
        """Images in [0, 1] as they are stored: clipped, times 255, rounded."""
        return x.clamp(0, 1).mul(255).round().to(torch.uint8)

    def to_dict(self) -> dict[str, Any]:
        """A form JSON can hold; `from_dict` undoes it exactly."""
        return {
            "shift": self.shift.tolist(),
            "scale": self.scale.tolist(),
            "constant": self.constant.tolist(),
            "logit": self.logit,
            "image": self.image,
        }

    @staticmethod
    def from_dict(d: dict[str, Any]) -> "Units":
        """Units from what `to_dict` wrote."""
        shift, scale = (torch.tensor(d[k], dtype=torch.float64) for k in ("shift", "scale"))
        return Units(
            shift, scale, torch.tensor(d["constant"], dtype=torch.bool), d["logit"], d["image"]
        )
