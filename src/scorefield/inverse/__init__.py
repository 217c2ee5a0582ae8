"""Inverse problems: what was measured, by which operator, and draws of what it may have been."""

from . import operators
from .measurement import Measurement
from .restore import Restoration, inpainting_projection, left_half, restore

__all__ = [
    "Measurement",
    "Restoration",
    "inpainting_projection",
    "left_half",
    "operators",
    "restore",
]
