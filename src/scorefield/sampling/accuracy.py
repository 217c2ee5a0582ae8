"""`resolve_accuracy`: choose a recipe for a wanted accuracy by prediction, then check it.

`autopilot` chooses on a surrogate with the model's moments. What moments do not show, such as many
narrow modes in many dimensions, makes the error larger than predicted. A check on a few starts
finds this. The check costs some thousand evaluations, less than drawing the samples does.
"""

from dataclasses import replace

import torch

from .. import rng
from ..errors import InputError
from ..models import ScoreModel
from ..values import finite, whole
from .api import working_type
from .autopilot import LEAST_EVALUATIONS, MOST_EVALUATIONS, PredictedRecipe, Predictor, choose
from .ladders import data_std
from .loop import run
from .recipe import SamplingRecipe, default_batch, first_state, resolve_sampling

MOST_STARTS, LEAST_STARTS = 1024, 32
CHECKED_ELEMENTS = 1 << 14  # elements of all starts of a check: 256 digits of 8 x 8
FIRST_KEY = 1 << 42  # far from the keys of samples
ROUNDS = 5  # choices at most
FINER = 3  # evaluations of the reference of a check, as a multiple of the recipe's
LEAST_FINE = 48  # evaluations of the reference at least
# After a failed check the wanted accuracy is multiplied by STRICTER accuracy/measured, but by no
# less than STRICTEST.
STRICTER, STRICTEST = 0.85, 0.25


def resolve_accuracy(
    model: ScoreModel,
    accuracy: float = 0.01,
    most: int = MOST_EVALUATIONS,
    check: int | None = None,
) -> PredictedRecipe:
    """The recipe with the fewest evaluations that reaches an accuracy.

    Kernel, noise levels and evaluations are chosen on a surrogate with the model's moments, without
    an evaluation of the model. A check on a few starts then compares the recipe with the flow at
    three times as many evaluations (48 at least); where the distance is larger than wanted, a
    stricter choice is made, up to four times. The accuracy is that of the solver: the error of a
    network, which more steps do not reduce, comes on top.

    Args:
        model: The model, with moments.
        accuracy: Wanted root mean square distance to the end of the probability flow, in standard
            deviations of the data, above zero.
        most: Largest number of evaluations a sample, 3 or more.
        check: Number of starts of the check; 0: no check, and the model is not evaluated; None: 32
            to 1,024, fewer for larger examples. A model that needs a condition is not checked.

    Returns:
        The recipe, for `sample(model, sampler=recipe)`, with its `prediction`. Where no choice
        passed the check, `prediction.measured` is above `accuracy`.

    Raises:
        InputError: For a model without moments, with fixed noise levels or of constant data, or
            where no candidate is predicted to reach the accuracy; the message states the best one.

    Example:
        recipe = sf.resolve_accuracy(model, 0.01)
        x = sf.sample(model, 16, sampler=recipe)
    """
    accuracy = finite(accuracy, "accuracy", 0.0, above=True)
    most = whole(most, "most", LEAST_EVALUATIONS)
    predictor, wanted = Predictor(model), accuracy
    usual = min(MOST_STARTS, max(LEAST_STARTS, default_batch(model, CHECKED_ELEMENTS)))
    check = usual if check is None else whole(check, "check", 0)
    recipe = choose(predictor, wanted, most)
    if not check or not all(spec.optional for spec in model.conditions.values()):
        return recipe
    for _ in range(ROUNDS - 1):
        found = measured_error(model, recipe, check)
        recipe = replace(recipe, prediction=replace(recipe.prediction, measured=found))
        if found <= accuracy:
            break
        wanted *= max(STRICTEST, STRICTER * accuracy / found)
        try:
            recipe = choose(predictor, wanted, most)
        except InputError:  # no candidate is predicted to be better than the last choice
            break
    if recipe.prediction.measured is None:
        found = measured_error(model, recipe, check)
        recipe = replace(recipe, prediction=replace(recipe.prediction, measured=found))
    return recipe


def measured_error(model: ScoreModel, recipe: SamplingRecipe, starts: int) -> float:
    """RMS distance of a recipe to the flow with more evaluations, in standard deviations.

    Args:
        model: The model, with moments.
        recipe: A solver of the probability flow that starts from the prior.
        starts: Number of starts.

    Returns:
        The distance.
    """
    device, dtype = working_type(model)
    keys = rng.keys(0, starts, first=FIRST_KEY).to(device)
    finer = max(LEAST_FINE, FINER * recipe.evaluations)
    fine = resolve_sampling(
        model, "unipc", finer, "few-step", start="prior", final="denoise", options={"p": 2}
    )
    ends, training = [], model.training
    model.eval()
    try:
        for one in (recipe, fine):
            with torch.no_grad():
                x = first_state(model, one, keys, dtype)
            ends.append(
                run(one.kernel, model, one.ladder, x, one.steps_per_level, one.final).x.double()
            )
    finally:
        model.train(training)
    return float((ends[0] - ends[1]).square().mean().sqrt()) / (data_std(model) or 1.0)
