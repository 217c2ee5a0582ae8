"""`Form`: how the items of a source map to the tensor that a model learns, and back.

A form is made when data are read, is kept in the model card, and gives samples and restorations
back as the same kind of thing: an array in its type and layout, pictures in their depth, a table
with its columns. Data units are the units of the encoded tensor.

    encode      stored items -> (N, *event) in data units
    decode      (N, *event) in data units -> items as stored
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from ..conditions import Condition
from ..errors import InputError


@dataclass(frozen=True)
class Form(ABC):
    """How stored items map to examples, and back.

    Attributes:
        event_shape: The shape of one encoded example.
    """

    kind: ClassVar[str] = ""  # the name in `FORMS`
    formats: ClassVar[tuple[str, ...]] = ()  # of files that `write` makes; the first by default

    event_shape: tuple[int, ...]

    @abstractmethod
    def decode(self, x: Tensor) -> Any:
        """Examples as stored items.

        Args:
            x: (N, *event) in data units, floating.

        Returns:
            A numpy array in the source's type and layout, or an Arrow table.
        """

    @abstractmethod
    def encode(self, items: Any, name: str = "the data", blanks: bool = False) -> Tensor:
        """Stored items as examples.

        Args:
            items: An array in the source's layout, or an Arrow table whose columns are matched by
                name.
            name: The source, for messages.
            blanks: Whether missing values are allowed; they become NaN.

        Returns:
            (N, *event) in data units, float32 or float64.

        Raises:
            InputError: The items are of another kind, shape or range, or columns are missing.
        """

    @abstractmethod
    def write(
        self,
        stem: Path,
        x: Tensor,
        format: str | None = None,
        condition: Condition | None = None,
    ) -> list[Path]:
        """Write examples as files of the source's kind.

        Args:
            stem: The path without a suffix: stem.csv, or a folder stem/ of pictures.
            x: (N, *event) in data units.
            format: One of `formats`; None: the source's own.
            condition: What the examples were drawn with; tables have columns for it, an .npz
                arrays of its names.

        Returns:
            The files; of a folder of pictures the folder.

        Raises:
            InputError: The format is not one of `formats`, or loses what the items hold.
        """

    def check_format(self, format: str) -> None:
        """Refuse a format before any work.

        Args:
            format: The name of a format.

        Raises:
            InputError: `write` does not support it, or it would lose what the items hold.
        """
        if format not in self.formats:
            raise InputError(
                f"--format (format=) must be one of {', '.join(self.formats)} for these data; got "
                f"{format!r}"
            )

    @property
    def steps(self) -> list[float] | None:
        """The rounding step of each element, flat, in data units; None where no element has one.

        Training adds noise u - 1/2 of these widths, and `decode` rounds to them. Levels of
        quantised images are not steps: `Units.quantisation` has them.
        """
        return None

    @property
    def few_values(self) -> Mapping[int, tuple[float, ...]]:
        """The values of elements that take few, by the element's number; see `ranks`."""
        return {}

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, in a form that JSON can hold, without `kind`."""

    @classmethod
    @abstractmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Form":
        """The form that `to_dict` wrote."""


#: The kinds of form by the name that a model card records.
FORMS: dict[str, type[Form]] = {}


def register(form: type[Form]) -> type[Form]:
    """Add a kind of form to `FORMS`; a class decorator."""
    FORMS[form.kind] = form
    return form


def form_to_dict(form: Form) -> dict[str, Any]:
    """The entry `form` of a model card."""
    return {"kind": form.kind, **form.to_dict()}


def form_of(card: Mapping[str, Any] | None) -> Form | None:
    """The form of the data that a model was trained on.

    Args:
        card: The model card, or None.

    Returns:
        The form; None for models without one: imported, hand-made, or of an older version.

    Raises:
        InputError: The card names a kind of form that this version does not have.
    """
    stored = ((card or {}).get("data") or {}).get("form")
    if not stored:
        return None
    kind = stored.get("kind")
    if kind not in FORMS:
        raise InputError(
            f"the model card names data of kind {kind!r}; this version has {', '.join(FORMS)}. "
            "Use a newer scorefield"
        )
    return FORMS[kind].from_dict({k: v for k, v in stored.items() if k != "kind"})
