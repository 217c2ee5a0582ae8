"""Drawing samples: the one loop (`driver`), kernels that step (`langevin`, `diffusion`), and `sample`, which brings them to data units."""

from .api import SAMPLERS, Record, Sampler, find_sampler, sample, sample_with_record, working_type
from .diffusion import Euler, Heun
from .driver import Event, Kernel, Result, run
from .langevin import AnnealedLangevin, Langevin

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
    "sample_with_record",
    "working_type",
]
