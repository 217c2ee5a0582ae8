"""Blur: convolution with a kernel in one, two or three dimensions, every channel alike.

    y[i] = sum_l k[l] x[i + c - l],   c = size // 2 in every dimension

Beyond the border x is what `padding` makes of it. All products are computed by the Fourier
transform, so that a kernel may be large. Circular padding has a real singular value decomposition:
with the discrete Hartley transform V (real, orthonormal and its own inverse) and the kernel's
transfer function h,

    A = U S V^T,   S = |h|,   U = the circular filter of transfer function h / |h|, after V,

since the two members of a pair of frequencies +f and -f have the same |h|.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError
from ...tensors import float64
from ...values import finite, one_of, whole
from .base import SVD, Operator
from .held import MOST_COPIES, Held, check_real, last_dimensions

PADDINGS = {
    "circular": "the example repeats in every direction",
    "zeros": "zero outside",
    "reflect": "reflected at the outermost element, which is not repeated",
    "replicate": "the outermost element repeats",
    "valid": "nothing: the measurement is smaller, size - kernel size + 1",
}
# A transfer function this much below its largest value is a rounding error of zero.
ROUNDING = 1e-13


def hartley(x: Tensor, ndim: int) -> Tensor:
    """The discrete Hartley transform over the last dimensions.

    Coefficient f is sum_n x[n] (cos + sin)(2 pi f n / N) / sqrt(N). The transform is real,
    orthonormal and its own inverse (Bracewell 1983).

    Args:
        x: Real, at least `ndim` dimensions.
        ndim: How many dimensions are transformed.

    Returns:
        A real tensor of x's shape.
    """
    found = torch.fft.fftn(x, dim=tuple(range(-ndim, 0)), norm="ortho")
    return found.real - found.imag


def filtered(x: Tensor, transfer: Tensor, size: tuple[int, ...]) -> Tensor:
    """A circular filter of the last dimensions, by its transfer function.

    Args:
        x: Real; the last dimensions are `size`.
        transfer: Complex, for the half plane of frequencies that `torch.fft.rfftn` gives.
        size: The sizes that are filtered.

    Returns:
        A real tensor of x's shape.
    """
    dims = tuple(range(-len(size), 0))
    return torch.fft.irfftn(torch.fft.rfftn(x, dim=dims) * transfer, s=size, dim=dims)


def symmetric_transfer(spread: Tensor) -> Tensor:
    """The transfer function of a real kernel, for all frequencies, with h(-f) = conj h(f) exactly.

    Args:
        spread: The kernel on the grid, its centre at index 0; float64.

    Returns:
        complex128 of the grid's shape.
    """
    h = torch.fft.fftn(spread)
    dims = tuple(range(spread.ndim))
    mirrored = h.flip(dims).roll([1] * spread.ndim, dims)
    return (h + mirrored.conj()) / 2


class Blur(Operator):
    """Convolves every channel with one kernel.

    Args:
        kernel: (k,), (k, k) or (k, k, k), any sizes: acts on the last one, two or three dimensions
            of an example, (channels, length), (channels, height, width) and so on.
        padding: One of PADDINGS: "circular", "zeros", "reflect", "replicate" or "valid". Only
            circular blur has a singular value decomposition.

    Raises:
        InputError: The kernel has another rank, is not finite or all zero, or the padding is
            unknown.

    Example:
        >>> operator = sf.operators.Blur(sf.operators.gaussian_kernel(1.5), padding="reflect")
    """

    def __init__(self, kernel: Any, padding: str = "circular") -> None:
        self.kernel = float64(kernel, "the kernel").cpu()
        self.padding = one_of(padding, PADDINGS, "padding")
        if self.kernel.ndim not in (1, 2, 3) or self.kernel.numel() == 0:
            raise InputError(
                "the kernel must have one, two or three dimensions, those of a signal, an image or "
                f"a volume; got shape {tuple(self.kernel.shape)}. One kernel serves all channels"
            )
        if not bool((self.kernel != 0).any()):
            raise InputError("the kernel is zero everywhere; at least one weight must differ")
        self.ndim = self.kernel.ndim
        self._transfers: dict[Any, Tensor] = {}

    # -- sizes

    def _sizes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The sizes of the last dimensions of an example, which must take the kernel."""
        sizes = last_dimensions(shape, self.ndim, self)
        wide = tuple(self.kernel.shape)
        if self.padding == "valid" and any(k > n for k, n in zip(wide, sizes, strict=True)):
            raise InputError(
                f"{self!r} needs examples at least as large as the kernel {wide}; got {sizes}. "
                "Another padding takes smaller ones"
            )
        return sizes

    def _padded(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """The sizes on which the Fourier transform works, for examples of `sizes`."""
        if self.padding in ("circular", "valid"):
            return sizes
        return tuple(n + k - 1 for n, k in zip(sizes, self.kernel.shape, strict=True))

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """That of the event; smaller for "valid"."""
        sizes = self._sizes(event_shape)
        if self.padding == "valid":
            sizes = tuple(n - k + 1 for n, k in zip(sizes, self.kernel.shape, strict=True))
        return (*event_shape[: len(event_shape) - self.ndim], *sizes)

    # -- the transfer function

    def full_transfer(self, sizes: tuple[int, ...]) -> Tensor:
        """complex128 (*sizes), with the kernel's centre (circular) or its first weight at 0."""
        centred = self.padding == "circular"
        grids = [
            (torch.arange(k) - (k // 2 if centred else 0)) % n
            for k, n in zip(self.kernel.shape, sizes, strict=True)
        ]
        spread = torch.zeros(sizes, dtype=torch.float64)
        index = torch.meshgrid(*grids, indexing="ij")
        spread.index_put_(tuple(index), self.kernel, accumulate=True)
        return symmetric_transfer(spread)

    def _transfer(self, sizes: tuple[int, ...], x: Tensor) -> Tensor:
        """The transfer function in half the plane, for x's device and type."""
        key = (sizes, x.device, x.dtype)
        if key not in self._transfers:
            if len(self._transfers) >= MOST_COPIES:
                self._transfers.clear()
            half = self.full_transfer(sizes)[..., : sizes[-1] // 2 + 1]
            self._transfers[key] = half.to(x.device, x.dtype.to_complex())
        return self._transfers[key]

    # -- padding and its transpose

    def _before(self) -> list[int]:
        """Elements that padding adds before the first one, by dimension."""
        return [k - 1 - k // 2 for k in self.kernel.shape]

    def _index(self, n: int, k: int, device: torch.device) -> Tensor:
        """For "reflect" and "replicate": the element that each padded position holds."""
        place = torch.arange(n + k - 1, device=device) - (k - 1 - k // 2)
        if self.padding == "replicate" or n == 1:
            return place.clamp(0, n - 1)
        place = place % (2 * (n - 1))
        return torch.minimum(place, 2 * (n - 1) - place)

    def _pad(self, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
        if self.padding in ("circular", "valid"):
            return x
        if self.padding == "zeros":
            widths: list[int] = []
            for k, before in zip(self.kernel.shape, self._before(), strict=True):
                widths = [before, k - 1 - before, *widths]
            return F.pad(x, widths)
        for d, (n, k) in enumerate(zip(sizes, self.kernel.shape, strict=True)):
            x = x.index_select(d - self.ndim, self._index(n, k, x.device))
        return x

    def _pad_transpose(self, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
        if self.padding in ("circular", "valid"):
            return x
        for d, (n, k) in enumerate(zip(sizes, self.kernel.shape, strict=True)):
            dim = x.ndim + d - self.ndim
            if self.padding == "zeros":
                x = x.narrow(dim, k - 1 - k // 2, n)
            else:
                shape = [*x.shape[:dim], n, *x.shape[dim + 1 :]]
                x = x.new_zeros(shape).index_add(dim, self._index(n, k, x.device), x)
        return x

    # -- the operator

    def A(self, x: Tensor) -> Tensor:
        """Convolve x (B, *event)."""
        check_real(x, self)
        sizes = self._sizes(tuple(x.shape[1:]))
        wide = self._padded(sizes)
        y = filtered(self._pad(x, sizes), self._transfer(wide, x), wide)
        if self.padding == "circular":
            return y
        # The first k - 1 positions hold what wraps around.
        for d, k in enumerate(self.kernel.shape):
            dim = y.ndim + d - self.ndim
            y = y.narrow(dim, k - 1, y.shape[dim] - k + 1)
        return y

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Correlate y with the kernel, and add up what padding made of each element."""
        check_real(y, self)
        sizes = last_dimensions(tuple(y.shape[1:]), self.ndim, self)
        if self.padding == "valid":
            sizes = tuple(n + k - 1 for n, k in zip(sizes, self.kernel.shape, strict=True))
        wide = self._padded(sizes)
        if self.padding != "circular":
            y = F.pad(y, [w for k in reversed(self.kernel.shape) for w in (k - 1, 0)])
        return self._pad_transpose(filtered(y, self._transfer(wide, y).conj(), wide), sizes)

    def svd(self, event_shape: tuple[int, ...]) -> SVD | None:
        """For circular padding, by the Hartley transform."""
        if self.padding != "circular":
            return None
        sizes, ndim = self._sizes(event_shape), self.ndim
        h = self.full_transfer(sizes)
        values = h.abs()
        values = torch.where(values > ROUNDING * values.max(), values, 0.0)
        unit = torch.where(values > 0, h / torch.where(values > 0, values, 1.0), 0.0)
        phase = HeldComplex(unit[..., : sizes[-1] // 2 + 1])
        lead = event_shape[: len(event_shape) - ndim]
        return SVD(
            values.expand(*lead, *sizes),
            lambda c: hartley(c, ndim),
            lambda x: hartley(x, ndim),
            lambda c: filtered(hartley(c, ndim), phase.like(c), sizes),
            lambda y: hartley(filtered(y, phase.like(y).conj(), sizes), ndim),
        )

    def acts_by_channel(self, event_shape: tuple[int, ...]) -> bool:
        """Where the event has a dimension that the kernel has not."""
        return len(event_shape) > self.ndim

    def __repr__(self) -> str:
        return f"Blur(kernel {' x '.join(map(str, self.kernel.shape))}, {self.padding})"


class HeldComplex(Held):
    """A complex constant, in the complex type that belongs to the tensors it meets."""

    def like(self, x: Tensor) -> Tensor:
        """The constant on x's device, complex64 for float32 and complex128 for float64."""
        return super().like(torch.empty(0, device=x.device, dtype=x.dtype.to_complex()))


def gaussian_kernel(sigma: float, size: int | None = None, ndim: int = 2) -> Tensor:
    """A Gaussian kernel that sums to one.

    Args:
        sigma: Standard deviation in pixels.
        size: Pixels in every dimension; None: 4 sigma to either side.
        ndim: 1, 2 or 3.

    Returns:
        float64, `ndim` dimensions of `size`.

    Raises:
        InputError: A number is out of range.
    """
    sigma = finite(sigma, "sigma", 0.0, above=True)
    ndim = whole(ndim, "ndim", 1, 3)
    size = 2 * int(4 * sigma + 0.5) + 1 if size is None else whole(size, "size", 1)
    place = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    line = (-place.square() / (2 * sigma**2)).exp()
    line = line / line.sum()
    kernel = line
    for _ in range(ndim - 1):
        kernel = kernel[..., None] * line
    return kernel


def motion_kernel(length: float, angle: float = 0.0) -> Tensor:
    """The kernel of a steady movement along a line, which sums to one.

    The weight of a pixel is the part of the line that lies in it.

    Args:
        length: The length of the line in pixels.
        angle: Degrees from the horizontal, counter-clockwise as the picture is seen.

    Returns:
        float64 (k, k), k odd: the smallest square that holds the line, cut to the rows and columns
        that it touches.

    Raises:
        InputError: The length is not above zero.
    """
    length = finite(length, "length", 0.0, above=True)
    turn = math.radians(finite(angle, "angle"))
    count = 1000 * math.ceil(length)
    place = ((torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5) * length
    # Rounding decides for the pixel that a point lies in; a tie is none after the shift of half.
    across, up = place * math.cos(turn), place * math.sin(turn)
    column, row = (across.round().long(), (-up).round().long())
    reach_x, reach_y = int(column.abs().max()), int(row.abs().max())
    kernel = torch.zeros(2 * reach_y + 1, 2 * reach_x + 1, dtype=torch.float64)
    weight = torch.full((count,), 1 / count, dtype=torch.float64)
    return kernel.index_put_((row + reach_y, column + reach_x), weight, accumulate=True)
