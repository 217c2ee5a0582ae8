"""The command `scorefield train`."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import Request, override
from ..config import preset as find_preset
from . import completion
from . import options as o
from .show import Outcome, began, console, say, warn

NETWORK = "What is trained"
FAR = 10  # factor on the budget where a useful run is far longer

Data = Annotated[str, o.setting_option("data.source", required=True, complete=completion.data)]
RunFolder = Annotated[
    Path,
    typer.Option(
        help="The run's folder. Run the same command again to resume.",
        autocompletion=completion.runs,
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        help="Settings to start from: fast (any data), mlp (a perceptron), ncsn or ncsnv2 (network "
        "and sampler of those articles, for images).",
        autocompletion=completion.presets,
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Wall time of the whole command, above 0: 90s, 5m or 1.5h. A larger budget continues "
        "a finished run.",
        show_default="the preset's, 5m",
    ),
]
Images = Annotated[
    str | None,
    typer.Option(
        metavar="COUNT",
        help="Budget in images (examples) seen, at least 1, in place of --budget: 250k or 1M.",
    ),
]
PlanFile = Annotated[
    str | None,
    typer.Option(
        "--plan",
        metavar="FILE",
        help="Settings that `scorefield plan` wrote; auto to measure the noise levels of any "
        "preset; none for fixed numbers. Options that are given override them.",
        show_default="what the preset leaves open is measured",
        autocompletion=completion.words(("auto", "none")),
    ),
]
Objective = Annotated[str | None, o.setting_option("objective.name", panel=NETWORK)]
ConditionKind = Annotated[str | None, o.setting_option("condition.kind", panel=NETWORK)]
ConditionFrom = Annotated[
    str | None,
    o.setting_option("condition.source", "--condition-from", panel=NETWORK, metavar="NAME,…"),
]
Width = Annotated[
    int | None,
    typer.Option(
        help="At least 1; mlp: features; refinenet: channels of the first stage (ngf of NCSN). The "
        "U-Net takes --set network.options.widths=[64,128].",
        show_default="by the data's shape",
        rich_help_panel=NETWORK,
    ),
]
Seed = Annotated[int | None, o.setting_option("seed")]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any setting, such as optim.lr=1e-3 (repeatable). `scorefield settings` lists them.",
        autocompletion=completion.assignments,
    ),
]
Restart = Annotated[
    bool,
    typer.Option(
        "--restart",
        help="Begin again: what the run's folder holds is moved to its folder old-1, old-2, ...",
    ),
]
Trackers = Annotated[
    list[str] | None,
    typer.Option(
        "--tracker",
        metavar="NAME",
        help="Show numbers and pictures of the training in tensorboard, trackio or wandb "
        "(repeatable). The package must be installed.",
        autocompletion=completion.words(("tensorboard", "trackio", "wandb")),
    ),
]
CheckpointEvery = Annotated[float, typer.Option(min=0, help="Seconds between checkpoints.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print the resolved settings as JSON and write nothing."),
]


def make_request(
    preset: str,
    flags: Mapping[str, object],
    assignments: list[str] | None = None,
    plan: str | None = None,
) -> Request:
    """Settings from a preset or a plan, which holds its preset; then flags; then --set.

    Args:
        preset: name of the preset.
        flags: from names of settings to values; None is not given.
        assignments: texts NAME=VALUE.
        plan: a file of `scorefield plan`, "auto" or "none"; None: as the settings have it.

    Raises:
        InputError: a name is unknown or a value is out of range, or the plan cannot be read.
    """
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    given += assignments or []
    if plan is None:
        return override(find_preset(preset), given)
    from .plan import planned_request

    return override(planned_request(plan, preset), given)


def train(
    data: Data,
    run: RunFolder,
    preset: Preset = "fast",
    budget: Budget = None,
    images: Images = None,
    plan: PlanFile = None,
    seed: Seed = None,
    set: Assignments = None,
    restart: Restart = False,
    checkpoint_every: CheckpointEvery = 60.0,
    tracker: Trackers = None,
    dry_run: DryRun = False,
    reading: o.Reading = o.Reading(),
    objective: Objective = None,
    condition: ConditionKind = None,
    condition_from: ConditionFrom = None,
    width: Width = None,
    network: o.NetworkFile = None,
    execution: o.Execution = o.Execution(),
) -> Outcome:
    """Train a model of the data, resume a run, or continue a finished one."""
    flags = {
        "data.source": data,
        "seconds": budget,
        "images": images,
        "seed": seed,
        "objective.name": objective,
        "condition.kind": condition,
        "condition.source": condition_from,
        "network.options.width": width,
        **reading.settings(),
        **execution.settings(),
    }
    o.check_folder(run, "--run")
    from .loading import make_network

    module = None if network is None else make_network(network)
    request = make_request(preset, flags, set, plan)
    if dry_run:
        again = [argument for argument in sys.argv[1:] if argument != "--dry-run"]
        found = resolved_settings(request, module, plan)
        return Outcome((), again, document=("config", found))
    trackers = tracker or ()
    summary = run_training(request, run, module, checkpoint_every, restart, trackers, plan)
    return Outcome(
        [path for path in (run / "model.safetensors", run / "loss_per_sigma.png") if path.exists()],
        next_command(run, request, summary),
        {
            "images": summary.images,
            "training_seconds": round(summary.seconds, 3),
            "reason": summary.reason,
            "signal": summary.signal,
            "verdict": None if summary.verdict is None else summary.verdict.to_dict(),
            "held_out_by_sigma": summary.held_out,
        },
        code=128 + summary.signal if summary.signal else 0,
    )


def planned_data(request: Request, plan: str | None) -> tuple[Any, str]:
    """The data set of a request whose settings come from the file of a plan, checked against it.

    Args:
        request: the requested settings.
        plan: --plan.

    Returns:
        The data set, and a notice where the plan was made for other data; (None, "") without a
        file.

    Raises:
        InputError: the plan was made for examples of another shape.
    """
    from .plan import is_plan_file

    if not is_plan_file(plan):
        return None, ""
    from ..planning import note_on_other_data
    from ..training.build import load_data

    dataset = load_data(request)
    return dataset, note_on_other_data(str(plan), dataset)


def resolved_settings(
    request: Request, network: Any = None, plan: str | None = None
) -> dict[str, Any]:
    """The resolved settings; what was read and the reason of each choice go to the error stream.

    Args:
        request: the requested settings.
        network: a network of the user's own, or None.
        plan: --plan.

    Raises:
        InputError: the settings do not fit each other, the data or this machine.
    """
    from ..training.build import build, load_data
    from ..training.choices import choose

    dataset, note = planned_data(request, plan)
    warn(note)
    dataset = load_data(request) if dataset is None else dataset
    choice = choose(request, dataset, network)
    build(choice.config, dataset, network)
    for line in dataset.report:
        warn(line)
    for line in choice.summary():
        warn(f"plan: {line}")
    for name, reason in choice.resolution.reasons.items():
        warn(f"{name}: {reason}")
    return choice.config.to_dict()


def run_training(
    request: Request,
    run: Path,
    network: Any = None,
    checkpoint_seconds: float = 60.0,
    restart: bool = False,
    trackers: Sequence[str] = (),
    plan: str | None = None,
) -> Any:
    """Train with a progress report.

    Args:
        request: the requested settings.
        run: the run's folder.
        network: a network of the user's own, or None.
        checkpoint_seconds: seconds between checkpoints.
        restart: whether to set aside what the run's folder holds, and begin again.
        trackers: names of trackers.
        plan: --plan, whose file the data are compared with.

    Returns:
        The `Summary`; where a signal stopped the training its `signal` is not 0.
    """
    from ..training import train_with_progress

    dataset, note = planned_data(request, plan)
    say(note)
    summary = train_with_progress(
        request,
        run,
        dataset,
        network,
        console=console,
        log=True,
        checkpoint_seconds=checkpoint_seconds,
        restart=restart,
        began=began(),
        trackers=trackers,
    )
    say(summary.sentence)
    return summary


def next_command(run: Path, request: Request, summary: Any) -> Sequence[object]:
    """The next useful command after training.

    Args:
        run: the run's folder.
        request: the requested settings.
        summary: how training ended.

    Returns:
        The same command where a signal stopped it; the same command with a larger budget where the
        model has hardly begun to learn; else `sample`. --restart, which would begin again, is left
        out.
    """
    verdict = summary.verdict
    arguments = [argument for argument in sys.argv[1:] if argument != "--restart"]
    if summary.signal:
        return arguments
    if verdict is not None and verdict.standing == "hardly begun" and arguments[:1] == ["train"]:
        needed = verdict.needed_images  # None: far more
        if request.images is not None:
            return with_option(arguments, "--images", str(needed or FAR * request.images))
        seconds = needed / max(verdict.rate, 1e-9) if needed else FAR * summary.seconds
        return with_option(arguments, "--budget", budget_text(seconds))
    return "sample", run, "--out", run / "samples"


def with_option(arguments: Sequence[str], option: str, value: str) -> list[str]:
    """Arguments with one option replaced, or added at the end."""
    found = list(arguments)
    for k, argument in enumerate(found):
        if argument == option:
            return [*found[: k + 1], value, *found[k + 2 :]]
        if argument.startswith(f"{option}="):
            return [*found[:k], f"{option}={value}", *found[k + 1 :]]
    return [*found, option, value]


def budget_text(seconds: float) -> str:
    """Seconds as --budget takes them, rounded up: 90s, 12m, 3h."""
    if seconds <= 120:
        return f"{math.ceil(seconds)}s"
    return f"{math.ceil(seconds / 60)}m" if seconds <= 7200 else f"{math.ceil(seconds / 3600)}h"
