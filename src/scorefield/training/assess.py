"""The evaluations of a training: marks for the best point, previews, and the last evaluation.

The size of an evaluation depends on the clock. It is recorded before it is used, at the images
where the evaluation takes place, and for all marks together at 0 images.
"""

import math
import time
from collections.abc import Callable
from typing import Any

from ..diagnostics.baselines import Baselines, examples_for, fit_baselines
from ..errors import InputError
from ..models import Preconditioned
from .best import BestPoint, evaluations
from .build import Setup
from .pictures import draw_loss_per_sigma, draw_preview, draw_training_curve
from .schedule import Schedule
from .verdict import Verdict, appraise
from .watch import Copies, CopyWatch, most_numbers
from .writer import RunWriter

Table = dict[str, list[float]]
PICTURE = 0.005  # fraction of a time budget that a picture before the end may take
# Seconds to draw a column of a table, and a sheet of images, until they are measured.
COLUMN_SECONDS, SHEET_SECONDS = 0.05, 0.2


class Assessor:
    """The evaluations of a run.

    Args:
        setup: The parts of the training.
        writer: Writes the pictures.
        schedule: Keeps the sizes of the evaluations.
        notice: Receives messages for the user.

    Attributes:
        best: The best point of the run.
        verdict: The verdict on the model; None before the last evaluation.
        watch: Counts copies of training examples among the samples of previews.
    """

    def __init__(
        self, setup: Setup, writer: RunWriter, schedule: Schedule, notice: Callable[[str], None]
    ) -> None:
        self.setup, self.writer, self.schedule, self.notice = setup, writer, schedule, notice
        self.evaluator, self.state = setup.evaluator, setup.state
        self.best = BestPoint()
        self.verdict: Verdict | None = None
        c, data = setup.config, setup.dataset
        most = most_numbers(c.images, c.seconds, math.prod(data.event_shape))
        self.watch = CopyWatch.of(data, c.seed, c.data.held_out, most)
        vectors = len(data.event_shape) == 1
        self._drawing = COLUMN_SECONDS * data.event_shape[0] if vectors else SHEET_SECONDS
        self._warned = 0  # last notice: 0 none, 1 beginning to memorise, 2 memorising

    def kept_model(self) -> Preconditioned:
        """The averaged model with the weights that the run keeps as its model.

        These are the weights of the best point where the held-out loss has risen since, else the
        last ones.
        Like `TrainState.averaged_model`, every call fills and returns the same copy.
        """
        model = self.state.averaged_model()
        if self.best.best_images is not None:
            model.network.load_state_dict(self.best.weights)
        return model

    def mark(self, whole: float) -> None:
        """Measure the held-out loss of the averaged weights now, for the best point.

        Every mark has the same number of evaluations, which is decided at the first one.

        Args:
            whole: Seconds that the whole training takes.
        """
        images = self.state.images
        if self.best.images[-1:] == [images]:
            return
        evaluator, model = self.evaluator, self.state.averaged_model()

        def size() -> tuple[int, int]:
            seconds = evaluator.seconds_per_evaluation(model)
            return evaluations(whole, seconds, evaluator.evaluations), 0

        count, _ = self.schedule.evaluation(0, size)
        if count:
            self.best.add(images, evaluator.losses(model, count), self.state.averages[0])

    def evaluate(self, seconds: float, trained: float | None = None) -> dict[str, Any]:
        """Measure the held-out loss and the copies of a preview; at the end also make the verdict.

        Args:
            seconds: Seconds that the evaluation may take.
            trained: Seconds that the training took, where it has ended; the model that the run
                keeps is then evaluated. None before the end.

        Returns:
            Entries of a line of metrics; empty where the time is too short.
        """
        evaluator, images, final = self.evaluator, self.state.images, trained is not None
        began = time.perf_counter()
        model = self.kept_model() if final else self.state.averaged_model()
        baselines = self._baselines(model) if final else None

        def size() -> tuple[int, int]:
            others = () if baselines is None else (baselines.nothing, baselines.gaussian)
            left = seconds - (time.perf_counter() - began)
            return evaluator.affordable(model, max(left, seconds / 2), final, others)

        count, samples = self.schedule.evaluation(images, size)
        if count == 0:
            return {}
        overall = evaluator.held_out_loss(model, count)
        line: dict[str, Any] = {
            "held_out": overall.value,
            "held_out_se": overall.se,
            "held_out_examples": overall.examples,
        }
        if evaluator.unconditional:
            without = evaluator.held_out_loss(model, count, conditional=False)
            line |= {"unconditional": without.value, "unconditional_se": without.se}
        copies = self._preview(model, samples, final)
        if copies is not None:
            line |= copies.entries()
        if trained is None:
            self._warn(copies)
        if trained is not None and baselines is not None:
            rate = self.state.images / max(trained, 1e-9)
            table = self._appraise(model, baselines, count, rate, copies)
            missing = draw_loss_per_sigma(self.writer.run, table, self.setup.config.objective.name)
            if missing:
                self.notice(f"no loss_per_sigma.png: {missing}")
            line |= {"held_out_by_sigma": table}
        return line

    def _baselines(self, model: Preconditioned) -> Baselines:
        """The baselines, fitted to training data."""
        pipeline = self.setup.batches.pipeline
        rows = min(len(pipeline), examples_for(math.prod(model.event_shape)))
        return fit_baselines(model, pipeline.batch(0, rows)[0])

    def _appraise(
        self,
        model: Preconditioned,
        baselines: Baselines,
        count: int,
        rate: float,
        copies: Copies | None,
    ) -> Table:
        """Make the verdict; return the loss per sigma of the model and of the baselines."""
        evaluator = self.evaluator
        self.verdict = appraise(
            *(evaluator.losses(m, count) for m in (model, baselines.nothing, baselines.gaussian)),
            images=self.state.images,
            steps=self.state.steps,
            rate=rate,
            falling=self.best.falling(),
            best_images=self.best.best_images,
            memorising="" if copies is None else copies.sentence,
        )
        table = evaluator.loss_per_sigma(model, count)
        for name, baseline in (("nothing", baselines.nothing), ("gaussian", baselines.gaussian)):
            table[name] = evaluator.loss_per_sigma(baseline, count)["loss"]
        return table

    def draw_curve(self, line: dict[str, Any]) -> None:
        """Draw the training curve.

        Args:
            line: The line of metrics with the last evaluation, which is not written yet.
        """
        missing = draw_training_curve(self.writer.run, line, self.best.best_images)
        if missing:
            self.notice(f"no training.png: {missing}")

    def _preview(self, model: Preconditioned, count: int, final: bool) -> Copies | None:
        """A picture of samples, and the copies among them.

        Training does not end where there is no picture. On the way, one that takes more than
        PICTURE of a time budget is left out.
        """
        copies, missing, seconds = None, "", self.setup.config.seconds
        if count == 0:
            return None
        try:
            drawn = self.evaluator.preview(model, count)
            shown = drawn[: self.evaluator.preview_size(model)[0]]
            if final or seconds is None or self._drawing <= PICTURE * seconds:
                start, run = time.perf_counter(), self.writer.run
                missing = draw_preview(run, self.state.images, shown, self.setup.dataset)
                self._drawing = time.perf_counter() - start
            copies = self.watch.look(drawn)
        except InputError as error:
            missing = str(error)
        if missing:
            self.notice(f"no preview: {missing}")
        return copies

    def _warn(self, copies: Copies | None) -> None:
        """Pass a notice where a preview shows for the first time that the model memorises."""
        if copies is None or not copies.begins or self._warned >= 1 + copies.memorising:
            return
        self._warned = 1 + copies.memorising
        turned = "has turned" if self.best.best_images is not None else "has not turned yet"
        self.notice(
            f"after {self.state.images:,} images {copies.sentence}; the held-out loss {turned}. "
            "More data or a shorter run help; the run keeps the point of the lowest held-out loss"
        )
