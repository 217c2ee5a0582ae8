"""The fitted method with its parameters in units of the data, run step by step.

With S the data's standard deviation, r_i² = S² + sigma_i² for the levels that are evaluated and
r_N = S at the end, the step of `sampling.tuned` reads

    y_(i+1) = alpha_i y_i + sum_k beta_ik (D_(i-k) - m) / S,    y_i = (x_i - m) / r_i

so that all parameters are of order one, the noise levels as ln sigma among them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..sampling import Tuned
from ..sampling.tuned import data_mean, linear_step
from .starts import Batch


@dataclass(frozen=True)
class Parameters:
    """Noise levels and coefficients of a method of N evaluations.

    Args:
        logs: N numbers, ln sigma of the levels, decreasing.
        rows: N rows; row i holds alpha_i and then beta_ik, newest first: i + 2 numbers.
        data_std: S, above zero.
    """

    logs: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]
    data_std: float

    @property
    def size(self) -> int:
        """Number of parameters."""
        return len(self.logs) + sum(map(len, self.rows))

    def vector(self) -> Tensor:
        """All parameters, float64: levels, then the rows one after another."""
        numbers = [*self.logs, *(value for row in self.rows for value in row)]
        return torch.tensor(numbers, dtype=torch.float64)

    def with_vector(self, values: Tensor) -> "Parameters":
        """The parameters of another vector."""
        numbers, steps = values.tolist(), len(self.logs)
        rows, begin = [], steps
        for i in range(steps):
            rows.append(tuple(numbers[begin : begin + i + 2]))
            begin += i + 2
        return replace(self, logs=tuple(numbers[:steps]), rows=tuple(rows))

    def spread(self, i: int) -> float:
        """r_i; S for the end."""
        if i == len(self.logs):
            return self.data_std
        return math.hypot(self.data_std, math.exp(self.logs[i]))

    def step(self, i: int) -> tuple[float, list[float]]:
        """(a_i, b_i) of `sampling.tuned`."""
        scale, *weights = self.rows[i]
        ahead = self.spread(i + 1)
        return scale * ahead / self.spread(i), [w * ahead / self.data_std for w in weights]

    def kernel(self, least: float) -> Tuned:
        """The sampling method.

        Args:
            least: The model's smallest noise level, which stands for the end of the flow in the
                ladder; it is not evaluated.
        """
        steps = [self.step(i) for i in range(len(self.logs))]
        levels = [math.exp(value) for value in self.logs]
        return Tuned([*levels, least], [a for a, _ in steps], [b for _, b in steps])


@dataclass
class Run:
    """The states and denoised values of a run, from which a changed run can begin in the middle.

    Args:
        states: x_0 to x_N; the last one is the end.
        denoised: D_0 to D_(N-1).
    """

    states: list[Tensor]
    denoised: list[Tensor]


def unroll(
    batch: Batch, parameters: Parameters, earlier: Run | None = None, unchanged: int = 0
) -> Run:
    """Run the method on the starts of a batch.

    Args:
        batch: The starts.
        parameters: The method.
        earlier: A run with the same parameters before step `unchanged`, or None.
        unchanged: Number of the earlier states that still hold. x_0 to x_(unchanged - 1) and their
            D are reused, and x_unchanged is computed again.

    Returns:
        The run, of N - unchanged evaluations.
    """
    states: list[Tensor] = [] if earlier is None else earlier.states[:unchanged]
    denoised: list[Tensor] = [] if earlier is None else earlier.denoised[:unchanged]
    with torch.no_grad():
        centre = None
        for i in range(unchanged, len(parameters.logs) + 1):
            if i == 0:
                states.append(batch.start(math.exp(parameters.logs[0])))
            else:
                centre = data_mean(batch.model, states[0]) if centre is None else centre
                states.append(advance(states[-1], centre, parameters, i - 1, denoised))
            if i < len(parameters.logs):
                sigma = torch.tensor(math.exp(parameters.logs[i]), dtype=torch.float64)
                denoised.append(batch.model.denoise(states[-1], sigma))
    return Run(states, denoised)


def advance(
    x: Tensor, centre: Tensor, parameters: Parameters, i: int, denoised: Sequence[Tensor]
) -> Tensor:
    """x_(i+1) from x_i and D_0 to D_i.

    Args:
        x: (B, *event).
        centre: m.
        parameters: The method.
        i: Number of the step.
        denoised: D_0 to D_i, oldest first.

    Returns:
        (B, *event).
    """
    scale, weights = parameters.step(i)
    return linear_step(x, centre, scale, weights, [*denoised[: i + 1]][::-1])
