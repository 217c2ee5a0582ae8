"""`ArrayForm`: arrays in their type and layout, from stored values to data units and back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..conditions import Condition
from ..errors import InputError
from ..files import write_npy, write_npz
from ..tensors import without_mask
from ..units import quantise
from .form import Form, register

SUFFIXES = ("npy", "npz")


@register
@dataclass(frozen=True)
class ArrayForm(Form):
    """How the examples of an array map to data units.

    Stored values v of quantised images are low + step k for levels k = 0 .. levels - 1, and k /
    (levels - 1) in data units. Images with a range are (v - low)/step. Other values are in data
    units as they are.

    Attributes:
        dtype: NumPy's name of the stored type, native byte order.
        axis: The axis of the array (N, ...) that holds the channels; None where it has none.
        insert: Whether the array has no channel axis and examples have one.
        levels: Number of levels of quantised images, or None.
        low, step: The map above.
        image: Whether data units are images in [0, 1].
        rounded: Whether values in their own units are whole numbers, but for channels in `free`.
        constant: The channels (columns of vectors) that never change.
        free: The channels whose values are not whole numbers.
        counts: The channels of whole numbers of 0 or more; samples are not below 0.
        container: "npy" or "npz": what `write` makes by default.
        key: The name of the array in an .npz.
    """

    kind: ClassVar[str] = "array"
    formats: ClassVar[tuple[str, ...]] = SUFFIXES

    dtype: str = "float32"
    axis: int | None = None
    insert: bool = False
    levels: int | None = None
    low: float = 0.0
    step: float = 1.0
    image: bool = False
    rounded: bool = False
    constant: tuple[int, ...] = ()
    free: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    container: str = "npy"
    key: str = "samples"

    # -- layout

    def _to_source_layout(self, x: np.ndarray) -> np.ndarray:
        if self.insert:
            return x[:, 0]
        return x if self.axis in (None, 1) else np.moveaxis(x, 1, self.axis)

    def arranged(self, array: np.ndarray, name: str) -> np.ndarray:
        """An array in the source's layout as (N, *event); one example gets a first dimension.

        Raises:
            InputError: Its shape is not that of the model's examples.
        """
        if self.event_shape[0] == 1 and not self.insert:  # the axis of one channel may be left out
            places = self.event_shape[1:]
            if array.shape == places:
                return array[None, None]
            if array.ndim == len(self.event_shape) and array.shape[1:] == places:
                return array[:, None]
        dims = len(self.event_shape) + (0 if self.insert else 1)
        if array.ndim == dims - 1:
            array = array[None]
        if array.ndim == dims:
            if self.insert:
                array = array[:, None]
            elif self.axis not in (None, 1):
                array = np.moveaxis(array, self.axis, 1)
        if tuple(array.shape[1:]) != self.event_shape:
            want = self._to_source_layout(np.empty((1, *self.event_shape), np.int8)).shape[1:]
            raise InputError(
                f"{name} has shape {tuple(array.shape)}; the model needs examples of shape "
                f"{tuple(want)}, alone or as (N, ...)"
            )
        return array

    # -- values

    def decode(self, x: Tensor) -> np.ndarray:
        """Examples in the source's type and layout.

        Args:
            x: (N, *event) in data units, floating.

        Returns:
            (N, ...) of type `dtype`; images are clipped to their range.
        """
        return self._to_source_layout(self._stored(x).astype(self.dtype))

    def _stored(self, x: Tensor) -> np.ndarray:
        """Data units as stored values, not yet in the stored type."""
        if self.levels is not None:
            stored = quantise(x.cpu(), self.levels).numpy()
            low, step = int(self.low), int(self.step)
            return stored * step + low
        wide = x.detach().cpu()
        if self.image:
            exact = wide.to(torch.float64).clamp(0, 1).numpy()
            return self.low + self.step * exact if (self.low, self.step) != (0, 1) else exact
        if not self.rounded:
            return wide.numpy()
        kind = np.dtype(self.dtype)
        values = wide.to(torch.float64).numpy().copy()
        for channel in range(self.event_shape[0]):
            if channel not in self.free:
                values[:, channel] = np.round(values[:, channel])
            if channel in self.counts:
                values[:, channel] = np.maximum(values[:, channel], 0)
        if kind.kind == "b":
            return values > 0.5
        if kind.kind in "iu":
            info = np.iinfo(kind)
            # 2**63 - 1 is no float64: the largest one below it is taken.
            top = np.nextafter(float(info.max), 0) if info.max > 1 << 53 else info.max
            return np.clip(values, info.min, top)
        return values

    def encode(self, items: Any, name: str = "the data", blanks: bool = False) -> Tensor:
        """Stored values as examples in data units.

        Args:
            items: An array (N, ...) in the source's layout, or one example.
            name: The source, for messages.
            blanks: Whether NaN is allowed, in floats.

        Returns:
            (N, *event), float64 where the values need it, else float32.

        Raises:
            InputError: The shape or the values do not fit the model's data.
        """
        array = self.arranged(np.asarray(without_mask(items, name)), name)
        if array.dtype.kind not in "biuf":
            raise InputError(f"{name}: need real numbers; got dtype {array.dtype}")
        wide = array.astype(np.float64)
        known = wide[np.isfinite(wide)] if blanks else wide
        if not blanks and not np.isfinite(wide).all():
            raise InputError(f"{name} holds NaN or infinite values; every value must be finite")
        if self.levels is not None:
            return self._encode_levels(wide, known, name)
        if self.image:
            low, high = self.low, self.low + self.step
            slack = 1e-6 * self.step
            if known.size and (known.min() < low - slack or known.max() > high + slack):
                raise InputError(
                    f"{name} spans {known.min():g} to {known.max():g}; the model's images lie in "
                    f"{low:g} to {high:g}. Rescale the values"
                )
            wide = (wide - self.low) / self.step
        kind = np.dtype(self.dtype)
        exact = kind.itemsize > 4 or (self.rounded and kind.kind != "f")
        self._refuse_fractions(wide, name)
        return torch.from_numpy(wide if exact else wide.astype(np.float32))

    def _refuse_fractions(self, wide: np.ndarray, name: str) -> None:
        """Raise for fractions in channels of whole numbers."""
        if not self.rounded:
            return
        for channel in sorted(set(range(self.event_shape[0])) - {*self.free, *self.constant}):
            values = wide[:, channel]
            odd = np.isfinite(values) & (values != np.round(values))
            if odd.any():
                raise InputError(
                    f"{name}: channel or column {channel} holds {values[odd][0]:g}; the model's "
                    "data hold whole numbers there. Round the values, or train a model of data "
                    "that hold such numbers"
                )

    def _encode_levels(self, wide: np.ndarray, known: np.ndarray, name: str) -> Tensor:
        assert self.levels is not None
        level = (wide - self.low) / self.step
        seen = (known - self.low) / self.step
        top = self.levels - 1
        if seen.size and (seen.min() < 0 or seen.max() > top or (seen != np.round(seen)).any()):
            every = f" in steps of {self.step:g}" if self.step != 1 else ""
            raise InputError(
                f"{name} spans {known.min():g} to {known.max():g}; the model's images hold whole "
                f"numbers {self.low:g} to {self.low + self.step * top:g}{every}. Give stored values"
            )
        return torch.from_numpy((level / top).astype(np.float32 if top < 1 << 12 else np.float64))

    @property
    def steps(self) -> list[float] | None:
        """1 for whole numbers in their own units, 0 for constant channels and other numbers."""
        if not self.rounded:
            return None
        channels = self.event_shape[0]
        positions = int(np.prod(self.event_shape[1:]))
        still = {*self.constant, *self.free}
        return [0.0 if c in still else 1.0 for c in range(channels) for _ in range(positions)]

    # -- files and card

    def write(
        self,
        stem: Path,
        x: Tensor,
        format: str | None = None,
        condition: Condition | None = None,
    ) -> list[Path]:
        """Write examples as an .npy or .npz file.

        Args:
            stem: The path without a suffix.
            x: (N, *event) in data units.
            format: "npy" or "npz"; None: that of the source.
            condition: What the examples were drawn with; an .npz holds it too.

        Returns:
            The file.

        Raises:
            InputError: The format is neither.
        """
        suffix = format or self.container
        self.check_format(suffix)
        path = stem.with_name(f"{stem.name}.{suffix}")
        array = np.ascontiguousarray(self.decode(x))
        if suffix == "npy":
            return [write_npy(path, array)]
        given = {k: v.cpu().numpy() for k, v in (condition or {}).items() if k != self.key}
        return [write_npz(path, **{self.key: array}, **given)]

    def to_dict(self) -> dict[str, Any]:
        """All fields, in a form that JSON can hold."""
        values = asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ArrayForm":
        """The form that `to_dict` wrote."""
        listed: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**listed)
