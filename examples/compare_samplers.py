"""Every sampler on a density whose answer is known: error against evaluations of the model.

    python examples/compare_samplers.py samplers.png

The density is a mixture of two normals with weights 0.2 and 0.8. The error is the Wasserstein-1
distance between samples and density along 32 directions, averaged, in units of the density's
standard deviation. Each one-dimensional marginal has a closed form, so the error needs no reference
samples; independent draws of the density have the error that no sampler can beat.
"""

import sys
from dataclasses import dataclass

import torch

import scorefield as sf
from scorefield.exact import GaussianMixture
from scorefield.plotting import Chart, save_seed_curves

BUDGETS = (8, 16, 32, 64, 128, 256, 1024)  # evaluations of the model a sample
SHOWN = (16, 64, 256, 1024)  # columns of the table
ENOUGH = 256  # samplers that do not stay at a level are not run for longer
DRAWN = ("heun", "unipc", "matched-sde", "ancestral", "predictor-corrector", "annealed-langevin")


def density() -> GaussianMixture:
    """The mixture of the article, rotated, so that no direction is special."""
    return GaussianMixture([[-5.0, -3.0], [5.0, 3.0]], [0.3, 1.0], weights=[0.2, 0.8])


def error(p: GaussianMixture, x: torch.Tensor, directions: int = 32) -> float:
    """Mean Wasserstein-1 distance of samples x (N, 2) to p along directions, in units of its std.

    In one dimension the distance is the integral of |F_samples - F|.
    """
    angle = torch.arange(directions, dtype=torch.float64) * torch.pi / directions
    moments, found = p.moments(), []
    for u in torch.stack([angle.cos(), angle.sin()], 1):
        std = float((u @ moments.covariance @ u).sqrt())
        points = (x.double() @ u).sort().values
        low, high = float(moments.mean @ u) - 8 * std, float(moments.mean @ u) + 8 * std
        grid = torch.linspace(low, high, 8001, dtype=torch.float64)
        scale = (p.spectrum @ u.square()).sqrt()
        exact = torch.special.ndtr((grid[:, None] - p.means @ u) / scale) @ p.weights
        sampled = torch.searchsorted(points, grid, right=True) / len(points)
        found.append(float(torch.trapezoid((sampled - exact).abs(), grid)) / std)
    return sum(found) / len(found)


@dataclass
class Row:
    """One sampler: its claims, and its error by number of evaluations."""

    name: str
    order: str
    cost: int
    errors: dict[int, float]


def measure(name: str, count: int, budgets: tuple[int, ...]) -> Row:
    """Sample the density with one sampler at every budget that it can keep."""
    p, errors = density(), {}
    kernel = sf.kernels.make_kernel(name)
    for nfe in budgets:
        if nfe > ENOUGH and not kernel.is_langevin:
            continue
        try:
            recipe = sf.resolve_sampling(p, name, nfe=nfe)
        except sf.errors.InputError:
            continue  # too few evaluations for one step at every noise level
        errors[nfe] = error(p, sf.sample(p, count, seed=0, sampler=recipe))
    weak = " (weak)" if kernel.draws_noise else ""
    order = "" if kernel.order is None else f"{kernel.order:g}{weak}"
    return Row(name, order, kernel.evaluations_per_step, errors)


def table(rows: list[Row], shown: tuple[int, ...]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| sampler | order | evaluations a step | " + " | ".join(f"{n}" for n in shown) + " |",
        "| --- | --- | --- |" + " --- |" * len(shown),
    ]
    for row in rows:
        cells = [f"{row.errors[n]:.3f}" if n in row.errors else "" for n in shown]
        lines.append(f"| `{row.name}` | {row.order} | {row.cost} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(
    path: str = "samplers.png", count: int = 20_000, budgets: tuple[int, ...] = BUDGETS
) -> list[Row]:
    """Measure all samplers, print the table, draw six of them; return the rows."""
    p = density()
    best = error(p, p.sample(count, seed=1))
    rows = [measure(name, count, budgets) for name in sf.kernels.SAMPLERS]
    print(table(rows, tuple(n for n in SHOWN if n in budgets)))
    print(f"independent draws: {best:.3f}")
    series = {
        row.name: (list(row.errors), torch.tensor([list(row.errors.values())]))
        for row in rows
        if row.name in DRAWN and row.errors
    }
    chart = Chart(
        f"Error of {count:,} samples of an exact density",
        "evaluations of the model a sample",
        "Wasserstein-1 distance / standard deviation",
        series,
        log="xy",
        marks=True,
    )
    caption = f"Independent draws of the density have the error {best:.3f}."
    save_seed_curves(path, [chart], "Six samplers", caption)
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:2])
