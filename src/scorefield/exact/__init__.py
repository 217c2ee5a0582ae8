"""Densities whose smoothed score is known in closed form.

Methods are tested on these densities, whose scores have no error. All of them are score models
computed in float64. Independent draws (`sample`) have a random stream of their own, so that they
are independent of a sampler's draws of the same seed.
"""

from .box import Box
from .empirical import Empirical
from .mixtures import Gaussian, GaussianMixture

__all__ = ["Box", "Empirical", "Gaussian", "GaussianMixture"]
