"""Methods of restoration: `METHODS` by name, each of which makes a model, a kernel and a recipe.

Inpainting (Song and Ermon 2019, Algorithm 2) is annealed Langevin dynamics in which, after every
step, the known part is replaced by the observation at the level's noise,

    x <- (1 - m) x + m (y + sigma z).

As published, noise of the last sigma stays everywhere. Here the end is denoised, and `restore` puts
the observed values in place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..errors import InputError
from ..models import ScoreModel
from ..sampling import Kernel, Projected, SamplingRecipe, resolve_sampling
from ..values import one_of
from .measurement import Measurement
from .operators import Mask

REDRAWS = ("level", "step")
# Options that every method passes on to `resolve_sampling`; others are the kernel's own.
SAMPLING_OPTIONS = {
    "nfe": "evaluations of the model a draw, the final denoising step included",
    "ladder": "noise levels (sigmas) in model units, largest first",
    "levels": "length of the default ladder",
    "steps_per_level": "steps at each noise level",
}


class Prepared(NamedTuple):
    """What samples the posterior: a model, the kernel that runs, and the recipe it runs by."""

    model: ScoreModel
    kernel: Kernel
    recipe: SamplingRecipe


class Prepare(Protocol):
    """Makes what samples the posterior of a measurement in model units, one row a draw."""

    def __call__(
        self, model: ScoreModel, measurement: Measurement, options: Mapping[str, Any]
    ) -> Prepared:
        """Prepare the sampling; raises InputError where the options do not fit the model."""
        ...


@dataclass(frozen=True)
class Method:
    """A method of restoration.

    Attributes:
        prepare: Maps (model, measurement, options) to a model, a kernel and a recipe. The
            measurement is in model units, with one row a draw.
        unfit: Returns why a measurement in data units does not fit the method, or None.
        help: One line.
        options: The names of the method's options with one line of help each.
    """

    prepare: Prepare
    unfit: Callable[[Measurement], str | None]
    help: str
    options: Mapping[str, str] = field(default_factory=dict)

    def __call__(
        self, model: ScoreModel, measurement: Measurement, options: Mapping[str, Any]
    ) -> Prepared:
        """Check the names of the options, and prepare."""
        known = {**SAMPLING_OPTIONS, **self.options}
        for name in options:
            if name not in known:
                shown = {**known, "guidance": "a scale or a Guidance, as `sample` takes it"}
                listed = "; ".join(f"{key}: {text}" for key, text in shown.items())
                raise InputError(f"the method has no option {name!r}. Options are: {listed}")
        return self.prepare(model, measurement, options)


def inpainting_projection(
    known: Tensor, mask: Tensor, redraw: str = "level"
) -> Callable[..., Tensor]:
    """The projection of Algorithm 2, for the kernel `Projected`.

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


def _unfit_for_inpainting(measurement: Measurement) -> str | None:
    if measurement.operator is not None and not isinstance(measurement.operator, Mask):
        return f"inpainting needs operator=Mask(...); got {type(measurement.operator).__name__}"
    if measurement.noise_std != 0:
        return (
            "inpainting by projection takes the known part as exact: noise_std must be 0; got "
            f"{measurement.noise_std:g}"
        )
    return None


def _inpainting(
    model: ScoreModel, measurement: Measurement, options: Mapping[str, Any]
) -> Prepared:
    sampling = {name: options[name] for name in SAMPLING_OPTIONS if name in options}
    kernel_options = {"epsilon": options["epsilon"]} if "epsilon" in options else None
    recipe = resolve_sampling(model, "annealed-langevin", options=kernel_options, **sampling)
    assert isinstance(measurement.operator, Mask)
    known: Tensor = measurement.observed
    mask = measurement.operator.on(model.event_shape).to(known.device)
    project = inpainting_projection(known, mask, options.get("redraw", "level"))
    return Prepared(model, Projected(recipe.kernel, project), recipe)


#: The methods of restoration by name.
METHODS: dict[str, Method] = {
    "inpainting": Method(
        _inpainting,
        _unfit_for_inpainting,
        "Annealed Langevin dynamics with the known part projected (Song and Ermon 2019).",
        {
            "epsilon": "coefficient of the score at the last level, in squared model units",
            "redraw": "level or step: how often the observation's noise is drawn anew",
        },
    )
}


def find_method(name: str, measurement: Measurement) -> Method:
    """The method of a name, or the first that fits the measurement for "auto".

    Raises:
        InputError: The name is unknown, or the measurement does not fit.
    """
    name = one_of(name, ("auto", *METHODS), "method")
    candidates = METHODS.values() if name == "auto" else [METHODS[name]]
    reasons = []
    for method in candidates:
        reason = method.unfit(measurement)
        if reason is None:
            return method
        reasons.append(reason)
    raise InputError("; ".join(reasons))
