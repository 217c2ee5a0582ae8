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
from .wrapped import WithoutDensity, Wrapped


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
        if isinstance(value, Guidance):
            return value
        if isinstance(value, ScoreModel):
            raise InputError(
                "guidance takes a scale, such as 1.5, or sf.Guidance(...); got a "
                f"{type(value).__name__}. A weaker model is given as sf.Guidance(1.5, weak=...), "
                "and a guided model as the model itself"
            )
        return Guidance(value)

    def wrap(self, model: ScoreModel, condition: Condition | None) -> "Guided":
        """The guided model.

        Args:
            model: The model to be guided.
            condition: The condition of the samples, or None.

        Returns:
            `Guided` of the model.

        Raises:
            InputError: As for `Guided`; where there is neither a condition to follow nor a weaker
                model; where the interval lies outside the model's range; or where the weaker model
                needs a condition that is not given.
        """
        guided = Guided(model, self.scale, self.interval, self.weak)
        if self.interval is not None:
            low, high = model.sigma_min, model.sigma_max
            _check_meets(self.interval, low, high, "the range of the model")
        if self.weak is None and condition is None:
            raise InputError(
                "guidance needs a condition to follow, such as condition={'class': 7} (--class 7), "
                "or a weaker model to move away from (Guidance(weak=...), --guide RUN)"
            )
        if self.weak is not None:
            known = _known(condition, self.weak) or {}
            rows = max((len(value) for value in known.values()), default=0)
            conditions.check(known or None, self.weak.conditions, rows, "the weak model")
        return guided


class Guided(WithoutDensity):
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
            unconditional form where `weak` is None, or a `weak` of another event shape, in other
            units, or whose classes or vectors mean something else.
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
        if weak is not None:
            _check_weak(weak, inner)
        self.scale, self.interval = scale, interval
        self.weak = weak

    def summary(self) -> str:
        weak = "its unconditional form" if self.weak is None else self.weak.summary()
        levels = ""
        if self.interval is not None:
            low, high = self.interval
            levels = f" for sigma in [{low:g}, {high:g}]"
        return f"Guidance with scale {self.scale:g}{levels} of {self.inner.summary()} from {weak}"

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

    def check_levels(self, ladder: Tensor) -> None:
        """Refuse noise levels at which guidance would not act, or cannot.

        Args:
            ladder: The noise levels of a sampler, model units.

        Raises:
            InputError: The interval lies outside the ladder, or guidance acts at a level at which
                the weak model is not defined.
        """
        if self.interval is not None:
            _check_meets(
                self.interval, float(ladder.min()), float(ladder.max()), "the ladder of the sampler"
            )
        levels = ladder[self._active(ladder)]
        if self.weak is None or self.scale == 1.0 or not len(levels):
            return
        try:
            self.weak.check_range(levels)
            if self.weak.ladder_only:
                self.weak.level_index(levels)
        except InputError as error:
            raise InputError(
                f"guidance acts where the weak model is not defined: {error}. Limit guidance to "
                "noise levels that both models know (interval=(low, high), --guidance-interval "
                "LOW,HIGH)"
            ) from error

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
        if not bool(active.all()) and self._rows_are_alike():
            return self._in_parts(x, sigma, condition, quantity, active)
        strong, weak = self._both(x, sigma, condition, quantity)
        guided = weak + self.scale * (strong - weak)
        if bool(active.all()):
            return guided
        return torch.where(broadcast(active.to(x.dtype), x) > 0, guided, strong)

    def _rows_are_alike(self) -> bool:
        """Whether some rows can be evaluated without the others at no loss.

        Not so in a wrapper, which may hold something for each row, and not in a compiled network,
        which would be compiled for every number of rows.
        """
        models = [self.inner] if self.weak is None else [self.inner, self.weak]
        return not any(isinstance(m, Wrapped) or m.compiled for m in models)

    def _in_parts(
        self,
        x: Tensor,
        sigma: Tensor,
        condition: Condition | None,
        quantity: Quantity,
        active: Tensor,
    ) -> Tensor:
        """The rows where guidance acts, guided, and the others unguided: no evaluation is lost."""
        inside, outside = active.nonzero().flatten(), (~active).nonzero().flatten()
        guided = self._guided(
            x[inside], sigma[inside], conditions.take(condition, inside), quantity
        )
        rest = self.inner(x[outside], sigma[outside], conditions.take(condition, outside), quantity)
        return torch.cat([guided, rest])[torch.cat([inside, outside]).argsort()]

    def _null(self, x: Tensor) -> Condition:
        return conditions.null(self.inner.conditions, len(x), x.device)

    def _weak(
        self, x: Tensor, sigma: Tensor, condition: Condition | None, quantity: Quantity
    ) -> Tensor:
        model, known = self.inner, None
        if self.weak is not None:
            model = self.weak
            known = _known(condition, model)
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


def _known(condition: Condition | None, model: ScoreModel) -> Condition | None:
    """What of a condition a model takes; None for nothing."""
    return {k: v for k, v in (condition or {}).items() if k in model.conditions} or None


def _check_meets(interval: tuple[float, float], low: float, high: float, what: str) -> None:
    """Refuse an interval of which no part lies in [low, high]."""
    if interval[1] < low or interval[0] > high:
        raise InputError(
            f"the guidance interval [{interval[0]:g}, {interval[1]:g}] lies outside {what}, sigma "
            f"{low:g} to {high:g} (model units), so that guidance would never act. Give an "
            "interval inside, or none"
        )


def _check_weak(weak: ScoreModel, inner: ScoreModel) -> None:
    """Refuse a weak model whose events, units or conditions are not those of the model."""
    if tuple(weak.event_shape) != tuple(inner.event_shape):
        raise InputError(
            f"the weak model must have the events {tuple(inner.event_shape)} of the model; "
            f"got {tuple(weak.event_shape)}"
        )
    if not _same_map(weak.units, inner.units):
        raise InputError(
            "the weak model must have the model units of the model: the same shift, scale and "
            "logit. Train both with the same data.units"
        )
    for name in weak.conditions.keys() & inner.conditions.keys():
        mine, other = inner.conditions[name], weak.conditions[name]
        named = mine.names is not None and other.names is not None
        alike = (mine.kind, mine.size) == (other.kind, other.size)
        if not alike or (named and mine.names != other.names):
            raise InputError(
                f"the condition {name!r} must mean the same in both models: the model takes "
                f"{mine.describe()}, and the weak model {other.describe()}. Train both on the same "
                "classes or columns, in the same order"
            )


def check_levels(model: ScoreModel, ladder: Tensor) -> None:
    """Refuse a ladder at which a guided model, or one that wraps it, is not guided or undefined.

    Args:
        model: Any model.
        ladder: The noise levels of a sampler, model units.

    Raises:
        InputError: As for `Guided.check_levels`.
    """
    while isinstance(model, Wrapped):
        if isinstance(model, Guided):
            model.check_levels(ladder)
        model = model.inner


def _same_map(a: Units, b: Units) -> bool:
    """Whether two units map data to the same model units."""
    return (
        a.logit == b.logit
        and bool((a.shift.cpu() == b.shift.cpu()).all())
        and bool((a.scale.cpu() == b.scale.cpu()).all())
    )
