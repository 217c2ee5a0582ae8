"""Looking at a model while it trains: held-out loss, samples from fixed seeds, and at the end the
loss per sigma.
"""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..execution import eager
from ..model import Preconditioned
from .meter import SIGMA_BINS

if TYPE_CHECKING:
    from .trainer import Trainer

HELD_OUT_EVENTS = 512  # at most
# seconds: what took longer is timed well enough; small batches of a fast model are not its rate
MEASURABLE = 0.1


def look(
    trainer: "Trainer", elapsed: float, seconds: float = math.inf, final: bool = False
) -> dict[str, list[float]]:
    """Held-out loss into metrics.jsonl, samples from fixed seeds into previews/; at the end the
    loss per sigma too (returned).

    seconds: what it may take. Where that is not enough it looks at fewer held-out events and draws
    fewer samples; where it is not enough for
    two events and a sample, it does nothing before the end.
    """
    from ..plotting import save_loss_per_sigma, save_samples
    from ..sampling import sample

    record: dict[str, Any] = {"images": trainer.images, "seconds": round(elapsed, 3)}
    table: dict[str, list[float]] = {}
    with eager():
        model = trainer.averaged()
        samples, evaluations, settings = glance(model)
        events, looks = (
            min(HELD_OUT_EVENTS, len(trainer.held_index)),
            1 + (SIGMA_BINS if final else 0),
        )
        affordable = seconds / evaluation_seconds(trainer) if math.isfinite(seconds) else math.inf
        if affordable < 2 * looks + evaluations and not final:
            return table
        share = min(1.0, affordable / (events * looks + samples * evaluations))
        events, samples = max(min(2, events), int(share * events)), max(1, int(share * samples))
        overall = trainer.held_out_loss(events)
        record |= {
            "held_out": overall["loss"][0],
            "held_out_se": overall["se"][0],
            "held_out_events": events,
        }
        if final:
            table = trainer.held_out_loss(events, per_sigma=True)
            record["held_out_by_sigma"] = table
        try:
            drawn = sample(
                model,
                count=samples,
                seed=trainer.config.seed,
                sampler=preview_sampler(model),
                **settings,
            )
            save_samples(run_preview(trainer), drawn, image=trainer.collection.image)
        except InputError as error:  # a picture is a convenience: training does not end for it
            trainer.notice(f"no preview: {error}")
    trainer.run.log(record)
    if final:
        title = f"Held-out loss ({trainer.config.objective.name}) at each noise level"
        save_loss_per_sigma(
            trainer.run.folder / "loss_per_sigma.png",
            table["sigma"],
            table["loss"],
            table["se"],
            title=title,
        )
    return table


def glance(model: Preconditioned) -> tuple[int, int, dict[str, Any]]:
    """Samples of a preview, evaluations each, and the sampler's settings: about 200 evaluations of
    a model that knows only its levels, 24 of the
    others; not the sampler the model is judged by."""
    samples = 500 if len(model.event_shape) == 1 else 16
    if model.ladder is not None and model.index_conditioned:
        repeats = max(1, 200 // len(model.ladder))
        return samples, repeats * len(model.ladder), {"ladder": model.ladder, "repeats": repeats}
    return samples, 24, {"nfe": 24}


def evaluation_seconds(trainer: "Trainer") -> float:
    """Seconds of one evaluation of one event, by the held-out loss of as many as it takes to be
    measured.
    """
    events = 16
    while True:
        start = time.perf_counter()
        trainer.held_out_loss(events)
        took = time.perf_counter() - start
        if took > MEASURABLE or events >= min(HELD_OUT_EVENTS, len(trainer.held_index)):
            return took / min(events, len(trainer.held_index))
        events *= 4


def run_preview(trainer: "Trainer") -> Path:
    """Where the preview of this moment goes."""
    return trainer.run.previews / f"{trainer.images:09d}.png"


def preview_sampler(model: Preconditioned) -> str:
    """Which sampler previews use: the probability flow, the same noise giving the same picture
    better each time, or annealed Langevin for a
    model that knows only its levels."""
    return "annealed-langevin" if model.index_conditioned else "heun"
