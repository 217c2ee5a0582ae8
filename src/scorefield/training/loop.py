"""Training: a run is a function of its configuration; progress is counted in images; rerunning the
same command continues.

Batch, noise levels and noise of the step that starts after n images are functions of (seed, n).
Live weights, averages, optimiser state
and counters are saved together, so a resumed run goes on as if it had not stopped.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import checkpoint
from ..config import Config, settle, validate
from ..data import load
from ..runs import Run
from .budget import Budget, Clock
from .look import look
from .meter import Meter
from .posthoc import save_snapshot
from .signals import StopRequest, watch
from .trainer import Trainer

PREVIEWS_AT = (0.1, 0.25, 0.5)  # shares of the budget; the last picture is made when training ends
MIDWAY, FINAL = (
    0.003,
    0.03,
)  # shares of the training's time that a look may take on the way and at the end
PATIENCE = 5.0  # seconds the last look may take however short the training


@dataclass(frozen=True)
class Progress:
    """Where training stands, for whoever shows it. rate: images a second, lately; budget: images in
    all, 0 while not known.
    """

    images: int
    budget: int
    share: float
    elapsed: float
    seconds: float
    loss: float
    rate: float
    note: str = ""


@dataclass(frozen=True)
class Summary:
    """How a run ended. signal: the number of the signal that stopped it, 0 for none."""

    folder: Path
    images: int
    seconds: float
    reason: str
    signal: int = 0
    notices: tuple[str, ...] = ()
    held_out: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Hooks:
    """What the caller wants told. on_progress: about twice a second; on_notice: what the user
    should know.
    """

    on_progress: Callable[[Progress], None] = lambda _: None
    on_notice: Callable[[str], None] = lambda _: None


def train(
    config: Config,
    folder: str | Path,
    data: Any = None,
    hooks: Hooks | None = None,
    checkpoint_seconds: float = 60.0,
    log_seconds: float = 2.0,
) -> Summary:
    """Train a run to its budget, or go on with it. data: anything `data.load` takes, in place of
    config.data.source.

    Raises InputError before anything is written where data, settings or the run directory do not
    fit; NonFiniteError (nothing of the bad step
    applied) where a loss or gradient is not finite.
    """
    validate(config)
    hooks = hooks or Hooks()
    began = time.perf_counter()
    d = config.data
    collection = load(
        d.source if data is None else data,
        size=d.size or None,
        channels=d.channels or None,
        key=d.key or None,
    )
    config = settle(config, collection.event_shape)
    run = Run(folder)
    trainer = Trainer(config, collection, run, hooks.on_notice)
    stored_config = config.to_dict() | {"data_sha256": collection.description["sha256"]}
    with watch() as stop:
        if run.config.exists():
            run.claim(stored_config)  # refuse before the lock makes a file
        with run.lock():
            run.claim(stored_config)
            return _continue(trainer, hooks, stop, began, checkpoint_seconds, log_seconds)


def _continue(
    trainer: Trainer,
    hooks: Hooks,
    stop: StopRequest,
    began: float,
    checkpoint_seconds: float,
    log_seconds: float,
) -> Summary:
    run = trainer.run
    state, notices = checkpoint.load_state(run.state)
    for notice in notices:
        hooks.on_notice(notice)
    trainer.place(state["execution"] if state else None)
    if state:
        trainer.restore(state)
        run.rewind(trainer.images)
        hooks.on_notice(f"continuing {run.folder} at {trainer.images:,} images")
    elif run.metrics.exists():
        run.rewind(0)
    if trainer.moments.constant:
        hooks.on_notice(
            "constant in the training data, kept as they are: "
            f"{', '.join(map(str, trainer.moments.constant[:12]))}"
        )
    hooks.on_notice(f"running on {trainer.execution.describe()}")
    clock = Clock(state["elapsed"] if state else 0.0, began)
    if trainer.ended:
        return Summary(
            run.folder,
            trainer.images,
            clock.seconds,
            f"already complete ({trainer.ended})",
            notices=tuple(notices),
        )
    return _loop(trainer, hooks, stop, clock, checkpoint_seconds, log_seconds)


def _loop(
    trainer: Trainer,
    hooks: Hooks,
    stop: StopRequest,
    clock: Clock,
    checkpoint_seconds: float,
    log_seconds: float,
) -> Summary:
    run, budget = trainer.run, trainer.budget
    meter = Meter(trainer.law)
    logged = shown = saved = time.perf_counter()
    logged_images = shown_images = trainer.images
    rate, loss = 0.0, float("nan")
    previews = [share for share in PREVIEWS_AT if share > budget.progress(trainer.images)]
    reason = budget.over(trainer.images, clock.seconds)
    while not reason and not stop.signal:
        sigma, losses, norm = trainer.step()
        meter.add(sigma, losses)
        budget.observe(trainer.images, clock.seconds)
        now = time.perf_counter()
        reason = budget.over(trainer.images, clock.seconds)
        if now - shown > 0.5 or reason:
            fresh = (trainer.images - shown_images) / max(now - shown, 1e-9)
            rate = fresh if not rate else 0.7 * rate + 0.3 * fresh
            loss = losses.mean().item() if loss != loss else loss
            share = max(
                budget.progress(trainer.images),
                clock.seconds / budget.seconds if budget.seconds else 0.0,
            )
            hooks.on_progress(
                Progress(
                    trainer.images, budget.images, share, clock.seconds, budget.seconds, loss, rate
                )
            )
            shown, shown_images = now, trainer.images
        if now - logged > log_seconds or reason or stop.signal:
            record = meter.read()
            loss = record["loss"]
            meter.reset()
            images_per_second = (trainer.images - logged_images) / max(now - logged, 1e-9)
            head = {
                "images": trainer.images,
                "seconds": round(clock.seconds, 3),
                "rate": round(images_per_second, 1),
            }
            run.log(
                head
                | record
                | {"lr": trainer.optimiser.param_groups[0]["lr"], "grad_norm": norm.item()}
            )
            logged, logged_images = now, trainer.images
        if previews and budget.progress(trainer.images) >= previews[0]:
            previews.pop(0)
            look(trainer, clock.seconds, MIDWAY * _whole(budget, trainer.images, clock.seconds))
            shown = logged = time.perf_counter()
            shown_images = logged_images = trainer.images
        if now - saved > checkpoint_seconds and not reason:
            trainer.save(clock.seconds)
            saved = shown = logged = time.perf_counter()
            shown_images = logged_images = trainer.images
    trainer.ended = reason
    if reason and trainer.config.ema.snapshots and trainer.config.ema.kind == "power":
        save_snapshot(run.folder, trainer.images, trainer.emas)  # the end itself, wherever it fell
    trainer.save(clock.seconds)
    if stop.signal:
        return Summary(
            run.folder,
            trainer.images,
            clock.seconds,
            f"stopped by signal {stop.signal}; saved",
            stop.signal,
        )
    table = look(trainer, clock.seconds, max(PATIENCE, FINAL * clock.seconds), final=True)
    return Summary(run.folder, trainer.images, clock.seconds, reason, held_out=table)


def _whole(budget: Budget, images: int, elapsed: float) -> float:
    """Seconds the whole training takes: its time budget, or by the images seen so far."""
    return budget.seconds or elapsed / budget.progress(images)
