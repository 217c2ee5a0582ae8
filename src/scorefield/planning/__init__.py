"""Plans: noise levels, network and budget for a data set, each with its reason.

    distances   between training examples, and the scales that follow from them
    checks      warnings about the data and the range of noise levels
    cost        parameters, memory and time from one measured training step
    rows        the lines of the table
    density     noise levels of an exact density
    make        `plan`: all of it; the settings come from `config.resolve_with_reasons`

A plan is what `config.resolve` chooses where it knows the data's distances (`DataFacts.scales`).
"""

from .checks import Warned
from .make import auto_settings, open_scales, plan, plan_request
from .result import Line, Plan, read_settings

__all__ = [
    "Line",
    "Plan",
    "Warned",
    "auto_settings",
    "open_scales",
    "plan",
    "plan_request",
    "read_settings",
]
