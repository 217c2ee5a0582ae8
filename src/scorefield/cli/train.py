"""The command `scorefield train`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import Request, override
from ..config import preset as find_preset
from . import options as o
from .show import console, duration, say, warn

Data = Annotated[str, o.setting_option("data.source", required=True)]
RunFolder = Annotated[
    Path, typer.Option(help="The run's folder. Run the same command again to resume.")
]
Preset = Annotated[str, typer.Option(help="Settings to start from: fast, mlp, ncsn or ncsnv2.")]
Budget = Annotated[
    str | None,
    typer.Option(
        help="Wall time, compilation included: 90s, 5m or 1.5h.", show_default="the preset's, 5m"
    ),
]
Images = Annotated[
    str | None, typer.Option(help="Budget in images seen, in place of --budget: 250k or 1M.")
]
Objective = Annotated[str | None, o.setting_option("objective.name")]
ConditionKind = Annotated[str | None, o.setting_option("condition.kind")]
Size = Annotated[int | None, o.setting_option("data.size")]
Channels = Annotated[int | None, o.setting_option("data.channels")]
Key = Annotated[str | None, o.setting_option("data.key")]
Width = Annotated[
    int | None,
    typer.Option(
        help="mlp: features; refinenet: channels of the first stage (ngf of NCSN). The U-Net takes "
        "--set network.options.widths=[64,128]."
    ),
]
Seed = Annotated[int | None, o.setting_option("seed")]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any setting, such as optim.lr=1e-3 (repeatable). `scorefield settings` lists them.",
    ),
]
CheckpointEvery = Annotated[float, typer.Option(min=0, help="Seconds between checkpoints.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print the resolved settings as JSON and write nothing."),
]


def make_request(
    preset: str, flags: Mapping[str, object], assignments: list[str] | None = None
) -> Request:
    """Settings from a preset, then flags, then --set.

    Args:
        preset: name of the preset.
        flags: from names of settings to values; None is not given.
        assignments: texts NAME=VALUE.

    Raises:
        InputError: a name is unknown or a value is out of range.
    """
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    return override(find_preset(preset), given + (assignments or []))


def train(
    data: Data,
    run: RunFolder,
    preset: Preset = "fast",
    budget: Budget = None,
    images: Images = None,
    seed: Seed = None,
    objective: Objective = None,
    condition: ConditionKind = None,
    size: Size = None,
    channels: Channels = None,
    key: Key = None,
    width: Width = None,
    set: Assignments = None,
    network: o.NetworkFile = None,
    device: o.Device = None,
    precision: o.Precision = None,
    compile: o.Compile = None,
    threads: o.Threads = None,
    checkpoint_every: CheckpointEvery = 60.0,
    dry_run: DryRun = False,
) -> None:
    """Train a model of DATA into the folder RUN, or resume it."""
    flags = {
        "data.source": data,
        "data.size": size,
        "data.channels": channels,
        "data.key": key,
        "seconds": budget,
        "images": images,
        "seed": seed,
        "objective.name": objective,
        "condition.kind": condition,
        "network.options.width": width,
        "execution.device": device,
        "execution.precision": precision,
        "execution.compile": compile,
        "execution.threads": threads,
    }
    request = make_request(preset, flags, set)
    o.check_folder(run, "--run")
    from .loading import make_network

    module = None if network is None else make_network(network)
    if dry_run:
        show_settings(request, module is not None)
        return
    run_training(request, run, module, checkpoint_every)


def show_settings(request: Request, custom_network: bool = False) -> None:
    """Print the resolved settings as JSON, and the reason of each choice to the error stream.

    Args:
        request: what was asked for.
        custom_network: whether a network of the user's own is trained.
    """
    from ..config import resolve_with_reasons
    from ..data import load

    d = request.data
    dataset = load(d.source, size=d.size, channels=d.channels, key=d.key, image=d.image)
    resolution = resolve_with_reasons(request, dataset.facts(custom_network))
    for name, reason in resolution.reasons.items():
        warn(f"{name}: {reason}")
    typer.echo(json.dumps(resolution.config.to_dict(), indent=2))


def run_training(
    request: Request, run: Path, network: Any = None, checkpoint_seconds: float = 60.0
) -> None:
    """Train with a progress report; end the process with 128 + n after signal n.

    Args:
        request: what was asked for.
        run: the run's folder.
        network: a network of the user's own, or None.
        checkpoint_seconds: seconds between checkpoints.
    """
    from ..training import train_with_progress

    summary = train_with_progress(
        request,
        run,
        network=network,
        console=console,
        log=True,
        checkpoint_seconds=checkpoint_seconds,
    )
    say(
        f"{summary.reason}: {summary.images:,} images in {duration(summary.seconds)}; "
        f"{run}/model.safetensors"
    )
    if summary.signal:
        say("run the same command again to resume")
        raise typer.Exit(128 + summary.signal)
