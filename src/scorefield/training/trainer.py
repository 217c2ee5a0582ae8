"""The training loop: it composes state, step, evaluator and writer into a run.

A run is a function of its configuration and of the record of what the clock decided (see
`schedule`). Progress is counted in images. Rerunning the same command resumes: live weights,
averages, optimiser state and counters are saved together, so that a resumed run goes on as if it
had not stopped.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..checkpoint import describe_network
from ..config import Request
from ..errors import NonFiniteError
from .assess import Assessor
from .batches import Batch
from .best import mark
from .build import Setup, build, load_data, resolve_config
from .meter import Meter
from .schedule import Budget, Clock, Schedule, learning_rate
from .signals import StopRequest, watch
from .state import StepResult, train_step
from .verdict import Verdict
from .writer import RunWriter

PREVIEWS_AT = (0.1, 0.25, 0.5)  # progress; the last picture is made when training ends
LINES = 500  # lines of metrics.jsonl over a run
# Fractions of the training's time that an evaluation may take on the way and at the end, and
# seconds that the last one may take however short the training is.
MIDWAY, FINAL, FINAL_SECONDS = 0.003, 0.03, 5.0
SHOW_SECONDS = 0.5


@dataclass(frozen=True)
class Progress:
    """Where training stands, for display.

    Attributes:
        images: Images seen.
        budget: Planned images; None before the first plan of a time budget.
        fraction: Fraction of the budget used, from 0 to 1.
        elapsed: Seconds spent.
        seconds: The time budget; None for a budget in images.
        loss: A recent mean loss; NaN before the first one.
        rate: Images a second, lately.
    """

    images: int
    budget: int | None
    fraction: float
    elapsed: float
    seconds: float | None
    loss: float
    rate: float

    @property
    def words(self) -> str:
        """Images, rate and loss in a few words."""
        of = f" of {self.budget:,}" if self.budget else ""
        return f"{self.images:,} images{of}  {self.rate:,.0f} images/s  loss {self.loss:.4f}"


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Attributes:
        folder: The run directory.
        images: Images seen.
        seconds: Seconds spent, over all processes that worked on the run.
        reason: Why training ended, in words.
        signal: The number of the signal that stopped it; 0 for none.
        notices: What the user should know.
        held_out: The held-out loss per sigma, columns sigma, loss and se, and the losses of the
            baselines, nothing and gaussian; empty where stopped.
        verdict: Where the model stands against the baselines; None where stopped.
    """

    folder: Path
    images: int
    seconds: float
    reason: str
    signal: int = 0
    notices: tuple[str, ...] = ()
    held_out: dict[str, list[float]] = field(default_factory=dict)
    verdict: Verdict | None = None


@dataclass
class Hooks:
    """What the caller wants to hear of.

    Attributes:
        on_progress: Called about twice a second.
        on_notice: Called with sentences that the user should read.
    """

    on_progress: Callable[[Progress], None] = lambda _: None
    on_notice: Callable[[str], None] = lambda _: None


def train(
    request: Request,
    folder: str | Path,
    data: Any = None,
    network: nn.Module | None = None,
    hooks: Hooks | None = None,
    checkpoint_seconds: float = 60.0,
) -> Summary:
    """Train a run to its budget, or resume it.

    Args:
        request: The settings; those left open are resolved from the data.
        folder: The run directory.
        data: Anything that `data.load` takes; None: request.data.source.
        network: The user's own network, of which a copy is trained.
        hooks: Progress and notices.
        checkpoint_seconds: Seconds between checkpoints.

    Returns:
        How the run ended. Reaching a budget is a success.

    Raises:
        InputError: Where data, settings or the run directory do not fit. Nothing is written then.
        NonFiniteError: Where a loss or gradient is not finite; nothing of that step is applied.
    """
    hooks = hooks or Hooks()
    began = time.perf_counter()
    dataset = load_data(request, data)
    config = resolve_config(request, dataset, network is not None)
    entry = (
        describe_network(network)
        if network is not None
        else {"name": config.network.name, "options": config.network.options}
    )
    writer = RunWriter(folder, request, config, dataset.description, entry)
    writer.match()
    recorded = Schedule(config.images, writer.record()).execution()
    setup = build(config, dataset, network, recorded)
    writer.network = describe_network(setup.state.model.network)
    setup.execution.configure_process()
    with watch() as stop, writer.run.lock():
        writer.claim()
        return Trainer(setup, writer, hooks, checkpoint_seconds).run(stop, began)


class Marks(NamedTuple):
    """How many snapshots, lines of metrics and previews belong before a progress."""

    snapshots: int
    lines: int
    previews: int


class Trainer:
    """One process's work on a run.

    Args:
        setup: The parts of the training.
        writer: Writes the run directory, which this process holds.
        hooks: Progress and notices.
        checkpoint_seconds: Seconds between checkpoints.
    """

    def __init__(
        self, setup: Setup, writer: RunWriter, hooks: Hooks, checkpoint_seconds: float = 60.0
    ) -> None:
        self.setup, self.writer, self.hooks = setup, writer, hooks
        self.config, self.state = setup.config, setup.state
        self.checkpoint_seconds = checkpoint_seconds
        self.schedule = Schedule(self.config.images, writer.record(), writer.decide)
        decays = self.config.optim.decay != "constant"
        self.budget = Budget(self.schedule, self.config.seconds, decays)
        self.meter = Meter(setup.batches.distribution)
        self.clock = Clock()
        self.grad_norm = torch.tensor(float("nan"))  # of the last step, before clipping
        self.ended = ""
        self._logged = (0, 0.0)  # images and seconds of the last line of metrics
        self.notices: list[str] = []
        self.assessor = Assessor(setup, writer, self.schedule, self.notice)

    def notice(self, text: str) -> None:
        """Pass a notice to the caller, and keep it for the summary.

        Args:
            text: The notice.
        """
        self.notices.append(text)
        self.hooks.on_notice(text)

    # -- beginning and end

    def run(self, stop: StopRequest, began: float | None = None) -> Summary:
        """Resume from the newest checkpoint, train to the budget, evaluate.

        Args:
            stop: Filled when a signal requests an end.
            began: `time.perf_counter()` when this process began its work; None: now.

        Returns:
            How the run ended.

        Raises:
            NonFiniteError: Where a loss or gradient is not finite and the guard stops the run.
        """
        self._resume(began)
        if self.ended and self.writer.evaluated:
            return self._summary(f"already complete ({self.ended})")
        self.writer.rewind(self.state.images)
        if not self.ended:
            self._loop(stop)
            if stop.signal and not self.ended:
                self._save()
                return self._summary(f"stopped by signal {stop.signal}; saved", stop.signal)
            if self._keeps_snapshots():
                self.writer.save_snapshot(self.state.images, self.state.averages)
            self._mark(0.0)
        self._save()
        table = self._evaluate(max(FINAL_SECONDS, FINAL * self.clock.seconds), final=True)
        return self._summary(self.ended, held_out=table)

    def _resume(self, began: float | None) -> None:
        stored, notices = self.writer.load_state()
        for text in notices:
            self.notice(text)
        if stored is not None:
            self.state.load_state_dict(stored)
            self.meter.load_state_dict(stored["meter"])
            self.ended, self.grad_norm = stored["ended"], stored["grad_norm"]
            if "best" in stored:  # not in states of older versions
                self.assessor.best.load_state_dict(stored["best"])
            self.notice(f"continuing {self.writer.run.folder} at {self.state.images:,} images")
        self.clock = Clock(stored["elapsed"] if stored is not None else 0.0, began)
        execution = self.setup.execution.to_dict()
        if self.schedule.execution() != execution:
            self.schedule.set_execution(self.state.images, execution)
        constant = self.setup.fitted.constant
        if constant:
            names = ", ".join(map(str, constant[:12]))
            self.notice(f"constant in the training data, kept as they are: {names}")
        self.notice(f"running on {self.setup.execution.describe()}")

    def _summary(
        self, reason: str, signal: int = 0, held_out: dict[str, list[float]] | None = None
    ) -> Summary:
        return Summary(
            self.writer.run.folder,
            self.state.images,
            self.clock.seconds,
            reason,
            signal,
            tuple(self.notices),
            held_out or {},
            self.assessor.verdict or (None if signal else self.writer.verdict),
        )

    def _save(self) -> None:
        """Write the training state, then the model file."""
        state, elapsed = self.state, self.clock.seconds
        extra = {
            "elapsed": elapsed,
            "ended": self.ended,
            "meter": self.meter.state_dict(),
            "grad_norm": self.grad_norm,
            "best": self.assessor.best.state_dict(),
        }
        self.writer.save_checkpoint(state, extra)
        self._save_model(elapsed)

    def _save_model(self, elapsed: float) -> None:
        """Write the model file; beside it the last weights where the model has earlier ones."""
        state, best, verdict = self.state, self.assessor.best, self.assessor.verdict
        history = {
            "images": state.images,
            "seconds": round(elapsed, 3),
            "initial_fraction": state.averages[0].initial_fraction,
            "ended": self.ended,
            "weights": "last",
            "best_images": best.best_images,
            "verdict": None if verdict is None else verdict.to_dict(),
        }
        facts = {
            "constant": list(self.setup.fitted.constant),
            "history": history,
            "execution": self.setup.execution.to_dict(),
        }
        turned = best.best_images is not None
        if turned:
            self.writer.save_model(state.averaged_model(), facts, last=True)
            history |= {"weights": "best", "initial_fraction": best.initial_fraction}
        else:
            self.writer.drop_last()
        self.writer.save_model(self.assessor.kept_model(), facts)

    # -- the loop

    def _loop(self, stop: StopRequest) -> None:
        state, clock, size = self.state, self.clock, self.config.optim.batch
        shown, saved = _Shown(state.images), time.perf_counter()
        self._logged = (state.images, clock.seconds)
        marks = self._marks()
        reason = self.budget.over(state.images, clock.seconds)
        while not reason and not stop.signal:
            began = time.perf_counter()
            batch = self.setup.batches.batch(state.images, size)
            result = self._step(batch)
            took = time.perf_counter() - began
            if result.applied:
                self.meter.add(batch.sigma, result.losses)
            self.grad_norm = result.grad_norm
            self.budget.observe(state.images, clock.seconds)
            reason = self.budget.over(state.images, clock.seconds)
            before, marks = marks, self._marks()
            if marks.snapshots > before.snapshots:
                self.writer.save_snapshot(state.images, state.averages)
            if marks.lines > before.lines:
                self._log()
            if mark(state.images, size) > mark(state.images - size, size) and not reason:
                self._mark(took)
            if marks.previews > before.previews and not reason:
                self._evaluate(MIDWAY * self._whole())
                shown.restart(state.images)
            if time.perf_counter() - saved > self.checkpoint_seconds and not reason:
                self._save()
                saved = time.perf_counter()
                shown.restart(state.images)
            if shown.is_due() or reason:
                self._show(shown, result)
        if reason:
            self.schedule.finish(state.images, reason)
            self.ended = reason
            if self.meter.losses:
                self._log()

    def _step(self, batch: Batch) -> StepResult:
        """One step at the schedule's rate; one that is not finite stops the run or is counted."""
        o, images = self.config.optim, self.state.images
        rate = learning_rate(
            o.lr,
            images,
            self.schedule.warmup(images, o.warmup),
            o.decay,
            self.schedule.progress(images),
        )
        dropout = self.config.condition.dropout
        result = train_step(self.state, batch, rate, o.clip, o.accumulate, dropout)
        if not result.applied:
            self._refuse(images, batch, result)
        return result

    def _refuse(self, images: int, batch: Batch, result: StepResult) -> None:
        """Keep what is needed to look into a step that is not finite, then raise or count it."""
        g, skipped = self.config.guard, self.state.skipped
        words = (
            f"{result.problem}, in the step after {images:,} images, seed {self.config.seed}. The "
            "step was not applied"
        )
        kept = {
            "images": images,
            **batch._asdict(),
            "losses": result.losses,
            "network": self.state.model.network.state_dict(),
        }
        path = self.writer.save_evidence(images, kept)
        if g.action == "stop" or skipped > g.limit:
            limit = "" if g.action == "stop" else f"; guard.limit is {g.limit} skipped steps"
            raise NonFiniteError(
                f"{words}{limit}. Batch and weights are kept in {path}; lower optim.lr or "
                "optim.clip"
            )
        self.notice(f"{words}; skipped ({skipped} of at most {g.limit})")

    def _keeps_snapshots(self) -> bool:
        return self.config.ema.kind == "power" and self.config.ema.snapshots > 0

    def _marks(self) -> Marks:
        """What is due, evenly spaced over the budget: a function of images and the record."""
        progress = self.schedule.progress(self.state.images)
        snapshots = self.config.ema.snapshots if self._keeps_snapshots() else 0
        previews = sum(progress >= at for at in PREVIEWS_AT)
        return Marks(int(snapshots * progress), int(LINES * progress), previews)

    def _whole(self) -> float:
        """Seconds that the whole training takes: its time budget, or by the images seen so far."""
        progress = self.schedule.progress(self.state.images)
        return self.config.seconds or self.clock.seconds / progress

    def _log(self) -> None:
        """A line of metrics: losses since the last line."""
        images, seconds = self.state.images, self.clock.seconds
        rate = (images - self._logged[0]) / max(seconds - self._logged[1], 1e-9)
        self._logged = (images, seconds)
        head = {"images": images, "seconds": round(seconds, 3), "rate": round(rate, 1)}
        tail = {
            "lr": self.state.optimiser.param_groups[0]["lr"],
            "grad_norm": self.grad_norm.item(),
            "skipped": self.state.skipped,
        }
        self.writer.log(head | self.meter.read() | tail)
        self.meter.reset()

    def _show(self, shown: "_Shown", result: StepResult) -> None:
        images, elapsed = self.state.images, self.clock.seconds
        fraction = self.schedule.progress(images)
        if self.config.seconds is not None:
            fraction = max(fraction, min(1.0, elapsed / self.config.seconds))
        loss, rate = shown.update(images, result.losses.mean().item())
        budget = self.schedule.budget(images)
        self.hooks.on_progress(
            Progress(images, budget, fraction, elapsed, self.config.seconds, loss, rate)
        )

    # -- evaluation

    def _mark(self, step_seconds: float) -> None:
        """Measure the held-out loss of the averaged weights now, for the best point."""
        start = time.perf_counter()
        steps = (self.config.images or 0) / self.config.optim.batch
        self.assessor.mark(self.config.seconds or steps * step_seconds)
        self.budget.pause(time.perf_counter() - start)

    def _evaluate(self, seconds: float, final: bool = False) -> dict[str, list[float]]:
        """Held-out loss and a preview; at the end the loss per sigma too, which is returned."""
        start, assessor = time.perf_counter(), self.assessor
        head = {"images": self.state.images, "seconds": round(self.clock.seconds, 3)}
        line = assessor.evaluate(seconds, self.clock.seconds if final else None)
        if not line:
            return {}
        if final and assessor.verdict is not None:
            self._save_model(self.clock.seconds)  # again: its card has the verdict now
            self.notice(assessor.verdict.sentence)
            line |= {"verdict": assessor.verdict.to_dict(), "final": True}
        self.writer.log(head | line)  # last: a run is evaluated when its final line is there
        self.budget.pause(time.perf_counter() - start)
        table: dict[str, list[float]] = line.get("held_out_by_sigma", {})
        return table


class _Shown:
    """When progress was last shown, and the loss and rate since then."""

    def __init__(self, images: int) -> None:
        self.rate, self.loss = 0.0, float("nan")
        self.restart(images)

    def restart(self, images: int) -> None:
        """Begin a new measurement of the rate."""
        self.at, self.images = time.perf_counter(), images

    def is_due(self) -> bool:
        """Whether enough time has passed."""
        return time.perf_counter() - self.at > SHOW_SECONDS

    def update(self, images: int, loss: float) -> tuple[float, float]:
        """Smoothed loss and rate."""
        fresh = (images - self.images) / max(time.perf_counter() - self.at, 1e-9)
        self.rate = 0.7 * self.rate + 0.3 * fresh if self.rate else fresh
        self.loss = loss if self.loss != self.loss else 0.7 * self.loss + 0.3 * loss
        self.restart(images)
        return self.loss, self.rate
