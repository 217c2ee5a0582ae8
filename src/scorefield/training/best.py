"""The best point of a run: where the held-out loss of the averaged weights is least.

Small data are memorised after a while: the held-out loss turns and rises. A `BestPoint`
measures the loss at marks, on the same examples with the same noise, and keeps the averaged weights
of the lowest one. The loss has *turned* where that of the last mark exceeds the lowest one by more
than two standard errors of the paired differences; the model of the run is then the best point.

The marks lie at 4 * 2^(k/4) steps, whatever the budget is, so that what a mark finds is a function
of images and of the record of the run.
"""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .ema import EMA
from .verdict import counts, difference

FIRST_STEPS, PER_DOUBLING = 4, 4
FRACTION = 0.01  # of the training's time that all marks together may take,
FLOOR = 0.25  # or so many seconds however short the training is
EXPECTED = 40  # marks of a run, for their share of that time
LEAST = 8  # evaluations below which a mark is too noisy


def mark(images: int, batch: int) -> int:
    """Number of marks up to a point of the run.

    Args:
        images: Images seen.
        batch: Images a step.

    Returns:
        The number of marks at or before `images`.
    """
    steps = images // batch
    if steps < FIRST_STEPS:
        return 0
    return 1 + math.floor(PER_DOUBLING * math.log2(steps / FIRST_STEPS) + 1e-9)


def evaluations(whole: float, seconds: float, most: int) -> int:
    """How many evaluations a mark can have.

    Args:
        whole: Seconds that the whole training takes.
        seconds: Seconds an evaluation.
        most: The largest number.

    Returns:
        The number; 0 where there is time for fewer than LEAST, and the best point is not looked
        for.
    """
    found = min(most, int(max(FLOOR, FRACTION * whole) / EXPECTED / seconds))
    return found if found >= min(LEAST, most) else 0


class BestPoint:
    """The held-out losses at the marks of a run, and the averaged weights of the lowest one.

    Attributes:
        images: Images seen at each mark.
        losses: Held-out losses at each mark, (n,) each, one an example.
        weights: The averaged weights of the lowest mark, on the CPU; empty before the first one.
        initial_fraction: The weight of the initial weights in that average.
    """

    def __init__(self) -> None:
        self.images: list[int] = []
        self.losses: list[Tensor] = []
        self.weights: dict[str, Tensor] = {}
        self.initial_fraction = 1.0

    def add(self, images: int, losses: Tensor, average: EMA) -> None:
        """Add a mark.

        Args:
            images: Images seen.
            losses: Held-out losses (n,) of the averaged weights; the examples and the noise are
                the same at all marks.
            average: The averaged weights, which are copied where this is the lowest mark.
        """
        lowest = not self.losses or bool(losses.mean() < self.losses[self._lowest()].mean())
        self.images.append(images)
        self.losses.append(losses.double().cpu())
        if lowest:
            self.weights = {name: w.detach().cpu().clone() for name, w in average.weights.items()}
            self.initial_fraction = average.initial_fraction

    def _lowest(self) -> int:
        means = [float(found.mean()) for found in self.losses]
        return means.index(min(means))

    @property
    def best_images(self) -> int | None:
        """Images at the lowest mark, where the loss has turned since; None where it has not."""
        if not self.losses:
            return None
        lowest = self._lowest()
        turned = counts(difference(self.losses[-1], self.losses[lowest]))
        return self.images[lowest] if turned else None

    def falling(self) -> tuple[float, float] | None:
        """How much the loss fell over the last doubling of the images, with its standard error.

        It is taken from the mark nearest to half of the images, and scaled to one doubling.

        Returns:
            Mean and standard error of the paired differences; None without such a mark.
        """
        if len(self.losses) < 2:
            return None
        ratios = [math.log2(self.images[-1] / images) for images in self.images[:-1]]
        near = min(range(len(ratios)), key=lambda i: abs(ratios[i] - 1))
        if not 0.5 <= ratios[near] <= 2:
            return None
        fell, error = difference(self.losses[near], self.losses[-1])
        return fell / ratios[near], error / ratios[near]

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "images": list(self.images),
            "losses": list(self.losses),
            "weights": self.weights,
            "initial_fraction": self.initial_fraction,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the best point from `state_dict`."""
        self.images, self.losses = list(state["images"]), list(state["losses"])
        self.weights = dict(state["weights"])
        self.initial_fraction = float(state["initial_fraction"])
