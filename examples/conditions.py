"""Conditions, wrapped models and their cost, on a density whose answer is known.

    python examples/conditions.py [PICTURE.png]

A mixture of six Gaussians carries three classes. The same line samples it without a condition, with
one, and with guidance, which exaggerates what distinguishes a class; the cost is counted where the
density is evaluated.
"""

import math
import sys
from pathlib import Path

import torch

import scorefield as sf
from scorefield.exact import GaussianMixture
from scorefield.plotting import Panel, save_planes

ANGLES = torch.arange(6, dtype=torch.float64) * math.pi / 3
MIXTURE = GaussianMixture(
    3 * torch.stack([ANGLES.cos(), ANGLES.sin()], 1), 0.8, labels=[0, 0, 1, 1, 2, 2]
)
FRAME = (-7.0, 7.0, -7.0, 7.0)


def main(picture: str | None = None, count: int = 3000) -> dict[str, int]:
    """Draw the four panels; returns the evaluations a sample of each."""
    zero = {"class": torch.zeros(1, dtype=torch.int64)}
    bound = sf.Bound(MIXTURE, zero)  # p(x | class 0) as a model of its own
    drawn = {
        "no condition": sf.sample(MIXTURE, count, nfe=20, record=True),
        'condition={"class": 0}': sf.sample(
            MIXTURE, count, nfe=20, condition={"class": 0}, record=True
        ),
        "guidance=3": sf.sample(
            MIXTURE, count, nfe=20, condition={"class": 0}, guidance=3.0, record=True
        ),
        "Bound(Guided(...)), sigma < 2 only": sf.sample(
            sf.Bound(sf.Guided(MIXTURE, 3.0, interval=(0.0, 2.0)), zero),
            count,
            nfe=20,
            record=True,
        ),
    }
    panels = []
    for name, (x, record) in drawn.items():
        density = MIXTURE.log_prob if name == "no condition" else bound.log_density
        panels.append(
            Panel(
                f"{name}\n{record.nfe} evaluations a sample",
                lambda at, density=density: density(at, 0.05),
                points=x,
            )
        )
        print(f"{name}: {record.nfe} evaluations a sample, mean {x.mean(0).tolist()}")
    if picture is not None:
        save_planes(
            Path(picture),
            panels,
            FRAME,
            "One density, with a condition and with guidance",
            "Dots: samples. Grey: the density each panel should follow, p(x) on the left and "
            "p(x | class 0) elsewhere. Guidance with scale 3 does not follow it: samples are "
            "pushed away from the other classes. Limited to sigma below 2 it pushes less.",
            columns=4,
        )
    return {name: record.nfe for name, (_, record) in drawn.items()}


if __name__ == "__main__":
    main(*sys.argv[1:2])
