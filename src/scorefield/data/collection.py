"""A collection: N events of one shape as a tensor (N, *event), channel first, with what there is to
know of them.

What an array's dimensions mean:

    array                                        event          it is
    (N, d)                                       (d,)           a table or vectors; with channels=1 a signal (1, d)
    (N, H, W)                                    (1, H, W)      a field; with channels=C equal to the second length a signal (C, L)
    (N, 1, L)                                    (1, L)         a signal
    (N, C, H, W)                                 (C, H, W)      a field
    (N, H, W, C), C 1 or 3, or channels=C        (C, H, W)      a field, where the second length is not 1 or 3 (or C)
    (N, D, H, W), channels=1, no length 1        (1, D, H, W)   a volume
    (N, C, D, H, W), or C last as above          (C, D, H, W)   a volume

Fields (C, H, W) with one or three channels are *images* where they are uint8 (stored so, 256
levels) or floats that all lie in [0, 1].
Everything else keeps its own units, float32 or float64 as it came; whole numbers become float32
where that holds them exactly.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError

BLOCK = (
    1 << 24
)  # bytes looked at in one go: memory-mapped arrays larger than memory are never copied whole
PICTURE_CHANNELS = (1, 3)


@dataclass(frozen=True)
class Collection:
    """values (N, *event): images as uint8 0 .. levels - 1 or as floats in [0, 1], other arrays as
    floats in their own units.

    labels: int64 (N,) or None; columns: a table's names; levels: into how many values images were
    quantised (256 for uint8), None for
    continuous data; description: what a model's card says of the data, JSON-able.
    """

    values: Tensor
    name: str
    labels: Tensor | None = None
    columns: tuple[str, ...] | None = None
    image: bool = False
    levels: int | None = None
    description: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one event."""
        return tuple(self.values.shape[1:])

    def floats(self, index: Tensor | slice) -> Tensor:
        """The events at `index` in data units, float32 or float64 (B, *event): images in [0, 1]."""
        values = self.values[index].contiguous()  # channel-last files are kept in their own layout
        return values if self.levels is None else values.to(torch.float32).div_(self.levels - 1)


def blocks(count: int, row_bytes: int) -> Iterator[slice]:
    """Slices over `count` rows of at most BLOCK bytes (one row at least)."""
    rows = max(1, BLOCK // max(row_bytes, 1))
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


def _row_bytes(values: Tensor) -> int:
    return values[0].numel() * values.element_size()


def arrange(
    shape: Sequence[int], channels: int | None, source: str
) -> tuple[int | None, int | None]:
    """(axis of the channels, axis at which to insert one) of an array (N, ...) by the module's
    table; (None, None) for a table.
    """
    n = len(shape)
    if channels is None:
        if n == 2:
            return None, None
        if n == 3:
            return 1, None if shape[1] == 1 else 1
        last = shape[-1] in PICTURE_CHANNELS and shape[1] not in PICTURE_CHANNELS
        return (n - 1, None) if last else (1, None)
    if n > 2 and channels == shape[1]:
        return 1, None
    if n > 3 and channels == shape[-1]:
        return n - 1, None
    if channels == 1 and n < 5:
        return 1, 1
    fix = "give the length of its channel axis, or leave it out"
    raise InputError(
        f"{source}: channels={channels} fits no axis of an array of shape {tuple(shape)}; {fix}"
    )


def _numeric(values: Tensor) -> Tensor:
    """Floats as they are if float32 or float64; other real types in the smallest of the two that
    holds them.
    """
    if values.dtype in (torch.float32, torch.float64):
        return values
    exact = values.is_floating_point() or values.dtype in (
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
    )
    if not exact:
        exact = int(values.min()) >= -(1 << 24) and int(values.max()) <= 1 << 24
    return values.to(torch.float32 if exact else torch.float64)


def _range(values: Tensor, source: str) -> tuple[float, float]:
    """Smallest and largest value; an InputError that names the first row with a NaN or an infinity."""
    low, high = float("inf"), float("-inf")
    for part in blocks(len(values), _row_bytes(values)):
        block = values[part]
        finite = torch.isfinite(block)
        if not bool(finite.all()):
            row, *place = (~finite).nonzero()[0].tolist()
            found = float(block[(row, *place)])
            raise InputError(
                f"{source}: row {part.start + row} (from 0) holds {found} at {place}; every value "
                "must be finite. Drop or fill such rows"
            )
        low, high = min(low, float(block.min())), max(high, float(block.max()))
    return low, high


def _digest(values: Tensor) -> str:
    """sha256 of the values' bytes in the order (N, *event)."""
    digest = hashlib.sha256()
    for part in blocks(len(values), _row_bytes(values)):
        digest.update(values[part].contiguous().numpy().data)
    return digest.hexdigest()


def collect(
    values: Tensor,
    source: str,
    labels: Tensor | None = None,
    columns: Sequence[str] | None = None,
    channels: int | None = None,
    levels: int = 256,
    extra: dict[str, Any] | None = None,
) -> Collection:
    """A Collection of a raw array (N, ...) by the module's table.

    levels: how many levels a uint8 image has; extra: further entries of the description. An
    InputError where the array is empty, has an
    unusable number of dimensions or type, or holds a NaN or an infinity (named by row).
    """
    values = values.detach().cpu()
    if not 2 <= values.ndim <= 5:
        fix = ". One column? Use x[:, None]" if values.ndim == 1 else ""
        raise InputError(
            f"{source}: need 2 to 5 dimensions, the first counting the events; got shape "
            f"{tuple(values.shape)}{fix}"
        )
    if values.numel() == 0:
        raise InputError(
            f"{source}: the array is empty, shape {tuple(values.shape)}; at least one event of at "
            "least one element is needed"
        )
    if values.is_complex():
        raise InputError(
            f"{source}: complex numbers are not taken; give real and imaginary parts as two "
            "channels"
        )
    axis, insert = arrange(values.shape, channels, source)
    if insert is not None:
        values = values.unsqueeze(insert)
    elif axis is not None and axis != 1:
        values = values.movedim(axis, 1)
    picture = values.ndim == 4 and values.shape[1] in PICTURE_CHANNELS
    quantised = picture and values.dtype == torch.uint8
    if not quantised:
        values = _numeric(values)
        low, high = _range(values, source)
        picture = picture and low >= 0 and high <= 1
    description = {
        "source": source,
        "count": len(values),
        "shape": list(values.shape[1:]),
        "dtype": str(values.dtype).removeprefix("torch."),
        "sha256": _digest(values),
        **(extra or {}),
    }
    names = None if columns is None else tuple(columns)
    return Collection(
        values, source, labels, names, picture, levels if quantised else None, description
    )
