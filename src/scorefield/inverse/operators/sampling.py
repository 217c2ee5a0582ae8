"""Down-sampling: what a coarser grid keeps, the measurement of super-resolution.

y = every f-th element of k * x        (k * x: the blur of x)

mean       the mean of a block of f elements in every dimension: f^(d/2) A has orthonormal rows
bicubic    Keys' cubic convolution (1981, a = -1/2), stretched by f: what image programs use
a tensor   any other kernel
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...values import describe, is_number, items, whole, whole_numbers
from .base import SVD, Operator, left_svd
from .filters import PADDINGS, Blur, hartley
from .held import check_real, last_dimensions


def cubic_kernel(factor: int) -> Tensor:
    """Keys' cubic kernel (a = -1/2), stretched by a factor and sampled at the pixels.

    Args:
        factor: The factor of down-sampling, 1 or more.

    Returns:
        float64 (k,), which sums to one. k has the parity of the factor.
    """
    half = 2 * factor - (1 - factor % 2) / 2  # the outermost pixel within two coarse pixels
    t = torch.arange(-half, half + 0.5, dtype=torch.float64).abs() / factor
    inner = 1.5 * t**3 - 2.5 * t**2 + 1
    outer = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    kernel = torch.where(t <= 1, inner, torch.where(t < 2, outer, 0.0))
    return kernel / kernel.sum()


class Downsample(Operator):
    """Averages blocks, or blurs and keeps every f-th element, in every channel alike.

    A coarse pixel lies in the middle of the block that it stands for. A kernel whose size has
    another parity than the factor is off by half a pixel.

    Args:
        factor: One whole number, or one for each dimension.
        kernel: "mean" (of a block), "bicubic", or a kernel of one, two or three dimensions.
        padding: For kernels other than "mean": one of `Blur`'s, "valid" left out. With "circular"
            the operator has a singular value decomposition; with "mean" it always has.
        ndim: On how many of the last dimensions the operator acts; a kernel's own number where it
            is a tensor.

    Raises:
        InputError: A factor below 1, an unknown kernel or padding.

    Example:
        >>> operator = sf.operators.Downsample(4)  # 4 x 4 blocks of an image
    """

    def __init__(
        self,
        factor: int | Sequence[int],
        kernel: Any = "mean",
        padding: str = "reflect",
        ndim: int = 2,
    ) -> None:
        names = ("mean", "bicubic")
        if isinstance(kernel, str) and kernel not in names:
            raise InputError(f"kernel must be 'mean', 'bicubic' or a tensor; got {kernel!r}")
        if padding == "valid" or padding not in PADDINGS:
            raise InputError(
                f"padding must be one of {', '.join(p for p in PADDINGS if p != 'valid')}; got "
                f"{describe(padding)}"
            )
        self.ndim = whole(ndim, "ndim", 1, 3)
        self.kernel = kernel if isinstance(kernel, str) else "own"
        self.blur: Blur | None = None
        if self.kernel == "own":
            self.blur = Blur(kernel, padding)
            self.ndim = self.blur.ndim
        found = [factor] if is_number(factor) else items(factor, "factor", "a whole number")
        found = whole_numbers(found, "factor", 1)
        if len(found) not in (1, self.ndim):
            raise InputError(
                f"factor must be one number or {self.ndim}, one for each dimension; got {found}"
            )
        self.factor = tuple(found * self.ndim if len(found) == 1 else found)
        if self.kernel == "bicubic":
            together = cubic_kernel(self.factor[0])
            for f in self.factor[1:]:
                together = together[..., None] * cubic_kernel(f)
            self.blur = Blur(together, padding)

    # -- sizes

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The event's shape with the last dimensions divided by the factor."""
        sizes = last_dimensions(event_shape, self.ndim, self)
        if any(n % f for n, f in zip(sizes, self.factor, strict=True)):
            raise InputError(
                f"{self!r} needs sizes that the factor {self.factor} divides; got {sizes}. Crop "
                "the examples or choose another factor"
            )
        lead = event_shape[: len(event_shape) - self.ndim]
        return (*lead, *(n // f for n, f in zip(sizes, self.factor, strict=True)))

    def _first(self) -> list[int]:
        """The element that each dimension keeps first."""
        assert self.blur is not None
        sizes = self.blur.kernel.shape
        return [
            max(0, math.floor((f - 1) / 2 + (k - 1) / 2 - k // 2))
            for f, k in zip(self.factor, sizes, strict=True)
        ]

    # -- the operator

    def A(self, x: Tensor) -> Tensor:
        """Down-sample x (B, *event)."""
        check_real(x, self)
        coarse = (len(x), *self.measurement_shape(tuple(x.shape[1:])))
        if self.blur is None:
            sizes = zip(coarse[len(coarse) - self.ndim :], self.factor, strict=True)
            blocks = [*coarse[: len(coarse) - self.ndim], *itertools.chain.from_iterable(sizes)]
            return x.reshape(blocks).mean(tuple(range(-1, -2 * self.ndim, -2)))
        y = self.blur.A(x)
        for d, (f, first) in enumerate(zip(self.factor, self._first(), strict=True)):
            dim = y.ndim + d - self.ndim
            y = y.index_select(dim, torch.arange(first, y.shape[dim], f, device=y.device))
        return y

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Spread every element over its block, by the kernel's weights."""
        check_real(y, self)
        sizes = last_dimensions(tuple(y.shape[1:]), self.ndim, self)
        if self.blur is None:
            for d, f in enumerate(self.factor):
                y = y.repeat_interleave(f, y.ndim + d - self.ndim)
            return y / math.prod(self.factor)
        fine = [n * f for n, f in zip(sizes, self.factor, strict=True)]
        for d, (f, first) in enumerate(zip(self.factor, self._first(), strict=True)):
            dim = y.ndim + d - self.ndim
            place = torch.arange(first, fine[d], f, device=y.device)
            wide = [*y.shape[:dim], fine[d], *y.shape[dim + 1 :]]
            y = y.new_zeros(wide).index_copy(dim, place, y)
        return self.blur.A_adjoint(y)

    def svd(self, event_shape: tuple[int, ...]) -> SVD | None:
        """For "mean", and for other kernels with circular padding."""
        shape = self.measurement_shape(event_shape)
        lead, coarse = shape[: len(shape) - self.ndim], shape[len(shape) - self.ndim :]
        if self.blur is None:
            size = 1 / math.sqrt(math.prod(self.factor))
            return SVD(
                torch.full(shape, size, dtype=torch.float64),
                lambda c: self.A_adjoint(c) / size,
                lambda x: self.A(x) / size,
                lambda c: c,
                lambda y: y,
            )
        if self.blur.padding != "circular":
            return None
        # A A^T is a circular filter of the coarse grid, whose frequencies are each shared by f^d of
        # the fine one's: its transfer function is their mean of |h|².
        power = self.blur.full_transfer(tuple(event_shape[len(lead) :])).abs().square()
        split = itertools.chain.from_iterable(zip(self.factor, coarse, strict=True))
        values = power.reshape(*split).mean(tuple(range(0, 2 * self.ndim, 2))).sqrt()
        return left_svd(self, values.expand(shape), lambda c: hartley(c, self.ndim))

    def acts_by_channel(self, event_shape: tuple[int, ...]) -> bool:
        """Where the event has a dimension that is not down-sampled."""
        return len(event_shape) > self.ndim

    def __repr__(self) -> str:
        kernel = self.kernel if self.blur is None else f"{self.kernel}, {self.blur.padding}"
        return f"Downsample({' x '.join(map(str, self.factor))}, {kernel})"
