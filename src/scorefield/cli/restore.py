"""scorefield restore"""

from pathlib import Path
from typing import Any

import typer

from ..errors import InputError
from .show import duration, progress, say

TASKS = ("inpaint",)


def read_input(path: Path, event_shape: tuple[int, ...], image: bool) -> Any:
    """The observation as a tensor of `event_shape` in its stored type: an image file, or a .npy."""
    import numpy as np
    import torch

    if not path.exists():
        raise InputError(f"--input {path}: no such file")
    if path.suffix == ".npy":
        value = torch.from_numpy(np.load(path, allow_pickle=False))
    elif image:
        from ..data import read_images

        value = read_images([path], channels=event_shape[0])[0]
    else:
        raise InputError(
            f"this model is of arrays {event_shape}, not images: --input must be a .npy file; got "
            f"{path.name}"
        )
    if value.ndim == len(event_shape) - 1 and event_shape[0] == 1:
        value = value[None]
    if tuple(value.shape) != tuple(event_shape):
        raise InputError(
            f"--input {path.name} has shape {tuple(value.shape)}; the model needs "
            f"{tuple(event_shape)}. Resize it first"
        )
    return value


def read_mask(path: Path, event_shape: tuple[int, ...]) -> Any:
    """A mask from an image (white = known) or a .npy, as a bool tensor of (1, H, W) or the event's
    shape.
    """
    import numpy as np
    import torch

    if not path.exists():
        raise InputError(f"--mask {path}: no such file")
    if path.suffix == ".npy":
        mask = torch.from_numpy(np.load(path, allow_pickle=False))
    else:
        from ..data import read_images

        mask = read_images([path], channels=1)[0]
    if mask.ndim == len(event_shape) - 1:
        mask = mask[None]
    if (
        mask.ndim != len(event_shape)
        or tuple(mask.shape[1:]) != tuple(event_shape[1:])
        or mask.shape[0] not in (1, event_shape[0])
    ):
        raise InputError(
            f"the mask {path.name} has shape {tuple(mask.shape)}; it must match the image "
            f"{tuple(event_shape)} (white or 1 = known)"
        )
    return mask


def restore(
    run: Path = typer.Argument(..., help="A run's folder or a .safetensors model file."),
    input: Path = typer.Option(
        ..., "--input", help="The damaged image (PNG, JPEG) or array (.npy), of the model's size."
    ),
    out: Path = typer.Option(
        ..., help="Folder for restored.npz, restore.json, the sheet and the draws."
    ),
    task: str = typer.Option("inpaint", help="inpaint."),
    mask: Path | None = typer.Option(
        None, help="White or 1 = known. [default: the left half is known]"
    ),
    draws: int = typer.Option(8, help="How many restorations, 1 or more."),
    seed: int = typer.Option(0, help="0 or more; draw k is a function of (seed, k) alone."),
    levels: int | None = typer.Option(None, help="Length of the ladder, 1 or more."),
    steps_per_level: int | None = typer.Option(
        None, help="Langevin steps at each level, 1 or more."
    ),
    epsilon: float | None = typer.Option(
        None, help="Coefficient of the score at the last level, in squared model units."
    ),
    redraw: str = typer.Option(
        "level", help="level or step: how often the observation's noise is drawn anew."
    ),
    precision: str = typer.Option("auto", help="auto, float32 or bfloat16."),
    threads: int = typer.Option(0, help="CPU threads; 0 = all."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
) -> None:
    """Restore a damaged observation: several draws of what it may have been, their mean and spread."""
    from ..inverse import left_half
    from ..inverse.operators import Mask
    from .sample import ready

    if task not in TASKS:
        raise InputError(f"--task must be one of {', '.join(TASKS)}; got {task!r}")
    model, execution = ready(run, device, precision, "off", threads)
    observed = read_input(input, model.event_shape, model.units.image)
    operator = Mask(
        left_half(model.event_shape) if mask is None else read_mask(mask, model.event_shape)
    )
    say(f"running on {execution.describe()}")
    options = {
        "levels": levels,
        "steps_per_level": steps_per_level,
        "epsilon": epsilon,
        "redraw": redraw,
    }
    inpaint_to(model, observed[None], operator, draws, seed, out, options)


def inpaint_to(
    model: Any,
    observed: Any,
    operator: Any,
    draws: int,
    seed: int,
    out: Path,
    options: dict[str, Any],
    truth: Any = None,
    name: str = "inpaint.png",
) -> Any:
    """Inpaint a batch of observations (K, *event) and write arrays, facts and, for images, the
    sheet and each draw.
    """
    import time

    import torch

    from ..checkpoint import card_hash
    from ..inverse import Measurement, restore
    from ..plotting import save_grid, save_inpainting
    from ..runs import write_json, write_npz
    from ..sampling import find_sampler

    levels = options.pop("levels", None)
    if levels is not None:
        options["ladder"] = find_sampler("annealed-langevin").ladder(model, levels)
    began = time.perf_counter()
    with progress("inpainting") as report:
        result = restore(
            model,
            Measurement(observed, operator),
            draws,
            seed,
            callbacks=(lambda e: report(e.step / e.steps, f"sigma {e.sigma:.3g}"),),
            **options,
        )
    seconds = time.perf_counter() - began
    mask = operator.on(model.event_shape)
    write_npz(
        out / "restored.npz",
        draws=result.draws.numpy(),
        mean=result.mean.numpy(),
        std=result.std.numpy(),
        observed=torch.as_tensor(observed).numpy(),
        mask=mask.numpy(),
    )
    card = {"card_sha256": card_hash(model.card)} if model.card is not None else {}
    facts = {
        "task": "inpaint",
        "inputs": len(observed),
        "draws": draws,
        "seed": seed,
        "nfe": result.evaluations,
        "seconds": round(seconds, 3),
    }
    write_json(out / "restore.json", facts | card)
    if model.units.image:
        shown = min(draws, 8)
        save_inpainting(
            out / name,
            truth,
            observed,
            mask,
            result.draws[:, :shown],
            result.mean,
            result.std if draws > 1 else None,
            title="Inpainting",
        )
        for k in range(len(observed)):
            for j in range(draws):
                stem = f"{j:03d}.png" if len(observed) == 1 else f"{k:03d}_{j:03d}.png"
                save_grid(out / "draws" / stem, result.draws[k, j][None], pad=0, scale=1)
    say(
        f"{len(observed)} x {draws} draws, {result.evaluations} evaluations, {duration(seconds)}: "
        f"{out}"
    )
    return result
