"""Posterior models: a prior with an observation, again a score model."""

from .base import Posterior, Report
from .dps import DPS
from .gaussian import DDNM, MMPS, TMPD, DiffPIR, PiGDM

__all__ = ["DDNM", "DPS", "MMPS", "TMPD", "DiffPIR", "PiGDM", "Posterior", "Report"]
