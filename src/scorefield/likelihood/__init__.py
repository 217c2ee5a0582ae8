"""log p of a score model by the probability flow: `flow` (the ordinary differential equation and
its divergence), `api` (`log_prob`), `results`.
"""

from .api import DIVERGENCES, EXACT_UP_TO, PROBES, Law, log_prob
from .results import BitsPerDim, LogProb, bits_per_dim

__all__ = [
    "DIVERGENCES",
    "EXACT_UP_TO",
    "PROBES",
    "BitsPerDim",
    "Law",
    "LogProb",
    "bits_per_dim",
    "log_prob",
]
