"""Posterior kernels: sampling methods that hold an observation and draw x0 given it."""

from .base import PosteriorKernel
from .daps import DAPS
from .ddrm import DDRM
from .langevin import PosteriorLangevin

#: The kernels by the name of their method.
POSTERIOR_KERNELS: dict[str, type[PosteriorKernel]] = {
    "posterior-langevin": PosteriorLangevin,
    "ddrm": DDRM,
    "daps": DAPS,
}

__all__ = [
    "DAPS",
    "DDRM",
    "POSTERIOR_KERNELS",
    "PosteriorKernel",
    "PosteriorLangevin",
]
