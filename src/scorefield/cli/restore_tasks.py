"""From the options of `restore` to an operator and a law of the noise."""

import math
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from .options import parse_kernel
from .options.restoring import OPTIONS, Task

FACTOR, FRACTION, ACCELERATION = 4, 0.25, 4.0  # of superres, compressed and mri by default


class Measured(NamedTuple):
    """What is measured of an example, and the law of its noise.

    Attributes:
        operator: the operator; None where NaN marks what is unknown.
        noise_std: standard deviation of Gaussian noise, a number or an array.
        noise: another law of the noise, or None.
        stated: whether the noise was stated, 0 included.
    """

    operator: Any
    noise_std: Any = 0.0
    noise: Any = None
    stated: bool = False


def measured(task: Task, event_shape: tuple[int, ...]) -> Measured:
    """The operator and the noise of the options.

    Args:
        task: the options.
        event_shape: shape of the model's examples.

    Raises:
        InputError: an option does not fit the examples, or the operator's file is not usable.
    """
    if task.operator is not None:
        found = from_file(task.operator, event_shape)
        if task.noise_given and found.stated:
            raise InputError(
                f"--operator {task.operator} defines the noise, and an option does too; give one"
            )
        operator, given = found.operator, found
    else:
        operator, given = make_operator(task, event_shape), Measured(None)
    if task.noise_given:
        given = _noise(task)
    return given._replace(operator=operator)


def _noise(task: Task) -> Measured:
    """The noise of the options."""
    from ..inverse import PoissonNoise, RicianNoise

    if task.poisson is not None:
        return Measured(None, noise=PoissonNoise(task.poisson), stated=True)
    if task.rician is not None:
        return Measured(None, noise=RicianNoise(task.rician), stated=True)
    return Measured(None, noise_std=task.noise_std, stated=True)


def make_operator(task: Task, event_shape: tuple[int, ...]) -> Any:
    """The operator of --task; None for inpainting without --mask.

    Raises:
        InputError: it does not fit the examples.
    """
    from ..inverse import operators

    if task.name == "inpaint":
        return None if task.mask is None else operators.Mask(make_mask(task.mask, event_shape))
    if task.name == "denoise":
        return operators.Identity()
    if task.name == "colorize":
        if event_shape[0] != 3 or len(event_shape) != 3:
            raise InputError(
                f"--task colorize needs a model of pictures in colour (3, height, width); this "
                f"one is of {event_shape}"
            )
        return operators.Grey()
    if task.name == "compressed":
        return _projection(task, event_shape)
    if task.name == "mri":
        return _fourier(task, event_shape)
    return _filter(task, event_shape)


def make_mask(path: Path, event_shape: tuple[int, ...]) -> Any:
    """The mask of --mask: of a file, or one of the masks by name.

    Args:
        path: the option.
        event_shape: shape of the model's examples.

    Returns:
        bool or as stored, 1 = known, all channels alike.

    Raises:
        InputError: the file cannot be read, or its shape is not the model's.
    """
    import torch

    from ..data import read_mask
    from ..inverse import left_half
    from .show import say

    name, _, share = str(path).partition(":")
    if path.is_file() or name not in ("half", "centre", "random"):
        return read_mask(path, event_shape, say)
    if name == "half":
        return left_half(event_shape)
    sides = event_shape[-_places(event_shape) :]
    lead = [1] * (len(event_shape) - len(sides))
    if name == "centre":
        known = torch.ones(sides, dtype=torch.bool)
        known[tuple(slice(n // 4, n - n // 4) for n in sides)] = False
        return known.reshape(*lead, *sides)
    try:
        unknown = float(share)
    except ValueError:
        unknown = -1.0
    if not 0 < unknown < 1:
        raise InputError(f"--mask random:SHARE needs a share between 0 and 1; got {str(path)!r}")
    from ..inverse.operators.drawn import LINES, operator_normals

    count = math.prod(sides)
    rank = operator_normals(0, LINES, (count, 1))[:, 0].argsort()
    known = torch.zeros(count, dtype=torch.bool)
    known[rank[: max(1, round((1 - unknown) * count))]] = True
    return known.reshape(*lead, *sides)


def _places(event_shape: tuple[int, ...]) -> int:
    """Number of the dimensions that are no channels, 1 to 3."""
    return max(1, min(3, len(event_shape) - 1))


def _filter(task: Task, event_shape: tuple[int, ...]) -> Any:
    """The operator of deblur and of superres."""
    from ..inverse import operators

    kernel: Any = None if task.kernel is None else read_kernel(task.kernel, _places(event_shape))
    padding = task.padding or "reflect"
    if task.name == "superres":
        shape = "mean" if kernel is None else kernel
        if padding == "valid":
            raise InputError("--padding valid is for --task deblur; superres keeps the borders")
        made: Any = operators.Downsample(
            task.factor or FACTOR, shape, padding, _places(event_shape)
        )
    else:
        if isinstance(kernel, str):
            raise InputError(
                f"--kernel {kernel} is for --task superres; --task deblur needs gaussian, motion "
                "or a file"
            )
        made = operators.Blur(kernel, padding)
    made.measurement_shape(event_shape)  # its own message, where it does not fit
    return made


def read_kernel(text: str, ndim: int) -> Any:
    """The kernel of --kernel: a tensor that sums to one, "bicubic" or "mean".

    Args:
        text: the option.
        ndim: dimensions of the examples without channels.

    Raises:
        InputError: it cannot be read, or has another number of dimensions.
    """
    from ..inverse import operators

    kind, numbers = parse_kernel(text)
    if kind == "gaussian":
        return operators.gaussian_kernel(numbers[0], ndim=ndim)
    if kind == "motion":
        if ndim != 2:
            raise InputError(f"--kernel motion is for pictures; these examples have {ndim} sides")
        return operators.motion_kernel(*numbers)
    return kind if kind != "file" else _kernel_file(Path(text), ndim)


def _kernel_file(path: Path, ndim: int) -> Any:
    """A kernel of an .npy or of a picture, scaled to sum to one."""
    import numpy as np
    import torch

    from ..data.files import load_npy
    from ..data.images import read_files
    from ..data.options import ReadOptions
    from .show import say

    if not path.is_file():
        raise InputError(
            f"--kernel {path}: there is no such file; gaussian:SIGMA and motion:LENGTH,ANGLE are "
            "the kernels by name"
        )
    if path.suffix.lower() == ".npy":
        array = np.asarray(load_npy(path))
    else:
        array = np.squeeze(read_files([path], ReadOptions(channels=1)).pixels)
    if array.dtype.kind not in "biuf" or array.ndim != ndim:
        raise InputError(
            f"--kernel {path} must hold real numbers in {ndim} dimensions, those of an example "
            f"without channels; got {array.dtype} of shape {array.shape}"
        )
    weights = torch.from_numpy(np.ascontiguousarray(array.astype(np.float64)))
    total = float(weights.sum())
    if not math.isfinite(total) or total <= 0:
        raise InputError(f"--kernel {path}: the weights must sum to more than 0; got {total:g}")
    say(f"kernel of {path.name}: {tuple(weights.shape)}, divided by the sum of its weights")
    return weights / total


def _projection(task: Task, event_shape: tuple[int, ...]) -> Any:
    from ..inverse import operators

    fraction = _fraction(FRACTION if task.fraction is None else task.fraction)
    return operators.RandomProjection(max(1, round(fraction * math.prod(event_shape))), event_shape)


def _fraction(value: float) -> float:
    """--fraction, checked."""
    if not 0 < value <= 1:
        raise InputError(f"--fraction must be above 0 and at most 1; got {value:g}")
    return value


def _fourier(task: Task, event_shape: tuple[int, ...]) -> Any:
    from ..data import read_mask
    from ..inverse import operators
    from .show import say

    grid = tuple(event_shape[-_places(event_shape) :])
    named = {n: vars(task)[n] for n in OPTIONS["mri"] if vars(task)[n] is not None}
    if len(named) > 1:
        raise InputError(f"give one of {' and '.join(f'--{name}' for name in named)}")
    if task.mask is not None:
        return operators.Fourier(read_mask(task.mask, (1, *grid), say)[0] != 0)
    speed = ACCELERATION if task.acceleration is None else task.acceleration
    if task.fraction is not None:
        speed = 1 / _fraction(task.fraction)
    centre = min(0.08, 0.5 / max(speed, 1.0))  # at most half of the lines lie in the centre
    return operators.Fourier(operators.cartesian_mask(grid, speed, centre))


def from_file(path: Path, event_shape: tuple[int, ...]) -> Measured:
    """The operator of a user's own file, which is executed, and its noise.

    Args:
        path: --operator.
        event_shape: shape of the model's examples.

    Raises:
        InputError: the file fails, defines no operator, or the operator is wrong.
    """
    from ..inverse import Noise
    from ..inverse.operators import Operator, adapt, quick_check
    from .loading import run_file

    names = run_file(path, "--operator")
    if "operator" not in names:
        raise InputError(
            f"--operator {path} must define `operator`: an operator, a matrix, or a function of "
            "the event's shape that makes one"
        )
    value = names["operator"]
    makes = callable(value) and not isinstance(value, Operator) and "A" not in dir(value)
    if makes and "matvec" not in dir(value):
        try:
            value = value(event_shape)
        except Exception as error:  # whatever a user's code raises
            raise InputError(
                f"--operator {path}: operator({event_shape}) fails: {type(error).__name__}: "
                f"{error}. It is called with the shape of an example, and gives an operator"
            ) from error
    elif isinstance(value, type):
        raise InputError(
            f"--operator {path}: operator is a class; make an object of it, operator = "
            f"{value.__name__}(...)"
        )
    operator = adapt(value, event_shape)
    if operator.linear:
        quick_check(operator, event_shape)
    noise, std = names.get("noise"), names.get("noise_std")
    if noise is not None and not isinstance(noise, Noise):
        raise InputError(
            f"--operator {path}: noise must be a law of the noise, such as "
            f"scorefield.inverse.PoissonNoise(100); got {type(noise).__name__}"
        )
    if noise is not None and std is not None:
        raise InputError(f"--operator {path} defines noise and noise_std; one is needed")
    stated = noise is not None or std is not None
    return Measured(operator, 0.0 if std is None else std, noise, stated)
