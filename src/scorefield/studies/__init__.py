"""Studies that others can repeat: which sampler, at which number of evaluations, on which density.

`problems` names the densities, `entrants` the samplers, `study` measures, `report` writes tables.
"""

from .entrants import Entrant, read_entrant
from .problems import PROBLEMS, Problem, exact_problem, run_problem
from .samplers import SamplerStudy, benchmark_samplers
from .study import FULL, QUICK, Protocol

__all__ = [
    "FULL",
    "PROBLEMS",
    "QUICK",
    "Entrant",
    "Problem",
    "Protocol",
    "SamplerStudy",
    "benchmark_samplers",
    "exact_problem",
    "read_entrant",
    "run_problem",
]
