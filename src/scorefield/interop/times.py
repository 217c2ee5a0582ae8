"""Time maps: from the noise level sigma to the time of another convention.

    y_t = alpha_t x0 + beta_t z = alpha_t (x0 + sigma z),   sigma = beta_t / alpha_t

Time is found from sigma in float64: by 64 bisections where the map is a function of time; where it
is a table abar_0 > abar_1 > ..., by linear interpolation of the index in ln sigma, which is exact
at the table's own noise levels.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import InputError
from ..tensors import float64
from ..values import finite, one_of

BISECTIONS = 64
GRID = 1025  # points at which a time map is checked
ROUNDINGS = ("interpolate", "nearest")

Coefficients = tuple[Tensor, Tensor]


class TimeMap:
    """A time map that is a function of time.

    Args:
        coefficients: Function of float64 times, t -> (alpha, beta), such that sigma = beta/alpha
            rises strictly from `first` to `last`.
        first: Time of the smallest noise level.
        last: Time of the largest noise level.

    Raises:
        InputError: Where sigma is not finite, not above zero, or does not rise.
    """

    def __init__(
        self, coefficients: Callable[[Tensor], Coefficients], first: float, last: float
    ) -> None:
        self.coefficients = coefficients
        self.first, self.last = finite(first, "first"), finite(last, "last")
        grid = torch.linspace(self.first, self.last, GRID, dtype=torch.float64)
        alpha, beta = coefficients(grid)
        sigma = beta / alpha
        bad = ~(torch.isfinite(sigma) & (alpha > 0) & (beta > 0))
        bad[1:] |= sigma[1:] <= sigma[:-1]
        if bool(bad.any()):
            i = int(bad.nonzero()[0])
            raise InputError(
                f"sigma = beta/alpha must be finite, above zero and rise from t={self.first:g} to "
                f"t={self.last:g}; at t={float(grid[i]):g} alpha={float(alpha[i]):g}, "
                f"beta={float(beta[i]):g}. Choose times inside the schedule, or exchange them"
            )
        self.sigma_min, self.sigma_max = float(sigma[0]), float(sigma[-1])

    def at(self, sigma: Tensor) -> Coefficients:
        """Time and alpha at each noise level.

        Args:
            sigma: float64 of any shape, within the map's range.

        Returns:
            Time and alpha, float64 of sigma's shape.
        """
        low, high = torch.full_like(sigma, self.first), torch.full_like(sigma, self.last)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            alpha, beta = self.coefficients(middle)
            before = beta < sigma * alpha
            low, high = torch.where(before, middle, low), torch.where(before, high, middle)
        time = (low + high) / 2
        return time, self.coefficients(time)[0]


class TimeTable(TimeMap):
    """A time map that is a table abar_0 > abar_1 > ... at t = 0, 1, ...

    Entries from the first abar of zero on are left out: a schedule that ends in pure noise has no
    sigma there.

    Args:
        alpha_bar: (T,), falling from below 1 to above 0.
        rounding: What the network receives between two entries: "interpolate" for the fractional
            index, which sinusoidal embeddings take, or "nearest" for the nearest whole number
            (int64), for networks that look time up in a table. With "nearest" the network's time
            is wrong by at most half a gap in ln sigma, while x is scaled by the requested sigma.

    Raises:
        InputError: For another rounding, or a table that does not fall.
    """

    def __init__(self, alpha_bar: Tensor | Sequence[float], rounding: str) -> None:
        rounding = one_of(rounding, ROUNDINGS, "rounding")
        table = float64(alpha_bar, "alpha_bar").cpu().flatten()
        table = table[: int((table > 0).cumprod(0).sum())]
        self.sigmas = ((1 - table) / table).sqrt()
        rises = bool((self.sigmas[1:] > self.sigmas[:-1]).all())
        if len(table) < 2 or not bool((self.sigmas > 0).all()) or not rises:
            raise InputError(
                "alpha_bar must hold at least two numbers that fall from below 1 to above 0; "
                "reversed? use alpha_bar.flip(0)"
            )
        self.rounding = rounding
        self.sigma_min, self.sigma_max = float(self.sigmas[0]), float(self.sigmas[-1])

    def at(self, sigma: Tensor) -> Coefficients:
        """The index (fractional, or whole as int64) and alpha = 1/sqrt(1 + sigma²).

        Args:
            sigma: float64 of any shape, within the table's range.

        Returns:
            Index and alpha of sigma's shape.
        """
        logs, wanted = self.sigmas.log(), sigma.log()
        right = torch.searchsorted(logs, wanted.contiguous()).clamp(1, len(logs) - 1)
        fraction = ((wanted - logs[right - 1]) / (logs[right] - logs[right - 1])).clamp(0, 1)
        index = right - 1 + fraction
        time = index.round().long() if self.rounding == "nearest" else index
        return time, (1 + sigma.square()).rsqrt()
