"""Options that several commands share: each is declared once, with its help and its check."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import ExecutionRequest, settings
from ..errors import InputError

_SETTINGS = {row.name: row for row in settings()}


def setting_option(name: str, *flags: str, required: bool = False) -> Any:
    """An option for a setting, with the setting's description, choices and default as its help.

    Args:
        name: the setting, such as "optim.lr".
        flags: names of the option; none: the parameter's name.
        required: whether the option must be given, so that the default does not matter.
    """
    row = _SETTINGS[name]
    listed = row.kind == "choice" and not all(c in row.description for c in row.accepts.split(", "))
    text = f"{row.accepts}: {row.description}" if listed else row.description
    return typer.Option(*flags, help=text, show_default=False if required else row.default)


# -- the model and where it runs

Run = Annotated[Path, typer.Argument(help="A run's folder or a .safetensors model file.")]
NetworkFile = Annotated[
    str | None,
    typer.Option(
        "--network",
        metavar="FILE.py:NAME",
        help="Class or function without arguments that makes the model's network, for models of "
        "your own network. The file's code is run.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(min=0, help="Decides all noise: sample k is a function of the seed and k alone."),
]
Device = Annotated[str | None, setting_option("execution.device")]
Precision = Annotated[str | None, setting_option("execution.precision")]
Compile = Annotated[str | None, setting_option("execution.compile")]
Threads = Annotated[int | None, setting_option("execution.threads")]


def execution_request(
    device: str | None = None,
    precision: str | None = None,
    compile: str | None = None,
    threads: int | None = None,
) -> ExecutionRequest:
    """Execution options as settings, checked.

    Raises:
        InputError: a value is out of range.
    """
    given = {"device": device, "precision": precision, "compile": compile, "threads": threads}
    return ExecutionRequest.from_dict(given)


# -- output

Out = Annotated[Path, typer.Option(help="Folder for the results.")]


def check_folder(path: Path, option: str = "--out") -> Path:
    """Refuse an output folder that cannot be written, before any work is done.

    Raises:
        InputError: the path is a file, lies inside a file, or is not writable.
    """
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{option} must name a folder; {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{option} {path} cannot be written: no permission in {place}")
    return path


def check_file(path: Path, suffix: str, option: str = "--out") -> Path:
    """Refuse an output file that cannot be written, before any work is done.

    Raises:
        InputError: the path has another suffix, is a folder, or its folder is not writable.
    """
    if path.is_dir() or path.suffix != suffix:
        raise InputError(f"{option} must name a {suffix} file; got {path}")
    check_folder(path.parent, option)
    return path


# -- sampling

Sampler = Annotated[
    str | None,
    typer.Option(
        help="Name of a sampler; the list is below.", show_default="the model card's, else heun"
    ),
]
Nfe = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Network evaluations per sample, the final denoise included.",
        show_default="by card",
    ),
]
Levels = Annotated[
    int | None,
    typer.Option(min=1, help="Number of noise levels of the ladder.", show_default="the sampler's"),
]
LadderText = Annotated[
    str | None,
    typer.Option(
        "--ladder",
        help="Noise levels (sigmas) in model units, largest first, with commas; or geometric, "
        "karras or few-step over the model's range.",
        show_default="the sampler's",
    ),
]
StepsPerLevel = Annotated[
    int | None,
    typer.Option(
        min=1, help="Steps at each noise level (T of NCSN).", show_default="the sampler's"
    ),
]
Final = Annotated[
    str | None,
    typer.Option(help="denoise or none: whether a last step removes the remaining noise."),
]
Start = Annotated[
    str | None,
    typer.Option(
        help="Distribution at the first level: prior (Gaussian), or for images uniform in [0, 1]."
    ),
]
SamplerOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        help="An option of the sampler, such as eta=3 or epsilon=2e-5 (repeatable); the list is "
        "below.",
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        "--class",
        help="Class that the model is conditioned on, by name or number; several with commas take "
        "turns over the samples.",
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        help="Strength of classifier-free guidance with --class: 1 = none, more follows the class "
        "more closely at the cost of diversity."
    ),
]


def parse_options(texts: list[str] | None) -> dict[str, Any] | None:
    """Read texts such as "eta=3"; values are JSON where they can be, else text.

    Returns:
        The options by name; None where none was given.

    Raises:
        InputError: a text has no "=" or no name.
    """
    if not texts:
        return None
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--option takes NAME=VALUE, for example eta=3; got {text!r}")
        options[name.strip()] = _read_option(value)
    return options


def _read_option(text: str) -> Any:
    for read in (json.loads, float):  # ".5" and "inf" are numbers, but no JSON
        with suppress(ValueError):
            return read(text)
    return text.strip()


def parse_numbers(text: str, option: str) -> list[float]:
    """Read numbers with commas: "10,3,1" gives [10.0, 3.0, 1.0].

    Raises:
        InputError: the text holds something else; the message names the option.
    """
    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(
            f"{option} takes numbers with commas, for example 10,3,1; got {text!r}"
        ) from error
    if not numbers:
        raise InputError(f"{option} takes one or more numbers with commas; got {text!r}")
    return numbers


def parse_ladder(text: str | None) -> str | list[float] | None:
    """Read --ladder: a name, or sigmas with commas.

    Raises:
        InputError: the text is neither.
    """
    if text is None or text[:1].isalpha():
        return text
    return parse_numbers(text, "--ladder")


@dataclass(frozen=True)
class SamplingOptions:
    """What the command line says about sampling. None is left to the model's card and the sampler.

    Attributes:
        sampler: name of a sampler.
        nfe: evaluations per sample.
        levels: number of noise levels.
        ladder: sigmas, largest first, or a ladder's name.
        steps_per_level: steps at each level.
        start: "prior" or "uniform".
        final: "denoise" or "none".
        options: options of the sampler.
    """

    sampler: str | None = None
    nfe: int | None = None
    levels: int | None = None
    ladder: str | list[float] | None = None
    steps_per_level: int | None = None
    start: str | None = None
    final: str | None = None
    options: dict[str, Any] | None = field(default=None)

    def resolve(self, model: Any) -> Any:
        """Return the `SamplingRecipe` for a model; explicit values beat the model's card.

        Raises:
            InputError: a value does not fit the sampler or the model.
        """
        from ..sampling import resolve_sampling

        return resolve_sampling(
            model,
            sampler=self.sampler,
            nfe=self.nfe,
            ladder=self.ladder,
            steps_per_level=self.steps_per_level,
            start=self.start,
            final=self.final,
            options=self.options,
            levels=self.levels,
        )


def sampler_table() -> str:
    """List the samplers with their help and their options, read from the registry."""
    import dataclasses

    from ..sampling import SAMPLERS

    lines = ["Samplers (and options with their defaults):"]
    for name, kind in SAMPLERS.items():
        options = ", ".join(
            f"{item.name}={'chosen' if item.default is None else item.default}"
            for item in dataclasses.fields(kind)
            if item.default is not dataclasses.MISSING
        )
        lines.append(f"{name}: {kind.help}{f' ({options})' if options else ''}")
    return "\n\n".join(lines)
