"""The command `scorefield plan`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import Request
from ..errors import InputError
from . import options as o
from .show import Outcome, console, say
from .train import Assignments, Budget, ConditionFrom, ConditionKind, Data, Images, Preset, Seed

PlanFile = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE", help="Write the plan as .json; `train --plan FILE` takes it."
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Write its settings alone as .json for `train --plan FILE`.",
    ),
]
PictureFile = Annotated[
    Path | None,
    typer.Option(
        "--picture",
        metavar="FILE",
        help="Draw the planned range over the data's distances: .png, .pdf or .svg.",
    ),
]
Measure = Annotated[
    bool,
    typer.Option(
        "--measure/--no-measure",
        help="Measure one training step for parameters, memory and time.",
    ),
]


def plan_command(
    data: Data,
    preset: Preset = "fast",
    budget: Budget = None,
    images: Images = None,
    out: PlanFile = None,
    config: ConfigFile = None,
    picture: PictureFile = None,
    measure: Measure = True,
    force: o.Force = False,
    seed: Seed = None,
    set: Assignments = None,
    reading: o.Reading = o.Reading(),
    condition: ConditionKind = None,
    condition_from: ConditionFrom = None,
    network: o.NetworkFile = None,
    execution: o.Execution = o.Execution(),
) -> Outcome:
    """Read noise levels, network and budget off the data, with a reason for each."""
    from ..config import override
    from ..planning import open_scales, plan_request
    from .loading import make_network

    files = check_outputs(out, config, picture, force)
    flags = {
        "data.source": data,
        "seconds": budget,
        "images": images,
        "seed": seed,
        "condition.kind": condition,
        "condition.source": condition_from,
        **reading.settings(),
        **execution.settings(),
    }
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    request = override(open_scales(preset), given + (set or []))
    module = None if network is None else make_network(network)
    found = plan_request(request, None, module, measure)
    console.print(table(found))
    for warned in found.warnings:
        say(f"Warning: {warned.text}.")
    if out is not None:
        found.save(out)
    if config is not None:
        found.save_config(config)
    if picture is not None:
        found.picture.save(picture)
    used = out or config or "auto"
    return Outcome(
        files,
        ("train", "--data", data, "--run", "runs/mine", "--plan", used),
        {"plan": found.to_dict()},
    )


def check_outputs(
    out: Path | None, config: Path | None, picture: Path | None, force: bool
) -> list[Path]:
    """Refuse files that cannot be written, before any work.

    Args:
        out: the plan's file, or None.
        config: the settings' file, or None.
        picture: the picture's file, or None.
        force: whether files that exist are overwritten.

    Returns:
        The files that will be written.

    Raises:
        InputError: a file has another ending, exists, or its folder cannot be written.
    """
    from ..plotting.files import FIGURE_SUFFIXES, check_suffix

    for option, path in (("--out", out), ("--config", config)):
        if path is not None:
            o.check_file(path, ".json", option)
    if picture is not None:
        check_suffix(picture, FIGURE_SUFFIXES)
        o.check_folder(picture.parent, "--picture")
    files = [path for path in (out, config, picture) if path is not None]
    o.refuse_existing(files, force)
    return files


def table(found: Any) -> Any:
    """The plan as a table: name, value with the value in data units, and the reason below."""
    from rich.markup import escape
    from rich.table import Table

    rows = Table(box=None, pad_edge=False, show_header=False)
    for line in found.lines:
        value = line.value + (f" ({line.data_units} in data units)" if line.data_units else "")
        rows.add_row(
            f"[bold]{escape(line.name)}[/]", f"{escape(value)}\n[dim]{escape(line.reason)}[/]"
        )
    return rows


def is_plan_file(plan: str | None) -> bool:
    """Whether --plan names a file."""
    return plan not in (None, "auto", "none")


def planned_request(plan: str | None, preset: str) -> Request:
    """What `train` starts from: a preset, or with --plan a file or the preset's open scales.

    Args:
        plan: a file of `scorefield plan`; "auto" to leave the preset's noise levels to be measured;
            "none" for fixed numbers; None: the preset.
        preset: name of the preset.

    Returns:
        The request, which the user's options override.

    Raises:
        InputError: the file is no plan, or one for another preset.
    """
    from ..config import override
    from ..config import preset as find_preset
    from ..planning import open_scales, read_settings

    if plan is None:
        return find_preset(preset)
    if plan == "none":
        return override(find_preset(preset), {"plan": "none"})
    if plan == "auto":
        return open_scales(preset)
    settings = read_settings(plan)
    made = settings.get("preset", "fast")
    if preset not in ("fast", made):
        raise InputError(
            f"--preset {preset} and --plan {plan} do not fit each other: the plan was made for "
            f"the preset {made}. Leave --preset out, or plan anew with it"
        )
    return override(Request(), settings)
