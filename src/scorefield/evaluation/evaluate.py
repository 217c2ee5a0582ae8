"""`evaluate`: quality, memorisation and score health of a model, numbers with intervals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..checkpoint import load
from ..errors import InputError, NonFiniteError
from ..models import Guidance, ScoreModel, check_model
from ..sampling import SamplingRecipe, resolve_sampling
from ..values import describe, flag, whole
from . import record
from .clock import Clock, Report
from .collect import Collected, collect_given, draw_samples
from .features import Chosen, Features, GivenFeatures, check_features, choose_features
from .given import Given, read_samples
from .material import Material, open_material
from .measuring import (
    LEVEL,
    Sides,
    Wanted,
    class_accuracy,
    class_metrics,
    examine_score,
    find_copies,
    measure,
)
from .pictures import draw_pictures
from .result import Evaluation
from .verdict import judge

NETWORKS = {"unet": "U-Net", "mlp": "MLP", "refinenet": "RefineNet"}


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
        count: Number of samples to draw, 40 or more; None: 1,000, or 4,000 for vectors and tables
            (quick: 256 and 1,024).
        seed: Decides samples and everything else that is random.
        features: A feature space of your own (`evaluation.Features`), or None.
        recipe: How samples are drawn, from `resolve_sampling`; None: as the model card states.
        guidance: Scale or `Guidance` of conditional samples; None: unguided.
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
        facts: Further entries of the protocol's subject; "execution" goes to the protocol's run.

    Returns:
        The evaluation.

    Raises:
        InputError: As for `evaluate`.
    """
    if model is None and samples is None:
        raise InputError("evaluate needs a model (RUN) or samples (--samples FILE) to judge")
    if model is not None:
        check_model(model)
    clock, facts = Clock(report), dict(facts or {})
    execution = facts.pop("execution", None)
    with clock.stage("features") as within:
        material = open_material(model, reference, seed=wanted.seed)
        given = None if samples is None else read_samples(samples, material.dataset)
        chosen = choose_features(
            material.dataset,
            material.train.index,
            material.unseen,
            wanted.features,
            wanted.quick,
            within,
        )
        sides = Sides.of(material, chosen, wanted.quick)
    with clock.stage("sampling") as within:
        collected, broken = _collect(model, given, material, chosen, wanted, within)
    with clock.stage("metrics"):
        rows, classes = measure(collected, material, chosen, sides, wanted)
        by_class = class_metrics(collected, material, sides, wanted)
    with clock.stage("memorisation"):
        copies = None if collected is None else find_copies(collected, material)
    with clock.stage("score"):
        health, sweep = examine_score(model, material, wanted, run)
    with clock.stage("page"):
        right = class_accuracy(collected, material, sides)
        verdict = judge(*rows, classes, copies, health, broken, right)
        pairs = () if copies is None else copies.pairs
        pictures = draw_pictures(material, collected, pairs, health, sweep)
    count = wanted.samples(material) if collected is None else len(collected)
    given_facts: dict[str, Any] = {} if given is None else {"samples": given.source}
    if given is not None and given.notes:
        given_facts["reading"] = list(given.notes)
    protocol = {
        "measured": record.measured(material, chosen, count, wanted.seed, LEVEL, wanted.quick),
        "subject": record.subject(model, collected, wanted.guidance, given_facts | facts),
        "run": record.run_facts(clock.seconds, execution),
    }
    parts = {
        "memorisation": None if copies is None else copies.to_dict(),
        "health": None if health is None else health.to_dict(),
        "ema": None if sweep is None else sweep.to_dict(),
        "class_metrics": by_class,
        "class_accuracy": None if right is None else {n: v.to_dict() for n, v in right.items()},
    }
    title = _title(model, material, given)
    return Evaluation(title, verdict, *rows, tuple(classes), parts, protocol, pictures)


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


def _title(model: ScoreModel | None, material: Material, given: Given | None) -> str:
    """What is evaluated, in a line."""
    if model is None:
        assert given is not None
        return f"Samples {Path(given.source).name} beside {material.held_out.dataset.view.source}"
    network = ((model.card or {}).get("network") or {}).get("name") or type(model).__name__
    return f"{NETWORKS.get(network, network)} model of {material.dataset.view.source}"
