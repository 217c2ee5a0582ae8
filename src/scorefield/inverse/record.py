"""`RestorationRecord`: how restorations were made."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from ..models import Cost
from ..progress import duration


@dataclass(frozen=True)
class RestorationRecord:
    """How restorations were made.

    Attributes:
        method: The method's name.
        reason: Why it was chosen where the caller named none; else "".
        exact_for: For which priors and observations the method is exact.
        approximate_because: Why it is approximate otherwise.
        options: The options that the caller gave.
        sampling: The sampling recipe (`SamplingRecipe.to_dict`); empty for exact draws.
        evaluations: Evaluations of the prior a draw.
        products: Vector-Jacobian products a draw.
        seconds: Seconds that all draws took.
        draws: Number of draws in all.
        iterations: Iterations of conjugate gradients through the network, a draw.
        worst_residual: The largest relative residual at which one of them ended.
    """

    method: str
    reason: str
    exact_for: str
    approximate_because: str
    options: dict[str, Any]
    sampling: dict[str, Any] = field(default_factory=dict)
    evaluations: int = 0
    products: int = 0
    seconds: float = 0.0
    draws: int = 0
    iterations: int = 0
    worst_residual: float = 0.0

    def __repr__(self) -> str:
        words = [f"method {self.method}{f' ({self.reason})' if self.reason else ''}"]
        words.append(f"{self.evaluations} evaluations and {self.products} products a draw")
        words.append(f"{duration(self.seconds)} for {self.draws:,} draws")
        exact = f"Exact for {self.exact_for}." if self.exact_for else ""
        why = f" Approximate otherwise: {self.approximate_because}." if exact else ""
        return (
            f"Restoration by {', '.join(words)}. {exact}{why if self.approximate_because else ''}"
        )

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold."""
        return asdict(self)


def per_draw(cost: Cost, draws: int) -> tuple[int, int]:
    """Evaluations and vector-Jacobian products a draw."""
    return cost.evaluations // max(draws, 1), cost.products // max(draws, 1)


def chi2_range(elements: float) -> tuple[float, float]:
    """The range in which the mean squared residual of a draw lies with probability 0.99.

    A draw x of the posterior and the truth are exchangeable given y, so that y - A(x) has the law
    of the noise: n chi2 has the chi-squared distribution of n observed elements (Wilson and
    Hilferty's approximation).

    Args:
        elements: Observed elements n of an observation.

    Returns:
        (low, high).
    """
    spread = 2 / (9 * elements)
    z = 2.5758293035489004
    low = max(0.0, 1 - spread - z * math.sqrt(spread)) ** 3
    return low, (1 - spread + z * math.sqrt(spread)) ** 3
