"""What the settings may depend on: facts about a data set."""

from collections.abc import Sequence
from dataclasses import dataclass


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
        custom_network: whether the caller passes a network of their own.
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
    custom_network: bool = False

    @property
    def vectors(self) -> bool:
        """Whether the examples are vectors or rows of a table: one dimension, no channels."""
        return len(self.event_shape) == 1
