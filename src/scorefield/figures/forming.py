"""Experiment 8: images form over the levels, and a hidden half is filled in several ways. Song &
Ermon 2019, Figures 4 to 6; Algorithms 1 and 2.

Annealed Langevin dynamics from noise, the state at each level a frame; inpainting with the known
half replaced after every step. The model is a
run of one's own (settings.run) or a small one, trained here on 8 x 8 digits. The pictures inpainted
were held out of its training.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import load as load_model
from ..data import Collection, load, split
from ..errors import InputError
from ..inverse import Measurement, left_half, operators, restore
from ..plotting import save_animation, save_inpainting
from ..runs import Run
from ..sampling import sample
from ..training import fit
from .common import Made, Settings

SEED, SECONDS, QUICK_IMAGES = 8, 60, 4096
COUNT, INPUTS, DRAWS, FRAMES = 36, 5, 6, 30


def trained_run(folder: Path, settings: Settings) -> Path:
    """The folder of the run to show."""
    if settings.run is not None:
        return settings.run
    threads = {"execution.threads": torch.get_num_threads()}
    if settings.quick:
        # bfloat16 or not is measured, and compiling costs more than it gives here: a test wants
        # neither.
        options = {
            "execution.precision": "float32",
            "execution.compile": "off",
            "network.name": "mlp",
            "optim.batch": 256,
        }
        return fit(
            "digits", folder, images=QUICK_IMAGES, seed=SEED, settings=options | threads
        ).folder
    return fit("digits", folder, budget=SECONDS, seed=SEED, settings=threads).folder


def held_out(run: Path, model: Any) -> tuple[Collection, Tensor]:
    """The data of a run and the indices it was not trained on; an InputError where they cannot be
    had again.
    """
    source = str(((model.card or {}).get("data") or {}).get("source", ""))
    if not model.units.image:
        raise InputError(
            f"experiment 8 shows images; {run} is a model of events {tuple(model.event_shape)} in "
            "other units. Leave --run out, or give a run of images"
        )
    config = model.card["config"]
    d = config["data"]
    if source.startswith("<") or not source:
        raise InputError(
            f"the data of {run} were given as an object ({source or 'unnamed'}), which cannot be "
            "had again; give a run of a named set, a folder or a file"
        )
    data = load(
        source, size=d["size"] or None, channels=d["channels"] or None, key=d["key"] or None
    )
    return data, split(data.labels, len(data), config["seed"], d["held_out"])[1]


def choose(data: Collection, held: Tensor) -> Tensor:
    """INPUTS held-out events, of different labels where there are labels."""
    if data.labels is None:
        return held[:INPUTS]
    first: dict[int, int] = {}
    for index in held.tolist():
        first.setdefault(int(data.labels[index]), index)
    others = [index for index in held.tolist() if index not in first.values()]
    return torch.tensor(([first[label] for label in sorted(first)][::2] + others)[:INPUTS])


def make(stem: Path, settings: Settings) -> Made:
    """forming.gif and inpainting.png; numbers: how both were made, and how good the fillings are
    beside the mean picture.
    """
    run = trained_run(
        stem.with_name(f"{stem.name}_{'quick' if settings.quick else 'run'}"), settings
    )
    model: Any = load_model(run)
    data, held = held_out(run, model)
    chain: dict[str, Any] = {"sampler": "annealed-langevin"}
    if settings.quick:
        chain |= {"repeats": 1}
    samples, record = sample(model, COUNT, SEED, trace=True, **chain)
    path = record.trace
    keep = sorted({round(i) for i in torch.linspace(0, len(path) - 1, FRAMES).tolist()})
    forming = save_animation(
        stem.with_name(stem.name + ".gif"),
        [path[i][1].clamp(0, 1) for i in keep],
        captions=[
            "denoised" if path[i][0] == 0 else f"annealed Langevin, σ = {path[i][0]:.3g}"
            for i in keep
        ],
        fps=6,
    )
    chosen = choose(data, held)
    truth, mask = data.floats(chosen), left_half(model.event_shape)
    observation = Measurement(truth * mask, operators.Mask(mask))
    result = restore(model, observation, DRAWS, SEED, steps_per_level=1 if settings.quick else None)
    sheet = save_inpainting(
        stem.with_name(stem.name + "_inpainting.png"),
        truth,
        observation.values(),
        mask,
        result.draws,
        result.mean,
        result.std,
        title=f"The left half is known: {DRAWS} draws of the right half of held-out images",
    )
    hidden = ~mask
    average = model.units.to_data(model.moments()[0][None].double())[0]

    def distance(guess: Tensor) -> float:
        return float((guess.double() - truth.double())[:, hidden].square().mean().sqrt())

    history = (model.card or {}).get("history")
    numbers: dict[str, Any] = {
        "run": "given"
        if settings.run is not None
        else f"digits, {'quick' if settings.quick else f'{SECONDS} s'}",
        "history": json.loads(json.dumps(history)),
        "held_out_loss": next(
            (
                r["held_out"]
                for r in reversed(Run(run).records() if run.is_dir() else [])
                if "held_out" in r
            ),
            None,
        ),
        "forming": {k: v for k, v in record.to_dict().items() if k != "ladder"}
        | {"levels": len(record.ladder)},
        "samples": {
            "mean": float(samples.mean()),
            "sd": float(samples.std()),
            "data_mean": float(average.mean()),
        },
        "inpainting": {
            "inputs": len(truth),
            "draws": DRAWS,
            "largest_change_of_a_known_pixel": float(
                (result.draws - truth[:, None])[:, :, mask].abs().max()
            ),
            "sd_over_draws_in_the_hidden_half": float(result.std[:, hidden].mean()),
            "rms_error_of_the_mean_of_draws": distance(result.mean),
            "rms_error_of_the_data_mean": distance(average.expand_as(truth)),
            "evaluations": result.evaluations,
        },
    }
    facts = numbers["inpainting"]
    found = (
        f"{COUNT} images form over {len(record.ladder)} levels. The mean of {DRAWS} fillings of "
        "the hidden half is "
        f"{facts['rms_error_of_the_mean_of_draws']:.2f} (rms) from the truth, the mean image "
        f"{facts['rms_error_of_the_data_mean']:.2f}; known pixels "
        f"change by {facts['largest_change_of_a_known_pixel']:g}."
    )
    return Made([forming, sheet], found, numbers)
