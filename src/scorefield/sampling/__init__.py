"""Drawing samples: the one loop (`driver`), kernels that step (`langevin`, `diffusion`), and `sample`, which brings them to data units."""

from .api import Record, sample, working_type
from .diffusion import Euler, Heun
from .driver import Event, Kernel, Result, run
from .langevin import AnnealedLangevin, Langevin
from .registry import SAMPLERS, Sampler, find_sampler

__all__ = [
    "SAMPLERS",
    "AnnealedLangevin",
    "Euler",
    "Event",
    "Heun",
    "Kernel",
    "Langevin",
    "Record",
    "Result",
    "Sampler",
    "find_sampler",
    "run",
    "sample",
    "working_type",
]
