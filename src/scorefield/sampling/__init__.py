"""Sampling: kernels (one step of a method), the loop that runs them, and `sample`.

`kernel` and `state` are the interface of a method; `langevin`, `reverse`, `diffusion`,
`multistep`, `adams` and `tuned` hold the methods; `registry` names them; `recipe` chooses what is
left open; `accuracy` and `autopilot` choose for a wanted accuracy, on `surrogates`; `loop` runs
a kernel down a ladder; `api` brings samples to data units.
"""

from .accuracy import resolve_accuracy
from .adams import IPNDM, DataAdams, NoiseAdams, VelocityAdams
from .api import draw, sample, working_type
from .autopilot import PredictedRecipe, Prediction, predict_error
from .diffusion import Euler, Heun, StochasticHeun
from .kernel import Kernel, Projected
from .ladders import named_ladder
from .langevin import MALA, AnnealedLangevin, Langevin
from .loop import Result, StepEvent, run
from .multistep import (
    DPMSolver2M,
    DPMSolver2MSDE,
    DPMSolver3M,
    History,
    MatchedSDE,
    Multistep,
    UniPC,
)
from .recipe import SamplingRecipe, default_sampler, first_state, resolve_sampling, with_kernel
from .registry import SAMPLERS, find_sampler, make_kernel, sampler_name
from .results import Record, Samples
from .reverse import Ancestral, ConsistentAnnealed, PredictorCorrector, ReverseSDE
from .state import Draws, State
from .tuned import Tuned, tuned_kernel

__all__ = [
    "IPNDM",
    "MALA",
    "SAMPLERS",
    "Ancestral",
    "AnnealedLangevin",
    "ConsistentAnnealed",
    "DPMSolver2M",
    "DPMSolver2MSDE",
    "DPMSolver3M",
    "DataAdams",
    "Draws",
    "Euler",
    "Heun",
    "History",
    "Kernel",
    "Langevin",
    "MatchedSDE",
    "Multistep",
    "NoiseAdams",
    "PredictedRecipe",
    "Prediction",
    "PredictorCorrector",
    "Projected",
    "Record",
    "Result",
    "ReverseSDE",
    "Samples",
    "SamplingRecipe",
    "State",
    "StepEvent",
    "StochasticHeun",
    "Tuned",
    "UniPC",
    "VelocityAdams",
    "default_sampler",
    "draw",
    "find_sampler",
    "first_state",
    "make_kernel",
    "named_ladder",
    "predict_error",
    "resolve_accuracy",
    "resolve_sampling",
    "run",
    "sample",
    "sampler_name",
    "tuned_kernel",
    "with_kernel",
    "working_type",
]
