"""scorefield sample"""

import json
import math
import time
from pathlib import Path
from typing import Any

import typer

from ..errors import InputError
from .show import duration, progress, say

SHOWN_IMAGES, SHOWN_POINTS = 256, 20_000  # how many samples a picture shows
USUAL_NFE = 35
# of eager evaluation on two cores, measured: what decides whether compiling, worth a fifth, is
# earned back
ELEMENTS_A_SECOND = 2.2e6


def numbers(text: str, option: str) -> list[float]:
    """ "10,3,1" -> [10, 3, 1]; an InputError that names the option."""
    try:
        return [float(v) for v in text.split(",") if v.strip()]
    except ValueError as problem:
        raise InputError(
            f"{option} takes numbers with commas, for example 10,3,1; got {text!r}"
        ) from problem


def ready(
    path: Path,
    device: str,
    precision: str,
    compile: str,
    threads: int,
    count: int = 0,
    nfe: int | None = None,
) -> Any:
    """The model of a run, placed as the execution policy says for `count` samples of nfe
    evaluations; None: as many as its card says.
    """
    from ..checkpoint import load
    from ..execution import choose, count_layers
    from ..sampling import recipe

    model: Any = load(path)
    planned = (
        count
        * (nfe or recipe(model).get("nfe", USUAL_NFE))
        * math.prod(model.event_shape)
        / ELEMENTS_A_SECOND
    )
    execution = choose(
        device,
        precision,
        compile,
        threads,
        planned,
        len(model.event_shape) - 1,
        layers=count_layers(model.network),
    )
    model.autocast = execution.autocast
    model.to(execution.device)
    execution.place(model.network)
    return model, execution


def sample_command(
    run: Path = typer.Argument(..., help="A run's folder or a .safetensors model file."),
    out: Path = typer.Option(..., help="Folder for samples.npz, samples.json and a picture."),
    count: int = typer.Option(64, help="How many samples, 0 or more."),
    seed: int = typer.Option(0, help="0 or more; sample k is a function of (seed, k) alone."),
    sampler: str | None = typer.Option(
        None,
        help="heun, euler, unipc, dpmpp-2m, dpmpp-3m, dpmpp-2m-sde, matched-sde, heun-churn, ancestral, reverse-sde, "
        "predictor-corrector, consistent-annealed, annealed-langevin, langevin, mala. [default: "
        "what the model's card says, for images matched-sde; else heun]",
    ),
    nfe: int | None = typer.Option(
        None, help="Network evaluations a sample, 2 or more, the final denoise included."
    ),
    levels: int | None = typer.Option(
        None, help="Length of the sampler's default ladder, 1 or more."
    ),
    ladder: str | None = typer.Option(
        None,
        help="Sigmas in model units, decreasing, with commas; or geometric, karras, few-step over the model's range.",
    ),
    steps_per_level: int | None = typer.Option(
        None, help="Langevin steps at each level, 1 or more (T in the article)."
    ),
    epsilon: float | None = typer.Option(
        None,
        help="Coefficient of the score at the last level, in squared model units: x + eps s + sqrt(2 eps) z. The article prints 2 eps.",
    ),
    eta: float | None = typer.Option(
        None,
        help="dpmpp-2m-sde, matched-sde: their noise in units of the time reversal's, 0 or more; 0 is the flow. [default: the card's, else 1]",
    ),
    final: str | None = typer.Option(
        None, help="denoise or none: whether the last noise is removed. [default: denoise]"
    ),
    start: str | None = typer.Option(
        None,
        help="terminal, or for images uniform: where the first level starts. [default: terminal]",
    ),
    interpolate: int = typer.Option(
        0, help="K above 0: each of COUNT rows goes from one sample to another in K steps."
    ),
    ema: float | None = typer.Option(
        None,
        help="Weights averaged with this relative width, rebuilt from the run's snapshots, e.g. 0.08.",
    ),
    forming: bool = typer.Option(
        False, "--forming", help="Images: also forming.gif, the samples at every level."
    ),
    precision: str = typer.Option("auto", help="auto, float32 or bfloat16."),
    compile: str = typer.Option("auto", help="auto, on or off."),
    threads: int = typer.Option(0, help="CPU threads; 0 = all."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
) -> None:
    """Draw samples from a trained model."""
    from ..sampling import default_sampler, find_sampler, named_ladder

    if sampler is not None:
        find_sampler(sampler)
    model, execution = ready(
        run, device, precision, compile, threads, count * max(interpolate, 1), nfe
    )
    if ema is not None:
        from ..training import rebuild

        model.network.load_state_dict(rebuild(run, ema))
    options: dict[str, Any] = {
        "sampler": sampler,
        "nfe": nfe,
        "repeats": steps_per_level,
        "epsilon": epsilon,
        "eta": eta,
    }
    options |= {"final": final, "start": start, "interpolate": interpolate}
    if ladder is not None and ladder[:1].isalpha():
        options["ladder"] = ladder if levels is None else named_ladder(ladder, model, levels)
    elif ladder is not None:
        options["ladder"] = numbers(ladder, "--ladder")
    elif levels is not None:
        options["ladder"] = find_sampler(sampler or default_sampler(model)).ladder(model, levels)
    say(f"running on {execution.describe()}")
    draw_to(model, out, count, seed, options, forming, execution.to_dict())


def draw_to(
    model: Any,
    out: Path,
    count: int,
    seed: int,
    options: dict[str, Any],
    forming: bool,
    execution: dict[str, Any],
) -> None:
    """Sample and write samples.npz, batch by batch in constant memory, samples.json, and the
    picture that fits the first of them.
    """
    import torch

    from ..checkpoint import card_hash
    from ..runs import stream_npz, write_json
    from ..sampling import sample

    if out.exists() and not out.is_dir():
        raise InputError(f"--out must name a folder; {out} is a file")
    if count < 0:
        raise InputError(f"count must not be negative; got {count}")
    image, total = model.units.image, count * max(options.get("interpolate") or 0, 1)
    shown: list[torch.Tensor] = []
    drawn = 0
    began = time.perf_counter()
    with (
        progress("sampling") as report,
        stream_npz(out / "samples.npz", "samples", (total, *model.event_shape), "float32") as write,
    ):

        def tell(event: Any) -> None:
            report(
                min((drawn + len(event.x) * event.step / event.steps) / max(total, 1), 1.0),
                f"sigma {event.sigma:.3g}",
            )

        def keep(samples: torch.Tensor) -> None:
            nonlocal drawn
            samples = (samples.clamp(0, 1) if image else samples).float().cpu()
            write(samples.numpy())
            room = (SHOWN_IMAGES if image else SHOWN_POINTS) - drawn
            if room > 0:
                shown.append(samples[:room])
            drawn += len(samples)

        _, record = sample(
            model, count, seed, callbacks=(tell,), sink=keep, trace=forming, record=True, **options
        )
    seconds = time.perf_counter() - began
    facts = record.to_dict() | {"seconds": round(seconds, 3), "execution": execution}
    if model.card is not None:
        facts |= {"card_sha256": card_hash(model.card), "history": model.card.get("history")}
    write_json(out / "samples.json", json.loads(json.dumps(facts)))
    picture = (
        draw_picture(model, torch.cat(shown), out, options.get("interpolate") or None)
        if total
        else None
    )
    if forming and image and record.trace:
        save_forming(out / "forming.gif", record.trace)
    words = (
        f"{total:,} samples, {record.nfe} evaluations each, {duration(seconds)}: {out}/samples.npz"
    )
    say(words + (f", {picture.name}" if picture else ""))


def draw_picture(model: Any, samples: Any, out: Path, columns: int | None = None) -> Path:
    """grid.png for images, scatter.png for points of the plane, samples.png for the rest."""
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
    """The samples at every level as a GIF."""
    from ..plotting import save_animation

    frames = [state[:shown].clamp(0, 1) for _, state in trace]
    captions = ["denoised" if sigma == 0 else f"σ = {sigma:.3g}" for sigma, _ in trace]
    fps = 12.0 if len(frames) > 24 else 6.0
    return save_animation(path, frames, captions=captions, fps=fps)
