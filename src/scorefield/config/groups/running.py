"""Settings of sampling and of execution."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from ..base import Group, chosen

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
            "for models trained on a continuous range of sigma matched-sde on signals, images and "
            "volumes, unipc on vectors; annealed-langevin for the ncsn preconditioner, else heun"
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
            json_schema_extra=chosen(
                "32 for matched-sde and unipc as chosen, else the sampler's number"
            ),
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
