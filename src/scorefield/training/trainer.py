"""One run: its model, data, averages and optimiser, what is saved of them, and the step.

Batch, noise levels and noise of the step that starts after n images are functions of (seed, n).
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .. import checkpoint, networks, rng
from ..config import Config, ObjectiveConfig
from ..data import Collection, Moments, Pipeline, measure, split
from ..errors import InputError, NonFiniteError
from ..execution import Execution, choose, count_layers, plain
from ..model import FORMS, Preconditioned
from ..noise import Levels, LogNormal, LogUniform, SigmaLaw, geometric, stratified
from ..objectives import Objective, make_objective
from ..runs import Run
from .budget import Budget, learning_rate
from .ema import EMA
from .guard import explain, is_finite
from .meter import SIGMA_BINS
from .optimisers import make_optimiser
from .posthoc import save_snapshot


def sigma_law(config: Config) -> tuple[SigmaLaw, Tensor | None]:
    """The training law of sigma and the ladder it lives on, if any."""
    n = config.noise
    if n.levels:
        ladder = geometric(n.sigma_max, n.sigma_min, n.levels)
        if n.law == "levels":
            return Levels(tuple(ladder.tolist())), ladder
    else:
        ladder = None
    if n.law == "loguniform":
        return LogUniform(n.sigma_min, n.sigma_max), ladder
    shift = torch.tensor(n.sigma_data / 0.5).log().item()
    return LogNormal(n.mean + shift, n.std, n.sigma_min, n.sigma_max), ladder


def build_model(
    config: Config, event_shape: tuple[int, ...], moments: Moments
) -> tuple[Preconditioned, dict[str, Any]]:
    """The untrained model, initial weights a function of the seed, and its network's entry in the
    card.
    """
    name = config.network.name
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.generator(config.seed, rng.Stream.INIT).initial_seed())
        network = networks.build(name, event_shape, **config.network.options)
    _, ladder = sigma_law(config)
    n, o = config.noise, config.objective
    form = o.energy if o.name == "energy" else "score"
    if form not in FORMS:
        raise InputError(
            "objective.energy must be one of "
            f"{', '.join(name for name in FORMS if name != 'score')}; got {form!r}"
        )
    model = FORMS[form](
        network,
        event_shape,
        n.sigma_min,
        n.sigma_max,
        n.preconditioner,
        n.sigma_data,
        ladder,
        False,
        moments.units,
        moments.mean,
        moments.variance,
    )
    return model, {"name": name, "options": networks.options(network)}


def build_objective(config: Config) -> Objective:
    """The objective; settings at their defaults are left out where an objective has none of the
    kind.
    """
    o, default = config.objective, ObjectiveConfig()
    own = {name: getattr(o, name) for name in ("control_variate", "slices", "probe")}
    changed = {name: value for name, value in own.items() if value != getattr(default, name)}
    objective = make_objective(
        o.name, None if o.weight == "auto" else o.weight, config.noise.sigma_data, **changed
    )
    if objective.second_order:
        plain(
            config.execution.precision, config.execution.compile
        )  # refuse before anything is written
    return objective


class Trainer:
    """One run: everything that is saved and restored, and the step."""

    def __init__(
        self, config: Config, collection: Collection, run: Run, notice: Callable[[str], None]
    ) -> None:
        self.config, self.run, self.notice = config, run, notice
        self.collection = collection
        self.train_index, self.held_index = split(
            collection.labels, len(collection), config.seed, config.data.held_out
        )
        self.moments = measure(
            collection, self.train_index, config.noise.sigma_data, config.data.units
        )
        self.pipeline = Pipeline(
            collection,
            self.train_index,
            self.moments.units,
            config.seed,
            config.data.dequantise,
            config.data.flip,
        )
        self.law, self.ladder = sigma_law(config)
        self.model, self.network_entry = build_model(config, collection.event_shape, self.moments)
        self.network = self.model.network
        self.objective = build_objective(config)
        self.objective.check(self.model)
        self.emas = [
            EMA(self.network, config.ema.kind, width, config.ema.warmup)
            for width in config.ema.profiles
        ]
        self.optimiser = make_optimiser(config.optim, self.network)
        self.images = 0
        self.skipped = 0  # steps that were not finite and not applied
        self.budget = Budget(config.images, config.seconds, config.optim.decay != "constant")
        self.ended = ""

    # -- state

    def state(self, elapsed: float) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "images": self.images,
            "skipped": self.skipped,
            "elapsed": elapsed,
            "budget_images": self.budget.images,
            "ended": self.ended,
            "execution": self.execution.to_dict(),
            "network": self.network.state_dict(),
            "emas": [ema.state_dict() for ema in self.emas],
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Undo `state`."""
        self.images, self.ended, self.skipped = state["images"], state["ended"], state["skipped"]
        self.budget.images = state["budget_images"]
        self.network.load_state_dict(state["network"])
        for ema, stored in zip(self.emas, state["emas"], strict=True):
            ema.load_state_dict(stored)
        self.optimiser.load_state_dict(state["optimiser"])

    def place(self, stored: dict[str, Any] | None) -> None:
        """Choose how the arithmetic runs (a resumed run keeps its choice) and bring network,
        averages and optimiser there.
        """
        e = self.config.execution
        planned = self.config.seconds if not self.config.images else self.config.images / 300
        spatial = len(self.collection.event_shape) - 1
        self.execution = (
            Execution(**stored)
            if stored
            else choose(
                e.device,
                e.precision,
                e.compile,
                e.threads,
                planned,
                spatial,
                self.objective.second_order,
                count_layers(self.network),
            )
        )
        self.shadow = (
            copy.deepcopy(self.model).eval().requires_grad_(False)
        )  # where averaged weights are tried; never compiled, never trained
        for model in (self.model, self.shadow):
            model.autocast = self.execution.autocast
        self.execution.place(self.network)
        self.shadow.network.load_state_dict(self.network.state_dict())
        self.execution.lay_out(self.shadow.network)

    # -- the step

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Batch (B, *event) in model units, sigma (B,) and keys of the step at hand: functions of
        (seed, images).
        """
        batch = self.config.optim.batch
        keys = rng.keys(self.config.seed, batch, first=self.images)
        sigma = self.law.quantile(stratified(rng.uniform(keys, rng.Stream.SIGMA, 0, ())))
        return self.pipeline.batch(self.images, batch), sigma, keys

    def step(self) -> tuple[Tensor, Tensor, Tensor]:
        """One optimiser step -> sigma (B,), losses (B,), gradient norm (). A step that is not
        finite is not applied: NonFiniteError, or under
        `guard.action=skip` a counted notice."""
        o = self.config.optim
        x0, sigma, keys = self.draw()
        self.optimiser.zero_grad(set_to_none=True)
        losses = torch.cat(
            [
                self._backward(*part)
                for part in zip(*(t.chunk(o.accumulate) for t in (x0, sigma, keys)), strict=True)
            ]
        )
        norm = nn.utils.clip_grad_norm_(
            self.network.parameters(), o.clip if o.clip > 0 else float("inf"), foreach=True
        )
        if not is_finite(losses, norm):
            self._refuse(x0, sigma, keys, losses, norm)
        else:
            warmup = (
                min(o.warmup, self.budget.images // 5) if self.budget.images else o.warmup
            )  # a short run is not all warm-up
            rate = learning_rate(
                o.lr, self.images, warmup, o.decay, self.budget.progress(self.images)
            )
            for group in self.optimiser.param_groups:
                group["lr"] = rate * group.get("lr_scale", 1.0)
            self.optimiser.step()
            for ema in self.emas:
                ema.update(self.network, self.images + o.batch, o.batch)
        before = self.snapshots_due()
        self.images += o.batch
        if self.snapshots_due() > before:
            save_snapshot(self.run.folder, self.images, self.emas)
        return sigma, losses, norm

    def _backward(self, x0: Tensor, sigma: Tensor, keys: Tensor) -> Tensor:
        """Gradients of a part of the batch, added to those that are there; its losses."""
        losses = self.objective.losses(self.model, x0, sigma, keys)
        (losses.sum() / self.config.optim.batch).backward()
        return losses.detach()

    def _refuse(
        self, x0: Tensor, sigma: Tensor, keys: Tensor, losses: Tensor, norm: Tensor
    ) -> None:
        """Keep what is needed to look into a step that is not finite, then raise or count."""
        g = self.config.guard
        words = explain(self.model, self.objective, x0, sigma, keys, losses, norm)
        words += f", in the step after {self.images:,} images, seed {self.config.seed}. The step was not applied"
        kept = {
            "images": self.images,
            "x0": x0,
            "sigma": sigma,
            "keys": keys,
            "losses": losses,
            "network": self.network.state_dict(),
        }
        path = checkpoint.save_state(self.run.folder / "nonfinite", self.images, kept)
        self.skipped += 1
        if g.action == "stop" or self.skipped > g.limit:
            limit = "" if g.action == "stop" else f"; guard.limit is {g.limit} skipped steps"
            raise NonFiniteError(
                f"{words}{limit}. Batch and weights are kept in {path}; lower optim.lr or "
                "optim.clip"
            )
        self.notice(f"{words}; skipped ({self.skipped} of at most {g.limit})")

    def snapshots_due(self) -> int:
        """How many snapshots of the averages belong before `images`: evenly spaced over the budget,
        a function of images alone.
        """
        count = self.config.ema.snapshots if self.config.ema.kind == "power" else 0
        return int(count * self.budget.progress(self.images)) if self.budget.images else 0

    # -- looking at the model

    def averaged(self) -> Preconditioned:
        """The model with the first average's weights."""
        self.shadow.network.load_state_dict(self.emas[0].weights)
        return self.shadow

    @torch.no_grad()
    def held_out_loss(self, events: int, per_sigma: bool = False) -> dict[str, list[float]]:
        """Held-out loss of the averaged weights on the first `events` held-out ones, weight as
        trained, on fixed noise: at SIGMA_BINS quantiles
        of the training law with standard errors over events (per_sigma), or over the law as one
        number.
        """
        model = self.averaged()
        count = min(events, len(self.held_index))
        x0 = self.pipeline.held_out(self.held_index[:count])
        keys = rng.keys(self.config.seed, count, first=1 << 40)
        if not per_sigma:
            sigma = self.law.quantile((torch.arange(count, dtype=x0.dtype) + 0.5) / count)
            losses = self._evaluate(model, x0, sigma, keys)
            return {"loss": [losses.mean().item()], "se": [losses.std().item() / count**0.5]}
        levels = self.law.quantile((torch.arange(SIGMA_BINS, dtype=x0.dtype) + 0.5) / SIGMA_BINS)
        table: dict[str, list[float]] = {"sigma": [], "loss": [], "se": []}
        for level in levels.unique().flip(0):
            losses = self._evaluate(model, x0, level.expand(count), keys)
            for key, value in (
                ("sigma", level.item()),
                ("loss", losses.mean().item()),
                ("se", losses.std().item() / count**0.5),
            ):
                table[key].append(value)
        return table

    def _evaluate(self, model: Preconditioned, x0: Tensor, sigma: Tensor, keys: Tensor) -> Tensor:
        parts = zip(x0.split(256), sigma.split(256), keys.split(256), strict=True)
        return torch.cat([self.objective.losses(model, *part) for part in parts])

    def save(self, elapsed: float) -> None:
        """State, then the model file."""
        checkpoint.save_state(self.run.state, self.images, self.state(elapsed))
        history = {
            "images": self.images,
            "seconds": round(elapsed, 3),
            "initial_share": self.emas[0].initial_share,
            "ended": self.ended,
        }
        facts = {
            "config": self.config.to_dict(),
            "data": self.collection.description,
            "constant": self.moments.constant,
            "levels": self.collection.levels,
            "history": history,
            "execution": self.execution.to_dict(),
        }
        checkpoint.save_model(
            self.run.model,
            self.model,
            self.emas[0].weights,
            checkpoint.make_card(self.model, self.network_entry, **facts),
        )
