"""The inputs of `scorefield restore`: measurements read from files, or simulated ones.

Whole numbers of images are stored values, which are read as the middle of their bin. The same holds
for clean examples that the command measures itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from .options.restoring import Task
from .restore_tasks import Measured, measured
from .show import say

HELD_OUT = 6  # held-out examples that --simulate measures by default


@dataclass(frozen=True)
class Seen:
    """Measurements to restore.

    Attributes:
        measurement: the `Measurement`, of a batch.
        truth: what was measured, (K, *event) as stored, or None.
        form: the form in which draws are returned (`inverse.stored.Form`); None: that of the
            measurement.
        condition: the model's condition as far as the files hold it, or None.
        cells: the known cells of a table as they were given, an Arrow table; None for other data.
    """

    measurement: Any
    truth: Any = None
    form: Any = None
    condition: Any = None
    cells: Any = None

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return len(self.measurement.tensor)


def observe(model: Any, input: Path | None, count: int | None, task: Task, seed: int) -> Seen:
    """Read or simulate measurements of images or arrays.

    Args:
        model: a score model.
        input: --input.
        count: largest number of inputs; None: all.
        task: the options of the task.
        seed: decides the noise of simulated measurements.

    Raises:
        InputError: there is no input, it does not fit, or nothing in it is unknown.
    """
    event = tuple(model.event_shape)
    law = measured(task, event)
    if task.simulate:
        return simulated(model, input, count, law, seed)
    if input is None:
        raise InputError(
            "restore needs --input with the measurement, or --simulate, which measures clean "
            "examples"
        )
    from ..inverse import Measurement
    from ..inverse.operators import Mask

    if law.operator is None or isinstance(law.operator, Mask):
        observed = _thinned(_each(input, lambda path: _known_part(path, model)), count)
        _check_unknown(observed, law.operator, input)
        return Seen(Measurement(observed, law.operator, law.noise_std, law.noise))
    observed = _each(input, lambda path: _measurement(path, model, law))
    law = _with_rounding(law, observed, model)
    noise = {"noise_std": law.noise_std, "noise": law.noise}
    return Seen(Measurement(_thinned(observed, count), law.operator, **noise))


def _each(input: Path, read: Callable[[Path], Any]) -> Any:
    """What a file, or every picture of a folder, holds: (K, ...)."""
    import torch

    from ..data.images import list_images

    if not input.is_dir():
        return read(input)
    files, notes = list_images(input)
    for note in notes:
        say(note)
    parts = [read(path) for path in files]
    for path, part in zip(files, parts, strict=True):
        if part.dtype != parts[0].dtype or part.shape[1:] != parts[0].shape[1:]:
            raise InputError(
                f"--input {input}: {path.name} holds {tuple(part.shape[1:])} of {part.dtype}, and "
                f"{files[0].name} {tuple(parts[0].shape[1:])} of {parts[0].dtype}; restore them "
                "one by one"
            )
    return torch.cat(parts)


def _thinned(values: Any, count: int | None) -> Any:
    """At most so many rows, evenly spaced."""
    import torch

    if count is None or count >= len(values):
        return values
    index = torch.linspace(0, len(values) - 1, count).round().long()
    return values[index]


def _known_part(path: Path, model: Any) -> Any:
    """Examples of which a part is known, as they are stored."""
    from ..data import form_of, read_observation

    return read_observation(path, form_of(model.card), tuple(model.event_shape), say)


def _check_unknown(observed: Any, operator: Any, input: Path) -> None:
    """Refuse inputs in which nothing is unknown."""
    import torch

    if operator is not None:
        return
    if not (observed.is_floating_point() and bool(torch.isnan(observed).any())):
        raise InputError(
            f"--input {input} has no unknown element: give --mask with a picture or an .npy of the "
            "image's size, white or 1 where an element is known; or an .npy of floats with NaN "
            "where it is unknown; or --task with what else was measured"
        )


# -- measurements of other operators


def _measurement(path: Path, model: Any, law: Measured) -> Any:
    """Measurements of a file, (K, *measurement): whole numbers as levels, floats as they are."""
    from ..data import form_of, read_observation
    from ..data.array_form import ArrayForm

    event = tuple(model.event_shape)
    shape = tuple(law.operator.measurement_shape(event))
    form: Any = form_of(model.card)
    if path.suffix.lower() != ".npy" and not (model.units.image and len(shape) == 3):
        raise InputError(
            f"--input {path}: measurements of shape {shape} are no pictures; give an .npy of that "
            "shape, alone or as (N, ...)"
        )
    array = _loaded(path) if path.suffix.lower() == ".npy" else None
    own = array is None or array.dtype.kind in "biu"
    if own and law.noise is None and isinstance(form, ArrayForm) and len(shape) == len(event):
        like = form
        if shape[0] != event[0]:  # such as the luminance of a picture in colour
            like = replace(form, insert=True, axis=None)
        return read_observation(path, replace(like, event_shape=shape), shape, say)
    if array is None:
        return read_observation(path, None, shape, say)
    return _shaped(array, shape, path, law)


def _loaded(path: Path) -> Any:
    from ..data.files import load_npy

    if not path.is_file():
        raise InputError(f"--input {path}: there is no such file")
    array = load_npy(path)
    if array.dtype.kind not in "biufc":
        raise InputError(f"--input {path}: need an array of numbers; got dtype {array.dtype}")
    return array


def _shaped(array: Any, shape: tuple[int, ...], path: Path, law: Measured) -> Any:
    """An array as measurements (K, *shape), channels first.

    Complex numbers become a last dimension of two. Fourier samples may come as a full grid.
    """
    import numpy as np
    import torch

    from ..inverse.operators import Fourier

    if array.dtype.kind == "c":
        array = np.stack([array.real, array.imag], -1)
    found = torch.from_numpy(np.ascontiguousarray(array))
    operator = law.operator
    if isinstance(operator, Fourier) and operator.mask is not None:
        grid = tuple(operator.mask.shape)
        if tuple(found.shape[-len(grid) - 1 :]) == (*grid, 2):
            found = operator.gather(found)
    whole = tuple(found.shape)
    if whole == shape or (shape[0] == 1 and whole == shape[1:]):
        return found.reshape(1, *shape)
    if whole[1:] == shape or (shape[0] == 1 and whole[1:] == shape[1:]):
        return found.reshape(-1, *shape)
    raise InputError(
        f"--input {path} has shape {tuple(array.shape)}; {operator!r} measures {shape}, channels "
        "first, alone or as (N, ...)"
    )


def _with_rounding(law: Measured, observed: Any, model: Any) -> Measured:
    """The noise of whole numbers is at least their rounding, where none was stated.

    A value that was rounded to the nearest of `levels` has an error of standard deviation
    1/(levels sqrt(12)).
    """
    if law.stated:
        return law
    if observed.is_floating_point() or not model.units.image:
        say("no noise was stated: the measurement is taken for exact (--noise-std)")
        return law
    quantisation = model.units.quantisation
    levels = 256 if quantisation is None else quantisation.levels
    std = 1 / (levels * math.sqrt(12))
    say(
        f"no noise was stated: the measurement holds {levels} levels, so that --noise-std is "
        f"that of their rounding, {std:.2g}"
    )
    return law._replace(noise_std=std)


# -- simulated measurements


def simulated(model: Any, input: Path | None, count: int | None, law: Measured, seed: int) -> Seen:
    """Measurements of clean examples, with noise.

    Args:
        model: a score model.
        input: --input with the examples; None: held-out ones of the model's data.
        count: largest number of examples; None: all of `input`, or HELD_OUT held-out ones.
        law: operator and noise.
        seed: the noise of example k is a function of the seed and k.
    """
    import torch

    from ..inverse import Measurement, simulate
    from ..inverse.operators import Mask

    event = tuple(model.event_shape)
    if law.operator is None:
        raise InputError(
            "--simulate needs --task or --operator with what is measured; --task inpaint needs "
            "--mask: a file, half, centre or random:SHARE"
        )
    if input is None:
        clean = _held_out(model, HELD_OUT if count is None else count)
    else:
        clean = _thinned(_each(input, lambda path: _known_part(path, model)), count)
    if clean.is_floating_point() and bool(torch.isnan(clean).any()):
        raise InputError(f"--simulate: --input {input} holds NaN; clean examples are needed")
    everything = Measurement(clean, Mask(torch.ones(event, dtype=torch.bool)))
    reading = everything.read(model.units, event)
    if not law.stated:
        say("no noise was stated: the measurements are exact (--noise-std)")
    exact = law.noise is None and isinstance(law.noise_std, float | int) and law.noise_std == 0
    if isinstance(law.operator, Mask) and exact:
        return Seen(Measurement(clean, law.operator), clean, reading.form)
    noise = {"noise_std": law.noise_std, "noise": law.noise}
    made = simulate(reading.values, law.operator, seed=seed, **noise)
    return Seen(made, clean, reading.form)


def _held_out(model: Any, count: int) -> Any:
    """Examples of the model's own data that training never saw, as stored."""
    from ..data import open_card_data

    split = open_card_data(model.card)
    held = _thinned(split.held_out.sort().values, count)
    say(f"{len(held)} of {len(split.held_out):,} held-out examples of {split.dataset.name}")
    return split.dataset.values[held]
