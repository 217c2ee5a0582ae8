"""What guidance samples, on a density in one dimension whose answer is known.

    python examples/guidance.py [PICTURE.png]

A mixture of three Gaussians carries two classes. Guidance of strength w is often said to sample the
tilted density p(x) p(c | x)^w. Its score field is that of the tilted density at no noise only, and
the samples follow another law. The tilted density is computed by quadrature and compared with the
samples by the Wasserstein-1 distance W1. Three numbers stand beside it: the standard error of W1
(bootstrap), the floor, which is the W1 of as many exact draws, and the W1 of p(x | c), which is
what no guidance at all would give.
"""

import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import scorefield as sf
from scorefield.exact import GaussianMixture
from scorefield.plotting.palette import BLUE, GREY, VERMILLION

MEANS = torch.tensor([[-1.5], [0.9], [2.2]], dtype=torch.float64)
VARIANCES = [0.36, 0.16, 0.64]
WEIGHTS = [0.4, 0.25, 0.35]
MIXTURE = GaussianMixture(MEANS, VARIANCES, WEIGHTS, labels=[0, 0, 1])
CLASS = GaussianMixture(MEANS[:2], VARIANCES[:2], WEIGHTS[:2])  # p(x | class 0)
GRID = torch.linspace(-8, 8, 32001, dtype=torch.float64)
SCALES = (1.0, 1.5, 2.0, 4.0)
INTERVAL = (0.1, 2.0)  # chosen on this density; another density needs another one
OTHERS = ((0.0, 0.5), (0.0, 1.0), (1.0, math.inf), (2.0, math.inf))
SHOWN = (-4.0, 3.0)  # x of the picture


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


def apart(a: Tensor, b: Tensor) -> float:
    """The Wasserstein-1 distance of two densities on GRID: the area between their distributions."""
    difference = torch.cumulative_trapezoid(a - b, GRID)
    return float(torch.trapezoid(difference.abs(), GRID[1:]))


def standard_error(samples: Tensor, density: Tensor, times: int = 50) -> float:
    """The standard deviation of `distance` over samples drawn with replacement."""
    generator = torch.Generator().manual_seed(0)
    rows = (torch.randint(len(samples), samples.shape, generator=generator) for _ in range(times))
    return float(torch.tensor([distance(samples[row], density) for row in rows]).std())


def measure(
    scale: float, interval: tuple[float, float] | None, count: int, nfe: int = 400
) -> dict[str, Any]:
    """Samples of one guidance, with their distance from the tilted density and its floor."""
    guidance = sf.Guidance(scale, interval)
    x = sf.sample(MIXTURE, count, nfe=nfe, condition={"class": 0}, guidance=guidance).flatten()
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
        "se": standard_error(x, density),
        "floor": floors.mean().item(),
        "floor_max": floors.max().item(),
        "unguided": apart(tilted(1.0), density),
        "mean": (x.mean().item(), mean.item()),
        "sd": (x.std().item(), spread.item()),
    }


def levels(interval: tuple[float, float] | None) -> str:
    """An interval of noise levels in words."""
    if interval is None:
        return "all"
    low, high = interval
    return f"above {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"


def main(picture: str | None = None, count: int = 40_000) -> list[dict[str, Any]]:
    """Measure all scales, with and without an interval; returns a row for each."""
    asked: list[tuple[float, tuple[float, float] | None]] = [(w, None) for w in SCALES]
    asked += [(w, INTERVAL) for w in SCALES[1:]] + [(2.0, interval) for interval in OTHERS]
    print("scale  sigma       W1 to tilted (se)  floor   p(x|c)  mean (tilted)    sd (tilted)")
    rows = []
    for scale, interval in asked:
        rows.append(row := measure(scale, interval, count))
        print(
            f"{scale:>5}  {levels(interval):<10}  {row['w1']:.4f} ({row['se']:.4f})    "
            f"{row['floor']:.4f}  {row['unguided']:.4f}  {row['mean'][0]:.3f} "
            f"({row['mean'][1]:.3f})  {row['sd'][0]:.3f} ({row['sd'][1]:.3f})",
            flush=True,
        )
    if picture is not None:
        draw(Path(picture), rows)
    return rows


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the picture: a column for each of w = 1, 2, 4; below, the same in an interval."""
    from matplotlib.figure import Figure

    found = {(row["scale"], row["interval"]): row for row in rows}
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True, sharey=True)
    for k, scale in enumerate((1.0, 2.0, 4.0)):
        panel(panels[0, k], found[scale, None])
        if k:
            panel(panels[1, k], found[scale, INTERVAL])
    panels[0, 0].set_ylim(bottom=0)  # of all panels
    corner = panels[1, 0]
    corner.axis("off")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    corner.legend(handles, labels, loc="upper left", frameon=False, fontsize=10)
    corner.text(
        0.03,
        0.34,
        "c is the class of the two left components.\n"
        "W1: Wasserstein-1 distance of the samples\nfrom the tilted density.",
        transform=corner.transAxes,
        va="top",
        fontsize=9,
        linespacing=1.4,
    )
    figure.suptitle("Guided samples of an exact model, and the tilted density", fontsize=12)
    figure.get_layout_engine().set(wspace=0.06, hspace=0.06)
    figure.savefig(path, dpi=120)


def panel(axes: Any, row: dict[str, Any]) -> None:
    """The samples of one guidance, the tilted density and p(x | c)."""
    x, given = GRID.numpy(), tilted(1.0).numpy()
    samples = row["samples"].numpy()
    style = {"color": GREY, "label": "samples"}
    axes.hist(samples, 100, range=SHOWN, density=True, histtype="stepfilled", **style)
    tilt = r"tilted density $\propto p(x)\,p(c\,|\,x)^w$"
    axes.plot(x, tilted(row["scale"]).numpy(), color=VERMILLION, lw=1.8, label=tilt)
    axes.plot(x, given, "--", color=BLUE, lw=1.4, label=r"$p(x\,|\,c)$, no guidance")
    axes.set(xlim=SHOWN, xlabel="x", xticks=range(-3, 3), yticks=[])
    axes.tick_params(labelbottom=True)
    axes.spines[["left", "right", "top"]].set_visible(False)
    where = "" if row["interval"] is None else f", sigma {levels(row['interval'])}"
    axes.set_title(f"w = {row['scale']:g}{where}:  W1 = {row['w1']:.3f}", fontsize=10)


if __name__ == "__main__":
    main(*sys.argv[1:2])
