"""What guidance samples, on a density in one dimension whose answer is known.

    python examples/guidance.py [PICTURE.png]

A mixture of three Gaussians carries two classes. Guidance of strength w is often said to sample the
tilted density p(x) p(c | x)^w. Its score field is that of the tilted density at no noise only, and
the samples follow another law. The tilted density is computed by quadrature and compared with the
samples by the Wasserstein-1 distance; the floor is that of as many exact draws.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import scorefield as sf
from scorefield.exact import GaussianMixture

MEANS = torch.tensor([[-1.5], [0.9], [2.2]], dtype=torch.float64)
VARIANCES = [0.36, 0.16, 0.64]
WEIGHTS = [0.4, 0.25, 0.35]
MIXTURE = GaussianMixture(MEANS, VARIANCES, WEIGHTS, labels=[0, 0, 1])
CLASS = GaussianMixture(MEANS[:2], VARIANCES[:2], WEIGHTS[:2])  # p(x | class 0)
GRID = torch.linspace(-8, 8, 32001, dtype=torch.float64)
SCALES = (1.0, 1.5, 2.0, 4.0)
INTERVAL = (0.1, 2.0)


def tilted(scale: float) -> Tensor:
    """p(x) p(class 0 | x)^scale on GRID, normalised: p(x | class 0)^scale p(x)^(1 - scale)."""
    x = GRID[:, None]
    log_p = scale * CLASS.log_prob(x) + (1 - scale) * MIXTURE.log_prob(x)
    density = (log_p - log_p.max()).exp()
    return density / torch.trapezoid(density, GRID)


def quantiles(density: Tensor, u: Tensor) -> Tensor:
    """The quantiles of a density on GRID."""
    cumulative = torch.cumulative_trapezoid(density, GRID)
    return GRID[1:][torch.searchsorted(cumulative / cumulative[-1], u).clamp(max=len(GRID) - 2)]


def distance(samples: Tensor, density: Tensor) -> float:
    """The Wasserstein-1 distance of samples (N,) from a density on GRID."""
    u = (torch.arange(len(samples), dtype=torch.float64) + 0.5) / len(samples)
    return float((samples.sort().values - quantiles(density, u)).abs().mean())


def measure(scale: float, interval: tuple[float, float] | None, count: int) -> dict[str, Any]:
    """Samples of one guidance, with their distance from the tilted density and its floor."""
    guidance = sf.Guidance(scale, interval)
    x = sf.sample(MIXTURE, count, nfe=400, condition={"class": 0}, guidance=guidance).flatten()
    density = tilted(scale)
    floors = torch.tensor(
        [
            distance(
                quantiles(density, torch.rand(count, generator=g, dtype=torch.float64)), density
            )
            for g in (torch.Generator().manual_seed(k) for k in range(20))
        ]
    )
    mean = torch.trapezoid(GRID * density, GRID)
    spread = torch.trapezoid((GRID - mean).square() * density, GRID).sqrt()
    return {
        "scale": scale,
        "interval": interval,
        "samples": x,
        "w1": distance(x, density),
        "floor": floors.mean().item(),
        "floor_max": floors.max().item(),
        "mean": (x.mean().item(), mean.item()),
        "sd": (x.std().item(), spread.item()),
    }


def main(picture: str | None = None, count: int = 40_000) -> list[dict[str, Any]]:
    """Measure all scales, with and without an interval; returns a row for each."""
    rows = [measure(scale, None, count) for scale in SCALES]
    rows += [measure(scale, INTERVAL, count) for scale in SCALES[1:]]
    print("scale  interval   W1 to tilted   floor    mean (tilted)     sd (tilted)")
    for row in rows:
        levels = "all" if row["interval"] is None else "{:g}-{:g}".format(*row["interval"])
        print(
            f"{row['scale']:>5}  {levels:<9}  {row['w1']:<13.4f}  {row['floor']:.4f}   "
            f"{row['mean'][0]:.3f} ({row['mean'][1]:.3f})   {row['sd'][0]:.3f} "
            f"({row['sd'][1]:.3f})"
        )
    if picture is not None:
        draw(
            Path(picture), [row for row in rows if row["interval"] is None and row["scale"] != 1.5]
        )
    return rows


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the picture: samples, the tilted density and p(x | class 0), a panel a scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.2), layout="constrained")
    panels = figure.subplots(1, len(rows), sharex=True)
    x, given = GRID.numpy(), CLASS.log_prob(GRID[:, None]).exp().numpy()
    for axes, row in zip(panels, rows, strict=True):
        axes.hist(
            row["samples"].numpy(),
            120,
            range=(-4, 3),
            density=True,
            color="#BDBDBD",
            label="samples",
        )
        axes.plot(x, tilted(row["scale"]).numpy(), color="#D55E00", lw=1.6, label="p(x) p(c | x)^w")
        axes.plot(x, given, "--", color="#0072B2", lw=1.4, label="p(x | c)")
        axes.set(xlim=(-4, 3), xlabel="x", yticks=[])
        axes.set_title(f"w = {row['scale']:g}, W1 = {row['w1']:.3f}", fontsize=10)
    panels[0].set_ylabel("density")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle("Guided samples do not follow the tilted density", fontsize=11)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main(*sys.argv[1:2])
