"""Score health in an evaluation: the examples of the data in model units, and the levels."""

from torch import Tensor

from ..conditions import Condition
from ..data import Pipeline
from ..diagnostics.health import Health, score_health
from ..models import ScoreModel
from .material import Material, Part

LEVELS, EXAMPLES = 8, 512
QUICK_LEVELS, QUICK_EXAMPLES = 4, 128
MOST_TRAINING = 20_000  # training examples whose own denoiser is compared


def measure_health(
    model: ScoreModel,
    material: Material,
    seed: int,
    quick: bool,
    live: ScoreModel | None = None,
) -> Health:
    """Score health on held-out and training data.

    Args:
        model: The score model.
        material: The data.
        seed: Seed of the noise.
        quick: Whether fewer levels and examples are used.
        live: The model with its live weights, where they are known.

    Returns:
        The result of `score_health`.
    """
    examples = QUICK_EXAMPLES if quick else EXAMPLES
    held_out, given = in_model_units(model, material.held_out, examples, seed)
    train, train_given = in_model_units(model, material.train, MOST_TRAINING, seed)
    return score_health(
        model,
        held_out,
        train,
        given,
        levels=QUICK_LEVELS if quick else LEVELS,
        seed=seed,
        train_condition=train_given,
        live=live,
        examples=examples,
    )


def in_model_units(
    model: ScoreModel, part: Part, most: int, seed: int
) -> tuple[Tensor, Condition | None]:
    """The first examples of a part in model units, dequantised as in training.

    Args:
        model: The score model.
        part: The part.
        most: Number of examples at most.
        seed: Seed of the dequantisation.

    Returns:
        x0 (N, *event), and their conditions where the model takes one that the data hold.
    """
    dataset = part.dataset
    settings = ((model.card or {}).get("config") or {}).get("data") or {}
    dequantised = settings.get("dequantise", "uniform") == "uniform"
    if model.units.quantisation is not None:
        dequantised = model.units.quantisation.dequantised
    known = {"class": dataset.labels, "vector": dataset.vectors}
    kinds = [name for name in model.conditions if known.get(name) is not None]
    index = part.index[:most]
    pipeline = Pipeline(
        dataset,
        index,
        model.units,
        seed,
        dequantise="uniform" if dequantised else "none",
        condition=kinds[0] if kinds else "none",
    )
    x0, condition = pipeline.held_out(index)
    return x0, condition
