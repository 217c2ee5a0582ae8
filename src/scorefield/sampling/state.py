"""The state of a sampling run and the random numbers of one step.

A state holds B rows. For a particle population they are groups of `particles` rows each: rows
0 .. particles - 1 are the first group. A batch never cuts a group.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError
from ..rng import Stream
from ..values import whole


def select_rows(value: Any, index: Tensor, rows: int) -> Any:
    """Rows `index` of every tensor in `value`.

    Tuples, lists, dictionaries and dataclasses are walked through; tensors without dimensions and
    all other values stay as they are.

    Args:
        value: What a kernel keeps.
        index: Row numbers.
        rows: Number of rows that every tensor with a dimension has to have.

    Raises:
        InputError: For a tensor with another number of rows.
    """
    if isinstance(value, Tensor):
        if value.ndim and len(value) != rows:
            raise InputError(
                f"a tensor in a state's memory must have one row a sample, {rows}, or no "
                f"dimension; got shape {tuple(value.shape)}. Keep anything else as a list of "
                "numbers, or as a field of the kernel"
            )
        return value[index] if value.ndim else value
    if isinstance(value, tuple | list):
        parts = [select_rows(part, index, rows) for part in value]
        if isinstance(value, list):
            return parts
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, dict):
        return {key: select_rows(part, index, rows) for key, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **select_rows(fields, index, rows))
    return value


@dataclass(frozen=True)
class State:
    """The state of a sampling run.

    Args:
        x: (B, *event) in model units.
        memory: What a kernel keeps from step to step. Every tensor in it with a dimension has B
            rows.
        log_weight: (B,) log weights of a particle population; None for equal weights.
        particles: Rows a group, a divisor of B.
    """

    x: Tensor
    memory: Any = None
    log_weight: Tensor | None = None
    particles: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "particles", whole(self.particles, "particles", 1))
        if len(self.x) % self.particles:
            raise InputError(
                f"the {len(self.x)} rows of a state must be whole groups of {self.particles} "
                "particles"
            )
        if self.log_weight is not None and self.log_weight.shape != self.x.shape[:1]:
            raise InputError(
                f"log_weight must have one number a row, shape ({len(self.x)},); got "
                f"{tuple(self.log_weight.shape)}"
            )

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.x) // self.particles

    def replace(self, **changes: Any) -> "State":
        """A copy with other values of the named fields."""
        return dataclasses.replace(self, **changes)

    def select(self, index: Tensor) -> "State":
        """The state of rows `index` (int64): x, memory and log weights together, as in resampling.

        Args:
            index: One row number for each row of the result.

        Returns:
            A state with len(index) rows.

        Raises:
            InputError: For an index that is not one row of whole numbers, and for tensors in memory
                that do not have one row a sample.
        """
        if index.ndim != 1 or index.dtype not in (torch.int64, torch.int32):
            raise InputError(
                "index must be row numbers (B,), int64; got "
                f"{str(index.dtype).removeprefix('torch.')} of shape {tuple(index.shape)}"
            )
        return State(
            self.x[index],
            select_rows(self.memory, index, len(self.x)),
            None if self.log_weight is None else self.log_weight[index],
            self.particles,
        )


class Draws:
    """Random numbers of one step: functions of (key, stream, step, number of the call).

    Args:
        keys: One key a row, or None for a run without noise.
        state: The state; it gives shapes, type and device.
        step: Number of the step.
        level: Number of the noise level.
        asker: Name of the kernel, for the error where there are no keys.
    """

    def __init__(
        self, keys: rng.Keys | None, state: State, step: int, level: int, asker: str
    ) -> None:
        self._keys, self.step, self.level, self._asker = keys, step, level, asker
        self._rows, self._particles = len(state.x), state.particles
        self._shape, self._dtype = tuple(state.x.shape[1:]), state.x.dtype
        self._normals = self._uniforms = self._group_uniforms = self._observations = 0

    def _need_keys(self) -> rng.Keys:
        if self._keys is None:
            raise InputError(f"{self._asker} draws noise: pass keys=rng.keys(seed, {self._rows})")
        return self._keys

    def normal(self) -> Tensor:
        """Standard normals (B, *event), new ones in every call."""
        self._normals += 1
        return rng.normal(
            self._need_keys(),
            Stream.KERNEL,
            self.step,
            self._shape,
            self._dtype,
            draw=self._normals - 1,
        )

    def uniform(self) -> Tensor:
        """Uniform numbers in (0, 1), one a row: (B,), new ones in every call."""
        self._uniforms += 1
        return rng.uniform(
            self._need_keys(),
            Stream.KERNEL_UNIFORM,
            self.step,
            (),
            self._dtype,
            draw=self._uniforms - 1,
        )

    def group_uniform(self) -> Tensor:
        """Uniform numbers in (0, 1), one a group: (groups,), new ones in every call."""
        self._group_uniforms += 1
        first = self._need_keys()[slice(None, None, self._particles)]
        return rng.uniform(
            first,
            Stream.RESAMPLING,
            self.step,
            (),
            torch.float64,
            draw=self._group_uniforms - 1,
        )

    def observation(self, per: str = "step") -> Tensor:
        """Standard normals (B, *event) for the noise of an observation.

        Args:
            per: "step" for new ones in every call, "level" for one draw a noise level.

        Raises:
            InputError: For any other word.
        """
        if per == "step":
            self._observations += 1
            number, draw = self.step, 2 * (self._observations - 1)
        elif per == "level":
            number, draw = self.level, 1  # odd draws belong to levels, even ones to steps
        else:
            raise InputError(f'noise is drawn per="step" or per="level"; got {per!r}')
        return rng.normal(
            self._need_keys(), Stream.PROJECTION, number, self._shape, self._dtype, draw=draw
        )
