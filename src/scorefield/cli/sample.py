"""The command `scorefield sample`."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from . import options as o
from . import results
from .loading import ready
from .show import Outcome, duration, progress, say

Count = Annotated[int, typer.Option(min=0, help="Number of samples.")]
Format = Annotated[
    str | None,
    typer.Option(
        help="Files of the samples beside samples.npz: csv or parquet for tables, png or tiff for "
        "folders of pictures, npy for arrays; none for samples.npz alone.",
        show_default="that of the training data; no pictures above 1,000",
    ),
]
Interpolate = Annotated[
    int,
    typer.Option(
        min=0,
        help="K above 0: COUNT rows of K samples, each from one sample to another in K steps.",
    ),
]
Ema = Annotated[
    float | None,
    typer.Option(
        help="Use weights averaged over this fraction of the run (relative width, 0 to 0.28, such "
        "as 0.08), rebuilt from the run's snapshots.",
        show_default="the model's",
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
    format: Format = None,
    force: o.Force = False,
    interpolate: Interpolate = 0,
    ema: Ema = None,
    forming: Forming = False,
    network: o.NetworkFile = None,
    sampling: o.SamplingOptions = o.SamplingOptions(),
    condition: o.Condition = o.Condition(),
    execution: o.Execution = o.Execution(),
) -> Outcome:
    """Draw samples from a trained model, as files of the training data's kind and a picture."""
    o.check_folder(out)
    earlier = o.existing(out, results.RESULTS)
    o.refuse_existing(earlier, force)
    total = count * max(interpolate, 1)
    model, chosen = ready(run, execution.request(), network, total, sampling.nfe)
    target = results.choose_target(model, format, total)
    if ema is not None:
        from ..training import rebuild

        model.network.load_state_dict(rebuild(run, ema))
    given = condition.resolve(model, total, max(interpolate, 1))
    if given is None and model.conditions:
        say(unconditional(model))
    model = condition.guided(model, given, chosen, network)
    recipe = sampling.resolve(model)
    say(o.prediction_line(recipe))
    say(f"running on {chosen.describe()}")
    facts = {"execution": chosen.to_dict(), "ema": ema, **condition.facts(model)}
    drawn = draw_to(
        model,
        recipe,
        out,
        count,
        seed,
        condition=given,
        interpolate=interpolate,
        forming=forming,
        target=target,
        facts=facts,
    )
    o.remove_stale(earlier, drawn.written)
    return replace(drawn, next=results.next_command(run, model, out))


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
    target: results.Target = results.Target(),
    facts: dict[str, Any] | None = None,
) -> Outcome:
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
        target: files of the data's own kind.
        facts: further entries of samples.json.

    Returns:
        What was written.

    Raises:
        InputError: the model does not fit the recipe; nothing is written.
    """
    from .. import rng
    from ..files import write_json

    units, total = model.units, count * max(interpolate, 1)
    if forming and not units.image:
        raise InputError("--forming animates images; this model's samples are no images")
    keys = rng.blend_rows(seed, count, interpolate) if interpolate else rng.keys(seed, count)
    shown = results.SHOWN_IMAGES if units.image else results.SHOWN_ROWS
    most = total if target.form is not None else shown
    began = time.perf_counter()
    samples, record = stream(
        model, recipe, out / "samples.npz", keys, condition=condition, trace=forming, most=most
    )
    seconds = time.perf_counter() - began
    written = [out / "samples.npz", out / "samples.json"]
    found = record.to_dict() | {"seed": seed, "seconds": round(seconds, 3)} | (facts or {})
    write_json(written[1], found | card_facts(model))
    if total and target.form is not None:
        written += target.form.write(out / "samples", samples, target.format, condition)
        if target.form.kind == "table":
            say(target.form.moved_note(samples))
    if total:
        written.append(results.draw_picture(model, samples[:shown], out, interpolate or None))
    if forming and record.trace:
        written.append(results.save_forming(out / "forming.gif", record.trace))
    if target.note:
        say(target.note)
    say(f"{total:,} samples, {record.nfe} evaluations each, {duration(seconds)}")
    numbers = {name: found[name] for name in ("sampler", "nfe", "seed", "count")}
    shape = [total, *model.event_shape]
    return Outcome(written, (), {**numbers, "shape": shape, "sampling_seconds": found["seconds"]})


def stream(
    model: Any,
    recipe: Any,
    path: Path,
    keys: Any,
    *,
    condition: Any = None,
    trace: bool = False,
    most: int = 0,
) -> tuple[Any, Any]:
    """Draw samples into an .npz, part by part, with a progress report.

    Args:
        model: a score model.
        recipe: the resolved `SamplingRecipe`.
        path: the .npz file. Its array "samples" is in data units, images in [0, 1]; "columns"
            holds the names of a table's columns, "class" and "vector" the condition.
        keys: keys of the samples.
        condition: one row for each sample, or None.
        trace: whether the samples at each level are kept.
        most: number of samples that are also returned.

    Returns:
        The first samples, (most, *event) in data units, and the `Record`.
    """
    import torch

    from ..files import stream_npz
    from ..sampling import draw

    units, total = model.units, len(keys)
    kept: list[torch.Tensor] = []
    drawn = 0
    dtype = str(units.dtype).removeprefix("torch.")
    with (
        progress("sampling") as report,
        stream_npz(
            path,
            "samples",
            (total, *model.event_shape),
            dtype,
            results.other_arrays(model.card, condition),
        ) as write,
    ):

        def tell(event: Any) -> None:
            done = drawn + len(event.x) * event.step / event.steps
            report(min(done / max(total, 1), 1.0), f"sigma {event.sigma:.3g}")

        def keep(samples: torch.Tensor) -> None:
            nonlocal drawn
            samples = (samples.clamp(0, 1) if units.image else samples).to(units.dtype).cpu()
            write(samples.numpy())
            if drawn < most:
                kept.append(samples[: most - drawn])
            drawn += len(samples)

        record = draw(
            model, recipe, keys, condition=condition, callbacks=(tell,), sink=keep, trace=trace
        ).record
    nothing = torch.empty((0, *model.event_shape), dtype=units.dtype)
    return torch.cat([nothing, *kept]), record


def unconditional(model: Any) -> str:
    """A message that samples are drawn without the condition that the model could have."""
    known = " and ".join(f"--{name} ({s.describe()})" for name, s in model.conditions.items())
    return f"samples of p(x) without a condition; the model also takes {known}"


def card_facts(model: Any) -> dict[str, Any]:
    """What results record of the model: its card's hash and history."""
    from ..checkpoint import card_hash

    if model.card is None:
        return {}
    return {"card_sha256": card_hash(model.card), "history": model.card.get("history")}
