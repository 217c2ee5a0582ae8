"""Evaluation during training: held-out loss, per sigma too, and previews from fixed seeds.

The held-out loss of n examples with E evaluations uses r = min(E, n) examples with K = E // r
noises each. Evaluation k of example i is at the quantile (k r + i + 1/2)/(K r) of the training
distribution of sigma: all of them cover the distribution evenly, and so do those of one example.
The standard error is that of the mean over examples, whatever K is.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import rng
from ..conditions import Condition, InternalForm, take
from ..errors import InputError
from ..execution import eager
from ..models import Preconditioned, ScoreModel
from ..noise import SigmaDistribution
from ..objectives import Objective
from ..sampling import resolve_sampling, sample
from .meter import SIGMA_BINS

FIRST_KEY = 1 << 40  # keys of the held-out noise lie beyond those of the training images
MEASURABLE = 0.1  # seconds: what took longer is timed well enough
PREVIEW_NFE = 16
PREVIEW_LADDER_NFE = 200  # for models with fixed noise levels
WATCHED = 64  # samples in which copies of training examples are sought, where time allows it
CHUNK = 256  # examples an evaluation


@dataclass(frozen=True)
class HeldOutLoss:
    """A mean over examples.

    Attributes:
        value: The mean loss.
        se: Its standard error over examples; NaN for one example (JSON's null).
        examples: Number of examples.
    """

    value: float
    se: float
    examples: int

    @staticmethod
    def of(losses: Tensor) -> "HeldOutLoss":
        """The mean of one loss per example, (n,), or of one difference of losses per example."""
        losses = losses.double()
        count = len(losses)
        se = (losses.std() / count**0.5).item() if count > 1 else math.nan
        return HeldOutLoss(losses.mean().item(), se, count)


class Evaluator:
    """Held-out losses and previews of a model.

    The noise of a held-out loss is fixed, so that its values can be compared over a run. The
    network is not compiled for it.

    Args:
        objective: The loss, with the weight of training.
        x0: Held-out examples (N, *event) in model units, on the model's device.
        condition: Their conditions, or None.
        distribution: The training distribution of sigma.
        seed: Decides the noise.
        unconditional: Whether the loss without the condition is of interest too: the model was
            trained with some conditions dropped.
    """

    LARGEST: ClassVar[int] = 512  # evaluations that a held-out loss during training uses at most

    def __init__(
        self,
        objective: Objective,
        x0: Tensor,
        condition: Condition | None = None,
        *,
        distribution: SigmaDistribution,
        seed: int = 0,
        unconditional: bool = True,
    ) -> None:
        self.objective, self.x0, self.condition = objective, x0, condition
        self.distribution, self.seed = distribution, seed
        self.unconditional = unconditional and condition is not None

    def __len__(self) -> int:
        return len(self.x0)

    @property
    def passes(self) -> int:
        """Number of held-out losses of an evaluation: with and without the condition."""
        return 2 if self.unconditional else 1

    @property
    def evaluations(self) -> int:
        """Number of evaluations of a whole held-out loss: few examples get several noises each."""
        return len(self) * max(1, self.LARGEST // max(1, len(self)))

    def held_out_loss(
        self, model: ScoreModel, evaluations: int | None = None, conditional: bool = True
    ) -> HeldOutLoss:
        """The loss over the training distribution of sigma.

        Args:
            model: The model, or another score model of the same events.
            evaluations: Number of evaluations E (module docstring); None: `evaluations`.
            conditional: Whether the model gets the examples' conditions.

        Returns:
            Mean loss, standard error and number of examples.
        """
        return HeldOutLoss.of(self.losses(model, evaluations, conditional))

    def losses(
        self,
        model: ScoreModel,
        evaluations: int | None = None,
        conditional: bool = True,
        sigma: float | None = None,
    ) -> Tensor:
        """One held-out loss per example. Those of two models may be subtracted row by row.

        Args:
            model: The model, or another score model of the same events.
            evaluations: Number of evaluations E (module docstring); None: `evaluations`.
            conditional: Whether the model gets the examples' conditions.
            sigma: The noise level; None: the training distribution.

        Returns:
            (r,) of the first r examples, float64 on the CPU: means over the noises of each.
        """
        wanted = self.evaluations if evaluations is None else min(evaluations, self.evaluations)
        rows = min(wanted, len(self))
        draws = wanted // rows
        found = torch.zeros(rows, dtype=torch.float64)
        for draw in range(draws):
            if sigma is None:
                place = torch.arange(draw * rows, (draw + 1) * rows, dtype=torch.float32)
                level = self.distribution.quantile((place + 0.5) / (draws * rows))
            else:
                level = torch.tensor(sigma, dtype=torch.float32).expand(rows)
            found += self._losses(model, level, conditional, draw).double().cpu()
        return found / draws

    def loss_per_sigma(
        self, model: ScoreModel, evaluations: int | None = None
    ) -> dict[str, list[float]]:
        """The loss at quantiles of the training distribution of sigma.

        Args:
            model: The model, or another score model of the same events.
            evaluations: Number of evaluations at each sigma (module docstring); None:
                `evaluations`.

        Returns:
            Columns sigma (largest first), loss and se.
        """
        u = (torch.arange(SIGMA_BINS, dtype=torch.float32) + 0.5) / SIGMA_BINS
        table: dict[str, list[float]] = {"sigma": [], "loss": [], "se": []}
        for level in self.distribution.quantile(u).unique().flip(0).tolist():
            found = HeldOutLoss.of(self.losses(model, evaluations, sigma=level))
            for name, value in zip(table, (level, found.value, found.se), strict=True):
                table[name].append(value)
        return table

    @torch.no_grad()
    def _losses(self, model: ScoreModel, sigma: Tensor, conditional: bool, draw: int = 0) -> Tensor:
        """Losses (B,) of the first B examples at sigma (B,), with the noise number `draw`."""
        sigma = sigma.to(self.x0.device)
        keys = rng.keys(self.seed, len(sigma), first=FIRST_KEY + draw * len(self))
        keys = keys.to(self.x0.device)
        found = []
        with eager():
            for first in range(0, len(sigma), CHUNK):
                rows = slice(first, min(first + CHUNK, len(sigma)))
                condition = take(self.condition, rows) if conditional else None
                found.append(
                    self.objective.losses(model, self.x0[rows], sigma[rows], keys[rows], condition)
                )
        return torch.cat(found)

    def try_out(self, model: Preconditioned) -> None:
        """Evaluate the loss of one or two examples, to find early what does not fit.

        Args:
            model: The model.

        Raises:
            InputError: Where the network does not accept the data, or changes their shape.
        """
        shapes: list[tuple[torch.Size, torch.Size]] = []

        def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shapes.append((inputs[0].shape, output.shape))

        handle = model.network.register_forward_hook(watch)
        try:
            self.held_out_loss(model, 2)
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            memory = isinstance(error, torch.OutOfMemoryError) or "memory" in str(error)
            if isinstance(error, InputError) or memory:
                raise
            raise InputError(
                f"the network {type(model.network).__name__} does not take examples of shape "
                f"{tuple(model.event_shape)}: {error}. A network is called as "
                "network(x, noise_input, condition) and returns a tensor of x's shape"
            ) from error
        finally:
            handle.remove()
        for given, got in shapes:
            if given != got:
                raise InputError(
                    f"the network {type(model.network).__name__} must return x's shape "
                    f"{tuple(given)}; got {tuple(got)}"
                )

    def preview_size(self, model: Preconditioned) -> tuple[int, int]:
        """The size of a full preview.

        Args:
            model: The model.

        Returns:
            Number of samples, and number of evaluations per sample.
        """
        samples = 500 if len(model.event_shape) == 1 else 16
        if model.ladder_only and model.ladder is not None:
            levels = len(model.ladder)
            return samples, levels * max(1, PREVIEW_LADDER_NFE // levels)
        return samples, PREVIEW_NFE

    def preview(self, model: Preconditioned, count: int) -> Tensor:
        """Draw samples from fixed seeds.

        The same seeds give comparable pictures over a run. Samples follow the probability flow; a
        model with fixed noise levels is sampled by annealed Langevin dynamics. The samples of a
        class-conditional model go through its classes in turn, those of a model of vectors
        through the vectors of the held-out examples.

        Args:
            model: The model.
            count: Number of samples.

        Returns:
            (count, *event) in data units.
        """
        condition: Condition | None = None
        for name, spec in model.conditions.items():
            if spec.kind == "class":
                seen = [k for k in range(spec.size) if k not in (spec.unseen or ())]
                classes = torch.tensor(seen)[torch.arange(count) % len(seen)]
                condition = InternalForm({name: classes})
            elif self.condition is not None and name in self.condition:
                rows = torch.arange(count, device=self.x0.device) % len(self)
                condition = InternalForm({name: self.condition[name][rows]})
        if model.ladder_only and model.ladder is not None:
            steps = max(1, PREVIEW_LADDER_NFE // len(model.ladder))
            recipe = resolve_sampling(
                model, "annealed-langevin", ladder=model.ladder, steps_per_level=steps
            )
        else:
            recipe = resolve_sampling(model, "zeab", nfe=PREVIEW_NFE, options={"p": 3})
        with eager():
            return sample(model, count, self.seed, sampler=recipe, condition=condition)

    def seconds_per_evaluation(self, model: ScoreModel) -> float:
        """Time one evaluation.

        The number of evaluations grows until the measurement takes long enough to be reliable.

        Args:
            model: The model.

        Returns:
            Seconds per evaluation.
        """
        count = 16
        while True:
            start = time.perf_counter()
            self.held_out_loss(model, count)
            took = time.perf_counter() - start
            if took > MEASURABLE or count >= self.evaluations:
                return took / min(count, self.evaluations)
            count *= 4

    def last_seconds(
        self,
        model: Preconditioned,
        baselines: Sequence[ScoreModel] = (),
        each: float | None = None,
    ) -> float:
        """Estimate the time of a whole last evaluation, with the loss at every bin of sigma.

        Args:
            model: The model, which is timed.
            baselines: Models whose losses are evaluated too; they are timed.
            each: Seconds per evaluation of the model; None: it is timed.

        Returns:
            Seconds.
        """
        samples, steps = self.preview_size(model)
        passes = self.evaluations * (self.passes + 1 + SIGMA_BINS)  # the verdict is one more
        others = sum(self.seconds_per_evaluation(other) for other in baselines)
        seconds = self.seconds_per_evaluation(model) if each is None else each
        return seconds * (passes + samples * steps) + self.evaluations * (1 + SIGMA_BINS) * others

    def affordable(
        self,
        model: Preconditioned,
        seconds: float,
        per_sigma: bool = False,
        baselines: Sequence[ScoreModel] = (),
    ) -> tuple[int, int]:
        """Sizes of the loss and of the preview in an evaluation that takes at most `seconds`.

        Where time is left, more samples are drawn than a preview shows, up to `WATCHED`.

        Args:
            model: The model, which is timed.
            seconds: The time limit; infinite for the whole of both.
            per_sigma: Whether the loss is evaluated at every bin of sigma too. The evaluation is
                then the last one, and has two examples and a sample however slow the model is.
            baselines: Models whose losses are evaluated in it too, which are timed.

        Returns:
            Number of evaluations of the loss, and number of samples of the preview; (0, 0) where
            the time is not enough for two evaluations and a sample.
        """
        samples, steps = self.preview_size(model)
        whole = self.evaluations
        if math.isinf(seconds):
            return whole, samples
        each = self.seconds_per_evaluation(model)
        if per_sigma:
            needed = self.last_seconds(model, baselines, each)
        else:
            if seconds < each * (2 * self.passes + steps):
                return 0, 0
            needed = each * (whole * self.passes + samples * steps)
        if seconds >= needed:
            more = samples + int((seconds - needed) / (each * steps))
            return whole, max(samples, min(WATCHED, more))
        fraction = seconds / needed
        return max(min(2, len(self)), int(fraction * whole)), max(1, int(fraction * samples))
