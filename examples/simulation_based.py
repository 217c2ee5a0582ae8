"""Amortised posteriors: a model of parameters given what a simulator made of them.

    python examples/simulation_based.py [PICTURE.png]

A model of theta is conditioned on the vector x and trained on simulations (theta, x). It then draws
from p(theta | x) for any x without further training. Two simulators have posteriors that are known:

    two moons          two crescents of width 0.01; exact draws by inversion (Greenberg et al. 2019)
    linear Gaussian    a Gaussian with a mean linear in x and a constant covariance

For the two moons the draws are compared with exact ones by a classifier two-sample test: 0.5 where
a classifier cannot tell them apart, 1 where it always can (Lopez-Paz & Oquab 2017). For the linear
Gaussian mean and covariance are compared, and the ranks of true parameters among the draws, which
are uniform for a calibrated posterior (Talts et al. 2018).
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier

import scorefield as sf

Array = NDArray[np.float64]
SIMULATIONS = {"two moons": 10_000, "linear Gaussian": 100_000}
NFE = 60  # evaluations a draw
DRAWS = 63  # for a rank, which is 0 to 63
ROOT = np.sqrt(2.0)
# Linear Gaussian: theta ~ N(0, I), x = A theta + 0.5 noise, three parameters, four observations.
A = np.array([[1.0, 0.4, 0.0], [0.0, 1.0, -0.6], [0.5, 0.0, 1.0], [0.3, -0.3, 0.3]])
NOISE = 0.5
COVARIANCE = np.linalg.inv(np.eye(3) + A.T @ A / NOISE**2)  # of p(theta | x)


def crescent(count: int, rng: np.random.Generator) -> Array:
    """Points of a crescent, (count, 2)."""
    angle, radius = rng.uniform(-np.pi / 2, np.pi / 2, count), rng.normal(0.1, 0.01, count)
    return np.stack([radius * np.cos(angle) + 0.25, radius * np.sin(angle)], 1)


def shift(theta: Array) -> Array:
    """Where parameters (N, 2) move the crescent; two parameters move it to the same place."""
    return np.stack([-np.abs(theta.sum(1)), theta[:, 1] - theta[:, 0]], 1) / ROOT


def two_moons(theta: Array, rng: np.random.Generator) -> Array:
    """Observations (N, 2) of parameters (N, 2)."""
    return crescent(len(theta), rng) + shift(theta)


def two_moons_posterior(x: Array, count: int, rng: np.random.Generator) -> Array:
    """Exact draws of p(theta | x) under theta uniform on [-1, 1]², by inverting the simulator."""
    found = np.empty((0, 2))
    while len(found) < count:
        moved = x - crescent(4 * count, rng)
        total = -ROOT * moved[:, 0] * rng.choice([-1.0, 1.0], len(moved))
        difference = ROOT * moved[:, 1]
        theta = np.stack([(total - difference) / 2, (total + difference) / 2], 1)
        inside = (moved[:, 0] <= 0) & (np.abs(theta) <= 1).all(1)
        found = np.concatenate([found, theta[inside]])
    return found[:count]


def c2st(draws: Array, exact: Array) -> float:
    """Accuracy of a classifier of draws against exact draws, by five-fold cross-validation."""
    x = np.concatenate([draws, exact])
    x = (x - exact.mean(0)) / exact.std(0)
    y = np.repeat([0, 1], [len(draws), len(exact)])
    network = MLPClassifier((20, 20), max_iter=1000, random_state=0)
    folds = KFold(5, shuffle=True, random_state=0)
    return float(cross_val_score(network, x, y, cv=folds).mean())


def draw(model: Any, x: Array, count: int, seed: int) -> Array:
    """Draws of p(theta | x): (count, d) of one observation, or one draw for each row of x."""
    drawn = sf.sample(model, count, seed, nfe=NFE, condition={"vector": x})
    found: Array = drawn.double().numpy()
    return found


def measure_moons(run: Path, budget: dict[str, Any], count: int) -> dict[str, Any]:
    """Train on two moons; C2ST for three observations that training never saw."""
    rng = np.random.default_rng(0)
    theta = rng.uniform(-1, 1, (SIMULATIONS["two moons"], 2))
    sf.fit(theta, run, condition={"vector": two_moons(theta, rng)}, **budget)
    model = sf.load(run)
    shown, scores = [], []
    observations = np.concatenate([np.zeros((1, 2)), two_moons(rng.uniform(-1, 1, (2, 2)), rng)])
    for k, x in enumerate(observations):
        exact = two_moons_posterior(x, count, rng)
        draws = draw(model, x, count, k)
        scores.append(c2st(draws, exact))
        shown.append((x, draws, exact))
        print(f"two moons, x = ({x[0]:.2f}, {x[1]:.2f}): C2ST {scores[-1]:.3f}")
    print(f"two moons: mean C2ST {np.mean(scores):.3f} (0.5 is exact)")
    return {"c2st": scores, "shown": shown}


def linear_gaussian(theta: Array, rng: np.random.Generator) -> Array:
    """Observations (N, 4) of parameters (N, 3)."""
    return theta @ A.T + NOISE * rng.normal(size=(len(theta), 4))


def gaussian_errors(draws: Array, x: Array) -> tuple[float, float]:
    """Largest error of the mean and of the covariance, in standard errors of exact draws."""
    mean = COVARIANCE @ A.T @ x / NOISE**2
    # In these coordinates the exact posterior is N(0, I).
    one = (draws - mean) @ np.linalg.inv(np.linalg.cholesky(COVARIANCE)).T
    of_mean = np.abs(one.mean(0)) * np.sqrt(len(draws))
    of_covariance = np.abs(np.cov(one.T) - np.eye(3)) / np.sqrt((1 + np.eye(3)) / len(draws))
    return float(of_mean.max()), float(of_covariance.max())


def uniformity(ranks: NDArray[np.int64], each: int, rng: np.random.Generator) -> Array:
    """p-value of each column of ranks 0 to `each`: Kolmogorov and Smirnov's, with ties broken."""
    uniform = (ranks + rng.uniform(size=ranks.shape)) / (each + 1)
    return np.array([stats.kstest(column, "uniform").pvalue for column in uniform.T])


def measure_gaussian(run: Path, budget: dict[str, Any], count: int, trials: int) -> dict[str, Any]:
    """Train on the linear Gaussian; errors for three observations, and ranks of `trials` others."""
    rng = np.random.default_rng(1)
    theta = rng.normal(size=(SIMULATIONS["linear Gaussian"], 3))
    sf.fit(theta, run, condition={"vector": linear_gaussian(theta, rng)}, **budget)
    model = sf.load(run)
    errors = []
    for k, x in enumerate(linear_gaussian(rng.normal(size=(3, 3)), rng)):
        errors.append(gaussian_errors(draw(model, x, count, k), x))
        print(
            f"linear Gaussian, observation {k + 1}: largest error of the mean {errors[-1][0]:.1f}, "
            f"of the covariance {errors[-1][1]:.1f} standard errors of {count:,} draws"
        )
    truth = rng.normal(size=(trials, 3))
    seen = np.repeat(linear_gaussian(truth, rng), DRAWS, 0)
    draws = draw(model, seen, len(seen), 3).reshape(trials, DRAWS, 3)
    ranks = (draws < truth[:, None]).sum(1)
    p = uniformity(ranks, DRAWS, rng)
    print(f"linear Gaussian: p-values of uniform ranks {', '.join(f'{one:.2f}' for one in p)}")
    return {"errors": errors, "p_values": p, "ranks": ranks}


def main(
    picture: str | None = None, count: int = 10_000, trials: int = 200, **budget: Any
) -> dict[str, Any]:
    """Measure both; two minutes of training each unless another budget is given.

    Args:
        picture: A .png to draw.
        count: Draws of each posterior of the two moons; of the linear Gaussian a fifth.
        trials: Simulations whose ranks are taken.
        budget: Arguments of `sf.fit`, such as images=500_000.

    Returns:
        What was measured, and the draws.
    """
    budget = budget or {"budget": "2m"}
    with tempfile.TemporaryDirectory() as folder:
        moons = measure_moons(Path(folder) / "moons", budget, count)
        gaussian = measure_gaussian(Path(folder) / "gaussian", budget, count // 5, trials)
    if picture is not None:
        draw_picture(Path(picture), moons, gaussian)
    return {"moons": moons, "gaussian": gaussian}


def draw_picture(path: Path, moons: dict[str, Any], gaussian: dict[str, Any]) -> None:
    """Draws beside exact draws of the two moons, and the ranks of the linear Gaussian."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 5.2), layout="constrained")
    panels = figure.subplots(2, 4)
    for k, ((x, draws, exact), score) in enumerate(zip(moons["shown"], moons["c2st"], strict=True)):
        for axes, points, colour in (
            (panels[0, k], exact, "#000000"),
            (panels[1, k], draws, "#0072B2"),
        ):
            axes.scatter(*points.T, s=1, color=colour, linewidths=0)
            axes.set(
                xlim=(-1, 1), ylim=(-1, 1), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1]
            )
        panels[0, k].set_title(f"exact, x = ({x[0]:.2f}, {x[1]:.2f})", fontsize=9)
        panels[1, k].set_title(f"model, C2ST {score:.2f}", fontsize=9)
    for row in range(2):
        axes = panels[row, 3]
        axes.hist(gaussian["ranks"][:, row], np.linspace(0, 64, 17).tolist(), color="#BDBDBD")
        axes.axhline(len(gaussian["ranks"]) / 16, color="#D55E00", lw=1.4)
        axes.set(xlabel=f"rank among {DRAWS} draws", xticks=[0, 32, 64], box_aspect=1)
        p = gaussian["p_values"][row]
        axes.set_title(f"ranks of parameter {row + 1}, p = {p:.2f}", fontsize=9)
    figure.suptitle("Two moons, and ranks of the linear Gaussian", fontsize=11)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main(*sys.argv[1:2])
