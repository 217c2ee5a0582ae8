"""All settings of a run: what a user asks for, and what is resolved."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ..base import Group, chosen
from .data import ConditionConfig, ConditionRequest, DataConfig, DataRequest
from .model import NetworkConfig, NetworkRequest, NoiseConfig, NoiseRequest
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

BUDGET_RULE = "300 where images is not given"


class Request(Group):
    """What a user asks for. None and settings left out are chosen by `resolve`."""

    preset: Annotated[
        str, Field(min_length=1, description="The preset that the settings start from.")
    ] = "fast"
    plan: Annotated[
        Literal["auto", "none"],
        Field(
            description="How a new run chooses what is left open: auto measures the data's "
            "distances and a training step; none takes fixed numbers (sigma from 0.002 to 80)."
        ),
    ] = "auto"
    seed: Annotated[
        int,
        Field(
            ge=0,
            lt=2**63,
            description="Decides the initial weights, the data order and all noise.",
        ),
    ] = 0
    images: Annotated[
        int | None,
        Field(
            ge=1,
            description="Budget in images seen, in place of seconds.",
            json_schema_extra=chosen("by seconds"),
        ),
    ] = None
    seconds: Annotated[
        float | None,
        Field(
            gt=0,
            description="Budget in seconds of wall time, from the command's start to its end.",
            json_schema_extra=chosen(BUDGET_RULE),
        ),
    ] = None
    data: DataRequest = DataRequest()
    condition: ConditionRequest = ConditionRequest()
    network: NetworkRequest = NetworkRequest()
    noise: NoiseRequest = NoiseRequest()
    objective: ObjectiveRequest = ObjectiveRequest()
    optim: OptimRequest = OptimRequest()
    ema: EMARequest = EMARequest()
    guard: GuardRequest = GuardRequest()
    sampling: SamplingRequest = SamplingRequest()
    execution: ExecutionRequest = ExecutionRequest()

    @model_validator(mode="after")
    def _check_budget(self) -> Self:
        if self.images is not None and self.seconds is not None:
            raise ValueError(
                "images and seconds both say how long to train; got "
                f"images={self.images} and seconds={self.seconds:g}. Give one of them"
            )
        return self


class Config(Request):
    """Resolved settings: everything that decides a run's weights, and how the run is carried out.

    Exactly one of `images` and `seconds` is a number; the other one is None.
    """

    data: DataConfig
    condition: ConditionConfig
    network: NetworkConfig
    noise: NoiseConfig
    objective: ObjectiveConfig
    optim: OptimConfig
    ema: EMAConfig
    guard: GuardConfig
    sampling: SamplingConfig
    execution: ExecutionConfig

    @model_validator(mode="after")
    def _check_has_budget(self) -> Self:
        if self.images is None and self.seconds is None:
            raise ValueError("a run needs a budget: images or seconds; got neither")
        return self
