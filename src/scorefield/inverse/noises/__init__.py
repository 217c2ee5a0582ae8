"""Laws of the noise of an observation."""

from .base import Gaussianised, LogLikelihood, Noise, gaussianise
from .counts import PoissonGaussianNoise, PoissonNoise
from .gaussian import GaussianNoise
from .rician import RicianNoise

__all__ = [
    "GaussianNoise",
    "Gaussianised",
    "LogLikelihood",
    "Noise",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "RicianNoise",
    "gaussianise",
]
