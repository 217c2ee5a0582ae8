"""Samplers at 5, 7 and 10 evaluations of the model, on densities whose answer is known.

    python examples/few_evaluations.py           all samplers, three seeds
    python examples/few_evaluations.py --quick   one seed, fewer samples, 5 evaluations

The error is the sliced Wasserstein-1 distance between N samples and N exact draws: the mean, over
directions, of the distance of the sorted projections. Two sets of exact draws have the error of the
last row, which no sampler can beat by more than luck. Every sampler has its default noise levels;
the last denoising step counts as one evaluation. `scorefield benchmark samplers` measures more,
with standard errors; this is the same in a program of one's own.
"""

import statistics
import sys
import time
from typing import Any

import torch

import scorefield as sf
from scorefield.evaluation.distances import sliced_wasserstein
from scorefield.exact import GaussianMixture
from scorefield.studies.measures import directions

SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "veab": ("veab", {}),
    "veab, p = 3": ("veab", {"p": 3}),
    "zeab": ("zeab", {}),
    "zeab, p = 3": ("zeab", {"p": 3}),
    "xeab": ("xeab", {}),
    "ipndm": ("ipndm", {}),
    "ipndm, p = 3": ("ipndm", {"p": 3}),
    "ipndm, p = 4": ("ipndm", {"p": 4}),
    "unipc": ("unipc", {}),
    "unipc, p = 3": ("unipc", {"p": 3}),
    "dpmpp-2m": ("dpmpp-2m", {}),
    "dpmpp-3m": ("dpmpp-3m", {}),
    "heun": ("heun", {}),
    "euler": ("euler", {}),
}


def problems() -> dict[str, GaussianMixture]:
    """Four mixtures of the sampler study: uneven, curved, narrow in many dimensions, far apart."""
    names = {
        "three modes": "three-modes",
        "ring of 32": "ring",
        "40 modes, 16-D": "narrow-16d",
        "grid of 25, 8-D": "grid-8d",
    }
    return {title: sf.studies.PROBLEMS[name]().model for title, name in names.items()}


def distance(x: torch.Tensor, y: torch.Tensor) -> float:
    """The sliced Wasserstein-1 distance of two sets (N, d), along 128 directions."""
    along = directions(x.shape[1], 128)
    return sliced_wasserstein(x.double(), y.double(), along, power=1)


def error(
    p: GaussianMixture, name: str, options: dict[str, Any], nfe: int, count: int, seeds: int
) -> float:
    """The median over seeds of a sampler's distance to exact draws."""
    recipe = sf.resolve_sampling(p, sf.kernels.make_kernel(name, options), nfe=nfe)
    return statistics.median(
        distance(sf.sample(p, count, seed=s, sampler=recipe), p.sample(count, seed=1000 + s))
        for s in range(seeds)
    )


def main(
    count: int = 4000, seeds: int = 3, budgets: tuple[int, ...] = (5, 7, 10)
) -> dict[str, list[list[float]]]:
    """Measure, print a Markdown table; return errors by sampler, problem and budget."""
    known = problems()
    print(f"| evaluations {', '.join(map(str, budgets))} | {' | '.join(known)} |")
    print("| --- |" + " --- |" * len(known))
    found: dict[str, list[list[float]]] = {}
    for title, (name, options) in SAMPLERS.items():
        began = time.monotonic()
        found[title] = [
            [error(p, name, options, nfe, count, seeds) for nfe in budgets] for p in known.values()
        ]
        cells = [" ".join(f"{e:.3f}" for e in row) for row in found[title]]
        print(f"| {title} | {' | '.join(cells)} |", flush=True)
        print(f"{title}: {time.monotonic() - began:.1f} s", file=sys.stderr)
    floors = [
        statistics.median(
            distance(p.sample(count, seed=s), p.sample(count, seed=1000 + s)) for s in range(seeds)
        )
        for p in known.values()
    ]
    print(f"| exact draws | {' | '.join(f'{f:.3f}' for f in floors)} |")
    found["exact draws"] = [[f] for f in floors]
    return found


if __name__ == "__main__":
    if "--quick" in sys.argv[1:]:
        main(count=1000, seeds=1, budgets=(5,))
    else:
        main()
