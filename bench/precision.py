"""The cost of bfloat16: denoising error per sigma on held-out data, and samples at the same seeds.

The error is the mean over elements of |D(x, sigma) - x0|², with the same noise for both precisions.
Their difference is paired over the examples, so that its standard error shows whether rounding is
visible at all. Samples start from the same noise and take the same draws.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield import checkpoint, rng
from scorefield.conditions import Condition
from scorefield.data import Pipeline, open_card_data
from scorefield.errors import InputError
from scorefield.execution import choose
from scorefield.models import ScoreModel
from scorefield.noise import geometric
from scorefield.plotting import save_samples
from scorefield.sampling import sample

LEVELS = 12
SHOWN = 16
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


def set_precision(model: ScoreModel, dtype: torch.dtype | None) -> None:
    """Set the type in which the networks of the model compute; None is float32."""
    for leaf in model.leaves():
        leaf.autocast = dtype


def denoising_errors(
    model: ScoreModel, x0: Tensor, sigma: float, seed: int, condition: Condition | None = None
) -> Tensor:
    """Squared error of each example, the mean over its elements.

    Args:
        model: answers in x0's type.
        x0: (N, *event) in model units.
        sigma: noise level in model units.
        seed: of the noise.
        condition: one row an example, or None.

    Returns:
        (N,).
    """
    noise = rng.normal(rng.keys(seed, len(x0)), rng.Stream.NOISE, 0, model.event_shape, x0.dtype)
    with torch.no_grad():
        denoised = model.denoise(x0 + sigma * noise, sigma, condition)
    return (denoised - x0).square().flatten(1).mean(1)


def held_out_examples(
    run: Path, model: ScoreModel, count: int | None = None
) -> tuple[Tensor, Condition | None]:
    """The held-out examples of a trained run in model units, and their conditions.

    Args:
        run: the run's folder, for the message.
        model: its model.
        count: how many; None: all.

    Raises:
        InputError: if the model does not record its data.
    """
    card = model.card or {}
    if "config" not in card:
        raise InputError(
            f"{run} has no record of the data it was trained on; this benchmark takes a trained run"
        )
    config = card["config"]
    data = open_card_data(card)
    pipeline = Pipeline(
        data.dataset,
        data.train,
        model.units,
        config["seed"],
        dequantise=config["data"]["dequantise"],
        condition=config["condition"]["kind"],
    )
    return pipeline.held_out(data.held_out[:count])


def _rows(
    model: ScoreModel, x0: Tensor, condition: Condition | None, seed: int
) -> list[dict[str, float]]:
    ladder = model.ladder
    if ladder is None or not model.ladder_only:
        low, high = model.sampling_range()
        moments = model.moments()
        data_std = 1.0 if moments is None else moments.data_std
        ladder = geometric(min(high, 20 * data_std), low, LEVELS)
    rows = []
    for sigma in ladder.tolist():
        errors = {}
        for name, dtype in PRECISIONS.items():
            set_precision(model, dtype)
            errors[name] = denoising_errors(model, x0, sigma, seed, condition)
        gap = errors["bfloat16"] - errors["float32"]
        rows.append(
            {
                "sigma": sigma,
                **{name: error.mean().item() for name, error in errors.items()},
                "difference": gap.mean().item(),
                "difference_se": gap.std().item() / len(gap) ** 0.5,
            }
        )
    return rows


def precision(run: Path, out: Path, images: int = 256, seed: int = 0) -> dict[str, Any]:
    """Compare float32 and bfloat16 on a trained run.

    Args:
        run: the folder of a run, or a model file.
        out: a .png for the samples of both precisions, in alternating rows.
        images: number of held-out examples, 2 or more.
        seed: of the noise and of the samples.

    Returns:
        The record: a row a sigma, and the root mean square differences of the samples.

    Raises:
        InputError: if the model does not record its data.
    """
    model = checkpoint.load(run)
    x0, condition = held_out_examples(run, model, images)
    choose(precision="bfloat16", spatial=2).apply(model)
    rows = _rows(model, x0, condition, seed)
    drawn = []
    for dtype in PRECISIONS.values():
        set_precision(model, dtype)
        drawn.append(sample(model, SHOWN, seed))
    exact, rounded = drawn
    alternating = torch.stack([x.unflatten(0, (-1, SHOWN // 2)) for x in drawn], 1).flatten(0, 2)
    title = "float32, and below each the same seed in bfloat16"
    save_samples(out, alternating, image=model.units.image, columns=SHOWN // 2, title=title)
    return {
        "images": len(x0),
        "rows": rows,
        "samples_rms_difference": rms(exact - rounded),
        "samples_rms_between_seeds": rms(exact - exact.roll(1, 0)),
    }


def rms(x: Tensor) -> float:
    """Root mean square over all elements."""
    return float(x.square().mean().sqrt())
