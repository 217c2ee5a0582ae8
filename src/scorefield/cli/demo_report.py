"""The report of `scorefield demo`: each number is read from the run's own files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .show import duration

# Measured by `python -m bench guidance` with the tests' classifier, probability above 0.9.
SCALE_REASON = (
    "of 200 samples of a model that saw 60,000 images of mnist5k, a classifier recognised 178 as "
    "their own class without guidance, 190 at scale 1.25, 196 at 1.5 and 199 at 2 and at 3.\n"
    "Scales above 1.5 gain little more, and move the samples further away from p(x | class)."
)


@dataclass(frozen=True)
class Stage:
    """One line of the report's table of times: a stage and its wall seconds."""

    name: str
    seconds: float


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
    guided = read_facts(run / "guided" / "samples.json")
    judged = read_facts(run / "evaluation" / "evaluation.json")
    parameters = sum(p.numel() for p in model.parameters())
    text = "\n".join(
        [
            *report_head(run.name, model.card or {}, parameters),
            *report_verdict(judged),
            *report_results(sampled, guided, restored, final),
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


def report_verdict(judged: dict[str, Any]) -> list[str]:
    """The report's lines about the evaluation."""
    verdict = judged["verdict"]
    return [
        "## Is it good?",
        "",
        f"**{verdict['title'][:1].upper()}{verdict['title'][1:]}.** "
        "[The evaluation with its pictures](evaluation/evaluation.html), the quick form:",
        "",
        *(f"- {line}" for line in verdict["lines"]),
        "",
    ]


def report_results(
    sampled: dict[str, Any], guided: dict[str, Any], restored: dict[str, Any], final: dict[str, Any]
) -> list[str]:
    """The report's lines about samples, inpainting and held-out loss."""
    scale = guided["guidance"]
    return [
        "## Samples",
        "",
        f"A row for each class: {sampled['count']} samples without guidance at the left, and the "
        f"same seeds with classifier-free guidance of scale {scale:g} at the right;",
        f"{sampled['sampler']}, {sampled['nfe']} network evaluations a sample without guidance, "
        f"{guided['nfe']} with it; seed {sampled['seed']}; nothing was selected.",
        "[The same samples forming, level by level](samples/forming.gif).",
        "",
        "![samples](samples/grid.png)",
        "",
        f"Why scale {scale:g}: {SCALE_REASON} Guided samples do not follow it, so that the "
        "restorations below are not guided.",
        "",
        "## Inpainting",
        "",
        f"{restored['inputs']} digits of the held-out part, the right half hidden, their classes "
        f"given ({', '.join(restored['class'])});",
        f"{restored['draws']} draws each by annealed Langevin dynamics ({restored['nfe']} "
        "evaluations). Known pixels are exact in the stored bytes.",
        "",
        "![inpainting](restore/inpaint.png)",
        "",
        *report_loss(final),
    ]


def report_loss(final: dict[str, Any]) -> list[str]:
    """The report's lines about the held-out loss, with and without the class."""
    table = final["held_out_by_sigma"]
    rows = [
        f"| {sigma:.4g} | {with_error(loss, error)} |"
        for sigma, loss, error in zip(table["sigma"], table["loss"], table["se"], strict=True)
    ]
    given = with_error(final["held_out"], final.get("held_out_se"))
    without = with_error(final.get("unconditional"), final.get("unconditional_se"))
    return [
        "## Held-out loss",
        "",
        "Of the averaged weights over the training distribution of sigma, ± one standard error "
        "over held-out images; both rows have the same images and noise:",
        "",
        "| the model gets | loss |",
        "| --- | --- |",
        f"| the class | {given} |",
        f"| no class | {without} |",
        "",
        "Per level, with the class:",
        "",
        "| sigma (model units) | loss |",
        "| --- | --- |",
        *rows,
        "",
        "![loss per sigma](loss_per_sigma.png)",
        "![training](training.png)",
        "",
    ]


def with_error(value: float | None, error: float | None) -> str:
    """A number with its standard error; empty where there is none."""
    if value is None:
        return ""
    return f"{value:.4f}" + ("" if error is None else f" ± {error:.4f}")


def report_times(stages: list[Stage], total: float) -> list[str]:
    """The report's table of times."""
    rows = [f"| {stage.name} | {duration(stage.seconds)} |" for stage in stages]
    head = ["## Time", "", "| stage | wall time |", "| --- | --- |"]
    return [*head, *rows, f"| in all | {duration(total)} |"]
