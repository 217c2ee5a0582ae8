"""Parts that the experiments share: the mixture, training at one sigma, and intervals.

    p = 1/5 N((-5, -5), I) + 4/5 N((5, 5), I)                     Song and Ermon 2019, Section 3.2

The 95 % interval of a fraction k/n is (Wilson 1927, z = 1.96)

    (k + z²/2 ± z sqrt(k (n - k)/n + z²/4)) / (n + z²)
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..conditions import Condition
from ..data import Pipeline
from ..data import open as open_data
from ..data.toys import MODES, WEIGHTS
from ..exact import GaussianMixture
from ..models import ScoreModel, as_sigma
from ..networks import build
from ..objectives import Objective
from ..plotting import grid_points
from ..units import Units

QUICK = "Quick form (--quick): little training and few samples; not the article's result."
FRAME = (-8.0, 8.0, -8.0, 8.0)
GRID = 64  # cells a side of the error maps
RADIUS = 3.0  # standard deviations: what counts as near a mode
SMALL = float(WEIGHTS[0])


@dataclass(frozen=True)
class Settings:
    """Sizes of the experiments.

    Attributes:
        quick: less training and fewer samples, for tests.
        run: a trained run for experiment 8; None trains one.
    """

    quick: bool = False
    run: Path | None = None

    def pick(self, full: int, quick: int) -> int:
        """Return one of two sizes."""
        return quick if self.quick else full

    def caption(self, text: str) -> str:
        """Return the text for below a picture, which states the quick form where it is one."""
        return f"{text} {QUICK}" if self.quick else text

    def title(self, text: str) -> str:
        """Return the text for above a picture, which names the quick form where it is one."""
        return f"{text} (quick form)" if self.quick else text


@dataclass(frozen=True)
class Result:
    """The result of an experiment.

    Attributes:
        files: The pictures.
        conclusion: The result in a sentence or two.
        numbers: The numbers of its JSON file.
    """

    files: list[Path]
    conclusion: str
    numbers: dict[str, Any] = field(default_factory=dict)


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: 1 seed, 3 seeds."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the number of torch's threads for a block; 0 leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def mixture() -> GaussianMixture:
    """Return the density p of the module docstring."""
    return GaussianMixture(MODES, 1.0, WEIGHTS)


def circles(radius: float = RADIUS) -> list[tuple[float, float, float]]:
    """Return (x, y, radius) for each mode, for pictures."""
    return [(float(x), float(y), radius) for x, y in MODES]


def near(x: Tensor, radius: float = RADIUS) -> Tensor:
    """Return which points (N, 2) lie within `radius` of a mode: bool (N,)."""
    return torch.cdist(x.double(), MODES).amin(1) < radius


def fraction(mask: Tensor) -> dict[str, Any]:
    """Return the fraction of True in a mask (N,), with its Wilson interval."""
    n, k, z = len(mask), int(mask.sum()), 1.96
    middle, half = k + z * z / 2, z * math.sqrt(k * (n - k) / n + z * z / 4)
    return {
        "value": k / n,
        "interval_95": [(middle - half) / (n + z * z), (middle + half) / (n + z * z)],
        "n": n,
    }


def small_mode(x: Tensor) -> dict[str, Any]:
    """Return the fraction of points (N, 2) nearer to the mode of weight 1/5, with its interval."""
    return fraction(torch.cdist(x.double(), MODES).argmin(1) == 0)


def with_interval(estimate: dict[str, Any]) -> str:
    """Format a fraction with its interval, such as 0.215 [0.209, 0.221]."""
    low, high = estimate["interval_95"]
    return f"{estimate['value']:.3f} [{low:.3f}, {high:.3f}]"


class PlainScore(ScoreModel):
    """A network as the score of one density: s(x) = scale network(x).

    Args:
        event_shape: shape of one example.
        sigma: the one noise level that the model answers at; 0 is the data themselves.
        seed: of the initial weights.
        scale: factor of the network's output.
        width: of the perceptron.
        depth: hidden blocks of the perceptron.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        sigma: float,
        seed: int,
        scale: float = 1.0,
        width: int = 64,
        depth: int = 1,
    ) -> None:
        super().__init__()
        self.event_shape, self.scale = event_shape, scale
        self.sigma_min = self.sigma_max = sigma
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = build("mlp", event_shape, width=width, depth=depth)

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        """Return scale network(x), of x's shape (B, *event_shape)."""
        self.check(x, sigma, condition)
        score: Tensor = self.scale * self.network(x)
        return score


@dataclass(frozen=True)
class Trained:
    """A trained score.

    Attributes:
        model: in evaluation mode.
        losses: of every step.
        seconds: of the fastest step without its data; other work on the machine can only add.
    """

    model: PlainScore
    losses: list[float]
    seconds: float


def errors(model: ScoreModel, sigma: float) -> tuple[Tensor, Tensor]:
    """Compare a model's score with that of the mixture on a grid.

    Args:
        model: a score model of points of the plane.
        sigma: the noise level of both.

    Returns:
        |s_model - s_true| at the centres of GRID x GRID cells of the frame, (GRID²,), and which of
        them lie near a mode, bool (GRID²,).
    """
    x = torch.as_tensor(grid_points(FRAME, GRID))
    with torch.no_grad():
        gap = model.score(x.float(), sigma).double() - mixture().score(x, sigma)
    return gap.norm(dim=1), near(x)


def pipeline_of(source: Any, seed: int = 0, count: int | None = None) -> Pipeline:
    """Return a pipeline of data in their own units; images in [0, 1] as they are stored.

    Args:
        source: anything that `load` takes.
        seed: decides the order, and the draws of a toy set.
        count: number of examples; None takes all.
    """
    data = open_data(source, count=count, seed=seed)
    return Pipeline(data, torch.arange(len(data)), Units.identity(), seed, dequantise="none")


def train_at(
    sigma: float,
    objective: Objective,
    pipeline: Pipeline,
    steps: int,
    seed: int,
    batch: int = 256,
    lr: float = 3e-3,
    decay: bool = True,
    scale: float = 1.0,
) -> Trained:
    """Train a plain score of the data at one sigma with Adam.

    This is not the trainer of `training`: these experiments need the loss and the time of every
    step, and no run that can continue.

    Args:
        sigma: noise level in the units of the data.
        objective: what is minimised.
        pipeline: serves the data.
        steps: of training.
        seed: of initial weights and noise.
        batch: examples a step.
        lr: learning rate, at first.
        decay: whether the learning rate falls to zero as a cosine.
        scale: factor of the network's output.

    Returns:
        The model with its losses and the time of its fastest step.
    """
    model = PlainScore(pipeline.event_shape, sigma, seed, scale)
    optimiser = torch.optim.Adam(model.parameters(), lr, betas=(0.9, 0.99))
    level, losses, seconds = as_sigma(sigma).float(), [], []
    for step in range(steps):
        x0, _ = pipeline.batch(step * batch, batch)
        keys = rng.keys(seed, batch, step * batch)
        if decay:
            optimiser.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        began = time.perf_counter()
        loss = objective.losses(model, x0, level, keys).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seconds.append(time.perf_counter() - began)
        losses.append(loss.item())
    return Trained(model.eval(), losses, min(seconds))
