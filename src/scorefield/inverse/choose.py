"""The method of restoration where the caller names none, with the reason in words."""

from typing import NamedTuple

from ..errors import InputError
from ..models import ScoreModel
from ..values import one_of
from .methods import METHODS
from .problem import Problem


class Chosen(NamedTuple):
    """A method of `METHODS` and why it was chosen.

    Attributes:
        name: Its name.
        reason: Why, in words that follow "method NAME:"; "" where the caller named it.
    """

    name: str
    reason: str


def choose_method(name: str, model: ScoreModel, problem: Problem, sampled: bool = False) -> Chosen:
    """The method of a name, or one that suits the observation for "auto".

    Args:
        name: A name of METHODS, or "auto".
        model: The prior.
        problem: The observation in model units.
        sampled: Whether the caller gave options of a sampler, which exact draws do not have.

    Returns:
        The method and the reason.

    Raises:
        InputError: The name is unknown, or the observation does not fit the method.
    """
    name = one_of(name, ("auto", *METHODS), "method")
    if name != "auto":
        reason = METHODS[name].unfit(model, problem)
        if reason is not None:
            raise InputError(f"method={name!r} does not fit: {reason}")
        return Chosen(name, "")
    reasons = []
    for candidate, why in _suited(model, problem, sampled):
        reason = METHODS[candidate].unfit(model, problem)
        if reason is None:
            return Chosen(candidate, why)
        reasons.append(reason)
    raise InputError("no method of restoration fits: " + "; ".join(reasons))


def _suited(model: ScoreModel, problem: Problem, sampled: bool) -> list[tuple[str, str]]:
    """Methods in the order in which they suit an observation, with the reasons."""
    if problem.noise is not None and not problem.noise.has_information:
        return [
            ("daps", "it takes any differentiable likelihood"),
            ("dps", "it takes any differentiable likelihood"),
        ]
    found = []
    if model.has_posterior and problem.is_linear_gaussian and not sampled:
        found.append(("exact", "the posterior of this density is known in closed form"))
    size = problem.y[0].numel()
    if problem.is_linear_gaussian:
        what = f"{size:,} linear measurements with Gaussian noise"
    elif problem.noise is None:
        what = f"{size:,} measurements that are not linear, linearised about each estimate"
    else:
        what = f"{size:,} measurements whose noise is not Gaussian, one scoring step an estimate"
    # Measured: docs/restore.md for networks of images, docs/benchmarks.md for mixtures.
    few = ("mmps", f"{what}; on densities with a known posterior it comes closest to it")
    many = ("pigdm", f"{what}; on images it comes closest to the truth at the least cost")
    return [*found, *((many, few) if model.units.image else (few, many))]
