"""Held-out losses of two runs of the same data, paired: does one differ from the other?

Both models are evaluated on the same held-out examples with the same noise, under the training
distribution of sigma of the first one. The standard error of the difference is that of the paired
differences, which is far smaller than that of either loss.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from scorefield import checkpoint
from scorefield.config import Config
from scorefield.errors import InputError
from scorefield.execution import choose
from scorefield.training import Evaluator
from scorefield.training.build import build_objective, sigma_distribution
from scorefield.training.evaluator import HeldOutLoss

from .precision import held_out_examples


def held_out(
    run: Path, other: Path, noises: int = 16, threads: int | None = None
) -> dict[str, Any]:
    """Compare the held-out losses of two runs.

    Args:
        run: The folder of a run.
        other: The folder of another run of the same data and seed.
        noises: Noises for each held-out example, 1 or more.
        threads: CPU threads; None: all cores.

    Returns:
        The record: both losses with their standard errors, and the paired difference, also as a
        fraction of the second loss.

    Raises:
        InputError: Where the runs have other data or other held-out examples.
    """
    cards = [checkpoint.load(folder).card or {} for folder in (run, other)]
    known = [
        (c.get("data", {}).get("sha256"), c.get("config", {}).get("seed"), c.get("event_shape"))
        for c in cards
    ]
    if known[0] != known[1]:
        raise InputError(f"{run} and {other} need the same data and the same seed")
    losses = [_losses(folder, cards[0], noises, threads) for folder in (run, other)]
    first, second = (HeldOutLoss.of(found) for found in losses)
    gap = HeldOutLoss.of(losses[0] - losses[1])
    return {
        "examples": first.examples,
        "noises": noises,
        "run": {"loss": first.value, "se": first.se},
        "other": {"loss": second.value, "se": second.se},
        "difference": gap.value,
        "difference_se": gap.se,
        "fraction": gap.value / second.value,
        "fraction_se": gap.se / second.value,
    }


def _losses(folder: Path, card: dict[str, Any], noises: int, threads: int | None) -> Tensor:
    """One loss per held-out example, with the objective and the sigmas of a card."""
    model = checkpoint.load(folder)
    execution = choose(precision="float32", compile="off", threads=threads)
    execution.configure_process()
    execution.apply(model)
    x0, condition = held_out_examples(folder, model)
    config = Config.from_dict(card["config"])
    evaluator = _Many(
        build_objective(config),
        x0,
        condition,
        distribution=sigma_distribution(config)[0],
        seed=config.seed,
    )
    evaluator.noises = noises
    return evaluator.losses(model)


class _Many(Evaluator):
    """An evaluator with a given number of noises for each example."""

    noises = 1

    @property
    def evaluations(self) -> int:
        return len(self) * self.noises
