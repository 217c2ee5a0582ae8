"""The converged probability flow: the sample that an exact solver makes of the same start.

The flow is solved from an entrant's own x_T, at its own largest noise level, down to the lowest
level of the model's range and the final denoising step, by UniPC with p = 3. Solved with half the
evaluations, the solution moves by `change`: the error of the converged flow is of that size or
smaller, since the order is above one. A distance counts as measured where `change` is below one per
cent of the distance.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import rng
from ..noise import few_step, geometric
from ..sampling import SamplingRecipe, draw, make_kernel
from .measures import rms
from .problems import Problem

RESOLVED = 0.01  # largest part of a reported distance by which halving may move the flow


@dataclass
class Flow:
    """Converged flows of a problem's model, each solved once.

    Attributes:
        problem: The problem.
        rows: Number of starts of a seed.
        nfe: Evaluations of the converged solution; half of them check it.
    """

    problem: Problem
    rows: int
    nfe: int
    known: dict[tuple[float, int], tuple[Tensor, float]] = field(default_factory=dict)

    def ladder(self, top: float, nfe: int) -> Tensor:
        """The noise levels of a solution of nfe evaluations that begins at the level `top`."""
        low = self.problem.model.sampling_range()[0]
        moments = self.problem.model.moments()
        std = None if moments is None else moments.data_std
        if top <= low:
            return torch.tensor([top], dtype=torch.float64)
        return few_step(top, low, nfe, std) if std else geometric(top, low, nfe)

    def solve(self, top: float, seed: int, nfe: int, rows: int) -> Tensor:
        """The flow's samples.

        Args:
            top: The largest noise level.
            seed: Seed of the starts.
            nfe: Evaluations.
            rows: Number of starts.

        Returns:
            (rows, *event) in data units.
        """
        recipe = SamplingRecipe(make_kernel("unipc", {"p": 3}), self.ladder(top, nfe))
        return draw(self.problem.model, recipe, rng.keys(seed, rows)).x

    def at(self, top: float, seed: int) -> tuple[Tensor, float]:
        """Converged samples from the level `top`, and how far halving moves them (RMS)."""
        key = (top, seed)
        if key not in self.known:
            found = self.solve(top, seed, self.nfe, self.rows)
            half = self.solve(top, seed, self.nfe // 2, self.rows)
            change = rms(self.problem.measured(found), self.problem.measured(half))
            self.known[key] = found, change
        return self.known[key]
