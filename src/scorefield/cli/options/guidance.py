"""Options that guide samples: towards their condition, or away from a weaker model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import InputError
from .. import completion
from ..show import say
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
        help="The weaker model is the run of --guide after this number of images: its nearest "
        "snapshot (of runs trained with --set ema.snapshots=16).",
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

    def guided(
        self, model: Any, condition: Any, execution: Any = None, network: str | None = None
    ) -> Any:
        """The guided model where --guidance was given, else the model.

        Args:
            model: a score model that is ready to run.
            condition: condition of the samples, or None.
            execution: the `Execution` that was applied to the model; the weaker model gets it too.
            network: "FILE.py:NAME" for models of a user's own network.

        Raises:
            InputError: guidance has nothing to act on, or the weaker model does not fit.
        """
        from ...models import Guidance

        if self.guidance is None:
            return model
        weak = self._weak(network)
        if weak is not None and execution is not None:
            from ..show import warn

            execution.apply(weak, notice=warn)
        return Guidance(self.guidance, self._interval(), weak).wrap(model, condition)

    def _interval(self) -> Any:
        """The numbers of --guidance-interval, which `Guidance` checks."""
        if self.guidance_interval is None:
            return None
        return tuple(parse_numbers(self.guidance_interval, "--guidance-interval"))

    def _weak(self, network: str | None) -> Any:
        """The model of --guide; None without."""
        if self.guide is None:
            return None
        from ...checkpoint import load, read_card
        from ...training import snapshot
        from ..loading import make_network

        file = self.guide / "model.safetensors" if self.guide.is_dir() else self.guide
        own = ((read_card(file) or {}).get("network") or {}).get("name") == "custom"
        made = make_network(network) if own and network is not None else None
        weak: Any = load(self.guide, network=made)
        if self.guide_images is not None:
            weights, images = snapshot(self.guide, self.guide_images)
            weak.network.load_state_dict(weights)
            if images != self.guide_images:
                say(
                    f"guide: the snapshot after {images:,} images is the nearest to "
                    f"{self.guide_images:,}"
                )
        return weak

    def facts(self, guided: Any = None) -> dict[str, Any]:
        """What results record of the options.

        Args:
            guided: the model of `guided`, whose weaker model's card is recorded.
        """
        from ...checkpoint import card_hash
        from ...training import snapshot_images

        found: dict[str, Any] = {
            "class": self.classes,
            "vector": self.vector,
            "guidance": self.guidance,
            "guidance_interval": self._interval(),
            "guide": None if self.guide is None else str(self.guide),
            "guide_images": None,
        }
        if self.guide is not None:
            found["guide_card_sha256"] = card_hash(guided.weak.card or {})
            if self.guide_images is not None:
                found["guide_images"] = snapshot_images(self.guide, self.guide_images)
        return found
