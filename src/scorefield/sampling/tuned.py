"""A multistep method whose coefficients are fitted to one model: see `scorefield.tuning`.

The step from level i to level i + 1 is linear in everything that is known there, the state and the
denoised values of all levels so far,

    x_(i+1) = m + a_i (x_i - m) + sum_k b_ik (D_(i-k) - m),    D_j = D(x_j, sigma_j)

with m the data's mean. Every multistep method of one evaluation a step has this form (`multistep`,
`adams`), with coefficients that follow from the noise levels alone. Here the coefficients were
fitted to a model's own flow. Since the step is written in deviations from m, the method is
equivariant under shifts and scales of the data for any coefficients.

The last of the levels is not evaluated: the last step goes to the end of the flow, sigma = 0, in
place of a final denoise. A method of N evaluations has N + 1 levels and N steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InputError
from ..models import ScoreModel, Wrapped
from ..noise import check_ladder
from ..values import items, numbers
from .adams import AdamsMemory
from .ladders import few_step_ladder
from .multistep import History, Multistep, advance
from .state import Draws, State

CARD_ENTRY = "tuned"  # entry of the model card: evaluations (text) -> options of the kernel, facts
UNTUNED = 2  # denoised values that the method uses without coefficients


def linear_step(
    x: Tensor,
    centre: Tensor,
    scale: Tensor | float,
    weights: Sequence[Tensor | float],
    denoised: Sequence[Tensor],
) -> Tensor:
    """The linear step of the module docstring.

    Args:
        x: (B, *event), the state.
        centre: m, broadcast against x.
        scale: a_i.
        weights: b_ik, newest level first.
        denoised: D, (B, *event) each, newest level first.

    Returns:
        (B, *event), the state at the next level.
    """
    moved = centre + scale * (x - centre)
    for weight, value in zip(weights, denoised, strict=True):
        moved = moved + weight * (value - centre)
    return moved


def data_mean(model: ScoreModel, x: Tensor) -> Tensor:
    """m in x's type, broadcast to its shape; zero for a model without moments."""
    known = model.moments()
    if known is None:
        return torch.zeros_like(x)
    return known.mean.to(x.dtype).to(x.device).expand_as(x)


def _rows_of(weights: Any) -> tuple[tuple[float, ...], ...]:
    """The rows of weights as tuples of numbers; trailing zeros beyond the history are cut."""
    rows = [numbers(row, "weights") for row in items(weights, "weights", "rows of numbers")]
    found = []
    for i, row in enumerate(rows):
        if any(row[i + 1 :]):
            raise InputError(
                f"weights: step {i + 1} knows {i + 1} denoised values; got {len(row)} weights"
            )
        found.append((*row, *[0.0] * (i + 1))[: i + 1])
    return tuple(found)


@dataclass(frozen=True)
class Tuned(Multistep):
    """A linear multistep method with free coefficients (module docstring).

    Without coefficients the method is exponential Adams-Bashforth of order 2 on the data.

    Args:
        levels: The noise levels (N + 1,), decreasing, model units; None: any ladder, untuned.
        scales: a_i, one number a step.
        weights: b_ik, one row a step, newest level first; row i has i + 1 numbers.

    Raises:
        InputError: For numbers of coefficients that do not fit the levels.
    """

    levels: Sequence[float] | None = None
    scales: Sequence[float] | None = None
    weights: Sequence[Sequence[float]] | None = None

    help: ClassVar[str] = (
        "probability flow, multistep, coefficients fitted by `scorefield tune`; unfitted order 2"
    )
    order: ClassVar[float | None] = 2

    def __post_init__(self) -> None:
        given = (self.levels, self.scales, self.weights)
        if all(value is None for value in given):
            return
        if self.levels is None or self.scales is None or self.weights is None:
            raise InputError("levels, scales and weights belong together: give all or none of them")
        levels = tuple(check_ladder(numbers(self.levels, "levels")).tolist())
        scales = tuple(numbers(self.scales, "scales"))
        weights = _rows_of(self.weights)
        steps = len(levels) - 1
        if steps < 1 or (len(scales), len(weights)) != (steps, steps):
            raise InputError(
                f"{len(levels)} levels have {steps} steps, each with one of scales and a row of "
                f"weights; got {len(scales)} scales and {len(weights)} rows"
            )
        for name, value in (("levels", levels), ("scales", scales), ("weights", weights)):
            object.__setattr__(self, name, value)

    @property
    def length(self) -> int:
        """All denoised values of the run."""
        return UNTUNED if self.levels is None else len(self.levels)

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """The kernel's own levels; the few-step ladder without coefficients."""
        if self.levels is None:
            return few_step_ladder(model, levels)
        if levels not in (None, len(self.levels)):
            raise InputError(
                f"this method was tuned for {len(self.levels) - 1} evaluations, which is "
                f"{len(self.levels)} levels; got {levels}"
            )
        return check_ladder(self.levels)

    def start(self, model: ScoreModel, ladder: Tensor, state: State, draws: Draws) -> State:
        """An empty history with the data's mean.

        Raises:
            InputError: For another ladder than the one that was tuned.
        """
        if self.levels is None:
            return super().start(model, ladder, state, draws)
        own = torch.tensor(self.levels, dtype=torch.float64)
        if own.shape != ladder.shape or not torch.allclose(own, ladder, rtol=1e-9, atol=0.0):
            raise InputError(
                "the coefficients were fitted for the levels of the kernel: leave ladder out, or "
                "tune anew"
            )
        return state.replace(memory=AdamsMemory(centre=data_mean(model, state.x)))

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """Denoise x and combine; a step whose two levels are equal leaves x unchanged."""
        if self.levels is None or self.scales is None or self.weights is None:
            return super().step(model, state, sigma, sigma_next, draws)
        here, memory = float(sigma), state.memory
        if float(sigma_next) == here:
            return state
        memory = memory.add(here, model.denoise(state.x, sigma), self.length)
        i = len(memory.past) - 1
        values = [value for _, value in memory.past]
        x = linear_step(state.x, memory.centre, self.scales[i], self.weights[i], values)
        return state.replace(x=x, memory=memory)

    def move(
        self, x: Tensor, sigma: float, sigma_next: float, history: History, draws: Draws
    ) -> Tensor:
        """The step without coefficients: the line through the last two D, integrated exactly."""
        return advance(x, sigma, sigma_next, history.past[:UNTUNED])


def tuned_kernel(model: ScoreModel, nfe: int | None) -> Tuned | None:
    """The method that was fitted to a model for a number of evaluations.

    Args:
        model: The model; its card's entry "tuned" decides. Models that wrap another one, such as
            guided ones, have another flow and none of its methods.
        nfe: Evaluations a sample; the method has no final denoise. None: no number was given.

    Returns:
        The kernel, whose own levels are its ladder and whose recipe has final="none"; None where
        no method was fitted for the number.
    """
    if nfe is None or isinstance(model, Wrapped) or model.ladder_only:
        return None
    entry = ((model.card or {}).get(CARD_ENTRY) or {}).get(str(nfe))
    return None if entry is None else Tuned(**entry["options"])
