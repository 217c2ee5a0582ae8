"""scorefield sample"""

import json
import time
from pathlib import Path
from typing import Any

import typer

from ..errors import InputError
from .show import duration, progress, say


def parse_ladder(text: str) -> list[float]:
    """ "10,3,1" -> [10, 3, 1]."""
    try:
        return [float(v) for v in text.split(",") if v.strip()]
    except ValueError as problem:
        raise InputError(f"--ladder takes numbers with commas, for example 10,3,1,0.3; got {text!r}") from problem


def ready(path: Path, device: str, precision: str, compile: str, threads: int) -> Any:
    """The model of a run, placed as the execution policy says."""
    from ..checkpoint import load
    from ..execution import choose

    model: Any = load(path)
    execution = choose(device, precision, "off" if compile == "auto" else compile, threads, 0.0, len(model.event_shape) - 1)
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
        help="heun, euler, unipc, dpmpp-2m, dpmpp-3m, dpmpp-2m-sde, heun-churn, ancestral, reverse-sde, predictor-corrector, "
        "consistent-annealed, annealed-langevin, langevin, mala. [default: heun; annealed-langevin for models with levels]",
    ),
    nfe: int | None = typer.Option(None, help="Network evaluations a sample, 2 or more, the final denoise included."),
    levels: int | None = typer.Option(None, help="Length of the sampler's default ladder, 1 or more."),
    ladder: str | None = typer.Option(
        None, help="Sigmas in model units, decreasing, with commas; or geometric, karras, few-step over the model's range."
    ),
    steps_per_level: int | None = typer.Option(None, help="Langevin steps at each level, 1 or more (T in the article)."),
    epsilon: float | None = typer.Option(
        None,
        help="Coefficient of the score at the last level, in squared model units: x + eps s + sqrt(2 eps) z. The article prints 2 eps.",
    ),
    final: str = typer.Option("denoise", help="denoise or none: whether the last noise is removed."),
    forming: bool = typer.Option(False, "--forming", help="Images: also forming.gif, the samples at every level."),
    precision: str = typer.Option("auto", help="auto, float32 or bfloat16."),
    compile: str = typer.Option("auto", help="auto, on or off."),
    threads: int = typer.Option(0, help="CPU threads; 0 = all."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
) -> None:
    """Draw samples from a trained model."""
    from ..sampling import find_sampler, named_ladder

    if sampler is not None:
        find_sampler(sampler)
    model, execution = ready(run, device, precision, compile, threads)
    options: dict[str, Any] = {"sampler": sampler, "nfe": nfe, "repeats": steps_per_level, "epsilon": epsilon, "final": final}
    if ladder is not None and ladder[:1].isalpha():
        options["ladder"] = ladder if levels is None else named_ladder(ladder, model, levels)
    elif ladder is not None:
        options["ladder"] = parse_ladder(ladder)
    elif levels is not None:
        name = sampler or ("annealed-langevin" if model.index_conditioned else "heun")
        options["ladder"] = find_sampler(name).ladder(model, levels)
    say(f"running on {execution.describe()}")
    draw_to(model, out, count, seed, options, forming, execution.to_dict())


def draw_to(model: Any, out: Path, count: int, seed: int, options: dict[str, Any], forming: bool, execution: dict[str, Any]) -> Any:
    """Sample and write samples.npz, samples.json and the picture that fits; returns the samples in data units."""
    import numpy as np

    from ..checkpoint import card_hash
    from ..runs import write_json, write_npz
    from ..sampling import sample

    if out.exists() and not out.is_dir():
        raise InputError(f"--out must name a folder; {out} is a file")
    began = time.perf_counter()
    with progress("sampling") as report:
        done = {"batches": 0}

        def tell(event: Any) -> None:
            here = (done["batches"] * len(event.x) + len(event.x) * event.step / event.steps) / max(count, 1)
            report(min(here, 1.0), f"sigma {event.sigma:.3g}")
            if event.step == event.steps:
                done["batches"] += 1

        samples, record = sample(model, count, seed, callbacks=(tell,), trace=forming, record=True, **options)
    if model.units.image:
        samples = samples.clamp(0, 1)
    seconds = time.perf_counter() - began
    write_npz(out / "samples.npz", samples=np.asarray(samples.cpu()))
    facts = record.to_dict() | {"seconds": round(seconds, 3), "execution": execution}
    if model.card is not None:
        facts |= {"card_sha256": card_hash(model.card), "history": model.card.get("history")}
    write_json(out / "samples.json", json.loads(json.dumps(facts)))
    picture = draw_picture(model, samples, out) if count else None
    if forming and model.units.image and record.trace:
        save_forming(out / "forming.gif", record.trace)
    say(
        f"{count:,} samples, {record.nfe} evaluations each, {duration(seconds)}: {out}/samples.npz"
        + (f", {picture.name}" if picture else "")
    )
    return samples


def draw_picture(model: Any, samples: Any, out: Path) -> Path:
    """grid.png for images, scatter.png for points of the plane, samples.png for the rest."""
    from ..data import toy_density
    from ..plotting import save_samples

    image = model.units.image
    event = tuple(model.event_shape)
    name = "grid.png" if image else "scatter.png" if event == (2,) else "samples.png"
    source = str(((model.card or {}).get("data") or {}).get("source", ""))
    density = toy_density(source) if event == (2,) else None
    shown = samples[:256] if image else samples
    return save_samples(out / name, shown, image, density=density, title=f"{len(shown):,} samples" + (f", {source}" if source else ""))


def save_forming(path: Path, trace: list[tuple[float, Any]], shown: int = 64) -> Path:
    """The samples at every level as a GIF."""
    from ..plotting import save_animation

    frames = [state[:shown].clamp(0, 1) for _, state in trace]
    captions = ["denoised" if sigma == 0 else f"σ = {sigma:.3g}" for sigma, _ in trace]
    fps = 12.0 if len(frames) > 24 else 6.0
    return save_animation(path, frames, captions=captions, fps=fps)
