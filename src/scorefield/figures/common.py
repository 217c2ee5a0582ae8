"""What the experiments share: the article's mixture, a network as a score, a training loop at one
sigma, and intervals.

p = 1/5 N((-5, -5), I) + 4/5 N((5, 5), I)                                                 Song & Ermon 2019, Section 3.2
interval of a share k/n (95 %)   (k + z²/2 ± z sqrt(k (n - k)/n + z²/4)) / (n + z²)       Wilson 1927, z = 1.96
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
from ..data import Pipeline, load
from ..data.toys import MODES, WEIGHTS
from ..exact import GaussianMixture
from ..model import ScoreModel, as_sigma
from ..networks import build
from ..objectives import Objective
from ..units import Units

FRAME = (-8.0, 8.0, -8.0, 8.0)
GRID = 64  # cells a side of the error maps
RADIUS = 3.0  # standard deviations: what counts as near a mode
SMALL = float(WEIGHTS[0])


@dataclass(frozen=True)
class Settings:
    """quick: the same experiments with less training and fewer samples, for tests; run: a trained
    run for experiment 8.
    """

    quick: bool = False
    run: Path | None = None

    def pick(self, full: int, quick: int) -> int:
        """One of two sizes."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Made:
    """files: the pictures; found: the result in a sentence or two; numbers: for the JSON."""

    files: list[Path]
    found: str
    numbers: dict[str, Any] = field(default_factory=dict)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch's threads for the block; 0 leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def mixture() -> GaussianMixture:
    """The article's p."""
    return GaussianMixture(MODES, 1.0, WEIGHTS)


def circles(radius: float = RADIUS) -> list[tuple[float, float, float]]:
    """`radius` around each mode, for the pictures."""
    return [(float(x), float(y), radius) for x, y in MODES]


def near(x: Tensor, radius: float = RADIUS) -> Tensor:
    """Which points (N, 2) lie within `radius` of a mode: bool (N,)."""
    return torch.cdist(x.double(), MODES).amin(1) < radius


def share(mask: Tensor) -> dict[str, Any]:
    """The share of True with its Wilson interval."""
    n, k, z = len(mask), int(mask.sum()), 1.96
    middle, half = k + z * z / 2, z * math.sqrt(k * (n - k) / n + z * z / 4)
    return {
        "value": k / n,
        "interval_95": [(middle - half) / (n + z * z), (middle + half) / (n + z * z)],
        "n": n,
    }


def small_mode(x: Tensor) -> dict[str, Any]:
    """The share of points (N, 2) nearer to the small mode (weight 1/5), with its interval."""
    return share(torch.cdist(x.double(), MODES).argmin(1) == 0)


def said(estimate: dict[str, Any]) -> str:
    """0.215 [0.209, 0.221]."""
    low, high = estimate["interval_95"]
    return f"{estimate['value']:.3f} [{low:.3f}, {high:.3f}]"


class PlainScore(ScoreModel):
    """s(x) = scale network(x): one density, that of data with noise `sigma` (0: as they are), and
    no other. seed: of the weights.
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
            torch.manual_seed(rng.generator(seed, rng.Stream.INIT).initial_seed())
            self.network = build("mlp", event_shape, width=width, depth=depth)

    def score(self, x: Tensor, sigma: Tensor | float, condition: Tensor | None = None) -> Tensor:
        """scale network(x)."""
        self.check(x, sigma, condition)
        return self.scale * self.network(x)


@dataclass(frozen=True)
class Trained:
    """model; losses: of every step; seconds: of the fastest step, data not counted (other work on
    the machine can only add).
    """

    model: PlainScore
    losses: list[float]
    seconds: float


def errors(model: ScoreModel, sigma: float) -> tuple[Tensor, Tensor]:
    """|s_model - s_true| at the centres of GRID x GRID cells of the frame, (GRID²,), and which of
    them lie near a mode.
    """
    from ..plotting import grid_points

    x = torch.as_tensor(grid_points(FRAME, GRID))
    with torch.no_grad():
        gap = model.score(x.float(), sigma).double() - mixture().score(x, sigma)
    return gap.norm(dim=1), near(x)


def serve(source: Any, seed: int = 0, count: int | None = None) -> Pipeline:
    """The events of anything `load` takes in their own units, in the order of `seed`; images in [0,
    1] as they are stored.
    """
    collection = load(source, count=count, seed=seed)
    return Pipeline(
        collection, torch.arange(len(collection)), Units.identity(), seed, dequantise="none"
    )


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
    """A plain score of the data at one sigma, by `steps` of Adam, the learning rate constant or
    (decay) falling to zero as a cosine.

    Not the trainer of `training`: these experiments want the loss of every step and the time of
    each, and no run to continue.
    """
    model = PlainScore(pipeline.event_shape, sigma, seed, scale)
    optimiser = torch.optim.Adam(model.parameters(), lr, betas=(0.9, 0.99))
    level, losses, seconds = as_sigma(sigma).float(), [], []
    for step in range(steps):
        x0, keys = pipeline.batch(step * batch, batch), rng.keys(seed, batch, step * batch)
        optimiser.param_groups[0]["lr"] = (
            lr * (1 + math.cos(math.pi * step / steps)) / 2 if decay else lr
        )
        began = time.perf_counter()
        loss = objective.losses(model, x0, level, keys).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seconds.append(time.perf_counter() - began)
        losses.append(loss.item())
    return Trained(model.eval(), losses, min(seconds))
