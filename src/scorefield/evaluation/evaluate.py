"""`evaluate`: whether a model is good, and how one knows, with an error on every number."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import load
from ..data.table_form import TableForm
from ..diagnostics.health import Health
from ..errors import InputError, NonFiniteError
from ..models import Guidance, ScoreModel, check_model
from ..sampling import SamplingRecipe, resolve_sampling
from ..values import describe, flag, whole
from . import record
from .classes import ClassRow, compare_classes, overall
from .collect import Collected, collect_given, draw_samples, features_of_part
from .ema_sweep import EMASweep, ema_sweep, live_model
from .features import Chosen, Columns, Features, GivenFeatures, check_features, choose_features
from .health_step import measure_health
from .material import Given, Material, open_material, read_samples
from .memorisation import Memorisation, measure_memorisation
from .pictures import draw_pictures
from .result import Evaluation
from .sets import MetricRow, measure_sets
from .spectra import has_spectrum
from .verdict import judge

LEVEL = 0.9  # of all intervals
COUNTS = {True: 256, False: 1000}  # samples by default, quick or not
VECTORS = 4  # times as many of vectors and tables, which are cheap
MOST_DATA = 5000  # training examples whose features are compared
MOST_KNOWN = 20_000  # training examples of which copies are looked for
SWEPT = 16  # samples of live and averaged weights
IN_FEATURES = (
    *("frechet", "kernel_distance", "sliced_features", "c2st_accuracy", "c2st_auc"),
    *("precision", "recall", "density", "coverage"),
)
ON_EXAMPLES = ("sliced_w1", "sliced_w2", "mmd")
TABLE = ("marginal_w1", "category_tv", "correlation")
# Stage -> its part of the time, for the progress report.
STAGES = {"features": 15, "sampling": 45, "metrics": 20, "memorisation": 4, "score": 14, "page": 2}
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Wanted:
    """What `evaluate` was given.

    Attributes:
        count: Number of samples; None for the default.
        seed: Decides everything random.
        features: Of the user, or None.
        recipe: How samples are drawn; None as the model's card states.
        guidance: Of conditional samples, or None.
        quick: Whether fewer samples, levels and metrics do.
    """

    count: int | None = None
    seed: int = 0
    features: Features | None = None
    recipe: SamplingRecipe | None = None
    guidance: Guidance | None = None
    quick: bool = False

    def samples(self, material: Material) -> int:
        """The number of samples to draw."""
        if self.count is not None:
            return self.count
        vectors = len(material.dataset.event_shape) == 1
        return COUNTS[self.quick] * (VECTORS if vectors else 1)


class _Clock:
    """Seconds of each stage, and the fraction done for the progress report."""

    def __init__(self, report: Report | None) -> None:
        self.seconds: dict[str, float] = {}
        self._report, self._done = report, 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[..., None]]:
        """Time a stage; the value reports the fraction of the stage."""
        began, part = time.perf_counter(), STAGES[name] / sum(STAGES.values())

        def within(fraction: float, words: str = "", stage: str = "") -> None:
            if self._report is not None:
                self._report(self._done + part * fraction, words or name)

        within(0.0)
        yield within
        self.seconds[name] = time.perf_counter() - began
        self._done += part


def evaluate(
    model: ScoreModel | str | Path | None = None,
    reference: Any = None,
    samples: Any = None,
    count: int | None = None,
    seed: int = 0,
    *,
    features: Features | None = None,
    recipe: SamplingRecipe | None = None,
    guidance: float | Guidance | None = None,
    quick: bool = False,
    progress: Report | None = None,
) -> Evaluation:
    """Evaluate a model, or samples of any system: quality, memorisation and the score itself.

    Args:
        model: A score model, or the path of a run or model file; None for samples alone.
        reference: Data to compare with, anything that `data.open` takes; None: those that the model
            was trained on, split as in its training.
        samples: Samples of any system in place of drawn ones; see `evaluation.read_samples`.
        count: Number of samples to draw; None: 1,000, and 4,000 of vectors and tables.
        seed: Decides samples and everything else that is random.
        features: A feature space of your own (`evaluation.Features`), or None.
        recipe: How samples are drawn, from `resolve_sampling`; None as the model's card states.
        guidance: Scale or `Guidance` of conditional samples.
        quick: Fewer samples, noise levels and metrics.
        progress: Receives the fraction done and a few words.

    Returns:
        The evaluation. print(e) shows the verdict, `e.save(folder)` writes evaluation.json and
        evaluation.html.

    Raises:
        InputError: Neither a model nor samples are given, or data or samples do not fit.

    Example:
        e = sf.evaluate("runs/mine", quick=True)
        e.save("evaluation")
    """
    run = Path(model) if isinstance(model, str | Path) else None
    if isinstance(model, str | Path):
        model = load(model)
    if model is not None and not isinstance(model, ScoreModel):
        raise InputError(
            f"evaluate needs a score model, the path of a run, or None; got {describe(model)}"
        )
    wanted = Wanted(
        None if count is None else whole(count, "count", 40),
        whole(seed, "seed", 0),
        None if features is None else check_features(features),
        recipe,
        None if guidance is None else Guidance.of(guidance),
        flag(quick, "quick"),
    )
    return run_evaluation(model, reference, samples, wanted, progress, run)


def run_evaluation(
    model: ScoreModel | None,
    reference: Any,
    samples: Any,
    wanted: Wanted,
    report: Report | None = None,
    run: Path | None = None,
    facts: dict[str, Any] | None = None,
) -> Evaluation:
    """Evaluate a model or samples.

    Args:
        model: A score model that is ready to run; None for samples alone.
        reference: Data to compare with, or None.
        samples: Samples of any system, or None.
        wanted: What else was given.
        report: Receives the fraction done and a few words.
        run: The run's folder, for live weights and other averages; None for none.
        facts: Further entries of the protocol's subject; "execution" goes to its run.

    Returns:
        The evaluation.

    Raises:
        InputError: As for `evaluate`.
    """
    if model is None and samples is None:
        raise InputError("evaluate needs a model (RUN) or samples (--samples FILE) to judge")
    if model is not None:
        check_model(model)
    clock, facts = _Clock(report), dict(facts or {})
    execution = facts.pop("execution", None)
    with clock.stage("features") as within:
        material = open_material(model, reference, seed=wanted.seed)
        given = None if samples is None else read_samples(samples, material.dataset)
        chosen = choose_features(
            material.dataset,
            material.train.index,
            material.unseen,
            wanted.features,
            within,
        )
        sides = _Sides.of(material, chosen)
    with clock.stage("sampling") as within:
        collected, broken = _collect(model, given, material, chosen, wanted, within)
    with clock.stage("metrics"):
        rows, classes = _measure(collected, material, chosen, sides, wanted)
    with clock.stage("memorisation"):
        copies = None if collected is None else _copies(collected, material)
    with clock.stage("score"):
        health, sweep = _score(model, material, wanted, run)
    with clock.stage("page"):
        verdict = judge(rows[0], classes, copies, health, broken)
        pairs = () if copies is None else copies.pairs
        pictures = draw_pictures(material, collected, pairs, health, sweep)
    count = wanted.samples(material) if collected is None else len(collected)
    given_facts = {} if given is None else {"samples": given.source}
    protocol = {
        "measured": record.measured(material, chosen, count, wanted.seed, LEVEL, wanted.quick),
        "subject": record.subject(model, collected, wanted.guidance, given_facts | facts),
        "run": record.run_facts(clock.seconds, execution),
    }
    parts = {
        "memorisation": None if copies is None else copies.to_dict(),
        "health": None if health is None else health.to_dict(),
        "ema": None if sweep is None else sweep.to_dict(),
        "class_accuracy": _accuracy(collected),
    }
    title = _title(model, material, given)
    return Evaluation(title, verdict, *rows, tuple(classes), parts, protocol, pictures)


@dataclass(frozen=True)
class _Sides:
    """Features and found classes of both parts of the data."""

    held_out: np.ndarray
    train: np.ndarray | None
    held_out_classes: np.ndarray | None

    @classmethod
    def of(cls, material: Material, chosen: Chosen) -> "_Sides":
        held_out, classes = features_of_part(material.held_out, chosen, "held_out")
        some = replace(material.train, index=material.train.index[:MOST_DATA])
        train, _ = features_of_part(some, chosen, "train")
        return cls(held_out, train, classes)


def _collect(
    model: ScoreModel | None,
    given: Given | None,
    material: Material,
    chosen: Chosen,
    wanted: Wanted,
    within: Callable[..., None],
) -> tuple[Collected | None, str]:
    """The samples, or the reason why there are none."""
    if given is not None:
        return collect_given(given, material, chosen), ""
    assert model is not None
    if isinstance(chosen.features, GivenFeatures):
        chosen.features(None)
    recipe = resolve_sampling(model) if wanted.recipe is None else wanted.recipe
    count, guidance = wanted.samples(material), wanted.guidance
    try:
        return draw_samples(
            model,
            recipe,
            material,
            chosen,
            count,
            wanted.seed,
            guidance=guidance,
            report=within,
        ), ""
    except NonFiniteError as problem:
        return None, f"Sampling broke: {problem}."


Rows = tuple[MetricRow, ...]


def _measure(
    collected: Collected | None, material: Material, chosen: Chosen, sides: _Sides, wanted: Wanted
) -> tuple[tuple[Rows, Rows], list[ClassRow]]:
    """Metrics and classes; nothing where sampling broke."""
    if collected is None:
        return ((), ()), []
    rows = _metrics(collected, material, chosen, sides, wanted)
    return rows, _classes(collected, material, chosen, sides)


def _metrics(
    collected: Collected, material: Material, chosen: Chosen, sides: _Sides, wanted: Wanted
) -> tuple[Rows, Rows]:
    """Metrics in the feature space, and of the examples themselves."""
    dataset, form = material.dataset, material.dataset.form
    names, categories = None, None
    metrics: tuple[str, ...] = IN_FEATURES
    if isinstance(form, TableForm) and isinstance(chosen.features, Columns):
        names, categories = form.element_names, _categories(form)
        metrics += TABLE if categories else tuple(m for m in TABLE if m != "category_tv")
    features = measure_sets(
        collected.features,
        sides.held_out,
        sides.train,
        seed=wanted.seed,
        names=names,
        level=LEVEL,
        metrics=metrics,
        categories=categories,
    )
    examples: list[MetricRow] = []
    if len(dataset.event_shape) > 1 and not wanted.quick:
        some = len(collected.kept)
        examples = measure_sets(
            collected.kept,
            material.held_out.first(some),
            material.train.first(some),
            seed=wanted.seed,
            level=LEVEL,
            metrics=ON_EXAMPLES + (("spectrum",) if has_spectrum(dataset.event_shape) else ()),
        )
    return tuple(features), tuple(examples)


def _categories(form: TableForm) -> dict[str, list[int]]:
    """The elements of each column of words."""
    every = range(len(form.element_names))
    return {c.name: list(every[form.elements[c.name]]) for c in form.columns if c.words}


def _classes(
    collected: Collected, material: Material, chosen: Chosen, sides: _Sides
) -> list[ClassRow]:
    """Samples beside held-out data, class by class."""
    labels = material.held_out.labels
    if chosen.classifier is None or labels is None or collected.classes is None:
        return []
    assert sides.held_out_classes is not None
    names = chosen.classifier.classes
    return compare_classes(
        names,
        collected.classes,
        sides.held_out_classes,
        labels.numpy(),
        collected.wanted,
        LEVEL,
    )


def _accuracy(collected: Collected | None) -> dict[str, Any] | None:
    """How many samples have the class that they were drawn for."""
    if collected is None or collected.classes is None or collected.wanted is None:
        return None
    return overall(collected.classes, collected.wanted, LEVEL).to_dict()


def _copies(collected: Collected, material: Material) -> Memorisation:
    """Whether samples are copies of training examples; columns are compared on one scale."""
    known = material.train.first(MOST_KNOWN)
    sets = (collected.kept, material.held_out.first(len(collected.kept)), known)
    if len(material.dataset.event_shape) == 1:
        scaled = Columns.fit(material.dataset, material.train.index)
        return measure_memorisation(*(scaled(x) for x in sets), level=LEVEL)
    return measure_memorisation(*sets, level=LEVEL)


def _score(
    model: ScoreModel | None, material: Material, wanted: Wanted, run: Path | None
) -> tuple[Health | None, EMASweep | None]:
    """Health of the score, and the averages of the run's weights."""
    if model is None:
        return None, None
    live: ScoreModel | None = None
    with suppress(InputError):
        live = None if run is None or not run.is_dir() else live_model(run)
    health = measure_health(model, material, wanted.seed, wanted.quick, live)
    if live is None or wanted.quick or not material.is_own:
        return health, None
    sweep = None
    with suppress(InputError):
        sweep = ema_sweep(str(run), material.dataset, samples=SWEPT, seed=wanted.seed)
    return health, sweep


def _title(model: ScoreModel | None, material: Material, given: Given | None) -> str:
    """What is evaluated, in a line."""
    if model is None:
        assert given is not None
        return f"Samples {Path(given.source).name} beside {material.held_out.dataset.view.source}"
    network = ((model.card or {}).get("network") or {}).get("name") or type(model).__name__
    return f"{network} model of {material.dataset.view.source}"
