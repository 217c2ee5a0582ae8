"""The cost of sampling and likelihoods, counted in rows where a model is evaluated.

A row is one sample. Wrappers such as guidance call their inner models, so the count at the leaves
is what was really spent, whatever wraps them.

    with count_cost() as cost:
        sample(...)
    cost.forwards, cost.products, cost.densities
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass


@dataclass
class Cost:
    """Evaluations, each counted once a row.

    Args:
        forwards: Denoised values or scores.
        products: Vector-Jacobian products, the gradient inside an energy model included.
        densities: Log densities.
    """

    forwards: int = 0
    products: int = 0
    densities: int = 0

    @property
    def evaluations(self) -> int:
        """Forwards and densities: how often a model was evaluated, in rows."""
        return self.forwards + self.densities

    def to_dict(self) -> dict[str, int]:
        """A form that JSON can hold."""
        return asdict(self)


_ACTIVE: ContextVar[tuple[Cost, ...]] = ContextVar("scorefield_cost", default=())


@contextmanager
def count_cost() -> Iterator[Cost]:
    """Count the evaluations of all models inside a block. Blocks may be nested.

    Yields:
        The cost so far, in rows. Each block counts for itself.

    Example:
        with sf.count_cost() as cost:
            sf.sample(model, 8, nfe=32)
        print(cost.forwards)
    """
    cost = Cost()
    token = _ACTIVE.set((*_ACTIVE.get(), cost))
    try:
        yield cost
    finally:
        _ACTIVE.reset(token)


def record(*, forwards: int = 0, products: int = 0, densities: int = 0) -> None:
    """Add rows to every active count. Leaf models call it through `ScoreModel.check`."""
    for cost in _ACTIVE.get():
        cost.forwards += forwards
        cost.products += products
        cost.densities += densities
