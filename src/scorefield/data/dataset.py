"""`Dataset`: N examples of one shape as a tensor (N, *event), and what is known of them.

`as_dataset` makes one of an array; the table in `arrays` says how its dimensions are read.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..config.facts import DataFacts
from .arrays import (
    PICTURE_CHANNELS,
    arrange,
    check_array,
    decide_image,
    find_range,
    image_by_argument,
    number_labels,
    row_bytes,
    to_float,
)
from .form import Form
from .statistics import Statistics, accumulate, blocks, by_channel


@dataclass(frozen=True)
class Reading:
    """What a reader took from a source. `DataFacts` and the report state it.

    Attributes:
        format: What was read: "csv", "png", "npy", "array" and so on.
        formats: The number of items by format, for folders that hold several.
        stored_dtype: The type of the stored values, such as "uint16".
        channel_axis: The axis of the source that holds the channels; None where none does.
        low, high: The smallest and largest stored value; None for text.
        names: The names of a table's columns as they are in the source.
        missing: The number of blank cells by column.
        left_out: What was not taken, and why: a sentence each.
        notes: Further choices that the reader made: a sentence each.
    """

    format: str = "array"
    formats: Mapping[str, int] = field(default_factory=dict)
    stored_dtype: str = ""
    channel_axis: int | None = None
    low: float | None = None
    high: float | None = None
    names: tuple[str, ...] | None = None
    missing: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Examples and what is known of them; `open` and `as_dataset` make one.

    Attributes:
        values: (N, *event), channels first. Images are uint8 0 .. quantisation_levels - 1 or floats
            in [0, 1]; other data are float32 or float64 in their own units.
        name: The source, as messages name it.
        labels: int64 (N,), class numbers from 0, or None.
        columns: The names of a table's columns, or None.
        image: Whether the examples are images in [0, 1].
        quantisation_levels: How many stored values an element can take (256 for uint8); None for
            continuous data.
        class_names: The names of the classes in the order of their numbers, or None.
        description: What a model card records of the data; JSON can hold it.
        form: How the source's items map to the examples, and back.
        reading: What the reader took from the source.
        source_rows: int64 (N,), the number of each example in the source, from 0; None where no
            example was left out before it.
    """

    values: Tensor
    name: str
    labels: Tensor | None = None
    columns: tuple[str, ...] | None = None
    image: bool = False
    quantisation_levels: int | None = None
    class_names: tuple[str, ...] | None = None
    description: dict[str, Any] = field(default_factory=dict)
    form: Form | None = None
    reading: Reading = field(default_factory=Reading)
    source_rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.values.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of the data: float64 for data stored so, else float32."""
        return torch.float64 if self.values.dtype == torch.float64 else torch.float32

    @property
    def classes(self) -> int | None:
        """The number of classes; None without labels."""
        if self.labels is None:
            return None
        return len(self.class_names) if self.class_names else int(self.labels.max()) + 1

    def rows(self, index: Tensor) -> Tensor:
        """The numbers, from 0, that the examples at `index` have in the source; int64."""
        return index if self.source_rows is None else self.source_rows[index]

    @cached_property
    def steps(self) -> Tensor | None:
        """Rounding steps of the elements in data units, float64 (*event); None where all are 0."""
        steps = None if self.form is None else self.form.steps
        if steps is None or not any(steps):
            return None
        return (
            torch.tensor(steps, dtype=torch.float64)
            .expand(math.prod(self.event_shape))
            .reshape(self.event_shape)
        )

    def floats(self, index: Tensor | slice) -> Tensor:
        """The examples at `index` in data units as stored: quantised images as k / (levels - 1).

        Returns:
            (B, *event), float64 where the data are, else float32.
        """
        values = self.values[index].contiguous()  # channel-last files are kept in their own layout
        if self.quantisation_levels is None:
            return values
        return values.to(torch.float32).div_(self.quantisation_levels - 1)

    @cached_property
    def _statistics(self) -> Statistics:
        return by_channel(accumulate(self.floats, torch.arange(len(self)), self.event_shape))

    def facts(self, custom_network: bool = False) -> DataFacts:
        """What settings are resolved from. Mean and standard deviation are per channel or column.

        Args:
            custom_network: Whether the run trains a network of the user's own.
        """
        mean, variance = self._statistics
        return DataFacts(
            event_shape=self.event_shape,
            count=len(self),
            image=self.image,
            quantisation_levels=self.quantisation_levels,
            dtype=str(self.dtype).removeprefix("torch."),
            mean=mean.flatten().tolist(),
            std=variance.sqrt().flatten().tolist(),
            class_names=self.class_names,
            classes=self.classes,
            custom_network=custom_network,
            **vars(self.reading),
        )


def _digest(values: Tensor) -> str:
    """SHA-256 of the values' bytes in the order (N, *event)."""
    digest = hashlib.sha256()
    for part in blocks(len(values), row_bytes(values)):
        digest.update(values[part].contiguous().numpy().data)
    return digest.hexdigest()


def as_dataset(
    values: Tensor,
    name: str,
    labels: Tensor | None = None,
    class_names: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    channels: int | None = None,
    image: bool | None = None,
    quantisation_levels: int = 256,
    extra: dict[str, Any] | None = None,
) -> Dataset:
    """A Dataset of an array (N, ...) by the table in `arrays`.

    Args:
        values: The array; any real type.
        name: The source, for messages.
        labels: (N,) whole numbers.
        class_names: The names of classes 0, 1, ...
        columns: The names of a table's columns.
        channels: The length of the channel axis, where the table needs it.
        image: Whether the examples are images in [0, 1]; None decides by type, shape and range. The
            description records the reason as `image_because`.
        quantisation_levels: How many values a uint8 element can take.
        extra: Further entries of the description.

    Returns:
        The data set, channels first.

    Raises:
        InputError: The array is empty, has an unusable type or number of dimensions, holds a NaN or
            an infinity (the row is named), or it is not clear whether it holds images.
    """
    values = values.detach().cpu()
    check_array(values, name)
    axis, insert = arrange(values.shape, channels, name)
    if insert is not None:
        values = values.unsqueeze(insert)
    elif axis is not None and axis != 1:
        values = values.movedim(axis, 1)
    if image is not None:
        values = image_by_argument(values, image, name)
    picture = values.ndim == 4 and values.shape[1] in PICTURE_CHANNELS
    quantised = picture and values.dtype == torch.uint8 and image is not False
    if quantised:
        because = f"uint8 values and examples are {tuple(values.shape[1:])}"
        is_image = True
    else:
        values = to_float(values, name)
        is_image, because = decide_image(values, find_range(values, name), image, name)
    names = None
    if labels is not None:
        labels, names = number_labels(labels, class_names)
    description = {
        "source": name,
        "count": len(values),
        "shape": list(values.shape[1:]),
        "dtype": str(values.dtype).removeprefix("torch."),
        "image": is_image,
        "image_because": because,
        "sha256": _digest(values),
        **({} if labels is None else {"labels_sha256": _digest(labels[:, None])}),
        **({} if names is None else {"class_names": list(names)}),
        **(extra or {}),
    }
    return Dataset(
        values,
        name,
        labels,
        None if columns is None else tuple(columns),
        is_image,
        quantisation_levels if quantised else None,
        names,
        description,
    )
