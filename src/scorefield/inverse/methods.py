"""Methods of restoration: `METHODS` by name.

A method makes a model, a kernel and a recipe of a prior and an observation. There are three kinds:

    posterior models      a score model of x given y, sampled by any kernel (`posteriors`)
    posterior kernels     a kernel that holds the observation (`kernels`), and inpainting
    exact                 independent draws of the posterior of a density in closed form
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import conditions
from ..conditions import Condition
from ..errors import InputError
from ..models import ScoreModel
from ..sampling import Kernel, Projected, SamplingRecipe, resolve_sampling
from ..sampling.recipe import card_recipe
from ..values import one_of
from .kernels import POSTERIOR_KERNELS, PosteriorKernel
from .posteriors import DDNM, DPS, MMPS, TMPD, DiffPIR, PiGDM, Posterior
from .problem import Problem

REDRAWS = ("level", "step")
EVALUATIONS = 100  # of the model a draw, at most, unless the caller wants more
# Options that every method but "exact" passes on to `resolve_sampling`.
SAMPLING_OPTIONS = {
    "nfe": "evaluations of the prior a draw, the final denoising step included",
    "ladder": "noise levels (sigmas) in model units, largest first",
    "levels": "length of the default ladder",
    "steps_per_level": "steps at each noise level",
}
SAMPLER_OPTION = {"sampler": "the sampler of the posterior model, a name of SAMPLERS"}
SAMPLER_OPTIONS = {"sampler_options": "options of the sampler by name, such as {'eta': 3}"}


class Prepared(NamedTuple):
    """What samples the posterior: a model, the kernel that runs, and the recipe it runs by."""

    model: ScoreModel
    kernel: Kernel
    recipe: SamplingRecipe


#: Makes what samples the posterior of a problem with one row a draw.
Prepare = Callable[[ScoreModel, Problem, Mapping[str, Any]], Prepared]


@dataclass(frozen=True)
class Method:
    """A method of restoration.

    Attributes:
        prepare: Maps (model, problem, options) to a model, a kernel and a recipe. The problem is in
            model units, with one row a draw.
        unfit: Returns why a model and a problem do not fit the method, or None.
        help: One line.
        exact_for: For which priors and observations the method is exact.
        approximate_because: Why it is approximate otherwise.
        options: The names of the method's options with one line of help each.
        direct: Whether draws come from a closed form, without a sampler.
    """

    prepare: Prepare
    unfit: Callable[[ScoreModel, Problem], str | None]
    help: str
    exact_for: str = ""
    approximate_because: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    direct: bool = False

    def __call__(self, model: ScoreModel, problem: Problem, options: Mapping[str, Any]) -> Prepared:
        """Check the names of the options, and prepare."""
        self.check_options(options)
        return self.prepare(model, problem, options)

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse options that the method does not have.

        Raises:
            InputError: The message lists the method's options.
        """
        known = {**({} if self.direct else SAMPLING_OPTIONS), **self.options}
        for name in options:
            if name not in known:
                shown = {
                    **known,
                    "guidance": "a scale or a Guidance, as `sample` takes it",
                    "batch": "draws computed at a time",
                }
                listed = "; ".join(f"{key}: {text}" for key, text in shown.items())
                raise InputError(f"the method has no option {name!r}. Options are: {listed}")


def inpainting_projection(
    known: Tensor, mask: Tensor, redraw: str = "level"
) -> Callable[..., Tensor]:
    """The projection of Algorithm 2 (Song and Ermon 2019), for the kernel `Projected`.

    Args:
        known: (B, *event) in model units.
        mask: bool, broadcasts against `known`.
        redraw: Whether the observation's noise is drawn anew each "level" (NCSN's released code)
            or each "step" (NCSNv2's).

    Returns:
        A function (x, sigma, noise) -> x.

    Raises:
        InputError: `redraw` is neither.
    """
    redraw = one_of(redraw, REDRAWS, "redraw")

    def project(x: Tensor, sigma: Tensor, noise: Callable[..., Tensor]) -> Tensor:
        return torch.where(mask, known + sigma.to(x.device, x.dtype) * noise(per=redraw), x)

    return project


def _linear_gaussian(name: str) -> Callable[[ScoreModel, Problem], str | None]:
    """Why a problem with another law or operator does not fit."""

    def unfit(model: ScoreModel, problem: Problem) -> str | None:
        if problem.is_linear_gaussian:
            return None
        return f"{name} needs a linear operator and Gaussian noise"

    return unfit


def _sampling(
    model: ScoreModel,
    options: Mapping[str, Any],
    sampler: str | Kernel,
    usual: int = EVALUATIONS,
) -> SamplingRecipe:
    """The recipe of a method: its options, else the card's noise levels, else the method's own.

    The card's number of evaluations is for its own sampler; a draw of a method takes the usual
    number unless the caller gives a length.
    """
    given = {k: options[k] for k in SAMPLING_OPTIONS if options.get(k) is not None}
    kernel_options = options.get("sampler_options")
    stored = card_recipe(model)
    length = {k: v for k, v in given.items() if k != "ladder" or not isinstance(v, str)}
    if not length:
        given["nfe"] = usual
    langevin = isinstance(sampler, Kernel) and sampler.is_langevin
    if langevin and "nfe" in given and "levels" not in given:
        # A budget below one step a level takes fewer levels.
        most = max(1, int(given["nfe"]) - 1)
        assert isinstance(sampler, Kernel)
        if given.get("ladder") is None and len(sampler.default_ladder(model)) > most:
            given["levels"] = most
    return resolve_sampling(
        model,
        sampler,
        options=kernel_options if isinstance(sampler, str) else None,
        start=stored.get("start", "prior"),
        final="denoise",
        **given,
    )


#: The prior's samplers that a method of each kind takes unless the caller names one.
POSTERIOR_SAMPLER = "ancestral"


def _posterior_method(
    kind: type[Posterior],
    help: str,
    unfit: Callable[[ScoreModel, Problem], str | None],
    options: Mapping[str, str],
) -> Method:
    """The row of a posterior model."""

    def prepare(model: ScoreModel, problem: Problem, given: Mapping[str, Any]) -> Prepared:
        own = {name: given[name] for name in options if name in given}
        posterior = kind(model, problem, **own)
        sampler = given.get("sampler") or POSTERIOR_SAMPLER
        recipe = _sampling(posterior, given, sampler, kind.usual_evaluations)
        return Prepared(posterior, recipe.kernel, recipe)

    every = {**options, **SAMPLER_OPTION, **SAMPLER_OPTIONS}
    return Method(prepare, unfit, help, kind.exact_for, kind.approximate_because, every)


def _kernel_method(kind: type[PosteriorKernel]) -> Method:
    """The row of a posterior kernel."""
    options = kind.option_help

    def prepare(model: ScoreModel, problem: Problem, given: Mapping[str, Any]) -> Prepared:
        own = {name: given[name] for name in options if name in given}
        recipe = _sampling(model, given, kind(problem, **own), kind.usual_evaluations)
        return Prepared(model, recipe.kernel, recipe)

    def unfit(model: ScoreModel, problem: Problem) -> str | None:
        return kind.unfit(problem)

    return Method(prepare, unfit, kind.help, kind.exact_for, kind.approximate_because, options)


def _unfit_for_inpainting(model: ScoreModel, problem: Problem) -> str | None:
    if problem.known is None or not problem.is_linear_gaussian or not problem.is_mask:
        return "inpainting needs operator=Mask(...)"
    if problem.noise_std != 0:
        return (
            "inpainting by projection takes the known part as exact: noise_std must be 0; got "
            f"{problem.noise_std:g} in model units"
        )
    return None


def _inpainting(model: ScoreModel, problem: Problem, options: Mapping[str, Any]) -> Prepared:
    given = {k: options[k] for k in SAMPLING_OPTIONS if options.get(k) is not None}
    stored = card_recipe(model)
    length = {**given, **(stored if stored.get("sampler") == "annealed-langevin" else {})}
    if not any(name in length for name in ("nfe", "steps_per_level", "ladder", "levels")):
        given["nfe"] = EVALUATIONS
    kernel_options = {"epsilon": options["epsilon"]} if "epsilon" in options else None
    recipe = resolve_sampling(model, "annealed-langevin", options=kernel_options, **given)
    assert problem.known is not None
    mask = problem.known.to(problem.y.device)
    project = inpainting_projection(problem.y, mask, options.get("redraw", "level"))
    return Prepared(model, Projected(recipe.kernel, project), recipe)


def _unfit_for_exact(model: ScoreModel, problem: Problem) -> str | None:
    if not model.has_posterior:
        return (
            "exact needs a density whose posterior is known in closed form (sf.exact); got "
            f"{type(model).__name__}"
        )
    return _linear_gaussian("exact")(model, problem)


def _no_sampler(model: ScoreModel, problem: Problem, options: Mapping[str, Any]) -> Prepared:
    raise AssertionError("exact draws have no sampler")


def exact_draws(
    model: ScoreModel, problem: Problem, keys: Tensor, draws: int, condition: Condition | None
) -> Tensor:
    """Independent draws of the exact posterior.

    Args:
        model: A density with `has_posterior`, in model units.
        problem: One row an observation.
        keys: One key an observation, (K, 2).
        draws: Draws of each observation.
        condition: One row an observation, or None.

    Returns:
        (K * draws, *event) in model units, float64.
    """
    found = []
    for n in range(len(problem.y)):
        row = problem.take(torch.tensor([n]))
        posterior: Any = model.posterior(row)
        seed = int(keys[n, 0]) | int(keys[n, 1]) << 32
        label = None if condition is None else condition.get("class")
        if label is None or int(label[n]) == conditions.NULL_CLASS:
            found.append(posterior.sample(draws, seed=seed))
            continue
        if "class" not in posterior.conditions:
            raise InputError(
                f"observation {n} rules out one of the classes, so that its posterior has no "
                "classes; leave the condition out"
            )
        given = {"class": int(label[n])}
        found.append(posterior.sample(draws, seed=seed, condition=given))
    return torch.cat(found)


def _unfit_for_ddnm(model: ScoreModel, problem: Problem) -> str | None:
    reason = _linear_gaussian("ddnm")(model, problem)
    if reason is None and problem.noise_std > 0 and problem.svd() is None:
        reason = (
            "ddnm with noise needs an operator whose singular value decomposition is known, which "
            f"{problem.operator_name} has not"
        )
    return reason


def _unfit_without_information(name: str) -> Callable[[ScoreModel, Problem], str | None]:
    """Why a problem cannot be taken for a Gaussian one."""

    def unfit(model: ScoreModel, problem: Problem) -> str | None:
        if problem.noise is None or problem.noise.has_information:
            return None
        return (
            f"{name} takes the noise for Gaussian about each estimate, for which a log likelihood "
            "given as a function has no Fisher information; use dps, posterior-langevin or daps"
        )

    return unfit


def _always(model: ScoreModel, problem: Problem) -> str | None:
    return None


_PRIOR_STD = {"prior_std": "the prior's standard deviation, model units"}

#: The methods of restoration by name.
METHODS: dict[str, Method] = {
    "exact": Method(
        _no_sampler,
        _unfit_for_exact,
        "Independent draws of the posterior of a density in closed form.",
        "densities of sf.exact, linear operators and Gaussian noise",
        "",
        direct=True,
    ),
    "inpainting": Method(
        _inpainting,
        _unfit_for_inpainting,
        "Annealed Langevin dynamics with the known part projected (Song and Ermon 2019).",
        "unknown elements that do not depend on the known ones",
        "at noise level sigma the known part is drawn as y + sigma z whatever the rest of x is, "
        "and steps are too few for modes to exchange their weights",
        {
            "epsilon": "coefficient of the score at the last level, in squared model units",
            "redraw": "level or step: how often the observation's noise is drawn anew",
        },
    ),
    "mmps": _posterior_method(
        MMPS,
        "Moment matching: the covariance of x0 given x by conjugate gradients through the network "
        "(Rozet et al. 2024).",
        _unfit_without_information("mmps"),
        {
            "iterations": "most iterations of conjugate gradients an evaluation; None: 5 for "
            "measurements of up to 64 elements, else 1",
            "tolerance": "relative residual at which they end",
        },
    ),
    "tmpd": _posterior_method(
        TMPD,
        "Tweedie moment projection: that covariance as a matrix, or its row sums (Boys et al. "
        "2023).",
        _unfit_without_information("tmpd"),
        {"jacobian": "full or row-sum"},
    ),
    "pigdm": _posterior_method(
        PiGDM,
        "Pseudo-inverse guidance: that covariance as a number (Song et al. 2023).",
        _unfit_without_information("pigdm"),
        _PRIOR_STD,
    ),
    "diffpir": _posterior_method(
        DiffPIR,
        "Half-quadratic splitting: a least squares step about each estimate, no derivative (Zhu "
        "et al. 2023).",
        _unfit_without_information("diffpir"),
        {"weight": "lambda; the prior's weight, None for the one that suits its width"},
    ),
    "ddnm": _posterior_method(
        DDNM,
        "Null-space model: what y shows is put in its place, no derivative (Wang et al. 2022).",
        _unfit_for_ddnm,
        {},
    ),
    "dps": _posterior_method(
        DPS,
        "Diffusion posterior sampling: a push along the gradient of the residual (Chung et al. "
        "2023).",
        _always,
        {"zeta": "size of the push", "form": "norm or likelihood"},
    ),
    **{name: _kernel_method(kind) for name, kind in POSTERIOR_KERNELS.items()},
}
