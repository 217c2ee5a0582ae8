"""Models that wrap models: a condition fixed, guidance.

    Bound        p(x | c) for one c, as a model without conditions
    Guided       D = D_weak + w (D_strong - D_weak)

For classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598) D_strong is the model with its
condition and D_weak the same model without it; for autoguidance (Karras et al. 2024, arXiv
2406.02507) D_weak is a weaker model with the same condition. Guidance may be limited to an interval
of noise levels (Kynkäänniemi et al. 2024, arXiv 2404.07724).
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from .. import conditions
from ..conditions import Condition, ConditionSpec
from ..errors import InputError
from ..tensors import check_floating
from ..units import Units
from ..values import describe, finite, items, number
from .base import Moments, Quantity, ScoreModel, as_sigma, broadcast


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


class Guided(Wrapped):
    """A guided model: D = D_weak + scale (D_strong - D_weak), and the score likewise.

    scale 1 is the conditional model, 0 the weak one, more than 1 exaggerates their difference. A
    guided model has no density of its own: its D is not a posterior mean, and its samples do not
    follow p(x) p(c | x)^scale exactly.

    Args:
        inner: The model.
        scale: Strength w of the guidance; any finite number.
        interval: (lowest, highest) noise level at which guidance acts, model units; outside, the
            model is the conditional one. None for all levels.
        weak: The model to be guided away from, with those of the conditions that it takes: a
            weaker model (autoguidance), or one without conditions. None for `inner` without its
            condition (classifier-free guidance): it needs a model that was trained with conditions
            dropped.

    Raises:
        InputError: For a scale that is not finite, a reversed interval, a model without conditions
            and without `weak`, or a `weak` of another event shape or in other units.
    """

    weak: ScoreModel | None

    def __init__(
        self,
        inner: ScoreModel,
        scale: float,
        interval: tuple[float, float] | None = None,
        weak: ScoreModel | None = None,
    ) -> None:
        super().__init__(inner)
        scale = finite(scale, "the guidance scale")
        interval = None if interval is None else _read_interval(interval)
        if weak is None and not inner.conditions:
            raise InputError(
                f"guidance needs a model with conditions, which {type(inner).__name__} has not, "
                "or a weaker model (weak=)"
            )
        if weak is not None and tuple(weak.event_shape) != tuple(inner.event_shape):
            raise InputError(
                f"the weak model must have the events {tuple(inner.event_shape)} of the model; "
                f"got {tuple(weak.event_shape)}"
            )
        if weak is not None and not _same_map(weak.units, inner.units):
            raise InputError(
                "the weak model must have the model units of the model: the same shift, scale and "
                "logit. Train both with the same data.units"
            )
        self.scale, self.interval = scale, interval
        self.weak = weak

    def summary(self) -> str:
        weak = "its unconditional form" if self.weak is None else self.weak.summary()
        levels = ""
        if self.interval is not None:
            low, high = self.interval
            levels = f" for sigma in [{low:g}, {high:g}]"
        return f"Guidance with scale {self.scale:g}{levels} of {self.inner.summary()} from {weak}"

    @property
    def has_log_density(self) -> bool:  # type: ignore[override]
        """A guided model has no density."""
        return False

    def log_density(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """Raise Unsupported: a guided model has no density."""
        return ScoreModel.log_density(self, x, sigma, condition)

    def leaves(self) -> Iterator[ScoreModel]:
        """The leaves of the model, and of the weak one."""
        yield from self.inner.leaves()
        if self.weak is not None:
            yield from self.weak.leaves()

    def denoise(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None
    ) -> Tensor:
        """The guided denoised value; arguments as for any model."""
        return self._guided(x, sigma, condition, "denoise")

    def score(self, x: Tensor, sigma: Tensor | float, condition: Condition | None = None) -> Tensor:
        """The guided score; arguments as for any model."""
        return self._guided(x, sigma, condition, "score")

    def _active(self, sigma: Tensor) -> Tensor:
        """Where guidance acts: bool of sigma's shape."""
        if self.interval is None:
            return torch.ones_like(sigma, dtype=torch.bool)
        return (sigma >= self.interval[0]) & (sigma <= self.interval[1])

    def _guided(
        self, x: Tensor, sigma: Tensor | float, condition: Condition | None, quantity: Quantity
    ) -> Tensor:
        check_floating(x, "x")
        sigma = as_sigma(sigma)
        off = self.scale == 1.0 or (self.weak is None and condition is None)
        active = self._active(sigma)
        if off or not bool(active.any()):
            unguided: Tensor = self.inner(x, sigma, condition, quantity)
            return unguided
        if self.scale == 0.0 and bool(active.all()):
            return self._weak(x, sigma, condition, quantity)
        strong, weak = self._both(x, sigma, condition, quantity)
        guided = weak + self.scale * (strong - weak)
        if bool(active.all()):
            return guided
        return torch.where(broadcast(active.to(x.dtype), x) > 0, guided, strong)

    def _null(self, x: Tensor) -> Condition:
        return conditions.null(self.inner.conditions, len(x), x.device)

    def _weak(
        self, x: Tensor, sigma: Tensor, condition: Condition | None, quantity: Quantity
    ) -> Tensor:
        model, known = self.inner, None
        if self.weak is not None:
            model = self.weak
            known = {k: v for k, v in (condition or {}).items() if k in model.conditions} or None
        value: Tensor = model(x, sigma, known, quantity)
        return value

    def _both(
        self, x: Tensor, sigma: Tensor, condition: Condition | None, quantity: Quantity
    ) -> tuple[Tensor, Tensor]:
        """The strong and the weak value; one batched evaluation where one model gives both."""
        if self.weak is not None or condition is None:
            return (
                self.inner(x, sigma, condition, quantity),
                self._weak(x, sigma, condition, quantity),
            )
        nothing = {k: v for k, v in self._null(x).items() if k in condition}
        twice = conditions.concatenate(
            dict(condition), {k: v.to(condition[k].dtype) for k, v in nothing.items()}
        )
        levels = torch.cat([sigma, sigma]) if sigma.ndim else sigma
        strong, weak = self.inner(torch.cat([x, x]), levels, twice, quantity).chunk(2)
        return strong, weak


def _read_interval(interval: Any) -> tuple[float, float]:
    """(lowest, highest) noise level of the guidance."""
    name, needed = "the guidance interval", "(lowest, highest)"
    ends = [number(one, name) for one in items(interval, name, needed)]
    if len(ends) != 2 or not 0 <= ends[0] <= ends[1]:
        raise InputError(f"{name} must be {needed}; got {describe(interval)}")
    return ends[0], ends[1]


def _same_map(a: Units, b: Units) -> bool:
    """Whether two units map data to the same model units."""
    return (
        a.logit == b.logit
        and bool((a.shift.cpu() == b.shift.cpu()).all())
        and bool((a.scale.cpu() == b.scale.cpu()).all())
    )
