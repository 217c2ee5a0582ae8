"""The state of a training, and one step of it.

state = TrainState(model, objective, optimiser, [EMA(model.network)])
result = train_step(state, Batch(x0, sigma, keys))
save_model("mine.safetensors", state.averaged_model())
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import conditions, rng
from ..compilation import fall_back
from ..models import Preconditioned
from ..objectives import Objective
from ..values import finite, whole
from .batches import Batch
from .ema import EMA
from .guard import explain


class TrainState:
    """Everything that a training step changes.

    Args:
        model: The model that is trained, on its device (`Execution.apply`).
        objective: The loss.
        optimiser: The optimiser of the model's parameters.
        averages: Averages of the network's weights. The first one is the model that is kept.

    Attributes:
        images: Images (examples) seen, those of skipped steps included.
        steps: Steps, skipped ones included.
        skipped: Steps whose loss or gradient was not finite; they were not applied.

    Raises:
        InputError: Where the objective cannot train the model.
    """

    def __init__(
        self,
        model: Preconditioned,
        objective: Objective,
        optimiser: torch.optim.Optimizer,
        averages: Sequence[EMA] = (),
    ) -> None:
        objective.check(model)
        self.model, self.objective, self.optimiser = model, objective, optimiser
        self.averages = list(averages)
        self.images = self.steps = self.skipped = 0
        self._averaged: Preconditioned | None = None

    @property
    def device(self) -> torch.device:
        """The device of the model's parameters."""
        return next(self.model.parameters()).device

    def state_dict(self) -> dict[str, Any]:
        """Weights, averages, optimiser state and counters: all that a resumed training needs."""
        return {
            "images": self.images,
            "steps": self.steps,
            "skipped": self.skipped,
            "network": self.model.network.state_dict(),
            "averages": [average.state_dict() for average in self.averages],
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the training from `state_dict`, in place.

        Args:
            state: The result of `state_dict`, from any device.

        Raises:
            InputError: Where the averages belong to another network.
        """
        self.images, self.steps = state["images"], state["steps"]
        self.skipped = state["skipped"]
        self.model.network.load_state_dict(state["network"])
        for average, stored in zip(self.averages, state["averages"], strict=True):
            average.load_state_dict(stored)
        self.optimiser.load_state_dict(state["optimiser"])

    def averaged_model(self) -> Preconditioned:
        """The model with the weights of the first average; the live ones where there is none.

        Returns:
            A copy in evaluation mode, without gradients and not compiled. Every call fills and
            returns the same copy.
        """
        if self._averaged is None:
            with _Uncompiled(self.model):
                self._averaged = copy.deepcopy(self.model)
            self._averaged.eval().requires_grad_(False)
            for parameter in self._averaged.parameters():
                parameter.grad = None
        weights = self.averages[0].weights if self.averages else self.model.network.state_dict()
        self._averaged.network.load_state_dict(weights)
        return self._averaged


class _Uncompiled:
    """Inside the block, the modules of a model are not compiled, so that copies are not either."""

    def __init__(self, model: nn.Module) -> None:
        self.compiled = [m for m in model.modules() if m._compiled_call_impl is not None]

    def __enter__(self) -> None:
        self.calls = [m._compiled_call_impl for m in self.compiled]
        for module in self.compiled:
            module._compiled_call_impl = None

    def __exit__(self, *error: object) -> None:
        for module, call in zip(self.compiled, self.calls, strict=True):
            module._compiled_call_impl = call


class StepResult(NamedTuple):
    """What a step gives.

    Attributes:
        losses: (B,), one an example.
        grad_norm: (), the norm of the gradient before clipping.
        applied: False where a loss or the gradient was not finite: weights, averages and optimiser
            are then as they were.
        problem: What was not finite, at which sigma and in which layer; empty where applied.
    """

    losses: Tensor
    grad_norm: Tensor
    applied: bool
    problem: str = ""


def train_step(
    state: TrainState,
    batch: Batch,
    learning_rate: float | None = None,
    clip: float = 0.0,
    accumulate: int = 1,
    dropout: float = 0.0,
) -> StepResult:
    """One step: losses, gradients, the optimiser, the averages and the counters.

    Args:
        state: The training; it is changed.
        batch: Examples in model units, noise levels, keys and conditions. They may be on any
            device.
        learning_rate: The optimiser's learning rate for this step; a group's `lr_scale`
            multiplies it. None: as the optimiser has it.
        clip: Largest norm of the gradient; 0 = no clipping.
        accumulate: Parts that the batch is split into, one after the other, to save memory.
        dropout: Probability with which an example's condition is replaced by the null value, in
            [0, 1). The example's key decides.

    Returns:
        Losses and gradient norm, and whether the step was applied.

    Raises:
        InputError: Where batch and model do not fit each other.
    """
    clip, accumulate = finite(clip, "clip", 0.0), whole(accumulate, "accumulate", 1)
    if learning_rate is not None:
        learning_rate = finite(learning_rate, "learning_rate", 0.0)
    batch = drop_conditions(batch.to(state.device), finite(dropout, "dropout", 0.0, 1.0))
    count = len(batch.x0)
    parameters = [p for p in state.model.parameters() if p.requires_grad]
    state.optimiser.zero_grad(set_to_none=True)
    try:
        losses = torch.cat([_backward(state, part, count) for part in batch.split(accumulate)])
    except Exception as error:  # the backward pass is compiled when it is first run
        if not fall_back((leaf.leaf_network() for leaf in state.model.leaves()), error):
            raise
        state.optimiser.zero_grad(set_to_none=True)
        losses = torch.cat([_backward(state, part, count) for part in batch.split(accumulate)])
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients, foreach=True)
    applied = bool(torch.isfinite(norm) & torch.isfinite(losses).all())
    problem = ""
    if applied:
        if clip > 0:
            nn.utils.clip_grads_with_norm_(parameters, clip, norm, foreach=True)
        if learning_rate is not None:
            for group in state.optimiser.param_groups:
                group["lr"] = learning_rate * group.get("lr_scale", 1.0)
        state.optimiser.step()
        for average in state.averages:
            average.update(state.model.network, state.images + count, count)
    else:
        problem = explain(state.model, state.objective, batch, losses, norm)
        state.skipped += 1
    state.images += count
    state.steps += 1
    return StepResult(losses, norm, applied, problem)


def drop_conditions(batch: Batch, dropout: float) -> Batch:
    """Replace the conditions of some examples by the null value.

    Args:
        batch: The batch; the keys of its examples decide which conditions are dropped.
        dropout: The probability of dropping, in [0, 1).

    Returns:
        The batch with conditions dropped; the same batch where there is nothing to drop.
    """
    if batch.condition is None or dropout <= 0:
        return batch
    u = rng.uniform(batch.keys, rng.Stream.CONDITION, 0, ())
    return batch._replace(condition=conditions.drop(batch.condition, u < dropout))


def _backward(state: TrainState, part: Batch, count: int) -> Tensor:
    """Add the gradients of a part of the batch; return its losses."""
    with _seeded(part.keys):
        losses = state.objective.losses(state.model, *part)
        (losses.sum() / count).backward()
    return losses.detach()


@contextmanager
def _seeded(keys: Tensor) -> Iterator[None]:
    """PyTorch's random numbers follow from the batch, so that a resumed run has the same dropout.

    The random numbers of the caller go on as if nothing had been drawn.
    """
    low, high = keys[0].cpu().tolist()
    devices = [keys.device] if keys.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed((high << 32 | low) >> 1)  # below 2^63
        yield
