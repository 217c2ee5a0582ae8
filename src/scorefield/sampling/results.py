"""Result types of `draw` and `sample`: the samples, and the record of how they were drawn."""

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from ..data import View
from ..models import Cost
from ..plotting import Picture, paragraph, with_picture
from .autopilot import Prediction
from .recipe import Start, recipe_words


@dataclass(frozen=True)
class Record:
    """How samples were drawn.

    Args:
        sampler: Name of the sampler.
        options: The kernel's options.
        ladder: Noise levels, model units.
        steps_per_level: Visits of each level.
        start: Where the first level started.
        final: "denoise" or "none".
        nfe: Evaluations of the model a sample.
        cost: Evaluations and vector-Jacobian products in rows, over all samples.
        seeds: {"seed", "count"}, one seed a sample, or None where keys were given.
        count: Number of samples.
        seconds: Wall time.
        trace: (sigma, x) at each level when it is entered, x in data units; None where not
            requested.
        prediction: The predicted error of a recipe of `resolve_accuracy`, with the reason of the
            choice; None for other recipes.
    """

    sampler: str
    options: dict[str, Any]
    ladder: list[float]
    steps_per_level: int
    start: Start
    final: str
    nfe: int
    cost: Cost
    seeds: dict[str, int] | list[int] | None
    count: int
    seconds: float
    trace: list[tuple[float, Tensor]] | None = field(default=None, repr=False)
    prediction: Prediction | None = None

    def to_dict(self) -> dict[str, Any]:
        """All but the trace, in a form that JSON can hold."""
        kept = {k: v for k, v in vars(self).items() if k not in ("trace", "cost", "prediction")}
        predicted = None if self.prediction is None else self.prediction.to_dict()
        return {**kept, "cost": asdict(self.cost), "prediction": predicted}

    def __repr__(self) -> str:
        how = recipe_words(
            self.sampler,
            self.options,
            self.ladder,
            self.steps_per_level,
            self.start,
            self.final,
        )
        seed = f", seed {self.seeds['seed']}" if isinstance(self.seeds, dict) else ""
        kept = "" if self.trace is None else f" The trace holds {len(self.trace)} levels."
        error = (
            ""
            if self.prediction is None
            else f" Predicted error: {self.prediction.error:.2g} standard deviations of the data."
        )
        return paragraph(
            f"{self.count:,} samples{seed}, {self.nfe} evaluations each, {self.seconds:.1f} s. "
            f"Drawn by {how}{error}{kept}"
        )


@dataclass(frozen=True)
class Samples:
    """What `draw` returns.

    Args:
        x: (count, *event) in data units; empty where a sink took them.
        record: How they were drawn.
        log_weight: (count,) log weights of a particle population; None for equal weights.
        view: How the samples are drawn as a picture.
    """

    x: Tensor
    record: Record
    log_weight: Tensor | None = None
    view: View = field(default=View(), repr=False, compare=False)

    def picture(self, title: str | None = None) -> Picture:
        """The samples as the picture that fits them; a notebook shows it, `save` writes it."""
        return self.view.picture(self.x, title=title)

    def __repr__(self) -> str:
        kind = str(self.x.dtype).removeprefix("torch.")
        weighted = "" if self.log_weight is None else " They have log weights."
        return paragraph(
            f"Samples: x of shape {tuple(self.x.shape)}, {kind}, in data units.{weighted} "
            f"{self.record!r}"
        )

    def _repr_html_(self) -> str:
        return with_picture(repr(self), self.picture() if len(self.x) else None)
