"""A measurement y = A(x) + noise_std n, n ~ N(0, I), in data units."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .operators import Operator


@dataclass(frozen=True)
class Measurement:
    """observed: one measurement of the event's shape or a batch of them, data units (uint8 images
    are divided by 255); noise_std: of each element
    of y, in data units, 0 for exact observations."""

    observed: Any
    operator: Operator
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        if not (self.noise_std >= 0 and self.noise_std < float("inf")):
            raise InputError(f"noise_std must be zero or more and finite; got {self.noise_std}")
        if not bool(torch.isfinite(self.values()).all()):
            raise InputError(
                "the observation holds NaN or infinite values; mark unknown elements in the mask "
                "and set them to any number"
            )

    @property
    def stored_dtype(self) -> torch.dtype:
        """The type the observation came in."""
        return (
            torch.as_tensor(np.asarray(self.observed)).dtype
            if not isinstance(self.observed, Tensor)
            else self.observed.dtype
        )

    def values(self) -> Tensor:
        """The observation in data units, floating."""
        value = (
            self.observed
            if isinstance(self.observed, Tensor)
            else torch.as_tensor(np.asarray(self.observed))
        )
        if value.dtype == torch.uint8:
            return value.to(torch.float32) / 255
        return value if value.is_floating_point() else value.to(torch.float32)

    def batch(self, event_shape: tuple[int, ...]) -> Tensor:
        """The observations as (K, *event); an image's channel dimension of one may be left out."""
        value = self.values()
        if value.ndim == len(event_shape) - 1 and event_shape[0] == 1:
            value = value[None]
        if value.ndim == len(event_shape):
            value = value[None]
        if value.ndim == len(event_shape) + 1 and tuple(value.shape[1:]) == tuple(event_shape):
            return value
        raise InputError(
            f"the observation must have the model's event shape {tuple(event_shape)}, alone or "
            f"batched; got {tuple(self.values().shape)}"
        )
