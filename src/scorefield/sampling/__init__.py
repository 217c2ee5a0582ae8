"""Drawing samples: the one loop (`driver`), kernels that step (`langevin`, `reverse`, `diffusion`,
`multistep`), the registry of all of them, and
`sample`, which brings them to data units."""

from .api import Record, default_sampler, recipe, sample, working_type
from .diffusion import Euler, Heun, StochasticHeun
from .driver import Event, Kernel, Result, run
from .langevin import MALA, AnnealedLangevin, Langevin
from .multistep import (
    DPMSolver2M,
    DPMSolver2MSDE,
    DPMSolver3M,
    History,
    MatchedSDE,
    Multistep,
    UniPC,
)
from .registry import SAMPLERS, Sampler, find_sampler, named_ladder
from .reverse import Ancestral, ConsistentAnnealed, PredictorCorrector, ReverseSDE

__all__ = [
    "MALA",
    "SAMPLERS",
    "Ancestral",
    "AnnealedLangevin",
    "ConsistentAnnealed",
    "DPMSolver2M",
    "DPMSolver2MSDE",
    "DPMSolver3M",
    "Euler",
    "Event",
    "Heun",
    "History",
    "Kernel",
    "Langevin",
    "MatchedSDE",
    "Multistep",
    "PredictorCorrector",
    "Record",
    "Result",
    "ReverseSDE",
    "Sampler",
    "StochasticHeun",
    "UniPC",
    "default_sampler",
    "find_sampler",
    "named_ladder",
    "recipe",
    "run",
    "sample",
    "working_type",
]
