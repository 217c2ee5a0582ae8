"""Experiment 8: images form over the noise levels, and a hidden half has several completions.

Annealed Langevin dynamics draws images from noise; the states at the noise levels are the frames of
an animation (Song and Ermon 2019, Algorithm 1 and Figure 4). Inpainting replaces the known half
after every step (Algorithm 2, Figure 6). The model is a run of the user's (settings.run), or a
small one trained here on 8 x 8 digits. The inpainted images were held out of its training.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..checkpoint import load as load_model
from ..data import Dataset, open_card_data
from ..errors import InputError
from ..inverse import Measurement, Restoration, left_half, operators, restore
from ..models import ScoreModel
from ..plotting import save_animation, save_inpainting
from ..runs import Run
from ..sampling import draw, resolve_sampling
from ..training import fit
from .common import QUICK, Result, Settings

SEED, SECONDS, QUICK_IMAGES = 8, 60, 4096
COUNT, INPUTS, DRAWS, FRAMES = 36, 5, 6, 30
SAMPLER = "annealed-langevin"


def trained_run(folder: Path, settings: Settings) -> Path:
    """Return the folder of the run to show, and train one if settings.run is None."""
    if settings.run is not None:
        return settings.run
    options: dict[str, Any] = {"execution.threads": torch.get_num_threads()}
    if not settings.quick:
        return fit("digits", folder, budget=SECONDS, seed=SEED, settings=options).folder
    # Precision is chosen by a measurement, and compiling takes longer than it saves here: a test
    # wants neither.
    options |= {
        "execution.precision": "float32",
        "execution.compile": "off",
        "network.name": "mlp",
        "optim.batch": 256,
    }
    return fit("digits", folder, images=QUICK_IMAGES, seed=SEED, settings=options).folder


def held_out(run: Path, model: ScoreModel) -> tuple[Dataset, Tensor]:
    """Return the data of a run and the indices that it was not trained on.

    Args:
        run: for the error message.
        model: the model of the run.

    Raises:
        InputError: if the model is not one of images, or its data cannot be read again.
    """
    if not model.units.image:
        raise InputError(
            f"experiment 8 shows images; {run} is a model of examples {tuple(model.event_shape)} "
            "in other units. Leave --run out, or give a run of images"
        )
    data = open_card_data(model.card)
    return data.dataset, data.held_out


def choose(data: Dataset, held: Tensor) -> Tensor:
    """Choose INPUTS held-out examples, of different classes where there are labels."""
    if data.labels is None:
        return held[:INPUTS]
    first: dict[int, int] = {}
    for index in held.tolist():
        first.setdefault(int(data.labels[index]), index)
    others = [index for index in held.tolist() if index not in first.values()]
    return torch.tensor(([first[label] for label in sorted(first)][::2] + others)[:INPUTS])


def _draw_forming(
    path: Path, model: ScoreModel, settings: Settings
) -> tuple[Path, dict[str, Any], Tensor]:
    """Write the animation; return it with a record of the sampling, and the samples."""
    recipe = resolve_sampling(model, SAMPLER, steps_per_level=1 if settings.quick else None)
    samples = draw(model, recipe, rng.keys(SEED, COUNT), trace=True)
    trace = samples.record.trace or []
    keep = sorted({round(i) for i in torch.linspace(0, len(trace) - 1, FRAMES).tolist()})
    frames = [trace[i] for i in keep]
    captions = [
        settings.title("denoised" if sigma == 0 else f"annealed Langevin, σ = {sigma:.3g}")
        for sigma, _ in frames
    ]
    images = [x.clamp(0, 1) for _, x in frames]
    record = samples.record.to_dict()
    levels = len(record.pop("ladder"))
    return (
        save_animation(path, images, captions=captions, fps=6),
        record | {"levels": levels},
        samples.x,
    )


def _draw_inpainting(
    path: Path, model: ScoreModel, truth: Tensor, settings: Settings
) -> tuple[Path, Restoration]:
    """Write the sheet of completions of the right half of `truth` (N, *event) in data units."""
    mask = left_half(model.event_shape)
    observed = truth * mask
    # All steps of the article's sampler, which are more than the usual number of evaluations.
    steps = 1 if settings.quick else resolve_sampling(model, SAMPLER).steps_per_level
    options = {"steps_per_level": steps}
    measurement = Measurement(observed, operators.Mask(mask))
    result = restore(model, measurement, DRAWS, SEED, method="inpainting", options=options)
    title = f"The left half is known: {DRAWS} draws of the right half of held-out images"
    if settings.quick:
        title += f"\n{QUICK}"
    columns = (truth, observed, mask, result.draws, result.mean, result.std)
    return save_inpainting(path, *columns, title=title), result


def _rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def _last_held_out(run: Path) -> float | None:
    """The last held-out loss of a run's log; None for a model file."""
    records = Run(run).records() if run.is_dir() else []
    return next((r["held_out"] for r in reversed(records) if "held_out" in r), None)


def make(stem: Path, settings: Settings) -> Result:
    """Draw forming.gif and inpainting.png, and compare the completions with the mean image.

    Args:
        stem: path of the pictures without their ending.
        settings: sizes of the experiment, and the run to show.

    Returns:
        Both pictures, how they were made, and errors of the completions.
    """
    kind = "quick" if settings.quick else "run"
    run = trained_run(stem.with_name(f"{stem.name}_{kind}"), settings)
    model = load_model(run)
    data, held = held_out(run, model)
    truth = data.floats(choose(data, held))
    forming, record, samples = _draw_forming(stem.with_name(f"{stem.name}.gif"), model, settings)
    sheet, result = _draw_inpainting(
        stem.with_name(f"{stem.name}_inpainting.png"), model, truth, settings
    )
    moments = model.moments()
    mean = truth.mean(0) if moments is None else model.units.to_data(moments.mean[None])[0]
    mask = left_half(model.event_shape).expand(model.event_shape)
    facts = {
        "inputs": len(truth),
        "draws": DRAWS,
        "largest_change_of_a_known_pixel": float(
            (result.draws - truth[:, None])[:, :, mask].abs().max()
        ),
        "sd_over_draws_in_the_hidden_half": float(result.std[:, ~mask].mean()),
        "rms_error_of_the_mean_of_draws": _rms((result.mean - truth)[:, ~mask]),
        "rms_error_of_the_data_mean": _rms((mean - truth)[:, ~mask]),
        "evaluations": result.evaluations,
    }
    size = "quick" if settings.quick else f"{SECONDS} s"
    numbers: dict[str, Any] = {
        "run": f"digits, {size}" if settings.run is None else "given",
        "history": json.loads(json.dumps((model.card or {}).get("history"))),
        "held_out_loss": _last_held_out(run),
        "forming": record,
        "samples": {
            "mean": float(samples.mean()),
            "sd": float(samples.std()),
            "data_mean": float(mean.mean()),
        },
        "inpainting": facts,
    }
    conclusion = (
        f"{COUNT} images form over {record['levels']} levels. The mean of {DRAWS} completions of "
        f"the hidden half is {facts['rms_error_of_the_mean_of_draws']:.2f} (rms) from the truth, "
        f"the mean image {facts['rms_error_of_the_data_mean']:.2f}; known pixels change by "
        f"{facts['largest_change_of_a_known_pixel']:g}."
    )
    return Result([forming, sheet], conclusion, numbers)
