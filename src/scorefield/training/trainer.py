"""The training loop: it composes state, step, assessor and writer into a segment of a run.

A run is a function of its configuration and of the record of what the clock decided (see
`schedule`). Progress is counted in images. Live weights, averages, optimiser state and counters are
saved together, so that a resumed run goes on as if it had not stopped.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from ..checkpoint import read_card
from ..errors import NonFiniteError
from ..runs import Record
from ..values import listed
from .assess import Assessor
from .batches import Batch
from .best import mark
from .budget import FINAL, FINAL_SECONDS, UNFINISHED, Budget, Clock, time_left
from .build import Setup
from .existing import Existing, without_effect
from .feed import Feed
from .meter import Meter
from .schedule import Schedule
from .signals import StopRequest
from .state import StepResult, train_step
from .summary import Hooks, Progress, Summary
from .trackers import read_trackers
from .writer import RunWriter

PREVIEWS_AT = (0.1, 0.25, 0.5)  # of a segment; the last picture is made when training ends
LINES = 500  # lines of metrics.jsonl over a segment
MIDWAY = 0.003  # fraction of the training's time that an evaluation may take on the way
SHOW_SECONDS = 0.5


class Marks(NamedTuple):
    """How many snapshots, lines of metrics and previews belong before a point of a segment."""

    snapshots: int
    lines: int
    previews: int


class Trainer:
    """One process's work on a segment of a run.

    Args:
        setup: The parts of the training, with the budget of the segment.
        writer: Writes the run directory, which this process holds.
        hooks: Progress, notices and trackers.
        schedule: The schedule; the segment is the one in force.
        checkpoint_seconds: Seconds between checkpoints.
    """

    def __init__(
        self,
        setup: Setup,
        writer: RunWriter,
        hooks: Hooks,
        schedule: Schedule,
        checkpoint_seconds: float = 60.0,
    ) -> None:
        self.setup, self.writer, self.hooks, self.schedule = setup, writer, hooks, schedule
        self.config, self.state = setup.config, setup.state
        self.checkpoint_seconds = checkpoint_seconds
        decays = self.config.optim.decay != "constant"
        self.budget = Budget(self.schedule, decays)
        self.meter = Meter(setup.batches.distribution)
        self.clock = Clock()
        self.grad_norm = torch.tensor(float("nan"))  # of the last step, before clipping
        self.ended = ""
        self._timed = False  # whether a last evaluation was timed for the plan
        self._written = -1  # images at which the model file was written that was found
        self._logged = (0, 0.0)  # images and seconds of the last line of metrics
        self.notices: list[str] = []
        self.assessor = Assessor(setup, writer, self.schedule, self.notice)
        self.feed = Feed(read_trackers(hooks.trackers), self.notice)

    def notice(self, text: str) -> None:
        """Pass a notice to the caller, and keep it for the summary.

        Args:
            text: The notice.
        """
        self.notices.append(text)
        self.hooks.on_notice(text)

    # -- beginning and end

    def run(
        self, stop: StopRequest, began: float | None = None, existing: Existing = Existing()
    ) -> Summary:
        """Go on from what exists, train to the end of the segment, evaluate.

        Args:
            stop: Filled when a signal requests an end.
            began: `time.perf_counter()` when this process began its work; None: now.
            existing: What the run directory holds.

        Returns:
            How the segment ended; a segment that the record leaves unfinished is only saved.

        Raises:
            NonFiniteError: Where a loss or gradient is not finite and the guard stops the run.
        """
        self._resume(began, existing)
        if self.ended and self.writer.evaluated(self.state.images):
            if self.writer.model_images() != self.state.images:
                self.assessor.verdict = self.writer.verdict
                self._save_model(self.clock.seconds)
            elif self.writer.request is not None:
                card = read_card(self.writer.run.model) or {}
                if words := without_effect(self.writer.request, self.config, card):
                    self.notice(words)
            if len(self.feed):
                self.notice("the run is complete: trackers are not started, as nothing is trained")
            return self._summary(f"already complete ({self.ended})")
        self.writer.rewind(self.state.images, self.schedule.segment.start)
        self.feed.start(self.writer.run.folder, self.config.to_dict())
        try:
            summary = self._train(stop)
        except Exception:
            self.feed.finish(None)
            raise
        self.feed.finish(summary)
        # Notices of trackers that failed at the end.
        return replace(summary, notices=tuple(self.notices))

    def _train(self, stop: StopRequest) -> Summary:
        """Train to the end of the segment, and evaluate."""
        if not self.ended:
            self._loop(stop)
            if not self.ended:
                self._save()
                words = f"stopped by signal {stop.signal}; saved" if stop.signal else "left"
                return self._summary(words, stop.signal)
            if self._keeps_snapshots():
                self.writer.save_snapshot(self.state.images, self.state.averages)
            self._mark(0.0)
        self._report(float("nan"), 0.0, "evaluating")
        self._save()
        table = self._evaluate(self._final_seconds(), final=True)
        return self._summary(self.ended, held_out=table)

    def _final_seconds(self) -> float:
        """Seconds that the last evaluation may take."""
        whole = self.config.seconds
        if whole is None:
            return max(FINAL_SECONDS, FINAL * self.clock.seconds)
        return time_left(whole, self.clock.seconds)

    def _resume(self, began: float | None, existing: Existing) -> None:
        stored, schedule = existing.state, self.schedule
        if stored is not None:
            self.state.load_state_dict(stored)
            self.meter.load_state_dict(stored["meter"])
            self.grad_norm = stored["grad_norm"]
            if "best" in stored:  # not in states of older versions
                self.assessor.best.load_state_dict(stored["best"])
            if existing.segment == schedule.number:
                self.ended = existing.ended
            elif existing.ended:
                self._keep_segment(existing)
            self.notice(f"continuing {self.writer.run.folder} at {self.state.images:,} images")
        self._written = self.writer.model_images() if stored is not None else -1
        self.clock = Clock(existing.seconds, began)
        execution = self.setup.execution.to_dict()
        if not schedule.segment.executions or schedule.execution() != execution:
            schedule.set_execution(self.state.images, execution)
        constant = self.setup.fitted.constant
        if constant:
            names = ", ".join(map(str, constant[:12]))
            self.notice(f"constant in the training data, kept as they are: {names}")
        for spec in self.state.model.conditions.values():
            if spec.unseen:
                names = listed(map(spec.name_of, spec.unseen), 12)
                words = f"classes without a training example, {len(spec.unseen):,} of {spec.size:,}"
                self.notice(f"{words}: {names}. The model cannot be sampled for them")
        self.notice(f"running on {self.setup.execution.describe()}")

    def _keep_segment(self, existing: Existing) -> None:
        """Keep the model of the segment that has ended; the state is the one of its end."""
        if self.writer.model_images() != self.state.images:  # torn or removed since
            self._save_model(existing.seconds, existing.ended)
        self.writer.keep_segment(self.schedule.number - 1)

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
            self._unfinished(),
        )

    def _unfinished(self) -> float | None:
        """Fraction of the schedule that a time budget came to, where that is clearly too little."""
        progress = self.schedule.progress(self.state.images)
        decays = self.config.optim.decay != "constant"
        early = self.ended and self.config.seconds and decays and progress < UNFINISHED
        return progress if early else None

    def _save(self) -> None:
        """Write the training state, then the model file."""
        state, elapsed = self.state, self.clock.seconds
        extra = {
            "elapsed": elapsed,
            "segment": self.schedule.number,
            "ended": self.ended,
            "meter": self.meter.state_dict(),
            "grad_norm": self.grad_norm,
            "best": self.assessor.best.state_dict(),
        }
        self.writer.save_checkpoint(state, extra)
        if self.ended or state.images >= self._written:  # never over the model of a later point
            self._save_model(elapsed)

    def _save_model(self, elapsed: float, ended: str = "") -> None:
        """Write the model file; beside it the last weights where the model has earlier ones."""
        state, best, verdict = self.state, self.assessor.best, self.assessor.verdict
        history = {
            "images": state.images,
            "seconds": round(elapsed, 3),
            "initial_fraction": state.averages[0].initial_fraction,
            "ended": self.ended or ended,
            "segments": self.schedule.history(),
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
        # One step at least, however long it took to come here.
        begun = state.images > self.schedule.segment.start
        reason = self.budget.over(state.images, clock.seconds) if begun else ""
        left = self.schedule.left
        while not reason and not stop.signal and state.images != left:
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
            if shown.is_due() and not reason:
                self._show(shown, result)
        if reason:
            self.schedule.finish(state.images, reason)
            self.ended = reason
            if self.meter.losses:
                self._log()

    def _step(self, batch: Batch) -> StepResult:
        """One step at the schedule's rate; one that is not finite stops the run or is counted."""
        o, images = self.config.optim, self.state.images
        rate = self.schedule.learning_rate(o.lr, images, o.warmup, o.decay)
        dropout = self.config.condition.dropout
        result = train_step(self.state, batch, rate, o.clip, o.accumulate, dropout)
        if not result.applied:
            self._refuse(images, batch, result)
        execution = self.setup.execution
        if execution.compile and not any(leaf.compiled for leaf in self.state.model.leaves()):
            execution = replace(execution, compile=False)  # compiling failed
            self.setup = replace(self.setup, execution=execution)
            self.schedule.set_execution(images, execution.to_dict())
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
        """What is due, evenly spaced over the segment: a function of images and the record."""
        fraction = self.schedule.fraction(self.state.images)
        snapshots = self.config.ema.snapshots if self._keeps_snapshots() else 0
        previews = sum(fraction >= at for at in PREVIEWS_AT)
        return Marks(int(snapshots * fraction), int(LINES * fraction), previews)

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
            "ema_initial": self.state.averages[0].initial_fraction,
        }
        self._write(head | self.meter.read() | tail)
        self.meter.reset()

    def _write(self, line: Record, pictures: Mapping[str, Path] | None = None) -> None:
        """Write a line of metrics, and hand it to the trackers."""
        self.writer.log(line)
        self.feed.log(line, pictures)

    def _show(self, shown: "_Shown", result: StepResult) -> None:
        self._report(*shown.update(self.state.images, result.losses.mean().item()))

    def _report(self, loss: float, rate: float, stage: str = "") -> None:
        """Tell the caller where training stands."""
        images, elapsed = self.state.images, self.clock.seconds
        fraction = self.schedule.fraction(images)
        if self.config.seconds is not None:
            start = self.schedule.segment.seconds
            spent = (elapsed - start) / (self.config.seconds - start)
            fraction = max(fraction, min(1.0, spent))
        budget, seconds = self.schedule.budget(images), self.config.seconds
        self.hooks.on_progress(
            Progress(images, budget, fraction, elapsed, seconds, loss, rate, stage)
        )

    # -- evaluation

    def _mark(self, step_seconds: float) -> None:
        """Measure the held-out loss of the averaged weights now, for the best point."""
        start = time.perf_counter()
        steps = (self.config.images or 0) / self.config.optim.batch
        if self.config.seconds is not None and step_seconds > 0 and not self._timed:
            evaluator, self._timed = self.setup.evaluator, True
            self.budget.keep_back(evaluator.last_seconds(self.state.averaged_model()))
        self.assessor.mark(self.config.seconds or steps * step_seconds)
        self.budget.pause(time.perf_counter() - start)

    def _evaluate(self, seconds: float, final: bool = False) -> dict[str, list[float]]:
        """What `Assessor.evaluate` measures; the loss per sigma at the end is returned."""
        start, assessor = time.perf_counter(), self.assessor
        line = assessor.evaluate(seconds, self.clock.seconds if final else None)
        if not line:
            return {}
        if final and assessor.verdict is not None:
            self._save_model(self.clock.seconds)  # again: its card has the verdict now
            self.notice(assessor.verdict.sentence)
            line |= {"verdict": assessor.verdict.to_dict(), "final": True}
        line = {"images": self.state.images, "seconds": round(self.clock.seconds, 3)} | line
        if final:
            assessor.draw_curve(line)
        # Last: a run is evaluated when its final line is there.
        self._write(line, self.writer.pictures(self.state.images, final))
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
