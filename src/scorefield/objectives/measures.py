"""Measures, with standard errors: an objective's mean at one sigma or over a ladder, and the Fisher
divergence to a score that is known.

F = 1/2 E_(x ~ p_sigma) |s_truth(x) - s(x)|²        the sum over the event's d elements, in 1/(model units)²
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError
from ..model import ScoreModel, as_sigma
from .base import Objective


class Estimate(NamedTuple):
    """A mean over samples and its standard error."""

    value: float
    se: float


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
    condition: Tensor | None = None,
) -> Estimate:
    """The mean loss over x0 (B, *event), model units, at one sigma or averaged over a ladder (L,)
    with equal weight (Song & Ermon 2019, Eq. 6).

    Every sample meets every level, with noise of its own at each; the standard error is over
    samples.
    """
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
    """F of `model` against `truth` at sigma, 1/2 E|s_truth - s|², not divided by d.

    x: (B, *event) draws of p_sigma, or of any other density to weigh by; None: `count` draws of
    truth.sample(count, sigma, seed), which closed
    forms have. Compared in x's dtype.
    """
    if x is None:
        draw = getattr(truth, "sample", None)
        if draw is None:
            raise InputError(
                f"{type(truth).__name__} cannot be sampled; give x, draws of p_sigma in model "
                f"units (B, {truth.event_shape})"
            )
        own = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
        x = draw(count, sigma, seed) if own is None else draw(count, sigma, seed).to(own)
    gap = truth.score(x, sigma) - model.score(x, sigma)
    return _estimate(gap.square().flatten(1).sum(1) / 2)
