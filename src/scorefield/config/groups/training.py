"""Settings of the objective, the optimiser, the averages of weights and the guard."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ..base import Group, chosen

Weight = Annotated[
    Literal["edm", "ncsn", "fisher"],
    Field(
        description="Weight of the loss over sigma: edm, ncsn or fisher.",
        json_schema_extra=chosen("edm for denoising and energy, ncsn for the others"),
    ),
]


class ObjectiveRequest(Group):
    """The training loss and its weight over sigma."""

    group = "objective"

    name: Annotated[
        Literal["denoising", "sliced", "sliced-vr", "exact", "energy"],
        Field(
            description="The loss: denoising score matching; sliced, sliced-vr (variance reduced) "
            "or exact score matching; energy, denoising for a model with a log density."
        ),
    ] = "denoising"
    weight: Weight | None = None
    control_variate: Annotated[
        bool,
        Field(
            description="denoising, energy: reduce the variance at small sigma, for twice the work."
        ),
    ] = False
    slices: Annotated[
        int, Field(ge=1, description="sliced, sliced-vr: number of slices for each example.")
    ] = 1
    probe: Annotated[
        Literal["rademacher", "gaussian", "sphere"],
        Field(description="sliced, sliced-vr: distribution of the slices."),
    ] = "rademacher"
    energy: Annotated[
        Literal["square", "scalar"],
        Field(
            description="energy: form of the energy f, square (|x - f(x)|²) or scalar (the sum "
            "of the network's outputs)."
        ),
    ] = "square"


class ObjectiveConfig(ObjectiveRequest):
    """Resolved objective settings."""

    weight: Weight


LARGEST_POWER_WIDTH = 0.28  # the power profile's relative width is below 1/sqrt(12), about 0.2887

OptimiserName = Annotated[
    Literal["adam", "adamw", "muon"],
    Field(
        description="Optimiser.",
        json_schema_extra=chosen(
            "muon for signals, images and volumes, adamw for vectors and custom networks"
        ),
    ),
]
BatchSize = Annotated[
    int,
    Field(
        ge=1,
        description="Images (examples) per step.",
        json_schema_extra=chosen(
            "64 for signals, images and volumes, 1024 for vectors; fewer in short budgets"
        ),
    ),
]
Decay = Annotated[
    Literal["constant", "cosine", "linear"],
    Field(
        description="Learning rate over the budget: constant, or cosine or linear down to 0.",
        json_schema_extra=chosen("linear for signals, images and volumes, cosine for vectors"),
    ),
]


class OptimRequest(Group):
    """The optimiser and its schedule, which follows images seen."""

    group = "optim"

    name: OptimiserName | None = None
    batch: BatchSize | None = None
    lr: Annotated[float, Field(gt=0, description="Learning rate.")] = 2e-3
    muon_scale: Annotated[
        float,
        Field(gt=0, description="muon: learning rate of the body's matrices, in units of lr."),
    ] = 25.0
    beta1: Annotated[
        float, Field(ge=0, lt=1, description="Decay of the gradients' average, per step.")
    ] = 0.9
    beta2: Annotated[
        float, Field(ge=0, lt=1, description="Decay of the squared gradients' average, per step.")
    ] = 0.99
    eps: Annotated[
        float, Field(gt=0, description="Added to the root of the squared gradients' average.")
    ] = 1e-8
    weight_decay: Annotated[
        float, Field(ge=0, description="adamw, muon: decoupled weight decay, in units of lr.")
    ] = 0.0
    warmup: Annotated[
        int, Field(ge=0, description="Images until the learning rate reaches lr; 0 = none.")
    ] = 5_000
    decay: Decay | None = None
    clip: Annotated[
        float, Field(ge=0, description="Largest norm of the gradient; 0 = no clipping.")
    ] = 1.0
    accumulate: Annotated[
        int,
        Field(
            ge=1,
            description="Parts that a batch is split into, one after the other, to save memory.",
        ),
    ] = 1

    @model_validator(mode="after")
    def _check_accumulate(self) -> Self:
        if self.batch is not None and self.accumulate > self.batch:
            raise ValueError(
                f"optim.accumulate must be at most optim.batch; got {self.accumulate} parts of "
                f"{self.batch} images"
            )
        return self


class OptimConfig(OptimRequest):
    """Resolved optimiser settings."""

    name: OptimiserName
    batch: BatchSize
    decay: Decay

    @model_validator(mode="after")
    def _check_weight_decay(self) -> Self:
        if self.name == "adam" and self.weight_decay > 0:
            raise ValueError(
                "optim.name=adam has no decoupled weight decay; got optim.weight_decay="
                f"{self.weight_decay:g}. Use optim.name=adamw"
            )
        return self


class EMARequest(Group):
    """Averages of the weights over training. The first profile is the model that is saved."""

    group = "ema"

    kind: Annotated[
        Literal["power", "halflife"],
        Field(
            description="power: windows of constant relative width (Karras et al. 2024); halflife: "
            "exponential averages."
        ),
    ] = "power"
    profiles: Annotated[
        tuple[Annotated[float, Field(ge=0)], ...],
        Field(
            min_length=1,
            description="One average for each value. power: relative standard deviation of the "
            "window, in (0, 0.28); halflife: images until a weight counts half, 0 = the live "
            "weights.",
        ),
    ] = (0.02, 0.10)
    warmup: Annotated[
        float,
        Field(
            ge=0,
            description="halflife: the halflife is at most this fraction of the images seen; 0 = "
            "no limit.",
        ),
    ] = 0.05
    snapshots: Annotated[
        int,
        Field(
            ge=0,
            description="power: copies of the averages kept over the run, from which other widths "
            "can be rebuilt; 0 = none.",
        ),
    ] = 8

    @model_validator(mode="after")
    def _check_profiles(self) -> Self:
        if self.kind == "power":
            for width in self.profiles:
                if not 0 < width < LARGEST_POWER_WIDTH:
                    raise ValueError(
                        f"ema.profiles must lie in (0, {LARGEST_POWER_WIDTH:g}) for "
                        f"ema.kind=power; got {width:g}"
                    )
        return self


class EMAConfig(EMARequest):
    """Resolved settings of the averages."""


class GuardRequest(Group):
    """What happens when a loss or a gradient is not finite. Such a step is never applied."""

    group = "guard"

    action: Annotated[
        Literal["stop", "skip"], Field(description="stop the run, or skip the step.")
    ] = "stop"
    limit: Annotated[
        int, Field(ge=0, description="skip: number of skipped steps after which the run stops.")
    ] = 20


class GuardConfig(GuardRequest):
    """Resolved settings of the guard."""
