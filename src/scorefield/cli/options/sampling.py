"""Options that decide how samples are drawn."""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from ...errors import InputError
from .. import completion
from .settings import SETTINGS

PANEL = "How samples are drawn"

Sampler = Annotated[
    str | None,
    typer.Option(
        help="Name of a sampler; the list is below.",
        show_default="by --nfe where it is given alone; else the sampler of the model card, the "
        "record in the model file, or heun",
        autocompletion=completion.words(SETTINGS["sampling.sampler"].accepts.split(", ")),
        rich_help_panel=PANEL,
    ),
]
Nfe = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Network evaluations per sample (NFE), the final denoising step included: the cost of "
        "a sample. Given alone it also chooses the sampler.",
        show_default="the model card's",
        rich_help_panel=PANEL,
    ),
]
Accuracy = Annotated[
    float | None,
    typer.Option(
        metavar="A",
        help="Wanted error of the solver, in standard deviations of the data, such as 0.01: "
        "sampler, noise levels and evaluations are chosen for it from the data's moments, and "
        "checked on a few starts. The network's own error comes on top.",
        show_default="none: --nfe or the sampler decides",
        rich_help_panel=PANEL,
    ),
]
Levels = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of noise levels.",
        show_default="the sampler's",
        rich_help_panel=PANEL,
    ),
]
LadderText = Annotated[
    str | None,
    typer.Option(
        "--ladder",
        metavar="SIGMAS",
        help="Ladder: the noise levels (sigmas) with commas, largest first, in model units (data "
        "scaled to standard deviation 0.5); or a rule over the model's range: geometric, karras or "
        "few-step.",
        show_default="the sampler's",
        rich_help_panel=PANEL,
    ),
]
StepsPerLevel = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Steps at each noise level (T of NCSN).",
        show_default="the sampler's",
        rich_help_panel=PANEL,
    ),
]
Final = Annotated[
    str | None,
    typer.Option(
        help="denoise or none: whether a last step removes the remaining noise.",
        show_default="the model card's, else denoise",
        autocompletion=completion.words(("denoise", "none")),
        rich_help_panel=PANEL,
    ),
]
Start = Annotated[
    str | None,
    typer.Option(
        help="Distribution at the first level: prior (Gaussian), or for images uniform in [0, 1].",
        show_default="the model card's, else prior",
        autocompletion=completion.words(("prior", "uniform")),
        rich_help_panel=PANEL,
    ),
]
SamplerOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        help="An option of the sampler, such as eta=3 or epsilon=2e-5 (repeatable); `scorefield "
        "sample --help` lists them.",
        rich_help_panel=PANEL,
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
    """How samples are drawn: a group of options.

    None is left to the model card and the sampler. Raises InputError where the ladder or an option
    cannot be read.
    """

    sampler: Sampler = None
    nfe: Nfe = None
    levels: Levels = None
    ladder: LadderText = None
    steps_per_level: StepsPerLevel = None
    option: SamplerOptions = None
    start: Start = None
    final: Final = None
    accuracy: Accuracy = None

    def __post_init__(self) -> None:
        parse_ladder(self.ladder)
        parse_options(self.option)
        others = [
            f"--{name.replace('_', '-')}"
            for name, value in vars(self).items()
            if name != "accuracy" and value is not None
        ]
        if self.accuracy is not None and others:
            raise InputError(
                f"--accuracy chooses sampler, noise levels and evaluations, which {others[0]} "
                f"fixes: leave out --accuracy or {', '.join(others)}"
            )

    def resolve(self, model: Any) -> Any:
        """Return the `SamplingRecipe` for a model; explicit values beat the model's card.

        Raises:
            InputError: a value does not fit the sampler or the model.
        """
        from ...sampling import resolve_accuracy, resolve_sampling

        if self.accuracy is not None:
            return resolve_accuracy(model, self.accuracy)
        return resolve_sampling(
            model,
            sampler=self.sampler,
            nfe=self.nfe,
            ladder=parse_ladder(self.ladder),
            steps_per_level=self.steps_per_level,
            start=self.start,
            final=self.final,
            options=parse_options(self.option),
            levels=self.levels,
        )


def prediction_line(recipe: Any) -> str:
    """What --accuracy chose, in one line; "" for a recipe without a prediction."""
    from ...sampling import PredictedRecipe

    if not isinstance(recipe, PredictedRecipe):
        return ""
    found = recipe.prediction
    options = ", ".join(f"{k} {v:g}" for k, v in recipe.kernel.options().items() if k == "p")
    checked = "" if found.measured is None else f" (measured on a few starts: {found.measured:.2g})"
    return (
        f"accuracy: {recipe.name}{f' ({options})' if options else ''}, {found.evaluations} "
        f"evaluations a sample, predicted error {found.error:.2g} standard deviations of the data"
        f"{checked}"
    )


def sampler_table() -> str:
    """List the samplers with their help and their options, read from the registry."""
    import dataclasses

    from ...sampling import SAMPLERS

    lines = ["Samplers (and options with their defaults):"]
    for name, kind in SAMPLERS.items():
        options = ", ".join(
            f"{item.name}={'chosen' if item.default is None else item.default}"
            for item in dataclasses.fields(kind)
            if item.default is not dataclasses.MISSING
        )
        lines.append(f"{name}: {kind.help}{f' ({options})' if options else ''}")
    return "\n\n".join(lines)
