"""The uniform density on a box: truncated normals (`truncated`) of infinite variance.

Elements are independent. Let a = (low - x)/sigma, b = (high - x)/sigma, phi the standard normal
density and Phi its distribution function. An element of x0 given x is a normal N(x, sigma²)
truncated to [low, high], so that per element

    Z           = Phi(b) - Phi(a)
    log p_sigma = log Z - log(high - low)
    D           = x + sigma (phi(a) - phi(b)) / Z
    score       = (phi(a) - phi(b)) / (sigma Z)
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .truncated import TruncatedNormal


class Box(TruncatedNormal):
    """The uniform density on a box.

        p = Box([0.0, 0.0], [1.0, 2.0])

    Args:
        low: (*event), the lower ends.
        high: (*event), the upper ends, each above its lower end.

    Raises:
        InputError: For ends of different shapes, or that do not rise.
    """

    def __init__(self, low: Tensor | Sequence[Any], high: Tensor | Sequence[Any]) -> None:
        super().__init__(low, high)

    def summary(self) -> str:
        low, high = (f"{float(v):.4g}" for v in (self.low.min(), self.high.max()))
        return f"Box, the uniform density of a box within [{low}, {high}] in every element"
