"""`Restricted`: a model seen on some elements of its examples, the others fixed.

Elements that are constant in the data are independent of the others, so the density of the others
is p_sigma(x_free, x_fixed = constant) up to a factor that does not depend on x_free.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..conditions import Condition
from ..errors import InputError
from .base import Moments, ScoreModel
from .wrapped import Wrapped

ROUNDINGS = 4  # roundings of the type of x within which a value equals a constant


class Restricted(Wrapped):
    """The model of the free elements alone; its examples are vectors (k,).

    Args:
        inner: The model.
        free: bool, event_shape of `inner`; True for the elements that remain.
        fixed: Values of the other elements in model units, event_shape of `inner`.

    Raises:
        InputError: No element is free, or the shapes differ from the model's.
    """

    def __init__(self, inner: ScoreModel, free: Tensor, fixed: Tensor) -> None:
        super().__init__(inner)
        shape = tuple(inner.event_shape)
        if tuple(free.shape) != shape or tuple(fixed.shape) != shape:
            raise InputError(
                f"free and fixed must have the model's event shape {shape}; got "
                f"{tuple(free.shape)} and {tuple(fixed.shape)}"
            )
        if not bool(free.any()):
            raise InputError("a restricted model needs at least one free element; got none")
        self.index = free.flatten().nonzero().flatten().cpu()
        self.fixed = fixed.flatten().cpu()

    @property
    def event_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(k,), the number of free elements."""
        return (len(self.index),)

    @property
    def sampling_defaults(self) -> Mapping[str, Any]:  # type: ignore[override]
        """The inner model's defaults."""
        return self.inner.sampling_defaults

    def embed(self, x: Tensor) -> Tensor:
        """Free elements (B, k) as whole examples (B, *event of the inner model)."""
        rows = self.fixed.to(x.device, x.dtype).expand(len(x), -1)
        whole = rows.index_copy(1, self.index.to(x.device), x)
        return whole.reshape(len(x), *self.inner.event_shape)

    def take(self, x: Tensor) -> Tensor:
        """The free elements (B, k) of whole examples (B, *event of the inner model)."""
        return x.flatten(1)[:, self.index.to(x.device)]

    def denoise(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """The denoised free elements."""
        return self.take(self.inner.denoise(self.embed(x), sigma, condition))

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        """The score of the free elements."""
        return self.take(self.inner.score(self.embed(x), sigma, condition))

    def log_density(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """The inner log density with the fixed elements in place, up to a constant of sigma."""
        return self.inner.log_density(self.embed(x), sigma, condition)

    def moments(self, condition: Condition | None = None) -> Moments | None:
        """The moments of the free elements."""
        known = self.inner.moments(condition)
        if known is None:
            return None
        keep = self.index
        lead = known.mean.ndim - len(self.inner.event_shape)  # 1 for moments by condition

        def part(values: Tensor) -> Tensor:
            return values.flatten(lead)[..., keep.to(values.device)]

        covariance = known.covariance
        if covariance is not None:
            at = keep.to(covariance.device)
            covariance = covariance[..., at, :][..., :, at]
        return Moments(part(known.mean), part(known.variance), covariance)


def constant_elements(model: ScoreModel) -> Tensor:
    """The elements that are constant in the model's training data: bool, event_shape, CPU."""
    return torch.as_tensor(model.units.constant).cpu().expand(model.event_shape)


def off_constants(model: ScoreModel, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Where examples differ from what is constant in the model's training data.

    Dequantisation moves a stored constant within its bin, and types round it: these values count
    as equal.

    Args:
        model: The model.
        x: (B, *event) in data units.
        dtype: The floating type that x came in.

    Returns:
        bool, x's shape, on the CPU; False for the elements that vary.
    """
    levels = model.units.quantisation
    bin_half = 0.5 / levels.levels if levels is not None and levels.dequantised else 0.0
    shift = model.units.shift.to("cpu", torch.float64).expand(model.event_shape)
    near = bin_half + ROUNDINGS * torch.finfo(dtype).eps * shift.abs().clamp(min=bin_half)
    return ((x.detach().to("cpu", torch.float64) - shift).abs() > near) & constant_elements(model)
