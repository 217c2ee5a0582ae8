"""The pictures of a page: samples beside data, closest pairs, spectra, the score level by level.

A picture that cannot be drawn is left out, and the evaluation goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import Dataset
from ..diagnostics.health import Health
from ..errors import InputError
from ..plotting import Chart, Picture, save_class_grid, save_grid, save_samples, save_seed_curves
from .collect import Collected
from .ema_sweep import EMASweep
from .material import Material
from .page import Shown
from .spectra import has_spectrum, radial_spectrum

SHOWN, ROWS = 64, 4000  # images of a grid; rows of tables and points
EACH = 6  # images of each class
MOST_CLASSES = 20
PAIRS = 10


def draw_pictures(
    material: Material,
    collected: Collected | None,
    pairs: Sequence[tuple[int, int]],
    health: Health | None,
    sweep: EMASweep | None = None,
) -> dict[str, Shown]:
    """All pictures that suit the data.

    Args:
        material: The data.
        collected: The samples; None where sampling broke.
        pairs: (sample, training example) of the closest pairs, positions in the kept samples and in
            the training part.
        health: The score's health, or None.
        sweep: The averages of the run's weights, or None.

    Returns:
        Picture by name, in the order of the page.
    """
    makers: dict[str, Callable[[], Shown | None]] = {}
    if collected is not None:
        makers["samples"] = lambda: _samples(material, collected)
        makers["data"] = lambda: _data(material, collected)
        makers["closest pairs"] = lambda: _pairs(material, collected, pairs)
        makers["spectrum"] = lambda: _spectrum(material, collected)
    if health is not None:
        makers["score"] = lambda: _health(health, not has_spectrum(material.dataset.event_shape))
    if sweep is not None:
        makers["averages"] = lambda: _averages(material.dataset, sweep)
    found = {}
    for name, make in makers.items():
        try:
            shown = make()
        except InputError:
            continue
        if shown is not None:
            found[name] = shown
    return found


def _by_class(dataset: Dataset, collected: Collected) -> bool:
    """Whether images are shown class by class."""
    few = 2 <= (dataset.classes or 0) <= MOST_CLASSES
    return dataset.image and len(dataset.event_shape) == 3 and few and collected.wanted is not None


def _first_of_each(labels: Any, classes: int, each: int) -> list[int] | None:
    """The first `each` positions of every class; None where a class has fewer."""
    places = [np.flatnonzero(np.asarray(labels) == k)[:each] for k in range(classes)]
    if min(len(place) for place in places) < each:
        return None
    return [int(i) for place in places for i in place]


def _samples(material: Material, collected: Collected) -> Shown:
    dataset = material.dataset
    view, kept = dataset.view, collected.kept
    if _by_class(dataset, collected):
        sheet = _class_sheet(material, collected)
        if sheet is not None:
            return sheet
    if len(dataset.event_shape) == 1:
        picture = view.picture(kept[:ROWS], material.held_out.first(ROWS), "Samples over data")
        return Shown(picture.png(), "Samples (blue) over held-out data (grey).", wide=True)
    return Shown(_plain(dataset, kept, "Samples"), "The first samples; nothing was selected.")


def _class_sheet(material: Material, collected: Collected) -> Shown | None:
    """Samples of each class beside held-out data."""
    dataset, labels = material.dataset, material.held_out.labels
    classes = int(dataset.classes or 0)
    wanted = np.asarray(collected.wanted)[: len(collected.kept)]
    mine = _first_of_each(wanted, classes, EACH)
    real = _first_of_each(labels, classes, EACH)
    if mine is None or real is None or material.held_out.dataset.classes != classes:
        return None
    held_out = material.held_out
    groups = {
        "samples": collected.kept[mine].float(),
        "held-out data": held_out.dataset.floats(held_out.index[real]),
    }
    names = dataset.class_names or [str(k) for k in range(classes)]
    picture = Picture(
        lambda path: save_class_grid(path, groups, names, title="Samples and data, by class"), ""
    )
    return Shown(
        picture.png(), "The first samples drawn for each class; nothing was selected.", wide=True
    )


def _data(material: Material, collected: Collected) -> Shown | None:
    """Held-out data alone, where samples are not drawn with them."""
    dataset = material.held_out.dataset
    if len(dataset.event_shape) == 1 or (
        _by_class(material.dataset, collected) and _class_sheet(material, collected) is not None
    ):
        return None
    png = _plain(dataset, material.held_out.first(SHOWN), "Held-out data")
    return Shown(png, "Data that the model was not trained on.")


def _plain(dataset: Dataset, x: Tensor, title: str) -> bytes:
    picture = Picture(
        lambda path: save_samples(
            path, x[:SHOWN].float(), dataset.image, title=title, names=dataset.columns
        ),
        title,
    )
    return picture.png()


def _pairs(
    material: Material, collected: Collected, pairs: Sequence[tuple[int, int]]
) -> Shown | None:
    """The samples nearest to training examples, each above its example."""
    dataset = material.dataset
    if not pairs or not dataset.image or len(dataset.event_shape) != 3:
        return None
    some = list(pairs)[:PAIRS]
    above = collected.kept[[sample for sample, _ in some]].float()
    below = dataset.floats(material.train.index[[example for _, example in some]]).float()
    picture = Picture(
        lambda path: save_grid(
            path,
            torch.cat([above, below]),
            len(some),
            title="Closest pairs: samples above, training examples below",
        ),
        "",
    )
    words = (
        "The samples nearest to a training example in proportion to its second neighbour. Copies "
        "look the same above and below."
    )
    return Shown(picture.png(), words, wide=True)


def _spectrum(material: Material, collected: Collected) -> Shown | None:
    if not has_spectrum(material.dataset.event_shape):
        return None
    data = material.held_out.first(len(collected.kept))
    found = radial_spectrum(collected.kept, data)
    frequency = found.frequency.tolist()
    power = {"samples": found.samples.tolist(), "held-out data": found.data.tolist()}
    series: Mapping[str, Any] = {name: (frequency, [values]) for name, values in power.items()}
    ratio = {"samples / data": (frequency, [[one.value for one in found.ratio]])}
    axis = "radial frequency (cycles per grid point)"
    charts = [
        Chart("Power", axis, "mean power", series, "y"),
        Chart("Ratio", axis, "power of samples / power of data", ratio, bottom=0.0),
    ]
    picture = Picture(
        lambda path: save_seed_curves(path, charts, "Radial power spectrum", "", 1), "spectrum"
    )
    return Shown(
        picture.png(),
        "Detail is at the right: a ratio below 1 there means samples that are too smooth.",
    )


def _health(health: Health, alone: bool) -> Shown:
    """Charts below each other beside the spectrum, or side by side where they stand alone."""
    words = (
        "Held-out loss far above training loss is memorisation; at the best Gaussian's it is a "
        "model that has learned little. Deviations of a true score are 0."
    )
    return Shown(health.picture(columns=2 if alone else 1).png(), words, wide=alone)


def _averages(dataset: Dataset, sweep: EMASweep) -> Shown | None:
    """Samples of live and of averaged weights from equal seeds."""
    if not dataset.image or len(dataset.event_shape) != 3 or len(sweep.samples) < 2:
        return None
    names = ["live weights", *(name for name in sweep.samples if name != "live")]
    groups = {
        name: x.clamp(0, 1).float() for name, x in zip(names, sweep.samples.values(), strict=True)
    }
    rows = len(next(iter(groups.values()))) // 4
    picture = Picture(
        lambda path: save_class_grid(path, groups, [""] * rows, title="Live and averaged weights"),
        "",
    )
    return Shown(picture.png(), "Samples of the same seeds.", wide=True)
