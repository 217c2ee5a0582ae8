"""What each operator measures of a photograph, and what the measurement alone gives back.

    python examples/operators.py [PICTURE.png]

The measurement has Gaussian noise of standard deviation 0.02. Below it stands the pseudo-inverse of
the measurement: what is left without a prior.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import scorefield as sf
from scorefield.inverse import simulate

ops = sf.operators
SIZE = 64
NOISE = 0.02


def photograph() -> Tensor:
    """A flower, (1, 3, SIZE, SIZE) in [0, 1], float64; it comes with scikit-learn."""
    from sklearn.datasets import load_sample_image

    pixels = torch.from_numpy(load_sample_image("flower.jpg").copy()).double() / 255
    square = pixels.permute(2, 0, 1)[None, :, 20:404, 120:504]
    return ops.Downsample(square.shape[-1] // SIZE).A(square)


def shown_operators() -> dict[str, sf.operators.Operator]:
    """Operators for colour images of SIZE x SIZE, by what the picture calls them."""
    place = torch.arange(SIZE)
    hole = ((place - SIZE // 2).abs() < SIZE // 5).double()
    frequencies = ops.cartesian_mask((SIZE, SIZE), acceleration=3, centre_fraction=0.1)
    colour = (3, SIZE, SIZE)
    grey = ops.Composition(
        ops.RandomProjection(1024, (1, SIZE, SIZE), orthonormal=True), ops.Grey()
    )
    return {
        "Mask": ops.Mask(1 - hole[:, None] * hole),
        "Blur, Gaussian": ops.Blur(ops.gaussian_kernel(1.0)),
        "Blur, motion": ops.Blur(ops.motion_kernel(9, 30)),
        "Downsample": ops.Downsample(4, "bicubic", "circular"),
        "Grey": ops.Grey(),
        "Fourier": ops.Fourier(frequencies),
        "Radon": ops.Radon(range(0, 180, 5), SIZE),
        "RandomProjection of Grey": grey,
        "Stacked": ops.Stacked([ops.Grey(), ops.Downsample(8)], colour),
        "PhaseRetrieval": ops.PhaseRetrieval(power=1),
        "Quantise": ops.Quantise(levels=4),
    }


def measurement_image(operator: sf.operators.Operator, y: Tensor) -> Tensor:
    """A measurement (1, ...) as an image (height, width) or (height, width, 3)."""
    if isinstance(operator, ops.Fourier):
        y = torch.view_as_complex(operator.spread(y)).abs().mean(1).pow(0.3)
        return y[0] / y.max()
    if isinstance(operator, ops.PhaseRetrieval):
        y = torch.fft.fftshift(y, dim=(-2, -1)).mean(1).clamp_min(0).pow(0.3)
        return y[0] / y.max()
    if isinstance(operator, ops.Radon):
        return (y[0] / y.max()).clamp(0, 1).permute(1, 2, 0)
    if isinstance(operator, ops.Stacked):
        grey, coarse = operator.split(y)
        wide = coarse.repeat_interleave(8, -1).repeat_interleave(8, -2)
        return torch.cat([grey.expand(-1, 3, -1, -1), wide], -1)[0].clamp(0, 1).permute(1, 2, 0)
    if y.ndim == 2:
        side = int(y.shape[1] ** 0.5)
        return (y[0, : side * side].reshape(side, side) / y.abs().max() + 1) / 2
    return y[0].clamp(0, 1).permute(1, 2, 0)


def main(picture: str | None = None) -> dict[str, float]:
    """Measure the photograph by every operator; returns the error of each pseudo-inverse."""
    x = photograph()
    event_shape = tuple(x.shape[1:])
    print(f"{'operator':<26}{'measurement':<16}{'rms error of the pseudo-inverse':>32}")
    errors: dict[str, float] = {}
    panels: list[tuple[str, Tensor, Tensor | None]] = [
        ("the photograph", x[0].permute(1, 2, 0), None)
    ]
    for name, operator in shown_operators().items():
        y = simulate(x, operator, NOISE).observed
        back = operator.A_pinv(y, event_shape) if operator.linear else None
        errors[name] = float("nan") if back is None else float((back - x).square().mean().sqrt())
        print(f"{name:<26}{tuple(y.shape[1:])!s:<16}{errors[name]:>32.3f}", flush=True)
        given = None if back is None else back[0].clamp(0, 1).permute(1, 2, 0)
        panels.append((name, measurement_image(operator, y), given))
    if picture is not None:
        draw(Path(picture), panels)
    return errors


def draw(path: Path, panels: list[tuple[str, Tensor, Tensor | None]]) -> None:
    """Write the picture: measurements, and below each of them its pseudo-inverse."""
    from matplotlib.figure import Figure

    columns = (len(panels) + 1) // 2
    figure = Figure(figsize=(1.75 * columns, 7.6), layout="constrained")
    axes: Any = figure.subplots(4, columns)
    for one in axes.flat:
        one.axis("off")
    for k, (name, measured, given) in enumerate(panels):
        row, column = 2 * (k // columns), k % columns
        shown(axes[row, column], measured, name)
        if given is not None:
            shown(axes[row + 1, column], given, "pseudo-inverse")
        elif k:
            axes[row + 1, column].text(0.5, 0.5, "not linear:\nnone", ha="center", va="center")
    figure.savefig(path, dpi=100)


def shown(axes: Any, image: Tensor, title: str) -> None:
    """One image under its title."""
    axes.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=8.5)


if __name__ == "__main__":
    main(*sys.argv[1:2])
