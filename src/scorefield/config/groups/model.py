"""Settings of the network and of the noise."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ..base import Group, chosen

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
