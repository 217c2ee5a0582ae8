"""What `sample` writes beside samples.npz: files of the data's own kind, and a picture.

samples.csv, .parquet    of tables
samples/0000.png, ...    of folders of pictures, in their format and depth
samples.npy              of arrays, in their type and layout
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .show import say

SHOWN_IMAGES, SHOWN_ROWS = 256, 20_000  # samples that a picture shows at most
MOST_PICTURES = 1000  # picture files that are written without --format
RESULTS = ("samples.*", "samples", "grid.png", "scatter.png", "forming.gif")


@dataclass(frozen=True)
class Target:
    """Files of the data's own kind.

    Attributes:
        form: the `Form` of the data; None: no such files.
        format: one of the form's formats; None: the source's own.
        note: why there are no files, or "".
    """

    form: Any = None
    format: str | None = None
    note: str = ""


def choose_target(model: Any, format: str | None, count: int) -> Target:
    """Choose the files of --format.

    Args:
        model: a score model.
        format: what was given; None: the source's own; "none": no files.
        count: number of samples.

    Returns:
        The choice.

    Raises:
        InputError: the model's data have no such format, or it would lose what they hold.
    """
    from ..data import NAMES, form_of
    from ..data.image_form import CHANNELS

    card = model.card or {}
    form: Any = form_of(card)
    if format is None:
        if form is None or (card.get("data") or {}).get("source") in NAMES:
            return Target()  # built-in data have no kind of file
        if form.kind == "image" and count > MOST_PICTURES:
            return Target(
                note=f"no picture files, since there are more than {MOST_PICTURES:,}; --format "
                f"{form.default_format()} writes them"
            )
        return Target(form)
    if format == "none":
        return Target()
    if format in CHANNELS and model.units.image:
        form = picture_form(model)
    if form is None:
        raise InputError(
            f"--format {format} needs a model whose card records the form of its data; this one "
            "was imported, made by hand, or written by an older version. samples.npz holds its "
            "samples"
        )
    form.check_format(format)
    return Target(form, format)


def picture_form(model: Any) -> Any:
    """The form in which samples of an image model become picture files.

    It is the data's own where they were pictures. Arrays of up to 256 levels, and models whose card
    has no form, give 8-bit pictures from black to white; deeper arrays keep their type.

    Args:
        model: a score model of images.

    Returns:
        An `ImageForm`.
    """
    from ..data import form_of
    from ..data.image_form import ImageForm

    form: Any = form_of(model.card)
    if form is not None and form.kind == "image":
        return form
    if form is None or form.dtype == "uint8":
        event = tuple(model.event_shape)
        grey = event[0] == 1
        return ImageForm(event, "uint8", None if grey else 3, grey, 256, image=True)
    return ImageForm(**{n: v for n, v in vars(form).items() if n != "format"})


def other_arrays(card: dict[str, Any] | None, condition: Any) -> dict[str, Any]:
    """Arrays beside the samples in samples.npz: names of a table's columns, and the condition.

    Args:
        card: the model card.
        condition: one row for each sample, or None.
    """
    from ..data.form import form_of

    form: Any = form_of(card)
    columns = {"columns": list(form.element_names)} if form and form.kind == "table" else {}
    return columns | {name: value.cpu().numpy() for name, value in (condition or {}).items()}


def next_command(run: Path, model: Any, out: Path) -> tuple[object, ...]:
    """What to do after sampling: the likelihood of held-out data, where they can be read again."""
    source = str(((model.card or {}).get("data") or {}).get("source", "<"))
    if source.startswith("<"):
        return "info", run
    few = ("--count", 32) if model.units.image else ()  # of images a likelihood takes seconds each
    return "likelihood", run, *few, "--out", out / "likelihood.json"


def draw_picture(
    model: Any, samples: Any, out: Path, columns: int | None = None, data: bool = True
) -> Path:
    """Write grid.png for images, scatter.png for points of the plane, samples.png for the rest.

    Args:
        model: a score model.
        samples: (N, *event) in data units.
        out: folder for the picture.
        columns: images in a row of a grid.
        data: whether the training data are drawn behind the samples of a table.

    Returns:
        The path.
    """
    from ..data import view_of

    view, event = view_of(model), tuple(model.event_shape)
    table = view.form is not None and view.form.kind == "table" and view.density is None
    behind = training_rows(model.card) if table and data else None
    count = f"{len(samples):,} samples"
    if columns:
        count = (
            f"{len(samples) // columns:,} x {columns} samples: each row goes from one to another"
        )
    title = f"{count}, {view.source}" if view.source else count
    name = "grid.png" if view.image else "scatter.png" if event == (2,) else "samples.png"
    name = "samples.png" if table else name
    return view.picture(samples, behind, title, columns).save(out / name)


def training_rows(card: dict[str, Any]) -> Any:
    """Rows that the model was trained on, in data units; None where they cannot be read."""
    from ..data import open_card_data

    try:
        split = open_card_data(card)
    except InputError as problem:
        say(f"samples.png shows the samples alone, without the data: {problem}")
        return None
    return split.dataset.floats(split.train[:SHOWN_ROWS])


def save_forming(path: Path, trace: list[tuple[float, Any]], shown: int = 64) -> Path:
    """Write the samples at every level as a GIF."""
    from ..plotting import save_animation

    frames = [state[:shown].clamp(0, 1) for _, state in trace]
    captions = ["denoised" if sigma == 0 else f"σ = {sigma:.3g}" for sigma, _ in trace]
    fps = 12.0 if len(frames) > 24 else 6.0
    return save_animation(path, frames, captions=captions, fps=fps)
