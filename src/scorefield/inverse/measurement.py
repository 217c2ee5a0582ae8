"""A measurement y = A(x) + noise_std n with n ~ N(0, I), in data units."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError
from ..plotting import paragraph
from ..tensors import as_tensor, check_finite, reals
from ..units import Units
from ..values import describe, finite
from .operators import Composed, Mask, Operator, Rescaled
from .stored import Form, read_stored


@dataclass(frozen=True)
class Reading:
    """What `Measurement.read` returns.

    Attributes:
        values: float64 (K, *measurement) in data units.
        form: The form in which the observation came.
        single: Whether one measurement was given without a batch dimension.
    """

    values: Tensor
    form: Form
    single: bool


@dataclass(frozen=True)
class Measurement:
    """An observation, its operator and its noise.

    Whole numbers are stored values of quantised data, 0 to levels - 1, and enter at the middle of
    their bin. So do floats seen through a mask that all lie on the grid k / (levels - 1). Other
    floats are in data units and are taken as they are.

    NaN marks an element that was not observed; only masks have such elements.

    Args:
        observed: One measurement or a batch (K, *measurement), as an array or a tensor.
        operator: What is measured of x; None: every element that is not NaN.
        noise_std: The standard deviation of each element's noise, in data units; 0 is exact.

    Raises:
        InputError: The noise is negative or not finite, or the observation is complex, not numeric
            or not finite.
    """

    observed: Any
    operator: Operator | None = None
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise_std", finite(self.noise_std, "noise_std", 0.0))
        if self.operator is not None and not isinstance(self.operator, Operator):
            raise InputError(
                "operator must be an Operator, such as sf.operators.Mask(mask); got "
                f"{describe(self.operator)}"
            )
        value = as_tensor(self.observed, "the observation")
        object.__setattr__(self, "observed", value)
        if value.is_complex():
            raise InputError(
                "the observation holds complex numbers; give real and imaginary parts as two "
                "channels"
            )
        if bool(torch.isinf(value).any()):
            raise InputError(
                "the observation holds infinite values; give finite numbers, and NaN or a mask for "
                "unknown elements"
            )
        masked = self.operator is None or isinstance(self.operator, Mask)
        if not masked and bool(torch.isnan(value).any()):
            raise InputError(
                f"the observation of {type(self.operator).__name__} holds NaN; only elements seen "
                "through a mask may be unknown. Remove them from the operator"
            )

    def whole(self, event_shape: tuple[int, ...]) -> Operator:
        """The operator; where none was given, a mask under which every element is known.

        Raises:
            InputError: A mask does not fit the event.
        """
        operator = self.operator
        if operator is None:
            return Mask(torch.ones(event_shape, dtype=torch.bool))
        if isinstance(operator, Mask):
            operator.on(event_shape)  # its own message, where the mask does not fit
        return operator

    def __repr__(self) -> str:
        value = self.tensor
        kind = str(value.dtype).removeprefix("torch.")
        blank = int(torch.isnan(value).sum()) if value.is_floating_point() else 0
        known = value[~torch.isnan(value)] if blank else value
        text = f"Measurement of shape {tuple(value.shape)}, {kind}"
        if known.numel():
            text += f", values {float(known.min()):.4g} to {float(known.max()):.4g}"
        if blank:
            text += f", {blank:,} elements not observed (NaN)"
        if self.operator is not None:
            text += f", of {type(self.operator).__name__}(x)"
        if isinstance(self.operator, Mask):
            text += f", of which {float(self.operator.mask.double().mean()):.0%} is known"
        noise = f"noise of standard deviation {self.noise_std:g}" if self.noise_std else "no noise"
        return paragraph(f"{text}; {noise}.")

    @property
    def tensor(self) -> Tensor:
        """The observation as it came, as a tensor on the CPU."""
        value: Tensor = self.observed
        return value.cpu()

    def resolve(self, event_shape: tuple[int, ...]) -> "Measurement":
        """The same measurement with an operator, and without NaN.

        Args:
            event_shape: The shape of the model's examples.

        Returns:
            The measurement; unknown elements are 0 and hidden by a mask, one for each observation
            where they differ.

        Raises:
            InputError: The mask does not fit the event, or nothing was observed.
        """
        operator = self.whole(event_shape)
        value = self.tensor
        unknown = torch.isnan(value)
        if not bool(unknown.any()):
            return replace(self, operator=operator)
        assert isinstance(operator, Mask)
        filled, single = replace(self, observed=value.nan_to_num(0.0), operator=operator).batch(
            event_shape
        )
        known = operator.on(event_shape) & ~unknown.reshape(filled.shape)
        mask = Mask(known[0]) if single else Mask(known, batched=True)
        return Measurement(filled[0] if single else filled, mask, self.noise_std)

    def batch(self, event_shape: tuple[int, ...]) -> tuple[Tensor, bool]:
        """The observations as they came, with a batch dimension.

        Args:
            event_shape: The shape of the model's examples.

        Returns:
            (K, *measurement), and whether there was no batch dimension. The channel dimension of
            grey images may be left out of a single measurement.

        Raises:
            InputError: The shape is not that of A(x).
        """
        operator = self.whole(event_shape)
        shape = operator.measurement_shape(event_shape)
        value = self.tensor
        if value.ndim == len(shape) - 1 and shape[0] == 1:
            value = value[None]
        single = value.ndim == len(shape)
        if single:
            value = value[None]
        if value.ndim != len(shape) + 1 or tuple(value.shape[1:]) != shape:
            raise InputError(
                f"the observation must have shape {shape}, that of A(x) for the model's event "
                f"shape {tuple(event_shape)}, alone or batched; got {tuple(self.tensor.shape)}"
            )
        if len(value) == 0:
            raise InputError("the batch of observations is empty; at least one is needed")
        if isinstance(operator, Mask) and operator.batched and len(operator.mask) != len(value):
            raise InputError(
                f"a batched mask needs one mask for each observation; got {len(operator.mask)} "
                f"masks for {len(value)} observations"
            )
        return value, single

    def read(self, units: Units, event_shape: tuple[int, ...]) -> Reading:
        """The observations in data units.

        Args:
            units: The model's units.
            event_shape: The shape of the model's examples.

        Raises:
            InputError: Shape, type or range do not fit the model.
        """
        value, single = self.batch(event_shape)
        operator = self.whole(event_shape)
        known = operator.on(event_shape) if isinstance(operator, Mask) else None
        values, form = read_stored(value, units, known, self.noise_std)
        return Reading(values, form, single)

    def to_model_units(self, units: Units, event_shape: tuple[int, ...]) -> "Measurement":
        """The same measurement of x in model units.

        With data = shift + scale x a linear A gives y - A(shift) = A(scale x) + noise_std n: the
        operator becomes x -> A(scale x), and the noise is unchanged. Exact observations through a
        mask are converted element by element, whatever the units. Otherwise the operator becomes
        x -> A(to_data(x)).

        Args:
            units: The model's units.
            event_shape: The shape of the model's examples.

        Returns:
            A measurement whose `observed` is float64 (K, *measurement).

        Raises:
            InputError: Shape, type or range do not fit the model.
        """
        values = self.read(units, event_shape).values
        operator = self.whole(event_shape)
        if isinstance(operator, Mask) and self.noise_std == 0:
            mask = operator.on(event_shape)
            # Unknown elements may hold any number, also one that a logit does not take.
            middle = units.to_data(torch.zeros(1, *event_shape, dtype=torch.float64))
            filled = torch.where(mask, values, middle)
            return Measurement(operator.A(units.to_model(filled)), operator)
        if operator.linear and units.is_affine:
            shift = operator.A(units.shift.expand(len(values), *event_shape))
            scale = torch.where(units.constant, 0.0, units.scale)
            return Measurement(values - shift, Rescaled(operator, scale), self.noise_std)
        return Measurement(values, Composed(operator, units), self.noise_std)


def simulate(x: Tensor, operator: Operator, noise_std: float = 0.0, seed: int = 0) -> Measurement:
    """Measure examples: y = A(x) + noise_std n.

    Args:
        x: (K, *event) in data units, floating.
        operator: What is measured.
        noise_std: Standard deviation of each element's noise, data units.
        seed: The noise of example k is a function of (seed, k).

    Returns:
        The measurement of the batch.

    Raises:
        InputError: `noise_std` is negative or not finite, or x is not floating.
    """
    noise_std = finite(noise_std, "noise_std", 0.0)
    x = check_finite(reals(x, "x"), "x")
    if not x.is_floating_point():
        raise InputError(f"simulate needs floats in data units; got {x.dtype}")
    y = operator.A(x)
    if noise_std > 0:
        keys = rng.keys(seed, len(y)).to(y.device)
        y = y + noise_std * rng.normal(keys, rng.Stream.MEASUREMENT, 0, y.shape[1:], y.dtype)
    return Measurement(y, operator, noise_std)
