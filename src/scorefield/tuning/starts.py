"""Starts and where the probability flow takes them: what a method is fitted to and judged by.

A start is a standard normal z, a function of a key. The terminal law at a noise level sigma maps it
to x = m + root(C + sigma²) z, so that one z is a start of every method, wherever its ladder begins.
The *end* of a start is the end of the converged flow from the model's largest noise level.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import conditions, rng
from ..conditions import Condition
from ..errors import InputError
from ..models import Bound, ScoreModel, prior
from ..sampling import (
    SamplingRecipe,
    State,
    first_state,
    resolve_sampling,
    run,
    working_type,
)
from ..sampling.api import BATCH_ELEMENTS
from ..sampling.recipe import default_batch

REFERENCE = 128  # evaluations of the converged flow
Path = list[tuple[float, Tensor]]


@dataclass(frozen=True)
class Batch:
    """Starts that are evaluated together.

    Args:
        model: The model, its condition bound to the rows.
        z: (B, *event) standard normals.
        end: (B, *event) where the converged flow ends.
        half: (B, *event) the same with half the evaluations.
        path: (sigma, x) of the converged flow at its levels; empty where it was not kept.
    """

    model: ScoreModel
    z: Tensor
    end: Tensor
    half: Tensor
    path: Path

    def start(self, sigma: float) -> Tensor:
        """x (B, *event) at a noise level by the terminal law."""
        return prior(self.model, sigma).sample(self.z)

    def distances(self, recipe: SamplingRecipe) -> Tensor:
        """Mean squared distance per element to the end, (B,) float64, for a recipe."""
        done = run(
            recipe.kernel,
            self.model,
            recipe.ladder,
            State(self.start(float(recipe.ladder[0]))),
            recipe.steps_per_level,
            recipe.final,
        )
        return squares(done.x - self.end)


def squares(gap: Tensor) -> Tensor:
    """Mean square of each row, (B,) float64 on the CPU."""
    return gap.flatten(1).double().square().mean(1).cpu()


def reference_recipe(model: ScoreModel, nfe: int = REFERENCE) -> SamplingRecipe:
    """The solver whose results stand for the converged flow: unipc from the largest noise level."""
    return resolve_sampling(
        model, "unipc", nfe, "few-step", start="prior", final="denoise", options={"p": 2}
    )


def tuning_condition(model: ScoreModel, rows: Tensor) -> Condition | None:
    """The conditions of the starts: every class in turn, and none where the model allows it.

    Args:
        model: The model.
        rows: (B,) indices of the starts.

    Returns:
        The condition in the internal form; None for a model without conditions.

    Raises:
        InputError: For a model that needs a vector.
    """
    if not model.conditions:
        return None
    spec = model.conditions.get("class")
    if spec is not None and len(model.conditions) == 1:
        free = 1 if spec.optional else 0
        return conditions.InternalForm({"class": rows % (spec.size + free) - free})
    if all(one.optional for one in model.conditions.values()):
        return None
    raise InputError(
        "this model needs a vector as its condition, and a method is fitted to starts without one "
        "or with classes. Use Bound(model, condition) to fit it to one condition"
    )


def make_batches(
    model: ScoreModel, keys: rng.Keys, first: int = 0, keep_path: bool = False
) -> Iterable[Batch]:
    """Follow the flow from every start, batch by batch.

    Args:
        model: The model.
        keys: One key a start.
        first: Index of the first start, which decides its class.
        keep_path: Whether the states at the levels on the way are kept.

    Yields:
        The batches.
    """
    device, dtype = working_type(model)
    recipe, half = reference_recipe(model), reference_recipe(model, REFERENCE // 2)
    size = default_batch(model, BATCH_ELEMENTS)
    for begin in range(0, len(keys), size):
        part = keys[begin : begin + size].to(device)
        rows = torch.arange(first + begin, first + begin + len(part))
        condition = conditions.to_device(tuning_condition(model, rows), device)
        bound = model if condition is None else Bound(model, condition)
        with torch.no_grad():
            x = first_state(model, recipe, part, dtype, condition)
        z = prior(bound, float(recipe.ladder[0])).whiten(x).reshape(x.shape)
        done = run(recipe.kernel, bound, recipe.ladder, x, trace=keep_path)
        coarse = run(half.kernel, bound, half.ladder, x)
        path = [] if done.trace is None else done.trace[:-1]
        yield Batch(bound, z, done.x, coarse.x, path)
