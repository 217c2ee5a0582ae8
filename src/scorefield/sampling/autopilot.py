"""Choose kernel, noise levels and evaluations for a wanted accuracy, before the model is run.

The samplers of the probability flow run on a surrogate of the model (`surrogates`): a product of
densities with the model's mean and variances, whose flow has a closed form. On the normal
directions of the surrogate every sampler is a linear map, x0 - m = g(v) (x_T - m) along an
eigenvector of the covariance with eigenvalue v, and the relative error

    sqrt( sum_v (g(v) sqrt(v + sigma_T²) - sqrt(v))² / sum_v v )

is exact: both the root mean square distance to the end of the flow from the same start and, where
g > 0, the Wasserstein-2 distance to N(m, C), in standard deviations of the data. Some methods solve
the flow of a normal density without error (veab on N(m, S² I)), so that normal directions cannot
tell these methods apart. Directions with several modes can. A recipe is chosen by its largest error
over the shapes.

The prediction covers the error of the steps and of the start. It does not cover the error of a
network, which more steps do not reduce.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..errors import InputError, NonFiniteError
from ..exact import Gaussian
from ..models import ScoreModel, check_model
from .loop import run
from .recipe import SamplingRecipe, resolve_sampling
from .registry import SAMPLERS
from .surrogates import QUANTILES, SHAPES, Surrogate, spectrum

MOST_EVALUATIONS = 1000
LEAST_EVALUATIONS = 3
SHOWN = 3  # other samplers that the reason names
#: Samplers and options that are tried, each with its own ladder and the named ones.
CANDIDATES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("veab", {"p": 2}),
    ("veab", {"p": 3}),
    ("zeab", {"p": 2}),
    ("zeab", {"p": 3}),
    ("unipc", {"p": 2}),
    ("unipc", {"p": 3}),
    ("xeab", {"p": 2}),
    ("xeab", {"p": 3}),
    ("ipndm", {"p": 2}),
    ("ipndm", {"p": 3}),
    ("ipndm", {"p": 4}),
    ("dpmpp-2m", {}),
    ("dpmpp-3m", {}),
    ("heun", {}),
    ("euler", {}),
)
Candidate = tuple[str, Mapping[str, Any], str | None]
LADDERS = (None, "few-step", "karras")  # None: the sampler's own


@dataclass(frozen=True)
class Prediction:
    """The predicted error of a recipe, in standard deviations of the data.

    Args:
        error: The largest of `errors`.
        errors: Root mean square distance to the end of the flow, by shape of the surrogate.
        wasserstein: Wasserstein-2 distance to the normal density of the model's moments.
        evaluations: Evaluations of the model a sample.
        reason: Why this recipe was chosen; "" where it was given.
        measured: Root mean square distance on the starts of the check; None without a check.
    """

    error: float
    errors: Mapping[str, float]
    wasserstein: float
    evaluations: int
    reason: str = ""
    measured: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold."""
        return {**vars(self), "errors": dict(self.errors)}


@dataclass(frozen=True)
class PredictedRecipe(SamplingRecipe):
    """A recipe that `resolve_accuracy` chose, with its prediction.

    Args:
        kernel: As in `SamplingRecipe`.
        ladder: As in `SamplingRecipe`.
        steps_per_level: As in `SamplingRecipe`.
        start: As in `SamplingRecipe`.
        final: As in `SamplingRecipe`.
        prediction: The predicted error, and why the recipe was chosen.
    """

    prediction: Prediction = field(default=Prediction(math.nan, {}, math.nan, 0), repr=False)


class Predictor:
    """Errors of recipes on the surrogate of one model.

    Args:
        model: The model; only its moments are used.

    Raises:
        InputError: For a model without moments, with fixed noise levels, or of constant data.
    """

    def __init__(self, model: ScoreModel) -> None:
        check_model(model)
        known = model.moments()
        if known is None or known.variance.ndim != len(model.event_shape):
            raise InputError(
                f"the error is predicted from the data's moments, and this {type(model).__name__} "
                "has none. Choose sampler and nfe yourself; docs/samplers.md has a table"
            )
        if model.ladder_only:
            raise InputError(
                "this model is defined at the noise levels of its ladder only, so that no solver "
                "of the probability flow applies. Choose steps_per_level for 'annealed-langevin'"
            )
        variances = spectrum(known)
        if not float(variances.max()) > 0:
            raise InputError("the data are constant: there is no scale for a relative accuracy")
        # For a known normal density the other shapes, which moments cannot exclude, are left out.
        names = ("normal",) if isinstance(model, Gaussian) else tuple(SHAPES)
        self.model = model
        self.surrogate = Surrogate(variances, {name: SHAPES[name] for name in names})
        u = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
        # The last row, one standard deviation, gives the linear maps of the normal directions.
        self.z = torch.cat([torch.special.ndtri(u), torch.ones(1, dtype=torch.float64)])
        self.ends = self.surrogate.quantile(torch.special.ndtr(self.z))

    def predict(self, recipe: SamplingRecipe, reason: str = "") -> Prediction:
        """The error of a recipe.

        Args:
            recipe: A solver of the probability flow that starts from the prior.
            reason: Why the recipe was chosen, for the prediction.

        Returns:
            The prediction.

        Raises:
            InputError: For a sampler that draws noise, or another start.
        """
        if not _is_predictable(recipe):
            raise InputError(
                "errors are predicted for solvers of the probability flow that start from the "
                f"prior, such as unipc and heun; got {recipe.name}, which draws noise, or "
                f"start={recipe.start!r}"
            )
        top = float(recipe.ladder[0])
        start = self.z[:, None] * (self.surrogate.std.square() + top**2).sqrt()
        try:
            x = run(
                recipe.kernel,
                self.surrogate,
                recipe.ladder,
                start,
                recipe.steps_per_level,
                recipe.final,
            ).x
        except NonFiniteError:  # an unstable sampler
            x = torch.full_like(start, math.inf)
        blocks = self.surrogate.variances
        parts = (x - self.ends).split([len(block) for block in blocks.values()], 1)
        errors = {}
        for (name, block), gaps in zip(blocks.items(), parts, strict=True):
            squares = gaps[-1:].square() if name == "normal" else gaps[:-1].square()
            errors[name] = float((squares.mean(0).sum() / block.sum()).sqrt())
        normal = blocks["normal"]
        grown = x[-1, : len(normal)].abs() - normal.sqrt()
        distance = float((grown.square().sum() / normal.sum()).sqrt())
        return Prediction(max(errors.values()), errors, distance, recipe.evaluations, reason)


def _is_predictable(recipe: SamplingRecipe) -> bool:
    """Whether it solves the probability flow from the prior."""
    kernel = recipe.kernel
    return not (kernel.draws_noise or kernel.is_langevin) and recipe.start == "prior"


def candidate_recipe(
    model: ScoreModel, sampler: str, options: Mapping[str, Any], ladder: str | None, nfe: int
) -> SamplingRecipe | None:
    """One candidate with at most `nfe` evaluations.

    Args:
        model: The model.
        sampler: A name of CANDIDATES.
        options: Its options.
        ladder: A name of LADDERS, or None for the sampler's own.
        nfe: Evaluations a sample.

    Returns:
        The recipe; None where the sampler needs more evaluations for one step.
    """
    if nfe < 1 + SAMPLERS[sampler](**options).evaluations_per_step:
        return None
    return resolve_sampling(
        model, sampler, nfe, ladder, start="prior", final="denoise", options=dict(options)
    )


def candidates() -> Iterator[Candidate]:
    """(sampler, options, ladder) of every candidate."""
    for name, options in CANDIDATES:
        for ladder in LADDERS:
            yield name, options, ladder


def candidate_recipes(model: ScoreModel, nfe: int) -> Iterator[tuple[str, SamplingRecipe]]:
    """(name in words, recipe) of every candidate with at most `nfe` evaluations."""
    for name, options, ladder in candidates():
        found = candidate_recipe(model, name, options, ladder, nfe)
        if found is not None:
            words = [name, *(f"{key} = {value}" for key, value in options.items())]
            yield ", ".join(words if ladder is None else [*words, f"{ladder} levels"]), found


def predict_error(model: ScoreModel, recipe: SamplingRecipe) -> Prediction:
    """The error of a recipe for a model, predicted from the model's moments alone.

    Args:
        model: The model, with moments.
        recipe: A solver of the probability flow that starts from the prior.

    Returns:
        The prediction; the model is not evaluated.

    Raises:
        InputError: For a model without moments, or a sampler that draws noise.

    Example:
        recipe = sf.resolve_sampling(model, "unipc", nfe=10)
        print(sf.predict_error(model, recipe).error)
    """
    return Predictor(model).predict(recipe)


def choose(predictor: Predictor, accuracy: float, most: int) -> PredictedRecipe:
    """The candidate with the fewest evaluations that is predicted to reach an accuracy.

    Args:
        predictor: Errors on the surrogate of the model.
        accuracy: Largest predicted error, in standard deviations of the data.
        most: Largest number of evaluations a sample.

    Returns:
        The recipe with its prediction; of several the one with the smallest error.

    Raises:
        InputError: Where no candidate reaches the accuracy; the message states the best one.
    """
    model = predictor.model
    found = _fewest(predictor, accuracy, evaluation_counts(most))
    if found is None:
        least = min(
            (predictor.predict(recipe) for _, recipe in candidate_recipes(model, most)),
            key=lambda one: one.error,
        )
        raise InputError(
            f"no sampler is predicted to reach an accuracy of {accuracy:g} with at most {most} "
            f"evaluations; the best reaches {least.error:.2g} with {least.evaluations}. Give a "
            "larger accuracy"
        )
    options = [(one, predictor.predict(one)) for _, one in candidate_recipes(model, found)]
    options = sorted(options, key=lambda pair: pair[1].error)
    recipe, predicted = options[0]
    reason = _reason(options, predictor, accuracy)
    return PredictedRecipe(
        recipe.kernel,
        recipe.ladder,
        recipe.steps_per_level,
        recipe.start,
        recipe.final,
        prediction=replace(predicted, reason=reason),
    )


def evaluation_counts(most: int) -> list[int]:
    """Numbers of evaluations that are tried: all from 3 to 13, then about 12 % apart."""
    found = [LEAST_EVALUATIONS]
    while found[-1] < most:
        found.append(min(most, max(found[-1] + 1, round(1.12 * found[-1]))))
    return found


def _fewest(predictor: Predictor, accuracy: float, sizes: list[int]) -> int | None:
    """The first of the sizes at which a candidate reaches the accuracy; None for none.

    The error of a candidate is taken to fall with its evaluations. Candidates that do not reach
    the accuracy just below the best size so far are passed over.
    """
    best = len(sizes)
    for candidate in candidates():

        def reaches(place: int, candidate: Candidate = candidate) -> bool:
            name, options, ladder = candidate
            recipe = candidate_recipe(predictor.model, name, options, ladder, sizes[place])
            return recipe is not None and predictor.predict(recipe).error <= accuracy

        low, high = 0, best - 1
        if best == len(sizes):  # none so far: from below, since large sizes take long
            step = 1
            while step - 1 < high and not reaches(step - 1):
                low, step = step, 2 * step
            high = min(high, step - 1)
        if high < 0 or not reaches(high):
            continue
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if reaches(middle) else (middle + 1, high)
        best = high
    return None if best == len(sizes) else sizes[best]


def _reason(
    options: list[tuple[SamplingRecipe, Prediction]], predictor: Predictor, accuracy: float
) -> str:
    """Why the first of the options was chosen, in a sentence."""
    recipe, best = options[0]
    others: dict[str, float] = {}
    for one, predicted in options[1:]:
        if one.name != recipe.name:
            others.setdefault(one.name, predicted.error)
    shown = ", ".join(f"{name} {error:.2g}" for name, error in list(others.items())[:SHOWN])
    words = (
        f"{recipe.name} is predicted to reach {accuracy:g} with the fewest evaluations, "
        f"{best.evaluations}; at that number the others reach {shown}"
    )
    usual = resolve_sampling(predictor.model)
    if not _is_predictable(usual):
        return words
    given = predictor.predict(usual)
    return f"{words}. The default takes {given.evaluations} for {given.error:.2g}"
