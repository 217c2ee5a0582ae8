"""`Restoration`: the result of `restore`, which shows itself."""

import html
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import View
from ..errors import InputError
from ..plotting import Picture, paragraph, save_inpainting, with_picture
from ..values import finite, is_number
from .record import RestorationRecord, chi2_range

SHOWN_INPUTS, SHOWN_DRAWS = 6, 8  # of a sheet
SHOWN_ROWS = 12  # of a table in a notebook


@dataclass(frozen=True, repr=False)
class Restoration:
    """The result of `restore`: K draws of each of N observations, in data units.

    Attributes:
        draws: (N, K, *event) in the form of the observation, (K, *event) for a single one; empty
            where a sink took them.
        mean: The draws' mean, (N, *event) or (*event), floats in data units.
        std: Their standard deviation, like `mean`; NaN for one draw.
        chi2: (N, K) or (K,), the mean squared residual of each draw in units of the noise, over the
            observed elements; None for exact observations, and for a likelihood given as a
            function. Of draws of the true posterior it lies in `chi2_range`.
        record: How the draws were made.
        observed: The observations as they came, (N, *measurement); None where they are not kept.
        mask: bool, True for observed elements, (*event) or (N, *event); None where the operator is
            no mask.
        view: How the draws are drawn as a picture.
        single: Whether one observation was given without a batch dimension.
    """

    draws: Tensor
    mean: Tensor
    std: Tensor
    chi2: Tensor | None
    record: RestorationRecord
    observed: Tensor | None = field(default=None, compare=False)
    mask: Tensor | None = field(default=None, compare=False)
    view: View = field(default=View(), compare=False)
    single: bool = False
    observed_elements: float = field(default=1.0, compare=False)
    floats: Callable[[Tensor], Tensor] = field(default=lambda x: x, compare=False, repr=False)

    @property
    def evaluations(self) -> int:
        """Evaluations of the prior a draw."""
        return self.record.evaluations

    @property
    def chi2_range(self) -> tuple[float, float]:
        """The range in which `chi2` of a draw of the true posterior lies with probability 0.99."""
        return chi2_range(self.observed_elements)

    def quantile(self, q: Any) -> Tensor:
        """Quantiles of the draws, element by element, in data units.

        Args:
            q: A number in [0, 1], or a sequence of Q of them.

        Returns:
            Like `mean`; with a first dimension Q for a sequence.

        Raises:
            InputError: For numbers outside [0, 1], and where the draws were not kept.
        """
        if not self.draws.numel():
            raise InputError("the draws were not kept (sink=), so that they have no quantiles")
        wanted = torch.tensor(
            [finite(q, "q", 0.0, 1.0)] if is_number(q) else [finite(v, "q", 0.0, 1.0) for v in q],
            dtype=torch.float64,
        )
        wide = self.floats(self.draws).to(torch.float64)
        ordered = wide.sort(0 if self.single else 1).values
        dim = 0 if self.single else 1
        place = wanted * (ordered.shape[dim] - 1)
        low = place.floor().long()
        high = (low + 1).clamp(max=ordered.shape[dim] - 1)
        share = (place - low).reshape(-1, *[1] * self.mean.ndim)
        rows = ordered.movedim(dim, 0)
        found = (rows[low] + share * (rows[high] - rows[low])).to(self.mean.dtype)
        return found[0] if is_number(q) else found

    @property
    def _batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Draws, mean and standard deviation with the dimension of the observations."""
        if self.single:
            return self.draws[None], self.mean[None], self.std[None]
        return self.draws, self.mean, self.std

    def __repr__(self) -> str:
        std = self._batch[2]
        plural = "" if len(std) == 1 else "s"
        text = (
            f"Restoration of {len(std):,} observation{plural}: draws of shape "
            f"{tuple(self.draws.shape)}, {str(self.draws.dtype).removeprefix('torch.')}"
        )
        spread = std if self.mask is None else std.masked_select(~self.mask)
        if spread.numel() and math.isfinite(float(spread.mean())):
            where = "" if self.mask is None else " of unknown elements"
            text += f", standard deviation{where} {float(spread.mean()):.3g} on average"
        if self.chi2 is not None:
            low, high = self.chi2_range
            text += f", chi2 {float(self.chi2.mean()):.3g} on average ({low:.2f} to {high:.2f} is "
            text += "expected)"
        return paragraph(
            f"{text}; method {self.record.method}, {self.evaluations} evaluations a draw."
        )

    def picture(self, title: str | None = None) -> Picture:
        """The restorations as a picture; a notebook shows it, `save` writes it.

        Images become a sheet: observed, draws, mean and standard deviation. Of other data the draws
        of the first observation are shown.

        Args:
            title: Shown above; None: what is shown.

        Returns:
            The picture.
        """
        draws = self._batch[0]
        if draws.numel() and self.view.image and draws.ndim == 5:
            count = min(len(draws), SHOWN_INPUTS)
            words = f"{draws.shape[1]} draws of each of {len(draws):,} observations"
            words = title if title is not None else words
            return Picture(lambda path: self._save_sheet(path, count, words), words)
        words = f"{draws.shape[1]} draws of the first of {len(draws):,} observations"
        first = draws[0] if len(draws) else draws
        return self.view.picture(first, title=title or words, known=self._known(first))

    def _known(self, draws: Tensor) -> Tensor | None:
        """The exactly known elements of draws of one observation, NaN elsewhere; None for none."""
        if self.mask is None or self.chi2 is not None or not draws.is_floating_point():
            return None
        mask = self.mask[0] if self.mask.ndim == draws.ndim else self.mask
        return torch.where(mask, draws, math.nan)

    def _save_sheet(self, path: Path, count: int, title: str) -> Path:
        draws, mean, std = (part[:count] for part in self._batch)
        if not draws.numel():
            raise InputError("the draws were not kept, so that there is nothing to show")
        seen = None if self.observed is None else self.observed[:count]
        if seen is not None:
            seen = seen.nan_to_num() if seen.is_floating_point() else seen
            seen = seen if seen.ndim == 4 else None
        mask = self.mask
        if mask is not None and mask.ndim == 4:
            mask = mask[:count]
        return save_inpainting(
            path,
            None,
            seen,
            None if seen is None else mask,
            draws[:, :SHOWN_DRAWS],
            mean,
            std if draws.shape[1] > 1 else None,
            title=title,
            levels=self.view.levels,
        )

    def _repr_html_(self) -> str:
        if self._batch[1].ndim == 2 and self.mean.numel():
            return with_picture(repr(self), None) + self._rows()
        return with_picture(repr(self), self.picture())

    def _rows(self) -> str:
        """Rows of a table: observed values as they are, others as mean ± standard deviation."""
        _, mean, std = self._batch
        names = self.view.element_names or [str(n) for n in range(mean.shape[1])]
        known = torch.zeros_like(mean, dtype=torch.bool) if self.mask is None else self.mask
        known = known.expand_as(mean)
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        body = []
        for row in range(min(len(mean), SHOWN_ROWS)):
            cells = [
                f"<td>{_digits(m)}</td>" if k else f"<td><b>{m:.4g} ± {s:.2g}</b></td>"
                for m, s, k in zip(mean[row].numpy(), std[row].numpy(), known[row], strict=True)
            ]
            body.append(f"<tr>{''.join(cells)}</tr>")
        more = len(mean) - len(body)
        rest = f"<p>and {more:,} more</p>" if more else ""
        return f"<table><tr>{head}</tr>{''.join(body)}</table>{rest}<p>Bold: mean ± sd.</p>"


def _digits(value: Any) -> str:
    """A number of NumPy with six digits, or with as many as it needs."""
    short = f"{value:.6g}"
    return short if type(value)(short) == value else str(value)
