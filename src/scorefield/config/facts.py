"""What the settings may depend on: facts about a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Scales:
    """Noise scales that follow from the distances between examples, in model units.

    Attributes:
        elements: number of elements of an example that vary.
        data_std: standard deviation of the data, the root mean square over the elements.
        sigma_max: largest noise level.
        sigma_max_reason: a sentence.
        sigma_min: smallest noise level.
        sigma_min_reason: a sentence.
    """

    elements: int
    data_std: float
    sigma_max: float
    sigma_max_reason: str
    sigma_min: float
    sigma_min_reason: str


@dataclass(frozen=True)
class DataFacts:
    """Facts about a data set from which `resolve` chooses the settings that a request leaves open.

    Attributes:
        event_shape: shape of one example: (d,) for vectors, (channels, *space) for signals,
            images and volumes.
        count: number of examples, training and held-out part together.
        image: whether the examples are images with values in [0, 1].
        quantisation_levels: number of values that stored whole numbers can take, such as 256 for
            uint8 images; None for continuous data.
        dtype: floating type of the data, "float32" or "float64".
        mean, std: mean and standard deviation in data units, one value per channel or column;
            None where they were not measured.
        class_names: names of the classes in the order of their numbers; None without names.
        classes: number of classes of the labels; None for data without labels.
        vector: length of the vectors that the data bring as a condition; 0 for none.
        custom_network: whether the caller passes a network of their own.
        format: what was read: "csv", "png", "npy", "array" and so on.
        formats: number of items by format, for folders that hold several.
        stored_dtype: type of the stored values, such as "uint16".
        channel_axis: axis of the source that holds the channels; None where there is none.
        low, high: smallest and largest stored value; None for text.
        names: names of a table's columns as they are in the source.
        missing: number of blank cells by column.
        left_out: what was not taken, and why: a sentence each.
        notes: further choices that the reader made: a sentence each.
        unet_costs: multiplications of the default U-Net for one example, by its `scale`; empty
            for vectors.
        accelerator: whether this machine has an accelerator, such as a GPU.
        scales: noise scales from the distances between examples; None where none were measured.
        step_seconds: measured seconds of a training step, (a, b) for a + b * examples, by the
            U-Net's `scale`, 1 for other networks; empty where nothing was measured.
    """

    event_shape: tuple[int, ...]
    count: int
    image: bool = False
    quantisation_levels: int | None = None
    dtype: str = "float32"
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    class_names: tuple[str, ...] | None = None
    classes: int | None = None
    vector: int = 0
    custom_network: bool = False
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
    unet_costs: Mapping[float, int] = field(default_factory=dict)
    accelerator: bool = False
    scales: Scales | None = None
    step_seconds: Mapping[float, tuple[float, float]] = field(default_factory=dict)

    @property
    def vectors(self) -> bool:
        """Whether the examples are vectors or rows of a table: one dimension, no channels."""
        return len(self.event_shape) == 1
