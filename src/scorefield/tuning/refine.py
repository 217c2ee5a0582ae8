"""Fit all levels and coefficients together to the end of the flow (Levenberg and Marquardt).

    minimise  mean |x_N(theta) - end|²        (J'J + damping mean(diag J'J) I) step = J'(end - x_N)

The method has a few dozen parameters, and each of them changes only the steps after its own, so
that the columns of J are differences of runs that begin in the middle. No gradient of the network
is needed: energies, compiled networks and imported networks are fitted in the same way. Damping by
the identity keeps coefficients of nearly equal denoised values small. A second set of starts, which
is not fitted to, decides which iteration is kept and when the fit stops.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .starts import Batch, squares
from .unrolled import Parameters, Run, unroll

DIFFERENCE = 1e-3  # step of the differences in J; parameters are of order one
DAMPING, EASED, DAMPED, MOST_DAMPING = 1e-3, 0.2, 5.0, 1e3
ITERATIONS = 40
PATIENCE = 3  # iterations without a gain on the other starts
GAIN = 0.005  # fraction of the mean square that counts as a gain
LEAST_GAP = 0.02  # between neighbouring levels, in ln sigma


def mean_square(batches: Sequence[Batch], parameters: Parameters) -> float:
    """Mean squared distance per element to the end; infinite where a run is not finite."""
    total, count = 0.0, 0
    for batch in batches:
        found = squares(unroll(batch, parameters).states[-1] - batch.end)
        total, count = total + float(found.sum()), count + len(found)
    value = total / max(count, 1)
    return value if math.isfinite(value) else math.inf


def columns(batch: Batch, parameters: Parameters, run: Run) -> Tensor:
    """J', the derivatives of the end by each parameter, in the order of `vector`.

    Args:
        batch: The starts.
        parameters: Where the derivatives are taken.
        run: The run there.

    Returns:
        J', (parameters, B * d), in the model's type.
    """
    steps, theta = len(parameters.logs), parameters.vector()
    # Row i changes x_(i+1) and later states; level i changes x_i too, since it sets r_i.
    begins = [*range(steps), *(i + 1 for i in range(steps) for _ in range(i + 2))]
    found = []
    for k, begin in enumerate(begins):
        change = -DIFFERENCE if k < steps else DIFFERENCE  # no level leaves the model's range
        shifted = theta.clone()
        shifted[k] += change
        moved = unroll(batch, parameters.with_vector(shifted), run, begin)
        found.append((moved.states[-1] - run.states[-1]).flatten() / change)
    return torch.stack(found)


def normal_equations(
    batches: Sequence[Batch], parameters: Parameters
) -> tuple[Tensor, Tensor, float]:
    """(J'J, J'(end - x_N), mean square) over all batches, per element, float64."""
    size = parameters.size
    square = torch.zeros(size, size, dtype=torch.float64)
    slope, total, count = torch.zeros(size, dtype=torch.float64), 0.0, 0
    for batch in batches:
        run = unroll(batch, parameters)
        jacobian = columns(batch, parameters, run)
        gap = (batch.end - run.states[-1]).flatten()
        square += (jacobian @ jacobian.T).double().cpu()
        slope += (jacobian @ gap).double().cpu()
        total, count = total + float(gap.double().square().sum()), count + gap.numel()
    return square / count, slope / count, total / count


def inside(parameters: Parameters, least: float, most: float) -> Parameters:
    """Parameters whose levels decrease and lie within the model's range.

    Args:
        parameters: Any parameters.
        least: Smallest noise level of the model; levels stay above it.
        most: Largest noise level.

    Returns:
        Parameters with levels at least LEAST_GAP apart.
    """
    logs, top = [], math.log(most)
    for k, value in enumerate(parameters.logs):
        room = math.log(least) + LEAST_GAP * (len(parameters.logs) - k)
        logs.append(max(min(value, top), room))
        top = logs[-1] - LEAST_GAP
    return Parameters(tuple(logs), parameters.rows, parameters.data_std)


def refine(
    fitted: Sequence[Batch],
    others: Sequence[Batch],
    parameters: Parameters,
    ends: tuple[float, float],
    stop: Callable[[], bool],
) -> Parameters:
    """Fit all parameters to the end of the flow.

    Args:
        fitted: The starts that are fitted to.
        others: Other starts; they decide which iteration is kept.
        parameters: Where to begin.
        ends: The model's smallest and largest noise level.
        stop: Whether time is up; the best parameters so far are then returned.

    Returns:
        The parameters that are best on the other starts.
    """
    parameters = inside(parameters, *ends)
    best, best_value = parameters, mean_square(others, parameters)
    damping, waited = DAMPING, 0
    for _ in range(ITERATIONS):
        if stop() or waited >= PATIENCE or damping > MOST_DAMPING:
            break
        square, slope, value = normal_equations(fitted, parameters)
        scale = float(square.diagonal().mean())
        eye = torch.eye(len(square), dtype=torch.float64)
        accepted = False
        while not accepted and damping <= MOST_DAMPING and not stop():
            step = torch.linalg.solve(square + damping * scale * eye, slope)
            trial = inside(parameters.with_vector(parameters.vector() + step), *ends)
            accepted = mean_square(fitted, trial) < value
            damping *= EASED if accepted else DAMPED
        if not accepted:
            break
        parameters = trial
        found = mean_square(others, parameters)
        waited = 0 if found < (1 - GAIN) * best_value else waited + 1
        if found < best_value:
            best, best_value = parameters, found
    return best
