"""Inverse problems: a measurement, its operator and noise, and draws of what was measured."""

from . import operators
from .choose import choose_method
from .measurement import Measurement, simulate
from .methods import METHODS, Method, Prepared, inpainting_projection
from .noises import (
    GaussianNoise,
    LogLikelihood,
    Noise,
    PoissonGaussianNoise,
    PoissonNoise,
    RicianNoise,
)
from .operators import Operator as Operator  # listed by operators, for the manual once
from .operators import check_operator
from .posteriors import Posterior
from .problem import Problem
from .record import RestorationRecord
from .restore import RestorationPlan, left_half, plan_restoration, restore
from .result import Restoration

__all__ = [
    "METHODS",
    "GaussianNoise",
    "LogLikelihood",
    "Measurement",
    "Method",
    "Noise",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "Posterior",
    "Prepared",
    "Problem",
    "Restoration",
    "RestorationPlan",
    "RestorationRecord",
    "RicianNoise",
    "check_operator",
    "choose_method",
    "inpainting_projection",
    "left_half",
    "operators",
    "plan_restoration",
    "restore",
    "simulate",
]
