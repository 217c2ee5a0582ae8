"""Densities whose smoothed score is known in closed form.

What is claimed of a method is shown here before a network is trusted with it. All of them are score
models computed in float64; independent draws (`sample`) have a random stream of their own, so that
a sampler started from the same seed shares nothing with them.
"""

from .box import Box
from .empirical import Empirical
from .mixtures import Gaussian, GaussianMixture

__all__ = ["Box", "Empirical", "Gaussian", "GaussianMixture"]
