"""The command `scorefield evaluate`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from . import options as o
from .loading import ready
from .options import evaluating as e
from .options.guidance import Interval, Scale
from .options.sampling import parse_numbers
from .sample import Ema
from .show import Outcome, console, progress, say

SHOWN = ("c2st_accuracy", "frechet", "precision", "recall", "coverage", "spectrum", "marginal_w1")


def evaluate_command(
    run: e.OptionalRun = None,
    out: e.Results = None,
    reference: e.Reference = None,
    samples: e.Samples = None,
    count: e.Count = None,
    features: e.FeaturesFile = None,
    quick: e.Quick = False,
    pictures: e.Pictures = False,
    dry_run: e.DryRun = False,
    seed: o.Seed = 0,
    force: o.Force = False,
    ema: Ema = None,
    guidance: Scale = None,
    guidance_interval: Interval = None,
    network: o.NetworkFile = None,
    reading: o.Reading = o.Reading(),
    sampling: o.SamplingOptions = o.SamplingOptions(),
    execution: o.Execution = o.Execution(),
) -> Outcome:
    """Judge a model: quality, copies of training data and the score, with intervals.

    Samples of other systems are judged with --samples and --reference, without RUN.
    """
    check_given(run, reference, samples, count, features)
    if ema is not None and run is None:
        raise InputError("--ema rebuilds weights of a RUN; there is none")
    folder = out or (run / "evaluation" if run is not None and run.is_dir() else Path("evaluation"))
    o.check_folder(folder)
    earlier = o.existing(folder, ("evaluation.json", "evaluation.html", "pictures"))
    if not dry_run:
        o.refuse_existing(earlier, force)
    from ..evaluation.evaluate import run_evaluation
    from ..evaluation.features import GivenFeatures
    from ..evaluation.measuring import Wanted

    model: Any = None
    facts: dict[str, Any] = {}
    if run is not None:
        # The numbers of two machines can be compared where both compute in one precision.
        request = replace(execution, precision=execution.precision or "float32").request()
        model, chosen = ready(run, request, network, count or 0, sampling.nfe)
        facts = {"execution": chosen.to_dict(), "ema": ema}
        if ema is not None:
            from ..training import rebuild

            model.network.load_state_dict(rebuild(run, ema))
    wanted = Wanted(
        count,
        seed,
        None if features is None else GivenFeatures.read(features),
        None if model is None or samples is not None else sampling.resolve(model),
        guided(guidance, guidance_interval),
        quick,
    )
    data = open_reference(model, reference, reading)
    if dry_run:
        return describe(model, data, wanted, samples)
    with progress("evaluating") as report:
        found = run_evaluation(
            model, data, samples, wanted, report, run if ema is None else None, facts
        )
    for line in found.protocol["subject"].get("reading", ()):
        say(line)
    show(found)
    written = found.save(folder, pictures and bool(found.pictures))
    o.remove_stale(earlier, written)
    return Outcome(written, next_command(run, folder, quick), facts_of(found))


def check_given(
    run: Path | None,
    reference: str | None,
    samples: Path | None,
    count: int | None,
    features: Path | None,
) -> None:
    """Refuse options that contradict each other, before any work.

    Args:
        run: RUN.
        reference: --reference.
        samples: --samples.
        count: --count.
        features: --features.

    Raises:
        InputError: There is nothing to judge, or nothing to compare with, or an option has no use.
    """
    if run is None and samples is None:
        raise InputError(
            "evaluate needs a RUN, or samples of another system: --samples FILE --reference DATA"
        )
    if run is None and reference is None:
        raise InputError("--samples without a RUN need the data to compare with: --reference DATA")
    if samples is not None and count is not None:
        raise InputError("--count is the number of samples to draw; --samples gives them")
    if features is not None and samples is None:
        raise InputError("--features are features of given samples: add --samples FILE")
    if samples is not None and not samples.exists():
        raise InputError(f"--samples: there is no file or folder {samples}")


def guided(scale: float | None, interval: str | None) -> Any:
    """The `Guidance` of --guidance; None without."""
    if scale is None:
        if interval is not None:
            raise InputError("--guidance-interval needs --guidance with the strength, such as 1.5")
        return None
    from ..models import Guidance

    numbers = None if interval is None else parse_numbers(interval, "--guidance-interval")
    return Guidance(scale, None if numbers is None else tuple(numbers))  # type: ignore[arg-type]


def open_reference(model: Any, reference: str | None, reading: o.Reading) -> Any:
    """The data of --reference, read as the model's own; None for the model's own data."""
    if reference is None:
        return None
    from ..data import open as open_data
    from ..data import open_like

    options = reading.options()
    card = None if model is None else model.card
    dataset = open_data(reference, options) if card is None else open_like(card, reference, options)
    for line in dataset.report:
        say(line)
    return dataset


def describe(model: Any, reference: Any, wanted: Any, samples: Path | None) -> Outcome:
    """What would be compared; nothing is written.

    Args:
        model: the score model, or None.
        reference: the data, or None for the model's own.
        wanted: `Wanted`.
        samples: the file of --samples, or None.

    Returns:
        The facts for --json.
    """
    from ..evaluation.material import open_material

    material = open_material(model, reference, seed=wanted.seed)
    facts: dict[str, Any] = {"data": material.to_dict()}
    if samples is None:
        recipe, count = wanted.recipe, wanted.samples(material)
        facts |= {"samples": count, "sampler": recipe.name, "nfe": recipe.evaluations}
        drawn = f"{count:,} samples by {recipe.name}, {recipe.evaluations} evaluations each"
    else:
        facts |= {"samples": str(samples)}
        drawn = f"the samples of {samples}"
    say(
        f"{drawn}, beside {len(material.held_out):,} held-out and {len(material.train):,} training "
        f"examples of {material.dataset.name} ({material.split})"
    )
    return Outcome((), (), facts)


def show(found: Any) -> None:
    """Print the verdict and the main numbers of an evaluation."""
    from rich.markup import escape
    from rich.table import Table

    tone = {"learned": "green", "broke": "red", "memorised": "red"}.get(
        found.verdict.standing, "yellow"
    )
    console.print(f"[bold {tone}]{escape(found.verdict.title)}[/]", soft_wrap=True)
    others = [fault.sentence for fault in found.verdict.faults if fault.seen_in == "samples"]
    for line in dict.fromkeys((*found.verdict.lines, *others)):
        say(line)
    rows = Table(box=None, pad_edge=False)
    for head in ("against held-out data", "samples", "data against data"):
        rows.add_column(head)
    from ..evaluation import METRICS

    grid = [row for row in found.examples if row.metric == "spectrum"]
    for row in (*found.features, *grid):
        if row.against == "held-out" and row.metric in SHOWN:
            rows.add_row(METRICS[row.metric].title, str(row.estimate), str(row.floor))
    if rows.row_count:
        console.print(rows)


def next_command(run: Path | None, folder: Path, quick: bool) -> tuple[object, ...]:
    """What to do after an evaluation: the full form after the quick one, else samples."""
    if run is None:
        return ()
    if quick:
        return "evaluate", run, "--out", folder.with_name(f"{folder.name}-full")
    return "sample", run, "--out", folder.with_name("samples")


def facts_of(found: Any) -> dict[str, Any]:
    """What --json prints of an evaluation; evaluation.json has the rest."""
    return {
        "title": found.title,
        "verdict": found.verdict.to_dict(),
        "metrics": {
            row.metric: {"value": row.estimate.value, "floor": row.floor.value}
            for row in (*found.examples, *found.features)  # those of features, where both have one
            if row.against == "held-out"
        },
        "seconds_of_stages": found.protocol["run"]["seconds"],
    }
