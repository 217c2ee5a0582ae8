"""The sampler for a number of evaluations: measured tables, and which of them a model uses.

`EXACT` is for densities in closed form (`exact`), `IMAGES` for networks trained on signals, images
and volumes, `VECTORS` for networks trained on tables and points. A row holds up to and including
its number of evaluations. docs/samplers.md has the measurements, and `scorefield benchmark
samplers` repeats them; tests/test_studies.py compares the page with these rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..exact.common import SAMPLING
from ..models import ScoreModel, Wrapped


class Raised(Wrapped):
    """A model whose range of sampling begins at a higher smallest level.

    With few evaluations, steps at the smallest levels are better spent at higher ones. The final
    denoise then removes more noise, which lowers each variance by at most (factor sigma_min)².

    Args:
        inner: The model.
        factor: 1 or more.
    """

    def __init__(self, inner: ScoreModel, factor: float) -> None:
        super().__init__(inner)
        self.factor = factor

    def sampling_range(self) -> tuple[float, float]:
        low, high = self.inner.sampling_range()
        return max(low, min(self.factor * low, high / 2)), high


def raised(model: ScoreModel, factor: float) -> ScoreModel:
    """The model that default ladders see: the model itself for a factor of 1."""
    return model if factor == 1 else Raised(model, factor)


@dataclass(frozen=True)
class Row:
    """The sampler that is used up to a number of evaluations.

    Attributes:
        most: The largest number of evaluations; None: no limit.
        sampler: A name of SAMPLERS.
        options: Its options.
        ladder: A named ladder; None: the sampler's own.
        raised: The smallest noise level in units of the model's smallest one, 1 or more.
    """

    most: int | None
    sampler: str
    options: Mapping[str, Any] = field(default_factory=dict)
    ladder: str | None = None
    raised: float = 1.0

    @property
    def name(self) -> str:
        """The row as `scorefield benchmark samplers --sampler` takes it."""
        words = [self.sampler, *(f"{k}={v}" for k, v in self.options.items())]
        words += [f"ladder={self.ladder}"] if self.ladder else []
        words += [f"raised={self.raised:g}"] if self.raised != 1 else []
        return " ".join(words)


Table = tuple[Row, ...]

EXACT: Table = (
    Row(4, "veab"),
    Row(8, "zeab", {"p": 3}, raised=5.0),
    Row(15, "zeab", {"p": 3}),
    Row(None, "unipc", {"p": 3}),
)
IMAGES: Table = (
    Row(6, "veab"),
    Row(10, "zeab", {"p": 3}),
    Row(None, "matched-sde", {"eta": 3.0}),
)
VECTORS: Table = (
    Row(6, "veab"),
    Row(15, "zeab", {"p": 3}),
    Row(None, "unipc", {"p": 3}),
)
TABLES: Mapping[str, Table] = {"exact": EXACT, "images": IMAGES, "vectors": VECTORS}

#: The sampling settings that training writes into the card where the user names no sampler, by the
#: table that applies to such a card (config/resolve.py). A card with other settings keeps its
#: sampler.
CHOSEN: Mapping[str, Mapping[str, Any]] = {
    "images": {"sampler": "matched-sde", "nfe": 32, "options": {"eta": 3.0}},
    "vectors": {"sampler": "unipc", "nfe": 32, "options": {"p": 3}},
}


def find_row(table: Table, nfe: int) -> Row:
    """The first row whose `most` is not below nfe."""
    return next(row for row in table if row.most is None or nfe <= row.most)


def table_of(model: ScoreModel, stored: Mapping[str, Any]) -> str | None:
    """The key of the table that decides a model's sampler by the number of evaluations.

    Args:
        model: The score model.
        stored: The model's `card_recipe`.

    Returns:
        A key of TABLES; None where the card names a sampler, length or options other than those
        that training chooses by itself, and for models that are defined at fixed levels only. A
        model without card and defaults counts as exact where it has no parameters.
    """
    if model.ladder_only:
        return None
    if stored == dict(SAMPLING) or (not stored and next(model.parameters(), None) is None):
        return "exact"
    found = "vectors" if len(model.event_shape) == 1 else "images"
    return found if not stored or stored == CHOSEN[found] else None
