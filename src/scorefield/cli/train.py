"""scorefield train"""

import json
from dataclasses import replace
from pathlib import Path

import typer

from ..config import Config, count, override, preset, seconds, validate
from ..errors import InputError
from .show import duration, progress, say


def configure(
    name: str,
    data: str,
    budget: str | None,
    images: str | None,
    seed: int | None,
    settings: list[str],
    execution: dict[str, str | int | None],
) -> Config:
    """Preset, then flags, then --set, checked."""
    config = preset(name)
    config = replace(config, data=replace(config.data, source=data))
    if budget is not None and images is not None:
        raise InputError("--budget (time) and --images say both how long to train; give one")
    if budget is not None:
        config = replace(config, seconds=seconds(budget), images=0)
    if images is not None:
        number = count(images)
        if number <= 0:
            raise InputError(f"--images must be above zero; got {images}")
        config = replace(config, images=number)
    if seed is not None:
        config = replace(config, seed=seed)
    config = replace(
        config,
        execution=replace(
            config.execution, **{k: v for k, v in execution.items() if v is not None}
        ),
    )  # type: ignore[arg-type]
    return validate(override(config, settings))


def train(
    data: str = typer.Option(
        ...,
        help="A name (digits, mnist5k, mixture, moons, ring, spiral, checkerboard), a folder of images, or a .npy, .npz, .csv or .parquet file.",
    ),
    run: Path = typer.Option(..., help="The run's folder. The same command again continues it."),
    preset: str = typer.Option("fast", help="Settings to start from: fast, mlp, ncsn, ncsnv2."),
    budget: str | None = typer.Option(
        None, help="Wall time, compilation included: 90s, 5m, 1.5h. [default: the preset's, 5m]"
    ),
    images: str | None = typer.Option(None, help="Budget in images seen instead: 250k, 1M."),
    seed: int | None = typer.Option(
        None, help="Decides weights, data order and noise. [default: 0]"
    ),
    objective: str | None = typer.Option(
        None,
        help="The loss: denoising, sliced, sliced-vr, exact, or energy (denoising of a model with log-density).",
    ),
    size: int | None = typer.Option(None, help="Resize and crop images to this many pixels."),
    channels: int | None = typer.Option(None, help="1 grey, 3 RGB."),
    key: str | None = typer.Option(None, help="Which array of an .npz."),
    width: int | None = typer.Option(
        None, help="Channels of the first stage (ngf of NCSN) or features of the mlp, 1 or more."
    ),
    precision: str | None = typer.Option(None, help="auto, float32 or bfloat16."),
    compile: str | None = typer.Option(None, help="auto, on or off."),
    threads: int | None = typer.Option(None, help="CPU threads; 0 = all."),
    device: str | None = typer.Option(None, help="auto, cpu or cuda."),
    set: list[str] = typer.Option(
        [],
        "--set",
        help="Any other setting, e.g. optim.lr=1e-3 (repeatable; --dry-run lists them).",
    ),
    checkpoint_every: float = typer.Option(60.0, help="Seconds between checkpoints."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Print the resolved settings as JSON and stop."
    ),
) -> None:
    """Train a model of DATA into the folder RUN, or continue it."""
    named: dict[str, object] = {
        "data.size": size,
        "data.channels": channels,
        "data.key": key,
        "objective.name": objective,
    }
    named["network.options.width"] = width
    settings = [f"{name}={value}" for name, value in named.items() if value is not None] + set
    execution: dict[str, str | int | None] = {
        "precision": precision,
        "compile": compile,
        "threads": threads,
        "device": device,
    }
    config = configure(preset, data, budget, images, seed, settings, execution)
    if dry_run:
        typer.echo(json.dumps(config.to_dict(), indent=2))
        return
    run_training(config, run, checkpoint_every)


def run_training(config: Config, run: Path, checkpoint_seconds: float = 60.0) -> None:
    """Train with a progress report; ends the process with 128 + n after a signal."""
    from ..training import Hooks, train

    with progress("training") as report:
        hooks = Hooks(
            on_notice=say,
            on_progress=lambda p: report(
                p.share,
                f"{p.images:,} images{f' of {p.budget:,}' if p.budget else ''}  {p.rate:,.0f} "
                f"images/s  loss {p.loss:.4f}",
            ),
        )
        summary = train(config, run, hooks=hooks, checkpoint_seconds=checkpoint_seconds)
        if not summary.signal:
            report(1.0, f"{summary.images:,} images")
    say(
        f"{summary.reason}: {summary.images:,} images in {duration(summary.seconds)}; "
        f"{run}/model.safetensors"
    )
    if summary.signal:
        say("run the same command again to continue")
        raise typer.Exit(128 + summary.signal)
