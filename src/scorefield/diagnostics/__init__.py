"""Convergence diagnostics for Langevin sampling.

chains.py      split R-hat and effective sample size of any draws
curvature.py   the largest curvature of a log density, and with it the stable limit of a step
start.py       whether a start matches the prior
report.py      `langevin_report`: a run of chains, level by level, with warnings in words
"""

from .chains import effective_sample_size, r_hat, rank_normalise, split_chains
from .curvature import curvature
from .report import FUNCTIONALS, R_HAT_LIMIT, Level, Report, langevin_report
from .start import start_mismatch

__all__ = [
    "FUNCTIONALS",
    "R_HAT_LIMIT",
    "Level",
    "Report",
    "curvature",
    "effective_sample_size",
    "langevin_report",
    "r_hat",
    "rank_normalise",
    "split_chains",
    "start_mismatch",
]
