"""What bfloat16 costs: denoising error per sigma on held-out data, and samples at the same seeds,
beside float32's.

The error is mean |D(x, sigma) - x0|² over elements, the same noise for both; their difference is
over images, paired, so its standard error
says whether rounding is seen at all. Samples start from the same noise and take the same draws.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield import checkpoint, rng
from scorefield.data import load, split
from scorefield.errors import InputError
from scorefield.execution import choose
from scorefield.noise import geometric
from scorefield.sampling import sample

LEVELS = 12
SHOWN = 16


def denoising_errors(model: Any, x0: Tensor, sigma: float, seed: int) -> Tensor:
    """Squared error a held-out event, mean over its elements: x0 (N, *event) in model units ->
    (N,).
    """
    keys = rng.keys(seed, len(x0))
    x = x0 + sigma * rng.normal(keys, rng.Stream.NOISE, 0, model.event_shape, x0.dtype)
    with torch.no_grad():
        return (model.denoise(x, sigma) - x0).square().flatten(1).mean(1)


def precision(run: Path, out: Path, images: int = 256, seed: int = 0) -> dict[str, Any]:
    """Both precisions of the model in `run` -> rows per sigma and the samples' root mean square
    difference. out: a .png, both's samples in turn.
    """
    from scorefield.plotting import save_samples

    model: Any = checkpoint.load(run)
    card = model.card or {}
    if "config" not in card:
        raise InputError(
            f"{run} has no record of the data it was trained on; this benchmark takes a trained run"
        )
    config = card["config"]
    d = config["data"]
    collection = load(
        d["source"], size=d["size"] or None, channels=d["channels"] or None, key=d["key"] or None
    )
    _, held = split(collection.labels, len(collection), config["seed"], d["held_out"])
    x0 = model.units.to_model(collection.floats(held[:images]))
    choose(precision="bfloat16", spatial=2).place(model.network)
    high, low = min(model.sigma_max, 20 * model.sigma_data), model.sigma_min
    ladder = model.ladder if model.index_conditioned else geometric(high, low, LEVELS)
    rows = []
    for sigma in ladder.tolist():
        errors = {}
        for dtype in (None, torch.bfloat16):
            model.autocast = dtype
            errors[dtype] = denoising_errors(model, x0, sigma, seed)
        gap = errors[torch.bfloat16] - errors[None]
        rows.append(
            {
                "sigma": sigma,
                "float32": errors[None].mean().item(),
                "bfloat16": errors[torch.bfloat16].mean().item(),
                "difference": gap.mean().item(),
                "difference_se": gap.std().item() / len(gap) ** 0.5,
            }
        )
    drawn = []
    for dtype in (None, torch.bfloat16):
        model.autocast = dtype
        drawn.append(sample(model, SHOWN, seed))
    rowed = torch.stack([x.unflatten(0, (-1, SHOWN // 2)) for x in drawn], 1).flatten(0, 2)
    title = "float32, and below each the same seed in bfloat16"
    save_samples(out, rowed, image=model.units.image, columns=SHOWN // 2, title=title)
    exact, rounded = drawn
    apart, between = (
        float((a - b).square().mean().sqrt())
        for a, b in ((exact, rounded), (exact, exact.roll(1, 0)))
    )
    return {
        "images": len(x0),
        "rows": rows,
        "samples_rms_difference": apart,
        "samples_rms_between_seeds": between,
    }
