"""The command `scorefield restore`."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from . import options as o
from .loading import ready
from .restore_rows import read_rows, write_rows
from .results import picture_form
from .sample import card_facts
from .show import Outcome, duration, progress, say

SHOWN_DRAWS = 8  # draws of one observation that the sheet shows
SLOW = 20.0  # seconds of restoring from which on a faster setting is named
RESULTS = ("restored.*", "restore.json", "inpaint.png", "draws.*", "draws")

Input = Annotated[
    Path | None,
    typer.Option(
        "--input",
        help="What was observed. Images: a picture or an .npy, with --mask or NaN for unknown "
        "elements. Tables: a table of the model's columns, whose blank cells are unknown.",
    ),
]
MaskFile = Annotated[
    Path | None,
    typer.Option(
        "--mask", help="Images: a picture or an .npy of the image's size; white or 1 = known."
    ),
]
Given = Annotated[
    list[str] | None,
    typer.Option(
        "--given",
        metavar="NAME=VALUE",
        help="Tables, in place of --input: a known column, such as age=30 (repeatable); all other "
        "columns are unknown.",
    ),
]
Draws = Annotated[int, typer.Option(min=1, help="Number of restorations of each observation.")]
Method = Annotated[str, typer.Option(help="Method of restoration: auto or inpainting.")]
Redraw = Annotated[
    str | None,
    typer.Option(
        help="inpainting: level or step, how often the observation's noise is drawn anew.",
        show_default="level",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Format of the draws: of pictures png, tiff, ...; of tables csv, tsv, parquet, "
        "feather.",
        show_default="the source's own",
    ),
]


def observe(model: Any, input: Path | None, mask: Path | None) -> tuple[Any, Any]:
    """Read an observation of images or arrays and its mask.

    Args:
        model: a score model.
        input: --input.
        mask: --mask.

    Returns:
        The observations (K, *event) as stored, and the operator; None where NaN marks what is
        unknown.

    Raises:
        InputError: there is no input, it does not fit the model, or nothing in it is unknown.
    """
    import torch

    from ..data import form_of, read_mask, read_observation
    from ..inverse.operators import Mask

    if input is None:
        raise InputError("restore needs --input with the observation")
    event = tuple(model.event_shape)
    observed = read_observation(input, form_of(model.card), event)
    if mask is not None:
        return observed, Mask(read_mask(mask, event))
    if not (observed.is_floating_point() and bool(torch.isnan(observed).any())):
        raise InputError(
            f"--input {input} has no unknown element: give --mask with a picture or an .npy of the "
            "image's size, white or 1 where an element is known; or an .npy of floats with NaN "
            "where it is unknown"
        )
    return observed, None


def restore(
    run: o.Run,
    out: o.Out,
    input: Input = None,
    mask: MaskFile = None,
    given: Given = None,
    method: Method = "auto",
    draws: Draws = 8,
    seed: o.Seed = 0,
    nfe: o.Nfe = None,
    levels: o.Levels = None,
    ladder: o.LadderText = None,
    steps_per_level: o.StepsPerLevel = None,
    redraw: Redraw = None,
    option: o.SamplerOptions = None,
    condition: o.Condition = o.Condition(),
    format: Format = None,
    network: o.NetworkFile = None,
    device: o.Device = None,
    precision: o.Precision = None,
    compile: o.Compile = None,
    threads: o.Threads = None,
    force: o.Force = False,
    reading: o.Reading = o.Reading(),
) -> Outcome:
    """Restore what was not observed: draws of what it may have been, their mean and deviation."""
    from ..data import form_of

    o.check_folder(out)
    earlier = o.existing(out, RESULTS)
    o.refuse_existing(earlier, force)
    arguments = {
        "nfe": nfe,
        "levels": levels,
        "ladder": o.parse_ladder(ladder),
        "steps_per_level": steps_per_level,
        "redraw": redraw,
    }
    options = {name: value for name, value in arguments.items() if value is not None}
    options |= o.parse_options(option) or {}
    request = o.execution_request(device, precision, compile, threads)
    model, execution = ready(run, request, network, draws, nfe)
    form: Any = form_of(model.card)
    table = form is not None and form.kind == "table"
    if table:
        if mask is not None:
            raise InputError("--mask is for images; blank cells of --input are unknown")
        (observed, known), operator = read_rows(form, input, given, reading.options()), None
    elif given:
        raise InputError("--given is for models of tables; give --input")
    else:
        (observed, operator), known = observe(model, input, mask), None
    chosen = condition.resolve(model, len(observed), known=known)
    model = condition.guided(model, chosen, execution, network)
    written = picture_form(model) if model.units.image else form
    if written is not None and format is not None:
        written.check_format(format)
    say(f"running on {execution.describe()}")
    found = restore_to(
        model,
        observed,
        operator,
        out,
        draws=draws,
        seed=seed,
        method=method,
        options=options,
        condition=chosen,
        facts=condition.facts(model),
        format=format,
        title=f"{Path(run).name}: {'' if input is None else input.name}",
    )
    o.remove_stale(earlier, found.written)
    return replace(found, next=("info", run))


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
    facts: dict[str, Any] | None = None,
    truth: Any = None,
    format: str | None = None,
    title: str = "",
) -> Outcome:
    """Restore a batch of observations; write arrays, facts and files of the data's own kind.

    Args:
        model: a score model.
        observed: (K, *event) in the type it is stored in; NaN where an element is unknown.
        operator: the mask, or None where NaN marks what is unknown.
        out: folder for the results.
        draws: restorations of each observation.
        seed: decides all noise.
        method: a method of `inverse.METHODS`, or "auto".
        options: the method's options.
        condition: a condition as `inverse.restore` takes it.
        facts: further entries of restore.json.
        truth: (K, *event) to be shown on the sheet, or None.
        format: format of the draws' files; None: the source's own.
        title: what was restored, for the sheet.

    Returns:
        What was written.
    """
    from .. import inverse
    from ..data import form_of
    from ..files import write_json
    from ..inverse.operators import Mask

    event, measurement = tuple(model.event_shape), inverse.Measurement(observed, operator)
    mask = measurement.resolve(event).whole(event)
    assert isinstance(mask, Mask)  # the one kind of operator that the command makes
    known = mask.on(event)
    began = time.perf_counter()
    with progress("restoring") as report:
        result = inverse.restore(
            model,
            measurement,
            draws,
            seed,
            method=method,
            options=options,
            condition=condition,
            callbacks=(lambda e: report(e.step / e.steps, f"sigma {e.sigma:.3g}"),),
        )
    seconds = time.perf_counter() - began
    written = [write_arrays(model, observed, known, result, out), out / "restore.json"]
    found = {
        "method": method,
        "options": options or {},
        "inputs": len(observed),
        "draws": draws,
        "seed": seed,
        "nfe": result.evaluations,
        "seconds": round(seconds, 3),
        **(facts or {}),
    }
    write_json(written[1], found | card_facts(model))
    form: Any = form_of(model.card)
    if form is not None and form.kind == "table":
        written += write_rows(form, observed, result, out, format)
    elif model.units.image:
        written += save_pictures(model, out, observed, known, result, truth, title)
        written += write_draws(model, result, out, format)
    slow = "" if seconds < SLOW else "; --steps-per-level with a smaller number is faster"
    spent = f"{result.evaluations} evaluations each, {duration(seconds)}"
    say(f"{len(observed)} x {draws} draws, {spent}{slow}")
    return Outcome(written, (), found)


def write_arrays(model: Any, observed: Any, known: Any, result: Any, out: Path) -> Path:
    """Write restored.npz: draws, mean, std, observed and mask."""
    from ..files import write_npz

    return write_npz(
        out / "restored.npz",
        draws=as_stored(model, result.draws),
        mean=result.mean.numpy(),
        std=result.std.numpy(),
        observed=as_stored(model, observed),
        mask=known.numpy(),
    )


def save_pictures(
    model: Any, out: Path, observed: Any, mask: Any, result: Any, truth: Any, title: str
) -> list[Path]:
    """Write the sheet inpaint.png: observations, draws, mean and deviation."""
    from ..plotting import save_inpainting

    draws = result.draws.shape[1]
    path = save_inpainting(
        out / "inpaint.png",
        None if truth is None else as_floats(model, truth),
        as_floats(model, observed).nan_to_num(0.0),
        mask,
        as_floats(model, result.draws[:, :SHOWN_DRAWS]),
        result.mean,
        result.std if draws > 1 else None,
        title=f"Inpainting{f', {title}' if title else ''}",
    )
    return [path]


def write_draws(model: Any, result: Any, out: Path, format: str | None) -> list[Path]:
    """Write every draw as a picture of the source's kind in draws/, in the order of the draws."""
    floats = as_floats(model, result.draws.flatten(0, 1))
    return list(picture_form(model).write(out / "draws", floats, format))


def as_stored(model: Any, values: Any) -> Any:
    """Levels of quantised images as the whole numbers that the source stores, as an array."""
    from ..data import form_of

    form: Any = form_of(model.card)
    array = values.numpy()
    if form is None or form.kind == "table" or form.levels is None or array.dtype.kind == "f":
        return array
    return (array.astype("int64") * int(form.step) + int(form.low)).astype(form.dtype)


def as_floats(model: Any, draws: Any) -> Any:
    """Draws as they are stored, as floats in data units: levels as k / (levels - 1)."""
    if draws.is_floating_point():
        return draws
    quantisation = model.units.quantisation
    return draws.double() / (255 if quantisation is None else quantisation.levels - 1)
