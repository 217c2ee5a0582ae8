"""`Collector`: draws in data units become the results of each observation."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..data import View
from ..models import ScoreModel
from .measurement import Measurement, Reading
from .noises import gaussianise
from .operators import Mask
from .problem import Problem
from .record import RestorationRecord
from .result import Restoration

Sink = Callable[[int, Tensor], None]


def mean_and_std(draws: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of draws, without rounding where all draws are equal.

    Args:
        draws: (K, *event), floating.

    Returns:
        The mean (*event), which is the value itself where all draws have it, as at known elements;
        and the standard deviation (*event), 0 there; NaN for one draw.
    """
    if len(draws) == 1:
        return draws[0], torch.full_like(draws[0], math.nan)
    same = (draws == draws[0]).all(0)
    mean = torch.where(same, draws[0], draws.mean(0))
    return mean, torch.where(same, 0.0, draws.std(0))


class Collector:
    """Takes draws in the order of their keys.

    Args:
        measurement: The measurement in data units, resolved.
        reading: What was read of it.
        model: The prior, for its units and events.
        draws: Draws of each observation.
        sink: Takes the draws of each observation; None: they are kept.
    """

    def __init__(
        self,
        measurement: Measurement,
        reading: Reading,
        model: ScoreModel,
        draws: int,
        sink: Sink | None,
    ) -> None:
        event_shape = tuple(model.event_shape)
        self.operator, self.exact = measurement.whole(event_shape), measurement.exact
        self.reading, self.draws, self.sink = reading, draws, sink
        self.event_shape, self.units = event_shape, model.units
        self.stored = measurement.batch(event_shape)[0]
        self.problem: Problem = measurement.data_problem(reading.values, event_shape)
        self.buffer = torch.empty(0, *event_shape)
        self.kept: list[Tensor] = []
        self.means: list[Tensor] = []
        self.stds: list[Tensor] = []
        self.chi2: list[Tensor] = []

    def add(self, x: Tensor) -> None:
        """Take the next draws, (B, *event) in data units."""
        self.buffer = torch.cat([self.buffer.to(x.dtype), x])
        while len(self.buffer) >= self.draws:
            self._finish(len(self.means), self.buffer[: self.draws])
            self.buffer = self.buffer[self.draws :]

    def _finish(self, n: int, x: Tensor) -> None:
        form = self.reading.form
        residual = self._squares(n, x.to(torch.float64))
        if residual is not None:
            self.chi2.append(residual)
        restored = form.store(x)
        if isinstance(self.operator, Mask) and self.exact:
            mask = self.operator.on(self.event_shape)
            mask = mask[n] if self.operator.batched else mask
            restored = torch.where(mask, self.stored[n].to(restored.dtype), restored)
        floats = form.floats(restored)
        mean, std = mean_and_std(floats)
        self.means.append(mean)
        self.stds.append(std)
        if self.sink is None:
            self.kept.append(restored)
        else:
            self.sink(n, restored)

    def _squares(self, n: int, x: Tensor) -> Tensor | None:
        """The mean squared residual of each draw in units of the noise; None without noise."""
        problem = self.problem.take(torch.full((len(x),), n))
        if problem.noise is None:
            if problem.noise_std == 0:
                return None
            squares = problem.residual(x).square() / problem.noise_std**2
        elif problem.noise.has_information:
            mean = problem.operator.A(x)
            local = gaussianise(problem.noise, problem.y, mean, problem.known)
            squares = ((local.y - mean) * local.root).square()
            if problem.known is not None:
                squares = torch.where(problem.known, squares, 0.0)
        else:
            return None
        return squares.flatten(1).sum(1) / problem.observed_elements.to(torch.float64)

    def result(self, record: RestorationRecord, view: View) -> Restoration:
        """All observations' results; without the batch dimension for a single measurement."""
        form = self.reading.form
        real = form.dtype if form.dtype.is_floating_point else self.units.dtype
        mean, std = (torch.stack(parts).to(real) for parts in (self.means, self.stds))
        chi2 = torch.stack(self.chi2) if self.chi2 else None
        none = torch.empty(0, self.draws, *self.event_shape, dtype=form.dtype)
        kept = torch.stack(self.kept) if self.kept else none
        if self.reading.single:
            kept = kept[0] if self.kept else kept.flatten(0, 1)
            mean, std, chi2 = mean[0], std[0], None if chi2 is None else chi2[0]
        mask = self.operator.on(self.event_shape) if isinstance(self.operator, Mask) else None
        return Restoration(
            draws=kept,
            mean=mean,
            std=std,
            chi2=chi2,
            record=record,
            observed=self.stored,
            mask=mask,
            view=view,
            single=self.reading.single,
            observed_elements=float(self.problem.observed_elements.min()),
            floats=form.floats,
        )
