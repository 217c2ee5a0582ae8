"""Which average of the weights is best: held-out losses of a run's averages and live weights.

    sweep = sf.evaluation.ema_sweep("runs/mine")
    print(sweep)

The averages are those that the run tracked, and those of other widths that can be rebuilt from its
snapshots (`training.rebuild`). All weights are evaluated on the same held-out examples with the
same noise, so that differences have the standard errors of paired differences. Samples of live and
averaged weights have the same seeds.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..checkpoint import load, load_state
from ..config import Config
from ..data import Pipeline, open_card_data
from ..errors import InputError
from ..files import json_ready
from ..models import Preconditioned
from ..runs import Run
from ..sampling import sample
from ..training import Evaluator, HeldOutLoss, rebuild
from ..training.build import build_objective, sigma_distribution
from ..training.ema import INITIAL
from ..training.posthoc import rebuild_error
from ..values import file_path, numbers, whole

WIDTHS = (0.01, 0.03, 0.05, 0.07, 0.14, 0.2, 0.25)  # relative, rebuilt beside the tracked ones
FEW_SNAPSHOTS = 4  # below which other widths are not rebuilt
HELD = 0.05  # weight of the initial weights in an average above which the sentence states it


@dataclass(frozen=True)
class EMARow:
    """One set of weights.

    Attributes:
        name: "live", or the kind and width of the average.
        source: "live", "tracked" or "rebuilt".
        width: Relative width, or halflife in images; None for the live weights.
        loss: Held-out loss over the training distribution of sigma.
        above_best: Loss less that of the best row, with the standard error of paired differences.
        initial_fraction: Weight that the initial weights have; None where it is not recorded.
        profile_error: Relative L2 error of a rebuilt average's window; 0 for other weights. More
            snapshots make it smaller.
    """

    name: str
    source: str
    width: float | None
    loss: HeldOutLoss
    above_best: HeldOutLoss
    initial_fraction: float | None
    profile_error: float = 0.0

    @property
    def is_tied(self) -> bool:
        """Whether the row is the best one, or within two standard errors of it."""
        return not self.above_best.value > 2 * self.above_best.se


@dataclass(frozen=True)
class EMASweep:
    """The result of `ema_sweep`.

    Attributes:
        rows: The live weights, and averages by width.
        model: Name of the row whose weights the run keeps as its model.
        samples: "live" and the model's row -> samples (n, *event) in data units, of equal seeds.
    """

    rows: tuple[EMARow, ...]
    model: str
    samples: dict[str, Tensor] = field(repr=False, compare=False)

    @property
    def best(self) -> EMARow:
        """The row with the lowest held-out loss."""
        return min(self.rows, key=lambda row: row.loss.value)

    @property
    def sentence(self) -> str:
        """Which weights are best, in words."""
        best, kept = self.best, next(row for row in self.rows if row.name == self.model)
        tied = [row.name for row in self.rows if row.is_tied and row is not best]
        text = f"Best held-out loss: {best.name}, {best.loss.value:.4f}"
        text += f"; within two standard errors of it: {', '.join(tied)}." if tied else "."
        if not kept.is_tied:
            above = kept.above_best
            text += (
                f" The run keeps {kept.name}, which is {above.value:.4f} ± {above.se:.4f} above."
            )
        for row in self.rows:
            if row.initial_fraction is not None and row.initial_fraction > HELD:
                text += (
                    f" {row.name} still holds {row.initial_fraction:.0%} of the initial weights."
                )
        return text

    def to_dict(self) -> dict[str, Any]:
        """Rows and sentence in a form that JSON can hold; samples are left out."""
        rows = [
            {**vars(row), "loss": vars(row.loss), "above_best": vars(row.above_best)}
            | {"tied": row.is_tied}
            for row in self.rows
        ]
        found: dict[str, Any] = json_ready(
            {"rows": rows, "best": self.best.name, "model": self.model, "sentence": self.sentence}
        )
        return found

    def __str__(self) -> str:
        lines = [f"{'weights':>24} {'held-out':>10} {'± se':>9} {'above best':>11} {'± se':>9}"]
        for row in self.rows:
            loss, above = row.loss, row.above_best
            lines.append(
                f"{row.name:>24} {loss.value:10.4f} {loss.se:9.4f} {above.value:11.4f} "
                f"{above.se:9.4f}"
            )
        return "\n".join([*lines, self.sentence])


def ema_sweep(
    run: str | Path,
    data: Any = None,
    *,
    widths: Sequence[float] | None = None,
    evaluations: int | None = None,
    samples: int = 16,
    nfe: int | None = None,
    seed: int = 0,
) -> EMASweep:
    """Held-out loss of each average of a run, and samples of live and averaged weights.

    Args:
        run: The run directory.
        data: The run's data, where its card does not name a place: anything `data.open` takes.
        widths: Relative widths to rebuild, in (0, 0.28); None: seven from 0.01 to 0.25 where the
            run kept four or more snapshots of power-function averages, else none.
        evaluations: Evaluations of each held-out loss; None: 512, or each held-out example once.
        samples: Samples of live and of averaged weights; 0 for none.
        nfe: Evaluations a sample; None: the number in the model card.
        seed: Decides the samples.

    Returns:
        One row a set of weights.

    Raises:
        InputError: For a folder that holds no training state, data that do not fit, or widths that
            cannot be rebuilt.
    """
    place = Run(file_path(run, "run"))
    samples = whole(samples, "samples", 0)
    model, state, config = _open(place)
    found = _weights(place, state, config, widths)
    evaluator = _evaluator(model, config, data)
    losses: dict[str, Tensor] = {}
    for name, (_, _, weights, _) in found.items():
        model.network.load_state_dict(weights)
        losses[name] = evaluator.losses(model, evaluations)
    best = min(losses, key=lambda name: float(losses[name].mean()))
    rows = tuple(
        EMARow(
            name,
            source,
            width,
            HeldOutLoss.of(losses[name]),
            HeldOutLoss.of(losses[name] - losses[best]),
            initial,
            rebuild_error(place.folder, width) if source == "rebuilt" and width else 0.0,
        )
        for name, (source, width, _, initial) in found.items()
    )
    kept = next((row.name for row in rows if row.source == "tracked"), "live")
    drawn = {}
    for name in dict.fromkeys(("live", kept)) if samples else ():
        model.network.load_state_dict(found[name][2])
        drawn[name] = sample(model, samples, seed, nfe=nfe)
    return EMASweep(rows, kept, drawn)


def live_model(run: str | Path) -> Preconditioned:
    """The model of a run with its live weights, those of the last step.

    Args:
        run: The run directory.

    Returns:
        The model in evaluation mode, without gradients.

    Raises:
        InputError: For a folder that holds no training state.
    """
    model, state, _ = _open(Run(file_path(run, "run")))
    model.network.load_state_dict(state["network"])
    return model


def _open(run: Run) -> tuple[Preconditioned, dict[str, Any], Config]:
    """A copy of the run's model, its newest state and its settings."""
    stored = run.read_config()
    state, _ = load_state(run.state)
    model = load(run.folder) if stored is not None and state is not None else None
    if stored is None or state is None or not isinstance(model, Preconditioned):
        raise InputError(
            f"live weights and averages need a run directory with its training state; {run.folder} "
            "has none that is whole"
        )
    return deepcopy(model), state, Config.from_dict(stored["config"])


Weights = dict[str, tuple[str, float | None, dict[str, Tensor], float | None]]


def _weights(
    run: Run, state: dict[str, Any], config: Config, widths: Sequence[float] | None
) -> Weights:
    """Name -> source, width, weights, and weight of the initial ones; live first, then by width."""
    unit = "relative width" if config.ema.kind == "power" else "halflife"
    rows: Weights = {}
    for width, average in zip(config.ema.profiles, state["averages"], strict=True):
        weights = {name: value for name, value in average.items() if name != INITIAL}
        rows[f"{unit} {width:g}"] = "tracked", width, weights, float(average[INITIAL])
    power = config.ema.kind == "power"
    kept = len(list(run.snapshots.glob("*.safetensors"))) if power else 0
    if widths is None:
        chosen = list(WIDTHS) if kept >= FEW_SNAPSHOTS else []
    else:
        chosen = numbers(widths, "widths")
        if chosen and not power:
            raise InputError("widths are rebuilt from power-function averages; the run has others")
    for width in chosen:
        if width not in config.ema.profiles:
            rows[f"{unit} {width:g}"] = "rebuilt", width, rebuild(run.folder, width), None
    ordered = sorted(rows.items(), key=lambda item: item[1][1] or 0.0)
    return {"live": ("live", None, state["network"], 0.0), **dict(ordered)}


def _evaluator(model: Preconditioned, config: Config, data: Any) -> Evaluator:
    """The held-out loss of the run's own training."""
    split = open_card_data(model.card, data)
    pipeline = Pipeline(
        split.dataset,
        split.train,
        model.units,
        config.seed,
        dequantise=config.data.dequantise,
        condition=config.condition.kind,
    )
    chosen = split.held_out[: Evaluator.LARGEST]
    return Evaluator(
        build_objective(config),
        *pipeline.held_out(chosen),
        distribution=sigma_distribution(config)[0],
        seed=config.seed,
    )
