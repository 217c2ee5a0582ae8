"""Measurement operators: `sf.operators`."""

from .adapted import Adapted, LinearFunction, adapt
from .base import SVD, Operator
from .check import OperatorReport, check_operator, quick_check
from .colour import Grey, MixChannels
from .combined import Composition, Identity, PerElement, Scaled, Stacked
from .filters import PADDINGS, Blur, gaussian_kernel, motion_kernel
from .fourier import Fourier, cartesian_mask, half_plane
from .mask import Mask
from .matrix import Matrix, RandomProjection
from .nonlinear import Clip, Function, PhaseRetrieval, Quantise
from .radon import Radon
from .registry import OPERATORS, OperatorInfo
from .sampling import Downsample
from .unit_maps import Composed, Rescaled

__all__ = [
    "OPERATORS",
    "PADDINGS",
    "SVD",
    "Adapted",
    "Blur",
    "Clip",
    "Composed",
    "Composition",
    "Downsample",
    "Fourier",
    "Function",
    "Grey",
    "Identity",
    "LinearFunction",
    "Mask",
    "Matrix",
    "MixChannels",
    "Operator",
    "OperatorInfo",
    "OperatorReport",
    "PerElement",
    "PhaseRetrieval",
    "Quantise",
    "Radon",
    "RandomProjection",
    "Rescaled",
    "Scaled",
    "Stacked",
    "adapt",
    "cartesian_mask",
    "check_operator",
    "gaussian_kernel",
    "half_plane",
    "motion_kernel",
    "quick_check",
]
