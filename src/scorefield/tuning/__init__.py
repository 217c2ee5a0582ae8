"""Tuning: a sampler for few evaluations, fitted to one model's own probability flow.

    starts     starts, and where the converged flow takes them
    unrolled   the method with its parameters, run step by step
    search     noise levels, and coefficients by least squares step by step
    refine     all of them together, on the end of the flow
    make       `tune`: the parts in turn, and the judgement on starts that no fit has seen
    result     what it gains, and its place in the model card

The method itself is `sampling.Tuned`.
"""

from .make import Tuner, tune
from .picture import save_tuning_picture
from .result import Judged, Tuning

__all__ = ["Judged", "Tuner", "Tuning", "save_tuning_picture", "tune"]
