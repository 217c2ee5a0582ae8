"""scorefield demo: the whole chain on embedded real data, and a report of it."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from ..config import preset, seconds, validate
from .show import duration, say

SAMPLES = 64
INPUTS, DRAWS = 4, 6
STEPS_PER_LEVEL = 10  # of annealed Langevin while inpainting: about 290 evaluations
BUDGET = 300.0  # seconds of training: leaves room for everything else within 6 minutes on two cores


@dataclass(frozen=True)
class Stage:
    """One line of the report's table of times."""

    name: str
    seconds: float


def demo(
    run: Path = typer.Option(
        Path("runs/demo"), help="The run's folder. The same command again continues it."
    ),
    budget: str = typer.Option(
        f"{BUDGET:g}s", help="Wall time of training, compilation included: 20s, 4m."
    ),
    data: str = typer.Option("mnist5k", help="mnist5k or digits."),
    seed: int = typer.Option(0, help="Decides everything."),
) -> None:
    """Train on real digits, draw samples, restore half-hidden digits, and write a report: the main
    job in one command.
    """
    from .sample import draw_to, ready
    from .train import run_training

    began = time.perf_counter()
    config = preset("fast")
    config = validate(
        replace(config, data=replace(config.data, source=data), seconds=seconds(budget), seed=seed)
    )
    stages = []

    def timed(name: str, work: Any) -> Any:
        start = time.perf_counter()
        result = work()
        stages.append(Stage(name, time.perf_counter() - start))
        return result

    say(f"1/3 training on {data} for {duration(config.seconds)}: {run}")
    timed("training, held-out loss and previews", lambda: run_training(config, run))
    model, execution = ready(run, "auto", "auto", "auto", 0)
    say("2/3 sampling")
    timed(
        "64 samples",
        lambda: draw_to(model, run / "samples", SAMPLES, seed, {}, True, execution.to_dict()),
    )
    say("3/3 inpainting held-out digits, the right half hidden")
    timed(
        "inpainting",
        lambda: inpaint_held_out(model, data, run / "restore", seed, config.data.held_out),
    )
    write_report(run, stages, time.perf_counter() - began)
    say(f"done in {duration(time.perf_counter() - began)}: {run}/report.md")


def inpaint_held_out(model: Any, source: str, out: Path, seed: int, held_out: float) -> None:
    """Hide the right half of INPUTS digits the training never saw, and draw DRAWS restorations of
    each.
    """
    from ..data import load, split
    from ..inverse import left_half
    from ..inverse.operators import Mask
    from .restore import inpaint_to

    collection = load(source)
    _, held = split(collection.labels, len(collection), seed, held_out)
    chosen = held[:INPUTS]
    if collection.labels is not None:  # different digits show more
        first = {int(collection.labels[i]): i for i in held.flip(0)}
        chosen = held.new_tensor([int(i) for _, i in sorted(first.items())][1 : 2 * INPUTS : 2])
    values = collection.values[chosen]
    truth = values if collection.levels in (None, 256) else collection.floats(chosen)
    observed = truth * left_half(model.event_shape).to(truth.dtype)
    inpaint_to(
        model,
        observed,
        Mask(left_half(model.event_shape)),
        DRAWS,
        seed,
        out,
        {"steps_per_level": STEPS_PER_LEVEL},
        truth,
    )


def write_report(run: Path, stages: list[Stage], total: float) -> None:
    """report.md: what was done, on what, how long it took, what came out, each number from the
    run's own files.
    """
    from ..checkpoint import load
    from ..plotting import save_training_curve
    from ..runs import Run, write_bytes

    files = Run(run)
    records = files.records()
    curve = [r for r in records if "loss" in r or "held_out" in r]
    save_training_curve(run / "training.png", curve)
    model = load(run)
    card: dict[str, Any] = model.card or {}
    history = card["history"]
    final = next(r for r in reversed(records) if "held_out_by_sigma" in r)
    table = final["held_out_by_sigma"]
    sampled = json.loads((run / "samples" / "samples.json").read_text())
    restored = json.loads((run / "restore" / "restore.json").read_text())
    rows = "\n".join(
        f"| {s:.4g} | {v:.4f} | {e:.4f} |"
        for s, v, e in zip(table["sigma"], table["loss"], table["se"], strict=True)
    )
    times = "\n".join(f"| {stage.name} | {duration(stage.seconds)} |" for stage in stages)
    parameters = sum(p.numel() for p in model.parameters())
    text = f"""# Report of {run.name}

{card["data"]["count"]:,} events of {card["data"]["source"]}, shape {tuple(card["event_shape"])}; {card["config"]["data"]["held_out"]:.0%} held out, stratified by label.
Network {card["network"]["name"]}, {parameters:,} parameters; {history["images"]:,} images seen in {duration(history["seconds"])} ({history["ended"]});
arithmetic: {card["execution"]["precision"]}, {"compiled" if card["execution"]["compile"] else "eager"}, {card["execution"]["threads"]} threads.
Share of the initial weights left in the average: {history["initial_share"]:.1e}.

## Samples

{sampled["count"]} samples, {sampled["kernel"]}, {sampled["nfe"]} network evaluations each, seed {sampled["seeds"]["seed"]}; nothing was picked.
[The same samples forming, level by level](samples/forming.gif).

![samples](samples/grid.png)

## Inpainting

{restored["inputs"]} digits from the held-out part, the right half hidden; {restored["draws"]} draws each by annealed Langevin dynamics
({restored["nfe"]} evaluations). Known pixels are exact in the stored bytes.

![inpainting](restore/inpaint.png)

## Held-out loss

Of the averaged weights over the training law of sigma: {final["held_out"]:.4f} ± {final["held_out_se"]:.4f} (one standard error over held-out images). Per level:

| sigma (model units) | loss | standard error |
| --- | --- | --- |
{rows}

![loss per sigma](loss_per_sigma.png)
![training](training.png)

## Time

| stage | wall time |
| --- | --- |
{times}
| in all | {duration(total)} |
"""
    write_bytes(run / "report.md", text.encode())
