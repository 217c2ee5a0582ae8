"""Settings: what a user asks for (`Request`), and what a run does (`Config`).

    preset("fast")  ->  override(request, ["optim.lr=1e-3"])  ->  resolve(request, facts)

A request leaves settings open; None means "choose for me". `resolve` chooses them from facts about
the data. Every setting is declared once, in `groups`, with its type, range and description, and
every invalid value is an InputError that names the setting. An explicit 0 is a value.
"""

from ..values import parse_count, parse_seconds
from .assign import override
from .compare import differences, keep_open
from .describe import Setting, json_schema, settings
from .facts import DataFacts, Scales
from .groups.data import ConditionConfig, ConditionRequest, DataConfig, DataRequest
from .groups.model import NetworkConfig, NetworkRequest, NoiseConfig, NoiseRequest
from .groups.running import ExecutionConfig, ExecutionRequest, SamplingConfig, SamplingRequest
from .groups.training import (
    EMAConfig,
    EMARequest,
    GuardConfig,
    GuardRequest,
    ObjectiveConfig,
    ObjectiveRequest,
    OptimConfig,
    OptimRequest,
)
from .groups.whole import Config, Request
from .presets import PRESETS, preset
from .resolve import Resolution, resolve, resolve_with_reasons

__all__ = [
    "PRESETS",
    "ConditionConfig",
    "ConditionRequest",
    "Config",
    "DataConfig",
    "DataFacts",
    "DataRequest",
    "EMAConfig",
    "EMARequest",
    "ExecutionConfig",
    "ExecutionRequest",
    "GuardConfig",
    "GuardRequest",
    "NetworkConfig",
    "NetworkRequest",
    "NoiseConfig",
    "NoiseRequest",
    "ObjectiveConfig",
    "ObjectiveRequest",
    "OptimConfig",
    "OptimRequest",
    "Request",
    "Resolution",
    "SamplingConfig",
    "SamplingRequest",
    "Scales",
    "Setting",
    "differences",
    "json_schema",
    "keep_open",
    "override",
    "parse_count",
    "parse_seconds",
    "preset",
    "resolve",
    "resolve_with_reasons",
    "settings",
]
