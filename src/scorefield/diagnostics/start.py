"""Whether the start of a run matches the prior."""

import math

import torch
from torch import Tensor

from ..conditions import Condition
from ..models import ScoreModel, prior
from ..tensors import check_finite, floats
from ..values import finite

SIGNIFICANT = 4.5  # standard errors beyond which a difference is significant
MATERIAL = 0.05  # fraction of the variance below which a difference does not matter
RARE = 12.6  # -ln of the probability of 4.5 standard errors
ADVICE = "Start from the prior (leave start out), or at a larger sigma, where it matters less"


def start_mismatch(
    model: ScoreModel, x: Tensor, sigma: float, condition: Condition | None = None
) -> tuple[float, str]:
    """Compare the start of chains with the prior at their noise level.

    Args:
        model: The model, whose moments make the prior.
        x: (C, *event) in model units.
        sigma: Noise level, model units.
        condition: Mapping of tensors with C rows, or None: the prior may depend on it.

    Returns:
        The mean square of x whitened by the prior, 1 under the prior; and a warning, or "". The
        warning is given where this mean square, or the mean of the whitened x, differs from the
        prior's by more than 4.5 standard errors over chains and by more than 5 % of the variance.

    Raises:
        InputError: For an x that is not finite, or a negative sigma.
    """
    x, sigma = check_finite(floats(x, "x"), "x"), finite(sigma, "sigma", 0.0)
    white = prior(model, sigma, condition).whiten(x.detach().to("cpu", torch.float64))
    count, d = white.shape
    square = white.square().mean(1)
    scale, se = square.mean().item(), max(square.std().item(), math.sqrt(2 / d)) / math.sqrt(count)
    away = white.mean(0).square().mean().item()  # 1/count in expectation
    # Laurent & Massart 2000, Lemma 1: chi-square of d degrees of freedom exceeds
    # d + 2 sqrt(d t) + 2 t with probability at most exp(-t).
    chance = (1 + 2 * math.sqrt(RARE / d) + 2 * RARE / d) / count
    if away > max(chance, MATERIAL):
        return scale, (
            f"the start does not match the prior at sigma {sigma:g}: its mean is "
            f"{math.sqrt(away):.2g} standard deviations off on average. {ADVICE}"
        )
    if abs(scale - 1) > max(SIGNIFICANT * se, MATERIAL):
        return scale, (
            f"the start does not match the prior at sigma {sigma:g}: {scale:.3g} times its "
            f"variance on average. {ADVICE}"
        )
    return scale, ""
