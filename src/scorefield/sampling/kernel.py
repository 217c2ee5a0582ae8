"""The `Kernel` interface that sampling methods implement, and `Projected`, which wraps one.

A kernel is a frozen dataclass: its options are its fields, and what it claims about itself are its
class attributes, which tests measure.

    @dataclass(frozen=True)
    class Midpoint(Kernel):
        where: float = 0.5                 # an option, with its default
        order = 2                          # a claim
        def step(self, model, state, sigma, sigma_next, draws):
            ...
            return state.replace(x=x)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor

from ..errors import InputError
from ..models import ScoreModel
from .ladders import flow_ladder
from .state import Draws, State

Project = Callable[[Tensor, Tensor, Callable[..., Tensor]], Tensor]


@dataclass(frozen=True)
class Kernel:
    """One step of a sampling method. Every option has a default.

    Attributes:
        help: One line for the command line.
        order: Claimed global order of accuracy in the step, in ln sigma, from the first step on:
            of x for kernels that follow the probability flow, of the mean and covariance of the
            samples (weak order) for those that draw noise. None where it does not apply.
        order_interior: The order with exact history in place of the starting steps, where it
            differs from `order`; None: the same.
        draws_noise: True where a step draws random numbers.
        is_langevin: True for kernels that stay at a noise level and whose stationary distribution
            is p_sigma, up to the bias of a finite step.
        allows_projection: True where `Projected` may wrap the kernel.
        needs_continuous_sigma: True where the score must be a continuous function of sigma; models
            that are defined at the levels of a ladder only are refused.
        keeps_history: True for multistep methods, whose state stores earlier denoised estimates.
            They cannot be combined with a corrector.
    """

    help: ClassVar[str] = ""
    order: ClassVar[float | None] = None
    order_interior: ClassVar[float | None] = None
    draws_noise: ClassVar[bool] = False
    is_langevin: ClassVar[bool] = False
    allows_projection: ClassVar[bool] = False
    needs_continuous_sigma: ClassVar[bool] = False
    keeps_history: ClassVar[bool] = False

    @property
    def evaluations_per_step(self) -> int:
        """Evaluations of the model that one step takes, a row."""
        return 1

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """The noise levels that suit this kernel.

        Args:
            model: Its range and moments decide.
            levels: Number of noise levels, 1 or more; None for the usual number.

        Returns:
            The ladder (L,), float64, decreasing.
        """
        return flow_ladder(model, levels)

    def default_steps_per_level(self, ladder: Tensor) -> int:
        """How often each noise level is visited unless the caller decides."""
        return 1

    def resolve(self, model: ScoreModel, ladder: Tensor) -> "Kernel":
        """This kernel with every option that is None chosen for the model and the ladder."""
        return self

    def options(self) -> dict[str, Any]:
        """The options by name, in a form that JSON can hold."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            name: _plain(value)
            for name, value in found.items()
            if not callable(value) or isinstance(value, Kernel)
        }

    def start(self, model: ScoreModel, ladder: Tensor, state: State, draws: Draws) -> State:
        """The state before the first step: what the kernel keeps goes into `memory`.

        Args:
            model: The model with its condition bound.
            ladder: The noise levels.
            state: The state at the largest noise level.
            draws: Random numbers.

        Returns:
            The state.
        """
        return state

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """One step.

        Args:
            model: The model with its condition bound: `model.score(x, sigma)`.
            state: The state at sigma; nothing in it is written to.
            sigma: () float64 on the CPU.
            sigma_next: () like sigma; equal to it where the step stays at its level.
            draws: Random numbers.

        Returns:
            The state at sigma_next.
        """
        raise NotImplementedError


def _plain(value: Any) -> Any:
    """An option in a form that JSON can hold: kernels by name, tensors as nested lists."""
    if isinstance(value, Kernel):
        return type(value).__name__
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


@dataclass(frozen=True)
class Projected(Kernel):
    """A kernel that projects x after each of its steps, as in hard inpainting.

    Args:
        kernel: A Langevin kernel without an accept step, so that x may change between its steps.
        project: (x, sigma, noise) -> x with `noise(per="step" | "level")` standard normals of x's
            shape.

    Raises:
        InputError: For a kernel that does not allow projection.
    """

    kernel: Kernel = Kernel()
    project: Project = lambda x, sigma, noise: x

    draws_noise: ClassVar[bool] = True
    is_langevin: ClassVar[bool] = True
    help: ClassVar[str] = "Langevin dynamics with a projection after each step"

    def __post_init__(self) -> None:
        if not isinstance(self.kernel, Kernel):
            raise InputError(f"Projected wraps a kernel; got {self.kernel!r}")
        if not self.kernel.is_langevin or not self.kernel.allows_projection:
            name = type(self.kernel).__name__
            why = (
                "it accepts or rejects whole moves, known elements included"
                if self.kernel.is_langevin
                else "its steps assume x is unchanged between them"
            )
            raise InputError(f"{name} does not support `project`: {why}. Use 'annealed-langevin'")

    @property
    def needs_continuous_sigma(self) -> bool:  # type: ignore[override]
        """As the wrapped kernel."""
        return self.kernel.needs_continuous_sigma

    @property
    def evaluations_per_step(self) -> int:
        """Those of the wrapped kernel."""
        return self.kernel.evaluations_per_step

    def default_ladder(self, model: ScoreModel, levels: int | None = None) -> Tensor:
        """The wrapped kernel's ladder."""
        return self.kernel.default_ladder(model, levels)

    def default_steps_per_level(self, ladder: Tensor) -> int:
        """Those of the wrapped kernel."""
        return self.kernel.default_steps_per_level(ladder)

    def resolve(self, model: ScoreModel, ladder: Tensor) -> "Projected":
        """The same with the wrapped kernel resolved."""
        return Projected(self.kernel.resolve(model, ladder), self.project)

    def options(self) -> dict[str, Any]:
        """The wrapped kernel's options."""
        return self.kernel.options()

    def start(self, model: ScoreModel, ladder: Tensor, state: State, draws: Draws) -> State:
        """The wrapped kernel's start."""
        return self.kernel.start(model, ladder, state, draws)

    def step(
        self, model: ScoreModel, state: State, sigma: Tensor, sigma_next: Tensor, draws: Draws
    ) -> State:
        """The wrapped kernel's step, then the projection."""
        state = self.kernel.step(model, state, sigma, sigma_next, draws)
        return state.replace(x=self.project(state.x, sigma_next, draws.observation))
