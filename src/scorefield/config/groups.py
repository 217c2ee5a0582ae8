"""The groups of settings: each field is declared, ranged and described once.

A group has two classes. `XRequest` holds what a user requests; None means "choose for me".
`XConfig` is resolved: the fields that `resolve` chooses have types without None. A field allows
None in both classes where its value may be absent.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from .base import Group

LARGEST_POWER_WIDTH = 0.28  # the power profile's relative width is below 1/sqrt(12), about 0.2887


def chosen(rule: str) -> dict[str, Any]:
    """Mark a field that `resolve` chooses where it is None; `rule` describes the choice."""
    return {"chosen": rule}


# -- data and condition


class DataRequest(Group):
    """Where the data come from and how they reach model units."""

    group = "data"

    source: Annotated[
        str,
        Field(
            min_length=1,
            description="A name (digits, mnist5k, mixture, moons, ring, spiral, checkerboard), a "
            "folder of images, an array (.npy, .npz) or a table (.csv, .tsv, .txt, .parquet).",
        ),
    ] = "mnist5k"
    size: Annotated[
        int | None,
        Field(
            ge=1,
            description="Side of the images of a folder in pixels: the shorter side is resized, "
            "the centre is cut out.",
            json_schema_extra=chosen("as stored"),
        ),
    ] = None
    channels: Annotated[
        int | None,
        Field(
            ge=1,
            description="Number of channels: 1 grey, 3 RGB for the images of a folder; for an "
            "array the length of its channel axis.",
            json_schema_extra=chosen("as stored"),
        ),
    ] = None
    key: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Name of the array in an .npz.",
            json_schema_extra=chosen("found in the file"),
        ),
    ] = None
    image: Annotated[
        bool | None,
        Field(
            description="Whether the examples of an array are images with values in [0, 1].",
            json_schema_extra=chosen("decided by type, shape and range"),
        ),
    ] = None
    channels_last: Annotated[
        bool | None,
        Field(
            description="Whether the last axis of an array holds the channels (false: the first "
            "one after the examples).",
            json_schema_extra=chosen("read off the shape where it is clear"),
        ),
    ] = None
    range: Annotated[
        tuple[float, ...] | None,
        Field(
            min_length=2,
            max_length=2,
            description="Smallest and largest value that images can take, such as 0,4095; it maps "
            "to [0, 1].",
            json_schema_extra=chosen("read off the type and the values"),
        ),
    ] = None
    alpha: Annotated[
        Literal["keep", "drop", "white", "black"] | None,
        Field(
            description="Transparency of images: keep it as a channel, drop it, or lay the images "
            "on a white or black background.",
            json_schema_extra=chosen("dropped where every pixel is opaque, else refused"),
        ),
    ] = None
    skip_unreadable: Annotated[
        bool,
        Field(description="Leave out files that cannot be read; they are counted and named."),
    ] = False
    header: Annotated[
        bool | None,
        Field(
            description="Whether the first line of a table holds the names of its columns.",
            json_schema_extra=chosen("read off the first line where it is clear"),
        ),
    ] = None
    delimiter: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=3,
            description="Character between the cells of a text table; tab and \\t mean a tab.",
            json_schema_extra=chosen("comma, semicolon, tab or |, read off the first lines"),
        ),
    ] = None
    decimal: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=1,
            description="Decimal mark of a text table: a point or a comma.",
            json_schema_extra=chosen("a point; a comma where that is clear"),
        ),
    ] = None
    thousands: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=1,
            description="Mark between groups of three digits in a text table, such as 1,234.",
            json_schema_extra=chosen("none; numbers that have one are refused"),
        ),
    ] = None
    columns: Annotated[
        tuple[str, ...] | None,
        Field(
            min_length=1,
            description="Columns of a table to take, with commas; -name leaves one out.",
            json_schema_extra=chosen("all but a nameless row number"),
        ),
    ] = None
    missing: Annotated[
        Literal["drop", "median"] | None,
        Field(
            description="Rows with blank cells: drop them, or fill in the column's median (most "
            "frequent word).",
            json_schema_extra=chosen("refused"),
        ),
    ] = None
    discrete: Annotated[
        tuple[str, ...] | None,
        Field(
            min_length=1,
            description="Columns whose samples take only values that occur in the data; none for "
            "no column.",
            json_schema_extra=chosen("columns in which a value occurs five times on average"),
        ),
    ] = None
    bounds: Annotated[
        Literal["data", "none"],
        Field(
            description="Samples of a table's columns beyond the range of the training data: data "
            "reflects them at the bound, none keeps them."
        ),
    ] = "data"
    held_out: Annotated[
        float,
        Field(
            gt=0,
            lt=0.5,
            description="Fraction of the examples kept out of training, stratified by label.",
        ),
    ] = 0.1
    units: Annotated[
        Literal["standardise", "unit", "none", "logit"],
        Field(
            description="Model units: standardise (mean 0, standard deviation noise.sigma_data), "
            "unit (images as they are, in [0, 1]), logit (logits of images), none (as they are)."
        ),
    ] = "standardise"
    dequantise: Annotated[
        Literal["uniform", "none"],
        Field(
            description="Noise added to quantised data: uniform over one quantisation step, or "
            "none."
        ),
    ] = "uniform"
    flip: Annotated[
        bool, Field(description="Mirror images left to right at random, each with chance 1/2.")
    ] = False


class DataConfig(DataRequest):
    """Resolved data settings."""


class ConditionRequest(Group):
    """What the model is conditioned on while it trains."""

    group = "condition"

    kind: Annotated[
        Literal["none", "class", "vector"],
        Field(
            description="none: unconditional; class: one of several classes; vector: numbers, such "
            "as other columns of a table."
        ),
    ] = "none"
    source: Annotated[
        tuple[str, ...] | None,
        Field(
            min_length=1,
            description="Where the condition comes from: columns of a table with commas, the name "
            "of an array in an .npz, or a file (.npy, .npz, a table) with one row an example.",
            json_schema_extra=chosen("the class labels that the data bring"),
        ),
    ] = None
    dropout: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Fraction of training examples whose condition is dropped, so that the "
            "model also learns the unconditional score, which guidance needs.",
        ),
    ] = 0.1


class ConditionConfig(ConditionRequest):
    """Resolved condition settings."""


# -- network and noise

NetworkName = Annotated[
    Literal["mlp", "unet", "refinenet", "custom"],
    Field(
        description="Network: mlp, unet, refinenet (NCSN and NCSNv2 as published), or custom, a "
        "network passed from Python.",
        json_schema_extra=chosen("mlp for vectors, unet for signals, images and volumes"),
    ),
]


class NetworkRequest(Group):
    """Which network, and its size."""

    group = "network"

    name: NetworkName | None = None
    options: Annotated[
        dict[str, Any],
        Field(
            description="Arguments of the network's class, for example network.options.width=16. "
            "Arguments left out follow from the data's shape."
        ),
    ] = {}


class NetworkConfig(NetworkRequest):
    """Resolved network settings."""

    name: NetworkName


SigmaDistribution = Annotated[
    Literal["lognormal", "loguniform", "levels"],
    Field(
        description="Training distribution of sigma: lognormal(mean, std), loguniform, or "
        "levels: the noise levels of noise.levels with equal probability.",
        json_schema_extra=chosen("levels for the ncsn preconditioner, else lognormal"),
    ),
]
LogMean = Annotated[
    float,
    Field(
        description="lognormal: mean of ln sigma at sigma_data 0.5.",
        json_schema_extra=chosen("-0.2 for signals, images and volumes, -1.2 for vectors"),
    ),
]
LogStd = Annotated[
    float,
    Field(
        gt=0,
        description="lognormal: standard deviation of ln sigma.",
        json_schema_extra=chosen("1.0 for signals, images and volumes, 1.2 for vectors"),
    ),
]


# Where nothing was measured: as Karras et al. 2022 choose them.
SIGMA_MIN, SIGMA_MAX, SIGMA_DATA = 0.002, 80.0, 0.5
SigmaMin = Annotated[
    float,
    Field(
        gt=0,
        description="Smallest noise level, model units.",
        json_schema_extra=chosen("from the data's resolution; 0.002 with plan=none"),
    ),
]
SigmaMax = Annotated[
    float,
    Field(
        gt=0,
        description="Largest noise level, model units.",
        json_schema_extra=chosen("from the data's pairwise distances; 80 with plan=none"),
    ),
]
SigmaData = Annotated[
    float,
    Field(
        gt=0,
        description="Standard deviation that the data are scaled to, model units.",
        json_schema_extra=chosen("0.5; the data's own in units that do not scale them"),
    ),
]


class NoiseRequest(Group):
    """Preconditioner and training distribution of sigma, in model units."""

    group = "noise"

    preconditioner: Annotated[
        Literal["edm", "ncsn", "ncsnv2"],
        Field(
            description="How the network's output becomes a score: edm (Karras et al. 2022), ncsn "
            "(Song & Ermon 2019; for fixed noise levels), ncsnv2 (Song & Ermon 2020)."
        ),
    ] = "edm"
    sigma_distribution: SigmaDistribution | None = None
    mean: LogMean | None = None
    std: LogStd | None = None
    sigma_min: SigmaMin | None = None
    sigma_max: SigmaMax | None = None
    levels: Annotated[
        int | None,
        Field(
            ge=2,
            description="Number of geometric noise levels that the model is trained on.",
            json_schema_extra=chosen("a continuous range"),
        ),
    ] = None
    sigma_data: SigmaData | None = None

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        low, high = self.sigma_min, self.sigma_max
        if low is not None and high is not None and not low < high:
            raise ValueError(
                f"noise.sigma_min must be below noise.sigma_max; got {low:g} and {high:g}"
            )
        return self


class NoiseConfig(NoiseRequest):
    """Resolved noise settings."""

    sigma_distribution: SigmaDistribution
    mean: LogMean
    std: LogStd
    sigma_min: SigmaMin
    sigma_max: SigmaMax
    sigma_data: SigmaData

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if self.preconditioner == "ncsn" and self.sigma_distribution != "levels":
            raise ValueError(
                "the ncsn preconditioner works at fixed noise levels only: it needs "
                f"noise.sigma_distribution=levels; got {self.sigma_distribution!r}"
            )
        if self.sigma_distribution == "levels" and self.levels is None:
            raise ValueError(
                "noise.sigma_distribution=levels needs noise.levels, 2 or more; got none"
            )
        return self


# -- objective

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


# -- optimiser and averages

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


# -- sampling and execution

SamplerName = Annotated[
    Literal[
        "heun",
        "euler",
        "unipc",
        "dpmpp-2m",
        "dpmpp-3m",
        "veab",
        "zeab",
        "xeab",
        "ipndm",
        "tuned",
        "dpmpp-2m-sde",
        "matched-sde",
        "heun-churn",
        "ancestral",
        "reverse-sde",
        "predictor-corrector",
        "consistent-annealed",
        "annealed-langevin",
        "langevin",
        "mala",
    ],
    Field(
        description="Sampler.",
        json_schema_extra=chosen(
            "matched-sde for signals, images and volumes trained on a continuous range of sigma, "
            "annealed-langevin for the ncsn preconditioner, else heun"
        ),
    ),
]


class SamplingRequest(Group):
    """How the trained model is sampled by default. These settings do not decide the weights."""

    group = "sampling"

    sampler: SamplerName | None = None
    nfe: Annotated[
        int | None,
        Field(
            ge=1,
            description="Network evaluations per sample (NFE), the final denoise included.",
            json_schema_extra=chosen("32 where matched-sde was chosen, else the sampler's number"),
        ),
    ] = None
    steps_per_level: Annotated[
        int | None,
        Field(
            ge=1,
            description="Steps at each noise level (T of NCSN).",
            json_schema_extra=chosen("the sampler's number"),
        ),
    ] = None
    start: Annotated[
        Literal["prior", "uniform"] | None,
        Field(
            description="Distribution of the first state: prior (Gaussian with the data's moments "
            "plus noise), or for images uniform in [0, 1].",
            json_schema_extra=chosen("prior"),
        ),
    ] = None
    final: Annotated[
        Literal["denoise", "none"] | None,
        Field(
            description="Last step: denoise, which removes the remaining noise, or none.",
            json_schema_extra=chosen("denoise"),
        ),
    ] = None
    options: Annotated[
        dict[str, Any],
        Field(
            description="Options of the sampler, for example sampling.options.eta=0. Options left "
            "out take the sampler's defaults."
        ),
    ] = {}


class SamplingConfig(SamplingRequest):
    """Resolved sampling settings."""

    sampler: SamplerName


class ExecutionRequest(Group):
    """How the arithmetic runs. None is decided on the machine that runs it and recorded there."""

    group = "execution"

    device: Annotated[
        str | None,
        Field(
            description="Torch device such as cpu, cuda or cuda:1.",
            json_schema_extra=chosen("cuda where there is one, else cpu"),
        ),
    ] = None
    precision: Annotated[
        Literal["float32", "bfloat16"] | None,
        Field(
            description="Type that the network computes in.",
            json_schema_extra=chosen("bfloat16 where it is faster, except for vectors"),
        ),
    ] = None
    compile: Annotated[
        Literal["on", "off"] | None,
        Field(
            description="Whether the network is compiled.",
            json_schema_extra=chosen("on where the time that compiling takes is earned back"),
        ),
    ] = None
    threads: Annotated[
        int | None,
        Field(
            ge=1,
            description="Number of CPU threads.",
            json_schema_extra=chosen("all cores of this process"),
        ),
    ] = None

    @field_validator("device")
    @classmethod
    def _check_device(cls, device: str | None) -> str | None:
        if device is not None and not re.fullmatch(r"[a-z]+(:[0-9]+)?", device):
            raise ValueError(
                "execution.device must be a torch device such as cpu, cuda or cuda:1; got "
                f"{device!r}"
            )
        return device


class ExecutionConfig(ExecutionRequest):
    """Resolved execution settings."""


# -- the whole

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
