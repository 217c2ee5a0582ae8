"""Plans: noise levels, network and budget for a data set, each with its reason.

    checks      warnings about the data and the range of noise levels
    rows        the lines of the table
    density     noise levels of an exact density
    make        `plan`: all of it

A plan shows what training chooses by itself (`training.choices`), with the reasons, and measures
what training does not need: warnings, cost, the point where single examples decide.
"""

from .checks import Warned
from .make import open_scales, plan, plan_request
from .result import Line, Plan, note_on_other_data, read_settings

__all__ = [
    "Line",
    "Plan",
    "Warned",
    "note_on_other_data",
    "open_scales",
    "plan",
    "plan_request",
    "read_settings",
]
