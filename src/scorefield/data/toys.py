"""Toy densities in the plane: exact definitions, keyed draws, and log p for plots.

    mixture        1/5 N((-5, -5), I) + 4/5 N((5, 5), I)  (Song and Ermon 2019)
    ring           radius 1 + 0.1 z at a uniform angle
    checkerboard   uniform on the 8 unit squares of [-2, 2]² whose column and row, counted from 0,
                   have an even sum
    moons          (cos pi t, sin pi t) or (1 - cos pi t, 1/2 - sin pi t), half each, t uniform on
                   (0, 1), plus 0.1 z
    spiral         2 t (cos 4 pi t, sin 4 pi t), t of density 2 t on (0, 1), plus 0.1 z

The densities of mixture and checkerboard are immediate. The ring's is p(x) = [n(|x|) + n(-|x|)] /
(2 pi |x|) with n the density of N(1, 0.1²). Those of moons and spiral are integrals of a Gaussian
along a smooth curve, by Gauss-Legendre quadrature in panels of a few widths (about ten digits).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError

COUNT = 50_000
WIDTH = 0.1  # standard deviation of the noise of ring, moons and spiral
MODES = torch.tensor([[-5.0, -5.0], [5.0, 5.0]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.2, 0.8], dtype=torch.float64)


@dataclass(frozen=True)
class Toy:
    """A density in the plane.

    Attributes:
        draw: Maps uniform and normal numbers, (N, 2) each in float64, to points (N, 2).
        log_density: Maps points (N, 2) to log p (N,) in nats.
    """

    draw: Callable[[Tensor, Tensor], Tensor]
    log_density: Callable[[Tensor], Tensor]


def _mixture(u: Tensor, z: Tensor) -> Tensor:
    return MODES[(u[:, 0] >= WEIGHTS[0]).long()] + z


def _mixture_density(x: Tensor) -> Tensor:
    squares = (x[:, None] - MODES.to(x)).square().sum(-1)
    return torch.logsumexp(WEIGHTS.to(x).log() - squares / 2, 1) - math.log(2 * math.pi)


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)


def _ring(u: Tensor, z: Tensor) -> Tensor:
    return _polar(1 + WIDTH * z[:, 0], 2 * math.pi * u[:, 0])


def _ring_density(x: Tensor) -> Tensor:
    radius: Tensor = torch.linalg.vector_norm(x, dim=1)
    both = torch.logaddexp(
        -((radius - 1) / WIDTH).square() / 2, -((radius + 1) / WIDTH).square() / 2
    )
    return both - math.log(WIDTH * math.sqrt(2 * math.pi)) - (2 * math.pi * radius).log()


def _checkerboard(u: Tensor, z: Tensor) -> Tensor:
    first = 4 * u[:, 0]
    second = 2 * u[:, 1]  # the whole part chooses one of two squares, the rest is the place within
    return torch.stack([first, second + second.floor() + first.floor() % 2], 1) - 2


def _checkerboard_density(x: Tensor) -> Tensor:
    cell = (x + 2).floor()
    filled = ((cell >= 0) & (cell < 4)).all(1) & (cell.sum(1) % 2 == 0)
    return torch.where(filled, -math.log(8), -math.inf).to(x.dtype)


def _moons_curve(t: Tensor) -> list[Tensor]:
    c, s = (math.pi * t).cos(), (math.pi * t).sin()
    return [torch.stack([c, s], 1), torch.stack([1 - c, 0.5 - s], 1)]


def _moons(u: Tensor, z: Tensor) -> Tensor:
    upper, lower = _moons_curve(u[:, 0])
    return torch.where(u[:, 1:] < 0.5, upper, lower) + WIDTH * z


def _spiral_curve(t: Tensor) -> list[Tensor]:
    return [_polar(2 * t, 4 * math.pi * t)]


def _spiral(u: Tensor, z: Tensor) -> Tensor:
    return _spiral_curve(u[:, 0].sqrt())[0] + WIDTH * z


def _along(
    curve: Callable[[Tensor], list[Tensor]], density: Callable[[Tensor], Tensor], panels: int
) -> Callable[[Tensor], Tensor]:
    """The log of int_0^1 density(t) N(x; curve(t), WIDTH² I) dt, the mean over the branches."""

    def log_density(x: Tensor) -> Tensor:
        import numpy as np

        node, weight = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(20))
        t = ((torch.arange(panels)[:, None] + (node + 1) / 2) / panels).flatten()
        branches = curve(t)
        centres = torch.cat(branches)
        log_weight = (
            ((weight / (2 * panels)).repeat(panels) * density(t) / len(branches))
            .log()
            .repeat(len(branches))
        )
        parts = []
        for rows in torch.split(x.double(), 1024):
            squares = torch.cdist(
                rows, centres, compute_mode="donot_use_mm_for_euclid_dist"
            ).square()
            parts.append(torch.logsumexp(log_weight - squares / (2 * WIDTH**2), 1))
        return (torch.cat(parts) - math.log(2 * math.pi * WIDTH**2)).to(x.dtype)

    return log_density


#: The toy densities by name.
TOYS: dict[str, Toy] = {
    "mixture": Toy(_mixture, _mixture_density),
    "moons": Toy(_moons, _along(_moons_curve, torch.ones_like, 10)),
    "ring": Toy(_ring, _ring_density),
    "spiral": Toy(_spiral, _along(_spiral_curve, lambda t: 2 * t, 50)),
    "checkerboard": Toy(_checkerboard, _checkerboard_density),
}


def _randomness(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Uniform and normal numbers (count, 2), float64; row k is a function of (seed, k)."""
    keys, stream = rng.keys(seed, count), rng.Stream.TOY
    u = rng.uniform(keys, stream, 0, (2,), torch.float64)
    return u, rng.normal(keys, stream, 0, (2,), torch.float64, draw=1)


def toy(name: str, count: int | None = None, seed: int = 0) -> Tensor:
    """Points of a toy density.

    Args:
        name: A name of TOYS.
        count: How many, by default 50,000.
        seed: 0 or more. Point k is a function of (name, seed, k), whatever `count` is.

    Returns:
        float32 (count, 2).

    Raises:
        InputError: `count` is below 1.
    """
    count = COUNT if count is None else count
    if count < 1:
        raise InputError(f"count must be at least 1; got {count}")
    return TOYS[name].draw(*_randomness(seed, count)).float()


def toy_density(name: str) -> Callable[[Tensor], Tensor] | None:
    """The log density in data units, (N, 2) -> (N,), of the toy `name`; None for other names."""
    return TOYS[name].log_density if name in TOYS else None
