"""The non-finite guard: a bad step is not applied, and the message names what to look at."""

import torch
from torch import Tensor

from ..errors import NonFiniteError


def check_step(losses: Tensor, norm: Tensor, sigma: Tensor, images: int, seed: int) -> None:
    """Raise NonFiniteError unless every loss and the gradient norm are finite; called before the optimiser steps."""
    if bool(torch.isfinite(norm)) and bool(torch.isfinite(losses).all()):
        return
    bad = (~torch.isfinite(losses)).nonzero().flatten()
    where = (
        f"loss of batch index {int(bad[0])} (sigma {float(sigma[bad[0]]):.4g}; {len(bad)} of {len(losses)} losses)"
        if len(bad)
        else f"gradient norm ({float(norm)}) though every loss is finite"
    )
    raise NonFiniteError(
        f"not finite: {where}, in the step after {images:,} images, seed {seed}. The step was not applied; lower optim.lr or optim.clip"
    )
