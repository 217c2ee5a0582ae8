"""Options that several commands share: each is declared once, with its help and its check.

groups.py    sets of options that a command takes as one parameter
settings.py  options that stand for settings, with the settings' own help and ranges
model.py     the model, the seed, and where the arithmetic runs
reading.py   how data are read
output.py    where results go; what is refused before any work
sampling.py  how samples are drawn
guidance.py  what samples are conditioned on, and how strongly
restoring.py what was measured, and how it is restored
"""

from .groups import with_groups
from .guidance import Condition
from .model import (
    Compile,
    Device,
    Execution,
    NetworkFile,
    Precision,
    Run,
    Seed,
    Threads,
    execution_request,
)
from .output import (
    Force,
    Out,
    check_file,
    check_folder,
    existing,
    refuse_existing,
    remove_stale,
)
from .reading import Reading
from .restoring import method_table, parse_kernel
from .sampling import (
    Accuracy,
    Final,
    LadderText,
    Levels,
    Nfe,
    Sampler,
    SamplerOptions,
    SamplingOptions,
    Start,
    StepsPerLevel,
    parse_ladder,
    parse_numbers,
    parse_options,
    prediction_line,
    sampler_table,
)
from .settings import setting_option

__all__ = [
    "Accuracy",
    "Compile",
    "Condition",
    "Device",
    "Execution",
    "Final",
    "Force",
    "LadderText",
    "Levels",
    "NetworkFile",
    "Nfe",
    "Out",
    "Precision",
    "Reading",
    "Run",
    "Sampler",
    "SamplerOptions",
    "SamplingOptions",
    "Seed",
    "Start",
    "StepsPerLevel",
    "Threads",
    "check_file",
    "check_folder",
    "execution_request",
    "existing",
    "method_table",
    "parse_kernel",
    "parse_ladder",
    "parse_numbers",
    "parse_options",
    "prediction_line",
    "refuse_existing",
    "remove_stale",
    "sampler_table",
    "setting_option",
    "with_groups",
]
