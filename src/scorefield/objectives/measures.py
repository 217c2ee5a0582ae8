"""Estimates with standard errors: mean losses, and the Fisher divergence to a known score.

F = 1/2 E_(x ~ p_sigma) |s_truth(x) - s(x)|², the sum over d elements, in 1/(model units)²
"""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from .. import rng
from ..conditions import Condition
from ..errors import InputError
from ..models import ScoreModel, as_sigma, check_model
from ..tensors import check_finite, floats
from ..values import finite, whole
from .base import Objective


class Estimate(NamedTuple):
    """A mean over samples and its standard error.

    Attributes:
        value: The mean.
        se: The standard error of the mean.
    """

    value: float
    se: float


@runtime_checkable
class Samplable(Protocol):
    """A density that independent samples of p_sigma can be drawn from, as closed forms can."""

    def sample(self, count: int, sigma: float, seed: int) -> Tensor:
        """Independent samples of p_sigma.

        Args:
            count: Number of samples.
            sigma: The noise level in model units; 0 for clean samples.
            seed: Decides the samples.

        Returns:
            (count, *event) in model units.
        """


def _estimate(values: Tensor) -> Estimate:
    values = values.to(torch.float64)
    if len(values) < 2:
        raise InputError(f"a standard error needs at least 2 samples; got {len(values)}")
    return Estimate(values.mean().item(), values.std().item() / len(values) ** 0.5)


@torch.no_grad()
def mean_loss(
    objective: Objective,
    model: ScoreModel,
    x0: Tensor,
    sigma: Tensor | float,
    seed: int = 0,
    condition: Condition | None = None,
) -> Estimate:
    """The mean loss at one sigma, or over a ladder with equal weights (Song & Ermon 2019, Eq. 6).

    Args:
        objective: The loss.
        model: The model.
        x0: (B, *event) in model units.
        sigma: () or a ladder (L,). Every example is used at every level, with its own noise there.
        seed: Decides the noise.
        condition: Mapping of tensors with B rows, or None.

    Returns:
        The mean with its standard error over examples.

    Raises:
        InputError: For fewer than two examples, or a model that the objective cannot train.
    """
    check_model(model)
    objective.check(model)
    x0 = check_finite(floats(x0, "x0"), "x0")
    levels = as_sigma(sigma).reshape(-1)
    keys = rng.keys(seed, len(x0) * len(levels)).reshape(len(levels), len(x0), 2)
    losses = [
        objective.losses(model, x0, level, key, condition)
        for level, key in zip(levels, keys, strict=True)
    ]
    return _estimate(torch.stack(losses).mean(0))


@torch.no_grad()
def fisher_divergence(
    model: ScoreModel,
    truth: ScoreModel,
    sigma: float,
    x: Tensor | None = None,
    count: int = 4096,
    seed: int = 0,
) -> Estimate:
    """The Fisher divergence 1/2 E|s_truth - s|² at sigma, not divided by d.

    Args:
        model: The model to judge.
        truth: A model whose score is known to be right, such as a closed form.
        sigma: The noise level in model units.
        x: (B, *event), samples of p_sigma or of any other density to weigh by. None: `count`
            samples of truth.
        count: Number of samples where x is None.
        seed: Decides the samples where x is None.

    Returns:
        The mean with its standard error. The scores are compared in x's type on x's device; the
        model evaluates its score on its own device.

    Raises:
        InputError: Where x is None and truth cannot be sampled, or for fewer than two samples.
    """
    check_model(model)
    check_model(truth)
    own = next((p for p in model.parameters() if p.is_floating_point()), None)
    if x is None:
        if not isinstance(truth, Samplable):
            raise InputError(
                f"{type(truth).__name__} cannot be sampled; give x, samples of p_sigma in model "
                f"units (B, {truth.event_shape})"
            )
        x = truth.sample(whole(count, "count", 0), finite(sigma, "sigma", 0.0), seed)
        x = x if own is None else x.to(own.dtype)
    x = check_finite(floats(x, "x"), "x")
    there = x if own is None else x.to(own.device)
    gap = truth.score(x, sigma) - model.score(there, sigma).to(x.device)
    return _estimate(gap.square().flatten(1).sum(1) / 2)
