"""The article's comparison: 2-D score fields learned by each objective, their error to the truth,
and processor seconds a step.

    python -m scorefield.benchmarks.objectives --out objectives.json

Truth: the article's mixture 1/5 N((-5, -5), I) + 4/5 N((5, 5), I) smoothed by one sigma. Every
method trains the same small perceptron on the
same fresh draws for the same number of steps, in turn, a block of steps at a time.

    divergence    E_(p_sigma)|s - s_true|² / E_(p_sigma)|s_true|²         where the data are; 1 = no better than s = 0
    inside        root mean square error on a 64² grid over [-8, 8]²      within 3 standard deviations of a mode
    outside       the same, elsewhere                                     where no data were seen
    log p         standard deviation of log p_sigma(x) - log q(x) over draws, nats: models with an energy only
"""

import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor

from scorefield import networks, rng
from scorefield.exact import GaussianMixture
from scorefield.model import FORMS, Preconditioned
from scorefield.objectives import Objective, fisher_divergence, make_objective

MODES, WEIGHTS = torch.tensor([[-5.0, -5.0], [5.0, 5.0]], dtype=torch.float64), [0.2, 0.8]
SIGMA_DATA = 4.1  # sqrt(1 + 0.8 * 0.2 * 10²), the mixture's standard deviation along an axis
BATCH, RATE, BLOCK = 256, 3e-3, 50
NETWORK = {"width": 64, "depth": 2, "embedding": 16}

METHODS: dict[str, tuple[str, str, dict[str, Any]]] = {  # shown as: (objective, form, its settings)
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
    """One method, seed and sigma in training: a step is a function of (seed, step)."""

    def __init__(
        self, method: str, sigma: float, seed: int, steps: int, truth: GaussianMixture
    ) -> None:
        name, form, options = METHODS[method]
        self.method, self.sigma, self.seed, self.truth = method, sigma, seed, truth
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = networks.build("mlp", (2,), **NETWORK)
        self.model: Preconditioned = FORMS[form](network, (2,), sigma, sigma, "edm", SIGMA_DATA)
        self.objective: Objective = make_objective(name, "ncsn", SIGMA_DATA, **options)
        self.optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, steps)
        self.done, self.seconds = 0, list[float]()

    def block(self, steps: int) -> None:
        """Train `steps` steps on data made beforehand; only the steps are timed, in processor time
        of all threads: a busy machine counts less.
        """
        data = (
            self.truth.sample(steps * BATCH, seed=1000 * self.seed + self.done).float().split(BATCH)
        )
        keys = rng.keys(self.seed, steps * BATCH, first=self.done * BATCH).split(BATCH)
        for x0, key in zip(data, keys, strict=True):
            start = time.process_time()
            self.optimiser.zero_grad()
            self.objective.losses(self.model, x0, torch.tensor(self.sigma), key).mean().backward()
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
        density = getattr(model, "log_density", None)
        if density is not None:
            difference: Tensor = density(x, self.sigma) - truth.log_density(x, self.sigma)
            row["log p"] = difference.std().item()
        return row


def compare(
    sigmas: tuple[float, ...] = (0.05, 0.3), steps: int = 500, seeds: int = 3
) -> dict[str, Any]:
    """Train every method at every sigma with every seed: rows of means, least and most over seeds,
    and processor milliseconds a step (medians).
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
    rows = []
    for sigma in sigmas:
        for method in METHODS:
            mine = [
                learner
                for learner in learners
                if (learner.method, learner.sigma) == (method, sigma)
            ]
            found = [learner.errors() for learner in mine]
            row: dict[str, Any] = {
                "sigma": sigma,
                "method": method,
                "ms": 1e3 * median(s for learner in mine for s in learner.seconds),
            }
            for key in found[0]:
                values = [f[key] for f in found]
                row[key] = {"mean": mean(values), "least": min(values), "most": max(values)}
            rows.append(row)
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


def table(record: dict[str, Any]) -> str:
    """The record as a Markdown table; errors are means over seeds (least to most)."""

    def cell(row: dict[str, Any], key: str, form: str) -> str:
        value = row.get(key)
        return (
            ""
            if value is None
            else f"{value['mean']:{form}} ({value['least']:{form}} to {value['most']:{form}})"
        )

    base = {row["sigma"]: row["ms"] for row in record["rows"] if row["method"] == "denoising"}
    lines = [
        "| sigma | method | divergence, % | inside | outside | log p, nats | CPU ms a step | x "
        "denoising |",
        "| --- " * 8 + "|",
    ]
    for row in record["rows"]:
        percent = {key: 100 * value for key, value in row["divergence"].items()}
        cells = [
            cell(row | {"divergence": percent}, "divergence", ".2f"),
            *(cell(row, key, ".2f") for key in ("inside", "outside", "log p")),
        ]
        lines.append(
            f"| {row['sigma']:g} | {row['method']} | {' | '.join(cells)} | {row['ms']:.2f} | "
            f"{row['ms'] / base[row['sigma']]:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """The command."""
    import typer

    from scorefield.runs import write_json

    def command(
        steps: int = typer.Option(500, min=1, help="Training steps a method."),
        seeds: int = typer.Option(3, min=1, help="Runs a method."),
        sigma: list[float] = typer.Option([0.05, 0.3], help="Noise levels, above 0 (repeatable)."),
        out: Path | None = typer.Option(None, help="A .json for the record."),
    ) -> None:
        """2-D score fields learned by each objective: error to the truth and time a step."""
        torch.set_num_threads(1)  # a perceptron of this size gains nothing from more
        record = compare(tuple(sigma), steps, seeds)
        typer.echo(table(record))
        if out is not None:
            write_json(out, record)

    typer.run(command)


if __name__ == "__main__":
    main()
