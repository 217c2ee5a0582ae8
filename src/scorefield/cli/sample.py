"""The command `scorefield sample`."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from . import options as o
from .loading import class_condition, guided, ready
from .show import duration, progress, say

SHOWN_IMAGES, SHOWN_POINTS = 256, 20_000  # samples that a picture shows at most


Count = Annotated[int, typer.Option(min=0, help="Number of samples.")]
Interpolate = Annotated[
    int,
    typer.Option(
        min=0, help="K above 0: each of COUNT rows goes from one sample to another in K steps."
    ),
]
Ema = Annotated[
    float | None,
    typer.Option(
        help="Use weights averaged with this relative width, such as 0.08, rebuilt from the run's "
        "snapshots."
    ),
]
Forming = Annotated[
    bool, typer.Option("--forming", help="Images: also forming.gif, the samples at each level.")
]


def sample_command(
    run: o.Run,
    out: o.Out,
    count: Count = 64,
    seed: o.Seed = 0,
    sampler: o.Sampler = None,
    nfe: o.Nfe = None,
    levels: o.Levels = None,
    ladder: o.LadderText = None,
    steps_per_level: o.StepsPerLevel = None,
    option: o.SamplerOptions = None,
    start: o.Start = None,
    final: o.Final = None,
    classes: o.Classes = None,
    guidance: o.Guidance = None,
    interpolate: Interpolate = 0,
    ema: Ema = None,
    forming: Forming = False,
    network: o.NetworkFile = None,
    device: o.Device = None,
    precision: o.Precision = None,
    compile: o.Compile = None,
    threads: o.Threads = None,
) -> None:
    """Draw samples from a trained model: samples.npz, samples.json and a picture."""
    o.check_folder(out)
    how = o.SamplingOptions(
        sampler=sampler,
        nfe=nfe,
        levels=levels,
        ladder=o.parse_ladder(ladder),
        steps_per_level=steps_per_level,
        start=start,
        final=final,
        options=o.parse_options(option),
    )
    request = o.execution_request(device, precision, compile, threads)
    total = count * max(interpolate, 1)
    model, execution = ready(run, request, network, total, nfe)
    if ema is not None:
        from ..training import rebuild

        model.network.load_state_dict(rebuild(run, ema))
    condition = class_condition(model, classes, total)
    model = guided(model, guidance, condition)
    recipe = how.resolve(model)
    say(f"running on {execution.describe()}")
    facts = {"execution": execution.to_dict(), "guidance": guidance, "class": classes, "ema": ema}
    draw_to(
        model,
        recipe,
        out,
        count,
        seed,
        condition=condition,
        interpolate=interpolate,
        forming=forming,
        facts=facts,
    )


def draw_to(
    model: Any,
    recipe: Any,
    out: Path,
    count: int,
    seed: int,
    *,
    condition: Any = None,
    interpolate: int = 0,
    forming: bool = False,
    facts: dict[str, Any] | None = None,
) -> None:
    """Draw samples and write samples.npz, samples.json, and the picture that fits their shape.

    Args:
        model: a score model.
        recipe: the resolved `SamplingRecipe`.
        out: folder for the results.
        count: number of samples, or of rows with `interpolate`.
        seed: sample k is a function of the seed and k.
        condition: one row for each sample, or None.
        interpolate: samples in a row from one sample to another; 0 = no rows.
        forming: also write forming.gif, the samples at each level (images).
        facts: further entries of samples.json.

    Raises:
        InputError: the model does not fit the recipe; nothing is written.
    """
    import torch

    from .. import rng
    from ..files import stream_npz, write_json
    from ..sampling import draw

    units, total = model.units, count * max(interpolate, 1)
    if forming and not units.image:
        raise InputError("--forming animates images; this model's samples are no images")
    keys = rng.blend_rows(seed, count, interpolate) if interpolate else rng.keys(seed, count)
    shown: list[torch.Tensor] = []
    drawn = 0
    began = time.perf_counter()
    dtype = str(units.dtype).removeprefix("torch.")
    with (
        progress("sampling") as report,
        stream_npz(out / "samples.npz", "samples", (total, *model.event_shape), dtype) as write,
    ):

        def tell(event: Any) -> None:
            done = drawn + len(event.x) * event.step / event.steps
            report(min(done / max(total, 1), 1.0), f"sigma {event.sigma:.3g}")

        def keep(samples: torch.Tensor) -> None:
            nonlocal drawn
            samples = (samples.clamp(0, 1) if units.image else samples).to(units.dtype).cpu()
            write(samples.numpy())
            room = (SHOWN_IMAGES if units.image else SHOWN_POINTS) - drawn
            if room > 0:
                shown.append(samples[:room])
            drawn += len(samples)

        record = draw(
            model, recipe, keys, condition=condition, callbacks=(tell,), sink=keep, trace=forming
        ).record
    seconds = time.perf_counter() - began
    written = record.to_dict() | {"seed": seed, "seconds": round(seconds, 3)} | (facts or {})
    write_json(out / "samples.json", written | card_facts(model))
    picture = draw_picture(model, torch.cat(shown), out, interpolate or None) if total else None
    if forming and record.trace:
        save_forming(out / "forming.gif", record.trace)
    say(
        f"{total:,} samples, {record.nfe} evaluations each, {duration(seconds)}: {out}/samples.npz"
        + (f", {picture.name}" if picture else "")
    )


def card_facts(model: Any) -> dict[str, Any]:
    """What results record of the model: its card's hash and history."""
    from ..checkpoint import card_hash

    if model.card is None:
        return {}
    return {"card_sha256": card_hash(model.card), "history": model.card.get("history")}


def draw_picture(model: Any, samples: Any, out: Path, columns: int | None = None) -> Path:
    """Write grid.png for images, scatter.png for points of the plane, samples.png for the rest."""
    from ..data import toy_density
    from ..plotting import save_samples

    image = model.units.image
    event = tuple(model.event_shape)
    name = "grid.png" if image else "scatter.png" if event == (2,) else "samples.png"
    source = str(((model.card or {}).get("data") or {}).get("source", ""))
    density = toy_density(source) if event == (2,) else None
    title = f"{len(samples):,} samples" + (f", {Path(source).name}" if source else "")
    return save_samples(out / name, samples, image, columns, density=density, title=title)


def save_forming(path: Path, trace: list[tuple[float, Any]], shown: int = 64) -> Path:
    """Write the samples at every level as a GIF."""
    from ..plotting import save_animation

    frames = [state[:shown].clamp(0, 1) for _, state in trace]
    captions = ["denoised" if sigma == 0 else f"σ = {sigma:.3g}" for sigma, _ in trace]
    fps = 12.0 if len(frames) > 24 else 6.0
    return save_animation(path, frames, captions=captions, fps=fps)
