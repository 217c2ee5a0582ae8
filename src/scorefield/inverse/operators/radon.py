"""Line integrals of an image, the measurement of parallel-beam tomography.

    y[angle, s] = integral of x along the line  p cos(angle) + q sin(angle) = s

p points to the right and q upwards, in pixels from the middle of the image; angle 0 sums the
columns. Each line is integrated by Joseph's method (1982): it is cut once in every row, or in every
column where it is closer to the horizontal, and x is interpolated linearly between two neighbours.
The weights make one sparse matrix, so that the adjoint is exactly its transpose.
"""

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import InputError
from ...values import numbers, whole, whole_numbers
from .base import Operator
from .held import Held, check_real, last_dimensions, same_shape
from .product import Map, product


def _hits(
    place: Tensor, length: float, across: int, strides: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels and weights of lines that cut every row (or every column) once.

    Args:
        place: (lines, cuts), where each line cuts, in pixels from the first one.
        length: The length of a line between two cuts.
        across: Pixels in the direction of `place`.
        strides: Step of a pixel's number from one cut to the next, and in the direction of `place`.

    Returns:
        The number of pixels of each line; then pixel and weight of every pair of a line and a
        pixel, line by line.
    """
    low = place.floor()
    neighbour = torch.stack([low, low + 1], dim=-1)
    weight = length * torch.stack([low + 1 - place, place - low], dim=-1)
    cut = torch.arange(place.shape[1])[:, None]
    pixel = (cut * strides[0] + neighbour * strides[1]).flatten(1)
    inside = ((neighbour >= 0) & (neighbour < across) & (weight > 0)).flatten(1)
    # In every line the pixels in order, and those outside at the end.
    order = torch.where(inside, pixel, torch.inf).argsort(dim=1)
    kept = inside.gather(1, order)
    pixel, weight = (one.flatten(1).gather(1, order)[kept] for one in (pixel, weight))
    return inside.sum(1), pixel.int(), weight


def _rows(counts: Tensor, columns: Tensor, weights: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix in compressed rows, of the number of entries of each row and the entries.

    Products of this form were thirty times faster than those of coordinates.
    """
    start = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a part of PyTorch that is not final
        return torch.sparse_csr_tensor(
            start.to(columns.dtype), columns, weights, shape, check_invariants=False
        )


class Radon(Operator):
    """Parallel-beam line integrals of every channel, in pixels times the image's values.

    An example (channels, height, width) is measured as (channels, angles, detectors).

    Args:
        angles: Degrees; 0 to 180, end left out, covers every line.
        size: Height and width of the image; one number for a square.
        detectors: How many lines an angle has, in the middle of which the image's middle lies;
            None: enough for the diagonal, with the parity of the width.
        spacing: The distance of two neighbouring lines in pixels.

    Raises:
        InputError: No angle, or a number out of range.

    Example:
        >>> operator = sf.operators.Radon(angles=range(0, 180, 6), size=64)
    """

    def __init__(
        self,
        angles: Sequence[float],
        size: int | Sequence[int],
        detectors: int | None = None,
        spacing: float = 1.0,
    ) -> None:
        self.angles = tuple(numbers(angles, "angles"))
        if not self.angles:
            raise InputError("angles must not be empty; range(0, 180, 3) gives sixty of them")
        square = [size, size] if not isinstance(size, Sequence) else size
        found = whole_numbers(square, "size", 1)
        if len(found) != 2:
            raise InputError(f"size must be one number or (height, width); got {found}")
        self.size = (found[0], found[1])
        self.spacing = numbers([spacing], "spacing")[0]
        if self.spacing <= 0:
            raise InputError(f"spacing must be above 0; got {self.spacing:g}")
        needed = math.ceil(math.hypot(*self.size) / self.spacing)
        needed += (needed - self.size[1]) % 2
        self.detectors = needed if detectors is None else whole(detectors, "detectors", 1)
        self._matrices: tuple[Held, Held] | None = None

    def _made(self) -> tuple[Held, Held]:
        """The sparse matrix (angles * detectors, height * width) and its transpose, float64."""
        height, width = self.size
        s = (torch.arange(self.detectors, dtype=torch.float64) - (self.detectors - 1) / 2)[:, None]
        s = s * self.spacing
        p = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
        q = (height - 1) / 2 - torch.arange(height, dtype=torch.float64)
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for angle in self.angles:
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            if abs(cos) >= abs(sin):  # the line cuts every row once
                column = (s - q * sin) / cos + (width - 1) / 2
                parts.append(_hits(column, 1 / abs(cos), width, (width, 1)))
            else:
                row = (height - 1) / 2 - (s - p * cos) / sin
                parts.append(_hits(row, 1 / abs(sin), height, (1, width)))
        counts, pixels, weights = (torch.cat(one) for one in zip(*parts, strict=True))
        lines, size = len(counts), height * width
        order = pixels.argsort(stable=True)
        line = torch.repeat_interleave(torch.arange(lines, dtype=torch.int32), counts)
        back = (torch.bincount(pixels, minlength=size), line[order], weights[order])
        return (
            Held(_rows(counts, pixels, weights, (lines, size))),
            Held(_rows(*back, (size, lines))),
        )

    def _product(self, x: Tensor, transposed: bool) -> Tensor:
        """The matrix, or its transpose, times the rows of x (rows, elements)."""
        if self._matrices is None:
            self._matrices = self._made()
        matrices = self._matrices

        def times(which: bool) -> Map:
            return lambda v: (matrices[which].like(v) @ v.T.contiguous()).T

        return product(x, times(transposed), times(not transposed))

    def measurement_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(*channels, angles, detectors)."""
        sizes = last_dimensions(event_shape, 2, self)
        if sizes != self.size:
            raise InputError(f"{self!r} needs images of size {self.size}; got {sizes}")
        return (*event_shape[:-2], len(self.angles), self.detectors)

    def A(self, x: Tensor) -> Tensor:
        """Integrate x (B, *channels, height, width) along all lines."""
        check_real(x, self)
        shape = self.measurement_shape(tuple(x.shape[1:]))
        rows = x.reshape(-1, self.size[0] * self.size[1])
        return self._product(rows, False).reshape(len(x), *shape)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Back-projection: add the value of each line to the pixels that it crosses."""
        check_real(y, self)
        lead = tuple(y.shape[1:-2])
        same_shape(y, (*lead, len(self.angles), self.detectors), self, "y")
        rows = y.reshape(-1, len(self.angles) * self.detectors)
        return self._product(rows, True).reshape(len(y), *lead, *self.size)

    def acts_by_channel(self, event_shape: tuple[int, ...]) -> bool:
        """Where the event has a dimension beside height and width."""
        return len(event_shape) > 2

    def __repr__(self) -> str:
        height, width = self.size
        return f"Radon({len(self.angles)} angles, {self.detectors} detectors, {height} x {width})"
