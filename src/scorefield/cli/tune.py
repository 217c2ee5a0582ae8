"""The command `scorefield tune`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from . import options as o
from .loading import ready
from .show import Outcome, console, progress, say

Evaluations = Annotated[
    str,
    typer.Option(
        "--nfe",
        metavar="N",
        help="Evaluations per sample (NFE) that a method is fitted for, 2 to 32; several with "
        "commas: 5,6,8.",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Wall time of following the flow and of each fit: 90s, 3m. A fit ends earlier when it "
        "gains nothing more.",
        show_default="3m",
    ),
]
Starts = Annotated[
    int | None,
    typer.Option(
        min=8,
        help="Number of starts that the method is fitted to; it is judged on as many others.",
        show_default="512, or fewer where the budget allows no more",
    ),
]
OutFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="Write the model with the method to another .safetensors file.",
        show_default="into the run's own model file",
    ),
]
PictureFile = Annotated[
    Path | None,
    typer.Option(
        "--picture",
        metavar="FILE",
        help="Draw distance against evaluations, before and after: .png, .pdf or .svg.",
    ),
]
Store = Annotated[
    bool,
    typer.Option(
        "--store/--no-store",
        help="Put methods that are better than every untuned sampler into the model card.",
    ),
]
SHOWN = 4  # untuned samplers in the table


def tune_command(
    run: o.Run,
    nfe: Evaluations = "6",
    budget: Budget = None,
    starts: Starts = None,
    out: OutFile = None,
    picture: PictureFile = None,
    store: Store = True,
    force: o.Force = False,
    seed: o.Seed = 0,
    network: o.NetworkFile = None,
    execution: o.Execution = o.Execution(),
) -> Outcome:
    """Fit a sampler for few evaluations to a model's own flow; the model card keeps it."""
    from ..tuning import Tuner, save_tuning_picture
    from ..tuning.make import BUDGET

    counts = evaluation_counts(nfe)
    check_outputs(out, picture, store, force)
    request = execution.request()
    if request.precision is None:  # rounding to bfloat16 would hide small distances
        request = request.replace(precision="float32")
    model, chosen = ready(run, request, network)
    say(f"running on {chosen.describe()}")
    with progress("tuning") as report:
        tuner = Tuner(model, BUDGET if budget is None else budget, seed, starts, report)
        results = [tuner.fit(count) for count in counts]
    written = []
    console.print(table(results))
    for result in results:
        say(result.sentence())
    better = [result for result in results if result.better]
    file = None
    for result in better if store else ():
        file = result.store(run if file is None else file, out)
    if file is not None:
        written.append(file)
    elif store:
        say("nothing is stored, since no method is better; `sample` works as before")
    if picture is not None:
        written.append(save_tuning_picture(picture, results))
    following: tuple[object, ...] = ()
    if file is not None:
        place = run if out is None else out
        following = ("sample", place, "--nfe", better[0].nfe, "--out", file.parent / "samples")
    return Outcome(written, following, {"results": [result.to_dict() for result in results]})


def evaluation_counts(text: str) -> list[int]:
    """Read --nfe: whole numbers with commas, without repetitions.

    Raises:
        InputError: the text holds something else.
    """
    from ..tuning.make import check_nfe

    return sorted({check_nfe(number, "--nfe") for number in o.parse_numbers(text, "--nfe")})


def check_outputs(out: Path | None, picture: Path | None, store: bool, force: bool) -> None:
    """Refuse files that cannot be written, before any work.

    Args:
        out: the model file to write, or None.
        picture: the picture's file, or None.
        store: whether anything is stored.
        force: whether files that exist are overwritten.

    Raises:
        InputError: a file has another ending, exists, or its folder cannot be written.
    """
    from ..plotting.files import FIGURE_SUFFIXES, check_suffix

    if out is not None:
        if not store:
            raise InputError("--out and --no-store contradict each other: give one")
        o.check_file(out, ".safetensors", "--out")
    if picture is not None:
        check_suffix(picture, FIGURE_SUFFIXES)
        o.check_folder(picture.parent, "--picture")
    o.refuse_existing([path for path in (out, picture) if path is not None], force)


def table(results: list[Any]) -> Any:
    """The tuned methods and the best untuned samplers, one block for each number of evaluations."""
    from rich.table import Table

    rows = Table(box=None, pad_edge=False)
    rows.add_column("evaluations", justify="right")
    rows.add_column("sampler")
    rows.add_column("RMS distance to the flow / data std", justify="right")
    for result in results:
        for judged in (result.tuned, *result.untuned[:SHOWN]):
            distance = f"{judged.rms:.4f} ± {judged.se:.4f}"
            rows.add_row(str(judged.evaluations), judged.name, distance)
    return rows
