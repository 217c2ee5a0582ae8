"""Fourier samples of an image, the measurement of magnetic resonance imaging.

    y = the sampled frequencies of F x,   F: the orthonormal discrete Fourier transform

A mask has the zero frequency in its centre, as `numpy.fft.fftshift` and most scanners give it. The
transform of a real image satisfies F x(-f) = conj F x(f), so that A^T A is the circular filter of
transfer function (m(f) + m(-f)) / 2, and the discrete Hartley transform diagonalises it: singular
values are 1 where both members of a pair were sampled, sqrt(1/2) where one was, else 0.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...tensors import as_tensor
from ...values import finite, flag, whole
from ...values import shape as read_shape
from .base import SVD, Operator, right_svd
from .drawn import LINES, operator_normals
from .filters import hartley
from .held import check_real, last_dimensions, same_shape
from .mask import Mask


class Fourier(Operator):
    """Samples of the orthonormal Fourier transform of every channel.

    Real and imaginary parts are the last dimension of the measurement. With a mask of n sampled
    frequencies an example (channels, height, width) is measured as (channels, n, 2), in the order
    of the mask's rows; `gather` takes these values out of a full grid and `spread` puts them back.
    Without a mask the grid is kept: (channels, height, width, 2), zero frequency in the centre.

    Args:
        mask: Bool or 0 and 1, 1 = sampled, of one, two or three dimensions, those of the grid; zero
            frequency in the centre. None: every frequency.
        complex_channels: True where examples are complex images: (2, height, width), real and
            imaginary parts as two channels. Measurements are (n, 2) then.
        ndim: How many of the last dimensions are transformed; the mask's own number where there is
            a mask.

    Raises:
        InputError: The mask has another rank, holds other values, or samples nothing.

    Example:
        >>> mask = sf.operators.cartesian_mask((28, 28), acceleration=4, centre_fraction=0.08)
        >>> operator = sf.operators.Fourier(mask)
    """

    def __init__(self, mask: Any = None, complex_channels: bool = False, ndim: int = 2) -> None:
        self.complex_channels = flag(complex_channels, "complex_channels")
        self.ndim = whole(ndim, "ndim", 1, 3)
        self.mask: Tensor | None = None
        if mask is not None:
            self.mask = Mask(as_tensor(mask, "the mask")).mask.cpu()
            self.ndim = self.mask.ndim
            if self.ndim not in (1, 2, 3):
                raise InputError(
                    "the mask must have the shape of the grid of frequencies, (length,), (height, "
                    f"width) or (depth, height, width); got {tuple(self.mask.shape)}"
                )

    # -- shapes

    @property
    def _dims(self) -> tuple[int, ...]:
        return tuple(range(-self.ndim, 0))

    def _sizes(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The grid of an example, which must be the mask's."""
        sizes = last_dimensions(event_shape, self.ndim, self)
        if self.mask is not None and sizes != tuple(self.mask.shape):
            raise InputError(
                f"{self!r} needs a mask of the example's size {sizes}; got {tuple(self.mask.shape)}"
            )
        if self.complex_channels and tuple(event_shape) != (2, *sizes):
            raise InputError(
                f"{self!r} needs examples (2, ...), the real and the imaginary part; got shape "
                f"{tuple(event_shape)}"
            )
        return sizes

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(*channels, samples, 2), or (*channels, *grid, 2) without a mask."""
        sizes = self._sizes(event_shape)
        lead = () if self.complex_channels else event_shape[: len(event_shape) - self.ndim]
        kept = sizes if self.mask is None else (int(self.mask.sum()),)
        return (*lead, *kept, 2)

    # -- grids and lists of samples

    def gather(self, grid: Tensor) -> Tensor:
        """The sampled values of a full grid, such as a file of a scanner holds.

        Args:
            grid: (..., *grid, 2), zero frequency in the centre.

        Returns:
            (..., samples, 2); the grid itself without a mask.
        """
        if self.mask is None:
            return grid
        if tuple(grid.shape[-self.ndim - 1 :]) != (*self.mask.shape, 2):
            raise InputError(
                f"gather needs values (..., {', '.join(map(str, self.mask.shape))}, 2), real and "
                f"imaginary parts last; got {tuple(grid.shape)}"
            )
        flat = grid.flatten(grid.ndim - self.ndim - 1, -2)
        return flat.index_select(-2, self._index(grid))

    def spread(self, y: Tensor) -> Tensor:
        """A full grid with the samples in place and zero elsewhere.

        Args:
            y: (..., samples, 2).

        Returns:
            (..., *grid, 2), zero frequency in the centre.
        """
        if self.mask is None:
            return y
        wide = y.new_zeros(*y.shape[:-2], self.mask.numel(), 2)
        return wide.index_copy(-2, self._index(y), y).reshape(*y.shape[:-2], *self.mask.shape, 2)

    def _index(self, x: Tensor) -> Tensor:
        assert self.mask is not None
        return self.mask.flatten().nonzero()[:, 0].to(x.device)

    # -- the operator

    def A(self, x: Tensor) -> Tensor:
        """The samples of x (B, *event)."""
        check_real(x, self)
        self._sizes(tuple(x.shape[1:]))
        image = torch.complex(x[:, 0], x[:, 1]) if self.complex_channels else x
        found = torch.fft.fftn(image, dim=self._dims, norm="ortho")
        return self.gather(torch.view_as_real(torch.fft.fftshift(found, dim=self._dims)))

    def A_adjoint(self, y: Tensor) -> Tensor:
        """The image of the samples, with zero for all others: the zero-filled reconstruction."""
        check_real(y, self)
        if self.mask is not None:
            same_shape(y, (*y.shape[1:-2], int(self.mask.sum()), 2), self, "y")
        found = torch.view_as_complex(self.spread(y).contiguous())
        found = torch.fft.ifftshift(found, dim=self._dims)
        image = torch.fft.ifftn(found, dim=self._dims, norm="ortho")
        if self.complex_channels:
            return torch.stack([image.real, image.imag], dim=1)
        return image.real

    def svd(self, event_shape: tuple[int, ...]) -> SVD:
        """By the Hartley transform for real images, by the Fourier transform for complex ones."""
        sizes = self._sizes(event_shape)
        mask = torch.ones(sizes, dtype=torch.float64)
        if self.mask is not None:
            mask = torch.fft.ifftshift(self.mask.to(torch.float64))
        if self.complex_channels:
            full = Fourier(None, True, self.ndim)
            kept = torch.fft.fftshift(mask)[..., None].expand(*sizes, 2)
            return SVD(kept, full.A_adjoint, full.A, self.gather, self.spread)
        dims = tuple(range(self.ndim))
        mirrored = mask.flip(dims).roll([1] * self.ndim, dims)
        values = ((mask + mirrored) / 2).sqrt().expand(event_shape)
        return right_svd(self, values, lambda c: hartley(c, self.ndim))

    def acts_by_channel(self, event_shape: tuple[int, ...]) -> bool:
        """Where real examples have a dimension that is not transformed."""
        return not self.complex_channels and len(event_shape) > self.ndim

    def __repr__(self) -> str:
        kept = "all" if self.mask is None else f"{int(self.mask.sum())} of {self.mask.numel()}"
        return f"Fourier({kept} frequencies)"


def half_plane(shape: Sequence[int]) -> Tensor:
    """One of each pair of frequencies +f and -f, which is all that a real image has.

    Args:
        shape: The grid's shape, such as (height, width).

    Returns:
        Bool of that shape, zero frequency in the centre.
    """
    sizes = read_shape(shape, "shape")
    order = torch.arange(torch.tensor(sizes).prod().item()).reshape(sizes)
    dims = tuple(range(len(sizes)))
    # In unshifted order -f is the flipped grid, rolled by one.
    mirrored = order.flip(dims).roll([1] * len(sizes), dims)
    return torch.fft.fftshift(order <= mirrored)


def cartesian_mask(
    shape: Sequence[int], acceleration: float, centre_fraction: float = 0.08, seed: int = 0
) -> Tensor:
    """Whole lines of frequencies at random, and all lines of a band in the centre.

    The lines are the columns, the last dimension: Cartesian sampling with undersampled phase
    encoding, as the fastMRI data set defines it (Zbontar et al. 2018), with an exact number of
    lines.

    Args:
        shape: The grid's shape, such as (height, width).
        acceleration: 1 or more; width / acceleration lines are sampled, rounded.
        centre_fraction: The part of the lines that the band in the centre takes, in [0, 1].
        seed: Decides for the other lines.

    Returns:
        Bool of that shape, zero frequency in the centre.

    Raises:
        InputError: A number is out of range, or the band takes more lines than are sampled.
    """
    sizes = read_shape(shape, "shape")
    width = sizes[-1]
    acceleration = finite(acceleration, "acceleration", 1.0)
    band = round(width * finite(centre_fraction, "centre_fraction", 0.0, 1.0))
    count = max(1, round(width / acceleration))
    if band > count:
        raise InputError(
            f"an acceleration of {acceleration:g} samples {count} of {width} lines, and a "
            f"centre_fraction of {centre_fraction:g} takes {band}; lower one of them"
        )
    first = width // 2 - band // 2  # the zero frequency is at width // 2
    # A line's number decides by its rank; the band's lines come first.
    rank = operator_normals(seed, LINES, (width, 1))[:, 0]
    rank[first : first + band] = -torch.inf
    lines = torch.zeros(width, dtype=torch.bool)
    lines[rank.argsort()[:count]] = True
    return lines.expand(sizes).clone()
