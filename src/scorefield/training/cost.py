"""What a training costs on this machine, from one measured step."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ..config import Config
from ..config.sizes import enough
from ..data import Dataset
from .budget import ending_seconds, final_seconds
from .build import Setup, build
from .state import train_step

# Multiplications of a measured step at most, about; of a larger batch a part is measured, and the
# result is scaled.
MOST_WORK = 2e11
FEW_ROWS, MANY_ROWS = 4, 16  # examples of the two short steps
FEW_VECTORS, MANY_VECTORS = 128, 1024  # the same for vectors
MEASURED = 0.01  # fraction of a time budget that each of the two takes, about
SHORT_WORK = 2e10  # multiplications of the longer of the two at most
SHORT_STEPS = 1.0  # seconds after which no further step is measured


@dataclass(frozen=True)
class Cost:
    """The cost of a training.

    Attributes:
        parameters: number of parameters of the network.
        seconds_a_step: wall time of a step of one whole batch, not compiled.
        batch: examples a step.
        measured: examples of the step that was measured; fewer than `batch` where a whole one
            would take long.
        memory: bytes of weights, gradients, the optimiser's state, averages and what the backward
            pass keeps.
        images: examples that the budget has time for.
        seconds: wall time of the whole training.
        device: where the step ran, in words.
    """

    parameters: int
    seconds_a_step: float
    batch: int
    measured: int
    memory: int
    images: int
    seconds: float
    device: str

    @property
    def images_a_second(self) -> float:
        """Examples a second."""
        return self.batch / self.seconds_a_step

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


def step_seconds(
    config: Config,
    dataset: Dataset,
    network: nn.Module | None = None,
    scales: Mapping[float, int] = MappingProxyType({}),
) -> dict[float, tuple[float, float]]:
    """Measure short training steps of each size of the U-Net, or of another network's only size.

    The model is seconds = a + b * examples; a and b follow from a step of few examples and a step
    of more. The sizes are measured from the smallest on, until one would see too few examples
    in the budget.

    Args:
        config: The resolved settings.
        dataset: The data.
        network: The user's own network, or None.
        scales: Multiplications of the U-Net for one example by its `scale`, for each scale to be
            measured; empty: the network as the settings have it.

    Returns:
        Scale -> (a, b), in seconds; the scale is 1 where `scales` is empty.

    Raises:
        InputError: The settings cannot train a model of these data.
    """
    values = config.to_dict()
    values["execution"]["compile"] = "off"
    limit = SHORT_STEPS if config.seconds is None else MEASURED * config.seconds
    if not scales:
        return {1.0: _line(values, dataset, network, 0, limit)}
    options = values["network"]["options"]
    found: dict[float, tuple[float, float]] = {}
    for scale in sorted(scales):
        values["network"]["options"] = {**options, "scale": scale}
        found[scale] = _line(values, dataset, network, scales[scale], limit)
        if not enough(found[scale], config.seconds or math.inf, config.optim.batch):
            break
    return found


def _line(
    values: dict[str, Any], dataset: Dataset, network: nn.Module | None, work: float, limit: float
) -> tuple[float, float]:
    """Seconds of a step and of each example in it, of resolved settings as plain values.

    Each of the two kinds of step is repeated for about `limit` seconds. Where one short step takes
    longer, half of it is taken to be fixed, and nothing more is measured.
    """
    vectors = len(dataset.event_shape) == 1
    few, many = (FEW_VECTORS, MANY_VECTORS) if vectors else (FEW_ROWS, MANY_ROWS)
    if work > 0:
        many = max(2, min(many, int(SHORT_WORK / (3 * work))))
        few = min(few, many // 2)
    values = values | {"optim": values["optim"] | {"accumulate": 1, "batch": many}}
    with torch.random.fork_rng(devices=[]):
        setup = build(Config.from_dict(values), dataset, network)
        with training_threads(setup):
            short = _fastest(setup, few, limit)
            if short > limit:  # the machine is too slow, or too busy, for a second one
                return short / 2, short / 2 / few
            long = _fastest(setup, many, limit)
    each = max(long - short, 0.2 * long * (many - few) / many) / (many - few)
    return max(long - many * each, 0.0), each


def _fastest(setup: Setup, rows: int, limit: float) -> float:
    """Seconds of the faster of two steps after one that warms up; of fewer where they are slow."""
    taken: list[float] = []
    while len(taken) < 3 and sum(taken) <= limit:
        taken.append(_step(setup, len(taken) * rows, rows))
    return min(taken[1:] or taken)


@contextmanager
def training_threads(setup: Setup) -> Iterator[None]:
    """Inside the block torch uses as many threads as the training will."""
    threads = torch.get_num_threads()
    torch.set_num_threads(setup.execution.threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Saved:
    """Counts the bytes that autograd keeps for the backward pass, each storage once."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self.sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())


def measure_cost(
    config: Config,
    dataset: Dataset,
    network: nn.Module | None = None,
    work: float = 0.0,
    line: tuple[float, float] | None = None,
) -> Cost:
    """Measure one training step after a first one for warm-up.

    The step runs as training would run it on this machine, but is never compiled: compiling takes
    longer than a plan. Nothing is written.

    Args:
        config: The resolved settings.
        dataset: The data.
        network: The user's own network, or None.
        work: Multiplications of a forward pass for one example; 0 where it is small.
        line: (a, b) of `step_seconds` where they were measured: only the memory is measured then.
            None: measure both.

    Returns:
        The cost.

    Raises:
        InputError: The settings cannot train a model of these data.
    """
    values = config.to_dict()
    values["execution"]["compile"] = "off"
    setup = build(Config.from_dict(values), dataset, network)
    batch = config.optim.batch
    affordable = batch if work <= 0 else max(1, int(MOST_WORK / (3 * work)))
    part = -(-batch // config.optim.accumulate)
    rows = min(part, affordable)
    with training_threads(setup):
        saved = _saved_bytes(setup, rows)
        a_step = _steps(setup, rows) * batch / rows if line is None else line[0] + line[1] * batch
    kept = saved * part / rows
    parameters = [p for p in setup.state.model.parameters() if p.requires_grad]
    images, seconds = _budget(config, a_step)
    return Cost(
        sum(p.numel() for p in parameters),
        a_step,
        batch,
        rows,
        round(kept) + _state_bytes(setup, parameters),
        images,
        seconds,
        setup.execution.describe(),
    )


def _saved_bytes(setup: Setup, rows: int) -> int:
    """Bytes that a step keeps for its backward pass.

    The learning rate is 0, so that nothing of the untrained network can blow up.
    """
    saved = _Saved()
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        train_step(setup.state, setup.batches.batch(0, rows), 0.0)
    return saved.bytes


def _steps(setup: Setup, rows: int) -> float:
    """Seconds of the fastest of three short steps, since other programs may run."""
    fastest, spent = math.inf, 0.0
    for k in range(1, 4):
        taken = _step(setup, k * rows, rows)
        fastest, spent = min(fastest, taken), spent + taken
        if spent > SHORT_STEPS:
            break
    return fastest


def _step(setup: Setup, first: int, rows: int) -> float:
    """Seconds of one step on the examples from `first` on; the weights do not move."""
    _wait(setup)
    start = time.perf_counter()
    train_step(setup.state, setup.batches.batch(first, rows), 0.0, setup.config.optim.clip)
    _wait(setup)
    return time.perf_counter() - start


def _wait(setup: Setup) -> None:
    if setup.execution.device.startswith("cuda"):
        torch.cuda.synchronize()


def _state_bytes(setup: Setup, parameters: list[nn.Parameter]) -> int:
    """Bytes of weights, gradients, averages and the optimiser's state."""
    weights = sum(p.numel() * p.element_size() for p in parameters)
    averages = sum(
        v.numel() * v.element_size() for a in setup.state.averages for v in a.weights.values()
    )
    optimiser = sum(
        v.numel() * v.element_size()
        for state in setup.state.optimiser.state.values()
        for v in state.values()
        if isinstance(v, Tensor)
    )
    return 2 * weights + averages + optimiser


def _budget(config: Config, a_step: float) -> tuple[int, float]:
    """Examples seen and seconds of the whole budget."""
    batch = config.optim.batch
    if config.images is not None:
        return config.images, math.ceil(config.images / batch) * a_step
    assert config.seconds is not None, "a config has one budget"
    left = config.seconds - ending_seconds(config.seconds) - final_seconds(config.seconds)
    return max(1, int(left / a_step)) * batch, config.seconds
