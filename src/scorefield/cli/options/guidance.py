"""Options that guide samples: towards their condition, or away from a weaker model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import InputError
from .. import completion
from .sampling import parse_numbers

PANEL = "Condition and guidance"

Classes = Annotated[
    str | None,
    typer.Option(
        "--class",
        help="Class that the model is conditioned on, by name or number; several with commas take "
        "turns over the samples.",
        rich_help_panel=PANEL,
    ),
]
Vector = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBERS|FILE",
        help="Vector that the model is conditioned on: numbers with commas, or a file (.npy, .npz, "
        "a table) whose rows take turns over the samples.",
        rich_help_panel=PANEL,
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        help="Strength of guidance, a number: 1 = none, more follows the condition more closely at "
        "the cost of diversity.",
        rich_help_panel=PANEL,
    ),
]
Interval = Annotated[
    str | None,
    typer.Option(
        "--guidance-interval",
        metavar="LOW,HIGH",
        help="Noise levels (sigma) between which guidance acts, in model units (data scaled to "
        "standard deviation 0.5).",
        show_default="all",
        rich_help_panel=PANEL,
    ),
]
Guide = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        help="Autoguidance: a weaker model of the same data to be guided away from, a run's folder "
        "or a model file; it may be the run itself with --guide-images.",
        show_default="the model without its condition",
        autocompletion=completion.runs,
        rich_help_panel=PANEL,
    ),
]
GuideImages = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="COUNT",
        help="The weaker model is that of --guide after so many images, from the run's snapshots "
        "(trained with --set ema.snapshots=16).",
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True)
class Condition:
    """The condition of samples and their guidance: a group of options."""

    classes: Classes = None
    vector: Vector = None
    guidance: Scale = None
    guidance_interval: Interval = None
    guide: Guide = None
    guide_images: GuideImages = None

    def __post_init__(self) -> None:
        given = {
            "--guidance-interval": self.guidance_interval,
            "--guide": self.guide,
            "--guide-images": self.guide_images,
        }
        for name, value in given.items():
            if value is not None and self.guidance is None:
                raise InputError(f"{name} needs --guidance with the strength, such as 1.5")
        if self.guide_images is not None and self.guide is None:
            raise InputError("--guide-images needs --guide with a run that kept snapshots")

    def resolve(self, model: Any, count: int, each: int = 1, known: Any = None) -> Any:
        """The condition of `count` samples; see `conditioning.read_condition`."""
        from ..conditioning import read_condition

        return read_condition(model, self.classes, self.vector, count, each, known)

    def guided(self, model: Any, condition: Any) -> Any:
        """The guided model where --guidance was given, else the model.

        Args:
            model: a score model that is ready to run.
            condition: of the samples, or None.

        Raises:
            InputError: guidance has nothing to act on, or the weaker model does not fit.
        """
        from ...models import Guidance

        if self.guidance is None:
            return model
        interval: Any = None
        if self.guidance_interval is not None:
            interval = tuple(parse_numbers(self.guidance_interval, "--guidance-interval"))
        return Guidance(self.guidance, interval, self._weak(model)).wrap(model, condition)

    def _weak(self, model: Any) -> Any:
        """The model of --guide on the device of the other one; None without."""
        if self.guide is None:
            return None
        from ...checkpoint import load
        from ...training import snapshot

        weak: Any = load(self.guide)
        if self.guide_images is not None:
            weights, _ = snapshot(self.guide, self.guide_images)
            weak.network.load_state_dict(weights)
        return weak.to(next(model.parameters()).device)

    def facts(self) -> dict[str, Any]:
        """What results record of the options."""
        from ...checkpoint import card_hash, load

        found = {
            "class": self.classes,
            "vector": self.vector,
            "guidance": self.guidance,
            "guidance_interval": self.guidance_interval,
            "guide": None if self.guide is None else str(self.guide),
            "guide_images": self.guide_images,
        }
        if self.guide is not None:
            found["guide_card_sha256"] = card_hash(load(self.guide).card or {})
        return found
