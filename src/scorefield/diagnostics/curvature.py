"""The largest curvature of a log density, which limits the step of Langevin dynamics.

    stable limit   2/L, L the largest eigenvalue of -ds/dx

Beyond it the map x + eps s stretches along the steepest direction, and x grows.
"""

import math

import torch
from torch import Tensor

from .. import rng
from ..conditions import Condition
from ..models import ScoreModel, as_sigma, check_model
from ..rng import Stream
from ..tensors import check_finite, floats
from ..values import whole

KRYLOV = 20  # products from which the eigenvalue is computed
WIDTH = 1e-3  # of the central differences, in units of sigma a dimension


def curvature(
    model: ScoreModel,
    x: Tensor,
    sigma: Tensor | float,
    condition: Condition | None = None,
    steps: int = KRYLOV,
    seed: int = 0,
) -> Tensor:
    """The largest eigenvalue of -ds/dx at each x.

    Rayleigh-Ritz on `steps` products of -ds/dx from a random vector, symmetric part (Lanczos 1950).
    Unlike power iteration, this does not return the large negative eigenvalues between modes.
    Products are central differences of the score, two evaluations each, so that no derivative of
    the model is needed. The value is a lower bound, exact from `steps` = d on.

    Args:
        model: The model.
        x: (B, *event) in model units.
        sigma: () noise level, model units.
        condition: Mapping of tensors with B rows, or None.
        steps: Number of products.
        seed: Decides the first vector.

    Returns:
        (B,) in x's type, 1/(model units)².

    Raises:
        InputError: For an x that is not finite, or steps below 1.
    """
    check_model(model)
    x, steps = check_finite(floats(x, "x"), "x"), whole(steps, "steps", 1)
    level = as_sigma(sigma).detach()
    count, d = len(x), math.prod(x.shape[1:])
    width = WIDTH * float(level) * math.sqrt(d)
    with torch.no_grad():
        v = rng.normal(rng.keys(seed, count).to(x.device), Stream.CURVATURE, 0, (d,), x.dtype)
        basis, products = x.new_zeros(count, 0, d), x.new_zeros(count, 0, d)
        for _ in range(min(steps, d)):
            # Twice: once leaves rounding along the basis that grows from step to step.
            for _ in range(2):
                v = v - torch.einsum("bk,bkd->bd", torch.einsum("bkd,bd->bk", basis, v), basis)
            v = v / v.norm(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
            move = width * v.reshape(x.shape)
            behind, ahead = (model.score(x + s * move, level, condition) for s in (-1, 1))
            w = (behind - ahead).flatten(1) / (2 * width)
            basis = torch.cat([basis, v[:, None]], 1)
            products = torch.cat([products, w[:, None]], 1)
            v = w
        small = (basis @ products.mT).to("cpu", torch.float64)
        values: Tensor = torch.linalg.eigvalsh((small + small.mT) / 2)
        return values[:, -1].to(x.device, x.dtype)
