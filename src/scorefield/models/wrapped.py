"""Models that wrap models: `Wrapped` forwards everything, `Bound` fixes the condition.

    Bound        p(x | c) for one c, as a model without conditions

`guidance.Guided` is another one.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor

from .. import conditions
from ..conditions import Condition, ConditionSpec
from ..tensors import check_floating
from ..units import Units
from .base import Moments, ScoreModel


class Wrapped(ScoreModel):
    """A model that forwards everything to `inner`. A subclass overrides what it changes.

    Args:
        inner: The model to wrap.
    """

    inner: ScoreModel

    def __init__(self, inner: ScoreModel) -> None:
        super().__init__()
        self.inner = inner

    def summary(self) -> str:
        return f"{type(self).__name__} of a model: {self.inner.summary()}"

    @property
    def event_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of one example."""
        return self.inner.event_shape

    @property
    def sigma_min(self) -> float:  # type: ignore[override]
        """Smallest noise level at which the inner model is defined."""
        return self.inner.sigma_min

    @property
    def sigma_max(self) -> float:  # type: ignore[override]
        """Largest noise level at which the inner model is defined."""
        return self.inner.sigma_max

    @property
    def ladder(self) -> Tensor | None:  # type: ignore[override]
        """Noise levels that the model was trained on."""
        return self.inner.ladder

    @property
    def ladder_only(self) -> bool:  # type: ignore[override]
        """True where the inner model is defined at the levels of its ladder only."""
        return self.inner.ladder_only

    @property
    def has_log_density(self) -> bool:  # type: ignore[override]
        """True where `log_density` is implemented."""
        return self.inner.has_log_density

    @property
    def sampling_defaults(self) -> Mapping[str, Any]:  # type: ignore[override]
        """The inner model's defaults."""
        return self.inner.sampling_defaults

    @property
    def conditions(self) -> Mapping[str, ConditionSpec]:  # type: ignore[override]
        """What the model can be conditioned on."""
        return self.inner.conditions

    @property
    def units(self) -> Units:  # type: ignore[override]
        """The map between data units and model units."""
        return self.inner.units

    @property
    def card(self) -> dict[str, Any] | None:  # type: ignore[override]
        """The inner model's card."""
        return self.inner.card

    def denoise(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """The inner model's denoised value."""
        return self.inner.denoise(x, sigma, condition)

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        """The inner model's score."""
        return self.inner.score(x, sigma, condition)

    def log_density(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """The inner model's log density."""
        return self.inner.log_density(x, sigma, condition)

    def moments(self, condition: Condition | None = None) -> Moments | None:
        """The inner model's moments."""
        return self.inner.moments(condition)

    def sampling_range(self) -> tuple[float, float]:
        """The inner model's range of default ladders."""
        return self.inner.sampling_range()

    def leaves(self) -> Iterator[ScoreModel]:
        """The inner model's leaves."""
        return self.inner.leaves()

    def check_range(self, sigma: Tensor) -> None:
        """Refuse noise levels outside the inner model's range."""
        self.inner.check_range(sigma)

    def level_index(self, sigma: Tensor) -> Tensor:
        """The inner model's index of each noise level."""
        return self.inner.level_index(sigma)


class WithoutDensity(Wrapped):
    """A wrapped model whose score is that of no known density."""

    @property
    def has_log_density(self) -> bool:  # type: ignore[override]
        """It has no density."""
        return False

    def log_density(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """Raise Unsupported: the model has no density."""
        return ScoreModel.log_density(self, x, sigma, condition)


class Bound(Wrapped):
    """A model with its condition fixed: p(x | c) as a model that takes no condition.

    Args:
        inner: The model.
        condition: In the internal form: one row for all samples, or one row a sample (then every
            evaluation needs as many samples). None leaves the model unconditional.

    Raises:
        InputError: For a condition that the model does not take.
    """

    def __init__(self, inner: ScoreModel, condition: Condition | None) -> None:
        super().__init__(inner)
        self.condition = condition
        if condition is not None:
            rows = max((len(value) for value in condition.values()), default=1)
            name = type(inner).__name__
            conditions.check(conditions.expand(condition, rows), inner.conditions, rows, name)

    @property
    def conditions(self) -> Mapping[str, ConditionSpec]:  # type: ignore[override]
        """Empty: the condition is fixed."""
        return MappingProxyType({})

    def summary(self) -> str:
        rows = {name: value.tolist() for name, value in (self.condition or {}).items()}
        shown = ", ".join(
            f"{name} {row[0]}" if len(row) == 1 else f"a {name} for each of {len(row)} samples"
            for name, row in rows.items()
        )
        return f"Model given {shown or 'no condition'}: {self.inner.summary()}"

    def _rows(self, x: Tensor, condition: Condition | None) -> Condition | None:
        conditions.check(condition, {}, len(x), type(self).__name__)
        check_floating(x, "x")
        return conditions.to_device(conditions.expand(self.condition, len(x)), x.device)

    def denoise(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """E[x0 | x, c]."""
        return self.inner.denoise(x, sigma, self._rows(x, condition))

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        """grad log p_sigma(x | c)."""
        return self.inner.score(x, sigma, self._rows(x, condition))

    def log_density(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """log p_sigma(x | c)."""
        return self.inner.log_density(x, sigma, self._rows(x, condition))

    def moments(self, condition: Condition | None = None) -> Moments | None:
        """The moments of x0 given c."""
        return self.inner.moments(self.condition)
