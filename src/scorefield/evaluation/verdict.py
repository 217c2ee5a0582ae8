"""The verdict: learned, rough, incomplete, memorised or broke, with every fault by name.

    broke         the score is wrong, or samples share nothing with the data
    memorised     the training data come back
    incomplete    a class or much of the variety is missing
    rough         no fault, and a classifier tells samples from data in over 2 of 3 cases
    learned       no fault

A fault counts where its size is large, with its interval beyond that size. The names of the score's
faults are those of `diagnostics.score_health`. These are the faults of samples:

    other data           samples lie where no data are, and the data where no samples are
    little variety       samples look like data, and most of the data have no sample near them
    missing class        a class has less than a fifth of its frequency in the data
    class not followed   samples drawn for a class are of other classes
    memorised            samples are copies of training examples
    not finite           sampling left a NaN or an infinity
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..diagnostics.health import Health
from .classes import ClassRow
from .estimate import Estimate
from .memorisation import Memorisation
from .sets import MetricRow

APART = 0.2  # of the floor's precision and coverage, below which sets share nothing
VARIED = 0.5  # of the floor's recall, below which samples have little variety
TRUE = 0.7  # of the floor's precision, above which samples look like data
ROUGH, NEAR = 2 / 3, 0.55  # accuracies of the classifier that tells samples from data
INCOMPLETE = ("missing class", "class not followed", "little variety")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        name: Its name; see the module docstring and `score_health`.
        sentence: What was measured.
        seen_in: "samples", "memorisation" or "score".
    """

    name: str
    sentence: str
    seen_in: str


@dataclass(frozen=True)
class Verdict:
    """The verdict of an evaluation.

    Attributes:
        standing: "learned", "rough", "incomplete", "memorised" or "broke".
        lines: Three sentences with numbers: samples, memorisation, score.
        faults: What is wrong; empty for a sound model.
    """

    standing: str
    lines: tuple[str, str, str]
    faults: tuple[Fault, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the faults, each once."""
        return tuple(dict.fromkeys(fault.name for fault in self.faults))

    @property
    def title(self) -> str:
        """The standing with the names of the faults."""
        if self.names and self.names != (self.standing,):
            return f"{self.standing}: {', '.join(self.names)}"
        return self.standing

    def to_dict(self) -> dict[str, Any]:
        """The verdict as JSON holds it."""
        faults = [dict(vars(fault)) for fault in self.faults]
        return {"standing": self.standing, "lines": list(self.lines), "faults": faults}


def judge(
    rows: Sequence[MetricRow],
    examples: Sequence[MetricRow],
    classes: Sequence[ClassRow],
    memorisation: Memorisation | None,
    health: Health | None,
    broken: str = "",
    right: Mapping[str, Estimate] | None = None,
) -> Verdict:
    """The verdict of what was measured.

    Args:
        rows: Metrics in the feature space.
        examples: Metrics of the examples themselves; empty where they are their own features.
        classes: Class by class; empty without classes.
        memorisation: Memorisation of the samples; None where there are none.
        health: Health of the score; None without a model.
        broken: Why there are no samples, or "".
        right: "samples" -> fraction of samples that a classifier assigns to the class they were
            drawn for; "data" -> fraction of held-out data assigned to their label. None where
            samples were drawn without classes.

    Returns:
        The verdict.
    """
    held_out = {row.metric: row for row in rows if row.against == "held-out"}
    themselves = {row.metric: row for row in examples if row.against == "held-out"}
    faults = [*_of_samples(held_out, themselves, broken), *_of_classes(classes)]
    if memorisation is not None and memorisation.memorised:
        faults.append(Fault("memorised", memorisation.sentence, "memorisation"))
    if health is not None:
        faults += [Fault(f.name, f.sentence, "score") for f in health.findings]
    lines = (
        broken or quality_line(held_out) + _right_line(right),
        "No samples, so that copies cannot be looked for."
        if memorisation is None
        else memorisation.sentence,
        "The score was not examined: samples alone." if health is None else health.sentence,
    )
    return Verdict(_standing(faults, held_out), lines, tuple(faults))


def _standing(faults: Sequence[Fault], rows: Mapping[str, MetricRow]) -> str:
    names = {fault.name for fault in faults}
    if names - {"memorised", *INCOMPLETE}:
        return "broke"
    if "memorised" in names:
        return "memorised"
    if names:
        return "incomplete"
    told = rows.get("c2st_accuracy")
    return "rough" if told is not None and told.estimate.low > ROUGH else "learned"


def _of_samples(
    rows: Mapping[str, MetricRow], examples: Mapping[str, MetricRow], broken: str
) -> list[Fault]:
    """Faults of the samples as a whole; a feature space may hide what the examples show."""
    if broken:
        return [Fault("not finite", broken, "samples")]
    needed = {"precision", "recall", "coverage"}

    def below(row: MetricRow, part: float) -> bool:
        return row.estimate.high < part * row.floor.value

    for space in (rows, examples):
        if needed <= space.keys() and all(
            below(space[n], APART) for n in ("precision", "coverage")
        ):
            sentence = (
                f"Samples share nothing with the data: precision {_beside(space['precision'])}, "
                f"coverage {_beside(space['coverage'])}. They are of another data set, or sampling "
                "broke."
            )
            return [Fault("other data", sentence, "samples")]
    if not needed <= rows.keys():
        return []
    precision, recall = rows["precision"], rows["recall"]
    if below(recall, VARIED) and precision.estimate.value > TRUE * precision.floor.value:
        sentence = f"Most of the data have no sample near them: recall {_beside(recall)}."
        return [Fault("little variety", sentence, "samples")]
    return []


def _of_classes(classes: Sequence[ClassRow]) -> list[Fault]:
    faults = []
    missing = [row for row in classes if row.is_missing]
    if missing:
        words = ", ".join(
            f"{row.name} ({row.samples.value:.1%} of samples, {row.data.value:.1%} of the data)"
            for row in missing[:4]
        )
        faults.append(Fault("missing class", f"Classes that are missing: {words}.", "samples"))
    lost = [row for row in classes if row.is_lost]
    if lost:
        words = ", ".join(
            f"{row.name} ({row.accuracy.value:.0%})" for row in lost[:4] if row.accuracy
        )
        sentence = f"Samples that were drawn for a class and are of another: only {words} right."
        faults.append(Fault("class not followed", sentence, "samples"))
    return faults


def quality_line(rows: Mapping[str, MetricRow]) -> str:
    """The quality of samples against held-out data in a sentence, with its floor.

    Args:
        rows: Metric -> its row against held-out data.

    Returns:
        The sentence.
    """
    told = rows.get("c2st_accuracy")
    if told is None:
        return "The samples were not compared with held-out data."
    accuracy = told.estimate
    if accuracy.low <= max(NEAR, told.floor.high):
        words = "Samples are hardly distinguished from held-out data"
    elif accuracy.low <= ROUGH:
        words = "Samples are close to held-out data"
    else:
        words = "Samples are easily distinguished from held-out data"
    parts = [f"a classifier is right in {_percent(accuracy)} of cases (50% is chance)"]
    if "frechet" in rows:
        found, floor = rows["frechet"].estimate, rows["frechet"].floor
        parts.append(f"Fréchet distance {_distance(found)}, data against data {_distance(floor)}")
    if "coverage" in rows:
        parts.append(f"coverage {_beside(rows['coverage'])}")
    return f"{words}: {'; '.join(parts)}."


def _right_line(right: Mapping[str, Estimate] | None) -> str:
    """How many samples have the class that they were drawn for."""
    if not right:
        return ""
    return (
        f" A classifier takes {_percent(right['samples'])} of samples for the class that they were "
        f"drawn for, and {right['data'].value:.0%} of held-out data."
    )


def _distance(estimate: Estimate) -> str:
    """A distance whose bias was removed: where it is below 0, its upper end."""
    if estimate.value > 0:
        return str(estimate)
    return f"below {estimate.high:.2g}" if estimate.high > 0 else "0"


def _percent(estimate: Estimate) -> str:
    return f"{estimate.value:.0%} ({estimate.low:.0%} to {estimate.high:.0%})"


def _beside(row: MetricRow) -> str:
    """A number with its interval, and data against data."""
    return f"{row.estimate}, data against data {row.floor.value:.3g}"
