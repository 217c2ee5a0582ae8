"""Experiment 1: a density and its score.

    s(x) = grad log p(x) = sum_k r_k(x) (m_k - x),   r_k the responsibilities of the two modes

The score needs no normalising constant. It points uphill: to the nearer mode, whatever its weight.
"""

from pathlib import Path

import torch

from ..data.toys import MODES
from ..plotting import grid_points, save_score_field
from .common import FRAME, GRID, Result, Settings, mixture


def make(stem: Path, settings: Settings) -> Result:
    """Draw the score over the density, and compare it with central differences of log p.

    Args:
        stem: path of the picture without its ending.
        settings: not used; the experiment is quick.

    Returns:
        The picture, and the largest gap.
    """
    p, h = mixture(), 1e-4
    x = torch.as_tensor(grid_points(FRAME, GRID))
    steps = h * torch.eye(2, dtype=torch.float64)
    slope = torch.stack([(p.log_prob(x + e) - p.log_prob(x - e)) / (2 * h) for e in steps], 1)
    score = p.score(x, 0.0)
    gap = float((score - slope).abs().max())
    cell = (FRAME[1] - FRAME[0]) * (FRAME[3] - FRAME[2]) / GRID**2
    path = save_score_field(
        stem.with_suffix(".png"),
        lambda at: p.score(at, 0.0),
        p.log_prob,
        FRAME,
        title="The score ∇ log p of p = 1/5 N((−5, −5), I) + 4/5 N((5, 5), I)",
    )
    numbers = {
        "largest_gap_to_central_differences": gap,
        "largest_score_at_the_modes": float(p.score(MODES, 0.0).norm(dim=1).max()),
        "largest_score_in_the_frame": float(score.norm(dim=1).max()),
        "mass_in_the_frame": float(p.log_prob(x).exp().sum() * cell),
    }
    return Result(
        [path],
        f"The score is the slope of log p: it equals central differences of log p to {gap:.1g} "
        "everywhere in the frame.",
        numbers,
    )
