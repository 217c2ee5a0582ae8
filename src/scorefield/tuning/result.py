"""The result of `tune`: the method, its gain on other starts, and its entry in the model card."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoint import replace_card
from ..errors import InputError
from ..models import ScoreModel
from ..noise import check_ladder
from ..plotting import paragraph
from ..sampling import SamplingRecipe, Tuned
from ..sampling.tuned import CARD_ENTRY

ERRORS = 2.0  # a difference counts as a gain beyond this many standard errors


@dataclass(frozen=True)
class Judged:
    """The distance of a recipe to the end of the flow, on starts that no fit has seen.

    Args:
        name: The sampler with its options and noise levels, in words.
        rms: Root mean square distance per element, in standard deviations of the data.
        se: Its standard error.
        evaluations: Evaluations of the model a sample.
    """

    name: str
    rms: float
    se: float
    evaluations: int


@dataclass(frozen=True)
class Tuning:
    """A method that was fitted to a model, judged on starts that it was not fitted to.

    Distances are root mean squares over elements, in standard deviations of the data.

    Args:
        kernel: The method.
        nfe: Evaluations of the model a sample.
        tuned: Its distance to the end of the converged flow.
        untuned: The distances of the samplers that need no fit, nearest first.
        difference: Mean squared distance of the nearest untuned sampler minus that of the method,
            on the same starts, in variances of the data.
        difference_se: Standard error of the difference.
        reference: Distance between the converged flow and the one of half as many evaluations.
        starts: Numbers of starts by use: "fitted", "stopping" and "judged".
        seconds: Wall time.
    """

    kernel: Tuned
    nfe: int
    tuned: Judged
    untuned: tuple[Judged, ...]
    difference: float
    difference_se: float
    reference: float
    starts: Mapping[str, int]
    seconds: float = field(compare=False)

    @property
    def better(self) -> bool:
        """Whether `difference` is above two standard errors: the method beats all untuned ones."""
        return self.difference > ERRORS * self.difference_se

    @property
    def gain(self) -> float:
        """Distance of the nearest untuned sampler over that of the method."""
        return self.untuned[0].rms / self.tuned.rms

    @property
    def recipe(self) -> SamplingRecipe:
        """The recipe for `sample(model, sampler=recipe)`."""
        assert self.kernel.levels is not None
        return SamplingRecipe(self.kernel, check_ladder(self.kernel.levels), final="none")

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold."""
        return {
            "nfe": self.nfe,
            "options": self.kernel.options(),
            "tuned": vars(self.tuned),
            "untuned": [vars(one) for one in self.untuned],
            "difference": self.difference,
            "difference_se": self.difference_se,
            "better": self.better,
            "gain": self.gain,
            "reference": self.reference,
            "starts": dict(self.starts),
            "seconds": round(self.seconds, 3),
        }

    def entry(self) -> dict[str, Any]:
        """What a model card keeps."""
        best = self.untuned[0]
        return {
            "sampler": "tuned",
            "options": self.kernel.options(),
            "final": "none",
            "rms": self.tuned.rms,
            "untuned": best.name,
            "untuned_rms": best.rms,
            "starts": dict(self.starts),
        }

    def with_card(self, card: Mapping[str, Any]) -> dict[str, Any]:
        """A card with the method as its entry for `nfe` evaluations; other entries are kept.

        Args:
            card: A model card.

        Returns:
            A new card.

        Raises:
            InputError: Where the method is no better than an untuned one.
        """
        if not self.better:
            raise InputError(f"the method is not stored: {self.sentence()}")
        kept = dict(card.get(CARD_ENTRY) or {}) | {str(self.nfe): self.entry()}
        return {**card, CARD_ENTRY: dict(sorted(kept.items(), key=lambda item: int(item[0])))}

    def store(self, path: str | Path, out: str | Path | None = None) -> Path:
        """Put the method into the card of a model file; weights stay as they are, bitwise.

        Args:
            path: A run directory, or a model file.
            out: Another file to write; None: the same one.

        Returns:
            The file.

        Raises:
            InputError: Where the method is no better than an untuned one, or the file holds no
                model.
        """
        if not self.better:
            raise InputError(f"the method is not stored: {self.sentence()}")
        return replace_card(path, self.with_card, out)

    def attach(self, model: ScoreModel) -> None:
        """Put the method into the card of a model in memory, so that `sample` uses it.

        Args:
            model: The model; its card is replaced.

        Raises:
            InputError: Where the method is no better than an untuned one.
        """
        model.card = self.with_card(model.card or {})

    def sentence(self) -> str:
        """What was found, in a sentence."""
        best = self.untuned[0]
        found = (
            f"at {self.nfe} evaluations the tuned method ends {self.tuned.rms:.2g} ± "
            f"{self.tuned.se:.1g} standard deviations of the data from the converged flow, "
            f"{best.name} {best.rms:.2g} ± {best.se:.1g}"
        )
        if self.better:
            return f"{found}: {self.gain:.1f} times nearer"
        return f"{found}: no gain beyond two standard errors"

    def __repr__(self) -> str:
        return paragraph(f"Tuning: {self.sentence()}.")
