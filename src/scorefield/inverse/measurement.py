"""A measurement y of x, its operator and the law of its noise, in data units.

y = A(x) + noise_std n,  n ~ N(0, I)        or another law of y given A(x) (`noises`)
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError
from ..exact import LinearGaussian
from ..plotting import paragraph
from ..tensors import check_finite, float64, reals
from ..units import Units
from ..values import describe, finite, is_number
from .noises import GaussianNoise, Noise
from .observed import ObservedTable, read_observed
from .operators import Composed, Mask, Operator, Rescaled
from .problem import Problem, make_problem
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

    NaN marks an element that was not observed. Observations with another law than Gaussian noise,
    such as counts, are taken as they are.

    Args:
        observed: One measurement or a batch (K, *measurement), as an array or a tensor. Of a model
            of a table also rows as a data frame, an Arrow table or a mapping of columns, which
            `restore` matches by name; blank cells are unknown.
        operator: What is measured of x; None: every element that is not NaN.
        noise_std: The standard deviation of the noise, in the units of the measurement: one number,
            or an array that broadcasts against the measurement; 0 is exact.
        noise: The law of the noise, in place of `noise_std`: `sf.inverse.PoissonNoise(gain)`,
            `GaussianNoise(covariance=...)` and others. None: `noise_std` decides.

    Raises:
        InputError: The noise is negative or not finite, or the observation is complex, not numeric
            or not finite.
    """

    observed: Any
    operator: Operator | None = None
    noise_std: Any = 0.0
    noise: Noise | None = None

    def __post_init__(self) -> None:
        self._read_noise()
        if self.operator is not None and not isinstance(self.operator, Operator):
            raise InputError(
                "operator must be an Operator, such as sf.operators.Mask(mask); got "
                f"{describe(self.operator)}"
            )
        value = read_observed(self.observed)
        object.__setattr__(self, "observed", value)
        if isinstance(value, ObservedTable):
            return
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

    def _read_noise(self) -> None:
        """Check the two forms of the noise."""
        if self.noise is not None:
            if not isinstance(self.noise, Noise):
                raise InputError(
                    "noise must be a law of the noise, such as sf.inverse.PoissonNoise(gain=100); "
                    f"got {describe(self.noise)}. A standard deviation is noise_std="
                )
            if is_number(self.noise_std) and self.noise_std == 0:
                return
            raise InputError("give noise_std or noise, not both")
        if is_number(self.noise_std):
            object.__setattr__(self, "noise_std", finite(self.noise_std, "noise_std", 0.0))
            return
        if self.noise_std is None or isinstance(self.noise_std, bool | str):
            finite(self.noise_std, "noise_std", 0.0)
        values = GaussianNoise(check_finite(float64(self.noise_std, "noise_std"), "noise_std"))
        given = values.std if values.number is None else values.number
        object.__setattr__(self, "noise_std", given)

    @property
    def law(self) -> Noise:
        """The law of the noise."""
        return GaussianNoise(self.noise_std) if self.noise is None else self.noise

    @property
    def exact(self) -> bool:
        """Whether the observation has no noise."""
        law = self.law
        return isinstance(law, GaussianNoise) and law.exact

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
        if isinstance(self.observed, ObservedTable):
            return paragraph(f"Measurement of {self.observed}; {self._noise_words()}.")
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
        return paragraph(f"{text}; {self._noise_words()}.")

    def _noise_words(self) -> str:
        if self.noise is not None:
            return type(self.noise).__name__.removesuffix("Noise") + " noise"
        if not isinstance(self.noise_std, float):
            low, high = float(self.noise_std.min()), float(self.noise_std.max())
            return f"noise of standard deviations {low:g} to {high:g}"
        return f"noise of standard deviation {self.noise_std:g}" if self.noise_std else "no noise"

    @property
    def tensor(self) -> Tensor:
        """The observation as it came, as a tensor on the CPU.

        Raises:
            InputError: It is a table, whose columns are matched with those of a model first.
        """
        if isinstance(self.observed, ObservedTable):
            raise InputError(
                "the observation has named columns, which restore and plan_restoration match with "
                "those of the model. Give an array here, with the columns in the model's order"
            )
        value: Tensor = self.observed
        return value.cpu()

    def resolve(self, event_shape: tuple[int, ...]) -> "Measurement":
        """The same measurement with an operator, and without NaN.

        Args:
            event_shape: The shape of the model's examples.

        Returns:
            The measurement. Of masks, unknown elements are 0 and hidden by the mask, one for each
            observation where they differ; of other operators they stay NaN.

        Raises:
            InputError: The mask does not fit the event, or nothing was observed.
        """
        operator = self.whole(event_shape)
        value = self.tensor
        unknown = torch.isnan(value)
        if not bool(unknown.any()) or not isinstance(operator, Mask):
            return replace(self, operator=operator)
        filled, single = replace(self, observed=value.nan_to_num(0.0), operator=operator).batch(
            event_shape
        )
        known = operator.on(event_shape) & ~unknown.reshape(filled.shape)
        mask = Mask(known[0]) if single else Mask(known, batched=True)
        return replace(self, observed=filled[0] if single else filled, operator=mask)

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
        law = self.law
        if not isinstance(law, GaussianNoise):
            wide = value.to(torch.float64)
            law.check(wide)
            return Reading(wide, Form(units.dtype, None, units.image), single)
        known = operator.on(event_shape) if isinstance(operator, Mask) else None
        widest = float(law.matrix_diagonal(tuple(value.shape[1:])).max().sqrt())
        values, form = read_stored(value, units, known, widest)
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
        if isinstance(operator, Mask) and self.exact:
            mask = operator.on(event_shape)
            # Unknown elements may hold any number, also one that a logit does not take.
            middle = units.to_data(torch.zeros(1, *event_shape, dtype=torch.float64))
            filled = torch.where(mask, values, middle)
            return Measurement(operator.A(units.to_model(filled)), operator)
        if operator.linear and units.is_affine and isinstance(self.law, GaussianNoise):
            shift = operator.A(units.shift.expand(len(values), *event_shape))
            scale = torch.where(units.constant, 0.0, units.scale)
            return replace(self, observed=values - shift, operator=Rescaled(operator, scale))
        return replace(self, observed=values, operator=Composed(operator, units))

    def problem(self, units: Units, event_shape: tuple[int, ...]) -> Problem:
        """The measurement in model units as methods of restoration see it.

        Args:
            units: The model's units.
            event_shape: The shape of the model's examples.

        Returns:
            A problem with one row an observation, float64.

        Raises:
            InputError: Shape, type, range or noise do not fit.
        """
        measurement = self.resolve(event_shape)
        inner = measurement.to_model_units(units, event_shape)
        assert inner.operator is not None
        known = measurement.kept(event_shape)
        return make_problem(inner.observed, inner.operator, event_shape, self.law, known)

    def data_problem(self, values: Tensor, event_shape: tuple[int, ...]) -> Problem:
        """The same in data units, for the values (K, *measurement) that `read` gives."""
        return make_problem(
            values, self.whole(event_shape), tuple(event_shape), self.law, self.kept(event_shape)
        )

    def kept(self, event_shape: tuple[int, ...]) -> Tensor | None:
        """The elements that a mask keeps, bool (1 or K, *event); None for other operators."""
        operator = self.whole(event_shape)
        if not isinstance(operator, Mask):
            return None
        known = operator.on(event_shape)
        return known if operator.batched else known[None]

    def linear_gaussian(self, event_shape: tuple[int, ...]) -> LinearGaussian:
        """One observation of a linear operator with Gaussian noise, as matrices.

        It is in the units in which this measurement is: `to_model_units` first for a model's.

        Args:
            event_shape: The shape of an example, of d elements.

        Returns:
            A (m, d), y (m,) and the noise's covariance (m, m); missing elements left out.

        Raises:
            InputError: The operator is not linear, the noise not Gaussian, or there are several
                observations.
        """
        measurement = self.resolve(event_shape)
        operator, law = measurement.whole(event_shape), self.law
        if not operator.linear or not isinstance(law, GaussianNoise):
            raise InputError(
                "an exact posterior needs a linear operator and Gaussian noise; got "
                f"{type(operator).__name__} with {self._noise_words()}"
            )
        y, _ = measurement.batch(event_shape)
        if len(y) != 1:
            raise InputError(f"an exact posterior is of one observation; got {len(y)}")
        problem = measurement.data_problem(y.to(torch.float64), event_shape)
        return problem.linear_gaussian(tuple(event_shape))


def simulate(
    x: Tensor,
    operator: Operator,
    noise_std: Any = 0.0,
    seed: int = 0,
    noise: Noise | None = None,
) -> Measurement:
    """Measure examples: y = A(x) + noise_std n, or by another law of the noise.

    Args:
        x: (K, *event) in data units, floating.
        operator: What is measured.
        noise_std: As for `Measurement`.
        seed: The noise of example k is a function of (seed, k).
        noise: As for `Measurement`.

    Returns:
        The measurement of the batch.

    Raises:
        InputError: `noise_std` is negative or not finite, or x is not floating.
    """
    x = check_finite(reals(x, "x"), "x")
    if not x.is_floating_point():
        raise InputError(f"simulate needs floats in data units; got {x.dtype}")
    mean = operator.A(x)
    made = Measurement(mean, operator, noise_std, noise)
    if made.exact:
        return made
    keys, stream = rng.keys(seed, len(mean)).to(mean.device), rng.Stream.MEASUREMENT
    shape = mean.shape[1:]
    normal = [rng.normal(keys, stream, step, shape, mean.dtype) for step in range(2)]
    uniform = rng.uniform(keys, stream, 2, shape, mean.dtype)
    y = made.law.simulate(mean, torch.stack(normal), uniform)
    return replace(made, observed=y)
