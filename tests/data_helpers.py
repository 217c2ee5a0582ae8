"""Arrays and checks that the tests of data share."""

import numpy as np
import pytest

from scorefield.errors import InputError


def random_table(n=200, d=3, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


def random_pictures(n=50, shape=(6, 5), seed=0):
    return np.random.default_rng(seed).integers(0, 256, size=(n, *shape), dtype=np.uint8)


def refused(*pieces, call):
    """Assert that the call raises an InputError whose message holds the pieces."""
    with pytest.raises(InputError) as caught:
        call()
    for piece in pieces:
        assert str(piece) in str(caught.value), f"{piece!r} is not in {caught.value}"
