"""Looking at a model while it trains: held-out loss, samples from fixed seeds, and at the end the loss per sigma."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..execution import eager
from ..model import Preconditioned

if TYPE_CHECKING:
    from .trainer import Trainer


def look(trainer: "Trainer", elapsed: float, final: bool = False) -> dict[str, list[float]]:
    """Held-out loss into metrics.jsonl, samples from fixed seeds into previews/; at the end the loss per sigma too (returned)."""
    from ..plotting import save_loss_per_sigma, save_samples
    from ..sampling import sample

    record: dict[str, Any] = {"images": trainer.images, "seconds": round(elapsed, 3)}
    table: dict[str, list[float]] = {}
    with eager():
        overall = trainer.held_out_loss()
        record |= {"held_out": overall["loss"][0], "held_out_se": overall["se"][0]}
        if final:
            table = trainer.held_out_loss(per_sigma=True)
            record["held_out_by_sigma"] = table
        model = trainer.averaged()
        try:
            images = trainer.collection.image
            # About 200 evaluations of a model that knows only its levels, 24 of the others: a glance, not the sampler the model is judged by.
            settings: dict[str, Any] = {"nfe": 24}
            if model.ladder is not None and model.index_conditioned:
                settings = {"ladder": model.ladder, "repeats": max(1, 200 // len(model.ladder))}
            samples = sample(
                model,
                count=500 if len(model.event_shape) == 1 else 16,
                seed=trainer.config.seed,
                sampler=preview_sampler(model),
                **settings,
            )
            save_samples(run_preview(trainer), samples, image=images)
        except InputError as error:  # a picture is a convenience: training does not end for it
            trainer.notice(f"no preview: {error}")
    trainer.run.log(record)
    if final:
        title = f"Held-out loss ({trainer.config.objective.name}) at each noise level"
        save_loss_per_sigma(trainer.run.folder / "loss_per_sigma.png", table["sigma"], table["loss"], table["se"], title=title)
    return table


def run_preview(trainer: "Trainer") -> Path:
    """Where the preview of this moment goes."""
    return trainer.run.previews / f"{trainer.images:09d}.png"


def preview_sampler(model: Preconditioned) -> str:
    """Which sampler previews use: the probability flow, the same noise giving the same picture better each time, or annealed Langevin for a
    model that knows only its levels."""
    return "annealed-langevin" if model.index_conditioned else "heun"
