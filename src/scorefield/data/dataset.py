"""`Dataset`: N examples of one shape as a tensor (N, *event), and what is known of them."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config.facts import DataFacts
from ..networks.unet import costs
from ..plotting import Picture, paragraph, with_picture
from .arrays import row_bytes
from .form import Form
from .options import ReadOptions
from .statistics import Statistics, accumulate, blocks, by_channel
from .toys import toy_density
from .view import SHOWN_IMAGES, SHOWN_ROWS, View


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
        source_count: The number of items in the source, those that were left out included; None
            where it is that of the examples, or is not known.
        vectors: float64 (N, k), the vectors that a model may be conditioned on, or None.
        vector_names: The names of their elements, or None.
        options: The options with which `open` read the source, those of the condition left out.
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
    source_count: int | None = None
    vectors: Tensor | None = None
    vector_names: tuple[str, ...] | None = None
    options: ReadOptions | None = None

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

    def with_labels(self, labels: Tensor, names: Sequence[str] | None) -> "Dataset":
        """The data set with other labels.

        Args:
            labels: int64 (N,), class numbers from 0.
            names: The names of the classes, or None.
        """
        names = None if names is None else tuple(names)
        known = {k: v for k, v in self.description.items() if k != "class_names"}
        known |= {} if names is None else {"class_names": list(names)}
        known |= condition_digest(labels, self.vectors)
        return replace(self, labels=labels, class_names=names, description=known)

    def with_vectors(self, vectors: Tensor, names: Sequence[str] | None) -> "Dataset":
        """The data set with vectors that a model may be conditioned on.

        Args:
            vectors: (N, k), finite.
            names: The names of their elements, or None.
        """
        vectors, names = vectors.to(torch.float64), None if names is None else tuple(names)
        known = self.description | condition_digest(self.labels, vectors)
        return replace(self, vectors=vectors, vector_names=names, description=known)

    @cached_property
    def view(self) -> View:
        """How the examples are drawn."""
        density = toy_density(self.name) if self.event_shape == (2,) else None
        return View(self.image, self.form, self.columns, Path(self.name).name, density)

    def picture(self, title: str | None = None) -> Picture:
        """The first examples as the picture that fits them; a notebook shows it, `save` writes it.

        Args:
            title: Shown above; None: what is shown.

        Returns:
            The picture: 256 images, or 20,000 rows at most.
        """
        count = min(len(self), SHOWN_IMAGES if self.image else SHOWN_ROWS)
        words = f"The first {count:,} of {len(self):,} examples of {self.view.source}"
        return self.view.picture(self.floats(slice(0, count)), title=title or words)

    def __repr__(self) -> str:
        return paragraph("Data " + ". ".join(self.report) + ".")

    def _repr_html_(self) -> str:
        return with_picture(repr(self), self.picture())

    @property
    def report(self) -> list[str]:
        """Two lines: what was taken, and what was left out, missing or decided on the way."""
        return [self._taken(), self._decided()]

    def _taken(self) -> str:
        r, event = self.reading, self.event_shape
        if isinstance(r.names, tuple):
            shown = ", ".join(r.names[:8]) + (
                f" and {len(r.names) - 8} more" if r.names[8:] else ""
            )
            what = f"{len(self):,} rows of {len(r.names)} columns ({shown})"
        elif len(event) == 1:
            what = f"{len(self):,} vectors of {event[0]} numbers"
        else:
            kinds = {2: "signals", 3: "images" if self.image else "fields", 4: "volumes"}
            places = " x ".join(map(str, event[1:]))
            plural = "s" if event[0] != 1 else ""
            kind = kinds.get(len(event), "examples")
            what = f"{len(self):,} {kind} of {places}, {event[0]} channel{plural}"
            if r.channel_axis is not None and r.channel_axis > 1:
                what += f" (axis {r.channel_axis} of the source)"
        held = ", ".join(f"{count:,} {name}" for name, count in r.formats.items())
        origin = held if len(r.formats) > 1 else r.format
        values = f"; {r.stored_dtype}" if r.stored_dtype else ""
        if r.low is not None and r.high is not None:
            values += f" {r.low:g} to {r.high:g}"
        if self.quantisation_levels is not None:
            values += f", {self.quantisation_levels} levels"
        classes = f"; {self.classes} classes" if self.classes else ""
        return f"{self.name}: {what}{values}{classes}; {origin}"

    def _decided(self) -> str:
        r = self.reading
        parts = []
        if r.missing:
            cells = ", ".join(f"{name}: {count:,}" for name, count in list(r.missing.items())[:6])
            parts.append(f"blank cells by column: {cells}")
        parts += [f"left out: {text}" for text in r.left_out]
        parts += list(r.notes)
        return "; ".join(parts) or "everything was taken as it is stored"

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
            vector=0 if self.vectors is None else self.vectors.shape[1],
            custom_network=custom_network,
            unet_costs=costs(self.event_shape),
            accelerator=torch.cuda.is_available(),
            **vars(self.reading),
        )


def condition_digest(labels: Tensor | None, vectors: Tensor | None) -> dict[str, str]:
    """The entry of a description that identifies labels and vectors; {} where there are none."""
    parts = [digest(part) for part in (labels, vectors) if part is not None]
    if not parts:
        return {}
    joined = hashlib.sha256("".join(parts).encode()).hexdigest()
    return {"labels_sha256": parts[0] if len(parts) == 1 else joined}


def digest(values: Tensor) -> str:
    """SHA-256 of the values' bytes in the order (N, *event)."""
    digest = hashlib.sha256()
    for part in blocks(len(values), row_bytes(values)):
        digest.update(values[part].contiguous().numpy().data)
    return digest.hexdigest()
