"""Examples as pictures: a `View` describes how those of a model or data set are drawn.

images   a grid          points of the plane   a scatter, over the density where it is known
tables   a page of distributions, pairs and correlations, in the units and words of the source
signals  lines           fields and volumes    grids coloured with viridis
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models import ScoreModel
from ..plotting import Picture, save_samples, save_table
from ..units import Units
from .form import Form, form_of
from .known_cells import cells_of, overlay
from .table_form import TableForm
from .toys import toy_density

Density = Callable[[Tensor], Tensor]
SHOWN_IMAGES, SHOWN_ROWS = 256, 20_000  # examples that a picture shows at most


@dataclass(frozen=True)
class View:
    """How examples in data units are drawn.

    Attributes:
        image: Whether they are images, intensities in [0, 1].
        form: How they map to the items of the source, or None.
        names: The names of a table's columns, or None.
        source: The name of the data, for titles; "" for none.
        density: The log density of points of the plane, (M, 2) -> (M,), or None.
        levels: The number of stored values of images of whole numbers, or None.
    """

    image: bool = False
    form: Form | None = None
    names: tuple[str, ...] | None = None
    source: str = ""
    density: Density | None = None
    levels: int | None = None

    @property
    def element_names(self) -> tuple[str, ...]:
        """The names of the elements of a vector, where they are known."""
        return tuple(getattr(self.form, "element_names", None) or self.names or ())

    def picture(
        self,
        x: Any,
        data: Any = None,
        title: str | None = None,
        columns: int | None = None,
        parts: Sequence[str] | None = None,
        known: Tensor | None = None,
    ) -> Picture:
        """Draw examples.

        Args:
            x: (N, *event) in data units.
            data: Examples of the training data, like x, drawn behind points and tables.
            title: Shown above; None: the number of examples and the source.
            columns: Images in a row of a grid.
            parts: What is drawn of a table: of "marginals", "pairs" and "correlations".
            known: Rows of a table like x, NaN in cells that were drawn. The others are known and
                drawn as they are, also beyond the range of the training data.

        Returns:
            The picture, which is drawn when it is shown or saved.
        """
        count = len(x)
        most = SHOWN_IMAGES if self.image else SHOWN_ROWS
        shown = x[:most]
        number = f"{count:,}" if count <= most else f"The first {most:,} of {count:,}"
        words = f"{number} samples" + (f", {self.source}" if self.source else "")
        title = words if title is None else title
        options: dict[str, Any] = {} if parts is None else {"parts": parts}

        def write(path: Path) -> Path:
            if self.form is not None and self.form.kind == "table" and self.density is None:
                kinds = getattr(self.form, "columns", None)
                behind = None if data is None else self._table(data)
                table = self._table(shown, None if known is None else known[:most])
                return save_table(path, table, behind, kinds, title, **options)
            return save_samples(
                path,
                shown,
                self.image,
                columns,
                self.names,
                None if self.image else data,
                self.density,
                title,
                levels=self.levels,
                **options,
            )

        return Picture(write, words)

    def _table(self, x: Any, known: Tensor | None = None) -> Any:
        """Examples as the table of the source, known cells as they are."""
        assert self.form is not None
        table = self.form.decode(torch.as_tensor(x).detach().cpu())
        if known is None or not isinstance(self.form, TableForm):
            return table
        return overlay(table, cells_of(self.form, known))


def view_of(model: ScoreModel) -> View:
    """How samples of a model are drawn."""
    data = (model.card or {}).get("data") or {}
    source, event = str(data.get("source", "")), tuple(model.event_shape)
    density = toy_density(source) if event == (2,) else None
    closed = model.has_log_density and not any(True for _ in model.parameters())
    if density is None and event == (2,) and closed and not model.conditions:
        density = _density(model)
    names = data.get("columns")
    return View(
        model.units.image,
        form_of(model.card),
        None if names is None else tuple(names),
        Path(source).name if source else "",
        density,
        None if model.units.quantisation is None else model.units.quantisation.levels,
    )


def _density(model: ScoreModel) -> Density:
    """The log density of a closed form in data units, up to a constant."""

    def log_density(x: Tensor) -> Tensor:
        return model.log_density(model.units.to_model(x), model.sigma_min)

    return log_density


def show(
    model: ScoreModel | Units | None,
    x: Any,
    data: Any = None,
    title: str | None = None,
    columns: int | None = None,
) -> Picture:
    """Show samples as the picture that fits them; a notebook displays the result.

    Args:
        model: The model that they belong to, its units, or None: numbers in their own units.
        x: (N, *event) in data units, as `sample` returns them.
        data: Training data like x, drawn behind points and tables.
        title: Shown above; None: the number of samples and the source of the data.
        columns: Images in a row of a grid.

    Returns:
        The picture; `.save(path)` writes it.

    Raises:
        InputError: When the picture is saved: no picture fits the shape, or values are not finite.

    Example:
        sf.show(model, sf.sample(model, 16))
        sf.show(model, sf.sample(model, 16)).save("samples.png")
    """
    if isinstance(model, ScoreModel):
        view = view_of(model)
    else:
        view = View(model is not None and model.image)
    return view.picture(x, data, title, columns)
