"""Score-matching objectives: error of 2-D score fields, and processor time a step.

The truth is the article's mixture 1/5 N((-5, -5), I) + 4/5 N((5, 5), I) smoothed by one sigma.
Every method trains the same small perceptron on the same fresh draws for the same number of steps.
The methods take turns, a block of steps at a time.

    divergence   E|s - s_true|² / E|s_true|² under p_sigma; 1 = no better than s = 0
    inside       root mean square error on a 64² grid over [-8, 8]², within 3 standard deviations
                 of a mode
    outside      the same elsewhere, where there are no data
    log p        standard deviation over draws of log p_sigma(x) - log q(x), nats; energies only
"""

import time
from statistics import mean, median
from typing import Any

import torch

from scorefield import networks, rng
from scorefield.exact import GaussianMixture
from scorefield.models import FORMS, Preconditioned
from scorefield.objectives import Objective, fisher_divergence, make_objective

MODES, WEIGHTS = torch.tensor([[-5.0, -5.0], [5.0, 5.0]], dtype=torch.float64), [0.2, 0.8]
SIGMA_DATA = 4.1  # sqrt(1 + 0.8 * 0.2 * 10²), the mixture's standard deviation along an axis
BATCH, RATE, BLOCK = 256, 3e-3, 50
NETWORK: dict[str, Any] = {"width": 64, "depth": 2, "embedding": 16}

METHODS: dict[str, tuple[str, str, dict[str, Any]]] = {  # name: (objective, form, its settings)
    "denoising": ("denoising", "score", {}),
    "denoising, control variate": ("denoising", "score", {"control_variate": True}),
    "sliced, 1 slice": ("sliced", "score", {}),
    "sliced-vr, 1 slice": ("sliced-vr", "score", {}),
    "sliced-vr, 1 slice on the sphere": ("sliced-vr", "score", {"probe": "sphere"}),
    "exact trace": ("exact", "score", {}),
    "energy, square": ("energy", "square", {}),
    "energy, scalar": ("energy", "scalar", {}),
    "energy, square, control variate": ("energy", "square", {"control_variate": True}),
}


class Learner:
    """One method, seed and sigma in training; a step is a function of (seed, step)."""

    def __init__(
        self, method: str, sigma: float, seed: int, steps: int, truth: GaussianMixture
    ) -> None:
        name, form, options = METHODS[method]
        self.method, self.sigma, self.seed, self.truth = method, sigma, seed, truth
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = networks.build("mlp", (2,), **NETWORK)
        self.model: Preconditioned = FORMS[form](
            network, (2,), sigma_min=sigma, sigma_max=sigma, sigma_data=SIGMA_DATA
        )
        self.objective: Objective = make_objective(name, "ncsn", SIGMA_DATA, **options)
        self.optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, steps)
        self.done, self.seconds = 0, list[float]()

    def block(self, steps: int) -> None:
        """Train `steps` steps on data made beforehand.

        Only the steps are timed, in processor time of all threads: a busy machine counts less.
        """
        seed = 1000 * self.seed + self.done
        data = self.truth.sample(steps * BATCH, seed=seed).float().split(BATCH)
        keys = rng.keys(self.seed, steps * BATCH, first=self.done * BATCH).split(BATCH)
        sigma = torch.tensor(self.sigma)
        for x0, key in zip(data, keys, strict=True):
            start = time.process_time()
            self.optimiser.zero_grad()
            self.objective.losses(self.model, x0, sigma, key).mean().backward()
            self.optimiser.step()
            self.seconds.append(time.process_time() - start)
            self.schedule.step()
        self.done += steps

    @torch.no_grad()
    def errors(self) -> dict[str, float]:
        """The measures of the module docstring."""
        truth, model = self.truth, self.model.requires_grad_(False)
        x = truth.sample(8192, self.sigma, seed=99).float()
        zero = truth.score(x, self.sigma).square().sum(1).mean().item() / 2
        axis = torch.linspace(-8, 8, 64)
        grid = torch.cartesian_prod(axis, axis)
        gap = (model.score(grid, self.sigma) - truth.score(grid, self.sigma)).square().sum(1)
        inside = torch.cdist(grid, MODES.float()).amin(1) < 3 * (1 + self.sigma**2) ** 0.5
        row = {
            "divergence": fisher_divergence(model, truth, self.sigma, x).value / zero,
            "inside": gap[inside].mean().sqrt().item(),
            "outside": gap[~inside].mean().sqrt().item(),
        }
        if model.has_log_density:
            gap = model.log_density(x, self.sigma) - truth.log_density(x, self.sigma)
            row["log p"] = gap.std().item()
        return row


def _row(method: str, sigma: float, learners: list[Learner]) -> dict[str, Any]:
    """Means, least and most over the seeds of one method at one sigma."""
    found = [learner.errors() for learner in learners]
    milliseconds = 1e3 * median(s for learner in learners for s in learner.seconds)
    row: dict[str, Any] = {"sigma": sigma, "method": method, "ms": milliseconds}
    for key in found[0]:
        values = [errors[key] for errors in found]
        row[key] = {"mean": mean(values), "least": min(values), "most": max(values)}
    return row


def compare(
    sigmas: tuple[float, ...] = (0.05, 0.3), steps: int = 500, seeds: int = 3
) -> dict[str, Any]:
    """Train every method at every sigma with every seed.

    Args:
        sigmas: noise levels above 0, in units of the mixture.
        steps: training steps a method.
        seeds: runs a method.

    Returns:
        The record: protocol, and a row a sigma and method with means, least and most over the
        seeds and the median of processor milliseconds a step.
    """
    truth = GaussianMixture(MODES, 1.0, weights=WEIGHTS)
    learners = [
        Learner(m, sigma, seed, steps, truth)
        for seed in range(seeds)
        for sigma in sigmas
        for m in METHODS
    ]
    for start in range(0, steps, BLOCK):
        for learner in learners:
            learner.block(min(BLOCK, steps - start))
    rows = [
        _row(method, sigma, [x for x in learners if (x.method, x.sigma) == (method, sigma)])
        for sigma in sigmas
        for method in METHODS
    ]
    protocol = {
        "steps": steps,
        "seeds": seeds,
        "batch": BATCH,
        "rate": RATE,
        "network": {"name": "mlp", **NETWORK},
        "sigma_data": SIGMA_DATA,
    }
    return {
        "protocol": protocol,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "rows": rows,
    }


def _cell(value: dict[str, float] | None, scale: float = 1.0) -> str:
    if value is None:
        return ""
    middle, low, high = (scale * value[key] for key in ("mean", "least", "most"))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def table(record: dict[str, Any]) -> str:
    """Format the record as a Markdown table; errors are means over seeds (least to most)."""
    base = {row["sigma"]: row["ms"] for row in record["rows"] if row["method"] == "denoising"}
    lines = [
        "| sigma | method | divergence, % | inside | outside | log p, nats | CPU ms a step "
        "| x denoising |",
        "| --- " * 8 + "|",
    ]
    for row in record["rows"]:
        cells = [
            f"{row['sigma']:g}",
            row["method"],
            _cell(row["divergence"], 100),
            *(_cell(row.get(key)) for key in ("inside", "outside", "log p")),
            f"{row['ms']:.2f}",
            f"{row['ms'] / base[row['sigma']]:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
