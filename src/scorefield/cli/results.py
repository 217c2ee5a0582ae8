"""What `sample` writes beside samples.npz: files of the data's own kind, and a picture.

samples.csv, .parquet    of tables
samples/0000.png, ...    of folders of pictures, in their format and depth
samples.npy              of arrays, in their type and layout
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .show import say

SHOWN_IMAGES, SHOWN_ROWS = 256, 20_000  # samples that a picture shows at most
MOST_PICTURES = 1000  # picture files that are written without --format
PATTERNS = ("samples.*", "grid.png", "scatter.png", "forming.gif")


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


def choose_target(card: dict[str, Any] | None, format: str | None, count: int) -> Target:
    """Choose the files of --format.

    Args:
        card: the model card.
        format: what was given; None: the source's own; "none": no files.
        count: number of samples.

    Returns:
        The choice.

    Raises:
        InputError: the model's data have no such format.
    """
    from ..data import NAMES
    from ..data.form import form_of

    form = form_of(card)
    if format == "none":
        return Target()
    if form is None:
        if format is not None:
            raise InputError(
                f"--format {format} needs a model whose card records the form of its data; this "
                "one was imported, made by hand, or written by an older version. samples.npz "
                "holds its samples"
            )
        return Target()
    if format is None and str(((card or {}).get("data") or {}).get("source")) in NAMES:
        return Target()  # built-in data have no kind of file
    if format is not None:
        form.check_format(format)
    if form.kind == "image" and format is None and count > MOST_PICTURES:
        return Target(
            note=f"no picture files, since there are more than {MOST_PICTURES:,}; --format "
            f"{form.formats[0]} writes them"
        )
    return Target(form, format)


def column_names(card: dict[str, Any] | None) -> dict[str, Any]:
    """The names of a table's columns, as an array for samples.npz; {} for other data."""
    from ..data.form import form_of

    form: Any = form_of(card)
    return {"columns": list(form.element_names)} if form and form.kind == "table" else {}


def next_command(run: Path, model: Any, out: Path) -> tuple[object, ...]:
    """What to do after sampling: the likelihood of held-out data, where they can be read again."""
    source = str(((model.card or {}).get("data") or {}).get("source", "<"))
    if source.startswith("<"):
        return "info", run
    few = ("--count", 32) if model.units.image else ()  # of images a likelihood takes seconds each
    return "likelihood", run, *few, "--out", out / "likelihood.json"


def earlier_results(out: Path) -> list[Path]:
    """Results of an earlier `sample` in a folder."""
    found = [path for pattern in PATTERNS for path in sorted(out.glob(pattern))]
    pictures = out / "samples"
    return [*found, pictures] if pictures.is_dir() else found


def remove_stale(earlier: Sequence[Path], written: Sequence[Path]) -> None:
    """Remove results of an earlier command that this one did not write anew.

    Args:
        earlier: the earlier results, of `earlier_results` before the work.
        written: what was written now.
    """
    for path in earlier:
        if path not in written:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


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
    from ..data import toy_density
    from ..data.form import form_of
    from ..plotting import save_samples, save_table

    image, event = model.units.image, tuple(model.event_shape)
    source = str(((model.card or {}).get("data") or {}).get("source", ""))
    density = toy_density(source) if event == (2,) else None
    title = f"{len(samples):,} samples" + (f", {Path(source).name}" if source else "")
    form: Any = form_of(model.card)
    if form is not None and form.kind == "table" and density is None:
        behind = training_rows(model.card, form) if data else None
        table = form.decode(samples)
        return save_table(out / "samples.png", table, behind, form.columns, title)
    name = "grid.png" if image else "scatter.png" if event == (2,) else "samples.png"
    return save_samples(out / name, samples, image, columns, density=density, title=title)


def training_rows(card: dict[str, Any], form: Any) -> Any:
    """Rows that the model was trained on, as an Arrow table; None where they cannot be read."""
    from ..data import open_card_data

    try:
        split = open_card_data(card)
    except InputError as problem:
        say(f"samples.png shows the samples alone, without the data: {problem}")
        return None
    return form.decode(split.dataset.floats(split.train[:SHOWN_ROWS]))


def save_forming(path: Path, trace: list[tuple[float, Any]], shown: int = 64) -> Path:
    """Write the samples at every level as a GIF."""
    from ..plotting import save_animation

    frames = [state[:shown].clamp(0, 1) for _, state in trace]
    captions = ["denoised" if sigma == 0 else f"σ = {sigma:.3g}" for sigma, _ in trace]
    fps = 12.0 if len(frames) > 24 else 6.0
    return save_animation(path, frames, captions=captions, fps=fps)
