"""The pictures of a run: previews, the loss at each noise level, and the training curve.

Training does not end for a picture: each function returns the reason why there is none, or "". The
pictures depend on the run alone, and not on its path, its data's path or the clock: two runs of one
record have the same.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data import Dataset
from ..errors import InputError
from ..plotting import Picture, save_loss_per_sigma, save_training_curve
from ..runs import Record, Run, read_lines

BASELINES = {"nothing": "knows nothing", "gaussian": "best Gaussian"}
PREVIEW_ROWS = 2000  # of the data, behind the samples of a table
RECENT = 0.1  # fraction of the run over which the training loss per noise level is averaged


def draw_preview(run: Run, images: int, samples: Tensor, dataset: Dataset) -> str:
    """Draw samples in previews/, those of tables and points over the data.

    Args:
        run: The run.
        images: Images seen, which name the file.
        samples: (N, *event) in data units.
        dataset: The data.

    Returns:
        The reason why there is no picture, or "".
    """
    vectors = len(dataset.event_shape) == 1
    data = dataset.floats(slice(0, PREVIEW_ROWS)) if vectors else None
    title = f"{len(samples):,} samples after {images:,} images"
    # The distributions alone: a whole page would take seconds, which a short run does not have.
    picture = dataset.view.picture(samples, data, title, parts=["marginals"])
    try:
        picture.save(run.preview(images))
    except InputError as error:
        return str(error)
    return ""


def loss_picture(run: Run, table: Mapping[str, list[float]], title: str) -> Picture:
    """The held-out loss at each noise level, with the baselines and the training loss.

    Args:
        run: The run, whose metrics hold the training loss.
        table: Columns sigma, loss and se, and the losses nothing and gaussian of the baselines
            where they were measured.
        title: Shown above.

    Returns:
        The picture.
    """
    # One example has no standard error.
    se = table["se"] if all(map(math.isfinite, table["se"])) else None
    training = _recent_training_loss(run.records(), table["sigma"])
    note = f"Training loss: of the last {RECENT:.0%} of the run. " if training else ""

    def write(path: Path) -> Path:
        return save_loss_per_sigma(
            path,
            table["sigma"],
            table["loss"],
            se,
            baselines={text: table[name] for name, text in BASELINES.items() if name in table},
            training=training,
            title=title,
            caption=f"{note}Held-out loss: of the averaged weights.",
        )

    return Picture(write, "the loss at each noise level")


def draw_loss_per_sigma(run: Run, table: Mapping[str, list[float]], objective: str) -> str:
    """Draw `loss_picture` into loss_per_sigma.png.

    Args:
        run: The run.
        table: As for `loss_picture`.
        objective: Name of the objective, for the title.

    Returns:
        The reason why there is no picture, or "".
    """
    picture = loss_picture(run, table, f"Loss ({objective}) at each noise level")
    try:
        picture.save(run.loss_per_sigma)
    except InputError as error:
        return str(error)
    return ""


def _recent_training_loss(records: Sequence[Record], sigmas: Sequence[float]) -> list[float] | None:
    """The training loss at each sigma over the last part of the run; NaN where there was none."""
    lines = [r for r in records if r.get("by_sigma")]
    recent = lines[-max(1, round(RECENT * len(lines))) :]
    sums: dict[float, tuple[float, float]] = {}
    for line in recent:
        bins = line["by_sigma"]
        for sigma, count, loss in zip(bins["sigma"], bins["count"], bins["loss"], strict=True):
            if count and loss is not None:
                total, number = sums.get(sigma, (0.0, 0.0))
                sums[sigma] = total + count * loss, number + count
    means = {sigma: total / number for sigma, (total, number) in sums.items()}
    found = [
        next((m for s, m in means.items() if math.isclose(s, sigma, rel_tol=1e-3)), math.nan)
        for sigma in sigmas
    ]
    return found if any(map(math.isfinite, found)) else None


def draw_training_curve(run: Run, final: Record, best: int | None) -> str:
    """Draw losses and learning rate over the images seen.

    Args:
        run: The run.
        final: The line of metrics that is about to be written, with the last evaluation.
        best: Images seen at the best point, whose weights are the model; None for the last.

    Returns:
        The reason why there is no picture, or "".
    """
    records = [{k: v for k, v in r.items() if k != "seconds"} for r in (*run.records(), final)]
    verdict: Mapping[str, Any] = final.get("verdict") or {}
    starts = [line["images"] for line in read_lines(run.schedule) if line.get("kind") == "segment"]
    levels = {text: verdict.get(name) for name, text in BASELINES.items()}
    try:
        save_training_curve(
            run.training_curve,
            records,
            "Training",
            starts,
            best,
            {text: float(value) for text, value in levels.items() if value is not None},
        )
    except InputError as error:
        return str(error)
    return ""
