"""Densities whose smoothed score is known in closed form.

Methods are tested on these densities, whose scores have no error. All of them are score models
computed in float64. Independent draws (`sample`) have a random stream of their own, so that they
are independent of a sampler's draws of the same seed.

`posterior(observation)` is the density of x0 given a linear observation with Gaussian noise, again
an exact density, and `log_evidence(observation)` is log p(y). `LinearGaussian` is the observation.
"""

from .box import Box
from .empirical import Empirical
from .linear import HasLinearGaussian, LinearGaussian, Observation
from .mixtures import Gaussian, GaussianMixture
from .truncated import TruncatedNormal

#: Every exact density, for isinstance: all have `posterior`, `log_evidence`, `sample`, `log_prob`.
ExactDensity = GaussianMixture | Empirical | TruncatedNormal

__all__ = [
    "Box",
    "Empirical",
    "ExactDensity",
    "Gaussian",
    "GaussianMixture",
    "HasLinearGaussian",
    "LinearGaussian",
    "Observation",
    "TruncatedNormal",
]
