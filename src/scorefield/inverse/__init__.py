"""Inverse problems: a measurement, its operator, and draws of what was measured."""

from . import operators
from .measurement import Measurement, simulate
from .methods import METHODS, Method, Prepared, inpainting_projection
from .operators import Operator
from .restore import left_half, restore
from .result import Restoration

__all__ = [
    "METHODS",
    "Measurement",
    "Method",
    "Operator",
    "Prepared",
    "Restoration",
    "inpainting_projection",
    "left_half",
    "operators",
    "restore",
    "simulate",
]
