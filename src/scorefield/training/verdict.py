"""Where a trained model stands, in numbers and in a sentence.

The model's held-out loss is compared with those of two normal distributions (`baselines`) on the
same examples with the same noise, so that the standard error of a difference is that of the paired
differences. A difference counts where it exceeds two standard errors.

    past its best   the held-out loss rose after an earlier point, whose weights are the model
    learned         below both baselines
    hardly begun    not below the best Gaussian, and still falling: over the last doubling of the
                    images, or for want of that because there were fewer than FEW_STEPS steps
    Gaussian        not below the best Gaussian, and no longer falling

How long a run that has hardly begun would have to be is extrapolated: the loss is taken to fall on
by as much with each doubling of the images, until it is that of the best Gaussian; with fewer than
FEW_STEPS steps, FEW_STEPS of them are named.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor

from ..progress import duration
from .evaluator import HeldOutLoss

Standing = Literal["learned", "hardly begun", "Gaussian", "past its best"]
ERRORS = 2.0  # standard errors beyond which a difference counts
FEW_STEPS = 300
MOST_DOUBLINGS = 6.0  # beyond which no time is named


@dataclass(frozen=True)
class Verdict:
    """How a model compares with knowing nothing and with the best Gaussian.

    Attributes:
        standing: One of the words of the module docstring.
        held_out: The model's held-out loss, its mean over examples.
        se: The standard error of `held_out`; NaN for one example.
        examples: Number of held-out examples.
        nothing: The loss of the baseline "knows nothing" on the same examples and noise.
        gaussian: The loss of the baseline "best Gaussian".
        below_nothing: nothing - held_out, with its standard error from paired differences.
        below_gaussian: gaussian - held_out, likewise.
        falling: How much the loss fell over the last doubling of the images, likewise; None where
            that was not measured.
        images: Images seen.
        steps: Steps taken.
        rate: Images a second.
        best_images: Images seen at the best point, whose weights are the model; None where the
            last weights are.
        needed_images: hardly begun: images after which the loss might be that of the best
            Gaussian (module docstring); None where it cannot be estimated.
        memorising: What samples show of memorisation, in words (`watch.Copies`); empty where they
            show nothing.
    """

    standing: Standing
    held_out: float
    se: float
    examples: int
    nothing: float
    gaussian: float
    below_nothing: tuple[float, float]
    below_gaussian: tuple[float, float]
    falling: tuple[float, float] | None
    images: int
    steps: int
    rate: float
    best_images: int | None = None
    needed_images: int | None = None
    memorising: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Verdict":
        """The verdict that `to_dict` wrote; null stands for NaN."""
        found: dict[str, Any] = {
            name: _pair(value) if isinstance(value, list | tuple) else value
            for name, value in values.items()
            if name != "sentence"
        }
        found["se"] = math.nan if found["se"] is None else found["se"]
        return cls(**found)

    def to_dict(self) -> dict[str, Any]:
        """The numbers and the sentence, in a form that JSON can hold (NaN becomes null there)."""
        return {**asdict(self), "sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """Where the model stands, in words and numbers."""
        found = {
            "learned": self._learned,
            "hardly begun": self._begun,
            "Gaussian": self._gaussian,
            "past its best": self._past,
        }[self.standing]()
        memorising = f"; {self.memorising}" if self.memorising else ""
        return f"{found}{memorising} ({self.rate:,.3g} images a second)"

    @property
    def _numbers(self) -> str:
        error = "" if math.isnan(self.se) else f" ± {self.se:.{_places(self.se)}f}"
        places = 3 if math.isnan(self.se) else _places(self.se)
        return (
            f"held-out loss {self.held_out:.{places}f}{error}, the best Gaussian "
            f"{self.gaussian:.{places}f}, knowing nothing {self.nothing:.{places}f}"
        )

    def _learned(self) -> str:
        text = f"has learned: {self._numbers}"
        if counts(self.falling) and self.falling is not None:
            fell, error = self.falling
            places = _places(error)
            text += (
                f"; still falling, by {fell:.{places}f} ± {error:.{places}f} over the last "
                "doubling of the images, so that a longer run would help"
            )
        return text

    def _begun(self) -> str:
        text = f"hardly begun after {self.steps:,} steps: {self._numbers}"
        if self.needed_images is None:
            return f"{text}; a useful run is far longer"
        time = f", {duration(self.needed_images / self.rate)} at this rate," if self.rate else ""
        rule = (
            "if the loss falls on by as much with each doubling of the images"
            if counts(self.falling)
            else f"{FEW_STEPS} steps, where a first result is usual"
        )
        return (
            f"{text}; about {_round(self.needed_images):,} images{time} would pass the best "
            f"Gaussian ({rule})"
        )

    def _gaussian(self) -> str:
        apart = self.below_gaussian
        worse = apart[0] < -ERRORS * apart[1]
        words = "not as good as a Gaussian" if worse else "as good as a Gaussian"
        places = _places(apart[1])
        text = (
            f"{words}: {self._numbers} (difference to the Gaussian {-apart[0]:+.{places}f} ± "
            f"{apart[1]:.{places}f})"
        )
        if not counts(self.below_nothing):
            return f"{text}; it is not better than knowing nothing"
        return text

    def _past(self) -> str:
        text = (
            f"past its best: the model is that of {self.best_images:,} images, after which the "
            f"held-out loss rose; {self._numbers}"
        )
        if not counts(self.below_gaussian):
            text += "; it is not better than the best Gaussian"
        return text


def appraise(
    model: Tensor,
    nothing: Tensor,
    gaussian: Tensor,
    *,
    images: int,
    steps: int,
    rate: float,
    falling: tuple[float, float] | None = None,
    best_images: int | None = None,
    memorising: str = "",
) -> Verdict:
    """Compare a model with the baselines.

    Args:
        model: Held-out losses (n,), one an example, of the model.
        nothing: Those of the baseline "knows nothing", of the same examples and noise.
        gaussian: Those of the baseline "best Gaussian".
        images: Images seen.
        steps: Steps taken.
        rate: Images a second.
        falling: How much the loss fell over the last doubling of the images, with its standard
            error from paired differences; None where that is not known.
        best_images: Images seen at the best point, where its weights are the model.
        memorising: As `Verdict` has it.

    Returns:
        The verdict.
    """
    found = HeldOutLoss.of(model)
    below_nothing, below_gaussian = difference(nothing, model), difference(gaussian, model)
    few = steps < FEW_STEPS
    needed: int | None = None
    standing: Standing
    if best_images is not None:
        standing, falling = "past its best", None
    elif counts(below_gaussian) and counts(below_nothing):
        standing = "learned"
    elif counts(falling) or few:
        standing = "hardly begun"
        needed = _needed(below_gaussian[0], falling, images, steps)
    else:
        standing = "Gaussian"
    return Verdict(
        standing,
        found.value,
        found.se,
        found.examples,
        HeldOutLoss.of(nothing).value,
        HeldOutLoss.of(gaussian).value,
        below_nothing,
        below_gaussian,
        falling,
        images,
        steps,
        rate,
        best_images,
        needed,
        memorising,
    )


def difference(higher: Tensor, lower: Tensor) -> tuple[float, float]:
    """Mean and standard error of higher - lower over the same examples; NaN for one example."""
    found = HeldOutLoss.of(higher.double() - lower.double())
    return found.value, found.se


def counts(found: tuple[float, float] | None) -> bool:
    """Whether a difference is above zero by more than ERRORS standard errors."""
    return found is not None and found[0] > ERRORS * found[1]  # False with NaN


def _needed(
    below: float, falling: tuple[float, float] | None, images: int, steps: int
) -> int | None:
    """Images until the loss is that of the best Gaussian, by the module docstring's rule."""
    if falling is not None and counts(falling):
        doublings = max(0.5, -below / falling[0])
        return int(images * 2**doublings) if doublings <= MOST_DOUBLINGS else None
    return images * FEW_STEPS // steps if steps > 0 else None


def _pair(values: Sequence[float | None]) -> tuple[float, float]:
    first, second = (math.nan if value is None else float(value) for value in values)
    return first, second


def _places(error: float) -> int:
    """Decimal places that show a standard error: two digits where the first one is 1, else one."""
    if not (math.isfinite(error) and error > 0):
        return 3
    return min(6, max(2, math.ceil(-math.log10(error / 2))))


def _round(count: int) -> int:
    """Two digits of a count."""
    digits = 10 ** max(0, len(str(count)) - 2)
    return round(count / digits) * digits
