"""The groups of settings: each field is declared, ranged and described once.

A group has two classes. `XRequest` holds what a user requests; None means "choose for me".
`XConfig` is resolved: the fields that `resolve` chooses have types without None. A field allows
None in both classes where its value may be absent.
"""

from .data import ConditionConfig, ConditionRequest, DataConfig, DataRequest
from .model import (
    SIGMA_DATA,
    SIGMA_MAX,
    SIGMA_MIN,
    NetworkConfig,
    NetworkRequest,
    NoiseConfig,
    NoiseRequest,
)
from .running import ExecutionConfig, ExecutionRequest, SamplingConfig, SamplingRequest
from .training import (
    EMAConfig,
    EMARequest,
    GuardConfig,
    GuardRequest,
    ObjectiveConfig,
    ObjectiveRequest,
    OptimConfig,
    OptimRequest,
)
from .whole import Config, Request

__all__ = [
    "SIGMA_DATA",
    "SIGMA_MAX",
    "SIGMA_MIN",
    "ConditionConfig",
    "ConditionRequest",
    "Config",
    "DataConfig",
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
    "SamplingConfig",
    "SamplingRequest",
]
