"""The command `scorefield restore`."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from . import options as o
from .loading import class_values, guided, ready
from .sample import card_facts
from .show import duration, progress, say

SHOWN_DRAWS = 8  # draws of one observation that the sheet shows

Input = Annotated[
    Path,
    typer.Option("--input", help="The damaged image (PNG, JPEG) or array (.npy), model's size."),
]
MaskFile = Annotated[
    Path | None,
    typer.Option("--mask", help="White or 1 = known.", show_default="the left half is known"),
]
Draws = Annotated[int, typer.Option(min=1, help="Number of restorations.")]
Method = Annotated[str, typer.Option(help="Method of restoration: auto or inpainting.")]
Redraw = Annotated[
    str | None,
    typer.Option(
        help="inpainting: level or step, how often the observation's noise is drawn anew.",
        show_default="level",
    ),
]


def read_input(path: Path, event_shape: tuple[int, ...], image: bool) -> Any:
    """Read an observation in its stored type, from an image file or a .npy.

    Args:
        path: the file.
        event_shape: shape of the model's examples.
        image: whether the model is of images.

    Returns:
        A tensor of `event_shape`.

    Raises:
        InputError: the file cannot be read or has another shape.
    """
    from ..data import read_images

    if not path.is_file():
        raise InputError(f"--input {path}: there is no such file")
    if path.suffix == ".npy":
        value = read_array(path, "--input")
    elif image:
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


def read_array(path: Path, option: str) -> Any:
    """Read a .npy file as a tensor; no code in it is run.

    Raises:
        InputError: the file is no .npy array of numbers.
    """
    import numpy as np
    import torch

    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (ValueError, EOFError, TypeError) as error:
        raise InputError(f"{option} {path}: not a .npy array of numbers ({error})") from error


def read_mask(path: Path, event_shape: tuple[int, ...]) -> Any:
    """Read a mask from an image (white = known) or a .npy (1 = known).

    Args:
        path: the file.
        event_shape: shape of the model's examples.

    Returns:
        A tensor of `event_shape`, or with one channel for all.

    Raises:
        InputError: the file cannot be read or has another shape.
    """
    from ..data import read_images

    if not path.is_file():
        raise InputError(f"--mask {path}: there is no such file")
    mask = (
        read_array(path, "--mask") if path.suffix == ".npy" else read_images([path], channels=1)[0]
    )
    if mask.ndim == len(event_shape) - 1:
        mask = mask[None]
    fits = mask.ndim == len(event_shape) and mask.shape[1:] == tuple(event_shape[1:])
    if not fits or (mask.ndim > 0 and mask.shape[0] not in (1, event_shape[0])):
        raise InputError(
            f"the mask {path.name} has shape {tuple(mask.shape)}; it must match the image "
            f"{tuple(event_shape)} (white or 1 = known)"
        )
    return mask


def restore(
    run: o.Run,
    input: Input,
    out: o.Out,
    method: Method = "auto",
    mask: MaskFile = None,
    draws: Draws = 8,
    seed: o.Seed = 0,
    nfe: o.Nfe = None,
    levels: o.Levels = None,
    ladder: o.LadderText = None,
    steps_per_level: o.StepsPerLevel = None,
    redraw: Redraw = None,
    option: o.SamplerOptions = None,
    classes: o.Classes = None,
    guidance: o.Guidance = None,
    network: o.NetworkFile = None,
    device: o.Device = None,
    precision: o.Precision = None,
    compile: o.Compile = None,
    threads: o.Threads = None,
) -> None:
    """Restore a damaged observation: draws of what it may have been, their mean and deviation."""
    from ..inverse import left_half
    from ..inverse.operators import Mask

    o.check_folder(out)
    given = {
        "nfe": nfe,
        "levels": levels,
        "ladder": o.parse_ladder(ladder),
        "steps_per_level": steps_per_level,
        "redraw": redraw,
    }
    options = {name: value for name, value in given.items() if value is not None}
    options |= o.parse_options(option) or {}
    request = o.execution_request(device, precision, compile, threads)
    model, execution = ready(run, request, network, draws, nfe)
    condition = None if classes is None else {"class": class_values(model, classes, 1)}
    model = guided(model, guidance, condition)
    observed = read_input(input, model.event_shape, model.units.image)
    known = left_half(model.event_shape) if mask is None else read_mask(mask, model.event_shape)
    say(f"running on {execution.describe()}")
    restore_to(
        model,
        observed[None],
        Mask(known),
        out,
        draws=draws,
        seed=seed,
        method=method,
        options=options,
        condition=condition,
    )


def restore_to(
    model: Any,
    observed: Any,
    operator: Any,
    out: Path,
    *,
    draws: int,
    seed: int,
    method: str = "auto",
    options: dict[str, Any] | None = None,
    condition: Any = None,
    truth: Any = None,
) -> None:
    """Restore a batch of observations; write arrays, facts and, for images, the sheet and draws.

    Args:
        model: a score model.
        observed: (K, *event) in the type it is stored in.
        operator: the mask.
        out: folder for the results.
        draws: restorations of each observation.
        seed: decides all noise.
        method: a method of `inverse.METHODS`, or "auto".
        options: the method's options.
        condition: a condition as `inverse.restore` takes it.
        truth: (K, *event) to be shown on the sheet, or None.
    """
    from ..files import write_json, write_npz
    from ..inverse import Measurement
    from ..inverse import restore as draw_restorations

    began = time.perf_counter()
    with progress("restoring") as report:
        result = draw_restorations(
            model,
            Measurement(observed, operator),
            draws,
            seed,
            method=method,
            options=options,
            condition=condition,
            callbacks=(lambda e: report(e.step / e.steps, f"sigma {e.sigma:.3g}"),),
        )
    seconds = time.perf_counter() - began
    mask = operator.on(model.event_shape)
    write_npz(
        out / "restored.npz",
        draws=result.draws.numpy(),
        mean=result.mean.numpy(),
        std=result.std.numpy(),
        observed=observed.numpy(),
        mask=mask.numpy(),
    )
    facts = {
        "method": method,
        "options": options or {},
        "inputs": len(observed),
        "draws": draws,
        "seed": seed,
        "nfe": result.evaluations,
        "seconds": round(seconds, 3),
    }
    write_json(out / "restore.json", facts | card_facts(model))
    if model.units.image:
        save_pictures(out, observed, mask, result, truth)
    say(
        f"{len(observed)} x {draws} draws, {result.evaluations} evaluations each, "
        f"{duration(seconds)}: {out}"
    )


def save_pictures(out: Path, observed: Any, mask: Any, result: Any, truth: Any = None) -> None:
    """Write the sheet inpaint.png and each draw as draws/NNN.png (draws/KKK_NNN.png of several)."""
    from ..plotting import save_grid, save_inpainting

    draws = result.draws.shape[1]
    save_inpainting(
        out / "inpaint.png",
        truth,
        observed,
        mask,
        result.draws[:, :SHOWN_DRAWS],
        result.mean,
        result.std if draws > 1 else None,
        title="Inpainting",
    )
    for k in range(len(observed)):
        for j in range(draws):
            stem = f"{j:03d}.png" if len(observed) == 1 else f"{k:03d}_{j:03d}.png"
            save_grid(out / "draws" / stem, result.draws[k, j][None], pad=0, scale=1)
