"""The one loop over sigma, and what a method must say to run in it.

    sigma_1 > ... > sigma_L     a ladder; the state x enters at sigma_1 and leaves at sigma_L, or denoised from there

A kernel that *moves* (Euler, ancestral) makes one step a pair, sigma_i -> sigma_(i+1); with repeats
> 1 each level is first visited
repeats - 1 more times with sigma_next = sigma. A kernel that *stays* (Langevin) visits every level,
the last included, `repeats` times
with sigma_next = sigma, and moving on is no step. A ladder of one level is legal: plain Langevin,
or the final denoise alone.

Noise is a function of (key, step): the k-th `noise()` within step n is rng.normal(keys,
Stream.KERNEL, n, shape, draw=k).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError, NonFiniteError
from ..model import ScoreModel
from ..noise import check_ladder
from ..rng import Stream

FINALS = ("denoise", "none")


class Field(Protocol):
    """What a kernel may ask of a model: the condition is bound already."""

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor: ...
    def score(self, x: Tensor, sigma: Tensor) -> Tensor: ...


Noise = Callable[[], Tensor]
ProjectionNoise = Callable[..., Tensor]  # noise(per="step" | "level")
Project = Callable[[Tensor, Tensor, ProjectionNoise], Tensor]


class Kernel:
    """One step of a method.

    order: the global order of accuracy in the step, in ln sigma, from the first step on, that is
    claimed and tested: of x for kernels that
        follow the flow, of the law's mean and covariance (weak order) for those that draw noise;
        None where it does not apply.
    order_interior: the order with exact history in place of the starting steps, where it differs;
    None: the same.
    draws_noise: True where a step asks for noise.
    stays: True for Langevin-type kernels, which have p_sigma as their (near) stationary law; only
    they allow `project`.
    projects: False for a kernel that stays and yet is wrong with `project`.
    off_ladder: True where the kernel takes the score for a continuous function of sigma;
    index-conditioned models are refused.
    keeps_history: True where the state holds earlier denoised x, which a corrector in between would
    turn into those of another path.
    """

    order: float | None = None
    order_interior: float | None = None
    draws_noise: bool = False
    stays: bool = False
    projects: bool = True
    off_ladder: bool = False
    keeps_history: bool = False

    def start(self, model: Field, ladder: Tensor) -> Any:
        """The state handed from step to step: history, or facts of the ladder."""
        return None

    def step(
        self, model: Field, x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        """x (B, *event) at sigma -> x at sigma_next, and the state. sigma, sigma_next: 0-dim
        float64 on the CPU. x is not written to.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Event:
    """What a callback is told after each step: `step` of `steps` from 1, index and sigma of the
    level where x now is, x in model units.
    """

    step: int
    steps: int
    level: int
    sigma: float
    x: Tensor


@dataclass(frozen=True)
class Result:
    """x in model units; evaluations of the model, each of the whole batch; trace: (sigma, x) for
    each level entered, then (sigma, x) at the
    end with sigma = 0 where x was denoised; None where no trace was asked for."""

    x: Tensor
    evaluations: int
    trace: list[tuple[float, Tensor]] | None = None


class Counted:
    """A model with its condition bound, whose evaluations are counted; every other attribute is the
    model's own.
    """

    def __init__(self, model: ScoreModel, condition: Tensor | None = None) -> None:
        self.model, self.condition, self.evaluations = model, condition, 0

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.evaluations += 1
        return self.model.denoise(x, sigma, self.condition)

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.evaluations += 1
        return self.model.score(x, sigma, self.condition)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.model, name)
        if name != "log_density":
            return value

        def log_density(x: Tensor, sigma: Tensor) -> Tensor:
            self.evaluations += 1
            return value(x, sigma)

        return log_density


def _check(
    kernel: Kernel,
    model: ScoreModel,
    ladder: Tensor,
    repeats: int,
    final: str,
    project: Project | None,
) -> None:
    if repeats < 1:
        raise InputError(f"repeats must be at least 1; got {repeats}")
    if final not in FINALS:
        raise InputError(f"final must be one of {', '.join(FINALS)}; got {final!r}")
    name = type(kernel).__name__
    if project is not None and not kernel.stays:
        raise InputError(
            f"{name} moves from level to level and takes no projection: its step presumes x where "
            "the last one left it, and a projected x "
            "is elsewhere. Use a Langevin-type kernel, which forgets where it came from"
        )
    if project is not None and not kernel.projects:
        raise InputError(
            f"{name} takes no projection: it accepts or rejects whole moves, known part included, "
            "and would settle at another law. "
            "Use annealed-langevin"
        )
    model.check_range(ladder)
    if getattr(model, "index_conditioned", False):
        if kernel.off_ladder:
            raise InputError(
                f"{name} follows the score as a continuous function of sigma, and this model is "
                "conditioned on a level's index: it knows "
                "its levels only. Use annealed-langevin on model.ladder"
            )
        level_index = getattr(model, "level_index", None)
        if level_index is not None:
            level_index(ladder)  # raises before the work, not in the middle of it


def _finite(x: Tensor, where: str) -> None:
    if not bool(torch.isfinite(x).all()):
        share = float((~torch.isfinite(x.flatten(1))).any(1).double().mean())
        raise NonFiniteError(
            f"{where}: {share:.1%} of {len(x)} samples are not finite. Step too large, or a model "
            "not trained there?"
        )


def run(
    kernel: Kernel,
    model: ScoreModel,
    ladder: Tensor | Sequence[float],
    x: Tensor,
    repeats: int = 1,
    final: str = "denoise",
    *,
    keys: rng.Keys | None = None,
    condition: Tensor | None = None,
    project: Project | None = None,
    callbacks: Sequence[Callable[[Event], None]] = (),
    trace: bool = False,
) -> Result:
    """Take x (B, *event), model units, down the ladder; the only loop over sigma. x is not written
    to.

    final: "denoise" returns model.denoise(x, sigma_L), one more evaluation; "none" returns x at
    sigma_L. keys: (B, 2) as rng.keys makes
    them, needed by kernels and projections that ask for noise. condition: handed to the model.
    project(x, sigma, noise) -> x is applied
    after each step, for kernels that stay; its noise(per="step") is fresh each step and
    noise(per="level") one draw a level.
    Raises InputError for a bad ladder, a ladder beyond the model's range, a kernel that does not
    fit the model, noise without keys;
    NonFiniteError after the first step that leaves a NaN or an infinity. Gradients are off; a model
    that needs them turns them on itself.
    """
    ladder = check_ladder(ladder)
    _check(kernel, model, ladder, repeats, final, project)
    if keys is not None and len(keys) != len(x):
        raise InputError(f"need one key a sample: got {len(keys)} keys for {len(x)} samples")
    keys = None if keys is None else keys.to(x.device)
    last = len(ladder) - 1
    if kernel.stays:
        visits = [(i, i) for i in range(last + 1) for _ in range(repeats)]
    else:
        visits = [(i, i if r < repeats - 1 else i + 1) for i in range(last) for r in range(repeats)]

    def normal(stream: Stream, index: int, draw: int) -> Tensor:
        if keys is None:
            raise InputError(
                f"{type(kernel).__name__} asks for noise: pass keys=rng.keys(seed, {len(x)})"
            )
        return rng.normal(keys, stream, index, x.shape[1:], x.dtype, draw=draw)

    counted = Counted(model, condition)
    path: list[tuple[float, Tensor]] = []
    entered = -1

    def enter(level: int) -> None:
        nonlocal entered
        if trace and level > entered:
            path.append((float(ladder[level]), x.clone()))
        entered = max(entered, level)

    with torch.no_grad():
        _finite(x, "the state before the first step")
        state = kernel.start(counted, ladder)
        for step, (level, level_next) in enumerate(visits):
            enter(level)
            draws = {"kernel": 0, "projection": 0}

            def noise(step: int = step, draws: dict[str, int] = draws) -> Tensor:
                draws["kernel"] += 1
                return normal(Stream.KERNEL, step, draws["kernel"] - 1)

            def projection_noise(
                per: str = "step",
                step: int = step,
                level: int = level,
                draws: dict[str, int] = draws,
            ) -> Tensor:
                if per == "level":
                    return normal(
                        Stream.PROJECTION, level, 1
                    )  # odd draws belong to levels, even ones to steps
                if per != "step":
                    raise InputError(f'noise is drawn per="step" or per="level"; got {per!r}')
                draws["projection"] += 1
                return normal(Stream.PROJECTION, step, 2 * (draws["projection"] - 1))

            x, state = kernel.step(counted, x, ladder[level], ladder[level_next], noise, state)
            if project is not None:
                x = project(x, ladder[level_next], projection_noise)
            sigma = float(ladder[level_next])
            _finite(x, f"step {step + 1} of {len(visits)}, sigma {sigma:g}")
            for callback in callbacks:
                callback(Event(step + 1, len(visits), level_next, sigma, x))
        enter(last)
        if final == "denoise":
            x = counted.denoise(x, ladder[last])
            _finite(x, f"the final denoise, sigma {float(ladder[last]):g}")
        if trace:
            path.append((0.0 if final == "denoise" else float(ladder[last]), x.clone()))
    return Result(x, counted.evaluations, path if trace else None)
