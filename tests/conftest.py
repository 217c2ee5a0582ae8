"""Shared fixtures: trained runs that many tests read."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# The same examples every time: a suite that passes passes again.
settings.register_profile("fixed", derandomize=True, database=None)
settings.load_profile("fixed")

# Some seconds on one core; precision and compilation are not left to a measurement.
SMALL_MLP = {
    "network.name": "mlp",
    "network.options": {"width": 128, "depth": 2},
    "optim.batch": 128,
    "optim.warmup": 1280,
    "execution.precision": "float32",
    "execution.compile": "off",
    "execution.threads": 1,
}
IMAGES = 300 * 128


@pytest.fixture(autouse=True)
def _threads_stay() -> Iterator[None]:
    """A test that trains may set torch's threads; the next test gets the old number."""
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Feature extractors are kept in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCOREFIELD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on the 8 x 8 digits, 300 steps of a perceptron. Only read it."""
    from scorefield.training import fit

    folder = tmp_path_factory.mktemp("digits") / "run"
    fit("digits", folder, images=IMAGES, seed=0, settings=SMALL_MLP)
    return folder


@pytest.fixture(scope="session")
def digits_conditional_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for a model conditioned on the digit's class. Only read it."""
    from scorefield.training import fit

    folder = tmp_path_factory.mktemp("digits_conditional") / "run"
    fit("digits", folder, images=IMAGES, seed=0, condition="class", settings=SMALL_MLP)
    return folder
