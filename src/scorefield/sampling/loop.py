"""The sampling loop.

    sigma_1 > ... > sigma_L     a ladder; x enters at sigma_1 and leaves at sigma_L, or denoised

A kernel that moves (Euler, ancestral) makes one step a pair of levels, sigma_i -> sigma_(i+1); with
steps_per_level > 1 each level is first visited steps_per_level - 1 more times with
sigma_next = sigma. A Langevin kernel visits every level, the last included, steps_per_level times
with sigma_next = sigma, and moving on is no step. A ladder of one level is legal: plain Langevin
dynamics, or the final denoise alone.

Noise is a function of (key, step): see `state.Draws`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import conditions, rng
from ..conditions import Condition
from ..errors import InputError, NonFiniteError
from ..models import Bound, Cost, ScoreModel, check_model, count_cost
from ..noise import check_ladder
from ..tensors import floats
from ..values import flag, functions, one_of, whole
from .kernel import Kernel
from .state import Draws, State

FINALS = ("denoise", "none")


@dataclass(frozen=True)
class StepEvent:
    """What a callback receives after each step.

    Args:
        step: Number of the step, from 1.
        steps: Number of steps in all.
        level: Index of the noise level where x now is.
        sigma: That level.
        x: (B, *event) in model units.
    """

    step: int
    steps: int
    level: int
    sigma: float
    x: Tensor


@dataclass(frozen=True)
class Result:
    """The end of a run.

    Args:
        x: (B, *event) in model units, denoised where `final` was "denoise".
        state: The kernel's last state, with memory and log weights.
        cost: What was spent, in rows.
        trace: (sigma, x) of each level entered, then (sigma, x) at the end with sigma 0 where x
            was denoised; None where no trace was requested.
    """

    x: Tensor
    state: State
    cost: Cost
    trace: list[tuple[float, Tensor]] | None = None

    @property
    def evaluations(self) -> int:
        """Evaluations of the model a row."""
        return self.cost.evaluations // max(len(self.x), 1)


def check_fit(kernel: Kernel, model: ScoreModel, ladder: Tensor) -> None:
    """Refuse a kernel or a ladder that the model does not support.

    Raises:
        InputError: For levels outside the model's range, or a kernel that needs a continuous sigma
            for a model that is defined at the levels of its ladder only.
    """
    model.check_range(ladder)
    if model.ladder_only:
        if kernel.needs_continuous_sigma:
            raise InputError(
                f"{type(kernel).__name__} needs the score as a continuous function of sigma; this "
                "model is defined only at the levels of its ladder. Use 'annealed-langevin' on "
                "model.ladder"
            )
        model.level_index(ladder)


def _check_finite(x: Tensor, where: str) -> None:
    if not bool(torch.isfinite(x).all()):
        fraction = float((~torch.isfinite(x.flatten(1))).any(1).double().mean())
        raise NonFiniteError(
            f"{where}: {fraction:.1%} of {len(x)} samples are not finite. "
            "Step too large, or a model not trained there?"
        )


def _check_weights(log_weight: Tensor | None, where: str) -> None:
    """Log weights may be -inf, a weight of zero, but neither NaN nor +inf."""
    if log_weight is not None and not bool((log_weight < math.inf).all()):
        fraction = float((~(log_weight < math.inf)).double().mean())
        raise NonFiniteError(
            f"{where}: {fraction:.1%} of {len(log_weight)} log weights are NaN or infinite. "
            "A group whose weights are all zero?"
        )


def visits(kernel: Kernel, levels: int, steps_per_level: int) -> list[tuple[int, int]]:
    """The steps of a run as pairs (index of sigma, index of sigma_next)."""
    if kernel.is_langevin:
        return [(i, i) for i in range(levels) for _ in range(steps_per_level)]
    return [
        (i, i if r < steps_per_level - 1 else i + 1)
        for i in range(levels - 1)
        for r in range(steps_per_level)
    ]


class _Trace:
    """Copies of x where a level is entered for the first time."""

    def __init__(self, ladder: Tensor, wanted: bool) -> None:
        self.ladder, self.wanted, self.entered = ladder, wanted, -1
        self.path: list[tuple[float, Tensor]] = []

    def enter(self, level: int, x: Tensor) -> None:
        if self.wanted and level > self.entered:
            self.path.append((float(self.ladder[level]), x.clone()))
        self.entered = max(self.entered, level)

    def end(self, sigma: float, x: Tensor) -> list[tuple[float, Tensor]] | None:
        if not self.wanted:
            return None
        return [*self.path, (sigma, x.clone())]


def run(
    kernel: Kernel,
    model: ScoreModel,
    ladder: Tensor | Sequence[float],
    state: State | Tensor,
    steps_per_level: int = 1,
    final: str = "denoise",
    *,
    keys: rng.Keys | None = None,
    condition: Condition | None = None,
    callbacks: Sequence[Callable[[StepEvent], None]] = (),
    trace: bool = False,
) -> Result:
    """Take a state down the ladder. This is the only loop over noise levels.

    Gradients are off; a model that needs them turns them on itself.

    Args:
        kernel: The sampling method; options that are None are chosen for the model and ladder.
        model: The score model.
        ladder: Noise levels, decreasing, model units.
        state: A State, or x (B, *event) in model units at the first level. It is not written to.
        steps_per_level: Visits of each level, 1 or more (module docstring).
        final: "denoise" returns model.denoise(x, sigma_L), one more evaluation; "none" returns x.
        keys: One key a row, as `rng.keys` makes them; needed where noise is drawn.
        condition: In the internal form (`conditions`), one row a sample.
        callbacks: Each is called with a StepEvent after each step.
        trace: Keep a copy of x at each level.

    Returns:
        The result, with its cost.

    Raises:
        InputError: For a ladder, a kernel, keys or a condition that do not fit.
        NonFiniteError: After the first step that leaves a NaN or an infinity.
    """
    ladder = check_ladder(ladder)
    check_model(model)
    state = state if isinstance(state, State) else State(floats(state, "state"))
    if tuple(state.x.shape[1:]) != tuple(model.event_shape) or state.x.ndim == 0:
        shape = ", ".join(map(str, ("B", *model.event_shape)))
        raise InputError(f"the state must have shape ({shape}); got {tuple(state.x.shape)}")
    steps_per_level = whole(steps_per_level, "steps_per_level", 1)
    final, trace = one_of(final, FINALS, "final"), flag(trace, "trace")
    callbacks = functions(callbacks, "callbacks")
    keys = None if keys is None else rng.as_keys(keys)
    if keys is not None and len(keys) != len(state.x):
        raise InputError(f"need one key a row: got {len(keys)} keys for {len(state.x)} rows")
    kernel = kernel.resolve(model, ladder)
    check_fit(kernel, model, ladder)
    keys = None if keys is None else keys.to(state.x.device)
    if condition is not None:
        model = Bound(model, conditions.to_device(condition, state.x.device))
    plan, last = visits(kernel, len(ladder), steps_per_level), len(ladder) - 1
    path, name = _Trace(ladder, trace), type(kernel).__name__
    with torch.no_grad(), count_cost() as cost:
        _check_finite(state.x, "the state before the first step")
        state = kernel.start(model, ladder, state, Draws(keys, state, len(plan), 0, name))
        for step, (level, level_next) in enumerate(plan):
            path.enter(level, state.x)
            draws = Draws(keys, state, step, level, name)
            state = kernel.step(model, state, ladder[level], ladder[level_next], draws)
            sigma = float(ladder[level_next])
            where = f"step {step + 1} of {len(plan)}, sigma {sigma:g}"
            _check_finite(state.x, where)
            _check_weights(state.log_weight, where)
            for callback in callbacks:
                callback(StepEvent(step + 1, len(plan), level_next, sigma, state.x))
        path.enter(last, state.x)
        x, end = state.x, float(ladder[last])
        if final == "denoise":
            x = model.denoise(x, ladder[last])
            _check_finite(x, f"the final denoise, sigma {end:g}")
    return Result(x, state, cost, path.end(0.0 if final == "denoise" else end, x))
