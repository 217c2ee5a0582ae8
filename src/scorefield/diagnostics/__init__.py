"""Diagnostics: whether Langevin chains converged, and whether a score was learned.

chains.py      split R-hat and effective sample size of any draws
curvature.py   the largest curvature of a log density, and with it the stable limit of a step
start.py       whether a start matches the prior
report.py      `langevin_report`: a run of chains, level by level, with warnings in words
baselines.py   two normal distributions that a model is measured against
copies.py      the nearest training examples of samples, and which samples are copies
health.py      `score_health`: losses, identities and faults of a score, by noise level
"""

from .chains import effective_sample_size, r_hat, rank_normalise, split_chains
from .curvature import curvature
from .health import Health, health_levels, score_health
from .health_rows import HealthRow
from .health_verdicts import Finding
from .report import FUNCTIONALS, R_HAT_LIMIT, Level, Report, langevin_report
from .start import start_mismatch

__all__ = [
    "FUNCTIONALS",
    "R_HAT_LIMIT",
    "Finding",
    "Health",
    "HealthRow",
    "Level",
    "Report",
    "curvature",
    "effective_sample_size",
    "health_levels",
    "langevin_report",
    "r_hat",
    "rank_normalise",
    "score_health",
    "split_chains",
    "start_mismatch",
]
