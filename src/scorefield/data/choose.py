"""Which of a source's examples are taken where a count is given."""

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError


def choose(available: int, count: int | None, seed: int, source: str) -> Tensor | None:
    """Indices of `count` of `available` examples, chosen by the seed, ascending; None for all.

    Raises:
        InputError: `count` is not between 1 and the number of examples.
    """
    if count is None or count == available:
        return None
    if not 1 <= count <= available:
        raise InputError(
            f"{source}: count must lie between 1 and {available}, the number of examples; "
            f"got {count}"
        )
    order = torch.randperm(available, generator=rng.generator(seed, rng.Stream.SUBSET))
    return order[:count].sort().values
