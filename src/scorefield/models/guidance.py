"""Guidance: a model that is moved away from a weaker one.

    D = D_weak + w (D_strong - D_weak)

For classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598) D_strong is the model with its
condition and D_weak the same model without it; for autoguidance (Karras et al. 2024, arXiv
2406.02507) D_weak is a weaker model with the same condition. Guidance may be limited to an interval
of noise levels (Kynkäänniemi et al. 2024, arXiv 2404.07724).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import conditions
from ..conditions import Condition
from ..errors import InputError
from ..tensors import check_floating
from ..units import Units
from ..values import describe, finite, items, number
from .base import Quantity, ScoreModel, as_sigma, broadcast
from .wrapped import Wrapped


@dataclass(frozen=True)
class Guidance:
    """How `sample` guides a model.

    Args:
        scale: Strength w; 1 is none, 1.5 to 3 are usual.
        interval: (lowest, highest) noise level at which guidance acts, model units; None for all.
        weak: A weaker model to be guided away from (autoguidance); None for the model without its
            condition (classifier-free guidance).

    Raises:
        InputError: For a scale that is not finite, or an interval that is none.

    Example:
        sf.sample(model, 16, condition={"class": 7}, guidance=sf.Guidance(2.0, interval=(0.2, 5)))
    """

    scale: float
    interval: tuple[float, float] | None = None
    weak: ScoreModel | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", finite(self.scale, "the guidance scale"))
        if self.interval is not None:
            object.__setattr__(self, "interval", _read_interval(self.interval))
        if self.weak is not None and not isinstance(self.weak, ScoreModel):
            raise InputError(
                "guidance takes a weaker score model (weak=sf.load(...)); got "
                f"{describe(self.weak)}"
            )

    @staticmethod
    def of(value: Any) -> "Guidance":
        """A scale, or a Guidance as it is.

        Args:
            value: The argument `guidance` of `sample`.

        Returns:
            The guidance.

        Raises:
            InputError: For anything else.
        """
        return value if isinstance(value, Guidance) else Guidance(value)

    def wrap(self, model: ScoreModel, condition: Condition | None) -> "Guided":
        """The guided model.

        Args:
            model: The model to be guided.
            condition: The condition of the samples, or None.

        Returns:
            `Guided` of the model.

        Raises:
            InputError: As for `Guided`; where guidance would never act: without a condition to
                follow or a weaker model, or in an interval beyond the model's noise levels.
        """
        guided = Guided(model, self.scale, self.interval, self.weak)
        if self.weak is None and condition is None:
            raise InputError(
                "guidance needs a condition to follow, such as condition={'class': 7} (--class 7), "
                "or a weaker model to move away from (Guidance(weak=...), --guide RUN)"
            )
        low, high = model.sampling_range()
        if self.interval is not None and (self.interval[1] < low or self.interval[0] > high):
            raise InputError(
                f"the guidance interval [{self.interval[0]:g}, {self.interval[1]:g}] lies outside "
                f"the model's noise levels {low:g} to {high:g} (model units), so that guidance "
                "would never act"
            )
        return guided


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
        InputError: For a scale that is not finite, a reversed interval, a model that has no
            unconditional form where `weak` is None, or a `weak` of another event shape or in other
            units.
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
        needed = [name for name, spec in inner.conditions.items() if not spec.optional]
        if weak is None and needed:
            raise InputError(
                "classifier-free guidance needs a model that also learned the unconditional score, "
                f"and this one was trained with the condition {needed[0]!r} in every example "
                "(condition.dropout=0). Train with condition.dropout above 0, or give a weaker "
                "model (weak=, --guide)"
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
