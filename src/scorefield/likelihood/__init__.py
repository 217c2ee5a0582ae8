"""Likelihood of a score model by the probability flow.

flow.py      the ordinary differential equation, its divergence and the solver
api.py       `log_prob`
results.py   result types: nats, and bits per dimension of quantised data
"""

from .api import (
    DIVERGENCES,
    EXACT_UP_TO,
    PROBES,
    Density,
    LikelihoodOptions,
    SmoothedDensity,
    log_prob,
)
from .results import BitsPerDim, LogProb, Values, bits_per_dim, ranks

__all__ = [
    "DIVERGENCES",
    "EXACT_UP_TO",
    "PROBES",
    "BitsPerDim",
    "Density",
    "LikelihoodOptions",
    "LogProb",
    "SmoothedDensity",
    "Values",
    "bits_per_dim",
    "log_prob",
    "ranks",
]
