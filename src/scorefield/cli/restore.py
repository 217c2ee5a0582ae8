"""The command `scorefield restore`."""

import math
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from . import options as o
from .loading import ready
from .options import restoring
from .restore_inputs import Seen, observe
from .restore_results import (
    MOST_KEPT,
    MOST_PICTURES,
    Taker,
    chi2_facts,
    save_sheet,
    write_arrays,
    write_draws,
)
from .restore_rows import read_rows, write_rows
from .results import picture_form
from .sample import card_facts
from .show import Outcome, duration, progress, say

RESULTS = ("restored.*", "restore.json", "inpaint.png", "draws.*", "draws")

Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Format of the draws: of pictures png, tiff, ...; of tables csv, tsv, parquet, "
        "feather.",
        show_default="the source's own",
    ),
]


def restore(
    run: o.Run,
    out: o.Out,
    input: restoring.Input = None,
    count: restoring.Count = None,
    given: restoring.Given = None,
    seed: o.Seed = 0,
    format: Format = None,
    force: o.Force = False,
    dry_run: restoring.DryRun = False,
    task: restoring.Task = restoring.Task(),
    method: restoring.Method = restoring.Method(),
    condition: o.Condition = o.Condition(),
    network: o.NetworkFile = None,
    execution: o.Execution = o.Execution(),
    reading: o.Reading = o.Reading(),
) -> Outcome:
    """Restore examples of which a part, or a blurred or noisy version, was measured."""
    from ..data import form_of

    o.check_folder(out)
    earlier = o.existing(out, RESULTS)
    o.refuse_existing(earlier, force or dry_run)
    options = method.options()
    model, chosen = ready(run, execution.request(), network, method.draws, method.nfe)
    form: Any = form_of(model.card)
    if form is not None and form.kind == "table":
        seen = rows_of(form, input, given, task, reading)
    elif given:
        raise InputError("--given is for models of tables; give --input")
    else:
        seen = observe(model, input, count, task, seed)
    conditioned = condition.resolve(model, seen.inputs, known=seen.condition)
    model = condition.guided(model, conditioned, chosen, network)
    written = picture_form(model) if model.units.image else form
    if written is not None and format is not None:
        written.check_format(format)
    say(f"running on {chosen.describe()}")
    name = Path(run).name if input is None else f"{Path(run).name}: {input.name}"
    found = restore_to(
        model,
        seen,
        out,
        Wanted(method.draws, seed, method.name, options, conditioned),
        facts={**task.facts(), **condition.facts(model)},
        format=format,
        title=f"{heading(task)}, {name}",
        dry_run=dry_run,
    )
    if dry_run:
        return found
    o.remove_stale(earlier, found.written)
    return replace(found, next=("info", run))


def heading(task: restoring.Task) -> str:
    """The title of a sheet: what was done."""
    words = {
        "inpaint": "Inpainting",
        "deblur": "Deblurring",
        "superres": "Super-resolution",
        "denoise": "Denoising",
        "colorize": "Colour from grey",
        "compressed": "Random projections",
        "mri": "Fourier samples",
    }
    return task.operator.name if task.operator is not None else words[task.name]


def rows_of(
    form: Any, input: Path | None, given: list[str] | None, task: restoring.Task, reading: Any
) -> Seen:
    """Rows with blank cells of a table's model."""
    from ..inverse import Measurement

    if task.mask is not None:
        raise InputError("--mask is for images; blank cells of --input are unknown")
    if not task.plain:
        raise InputError(
            "for tables, restore fills in blank cells and takes no other options of the "
            "measurement. Restore other measurements of rows in Python, with sf.restore"
        )
    rows, cells, known = read_rows(form, input, given, reading.options())
    return Seen(Measurement(rows), condition=known, cells=cells)


@dataclass(frozen=True)
class Wanted:
    """What is drawn, and how.

    Attributes:
        draws: restorations of each input.
        seed: decides all noise.
        method: a method of `inverse.METHODS`, or "auto".
        options: the method's options.
        condition: a condition as `inverse.restore` takes it.
    """

    draws: int
    seed: int
    method: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)
    condition: Any = None

    def plan(self, model: Any, seen: Seen) -> Any:
        """The method and why, evaluations and seconds: an `inverse.RestorationPlan`."""
        from ..inverse import plan_restoration

        return plan_restoration(
            model,
            seen.measurement,
            self.draws,
            method=self.method,
            options=self.options,
            condition=self.condition,
        )

    def draw(self, model: Any, seen: Seen, sink: Any) -> Any:
        """The `Restoration`, whose draws go to the sink; progress is shown."""
        from ..inverse import restore

        with progress("restoring") as report:
            return restore(
                model,
                seen.measurement,
                self.draws,
                self.seed,
                method=self.method,
                options=self.options,
                condition=self.condition,
                callbacks=(lambda e: report(e.step / e.steps, f"sigma {e.sigma:.3g}"),),
                sink=sink,
            )


def restore_to(
    model: Any,
    seen: Seen,
    out: Path,
    wanted: Wanted,
    *,
    facts: dict[str, Any] | None = None,
    format: str | None = None,
    title: str = "",
    dry_run: bool = False,
) -> Outcome:
    """Restore a batch of measurements; write arrays, facts and files of the data's own kind.

    Args:
        model: a score model.
        seen: the measurements, and the truth where it is known.
        out: folder for the results.
        wanted: what is drawn, and how.
        facts: further entries of restore.json.
        format: format of the draws' files; None: the source's own.
        title: what was restored, for the sheet.
        dry_run: whether only the plan is printed.

    Returns:
        What was written.
    """
    from ..data import form_of
    from ..files import open_atomically, write_json

    plan = wanted.plan(model, seen)
    say(str(plan))
    for note in plan.notes:
        say(note)
    if dry_run:
        return Outcome((), (), {"plan": vars(plan)})
    wanted = replace(wanted, method=plan.method)  # chosen once
    form: Any = form_of(model.card)
    table = form is not None and form.kind == "table"
    with ExitStack() as files:
        streamed = not table and bytes_of(model, seen, wanted.draws) > MOST_KEPT
        file = files.enter_context(open_atomically(out / "draws.npy")) if streamed else None
        taker = Taker(model, seen.form, seen.truth, file, seen.inputs, wanted.draws)
        result = wanted.draw(model, seen, taker)
    written = [out / "draws.npy"] if streamed else []
    written += [write_arrays(model, seen, result, taker, out), out / "restore.json"]
    found = facts_of(model, seen, wanted, plan, result) | taker.closeness() | (facts or {})
    write_json(written[-1], found | card_facts(model))
    if table:
        written += table_files(form, seen, taker, out, format)
    else:
        written.append(save_sheet(model, seen, result, taker, out, title))
        written += pictures(model, taker, out, format)
    tell(found, result)
    return Outcome(written, (), found)


def facts_of(model: Any, seen: Seen, wanted: Wanted, plan: Any, result: Any) -> dict[str, Any]:
    """What restore.json records: the request, how it was done, and chi2."""
    from ..inverse import GaussianNoise

    return {
        "method": plan.method,
        "options": wanted.options,
        "operator": repr(seen.measurement.whole(tuple(model.event_shape))),
        "inputs": seen.inputs,
        "draws": wanted.draws,
        "seed": wanted.seed,
        "nfe": result.evaluations,
        "seconds": result.record.seconds,
        "seconds_expected": round(plan.seconds, 3),
        "chi2": chi2_facts(result, isinstance(seen.measurement.law, GaussianNoise)),
        "record": replace(result.record, reason=plan.reason).to_dict(),
    }


def bytes_of(model: Any, seen: Seen, draws: int) -> int:
    """Bytes of all draws; whole numbers are returned in the type of the measurement."""
    kind = seen.measurement.tensor.dtype if seen.form is None else seen.form.dtype
    return seen.inputs * draws * math.prod(model.event_shape) * kind.itemsize


def table_files(form: Any, seen: Seen, taker: Taker, out: Path, format: str | None) -> list[Path]:
    """Write the rows of a table with their blanks filled in, and every draw."""
    import torch

    draws = torch.stack(taker.kept)
    return list(write_rows(form, seen.measurement.tensor, seen.cells, draws, out, format))


def pictures(model: Any, taker: Taker, out: Path, format: str | None) -> list[Path]:
    """Write the draws of images as pictures, where there are not too many."""
    if not model.units.image:
        return []
    total = taker.count * taker.draws
    if not taker.kept:
        say(f"draws.npy holds the {total:,} draws; picture files would need all of them in memory")
        return []
    if total > MOST_PICTURES and format is None:
        say(f"no picture files, since there are more than {MOST_PICTURES:,}; --format writes them")
        return []
    return write_draws(model, taker, out, format)


def tell(found: dict[str, Any], result: Any) -> None:
    """Print what was found: residuals, closeness to the truth, time."""
    chi2 = found["chi2"]
    if chi2 is not None and math.isfinite(chi2["mean"]):
        low, high = chi2["expected"]
        say(
            f"chi2 {chi2['mean']:.3f} on average; for one input {low:.2f} to {high:.2f} is expected"
        )
        say(chi2["outside"] or "")
    if "psnr" in found:
        both = found["psnr"]
        say(f"PSNR {both['mean']:.2f} dB of the mean, {both['draws']:.2f} dB of the draws")
    elif "rmse" in found:
        both = found["rmse"]
        say(f"RMSE {both['mean']:.4g} of the mean, {both['draws']:.4g} of the draws")
    spent = f"{result.evaluations} evaluations each, {duration(found['seconds'])}"
    say(f"{found['inputs']} x {found['draws']} draws, {spent}")
