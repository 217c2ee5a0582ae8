"""The plan of an exact density: noise levels and steps from its moments and components."""

import torch

from ..config.resolve import planned_steps
from ..data.distances import pair_distances
from ..exact import ExactDensity
from ..noise import level_count, level_ratio
from .picture import Chart
from .result import Line, Plan

DRAWS = 1000  # independent draws whose distances the picture shows


def plan_density(model: ExactDensity) -> Plan:
    """Plan the sampling of an exact density.

    Args:
        model: The density.

    Returns:
        The plan. It has no settings: nothing is trained.

    Raises:
        InputError: The density has no default range of noise levels.
    """
    moments = model.moments()
    assert moments is not None, "exact densities have moments"
    low, high = model.sampling_range()
    variance = moments.variance.double()
    elements = variance.numel()
    std = float(variance.mean().sqrt())
    draws = model.sample(DRAWS, seed=0).double().cpu()
    pairs = pair_distances(draws.flatten(1))
    levels = level_count(high, low, elements)
    steps, epsilon, reached = planned_steps(high, low, levels)
    lines = (
        Line("density", type(model).__name__, f"{elements} elements; model units are data units."),
        Line("sigma_data", f"{std:.3g}", "Root mean square of the standard deviations.", "", std),
        Line(
            "sigma_max",
            f"{high:.3g}",
            "20 standard deviations along the widest direction, so that the start is the density "
            f"to about 1e-4. The largest of {len(pairs):,} distances between exact draws, "
            f"Technique 1, is {float(pairs[-1]):.3g}.",
            "",
            high,
        ),
        Line(
            "sigma_min",
            f"{low:.3g}",
            "2 % of the smallest standard deviation of a component (of 5 % of the whole for "
            "points and bounds): the last denoising removes 1/2500 of its variance.",
            "",
            low,
        ),
        Line(
            "levels",
            str(levels),
            f"Annealed Langevin: Technique 2 gives the ratio {level_ratio(elements):.4f} for "
            f"{elements} elements (at most 1.6), and at least 10 levels.",
            "",
            levels,
        ),
        *step_lines(steps, epsilon, reached),
    )
    empty = torch.empty(0, dtype=torch.float64)
    chart = Chart(type(model).__name__, pairs, empty, low, high)
    return Plan(type(model).__name__, lines, (), chart=chart)


def step_lines(steps: int, epsilon: float, reached: float) -> tuple[Line, Line]:
    """The lines of steps per level and step size of annealed Langevin dynamics."""
    return (
        Line(
            "steps_per_level",
            str(steps),
            "Annealed Langevin: about 1,160 evaluations in all, as NCSNv2; 100 at most.",
            "",
            steps,
        ),
        Line(
            "epsilon",
            f"{epsilon:.3g}",
            "Annealed Langevin: Technique 4. After its steps, the noise at a level has "
            f"{reached:.3f} times the variance sigma² of the level; no step size gives 1.",
            "",
            epsilon,
        ),
    )
