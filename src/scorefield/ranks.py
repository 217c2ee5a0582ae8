"""Ranks: the map of a column of few values to the interval from 0 to 1.

The values v_1 < ... < v_K share the axis in cells whose edges lie half-way between neighbours, and
a cell is as wide in ranks as its value is frequent:

    edges   (v_1 - g_1, (v_1 + v_2)/2, ..., (v_(K-1) + v_K)/2, v_K + g_K)    g: half the end's gap
    ranks   (0, p_1, p_1 + p_2, ..., 1)

The map is linear within a cell, and beyond the ends as in the cells there, so that it is one-to-one
and has a density's Jacobian. A value that is spread evenly over its cell is spread evenly over the
ranks: the column's distribution in ranks is uniform, whatever the values are. Values of very
different frequency or distance are then learned equally well, and the nearest value of a sample
has the frequency of the training data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import InputError

UNSEEN = 0.5  # count of a value that does not occur in the training part


@dataclass(frozen=True)
class Ranks:
    """The map of one column.

    Args:
        edges: float64 (K + 1,), ascending, in data units.
        ranks: float64 (K + 1,), ascending from 0 to 1.

    Raises:
        InputError: For fewer than two cells, or numbers that do not rise.
    """

    edges: Tensor
    ranks: Tensor

    def __post_init__(self) -> None:
        fit = self.edges.shape == self.ranks.shape and self.edges.ndim == 1
        if not fit or len(self.edges) < 3:
            raise InputError(
                f"ranks need at least two cells; got edges {tuple(self.edges.shape)} and ranks "
                f"{tuple(self.ranks.shape)}"
            )
        if not bool((self.edges.diff() > 0).all() & (self.ranks.diff() > 0).all()):
            raise InputError("the edges and ranks of cells must rise")

    @staticmethod
    def of(values: Sequence[float], counts: Sequence[float] | Tensor) -> "Ranks":
        """The ranks of values that occur with given counts.

        Args:
            values: The values (K,), ascending, at least two.
            counts: How often each occurs, (K,); UNSEEN stands for 0.

        Returns:
            The map.
        """
        points = torch.as_tensor(values, dtype=torch.float64)
        gaps = points.diff() / 2
        inner = points[:-1] + gaps
        edges = torch.cat([points[:1] - gaps[:1], inner, points[-1:] + gaps[-1:]])
        weights = torch.as_tensor(counts, dtype=torch.float64).clamp_min(UNSEEN)
        ranks = torch.cat([torch.zeros(1, dtype=torch.float64), weights.cumsum(0)])
        return Ranks(edges, ranks / ranks[-1])

    def _cell(self, points: Tensor, x: Tensor) -> Tensor:
        """The number of the cell of each x among the edges `points`."""
        return torch.searchsorted(points[1:-1].contiguous(), x.detach().contiguous())

    def _line(self, a: Tensor, b: Tensor, x: Tensor) -> Tensor:
        a, b = a.to(x.device), b.to(x.device)
        cell = self._cell(a, x)
        return b[cell] + (x - a[cell]) * ((b.diff() / a.diff())[cell])

    def to_rank(self, x: Tensor) -> Tensor:
        """Data units to ranks, float64 of any shape; NaN stays."""
        return self._line(self.edges, self.ranks, x)

    def from_rank(self, y: Tensor) -> Tensor:
        """Ranks to data units, float64 of any shape; NaN stays."""
        return self._line(self.ranks, self.edges, y)

    def log_slope(self, x: Tensor) -> Tensor:
        """log |d rank / d x| at x, float64 of any shape."""
        edges, ranks = self.edges.to(x.device), self.ranks.to(x.device)
        return (ranks.diff() / edges.diff()).log()[self._cell(edges, x)]

    def spread(self, x: Tensor, u: Tensor) -> Tensor:
        """Place values within their cells.

        Args:
            x: Values in data units, float64 of any shape.
            u: Places in the cells, in [0, 1), of the same shape.

        Returns:
            low + u (high - low) of each value's cell.
        """
        edges = self.edges.to(x.device)
        cell = self._cell(edges, x)
        return torch.lerp(edges[cell], edges[cell + 1], u)

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold; `from_dict` undoes it exactly."""
        return {"edges": self.edges.tolist(), "ranks": self.ranks.tolist()}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Ranks":
        """The map that `to_dict` wrote."""
        edges, ranks = (
            torch.tensor(values[name], dtype=torch.float64) for name in ("edges", "ranks")
        )
        return Ranks(edges, ranks)
