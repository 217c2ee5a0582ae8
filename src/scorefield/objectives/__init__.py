"""Training objectives: one loss per example, the mean over the example's elements.

Training should minimise the Fisher divergence to the smoothed density p_sigma of x = x0 + sigma z.
With d elements an example and everything taken at sigma,

    F = 1/2 E |grad log p_sigma(x) - s(x)|²,    G = E |grad log p_sigma(x)|²  (no model changes it)

F contains the unknown score. The losses below do not, and equal lambda(sigma)/d times F up to a
constant:

    name        per example, times lambda/d                        expectation            passes
    denoising   1/2 |s(x) + z/sigma|²                              F - G/2 + d/(2 sigma²)  1
    exact       tr(grad s) + 1/2 |s|²                              F - G/2                1 + d
    sliced      mean over slices of v'(grad s)v + 1/2 (v's)²       F - G/2                1 + slices
    sliced-vr   mean over slices of v'(grad s)v, + 1/2 |s|²        F - G/2                1 + slices
    energy      denoising, of a model whose score is -grad energy  as denoising           2

Sources: denoising Vincent 2011; exact Hyvärinen 2005; sliced and sliced-vr Song et al. 2019; energy
Song & Kingma 2021. Slices v have E[vv'] = I: signs, normals, or the sphere of radius sqrt(d).
sigma may differ from example to example: one value gives one density, the levels of a ladder give
Song & Ermon's weighted sum. At sigma = 0, where the model answers there, the implicit forms (exact,
sliced, sliced-vr) are those of the clean data; denoising needs sigma > 0.
"""

import dataclasses
from typing import Any

from ..errors import InputError
from ..values import one_of
from .base import SCORE_WEIGHTS, WEIGHTS, Objective, Weight
from .denoising import Denoising, EnergyDenoising
from .implicit import PROBES, Exact, Implicit, Sliced, SlicedVR
from .measures import Estimate, fisher_divergence, mean_loss

__all__ = [
    "OBJECTIVES",
    "PROBES",
    "SCORE_WEIGHTS",
    "WEIGHTS",
    "Denoising",
    "EnergyDenoising",
    "Estimate",
    "Exact",
    "Implicit",
    "Objective",
    "Sliced",
    "SlicedVR",
    "Weight",
    "fisher_divergence",
    "make_objective",
    "mean_loss",
]

#: The objectives by name.
OBJECTIVES: dict[str, type[Objective]] = {
    "denoising": Denoising,
    "sliced": Sliced,
    "sliced-vr": SlicedVR,
    "exact": Exact,
    "energy": EnergyDenoising,
}


def make_objective(
    name: str, weight: str | Weight | None = None, sigma_data: float = 0.5, **options: Any
) -> Objective:
    """An objective by name.

    Args:
        name: A name of OBJECTIVES.
        weight: A name of WEIGHTS or a function; None: edm for denoising and energy, ncsn for the
            implicit forms (see `implicit`).
        sigma_data: The data's standard deviation in model units.
        options: The objective's own settings: control_variate; slices, probe; limit.

    Returns:
        The objective.

    Raises:
        InputError: For a name or a setting that does not exist.
    """
    name = one_of(name, OBJECTIVES, "objective")
    kind = OBJECTIVES[name]
    known = [f.name for f in dataclasses.fields(kind) if f.name not in ("weight", "sigma_data")]
    for key in options.keys() - set(known):
        raise InputError(
            f"the {name} objective has no setting {key}; it has "
            f"{', '.join(known) or 'none but the weight'}"
        )
    if weight is not None:
        options["weight"] = weight
    return kind(sigma_data=sigma_data, **options)
