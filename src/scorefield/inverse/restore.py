"""Restoration: draws of what was damaged, given what was observed.

Inpainting as the article has it (Song & Ermon 2019, Algorithm 2): annealed Langevin dynamics, and
after every step the known part is
replaced by the observation at the level's noise, x <- x (1 - m) + (y + sigma_i z) m. As published,
noise of sigma_L stays everywhere. Here
the end is denoised, brought to data units, and the observed values are pasted in the type they were
stored in: known elements are exact.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError
from ..model import ScoreModel, terminal
from ..sampling import SAMPLERS, AnnealedLangevin, Event, run
from .measurement import Measurement
from .operators import Mask

REDRAWS = ("level", "step")


@dataclass(frozen=True)
class Restoration:
    """draws: (K, D, *event) in data units, (D, *event) for a single observation; mean, std: over
    the draws; chi2: per draw, the mean squared
    residual over noise_std², None for exact observations (their residual is zero); evaluations: of
    the model, a draw.
    """

    draws: Tensor
    mean: Tensor
    std: Tensor
    chi2: Tensor | None
    evaluations: int


def inpainting_projection(
    known: Tensor, mask: Tensor, redraw: str = "level"
) -> Callable[..., Tensor]:
    """The hook of Algorithm 2 for `run`. known: (B, *event) in model units; mask: bool,
    broadcasting; redraw: the observation's noise is drawn
    anew each `level` (NCSN's released code) or each `step` (NCSNv2's)."""
    if redraw not in REDRAWS:
        raise InputError(f"redraw must be level or step; got {redraw!r}")

    def project(x: Tensor, sigma: Tensor, noise: Callable[..., Tensor]) -> Tensor:
        return torch.where(mask, known + float(sigma) * noise(per=redraw), x)

    return project


def restore(
    model: ScoreModel,
    measurement: Measurement,
    draws: int = 16,
    seed: int = 0,
    *,
    ladder: Tensor | None = None,
    steps_per_level: int | None = None,
    epsilon: float | None = None,
    redraw: str = "level",
    batch: int = 256,
    callbacks: Sequence[Callable[[Event], None]] = (),
) -> Restoration:
    """`draws` restorations of each observation. Draw j of observation k has the key of sample k *
    draws + j of `seed`.

    ladder, epsilon: in model units; by default those of the annealed-langevin sampler. Raises
    InputError where operator and method do not
    fit: this method takes a Mask and exact observations (noise_std = 0).
    """
    operator = measurement.operator
    if not isinstance(operator, Mask):
        raise InputError(f"inpainting needs operator=Mask(...); got {type(operator).__name__}")
    if measurement.noise_std != 0:
        raise InputError(
            "inpainting by projection takes the known part as exact: noise_std must be 0; got "
            f"{measurement.noise_std:g}"
        )
    if draws < 1:
        raise InputError(f"draws must be at least 1; got {draws}")
    observed = measurement.batch(model.event_shape)
    mask = operator.on(model.event_shape)
    plan = SAMPLERS["annealed-langevin"]
    ladder = plan.ladder(model, None) if ladder is None else ladder
    epsilon = plan.default_epsilon(ladder) if epsilon is None else epsilon
    assert epsilon is not None
    repeats = plan.repeats(ladder) if steps_per_level is None else steps_per_level
    parameter = next(model.parameters(), None)
    like = parameter if parameter is not None else observed
    count = len(observed)
    # Unknown elements may hold anything; the units' logit must not see it.
    filled = torch.where(mask, observed, observed[:, mask].mean() if bool(mask.any()) else 0.0)
    known = (
        model.units.to_model(filled.to(torch.float64))
        .to(like.device, like.dtype)
        .repeat_interleave(draws, 0)
    )
    keys = rng.keys(seed, count * draws)
    start = terminal(model, float(ladder[0]))
    parts, evaluations = [], 0
    for key, part in zip(keys.split(batch), known.split(batch), strict=True):
        x = start.sample(
            rng.normal(key, rng.Stream.INIT, 0, model.event_shape, like.dtype).to(like.device)
        )
        hook = inpainting_projection(part, mask.to(like.device), redraw)
        result = run(
            AnnealedLangevin(epsilon),
            model,
            ladder,
            x,
            repeats,
            keys=key,
            project=hook,
            callbacks=callbacks,
        )
        parts.append(result.x)
        evaluations = result.evaluations
    restored = model.units.to_data(torch.cat(parts)).cpu()
    restored = paste(
        restored.reshape(count, draws, *model.event_shape),
        observed[:, None],
        mask,
        measurement.stored_dtype,
        model.units.image,
    )
    floating = restored.to(torch.float64) / (255 if restored.dtype == torch.uint8 else 1)
    mean = floating.mean(1).to(observed.dtype)
    std = (floating.std(1) if draws > 1 else torch.full_like(floating[:, 0], float("nan"))).to(
        observed.dtype
    )
    if measurement.values().ndim <= len(model.event_shape):
        restored, mean, std = restored[0], mean[0], std[0]
    return Restoration(restored, mean, std, None, evaluations)


def paste(
    restored: Tensor, observed: Tensor, mask: Tensor, dtype: torch.dtype, image: bool
) -> Tensor:
    """The observed values where they are known, in the dtype they were stored in (uint8 images are
    clipped and rounded).
    """
    if image:
        restored = restored.clamp(0, 1)
    if dtype == torch.uint8:
        return torch.where(mask, observed.mul(255).round(), restored.mul(255).round()).to(
            torch.uint8
        )
    return (
        torch.where(mask, observed.to(restored.dtype), restored)
        if not dtype.is_floating_point
        else torch.where(mask, observed.to(dtype), restored.to(dtype))
    )


def left_half(event_shape: tuple[int, ...]) -> Tensor:
    """A mask that knows the left half along the last dimension: bool, event_shape."""
    mask = torch.zeros(event_shape, dtype=torch.bool)
    mask[..., : event_shape[-1] // 2] = True
    return mask
