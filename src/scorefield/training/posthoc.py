"""Averages of other lengths, rebuilt after training from snapshots of the tracked ones.

After Karras et al. 2024, Section 3.2 and Alg. 3. A power-function average of exponent gamma, taken
at t images, weighs the weights at time tau with

    p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1),   0 <= tau <= t,

exactly so for steps of B images with theta constant over each. The wanted profile p is replaced by
the combination x of the snapshots' profiles nearest to it in the L2 norm among those whose
coefficients sum to one, as those of an average must: A x + mu 1 = b, 1'x = 1 with A_ij =
<p_i, p_j>, b_i = <p_i, p>, and

    <p_i, p_j> = (g_i + 1)(g_j + 1) / (g_i + g_j + 1)
                 * min(t_i, t_j)^(g_i + g_j + 1) / (t_i^(g_i + 1) t_j^(g_j + 1)).

Without the constraint the coefficients for a run with eight snapshots of the widths 0.02 and 0.1
sum to between 0.89 and 1.02, which scales the weights.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..files import write_bytes
from ..runs import Run
from .ema import EMA, gamma_of


def inner_products(
    time_a: np.ndarray, gamma_a: np.ndarray, time_b: np.ndarray, gamma_b: np.ndarray
) -> np.ndarray:
    """The inner products <p_a, p_b> of all pairs of profiles.

    Args:
        time_a: Times t of the first profiles, (m,), in any one unit.
        gamma_a: Their exponents, (m,).
        time_b: Times of the second profiles, (n,), in the same unit.
        gamma_b: Their exponents, (n,).

    Returns:
        (m, n).
    """
    ta, ga, tb, gb = time_a[:, None], gamma_a[:, None], time_b[None], gamma_b[None]
    power = ga + gb + 1
    log = (
        np.log((ga + 1) * (gb + 1) / power)
        + power * np.log(np.minimum(ta, tb))
        - (ga + 1) * np.log(ta)
        - (gb + 1) * np.log(tb)
    )
    return np.exp(log)


def coefficients(times: np.ndarray, gammas: np.ndarray, time: float, gamma: float) -> np.ndarray:
    """The combination of profiles nearest to a wanted profile in the L2 norm.

    Args:
        times: Times of the stored profiles, (m,), in any one unit.
        gammas: Their exponents, (m,).
        time: The time of the wanted profile, in the same unit.
        gamma: Its exponent.

    Returns:
        The coefficients x, (m,), which sum to one.
    """
    scale = float(np.max(times))
    times, time = times / scale, time / scale
    a = inner_products(times, gammas, times, gammas)
    b = inner_products(times, gammas, np.array([time]), np.array([gamma]))[:, 0]
    root = np.sqrt(np.diag(a))  # scaled to unit diagonal: late, narrow profiles are large numbers
    count = len(b)
    system = np.zeros((count + 1, count + 1))
    system[:count, :count] = a / np.outer(root, root)
    system[:count, count] = system[count, :count] = 1 / root
    x, *_ = np.linalg.lstsq(system, np.append(b / root, 1.0), rcond=1e-13)
    return x[:count] / root


def profile_error(times: np.ndarray, gammas: np.ndarray, time: float, gamma: float) -> float:
    """How far the combination of `coefficients` is from the wanted profile.

    Args:
        times: Times of the stored profiles, (m,), in any one unit.
        gammas: Their exponents, (m,).
        time: The time of the wanted profile, in the same unit.
        gamma: Its exponent.

    Returns:
        The L2 norm of the difference over that of the wanted profile.
    """
    x = coefficients(times, gammas, time, gamma)
    wanted = np.array([time]), np.array([gamma])
    b = inner_products(times, gammas, *wanted)[:, 0]
    size = float(inner_products(*wanted, *wanted)[0, 0])
    square = size - 2 * float(b @ x) + float(x @ inner_products(times, gammas, times, gammas) @ x)
    return float(np.sqrt(max(square, 0.0) / size))


def save_snapshot(folder: Path, images: int, averages: Sequence[EMA]) -> Path:
    """Write the tracked averages to one file of the run.

    Args:
        folder: The run directory.
        images: Images seen, which name the file.
        averages: The averages.

    Returns:
        The path of the file.
    """
    from safetensors.torch import save

    tensors = {
        f"{ema.width:g}/{name}": value.cpu().contiguous()
        for ema in averages
        for name, value in ema.weights.items()
    }
    return write_bytes(Run(folder).snapshots / f"{images:012d}.safetensors", save(tensors))


def snapshot(folder: Path, images: int) -> tuple[dict[str, Tensor], int]:
    """The average of a run at an earlier moment, for autoguidance.

    Args:
        folder: The run directory, which holds snapshots of power-function averages.
        images: The moment, in images seen; the snapshot nearest to it is taken.

    Returns:
        The weights of the run's first average by parameter name, and the images of the snapshot.

    Raises:
        InputError: The run kept no snapshots.
    """
    from safetensors.torch import load_file

    file = _nearest(folder, images)
    config = Run(folder).read_config() or {}
    width = f"{config['config']['ema']['profiles'][0]:g}/"
    found = {n: v for n, v in load_file(file).items() if n.startswith(width)}
    return {n.removeprefix(width): v for n, v in found.items()}, int(file.stem)


def snapshot_images(folder: Path, images: int) -> int:
    """The images seen at the snapshot that `snapshot` takes.

    Args:
        folder: The run directory.
        images: The moment, in images seen.

    Raises:
        InputError: The run kept no snapshots.
    """
    return int(_nearest(folder, images).stem)


def _nearest(folder: Path, images: int) -> Path:
    """The file of the snapshot nearest to a moment."""
    return min(_snapshots(folder), key=lambda path: abs(int(path.stem) - images))


def _snapshots(folder: Path) -> list[Path]:
    """The files of snapshots in the order of their images."""
    files = sorted(Run(folder).snapshots.glob("*.safetensors"))
    if not files:
        raise InputError(
            f"{folder} kept no snapshots of its averages; train with --set ema.snapshots=16 or "
            "more (power-function averages)"
        )
    return files


def rebuild(folder: Path, sigma_rel: float) -> dict[str, Tensor]:
    """Rebuild the average of another width at the end of a run.

    Args:
        folder: The run directory, which holds snapshots of power-function averages.
        sigma_rel: The relative width, in (0, 0.28).

    Returns:
        The weights by parameter name.

    Raises:
        InputError: For a width out of range, or a run without snapshots.
    """
    from safetensors.torch import load_file

    gamma = gamma_of(sigma_rel)
    files = _snapshots(folder)
    first = load_file(files[0])
    widths, times, gammas = _stored_profiles(files, first)
    x = coefficients(times, gammas, float(files[-1].stem), gamma).reshape(len(files), len(widths))
    total: dict[str, Tensor] = {}
    for file, row in zip(files, x, strict=True):
        tensors = load_file(file)
        for width, weight in zip(widths, row, strict=True):
            for name in (n for n in tensors if n.startswith(f"{width:g}/")):
                value, key = tensors[name].double() * weight, name.split("/", 1)[1]
                total[key] = total[key] + value if key in total else value
    return {name: value.to(first[f"{widths[0]:g}/{name}"].dtype) for name, value in total.items()}


def rebuild_error(folder: Path, sigma_rel: float) -> float:
    """How far the window of a rebuilt average is from the wanted one; see `profile_error`.

    Args:
        folder: The run directory, as for `rebuild`.
        sigma_rel: The relative width, in (0, 0.28).

    Returns:
        The relative L2 error of the profile.

    Raises:
        InputError: As `rebuild`.
    """
    from safetensors.torch import load_file

    gamma, files = gamma_of(sigma_rel), _snapshots(folder)
    _, times, gammas = _stored_profiles(files, load_file(files[0]))
    return profile_error(times, gammas, float(files[-1].stem), gamma)


def _stored_profiles(
    files: Sequence[Path], names: Iterable[str]
) -> tuple[list[float], np.ndarray, np.ndarray]:
    """Relative widths of the averages in every snapshot; times and exponents of all profiles."""
    widths = sorted({float(name.split("/")[0]) for name in names})
    times = np.repeat([float(file.stem) for file in files], len(widths))
    return widths, times, np.tile([gamma_of(w) for w in widths], len(files))
